//! Starts that must be refused: the process has to end by itself and say why.

use std::process::{Command, ExitStatus, Stdio};

use crate::gateway::{Gateway, START};

/// How a process that was meant to refuse its start ended.
#[derive(Debug)]
pub struct Refusal {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Gateway {
    /// Runs `command`, which must end by itself within the time of a start, and gives how.
    pub async fn refusal(command: Command) -> Refusal {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(START, command.output())
            .await
            .expect("a refused start ends by itself")
            .expect("the binary runs");
        Refusal { status: output.status, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}
