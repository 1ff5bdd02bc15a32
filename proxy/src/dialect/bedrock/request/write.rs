//! The form as a body of Converse, which is also that of `ConverseStream`: the model and whether it streams stand in the path.
//!
//! What is left out, since the answer is the same without it: the detail of images, `user` and `metadata` (which must be of a
//! certain shape there), and whether thinking is shown (it is, where there is any).

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::messages::{self, Block, Message};
use super::model::Maker;
use crate::dialect::form::{Effort, OutputForm, Part, Reasoning, Request, ToolChoice};
use crate::refusal::Refusal;

/// The smallest budget that Claude thinks with.
const LEAST_BUDGET: u32 = 1_024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    inference_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    output_config: Map<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    additional_model_request_fields: Map<String, Value>,
}

/// Writes a request.
///
/// # Errors
/// 400 that names what this model can't be asked.
pub(crate) fn write(request: &Request) -> Result<Vec<u8>, Refusal> {
    let maker = Maker::of(&request.model);
    refuse(request)?;
    let mut more = Map::new();
    let mut output_config = output(request)?;
    if let Some(top_k) = &request.sampling.top_k {
        match maker {
            Maker::Anthropic(..) => drop(more.insert("top_k".to_owned(), Value::Number(top_k.clone()))),
            Maker::Amazon => drop(more.insert("inferenceConfig".to_owned(), json!({ "topK": top_k }))),
            Maker::Openai | Maker::Other => return Err(Refusal::bad("top_k", "This model has no `top_k`.")),
        }
    }
    if let Some(reasoning) = &request.reasoning {
        think(reasoning, (maker, request.max_output), &mut more, &mut output_config)?;
    }
    let tool_config = tools(request, maker, &mut more)?;
    let body = Body {
        messages: messages::messages(request, maker)?,
        system: messages::system(request)?,
        inference_config: inference(request),
        tool_config,
        output_config,
        additional_model_request_fields: more,
    };
    serde_json::to_vec(&body).map_err(|err| Refusal::bad("messages", format!("The request can't be written: {err}.")))
}

/// What none of these models can be asked.
fn refuse(request: &Request) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    for (name, asked) in [
        ("n", request.choices > 1),
        ("seed", sampling.seed.is_some()),
        ("frequency_penalty", sampling.frequency_penalty.is_some()),
        ("presence_penalty", sampling.presence_penalty.is_some()),
        ("logprobs", sampling.logprobs.is_some()),
        ("verbosity", request.verbosity.as_deref().is_some_and(|verbosity| verbosity != "medium")),
    ] {
        if asked {
            return Err(Refusal::bad(name, format!("The provider of this model has no `{name}`; leave it out.")));
        }
    }
    Ok(())
}

fn inference(request: &Request) -> Map<String, Value> {
    let mut config = Map::new();
    if let Some(cap) = request.max_output {
        config.insert("maxTokens".to_owned(), cap.into());
    }
    for (name, number) in [("temperature", &request.sampling.temperature), ("topP", &request.sampling.top_p)] {
        if let Some(number) = number {
            config.insert(name.to_owned(), Value::Number(number.clone()));
        }
    }
    if !request.sampling.stop.is_empty() {
        config.insert("stopSequences".to_owned(), request.sampling.stop.clone().into());
    }
    config
}

fn output(request: &Request) -> Result<Map<String, Value>, Refusal> {
    let mut config = Map::new();
    match &request.output {
        OutputForm::Text => {}
        OutputForm::Json => {
            let why = "The provider of this model writes JSON by a schema only; give one (`json_schema`).";
            return Err(Refusal::bad("response_format", why));
        }
        OutputForm::Schema { name, description, schema, .. } => {
            let mut form = Map::new();
            form.insert("schema".to_owned(), schema.to_string().into());
            form.insert("name".to_owned(), name.as_str().into());
            if let Some(description) = description {
                form.insert("description".to_owned(), description.as_str().into());
            }
            let format = json!({"type": "json_schema", "structure": {"jsonSchema": form}});
            config.insert("textFormat".to_owned(), format);
        }
    }
    Ok(config)
}

