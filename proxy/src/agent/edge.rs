//! A turn for a client of the edge: `model` is `openclaw/<agent>`, by `POST /v1/chat/completions`.

use std::sync::Arc;
use std::time::Instant;

use openclawmu_store::Scope;

use super::ask::{self, Asked};
use super::ear::{Ear, Voice};
use super::turn::{self, Turn};
use super::who::Who;
use crate::authenticate::{self, Caller};
use crate::client::Client;
use crate::context::Context;
use crate::gateway::{Gateway, Stop};
use crate::observe::Fate;
use crate::read::Call;
use crate::refusal::Refusal;
use crate::routes::AiRoute;
use crate::session::Session;
use crate::socket::Guard;

/// What names an agent in the place of a model.
pub(crate) const PREFIX: &str = "openclaw/";

impl Gateway {
    /// Answers a request that names an agent. The agent's model goes through the stages once for each step.
    pub(crate) async fn agent_turn(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        caller: &Caller,
        call: Call,
    ) -> Result<(), Stop> {
        ctx.notes.call(&call);
        check(caller, &call)?;
        let headers = &session.req_header().headers;
        let Asked { agent, session: talk, messages, options } = ask::read(&call, headers)?;
        let (presented, _) = authenticate::presented(headers, false)?;
        let who = Who::Token(Guard {
            shared: Arc::clone(&self.shared),
            presented: presented.into(),
            peer: session.peer(),
            since: Instant::now(),
        });
        let created = self.shared.store.clock().now().0.div_euclid(1_000);
        let voice = Voice { request_id: call.request_id, model: call.ask.model.clone(), created };
        let turn = Turn { agent, session: talk, messages, options, label: call.label, request_id: call.request_id };
        let mut client = Client::Http(session.again());
        let mut ear = if call.ask.stream {
            Ear::streaming(&mut client, voice, call.ask.wants_usage)
        } else {
            Ear::whole(&mut client, voice)
        };
        match Box::pin(turn::take(self, &who, turn, &mut ear)).await {
            Ok(total) => ear.done(&total).await,
            Err(stop) if ear.has_begun() => {
                ctx.notes.ended(Fate::Partial, None);
                ear.broken(stop).await
            }
            Err(stop) => Err(stop),
        }
    }
}

/// Who may talk to agents, and how.
fn check(caller: &Caller, call: &Call) -> Result<(), Refusal> {
    if call.route != AiRoute::ChatCompletions {
        let message = "An agent is asked by POST /v1/chat/completions alone: here `model` must be a model.";
        return Err(Refusal::bad("model", message));
    }
    if caller.policy.secret.is_some() {
        let message = "What an agent keeps is its tenant's: a client secret can't talk to one.".to_owned();
        return Err(Refusal::Forbidden { code: "not_for_client_secrets", message });
    }
    if caller.policy.allows(Scope::Agents) { Ok(()) } else { Err(Refusal::scope_missing(Scope::Agents)) }
}
