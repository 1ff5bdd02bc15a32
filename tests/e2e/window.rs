//! Windows of a budget: a request posts to the one that admitted it, and a clock set back opens none again.

use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::money::{nanos, usd};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Gate, Scene, Setup, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;

const DAY: i64 = 86_400;
/// 2026-11-30T23:30:00Z.
const LAST_OF_NOVEMBER: i64 = 1_796_081_400;

async fn clocked(quota: Value) -> (Scene, FakeClock, TempDir) {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    (Scene::of(upstream, setup, quota).await, clock, dir)
}

/// Shifts so that the gateway's clock shows `at` (UNIX seconds) now.
fn set(clock: &FakeClock, at: i64) {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    clock.shift(at - i64::try_from(real).expect("small"));
}

async fn report(scene: &Scene, period: &str) -> i128 {
    let report = scene.admin().get(&format!("/v1/reports/usage?period={period}&format=json&tenant=acme")).await;
    report["total"]["cost_usd"].as_str().map_or_else(|| panic!("a total in {report}"), nanos)
}

/// Q-10, the boundary
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_the_months_end_posts_to_the_month_that_admitted_it() {
    let quota = json!({ "usd_per_month": usd(200_000), "usd_per_day": usd(200_000) });
    let (scene, clock, _dir) = clocked(quota).await;
    set(&clock, LAST_OF_NOVEMBER);
    let gate = Gate::new();
    scene.upstream.when("slowly", Behaviour::gated(10, 4, &gate));
    scene.upstream.always(Behaviour::words(10));
    let mut stream = scene.client.stream(&chat("flat", "slowly", 10)).await;
    stream.texts(4).await;
    set(&clock, LAST_OF_NOVEMBER + 3_600);
    assert_eq!(scene.budget().await.posted, 0, "a new day");
    gate.open();
    assert!(stream.rest().await.last().is_some_and(openclawmu_tests::sse::Event::done));
    scene.rows_once(1).await;
    assert_eq!(report(&scene, "2026-11").await, 100_000, "the old month has it");
    assert_eq!(report(&scene, "2026-12").await, 0, "the new one hasn't");
    assert_eq!(scene.admin().budget("acme", "usd_per_month").await.posted, 0);
    for _ in 0..2 {
        assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200, "the new month's budget is whole");
    }
    scene.client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
}

/// Q-10, the clock set back
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_a_day_reopens_no_spent_budget() {
    let (scene, clock, _dir) = clocked(json!({ "usd_per_day": usd(100_000) })).await;
    scene.upstream.always(Behaviour::words(10));
    set(&clock, LAST_OF_NOVEMBER + DAY);
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    scene.client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    set(&clock, LAST_OF_NOVEMBER);
    let reply = scene.client.chat(&chat("flat", "hi", 10)).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    set(&clock, LAST_OF_NOVEMBER + 2 * DAY);
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200, "the next day is a new budget");
}

/// Q-10, the clock set back over a restart
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_over_a_restart_reopens_nothing_either() {
    let (mut scene, clock, _dir) = clocked(json!({ "usd_per_day": usd(100_000) })).await;
    scene.upstream.always(Behaviour::words(10));
    set(&clock, LAST_OF_NOVEMBER + DAY);
    assert_eq!(scene.client.chat(&chat("flat", "hi", 10)).await.status, 200);
    until_true("the row", || scene.rows().len() == 1).await;
    assert!(scene.gateway.terminate().await.success());
    set(&clock, LAST_OF_NOVEMBER);
    scene.restarted().await;
    scene.client.chat(&chat("flat", "hi", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
}

/// ledger.md: the window follows the tenant's time zone; `LiteLLM` 34896: budgets reset at a strange hour
#[tokio::test(flavor = "multi_thread")]
async fn the_day_begins_at_midnight_of_the_tenants_zone() {
    let (scene, clock, _dir) = clocked(json!({})).await;
    scene.upstream.always(Behaviour::words(10));
    let tokyo = json!({ "id": "tokyo", "timezone": "Asia/Tokyo", "quota": { "usd_per_day": usd(100_000) } });
    let tenant = scene.admin().tenant_of(tokyo).await;
    let client = scene.client.with_token(&tenant.token);
    // 14:50 UTC is 23:50 in Tokyo.
    let evening = LAST_OF_NOVEMBER - 8 * 3_600 - 2_400;
    set(&clock, evening);
    assert_eq!(client.chat(&chat("flat", "hi", 10)).await.status, 200);
    let reply = client.chat(&chat("flat", "hi", 10)).await;
    reply.refused(429, "insufficient_quota", "insufficient_quota");
    let wait: u64 = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
    assert!((500..=601).contains(&wait), "ten minutes to Tokyo's midnight: {wait}");
    set(&clock, evening + 900);
    assert_eq!(client.chat(&chat("flat", "hi", 10)).await.status, 200);
    let refused = json!({ "id": "nowhere", "timezone": "Mars/Olympus" });
    assert_eq!(scene.admin().post("/v1/tenants", &refused).await.status, 400);
}

/// ledger.md, DST; `LiteLLM` 34896: the day that has 23 hours and the one that has 25 end at midnight on the wall
#[tokio::test(flavor = "multi_thread")]
async fn a_day_on_which_the_clocks_are_turned_ends_at_midnight_on_the_wall() {
    let (scene, clock, _dir) = clocked(json!({})).await;
    scene.upstream.always(Behaviour::words(10));
    // New York's 14th of March 2027 has 23 hours, its 7th of November 25: from 05:00 to 04:00 UTC, and from 04:00 to 05:00.
    for (id, starts, hours) in [("spring", 1_805_000_400, 23), ("autumn", 1_825_560_000, 25)] {
        let body = json!({ "id": id, "timezone": "America/New_York", "quota": { "usd_per_day": usd(100_000) } });
        let tenant = scene.admin().tenant_of(body).await;
        let client = scene.client.with_token(&tenant.token);
        let ask = chat("flat", "hi", 10);
        set(&clock, starts - 60);
        assert_eq!(client.chat(&ask).await.status, 200, "{id}: the day before");
        set(&clock, starts + 60);
        assert_eq!(client.chat(&ask).await.status, 200, "{id}: the day");
        let reply = client.chat(&ask).await;
        reply.refused(429, "insufficient_quota", "insufficient_quota");
        let wait: i64 = reply.header("retry-after").and_then(|text| text.parse().ok()).expect("retry-after");
        let left = hours * 3_600 - 60;
        assert!((left - 60..=left).contains(&wait), "{id}: {wait} of {left}");
        set(&clock, starts + hours * 3_600 - 120);
        client.chat(&ask).await.refused(429, "insufficient_quota", "insufficient_quota");
        set(&clock, starts + hours * 3_600 + 1);
        assert_eq!(client.chat(&ask).await.status, 200, "{id}: the day after");
    }
}
