//! What is to be audited.

use std::sync::Arc;

use crate::Viewer;

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub session: String,
    /// Whose it is.
    pub tenant: String,
    /// What happened.
    pub what: What,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Its shell runs.
    Opened {
        /// Who opened it.
        opened_by: String,
        /// The recording's name in `recordings`.
        recording: String,
    },
    /// Somebody looks at it.
    Attached(Arc<Viewer>),
    /// Somebody looks at it no longer.
    Detached {
        /// Who.
        viewer: Arc<Viewer>,
        /// How many of their frames were dropped because of their role.
        violations: u64,
    },
    /// Somebody tried what their role does not allow; said once for each attachment.
    RoleViolation {
        /// Who.
        viewer: Arc<Viewer>,
        /// What.
        tried: Violation,
    },
    /// It is over, and nothing of it is left. Not said of a session that was never [`Opened`](Self::Opened).
    Closed(Closed),
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: Reason,
    /// The shell's exit code, or 128 and the signal; absent if the sandbox could not tell.
    pub exit: Option<u8>,
    /// The recording's name in `recordings`.
    pub recording: String,
    /// Of the recording, in hexadecimal digits; absent if it could not be completed.
    pub sha256: Option<String>,
    /// How long the recording is.
    pub recording_bytes: u64,
}

/// What a role does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// To type.
    Input,
    /// To change the size.
    Resize,
    /// To end the session.
    End,
}

impl Violation {
    /// One word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Resize => "resize",
            Self::End => "end",
        }
    }
}

/// Why a session, or a viewer's part in it, is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The shell ended.
    Exited,
    /// Killed: it wanted more memory than it might have.
    OutOfMemory,
    /// Killed: it wrote more to the workspace than it might.
    DiskLimit,
    /// No input for too long.
    Idle,
    /// Nobody attached for too long.
    Detached,
    /// It lived as long as a session may.
    TimeLimit,
    /// The recording is as long as one may be.
    RecordingFull,
    /// The recording can't be written.
    RecordingFailed,
    /// Whoever opened it, or looked at it, may no longer.
    Revoked,
    /// The tenant is no more, or is suspended.
    TenantGone,
    /// The tenant's seconds are spent.
    Quota,
    /// A moderator, the driver or the operator ended it.
    Ended,
    /// The gateway shuts down.
    Shutdown,
    /// The same person drives it from elsewhere: of one viewer alone.
    Replaced,
    /// The gateway or its sandbox failed.
    Failed,
}

impl Reason {
    /// One word for it: the code of the JSON error, and what is audited.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::OutOfMemory => "oom",
            Self::DiskLimit => "disk_limit",
            Self::Idle => "idle",
            Self::Detached => "detached",
            Self::TimeLimit => "time_limit",
            Self::RecordingFull => "recording_full",
            Self::RecordingFailed => "recording_failed",
            Self::Revoked => "revoked",
            Self::TenantGone => "tenant_gone",
            Self::Quota => "quota",
            Self::Ended => "ended",
            Self::Shutdown => "shutdown",
            Self::Replaced => "replaced",
            Self::Failed => "failed",
        }
    }

    /// For a person.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Exited => "The shell has ended.",
            Self::OutOfMemory => "The shell was ended: it used more memory than it may.",
            Self::DiskLimit => "The shell was ended: its files are larger than they may be.",
            Self::Idle => "The session was ended: nothing was typed for too long.",
            Self::Detached => "The session was ended: nobody was connected for too long.",
            Self::TimeLimit => "The session was ended: it lasted as long as one may.",
            Self::RecordingFull => "The session was ended: its recording is as long as one may be.",
            Self::RecordingFailed => "The session was ended: it can no longer be recorded.",
            Self::Revoked => "The right to this session was revoked.",
            Self::TenantGone => "The session was ended with its tenant.",
            Self::Quota => "The session was ended: the quota of sandbox seconds is spent.",
            Self::Ended => "The session was ended by somebody who may.",
            Self::Shutdown => "The session was ended: the gateway shuts down.",
            Self::Replaced => "The session is driven from another window now.",
            Self::Failed => "The session was ended: the sandbox failed.",
        }
    }
}
