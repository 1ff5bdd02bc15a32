//! Credits and the ends of holds: the books and the budget in memory agree, whatever happens beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::world::{RESERVED, World, at, cap_of, end, usage};
use crate::audit::{Actor, ActorKind};
use crate::error::StoreError;
use crate::id::{RequestId, ReservationId, TenantId};
use crate::ledger::{HoldAction, NewCredit, NewResolution, Outcome, RequestQuery, RequestRow};
use crate::money::NanoUsd;
use crate::quota::Quota;
use crate::store::Store;

const REASON: &str = "the provider was down";

fn operator() -> Actor {
    let request_id = Some(RequestId(0xabc).to_string());
    Actor { kind: ActorKind::Operator, id: "test".to_owned(), ip: None, request_id }
}

fn tenant() -> TenantId {
    "t1".parse().unwrap()
}

fn credit(store: &Store, nanos: i64) -> crate::Result<crate::Credit> {
    let new = NewCredit { amount_usd: NanoUsd(nanos), reason: REASON.to_owned() };
    store.credit(&operator(), &tenant(), new).wait()
}

fn resolve(store: &Store, event: ReservationId, action: HoldAction) -> crate::Result<crate::Resolution> {
    let new = NewResolution { action, reason: REASON.to_owned() };
    store.resolve_hold(&operator(), (&tenant(), event), new).wait()
}

fn requests(world: &World) -> Vec<RequestRow> {
    let mut rows = Vec::new();
    let each = &mut |row| {
        rows.push(row);
        Ok(())
    };
    world.store.requests(&RequestQuery::of(tenant()), each).unwrap();
    rows
}

/// What the budget in memory says is what the disk says.
fn agree(world: &World) {
    let reconciled = world.store.reconcile(None).unwrap();
    assert_eq!((reconciled.difference_count, reconciled.moving), (0, 0), "{:?}", reconciled.differences);
    let books = world.books();
    let (day, month) = (world.status().usd_per_day, world.status().usd_per_month);
    let (posted, held) = books.total();
    assert_eq!((month.posted, month.held, month.pending), (posted, held, NanoUsd::ZERO));
    assert_eq!((day.posted, day.held), (posted, held), "all of it is of today");
}

#[test]
fn a_credit_gives_the_budget_back_at_once_and_after_a_restart() {
    let world = World::new(cap_of(1));
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    assert!(world.admit().is_err(), "all is spent");
    let given = credit(&world.store, RESERVED.0).unwrap();
    assert_eq!((given.day.as_str(), given.month.as_str()), ("2026-11-18", "2026-11"));
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    agree(&world);
    let log = requests(&world);
    let row = log.iter().find(|row| row.outcome == "credit").unwrap();
    assert_eq!(
        (row.id, row.model.as_str(), row.cost_usd, row.reason.as_deref()),
        (given.id, "credit", NanoUsd(-RESERVED.0), Some(REASON))
    );
    assert_eq!(row.request_id, RequestId(0xabc).to_string(), "the call that gave it");
    let world = world.reopen();
    agree(&world);
    assert!(world.admit().is_err(), "nothing is given twice");
}

#[test]
fn a_credit_is_positive_and_has_a_reason_in_one_line() {
    let world = World::new(Quota::default());
    let of = |nanos, reason: &str| {
        let new = NewCredit { amount_usd: NanoUsd(nanos), reason: reason.to_owned() };
        world.store.credit(&operator(), &tenant(), new).wait()
    };
    for (nanos, reason) in [(0, "x"), (-1, "x"), (1, ""), (1, "  "), (1, "a\nb"), (1, "x".repeat(501).as_str())] {
        assert!(matches!(of(nanos, reason), Err(StoreError::Invalid { .. })), "{nanos} {reason:?}");
    }
    assert!(of(1, &"é".repeat(500)).is_ok());
    let nobody = NewCredit { amount_usd: NanoUsd(1), reason: "x".to_owned() };
    let refused = world.store.credit(&operator(), &"nobody".parse().unwrap(), nobody).wait();
    assert!(matches!(refused, Err(StoreError::NotFound("tenant"))));
    assert_eq!(world.books().rows.len(), 1);
}

#[test]
fn a_credit_posts_into_the_window_that_a_request_would_under_a_clock_that_went_back() {
    let world = World::new(Quota::default());
    world.admit().unwrap().settle(end(Outcome::Complete, usage(1, 1)));
    world.clock.set(at("2026-11-16T12:00:00Z"));
    assert_eq!(credit(&world.store, 5).unwrap().day, "2026-11-18");
    agree(&world);
    world.clock.set(at("2026-12-01T00:00:00Z"));
    assert_eq!(credit(&world.store, 5).unwrap().month, "2026-12");
    assert_eq!(world.status().usd_per_month.posted, NanoUsd(-5), "the new month knows its own alone");
}

