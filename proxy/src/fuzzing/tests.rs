//! The targets on the golden files, whole and torn, and on what is known to be hard.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use super::TARGETS;

/// Every golden file.
fn golden() -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialect")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.components().any(|part| part.as_os_str() == "golden") {
                found.push((path.clone(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the golden files are where they were");
    found
}

fn hold(what: &str, data: &[u8]) {
    for (name, target) in TARGETS {
        assert!(catch_unwind(|| target(data)).is_ok(), "{name} on {what}");
    }
}

#[test]
fn every_property_holds_for_every_golden_file() {
    for (path, data) in golden() {
        hold(&path.display().to_string(), &data);
    }
}

#[test]
fn every_property_holds_for_every_golden_file_torn() {
    for (path, data) in golden() {
        for part in 1..4 {
            let at = data.len() * part / 4;
            hold(&format!("{} up to byte {at}", path.display()), data.get(..at).unwrap());
        }
    }
}

#[test]
fn e_11_every_property_holds_for_what_is_known_to_be_hard() {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
    let levels = [deep("[", "]"), deep("{\"a\":", "}"), "[".repeat(100_000), "{\"messages\":".repeat(100_000)];
    for deep in &levels {
        for body in [
            deep.clone(),
            format!("{{\"model\":\"m\",\"max_tokens\":1,\"messages\":{deep},\"contents\":{deep}}}"),
            format!("{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[],\"contents\":[],\"metadata\":{deep}}}"),
            format!("{{\"choices\":{deep},\"content\":{deep},\"candidates\":{deep},\"usage\":{deep}}}"),
            format!("event: message_start\ndata: {deep}\n\n"),
        ] {
            hold("deep JSON", body.as_bytes());
        }
    }
    for body in [
        r#"{"model":"a","model":"b","messages":[],"max_tokens":1,"max_tokens":2,"contents":[],"contents":[]}"#,
        r#"{"model":"a","mode\u006c":"b","messages":[],"max_tokens":1}"#,
        r#"{"model":"a","messages":[{"role":"user","role":"system","content":"x","content":"y"}],"max_tokens":1}"#,
        r#"{"contents":[],"generationConfig":{"maxOutputTokens":1,"max_output_tokens":2}}"#,
        "{\"model\":\"\u{0}\",\"messages\":[]}",
        "{\"model\":\"\\ud800\",\"messages\":[]}",
        "\u{feff}{}",
        "",
    ] {
        hold(body, body.as_bytes());
    }
    for torn in [
        &b"{\"model\":\"\xff\"}"[..],
        b"data: {\"choices\":[{\"delta\":{\"content\":\"\xc3\n\n\xa9\"}}]}\n\n",
        b"\xed\xa0\x80",
    ] {
        hold("bytes that are no UTF-8", torn);
    }
}
