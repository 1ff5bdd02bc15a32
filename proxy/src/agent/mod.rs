//! Tenants' own agents. A turn of one is a loop: its model is asked through the gateway's stages like any other, what it calls is
//! run, until it has nothing more to call.
//!
//! - `desk`: the agents' files, and whose turn it is in each conversation
//! - `ask`: what a client says to an agent; `who`: on whose word, looked up anew at each step
//! - `turn`: the loop; `open`: what it goes on from, and what is kept of it; `prompt`: what the model is told first
//! - `step`: one call of the model; `chunk`: what comes out of it; `tool`: what it may call
//! - `ear`: who hears it, as it is said or when it is over
//! - `edge`: a turn for a client of the edge; `outside`: for whoever is none, such as a channel
//! - `serve`: `/v1/agents`, `/v1/sessions`, `/v1/memory`; `query`: what is said behind their `?`
//!
//! Nothing here asks an upstream: each step goes through `Gateway::answer`, with its own admission and its own row.

mod ask;
mod chunk;
mod desk;
mod ear;
mod edge;
mod open;
mod outside;
mod prompt;
mod query;
mod serve;
mod step;
#[cfg(test)]
mod tests;
mod tool;
mod turn;
mod who;

pub(crate) use desk::Desk;
pub(crate) use edge::PREFIX;
pub(crate) use serve::Things;
