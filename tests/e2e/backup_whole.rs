//! The whole gateway: snapshots under load, what is shipped in between, and a new gateway out of it all.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openclawmu_tests::client::chat;
use openclawmu_tests::setup::{PROVIDER_KEY, PROVIDER_KEY_ENV};
use openclawmu_tests::{Gateway, Scene, Setup, Upstream, ledger, wait};
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

/// B-04, B-05, B-09: after the loss of a machine, a new gateway is made of the last backup and of what was shipped since: no
/// row is lost, what was revoked is revoked again, and without the keys nothing is made. The drill does the same and says how
/// long it took.
#[tokio::test(flavor = "multi_thread")]
async fn b_04_a_lost_gateway_is_made_again_with_what_was_shipped_since_and_the_drill_times_it() {
    let place = TempDir::new().expect("a temp dir");
    let mut scene = scene(place.path(), "ship_seconds = 1").await;
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
    for missing in ["pepper.key", "master.key"] {
        let some = new.path().join(format!("without-{missing}"));
        std::fs::create_dir(&some).expect("a directory");
        for key in ["pepper.key", "master.key"].into_iter().filter(|key| *key != missing) {
            std::fs::copy(keys.join(key), some.join(key)).expect("a key");
        }
        let mut command = std::process::Command::new(openclawmu_tests::gateway::binary());
        command.env(PROVIDER_KEY_ENV, PROVIDER_KEY);
        command.args(["backups", "restore", "--config"]).arg(scene.gateway.config()).arg("--data").arg(&data);
        let refused = command.arg("--keys").arg(&some).output().expect("the binary runs");
        assert!(!refused.status.success() && !data.exists());
        assert!(String::from_utf8_lossy(&refused.stderr).contains(missing), "{refused:?}");
    }
    let restored = rebuilt(&scene.gateway, &data, &keys, None).await;
    assert_eq!((restored["ledger_rows"].as_u64(), restored["replayed"]["ledger_rows"].as_u64()), (Some(4), Some(3)));
    assert_eq!(std::fs::read_to_string(data.join("tenants/acme/workspace/file")).expect("a file"), "kept");
    let upstream = Upstream::start().await;
    let mut again = Gateway::start_on(Setup::with(&upstream), &data).await;
    let client = again.client(&scene.tenant.token);
    assert_eq!(client.chat(&chat("odd", "hello", 10)).await.status, 200, "its token works: the pepper is the same");
    assert_eq!(
        again.admin().settled("acme").await.posted,
        i128::from(number(&again.data().join("openclawmu.db"), "SELECT sum(cost_nanos) FROM ledger"))
    );
    again.terminate().await;
}
