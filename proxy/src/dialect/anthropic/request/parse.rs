//! A client's body to form. What the form has no place for is refused by name, but for the hints below.

use serde_json::{Map, Value};

use super::{blocks, thinking};
use crate::dialect::form::{Cache, OutputForm, Part, Request, Role, Sampling, Tool, ToolChoice, Turn};
use crate::dialect::json::Json;
use crate::dialect::object::{self, Object};
use crate::refusal::Refusal;

/// Fields that ask for nothing which the answer depends on: `service_tier` chooses between capacities that only Anthropic
/// sells and defaults to what there is; `diagnostics` asks why Anthropic's own cache missed;
/// `context_management` says how Anthropic may shorten a long prompt, which others are sent whole.
const HINTS: [&str; 3] = ["service_tier", "diagnostics", "context_management"];

/// Hints of a tool: how its input is streamed.
const TOOL_HINTS: [&str; 1] = ["eager_input_streaming"];

/// Fields that have a meaning which no other provider can be told.
const FOREIGN: [(&str, &str); 5] = [
    ("fallbacks", "Models to fall back to are the operator's to name; leave `fallbacks` out."),
    ("container", "Containers run at Anthropic alone; leave `container` out."),
    ("mcp_servers", "MCP servers are called by Anthropic alone; leave `mcp_servers` out."),
    ("inference_geo", "Where to compute can't be told to the provider of this model; leave `inference_geo` out."),
    ("user_profile_id", "User profiles exist at Anthropic alone; leave `user_profile_id` out."),
];

/// The name of a schema that has none in this dialect; other dialects demand one.
pub(super) const SCHEMA_NAME: &str = "answer";

/// A whole body of `POST /v1/messages`.
pub(crate) fn parse(body: &str) -> Result<Request, Refusal> {
    let mut body = Object::parse(body)?;
    let mut request = Request {
        max_output: Some(body.whole("max_tokens", 1, u32::MAX >> 1)?.ok_or_else(|| body.missing("max_tokens"))?),
        stream: body.boolean("stream")?.unwrap_or(false),
        sampling: sampling(&mut body)?,
        ..Request::default()
    };
    if let Some(mut metadata) = body.object("metadata")? {
        request.user = metadata.string("user_id")?;
        metadata.finish()?;
    }
    body.ignore(&HINTS);
    body.forbid(&FOREIGN)?;
    prompt(body, request)
}

/// A whole body of `POST /v1/messages/count_tokens`: the prompt without what only an answer needs.
#[cfg(test)]
pub(crate) fn parse_count(body: &str) -> Result<Request, Refusal> {
    prompt(Object::parse(body)?, Request::default())
}

/// What both have; takes the rest of the body.
fn prompt(mut body: Object<'_>, mut request: Request) -> Result<Request, Refusal> {
    request.model = body.need_string("model")?;
    if body.word("speed", &["standard", "fast"])?.is_some_and(|speed| speed == "fast") {
        return Err(body.refuse("speed", "The speed `fast` is not priced by the rate card; leave `speed` out."));
    }
    if let Some(system) = body.value("system") {
        request.system = blocks::texts(system, &body.name("system"))?;
    }
    let messages = body.value("messages").ok_or_else(|| body.missing("messages"))?;
    request.turns = turns(messages)?;
    if let Some(cache) = cache(&mut body)? {
        mark_last(&mut request.turns, cache);
    }
    for tool in body.objects("tools")?.unwrap_or_default() {
        request.tools.push(self::tool(tool)?);
    }
    if let Some(choice) = body.object("tool_choice")? {
        tool_choice(choice, &mut request)?;
    }
    let mut effort = None;
    if let Some(mut config) = body.object("output_config")? {
        effort = thinking::effort(&mut config)?;
        request.output = output_form(config.object("format")?)?;
        config.finish()?;
    }
    if let Some(format) = body.object("output_format")? {
        if request.output != OutputForm::Text {
            return Err(
                body.refuse("output_format", "Give either `output_config.format` or `output_format`, not both.")
            );
        }
        request.output = output_form(Some(format))?;
    }
    request.reasoning = thinking::parse(body.object("thinking")?, effort)?;
    body.finish()?;
    Ok(request)
}

fn sampling(body: &mut Object<'_>) -> Result<Sampling, Refusal> {
    Ok(Sampling {
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        top_k: body.number("top_k")?,
        stop: match body.list("stop_sequences")? {
            None => Vec::new(),
            Some(list) => list.into_iter().map(|(name, value)| text(name, value)).collect::<Result<_, _>>()?,
        },
        ..Sampling::default()
    })
}

fn text(name: String, value: Json<'_>) -> Result<String, Refusal> {
    match value {
        Json::Text(text) => Ok(text.into_owned()),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_) | Json::Known(_) => {
            Err(object::must_be(name, "a string"))
        }
    }
}

