//! What a terminal survives, and what ends it: a lost connection, a revoked token, a spent quota, the end of the gateway.

use openclawmu_tests::socket::Ended;
use openclawmu_tests::terminal::{Terminal, ticket};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Scene, Setup, Upstream, audit};
use reqwest::Method;
use serde_json::{Value, json};

/// How many processes have this text in their command lines.
fn processes_with(text: &str) -> usize {
    let lines = std::fs::read_dir("/proc").expect("a /proc").flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        std::fs::read(entry.path().join("cmdline")).ok()
    });
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

/// Starts something that has this in its command line, and waits until it runs.
async fn start(terminal: &mut Terminal, seconds: &str) {
    terminal.keys(&format!("sleep {seconds}\r")).await;
    until_true("the command", || processes_with(seconds) > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_misses_no_byte_and_comes_back_once() {
    let scene = Scene::new().await;
    let edge = scene.gateway.edge();
    let mut terminal = Terminal::open(edge, &scene.client).await;
    terminal.keys("stty -echo; PS1=; echo begin$((1+1))\r").await;
    terminal.until_shown("begin2").await;
    let from = terminal.shown.len();
    terminal.keys("seq -f 'line %05g' 1 20000; echo fin$((6*7))x\r").await;
    terminal.until("some lines", |terminal| terminal.shown.len() > from + 10_000).await;
    let mut all = terminal.shown[from..].to_vec();
    let (seen, session) = (terminal.seen, terminal.session().to_owned());
    let back = terminal.hello["return_ticket"].as_str().unwrap().to_owned();
    let mut second = Terminal::resume(edge, &terminal).await;
    drop(terminal);
    assert_eq!((&second.hello["start"], &second.hello["seq"]), (&json!("exact"), &json!(seen)), "{}", second.hello);
    assert_ne!(second.hello["return_ticket"], json!(back), "each use gives another");
    second.until_shown("fin42x").await;
    all.extend_from_slice(&second.shown);
    let shown = String::from_utf8(all).unwrap();
    let wanted: String = (1..=20_000).map(|number| format!("line {number:05}\r\n")).collect();
    assert!(shown.contains(&format!("{wanted}fin42x")), "every line, in order, once");
    let again = Terminal::ask(edge, &format!("ticket.{back}"), &[]).await.err().unwrap();
    assert_eq!(again.status, 401, "the one before is spent");
    assert_eq!(second.session(), session);
    second.end().await;
    scene.settled().await;
}

/// T-03: within a second its clients are told, and nothing of it is left
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_and_a_deleted_tenant_end_it_with_all_that_runs_in_it() {
    let scene = Scene::new().await;
    let (edge, admin) = (scene.gateway.edge(), scene.admin());
    let (id, token) = admin.mint("acme", &json!({ "scopes": ["terminal"] })).await;
    let mut revoked = Terminal::open(edge, &scene.client.with_token(&token)).await;
    let mut other = Terminal::open(edge, &scene.client).await;
    start(&mut revoked, "918273641").await;
    start(&mut other, "918273642").await;
    let unused = ticket(&scene.client.with_token(&token), &json!({})).await;
    admin.revoke("acme", &id).await;
    assert_eq!(revoked.closed().await, Ended::Closed(1008));
    assert_eq!(revoked.error.as_ref().unwrap()["code"], "revoked");
    until_true("no process", || processes_with("918273641") == 0).await;
    let credential = format!("ticket.{}", unused["ticket"].as_str().unwrap());
    assert_eq!(Terminal::ask(edge, &credential, &[]).await.err().unwrap().status, 401, "nor do its tickets open any");
    let back = format!("ticket.{}", revoked.hello["return_ticket"].as_str().unwrap());
    assert_eq!(Terminal::ask(edge, &back, &[]).await.err().unwrap().status, 401);
    assert!(processes_with("918273642") > 0, "another token's goes on");
    let gone = admin.send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(processes_with("918273642"), 0, "gone with the answer");
    assert!(!scene.gateway.data().join("tenants/acme").exists());
    assert_eq!(other.closed().await, Ended::Closed(1008));
    assert_eq!(other.error.as_ref().unwrap()["code"], "tenant_gone");
}

/// Q-01: a quota that is spent ends what runs, and opens nothing more
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_lives_as_long_as_its_quota_and_not_longer() {
    let scene = Scene::with_quota(json!({ "sandbox_seconds_per_day": 3 })).await;
    let edge = scene.gateway.edge();
    let mut terminal = Terminal::open(edge, &scene.client).await;
    terminal.keys("stty -echo; : 918273643; while sleep 0.1; do echo; done\r").await;
    assert_eq!(terminal.closed().await, Ended::Closed(1008));
    assert_eq!(terminal.error.as_ref().unwrap()["code"], "quota");
    let recording = format!("tenants/acme/recordings/{}.cast", terminal.session());
    let recording = std::fs::read_to_string(scene.gateway.data().join(recording)).unwrap();
    let last: Value = serde_json::from_str(recording.lines().last().unwrap()).unwrap();
    assert!(last[0].as_f64().unwrap() > 2.0, "three seconds are billed, and three were had: {last}");
    scene.settled().await;
    let quota = scene.client.get("/v1/quota").await.ok();
    assert_eq!(quota["sandbox_seconds_per_day"]["posted"], 3, "all of it, and no more: {quota}");
    let made = ticket(&scene.client, &json!({})).await;
    let refused =
        Terminal::ask(edge, &format!("ticket.{}", made["ticket"].as_str().unwrap()), &[]).await.err().unwrap();
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("insufficient_quota")), "{refused:?}");
}

