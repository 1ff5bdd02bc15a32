//! A run while it runs: what goes in, what comes out, and what ends it.
//!
//! Memory does not follow the output: what is over the kept bytes is read and let go. Whoever reads along can slow the
//! command down, never the deadline.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::launch::Running;
use crate::capture::Capture;
use crate::disk::Sampler;
use crate::ending::{Cause, GRACE};
use crate::follow::{Follower, Read, feed, hear};
use crate::status::Status;
use crate::terminal::{Told, stopped};
use crate::{Captured, Chunk, Limits, SandboxError, Stream};

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// What there is of a run when it has ended.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) cause: Cause,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    pub(super) status: Status,
    pub(super) usage: crate::cgroup::Usage,
    pub(super) duration: Duration,
}

/// What ends a run before it ends by itself.
enum Stop {
    Output,
    Unproved,
    System(io::Error),
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Self {
        Self::System(err)
    }
}

/// What a run is connected to.
#[derive(Debug)]
pub(super) struct Ends {
    /// What is written to the command.
    pub(super) input: Vec<u8>,
    /// Whoever reads along.
    pub(super) output: Option<mpsc::Sender<Chunk>>,
    /// Whoever holds the other end of its terminal, if it has one.
    pub(super) terminal: Option<Told>,
}

/// Everything that is read.
struct Streams {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    /// Absent when nothing more is wanted of it.
    status: Option<pipe::Receiver>,
    terminal: Option<Told>,
    written: AtomicU64,
    most: u64,
    output: Option<mpsc::Sender<Chunk>>,
}

/// Stays with a run to its end, and clears it away.
pub(super) async fn watch(
    mut running: Running,
    ends: Ends,
    limits: &Limits,
    mut disk: Option<Sampler>,
) -> Result<Seen, SandboxError> {
    let receiver = |fd: Option<OwnedFd>| fd.map(pipe::Receiver::from_owned_fd).transpose().map_err(SandboxError::Io);
    let Ends { input, output, mut terminal } = ends;
    let stop = terminal.as_mut().and_then(|terminal| terminal.stop.take());
    let mut streams = Streams {
        stdout: receiver(running.stdout.take())?,
        stderr: receiver(running.stderr.take())?,
        status: receiver(running.status.take())?,
        terminal,
        written: AtomicU64::new(0),
        most: limits.output_bytes,
        output,
    };
    let mut read = Read::new(limits.kept_bytes);
    let ended = running.ended.try_clone().and_then(registered);
    let ended = ended.map_err(SandboxError::Io)?;
    let deadline = Instant::from_std(running.started + limits.wall);
    let stdin = running.stdin.take().map(pipe::Sender::from_owned_fd).transpose().map_err(SandboxError::Io)?;
    let mut pumping = Box::pin(streams.pump(&mut read));
    let mut pumped = None;
    let cause = {
        let mut feeding = Box::pin(feed(stdin, input));
        let mut growing = Box::pin(Sampler::over(disk.as_mut()));
        let mut stopped = Box::pin(stopped(stop));
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => break Cause::TimedOut,
                () = &mut stopped => break Cause::Stopped,
                over = &mut growing => { over?; break Cause::DiskLimit }
                ready = ended.readable() => { ready.map_err(SandboxError::Io)?.retain_ready(); break Cause::Itself }
                done = &mut pumping, if pumped.is_none() => match done {
                    Err(Stop::Output) => break Cause::OutputLimit,
                    Err(Stop::Unproved) => break Cause::Unproved,
                    Err(Stop::System(err)) => return Err(SandboxError::Io(err)),
                    Ok(()) => pumped = Some(()),
                },
                never = &mut feeding => match never {},
            }
        }
    };
    let started = running.started;
    let usage = running.clear().await?;
    let duration = started.elapsed();
    let mut cause = cause;
    if pumped.is_none() && matches!(cause, Cause::Itself | Cause::TimedOut | Cause::DiskLimit | Cause::Stopped) {
        // All who wrote are gone, so there is an end; only a reader who takes too long has it cut off.
        match tokio::time::timeout(GRACE, &mut pumping).await {
            Ok(Err(Stop::Output)) => cause = Cause::OutputLimit,
            Ok(Err(Stop::Unproved)) => cause = Cause::Unproved,
            Ok(Err(Stop::System(err))) => return Err(SandboxError::Io(err)),
            Ok(Ok(())) | Err(_) => {}
        }
    }
    drop(pumping);
    let (stdout, stderr, status) = read.finish();
    Ok(Seen { cause, stdout, stderr, status, usage, duration })
}

impl Streams {
    /// Reads all three to their ends.
    async fn pump(&mut self, read: &mut Read) -> Result<(), Stop> {
        let Self { stdout, stderr, status, terminal, written, most, output } = self;
        let follower = Follower { written, most: *most, output: output.as_ref() };
        tokio::try_join!(
            pump(stdout.as_mut(), Stream::Stdout, &mut read.stdout, follower),
            pump(stderr.as_mut(), Stream::Stderr, &mut read.stderr, follower),
            listen(status, &mut read.said, terminal.as_mut()),
        )?;
        Ok(())
    }
}

async fn pump(
    from: Option<&mut pipe::Receiver>,
    stream: Stream,
    capture: &mut Capture,
    follower: Follower<'_>,
) -> Result<(), Stop> {
    let Some(from) = from else { return Ok(()) };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut piece).await?;
        let bytes = piece.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        if !follower.take(stream, bytes, capture).await {
            return Err(Stop::Output);
        }
    }
}

/// Hears what process 1 says; as soon as it shows that the walls are not what they must be, it is over. At a terminal it waits at
/// the end until what was written there has been read, which is when nobody listens any more.
async fn listen(
    listened: &mut Option<pipe::Receiver>,
    said: &mut Vec<u8>,
    mut terminal: Option<&mut Told>,
) -> Result<(), Stop> {
    let mut piece = [0; 1024];
    loop {
        let Some(from) = listened else { return Ok(()) };
        let length = from.read(&mut piece).await?;
        let bytes = piece.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let status = hear(said, bytes, super::prove).ok_or(Stop::Unproved)?;
        let Some(terminal) = terminal.as_deref_mut() else { continue };
        if status.started {
            terminal.started();
        }
        if status.end.is_some() {
            if let Some(read) = terminal.ended() {
                // An error is what is waited for: it can't be sent anything.
                let _ = tokio::time::timeout(GRACE, read).await;
            }
            *listened = None;
        }
    }
}

#[allow(unsafe_code, reason = "tokio takes descriptors on trust")]
fn registered(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same one, until it is dropped with what it is registered in.
    unsafe { AsyncFd::register(handle) }.map_err(io::Error::from)
}
