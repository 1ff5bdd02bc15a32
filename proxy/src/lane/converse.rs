//! Requests in order until either side ends: one is under way at a time, and those that come meanwhile wait, as far as they
//! fit.

use std::collections::{BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::memory::Memory;
use super::outcome::{self, Outcome, refusal_event};
use super::request::{self, Turn};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::{Client, Piped, pipe};
use crate::context::{Context, Wire};
use crate::dialect::responses::state;
use crate::dialect::{Dialect, Shown};
use crate::gateway::{Gateway, Stop, tell};
use crate::read::Call;
use crate::refusal::Refusal;
use crate::response::{self, Asking};
use crate::session::Session;
use crate::socket::{ClientSocket, End, Guard, LOOK_EVERY, Offer, Pulse, accepted, carry, closed};

/// Events of an answer that wait for the client.
const PIECES: usize = 8;
/// Requests that wait.
const WAITING: usize = 32;
/// Names of streams.
const STREAMS: usize = 32;

/// A connection.
struct Lane<'a> {
    gateway: &'a Gateway,
    guard: &'a Guard,
    client: ClientSocket,
    headers: HeaderMap,
    memory: Memory,
    waiting: VecDeque<Utf8Bytes>,
    waiting_bytes: usize,
    streams: BTreeSet<String>,
    pulse: Pulse,
    route: &'static str,
}

impl Gateway {
    /// Switches the client's protocol, and answers its requests.
    pub(crate) async fn converse(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        (offer, guard): (Offer, Guard),
    ) -> Result<(), Stop> {
        guard.caller()?;
        let config = &self.shared.config;
        let (client, far) = accepted(config.max_body_bytes).await;
        ctx.status = 101;
        let switching = offer.switching(ctx.request_id)?;
        session.begin(switching).await?;
        let lane = Lane {
            gateway: self,
            guard: &guard,
            client,
            headers: session.req_header().headers.clone(),
            memory: Memory::new(config.max_body_bytes),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            streams: BTreeSet::new(),
            pulse: Pulse::new(config.websocket_idle),
            route: ctx.route,
        };
        tokio::join!(Box::pin(lane.run()), carry(session, far));
        Ok(())
    }
}

