//! An upstream over HTTP: requests built from an allow-list, answers read piece by piece.
//!
//! Nothing that a client sends reaches an upstream but the body and a few named headers; the key goes to its own host only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Version};
use openclawmu_store::UnixMs;
use pingora::connectors::http::Connector;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::http::RequestHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::client::HttpSession;
use pingora_timeout::timeout;
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;

use super::answer::{Answer, Source};
use super::http1::Http1;
use super::peer::Peers;
use super::plain::Plain;
use super::provider::Provider;
use crate::config::{BedrockConfig, UpstreamConfig, UpstreamKind};
use crate::dialect::bedrock::sign::{Parts, SERVICE, SignError, Signer};
use crate::metrics::process;

/// A connection that was closed while it idled breaks within a round trip; what breaks later may have been worked on.
const STALE_WITHIN: Duration = Duration::from_secs(1);
/// What a usual head takes, in bytes.
const HEAD_BYTES: usize = 512;
/// The longest body that is copied behind its head, to leave with it in one plain write.
const COPIED_BYTES: usize = 16 << 10;
/// Interim answers before an answer.
const MAX_INTERIM: usize = 16;
/// How long an idle connection is kept: less than the minute after which many servers close theirs.
pub(super) const POOLED: Duration = Duration::from_secs(55);
/// How the gateway names itself to upstreams.
pub(super) const AGENT: HeaderValue = HeaderValue::from_static(concat!("openclawmu/", env!("CARGO_PKG_VERSION")));

/// Pooled connections.
#[derive(Clone)]
pub(crate) struct Pools {
    /// To `https` upstreams, HTTP/2 where they speak it.
    pub(super) secure: Arc<Connector>,
    /// To `http` upstreams: HTTP/1.1, where head and body go out in one write.
    pub(super) plain: Arc<Plain>,
    /// To either: connections that one WebSocket has for itself.
    pub(super) single: Arc<TransportConnector>,
}

impl Pools {
    /// Empty pools that keep at most `size` idle connections each.
    pub(crate) fn new(size: usize) -> Self {
        let options = || Some(ConnectorOptions::new(size));
        Self {
            secure: Arc::new(Connector::new(options())),
            plain: Arc::new(Plain::new(size)),
            single: Arc::new(TransportConnector::new(options())),
        }
    }
}

/// An upstream over HTTP.
pub(crate) struct HttpUpstream {
    pub(super) pools: Pools,
    pub(super) peers: Peers,
    pub(super) host: HeaderValue,
    pub(super) base_path: String,
    /// The operator's key.
    pub(super) key: Vec<(HeaderName, HeaderValue)>,
    key_lines: Bytes,
    /// Signs each request, where that is how the provider knows the operator.
    signer: Option<BedrockConfig>,
    tls: bool,
    /// The lines of every request's head that don't change, as they go over the wire.
    fixed_lines: Bytes,
    pub(super) first_byte_timeout: Duration,
    /// The longest pause within an answer.
    pub(crate) idle_timeout: Duration,
}

/// A request on its way.
pub(crate) struct Outgoing<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// What the body is.
    pub(crate) content_type: &'a HeaderValue,
    /// The path after the base URL.
    pub(crate) path: &'a str,
    /// The body.
    pub(crate) body: Bytes,
    /// What is accepted as an answer.
    pub(crate) accept: &'static str,
    /// The client's headers that go on.
    pub(crate) headers: Vec<(&'static str, HeaderValue)>,
    /// The tenant's own key, in the place of the operator's.
    pub(crate) own_key: Option<&'a Vec<(HeaderName, HeaderValue)>>,
    /// It must not be sent twice, even where the first time may have reached nobody.
    pub(crate) once: bool,
}

impl Outgoing<'_> {
    fn has_body(&self) -> bool {
        *self.method != Method::GET && *self.method != Method::DELETE
    }
}

fn fixed_lines(host: &HeaderValue) -> Bytes {
    let mut lines = BytesMut::new();
    line(&mut lines, HOST.as_str(), host.as_bytes());
    line(&mut lines, USER_AGENT.as_str(), AGENT.as_bytes());
    lines.freeze()
}

fn lines_of(headers: &[(HeaderName, HeaderValue)]) -> Bytes {
    let mut lines = BytesMut::new();
    for (name, value) in headers {
        line(&mut lines, name.as_str(), value.as_bytes());
    }
    lines.freeze()
}

fn line(head: &mut BytesMut, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// No connection: surely nothing was sent.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection, since this process may open no more files. It says nothing of the upstream.
    #[error(
        "no file descriptor is left for a connection; raise the limit (LimitNOFILE), or lower edge.max_connections"
    )]
    Exhausted,
    /// The upstream took too long.
    #[error("no byte within {0:?}")]
    Timeout(Duration),
    /// The connection broke, or what came is no HTTP.
    #[error("broken: {0}")]
    Broken(String),
}

