//! A run while it runs: what goes in, what comes out, and what ends it. Memory does not follow the output.

use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bollard::Docker as Engine;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;

use super::failed;
use super::place::Place;
use super::usage::{Groups, Usage};
use crate::capture::Capture;
use crate::disk::Sampler;
use crate::ending::{Cause, GRACE};
use crate::follow::{Follower, Read, feed, hear};
use crate::status::Status;
use crate::{Captured, Chunk, Limits, SandboxError, Stream};

/// What there is of a run when it has ended.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) cause: Cause,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    pub(super) status: Status,
    pub(super) usage: Usage,
    pub(super) duration: Duration,
    pub(super) out_of_memory: bool,
}

/// A container that has been started.
pub(super) struct Run<'r> {
    pub(super) engine: &'r Engine,
    pub(super) name: &'r str,
    pub(super) limits: &'r Limits,
}

/// Who looks on.
pub(super) struct Readers {
    pub(super) output: Option<mpsc::Sender<Chunk>>,
    pub(super) disk: Option<Sampler>,
}

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Error>> + Send>>;

/// Both readers, and which of them has come to its end.
struct Reading<'r> {
    pumping: Pin<Box<dyn Future<Output = Result<Pumped, SandboxError>> + Send + 'r>>,
    listening: Pin<Box<dyn Future<Output = Result<bool, SandboxError>> + Send + 'r>>,
    pumped: bool,
    listened: bool,
}

/// What is written to the command.
type Input = (Pin<Box<dyn AsyncWrite + Send>>, Vec<u8>);

impl Run<'_> {
    /// Stays with it until its processes are gone.
    pub(super) async fn watch(
        &self,
        attached: AttachContainerResults,
        input: Vec<u8>,
        place: &mut Place,
        readers: Readers,
    ) -> Result<Seen, SandboxError> {
        let started = Instant::now();
        let kept = self.limits.kept_bytes;
        let (mut read, mut oom_kills, written) = (Read::new(kept), None, AtomicU64::new(0));
        let Readers { output, disk } = readers;
        let (mut cause, outside, rest) = {
            let Read { stdout, stderr, said } = &mut read;
            let follower = Follower { written: &written, most: self.limits.output_bytes, output: output.as_ref() };
            let pumping = pump(attached.output, [stdout, stderr], follower);
            let mut reading = Reading {
                pumping: Box::pin(pumping),
                listening: Box::pin(listen(place, said, &mut oom_kills)),
                pumped: false,
                listened: false,
            };
            let (cause, outside) = self.until_gone(&mut reading, (attached.input, input), disk, started).await?;
            // All who wrote are gone, so there is an end; only a reader who takes too long has it cut off.
            let rest = reading.rest(cause);
            (cause, outside, tokio::time::timeout(GRACE, rest).await)
        };
        match rest {
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Pumped::TooMuch)) => cause = Cause::OutputLimit,
            Ok(Ok(Pumped::All)) | Err(_) => {}
        }
        let mut usage = outside.unwrap_or_else(|| Usage::parse(&read.said));
        // Whoever has no page left for its report is seen from outside.
        usage.oom_kills = usage.oom_kills.max(oom_kills);
        let (stdout, stderr, status) = read.finish();
        Ok(Seen { cause, status, usage, stdout, stderr, duration: started.elapsed(), out_of_memory: false })
    }

    /// Until it has ended, by itself or by a limit; and what it had used before it was killed.
    async fn until_gone(
        &self,
        reading: &mut Reading<'_>,
        input: Input,
        mut disk: Option<Sampler>,
        started: Instant,
    ) -> Result<(Cause, Option<Usage>), SandboxError> {
        let mut feeding = Box::pin(feed((!input.1.is_empty()).then_some(input.0), input.1));
        let mut growing = Box::pin(Sampler::over(disk.as_mut()));
        let mut ending = Box::pin(self.ended());
        let mut deadline = Box::pin(tokio::time::sleep_until((started + self.limits.wall).into()));
        let cause = loop {
            tokio::select! {
                biased;
                () = &mut deadline => break Cause::TimedOut,
                over = &mut growing => { over?; break Cause::DiskLimit }
                done = &mut reading.pumping, if !reading.pumped => match done? {
                    Pumped::All => reading.pumped = true,
                    Pumped::TooMuch => {
                        reading.pumped = true;
                        break Cause::OutputLimit;
                    }
                },
                proved = &mut reading.listening, if !reading.listened => {
                    reading.listened = true;
                    if !proved? {
                        break Cause::Unproved;
                    }
                }
                ended = &mut ending => { ended?; return Ok((Cause::Itself, None)) }
                never = &mut feeding => match never {},
            }
        };
        drop(feeding);
        let mut killing = Box::pin(async {
            let usage = self.usage().await?;
            self.kill().await?;
            ending.await?;
            Ok((cause, Some(usage)))
        });
        // The engine ends nobody whose output it can't write away: it is read meanwhile, and where that does not go on, because
        // its reader takes none, the connection is closed.
        let mut patience = Box::pin(tokio::time::sleep(GRACE));
        loop {
            tokio::select! {
                biased;
                gone = &mut killing => return gone,
                done = &mut reading.pumping, if !reading.pumped => {
                    reading.pumped = true;
                    done?;
                }
                () = &mut patience, if !reading.pumped => {
                    reading.pumped = true;
                    reading.pumping = Box::pin(std::future::ready(Ok(Pumped::All)));
                }
            }
        }
    }

    /// Until the engine says that it has ended; with which code is process 1's to say.
    async fn ended(&self) -> Result<(), SandboxError> {
        match self.engine.wait_container(self.name, None::<WaitContainerOptions>).next().await {
            // A code other than 0 is an error there.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(error)) => Err(failed("wait")(error)),
            None => Err(SandboxError::Engine("wait: it said nothing".to_owned())),
        }
    }

    /// What it has used until now.
    async fn usage(&self) -> Result<Usage, SandboxError> {
        let inspecting = self.engine.inspect_container(self.name, None::<InspectContainerOptions>);
        let pid = inspecting.await.map_err(failed("inspect"))?.state.and_then(|state| state.pid);
        Ok(pid.filter(|pid| *pid > 0).map(|pid| Usage::of(&Groups::of_process(pid))).unwrap_or_default())
    }

    async fn kill(&self) -> Result<(), SandboxError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.engine.kill_container(self.name, Some(options)).await {
            // It ended meanwhile.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(failed("kill")(error)),
        }
    }
}

