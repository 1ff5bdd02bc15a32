//! A stream: event by event, or message by message where Amazon frames it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openclawmu_store::Outcome;
use tokio::time::Sleep;

use super::bell::Bell;
use super::counted::Counted;
use super::{Broken, Ending, FRAMED, NOTE_EVERY, Relay, Relayed, cut, fault_refusal};
use crate::authenticate;
use crate::client::Client;
use crate::dialect::bedrock::frames;
use crate::forward::Reply;
use crate::refusal::Refusal;
use crate::sse::Splitter;
use crate::upstream::http::Fault;
use crate::way::Heard;

/// Pause between two looks at whether the client would still be let in: a revoked token's streams end within a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the end of an upstream's body after its last event, or for one more.
const TAIL_PATIENCE: Duration = Duration::from_millis(100);

/// How a stream came to its end.
pub(super) enum Fin {
    /// Properly.
    Done,
    /// By an error event of the upstream's own, which went on to the client.
    AfterError,
}

/// What a stream waited for.
enum Next {
    /// A piece of it, or its end.
    Piece(Option<Bytes>),
    /// The time of a look.
    Look,
}

impl Relay<'_, '_> {
    /// Relays a stream.
    pub(super) async fn stream(&mut self, mut reply: Reply) -> Relayed {
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
        let mut bell = Bell::default();
        loop {
            if self.way.may_be_over() {
                look.as_mut().reset((heard + TAIL_PATIENCE).into());
            }
            let piece = match self.next(reply, &mut bell, look.as_mut(), cut.as_mut()).await? {
                Next::Piece(piece) => piece,
                Next::Look if self.way.may_be_over() => return self.at_end(None, counted),
                Next::Look => {
                    let idle = heard.elapsed();
                    if idle >= idle_timeout {
                        return Err(Broken::Upstream(fault_refusal(&Fault::Timeout(idle_timeout))));
                    }
                    self.let_in()?;
                    look.as_mut().reset((Instant::now() + LOOK_EVERY.min(idle_timeout - idle)).into());
                    bell.ring();
                    continue;
                }
            };
            heard = Instant::now();
            let Some(piece) = piece else { return self.at_end(splitter.rest(), counted) };
            let is_last = if let Some(frames) = &mut frames {
                self.frames(frames, &piece, counted).await?
            } else if let Some(text_bytes) = self.way.known(&piece).filter(|_| splitter.is_empty()) {
                counted.add(&Heard { text_bytes, ..Heard::default() });
                self.client.piece(piece).await.map_err(|_| Broken::ClientGone)?;
                false
            } else if splitter.is_event(&piece) {
                self.event(piece, counted).await?
            } else {
                splitter.push(&piece).map_err(|err| broken_stream(&err))?;
                self.split(&mut splitter, counted).await?
            };
            if is_last {
                return Ok(counted.fin());
            }
            self.note(&mut noted, heard, counted);
        }
    }

    /// Waits for the next piece, and beside it for the client to leave, for the process to end and for the time of a look.
    async fn next(
        &mut self,
        reply: &mut Reply,
        bell: &mut Bell,
        mut look: Pin<&mut Sleep>,
        mut cut: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Next, Broken> {
        if !self.client.is_told_once_asked() {
            bell.ring();
        }
        let (mut piece, mut gone, mut client) = (pin!(reply.piece()), pin!(None), Some(&mut *self.client));
        poll_fn(|cx| {
            if let Poll::Ready(piece) = piece.as_mut().poll(cx) {
                return Poll::Ready(piece.map(Next::Piece).map_err(|fault| Broken::Upstream(fault_refusal(&fault))));
            }
            bell.poll(cx, |cx| {
                if let Some(client) = client.take() {
                    gone.set(Some(client.gone()));
                }
                if gone.as_mut().as_pin_mut().is_some_and(|gone| gone.poll(cx).is_ready()) {
                    return Poll::Ready(Err(Broken::ClientGone));
                }
                if cut.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Broken::Shutdown));
                }
                ready!(look.as_mut().poll(cx));
                Poll::Ready(Ok(Next::Look))
            })
        })
        .await
    }

    /// Whether the client would still be let in. A part of the gateway knows that itself.
    fn let_in(&self) -> Result<(), Broken> {
        let Client::Http(session) = &*self.client else { return Ok(()) };
        authenticate::still(self.store, &session.req_header().headers, session.peer()).map_err(Broken::TurnedAway)
    }

    /// Notes now and then how far the stream has come.
    fn note(&self, noted: &mut Instant, now: Instant, counted: &Counted) {
        if now.duration_since(*noted) >= NOTE_EVERY {
            *noted = now;
            self.ticket.progress(&counted.usage.unwrap_or_else(|| self.rough(counted)));
        }
    }

    /// Relays the events that are whole; true after the last.
    async fn split(&mut self, splitter: &mut Splitter, counted: &mut Counted) -> Result<bool, Broken> {
        while let Some(event) = splitter.next() {
            if self.event(event, counted).await? {
                return Ok(true);
            }
        }
        Ok(false)
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
