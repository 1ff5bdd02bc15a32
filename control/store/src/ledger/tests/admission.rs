//! Caps, rates, windows and zones at admission.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::world::{BOUND, NOON, RESERVED, RESERVED_TOKENS, World, at, cap_of, end, usage};
use crate::{Bound, BudgetKind, NanoUsd, Outcome, Quota, RateKind, Refused, ServiceTier, Windows, Zone};

#[test]
fn q_01_of_200_at_once_exactly_the_10_that_fit_are_admitted() {
    let world = World::new(cap_of(10));
    let cap = NanoUsd(RESERVED.0 * 10);
    let (admitted, refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let (start, all_tried) = (Barrier::new(200), Barrier::new(200));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0_u64;
            while !done.load(Ordering::Acquire) || looks == 0 {
                let month = world.status().usd_per_month;
                let used = month.posted.0 + month.pending.0 + month.held.0;
                assert!(used <= cap.0, "{used}");
                looks += 1;
            }
        });
        let tries: Vec<_> = (0..200)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let result = world.admit();
                    // Nobody settles before everybody has tried: what a settlement gives back would be admitted anew.
                    all_tried.wait();
                    match result {
                        Ok(ticket) => {
                            admitted.fetch_add(1, Ordering::Relaxed);
                            let settled = ticket.settle(end(Outcome::Complete, usage(100, 50)));
                            assert_eq!(settled.cost, RESERVED);
                        }
                        Err(Refused::Budget { kind: BudgetKind::UsdPerMonth, .. }) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        tries.into_iter().for_each(|one| one.join().unwrap());
        done.store(true, Ordering::Release);
        watcher.join().unwrap();
    });
    assert_eq!((admitted.into_inner(), refused.into_inner()), (10, 190));
    let books = world.books();
    assert_eq!(books.rows.len(), 10);
    assert_eq!(books.total(), (cap, NanoUsd::ZERO));
    assert!(matches!(world.admit(), Err(Refused::Budget { .. })));
}

#[test]
fn a_demand_refused_by_any_bucket_takes_nothing_from_any() {
    let roomy = Quota {
        usd_per_day: Some(NanoUsd(RESERVED.0 * 100)),
        usd_per_month: Some(NanoUsd(RESERVED.0 * 100)),
        tokens_per_day: Some(RESERVED_TOKENS * 100),
        requests_per_minute: Some(100),
        tokens_per_minute: Some(RESERVED_TOKENS * 100),
        concurrent_requests: Some(100),
        ..Quota::default()
    };
    let tight = NanoUsd(RESERVED.0 - 1);
    let is_budget =
        |kind| move |refused: &Refused| matches!(refused, Refused::Budget { kind: found, .. } if *found == kind);
    let is_rate =
        |kind| move |refused: &Refused| matches!(refused, Refused::Rate { kind: found, .. } if *found == kind);
    type Case = (Quota, Box<dyn Fn(&Refused) -> bool>);
    let cases: [Case; 6] = [
        (Quota { usd_per_day: Some(tight), ..roomy }, Box::new(is_budget(BudgetKind::UsdPerDay))),
        (Quota { usd_per_month: Some(tight), ..roomy }, Box::new(is_budget(BudgetKind::UsdPerMonth))),
        (Quota { tokens_per_day: Some(RESERVED_TOKENS - 1), ..roomy }, Box::new(is_budget(BudgetKind::TokensPerDay))),
        (Quota { requests_per_minute: Some(0), ..roomy }, Box::new(is_rate(RateKind::Requests))),
        (Quota { tokens_per_minute: Some(RESERVED_TOKENS - 1), ..roomy }, Box::new(is_rate(RateKind::Tokens))),
        (
            Quota { concurrent_requests: Some(0), ..roomy },
            Box::new(|refused| *refused == Refused::Concurrency { limit: 0 }),
        ),
    ];
    for (quota, expected) in cases {
        let world = World::new(quota);
        let before = world.status();
        let refused = world.admit().unwrap_err();
        assert!(expected(&refused), "{refused:?}");
        assert_eq!(world.status(), before, "{refused:?}");
        assert_eq!(world.store.in_flight(), 0);
        assert!(world.books().rows.is_empty(), "a refusal writes nothing");
    }
    // The twin: with room in every bucket the same demand takes from all of them.
    let world = World::new(roomy);
    let ticket = world.admit().unwrap();
    let status = world.status();
    assert_eq!(
        (status.usd_per_day.pending, status.usd_per_month.pending, status.tokens_per_day.pending),
        (RESERVED, RESERVED, RESERVED_TOKENS)
    );
    assert_eq!(
        (status.requests_per_minute.remaining, status.tokens_per_minute.remaining),
        (Some(99), Some(RESERVED_TOKENS * 99))
    );
    assert_eq!(status.concurrent_requests.in_use, 1);
    ticket.settle(end(Outcome::Void, usage(0, 0)));
}

