//! `/v1/terminal`: who gets in, as whom, and what is on record of it. What a terminal survives is in `terminal_life`; the page and
//! the command line, in `terminal_page`. They need bubblewrap, as root.

use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::terminal::{Terminal, ticket};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Scene, Setup, Upstream, audit};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The lines about one terminal.
fn lines(scene: &Scene, session: &str) -> Vec<Value> {
    let all = audit::done(&scene.gateway.data().join("audit"));
    all.into_iter().filter(|line| line["target"] == session).collect()
}

fn find<'a>(lines: &'a [Value], action: &str) -> &'a Value {
    lines.iter().find(|line| line["action"] == action).unwrap_or_else(|| panic!("no {action} in {lines:#?}"))
}

/// T-06, T-07: it runs where runs run, it is on record, and the recording is what the record says
#[tokio::test(flavor = "multi_thread")]
async fn a_shell_runs_in_the_tenants_own_sandbox_and_all_of_it_is_on_record() {
    let scene = Scene::with_quota(json!({ "sandbox_seconds_per_day": 600 })).await;
    let run =
        json!({ "command": ["sh", "-c", "cat /proc/self/uid_map; grep Seccomp: /proc/self/status; echo left > file"] });
    let run = scene.client.post("/v1/sandbox/exec", &run).await.ok();
    let made = ticket(&scene.client, &json!({ "cols": 100, "rows": 30 })).await;
    assert_eq!(made["url"], format!("ws://{}/v1/terminal", scene.gateway.edge()), "{made}");
    let mut terminal = Terminal::attach(scene.gateway.edge(), made["ticket"].as_str().unwrap()).await;
    assert_eq!((&terminal.hello["role"], &terminal.hello["session"]), (&json!("driver"), &made["session"]));
    terminal
        .keys("stty size; pwd; cat file /proc/self/uid_map; grep Seccomp: /proc/self/status; echo $((6*7))x\r")
        .await;
    terminal.until_shown("42x").await;
    let shown = terminal.text();
    assert!(shown.contains("30 100") && shown.contains("/workspace") && shown.contains("left"), "{shown}");
    for line in run["stdout"].as_str().unwrap().lines() {
        assert!(shown.contains(line), "{line:?} as in a run: {shown}");
    }
    let admin = scene.admin();
    let open = admin.get("/v1/terminals?tenant=acme").await;
    assert_eq!(
        (&open["data"][0]["id"], &open["data"][0]["viewers"]["drivers"]),
        (&made["session"], &json!(1)),
        "{open}"
    );
    terminal.keys("exit 7\r").await;
    assert_eq!((terminal.closed().await, terminal.exit), (Ended::Closed(1000), Some(7)));
    assert_eq!(admin.get("/v1/terminals").await["data"], json!([]));

    let session = made["session"].as_str().unwrap();
    until_true("the last line", || lines(&scene, session).iter().any(|line| line["action"] == "terminal.detach")).await;
    let lines = lines(&scene, session);
    for action in ["terminal.open", "terminal.attach", "terminal.detach", "terminal.close"] {
        let line = find(&lines, action);
        assert_eq!((&line["tenant"], &line["actor"]["kind"]), (&json!("acme"), &json!("tenant")), "{line}");
    }
    assert_eq!(find(&lines, "terminal.attach")["ip"], "127.0.0.1");
    let closed = &find(&lines, "terminal.close")["detail"];
    assert_eq!((&closed["reason"], &closed["exit"]), (&json!("exited"), &json!(7)), "{closed}");
    let file = scene.gateway.data().join(format!("tenants/acme/recordings/{session}.cast"));
    let recording = std::fs::read(&file).unwrap();
    let sum: String = Sha256::digest(&recording).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&closed["sha256"], &closed["recording_bytes"]), (&json!(sum), &json!(recording.len())), "{closed}");

    let listed = admin.get("/v1/tenants/acme/recordings").await;
    assert_eq!(listed["data"], json!([{ "id": session, "size_bytes": recording.len() }]));
    let path = format!("/v1/tenants/acme/recordings/{session}");
    let fetched = admin.send(Method::GET, &path).await;
    assert_eq!((fetched.status, fetched.text().as_bytes()), (200, recording.as_slice()));
    assert!(fetched.text().starts_with(r#"{"version": 2"#) || fetched.text().starts_with(r#"{"version":2"#));
    assert_eq!(admin.send(Method::GET, &path.replace("acme", "nobody")).await.status, 404);
    assert_eq!(admin.send(Method::GET, "/v1/tenants/acme/recordings/term_none").await.status, 404);
    let fetched_by = audit::done(&scene.gateway.data().join("audit"));
    assert_eq!(find(&fetched_by, "terminal.fetch")["target"], session);
    scene.settled().await;
    let quota = scene.client.get("/v1/quota").await.ok();
    assert!(quota["sandbox_seconds_per_day"]["posted"].as_u64().unwrap() >= 2, "its seconds are a row: {quota}");
}

/// T-01, A-01
#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_good_ticket_or_twice_with_one() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::with(&upstream);
    let dir = tempfile::tempdir().unwrap();
    let clock = FakeClock::new(dir.path());
    setup.clock = Some(clock.clone());
    let scene = Scene::of(upstream, setup, json!({})).await;
    let edge = scene.gateway.edge();
    let made = ticket(&scene.client, &json!({})).await;
    let value = made["ticket"].as_str().unwrap();
    let (_, narrow) = scene.admin().mint("acme", &json!({ "scopes": ["sandbox"] })).await;
    let (name, secret) = value.split_once('.').unwrap();
    for (credential, status) in [
        (String::new(), 401),
        ("ticket.".to_owned(), 401),
        (format!("ticket.{name}.{}", secret.replace(char::is_numeric, "a")), 401),
        (format!("ticket.{value}, ticket.{value}"), 401),
        (format!("ticket.{value}, token.{}", scene.tenant.token), 401),
        ("token.tk_acme_nobody".to_owned(), 401),
        (format!("token.{narrow}"), 403),
    ] {
        let refused = Terminal::ask(edge, &credential, &[]).await.err();
        assert_eq!(refused.unwrap_or_else(|| panic!("{credential}: let in")).status, status, "{credential}");
    }
    assert_eq!(scene.admin().get("/v1/terminals").await["data"], json!([]), "nothing was opened for any of them");

    // A plain request, and one with its ticket in the URL, spend nothing of it.
    let bearer = format!("Bearer {}", scene.tenant.token);
    let plain = raw::request("GET", "/v1/terminal", &[("authorization", &bearer)], b"");
    let mut connection = Connection::open(edge).await;
    connection.send(&plain).await;
    assert_eq!(connection.answer().await.unwrap().status(), 426);
    let protocols = format!("openclawmu.terminal.v1, ticket.{value}");
    let in_url =
        Socket::try_open(edge, &format!("/v1/terminal?ticket={value}"), &[("sec-websocket-protocol", &protocols)])
            .await;
    assert_eq!(in_url.err().unwrap().status, 400);
    let other = Socket::try_open(edge, "/v1/terminal", &[("sec-websocket-protocol", &format!("ticket.{value}"))]).await;
    assert_eq!(other.err().unwrap().status, 400, "the protocol is not named");

    let terminal = Terminal::attach(edge, value).await;
    let again = Terminal::ask(edge, &format!("ticket.{value}"), &[]).await.err().unwrap();
    assert_eq!((again.status, &again.body["error"]["code"]), (401, &json!("invalid_ticket")), "a second time");

    // Another tenant's ticket leads nowhere near it.
    let rival = scene.admin().tenant("rival", json!({})).await;
    let rival = scene.client.with_token(&rival.token);
    for session in [terminal.session(), "term_none"] {
        let refused = rival.post("/v1/terminal/tickets", &json!({ "session": session, "role": "observer" })).await;
        refused.refused(404, "invalid_request_error", "terminal_not_found");
    }
    for (body, field) in [
        (json!({ "scopes": ["all"] }), "scopes"),
        (json!({ "role": "root" }), "role"),
        (json!({ "cols": 0 }), "cols"),
        (json!({ "rows": 501 }), "rows"),
        (json!({ "session": terminal.session(), "cols": 80 }), "cols"),
    ] {
        let refused = scene.client.post("/v1/terminal/tickets", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.json()["error"]["param"].as_str().unwrap().contains(field), "{body}: {}", refused.text());
    }
    let refused = scene.client.with_token(&narrow).post("/v1/terminal/tickets", &json!({})).await;
    refused.refused(403, "permission_error", "scope_missing");

    let late = ticket(&scene.client, &json!({})).await;
    clock.shift(61);
    let credential = format!("ticket.{}", late["ticket"].as_str().unwrap());
    assert_eq!(Terminal::ask(edge, &credential, &[]).await.err().unwrap().status, 401, "after a minute");
    assert_eq!(terminal.end().await, Ended::Closed(1000));
    scene.settled().await;
}

