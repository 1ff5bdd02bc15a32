//! A tenant's rows as JSON objects, one column a field, and back into whatever columns this schema has.
//!
//! Names of tables and columns come from the schema, never from a backup.

use rusqlite::types::{Value as Sql, ValueRef};
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};
use serde_json::{Map, Value, json};

use crate::channel;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};

/// A row: each column by its name; bytes as `{"hex": "..."}`; no field for NULL.
pub type RowObject = Map<String, Value>;

/// What a restore does with the rows of a table that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// They go: the backup's are the tenant's.
    Replace,
    /// They stay, and those that are missing come back. Past the tenant's end they stay until what they name is gone, too.
    Merge,
    /// They stay, even past the tenant's end: what has happened has happened.
    Keep,
}

/// Tables with a column `tenant` whose rows are carried as they are.
pub(super) const CARRIED: [(&str, Mode); 6] = [
    ("provider_keys", Mode::Replace),
    ("channels", Mode::Replace),
    ("channel_senders", Mode::Replace),
    ("upstream_objects", Mode::Merge),
    ("stripe_events", Mode::Keep),
    ("storage_days", Mode::Keep),
];

/// Those of them that a copy does not get: an account at a messenger is one tenant's.
pub(super) const NOT_COPIED: [&str; 2] = ["channels", "channel_senders"];

/// Tables with a column `tenant` that are not, each with the reason.
#[cfg(test)]
pub(super) const LEFT: [(&str, &str); 16] = [
    ("channel_pairings", "they live for ten minutes"),
    ("channel_requests", "they live for an hour"),
    ("channel_seen", "the gateway that took an event knows it again"),
    ("channel_inbox", "what was said is answered by the gateway that took it"),
    ("channel_outbox", "the gateway's own mail"),
    ("batches", "what runs at a provider is watched by the gateway that sent it"),
    ("client_secrets", "they live for a day at most, and end with a token that may not come back"),
    ("tokens", "carried by its own rules: what was revoked stays so"),
    ("ledger", "as lines of their own, by month"),
    ("ledger_by_tenant", "entries of the ledger, made again"),
    ("windows", "sums of the ledger, made again"),
    ("usage_days", "sums of the ledger, made again"),
    ("storage_looks", "the files are looked at where they are"),
    ("budget_alerts", "thresholds were told by the gateway that saw them"),
    ("webhook_outbox", "the gateway's own mail"),
    ("audit_outbox", "the log belongs to the gateway"),
];

/// Everything of a tenant that is not its ledger and not its files.
#[derive(Clone, Debug, Default)]
pub struct TenantRows {
    pub(super) tenant: RowObject,
    pub(super) tokens: Vec<RowObject>,
    pub(super) others: Vec<(String, RowObject)>,
}

impl TenantRows {
    /// One JSON object a row, without line ends: `{"table": ..., "row": {...}}`.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        let line = |table: &str, row: &RowObject| json!({"table": table, "row": row});
        let tenant = std::iter::once(line("tenants", &self.tenant));
        let tokens = self.tokens.iter().map(move |row| line("tokens", row));
        tenant.chain(tokens).chain(self.others.iter().map(move |(table, row)| line(table, row)))
    }

    /// Reads a line of [`TenantRows::lines`].
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is none.
    pub fn add_line(&mut self, line: &[u8]) -> Result<()> {
        let mut line: Value = serde_json::from_slice(line)?;
        let row = line.get_mut("row").map(Value::take);
        let (Some(Value::Object(row)), Some(table)) = (row, line.get("table").and_then(Value::as_str)) else {
            return Err(StoreError::Corrupt("a row of a tenant names no table".to_owned()));
        };
        match table {
            "tenants" if self.tenant.is_empty() => self.tenant = row,
            "tenants" => return Err(StoreError::Corrupt("a backup of one tenant holds two".to_owned())),
            "tokens" => self.tokens.push(row),
            other => self.others.push((other.to_owned(), row)),
        }
        Ok(())
    }

    /// The tenant's id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] without a tenant.
    pub fn id(&self) -> Result<TenantId> {
        text(&self.tenant, "id")?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))
    }

    /// Whether something in it is sealed: keys at providers, or credentials of channels.
    #[must_use]
    pub fn has_sealed(&self) -> bool {
        self.others.iter().any(|(table, _)| matches!(table.as_str(), "provider_keys" | "channels"))
    }

    /// Turns every sealed provider key, with its upstream and id, into another.
    ///
    /// # Errors
    /// Those of `turn`, and [`StoreError::Corrupt`].
    pub fn turn_provider_keys(&mut self, turn: impl Fn(&str, &str, &[u8]) -> Result<(String, Vec<u8>)>) -> Result<()> {
        for (_, row) in self.others.iter_mut().filter(|(table, _)| table == "provider_keys") {
            let sealed = match sql(row.get("sealed").unwrap_or(&Value::Null))? {
                Sql::Blob(sealed) => sealed,
                Sql::Null | Sql::Integer(_) | Sql::Real(_) | Sql::Text(_) => {
                    return Err(StoreError::Corrupt("a provider key is not sealed".to_owned()));
                }
            };
            let (id, sealed) = turn(text(row, "upstream")?, text(row, "id")?, &sealed)?;
            row.insert("id".to_owned(), id.into());
            row.insert("sealed".to_owned(), json!({"hex": hex(&sealed)}));
        }
        Ok(())
    }
}

