//! Months of the ledger's rows, moved to compressed files. The sums stay: no report changes.
//!
//! A month is moved when it is over in every zone and nothing that was admitted in it is in flight, so that its rows are
//! final. The file is written, synced and read back before the database learns of it; only what it holds leaves the ledger,
//! in small pieces, so that nobody waits. A crash at any point loses nothing: an unfinished file is written anew, an
//! unfinished removal is taken up by the next call.
//!
//! - `file`: the file itself

mod file;
#[cfg(test)]
mod tests;

pub(crate) use file::COLUMNS;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::json;

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::ledger::batch;
use crate::ledger::inflight::{self, FOLDER as INFLIGHT};
use crate::money::NanoUsd;
use crate::sqlite::lock::FileLock;
use crate::store::Store;
use crate::window::{Month, Windows, Zone};

/// The folder of archives in the data directory.
const FOLDER: &str = "archive";
/// Rows that leave the ledger in one commit.
const REMOVED_AT_ONCE: u32 = 2_000;

/// A file of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Archive {
    /// The calendar month that admitted the rows, in each tenant's zone.
    pub month: Month,
    /// Counts up from 1: rows that came later are in a part of their own.
    pub part: u32,
    /// The file, relative to the data directory: JSON lines, zstd.
    pub file: String,
    /// The file's SHA-256, in hex.
    pub sha256: String,
    /// Rows in it.
    pub rows: u64,
    /// Their cost.
    pub cost_usd: NanoUsd,
    /// When it was made.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
    #[serde(skip)]
    last_id: i64,
}

impl Store {
    /// Moves a month's rows to a file; `None` when there are none to move. Takes long: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the month is not over everywhere, something of it is in flight, or another call moves
    /// rows at this moment; [`StoreError::Unavailable`] when the disk refuses.
    pub fn archive(&self, actor: &Actor, month: Month) -> Result<Option<Archive>> {
        // Another process may do the same while it hands over.
        let folder = self.inner.dir.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|err| refused(&folder, &err))?;
        let _one = FileLock::take(&folder.join("lock"), Duration::ZERO)?.ok_or_else(|| {
            StoreError::Conflict("rows are being archived at this moment; try again later".to_owned())
        })?;
        self.check_final(month)?;
        for known in self.archives()?.iter().filter(|known| known.month == month) {
            self.clear(known)?;
        }
        let made = self.write_file(month)?;
        if let Some(archive) = &made {
            self.acknowledge(actor, archive.clone())?;
            self.clear(archive)?;
        }
        Ok(made)
    }

    /// Every archive, oldest month first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn archives(&self) -> Result<Vec<Archive>> {
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT month, part, last_id, file, sha256, rows, cost_nanos, created_at_ms FROM archives ORDER BY month, part",
            )?;
            let archives = statement.query_map([], read)?.collect::<rusqlite::Result<_>>()?;
            Ok(archives)
        })
    }

    /// The months whose rows are still in the ledger and that ended before the `kept` newest ones, the present one included.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn archivable(&self, kept: u32) -> Result<Vec<Month>> {
        let now = self.inner.clock.now();
        let present = Windows::at(now, &Zone::utc()).month;
        let first_kept = present.saturating_sub(i32::try_from(kept).unwrap_or(i32::MAX).saturating_sub(1));
        self.inner.reader.with(|conn| {
            let mut months = Vec::new();
            let mut seen: Option<i32> = months_after(conn, i32::MIN)?;
            while let Some(month) = seen.filter(|month| *month < first_kept) {
                if Month(month).over_everywhere_at() <= now && !is_cleared(conn, month)? {
                    months.push(Month(month));
                }
                seen = months_after(conn, month)?;
            }
            Ok(months)
        })
    }

    /// Refuses a month whose rows may still come or change.
    fn check_final(&self, month: Month) -> Result<()> {
        if self.inner.clock.now() < month.over_everywhere_at() {
            return Err(StoreError::Conflict(format!("{month} is not over in every time zone yet")));
        }
        for table in inflight::tables(&self.inner.dir.join(INFLIGHT))? {
            if inflight::read_all(&table)?.iter().any(|(reservation, _)| reservation.month <= month.0) {
                return Err(StoreError::Conflict(format!("a request that was admitted in {month} is still in flight")));
            }
        }
        if self.inner.reader.with(|conn| batch::runs_since(conn, month.0))? {
            return Err(StoreError::Conflict(format!("a batch that was admitted in {month} has not ended")));
        }
        Ok(())
    }

    /// Writes the file and makes sure that it holds what the sums say.
    fn write_file(&self, month: Month) -> Result<Option<Archive>> {
        let found = self.inner.reader.with(|conn| {
            let part: u32 =
                conn.query_row("SELECT coalesce(max(part), 0) + 1 FROM archives WHERE month = ?1", [month.0], |row| {
                    row.get(0)
                })?;
            let last_id: Option<i64> = conn.query_row("SELECT max(id) FROM ledger", [], |row| row.get(0))?;
            Ok(last_id.map(|last_id| (part, last_id)))
        })?;
        let Some((part, last_id)) = found else { return Ok(None) };
        let suffix = if part == 1 { String::new() } else { format!(".{part}") };
        let name = format!("{FOLDER}/ledger-{month}{suffix}.jsonl.zst");
        let path = self.inner.dir.join(&name);
        let Some(written) = file::write(&self.inner.reader, &path, (month, last_id))? else { return Ok(None) };
        self.inner.reader.with(|conn| check_sums(conn, month, written.cost, last_id))?;
        let (rows, cost_usd, created_at) = (written.rows, written.cost, self.inner.clock.now());
        Ok(Some(Archive { month, part, file: name, sha256: written.sha256, rows, cost_usd, created_at, last_id }))
    }

    /// Tells the database, which from then on lets those rows go.
    fn acknowledge(&self, actor: &Actor, archive: Archive) -> Result<()> {
        let actor = actor.clone();
        Change::new(self, move |tx, now| {
            tx.execute(
                "INSERT INTO archives (month, part, last_id, file, sha256, rows, cost_nanos, created_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    archive.month.0,
                    archive.part,
                    archive.last_id,
                    archive.file,
                    archive.sha256,
                    i64::try_from(archive.rows).unwrap_or(i64::MAX),
                    archive.cost_usd.0,
                    archive.created_at.0
                ],
            )?;
            let detail = json!({"file": archive.file, "sha256": archive.sha256, "rows": archive.rows, "cost_usd": archive.cost_usd});
            let entry = Entry { action: "ledger.archive", tenant: None, target: Some(&archive.month.to_string()), detail };
            audit::record(tx, now, &actor, &entry)
        })
        .wait()
    }

    /// Removes an archive's rows from the ledger, some at a time.
    fn clear(&self, archive: &Archive) -> Result<()> {
        let (month, part, last_id) = (archive.month.0, archive.part, archive.last_id);
        if self.inner.reader.with(|conn| is_part_cleared(conn, month, part))? {
            return Ok(());
        }
        let mut after = i64::MIN;
        loop {
            let last = self.inner.reader.with(|conn| piece_end(conn, (month, last_id), after))?;
            let Some(last) = last else { break };
            self.inner.writer().run_blocking(move |tx| remove(tx, month, (after, last)))?;
            after = last;
        }
        self.inner.writer().run_blocking(move |tx| {
            tx.execute(
                "INSERT INTO archives_cleared (month, part) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                [i64::from(month), i64::from(part)],
            )?;
            Ok(())
        })
    }
}

