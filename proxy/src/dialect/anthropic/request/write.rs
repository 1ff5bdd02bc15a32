//! Form to the provider's body. What the provider can't be told is refused by name, but for what has no bearing on the answer.

use serde_json::{Number, Value};

use super::{content, thinking};
use crate::dialect::form::{OutputForm, Request, Tool, ToolChoice};
use crate::dialect::json::{Json, Members, member, object};
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
    let mut body = Vec::with_capacity(12);
    body.push(member("model", &request.model));
    body.extend(request.max_output.map(|cap| member("max_tokens", cap)));
    body.extend(content::system(&request.system)?.map(|system| member("system", system)));
    body.push(member("messages", content::messages(&request.turns)?));
    if !request.tools.is_empty() {
        let tools: Vec<Json<'_>> = request.tools.iter().map(tool).collect::<Result<_, _>>()?;
        body.push(member("tools", tools));
        body.extend(tool_choice(request).map(|choice| member("tool_choice", choice)));
    }
    body.extend(sampling(request, version)?.into_iter().map(|(key, value)| member(key, value)));
    if !request.sampling.stop.is_empty() {
        let stop: Vec<Json<'_>> = request.sampling.stop.iter().map(Json::from).collect();
        body.push(member("stop_sequences", stop));
    }
    let told = match &request.reasoning {
        Some(reasoning) => thinking::write(reasoning, &request.model, request.max_output)?,
        None => thinking::Told::default(),
    };
    body.extend(told.thinking.map(|thinking| member("thinking", thinking)));
    let mut config = Members::new();
    config.extend(told.effort.map(|effort| member("effort", effort)));
    if let OutputForm::Schema { schema, .. } = &request.output {
        config.push(member("format", object! {"type": "json_schema", "schema": schema}));
    }
    if !config.is_empty() {
        body.push(member("output_config", Json::Object(config)));
    }
    body.extend(request.user.as_ref().map(|user| member("metadata", object! {"user_id": user})));
    body.extend(request.stream.then(|| member("stream", true)));
    Ok(Json::Object(body).to_bytes())
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

fn tool(tool: &Tool) -> Result<Json<'_>, Refusal> {
    let schema = match &tool.parameters {
        Value::Object(schema) if schema.contains_key("type") => Json::from(&tool.parameters),
        Value::Object(schema) => {
            let mut members: Members<'_> = schema.iter().map(|(key, value)| (key.into(), value.into())).collect();
            members.push(member("type", "object"));
            Json::Object(members)
        }
        Value::Null => object! {"type": "object"},
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Refusal::bad("tools", format!("The parameters of the tool `{}` must be a schema.", tool.name)));
        }
    };
    let mut members = vec![member("name", &tool.name)];
    members.extend(tool.description.as_ref().map(|description| member("description", description)));
    members.push(member("input_schema", schema));
    members.extend(tool.strict.map(|strict| member("strict", strict)));
    content::mark(&mut members, tool.cache);
    Ok(Json::Object(members))
}

fn tool_choice(request: &Request) -> Option<Json<'_>> {
    let one_by_one = request.parallel_tools == Some(false);
    let mut choice = match request.tool_choice.as_ref() {
        None if !one_by_one => return None,
        None | Some(ToolChoice::Auto) => vec![member("type", "auto")],
        Some(ToolChoice::Required) => vec![member("type", "any")],
        Some(ToolChoice::Tool(name)) => vec![member("type", "tool"), member("name", name)],
        Some(ToolChoice::None) => return Some(object! {"type": "none"}),
    };
    choice.extend(request.parallel_tools.map(|parallel| member("disable_parallel_tool_use", !parallel)));
    Some(Json::Object(choice))
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
