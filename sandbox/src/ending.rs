//! Why a run ended, and what that is called: the same for every backend.

use std::time::Duration;

use crate::status::{End, Status};
use crate::{Ended, SandboxError};

/// How long a reader may take for the rest after the end.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// What ended a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Itself,
    TimedOut,
    OutputLimit,
    DiskLimit,
    /// By who had it run.
    Stopped,
    /// What holds it was not proved.
    Unproved,
}

/// Whether process 1 went on at all.
///
/// # Errors
/// [`SandboxError::Helper`] where it refused.
pub(crate) fn begun(status: &Status) -> Result<(), SandboxError> {
    match &status.end {
        Some(End::Refused(why)) => Err(SandboxError::Helper(why.clone())),
        Some(End::Exited(_) | End::Signalled(_) | End::Unstarted(_)) | None => Ok(()),
    }
}

/// How a run ended: its name, the exit code that a shell would show, and the signal. `out_of_memory` is whether anything of it was
/// killed for its memory.
///
/// # Errors
/// [`SandboxError::Unproved`].
pub(crate) fn ended(
    cause: Cause,
    status: &Status,
    out_of_memory: bool,
) -> Result<(Ended, u8, Option<u8>), SandboxError> {
    let (code, signal) = status.shown();
    let ended = match cause {
        Cause::TimedOut => Ended::TimedOut,
        Cause::OutputLimit => Ended::OutputLimit,
        Cause::DiskLimit => Ended::DiskLimit,
        Cause::Stopped => Ended::Stopped,
        Cause::Unproved => return Err(SandboxError::Unproved("process 1 said too much".to_owned())),
        Cause::Itself if out_of_memory && code != 0 => Ended::OutOfMemory,
        Cause::Itself if signal.is_some() => Ended::Signalled,
        Cause::Itself => Ended::Exited,
    };
    Ok((ended, code, signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_killed_a_run_comes_before_how_it_looked() {
        let killed = Status::parse(b"seccomp 2\nstarted\nsignalled 9\n");
        let name = |cause, oom| ended(cause, &killed, oom).unwrap().0;
        assert_eq!(name(Cause::TimedOut, false), Ended::TimedOut);
        assert_eq!(name(Cause::DiskLimit, true), Ended::DiskLimit);
        assert_eq!(name(Cause::Itself, true), Ended::OutOfMemory);
        assert_eq!(name(Cause::Itself, false), Ended::Signalled);
        let good = Status::parse(b"seccomp 2\nstarted\nexited 0\n");
        assert_eq!(ended(Cause::Itself, &good, true).unwrap(), (Ended::Exited, 0, None), "a child of its was killed");
        assert!(ended(Cause::Unproved, &good, false).is_err());
        assert!(begun(&good).is_ok() && begun(&Status::parse(b"refused no\n")).is_err());
    }
}
