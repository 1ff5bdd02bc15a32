//! [`Desk`]: the agents' files, and whose turn it is in each conversation.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use openclawmu_control::agent::{AgentError, AgentFiles, AgentName, SessionName};
use openclawmu_sandbox::PathError;
use openclawmu_store::TenantId;
use tokio::sync::OwnedMutexGuard;

use crate::refusal::Refusal;
use crate::response::IsDeleted;
use crate::sandbox::blocking;

/// How long a turn waits for the one before it in the same conversation.
const PATIENCE: Duration = Duration::from_secs(60);
/// Conversations that are remembered before those that nobody is in are forgotten.
const REMEMBERED: usize = 1024;

/// One conversation.
type Key = (TenantId, AgentName, SessionName);

/// Everything that agents need.
pub(crate) struct Desk {
    files: AgentFiles,
    turns: Mutex<HashMap<Key, Weak<tokio::sync::Mutex<()>>>>,
}

impl Desk {
    /// The agents in a data directory.
    ///
    /// # Errors
    /// When their directory can't be made or opened.
    pub(crate) fn open(data: &Path, max_bytes: u64, is_deleted: Arc<IsDeleted>) -> Result<Self, PathError> {
        Ok(Self { files: AgentFiles::open(data, max_bytes, is_deleted)?, turns: Mutex::default() })
    }

    /// Does something with the files, where waiting for the disk holds nobody up.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AgentFiles) -> Result<T, AgentError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let files = self.files.clone();
        blocking(move || work(&files)).await?.map_err(|err| refused(&err))
    }

    /// Waits for this conversation's turn.
    ///
    /// # Errors
    /// 409 where the turn before takes too long.
    pub(super) async fn turn(&self, key: Key) -> Result<OwnedMutexGuard<()>, Refusal> {
        let waited = tokio::time::timeout(PATIENCE, self.place(key).lock_owned()).await;
        waited.map_err(|_| busy())
    }

    /// This conversation's turn, if nobody has it.
    ///
    /// # Errors
    /// 409.
    pub(super) fn turn_now(&self, key: Key) -> Result<OwnedMutexGuard<()>, Refusal> {
        self.place(key).try_lock_owned().map_err(|_| busy())
    }

    fn place(&self, key: Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        if turns.len() >= REMEMBERED {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}

fn busy() -> Refusal {
    Refusal::Bad {
        status: 409,
        param: Some("session".into()),
        code: Some("session_busy"),
        message: "Another turn of this session is under way. Please try again.".to_owned(),
    }
}

/// What a client is told where something of an agent can't be read or written. A link is told like nothing at all.
pub(super) fn refused(err: &AgentError) -> Refusal {
    let bad = |status, code, message: String| Refusal::Bad { status, param: None, code: Some(code), message };
    let full = |message: &str| bad(507, "agent_storage_exceeded", message.to_owned());
    match err {
        AgentError::Invalid { field, message } => Refusal::bad(*field, format!("`{field}` {message}.")),
        AgentError::NotFound(what) => missing(what),
        AgentError::Exists(what) => bad(409, "conflict", format!("There is such an {what} already.")),
        AgentError::Full(why) => full(why),
        AgentError::Path(PathError::NoSpace) => full("No space is left for agents."),
        AgentError::Path(PathError::NotFound | PathError::Refused) => missing("file"),
        AgentError::Path(PathError::Conflict | PathError::TooMany) => {
            bad(409, "conflict", "It was changed meanwhile. Please try again.".to_owned())
        }
        AgentError::Path(
            PathError::Empty | PathError::Escape | PathError::Forbidden | PathError::TooLong | PathError::BadEncoding,
        ) => Refusal::bad("path", format!("`path`: {err}.")),
        AgentError::Path(PathError::Unsupported | PathError::Io(_)) => {
            tracing::error!(%err, "an agent's files can't be used");
            Refusal::Sandbox {
                code: "agent_files",
                message: "The agent's files can't be used at the moment.".to_owned(),
            }
        }
    }
}

fn missing(what: &str) -> Refusal {
    let code = match what {
        "agent" => "agent_not_found",
        "session" => "session_not_found",
        _ => "file_not_found",
    };
    Refusal::NotFound { code, message: format!("There is no such {what}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(session: &str) -> Key {
        ("acme".parse().unwrap(), "default".parse().unwrap(), session.parse().unwrap())
    }

    #[tokio::test]
    async fn turns_of_one_session_follow_each_other_and_those_of_two_do_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path(), 1 << 20, Arc::new(|_| false)).unwrap();
        let first = desk.turn(key("a")).await.unwrap();
        assert!(desk.turn_now(key("a")).is_err() && desk.turn_now(key("b")).is_ok());
        drop(first);
        assert!(desk.turn_now(key("a")).is_ok());
        let held = desk.turn(key("held")).await.unwrap();
        for count in 0..2 * REMEMBERED {
            drop(desk.turn(key(&count.to_string())).await.unwrap());
        }
        assert!(desk.turns.lock().unwrap().len() <= REMEMBERED, "what nobody is in is forgotten");
        assert!(desk.turn_now(key("held")).is_err(), "and what somebody is in is not");
        drop(held);
    }
}
