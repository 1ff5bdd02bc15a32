//! From a request to two WebSockets: the first ticket, the provider's session set up, and only then the client's switched.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::HeaderValue;
use openclawmu_store::{Label, Ticket};
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::booking::Booking;
use super::server_event::{self, Said};
use super::session::Rules;
use super::talk::{Notes, Talk};
use super::turn::{Context as Conversation, Turn};
use crate::client::Client;
use crate::context::Context;
use crate::forward::{Failure, Rejected};
use crate::gateway::{Gateway, Stop};
use crate::observe::semantic;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::socket::{Guard, MAX_EVENT_BYTES, Offer, Pulse, accepted, carry, limits};
use crate::upstream::Backend;
use crate::upstream::health::Sign;
use crate::upstream::http::{Fault, HttpUpstream};
use crate::upstream::provider::Provider;
use crate::upstream::socket::{Opening, Unopened, UpstreamSocket};
use crate::{label, own};

/// How long a provider may take to begin a session.
const SET_UP: Duration = Duration::from_secs(30);
/// The most events of a session that is being set up.
const EARLY_EVENTS: usize = 32;
/// The id of the event that sets a session up.
const SET_UP_ID: &str = "event_openclawmu_0";
/// What asks for the API's beta.
const BETA: HeaderValue = HeaderValue::from_static("realtime=v1");

/// A session that a provider has begun and that is bounded.
struct Begun {
    socket: UpstreamSocket,
    /// The provider's events so far, as the client gets them.
    events: Vec<Utf8Bytes>,
    session: Map<String, Value>,
    answers: bool,
}

impl Gateway {
    /// A conversation.
    pub(crate) async fn realtime(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        (offer, guard): (Offer, Guard),
    ) -> Result<(), Stop> {
        let shared = &*self.shared;
        let caller = guard.caller()?;
        let asked = model(session.req_header().uri.query().unwrap_or_default())?;
        ctx.notes.asked(&asked);
        let mut label = Label::default();
        label::tags(&session.req_header().headers, &mut label)?;
        let mut targets = self.plan(&caller, (&asked, ctx.request_id))?;
        targets.retain(|target| target.upstream.provider().realtime_path(&target.model).is_some());
        let last = targets.len().saturating_sub(1);
        for (attempt, target) in (0_u16..).zip(&targets) {
            let Backend::Http(provider, http) = &target.upstream.backend else { continue };
            ctx.notes.attempt(attempt, target, semantic::REALTIME);
            let own_key = shared.own_keys.of(&caller.policy, &target.upstream)?;
            let booking =
                Booking { guard: &guard, target, asked: &asked, label: &label, tenant: &caller.policy.tenant };
            let cap = booking.bound(&booking.price()?.price)?.output_tokens;
            let rules = Rules { cap, asked: asked.clone(), model: target.model.clone() };
            let ticket = booking.ticket((ctx.request_id, attempt), cap).await?;
            let _in_flight = target.upstream.health.enter();
            let opening = Opening {
                path: &provider.realtime_path(&target.model).unwrap_or_default(),
                headers: headers(provider, session, &offer),
                own_key: own_key.as_deref(),
                limits: limits(MAX_EVENT_BYTES),
            };
            let mut client = Client::Http(session.again());
            let begun = tokio::select! {
                begun = begin(http, &opening, &rules) => begun,
                () = client.gone() => Err(Failure::ClientGone),
            };
            match begun {
                Ok(begun) => {
                    target.upstream.health.note(&target.model, Sign::Answered, Instant::now());
                    let opened = (begun, ticket, http.idle_timeout);
                    return self.talk((session, ctx), &offer, (&booking, rules), opened).await;
                }
                Err(failure) => {
                    if let Some(sign) = failure.sign().filter(|_| own_key.is_none()) {
                        target.upstream.health.note(&target.model, sign, Instant::now());
                    }
                    let standing = self.give_up(target, ticket, &failure);
                    if usize::from(attempt) == last || !failure.is_retryable() {
                        return Err(match failure.passed_on() {
                            Ok(refused) => Stop::Passed(refused),
                            Err(Failure::ClientGone) => Stop::Gone,
                            Err(failure) => Stop::Refused(failure.refusal(&target.upstream.name), standing),
                        });
                    }
                }
            }
        }
        let message = format!("The model `{asked}` is served by an upstream that has no such API.");
        Err(Refusal::bad("model", message).into())
    }

