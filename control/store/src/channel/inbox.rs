//! Messages that wait for their turn. One of a conversation is worked on at a time, in the order in which they came.

use rusqlite::{Connection, Transaction, params};

use super::SealedChannel;
use super::outbox::{self, NewReply};
use super::sender::{self, Standing};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::TenantKey;
use crate::store::Store;

/// Messages that may wait on one channel.
const MAX_WAITING: i64 = 1_000;
/// How long an event is known again: longer than any provider sends one again (WhatsApp: seven days), in milliseconds.
const SEEN_MS: i64 = 8 * 24 * 60 * 60 * 1000;
/// Turns of one tenant at once.
const PER_TENANT: u32 = 8;

/// What somebody said on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// The provider's id of the event, the same however often it is delivered.
    pub event: String,
    /// The provider's id of who speaks.
    pub sender: String,
    /// What they are called there.
    pub label: String,
    /// The conversation.
    pub session: String,
    /// What was said.
    pub text: String,
    /// Where the answer goes, as its adapter wrote it.
    pub reply_to: String,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It waits for its turn.
    Waiting,
    /// It was taken before.
    Known,
    /// Whoever sent it may not speak, and was told how to ask.
    Asked,
    /// Whoever sent it may not speak.
    Ignored,
}

/// A message whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueMessage {
    /// Its place in the queue.
    pub id: i64,
    /// The channel that it came by.
    pub channel: String,
    /// The conversation.
    pub session: String,
    /// What was said.
    pub text: String,
    /// Turns that were tried.
    pub attempts: u32,
}

impl Store {
    /// Takes what was said on a channel, all of it or nothing; it is on the disk when this returns. A stranger is told `greeting`
    /// of a code.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when too much waits there, [`StoreError::NotFound`] when the channel is gone meanwhile,
    /// [`StoreError::Unavailable`].
    pub async fn queue_messages(
        &self,
        channel: &SealedChannel,
        messages: Vec<NewMessage>,
        greeting: fn(&str) -> String,
    ) -> Result<Vec<Queued>> {
        let (channel, now) = (channel.clone(), self.inner.clock.now());
        let queue = move |tx: &Transaction<'_>| {
            // Removed since it was looked up: what would come in now would belong to nobody.
            if !tx.prepare_cached("SELECT 1 FROM channels WHERE id = ?1")?.exists([&channel.id])? {
                return Err(StoreError::NotFound("channel"));
            }
            tx.prepare_cached("DELETE FROM channel_seen WHERE seen_at_ms < ?1")?.execute([now.plus_ms(-SEEN_MS).0])?;
            messages.iter().map(|message| queue(tx, &channel, message, (now, greeting))).collect()
        };
        self.inner.writer().run_aside(queue).await
    }

    /// At most `limit` messages whose turn has come, which nobody else is given for `lease_ms`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim_messages(&self, limit: u32, lease_ms: i64) -> Result<Vec<DueMessage>> {
        let now = self.inner.clock.now();
        if self.inner.reader.with(|conn| due(conn, now, 1).map(|found| found.is_empty()))? {
            return Ok(Vec::new());
        }
        let claim = move |tx: &Transaction<'_>| {
            let found = due(tx, now, limit)?;
            for message in &found {
                tx.prepare_cached(
                    "UPDATE channel_inbox SET due_at_ms = ?2, attempts = attempts + 1 WHERE row_id = ?1",
                )?
                .execute(params![message.id, now.plus_ms(lease_ms).0])?;
            }
            Ok(found)
        };
        self.inner.writer().run_aside(claim).await
    }

    /// Nobody else is given a message, or one that is to be tried again waits, until so many milliseconds from now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn keep_message(&self, id: i64, ms: i64) -> Result<()> {
        let until = self.inner.clock.now().plus_ms(ms);
        let keep = move |tx: &Transaction<'_>| {
            let sql = "UPDATE channel_inbox SET due_at_ms = ?2 WHERE row_id = ?1";
            tx.prepare_cached(sql)?.execute(params![id, until.0])?;
            Ok(())
        };
        self.inner.writer().run_aside(keep).await
    }

    /// A message has had its turn: it goes, and `answer`, if any, waits for its delivery. Nothing happens where its channel is
    /// gone meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn answer_message(&self, id: i64, answer: Option<String>) -> Result<()> {
        let now = self.inner.clock.now();
        let finish = move |tx: &Transaction<'_>| {
            let sql = "SELECT tenant, channel, session, reply_to, received_at_ms FROM channel_inbox WHERE row_id = ?1";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query([id])?;
            if let (Some(row), Some(answer)) = (rows.next()?, &answer) {
                let (channel, session, reply_to): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
                let received_at = UnixMs(row.get(4)?);
                let new = NewReply { text: answer, reply_to: &reply_to, session: &session, received_at };
                outbox::insert(tx, (TenantKey(row.get(0)?), &channel), &new, now)?;
            }
            drop(rows);
            tx.prepare_cached("DELETE FROM channel_inbox WHERE row_id = ?1")?.execute([id])?;
            Ok(())
        };
        self.inner.writer().run_aside(finish).await
    }
}

fn queue(
    tx: &Transaction<'_>,
    channel: &SealedChannel,
    message: &NewMessage,
    (now, greeting): (UnixMs, fn(&str) -> String),
) -> Result<Queued> {
    let sql =
        "INSERT INTO channel_seen (channel, event, tenant, seen_at_ms) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    if tx.prepare_cached(sql)?.execute(params![channel.id, message.event, channel.key.0, now.0])? == 0 {
        return Ok(Queued::Known);
    }
    match sender::standing(tx, channel, message, (now, greeting))? {
        Standing::Known => {}
        Standing::Asked => return Ok(Queued::Asked),
        Standing::Ignored => return Ok(Queued::Ignored),
    }
    let sql = "SELECT count(*) FROM channel_inbox WHERE channel = ?1";
    let waiting: i64 = tx.prepare_cached(sql)?.query_row([&channel.id], |row| row.get(0))?;
    if waiting >= MAX_WAITING {
        return Err(StoreError::Conflict(format!("{MAX_WAITING} messages wait on this channel")));
    }
    tx.prepare_cached(
        "INSERT INTO channel_inbox (tenant, channel, session, text, reply_to, received_at_ms, due_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
    )?
    .execute(params![channel.key.0, channel.id, message.session, message.text, message.reply_to, now.0])?;
    Ok(Queued::Waiting)
}

/// The oldest message of each conversation, where it is due, and among the oldest of its tenant: one that has many conversations
/// does not keep the others waiting.
fn due(conn: &Connection, now: UnixMs, limit: u32) -> Result<Vec<DueMessage>> {
    let mut statement = conn.prepare_cached(
        "SELECT row_id, channel, session, text, attempts FROM (
             SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY row_id) AS place FROM channel_inbox i
             WHERE NOT EXISTS (SELECT 1 FROM channel_inbox o WHERE o.channel = i.channel AND o.session = i.session AND o.row_id < i.row_id)
         ) WHERE place <= ?3 AND due_at_ms <= ?1 ORDER BY row_id LIMIT ?2",
    )?;
    let found = statement.query_map(params![now.0, limit, PER_TENANT], |row| {
        Ok(DueMessage {
            id: row.get(0)?,
            channel: row.get(1)?,
            session: row.get(2)?,
            text: row.get(3)?,
            attempts: row.get(4)?,
        })
    })?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
