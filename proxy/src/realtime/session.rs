//! What the gateway owns of a session's settings, in both of the shapes that the API has had: who begins a response, how long
//! one can be, and that no other model works beside it.

use serde_json::{Map, Value, json};

use crate::refusal::Refusal;

/// What a conversation may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// The most tokens that one response can have.
    pub(super) cap: u32,
    /// The model as the client calls it.
    pub(super) asked: String,
    /// The model as the provider calls it.
    pub(super) model: String,
}

/// The names of a response's cap: today's, and the beta's.
const CAPS: [&str; 2] = ["max_output_tokens", "max_response_output_tokens"];
/// Fields of a session that only a transcription by another model reads, as paths.
const TRANSCRIPTIONS: [&[&str]; 2] = [&["input_audio_transcription"], &["audio", "input", "transcription"]];
/// Where the detection of turns is set, as paths.
const TURNS: [&[&str]; 2] = [&["turn_detection"], &["audio", "input", "turn_detection"]];

fn at<'v>(map: &'v Map<String, Value>, path: &[&str]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get(*first)?, |value, key| value.get(key))
}

fn at_mut<'v>(map: &'v mut Map<String, Value>, path: &[&str]) -> Option<&'v mut Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(map.get_mut(*first)?, |value, key| value.get_mut(key))
}

impl Rules {
    /// Edits what a client wants a session to be: true or false where it says whether turns are to be answered unasked.
    ///
    /// # Errors
    /// 400 for what can't be bounded, or is not the caller's to choose.
    pub(super) fn session(&self, session: &mut Map<String, Value>) -> Result<Option<bool>, Refusal> {
        if session.get("type").is_some_and(|kind| kind != "realtime") {
            return Err(refused("session.type", "A session over this WebSocket is of type `realtime`."));
        }
        for path in TRANSCRIPTIONS {
            if at(session, path).is_some_and(|wanted| !wanted.is_null()) {
                let message = "Transcription is another model's work, whose cost this gateway cannot bound.";
                return Err(refused(format!("session.{}", path.join(".")), message));
            }
        }
        self.either("session", session)?;
        let mut answers = None;
        for path in TURNS {
            if let Some(turns) = at_mut(session, path) {
                answers = Some(own_turns(turns, path)?);
            }
        }
        Ok(answers)
    }

    /// Edits what a client wants a response to be.
    ///
    /// # Errors
    /// As [`Rules::session`].
    pub(super) fn response(&self, response: &mut Map<String, Value>) -> Result<(), Refusal> {
        self.either("response", response)
    }

    /// What a session and a response have in common.
    fn either(&self, of: &str, settings: &mut Map<String, Value>) -> Result<(), Refusal> {
        if settings.get("prompt").is_some_and(|prompt| !prompt.is_null()) {
            let message = "Stored prompts belong to the operator's account and cannot be used through this gateway.";
            return Err(refused(format!("{of}.prompt"), message));
        }
        if let Some(tools) = settings.get("tools") {
            check_tools(of, tools)?;
        }
        if let Some(model) = settings.get_mut("model") {
            if !model.is_null() && *model != self.asked && *model != self.model {
                return Err(refused(format!("{of}.model"), "The model of this WebSocket cannot be changed."));
            }
            *model = Value::from(self.model.as_str());
        }
        for name in CAPS {
            if let Some(cap) = settings.get_mut(name).filter(|cap| self.exceeds(cap)) {
                *cap = Value::from(self.cap);
            }
        }
        Ok(())
    }

    /// Whether a cap is none, or above what is reserved.
    fn exceeds(&self, cap: &Value) -> bool {
        match cap {
            Value::Null | Value::String(_) => true,
            Value::Number(number) => number.as_u64().is_some_and(|tokens| tokens > u64::from(self.cap)),
            // The provider refuses what is no cap at all.
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
        }
    }