#[test]
fn a_full_in_flight_table_refuses_and_gives_back_what_was_taken() {
    let world = World::new(Quota {
        requests_per_minute: Some(u32::MAX),
        tokens_per_minute: Some(Quota::MAX_COUNT),
        ..Quota::default()
    });
    let tickets: Vec<_> = (0..crate::ledger::inflight::CAPACITY).map(|_| world.admit().unwrap()).collect();
    let before = world.status();
    assert!(matches!(world.admit(), Err(Refused::Unavailable(_))));
    assert_eq!(world.status(), before);
    for ticket in tickets {
        ticket.settle(end(Outcome::Void, usage(0, 0)));
    }
    world.flush();
    assert_eq!(world.store.in_flight(), 0);
    world.admit().unwrap().settle(end(Outcome::Void, usage(0, 0)));
}

#[test]
fn q_10_a_ticket_posts_into_the_windows_that_admitted_it() {
    // The last instant of a month in the zone, and the first of the next.
    let cases = [
        ("UTC", "2026-11-30T23:59:59.999Z"),
        ("Asia/Tokyo", "2026-11-30T14:59:59.999Z"),
        ("America/New_York", "2026-12-01T04:59:59.999Z"),
        ("Asia/Kathmandu", "2026-11-30T18:14:59.999Z"),
    ];
    for (name, last) in cases {
        let mut world = World::new(cap_of(2));
        world.zone = Zone::parse(name).unwrap();
        world.clock.set(at(last));
        let old = Windows::at(at(last), &world.zone);
        let ticket = world.admit().unwrap();
        world.clock.set(at(last).plus_ms(1));
        let new = world.status();
        assert_eq!((new.usd_per_day.pending, new.usd_per_month.pending), (NanoUsd::ZERO, NanoUsd::ZERO), "{name}");
        ticket.settle(end(Outcome::Complete, usage(10, 5)));
        let new = world.status();
        assert_eq!((new.usd_per_day.posted, new.usd_per_month.posted), (NanoUsd::ZERO, NanoUsd::ZERO), "{name}");
        let windows: Vec<_> = world.books().windows.into_iter().collect();
        let sums = (20_000, 0, 15, 0);
        assert_eq!(
            windows,
            [((1, "day".to_owned(), old.day), sums), ((1, "month".to_owned(), old.month), sums)],
            "{name}"
        );
        // The new month has its whole cap.
        let both = [world.admit().unwrap(), world.admit().unwrap()];
        assert!(world.admit().is_err());
        drop(both);
    }
}

#[test]
fn q_10_a_clock_that_goes_back_reopens_no_window() {
    for (back_to, name) in [("2026-11-17T12:00:00Z", "a day"), ("2026-10-18T12:00:00Z", "a month")] {
        let mut world = World::new(cap_of(1));
        world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
        world.clock.set(at(back_to));
        assert!(matches!(world.admit(), Err(Refused::Budget { kind: BudgetKind::UsdPerMonth, .. })), "{name}");
        world.set_quota(|quota| *quota = Quota { usd_per_day: quota.usd_per_month, ..Quota::default() });
        assert!(matches!(world.admit(), Err(Refused::Budget { kind: BudgetKind::UsdPerDay, .. })), "{name}");
        assert_eq!(world.status().usd_per_day.posted, RESERVED);
        world.clock.set(at(NOON));
        assert!(world.admit().is_err(), "{name}");
        // The next day is a new window.
        world.clock.set(at("2026-11-19T00:00:00Z"));
        drop(world.admit().unwrap());
    }
}

#[test]
fn q_10_a_change_of_zone_keeps_the_sums_of_the_same_day_and_reopens_no_earlier_one() {
    let mut world = World::new(Quota { usd_per_day: Some(RESERVED), ..Quota::default() });
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    // 12:00 UTC is the same day in Berlin, and the next in Kiritimati.
    world.zone = Zone::parse("Europe/Berlin").unwrap();
    assert!(world.admit().is_err());
    world.zone = Zone::parse("Pacific/Kiritimati").unwrap();
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    assert!(world.admit().is_err());
    // Back in UTC the day of Kiritimati goes on: yesterday's window does not open again.
    world.zone = Zone::utc();
    assert!(world.admit().is_err());
    world.clock.set(at("2026-11-19T12:00:00Z"));
    assert!(world.admit().is_err(), "the 19th was spent in Kiritimati");
    world.clock.set(at("2026-11-20T00:00:00Z"));
    drop(world.admit().unwrap());
}

