//! `/v1/tenants/{id}/usage` and `/v1/reports/usage`: what was used and what it cost, as JSON, CSV or FOCUS.

use std::collections::BTreeSet;
use std::io::Write;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use http::header::ACCEPT;
use openclawmu_store::{
    CsvColumns, Month, StoreError, TenantId, UnixMs, UsageKey, UsageLine, UsageQuery, UsageRange, UsageRow, UsageSums,
    UsageTotal,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Params, TenantPath};
use crate::admin::period;
use crate::admin::refusal::{ErrorBody, Refusal};
use crate::admin::state::AdminState;
use crate::admin::stream::{Kind, answer};

/// Which of a tenant's usage to sum.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UsageParams {
    /// An instant, or a date: its first moment in the tenant's zone. Absent: the first of the month
    #[serde(default)]
    #[param(example = "2026-11-01")]
    pub(super) from: Option<String>,
    /// The same, exclusive. Absent: the end of today
    #[serde(default)]
    #[param(example = "2026-12-01")]
    pub(super) to: Option<String>,
    /// Some of day, model, token, user and tag, separated by commas. Absent: day,model,token
    #[serde(default)]
    #[param(pattern = "^((day|model|token|user|tag)(,(day|model|token|user|tag))*)?$")]
    pub(super) group_by: Option<String>,
    /// The form of the answer; absent: what `Accept` names first, else JSON
    #[serde(default)]
    #[param(inline)]
    pub(super) format: Option<Format>,
    /// What a CSV has beside the stable columns
    #[serde(default)]
    #[param(inline)]
    pub(super) include: Option<Include>,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Csv,
    Focus,
}

/// What a CSV has beside the stable columns.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Include {
    Markup,
}

/// What a tenant used and what it cost
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is written row by row, whatever its size: this is its shape, for the document")]
struct UsageReport {
    from: UnixMs,
    to: UnixMs,
    rows: Vec<UsageRow>,
    total: UsageSums,
}

/// What all tenants used in a month
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is written row by row, whatever its size: this is its shape, for the document")]
struct MonthReport {
    period: Month,
    from: UnixMs,
    to: UnixMs,
    rows: Vec<UsageLine>,
    total: UsageTotal,
}

/// What a tenant used, and what it cost
///
/// As JSON, as CSV with columns that never change, or as FOCUS 1.2.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage", tag = "usage", params(TenantPath, UsageParams), responses(
    (status = 200, description = "The report", content((UsageReport = "application/json"), (String = "text/csv"))),
))]
pub(super) async fn tenant(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<UsageParams>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let span = state.store.usage_span(&id, params.from.as_deref(), params.to.as_deref())?;
    let group_by = keys(params.group_by.as_deref().unwrap_or("day,model,token"))?;
    let query = UsageQuery { tenant: Some(id), range: span.range, group_by };
    let accepted = if wants_csv(&headers) { Format::Csv } else { Format::Json };
    match params.format.unwrap_or(accepted) {
        Format::Json => {
            let head = Head { period: None, from: span.from, to: span.to };
            answer(&state, Kind::json(), move |store, to| {
                let mut rows = Rows::<UsageRow>::begin(to, &head)?;
                let total = store.usage_rows(&query, &mut |row| rows.push(&row))?;
                rows.end(&total)
            })
            .await
        }
        other @ (Format::Csv | Format::Focus) => tabular(&state, query, (other, params.include), "usage").await,
    }
}

/// Which report to make.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReportParams {
    /// The calendar month of each tenant's own zone
    #[param(value_type = Month, inline)]
    period: String,
    /// The form of the answer; absent: JSON
    #[serde(default)]
    #[param(inline)]
    format: Option<Format>,
    /// This tenant alone
    #[serde(default)]
    #[param(value_type = Option<TenantId>, inline)]
    tenant: Option<String>,
    /// Some of day, user and tag, separated by commas: what lines are by beside tenant, model, upstream, token and rate card
    #[serde(default)]
    #[param(pattern = "^((day|model|token|user|tag)(,(day|model|token|user|tag))*)?$")]
    group_by: Option<String>,
    /// What a CSV has beside the stable columns
    #[serde(default)]
    #[param(inline)]
    include: Option<Include>,
}

