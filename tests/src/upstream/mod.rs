//! The scripted upstream: an OpenAI-compatible server in the test's process whose every byte, pause and cut is under
//! control, which remembers each request and keeps its own bill. It never asks the gateway for anything.
//!
//! | file | what |
//! | --- | --- |
//! | `account.rs` | files and batches, which are everybody's who has the key |
//! | `agent.rs` | a model that calls tools and fills in schemas, by rule |
//! | `behaviour.rs` | what a test may ask of it |
//! | `wire.rs` | OpenAI's bodies, byte for byte |
//! | `media.rs` | images, audio and moderations |
//! | `plan.rs` | a request and a behaviour become a list of steps |
//! | `record.rs` | what was received, and the bill |
//! | `realtime.rs` | the Realtime API, over WebSockets |
//! | `spoken.rs` | what a test may ask of it there |
//! | `server.rs` | sockets: reads requests, carries out the steps |

mod account;
mod agent;
mod behaviour;
pub mod media;
mod plan;
pub mod realtime;
mod record;
mod server;
mod spoken;
mod wire;

pub use account::BatchEnd;
pub use behaviour::{Behaviour, Fault, Gate, Pace};
pub use record::{Bill, Exchange, Pieces};
pub use server::Upstream;
