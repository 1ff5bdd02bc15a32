//! The console: pages for people at `/console` of the admin listener, made on the server, out of this program alone.
//!
//! What a page shows and changes goes through the handlers of the admin API, with their checks and their lines in the audit log;
//! there is no second way to anything here. Nobody gets in but with an admin key, which is asked for once and then stood for by a
//! session's cookie. That cookie opens these pages and never the API. The pages are no part of the OpenAPI document: what
//! programs want is the API.
//!
//! From outside to inside:
//! - `route`: every page, in one list; `guard`: who may pass, and what no page may do
//! - `session`, `cookie`, `login`: who has logged in, and for how long
//! - `form`: what somebody typed, as the JSON that the API takes; `field`: how it is asked for
//! - `page`: what all pages have in common; `shown`: values as people read them; `chart`: pictures of numbers; `asset`: style and script
//! - `overview`, `tenants`, `tenant`, `setting`, `token`, `usage`, `request`, `money`, `key`, `backup`, `terminal`, `rate`,
//!   `report`, `upkeep`, `audit`, `config`: one page each

mod asset;
mod audit;
mod backup;
mod chart;
mod config;
mod cookie;
mod field;
mod form;
mod guard;
mod key;
mod login;
mod money;
mod overview;
mod page;
mod rate;
mod report;
mod request;
pub(super) mod route;
pub(super) mod session;
mod setting;
mod shown;
mod tenant;
mod tenants;
mod terminal;
mod token;
mod upkeep;
mod usage;

pub(super) use route::{owns, router};
pub(super) use session::Sessions;
