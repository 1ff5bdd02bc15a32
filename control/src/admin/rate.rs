//! `/v1/rates`: the prices in effect, and their versions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use openclawmu_store::{ModelPrices, PinnedPrice, RateCard, UnixMs};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::admin::call::{Call, Params};
use crate::admin::page::{PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Versions of a page when the call names no limit: each may be large.
const VERSIONS: u32 = 10;
/// The most versions of a page.
const MAX_VERSIONS: u32 = 100;

/// Which prices to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateParams {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    at: Option<String>,
}

/// `GET /v1/rates`: every price in effect, by name. With `?model=` what that model costs, at the instant `?at=` or now.
pub(super) async fn get(
    State(state): State<AdminState>,
    Params(params): Params<RateParams>,
) -> Result<Json<Value>, Refusal> {
    let now = state.store.clock().now();
    let at = params.at.as_deref().map(|at| instant("at", at)).transpose()?;
    let Some(model) = params.model else {
        if at.is_some() {
            return Err(Refusal::invalid("at", "at needs a model")
                .hint("add `&model=NAME`; all versions are at /v1/rates/history"));
        }
        return Ok(Json(all(&state, now)));
    };
    let at = at.unwrap_or(now);
    let pinned = state
        .store
        .rate_price_at(&model, at)?
        .ok_or_else(|| Refusal::not_found("price").hint(format!("no rate card in effect lists `{model}`")))?;
    Ok(Json(
        json!({"model": model, "at": at.rfc3339(), "rate_card": pinned.card, "source": pinned.source, "price": *pinned.price}),
    ))
}

fn all(state: &AdminState, now: UnixMs) -> Value {
    let table = state.store.rates();
    let models: Map<String, Value> = table.models().map(|(name, pinned)| (name.to_owned(), priced(pinned))).collect();
    json!({"at": now.rfc3339(), "models": models})
}

/// A price with the version that it comes from.
fn priced(pinned: &PinnedPrice) -> Value {
    let mut price = json!(*Arc::clone(&pinned.price));
    if let Some(fields) = price.as_object_mut() {
        fields.insert("rate_card".to_owned(), pinned.card.into());
        fields.insert("source".to_owned(), pinned.source.name().into());
    }
    price
}

/// A version to add, in the form of `conf/rates.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRates {
    #[serde(default, deserialize_with = "optional_instant")]
    effective_from: Option<UnixMs>,
    models: ModelPrices,
}

/// `PUT /v1/rates`: adds a version and answers it; never changes one.
pub(super) async fn put(State(state): State<AdminState>, call: Call<NewRates>) -> Result<Json<RateCard>, Refusal> {
    let NewRates { effective_from, models } = call.body;
    Ok(Json(state.store.put_rates(&call.actor, effective_from, models).await?))
}

/// `GET /v1/rates/history`: every version in full, oldest first.
pub(super) async fn history(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Value>, Refusal> {
    let (limit, after) = (params.limit_of(VERSIONS, MAX_VERSIONS)?, params.after::<u32>()?);
    let cards = state.store.rate_cards(after, limit.saturating_add(1))?;
    Ok(Json(page(cards, limit, |card| card.version.to_string())))
}

fn instant(field: &str, text: &str) -> Result<UnixMs, Refusal> {
    UnixMs::parse_rfc3339(text)
        .map_err(|_| Refusal::invalid(field, format!("{field} must be an instant such as 2026-11-01T00:00:00Z")))
}

pub(super) fn optional_instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMs>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    text.map(|text| {
        UnixMs::parse_rfc3339(&text)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not an instant such as 2026-11-01T00:00:00Z")))
    })
    .transpose()
}
