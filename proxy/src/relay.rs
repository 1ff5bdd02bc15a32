//! Stage 6. From a reply to the client, counting: event by event for a stream, piece by piece for sound, whole otherwise.
//!
//! - `counted`: what has been relayed of a stream
//! - `sound`: answers that are not JSON, as they come
//! - `whole`: what is no stream
//!
//! What ends the answer (`[DONE]`, the error event, the whole body) is held back until the attempt is settled, so that a client
//! that has its answer finds it in its usage.

mod counted;
mod sound;
mod whole;

use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openclawmu_store::{Outcome, ServiceTier, Store, Ticket, Tokenizer, Usage};
use serde_json::Value;
use tokio::sync::watch;

use self::counted::Counted;
use crate::admit::{Cap, Unstated, count_tokens, estimate_tokens};
use crate::answer::Head;
use crate::authenticate;
use crate::client::Client;
use crate::dialect::bedrock::frames;
use crate::dispatch::peer;
use crate::forward::Reply;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::sse::Splitter;
use crate::upstream::http::Fault;
use crate::way::{Heard, Way};

/// Pause between two notes of progress in the in-flight table.
const NOTE_EVERY: Duration = Duration::from_millis(100);
/// Pause between two looks at whether the client would still be let in: a revoked token's streams end within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the end of an upstream's body after its last event, or for one more.
const TAIL_PATIENCE: Duration = Duration::from_millis(100);
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

/// How a stream came to its end.
enum Fin {
    /// Properly.
    Done,
    /// By an error event of the upstream's own, which went on to the client.
    AfterError,
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

