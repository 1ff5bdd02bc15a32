//! What a test may ask of the upstream for one answer.

use std::time::Duration;

use tokio::sync::watch;

/// A latch that answers wait at until the test opens it; it stays open.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Lets everybody through, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Returns once the gate is open.
    pub async fn passed(&self) {
        let mut seen = self.0.subscribe();
        let open = seen.wait_for(|open| *open).await;
        assert!(open.is_ok(), "the gate itself holds the sender");
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// An error answer with OpenAI's body for that status.
    Status {
        /// The status code.
        code: u16,
        /// Seconds of `retry-after`, if sent.
        retry_after: Option<u32>,
    },
    /// A 200 whose body is not JSON.
    InvalidJson,
    /// A complete answer without any usage.
    NoUsage,
    /// After this many content chunks an SSE event with a top-level `error`, then the end, without `[DONE]`.
    ErrorEventAfter(usize),
    /// After this many content chunks nothing more, the connection stays open.
    StallAfter(usize),
    /// After this many content chunks the connection is closed in the middle of the chunked body.
    CutAfter(usize),
    /// The connection is closed after this many bytes of the answer, head included.
    HangUpAtByte(usize),
    /// The request is read and never answered.
    Silent,
    /// One SSE event of this many bytes without a newline.
    HugeEvent(usize),
    /// Content chunks without end, as fast as they are taken.
    Endless,
}

/// How the bytes reach the socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// Each piece in one write.
    #[default]
    Whole,
    /// Each byte in a write of its own.
    EachByte,
    /// The body in two writes, split at this offset of its content.
    SplitAt(usize),
}

/// One answer's script. The default is a good answer of five words.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// Words (one token each) of the answer, less where the request's output cap is lower.
    pub words: usize,
    /// The answer's text in place of generated words, one chunk each.
    pub texts: Option<Vec<String>>,
    /// Prompt tokens of the usage; `None` counts the prompt's words.
    pub prompt_tokens: Option<u64>,
    /// Of these, tokens that came from the cache.
    pub cached_tokens: u64,
    /// The answer is a call of the request's first tool; its words are the arguments.
    pub calls_tool: bool,
    /// The tool that it calls, where that is not the first.
    pub tool: Option<&'static str>,
    /// It acts on what it is asked: calls tools and repeats what they gave, fills in schemas, says what it sees. No cap cuts it.
    pub acts: bool,
    /// Reasoning tokens, inside the completion tokens.
    pub reasoning_tokens: u64,
    /// The service tier that the answer names; `None` names none.
    pub service_tier: Option<&'static str>,
    /// Bytes added to the answer of a non-stream chat, as padding of the text.
    pub padding_bytes: usize,
    /// A pause before the first byte.
    pub delay: Duration,
    /// A gate before the content chunk of this index (0: before the head).
    pub gate: Option<(usize, Gate)>,
    /// What goes wrong.
    pub fault: Fault,
    /// How the bytes are cut into writes.
    pub pace: Pace,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            words: 5,
            texts: None,
            prompt_tokens: None,
            cached_tokens: 0,
            calls_tool: false,
            tool: None,
            acts: false,
            reasoning_tokens: 0,
            service_tier: Some("default"),
            padding_bytes: 0,
            delay: Duration::ZERO,
            gate: None,
            fault: Fault::None,
            pace: Pace::Whole,
        }
    }
}

impl Behaviour {
    /// A good answer of `words` words.
    #[must_use]
    pub fn words(words: usize) -> Self {
        Self { words, ..Self::default() }
    }

    /// An answer that acts on what was asked.
    #[must_use]
    pub fn agent() -> Self {
        Self { acts: true, ..Self::default() }
    }

    /// An answer in which `fault` happens.
    #[must_use]
    pub fn fault(fault: Fault) -> Self {
        Self { fault, ..Self::default() }
    }

    /// An error answer with this status.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::fault(Fault::Status { code, retry_after: None })
    }

    /// A good answer of `words` words that waits at `gate` before content chunk `at`.
    #[must_use]
    pub fn gated(words: usize, at: usize, gate: &Gate) -> Self {
        Self { words, gate: Some((at, gate.clone())), ..Self::default() }
    }
}
