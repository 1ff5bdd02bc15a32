//! The whole gateway: snapshots under load, what is shipped in between, and a new gateway out of it all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openclawmu_tests::bucket::files;
use openclawmu_tests::client::chat;
use openclawmu_tests::setup::{PROVIDER_KEY, PROVIDER_KEY_ENV};
use openclawmu_tests::{Gateway, Scene, Setup, Upstream, audit, ledger, wait};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

async fn scene(place: &Path, keys: &str) -> Scene {
    let upstream = Upstream::start().await;
    let table = format!("[backup]\nto = {place:?}\nevery = \"off\"\n{keys}\n");
    let setup = Setup::with(&upstream).line(&table);
    Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
}

fn number(database: &Path, sql: &str) -> i64 {
    let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database");
    conn.query_row(sql, [], |row| row.get(0)).expect("a number")
}

/// B-01: backups that are made while requests are being settled are sound, hold a prefix of the ledger, and their budgets are
/// their ledger's sums.
#[tokio::test(flavor = "multi_thread")]
async fn b_01_a_backup_under_load_is_sound_and_its_budgets_are_its_ledger() {
    let place = TempDir::new().expect("a temp dir");
    let scene = scene(place.path(), "ship_seconds = 0").await;
    let busy = Arc::new(AtomicBool::new(true));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, busy) = (scene.client.clone(), Arc::clone(&busy));
            tokio::spawn(async move {
                while busy.load(Ordering::Relaxed) {
                    client.chat(&chat("odd", "hello", 10)).await.ok();
                }
            })
        })
        .collect();
    let mut made = Vec::new();
    for _ in 0..3 {
        let answer = scene.admin().post("/v1/backups", &json!({})).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        made.push(answer.json()["backup"].clone());
    }
    busy.store(false, Ordering::Relaxed);
    for task in load {
        task.await.expect("a client");
    }
    scene.balanced().await;
    let rows: Vec<u64> = made.iter().filter_map(|made| made["ledger_rows"].as_u64()).collect();
    assert!(rows.is_sorted() && rows.first() < rows.last(), "requests were settled meanwhile: {rows:?}");
    let all = ledger::count(&scene.gateway.data(), "ledger");
    for made in &made {
        let verified = scene.admin().post("/v1/backups/verify", &json!({"from": made["url"]})).await;
        assert_eq!(verified.status, 200, "{}", verified.text());
    }
    let new = TempDir::new().expect("a temp dir");
    let (data, keys) = (new.path().join("data"), scene.gateway.data());
    rebuilt(&scene.gateway, &data, &keys, made[1]["url"].as_str()).await;
    let database = data.join("openclawmu.db");
    assert_eq!(number(&database, "SELECT count(*) FROM ledger"), i64::try_from(rows[1]).expect("few"));
    assert!(rows[1] <= all.unsigned_abs());
    for sums in ["windows WHERE kind = 'day'", "windows WHERE kind = 'month'"] {
        let sql = format!("SELECT (SELECT sum(posted_nanos) FROM {sums}) - (SELECT sum(cost_nanos) FROM ledger)");
        assert_eq!(number(&database, &sql), 0);
    }
    let live = number(&scene.gateway.data().join("openclawmu.db"), "SELECT count(*) FROM ledger");
    let conn = Connection::open(&database).expect("a database");
    let old = scene.gateway.data().join("openclawmu.db");
    conn.execute("ATTACH ?1 AS live", [format!("file:{}?mode=ro", old.display())]).expect("the other");
    let foreign: i64 = conn
        .query_row("SELECT count(*) FROM ledger WHERE id NOT IN (SELECT id FROM live.ledger)", [], |row| row.get(0))
        .expect("a number");
    assert_eq!((foreign, live), (0, all), "nothing that was not settled");
}

async fn rebuilt(gateway: &Gateway, data: &Path, keys: &Path, from: Option<&str>) -> Value {
    let mut command = tokio::process::Command::new(openclawmu_tests::gateway::binary());
    command.env(PROVIDER_KEY_ENV, PROVIDER_KEY);
    command.args(["backups", "restore", "--json", "--config"]).arg(gateway.config());
    command.arg("--data").arg(data).arg("--keys").arg(keys);
    command.args(from.map(|from| ["--from", from]).into_iter().flatten());
    let output = command.current_dir(gateway.dir()).output().await.expect("the binary runs");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{wrong}");
    serde_json::from_str(&said).expect("JSON")
}

