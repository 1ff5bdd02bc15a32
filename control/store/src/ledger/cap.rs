//! What client secrets with a cap have used, in memory: a part of their tenant's budget, under its lock, so that a request takes
//! from the tenant's buckets and its secret's or from none. A secret's cap has no window: what is spent never comes back.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Connection, OptionalExtension};

use crate::client_secret::SecretCap;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::SecretKey;
use crate::ledger::budget::Want;
use crate::ledger::refused::{Refused, SecretLimit};
use crate::ledger::row::{Bill, Reservation};
use crate::money::NanoUsd;
use crate::sqlite::reader::Reader;

/// How long after its end what a secret has used stays in memory: what is in flight settles meanwhile.
const LINGER_MS: i64 = 60 * 60 * 1000;

/// The secrets of one tenant that have been used since this start.
#[derive(Debug, Default)]
pub(crate) struct Caps(HashMap<SecretKey, Used>);

/// What one secret has used.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    posted: NanoUsd,
    pending: NanoUsd,
    held: NanoUsd,
    requests: u64,
    /// Its cap in dollars, once a request has said it.
    max_cost: Option<NanoUsd>,
    /// When it ends; unknown while only another process's reservations are known.
    ends_at: Option<UnixMs>,
}

impl Used {
    /// What has been posted for a secret by the rows that `conn` sees.
    fn load(conn: &Connection, key: SecretKey) -> Result<Option<Self>> {
        let sql = "SELECT posted_nanos, held_nanos, requests FROM client_secrets WHERE key = ?1";
        let found = conn.prepare_cached(sql)?.query_row([key.0], |row| {
            let requests = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(u64::MAX);
            Ok(Self { posted: NanoUsd(row.get(0)?), held: NanoUsd(row.get(1)?), requests, ..Self::default() })
        });
        Ok(found.optional()?)
    }

    fn total(&self) -> NanoUsd {
        self.posted.saturating_add(self.pending).saturating_add(self.held)
    }

    /// Dollars left under its cap, if it has one.
    fn left(&self) -> Option<NanoUsd> {
        self.max_cost.map(|cap| cap.saturating_sub(self.total()).max(NanoUsd::ZERO))
    }
}

impl Caps {
    /// Refuses what does not fit; `usd_left` is what the tenant has. Takes nothing.
    pub(crate) fn check(
        &mut self,
        reader: &Reader,
        (cap, want): (SecretCap, Want),
        (usd_left, now): (Option<NanoUsd>, UnixMs),
    ) -> Result<(), Refused> {
        let used = self.used(reader, cap, now).map_err(|err| Refused::Unavailable(err.to_string()))?;
        let usd_left = [usd_left, used.left()].into_iter().flatten().min();
        let refused = |limit| Err(Refused::ClientSecret { limit, usd_left, ends_at: cap.expires_at });
        if want.counts_as_request && cap.max_requests.is_some_and(|most| used.requests >= most) {
            return refused(SecretLimit::Requests);
        }
        let sum = used.total().checked_add(want.usd);
        if sum.is_none_or(|sum| cap.max_cost.is_some_and(|most| sum > most)) {
            return refused(SecretLimit::Cost);
        }
        Ok(())
    }

    /// What a secret has used, read from the store the first time.
    fn used(&mut self, reader: &Reader, cap: SecretCap, now: UnixMs) -> Result<Used> {
        if !self.0.contains_key(&cap.key) {
            self.0.retain(|_, used| {
                used.pending > NanoUsd::ZERO || used.ends_at.is_none_or(|end| end.plus_ms(LINGER_MS) > now)
            });
            let found = reader.with(|conn| Used::load(conn, cap.key))?;
            self.0.insert(cap.key, found.ok_or(StoreError::NotFound("client secret"))?);
        }
        let used = self.0.entry(cap.key).or_default();
        (used.max_cost, used.ends_at) = (cap.max_cost, Some(cap.expires_at));
        Ok(*used)
    }

    /// Takes what fits.
    pub(crate) fn reserve(&mut self, key: SecretKey, want: Want) {
        self.take(key, want.usd, want.counts_as_request);
    }

    fn take(&mut self, key: SecretKey, usd: NanoUsd, is_request: bool) {
        let used = self.0.entry(key).or_default();
        used.pending = used.pending.saturating_add(usd);
        used.requests = used.requests.saturating_add(u64::from(is_request));
    }

    /// Gives back what was taken for a reservation that never came to be.
    pub(crate) fn undo(&mut self, key: SecretKey, want: Want) {
        if let Some(used) = self.0.get_mut(&key) {
            used.pending = used.pending.saturating_sub(want.usd);
            used.requests = used.requests.saturating_sub(u64::from(want.counts_as_request));
        }
    }

    /// Resolves a reservation: pending becomes posted and held. Its request stays counted, whatever came of it.
    pub(crate) fn resolve(&mut self, reservation: &Reservation, bill: Bill) {
        let Some(used) = reservation.secret.and_then(|key| self.0.get_mut(&key)) else { return };
        used.pending = used.pending.saturating_sub(reservation.reserved);
        used.posted = used.posted.saturating_add(bill.cost);
        used.held = used.held.saturating_add(bill.held);
    }

    /// Counts a reservation that another process still holds; `conn` is the snapshot that lacks its row.
    pub(crate) fn add_foreign(&mut self, conn: &Connection, foreign: &Reservation) -> Result<()> {
        let Some(key) = foreign.secret else { return Ok(()) };
        if let Entry::Vacant(entry) = self.0.entry(key) {
            entry.insert(Used::load(conn, key)?.unwrap_or_default());
        }
        self.take(key, foreign.reserved, foreign.attempt == 0);
        Ok(())
    }

    /// Dollars left under a secret's cap, if it has one.
    pub(crate) fn left(&self, key: SecretKey) -> Option<NanoUsd> {
        self.0.get(&key).and_then(Used::left)
    }
}
