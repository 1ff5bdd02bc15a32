//! What finance does: export, credit, resolve what a crash left open, reconcile; against the running gateway and its command line.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::money::{nanos, usd};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Gate, Scene, ledger};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A connection that may write behind the gateway's back.
fn tampering(scene: &Scene) -> Connection {
    let conn = Connection::open(scene.gateway.data().join("openclawmu.db")).expect("the gateway's database");
    conn.busy_timeout(std::time::Duration::from_secs(30)).expect("a setting");
    conn
}

/// Multiplies the one ledger row there is.
fn multiply(scene: &Scene, times: u32) {
    let conn = tampering(scene);
    let columns: Vec<String> = conn
        .prepare("SELECT name FROM pragma_table_info('ledger') WHERE name <> 'id'")
        .expect("a query")
        .query_map([], |row| row.get(0))
        .expect("rows")
        .map(|name| name.expect("a name"))
        .collect();
    let columns = columns.join(", ");
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {times})
         INSERT INTO ledger (id, {columns}) SELECT (SELECT max(id) FROM ledger) + (1 << 30) + i, {columns} FROM ledger, n"
    );
    assert_eq!(conn.execute(&sql, []).expect("rows"), times as usize);
    let entries = "INSERT OR IGNORE INTO ledger_by_tenant SELECT tenant, admitted_at_ms, id FROM ledger";
    assert_eq!(conn.execute(entries, []).expect("entries"), times as usize);
}

/// Scale: an export of 100,000 rows to a client that takes its time
#[tokio::test(flavor = "multi_thread")]
async fn a_large_export_is_streamed_in_bounded_memory() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "hello there", 7)).await.ok();
    scene.rows_once(1).await;
    multiply(&scene, 100_000);
    let path = "/v1/tenants/acme/requests?format=csv";
    let warm = scene.admin().send(Method::GET, "/v1/tenants/acme/requests?format=csv&limit=10").await;
    assert_eq!(warm.text().lines().count(), 11);

    let before = scene.gateway.resident_kib();
    let mut reply = scene.admin().build(Method::GET, path).send().await.expect("an answer");
    assert_eq!(reply.status(), 200);
    let mut bytes = reply.chunk().await.expect("a chunk").expect("a chunk").len();
    // Until the gateway waits for this client: its memory stands still.
    let mut last = (0, 0);
    until_true("the gateway to wait", || {
        let now = scene.gateway.resident_kib();
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        last.1 >= 20
    })
    .await;
    let mut peak = scene.gateway.resident_kib();
    let mut lines = 0;
    while let Some(chunk) = reply.chunk().await.expect("the whole of it") {
        if bytes / (1 << 20) != (bytes + chunk.len()) / (1 << 20) {
            peak = peak.max(scene.gateway.resident_kib());
        }
        bytes += chunk.len();
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    assert!(lines > 99_000 && bytes > 20 << 20, "{lines} lines, {bytes} bytes");
    let grown = peak.saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more for an export of {} KiB", bytes >> 10);
}

