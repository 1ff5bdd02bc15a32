//! P-04: a neighbour whose name begins like the tenant's (`t1`, `t1-evil`) stays out of reach.

use std::fs;
use std::os::unix::fs::symlink;

use openclawmu_sandbox::{PathError, RelPath, Root};

use crate::place::{CANARY, EVERY_METHOD, INSIDE, Place, is_400, is_404, read_text, rel};

#[test]
fn p04_the_sibling_is_reached_by_no_spelling() {
    let place = Place::new();
    for spelled in [
        "../t1-evil/secret.txt",
        "-evil/secret.txt",
        "..%2ft1-evil%2fsecret.txt",
        "dir/../../t1-evil/secret.txt",
        "t1-evil/secret.txt",
    ] {
        let error = RelPath::from_encoded(spelled).and_then(|path| read_text(&place.root, &path)).unwrap_err();
        assert!(is_400(&error) || is_404(&error), "{spelled}: {error:?}");
    }
    place.assert_outside_untouched();
}

#[test]
fn p04_a_link_into_the_sibling_is_refused_by_every_method() {
    for (method, run) in EVERY_METHOD {
        let place = Place::new();
        symlink("../t1-evil", place.inside("evil")).unwrap();
        let error = run(&place.root, &rel("evil/secret.txt")).expect_err(method);
        assert!(is_404(&error), "{method}: {error:?}");
        place.assert_outside_untouched();
    }
}

#[test]
fn p04_a_root_put_in_anothers_place_does_not_move_an_open_root() {
    let place = Place::new();
    fs::rename(place.path().join("t1"), place.path().join("t1-moved")).unwrap();
    fs::rename(place.path().join("t1-evil"), place.path().join("t1")).unwrap();
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
    assert!(matches!(place.root.read(&rel("secret.txt")), Err(PathError::NotFound)));
}

#[test]
fn p04_each_sibling_reads_its_own() {
    let place = Place::new();
    let evil = Root::open(&place.path().join("t1-evil")).unwrap();
    assert_eq!(read_text(&evil, &rel("secret.txt")).unwrap(), CANARY);
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
}
