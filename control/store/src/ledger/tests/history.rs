//! Random histories with deaths in them, beside a model that is too simple to be wrong: a map of rows and one of what is in
//! flight. After each step memory is what the model says; after each death, and at the end, so is the disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use super::world::{Books, World, at, copy_dir, end, flush, open_at, price, scratch, usage};
use crate::ledger::inflight::FOLDER;
use crate::ledger::recovery::resolve_dead;
use crate::ledger::row::{self, LedgerRow};
use crate::ledger::standing::Bucket;
use crate::ledger::ticket::settled_row;
use crate::sqlite::open;
use crate::{
    Bound, Demand, NanoUsd, Outcome, Quota, Refused, Reservation, ServiceTier, Settlement, Store, Ticket, Usage,
    Windows, Zone,
};

#[derive(Clone, Debug)]
enum Step {
    Admit(Bound),
    /// Notes that so many thousandths of the bound have been relayed.
    Progress(Index, u32),
    Settle(Index, Outcome, u32),
    Abandon(Index),
    /// The process dies; one settlement may race its recovery.
    Kill(Option<(Index, Race)>),
    /// A new process takes over; the old one only settles.
    HandOver,
    Reopen,
    /// A row that exists is written again, with another bill.
    Duplicate(Index),
    Clock(i64),
    Zone(&'static str),
    Caps(Quota),
}

/// Which row of one reservation comes first.
#[derive(Clone, Copy, Debug)]
enum Race {
    Settlement,
    Recovery,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bound = (0..200_u32, 0..100_u32).prop_map(|(input, output)| Bound::tokens(input, output));
    let outcome = prop::sample::select(vec![Outcome::Complete, Outcome::Partial, Outcome::Void]);
    let usd = || prop::option::of((100_000..3_000_000_i64).prop_map(NanoUsd));
    let caps = (usd(), usd(), prop::option::of(0..3_000_u64)).prop_map(|(day, month, tokens)| Quota {
        usd_per_day: day,
        usd_per_month: month,
        tokens_per_day: tokens,
        ..Quota::default()
    });
    let race = prop::sample::select(vec![Race::Settlement, Race::Recovery]);
    let zones = vec!["UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe"];
    let index = any::<Index>;
    let step = prop_oneof![
        10 => bound.prop_map(Step::Admit),
        3 => (index(), 0..=1_000_u32).prop_map(|(which, share)| Step::Progress(which, share)),
        5 => (index(), outcome, 0..1_200_u32).prop_map(|(which, outcome, share)| Step::Settle(which, outcome, share)),
        1 => index().prop_map(Step::Abandon),
        2 => prop::option::of((index(), race)).prop_map(Step::Kill),
        1 => Just(Step::HandOver),
        1 => Just(Step::Reopen),
        1 => index().prop_map(Step::Duplicate),
        3 => (-40..60_i64).prop_map(Step::Clock),
        1 => prop::sample::select(zones).prop_map(Step::Zone),
        2 => caps.prop_map(Step::Caps),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a row did, or what one in flight would do, to its windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    posted: i64,
    pending: i64,
    held: i64,
    posted_tokens: u64,
    pending_tokens: u64,
    held_tokens: u64,
}

#[derive(Default)]
struct Model {
    rows: BTreeMap<i64, (Reservation, Sums)>,
    in_flight: BTreeMap<i64, (Reservation, Usage)>,
    /// The current windows.
    day: i32,
    month: i32,
}

fn cost_of(usage: &Usage) -> i64 {
    i64::from(usage.input) * 1_000 + i64::from(usage.output) * 2_000
}

impl Model {
    fn look(&mut self, now: Windows) {
        (self.day, self.month) = (self.day.max(now.day), self.month.max(now.month));
    }

    /// A new process knows of the windows that have rows or reservations of a living one, if they are near.
    fn forget_all_but_rows(&mut self, now: Windows) {
        let near =
            |newest: Option<i32>, now: i32, ahead: i32| newest.filter(|n| *n <= now + ahead).unwrap_or(now).max(now);
        let rows = || self.rows.values().map(|(reservation, _)| reservation);
        let (day, month) = (rows().map(|r| r.day).max(), rows().map(|r| r.month).max());
        (self.day, self.month) = (near(day, now.day, 7), near(month, now.month, 1));
        for (reservation, _) in self.in_flight.values() {
            (self.day, self.month) = (self.day.max(reservation.day), self.month.max(reservation.month));
        }
    }

