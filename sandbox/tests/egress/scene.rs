//! A host that speaks TLS, a resolver that says what it is told to, an observer that remembers, and the egress between.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use openclawmu_sandbox::egress::{
    Caps, Decision, Egress, Event, Grant, Observer, Policy, Reason, Resolve, Rule, Seams,
};
use openclawmu_sandbox::{HostUid, RunId};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name that the host has a certificate for.
pub(crate) const ALLOWED: &str = "allowed.test";
/// Another one, that it would serve as well: a neighbour behind the same address.
pub(crate) const NEIGHBOUR: &str = "neighbour.test";

pub(crate) struct Scene {
    pub(crate) egress: Egress,
    pub(crate) port: u16,
    pub(crate) names: Arc<Names>,
    pub(crate) told: Arc<Told>,
    pub(crate) host: Arc<Host>,
    pub(crate) dir: TempDir,
    _serving: JoinSet<()>,
}

/// What the host saw.
#[derive(Default)]
pub(crate) struct Host {
    /// Connections that have sent a byte.
    pub(crate) spoken_to: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    open: AtomicUsize,
    pub(crate) most_open: AtomicUsize,
    certificate: Mutex<Vec<u8>>,
}

/// Answers with the next list of a name's; the last one stays.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    pub(crate) asked: AtomicUsize,
}

impl Names {
    pub(crate) fn set(&self, host: &str, answers: &[&[&str]]) {
        let read = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(host.into(), answers.iter().map(read).collect());
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let list = answers.get_mut(host).ok_or(io::ErrorKind::NotFound)?;
        Ok(if list.len() > 1 { list.remove(0) } else { list[0].clone() })
    }
}

pub(crate) struct Told(watch::Sender<Vec<(String, u16, Decision)>>);

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        self.0.send_modify(|all| all.push((event.host.to_owned(), event.port, event.decision)));
    }
}

impl Told {
    pub(crate) fn all(&self) -> Vec<(String, u16, Decision)> {
        self.0.borrow().clone()
    }

    pub(crate) fn denials(&self) -> Vec<Reason> {
        let denied = |(_, _, decision): &(String, u16, Decision)| match decision {
            Decision::Denied(reason) => Some(*reason),
            Decision::Allowed { .. } | Decision::Closed { .. } => None,
        };
        self.0.borrow().iter().filter_map(denied).collect()
    }

    /// Waits for a decision like this one.
    pub(crate) async fn until(&self, like: impl Fn(&Decision) -> bool) -> Decision {
        let mut seen = self.0.subscribe();
        let all = seen.wait_for(|all| all.iter().any(|(_, _, decision)| like(decision))).await.unwrap();
        all.iter().map(|(_, _, decision)| *decision).find(|decision| like(decision)).unwrap()
    }
}

/// Says back what it hears, and counts who speaks.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, host: Arc<Host>) {
    let mut clients = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let (acceptor, host) = (acceptor.clone(), Arc::clone(&host));
        host.connections.fetch_add(1, Ordering::SeqCst);
        clients.spawn(async move {
            let open = host.open.fetch_add(1, Ordering::SeqCst) + 1;
            host.most_open.fetch_max(open, Ordering::SeqCst);
            if client.peek(&mut [0]).await.is_ok_and(|count| count > 0) {
                host.spoken_to.fetch_add(1, Ordering::SeqCst);
                if let Ok(tls) = acceptor.accept(client).await {
                    let (mut read, mut write) = tokio::io::split(tls);
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                    let _gone = write.shutdown().await;
                }
            }
            host.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Scene {
    /// The host is internal and allowed at its port, by the names `allowed.test` and `*.wild.test`.
    pub(crate) async fn new() -> Self {
        Self::with(Caps::default()).await
    }

    pub(crate) async fn with(caps: Caps) -> Self {
        let host = Arc::new(Host::default());
        let names: Vec<String> = [ALLOWED, NEIGHBOUR, "a.wild.test"].map(str::to_owned).into();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        *host.certificate.lock().unwrap() = cert.der().to_vec();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), Arc::clone(&host)));

        let resolver = Arc::new(Names::default());
        for name in [ALLOWED, NEIGHBOUR, "a.wild.test", "wild.test"] {
            resolver.set(name, &[&["127.0.0.1"]]);
        }
        let rules = |list: &[String]| list.iter().map(|text| Rule::parse(text).unwrap()).collect::<Vec<_>>();
        let allowed =
            rules(&[format!("{ALLOWED}:{port}"), format!("*.wild.test:{port}"), format!("public.test:{port}")]);
        let internal = rules(&[format!("{ALLOWED}:{port}"), format!("*.wild.test:{port}")]);
        let told = Arc::new(Told(watch::channel(Vec::new()).0));
        let dir = tempfile::tempdir().unwrap();
        let egress = Egress::open(
            dir.path(),
            &RunId::parse("run-a").unwrap(),
            HostUid::new(200_001).unwrap(),
            Grant { policy: Policy::new(allowed, internal), caps },
            Seams { resolver: Arc::clone(&resolver) as _, observer: Arc::clone(&told) as _ },
        )
        .unwrap();
        Self { egress, port, names: resolver, told, host, dir, _serving: serving }
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.egress.socket()).await.unwrap()
    }

    /// Sends bytes and reads all that comes back.
    pub(crate) async fn ask(&self, bytes: &[u8]) -> String {
        let mut client = self.connect().await;
        // It may be refused before it is all there.
        let _refused = client.write_all(bytes).await;
        let mut answer = Vec::new();
        let _reset = client.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    /// Asks for a tunnel, and answers the first line of what comes back.
    pub(crate) async fn status_of(&self, authority: &str) -> String {
        let answer = self.ask(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await;
        answer.lines().next().unwrap_or_default().to_owned()
    }

    /// A tunnel, of which the client has said nothing yet.
    pub(crate) async fn tunnel(&self, host: &str) -> UnixStream {
        let mut client = self.connect().await;
        let port = self.port;
        client.write_all(format!("CONNECT {host}:{port} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; b"HTTP/1.1 200 Connection established\r\n\r\n".len()];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
        client
    }

    /// TLS through a tunnel to `host`, naming `name` in the hello.
    pub(crate) async fn tls(&self, host: &str, name: &str) -> io::Result<TlsStream<UnixStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.host.certificate.lock().unwrap().clone())).unwrap();
        let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, self.tunnel(host).await).await
    }

    /// Whether bytes reach the host and come back.
    pub(crate) async fn works(&self, host: &str) -> bool {
        let mut tls = self.tls(host, host).await.unwrap();
        tls.write_all(b"through the wall").await.unwrap();
        let mut back = [0; 16];
        tls.read_exact(&mut back).await.unwrap();
        &back == b"through the wall"
    }

    pub(crate) fn spoken_to(&self) -> usize {
        self.host.spoken_to.load(Ordering::SeqCst)
    }
}
