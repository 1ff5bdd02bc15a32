//! Random histories beside a model that is too simple to be wrong: sums in maps, no locks, no files.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::world::{World, add_tenant, at, end, price, usage};
use crate::{
    Bound, Demand, ManualClock, NanoUsd, Outcome, Quota, Refused, ServiceTier, TenantKey, Ticket, Windows, Zone,
};

#[derive(Clone, Debug)]
enum Step {
    Admit(Bound),
    /// Settles one of those in flight; what it used is a share of its bound, in thousandths.
    Settle(prop::sample::Index, Outcome, u32),
    Drop(prop::sample::Index),
    /// Moves the clock by so many hours.
    Clock(i64),
    Zone(&'static str),
    Caps(Quota),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bound = (0..200_u32, 0..100_u32).prop_map(|(input_tokens, output_tokens)| Bound {
        input_tokens,
        output_tokens,
        ..Bound::default()
    });
    let outcome = prop::sample::select(vec![Outcome::Complete, Outcome::Partial, Outcome::Void]);
    let usd = || prop::option::of((0..2_000_000_i64).prop_map(NanoUsd));
    let caps = (usd(), usd(), prop::option::of(0..3_000_u64), prop::option::of(0..6_u32)).prop_map(
        |(day, month, tokens, concurrent)| Quota {
            usd_per_day: day,
            usd_per_month: month,
            tokens_per_day: tokens,
            concurrent_requests: concurrent,
            ..Quota::default()
        },
    );
    let step = prop_oneof![
        8 => bound.prop_map(Step::Admit),
        6 => (any::<prop::sample::Index>(), outcome, 0..1_200_u32).prop_map(|(which, outcome, share)| Step::Settle(which, outcome, share)),
        1 => any::<prop::sample::Index>().prop_map(Step::Drop),
        2 => (-40..60_i64).prop_map(Step::Clock),
        1 => prop::sample::select(vec!["UTC", "Asia/Tokyo", "America/New_York"]).prop_map(Step::Zone),
        1 => caps.prop_map(Step::Caps),
    ];
    prop::collection::vec(step, 1..120)
}

#[derive(Default)]
struct Sums {
    posted: i64,
    pending: i64,
    posted_tokens: u64,
    pending_tokens: u64,
}

/// Windows by kind and number; the newest of each kind is the current one.
#[derive(Default)]
struct Model {
    windows: HashMap<(&'static str, i32), Sums>,
    day: i32,
    month: i32,
    in_flight: u32,
}

impl Model {
    fn look(&mut self, windows: Windows) {
        (self.day, self.month) = (self.day.max(windows.day), self.month.max(windows.month));
    }

    fn sums(&mut self, kind: &'static str) -> &mut Sums {
        let number = if kind == "day" { self.day } else { self.month };
        self.windows.entry((kind, number)).or_default()
    }

    fn fits(&mut self, quota: &Quota, bound: Bound) -> bool {
        let want = price().upper_bound(bound, ServiceTier::Standard).0;
        let mut dollars = |kind, cap: Option<NanoUsd>| {
            let sums = self.sums(kind);
            cap.is_none_or(|cap| sums.posted + sums.pending + want <= cap.0)
        };
        let dollars = dollars("day", quota.usd_per_day) && dollars("month", quota.usd_per_month);
        let day = self.sums("day");
        let tokens =
            quota.tokens_per_day.is_none_or(|cap| day.posted_tokens + day.pending_tokens + bound.total_tokens() <= cap);
        // What costs nothing goes on past a cap that was lowered.
        let free = want == 0 && bound.total_tokens() == 0;
        (free || (dollars && tokens)) && quota.concurrent_requests.is_none_or(|limit| self.in_flight < limit)
    }

    fn reserve(&mut self, bound: Bound) {
        for kind in ["day", "month"] {
            let sums = self.sums(kind);
            sums.pending += price().upper_bound(bound, ServiceTier::Standard).0;
            sums.pending_tokens += bound.total_tokens();
        }
        self.in_flight += 1;
    }