    async fn stream(&mut self, mut reply: Reply) -> Relayed {
        let first_byte_ms = self.ticket.elapsed_ms();
        let mut counted = Counted::default();
        let ended = match self.begin(&reply.content_type).await {
            Ok(()) => self.events(&mut reply, &mut counted).await,
            Err(_) => Err(Broken::ClientGone),
        };
        match &ended {
            Ok(_) => finish_upstream(reply).await,
            Err(_) => drop(reply), // closes its connection: the provider stops generating
        }
        let complete = matches!(ended, Ok(Fin::Done));
        let (dialect, id) = (self.call.route.dialect(), self.call.request_id);
        let way = &mut self.way;
        let mut failed = |refusal: Refusal| {
            let told = refusal.told();
            let own = way.failed(&told.trouble());
            Ending::Event(own.unwrap_or_else(|| dialect.refusal_event(&told, id).into()))
        };
        let ending = match ended {
            Ok(Fin::Done) => Ending::Event(counted.last),
            Ok(Fin::AfterError) => Ending::Event(counted.last),
            Err(Broken::ClientGone) => Ending::Nothing,
            Err(Broken::Upstream(refusal) | Broken::TurnedAway(refusal)) => failed(refusal),
            Err(Broken::Shutdown) => {
                let message = "The gateway is shutting down.".to_owned();
                failed(Refusal::Upstream { code: "shutting_down", message })
            }
        };
        let nothing = counted.usage.is_none() && counted.text_bytes == 0 && !complete && counted.events == 0;
        let outcome = match (complete, nothing) {
            (true, _) => Outcome::Complete,
            (false, true) => Outcome::Void,
            (false, false) => Outcome::Partial,
        };
        let mut usage = counted
            .usage
            .map_or_else(|| self.estimate(counted.text_bytes, counted.text_events), |usage| self.with_images(usage));
        usage.tool_calls = counted.tool_calls;
        let service_tier = counted.service_tier.unwrap_or(self.unstated.service_tier);
        let (estimated, response) = (self.is_estimate(counted.usage), self.way.response());
        Relayed { outcome, usage, service_tier, estimated, first_byte_ms, ending, response }
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

    /// Relays events until the end; `[DONE]` itself is left to the caller.
    async fn events(&mut self, reply: &mut Reply, counted: &mut Counted) -> Result<Fin, Broken> {
        let mut splitter = Splitter::within(self.way.longest_event());
        let mut frames = (reply.content_type == FRAMED).then(frames::Splitter::default);
        let (mut noted, mut heard) = (Instant::now(), Instant::now());
        // One timer for the whole stream: it is looked at when it fires, not moved with every event.
        let idle_timeout = reply.unwatched();
        let mut look = pin!(tokio::time::sleep(LOOK_EVERY.min(idle_timeout)));
        let mut watch = self.cut.clone();
        let mut cut = pin!(cut(&mut watch));
        loop {
            if self.way.may_be_over() {
                look.as_mut().reset((heard + TAIL_PATIENCE).into());
            }
            let piece = tokio::select! {
                biased;
                piece = reply.piece() => piece.map_err(|fault| Broken::Upstream(fault_refusal(&fault)))?,
                () = self.client.gone() => return Err(Broken::ClientGone),
                () = &mut cut => return Err(Broken::Shutdown),
                () = &mut look => {
                    if self.way.may_be_over() {
                        return self.at_end(None, counted);
                    }
                    let idle = heard.elapsed();
                    if idle >= idle_timeout {
                        return Err(Broken::Upstream(fault_refusal(&Fault::Timeout(idle_timeout))));
                    }
                    self.let_in()?;
                    look.as_mut().reset((Instant::now() + LOOK_EVERY.min(idle_timeout - idle)).into());
                    continue;
                }
            };
            heard = Instant::now();
            let Some(piece) = piece else { return self.at_end(splitter.rest(), counted) };
            if let Some(frames) = &mut frames {
                if self.frames(frames, &piece, counted).await? {
                    return Ok(counted.fin());
                }
                self.note(&mut noted, heard, counted);
                continue;
            }
            if splitter.is_event(&piece) {
                if self.event(piece, counted).await? {
                    return Ok(counted.fin());
                }
                self.note(&mut noted, heard, counted);
                continue;
            }
            splitter.push(&piece).map_err(|err| broken_stream(&err))?;
            while let Some(event) = splitter.next() {
                if self.event(event, counted).await? {
                    return Ok(counted.fin());
                }
            }
            self.note(&mut noted, heard, counted);
        }
    }

    /// Whether the client would still be let in. A part of the gateway knows that itself.
    fn let_in(&self) -> Result<(), Broken> {
        let Client::Http(session) = &*self.client else { return Ok(()) };
        authenticate::still(self.store, &session.req_header().headers, peer(session)).map_err(Broken::TurnedAway)
    }

    /// Notes now and then how far the stream has come.
    fn note(&self, noted: &mut Instant, now: Instant, counted: &Counted) {
        if now.duration_since(*noted) >= NOTE_EVERY {
            *noted = now;
            self.ticket.progress(&counted.usage.unwrap_or_else(|| self.rough(counted)));
        }
    }

    /// Relays one event; true when it is the last.
    async fn event(&mut self, event: Bytes, counted: &mut Counted) -> Result<bool, Broken> {
        let (heard, bytes) = self.way.event(event);
        self.told(&heard, bytes, counted).await
    }

    /// Relays the messages of a stream that is framed in Amazon's way; true after the last.
    async fn frames(
        &mut self,
        frames: &mut frames::Splitter,
        piece: &[u8],
        counted: &mut Counted,
    ) -> Result<bool, Broken> {
        frames.push(piece).map_err(|err| broken_stream(&err))?;
        while let Some(frame) = frames.next().map_err(|err| broken_stream(&err))? {
            let (heard, bytes) = self.way.named(&frame.name, &frame.payload);
            if self.told(&heard, bytes, counted).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Counts what was heard and passes its bytes on; those of the last event are held back.
    async fn told(&mut self, heard: &Heard, bytes: Bytes, counted: &mut Counted) -> Result<bool, Broken> {
        counted.add(heard);
        if heard.done {
            counted.last = bytes;
            return Ok(true);
        }
        if bytes.is_empty() || (heard.usage_only && !self.call.ask.wants_usage) {
            return Ok(false);
        }
        self.client.piece(bytes).await.map_err(|_| Broken::ClientGone)?;
        Ok(false)
    }

    /// The body has ended without its last event: that is proper only after every choice was finished, or after an error event.
    fn at_end(&mut self, rest: Option<Bytes>, counted: &mut Counted) -> Result<Fin, Broken> {
        if counted.error {
            return Ok(Fin::AfterError);
        }
        let (heard, bytes) = self.way.end(rest, counted.finished);
        counted.add(&heard);
        if heard.done {
            counted.last = bytes;
            return Ok(counted.fin());
        }
        let message = "The upstream's stream broke off before its end.".to_owned();
        Err(Broken::Upstream(Refusal::Upstream { code: "upstream_broken", message }))
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

fn broken_stream(err: &dyn std::fmt::Display) -> Broken {
    let message = format!("The upstream's stream is broken: {err}.");
    Broken::Upstream(Refusal::Upstream { code: "upstream_broken", message })
}

/// Lets the upstream end its body, so that its connection can be used again.
async fn finish_upstream(mut reply: Reply) {
    if let Ok(Ok(None)) = tokio::time::timeout(TAIL_PATIENCE, reply.piece()).await {
        reply.release().await;
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
