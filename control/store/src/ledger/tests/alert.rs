//! Thresholds of budgets: each is told once for its window, whatever happens in between.

use std::sync::Barrier;

use rusqlite::Connection;
use serde_json::Value;

use super::world::{NOON, RESERVED, World, at, cap_of, end, usage};
use crate::{Alerts, NanoUsd, Outcome, Quota};

fn watched(quota: Quota) -> World {
    let world = World::new(quota);
    watch(&world);
    world
}

fn watch(world: &World) {
    world.store.set_alerts(Alerts::new(vec![50, 80, 100]).unwrap().with_webhook());
}

/// One request that uses all that it reserved.
fn spend(world: &World) {
    let settled = world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    assert_eq!(settled.cost, RESERVED);
}

/// What was told: bucket, window's number, percent.
fn told(world: &World) -> Vec<(String, i64, i64)> {
    world.flush();
    let conn = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    let mut statement = conn.prepare("SELECT bucket, number, percent FROM budget_alerts ORDER BY 1, 2, 3").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn percents(world: &World) -> Vec<i64> {
    told(world).into_iter().map(|(_, _, percent)| percent).collect()
}

/// Every webhook's payload and every audit line's detail, oldest first.
fn webhooks_and_audit(world: &World) -> (Vec<Value>, Vec<Value>) {
    world.flush();
    let conn = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    let read = |sql: &str| {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(|text| serde_json::from_str(&text.unwrap()).unwrap()).collect::<Vec<Value>>()
    };
    (
        read("SELECT payload FROM webhook_outbox ORDER BY rowid"),
        read("SELECT detail FROM audit_outbox WHERE action = 'budget.threshold' ORDER BY seq"),
    )
}

#[test]
fn each_threshold_is_told_as_it_is_reached_with_a_line_and_a_webhook() {
    let world = watched(cap_of(10));
    for spent in 1..=10 {
        spend(&world);
        let expected = [50, 80, 100].into_iter().filter(|percent| *percent <= spent * 10).collect::<Vec<i64>>();
        assert_eq!(percents(&world), expected, "after {spent} of 10");
    }
    let (webhooks, lines) = webhooks_and_audit(&world);
    assert_eq!((webhooks.len(), lines.len()), (3, 3));
    assert_eq!(
        webhooks[1],
        serde_json::json!({"type": "budget.threshold_reached", "timestamp": "2026-11-18T12:00:00.000Z", "data": {
            "tenant": "t1", "bucket": "usd_per_month", "window": "2026-11", "threshold_percent": 80, "cap": "0.002000000",
            "posted": "0.001600000", "held": "0.000000000", "resets_at": "2026-12-01T00:00:00.000Z",
        }})
    );
    assert_eq!(lines[1], webhooks[1]["data"]);
}

#[test]
fn tokens_and_both_dollar_caps_have_their_own() {
    let quota = Quota {
        usd_per_day: Some(RESERVED),
        usd_per_month: Some(NanoUsd(RESERVED.0 * 2)),
        tokens_per_day: Some(300),
        ..Quota::default()
    };
    let world = watched(quota);
    spend(&world);
    let told = told(&world);
    let of = |bucket: &str| told.iter().filter(|alert| alert.0 == bucket).map(|alert| alert.2).collect::<Vec<_>>();
    assert_eq!((of("usd_per_day"), of("usd_per_month"), of("tokens_per_day")), (vec![50, 80, 100], vec![50], vec![50]));
    let (webhooks, _) = webhooks_and_audit(&world);
    let tokens = webhooks.iter().find(|hook| hook["data"]["bucket"] == "tokens_per_day").unwrap();
    assert_eq!((&tokens["data"]["cap"], &tokens["data"]["posted"]), (&300.into(), &150.into()));
    assert_eq!(tokens["data"]["window"], "2026-11-18");
}

#[test]
fn fifty_settles_at_once_tell_each_threshold_once() {
    let world = watched(cap_of(50));
    let tickets: Vec<_> = (0..50).map(|_| world.admit().unwrap()).collect();
    let barrier = Barrier::new(50);
    std::thread::scope(|scope| {
        for ticket in tickets {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                ticket.settle(end(Outcome::Complete, usage(100, 50)))
            });
        }
    });
    assert_eq!(percents(&world), [50, 80, 100]);
    assert_eq!(webhooks_and_audit(&world).0.len(), 3);
}

