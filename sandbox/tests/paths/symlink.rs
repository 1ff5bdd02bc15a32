//! P-02: a symbolic link to a file, to a directory or into `/proc` is refused, wherever it stands.

use std::fs;
use std::os::unix::fs::symlink;

use openclawmu_sandbox::{Kind, PathError, Root};

use crate::place::{CANARY, EVERY_METHOD, INSIDE, Place, is_404, read_text, rel};

/// Links of every kind: out and in, relative and absolute, to what is not there, to itself, magic.
fn plant(place: &Place) -> Vec<&'static str> {
    let absolute = place.path().join("canary.txt");
    let links = [
        ("to-canary", "../canary.txt"),
        ("to-inside", "file.txt"),
        ("to-outside", "../outside"),
        ("to-inside-dir", "dir"),
        ("to-nothing", "nothing"),
        ("to-itself", "to-itself"),
        ("to-root", "/"),
        ("to-proc-root", "/proc/self/root"),
        ("to-proc-fd", "/proc/self/fd"),
        ("to-proc-fd-0", "/proc/self/fd/0"),
        ("to-proc-cwd", "/proc/self/cwd"),
        ("to-environ", "/proc/self/environ"),
    ];
    for (name, target) in links {
        symlink(target, place.inside(name)).unwrap();
    }
    symlink(absolute, place.inside("to-absolute")).unwrap();
    links.iter().map(|(name, _)| *name).chain(["to-absolute"]).collect()
}

#[test]
fn p02_a_link_as_the_last_component_is_refused_by_every_method() {
    for (method, run) in EVERY_METHOD {
        let place = Place::new();
        for link in plant(&place) {
            match run(&place.root, &rel(link)) {
                Ok(()) => assert_eq!(method, "remove_file", "{method} followed {link}"),
                Err(PathError::Conflict) => {
                    assert!(matches!(method, "rename to"), "{method} {link}")
                }
                Err(error) => assert!(is_404(&error), "{method} {link}: {error:?}"),
            }
            if method != "remove_file" {
                assert!(fs::symlink_metadata(place.inside(link)).unwrap().is_symlink(), "{method} changed {link}");
            }
        }
        assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
        place.assert_outside_untouched();
    }
}

#[test]
fn p02_a_link_on_the_way_is_refused_by_every_method() {
    for (method, run) in EVERY_METHOD {
        let place = Place::new();
        for link in plant(&place) {
            for below in ["secret.txt", "file.txt", "etc/passwd", "1", "new", "t1/file.txt"] {
                let path = rel(&format!("{link}/{below}"));
                let error = run(&place.root, &path).expect_err(&format!("{method} went through {link}/{below}"));
                assert!(is_404(&error), "{method} {link}/{below}: {error:?}");
            }
        }
        place.assert_outside_untouched();
    }
}

#[test]
fn p02_removing_a_link_removes_the_link_and_not_its_target() {
    let place = Place::new();
    for link in plant(&place) {
        place.root.remove_file(&rel(link)).unwrap();
        assert!(fs::symlink_metadata(place.inside(link)).is_err(), "{link} is still there");
    }
    place.assert_outside_untouched();
    assert_eq!(read_text(&place.root, &rel("file.txt")).unwrap(), INSIDE);
}

#[test]
fn p02_removing_a_tree_full_of_links_leaves_their_targets() {
    let place = Place::new();
    for dir in ["tree", "tree/a", "tree/a/b"] {
        fs::create_dir(place.inside(dir)).unwrap();
        symlink(place.path().join("outside"), place.inside(dir).join("out")).unwrap();
        symlink(place.path().join("canary.txt"), place.inside(dir).join("canary")).unwrap();
        symlink("/proc/self/root", place.inside(dir).join("magic")).unwrap();
    }
    place.root.remove_tree(&rel("tree")).unwrap();
    assert!(!place.inside("tree").exists());
    place.assert_outside_untouched();
}

#[test]
fn p02_links_are_listed_as_what_cannot_be_opened() {
    let place = Place::new();
    let links = plant(&place);
    let page = place.root.list(None, None, 100).unwrap();
    for entry in &page.entries {
        let name = entry.name.to_str().unwrap();
        let expected = match name {
            "dir" => Kind::Directory,
            "file.txt" => Kind::File,
            _ => Kind::Other,
        };
        assert_eq!(entry.metadata.kind, expected, "{name}");
    }
    assert_eq!(page.entries.len(), links.len() + 2);
}

#[test]
fn p02_a_root_is_not_opened_through_a_link_as_its_last_component() {
    let place = Place::new();
    symlink("t1-evil", place.path().join("t2")).unwrap();
    for spelled in ["t2", "t2/", "t2/.", "t2//"] {
        assert!(matches!(Root::open(&place.path().join(spelled)), Err(PathError::Refused)), "{spelled}");
    }
    assert!(matches!(Root::create(&place.path().join("t2")), Err(PathError::Conflict)));
    for nameless in ["/", "..", "t1/.."] {
        assert!(matches!(Root::open(&place.path().join(nameless)), Err(PathError::Refused)), "{nameless}");
    }
}

#[test]
fn p02_a_root_is_opened_by_its_own_name_also_over_a_link_of_the_operator() {
    let place = Place::new();
    let data = tempfile::tempdir().unwrap();
    symlink(place.path(), data.path().join("data")).unwrap();
    for spelled in [place.path().join("t1"), place.path().join("t1/"), data.path().join("data/t1")] {
        let root = Root::open(&spelled).unwrap();
        assert_eq!(read_text(&root, &rel("file.txt")).unwrap(), INSIDE);
    }
}

#[test]
fn p02_the_same_targets_open_where_they_really_are() {
    let place = Place::new();
    assert_eq!(read_text(&place.root, &rel("dir/file.txt")).unwrap(), INSIDE);
    let outside = Root::open(&place.path().join("outside")).unwrap();
    assert_eq!(read_text(&outside, &rel("secret.txt")).unwrap(), CANARY);
}