impl Fault {
    /// What it means that there is no connection.
    pub(super) fn unconnected(err: String) -> Self {
        if process::is_exhausted() { Self::Exhausted } else { Self::Connect(err) }
    }
}

impl HttpUpstream {
    pub(crate) fn new(config: &UpstreamConfig, provider: &Provider, pools: Pools) -> Result<Self, String> {
        let url = config.base_url.as_ref().ok_or("the base URL is missing")?;
        let tls = url.scheme_str() == Some("https");
        let authority = url.authority().ok_or("the base URL has no host")?;
        let host = HeaderValue::try_from(authority.as_str()).map_err(|err| err.to_string())?;
        let key = provider.key_headers(config.api_key.as_ref())?;
        let signer = match &config.kind {
            UpstreamKind::Bedrock(signer) => Some(signer.clone()),
            UpstreamKind::Openai { .. }
            | UpstreamKind::Azure { .. }
            | UpstreamKind::Anthropic { .. }
            | UpstreamKind::Gemini { .. }
            | UpstreamKind::Echo => None,
        };
        Ok(Self {
            key_lines: lines_of(&key),
            fixed_lines: fixed_lines(&host),
            signer,
            tls,
            pools,
            peers: Peers::new(
                authority.host(),
                authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
                tls,
                config.connect_timeout,
            ),
            host,
            base_path: url.path().trim_end_matches('/').to_owned(),
            key,
            first_byte_timeout: config.first_byte_timeout,
            idle_timeout: config.idle_timeout,
        })
    }

