//! Channels: what somebody says at a messenger reaches one tenant's agent, and the agent's answer goes back.
//!
//! The raw bytes are verified before anything in them is believed, in constant time and within a window of time. Whose a message
//! is, is decided twice: by the path that it came in at, and by the account that it names. It is on the disk when its provider is
//! told that it was taken, and is known again when it comes once more. Credentials are sealed for their tenant and channel; they
//! go to the provider's configured address and nowhere else.
//!
//! - `kind`: which there are; `adapter`: what each must do; `slack`, `whatsapp`, `telegram`, `webhook`: one a file
//! - `credential`: what a channel is trusted by; `signature`: proofs over bytes; `split`: long answers in parts
//! - `desk`: what comes in; `pair`: a link, and the form behind it; `page`: how that looks
//! - `work`: turns and deliveries; `count`: what is counted

mod adapter;
mod count;
mod credential;
mod desk;
mod kind;
mod page;
mod pair;
mod signature;
mod slack;
mod split;
mod telegram;
#[cfg(test)]
mod tests;
mod webhook;
mod whatsapp;
mod work;

pub use adapter::Incoming;
pub use desk::{Channels, NotTaken, Taken};
pub use kind::{KINDS, Kind};
pub use page::Page;
pub use work::{Busy, Work};

use crate::outbound::{OutboundUrl, TenantReach};

/// What the operator says about channels.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Where providers and people reach the edge, without a path or a slash at the end.
    pub public_url: String,
    /// Slack's Web API; `None`, here and below, where it may not be called.
    pub slack_url: Option<OutboundUrl>,
    /// Meta's Graph API, with its version.
    pub whatsapp_url: Option<OutboundUrl>,
    /// Telegram's Bot API.
    pub telegram_url: Option<OutboundUrl>,
    /// What tenants may name as the receiver of their webhooks.
    pub reach: TenantReach,
}
