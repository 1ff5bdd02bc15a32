//! A tenant's budget in memory: calendar windows, rates and concurrency under one short lock, so that a request takes from
//! every bucket or from none. `posted + pending + held + want <= cap` holds at every admission.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::client_secret::SecretCap;
use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::{SecretKey, TenantKey};
use crate::ledger::alert::{Alerts, Offer};
use crate::ledger::bucket::Bucket;
use crate::ledger::cap::Caps;
use crate::ledger::refused::{BudgetKind, RateKind, Refused, Standing};
use crate::ledger::row::{Bill, LedgerRow, Reservation};
use crate::ledger::sums::{Period, Window};
use crate::money::NanoUsd;
use crate::quota::Quota;
use crate::sqlite::reader::Reader;
use crate::usage::ServiceTier;
use crate::window::{Windows, Zone};

/// Everything that a demand takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) usd: NanoUsd,
    pub(crate) tokens: u64,
    /// Of these, what counts against the rate of a minute: a batch runs when its provider has room.
    pub(crate) paced_tokens: u64,
    /// Seconds of the sandbox.
    pub(crate) sandbox_seconds: u32,
    /// False for a retry, which the client did not ask for.
    pub(crate) counts_as_request: bool,
    /// Its request has a place among those in flight already.
    pub(crate) has_place: bool,
    /// What the client secret that asks may use.
    pub(crate) cap: Option<SecretCap>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) day: Window,
    pub(crate) month: Window,
    pub(crate) zone: Option<Zone>,
    requests: Bucket,
    tokens: Bucket,
    pub(crate) concurrent: u32,
    caps: Caps,
}

/// One tenant's budget.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) tenant: TenantKey,
    state: Mutex<Option<State>>,
}

/// What a demand is held against, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits<'a> {
    pub(crate) quota: &'a Quota,
    pub(crate) zone: &'a Zone,
    /// For the calendar windows.
    pub(crate) now: UnixMs,
    /// For the rates: monotonic.
    pub(crate) now_ms: i64,
}

/// What an admission took and from which windows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) day: i32,
    pub(crate) month: i32,
    pub(crate) standing: Standing,
    /// A window was opened or read from the store: its thresholds have not been looked at.
    pub(crate) opened: bool,
}

impl Budget {
    pub(crate) fn new(tenant: TenantKey) -> Self {
        Self { tenant, state: Mutex::new(None) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `want` from every bucket, or refuses and takes nothing.
    pub(crate) fn take(&self, reader: &Reader, limits: Limits<'_>, want: Want) -> Result<Taken, Refused> {
        let mut guard = self.lock();
        let state =
            current(&mut guard, self.tenant, reader, limits).map_err(|err| Refused::Unavailable(err.to_string()))?;
        state.refill(limits.quota, limits.now_ms);
        state.check_budgets(limits.quota, want)?;
        state.check_rates(limits.quota, want)?;
        if let Some(cap) = want.cap {
            let usd_left = state.usd_left(limits.quota);
            state.caps.check(reader, (cap, want), (usd_left, limits.now))?;
            state.caps.reserve(cap.key, want);
        }
        state.day.reserve(want.usd, want.tokens, want.sandbox_seconds);
        state.month.reserve(want.usd, want.tokens, want.sandbox_seconds);
        if want.counts_as_request {
            state.requests.take(1);
        }
        state.tokens.take(want.paced_tokens);
        state.concurrent = state.concurrent.saturating_add(1);
        let opened = !(state.day.looked_at && state.month.looked_at);
        Ok(Taken {
            day: state.day.number,
            month: state.month.number,
            standing: state.standing_of(want.cap.map(|cap| cap.key), limits.quota, limits.now),
            opened,
        })
    }

    /// What `see` makes of the state; `None` while there is none.
    pub(crate) fn with<T>(&self, see: impl FnOnce(&mut State) -> T) -> Option<T> {
        self.lock().as_mut().map(see)
    }

    /// Undoes [`Budget::take`] for a reservation that never came to be.
    pub(crate) fn undo(&self, taken: &Taken, want: Want, quota: &Quota) {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return };
        state.each_window(taken.day, taken.month, |window| window.release(want.usd, want.tokens, want.sandbox_seconds));
        if want.counts_as_request {
            state.requests.put_back(quota.requests_per_minute.unwrap_or(u32::MAX).into(), 1);
        }
        state.tokens.put_back(quota.tokens_per_minute.unwrap_or(u64::MAX), want.paced_tokens);
        state.concurrent = state.concurrent.saturating_sub(1);
        if let Some(cap) = want.cap {
            state.caps.undo(cap.key, want);
        }
    }

    /// Posts a row of this process's own reservation and ends its place in flight. Gives the thresholds that it reached.
    pub(crate) fn settle(&self, row: &LedgerRow, quota: &Quota, alerts: Option<&Alerts>) -> (Standing, Vec<Offer>) {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return (Standing::default(), Vec::new()) };
        state.each_window(row.reservation.day, row.reservation.month, |window| {
            window.resolve(&row.reservation, row.bill())
        });
        state.caps.resolve(&row.reservation, row.bill());
        let unused = row.reservation.reserved_tokens.saturating_sub(row.settlement.usage.total_tokens());
        let paced = row.reservation.service_tier != ServiceTier::Batch;
        if let Some(limit) = quota.tokens_per_minute.filter(|_| paced) {
            state.tokens.put_back(limit, unused);
        }
        state.concurrent = state.concurrent.saturating_sub(1);
        let mut reached = Vec::new();
        if let Some(alerts) = alerts {
            reached = state.reached(alerts, self.tenant, quota);
            if (row.reservation.day, row.reservation.month) != (state.day.number, state.month.number) {
                reached.extend(state.late(alerts, quota, &row.reservation));
            }
        }
        (state.standing_of(row.reservation.secret, quota, row.settled_at()), reached)
    }

