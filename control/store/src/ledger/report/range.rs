//! Which time a report is about, and which of the store's tables answers for it.

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::ledger::by_tenant;
use crate::ledger::sums::{Period, Window};
use crate::store::Store;
use crate::window::{Month, Windows, Zone, day_name};

/// A stretch of time. Beginnings are inclusive, ends exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageRange {
    /// Days of each tenant's own calendar, since 1970-01-01: what the day windows `from` to `to` admitted.
    Days {
        /// The first day.
        from: i32,
        /// The day after the last.
        to: i32,
    },
    /// A month of each tenant's own calendar, since 1970-01: what its month window admitted, and so what its month's budget
    /// has posted.
    Month(Month),
    /// What was admitted between two instants that are not both the start of a day. Summed from single rows, so it can't
    /// reach into an archived month.
    Instants {
        /// The first instant.
        from: UnixMs,
        /// The instant after the last.
        to: UnixMs,
    },
}

/// A range of one tenant's time, with its ends as instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSpan {
    /// The range.
    pub range: UsageRange,
    /// Its first instant.
    pub from: UnixMs,
    /// The instant after its last.
    pub to: UnixMs,
}

impl UsageRange {
    /// What lies between two instants: whole days of `zone` where both begin one.
    #[must_use]
    pub fn between(from: UnixMs, to: UnixMs, zone: &Zone) -> Self {
        match (zone.day_that_starts_at(from), zone.day_that_starts_at(to)) {
            (Some(from), Some(to)) => Self::Days { from, to },
            _ => Self::Instants { from, to },
        }
    }

    /// Its ends as a report shows them. A month's are those of UTC, since each tenant has its own.
    pub(super) fn shown(self) -> (String, String) {
        match self {
            Self::Days { from, to } => (day_name(from), day_name(to)),
            Self::Month(month) => {
                let utc = Zone::utc();
                let end = |month: i32| Windows::end_of_month(month, &utc).rfc3339();
                (end(month.0.saturating_sub(1)), end(month.0))
            }
            Self::Instants { from, to } => (from.rfc3339(), to.rfc3339()),
        }
    }
}

impl Store {
    /// The span that a caller asks for: each end an instant (RFC 3339) or a date, which is its first moment in the tenant's
    /// zone. By default from the first of the present month to the end of today, both as the tenant's budget counts them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant, [`StoreError::Invalid`] when an end is neither, or
    /// before the beginning.
    pub fn usage_span(&self, tenant: &TenantId, from: Option<&str>, to: Option<&str>) -> Result<UsageSpan> {
        let now = self.inner.clock.now();
        self.inner.reader.with(|conn| {
            let (key, zone) = tenant_row(conn, tenant)?;
            let bound = |field: &str, text: Option<&str>| text.map(|text| instant(field, text, &zone)).transpose();
            let (from, to) = (bound("from", from)?, bound("to", to)?);
            let windows = Windows::at(now, &zone);
            let newest = |period| Window::current(conn, (key, period), None, (&windows, &zone));
            let from = match from {
                Some(from) => from,
                None => Windows::end_of_month(newest(Period::Month)?.number.saturating_sub(1), &zone),
            };
            let to = match to {
                Some(to) => to,
                None => newest(Period::Day)?.ends_at,
            };
            if to < from {
                return Err(StoreError::invalid("to", "must not be before from"));
            }
            Ok(UsageSpan { range: UsageRange::between(from, to, &zone), from, to })
        })
    }
}

fn instant(field: &str, text: &str, zone: &Zone) -> Result<UnixMs> {
    zone.instant(text).ok_or_else(|| {
        StoreError::invalid(field, "must be an instant such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01")
    })
}

/// A tenant's key and zone. One that is gone has its rows still; one that never was is a mistake.
pub(crate) fn tenant_row(conn: &Connection, tenant: &TenantId) -> Result<(TenantKey, Zone)> {
    let found = conn
        .prepare_cached("SELECT row_id, timezone FROM tenants WHERE id = ?1")?
        .query_row([tenant.as_str()], |row| Ok((TenantKey(row.get(0)?), row.get::<_, String>(1)?)))
        .optional()?;
    let (key, zone) = found.ok_or(StoreError::NotFound("tenant"))?;
    Ok((key, Zone::parse(&zone).map_err(StoreError::Corrupt)?))
}

/// Refuses a range of instants of which rows have been moved away.
pub(crate) fn check_archives(conn: &Connection, (from, to): (UnixMs, UnixMs), zone: &Zone) -> Result<()> {
    let (first, last) = (Windows::at(from, zone).month, Windows::at(to.plus_ms(-1), zone).month);
    let sql = "SELECT min(month) FROM archives WHERE month BETWEEN ?1 AND ?2";
    let archived: Option<i32> = conn.prepare_cached(sql)?.query_row(params![first, last], |row| row.get(0))?;
    let Some(month) = archived else { return Ok(()) };
    Err(StoreError::invalid(
        "from",
        format!("reaches into {}, whose detail is archived; give whole days", Month(month)),
    ))
}

/// The rows of one table that a report sums.
pub(super) struct Source {
    of_rows: bool,
    tenant: Option<i64>,
    first_month: i32,
    last_month: i32,
    low: i64,
    high: i64,
}

