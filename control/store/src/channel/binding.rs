//! Channels that are paired. Their credentials come here sealed and leave sealed.

use rusqlite::{Connection, Row, params};
use serde::Serialize;
use serde_json::json;

use super::{ChannelPolicy, pairing};
use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::ledger::row::unsigned;
use crate::store::Store;
use crate::tenant;

/// The most channels of one tenant.
const MAX_CHANNELS: i64 = 100;

/// A channel to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChannel {
    /// Its id, which its credentials are sealed for.
    pub id: String,
    /// The provider's word for whose account it is.
    pub identity: String,
    /// What people call that account.
    pub label: String,
    /// Its credentials, sealed.
    pub sealed: Vec<u8>,
}

/// A channel
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Channel {
    /// Its id, which stands in its path at the edge.
    pub id: String,
    /// Its kind.
    #[serde(rename = "channel")]
    pub kind: String,
    /// The provider's word for whose account it is.
    pub identity: String,
    /// What people call that account.
    pub label: String,
    /// The agent that answers.
    pub agent: String,
    /// Who may speak.
    pub policy: ChannelPolicy,
    /// Why nothing is taken or sent any more; absent while it works.
    #[schema(required = true)]
    pub disabled: Option<String>,
    /// When it was paired.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
    /// Messages that wait for their turn.
    pub waiting: u64,
    /// Answers that wait for their delivery.
    pub undelivered: u64,
    /// Answers that were given up in the last 30 days.
    pub given_up: u64,
    /// Why the last of those, or of those that will be tried again, was not delivered.
    #[schema(required = true)]
    pub last_error: Option<String>,
}

/// A channel with its credentials, as sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedChannel {
    /// Whose it is.
    pub tenant: TenantId,
    /// The store's own key of that tenant.
    pub(super) key: TenantKey,
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// The provider's word for whose account it is.
    pub identity: String,
    /// The agent that answers.
    pub agent: String,
    /// Who may speak.
    pub policy: ChannelPolicy,
    /// Why nothing is taken or sent any more.
    pub disabled: Option<String>,
    /// Its credentials.
    pub sealed: Vec<u8>,
}

impl Store {
    /// Makes the channel that a link is for, and spends the link.
    ///
    /// Fails with [`StoreError::NotFound`] where the link is good for nothing any more, with [`StoreError::Conflict`] where that
    /// account is paired already, whoever has it.
    pub fn bind_channel(&self, actor: &Actor, pairing: &str, new: NewChannel) -> Change<Channel> {
        let (actor, pairing) = (actor.clone(), pairing.to_owned());
        Change::new(self, move |tx, now| {
            let spent = pairing::spend(tx, &pairing, now)?;
            let (key, link) = spent.ok_or(StoreError::NotFound("pairing"))?;
            let count: i64 =
                tx.query_row("SELECT count(*) FROM channels WHERE tenant = ?1", [key.0], |row| row.get(0))?;
            if count >= MAX_CHANNELS {
                return Err(StoreError::Conflict(format!("a tenant has at most {MAX_CHANNELS} channels")));
            }
            let inserted = tx.execute(
                "INSERT INTO channels (id, tenant, kind, identity, label, agent, policy, sealed, created_at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
                params![
                    new.id,
                    key.0,
                    link.kind,
                    new.identity,
                    new.label,
                    link.agent,
                    link.policy.name(),
                    new.sealed,
                    now.0
                ],
            )?;
            if inserted == 0 {
                return Err(StoreError::Conflict("this account is paired already; remove that channel first".into()));
            }
            let detail = json!({"channel": link.kind, "identity": new.identity, "pairing": pairing});
            let entry = Entry { action: "channel.bind", tenant: Some(&link.tenant), target: Some(&new.id), detail };
            audit::record(tx, now, &actor, &entry)?;
            find(tx, key, &new.id)
        })
    }

