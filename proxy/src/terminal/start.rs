//! A new terminal: its seconds, its files, its way out and its recording, as a run's; and then its shell.

use std::net::IpAddr;
use std::sync::Arc;

use openclawmu_sandbox::{DiskUsage, Limits, PathError, Root, RunId, SandboxError, Workspace};
use openclawmu_store::{RequestId, TenantId};
use openclawmu_terminal::{Order, Session, Size, TerminalError};
use serde_json::json;

use super::grant::Grant;
use super::keep::Keeper;
use super::meter::Meter;
use super::record;
use crate::context::{Active, Shared};
use crate::refusal::Refusal;
use crate::sandbox::{Owner, blocking, refused, way_out, with_disk};

/// How many recordings a tenant may have for another terminal to open: they are counted each time.
const MAX_RECORDINGS: u64 = 10_000;

/// Opens what a grant is for. Dropping what this gives opens nothing.
///
/// # Errors
/// 429, 503, 507: nothing runs then.
pub(super) async fn start(
    shared: &Arc<Shared>,
    (grant, owner): (&Grant, &Owner),
    (request_id, peer): (RequestId, IpAddr),
    (cols, rows): (u16, u16),
) -> Result<Arc<Session>, Refusal> {
    let desk = &shared.terminals;
    desk.enter(shared, grant)?;
    // However this ends, the place is free again; whoever keeps the terminal takes it over.
    let place = Place { shared, session: &grant.session, kept: false };
    let mut meter = Meter::reserve(shared, owner).await?;
    let opened = open(shared, (grant, owner), (request_id, peer), Size::new(cols, rows)).await;
    let session = match opened {
        Ok(session) => session,
        Err(refusal) => {
            meter.refused(&refusal);
            return Err(refusal);
        }
    };
    meter.begin();
    place.keep();
    let keeper = Keeper {
        shared: Arc::clone(shared),
        session: Arc::clone(&session),
        grant: grant.clone(),
        peer,
        meter,
        _active: Active::new(shared),
    };
    if let Some(runtime) = desk.runtime() {
        runtime.spawn(keeper.keep());
    }
    Ok(session)
}

/// A terminal's place, until it is open.
struct Place<'a> {
    shared: &'a Shared,
    session: &'a str,
    kept: bool,
}

impl Place<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.terminals.leave(self.session);
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    (grant, owner): (&Grant, &Owner),
    (request_id, peer): (RequestId, IpAddr),
    size: Size,
) -> Result<Arc<Session>, Refusal> {
    let (rooms, desk) = (&shared.rooms, &shared.terminals);
    let backend = rooms.backend(desk.backend(shared)?).await?;
    let id = RunId::parse(&grant.session).map_err(|err| refused(&err))?;
    let (workspace, limits, recordings) = prepare(shared, owner).await?;
    let network = rooms.config.network.policy(&owner.tenant);
    let egress = way_out(shared, (owner, request_id, &grant.session), network, workspace.owner()).await?;
    record::before(shared, grant, ("terminal.open", peer), json!({ "recording": format!("{id}.cast") })).await?;
    let order = Order {
        id,
        tenant: owner.tenant.to_string(),
        opened_by: record::name(&owner.actor),
        opened_at_ms: shared.store.clock().now().0,
        backend,
        workspace,
        limits,
        egress: egress.as_ref().map(|egress| egress.socket().to_owned()),
        env: Vec::new(),
        command: desk.config.shell.iter().map(Into::into).collect(),
        size,
        recordings,
        record_input: desk.config.record_input,
        keep: egress.map(|egress| Box::new(egress) as Box<dyn std::any::Any + Send>),
    };
    match desk.all.open(order).await {
        Ok(session) => Ok(session),
        Err(err) => {
            let refusal = told(&err);
            record::failed(shared, grant, "terminal.open", &refusal).await;
            Err(refusal)
        }
    }
}

/// The tenant's files, what the shell may use, and where its recording goes.
async fn prepare(shared: &Arc<Shared>, owner: &Owner) -> Result<(Workspace, Limits, Root), Refusal> {
    let (shared, owner) = (Arc::clone(shared), owner.clone());
    blocking(move || {
        let rooms = &shared.rooms;
        let mut workspace = rooms.workspace(&owner.tenant, owner.key).map_err(|err| refused(&err))?;
        rooms.hold(&mut workspace, owner.quota.storage_bytes);
        let saw = |bytes| shared.meter.saw(owner.key, bytes);
        let files = (workspace.files(), &saw as &dyn Fn(u64));
        let limits = with_disk(rooms.config.limits.clone(), (None, 0), owner.quota.storage_bytes, files)?;
        let recordings = rooms.recordings(&owner.tenant).map_err(|err| refused(&SandboxError::Path(err)))?;
        let most = DiskUsage { bytes: shared.terminals.config.recordings_bytes, entries: MAX_RECORDINGS };
        match recordings.disk_usage(most) {
            Err(PathError::NoSpace) => return Err(recordings_full(&owner.tenant)),
            other => other.map_err(|err| refused(&SandboxError::Path(err)))?,
        };
        Ok((workspace, limits, recordings))
    })
    .await?
}

/// A tenant's terminals must not fill the disk of everybody, and no recording may make room for another.
fn recordings_full(tenant: &TenantId) -> Refusal {
    tracing::warn!(%tenant, "no terminal is opened: there are too many recordings; move some out of the tenant's recordings/");
    Refusal::Bad {
        status: 507,
        param: None,
        code: Some("recordings_full"),
        message: "The recordings of terminals take all the room that they may. Ask the operator to move some away."
            .to_owned(),
    }
}

/// What a client is told where there is no terminal for it.
pub(super) fn told(err: &TerminalError) -> Refusal {
    let code = err.code();
    let bad = |status, message: String| Refusal::Bad { status, param: None, code: Some(code), message };
    match err {
        TerminalError::TooMany { limit } => {
            bad(429, format!("This tenant has {limit} terminals open, which is as many as it may."))
        }
        TerminalError::TooManyViewers { limit } => {
            bad(429, format!("This terminal has {limit} viewers, which is as many as it may."))
        }
        TerminalError::Taken => bad(409, "There is a terminal, or a recording, of this name.".to_owned()),
        TerminalError::Driven => bad(409, "This terminal is driven by somebody else.".to_owned()),
        TerminalError::Role => {
            Refusal::Forbidden { code, message: "The role of this ticket does not allow that.".to_owned() }
        }
        TerminalError::Over(reason) => Refusal::NotFound { code, message: reason.message().to_owned() },
        TerminalError::Sandbox(err) => refused(err),
        TerminalError::NoTerminals(_)
        | TerminalError::Recording(_)
        | TerminalError::Pty(_)
        | TerminalError::Shell(_) => {
            tracing::error!(%err, "no terminal can be opened");
            let message = format!("No terminal can be opened at the moment: {code}. The operator's log says more.");
            Refusal::Sandbox { code, message }
        }
    }
}
