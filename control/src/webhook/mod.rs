//! Webhooks as standardwebhooks.com specifies them: signed, sent until they are taken, each under one id.
//!
//! The outbox is the store's; what is sent is what lies there. An answer's body is never looked at, a redirect never
//! followed, and neither the URL nor the secret enters a log: both may hold a credential.
//!
//! - `secret`: the key and the signature
//! - `deliver`: sending what is due, and when to try again

mod deliver;
mod secret;

pub use deliver::{Deliverer, DeliveryOutcome};
pub use secret::WebhookSecret;
