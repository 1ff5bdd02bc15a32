//! Reconciliation: the same sums, kept in several places, compared.
//!
//! On the disk: for each tenant and each of its days and months, the sum of its rows, its window, and its reports' sums. An
//! archived month has no rows any more: there its window and its reports' sums, and these with what the archive says.
//! In memory: what each budget that is in use has posted and holds, against its windows on the disk, and what is pending,
//! against the in-flight tables.
//!
//! Requests go on meanwhile. Each tenant is compared in one snapshot; memory is looked at several times, and only what stays
//! the same and wrong is a difference.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::id::{TenantId, TenantKey};
use crate::ledger::by_tenant;
use crate::ledger::inflight::{self, FOLDER};
use crate::ledger::report::tenant_row;
use crate::ledger::row::{SANDBOX_SECONDS, signed};
use crate::ledger::slot::Progress;
use crate::ledger::sums::{Period, Window};
use crate::money::NanoUsd;
use crate::store::Store;
use crate::window::{Month, Windows, day_name};

/// Tenants that are listed at once.
const PAGE: u32 = 1_000;
/// The most differences that are listed; all are counted.
const MAX_LISTED: usize = 1_000;
/// How often memory is looked at, and the pause in between.
const LOOKS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(150);

/// What a reconciliation found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Reconciled {
    /// Tenants whose books were compared, those that are gone too.
    pub tenants: u64,
    /// Days and months that were compared.
    pub windows: u64,
    /// Budgets in memory that were compared.
    pub budgets: u64,
    /// Of those, how many were so busy that their books moved at every look; not a difference.
    pub moving: u64,
    /// How many differences there are.
    pub difference_count: u64,
    /// The first thousand of them.
    pub differences: Vec<Difference>,
}

/// One sum that is not the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// Whose; absent for a sum over all tenants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// The day (`YYYY-MM-DD`) or the month (`YYYY-MM`).
    pub period: String,
    /// Which sum.
    pub what: &'static str,
    /// What each place says.
    #[serde(flatten)]
    pub says: Map<String, Value>,
}

impl Reconciled {
    fn add(&mut self, difference: Difference) {
        self.difference_count += 1;
        if self.differences.len() < MAX_LISTED {
            self.differences.push(difference);
        }
    }
}

impl Store {
    /// Compares the books of one tenant, or of all. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`crate::StoreError::NotFound`] when there never was such a tenant, [`crate::StoreError::Unavailable`] when the
    /// store does not take writes: then memory is ahead of the disk.
    pub fn reconcile(&self, tenant: Option<&TenantId>) -> Result<Reconciled> {
        let mut found = Reconciled::default();
        // What has been settled by now is on the disk.
        self.inner.writer().run_blocking(|_| Ok(()))?;
        let only = tenant.map(|id| self.inner.reader.with(|conn| tenant_row(conn, id))).transpose()?;
        self.reconcile_disk(only.as_ref().map(|(key, _)| *key), &mut found)?;
        if only.is_none() {
            self.inner.reader.with(|conn| archives(conn, &mut found))?;
        }
        self.reconcile_memory(only.map(|(key, _)| key), &mut found)?;
        Ok(found)
    }

    fn reconcile_disk(&self, only: Option<TenantKey>, found: &mut Reconciled) -> Result<()> {
        let mut after = only.map_or(i64::MIN, |key| key.0 - 1);
        let past = only.map_or(i64::MAX, |key| key.0);
        loop {
            let page = self.inner.reader.with(|conn| tenants(conn, (after, past)))?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            for (key, id) in page {
                self.inner.reader.with(|conn| {
                    let snapshot = conn.unchecked_transaction()?;
                    for period in [Period::Day, Period::Month] {
                        compare(&snapshot, (key, &id), period, found)?;
                    }
                    Ok(())
                })?;
                found.tenants += 1;
            }
        }
    }

    /// Looks until nothing differs any more or what differs stands still.
    fn reconcile_memory(&self, only: Option<TenantKey>, found: &mut Reconciled) -> Result<()> {
        let mut before: Vec<Mismatch> = Vec::new();
        for look in 0..LOOKS {
            if look > 0 {
                std::thread::sleep(PAUSE);
            }
            let (budgets, mut now) = self.look(only)?;
            found.budgets = budgets;
            let still = now.iter().filter(|mismatch| before.contains(mismatch)).count();
            if now.is_empty() || (look > 1 && still == now.len()) {
                before = now;
                found.moving = 0;
                break;
            }
            std::mem::swap(&mut before, &mut now);
            // What stood still between the last two looks is a difference all the same.
            let moved = |mismatch: &&Mismatch| !now.contains(mismatch);
            found.moving = before.iter().filter(moved).count() as u64;
            if look + 1 == LOOKS {
                before.retain(|mismatch| now.contains(mismatch));
            }
        }
        for mismatch in before {
            let tenant = self.inner.reader.with(|conn| tenant_id(conn, mismatch.tenant))?;
            found.add(mismatch.difference(tenant));
        }
        Ok(())
    }

