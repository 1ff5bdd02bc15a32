//! What a client says to an agent, read strictly: a field that would go unheard is refused by its name.

use http::HeaderMap;
use openclawmu_control::agent::{AgentError, AgentName, SessionName};
use serde_json::{Map, Value};

use super::desk::refused;
use super::edge::PREFIX;
use crate::read::Call;
use crate::refusal::Refusal;

/// The header that names a conversation; `metadata.session` does so as well.
const SESSION: &str = "x-openclawmu-session";
/// What goes on to the agent's model as it is.
const PASSED: [&str; 12] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "user",
];

/// What is said to an agent.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) agent: AgentName,
    pub(super) session: Option<SessionName>,
    pub(super) messages: Vec<Value>,
    /// Fields for the model.
    pub(super) options: Map<String, Value>,
}

/// Reads it.
///
/// # Errors
/// 400 that names the field; 404 for a name that no agent can have.
pub(super) fn read(call: &Call, headers: &HeaderMap) -> Result<Asked, Refusal> {
    let name = call.ask.model.strip_prefix(PREFIX).unwrap_or_default();
    let agent = name.parse().map_err(|_| not_found(name))?;
    let body: Map<String, Value> = serde_json::from_slice(&call.body)
        .map_err(|err| Refusal::bad("messages", format!("The body can't be read: {err}.")))?;
    let (mut messages, mut options, mut in_metadata) = (Vec::new(), Map::new(), None);
    for (field, value) in body {
        match (field.as_str(), value) {
            // Read by the stages, or nothing said.
            ("model" | "stream" | "stream_options", _) | (_, Value::Null) => {}
            ("messages", Value::Array(list)) => messages = list,
            ("metadata", Value::Object(mut metadata)) => in_metadata = metadata.remove("session"),
            ("n", value) if value == 1 => {}
            ("tools" | "functions" | "tool_choice" | "function_call", _) => {
                let message = format!("An agent takes no `{field}`: what it may call is its own setting, `tools`.");
                return Err(Refusal::bad(field, message));
            }
            (name, value) if PASSED.contains(&name) => {
                options.insert(field, value);
            }
            _ => {
                let message = format!("An agent takes no `{field}`.");
                return Err(Refusal::bad(field, message));
            }
        }
    }
    let session = session(headers, in_metadata)?;
    check_messages(&messages, session.is_some())?;
    Ok(Asked { agent, session, messages, options })
}

/// The refusal for an agent that is not there.
pub(super) fn not_found(name: &str) -> Refusal {
    let name: String = name.chars().take(64).collect();
    let message = format!("There is no agent `{name}`. GET /v1/agents lists yours.");
    Refusal::NotFound { code: "model_not_found", message }
}

/// The conversation that is named, by the header, by the metadata or by both alike.
fn session(headers: &HeaderMap, in_metadata: Option<Value>) -> Result<Option<SessionName>, Refusal> {
    let mut in_header = headers.get_all(SESSION).iter();
    let of_header = in_header.next().map(|value| std::str::from_utf8(value.as_bytes()).unwrap_or_default().to_owned());
    let of_metadata = match in_metadata {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return Err(Refusal::bad("metadata.session", "`metadata.session` must be a string.")),
    };
    let (field, name) = match (of_header, of_metadata) {
        (None, None) => return Ok(None),
        (Some(name), None) => (SESSION, name),
        (None, Some(name)) => ("metadata.session", name),
        (Some(a), Some(b)) if a == b => (SESSION, a),
        (Some(_), Some(_)) => {
            return Err(Refusal::bad("metadata.session", format!("`metadata.session` and `{SESSION}` differ.")));
        }
    };
    if in_header.next().is_some() {
        return Err(Refusal::bad(SESSION, format!("`{SESSION}` is there twice.")));
    }
    name.parse().map(Some).map_err(|err| match err {
        AgentError::Invalid { message, .. } => Refusal::bad(field, format!("`{field}` {message}.")),
        err @ (AgentError::NotFound(_) | AgentError::Exists(_) | AgentError::Full(_) | AgentError::Path(_)) => {
            refused(&err)
        }
    })
}

