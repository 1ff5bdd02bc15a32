//! Model and upstream names as small keys, so that a reservation of fixed size can refer to them.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension};

use crate::error::Result;
use crate::store::Store;

/// Names kept in memory; past it, a name is looked up each time.
const KEPT: usize = 10_000;

/// Names seen so far.
#[derive(Debug, Default)]
pub(crate) struct Names(RwLock<HashMap<String, u32>>);

impl Store {
    /// The stable key of a model's or upstream's name; a name seen for the first time is written first.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`] when a new name can't be written.
    pub async fn name_key(&self, name: &str) -> Result<u32> {
        let names = &self.inner.names.0;
        if let Some(key) = names.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(*key);
        }
        let known = self.inner.reader.with(|conn| find_key(conn, name))?;
        let key = match known {
            Some(key) => key,
            None => {
                let name = name.to_owned();
                let insert = move |tx: &rusqlite::Transaction<'_>| {
                    tx.execute("INSERT INTO names (name) VALUES (?1) ON CONFLICT (name) DO NOTHING", [&name])?;
                    Ok(tx.query_row("SELECT row_id FROM names WHERE name = ?1", [&name], |row| row.get(0))?)
                };
                self.inner.ledger.writer().run(insert).await?
            }
        };
        let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < KEPT {
            names.insert(name.to_owned(), key);
        }
        Ok(key)
    }
}

fn find_key(conn: &Connection, name: &str) -> Result<Option<u32>> {
    Ok(conn
        .prepare_cached("SELECT row_id FROM names WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

/// The name behind a key.
pub(crate) fn find_name(conn: &Connection, key: u32) -> Result<Option<String>> {
    Ok(conn
        .prepare_cached("SELECT name FROM names WHERE row_id = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()?)
}
