//! The form as a provider's request. Nothing is ever stored at the provider: the gateway keeps what is to be continued.

use serde_json::{Map, Value, json};

use crate::dialect::form::{
    Effort, OutputForm, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolChoice, Turn,
};
use crate::dialect::json;
use crate::dialect::openai::chat::{data_url, effort_name};
use crate::refusal::Refusal;

/// Writes a request.
///
/// Where to cache is left out: these providers cache by themselves. Thoughts come back only as the provider made them, with
/// what proves it; thoughts without, and those that another provider hid, are left out.
///
/// # Errors
/// What the dialect can't express, by name.
pub(crate) fn write(request: &Request) -> Result<Vec<u8>, Refusal> {
    refuse(request)?;
    let mut body = Map::new();
    body.insert("model".into(), request.model.as_str().into());
    let mut input = Vec::new();
    match request.system.as_slice() {
        [] => {}
        // Instructions alone are no input.
        [Part::Text { text, .. }] if request.turns.iter().any(|turn| !turn.parts.is_empty()) => {
            body.insert("instructions".into(), text.as_str().into());
        }
        parts => input.push(message("system", parts)?),
    }
    for turn in &request.turns {
        items(turn, &mut input)?;
    }
    body.insert("input".into(), input.into());
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
        add(&mut body, "tool_choice", request.tool_choice.as_ref().map(tool_choice));
        add(&mut body, "parallel_tool_calls", request.parallel_tools);
    }
    add(&mut body, "max_output_tokens", request.max_output);
    sampling(&mut body, &request.sampling);
    add(&mut body, "text", text(request));
    add(&mut body, "reasoning", request.reasoning.as_ref().and_then(reasoning));
    include(&mut body, request);
    add(&mut body, "user", request.user.clone());
    if !request.metadata.is_empty() {
        body.insert("metadata".into(), Value::Object(request.metadata.clone()));
    }
    body.insert("store".into(), false.into());
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    Ok(json::to_bytes(&Value::Object(body)))
}

fn refuse(request: &Request) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    let asked = [
        ("n", request.choices > 1),
        ("stop", !sampling.stop.is_empty()),
        ("seed", sampling.seed.is_some()),
        ("top_k", sampling.top_k.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((name, _)) => Err(Refusal::bad(*name, format!("This model's provider takes no `{name}`; leave it out."))),
    }
}

fn add(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}

fn sampling(body: &mut Map<String, Value>, sampling: &Sampling) {
    let numbers = [
        ("temperature", &sampling.temperature),
        ("top_p", &sampling.top_p),
        ("presence_penalty", &sampling.presence_penalty),
        ("frequency_penalty", &sampling.frequency_penalty),
    ];
    for (name, number) in numbers {
        add(body, name, number.clone().map(Value::Number));
    }
    add(body, "top_logprobs", sampling.logprobs.filter(|top| *top > 0));
}

fn include(body: &mut Map<String, Value>, request: &Request) {
    let mut include = Vec::<Value>::new();
    if request.sampling.logprobs.is_some() {
        include.push("message.output_text.logprobs".into());
    }
    // Models that don't reason refuse it.
    let asked = request.reasoning.as_ref().filter(|asked| asked.effort != Some(Effort::None));
    if asked.and_then(reasoning).is_some() {
        include.push("reasoning.encrypted_content".into());
    }
    if !include.is_empty() {
        body.insert("include".into(), include.into());
    }
}

fn text(request: &Request) -> Option<Value> {
    let format = match &request.output {
        OutputForm::Text => None,
        OutputForm::Json => Some(json!({"type": "json_object"})),
        OutputForm::Schema { name, description, schema, strict } => {
            let mut format = Map::new();
            format.insert("type".into(), "json_schema".into());
            format.insert("name".into(), name.as_str().into());
            add(&mut format, "description", description.clone());
            format.insert("schema".into(), schema.clone());
            add(&mut format, "strict", *strict);
            Some(Value::Object(format))
        }
    };
    let mut text = Map::new();
    add(&mut text, "format", format);
    add(&mut text, "verbosity", request.verbosity.clone());
    (!text.is_empty()).then_some(Value::Object(text))
}

/// What is asked of its reasoning; `None` where that is the provider's own way.
fn reasoning(reasoning: &Reasoning) -> Option<Value> {
    let mut told = Map::new();
    let effort = reasoning.effort.or(reasoning.budget_tokens.map(Effort::of_budget));
    add(&mut told, "effort", effort.map(effort_name));
    add(&mut told, "summary", (reasoning.shown == Some(true)).then_some("auto"));
    (!told.is_empty()).then_some(Value::Object(told))
}

