//! WebSockets at the edge (RFC 6455): a request becomes one after its caller is known, and its messages are bounded.
//!
//! - `handshake`: what a request must say before anything is switched
//! - `carry`: bytes between a session that was switched and whoever speaks over it
//! - `pulse`: whether anybody is still there
//! - `end`: how a conversation over one ends
//!
//! Frames are the library's; nothing here reads or writes one.

mod carry;
mod end;
mod handshake;
mod pulse;

pub(crate) use carry::{ClientSocket, MAX_EVENT_BYTES, accepted, carry, limits};
pub(crate) use end::{End, Guard, closed, hung_up};
pub(crate) use handshake::{Offer, check};
pub(crate) use pulse::{LOOK_EVERY, Pulse};
