//! One response in the background: admitted, kept as what will be, answered, and kept as what came of it.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::running::{Live, this_process};
use crate::answer::{self, Head};
use crate::authenticate::{self, Caller};
use crate::client::{Client, Piped, pipe};
use crate::context::{Context, Wire};
use crate::dialect::Shown;
use crate::dialect::responses::state::{self, Kept};
use crate::gateway::{Gateway, Stop, tell};
use crate::lane::Outcome;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::socket::Guard;

/// Events that wait to be taken.
const PIECES: usize = 8;

/// What is known of a response once it is clear whether it will be worked on.
enum Begun {
    /// It is admitted and kept: this is what it will be.
    Admitted(Value),
    /// It is refused like this.
    Refused(Box<Head>, Bytes),
    /// It can't be kept.
    Unkept(Refusal),
}

/// A response to be worked on.
struct Work {
    gateway: Gateway,
    caller: Caller,
    call: Call,
    ctx: Context,
    kept: Kept,
    live: Arc<Live>,
    guard: Guard,
}

/// How it ended, beside what its events say.
enum Over {
    Answered,
    Cancelled,
    Forbidden(Refusal),
    Unkept,
}

impl Gateway {
    /// Answers a request for a response in the background; the work goes on when this has returned.
    pub(crate) async fn background(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        mut call: Call,
    ) -> Result<(), Stop> {
        let shared = &self.shared;
        let Some(asked) = call.asked.as_mut() else { return Err(Refusal::Store.into()) };
        if !asked.store {
            return Err(Refusal::bad("background", "A response in the background is stored; leave `store` out.").into());
        }
        let follows = call.ask.stream;
        (call.ask.stream, asked.request.stream) = (true, true);
        let shown = Shown {
            id: format!("{:032x}", call.request_id.0),
            model: call.ask.model.clone(),
            created: shared.store.clock().now().0.div_euclid(1_000),
            wants_usage: true,
            echo: Some(Arc::clone(&asked.echo)),
        };
        let kept = Kept::queued(&shown, asked.input.clone(), this_process());
        let (tenant, id) = (caller.policy.tenant.clone(), kept.id().to_owned());
        let (presented, _) = authenticate::presented(&session.req_header().headers, false)?;
        let guard = Guard {
            shared: Arc::clone(shared),
            presented: presented.into(),
            peer: session.peer(),
            since: Instant::now(),
        };
        let mut own = Context::new(shared);
        (own.request_id, own.route, own.dialect) = (call.request_id, ctx.route, ctx.dialect);
        let live = shared.running.begin(&tenant, &id);
        let (gateway, caller) = (self.clone(), caller.clone());
        let work = Work { gateway, caller, call, ctx: own, kept, live: Arc::clone(&live), guard };
        let (begun, told) = oneshot::channel();
        let headers = session.req_header().headers.clone();
        shared.running.tasks.spawn(async move { work.run(headers, begun).await });
        match told.await {
            Ok(Begun::Admitted(_)) if follows => self.follow(session, ctx, &live, 0).await,
            Ok(Begun::Admitted(response)) => {
                Ok(answer::json(&mut Client::Http(session.again()), ctx.request_id, &response).await?)
            }
            Ok(Begun::Refused(head, body)) => {
                ctx.status = head.status().as_u16();
                Ok(Client::Http(session.again()).whole(*head, body).await?)
            }
            Ok(Begun::Unkept(refusal)) => Err(refusal.into()),
            Err(_) => Err(Refusal::Store.into()),
        }
    }
}

