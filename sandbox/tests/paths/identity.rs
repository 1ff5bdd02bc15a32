//! P-07, the path part: another tenant's directory, or one whose name only looks alike, is 404.

use std::fs;

use openclawmu_sandbox::{PathError, Root};

use crate::place::{CANARY, INSIDE, Place, read_text, rel};

#[test]
fn p07_look_alikes_of_a_name_are_not_found() {
    let place = Place::new();
    let tenants = place.path().join("tenants");
    fs::create_dir_all(tenants.join("acme")).unwrap();
    fs::write(tenants.join("acme/file.txt"), INSIDE).unwrap();
    let tenants = Root::open(&tenants).unwrap();
    // Cyrillic a, full-width a, zero-width joiner, combining accent, case, soft hyphen, space.
    for alike in ["аcme", "ａcme", "ac\u{200d}me", "acme\u{301}", "ACME", "ac\u{ad}me", "acme%20", "acm%65%20"] {
        assert!(matches!(tenants.descend(&rel(alike)), Err(PathError::NotFound)), "{alike}");
    }
    let acme = tenants.descend(&rel("acme")).unwrap();
    assert_eq!(read_text(&acme, &rel("file.txt")).unwrap(), INSIDE);
}

#[test]
fn p07_composed_and_decomposed_spellings_are_two_names() {
    let place = Place::new();
    place.root.create_new(&rel("caf\u{e9}"), b"composed").unwrap();
    assert!(matches!(place.root.read(&rel("cafe\u{301}")), Err(PathError::NotFound)));
    place.root.create_new(&rel("cafe\u{301}"), b"decomposed").unwrap();
    assert_eq!(read_text(&place.root, &rel("caf\u{e9}")).unwrap(), "composed");
}

#[test]
fn p07_a_descended_root_does_not_reach_what_is_above_it() {
    let place = Place::new();
    let dir = place.root.descend(&rel("dir")).unwrap();
    std::os::unix::fs::symlink("../file.txt", place.inside("dir/up")).unwrap();
    assert!(matches!(dir.read(&rel("up")), Err(PathError::Refused)));
    assert_eq!(read_text(&dir, &rel("file.txt")).unwrap(), INSIDE);
    assert_eq!(fs::read_to_string(place.path().join("canary.txt")).unwrap(), CANARY);
}
