//! What a tenant does all day: the positive twins of every refusal, with their exact outcomes.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use openclawmu_sandbox::{Kind, PathError, Root};

use crate::place::{INSIDE, Place, names, read_text, rel};

fn mode(path: std::path::PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_made_belongs_to_its_owner_alone() {
    let place = Place::new();
    place.root.create_dir_all(&rel("a/b")).unwrap();
    place.root.create_new(&rel("a/new"), b"x").unwrap();
    drop(place.root.append(&rel("a/log")).unwrap());
    assert_eq!(mode(place.inside("")), 0o700);
    assert_eq!([mode(place.inside("a")), mode(place.inside("a/b"))], [0o700, 0o700]);
    assert_eq!([mode(place.inside("a/new")), mode(place.inside("a/log"))], [0o600, 0o600]);
}

#[test]
fn a_root_is_made_once_and_needs_its_parent() {
    let place = Place::new();
    assert!(matches!(Root::create(&place.path().join("t1")), Err(PathError::Conflict)));
    assert!(matches!(Root::create(&place.path().join("none/t2")), Err(PathError::NotFound)));
    assert!(matches!(Root::open(&place.path().join("t2")), Err(PathError::NotFound)));
    Root::create(&place.path().join("t2")).unwrap();
    Root::open(&place.path().join("t2")).unwrap();
}

#[test]
fn a_replaced_file_changes_all_at_once_or_not_at_all() {
    let place = Place::new();
    let path = rel("file.txt");
    let mut staged = place.root.stage(&path).unwrap();
    staged.write_all(b"half").unwrap();
    assert_eq!(read_text(&place.root, &path).unwrap(), INSIDE);
    drop(staged);
    assert_eq!(read_text(&place.root, &path).unwrap(), INSIDE);
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"], "nothing is left behind");

    let mut staged = place.root.stage(&path).unwrap();
    staged.write_all(b"whole").unwrap();
    let mut before = place.root.read(&path).unwrap();
    staged.commit().unwrap();
    assert_eq!(read_text(&place.root, &path).unwrap(), "whole");
    assert_eq!(std::io::read_to_string(&mut before).unwrap(), INSIDE, "who had it open keeps what it was");
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"]);
}

#[test]
fn a_new_file_never_replaces_one_that_came_first() {
    let place = Place::new();
    let mut staged = place.root.stage(&rel("new")).unwrap();
    staged.write_all(b"second").unwrap();
    place.root.create_new(&rel("new"), b"first").unwrap();
    assert!(matches!(staged.commit_new(), Err(PathError::Conflict)));
    assert_eq!(read_text(&place.root, &rel("new")).unwrap(), "first");
    assert_eq!(names(&place.inside("")), ["dir", "file.txt", "new"]);
    assert!(matches!(place.root.create_new(&rel("none/new"), b"x"), Err(PathError::NotFound)));
}

#[test]
fn appending_adds_at_the_end_and_makes_a_missing_file() {
    let place = Place::new();
    for line in ["one\n", "two\n"] {
        place.root.append(&rel("dir/log")).unwrap().write_all(line.as_bytes()).unwrap();
    }
    assert_eq!(read_text(&place.root, &rel("dir/log")).unwrap(), "one\ntwo\n");
    assert!(matches!(place.root.append(&rel("none/log")), Err(PathError::NotFound)));
}

#[test]
fn a_rename_moves_and_never_replaces() {
    let place = Place::new();
    assert!(matches!(place.root.rename(&rel("file.txt"), &rel("dir/file.txt")), Err(PathError::Conflict)));
    assert!(matches!(place.root.rename(&rel("dir"), &rel("dir/below")), Err(PathError::Conflict)));
    assert!(matches!(place.root.rename(&rel("none"), &rel("x")), Err(PathError::NotFound)));
    place.root.rename(&rel("file.txt"), &rel("dir/moved")).unwrap();
    place.root.rename(&rel("dir"), &rel("dir2")).unwrap();
    assert_eq!(read_text(&place.root, &rel("dir2/moved")).unwrap(), INSIDE);
    assert_eq!(names(&place.inside("")), ["dir2"]);
}

#[test]
fn metadata_tells_kind_size_and_time() {
    let place = Place::new();
    let file = place.root.metadata(&rel("file.txt")).unwrap();
    assert_eq!((file.kind, file.size_bytes), (Kind::File, 6));
    let told = fs::metadata(place.inside("file.txt")).unwrap().modified().unwrap();
    let told_ms = told.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(u128::try_from(file.modified_at_ms).unwrap(), told_ms);
    assert!(matches!(place.root.metadata(&rel("none")), Err(PathError::NotFound)));
}

#[test]
fn removing_a_file_leaves_its_neighbours() {
    let place = Place::new();
    place.root.remove_file(&rel("dir/file.txt")).unwrap();
    assert!(matches!(place.root.remove_file(&rel("dir/file.txt")), Err(PathError::NotFound)));
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"]);
}

#[test]
fn a_listing_turns_its_pages_and_shows_every_name_once_in_order() {
    let place = Place::new();
    let dir = rel("many");
    fs::create_dir(place.inside("many")).unwrap();
    let mut made: Vec<OsString> =
        (0..2500).map(|number| OsString::from(format!("{:05}", number * 7 % 99_991))).collect();
    made.push(OsString::from_vec(b"caf\xe9".to_vec()));
    made.push(OsString::from("a\nb"));
    for name in &made {
        fs::write(place.inside("many").join(name), "x").unwrap();
    }
    made.sort();
    let (mut seen, mut after, mut pages) = (Vec::new(), None::<OsString>, 0);
    loop {
        let page = place.root.list(Some(&dir), after.as_deref(), 999).unwrap();
        pages += 1;
        assert!(page.entries.iter().all(|entry| entry.metadata.kind == Kind::File && entry.metadata.size_bytes == 1));
        seen.extend(page.entries.into_iter().map(|entry| entry.name));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!((seen, pages), (made, 3));
    let page = place.root.list(Some(&dir), None, usize::MAX).unwrap();
    assert_eq!(page.entries.len(), 1000, "no caller gets a larger page");
    assert_eq!(place.root.list(Some(&dir), None, 0).unwrap().entries.len(), 1, "nor one that ends nowhere");
}

#[test]
fn a_listed_name_is_shown_so_that_it_reads_back() {
    let place = Place::new();
    fs::write(place.inside("dir").join(OsString::from_vec(b"caf\xe9 %2e".to_vec())), "x").unwrap();
    let entry = place.root.list(Some(&rel("dir")), Some("b".as_ref()), 1).unwrap().entries.remove(0);
    assert_eq!(entry.encoded_name(), "caf%E9%20%252e");
    assert_eq!(rel("dir").join(&entry.name).unwrap(), rel("dir/caf%E9%20%252e"));
    assert_eq!(read_text(&place.root, &rel("dir/caf%E9%20%252e")).unwrap(), "x");
}

#[test]
fn a_tree_is_removed_however_deep_and_whatever_its_names() {
    let place = Place::new();
    fs::create_dir(place.inside("tree")).unwrap();
    let mut dir = std::fs::File::open(place.inside("tree")).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).unwrap();
        drop(rustix::fs::openat(&dir, "f", rustix::fs::OFlags::CREATE, rustix::fs::Mode::RUSR).unwrap());
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        dir = rustix::fs::openat(&dir, "d", flags, rustix::fs::Mode::empty()).unwrap().into();
    }
    for wide in 0..300 {
        fs::create_dir(place.inside("tree").join(format!("w{wide}\n\\"))).unwrap();
    }
    place.root.remove_tree(&rel("tree")).unwrap();
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"]);
    assert!(matches!(place.root.remove_tree(&rel("tree")), Err(PathError::NotFound)));
    place.assert_outside_untouched();
}

#[test]
fn making_directories_twice_changes_nothing() {
    let place = Place::new();
    place.root.create_dir_all(&rel("dir/a/b")).unwrap();
    place.root.create_dir_all(&rel("dir/a/b")).unwrap();
    assert_eq!(names(&place.inside("dir")), ["a", "file.txt"]);
    assert_eq!(read_text(&place.root, &rel("dir/file.txt")).unwrap(), INSIDE);
}
