//! Speech made of text, and text of speech.

use super::given::{Given, missing};
use super::sound::{self, Length};
use crate::dialect::openai::owned::parse;
use crate::refusal::Refusal;

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Speech {
    /// Characters of the text.
    pub(crate) characters: u32,
    /// Bytes of the text, and of how it is to be said.
    pub(crate) text_bytes: usize,
    /// Whether it is to be said slower than is usual.
    pub(crate) slow: bool,
    /// Whether the answer is to be samples alone, without a head that says so.
    pub(crate) bare: bool,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// How long the recording is.
    pub(crate) length: Length,
    /// Bytes of the prompt.
    pub(crate) prompt_bytes: usize,
    /// Whether it is heard in parts, each with the prompt.
    pub(crate) chunked: bool,
}

/// Reads a request for speech, and whether it wants a stream of events.
pub(super) fn speech(given: &Given<'_>) -> Result<(Speech, bool), Refusal> {
    let input = given.need("input")?;
    let instructions = given.string("instructions")?.unwrap_or_default();
    let speed: f64 = parse(given.raw("speed")?, "speed", "a number")?.unwrap_or(1.0);
    if !(0.25..=4.0).contains(&speed) {
        return Err(Refusal::bad("speed", "`speed` must be a number from 0.25 to 4."));
    }
    let stream = match given.string("stream_format")?.as_deref() {
        None | Some("audio") => false,
        Some("sse") => true,
        Some(_) => return Err(Refusal::bad("stream_format", "`stream_format` must be `audio` or `sse`.")),
    };
    let characters = u32::try_from(input.chars().count()).unwrap_or(u32::MAX);
    let text_bytes = input.len().saturating_add(instructions.len());
    let bare = given.string("response_format")?.as_deref() == Some("pcm");
    Ok((Speech { characters, text_bytes, slow: speed < 1.0, bare }, stream))
}

/// Reads a request for a transcript or a translation, and whether it wants a stream of events.
pub(super) fn transcript(given: &Given<'_>) -> Result<(Transcript, bool), Refusal> {
    let file = given.files("file").next().filter(|file| !file.is_empty()).ok_or_else(|| missing("file"))?;
    let prompt_bytes = given.raw("prompt")?.unwrap_or_default().len();
    let chunked = given.raw("chunking_strategy")?.is_some();
    let stream = given.flag("stream")?;
    Ok((Transcript { length: sound::length(file), prompt_bytes, chunked }, stream))
}
