//! Form to the provider's body. What the provider can't be told is refused by name, but for what has no bearing on the answer.

use serde_json::{Map, Number, Value, json};

use super::{content, thinking};
use crate::dialect::form::{OutputForm, Request, Tool, ToolChoice};
use crate::refusal::Refusal;

/// The first version of the API that takes no sampling parameters, not even at their defaults.
const WITHOUT_SAMPLING: &str = "2026-10-21";

/// The provider's body, for a version of its API (`anthropic-version`). The client's own notes (`metadata`) are not for it:
/// the gateway has already taken from them what its reports need.
///
/// # Errors
/// 400 with the field that the provider can't be told.
pub(crate) fn write(request: &Request, version: &str) -> Result<Vec<u8>, Refusal> {
    refuse_foreign(request)?;
    let mut body = Map::new();
    let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
    set("model", request.model.as_str().into());
    if let Some(cap) = request.max_output {
        set("max_tokens", cap.into());
    }
    if let Some(system) = content::system(&request.system)? {
        set("system", system);
    }
    set("messages", content::messages(&request.turns)?.into());
    if !request.tools.is_empty() {
        let tools: Vec<Value> = request.tools.iter().map(tool).collect::<Result<_, _>>()?;
        set("tools", tools.into());
        if let Some(choice) = tool_choice(request) {
            set("tool_choice", choice);
        }
    }
    for (key, value) in sampling(request, version)? {
        set(key, value.clone().into());
    }
    if !request.sampling.stop.is_empty() {
        set("stop_sequences", request.sampling.stop.clone().into());
    }
    let told = match &request.reasoning {
        Some(reasoning) => thinking::write(reasoning, &request.model, request.max_output)?,
        None => thinking::Told::default(),
    };
    if let Some(thinking) = told.thinking {
        set("thinking", thinking);
    }
    let mut config = Map::new();
    if let Some(effort) = told.effort {
        config.insert("effort".to_owned(), effort.into());
    }
    if let OutputForm::Schema { schema, .. } = &request.output {
        config.insert("format".to_owned(), json!({"type": "json_schema", "schema": schema}));
    }
    if !config.is_empty() {
        set("output_config", config.into());
    }
    if let Some(user) = &request.user {
        set("metadata", json!({"user_id": user}));
    }
    if request.stream {
        set("stream", true.into());
    }
    Ok(Value::Object(body).to_string().into_bytes())
}

/// What this provider can't be told at all, unless it asks for what happens anyway.
fn refuse_foreign(request: &Request) -> Result<(), Refusal> {
    let sampling = &request.sampling;
    let zero = |number: &Option<Number>| number.as_ref().is_none_or(|number| is(number, "0"));
    let fine = [
        ("n", request.choices <= 1, "one answer at a time"),
        ("seed", sampling.seed.is_none(), "no seed"),
        ("frequency_penalty", zero(&sampling.frequency_penalty), "no penalties"),
        ("presence_penalty", zero(&sampling.presence_penalty), "no penalties"),
        ("logprobs", sampling.logprobs.is_none(), "no log probabilities"),
        ("verbosity", request.verbosity.as_deref().is_none_or(|word| word == "medium"), "no verbosity"),
        ("response_format", request.output != OutputForm::Json, "JSON by a schema, but no schema was given"),
    ];
    match fine.iter().find(|(_, fine, _)| !fine) {
        None => Ok(()),
        Some((name, _, has)) => {
            Err(Refusal::bad(*name, format!("The provider of this model has {has}; leave `{name}` out.")))
        }
    }
}

/// Whether a number is the whole number that `digits` names, however it was written.
fn is(number: &Number, digits: &str) -> bool {
    let text = number.to_string();
    text.strip_prefix('-').filter(|_| digits == "0").unwrap_or(&text).strip_suffix(".0").unwrap_or(&text) == digits
}

