//! P-01, the part before any system call: what [`RelPath`] takes and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;

use proptest::prelude::*;

use super::*;

fn refusal(encoded: &str) -> PathError {
    RelPath::from_encoded(encoded).unwrap_err()
}

#[test]
fn p01_plain_names_are_taken_as_they_are() {
    for plain in
        ["a", "a/b/c.txt", "..a", "a..b", ".hidden", "a b", "aux.c", "conf", "com10", "Ünïcode/日本", "~", "-rf"]
    {
        let path = RelPath::parse(plain.as_bytes()).unwrap();
        assert_eq!(path.as_os_str(), OsStr::new(plain));
        assert_eq!(path.components().count(), plain.split('/').count());
    }
}

#[test]
fn p01_an_empty_path_is_refused() {
    assert!(matches!(refusal(""), PathError::Empty));
}

#[test]
fn p01_absolute_dotted_and_doubled_are_refused() {
    for escape in [
        "/",
        "/etc/passwd",
        "//etc",
        "..",
        "../x",
        "a/../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "/proc/self/root",
    ] {
        assert!(matches!(refusal(escape), PathError::Escape), "{escape}");
    }
}

#[test]
fn p01_encoded_dots_and_slashes_are_decoded_before_the_check() {
    for escape in ["%2e%2e", "%2E%2e/x", "..%2fx", "%2fetc%2fpasswd", "a%2f%2e%2e%2fb", "%2e"] {
        assert!(matches!(refusal(escape), PathError::Escape), "{escape}");
    }
    assert_eq!(RelPath::from_encoded("a%2fb").unwrap(), RelPath::parse(b"a/b").unwrap());
}

#[test]
fn p01_a_double_encoded_dot_stays_a_literal() {
    let path = RelPath::from_encoded("%252e%252e/%252fetc").unwrap();
    assert_eq!(path.as_os_str(), OsStr::new("%2e%2e/%2fetc"));
    assert_eq!(path.to_string(), "%252e%252e/%252fetc");
}

#[test]
fn p01_nul_backslash_and_control_characters_are_refused() {
    for bad in ["a%00b", "%00", "..\\..\\x", "a%5cb", "a%0ab", "a%1b[2J", "a%7f", "%C2%85", "a\u{9b}m"] {
        assert!(matches!(refusal(bad), PathError::Forbidden), "{bad}");
    }
}

#[test]
fn p01_overlong_utf8_is_refused_and_other_bytes_are_names() {
    for bad in ["%c0%ae%c0%ae", "%c0%af", "%c1%9c", "%e0%80%ae", "%f0%80%80%ae", "a/%c0%ae%c0%ae/b"] {
        assert!(matches!(refusal(bad), PathError::Forbidden), "{bad}");
    }
    let latin1 = RelPath::from_encoded("caf%e9").unwrap();
    assert_eq!(latin1.as_os_str().as_bytes(), b"caf\xe9");
    assert_eq!(latin1.to_string(), "caf%E9");
}

#[test]
fn p01_device_names_and_trailing_dots_are_refused() {
    for bad in ["CON", "con", "a/NUL", "Com1", "lpt9/x", "file.", "...", "a./b"] {
        assert!(matches!(refusal(bad), PathError::Forbidden), "{bad}");
    }
}

#[test]
fn p01_a_component_ends_at_255_bytes_a_path_at_32_components() {
    assert!(RelPath::parse("x".repeat(255).as_bytes()).is_ok());
    assert!(matches!(refusal(&"x".repeat(256)), PathError::TooLong));
    assert!(matches!(refusal(&"x".repeat(300)), PathError::TooLong));
    assert!(RelPath::parse(vec!["d"; 32].join("/").as_bytes()).is_ok());
    assert!(matches!(refusal(&vec!["d"; 33].join("/")), PathError::TooLong));
    assert!(matches!(refusal(&vec!["d"; 1000].join("/")), PathError::TooLong));
    let long = vec!["x".repeat(254); 17].join("/");
    assert!(matches!(refusal(&long), PathError::TooLong));
}

#[test]
fn p01_a_broken_percent_is_refused() {
    for bad in ["%", "%2", "a%zz", "a%2", "%%20", "%+1", "%é"] {
        assert!(matches!(refusal(bad), PathError::BadEncoding), "{bad}");
    }
    assert_eq!(RelPath::from_encoded("a%20b+c").unwrap().as_os_str(), OsStr::new("a b+c"));
}

#[test]
fn join_checks_what_it_joins() {
    let dir = RelPath::parse(b"a/b").unwrap();
    assert_eq!(dir.join(OsStr::new("c")).unwrap().to_string(), "a/b/c");
    assert_eq!(dir.join(OsStr::new("c")).unwrap().name(), OsStr::new("c"));
    assert!(matches!(dir.join(OsStr::new("..")), Err(PathError::Escape)));
    assert!(matches!(dir.join(OsStr::new("")), Err(PathError::Escape)));
}

/// Paths made of what attacks are made of, so that the search finds the edges.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"..".to_vec()),
        Just(b".".to_vec()),
        Just(b"/".to_vec()),
        Just(b"%2e".to_vec()),
        Just(b"%252e".to_vec()),
        Just(b"\\".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"\xc0\xae".to_vec()),
        Just(b"name".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn p01_whatever_is_taken_has_only_plain_components(bytes in hostile_bytes()) {
        if let Ok(path) = RelPath::parse(&bytes) {
            prop_assert_eq!(path.as_os_str().as_bytes(), bytes.as_slice());
            prop_assert!((1..=32).contains(&path.components().count()));
            for component in path.components() {
                let name = component.as_bytes();
                prop_assert!(!name.is_empty() && name.len() <= 255);
                prop_assert!(name != b"." && name != b"..");
                prop_assert!(!name.iter().any(|byte| *byte < 0x20 || matches!(byte, 0x7f | b'\\' | b'/')));
            }
        }
    }

    #[test]
    fn p01_display_reads_back_as_the_same_path(bytes in hostile_bytes()) {
        if let Ok(path) = RelPath::parse(&bytes) {
            let shown = path.to_string();
            prop_assert!(shown.is_ascii());
            prop_assert_eq!(RelPath::from_encoded(&shown).unwrap(), path);
        }
    }

    #[test]
    fn p01_encoded_and_decoded_input_are_judged_alike(bytes in hostile_bytes()) {
        let encoded: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        prop_assert_eq!(RelPath::from_encoded(&encoded).is_ok(), RelPath::parse(&bytes).is_ok());
    }

    #[test]
    fn p01_ordinary_names_are_always_taken(names in proptest::collection::vec("[a-z0-9_-]{1,20}_", 1..32)) {
        prop_assert!(RelPath::parse(names.join("/").as_bytes()).is_ok());
    }
}
