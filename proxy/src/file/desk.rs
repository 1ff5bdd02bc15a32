//! A tenant's calls about what it has at a provider. No provider bills them: they are admitted for the tenant's rates and
//! settled at nothing, one row each.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use openclawmu_store::{
    Bound, Demand, End, Label, ModelPrice, ObjectKind, Outcome, RequestId, ServiceTier, Standing, StoreError, Ticket,
    UpstreamObject, Usage,
};
use serde_json::Value;

use super::call::{Call, send, whole};
use crate::answer::Head;
use crate::authenticate::Caller;
use crate::client::Client;
use crate::context::{Context, Shared};
use crate::forward::Failure;
use crate::gateway::Stop;
use crate::label::tags;
use crate::metrics::AttemptOutcome;
use crate::own_key::KeyHeaders;
use crate::refusal::Refusal;
use crate::session::Session;
use crate::settle;
use crate::upstream::Answer;
use crate::upstream::Upstream;
use crate::upstream::http::Fault;

/// The most that is read of what a provider says of a thing.
const TOLD_BYTES: usize = 1 << 20;
/// What these calls cost.
static NOTHING: LazyLock<Arc<ModelPrice>> = LazyLock::new(Arc::default);

/// A tenant at one upstream, in one request.
pub(crate) struct Desk<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) caller: &'a Caller,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) own_key: Option<KeyHeaders>,
    /// What rows name in the place of a model.
    name: &'static str,
    pub(crate) request_id: RequestId,
    pub(crate) label: Label,
    headers: Vec<(&'static str, HeaderValue)>,
    attempts: u16,
    standing: Standing,
}

impl<'a> Desk<'a> {
    /// The tenant where its new things are to be.
    ///
    /// # Errors
    /// 404 where there is no such upstream.
    pub(crate) fn for_new(
        (shared, caller): (&'a Shared, &'a Caller),
        (request_id, headers): (RequestId, &HeaderMap),
        kind: ObjectKind,
    ) -> Result<Self, Refusal> {
        let upstream = shared.catalog.load().files().cloned();
        let upstream = upstream.ok_or_else(|| Refusal::NotFound {
            code: "unknown_url",
            message: "No upstream of this gateway keeps files; the operator can add one of kind `openai` or `azure`."
                .to_owned(),
        })?;
        let own_key = shared.own_keys.of(&caller.policy, &upstream)?;
        Self::at((shared, caller), (request_id, headers), kind, (upstream, own_key))
    }

    /// The tenant where a thing of its is, in the account that it is in.
    ///
    /// # Errors
    /// 404 where that account can't be reached any more.
    pub(crate) fn of(
        (shared, caller): (&'a Shared, &'a Caller),
        (request_id, headers): (RequestId, &HeaderMap),
        (kind, object): (ObjectKind, &UpstreamObject),
    ) -> Result<Self, Refusal> {
        let upstream = shared.catalog.load().upstream(&object.upstream).cloned();
        let upstream = upstream.ok_or_else(|| not_found(kind, &object.id))?;
        let own_key = match object.own_key {
            true => Some(shared.own_keys.of(&caller.policy, &upstream)?.ok_or_else(|| not_found(kind, &object.id))?),
            false => None,
        };
        Self::at((shared, caller), (request_id, headers), kind, (upstream, own_key))
    }

    fn at(
        (shared, caller): (&'a Shared, &'a Caller),
        (request_id, headers): (RequestId, &HeaderMap),
        kind: ObjectKind,
        (upstream, own_key): (Arc<Upstream>, Option<KeyHeaders>),
    ) -> Result<Self, Refusal> {
        let mut label = Label::default();
        tags(headers, &mut label)?;
        let name = match kind {
            ObjectKind::File => "files",
            ObjectKind::Batch => "batches",
        };
        let headers = upstream.provider().same_headers(headers);
        let standing = Standing::default();
        Ok(Self { shared, caller, upstream, own_key, name, request_id, label, headers, attempts: 0, standing })
    }

    /// What is left after the last call.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The number of the next attempt of this request.
    pub(crate) fn next_attempt(&mut self) -> u16 {
        let attempt = self.attempts;
        self.attempts = attempt.saturating_add(1);
        attempt
    }

    /// Admits, sends and settles a call whose answer is short; its body.
    ///
    /// # Errors
    /// The tenant's rates, and whatever the provider refuses or fails at.
    pub(crate) async fn ask(&mut self, call: &Call) -> Result<Bytes, Stop> {
        self.ask_within(call, TOLD_BYTES).await
    }

