//! What a restore brought back, and what it did not: nothing that was revoked or spent since comes back in silence.

use serde::Serialize;

use crate::id::TokenId;
use crate::money::NanoUsd;
use crate::tenant::Tenant;
use crate::token::{PlainToken, Token};

/// What a restore did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RestoreReport {
    /// Tokens that worked when the backup was made and were revoked or rotated since: they stay so.
    pub tokens_still_revoked: Vec<TokenId>,
    /// Tokens that were hashed with another pepper, which this gateway lacks: they don't work here.
    pub tokens_not_usable: Vec<TokenId>,
    /// Tokens that were made since: they go on working.
    pub tokens_made_since: Vec<TokenId>,
    /// What was used since, which stays in the ledger and in the budgets.
    pub usage_since: UsageSince,
    /// Ledger rows that this gateway did not have.
    pub ledger_rows_added: u64,
    /// Upstreams whose provider keys are the backup's again.
    pub provider_keys: Vec<String>,
}

/// Usage that is younger than a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct UsageSince {
    /// Ledger rows.
    pub rows: u64,
    /// What they cost.
    pub cost_usd: NanoUsd,
}

/// A tenant that was restored.
#[derive(Debug)]
pub struct Restored {
    /// As it is now.
    pub tenant: Tenant,
    /// A new token, where none of its own works; its secret is shown once.
    pub token: Option<(Token, PlainToken)>,
    /// What came back and what did not.
    pub report: RestoreReport,
}
