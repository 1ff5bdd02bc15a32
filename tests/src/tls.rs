//! A front that speaks TLS, HTTP/2 or HTTP/1.1, before the scripted upstream, as providers' edges do. Strict where they are: an
//! HTTP/2 request without its authority, or with a Host beside it, is answered with 400.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::client::http_client;

/// What passes a front.
#[derive(Debug, Clone, Copy)]
enum Behind {
    /// Requests, each read and made anew.
    Requests,
    /// Bytes.
    Bytes,
}

/// A running front.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    dir: tempfile::TempDir,
    seen: Arc<Mutex<Vec<Version>>>,
    _tasks: JoinSet<()>,
}

impl TlsFront {
    /// Starts a front of `upstream` that offers only `protocol`: `h2` or `http/1.1`.
    pub async fn start(upstream: SocketAddr, protocol: &str) -> Self {
        Self::before(upstream, ("localhost", &[protocol]), Behind::Requests).await
    }

    /// Starts a front of `upstream` that offers both, as providers do, and whose bytes pass both ways as they are.
    pub async fn tunnel(upstream: SocketAddr) -> Self {
        Self::before(upstream, ("localhost", &["h2", "http/1.1"]), Behind::Bytes).await
    }

    /// Starts a front of `upstream` that has a certificate for `name`, and whose bytes pass both ways as they are.
    pub async fn named(upstream: SocketAddr, name: &str) -> Self {
        Self::before(upstream, (name, &["http/1.1"]), Behind::Bytes).await
    }

    async fn before(upstream: SocketAddr, (name, protocols): (&str, &[&str]), behind: Behind) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).expect("the certificate's file");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .expect("protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a server's config");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (acceptor, theirs) = (TlsAcceptor::from(Arc::new(config)), Arc::clone(&seen));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                match behind {
                    Behind::Requests => {
                        connections.spawn(converse(stream, acceptor.clone(), upstream, Arc::clone(&theirs)))
                    }
                    Behind::Bytes => connections.spawn(tunnel(stream, acceptor.clone(), upstream)),
                };
            }
        });
        Self { address, dir, seen, _tasks: tasks }
    }

    /// What a gateway's `base_url` must be; the certificate is for this name.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("https://localhost:{}/v1", self.address.port())
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The only certificate that vouches for it.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// The HTTP version of each request so far.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        self.seen.lock().expect("the record").clone()
    }
}

async fn tunnel(stream: TcpStream, acceptor: TlsAcceptor, upstream: SocketAddr) {
    let (Ok(mut outer), Ok(mut inner)) = (acceptor.accept(stream).await, TcpStream::connect(upstream).await) else {
        return;
    };
    // An end without a farewell is one too.
    tokio::io::copy_bidirectional(&mut outer, &mut inner).await.ok();
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, upstream: SocketAddr, seen: Arc<Mutex<Vec<Version>>>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, upstream, Arc::clone(&seen)));
    // A caller that goes away ends its conversation, which is no fault of the front's.
    if h2 {
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http.serve_connection(TokioIo::new(stream), service).await.ok();
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
    }
}

async fn answer(
    request: Request<Incoming>,
    upstream: SocketAddr,
    seen: Arc<Mutex<Vec<Version>>>,
) -> Result<Response<Full<Bytes>>, reqwest::Error> {
    seen.lock().expect("the record").push(request.version());
    let host = request.headers().contains_key(http::header::HOST);
    let well_formed = (request.version() == Version::HTTP_2) == (request.uri().authority().is_some() && !host);
    if !well_formed {
        return Ok(Response::builder().status(400).body(Full::default()).expect("an answer"));
    }
    let path = request.uri().path().to_owned();
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut headers = head.headers;
    headers.remove(http::header::HOST);
    let url = format!("http://{upstream}{path}");
    let reply = crate::client::http_client(false).post(url).headers(headers).body(body).send().await?;
    let mut response = Response::builder().status(reply.status());
    if let Some(kind) = reply.headers().get(http::header::CONTENT_TYPE) {
        response = response.header(http::header::CONTENT_TYPE, kind);
    }
    Ok(response.body(Full::new(reply.bytes().await?)).expect("an answer"))
}

/// A certificate for an edge that speaks TLS, and its clients.
#[derive(Debug)]
pub struct TlsEdge {
    dir: tempfile::TempDir,
    cert: CertificateDer<'static>,
    http: reqwest::Client,
    versions: Mutex<Vec<Version>>,
}

impl Default for TlsEdge {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsEdge {
    /// A certificate for `localhost`.
    #[must_use]
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("the certificate's file");
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("the key's file");
        let _provider = http_client(false);
        let root = reqwest::Certificate::from_der(made.cert.der()).expect("a certificate");
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([root]).pool_max_idle_per_host(0).build();
        let cert = made.cert.der().clone();
        Self { dir, cert, http: http.expect("a client"), versions: Mutex::default() }
    }

    /// The certificate's file.
    #[must_use]
    pub fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// The key's file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// GET, as a usual client does it; the status.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, edge: SocketAddr, path: &str) -> Result<u16, reqwest::Error> {
        let reply = self.http.get(format!("https://localhost:{}{path}", edge.port())).send().await?;
        let mut versions = self.versions.lock().expect("unpoisoned");
        if !versions.contains(&reply.version()) {
            versions.push(reply.version());
        }
        Ok(reply.status().as_u16())
    }

    /// The HTTP versions of the answers so far.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        self.versions.lock().expect("unpoisoned").clone()
    }

    /// A connection that has agreed on `protocol` and has said nothing yet.
    pub async fn connect(&self, edge: SocketAddr, protocol: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.cert.clone()).expect("a root");
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("protocol versions").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(edge).await.expect("the edge listens");
        let name = ServerName::try_from("localhost").expect("a name");
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }
}
