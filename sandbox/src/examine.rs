//! Whether code can be held here, found out by running some: what every backend's examination has in common.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Backend, HostUid, Job, Limits, Outcome, RelPath, Root, RunId, SandboxError, Stdio, Workspace};

/// A user that no tenant has.
const EXAMINER_UID: u32 = 100_000;

/// Counts examinations.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A workspace for the runs of one examination.
pub(crate) struct Examination<'b> {
    backend: &'b dyn Backend,
    name: String,
    parent: Root,
    place: RelPath,
}

impl<'b> Examination<'b> {
    /// Makes it in a directory of the gateway's.
    pub(crate) fn begin(backend: &'b dyn Backend, state_dir: &Path) -> Result<Self, SandboxError> {
        let parent = Root::open(state_dir).map_err(SandboxError::Path)?;
        // Two of one process may go on at once.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("examination-{}-{}-{number}", backend.name(), std::process::id());
        let place = RelPath::parse(name.as_bytes()).map_err(SandboxError::Path)?;
        parent.create_dir_all(&place).map_err(SandboxError::Path)?;
        Ok(Self { backend, name, parent, place })
    }

    /// One run, of at most `wall`, with at most `processes`.
    pub(crate) async fn run(
        &self,
        (name, command): (&str, &[&str]),
        (wall, processes): (Duration, u32),
    ) -> Result<Outcome, SandboxError> {
        let root = self.parent.descend(&self.place).map_err(SandboxError::Path)?;
        let job = Job {
            id: RunId::parse(&format!("{}-{name}", self.name))?,
            command: command.iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            stdio: Stdio::Piped(Vec::new()),
            limits: Limits { wall, processes, ..Limits::default() },
            workspace: Workspace::new(root, HostUid::new(EXAMINER_UID)?)?,
            egress: None,
        };
        self.backend.run(job, None).await
    }

    /// Removes it, whatever was found out.
    pub(crate) fn end(self, examined: Result<(), SandboxError>) -> Result<(), SandboxError> {
        let removed = self.parent.remove_tree(&self.place).map_err(SandboxError::Path);
        examined.and(removed)
    }
}

/// How a run of an examination ended, for people.
pub(crate) fn told(outcome: &Outcome) -> String {
    let said = String::from_utf8_lossy(&outcome.stderr.bytes()).trim().to_owned();
    format!("it was {} with {}: {said}", outcome.ended.as_str(), outcome.exit_code)
}