    /// The headers that sign a request, where this provider wants that; `None` where it does not.
    ///
    /// # Errors
    /// When it can't be signed.
    pub(crate) fn signed(
        &self,
        (path, body): (&str, &[u8]),
        at: UnixMs,
    ) -> Option<Result<Vec<(HeaderName, HeaderValue)>, SignError>> {
        let BedrockConfig { region, access_key_id, secret_access_key, session_token } = self.signer.as_ref()?;
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{}{}{path}", self.host.to_str().unwrap_or_default(), self.base_path);
        let signer = Signer {
            access_key_id: access_key_id.expose_secret(),
            secret_access_key: secret_access_key.expose_secret(),
            session_token: session_token.as_ref().map(ExposeSecret::expose_secret),
            region,
            service: SERVICE,
        };
        Some(signer.sign(&Parts { method: "POST", url: &url, headers: &[], body }, at))
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A pooled connection that the upstream closed meanwhile is noticed only now; the request goes out once more, on a fresh
    /// one, when nothing at all came back.
    pub(crate) async fn send(&self, outgoing: &Outgoing<'_>) -> Result<Answer, Fault> {
        let peer = self.peers.next().await.map_err(Fault::unconnected)?;
        loop {
            let started = Instant::now();
            let (exchanged, reused) = if peer.is_tls() {
                // Large, for all that a handshake may need: not a part of every request's future.
                let connected = Box::pin(self.pools.secure.get_http_session(&*peer)).await;
                let (session, reused) = connected.map_err(|err| Fault::unconnected(err.to_string()))?;
                (self.exchange(session, outgoing).await, reused)
            } else {
                let connected = self.pools.plain.get(&peer).await;
                let (stream, reused) = connected.map_err(|err| Fault::unconnected(err.to_string()))?;
                (self.exchange_at_once(stream, outgoing).await, reused)
            };
            match exchanged {
                Ok(source) => return Ok(Answer::new(source, peer, self.pools.clone(), self.idle_timeout)),
                Err(Fault::Broken(err)) if reused && !outgoing.once && started.elapsed() < STALE_WITHIN => {
                    tracing::debug!(err, "a pooled connection was stale; trying a fresh one");
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    async fn exchange(&self, mut session: HttpSession, outgoing: &Outgoing<'_>) -> Result<Source, Fault> {
        let mut header = self.header(outgoing).map_err(|err| Fault::Broken(err.to_string()))?;
        if matches!(session, HttpSession::H2(_)) {
            self.make_h2(&mut header, outgoing.path).map_err(|err| Fault::Broken(err.to_string()))?;
        }
        let broken = |err: Box<pingora::Error>| self.fault(&err);
        session.set_write_timeout(Some(self.idle_timeout));
        session.write_request_header(Box::new(header)).await.map_err(broken)?;
        session.write_request_body(outgoing.body.clone(), true).await.map_err(broken)?;
        session.finish_request_body().await.map_err(broken)?;
        self.answer(session).await.map(|session| Source::Pingora(Box::new(session)))
    }

    /// Head and body in one write: a send to the kernel costs as much as anything else that the gateway does.
    async fn exchange_at_once(&self, mut stream: Stream, outgoing: &Outgoing<'_>) -> Result<Source, Fault> {
        let mut head = self.wire_head(outgoing);
        let write = async {
            if outgoing.body.len() <= COPIED_BYTES {
                head.extend_from_slice(&outgoing.body);
                stream.write_all(&head).await?;
            } else {
                stream.write_all_buf(&mut Buf::chain(head.as_ref(), outgoing.body.clone())).await?;
            }
            stream.flush().await
        };
        match timeout(self.idle_timeout, write).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => return Err(Fault::Broken(err.to_string())),
            Err(_) => return Err(Fault::Timeout(self.idle_timeout)),
        }
        match timeout(self.first_byte_timeout, Http1::answer(stream)).await {
            Ok(Ok(answer)) => Ok(Source::Own(answer)),
            Ok(Err(err)) => Err(Fault::Broken(err.to_string())),
            Err(_) => Err(Fault::Timeout(self.first_byte_timeout)),
        }
    }

    /// Waits for the head of the answer.
    async fn answer(&self, mut session: HttpSession) -> Result<HttpSession, Fault> {
        session.set_read_timeout(Some(self.first_byte_timeout));
        let head = async {
            for _ in 0..MAX_INTERIM {
                session.read_response_header().await.map_err(|err| self.fault(&err))?;
                // Interim answers (RFC 9110, section 15.2) announce; the answer is still to come.
                if session.response_header().is_none_or(|header| !header.status.is_informational()) {
                    return Ok(session);
                }
            }
            Err(Fault::Broken(format!("more than {MAX_INTERIM} interim answers and no answer")))
        };
        // A head that comes byte by byte has its time, too.
        let late = |_| Fault::Timeout(self.first_byte_timeout);
        timeout(self.first_byte_timeout, head).await.map_err(late)?
    }

    /// [`HttpUpstream::header`] as HTTP/1.1 bytes, without the detour. Every value in it was a [`HeaderValue`] or part of a
    /// [`http::Uri`], neither of which holds a line's end.
    fn wire_head(&self, outgoing: &Outgoing<'_>) -> BytesMut {
        let body = Some(outgoing.body.len()).filter(|length| *length <= COPIED_BYTES);
        let mut head = BytesMut::with_capacity(HEAD_BYTES + body.unwrap_or(0));
        for part in [outgoing.method.as_str(), " ", &self.base_path, outgoing.path, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        head.extend_from_slice(&self.fixed_lines);
        match outgoing.own_key {
            Some(key) => head.extend_from_slice(&lines_of(key)),
            None => head.extend_from_slice(&self.key_lines),
        }
        line(&mut head, ACCEPT.as_str(), outgoing.accept.as_bytes());
        if outgoing.has_body() {
            line(&mut head, CONTENT_TYPE.as_str(), outgoing.content_type.as_bytes());
            line(&mut head, CONTENT_LENGTH.as_str(), HeaderValue::from(outgoing.body.len()).as_bytes());
        }
        for (name, value) in &outgoing.headers {
            line(&mut head, name, value.as_bytes());
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    fn header(&self, outgoing: &Outgoing<'_>) -> pingora::Result<RequestHeader> {
        let path = [self.base_path.as_str(), outgoing.path].concat();
        let mut header = RequestHeader::build_no_case(outgoing.method, path.as_bytes(), Some(8))?;
        header.insert_header(HOST, self.host.clone())?;
        if outgoing.has_body() {
            header.insert_header(CONTENT_TYPE, outgoing.content_type.clone())?;
            header.insert_header(CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()))?;
        }
        header.insert_header(ACCEPT, HeaderValue::from_static(outgoing.accept))?;
        header.insert_header(USER_AGENT, AGENT)?;
        let key = outgoing.own_key.map_or(&self.key, |key| key);
        for (name, value) in key {
            header.insert_header(name.clone(), value.clone())?;
        }
        for (name, value) in &outgoing.headers {
            header.insert_header(*name, value.clone())?;
        }
        Ok(header)
    }

    /// In HTTP/2 the host is a part of the target (RFC 9113, section 8.3.1).
    fn make_h2(&self, header: &mut RequestHeader, path: &str) -> Result<(), http::Error> {
        header.remove_header(&HOST);
        header.set_version(Version::HTTP_2);
        let target = http::Uri::builder().scheme("https").authority(self.host.as_bytes());
        header.set_uri(target.path_and_query([self.base_path.as_str(), path].concat()).build()?);
        Ok(())
    }

    fn fault(&self, err: &pingora::Error) -> Fault {
        if is_timeout(err) { Fault::Timeout(self.first_byte_timeout) } else { Fault::Broken(err.to_string()) }
    }
}

pub(super) fn is_timeout(err: &pingora::Error) -> bool {
    matches!(
        err.etype(),
        pingora::ErrorType::ReadTimedout | pingora::ErrorType::WriteTimedout | pingora::ErrorType::ConnectTimedout
    )
}