    /// What must be set in a session that a provider has begun: its settings, and whether it would answer turns unasked.
    pub(super) fn first_update(&self, session: &Map<String, Value>) -> (Value, bool) {
        let beta = !session.contains_key("audio") && session.get("type").is_none_or(|kind| kind != "realtime");
        let path = if beta { TURNS[0] } else { TURNS[1] };
        let mut answers = false;
        let turns = at(session, path).and_then(Value::as_object).map(|turns| {
            let mut turns: Map<String, Value> = turns.clone();
            turns.retain(|_, value| !value.is_null());
            answers = turns.insert("create_response".to_owned(), Value::Bool(false)) != Some(Value::Bool(false));
            turns.remove("idle_timeout_ms");
            turns
        });
        let transcribes = TRANSCRIPTIONS.iter().any(|path| at(session, path).is_some_and(|wanted| !wanted.is_null()));
        let mut input = Map::new();
        if let Some(turns) = turns {
            input.insert("turn_detection".to_owned(), Value::Object(turns));
        }
        if transcribes {
            let name = if beta { "input_audio_transcription" } else { "transcription" };
            input.insert(name.to_owned(), Value::Null);
        }
        let update = if beta {
            input.insert("max_response_output_tokens".to_owned(), self.cap.into());
            Value::Object(input)
        } else if input.is_empty() {
            json!({"type": "realtime", "max_output_tokens": self.cap})
        } else {
            json!({"type": "realtime", "max_output_tokens": self.cap, "audio": {"input": input}})
        };
        (update, answers)
    }

    /// Whether a session is bounded as it stands at the provider: it answers nothing unasked, no response can be longer than
    /// what is reserved, and nobody transcribes.
    pub(super) fn holds(&self, session: &Map<String, Value>) -> bool {
        let quiet = TURNS.iter().all(|path| {
            at(session, path).is_none_or(|turns| {
                let kept = turns.get("create_response") == Some(&Value::Bool(false));
                let asleep = turns.get("idle_timeout_ms").is_none_or(Value::is_null);
                turns.is_null() || turns.get("type").is_some_and(|kind| kind == "none") || (kept && asleep)
            })
        });
        let alone = TRANSCRIPTIONS.iter().all(|path| at(session, path).is_none_or(Value::is_null));
        let mut caps = CAPS.iter().filter_map(|name| session.get(*name)).peekable();
        quiet && alone && caps.peek().is_some() && caps.all(|cap| !self.exceeds(cap))
    }
}

/// A session's event as the client gets it: where the gateway asks for the answers to turns on its behalf, they are answered.
pub(super) fn shown(event: &str) -> Option<String> {
    let mut event: Map<String, Value> = serde_json::from_str(event).ok()?;
    let session = event.get_mut("session")?.as_object_mut()?;
    for path in TURNS {
        if let Some(answers) = at_mut(session, path).and_then(|turns| turns.get_mut("create_response")) {
            *answers = Value::Bool(true);
        }
    }
    Some(Value::Object(event).to_string())
}

/// The gateway asks for the answers to turns: true where the client wants them answered.
fn own_turns(turns: &mut Value, path: &[&str]) -> Result<bool, Refusal> {
    let Some(set) = turns.as_object_mut() else { return Ok(false) };
    if set.get("type").is_some_and(|kind| kind == "none") {
        return Ok(false);
    }
    let of = path.join(".");
    if set.get("idle_timeout_ms").is_some_and(|timeout| !timeout.is_null()) {
        let message = "A response that nobody asks for cannot be bounded.";
        return Err(refused(format!("session.{of}.idle_timeout_ms"), message));
    }
    match set.insert("create_response".to_owned(), Value::Bool(false)) {
        None | Some(Value::Null | Value::Bool(true)) => Ok(true),
        Some(Value::Bool(false)) => Ok(false),
        Some(Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(refused(format!("session.{of}.create_response"), "`create_response` is true or false."))
        }
    }
}

/// Only functions of the client's own: what a provider runs costs what nobody here knows.
fn check_tools(of: &str, tools: &Value) -> Result<(), Refusal> {
    let functions = match tools {
        Value::Null => true,
        Value::Array(tools) => tools.iter().all(|tool| tool.get("type").is_some_and(|kind| kind == "function")),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => false,
    };
    if functions {
        return Ok(());
    }
    let message =
        "Only tools of type `function` can be used through this gateway; the cost of others cannot be bounded.";
    Err(refused(format!("{of}.tools"), message))
}

