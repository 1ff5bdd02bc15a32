//! The request log: the rows of one tenant as they were written, newest first. What was used and how it ended, never what
//! was said.
//!
//! Rows never change, so neither does their event id: a log that is exported again names the same events.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use rusqlite::{Connection, Row, ToSql};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{RequestId, ReservationId, TenantId};
use crate::ledger::by_tenant;
use crate::ledger::report::{check_archives, neutral, refused, tenant_row, writer};
use crate::ledger::rollup::USAGE_COLUMNS;
use crate::ledger::row::Outcome;
use crate::money::NanoUsd;
use crate::store::Store;
use crate::usage::Usage;

/// Which rows of the log. What is absent does not matter.
#[derive(Clone, Debug)]
pub struct RequestQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Admitted at this instant or later.
    pub from: Option<UnixMs>,
    /// Admitted before this instant.
    pub to: Option<UnixMs>,
    /// Of this model.
    pub model: Option<String>,
    /// At this upstream.
    pub upstream: Option<String>,
    /// By this token's id.
    pub token: Option<String>,
    /// For this end user.
    pub user: Option<String>,
    /// With this tag among others.
    pub tag: Option<String>,
    /// Answered with this HTTP status.
    pub status: Option<u16>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// Every attempt of this client request, and what was corrected of it later.
    pub request_id: Option<RequestId>,
    /// Older than this one.
    pub after: Option<RequestCursor>,
    /// At most so many; all of them when absent.
    pub limit: Option<u32>,
}

impl RequestQuery {
    /// All rows of `tenant`.
    #[must_use]
    pub fn of(tenant: TenantId) -> Self {
        Self {
            tenant,
            from: None,
            to: None,
            model: None,
            upstream: None,
            token: None,
            user: None,
            tag: None,
            status: None,
            outcome: None,
            request_id: None,
            after: None,
            limit: None,
        }
    }
}

/// A place in the log. Opaque to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestCursor {
    at: UnixMs,
    id: ReservationId,
}

impl fmt::Display for RequestCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.at.0, self.id.0)
    }
}

impl FromStr for RequestCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || StoreError::invalid("after", "must be the `next` of the page before");
        let half = |text: Option<&str>| text.and_then(|text| u64::from_str_radix(text, 16).ok());
        let plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let halves = half(text.get(..16)).zip(half(text.get(16..))).filter(|_| plain);
        let (at, id) = halves.ok_or_else(refused)?;
        Ok(Self { at: UnixMs(at.cast_signed()), id: ReservationId(id.cast_signed()) })
    }
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RequestRow {
    /// The event id: the same in every export.
    pub id: ReservationId,
    /// The client request; the admin call for a credit.
    pub request_id: String,
    /// 0 for the first attempt.
    pub attempt: u16,
    /// When it was admitted.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub at: UnixMs,
    /// The model; `credit` for a credit.
    pub model: String,
    /// Where it ran.
    pub upstream: String,
    /// The token's id.
    pub token: String,
    /// The end user that the client named.
    pub user: String,
    /// The tags that the client gave.
    pub tags: Vec<String>,
    /// Whether the client asked for a stream.
    pub stream: bool,
    /// The tier that served it.
    pub service_tier: String,
    /// How it ended.
    pub outcome: String,
    /// The status that the client got; 0 where it got none.
    pub http_status: u16,
    /// The usage is the gateway's own count.
    pub estimated: bool,
    /// What it used.
    #[serde(flatten)]
    pub usage: RequestUsage,
    /// The cost.
    pub cost_usd: NanoUsd,
    /// What the operator adds to it.
    pub markup_usd: NanoUsd,
    /// What had been reserved for it.
    pub reserved_usd: NanoUsd,
    /// What stays blocked because the provider may have billed it; below zero in the row that ends that.
    pub held_usd: NanoUsd,
    /// Milliseconds to the first byte of the answer.
    pub first_byte_ms: u32,
    /// Milliseconds to the end.
    pub duration_ms: u32,
    /// The rate card version that priced it.
    pub rate_card: u32,
    /// Why, where the operator made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The counts of a row, each under its column's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestUsage(Usage);

impl Serialize for RequestUsage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(USAGE_COLUMNS.iter().zip(self.0.counts()))
    }
}

impl utoipa::PartialSchema for RequestUsage {
    fn schema() -> RefOr<Schema> {
        let count = || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
        let counts = USAGE_COLUMNS
            .iter()
            .fold(ObjectBuilder::new(), |counts, column| counts.property(*column, count()).required(*column));
        counts.build().into()
    }
}

