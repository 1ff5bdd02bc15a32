//! `POST /v1/rates/import`: prices from outside, as a difference to what is in effect, and as a version that makes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use openclawmu_store::{ModelPrice, Overrides, RateCard, RateDifference, RateImport, UnixMs};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::admin::call::Call;
use crate::admin::idempotency;
use crate::admin::rate::optional_instant;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::rate_import::{self, Format, ListError, PriceList, Remark, Rounded};

/// A price list, and what to do with it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RateImport)]
pub(super) struct Import {
    /// How the list is written. Absent: told by the list's shape.
    #[serde(default)]
    format: Option<Format>,
    /// The list: a rate card, or `LiteLLM`'s price map.
    #[schema(value_type = Object)]
    prices: Box<RawValue>,
    /// From when on it counts; absent: what the list says, else now.
    #[serde(default, deserialize_with = "optional_instant")]
    effective_from: Option<UnixMs>,
    /// Only say what would change.
    #[serde(default)]
    dry_run: bool,
    /// Change the operator's own prices too.
    #[serde(default)]
    replace_overrides: bool,
    /// The models to import: names, or beginnings followed by `*`; absent: all.
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

/// A field's old and new value; null where there is none
#[derive(Debug, Serialize, ToSchema)]
struct FieldChange {
    #[schema(required = true)]
    old: Option<Value>,
    #[schema(required = true)]
    new: Option<Value>,
}

/// The version that an import made
#[derive(Debug, Serialize, ToSchema)]
struct ImportedVersion {
    version: u32,
    #[schema(value_type = UnixMs)]
    effective_from: String,
    /// How many models it prices.
    models: usize,
}

/// What came of an import, or would
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ImportReport {
    format: Format,
    /// New names.
    added: BTreeMap<String, ModelPrice>,
    /// Names with another price: field by field what differs.
    changed: BTreeMap<String, BTreeMap<String, FieldChange>>,
    /// Names that lose their price.
    withdrawn: Vec<String>,
    /// How many names have the price that the list states.
    unchanged: usize,
    /// Names left as an operator has priced them, each with the operator's name or pattern that does so.
    kept: BTreeMap<String, String>,
    /// Models that can't be imported, each with the reason.
    skipped: BTreeMap<String, String>,
    /// Prices that the list states finer than they can be held.
    rounded: Vec<Rounded>,
    /// Fields that were left out of prices.
    left_out: Vec<Remark>,
    /// The new version; null after a dry run, or when nothing changed.
    #[schema(required = true)]
    rate_card: Option<ImportedVersion>,
}

/// Import a price list
///
/// Answers the difference, and adds a version unless it is empty or a dry run.
#[utoipa::path(post, path = "/v1/rates/import", tag = "rates", request_body = Import, responses(
    (status = 200, description = "What would change: a dry run", body = ImportReport),
    (status = 201, description = "What changed", body = ImportReport),
))]
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
    let changed = difference.changed.iter().map(|(name, (old, new))| (name.clone(), fields_changed(old, new)));
    let rate_card = card.as_ref().map(|card| ImportedVersion {
        version: card.version,
        effective_from: card.effective_from.rfc3339(),
        models: card.models.len(),
    });
    json!(ImportReport {
        format: list.format,
        added: difference.added.clone(),
        changed: changed.collect(),
        withdrawn: difference.withdrawn.clone(),
        unchanged: difference.unchanged,
        kept: difference.kept.clone(),
        skipped: list.skipped.clone(),
        rounded: list.rounded.clone(),
        left_out: list.remarks.clone(),
        rate_card,
    })
}

/// Field by field what differs, by its path.
fn fields_changed(old: &ModelPrice, new: &ModelPrice) -> BTreeMap<String, FieldChange> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &json!(old), &mut before);
    flatten("", &json!(new), &mut after);
    let mut changed = BTreeMap::new();
    for path in before.keys().chain(after.keys()) {
        let (was, is) = (before.get(path), after.get(path));
        if was != is {
            changed.insert(path.clone(), FieldChange { old: was.cloned(), new: is.cloned() });
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
