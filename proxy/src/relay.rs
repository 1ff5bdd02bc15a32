//! Stage 6. From a reply to the client, counting: event by event for a stream, piece by piece for sound, whole otherwise.
//!
//! - `bell`: what a stream waits for beside its next event
//! - `counted`: what has been relayed of a stream
//! - `stream`: a stream, event by event
//! - `sound`: answers that are not JSON, as they come
//! - `whole`: what is no stream
//!
//! What ends the answer (`[DONE]`, the error event, the whole body) is held back until the attempt is settled, so that a client
//! that has its answer finds it in its usage.

mod bell;
mod counted;
mod sound;
mod stream;
mod whole;

use std::time::Duration;

use bytes::Bytes;
use openclawmu_store::{Outcome, ServiceTier, Store, Ticket, Tokenizer, Usage};
use serde_json::Value;
use tokio::sync::watch;

use self::counted::Counted;
use crate::admit::{Cap, Unstated, count_tokens, estimate_tokens};
use crate::answer::Head;
use crate::client::Client;
use crate::forward::Reply;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::upstream::http::Fault;
use crate::way::Way;

/// Pause between two notes of progress in the in-flight table.
const NOTE_EVERY: Duration = Duration::from_millis(100);
/// The content type of Amazon's streams.
const FRAMED: &str = "application/vnd.amazon.eventstream";

/// What came of an answer.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// What it used.
    pub(crate) usage: Usage,
    /// The tier that it is billed at.
    pub(crate) service_tier: ServiceTier,
    /// The usage is ours, not the provider's.
    pub(crate) estimated: bool,
    /// Milliseconds from admission to its first byte.
    pub(crate) first_byte_ms: u32,
    /// What is left to write.
    pub(crate) ending: Ending,
    /// The response that a stream was, where it can be kept.
    pub(crate) response: Option<Value>,
}

/// What is left to write once the attempt is settled.
#[derive(Debug)]
pub(crate) enum Ending {
    /// A whole answer.
    Whole {
        /// Its content type.
        content_type: String,
        /// Its body.
        body: Bytes,
    },
    /// The last event of a stream, perhaps empty. The body ends behind it as it should, also after an error: the head has
    /// promised the connection to the next request, which may be on its way already.
    Event(Bytes),
    /// A refusal, when nothing has been written yet.
    Refusal(Refusal),
    /// Nothing: the client is gone.
    Nothing,
    /// Nothing: the body breaks off in its middle, and its connection with it, so that nobody takes it for whole.
    Cut,
}

/// Everything that a relay needs beside the reply.
pub(crate) struct Relay<'a, 'c> {
    /// The client.
    pub(crate) client: &'a mut Client<'c>,
    /// What it asked for.
    pub(crate) call: &'a Call,
    /// Knows whether its token still holds.
    pub(crate) store: &'a Store,
    /// The reservation.
    pub(crate) ticket: &'a Ticket,
    /// The cap that was set for it.
    pub(crate) cap: Option<Cap>,
    /// The model that answers, and its encoding.
    pub(crate) model: (&'a str, Option<Tokenizer>),
    /// Turns true when the process can wait no longer.
    pub(crate) cut: watch::Receiver<bool>,
    /// What counts where the answer is silent.
    pub(crate) unstated: Unstated,
    /// How the answer becomes the client's.
    pub(crate) way: Way,
}

/// Why a reply came to no end.
enum Broken {
    ClientGone,
    Upstream(Refusal),
    /// The client's token holds no longer.
    TurnedAway(Refusal),
    Shutdown,
}

impl Relay<'_, '_> {
    /// Relays the reply.
    pub(crate) async fn run(mut self, reply: Reply) -> Relayed {
        if reply.content_type.starts_with("text/event-stream") || reply.content_type == FRAMED {
            self.stream(reply).await
        } else if self.way.is_sound(&reply.content_type) {
            self.sound(reply).await
        } else {
            self.whole(reply).await
        }
    }

    async fn begin(&mut self, content_type: &str) -> pingora::Result<()> {
        let mut head = Head::of(200, self.call.request_id, self.call.route.dialect())?;
        head.set("content-type", self.way.stream_type().unwrap_or(content_type));
        head.set("cache-control", "no-cache");
        head.set("x-accel-buffering", "no");
        head.set_attempt(self.model.0, self.cap);
        head.set_standing(&self.ticket.standing());
        head.begin(self.client).await
    }

    /// What an answer without the provider's usage probably used: its prompt, and the text that came.
    fn estimate(&self, text_bytes: usize, text_events: u32) -> Usage {
        if let Some(silent) = self.way.silent() {
            return self.with_images(silent.usage);
        }
        let input =
            count_tokens(&self.call.body, self.model.1).unwrap_or_else(|| estimate_tokens(self.call.body.len()));
        self.with_images(Usage { input, output: estimate_tokens(text_bytes).max(text_events), ..Usage::default() })
    }

    /// Whether the bill is ours: the provider says nothing, and may count what was not counted here.
    fn is_estimate(&self, stated: Option<Usage>) -> bool {
        stated.is_none() && !self.way.silent().is_some_and(|silent| silent.exact)
    }

    /// Images of the prompt are billed whether the provider counts them or not.
    fn with_images(&self, usage: Usage) -> Usage {
        Usage { input_images: self.unstated.input_images, ..usage }
    }

    /// The same without counting the prompt token by token.
    fn rough(&self, counted: &Counted) -> Usage {
        if let Some(silent) = self.way.silent() {
            return self.with_images(silent.usage);
        }
        let output = estimate_tokens(counted.text_bytes).max(counted.text_events);
        self.with_images(Usage { input: estimate_tokens(self.call.body.len()), output, ..Usage::default() })
    }
}

fn fault_refusal(fault: &Fault) -> Refusal {
    match fault {
        Fault::Timeout(_) => Refusal::UpstreamTimeout { message: "The upstream stopped sending.".to_owned() },
        Fault::Exhausted => Refusal::Exhausted,
        Fault::Connect(_) | Fault::Broken(_) => {
            Refusal::Upstream { code: "upstream_broken", message: "The upstream broke off in its answer.".to_owned() }
        }
    }
}

/// Resolves when the process can wait no longer.
async fn cut(watch: &mut watch::Receiver<bool>) {
    if watch.wait_for(|cut| *cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}