/// T-02
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_a_foreign_origin_gets_no_terminal() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[terminal]\norigins = [\"https://console.example\"]");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let edge = scene.gateway.edge();
    let made = ticket(&scene.client, &json!({})).await;
    let credential = format!("ticket.{}", made["ticket"].as_str().unwrap());
    let own = format!("http://{edge}");
    for foreign in [
        "null".to_owned(),
        format!("{own}.evil.example"),
        format!("https://{edge}"),
        format!("http://127.0.0.1:{}", edge.port() ^ 1),
        format!("http://localhost:{}", edge.port()),
        "https://console.example.evil.example".to_owned(),
        "http://console.example".to_owned(),
        "https://console.example:8443".to_owned(),
    ] {
        let refused = Terminal::ask(edge, &credential, &[("origin", &foreign)]).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{foreign}: let in"));
        assert_eq!((refused.status, &refused.body["error"]["code"]), (403, &json!("origin_not_allowed")), "{foreign}");
    }
    for allowed in [own.as_str(), "https://console.example"] {
        let made = ticket(&scene.client, &json!({})).await;
        let credential = format!("ticket.{}", made["ticket"].as_str().unwrap());
        let terminal = Terminal::ask(edge, &credential, &[("origin", allowed)]).await;
        terminal.unwrap_or_else(|refused| panic!("{allowed}: {refused:?}")).end().await;
    }
    // A refusal spent no ticket.
    Terminal::attach(edge, made["ticket"].as_str().unwrap()).await.end().await;
    scene.settled().await;
}

