//! A client's chat request as the form.

use serde_json::{Value, json};

use super::messages;
use crate::dialect::form::{Cache, Effort, OutputForm, Reasoning, Request, Sampling, Tool, ToolChoice};
use crate::dialect::json::Json;
use crate::dialect::object::{Object, must_be};
use crate::refusal::Refusal;

/// Fields that hint at storage, routing and caching on the provider's side: without them the answer is the same.
const HINTS: [&str; 6] =
    ["store", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "stream_options", "extra_headers"];

/// What can't be said in another dialect.
const FORBIDDEN: [(&str, &str); 7] = [
    ("functions", "`functions` is the old form of `tools`, which this model's provider needs; use `tools`."),
    (
        "function_call",
        "`function_call` is the old form of `tool_choice`, which this model's provider needs; use `tool_choice`.",
    ),
    ("logit_bias", "`logit_bias` names tokens of one provider's vocabulary; this model's provider does not take it."),
    ("prediction", "This model's provider takes no predicted output; leave `prediction` out."),
    ("web_search_options", "Web search is not priced by the rate card; leave `web_search_options` out."),
    ("audio", "This model's provider does not answer with audio through this route; leave `audio` out."),
    ("moderation", "This model's provider does not moderate as it answers; leave `moderation` out."),
];

/// The most choices that one request may ask for.
const MAX_CHOICES: u32 = 128;
/// The most candidates per token.
const MAX_LOGPROBS: u32 = 20;

/// Reads a request.
///
/// # Errors
/// What can't be read, contradicts itself or has no place in the form, by the field's name.
pub(crate) fn parse(body: &str) -> Result<Request, Refusal> {
    let mut raw = Object::parse(body)?;
    raw.forbid(&FORBIDDEN)?;
    text_only(&mut raw)?;
    if raw.word("service_tier", &["auto", "default"]).is_err() {
        return Err(Refusal::bad("service_tier", "This model's provider knows no service tiers of this name."));
    }
    let (tools, tool_choice) = tools(&mut raw)?;
    let messages = raw.objects("messages")?.ok_or_else(|| raw.missing("messages"))?;
    let (system, turns) = messages::parse(messages)?;
    let user = raw.string("user")?;
    let request = Request {
        model: raw.need_string("model")?,
        system,
        turns,
        tools,
        tool_choice,
        parallel_tools: raw.boolean("parallel_tool_calls")?,
        max_output: max_output(&mut raw)?,
        choices: raw.whole("n", 1, MAX_CHOICES)?.unwrap_or(1),
        sampling: sampling(&mut raw)?,
        output: output(&mut raw)?,
        reasoning: reasoning(&mut raw)?,
        verbosity: raw.word("verbosity", &["low", "medium", "high"])?,
        user: raw.string("safety_identifier")?.or(user),
        metadata: raw.map("metadata")?.unwrap_or_default(),
        stream: raw.boolean("stream")?.unwrap_or(false),
    };
    raw.ignore(&HINTS);
    raw.finish()?;
    Ok(request)
}

fn text_only(raw: &mut Object<'_>) -> Result<(), Refusal> {
    match raw.strings("modalities")?.iter().find(|modality| *modality != "text") {
        None => Ok(()),
        Some(_) => Err(raw.refuse("modalities", "This model's provider answers this route with text alone.")),
    }
}

fn max_output(raw: &mut Object<'_>) -> Result<Option<u32>, Refusal> {
    let old = raw.whole("max_tokens", 1, u32::MAX >> 1)?;
    let new = raw.whole("max_completion_tokens", 1, u32::MAX >> 1)?;
    match (old, new) {
        (Some(_), Some(_)) => {
            Err(raw.refuse("max_tokens", "Give either `max_tokens` or `max_completion_tokens`, not both."))
        }
        (old, new) => Ok(old.or(new)),
    }
}

fn sampling(raw: &mut Object<'_>) -> Result<Sampling, Refusal> {
    let wanted = raw.boolean("logprobs")?;
    let top = raw.whole("top_logprobs", 0, MAX_LOGPROBS)?;
    if top.is_some() && wanted != Some(true) {
        return Err(raw.refuse("top_logprobs", "`top_logprobs` needs `logprobs` to be true."));
    }
    Ok(Sampling {
        temperature: raw.number("temperature")?,
        top_p: raw.number("top_p")?,
        top_k: raw.number("top_k")?,
        seed: raw.number("seed")?,
        frequency_penalty: raw.number("frequency_penalty")?,
        presence_penalty: raw.number("presence_penalty")?,
        stop: raw.strings("stop")?,
        logprobs: wanted.filter(|wanted| *wanted).map(|_| top.unwrap_or(0)),
    })
}

fn output(raw: &mut Object<'_>) -> Result<OutputForm, Refusal> {
    let Some(mut format) = raw.object("response_format")? else { return Ok(OutputForm::Text) };
    let output = match format.need_string("type")?.as_str() {
        "text" => OutputForm::Text,
        "json_object" => OutputForm::Json,
        "json_schema" => {
            let mut schema = format.need_object("json_schema")?;
            let output = OutputForm::Schema {
                name: schema.need_string("name")?,
                description: schema.string("description")?,
                schema: Value::Object(schema.map("schema")?.unwrap_or_default()),
                strict: schema.boolean("strict")?,
            };
            schema.finish()?;
            output
        }
        _ => return Err(format.refuse("type", "`response_format.type` must be text, json_object or json_schema.")),
    };
    format.finish()?;
    Ok(output)
}