fn turns(messages: Json<'_>) -> Result<Vec<Turn>, Refusal> {
    let list = object::list(messages, "messages")?;
    if list.is_empty() {
        return Err(Refusal::bad("messages", "`messages` must hold at least one message."));
    }
    list.into_iter()
        .map(|(path, value)| {
            let mut message = Object::of(value, path)?;
            let role = message.word("role", &["user", "assistant", "system"])?;
            let role = match role.ok_or_else(|| message.missing("role"))?.as_str() {
                "assistant" => Role::Assistant,
                "system" => Role::System,
                _ => Role::User,
            };
            let content = message.value("content").ok_or_else(|| message.missing("content"))?;
            let path = message.name("content");
            let parts =
                if role == Role::System { blocks::texts(content, &path)? } else { blocks::parts(content, &path)? };
            message.finish()?;
            Ok(Turn { role, parts })
        })
        .collect()
}

/// A `cache_control` member.
pub(super) fn cache(object: &mut Object<'_>) -> Result<Option<Cache>, Refusal> {
    let Some(mut control) = object.object("cache_control")? else { return Ok(None) };
    if control.word("type", &["ephemeral"])?.is_none() {
        return Err(control.missing("type"));
    }
    // How far Anthropic shares what it caches.
    control.ignore(&["scope"]);
    let ttl = control.word("ttl", &["5m", "1h"])?;
    control.finish()?;
    Ok(Some(if ttl.is_some_and(|ttl| ttl == "1h") { Cache::Long } else { Cache::Short }))
}

/// A mark for the whole request belongs to the last part that can carry one.
fn mark_last(turns: &mut [Turn], mark: Cache) {
    for part in turns.iter_mut().rev().flat_map(|turn| turn.parts.iter_mut().rev()) {
        match part {
            Part::Text { cache, .. }
            | Part::Image { cache, .. }
            | Part::Document { cache, .. }
            | Part::ToolResult { cache, .. } => {
                cache.get_or_insert(mark);
                return;
            }
            Part::Audio { .. }
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::ToolCall { .. }
            | Part::Refusal { .. } => {}
        }
    }
}

fn tool(mut tool: Object<'_>) -> Result<Tool, Refusal> {
    if let Some(kind) = tool.string("type")?
        && kind != "custom"
    {
        let message = format!(
            "The tool `{kind}` is Anthropic's own and can't be told to the provider of this model; describe a function instead."
        );
        return Err(tool.refuse("type", message));
    }
    tool.ignore(&TOOL_HINTS);
    let direct = Json::from(vec![Json::from("direct")]);
    if tool.value("allowed_callers").is_some_and(|callers| callers != direct) {
        return Err(tool.refuse("allowed_callers", "Only the model itself may call a tool here: `[\"direct\"]`."));
    }
    if tool.boolean("defer_loading")? == Some(true) {
        return Err(tool.refuse("defer_loading", "Tools are searched by Anthropic alone; leave `defer_loading` out."));
    }
    let parsed = Tool {
        name: tool.need_string("name")?,
        description: tool.string("description")?,
        parameters: tool.map("input_schema")?.map(Value::Object).ok_or_else(|| tool.missing("input_schema"))?,
        strict: tool.boolean("strict")?,
        cache: cache(&mut tool)?,
    };
    tool.finish()?;
    Ok(parsed)
}

fn tool_choice(mut choice: Object<'_>, request: &mut Request) -> Result<(), Refusal> {
    let kind = choice.word("type", &["auto", "any", "tool", "none"])?.ok_or_else(|| choice.missing("type"))?;
    let parsed = match kind.as_str() {
        "any" => ToolChoice::Required,
        "tool" => ToolChoice::Tool(choice.need_string("name")?),
        "none" => ToolChoice::None,
        _ => ToolChoice::Auto,
    };
    if parsed != ToolChoice::None {
        request.parallel_tools = choice.boolean("disable_parallel_tool_use")?.map(|disabled| !disabled);
    }
    request.tool_choice = Some(parsed);
    choice.finish()
}

fn output_form(format: Option<Object<'_>>) -> Result<OutputForm, Refusal> {
    let Some(mut format) = format else { return Ok(OutputForm::Text) };
    if format.word("type", &["json_schema"])?.is_none() {
        return Err(format.missing("type"));
    }
    let schema: Option<Map<String, Value>> = format.map("schema")?;
    let schema = Value::Object(schema.ok_or_else(|| format.missing("schema"))?);
    format.finish()?;
    // The provider holds every answer to the schema.
    Ok(OutputForm::Schema { name: SCHEMA_NAME.to_owned(), description: None, schema, strict: Some(true) })
}
