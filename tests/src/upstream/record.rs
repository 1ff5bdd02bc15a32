//! What the upstream received, and what it would send an invoice for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::Value;

/// The provider's own account of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bill {
    /// The model that ran.
    pub model: String,
    /// All prompt tokens.
    pub prompt: u64,
    /// Of these, read from the cache.
    pub cached: u64,
    /// All completion tokens generated so far.
    pub completion: u64,
    /// Of these, reasoning.
    pub reasoning: u64,
    /// What is billed otherwise.
    pub pieces: Pieces,
    /// True once the provider charges for the request.
    pub billed: bool,
    /// True when the whole answer, usage included, was written out.
    pub complete: bool,
}

/// What a provider bills beside tokens of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    /// Tokens of the images of a prompt.
    pub image_tokens: u64,
    /// Tokens of what was heard.
    pub heard_tokens: u64,
    /// Tokens of what was spoken.
    pub spoken_tokens: u64,
    /// Images that are billed by the piece: size and quality of each.
    pub images: Vec<(String, String)>,
    /// Characters that are billed.
    pub characters: u64,
    /// Milliseconds that were heard and are billed.
    pub heard_ms: u64,
}

/// One request as it came over the wire, and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// Order of arrival, from 0.
    pub sequence: u64,
    /// Which connection carried it, from 0.
    pub connection: u64,
    /// The method.
    pub method: String,
    /// The target.
    pub path: String,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body with the transfer coding taken off.
    pub body: Vec<u8>,
    /// When the request was complete.
    pub received_at: Instant,
    pub(super) bill: Mutex<Bill>,
    pub(super) closed_at: Mutex<Option<Instant>>,
    pub(super) content_chunks: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) ended: AtomicBool,
}

impl Exchange {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the gateway sends JSON upstream")
    }

    /// The bill so far.
    #[must_use]
    pub fn bill(&self) -> Bill {
        self.bill.lock().expect("unpoisoned").clone()
    }

    /// When the gateway closed the connection under the answer, if it did.
    #[must_use]
    pub fn closed_at(&self) -> Option<Instant> {
        *self.closed_at.lock().expect("unpoisoned")
    }

    /// Content chunks written so far.
    #[must_use]
    pub fn content_chunks(&self) -> u64 {
        self.content_chunks.load(Ordering::SeqCst)
    }

    /// Bytes of the answer that the socket took so far.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::SeqCst)
    }

    /// True when the upstream is done with it, in whatever way.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