#[test]
fn q_11_a_changed_cap_acts_on_the_next_admission_and_tickets_in_flight_settle() {
    let mut world = World::new(cap_of(2));
    let (first, second) = (world.admit().unwrap(), world.admit().unwrap());
    assert!(world.admit().is_err());
    world.set_quota(|quota| quota.usd_per_month = Some(NanoUsd(RESERVED.0 * 3)));
    let third = world.admit().unwrap();
    assert!(world.admit().is_err());
    first.settle(end(Outcome::Complete, usage(100, 50)));
    world.set_quota(|quota| quota.usd_per_month = Some(NanoUsd(RESERVED.0 - 1)));
    let refused = world.admit().unwrap_err();
    let nothing_left =
        matches!(refused, Refused::Budget { kind: BudgetKind::UsdPerMonth, usd_left: Some(NanoUsd::ZERO), .. });
    assert!(nothing_left, "{refused:?}");
    assert_eq!(second.settle(end(Outcome::Complete, usage(100, 50))).cost, RESERVED);
    assert_eq!(third.settle(end(Outcome::Partial, usage(100, 0))).cost, NanoUsd(100_000));
    assert_eq!(world.status().usd_per_month.pending, NanoUsd::ZERO);
    assert_eq!(world.books().total().0, NanoUsd(500_000));
}

#[test]
fn a_cap_of_zero_refuses_what_costs_and_a_huge_cap_refuses_nothing() {
    let mut world = World::new(Quota { usd_per_day: Some(NanoUsd::ZERO), ..Quota::default() });
    assert!(matches!(
        world.admit(),
        Err(Refused::Budget { kind: BudgetKind::UsdPerDay, usd_left: Some(NanoUsd::ZERO), .. })
    ));
    world.set_quota(|quota| *quota = Quota { tokens_per_day: Some(0), ..Quota::default() });
    assert!(matches!(world.admit(), Err(Refused::Budget { kind: BudgetKind::TokensPerDay, tokens_left: Some(0), .. })));
    world.set_quota(|quota| {
        *quota = Quota {
            usd_per_day: Some(NanoUsd(i64::MAX)),
            usd_per_month: Some(NanoUsd(i64::MAX)),
            tokens_per_day: Some(Quota::MAX_COUNT),
            requests_per_minute: Some(u32::MAX),
            tokens_per_minute: Some(Quota::MAX_COUNT),
            concurrent_requests: Some(u32::MAX),
            ..Quota::default()
        }
    });
    let ticket = world.admit().unwrap();
    let status = world.status();
    assert_eq!(status.tokens_per_minute.remaining, Some(Quota::MAX_COUNT - RESERVED_TOKENS));
    assert_eq!(status.usd_per_day.remaining, Some(NanoUsd(i64::MAX - RESERVED.0)));
    ticket.settle(end(Outcome::Complete, usage(100, 50)));
}

#[test]
fn a_price_past_all_bounds_is_refused_before_the_sums_overflow() {
    let mut world = World::new(Quota::default());
    world.price = std::sync::Arc::new(crate::ModelPrice::flat(NanoUsd(i64::MAX), NanoUsd(i64::MAX)));
    let huge = |world: &World| {
        world.store.admit(&crate::Demand {
            bound: Bound { input_tokens: u32::MAX, output_tokens: u32::MAX, ..Bound::default() },
            ..world.demand()
        })
    };
    let first = huge(&world).unwrap();
    assert!(huge(&world).is_err(), "two of them can't be counted");
    first.settle(end(Outcome::Void, usage(0, 0)));
    assert_eq!(world.status().usd_per_month.pending, NanoUsd::ZERO);
    huge(&world).unwrap().settle(end(Outcome::Void, usage(0, 0)));
}