/// In a session only what is new is said, and by its user: the rest is kept already.
fn check_messages(messages: &[Value], in_session: bool) -> Result<(), Refusal> {
    if messages.is_empty() {
        return Err(Refusal::bad("messages", "`messages` must hold at least one message."));
    }
    for (place, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str);
        if role.is_none() || (in_session && role != Some("user")) {
            let message = if in_session {
                "In a session only new messages of the role `user` are sent: what was said before is kept."
            } else {
                "Each message has a `role`."
            };
            return Err(Refusal::bad(format!("messages[{place}].role"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openclawmu_store::{Label, RequestId};
    use serde_json::json;

    use super::*;
    use crate::dialect::ask;
    use crate::routes::AiRoute;

    fn asked(extra: Value, header: Option<&str>) -> Result<Asked, String> {
        let mut body = json!({"model": "openclaw/helper", "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let body = body.to_string();
        let route = AiRoute::ChatCompletions;
        let ask = ask::read(route, ("", None), &body).map_err(|refusal| refusal.to_string())?;
        let body = Bytes::from(body);
        let call =
            Call { request_id: RequestId(1), route, ask, label: Label::default(), body, form: None, asked: None };
        let mut headers = HeaderMap::new();
        if let Some(value) = header {
            headers.insert(SESSION, value.parse().unwrap());
        }
        read(&call, &headers).map_err(|refusal| {
            let told = refusal.told();
            format!("{} {}", told.status, told.param.unwrap_or_default())
        })
    }

    /// N-03
    #[test]
    fn what_an_agent_does_not_hear_is_refused_by_its_name() {
        let plain = asked(json!({"temperature": 0.5, "n": 1, "seed": null, "metadata": {"team": "a"}}), None).unwrap();
        assert_eq!((plain.agent.as_str(), plain.session), ("helper", None));
        assert_eq!(Value::Object(plain.options), json!({"temperature": 0.5}));
        for (extra, field) in [
            (json!({"tools": []}), "400 tools"),
            (json!({"tool_choice": "auto"}), "400 tool_choice"),
            (json!({"response_format": {"type": "json_object"}}), "400 response_format"),
            (json!({"n": 2}), "400 n"),
            (json!({"store": true}), "400 store"),
            (json!({"metadata": {"session": 5}}), "400 metadata.session"),
            (json!({"metadata": {"session": ""}}), "400 metadata.session"),
            (json!({"model": "openclaw/../x"}), "404 "),
            (json!({"model": "openclaw/"}), "404 "),
            (json!({"messages": []}), "400 messages"),
            (json!({"messages": [{"content": "x"}]}), "400 messages[0].role"),
        ] {
            assert_eq!(asked(extra, None).unwrap_err(), field);
        }
    }

    #[test]
    fn a_session_is_named_by_the_header_or_the_metadata_and_takes_what_is_new_alone() {
        let named = |extra, header| asked(extra, header).map(|asked| asked.session.unwrap().to_string());
        assert_eq!(named(json!({}), Some("s:1")), Ok("s:1".to_owned()));
        assert_eq!(named(json!({"metadata": {"session": "s 1"}}), None), Ok("s 1".to_owned()));
        assert_eq!(named(json!({"metadata": {"session": "s"}}), Some("s")), Ok("s".to_owned()));
        assert_eq!(named(json!({"metadata": {"session": "s"}}), Some("t")), Err("400 metadata.session".to_owned()));
        let old = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
        assert_eq!(named(old.clone(), Some("s")), Err("400 messages[1].role".to_owned()));
        assert_eq!(asked(old, None).unwrap().messages.len(), 2);
    }
}
