//! The request path of OpenClawMU: a Pingora plugin whose [`Gateway`] answers tenants' AI calls, each one authenticated,
//! reserved, relayed and settled.
//!
//! Map, in the order of a request's life:
//! - `edge`: connections: caps, deadlines, what each speaks
//! - `http1`: HTTP/1.1 as it is read and written here; `session`: a request over it, or over Pingora's HTTP/2
//! - `head`: request heads: what is refused before anything is believed
//! - `routes`: every route of the edge, in one list
//! - `dispatch`: head, route, caller; then the stages, or a route that needs none
//! - `gateway`: the seven stages, top to bottom
//! - `origin`: pages: from which origin they may ask, and read the answer
//! - `client_secret`: secrets for pages, made for the holder of a token
//! - `context`: what every request needs, and what is noted of one
//! - `authenticate`, `read`, `admit`, `route`, `forward`, `relay`, `settle`: the stages
//! - `socket`: WebSockets: how one is opened, carried and ended
//! - `lane`: requests for responses over one, in order
//! - `realtime`: conversations with a model over one, each response reserved and settled
//! - `label`: whom and what a request is for, for reports
//! - `way`: how an upstream's answer becomes the client's
//! - `refusal`: everything a client may be told when it is refused
//! - `client`: who gets an answer: a session, or a part of the gateway
//! - `answer`: writing answers
//! - `own`: routes that no upstream is needed for
//! - `background`: answers that are worked on after their request
//! - `response`: answers that are kept, so that a client can go on from them
//! - `own_key`: tenants' own keys at providers
//! - `batch`: batches of requests at a provider, held until they end
//! - `file`: files at a provider, each its tenant's alone
//! - `agent`: tenants' own agents: what they are, what they keep, and their turns, each step of which goes through the stages
//! - `sandbox`: running a tenant's code: admitted, given its turn, settled; `workspace`: the tenant's files
//! - `channel`: what messengers' providers send, and the page by which a channel is paired
//! - `terminal`: shells in tenants' sandboxes: tickets, their WebSocket, their page, what is kept of them
//! - `dialect`: what requests and answers mean, in each format
//! - `upstream`: where requests go: pooled HTTP, and the built-in echo
//! - `catalog`: which model names lead where
//! - `pieces`: bodies that come in pieces
//! - `sse`: server-sent events, cut out of any stream of bytes
//! - `metrics`: what is counted
//! - `observe`: what is told of requests once they have ended
//! - `outbound`: webhooks and the nightly push; `audit`: the audit log
//! - `rebuild`, `drill`: a gateway out of a backup, for good and for practice
//! - `fuzzing`: what must hold whatever the bytes, for fuzzers and tests alone
//! - `config`, `cli`, `serve`, `lifecycle`, `rlimit`, `successor`, `inherit`, `notify`, `listen`, `beside`, `doctor`: the process around it
//!
//! This crate never opens the database: what must be remembered goes through `openclawmu-store`. It never takes a decision
//! about money: it asks for a ticket and settles it.

mod admit;
mod agent;
mod answer;
mod audit;
mod authenticate;
mod background;
mod batch;
mod beside;
mod catalog;
mod channel;
pub mod cli;
mod client;
mod client_secret;
pub mod config;
mod context;
mod dialect;
mod dispatch;
mod doctor;
mod drill;
mod edge;
mod file;
mod forward;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gateway;
mod head;
mod http1;
mod inherit;
mod label;
mod lane;
mod lifecycle;
mod listen;
mod metrics;
mod notify;
mod observe;
mod origin;
mod outbound;
mod own;
mod own_key;
mod pieces;
mod read;
mod realtime;
mod rebuild;
mod refusal;
mod relay;
mod reload;
mod response;
mod rlimit;
mod route;
mod routes;
mod sandbox;
mod serve;
mod session;
mod settle;
mod socket;
mod sse;
mod successor;
mod terminal;
mod upstream;
mod way;
mod workspace;

pub use gateway::Gateway;
