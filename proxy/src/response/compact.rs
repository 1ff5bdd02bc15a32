//! `POST /v1/responses/compact`: a conversation made short, so that it can go on at a fraction of its price.
//!
//! The model is asked, through the stages like for any other answer, to write down what must not be lost. What the user and the
//! developer said stays as it is; everything else becomes one item, whose text is sealed for its tenant: another tenant can
//! neither read it nor go on from it, and nothing is kept here. Any upstream's model can do that.

use bytes::Bytes;
use openclawmu_store::TenantId;
use serde_json::Value;

use super::ask::{Asking, call as asked_call};
use super::seal::Seals;
use super::shelf::Shelf;
use crate::dialect::form::{Part, Role, Turn};
use crate::dialect::responses::state;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::relay::{Ending, Relayed};
use crate::routes::AiRoute;

/// What the model is told to do.
const TASK: &str = "You shorten a conversation so that it can go on from your text instead of from the conversation. The \
user's own messages will stand beside your text, so don't repeat them. Write down, in the language of the conversation: what \
the user wants, with every condition they set; what was decided, and why; what was done, with each name, path, number, \
identifier and piece of code that is still needed, letter for letter; what tools answered that still matters; what is open, \
and what was to be done next. Leave out what has been settled and is of no more use. Don't answer the conversation, and add \
nothing that isn't in it. Write nothing but that text.";

/// Understands a request to compact.
///
/// # Errors
/// 400 that names the field at fault.
pub(crate) async fn call(shelf: &Shelf, asking: Asking<'_>, body: &Bytes) -> Result<Call, Refusal> {
    let mut call = asked_call(shelf, asking, body).await?;
    let Some(asked) = &mut call.asked else { return Ok(call) };
    if asked.request.stream {
        return Err(Refusal::bad("stream", "A compaction is not streamed; leave `stream` out."));
    }
    let transcript = transcript(&asked.request.system, &asked.request.turns);
    // The prompt is bounded by what is sent, not by what was asked.
    call.body = Bytes::from(format!("{TASK}{transcript}"));
    call.ask.parts = Default::default();
    call.ask.has_tools = false;
    let request = &mut asked.request;
    request.system = vec![Part::text(TASK.to_owned())];
    request.turns = vec![Turn { role: Role::User, parts: vec![Part::text(transcript)] }];
    (request.tools, request.tool_choice, request.parallel_tools) = (Vec::new(), None, None);
    request.output = Default::default();
    asked.store = false;
    call.route = AiRoute::Compact;
    Ok(call)
}

/// Turns the model's answer into the compaction that the client gets.
pub(crate) fn finish(seals: &Seals, (call, tenant): (&Call, &TenantId), relayed: &mut Relayed) {
    if call.route != AiRoute::Compact {
        return;
    }
    let Ending::Whole { body, .. } = &mut relayed.ending else { return };
    let Some(asked) = &call.asked else { return };
    let made = compaction(seals, tenant, (body, &asked.retained));
    match made {
        Ok(compaction) => *body = compaction.to_string().into(),
        Err(refusal) => relayed.ending = Ending::Refusal(refusal),
    }
}

fn compaction(seals: &Seals, tenant: &TenantId, (body, retained): (&[u8], &[Value])) -> Result<Value, Refusal> {
    let response: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = state::output_text(&response);
    if text.is_empty() {
        let message = "The model wrote nothing that the conversation could go on from.".to_owned();
        return Err(Refusal::Upstream { code: "upstream_broken", message });
    }
    Ok(state::compaction(&response, retained, &seals.seal(tenant, &text)?))
}

/// A conversation as text: who said what, in order.
fn transcript(system: &[Part], turns: &[Turn]) -> String {
    let mut text = String::from("The conversation:\n");
    let mut say = |who: &str, part: &Part| {
        let (what, said) = line(part);
        if !said.is_empty() {
            text.push_str(&format!("\n[{who}{what}]\n{said}\n"));
        }
    };
    for part in system {
        say("system", part);
    }
    for turn in turns {
        let who = match turn.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        };
        for part in &turn.parts {
            say(who, part);
        }
    }
    text
}

/// A part in words: what it is, unless it is text, and what it says.
fn line(part: &Part) -> (String, String) {
    match part {
        Part::Text { text, .. } => (String::new(), text.clone()),
        Part::Refusal { text } => (", declining".to_owned(), text.clone()),
        Part::Thinking { text, .. } => (", thinking".to_owned(), text.clone()),
        Part::ToolCall { id, name, arguments, .. } => (format!(", calling {name} as {id}"), arguments.clone()),
        Part::ToolResult { id, content, .. } => {
            let said: Vec<String> = content.iter().map(|part| line(part).1).collect();
            (format!(", with the result of {id}"), said.join("\n"))
        }
        Part::Image { .. } => (String::new(), "(an image)".to_owned()),
        Part::Document { name, .. } => {
            (String::new(), name.as_ref().map_or("(a file)".to_owned(), |name| format!("(the file {name})")))
        }
        Part::Audio { .. } => (String::new(), "(a recording)".to_owned()),
        Part::RedactedThinking { .. } => (String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_transcript_holds_what_everybody_said() {
        let body = json!({"model": "m", "instructions": "be kind", "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "weather?"}, {"type": "input_image", "image_url": "https://x/y.png"}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{\"city\":\"Rome\"}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"role": "assistant", "content": "It rains."},
        ]});
        let asked = crate::dialect::responses::parse(&body.to_string(), &Default::default()).unwrap();
        let text = transcript(&asked.request.system, &asked.request.turns);
        let expected = "The conversation:\n\n[system]\nbe kind\n\n[user]\nweather?\n\n[user]\n(an image)\n\n\
            [assistant, calling weather as c1]\n{\"city\":\"Rome\"}\n\n[user, with the result of c1]\nrain\n\n\
            [assistant]\nIt rains.\n";
        assert_eq!(text, expected);
        assert_eq!(asked.retained.len(), 1);
    }
}