    fn resolve(&mut self, reserved: (i32, i32, Bound), cost: NanoUsd, tokens: u64) {
        let (day, month, bound) = reserved;
        for key in [("day", day), ("month", month)] {
            let sums = self.windows.entry(key).or_default();
            sums.pending -= price().upper_bound(bound, ServiceTier::Standard).0;
            sums.pending_tokens -= bound.total_tokens();
            sums.posted += cost.0;
            sums.posted_tokens += tokens;
        }
        self.in_flight -= 1;
    }
}

struct History<'a> {
    world: &'a World,
    tenant: TenantKey,
    quota: std::sync::Arc<Quota>,
    zone: Zone,
    hours: i64,
    open: Vec<(Ticket, (i32, i32, Bound))>,
    model: Model,
}

impl History<'_> {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Admit(bound) => self.admit(bound)?,
            Step::Settle(which, outcome, share) if !self.open.is_empty() => {
                let (ticket, reserved) = self.open.swap_remove(which.index(self.open.len()));
                let part = |bound: u32| bound * share / 1_000;
                let used = usage(part(reserved.2.input_tokens), part(reserved.2.output_tokens));
                let settled = ticket.settle(end(outcome, used));
                let (bound, stated) = (
                    price().upper_bound(reserved.2, ServiceTier::Standard),
                    price().cost(&used, ServiceTier::Standard),
                );
                let (cost, tokens) = match outcome {
                    Outcome::Void => (NanoUsd::ZERO, 0),
                    Outcome::Partial => (stated.min(bound), used.total_tokens().min(reserved.2.total_tokens())),
                    Outcome::Complete | Outcome::Recovered | Outcome::Abandoned => (stated, used.total_tokens()),
                    Outcome::Credit | Outcome::Resolved => unreachable!("no attempt ends so"),
                };
                // Where tokens were cut the bill is of what is left, which is at most this.
                prop_assert!(settled.cost <= cost && (share > 1_000 || settled.cost == cost));
                self.model.resolve(reserved, settled.cost, tokens);
            }
            Step::Drop(which) if !self.open.is_empty() => {
                let (ticket, reserved) = self.open.swap_remove(which.index(self.open.len()));
                drop(ticket);
                self.model.resolve(
                    reserved,
                    price().upper_bound(reserved.2, ServiceTier::Standard),
                    reserved.2.total_tokens(),
                );
            }
            Step::Settle(..) | Step::Drop(_) => {}
            Step::Clock(hours) => self.hours += hours,
            Step::Zone(name) => self.zone = Zone::parse(name).unwrap(),
            Step::Caps(quota) => self.quota = std::sync::Arc::new(quota),
        }
        self.compare()
    }

    fn admit(&mut self, bound: Bound) -> Result<(), TestCaseError> {
        self.model.look(self.windows_now());
        let expected = self.model.fits(&self.quota, bound);
        let demand = Demand { tenant: self.tenant, quota: &self.quota, zone: &self.zone, bound, ..self.world.demand() };
        match self.world.store.admit(&demand) {
            Ok(ticket) => {
                prop_assert!(expected, "admitted what does not fit");
                self.model.reserve(bound);
                let reservation = ticket.reservation().unwrap();
                prop_assert_eq!((reservation.day, reservation.month), (self.model.day, self.model.month));
                self.open.push((ticket, (self.model.day, self.model.month, bound)));
            }
            Err(Refused::Budget { .. } | Refused::Concurrency { .. }) => prop_assert!(!expected, "refused what fits"),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    fn windows_now(&self) -> Windows {
        let now = at("2026-11-27T12:00:00Z").plus_ms(self.hours * 3_600_000);
        self.world.clock.set(now);
        Windows::at(now, &self.zone)
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        self.model.look(self.windows_now());
        let status = self.world.store.quota_status_of(self.tenant, &self.quota, &self.zone).unwrap();
        for (kind, found) in [("day", &status.usd_per_day), ("month", &status.usd_per_month)] {
            let sums = self.model.sums(kind);
            prop_assert_eq!(
                (found.posted.0, found.pending.0, found.held.0),
                (sums.posted, sums.pending, 0),
                "{}",
                kind
            );
        }
        let day = self.model.sums("day");
        prop_assert_eq!(
            (status.tokens_per_day.posted, status.tokens_per_day.pending),
            (day.posted_tokens, day.pending_tokens)
        );
        prop_assert_eq!(status.concurrent_requests.in_use, self.model.in_flight);
        Ok(())
    }
}

#[test]
fn every_history_of_the_ledger_is_that_of_the_model() {
    let world = World::new(Quota::default());
    let next_tenant = AtomicI64::new(2);
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let result = runner.run(&steps(), |steps| {
        let tenant = TenantKey(next_tenant.fetch_add(1, Ordering::Relaxed));
        add_tenant(world.dir.path(), tenant.0);
        let mut history = History {
            world: &world,
            tenant,
            quota: Default::default(),
            zone: Zone::utc(),
            hours: 0,
            open: Vec::new(),
            model: Model::default(),
        };
        for step in steps {
            history.step(step)?;
        }
        Ok(())
    });
    if let Err(err) = result {
        panic!("{err}");
    }
    world.books();
    assert_eq!(world.store.in_flight(), 0);
}

#[test]
fn a_manual_clock_never_makes_durations_negative() {
    let clock = ManualClock::new(at("2026-11-18T12:00:00Z"));
    let before = crate::Clock::monotonic_ms(&clock);
    clock.set(at("2026-11-17T12:00:00Z"));
    assert!(crate::Clock::monotonic_ms(&clock) >= before);
}
