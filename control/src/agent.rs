//! Tenants' own agents: what one is, what is kept of it, and a turn of it as whoever is not a client of the edge asks for it.
//!
//! - `spec`: an agent's name, and what its tenant says of it
//! - `files`: `<data>/tenants/<tenant>/agents/<agent>/`, opened through [`openclawmu_sandbox::Root`] alone
//! - `memory`: what it remembers, as files; `session`: its conversations; `line`: what one is made of
//! - `error`: what can go wrong with those
//!
//! Knows nothing of models and HTTP: who takes the turns is the gateway.

mod error;
mod files;
mod line;
mod memory;
mod session;
mod spec;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openclawmu_store::TenantId;

pub use error::AgentError;
pub use files::{Agent, AgentFiles, Of};
pub use line::{Line, Lines, Role, history};
pub use memory::MemoryFile;
pub use session::{Conversation, SessionFile, SessionName};
pub use spec::{AgentFields, AgentName, MAX_AGENTS, Spec, Tool};

/// What somebody said to an agent
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose agent, and who pays.
    pub tenant: TenantId,
    /// The agent's name; `default` is there without set-up.
    pub agent: String,
    /// Which conversation, for example `slack:T024BE7LD:U061F7AUR`; it is made with its first turn.
    pub session: String,
    /// Who brings it, for example `channel:cb_4f2a`; the ledger's rows name no token, and this as a tag.
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
    /// Whoever drops what this gives has asked: the turn goes on to its end.
    fn turn(&self, turn: Turn) -> Pin<Box<dyn Future<Output = TurnEnd> + Send>>;
}
