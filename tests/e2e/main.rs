//! The named checks of the project against the real `openclawmu` process. One module per rule; a test's doc line carries the id of its check.
//!
//! Long checks run at a reduced count; `OPENCLAWMU_SOAK=1` runs them in full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::large_futures,
    reason = "tests assert: a broken expectation is a failed test, and a scenario reads best in one piece"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "tests spawn clients that end with the test's runtime, and read the machine's clock"
)]

mod access_log;
mod admin_access;
mod admin_api;
mod agent;
mod agents;
mod airgapped;
mod alert;
mod archive;
mod audit;
mod auth;
mod background;
mod backup;
mod backup_bucket;
mod backup_whole;
mod bad_input;
mod batch;
mod billing;
mod browser;
mod channels;
mod cli;
mod client_secret;
mod cloud;
mod compact;
mod complaint;
mod console;
mod crash;
mod descriptors;
mod dialect;
mod disk;
mod doctor;
mod drain;
mod egress;
mod fault;
mod file;
mod handover;
mod hostile_client;
mod http2;
mod http_edge;
mod isolation;
mod key_rotation;
mod label;
mod lane;
mod media;
mod metering;
mod metrics;
mod openapi;
mod outbound;
mod overlay;
mod packaging;
mod path;
mod provider_key;
mod quota;
mod rate;
mod rate_limit;
mod realtime;
mod reload;
mod removal;
mod report;
mod response;
mod route;
mod sandbox;
mod sdk;
mod secrets;
mod siem;
mod smuggling;
mod start;
mod stream;
mod stripe;
mod terminal;
mod terminal_life;
mod terminal_page;
mod tls;
mod token;
mod trace;
mod upstream;
mod walk;
mod window;
mod workspace;
