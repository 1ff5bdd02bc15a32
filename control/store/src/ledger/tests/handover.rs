//! Two owners at once: the old one only settles, the new one counts what the old one still may bill.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::kill::{CHILD_DIR, this_binary};
use super::world::{
    Books, RESERVED, RESERVED_TOKENS, World, WorldDir, add_tenant, at, cap_of, end, eventually, open_at, usage,
};
use crate::{NanoUsd, Outcome, Quota, Refused, StoreError, Ticket};

const PATIENCE: Duration = Duration::from_secs(10);

/// The old owner with `tickets` open, handed over, and the new one.
fn handed_over(quota: Quota, tickets: usize) -> (World, Vec<Ticket>, World) {
    let old = World::new(quota);
    let open = (0..tickets).map(|_| old.admit().unwrap()).collect();
    old.store.hand_over();
    let store = open_at(old.dir.path(), &old.clock, PATIENCE).unwrap();
    let new = old.beside(store, WorldDir::Borrowed(old.dir.path().to_owned()));
    (old, open, new)
}

fn tables(world: &World) -> usize {
    std::fs::read_dir(world.dir.path().join("inflight")).unwrap().count()
}

#[test]
fn d_05_a_second_owner_is_refused_until_the_first_hands_over() {
    let old = World::new(cap_of(1));
    assert!(matches!(open_at(old.dir.path(), &old.clock, Duration::ZERO), Err(StoreError::Locked(_))));
    assert!(matches!(open_at(old.dir.path(), &old.clock, Duration::from_millis(20)), Err(StoreError::Locked(_))));
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open_at(old.dir.path(), &old.clock, PATIENCE));
        old.store.hand_over();
        waiting.join().unwrap()
    });
    drop(waiting.unwrap());
}

#[test]
fn the_new_owner_counts_the_old_ones_tickets_as_pending_until_their_rows_are_durable() {
    let (old, mut open, new) = handed_over(Quota { concurrent_requests: Some(9), ..cap_of(4) }, 3);
    assert!(matches!(old.admit(), Err(Refused::Unavailable(_))), "the old owner admits nothing more");
    let status = new.status();
    assert_eq!(
        (status.usd_per_month.pending, status.usd_per_day.pending),
        (NanoUsd(RESERVED.0 * 3), NanoUsd(RESERVED.0 * 3))
    );
    assert_eq!((status.tokens_per_day.pending, status.concurrent_requests.in_use), (RESERVED_TOKENS * 3, 3));
    let own = new.admit().unwrap();
    assert!(matches!(new.admit(), Err(Refused::Budget { .. })), "3 there and 1 here fill the cap of 4");

    open.pop().unwrap().settle(end(Outcome::Complete, usage(100, 0)));
    open.pop().unwrap().settle(end(Outcome::Void, usage(0, 0)));
    drop(open.pop());
    own.settle(end(Outcome::Complete, usage(10, 0)));
    eventually("pending is 0", || new.status().usd_per_month.pending == NanoUsd::ZERO);
    let status = new.status();
    let posted = NanoUsd(100_000 + RESERVED.0 + 10_000);
    assert_eq!(
        (status.usd_per_month.posted, status.usd_per_day.posted, status.usd_per_month.held),
        (posted, posted, NanoUsd::ZERO)
    );
    assert_eq!((status.tokens_per_day.pending, status.concurrent_requests.in_use), (0, 0));
    new.flush();
    assert_eq!(Books::read(old.dir.path()).total(), (posted, NanoUsd::ZERO));

    assert_eq!(tables(&old), 2);
    let World { store, dir, .. } = old;
    drop(store);
    eventually("the old owner's table is gone", || {
        std::fs::read_dir(dir.path().join("inflight")).unwrap().count() == 1
    });
    drop(new);
    assert_eq!(std::fs::read_dir(dir.path().join("inflight")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_ticket_that_outlives_its_store_still_settles_into_the_new_owners_windows() {
    let (old, open, new) = handed_over(cap_of(4), 2);
    let World { store, dir, .. } = old;
    drop(store);
    assert_eq!(new.status().usd_per_month.pending, NanoUsd(RESERVED.0 * 2));
    for ticket in open {
        ticket.settle(end(Outcome::Complete, usage(100, 50)));
    }
    eventually("pending is 0", || new.status().usd_per_month.pending == NanoUsd::ZERO);
    assert_eq!(new.status().usd_per_month.posted, NanoUsd(RESERVED.0 * 2));
    eventually("the old owner's table is gone", || {
        std::fs::read_dir(dir.path().join("inflight")).unwrap().count() == 1
    });
}

#[test]
fn q_10_a_foreign_ticket_of_yesterday_posts_into_the_month_and_not_into_today() {
    let old = World::new(cap_of(4));
    let yesterday = old.admit().unwrap();
    old.clock.set(at("2026-11-19T01:00:00Z"));
    let today = old.admit().unwrap();
    old.store.hand_over();
    let new = old
        .beside(open_at(old.dir.path(), &old.clock, PATIENCE).unwrap(), WorldDir::Borrowed(old.dir.path().to_owned()));
    let status = new.status();
    assert_eq!((status.usd_per_day.pending, status.usd_per_month.pending), (RESERVED, NanoUsd(RESERVED.0 * 2)));
    yesterday.settle(end(Outcome::Complete, usage(10, 0)));
    today.settle(end(Outcome::Complete, usage(20, 0)));
    eventually("pending is 0", || new.status().usd_per_month.pending == NanoUsd::ZERO);
    let status = new.status();
    assert_eq!((status.usd_per_day.posted, status.usd_per_month.posted), (NanoUsd(20_000), NanoUsd(30_000)));
    assert_eq!(status.concurrent_requests.in_use, 0);
    Books::read(old.dir.path());
}

#[test]
#[ignore = "not a test: the old owner that `a_killed_old_owner_is_recovered_by_the_new_one` starts and kills"]
fn old_owner() {
    let dir = std::env::var(CHILD_DIR).expect("set by the test that starts this");
    let world = World::in_dir(std::path::Path::new(&dir));
    let first = world.admit().unwrap();
    let _second = world.admit().unwrap();
    first.progress(&usage(40, 20));
    let mut out = std::io::stdout().lock();
    world.store.hand_over();
    out.write_all(b"handed over\n").unwrap();
    out.flush().unwrap();
    // Lives until it is killed.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn a_killed_old_owner_is_recovered_by_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::in_dir(dir.path());
    add_tenant(dir.path(), 1);
    let (clock, quota) = (world.clock.clone(), cap_of(4));
    drop(world);
    let mut child = Command::new(this_binary())
        .args(["--exact", "--ignored", "--nocapture", "ledger::tests::handover::old_owner"])
        .env(CHILD_DIR, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("handed over")), "the old owner hands over");

    let store = open_at(dir.path(), &clock, PATIENCE).unwrap();
    let pending = || store.quota_status_of(crate::TenantKey(1), &quota, &crate::Zone::utc()).unwrap().usd_per_month;
    assert_eq!(pending().pending, NanoUsd(RESERVED.0 * 2));
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the dead owner's reservations are resolved", || pending().pending == NanoUsd::ZERO);
    let month = pending();
    assert_eq!(month.posted.0 + month.held.0, RESERVED.0 * 2, "what is not billed is held");
    let books = Books::read(dir.path());
    assert_eq!(books.total(), (month.posted, month.held));
    assert!(books.rows.values().all(|row| row.0 == "recovered" && row.1));
    assert_eq!(books.rows.len(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("inflight")).unwrap().count(), 1);
}
