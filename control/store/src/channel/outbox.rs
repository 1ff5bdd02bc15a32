//! Answers that wait for their delivery. One of a conversation is delivered at a time, in order; a long one goes out in parts,
//! and the parts that are out are not sent again.

use rusqlite::{Connection, Transaction, params};

use super::random_hex;
use crate::clock::UnixMs;
use crate::error::Result;
use crate::id::TenantKey;
use crate::store::Store;

/// How long an answer that was given up is kept, in milliseconds.
const KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// The longest note of a failure, in characters.
const MAX_ERROR_CHARS: usize = 300;
/// Deliveries for one tenant at once.
const PER_TENANT: u32 = 8;

/// An answer to queue.
pub(super) struct NewReply<'a> {
    pub(super) text: &'a str,
    pub(super) reply_to: &'a str,
    pub(super) session: &'a str,
    pub(super) received_at: UnixMs,
}

/// An answer that is to be delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueReply {
    /// Its place in the queue.
    pub row: i64,
    /// Its id, the same in every attempt.
    pub id: String,
    /// The channel that it goes out by.
    pub channel: String,
    /// What it says.
    pub text: String,
    /// Where it goes, as its adapter wrote it.
    pub reply_to: String,
    /// Its parts that are out.
    pub parts_sent: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When the message came that it answers.
    pub received_at: UnixMs,
    /// When it was made.
    pub made_at: UnixMs,
}

impl Store {
    /// At most `limit` answers whose time has come, which nobody else is given for `lease_ms`.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub async fn claim_replies(&self, limit: u32, lease_ms: i64) -> Result<Vec<DueReply>> {
        let now = self.inner.clock.now();
        if self.inner.reader.with(|conn| due(conn, now, 1).map(|found| found.is_empty()))? {
            return Ok(Vec::new());
        }
        let claim = move |tx: &Transaction<'_>| {
            let found = due(tx, now, limit)?;
            for reply in &found {
                tx.prepare_cached("UPDATE channel_outbox SET attempts = ?2, due_at_ms = ?3 WHERE row_id = ?1")?
                    .execute(params![reply.row, reply.attempt, now.plus_ms(lease_ms).0])?;
            }
            Ok(found)
        };
        self.inner.writer().run_aside(claim).await
    }

    /// So many parts of an answer are out.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub async fn reply_parts_sent(&self, row: i64, parts: u32) -> Result<()> {
        self.note(move |tx| {
            let sql = "UPDATE channel_outbox SET parts_sent = ?2 WHERE row_id = ?1";
            tx.prepare_cached(sql)?.execute(params![row, parts])
        })
        .await
    }

    /// An answer is out.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub async fn reply_delivered(&self, row: i64) -> Result<()> {
        self.note(move |tx| tx.prepare_cached("DELETE FROM channel_outbox WHERE row_id = ?1")?.execute([row])).await
    }

    /// An attempt failed; the answer is sent again after `retry_ms`, or given up.
    ///
    /// # Errors
    /// [`crate::StoreError::Unavailable`].
    pub async fn reply_failed(&self, row: i64, error: &str, retry_ms: Option<i64>) -> Result<()> {
        let next = retry_ms.map(|ms| self.inner.clock.now().plus_ms(ms).0);
        let error: String = error.chars().take(MAX_ERROR_CHARS).collect();
        self.note(move |tx| {
            tx.prepare_cached("UPDATE channel_outbox SET due_at_ms = ?2, last_error = ?3 WHERE row_id = ?1")?
                .execute(params![row, next, error])
        })
        .await
    }

    async fn note(
        &self,
        note: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<()> {
        self.inner.writer().run_aside(move |tx| Ok(note(tx).map(drop)?)).await
    }
}

/// Queues an answer.
pub(super) fn insert(
    tx: &Transaction<'_>,
    (key, channel): (TenantKey, &str),
    new: &NewReply<'_>,
    now: UnixMs,
) -> Result<()> {
    tx.prepare_cached("DELETE FROM channel_outbox WHERE due_at_ms IS NULL AND made_at_ms < ?1")?
        .execute([now.plus_ms(-KEPT_MS).0])?;
    tx.prepare_cached(
        "INSERT INTO channel_outbox (id, tenant, channel, session, text, reply_to, received_at_ms, made_at_ms, due_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
    )?
    .execute(params![
        format!("msg_{}", random_hex::<16>()?),
        key.0,
        channel,
        new.session,
        new.text,
        new.reply_to,
        new.received_at.0,
        now.0
    ])?;
    Ok(())
}

/// As for messages: the oldest of each conversation, and not too many of one tenant.
fn due(conn: &Connection, now: UnixMs, limit: u32) -> Result<Vec<DueReply>> {
    let mut statement = conn.prepare_cached(
        "SELECT row_id, id, channel, text, reply_to, parts_sent, attempts + 1, received_at_ms, made_at_ms FROM (
             SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY due_at_ms, row_id) AS place FROM channel_outbox i
             WHERE due_at_ms IS NOT NULL AND NOT EXISTS (
                 SELECT 1 FROM channel_outbox o
                 WHERE o.channel = i.channel AND o.session = i.session AND o.row_id < i.row_id AND o.due_at_ms IS NOT NULL)
         ) WHERE place <= ?3 AND due_at_ms <= ?1 ORDER BY due_at_ms, row_id LIMIT ?2",
    )?;
    let found = statement.query_map(params![now.0, limit, PER_TENANT], |row| {
        Ok(DueReply {
            row: row.get(0)?,
            id: row.get(1)?,
            channel: row.get(2)?,
            text: row.get(3)?,
            reply_to: row.get(4)?,
            parts_sent: row.get(5)?,
            attempt: row.get(6)?,
            received_at: UnixMs(row.get(7)?),
            made_at: UnixMs(row.get(8)?),
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