/// M-12
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_same_after_a_restart() {
    let mut scene = Scene::new().await;
    for _ in 0..3 {
        scene.client.chat(&chat("alpha", "hello there", 7)).await.ok();
    }
    scene.rows_once(3).await;
    let export = async |scene: &Scene| {
        let reply = scene.admin().send(Method::GET, "/v1/tenants/acme/requests?format=csv").await;
        assert_eq!(reply.status, 200);
        reply.text()
    };
    let first = export(&scene).await;
    assert_eq!(first.lines().filter(|line| line.starts_with("evt_")).count(), 3, "{first}");
    assert!(!first.contains("hello there"), "never content: {first}");
    scene.gateway.terminate().await;
    scene.restarted().await;
    assert_eq!(export(&scene).await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credit_lets_a_tenant_go_on_and_the_books_agree() {
    let price = 100_000;
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(price) })).await;
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "hello", 10)).await.ok();
    scene.client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let amount = usd(price);
    let credit = ["billing", "credit", "acme", &amount, "--reason", "the answer was wrong", "--json"];
    let given = scene.gateway.cli(&credit).await.json();
    assert_eq!(given["credit"]["amount_usd"], amount);
    scene.client.chat(&chat("flat", "hello", 10)).await.ok();
    scene.client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(scene.balanced().await.posted, price);
    let usage = scene.client.get("/v1/usage").await.ok();
    assert_eq!(
        (nanos(usage["total"]["cost_usd"].as_str().expect("a sum")), &usage["total"]["requests"]),
        (price, &json!(2))
    );
    assert_eq!(scene.gateway.cli(&["billing", "reconcile", "--json"]).await.json()["difference_count"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconciliation_that_finds_a_difference_names_it_and_fails() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    scene.rows_once(1).await;
    tampering(&scene).execute("UPDATE usage_days SET cost_nanos = cost_nanos + 1", []).expect("one row");
    let found = scene.gateway.cli(&["billing", "reconcile"]).await;
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(found.stdout.contains("usage_days") && found.stdout.contains("acme"), "{found:?}");
    assert!(found.stderr.contains("the books differ in 2 places"), "{found:?}");
    let json = scene.gateway.cli(&["billing", "reconcile", "--json"]).await;
    let listed: Value = serde_json::from_str(&json.stdout).expect("JSON on standard output");
    assert_eq!((json.status.code(), listed["difference_count"].as_u64()), (Some(1), Some(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_holds_is_listed_and_given_back_on_the_command_line() {
    let mut scene = Scene::with_quota(json!({ "usd_per_day": usd(100_000) })).await;
    scene.gateway.leave_unsettled();
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(10, 0, &gate));
    let client = scene.client.clone();
    let cut = tokio::spawn(async move { client.try_post("/v1/chat/completions", &chat("flat", "hello", 10)).await });
    until_true("the call is with the provider", || scene.upstream.calls() == 1).await;
    scene.gateway.kill_9();
    drop(cut.await);
    gate.open();
    scene.restarted().await;
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let held = scene.gateway.cli(&["billing", "resolve", "--json"]).await.json();
    assert_eq!(held["data"][0]["held_usd"], usd(100_000), "{held}");
    let event = held["data"][0]["id"].as_str().expect("an event");
    let resolve = ["billing", "resolve", event, "--release", "--reason", "not on their invoice", "--json"];
    assert_eq!(scene.gateway.cli(&resolve).await.json()["data"][0]["released_usd"], usd(100_000));
    scene.client.chat(&chat("flat", "hello", 10)).await.ok();
    let again = scene.gateway.cli(&resolve).await;
    assert!(!again.status.success() && again.stderr.contains("nothing is held"), "{again:?}");
    until("the books to agree", || async {
        let found = scene.gateway.cli(&["billing", "reconcile", "--json"]).await;
        found.status.success().then_some(())
    })
    .await;
    assert_eq!(ledger::integrity(&scene.gateway.data()), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_grouped_by_the_users_and_tags_that_clients_name() {
    let scene = Scene::new().await;
    for (user, tags) in [("ann", "a,b"), ("ann", "a"), ("=bob", "")] {
        let mut body = chat("alpha", "hello", 5);
        body["user"] = json!(user);
        let request = scene.client.build(Method::POST, "/v1/chat/completions").header("x-openclawmu-tags", tags);
        assert_eq!(request.json(&body).send().await.expect("an answer").status(), 200);
    }
    scene.rows_once(3).await;
    let total = scene.ledger_total();
    let grouped = async |key: &str| -> (Vec<(String, u64)>, i128) {
        let usage = scene.admin().get(&format!("/v1/tenants/acme/usage?group_by={key}")).await;
        let row =
            |row: &Value| (row[key].as_str().expect("a key").to_owned(), row["requests"].as_u64().expect("a count"));
        let rows = usage["rows"].as_array().expect("rows").iter().map(row).collect();
        (rows, nanos(usage["total"]["cost_usd"].as_str().expect("a sum")))
    };
    let named = |rows: &[(&str, u64)]| -> Vec<(String, u64)> {
        rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    };
    assert_eq!(grouped("user").await, (named(&[("=bob", 1), ("ann", 2)]), total));
    assert_eq!(grouped("tag").await, (named(&[("", 1), ("a", 2), ("b", 1)]), total));
    let csv = scene.gateway.cli(&["billing", "report", "acme", "--csv", "--group-by", "user,tag"]).await;
    assert!(csv.ok().lines().any(|line| line.ends_with(",'=bob,")), "{csv:?}");
}
