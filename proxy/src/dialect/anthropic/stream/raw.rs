//! An event of this dialect as it is on the wire: one flat shape for all of them, so that nothing is read twice.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::anthropic::trouble::Said;
use crate::dialect::anthropic::usage::Counts;

/// One event.
#[derive(Deserialize)]
pub(in crate::dialect::anthropic) struct Raw<'a> {
    /// What it is; the `event:` line says the same.
    #[serde(rename = "type", borrow, default)]
    pub(in crate::dialect::anthropic) kind: Option<Words<'a>>,
    /// Which block.
    #[serde(default)]
    pub(in crate::dialect::anthropic) index: u64,
    /// What a block grows by, or how the message ends.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) delta: Option<RawDelta<'a>>,
    /// The block that begins.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) content_block: Option<&'a RawValue>,
    /// The message that begins.
    #[serde(default)]
    pub(in crate::dialect::anthropic) message: Option<RawMessage>,
    /// Totals so far.
    #[serde(default)]
    pub(in crate::dialect::anthropic) usage: Option<Counts>,
    /// What went wrong.
    #[serde(default)]
    pub(in crate::dialect::anthropic) error: Option<Said>,
}

/// The message that begins.
#[derive(Deserialize)]
pub(in crate::dialect::anthropic) struct RawMessage {
    /// Its id.
    #[serde(default)]
    pub(in crate::dialect::anthropic) id: String,
    /// Who answers.
    #[serde(default)]
    pub(in crate::dialect::anthropic) model: String,
    /// What is known of the usage already.
    #[serde(default)]
    pub(in crate::dialect::anthropic) usage: Option<Counts>,
}

/// A change of a block or of the message.
#[derive(Deserialize)]
pub(in crate::dialect::anthropic) struct RawDelta<'a> {
    /// `text_delta` and so on.
    #[serde(rename = "type", borrow, default)]
    pub(in crate::dialect::anthropic) kind: Option<Words<'a>>,
    /// Of `text_delta`.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) text: Option<Words<'a>>,
    /// Of `thinking_delta`.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) thinking: Option<Words<'a>>,
    /// Of `signature_delta`.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) signature: Option<Words<'a>>,
    /// Of `input_json_delta`.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) partial_json: Option<Words<'a>>,
    /// Why the message ends.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) stop_reason: Option<Words<'a>>,
    /// Which text ended it.
    #[serde(borrow, default)]
    pub(in crate::dialect::anthropic) stop_sequence: Option<Words<'a>>,
}

/// A string, in place where nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
pub(in crate::dialect::anthropic) struct Words<'a>(#[serde(borrow)] pub(in crate::dialect::anthropic) Cow<'a, str>);

impl<'a> Raw<'a> {
    /// Reads an event's data; `None` when it is none.
    pub(in crate::dialect::anthropic) fn parse(data: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    /// What it is, by its data, else by its `event:` line.
    pub(in crate::dialect::anthropic) fn name<'b>(&'b self, event: Option<&'b str>) -> &'b str {
        self.kind.as_ref().map_or_else(|| event.unwrap_or_default(), |kind| kind.0.as_ref())
    }
}