/// What all tenants used in a month
///
/// Its total is what the month's budgets have posted, for each tenant's own calendar month.
#[utoipa::path(get, path = "/v1/reports/usage", tag = "reports", params(ReportParams), responses(
    (status = 200, description = "The report", content((MonthReport = "application/json"), (String = "text/csv"))),
    (status = 404, description = "There is no such tenant", body = ErrorBody),
))]
pub(super) async fn report(
    State(state): State<AdminState>,
    Params(params): Params<ReportParams>,
) -> Result<Response, Refusal> {
    let period = period::month(&params.period)?;
    let tenant =
        params.tenant.map(|id| id.parse::<TenantId>().map_err(|_| Refusal::not_found("tenant"))).transpose()?;
    let group_by = keys(params.group_by.as_deref().unwrap_or_default())?;
    let query = UsageQuery { tenant, range: UsageRange::Month(period.month), group_by };
    match params.format.unwrap_or(Format::Json) {
        Format::Json => {
            let head = Head { period: Some(params.period), from: period.from, to: period.to };
            answer(&state, Kind::json(), move |store, to| {
                let mut rows = Rows::<UsageLine>::begin(to, &head)?;
                let total = store.usage_lines(&query, &mut |line| rows.push(&line))?;
                rows.end(&total)
            })
            .await
        }
        other @ (Format::Csv | Format::Focus) => {
            tabular(&state, query, (other, params.include), &format!("usage-{}", params.period)).await
        }
    }
}

/// CSV or FOCUS.
async fn tabular(
    state: &AdminState,
    query: UsageQuery,
    (format, include): (Format, Option<Include>),
    name: &str,
) -> Result<Response, Refusal> {
    let columns = match include {
        Some(Include::Markup) => CsvColumns::CostAndMarkup,
        None => CsvColumns::Cost,
    };
    let file = if format == Format::Focus { format!("{name}-focus.csv") } else { format!("{name}.csv") };
    answer(state, Kind::csv(file), move |store, to| match format {
        Format::Focus => store.usage_focus(&query, to),
        Format::Csv | Format::Json => store.usage_csv(&query, columns, to),
    })
    .await
}

fn keys(text: &str) -> Result<BTreeSet<UsageKey>, StoreError> {
    text.split(',').map(str::trim).filter(|key| !key.is_empty()).map(str::parse).collect()
}

/// What a JSON report begins with.
struct Head {
    period: Option<String>,
    from: UnixMs,
    to: UnixMs,
}

/// A JSON report that is written row by row: `{"period"?,"from","to","rows":[...],"total":{...}}`.
struct Rows<'a, T> {
    to: &'a mut dyn Write,
    is_first: bool,
    of: std::marker::PhantomData<T>,
}

impl<'a, T: Serialize> Rows<'a, T> {
    fn begin(to: &'a mut dyn Write, head: &Head) -> Result<Self, StoreError> {
        let mut rows = Self { to, is_first: true, of: std::marker::PhantomData };
        rows.text("{")?;
        if let Some(period) = &head.period {
            rows.text("\"period\":")?;
            rows.value(period)?;
            rows.text(",")?;
        }
        rows.text("\"from\":")?;
        rows.value(&head.from.rfc3339())?;
        rows.text(",\"to\":")?;
        rows.value(&head.to.rfc3339())?;
        rows.text(",\"rows\":[")?;
        Ok(rows)
    }

    fn push(&mut self, row: &T) -> Result<(), StoreError> {
        if !std::mem::take(&mut self.is_first) {
            self.text(",")?;
        }
        self.value(row)
    }

    fn end(mut self, total: &impl Serialize) -> Result<(), StoreError> {
        self.text("],\"total\":")?;
        self.value(total)?;
        self.text("}")
    }

    fn text(&mut self, text: &str) -> Result<(), StoreError> {
        self.to.write_all(text.as_bytes()).map_err(|err| refused(&err))
    }

    fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), StoreError> {
        serde_json::to_writer(&mut *self.to, value).map_err(|err| refused(&err))
    }
}

fn refused(err: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("the report can't be written: {err}"))
}

/// Whether CSV is what the caller would rather have: the first of the two that it names.
pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut types = accepted.filter_map(|part| part.split(';').next()).map(str::trim);
    types.find(|kind| matches!(*kind, "text/csv" | "application/json")) == Some("text/csv")
}
