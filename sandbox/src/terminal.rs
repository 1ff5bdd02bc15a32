//! A terminal for one run: [`Pty`], the end that the gateway holds; [`Terminal`], the end that goes into the job; [`Line`], what the
//! two sides tell each other besides.
//!
//! When the leader of a session ends, the kernel hangs its terminal up and throws away what is on its way to the outer end. So
//! process 1 says that the command has ended and waits until the outer end was read empty: whoever holds the [`Line`] lets go of
//! the [`Held`] that it is given. Must never block a thread: the outer end is asked only when the system says that it is ready.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// The outer end of a terminal that was made for one run.
#[derive(Debug)]
pub struct Pty(AsyncFd<OwnedFd>);

/// The inner end of a terminal, which becomes the run's controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    pub(crate) inner: OwnedFd,
    pub(crate) told: Option<Told>,
}

/// What happens to a run at a terminal, as its owner hears of it. Dropping it changes nothing.
#[derive(Debug)]
pub struct Line {
    /// The walls are proved, and the command is in front of the terminal: what is typed now is its own. An error if it never came
    /// to that.
    pub started: oneshot::Receiver<()>,
    /// The command has ended. What it wrote can be read as long as the [`Held`] is there, for two seconds at most.
    pub ended: oneshot::Receiver<Held>,
    /// Ends the run with [`Ended::Stopped`](crate::Ended::Stopped).
    pub stop: oneshot::Sender<()>,
}

/// While this is there the terminal of a command that has ended is not hung up.
#[derive(Debug)]
pub struct Held {
    _until: oneshot::Sender<Infallible>,
}

/// The other side of a [`Line`].
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) started: Option<oneshot::Sender<()>>,
    pub(crate) ended: Option<oneshot::Sender<Held>>,
    pub(crate) stop: Option<oneshot::Receiver<()>>,
}

impl Pty {
    /// A fresh terminal of that many columns and rows. Must be called within a runtime, which is where it is read.
    ///
    /// # Errors
    /// Those of the system, such as no terminal left.
    pub fn open(cols: u16, rows: u16) -> io::Result<(Self, Terminal, Line)> {
        let outer = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::io::fcntl_setfd(&outer, rustix::io::FdFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&outer, rustix::fs::fcntl_getfl(&outer)? | OFlags::NONBLOCK)?;
        grantpt(&outer)?;
        unlockpt(&outer)?;
        let name = ptsname(&outer, Vec::new())?;
        let inner = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let pty = Self(registered(outer)?);
        pty.resize(cols, rows)?;
        let (start, started) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (stop, stopped) = oneshot::channel();
        let told = Told { started: Some(start), ended: Some(end), stop: Some(stopped) };
        Ok((pty, Terminal { inner, told: Some(told) }, Line { started, ended, stop }))
    }

    /// Waits for output and reads it; 0 when nothing can come any more. Dropping what this gives loses nothing.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|outer| rustix::io::read(outer.get_ref(), &mut *buffer).map_err(Into::into));
            if let Ok(read) = read {
                return hung_up_is_the_end(read);
            }
        }
    }

    /// Reads what is there; `None` if the command wrote nothing more until now, 0 when nothing can come any more.
    ///
    /// # Errors
    /// Those of the system.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(self.0.get_ref(), buffer) {
            Err(Errno::AGAIN) => Ok(None),
            read => hung_up_is_the_end(read.map_err(Into::into)).map(Some),
        }
    }

    /// Types as much of this as the terminal takes, when it takes something.
    ///
    /// # Errors
    /// Those of the system.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            let written = ready.try_io(|outer| rustix::io::write(outer.get_ref(), bytes).map_err(Into::into));
            if let Ok(written) = written {
                return written;
            }
        }
    }

    /// Gives it another size; who is in front is told by `SIGWINCH`.
    ///
    /// # Errors
    /// Those of the system.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(self.0.get_ref(), size)?)
    }

    /// Whether the terminal shows what is typed; programs that ask for a secret turn that off.
    ///
    /// # Errors
    /// Those of the system.
    pub fn echoes(&self) -> io::Result<bool> {
        Ok(tcgetattr(self.0.get_ref().as_fd())?.local_modes.contains(LocalModes::ECHO))
    }
}

impl Told {
    pub(crate) fn started(&mut self) {
        if let Some(started) = self.started.take() {
            // Whoever asked may have gone.
            let _ = started.send(());
        }
    }

    /// Tells that the command has ended; what this gives comes to an end when all it wrote was read.
    pub(crate) fn ended(&mut self) -> Option<oneshot::Receiver<Infallible>> {
        let (until, read) = oneshot::channel();
        self.ended.take()?.send(Held { _until: until }).ok()?;
        Some(read)
    }
}

/// Comes to an end when the run is to be stopped, and never if nobody can ask for it.
pub(crate) async fn stopped(stop: Option<oneshot::Receiver<()>>) {
    let asked = match stop {
        Some(stop) => stop.await.is_ok(),
        None => false,
    };
    if !asked {
        std::future::pending::<()>().await;
    }
}

/// The kernel calls it an error when nobody holds the inner end any more.
fn hung_up_is_the_end(read: io::Result<usize>) -> io::Result<usize> {
    match read {
        Err(err) if Errno::from_io_error(&err) == Some(Errno::IO) => Ok(0),
        read => read,
    }
}

#[allow(unsafe_code, reason = "tokio takes descriptors on trust")]
fn registered(outer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor stays open, and the same one, until it is dropped with what it is registered in.
    unsafe { AsyncFd::register(outer) }.map_err(io::Error::from)
}
