//! Bytes that bubblewrap reads from a descriptor: in memory, sealed, with no name in any file system.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};

/// Bytes that nobody can change any more.
#[derive(Debug)]
pub(super) struct Sealed(OwnedFd);

impl Sealed {
    /// Puts `bytes` there. `name` is what `/proc` shows.
    pub(super) fn new(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let made = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(made);
        file.write_all(bytes)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        // Opened anew for reading alone: what is open for writing somewhere can't be run.
        open(&file).map(Self)
    }

    /// A descriptor of its own, at the beginning.
    pub(super) fn reader(&self) -> io::Result<OwnedFd> {
        open(&self.0)
    }
}

fn open(of: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", of.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn sealed_bytes_are_read_from_the_beginning_each_time_and_never_written() {
        let sealed = Sealed::new("test", b"text").unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            File::from(sealed.reader().unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, "text");
        }
        assert!(File::from(sealed.reader().unwrap()).write_all(b"x").is_err());
    }
}
