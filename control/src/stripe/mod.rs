//! Usage to Stripe, as meter events.
//!
//! Nothing is sent that was not written before, and nothing that may have arrived is sent again after Stripe has forgotten
//! its identifier. The key goes to the configured base URL and nowhere else.
//!
//! - `account`: one call of Stripe's API, and what its answer means
//! - `report`: what a push did and what it left
//! - `push`: from sums to events, and from events to Stripe
//! - `sender`: events of many customers at once, with patience
//! - `nightly`: a push of its own every night

mod account;
mod nightly;
mod push;
mod report;
mod sender;

pub use account::StripeAccount;
pub use nightly::Nightly;
pub use push::{Decision, PushError, PushRequest, StripePush};
pub use report::{FailedEvent, LastPush, Listed, PushProgress, PushReport, TenantMeter};
