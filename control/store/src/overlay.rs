//! A tenant's overlay: its own defaults, merged under everything that only the operator may set.
//!
//! The store is the truth. An overlay can prefer and name things; it can't widen anything: a name of its own leads only to
//! what the tenant may call anyway, and a life shorter than the operator's is the only one that counts.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::error::{Result, StoreError};
use crate::id::TenantId;
use crate::model;
use crate::quota::OnTightBudget;
use crate::store::Store;
use crate::tenant;

/// The longest life of a response that may be asked for, in days.
const MAX_TTL_DAYS: u32 = 3_650;

/// What a tenant prefers. What is absent is as the operator has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The model of a request that names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub default_model: Option<String>,
    /// Names of the tenant's own for models that it may call. A name that the operator has given it stands over one of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
    /// Days that its responses are kept, where that is shorter than the operator's; 0: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 3650)]
    pub response_ttl_days: Option<u32>,
    /// What to do with a request that does not fit the rest of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_tight_budget: Option<OnTightBudget>,
}

impl Overlay {
    fn check(&self) -> Result<()> {
        if let Some(name) = &self.default_model {
            model::check_name("default_model", name)?;
            if name.is_empty() {
                return Err(StoreError::invalid("default_model", "must name a model"));
            }
        }
        model::check_aliases("aliases", &self.aliases)?;
        if self.response_ttl_days.is_some_and(|days| days > MAX_TTL_DAYS) {
            return Err(StoreError::invalid("response_ttl_days", format!("must be at most {MAX_TTL_DAYS}")));
        }
        Ok(())
    }

    /// As it is stored; `None` where it says nothing.
    fn stored(&self) -> Result<Option<String>> {
        let some = *self != Self::default();
        Ok(some.then(|| serde_json::to_string(self)).transpose()?)
    }

    /// Reads what [`Overlay::stored`] made.
    pub(crate) fn read(json: Option<String>) -> Result<Self> {
        Ok(json.map(|json| serde_json::from_str(&json)).transpose()?.unwrap_or_default())
    }
}

impl Store {
    /// The overlay of a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn overlay(&self, id: &TenantId) -> Result<Overlay> {
        self.inner.reader.with(|conn| find(conn, id))
    }

    /// At most `limit` tenants that have an overlay, by id, those after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn overlays(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<(TenantId, Overlay)>> {
        self.inner.reader.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT id, overlay FROM tenants WHERE status <> 'deleted' AND overlay IS NOT NULL AND id > ?1 ORDER BY id LIMIT ?2",
            )?;
            let mut rows = statement.query(params![after.map_or("", TenantId::as_str), limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let id = id.parse().map_err(|err| StoreError::Corrupt(format!("{err}")))?;
                found.push((id, Overlay::read(row.get(1)?)?));
            }
            Ok(found)
        })
    }

    /// Puts an overlay in the place of the tenant's; the next request sees it.
    ///
    /// Fails with [`StoreError::NotFound`], or [`StoreError::Invalid`] on a bad field.
    pub fn put_overlay(&self, actor: &Actor, id: &TenantId, overlay: Overlay) -> Change<Overlay> {
        let (actor, id) = (actor.clone(), id.clone());
        Change::new(self, move |tx, now| {
            overlay.check()?;
            let before = find(tx, &id)?;
            if overlay == before {
                return Ok(before);
            }
            tx.execute(
                "UPDATE tenants SET overlay = ?2, updated_at_ms = ?3, version = version + 1 WHERE id = ?1",
                params![id.as_str(), overlay.stored()?, now.0],
            )?;
            let detail = difference(&before, &overlay)?;
            audit::record(tx, now, &actor, &Entry { action: "config.put", tenant: Some(&id), target: None, detail })?;
            Ok(overlay)
        })
    }
}

fn find(conn: &Connection, id: &TenantId) -> Result<Overlay> {
    let key = tenant::key_of(conn, id)?;
    let mut statement = conn.prepare_cached("SELECT overlay FROM tenants WHERE row_id = ?1")?;
    Overlay::read(statement.query_row([key.0], |row| row.get(0))?)
}

/// What changed, key by key.
fn difference(before: &Overlay, after: &Overlay) -> Result<Value> {
    let (from, to) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    let names = ["default_model", "aliases", "response_ttl_days", "on_tight_budget"];
    let changed = names.into_iter().filter(|name| from.get(name) != to.get(name));
    let detail: Map<String, Value> =
        changed.map(|name| (name.to_owned(), json!({"from": from.get(name), "to": to.get(name)}))).collect();
    Ok(Value::Object(detail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::{HERE, Scene, operator};

    fn overlay(json: &str) -> Overlay {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_overlay_acts_on_the_next_request_and_is_on_record() {
        let scene = Scene::new();
        let (tenant, _, plain) = scene.tenant("acme");
        let policy = || scene.store.authenticate(plain.expose(), HERE).unwrap();
        assert_eq!(
            (policy().overlay.clone(), policy().quota.on_tight_budget),
            (Overlay::default(), OnTightBudget::Reject)
        );
        let wanted = overlay(r#"{"default_model":"m","aliases":{"own":"m"},"on_tight_budget":"clamp"}"#);
        let put = scene.store.put_overlay(&operator(), &tenant.id, wanted.clone()).wait().unwrap();
        assert_eq!((&put, &scene.store.overlay(&tenant.id).unwrap()), (&wanted, &wanted));
        assert_eq!((policy().overlay.clone(), policy().quota.on_tight_budget), (wanted.clone(), OnTightBudget::Clamp));
        assert_eq!(scene.store.overlays(None, 10).unwrap(), [(tenant.id.clone(), wanted.clone())]);
        scene.store.put_overlay(&operator(), &tenant.id, wanted).wait().unwrap();
        scene.store.put_overlay(&operator(), &tenant.id, Overlay::default()).wait().unwrap();
        assert_eq!((policy().overlay.clone(), scene.store.overlays(None, 10).unwrap()), (Overlay::default(), vec![]));
        let audit = scene.audit();
        let actions: Vec<&str> = audit.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(actions, ["tenant.create", "config.put", "config.put"], "what changes nothing is no change");
        assert!(audit[1].3.contains(r#""default_model":{"from":null,"to":"m"}"#), "{}", audit[1].3);
    }

    #[test]
    fn a_value_that_cant_be_kept_is_refused_by_its_name() {
        let scene = Scene::new();
        let (tenant, ..) = scene.tenant("acme");
        for (json, field) in [
            (r#"{"default_model":""}"#, "default_model"),
            (r#"{"default_model":"a\nb"}"#, "default_model"),
            (r#"{"aliases":{"a":"b","b":"c"}}"#, "aliases"),
            (r#"{"response_ttl_days":3651}"#, "response_ttl_days"),
        ] {
            match scene.store.put_overlay(&operator(), &tenant.id, overlay(json)).wait() {
                Err(StoreError::Invalid { field: named, .. }) => assert!(named.starts_with(field), "{named}"),
                other => panic!("{json}: {other:?}"),
            }
        }
        assert!(serde_json::from_str::<Overlay>(r#"{"quota":{}}"#).is_err());
        assert_eq!(scene.store.overlay(&tenant.id).unwrap(), Overlay::default());
    }
}
