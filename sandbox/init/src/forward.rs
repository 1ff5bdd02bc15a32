//! Bytes between the proxy's port inside and the socket of the run's allow-list. One thread, one `poll`, a bounded number of
//! connections: more of them wait in the kernel's queue. What the bytes say is the other side's to judge.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Where the command finds the proxy.
const PORT: u16 = 3128;
/// Connections at once.
const MAX_PAIRS: usize = 128;
/// Of each direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long it waits where the system has no descriptor left for a connection.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// The forwarder, listening.
pub(crate) struct Forwarder {
    listener: TcpListener,
    socket: PathBuf,
    pairs: Vec<Pair>,
}

/// A client and its connection to the socket.
struct Pair {
    client: TcpStream,
    socket: UnixStream,
    out: Flow,
    back: Flow,
}

/// One direction of a connection.
struct Flow {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Nothing more comes in.
    ended: bool,
    /// The other side knows.
    told: bool,
}

/// What a flow ends in.
trait Sink: Write {
    fn end(&self) -> io::Result<()>;
}

impl Sink for &TcpStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Sink for &UnixStream {
    fn end(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Forwarder {
    /// Listens; `socket` is connected to once for each client.
    pub(crate) fn bind(socket: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, socket: socket.to_owned(), pairs: Vec::new() })
    }

    /// Forwards until the process ends.
    pub(crate) fn run(mut self) {
        loop {
            match self.ready() {
                Ok((newcomer, ready)) => {
                    self.pump(&ready);
                    if newcomer {
                        self.accept();
                    }
                }
                Err(Errno::INTR) => {}
                // Out of memory: what is connected waits as well.
                Err(_) => thread::sleep(OUT_OF_DESCRIPTORS),
            }
        }
    }

    /// Waits until something can be done: whether somebody connects, and the pairs that can go on.
    fn ready(&self) -> Result<(bool, Vec<usize>), Errno> {
        let mut owners = Vec::with_capacity(1 + 2 * self.pairs.len());
        let mut asked = Vec::with_capacity(1 + 2 * self.pairs.len());
        if self.pairs.len() < MAX_PAIRS {
            owners.push(None);
            asked.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        for (index, pair) in self.pairs.iter().enumerate() {
            for (fd, flags) in pair.interests() {
                // An end that nothing is wanted of would report its hang-up over and over.
                if !flags.is_empty() {
                    owners.push(Some(index));
                    asked.push(PollFd::from_borrowed_fd(fd, flags));
                }
            }
        }
        poll(&mut asked, None)?;
        let mut newcomer = false;
        let mut ready = Vec::new();
        for (owner, asked) in owners.into_iter().zip(&asked) {
            match owner {
                _ if asked.revents().is_empty() => {}
                None => newcomer = true,
                Some(index) if ready.last() == Some(&index) => {}
                Some(index) => ready.push(index),
            }
        }
        Ok((newcomer, ready))
    }

    /// Moves what can be moved; a pair that is done or broken goes.
    fn pump(&mut self, ready: &[usize]) {
        for index in ready.iter().rev() {
            let over = self.pairs.get_mut(*index).is_some_and(|pair| pair.pump().unwrap_or(true));
            if over {
                self.pairs.swap_remove(*index);
            }
        }
    }

    fn accept(&mut self) {
        let connect = || -> io::Result<Pair> {
            let (client, _) = self.listener.accept()?;
            let socket = UnixStream::connect(&self.socket)?;
            client.set_nonblocking(true)?;
            client.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            Ok(Pair { client, socket, out: Flow::new(), back: Flow::new() })
        };
        match connect() {
            Ok(pair) => self.pairs.push(pair),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) => {
                thread::sleep(OUT_OF_DESCRIPTORS);
            }
            // That client is gone, or the run's proxy is: it sees its connection closed.
            Err(_) => {}
        }
    }
}

impl Pair {
    fn interests(&self) -> [(BorrowedFd<'_>, PollFlags); 2] {
        let of = |reads: &Flow, writes: &Flow| {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, reads.wants_in());
            flags.set(PollFlags::OUT, writes.wants_out());
            flags
        };
        [(self.client.as_fd(), of(&self.out, &self.back)), (self.socket.as_fd(), of(&self.back, &self.out))]
    }

    /// Whether both directions are over.
    fn pump(&mut self) -> io::Result<bool> {
        self.out.pump(&self.client, &self.socket)?;
        self.back.pump(&self.socket, &self.client)?;
        Ok(self.out.told && self.back.told)
    }
}

impl Flow {
    fn new() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, ended: false, told: false }
    }

    fn wants_in(&self) -> bool {
        !self.ended && self.start == self.end
    }

    fn wants_out(&self) -> bool {
        self.start < self.end
    }

    /// Reads at most one buffer and writes as much of it as goes.
    fn pump(&mut self, mut from: impl Read, mut to: impl Sink) -> io::Result<()> {
        if self.wants_in() {
            match from.read(&mut self.buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => (self.start, self.end) = (0, count),
                Err(error) if is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
        while let Some(rest) = self.buffer.get(self.start..self.end).filter(|rest| !rest.is_empty()) {
            match to.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.start += count,
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.ended && !self.told {
            self.told = true;
            to.end()?;
        }
        Ok(())
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one byte at a time, and every other time none.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        turn: bool,
        ended: std::cell::Cell<bool>,
    }

    impl Write for &mut Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn = !self.turn;
            if self.turn {
                self.taken.extend(bytes.first());
                Ok(1)
            } else {
                Err(ErrorKind::WouldBlock.into())
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for &mut Slow {
        fn end(&self) -> io::Result<()> {
            self.ended.set(true);
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_slow_gets_every_byte_and_then_the_end() {
        let (mut flow, mut slow) = (Flow::new(), Slow::default());
        let sent: Vec<u8> = (0..=255).cycle().take(3 * BUFFER_BYTES + 7).collect();
        let mut from = sent.as_slice();
        while !flow.told {
            assert!(!slow.ended.get());
            flow.pump(&mut from, &mut slow).unwrap();
        }
        assert_eq!(slow.taken, sent);
        assert!(slow.ended.get() && !flow.wants_in() && !flow.wants_out());
    }

    #[test]
    fn a_broken_end_breaks_the_pair() {
        let (client, other) = UnixStream::pair().unwrap();
        let mut flow = Flow::new();
        drop(other);
        assert!(flow.pump(&b"x"[..], &client).is_err(), "nobody can read it");
    }
}
