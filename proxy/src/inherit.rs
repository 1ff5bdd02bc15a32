//! The operator's listener in a hand-over: the successor gets the very socket, so that there is no moment at which nobody
//! listens, and who connects meanwhile waits in its queue. (Pingora hands over only the sockets of its own services.)
//!
//! A successor listens at a path in the data directory before it asks for the edge's sockets. The predecessor connects there as
//! soon as those are gone, and leaves the socket in the connection, where it stays until it is taken, however soon the
//! predecessor ends.

use std::io::{ErrorKind, IoSlice, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The byte that a descriptor travels with.
const WORD: [u8; 1] = *b"a";

/// Where a successor in this data directory listens.
fn path(data: &Path) -> PathBuf {
    data.join("handover.sock")
}

/// A successor that waits for the operator's listener. Its path goes with it.
pub(crate) struct Heir {
    listener: UnixListener,
    path: PathBuf,
}

impl Heir {
    /// Listens.
    pub(crate) fn wait(data: &Path) -> Result<Self> {
        let path = path(data);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path })
    }

    /// The listener, if the predecessor has left one of this address. One that is older than this program leaves none.
    pub(crate) fn take(self, address: SocketAddr) -> Option<TcpListener> {
        match self.received() {
            Ok(given) => given.filter(|given| given.local_addr().is_ok_and(|own| own == address)),
            Err(err) => {
                tracing::warn!(%err, "the predecessor's admin listener can't be taken over; its address will be");
                None
            }
        }
    }

    fn received(&self) -> Result<Option<TcpListener>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(err) => return Err(err),
        };
        // What was left is there already: this never waits.
        stream.set_nonblocking(true)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let (mut control, mut word) = (RecvAncillaryBuffer::new(&mut space), WORD);
        recvmsg(&stream, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::empty())?;
        let given = control.drain().find_map(|message| {
            if let RecvAncillaryMessage::ScmRights(mut given) = message { given.next() } else { None }
        });
        // What this process starts has no business with it. (Nothing is started yet.)
        given.as_ref().map_or(Ok(()), |given| fcntl_setfd(given, FdFlags::CLOEXEC))?;
        Ok(given.map(TcpListener::from))
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_file(&self.path) {
            tracing::debug!(%err, "the hand-over's socket is gone already");
        }
    }
}

/// Leaves `listener` to the successor that waits in this data directory.
///
/// # Errors
/// Where there is none: it is older than this program, and waits until the address is free.
pub(crate) fn leave(data: &Path, listener: impl AsFd) -> Result<()> {
    let stream = UnixStream::connect(path(data))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let listeners = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&listeners));
    sendmsg(&stream, &[IoSlice::new(&WORD)], &mut control, SendFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_listener_is_taken_over_with_those_who_wait_in_its_queue() {
        let dir = tempfile::tempdir().unwrap();
        let heir = Heir::wait(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        leave(dir.path(), &listener).unwrap();
        drop(listener);
        let own = heir.take(address).unwrap();
        let (_, who) = own.accept().unwrap();
        assert_eq!(who, waiting.local_addr().unwrap());
        assert!(!path(dir.path()).exists(), "the way is closed again");
        assert!(leave(dir.path(), &own).is_err(), "nobody waits");
    }

    #[test]
    fn without_a_predecessor_or_with_another_address_there_is_nothing_to_take() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        assert!(Heir::wait(dir.path()).unwrap().take(nowhere).is_none());
        let heir = Heir::wait(dir.path()).unwrap();
        leave(dir.path(), TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        assert!(heir.take(nowhere).is_none());
    }
}
