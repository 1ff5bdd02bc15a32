//! The first process in a sandbox (PID 1): it starts one command, reaps whatever is orphaned, hands signals on to the command,
//! says how it ended, and, where the run may use the network, forwards the proxy's port to the socket of the run's allow-list.
//!
//!     init [--egress SOCKET] [--status-fd N | --status-path SOCKET] -- COMMAND [ARGUMENT...]
//!
//! - `args`: what it was asked
//! - `examine`: the command of a backend's examination of itself (`init --examine`)
//! - `forward`: bytes between `127.0.0.1:3128` and the socket
//! - `report`: what it tells the outside, and the proof of isolation
//! - `supervise`: the command, its signals, its end
//!
//! It ends with the command's exit code, or 128 + the signal that ended it; the report says exactly which. 127 and 126 are a
//! command that is not there or can't be run, 125 is a failure of its own: then the command was never started.
//!
//! Must never read what it forwards, hold a secret, survive the command, or leave a descriptor to it but 0, 1 and 2. Once it is
//! there nobody can trace it or read its memory (`PR_SET_DUMPABLE`). It is part of the sandbox: nothing that it says is more
//! to be trusted than the command itself, once that runs.

#[cfg(target_os = "linux")]
mod args;
#[cfg(target_os = "linux")]
mod examine;
#[cfg(target_os = "linux")]
mod forward;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod supervise;

use std::process::ExitCode;

/// A failure of its own.
const REFUSED: u8 = 125;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    // Not as the first process: as what that starts.
    if std::env::args_os().skip(1).eq(["--examine"]) {
        return examine::main();
    }
    supervise::main()
}

/// Elsewhere there are no namespaces to be the first process of.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::from(REFUSED)
}
