//! The `openclawmu` program. It only wires: everything it does is in the library.

use std::process::ExitCode;

use clap::Parser;
use openclawmu_proxy::cli::Cli;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE; // somebody installed another one first, which nothing in this program does
    }
    Cli::parse().run()
}
