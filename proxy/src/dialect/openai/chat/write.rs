//! The form as a provider's chat request.

use serde_json::{Map, Value, json};

use super::parse::effort_name;
use crate::dialect::form::{
    Effort, OutputForm, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolChoice, Turn,
};
use crate::refusal::Refusal;

/// Writes a request; `cap` is the name of the output cap, which differs between servers and models.
///
/// Where to cache is left out: these providers cache by themselves. Thinking that somebody signed is left out too: only who
/// signed it can read it, and that was no provider of this dialect.
///
/// # Errors
/// What the dialect can't express, by name.
pub(crate) fn write(request: &Request, cap: &'static str) -> Result<Vec<u8>, Refusal> {
    let mut body = Map::new();
    body.insert("model".into(), request.model.as_str().into());
    body.insert("messages".into(), messages(request)?.into());
    if !request.tools.is_empty() {
        body.insert("tools".into(), request.tools.iter().map(tool).collect());
        add(&mut body, "tool_choice", request.tool_choice.as_ref().map(tool_choice));
        add(&mut body, "parallel_tool_calls", request.parallel_tools);
    }
    add(&mut body, cap, request.max_output);
    if request.choices > 1 {
        body.insert("n".into(), request.choices.into());
    }
    sampling(&mut body, &request.sampling);
    add(&mut body, "response_format", output(&request.output));
    add(&mut body, "reasoning_effort", request.reasoning.as_ref().and_then(effort));
    add(&mut body, "verbosity", request.verbosity.clone());
    add(&mut body, "user", request.user.clone());
    if !request.metadata.is_empty() {
        body.insert("metadata".into(), Value::Object(request.metadata.clone()));
    }
    if request.stream {
        body.insert("stream".into(), true.into());
        body.insert("stream_options".into(), json!({"include_usage": true}));
    }
    Ok(Value::Object(body).to_string().into_bytes())
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
        // Not in OpenAI's own schema, which refuses it by name; vLLM, Ollama and llama.cpp take it.
        ("top_k", &sampling.top_k),
        ("seed", &sampling.seed),
        ("frequency_penalty", &sampling.frequency_penalty),
        ("presence_penalty", &sampling.presence_penalty),
    ];
    for (name, number) in numbers {
        add(body, name, number.clone().map(Value::Number));
    }
    if !sampling.stop.is_empty() {
        body.insert("stop".into(), sampling.stop.clone().into());
    }
    if let Some(top) = sampling.logprobs {
        body.insert("logprobs".into(), true.into());
        add(body, "top_logprobs", (top > 0).then_some(top));
    }
}

fn effort(reasoning: &Reasoning) -> Option<&'static str> {
    reasoning.effort.or(reasoning.budget_tokens.map(Effort::of_budget)).map(effort_name)
}

fn output(output: &OutputForm) -> Option<Value> {
    match output {
        OutputForm::Text => None,
        OutputForm::Json => Some(json!({"type": "json_object"})),
        OutputForm::Schema { name, description, schema, strict } => {
            let mut inner = Map::new();
            inner.insert("name".into(), name.as_str().into());
            add(&mut inner, "description", description.clone());
            inner.insert("schema".into(), schema.clone());
            add(&mut inner, "strict", *strict);
            Some(json!({"type": "json_schema", "json_schema": inner}))
        }
    }
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".into(), tool.name.as_str().into());
    add(&mut function, "description", tool.description.clone());
    function.insert("parameters".into(), tool.parameters.clone());
    add(&mut function, "strict", tool.strict);
    json!({"type": "function", "function": function})
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => json!({"type": "function", "function": {"name": name}}),
    }
}

fn messages(request: &Request) -> Result<Vec<Value>, Refusal> {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": content(&request.system)?}));
    }
    for turn in &request.turns {
        match turn.role {
            Role::System => messages.push(json!({"role": "system", "content": content(&turn.parts)?})),
            Role::User => user(turn, &mut messages)?,
            Role::Assistant => messages.push(assistant(turn)?),
        }
    }
    Ok(messages)
}