/// B-04, U-03: the audit log that was shipped comes back byte for byte as far as its last whole line, over a rotation, and
/// verifies; what is missing in the place is found
#[tokio::test(flavor = "multi_thread")]
async fn b_04_the_audit_log_is_shipped_as_it_is_written_and_verifies_where_it_comes_back() {
    let place = TempDir::new().expect("a temp dir");
    let mut scene = scene(place.path(), "ship_seconds = 1\n[audit]\nmax_file_bytes = 4096").await;
    let made = scene.gateway.cli(&["backups", "create", "--json"]).await.json();
    assert_eq!(made["backup"]["tenants"], 1, "{made}");
    for round in 0..30 {
        scene.admin().patch("acme", &json!({ "name": format!("Name {round}") })).await;
    }
    let folder = scene.gateway.data().join("audit");
    assert!(audit::files(&folder).len() > 1, "it was rotated");
    let written = audit::lines(&folder);
    let shipped = || {
        let segments = files(&place.path().join("gateway/segments/audit"));
        segments.iter().filter_map(|path| path.file_name()?.to_str()?.split('-').next()?.parse::<u64>().ok()).max()
    };
    wait::until_true("every line is shipped", || shipped() >= written.last().map(audit::seq)).await;
    scene.gateway.kill_9();
    let new = TempDir::new().expect("a temp dir");
    let data = new.path().join("data");
    rebuilt(&scene.gateway, &data, folder.parent().expect("the data"), None).await;
    let back = audit::lines(&data.join("audit"));
    assert_eq!(back, written, "nothing is lost, nothing is added");
    let verify = |data: &Path| {
        let mut command = std::process::Command::new(openclawmu_tests::gateway::binary());
        command.env(PROVIDER_KEY_ENV, PROVIDER_KEY).current_dir(new.path());
        let output = command.args(["audit", "verify", "--json", "--data"]).arg(data).output().expect("the binary runs");
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(output.status.success(), verdict["ok"] == true, "{output:?}");
        verdict
    };
    let sound = verify(&data);
    assert_eq!((&sound["ok"], sound["last_seq"].as_u64()), (&json!(true), written.last().map(audit::seq)), "{sound}");
    let log = data.join("audit/audit.jsonl");
    let text = std::fs::read_to_string(&log).expect("the log");
    std::fs::write(&log, text.replacen("Name 7", "Name 8", 1)).expect("written");
    assert_eq!(verify(&data)["ok"], false, "its twin: one that was touched does not verify");
    std::fs::write(&log, text).expect("written");

    // A gateway on it goes on with the chain.
    let upstream = Upstream::start().await;
    let mut again = Gateway::start_on(Setup::with(&upstream), &data).await;
    again.admin().patch("acme", &json!({ "name": "after" })).await;
    let verdict = again.cli(&["audit", "verify", "--json"]).await.json();
    assert_eq!(verdict["ok"], true, "{verdict}");
    let lines = audit::lines(&again.data().join("audit"));
    let restored: Vec<&Value> = lines.iter().filter(|line| line["action"] == "gateway.restore").collect();
    assert_eq!(restored.len(), 1, "the restore is on record, once");
    assert_eq!((&restored[0]["actor"]["kind"], &restored[0]["target"]), (&json!("local"), &json!("000001")));
    assert_eq!(restored[0]["detail"]["changes_lost"], 30, "{}", restored[0]);
    again.terminate().await;
}