/// A row of a query as an object.
pub(super) fn object(names: &[String], row: &Row<'_>) -> rusqlite::Result<RowObject> {
    let mut object = Map::new();
    for (at, name) in names.iter().enumerate() {
        let value = match row.get_ref(at)? {
            ValueRef::Null | ValueRef::Real(_) => continue,
            ValueRef::Integer(number) => Value::from(number),
            ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
            ValueRef::Blob(bytes) => json!({"hex": hex(bytes)}),
        };
        object.insert(name.clone(), value);
    }
    Ok(object)
}

/// Every row of `table` that is the tenant's, without the store's own keys.
pub(super) fn read(conn: &Connection, table: &str, tenant: TenantKey) -> Result<Vec<RowObject>> {
    let key = if table == "tenants" { "row_id" } else { "tenant" };
    let mut statement = conn.prepare(&format!("SELECT * FROM {table} WHERE {key} = ?1"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([tenant.0], |row| object(&names, row))?;
    let mut rows: Vec<RowObject> = rows.collect::<rusqlite::Result<_>>()?;
    for row in &mut rows {
        row.remove("row_id");
        row.remove("tenant");
    }
    Ok(rows)
}

/// Inserts a row with `set` in the place of those fields; columns that this schema lacks are left out. False where a row of
/// that key is there already.
pub(super) fn insert(tx: &Transaction<'_>, table: &str, row: &RowObject, set: &[(&str, Sql)]) -> Result<bool> {
    let mut columns: Vec<(String, Sql)> = set.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    for name in columns_of(tx, table)? {
        let Some(value) = row.get(&name).filter(|_| name != "row_id" && set.iter().all(|(known, _)| *known != name))
        else {
            continue;
        };
        columns.push((name, sql(value)?));
    }
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let statement = format!("INSERT INTO {table} ({}) VALUES ({places}) ON CONFLICT DO NOTHING", names.join(", "));
    Ok(tx.execute(&statement, params_from_iter(columns.into_iter().map(|(_, value)| value)))? > 0)
}

/// Removes what a tenant has set; what has happened stays, and what lies at providers is removed there first.
pub(crate) fn forget(tx: &Transaction<'_>, key: TenantKey) -> Result<()> {
    for (table, _) in CARRIED.iter().filter(|(_, mode)| *mode == Mode::Replace) {
        tx.execute(&format!("DELETE FROM {table} WHERE tenant = ?1"), [key.0])?;
    }
    channel::forget(tx, key)
}

/// Sets those columns of the tenant's own row that the backup has, but never its id or its place.
pub(super) fn update_tenant(tx: &Transaction<'_>, key: TenantKey, row: &RowObject) -> Result<()> {
    const OWN: [&str; 6] = ["row_id", "id", "version", "created_at_ms", "updated_at_ms", "deleted_at_ms"];
    for name in columns_of(tx, "tenants")?.iter().filter(|name| !OWN.contains(&name.as_str())) {
        let value = row.get(name).map(sql).transpose()?;
        // What the backup does not know keeps its value, unless it is one that may be absent.
        let nullable: bool =
            tx.query_row("SELECT \"notnull\" = 0 FROM pragma_table_info('tenants') WHERE name = ?1", [name], |row| {
                row.get(0)
            })?;
        if value.is_some() || nullable {
            tx.execute(
                &format!("UPDATE tenants SET \"{name}\" = ?2 WHERE row_id = ?1"),
                params![key.0, value.unwrap_or(Sql::Null)],
            )?;
        }
    }
    Ok(())
}

fn columns_of(conn: &Connection, table: &str) -> Result<Vec<String>> {
    let mut statement = conn.prepare_cached("SELECT name FROM pragma_table_info(?1) ORDER BY cid")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn sql(value: &Value) -> Result<Sql> {
    let unreadable = || StoreError::Corrupt("a row of a backup holds what no column can".to_owned());
    Ok(match value {
        Value::Null => Sql::Null,
        Value::Number(number) => Sql::Integer(number.as_i64().ok_or_else(unreadable)?),
        Value::String(text) => Sql::Text(text.clone()),
        Value::Object(bytes) => {
            let digits = bytes.get("hex").and_then(Value::as_str).ok_or_else(unreadable)?;
            Sql::Blob(unhex(digits).ok_or_else(unreadable)?)
        }
        Value::Bool(_) | Value::Array(_) => return Err(unreadable()),
    })
}

/// A text field.
pub(super) fn text<'a>(row: &'a RowObject, name: &str) -> Result<&'a str> {
    row.get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| StoreError::Corrupt(format!("a row of a backup has no `{name}`")))
}

/// A whole number.
pub(super) fn number(row: &RowObject, name: &str) -> Result<i64> {
    row.get(name)
        .and_then(Value::as_i64)
        .ok_or_else(|| StoreError::Corrupt(format!("a row of a backup has no number `{name}`")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2)).collect()
}
