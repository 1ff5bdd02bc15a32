//! The file of an archive: one JSON object a row, every column of the ledger with the names behind its keys, zstd.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::{Result, StoreError};
use crate::ledger::archive::refused;
use crate::money::NanoUsd;
use crate::sqlite::reader::Reader;
use crate::window::Month;

/// zstd's own default: fast, and a tenth of the size.
const LEVEL: i32 = 3;
/// Rows that are read in one snapshot, so that the log never has to wait long for this reader.
const READ_AT_ONCE: u32 = 2_000;

/// Every column, and the names behind the keys, as the backup's lines have them too.
pub(crate) const COLUMNS: &str = "
    SELECT t.id AS tenant_id, k.id AS token_id, m.name AS model_name, u.name AS upstream_name, b.user AS user,
        (SELECT json_group_array(tag) FROM label_tags WHERE key = l.label) AS tags, a.reason AS reason, a.resolves AS resolves, l.*
    FROM ledger l JOIN tenants t ON t.row_id = l.tenant LEFT JOIN tokens k ON k.row_id = l.token
        LEFT JOIN names m ON m.row_id = l.model LEFT JOIN names u ON u.row_id = l.upstream
        LEFT JOIN labels b ON b.key = l.label LEFT JOIN adjustments a ON a.id = l.id";
/// The rows of one page, in the order of their ids.
const PAGE: &str = "WHERE l.id > ?1 AND l.id <= ?2 AND l.month = ?3 ORDER BY l.id LIMIT ?4";

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) rows: u64,
    pub(super) cost: NanoUsd,
    pub(super) sha256: String,
}

/// Writes a month's rows up to `last_id`, makes them survive a power loss, and reads them back. No file without rows.
pub(super) fn write(reader: &Reader, path: &Path, of: (Month, i64)) -> Result<Option<Written>> {
    let unfinished = path.with_extension("part");
    let fail = |err: std::io::Error| refused(&unfinished, &err);
    let folder = path.parent().ok_or_else(|| StoreError::Corrupt("an archive has no folder".to_owned()))?;
    let sums = rows(reader, &unfinished, of);
    let Some((rows, cost)) = sums.inspect_err(|_| drop(fs::remove_file(&unfinished)))? else {
        fs::remove_file(&unfinished).map_err(fail)?;
        return Ok(None);
    };
    let written = read_back(&unfinished).map_err(fail)?;
    if (written.rows, written.cost) != (rows, cost) {
        return Err(StoreError::Unavailable(format!("{}: what was written can't be read back", unfinished.display())));
    }
    fs::rename(&unfinished, path).map_err(fail)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(fail)?;
    Ok(Some(written))
}

fn rows(reader: &Reader, path: &Path, (month, last_id): (Month, i64)) -> Result<Option<(u64, NanoUsd)>> {
    let fail = |err: std::io::Error| refused(path, &err);
    let file = File::create(path).map_err(fail)?;
    let mut encoder = zstd::Encoder::new(BufWriter::new(file), LEVEL).map_err(fail)?;
    encoder.include_checksum(true).map_err(fail)?;
    let (mut after, mut count, mut cost) = (i64::MIN, 0_u64, NanoUsd::ZERO);
    loop {
        let page = reader.with(|conn| page(conn, (month, last_id), after))?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, row) in &page {
            serde_json::to_writer(&mut encoder, row).map_err(|err| fail(err.into()))?;
            encoder.write_all(b"\n").map_err(fail)?;
            cost = cost
                .checked_add(cost_of(row))
                .ok_or_else(|| StoreError::Corrupt("a month costs too much".to_owned()))?;
            count += 1;
        }
    }
    let file = encoder
        .finish()
        .and_then(|buffer| buffer.into_inner().map_err(std::io::IntoInnerError::into_error))
        .map_err(fail)?;
    file.sync_all().map_err(fail)?;
    Ok((count > 0).then_some((count, cost)))
}

fn page(conn: &Connection, (month, last_id): (Month, i64), after: i64) -> Result<Vec<(i64, Map<String, Value>)>> {
    let mut statement = conn.prepare_cached(&format!("{COLUMNS} {PAGE}"))?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map(params![after, last_id, month.0, READ_AT_ONCE], |row| object(&names, row))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn object(names: &[String], row: &Row<'_>) -> rusqlite::Result<(i64, Map<String, Value>)> {
    let mut object = Map::new();
    for (at, name) in names.iter().enumerate() {
        let value = match row.get_ref(at)? {
            ValueRef::Integer(number) => Value::from(number),
            ValueRef::Text(text) if name == "tags" => serde_json::from_slice(text).unwrap_or_default(),
            ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
            // The ledger has neither floats nor bytes.
            ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => continue,
        };
        object.insert(name.clone(), value);
    }
    Ok((row.get("id")?, object))
}

fn cost_of(row: &Map<String, Value>) -> NanoUsd {
    NanoUsd(row.get("cost_nanos").and_then(Value::as_i64).unwrap_or_default())
}

/// What a file holds by what can be read of it.
pub(super) fn read_back(path: &Path) -> std::io::Result<Written> {
    let lines = BufReader::new(zstd::Decoder::new(File::open(path)?)?).split(b'\n');
    let (mut rows, mut cost) = (0, NanoUsd::ZERO);
    for line in lines {
        cost = cost.saturating_add(cost_of(&serde_json::from_slice(&line?)?));
        rows += 1;
    }
    let (mut hash, mut file, mut buffer) = (Sha256::new(), File::open(path)?, vec![0; 1 << 16]);
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Written { rows, cost, sha256 })
}
