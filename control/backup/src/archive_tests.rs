//! Directories into archives and back, and archives that no backup would hold.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use openclawmu_sandbox::Root;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::manifest::{FilePart, Object};
use crate::progress::Progress;
use crate::unpack::Unpacking;

struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["from", "spool"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn packed(&self) -> Vec<Packed> {
        let root = Root::open(&self.path("from")).unwrap();
        let listing = list(&root).unwrap();
        let spool = tempfile::tempdir_in(self.path("spool")).unwrap().keep();
        let (parts, progress) = (listing.parts(), Progress::default());
        let made = parts
            .iter()
            .enumerate()
            .map(|(at, part)| pack(&root, part, &spool.join(at.to_string()), &progress).unwrap())
            .collect();
        assert_eq!(progress.shown().done_bytes, listing.bytes, "each byte of a file counts once");
        made
    }

    /// Unpacks into a fresh directory.
    fn unpacked(&self, name: &str, parts: &[Packed], max_bytes: u64) -> Result<Root> {
        let root = Root::create(&self.path(name)).unwrap();
        let mut unpacking = Unpacking::new(&root, max_bytes);
        for part in parts {
            unpacking.part(&part.path, &described(part))?;
        }
        Ok(root)
    }
}

fn described(part: &Packed) -> FilePart {
    let key = format!("x.{}", part.form);
    let object = Object { key, sha256: String::new(), bytes: 0, plain_bytes: part.plain_bytes };
    let Packed { entries, file_bytes, case_twins, .. } = *part;
    FilePart { object, entries, file_bytes, case_twins }
}

fn tree(dir: &Path) -> Vec<(String, String, u32, Option<std::time::SystemTime>)> {
    let root = Root::open(dir).unwrap();
    let listing = list(&root).unwrap();
    let files = listing.files.iter().map(|file| {
        let path = dir.join(OsStr::from_bytes(file.path.as_bytes()));
        let metadata = fs::metadata(&path).unwrap();
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        (file.path.to_string(), text, metadata.permissions().mode() & 0o777, metadata.modified().ok())
    });
    let dirs = listing.directories.iter().map(|dir| (dir.path.to_string(), String::new(), 0o700, None));
    dirs.chain(files).collect()
}

fn write(path: &Path, text: &[u8], mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    // An archive keeps whole seconds.
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    File::options().append(true).open(path).unwrap().set_modified(at).unwrap();
}

#[test]
fn a_directory_comes_back_with_its_names_modes_and_times() {
    let scene = Scene::new();
    let from = scene.path("from");
    fs::create_dir_all(from.join("workspace/empty")).unwrap();
    write(&from.join("workspace/run.sh"), b"#!/bin/sh\n", 0o700);
    write(&from.join("workspace/README"), b"upper", 0o600);
    write(&from.join("workspace/readme"), b"lower", 0o600);
    write(&from.join(OsStr::from_bytes(b"line\nfeed\xff")), b"odd", 0o600);
    write(&from.join("workspace").join("n".repeat(250)), b"long", 0o600);
    symlink("/etc/passwd", from.join("link")).unwrap();
    let root = Root::open(&from).unwrap();
    assert_eq!(list(&root).unwrap().skipped, [Skipped { path: "link".to_owned() }]);
    scene.unpacked("to", &scene.packed(), u64::MAX).unwrap();
    assert_eq!(tree(&scene.path("to")), tree(&from));
    assert!(!scene.path("to/link").exists());
}

/// A backup opens with `tar` and `zstd` alone.
#[test]
fn a_large_file_counts_as_it_is_read_and_not_at_its_end() {
    let progress = Progress::default();
    let mut reader = Whole { inner: [7_u8; 100].as_slice(), left: 100, progress: &progress };
    reader.read_exact(&mut [0; 30]).unwrap();
    assert_eq!(progress.shown().done_bytes, 30);
    progress.back_to(0);
    assert_eq!(progress.shown().done_bytes, 0, "what is read again counts again");
}

#[test]
fn the_archives_open_with_tar() {
    let scene = Scene::new();
    let from = scene.path("from");
    fs::create_dir(from.join("d")).unwrap();
    write(&from.join("d").join("x".repeat(200)), b"content", 0o600);
    fs::create_dir(scene.path("by-tar")).unwrap();
    for part in scene.packed() {
        let mut tar = std::process::Command::new("tar")
            .arg("-xC")
            .arg(scene.path("by-tar"))
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut decoder = zstd::Decoder::new(File::open(&part.path).unwrap()).unwrap();
        std::io::copy(&mut decoder, &mut tar.stdin.take().unwrap()).unwrap();
        assert!(tar.wait().unwrap().success());
    }
    assert_eq!(tree(&scene.path("by-tar")), tree(&from));
}