fn refused(param: impl Into<std::borrow::Cow<'static, str>>, message: &str) -> Refusal {
    Refusal::bad(param, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules { cap: 4_096, asked: "voice".to_owned(), model: "gpt-realtime".to_owned() }
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn edited(session: Value) -> Result<(Value, Option<bool>), String> {
        let mut session = map(session);
        match rules().session(&mut session) {
            Ok(answers) => Ok((Value::Object(session), answers)),
            Err(refusal) => Err(refusal.told().param.unwrap_or_default().into_owned()),
        }
    }

    #[test]
    fn the_gateway_owns_who_answers_and_how_long_an_answer_can_be() {
        let turns =
            |kind: &str, answers: bool| json!({"type": kind, "create_response": answers, "interrupt_response": true});
        let ga = |turns: Value, cap: Value| json!({"type": "realtime", "audio": {"input": {"turn_detection": turns}}, "max_output_tokens": cap, "new": [1]});
        for (cap, becomes) in [(json!("inf"), 4_096), (json!(9_000), 4_096), (json!(null), 4_096), (json!(17), 17)] {
            let (session, answers) =
                edited(ga(json!({"type": "server_vad", "interrupt_response": true}), cap)).unwrap();
            let expected = json!({"type": "server_vad", "interrupt_response": true, "create_response": false});
            assert_eq!(session, ga(expected, json!(becomes)));
            assert_eq!(answers, Some(true));
        }
        assert_eq!(edited(ga(turns("semantic_vad", false), json!(1))).unwrap().1, Some(false));
        assert_eq!(edited(ga(json!(null), json!(1))).unwrap().1, Some(false));
        assert_eq!(edited(json!({"instructions": "Be kind."})).unwrap().1, None);
        let beta = json!({"turn_detection": turns("server_vad", true), "max_response_output_tokens": "inf"});
        let expected = json!({"turn_detection": turns("server_vad", false), "max_response_output_tokens": 4_096});
        assert_eq!(edited(beta).unwrap(), (expected, Some(true)));
    }

    #[test]
    fn what_cannot_be_bounded_is_refused_by_name() {
        for (session, param) in [
            (json!({"type": "transcription"}), "session.type"),
            (json!({"model": "gpt-other"}), "session.model"),
            (json!({"prompt": {"id": "pmpt_1"}}), "session.prompt"),
            (json!({"input_audio_transcription": {"model": "whisper-1"}}), "session.input_audio_transcription"),
            (json!({"audio": {"input": {"transcription": {}}}}), "session.audio.input.transcription"),
            (json!({"tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]}), "session.tools"),
            (json!({"tools": [{"name": "f"}]}), "session.tools"),
            (
                json!({"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}),
                "session.turn_detection.idle_timeout_ms",
            ),
            (
                json!({"turn_detection": {"type": "server_vad", "create_response": "yes"}}),
                "session.turn_detection.create_response",
            ),
        ] {
            assert_eq!(edited(session.clone()), Err(param.to_owned()), "{session}");
        }
        assert_eq!(edited(json!({"model": "voice"})).unwrap().0, json!({"model": "gpt-realtime"}));
        assert!(edited(json!({"tools": [{"type": "function", "name": "f"}], "prompt": null})).is_ok());
        let refused = rules().response(&mut map(json!({"tools": [{"type": "mcp"}]}))).unwrap_err();
        assert_eq!(refused.told().param.unwrap(), "response.tools");
    }

    #[test]
    fn a_session_is_set_up_before_anybody_speaks_and_known_to_be() {
        let turns = json!({"type": "server_vad", "threshold": 0.5, "create_response": true, "idle_timeout_ms": null});
        let ga =
            map(json!({"type": "realtime", "max_output_tokens": "inf", "audio": {"input": {"turn_detection": turns}}}));
        let quiet = json!({"type": "server_vad", "threshold": 0.5, "create_response": false});
        let update =
            json!({"type": "realtime", "max_output_tokens": 4096, "audio": {"input": {"turn_detection": quiet}}});
        assert_eq!(rules().first_update(&ga), (update.clone(), true));
        assert!(!rules().holds(&ga) && rules().holds(&map(update)));
        let beta = map(json!({
            "max_response_output_tokens": "inf", "turn_detection": null, "input_audio_transcription": {"model": "whisper-1"}
        }));
        let update = json!({"max_response_output_tokens": 4096, "input_audio_transcription": null});
        assert_eq!(rules().first_update(&beta), (update.clone(), false));
        assert!(!rules().holds(&beta) && rules().holds(&map(update)));
        assert!(!rules().holds(&map(json!({"type": "realtime"}))), "a cap that nobody confirms holds nothing");
    }
}
