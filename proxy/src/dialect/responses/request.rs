//! A client's request as the form, and as its response will repeat it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::echo::Echo;
use super::items::{self, Earlier};
use crate::dialect::ask::model_name;
use crate::dialect::form::{Effort, OutputForm, Part, Reasoning, Request, Sampling, Tool, ToolChoice};
use crate::dialect::json::Json;
use crate::dialect::object::{Object, must_be};
use crate::dialect::openai::chat;
use crate::dialect::openai::service::{self, AskedTier};
use crate::refusal::Refusal;

/// Fields that hint at caching and transport on the provider's side, and those whose subject a translated request has not:
/// `max_tool_calls` counts calls of hosted tools alone.
const HINTS: [&str; 5] =
    ["prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "stream_options", "max_tool_calls"];

/// What can't be said in another dialect, or isn't kept here.
const FORBIDDEN: [(&str, &str); 4] = [
    ("conversation", "Conversations are not kept here; continue with `previous_response_id`."),
    ("prompt", "Prompt templates are kept at one provider; send `instructions` and `input`."),
    ("context_management", "This model's provider does not compact by itself; use `/v1/responses/compact`."),
    ("moderation", "This model's provider does not moderate as it answers; leave `moderation` out."),
];

/// The most candidates per token.
const MAX_LOGPROBS: u32 = 20;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// What goes to the provider.
    pub(crate) request: Request,
    /// What the response repeats.
    pub(crate) echo: Arc<Echo>,
    /// Whether the response is to be kept; yes unless the client says no.
    pub(crate) store: bool,
    /// The input of this request alone, as items: what is kept for a continuation.
    pub(crate) input: Vec<Value>,
    /// Whether it is worked on after its request.
    pub(crate) background: bool,
    /// The tier that it is to be served at.
    pub(crate) service_tier: AskedTier,
    /// Whether the beginning may be left out of what is too long for the model.
    pub(crate) truncates: bool,
    /// What a compaction of the conversation leaves as it is.
    pub(crate) retained: Vec<Value>,
}

impl Asked {
    /// The response will not be kept, whatever was asked.
    pub(crate) fn not_kept(&mut self) {
        self.store = false;
        Arc::make_mut(&mut self.echo).not_kept();
    }
}

/// The response that a request continues, looked up before it is parsed.
pub(crate) fn previous(body: &str) -> Result<Option<String>, Refusal> {
    #[derive(Deserialize)]
    struct Previous {
        #[serde(default)]
        previous_response_id: Option<String>,
    }
    let found: Result<Previous, _> = serde_json::from_str(body);
    found
        .map(|found| found.previous_response_id)
        .map_err(|_| must_be("previous_response_id".to_owned(), "a string in a JSON object"))
}

/// Reads a request; `earlier` is what the responses hold that it continues or refers to.
///
/// # Errors
/// What can't be read, contradicts itself or has no place in the form, by the field's name.
pub(crate) fn parse(body: &str, earlier: &Earlier) -> Result<Asked, Refusal> {
    let members: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let mut raw = Object::parse(body)?;
    raw.forbid(&FORBIDDEN)?;
    let input = items::list(&mut raw)?;
    let (mut system, turns) = items::parse(&input, earlier)?;
    if let Some(instructions) = raw.string("instructions")? {
        system.insert(0, Part::text(instructions));
    }
    let (tools, tool_choice) = tools(&mut raw)?;
    let (output, verbosity) = text(&mut raw)?;
    let user = raw.string("user")?;
    let request = Request {
        model: model_name(raw.need_string("model")?)?,
        system,
        turns,
        tools,
        tool_choice,
        parallel_tools: raw.boolean("parallel_tool_calls")?,
        max_output: raw.whole("max_output_tokens", 1, u32::MAX >> 1)?,
        sampling: sampling(&mut raw)?,
        choices: 1,
        output,
        reasoning: reasoning(&mut raw)?,
        verbosity,
        user: raw.string("safety_identifier")?.or(user),
        metadata: raw.map("metadata")?.unwrap_or_default(),
        stream: raw.boolean("stream")?.unwrap_or(false),
    };
    let service_tier = service::named(raw.string("service_tier")?.as_deref())?;
    let truncates = raw.word("truncation", &["auto", "disabled"])?.is_some_and(|word| word == "auto");
    let background = raw.boolean("background")?.unwrap_or(false);
    let store = raw.boolean("store")?.unwrap_or(true);
    raw.string("previous_response_id")?;
    raw.ignore(&HINTS);
    raw.finish()?;
    let retained = earlier.retained(&input);
    Ok(Asked {
        request,
        service_tier,
        truncates,
        background,
        retained,
        echo: Arc::new(Echo::of(&members)),
        store,
        input: input.into_iter().map(|(_, item)| item).collect(),
    })
}

