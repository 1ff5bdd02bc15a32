//! An upstream over HTTP: requests built from an allow-list, answers read piece by piece.
//!
//! Nothing that a client sends reaches an upstream but the body and a few named headers; the key goes to its own host only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use secrecy::ExposeSecret;

use super::peer::Peers;
use crate::config::UpstreamConfig;

/// A connection that was closed while it idled breaks within a round trip; what breaks later may have been worked on.
const STALE_WITHIN: Duration = Duration::from_secs(1);
/// How the gateway names itself to upstreams.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("openclawmu/", env!("CARGO_PKG_VERSION")));
/// Client headers that are passed on.
const PASSED_ON: [&str; 1] = ["openai-beta"];

/// An upstream over HTTP.
pub(crate) struct HttpUpstream {
    connector: Arc<Connector>,
    peers: Peers,
    host: HeaderValue,
    base_path: String,
    authorization: Option<HeaderValue>,
    first_byte_timeout: Duration,
    idle_timeout: Duration,
}

/// A request on its way.
pub(crate) struct Outgoing<'a> {
    /// The path after the base URL.
    pub(crate) path: &'a str,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether a stream is asked for.
    pub(crate) stream: bool,
    /// The client's headers that go on.
    pub(crate) headers: Vec<(&'static str, HeaderValue)>,
}

/// Those of a client's headers that go on.
pub(crate) fn passed_on(headers: &HeaderMap) -> Vec<(&'static str, HeaderValue)> {
    PASSED_ON.iter().filter_map(|name| headers.get(*name).map(|value| (*name, value.clone()))).collect()
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No connection: surely nothing was sent.
    #[error("no connection: {0}")]
    Connect(String),
    /// The upstream took too long.
    #[error("no byte within {0:?}")]
    Timeout(Duration),
    /// The connection broke, or what came is no HTTP.
    #[error("broken: {0}")]
    Broken(String),
}

/// An answer whose head has come.
pub(crate) struct Answer {
    session: HttpSession,
    peer: Arc<HttpPeer>,
    connector: Arc<Connector>,
    idle_timeout: Duration,
}

impl HttpUpstream {
    pub(crate) fn new(config: &UpstreamConfig, connector: Arc<Connector>) -> Result<Self, String> {
        let url = config.base_url.as_ref().ok_or("the base URL is missing")?;
        let tls = url.scheme_str() == Some("https");
        let authority = url.authority().ok_or("the base URL has no host")?;
        let authorization = config.api_key.as_ref().map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
                .map_err(|_| "the API key holds characters that no header can hold")?;
            value.set_sensitive(true);
            Ok::<_, String>(value)
        });
        Ok(Self {
            connector,
            peers: Peers::new(
                authority.host(),
                authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
                tls,
                config.connect_timeout,
            ),
            host: HeaderValue::try_from(authority.as_str()).map_err(|err| err.to_string())?,
            base_path: url.path().trim_end_matches('/').to_owned(),
            authorization: authorization.transpose()?,
            first_byte_timeout: config.first_byte_timeout,
            idle_timeout: config.idle_timeout,
        })
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A pooled connection that the upstream closed meanwhile is noticed only now; the request goes out once more, on a fresh
    /// one, when nothing at all came back.
    pub(crate) async fn send(&self, outgoing: &Outgoing<'_>) -> Result<Answer, Fault> {
        let peer = self.peers.next().await.map_err(Fault::Connect)?;
        loop {
            let started = Instant::now();
            let (mut session, reused) =
                self.connector.get_http_session(&*peer).await.map_err(|err| Fault::Connect(err.to_string()))?;
            match self.exchange(&mut session, outgoing).await {
                Ok(()) => {
                    session.set_read_timeout(Some(self.idle_timeout));
                    return Ok(Answer {
                        session,
                        peer,
                        connector: Arc::clone(&self.connector),
                        idle_timeout: self.idle_timeout,
                    });
                }
                Err(Fault::Broken(err)) if reused && started.elapsed() < STALE_WITHIN => {
                    tracing::debug!(err, "a pooled connection was stale; trying a fresh one")
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn exchange(&self, session: &mut HttpSession, outgoing: &Outgoing<'_>) -> Result<(), Fault> {
        let header = self.header(outgoing).map_err(|err| Fault::Broken(err.to_string()))?;
        let broken = |err: Box<pingora::Error>| self.fault(&err);
        session.set_read_timeout(Some(self.first_byte_timeout));
        session.set_write_timeout(Some(self.idle_timeout));
        session.write_request_header(Box::new(header)).await.map_err(broken)?;
        session.write_request_body(outgoing.body.clone(), true).await.map_err(broken)?;
        session.finish_request_body().await.map_err(broken)?;
        loop {
            session.read_response_header().await.map_err(broken)?;
            // Interim answers (RFC 9110, section 15.2) announce; the answer is still to come.
            if session.response_header().is_none_or(|header| !header.status.is_informational()) {
                return Ok(());
            }
        }
    }

    fn header(&self, outgoing: &Outgoing<'_>) -> pingora::Result<RequestHeader> {
        let path = [self.base_path.as_str(), outgoing.path].concat();
        let mut header = RequestHeader::build("POST", path.as_bytes(), Some(8))?;
        header.insert_header(HOST, self.host.clone())?;
        header.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
        header.insert_header(CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()))?;
        header.insert_header(
            ACCEPT,
            HeaderValue::from_static(if outgoing.stream { "text/event-stream" } else { "application/json" }),
        )?;
        header.insert_header(USER_AGENT, AGENT)?;
        if let Some(authorization) = &self.authorization {
            header.insert_header(AUTHORIZATION, authorization.clone())?;
        }
        for (name, value) in &outgoing.headers {
            header.insert_header(*name, value.clone())?;
        }
        Ok(header)
    }

    fn fault(&self, err: &pingora::Error) -> Fault {
        if is_timeout(err) { Fault::Timeout(self.first_byte_timeout) } else { Fault::Broken(err.to_string()) }
    }
}

impl Answer {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.session.response_header().map_or(0, |header| header.status.as_u16())
    }

    /// A header, where it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.session.response_header()?.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its proper end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, Fault> {
        self.session.read_response_body().await.map_err(|err| {
            if is_timeout(&err) { Fault::Timeout(self.idle_timeout) } else { Fault::Broken(err.to_string()) }
        })
    }

    /// Gives the connection back to the pool; called when the body has ended.
    pub(crate) async fn release(self) {
        self.connector
            .release_http_session(self.session, &*self.peer, Some(self.idle_timeout.min(Duration::from_secs(55))))
            .await;
    }
}

fn is_timeout(err: &pingora::Error) -> bool {
    matches!(
        err.etype(),
        pingora::ErrorType::ReadTimedout | pingora::ErrorType::WriteTimedout | pingora::ErrorType::ConnectTimedout
    )
}
