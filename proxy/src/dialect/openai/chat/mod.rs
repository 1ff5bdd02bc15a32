//! Chat completions to and from the form, where client and upstream speak different dialects.
//!
//! - `parse`: a client's request to the form
//! - `messages`: its messages
//! - `write`: the form to a provider's request
//! - `reply`: a whole answer, both ways
//! - `reader`: a provider's stream to events
//! - `writer`: events to a client's stream
//!
//! Thinking has no place in `OpenAI`'s own schema. Compatible servers call it `reasoning_content` (vLLM, `DeepSeek`, `LiteLLM`) or
//! `reasoning` (`OpenRouter`, Ollama); what must come back unchanged, signatures and hidden thoughts, stands in `thinking_blocks`, as
//! `LiteLLM` does it, and a call's signature in `extra_content.google.thought_signature`, as Google does it.

mod messages;
mod parse;
mod reader;
mod reply;
mod write;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use messages::source;
pub(crate) use parse::{cache, effort, effort_name, parse};
pub(crate) use reader::Reader;
pub(crate) use reply::{parse as parse_reply, write as write_reply};
pub(crate) use write::{data_url, write};
pub(crate) use writer::Writer;
