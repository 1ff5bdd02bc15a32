//! An agent's name, and what its tenant says of it. Bounds are checked here, once, whoever asks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::error::AgentError;

/// The agents of one tenant.
pub const MAX_AGENTS: usize = 50;
/// The longest instructions, in bytes: they are in every prompt.
const MAX_INSTRUCTIONS: usize = 64 << 10;
/// The most calls of the model in one turn.
const MAX_STEPS: u32 = 32;
/// The most turns of history in a prompt.
const MAX_TURNS: u32 = 200;
/// The most bytes of history in a prompt.
const MAX_HISTORY: u32 = 1 << 20;
/// The agent that is there without set-up.
const DEFAULT: &str = "default";
/// What names an agent in the place of a model: an agent has none of these.
const PREFIX: &str = "openclaw/";

/// An agent's name: 1 to 32 lower-case letters, digits and hyphens, none of these at an end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(String);

impl AgentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The agent that is there without set-up.
    #[must_use]
    pub fn of_default() -> Self {
        Self(DEFAULT.to_owned())
    }

    /// Whether it is that one.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }
}

impl FromStr for AgentName {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = [text.bytes().next(), text.bytes().last()];
        let is_slug = text.len() <= 32
            && text.bytes().all(|byte| inner(byte) || byte == b'-')
            && ends.into_iter().all(|end| end.is_some_and(inner));
        if is_slug {
            return Ok(Self(text.to_owned()));
        }
        let rule =
            "must be 1 to 32 lower-case letters, digits and hyphens, and begin and end with one of the first two";
        Err(AgentError::invalid("name", rule))
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an agent may do beside speaking
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Running code in the tenant's sandbox.
    Sandbox,
    /// Reading and writing what it remembers.
    Memory,
}

/// What is said of an agent, beside its instructions. Fields may be added, none renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The model that it asks; absent: the tenant's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it may do.
    pub tools: BTreeSet<Tool>,
    /// Calls of the model in one turn, at most.
    pub max_steps: u32,
    /// Turns of a session that are in the prompt of the next, at most.
    pub history_turns: u32,
    /// Bytes of these, at most.
    pub history_bytes: u32,
    /// When it was made.
    pub created_at_ms: i64,
    /// When it was changed last.
    pub updated_at_ms: i64,
}

impl Default for Spec {
    fn default() -> Self {
        let tools = BTreeSet::from([Tool::Memory]);
        Self {
            model: None,
            tools,
            max_steps: 8,
            history_turns: 20,
            history_bytes: 64 << 10,
            created_at_ms: 0,
            updated_at_ms: 0,
        }
    }
}

impl Spec {
    /// The same within the bounds of what can be asked for: a file may have been changed by hand, or come out of a backup.
    pub(super) fn bounded(self) -> Self {
        Self {
            model: self.model.filter(|model| check_model(model).is_ok()),
            max_steps: self.max_steps.clamp(1, MAX_STEPS),
            history_turns: self.history_turns.min(MAX_TURNS),
            history_bytes: self.history_bytes.min(MAX_HISTORY),
            ..self
        }
    }
}

/// The fields of a request that makes an agent or changes one
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFields {
    /// Its name; can't be changed.
    pub name: Option<String>,
    /// The model that it asks; null: the tenant's default.
    #[serde(default, deserialize_with = "present")]
    pub model: Option<Option<String>>,
    /// What it is to be and do, as Markdown.
    pub instructions: Option<String>,
    /// What it may do.
    pub tools: Option<BTreeSet<Tool>>,
    /// Calls of the model in one turn, at most.
    pub max_steps: Option<u32>,
    /// Turns of a session that are in the prompt of the next, at most.
    pub history_turns: Option<u32>,
    /// Bytes of these, at most.
    pub history_bytes: Option<u32>,
}

/// Tells null from what is absent.
fn present<'de, D: Deserializer<'de>>(reader: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(reader).map(Some)
}

