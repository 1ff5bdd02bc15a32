//! P-06, the path part: what a hostile archive would have `Root` do on its behalf.

use std::fs;
use std::os::unix::fs::symlink;

use openclawmu_sandbox::{PathError, RelPath};

use crate::place::{INSIDE, Place, is_400, names, read_text, rel};

/// Extracts one entry the way a restore does: its directories, then the file, under a new name.
fn extract(place: &Place, name: &[u8], content: &str) -> Result<(), PathError> {
    let path = RelPath::parse(name)?;
    if let Some((dir, _)) = path.to_string().rsplit_once('/') {
        place.root.create_dir_all(&rel(dir))?;
    }
    place.root.create_new(&path, content.as_bytes())
}

#[test]
fn p06_entries_named_out_of_the_root_are_400() {
    let place = Place::new();
    for name in [
        &b"../canary.txt"[..],
        b"/etc/cron.d/x",
        b"a/../../canary.txt",
        b"./x",
        b"a//b",
        b"x/",
        b"..\\canary.txt",
        b"a\0b",
    ] {
        assert!(is_400(&extract(&place, name, "evil").unwrap_err()), "{name:?}");
    }
    let deep = vec!["d"; 33].join("/");
    assert!(is_400(&extract(&place, deep.as_bytes(), "evil").unwrap_err()));
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"]);
    place.assert_outside_untouched();
}

#[test]
fn p06_a_link_followed_by_an_entry_below_it_is_refused() {
    let place = Place::new();
    symlink("../outside", place.inside("a")).unwrap();
    assert!(matches!(extract(&place, b"a/secret.txt", "evil"), Err(PathError::Refused)));
    assert!(matches!(extract(&place, b"a/b/new.txt", "evil"), Err(PathError::Refused)));
    place.assert_outside_untouched();
}

#[test]
fn p06_a_duplicate_entry_is_a_conflict_and_changes_nothing() {
    let place = Place::new();
    assert!(matches!(extract(&place, b"file.txt", "evil"), Err(PathError::Conflict)));
    assert!(matches!(extract(&place, b"dir", "evil"), Err(PathError::Conflict)));
    assert!(matches!(extract(&place, b"file.txt/below", "evil"), Err(PathError::Conflict)));
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
    assert_eq!(names(&place.inside("")), ["dir", "file.txt"]);
}

#[test]
fn p06_names_that_differ_in_case_are_two_files() {
    let place = Place::new();
    extract(&place, b"FILE.txt", "upper").unwrap();
    assert_eq!(read_text(&place.root, &rel("FILE.txt")).unwrap(), "upper");
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
}

#[test]
fn p06_an_ordinary_entry_is_extracted() {
    let place = Place::new();
    extract(&place, b"a/b/c/new.txt", "good").unwrap();
    let deepest = [vec!["d"; 31].join("/"), "leaf".to_owned()].join("/");
    extract(&place, deepest.as_bytes(), "deep").unwrap();
    assert_eq!(fs::read_to_string(place.inside("a/b/c/new.txt")).unwrap(), "good");
    assert_eq!(read_text(&place.root, &rel(&deepest)).unwrap(), "deep");
}
