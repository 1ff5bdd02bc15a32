//! Reading the store as it was at one moment.
//!
//! A whole backup copies the database with `VACUUM INTO`, which reads one snapshot and never makes the writer wait; the copy is
//! checked before anything is said of it. One tenant is read in a transaction of its own.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::backup::line;
use crate::backup::table::{self, CARRIED, RowObject, TenantRows};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::ledger::by_tenant::IDS;
use crate::ledger::row::unsigned;
use crate::money::NanoUsd;
use crate::sqlite::open;
use crate::store::Store;
use crate::token::Pepper;
use crate::window::Month;

/// The store at one moment.
#[derive(Debug)]
pub struct Snapshot {
    conn: Connection,
}

/// What a snapshot says of itself, so that a restore can be held against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// The schema that its rows are of.
    pub schema: i64,
    /// Tenants that are not deleted.
    pub tenants: u64,
    /// Rows of the ledger.
    pub ledger_rows: u64,
    /// What they cost.
    pub ledger_cost_usd: NanoUsd,
    /// The newest state change on record.
    pub audit_seq: i64,
}

impl Store {
    /// Copies the database into the new file `to`. Never waits for the writer, nor it for this. Takes long: not for an
    /// async thread.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when there is no room, [`StoreError::Corrupt`] when the copy is not sound.
    pub fn copy_database(&self, to: &Path) -> Result<Snapshot> {
        let path = to.to_str().ok_or_else(|| StoreError::DataDir {
            path: to.to_owned(),
            reason: "is not UTF-8, which the database needs".to_owned(),
        })?;
        let conn = open::read_only(&self.dir().join("openclawmu.db"))?;
        conn.execute("VACUUM INTO ?1", [path])?;
        drop(conn);
        let copy = Snapshot::open(to)?;
        copy.check()?;
        Ok(copy)
    }

    /// The store as it is now, for one tenant's backup. It must not be held for long: the log grows meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        let conn = open::read_only(&self.dir().join("openclawmu.db"))?;
        conn.execute_batch("BEGIN")?;
        let snapshot = Snapshot { conn };
        // The transaction's moment is that of its first read.
        snapshot.facts()?;
        Ok(snapshot)
    }
}

impl Store {
    /// Fingerprints of the keys that token hashes need.
    #[must_use]
    pub fn pepper_fingerprints(&self) -> Vec<String> {
        self.inner.auth.pepper().fingerprints()
    }
}

/// The same of the `pepper.key` in a directory that no store is opened in.
///
/// # Errors
/// [`StoreError::KeyFile`] when it is missing or unreadable.
pub fn pepper_fingerprints(dir: &Path) -> Result<Vec<String>> {
    Ok(Pepper::open(&dir.join("pepper.key"), true)?.fingerprints())
}

impl Snapshot {
    /// A copy that was made before.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { conn: open::read_only(path)? })
    }

    /// Refuses a copy whose pages or indices are not sound.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with SQLite's finding.
    pub fn check(&self) -> Result<()> {
        let found: String = self.conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found == "ok" { Ok(()) } else { Err(StoreError::Corrupt(format!("the copy of the database: {found}"))) }
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn facts(&self) -> Result<SnapshotFacts> {
        let number = |sql: &str| self.conn.query_row(sql, [], |row| row.get::<_, i64>(0));
        let count = |sql: &str| self.conn.query_row(sql, [], |row| unsigned(row, 0));
        Ok(SnapshotFacts {
            schema: number("PRAGMA user_version")?,
            tenants: count("SELECT count(*) FROM tenants WHERE status <> 'deleted'")?,
            ledger_rows: count("SELECT count(*) FROM ledger")?,
            ledger_cost_usd: NanoUsd(number("SELECT coalesce(sum(cost_nanos), 0) FROM ledger")?),
            audit_seq: number("SELECT coalesce(max(seq), 0) FROM audit_outbox")?,
        })
    }

    /// The tenants that are not deleted, by id.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut statement = self.conn.prepare("SELECT id FROM tenants WHERE status <> 'deleted' ORDER BY id")?;
        let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
        let parsed = ids.map(|id| id?.parse().map_err(|err| StoreError::Corrupt(format!("{err}"))));
        parsed.collect()
    }

    /// Everything of a tenant but its ledger.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn tenant_rows(&self, id: &TenantId) -> Result<TenantRows> {
        let key = self.key(id)?;
        let tenant = table::read(&self.conn, "tenants", key)?.pop().ok_or(StoreError::NotFound("tenant"))?;
        let mut others = Vec::new();
        for (name, _) in CARRIED {
            others.extend(table::read(&self.conn, name, key)?.into_iter().map(|row| (name.to_owned(), row)));
        }
        Ok(TenantRows { tenant, tokens: table::read(&self.conn, "tokens", key)?, others })
    }

    /// The months that a tenant has ledger rows in, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn ledger_months(&self, id: &TenantId) -> Result<Vec<Month>> {
        let key = self.key(id)?;
        let mut statement =
            self.conn.prepare(&format!("SELECT DISTINCT month FROM ledger WHERE id IN {IDS} ORDER BY month"))?;
        let months = statement.query_map([key.0], |row| row.get(0).map(Month))?;
        Ok(months.collect::<rusqlite::Result<_>>()?)
    }

    /// Gives a tenant's ledger rows of a month to `each`, by id, in the form of [`Store::archive`]'s files.
    ///
    /// # Errors
    /// Those of `each`, and [`StoreError::NotFound`].
    pub fn ledger(&self, id: &TenantId, month: Month, each: &mut dyn FnMut(RowObject) -> Result<()>) -> Result<()> {
        let key = self.key(id)?;
        line::each(
            &self.conn,
            &format!("WHERE l.id IN {IDS} AND l.month = ?2 ORDER BY l.id"),
            &[key.0, month.0.into()],
            each,
        )
    }

    /// When the newest ledger row was admitted.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn newest_row_at(&self) -> Result<Option<UnixMs>> {
        let sql = "SELECT admitted_at_ms FROM ledger ORDER BY id DESC LIMIT 1";
        Ok(self.conn.query_row(sql, [], |row| row.get(0).map(UnixMs)).optional()?)
    }

    fn key(&self, id: &TenantId) -> Result<TenantKey> {
        crate::tenant::key_of(&self.conn, id)
    }
}
