//! The form as a provider's body. The model and whether it streams stand in the path.
//!
//! What is left out, since Google's own client has no place for it and the answer is the same without it: marks of what is to
//! be cached (Google caches by itself), the detail of images, names of documents and of schemas, `user` and `metadata`
//! (labels there must be of a certain shape), and hidden thoughts of another provider.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::parts::Content;
use super::turns;
use crate::dialect::form::{Effort, OutputForm, Reasoning, Request, Sampling, Tool, ToolChoice};
use crate::refusal::Refusal;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tools<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    generation_config: Map<String, Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters_json_schema: &'a Value,
}

/// Writes a request.
///
/// # Errors
/// 400 that names what Google can't be asked.
pub(crate) fn write(request: &Request) -> Result<Vec<u8>, Refusal> {
    let body = Body {
        system_instruction: turns::system(request)?,
        contents: turns::contents(request)?,
        tools: tools(&request.tools),
        tool_config: tool_config(request)?,
        generation_config: generation_config(request)?,
    };
    serde_json::to_vec(&body).map_err(|err| Refusal::bad("messages", format!("The request can't be written: {err}.")))
}

/// Which generation of its models Google is asked for: 2.5 is 2. A name without a number is that of the newest.
pub(super) fn generation(model: &str) -> u32 {
    let name = model.rsplit('/').next().unwrap_or_default();
    let Some(rest) = name.strip_prefix("gemini-") else { return 0 };
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(3)
}

fn tools(tools: &[Tool]) -> Vec<Tools<'_>> {
    if tools.is_empty() {
        return Vec::new();
    }
    vec![Tools { function_declarations: tools.iter().map(declaration).collect() }]
}

fn declaration(tool: &Tool) -> Declaration<'_> {
    Declaration { name: &tool.name, description: tool.description.as_deref(), parameters_json_schema: &tool.parameters }
}

fn tool_config(request: &Request) -> Result<Option<Value>, Refusal> {
    if request.parallel_tools == Some(false) && !request.tools.is_empty() {
        return Err(Refusal::bad(
            "parallel_tool_calls",
            "This model may call several functions at once; that can't be turned off.",
        ));
    }
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let config = match &request.tool_choice {
        None | Some(ToolChoice::Auto) if strict => json!({"mode": "VALIDATED"}),
        None => return Ok(None),
        Some(_) if request.tools.is_empty() => return Ok(None),
        Some(ToolChoice::Auto) => json!({"mode": "AUTO"}),
        Some(ToolChoice::None) => json!({"mode": "NONE"}),
        Some(ToolChoice::Required) => json!({"mode": "ANY"}),
        Some(ToolChoice::Tool(name)) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    Ok(Some(json!({"functionCallingConfig": config})))
}

fn generation_config(request: &Request) -> Result<Map<String, Value>, Refusal> {
    let mut config = sampling(&request.sampling);
    let mut set = |name: &str, value: Value| drop(config.insert(name.to_owned(), value));
    if let Some(cap) = request.max_output {
        set("maxOutputTokens", cap.into());
    }
    if request.choices > 1 {
        set("candidateCount", request.choices.into());
    }
    match &request.output {
        OutputForm::Text => {}
        OutputForm::Json => set("responseMimeType", "application/json".into()),
        OutputForm::Schema { schema, .. } => {
            set("responseMimeType", "application/json".into());
            set("responseJsonSchema", schema.clone());
        }
    }
    if let Some(thinking) = request.reasoning.as_ref().and_then(|reasoning| thinking(reasoning, &request.model)) {
        set("thinkingConfig", thinking);
    }
    match request.verbosity.as_deref() {
        None | Some("medium") => Ok(config),
        Some(_) => Err(Refusal::bad("verbosity", "This model can't be told how verbose to be; leave `verbosity` out.")),
    }
}

fn sampling(sampling: &Sampling) -> Map<String, Value> {
    let mut config = Map::new();
    for (name, number) in [
        ("temperature", &sampling.temperature),
        ("topP", &sampling.top_p),
        ("topK", &sampling.top_k),
        ("seed", &sampling.seed),
        ("presencePenalty", &sampling.presence_penalty),
        ("frequencyPenalty", &sampling.frequency_penalty),
    ] {
        if let Some(number) = number {
            config.insert(name.to_owned(), Value::Number(number.clone()));
        }
    }
    if !sampling.stop.is_empty() {
        config.insert("stopSequences".to_owned(), sampling.stop.clone().into());
    }
    if let Some(candidates) = sampling.logprobs {
        config.insert("responseLogprobs".to_owned(), true.into());
        if candidates > 0 {
            config.insert("logprobs".to_owned(), candidates.into());
        }
    }
    config
}

/// A budget goes as it is; an effort is a level since the third generation and a budget before it. The two together are
/// refused by Google, so that the exact one wins.
fn thinking(reasoning: &Reasoning, model: &str) -> Option<Value> {
    let mut config = Map::new();
    match (reasoning.budget_tokens, reasoning.effort) {
        (Some(tokens), _) => drop(config.insert("thinkingBudget".to_owned(), tokens.into())),
        (None, Some(effort)) if generation(model) >= 3 => {
            drop(config.insert("thinkingLevel".to_owned(), level(effort).into()));
        }
        (None, Some(effort)) => drop(config.insert("thinkingBudget".to_owned(), effort.budget_tokens().into())),
        (None, None) => {}
    }
    if let Some(shown) = reasoning.shown {
        config.insert("includeThoughts".to_owned(), shown.into());
    }
    (!config.is_empty()).then_some(Value::Object(config))
}

/// The level that comes nearest: these models can't leave thinking altogether, and not every one goes beyond `HIGH`.
fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::Higher | Effort::Max => "HIGH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_generation_is_read_from_its_name() {
        for (model, expected) in [
            ("gemini-2.5-pro", 2),
            ("gemini-3-flash-preview", 3),
            ("models/gemini-3.1-pro", 3),
            ("gemini-flash-latest", 3),
            ("gemma-3", 0),
            ("gemini-10", 10),
        ] {
            assert_eq!(generation(model), expected, "{model}");
        }
    }
}