    /// [`Desk::ask`] for an answer of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Desk::ask`].
    pub(crate) async fn ask_within(&mut self, call: &Call, limit: usize) -> Result<Bytes, Stop> {
        let begun = self.begin(call).await?;
        self.read(begun, limit).await
    }

    /// [`Desk::ask`] in the course of another attempt of the same request, which keeps its place among those in flight.
    ///
    /// # Errors
    /// As [`Desk::ask`].
    pub(crate) async fn ask_beside(&mut self, other: &Ticket, call: &Call) -> Result<Bytes, Stop> {
        let begun = self.begin_beside(Some(other), call).await?;
        self.read(begun, TOLD_BYTES).await
    }

    async fn read(&mut self, (ticket, mut answer): (Ticket, Answer), limit: usize) -> Result<Bytes, Stop> {
        match whole(&mut answer, limit).await {
            Ok(body) => {
                answer.release().await;
                self.end(ticket, Outcome::Complete);
                Ok(body)
            }
            Err(fault) => Err(self.fail(ticket, Failure::Fault(fault))),
        }
    }

    /// Admits and sends a call; its answer is still to be read and its ticket to be settled, by [`Desk::end`].
    ///
    /// # Errors
    /// As [`Desk::ask`].
    pub(crate) async fn begin(&mut self, call: &Call) -> Result<(Ticket, Answer), Stop> {
        self.begin_beside(None, call).await
    }

    async fn begin_beside(&mut self, other: Option<&Ticket>, call: &Call) -> Result<(Ticket, Answer), Stop> {
        let ticket = self.admit(other).await?;
        if let Err(err) = ticket.durable().await {
            tracing::error!(%err, "a reservation can't be made durable");
            return Err(self.fail(ticket, Failure::Store));
        }
        match send((&self.upstream, self.own_key.as_ref()), call, &self.headers).await {
            Ok(answer) => Ok((ticket, answer)),
            Err(failure) => Err(self.fail(ticket, failure)),
        }
    }

    async fn admit(&mut self, other: Option<&Ticket>) -> Result<Ticket, Refusal> {
        let (store, policy, attempt) = (&self.shared.store, &self.caller.policy, self.next_attempt());
        let unavailable = |err: StoreError| {
            tracing::error!(%err, "a name can't be stored");
            Refusal::Store
        };
        let demand = Demand {
            request_id: self.request_id,
            attempt,
            stream: false,
            tenant: policy.tenant_key,
            token: policy.token_key,
            quota: &policy.quota,
            zone: &policy.zone,
            model: store.name_key(self.name).await.map_err(unavailable)?,
            upstream: self.upstream.key(store).await.map_err(unavailable)?,
            price: &NOTHING,
            rate_card: 0,
            bound: Bound::default(),
            prompt_estimate: 0,
            service_tier: ServiceTier::Standard,
            label: store.label_key(policy.tenant_key, &self.label),
            markup: policy.markup,
            cap: policy.cap(),
        };
        let admitted = match other {
            Some(other) => store.admit_beside(&demand, other),
            None => store.admit(&demand),
        };
        let ticket = admitted.map_err(|refused| Refusal::quota(refused, store.clock().now()))?;
        self.standing = ticket.standing();
        Ok(ticket)
    }

    /// Settles a call that was answered, wholly or in part.
    pub(crate) fn end(&mut self, ticket: Ticket, outcome: Outcome) {
        let counted = if outcome == Outcome::Complete { AttemptOutcome::Complete } else { AttemptOutcome::Partial };
        self.shared.metrics.attempt(&self.upstream.name, counted);
        let end = End {
            outcome,
            http_status: 200,
            estimated: false,
            usage: Usage::default(),
            service_tier: ServiceTier::Standard,
            first_byte_ms: ticket.elapsed_ms(),
        };
        self.standing = ticket.settle(end).standing;
    }

    /// Settles a call that came to nothing; what the client is told.
    pub(crate) fn fail(&mut self, ticket: Ticket, failure: Failure) -> Stop {
        let (outcome, status) = match &failure {
            Failure::Refused(refused) => (AttemptOutcome::Refused, refused.status),
            Failure::Fault(Fault::Timeout(_)) => (AttemptOutcome::Failed, 504),
            Failure::ClientGone | Failure::Fault(_) | Failure::Store => (AttemptOutcome::Failed, 502),
        };
        let standing = settle::void(&self.shared.metrics, &self.upstream.name, ticket, outcome, status).standing;
        self.stop(failure, standing)
    }

