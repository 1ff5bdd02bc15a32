//! Conversations with a model over a WebSocket, by `OpenAI`'s Realtime API: passed through, and bounded.
//!
//! What keeps a budget whole: the provider begins a response only when the gateway asks it to, one at a time, and a ticket for
//! the largest possible response is held whenever anything goes to the provider. Voice activity that would make the provider
//! answer by itself is told to the gateway instead, which then asks.
//!
//! - `open`: from a request to two WebSockets, the provider's session set up
//! - `booking`: the tickets of one conversation
//! - `session`: what the gateway owns of a session's settings
//! - `client_event`: what a client may send, and what of it is edited
//! - `server_event`: what a provider's events say
//! - `usage`: what a response used
//! - `turn`: what is known of the response that is under way
//! - `talk`: events both ways until either side ends
//!
//! Nothing here reads a clock for money or prices anything: tickets do.

mod booking;
mod client_event;
mod open;
mod server_event;
mod session;
mod talk;
mod turn;
mod usage;
