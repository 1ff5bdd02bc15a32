//! What is answered, bit by bit. In order: `Start`; parts, each opened, grown and closed; for each choice a `Stop`; `Usage`
//! whenever something is known of it, the last one counts; `End`. An `Error` ends everything.

use openclawmu_store::Usage;
use serde_json::Value;

use super::Stop;

/// One step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// It begins.
    Start {
        /// The provider's id of it.
        id: String,
        /// The model that answers.
        model: String,
    },
    /// A part begins. Parts of a choice are numbered from 0 without gaps and may overlap only where the upstream's do.
    Open {
        /// Which answer.
        choice: u32,
        /// Which part of it.
        part: u32,
        /// What it will be.
        opening: Opening,
    },
    /// A part grows.
    Grow {
        /// Which answer.
        choice: u32,
        /// Which part of it.
        part: u32,
        /// By what.
        delta: Delta,
    },
    /// A part is complete.
    Close {
        /// Which answer.
        choice: u32,
        /// Which part of it.
        part: u32,
    },
    /// Log probabilities of what has just been said, in the `OpenAI` shape.
    Logprobs {
        /// Which answer.
        choice: u32,
        /// `{"content": [...]}`
        logprobs: Value,
    },
    /// An answer ends.
    Stop {
        /// Which answer.
        choice: u32,
        /// Why.
        stop: Stop,
    },
    /// What has been used so far, everything together.
    Usage(Usage),
    /// A sign of life.
    Ping,
    /// Everything has been said.
    End,
    /// The upstream failed in the midst of it.
    Error(Trouble),
}

/// What a part will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Text.
    Text,
    /// Thinking.
    Thinking,
    /// Thoughts that the provider hides; complete as they are.
    RedactedThinking {
        /// To be sent back as it was.
        data: String,
    },
    /// A function call.
    ToolCall {
        /// Links the result to the call.
        id: String,
        /// The function.
        name: String,
    },
    /// The model declines.
    Refusal,
}

/// What a part grows by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delta {
    /// Text, of text, thinking or a refusal.
    Text(String),
    /// The text of a call's arguments.
    Arguments(String),
    /// The signature of thinking or of a call.
    Signature(String),
}

/// What an upstream says went wrong, in whatever dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What kind of thing.
    pub(crate) kind: TroubleKind,
    /// The provider's words.
    pub(crate) message: String,
    /// The field at fault, in the provider's words.
    pub(crate) param: Option<String>,
    /// The provider's own code or type.
    pub(crate) code: Option<String>,
}

/// The kinds of failures that every dialect can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TroubleKind {
    /// 400: the request can't be used.
    InvalidRequest,
    /// 401: the operator's key.
    Authentication,
    /// 403.
    Permission,
    /// 404.
    NotFound,
    /// 413.
    TooLarge,
    /// 429.
    RateLimit,
    /// 500.
    Internal,
    /// 503, 529.
    Overloaded,
    /// 504.
    Timeout,
}
