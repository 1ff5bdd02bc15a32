//! What is answered, whole.

use openclawmu_store::Usage;
use serde_json::Value;

use super::Part;

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reply {
    /// The provider's id of it.
    pub(crate) id: String,
    /// The model that answered, as the provider names it.
    pub(crate) model: String,
    /// The answers, by their index.
    pub(crate) choices: Vec<Choice>,
    /// What was used, where the provider says.
    pub(crate) usage: Option<Usage>,
}

/// One answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// What it says: text, thinking, calls, refusals.
    pub(crate) parts: Vec<Part>,
    /// Why it ended.
    pub(crate) stop: Option<Stop>,
    /// Log probabilities, in the `OpenAI` shape (`{"content": [...]}`).
    pub(crate) logprobs: Option<Value>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It was complete.
    End,
    /// The cap on its tokens was reached.
    MaxTokens,
    /// The context window is full.
    ContextFull,
    /// One of the texts that end it came up.
    Sequence(Option<String>),
    /// Functions are to be called.
    ToolUse,
    /// A filter cut it.
    Filter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn; the client may go on.
    Pause,
}