    fn sums(&self, within: impl Fn(&Reservation) -> bool) -> Sums {
        let mut all = Sums::default();
        for (_, sums) in self.rows.values().filter(|(reservation, _)| within(reservation)) {
            all.posted += sums.posted;
            all.held += sums.held;
            all.posted_tokens += sums.posted_tokens;
            all.held_tokens += sums.held_tokens;
        }
        for (reservation, _) in self.in_flight.values().filter(|(reservation, _)| within(reservation)) {
            all.pending += reservation.reserved.0;
            all.pending_tokens += reservation.reserved_tokens;
        }
        all
    }

    fn today(&self) -> Sums {
        self.sums(|reservation| reservation.day == self.day)
    }

    fn this_month(&self) -> Sums {
        self.sums(|reservation| reservation.month == self.month)
    }

    fn fits(&self, quota: &Quota, bound: Bound) -> bool {
        let want = price().upper_bound(bound, ServiceTier::Standard).0;
        let dollars = |cap: Option<NanoUsd>, sums: Sums| {
            cap.is_none_or(|cap| sums.posted + sums.pending + sums.held + want <= cap.0)
        };
        let day = self.today();
        let tokens = day.posted_tokens + day.pending_tokens + day.held_tokens + bound.total_tokens();
        dollars(quota.usd_per_day, day)
            && dollars(quota.usd_per_month, self.this_month())
            && quota.tokens_per_day.is_none_or(|cap| tokens <= cap)
    }

    fn settle(&mut self, reservation: Reservation, cost: i64, tokens: u64) {
        self.in_flight.remove(&reservation.id.0).unwrap();
        let sums = Sums { posted: cost, posted_tokens: tokens, ..Sums::default() };
        assert!(self.rows.insert(reservation.id.0, (reservation, sums)).is_none());
    }

    /// What was relayed is billed, the rest held.
    fn recover(&mut self) {
        for (id, (reservation, relayed)) in std::mem::take(&mut self.in_flight) {
            let (cost, tokens) = (cost_of(&relayed), relayed.total_tokens());
            let sums = Sums {
                posted: cost,
                held: reservation.reserved.0 - cost,
                posted_tokens: tokens,
                held_tokens: reservation.reserved_tokens - tokens,
                ..Sums::default()
            };
            self.rows.insert(id, (reservation, sums));
        }
    }
}

struct History {
    world: World,
    /// Processes that handed over and still settle.
    old: Vec<Store>,
    open: Vec<Ticket>,
    start: &'static str,
    hours: i64,
    model: Model,
}

/// The end that a step asks for, and what it must cost.
fn ending(reserved: &Reservation, outcome: Outcome, share: u32) -> (Usage, i64, u64) {
    let output = u32::try_from(reserved.reserved_tokens).unwrap() - reserved.input_bound;
    let mut used = usage(reserved.input_bound * share / 1_000, output * share / 1_000);
    if outcome == Outcome::Partial && share > 1_000 {
        used = usage(reserved.input_bound, output); // an estimate is cut to what was reserved
    }
    let (cost, tokens) = if outcome == Outcome::Void { (0, 0) } else { (cost_of(&used), used.total_tokens()) };
    (used, cost, tokens)
}

impl History {
    fn new(start: &'static str) -> Self {
        let world = World::on(scratch(), Quota::default());
        Self { world, old: Vec::new(), open: Vec::new(), start, hours: 0, model: Model::default() }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        let open = self.open.len();
        match step {
            Step::Admit(bound) => self.admit(bound)?,
            Step::Progress(which, share) if open > 0 => {
                let ticket = &self.open[which.index(open)];
                let reserved = ticket.reservation().unwrap();
                let (relayed, ..) = ending(reserved, Outcome::Complete, share);
                ticket.progress(&relayed);
                self.model.in_flight.get_mut(&reserved.id.0).unwrap().1 = relayed;
            }
            Step::Settle(which, outcome, share) if open > 0 => {
                let ticket = self.open.swap_remove(which.index(open));
                let reserved = *ticket.reservation().unwrap();
                let (used, cost, tokens) = ending(&reserved, outcome, share);
                prop_assert_eq!(ticket.settle(end(outcome, used)).cost.0, cost);
                self.model.settle(reserved, cost, tokens);
            }
            Step::Abandon(which) if open > 0 => {
                let ticket = self.open.swap_remove(which.index(open));
                let reserved = *ticket.reservation().unwrap();
                drop(ticket);
                self.model.settle(reserved, reserved.reserved.0, reserved.reserved_tokens);
            }
            Step::Kill(race) => self.kill(race),
            Step::HandOver => self.hand_over(),
            Step::Reopen if open == 0 => {
                self.old.clear();
                self.in_its_place(|dir, clock| open_at(dir, clock, Duration::ZERO));
                self.model.forget_all_but_rows(self.now());
            }
            Step::Duplicate(which) => self.duplicate(which),
            Step::Progress(..) | Step::Settle(..) | Step::Abandon(_) | Step::Reopen => {}
            Step::Clock(hours) => self.hours += hours,
            Step::Zone(name) => self.world.zone = Zone::parse(name).unwrap(),
            Step::Caps(quota) => self.world.quota = Arc::new(quota),
        }
        self.compare()
    }

