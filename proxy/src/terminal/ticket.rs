//! Tickets: what opens one WebSocket, once. They live in memory alone, as hashes, and die with the process.
//!
//! A ticket is `<name>.<secret>`: the name finds it, and is no secret; the secret has 256 random bits, and its SHA-256 is compared
//! in constant time. The credential by which a page comes back after a reload is a ticket too: it leads to the terminal that it was
//! handed out on, and to nothing else; each use gives another in its place.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openclawmu_store::{TenantId, UnixMs};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::refusal::Refusal;

/// How long a ticket is good.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);
/// How long what a page comes back with is good at most: longer than any terminal lives.
const RETURN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// How many tickets of one tenant may be out at once.
const MAX_PER_TENANT: usize = 64;
/// How many of those that pages come back with one terminal may have; past it the oldest goes.
const MAX_RETURNS: usize = 32;
/// Bytes of a ticket's name, and of its secret.
const NAME_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// What a ticket is good for.
pub(super) trait Leads {
    /// Whose it is.
    fn tenant(&self) -> &TenantId;
    /// The terminal that it leads to.
    fn session(&self) -> &str;
}

/// Every ticket that is out.
pub(super) struct Tickets<G>(Mutex<Out<G>>);

struct Out<G> {
    tickets: HashMap<String, Ticket<G>>,
    issued: u64,
}

struct Ticket<G> {
    secret: [u8; 32],
    grant: G,
    expires_at: UnixMs,
    /// Its place in the order of all.
    number: u64,
    /// It was handed out on its terminal, to come back.
    returns: bool,
}

impl<G> Default for Tickets<G> {
    fn default() -> Self {
        Self(Mutex::new(Out { tickets: HashMap::new(), issued: 0 }))
    }
}

impl<G: Leads> Tickets<G> {
    /// A ticket that is good for a minute, and when it is not any more.
    ///
    /// # Errors
    /// 429 where the tenant has too many out; 503 where the system gives no random bytes.
    pub(super) fn issue(&self, grant: G, now: UnixMs) -> Result<(String, UnixMs), Refusal> {
        let expires_at = now.plus_ms(milliseconds(LIFETIME));
        let mut out = self.lock();
        out.drop_expired(now);
        if out.of(grant.tenant()).filter(|ticket| !ticket.returns).count() >= MAX_PER_TENANT {
            return Err(Refusal::Bad {
                status: 429,
                param: None,
                code: Some("too_many_tickets"),
                message: format!(
                    "{MAX_PER_TENANT} tickets of this tenant are waiting to be used. Each lives for a minute."
                ),
            });
        }
        Ok((out.add(grant, expires_at, false)?, expires_at))
    }

    /// What a page comes back with, to this grant's terminal.
    ///
    /// # Errors
    /// 503 where the system gives no random bytes.
    pub(super) fn issue_return(&self, grant: G, now: UnixMs) -> Result<String, Refusal> {
        let mut out = self.lock();
        out.drop_expired(now);
        let of_session = |ticket: &&Ticket<G>| ticket.returns && ticket.grant.session() == grant.session();
        let oldest =
            out.tickets.iter().filter(|(_, ticket)| of_session(ticket)).min_by_key(|(_, ticket)| ticket.number);
        let oldest = oldest.map(|(name, _)| name.clone());
        if out.tickets.values().filter(of_session).count() >= MAX_RETURNS
            && let Some(oldest) = oldest
        {
            out.tickets.remove(&oldest);
        }
        out.add(grant, now.plus_ms(milliseconds(RETURN_LIFETIME)), true)
    }

    /// What a ticket is good for, which it is not any more after this.
    pub(super) fn redeem(&self, presented: &str, now: UnixMs) -> Option<G> {
        let (name, secret) = presented.split_once('.')?;
        let mut out = self.lock();
        let is_it = out.tickets.get(name)?.secret.ct_eq(&hashed(secret));
        if !bool::from(is_it) {
            return None;
        }
        out.tickets.remove(name).filter(|ticket| now < ticket.expires_at).map(|ticket| ticket.grant)
    }

    /// Forgets what leads to a terminal that is gone.
    pub(super) fn forget(&self, session: &str) {
        self.lock().tickets.retain(|_, ticket| ticket.grant.session() != session);
    }

    fn lock(&self) -> MutexGuard<'_, Out<G>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G: Leads> Out<G> {
    fn of<'a>(&'a self, tenant: &'a TenantId) -> impl Iterator<Item = &'a Ticket<G>> {
        self.tickets.values().filter(move |ticket| ticket.grant.tenant() == tenant)
    }