#[test]
fn a_rate_limit_that_was_removed_comes_back_full() {
    let mut world = World::new(Quota {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(RESERVED_TOKENS),
        ..Quota::default()
    });
    let held = world.admit().unwrap();
    assert_eq!(
        world.admit().unwrap_err(),
        Refused::Rate { kind: RateKind::Requests, limit: 1, retry_after_ms: Some(60_000) }
    );
    world.set_quota(|quota| *quota = Quota::default());
    for _ in 0..100 {
        world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    }
    world.set_quota(|quota| {
        *quota = Quota { requests_per_minute: Some(1), tokens_per_minute: Some(RESERVED_TOKENS), ..Quota::default() }
    });
    held.settle(end(Outcome::Void, usage(0, 0)));
    assert_eq!(world.status().tokens_per_minute.remaining, Some(RESERVED_TOKENS), "never more than full");
    drop(world.admit().unwrap());
    assert!(matches!(world.admit(), Err(Refused::Rate { kind: RateKind::Requests, .. })));
}

#[test]
fn a_lowered_rate_acts_at_once_and_what_is_put_back_later_does_not_raise_it() {
    let mut world = World::new(Quota { tokens_per_minute: Some(RESERVED_TOKENS * 10), ..Quota::default() });
    let ticket = world.admit().unwrap();
    world.set_quota(|quota| quota.tokens_per_minute = Some(RESERVED_TOKENS));
    ticket.settle(end(Outcome::Void, usage(0, 0)));
    let one = world.admit().unwrap();
    assert!(matches!(world.admit(), Err(Refused::Rate { kind: RateKind::Tokens, .. })));
    drop(one);
}

#[test]
fn unused_tokens_return_to_the_rate_and_a_retry_is_not_a_request() {
    let world = World::new(Quota {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(RESERVED_TOKENS),
        ..Quota::default()
    });
    world.admit().unwrap().settle(end(Outcome::Void, usage(0, 0)));
    let retry = world.store.admit(&crate::Demand { attempt: 1, ..world.demand() }).unwrap();
    retry.settle(end(Outcome::Complete, usage(100, 20)));
    let status = world.status();
    assert_eq!(
        (status.requests_per_minute.remaining, status.tokens_per_minute.remaining),
        (Some(0), Some(RESERVED_TOKENS - 120))
    );
    world.clock.set(at(NOON).plus_ms(60_000));
    drop(world.admit().unwrap());
}

#[test]
fn the_concurrency_cap_counts_what_is_in_flight_and_nothing_else() {
    let world = World::new(Quota { concurrent_requests: Some(2), ..Quota::default() });
    for _ in 0..20 {
        let (first, second) = (world.admit().unwrap(), world.admit().unwrap());
        assert_eq!(world.admit().unwrap_err(), Refused::Concurrency { limit: 2 });
        first.settle(end(Outcome::Complete, usage(1, 1)));
        drop(second);
    }
    assert_eq!(world.status().concurrent_requests.in_use, 0);
}

#[test]
fn an_exact_fit_is_admitted_and_one_nano_less_is_not() {
    for (cap, fits) in [(RESERVED.0, true), (RESERVED.0 - 1, false)] {
        let world = World::new(Quota { usd_per_month: Some(NanoUsd(cap)), ..Quota::default() });
        assert_eq!(world.admit().is_ok(), fits, "{cap}");
    }
    assert_eq!(super::world::price().upper_bound(BOUND, ServiceTier::Standard), RESERVED);
}

/// `LiteLLM` 35766: each request sums the ledger up.
#[test]
fn no_admission_reads_the_ledger_or_its_sums_by_day() {
    let world = World::new(cap_of(2));
    world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 50)));
    let books = world.books();
    let conn = rusqlite::Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let world = world.reopen();
    conn.execute_batch("ALTER TABLE ledger RENAME TO ledger_away; ALTER TABLE usage_days RENAME TO usage_days_away")
        .unwrap();
    let ticket = world.admit().unwrap();
    let month = world.status().usd_per_month;
    assert_eq!((month.posted, month.pending), (RESERVED, RESERVED), "a first admission knows what was spent");
    assert!(matches!(world.admit(), Err(Refused::Budget { .. })));
    world.clock.set(at("2026-12-01T00:00:00Z"));
    let in_a_new_month = [world.admit().unwrap(), world.admit().unwrap()];
    assert!(matches!(world.admit(), Err(Refused::Budget { .. })));
    conn.execute_batch("ALTER TABLE ledger_away RENAME TO ledger; ALTER TABLE usage_days_away RENAME TO usage_days")
        .unwrap();
    in_a_new_month.into_iter().chain([ticket]).for_each(|ticket| _ = ticket.settle(end(Outcome::Void, usage(0, 0))));
    assert_eq!(world.books().total(), books.total());
}
