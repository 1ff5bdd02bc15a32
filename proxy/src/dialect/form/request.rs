//! What is asked: prompt, tools, and how to answer.

use serde_json::{Map, Number, Value};

/// A whole request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request {
    /// The model, as the upstream names it.
    pub(crate) model: String,
    /// The system prompt: text parts, in order.
    pub(crate) system: Vec<Part>,
    /// The conversation. Neighbours may have the same role; a dialect that does not allow it joins them.
    pub(crate) turns: Vec<Turn>,
    /// Functions that the model may call.
    pub(crate) tools: Vec<Tool>,
    /// Whether and which it must call.
    pub(crate) tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub(crate) parallel_tools: Option<bool>,
    /// The cap on each answer's tokens, reasoning included.
    pub(crate) max_output: Option<u32>,
    /// How tokens are drawn.
    pub(crate) sampling: Sampling,
    /// Answers to generate; 0 and 1 are one.
    pub(crate) choices: u32,
    /// What the answer must look like.
    pub(crate) output: OutputForm,
    /// Thinking before the answer.
    pub(crate) reasoning: Option<Reasoning>,
    /// `low`, `medium` or `high`.
    pub(crate) verbosity: Option<String>,
    /// Whom it is for.
    pub(crate) user: Option<String>,
    /// The client's own notes.
    pub(crate) metadata: Map<String, Value>,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turn {
    /// Whose.
    pub(crate) role: Role,
    /// What was said, in order.
    pub(crate) parts: Vec<Part>,
}

/// Whose turn it is. Tool results are parts of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The user's.
    User,
    /// The model's.
    Assistant,
    /// An instruction in the midst of a conversation. A dialect without such turns makes it a user's.
    System,
}

/// A part of a prompt or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// The prompt up to here is to be cached.
        cache: Option<Cache>,
    },
    /// An image.
    Image {
        /// Where it is.
        source: Source,
        /// `low`, `high` or `auto`.
        detail: Option<String>,
        /// As for text.
        cache: Option<Cache>,
    },
    /// A file, such as a PDF.
    Document {
        /// Where it is.
        source: Source,
        /// Its name.
        name: Option<String>,
        /// As for text.
        cache: Option<Cache>,
    },
    /// Sound.
    Audio {
        /// Such as `audio/wav`.
        media_type: String,
        /// Base64.
        data: String,
    },
    /// What the model thought, as far as it shows it.
    Thinking {
        /// The text, or its summary.
        text: String,
        /// The provider's proof that it wrote it: must come back as it was.
        signature: Option<String>,
    },
    /// Thoughts that the provider hides.
    RedactedThinking {
        /// To be sent back as it was.
        data: String,
    },
    /// The model calls a function.
    ToolCall {
        /// Links the result to the call.
        id: String,
        /// The function.
        name: String,
        /// Its arguments: the text of a JSON object, as the model wrote it.
        arguments: String,
        /// As for thinking; Gemini signs calls.
        signature: Option<String>,
    },
    /// What a function returned.
    ToolResult {
        /// The call's id.
        id: String,
        /// Text, images and documents.
        content: Vec<Part>,
        /// It failed.
        is_error: bool,
        /// As for text.
        cache: Option<Cache>,
    },
    /// The model declines.
    Refusal {
        /// In these words.
        text: String,
    },
}

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// In place.
    Data {
        /// Such as `image/png`.
        media_type: String,
        /// Base64.
        data: String,
    },
    /// At an address.
    Url(String),
    /// At the provider, by its id.
    File(String),
    /// In place, as plain text.
    Text(String),
}

/// How long a prompt's beginning is to be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Five minutes.
    Short,
    /// An hour.
    Long,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) description: Option<String>,
    /// The JSON schema of its arguments; an object.
    pub(crate) parameters: Value,
    /// Whether arguments must match the schema exactly.
    pub(crate) strict: Option<bool>,
    /// As for text.
    pub(crate) cache: Option<Cache>,
}

/// Whether and which function the model must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
}

/// How tokens are drawn. Absent is the provider's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sampling {
    /// See the dialects.
    pub(crate) temperature: Option<Number>,
    /// See the dialects.
    pub(crate) top_p: Option<Number>,
    /// See the dialects.
    pub(crate) top_k: Option<Number>,
    /// See the dialects.
    pub(crate) seed: Option<Number>,
    /// See the dialects.
    pub(crate) frequency_penalty: Option<Number>,
    /// See the dialects.
    pub(crate) presence_penalty: Option<Number>,
    /// Texts that end the answer.
    pub(crate) stop: Vec<String>,
    /// Whether log probabilities are wanted, and of how many candidates.
    pub(crate) logprobs: Option<u32>,
}

/// What the answer must look like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum OutputForm {
    /// Text.
    #[default]
    Text,
    /// Some JSON object.
    Json,
    /// JSON by a schema.
    Schema {
        /// The schema's name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// The schema.
        schema: Value,
        /// Whether the answer must match exactly.
        strict: Option<bool>,
    },
}

/// Thinking before the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    /// How much.
    pub(crate) effort: Option<Effort>,
    /// At most this many tokens.
    pub(crate) budget_tokens: Option<u32>,
    /// Whether the client wants to see it, or a summary.
    pub(crate) shown: Option<bool>,
}

/// How much to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    /// Not at all.
    None,
    /// As little as possible.
    Minimal,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// Much.
    High,
    /// More than that (`xhigh`).
    Higher,
    /// As much as possible.
    Max,
}

impl Effort {
    /// The budget in tokens that stands for it where a dialect counts; the figures that LiteLLM and OpenRouter agree on.
    pub(crate) fn budget_tokens(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1_024,
            Self::Medium => 2_048,
            Self::High => 4_096,
            Self::Higher => 8_192,
            Self::Max => 16_384,
        }
    }

    /// The effort that a budget stands for.
    pub(crate) fn of_budget(tokens: u32) -> Self {
        match tokens {
            0 => Self::None,
            1..=1_024 => Self::Low,
            1_025..=2_048 => Self::Medium,
            2_049..=8_192 => Self::High,
            _ => Self::Max,
        }
    }
}

impl Part {
    /// Plain text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None }
    }
}
