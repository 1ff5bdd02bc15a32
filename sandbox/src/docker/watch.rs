//! A run while it runs: what goes in, what comes out, and what ends it. Memory does not follow the output.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bollard::Docker as Engine;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::query_parameters::{KillContainerOptionsBuilder, WaitContainerOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::failed;
use super::place::Place;
use super::usage::Usage;
use crate::capture::Capture;
use crate::disk::Sampler;
use crate::status::{MAX_STATUS_BYTES, Status};
use crate::{Captured, Chunk, Limits, SandboxError, Stream};

/// How long a reader may take for the rest after the end.
const GRACE: Duration = Duration::from_secs(2);

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Itself,
    TimedOut,
    OutputLimit,
    DiskLimit,
    Unproved,
}

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

/// What was read.
struct Read {
    stdout: Capture,
    stderr: Capture,
    said: Vec<u8>,
}

impl Read {
    fn seen(self, cause: Cause, duration: Duration) -> Seen {
        Seen {
            cause,
            status: Status::parse(&self.said),
            usage: Usage::parse(&self.said),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
            duration,
            out_of_memory: false,
        }
    }
}

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, Error>> + Send>>;

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
        let mut read = Read { stdout: Capture::new(kept), stderr: Capture::new(kept), said: Vec::new() };
        let Readers { output, mut disk } = readers;
        let (cause, rest) = {
            let Read { stdout, stderr, said } = &mut read;
            let mut pumping =
                Box::pin(pump(attached.output, [stdout, stderr], self.limits.output_bytes, output.as_ref()));
            let mut listening = Box::pin(listen(place, said));
            let cause = {
                let mut feeding = Box::pin(feed(attached.input, input));
                let mut growing = Box::pin(Sampler::over(disk.as_mut()));
                let mut ending = Box::pin(self.ended());
                let deadline = tokio::time::sleep_until((started + self.limits.wall).into());
                tokio::pin!(deadline);
                let (mut pumped, mut listened) = (None, None);
                let cause = loop {
                    tokio::select! {
                        biased;
                        () = &mut deadline => break Cause::TimedOut,
                        over = &mut growing => { over?; break Cause::DiskLimit }
                        done = &mut pumping, if pumped.is_none() => match done? {
                            Pumped::All => pumped = Some(()),
                            Pumped::TooMuch => break Cause::OutputLimit,
                        },
                        proved = &mut listening, if listened.is_none() => match proved? {
                            true => listened = Some(()),
                            false => break Cause::Unproved,
                        },
                        ended = &mut ending => { ended?; break Cause::Itself }
                        never = &mut feeding => match never {},
                    }
                };
                if cause != Cause::Itself {
                    self.kill().await?;
                    ending.await?;
                }
                (cause, pumped, listened)
            };
            let (cause, pumped, listened) = cause;
            // All who wrote are gone, so there is an end; only a reader who takes too long has it cut off.
            let rest = async {
                if listened.is_none() && cause != Cause::Unproved {
                    listening.await?;
                }
                match (cause, pumped) {
                    (Cause::OutputLimit, _) => Ok(Pumped::TooMuch),
                    (_, Some(())) => Ok(Pumped::All),
                    (_, None) => pumping.await,
                }
            };
            (cause, tokio::time::timeout(GRACE, rest).await)
        };
        let cause = match rest {
            Ok(Err(error)) => return Err(error),
            Ok(Ok(Pumped::TooMuch)) => Cause::OutputLimit,
            Ok(Ok(Pumped::All)) | Err(_) => cause,
        };
        Ok(read.seen(cause, started.elapsed()))
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

    async fn kill(&self) -> Result<(), SandboxError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.engine.kill_container(self.name, Some(options)).await {
            // It ended meanwhile.
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(error) => Err(failed("kill")(error)),
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
    most: u64,
    output: Option<&mpsc::Sender<Chunk>>,
) -> Result<Pumped, SandboxError> {
    let mut written = 0_u64;
    while let Some(piece) = from.next().await {
        let (stream, bytes) = match piece.map_err(failed("read"))? {
            LogOutput::StdOut { message } | LogOutput::Console { message } => (Stream::Stdout, message),
            LogOutput::StdErr { message } => (Stream::Stderr, message),
            LogOutput::StdIn { .. } => continue,
        };
        match stream {
            Stream::Stdout => stdout.push(&bytes),
            Stream::Stderr => stderr.push(&bytes),
        }
        written = written.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if let Some(output) = output {
            // A reader who has gone changes nothing.
            let _gone = output.send(Chunk { stream, bytes: bytes.to_vec() }).await;
        }
        if written > most {
            return Ok(Pumped::TooMuch);
        }
    }
    Ok(Pumped::All)
}

/// Hears what process 1 says, to its end; whether the walls are what they must be.
async fn listen(place: &mut Place, said: &mut Vec<u8>) -> Result<bool, SandboxError> {
    let mut reporter = place.reporter().await.map_err(SandboxError::Io)?;
    let mut piece = [0; 1024];
    loop {
        let length = reporter.read(&mut piece).await.map_err(SandboxError::Io)?;
        let bytes = piece.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(true);
        }
        said.extend_from_slice(bytes);
        let status = Status::parse(said);
        if said.len() > MAX_STATUS_BYTES || (status.started && status.prove().is_err()) {
            return Ok(false);
        }
    }
}

/// Writes the input and closes it. Never done: who reads nothing ends otherwise.
async fn feed(mut stdin: Pin<Box<dyn AsyncWrite + Send>>, input: Vec<u8>) -> Infallible {
    if !input.is_empty() {
        // A command that closes its input, or ends, wants no more of it.
        let _closed = stdin.write_all(&input).await;
        let _closed = stdin.shutdown().await;
    }
    std::future::pending().await
}
