//! Shells in tenants' sandboxes, over a WebSocket: who may have one, and what it takes. What a terminal is, is
//! `openclawmu_terminal`'s; what holds it in, `openclawmu_sandbox`'s.
//!
//! - `ask`: calls for tickets; `ticket`: what opens one WebSocket, once; `grant`: what that is good for
//! - `credential`: what a request for a WebSocket says of itself
//! - `open`: from that request to a terminal; `start`: a new one; `talk`: messages both ways
//! - `keep`: what ends a terminal that nobody is attached to, too: its token, its quota, the process; `meter`: its seconds
//! - `record`: its lines of the audit log
//! - `desk`: all of this process; `staff`: the same for the admin API
//! - `page`: the page in a browser; `dial`, `escape`: `openclawmu terminal`, a terminal in a terminal
//!
//! How one comes back. Each greeting (`hello`) has a `return_ticket`, which leads to this terminal, in this role, on the word that
//! the first ticket was made on, as long as the terminal is open. It is used once, and the next greeting has another. So a page
//! that is reloaded needs no token, and keeps none; and whoever is attached twice has two. A client that has been there sends
//! `resume` as its first message; every other sends anything else first (its size, or a ping), so that nobody waits for either.
//!
//! A terminal lives and dies with the process: it can't be handed to a successor. When the gateway ends, or hands over, every
//! terminal ends at once, its clients are told so, and its recording is completed.

mod ask;
mod credential;
mod desk;
mod dial;
mod escape;
mod grant;
mod keep;
mod meter;
mod open;
mod page;
mod record;
mod staff;
mod start;
mod talk;
mod ticket;

pub(crate) use desk::Desk;
pub(crate) use dial::attach;
pub(crate) use record::keep_record;
pub(crate) use staff::for_staff;
