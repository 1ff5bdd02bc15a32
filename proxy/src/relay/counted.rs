//! What has been relayed of a stream, as far as a bill depends on it.

use bytes::Bytes;
use openclawmu_store::{ServiceTier, Usage};

use super::stream::Fin;
use crate::way::Heard;

/// What has been relayed of a stream.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// The provider's usage; the last statement wins.
    pub(super) usage: Option<Usage>,
    /// The service tier; the last statement wins.
    pub(super) service_tier: Option<ServiceTier>,
    pub(super) text_bytes: usize,
    /// Events that carried text: providers send about one a token.
    pub(super) text_events: u32,
    pub(super) tool_calls: u32,
    pub(super) events: u32,
    pub(super) finished: bool,
    pub(super) error: bool,
    /// The bytes of the last event, held back until the answer is settled.
    pub(super) last: Bytes,
}

impl Counted {
    /// How it came to its end.
    pub(super) fn fin(&self) -> Fin {
        if self.error { Fin::AfterError } else { Fin::Done }
    }

    /// Adds an event.
    pub(super) fn add(&mut self, event: &Heard) {
        if event.usage.is_some() {
            self.usage = event.usage;
        }
        if event.service_tier.is_some() {
            self.service_tier = event.service_tier;
        }
        self.text_bytes = self.text_bytes.saturating_add(event.text_bytes);
        self.text_events += u32::from(event.text_bytes > 0);
        self.tool_calls += event.tool_calls;
        self.events += u32::from(!event.error);
        self.finished |= event.finished;
        self.error |= event.error;
    }
}
