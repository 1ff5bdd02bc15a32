//! Caps of client secrets: never exceeded, by how many at once or however the process ends; all or none with the tenant's
//! buckets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::Connection;

use super::world::{RESERVED, World, WorldDir, end, eventually, open_at, usage};
use crate::{
    Actor, Demand, NanoUsd, NewClientSecret, Outcome, Quota, Refused, SecretCap, SecretKey, SecretLimit, Ticket, UnixMs,
};

/// A secret of the world's tenant that is counted.
fn secret(world: &World, max_cost: Option<NanoUsd>, max_requests: Option<u64>) -> SecretCap {
    let new = NewClientSecret { max_cost_usd: max_cost, max_requests, ttl_seconds: Some(86_400), ..Default::default() };
    let made = world.store.create_client_secret(&Actor::system(), &"t1".parse().unwrap(), new).wait().unwrap();
    let policy = world.store.authenticate(made.expose(), std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
    policy.cap().unwrap()
}

fn ask(world: &World, cap: SecretCap) -> Result<Ticket, Refused> {
    world.store.admit(&Demand { cap: Some(cap), ..world.demand() })
}

/// What the store says a secret has used: requests, posted, held.
fn used(world: &World, key: SecretKey) -> (i64, i64, i64) {
    let conn = Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    let sql = "SELECT requests, posted_nanos, held_nanos FROM client_secrets WHERE key = ?1";
    conn.query_row(sql, [key.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}

fn spent(refused: Result<Ticket, Refused>, expected: SecretLimit) -> Option<NanoUsd> {
    match refused {
        Err(Refused::ClientSecret { limit, usd_left, .. }) if limit == expected => usd_left,
        other => panic!("{other:?}"),
    }
}

/// Q-01 for a secret
#[test]
fn a_hundred_at_once_never_pass_either_cap() {
    for (max_cost, max_requests, fit) in [
        (Some(NanoUsd(RESERVED.0 * 10 + 1)), None, 10),
        (None, Some(7), 7),
        (Some(NanoUsd(RESERVED.0 * 3)), Some(7), 3),
    ] {
        let world = World::new(Quota::default());
        let cap = secret(&world, max_cost, max_requests);
        let admitted = AtomicUsize::new(0);
        let tickets: Vec<Ticket> = std::thread::scope(|threads| {
            let run = || {
                let found = ask(&world, cap).ok();
                admitted.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
                found
            };
            let all: Vec<_> = (0..100).map(|_| threads.spawn(run)).collect();
            all.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(admitted.into_inner(), fit);
        assert!(world.admit().is_ok_and(settled), "the tenant's own token goes on");
        for ticket in tickets {
            assert!(settled(ticket));
        }
    }
}

fn settled(ticket: Ticket) -> bool {
    ticket.settle(end(Outcome::Complete, usage(100, 10)));
    true
}

#[test]
fn what_was_not_used_comes_back_and_what_was_posted_does_not() {
    let world = World::new(Quota::default());
    let cap = secret(&world, Some(NanoUsd(RESERVED.0 * 2)), None);
    let first = ask(&world, cap).unwrap();
    assert_eq!(first.standing().usd_left, Some(RESERVED));
    let second = ask(&world, cap).unwrap();
    assert_eq!(spent(ask(&world, cap), SecretLimit::Cost), Some(NanoUsd::ZERO));
    let bill = first.settle(end(Outcome::Complete, usage(100, 10)));
    assert_eq!(bill.standing.usd_left, Some(NanoUsd(RESERVED.0 - bill.cost.0)));
    let left = spent(ask(&world, cap), SecretLimit::Cost);
    assert_eq!(left, bill.standing.usd_left);
    second.settle(end(Outcome::Void, usage(0, 0)));
    let third = ask(&world, cap).unwrap();
    third.settle(end(Outcome::Complete, usage(100, 10)));
    world.flush();
    assert_eq!(used(&world, cap.key), (3, bill.cost.0 * 2, 0));
}

#[test]
fn a_retry_is_no_request_of_its_own_and_one_that_came_to_nothing_still_is_one() {
    let world = World::new(Quota::default());
    let cap = secret(&world, None, Some(2));
    ask(&world, cap).unwrap().settle(end(Outcome::Void, usage(0, 0)));
    let retry = world.store.admit(&Demand { attempt: 1, cap: Some(cap), ..world.demand() }).unwrap();
    assert!(settled(retry) && settled(ask(&world, cap).unwrap()));
    spent(ask(&world, cap), SecretLimit::Requests);
    world.flush();
    assert_eq!(used(&world, cap.key).0, 2);
}

#[test]
fn all_or_none_with_the_tenants_buckets() {
    let world = World::new(Quota { usd_per_day: Some(RESERVED), ..Quota::default() });
    let cap = secret(&world, Some(NanoUsd(RESERVED.0 * 5)), Some(5));
    let small = secret(&world, Some(NanoUsd(RESERVED.0 - 1)), None);
    assert_eq!(spent(ask(&world, small), SecretLimit::Cost), Some(NanoUsd(RESERVED.0 - 1)));
    let taken = ask(&world, cap).unwrap();
    assert_eq!(
        taken.standing().usd_left,
        Some(NanoUsd(RESERVED.0 * 4)),
        "what the tenant has left is not its bearer's"
    );
    for _ in 0..3 {
        assert!(matches!(ask(&world, cap), Err(Refused::Budget { .. })));
    }
    taken.settle(end(Outcome::Void, usage(0, 0)));
    let again = ask(&world, cap).unwrap();
    assert_eq!(again.standing().usd_left, Some(NanoUsd(RESERVED.0 * 4)), "a refusal took nothing from the secret");
    again.settle(end(Outcome::Void, usage(0, 0)));
    assert!(world.admit().is_ok_and(settled), "nor from the tenant");
    world.flush();
    assert_eq!(used(&world, cap.key).0, 2);
}

/// Q-02 for a secret: what a killed process leaves is the table as it stood
#[test]
fn a_restart_and_a_kill_keep_what_was_used_and_hold_what_is_uncertain() {
    let mut world = World::new(Quota::default());
    let cap = secret(&world, Some(NanoUsd(RESERVED.0 * 2)), Some(3));
    let cost = ask(&world, cap).unwrap().settle(end(Outcome::Complete, usage(100, 10))).cost;
    world = world.reopen();
    assert_eq!(used(&world, cap.key), (1, cost.0, 0));
    let open = ask(&world, cap).unwrap();
    let left = world.killed_now();
    open.settle(end(Outcome::Void, usage(0, 0)));
    world = world.revive(left);
    let (requests, posted, held) = used(&world, cap.key);
    assert_eq!((requests, posted + held), (2, cost.0 + RESERVED.0), "the reservation is posted or held");
    assert_eq!(spent(ask(&world, cap), SecretLimit::Cost), Some(NanoUsd(RESERVED.0 - cost.0)));
    let roomy = SecretCap { max_cost: None, ..cap };
    assert!(settled(ask(&world, roomy).unwrap()));
    spent(ask(&world, roomy), SecretLimit::Requests);
}

#[test]
fn a_secret_whose_count_is_gone_is_refused_and_not_counted_anew() {
    let world = World::new(Quota::default());
    let cap = SecretCap { key: SecretKey(4_711), max_cost: None, max_requests: Some(5), expires_at: UnixMs(i64::MAX) };
    assert!(matches!(ask(&world, cap), Err(Refused::Unavailable(_))));
}

/// Q-02 at a hand-over: what the old process still has in flight counts in the new one
#[test]
fn a_successor_counts_what_its_predecessor_has_in_flight() {
    let world = World::new(Quota::default());
    let cap = secret(&world, Some(NanoUsd(RESERVED.0 * 2)), Some(2));
    let old = ask(&world, cap).unwrap();
    world.store.hand_over();
    let store = open_at(world.dir.path(), &world.clock, Duration::from_secs(10)).unwrap();
    let next = world.beside(store, WorldDir::Borrowed(world.dir.path().to_owned()));
    let second = next.store.admit(&Demand { cap: Some(cap), ..world.demand() }).unwrap();
    let third = next.store.admit(&Demand { cap: Some(cap), ..world.demand() });
    spent(third, SecretLimit::Requests);
    let bill = old.settle(end(Outcome::Complete, usage(10, 10)));
    second.settle(end(Outcome::Complete, usage(10, 10)));
    next.flush();
    let roomy = SecretCap { max_requests: None, ..cap };
    let left = || {
        // Refused while the old one's whole reservation counts.
        let ticket = next.store.admit(&Demand { cap: Some(roomy), ..world.demand() }).ok()?;
        let left = ticket.standing().usd_left;
        ticket.settle(end(Outcome::Void, usage(0, 0)));
        left
    };
    let expected = Some(NanoUsd(RESERVED.0 - bill.cost.0 * 2));
    eventually("its rows are posted", || left() == expected);
}
