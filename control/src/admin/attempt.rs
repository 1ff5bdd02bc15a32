//! A call as far as the audit log must know it when it is refused: its route by name, never what it says.

use std::net::IpAddr;

use axum::extract::{ConnectInfo, MatchedPath, Request};
use axum::response::Response;
use openclawmu_store::{Actor, ActorKind, RequestId, TenantId};

use crate::admin::attempts::network;
use crate::admin::peer::Peer;
use crate::admin::refusal::RefusalCode;
use crate::admin::state::AdminState;
use crate::audit::Denial;

/// A call that may be refused.
pub(super) struct Attempt {
    ip: Option<IpAddr>,
    route: String,
    tenant: Option<TenantId>,
    request_id: Option<String>,
}

impl Attempt {
    pub(super) fn of(request: &Request) -> Self {
        let matched = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        let path = request.uri().path();
        let of_tenant = ["/v1/tenants/{id}", "/console/tenants/{id}"];
        let tenant = matched.filter(|route| of_tenant.iter().any(|beginning| route.starts_with(beginning)));
        let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|info| info.0);
        Self {
            ip: match peer {
                Some(Peer::Network(ip)) => Some(network(ip)),
                Some(Peer::Local(_)) | None => None,
            },
            route: format!("{} {}", known(request), matched.unwrap_or("-")),
            tenant: tenant.and_then(|_| path.split('/').nth(3)?.parse().ok()),
            request_id: request.extensions().get::<RequestId>().map(ToString::to_string),
        }
    }

    /// Counts the call if the answer refuses it. Without an actor it came no further than the gate.
    pub(super) fn refused(self, state: &AdminState, actor: Option<Actor>, response: &Response) {
        let status = response.status();
        if !(status.is_client_error() || status.is_server_error()) {
            return;
        }
        let reason = response.extensions().get::<RefusalCode>().map_or("refused", |code| code.0);
        let (action, actor, tenant) = match actor {
            Some(Actor { kind, id, .. }) => ("admin.refused", (kind, id), self.tenant),
            // What somebody says who may say nothing is not taken down.
            None => ("admin.denied", (ActorKind::Unknown, String::new()), None),
        };
        let denial = Denial { action, actor, ip: self.ip, reason, status: status.as_u16(), route: self.route, tenant };
        state.denials.add(state.store.clock().as_ref(), denial, self.request_id);
    }
}

/// The method, of those that there are.
fn known(request: &Request) -> &'static str {
    let known = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    known.into_iter().find(|name| request.method().as_str() == *name).unwrap_or("-")
}
