//! The admin API: JSON over HTTP for the operator, on the admin listener and on `admin.sock`.
//!
//! No handler runs before the gate has named its caller. An error says what to do and never what the database said. A
//! request from a tenant has no business here.
//!
//! From outside to inside:
//! - `listen`: the two listeners; `connection`: how long a client may take; `peer`: who is at the other end
//! - `route`: every route, in one list; `document`: the same as OpenAPI; `docs`: where it is shown
//! - `answer`: what all answers have in common; `gate`: who may pass; `attempts`: how often one may try; `attempt`: a call
//!   that was refused, for the audit log
//! - `call`, `page`, `period`: what a request says; `idempotency`: whether it was said before
//! - `tenant`, `overlay`, `token`, `client_secret`, `provider_key`, `rate`, `quota`, `usage`, `request`, `credit`, `hold`,
//!   `reconcile`, `archive`, `backup`, `alert`, `stripe`, `audit`, `config`, `key`, `sandbox`, `terminal`, `channel`,
//!   `health`: one noun each
//! - `console`: the pages for people, over the same handlers
//! - `stream`: answers of any size; `refusal`: every error, in one match
//! - `state`: what the handlers work with

mod alert;
mod answer;
mod archive;
mod attempt;
mod attempts;
mod audit;
mod backup;
mod call;
mod channel;
mod client_secret;
mod config;
mod connection;
mod console;
mod credit;
mod docs;
mod document;
mod gate;
mod health;
mod hold;
mod idempotency;
mod key;
mod listen;
mod overlay;
mod page;
mod peer;
mod period;
mod provider_key;
mod quota;
mod rate;
mod rate_import;
mod reconcile;
mod refusal;
mod request;
mod route;
mod sandbox;
mod state;
mod stream;
mod stripe;
mod tenant;
mod terminal;
mod token;
mod usage;

#[cfg(test)]
pub(crate) mod tests;

pub use document::openapi;
pub use listen::serve;
pub use peer::Peer;
pub use route::{Access, Endpoint, endpoints, router};
pub use state::{AdminState, Hooks};
