//! Putting a tenant back from its rows.
//!
//! Ledger rows come first, in pieces, so that nobody has to wait for the writer: they are the tenant's own, they can't come
//! twice, and a tenant that is new here is a tombstone meanwhile, which nobody sees. Everything else changes in one
//! transaction at the end, with the tenant's directory. What was revoked stays revoked, what was spent stays spent.

use std::collections::HashMap;
use std::sync::PoisonError;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::{Value, json};

use crate::audit::{self, Actor, Entry};
use crate::backup::adder::Adder;
use crate::backup::report::{RestoreReport, Restored, UsageSince};
use crate::backup::table::{self, CARRIED, Mode, NOT_COPIED, RowObject, TenantRows, number, text};
use crate::change::Change;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey, TokenId};
use crate::ledger::budget::Limits;
use crate::ledger::by_tenant::IDS;
use crate::money::NanoUsd;
use crate::store::Store;
use crate::tenant;
use crate::token::{self, NewToken};

/// What a fresh token of a restored tenant is called.
const TOKEN_NAME: &str = "restored";

/// What is to be restored, and as whom.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// As whom.
    pub id: TenantId,
    /// Another tenant is made of it: its policy and files with fresh tokens, without its usage.
    pub copy: bool,
    /// A tenant of that id is replaced.
    pub force: bool,
    /// Its rows.
    pub rows: TenantRows,
    /// Whether this gateway can verify the tokens in them.
    pub tokens_work: bool,
    /// Where it comes from, for the audit log.
    pub from: String,
}

/// A restore in progress. Dropped before its end, it leaves the tenant as it was.
#[derive(Debug)]
pub struct Restore {
    store: Store,
    actor: Actor,
    plan: RestorePlan,
    source: TenantId,
    key: TenantKey,
    /// The upper part of the ids of rows that are new here; no process ever has that number.
    epoch: u32,
    count: u64,
    tokens: HashMap<String, i64>,
    /// Tokens that this restore has brought in, and that work for nobody yet.
    inert: Vec<RowObject>,
    /// The new ids of rows that hold something, by their old ones.
    holds: HashMap<i64, i64>,
    before: UsageSince,
    known: UsageSince,
    added: u64,
}

/// What there is under an id.
struct Found {
    key: TenantKey,
    deleted: bool,
    /// A restore that broke off: a tombstone that nobody has deleted.
    broken_off: bool,
    created_at_ms: i64,
}

impl Store {
    /// Begins to restore. Blocks: not for an async thread.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a tenant of that id is in the way, [`StoreError::Corrupt`] on rows that are none.
    pub fn begin_restore(&self, actor: &Actor, plan: RestorePlan) -> Result<Restore> {
        if !self.owns_ledger() {
            return Err(StoreError::Unavailable("this process is handing over to its successor".to_owned()));
        }
        let source = plan.rows.id()?;
        let now = self.clock().now();
        let asked = plan.clone();
        let begun = self.inner.writer().run_blocking(move |tx| begin(tx, now, &asked))?;
        let (key, epoch, inert) = begun;
        if let Ok(policy) = self.tenant_policy(&plan.id) {
            // In memory from here on, so that each row that comes is added to them exactly once.
            let (now, now_ms) = (self.clock().now(), self.inner.clock.monotonic_ms());
            let limits = Limits { quota: &policy.quota, zone: &policy.zone, now, now_ms };
            self.inner.ledger.budget(key).windows(&self.inner.reader, limits)?;
        }
        let (tokens, before) = self.inner.reader.with(|conn| Ok((tokens_of(conn, key)?, usage(conn, key)?)))?;
        Ok(Restore {
            store: self.clone(),
            actor: actor.clone(),
            plan,
            source,
            key,
            epoch,
            count: 0,
            tokens,
            inert,
            holds: HashMap::new(),
            before,
            known: UsageSince::default(),
            added: 0,
        })
    }
}

