//! What holds a run's share of the disk, where the file system itself holds it to no less ([`Workspace::hold`]): a look at the workspace
//! every now and then.
//!
//! It is soft: between two looks a run can write more than its share, up to what the disk takes in that time. That is what
//! an outcome says of it ([`Enforced::disk`](crate::Enforced::disk)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{DiskUsage, Limits, PathError, Root, SandboxError, Workspace};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// A look that takes long is followed by a pause of this many times as long.
const SHARE: u32 = 4;

/// What an outcome says: whether the file system holds it, and whether it is looked at.
pub(crate) fn told(held: bool, sampled: bool) -> String {
    match (held, sampled) {
        (true, false) => "project quota",
        (true, true) => "project quota, sampled (soft)",
        (false, true) => "sampled (soft)",
        (false, false) => "none",
    }
    .to_owned()
}

/// Looks at a workspace while a run writes to it.
#[derive(Debug)]
pub(crate) struct Sampler {
    root: Arc<Root>,
    most: DiskUsage,
}

impl Sampler {
    /// One for these limits, if they hold the disk at all.
    ///
    /// # Errors
    /// [`SandboxError::Path`] if the workspace can't be looked at.
    pub(crate) fn new(workspace: &Workspace, limits: &Limits) -> Result<Option<Self>, SandboxError> {
        let bytes = limits.disk_bytes.filter(|most| workspace.held.is_none_or(|held| *most < held));
        if bytes.is_none() && limits.disk_entries.is_none() {
            return Ok(None);
        }
        let root = Arc::new(workspace.root.again().map_err(SandboxError::Path)?);
        let most = DiskUsage { bytes: bytes.unwrap_or(u64::MAX), entries: limits.disk_entries.unwrap_or(u64::MAX) };
        Ok(Some(Self { root, most }))
    }

    /// Returns when there is more than there may be; never, if there is no sampler.
    ///
    /// # Errors
    /// [`SandboxError::Path`] if the workspace can't be looked at any more: then nothing holds the disk.
    pub(crate) async fn over(sampler: Option<&mut Self>) -> Result<(), SandboxError> {
        let Some(sampler) = sampler else { return std::future::pending().await };
        loop {
            let (root, most, begun) = (Arc::clone(&sampler.root), sampler.most, Instant::now());
            let look = tokio::task::spawn_blocking(move || root.disk_usage(most)).await;
            match look.map_err(|err| SandboxError::Io(err.into()))? {
                // Directories deeper than a walk goes are more than anybody needs.
                Err(PathError::NoSpace | PathError::TooLong) => return Ok(()),
                Ok(_) => {}
                Err(err) => return Err(SandboxError::Path(err)),
            }
            tokio::time::sleep(PAUSE.max(begun.elapsed() * SHARE)).await;
        }
    }
}