/// What is said of how tokens are drawn. A version that takes none of it is told nothing where the client asks for the default,
/// and nothing else can be asked of it.
fn sampling<'a>(request: &'a Request, version: &str) -> Result<Vec<(&'static str, &'a Number)>, Refusal> {
    let sampling = &request.sampling;
    let stated = [
        ("temperature", &sampling.temperature, Some("1")),
        ("top_p", &sampling.top_p, Some("1")),
        ("top_k", &sampling.top_k, None),
    ];
    let mut said: Vec<(&'static str, &Number)> = Vec::new();
    for (name, value, default) in stated {
        let Some(value) = value else { continue };
        if version < WITHOUT_SAMPLING {
            said.push((name, value));
        } else if !default.is_some_and(|default| is(value, default)) {
            let message =
                format!("The provider of this model takes no `{name}` (version {version} of its API); leave it out.");
            return Err(Refusal::bad(name, message));
        }
    }
    Ok(said)
}

fn tool(tool: &Tool) -> Result<Value, Refusal> {
    let mut schema = match &tool.parameters {
        Value::Object(schema) => schema.clone(),
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Refusal::bad("tools", format!("The parameters of the tool `{}` must be a schema.", tool.name)));
        }
    };
    if !schema.contains_key("type") {
        schema.insert("type".to_owned(), "object".into());
    }
    let mut object = json!({"name": tool.name});
    if let Some(object) = object.as_object_mut() {
        if let Some(description) = &tool.description {
            object.insert("description".to_owned(), description.as_str().into());
        }
        object.insert("input_schema".to_owned(), schema.into());
        if let Some(strict) = tool.strict {
            object.insert("strict".to_owned(), strict.into());
        }
        content::mark(object, tool.cache);
    }
    Ok(object)
}

fn tool_choice(request: &Request) -> Option<Value> {
    let one_by_one = request.parallel_tools == Some(false);
    let mut choice = match request.tool_choice.as_ref() {
        None if !one_by_one => return None,
        None | Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::Tool(name)) => json!({"type": "tool", "name": name}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
    };
    if let (Some(parallel), Some(choice)) = (request.parallel_tools, choice.as_object_mut()) {
        choice.insert("disable_parallel_tool_use".to_owned(), (!parallel).into());
    }
    Some(choice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::form::{Part, Role, Sampling, Turn};

    fn request(sampling: Sampling) -> Request {
        let turns = vec![Turn { role: Role::User, parts: vec![Part::text("hi")] }];
        Request { model: "claude-sonnet-5".into(), turns, max_output: Some(10), sampling, ..Request::default() }
    }

    fn param(result: Result<Vec<u8>, Refusal>) -> Option<String> {
        result.err().and_then(|refusal| refusal.told().param.map(|param| param.into_owned()))
    }

    #[test]
    fn a_version_without_sampling_is_not_told_a_default_and_nothing_else_can_be_asked_of_it() {
        let number = |text: &str| -> Option<Number> { Some(text.parse().unwrap()) };
        for default in ["1", "1.0", "1e0"] {
            let sampling = Sampling { temperature: number(default), top_p: number(default), ..Sampling::default() };
            let new = String::from_utf8(write(&request(sampling.clone()), "2026-10-21").unwrap()).unwrap();
            assert!(!new.contains("temperature") && !new.contains("top_p"), "{new}");
            let old = String::from_utf8(write(&request(sampling), "2023-06-01").unwrap()).unwrap();
            assert!(old.contains("temperature") && old.contains("top_p"), "{old}");
        }
        for (name, sampling) in [
            ("temperature", Sampling { temperature: number("0"), ..Sampling::default() }),
            ("top_p", Sampling { top_p: number("0.9"), ..Sampling::default() }),
            ("top_k", Sampling { top_k: number("40"), ..Sampling::default() }),
        ] {
            assert_eq!(param(write(&request(sampling.clone()), "2026-10-21")).as_deref(), Some(name));
            assert!(write(&request(sampling), "2023-06-01").is_ok());
        }
    }

    #[test]
    fn what_the_provider_can_not_be_told_is_refused_by_name() {
        let plain = request(Sampling::default());
        let number = |text: &str| -> Option<Number> { Some(text.parse().unwrap()) };
        for (name, asked) in [
            ("n", Request { choices: 2, ..plain.clone() }),
            ("response_format", Request { output: OutputForm::Json, ..plain.clone() }),
            ("verbosity", Request { verbosity: Some("low".into()), ..plain.clone() }),
            ("seed", request(Sampling { seed: number("0"), ..Sampling::default() })),
            ("logprobs", request(Sampling { logprobs: Some(0), ..Sampling::default() })),
            ("presence_penalty", request(Sampling { presence_penalty: number("0.5"), ..Sampling::default() })),
            ("frequency_penalty", request(Sampling { frequency_penalty: number("-1"), ..Sampling::default() })),
        ] {
            assert_eq!(param(write(&asked, "2023-06-01")).as_deref(), Some(name));
        }
        let nothing =
            Sampling { presence_penalty: number("0"), frequency_penalty: number("-0.0"), ..Sampling::default() };
        let nothing = Request { choices: 1, verbosity: Some("medium".into()), ..request(nothing) };
        assert!(write(&nothing, "2023-06-01").is_ok());
    }
}