impl AgentFields {
    /// What an agent is with these fields set.
    ///
    /// # Errors
    /// [`AgentError::Invalid`], naming the field.
    pub fn apply(&self, before: &Spec, now_ms: i64) -> Result<Spec, AgentError> {
        let within = |field, value: Option<u32>, before: u32, (least, most): (u32, u32)| match value {
            Some(value) if !(least..=most).contains(&value) => {
                Err(AgentError::invalid(field, format!("must be {least} to {most}")))
            }
            value => Ok(value.unwrap_or(before)),
        };
        if let Some(Some(model)) = &self.model {
            check_model(model)?;
        }
        if self.instructions.as_ref().is_some_and(|text| text.len() > MAX_INSTRUCTIONS) {
            return Err(AgentError::invalid("instructions", format!("must have at most {MAX_INSTRUCTIONS} bytes")));
        }
        Ok(Spec {
            model: self.model.clone().unwrap_or_else(|| before.model.clone()),
            tools: self.tools.clone().unwrap_or_else(|| before.tools.clone()),
            max_steps: within("max_steps", self.max_steps, before.max_steps, (1, MAX_STEPS))?,
            history_turns: within("history_turns", self.history_turns, before.history_turns, (0, MAX_TURNS))?,
            history_bytes: within("history_bytes", self.history_bytes, before.history_bytes, (0, MAX_HISTORY))?,
            created_at_ms: if before.created_at_ms == 0 { now_ms } else { before.created_at_ms },
            updated_at_ms: now_ms,
        })
    }
}

/// A model that an agent can ask: no other agent, so that none calls itself.
fn check_model(model: &str) -> Result<(), AgentError> {
    if model.starts_with(PREFIX) {
        return Err(AgentError::invalid("model", "must be a model: an agent asks no other agent"));
    }
    if (1..=200).contains(&model.len()) && !model.chars().any(char::is_control) {
        return Ok(());
    }
    Err(AgentError::invalid("model", "must have 1 to 200 characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-01, P-07
    #[test]
    fn a_name_is_a_slug_and_nothing_else() {
        for good in ["a", "0", "helper", "a-b", "x".repeat(32).as_str()] {
            assert_eq!(good.parse::<AgentName>().unwrap().as_str(), good);
        }
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a.b", "..", "a/b", "é", "x".repeat(33).as_str(), "a\0", "a b"] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
    }

    fn read(json: &str) -> Result<AgentFields, String> {
        serde_json::from_str(json).map_err(|err| err.to_string())
    }

    #[test]
    fn what_a_file_says_is_held_to_the_same_bounds() {
        let text = r#"{"model":"openclaw/self","max_steps":4000000000,"history_turns":900,"later":true}"#;
        let spec = serde_json::from_str::<Spec>(text).unwrap().bounded();
        assert_eq!((spec.model, spec.max_steps, spec.history_turns), (None, MAX_STEPS, MAX_TURNS));
    }

    /// N-03
    #[test]
    fn what_is_out_of_bounds_names_its_field_and_what_is_absent_stays() {
        let before = Spec { model: Some("m".to_owned()), ..Spec::default() };
        let spec = read("{}").unwrap().apply(&before, 7).unwrap();
        assert_eq!((spec.model.as_deref(), spec.created_at_ms, spec.updated_at_ms), (Some("m"), 7, 7));
        let spec = read(r#"{"model":null,"tools":["sandbox"]}"#).unwrap().apply(&spec, 9).unwrap();
        assert_eq!((spec.model, spec.created_at_ms, spec.updated_at_ms), (None, 7, 9));
        assert_eq!(spec.tools, BTreeSet::from([Tool::Sandbox]));
        let long = format!(r#"{{"instructions":"{}"}}"#, "x".repeat(MAX_INSTRUCTIONS + 1));
        for (json, named) in [
            (r#"{"max_steps":0}"#, "max_steps"),
            (r#"{"max_steps":33}"#, "max_steps"),
            (r#"{"history_turns":201}"#, "history_turns"),
            (r#"{"history_bytes":1048577}"#, "history_bytes"),
            (r#"{"model":""}"#, "model"),
            (r#"{"model":"openclaw/default"}"#, "model"),
            (long.as_str(), "instructions"),
        ] {
            let err = read(json).unwrap().apply(&before, 7).unwrap_err();
            assert!(matches!(&err, AgentError::Invalid { field, .. } if *field == named), "{named}: {err}");
        }
        for json in [r#"{"tools":["shell"]}"#, r#"{"owner":"x"}"#, r#"{"max_steps":-1}"#, r#"{"model":5}"#] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