/// T-07: staff watch, are seen to, and can't type
#[tokio::test(flavor = "multi_thread")]
async fn an_observer_sees_all_and_types_nothing_and_says_why() {
    let scene = Scene::new().await;
    let (edge, admin) = (scene.gateway.edge(), scene.admin());
    let path = "/v1/tenants/acme/terminal_tickets";
    let nothing = admin.post(path, &json!({ "reason": "ticket 12" })).await;
    assert_eq!(nothing.status, 404, "there is nothing to watch: {}", nothing.text());
    for (body, field) in
        [(json!({}), "reason"), (json!({ "reason": "  " }), "reason"), (json!({ "reason": "x", "all": 1 }), "all")]
    {
        let refused = admin.post(path, &body).await;
        assert_eq!((refused.status, &refused.json()["error"]["field"]), (400, &json!(field)), "{}", refused.text());
    }
    let mut driver = Terminal::open(edge, &scene.client).await;
    let session = driver.session().to_owned();
    let request = || {
        let body = json!({ "reason": "ticket 12" });
        admin.build(Method::POST, path).header("idempotency-key", "once").json(&body).send()
    };
    let made: Value = request().await.unwrap().json().await.unwrap();
    assert_eq!(made["session"], session, "{made}");
    let again: Value = request().await.unwrap().json().await.unwrap();
    assert_eq!(again["ticket"], made["ticket"], "the same answer");
    let mut observer = Terminal::attach(edge, made["ticket"].as_str().unwrap()).await;
    assert_eq!(observer.hello["role"], "observer");
    let credential = format!("ticket.{}", again["ticket"].as_str().unwrap());
    assert_eq!(Terminal::ask(edge, &credential, &[]).await.err().unwrap().status, 401, "and no second use");
    driver.until("word of an observer", |driver| driver.viewers == Some([1, 1, 0])).await;

    observer.keys("touch typed\r").await;
    observer.resize(33, 33).await;
    observer.ask_for_end().await;
    observer.until("a refusal", |observer| observer.error.is_some()).await;
    assert_eq!(observer.error.as_ref().unwrap()["code"], "terminal_role");
    driver.keys("stty size; ls -A; echo $((6*7))x\r").await;
    driver.until_shown("42x").await;
    observer.until_shown("42x").await;
    assert!(driver.text().contains("24 80") && !driver.text().contains("typed"), "{}", driver.text());
    until_true("the violation's line", || {
        lines(&scene, &session).iter().any(|line| line["action"] == "terminal.role_violation")
    })
    .await;
    let all = lines(&scene, &session);
    let violation = find(&all, "terminal.role_violation");
    assert_eq!(
        (&violation["outcome"], &violation["detail"]["reason"]),
        (&json!("denied"), &json!("ticket 12")),
        "{violation}"
    );
    let watched = all.iter().find(|line| line["action"] == "terminal.attach" && line["detail"]["role"] == "observer");
    let watched = watched.expect("a line of the observer");
    assert_eq!(
        (&watched["detail"]["reason"], &watched["actor"]["kind"]),
        (&json!("ticket 12"), &json!("operator")),
        "{watched}"
    );

    // The twin: a moderator may end it.
    let body = json!({ "reason": "it hangs", "role": "moderator", "session": session });
    let made = admin.post(path, &body).await.json();
    let moderator = Terminal::attach(edge, made["ticket"].as_str().unwrap()).await;
    assert_eq!(moderator.end().await, Ended::Closed(1000));
    assert_eq!(driver.closed().await, Ended::Closed(1000));
    assert_eq!(driver.error.as_ref().unwrap()["code"], "ended");
    scene.settled().await;
}

