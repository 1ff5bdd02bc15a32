//! Tells systemd how this process is, where it asks to be told (`sd_notify(3)`): one datagram to the socket that
//! `NOTIFY_SOCKET` names. Nowhere else is anything sent, and nothing waits for it.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// The variable that names the socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Pause between two looks at whether both listeners are up.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// After this long nobody waits for a process to be ready.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// It serves. Said by a successor, it is the main process from then on.
    Ready,
    /// It reads its configuration again; [`Note::Ready`] follows.
    Reloading,
    /// It drains, and ends.
    Stopping,
}

impl Note {
    fn text(self) -> String {
        match self {
            Self::Ready => format!("READY=1\nMAINPID={}\nSTATUS=Serving.\n", std::process::id()),
            Self::Reloading => {
                let now = clock_gettime(ClockId::Monotonic);
                let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
                format!("RELOADING=1\nMONOTONIC_USEC={us}\nSTATUS=Reading the configuration again.\n")
            }
            Self::Stopping => "STOPPING=1\nSTATUS=Waiting for running requests.\n".to_owned(),
        }
    }
}

/// Tells it.
pub(crate) fn tell(note: Note) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|socket| !socket.is_empty()) else { return };
    if let Err(err) = send(&socket, &note.text()) {
        tracing::warn!(%err, ?note, "the service manager can't be told");
    }
}

fn send(socket: &OsStr, text: &str) -> std::io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read must not hold anything up.
    sender.set_nonblocking(true)?;
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => send_abstract(&sender, name, text),
        None => sender.send_to(text.as_bytes(), socket).map(|_| ()),
    }
}

#[cfg(target_os = "linux")]
fn send_abstract(sender: &UnixDatagram, name: &[u8], text: &str) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    sender.send_to_addr(text.as_bytes(), &address).map(|_| ())
}

#[cfg(not(target_os = "linux"))]
fn send_abstract(_: &UnixDatagram, _: &[u8], _: &str) -> std::io::Result<()> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "this system has no abstract sockets"))
}

/// Tells that the process is ready once both listeners are up, from a thread of its own.
///
/// # Errors
/// When no thread can be started.
pub(crate) fn ready_when_up(edge: SocketAddr, admin: watch::Receiver<bool>) -> std::io::Result<()> {
    if std::env::var_os(SOCKET).is_none() {
        return Ok(());
    }
    let wait = move || {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if *admin.borrow() && TcpStream::connect_timeout(&edge, Duration::from_secs(1)).is_ok() {
                return tell(Note::Ready);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        tracing::error!("the listeners did not come up; the service manager is not told that they are");
    };
    std::thread::Builder::new().name("notify".to_owned()).spawn(wait).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), &Note::Ready.text()).unwrap();
        let mut text = [0; 256];
        let length = manager.recv(&mut text).unwrap();
        let said = std::str::from_utf8(&text[..length]).unwrap();
        assert!(said.starts_with("READY=1\n") && said.contains(&format!("MAINPID={}\n", std::process::id())));
        assert!(Note::Reloading.text().contains("MONOTONIC_USEC="));
        assert!(send(OsStr::new("/nowhere/notify"), "READY=1").is_err());
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("openclawmu-test-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
            let manager = UnixDatagram::bind_addr(&address).unwrap();
            send(OsStr::new(&format!("@{name}")), "STOPPING=1").unwrap();
            assert_eq!(manager.recv(&mut text).unwrap(), 10);
        }
    }
}