    fn drop_expired(&mut self, now: UnixMs) {
        self.tickets.retain(|_, ticket| now < ticket.expires_at);
    }

    fn add(&mut self, grant: G, expires_at: UnixMs, returns: bool) -> Result<String, Refusal> {
        let (name, secret) = (random::<NAME_BYTES>()?, random::<SECRET_BYTES>()?);
        let value = format!("{name}.{secret}");
        self.issued = self.issued.wrapping_add(1);
        let ticket = Ticket { secret: hashed(&secret), grant, expires_at, number: self.issued, returns };
        self.tickets.insert(name, ticket);
        Ok(value)
    }
}

/// So many random bytes, as text.
///
/// # Errors
/// 503 where the system gives none.
pub(super) fn random<const BYTES: usize>() -> Result<String, Refusal> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|err| {
        tracing::error!(%err, "the system gives no random bytes");
        Refusal::Store
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn hashed(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct To(TenantId, &'static str);

    impl Leads for To {
        fn tenant(&self) -> &TenantId {
            &self.0
        }

        fn session(&self) -> &str {
            self.1
        }
    }

    fn grant(tenant: &str, session: &'static str) -> To {
        To(tenant.parse().unwrap(), session)
    }

    const NOW: UnixMs = UnixMs(1_000_000);

    /// T-01
    #[test]
    fn a_ticket_opens_once_and_within_a_minute() {
        let tickets = Tickets::default();
        let (ticket, expires_at) = tickets.issue(grant("acme", "one"), NOW).unwrap();
        assert_eq!(expires_at, NOW.plus_ms(60_000));
        assert_eq!(tickets.redeem(&ticket, NOW.plus_ms(59_999)).unwrap().session(), "one");
        assert!(tickets.redeem(&ticket, NOW).is_none(), "a second time");
        let (late, _) = tickets.issue(grant("acme", "two"), NOW).unwrap();
        assert!(tickets.redeem(&late, expires_at).is_none());
        assert!(tickets.redeem(&late, NOW).is_none(), "what was found expired is gone");
    }

    /// T-01
    #[test]
    fn a_wrong_secret_opens_nothing_and_spends_nothing() {
        let tickets = Tickets::default();
        let (ticket, _) = tickets.issue(grant("acme", "one"), NOW).unwrap();
        let (other, _) = tickets.issue(grant("acme", "two"), NOW).unwrap();
        let (name, secret) = ticket.split_once('.').unwrap();
        let foreign = other.split_once('.').unwrap().1;
        assert_eq!(secret.len(), 64);
        for wrong in [
            format!("{name}.{foreign}"),
            format!("{name}."),
            name.to_owned(),
            format!("x.{secret}"),
            ticket.clone() + "0",
        ] {
            assert!(tickets.redeem(&wrong, NOW).is_none(), "{wrong}");
        }
        assert!(tickets.redeem(&ticket, NOW).is_some());
    }

    #[test]
    fn one_tenant_has_so_many_out_and_no_other_is_touched() {
        let tickets = Tickets::default();
        for _ in 0..MAX_PER_TENANT {
            tickets.issue(grant("acme", "one"), NOW).unwrap();
        }
        assert_eq!(tickets.issue(grant("acme", "one"), NOW).unwrap_err().told().status, 429);
        assert!(tickets.issue(grant("other", "two"), NOW).is_ok());
        assert!(tickets.issue(grant("acme", "one"), NOW.plus_ms(60_000)).is_ok(), "those are expired");
    }

    #[test]
    fn what_a_page_comes_back_with_is_bounded_and_goes_with_its_terminal() {
        let tickets = Tickets::default();
        let first = tickets.issue_return(grant("acme", "one"), NOW).unwrap();
        let second = tickets.issue_return(grant("acme", "one"), NOW).unwrap();
        for _ in 1..MAX_RETURNS {
            tickets.issue_return(grant("acme", "one"), NOW).unwrap();
        }
        assert!(tickets.redeem(&first, NOW).is_none(), "the oldest went");
        assert!(tickets.redeem(&second, NOW.plus_ms(3_600_000)).is_some());
        let last = tickets.issue_return(grant("acme", "one"), NOW).unwrap();
        let other = tickets.issue_return(grant("acme", "two"), NOW).unwrap();
        tickets.forget("one");
        assert!(tickets.redeem(&last, NOW).is_none());
        assert!(tickets.redeem(&other, NOW).is_some());
    }
}
