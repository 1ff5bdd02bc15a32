//! A model that acts on what it is asked, by rule: it calls tools, repeats what they gave, fills in schemas and says what it sees.
//! Reads OpenAI chat requests; says `protest: ..` where a conversation does not hold together, as a provider would refuse it.

use serde_json::{Map, Value, json};

/// What it says, and what it calls instead.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) calls: Vec<Call>,
}

/// A call of a function.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    /// The arguments' JSON, in the pieces in which a stream has it.
    pub(super) pieces: Vec<String>,
}

/// The answer to a request.
pub(super) fn answer(body: &Value) -> Said {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    if let Some(results) = results(&messages) {
        return said(match results {
            Ok(results) => format!("I was told {}.", results.join(" and ")),
            Err(protest) => format!("protest: {protest}"),
        });
    }
    let last = messages.last().cloned().unwrap_or_default();
    let (text, images) = content(&last["content"]);
    if !images.is_empty() {
        return said(format!("I see {}.", images.join(" and ")));
    }
    if let Some(call) = forced(body) {
        return Said { calls: vec![call], ..Said::default() };
    }
    let cities = text.split_once(" in ").map(|(_, cities)| cities.trim_end_matches(['?', '.']).split(" and in "));
    if let (Some(tool), Some(cities)) = (tool(body), cities) {
        let calls = cities.map(|city| call(&tool, &json!({ "city": city }))).collect();
        return Said { calls, ..Said::default() };
    }
    let format = &body["response_format"];
    if format["type"] == "json_schema" {
        return said(filled(&format["json_schema"]["schema"]).to_string());
    }
    said(format!("You said: {text}"))
}

fn said(text: String) -> Said {
    Said { text, calls: Vec::new() }
}

fn call(name: &str, arguments: &Value) -> Call {
    let arguments = arguments.to_string();
    let (first, second) = arguments.split_at(arguments.len() / 2);
    Call { name: name.to_owned(), pieces: vec![String::new(), first.to_owned(), second.to_owned()] }
}

/// A call of the function that must be called.
fn forced(body: &Value) -> Option<Call> {
    let (choice, tools) = (&body["tool_choice"], body["tools"].as_array()?);
    let name = match choice.as_str() {
        Some("required") => tools.first()?["function"]["name"].as_str()?,
        Some(_) => return None,
        None => choice["function"]["name"].as_str()?,
    };
    let tool = tools.iter().find(|tool| tool["function"]["name"] == name)?;
    Some(call(name, &filled(&tool["function"]["parameters"])))
}

/// The function that may be called.
fn tool(body: &Value) -> Option<String> {
    let function = body["tools"].as_array()?.first()?["function"]["name"].as_str()?;
    (body["tool_choice"] != "none").then(|| function.to_owned())
}

/// What the tools gave, in the order in which they were called; `None` when the conversation does not end with results.
fn results(messages: &[Value]) -> Option<Result<Vec<String>, String>> {
    let at = messages.iter().rposition(|message| message["role"] != "tool")?;
    let given = messages.get(at + 1..).filter(|given| !given.is_empty())?;
    let Some(calls) = messages[at]["tool_calls"].as_array() else {
        return Some(Err("results of no call".to_owned()));
    };
    if given.len() != calls.len() {
        return Some(Err(format!("{} results of {} calls", given.len(), calls.len())));
    }
    let of = |call: &Value| {
        let result = given.iter().find(|result| result["tool_call_id"] == call["id"] && call["id"].is_string());
        let arguments: Option<Value> =
            call["function"]["arguments"].as_str().and_then(|text| serde_json::from_str(text).ok());
        match (result, arguments) {
            (Some(result), Some(arguments)) => {
                let city = arguments["city"].as_str().unwrap_or("nowhere");
                Ok(format!("{} for {city}", content(&result["content"]).0))
            }
            (None, _) => Err(format!("no result of {}", call["id"])),
            (_, None) => Err(format!("arguments that are no JSON: {call}")),
        }
    };
    Some(calls.iter().map(of).collect())
}

/// The text of a message's content, and what its images are.
fn content(content: &Value) -> (String, Vec<String>) {
    let (mut text, mut images) = (String::new(), Vec::new());
    match content {
        Value::String(whole) => text.push_str(whole),
        Value::Array(parts) => {
            for part in parts {
                text.push_str(part["text"].as_str().unwrap_or_default());
                if let Some(url) = part["image_url"]["url"].as_str() {
                    images.push(seen(url));
                }
            }
        }
        _ => {}
    }
    (text, images)
}

fn seen(url: &str) -> String {
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((kind, data)) => format!("{kind} of {} bytes", data.trim_end_matches('=').len() * 3 / 4),
        None => url.to_owned(),
    }
}

/// The first value that a schema allows.
fn filled(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let fields = schema["properties"].as_object().cloned().unwrap_or_default();
            Value::Object(fields.iter().map(|(name, schema)| (name.clone(), filled(schema))).collect::<Map<_, _>>())
        }
        Some("array") => json!([filled(&schema["items"])]),
        Some("integer" | "number") => json!(21),
        Some("boolean") => json!(true),
        Some("string") => json!("Paris"),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_calls_the_tool_for_each_city_and_repeats_what_it_gave() {
        let tools = json!([{ "type": "function", "function": { "name": "weather", "parameters": {} } }]);
        let asked = json!({ "role": "user", "content": "What is the weather in Paris and in Rome?" });
        let called = answer(&json!({ "messages": [asked], "tools": tools }));
        let arguments: Vec<String> = called.calls.iter().map(|call| call.pieces.concat()).collect();
        assert_eq!(arguments, [r#"{"city":"Paris"}"#, r#"{"city":"Rome"}"#]);
        let call = |id: &str, city: &str| json!({ "id": id, "type": "function", "function": { "name": "weather", "arguments": json!({ "city": city }).to_string() } });
        let calls = json!({ "role": "assistant", "tool_calls": [call("1", "Paris"), call("2", "Rome")] });
        let told = |id: &str, text: &str| json!({ "role": "tool", "tool_call_id": id, "content": text });
        let messages = json!([asked, calls, told("2", "rain"), told("1", "sun")]);
        assert_eq!(answer(&json!({ "messages": messages })).text, "I was told sun for Paris and rain for Rome.");
        let messages = json!([asked, calls, told("3", "rain"), told("1", "sun")]);
        assert_eq!(answer(&json!({ "messages": messages })).text, "protest: no result of \"2\"");
    }

    #[test]
    fn it_fills_in_schemas_and_says_what_it_sees() {
        let schema = json!({ "type": "object", "properties": {
            "city": { "type": "string" }, "degrees": { "type": "integer" }, "sky": { "enum": ["clear", "grey"] } } });
        let format = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
        let asked = json!([{ "role": "user", "content": "hello" }]);
        let filled: Value =
            serde_json::from_str(&answer(&json!({ "messages": asked, "response_format": format })).text).unwrap();
        assert_eq!(filled, json!({ "city": "Paris", "degrees": 21, "sky": "clear" }));
        let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAAAA==" } });
        let seen = answer(&json!({ "messages": [{ "role": "user", "content": [image] }] }));
        assert_eq!(seen.text, "I see image/png of 4 bytes.");
    }
}
