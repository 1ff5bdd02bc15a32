//! Whose runs these are: each process has a directory of its own for them, with a lock that it holds as long as it lives.
//!
//! An engine's containers outlive whoever made them, and two gateways use one engine and one data directory while one hands over
//! to the other. So nothing is ever removed but what belongs to an owner whose lock is free, or whom nobody knows.

use std::fs::{self, DirBuilder, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The file whose lock is held.
const LOCK: &str = "lock";

/// This process, as the owner of runs.
#[derive(Debug)]
pub(super) struct Owner {
    name: String,
    dir: PathBuf,
    _lock: File,
}

impl Owner {
    /// Makes its directory in `runs`; it is there under its name only when its lock is held.
    pub(super) fn begin(runs: &Path) -> io::Result<Self> {
        let private = |recursive: bool, dir: &Path| DirBuilder::new().recursive(recursive).mode(0o700).create(dir);
        private(true, runs)?;
        // Short, as sockets below it need; that it is new is checked by the making.
        let name = format!("{:08x}", RandomState::new().build_hasher().finish() & 0xffff_ffff);
        let (dir, coming) = (runs.join(&name), runs.join(format!(".{name}")));
        private(false, &coming)?;
        let lock = File::create_new(coming.join(LOCK))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(&coming, &dir)?;
        Ok(Self { name, dir, _lock: lock })
    }

    /// What its containers are labelled with.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Where its runs report to.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Whether the owner of that name in `runs` lives.
pub(super) fn lives(runs: &Path, name: &str) -> io::Result<bool> {
    let lock = match File::open(runs.join(name).join(LOCK)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(false);
        }
        opened => opened?,
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the directories of the dead.
pub(super) fn remove_dead(runs: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(runs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // One that begins with a dot is about to be somebody's.
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        if !lives(runs, name)? {
            match fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x37_what_belongs_to_the_living_stays_and_what_belongs_to_the_dead_goes() {
        let place = tempfile::tempdir().unwrap();
        let runs = place.path().join("runs");
        assert!(!lives(&runs, "nobody").unwrap());
        remove_dead(&runs).unwrap();
        let (one, other) = (Owner::begin(&runs).unwrap(), Owner::begin(&runs).unwrap());
        assert_ne!(one.name(), other.name());
        fs::create_dir_all(runs.join("7")).unwrap();
        let dead = other.name().to_owned();
        fs::create_dir(other.dir().join("0")).unwrap();
        assert!(lives(&runs, one.name()).unwrap() && lives(&runs, &dead).unwrap());
        drop(other);
        assert!(!lives(&runs, &dead).unwrap());
        remove_dead(&runs).unwrap();
        let left: Vec<_> = fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [one.name()]);
    }
}
