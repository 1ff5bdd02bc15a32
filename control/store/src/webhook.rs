//! The webhook outbox: what is to be delivered, written in the transaction of what it tells, and how each delivery goes.
//!
//! A webhook keeps its id and its bytes over every attempt. An attempt is put on record before it is made, so that neither a
//! crash nor a successor makes it a second time at once.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339, rfc3339_option};
use crate::error::{Result, StoreError};
use crate::id::TenantId;
use crate::ledger::row::unsigned;
use crate::store::Store;

/// How long a webhook that was delivered or given up is kept, in milliseconds.
const KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// The longest note of a failure, in characters.
const MAX_ERROR_CHARS: usize = 500;

/// A webhook to write.
pub(crate) struct NewWebhook<'a> {
    pub(crate) event: &'static str,
    pub(crate) tenant: Option<&'a TenantId>,
    pub(crate) payload: &'a Value,
}

/// A webhook that is to be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWebhook {
    /// Its id, the same in every attempt.
    pub id: String,
    /// What it tells of.
    pub event: String,
    /// The body, byte for byte.
    pub payload: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// A webhook and how its delivery goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Webhook {
    /// Its id.
    pub id: String,
    /// What it tells of.
    pub event: String,
    /// Whose budget, where it is about one.
    pub tenant: Option<String>,
    /// How its delivery goes.
    pub state: WebhookState,
    /// How often it was sent.
    pub attempts: u32,
    /// When it came to be.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
    /// When it is sent next.
    #[serde(serialize_with = "rfc3339_option::serialize")]
    pub next_attempt_at: Option<UnixMs>,
    /// When the receiver took it.
    #[serde(serialize_with = "rfc3339_option::serialize")]
    pub delivered_at: Option<UnixMs>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// Its place in the list.
    #[serde(skip)]
    pub cursor: i64,
}

/// How a delivery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookState {
    /// It is to be sent, or sent again.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It was given up.
    Failed,
}

impl Store {
    /// At most `limit` webhooks whose time has come. Each is due again after `lease_ms`, unless its fate is known by then.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim_webhooks(&self, limit: u32, lease_ms: i64) -> Result<Vec<DueWebhook>> {
        let now = self.inner.clock.now();
        let any = self.inner.reader.with(|conn| due(conn, now, 1).map(|found| !found.is_empty()))?;
        if !any {
            return Ok(Vec::new());
        }
        let claim = move |tx: &Transaction<'_>| {
            let found = due(tx, now, limit)?;
            for webhook in &found {
                tx.prepare_cached("UPDATE webhook_outbox SET attempts = ?2, next_attempt_at_ms = ?3 WHERE id = ?1")?
                    .execute(params![webhook.id, webhook.attempt, now.plus_ms(lease_ms).0])?;
            }
            Ok(found)
        };
        self.inner.writer().run_aside(claim).await
    }

    /// The receiver took webhook `id`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn webhook_delivered(&self, id: &str) -> Result<()> {
        let (id, now) = (id.to_owned(), self.inner.clock.now());
        let note = move |tx: &Transaction<'_>| {
            let sql = "UPDATE webhook_outbox SET next_attempt_at_ms = NULL, delivered_at_ms = ?2, last_error = NULL WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![id, now.0])?;
            Ok(())
        };
        self.inner.writer().run_aside(note).await
    }

    /// An attempt at webhook `id` failed; it is sent again after `retry_ms`, or given up.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn webhook_failed(&self, id: &str, error: &str, retry_ms: Option<i64>) -> Result<()> {
        let next = retry_ms.map(|ms| self.inner.clock.now().plus_ms(ms).0);
        let error: String = error.chars().take(MAX_ERROR_CHARS).collect();
        let id = id.to_owned();
        let note = move |tx: &Transaction<'_>| {
            tx.prepare_cached("UPDATE webhook_outbox SET next_attempt_at_ms = ?2, last_error = ?3 WHERE id = ?1")?
                .execute(params![id, next, error])?;
            Ok(())
        };
        self.inner.writer().run_aside(note).await
    }

    /// At most `limit` webhooks, newest first, those before the place `before`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn webhooks(&self, before: Option<i64>, limit: u32) -> Result<Vec<Webhook>> {
        self.inner.reader.with(|conn| {
            let sql = format!("{SELECT} WHERE rowid < ?1 ORDER BY rowid DESC LIMIT ?2");
            let mut statement = conn.prepare_cached(&sql)?;
            let found = statement.query_map(params![before.unwrap_or(i64::MAX), limit], read)?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// The webhook `id`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn webhook(&self, id: &str) -> Result<Webhook> {
        self.inner.reader.with(|conn| find(conn, id))
    }

    /// Webhooks that are still to be delivered.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn pending_webhooks(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM webhook_outbox WHERE next_attempt_at_ms IS NOT NULL";
        self.inner.reader.with(|conn| Ok(conn.prepare_cached(sql)?.query_row([], |row| unsigned(row, 0))?))
    }

    /// Queues a webhook that says nothing, to see whether one arrives.
    pub fn test_webhook(&self, actor: &Actor) -> Change<Webhook> {
        let actor = actor.clone();
        Change::new(self, move |tx, now| {
            let payload =
                json!({"type": "webhook.test", "timestamp": now.rfc3339(), "data": {"requested_by": actor.id}});
            let id = insert(tx, now, &NewWebhook { event: "webhook.test", tenant: None, payload: &payload })?;
            let detail = json!({"webhook": id});
            audit::record(tx, now, &actor, &Entry { action: "alerts.test", tenant: None, target: Some(&id), detail })?;
            find(tx, &id)
        })
    }
}