/// T-07: nobody types, or nobody is there: it ends, and leaves nothing that runs
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_terminal_and_one_that_was_left_end() {
    let upstream = Upstream::start().await;
    let setup =
        Setup::with(&upstream).line("[terminal]\nidle_seconds = 2\ndetached_seconds = 1\nsessions_per_tenant = 2");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let edge = scene.gateway.edge();
    let mut idle = Terminal::open(edge, &scene.client).await;
    let mut left = Terminal::open(edge, &scene.client).await;
    let made = ticket(&scene.client, &json!({})).await;
    let refused =
        Terminal::ask(edge, &format!("ticket.{}", made["ticket"].as_str().unwrap()), &[]).await.err().unwrap();
    assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("terminal_sessions")), "{refused:?}");
    start(&mut idle, "918273645").await;
    start(&mut left, "918273646").await;
    drop(left);
    until_true("the end of what was left", || processes_with("918273646") == 0).await;
    assert_eq!(idle.closed().await, Ended::Closed(1000));
    assert_eq!(idle.error.as_ref().unwrap()["code"], "idle");
    until_true("no process", || processes_with("918273645") == 0).await;
    scene.settled().await;
}

/// T-07: the gateway's end is a terminal's, told and recorded
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_ends_its_terminals_first() {
    let mut scene = Scene::new().await;
    let edge = scene.gateway.edge();
    let mut terminal = Terminal::open(edge, &scene.client).await;
    let detached = Terminal::open(edge, &scene.client).await;
    let left = detached.session().to_owned();
    drop(detached);
    start(&mut terminal, "918273644").await;
    let session = terminal.session().to_owned();
    let (status, ended) = tokio::join!(scene.gateway.terminate(), terminal.closed());
    assert!(status.success(), "{status}");
    assert_eq!(ended, Ended::Closed(1001));
    assert_eq!(terminal.error.as_ref().unwrap()["code"], "shutdown");
    assert_eq!(processes_with("918273644"), 0);
    for session in [session, left] {
        let lines = audit::done(&scene.gateway.data().join("audit"));
        let closed = lines.iter().find(|line| line["target"] == session.as_str() && line["action"] == "terminal.close");
        let closed = closed.unwrap_or_else(|| panic!("the end of {session} is on record"));
        assert_eq!(closed["detail"]["reason"], "shutdown", "{closed}");
        assert!(closed["detail"]["sha256"].is_string(), "the recording is complete: {closed}");
    }
}

/// T-04: a client that never says how far it is holds up nothing and fills nothing
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_nobody_takes_stops_and_still_hears_ctrl_c() {
    let scene = Scene::new().await;
    let mut terminal = Terminal::open(scene.gateway.edge(), &scene.client).await;
    let before = scene.gateway.resident_kib();
    terminal.acknowledges = false;
    let window = terminal.hello["window_bytes"].as_u64().unwrap();
    terminal.keys("yes\r").await;
    terminal.until("a full window", |terminal| terminal.seen >= window).await;
    let grown = scene.gateway.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    terminal.keys("\u{3}").await;
    terminal.acknowledges = true;
    terminal.acknowledge().await;
    terminal.keys("echo $((6*7))x\r").await;
    terminal.until_shown("42x").await;
    terminal.end().await;
    scene.settled().await;
}

/// T-05: what a terminal shows and is called reaches no log
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_shown_or_typed_is_in_a_log() {
    let scene = Scene::new().await;
    let mut terminal = Terminal::open(scene.gateway.edge(), &scene.client).await;
    terminal.keys("printf '\\033]0;evil-%s\\007' title; echo ca$((6*7))nary\r").await;
    terminal.until_shown("ca42nary").await;
    let ticket = terminal.hello["return_ticket"].as_str().unwrap().to_owned();
    let session = terminal.session().to_owned();
    terminal.end().await;
    scene.settled().await;
    until_true("the last line", || {
        let lines = audit::done(&scene.gateway.data().join("audit"));
        lines.iter().any(|line| line["target"] == session.as_str() && line["action"] == "terminal.close")
    })
    .await;
    let audit: String = audit::lines(&scene.gateway.data().join("audit")).iter().map(ToString::to_string).collect();
    let logs = scene.gateway.stderr() + &scene.gateway.stdout() + &audit;
    let secret = ticket.split_once('.').unwrap().1;
    for hidden in ["evil-title", "ca42nary", "\u{1b}]0", secret] {
        assert!(!logs.contains(hidden), "{hidden:?} is in a log");
    }
}

/// One tenant's recordings never fill the disk of all
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_recordings_are_too_many_opens_no_other_until_there_is_room() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[terminal]\nrecordings_mb_per_tenant = 1");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let edge = scene.gateway.edge();
    Terminal::open(edge, &scene.client).await.end().await;
    let old = scene.gateway.data().join("tenants/acme/recordings/term_old.cast");
    std::fs::write(&old, vec![b'x'; 2 << 20]).unwrap();
    let refused = Terminal::ask(edge, &format!("token.{}", scene.tenant.token), &[]).await.err().expect("no terminal");
    assert_eq!((refused.status, &refused.body["error"]["code"]), (507, &json!("recordings_full")), "{refused:?}");
    let other = scene.admin().tenant("other", json!({})).await;
    Terminal::open(edge, &scene.gateway.client(&other.token)).await.end().await;
    std::fs::remove_file(&old).unwrap();
    Terminal::open(edge, &scene.client).await.end().await;
    scene.settled().await;
}
