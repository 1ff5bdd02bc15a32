//! Batches: held from admission to their end, over deaths and midnights, and billed once.

use crate::ledger::tests::world::{World, at, price, usage};
use crate::{
    Batch, BatchBound, BatchEnd, BatchTally, Bound, Demand, HoldAction, NanoUsd, NewBatch, NewResolution, Quota,
    Refused, ServiceTier, Ticket,
};

/// What [`admit`] reserves: three lines of 100 prompt tokens and 50 answer tokens.
const RESERVED: NanoUsd = NanoUsd(600_000);

fn capped(nanos: i64) -> Quota {
    Quota { usd_per_day: Some(NanoUsd(nanos)), tokens_per_minute: Some(10), ..Quota::default() }
}

fn admit(world: &World) -> Result<Ticket, Refused> {
    let mut bound = BatchBound::default();
    (0..3).for_each(|_| bound.add(&price(), Bound::tokens(100, 50)));
    let demand =
        Demand { service_tier: ServiceTier::Batch, bound: Bound::default(), prompt_estimate: 0, ..world.demand() };
    world.store.admit_batch(&demand, &bound)
}

fn new(sent_file: &str) -> NewBatch {
    let (upstream, input_file) = ("openai".to_owned(), "file-own".to_owned());
    NewBatch { upstream, own_key: false, input_file, sent_file: sent_file.to_owned() }
}

fn held(world: &World) -> Batch {
    let ticket = admit(world).unwrap();
    let batch = wait(world.store.hold_batch(ticket, new("file-sent"))).unwrap();
    wait(world.store.batch_created(&batch, "batch_1", "{}".to_owned())).unwrap();
    world.store.running_batches().unwrap().pop().unwrap()
}

fn ran(lines: u32) -> BatchEnd {
    let mut tally = BatchTally::default();
    (0..lines).for_each(|_| assert!(tally.add(&price(), &usage(10, 5))));
    BatchEnd { tally, complete: true, body: Some("over".to_owned()), ..BatchEnd::default() }
}

fn wait<F: IntoFuture>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async { future.await })
}

/// Posted, pending and held of the day, and posted tokens.
fn day(world: &World) -> (i64, i64, i64, u64) {
    let day = world.status().usd_per_day;
    (day.posted.0, day.pending.0, day.held.0, world.status().tokens_per_day.posted)
}

#[test]
fn a_batch_is_pending_then_held_then_billed_and_no_rate_counts_its_tokens() {
    let world = World::new(capped(1_000_000));
    let ticket = admit(&world).unwrap();
    assert_eq!(day(&world), (0, RESERVED.0, 0, 0));
    assert!(matches!(admit(&world), Err(Refused::Budget { .. })), "all of it or nothing");
    let batch = wait(world.store.hold_batch(ticket, new("file-sent"))).unwrap();
    assert_eq!(day(&world), (0, 0, RESERVED.0, 0));
    assert_eq!(world.status().concurrent_requests.in_use, 0);
    assert!(matches!(admit(&world), Err(Refused::Budget { .. })), "a hold counts against the cap");
    assert!(wait(world.store.end_batch(&batch, ran(3))).unwrap());
    assert_eq!(day(&world), (60_000, 0, 0, 45));
    assert_eq!(world.status().tokens_per_minute.remaining, Some(10));
    assert!(!wait(world.store.end_batch(&batch, ran(3))).unwrap(), "it ends once");
    assert_eq!(world.books().total(), (NanoUsd(60_000), NanoUsd(0)));
    assert_eq!(world.store.reconcile(None).unwrap().difference_count, 0);
}

///
#[test]
fn whenever_the_process_dies_a_batch_is_held_or_nobody_was_asked_and_it_is_billed_once() {
    let world = World::new(capped(1_000_000));
    let ticket = admit(&world).unwrap();
    let before = world.revive(world.killed_now());
    assert_eq!(day(&before), (0, 0, 0, 0), "nobody was asked for it");
    let batch = wait(world.store.hold_batch(ticket, new("file-sent"))).unwrap();
    let asked = world.revive(world.killed_now());
    assert_eq!(day(&asked), (0, 0, RESERVED.0, 0));
    assert_eq!(asked.store.running_batches().unwrap()[0].id, None);
    wait(world.store.batch_created(&batch, "batch_1", "{}".to_owned())).unwrap();
    let created = world.revive(world.killed_now());
    let running = created.store.running_batches().unwrap().pop().unwrap();
    assert_eq!(running.id.as_deref(), Some("batch_1"));
    assert!(wait(created.store.end_batch(&running, ran(2))).unwrap());
    let billed = created.revive(created.killed_now());
    assert_eq!(day(&billed), (40_000, 0, 0, 30));
    assert!(!wait(billed.store.end_batch(&running, ran(2))).unwrap());
    assert!(billed.store.running_batches().unwrap().is_empty());
    assert_eq!(billed.books().total(), (NanoUsd(40_000), NanoUsd(0)));
}

