//! Seconds of the sandbox are reserved before a run, given back after it, and remembered.

use std::sync::Arc;

use super::world::{World, end};
use crate::ledger::refused::BudgetKind;
use crate::ledger::{Outcome, Refused, SANDBOX};
use crate::quota::Quota;
use crate::usage::Usage;
use crate::{Bound, Demand, ModelPrice, Ticket};

fn run(world: &World, seconds: u32) -> Result<Ticket, Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let name = runtime.block_on(world.store.name_key(SANDBOX)).unwrap();
    let (price, bound) = (Arc::new(ModelPrice::default()), Bound::default());
    world.store.admit_sandbox(&Demand { model: name, upstream: name, price: &price, bound, ..world.demand() }, seconds)
}

fn ran(seconds: u32) -> Usage {
    Usage { input_ms: seconds * 1000, ..Usage::default() }
}

fn used(world: &World) -> (u64, u64) {
    let seconds = world.status().sandbox_seconds_per_day;
    (seconds.posted, seconds.pending)
}

fn agrees(world: &World) {
    assert_eq!(world.store.reconcile(None).unwrap().differences, []);
}

#[test]
fn seconds_are_reserved_given_back_and_known_after_a_start() {
    let world = World::new(Quota { sandbox_seconds_per_day: Some(100), ..Quota::default() });
    let ticket = run(&world, 60).unwrap();
    assert_eq!(used(&world), (0, 60));
    let refused = run(&world, 41).unwrap_err();
    assert!(matches!(refused, Refused::Budget { kind: BudgetKind::SandboxSecondsPerDay, .. }), "{refused:?}");
    agrees(&world);
    ticket.settle(end(Outcome::Complete, ran(7)));
    drop(run(&world, 93).unwrap());
    assert_eq!(used(&world), (100, 0), "a run whose end nobody told is counted whole");
    world.flush();
    agrees(&world);
    let world = world.reopen();
    assert!(run(&world, 1).is_err());
    assert_eq!(used(&world), (100, 0));
    agrees(&world);
    world.admit().unwrap().settle(end(Outcome::Complete, ran(5)));
    assert_eq!(used(&world).0, 100, "milliseconds of a model's audio are no seconds of the sandbox");
}

#[test]
fn a_sum_of_seconds_that_was_changed_is_found() {
    let world = World::new(Quota::default());
    run(&world, 60).unwrap().settle(end(Outcome::Complete, ran(7)));
    world.flush();
    let conn = rusqlite::Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    conn.execute("UPDATE windows SET posted_sandbox_seconds = 8 WHERE kind = 'day'", []).unwrap();
    let differences = world.store.reconcile(None).unwrap().differences;
    let what: Vec<&str> = differences.iter().map(|difference| difference.what).collect();
    assert_eq!(what, ["sandbox_seconds", "sandbox_seconds"], "in the window, and in memory: {differences:?}");
}
