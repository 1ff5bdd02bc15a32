//! `/v1/backups`, `/v1/tenants/{id}/backups`, `/v1/restore`: sets are made, listed, verified, and tenants put back.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use openclawmu_backup::{BackupError, Listed, Made, Scope};
use openclawmu_store::{RestoreReport, Restored, Tenant, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Call, Params, TenantPath};
use crate::admin::idempotency;
use crate::admin::page::Whole;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::admin::token::TokenShown;
use crate::backup::RestoreOrder;

/// Where a backup goes
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBackup {
    /// `s3://BUCKET/PREFIX` or a directory; absent: the configured place.
    #[serde(default)]
    to: Option<String>,
}

/// Where backups lie.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whence {
    /// `s3://BUCKET/PREFIX` or a directory; absent: the configured place
    #[serde(default)]
    pub(super) from: Option<String>,
}

/// Which backup to read
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Verification {
    /// The backup's URL, or a place for the newest of the whole gateway; absent: the configured place.
    #[serde(default)]
    from: Option<String>,
}

/// What to restore, and as whom
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRestore {
    /// The backup's URL; without its number the newest.
    #[serde(default)]
    #[schema(required = true, value_type = String)]
    from: Option<String>,
    /// Which tenant of a backup of the whole gateway.
    #[serde(default)]
    tenant: Option<TenantId>,
    /// Make another tenant of it, with fresh tokens and no usage.
    #[serde(default, rename = "as")]
    copy_as: Option<TenantId>,
    /// Replace the tenant of that id.
    #[serde(default)]
    force: bool,
}

/// A backup
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BackupShown {
    /// Its number.
    id: String,
    /// Where it is, as a restore takes it.
    url: String,
    /// The tenant; null where it is of the whole gateway.
    #[schema(required = true)]
    tenant: Option<TenantId>,
    /// When its snapshot was taken.
    created_at: String,
    /// Bytes in the place, some of which other backups share.
    bytes: u64,
    /// Tenants in it.
    tenants: usize,
    /// Rows of the ledger in the database that it is of.
    ledger_rows: u64,
    /// Whether it is sealed with a passphrase.
    encrypted: bool,
    /// Bytes that were sent: what the place did not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    /// Objects that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_objects: Option<usize>,
    /// Links, pipes, devices and files with several names that are not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u64>,
}

impl BackupShown {
    fn of(listed: &Listed) -> Self {
        Self {
            id: listed.id.clone(),
            url: listed.url.clone(),
            tenant: listed.tenant.clone(),
            created_at: listed.created_at.clone(),
            bytes: listed.bytes,
            tenants: listed.tenants,
            ledger_rows: listed.ledger_rows,
            encrypted: listed.encrypted,
            sent_bytes: None,
            sent_objects: None,
            skipped: None,
        }
    }
}

/// A backup that was made
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MadeBackup {
    backup: BackupShown,
}

/// How far it is
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgressShown {
    /// What is being done.
    phase: &'static str,
    /// Bytes that it is done with.
    done_bytes: u64,
    /// Bytes that it knows of; 0 while it does not know.
    total_bytes: u64,
    /// Bytes that were sent or fetched.
    moved_bytes: u64,
}

/// What is being made now
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Running {
    /// Null while no backup and no restore is being made.
    #[schema(required = true)]
    progress: Option<ProgressShown>,
}

/// A backup that is whole
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerifiedShown {
    /// Its number.
    id: String,
    /// When its snapshot was taken.
    created_at: String,
    /// Objects in it.
    objects: usize,
    /// Their bytes.
    bytes: u64,
    /// Tenants in it.
    tenants: usize,
}

/// What was read
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VerifiedBackup {
    verified: VerifiedShown,
}

/// A tenant that was restored
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RestoredTenant {
    tenant: Tenant,
    /// A new token, where none of its own works.
    #[schema(required = true)]
    token: Option<TokenShown>,
    /// What came back and what did not.
    report: RestoreReport,
}

/// Back the whole gateway up
///
/// Takes long. To call it again makes another backup, which costs little, so that it needs no idempotency key.
#[utoipa::path(post, path = "/v1/backups", tag = "backups", request_body = NewBackup, responses(
    (status = 201, description = "The backup", body = MadeBackup),
))]
pub(super) async fn create_whole(State(state): State<AdminState>, call: Call<NewBackup>) -> Result<Response, Refusal> {
    Ok(made(&state.backups.make(&call.actor, &Scope::Gateway, call.body.to.as_deref()).await?))
}

/// Back one tenant up, to be restored here or elsewhere
#[utoipa::path(post, path = "/v1/tenants/{id}/backups", tag = "backups", params(TenantPath), request_body = NewBackup, responses(
    (status = 201, description = "The backup", body = MadeBackup),
))]
pub(super) async fn create(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    call: Call<NewBackup>,
) -> Result<Response, Refusal> {
    state.store.tenant(&id)?;
    Ok(made(&state.backups.make(&call.actor, &Scope::Tenant(id), call.body.to.as_deref()).await?))
}

fn made(made: &Made) -> Response {
    let backup = BackupShown {
        sent_bytes: Some(made.sent_bytes),
        sent_objects: Some(made.sent_objects),
        skipped: Some(made.skipped),
        ..BackupShown::of(&made.listed)
    };
    (StatusCode::CREATED, Json(MadeBackup { backup })).into_response()
}