    /// Compares every budget in memory with the disk and the in-flight tables, at this moment.
    fn look(&self, only: Option<TenantKey>) -> Result<(u64, Vec<Mismatch>)> {
        let inner = &self.inner;
        inner.writer().run_blocking(|_| Ok(()))?;
        let budgets: Vec<_> = inner
            .ledger
            .budgets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(key, _)| only.is_none_or(|only| only == **key))
            .map(|(key, budget)| (*key, std::sync::Arc::clone(budget)))
            .collect();
        let pending = self.pending()?;
        let mut mismatches = Vec::new();
        let mut looked = 0;
        for (tenant, budget) in budgets {
            let Some(windows) = budget.look() else { continue };
            looked += 1;
            for (period, window) in windows {
                let on_disk =
                    inner.reader.with(|conn| Window::load(conn, (tenant, period), window.number, window.ends_at))?;
                let in_flight = pending.get(&(tenant, period, window.number)).copied().unwrap_or_default();
                mismatches.extend(Mismatch::of(tenant, period, &window, (&on_disk, in_flight)));
            }
        }
        Ok((looked, mismatches))
    }

    /// What is reserved in the in-flight tables, by window.
    fn pending(&self) -> Result<Pending> {
        let mut sums = Pending::new();
        let folder = self.inner.dir.join(FOLDER);
        let own = self.inner.ledger.epoch.to_string();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.parse::<u32>().is_err() {
                continue;
            }
            // A table that vanishes meanwhile was another owner's, and empty.
            let Ok(slots) = inflight::read_all(&entry.path()) else { continue };
            for (reservation, progress) in slots {
                // Of its own, this process has counted an end when it was noted; of another's, when there is a row.
                if name == own && matches!(progress, Progress::Settled(..)) {
                    continue;
                }
                for (period, number) in [(Period::Day, reservation.day), (Period::Month, reservation.month)] {
                    let sum = sums.entry((reservation.tenant, period, number)).or_default();
                    sum.0 = sum.0.saturating_add(reservation.reserved.0);
                    sum.1 = sum.1.saturating_add(signed(reservation.reserved_tokens));
                    sum.2 = sum.2.saturating_add(reservation.sandbox_seconds.into());
                }
            }
        }
        Ok(sums)
    }
}

/// What is reserved, in nanos, in tokens and in seconds of the sandbox, by tenant and window.
type Pending = HashMap<(TenantKey, Period, i32), (i64, i64, i64)>;

/// One sum of a budget in memory that is another elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mismatch {
    tenant: TenantKey,
    period: String,
    what: &'static str,
    memory: i64,
    other: (&'static str, i64),
}

impl Mismatch {
    fn of(
        tenant: TenantKey,
        period: Period,
        window: &Window,
        (on_disk, in_flight): (&Window, (i64, i64, i64)),
    ) -> impl Iterator<Item = Self> {
        let period = name(period, window.number);
        let pairs = [
            ("posted_usd", window.posted.0, ("windows", on_disk.posted.0)),
            ("held_usd", window.held.0, ("windows", on_disk.held.0)),
            ("tokens", signed(window.posted_tokens), ("windows", signed(on_disk.posted_tokens))),
            ("held_tokens", signed(window.held_tokens), ("windows", signed(on_disk.held_tokens))),
            ("pending_usd", window.pending.0, ("in_flight", in_flight.0)),
            ("pending_tokens", signed(window.pending_tokens), ("in_flight", in_flight.1)),
            (
                "sandbox_seconds",
                signed(window.posted_sandbox_seconds),
                ("windows", signed(on_disk.posted_sandbox_seconds)),
            ),
            ("pending_sandbox_seconds", signed(window.pending_sandbox_seconds), ("in_flight", in_flight.2)),
        ];
        let differs = pairs.into_iter().filter(|(_, memory, (_, other))| memory != other);
        differs.map(move |(what, memory, other)| Self { tenant, period: period.clone(), what, memory, other })
    }

    fn difference(self, tenant: Option<TenantId>) -> Difference {
        let Self { period, what, memory, other, .. } = self;
        let says = [("memory", memory), other].map(|(place, sum)| (place.to_owned(), shown(what, sum)));
        Difference { tenant, period, what, says: says.into_iter().collect() }
    }
}

/// A sum as people read it.
fn shown(what: &str, sum: i64) -> Value {
    if what.ends_with("_usd") { Value::from(NanoUsd(sum).to_string()) } else { Value::from(sum) }
}

fn name(period: Period, number: i32) -> String {
    match period {
        Period::Day => day_name(number),
        Period::Month => Month(number).to_string(),
    }
}

fn tenants(conn: &Connection, (after, last): (i64, i64)) -> Result<Vec<(i64, TenantId)>> {
    let sql = "SELECT row_id, id FROM tenants WHERE row_id > ?1 AND row_id <= ?2 ORDER BY row_id LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params![after, last, PAGE], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?;
    let mut tenants = Vec::new();
    for row in rows {
        let (key, id) = row?;
        if let Ok(id) = id.parse() {
            tenants.push((key, id));
        }
    }
    Ok(tenants)
}

