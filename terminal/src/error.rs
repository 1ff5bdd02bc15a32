//! Why a session is not opened, or not attached to.

use std::io;

use openclawmu_sandbox::{PathError, SandboxError};

use crate::Reason;

/// Why a session is not opened, or not attached to. Each names the HTTP status that the caller should choose; causes are for the log.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// 429: the tenant has as many sessions as it may.
    #[error("the tenant has {limit} sessions, which is as many as it may")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
    /// 429: the session has as many viewers as it may.
    #[error("the session has {limit} viewers, which is as many as it may")]
    TooManyViewers {
        /// How many it may have.
        limit: usize,
    },
    /// 409: a session, or a recording, of this id is there.
    #[error("there is a session of this id")]
    Taken,
    /// 503: what isolates has no terminals.
    #[error("the sandbox's backend {0} has no terminals")]
    NoTerminals(&'static str),
    /// 503: the recording can't be made.
    #[error("the recording can't be written: {0}")]
    Recording(PathError),
    /// 503: no terminal can be had.
    #[error("no terminal can be had: {0}")]
    Pty(io::Error),
    /// By its own status: nothing, or nothing proved, was run.
    #[error(transparent)]
    Sandbox(SandboxError),
    /// 503: there is no such shell in the sandbox, or it can't be run.
    #[error("the shell can't be started: exit code {0}")]
    Shell(u8),
    /// 409: somebody else drives the session.
    #[error("the session is driven by somebody else")]
    Driven,
    /// 403: the viewer's role does not allow it.
    #[error("the role does not allow it")]
    Role,
    /// 404, or by its reason: the session is over.
    #[error("the session is over: {}", .0.as_str())]
    Over(Reason),
}

impl TerminalError {
    /// One word for it in answers, metrics and the log.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooMany { .. } => "terminal_sessions",
            Self::TooManyViewers { .. } => "terminal_viewers",
            Self::Taken => "terminal_taken",
            Self::NoTerminals(_) => "backend_has_no_terminals",
            Self::Recording(_) => "recording_unavailable",
            Self::Pty(_) => "terminal_unavailable",
            Self::Sandbox(err) => err.reason(),
            Self::Shell(_) => "shell_unavailable",
            Self::Driven => "terminal_driven",
            Self::Role => "terminal_role",
            Self::Over(_) => "terminal_over",
        }
    }
}