/// Thinking. Claude has counted budgets, and since 4.6 decides by itself how far an effort reaches. A budget must lie below
/// the cap on the answer: one that stands for an effort is made to, an exact one is the client's own affair.
fn think(
    reasoning: &Reasoning,
    (maker, cap): (Maker, Option<u32>),
    more: &mut Map<String, Value>,
    output: &mut Map<String, Value>,
) -> Result<(), Refusal> {
    let mut claude = |thinking: Value| drop(more.insert("thinking".to_owned(), thinking));
    match (maker, reasoning.budget_tokens, reasoning.effort) {
        (Maker::Anthropic(..), Some(tokens), _) => claude(json!({"type": "enabled", "budget_tokens": tokens})),
        (Maker::Amazon | Maker::Openai | Maker::Other, Some(_), _) => {
            return Err(Refusal::bad("thinking", "The thinking of this model has no budget; name an effort instead."));
        }
        (_, None, None | Some(Effort::None)) => {}
        (Maker::Anthropic(major, minor), None, Some(effort)) if (major, minor) >= (4, 6) => {
            claude(json!({"type": "adaptive"}));
            output.insert("effort".to_owned(), word(effort).into());
        }
        (Maker::Anthropic(..), None, Some(effort)) => {
            let tokens = cap.map_or(u32::MAX, |cap| cap.saturating_sub(1)).min(effort.budget_tokens());
            if tokens >= LEAST_BUDGET {
                claude(json!({"type": "enabled", "budget_tokens": tokens}));
            }
        }
        (Maker::Openai, None, Some(effort)) => {
            more.insert("reasoning_effort".to_owned(), three(effort).into());
        }
        (Maker::Amazon, None, Some(effort)) => {
            let config = json!({"type": "enabled", "maxReasoningEffort": three(effort)});
            more.insert("reasoningConfig".to_owned(), config);
        }
        (Maker::Other, None, Some(_)) => {
            return Err(Refusal::bad("reasoning_effort", "This model has no reasoning effort; leave it out."));
        }
    }
    Ok(())
}

fn word(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Higher => "xhigh",
        Effort::Max => "max",
    }
}

fn three(effort: Effort) -> &'static str {
    word(effort.min(Effort::High))
}

/// The tools and the choice between them. There is no word for none: then the tools are left out, which only a conversation
/// without calls allows.
fn tools(request: &Request, maker: Maker, more: &mut Map<String, Value>) -> Result<Option<Value>, Refusal> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    if request.tool_choice == Some(ToolChoice::None) {
        let is_tool = |part: &Part| matches!(part, Part::ToolCall { .. } | Part::ToolResult { .. });
        if request.turns.iter().any(|turn| turn.parts.iter().any(is_tool)) {
            let why =
                "The provider of this model can't keep it from calling functions in a conversation that has calls.";
            return Err(Refusal::bad("tool_choice", why));
        }
        return Ok(None);
    }
    let mut list = Vec::new();
    for tool in &request.tools {
        let mut spec = Map::new();
        spec.insert("name".to_owned(), tool.name.as_str().into());
        if let Some(description) = tool.description.as_deref().filter(|text| !text.is_empty()) {
            spec.insert("description".to_owned(), description.into());
        }
        spec.insert("inputSchema".to_owned(), json!({"json": tool.parameters}));
        if tool.strict == Some(true) {
            spec.insert("strict".to_owned(), true.into());
        }
        list.push(json!({ "toolSpec": spec }));
        if let Some(cache) = tool.cache {
            list.push(json!({"cachePoint": messages::cache_point(cache)}));
        }
    }
    let mut config = Map::new();
    config.insert("tools".to_owned(), list.into());
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto) => Some(json!({"auto": {}})),
        Some(ToolChoice::Required) => Some(json!({"any": {}})),
        Some(ToolChoice::Tool(name)) => Some(json!({"tool": {"name": name}})),
    };
    if let Some(choice) = choice {
        config.insert("toolChoice".to_owned(), choice);
    }
    if request.parallel_tools == Some(false) {
        one_at_a_time(request, maker, more)?;
    }
    Ok(Some(Value::Object(config)))
}

/// Claude's own words for one call at a time, which name the choice again.
fn one_at_a_time(request: &Request, maker: Maker, more: &mut Map<String, Value>) -> Result<(), Refusal> {
    if !matches!(maker, Maker::Anthropic(..)) {
        let why = "This model may call several functions at once; that can't be turned off.";
        return Err(Refusal::bad("parallel_tool_calls", why));
    }
    let choice = match &request.tool_choice {
        None | Some(ToolChoice::Auto | ToolChoice::None) => json!({"type": "auto", "disable_parallel_tool_use": true}),
        Some(ToolChoice::Required) => json!({"type": "any", "disable_parallel_tool_use": true}),
        Some(ToolChoice::Tool(name)) => {
            json!({"type": "tool", "name": name, "disable_parallel_tool_use": true})
        }
    };
    more.insert("tool_choice".to_owned(), choice);
    Ok(())
}
