//! Why a path was not opened.
//!
//! Must never carry a host path or a name: what a client is told is decided by the caller, and the
//! caller has the name it asked with.

use std::io;

use rustix::io::Errno;

/// The reason why a [`RelPath`](crate::RelPath) was not accepted or a [`Root`](crate::Root) did not
/// do what it was asked. Each variant names the HTTP status the caller should choose.
///
/// [`NotFound`](Self::NotFound) and [`Refused`](Self::Refused) must look alike to a client, so that
/// nobody can probe for what lies behind a link.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// 400: the path is empty.
    #[error("the path is empty")]
    Empty,
    /// 400: absolute, or a component that is empty, `.` or `..`.
    #[error("the path is not a plain relative path: no leading `/`, no `//`, no `.` or `..`")]
    Escape,
    /// 400: a NUL, a backslash, a control character, an overlong UTF-8 form, a trailing dot or a
    /// device name of another system (`CON`, `NUL`, `COM1`).
    #[error("the path holds a character or a name that is not allowed")]
    Forbidden,
    /// 400: a component above 255 bytes, more than 32 components, or 4,095 bytes and more in all.
    #[error("the path is too long: 255 bytes a component, 32 components, 4,095 bytes in all")]
    TooLong,
    /// 400: a `%` that two hexadecimal digits do not follow.
    #[error("the path has a `%` that two hexadecimal digits do not follow")]
    BadEncoding,
    /// 404: nothing has this name, or a component on the way is not a directory.
    #[error("there is no such file")]
    NotFound,
    /// 404: something has this name, but it is a link, a hard link, a device, a pipe, a socket, lies
    /// on another mount, or is a directory where a file was meant.
    #[error("what has this name is not something that may be opened")]
    Refused,
    /// 409: the name is taken, a directory is not empty, or the tree was changed meanwhile.
    #[error("the name is taken, or its directory changed meanwhile")]
    Conflict,
    /// 409: a tree has more entries than one call may remove; the same call again goes on.
    #[error("the tree has too many entries for one call: call again")]
    TooMany,
    /// 507: no space, no inode or no quota is left.
    #[error("no space is left")]
    NoSpace,
    /// 503, and a refusal to start: the kernel cannot keep a path beneath a directory.
    #[error("this system has no openat2; hint: Linux 5.6 or newer, and a seccomp policy that allows it")]
    Unsupported,
    /// 503: the system failed; the cause is for the log, never for the client.
    #[error("the system refused: {0}")]
    Io(#[source] io::Error),
}

impl PathError {
    /// Not `From`: the crate below stays out of the public interface.
    pub(crate) fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Self::NotFound,
            Errno::LOOP | Errno::XDEV | Errno::NXIO | Errno::NODEV | Errno::ISDIR => Self::Refused,
            Errno::EXIST | Errno::NOTEMPTY | Errno::BUSY | Errno::TXTBSY => Self::Conflict,
            Errno::NAMETOOLONG => Self::TooLong,
            Errno::ILSEQ => Self::Forbidden,
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Self::NoSpace,
            Errno::NOSYS => Self::Unsupported,
            other => Self::Io(other.into()),
        }
    }

    /// The same judgement for an error that came through `std`.
    pub(crate) fn of_io(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => Self::of(errno),
            None => Self::Io(error),
        }
    }
}

/// The reason why a job was not run, or why what ran is not vouched for. How a command ends is never one of these.
///
/// All but [`Job`](Self::Job) and [`Path`](Self::Path) are 503 to a client, which is told the [`reason`](Self::reason) and
/// nothing else: the rest is for the log, and for `openclawmu doctor`.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// 400: the job can't be run as it is.
    #[error("{0}")]
    Job(&'static str),
    /// By its own status: the workspace, or a path in it.
    #[error(transparent)]
    Path(PathError),
    /// The program or the engine that isolates is not there.
    #[error("{0}")]
    Missing(String),
    /// The kernel or its security module allows no namespaces.
    #[error("no namespaces can be made: {0}")]
    Namespaces(String),
    /// The kernel takes no seccomp filter.
    #[error("no seccomp filter can be set: {0}")]
    Seccomp(String),
    /// Limits can't be set, and the configuration wants them (`require_cgroups`).
    #[error("no control groups: {0}")]
    Cgroups(String),
    /// Process 1 could not be started, or refused.
    #[error("process 1 of the sandbox: {0}")]
    Helper(String),
    /// What kept the run in could not be read from inside, or was not what it must be.
    #[error("the run's isolation is not proved: {0}")]
    Unproved(String),
    /// A step of the launch failed.
    #[error("{step}: {detail}")]
    Launch {
        /// Which one.
        step: &'static str,
        /// What the system or the program said.
        detail: String,
    },
    /// The container engine failed.
    #[error("the container engine: {0}")]
    Engine(String),
    /// The system failed.
    #[error("the system refused: {0}")]
    Io(#[source] io::Error),
}

impl SandboxError {
    /// One word for it in answers, metrics and the log.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Job(_) => "invalid_job",
            Self::Path(_) => "workspace",
            Self::Missing(_) => "backend_missing",
            Self::Namespaces(_) => "namespaces_off",
            Self::Seccomp(_) => "seccomp_off",
            Self::Cgroups(_) => "cgroups_missing",
            Self::Helper(_) => "helper_failed",
            Self::Unproved(_) => "isolation_unproved",
            Self::Launch { .. } => "launch_failed",
            Self::Engine(_) => "engine_failed",
            Self::Io(_) => "system_failed",
        }
    }
}
