//! What a calendar window of a tenant holds, and which window is the current one.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::TenantKey;
use crate::ledger::row::{Bill, LedgerRow, Reservation, signed, unsigned};
use crate::money::NanoUsd;
use crate::window::{Windows, Zone};

/// The two kinds of calendar windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Period {
    Day,
    Month,
}

impl Period {
    /// The name in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    fn number(self, windows: &Windows) -> i32 {
        match self {
            Self::Day => windows.day,
            Self::Month => windows.month,
        }
    }

    fn end(self, number: i32, zone: &Zone) -> UnixMs {
        match self {
            Self::Day => Windows::end_of_day(number, zone),
            Self::Month => Windows::end_of_month(number, zone),
        }
    }

    /// Whether a window ahead of `now` is believed after a start: a clock that was set back reopens nothing. One that is
    /// further ahead than a clock is ever set back was posted into by a clock that ran wild; it counts for nothing, or
    /// nobody could spend until it is over.
    fn is_plausible(self, newest: i32, now: i32) -> bool {
        let ahead = match self {
            Self::Day => 7,
            Self::Month => 1,
        };
        newest > now && newest.saturating_sub(now) <= ahead
    }
}

/// One calendar window's sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    pub(crate) number: i32,
    pub(crate) ends_at: UnixMs,
    pub(crate) posted: NanoUsd,
    pub(crate) pending: NanoUsd,
    pub(crate) held: NanoUsd,
    pub(crate) posted_tokens: u64,
    pub(crate) pending_tokens: u64,
    pub(crate) held_tokens: u64,
    /// Seconds of the sandbox.
    pub(crate) posted_sandbox_seconds: u64,
    pub(crate) pending_sandbox_seconds: u64,
    /// The highest threshold of each cap that was offered, in percent.
    pub(crate) told_usd: u8,
    pub(crate) told_tokens: u8,
    /// Whether the thresholds were looked at since this window was read.
    pub(crate) looked_at: bool,
}

impl Window {
    /// The end of a window of which only another process's reservations are known yet.
    pub(crate) const UNASKED: UnixMs = UnixMs(i64::MIN);

    pub(crate) fn used(&self) -> NanoUsd {
        self.posted.saturating_add(self.pending).saturating_add(self.held)
    }

    pub(crate) fn used_tokens(&self) -> u64 {
        self.posted_tokens.saturating_add(self.pending_tokens).saturating_add(self.held_tokens)
    }

    pub(crate) fn used_sandbox_seconds(&self) -> u64 {
        self.posted_sandbox_seconds.saturating_add(self.pending_sandbox_seconds)
    }

    /// What has been posted into window `number`; nothing, when that is nothing.
    pub(crate) fn load(
        conn: &Connection,
        (tenant, period): (TenantKey, Period),
        number: i32,
        ends_at: UnixMs,
    ) -> Result<Self> {
        let sql = "SELECT posted_nanos, held_nanos, posted_tokens, held_tokens, posted_sandbox_seconds FROM windows
            WHERE tenant = ?1 AND kind = ?2 AND number = ?3";
        let found = conn.prepare_cached(sql)?.query_row(params![tenant.0, period.name(), number], |row| {
            Ok(Self {
                number,
                ends_at,
                posted: NanoUsd(row.get(0)?),
                held: NanoUsd(row.get(1)?),
                posted_tokens: unsigned(row, 2)?,
                held_tokens: unsigned(row, 3)?,
                posted_sandbox_seconds: unsigned(row, 4)?,
                ..Self::default()
            })
        });
        Ok(found.optional()?.unwrap_or(Self { number, ends_at, ..Self::default() }))
    }

