//! The configuration is read again by a signal or a call: as a whole or not at all, and on record.

use std::path::Path;
use std::process::Stdio;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::{binary, free_address};
use openclawmu_tests::{Scene, Setup, Upstream, raw, wait};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What is on record of reloads.
fn reloads(data: &Path) -> Vec<String> {
    let connection = rusqlite::Connection::open(data.join("openclawmu.db")).expect("the database");
    let sql = "SELECT actor_kind || ' ' || outcome || ' ' || detail FROM audit_outbox WHERE action = 'config.reload' ORDER BY seq";
    let mut statement = connection.prepare(sql).expect("the outbox");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|line| line.expect("a row")).collect()
}

fn add(path: &Path, text: &str) {
    let config = std::fs::read_to_string(path).expect("the config");
    std::fs::write(path, format!("{config}\n{text}\n")).expect("the config");
}

const ALIAS: &str = "[[model]]\nname = \"fresh\"\ntargets = [{ upstream = \"scripted\", model = \"alpha\" }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_effect_with_the_next_request_and_says_what_waits_for_a_start() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("fresh", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    let config = std::fs::read_to_string(scene.gateway.config()).expect("the config");
    std::fs::write(scene.gateway.config(), config.replace("[edge]\n", "[edge]\nkeepalive_requests = 77\n"))
        .expect("it");
    add(scene.gateway.config(), ALIAS);
    let done = scene.admin().post("/v1/config/reload", &json!({})).await;
    assert_eq!(done.status, 201, "{}", done.text());
    assert_eq!(done.json(), json!({ "changed": ["model.fresh"], "needs_restart": ["edge.keepalive_requests"] }));
    scene.client.chat(&chat("fresh", "hello", 5)).await.ok();
    let shown = scene.admin().get("/v1/config").await;
    assert_eq!(shown["model"][0]["name"], "fresh");
    assert_ne!(shown["edge"]["keepalive_requests"], 77, "what is shown is what is in force");
    let lines = reloads(&scene.gateway.data());
    assert!(lines.len() == 1 && lines[0].contains("operator") && lines[0].contains("model.fresh"), "{lines:?}");
    let again = scene.gateway.cli(&["config", "reload"]).await;
    assert!(again.ok().contains("nothing changed") && again.ok().contains("edge.keepalive_requests"), "{again:?}");
}

