//! A terminal in a tenant's sandbox, as it is asked for and as it is shown: on the edge by a tenant, on the admin API by staff.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use openclawmu_store::{Actor, TenantId, UnixMs};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::run::RunRefused;

/// What somebody may do in a terminal
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TerminalRole {
    /// Types, and sets the size; one at a time.
    Driver,
    /// Sees; what it types goes nowhere.
    Observer,
    /// Sees, and may end the terminal.
    Moderator,
}

impl TerminalRole {
    /// Its name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Observer => "observer",
            Self::Moderator => "moderator",
        }
    }
}

/// A tenant's call for a ticket
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TicketRequest {
    /// As whom: the driver, where absent.
    pub role: Option<TerminalRole>,
    /// Which terminal that is open; where absent, the driver opens one, and others see the one that was opened last.
    pub session: Option<String>,
    /// Columns of a new one.
    #[schema(minimum = 1, maximum = 500)]
    pub cols: Option<u16>,
    /// Rows of a new one.
    #[schema(minimum = 1, maximum = 500)]
    pub rows: Option<u16>,
}

/// Staff's call for a ticket
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaffTicketRequest {
    /// As whom: an observer, where absent.
    #[serde(default)]
    pub role: Option<TerminalRole>,
    /// Why; it stands in the audit log, and the tenant is told that somebody watches.
    #[serde(default)]
    #[schema(value_type = String, required = true, min_length = 1, max_length = 500)]
    pub reason: Option<String>,
    /// Which of the tenant's terminals; where absent, the driver opens one, and others see the one that was opened last.
    #[serde(default)]
    pub session: Option<String>,
    /// Columns of a new one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 500)]
    pub cols: Option<u16>,
    /// Rows of a new one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 500)]
    pub rows: Option<u16>,
}

/// A ticket: it opens one WebSocket, once, within a minute
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TicketShown {
    /// What is presented: `Sec-WebSocket-Protocol: openclawmu.terminal.v1, ticket.<this>`.
    pub ticket: String,
    /// The terminal that it leads to.
    pub session: String,
    /// Where the WebSocket is.
    pub url: String,
    /// When it is good for nothing any more.
    #[schema(value_type = UnixMs)]
    pub expires_at: String,
}

/// How many are attached to a terminal
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub struct TerminalViewers {
    /// Who types: one or none.
    pub drivers: u16,
    /// Who watches.
    pub observers: u16,
    /// Who watches, and may end it.
    pub moderators: u16,
}

/// A terminal that is open
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TerminalShown {
    /// Its name.
    pub id: String,
    /// In whose sandbox.
    pub tenant: TenantId,
    /// Whose word it was opened on: a token's id, or that of an admin key.
    pub opened_by: String,
    /// When.
    #[schema(value_type = UnixMs)]
    pub opened_at: String,
    /// Its recording, which is written until it ends.
    pub recording: String,
    /// Who is attached.
    pub viewers: TerminalViewers,
}

/// A ticket that staff asks for.
#[derive(Debug)]
pub struct StaffTicket {
    /// In whose sandbox.
    pub tenant: TenantId,
    /// Who asks.
    pub actor: Actor,
    /// What for.
    pub request: StaffTicketRequest,
}

/// What the admin API asks of the terminals of this process.
pub trait Desk: Send + Sync {
    /// Makes a ticket.
    fn ticket(&self, asked: StaffTicket) -> Work<TicketShown>;
    /// The terminals that are open, of one tenant or of all.
    fn list(&self, tenant: Option<&TenantId>) -> Vec<TerminalShown>;
    /// Ends one, and waits until it is gone.
    fn end(&self, actor: Actor, session: String) -> Work<TerminalShown>;
    /// Ends all of a tenant that is deleted, and waits until they are gone.
    fn end_tenant(&self, tenant: TenantId) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What comes of a call.
pub type Work<T> = Pin<Box<dyn Future<Output = Result<T, RunRefused>> + Send>>;

/// The terminals of this process.
#[derive(Clone)]
pub struct Terminals(Arc<dyn Desk>);

impl Terminals {
    /// Those that `desk` answers for.
    #[must_use]
    pub fn new(desk: Arc<dyn Desk>) -> Self {
        Self(desk)
    }

    pub(crate) fn desk(&self) -> &dyn Desk {
        &*self.0
    }
}

impl fmt::Debug for Terminals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminals").finish_non_exhaustive()
    }
}
