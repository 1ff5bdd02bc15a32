//! The command line of the binary under test, run against a gateway's data directory.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use crate::gateway::{Gateway, binary};

/// The longest that one command may take.
const TIME: Duration = Duration::from_secs(30);

impl Gateway {
    /// Runs the CLI against this gateway's data directory.
    pub async fn cli(&self, arguments: &[&str]) -> CliOutput {
        let mut command = tokio::process::Command::new(binary());
        command.envs(self.env().iter().map(|(key, value)| (key, value))).env_remove("OPENCLAWMU_ADMIN_KEY");
        command.current_dir(self.dir()).stdin(Stdio::null()).kill_on_drop(true);
        // First: what follows `--` is another program's.
        command.arg("--data").arg(self.data()).args(arguments);
        let output =
            tokio::time::timeout(TIME, command.output()).await.expect("the CLI ends").expect("the binary runs");
        CliOutput {
            arguments: arguments.join(" "),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// What a run of the CLI gave.
#[derive(Debug)]
pub struct CliOutput {
    /// The arguments, for messages.
    pub arguments: String,
    /// The exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl CliOutput {
    /// Asserts success and gives stdout.
    #[track_caller]
    #[must_use]
    pub fn ok(&self) -> &str {
        assert!(
            self.status.success(),
            "openclawmu {}: {}\n{}\n{}",
            self.arguments,
            self.status,
            self.stdout,
            self.stderr
        );
        &self.stdout
    }

    /// Asserts success and gives stdout as JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok())
            .unwrap_or_else(|error| panic!("openclawmu {}: not JSON ({error}): {}", self.arguments, self.stdout))
    }
}
