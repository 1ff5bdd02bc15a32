//! From the shell to the viewers: when the terminal may be read, and what a viewer is sent next.

use super::{Phase, SNAPSHOT_BYTES, Session, State};
use crate::frame::ServerFrame;
use crate::seat::{Farewell, Seat};
use crate::{Closed, Hello, Message, Reason, Start, Text};

/// Of one frame.
const OUTPUT_BYTES: usize = 32 << 10;

/// What comes next for a viewer.
#[derive(Debug)]
pub(crate) enum Step {
    Send(Message),
    /// Until it is woken.
    Wait,
    /// Nothing any more.
    Over,
}

/// Whether the terminal may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayRead {
    /// The driver is too far behind.
    No,
    Yes,
    /// To the end of what is there, and then no more.
    Rest,
}

impl Session {
    /// Whether the terminal may be read now. When that may have changed, [`may_read_changed`](Self::may_read_changed) says so.
    pub(crate) fn may_read(&self) -> MayRead {
        let state = self.state();
        match state.phase {
            Phase::Draining | Phase::Over(_) => return MayRead::Rest,
            Phase::Starting | Phase::Running => {}
        }
        let Some(driver) = state.driver.and_then(|driver| state.seats.get(&driver)) else { return MayRead::Yes };
        let behind = state.ring.end().saturating_sub(driver.acked);
        // Whoever waits to type can't acknowledge meanwhile: both would wait for each other.
        if behind <= wide(self.settings.window_bytes) || state.waiting > 0 { MayRead::Yes } else { MayRead::No }
    }

    pub(crate) async fn may_read_changed(&self) {
        self.wakes.read.notified().await;
    }

    /// Only what is left is to be read.
    pub(crate) fn drain(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Running) {
            state.phase = Phase::Draining;
        }
        drop(state);
        self.wakes.read.notify_one();
    }

    /// The terminal showed it, and it is recorded.
    pub(crate) fn show(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.ring.push(bytes);
        state.wake_all();
    }

    /// A viewer has taken in all before `seq`.
    pub(crate) fn acknowledge(&self, id: u64, seq: u64) {
        let mut state = self.state();
        let Some(seat) = state.seats.get_mut(&id) else { return };
        // Nobody has what was not sent.
        seat.acked = seat.acked.max(seq.min(seat.next));
        seat.wake.notify_one();
        drop(state);
        self.wakes.read.notify_one();
    }

    pub(crate) fn ping(&self, id: u64, number: u64) {
        if let Some(seat) = self.state().seats.get_mut(&id) {
            seat.pong = Some(number);
            seat.wake.notify_one();
        }
    }

    /// What comes next for a viewer.
    pub(crate) fn step(&self, id: u64) -> Step {
        let mut state = self.state();
        let (size, viewers) = (state.size, state.viewers());
        let State { phase, ring, seats, .. } = &mut *state;
        let Some(seat) = seats.get_mut(&id) else { return Step::Over };
        if let Some(reason) = seat.gone {
            return dismissed(seat, reason);
        }
        let over = match phase {
            Phase::Over(closed) => Some(&*closed),
            Phase::Starting | Phase::Running | Phase::Draining => None,
        };
        if seat.next < ring.start() {
            // Too slow: what it wants next is no longer there.
            let at = ring.safe_start(SNAPSHOT_BYTES);
            (seat.next, seat.acked, seat.greeting) = (at, at, Some(Start::Repaint));
            self.wakes.read.notify_one();
        }
        if let Some(start) = seat.greeting.take() {
            let hello = Hello {
                session: self.id.clone(),
                role: seat.viewer.role,
                start,
                seq: seat.next,
                cols: size.cols(),
                rows: size.rows(),
                window_bytes: wide(self.settings.window_bytes),
                opened_by: self.opened_by.clone(),
                recorded: true,
            };
            return Step::Send(Text::Hello(hello).message());
        }
        if let Some(number) = seat.pong.take() {
            return Step::Send(Message::Binary(ServerFrame::Pong(number).encode()));
        }
        if std::mem::take(&mut seat.viewers_changed) {
            return Step::Send(Message::Binary(ServerFrame::Viewers(viewers).encode()));
        }
        // At the end nothing more can come of what it has not acknowledged.
        let sent = usize::try_from(seat.next.saturating_sub(seat.acked)).unwrap_or(usize::MAX);
        let window = if over.is_some() { usize::MAX } else { self.settings.window_bytes.saturating_sub(sent) };
        let bytes = ring.copy(seat.next, window.min(OUTPUT_BYTES));
        if !bytes.is_empty() {
            let frame = ServerFrame::Output { seq: seat.next, bytes: &bytes }.encode();
            seat.next = seat.next.saturating_add(wide(bytes.len()));
            return Step::Send(Message::Binary(frame));
        }
        over.map_or(Step::Wait, |closed| farewell(seat, closed))
    }
}

/// Why a viewer has no part in it any more, once.
fn dismissed(seat: &mut Seat, reason: Reason) -> Step {
    match std::mem::replace(&mut seat.farewell, Farewell::Said) {
        Farewell::Unsaid => Step::Send(Text::error(reason.as_str(), reason.message()).message()),
        Farewell::Reason | Farewell::Said => Step::Over,
    }
}

/// Why it ended, unless the shell did by itself; then the exit code.
fn farewell(seat: &mut Seat, closed: &Closed) -> Step {
    if seat.farewell == Farewell::Unsaid && closed.reason != Reason::Exited {
        seat.farewell = Farewell::Reason;
        return Step::Send(Text::error(closed.reason.as_str(), closed.reason.message()).message());
    }
    match (std::mem::replace(&mut seat.farewell, Farewell::Said), closed.exit) {
        (Farewell::Unsaid | Farewell::Reason, Some(code)) => {
            Step::Send(Message::Binary(ServerFrame::Exit(i32::from(code)).encode()))
        }
        _ => Step::Over,
    }
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
