//! Who may speak on a channel, and who asks to. Whoever asks is told a code of eight characters, which the operator approves.

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde_json::json;

use super::inbox::NewMessage;
use super::outbox::{self, NewReply};
use super::{ChannelPolicy, SealedChannel};
use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::store::Store;
use crate::tenant;

/// Without what is mistaken for something else: 0 and O, 1 and I.
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_CHARS: usize = 8;
/// How long a code is good, in milliseconds.
const LIFETIME_MS: i64 = 60 * 60 * 1000;
/// Who may ask at once on one channel.
const MAX_PENDING: i64 = 3;
/// The most that are approved on one channel.
const MAX_SENDERS: i64 = 10_000;

/// Somebody who may speak
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ChannelSender {
    /// The provider's id of them.
    pub sender: String,
    /// What they are called there, where that is known.
    pub label: String,
    /// Since when.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub approved_at: UnixMs,
}

/// Somebody who asks to
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SenderRequest {
    /// The provider's id of them.
    pub sender: String,
    /// What they are called there, where that is known.
    pub label: String,
    /// The code that they were told.
    pub code: String,
    /// Until when it can be approved.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub expires_at: UnixMs,
}

/// Who may speak on a channel, and who asks to
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Senders {
    /// Who may.
    pub approved: Vec<ChannelSender>,
    /// Who asks to.
    pub pending: Vec<SenderRequest>,
}

/// Whether somebody may speak.
pub(super) enum Standing {
    /// They may.
    Known,
    /// They were told a code just now.
    Asked,
    /// They were told one before, or too many ask.
    Ignored,
}

impl Store {
    /// Who may speak on a tenant's channel, and who asks to.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn channel_senders(&self, id: &TenantId, channel: &str) -> Result<Senders> {
        let now = self.inner.clock.now();
        self.inner.reader.with(|conn| {
            check(conn, tenant::key_of(conn, id)?, channel)?;
            let sql = "SELECT sender, label, approved_at_ms FROM channel_senders WHERE channel = ?1 ORDER BY approved_at_ms, sender";
            let mut statement = conn.prepare_cached(sql)?;
            let approved = statement.query_map([channel], |row| {
                Ok(ChannelSender { sender: row.get(0)?, label: row.get(1)?, approved_at: UnixMs(row.get(2)?) })
            })?;
            let approved = approved.collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT sender, label, code, expires_at_ms FROM channel_requests
                WHERE channel = ?1 AND expires_at_ms > ?2 ORDER BY expires_at_ms, sender";
            let mut statement = conn.prepare_cached(sql)?;
            let pending = statement.query_map(params![channel, now.0], |row| {
                let expires_at = UnixMs(row.get(3)?);
                Ok(SenderRequest { sender: row.get(0)?, label: row.get(1)?, code: row.get(2)?, expires_at })
            })?;
            Ok(Senders { approved, pending: pending.collect::<rusqlite::Result<_>>()? })
        })
    }

    /// Lets whoever was told this code speak from now on; `welcome` is what they are told then.
    ///
    /// Fails with [`StoreError::NotFound`] where nobody was, or longer ago than an hour.
    pub fn approve_sender(
        &self,
        actor: &Actor,
        id: &TenantId,
        (channel, code): (&str, &str),
        welcome: &str,
    ) -> Change<ChannelSender> {
        let (actor, tenant, channel) = (actor.clone(), id.clone(), channel.to_owned());
        let (code, welcome) = (code.to_ascii_uppercase(), welcome.to_owned());
        Change::new(self, move |tx, now| {
            let key = tenant::key_of(tx, &tenant)?;
            check(tx, key, &channel)?;
            let sql = "SELECT sender, label, session, reply_to FROM channel_requests WHERE channel = ?1 AND code = ?2 AND expires_at_ms > ?3";
            let found = tx.query_row(sql, params![channel, code, now.0], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            });
            let (sender, label, session, reply_to) = found.optional()?.ok_or(StoreError::NotFound("pairing code"))?;
            tx.execute("DELETE FROM channel_requests WHERE channel = ?1 AND sender = ?2", params![channel, sender])?;
            approve(tx, key, &channel, (&sender, &label), now)?;
            let new = NewReply { text: &welcome, reply_to: &reply_to, session: &session, received_at: now };
            outbox::insert(tx, (key, &channel), &new, now)?;
            let detail = json!({"sender": sender});
            let entry = Entry { action: "channel.approve", tenant: Some(&tenant), target: Some(&channel), detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(ChannelSender { sender, label, approved_at: now })
        })
    }

    /// Lets somebody speak no more.
    ///
    /// Fails with [`StoreError::NotFound`] where they may not.
    pub fn remove_sender(&self, actor: &Actor, id: &TenantId, (channel, sender): (&str, &str)) -> Change<()> {
        let (actor, tenant, channel, sender) = (actor.clone(), id.clone(), channel.to_owned(), sender.to_owned());
        Change::new(self, move |tx, now| {
            check(tx, tenant::key_of(tx, &tenant)?, &channel)?;
            let sql = "DELETE FROM channel_senders WHERE channel = ?1 AND sender = ?2";
            if tx.execute(sql, params![channel, sender])? == 0 {
                return Err(StoreError::NotFound("sender"));
            }
            let detail = json!({"sender": sender});
            let entry = Entry { action: "channel.block", tenant: Some(&tenant), target: Some(&channel), detail };
            audit::record(tx, now, &actor, &entry)
        })
    }
}

