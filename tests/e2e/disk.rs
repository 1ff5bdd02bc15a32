//! Disks that are full and disks that lie: what can't be made durable is refused, and what was acknowledged is there.

use std::cell::Cell;

use openclawmu_tests::client::chat;
use openclawmu_tests::disk::Shim;
use openclawmu_tests::money::cost;
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Reply, Scene, Setup, Upstream, ledger, raw};
use serde_json::{Value, json};
use tempfile::TempDir;

fn metadata_of(bytes: usize) -> Value {
    json!({ "metadata": { "note": "x".repeat(bytes) } })
}

fn is_refused(reply: &Reply) -> bool {
    if reply.status != 503 {
        return false;
    }
    reply.refused(503, "server_error", "store_unavailable");
    assert!(reply.header("retry-after").is_some(), "{:?}", reply.headers);
    true
}

/// Status of `/readyz` and of `/healthz` on both listeners.
fn health(scene: &Scene) -> Vec<(u16, u16)> {
    let status = |address, path| raw::blocking_get(address, path, "").map_or(0, |(status, _)| status);
    [scene.gateway.edge(), scene.gateway.admin_address()]
        .into_iter()
        .map(|address| (status(address, "/readyz"), status(address, "/healthz")))
        .collect()
}

async fn reads_are_served(scene: &Scene) {
    for path in ["/v1/models", "/v1/usage", "/v1/quota"] {
        assert_eq!(scene.client.get(path).await.status, 200, "{path}");
    }
    scene.admin().get("/v1/tenants/acme/quota").await;
}

/// D-03
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_it_cannot_keep_and_heals_without_a_restart() {
    let upstream = Upstream::start().await;
    // The audit log is elsewhere: what it does on a full disk is its own check.
    let setup = Setup::with(&upstream).disk("4m").line("[audit]\ndir = \"audit\"");
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let pid = scene.gateway.pid();
    scene.upstream.always(Behaviour::words(10));
    let mut answered = 0;
    for _ in 0..20 {
        answered += usize::from(scene.client.chat(&chat("flat", "hi", 10)).await.status == 200);
    }
    assert_eq!(answered, 20);
    for round in 0..2 {
        scene.gateway.disk().fill();
        let (good, refused, unready) = (Cell::new(0), Cell::new(false), Cell::new(false));
        until("paid requests are refused and both listeners say why", || {
            let (scene, good, refused, unready) = (&scene, &good, &refused, &unready);
            async move {
                // More than the log has room for: this write is refused, and whatever comes before the next try.
                let large =
                    scene.admin().send_json(http::Method::PATCH, "/v1/tenants/acme", &metadata_of(12_000)).await;
                assert!(matches!(large.status, 200 | 503), "{}", large.text());
                let calls = scene.upstream.calls();
                let reply = scene.client.chat(&chat("flat", "hi", 10)).await;
                if is_refused(&reply) {
                    assert_eq!(scene.upstream.calls(), calls, "a refused request never reaches the upstream");
                    refused.set(true);
                } else {
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    good.set(good.get() + 1);
                }
                let told = health(scene).iter().all(|(ready, alive)| (*ready, *alive) == (503, 200));
                unready.set(unready.get() || told);
                (refused.get() && unready.get()).then_some(())
            }
        })
        .await;
        answered += good.get();
        reads_are_served(&scene).await;
        scene.gateway.disk().clear();
        until_true("both listeners are ready", || health(&scene).iter().all(|found| *found == (200, 200))).await;
        answered += usize::from(scene.client.chat(&chat("flat", "hi", 10)).await.status == 200);
        scene.admin().patch("acme", &metadata_of(round)).await;
        let rows = scene.rows_once(answered).await;
        assert!(rows.iter().all(|row| row.outcome == "complete" && row.cost == 100_000), "{rows:#?}");
        assert_eq!(scene.settled().await.posted, scene.ledger_total());
    }
    assert_eq!(scene.gateway.pid(), pid, "nobody restarted it");
    assert_eq!(ledger::integrity(&scene.gateway.data()), "ok");
}

