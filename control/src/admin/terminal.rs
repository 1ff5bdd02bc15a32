//! `/v1/terminals`, `/v1/tenants/{id}/terminal_tickets` and `/v1/tenants/{id}/recordings`: terminals in tenants' sandboxes, for
//! staff. What a terminal showed is the tenant's: whoever asks for a ticket says why, and whoever fetches a recording is on record
//! before it is read.

use std::io::Read;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use openclawmu_sandbox::{Kind, PathError, RelPath, Root};
use openclawmu_store::{AuditNote, AuditOutcome, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use crate::admin::call::{Call, Caller, Params, RecordingPath, TenantPath, TerminalPath};
use crate::admin::idempotency;
use crate::admin::page::Whole;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;
use crate::terminal::{StaffTicket, StaffTicketRequest, TerminalShown, TicketShown};

/// The folder of a tenant's recordings, and what their names end in.
const FOLDER: &str = "recordings";
const ENDING: &str = ".cast";
/// How many recordings are listed: the newest.
const LISTED: usize = 1_000;
/// Names that are read from the folder at once.
const PAGE: usize = 1_000;
/// How much of a recording is read at once, and how many such pieces wait for a client.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;

/// Whose terminals.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Whose {
    /// One tenant's; all, where absent.
    #[param(value_type = Option<TenantId>)]
    pub(super) tenant: Option<String>,
}

/// A recording of a terminal
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Recording {
    /// Its name.
    id: String,
    /// How large it is.
    size_bytes: u64,
}

/// Make a ticket for a tenant's terminal
///
/// It opens one WebSocket of the edge, once, within a minute. Staff observe by default: what an observer types goes nowhere, and
/// the tenant sees that somebody watches. The reason stands in the audit log.
#[utoipa::path(post, path = "/v1/tenants/{id}/terminal_tickets", tag = "terminals", params(TenantPath), request_body = StaffTicketRequest, responses(
    (status = 201, description = "The ticket", body = TicketShown),
))]
pub(super) async fn ticket(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
    call: Call<StaffTicketRequest>,
) -> Result<Response, Refusal> {
    if let Some(once) = &call.once
        && let Some(answer) = idempotency::replayed(&state, once)?
    {
        // The ticket in it is the one that was made then: it opens no second WebSocket.
        return Ok(answer);
    }
    let asked = StaffTicket { tenant, actor: call.actor, request: call.body };
    let answer = state.hooks.terminals.desk().ticket(asked).await?;
    let kept = state.store.keep_answer(json!(answer));
    idempotency::create(&state, call.once, kept, Value::clone).await
}

/// List the terminals that are open, oldest first
#[utoipa::path(get, path = "/v1/terminals", tag = "terminals", params(Whose), responses(
    (status = 200, description = "All terminals of this gateway, or of one tenant", body = Whole<TerminalShown>),
))]
pub(super) async fn list(
    State(state): State<AdminState>,
    Params(whose): Params<Whose>,
) -> Result<Json<Whole<TerminalShown>>, Refusal> {
    let invalid = |_| Refusal::invalid("tenant", "tenant must be a tenant's id");
    let tenant: Option<TenantId> = whose.tenant.map(|id| id.parse()).transpose().map_err(invalid)?;
    Ok(Json(Whole { data: state.hooks.terminals.desk().list(tenant.as_ref()) }))
}

/// End a terminal
///
/// Everything that runs in it is gone with the answer; its recording stays.
#[utoipa::path(delete, path = "/v1/terminals/{terminal}", tag = "terminals", params(TerminalPath), responses(
    (status = 200, description = "The terminal as it was", body = TerminalShown),
))]
pub(super) async fn end(
    State(state): State<AdminState>,
    TerminalPath(terminal): TerminalPath,
    Caller(actor): Caller,
) -> Result<Json<TerminalShown>, Refusal> {
    Ok(Json(state.hooks.terminals.desk().end(actor, terminal).await?))
}

