//! Changing a tenant by a JSON merge patch (RFC 7396): what is absent stays; `quota` and `metadata` merge field by field.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::error::{Result, StoreError};
use crate::money::{Markup, NanoUsd};
use crate::quota::{OnTightBudget, Quota};
use crate::tenant::{Tenant, TenantStatus};

/// What to change of a tenant.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantPatch {
    /// The new name.
    #[serde(default)]
    pub name: Option<String>,
    /// Limits to set; `null` removes one.
    #[serde(default)]
    #[schema(value_type = Option<QuotaPatch>)]
    pub quota: Option<Map<String, Value>>,
    /// The new allow-list; `null` allows all models.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>)]
    pub models: Option<Option<Vec<String>>>,
    /// Notes to set; `null` removes one.
    #[serde(default)]
    pub metadata: Option<Map<String, Value>>,
    /// The new time zone.
    #[serde(default)]
    pub timezone: Option<String>,
    /// Aliases to set; `null` removes one.
    #[serde(default)]
    pub aliases: Option<BTreeMap<String, Option<String>>>,
    /// The new markup.
    #[serde(default)]
    pub markup_percent: Option<Markup>,
    /// Suspends or activates.
    #[serde(default)]
    pub status: Option<TenantStatus>,
}

/// Limits to set; null removes one
#[derive(utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the shape of a patch, for the API's document")]
struct QuotaPatch {
    usd_per_day: Option<NanoUsd>,
    usd_per_month: Option<NanoUsd>,
    tokens_per_day: Option<u64>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u64>,
    concurrent_requests: Option<u32>,
    sandbox_seconds_per_day: Option<u64>,
    storage_bytes: Option<u64>,
    /// Null: reject.
    on_tight_budget: Option<OnTightBudget>,
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Vec<String>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl TenantPatch {
    /// The tenant as it is after the patch; not checked yet.
    pub(super) fn apply(self, before: &Tenant) -> Result<Tenant> {
        let mut tenant = before.clone();
        if let Some(quota) = self.quota {
            tenant.quota = merged_quota(&tenant.quota, quota)?;
        }
        if let Some(models) = self.models {
            tenant.models = models;
        }
        merge(&mut tenant.metadata, self.metadata.unwrap_or_default());
        tenant.name = self.name.unwrap_or(tenant.name);
        tenant.timezone = self.timezone.unwrap_or(tenant.timezone);
        for (name, model) in self.aliases.unwrap_or_default() {
            match model {
                Some(model) => tenant.aliases.insert(name, model),
                None => tenant.aliases.remove(&name),
            };
        }
        tenant.markup_percent = self.markup_percent.unwrap_or(tenant.markup_percent);
        tenant.status = self.status.unwrap_or(tenant.status);
        Ok(tenant)
    }
}

fn merged_quota(quota: &Quota, patch: Map<String, Value>) -> Result<Quota> {
    let refused = |err: serde_json::Error| StoreError::invalid("quota", err.to_string());
    // An unknown name must be refused even where its value is null, and the merge alone would not see it.
    let mut names = patch.clone();
    names.retain(|name, value| name != "on_tight_budget" || !value.is_null());
    Quota::deserialize(Value::Object(names)).map_err(refused)?;
    let Value::Object(mut fields) = serde_json::to_value(quota)? else {
        return Err(StoreError::Corrupt("a quota is not an object".to_owned()));
    };
    merge(&mut fields, patch);
    Quota::deserialize(Value::Object(fields)).map_err(refused)
}

fn merge(fields: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else {
            fields.insert(name, value);
        }
    }
}

/// What changed, for the audit log. Of metadata only that it changed: it may hold anything.
pub(super) fn difference(before: &Tenant, after: &Tenant) -> Value {
    let fields = [
        ("name", json!(before.name), json!(after.name)),
        ("quota", json!(before.quota), json!(after.quota)),
        ("models", json!(before.models), json!(after.models)),
        ("timezone", json!(before.timezone), json!(after.timezone)),
        ("aliases", json!(before.aliases), json!(after.aliases)),
        ("markup_percent", json!(before.markup_percent), json!(after.markup_percent)),
        ("status", json!(before.status), json!(after.status)),
    ];
    let changed = fields.into_iter().filter(|(_, from, to)| from != to);
    let mut detail: Map<String, Value> =
        changed.map(|(field, from, to)| (field.to_owned(), json!({"from": from, "to": to}))).collect();
    if before.metadata != after.metadata {
        detail.insert("metadata".to_owned(), json!("changed"));
    }
    Value::Object(detail)
}