async fn under_shim(dir: &TempDir, line: &str) -> (Scene, Shim) {
    let shim = Shim::build(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line(line).env(shim.env(upstream.address().port()));
    (Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await, shim)
}

/// Calls until a paid request is refused; how many were answered before.
async fn answered_until_refused(scene: &Scene) -> usize {
    let answered = Cell::new(0);
    until("paid requests are refused", || {
        let answered = &answered;
        async move {
            let reply = scene.client.chat(&chat("flat", "hi", 10)).await;
            answered.set(answered.get() + usize::from(reply.status == 200));
            is_refused(&reply).then_some(())
        }
    })
    .await;
    answered.get()
}

/// D-04: what was written before a failed sync is gone, and the next sync would succeed
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_every_acknowledgement_and_no_acknowledged_row_is_lost() {
    let dir = TempDir::new().expect("a temp dir");
    let (mut scene, shim) = under_shim(&dir, "").await;
    scene.upstream.always(Behaviour::words(10));
    let mut answered = 0;
    for part in ["openclawmu.db", "openclawmu.db-wal"] {
        for _ in 0..5 {
            scene.client.chat(&chat("flat", "hi", 10)).await.ok();
            answered += 1;
        }
        scene.admin().patch("acme", &json!({ "name": format!("before {part}") })).await;
        shim.fail(part);
        answered += answered_until_refused(&scene).await;
        let calls = scene.upstream.calls();
        for _ in 0..3 {
            let change = json!({ "name": "never acknowledged" });
            let reply = scene.admin().send_json(http::Method::PATCH, "/v1/tenants/acme", &change).await;
            assert_eq!(reply.status, 503, "{}", reply.text());
            assert!(is_refused(&scene.client.chat(&chat("flat", "hi", 10)).await));
            assert!(health(&scene).iter().all(|found| *found == (503, 200)));
        }
        assert_eq!(scene.upstream.calls(), calls);
        reads_are_served(&scene).await;
        shim.heal();
        until_true("the log is begun anew", || health(&scene).iter().all(|found| *found == (200, 200))).await;
        assert_eq!(scene.admin().get("/v1/tenants/acme").await["name"], format!("before {part}"));
        scene.client.chat(&chat("flat", "hi", 10)).await.ok();
        answered += 1;
    }
    scene.rows_once(answered).await;
    // And killed while it fails.
    shim.fail("openclawmu.db");
    answered += answered_until_refused(&scene).await;
    scene.gateway.kill_9();
    scene.gateway.forget_env("LD_PRELOAD");
    scene.restarted().await;
    let rows = scene.rows_once(answered).await;
    assert!(rows.iter().all(|row| row.outcome == "complete" && row.cost == 100_000), "{rows:#?}");
    assert_eq!(ledger::integrity(&scene.gateway.data()), "ok");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert_eq!(scene.settled().await.posted, billed, "the books are the provider's");
}

/// D-04's neighbour: SQLite goes on writing to a file that was removed, so what it says would be lost
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_gone_refuses_what_would_be_lost_and_heals_when_it_is_back() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    let (there, away) = (scene.gateway.data().join("openclawmu.db"), scene.gateway.data().join("away.db"));
    std::fs::rename(&there, &away).expect("moved away");
    until_true("both listeners say so", || health(&scene).iter().all(|found| *found == (503, 200))).await;
    let calls = scene.upstream.calls();
    assert!(is_refused(&scene.client.chat(&chat("flat", "hi", 10)).await));
    let change = json!({ "name": "never acknowledged" });
    let reply = scene.admin().send_json(http::Method::PATCH, "/v1/tenants/acme", &change).await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(scene.upstream.calls(), calls);
    std::fs::rename(&away, &there).expect("moved back");
    until_true("both listeners are ready", || health(&scene).iter().all(|found| *found == (200, 200))).await;
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    scene.rows_once(2).await;
}

/// Events from the first reservation of a test on.
fn since_reserved(shim: &Shim, from: usize) -> Vec<String> {
    shim.events().into_iter().skip(from).skip_while(|event| event != "reserved").collect()
}

/// ledger.md, `durability = "power"`: the reservation is on the disk before the first byte goes upstream
#[tokio::test(flavor = "multi_thread")]
async fn with_power_durability_a_reservation_is_synced_before_the_upstream_hears_of_it() {
    let dir = TempDir::new().expect("a temp dir");
    let (mut scene, shim) = under_shim(&dir, "[data]\ndurability = \"power\"").await;
    for number in 0..10 {
        let from = shim.events().len();
        let mut body = chat("alpha", "hello", 5);
        body["stream"] = json!(number % 2 == 0);
        assert_eq!(scene.client.chat(&body).await.status, 200);
        let events = since_reserved(&shim, from);
        let sent = events.iter().position(|event| event == "sent upstream").expect("the call upstream");
        assert_eq!(events[..sent], ["reserved", "sync begins", "synced"], "request {number}: {events:?}");
    }
    // A reservation whose sync failed is never sent, and the table is not trusted again.
    let calls = scene.upstream.calls();
    shim.fail("/inflight/");
    assert!(is_refused(&scene.client.chat(&chat("alpha", "hello", 5)).await));
    shim.heal();
    assert!(is_refused(&scene.client.chat(&chat("alpha", "hello", 5)).await), "the next sync would have succeeded");
    assert!(health(&scene).iter().all(|found| *found == (503, 200)));
    assert_eq!(scene.upstream.calls(), calls);
    assert!(scene.gateway.terminate().await.success());
    scene.restarted().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    let budget = scene.settled().await;
    assert_eq!((budget.posted, budget.held), (billed, 0));
}

/// The twin: without it nothing is synced on a request's path
#[tokio::test(flavor = "multi_thread")]
async fn with_process_durability_no_request_waits_for_the_disk() {
    let dir = TempDir::new().expect("a temp dir");
    let (scene, shim) = under_shim(&dir, "").await;
    for _ in 0..10 {
        let from = shim.events().len();
        scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
        let events = since_reserved(&shim, from);
        assert_eq!(events[..2], ["reserved", "sent upstream"], "{events:?}");
        assert!(!events.iter().any(|event| event == "synced"), "{events:?}");
    }
}
