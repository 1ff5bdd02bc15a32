//! The ledger's rows as they are on disk, read only, to compare with what the API says and what the provider bills.

use std::fmt::Write;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

/// One ledger row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Cost in nano-dollars.
    pub cost: i128,
    /// Kept back, in nano-dollars.
    pub held: i128,
    /// Uncached input tokens.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Output tokens without the reasoning.
    pub output: u64,
    /// Reasoning tokens.
    pub reasoning: u64,
    /// True when the provider did not say.
    pub estimated: bool,
    /// The request's id, as in `x-request-id`.
    pub request_id: String,
    /// How the attempt ended.
    pub outcome: String,
    /// The most that it could have cost, in nano-dollars.
    pub reserved: i128,
    /// The service tier that it is billed at.
    pub service_tier: String,
    /// Images of the prompt that are billed.
    pub input_images: u64,
    /// Audio tokens of the answer.
    pub output_audio: u64,
    /// Milliseconds of the prompt's audio.
    pub input_ms: u64,
}

/// Opens the database of a data directory, read only.
#[must_use]
pub fn open(data: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(data.join("openclawmu.db"), flags).expect("the gateway's database");
    connection.busy_timeout(std::time::Duration::from_secs(10)).expect("a setting");
    connection
}

/// All rows of a tenant, oldest first.
#[must_use]
pub fn rows(data: &Path, tenant: &str) -> Vec<Row> {
    let connection = open(data);
    let mut query = connection
        .prepare(
            "SELECT l.cost_nanos, l.held_nanos, l.input_tokens, l.cache_read_tokens, l.output_tokens, l.reasoning_tokens, l.estimated,
                    l.request_id, l.outcome, l.reserved_nanos, l.service_tier, l.input_images,
                    l.output_audio_tokens, l.input_ms
             FROM ledger l JOIN tenants t ON t.row_id = l.tenant WHERE t.id = ?1 ORDER BY l.id",
        )
        .expect("the ledger's columns");
    let rows = query
        .query_map([tenant], |row| {
            let count = |at: usize| row.get::<_, i64>(at).map(|value| u64::try_from(value).expect("not negative"));
            Ok(Row {
                cost: i128::from(row.get::<_, i64>(0)?),
                held: i128::from(row.get::<_, i64>(1)?),
                input: count(2)?,
                cache_read: count(3)?,
                output: count(4)?,
                reasoning: count(5)?,
                estimated: row.get(6)?,
                request_id: row.get(7)?,
                outcome: row.get(8)?,
                reserved: i128::from(row.get::<_, i64>(9)?),
                service_tier: row.get(10)?,
                input_images: count(11)?,
                output_audio: count(12)?,
                input_ms: count(13)?,
            })
        })
        .expect("the ledger");
    rows.map(|row| row.expect("a row of the known types")).collect()
}

/// The user and the tags, sorted and joined by `|`, of each of a tenant's rows, oldest first.
#[must_use]
pub fn labels(data: &Path, tenant: &str) -> Vec<(String, String)> {
    let connection = open(data);
    let mut query = connection
        .prepare(
            "SELECT coalesce((SELECT user FROM labels WHERE key = l.label), ''),
                    coalesce((SELECT group_concat(tag, '|') FROM (SELECT tag FROM label_tags WHERE key = l.label ORDER BY tag)), '')
             FROM ledger l JOIN tenants t ON t.row_id = l.tenant WHERE t.id = ?1 ORDER BY l.id",
        )
        .expect("the ledger's columns");
    let rows = query.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?))).expect("the ledger");
    rows.map(|row| row.expect("texts")).collect()
}

/// The number of rows in a table.
#[must_use]
pub fn count(data: &Path, table: &str) -> i64 {
    open(data).query_row(&format!("SELECT count(*) FROM \"{table}\""), [], |row| row.get(0)).expect("a table")
}

/// `ok`, or what is wrong: the file by `PRAGMA integrity_check`, the sums of windows and of days by the rows.
#[must_use]
pub fn integrity(data: &Path) -> String {
    let connection = open(data);
    connection.execute_batch("BEGIN").expect("one snapshot");
    let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).expect("a count") };
    let keys = "month, tenant, day, model, upstream, token, rate_card, label";
    // What an operator corrects is money and nobody's attempt.
    let attempted = "outcome NOT IN ('credit', 'resolved')";
    let of_rows = format!(
        "SELECT {keys}, sum({attempted} AND attempt = 0), sum({attempted}), sum(estimated), sum(input_tokens), sum(cache_read_tokens), sum(output_tokens),
            sum(reasoning_tokens), sum(tool_calls), sum(cost_nanos), sum(markup_nanos), sum(held_nanos)
         FROM ledger GROUP BY {keys}"
    );
    let days = format!(
        "SELECT {keys}, requests, attempts, estimated_rows, input_tokens, cache_read_tokens, output_tokens, reasoning_tokens,
            tool_calls, cost_nanos, markup_nanos, held_nanos FROM usage_days"
    );
    let of_windows = |kind: &str| {
        format!("SELECT tenant, '{kind}', {kind}, sum(cost_nanos), sum(held_nanos) FROM ledger GROUP BY tenant, {kind}")
    };
    let windows = "SELECT tenant, kind, number, posted_nanos, held_nanos FROM windows".to_owned();
    let both = format!("{} UNION ALL {}", of_windows("day"), of_windows("month"));
    for (what, kept, summed) in [("usage_days", days, of_rows), ("windows", windows, both)] {
        let differing =
            count(&format!("SELECT count(*) FROM (SELECT * FROM ({kept}) EXCEPT SELECT * FROM ({summed}))"))
                + count(&format!("SELECT count(*) FROM (SELECT * FROM ({summed}) EXCEPT SELECT * FROM ({kept}))"));
        if differing != 0 {
            return format!("{what} is not the sum of its rows");
        }
    }
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict")
}

/// The end user of each request that said one.
#[must_use]
pub fn users(data: &Path) -> Vec<(String, String)> {
    let connection = open(data);
    let mut query = connection
        .prepare("SELECT l.request_id, coalesce(b.user, '') FROM ledger l LEFT JOIN labels b ON b.key = l.label WHERE l.label <> 0")
        .expect("the labels");
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.map(|row| row.expect("text")).collect()
}

/// Every row of every table as text, to see whether anything changed. Tables named in `but` are left out.
#[must_use]
pub fn dump(data: &Path, but: &[&str]) -> String {
    let connection = open(data);
    let mut names = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name")
        .expect("a schema");
    let names: Vec<String> =
        names.query_map([], |row| row.get(0)).expect("tables").map(|name| name.expect("text")).collect();
    let mut text = String::new();
    for name in names.iter().filter(|name| !but.contains(&name.as_str())) {
        let mut query = connection
            .prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1, 2"))
            .or_else(|_| connection.prepare(&format!("SELECT * FROM \"{name}\" ORDER BY 1")))
            .expect("a table");
        let width = query.column_count();
        let mut rows = query.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            write!(text, "{name}").expect("memory");
            for at in 0..width {
                match row.get_ref(at).expect("a column") {
                    ValueRef::Null => text.push_str("|null"),
                    ValueRef::Integer(value) => write!(text, "|{value}").expect("memory"),
                    ValueRef::Real(value) => write!(text, "|{value}").expect("memory"),
                    ValueRef::Text(value) | ValueRef::Blob(value) => {
                        write!(text, "|{:?}", String::from_utf8_lossy(value)).expect("memory")
                    }
                }
            }
            text.push('\n');
        }
    }
    text
}