    /// The window to go on with. In another zone, or under a clock that went back, the calendar may be behind `old`, or
    /// behind the newest window that was posted into before this start: windows only move forward. An `old` that no
    /// calendar was asked for is that of another process's reservations.
    pub(crate) fn current(
        conn: &Connection,
        of: (TenantKey, Period),
        old: Option<Self>,
        (windows, zone): (&Windows, &Zone),
    ) -> Result<Self> {
        let period = of.1;
        let now = period.number(windows);
        let floor = match old {
            Some(old) if old.ends_at != Self::UNASKED => now,
            Some(_) | None => newest(conn, of)?.filter(|newest| period.is_plausible(*newest, now)).unwrap_or(now),
        };
        let number = old.map_or(floor, |old| old.number.max(floor));
        let ends_at = period.end(number, zone);
        match old {
            Some(old) if old.number == number => Ok(Self { ends_at, ..old }),
            Some(_) | None => Self::load(conn, of, number, ends_at),
        }
    }

    pub(crate) fn reserve(&mut self, usd: NanoUsd, tokens: u64, sandbox_seconds: u32) {
        self.pending = self.pending.saturating_add(usd);
        self.pending_tokens = self.pending_tokens.saturating_add(tokens);
        self.pending_sandbox_seconds = self.pending_sandbox_seconds.saturating_add(sandbox_seconds.into());
    }

    /// Resolves a reservation of this window: pending becomes posted and held.
    pub(crate) fn resolve(&mut self, reservation: &Reservation, bill: Bill) {
        self.release(reservation.reserved, reservation.reserved_tokens, reservation.sandbox_seconds);
        self.post(bill);
    }

    /// Adds the bill of a row.
    pub(crate) fn post(&mut self, bill: Bill) {
        self.posted = self.posted.saturating_add(bill.cost);
        self.held = self.held.saturating_add(bill.held);
        self.posted_tokens = self.posted_tokens.saturating_add(bill.tokens);
        self.held_tokens = self.held_tokens.saturating_add_signed(bill.held_tokens);
        self.posted_sandbox_seconds = self.posted_sandbox_seconds.saturating_add(bill.sandbox_seconds);
    }

    pub(crate) fn release(&mut self, usd: NanoUsd, tokens: u64, sandbox_seconds: u32) {
        self.pending = self.pending.saturating_sub(usd);
        self.pending_tokens = self.pending_tokens.saturating_sub(tokens);
        self.pending_sandbox_seconds = self.pending_sandbox_seconds.saturating_sub(sandbox_seconds.into());
    }
}

const POST: &str = "
    INSERT INTO windows (tenant, kind, number, posted_nanos, held_nanos, posted_tokens, held_tokens, posted_sandbox_seconds)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (tenant, kind, number) DO UPDATE SET
        posted_nanos = posted_nanos + excluded.posted_nanos, held_nanos = held_nanos + excluded.held_nanos,
        posted_tokens = posted_tokens + excluded.posted_tokens, held_tokens = held_tokens + excluded.held_tokens,
        posted_sandbox_seconds = posted_sandbox_seconds + excluded.posted_sandbox_seconds";

/// Adds rows of one tenant to its windows.
pub(super) fn post(tx: &Transaction<'_>, rows: &[&LedgerRow]) -> Result<()> {
    let mut sums: BTreeMap<(TenantKey, Period, i32), Bill> = BTreeMap::new();
    for row in rows {
        let (r, bill) = (&row.reservation, row.bill());
        for (period, number) in [(Period::Day, r.day), (Period::Month, r.month)] {
            sums.entry((r.tenant, period, number)).or_default().add(bill);
        }
    }
    let mut post = tx.prepare_cached(POST)?;
    for ((tenant, period, number), sum) in sums {
        post.execute(params![
            tenant.0,
            period.name(),
            number,
            sum.cost.0,
            sum.held.0,
            signed(sum.tokens),
            sum.held_tokens,
            signed(sum.sandbox_seconds),
        ])?;
    }
    Ok(())
}

/// The newest window that the tenant has posted into.
fn newest(conn: &Connection, (tenant, period): (TenantKey, Period)) -> Result<Option<i32>> {
    let sql = "SELECT max(number) FROM windows WHERE tenant = ?1 AND kind = ?2";
    Ok(conn.prepare_cached(sql)?.query_row(params![tenant.0, period.name()], |row| row.get(0))?)
}