/// A tenant's channel, or none.
fn check(conn: &Connection, key: TenantKey, channel: &str) -> Result<()> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM channels WHERE tenant = ?1 AND id = ?2")?;
    if statement.exists(params![key.0, channel])? { Ok(()) } else { Err(StoreError::NotFound("channel")) }
}

fn approve(
    tx: &Transaction<'_>,
    key: TenantKey,
    channel: &str,
    (sender, label): (&str, &str),
    now: UnixMs,
) -> Result<()> {
    let sql = "SELECT count(*) FROM channel_senders WHERE channel = ?1";
    let count: i64 = tx.query_row(sql, [channel], |row| row.get(0))?;
    if count >= MAX_SENDERS {
        return Err(StoreError::Conflict(format!("{MAX_SENDERS} senders may speak on this channel, and no more")));
    }
    tx.execute(
        "INSERT INTO channel_senders (channel, sender, tenant, label, approved_at_ms) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        params![channel, sender, key.0, label, now.0],
    )?;
    Ok(())
}

/// Whether whoever sent a message may; a stranger is told a code, once an hour, and three at a time.
pub(super) fn standing(
    tx: &Transaction<'_>,
    channel: &SealedChannel,
    message: &NewMessage,
    (now, greeting): (UnixMs, fn(&str) -> String),
) -> Result<Standing> {
    let of = params![channel.id, message.sender];
    let known = "SELECT 1 FROM channel_senders WHERE channel = ?1 AND sender = ?2";
    if channel.policy == ChannelPolicy::Open || tx.prepare_cached(known)?.exists(of)? {
        return Ok(Standing::Known);
    }
    tx.execute("DELETE FROM channel_requests WHERE channel = ?1 AND expires_at_ms <= ?2", params![channel.id, now.0])?;
    let asked = "SELECT 1 FROM channel_requests WHERE channel = ?1 AND sender = ?2";
    let sql = "SELECT count(*) FROM channel_requests WHERE channel = ?1";
    let pending: i64 = tx.query_row(sql, [&channel.id], |row| row.get(0))?;
    if pending >= MAX_PENDING || tx.prepare_cached(asked)?.exists(of)? {
        return Ok(Standing::Ignored);
    }
    let code = code()?;
    tx.execute(
        "INSERT INTO channel_requests (channel, sender, tenant, label, code, session, reply_to, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            channel.id,
            message.sender,
            channel.key.0,
            message.label,
            code,
            message.session,
            message.reply_to,
            now.plus_ms(LIFETIME_MS).0
        ],
    )?;
    let text = greeting(&code);
    let new = NewReply { text: &text, reply_to: &message.reply_to, session: &message.session, received_at: now };
    outbox::insert(tx, (channel.key, &channel.id), &new, now)?;
    Ok(Standing::Asked)
}

/// Eight characters of 32, each as likely as the others.
fn code() -> Result<String> {
    let mut bytes = [0_u8; CODE_CHARS];
    getrandom::fill(&mut bytes).map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
    let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    Ok(letters.map(|&letter| char::from(letter)).collect())
}