impl Store {
    /// The names of restores that were committed and not settled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn restores_to_settle(&self) -> Result<Vec<String>> {
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare("SELECT substr(name, 6) FROM backup_state WHERE name LIKE 'swap:%'")?;
            let names = statement.query_map([], |row| row.get(0))?;
            Ok(names.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whatever was committed is settled.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn restores_settled(&self) -> Result<()> {
        let forget = |tx: &Transaction<'_>| {
            tx.execute("DELETE FROM backup_state WHERE name LIKE 'swap:%'", [])?;
            Ok(())
        };
        self.inner.writer().run_aside(forget).await
    }
}

/// Makes sure that there is a place for the tenant's rows. A tenant that is new here is a tombstone until the end.
fn begin(tx: &Transaction<'_>, now: UnixMs, plan: &RestorePlan) -> Result<(TenantKey, u32, Vec<RowObject>)> {
    let key = match allowed(tx, plan)? {
        Some(found) => found.key,
        None => {
            let set = [
                ("id", Sql::Text(plan.id.to_string())),
                ("status", Sql::Text("deleted".to_owned())),
                ("version", Sql::Integer(1)),
                ("updated_at_ms", Sql::Integer(now.0)),
            ];
            let mut row = plan.rows.tenant.clone();
            row.remove("deleted_at_ms");
            if plan.copy {
                row.insert("created_at_ms".to_owned(), now.0.into());
            }
            table::insert(tx, "tenants", &row, &set)?;
            TenantKey(tx.last_insert_rowid())
        }
    };
    let mut inert = Vec::new();
    if !plan.copy {
        for token in &plan.rows.tokens {
            let set = [("tenant", Sql::Integer(key.0)), ("revoked_at_ms", Sql::Integer(now.0))];
            if table::insert(tx, "tokens", token, &set)? {
                inert.push(token.clone());
            } else if !is_of(tx, key, text(token, "id")?)? {
                return Err(StoreError::Corrupt("a token in the backup is another tenant's here".to_owned()));
            }
        }
    }
    tx.execute("INSERT INTO owners (started_at_ms) VALUES (?1)", [now.0])?;
    let epoch = u32::try_from(tx.last_insert_rowid())
        .map_err(|_| StoreError::Corrupt("owner epochs are exhausted".to_owned()))?;
    Ok((key, epoch, inert))
}

/// The tenant that the restore goes to, if there is one; an error where it must not.
fn allowed(conn: &Connection, plan: &RestorePlan) -> Result<Option<Found>> {
    let id = &plan.id;
    let sql = "SELECT row_id, status = 'deleted', created_at_ms, status = 'deleted' AND deleted_at_ms IS NULL FROM tenants WHERE id = ?1";
    let found = conn.prepare_cached(sql)?.query_row([id.as_str()], |row| {
        let (key, deleted) = (TenantKey(row.get(0)?), row.get(1)?);
        Ok(Found { key, deleted, created_at_ms: row.get(2)?, broken_off: row.get(3)? })
    });
    let Some(found) = found.optional()? else { return Ok(None) };
    if found.broken_off {
        return Ok(Some(found));
    }
    let conflict = |why: String| Err(StoreError::Conflict(why));
    if plan.copy {
        return conflict(format!("the tenant id `{id}` is taken, or was once; a copy needs an id of its own"));
    }
    if found.created_at_ms != number(&plan.rows.tenant, "created_at_ms")? {
        return conflict(format!(
            "`{id}` is another tenant here than the one in the backup; restore it under an id of its own (`--as`)"
        ));
    }
    if plan.force {
        return Ok(Some(found));
    }
    let state = if found.deleted { "was deleted" } else { "exists" };
    conflict(format!("the tenant `{id}` {state}; force (`--force`) puts the backup in its place, `--as` makes a copy"))
}

fn is_of(conn: &Connection, tenant: TenantKey, token: &str) -> Result<bool> {
    Ok(conn.prepare_cached("SELECT 1 FROM tokens WHERE id = ?1 AND tenant = ?2")?.exists(params![token, tenant.0])?)
}

