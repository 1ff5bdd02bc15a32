//! Running a tenant's code: who may, with what, and what it is told. What holds the code in is `openclawmu_sandbox`'s.
//!
//! - `ask`: what a request asks for
//! - `room`: the backends, the tenants' workspaces, and whose turn it is; `home`: a backend for callers of every runtime
//! - `order`: one run: its turn, its ticket, its files, its end
//! - `egress`: what it may reach, and what came of that, on record
//! - `run`: the route; `operator`: the same for the admin API; `tool`: the same for an agent
//! - `answer`: what came of it, as JSON and as events
//! - `artifact`: files that a run leaves and that are answered with it

mod answer;
mod artifact;
mod ask;
mod egress;
mod home;
mod operator;
mod order;
mod room;
mod run;
mod tool;

pub(crate) use operator::{ends, runner, told};
pub(crate) use order::{Open, Owner, admit, blocking, way_out, with_disk};
pub(crate) use room::{Rooms, quotas, refused, start, sweep as sweep_containers};
pub(crate) use run::owner;
pub(crate) use tool::run as run_tool;