/// What has not changed makes the same bytes, whatever else changed.
#[test]
fn a_change_makes_one_archive_new_and_the_others_the_same() {
    let scene = Scene::new();
    for number in 0..300 {
        write(&scene.path("from").join(number.to_string()), format!("{number}").as_bytes(), 0o600);
    }
    let hashes = |parts: &[Packed]| -> HashSet<[u8; 32]> {
        parts.iter().map(|part| crate::digest::of_file(&part.path).unwrap().0).collect()
    };
    let before = hashes(&scene.packed());
    assert_eq!(before, hashes(&scene.packed()));
    write(&scene.path("from/7"), b"changed", 0o600);
    let after = hashes(&scene.packed());
    assert_eq!((before.len(), after.len(), before.intersection(&after).count()), (16, 16, 15));
}

#[test]
fn what_compresses_all_too_well_is_stored_as_it_is() {
    let scene = Scene::new();
    File::create(scene.path("from/zeros")).unwrap().set_len(BOMB_FLOOR_BYTES * 2).unwrap();
    let parts = scene.packed();
    assert_eq!(parts[0].form, "tar");
    scene.unpacked("to", &parts, u64::MAX).unwrap();
    assert_eq!(fs::metadata(scene.path("to/zeros")).unwrap().len(), BOMB_FLOOR_BYTES * 2);
}

/// One entry of a hostile archive.
struct Bad {
    name: Vec<u8>,
    kind: u8,
    link: &'static str,
    size: u64,
    body: Vec<u8>,
}

fn bad(name: &str, kind: u8) -> Bad {
    Bad { name: name.as_bytes().to_vec(), kind, link: "", size: 0, body: Vec::new() }
}

fn file(name: &str) -> Bad {
    Bad { size: 1, body: b"x".to_vec(), ..bad(name, b'0') }
}

/// An archive of these entries, written byte by byte, and described as generously as can be.
fn archive(scene: &Scene, entries: &[Bad]) -> Packed {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let raw = header.as_mut_bytes();
        raw[..entry.name.len()].copy_from_slice(&entry.name);
        raw[157..157 + entry.link.len()].copy_from_slice(entry.link.as_bytes());
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(entry.size);
        header.as_mut_bytes()[156] = entry.kind;
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&entry.body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    raw_archive(scene, &bytes, entries.len() as u64, entries.iter().map(|entry| entry.body.len() as u64).sum())
}

fn raw_archive(scene: &Scene, bytes: &[u8], entries: u64, file_bytes: u64) -> Packed {
    let path = tempfile::NamedTempFile::new_in(scene.path("spool")).unwrap().into_temp_path().keep().unwrap();
    fs::remove_file(&path).unwrap();
    let plain_bytes = compress(&path, |to| to.write_all(bytes).map_err(BackupError::file("x"))).unwrap();
    Packed { path, form: "tar.zst", plain_bytes, entries, file_bytes, case_twins: 0 }
}

fn refused(scene: &Scene, name: &str, packed: Packed) {
    let outcome = scene.unpacked(name, &[packed], 1 << 30);
    assert!(matches!(outcome, Err(BackupError::Hostile(_) | BackupError::Damaged(_))), "{name}: {outcome:?}");
    assert!(!scene.path("outside").exists(), "{name}");
}

