//! Tenants: who they are and what they may use. A tenant's id is never given to another, not even after its end.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::{self, Actor, Entry};
use crate::backup;
use crate::change::Change;
use crate::clock::{UnixMs, rfc3339};
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey};
use crate::model;
use crate::money::Markup;
use crate::quota::Quota;
use crate::storage;
use crate::store::Store;
use crate::token::{self, NewToken, PlainToken, Token};
use crate::window::Zone;

mod list;
mod patch;
#[cfg(test)]
mod tests;

pub use list::TenantCounts;
pub use patch::TenantPatch;

/// The most that a tenant's metadata may measure as JSON, in bytes.
const MAX_METADATA_BYTES: usize = 16 << 10;

/// A tenant, as the admin API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// What people call it.
    pub name: String,
    /// Its limits.
    pub quota: Quota,
    /// The models that it may call; `None` is all, a name may end in `*`.
    pub models: Option<Vec<String>>,
    /// Whether its tokens work.
    pub status: TenantStatus,
    /// Where its days and months begin.
    pub timezone: String,
    /// Names of its own for models: each stands for another name that it may call.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// What is added to its costs, in reports and rows; a budget counts the cost alone.
    pub markup_percent: Markup,
    /// The operator's own notes.
    pub metadata: Map<String, Value>,
    /// When it was created.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub created_at: UnixMs,
    /// When it was last changed.
    #[serde(serialize_with = "rfc3339::serialize")]
    pub updated_at: UnixMs,
}

/// Whether a tenant's tokens work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// They do.
    Active,
    /// They don't, until it is active again.
    Suspended,
}

impl TenantStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// A tenant to create. What is absent: id server-made, name the id, no limits, all models, UTC.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTenant {
    /// The id; made by the gateway where it is absent. An id is never used again.
    #[serde(default)]
    pub id: Option<TenantId>,
    /// What people call it; the id where it is absent.
    #[serde(default)]
    pub name: Option<String>,
    /// Its limits; what is absent is not limited.
    #[serde(default)]
    pub quota: Option<Quota>,
    /// The models that it may call, names or beginnings followed by `*`; absent or null: all.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// The operator's own notes: at most 16 KiB of JSON.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// Where its days and months begin: a name of the IANA database, such as `Europe/Berlin`; absent: UTC.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Names of its own for models.
    #[serde(default)]
    pub aliases: Option<BTreeMap<String, String>>,
    /// What is added to its costs in reports, in percent; a budget counts the cost alone.
    #[serde(default)]
    pub markup_percent: Option<Markup>,
}

/// What the ledger needs to know of a tenant.
#[derive(Clone, Debug)]
pub struct TenantPolicy {
    /// The store's key.
    pub key: TenantKey,
    /// The limits.
    pub quota: Quota,
    /// Where days and months begin.
    pub zone: Zone,
    /// What is added to costs.
    pub markup: Markup,
}

