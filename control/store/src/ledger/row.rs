//! The ledger row: one attempt at an upstream, from reservation to bill. Written once, never changed.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Transaction, params, params_from_iter};

use crate::backup::feed;
use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::{LabelKey, RequestId, ReservationId, SecretKey, TenantKey, TokenKey};
use crate::ledger::{by_tenant, rollup, sums};
use crate::money::{Markup, NanoUsd};
use crate::usage::{ServiceTier, Usage};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider answered in full.
    Complete,
    /// The stream was cut, by either side; what was delivered is billed.
    Partial,
    /// Nothing was received; nothing is billed.
    Void,
    /// Found in the in-flight table of a dead process.
    Recovered,
    /// Dropped without an end, which is a defect of this program; billed at the reserved amount.
    Abandoned,
    /// No attempt: money given back by the operator.
    Credit,
    /// No attempt: what was held for another row is released or billed.
    Resolved,
}

impl Outcome {
    /// Every outcome with its name in the ledger and its number in the in-flight table.
    const ALL: [(Self, &'static str, u8); 7] = [
        (Self::Complete, "complete", 1),
        (Self::Partial, "partial", 2),
        (Self::Void, "void", 3),
        (Self::Recovered, "recovered", 4),
        (Self::Abandoned, "abandoned", 5),
        (Self::Credit, "credit", 6),
        (Self::Resolved, "resolved", 7),
    ];

    /// The name in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or("", |(_, name, _)| name)
    }

    /// The outcome of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(outcome, ..)| *outcome)
    }

    pub(crate) fn code(self) -> u8 {
        Self::ALL.iter().find(|(outcome, ..)| *outcome == self).map_or(0, |(.., code)| *code)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().find(|(.., known)| *known == code).map(|(outcome, ..)| *outcome)
    }
}

/// What was promised before the attempt was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The row's key.
    pub id: ReservationId,
    /// The client request that this attempt serves.
    pub request_id: RequestId,
    /// 0 for the first attempt.
    pub attempt: u16,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// Whose budget.
    pub tenant: TenantKey,
    /// Which of its tokens.
    pub token: TokenKey,
    /// The model's name in the store.
    pub model: u32,
    /// The upstream's name in the store.
    pub upstream: u32,
    /// The rate card version that prices it.
    pub rate_card: u32,
    /// When it was admitted.
    pub admitted_at: UnixMs,
    /// The day window that it posts into.
    pub day: i32,
    /// The month window that it posts into.
    pub month: i32,
    /// The most that it can cost.
    pub reserved: NanoUsd,
    /// The most tokens that it can use.
    pub reserved_tokens: u64,
    /// The part of `reserved_tokens` that is the prompt's.
    pub input_bound: u32,
    /// The most seconds of the sandbox that it can use; 0 of a call to a model.
    pub sandbox_seconds: u32,
    /// The tier that was asked for.
    pub service_tier: ServiceTier,
    /// Whom and what it is for.
    pub label: LabelKey,
    /// What is added to its cost.
    pub markup: Markup,
    /// The client secret whose cap it counts against.
    pub secret: Option<SecretKey>,
}

/// How an attempt ended and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// How it ended.
    pub outcome: Outcome,
    /// The status that the client got.
    pub http_status: u16,
    /// The usage is ours, not the provider's.
    pub estimated: bool,
    /// What it used.
    pub usage: Usage,
    /// The tier that served it, and so its prices.
    pub service_tier: ServiceTier,
    /// Milliseconds from admission to the first byte of the answer.
    pub first_byte_ms: u32,
    /// Milliseconds from admission to the end.
    pub duration_ms: u32,
}

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// What was promised.
    pub reservation: Reservation,
    /// What came of it.
    pub settlement: Settlement,
    /// The bill.
    pub cost: NanoUsd,
    /// Of the reservation, what stays blocked because the provider may have billed it.
    pub held: NanoUsd,
    /// The same in tokens. Below zero in the row that ends a hold.
    pub held_tokens: i64,
}

/// What a resolved reservation does to its windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bill {
    pub(crate) cost: NanoUsd,
    pub(crate) held: NanoUsd,
    pub(crate) tokens: u64,
    pub(crate) held_tokens: i64,
    pub(crate) sandbox_seconds: u64,
}