/// Results come right behind the calls that they answer; what this dialect can't put into a result follows as the user's.
fn user(turn: &Turn, messages: &mut Vec<Value>) -> Result<(), Refusal> {
    let mut rest = Vec::new();
    for part in &turn.parts {
        let Part::ToolResult { id, content: inner, is_error, .. } = part else {
            rest.push(part.clone());
            continue;
        };
        let (mut said, shown): (Vec<Part>, Vec<Part>) =
            inner.iter().cloned().partition(|part| matches!(part, Part::Text { .. }));
        if *is_error {
            // There is no field for it, and a model that is not told takes the text for a result.
            said.insert(0, Part::text("Error:"));
        }
        if said.is_empty() && !shown.is_empty() {
            said.push(Part::text("See what follows."));
        }
        rest.extend(shown);
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": content(&said)?}));
    }
    if !rest.is_empty() {
        messages.push(json!({"role": "user", "content": content(&rest)?}));
    }
    Ok(())
}

/// One text as a string, which every server understands; anything else as a list of parts.
fn content(parts: &[Part]) -> Result<Value, Refusal> {
    match parts {
        [] => Ok("".into()),
        [Part::Text { text, .. }] => Ok(text.as_str().into()),
        parts => parts.iter().map(part).collect(),
    }
}

fn part(part: &Part) -> Result<Value, Refusal> {
    let no = |what: &str| Err(Refusal::bad("messages", format!("This model's provider takes no {what}.")));
    match part {
        Part::Text { text, .. } => Ok(json!({"type": "text", "text": text})),
        Part::Image { source, detail, .. } => {
            let url = match source {
                Source::Data { media_type, data } => data_url(media_type, data),
                Source::Url(url) => url.clone(),
                Source::File(_) => return no("image by a file's id; give its data or its address"),
                Source::Text(_) => return no("image made of text"),
            };
            let mut image = Map::new();
            image.insert("url".into(), url.into());
            add(&mut image, "detail", detail.clone());
            Ok(json!({"type": "image_url", "image_url": image}))
        }
        Part::Document { source, name, .. } => {
            let mut file = Map::new();
            match source {
                Source::Data { media_type, data } => {
                    file.insert("filename".into(), name.as_deref().unwrap_or("document").into());
                    file.insert("file_data".into(), data_url(media_type, data).into())
                }
                Source::File(id) => {
                    add(&mut file, "filename", name.clone());
                    file.insert("file_id".into(), id.as_str().into())
                }
                Source::Text(text) => return Ok(json!({"type": "text", "text": text})),
                Source::Url(_) => return no("document by its address; give its data"),
            };
            Ok(json!({"type": "file", "file": file}))
        }
        Part::Audio { media_type, data } => {
            let format = match media_type.as_str() {
                "audio/mpeg" => "mp3",
                other => other.strip_prefix("audio/").unwrap_or(other),
            };
            Ok(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        }
        Part::Refusal { text } => Ok(json!({"type": "refusal", "refusal": text})),
        Part::Thinking { .. } | Part::RedactedThinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => {
            no("thinking, calls or results in this place")
        }
    }
}

pub(crate) fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

fn assistant(turn: &Turn) -> Result<Value, Refusal> {
    let (mut said, mut calls, mut thought) = (Vec::new(), Vec::new(), String::new());
    let mut refused = None;
    for part in &turn.parts {
        match part {
            Part::ToolCall { id, name, arguments, signature } => {
                let arguments = if arguments.is_empty() { "{}" } else { arguments };
                let mut call =
                    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
                if let (Some(signature), Some(call)) = (signature, call.as_object_mut()) {
                    call.insert("extra_content".into(), json!({"google": {"thought_signature": signature}}));
                }
                calls.push(call);
            }
            Part::Thinking { text, signature: None } => thought.push_str(text),
            Part::Thinking { .. } | Part::RedactedThinking { .. } => {}
            Part::Refusal { text } => refused = Some(text.clone()),
            Part::Text { .. }
            | Part::Image { .. }
            | Part::Document { .. }
            | Part::Audio { .. }
            | Part::ToolResult { .. } => said.push(part.clone()),
        }
    }
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let nothing = said.is_empty() && (!calls.is_empty() || refused.is_some());
    message.insert("content".into(), if nothing { Value::Null } else { content(&said)? });
    add(&mut message, "reasoning_content", (!thought.is_empty()).then_some(thought));
    add(&mut message, "refusal", refused);
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    Ok(Value::Object(message))
}
