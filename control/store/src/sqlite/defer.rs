//! Which batches are worth putting off.
//!
//! A commit is dear by the pages that it changes, about three of each tenant in it: putting rows off until there are many of each
//! makes a row's share small. Few rows are committed at once, so that what is rare can be read at once.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::id::TenantKey;
use crate::ledger::inflight::CAPACITY;
use crate::ledger::journal::Journal;
use crate::seldom::Seldom;
use crate::sqlite::queue::{GATHER, Posting, Shared, Work};

/// Fewer new rows than this in one gathering are committed, with all that were put off.
const FEW: usize = 8;
/// The most rows that are put off: as many more have room in the in-flight table meanwhile.
const MOST: usize = CAPACITY as usize / 2;
/// The most tenants whose rows are put off: with more of them a commit would change so many pages that it takes long, and a row
/// not less for it.
const MOST_TENANTS: usize = 2_048;
/// How long a row is put off at most.
const LONGEST: Duration = Duration::from_secs(5);

/// Rows that could not be put off.
static FAILED: Seldom = Seldom::new();

/// Rows that were put off.
#[derive(Debug)]
pub(super) struct Deferred {
    /// What has those of the present batch, which are its first ones.
    journal: Journal,
    rows: usize,
    tenants: HashSet<TenantKey>,
    since: Instant,
    /// Some of them could not be made safe.
    in_danger: bool,
    /// What has those that come while the batch is committed.
    next: Journal,
    later: Vec<Posting>,
    /// When rows were taken from the queue for the last time.
    pub(super) taken_at: Instant,
}

impl Deferred {
    /// Nothing yet; what comes goes to the journals.
    pub(super) fn to([journal, next]: [Journal; 2]) -> Self {
        let now = Instant::now();
        let (tenants, later) = (HashSet::new(), Vec::new());
        Self { journal, rows: 0, tenants, since: now, in_danger: false, next, later, taken_at: now }
    }

    /// Puts off the batch with what is new in it, safe from a power loss; false when it is to be committed now. While commits are `held`,
    /// few rows are put off too, and as many as there are.
    pub(super) fn put_off(&mut self, batch: &Work, held: bool) -> bool {
        let new = batch.rows.get(self.rows..).unwrap_or_default();
        self.tenants.extend(new.iter().map(|posting| posting.row.reservation.tenant));
        let is_worth = new.len() >= FEW && batch.rows.len() <= MOST && self.tenants.len() <= MOST_TENANTS;
        if !(is_worth || held) || self.in_danger || !batch.is_rows_alone() {
            return false;
        }
        if self.rows == 0 {
            self.since = Instant::now();
        } else if self.since.elapsed() >= LONGEST {
            return false;
        }
        let is_safe = append(&mut self.journal, new);
        if is_safe {
            self.rows = batch.rows.len();
        }
        is_safe
    }

    /// While a batch is committed: makes rows safe that have gathered meanwhile, so that none waits for the whole of it.
    pub(super) fn meanwhile(&mut self, shared: &Shared) {
        if self.taken_at.elapsed() < GATHER || !shared.may_put_off() {
            return;
        }
        self.taken_at = Instant::now();
        let rows = shared.take_rows();
        let at = self.later.len();
        self.later.extend(rows);
        self.in_danger |= !append(&mut self.next, self.later.get(at..).unwrap_or_default());
    }

    /// The whole batch is committed: what it had is forgotten, and what came meanwhile is the beginning of the next one.
    pub(super) fn committed(&mut self, batch: &mut Work) {
        self.journal.clear();
        if self.later.is_empty() {
            self.next.clear();
            self.in_danger = false;
        }
        std::mem::swap(&mut self.journal, &mut self.next);
        (self.rows, self.since) = (self.later.len(), Instant::now());
        self.tenants = self.later.iter().map(|posting| posting.row.reservation.tenant).collect();
        batch.rows.append(&mut self.later);
    }