/// P-06: every trick that an archive can hold refuses all of it, and nothing is made outside.
#[test]
fn p_06_a_hostile_archive_is_refused_whatever_its_trick() {
    let scene = Scene::new();
    let linked = |name: &str, kind: u8, link: &'static str| Bad { link, ..bad(name, kind) };
    let pax = b"18 path=../outside\n".to_vec();
    let cases: Vec<(&str, Vec<Bad>)> = vec![
        ("dotdot", vec![file("../outside")]),
        ("inner-dotdot", vec![bad("a", b'5'), file("a/../../outside")]),
        ("absolute", vec![file("/outside")]),
        ("dot", vec![file("./a")]),
        ("symlink", vec![linked("a", b'2', "/etc")]),
        ("symlink-then-below", vec![linked("a", b'2', ".."), file("a/outside")]),
        ("hard-link", vec![file("a"), linked("b", b'1', "a")]),
        ("character-device", vec![bad("a", b'3')]),
        ("block-device", vec![bad("a", b'4')]),
        ("fifo", vec![bad("a", b'6')]),
        ("contiguous", vec![bad("a", b'7')]),
        ("sparse", vec![bad("a", b'S')]),
        ("pax", vec![Bad { size: 19, body: pax.clone(), ..bad("p", b'x') }, file("a")]),
        ("global-pax", vec![Bad { size: 19, body: pax, ..bad("p", b'g') }, file("a")]),
        ("long-link", vec![Bad { size: 3, body: b"ab\0".to_vec(), ..bad("p", b'K') }, file("a")]),
        ("long-name-outside", vec![Bad { size: 11, body: b"../outside\0".to_vec(), ..bad("p", b'L') }, file("a")]),
        (
            "two-long-names",
            vec![
                Bad { size: 2, body: b"a\0".to_vec(), ..bad("p", b'L') },
                Bad { size: 2, body: b"b\0".to_vec(), ..bad("p", b'L') },
                file("c"),
            ],
        ),
        ("twice", vec![file("a"), file("a")]),
        ("file-then-below", vec![file("a"), file("a/b")]),
        ("case-twins", vec![file("a"), file("A")]),
        ("parent-missing", vec![file("a/b")]),
        ("directory-with-content", vec![Bad { size: 1, body: b"x".to_vec(), ..bad("a", b'5') }]),
        ("size-past-the-end", vec![Bad { size: 1 << 20, body: b"x".to_vec(), ..bad("a", b'0') }]),
        ("unknown-kind", vec![bad("a", b'Z')]),
        ("empty-name", vec![file("")]),
    ];
    for (name, entries) in &cases {
        refused(&scene, name, archive(&scene, entries));
    }
    let good = archive(&scene, &[bad("a", b'5'), file("a/b")]);
    scene.unpacked("good", &[good], 1 << 30).unwrap();
    assert_eq!(fs::read(scene.path("good/a/b")).unwrap(), b"x");
}

/// P-06: what is larger than its manifest says, than there is room for, or than it can be, is refused before it is made.
#[test]
fn p_06_bombs_are_refused() {
    let scene = Scene::new();
    let more = Packed { entries: 1, ..archive(&scene, &[file("a"), file("b")]) };
    refused(&scene, "more-entries", more);
    let longer = Packed { plain_bytes: 1_024, ..archive(&scene, &[file("a"), file("b")]) };
    refused(&scene, "longer", longer);
    let fewer = Packed { entries: 3, ..archive(&scene, &[file("a"), file("b")]) };
    refused(&scene, "fewer-entries", fewer);
    let zeros = raw_archive(&scene, &vec![0; 32 << 20], 0, 0);
    refused(&scene, "thousand-to-one", zeros);
    let million = Packed { entries: 1_000_000, ..archive(&scene, &[file("a")]) };
    refused(&scene, "a-million-entries", million);
    let outcome = scene.unpacked("no-room", &[archive(&scene, &[file("a"), file("b")])], 1);
    assert!(matches!(outcome, Err(BackupError::Hostile(_))));
    let mut trailing = fs::read(zstd_plain(&archive(&scene, &[file("a")]))).unwrap();
    trailing.extend_from_slice(b"more");
    refused(&scene, "trailing", raw_archive(&scene, &trailing, 1, 1));
}

fn zstd_plain(packed: &Packed) -> PathBuf {
    let path = packed.path.with_extension("plain");
    let bytes = zstd::decode_all(File::open(&packed.path).unwrap()).unwrap();
    File::create(&path).unwrap().write_all(&bytes).unwrap();
    path
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// P-06: whatever bytes an archive is made of, nothing appears outside its directory.
    #[test]
    fn p_06_no_bytes_make_anything_outside(mut noise in proptest::collection::vec(any::<(usize, u8)>(), 1..8)) {
        let scene = Scene::new();
        let good = archive(&scene, &[bad("a", b'5'), file("a/b"), file("c")]);
        let mut bytes = fs::read(zstd_plain(&good)).unwrap();
        for (at, byte) in noise.drain(..) {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        // A header whose checksum is wrong would be refused for that alone.
        for block in [0, 512, 1_536] {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&bytes[block..block + 512]);
            header.set_cksum();
            bytes[block..block + 512].copy_from_slice(header.as_bytes());
        }
        let before: Vec<_> = fs::read_dir(scene.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let _outcome = scene.unpacked("from/to", &[raw_archive(&scene, &bytes, 3, 2)], 1 << 20);
        let after: Vec<_> = fs::read_dir(scene.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert_eq!(before.len(), after.len());
        prop_assert_eq!(fs::read_dir(scene.path("from")).unwrap().count(), 1);
    }
}