fn tenant_id(conn: &Connection, key: TenantKey) -> Result<Option<TenantId>> {
    let id: String = conn.query_row("SELECT id FROM tenants WHERE row_id = ?1", [key.0], |row| row.get(0))?;
    Ok(id.parse().ok())
}

/// The columns that are compared, as (name, of rows, of windows, of the reports' sums).
const COMPARED: [(&str, &str, &str, &str); 5] = [
    ("cost_usd", "cost_nanos", "posted_nanos", "cost_nanos"),
    ("held_usd", "held_nanos", "held_nanos", "held_nanos"),
    ("tokens", TOKENS, "posted_tokens", TOKENS),
    ("sandbox_seconds", SANDBOX_SECONDS, "posted_sandbox_seconds", SANDBOX_SECONDS),
    // The reports have no sum of these.
    ("held_tokens", "held_tokens", "held_tokens", "0"),
];
const TOKENS: &str =
    "input_tokens + cache_read_tokens + cache_write_tokens + cache_write_1h_tokens + output_tokens + reasoning_tokens
    + input_audio_tokens + output_audio_tokens + input_image_tokens + output_image_tokens";

/// Every day or month of a tenant, with each compared sum of rows, window and reports.
fn sums(period: Period) -> String {
    let kind = period.name();
    let columns = |at: usize| -> String {
        let of = COMPARED.map(|(_, rows, windows, reports)| {
            let here = |place: usize, column: &str| if at == place { format!("({column})") } else { "0".to_owned() };
            [here(0, rows), here(1, windows), here(2, reports)].join(", ")
        });
        of.join(", ")
    };
    let places: Vec<String> = (1..=COMPARED.len() * 3).map(|at| format!("sum(s{at})")).collect();
    let names: Vec<String> = (1..=COMPARED.len() * 3).map(|at| format!("s{at}")).collect();
    format!(
        "WITH RECURSIVE months (number) AS (SELECT min(month) FROM usage_days UNION ALL
             SELECT number + 1 FROM months WHERE number < (SELECT max(month) FROM usage_days)),
         every (number, {}) AS (
             SELECT {kind}, {} FROM ledger WHERE id IN {}
             UNION ALL SELECT number, {} FROM windows WHERE tenant = ?1 AND kind = '{kind}'
             UNION ALL SELECT {kind}, {} FROM usage_days WHERE month IN (SELECT number FROM months) AND tenant = ?1)
         SELECT number, {} FROM every GROUP BY number",
        names.join(", "),
        columns(0),
        by_tenant::IDS,
        columns(1),
        columns(2),
        places.join(", ")
    )
}

fn compare(conn: &Connection, (key, id): (i64, &TenantId), period: Period, found: &mut Reconciled) -> Result<()> {
    let mut statement = conn.prepare_cached(&sums(period))?;
    let mut rows = statement.query([key])?;
    while let Some(row) = rows.next()? {
        found.windows += 1;
        let number: i32 = row.get(0)?;
        let month = match period {
            Period::Day => Windows::month_of_day(number),
            Period::Month => number,
        };
        for (place, (what, ..)) in COMPARED.into_iter().enumerate() {
            let at = place * 3 + 1;
            let (of_rows, window, reports): (i64, i64, i64) = (row.get(at)?, row.get(at + 1)?, row.get(at + 2)?);
            let has_reports = what != "held_tokens";
            let right = of_rows == window && (!has_reports || reports == window);
            if right {
                continue;
            }
            let archived = is_archived(conn, month)?;
            if archived && (!has_reports || reports == window) {
                continue;
            }
            let mut says = Map::new();
            if !archived {
                says.insert("ledger".to_owned(), shown(what, of_rows));
            }
            says.insert("windows".to_owned(), shown(what, window));
            if has_reports {
                says.insert("usage_days".to_owned(), shown(what, reports));
            }
            found.add(Difference { tenant: Some(id.clone()), period: name(period, number), what, says });
        }
    }
    Ok(())
}

fn is_archived(conn: &Connection, month: i32) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM archives WHERE month = ?1")?.exists([month])?)
}

/// Compares what each archive says it holds with the reports' sums of its month.
fn archives(conn: &Connection, found: &mut Reconciled) -> Result<()> {
    // Rows that came after the newest file of a month are still in the ledger.
    let sql = "WITH archived (month, last_id, cost) AS (SELECT month, max(last_id), sum(cost_nanos) FROM archives GROUP BY month),
             later (month, cost) AS (SELECT l.month, sum(l.cost_nanos) FROM ledger l JOIN archived a ON a.month = l.month
                 WHERE l.id > a.last_id GROUP BY l.month)
         SELECT a.month, a.cost + coalesce(l.cost, 0), (SELECT coalesce(sum(cost_nanos), 0) FROM usage_days WHERE month = a.month)
         FROM archived a LEFT JOIN later l ON l.month = a.month ORDER BY a.month";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (month, archived, reports): (i32, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if archived != reports {
            let says = [("archive", archived), ("usage_days", reports)];
            let says = says.map(|(place, sum)| (place.to_owned(), shown("cost_usd", sum))).into_iter().collect();
            found.add(Difference { tenant: None, period: Month(month).to_string(), what: "cost_usd", says });
        }
    }
    Ok(())
}