/// A row of the ledger as a sum of one. An adjustment is no attempt of anybody.
const ROW: &str = "SELECT month, b.tenant AS tenant, day, model, upstream, token, rate_card, label, b.admitted_at_ms AS admitted_at_ms,
    outcome NOT IN ('credit', 'resolved') AND attempt = 0 AS requests, outcome NOT IN ('credit', 'resolved') AS attempts,
    estimated AS estimated_rows, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
    reasoning_tokens, input_audio_tokens, output_audio_tokens, input_image_tokens, output_image_tokens, tool_calls, input_ms, cost_nanos, markup_nanos, 0 AS storage_byte_days";

/// What stands in the place of a model in the rows of what files took of the disk; no name has this number.
pub(super) const STORAGE: i64 = -1;

/// What a report sums of `usage_days`, and of what files took of the disk as rows of the same form.
const DAYS: &str = "u.month, u.tenant, u.day, u.model, u.upstream, u.token, u.rate_card, u.label, u.requests, u.attempts,
    u.estimated_rows, u.input_tokens, u.cache_read_tokens, u.cache_write_tokens, u.cache_write_1h_tokens, u.output_tokens,
    u.reasoning_tokens, u.input_audio_tokens, u.output_audio_tokens, u.input_image_tokens, u.output_image_tokens, u.tool_calls,
    u.input_ms, u.cost_nanos, u.markup_nanos, 0 AS storage_byte_days";
const STORAGE_DAYS: &str =
    "u.month, u.tenant, u.day, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u.byte_days";

/// The months come first in the key of `usage_days`: named one by one, they lead to a tenant's own rows and no other's.
const MONTHS: &str = "u.month IN (WITH RECURSIVE months (number) AS
    (SELECT :first UNION ALL SELECT number + 1 FROM months WHERE number < :last) SELECT number FROM months)";

impl Source {
    pub(super) fn of(conn: &Connection, tenant: Option<&TenantId>, range: UsageRange) -> Result<Self> {
        let (key, zone) = match tenant {
            Some(tenant) => {
                let (key, zone) = tenant_row(conn, tenant)?;
                (Some(key.0), zone)
            }
            None => (None, Zone::utc()),
        };
        let source = |months: (i32, i32), (low, high)| Self {
            of_rows: false,
            tenant: key,
            first_month: months.0,
            last_month: months.1,
            low,
            high,
        };
        let always = (i64::MIN, i64::MAX);
        match range {
            UsageRange::Month(month) => Ok(source((month.0, month.0), always)),
            UsageRange::Days { from, to } => {
                let month = |day: i32| Windows::month_of_day(day);
                // A day's rows are in its own month; a month to either side costs nothing and forgives a floor.
                let (first, last) = (month(from).saturating_sub(1), month(to).saturating_add(1));
                let (oldest, newest) = months(conn)?;
                Ok(source((first.max(oldest), last.min(newest)), (from.into(), to.into())))
            }
            UsageRange::Instants { from, to } => {
                check_archives(conn, (from, to), &zone)?;
                Ok(Self { of_rows: true, ..source((i32::MIN, i32::MAX), (from.0, to.0)) })
            }
        }
    }

    /// What is summed, as `u`. Of days each part is filtered by itself, since the engine would not look into them from outside.
    pub(super) fn table(&self) -> String {
        if self.of_rows {
            return format!("({ROW} FROM {}) u", by_tenant::ROWS);
        }
        let filter = self.own_filter();
        format!(
            "(SELECT {DAYS} FROM usage_days u WHERE {filter}
             UNION ALL SELECT {STORAGE_DAYS} FROM storage_days u WHERE {filter} AND u.byte_days > 0) u"
        )
    }

    /// What still has to hold for a row of [`Source::table`].
    pub(super) fn filter(&self) -> String {
        if self.of_rows { self.own_filter() } else { "TRUE".to_owned() }
    }

    fn own_filter(&self) -> String {
        // The `IN` lets the engine use the key of (tenant, admitted_at_ms) for all tenants as for one.
        let tenant = match (self.tenant, self.of_rows) {
            (Some(_), _) => "u.tenant = :tenant",
            (None, true) => ":tenant IS NULL AND u.tenant IN (SELECT row_id FROM tenants)",
            (None, false) => ":tenant IS NULL",
        };
        if self.of_rows {
            format!(
                "{tenant} AND u.admitted_at_ms >= :low AND u.admitted_at_ms < :high AND u.month >= :first AND u.month <= :last"
            )
        } else {
            format!("{MONTHS} AND {tenant} AND u.day >= :low AND u.day < :high")
        }
    }

    pub(super) fn params(&self) -> [(&'static str, &dyn ToSql); 5] {
        [
            (":tenant", &self.tenant),
            (":first", &self.first_month),
            (":last", &self.last_month),
            (":low", &self.low),
            (":high", &self.high),
        ]
    }
}

/// The oldest and the newest month that there is anything of.
fn months(conn: &Connection) -> Result<(i32, i32)> {
    let end = |which: &str| -> Result<Option<i32>> {
        // Each by itself, so that each is the end of an index.
        let sql = format!(
            "SELECT {which}(month) FROM (SELECT {which}(month) AS month FROM usage_days
             UNION ALL SELECT {which}(month) FROM storage_days)"
        );
        Ok(conn.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    };
    Ok((end("min")?.unwrap_or(0), end("max")?.unwrap_or(0)))
}
