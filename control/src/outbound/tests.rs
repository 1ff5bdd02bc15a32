//! Calls as an attacker would have them made, against a sentinel that counts who connects.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::outbound::resolve::{NOT_PUBLIC, Public};
use crate::outbound::{HostList, Limits, OperatorCalls, OutboundUrl, TenantCalls, TenantReach};

const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), max_answer_bytes: 1 << 10 };

/// A server on this machine that nobody should reach, and what it says to who does.
struct Sentinel {
    port: u16,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Sentinel {
    async fn start(says: &'static str) -> Self {
        Self::serving(async move |mut stream: TcpStream| {
            drop(stream.write_all(says.as_bytes()).await);
            drop(stream.shutdown().await);
        })
        .await
    }

    #[expect(clippy::disallowed_methods, reason = "the sentinel ends with its test")]
    async fn serving<F>(answer: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        drop(rustls::crypto::ring::default_provider().install_default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut head = [0_u8; 4096];
                drop(stream.read(&mut head).await);
                answer(stream).await;
            }
        });
        Self { port, connections, accepting }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers with one list of addresses after the other, the last one for ever.
struct Scripted {
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        let answers = answers.iter().rev().map(|list| list.iter().map(address).collect()).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Scripted {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.first().cloned() };
        Box::pin(async move { Ok(Box::new(answer.unwrap().into_iter()) as Addrs) })
    }
}

fn opened(hosts: &[String]) -> TenantReach {
    TenantReach::new(None, HostList::parse(hosts).unwrap())
}

/// Every spelling of an address that URLs have (WHATWG URL, "IPv4 parser").
fn spellings(address: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], whole) = (address.octets(), u32::from(address));
    let (tail, low) = (whole & 0x00ff_ffff, whole & 0xffff);
    let wide = |text: String| text.chars().map(|c| char::from_u32(c as u32 + 0xfee0).unwrap_or(c)).collect::<String>();
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{a}.{b}.{low}"),
        format!("{a}.{tail}"),
        format!("{whole}"),
        format!("0x{whole:x}"),
        format!("0{whole:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0x{a:x}.{b}.0{low:o}"),
        format!("{a}.{b}.{c}.{d}").replace('1', "%31"),
        wide(format!("{a}.{b}.{c}.{d}")),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b::{a}.{b}.{c}.{d}]"),
        format!("[64:ff9b:1::{a}.{b}.{c}.{d}]"),
        format!("[2002:{:x}:{low:x}::1]", whole >> 16),
    ]
}

/// Names and addresses of this machine and its network.
const INSIDE: &str = "localhost localhost. LOCALHOST a.localhost ip6-localhost intranet printer.local gateway.internal \
    host.docker.internal router.home.arpa localhost.localdomain [::1] [::] [fe80::1] [fd00:ec2::254] 0 \
    127.1 ①②⑦.⓪.⓪.① ｌｏｃａｌｈｏｓｔ 127。0。0。1";

/// S-01: whatever is not public, however it is written, gets no connection
#[tokio::test]
async fn no_spelling_of_a_host_that_is_not_public_is_called() {
    let sentinel = Sentinel::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (port, reach) = (sentinel.port, TenantReach::default());
    let mut hosts: Vec<String> = spellings(Ipv4Addr::LOCALHOST);
    hosts.extend(spellings(Ipv4Addr::new(169, 254, 169, 254)));
    hosts.extend(spellings(Ipv4Addr::new(10, 0, 0, 7)));
    hosts.extend(INSIDE.split_whitespace().map(str::to_owned));
    for host in &hosts {
        for url in [format!("https://{host}:{port}/"), format!("https://{host}/")] {
            let refused = reach.parse(&url);
            assert!(refused.as_ref().is_err_and(|why| !why.contains(host)), "{url}: {refused:?}");
        }
    }
    for url in [
        format!("http://hooks.example.com:{port}/"),
        format!("https://user@127.0.0.1:{port}/"),
        format!("https://hooks.example.com@127.0.0.1:{port}/"),
        "https://user:secret@hooks.example.com/".to_owned(),
        "ftp://hooks.example.com/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://hooks.example.com/".to_owned(),
        "unix:/run/docker.sock".to_owned(),
        "https:".to_owned(),
        "//hooks.example.com/".to_owned(),
        String::new(),
    ] {
        let refused = reach.parse(&url);
        assert!(refused.as_ref().is_err_and(|why| !why.contains("secret")), "{url}: {refused:?}");
    }
    assert_eq!(sentinel.connections(), 0);
    for url in [
        "https://hooks.example.com/a?b=c",
        "https://xn--bcher-kva.example",
        "https://bücher.example/",
        "https://8.8.8.8/",
    ] {
        assert!(reach.parse(url).is_ok(), "{url}");
    }
}

proptest! {
    #[test]
    fn s_01_a_spelling_never_changes_whether_an_address_may_be_named(bits: u32) {
        let address = Ipv4Addr::from(bits);
        let (reach, plain) = (TenantReach::default(), super::is_public(address.into()));
        for host in spellings(address) {
            let named = reach.parse(&format!("https://{host}/")).is_ok();
            prop_assert!(!named || plain, "{}", host);
        }
        let plainly = reach.parse(&format!("https://{address}/")).is_ok();
        prop_assert_eq!(plainly, plain);
    }
}

