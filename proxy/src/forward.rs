//! Stage 5. From an outbound request to the head of its answer. Needs a ticket: nothing goes out that was not reserved.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use openclawmu_store::{Ticket, UnixMs};

use crate::client::Client;
use crate::refusal::Refusal;
use crate::route::Outbound;
use crate::upstream::health::{Sign, asked_pause};
use crate::upstream::http::{Fault, Outgoing};
use crate::upstream::provider::Provider;
use crate::upstream::{Answer, Backend, NotWhole, Upstream, echo};

/// The most that is read of an upstream's refusal.
const REFUSAL_BYTES: usize = 64 << 10;
/// The longest time that its body may take, however it comes.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer that has begun well.
pub(crate) struct Reply {
    /// Its content type.
    pub(crate) content_type: String,
    source: Source,
}

enum Source {
    Http(Box<Answer>),
    Echo(VecDeque<Bytes>),
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client left first.
    ClientGone,
    /// The upstream could not be reached, took too long or broke.
    Fault(Fault),
    /// The upstream refused.
    Refused(Rejected),
    /// The reservation can't be made durable.
    Store,
}

/// An upstream's refusal.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Its status.
    pub(crate) status: u16,
    /// Its content type.
    pub(crate) content_type: String,
    /// When it may be tried again.
    pub(crate) retry_after: Option<String>,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Failure {
    /// Whether another target may be tried: nothing was answered and nothing is wrong with the request.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Fault(Fault::Connect(_)) => true,
            Self::Refused(refused) => matches!(refused.status, 429 | 503 | 529),
            Self::Fault(Fault::Timeout(_) | Fault::Broken(_) | Fault::Exhausted) | Self::ClientGone | Self::Store => {
                false
            }
        }
    }

    /// What went wrong in one word, for `error.type`: a status, or what is not there.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::ClientGone => "client_gone".to_owned(),
            Self::Fault(Fault::Connect(_)) => "connect".to_owned(),
            Self::Fault(Fault::Timeout(_)) => "timeout".to_owned(),
            Self::Fault(Fault::Broken(_)) => "broken".to_owned(),
            Self::Fault(Fault::Exhausted) => "exhausted".to_owned(),
            Self::Refused(refused) => refused.status.to_string(),
            Self::Store => "store".to_owned(),
        }
    }

    /// What it says of the upstream; `None` where it says nothing.
    pub(crate) fn sign(&self) -> Option<Sign> {
        match self {
            Self::Fault(Fault::Exhausted) => None,
            Self::Fault(_) => Some(Sign::Failed),
            Self::Refused(refused) => match refused.status {
                429 | 503 | 529 => Some(Sign::Busy(asked_pause(refused.retry_after.as_deref()))),
                500..600 => Some(Sign::Failed),
                _ => Some(Sign::Answered),
            },
            Self::ClientGone | Self::Store => None,
        }
    }

    /// What the client is told, where it is not the upstream's own refusal.
    pub(crate) fn refusal(&self, upstream: &str) -> Refusal {
        let failed =
            |code, what: &str| Refusal::Upstream { code, message: format!("The upstream `{upstream}` {what}") };
        match self {
            Self::ClientGone | Self::Fault(Fault::Broken(_)) => {
                failed("upstream_broken", "broke off before it answered.")
            }
            Self::Fault(Fault::Exhausted) => Refusal::Exhausted,
            Self::Fault(Fault::Connect(_)) => failed("upstream_unreachable", "cannot be reached."),
            Self::Fault(Fault::Timeout(_)) => {
                Refusal::UpstreamTimeout { message: format!("The upstream `{upstream}` did not answer in time.") }
            }
            Self::Refused(refused) if refused.status == 401 => {
                failed("upstream_auth", "does not accept the operator's key.")
            }
            Self::Refused(refused) => failed("upstream_error", &format!("failed with status {}.", refused.status)),
            Self::Store => Refusal::Store,
        }
    }

    /// The upstream's own refusal, where the client gets it as it is: what is wrong with the request, or its rate.
    pub(crate) fn passed_on(self) -> Result<Rejected, Self> {
        match self {
            Self::Refused(refused) if (400..500).contains(&refused.status) && refused.status != 401 => Ok(refused),
            other @ (Self::Refused(_) | Self::ClientGone | Self::Fault(_) | Self::Store) => Err(other),
        }
    }
}

