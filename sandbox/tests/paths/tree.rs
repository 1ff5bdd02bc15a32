//! Whole trees: what a backup reads and a restore makes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use openclawmu_sandbox::{Kind, PathError, RelPath, Root, TreePath, Walked, set_modified};

fn path(bytes: &[u8]) -> TreePath {
    TreePath::parse(bytes).unwrap()
}

fn walked(root: &Root) -> Vec<Walked> {
    let mut all = Vec::new();
    root.walk(&mut |walked| {
        all.push(walked);
        Ok(())
    })
    .unwrap();
    all
}

/// whatever a sandbox may have called a file is found, read and made again, however deep it lies.
#[test]
fn x21_any_name_at_any_depth_is_walked_read_and_made() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    fs::create_dir(&from).unwrap();
    let (from, to) = (Root::open(&from).unwrap(), Root::create(&to).unwrap());
    let mut deep = b"d".to_vec();
    for _ in 0..2_000 {
        from.tree_make_dir(&path(&deep)).unwrap();
        deep.extend_from_slice(b"/dd");
    }
    let names: [&[u8]; 6] = [b"-rf", b"a\nb", b"\xff\xfe", b"C:\\x", b"dot.", &[b'n'; 255]];
    for name in names {
        from.tree_make_file(&path(name), name == b"-rf").unwrap().write_all(name).unwrap();
    }
    let all = walked(&from);
    assert_eq!(all.len(), 2_000 + names.len());
    for one in &all {
        if one.metadata.kind == Kind::Directory {
            to.tree_make_dir(&one.path).unwrap();
            continue;
        }
        let mut text = Vec::new();
        from.tree_read(&one.path).unwrap().read_to_end(&mut text).unwrap();
        let mut file = to.tree_make_file(&one.path, one.executable).unwrap();
        file.write_all(&text).unwrap();
        set_modified(&file, one.metadata.modified_at_ms).unwrap();
    }
    let files = |root: &Root| -> Vec<Walked> {
        walked(root).into_iter().filter(|one| one.metadata.kind == Kind::File).collect()
    };
    assert_eq!(files(&to), files(&from), "names, sizes, times, and who may be run");
    assert!(files(&to)[0].executable && !files(&to)[1].executable);
    from.remove_tree(&RelPath::parse(b"d").unwrap()).unwrap();
    to.remove_tree(&RelPath::parse(b"d").unwrap()).unwrap();
}

/// P-02: a link, a hard link and a pipe are seen and never opened, and nothing is made through a link.
#[test]
fn p02_what_is_no_plain_file_is_seen_and_never_opened() {
    let place = tempfile::tempdir().unwrap();
    let root_path = place.path().join("root");
    fs::create_dir(&root_path).unwrap();
    fs::write(place.path().join("outside"), "secret").unwrap();
    fs::create_dir(place.path().join("out")).unwrap();
    symlink("../outside", root_path.join("link")).unwrap();
    symlink("../out", root_path.join("dirlink")).unwrap();
    fs::hard_link(place.path().join("outside"), root_path.join("hard")).unwrap();
    fs::write(root_path.join("plain"), "mine").unwrap();
    let root = Root::open(&root_path).unwrap();
    let kinds: Vec<_> = walked(&root).into_iter().map(|one| (one.path.to_string(), one.metadata.kind)).collect();
    let expected = [("dirlink", Kind::Other), ("hard", Kind::Other), ("link", Kind::Other), ("plain", Kind::File)];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    for name in ["link", "hard", "dirlink/x", "dirlink"] {
        assert!(root.tree_read(&path(name.as_bytes())).is_err(), "{name}");
    }
    assert!(root.tree_make_file(&path(b"dirlink/x"), false).is_err());
    assert!(root.tree_make_dir(&path(b"dirlink/x")).is_err());
    assert!(matches!(root.tree_make_file(&path(b"link"), false), Err(PathError::Conflict)));
    assert!(matches!(root.tree_make_file(&path(b"plain"), false), Err(PathError::Conflict)));
    assert!(root.tree_read(&path(b"plain")).is_ok());
    assert_eq!(fs::read_dir(place.path().join("out")).unwrap().count(), 0);
}

/// P-06: a path that could leave the tree is none.
#[test]
fn p06_a_path_that_leaves_the_tree_is_refused_before_anything_is_opened() {
    let refused: [&[u8]; 9] = [b"", b"/a", b"a/", b"a//b", b"..", b"a/../b", b".", b"a\0b", &[b'a'; 256]];
    for bytes in refused {
        assert!(TreePath::parse(bytes).is_err(), "{:?}", std::ffi::OsStr::from_bytes(bytes));
    }
    assert!(TreePath::parse(&[b"a/".repeat(4_096), b"a".to_vec()].concat()).is_err());
    assert!(TreePath::parse(b"a/..b/c..").is_ok());
}

#[test]
fn two_directories_take_each_others_place_at_once_and_nothing_else_does() {
    let place = tempfile::tempdir().unwrap();
    let root = Root::open(place.path()).unwrap();
    let (a, b, file) = (RelPath::parse(b"a").unwrap(), RelPath::parse(b"b").unwrap(), RelPath::parse(b"file").unwrap());
    root.create_dir_all(&a).unwrap();
    root.create_dir_all(&b).unwrap();
    fs::write(place.path().join("a/x"), "a").unwrap();
    fs::write(place.path().join("file"), "f").unwrap();
    root.exchange(&a, &b).unwrap();
    assert!(place.path().join("b/x").exists() && !place.path().join("a/x").exists());
    assert!(matches!(root.exchange(&a, &file), Err(PathError::Refused)));
    assert!(matches!(root.exchange(&a, &RelPath::parse(b"none").unwrap()), Err(PathError::NotFound)));
}
