//! A reconciliation finds every place where the books could differ, and nothing where they agree.

use rusqlite::Connection;
use serde_json::json;

use super::world::{RESERVED, World, end, usage};
use crate::ledger::Outcome;
use crate::quota::Quota;

fn sql(world: &World, statement: &str) {
    let conn = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(conn.execute(statement, []).unwrap(), 1, "{statement}");
}

/// What differs: tenant, period, sum, and what each place says.
fn differences(world: &World) -> serde_json::Value {
    let found = world.store.reconcile(None).unwrap();
    assert_eq!(found.difference_count, found.differences.len() as u64);
    json!(found.differences)
}

#[test]
fn books_that_agree_have_no_difference_with_requests_in_flight_too() {
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(10, 5)));
    let open = world.admit().unwrap();
    let found = world.store.reconcile(None).unwrap();
    assert_eq!((found.tenants, found.windows, found.budgets, found.moving), (1, 2, 1, 0));
    assert_eq!(found.differences, []);
    assert_eq!(world.status().usd_per_day.pending, RESERVED);
    open.settle(end(Outcome::Void, usage(0, 0)));
    let world = world.reopen();
    assert_eq!(differences(&world), json!([]));
    assert!(matches!(
        world.store.reconcile(Some(&"nobody".parse().unwrap())),
        Err(crate::StoreError::NotFound("tenant"))
    ));
    assert_eq!(world.store.reconcile(Some(&"t1".parse().unwrap())).unwrap().windows, 2);
}

#[test]
fn a_sum_that_was_changed_behind_the_gateways_back_is_found() {
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(10, 5)));
    world.flush();
    sql(&world, "UPDATE windows SET posted_nanos = posted_nanos + 1 WHERE kind = 'month'");
    let (cost, wrong) = ("0.000020000", "0.000020001");
    assert_eq!(
        differences(&world),
        json!([
            {"tenant": "t1", "period": "2026-11", "what": "cost_usd", "ledger": cost, "windows": wrong, "usage_days": cost},
            {"tenant": "t1", "period": "2026-11", "what": "posted_usd", "memory": cost, "windows": wrong},
        ])
    );
    sql(&world, "UPDATE windows SET posted_nanos = posted_nanos - 1 WHERE kind = 'month'");
    sql(&world, "UPDATE usage_days SET output_tokens = output_tokens + 1");
    assert_eq!(
        differences(&world),
        json!([
            {"tenant": "t1", "period": "2026-11-18", "what": "tokens", "ledger": 15, "windows": 15, "usage_days": 16},
            {"tenant": "t1", "period": "2026-11", "what": "tokens", "ledger": 15, "windows": 15, "usage_days": 16},
        ])
    );
}

#[test]
fn a_row_that_its_tenant_does_not_find_is_missed() {
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(10, 5)));
    world.flush();
    sql(&world, "DELETE FROM ledger_by_tenant");
    let (cost, found) = ("0.000020000", differences(&world));
    assert_eq!(
        found[0],
        json!({"tenant": "t1", "period": "2026-11-18", "what": "cost_usd", "ledger": "0.000000000", "windows": cost, "usage_days": cost})
    );
    assert_eq!(found.as_array().unwrap().len(), 4, "{found}");
    sql(&world, "INSERT INTO ledger_by_tenant SELECT tenant, admitted_at_ms, id FROM ledger");
    assert_eq!(differences(&world), json!([]));
}

#[test]
fn a_reservation_that_nothing_in_flight_stands_behind_is_found() {
    let world = World::new(Quota::default());
    let open = world.admit().unwrap();
    let ledger = &world.store.inner.ledger;
    ledger.table.free(vec![open.inner.as_ref().unwrap().slot]);
    let found = differences(&world);
    assert_eq!(found.as_array().unwrap().len(), 4, "{found}");
    assert_eq!(
        found[0],
        json!({"tenant": "t1", "period": "2026-11-18", "what": "pending_usd", "memory": RESERVED, "in_flight": "0.000000000"})
    );
    std::mem::forget(open);
}

#[test]
fn an_archived_month_is_compared_with_what_its_archive_says() {
    let month: i32 = (2026 - 1970) * 12 + 10;
    let last = i64::MAX;
    let archive = |cost| format!("INSERT INTO archives VALUES ({month}, 1, {last}, 'f', 's', 1, {cost}, 0)");
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(10, 5)));
    world.flush();
    sql(&world, &archive(20_000));
    sql(&world, "DELETE FROM ledger");
    assert_eq!(differences(&world), json!([]));
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(10, 5)));
    world.flush();
    sql(&world, &archive(1));
    assert_eq!(
        differences(&world),
        json!([{"period": "2026-11", "what": "cost_usd", "archive": "0.000000001", "usage_days": "0.000020000"}])
    );
}