fn tokens_of(conn: &Connection, tenant: TenantKey) -> Result<HashMap<String, i64>> {
    let mut statement = conn.prepare_cached("SELECT id, row_id FROM tokens WHERE tenant = ?1")?;
    let tokens = statement.query_map([tenant.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(tokens.collect::<rusqlite::Result<_>>()?)
}

fn usage(conn: &Connection, tenant: TenantKey) -> Result<UsageSince> {
    let sql = format!("SELECT count(*), coalesce(sum(cost_nanos), 0) FROM ledger WHERE id IN {IDS}");
    Ok(conn.prepare_cached(&sql)?.query_row([tenant.0], |row| {
        Ok(UsageSince { rows: row.get::<_, i64>(0)?.unsigned_abs(), cost_usd: NanoUsd(row.get(1)?) })
    })?)
}

impl Restore {
    /// Whether the tenant's usage is to be given to [`Restore::ledger`]. A copy leaves it with the tenant that it is of.
    #[must_use]
    pub fn wants_ledger(&self) -> bool {
        !self.plan.copy
    }

    /// Adds ledger rows that are not here yet: some hundreds at a time, and those that end a hold after all others. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] on a line that is none of this tenant's.
    pub fn ledger(&mut self, lines: Vec<RowObject>) -> Result<()> {
        for line in &lines {
            if text(line, "tenant_id")? != self.source.as_str() {
                return Err(StoreError::Corrupt("the backup of a tenant holds another's usage".to_owned()));
            }
        }
        let adder = Adder {
            tenant: self.key,
            epoch: self.epoch,
            count: self.count,
            tokens: self.tokens.clone(),
            holds: self.holds.clone(),
        };
        let piece = self.store.inner.writer().run_blocking(move |tx| adder.add(tx, &lines))?;
        self.count = piece.count;
        self.holds.extend(piece.holds);
        self.known.rows += piece.known.rows;
        self.known.cost_usd = self.known.cost_usd.saturating_add(piece.known.cost_usd);
        self.added += u64::try_from(piece.bills.len()).unwrap_or(u64::MAX);
        let budgets = self.store.inner.ledger.budgets.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = budgets.get(&self.key) {
            piece.bills.into_iter().for_each(|(windows, bill)| budget.adjust(windows, bill));
        }
        Ok(())
    }

    /// Puts everything else back, at once. `swap` is called last: it exchanges the tenant's directories, and what it refuses
    /// undoes the rest. `name` is remembered until [`Store::restores_settled`]: a crash leaves it there only if all came about. An error after it means that nothing is known of the commit: exchange them back.
    pub fn finish(self, name: String, swap: impl FnOnce() -> Result<()> + Send + 'static) -> Change<Restored> {
        let store = self.store.clone();
        let pepper = store.inner.auth.pepper();
        Change::new(&store, move |tx, now| {
            let Self { actor, plan, key, inert, before, known, added, .. } = self;
            let found = allowed(tx, &RestorePlan { copy: false, force: true, ..plan.clone() });
            if !plan.copy {
                found?;
            }
            let mut report = RestoreReport {
                usage_since: UsageSince {
                    rows: before.rows.saturating_sub(known.rows),
                    cost_usd: before.cost_usd.saturating_sub(known.cost_usd),
                },
                ledger_rows_added: added,
                ..RestoreReport::default()
            };
            table::update_tenant(tx, key, &plan.rows.tenant)?;
            tx.execute(
                "UPDATE tenants SET version = version + 1, updated_at_ms = ?2, deleted_at_ms = NULL WHERE row_id = ?1",
                params![key.0, now.0],
            )?;
            if !plan.copy {
                tokens(tx, now, (key, &plan), &inert, &mut report)?;
            }
            others(tx, key, &plan, &mut report)?;
            let (_, tenant) = tenant::find_checked(tx, &plan.id)?;
            let token = if has_token(tx, now, key)? {
                None
            } else {
                let new = NewToken { name: Some(TOKEN_NAME.to_owned()), ..NewToken::default() };
                Some(token::insert(tx, now, &pepper, (key, &plan.id), new)?)
            };
            let action = if plan.copy { "tenant.copy" } else { "tenant.restore" };
            let detail =
                json!({"from": plan.from, "report": report, "token": token.as_ref().map(|(token, _)| &token.id)});
            audit::record(tx, now, &actor, &Entry { action, tenant: Some(&plan.id), target: None, detail })?;
            tx.execute(
                "INSERT INTO backup_state (name, value) VALUES ('swap:' || ?1, '') ON CONFLICT DO NOTHING",
                [&name],
            )?;
            swap()?;
            Ok(Restored { tenant, token, report })
        })
    }
}

/// Gives tokens that this restore brought in what they had, where that is theirs to have; says what became of each.
fn tokens(
    tx: &Transaction<'_>,
    now: UnixMs,
    (key, plan): (TenantKey, &RestorePlan),
    inert: &[RowObject],
    report: &mut RestoreReport,
) -> Result<()> {
    let id_of = |row: &RowObject| -> Result<TokenId> {
        text(row, "id")?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))
    };
    let worked = |row: &RowObject| {
        let at = |name: &str| row.get(name).and_then(Value::as_i64);
        at("revoked_at_ms").is_none() && at("expires_at_ms").is_none_or(|at| at > now.0)
    };
    for row in &plan.rows.tokens {
        let id = id_of(row)?;
        let is_new = inert.iter().any(|new| new.get("id") == row.get("id"));
        if is_new && plan.tokens_work {
            tx.execute(
                "UPDATE tokens SET revoked_at_ms = ?2, version = version + 1 WHERE id = ?1",
                params![id.as_str(), row.get("revoked_at_ms").and_then(Value::as_i64)],
            )?;
        } else if is_new && worked(row) {
            report.tokens_not_usable.push(id);
        } else if worked(row) && !works(tx, now, &id)? {
            report.tokens_still_revoked.push(id);
        }
    }
    let sql = "SELECT id FROM tokens WHERE tenant = ?1 AND revoked_at_ms IS NULL AND coalesce(expires_at_ms > ?2, 1)";
    let mut statement = tx.prepare_cached(sql)?;
    let working = statement.query_map(params![key.0, now.0], |row| row.get::<_, String>(0))?;
    for id in working {
        let id = id?;
        if plan.rows.tokens.iter().all(|row| row.get("id").and_then(Value::as_str) != Some(&id)) {
            report.tokens_made_since.push(id.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?);
        }
    }
    Ok(())
}

