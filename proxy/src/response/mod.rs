//! `/v1/responses`: answers that are kept, so that a client can go on from them.
//!
//! What is kept is the gateway's own, whatever upstream answered: a provider's account is shared by tenants that may not see each
//! other's, and input that a provider adds by itself could not be bounded before it is paid for. So an upstream is always sent
//! the whole conversation, and asked to keep nothing.
//!
//! - `shelf`: where responses are kept, per tenant, and until when
//! - `ask`: from a body to a call: what is continued stands in front of what is asked
//! - `compact`: a conversation made short; `seal`: what a client carries of it
//! - `keep`: before the client hears of the end
//! - `serve`: the routes of a kept response
//! - `sweep`: what is too old goes

mod ask;
mod compact;
mod keep;
mod seal;
mod serve;
mod shelf;
pub(crate) mod sweep;

pub(crate) use ask::{Asking, call};
pub(crate) use compact::{call as compacting, finish as compacted};
pub(crate) use keep::keep;
pub(crate) use seal::Seals;
pub(crate) use serve::serve;
pub(crate) use shelf::{IsDeleted, Shelf};
