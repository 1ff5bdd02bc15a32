//! The `/etc` of every run: a directory of the gateway's with what programs need of the host's, none of it about people or
//! machines. One directory is one mount; to mount its seven files one by one took longer than all else that a run begins with.
//!
//! It follows the host's: a certificate that is installed is there in the next run. Must never hold what not everybody on the host
//! may read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

/// Files that are the same everywhere.
const OWN: [(&str, &str); 4] = [
    ("passwd", "root:x:0:0::/:/usr/sbin/nologin\nsandbox:x:1000:1000::/workspace:/bin/sh\n"),
    ("group", "root:x:0:\nsandbox:x:1000:\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("hosts", "127.0.0.1 localhost sandbox\n::1 localhost\n"),
];
/// The host's file that tells where libraries are.
const LIBRARIES: &str = "ld.so.cache";
/// The host's directory of links that say which program is meant by a name: kept as links, into `/usr`.
const ALTERNATIVES: &str = "alternatives";
/// The host's directory of certificates: links out of it are kept as what they lead to.
const CERTIFICATES: &str = "ssl/certs";
/// Directories that it has.
const DIRECTORIES: [&str; 4] = ["", ALTERNATIVES, "ssl", CERTIFICATES];

/// The directory.
#[derive(Debug)]
pub(super) struct Etc {
    host: PathBuf,
    dir: PathBuf,
    /// When the host's were changed that it was made of.
    as_of: Mutex<Option<AsOf>>,
}

/// Seconds and nanoseconds of each source's last change; absent where there is none.
type AsOf = [Option<(i64, i64)>; 3];

/// What stands at a name.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(PathBuf),
}

impl Etc {
    /// Makes it in `dir`, or what is different in one that is there: several gateways may use it at once.
    pub(super) fn prepare(host: &Path, dir: &Path) -> io::Result<Self> {
        let etc = Self { host: host.to_owned(), dir: dir.to_owned(), as_of: Mutex::new(None) };
        etc.follow()?;
        Ok(etc)
    }

    /// A handle of it, as the host's is now.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.follow()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.dir, flags, Mode::empty())?)
    }

    fn follow(&self) -> io::Result<()> {
        let mut as_of = self.as_of.lock().unwrap_or_else(PoisonError::into_inner);
        let now = [LIBRARIES, ALTERNATIVES, CERTIFICATES].map(|name| {
            let found = fs::metadata(self.host.join(name)).ok()?;
            Some((found.mtime(), found.mtime_nsec()))
        });
        if *as_of != Some(now) {
            write(&self.dir, &wanted(&self.host))?;
            *as_of = Some(now);
        }
        Ok(())
    }
}

/// All that is to be there.
fn wanted(host: &Path) -> BTreeMap<PathBuf, Entry> {
    let own = OWN.iter().map(|(name, text)| (PathBuf::from(name), Entry::File((*text).into())));
    let mut all: BTreeMap<_, _> = own.collect();
    let mut put = |name: PathBuf, entry: Option<Entry>| all.extend(entry.map(|entry| (name, entry)));
    put(LIBRARIES.into(), readable(&host.join(LIBRARIES)));
    for name in names(&host.join(ALTERNATIVES)) {
        let link = fs::read_link(host.join(ALTERNATIVES).join(&name)).ok().map(Entry::Link);
        put(Path::new(ALTERNATIVES).join(name), link);
    }
    for name in names(&host.join(CERTIFICATES)) {
        let at = host.join(CERTIFICATES).join(&name);
        let beside = fs::read_link(&at).ok().filter(|target| target.components().count() == 1).map(Entry::Link);
        put(Path::new(CERTIFICATES).join(name), beside.or_else(|| readable(&at)));
    }
    all
}

/// A directory's entries; none where there is none.
fn names(dir: &Path) -> Vec<OsString> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect()
}

/// A regular file that everybody may read, links followed; a certificate's key, for example, is not one.
fn readable(path: &Path) -> Option<Entry> {
    let found = fs::metadata(path).ok().filter(|found| found.is_file() && found.mode() & 0o004 != 0)?;
    let bytes = fs::read(path).ok()?;
    // Looked at once more: what was read is what everybody may read only if it is still the same file.
    let again = fs::metadata(path).ok()?;
    (again.ino() == found.ino() && again.mode() == found.mode()).then_some(Entry::File(bytes))
}

/// Makes `dir` hold this and nothing else. Each name has its old content or the new one at any time.
fn write(dir: &Path, wanted: &BTreeMap<PathBuf, Entry>) -> io::Result<()> {
    for below in DIRECTORIES {
        let made = DirBuilder::new().mode(0o755).create(dir.join(below));
        if let Err(err) = made
            && err.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(err);
        }
        // Whatever the umask is.
        fs::set_permissions(dir.join(below), Permissions::from_mode(0o755))?;
        for name in names(&dir.join(below)) {
            let name = Path::new(below).join(name);
            let kept = wanted.contains_key(&name) || DIRECTORIES.iter().any(|dir| Path::new(dir) == name);
            if !kept {
                absent_is_fine(fs::remove_file(dir.join(name)))?;
            }
        }
    }
    for (name, entry) in wanted {
        put(dir, name, entry)?;
    }
    Ok(())
}

