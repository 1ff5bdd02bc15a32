//! Attacks on the sandbox: each test is named after what it tries, and each refusal stands beside the same program
//! succeeding where it is allowed. Every family runs against every backend.
//!
//! - `process`: what ends, and how
//! - `output`: what is written and read
//! - `disk`: files, links, sizes
//! - `terminal`: what is promised of a job at a terminal
//! - `view`: what is seen of the machine and of others
//! - `kernel`: what may not be asked of it
//! - `network`: what is reached
//! - `crowd`: many at once, and what is left of them
//! - `lack`: what happens where something is missing, or dies
//! - `place`: where a test runs its attack; `attack.c`: the attacks
//!
//! The container engine is a real one, which the tests start (`engine`).
//!
//! They need bubblewrap, a C compiler with its static library, and the right to make namespaces; where one is missing they fail.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

#[path = "../engine/mod.rs"]
mod engine;
mod place;

/// Makes a test of each attack, for each backend.
macro_rules! attacks {
    ($($name:ident),* $(,)?) => {
        mod bubblewrap {
            $(#[test]
            fn $name() {
                crate::place::on_bubblewrap(super::$name);
            })*
        }

        mod docker {
            $(#[test]
            fn $name() {
                crate::place::on_docker(super::$name);
            })*
        }
    };
}

mod crowd;
mod disk;
mod kernel;
mod lack;
mod network;
mod output;
mod process;
mod terminal;
mod view;