    /// The batch was not committed: what came meanwhile is a part of it.
    pub(super) fn failed(&mut self, batch: &mut Work) {
        batch.rows.append(&mut self.later);
    }
}

fn append(journal: &mut Journal, rows: &[Posting]) -> bool {
    if rows.is_empty() {
        return true;
    }
    let appended = journal.append(rows.iter().map(|posting| &posting.row));
    if let Err(err) = &appended
        && let Some(unheard) = FAILED.tell()
    {
        tracing::warn!(%err, unheard, "settled rows can't be put off: they are committed a few at a time, which costs more");
    }
    appended.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReservationId;
    use crate::ledger::journal;
    use crate::ledger::row::Outcome;
    use crate::ledger::slot::tests::{reservation, settlement};
    use crate::ledger::ticket::settled_row;
    use crate::money::NanoUsd;

    fn postings(ids: std::ops::RangeInclusive<i64>) -> Vec<Posting> {
        let row = |id| settled_row(reservation(id), settlement(Outcome::Complete), NanoUsd(id));
        ids.map(|id| Posting { row: row(id), slot: 0 }).collect()
    }

    fn of_tenants(ids: std::ops::RangeInclusive<i64>) -> Vec<Posting> {
        let mut postings = postings(ids);
        postings
            .iter_mut()
            .for_each(|posting| posting.row.reservation.tenant = TenantKey(posting.row.reservation.id.0));
        postings
    }

    fn batch(ids: std::ops::RangeInclusive<i64>) -> Work {
        Work { rows: postings(ids), ..Work::default() }
    }

    /// A place of journals, and the ids that are safe there.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> (Self, Deferred) {
            let place = Self(tempfile::tempdir().unwrap());
            let deferred = Deferred::to(Journal::beside(&place.0.path().join("1")));
            (place, deferred)
        }

        fn safe(&self) -> Vec<i64> {
            let rows = journal::read(&self.0.path().join("1")).unwrap();
            let mut ids: Vec<i64> = rows.iter().map(|row| row.reservation.id.0).collect();
            ids.sort_unstable();
            ids
        }
    }

    /// Rows come while a batch is committed, and have gathered for as long as they do.
    fn come(shared: &Shared, deferred: &mut Deferred, ids: std::ops::RangeInclusive<i64>) {
        shared.post(|queue| queue.work.rows.extend(postings(ids)));
        deferred.taken_at = Instant::now().checked_sub(GATHER).unwrap();
        deferred.meanwhile(shared);
    }

    fn ids(range: std::ops::RangeInclusive<i64>) -> Vec<i64> {
        range.collect()
    }

    #[test]
    fn what_comes_while_a_batch_is_committed_is_safe_before_that_ends() {
        let (place, mut deferred) = Place::new();
        let shared = Shared::default();
        let mut batch = batch(1..=20);
        assert!(deferred.put_off(&batch, false));
        shared.post(|queue| queue.work.rows.extend(postings(21..=21)));
        // However slow this machine is, it has not gathered yet.
        deferred.taken_at = Instant::now() + Duration::from_secs(3_600);
        deferred.meanwhile(&shared);
        assert_eq!(place.safe(), ids(1..=20));
        come(&shared, &mut deferred, 22..=22);
        assert_eq!(place.safe(), ids(1..=22));
        come(&shared, &mut deferred, 23..=23);
        batch.forget_rows();
        deferred.committed(&mut batch);
        assert_eq!(place.safe(), ids(21..=23), "what was committed is gone, the rest is not");
        let begun: Vec<ReservationId> = batch.rows.iter().map(|posting| posting.row.reservation.id).collect();
        assert_eq!(begun, [ReservationId(21), ReservationId(22), ReservationId(23)]);
        batch.rows.extend(postings(24..=40));
        assert!(deferred.put_off(&batch, false));
        assert_eq!(place.safe(), ids(21..=40));
        batch.forget_rows();
        deferred.committed(&mut batch);
        assert!(place.safe().is_empty() && batch.rows.is_empty());
    }

    #[test]
    fn after_a_failed_commit_nothing_is_forgotten_and_after_the_next_one_everything() {
        let (place, mut deferred) = Place::new();
        let shared = Shared::default();
        let mut batch = batch(1..=20);
        assert!(deferred.put_off(&batch, false));
        come(&shared, &mut deferred, 21..=30);
        deferred.failed(&mut batch);
        assert_eq!((place.safe(), batch.rows.len()), (ids(1..=30), 30));
        batch.forget_rows();
        deferred.committed(&mut batch);
        assert!(place.safe().is_empty() && batch.rows.is_empty());
    }

    #[test]
    fn rows_that_could_not_be_made_safe_are_not_put_off() {
        let (place, mut deferred) = Place::new();
        let shared = Shared::default();
        let mut batch = batch(1..=20);
        assert!(deferred.put_off(&batch, false));
        let files = std::fs::read_dir(place.0.path()).unwrap().count();
        // The second file can't be made: its name is a directory's.
        std::fs::create_dir(place.0.path().join("1.settled-1")).unwrap();
        assert_eq!(files, 1);
        come(&shared, &mut deferred, 21..=30);
        batch.forget_rows();
        deferred.committed(&mut batch);
        batch.rows.extend(postings(31..=60));
        assert!(!deferred.put_off(&batch, false), "committed at once");
        std::fs::remove_dir(place.0.path().join("1.settled-1")).unwrap();
        batch.forget_rows();
        deferred.committed(&mut batch);
        batch.rows.extend(postings(61..=90));
        assert!(deferred.put_off(&batch, false));
        assert_eq!(place.safe(), ids(61..=90));
    }

    #[test]
    fn few_rows_and_rows_of_too_many_and_what_is_awaited_are_committed_at_once() {
        let (place, mut deferred) = Place::new();
        let few = i64::try_from(FEW).unwrap();
        assert!(!deferred.put_off(&batch(1..=few - 1), false));
        let mut awaited = batch(1..=100);
        awaited.tasks.push(Box::new(|_| Box::new(|_| ())));
        assert!(!deferred.put_off(&awaited, false));
        let many = i64::try_from(MOST_TENANTS).unwrap();
        assert!(!deferred.put_off(&Work { rows: of_tenants(1..=many + 1), ..Work::default() }, false));
        assert!(place.safe().is_empty());
        deferred.committed(&mut Work::default());
        assert!(deferred.put_off(&Work { rows: of_tenants(1..=many), ..Work::default() }, false));
        assert_eq!(place.safe().len(), MOST_TENANTS);
        deferred.committed(&mut Work::default());
        assert!(deferred.put_off(&batch(1..=few), false));
    }

    #[test]
    fn while_commits_are_held_any_number_of_rows_is_put_off_but_nothing_that_is_awaited() {
        let (place, mut deferred) = Place::new();
        assert!(deferred.put_off(&batch(1..=1), true));
        assert!(deferred.put_off(&batch(1..=1), true), "nothing new");
        assert_eq!(place.safe(), ids(1..=1));
        assert!(!deferred.put_off(&batch(1..=1), false), "no longer held");
        let mut awaited = batch(1..=2);
        awaited.tasks.push(Box::new(|_| Box::new(|_| ())));
        assert!(!deferred.put_off(&awaited, true));
        deferred.committed(&mut Work::default());
        let many = i64::try_from(MOST).unwrap() + 1;
        let many = Work { rows: of_tenants(1..=many), ..Work::default() };
        assert!(!deferred.put_off(&many, false));
        assert!(deferred.put_off(&many, true));
        assert_eq!(place.safe().len(), MOST + 1);
        deferred.since = Instant::now().checked_sub(LONGEST).unwrap();
        assert!(!deferred.put_off(&many, true), "no longer than ever");
    }
}