/// Sends it. A client that leaves meanwhile cuts the upstream's connection.
pub(crate) async fn forward(
    client: &mut Client<'_>,
    upstream: &Upstream,
    outbound: &Outbound,
    ticket: &Ticket,
    now: UnixMs,
) -> Result<Reply, Failure> {
    if let Err(err) = ticket.durable().await {
        tracing::error!(%err, "a reservation can't be made durable");
        return Err(Failure::Store);
    }
    match &upstream.backend {
        Backend::Echo => from_echo(echo::answer(outbound.api, &outbound.body)),
        Backend::Http(provider, http) => {
            let signed = http.signed((&outbound.path, &outbound.body), now).transpose();
            let signed = signed.map_err(|err| Failure::Fault(Fault::Broken(err.to_string())))?;
            let outgoing = Outgoing {
                method: &outbound.method,
                content_type: &outbound.content_type,
                path: &outbound.path,
                body: outbound.body.clone(),
                accept: outbound.accept,
                headers: outbound.headers.clone(),
                own_key: signed.as_ref().or(outbound.own_key.as_deref()),
                once: false,
            };
            let answer = tokio::select! {
                biased;
                answer = http.send(&outgoing) => answer.map_err(Failure::Fault)?,
                () = client.gone() => return Err(Failure::ClientGone),
            };
            from_http(client, provider, answer).await
        }
    }
}

fn from_echo(answer: echo::Answer) -> Result<Reply, Failure> {
    let content_type = answer.content_type.to_owned();
    if answer.status != 200 {
        let body = answer.pieces.into_iter().next().unwrap_or_default();
        return Err(Failure::Refused(Rejected { status: answer.status, content_type, retry_after: None, body }));
    }
    Ok(Reply { content_type, source: Source::Echo(answer.pieces) })
}

async fn from_http(client: &mut Client<'_>, provider: &Provider, mut answer: Answer) -> Result<Reply, Failure> {
    let content_type = answer.header("content-type").unwrap_or("application/json").to_owned();
    let status = answer.status();
    if status == 200 {
        return Ok(Reply { content_type, source: Source::Http(Box::new(answer)) });
    }
    let retry_after = answer.header("retry-after").map(str::to_owned);
    let body = tokio::select! {
        body = tokio::time::timeout(REFUSAL_TIMEOUT, refusal_body(&mut answer)) => body.unwrap_or_default(),
        () = client.gone() => return Err(Failure::ClientGone),
    };
    if body.is_some() {
        answer.release().await;
    }
    let body = body.unwrap_or_default();
    let status = provider.refusal_status(status);
    Err(Failure::Refused(Rejected { status, content_type, retry_after, body }))
}

/// The whole body of a refusal; `None` when it is too long or breaks off.
pub(crate) async fn refusal_body(answer: &mut Answer) -> Option<Bytes> {
    answer.whole(REFUSAL_BYTES).await.ok()
}

impl Reply {
    /// The next piece of the body; `None` at its proper end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        match &mut self.source {
            Source::Http(answer) => answer.piece().await,
            Source::Echo(pieces) => Ok(pieces.pop_front()),
        }
    }

    /// The whole body, or what is left of it.
    ///
    /// # Errors
    /// When it is longer than `most` bytes, or breaks off.
    pub(crate) async fn whole(&mut self, most: usize) -> Result<Bytes, NotWhole> {
        match &mut self.source {
            Source::Http(answer) => answer.whole(most).await,
            Source::Echo(pieces) => Ok(std::mem::take(pieces).into_iter().collect::<Vec<_>>().concat().into()),
        }
    }

    /// Stops timing each read of the body; the longest pause is the caller's to watch from now on.
    pub(crate) fn unwatched(&mut self) -> Duration {
        match &mut self.source {
            Source::Http(answer) => answer.unwatched(),
            Source::Echo(_) => Duration::from_secs(3600),
        }
    }

    /// Gives the connection back; called when the body has ended.
    pub(crate) async fn release(self) {
        match self.source {
            Source::Http(answer) => answer.release().await,
            Source::Echo(_) => {}
        }
    }
}
