//! A hand-over as a service manager does it: the running process starts its successor, says so, and nobody is refused: neither
//! busy clients, nor WebSockets, nor the operator.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Scene, Setup, Upstream};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use tempfile::TempDir;

/// A service manager: what it is told, and the process that it was last told of.
struct Manager {
    _dir: TempDir,
    path: PathBuf,
    socket: UnixDatagram,
    main: Option<Pid>,
}

impl Manager {
    fn new() -> Self {
        let dir = TempDir::new().expect("a temp dir");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        Self { _dir: dir, path, socket, main: None }
    }

    async fn scene(&self) -> Scene {
        let upstream = Upstream::start().await;
        let path = self.path.display().to_string();
        let setup = Setup::with(&upstream).env(vec![("NOTIFY_SOCKET".to_owned(), path)]);
        Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
    }

    /// What comes next.
    fn told(&mut self) -> String {
        let mut text = [0; 1024];
        let length = self.socket.recv(&mut text).expect("a word from the gateway");
        let told = String::from_utf8_lossy(&text[..length]).into_owned();
        if let Some(pid) = told.lines().find_map(|line| line.strip_prefix("MAINPID=")) {
            self.main = pid.parse().ok().and_then(Pid::from_raw);
        }
        told
    }

    fn main(&self) -> Pid {
        self.main.expect("a main process")
    }
}

/// A successor is nobody's child here.
impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(pid) = self.main {
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

async fn ends(pid: Pid) {
    // Who has no parent here may stay a zombie, which runs no more.
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
        test_kill_process(pid).is_err() || state.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z'))
    };
    until_true("the successor ends", gone).await;
}

