//! The walls of one tenant: the only code that opens a tenant's paths, and (with its own issue) the
//! runner of untrusted code in isolation.
//!
//! # Map
//!
//! | module | what it is |
//! | --- | --- |
//! | `path` | [`RelPath`]: an untrusted name, checked before any system call sees it |
//! | `root` | [`Root`]: a directory opened once; everything else is reached from its handle |
//! | `error` | [`PathError`], [`SandboxError`]: what can go wrong, and which HTTP class the caller answers |
//! | `job`, `outcome` | [`Job`]: what is run, within which [`Limits`]; [`Outcome`]: how it ended, and the proof of what held it |
//! | `backend` | [`Backend`]: the seam to what runs a job in isolation |
//! | `capture` | the beginning and the end of a stream, in memory that does not grow |
//! | `helper` | [`HELPER`]: the first process in a sandbox, built from `sandbox/init` and embedded |
//!
//! # Invariants of absence
//!
//! - Knows nothing of tenants, tokens, HTTP or SQL: it is given a directory and names below it.
//! - Holds no second way to a tenant's file: whoever has no [`Root`] and no [`RelPath`] opens nothing.
//! - Never resolves a path to text and opens the text afterwards: between the check and the use the
//!   tree may change. The kernel checks while it opens (`openat2`).
//! - Never follows a symbolic link below a root, and never opens anything but regular files with
//!   one name and directories.
//! - Runs nothing: where isolation cannot be set up there will be an error, never a fallback.

#[cfg(not(unix))]
compile_error!("openclawmu-sandbox needs descriptor-relative paths: build it on Linux or another Unix");

mod backend;
mod capture;
mod error;
#[cfg(target_os = "linux")]
mod helper;
mod job;
mod outcome;
mod path;
mod root;

pub use backend::Backend;
pub use error::{PathError, SandboxError};
#[cfg(target_os = "linux")]
pub use helper::HELPER;
pub use job::{HostUid, Job, Limits, RunId, Stdio, Workspace};
pub use outcome::{Captured, Chunk, Ended, Enforced, Isolation, Outcome, Stream};
pub use path::RelPath;
pub use root::{Entry, Kind, Metadata, Page, Root, Staged, TreePath, Walked, set_modified};
