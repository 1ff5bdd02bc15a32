//! Events both ways until either side ends. What costs is asked for here, one response at a time, each on its own ticket.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use openclawmu_store::{Outcome, ServiceTier, Ticket, Usage};
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::booking::Booking;
use super::client_event::{self, Wanted};
use super::server_event::{self, Done, Said};
use super::session::{self, Rules};
use super::turn::{Context, Turn};
use crate::refusal::Refusal;
use crate::relay::{Ending, Relayed};
use crate::settle;
use crate::socket::{ClientSocket, End, LOOK_EVERY, Pulse, closed};
use crate::upstream::socket::UpstreamSocket;

/// A conversation.
pub(super) struct Talk<'a> {
    pub(super) client: ClientSocket,
    pub(super) upstream: UpstreamSocket,
    pub(super) booking: &'a Booking<'a>,
    pub(super) rules: Rules,
    /// The right to one response; there is one whenever anything goes to the provider.
    pub(super) ticket: Option<Ticket>,
    pub(super) turn: Turn,
    pub(super) context: Context,
    /// Turns are to be answered unasked.
    pub(super) answers: bool,
    pub(super) notes: Notes,
    pub(super) pulse: Pulse,
    /// The longest pause within a response.
    pub(super) patience: Duration,
}

/// What is noted of its course.
pub(super) struct Notes {
    /// A turn of the client's has ended and is not committed yet.
    turn_ended: bool,
    /// A response is owed to the client.
    owed: bool,
    /// Events of the gateway's own.
    events: u64,
    /// When the provider last sent anything, or was asked for a response.
    upstream: Instant,
}

impl Default for Notes {
    fn default() -> Self {
        Self { turn_ended: false, owed: false, events: 0, upstream: Instant::now() }
    }
}

