//! A run in the sandbox, as it is asked for and as it is answered: on the edge by a tenant, on the admin API by the operator.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use openclawmu_store::{Actor, TenantId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::ToSchema;

/// What is to be run: a `command`, or `code` and its `language`
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The program and its arguments.
    #[schema(min_items = 1)]
    pub command: Option<Vec<String>>,
    /// A program's text, instead of a command.
    pub code: Option<String>,
    /// What the text is written in.
    pub language: Option<Language>,
    /// Files that are written to the workspace before the run, by their paths.
    #[serde(default)]
    pub files: BTreeMap<String, Content>,
    /// What the command reads.
    pub stdin: Option<Content>,
    /// Variables of its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// How long it may take.
    #[schema(minimum = 1)]
    pub timeout_seconds: Option<u64>,
    /// What it may use, where that is less than the operator allows.
    #[serde(default)]
    pub limits: RunLimits,
    /// What it may reach, where that is less than the operator allows; nothing, where absent.
    pub network: Option<Network>,
    /// Patterns of files in the workspace that are answered: `*`, `**`, `?`.
    #[serde(default)]
    pub artifacts: Vec<String>,
    /// What runs it: `bubblewrap` or `docker`; the gateway's own choice where absent.
    pub backend: Option<String>,
}

/// What code is written in
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Run by `python3`.
    Python,
    /// Run by `node`.
    Javascript,
    /// Run by `bash`.
    Bash,
}

/// A text, or any bytes
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Content {
    /// UTF-8.
    Text(String),
    /// Anything.
    Bytes(Encoded),
}

/// Bytes
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Encoded {
    /// In standard Base64.
    pub base64: String,
}

/// What a run may use
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunLimits {
    /// Memory of all its processes.
    #[schema(minimum = 16)]
    pub memory_mb: Option<u64>,
    /// Cores, as a decimal number.
    #[schema(value_type = Option<f64>, minimum = 0.01)]
    pub cpus: Option<serde_json::Number>,
    /// Processes and threads at once.
    #[schema(minimum = 4)]
    pub processes: Option<u32>,
    /// How far the workspace may grow.
    #[schema(minimum = 1)]
    pub disk_mb: Option<u64>,
}

/// What a run may reach
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Hosts with their ports: `pypi.org:443`, `*.pythonhosted.org:443`.
    pub allow: Vec<String>,
}

/// What came of a run
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunAnswer {
    /// The run's name.
    pub id: String,
    /// The exit code that a shell would show: the command's own, or 128 and the signal.
    pub exit_code: u8,
    /// The signal that ended it.
    pub signal: Option<u8>,
    /// How it ended: `exited`, `signalled`, `timeout`, `oom`, `output_limit`, `disk_limit`.
    #[schema(value_type = String)]
    pub outcome: &'static str,
    /// What it wrote, what is not UTF-8 in it replaced.
    pub stdout: String,
    /// The same of its standard error.
    pub stderr: String,
    /// What it wrote, in Base64, where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stdout_base64: Option<String>,
    /// The same of its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub stderr_base64: Option<String>,
    /// How much it wrote in all.
    pub stdout_bytes: u64,
    /// The same of its standard error.
    pub stderr_bytes: u64,
    /// Whether some of it is left out between its beginning and its end.
    pub truncated: bool,
    /// The files that were asked for, by their paths.
    pub artifacts: BTreeMap<String, Artifact>,
    /// From its start until all of it was gone.
    pub duration_ms: u64,
    /// Time on the processors.
    pub cpu_ms: Option<u64>,
    /// The most memory that it had at once.
    pub memory_peak_bytes: Option<u64>,
    /// Whether it wanted more processes than it might have.
    pub processes_limit_hit: bool,
    /// What ran it.
    #[schema(value_type = String)]
    pub backend: &'static str,
    /// What kept it in, as it was read from inside.
    pub isolation: RunIsolation,
}

/// A file that a run left
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Artifact {
    /// Its content.
    Content(Content),
    /// It is too large to be answered.
    Omitted {
        /// How large it is.
        size_bytes: u64,
        /// Why: `too_large`.
        #[schema(value_type = String)]
        omitted: &'static str,
    },
}

/// What kept a run in
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RunIsolation {
    /// The user inside, the user outside as seen from inside, and how many.
    pub uid_map: String,
    /// The mode of seccomp; 2 is a filter.
    pub seccomp: u8,
    /// That no program could gain a right.
    pub no_new_privs: bool,
    /// What held each limit.
    pub limits: EnforcedLimits,
}

/// What held each limit
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EnforcedLimits {
    /// Of memory.
    pub memory: String,
    /// Of processes.
    pub processes: String,
    /// Of time on the processors.
    pub cpu: String,
    /// Of the disk.
    pub disk: String,
    /// Whether the host's user was the tenant's alone: `own` or `shared`.
    pub user: String,
}

/// A run that the operator asks for.
#[derive(Debug)]
pub struct OperatorRun {
    /// In whose sandbox, on whose quota.
    pub tenant: TenantId,
    /// Who asks.
    pub actor: Actor,
    /// What for.
    pub request: RunRequest,
    /// Who reads along: told by an event (`run`) that it begins, and then of all that it writes (`stdout`, `stderr`).
    pub events: Option<mpsc::Sender<Vec<u8>>>,
}

/// Why nothing was run, as the operator is told.
#[derive(Debug)]
pub struct RunRefused {
    /// The HTTP status.
    pub status: u16,
    /// The machine's word.
    pub code: &'static str,
    /// The person's sentence.
    pub message: String,
    /// The field at fault.
    pub field: Option<String>,
    /// When to try again.
    pub retry_after_seconds: Option<i64>,
}

/// Runs something for the operator; dropping it ends the run.
#[derive(Clone)]
pub struct Runner(Arc<RunFn>);

type RunFn = dyn Fn(OperatorRun) -> Running + Send + Sync;
/// A run that goes on as long as this is waited for.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<RunAnswer, RunRefused>> + Send>>;

impl Runner {
    /// One that does what `run` does.
    pub fn new<F>(run: impl Fn(OperatorRun) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<RunAnswer, RunRefused>> + Send + 'static,
    {
        Self(Arc::new(move |asked| Box::pin(run(asked))))
    }

    /// Runs it.
    pub(crate) fn run(&self, asked: OperatorRun) -> Running {
        (self.0)(asked)
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}
