//! Batches at a provider: requests that it answers within a day, at a lower price. Each is its tenant's alone, reserved as a
//! whole before the provider hears of it, held until it has ended, and billed from what it put out.
//!
//! - `serve`: the routes
//! - `ask`: what a client asks for
//! - `line`: a line of the input: what it can cost at most, and how it is sent
//! - `input`: all lines together
//! - `create`: from a request to a batch that runs
//! - `show`: what a client sees of a batch
//! - `watch`: looks after batches that run, whoever asks
//! - `output`: what was run, counted

mod ask;
mod create;
mod input;
mod line;
mod output;
mod serve;
mod show;
mod watch;

pub(crate) use watch::run;
