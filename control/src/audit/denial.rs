//! Attempts that were refused, on their way to the audit log: however many there are, they make few lines.
//!
//! The first of its kind is told at once, the others of the same minute together, with how many they were. Two are of a kind
//! when they came from one address, by one caller, for one reason, at one route. Past a number of kinds a minute all others
//! are one kind.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openclawmu_store::{Actor, ActorKind, AuditNote, AuditOutcome, Clock, TenantId, UnixMs};
use serde_json::json;

/// How long attempts of a kind are counted together.
const WINDOW_MS: i64 = 60_000;
/// Kinds that are told apart at once.
const MAX_KINDS: usize = 256;

/// An attempt that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Denial {
    /// `noun.verb`.
    pub action: &'static str,
    /// In which role it was tried, and by whom; nobody where that was not proved.
    pub actor: (ActorKind, String),
    /// From where; a whole network where that is one customer's.
    pub ip: Option<IpAddr>,
    /// The code that was answered.
    pub reason: &'static str,
    /// The status that was answered.
    pub status: u16,
    /// The method and the route, as the route is named.
    pub route: String,
    /// The tenant that it was about.
    pub tenant: Option<TenantId>,
}

/// Refused attempts that are to be told.
#[derive(Debug, Default)]
pub struct Denials(Mutex<HashMap<Denial, Count>>);

#[derive(Debug)]
struct Count {
    opened_ms: i64,
    /// Not told yet.
    count: u64,
    /// Of the first that is not told.
    first: Option<(UnixMs, Option<String>)>,
    is_told: bool,
}

/// A line to be written.
pub(super) type Told = (UnixMs, Actor, AuditNote);

impl Denials {
    /// Counts an attempt.
    pub fn add(&self, clock: &dyn Clock, denial: Denial, request_id: Option<String>) {
        let mut kinds = self.lock();
        let kind = if kinds.len() < MAX_KINDS || kinds.contains_key(&denial) { denial } else { others() };
        let count = kinds.entry(kind).or_insert_with(|| Count {
            opened_ms: clock.monotonic_ms(),
            count: 0,
            first: None,
            is_told: false,
        });
        count.count = count.count.saturating_add(1);
        count.first.get_or_insert_with(|| (clock.now(), request_id));
    }

    /// What is to be told now; of `all` also what would be counted on. Those are forgotten here: who can't write them gives them
    /// back.
    pub(super) fn take(&self, clock: &dyn Clock, all: bool) -> Vec<(Denial, Told, u64)> {
        let (mut taken, now_ms) = (Vec::new(), clock.monotonic_ms());
        self.lock().retain(|kind, count| {
            let is_over = now_ms.saturating_sub(count.opened_ms) >= WINDOW_MS;
            if (!count.is_told || is_over || all)
                && let Some((at, request_id)) = count.first.take()
            {
                let number = std::mem::take(&mut count.count);
                count.is_told = true;
                taken.push((kind.clone(), kind.told(at, request_id, number), number));
            }
            !is_over
        });
        taken
    }

    /// What could not be told.
    pub(super) fn give_back(&self, clock: &dyn Clock, taken: Vec<(Denial, Told, u64)>) {
        let mut kinds = self.lock();
        for (kind, (at, actor, _), number) in taken {
            let opened_ms = clock.monotonic_ms();
            let count = kinds.entry(kind).or_insert(Count { opened_ms, count: 0, first: None, is_told: false });
            count.count = count.count.saturating_add(number);
            count.first = Some((at, actor.request_id));
            count.is_told = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Denial, Count>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Denial {
    fn told(&self, at: UnixMs, request_id: Option<String>, count: u64) -> Told {
        let (kind, id) = self.actor.clone();
        let actor = Actor { kind, id, ip: self.ip, request_id };
        let outcome = if self.status >= 500 { AuditOutcome::Failed } else { AuditOutcome::Denied };
        let detail = json!({"reason": self.reason, "status": self.status, "route": self.route, "count": count});
        let note = AuditNote { action: self.action, tenant: self.tenant.clone(), target: None, outcome, detail };
        (at, actor, note)
    }
}

/// Stands for all that there is no room for.
fn others() -> Denial {
    Denial {
        action: "admin.denied",
        actor: (ActorKind::Unknown, String::new()),
        ip: None,
        reason: "many_kinds",
        status: 403,
        route: String::new(),
        tenant: None,
    }
}

#[cfg(test)]
mod tests {
    use openclawmu_store::ManualClock;

    use super::*;

    fn denial(host: u32) -> Denial {
        Denial { ip: Some(IpAddr::V4(std::net::Ipv4Addr::from_bits(host))), reason: "admin_key_needed", ..others() }
    }

    fn counts(taken: &[(Denial, Told, u64)]) -> Vec<u64> {
        taken.iter().map(|taken| taken.1.2.detail["count"].as_u64().unwrap()).collect()
    }

    #[test]
    fn u_08_the_first_is_told_at_once_and_the_rest_of_its_minute_together() {
        let (denials, clock) = (Denials::default(), ManualClock::new(UnixMs(1_000_000)));
        denials.add(&clock, denial(1), Some("req_1".to_owned()));
        let first = denials.take(&clock, false);
        assert_eq!((counts(&first), first[0].1.1.request_id.as_deref()), (vec![1], Some("req_1")));
        for _ in 0..1_000 {
            denials.add(&clock, denial(1), None);
        }
        denials.add(&clock, denial(2), None);
        assert_eq!(counts(&denials.take(&clock, false)), [1], "another address is another kind");
        clock.set(UnixMs(1_060_000));
        assert_eq!(counts(&denials.take(&clock, false)), [1_000]);
        assert!(denials.lock().is_empty(), "what is over is forgotten");
    }

    #[test]
    fn u_08_what_could_not_be_told_is_told_later() {
        let (denials, clock) = (Denials::default(), ManualClock::new(UnixMs(0)));
        denials.add(&clock, denial(1), None);
        let taken = denials.take(&clock, false);
        denials.add(&clock, denial(1), None);
        denials.give_back(&clock, taken);
        assert_eq!(counts(&denials.take(&clock, false)), [2]);
        denials.add(&clock, denial(1), None);
        assert!(denials.take(&clock, false).is_empty());
        assert_eq!(counts(&denials.take(&clock, true)), [1], "at the end everything is");
    }

    #[test]
    fn u_08_a_flood_from_everywhere_makes_a_bounded_number_of_lines() {
        let (denials, clock) = (Denials::default(), ManualClock::new(UnixMs(0)));
        for host in 0..100_000 {
            denials.add(&clock, denial(host), None);
        }
        let taken = denials.take(&clock, false);
        assert_eq!(taken.len(), MAX_KINDS + 1);
        assert_eq!(counts(&taken).iter().sum::<u64>(), 100_000, "each is counted");
    }
}