/// B-04, B-05, B-09: after the loss of a machine, a new gateway is made of the last backup and of what was shipped since: no
/// row is lost, what was revoked is revoked again, and without the keys nothing is made. The drill does the same and says how
/// long it took.
#[tokio::test(flavor = "multi_thread")]
async fn b_04_a_lost_gateway_is_made_again_with_what_was_shipped_since_and_the_drill_times_it() {
    let dir = TempDir::new().expect("a temp dir");
    // Called like a part of what lies in it.
    let place = dir.path().join("backups");
    let mut scene = scene(&place, "ship_seconds = 1").await;
    let file = scene.gateway.data().join("tenants/acme/workspace/file");
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
    std::fs::write(&file, "kept").expect("a file");
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(1).await;
    let made = scene.gateway.cli(&["backups", "create", "--json"]).await.json();
    assert_eq!(made["backup"]["tenants"], 1, "{made}");
    for _ in 0..3 {
        scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    }
    scene.rows_once(4).await;
    wait::until("the rows to be shipped", || async {
        (scene.admin().metric("openclawmu_backup_unshipped_rows", &[]).await == 0).then_some(())
    })
    .await;
    let listed = scene.gateway.cli(&["backups", "list"]).await;
    assert!(listed.ok().contains("gateway/backups/000001"), "{listed:?}");

    let drill = scene
        .gateway
        .cli(&["drill", "--config", scene.gateway.config().to_str().expect("UTF-8"), "--json"])
        .await
        .json();
    assert_eq!(
        (drill["answered"].as_str(), drill["ledger_rows"].as_u64()),
        (Some("The drill is over."), Some(4)),
        "{drill}"
    );
    assert!(drill["rpo_seconds"].as_i64().is_some_and(|seconds| seconds < 60), "{drill}");
    let took: Vec<u64> = drill["rto_seconds"].as_str().expect("a time").split('.').flat_map(str::parse).collect();
    assert!(took[0] < 600, "{drill}");

    scene.gateway.kill_9();
    let new = TempDir::new().expect("a temp dir");
    let (data, keys) = (new.path().join("data"), scene.gateway.data());
    let needed = ["pepper.key", "master.key", "audit.key"];
    for missing in needed {
        let some = new.path().join(format!("without-{missing}"));
        std::fs::create_dir(&some).expect("a directory");
        for key in needed.into_iter().filter(|key| *key != missing) {
            std::fs::copy(keys.join(key), some.join(key)).expect("a key");
        }
        let mut command = std::process::Command::new(openclawmu_tests::gateway::binary());
        command.env(PROVIDER_KEY_ENV, PROVIDER_KEY);
        command.args(["backups", "restore", "--config"]).arg(scene.gateway.config()).arg("--data").arg(&data);
        let refused = command.arg("--keys").arg(&some).output().expect("the binary runs");
        assert!(!refused.status.success() && !data.exists());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(missing) && said.contains("--keys"), "{said}");
        assert!(!said.contains("from a backup"), "no backup holds a key: {said}");
    }
    let restored = rebuilt(&scene.gateway, &data, &keys, None).await;
    assert_eq!((restored["ledger_rows"].as_u64(), restored["replayed"]["ledger_rows"].as_u64()), (Some(4), Some(3)));
    assert_eq!(std::fs::read_to_string(data.join("tenants/acme/workspace/file")).expect("a file"), "kept");
    let upstream = Upstream::start().await;
    let mut again = Gateway::start_on(Setup::with(&upstream), &data).await;
    let client = again.client(&scene.tenant.token);
    assert_eq!(client.chat(&chat("odd", "hello", 10)).await.status, 200, "its token works: the pepper is the same");
    wait::until("its row", || async { (ledger::count(&again.data(), "ledger") == 5).then_some(()) }).await;
    assert_eq!(
        again.admin().settled("acme").await.posted,
        i128::from(number(&again.data().join("openclawmu.db"), "SELECT sum(cost_nanos) FROM ledger"))
    );
    again.terminate().await;
}

/// B-04, U-03: where the audit log has a folder and a key of its own, it comes back there, and the drill opens it; a log that
/// has survived in its folder is left as it is
#[tokio::test(flavor = "multi_thread")]
async fn b_04_an_audit_log_with_a_folder_and_a_key_of_its_own_comes_back_there() {
    let dir = TempDir::new().expect("a temp dir");
    let (place, folder) = (dir.path().join("backups"), dir.path().join("audit"));
    let keys = format!("ship_seconds = 1\n[audit]\ndir = {folder:?}\nkey = \"env:TEST_AUDIT_KEY\"");
    let upstream = Upstream::start().await;
    let key = ("TEST_AUDIT_KEY".to_owned(), "a".repeat(40));
    let setup = Setup::with(&upstream)
        .line(&format!("[backup]\nto = {place:?}\nevery = \"off\"\n{keys}\n"))
        .env(vec![key.clone()]);
    let mut scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    assert_eq!(scene.gateway.cli(&["backups", "create", "--json"]).await.json()["backup"]["tenants"], 1);
    scene.admin().patch("acme", &json!({ "name": "Later" })).await;
    let written = audit::lines(&folder);
    wait::until("the log to be shipped", || async {
        let segments = files(&place.join("gateway/segments/audit"));
        let newest = segments
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.split('-').next()?.parse::<usize>().ok())
            .max();
        (newest == Some(written.len())).then_some(())
    })
    .await;
    let config = scene.gateway.config().to_str().expect("UTF-8").to_owned();
    let drill = scene.gateway.cli(&["drill", "--json", "--config", &config]).await.json();
    assert_eq!(drill["answered"], "The drill is over.", "{drill}");
    scene.gateway.kill_9();
    let keys = scene.gateway.data();
    assert!(!keys.join("audit.key").exists(), "the key is in the configuration alone");
    let restored = async |data: &Path| {
        let mut command = tokio::process::Command::new(openclawmu_tests::gateway::binary());
        command.env(PROVIDER_KEY_ENV, PROVIDER_KEY).env(&key.0, &key.1);
        command.args(["backups", "restore", "--config", &config]).arg("--data").arg(data).arg("--keys").arg(&keys);
        let done = command.output().await.expect("the binary runs");
        assert!(done.status.success(), "{done:?}");
        assert!(!data.join("audit").exists(), "no second log");
    };
    restored(&dir.path().join("beside")).await;
    assert_eq!(audit::lines(&folder), written, "what has survived is left as it is");
    std::fs::remove_dir_all(&folder).expect("the folder is lost");
    restored(&dir.path().join("new")).await;
    assert_eq!(audit::lines(&folder), written, "what was shipped is back");
}
