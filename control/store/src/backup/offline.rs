//! A restored database before its first start: what happened after its snapshot is added from the segments.
//!
//! It is the same gateway's database, so rows keep their ids. This must be done before a store is opened on it: an owner takes
//! its number from what is there.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use crate::audit::{self, Actor, Entry};
use crate::backup::adder::name_key;
use crate::backup::line::{self, Keys};
use crate::backup::table::{RowObject, number, text};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{LabelKey, TenantKey, TokenKey};
use crate::label;
use crate::ledger::row;
use crate::sqlite::lock::FileLock;
use crate::sqlite::{migrate, open};

/// A database that nobody serves from yet.
#[derive(Debug)]
pub struct Offline {
    conn: Connection,
    _lock: FileLock,
}

/// What was added.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replayed {
    /// Ledger rows that the snapshot did not have.
    pub ledger_rows: u64,
    /// Tenants that the snapshot did not have: they are there, suspended, with what they used.
    pub tenants_unknown: Vec<String>,
    /// Tokens that were revoked after the snapshot: they are revoked again.
    pub tokens_revoked: Vec<String>,
    /// Tenants that were deleted after the snapshot: they are deleted again.
    pub tenants_deleted: Vec<String>,
    /// Other changes on record after the snapshot, which a segment does not hold: to be made again by hand.
    pub changes_lost: u64,
}

impl Offline {
    /// Opens the database in `dir`, which no process may serve from.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::NewerSchema`], [`StoreError::Corrupt`].
    pub fn open(dir: &Path) -> Result<Self> {
        let lock =
            FileLock::take(&dir.join("lock"), Duration::ZERO)?.ok_or_else(|| StoreError::Locked(dir.to_owned()))?;
        let mut conn = open::writable(&dir.join("openclawmu.db"))?;
        migrate::run(&mut conn)?;
        Ok(Self { conn, _lock: lock })
    }

    /// Adds ledger rows that are not there yet, those that end a hold after all others.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] on a line that is none.
    pub fn ledger(&mut self, lines: &[RowObject], done: &mut Replayed) -> Result<()> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for line in lines {
            let id = number(line, "id")?;
            if tx.prepare_cached("SELECT 1 FROM ledger WHERE id = ?1")?.exists([id])? {
                continue;
            }
            let tenant = tenant_of(&tx, line, done)?;
            let token: Option<i64> = match line.get("token_id").and_then(Value::as_str) {
                None => None,
                Some(token) => tx
                    .prepare_cached("SELECT row_id FROM tokens WHERE id = ?1")?
                    .query_row([token], |row| row.get(0))
                    .optional()?,
            };
            let label = line::label(line, tenant);
            label::insert(&tx, label.as_slice())?;
            let keys = Keys {
                tenant,
                // A token that the snapshot does not know keeps its number, and has no name.
                token: TokenKey(token.map_or_else(|| number(line, "token"), Ok)?),
                model: name_key(&tx, line, "model_name")?,
                upstream: name_key(&tx, line, "upstream_name")?,
                label: label.map_or_else(LabelKey::default, |label| label.key()),
            };
            row::insert(&tx, std::iter::once(&line::row(line, keys)?))?;
            if let Some(reason) = line.get("reason").and_then(Value::as_str) {
                let sql = "INSERT INTO adjustments (id, resolves, reason) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
                tx.execute(sql, params![id, line.get("resolves").and_then(Value::as_i64), reason])?;
            }
            done.ledger_rows += 1;
        }
        Ok(tx.commit()?)
    }

    /// Takes a line of the audit log from after the snapshot: a revocation or a deletion is made again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit(&mut self, now: UnixMs, line: &RowObject, done: &mut Replayed) -> Result<()> {
        if line.get("outcome").and_then(Value::as_str).is_some_and(|outcome| outcome != "ok" && outcome != "success") {
            return Ok(());
        }
        let (tenant, target) = (line.get("tenant").and_then(Value::as_str), line.get("target").and_then(Value::as_str));
        match (line.get("action").and_then(Value::as_str), tenant, target) {
            (Some("token.revoke"), _, Some(token)) => {
                let sql = "UPDATE tokens SET revoked_at_ms = ?2, version = version + 1 WHERE id = ?1 AND revoked_at_ms IS NULL";
                if self.conn.execute(sql, params![token, now.0])? > 0 {
                    done.tokens_revoked.push(token.to_owned());
                }
            }
            (Some("tenant.delete"), Some(tenant), _) => {
                let sql = "UPDATE tenants SET status = 'deleted', version = version + 1, deleted_at_ms = ?2 WHERE id = ?1 AND status <> 'deleted'";
                if self.conn.execute(sql, params![tenant, now.0])? > 0 {
                    done.tenants_deleted.push(tenant.to_owned());
                }
            }
            (Some(action), ..) if action.starts_with("budget.") || action.starts_with("backup.") => {}
            (Some("credit.create" | "hold.resolve"), ..) => {}
            (Some(_), ..) => done.changes_lost += 1,
            (None, ..) => return Err(StoreError::Corrupt("an audit line has no action".to_owned())),
        }
        Ok(())
    }

    /// Puts the restore on record: by whom, of which backup, and what was made again. The first start writes the line.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn restored(&mut self, now: UnixMs, (actor, backup): (&Actor, &str), done: &Replayed) -> Result<()> {
        let detail = serde_json::to_value(done)?;
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let entry = Entry { action: "gateway.restore", tenant: None, target: Some(backup), detail };
        audit::record(&tx, now, actor, &entry)?;
        Ok(tx.commit()?)
    }

    /// Makes everything durable and lets go of the directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn close(self) -> Result<()> {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.conn.close().map_err(|(_, err)| err)?;
        Ok(())
    }
}

/// The tenant of a line; one that the snapshot does not know is made, suspended, so that what it used has an owner.
fn tenant_of(conn: &Connection, line: &RowObject, done: &mut Replayed) -> Result<TenantKey> {
    let id = text(line, "tenant_id")?;
    let find = "SELECT row_id FROM tenants WHERE id = ?1";
    if let Some(key) = conn.prepare_cached(find)?.query_row([id], |row| row.get(0)).optional()? {
        return Ok(TenantKey(key));
    }
    let at = number(line, "admitted_at_ms")?;
    conn.execute(
        "INSERT INTO tenants (id, name, status, timezone, quota, metadata, version, created_at_ms, updated_at_ms)
         VALUES (?1, ?1, 'suspended', 'UTC', '{}', '{}', 1, ?2, ?2)",
        params![id, at],
    )?;
    done.tenants_unknown.push(id.to_owned());
    Ok(TenantKey(conn.last_insert_rowid()))
}