impl Store {
    /// Creates a tenant together with its first token, whose secret is shown once.
    ///
    /// Fails with [`StoreError::Conflict`] when the id exists or ever existed, [`StoreError::Invalid`] on a bad field.
    pub fn create_tenant(
        &self,
        actor: &Actor,
        new: NewTenant,
        first_token: NewToken,
    ) -> Change<(Tenant, Token, PlainToken)> {
        let (actor, pepper) = (actor.clone(), self.inner.auth.pepper());
        Change::new(self, move |tx, now| {
            let tenant = new.into_tenant(now)?;
            tenant.check()?;
            let key = insert(tx, &tenant)?;
            let (token, plain) = token::insert(tx, now, &pepper, (key, &tenant.id), first_token)?;
            let detail = json!({"name": tenant.name, "quota": tenant.quota, "models": tenant.models, "timezone": tenant.timezone, "markup_percent": tenant.markup_percent, "token": token.id});
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "tenant.create", tenant: Some(&tenant.id), target: None, detail },
            )?;
            Ok((tenant, token, plain))
        })
    }

    /// The tenant `id`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is none, or no more.
    pub fn tenant(&self, id: &TenantId) -> Result<Tenant> {
        self.inner.reader.with(|conn| find(conn, id).map(|(_, tenant)| tenant))
    }

    /// Changes what `patch` names; the next request sees it.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Invalid`] on a bad field.
    pub fn update_tenant(&self, actor: &Actor, id: &TenantId, patch: TenantPatch) -> Change<Tenant> {
        let (actor, id) = (actor.clone(), id.clone());
        Change::new(self, move |tx, now| {
            let (key, before) = find(tx, &id)?;
            let mut tenant = patch.apply(&before)?;
            tenant.check()?;
            if tenant == before {
                return Ok(before);
            }
            tenant.updated_at = now;
            update(tx, key, &tenant)?;
            let detail = patch::difference(&before, &tenant);
            audit::record(
                tx,
                now,
                &actor,
                &Entry { action: "tenant.update", tenant: Some(&id), target: None, detail },
            )?;
            Ok(tenant)
        })
    }

    /// Ends a tenant: its tokens are revoked, what it had set is gone, its name and ledger rows stay, its id is never given
    /// again.
    ///
    /// Fails with [`StoreError::NotFound`].
    pub fn delete_tenant(&self, actor: &Actor, id: &TenantId) -> Change<()> {
        let (actor, id) = (actor.clone(), id.clone());
        Change::new(self, move |tx, now| {
            let (key, tenant) = find(tx, &id)?;
            tx.execute(
                "UPDATE tenants SET status = 'deleted', version = version + 1, updated_at_ms = ?2, deleted_at_ms = ?2, metadata = '{}', aliases = NULL
                 WHERE row_id = ?1",
                params![key.0, now.0],
            )?;
            backup::forget(tx, key)?;
            storage::end(tx, key, &tenant.timezone, now)?;
            let revoked = tx.execute(
                "UPDATE tokens SET revoked_at_ms = ?2, version = version + 1 WHERE tenant = ?1 AND revoked_at_ms IS NULL",
                params![key.0, now.0],
            )?;
            let detail = json!({"tokens_revoked": revoked});
            audit::record(tx, now, &actor, &Entry { action: "tenant.delete", tenant: Some(&id), target: None, detail })
        })
    }

    /// Whether a tenant of that id was deleted, and is not there any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there never was one.
    pub fn was_deleted(&self, id: &TenantId) -> Result<bool> {
        let sql = "SELECT status = 'deleted' AND deleted_at_ms IS NOT NULL FROM tenants WHERE id = ?1";
        self.inner.reader.with(|conn| {
            let found = conn.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0)).optional()?;
            found.ok_or(StoreError::NotFound("tenant"))
        })
    }

    /// What the ledger needs to know of tenant `id`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn tenant_policy(&self, id: &TenantId) -> Result<TenantPolicy> {
        let (key, tenant) = self.inner.reader.with(|conn| find(conn, id))?;
        let zone = Zone::parse(&tenant.timezone).map_err(StoreError::Corrupt)?;
        Ok(TenantPolicy { key, quota: tenant.quota, zone, markup: tenant.markup_percent })
    }
}

impl NewTenant {
    fn into_tenant(self, now: UnixMs) -> Result<Tenant> {
        let id = match self.id {
            Some(id) => id,
            None => generated_id()?,
        };
        Ok(Tenant {
            name: self.name.unwrap_or_else(|| id.to_string()),
            id,
            quota: self.quota.unwrap_or_default(),
            models: self.models,
            status: TenantStatus::Active,
            timezone: self.timezone.unwrap_or_else(|| "UTC".to_owned()),
            aliases: self.aliases.unwrap_or_default(),
            markup_percent: self.markup_percent.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            created_at: now,
            updated_at: now,
        })
    }
}

impl Tenant {
    fn check(&self) -> Result<()> {
        model::check_name("name", &self.name)?;
        model::check_patterns("models", self.models.as_deref())?;
        model::check_aliases("aliases", &self.aliases)?;
        self.quota.check().map_err(|(field, message)| StoreError::invalid(field, message))?;
        Zone::parse(&self.timezone).map_err(|message| StoreError::invalid("timezone", message))?;
        if serde_json::to_vec(&self.metadata)?.len() > MAX_METADATA_BYTES {
            return Err(StoreError::invalid("metadata", format!("must be at most {MAX_METADATA_BYTES} bytes of JSON")));
        }
        Ok(())
    }
}

/// Twelve random characters of an alphabet of 32 that nobody misreads: 60 bits.
fn generated_id() -> Result<TenantId> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 12];
    getrandom::fill(&mut bytes).map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
    let letters = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
    let id: String = letters.map(|&letter| char::from(letter)).collect();
    id.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))
}

/// The live tenant `id` with its key.
pub(crate) fn find(conn: &Connection, id: &TenantId) -> Result<(TenantKey, Tenant)> {
    let mut statement = conn.prepare_cached(
        "SELECT row_id, id, name, quota, models, status, timezone, metadata, created_at_ms, updated_at_ms, markup_ppm, aliases
         FROM tenants WHERE id = ?1 AND status <> 'deleted'",
    )?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map_or(Err(StoreError::NotFound("tenant")), read)
}