/// List a tenant's recordings, newest first
///
/// At most 1,000; older ones can still be fetched by the names that the audit log has.
#[utoipa::path(get, path = "/v1/tenants/{id}/recordings", tag = "terminals", params(TenantPath), responses(
    (status = 200, description = "The newest recordings, of terminals that are open as well", body = Whole<Recording>),
))]
pub(super) async fn recordings(
    State(state): State<AdminState>,
    TenantPath(tenant): TenantPath,
) -> Result<Json<Whole<Recording>>, Refusal> {
    state.store.tenant(&tenant)?;
    let found = tokio::task::spawn_blocking(move || found(&state, &tenant)).await;
    Ok(Json(Whole { data: found.map_err(|err| Refusal::internal(&err))?.map_err(|err| Refusal::internal(&err))? }))
}

/// Fetch a recording
///
/// An asciicast of version 2, as `asciinema play` and the terminal's own page play it. Fetching it is on record.
#[utoipa::path(get, path = "/v1/tenants/{id}/recordings/{recording}", tag = "terminals", params(RecordingPath), responses(
    (status = 200, description = "The recording", body = String, content_type = "application/x-asciicast"),
))]
pub(super) async fn recording(
    State(state): State<AdminState>,
    RecordingPath(tenant, recording): RecordingPath,
    Caller(actor): Caller,
) -> Result<Response, Refusal> {
    state.store.tenant(&tenant)?;
    let name = format!("{recording}{ENDING}");
    let path = RelPath::parse(name.as_bytes()).map_err(|_| Refusal::not_found("recording"))?;
    let (data, of) = (state.store.dir().to_owned(), tenant.clone());
    let opened = tokio::task::spawn_blocking(move || {
        folder(&data, &of)?.ok_or(PathError::NotFound).and_then(|folder| folder.read(&path))
    });
    let file = match opened.await.map_err(|err| Refusal::internal(&err))? {
        Err(PathError::NotFound | PathError::Refused) => return Err(Refusal::not_found("recording")),
        opened => opened.map_err(|err| Refusal::internal(&err))?,
    };
    let note = AuditNote {
        action: "terminal.fetch",
        tenant: Some(tenant),
        target: Some(recording),
        outcome: AuditOutcome::Ok,
        detail: json!({}),
    };
    state.store.audit(&actor, note).await?;
    let headers = [
        (CONTENT_TYPE, "application/x-asciicast".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::OK, headers, pieces(file)).into_response())
}

/// A file's content, piece by piece; one that can't be read on breaks off.
fn pieces(mut file: std::fs::File) -> Body {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            let read = match file.read(&mut piece) {
                Ok(0) => return,
                Ok(read) => {
                    piece.truncate(read);
                    Ok(Bytes::from(piece))
                }
                Err(err) => Err(err),
            };
            let broke = read.is_err();
            // Its client left.
            if sender.blocking_send(read).is_err() || broke {
                return;
            }
        }
    });
    let next = |mut receiver: mpsc::Receiver<_>| async move { Some((receiver.recv().await?, receiver)) };
    Body::from_stream(futures_util::stream::unfold(receiver, next))
}

fn found(state: &AdminState, tenant: &TenantId) -> Result<Vec<Recording>, PathError> {
    let Some(folder) = folder(state.store.dir(), tenant)? else { return Ok(Vec::new()) };
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = folder.list(None, after.as_deref(), PAGE)?;
        for entry in &page.entries {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(ENDING));
            let Some(id) = name.filter(|_| entry.metadata.kind == Kind::File) else { continue };
            found.push((
                entry.metadata.modified_at_ms,
                Recording { id: id.to_owned(), size_bytes: entry.metadata.size_bytes },
            ));
        }
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    found.sort_by(|(one, _), (other, _)| other.cmp(one));
    Ok(found.into_iter().map(|(_, recording)| recording).take(LISTED).collect())
}

/// The folder of a tenant's recordings, where there are any.
fn folder(data: &std::path::Path, tenant: &TenantId) -> Result<Option<Root>, PathError> {
    let path = RelPath::parse(format!("{tenant}/{FOLDER}").as_bytes())?;
    match Root::open(&data.join("tenants")).and_then(|tenants| tenants.descend(&path)) {
        Err(PathError::NotFound) => Ok(None),
        opened => opened.map(Some),
    }
}
