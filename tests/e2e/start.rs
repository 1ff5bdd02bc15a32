//! An operator's mistake refuses to start: a non-zero exit code, and a message on stderr that says what to do.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use openclawmu_tests::gateway::{binary, free_address};
use openclawmu_tests::refusal::Refusal;
use openclawmu_tests::{Gateway, Scene, Setup, Upstream};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

/// A `serve` command on a directory of its own.
struct Attempt {
    dir: TempDir,
    edge: String,
    admin: String,
    env: Vec<(String, String)>,
    config: PathBuf,
    data: PathBuf,
}

impl Attempt {
    fn new(setup: &Setup) -> Self {
        let dir = TempDir::new().expect("a temp dir");
        let config = setup.write(dir.path());
        let data = dir.path().join("data");
        Self {
            dir,
            edge: free_address().to_string(),
            admin: free_address().to_string(),
            env: setup.env.clone(),
            config,
            data,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .current_dir(self.dir.path())
            .env_remove("OPENCLAWMU_ADMIN_KEY")
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command.arg("serve").arg("--config").arg(&self.config).arg("--data").arg(&self.data);
        command.args(["--edge", &self.edge, "--admin", &self.admin]);
        command
    }

    async fn refused(&self) -> Refusal {
        let refusal = Gateway::refusal(self.command()).await;
        assert!(!refusal.status.success(), "it was meant to refuse: {refusal:?}");
        assert!(refusal.status.code().is_some(), "an exit code, not a signal: {refusal:?}");
        assert!(!refusal.stderr.contains("panicked at"), "{}", refusal.stderr);
        refusal
    }
}

fn says(refusal: &Refusal, words: &[&str]) {
    let said = refusal.stderr.to_lowercase();
    for word in words {
        assert!(said.contains(&word.to_lowercase()), "{word:?} in: {}", refusal.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_log_that_cannot_be_opened_refuses_to_start_and_names_the_key() {
    let attempt = Attempt::new(&Setup::bare().line("[log]\naccess = \"nowhere/access.jsonl\""));
    says(&attempt.refused().await, &["log.access", "nowhere/access.jsonl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_refuses_to_start_and_names_the_address() {
    for admin in [false, true] {
        let mut attempt = Attempt::new(&Setup::bare());
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound").to_string();
        if admin {
            attempt.admin.clone_from(&address);
        } else {
            attempt.edge.clone_from(&address);
        }
        says(&attempt.refused().await, &["in use", &address]);
    }
}

/// The files of the edge's TLS: each mistake is an error with the key and the file, here and in `config check`, and no panic
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_refuses_to_start_and_names_key_and_file() {
    let dir = TempDir::new().expect("a temp dir");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let made = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).expect("a certificate");
    let other = rcgen::generate_simple_self_signed(["other.test".to_owned()]).expect("a certificate");
    let (cert, key) = (file("cert.pem", &made.cert.pem()), file("key.pem", &made.signing_key.serialize_pem()));
    let cut = file("cut.pem", &made.cert.pem()[..200]);
    let text = file("text.pem", "-----BEGIN CERTIFICATE-----\nnot base64 !\n-----END CERTIFICATE-----\n");
    let foreign = file("foreign.pem", &other.signing_key.serialize_pem());
    for (cert, key, named, wrong) in [
        (&cut, &key, "edge.tls.cert", &cut),
        (&text, &key, "edge.tls.cert", &text),
        (&cert, &text, "edge.tls.key", &text),
        (&cert, &foreign, "edge.tls.key", &foreign),
    ] {
        let attempt = Attempt::new(&Setup::bare().edge_tls(cert, key));
        let path = wrong.to_str().expect("UTF-8");
        says(&attempt.refused().await, &[named, path]);
        let mut check = Command::new(binary());
        check.args(["config", "check", "--config"]).arg(&attempt.config).envs(attempt.env.clone());
        let checked = check.output().expect("the binary runs");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(!checked.status.success() && said.contains(named) && said.contains(path), "{said}");
    }
    // Their twin: the same with files that belong together.
    drop(Gateway::start(Setup::bare().edge_tls(&cert, &key)).await);
}

/// Where not even root can write: over a file, and in `/proc`.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_be_written_refuses_to_start() {
    let attempt = Attempt::new(&Setup::bare());
    std::fs::write(&attempt.data, "a file where the directory should be").expect("a file");
    says(&attempt.refused().await, &["data"]);
    let mut attempt = Attempt::new(&Setup::bare());
    attempt.data = PathBuf::from("/proc/openclawmu-data");
    says(&attempt.refused().await, &["/proc/openclawmu-data"]);
}

/// N-10
#[tokio::test(flavor = "multi_thread")]
async fn a_public_bind_without_a_configured_admin_key_refuses_to_start() {
    for admin in [false, true] {
        let mut attempt = Attempt::new(&Setup::bare());
        let port = free_address().port();
        if admin {
            attempt.admin = format!("0.0.0.0:{port}");
        } else {
            attempt.edge = format!("0.0.0.0:{port}");
        }
        says(&attempt.refused().await, &["admin", "key"]);
    }
}

/// N-10, the positive twin
#[tokio::test(flavor = "multi_thread")]
async fn a_configured_admin_key_is_used_and_no_file_is_written() {
    let key = "ak_0123456789abcdefghijklmnopqrstuvwxyzABCDEF";
    let mut setup = Setup::bare();
    setup.admin.push("keys = [\"env:OPENCLAWMU_TEST_ADMIN_KEY\"]".into());
    setup.env.push(("OPENCLAWMU_TEST_ADMIN_KEY".into(), key.into()));
    let gateway = Gateway::start(setup).await;
    assert!(!gateway.data().join("admin.key").exists());
    let admin = gateway.admin().with_key(key);
    assert!(admin.get("/v1/tenants").await.is_object());
    assert_eq!(
        gateway
            .admin()
            .with_key("ak_wrong-wrong-wrong-wrong-wrong-wrong")
            .send(http::Method::GET, "/v1/tenants")
            .await
            .status,
        401
    );
    let shown = admin.get("/v1/config").await.to_string();
    assert!(!shown.contains(key), "N-06: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_admin_key_or_a_missing_secret_refuses_to_start() {
    let mut setup = Setup::bare();
    setup.admin.push("keys = [\"env:OPENCLAWMU_TEST_ADMIN_KEY\"]".into());
    let missing = Attempt::new(&setup);
    says(&missing.refused().await, &["OPENCLAWMU_TEST_ADMIN_KEY"]);
    setup.env.push(("OPENCLAWMU_TEST_ADMIN_KEY".into(), "short".into()));
    says(&Attempt::new(&setup).refused().await, &["32"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_or_broken_key_file_refuses_to_start() {
    let mut scene = Scene::new().await;
    assert!(scene.gateway.terminate().await.success());
    let pepper = scene.gateway.data().join("pepper.key");
    let kept = std::fs::read(&pepper).expect("the pepper");
    for broken in [&b""[..], b"short"] {
        std::fs::write(&pepper, broken).expect("a broken key");
        let refusal = Gateway::refusal(scene.gateway.command()).await;
        assert!(!refusal.status.success());
        says(&refusal, &["pepper.key"]);
    }
    std::fs::remove_file(&pepper).expect("it goes");
    std::fs::create_dir(&pepper).expect("a directory in its place");
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(!refusal.status.success());
    says(&refusal, &["pepper.key"]);
    std::fs::remove_dir(&pepper).expect("it goes");
    std::fs::write(&pepper, &kept).expect("the right one");
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(!refusal.status.success(), "a key that everybody may read is refused");
    says(&refusal, &["pepper.key", "600"]);
}

/// D-07, from outside
#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_schema_refuses_to_start_and_is_left_alone() {
    let mut scene = Scene::new().await;
    assert!(scene.gateway.terminate().await.success());
    let database = scene.gateway.data().join("openclawmu.db");
    let connection = rusqlite::Connection::open(&database).expect("the database");
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    assert!(version > 0, "the schema's version is SQLite's user_version");
    connection.pragma_update(None, "user_version", version + 1_000).expect("a newer schema");
    drop(connection);
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(!refusal.status.success());
    says(&refusal, &["newer"]);
    let connection = rusqlite::Connection::open(&database).expect("the database");
    let after: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a version");
    assert_eq!(after, version + 1_000);
    connection.pragma_update(None, "user_version", version).expect("the right schema");
    drop(connection);
    scene.restarted().await;
    scene.client.get("/v1/quota").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_with_a_mistake_refuses_to_start_and_names_it() {
    let cases = [
        ("[edge]\nlisten = \"nowhere\"", "listen"),
        ("[edge]\nlistens = \"127.0.0.1:1\"", "listens"),
        ("[unknown_table]\nx = 1", "unknown_table"),
        ("[[upstream]]\nname = \"x\"\nkind = \"nobody\"", "kind"),
        (
            "[[upstream]]\nname = \"x\"\nkind = \"openai\"\nbase_url = \"not a url\"\napi_key = \"env:HOME\"\nmodels = [\"m\"]",
            "base_url",
        ),
        ("[[model]]\nname = \"fast\"\ntargets = [{ upstream = \"missing\", model = \"m\", weight = 1 }]", "missing"),
        ("[rates]\nfile = \"no/such/rates.json\"", "rates.json"),
        ("this is [not TOML", "toml"),
    ];
    for (text, word) in cases {
        let attempt = Attempt::new(&Setup::bare());
        std::fs::write(&attempt.config, text).expect("a config");
        let refusal = attempt.refused().await;
        assert!(refusal.stderr.to_lowercase().contains(word), "{word:?} for {text:?}: {}", refusal.stderr);
        assert!(!attempt.data.join("openclawmu.db").exists(), "nothing was made for {text:?}");
    }
    let attempt = Attempt::new(&Setup::bare());
    std::fs::remove_file(&attempt.config).expect("it goes");
    says(&attempt.refused().await, &["openclawmu.toml"]);
}

fn words_of(dir: &Path, text: &str) -> bool {
    text.contains(dir.to_str().expect("UTF-8"))
}

/// contract.md, "Start": the first start prints what works as it stands
#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_prints_where_the_key_is_and_how_to_call() {
    let gateway = Gateway::start(Setup::bare()).await;
    let said = gateway.stdout() + &gateway.stderr();
    assert!(words_of(&gateway.data(), &said) && said.contains("admin.key"), "the path of the key: {said}");
    assert!(said.contains("curl") && said.contains("OpenAI("), "a curl line and a Python snippet: {said}");
    assert!(!said.contains(gateway.key()), "but not the key itself: {said}");
}

/// The built-in upstream needs nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn with_no_config_but_defaults_the_echo_model_answers_streams_and_costs() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::bare();
    setup.rates = None;
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1" })).await;
    let body = json!({ "model": "echo", "messages": [{ "role": "user", "content": "say it again, Sam" }] });
    let reply = scene.client.chat(&body).await.ok();
    assert_eq!(reply["choices"][0]["message"]["content"], "say it again, Sam");
    assert!(
        reply["usage"]["prompt_tokens"].as_u64() > Some(0) && reply["usage"]["completion_tokens"].as_u64() > Some(0),
        "{reply}"
    );
    let events = scene.client.stream(&body).await.rest().await;
    assert_eq!(events.iter().map(openclawmu_tests::sse::Event::text).collect::<String>(), "say it again, Sam");
    assert!(events.len() > 3 && events.last().is_some_and(openclawmu_tests::sse::Event::done));
    let rows = scene.rows_once(2).await;
    assert!(
        rows.iter().all(|row| row.cost > 0 && row.cost == rows[0].cost && !row.estimated),
        "priced, and the same each time: {rows:?}"
    );
    assert_eq!(scene.upstream.calls(), 0);
}

/// S8-07 at the very start: from the first word on, a signal is what it is later, and no death.
#[tokio::test(flavor = "multi_thread")]
async fn signals_that_answer_the_greeting_reload_and_drain() {
    for signals in [&[Signal::TERM][..], &[Signal::HUP, Signal::HUP, Signal::INT]] {
        let attempt = Attempt::new(&Setup::bare());
        let mut child = attempt.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        let ended = tokio::task::spawn_blocking(move || {
            child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("a greeting");
            child
        });
        let child = ended.await.expect("no panic");
        for signal in signals {
            kill_process(pid, *signal).expect("it is there");
        }
        let output =
            tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic").expect("its end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{signals:?}: {:?}: {said}", output.status);
        assert!(said.contains("drained; ending"), "{said}");
    }
}