impl Bill {
    pub(crate) fn add(&mut self, other: Self) {
        self.cost = self.cost.saturating_add(other.cost);
        self.held = self.held.saturating_add(other.held);
        self.tokens += other.tokens;
        self.held_tokens = self.held_tokens.saturating_add(other.held_tokens);
        self.sandbox_seconds = self.sandbox_seconds.saturating_add(other.sandbox_seconds);
    }
}

impl LedgerRow {
    /// What the operator adds to the cost. No budget counts it.
    #[must_use]
    pub fn markup(&self) -> NanoUsd {
        self.reservation.markup.of(self.cost)
    }

    /// When it was settled.
    pub(crate) fn settled_at(&self) -> UnixMs {
        UnixMs(self.reservation.admitted_at.0.saturating_add(self.settlement.duration_ms.into()))
    }

    pub(crate) fn bill(&self) -> Bill {
        Bill {
            cost: self.cost,
            held: self.held,
            tokens: self.settlement.usage.total_tokens(),
            held_tokens: self.held_tokens,
            sandbox_seconds: self.sandbox_seconds(),
        }
    }

    /// Seconds of the sandbox.
    fn sandbox_seconds(&self) -> u64 {
        let ran = self.reservation.sandbox_seconds > 0;
        if ran { u64::from(self.settlement.usage.input_ms.div_ceil(1000)) } else { 0 }
    }
}

/// What rows of runs in the sandbox name in the place of a model and an upstream. No upstream may have this name.
pub const SANDBOX: &str = "sandbox";

/// Seconds of the sandbox, of a row of the ledger or of its sums.
pub(crate) const SANDBOX_SECONDS: &str =
    "CASE WHEN upstream = (SELECT row_id FROM names WHERE name = 'sandbox') THEN input_ms / 1000 ELSE 0 END";

/// The columns before those of [`rollup::USAGE_COLUMNS`].
const COLUMNS: [&str; 26] = [
    "id",
    "tenant",
    "token",
    "model",
    "upstream",
    "rate_card",
    "label",
    "request_id",
    "attempt",
    "outcome",
    "http_status",
    "estimated",
    "stream",
    "service_tier",
    "admitted_at_ms",
    "day",
    "month",
    "first_byte_ms",
    "duration_ms",
    "reserved_nanos",
    "cost_nanos",
    "markup_ppm",
    "markup_nanos",
    "held_nanos",
    "reserved_tokens",
    "held_tokens",
];

static INSERT: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = COLUMNS.iter().chain(&rollup::USAGE_COLUMNS).copied().collect();
    let places = vec!["?"; columns.len()].join(", ");
    format!("INSERT INTO ledger ({}) VALUES ({places}) ON CONFLICT (id) DO NOTHING", columns.join(", "))
});

const SPEND: &str = "
    UPDATE client_secrets SET requests = requests + ?2, posted_nanos = posted_nanos + ?3, held_nanos = held_nanos + ?4
    WHERE key = ?1";

/// Inserts rows and adds them to their windows and their client secrets, all in the caller's transaction. A row that exists already changes nothing.
pub(crate) fn insert<'a>(tx: &Transaction<'_>, rows: impl Iterator<Item = &'a LedgerRow>) -> Result<()> {
    insert_many(tx, rows, || {})
}

/// [`insert`], which calls `meanwhile` again and again, since many rows take long.
pub(crate) fn insert_many<'a>(
    tx: &Transaction<'_>,
    rows: impl Iterator<Item = &'a LedgerRow>,
    mut meanwhile: impl FnMut(),
) -> Result<()> {
    let mut inserted: Vec<&LedgerRow> = Vec::new();
    let mut statement = tx.prepare_cached(&INSERT)?;
    for row in rows {
        meanwhile();
        if insert_one(&mut statement, row)? > 0 {
            inserted.push(row);
        }
    }
    feed::note(tx, inserted.iter().map(|row| row.reservation.id.0), &mut meanwhile)?;
    // One tenant after the other: what is kept of each lies on pages of its own.
    inserted.sort_by_cached_key(|row| by_tenant::key(row));
    let tenant = |row: &LedgerRow| row.reservation.tenant;
    for rows in inserted.chunk_by(|one, other| tenant(one) == tenant(other)) {
        by_tenant::insert(tx, rows, &mut meanwhile)?;
        rollup::add(tx, rows, &mut meanwhile)?;
        sums::post(tx, rows)?;
        spend(tx, rows)?;
    }
    Ok(())
}

