//! P-01: the corpus of hostile names, on every method that takes a path; nothing outside is opened.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use openclawmu_sandbox::RelPath;
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::place::{CANARY, EVERY_METHOD, INSIDE, Place, is_400, is_404, read_text, rel};

/// Names as a client would put them into a URL, that no method may even try.
const REFUSED_CORPUS: &[&str] = &[
    "",
    "/",
    "..",
    ".",
    "../canary.txt",
    "../t1-evil/secret.txt",
    "../outside/secret.txt",
    "dir/../../canary.txt",
    "dir/../file.txt",
    "./file.txt",
    "dir/./file.txt",
    "dir//file.txt",
    "//canary.txt",
    "file.txt/",
    "dir/..",
    "%2e%2e/canary.txt",
    "%2E%2E%2Fcanary.txt",
    "..%2fcanary.txt",
    "%2e%2e%2foutside%2fsecret.txt",
    "dir%2f..%2f..%2fcanary.txt",
    "..\\canary.txt",
    "..%5ccanary.txt",
    "dir\\..\\..\\canary.txt",
    "C:\\Windows",
    "\\\\host\\share",
    "file.txt%00",
    "file.txt%00.png",
    "%00",
    "..%00/canary.txt",
    "file.txt%0a",
    "%1b]0;x%07",
    "file%7f",
    "%c0%ae%c0%ae/canary.txt",
    "%c0%ae%c0%ae%c0%afcanary.txt",
    "..%c0%afcanary.txt",
    "%e0%80%ae%e0%80%ae/canary.txt",
    "%f0%80%80%ae/canary.txt",
    "/proc/self/root",
    "/proc/self/environ",
    "%2fproc%2fself%2ffd%2f0",
    "/etc/passwd",
    "/dev/null",
    "CON",
    "con",
    "NUL",
    "aux",
    "COM1",
    "dir/lpt9",
    "file.txt.",
    "dir./file.txt",
    "...",
    "%",
    "%2",
    "%zz",
    "%%32%65",
    "%u002e%u002e/canary.txt",
];

/// The corpus with those that are too long to write down.
fn refused_corpus() -> Vec<String> {
    let mut corpus: Vec<String> = REFUSED_CORPUS.iter().copied().map(str::to_owned).collect();
    corpus.push("x".repeat(300));
    corpus.push(format!("dir/{}", "x".repeat(300)));
    corpus.push(vec!["d"; 1000].join("/"));
    corpus.push(vec![".."; 1000].join("/"));
    corpus.push("../".repeat(20) + "etc/passwd");
    corpus.push("a".repeat(1_000_000));
    corpus
}

/// Names that look like an attack to a second decoder or another system, and are plain names to this one.
const LITERAL_CORPUS: [&str; 7] = [
    "%252e%252e/canary.txt",
    "%25%32%65%25%32%65/canary.txt",
    "%252e%252e%252fcanary.txt",
    "proc/self/root",
    "etc/passwd",
    "%ef%bc%8e%ef%bc%8e/canary.txt", // full-width dots
    "%e2%80%a4%e2%80%a4/canary.txt", // one-dot leaders
];

/// The kernel's own record of what was opened or changed below some paths.
struct Watch(OwnedFd);

impl Watch {
    fn on(paths: &[&Path]) -> Self {
        let watch = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        for path in paths {
            add_watch(&watch, *path, WatchFlags::ALL_EVENTS).unwrap();
        }
        Self(watch)
    }

    fn outside_of(place: &Place) -> Self {
        Self::on(&[&place.path().join("outside"), &place.path().join("t1-evil"), &place.path().join("canary.txt")])
    }

    fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
        let mut reader = Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        loop {
            match reader.next() {
                Ok(_) => count += 1,
                Err(Errno::AGAIN) => return count,
                Err(errno) => panic!("inotify: {errno}"),
            }
        }
    }
}

#[test]
fn p01_hostile_names_are_400_on_every_method_and_open_nothing() {
    let place = Place::new();
    let outside = Watch::outside_of(&place);
    let inside = Watch::on(&[&place.inside(""), &place.inside("dir")]);
    for hostile in refused_corpus() {
        let shown: String = hostile.chars().take(60).collect();
        for (method, run) in EVERY_METHOD {
            let outcome = RelPath::from_encoded(&hostile).and_then(|path| run(&place.root, &path));
            let error = outcome.expect_err(&format!("{method} took {shown}"));
            assert!(is_400(&error), "{method} {shown}: {error:?}");
        }
    }
    assert_eq!(outside.count(), 0, "something outside was opened");
    assert_eq!(inside.count(), 0, "a refused name reached a system call");
    place.assert_outside_untouched();
}

#[test]
fn p01_hostile_bytes_that_no_url_decoded_are_400_too() {
    for hostile in
        [&b"../canary.txt"[..], b"/etc/passwd", b"a\0b", b"a\\b", b"\xc0\xae\xc0\xae/x", b"", b"a//b", b"a/.", b"NUL"]
    {
        assert!(is_400(&RelPath::parse(hostile).unwrap_err()), "{hostile:?}");
    }
    assert_eq!(RelPath::parse(b"%2e%2e").unwrap(), rel("%252e%252e"));
}

#[test]
fn p01_names_that_only_look_hostile_are_404_or_stay_inside() {
    for literal in LITERAL_CORPUS {
        for (method, run) in EVERY_METHOD {
            let place = Place::new();
            let outside = Watch::outside_of(&place);
            let path = rel(literal);
            match run(&place.root, &path) {
                Ok(()) => {
                    assert!(!matches!(method, "read" | "metadata" | "list" | "remove_tree"), "{method} found {literal}")
                }
                Err(error) => assert!(is_404(&error), "{method} {literal}: {error:?}"),
            }
            assert_eq!(outside.count(), 0, "{method} {literal} opened something outside");
            place.assert_outside_untouched();
        }
    }
}

#[test]
fn p01_the_watch_sees_an_open_when_there_is_one() {
    let place = Place::new();
    let watch = Watch::outside_of(&place);
    assert_eq!(watch.count(), 0);
    for file in ["canary.txt", "outside/secret.txt", "t1-evil/secret.txt"] {
        assert_eq!(fs::read_to_string(place.path().join(file)).unwrap(), CANARY);
        assert!(watch.count() > 0, "{file}");
    }
}

#[test]
fn p01_every_method_succeeds_on_a_plain_name() {
    for (method, run) in EVERY_METHOD {
        let place = Place::new();
        let name = match method {
            "list" | "list after" | "descend" | "remove_tree" => "dir",
            "create_new" | "create_dir_all" | "rename to" => "dir/new%20n%E9me",
            _ => "dir/file.txt",
        };
        let path = rel(name);
        run(&place.root, &path).unwrap_or_else(|error| panic!("{method}: {error:?}"));
        place.assert_outside_untouched();
    }
    let place = Place::new();
    assert_eq!(read_text(&place.root, &rel("dir/file.txt")).unwrap(), INSIDE);
    assert_eq!(read_text(&place.root, &rel("%64ir%2Ffile%2Etxt")).unwrap(), INSIDE);
}
