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
                    l.request_id, l.outcome, l.reserved_nanos, l.service_tier, l.input_images
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

/// `PRAGMA integrity_check`: `ok`, or what is wrong.
#[must_use]
pub fn integrity(data: &Path) -> String {
    open(data).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict")
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
