//! Channels: which account at a messenger leads to which tenant's agent, who may speak there, what was said, and what is to be
//! answered. What a messenger's bytes mean, and what is sealed in its credentials, is not known here.
//!
//! - `binding`: channels that are paired, and their end
//! - `pairing`: the links by which that happens
//! - `sender`: who may speak; who asks to
//! - `inbox`: messages that wait for their turn; `outbox`: answers that wait for their delivery
//!
//! A message and the mark by which it is known again are written together, and so are its end and its answer: whatever dies
//! meanwhile, it is taken once and nothing of it is lost.

mod binding;
mod inbox;
mod outbox;
mod pairing;
mod sender;
#[cfg(test)]
mod tests;

use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};

pub use binding::{Channel, NewChannel, SealedChannel};
pub use inbox::{DueMessage, NewMessage, Queued};
pub use outbox::DueReply;
pub use pairing::{NewPairing, Pairing, PairingCode};
pub use sender::{ChannelSender, SenderRequest, Senders};

use crate::error::{Result, StoreError};
use crate::id::TenantKey;

/// Who may speak on a channel
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChannelPolicy {
    /// Whoever the operator approved.
    #[default]
    Pairing,
    /// Everybody who can reach it.
    Open,
}

impl ChannelPolicy {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairing => "pairing",
            Self::Open => "open",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        match name {
            "pairing" => Ok(Self::Pairing),
            "open" => Ok(Self::Open),
            other => Err(StoreError::Corrupt(format!("a channel's policy is `{other}`"))),
        }
    }
}

/// The tables of channels that no backup carries: they go with the tenant, and nobody misses them elsewhere.
const PASSING: [&str; 5] = ["channel_pairings", "channel_requests", "channel_seen", "channel_inbox", "channel_outbox"];

/// Removes what waits on a tenant's channels.
pub(crate) fn forget(tx: &Transaction<'_>, key: TenantKey) -> Result<()> {
    for table in PASSING {
        tx.execute(&format!("DELETE FROM {table} WHERE tenant = ?1"), params![key.0])?;
    }
    Ok(())
}

/// So many random bytes as hexadecimal digits.
fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|err| StoreError::Unavailable(format!("no random bytes: {err}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
