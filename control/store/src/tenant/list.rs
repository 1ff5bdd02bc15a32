//! Many tenants: page by page, by what their ids and names hold, and how many there are.

use rusqlite::{Row, params};

use super::{Tenant, read};
use crate::error::Result;
#[cfg(doc)]
use crate::error::StoreError;
use crate::id::TenantId;
use crate::model;
use crate::store::Store;

/// How many tenants there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantCounts {
    /// Whose tokens work.
    pub active: u32,
    /// Whose don't, for now.
    pub suspended: u32,
}

impl Store {
    /// At most `limit` tenants by id, those after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>> {
        self.tenants_like("", after, limit)
    }

    /// The same of those whose id or name holds `text`, whatever the case of its ASCII letters; no sign in it stands for others.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when `text` is longer than any name, [`StoreError::Unavailable`].
    pub fn tenants_like(&self, text: &str, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>> {
        model::check_name("search", text)?;
        let text = text.to_ascii_lowercase();
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT row_id, id, name, quota, models, status, timezone, metadata, created_at_ms, updated_at_ms, markup_ppm, aliases
                 FROM tenants WHERE status <> 'deleted' AND id > ?1 AND (?3 = '' OR instr(id, ?3) OR instr(lower(name), ?3)) ORDER BY id LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after.map_or("", TenantId::as_str), limit, text])?;
            let mut tenants = Vec::new();
            while let Some(row) = rows.next()? {
                tenants.push(read(row)?.1);
            }
            Ok(tenants)
        })
    }

    /// How many tenants there are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn tenant_counts(&self) -> Result<TenantCounts> {
        let sql = "SELECT count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'suspended') FROM tenants";
        self.inner.reader.with(|conn| {
            let read = |row: &Row<'_>| Ok(TenantCounts { active: row.get(0)?, suspended: row.get(1)? });
            Ok(conn.prepare_cached(sql)?.query_row([], read)?)
        })
    }
}
