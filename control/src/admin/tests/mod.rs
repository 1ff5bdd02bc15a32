//! The rules of the admin API, each tried against a real store.
//!
//! - `scene`: a store with one tenant, and the API over it
//! - `served`: that API on its listeners
//! - one module for each kind of rule; `console` is who gets to the pages for people, `console_change` what they do there

mod access;
mod audit;
mod body;
mod config;
mod console;
mod console_change;
mod credit;
mod document;
mod idempotency;
mod listen;
mod page;
mod rate_import;
pub(crate) mod scene;
pub(crate) mod served;
mod stream;
mod tenant;
mod usage;
