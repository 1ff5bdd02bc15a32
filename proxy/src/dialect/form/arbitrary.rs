//! Arbitrary answers and their events, for the properties that every dialect must keep.

use openclawmu_store::Usage;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Choice, Delta, Event, Opening, Part, Reply, Stop};

/// Text that is not empty, with what breaks escaping.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9 .,\"\\\\/\n\r\té\u{2028}😀{}:\\[\\]]{1,30}",
        1 => Just("data: [DONE]\n\n".to_owned()),
        1 => Just("\"}],\"usage\":{\"prompt_tokens\":1}".to_owned()),
    ]
}

/// An id or a name.
pub(crate) fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_-]{0,20}"
}

/// The text of a JSON object.
pub(crate) fn arguments() -> impl Strategy<Value = String> {
    vec((name(), text()), 0..3).prop_map(|pairs| {
        let members = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
        serde_json::Value::Object(members).to_string()
    })
}

/// A usage of tokens whose sums don't overflow.
pub(crate) fn usage() -> impl Strategy<Value = Usage> {
    (0..1_000_000_u32, 0..1_000_000_u32, 0..1_000_000_u32, 0..1_000_000_u32, 0..1_000_000_u32).prop_map(
        |(input, cache_read, cache_write, output, reasoning)| Usage {
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            ..Usage::default()
        },
    )
}

/// A tool call without a signature.
pub(crate) fn tool_call() -> impl Strategy<Value = Part> {
    (name(), name(), arguments()).prop_map(|(id, name, arguments)| Part::ToolCall {
        id,
        name,
        arguments,
        signature: None,
    })
}

/// An answer of one choice with the parts that `parts` makes and an ending that fits them.
pub(crate) fn reply(parts: impl Strategy<Value = Vec<Part>>) -> impl Strategy<Value = Reply> {
    (name(), name(), parts, option::of(usage()), any::<bool>()).prop_map(|(id, model, parts, usage, cut)| {
        let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        let declined = parts.iter().any(|part| matches!(part, Part::Refusal { .. }));
        let stop = match (cut, declined, calls) {
            (true, ..) => Stop::MaxTokens,
            (false, true, _) => Stop::Refusal,
            (false, false, true) => Stop::ToolUse,
            (false, false, false) => Stop::End,
        };
        Reply { id, model, choices: vec![Choice { parts, stop: Some(stop), logprobs: None }], usage }
    })
}

/// The events that say an answer, its texts in pieces of `piece` characters.
pub(crate) fn events(reply: &Reply, piece: usize) -> Vec<Event> {
    let mut events = vec![Event::Start { id: reply.id.clone(), model: reply.model.clone() }];
    for (choice, said) in (0..).zip(&reply.choices) {
        for (part, what) in (0..).zip(&said.parts) {
            let (opening, deltas) = steps(what, piece);
            events.push(Event::Open { choice, part, opening });
            events.extend(deltas.into_iter().map(|delta| Event::Grow { choice, part, delta }));
            events.push(Event::Close { choice, part });
        }
        if let Some(logprobs) = &said.logprobs {
            events.push(Event::Logprobs { choice, logprobs: logprobs.clone() });
        }
        if let Some(stop) = &said.stop {
            events.push(Event::Stop { choice, stop: stop.clone() });
        }
    }
    events.extend(reply.usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn steps(part: &Part, piece: usize) -> (Opening, Vec<Delta>) {
    let cut = |text: &str, delta: fn(String) -> Delta| -> Vec<Delta> {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(piece.max(1)).map(|chunk| delta(chunk.iter().collect())).collect()
    };
    match part {
        Part::Text { text, .. } => (Opening::Text, cut(text, Delta::Text)),
        Part::Refusal { text } => (Opening::Refusal, cut(text, Delta::Text)),
        Part::Thinking { text, signature } => {
            let mut deltas = cut(text, Delta::Text);
            deltas.extend(signature.clone().map(Delta::Signature));
            (Opening::Thinking, deltas)
        }
        Part::RedactedThinking { data } => (Opening::RedactedThinking { data: data.clone() }, Vec::new()),
        Part::ToolCall { id, name, arguments, signature } => {
            let mut deltas = cut(arguments, Delta::Arguments);
            deltas.extend(signature.clone().map(Delta::Signature));
            (Opening::ToolCall { id: id.clone(), name: name.clone() }, deltas)
        }
        Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult { .. } => {
            panic!("an answer holds no {part:?}")
        }
    }
}

#[test]
fn events_put_together_again_are_the_answer() {
    let parts = vec![
        Part::Thinking { text: "hm".into(), signature: Some("s".into()) },
        Part::text("hello"),
        Part::ToolCall { id: "a".into(), name: "f".into(), arguments: "{}".into(), signature: None },
    ];
    let reply = Reply {
        choices: vec![Choice { parts, stop: Some(Stop::ToolUse), logprobs: None }],
        usage: Some(Usage { input: 1, ..Usage::default() }),
        ..Reply::default()
    };
    let mut assembler = super::Assembler::default();
    events(&reply, 2).iter().for_each(|event| assembler.add(event));
    assert_eq!(assembler.finish(), Some(Ok(reply)));
}