/// N-06: nor does an answer or a log line show what stands in the file
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_mistake_changes_nothing_and_is_refused_with_the_reason() {
    let scene = Scene::new().await;
    let good = std::fs::read_to_string(scene.gateway.config()).expect("the config");
    let before = scene.admin().get("/v1/config").await;
    let secret = "sk-pasted-by-mistake-9e1f";
    for (text, word) in [
        ("[[model]]\nname = \"fresh\"\ntargets = [{ upstream = \"missing\", model = \"m\" }]", "missing"),
        ("[edge2]\nx = 1", "edge2"),
        ("this is [not TOML", "line"),
        (&format!("[[upstream]]\nname = \"x\"\nkind = \"openai\"\napi_key = \"{secret}\""), "env:NAME"),
        (
            "[[upstream]]\nname = \"x\"\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\napi_key = \"env:OPENCLAWMU_NOT_SET\"",
            "OPENCLAWMU_NOT_SET",
        ),
    ] {
        std::fs::write(scene.gateway.config(), format!("{good}\n{ALIAS}\n{text}\n")).expect("the config");
        let refused = scene.admin().post("/v1/config/reload", &json!({})).await;
        assert_eq!(refused.status, 400, "{text}: {}", refused.text());
        let error = &refused.json()["error"];
        assert_eq!(error["code"], "invalid_config");
        assert!(error["hint"].as_str().is_some_and(|hint| hint.contains("config check")), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(word)), "{word}: {error}");
        assert!(!refused.text().contains(secret), "{}", refused.text());
    }
    assert_eq!(scene.admin().get("/v1/config").await, before);
    scene.client.chat(&chat("fresh", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    let lines = reloads(&scene.gateway.data());
    assert!(lines.len() == 5 && lines.iter().all(|line| line.contains(" failed ")), "{lines:?}");
    assert!(!lines.join("\n").contains(secret) && !scene.gateway.stderr().contains(secret));
    let refused = scene.gateway.cli(&["config", "check", "--config", scene.gateway.config().to_str().unwrap()]).await;
    assert!(!refused.status.success() && !refused.stderr.contains(secret), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_does_the_same() {
    let scene = Scene::new().await;
    add(scene.gateway.config(), ALIAS);
    scene.gateway.signal(Signal::HUP);
    let line = wait::until("the reload on record", || async { reloads(&scene.gateway.data()).pop() }).await;
    assert!(line.contains("system") && line.contains("model.fresh"), "{line}");
    wait::until("the alias", || async {
        (scene.client.chat(&chat("fresh", "hello", 5)).await.status == 200).then_some(())
    })
    .await;
    add(scene.gateway.config(), "nonsense");
    scene.gateway.signal(Signal::HUP);
    wait::until("the refusal on record", || async {
        reloads(&scene.gateway.data()).pop().filter(|line| line.contains(" failed "))
    })
    .await;
    scene.client.chat(&chat("fresh", "hello", 5)).await.ok();
}

/// N-06
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_shows_references_and_no_secret() {
    let upstream = Upstream::start().await;
    let (admin_key, provider_key) = ("ak_0123456789abcdefghijklmnopqrstuvwxyzABCDEF", "sk-canary-of-the-config-test");
    let mut setup = Setup::with(&upstream).env(vec![
        ("OPENCLAWMU_TEST_ADMIN_KEY".into(), admin_key.into()),
        ("OPENCLAWMU_TEST_OTHER".into(), provider_key.into()),
    ]);
    setup.admin.push("keys = [\"env:OPENCLAWMU_TEST_ADMIN_KEY\"]".into());
    let setup = setup.line(&format!(
        "[[upstream]]\nname = \"other\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\napi_key = \"env:OPENCLAWMU_TEST_OTHER\"\n",
        upstream.address()
    ));
    let gateway = openclawmu_tests::Gateway::start(setup).await;
    let admin = gateway.admin().with_key(admin_key);
    let shown = admin.get("/v1/config").await;
    let by_command = gateway.cli(&["config", "show", "--json", "--config", gateway.config().to_str().unwrap()]).await;
    let by_command: Value = by_command.json();
    assert_eq!(by_command["upstream"], shown["upstream"]);
    let reload = admin.send_json(Method::POST, "/v1/config/reload", &json!({})).await;
    for text in [shown.to_string(), by_command.to_string(), reload.text()] {
        assert!(!text.contains(admin_key) && !text.contains(provider_key), "{text}");
    }
    assert!(shown.to_string().contains("env:OPENCLAWMU_TEST_OTHER"), "{shown}");
}

/// The usual file may come after the start: a reload reads it then
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_made_after_the_start_is_read_by_a_reload() {
    let dir = TempDir::new().expect("a temp dir");
    let (edge, admin) = (free_address(), free_address());
    let command = || {
        let mut command = tokio::process::Command::new(binary());
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command
    };
    let serve = ["serve".to_owned(), "--edge".to_owned(), edge.to_string(), "--admin".to_owned(), admin.to_string()];
    let _gateway = command().args(serve).spawn().expect("the binary runs");
    wait::until_true("the gateway is ready", || {
        [edge, admin]
            .iter()
            .all(|address| raw::blocking_get(*address, "/readyz", "").is_some_and(|(code, _)| code == 200))
    })
    .await;
    let alias = "[[model]]\nname = \"fresh\"\ntargets = [{ upstream = \"echo\", model = \"echo\" }]\n";
    std::fs::write(dir.path().join("openclawmu.toml"), alias).expect("a config");
    let reloaded = command().args(["config", "reload", "--json"]).stdout(Stdio::piped()).output().await;
    let reloaded = reloaded.expect("the binary runs");
    let said: Value = serde_json::from_slice(&reloaded.stdout).unwrap_or_else(|_| panic!("{reloaded:?}"));
    assert_eq!(said["changed"], json!(["model.fresh"]), "{said}");
}
