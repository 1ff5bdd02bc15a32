//! Files at a provider. Tenants share the operator's account there, so the gateway alone knows whose a file is: another tenant's
//! does not exist, whatever is asked, and no provider is asked about it.
//!
//! - `serve`: the routes
//! - `desk`: calls that no provider bills, each admitted for its rates and settled
//! - `download`: a file's content, piece by piece
//! - `list`: pages of what the store knows
//! - `mention`: files that a request to a model names

mod desk;
mod download;
mod list;
mod mention;
mod serve;

pub(crate) use mention::check_mentions;