    fn now(&self) -> Windows {
        let now = at(self.start).plus_ms(self.hours * 3_600_000);
        self.world.clock.set(now);
        Windows::at(now, &self.world.zone)
    }

    fn admit(&mut self, bound: Bound) -> Result<(), TestCaseError> {
        self.model.look(self.now());
        let expected = self.model.fits(&self.world.quota, bound);
        match self.world.store.admit(&Demand { bound, ..self.world.demand() }) {
            Ok(ticket) => {
                prop_assert!(expected, "admitted what does not fit");
                let reserved = *ticket.reservation().unwrap();
                prop_assert_eq!((reserved.day, reserved.month), (self.model.day, self.model.month));
                let prompt = usage(self.world.demand().prompt_estimate.min(bound.input_tokens), 0);
                let twice = self.model.in_flight.insert(reserved.id.0, (reserved, prompt)).is_some();
                prop_assert!(!twice && !self.model.rows.contains_key(&reserved.id.0), "an id was given twice");
                self.open.push(ticket);
                self.holds_the_caps();
            }
            Err(Refused::Budget { .. }) => prop_assert!(!expected, "refused what fits"),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
        Ok(())
    }

    /// `posted + pending + held <= cap`, right after an admission.
    fn holds_the_caps(&self) {
        let (quota, status) = (&self.world.quota, self.world.status());
        for (cap, found) in [(quota.usd_per_day, &status.usd_per_day), (quota.usd_per_month, &status.usd_per_month)] {
            let used = found.posted.0 + found.pending.0 + found.held.0;
            assert!(cap.is_none_or(|cap| used <= cap.0), "{found:?} on a cap of {cap:?}");
        }
    }

    /// Leaves the files of this moment to a new process. What the old one still did, nobody sees.
    fn kill(&mut self, race: Option<(Index, Race)>) {
        let copy = self.world.killed_now();
        let tables = scratch();
        copy_dir(copy.path(), tables.path());
        let racing = race.filter(|_| !self.open.is_empty()).map(|(which, race)| {
            let reserved = *self.open[which.index(self.open.len())].reservation().unwrap();
            let (used, cost, tokens) = ending(&reserved, Outcome::Complete, 500);
            (row_of(reserved, used, cost), tokens, race)
        });
        if let Some((row, tokens, Race::Settlement)) = racing {
            write_again(copy.path(), &row);
            self.model.settle(row.reservation, row.cost.0, tokens);
        }
        resolve(copy.path());
        self.model.recover();
        if let Some((row, _, Race::Recovery)) = racing {
            write_again(copy.path(), &row);
        }
        // Killed again, before the tables were removed.
        for table in std::fs::read_dir(tables.path().join(FOLDER)).unwrap().map(Result::unwrap) {
            std::fs::copy(table.path(), copy.path().join(FOLDER).join(table.file_name())).unwrap();
        }
        resolve(copy.path());
        self.same_on_disk(&Books::read(copy.path()));
        let revived = self.world.revive(copy);
        let zone = self.world.zone.clone();
        let dead = std::mem::replace(&mut self.world, revived);
        self.world.zone = zone;
        self.open.clear();
        self.old.clear();
        drop(dead);
        self.model.forget_all_but_rows(self.now());
    }

    fn hand_over(&mut self) {
        self.now();
        self.world.store.hand_over();
        let store = open_at(self.world.dir.path(), &self.world.clock, Duration::from_secs(10)).unwrap();
        self.old.push(std::mem::replace(&mut self.world.store, store));
        self.model.forget_all_but_rows(self.now());
    }

    /// Closes the store and opens another on its files.
    fn in_its_place(&mut self, open: impl FnOnce(&Path, &Arc<crate::ManualClock>) -> crate::Result<Store>) {
        let elsewhere = scratch();
        let spare = open_at(elsewhere.path(), &self.world.clock, Duration::ZERO).unwrap();
        drop(std::mem::replace(&mut self.world.store, spare));
        self.world.store = open(self.world.dir.path(), &self.world.clock).unwrap();
    }

    fn duplicate(&self, which: Index) {
        if self.model.rows.is_empty() {
            return;
        }
        self.flush();
        let (reserved, _) = self.model.rows.values().nth(which.index(self.model.rows.len())).unwrap();
        write_again(self.world.dir.path(), &row_of(*reserved, usage(1, 1), 77));
    }

    fn compare(&mut self) -> Result<(), TestCaseError> {
        self.model.look(self.now());
        let (day, month) = (self.model.today(), self.model.this_month());
        let found = || {
            let status = self.world.status();
            let of = |kind: &Bucket<NanoUsd>| (kind.posted.0, kind.pending.0, kind.held.0);
            let tokens = &status.tokens_per_day;
            (of(&status.usd_per_day), of(&status.usd_per_month), (tokens.posted, tokens.pending, tokens.held))
        };
        let money = |sums: Sums| (sums.posted, sums.pending, sums.held);
        let tokens = (day.posted_tokens, day.pending_tokens, day.held_tokens);
        let expected = (money(day), money(month), tokens);
        // What another process settles is seen once its row is durable.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.old.is_empty() && found() != expected && Instant::now() < deadline {
            std::thread::yield_now();
        }
        prop_assert_eq!(found(), expected);
        Ok(())
    }

