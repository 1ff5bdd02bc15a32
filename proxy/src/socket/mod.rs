//! WebSockets at the edge (RFC 6455): a request becomes one after its caller is known, and its messages are bounded.
//!
//! - `handshake`: what a request must say before anything is switched
//! - `carry`: bytes between a session that was switched and whoever speaks over it
//! - `end`: how a conversation over one ends
//!
//! Frames are the library's; nothing here reads or writes one.

mod carry;
mod end;
mod handshake;

pub(crate) use carry::{ClientSocket, MAX_EVENT_BYTES, accepted, carry, limits};
pub(crate) use end::{End, Guard, closed};
pub(crate) use handshake::{Offer, check};
