//! The lines that were written, as the database knows them, and how the log fares.

use std::path::Path;

use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::audit::line::{AuditActor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditOutcome};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::ledger::row::unsigned;
use crate::sqlite::open;
use crate::store::Store;

/// Which lines to read.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Those about this tenant.
    pub tenant: Option<String>,
    /// Those of this action.
    pub action: Option<String>,
    /// Those that come after this line, in the order that is asked for.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: u32,
    /// In which order.
    pub order: AuditOrder,
}

/// In which order lines are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditOrder {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

/// How the audit log fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditStatus {
    /// Whether the last append succeeded: while it is false every change is refused.
    pub healthy: bool,
    /// Lines that this process wrote.
    pub lines: u64,
    /// Appends that failed.
    pub failures: u64,
    /// Rows that wait for their line; `None` while the store can't be read.
    pub waiting: Option<u64>,
}

impl Store {
    /// From now on every change has its line in `log` before it is made. Rows that have none get theirs now; where that fails
    /// the log is kept, and tried again by [`Store::audit_tick`].
    ///
    /// # Errors
    /// [`StoreError::AuditUnavailable`] when the log can't be written, [`StoreError::Unavailable`].
    pub fn attach_audit(&self, log: Box<dyn AuditLog>) -> Result<()> {
        self.inner.writer().desk().open(log);
        self.inner.writer().change_blocking(|_| Ok(()), |()| (), false)
    }

    /// Writes lines that another process left in the outbox, and tries a log that failed. To be called every second or so.
    ///
    /// # Errors
    /// [`StoreError::AuditUnavailable`] when the log can't be written, [`StoreError::Unavailable`].
    pub async fn audit_tick(&self) -> Result<()> {
        let desk = self.inner.writer().desk();
        if desk.failing() || self.inner.reader.with(waiting)? > 0 {
            self.inner.writer().change(|_| Ok(()), |()| (), false).await?;
        }
        Ok(())
    }

    /// How the audit log fares.
    #[must_use]
    pub fn audit_status(&self) -> AuditStatus {
        let desk = self.inner.writer().desk();
        let (failures, lines) = desk.counts();
        let waiting = self.inner.reader.with(waiting).ok();
        AuditStatus { healthy: !desk.failing(), lines, failures, waiting }
    }

    /// Lines of the audit log.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn audit_lines(&self, query: &AuditQuery) -> Result<Vec<AuditLine>> {
        self.inner.reader.with(|conn| list(conn, query))
    }

    /// The newest line; with it, lines that are missing at the end of the files show.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn audit_head(&self) -> Result<Option<AuditHead>> {
        self.inner.reader.with(head)
    }
}

/// The newest line that the database of a data directory knows of, for when no gateway runs there; `None` also where there is
/// no database.
///
/// # Errors
/// [`StoreError::Unavailable`] and [`StoreError::Corrupt`].
pub fn anchor(data_dir: &Path) -> Result<Option<AuditHead>> {
    let database = data_dir.join("openclawmu.db");
    if !database.exists() {
        return Ok(None);
    }
    let conn = open::read_only(&database)?;
    let known = conn.prepare("SELECT 1 FROM pragma_table_info('audit_outbox') WHERE name = 'mac'")?.exists([])?;
    if known { head(&conn) } else { Ok(None) }
}

fn waiting(conn: &Connection) -> Result<u64> {
    let sql = "SELECT count(*) FROM audit_outbox WHERE line IS NULL";
    Ok(conn.prepare_cached(sql)?.query_row([], |row| unsigned(row, 0))?)
}

/// The newest line that was committed.
pub(super) fn head(conn: &Connection) -> Result<Option<AuditHead>> {
    let sql = "SELECT line, mac FROM audit_outbox WHERE line IS NOT NULL ORDER BY line DESC LIMIT 1";
    let found = conn.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.map(|(seq, mac)| Ok(AuditHead { seq: number(seq)?, mac })).transpose()
}

fn list(conn: &Connection, query: &AuditQuery) -> Result<Vec<AuditLine>> {
    let mut sql =
        "SELECT line, at_ms, actor_kind, actor_id, ip, request_id, action, tenant, target, outcome, detail, prev, mac
                   FROM audit_outbox WHERE line IS NOT NULL"
            .to_owned();
    let after = query.after.map(|after| i64::try_from(after).unwrap_or(i64::MAX));
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let (compared, direction) = match query.order {
        AuditOrder::Ascending => (" AND line > ?", "ASC"),
        AuditOrder::Descending => (" AND line < ?", "DESC"),
    };
    if let Some(after) = &after {
        sql.push_str(compared);
        values.push(after);
    }
    if let Some(tenant) = &query.tenant {
        sql.push_str(" AND tenant = ?");
        values.push(tenant);
    }
    if let Some(action) = &query.action {
        sql.push_str(" AND action = ?");
        values.push(action);
    }
    sql.push_str(&format!(" ORDER BY line {direction} LIMIT ?"));
    values.push(&query.limit);
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next()? {
        lines.push(AuditLine { seq: number(row.get(0)?)?, event: event(row)?, prev: row.get(11)?, mac: row.get(12)? });
    }
    Ok(lines)
}

/// What a row tells, from its second column on.
pub(super) fn event(row: &Row<'_>) -> Result<AuditEvent> {
    let outcome: String = row.get(9)?;
    let detail: String = row.get(10)?;
    Ok(AuditEvent {
        at: UnixMs(row.get(1)?),
        actor: AuditActor { kind: row.get(2)?, id: row.get(3)? },
        ip: row.get(4)?,
        request_id: row.get(5)?,
        action: row.get(6)?,
        tenant: row.get(7)?,
        target: row.get(8)?,
        outcome: AuditOutcome::of_name(&outcome)
            .ok_or_else(|| StoreError::Corrupt(format!("an audit row ended as `{outcome}`")))?,
        detail: serde_json::from_str(&detail)?,
    })
}

fn number(seq: i64) -> Result<u64> {
    u64::try_from(seq).map_err(|_| StoreError::Corrupt("a line of the audit log has a negative number".to_owned()))
}
