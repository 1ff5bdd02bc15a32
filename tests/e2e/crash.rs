//! `kill -9` at any moment: nothing over the cap, no acknowledged row lost, the database sound, one owner only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::free_address;
use openclawmu_tests::money::{cost, usd};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Client, Gate, Gateway, Scene, ledger, times};
use serde_json::json;
use tokio::task::JoinHandle;

/// Workers that call until they're told to stop or the gateway is gone; each gives the ids of the requests that it saw answered.
fn load(client: &Client, workers: usize, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<String>>> {
    (0..workers)
        .map(|worker| {
            let (client, stop) = (client.clone(), Arc::clone(stop));
            tokio::spawn(async move {
                let mut answered = Vec::new();
                let mut user = 0;
                while !stop.load(Ordering::SeqCst) {
                    let mut body = chat("flat", "hello", 10);
                    body["stream"] = json!(worker % 2 == 0);
                    user += 1;
                    body["user"] = json!(format!("user-{worker}-{user}"));
                    match client.try_post("/v1/chat/completions", &body).await {
                        Ok(reply) if reply.status == 200 => {
                            let whole = worker % 2 == 1 || reply.text().contains("[DONE]");
                            if whole {
                                answered.push(reply.header("x-request-id").expect("an id").to_owned());
                            }
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                answered
            })
        })
        .collect()
}

/// 50 kills in a soak run, else 6
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_the_cap_still_holds_for_ledger_and_provider() {
    let mut scene = Scene::with_quota(json!({})).await;
    scene.gateway.leave_unsettled();
    for round in 0..times(6, 50) {
        let cap = 100_000 * 40;
        let tenant = scene.admin().tenant(&format!("round-{round}"), json!({ "usd_per_day": usd(cap) })).await;
        scene.upstream.always(Behaviour::words(10));
        let client = scene.gateway.client(&tenant.token);
        let before = scene.upstream.calls();
        let stop = Arc::new(AtomicBool::new(false));
        let workers = load(&client, 8, &stop);
        until_true("some of the budget used", || scene.upstream.calls() >= before + 15).await;
        scene.gateway.kill_9();
        for worker in workers {
            worker.await.expect("a worker");
        }
        scene.restarted().await;
        assert_eq!(ledger::integrity(&scene.gateway.data()), "ok", "round {round}");
        let client = scene.gateway.client(&tenant.token);
        let budget = scene.admin().budget(&tenant.id, "usd_per_day").await;
        assert!(budget.posted + budget.pending + budget.held <= cap, "round {round}: {budget:?}");
        while client.chat(&chat("flat", "hello", 10)).await.status == 200 {}
        let budget = scene.admin().settled(&tenant.id).await;
        assert!(budget.posted + budget.held <= cap, "round {round}: {budget:?}");
        let billed: i128 = scene.upstream.exchanges()[before..]
            .iter()
            .map(|exchange| exchange.bill())
            .filter(|bill| bill.billed)
            .map(|bill| cost(&bill))
            .sum();
        assert!(billed <= cap, "round {round}: the provider bills {billed} on a cap of {cap}");
        assert!(billed <= budget.posted + budget.held, "round {round}: {billed} was billed, {budget:?}");
    }
}

/// D-01 and "no row lost": 100 kills in a soak run, else 8
#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_no_answered_request_is_without_its_row() {
    let mut scene = Scene::with_quota(json!({ "usd_per_day": "1000" })).await;
    scene.gateway.leave_unsettled();
    let mut answered = Vec::new();
    for round in 0..times(8, 100) {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = load(&scene.client, 6, &stop);
        let enough = scene.upstream.calls() + 10 + round * 3;
        until_true("load", || scene.upstream.calls() >= enough).await;
        scene.gateway.kill_9();
        for worker in workers {
            answered.extend(worker.await.expect("a worker"));
        }
        scene.restarted().await;
        assert_eq!(ledger::integrity(&scene.gateway.data()), "ok", "round {round}");
    }
    assert!(!answered.is_empty());
    let users = ledger::users(&scene.gateway.data());
    assert!(users.len() >= answered.len() && users.iter().all(|(_, user)| user.starts_with("user-")), "{users:?}");
    let rows = scene.rows();
    for id in &answered {
        let own: Vec<_> = rows.iter().filter(|row| row.request_id == *id).collect();
        assert_eq!(own.len(), 1, "the answered request {id} has exactly one row: {own:?}");
    }
    let exact = rows.iter().filter(|row| answered.contains(&row.request_id)).all(|row| row.cost + row.held >= 50_000);
    assert!(exact, "an answered request is billed or held in full");
    let budget = scene.settled().await;
    assert_eq!(budget.posted, rows.iter().map(|row| row.cost).sum::<i128>(), "posted is the sum of the rows");
    assert_eq!(budget.held, rows.iter().map(|row| row.held).sum::<i128>(), "held too");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    assert!(billed <= budget.posted + budget.held, "the provider's {billed} is posted or held: {budget:?}");
    assert!(budget.posted <= billed, "and nobody pays for more than was generated");
}

/// Q-09, ledger.md: recovery is idempotent
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_flight_at_a_kill_becomes_one_row_however_often_it_is_recovered() {
    let mut scene = Scene::with_quota(json!({ "usd_per_day": "1" })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(10, 5, &gate));
    let mut stream = scene.client.stream(&chat("alpha", "hello there", 10)).await;
    stream.texts(5).await;
    let reserved = scene.budget().await.pending;
    assert!(reserved > 0);
    scene.gateway.kill_9();
    assert!(!stream.rest().await.iter().any(openclawmu_tests::sse::Event::done));
    let mut first = None;
    for _ in 0..3 {
        scene.restarted().await;
        let rows = scene.rows_once(1).await;
        let budget = scene.budget().await;
        assert_eq!(budget.pending, 0);
        assert_eq!(budget.posted + budget.held, reserved, "what is uncertain stays held: {budget:?}");
        assert_eq!(rows[0].outcome, "recovered");
        assert!(rows[0].estimated && rows[0].cost <= reserved, "{rows:?}");
        assert_eq!(first.get_or_insert(rows.clone()), &rows, "recovery is idempotent");
        scene.gateway.kill_9();
    }
    scene.restarted().await;
}

/// D-05; `LiteLLM` 13202, 40291, bifrost 3547: limits multiply by processes
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_data_directory_refuses_to_start() {
    let scene = Scene::new().await;
    let second = scene.gateway.command_at(free_address(), free_address());
    let refusal = Gateway::refusal(second).await;
    assert!(!refusal.status.success(), "{refusal:?}");
    let said = refusal.stderr.to_lowercase();
    assert!(
        said.contains("data") && (said.contains("lock") || said.contains("another") || said.contains("in use")),
        "{}",
        refusal.stderr
    );
    scene.client.chat(&chat("alpha", "the first is untouched", 5)).await.ok();
}

/// D-10, from outside: a foreign writer holds the database for a while
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_never_a_clients_problem() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "the first one", 5)).await.ok();
    let path = scene.gateway.data().join("openclawmu.db");
    let foreign = rusqlite::Connection::open(path).expect("the database");
    foreign.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    foreign.execute_batch("BEGIN IMMEDIATE").expect("the write lock");
    let calls: Vec<_> = (0..30)
        .map(|_| {
            let client = scene.client.clone();
            tokio::spawn(async move { client.chat(&chat("alpha", "hello", 5)).await })
        })
        .collect();
    for call in calls {
        let reply = call.await.expect("a call");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let admin = scene.admin();
    let creating = tokio::spawn(async move { admin.post("/v1/tenants", &json!({ "id": "meanwhile" })).await });
    scene.client.get("/v1/quota").await.ok();
    foreign.execute_batch("ROLLBACK").expect("the lock is given back");
    let created = creating.await.expect("a call");
    assert!(matches!(created.status, 201 | 503), "{} {}", created.status, created.text());
    assert!(!created.text().to_lowercase().contains("sqlite"), "{}", created.text());
    scene.rows_once(31).await;
}

/// D-10: the readers' side, many at once
#[tokio::test(flavor = "multi_thread")]
async fn admin_writes_and_traffic_at_once_never_meet_a_busy_database() {
    let scene = Scene::new().await;
    let stop = Arc::new(AtomicBool::new(false));
    let workers = load(&scene.client, 4, &stop);
    for number in 0..40 {
        let id = format!("t-{number}");
        let tenant = scene.admin().tenant(&id, json!({ "usd_per_day": "1" })).await;
        let client = scene.client.with_token(&tenant.token);
        client.chat(&chat("flat", "hello", 5)).await.ok();
        scene.admin().patch(&id, &json!({ "name": "renamed" })).await;
    }
    stop.store(true, Ordering::SeqCst);
    let mut count = 0;
    for worker in workers {
        count += worker.await.expect("a worker").len();
    }
    assert!(count > 0);
    until("every answered request has its row", || async { (scene.rows().len() >= count).then_some(()) }).await;
}
