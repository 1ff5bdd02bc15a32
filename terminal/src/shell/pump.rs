//! What goes on while a shell runs. Each of these is its own: whoever waits for one of them holds up no other.

use std::convert::Infallible;
use std::time::Duration;

use openclawmu_sandbox::Pty;

use super::Tape;
use crate::recording::Entry;
use crate::session::{MayRead, Resizing};
use crate::{Reason, Session};

/// How much is read at once: as much as the kernel keeps of one terminal.
const PIECE_BYTES: usize = 4 << 10;
/// How often the size changes at most.
const RESIZE_EVERY: Duration = Duration::from_millis(20);

/// Reads the terminal to its end: records, then shows. It reads no further while the driver is too far behind.
pub(super) async fn read(session: &Session, pty: &Pty, tape: &Tape) -> Result<(), Reason> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = match session.may_read() {
            MayRead::No => {
                session.may_read_changed().await;
                continue;
            }
            MayRead::Yes => tokio::select! {
                read = pty.read(&mut buffer) => read.map(Some),
                () = session.may_read_changed() => continue,
            },
            MayRead::Rest => pty.read_now(&mut buffer),
        };
        let length = match read {
            Ok(Some(0) | None) => return Ok(()),
            Ok(Some(length)) => length,
            Err(err) => {
                tracing::error!(%err, session = session.id(), "a terminal can't be read");
                return Err(Reason::Failed);
            }
        };
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if let Entry::Output(bytes) = tape.record(Entry::Output(bytes)).await? {
            session.show(&bytes);
        }
    }
}

/// Types, resizes, and looks at the clock, until the session is to end.
pub(super) async fn meanwhile(session: &Session, pty: &Pty, tape: &Tape, record_input: bool) -> Reason {
    tokio::select! {
        biased;
        reason = deadline(session) => reason,
        typed = write(session, pty, record_input.then_some(tape)) => match typed {
            Ok(never) => match never {},
            Err(reason) => reason,
        },
        resized = resize(session, pty, tape) => match resized {
            Ok(never) => match never {},
            Err(reason) => reason,
        },
    }
}

/// Types what the driver types.
async fn write(session: &Session, pty: &Pty, tape: Option<&Tape>) -> Result<Infallible, Reason> {
    loop {
        let mut piece = session.to_type().await;
        // Before and after: what the terminal does not show is nobody's to keep.
        let shows = || tape.filter(|_| pty.echoes().unwrap_or(false));
        let before = shows();
        let Ok(length) = pty.write(&piece).await else {
            // Nobody is there to read it: the end is told elsewhere.
            std::future::pending::<()>().await;
            continue;
        };
        session.was_typed(length);
        if let Some(tape) = before.and_then(|_| shows()) {
            piece.truncate(length);
            tape.record(Entry::Input(piece)).await?;
        }
    }
}

/// Gives the terminal the size that the driver wants last. Who has missed something needs all of it drawn anew, which programs do
/// when the size changes: then it does so for a moment.
async fn resize(session: &Session, pty: &Pty, tape: &Tape) -> Result<Infallible, Reason> {
    let set = |cols, rows| {
        if let Err(err) = pty.resize(cols, rows) {
            tracing::warn!(%err, session = session.id(), "a terminal can't be resized");
        }
    };
    loop {
        let Resizing { from, to } = session.to_resize().await;
        if from == to {
            set(to.cols(), if to.rows() > 1 { to.rows() - 1 } else { 2 });
            tokio::time::sleep(RESIZE_EVERY).await;
        }
        set(to.cols(), to.rows());
        if from != to {
            session.was_resized(to);
            tape.record(Entry::Resize(to)).await?;
        }
        tokio::time::sleep(RESIZE_EVERY).await;
    }
}

/// Waits until the session lived long enough.
async fn deadline(session: &Session) -> Reason {
    loop {
        let (at, reason) = session.deadline();
        if at <= tokio::time::Instant::now() {
            return reason;
        }
        tokio::select! {
            () = tokio::time::sleep_until(at) => {}
            () = session.deadline_moved() => {}
        }
    }
}