fn put(dir: &Path, name: &Path, entry: &Entry) -> io::Result<()> {
    let at = dir.join(name);
    let fresh = dir.join(format!("fresh-{}", std::process::id()));
    match entry {
        Entry::File(bytes) => {
            let found = fs::symlink_metadata(&at);
            let same = found.is_ok_and(|found| found.is_file() && found.mode() & 0o777 == 0o444);
            if same && fs::read(&at).is_ok_and(|found| found == *bytes) {
                return Ok(());
            }
            absent_is_fine(fs::remove_file(&fresh))?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o444).open(&fresh)?;
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(0o444))?;
        }
        Entry::Link(target) => {
            if fs::read_link(&at).is_ok_and(|found| found == *target) {
                return Ok(());
            }
            absent_is_fine(fs::remove_file(&fresh))?;
            symlink(target, &fresh)?;
        }
    }
    fs::rename(&fresh, &at)
}

fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        for dir in ["alternatives", "ssl", "ssl/certs", "elsewhere"] {
            fs::create_dir(host.path().join(dir)).unwrap();
        }
        let write = |name: &str, text: &str, mode| {
            fs::write(host.path().join(name), text).unwrap();
            fs::set_permissions(host.path().join(name), Permissions::from_mode(mode)).unwrap();
        };
        write("shadow", "root:secret", 0o644);
        write("ld.so.cache", "cache", 0o644);
        write("elsewhere/ca.crt", "from elsewhere", 0o644);
        write("ssl/certs/bundle.crt", "bundle", 0o644);
        write("ssl/certs/server.key", "a key", 0o640);
        symlink("/usr/bin/vim", host.path().join("alternatives/editor")).unwrap();
        symlink("../../elsewhere/ca.crt", host.path().join("ssl/certs/ca.pem")).unwrap();
        symlink("bundle.crt", host.path().join("ssl/certs/0a1b2c3d.0")).unwrap();
        symlink("/nowhere", host.path().join("ssl/certs/dangling")).unwrap();
        host
    }

    #[test]
    fn it_holds_what_programs_need_and_nothing_else_of_the_host() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        let dir = dir.path().join("etc");
        Etc::prepare(host.path(), &dir).unwrap();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("ld.so.cache"), "cache");
        assert_eq!(read("ssl/certs/ca.pem"), "from elsewhere");
        assert_eq!(read("ssl/certs/0a1b2c3d.0"), "bundle");
        assert_eq!(fs::read_link(dir.join("alternatives/editor")).unwrap(), Path::new("/usr/bin/vim"));
        let mut all = names(&dir);
        all.sort();
        assert_eq!(all, ["alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd", "ssl"]);
        let mut certificates = names(&dir.join("ssl/certs"));
        certificates.sort();
        assert_eq!(certificates, ["0a1b2c3d.0", "bundle.crt", "ca.pem"], "no key, and nothing that leads nowhere");
        assert!(!read("passwd").contains("secret"));
        assert_eq!(fs::metadata(dir.join("passwd")).unwrap().mode() & 0o777, 0o444);
        assert_eq!(fs::metadata(dir.join("ssl")).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn it_follows_the_host() {
        let (host, dir) = (host(), tempfile::tempdir().unwrap());
        let dir = dir.path().join("etc");
        let etc = Etc::prepare(host.path(), &dir).unwrap();
        let before = fs::metadata(dir.join("ssl/certs/bundle.crt")).unwrap().ino();
        fs::write(host.path().join("ssl/certs/new.crt"), "new").unwrap();
        fs::remove_file(host.path().join("ssl/certs/ca.pem")).unwrap();
        etc.handle().unwrap();
        assert_eq!(fs::read_to_string(dir.join("ssl/certs/new.crt")).unwrap(), "new");
        assert!(!dir.join("ssl/certs/ca.pem").exists());
        assert_eq!(fs::metadata(dir.join("ssl/certs/bundle.crt")).unwrap().ino(), before, "what is the same stays");
        // Another gateway that starts finds it as it is.
        Etc::prepare(host.path(), &dir).unwrap();
        assert_eq!(fs::metadata(dir.join("ssl/certs/bundle.crt")).unwrap().ino(), before);
    }

    #[test]
    fn a_host_without_any_of_it_is_served_too() {
        let (host, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let etc = Etc::prepare(host.path(), &dir.path().join("etc")).unwrap();
        etc.handle().unwrap();
        assert!(dir.path().join("etc/passwd").exists());
    }
}