/// [`find`] for a row that came from outside: what this program would not have stored is refused.
pub(crate) fn find_checked(conn: &Connection, id: &TenantId) -> Result<(TenantKey, Tenant)> {
    let (key, tenant) = find(conn, id)?;
    tenant.check()?;
    Ok((key, tenant))
}

/// The key of the live tenant `id`.
pub(crate) fn key_of(conn: &Connection, id: &TenantId) -> Result<TenantKey> {
    let mut statement = conn.prepare_cached("SELECT row_id FROM tenants WHERE id = ?1 AND status <> 'deleted'")?;
    let key = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
    key.map(TenantKey).ok_or(StoreError::NotFound("tenant"))
}

fn read(row: &Row<'_>) -> Result<(TenantKey, Tenant)> {
    let text = |column: usize| -> Result<String> { Ok(row.get(column)?) };
    let status = match text(5)?.as_str() {
        "active" => TenantStatus::Active,
        "suspended" => TenantStatus::Suspended,
        other => return Err(StoreError::Corrupt(format!("a tenant's status is `{other}`"))),
    };
    let models: Option<String> = row.get(4)?;
    let tenant = Tenant {
        id: text(1)?.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?,
        name: text(2)?,
        quota: serde_json::from_str(&text(3)?)?,
        models: models.map(|models| serde_json::from_str(&models)).transpose()?,
        status,
        timezone: text(6)?,
        metadata: serde_json::from_str(&text(7)?)?,
        created_at: UnixMs(row.get(8)?),
        updated_at: UnixMs(row.get(9)?),
        markup_percent: Markup::from_ppm(row.get(10)?),
        aliases: read_aliases(row.get(11)?)?,
    };
    Ok((TenantKey(row.get(0)?), tenant))
}

/// Makes what is known of a tenant's tokens useless, so that the next request reads it again.
pub(crate) fn touch(tx: &Transaction<'_>, key: TenantKey) -> Result<()> {
    tx.execute("UPDATE tenants SET version = version + 1 WHERE row_id = ?1", [key.0])?;
    Ok(())
}

/// A tenant's aliases as they are stored.
pub(crate) fn read_aliases(json: Option<String>) -> Result<BTreeMap<String, String>> {
    Ok(json.map(|json| serde_json::from_str(&json)).transpose()?.unwrap_or_default())
}

fn stored_aliases(tenant: &Tenant) -> Result<Option<String>> {
    let some = !tenant.aliases.is_empty();
    Ok(some.then(|| serde_json::to_string(&tenant.aliases)).transpose()?)
}

fn insert(tx: &Transaction<'_>, tenant: &Tenant) -> Result<TenantKey> {
    let inserted = tx.execute(
        "INSERT INTO tenants (id, name, status, timezone, quota, models, metadata, version, created_at_ms, updated_at_ms, markup_ppm, aliases)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1, ?8, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
        params![
            tenant.id.as_str(),
            tenant.name,
            tenant.status.name(),
            tenant.timezone,
            serde_json::to_string(&tenant.quota)?,
            tenant.models.as_ref().map(serde_json::to_string).transpose()?,
            serde_json::to_string(&tenant.metadata)?,
            tenant.created_at.0,
            tenant.markup_percent.ppm(),
            stored_aliases(tenant)?,
        ],
    )?;
    if inserted == 0 {
        return Err(StoreError::Conflict(format!(
            "the tenant id `{}` is taken, or was once; ids are never reused",
            tenant.id
        )));
    }
    Ok(TenantKey(tx.last_insert_rowid()))
}

fn update(tx: &Transaction<'_>, key: TenantKey, tenant: &Tenant) -> Result<()> {
    tx.execute(
        "UPDATE tenants SET name = ?2, status = ?3, timezone = ?4, quota = ?5, models = ?6, metadata = ?7, updated_at_ms = ?8, markup_ppm = ?9, aliases = ?10, version = version + 1
         WHERE row_id = ?1",
        params![
            key.0,
            tenant.name,
            tenant.status.name(),
            tenant.timezone,
            serde_json::to_string(&tenant.quota)?,
            tenant.models.as_ref().map(serde_json::to_string).transpose()?,
            serde_json::to_string(&tenant.metadata)?,
            tenant.updated_at.0,
            tenant.markup_percent.ppm(),
            stored_aliases(tenant)?,
        ],
    )?;
    Ok(())
}