/// S8-07: the clients' view, over connections that are kept alive and over HTTP/2
#[tokio::test(flavor = "multi_thread")]
async fn busy_clients_see_no_refusal_while_the_successor_takes_over() {
    let mut manager = Manager::new();
    let mut scene = manager.scene().await;
    assert!(manager.told().starts_with("READY=1\n"));
    assert_eq!(manager.main().as_raw_nonzero().get().unsigned_abs(), scene.gateway.pid());
    let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut busy = Vec::new();
    for client in [scene.gateway.client(&scene.tenant.token), scene.gateway.client(&scene.tenant.token).over_h2c()] {
        let (stop, good) = (Arc::clone(&stop), Arc::clone(&good));
        busy.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let reply = client.try_post("/v1/chat/completions", &chat("alpha", "hello", 5)).await;
                let reply = reply.expect("no request is lost");
                assert_eq!(reply.status, 200, "{}", reply.text());
                good.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    until_true("clients are at work", || good.load(Ordering::Relaxed) > 20).await;
    scene.gateway.signal(Signal::USR2);
    let first = manager.main();
    assert!(manager.told().starts_with("READY=1\n"), "the successor is ready");
    assert_ne!(manager.main(), first);
    assert!(scene.gateway.ended().await.success(), "the old process goes");
    let before = good.load(Ordering::Relaxed);
    until_true("the successor serves them", || good.load(Ordering::Relaxed) > before + 20).await;
    stop.store(true, Ordering::Relaxed);
    for client in busy {
        client.await.expect("no client was refused");
    }
    let count = good.load(Ordering::Relaxed);
    until("every answer has its row", || async { (scene.rows().len() == count).then_some(()) }).await;
    // The operator has the successor at the same address and the same socket.
    assert_eq!(scene.admin().get("/v1/tenants/acme").await["id"], "acme");
    assert!(scene.gateway.cli(&["tenants", "list", "--json"]).await.ok().contains("acme"));
    kill_process(manager.main(), Signal::HUP).expect("a signal");
    assert!(manager.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(manager.told().starts_with("READY=1\n"));
    kill_process(manager.main(), Signal::TERM).expect("a signal");
    assert!(manager.told().starts_with("STOPPING=1\n"));
    ends(manager.main()).await;
}

/// S8-07: the operator's view: whoever connects is answered, at every moment, twice in a row
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_listener_refuses_nobody_while_the_successor_takes_over() {
    let mut manager = Manager::new();
    let mut scene = manager.scene().await;
    manager.told();
    let (stop, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (stop, good, admin) = (Arc::clone(&stop), Arc::clone(&good), scene.gateway.admin_address());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let answer = raw::blocking_get(admin, "/healthz", "");
                assert_eq!(answer.map(|(status, _)| status), Some(200), "after {good:?} answers");
                good.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    until_true("the operator is at work", || good.load(Ordering::Relaxed) > 20).await;
    scene.gateway.signal(Signal::USR2);
    assert!(manager.told().starts_with("READY=1\n"), "the successor is ready");
    assert!(scene.gateway.ended().await.success(), "the old process goes");
    assert!(!scene.gateway.data().join("handover.sock").exists(), "nobody waits there any more");
    let before = good.load(Ordering::Relaxed);
    until_true("the successor answers", || good.load(Ordering::Relaxed) > before + 20).await;
    // The successor's successor: what was inherited is inherited again.
    let second = manager.main();
    kill_process(second, Signal::USR2).expect("a signal");
    assert!(manager.told().starts_with("READY=1\n"), "and its successor");
    ends(second).await;
    let before = good.load(Ordering::Relaxed);
    until_true("that one answers", || good.load(Ordering::Relaxed) > before + 20).await;
    stop.store(true, Ordering::Relaxed);
    asking.join().expect("nobody was refused");
    // Who comes after the last one has ended finds nobody, instead of one that does not answer.
    let last = manager.main();
    kill_process(last, Signal::TERM).expect("a signal");
    assert!(manager.told().starts_with("STOPPING=1\n"));
    ends(last).await;
    until_true("nobody listens", || std::net::TcpStream::connect(scene.gateway.admin_address()).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_and_then_its_connection_does() {
    let mut manager = Manager::new();
    let mut scene = manager.scene().await;
    manager.told();
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(6, 2, &gate));
    scene.upstream.when("wholly", Behaviour::gated(6, 0, &gate));
    let token = &scene.tenant.token;
    let create =
        |input: &str| json!({ "type": "response.create", "model": "alpha", "input": input, "max_output_tokens": 10 });
    let mut idle = Socket::open(scene.gateway.edge(), "/v1/responses", token).await;
    idle.send(&create("quickly")).await;
    idle.event("response.completed").await;
    let mut speaking = Socket::open(scene.gateway.edge(), "/v1/responses", token).await;
    speaking.send(&create("slowly")).await;
    speaking.event("response.output_text.delta").await;
    let mut waiting = Connection::open(scene.gateway.edge()).await;
    let bearer = format!("Bearer {token}");
    let body = chat("alpha", "wholly", 20).to_string();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let calls = scene.upstream.calls();
    waiting.send(&raw::request("POST", "/v1/chat/completions", &headers, body.as_bytes())).await;
    until_true("the upstream is asked", || scene.upstream.calls() > calls).await;
    let mut unused = Connection::open(scene.gateway.edge()).await;
    unused.send(&raw::request("GET", "/healthz", &[], b"")).await;
    assert_eq!(unused.answer().await.expect("an answer").status(), 200);

    scene.gateway.signal(Signal::USR2);
    assert!(unused.closes().await, "an idle connection ends without a word");
    let (_, ended) = idle.rest().await;
    assert_eq!(ended, Ended::Closed(1001), "an idle WebSocket is told that its server goes away");
    assert!(manager.told().starts_with("READY=1\n"));
    gate.open();
    let answer = waiting.answer().await.expect("the answer that was under way");
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert!(waiting.closes().await);
    speaking.event("response.completed").await;
    assert_eq!(speaking.rest().await.1, Ended::Closed(1001));
    assert!(scene.gateway.ended().await.success());
    let mut anew = Socket::open(scene.gateway.edge(), "/v1/responses", token).await;
    anew.send(&create("quickly")).await;
    anew.event("response.completed").await;
    until("every response has its row", || async { (scene.rows().len() == 4).then_some(()) }).await;
    assert!(scene.rows().iter().all(|row| row.outcome == "complete" && !row.estimated), "{:#?}", scene.rows());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_cannot_serve_gets_nothing_and_the_old_process_goes_on() {
    let mut manager = Manager::new();
    let scene = manager.scene().await;
    manager.told();
    let config = scene.gateway.config().to_owned();
    let good = std::fs::read_to_string(&config).expect("the config");
    std::fs::write(&config, "this is [not TOML").expect("a bad config");
    scene.gateway.signal(Signal::USR2);
    until_true("it is logged", || scene.gateway.stderr().contains("no successor")).await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    assert_eq!(scene.client.get("/readyz").await.status, 200);
    std::fs::write(&config, good).expect("the config");
}
