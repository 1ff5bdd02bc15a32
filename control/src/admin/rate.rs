//! `/v1/rates`: the prices in effect, and their versions.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use openclawmu_store::{ModelPrice, NewRateCard, PinnedPrice, RateCard, RateSource, UnixMs};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Call, Params};
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;

/// Versions of a page when the call names no limit: each may be large.
const VERSIONS: u32 = 10;
/// The most versions of a page.
const MAX_VERSIONS: u32 = 100;

/// Which prices to read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RateParams {
    /// What this model costs
    #[serde(default)]
    pub(super) model: Option<String>,
    /// At which instant; needs a model. Absent: now
    #[serde(default)]
    #[param(value_type = Option<UnixMs>, inline)]
    pub(super) at: Option<String>,
}

/// A price, and the version that it comes from
#[derive(Debug, Serialize, ToSchema)]
struct PricedModel {
    #[serde(flatten)]
    price: ModelPrice,
    rate_card: u32,
    source: RateSource,
}

/// Every price in effect
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RatesInEffect {
    #[schema(value_type = UnixMs)]
    at: String,
    /// By name; a name may end in `*`.
    models: BTreeMap<String, PricedModel>,
}

/// What one model costs
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RateAt {
    model: String,
    #[schema(value_type = UnixMs)]
    at: String,
    rate_card: u32,
    source: RateSource,
    price: ModelPrice,
}

/// All prices, or one
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum RatesShown {
    One(Box<RateAt>),
    All(RatesInEffect),
}

/// The prices in effect
///
/// Every one by its name; with `model` what that model costs, at an instant or now.
#[utoipa::path(get, path = "/v1/rates", tag = "rates", params(RateParams), responses(
    (status = 200, description = "The prices", body = RatesShown),
    (status = 404, description = "No price in effect is the model's", body = ErrorBody),
))]
pub(super) async fn get(
    State(state): State<AdminState>,
    Params(params): Params<RateParams>,
) -> Result<Json<RatesShown>, Refusal> {
    let now = state.store.clock().now();
    let at = params.at.as_deref().map(|at| instant("at", at)).transpose()?;
    let Some(model) = params.model else {
        if at.is_some() {
            return Err(Refusal::invalid("at", "at needs a model")
                .hint("add `&model=NAME`; all versions are at /v1/rates/history"));
        }
        return Ok(Json(RatesShown::All(all(&state, now))));
    };
    let at = at.unwrap_or(now);
    let pinned = state
        .store
        .rate_price_at(&model, at)?
        .ok_or_else(|| Refusal::not_found("price").hint(format!("no rate card in effect lists `{model}`")))?;
    let PinnedPrice { card: rate_card, source, price } = pinned;
    let price = ModelPrice::clone(&price);
    Ok(Json(RatesShown::One(Box::new(RateAt { model, at: at.rfc3339(), rate_card, source, price }))))
}

fn all(state: &AdminState, now: UnixMs) -> RatesInEffect {
    let table = state.store.rates();
    let priced = |pinned: &PinnedPrice| PricedModel {
        price: ModelPrice::clone(&pinned.price),
        rate_card: pinned.card,
        source: pinned.source,
    };
    let models = table.models().map(|(name, pinned)| (name.to_owned(), priced(pinned))).collect();
    RatesInEffect { at: now.rfc3339(), models }
}

/// Add a version of the prices
///
/// It lists the models that it prices and says nothing about others; a version never changes.
#[utoipa::path(put, path = "/v1/rates", tag = "rates", request_body = NewRateCard, responses(
    (status = 200, description = "The version", body = RateCard),
))]
pub(super) async fn put(State(state): State<AdminState>, call: Call<NewRateCard>) -> Result<Json<RateCard>, Refusal> {
    let NewRateCard { effective_from, models } = call.body;
    Ok(Json(state.store.put_rates(&call.actor, effective_from, models).await?))
}

/// Every version of the prices, oldest first
#[utoipa::path(get, path = "/v1/rates/history", tag = "rates", params(
    ("limit" = Option<u32>, Query, description = "How many versions at most; each may be large", minimum = 1, maximum = 100),
    ("after" = Option<String>, Query, description = "The `next` of the page before"),
), responses(
    (status = 200, description = "A page of versions", body = Page<RateCard>),
))]
pub(super) async fn history(
    State(state): State<AdminState>,
    Params(params): Params<PageParams>,
) -> Result<Json<Page<RateCard>>, Refusal> {
    let (limit, after) = (params.limit_of(VERSIONS, MAX_VERSIONS)?, params.after::<u32>()?);
    let cards = state.store.rate_cards(after, limit.saturating_add(1))?;
    Ok(page(cards, limit, |card| card.version.to_string()))
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