/// List the backups of the whole gateway, newest first
#[utoipa::path(get, path = "/v1/backups", tag = "backups", params(Whence), responses(
    (status = 200, description = "All of them", body = Whole<BackupShown>),
))]
pub(super) async fn list_whole(
    State(state): State<AdminState>,
    Params(params): Params<Whence>,
) -> Result<Json<Whole<BackupShown>>, Refusal> {
    Ok(listed(&state.backups.list(&Scope::Gateway, params.from.as_deref()).await?))
}

/// List the backups of a tenant, newest first; of one that is deleted too
#[utoipa::path(get, path = "/v1/tenants/{id}/backups", tag = "backups", params(TenantPath, Whence), responses(
    (status = 200, description = "All of them", body = Whole<BackupShown>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    TenantPath(id): TenantPath,
    Params(params): Params<Whence>,
) -> Result<Json<Whole<BackupShown>>, Refusal> {
    Ok(listed(&state.backups.list(&Scope::Tenant(id), params.from.as_deref()).await?))
}

fn listed(sets: &[Listed]) -> Json<Whole<BackupShown>> {
    Json(Whole { data: sets.iter().map(BackupShown::of).collect() })
}

/// How far the backup or restore is that is being made now
#[utoipa::path(get, path = "/v1/backups/progress", tag = "backups", responses(
    (status = 200, description = "How far it is", body = Running),
))]
pub(super) async fn progress(State(state): State<AdminState>) -> Json<Running> {
    let progress = state.backups.shown().map(|shown| ProgressShown {
        phase: shown.phase,
        done_bytes: shown.done_bytes,
        total_bytes: shown.total_bytes,
        moved_bytes: shown.moved_bytes,
    });
    Json(Running { progress })
}

/// Read a backup from end to end
#[utoipa::path(post, path = "/v1/backups/verify", tag = "backups", request_body = Verification, responses(
    (status = 200, description = "It is whole", body = VerifiedBackup),
))]
pub(super) async fn verify(
    State(state): State<AdminState>,
    call: Call<Verification>,
) -> Result<Json<VerifiedBackup>, Refusal> {
    let found = state.backups.verify(call.body.from.as_deref()).await?;
    let verified = VerifiedShown {
        id: found.id,
        created_at: found.created_at,
        objects: found.objects,
        bytes: found.bytes,
        tenants: found.tenants,
    };
    Ok(Json(VerifiedBackup { verified }))
}

/// Put a tenant back, or make another one of it
///
/// Nothing changes before all of the backup has been read and found whole. What was revoked or spent since stays so, and the
/// answer tells it.
#[utoipa::path(post, path = "/v1/restore", tag = "backups", request_body = NewRestore, responses(
    (status = 201, description = "The tenant, and what did not come back", body = RestoredTenant),
))]
pub(super) async fn restore(State(state): State<AdminState>, call: Call<NewRestore>) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        return Ok(answer);
    }
    let NewRestore { from, tenant, copy_as, force } = call.body;
    let missing = || Refusal::invalid("from", "from must name a backup: see GET /v1/tenants/{id}/backups");
    let order = RestoreOrder { from: from.ok_or_else(missing)?, tenant, copy_as, force };
    let sealed_with = state.master.mark();
    let (prepared, _alone) = state.backups.prepare(&call.actor, &order).await?;
    if state.master.mark() != sealed_with {
        // What this restore brings in sealed is none of what the rotation seals anew.
        let message = "the master key was rotated meanwhile; nothing was changed";
        return Err(Refusal::new(StatusCode::CONFLICT, "key_rotated", message).hint("try again"));
    }
    let (change, swap) = prepared.split();
    let answer = idempotency::create(&state, call.once, change, render).await;
    if answer.is_ok() {
        swap.settle(&state.store).await;
    } else {
        swap.undo().await;
    }
    answer
}

fn render(restored: &Restored) -> Value {
    let token = restored.token.as_ref().map(|(token, plain)| TokenShown::of(token, plain));
    json!(RestoredTenant { tenant: restored.tenant.clone(), token, report: restored.report.clone() })
}

impl From<BackupError> for Refusal {
    fn from(err: BackupError) -> Self {
        let message = err.to_string();
        match err {
            BackupError::Invalid { field, .. } => Self::invalid(field, message),
            BackupError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "backup_not_found", message),
            BackupError::Raced(_) => Self::new(StatusCode::CONFLICT, "backup_raced", message),
            BackupError::Damaged(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_damaged", message),
            BackupError::Hostile(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_refused", message),
            BackupError::Key(_) => Self::new(StatusCode::CONFLICT, "backup_key", message),
            BackupError::Place { place, action, cause, hint } => {
                tracing::error!(place, cause, "a place for backups {action}");
                let message = format!("{place} {action}: {cause}");
                Self::new(StatusCode::BAD_GATEWAY, "backup_unavailable", message).hint(hint)
            }
            BackupError::Store(err) => err.into(),
            BackupError::File { .. } | BackupError::Path(_) => {
                tracing::error!(message, "a backup or a restore failed");
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "no_room", message)
            }
        }
    }
}