/// An effort by its name.
pub(crate) fn effort(name: &str) -> Option<Effort> {
    Some(match name {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" => Effort::Higher,
        "max" => Effort::Max,
        _ => return None,
    })
}

/// An effort's name.
pub(crate) fn effort_name(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Higher => "xhigh",
        Effort::Max => "max",
    }
}

/// `reasoning_effort`, or one of the two ways in which other gateways let a client state a budget.
fn reasoning(raw: &mut Object<'_>) -> Result<Option<Reasoning>, Refusal> {
    let named = |name: Option<String>, path: String| match name {
        None => Ok(None),
        Some(name) => {
            effort(&name).map(Some).ok_or_else(|| must_be(path, "one of none, minimal, low, medium, high, xhigh, max"))
        }
    };
    let path = raw.name("reasoning_effort");
    let effort = named(raw.string("reasoning_effort")?, path)?;
    let mut found = effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() });
    if let Some(mut thinking) = raw.object("thinking")? {
        let kind = thinking.need_string("type")?;
        let budget_tokens = thinking.whole("budget_tokens", 0, u32::MAX)?;
        let asked = match kind.as_str() {
            "disabled" => Reasoning { effort: Some(Effort::None), ..Reasoning::default() },
            "enabled" | "adaptive" => Reasoning { effort, budget_tokens, shown: Some(true) },
            _ => return Err(thinking.refuse("type", "`thinking.type` must be enabled, adaptive or disabled.")),
        };
        thinking.finish()?;
        found = Some(asked);
    }
    if let Some(mut reasoning) = raw.object("reasoning")? {
        if found.is_some() {
            return Err(raw.refuse("reasoning", "Give one of `reasoning_effort`, `thinking` and `reasoning`."));
        }
        let path = reasoning.name("effort");
        let asked = Reasoning {
            effort: named(reasoning.string("effort")?, path)?,
            budget_tokens: reasoning.whole("max_tokens", 0, u32::MAX)?,
            shown: reasoning.boolean("exclude")?.map(|hidden| !hidden),
        };
        reasoning.ignore(&["enabled"]);
        reasoning.finish()?;
        found = Some(asked);
    }
    Ok(found)
}

fn tools(raw: &mut Object<'_>) -> Result<(Vec<Tool>, Option<ToolChoice>), Refusal> {
    let mut tools = Vec::new();
    for tool in raw.objects("tools")?.unwrap_or_default() {
        tools.push(tool_of(tool)?);
    }
    let choice = match raw.value("tool_choice") {
        None => None,
        Some(Json::Text(word)) => Some(mode(&word).ok_or_else(|| bad_choice(raw))?),
        Some(value) => Some(chosen(Object::of(value, "tool_choice".to_owned())?, &mut tools)?),
    };
    if tools.is_empty() && matches!(choice, Some(ToolChoice::Required | ToolChoice::Tool(_))) {
        return Err(raw.refuse("tool_choice", "`tool_choice` asks for a tool, but `tools` holds none."));
    }
    Ok((tools, choice))
}

fn bad_choice(raw: &Object<'_>) -> Refusal {
    must_be(raw.name("tool_choice"), "none, auto, required, or an object that names a function or allowed tools")
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
        "function" => ToolChoice::Tool(choice.need_object("function")?.need_string("name")?),
        "allowed_tools" => {
            let mut allowed = choice.need_object("allowed_tools")?;
            let word = allowed.word("mode", &["auto", "required"])?.ok_or_else(|| allowed.missing("mode"))?;
            let mut names = Vec::new();
            for mut tool in allowed.objects("tools")?.unwrap_or_default() {
                names.push(tool.need_object("function")?.need_string("name")?);
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
        let message = format!("Tools of type `{kind}` can't be offered to this model's provider; use functions.");
        return Err(tool.refuse("type", message));
    }
    let cache = cache(&mut tool)?;
    let mut function = tool.need_object("function")?;
    let parameters = function.map("parameters")?;
    let found = Tool {
        name: function.need_string("name")?,
        description: function.string("description")?,
        parameters: parameters.map_or_else(|| json!({"type": "object", "properties": {}}), Value::Object),
        strict: function.boolean("strict")?,
        cache,
    };
    function.finish()?;
    tool.finish()?;
    Ok(found)
}

/// Where a prompt is to be cached: in `OpenAI`'s words or in those of the dialects that gateways carry along.
pub(crate) fn cache(part: &mut Object<'_>) -> Result<Option<Cache>, Refusal> {
    let breakpoint = part.object("prompt_cache_breakpoint")?.map(|_| Cache::Short);
    let Some(mut control) = part.object("cache_control")? else { return Ok(breakpoint) };
    control.word("type", &["ephemeral"])?;
    let long = control.word("ttl", &["5m", "1h"])?.is_some_and(|ttl| ttl == "1h");
    Ok(Some(if long { Cache::Long } else { Cache::Short }))
}
