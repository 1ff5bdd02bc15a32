//! `/v1/tenants/{id}/usage` and `/v1/reports/usage`: what was used and what it cost, as JSON or CSV.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::tz::TimeZone;
use openclawmu_store::{Store, StoreError, TenantId, UsageKey, UsageLine, UsageQuery, UsageSums};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::call::{Params, TenantPath};
use crate::admin::period;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// Which of a tenant's usage to sum.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UsageParams {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    group_by: Option<String>,
}

/// `GET /v1/tenants/{id}/usage`: from the first of the month until now where the call does not say; by day, model and
/// token likewise. A date is its first moment in the tenant's zone; `to` is exclusive.
pub(super) async fn tenant(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<UsageParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let query = params.query(&state, id)?;
    if wants_csv(&headers) {
        return csv_answer(&state, query, "usage.csv").await;
    }
    let (from, to) = (query.from.rfc3339(), query.to.rfc3339());
    let report = summed(&state, move |store| store.usage(&query)).await?;
    Ok(Json(json!({"from": from, "to": to, "rows": report.rows, "total": report.total})).into_response())
}

impl UsageParams {
    fn query(self, state: &AdminState, id: TenantId) -> Result<UsageQuery, Refusal> {
        // A tenant that was deleted has its rows still, and no zone any more.
        let zone = match state.store.tenant(&id) {
            Ok(tenant) => TimeZone::get(&tenant.timezone).unwrap_or(TimeZone::UTC),
            Err(StoreError::NotFound(_)) => TimeZone::UTC,
            Err(err) => return Err(err.into()),
        };
        let now = state.store.clock().now();
        let bound =
            |field: &str, text: Option<String>| text.map(|text| period::instant(field, &text, &zone)).transpose();
        let from = bound("from", self.from)?.unwrap_or_else(|| period::month_start(now, &zone));
        let to = bound("to", self.to)?.unwrap_or(now.plus_ms(1));
        if to < from {
            return Err(Refusal::invalid("to", "to must not be before from"));
        }
        let keys = self.group_by.unwrap_or_else(|| "day,model,token".to_owned());
        let names = keys.split(',').map(str::trim).filter(|key| !key.is_empty());
        let group_by = names.map(str::parse).collect::<Result<BTreeSet<UsageKey>, StoreError>>()?;
        Ok(UsageQuery { tenant: Some(id), from, to, group_by })
    }
}

/// Which report to make.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportParams {
    period: String,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    tenant: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Json,
    Csv,
}

/// `GET /v1/reports/usage?period=YYYY-MM`: a calendar month in UTC, of all tenants or of one.
pub(super) async fn report(
    State(state): State<AdminState>,
    Params(params): Params<ReportParams>,
) -> Result<Response, Refusal> {
    let (from, to) = period::month(&params.period)?;
    let tenant =
        params.tenant.map(|id| id.parse::<TenantId>().map_err(|_| Refusal::not_found("tenant"))).transpose()?;
    let query = UsageQuery { tenant, from, to, group_by: BTreeSet::new() };
    match params.format {
        Format::Csv => csv_answer(&state, query, &format!("usage-{}.csv", params.period)).await,
        Format::Json => {
            let (rows, total) = summed(&state, move |store| json_report(store, &query)).await?;
            let body = json!({"period": params.period, "from": from.rfc3339(), "to": to.rfc3339(), "rows": rows, "total": total});
            Ok(Json(body).into_response())
        }
    }
}

/// The sums of a report's lines.
#[derive(Debug, Serialize)]
struct ReportTotal {
    #[serde(flatten)]
    sums: UsageSums,
    storage_byte_days: u64,
    estimated_rows: u64,
}

/// The lines that the CSV has, and their sums.
fn json_report(store: &Store, query: &UsageQuery) -> Result<(Vec<UsageLine>, ReportTotal), StoreError> {
    let mut rows = Vec::new();
    let sums = store.usage_lines(query, &mut |line| {
        rows.push(line);
        Ok(())
    })?;
    let storage_byte_days = rows.iter().map(|line| line.storage_byte_days).sum();
    let estimated_rows = rows.iter().map(|line| line.estimated_rows).sum();
    Ok((rows, ReportTotal { sums, storage_byte_days, estimated_rows }))
}

async fn csv_answer(state: &AdminState, query: UsageQuery, name: &str) -> Result<Response, Refusal> {
    let body = summed(state, move |store| {
        let mut body = Vec::new();
        store.usage_csv(&query, &mut body).map(|()| body)
    })
    .await?;
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, body).into_response())
}

/// Sums on a thread of its own, few at a time: it may take long and must hold up nobody else.
async fn summed<T, F>(state: &AdminState, sum: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
{
    let _permit = state.reports.acquire().await.map_err(|err| Refusal::internal(&err))?;
    let store = state.store.clone();
    let report = tokio::task::spawn_blocking(move || sum(&store)).await.map_err(|err| Refusal::internal(&err))?;
    Ok(report?)
}

/// Whether CSV is what the caller would rather have: the first of the two that it names.
fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut types = accepted.filter_map(|part| part.split(';').next()).map(str::trim);
    types.find(|kind| matches!(*kind, "text/csv" | "application/json")) == Some("text/csv")
}
