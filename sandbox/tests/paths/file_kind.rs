//! P-05: only regular files with one name are opened: no hard link to another tenant's file, no
//! pipe, socket, device or directory in a file's place, and none of them hangs the caller.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use openclawmu_sandbox::{Kind, PathError, Root};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use crate::place::{CANARY, INSIDE, Place, read_text, rel};

/// Fails if `run` blocks: opening a pipe the plain way waits for its other end for ever.
fn within_deadline<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || done.send(run()));
    outcome.recv_timeout(Duration::from_secs(20)).expect("the call hangs")
}

/// Neither opened nor described nor written nor moved; seen in the listing, and removable.
fn assert_untouchable(place: Place, name: &'static str) -> Place {
    within_deadline(move || {
        let (root, path) = (&place.root, rel(name));
        assert!(matches!(root.read(&path), Err(PathError::Refused)), "read {name}");
        assert!(matches!(root.append(&path), Err(PathError::Refused)), "append {name}");
        assert!(matches!(root.replace(&path, b"evil"), Err(PathError::Refused)), "replace {name}");
        assert!(matches!(root.create_new(&path, b"evil"), Err(PathError::Refused)), "create_new {name}");
        assert!(matches!(root.metadata(&path), Err(PathError::Refused)), "metadata {name}");
        assert!(matches!(root.rename(&path, &rel("moved")), Err(PathError::Refused)), "rename {name}");
        assert!(matches!(root.rename(&rel("file.txt"), &path), Err(PathError::Conflict)), "rename onto {name}");
        assert!(matches!(root.create_dir_all(&path), Err(PathError::Conflict)), "create_dir_all {name}");
        assert!(matches!(root.list(Some(&path), None, 10), Err(PathError::NotFound)), "list {name}");
        assert!(matches!(root.remove_tree(&path), Err(PathError::NotFound)), "remove_tree {name}");
        let listed = root.list(None, None, 100).unwrap();
        let entry = listed.entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(entry.metadata.kind, Kind::Other);
        root.remove_file(&path).unwrap();
        assert!(matches!(root.read(&path), Err(PathError::NotFound)), "{name} is still there");
        place
    })
}

#[test]
fn p05_a_hard_link_to_another_tenants_file_is_refused() {
    let place = Place::new();
    fs::hard_link(place.path().join("t1-evil/secret.txt"), place.inside("stolen")).unwrap();
    assert_eq!(fs::read_to_string(place.inside("stolen")).unwrap(), CANARY, "the link itself works");
    assert_untouchable(place, "stolen").assert_outside_untouched();
}

#[test]
fn p05_a_file_that_lost_its_second_name_opens_again() {
    let place = Place::new();
    fs::hard_link(place.inside("file.txt"), place.inside("twin")).unwrap();
    assert!(matches!(place.root.read(&rel("file.txt")), Err(PathError::Refused)));
    place.root.remove_file(&rel("twin")).unwrap();
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
}

#[test]
fn p05_a_pipe_is_refused_and_does_not_hang() {
    let place = Place::new();
    mknodat(CWD, place.inside("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_untouchable(place, "pipe").assert_outside_untouched();
}

#[test]
fn p05_a_pipe_with_a_reader_is_not_written_to() {
    let place = Place::new();
    mknodat(CWD, place.inside("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
    let reader = rustix::fs::open(place.inside("pipe"), flags, Mode::empty()).unwrap();
    assert!(matches!(place.root.append(&rel("pipe")), Err(PathError::Refused)));
    let mut byte = [0_u8];
    assert_eq!(rustix::io::read(&reader, &mut byte), Ok(0), "the pipe has no writer and no bytes");
}

#[test]
fn p05_a_socket_is_refused() {
    let place = Place::new();
    let listener = UnixListener::bind(place.inside("socket")).unwrap();
    let place = assert_untouchable(place, "socket");
    drop(listener);
    place.assert_outside_untouched();
}

/// Only root can make a device. Without root the attack fails one step earlier, and that is what is seen.
#[test]
fn p05_a_device_is_refused_or_cannot_be_made() {
    let place = Place::new();
    match mknodat(CWD, place.inside("zero"), FileType::CharacterDevice, Mode::RWXU, makedev(1, 5)) {
        Ok(()) => assert_untouchable(place, "zero").assert_outside_untouched(),
        Err(errno) => {
            assert_eq!(errno, Errno::PERM);
            assert!(!rustix::process::geteuid().is_root(), "root cannot make a device here");
            assert!(matches!(place.root.read(&rel("zero")), Err(PathError::NotFound)));
        }
    }
}

#[test]
fn p05_a_directory_is_not_a_file_and_a_file_no_directory() {
    let place = Place::new();
    let (root, dir, file) = (&place.root, rel("dir"), rel("file.txt"));
    assert!(matches!(root.read(&dir), Err(PathError::Refused)));
    assert!(matches!(root.append(&dir), Err(PathError::Refused)));
    assert!(matches!(root.replace(&dir, b"x"), Err(PathError::Conflict)));
    assert!(matches!(root.create_new(&dir, b"x"), Err(PathError::Conflict)));
    assert!(matches!(root.remove_file(&dir), Err(PathError::Refused)));
    assert!(matches!(root.list(Some(&file), None, 10), Err(PathError::NotFound)));
    assert!(matches!(root.descend(&file), Err(PathError::NotFound)));
    assert!(matches!(root.remove_tree(&file), Err(PathError::NotFound)));
    assert!(matches!(root.create_dir_all(&rel("file.txt/sub")), Err(PathError::Conflict)));
    assert!(matches!(root.read(&rel("file.txt/sub")), Err(PathError::NotFound)));
    assert!(matches!(Root::open(&place.inside("file.txt")), Err(PathError::NotFound)));
    assert_eq!(read_text(root, &rel("dir/file.txt")).unwrap(), INSIDE);
    assert_eq!(root.metadata(&dir).unwrap().kind, Kind::Directory);
}
