//! Calls for tickets: `POST /v1/terminal/tickets` by a tenant, and the same by staff. What is asked for is decided here, once; a
//! ticket's bearer can widen nothing of it.

use std::net::IpAddr;
use std::sync::Arc;

use openclawmu_control::terminal::{TerminalRole, TicketRequest, TicketShown};
use openclawmu_store::RequestId;
use openclawmu_terminal::frame::MAX_SIDE;

use super::credential::host;
use super::grant::{Grant, Word};
use super::ticket::random;
use crate::answer::Head;
use crate::authenticate::{self, Caller};
use crate::client::Client;
use crate::context::{Context, Shared};
use crate::gateway::{Gateway, Stop};
use crate::read;
use crate::refusal::Refusal;
use crate::sandbox::{Owner, owner};
use crate::session::Session;

/// The size of a terminal whose driver names none.
const SIZE: (u16, u16) = (80, 24);

/// Which terminal somebody wants, and as whom.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) role: TerminalRole,
    pub(super) session: Option<String>,
    pub(super) cols: Option<u16>,
    pub(super) rows: Option<u16>,
}

impl Gateway {
    /// Makes a ticket of the caller's tenant.
    pub(crate) async fn terminal_ticket(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        (caller, peer): (&Caller, IpAddr),
    ) -> Result<(), Stop> {
        let shared = &self.shared;
        let (token, _) = authenticate::presented(&session.req_header().headers, false)?;
        let word = Word::Token(token.to_owned().into());
        let body = read::body(session, &shared.config).await?;
        let TicketRequest { role, session: named, cols, rows } = read::fields(&body)?;
        let wish = Wish { role: role.unwrap_or(TerminalRole::Driver), session: named, cols, rows };
        let grant = grant(shared, owner(caller, peer, Some(ctx.request_id)), word, wish)?;
        let url = url(shared, host(session.req_header()));
        let shown = issue(shared, grant, url)?;
        ctx.status = 201;
        let mut head = Head::new(201, ctx.request_id)?;
        head.set("cache-control", "no-store");
        let body = serde_json::to_vec(&shown).unwrap_or_default();
        Ok(head.send(&mut Client::Http(session.again()), "application/json", body.into()).await?)
    }
}

/// A ticket for what was granted.
///
/// # Errors
/// 429 where too many are out.
pub(super) fn issue(shared: &Shared, grant: Grant, url: String) -> Result<TicketShown, Refusal> {
    let session = grant.session.clone();
    let (ticket, expires_at) = shared.terminals.tickets.issue(grant, shared.store.clock().now())?;
    Ok(TicketShown { ticket, session, url, expires_at: expires_at.rfc3339() })
}

/// What a wish comes to.
///
/// # Errors
/// 400 and 404, naming the field; 503 where there are no terminals.
pub(super) fn grant(shared: &Arc<Shared>, owner: Owner, word: Word, wish: Wish) -> Result<Grant, Refusal> {
    shared.terminals.check_enabled(shared)?;
    let Wish { role, session, cols, rows } = wish;
    for (field, side) in [("cols", cols), ("rows", rows)] {
        if side.is_some_and(|side| !(1..=MAX_SIDE).contains(&side)) {
            return Err(Refusal::bad(field, format!("`{field}` is 1 to {MAX_SIDE}.")));
        }
    }
    let (session, opens) = match (session, role) {
        (None, TerminalRole::Driver) => {
            let size = (cols.unwrap_or(SIZE.0), rows.unwrap_or(SIZE.1));
            (format!("term_{}", random::<12>()?), Some(size))
        }
        (named, _) => {
            if let Some((field, _)) = [("cols", cols), ("rows", rows)].into_iter().find(|(_, side)| side.is_some()) {
                let message = format!(
                    "`{field}` is for a terminal that is opened; the driver of one sets its size over the WebSocket."
                );
                return Err(Refusal::bad(field, message));
            }
            let found = match &named {
                Some(name) => shared.terminals.is_of(name, &owner.tenant).then(|| name.clone()),
                None => shared.terminals.newest_of(&owner.tenant),
            };
            (found.ok_or_else(|| not_open(named.as_deref()))?, None)
        }
    };
    Ok(Grant { owner, word, role, session, opens })
}

/// There is no such terminal of this tenant.
pub(super) fn not_open(named: Option<&str>) -> Refusal {
    let message = match named {
        Some(_) => "There is no terminal of this name that is open.",
        None => "No terminal is open that could be watched: name the role `driver` to open one.",
    };
    Refusal::NotFound { code: "terminal_not_found", message: message.to_owned() }
}

/// Where the WebSocket is, for whoever reached the gateway at `host`.
pub(super) fn url(shared: &Shared, host: Option<&str>) -> String {
    let edge = &shared.config;
    let base = shared.terminals.config.public_url.clone().unwrap_or_else(|| {
        let scheme = if edge.tls.is_some() { "wss" } else { "ws" };
        let listening = crate::serve::reachable(edge.listen).to_string();
        format!("{scheme}://{}", host.unwrap_or(&listening))
    });
    format!("{base}/v1/terminal")
}

/// The request's own grant of a token that opens a terminal without a ticket.
pub(super) fn grant_of_token(
    shared: &Arc<Shared>,
    mut owner: Owner,
    word: Word,
    id: RequestId,
) -> Result<Grant, Refusal> {
    owner.actor.request_id = Some(id.to_string());
    let wish = Wish { role: TerminalRole::Driver, session: None, cols: None, rows: None };
    grant(shared, owner, word, wish)
}