fn tool(tool: &Tool) -> Value {
    json!({
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        // Left out it would mean true.
        "strict": tool.strict.unwrap_or(false),
    })
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => json!({"type": "function", "name": name}),
    }
}

fn message(role: &str, parts: &[Part]) -> Result<Value, Refusal> {
    let content: Vec<Value> = parts.iter().map(|said| part(said, role)).collect::<Result<_, _>>()?;
    Ok(json!({"type": "message", "role": role, "content": content}))
}

/// A turn as items: what is no message stands between the messages, in order.
fn items(turn: &Turn, input: &mut Vec<Value>) -> Result<(), Refusal> {
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    let mut said: Vec<Part> = Vec::new();
    for part in &turn.parts {
        let Some(item) = item(part)? else {
            said.push(part.clone());
            continue;
        };
        if !said.is_empty() {
            input.push(message(role, &std::mem::take(&mut said))?);
        }
        input.extend((!item.is_null()).then_some(item));
    }
    if !said.is_empty() {
        input.push(message(role, &said)?);
    }
    Ok(())
}

/// A part that is an item of its own; null for one that is left out, `None` for what belongs into a message.
fn item(part: &Part) -> Result<Option<Value>, Refusal> {
    Ok(Some(match part {
        Part::ToolCall { id, name, arguments, signature } => {
            let arguments = if arguments.is_empty() { "{}" } else { arguments };
            let mut call = json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments});
            if let (Some(signature), Some(call)) = (signature, call.as_object_mut()) {
                call.insert("extra_content".into(), json!({"google": {"thought_signature": signature}}));
            }
            call
        }
        Part::ToolResult { id, content, is_error, .. } => {
            let mut said: Vec<Part> = content.clone();
            if *is_error {
                // There is no field for it, and a model that is not told takes the text for a result.
                said.insert(0, Part::text("Error:"));
            }
            let output: Value = match said.as_slice() {
                [] => "".into(),
                [Part::Text { text, .. }] => text.as_str().into(),
                parts => parts.iter().map(|said| self::part(said, "user")).collect::<Result<_, _>>()?,
            };
            json!({"type": "function_call_output", "call_id": id, "output": output})
        }
        Part::Thinking { text, signature: Some(signature) } => {
            let texts = if text.is_empty() { vec![] } else { vec![json!({"type": "summary_text", "text": text})] };
            json!({"type": "reasoning", "summary": texts, "encrypted_content": signature})
        }
        Part::Thinking { .. } | Part::RedactedThinking { .. } => Value::Null,
        Part::Text { .. } | Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::Refusal { .. } => {
            return Ok(None);
        }
    }))
}

fn part(part: &Part, role: &str) -> Result<Value, Refusal> {
    let no = |what: &str| Err(Refusal::bad("input", format!("This model's provider takes no {what}.")));
    let mut told = Map::new();
    match part {
        Part::Text { text, .. } => {
            let kind = if role == "assistant" { "output_text" } else { "input_text" };
            return Ok(json!({"type": kind, "text": text}));
        }
        Part::Refusal { text } => return Ok(json!({"type": "refusal", "refusal": text})),
        Part::Image { source, detail, .. } => {
            told.insert("type".into(), "input_image".into());
            match source {
                Source::Data { media_type, data } => told.insert("image_url".into(), data_url(media_type, data).into()),
                Source::Url(url) => told.insert("image_url".into(), url.as_str().into()),
                Source::File(id) => told.insert("file_id".into(), id.as_str().into()),
                Source::Text(_) => return no("image made of text"),
            };
            told.insert("detail".into(), detail.as_deref().unwrap_or("auto").into());
        }
        Part::Document { source, name, .. } => {
            told.insert("type".into(), "input_file".into());
            match source {
                Source::Data { media_type, data } => {
                    told.insert("filename".into(), name.as_deref().unwrap_or("document").into());
                    told.insert("file_data".into(), data_url(media_type, data).into())
                }
                Source::Url(url) => told.insert("file_url".into(), url.as_str().into()),
                Source::File(id) => told.insert("file_id".into(), id.as_str().into()),
                Source::Text(text) => return Ok(json!({"type": "input_text", "text": text})),
            };
        }
        Part::Audio { .. } => return no("sound through this route"),
        Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => {
            return no("thinking, calls or results in this place");
        }
    }
    Ok(Value::Object(told))
}