    /// Switches the client's protocol, and talks.
    async fn talk(
        &self,
        (session, ctx): (&mut Session<'_>, &mut Context),
        offer: &Offer,
        (booking, rules): (&Booking<'_>, Rules),
        (begun, ticket, pause): (Begun, Ticket, Duration),
    ) -> Result<(), Stop> {
        let config = &self.shared.config;
        let (client, far) = accepted(config.max_body_bytes).await;
        let Begun { socket, events, session: settings, answers } = begun;
        let talk = Talk {
            client,
            upstream: socket,
            booking,
            rules,
            ticket: Some(ticket),
            turn: Turn::Idle,
            context: Conversation::of(&settings),
            answers,
            notes: Notes::default(),
            pulse: Pulse::new(config.websocket_idle),
            patience: pause,
        };
        ctx.status = 101;
        let switched = session.begin(offer.switching(ctx.request_id)?).await;
        if let Err(err) = switched {
            talk.abandon();
            return Err(err.into());
        }
        tokio::join!(Box::pin(talk.run(events)), carry(session, far));
        Ok(())
    }
}

/// The model that a query names. Nothing else is taken: a call's id would join what another has begun.
fn model(query: &str) -> Result<String, Refusal> {
    let mut model = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "model" {
            let name: String = name.chars().take(40).collect();
            return Err(Refusal::bad(name, "The only parameter of this route is `model`."));
        }
        let value = own::percent_decode(&value.replace('+', "%20")).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Refusal::bad("model", "`model` is not well encoded."))?;
        if model.replace(value).is_some() {
            return Err(Refusal::bad("model", "`model` is named twice."));
        }
    }
    model.ok_or_else(|| Refusal::bad("model", "`model` is missing: /v1/realtime?model=..."))
}

/// The client's headers that go on.
fn headers(provider: &Provider, session: &Session<'_>, offer: &Offer) -> Vec<(&'static str, HeaderValue)> {
    let mut headers = provider.same_headers(&session.req_header().headers);
    if offer.beta && headers.is_empty() {
        headers.push(("openai-beta", BETA));
    }
    headers
}

/// Opens a provider's WebSocket and sets its session up.
async fn begin(http: &HttpUpstream, opening: &Opening<'_>, rules: &Rules) -> Result<Begun, Failure> {
    let socket = http.open_socket(opening).await.map_err(|unopened| match unopened {
        Unopened::Fault(fault) => Failure::Fault(fault),
        Unopened::Refused(answer) => Failure::Refused(rejected(*answer)),
    })?;
    let begun = tokio::time::timeout(SET_UP, set_up(socket, rules)).await;
    begun.unwrap_or(Err(Fault::Timeout(SET_UP))).map_err(Failure::Fault)
}

fn rejected(answer: http::Response<Option<Vec<u8>>>) -> Rejected {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    Rejected {
        // What answers a request for a WebSocket with success has no such API.
        status: if status < 400 { 502 } else { status },
        content_type: header("content-type").unwrap_or_else(|| "application/json".to_owned()),
        retry_after: header("retry-after"),
        body: answer.into_body().unwrap_or_default().into(),
    }
}

/// Waits for the session, sets what the gateway owns of it, and waits until the provider says that it is so. Nothing of the
/// client's has been sent by then.
async fn set_up(mut socket: UpstreamSocket, rules: &Rules) -> Result<Begun, Fault> {
    let broken = |what: &str| Fault::Broken(what.to_owned());
    let (mut events, mut answers, mut updated) = (Vec::new(), false, false);
    while events.len() < EARLY_EVENTS {
        let text = match socket.next().await {
            Some(Ok(Message::Text(text))) => text,
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Binary(_) | Message::Close(_))) | None => return Err(broken("no session was begun")),
            Some(Err(err)) => return Err(Fault::Broken(err.to_string())),
        };
        match server_event::read(&text).ok_or_else(|| broken("what came is no event"))? {
            Said::Session { session, created } if created || updated => {
                if created {
                    events.push(text);
                }
                if rules.holds(&session) {
                    return Ok(Begun { socket, events, session, answers });
                }
                if updated {
                    return Err(broken("the session does not take the limits that bound it"));
                }
                let (settings, would_answer) = rules.first_update(&session);
                let update = json!({"type": "session.update", "event_id": SET_UP_ID, "session": settings});
                socket.send(Message::text(update.to_string())).await.map_err(|err| Fault::Broken(err.to_string()))?;
                (answers, updated) = (would_answer, true);
            }
            Said::Error(_) => return Err(Fault::Broken(format!("the session was refused: {text}"))),
            Said::Began => return Err(broken("a response was begun that nobody asked for")),
            Said::Session { .. }
            | Said::Text(_)
            | Said::Audio(_)
            | Said::Done(_)
            | Said::TurnEnded
            | Said::Committed
            | Said::Other => events.push(text),
        }
    }
    Err(broken("no session was begun"))
}
