//! [`Attachment`]: one viewer's side of a session, which a connection drives.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::frame::ClientFrame;
use crate::session::Step;
use crate::{FrameError, Message, Role, Session, TerminalError};

/// One viewer's side of a session; dropping it detaches.
///
/// [`feed`](Self::feed) and [`next`](Self::next) are to be waited for at the same time, each by one caller: a `feed` may wait until
/// the shell has taken what was typed before, and meanwhile output goes on.
#[derive(Debug)]
pub struct Attachment {
    session: Arc<Session>,
    id: u64,
    role: Role,
    wake: Arc<Notify>,
}

impl Attachment {
    pub(crate) fn new(session: Arc<Session>, id: u64, role: Role, wake: Arc<Notify>) -> Self {
        Self { session, id, role, wake }
    }

    /// What it is attached to.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// What this viewer may do.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Takes one binary message of the client's. What its role does not allow is dropped and told of by an
    /// [`Event`](crate::Event). Dropping what this gives loses what had no room yet.
    ///
    /// # Errors
    /// [`FrameError`]: the connection is to be closed with a [`Text::error`](crate::Text::error) of its code.
    pub async fn feed(&self, message: &[u8]) -> Result<(), FrameError> {
        match ClientFrame::decode(message)? {
            ClientFrame::Input(bytes) => self.session.typed(self.id, bytes).await,
            ClientFrame::Resize(size) => self.session.resize(self.id, size),
            ClientFrame::Ack(seq) => self.session.acknowledge(self.id, seq),
            ClientFrame::Ping(number) => self.session.ping(self.id, number),
            ClientFrame::Resume { .. } => return Err(FrameError::LateResume),
        }
        Ok(())
    }

    /// Waits for the next message to the client; `None` after the last. Dropping what this gives loses nothing.
    pub async fn next(&self) -> Option<Message> {
        loop {
            match self.session.step(self.id) {
                Step::Send(message) => return Some(message),
                Step::Wait => self.wake.notified().await,
                Step::Over => return None,
            }
        }
    }

    /// Ends the session, if this viewer may: a moderator, or the driver.
    ///
    /// # Errors
    /// [`TerminalError::Role`], which is told of by an [`Event`](crate::Event); [`TerminalError::Over`].
    pub fn end(&self) -> Result<(), TerminalError> {
        self.session.end_by(self.id)
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.session.detach(self.id);
    }
}