    /// Counts a reservation that another process still holds. The caller reads `conn` in the snapshot that lacks its row.
    pub(crate) fn add_foreign(&self, conn: &Connection, foreign: &Reservation) -> Result<()> {
        let mut guard = self.lock();
        if guard.as_ref().is_none_or(|state| state.day.number < foreign.day) {
            // The first admission asks the calendar.
            let day = Window::load(conn, (self.tenant, Period::Day), foreign.day, Window::UNASKED)?;
            let month = match guard.as_ref().map(|state| state.month) {
                Some(month) if month.number >= foreign.month => month,
                Some(_) | None => Window::load(conn, (self.tenant, Period::Month), foreign.month, Window::UNASKED)?,
            };
            let (concurrent, caps) = guard.take().map(|state| (state.concurrent, state.caps)).unwrap_or_default();
            *guard = Some(State { concurrent, caps, ..State::new(day, month) });
        }
        if let Some(state) = guard.as_mut() {
            state.each_window(foreign.day, foreign.month, |window| {
                window.reserve(foreign.reserved, foreign.reserved_tokens, foreign.sandbox_seconds)
            });
            state.concurrent = state.concurrent.saturating_add(1);
            state.caps.add_foreign(conn, foreign)?;
        }
        Ok(())
    }

    /// Posts the bill that another process, or its recovery, wrote for a reservation counted by [`Budget::add_foreign`].
    pub(crate) fn resolve_foreign(&self, foreign: &Reservation, bill: Bill) {
        if let Some(state) = self.lock().as_mut() {
            state.each_window(foreign.day, foreign.month, |window| window.resolve(foreign, bill));
            state.caps.resolve(foreign, bill);
            state.concurrent = state.concurrent.saturating_sub(1);
        }
    }

    /// The windows that a row of this moment posts into: day and month. They are in memory afterwards, so that a row which is
    /// written later is not in them until [`Budget::adjust`] says so.
    pub(crate) fn windows(&self, reader: &Reader, limits: Limits<'_>) -> Result<(i32, i32)> {
        let mut guard = self.lock();
        let state = current(&mut guard, self.tenant, reader, limits)?;
        Ok((state.day.number, state.month.number))
    }

    /// Adds the bill of a row that had no reservation to its windows, where they are the current ones. To be called once
    /// for each row, after its commit.
    pub(crate) fn adjust(&self, (day, month): (i32, i32), bill: Bill) {
        if let Some(state) = self.lock().as_mut() {
            state.each_window(day, month, |window| window.post(bill));
        }
    }

    /// A copy of the windows as they were last used; `None` before the first use.
    pub(crate) fn look(&self) -> Option<[(Period, Window); 2]> {
        self.lock().as_ref().map(|state| [(Period::Day, state.day), (Period::Month, state.month)])
    }

    /// A copy of the windows and the rates' standing, for the quota routes.
    pub(crate) fn inspect<T>(
        &self,
        reader: &Reader,
        limits: Limits<'_>,
        see: impl FnOnce(&State, Standing) -> T,
    ) -> Result<T> {
        let mut guard = self.lock();
        let state = current(&mut guard, self.tenant, reader, limits)?;
        state.refill(limits.quota, limits.now_ms);
        let standing = state.standing(limits.quota, limits.now);
        Ok(see(state, standing))
    }
}

impl State {
    fn new(day: Window, month: Window) -> Self {
        let (requests, tokens) = (Bucket::default(), Bucket::default());
        Self { day, month, zone: None, requests, tokens, concurrent: 0, caps: Caps::default() }
    }

    fn refill(&mut self, quota: &Quota, now_ms: i64) {
        for (bucket, limit) in [
            (&mut self.requests, quota.requests_per_minute.map(u64::from)),
            (&mut self.tokens, quota.tokens_per_minute),
        ] {
            match limit {
                Some(limit) => bucket.refill(limit, now_ms),
                // What is taken while there is no limit must not count against one that comes back.
                None => *bucket = Bucket::default(),
            }
        }
    }

