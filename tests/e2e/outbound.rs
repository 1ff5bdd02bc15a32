//! What goes out: keys to their own hosts alone, redirects followed nowhere, answers bounded in size and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use openclawmu_tests::canned::{Answer, Canned};
use openclawmu_tests::client::chat;
use openclawmu_tests::receiver::Receiver;
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Gateway, Setup};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server that says this over and over until the other side has enough; it counts connections and bytes.
struct Endless {
    address: std::net::SocketAddr,
    connections: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Endless {
    async fn start(head: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (connections, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&connections), Arc::clone(&taken));
        let accepting = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::SeqCst);
                let taken = Arc::clone(&counts.1);
                tokio::spawn(async move {
                    let mut piece = vec![b'x'; 64 << 10];
                    // What answers before it is asked is no answer.
                    let asked = stream.read(&mut piece).await.is_ok_and(|count| count > 0);
                    piece.fill(b'x');
                    let mut alive = asked && stream.write_all(head.as_bytes()).await.is_ok();
                    while alive {
                        alive = stream.write_all(&piece).await.is_ok();
                        taken.fetch_add(piece.len(), Ordering::SeqCst);
                    }
                });
            }
        });
        Self { address, connections, taken, accepting }
    }
}

fn upstream(kind: &str, name: &str, base_url: &str, models: &str) -> String {
    format!(
        "[[upstream]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{base_url}\"\napi_key = \"env:OPENCLAWMU_TEST_PROVIDER_KEY\"\nmodels = [\"{models}\"]\n"
    )
}

async fn tenant(gateway: &Gateway) -> openclawmu_tests::Client {
    let tenant = gateway.admin().tenant("acme", json!({ "usd_per_day": "1000" })).await;
    gateway.client(&tenant.token)
}

/// S-03: an upstream that sends the gateway elsewhere sends it nowhere, whatever the provider, stream or not
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_its_own_host_and_not_where_that_sends_it() {
    let elsewhere = Canned::start(|_| Answer::whole(200, &[("content-type", "application/json")], b"{}")).await;
    let target = format!("http://{}/v1/chat/completions", elsewhere.address());
    for status in [301, 302, 303, 307, 308] {
        let location = target.clone();
        let sends = Canned::start(move |_| Answer::whole(status, &[("location", &location)], b"")).await;
        let base = format!("http://{}/v1", sends.address());
        let setup = Setup::bare()
            .line(&upstream("openai", "one", &base, "alpha"))
            .line(&upstream("anthropic", "two", &base, "beta"))
            .line(&upstream("gemini", "three", &base, "flat"));
        let gateway = Gateway::start(setup).await;
        let client = tenant(&gateway).await;
        for model in ["alpha", "beta", "flat"] {
            for stream in [false, true] {
                let mut body = chat(model, "hello", 5);
                body["stream"] = json!(stream);
                let reply = client.chat(&body).await;
                reply.refused(502, "upstream_error", "upstream_error");
                assert!(!reply.text().contains(&target) && reply.header("location").is_none(), "{}", reply.text());
            }
        }
        assert_eq!(sends.asked().len(), 6);
        for asked in sends.asked() {
            assert!(asked.headers.iter().any(|(_, value)| value.contains(PROVIDER_KEY)), "its own host gets the key");
        }
    }
    assert_eq!(elsewhere.asked().len(), 0);
}

/// S-04: answers of a gigabyte, refusals of a gigabyte, heads without end, announcements without an answer
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_stops_is_cut_in_bounded_memory() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ",
        "HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n",
        "HTTP/1.1 500 Bad\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-filler: ",
        "",
    ];
    for head in heads {
        let endless = Endless::start(head).await;
        let setup =
            Setup::bare().line(&upstream("openai", "endless", &format!("http://{}/v1", endless.address), "alpha"));
        let gateway = Gateway::start(setup).await;
        let client = tenant(&gateway).await;
        assert_eq!(client.get("/v1/models").await.status, 200);
        let before = gateway.resident_kib();
        let reply = client.chat(&chat("alpha", "hello", 5)).await;
        assert!(
            !reply.text().contains("xxxx") || reply.status == 200,
            "{head:?}: {} {}",
            reply.status,
            reply.text().len()
        );
        assert!(reply.text().len() < 1 << 20, "{head:?}: {} bytes", reply.text().len());
        let grown = gateway.resident_kib().saturating_sub(before);
        assert!(grown < 256 << 10, "{head:?} grew the gateway by {grown} KiB");
        let taken = endless.taken.load(Ordering::SeqCst);
        assert!(taken < 256 << 20, "{head:?}: {taken} bytes were taken");
        assert_eq!(endless.connections.load(Ordering::SeqCst), 1, "{head:?}");
        assert_eq!(gateway.admin().settled("acme").await.pending, 0);
    }
}

/// S-04, webhooks: a receiver that never stops answering has taken its webhook, once, and costs no memory
#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_receiver_that_never_stops_is_cut_and_has_it_once() {
    let endless = Endless::start("HTTP/1.1 200 OK\r\n\r\n").await;
    let (gateway, before) = hooked(&format!("http://{}/hook", endless.address)).await;
    until_true("the answer to be cut", || endless.taken.load(Ordering::SeqCst) > 0).await;
    let delivered = || async { gateway.admin().metric("openclawmu_webhooks_total", &["Delivered"]).await };
    openclawmu_tests::wait::until("it to be taken", || async { (delivered().await == 1).then_some(()) }).await;
    assert_eq!(endless.connections.load(Ordering::SeqCst), 1);
    let taken = endless.taken.load(Ordering::SeqCst);
    assert!(taken < 32 << 20, "{taken} bytes of an answer that nobody reads");
    let grown = gateway.resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "the answer grew the gateway by {grown} KiB");
}

/// S-01, webhooks: a redirect to the cloud's metadata is a failed delivery, not a request there
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_follows_no_redirect() {
    let inside = Receiver::start().await;
    let target = inside.url();
    let moved = Canned::start(move |_| Answer::whole(307, &[("location", &target)], b"")).await;
    let (gateway, _) = hooked(&format!("http://{}/hook", moved.address())).await;
    until_true("the webhook to be tried", || !moved.asked().is_empty()).await;
    let retried = || async { gateway.admin().metric("openclawmu_webhooks_total", &["Retried"]).await };
    openclawmu_tests::wait::until("it to be put off", || async { (retried().await == 1).then_some(()) }).await;
    assert!(inside.received().is_empty());
}

/// A gateway that has just sent a test webhook to `url`, and its memory before that, in KiB.
async fn hooked(url: &str) -> (Gateway, u64) {
    let mut setup =
        Setup::bare().line(&format!("[alerts]\nwebhook_url = \"{url}\"\nwebhook_secret = \"env:HOOK_SECRET\"\n"));
    setup.env.push(("HOOK_SECRET".into(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()));
    let gateway = Gateway::start(setup).await;
    let before = gateway.resident_kib();
    let sent = gateway.admin().post("/v1/alerts/test", &json!({})).await;
    assert!(matches!(sent.status, 200..=202), "{}", sent.text());
    (gateway, before)
}