impl Talk<'_> {
    /// Relays until either side ends; `begun` are the provider's events so far.
    pub(super) async fn run(mut self, begun: Vec<Utf8Bytes>) {
        let booking = self.booking;
        let end = tokio::select! {
            end = self.relay(begun) => match end {
                Ok(never) => match never {},
                Err(end) => end,
            },
            end = booking.guard.watch() => end,
        };
        self.settle_open();
        let farewell = match end {
            End::Left => None,
            End::Told(refusal, code) => Some((self.error_event(&refusal, None), code)),
        };
        let Self { client, upstream, .. } = self;
        // Closes its connection: the provider stops generating.
        drop(upstream);
        closed(client, farewell).await;
    }

    /// Nobody is there to talk to.
    pub(super) fn abandon(mut self) {
        self.settle_open();
    }

    async fn relay(&mut self, begun: Vec<Utf8Bytes>) -> Result<Infallible, End> {
        for event in begun {
            self.tell(event).await?;
        }
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                message = self.upstream.next() => self.upstream_message(message).await?,
                message = self.client.next() => self.client_message(message).await?,
                _ = look.tick() => self.look().await?,
            }
        }
    }

    async fn upstream_message(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        self.notes.upstream = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                self.pulse.event();
                let said = server_event::read(&text).ok_or_else(|| broken("The upstream sent what is no event."))?;
                self.said(said, text).await?;
                self.answer_owed().await
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => Err(broken("The upstream sent what is no event.")),
            Some(Ok(Message::Close(_))) | None => Err(broken("The upstream closed the conversation.")),
            Some(Err(err)) => {
                tracing::warn!(upstream = %self.booking.target.upstream.name, %err, "an upstream's WebSocket broke");
                Err(broken("The upstream broke off."))
            }
        }
    }

    /// Takes what a provider's event says, and passes it on.
    async fn said(&mut self, said: Said, text: Utf8Bytes) -> Result<(), End> {
        match said {
            Said::Began => {
                if matches!(self.turn, Turn::Speaking(_)) {
                    return Err(broken("The upstream began a response that nobody asked for."));
                }
                self.turn = self.turn.begun();
                self.note();
            }
            Said::Text(bytes) => self.speech(|speech| speech.text(bytes)),
            Said::Audio(bytes) => self.speech(|speech| speech.audio(bytes)),
            Said::Done(done) => {
                // Settled first: a client that has its answer finds it in its usage.
                self.settle(&done);
                self.tell(text).await?;
                return self.renew().await;
            }
            Said::TurnEnded => self.notes.turn_ended = true,
            Said::Committed => {
                self.notes.owed |= self.notes.turn_ended && self.answers;
                self.notes.turn_ended = false;
            }
            Said::Error(event_id) => {
                if matches!(&self.turn, Turn::Asked { event_id: asked, .. } if Some(asked) == event_id.as_ref()) {
                    self.turn = Turn::Idle;
                }
            }
            Said::Session { session, .. } => {
                if !self.rules.holds(&session) {
                    return Err(broken("The upstream does not keep to what bounds this session."));
                }
                self.context.formats(&session);
                let shown = if self.answers { session::shown(&text) } else { None };
                return self.tell(shown.map_or(text, Utf8Bytes::from)).await;
            }
            Said::Other => {}
        }
        self.tell(text).await
    }

    /// Adds to the response that is under way.
    fn speech(&mut self, add: impl FnOnce(&mut super::turn::Speech)) {
        if let Turn::Speaking(speech) = &mut self.turn {
            add(speech);
            if speech.is_notable() {
                self.note();
            }
        }
    }

    /// Notes how far the response has come, so that a crash bills at least that.
    fn note(&self) {
        if let (Turn::Speaking(speech), Some(ticket)) = (&self.turn, &self.ticket) {
            ticket.progress(&self.context.estimate(speech));
        }
    }

    async fn client_message(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        self.pulse.client();
        match message {
            Some(Ok(Message::Text(text))) => {
                self.pulse.event();
                self.wanted(text).await
            }
            Some(Ok(Message::Binary(_))) => {
                let refusal = Refusal::bad("event", "An event is a text message.");
                self.refuse(&refusal, None).await
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Err(Error::Capacity(_))) => {
                let message = "A message is larger than this gateway takes.".to_owned();
                let code = Some("request_too_large");
                Err(End::Told(Refusal::Bad { status: 413, param: None, code, message }, CloseCode::Size))
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Left),
        }
    }

    /// Takes a client's event, and passes it on where nothing is wrong with it.
    async fn wanted(&mut self, text: Utf8Bytes) -> Result<(), End> {
        let (event_id, wanted) = client_event::read(&text, &self.rules);
        match wanted {
            Ok(Wanted::Pass { audio_bytes }) => {
                self.context.add(text.len(), audio_bytes);
                self.forward(text).await
            }
            Ok(Wanted::Session { event, answers }) => {
                self.answers = answers.unwrap_or(self.answers);
                self.context.add(text.len(), 0);
                self.forward(Value::Object(event).to_string().into()).await
            }
            Ok(Wanted::Response(event)) if matches!(self.turn, Turn::Idle) => {
                self.context.add(text.len(), 0);
                self.ask(event).await
            }
            Ok(Wanted::Response(_)) => {
                let message = "Conversation already has an active response in progress. \
                               Wait until the response is finished before creating a new one.";
                let code = Some("conversation_already_has_active_response");
                let refusal = Refusal::Bad { status: 400, param: None, code, message: message.to_owned() };
                self.refuse(&refusal, event_id).await
            }
            Err(refusal) => self.refuse(&refusal, event_id).await,
        }
    }

    /// Asks for a response on the ticket that is held.
    async fn ask(&mut self, mut event: Map<String, Value>) -> Result<(), End> {
        if self.ticket.is_none() {
            return Err(End::refused(Refusal::Store));
        }
        let own = self.own_id();
        let event_id = event.get("event_id").and_then(Value::as_str).map_or(own, str::to_owned);
        event.insert("event_id".to_owned(), Value::from(event_id.as_str()));
        self.turn = Turn::Asked { event_id, since: Instant::now() };
        self.notes.owed = false;
        self.notes.upstream = Instant::now();
        self.forward(Value::Object(event).to_string().into()).await
    }

    /// Asks for the response that the client's turn has earned.
    async fn answer_owed(&mut self) -> Result<(), End> {
        if !self.notes.owed || !matches!(self.turn, Turn::Idle) {
            return Ok(());
        }
        self.ask(Map::from_iter([("type".to_owned(), Value::from("response.create"))])).await
    }

    async fn forward(&mut self, text: Utf8Bytes) -> Result<(), End> {
        let sent = tokio::time::timeout(self.patience, self.upstream.send(Message::Text(text))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(broken("The upstream broke off.")),
            Err(_) => Err(timed_out()),
        }
    }

    async fn tell(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.client.send(Message::Text(text)).await.map_err(|_| End::Left)
    }

    /// Tells the client what is wrong with its event; the conversation goes on.
    async fn refuse(&mut self, refusal: &Refusal, event_id: Option<String>) -> Result<(), End> {
        let event = self.error_event(refusal, event_id);
        self.tell(event.into()).await
    }

    fn error_event(&mut self, refusal: &Refusal, client_event: Option<String>) -> String {
        let told = refusal.told();
        json!({
            "type": "error",
            "event_id": self.own_id(),
            "error": {
                "type": told.kind, "code": told.code, "message": told.message, "param": told.param, "event_id": client_event
            }
        })
        .to_string()
    }

    fn own_id(&mut self) -> String {
        self.notes.events += 1;
        format!("event_openclawmu_{}", self.notes.events)
    }

    /// A response has ended: its bill.
    fn settle(&mut self, done: &Done) {
        let turn = std::mem::replace(&mut self.turn, Turn::Idle);
        let (first_byte_ms, silent, estimate) = match &turn {
            Turn::Speaking(speech) => (speech.first_ms, speech.is_silent(), self.context.estimate(speech)),
            Turn::Idle | Turn::Asked { .. } => (0, true, Usage::default()),
        };
        let (outcome, usage) = match done.usage {
            Some(usage) => (Outcome::Complete, usage),
            None if done.failed && silent => (Outcome::Void, Usage::default()),
            None if done.failed => (Outcome::Partial, estimate),
            None => (Outcome::Complete, estimate),
        };
        self.context.settle(&usage);
        self.bill(outcome, (usage, done.usage.is_none()), first_byte_ms);
    }

    /// Settles what is still open when the conversation ends: a response that had begun by what was heard of it.
    fn settle_open(&mut self) {
        let turn = std::mem::replace(&mut self.turn, Turn::Idle);
        match &turn {
            Turn::Speaking(speech) => {
                self.bill(Outcome::Partial, (self.context.estimate(speech), true), speech.first_ms);
            }
            Turn::Idle | Turn::Asked { .. } => self.bill(Outcome::Void, (Usage::default(), false), 0),
        }
    }

    fn bill(&mut self, outcome: Outcome, (usage, estimated): (Usage, bool), first_byte_ms: u32) {
        let Some(ticket) = self.ticket.take() else { return };
        let service_tier = ServiceTier::Standard;
        let relayed =
            Relayed { outcome, usage, service_tier, estimated, first_byte_ms, ending: Ending::Nothing, response: None };
        let Booking { guard, target, tenant, .. } = self.booking;
        settle::settle(&guard.shared.metrics, (target, tenant), ticket, &relayed);
    }

    /// Reserves the next response.
    async fn renew(&mut self) -> Result<(), End> {
        let id = self.booking.guard.shared.next_id();
        let ticket = self.booking.ticket((id, 0), self.rules.cap).await;
        self.ticket = Some(ticket.map_err(|refusal| {
            self.booking.guard.shared.metrics.refused(&refusal);
            End::refused(refusal)
        })?);
        Ok(())
    }

    /// Looks at who is silent.
    async fn look(&mut self) -> Result<(), End> {
        let idle = matches!(self.turn, Turn::Idle);
        if idle && self.booking.guard.draining() {
            return Err(End::shutdown());
        }
        if !idle && self.notes.upstream.elapsed() > self.patience {
            return Err(timed_out());
        }
        if self.pulse.look((!idle).then_some(()))? {
            self.client.send(Message::Ping(bytes::Bytes::new())).await.map_err(|_| End::Left)?;
            let sent = self.upstream.send(Message::Ping(bytes::Bytes::new())).await;
            sent.map_err(|_| broken("The upstream broke off."))?;
        }
        Ok(())
    }
}

fn broken(message: &str) -> End {
    End::Told(Refusal::Upstream { code: "upstream_broken", message: message.to_owned() }, CloseCode::Error)
}

fn timed_out() -> End {
    End::Told(Refusal::UpstreamTimeout { message: "The upstream stopped sending.".to_owned() }, CloseCode::Error)
}