/// S-01, a name that leads inside; and its positive twin: the same call where the operator opened the host
#[tokio::test]
async fn a_name_that_leads_inside_is_called_only_where_the_operator_opened_it() {
    let sentinel = Sentinel::start("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let port = sentinel.port;
    for inside in [&["127.0.0.1"][..], &["::1"], &["10.0.0.1"], &["8.8.8.8", "127.0.0.1"], &["::ffff:127.0.0.1"], &[]] {
        let calls = TenantCalls::resolving(LIMITS, Scripted::new(&[inside])).unwrap();
        let url = TenantReach::default().parse(&format!("https://hooks.example.com:{port}/")).unwrap();
        let refused = calls.post(&url, HeaderMap::new(), Vec::new()).await.unwrap_err();
        assert_eq!(refused.to_string(), NOT_PUBLIC, "{inside:?}");
        assert!(!refused.doubtful);
    }
    assert_eq!(sentinel.connections(), 0);
    let calls = TenantCalls::resolving(LIMITS, Scripted::new(&[&["127.0.0.1"]])).unwrap();
    let reach = opened(&[format!("hooks.example.com:{port}")]);
    let url = reach.parse(&format!("http://hooks.example.com:{port}/")).unwrap();
    let answer = calls.post(&url, HeaderMap::new(), Vec::new()).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.whole), (StatusCode::OK, &b"ok"[..], true));
    assert_eq!(sentinel.connections(), 1);
    assert!(reach.parse("https://127.0.0.1/").is_err(), "one host is open, not its neighbours");
    let other_port = reach.parse("https://hooks.example.com/").unwrap();
    let refused = calls.post(&other_port, HeaderMap::new(), Vec::new()).await.unwrap_err();
    assert_eq!(refused.to_string(), NOT_PUBLIC, "and not at another port");
}

/// S-02: what is connected to is what was judged; the next call is judged anew
#[tokio::test]
async fn a_name_that_rebinds_is_resolved_once_a_call_and_judged_each_time() {
    let rebinding = Scripted::new(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let public = Public(Arc::clone(&rebinding) as Arc<dyn Resolve>);
    let first: Vec<SocketAddr> = public.resolve("hooks.example.com".parse().unwrap()).await.unwrap().collect();
    assert_eq!(first, ["8.8.8.8:0".parse().unwrap()], "the judged address is the one that is used");
    assert!(public.resolve("hooks.example.com".parse().unwrap()).await.is_err());

    let sentinel = Sentinel::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let port = sentinel.port;
    let rebinding = Scripted::new(&[&["127.0.0.1"], &["192.0.2.1"]]);
    let calls = TenantCalls::resolving(LIMITS, Arc::clone(&rebinding) as Arc<dyn Resolve>).unwrap();
    let url = opened(&["hooks.example.com".to_owned()]).parse(&format!("http://hooks.example.com:{port}/")).unwrap();
    calls.post(&url, HeaderMap::new(), Vec::new()).await.unwrap();
    assert_eq!((rebinding.asked.load(Ordering::SeqCst), sentinel.connections()), (1, 1), "one look, one connection");

    let calls = TenantCalls::resolving(LIMITS, Scripted::new(&[&["127.0.0.1"]])).unwrap();
    let url = TenantReach::default().parse(&format!("https://hooks.example.com:{port}/")).unwrap();
    assert!(calls.post(&url, HeaderMap::new(), Vec::new()).await.is_err());
    assert_eq!(sentinel.connections(), 1);
}

/// S-01, redirects: what is signed for one host never goes on to another
#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let inside = Sentinel::start("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let target = format!("http://127.0.0.1:{}/latest/meta-data", inside.port);
    for status in [301_u16, 302, 303, 307, 308] {
        let says = format!("HTTP/1.1 {status} Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Sentinel::start(says.leak()).await;
        let port = receiver.port;
        let reach = opened(&["127.0.0.1".to_owned()]);
        let calls = TenantCalls::new(LIMITS).unwrap();
        let url = reach.parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        assert_eq!(calls.post(&url, HeaderMap::new(), Vec::new()).await.unwrap().status, status);
        let operator = OperatorCalls::new(LIMITS).unwrap();
        let url = OutboundUrl::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
        assert_eq!(operator.post(&url, HeaderMap::new(), String::new()).await.unwrap().status, status);
        assert_eq!(receiver.connections(), 2);
    }
    assert_eq!(inside.connections(), 0);
}

/// S-04: an endless answer, and one that never comes
#[tokio::test]
async fn an_answer_is_bounded_in_size_and_in_time() {
    let endless = Sentinel::serving(async |mut stream: TcpStream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await);
        while stream.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;
    let calls = OperatorCalls::new(LIMITS).unwrap();
    let url = OutboundUrl::parse(&format!("http://127.0.0.1:{}/", endless.port)).unwrap();
    let answer = calls.post(&url, HeaderMap::new(), String::new()).await.unwrap();
    assert_eq!((answer.body.len(), answer.whole), (LIMITS.max_answer_bytes, false));

    let silent = Sentinel::serving(async |mut stream: TcpStream| {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
    })
    .await;
    let dribbling = Sentinel::serving(async |mut stream: TcpStream| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await);
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while stream.write_all(b"x").await.is_ok() {
            pause.tick().await;
        }
    })
    .await;
    let calls = OperatorCalls::new(Limits { timeout: Duration::from_millis(300), ..LIMITS }).unwrap();
    let url = OutboundUrl::parse(&format!("http://127.0.0.1:{}/", silent.port)).unwrap();
    let late = calls.post(&url, HeaderMap::new(), String::new()).await.unwrap_err();
    assert!(late.doubtful, "it may have been taken: {late}");
    let url = OutboundUrl::parse(&format!("http://127.0.0.1:{}/", dribbling.port)).unwrap();
    let answer = calls.post(&url, HeaderMap::new(), String::new()).await.unwrap();
    assert!(!answer.whole && answer.body.len() < 1000);
}
