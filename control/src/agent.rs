//! A turn of a tenant's agent, as whoever is not a client of the edge asks for it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openclawmu_store::TenantId;

/// What somebody said to an agent
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose agent, and who pays.
    pub tenant: TenantId,
    /// The agent's name.
    pub agent: String,
    /// Which conversation, for example `slack:T024BE7LD:U061F7AUR`; it is made with its first turn.
    pub session: String,
    /// Who brings it, for example `channel:cb_4f2a`; the ledger's row says so where a token's id would stand.
    pub by: String,
    /// What was said.
    pub text: String,
}

/// Why a turn came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TurnRefused {
    /// For whoever spoke: no secret and nothing of the gateway's inside is in it.
    pub message: String,
    /// When it may go better: absent where asking again would be in vain.
    pub retry_after: Option<Duration>,
}

/// What comes of a turn: the agent's words.
pub type TurnEnd = Result<String, TurnRefused>;

/// The agents of this process.
pub trait Agents: Send + Sync {
    /// Takes one turn, through the same admission as any other request of the tenant; turns of one session follow each other.
    fn turn(&self, turn: Turn) -> Pin<Box<dyn Future<Output = TurnEnd> + Send>>;
}
