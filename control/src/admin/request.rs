//! `/v1/tenants/{id}/requests`: the request log. What was used and how it ended, never what was said.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use openclawmu_store::{Outcome, RequestId, RequestQuery, RequestRow, StoreError, TenantId, UnixMs, Zone};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::admin::call::{Params, TenantPath};
use crate::admin::page::{Page, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::stream::{Kind, answer};
use crate::admin::usage::{Format, wants_csv};

/// Rows of a page when the call names no limit.
const DEFAULT: u32 = 100;
/// The most rows of a page.
const MAX: u32 = 1_000;

/// Which rows of the log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RequestParams {
    /// Admitted at this instant or later; a date is its first moment in the tenant's zone
    #[serde(default)]
    #[param(example = "2026-11-01")]
    pub(super) from: Option<String>,
    /// Admitted before this instant
    #[serde(default)]
    #[param(example = "2026-12-01T00:00:00Z")]
    pub(super) to: Option<String>,
    /// Of this model
    #[serde(default)]
    pub(super) model: Option<String>,
    /// At this upstream
    #[serde(default)]
    pub(super) upstream: Option<String>,
    /// By the token of this id
    #[serde(default)]
    pub(super) token: Option<String>,
    /// For this end user
    #[serde(default)]
    pub(super) user: Option<String>,
    /// With this tag
    #[serde(default)]
    pub(super) tag: Option<String>,
    /// Answered with this HTTP status
    #[serde(default)]
    #[param(value_type = Option<u16>, example = 200)]
    pub(super) status: Option<String>,
    /// Ended like this: complete, partial, void, recovered, abandoned, credit or resolved
    #[serde(default)]
    #[param(pattern = "^(complete|partial|void|recovered|abandoned|credit|resolved)$")]
    pub(super) outcome: Option<String>,
    /// Of the client request with this x-request-id
    #[serde(default)]
    #[param(value_type = Option<RequestId>, inline)]
    pub(super) request_id: Option<String>,
    /// How many rows at most; absent: 100 as JSON, all as CSV
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub(super) limit: Option<String>,
    /// The `next` of the page before
    #[serde(default)]
    pub(super) after: Option<String>,
    /// json or csv; absent: what `Accept` names first, else JSON
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(json|csv)$")]
    pub(super) format: Option<Format>,
}

/// The request log of a tenant, newest first
///
/// What was used and how it ended, never what was said. JSON comes by pages; CSV has every row that matches, unless the call
/// names a limit. Each row's `id` is the same whenever it is asked for.
#[utoipa::path(get, path = "/v1/tenants/{id}/requests", tag = "usage", params(TenantPath, RequestParams), responses(
    (status = 200, description = "Rows of the log", content((Page<RequestRow> = "application/json"), (String = "text/csv"))),
))]
pub(super) async fn requests(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<RequestParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let accepted = if wants_csv(&headers) { Format::Csv } else { Format::Json };
    let format = params.format.unwrap_or(accepted);
    let mut query = params.query(&state, id)?;
    match format {
        Format::Csv => answer(&state, Kind::csv("requests.csv"), move |store, to| store.requests_csv(&query, to)).await,
        Format::Focus => Err(Refusal::invalid("format", "format must be json or csv")),
        Format::Json => {
            let limit = query.limit.unwrap_or(DEFAULT);
            query.limit = Some(limit.saturating_add(1));
            let store = state.store.clone();
            let read = move || {
                let mut rows = Vec::new();
                store.requests(&query, &mut |row| {
                    rows.push(row);
                    Ok(())
                })?;
                Ok::<_, StoreError>(rows)
            };
            let rows = tokio::task::spawn_blocking(read).await.map_err(|err| Refusal::internal(&err))??;
            Ok(page(rows, limit, |row| row.cursor().to_string()).into_response())
        }
    }
}

impl RequestParams {
    /// What a filter says, by the names of its parameters; not where the page begins.
    pub(super) fn said(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("from", &self.from),
            ("to", &self.to),
            ("model", &self.model),
            ("upstream", &self.upstream),
            ("token", &self.token),
            ("user", &self.user),
            ("tag", &self.tag),
            ("status", &self.status),
            ("outcome", &self.outcome),
            ("request_id", &self.request_id),
            ("limit", &self.limit),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }

    fn query(self, state: &AdminState, id: TenantId) -> Result<RequestQuery, Refusal> {
        // A tenant that was deleted has its rows still, and no zone any more.
        let zone = state.store.tenant_policy(&id).map_or_else(|_| Zone::utc(), |policy| policy.zone);
        let instant = |field: &str, text: Option<String>| -> Result<Option<UnixMs>, Refusal> {
            let read = |text: String| {
                zone.instant(&text).ok_or_else(|| {
                    Refusal::invalid(
                        field,
                        format!(
                            "{field} must be an instant such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01"
                        ),
                    )
                })
            };
            text.map(read).transpose()
        };
        Ok(RequestQuery {
            from: instant("from", self.from)?,
            to: instant("to", self.to)?,
            model: self.model,
            upstream: self.upstream,
            token: self.token,
            user: self.user,
            tag: self.tag,
            status: parsed("status", self.status, "an HTTP status such as 200", |text| text.parse().ok())?,
            outcome: parsed("outcome", self.outcome, OUTCOMES, Outcome::of_name)?,
            request_id: parsed("request_id", self.request_id, "the x-request-id of an answer", |text| {
                text.parse().ok()
            })?,
            limit: parsed("limit", self.limit, "1 to 1000", |text| {
                text.parse().ok().filter(|limit| (1..=MAX).contains(limit))
            })?,
            after: self.after.as_deref().map(str::parse).transpose()?,
            ..RequestQuery::of(id)
        })
    }
}

const OUTCOMES: &str = "one of complete, partial, void, recovered, abandoned, credit, resolved";

fn parsed<T>(
    field: &str,
    text: Option<String>,
    must_be: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let refused = || Refusal::invalid(field, format!("{field} must be {must_be}"));
    text.map(|text| read(&text).ok_or_else(refused)).transpose()
}
