//! From the viewers to the shell: what is typed, the size, and what a role does not allow.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Phase, Session, State};
use crate::{Reason, Role, Size, TerminalError, Violation, What};

/// How much may wait to be typed; beyond that the viewer waits.
const INPUT_BYTES: usize = 256 << 10;
/// How much is typed at once.
const PIECE_BYTES: usize = 4 << 10;

/// The size that the terminal has, and the one that it is to have. Where they are the same, who is in front is to draw it anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resizing {
    pub(crate) from: Size,
    pub(crate) to: Size,
}

/// Somebody waits for room.
struct Waiting<'s>(&'s Session);

impl<'s> Waiting<'s> {
    fn new(session: &'s Session) -> Self {
        session.state().waiting += 1;
        session.wakes.read.notify_one();
        Self(session)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl Session {
    /// Takes what a viewer types, if they may, as fast as the shell takes it.
    pub(crate) async fn typed(&self, id: u64, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            let mut room = std::pin::pin!(self.wakes.room.notified());
            room.as_mut().enable();
            {
                let mut state = self.state();
                if !self.may(&mut state, id, Violation::Input) {
                    return;
                }
                let free = INPUT_BYTES.saturating_sub(state.input.len());
                let (now, later) = rest.split_at(free.min(rest.len()));
                state.input.extend(now);
                state.last_input = Instant::now();
                rest = later;
            }
            self.wakes.input.notify_one();
            if rest.is_empty() {
                return;
            }
            let _waiting = Waiting::new(self);
            room.await;
        }
    }

    /// Waits for something to type, and answers the beginning of it.
    pub(crate) async fn to_type(&self) -> Vec<u8> {
        loop {
            let piece: Vec<u8> = self.state().input.iter().take(PIECE_BYTES).copied().collect();
            if !piece.is_empty() {
                return piece;
            }
            self.wakes.input.notified().await;
        }
    }

    /// So much of it is in the terminal.
    pub(crate) fn was_typed(&self, length: usize) {
        let mut state = self.state();
        let length = length.min(state.input.len());
        state.input.drain(..length);
        if state.input.is_empty() {
            // A large paste is no reason to hold its memory for hours.
            state.input.shrink_to(PIECE_BYTES);
        }
        drop(state);
        self.wakes.room.notify_waiters();
    }

    /// Takes the size that a viewer wants, if they may.
    pub(crate) fn resize(&self, id: u64, size: Size) {
        let mut state = self.state();
        if self.may(&mut state, id, Violation::Resize) {
            state.wanted = size;
            drop(state);
            self.wakes.resize.notify_one();
        }
    }

    /// Waits until another size is wanted than the terminal has, or all of it is to be drawn anew.
    pub(crate) async fn to_resize(&self) -> Resizing {
        loop {
            {
                let mut state = self.state();
                let (from, to, redraw) = (state.size, state.wanted, std::mem::take(&mut state.redraw));
                if from != to || redraw {
                    return Resizing { from, to };
                }
            }
            self.wakes.resize.notified().await;
        }
    }

    /// The terminal has this size.
    pub(crate) fn was_resized(&self, size: Size) {
        self.state().size = size;
    }

    /// Ends it for a viewer, if they may.
    pub(crate) fn end_by(&self, id: u64) -> Result<(), TerminalError> {
        let mut state = self.state();
        let gone = TerminalError::Over(Reason::Ended);
        let role = state.seats.get(&id).filter(|seat| seat.gone.is_none()).ok_or(gone)?.viewer.role;
        if role == Role::Observer {
            self.violation(&mut state, id, Violation::End);
            return Err(TerminalError::Role);
        }
        drop(state);
        self.end(Reason::Ended);
        Ok(())
    }

    /// Whether a viewer is the driver, of a shell that runs. Whoever has another role is noted.
    fn may(&self, state: &mut State, id: u64, what: Violation) -> bool {
        if state.driver == Some(id) {
            return !matches!(state.phase, Phase::Over(_));
        }
        self.violation(state, id, what);
        false
    }

    fn violation(&self, state: &mut State, id: u64, tried: Violation) {
        // A driver who was replaced had the right when they typed.
        let Some(seat) = state.seats.get_mut(&id).filter(|seat| seat.viewer.role != Role::Driver) else { return };
        seat.violations = seat.violations.saturating_add(1);
        if seat.violations == 1 {
            self.tell(What::RoleViolation { viewer: Arc::clone(&seat.viewer), tried });
        }
    }
}