fn works(tx: &Transaction<'_>, now: UnixMs, id: &TokenId) -> Result<bool> {
    let sql = "SELECT 1 FROM tokens WHERE id = ?1 AND revoked_at_ms IS NULL AND coalesce(expires_at_ms > ?2, 1)";
    Ok(tx.prepare_cached(sql)?.exists(params![id.as_str(), now.0])?)
}

fn has_token(tx: &Transaction<'_>, now: UnixMs, key: TenantKey) -> Result<bool> {
    let sql = "SELECT 1 FROM tokens WHERE tenant = ?1 AND revoked_at_ms IS NULL AND coalesce(expires_at_ms > ?2, 1)";
    Ok(tx.prepare_cached(sql)?.exists(params![key.0, now.0])?)
}

/// The rows of all other tables that are carried.
fn others(tx: &Transaction<'_>, key: TenantKey, plan: &RestorePlan, report: &mut RestoreReport) -> Result<()> {
    for (table, mode) in CARRIED {
        if mode == Mode::Replace {
            tx.execute(&format!("DELETE FROM {table} WHERE tenant = ?1"), [key.0])?;
        } else if plan.copy {
            // What has happened has happened to the tenant that it is copied from.
            continue;
        }
        if plan.copy && NOT_COPIED.contains(&table) {
            continue;
        }
        for (_, row) in plan.rows.others.iter().filter(|(name, _)| name == table) {
            let inserted = table::insert(tx, table, row, &[("tenant", Sql::Integer(key.0))])?;
            if table == "provider_keys" && inserted {
                report.provider_keys.push(text(row, "upstream")?.to_owned());
            }
        }
    }
    Ok(())
}