    fn check_budgets(&self, quota: &Quota, want: Want) -> Result<(), Refused> {
        let seconds = u64::from(want.sandbox_seconds);
        let runs_on = |cap: u64| self.day.used_sandbox_seconds().saturating_add(seconds) <= cap;
        if seconds > 0 && !quota.sandbox_seconds_per_day.is_none_or(runs_on) {
            let (kind, resets_at) = (BudgetKind::SandboxSecondsPerDay, self.day.ends_at);
            return Err(Refused::Budget { kind, usd_left: self.usd_left(quota), tokens_left: None, resets_at });
        }
        if want.usd == NanoUsd::ZERO && want.tokens == 0 {
            // What costs nothing goes on past a cap that was lowered.
            return Ok(());
        }
        // Without a cap the sum must still be countable: a sum that saturates would let pending go below zero later.
        let fits = |cap: Option<NanoUsd>, window: &Window| {
            window.used().checked_add(want.usd).is_some_and(|sum| cap.is_none_or(|cap| sum <= cap))
        };
        let tokens_fit =
            quota.tokens_per_day.is_none_or(|cap| self.day.used_tokens().saturating_add(want.tokens) <= cap);
        let (kind, resets_at) = if !fits(quota.usd_per_month, &self.month) {
            (BudgetKind::UsdPerMonth, self.month.ends_at)
        } else if !fits(quota.usd_per_day, &self.day) {
            (BudgetKind::UsdPerDay, self.day.ends_at)
        } else if !tokens_fit {
            (BudgetKind::TokensPerDay, self.day.ends_at)
        } else {
            return Ok(());
        };
        let tokens_left = quota.tokens_per_day.map(|cap| cap.saturating_sub(self.day.used_tokens()));
        Err(Refused::Budget { kind, usd_left: self.usd_left(quota), tokens_left, resets_at })
    }

    fn check_rates(&self, quota: &Quota, want: Want) -> Result<(), Refused> {
        if let Some(limit) = quota.concurrent_requests
            && self.concurrent >= limit
            && !want.has_place
        {
            return Err(Refused::Concurrency { limit });
        }
        let requests = u64::from(want.counts_as_request);
        let rates = [
            (RateKind::Requests, quota.requests_per_minute.map(u64::from), &self.requests, requests),
            (RateKind::Tokens, quota.tokens_per_minute, &self.tokens, want.paced_tokens),
        ];
        for (kind, limit, bucket, units) in rates {
            let Some(limit) = limit else { continue };
            let retry_after_ms = bucket.wait_ms(limit, units);
            if retry_after_ms != Some(0) {
                return Err(Refused::Rate { kind, limit, retry_after_ms });
            }
        }
        Ok(())
    }

    fn usd_left(&self, quota: &Quota) -> Option<NanoUsd> {
        let left =
            |cap: Option<NanoUsd>, window: &Window| cap.map(|cap| cap.saturating_sub(window.used()).max(NanoUsd::ZERO));
        [left(quota.usd_per_day, &self.day), left(quota.usd_per_month, &self.month)].into_iter().flatten().min()
    }

    fn standing(&self, quota: &Quota, at: UnixMs) -> Standing {
        Standing {
            requests: quota.requests_per_minute.map(|limit| self.requests.standing(limit.into())),
            tokens: quota.tokens_per_minute.map(|limit| self.tokens.standing(limit)),
            usd_left: self.usd_left(quota),
            at,
        }
    }

    /// What a client secret's bearer may know: what the secret has left, never what its tenant has.
    fn standing_of(&self, secret: Option<SecretKey>, quota: &Quota, at: UnixMs) -> Standing {
        let standing = self.standing(quota, at);
        match secret {
            None => standing,
            Some(key) => Standing { usd_left: self.caps.left(key), ..standing },
        }
    }

    /// Applies `change` to the windows that a reservation was admitted into, where they are still the current ones.
    fn each_window(&mut self, day: i32, month: i32, change: impl Fn(&mut Window)) {
        for (window, number) in [(&mut self.day, day), (&mut self.month, month)] {
            if window.number == number {
                change(window);
            }
        }
    }
}

/// The state with its windows brought up to `now`. A clock that goes back reopens nothing: windows only move forward.
fn current<'a>(
    slot: &'a mut Option<State>,
    tenant: TenantKey,
    reader: &Reader,
    limits: Limits<'_>,
) -> Result<&'a mut State> {
    let Limits { zone, now, .. } = limits;
    let fresh = slot
        .as_ref()
        .is_some_and(|state| now < state.day.ends_at && now < state.month.ends_at && state.zone.as_ref() == Some(zone));
    if !fresh {
        let windows = Windows::at(now, zone);
        let (day, month) = reader.with(|conn| {
            let (day, month) = (slot.as_ref().map(|state| state.day), slot.as_ref().map(|state| state.month));
            let current = |period, old| Window::current(conn, (tenant, period), old, (&windows, zone));
            Ok((current(Period::Day, day)?, current(Period::Month, month)?))
        })?;
        let state = slot.get_or_insert_with(|| State::new(day, month));
        state.day = day;
        state.month = month;
        state.zone = Some(zone.clone());
    }
    Ok(slot.get_or_insert_with(|| State::new(Window::default(), Window::default())))
}
