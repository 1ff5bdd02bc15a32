//! What can go wrong with an agent's files.

use std::borrow::Cow;

use openclawmu_sandbox::PathError;

/// Why something of an agent can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A field, or a part of a path, is not as it must be.
    #[error("`{field}` {message}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// How it must be.
        message: Cow<'static, str>,
    },
    /// There is no such agent, session or file.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It is there already.
    #[error("there is such an {0} already")]
    Exists(&'static str),
    /// There is no room for more of these.
    #[error("{0}")]
    Full(&'static str),
    /// The path is no path, or the disk refuses.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl AgentError {
    pub(super) fn invalid(field: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid { field, message: message.into() }
    }
}
