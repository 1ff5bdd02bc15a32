//! `/v1/audit`: the audit log's lines, and whether they are as they were written.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use openclawmu_store::{AuditLine, AuditOrder, AuditQuery};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Call, Params};
use crate::admin::page::{Page, PageParams, page};
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::audit::{self, Verdict};

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Of this tenant
    #[serde(default)]
    pub(super) tenant: Option<String>,
    /// Of this action, such as `tenant.update`
    #[serde(default)]
    pub(super) action: Option<String>,
    /// asc or desc; absent: asc, the oldest first
    #[serde(default)]
    #[param(pattern = "^(asc|desc)$")]
    pub(super) order: Option<String>,
    /// How many lines at most
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub(super) limit: Option<String>,
    /// The `next` of the page before
    #[serde(default)]
    pub(super) after: Option<String>,
}

/// Read the audit log
///
/// Each line as it stands in the file.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditParams), responses(
    (status = 200, description = "A page of lines", body = Page<AuditLine>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(params): Params<AuditParams>,
) -> Result<Json<Page<AuditLine>>, Refusal> {
    let order = match params.order.as_deref() {
        None | Some("asc") => AuditOrder::Ascending,
        Some("desc") => AuditOrder::Descending,
        Some(_) => return Err(Refusal::invalid("order", "order must be asc or desc")),
    };
    let paging = PageParams::new(params.limit, params.after);
    let (limit, after) = (paging.limit()?, paging.after::<u64>()?);
    let (tenant, action) = (params.tenant, params.action);
    let query = AuditQuery { tenant, action, after, limit: limit.saturating_add(1), order };
    let lines: Vec<AuditLine> = state.store.audit_lines(&query)?;
    Ok(page(lines, limit, |line| line.seq.to_string()))
}

/// From which line on to verify.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Verification {
    /// The first line that is there: files that were moved elsewhere are left out; absent: 1.
    #[serde(default)]
    from_seq: Option<u64>,
}

/// Prove that the audit log is as it was written
///
/// Reads every line; `ok` says whether all are as they were written, else `problem` names the first that is not.
#[utoipa::path(post, path = "/v1/audit/verify", tag = "audit", request_body = Verification, responses(
    (status = 200, description = "What was found", body = Verdict),
))]
pub(super) async fn verify(
    State(state): State<AdminState>,
    call: Call<Verification>,
) -> Result<Json<Verdict>, Refusal> {
    let Some(options) = state.audit.clone() else {
        return Err(Refusal::new(StatusCode::CONFLICT, "no_audit", "this process writes no audit log"));
    };
    let from = call.body.from_seq.unwrap_or(1);
    let permit = state.reports.clone().acquire_owned().await.map_err(|err| Refusal::internal(&err))?;
    let store = state.store.clone();
    let verdict = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        // The newest line first: whatever is written meanwhile stands behind it.
        let head = store.audit_head()?;
        Ok::<_, Refusal>(audit::verify(&options.folder, &options.key, head.as_ref(), from))
    });
    let verdict = verdict.await.map_err(|err| Refusal::internal(&err))??;
    verdict.map(Json).map_err(|err| {
        tracing::error!(%err, "the audit log can't be read");
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unreadable", "the audit log's files can't be read")
            .hint("the cause is in the gateway's log; see the folder's permissions")
            .retry_after(1)
    })
}
