//! Calls to URLs that somebody names, and what may be called (checks S-01 to S-04).
//!
//! There are two kinds, and the types keep them apart. What the operator's configuration names ([`OutboundUrl`]) is called
//! wherever it is. What a tenant names ([`TenantUrl`]) is called only on the public internet by `https`, or where the operator
//! lists the host: each name is resolved once, every address must be public, and the connection goes to one of those
//! addresses. Whichever it is: no redirect is followed, no proxy of the environment is used, and an answer is bounded in size
//! and time. A URL may hold a credential, so no error repeats one.
//!
//! - `operator`: URLs that the operator names
//! - `hosts`: lists of hosts
//! - `reach`: which URLs a tenant may name
//! - `resolve`: names to addresses, all of them public
//! - `call`: one call, bounded

mod call;
mod hosts;
mod operator;
mod reach;
mod resolve;
#[cfg(test)]
mod tests;

pub use call::{Answer, CallError, Limits, OperatorCalls, TenantCalls};
pub use hosts::HostList;
pub use openclawmu_sandbox::egress::is_public;
pub use operator::OutboundUrl;
pub use reach::{TenantReach, TenantUrl};
