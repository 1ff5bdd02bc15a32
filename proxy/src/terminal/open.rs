//! `GET /v1/terminal`: from a request to a terminal. Nothing is switched, and no ticket spent, before the request is a WebSocket's
//! and its page may ask; nothing runs before its credential is good.

use std::net::IpAddr;
use std::sync::Arc;

use openclawmu_terminal::Session as Terminal;
use openclawmu_terminal::frame::MAX_MESSAGE_BYTES;
use secrecy::ExposeSecret;

use super::ask::{grant_of_token, not_open};
use super::credential::{Credential, PROTOCOL, check_origin, credential, speaks};
use super::grant::{Grant, Word, of_token};
use super::start::start;
use super::talk::Talk;
use super::ticket::Leads;
use crate::context::{Context, Shared};
use crate::gateway::{Gateway, Stop};
use crate::refusal::Refusal;
use crate::session::Session;
use crate::socket::{accepted, carry, check};

impl Gateway {
    /// Opens a terminal, or attaches to one.
    pub(crate) async fn terminal(
        &self,
        session: &mut Session<'_>,
        ctx: &mut Context,
        peer: IpAddr,
    ) -> Result<(), Stop> {
        let shared = &self.shared;
        // What follows this head is no request, whatever the answer is.
        session.close();
        let head = session.req_header();
        let credential = credential(&head.headers)?;
        let owner = match &credential {
            Credential::Ticket(_) => None,
            Credential::Token(token) => Some(of_token(shared, token, peer)?),
        };
        let offer = check(head)?.speaking(PROTOCOL);
        if head.uri.query().is_some_and(|query| !query.is_empty()) {
            let message = "This route takes no parameters: a ticket is in `Sec-WebSocket-Protocol`, never in a URL.";
            return Err(Refusal::bad("query", message).into());
        }
        speaks(&head.headers)?;
        check_origin(head, shared.config.tls.is_some(), &shared.terminals.config.origins)?;
        let grant = match (credential, owner) {
            (Credential::Token(token), Some(owner)) => {
                grant_of_token(shared, owner, Word::Token(token), ctx.request_id)?
            }
            (Credential::Ticket(ticket) | Credential::Token(ticket), _) => {
                let now = shared.store.clock().now();
                shared.terminals.tickets.redeem(ticket.expose_secret(), now).ok_or_else(no_ticket)?
            }
        };
        let terminal = enter(shared, &grant, (ctx, peer)).await?;
        let (client, far) = accepted(MAX_MESSAGE_BYTES).await;
        ctx.status = 101;
        session.begin(offer.switching(ctx.request_id)?).await?;
        let talk = Talk { shared: Arc::clone(shared), client, grant, peer };
        tokio::join!(Box::pin(talk.run(terminal)), carry(session, far));
        Ok(())
    }
}

/// The terminal that a grant is for, opened where it is to be.
async fn enter(shared: &Arc<Shared>, grant: &Grant, (ctx, peer): (&Context, IpAddr)) -> Result<Arc<Terminal>, Refusal> {
    // Its token may have been revoked since.
    let owner = grant.renewed(shared, peer)?;
    match grant.opens {
        Some(size) => {
            shared.terminals.check_enabled(shared)?;
            if ctx.leaves() {
                let message = "The gateway is shutting down. Please try again.".to_owned();
                return Err(Refusal::Sandbox { code: "shutting_down", message });
            }
            Box::pin(start(shared, (grant, &owner), (ctx.request_id, peer), size)).await
        }
        None => {
            let found = shared.terminals.all.session(&grant.session);
            let own = found.filter(|session| session.tenant() == grant.tenant().as_str());
            own.ok_or_else(|| not_open(Some(&grant.session)))
        }
    }
}

fn no_ticket() -> Refusal {
    Refusal::Bad {
        status: 401,
        param: None,
        code: Some("invalid_ticket"),
        message: "This ticket is unknown, used or expired. A ticket is good once, and for a minute.".to_owned(),
    }
}
