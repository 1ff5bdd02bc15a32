//! The shell's side of a session: one task, from the first file to the last.
//!
//! - here: its beginning, its life, its end
//! - `pump`: what goes on meanwhile: reading, typing, resizing, and looking at the clock
//!
//! Must never leave a process, and never show what was not recorded before.

mod pump;

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openclawmu_sandbox::{Ended, Held, Job, Limits, Line, Outcome, PathError, Pty, RelPath, Root, SandboxError, Stdio};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::recording::{Entry, Heading, Recorded, Recorder};
use crate::terminals::Listed;
use crate::{Closed, Order, Reason, Session, TerminalError};

/// How long the rest of the output may take to be recorded.
const REST: Duration = Duration::from_secs(2);
/// How long the disk may take to have a recording complete: whoever looks at the session is told of its end afterwards.
const COMPLETE: Duration = Duration::from_secs(5);
/// How much later than a session's own end the sandbox ends it.
const SPARE: Duration = Duration::from_secs(10);

/// What a shell runs in.
struct Shell {
    running: Pin<Box<dyn Future<Output = Result<Outcome, SandboxError>> + Send>>,
    pty: Pty,
    line: Line,
    tape: Tape,
    record_input: bool,
    _keep: Option<Box<dyn Any + Send>>,
}

/// The recorder, which is used by one at a time on a thread that may block.
#[derive(Clone, Debug)]
struct Tape {
    recorder: Arc<Mutex<Recorder>>,
    session: Arc<Session>,
}

/// All of a session's life. `answer` hears when the shell runs, or why it does not.
pub(crate) async fn run(order: Order, listed: Listed, answer: oneshot::Sender<Result<(), TerminalError>>) {
    let session = Arc::clone(listed.session());
    let shell = match Shell::begin(&session, order).await {
        Ok(shell) => shell,
        Err(err) => {
            drop(listed);
            // Whoever asked may have gone.
            let _ = answer.send(Err(err));
            return;
        }
    };
    session.opened();
    if answer.send(Ok(())).is_err() {
        session.end(Reason::Detached);
    }
    let closed = shell.live(&session).await;
    listed.close(closed);
}

impl Shell {
    /// Makes the recording, the terminal and the sandbox; waits until the shell is in front of the terminal.
    async fn begin(session: &Arc<Session>, order: Order) -> Result<Self, TerminalError> {
        let path = RelPath::parse(session.recording().as_bytes()).map_err(TerminalError::Recording)?;
        let recordings = Arc::new(order.recordings);
        let words: Vec<_> = order.command.iter().map(|word| word.to_string_lossy()).collect();
        let heading =
            Heading { began_at: order.opened_at_ms.div_euclid(1000), size: order.size, shell: words.join(" ") };
        let most = session.settings().recording_bytes;
        let (root, name) = (Arc::clone(&recordings), path.clone());
        let recorder = blocking(move || Recorder::create(&root, &name, &heading, most)).await;
        let recorder = recorder.unwrap_or_else(|| Err(no_thread()))?;
        let tape = Tape { recorder: Arc::new(Mutex::new(recorder)), session: Arc::clone(session) };
        let begun = async {
            let (pty, terminal, line) = Pty::open(order.size.cols(), order.size.rows()).map_err(TerminalError::Pty)?;
            let job = Job {
                id: order.id,
                command: order.command,
                env: order.env,
                cwd: None,
                stdio: Stdio::Terminal(terminal),
                limits: Limits { wall: session.settings().hard_limit + SPARE, ..order.limits },
                workspace: order.workspace,
                egress: order.egress,
            };
            let backend = order.backend;
            let running = Box::pin(async move { backend.run(job, None).await });
            let (record_input, keep) = (order.record_input, order.keep);
            Self { running, pty, line, tape, record_input, _keep: keep }.started(session).await
        };
        match begun.await {
            Ok(shell) => Ok(shell),
            Err(err) => {
                remove(recordings, path).await;
                Err(err)
            }
        }
    }

    /// Waits until the shell is in front of the terminal.
    async fn started(mut self, session: &Session) -> Result<Self, TerminalError> {
        let ended = tokio::select! {
            biased;
            reason = session.asked_to_end() => {
                // An error means that the run is over.
                let _ = self.line.stop.send(());
                let _ = self.running.await;
                return Err(TerminalError::Over(reason));
            }
            started = &mut self.line.started => match started {
                Ok(()) => return Ok(self),
                Err(_) => self.running.await,
            },
            ended = &mut self.running => ended,
        };
        match ended {
            Ok(outcome) => Err(TerminalError::Shell(outcome.exit_code)),
            Err(err) => Err(TerminalError::Sandbox(err)),
        }
    }