    /// Removes a tenant's channel with its credentials and all that waits there.
    ///
    /// Fails with [`StoreError::NotFound`].
    pub fn remove_channel(&self, actor: &Actor, id: &TenantId, channel: &str) -> Change<Channel> {
        let (actor, tenant, channel) = (actor.clone(), id.clone(), channel.to_owned());
        Change::new(self, move |tx, now| {
            let key = tenant::key_of(tx, &tenant)?;
            let found = find(tx, key, &channel)?;
            tx.execute("DELETE FROM channels WHERE id = ?1", [&channel])?;
            for table in ["channel_senders", "channel_requests", "channel_seen", "channel_inbox", "channel_outbox"] {
                tx.execute(&format!("DELETE FROM {table} WHERE channel = ?1"), [&channel])?;
            }
            let detail = json!({"channel": found.kind, "identity": found.identity});
            let entry = Entry { action: "channel.remove", tenant: Some(&tenant), target: Some(&channel), detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(found)
        })
    }

    /// Takes and sends nothing on a channel any more, since its provider said so.
    ///
    /// Fails with [`StoreError::NotFound`].
    pub fn disable_channel(&self, channel: &SealedChannel, reason: &str) -> Change<()> {
        let (channel, reason) = (channel.clone(), reason.to_owned());
        Change::new(self, move |tx, now| {
            let sql = "UPDATE channels SET disabled = ?2 WHERE id = ?1 AND disabled IS NULL";
            if tx.execute(sql, params![channel.id, reason])? == 0 {
                return Err(StoreError::NotFound("channel"));
            }
            let detail = json!({"channel": channel.kind, "reason": reason});
            let (tenant, target) = (Some(&channel.tenant), Some(channel.id.as_str()));
            let entry = Entry { action: "channel.disable", tenant, target, detail };
            audit::record(tx, now, &Actor::system(), &entry)
        })
    }

    /// A tenant's channels, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such tenant.
    pub fn channels(&self, id: &TenantId) -> Result<Vec<Channel>> {
        self.inner.reader.with(|conn| {
            let key = tenant::key_of(conn, id)?;
            let sql = format!("{SHOWN} WHERE c.tenant = ?1 ORDER BY c.created_at_ms, c.id");
            let mut statement = conn.prepare_cached(&sql)?;
            let mut rows = statement.query([key.0])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(shown(row)?);
            }
            Ok(found)
        })
    }

    /// A tenant's channel.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], also for another tenant's.
    pub fn channel(&self, id: &TenantId, channel: &str) -> Result<Channel> {
        self.inner.reader.with(|conn| find(conn, tenant::key_of(conn, id)?, channel))
    }

    /// The channel of that id with its credentials, whoever's it is; none of a tenant that is deleted.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn sealed_channel(&self, channel: &str) -> Result<SealedChannel> {
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT t.id, c.tenant, c.id, c.kind, c.identity, c.agent, c.policy, c.disabled, c.sealed
                 FROM channels c JOIN tenants t ON t.row_id = c.tenant WHERE c.id = ?1 AND t.status <> 'deleted'",
            )?;
            let mut rows = statement.query([channel])?;
            rows.next()?.map_or(Err(StoreError::NotFound("channel")), sealed)
        })
    }
}

fn sealed(row: &Row<'_>) -> Result<SealedChannel> {
    let text = |at: usize| -> Result<String> { Ok(row.get(at)?) };
    Ok(SealedChannel {
        tenant: text(0)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        key: TenantKey(row.get(1)?),
        id: text(2)?,
        kind: text(3)?,
        identity: text(4)?,
        agent: text(5)?,
        policy: ChannelPolicy::parse(&text(6)?)?,
        disabled: row.get(7)?,
        sealed: row.get(8)?,
    })
}

const SHOWN: &str = "SELECT c.id, c.kind, c.identity, c.label, c.agent, c.policy, c.disabled, c.created_at_ms,
    (SELECT count(*) FROM channel_inbox i WHERE i.channel = c.id),
    (SELECT count(*) FROM channel_outbox o WHERE o.channel = c.id AND o.due_at_ms IS NOT NULL),
    (SELECT count(*) FROM channel_outbox o WHERE o.channel = c.id AND o.due_at_ms IS NULL),
    (SELECT o.last_error FROM channel_outbox o WHERE o.channel = c.id AND o.last_error IS NOT NULL ORDER BY o.row_id DESC LIMIT 1)
    FROM channels c";

fn find(conn: &Connection, key: TenantKey, channel: &str) -> Result<Channel> {
    let mut statement = conn.prepare_cached(&format!("{SHOWN} WHERE c.tenant = ?1 AND c.id = ?2"))?;
    let mut rows = statement.query(params![key.0, channel])?;
    rows.next()?.map_or(Err(StoreError::NotFound("channel")), shown)
}

fn shown(row: &Row<'_>) -> Result<Channel> {
    Ok(Channel {
        id: row.get(0)?,
        kind: row.get(1)?,
        identity: row.get(2)?,
        label: row.get(3)?,
        agent: row.get(4)?,
        policy: ChannelPolicy::parse(&row.get::<_, String>(5)?)?,
        disabled: row.get(6)?,
        created_at: UnixMs(row.get(7)?),
        waiting: unsigned(row, 8)?,
        undelivered: unsigned(row, 9)?,
        given_up: unsigned(row, 10)?,
        last_error: row.get(11)?,
    })
}