impl Lane<'_> {
    async fn run(mut self) {
        let end = loop {
            let text = match self.next().await {
                Ok(text) => text,
                Err(end) => break end,
            };
            if let Err(end) = self.turn(&text).await {
                break end;
            }
        };
        let farewell = match end {
            End::Left => None,
            End::Told(refusal, code) => Some((refusal_event(&refusal.told(), None), code)),
        };
        closed(self.client, farewell).await;
    }

    /// The next request, while none is under way.
    async fn next(&mut self) -> Result<Utf8Bytes, End> {
        let guard = self.guard;
        let mut watch = pin!(guard.watch());
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            if let Some(text) = self.waiting.pop_front() {
                self.waiting_bytes = self.waiting_bytes.saturating_sub(text.len());
                return Ok(text);
            }
            tokio::select! {
                message = self.client.next() => self.heard(message).await?,
                end = &mut watch => return Err(end),
                _ = look.tick() => {
                    if guard.draining() {
                        return Err(End::shutdown());
                    }
                    self.look(None).await?;
                }
            }
        }
    }

    /// Takes a client's message; a request waits for its turn.
    async fn heard(&mut self, message: Option<Result<Message, Error>>) -> Result<(), End> {
        self.pulse.client();
        match message {
            Some(Ok(Message::Text(text))) => {
                self.pulse.event();
                let bytes = self.waiting_bytes.saturating_add(text.len());
                let full = bytes > self.gateway.shared.config.max_body_bytes && !self.waiting.is_empty();
                if full || self.waiting.len() >= WAITING {
                    let message =
                        "Too many requests wait on this WebSocket; send the next when one is answered.".to_owned();
                    let code = Some("websocket_queue_full");
                    return self.refuse(&Refusal::Bad { status: 429, param: None, code, message }, None).await;
                }
                self.waiting_bytes = bytes;
                self.waiting.push_back(text);
                Ok(())
            }
            Some(Ok(Message::Binary(_))) => {
                self.refuse(&Refusal::bad("event", "An event is a text message."), None).await
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

    async fn look(&mut self, under_way: Option<()>) -> Result<(), End> {
        if self.pulse.look(under_way)? {
            self.client.send(Message::Ping(bytes::Bytes::new())).await.map_err(|_| End::Left)?;
        }
        Ok(())
    }

    async fn tell(&mut self, text: String) -> Result<(), End> {
        self.pulse.event();
        self.client.send(Message::text(text)).await.map_err(|_| End::Left)
    }

    async fn refuse(&mut self, refusal: &Refusal, stream: Option<&str>) -> Result<(), End> {
        self.tell(refusal_event(&refusal.told(), stream)).await
    }

    /// Answers one request.
    async fn turn(&mut self, text: &str) -> Result<(), End> {
        let (stream, turn) = request::read(text);
        let turn = match turn {
            Ok(turn) => turn,
            Err(refusal) => return self.refuse(&refusal, stream.as_deref()).await,
        };
        if let Some(name) = &stream {
            if self.streams.len() >= STREAMS && !self.streams.contains(name) {
                let message = format!("This WebSocket has {STREAMS} streams. Use one of them, or open another.");
                let code = Some("websocket_stream_limit_reached");
                let refusal = Refusal::Bad { status: 400, param: Some("stream_id".into()), code, message };
                return self.refuse(&refusal, stream.as_deref()).await;
            }
            self.streams.insert(name.clone());
        }
        let caller = self.guard.caller().map_err(End::refused)?;
        let shared = &self.gateway.shared;
        let mut ctx = Context::new(shared);
        (ctx.route, ctx.dialect) = (self.route, Dialect::Responses);
        let asking = Asking {
            request_id: ctx.request_id,
            tenant: &caller.policy.tenant,
            headers: &self.headers,
            max_bytes: shared.config.max_body_bytes,
            near: turn.previous.as_deref().and_then(|id| self.memory.items(id)),
            seals: &shared.seals,
            apart: caller.policy.secret.is_some(),
        };
        let call = match response::call(&shared.shelf, asking, &turn.body).await {
            Ok(call) => call,
            Err(refusal) => {
                self.forget(&turn, stream.as_deref());
                return self.refuse(&refusal, stream.as_deref()).await;
            }
        };
        let mut outcome = Outcome::new(stream.clone());
        if turn.generate {
            self.answer((&caller, &call), &mut ctx, &mut outcome).await?;
        } else {
            self.prepare((&caller, &call), &ctx, &mut outcome).await?;
        }
        self.remember((turn, call), stream, outcome);
        Ok(())
    }

    /// Runs a call through the stages, its events going out as they come.
    async fn answer(
        &mut self,
        (caller, call): (&Caller, &Call),
        ctx: &mut Context,
        outcome: &mut Outcome,
    ) -> Result<(), End> {
        let (gateway, peer) = (self.gateway, self.guard.peer);
        ctx.trace(None);
        ctx.notes.caller(&caller.policy);
        let (asking, answer) = pipe(self.headers.clone(), PIECES);
        let answering = async {
            let mut client = Client::Pipe(asking);
            if let Err(stop) = gateway.answer(&mut client, ctx, caller, call).await
                && let Err(err) = tell(&mut client, ctx, stop).await
            {
                tracing::debug!(%err, "nobody waits for a response any more");
            }
            ctx.finish(|| Wire { method: Method::GET, peer: Some(peer), bytes: (call.body.len(), client.sent()) });
        };
        // However the client leaves, the answer's stages go on to their end: they settle it.
        let ((), relayed) = tokio::join!(Box::pin(answering), self.relay(answer, outcome));
        relayed
    }

    async fn relay(&mut self, mut answer: mpsc::Receiver<Piped>, outcome: &mut Outcome) -> Result<(), End> {
        let guard = self.guard;
        let mut watch = pin!(guard.watch());
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                piped = answer.recv() => {
                    let Some(piped) = piped else { break };
                    for message in outcome.take(piped) {
                        self.tell(message).await?;
                    }
                }
                message = self.client.next() => self.heard(message).await?,
                end = &mut watch => return Err(end),
                _ = look.tick() => self.look(Some(())).await?,
            }
        }
        if outcome.ended {
            return Ok(());
        }
        outcome.failed = true;
        let message = "The response broke off.".to_owned();
        let told = Refusal::Upstream { code: "upstream_broken", message }.told();
        let event = refusal_event(&told, outcome.stream());
        self.tell(event).await
    }

    /// Answers a request that is only to be remembered: no model is asked, and nothing is billed.
    async fn prepare(
        &mut self,
        (caller, call): (&Caller, &Call),
        ctx: &Context,
        outcome: &mut Outcome,
    ) -> Result<(), End> {
        if let Err(refusal) = self.gateway.plan(caller, (&call.ask.model, ctx.request_id)) {
            outcome.failed = true;
            let event = refusal_event(&refusal.told(), outcome.stream());
            return self.tell(event).await;
        }
        let created = self.gateway.shared.store.clock().now().0.div_euclid(1_000);
        let mut head = Box::new(Head::bare(http::StatusCode::OK));
        head.set(http::header::CONTENT_TYPE, "text/event-stream");
        let shown = Shown {
            id: format!("{:032x}", call.request_id.0),
            model: call.ask.model.clone(),
            created,
            wants_usage: true,
            echo: call.asked.as_ref().map(|asked| Arc::clone(&asked.echo)),
        };
        let events = outcome::nothing(&shown);
        for piped in [Piped::Head(head), Piped::Piece(events.into()), Piped::End] {
            for message in outcome.take(piped) {
                self.tell(message).await?;
            }
        }
        Ok(())
    }

    /// A failed continuation forgets what it continued.
    fn forget(&mut self, turn: &Turn, stream: Option<&str>) {
        if let Some(previous) = &turn.previous {
            self.memory.evict(previous, stream);
        }
    }

    /// Remembers a response that nobody else does.
    fn remember(&mut self, (turn, call): (Turn, Call), stream: Option<String>, outcome: Outcome) {
        if outcome.failed {
            return self.forget(&turn, stream.as_deref());
        }
        let Some(response) = outcome.response else { return };
        // What goes on from what only this connection knows can't be continued without it, stored or not.
        let stored = turn.generate && call.asked.as_ref().is_some_and(|asked| asked.store);
        let stands_alone = turn.previous.as_deref().is_none_or(|id| self.memory.items(id).is_none());
        if !(stored && stands_alone)
            && let Some((id, items)) = conversation(&call, &response)
        {
            self.memory.keep(id, stream, items);
        }
    }
}

/// Everything that was said up to and in a response, with its id; `None` where a part of it is only referred to.
fn conversation(call: &Call, response: &Value) -> Option<(String, Vec<Value>)> {
    let mut body: Map<String, Value> = serde_json::from_slice(&call.body).ok()?;
    let mut items = match body.remove("input") {
        Some(Value::Array(items)) => items,
        _ => call.asked.as_ref()?.input.clone(),
    };
    if items.iter().any(state::is_reference) {
        return None;
    }
    items.extend(response.get("output").and_then(Value::as_array).into_iter().flatten().cloned());
    Some((response.get("id")?.as_str()?.to_owned(), items))
}
