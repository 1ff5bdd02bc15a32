//! Ledger lines into rows of this store: under ids that no process ever uses, each row once.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use crate::backup::line::{self, Keys};
use crate::backup::report::UsageSince;
use crate::backup::table::{RowObject, number, text};
use crate::error::{Result, StoreError};
use crate::id::{LabelKey, ReservationId, TenantKey, TokenKey};
use crate::label;
use crate::ledger::row::{self, Bill};
use crate::money::NanoUsd;

/// What became of some lines.
pub(super) struct Piece {
    pub(super) bills: Vec<((i32, i32), Bill)>,
    pub(super) holds: Vec<(i64, i64)>,
    pub(super) count: u64,
    pub(super) known: UsageSince,
}

/// Turns lines into rows of this store, on the writer's thread.
pub(super) struct Adder {
    pub(super) tenant: TenantKey,
    pub(super) epoch: u32,
    pub(super) count: u64,
    pub(super) tokens: HashMap<String, i64>,
    pub(super) holds: HashMap<i64, i64>,
}

impl Adder {
    pub(super) fn add(mut self, tx: &Transaction<'_>, lines: &[RowObject]) -> Result<Piece> {
        let mut piece = Piece { bills: Vec::new(), holds: Vec::new(), count: 0, known: UsageSince::default() };
        for line in lines {
            let old = number(line, "id")?;
            if let Some(id) = self.known(tx, line)? {
                piece.known.rows += 1;
                piece.known.cost_usd = piece.known.cost_usd.saturating_add(NanoUsd(number(line, "cost_nanos")?));
                if number(line, "held_nanos")? != 0 || number(line, "held_tokens")? != 0 {
                    self.holds.insert(old, id);
                    piece.holds.push((old, id));
                }
                continue;
            }
            let mut row = line::row(line, self.keys(tx, line)?)?;
            row.reservation.id = ReservationId::new(self.epoch, self.count)
                .ok_or_else(|| StoreError::Corrupt("owner epochs are exhausted".to_owned()))?;
            self.count += 1;
            row::insert(tx, std::iter::once(&row))?;
            let new = row.reservation.id.0;
            if let Some(reason) = line.get("reason").and_then(Value::as_str) {
                let resolves = match line.get("resolves").and_then(Value::as_i64) {
                    None => None,
                    Some(of) => Some(*self.holds.get(&of).ok_or_else(|| {
                        StoreError::Corrupt("a ledger row ends a hold that is not in the backup".to_owned())
                    })?),
                };
                tx.prepare_cached("INSERT INTO adjustments (id, resolves, reason) VALUES (?1, ?2, ?3)")?
                    .execute(params![new, resolves, reason])?;
            }
            if row.held.0 != 0 || row.held_tokens != 0 {
                self.holds.insert(old, new);
                piece.holds.push((old, new));
            }
            piece.bills.push(((row.reservation.day, row.reservation.month), row.bill()));
        }
        piece.count = self.count;
        Ok(piece)
    }

    /// The id of the same row, where it is here already. Rows of this very restore don't count: two alike are two.
    fn known(&self, tx: &Transaction<'_>, line: &RowObject) -> Result<Option<i64>> {
        let sql = "SELECT id FROM ledger
            WHERE id IN (SELECT id FROM ledger_by_tenant WHERE tenant = ?1 AND admitted_at_ms = ?2) AND request_id = ?3 AND attempt = ?4
            AND outcome = ?5 AND cost_nanos = ?6 AND id NOT BETWEEN ?7 AND ?8";
        let bound = |epoch: u32| ReservationId::new(epoch, 0).map_or(i64::MAX, |id| id.0);
        let found = tx.prepare_cached(sql)?.query_row(
            params![
                self.tenant.0,
                number(line, "admitted_at_ms")?,
                text(line, "request_id")?,
                number(line, "attempt")?,
                text(line, "outcome")?,
                number(line, "cost_nanos")?,
                bound(self.epoch),
                bound(self.epoch + 1) - 1
            ],
            |row| row.get(0),
        );
        Ok(found.optional()?)
    }

    fn keys(&self, tx: &Transaction<'_>, line: &RowObject) -> Result<Keys> {
        let label = line::label(line, self.tenant);
        label::insert(tx, label.as_slice())?;
        let token = match line.get("token_id").and_then(Value::as_str) {
            None => 0,
            Some(id) => *self.tokens.get(id).ok_or_else(|| {
                StoreError::Corrupt("a ledger row is of a token that is not in the backup".to_owned())
            })?,
        };
        Ok(Keys {
            tenant: self.tenant,
            token: TokenKey(token),
            model: name_key(tx, line, "model_name")?,
            upstream: name_key(tx, line, "upstream_name")?,
            label: label.map_or_else(LabelKey::default, |label| label.key()),
        })
    }
}

/// The key of a name here; 0 where the line has none.
pub(super) fn name_key(tx: &Transaction<'_>, line: &RowObject, field: &str) -> Result<u32> {
    let Some(name) = line.get(field).and_then(Value::as_str) else { return Ok(0) };
    tx.prepare_cached("INSERT INTO names (name) VALUES (?1) ON CONFLICT (name) DO NOTHING")?.execute([name])?;
    Ok(tx.prepare_cached("SELECT row_id FROM names WHERE name = ?1")?.query_row([name], |row| row.get(0))?)
}