fn sampling(raw: &mut Object<'_>) -> Result<Sampling, Refusal> {
    let include = raw.strings("include")?;
    let top = raw.whole("top_logprobs", 0, MAX_LOGPROBS)?;
    let wanted = include.iter().any(|field| field == "message.output_text.logprobs") || top.is_some_and(|top| top > 0);
    Ok(Sampling {
        temperature: raw.number("temperature")?,
        top_p: raw.number("top_p")?,
        presence_penalty: raw.number("presence_penalty")?,
        frequency_penalty: raw.number("frequency_penalty")?,
        logprobs: wanted.then_some(top.unwrap_or(0)),
        ..Sampling::default()
    })
}

fn text(raw: &mut Object<'_>) -> Result<(OutputForm, Option<String>), Refusal> {
    let Some(mut text) = raw.object("text")? else { return Ok((OutputForm::Text, None)) };
    let verbosity = text.word("verbosity", &["low", "medium", "high"])?;
    let output = text.object("format")?.map_or(Ok(OutputForm::Text), format)?;
    text.finish()?;
    Ok((output, verbosity))
}

fn format(mut format: Object<'_>) -> Result<OutputForm, Refusal> {
    let output = match format.need_string("type")?.as_str() {
        "text" => OutputForm::Text,
        "json_object" => OutputForm::Json,
        "json_schema" => OutputForm::Schema {
            name: format.need_string("name")?,
            description: format.string("description")?,
            schema: Value::Object(format.map("schema")?.ok_or_else(|| format.missing("schema"))?),
            strict: format.boolean("strict")?,
        },
        _ => return Err(must_be(format.name("type"), "one of text, json_object, json_schema")),
    };
    format.finish()?;
    Ok(output)
}

fn reasoning(raw: &mut Object<'_>) -> Result<Option<Reasoning>, Refusal> {
    let Some(mut reasoning) = raw.object("reasoning")? else { return Ok(None) };
    let words = "one of none, minimal, low, medium, high, xhigh, max";
    let effort: Option<Effort> = match reasoning.string("effort")? {
        None => None,
        Some(word) => Some(chat::effort(&word).ok_or_else(|| must_be(reasoning.name("effort"), words))?),
    };
    let summaries = ["auto", "concise", "detailed"];
    let old = reasoning.word("generate_summary", &summaries)?;
    let shown = reasoning.word("summary", &summaries)?.or(old).map(|_| true);
    reasoning.ignore(&["context", "mode"]);
    reasoning.finish()?;
    let found = Reasoning { effort, budget_tokens: None, shown };
    Ok((found != Reasoning::default()).then_some(found))
}

fn tools(raw: &mut Object<'_>) -> Result<(Vec<Tool>, Option<ToolChoice>), Refusal> {
    let mut tools = Vec::new();
    for tool in raw.objects("tools")?.unwrap_or_default() {
        tools.push(tool_of(tool)?);
    }
    let words = "none, auto, required, or an object that names a function or allowed tools";
    let choice = match raw.value("tool_choice") {
        None => None,
        Some(Json::Text(word)) => Some(mode(&word).ok_or_else(|| must_be("tool_choice".to_owned(), words))?),
        Some(value) => Some(chosen(Object::of(value, "tool_choice".to_owned())?, &mut tools)?),
    };
    if tools.is_empty() && matches!(choice, Some(ToolChoice::Required | ToolChoice::Tool(_))) {
        return Err(raw.refuse("tool_choice", "`tool_choice` asks for a tool, but `tools` holds none."));
    }
    Ok((tools, choice))
}

fn mode(word: &str) -> Option<ToolChoice> {
    Some(match word {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        _ => return None,
    })
}

/// A choice that names functions. Where several are allowed, the others are not offered at all: every dialect can say that.
fn chosen(mut choice: Object<'_>, tools: &mut Vec<Tool>) -> Result<ToolChoice, Refusal> {
    let kind = choice.need_string("type")?;
    let found = match kind.as_str() {
        "function" => ToolChoice::Tool(choice.need_string("name")?),
        "allowed_tools" => {
            let word = choice.word("mode", &["auto", "required"])?.ok_or_else(|| choice.missing("mode"))?;
            let mut names = Vec::new();
            for mut tool in choice.objects("tools")?.unwrap_or_default() {
                names.push(tool.need_string("name")?);
            }
            tools.retain(|tool| names.contains(&tool.name));
            mode(&word).unwrap_or(ToolChoice::Auto)
        }
        _ => return Err(choice.refuse("type", format!("This model's provider knows no tool choice `{kind}`."))),
    };
    choice.finish()?;
    Ok(found)
}

fn tool_of(mut tool: Object<'_>) -> Result<Tool, Refusal> {
    let kind = tool.need_string("type")?;
    if kind != "function" {
        let message = format!("Hosted tools such as `{kind}` are not metered and can't be offered; use functions.");
        return Err(tool.refuse("type", message));
    }
    let parameters = tool.map("parameters")?;
    let found = Tool {
        name: tool.need_string("name")?,
        description: tool.string("description")?,
        parameters: parameters.map_or_else(|| json!({"type": "object", "properties": {}}), Value::Object),
        strict: tool.boolean("strict")?,
        cache: None,
    };
    tool.forbid(&[("defer_loading", "This model's provider loads every tool at once; leave `defer_loading` out.")])?;
    tool.ignore(&["output_schema", "allowed_callers"]);
    tool.finish()?;
    Ok(found)
}
