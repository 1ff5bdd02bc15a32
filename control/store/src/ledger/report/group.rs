//! The one query behind every report: sums by any of the dimensions that rows have.
//!
//! Rows are summed by their keys first and named afterwards, so that a name is looked up once for each group.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row};

use crate::error::Result;
use crate::ledger::report::range::{STORAGE, Source};
use crate::ledger::report::{UsageSums, UsageTotal};
use crate::money::NanoUsd;

/// What rows can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dimension {
    Day,
    Tenant,
    Model,
    Upstream,
    Token,
    RateCard,
    User,
    Tag,
    /// The user and all tags of a request together.
    Label,
}

impl Dimension {
    /// Every dimension with the name of its key in the query.
    const ALL: [(Self, &'static str); 9] = [
        (Self::Day, "day"),
        (Self::Tenant, "tenant"),
        (Self::Model, "model"),
        (Self::Upstream, "upstream"),
        (Self::Token, "token"),
        (Self::RateCard, "rate_card"),
        (Self::User, "user"),
        (Self::Tag, "tag"),
        (Self::Label, "label"),
    ];

    /// Its key of a row `u`, which may be joined with one of its tags `t`.
    fn key(self) -> &'static str {
        match self {
            Self::Day => "u.day",
            Self::Tenant => "u.tenant",
            Self::Model => "u.model",
            Self::Upstream => "u.upstream",
            Self::Token => "u.token",
            Self::RateCard => "u.rate_card",
            Self::User => "coalesce((SELECT user FROM labels WHERE key = u.label), '')",
            Self::Tag => "coalesce(t.tag, '')",
            Self::Label => "u.label",
        }
    }
}

/// The sums of one group. A dimension that is not asked for is absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) day: Option<i32>,
    pub(super) tenant: Option<String>,
    pub(super) tenant_name: Option<String>,
    pub(super) model: Option<String>,
    /// Whether it is money given back, which no model used.
    pub(super) is_credit: bool,
    /// Whether it is what files took of the disk.
    pub(super) is_storage: bool,
    pub(super) upstream: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_name: Option<String>,
    pub(super) rate_card: Option<u32>,
    pub(super) user: Option<String>,
    pub(super) tag: Option<String>,
    /// The tags of a label, as a JSON array.
    pub(super) tags: Option<String>,
    pub(super) estimated_rows: u64,
    pub(super) sums: UsageSums,
}

/// What stands before the sums in a group's row.
const NAMED: usize = 13;

/// Gives each group to `each`, ordered by its names.
pub(super) fn read(
    conn: &Connection,
    source: &Source,
    by: &BTreeSet<Dimension>,
    each: &mut dyn FnMut(Group) -> Result<()>,
) -> Result<()> {
    let mut statement = conn.prepare_cached(&query(source, by))?;
    let mut rows = statement.query(source.params().as_slice())?;
    while let Some(row) = rows.next()? {
        each(group(row)?)?;
    }
    Ok(())
}

/// The sums over everything, in which each request counts once.
pub(super) fn total(conn: &Connection, source: &Source) -> Result<UsageTotal> {
    let sql = format!("SELECT {} FROM {} WHERE {}", sums("u.requests"), source.table(), source.filter());
    let total = conn.prepare_cached(&sql)?.query_row(source.params().as_slice(), |row| {
        Ok(UsageTotal { sums: read_sums(row, 1)?, estimated_rows: count(row, 0)? })
    });
    Ok(total?)
}

