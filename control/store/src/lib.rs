//! What the gateway remembers: tenants, tokens, prices, and every nano-dollar.
//!
//! The public functions speak of tenants, tickets and ledger rows, never of SQL rows, so that another engine can stand in
//! for SQLite. This crate knows nothing of HTTP, of providers' formats or of configuration files.
//!
//! Map:
//! - `id`, `money`, `usage`, `quota`, `price`, `window`, `clock`: the model; no I/O
//! - `tenant`, `token`, `client_secret`, `provider_key`, `rate`: the registry; `model`: the names in it; `label`: whom and what a request is for
//! - `overlay`: what a tenant prefers, merged under the registry
//! - `change`, `idempotency`, `audit`: how the registry changes: once, and on record
//! - `reseal`: sealing anew what is kept sealed
//! - `channel`: channels, who may speak there, what was said and what is to be answered
//! - `stripe`: what Stripe is told of usage, event by event
//! - `webhook`: what is to be told outside, and whether it arrived
//! - `upstream_object`: whose the files and batches in a provider's account are
//! - `ledger`: reservations, budgets, rows, reports
//! - `storage`: what files take of the disk, over time
//! - `backup`: what a backup takes out and a restore puts back
//! - `sqlite`: the engine, private
//! - `seldom`: which faults are told in the log
//! - `store`: opening and closing it all

mod audit;
mod backup;
mod change;
mod channel;
mod client_secret;
mod clock;
mod error;
mod id;
mod idempotency;
mod label;
mod ledger;
mod model;
mod money;
mod name;
mod overlay;
mod price;
mod provider_key;
mod quota;
mod rate;
mod reseal;
#[cfg(test)]
mod scene;
mod seldom;
mod sqlite;
mod storage;
mod store;
mod stripe;
mod tenant;
mod token;
mod upstream_object;
mod usage;
mod webhook;
mod window;

pub use audit::{
    Actor, ActorKind, AuditActor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditNote, AuditOrder, AuditOutcome,
    AuditQuery, AuditStatus, anchor as audit_anchor,
};
pub use backup::{
    Offline, Replayed, Restore, RestorePlan, RestoreReport, Restored, RowObject, Snapshot, SnapshotFacts, TenantRows,
    UsageSince, pepper_fingerprints,
};
pub use change::Change;
pub use channel::{
    Channel, ChannelPolicy, ChannelSender, DueMessage, DueReply, NewChannel, NewMessage, NewPairing, Pairing,
    PairingCode, Queued, SealedChannel, SenderRequest, Senders,
};
pub use client_secret::{ClientSecret, NewClientSecret, SecretCap, SecretTerms, is_origin};
pub use clock::{Clock, ManualClock, SystemClock, UnixMs};
pub use error::{Result, StoreError};
pub use id::{IdError, LabelKey, RequestId, ReservationId, SecretKey, TenantId, TenantKey, TokenId, TokenKey};
pub use idempotency::{Answered, Idempotency, StoredAnswer};
pub use label::Label;
pub use ledger::{
    Alerts, Archive, Batch, BatchEnd, BudgetKind, Credit, CsvColumns, Demand, Difference, End, Hold, HoldAction,
    LedgerRow, NewBatch, NewCredit, NewResolution, Outcome, QuotaStatus, RateKind, RateStanding, Reconciled, Refused,
    RequestCursor, RequestQuery, RequestRow, RequestUsage, Reservation, Resolution, SANDBOX, SecretLimit, Settled,
    Settlement, Standing, Ticket, UsageKey, UsageLine, UsageQuery, UsageRange, UsageReport, UsageRow, UsageSpan,
    UsageSums, UsageTotal,
};
pub use money::{AMOUNT_BYTES, AmountError, Markup, MarkupError, NanoUsd};
pub use overlay::Overlay;
pub use price::{
    BatchBound, BatchTally, Bound, ImageCount, ImageTariff, ModelPrice, Prices, ServicePrices, Tier, Tokenizer,
};
pub use provider_key::{ProviderKey, SealedKey};
pub use quota::{OnTightBudget, Quota};
pub use rate::{
    ModelPrices, NewRateCard, Overrides, PinnedPrice, RateCard, RateDifference, RateImport, RateSource, RateTable,
};
pub use reseal::{ResealCursor, Resealed, SealedPlace, Turn};
pub use seldom::Seldom;
pub use sqlite::checkup::{Checkup, check_up};
pub use sqlite::pace::PaceTaken;
pub use storage::StorageLook;
pub use store::{Durability, Store, StoreOptions};
pub use stripe::{Measure, Meter, PlannedEvent, STRIPE_CUSTOMER, StripeEvent, StripePlan, StripeScope, Uncertain};
pub use tenant::{NewTenant, Tenant, TenantCounts, TenantPatch, TenantPolicy, TenantStatus};
pub use token::{AuthError, MalformedToken, NewToken, ParsedToken, PlainToken, Policy, Rejection, Scope, Token};
pub use upstream_object::{NewObject, ObjectKind, ObjectQuery, OrphanedObject, UpstreamObject};
pub use usage::{ServiceTier, Usage};
pub use webhook::{DueWebhook, Webhook, WebhookState};
pub use window::{Month, Windows, Zone, day_name, day_of};
