//! One call, bounded in size and time. No redirect is followed: it would carry what was signed for one host to another.

use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, StatusCode};
use reqwest::dns::Resolve;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, RequestBuilder, Url};

use crate::outbound::resolve::{Public, System};
use crate::outbound::{OutboundUrl, TenantUrl};

/// How the gateway names itself.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("openclawmu/", env!("CARGO_PKG_VERSION")));
/// The longest time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a call may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time of a call, its answer included.
    pub timeout: Duration,
    /// The most of an answer's body that is read.
    pub max_answer_bytes: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as far as the limits let it come.
    pub body: Vec<u8>,
    /// Whether that is all of it.
    pub whole: bool,
}

/// Why there is no answer. In the system's own words, without the URL.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct CallError {
    /// What happened.
    pub why: String,
    /// Whether the other side may have got the request.
    pub doubtful: bool,
}

/// Calls to what the operator's configuration names.
#[derive(Clone, Debug)]
pub struct OperatorCalls(Wire);

/// Calls to what tenants name.
#[derive(Clone, Debug)]
pub struct TenantCalls {
    /// To the public internet.
    public: Wire,
    /// To what the operator opened.
    internal: Wire,
}

#[derive(Clone, Debug)]
struct Wire {
    http: Client,
    max_answer_bytes: usize,
}

impl OperatorCalls {
    /// Calls within `limits`. The process has installed rustls' default provider.
    ///
    /// # Errors
    /// The sentence to show when there can be no HTTP client.
    pub fn new(limits: Limits) -> Result<Self, String> {
        Wire::new(limits, Arc::new(System)).map(Self)
    }

    /// Posts to `url`.
    ///
    /// # Errors
    /// [`CallError`] when no head of an answer came in time.
    pub async fn post(&self, url: &OutboundUrl, headers: HeaderMap, body: String) -> Result<Answer, CallError> {
        self.0.post(url.url().clone(), headers, body.into()).await
    }

    /// Posts to the `path` beneath `url`.
    ///
    /// # Errors
    /// [`CallError`] when no head of an answer came in time.
    pub async fn post_beneath(
        &self,
        (url, path): (&OutboundUrl, &[&str]),
        headers: HeaderMap,
        body: String,
    ) -> Result<Answer, CallError> {
        self.0.post(url.beneath(path), headers, body.into()).await
    }

    /// Gets the `path` beneath `url`.
    ///
    /// # Errors
    /// [`CallError`] when no head of an answer came in time.
    pub async fn get_beneath(
        &self,
        (url, path): (&OutboundUrl, &[&str]),
        headers: HeaderMap,
    ) -> Result<Answer, CallError> {
        self.0.send(self.0.http.get(url.beneath(path)).headers(headers)).await
    }
}

impl TenantCalls {
    /// Calls within `limits`. The process has installed rustls' default provider.
    ///
    /// # Errors
    /// The sentence to show when there can be no HTTP client.
    pub fn new(limits: Limits) -> Result<Self, String> {
        Self::resolving(limits, Arc::new(System))
    }

    /// The same over another resolver, such as one that rebinds.
    pub(super) fn resolving(limits: Limits, resolver: Arc<dyn Resolve>) -> Result<Self, String> {
        let public = Wire::new(limits, Arc::new(Public(Arc::clone(&resolver))))?;
        Ok(Self { public, internal: Wire::new(limits, resolver)? })
    }

    /// Posts to `url`.
    ///
    /// # Errors
    /// [`CallError`] when its host is not public, or no head of an answer came in time.
    pub async fn post(&self, url: &TenantUrl, headers: HeaderMap, body: Vec<u8>) -> Result<Answer, CallError> {
        let wire = if url.is_internal() { &self.internal } else { &self.public };
        wire.post(url.url().clone(), headers, body.into()).await
    }
}

impl Wire {
    fn new(limits: Limits, resolver: Arc<dyn Resolve>) -> Result<Self, String> {
        let http = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT.min(limits.timeout))
            .timeout(limits.timeout)
            .dns_resolver(resolver)
            .build()
            .map_err(|err| format!("there can be no HTTP client: {err}"))?;
        Ok(Self { http, max_answer_bytes: limits.max_answer_bytes })
    }

    async fn post(&self, url: Url, headers: HeaderMap, body: Body) -> Result<Answer, CallError> {
        self.send(self.http.post(url).headers(headers).body(body)).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, CallError> {
        let mut response = request.header(USER_AGENT, AGENT).send().await.map_err(|err| {
            let doubtful = !err.is_connect();
            CallError { why: cause(&err.without_url()), doubtful }
        })?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut answer = Answer { status, headers, body: Vec::new(), whole: false };
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = self.max_answer_bytes.saturating_sub(answer.body.len());
                    let Some(fits) = chunk.get(..room).filter(|fits| fits.len() < chunk.len()) else {
                        answer.body.extend_from_slice(&chunk);
                        continue;
                    };
                    answer.body.extend_from_slice(fits);
                    return Ok(answer);
                }
                Ok(None) => {
                    answer.whole = true;
                    return Ok(answer);
                }
                Err(err) => {
                    tracing::debug!(why = cause(&err.without_url()), "an answer broke off");
                    return Ok(answer);
                }
            }
        }
    }
}

/// The system's own words about a call that failed; what is around them repeats the URL.
fn cause(err: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = err;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
