//! The `openclawmu` program. It only wires: everything it does is in the library.

use std::process::ExitCode;

use openclawmu_proxy::cli::Cli;

/// A request makes about a hundred small allocations; see bench/README.md for what this saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE; // somebody installed another one first, which nothing in this program does
    }
    // Whatever this program writes is for its user alone, the database too.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    Cli::start()
}