#[test]
fn a_restart_tells_nothing_twice() {
    let world = watched(cap_of(10));
    (0..8).for_each(|_| spend(&world));
    assert_eq!(percents(&world), [50, 80]);
    let world = world.reopen();
    watch(&world);
    spend(&world);
    assert_eq!(percents(&world), [50, 80]);
    assert_eq!(webhooks_and_audit(&world).0.len(), 2);
    spend(&world);
    assert_eq!(percents(&world), [50, 80, 100]);
}

/// The row was durable and its alert was not: the next look at the window tells, also when nothing can be admitted any more.
#[test]
fn what_a_crash_took_is_told_after_the_start() {
    let world = World::new(cap_of(4)); // watches nothing: as if every alert had been lost
    (0..4).for_each(|_| spend(&world));
    assert_eq!(percents(&world), [0_i64; 0]);
    let world = world.reopen();
    watch(&world);
    assert!(world.admit().is_err(), "spent");
    assert_eq!(percents(&world), [50, 80, 100]);
}

#[test]
fn the_next_window_tells_again_and_a_clock_set_back_does_not() {
    let quota = Quota { usd_per_day: Some(RESERVED), ..Quota::default() };
    let world = watched(quota);
    spend(&world);
    assert_eq!(told(&world).len(), 3);
    world.clock.set(at("2026-11-19T12:00:00Z"));
    spend(&world);
    assert_eq!(told(&world).len(), 6, "another day");
    world.clock.set(at(NOON));
    assert!(world.admit().is_err(), "the newest window goes on");
    assert_eq!(told(&world).len(), 6);
    let world = world.reopen();
    watch(&world);
    assert!(world.admit().is_err());
    assert_eq!(told(&world).len(), 6);
}

#[test]
fn a_cap_lowered_below_what_is_posted_tells_with_the_next_request() {
    let mut world = watched(cap_of(10));
    (0..3).for_each(|_| spend(&world));
    assert_eq!(told(&world), []);
    world.set_quota(|quota| quota.usd_per_month = Some(NanoUsd(RESERVED.0 * 2)));
    assert!(world.admit().is_err());
    assert_eq!(percents(&world), [50, 80, 100]);
    world.set_quota(|quota| quota.usd_per_month = Some(NanoUsd(RESERVED.0 * 100)));
    (0..50).for_each(|_| spend(&world));
    assert_eq!(percents(&world), [50, 80, 100], "once for its window, whatever becomes of the cap");
}

#[test]
fn what_is_held_after_a_crash_counts() {
    let world = watched(cap_of(2));
    let ticket = world.admit().unwrap();
    let after = world.revive(world.killed_now());
    let _settled = ticket.settle(end(Outcome::Void, usage(0, 0)));
    watch(&after);
    let _settled = after.admit().unwrap().settle(end(Outcome::Void, usage(0, 0)));
    assert_eq!(percents(&after), [50]);
    let (webhooks, _) = webhooks_and_audit(&after);
    assert_ne!(webhooks[0]["data"]["held"], "0.000000000");
}

#[test]
fn an_unlimited_or_closed_budget_tells_nothing() {
    let world = watched(Quota { tokens_per_day: Some(0), ..Quota::default() });
    assert!(world.admit().is_err());
    assert_eq!(told(&world), []);
}

#[test]
fn a_window_that_is_over_still_tells_what_a_late_end_brings_it_to() {
    let world = watched(Quota { usd_per_day: Some(RESERVED), ..Quota::default() });
    let late = world.admit().unwrap();
    world.clock.set(at("2026-11-19T00:00:01Z"));
    let _settled = world.admit().unwrap().settle(end(Outcome::Void, usage(0, 0)));
    assert_eq!(told(&world), []);
    let settled = late.settle(end(Outcome::Complete, usage(100, 25)));
    assert_eq!(settled.cost.0 * 4, RESERVED.0 * 3);
    let told = told(&world);
    assert_eq!(told.len(), 1, "75 % of yesterday: {told:?}");
    assert_eq!(told[0].2, 50);
    let (webhooks, _) = webhooks_and_audit(&world);
    assert_eq!(
        (&webhooks[0]["data"]["window"], &webhooks[0]["data"]["posted"]),
        (&"2026-11-18".into(), &"0.000150000".into())
    );
}
