//! Terminals for the admin API: tickets for staff, what is open, and its end. Each is on record before it happens.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};

use openclawmu_control::run::RunRefused;
use openclawmu_control::terminal::{
    Desk as StaffDesk, StaffTicket, StaffTicketRequest, TerminalRole, TerminalShown, Terminals, TicketShown, Work,
};
use openclawmu_store::{Actor, AuditNote, AuditOutcome, TenantId};
use openclawmu_terminal::Reason;
use serde_json::json;

use super::ask::{Wish, grant, issue, not_open, url};
use super::grant::{Word, of_staff};
use super::record::unwritten;
use crate::context::Shared;
use crate::refusal::Refusal;
use crate::sandbox::{ends, told};

/// The longest reason, in characters.
const MAX_REASON: usize = 500;

/// What the admin API calls.
pub(crate) fn for_staff(shared: &Arc<Shared>) -> Terminals {
    Terminals::new(Arc::new(Staff(Arc::downgrade(shared))))
}

struct Staff(Weak<Shared>);

impl Staff {
    fn shared(&self) -> Result<Arc<Shared>, RunRefused> {
        self.0.upgrade().ok_or_else(|| told(&ends()))
    }
}

impl StaffDesk for Staff {
    fn ticket(&self, asked: StaffTicket) -> Work<TicketShown> {
        let shared = self.shared();
        Box::pin(async move { ticket(&shared?, asked).await.map_err(|refusal| told(&refusal)) })
    }

    fn list(&self, tenant: Option<&TenantId>) -> Vec<TerminalShown> {
        self.shared().map(|shared| shared.terminals.shown(tenant)).unwrap_or_default()
    }

    fn end(&self, actor: Actor, session: String) -> Work<TerminalShown> {
        let shared = self.shared();
        Box::pin(async move { end(&shared?, &actor, &session).await.map_err(|refusal| told(&refusal)) })
    }

    fn end_tenant(&self, tenant: TenantId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let shared = self.shared();
        Box::pin(async move {
            let Ok(shared) = shared else { return };
            let all = &shared.terminals.all;
            let open: Vec<_> =
                shared.terminals.shown(Some(&tenant)).iter().filter_map(|one| all.session(&one.id)).collect();
            all.end_tenant(tenant.as_str(), Reason::TenantGone);
            for session in open {
                session.gone().await;
            }
        })
    }
}

async fn ticket(shared: &Arc<Shared>, asked: StaffTicket) -> Result<TicketShown, Refusal> {
    let StaffTicket { tenant, actor, request } = asked;
    let StaffTicketRequest { role, reason, session, cols, rows } = request;
    let reason = reason.unwrap_or_default().trim().to_owned();
    if reason.is_empty() || reason.chars().count() > MAX_REASON {
        return Err(Refusal::bad("reason", format!("`reason` says why, in 1 to {MAX_REASON} characters.")));
    }
    let owner = of_staff(shared, &tenant, actor.clone())?;
    let wish = Wish { role: role.unwrap_or(TerminalRole::Observer), session, cols, rows };
    let grant = grant(shared, owner, Word::Staff(reason.clone()), wish)?;
    let note = AuditNote {
        action: "terminal.ticket",
        tenant: Some(tenant),
        target: Some(grant.session.clone()),
        outcome: AuditOutcome::Ok,
        detail: json!({"role": grant.role, "reason": reason}),
    };
    shared.store.audit(&actor, note).await.map_err(|err| unwritten(&err))?;
    issue(shared, grant, url(shared, None))
}

async fn end(shared: &Arc<Shared>, actor: &Actor, name: &str) -> Result<TerminalShown, Refusal> {
    let shown = shared.terminals.shown(None).into_iter().find(|shown| shown.id == name);
    let (shown, session) = shown.zip(shared.terminals.all.session(name)).ok_or_else(|| not_open(Some(name)))?;
    let note = AuditNote {
        action: "terminal.end",
        tenant: Some(shown.tenant.clone()),
        target: Some(shown.id.clone()),
        outcome: AuditOutcome::Ok,
        detail: json!({}),
    };
    shared.store.audit(actor, note).await.map_err(|err| unwritten(&err))?;
    session.end(Reason::Ended);
    session.gone().await;
    Ok(shown)
}
