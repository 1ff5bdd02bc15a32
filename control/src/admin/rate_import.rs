//! `POST /v1/rates/import`: prices from outside, as a difference to what is in effect, and as a version that makes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use openclawmu_store::{ModelPrice, Overrides, RateCard, RateDifference, RateImport, UnixMs};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::admin::call::Call;
use crate::admin::idempotency;
use crate::admin::rate::optional_instant;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::rate_import::{self, Format, ListError, PriceList};

/// A price list, and what to do with it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Import {
    /// Absent: told by the list's shape.
    #[serde(default)]
    format: Option<Format>,
    prices: Box<RawValue>,
    #[serde(default, deserialize_with = "optional_instant")]
    effective_from: Option<UnixMs>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    replace_overrides: bool,
    /// Names, or beginnings followed by `*`.
    #[serde(default)]
    only: Vec<String>,
}

/// What came of an import.
struct Imported {
    list: Arc<PriceList>,
    difference: RateDifference,
    /// The new version; none after a dry run, or when nothing changed.
    card: Option<RateCard>,
}

/// Answers the difference; adds a version unless it is empty or a dry run.
pub(super) async fn import(State(state): State<AdminState>, call: Call<Import>) -> Result<Response, Refusal> {
    let Import { format, prices, effective_from, dry_run, replace_overrides, only } = call.body;
    let list = rate_import::read(&prices, format, &only).map_err(|err| refusal(&err))?;
    if list.models.is_empty() {
        return Err(nothing_to_import(&list, &only));
    }
    let import = RateImport {
        effective_from: effective_from.or(list.effective_from),
        models: list.models.clone(),
        overrides: if replace_overrides { Overrides::Replace } else { Overrides::Keep },
    };
    let list = Arc::new(list);
    if dry_run {
        let difference = state.store.rate_difference(&import)?;
        return Ok(Json(rendered(&Imported { list, difference, card: None })).into_response());
    }
    let change = state.store.import_rates(&call.actor, import);
    let change = change.map(move |(difference, card)| Imported { list, difference, card });
    idempotency::create(&state, call.once, change, rendered).await
}

fn refusal(err: &ListError) -> Refusal {
    let hint = match err {
        ListError::Unknown => {
            "give a rate card as conf/rates.json, or LiteLLM's model_prices_and_context_window.json, and name its `format`"
        }
        ListError::Malformed(_) => {
            "prices are exact decimals in strings in a rate card, and JSON numbers in LiteLLM's map"
        }
    };
    Refusal::invalid("prices", err.to_string()).hint(hint)
}

fn nothing_to_import(list: &PriceList, only: &[String]) -> Refusal {
    let why = list.skipped.iter().next().map(|(name, reason)| format!("; `{name}` {reason}")).unwrap_or_default();
    let refusal = Refusal::invalid("prices", format!("no model of the list can be imported{why}"));
    if only.is_empty() { refusal } else { refusal.hint("`only` holds names, or beginnings followed by `*`") }
}

fn rendered(imported: &Imported) -> Value {
    let Imported { list, difference, card } = imported;
    let changed: Map<String, Value> = difference
        .changed
        .iter()
        .map(|(name, (old, new))| (name.clone(), Value::Object(fields_changed(old, new))))
        .collect();
    let version = card.as_ref().map(|card| {
        json!({"version": card.version, "effective_from": card.effective_from.rfc3339(), "models": card.models.len()})
    });
    json!({
        "format": list.format,
        "added": difference.added,
        "changed": changed,
        "withdrawn": difference.withdrawn,
        "unchanged": difference.unchanged,
        "kept": difference.kept,
        "skipped": list.skipped,
        "rounded": list.rounded,
        "left_out": list.remarks,
        "rate_card": version,
    })
}

/// Field by field what differs, by its path: the old value and the new one, null where there is none.
fn fields_changed(old: &ModelPrice, new: &ModelPrice) -> Map<String, Value> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &json!(old), &mut before);
    flatten("", &json!(new), &mut after);
    let mut changed = Map::new();
    for path in before.keys().chain(after.keys()) {
        let (was, is) = (before.get(path), after.get(path));
        if was != is {
            changed.insert(path.clone(), json!({"old": was, "new": is}));
        }
    }
    changed
}

/// The leaves of a value by their paths; a context tier is named by its bound.
fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "context_over") {
                flatten(&below(name), value, leaves);
            }
        }
        Value::Array(items) => {
            for item in items {
                let over = item.get("context_over").and_then(Value::as_u64).unwrap_or(0);
                flatten(&format!("{path}[over {over}]"), item, leaves);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            leaves.insert(path.to_owned(), value.clone());
        }
    }
}