impl Work {
    async fn run(mut self, headers: http::HeaderMap, begun: oneshot::Sender<Begun>) {
        let (mut asking, answer) = pipe(headers, PIECES);
        let (admitted, at_admission) = oneshot::channel();
        asking.on_admitted(admitted);
        let (gateway, id) = (self.gateway.clone(), self.kept.id().to_owned());
        let mut ctx = std::mem::replace(&mut self.ctx, Context::new(&gateway.shared));
        let (caller, call, peer) = (self.caller.clone(), self.call.clone(), self.guard.peer);
        ctx.trace(None);
        ctx.notes.caller(&caller.policy);
        let answering = async {
            let mut client = Client::Pipe(asking);
            if let Err(stop) = gateway.answer(&mut client, &mut ctx, &caller, &call).await
                && let Err(err) = tell(&mut client, &mut ctx, stop).await
            {
                tracing::debug!(%err, "a response in the background was left");
            }
            let bytes = (call.body.len(), client.sent());
            ctx.finish(|| Wire { method: Method::POST, peer: Some(peer), bytes });
        };
        // However it ends, the answer's stages go on to their end: they settle it.
        let ((), taken) = tokio::join!(Box::pin(answering), self.take(answer, at_admission, begun));
        match taken {
            Some((over, outcome)) => {
                self.conclude(over, outcome).await;
                gateway.shared.running.end(&id, &self.live);
            }
            None => gateway.shared.running.drop_refused(&id),
        }
    }

    /// Takes what comes out of the pipe; `None` where it never began.
    async fn take(
        &mut self,
        mut answer: mpsc::Receiver<Piped>,
        at_admission: oneshot::Receiver<oneshot::Sender<()>>,
        begun: oneshot::Sender<Begun>,
    ) -> Option<(Over, Outcome)> {
        let go = tokio::select! {
            biased;
            Ok(go) = at_admission => go,
            refused = refused(&mut answer) => {
                if let Some((head, body)) = refused {
                    let _ = begun.send(Begun::Refused(head, body));
                }
                return None;
            }
        };
        let response = self.kept.response.clone();
        if let Err(refusal) = self.keep().await {
            let _ = begun.send(Begun::Unkept(refusal));
            return None; // without a word to go on, nothing is sent upstream
        }
        let mut outcome = Outcome::default();
        if go.send(()).is_err() {
            return Some((Over::Unkept, outcome));
        }
        // Whoever asked may have left: the work goes on.
        let _ = begun.send(Begun::Admitted(response));
        let mut watch = std::pin::pin!(self.guard.forbidden());
        let over = loop {
            tokio::select! {
                piped = answer.recv() => match piped {
                    None => break Over::Answered,
                    Some(piped) => outcome.take(piped).iter().for_each(|message| self.live.push(as_event(message))),
                },
                () = self.live.cancelled() => break Over::Cancelled,
                refusal = &mut watch => break Over::Forbidden(refusal),
            }
        };
        Some((over, outcome))
    }

    /// Keeps what came of it, unless the stages have kept it already.
    async fn conclude(&mut self, over: Over, outcome: Outcome) {
        if outcome.response.is_some() && !outcome.failed {
            return;
        }
        let (status, error) = match over {
            Over::Cancelled => ("cancelled", Value::Null),
            Over::Forbidden(refusal) => ("failed", state::error(&refusal)),
            Over::Unkept => ("failed", state::error(&Refusal::Store)),
            Over::Answered => ("failed", outcome.error.unwrap_or_else(state::broken_off)),
        };
        self.kept.end(status, error);
        let event = json!({"type": format!("response.{status}"), "response": self.kept.response});
        if !outcome.ended {
            self.live.push(as_event(&event.to_string()));
        }
        if let Err(refusal) = self.keep().await {
            tracing::error!(%refusal, "what came of a response can't be kept");
        }
    }

    async fn keep(&self) -> Result<(), Refusal> {
        let policy = &self.caller.policy;
        self.gateway.shared.shelf.keep(&policy.tenant, self.kept.clone(), policy.overlay.response_ttl_days).await
    }
}

/// The refusal that comes out of a pipe.
async fn refused(answer: &mut mpsc::Receiver<Piped>) -> Option<(Box<Head>, Bytes)> {
    let (mut head, mut body) = (None, BytesMut::new());
    while let Some(piped) = answer.recv().await {
        match piped {
            Piped::Head(said) => head = Some(said),
            Piped::Piece(piece) => body.extend_from_slice(&piece),
            Piped::End => break,
        }
    }
    head.map(|head| (head, body.freeze()))
}

/// A message as a server-sent event, its name the type that it states.
fn as_event(message: &str) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    let named: Option<Named<'_>> = serde_json::from_str(message).ok();
    let kind = named.map_or_else(|| "error".into(), |named| named.kind);
    format!("event: {kind}\ndata: {message}\n\n").into()
}
