//! Files at a provider. Tenants share the operator's account there, so the gateway alone knows whose a file is: another tenant's
//! does not exist, whatever is asked, and no provider is asked about it.
//!
//! - `serve`: the routes
//! - `call`: a call, and what comes back
//! - `desk`: calls that no provider bills, each admitted for its rates and settled
//! - `download`: a file's content, piece by piece
//! - `list`: pages of what the store knows
//! - `mention`: files that a request to a model names

pub(crate) mod call;
pub(crate) mod desk;
mod download;
pub(crate) mod list;
mod mention;
mod serve;

pub(crate) use mention::check_mentions;
