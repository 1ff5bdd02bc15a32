//! What every rule is tried against: a tenant's root, and beside it what must never be opened.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use openclawmu_sandbox::{PathError, RelPath, Root};
use tempfile::TempDir;

/// What lies outside the root, in every file there.
pub(crate) const CANARY: &str = "canary: another tenant's secret";
/// What lies inside, in every file that is there at first.
pub(crate) const INSIDE: &str = "inside";

/// `t1` is the root. Beside it: the sibling `t1-evil`, a directory `outside` and a file `canary.txt`.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) root: Root,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["outside", "t1-evil"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("secret.txt"), CANARY).unwrap();
        }
        fs::write(dir.path().join("canary.txt"), CANARY).unwrap();
        let root = Root::create(&dir.path().join("t1")).unwrap();
        fs::create_dir(dir.path().join("t1/dir")).unwrap();
        fs::write(dir.path().join("t1/file.txt"), INSIDE).unwrap();
        fs::write(dir.path().join("t1/dir/file.txt"), INSIDE).unwrap();
        Self { dir, root }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.dir.path().join("t1").join(name)
    }

    /// All that lies outside is what it was at first: no more, no less, nothing changed.
    pub(crate) fn assert_outside_untouched(&self) {
        assert_eq!(names(self.path()), ["canary.txt", "outside", "t1", "t1-evil"]);
        assert_eq!(fs::read_to_string(self.path().join("canary.txt")).unwrap(), CANARY);
        for name in ["outside", "t1-evil"] {
            let dir = self.path().join(name);
            assert_eq!(names(&dir), ["secret.txt"]);
            assert_eq!(fs::read_to_string(dir.join("secret.txt")).unwrap(), CANARY);
        }
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn rel(encoded: &str) -> RelPath {
    RelPath::from_encoded(encoded).unwrap()
}

pub(crate) fn read_text(root: &Root, path: &RelPath) -> Result<String, PathError> {
    let mut text = String::new();
    root.read(path)?.read_to_string(&mut text).unwrap();
    Ok(text)
}

type Method = (&'static str, fn(&Root, &RelPath) -> Result<(), PathError>);

/// Every method that takes a path, as a client would drive it. `file.txt` is there to be renamed.
pub(crate) const EVERY_METHOD: [Method; 14] = [
    ("read", |root, path| root.read(path).map(drop)),
    ("metadata", |root, path| root.metadata(path).map(drop)),
    ("list", |root, path| root.list(Some(path), None, 10).map(drop)),
    ("list after", |root, path| root.list(Some(path), Some(OsStr::new("a")), 10).map(drop)),
    ("descend", |root, path| root.descend(path).map(drop)),
    ("append", |root, path| root.append(path).map(|mut file| file.write_all(b"written").unwrap())),
    ("stage", |root, path| root.stage(path).map(drop)),
    ("replace", |root, path| root.replace(path, b"written")),
    ("create_new", |root, path| root.create_new(path, b"written")),
    ("create_dir_all", |root, path| root.create_dir_all(path)),
    ("rename from", |root, path| root.rename(path, &rel("renamed"))),
    ("rename to", |root, path| root.rename(&rel("file.txt"), path)),
    ("remove_tree", |root, path| root.remove_tree(path)),
    ("remove_file", |root, path| root.remove_file(path)),
];

/// 400: refused before any system call.
pub(crate) fn is_400(error: &PathError) -> bool {
    matches!(
        error,
        PathError::Empty | PathError::Escape | PathError::Forbidden | PathError::TooLong | PathError::BadEncoding
    )
}

/// 404: what a client cannot tell from a file that is not there.
pub(crate) fn is_404(error: &PathError) -> bool {
    matches!(error, PathError::NotFound | PathError::Refused)
}
