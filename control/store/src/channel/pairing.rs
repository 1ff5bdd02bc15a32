//! Links by which a channel is paired. A code is its public half, by which it is found, and a secret of 256 bits, of which a
//! keyed hash is kept. It lives for ten minutes, makes one channel, and five failures end it.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::json;

use super::{ChannelPolicy, random_hex};
use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::store::Store;
use crate::tenant;

/// How long a link is good, in milliseconds.
const LIFETIME_MS: i64 = 10 * 60 * 1000;
/// Failures that end it.
const MAX_TRIES: i64 = 5;
/// Links of one tenant that may be out at once.
const MAX_OUT: i64 = 20;
/// Digits of a code's public half, and of its secret.
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;
/// What the hash of a code's secret is bound to, beside its id. No token's id looks like it.
const PURPOSE: &str = "channel-pairing:";

/// What a link is to lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPairing {
    /// The kind of channel, such as `slack`.
    pub kind: String,
    /// The agent that is to answer.
    pub agent: String,
    /// Who may speak.
    pub policy: ChannelPolicy,
}

/// A link that was just made. Its `Debug` shows nothing of the secret.
pub struct PairingCode {
    /// Its public half.
    pub id: String,
    /// Until when it is good.
    pub expires_at: UnixMs,
    secret: String,
}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingCode").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PairingCode {
    /// The whole code, for its one reader.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}{}", self.id, self.secret)
    }
}

/// A link that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Its public half.
    pub id: String,
    /// Whose channel it makes.
    pub tenant: TenantId,
    /// The kind of channel.
    pub kind: String,
    /// The agent that is to answer.
    pub agent: String,
    /// Who may speak.
    pub policy: ChannelPolicy,
    /// Until when it is good.
    pub expires_at: UnixMs,
    /// Failures that it still bears.
    pub tries_left: u32,
}

/// A link's row, with what its secret is proved by.
struct Found {
    pairing: Pairing,
    kid: String,
    hash: [u8; 32],
    usable: bool,
}

impl Store {
    /// Makes a link.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Conflict`] past 20 links that are out.
    pub fn create_pairing(&self, actor: &Actor, id: &TenantId, new: NewPairing) -> Change<PairingCode> {
        let (actor, tenant, pepper) = (actor.clone(), id.clone(), self.inner.auth.pepper());
        Change::new(self, move |tx, now| {
            let key = tenant::key_of(tx, &tenant)?;
            tx.execute("DELETE FROM channel_pairings WHERE expires_at_ms <= ?1", [now.0])?;
            let sql = "SELECT count(*) FROM channel_pairings WHERE tenant = ?1 AND used_at_ms IS NULL";
            let out: i64 = tx.query_row(sql, [key.0], |row| row.get(0))?;
            if out >= MAX_OUT {
                return Err(StoreError::Conflict(format!(
                    "{MAX_OUT} links of this tenant wait to be used; each is gone ten minutes after it was made"
                )));
            }
            let (id, secret) = (random_hex::<{ ID_DIGITS / 2 }>()?, random_hex::<{ SECRET_DIGITS / 2 }>()?);
            let hashed = pepper.hash(&format!("{PURPOSE}{id}"), &secret);
            let expires_at = now.plus_ms(LIFETIME_MS);
            tx.execute(
                "INSERT INTO channel_pairings (id, tenant, kind, agent, policy, kid, hash, expires_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![id, key.0, new.kind, new.agent, new.policy.name(), hashed.kid, hashed.hash, expires_at.0],
            )?;
            let detail = json!({"channel": new.kind, "agent": new.agent, "policy": new.policy.name()});
            let entry = Entry { action: "pairing.create", tenant: Some(&tenant), target: Some(&id), detail };
            audit::record(tx, now, &actor, &entry)?;
            Ok(PairingCode { id, expires_at, secret })
        })
    }

    /// The link that a code opens. A wrong secret of a link that exists counts against it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for every code that opens nothing, whatever the reason.
    pub async fn pairing(&self, code: &str) -> Result<Pairing> {
        let gone = || StoreError::NotFound("pairing");
        let is_code = code.len() == ID_DIGITS + SECRET_DIGITS && code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (id, secret) = code.split_at_checked(ID_DIGITS).filter(|_| is_code).ok_or_else(gone)?;
        let now = self.inner.clock.now();
        let found = self.inner.reader.with(|conn| find(conn, id, now))?.filter(|found| found.usable);
        let pepper = self.inner.auth.pepper();
        let (position, hash) =
            found.as_ref().map_or((None, [0; 32]), |found| (pepper.position(&found.kid), found.hash));
        // As long for a link that isn't there.
        let proved = pepper.verify(position, &hash, &format!("{PURPOSE}{id}"), secret);
        match found {
            Some(found) if proved => Ok(found.pairing),
            Some(found) => {
                self.pairing_failed(&found.pairing.id).await?;
                Err(gone())
            }
            None => Err(gone()),
        }
    }

    /// Counts a failure against a link; gives how many it still bears.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn pairing_failed(&self, id: &str) -> Result<u32> {
        let id = id.to_owned();
        let count = move |tx: &Transaction<'_>| {
            tx.execute("UPDATE channel_pairings SET tries = tries + 1 WHERE id = ?1", [&id])?;
            let sql = "SELECT tries FROM channel_pairings WHERE id = ?1";
            let tries: Option<i64> = tx.query_row(sql, [&id], |row| row.get(0)).optional()?;
            Ok(left(tries.unwrap_or(MAX_TRIES)))
        };
        self.inner.writer().run_aside(count).await
    }
}

fn left(tries: i64) -> u32 {
    u32::try_from(MAX_TRIES.saturating_sub(tries)).unwrap_or(0)
}

fn find(conn: &Connection, id: &str, now: UnixMs) -> Result<Option<Found>> {
    let mut statement = conn.prepare_cached(
        "SELECT p.id, t.id, p.kind, p.agent, p.policy, p.expires_at_ms, p.tries, p.kid, p.hash, p.used_at_ms
         FROM channel_pairings p JOIN tenants t ON t.row_id = p.tenant WHERE p.id = ?1 AND t.status <> 'deleted'",
    )?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| read(row, now)).transpose()
}

fn read(row: &Row<'_>, now: UnixMs) -> Result<Found> {
    let text = |at: usize| -> Result<String> { Ok(row.get(at)?) };
    let (tries, used): (i64, Option<i64>) = (row.get(6)?, row.get(9)?);
    let expires_at = UnixMs(row.get(5)?);
    let pairing = Pairing {
        id: text(0)?,
        tenant: text(1)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        kind: text(2)?,
        agent: text(3)?,
        policy: ChannelPolicy::parse(&text(4)?)?,
        expires_at,
        tries_left: left(tries),
    };
    let usable = used.is_none() && pairing.tries_left > 0 && now.0 < expires_at.0;
    Ok(Found { pairing, kid: text(7)?, hash: row.get(8)?, usable })
}

/// Spends the link: false where it is good for nothing any more.
pub(super) fn spend(tx: &Transaction<'_>, id: &str, now: UnixMs) -> Result<Option<(TenantKey, Pairing)>> {
    let Some(found) = find(tx, id, now)?.filter(|found| found.usable) else { return Ok(None) };
    tx.execute("UPDATE channel_pairings SET used_at_ms = ?2 WHERE id = ?1", params![id, now.0])?;
    let key = tenant::key_of(tx, &found.pairing.tenant)?;
    Ok(Some((key, found.pairing)))
}
