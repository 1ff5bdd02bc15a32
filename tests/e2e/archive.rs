//! Old request detail leaves the database for a file, and no report shows it.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::{Scene, Setup, Upstream, ledger};
use serde_json::json;
use tempfile::TempDir;

/// 2026-10-15T12:00:00Z.
const OCTOBER: i64 = 1_792_065_600;
const DAY: i64 = 86_400;

/// Shifts so that the gateway's clock shows `at` (UNIX seconds) now.
fn set(clock: &FakeClock, at: i64) {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    clock.shift(at - i64::try_from(real).expect("small"));
}

async fn reports(scene: &Scene) -> Vec<String> {
    let mut texts = Vec::new();
    for path in [
        "/v1/reports/usage?period=2026-10&format=csv",
        "/v1/reports/usage?period=2026-10&format=json",
        "/v1/tenants/acme/usage?from=2026-10-01&to=2026-11-01&group_by=day,model,token,user,tag",
    ] {
        let reply = scene.admin().send(Method::GET, path).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        texts.push(reply.text());
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_month_is_gone_from_the_ledger_and_its_reports_are_byte_for_byte_the_same() {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    set(&clock, OCTOBER);
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    for n in 0..30 {
        let mut body = chat("odd", "hello", 10);
        body["user"] = json!(format!("user-{}", n % 3));
        scene.client.chat(&body).await.ok();
    }
    scene.rows_once(30).await;
    let early = scene.gateway.cli(&["archives", "create", "2026-10"]).await;
    assert!(early.stderr.contains("not over"), "{early:?}");
    set(&clock, OCTOBER + 40 * DAY);
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(31).await;
    let before = reports(&scene).await;
    assert_eq!(before[0].lines().count(), 2, "{}", before[0]);

    let made = scene.gateway.cli(&["archives", "create", "2026-10", "--json"]).await.json();
    assert_eq!(made["archive"]["rows"], 30);
    assert_eq!(ledger::count(&scene.gateway.data(), "ledger"), 1, "November's stays");
    assert_eq!(reports(&scene).await, before);
    let again = scene.gateway.cli(&["archives", "create", "2026-10"]).await;
    assert!(again.ok().contains("nothing") || again.ok().contains("no request detail"), "{again:?}");
    let listed = scene.gateway.cli(&["archives", "list"]).await;
    assert!(listed.ok().contains("archive/ledger-2026-10.jsonl.zst"), "{listed:?}");
    let file = scene.gateway.data().join(made["archive"]["file"].as_str().expect("a file"));
    assert!(file.metadata().expect("the file").len() > 0);
}