fn remove(tx: &Transaction<'_>, month: i32, (after, last): (i64, i64)) -> Result<()> {
    tx.prepare_cached("DELETE FROM ledger WHERE id > ?1 AND id <= ?2 AND month = ?3")?
        .execute(params![after, last, month])?;
    Ok(())
}

/// The last id of the next piece to remove.
fn piece_end(conn: &Connection, (month, last_id): (i32, i64), after: i64) -> Result<Option<i64>> {
    let sql =
        "SELECT max(id) FROM (SELECT id FROM ledger WHERE id > ?1 AND id <= ?2 AND month = ?3 ORDER BY id LIMIT ?4)";
    Ok(conn.prepare_cached(sql)?.query_row(params![after, last_id, month, REMOVED_AT_ONCE], |row| row.get(0))?)
}

fn months_after(conn: &Connection, month: i32) -> Result<Option<i32>> {
    let sql = "SELECT min(month) FROM usage_days WHERE month > ?1";
    Ok(conn.prepare_cached(sql)?.query_row([month], |row| row.get(0))?)
}

fn is_part_cleared(conn: &Connection, month: i32, part: u32) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM archives_cleared WHERE month = ?1 AND part = ?2")?
        .exists(params![month, part])?)
}

/// Whether a month has been moved and its rows have left.
fn is_cleared(conn: &Connection, month: i32) -> Result<bool> {
    let sql = "SELECT count(*) > 0 AND count(*) = (SELECT count(*) FROM archives_cleared WHERE month = ?1) FROM archives WHERE month = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([month], |row| row.get(0))?)
}

/// The files and what came after them must cost what the kept sums say.
fn check_sums(conn: &Connection, month: Month, cost: NanoUsd, last_id: i64) -> Result<()> {
    let kept: Option<i64> = conn
        .query_row("SELECT sum(cost_nanos) FROM usage_days WHERE month = ?1", [month.0], |row| row.get(0))
        .optional()?
        .flatten();
    let earlier: i64 =
        conn.query_row("SELECT coalesce(sum(cost_nanos), 0) FROM archives WHERE month = ?1", [month.0], |row| {
            row.get(0)
        })?;
    let later: i64 = conn.query_row(
        "SELECT coalesce(sum(cost_nanos), 0) FROM ledger WHERE id > ?1 AND month = ?2",
        params![last_id, month.0],
        |row| row.get(0),
    )?;
    let found = i128::from(cost.0) + i128::from(earlier) + i128::from(later);
    if kept.map(i128::from) == Some(found) {
        return Ok(());
    }
    let kept = NanoUsd(kept.unwrap_or_default());
    Err(StoreError::Corrupt(format!(
        "the rows of {month} cost {found} nano-dollars and their sums say {kept} USD; nothing was removed: run `openclawmu billing reconcile`"
    )))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Archive> {
    let rows: i64 = row.get(5)?;
    Ok(Archive {
        month: Month(row.get(0)?),
        part: row.get(1)?,
        last_id: row.get(2)?,
        file: row.get(3)?,
        sha256: row.get(4)?,
        rows: u64::try_from(rows).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(5, rows))?,
        cost_usd: NanoUsd(row.get(6)?),
        created_at: UnixMs(row.get(7)?),
    })
}

/// An error of the file system, at `path`.
fn refused(path: &Path, err: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("{}: {err}", path.display()))
}