#[test]
fn credits_race_with_admissions_and_settlements_and_the_books_agree() {
    let world = World::new(cap_of(40));
    let given = AtomicI64::new(0);
    std::thread::scope(|scope| {
        let (world, given) = (&world, &given);
        for _ in 0..4 {
            scope.spawn(move || {
                for n in 0..60 {
                    if let Ok(ticket) = world.admit() {
                        ticket.settle(end(Outcome::Complete, usage(100, n % 50)));
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(move || {
                for n in 1..=20 {
                    credit(&world.store, n * 1_000).unwrap();
                    given.fetch_add(n * 1_000, Ordering::Relaxed);
                }
            });
        }
    });
    agree(&world);
    let credits: i64 = requests(&world).iter().filter(|row| row.outcome == "credit").map(|row| row.cost_usd.0).sum();
    assert_eq!(-credits, given.load(Ordering::Relaxed));
    assert!(world.status().usd_per_month.posted <= cap_of(40).usd_per_month.unwrap());
}

/// A world whose process died with two attempts in flight, one of which had relayed something.
fn died() -> World {
    let world = World::new(cap_of(2));
    let (relayed, silent) = (world.admit().unwrap(), world.admit().unwrap());
    relayed.progress(&usage(40, 10));
    let revived = world.revive(world.killed_now());
    drop((relayed, silent));
    revived
}

#[test]
fn a_released_hold_is_given_back_and_a_posted_one_is_billed() {
    let world = died();
    assert!(world.admit().is_err(), "what is held counts");
    let holds = world.store.holds(Some(&tenant()), None, 10).unwrap();
    assert_eq!(holds.len(), 2);
    let held: NanoUsd = holds.iter().map(|hold| hold.held_usd).sum();
    assert_eq!((held, world.status().usd_per_month.held), (world.books().total().1, held));

    let (first, second) = (&holds[0], &holds[1]);
    let released = resolve(&world.store, first.id, HoldAction::Release).unwrap();
    assert_eq!((released.released_usd, released.posted_usd, released.posted_as), (first.held_usd, NanoUsd::ZERO, None));
    agree(&world);
    let before = world.status().usd_per_month.posted;
    let posted = resolve(&world.store, second.id, HoldAction::Post).unwrap();
    assert_eq!(posted.posted_usd, second.held_usd);
    assert_eq!(world.status().usd_per_month.posted.0 - before.0, second.held_usd.0);
    assert_eq!((world.status().usd_per_month.held, world.status().tokens_per_day.held), (NanoUsd::ZERO, 0));
    agree(&world);
    let row = requests(&world).into_iter().find(|row| Some(row.id) == posted.posted_as).unwrap();
    assert_eq!(
        (row.outcome.as_str(), row.cost_usd, row.request_id),
        ("resolved", second.held_usd, second.request_id.to_string())
    );
    assert!(world.store.holds(Some(&tenant()), None, 10).unwrap().is_empty());
    let world = world.reopen();
    agree(&world);
}

#[test]
fn a_hold_ends_once_however_many_try() {
    let world = died();
    let event = world.store.holds(Some(&tenant()), None, 1).unwrap()[0].id;
    let store = Arc::new(world.store.clone());
    let ends: Vec<_> = std::thread::scope(|scope| {
        let tries: Vec<_> = [HoldAction::Release, HoldAction::Post, HoldAction::Release, HoldAction::Post]
            .into_iter()
            .map(|action| {
                scope.spawn({
                    let store = Arc::clone(&store);
                    move || resolve(&store, event, action)
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(ends.iter().filter(|end| end.is_ok()).count(), 1);
    assert!(ends.iter().filter_map(|end| end.as_ref().err()).all(|err| matches!(err, StoreError::Conflict(_))));
    agree(&world);
    let nothing = credit(&world.store, 5).unwrap().id;
    assert!(matches!(resolve(&world.store, nothing, HoldAction::Release), Err(StoreError::NotFound("held event"))));
}

#[test]
fn a_hold_of_a_past_month_is_posted_into_this_one() {
    let world = died();
    world.clock.set(at("2026-12-02T12:00:00Z"));
    assert_eq!(world.status().usd_per_month.held, NanoUsd::ZERO, "the month that held it is over");
    let hold = world.store.holds(Some(&tenant()), None, 1).unwrap().remove(0);
    assert_eq!(hold.month, "2026-11");
    resolve(&world.store, hold.id, HoldAction::Post).unwrap();
    let month = world.status().usd_per_month;
    assert_eq!((month.posted, month.held), (hold.held_usd, NanoUsd::ZERO));
    world.books();
}

#[test]
fn holds_are_found_by_their_own_index() {
    let world = died();
    assert_eq!(world.store.holds(None, None, 10).unwrap(), world.store.holds(Some(&tenant()), None, 10).unwrap());
    let conn = rusqlite::Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    let mut statement =
        conn.prepare(&format!("EXPLAIN QUERY PLAN {}", crate::ledger::hold::list(Some(&tenant())))).unwrap();
    let steps = statement.query_map(rusqlite::params![1, 0, 10], |row| row.get(3)).unwrap();
    let plan: Vec<String> = steps.map(Result::unwrap).collect();
    assert!(plan.iter().any(|step| step.contains("ledger_held (tenant=? AND rowid>?)")), "{plan:?}");
    assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "{plan:?}");
}