/// U-02: what can't be put on record does not happen
#[tokio::test(flavor = "multi_thread")]
async fn without_its_line_in_the_audit_log_no_terminal_opens() {
    let scene = Scene::new().await;
    let edge = scene.gateway.edge();
    let made = ticket(&scene.client, &json!({})).await;
    let (folder, away) = (scene.gateway.data().join("audit"), scene.gateway.dir().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let credential = format!("ticket.{}", made["ticket"].as_str().unwrap());
    let refused = Terminal::ask(edge, &credential, &[]).await.err().expect("no terminal");
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &json!("audit_unavailable")), "{refused:?}");
    assert!(!scene.gateway.data().join("tenants/acme/recordings").read_dir().is_ok_and(|mut all| all.next().is_some()));
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    Terminal::open(edge, &scene.client).await.end().await;
    scene.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_terminals_that_is_said() {
    for (lines, status, code) in [
        ("[terminal]\nenabled = false", 403, "terminals_off"),
        ("[sandbox]\nbackend = \"docker\"\n[sandbox.docker]\nimage = \"none\"", 503, "backend_has_no_terminals"),
        ("[sandbox]\nbackend = \"off\"", 503, "backend_has_no_terminals"),
    ] {
        let upstream = Upstream::start().await;
        let setup = Setup::with(&upstream).line(lines);
        let scene = Scene::of(upstream, setup, json!({})).await;
        let refused = scene.client.post("/v1/terminal/tickets", &json!({})).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (status, &json!(code)), "{lines}");
        let by_token = Terminal::ask(scene.gateway.edge(), &format!("token.{}", scene.tenant.token), &[]).await;
        assert_eq!(by_token.err().unwrap().status, status, "{lines}");
    }
}
