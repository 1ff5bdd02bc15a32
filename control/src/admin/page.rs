//! Lists by pages: `?limit=&after=` in, `{"data", "has_more", "next"}` out; `next` is the `after` of the next page.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::refusal::Refusal;

/// Rows of a page when the call names no limit.
const DEFAULT: u32 = 100;
/// The most rows of a page.
const MAX: u32 = 1_000;

/// What a call for a list may say.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageParams {
    /// How many rows at most
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// The `next` of the page before
    #[serde(default)]
    after: Option<String>,
}

impl PageParams {
    /// Those of a call that says more than them.
    pub(super) fn new(limit: Option<String>, after: Option<String>) -> Self {
        Self { limit, after }
    }

    /// How many rows, at most `max` and by itself `default`.
    pub(super) fn limit_of(&self, default: u32, max: u32) -> Result<u32, Refusal> {
        let Some(text) = &self.limit else {
            return Ok(default);
        };
        let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
        limit.ok_or_else(|| Refusal::invalid("limit", format!("limit must be 1 to {max}")))
    }

    /// How many rows.
    pub(super) fn limit(&self) -> Result<u32, Refusal> {
        self.limit_of(DEFAULT, MAX)
    }

    /// After which row.
    pub(super) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Refusal> {
        let parsed = self.after.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| Refusal::invalid("after", "after must be the `next` of the page before"))
    }
}

/// One page of a list
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T: ToSchema> {
    /// Its rows.
    data: Vec<T>,
    /// Whether there are more after it.
    has_more: bool,
    /// What to send as `after` for the next page; null where there is none.
    #[schema(required = true)]
    next: Option<String>,
}

/// A list without pages
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Whole<T: ToSchema> {
    /// All its rows.
    pub(super) data: Vec<T>,
}

/// A page of `limit` rows, made from one row more than that, by which it is known whether there are more.
pub(super) fn page<T: ToSchema>(mut rows: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Json<Page<T>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(cursor);
    Json(Page { data: rows, has_more, next })
}