    /// Every process's rows are durable.
    fn flush(&self) {
        self.old.iter().chain([&self.world.store]).for_each(|store| flush(store).unwrap());
    }

    fn same_on_disk(&self, books: &Books) {
        let bills =
            |rows: &Books| rows.rows.iter().map(|(id, row)| (*id, (row.2.0, row.3.0))).collect::<BTreeMap<_, _>>();
        let expected: BTreeMap<_, _> =
            self.model.rows.iter().map(|(id, (_, sums))| (*id, (sums.posted, sums.held))).collect();
        assert_eq!(bills(books), expected);
    }

    /// Everything ends; the disk is the model.
    fn finish(mut self) {
        for ticket in std::mem::take(&mut self.open) {
            let reserved = *ticket.reservation().unwrap();
            ticket.settle(end(Outcome::Void, usage(0, 0)));
            self.model.settle(reserved, 0, 0);
        }
        self.compare().unwrap();
        self.flush();
        self.same_on_disk(&self.world.books());
        assert_eq!(self.world.store.in_flight(), 0);
    }
}

fn resolve(dir: &Path) {
    let mut conn = open::writable(&dir.join("openclawmu.db")).unwrap();
    drop(resolve_dead(&mut conn, dir, 999_999, |_, _| Ok(Some(price()))).unwrap());
}

fn row_of(reservation: Reservation, usage: Usage, cost: i64) -> LedgerRow {
    let settlement = Settlement {
        outcome: Outcome::Complete,
        http_status: 200,
        estimated: false,
        usage,
        service_tier: ServiceTier::Standard,
        first_byte_ms: 1,
        duration_ms: 2,
    };
    settled_row(reservation, settlement, NanoUsd(cost))
}

fn write_again(dir: &Path, row: &LedgerRow) {
    let mut conn = open::writable(&dir.join("openclawmu.db")).unwrap();
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    row::insert(&tx, [*row].iter()).unwrap();
    tx.commit().unwrap();
}

fn played(start: &'static str, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut history = History::new(start);
    history.now();
    for step in steps {
        history.step(step)?;
    }
    history.finish();
    Ok(())
}

/// D-01: reserve, post, void, abandon, die, be replayed, settle late, settle twice, jump in time, change zone
/// and caps, hand over. 1,000 histories in a soak run, else 50.
#[test]
fn every_history_with_deaths_in_it_is_that_of_the_model() {
    let cases = if std::env::var_os("OPENCLAWMU_SOAK").is_some_and(|soak| soak == "1") { 1_000 } else { 50 };
    // Before the ends of a month and a year, and before clocks are turned in Berlin, New York and on Lord Howe.
    let starts = vec![
        "2026-11-29T12:00:00Z",
        "2026-12-31T10:00:00Z",
        "2026-03-28T20:00:00Z",
        "2026-10-31T20:00:00Z",
        "2026-04-04T10:00:00Z",
    ];
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&(prop::sample::select(starts), steps()), |(start, steps)| {
        // On a thread of its own, since readers are kept for each thread.
        std::thread::scope(|scope| scope.spawn(|| played(start, steps)).join().unwrap())
    });
    if let Err(err) = result {
        panic!("{err}");
    }
}