impl utoipa::ToSchema for RequestUsage {}

impl RequestRow {
    /// Where the log goes on after this row.
    #[must_use]
    pub fn cursor(&self) -> RequestCursor {
        RequestCursor { at: self.at, id: self.id }
    }
}

/// The CSV's columns around those of [`USAGE_COLUMNS`].
const BEFORE: [&str; 14] = [
    "id",
    "request_id",
    "attempt",
    "at",
    "model",
    "upstream",
    "token",
    "user",
    "tags",
    "stream",
    "service_tier",
    "outcome",
    "http_status",
    "estimated",
];
const BEHIND: [&str; 8] =
    ["cost_usd", "markup_usd", "reserved_usd", "held_usd", "first_byte_ms", "duration_ms", "rate_card", "reason"];

impl Store {
    /// Gives each row to `each`, newest first. May take long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was such a tenant, [`StoreError::Invalid`] when the time that is asked for
    /// is archived, and whatever `each` fails with.
    pub fn requests(&self, query: &RequestQuery, each: &mut dyn FnMut(RequestRow) -> Result<()>) -> Result<()> {
        self.inner.reader.with(|conn| {
            let tx = conn.unchecked_transaction()?;
            read(&tx, query, each)
        })
    }

    /// Writes the rows of [`Store::requests`] as CSV, safe to open in a spreadsheet. Tags have commas between them.
    ///
    /// # Errors
    /// Those of [`Store::requests`], [`StoreError::Unavailable`] when `to` refuses.
    pub fn requests_csv(&self, query: &RequestQuery, to: &mut dyn Write) -> Result<()> {
        let mut csv = writer(to);
        let headings = BEFORE.iter().chain(&USAGE_COLUMNS).chain(&BEHIND);
        csv.write_record(headings).map_err(|err| refused(&err))?;
        self.requests(query, &mut |row| csv.write_record(cells(row)).map_err(|err| refused(&err)))?;
        csv.flush().map_err(|err| refused(&err.into()))
    }
}

fn cells(row: RequestRow) -> Vec<String> {
    let before = [
        row.id.to_string(),
        row.request_id,
        row.attempt.to_string(),
        row.at.rfc3339(),
        neutral(row.model),
        neutral(row.upstream),
        row.token,
        neutral(row.user),
        neutral(row.tags.join(",")),
        row.stream.to_string(),
        row.service_tier,
        row.outcome,
        row.http_status.to_string(),
        row.estimated.to_string(),
    ];
    let usage = row.usage.0.counts().map(|count| count.to_string());
    let behind = [
        row.cost_usd.to_string(),
        row.markup_usd.to_string(),
        row.reserved_usd.to_string(),
        row.held_usd.to_string(),
        row.first_byte_ms.to_string(),
        row.duration_ms.to_string(),
        row.rate_card.to_string(),
        neutral(row.reason.unwrap_or_default()),
    ];
    before.into_iter().chain(usage).chain(behind).collect()
}

fn read(conn: &Connection, query: &RequestQuery, each: &mut dyn FnMut(RequestRow) -> Result<()>) -> Result<()> {
    let (key, zone) = tenant_row(conn, &query.tenant)?;
    if let Some(from) = query.from {
        check_archives(conn, (from, query.to.unwrap_or(UnixMs(i64::MAX))), &zone)?;
    }
    let filters = Filters::of(query, key.0);
    let mut statement = conn.prepare_cached(&filters.sql())?;
    let params: Vec<(&str, &dyn ToSql)> = filters.0.iter().map(|(name, _, value)| (*name, value.as_ref())).collect();
    let mut rows = statement.query(params.as_slice())?;
    while let Some(row) = rows.next()? {
        each(request(row)?)?;
    }
    Ok(())
}

/// The conditions that the caller asked for, each with its parameter.
struct Filters(Vec<(&'static str, &'static str, Box<dyn ToSql>)>);

