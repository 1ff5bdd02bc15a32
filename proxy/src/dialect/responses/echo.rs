//! What a response object repeats of its request, and the object itself.

use std::borrow::Cow;

use openclawmu_store::{ServiceTier, Usage};
use serde_json::{Map, Value, json};

use super::usage;
use crate::dialect::Shown;
use crate::dialect::openai::service;

/// The fields of a request as its response repeats them, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Echo(Map<String, Value>);

/// What a response object says of itself.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) status: &'a str,
    pub(super) completed_at: Option<i64>,
    pub(super) error: Value,
    pub(super) incomplete: Option<&'a str>,
    pub(super) output: Vec<Value>,
    pub(super) usage: Option<Usage>,
}

impl Echo {
    /// What an answer repeats; the defaults where nothing is known of the request.
    pub(super) fn shown(shown: &Shown) -> Cow<'_, Self> {
        match &shown.echo {
            Some(echo) => Cow::Borrowed(echo),
            None => Cow::Owned(Self::of(&Map::new())),
        }
    }

    /// Says at which tier it is served.
    pub(crate) fn served(&mut self, tier: ServiceTier) {
        if let Some(name) = service::name(tier) {
            self.0.insert("service_tier".into(), name.into());
        }
    }

    /// Says that the response is not kept, whatever was asked.
    pub(crate) fn not_kept(&mut self) {
        self.0.insert("store".into(), false.into());
    }

    /// From the request's members; those that are missing get the schema's default.
    pub(super) fn of(request: &Map<String, Value>) -> Self {
        let defaults = json!({
            "background": false,
            "conversation": null,
            "frequency_penalty": 0,
            "instructions": null,
            "max_output_tokens": null,
            "max_tool_calls": null,
            "metadata": {},
            "moderation": null,
            "parallel_tool_calls": true,
            "presence_penalty": 0,
            "previous_response_id": null,
            "prompt": null,
            "prompt_cache_key": null,
            "prompt_cache_options": null,
            "prompt_cache_retention": null,
            "reasoning": {"effort": null, "summary": null},
            "safety_identifier": null,
            "service_tier": "default",
            "store": true,
            "temperature": 1,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "tool_choice": "auto",
            "tools": [],
            "top_logprobs": 0,
            "top_p": 1,
            "truncation": "disabled",
            "user": null,
        });
        let Value::Object(mut fields) = defaults else { return Self(Map::new()) };
        for (name, field) in &mut fields {
            match (name.as_str(), request.get(name)) {
                (_, None | Some(Value::Null)) | ("service_tier", _) => {}
                ("text" | "reasoning", Some(Value::Object(asked))) => {
                    if let Some(known) = field.as_object_mut() {
                        known.extend(asked.clone());
                    }
                }
                ("tools", Some(Value::Array(tools))) => *field = tools.iter().map(tool).collect(),
                (_, Some(asked)) => *field = asked.clone(),
            }
        }
        Self(fields)
    }

    /// The whole object.
    pub(super) fn object(&self, shown: &Shown, state: State<'_>) -> Value {
        let mut object = Map::new();
        object.insert("id".into(), format!("resp_{}", shown.id).into());
        object.insert("object".into(), "response".into());
        object.insert("created_at".into(), shown.created.into());
        object.insert("completed_at".into(), state.completed_at.into());
        object.insert("status".into(), state.status.into());
        object.insert("error".into(), state.error);
        object.insert("incomplete_details".into(), state.incomplete.map_or(Value::Null, |why| json!({"reason": why})));
        object.insert("model".into(), shown.model.as_str().into());
        object.insert("output".into(), state.output.into());
        object.insert("usage".into(), state.usage.map_or(Value::Null, |used| usage::write(&used)));
        object.extend(self.0.clone());
        Value::Object(object)
    }
}

/// A function with every field of its schema.
fn tool(tool: &Value) -> Value {
    let mut whole = json!({"type": "function", "name": null, "description": null, "parameters": null, "strict": null});
    if let (Some(whole), Some(tool)) = (whole.as_object_mut(), tool.as_object()) {
        whole.extend(tool.clone());
    }
    whole
}