    /// Sends a call of the gateway's own, or of what is held already; its body.
    ///
    /// # Errors
    /// What failed.
    pub(crate) async fn send_held(&self, call: &Call, limit: usize) -> Result<Bytes, Failure> {
        let mut answer = send((&self.upstream, self.own_key.as_ref()), call, &self.headers).await?;
        let body = whole(&mut answer, limit).await.map_err(Failure::Fault)?;
        answer.release().await;
        Ok(body)
    }

    /// What the client is told of a failure.
    pub(crate) fn stop(&self, failure: Failure, standing: Standing) -> Stop {
        if let Failure::Fault(fault) = &failure {
            tracing::warn!(upstream = %self.upstream.name, %fault, "an upstream failed");
        }
        match failure.passed_on() {
            Ok(refused) => Stop::Passed(refused),
            Err(failure) => Stop::Refused(failure.refusal(&self.upstream.name), standing),
        }
    }

    /// What the provider answered is no JSON object.
    pub(crate) fn unreadable(&self) -> Refusal {
        let message = format!("The upstream `{}` answered something that cannot be read.", self.upstream.name);
        Refusal::Upstream { code: "upstream_error", message }
    }

    /// Reads a provider's answer about a thing.
    ///
    /// # Errors
    /// 502 where it is no JSON object with an id.
    pub(crate) fn told(&self, body: &[u8]) -> Result<Told, Refusal> {
        Told::read(body).ok_or_else(|| self.unreadable())
    }
}

/// What a provider says of a thing.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its id.
    pub(crate) id: String,
    /// All of it.
    pub(crate) object: serde_json::Map<String, Value>,
}

impl Told {
    /// Reads it; `None` where it is no JSON object with a usable id.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let object: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
        let id = object.get("id")?.as_str().filter(|id| is_id(id))?.to_owned();
        Some(Self { id, object })
    }

    /// A text in it; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.object.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Whether a text can be an id: nothing else ever becomes a part of a path.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=200).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// There is no such thing, or it is another tenant's.
pub(crate) fn not_found(kind: ObjectKind, id: &str) -> Refusal {
    let id: String = id.chars().take(200).collect();
    let (code, what) = match kind {
        ObjectKind::File => ("file_not_found", "File"),
        ObjectKind::Batch => ("batch_not_found", "Batch"),
    };
    Refusal::NotFound { code, message: format!("No such {what} object: {id}") }
}

/// The store can't answer.
pub(crate) fn unavailable(err: &StoreError) -> Refusal {
    tracing::error!(%err, "what tenants have at providers can't be read or written");
    Refusal::Store
}

/// A tenant's thing.
///
/// # Errors
/// 404 where it has no such one.
pub(crate) fn owned(
    (shared, caller): (&Shared, &Caller),
    kind: ObjectKind,
    id: &str,
) -> Result<UpstreamObject, Refusal> {
    let object = match is_id(id) {
        true => shared.store.object(caller.policy.tenant_key, kind, id).map_err(|err| unavailable(&err))?,
        false => None,
    };
    object.ok_or_else(|| not_found(kind, id))
}

/// Answers with what a provider said, and what is left of the tenant's rates.
pub(crate) async fn reply(session: &mut Session<'_>, ctx: &Context, desk: &Desk<'_>, body: Bytes) -> Result<(), Stop> {
    let mut head = Head::of(200, ctx.request_id, ctx.dialect)?;
    head.set_standing(desk.standing());
    Ok(head.send(&mut Client::Http(session.again()), "application/json", body).await?)
}

/// A tenant has too many things, or nobody knows.
pub(crate) fn no_room(err: &StoreError) -> Refusal {
    let StoreError::Conflict(message) = err else { return unavailable(err) };
    Refusal::bad("file", format!("Too many: {message}."))
}

pub(crate) fn no_such_route() -> Refusal {
    Refusal::NotFound { code: "unknown_url", message: "There is no such route.".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-01
    #[test]
    fn no_id_leads_to_another_path() {
        assert!(is_id("file-abc_DEF123"));
        for bad in ["", "..", "a/b", "a%2fb", "a?b", "a.b", "a b", "é", "a\r\n", &"a".repeat(201)] {
            assert!(!is_id(bad), "{bad}");
        }
    }
}