    /// Stays with the shell to its end, and clears it away.
    async fn live(self, session: &Arc<Session>) -> Closed {
        let Self { mut running, pty, line, tape, record_input, _keep } = self;
        let Line { mut ended, stop, .. } = line;
        let mut reading = std::pin::pin!(pump::read(session, &pty, &tape));
        let mut outcome = None;
        let mut was_read = None;
        let reason = {
            let mut meanwhile = std::pin::pin!(pump::meanwhile(session, &pty, &tape, record_input));
            let mut held: Option<Held> = None;
            let mut told = false;
            loop {
                tokio::select! {
                    biased;
                    reason = session.asked_to_end() => break reason,
                    reason = &mut meanwhile => break reason,
                    over = &mut ended, if !told => {
                        told = true;
                        held = over.ok().filter(|_| was_read.is_none());
                        session.drain();
                    }
                    read = &mut reading, if was_read.is_none() => {
                        was_read = Some(read);
                        // All of it was shown: the terminal may go.
                        drop(held.take());
                        if let Err(reason) = read {
                            break reason;
                        }
                    }
                    over = &mut running => break self::ended(session, outcome.insert(over)),
                }
            }
        };
        // Whoever held the terminal for the rest of the output holds it no longer.
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                // An error means that the run is over.
                let _ = stop.send(());
                running.await
            }
        };
        session.drain();
        if was_read.is_none() && timeout(REST, reading).await.is_err() {
            tracing::warn!(session = session.id(), "the rest of a terminal's output is not recorded");
        }
        let exit = outcome.map_err(|err| tracing::error!(%err, session = session.id(), "a terminal's sandbox failed"));
        let (sha256, recording_bytes) = match tape.finish().await {
            Some(Recorded { sha256, bytes }) => (Some(sha256), bytes),
            None => (None, 0),
        };
        let recording = session.recording().to_owned();
        Closed { reason, exit: exit.ok().map(|outcome| outcome.exit_code), recording, sha256, recording_bytes }
    }
}

impl Tape {
    /// Records it; it is given back.
    async fn record(&self, entry: Entry) -> Result<Entry, Reason> {
        let (at, recorder) = (self.session.age(), Arc::clone(&self.recorder));
        let write = move || {
            let written = recorder.lock().unwrap_or_else(PoisonError::into_inner).write(at, &entry);
            written.map(|()| entry)
        };
        blocking(write).await.unwrap_or(Err(Reason::RecordingFailed))
    }

    async fn finish(&self) -> Option<Recorded> {
        let (at, recorder) = (self.session.age(), Arc::clone(&self.recorder));
        let finished = blocking(move || recorder.lock().unwrap_or_else(PoisonError::into_inner).finish(at));
        let session = self.session.id();
        let Ok(finished) = timeout(COMPLETE, finished).await else {
            tracing::error!(session, "the disk takes too long to have a recording complete");
            return None;
        };
        finished?.map_err(|err| tracing::error!(%err, session, "a recording is not complete")).ok()
    }
}

/// Why it ended, where nobody asked for it.
fn ended(session: &Session, outcome: &Result<Outcome, SandboxError>) -> Reason {
    let Ok(outcome) = outcome else { return Reason::Failed };
    match outcome.ended {
        Ended::Exited | Ended::Signalled => Reason::Exited,
        Ended::OutOfMemory => Reason::OutOfMemory,
        Ended::DiskLimit => Reason::DiskLimit,
        Ended::TimedOut => Reason::TimeLimit,
        Ended::OutputLimit | Ended::Stopped => {
            tracing::error!(session = session.id(), ended = outcome.ended.as_str(), "nobody asked for this end");
            Reason::Failed
        }
    }
}

/// A recording of nothing.
async fn remove(recordings: Arc<Root>, path: RelPath) {
    let removed = blocking(move || recordings.remove_file(&path)).await;
    if !matches!(removed, Some(Ok(()))) {
        tracing::warn!("the recording of a terminal that did not open stays");
    }
}

fn no_thread() -> TerminalError {
    TerminalError::Recording(PathError::Io(std::io::ErrorKind::OutOfMemory.into()))
}

/// Moves what waits for the disk to where waiting holds nobody up; nothing if it did not come to its end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|err| tracing::error!(%err, "work on a recording did not end")).ok()
}
