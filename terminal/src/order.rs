//! What a session is opened with.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use openclawmu_sandbox::{Backend, Limits, Root, RunId, Workspace};

use crate::Size;

/// What a session is opened with. Everything in it has been decided by the caller.
pub struct Order {
    /// The session's id, which is also the name of its run in the sandbox.
    pub id: RunId,
    /// Whose session it is; sessions are counted by it.
    pub tenant: String,
    /// Who opens it, as the audit log names them. Never a secret: viewers see it.
    pub opened_by: String,
    /// Now, in milliseconds since 1970.
    pub opened_at_ms: i64,
    /// What isolates it.
    pub backend: Arc<dyn Backend>,
    /// The tenant's files.
    pub workspace: Workspace,
    /// What it may use. The time is the settings' own: [`Settings::hard_limit`](crate::Settings::hard_limit).
    pub limits: Limits,
    /// The host's end of the egress allow-list, if it may use the network.
    pub egress: Option<PathBuf>,
    /// Variables besides those that the sandbox sets; `TERM` is `xterm-256color`.
    pub env: Vec<(OsString, OsString)>,
    /// The shell, such as `bash -l`.
    pub command: Vec<OsString>,
    /// How large the terminal is at first.
    pub size: Size,
    /// The directory `recordings`, where `<id>.cast` is made.
    pub recordings: Root,
    /// Whether what is typed is recorded too, where the terminal shows it.
    pub record_input: bool,
    /// What must live as long as the session does, such as the proxy that `egress` leads to.
    pub keep: Option<Box<dyn Any + Send>>,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, tenant) = (&self.id, &self.tenant);
        f.debug_struct("Order").field("id", id).field("tenant", tenant).finish_non_exhaustive()
    }
}
