//! How an attempt ends: once, priced once, counted once.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::world::{RESERVED, RESERVED_TOKENS, World, cap_of, end, price, usage};
use crate::ledger::row::{self, LedgerRow};
use crate::ledger::ticket::recovered_row;
use crate::sqlite::{migrate, open};
use crate::{End, NanoUsd, Outcome, Quota, Settlement, Usage};

#[test]
fn q_07_after_1000_random_ends_nothing_is_pending_and_memory_rows_and_windows_agree() {
    let world = World::new(Quota { usd_per_day: Some(NanoUsd(i64::MAX)), ..cap_of(1_000_000) });
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut billed = NanoUsd::ZERO;
    let mut open = Vec::new();
    for _ in 0..1_000 {
        open.push(world.admit().unwrap());
        if random.next_u32().is_multiple_of(3) {
            let at = usize::try_from(random.next_u32()).unwrap() % open.len();
            billed = billed.saturating_add(finish(open.swap_remove(at), &mut random));
        }
    }
    assert!(open.len() > 100);
    for ticket in open {
        billed = billed.saturating_add(finish(ticket, &mut random));
    }
    let books = world.books();
    let status = world.status();
    for bucket in [&status.usd_per_day, &status.usd_per_month] {
        assert_eq!((bucket.pending, bucket.held, bucket.posted), (NanoUsd::ZERO, NanoUsd::ZERO, billed));
    }
    assert_eq!((status.tokens_per_day.pending, status.concurrent_requests.in_use, world.store.in_flight()), (0, 0, 0));
    assert_eq!(books.total(), (billed, NanoUsd::ZERO));
    assert_eq!(books.rows.len(), 1_000);
    let posted_tokens = books.windows.values().map(|sums| sums.2).max().unwrap();
    assert_eq!(i64::try_from(status.tokens_per_day.posted).unwrap(), posted_tokens);
    // A restart reads the same sums back.
    let reopened = world.reopen();
    assert_eq!(reopened.status().usd_per_month.posted, billed);
    assert_eq!(reopened.status().tokens_per_day.posted, status.tokens_per_day.posted);
}

fn finish(ticket: crate::Ticket, random: &mut TestRng) -> NanoUsd {
    let mut below = |bound: u32| random.next_u32() % bound;
    let used = Usage {
        input: below(60),
        cache_read: below(40),
        output: below(30),
        reasoning: below(20),
        tool_calls: below(3),
        ..Usage::default()
    };
    match below(5) {
        0 => ticket.settle(end(Outcome::Complete, used)).cost,
        1 => ticket.settle(end(Outcome::Partial, used)).cost,
        2 => ticket.settle(end(Outcome::Void, used)).cost,
        3 => ticket.settle(End { estimated: true, ..end(Outcome::Complete, used) }).cost,
        _ => {
            drop(ticket);
            RESERVED
        }
    }
}

#[test]
fn an_estimate_never_passes_the_reservation_and_a_providers_word_is_billed_as_stated() {
    let world = World::new(Quota { tokens_per_day: Some(10_000), ..Quota::default() });
    let much = usage(90, 1_000_000);
    let settled = world.admit().unwrap().settle(end(Outcome::Partial, much));
    assert_eq!((settled.cost, settled.over_reserved), (NanoUsd(90_000 + 60 * 2_000), false).min((RESERVED, false)));
    assert_eq!(world.status().tokens_per_day.posted, RESERVED_TOKENS, "tokens are cut like money");
    let settled = world.admit().unwrap().settle(end(Outcome::Complete, usage(100, 51)));
    assert_eq!((settled.cost, settled.over_reserved), (NanoUsd(202_000), true));
    assert_eq!(world.status().tokens_per_day.posted, RESERVED_TOKENS + 151);
    world.books();
}

#[test]
fn a_ticket_that_is_dropped_is_billed_at_its_reservation_and_flagged() {
    let world = World::new(cap_of(1));
    drop(world.admit().unwrap());
    let books = world.books();
    assert_eq!(books.rows.values().next(), Some(&("abandoned".to_owned(), true, RESERVED, NanoUsd::ZERO)));
    assert_eq!(world.status().tokens_per_day.posted, RESERVED_TOKENS);
    assert!(world.admit().is_err());
}

#[test]
fn a_void_attempt_leaves_a_row_of_zero() {
    let world = World::new(cap_of(1));
    assert_eq!(world.admit().unwrap().settle(end(Outcome::Void, usage(10, 10))).cost, NanoUsd::ZERO);
    assert_eq!(
        world.books().rows.into_values().collect::<Vec<_>>(),
        [("void".to_owned(), false, NanoUsd::ZERO, NanoUsd::ZERO)]
    );
    drop(world.admit().unwrap());
}

/// The two rows that one reservation could become: its settlement, and its recovery.
fn both_rows() -> (LedgerRow, LedgerRow) {
    let reservation = crate::Reservation {
        tenant: crate::TenantKey(1),
        reserved: RESERVED,
        reserved_tokens: RESERVED_TOKENS,
        ..crate::ledger::slot::tests::reservation(42)
    };
    let settlement = Settlement {
        outcome: Outcome::Complete,
        http_status: 200,
        estimated: false,
        usage: usage(100, 10),
        service_tier: crate::ServiceTier::Standard,
        first_byte_ms: 1,
        duration_ms: 2,
    };
    let settled = LedgerRow { reservation, settlement, cost: NanoUsd(120_000), held: NanoUsd::ZERO, held_tokens: 0 };
    (settled, recovered_row(reservation, usage(40, 0), Some(&price())))
}

fn database(dir: &Path) -> rusqlite::Connection {
    let mut conn = open::writable(&dir.join("openclawmu.db")).unwrap();
    migrate::run(&mut conn).unwrap();
    super::world::add_tenant(dir, 1);
    conn
}

#[test]
fn q_08_q_09_of_a_settlement_and_a_recovery_only_the_first_counts_in_both_orders() {
    let (settled, recovered) = both_rows();
    assert_eq!((recovered.cost, recovered.held), (NanoUsd(40_000), NanoUsd(160_000)));
    for (first, second) in [(settled, recovered), (recovered, settled), (settled, settled)] {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = database(dir.path());
        for row in [first, second] {
            let tx = conn.transaction().unwrap();
            row::insert(&tx, [row].iter()).unwrap();
            tx.commit().unwrap();
        }
        let books = super::world::Books::read(dir.path());
        assert_eq!(books.rows.len(), 1);
        assert_eq!(books.total(), (first.cost, first.held));
        // In one batch, too.
        let both = tempfile::tempdir().unwrap();
        let mut conn = database(both.path());
        let tx = conn.transaction().unwrap();
        row::insert(&tx, [first, second].iter()).unwrap();
        tx.commit().unwrap();
        assert_eq!(super::world::Books::read(both.path()), books);
    }
}

#[test]
fn q_08_tickets_settled_by_many_threads_each_have_one_row() {
    let world = World::new(cap_of(1_000_000));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..200 {
                    world.admit().unwrap().settle(end(Outcome::Complete, usage(n % 100, n % 50)));
                }
            });
        }
    });
    let books = world.books();
    assert_eq!(books.rows.len(), 1_600);
    assert_eq!(books.total().0, NanoUsd(8 * (0..200).map(|n| (n % 100) * 1_000 + (n % 50) * 2_000).sum::<i64>()));
    assert_eq!(world.status().usd_per_month.posted, books.total().0);
    assert_eq!(Arc::strong_count(&world.price), 1, "no ticket is left anywhere");
}
