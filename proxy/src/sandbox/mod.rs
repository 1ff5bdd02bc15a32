//! Running a tenant's code: who may, with what, and what it is told. What holds the code in is `openclawmu_sandbox`'s.
//!
//! - `ask`: what a request asks for
//! - `room`: the backend, the tenants' workspaces, and whose turn it is
//! - `run`: one run: admitted, run, settled
//! - `answer`: what came of it, as JSON and as events
//! - `artifact`: files that a run leaves and that are answered with it

mod answer;
mod artifact;
mod ask;
mod room;
mod run;

pub(crate) use room::Rooms;
pub(crate) use run::blocking;