/// The query itself.
pub(super) fn query(source: &Source, by: &BTreeSet<Dimension>) -> String {
    let has = |dimension: &Dimension| by.contains(dimension);
    let keys = Dimension::ALL
        .map(|(dimension, name)| format!("{} AS {name}", if has(&dimension) { dimension.key() } else { "NULL" }));
    let join = if has(&Dimension::Tag) { "LEFT JOIN label_tags t ON t.key = u.label" } else { "" };
    let one_model = has(&Dimension::Model) || has(&Dimension::Upstream);
    let requests = if one_model { "u.attempts" } else { "u.requests" };
    let (keys, sums) = (keys.join(", "), sums(requests));
    let (table, filter) = (source.table(), source.filter());
    format!(
        "SELECT g.day, (SELECT id FROM tenants WHERE row_id = g.tenant), (SELECT name FROM tenants WHERE row_id = g.tenant),
             CASE WHEN g.model IS NULL THEN NULL WHEN g.model = 0 THEN 'credit'
                 WHEN g.model = {STORAGE} THEN 'storage' ELSE coalesce((SELECT name FROM names WHERE row_id = g.model), '') END,
             coalesce(g.model = 0, 0), coalesce(g.model = {STORAGE}, 0),
             CASE WHEN g.upstream IS NULL THEN NULL ELSE coalesce((SELECT name FROM names WHERE row_id = g.upstream), '') END,
             CASE WHEN g.token IS NULL THEN NULL ELSE coalesce((SELECT id FROM tokens WHERE row_id = g.token), '') END,
             (SELECT name FROM tokens WHERE row_id = g.token), g.rate_card,
             coalesce(g.user, (SELECT user FROM labels WHERE key = g.label)), g.tag,
             CASE WHEN g.label IS NULL THEN NULL ELSE (SELECT json_group_array(tag) FROM (SELECT tag FROM label_tags WHERE key = g.label ORDER BY tag)) END,
             g.*
         FROM (SELECT {keys}, {sums} FROM {table} {join} WHERE {filter} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9) g
         ORDER BY 1, 2, 4, 7, 8, 10, 11, 12, 13"
    )
}

/// What is summed, in the order of [`read_sums`] behind the estimates. A sum past 2^63 is an error of the engine, not a
/// wrong number.
fn sums(requests: &str) -> String {
    let columns = [
        "u.estimated_rows",
        requests,
        "u.input_tokens + u.input_audio_tokens + u.input_image_tokens",
        "u.cache_read_tokens",
        "u.cache_write_tokens + u.cache_write_1h_tokens",
        "u.output_tokens + u.output_audio_tokens + u.output_image_tokens",
        "u.reasoning_tokens",
        "u.tool_calls",
        "CASE WHEN u.upstream = (SELECT row_id FROM names WHERE name = 'sandbox') THEN u.input_ms / 1000 ELSE 0 END",
        "u.storage_byte_days",
        "u.cost_nanos",
        "u.markup_nanos",
    ];
    columns.map(|column| format!("coalesce(sum({column}), 0)")).join(", ")
}

fn group(row: &Row<'_>) -> rusqlite::Result<Group> {
    let sums = NAMED + Dimension::ALL.len();
    Ok(Group {
        day: row.get(0)?,
        tenant: row.get(1)?,
        tenant_name: row.get(2)?,
        model: row.get(3)?,
        is_credit: row.get(4)?,
        is_storage: row.get(5)?,
        upstream: row.get(6)?,
        token: row.get(7)?,
        token_name: row.get(8)?,
        rate_card: row.get(9)?,
        user: row.get(10)?,
        tag: row.get(11)?,
        tags: row.get(12)?,
        estimated_rows: count(row, sums)?,
        sums: read_sums(row, sums + 1)?,
    })
}

/// Reads the sums that begin at column `first`.
fn read_sums(row: &Row<'_>, first: usize) -> rusqlite::Result<UsageSums> {
    let sum = |at: usize| count(row, first + at);
    let (cost, markup) = (NanoUsd(row.get(first + 9)?), NanoUsd(row.get(first + 10)?));
    let billed = cost.checked_add(markup).ok_or(rusqlite::Error::IntegralValueOutOfRange(first + 10, markup.0))?;
    Ok(UsageSums {
        requests: sum(0)?,
        input_tokens: sum(1)?,
        cache_read_tokens: sum(2)?,
        cache_write_tokens: sum(3)?,
        output_tokens: sum(4)?,
        reasoning_tokens: sum(5)?,
        tool_calls: sum(6)?,
        sandbox_seconds: sum(7)?,
        storage_byte_days: sum(8)?,
        cost_usd: cost,
        markup_usd: markup,
        billed_usd: billed,
    })
}

fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let sum: i64 = row.get(at)?;
    u64::try_from(sum).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, sum))
}
