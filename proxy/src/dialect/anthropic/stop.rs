//! Why an answer ended, in each other's words.

use serde_json::Value;

use crate::dialect::form::{Part, Stop};

/// A provider's stop reason; one that is not known yet ends the answer.
pub(super) fn parse(reason: &str, sequence: Option<String>) -> Stop {
    match reason {
        "max_tokens" => Stop::MaxTokens,
        "model_context_window_exceeded" => Stop::ContextFull,
        "stop_sequence" => Stop::Sequence(sequence),
        "tool_use" => Stop::ToolUse,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        _ => Stop::End,
    }
}

/// `stop_reason` and `stop_sequence`. An answer that is over has a reason in this dialect, so one that was not said is made
/// of what the answer holds: calls that wait for their results, or nothing.
pub(super) fn write(stop: Option<&Stop>, calls: Calls) -> (&'static str, Value) {
    let reason = match stop {
        Some(Stop::End) => "end_turn",
        Some(Stop::MaxTokens) => "max_tokens",
        Some(Stop::ContextFull) => "model_context_window_exceeded",
        Some(Stop::Sequence(sequence)) => return ("stop_sequence", sequence.clone().map_or(Value::Null, Value::from)),
        Some(Stop::ToolUse) => "tool_use",
        Some(Stop::Filter | Stop::Refusal) => "refusal",
        Some(Stop::Pause) => "pause_turn",
        None => match calls {
            Calls::Some => "tool_use",
            Calls::None => "end_turn",
        },
    };
    (reason, Value::Null)
}

/// Whether an answer holds calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Calls {
    /// None.
    #[default]
    None,
    /// At least one.
    Some,
}

impl Calls {
    /// Of an answer's parts.
    pub(super) fn of(parts: &[Part]) -> Self {
        if parts.iter().any(|part| matches!(part, Part::ToolCall { .. })) { Self::Some } else { Self::None }
    }
}