///
#[test]
fn a_batch_that_crosses_midnight_is_billed_to_the_day_that_admitted_it() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    world.clock.set(at("2026-11-19T11:00:00Z"));
    assert_eq!(day(&world), (0, 0, 0, 0), "the next day's budget is its own");
    assert!(admit(&world).is_ok_and(|ticket| {
        drop(ticket);
        true
    }));
    assert!(wait(world.store.end_batch(&batch, ran(3))).unwrap());
    assert_eq!(day(&world), (0, 0, 0, 0));
    assert_eq!(world.status().usd_per_month.posted, NanoUsd(60_000));
    assert_eq!(world.status().usd_per_month.held, NanoUsd(0));
    let world = world.reopen();
    assert_eq!(world.status().usd_per_month.posted, NanoUsd(60_000));
    assert_eq!(world.store.reconcile(None).unwrap().difference_count, 0);
}

#[test]
fn what_cannot_be_counted_stays_held() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    assert!(wait(world.store.end_batch(&batch, BatchEnd { uncertain: true, ..ran(1) })).unwrap());
    assert_eq!(day(&world), (20_000, 0, RESERVED.0 - 20_000, 15));
    assert_eq!(world.store.holds(None, None, 10).unwrap().len(), 1);
}

#[test]
fn a_batch_that_came_to_nothing_gives_everything_back() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    assert!(wait(world.store.end_batch(&batch, BatchEnd::default())).unwrap());
    assert_eq!(day(&world), (0, 0, 0, 0));
    let dropped = admit(&world).unwrap();
    drop(dropped);
    assert_eq!(day(&world), (0, 0, 0, 0), "nobody was asked for it");
    assert_eq!(world.books().total(), (NanoUsd(0), NanoUsd(0)));
}

#[test]
fn the_operators_word_over_a_hold_is_the_last() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    let resolution = NewResolution { action: HoldAction::Post, reason: "the provider's bill".to_owned() };
    let tenant = batch.tenant.clone();
    let actor = crate::scene::operator();
    wait(world.store.resolve_hold(&actor, (&tenant, batch.reservation.id), resolution)).unwrap();
    assert_eq!(day(&world).0, RESERVED.0);
    let resolved = world.store.running_batches().unwrap().pop().unwrap();
    assert!(resolved.resolved);
    assert!(wait(world.store.end_batch(&resolved, ran(3))).unwrap());
    assert_eq!((day(&world).0, day(&world).2), (RESERVED.0, 0), "it is billed once");
}

///
#[test]
fn of_many_that_end_a_batch_at_once_one_bills_it() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    let end = || wait(world.store.end_batch(&batch, ran(3))).unwrap();
    let ended = std::thread::scope(|scope| {
        let ends: Vec<_> = (0..8).map(|_| scope.spawn(end)).collect();
        ends.into_iter().filter_map(|end| end.join().ok()).filter(|ended| *ended).count()
    });
    assert_eq!(ended, 1);
    assert_eq!(world.books().total(), (NanoUsd(60_000), NanoUsd(0)));
}

#[test]
fn a_month_with_a_batch_that_runs_is_not_archived() {
    let world = World::new(capped(1_000_000));
    let batch = held(&world);
    world.clock.set(at("2027-01-15T12:00:00Z"));
    let (actor, november) = (crate::scene::operator(), crate::Month(batch.reservation.month));
    assert!(matches!(world.store.archive(&actor, november), Err(crate::StoreError::Conflict(_))));
    assert!(wait(world.store.end_batch(&batch, ran(3))).unwrap());
    assert_eq!(world.store.archive(&actor, november).unwrap().unwrap().cost_usd, NanoUsd(60_000));
}