impl Filters {
    fn of(query: &RequestQuery, tenant: i64) -> Self {
        let mut filters = Self(Vec::new());
        filters.add((":tenant", "b.tenant = :tenant"), Some(tenant));
        filters.add((":from", "b.admitted_at_ms >= :from"), query.from.map(|at| at.0));
        filters.add((":to", "b.admitted_at_ms < :to"), query.to.map(|at| at.0));
        let after = query.after;
        filters.add((":at", "b.admitted_at_ms <= :at"), after.map(|after| after.at.0));
        filters.add((":id", "(b.admitted_at_ms < :at OR b.id < :id)"), after.map(|after| after.id.0));
        // Looked up row by row: a tenant's rows are found by time, and a label's or a name's key leads to one entry.
        let named = "(SELECT name FROM names WHERE row_id = l.model) IS :model OR (l.model = 0 AND :model = 'credit')";
        filters.add((":model", named), query.model.clone());
        filters.add(
            (":upstream", "(SELECT name FROM names WHERE row_id = l.upstream) = :upstream"),
            query.upstream.clone(),
        );
        filters.add((":token", "l.token = (SELECT row_id FROM tokens WHERE id = :token)"), query.token.clone());
        filters
            .add((":user", "coalesce((SELECT user FROM labels WHERE key = l.label), '') = :user"), query.user.clone());
        filters
            .add((":tag", "EXISTS (SELECT 1 FROM label_tags WHERE key = l.label AND tag = :tag)"), query.tag.clone());
        filters.add((":status", "l.http_status = :status"), query.status);
        filters.add((":outcome", "l.outcome = :outcome"), query.outcome.map(Outcome::name));
        filters.add((":request", "l.request_id = :request"), query.request_id.map(|id| id.to_string()));
        // SQLite takes a limit below zero for none.
        filters.add((":limit", "TRUE"), Some(query.limit.map_or(-1, i64::from)));
        filters
    }

    fn add<T: ToSql + 'static>(&mut self, (name, condition): (&'static str, &'static str), value: Option<T>) {
        if let Some(value) = value {
            self.0.push((name, condition, Box::new(value)));
        }
    }

    fn sql(&self) -> String {
        let conditions: Vec<String> = self.0.iter().map(|(_, condition, _)| format!("({condition})")).collect();
        format!(
            "SELECT l.id, l.request_id, l.attempt, l.admitted_at_ms,
                 CASE l.model WHEN 0 THEN 'credit' ELSE coalesce((SELECT name FROM names WHERE row_id = l.model), '') END,
                 coalesce((SELECT name FROM names WHERE row_id = l.upstream), ''),
                 coalesce((SELECT id FROM tokens WHERE row_id = l.token), ''),
                 coalesce((SELECT user FROM labels WHERE key = l.label), ''),
                 (SELECT json_group_array(tag) FROM (SELECT tag FROM label_tags WHERE key = l.label ORDER BY tag)),
                 l.stream, l.service_tier, l.outcome, l.http_status, l.estimated, l.cost_nanos, l.markup_nanos, l.reserved_nanos,
                 l.held_nanos, l.first_byte_ms, l.duration_ms, l.rate_card, (SELECT reason FROM adjustments WHERE id = l.id), {}
             FROM {} WHERE {} ORDER BY b.admitted_at_ms DESC, b.id DESC LIMIT :limit",
            USAGE_COLUMNS.map(|column| format!("l.{column}")).join(", "),
            by_tenant::ROWS,
            conditions.join(" AND ")
        )
    }
}

fn request(row: &Row<'_>) -> Result<RequestRow> {
    let mut counts = [0; Usage::COUNTS];
    for (place, count) in counts.iter_mut().enumerate() {
        *count = row.get(22 + place)?;
    }
    Ok(RequestRow {
        id: ReservationId(row.get(0)?),
        request_id: row.get(1)?,
        attempt: row.get(2)?,
        at: UnixMs(row.get(3)?),
        model: row.get(4)?,
        upstream: row.get(5)?,
        token: row.get(6)?,
        user: row.get(7)?,
        tags: serde_json::from_str(&row.get::<_, String>(8)?)?,
        stream: row.get(9)?,
        service_tier: row.get(10)?,
        outcome: row.get(11)?,
        http_status: row.get(12)?,
        estimated: row.get(13)?,
        usage: RequestUsage(Usage::from_counts(counts)),
        cost_usd: NanoUsd(row.get(14)?),
        markup_usd: NanoUsd(row.get(15)?),
        reserved_usd: NanoUsd(row.get(16)?),
        held_usd: NanoUsd(row.get(17)?),
        first_byte_ms: row.get(18)?,
        duration_ms: row.get(19)?,
        rate_card: row.get(20)?,
        reason: row.get(21)?,
    })
}

/// The steps by which `query` is answered.
#[cfg(test)]
pub(super) fn plan(conn: &Connection, query: &RequestQuery) -> Vec<String> {
    let filters = Filters::of(query, 1);
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", filters.sql())).unwrap();
    let params: Vec<(&str, &dyn ToSql)> = filters.0.iter().map(|(name, _, value)| (*name, value.as_ref())).collect();
    let steps = statement.query_map(params.as_slice(), |row| row.get(3)).unwrap();
    steps.map(std::result::Result::unwrap).collect()
}
