//! `/v1/responses` over a WebSocket: the same requests, one after the other, each through the same stages as over HTTP; the
//! answer's events come as messages.
//!
//! - `request`: what a client's event asks for
//! - `memory`: responses that only this connection knows
//! - `outcome`: an answer's pieces as messages, and what is remembered of it
//! - `converse`: requests in order until either side ends
//!
//! There is no second way to an upstream here: a request is a call like any other.

mod converse;
mod memory;
mod outcome;
mod request;

pub(crate) use outcome::Outcome;