/// Queues a webhook in the transaction of what it tells; gives its id.
pub(crate) fn insert(tx: &Transaction<'_>, at: UnixMs, new: &NewWebhook<'_>) -> Result<String> {
    tx.prepare_cached("DELETE FROM webhook_outbox WHERE next_attempt_at_ms IS NULL AND created_at_ms < ?1")?
        .execute([at.plus_ms(-KEPT_MS).0])?;
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
    let id = format!("msg_{:032x}", u128::from_be_bytes(bytes));
    tx.prepare_cached(
        "INSERT INTO webhook_outbox (id, event, tenant, payload, created_at_ms, next_attempt_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?
    .execute(params![id, new.event, new.tenant.map(TenantId::as_str), new.payload.to_string(), at.0])?;
    Ok(id)
}

fn due(conn: &Connection, now: UnixMs, limit: u32) -> Result<Vec<DueWebhook>> {
    let sql = "SELECT id, event, payload, attempts + 1 FROM webhook_outbox WHERE next_attempt_at_ms <= ?1 ORDER BY next_attempt_at_ms LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_map(params![now.0, limit], |row| {
        Ok(DueWebhook { id: row.get(0)?, event: row.get(1)?, payload: row.get(2)?, attempt: row.get(3)? })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

const SELECT: &str = "SELECT rowid, id, event, tenant, attempts, created_at_ms, next_attempt_at_ms, delivered_at_ms, last_error FROM webhook_outbox";

fn find(conn: &Connection, id: &str) -> Result<Webhook> {
    let mut statement = conn.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    statement.query_row([id], read).optional()?.ok_or(StoreError::NotFound("webhook"))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Webhook> {
    let instant = |at: usize| row.get::<_, Option<i64>>(at).map(|at| at.map(UnixMs));
    let (next_attempt_at, delivered_at) = (instant(6)?, instant(7)?);
    let state = match (next_attempt_at, delivered_at) {
        (_, Some(_)) => WebhookState::Delivered,
        (Some(_), None) => WebhookState::Pending,
        (None, None) => WebhookState::Failed,
    };
    Ok(Webhook {
        cursor: row.get(0)?,
        id: row.get(1)?,
        event: row.get(2)?,
        tenant: row.get(3)?,
        state,
        attempts: row.get(4)?,
        created_at: UnixMs(row.get(5)?),
        next_attempt_at,
        delivered_at,
        last_error: row.get(8)?,
    })
}