impl Reading<'_> {
    /// What is still to be read when the run is over.
    async fn rest(&mut self, cause: Cause) -> Result<Pumped, SandboxError> {
        if !self.listened {
            self.listening.as_mut().await?;
        }
        match cause {
            Cause::OutputLimit => Ok(Pumped::TooMuch),
            _ if self.pumped => Ok(Pumped::All),
            Cause::Itself | Cause::TimedOut | Cause::DiskLimit | Cause::Stopped | Cause::Unproved => {
                self.pumping.as_mut().await
            }
        }
    }
}

/// How reading ended.
enum Pumped {
    All,
    TooMuch,
}

async fn pump(
    mut from: Output,
    [stdout, stderr]: [&mut Capture; 2],
    follower: Follower<'_>,
) -> Result<Pumped, SandboxError> {
    while let Some(piece) = from.next().await {
        let (stream, bytes) = match piece.map_err(failed("read"))? {
            LogOutput::StdOut { message } | LogOutput::Console { message } => (Stream::Stdout, message),
            LogOutput::StdErr { message } => (Stream::Stderr, message),
            LogOutput::StdIn { .. } => continue,
        };
        let capture = match stream {
            Stream::Stdout => &mut *stdout,
            Stream::Stderr => &mut *stderr,
        };
        if !follower.take(stream, &bytes, capture).await {
            return Ok(Pumped::TooMuch);
        }
    }
    Ok(Pumped::All)
}

/// Hears what process 1 says, to its end; whether the walls are what they must be. When it falls silent its control groups are still
/// there: the engine takes them away when it has heard of the end, by way of three more processes.
async fn listen(place: &mut Place, said: &mut Vec<u8>, oom_kills: &mut Option<u64>) -> Result<bool, SandboxError> {
    let mut reporter = place.reporter().await.map_err(SandboxError::Io)?;
    let peer = reporter.peer_cred().ok().and_then(|peer| peer.pid());
    let groups = peer.map(|pid| Groups::of_process(pid.into()));
    let mut piece = [0; 1024];
    loop {
        let length = reporter.read(&mut piece).await.map_err(SandboxError::Io)?;
        let bytes = piece.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            *oom_kills = groups.as_ref().and_then(Groups::oom_kills);
            return Ok(true);
        }
        if hear(said, bytes, Status::prove).is_none() {
            return Ok(false);
        }
    }
}
