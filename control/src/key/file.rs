//! A secret in a file of its own: readable by its owner alone, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::KeyError;

/// No key file is longer.
const MAX_BYTES: u64 = 4096;

/// The secret in `path`, without the whitespace around it; `None` when there is no file.
pub(super) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(failed(err)),
    };
    // Of the open file, so that nothing can be swapped in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(Zeroizing::new(text.trim().to_owned())))
}

/// Writes a new file with mode 0600. Where there is one already it stays, and the answer is `false`.
pub(super) fn create(path: &Path, secret: &str) -> Result<bool, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let draft = draft(path)?;
    let written = write(&draft, secret).and_then(|()| {
        // A link never replaces: of two processes that start at once, one makes the key and both use it.
        match fs::hard_link(&draft, path) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(err) => Err(err),
        }
    });
    let removed = fs::remove_file(&draft);
    let created = written.map_err(failed)?;
    removed.map_err(failed)?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    Ok(created)
}

/// Puts a file with mode 0600 in the place of the one that is there: the old one or the new one, whole, whatever happens.
pub(super) fn replace(path: &Path, secret: &str) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let draft = draft(path)?;
    if let Err(err) = write(&draft, secret).and_then(|()| fs::rename(&draft, path)) {
        // It may not even be there.
        drop(fs::remove_file(&draft));
        return Err(failed(err));
    }
    match path.parent() {
        Some(dir) => File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed),
        None => Ok(()),
    }
}

fn write(path: &Path, secret: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// A name beside `path` that nobody else uses.
fn draft(path: &Path) -> Result<PathBuf, KeyError> {
    let suffix = getrandom::u64().map_err(KeyError::NoRandom)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix:016x}"));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_written_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        assert!(read(&path).unwrap().is_none());
        assert!(create(&path, "first").unwrap());
        assert!(!create(&path, "second").unwrap());
        assert_eq!(read(&path).unwrap().unwrap().as_str(), "first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        create(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let err = read(&path).unwrap_err().to_string();
            assert!(err.contains("chmod 600"), "{err}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }
}