/// What rows add to what a client secret has used.
#[derive(Default)]
struct Spent {
    requests: i64,
    cost: NanoUsd,
    held: NanoUsd,
}

fn spend(tx: &Transaction<'_>, rows: &[&LedgerRow]) -> Result<()> {
    let mut secrets: BTreeMap<SecretKey, Spent> = BTreeMap::new();
    for row in rows {
        let Some(key) = row.reservation.secret else { continue };
        let spent = secrets.entry(key).or_default();
        spent.requests += i64::from(row.reservation.attempt == 0);
        spent.cost = spent.cost.saturating_add(row.cost);
        spent.held = spent.held.saturating_add(row.held);
    }
    for (key, spent) in secrets {
        tx.prepare_cached(SPEND)?.execute(params![key.0, spent.requests, spent.cost.0, spent.held.0])?;
    }
    Ok(())
}

fn insert_one(statement: &mut rusqlite::CachedStatement<'_>, row: &LedgerRow) -> Result<usize> {
    let LedgerRow { reservation: r, settlement: s, cost, held, held_tokens } = row;
    let head = params![
        r.id.0,
        r.tenant.0,
        r.token.0,
        r.model,
        r.upstream,
        r.rate_card,
        r.label.0,
        r.request_id.to_string(),
        r.attempt,
        s.outcome.name(),
        s.http_status,
        s.estimated,
        r.stream,
        s.service_tier.name(),
        r.admitted_at.0,
        r.day,
        r.month,
        s.first_byte_ms,
        s.duration_ms,
        r.reserved.0,
        cost.0,
        r.markup.ppm(),
        row.markup().0,
        held.0,
        signed(r.reserved_tokens),
        *held_tokens,
    ];
    let usage = s.usage.counts();
    let usage = usage.iter().map(|count| count as &dyn rusqlite::ToSql);
    Ok(statement.execute(params_from_iter(head.iter().copied().chain(usage)))?)
}

/// What the row of a reservation did to its windows; `None` while there is no such row.
pub(crate) fn find_bill(conn: &Connection, id: ReservationId) -> Result<Option<Bill>> {
    let sql = format!(
        "SELECT cost_nanos, held_nanos, input_tokens + cache_read_tokens + cache_write_tokens + cache_write_1h_tokens + output_tokens
        + reasoning_tokens + input_audio_tokens + output_audio_tokens + input_image_tokens + output_image_tokens, held_tokens,
        {SANDBOX_SECONDS} FROM ledger WHERE id = ?1"
    );
    let bill = conn.prepare_cached(&sql)?.query_row([id.0], |row| {
        Ok(Bill {
            cost: NanoUsd(row.get(0)?),
            held: NanoUsd(row.get(1)?),
            tokens: unsigned(row, 2)?,
            held_tokens: row.get(3)?,
            sandbox_seconds: unsigned(row, 4)?,
        })
    });
    Ok(bill.optional()?)
}

/// The first count of owner `epoch` that no row has: above zero only where a database lost its newest commits, and with them
/// the memory of an owner whose reservations were recovered nonetheless.
pub(crate) fn next_count(conn: &Connection, epoch: u32) -> Result<u64> {
    let (Some(first), Some(past)) = (ReservationId::new(epoch, 0), ReservationId::new(epoch + 1, 0)) else {
        return Ok(0);
    };
    let newest: Option<i64> =
        conn.query_row("SELECT max(id) FROM ledger WHERE id >= ?1 AND id < ?2", [first.0, past.0], |row| row.get(0))?;
    Ok(newest.and_then(|id| u64::try_from(id - first.0 + 1).ok()).unwrap_or(0))
}

/// Whether the registry knows the tenant that a row would belong to.
pub(crate) fn has_tenant(conn: &Connection, tenant: TenantKey) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM tenants WHERE row_id = ?1")?.exists([tenant.0])?)
}

/// A count of SQLite's, whose integers are signed. One below zero is an error: it is no count, and nothing may go on as if it
/// were none.
pub(crate) fn unsigned(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let count: i64 = row.get(at)?;
    u64::try_from(count).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, count))
}

/// SQLite's integers are signed; token counts are far below their bound.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
