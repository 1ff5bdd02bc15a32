//! The audit log's files as they are on disk.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The files that hold lines.
#[must_use]
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the audit folder").map(|entry| entry.expect("an entry").path());
    let is_log = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with("audit") && name.contains(".jsonl") && !name.contains(".torn-")
    };
    entries.filter(is_log).collect()
}

/// Every whole line of a folder, by its number.
#[must_use]
pub fn lines(folder: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for path in files(folder) {
        let text = std::fs::read_to_string(path).expect("text");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        lines.extend(whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("one object a line")));
    }
    lines.sort_by_key(seq);
    lines
}

/// The number of a line.
#[must_use]
pub fn seq(line: &Value) -> u64 {
    line["seq"].as_u64().expect("a number")
}

/// The lines of what was done: without the log's own, and without those whose transaction was not committed.
#[must_use]
pub fn done(folder: &Path) -> Vec<Value> {
    let all = lines(folder);
    let undone: Vec<(u64, u64)> = all
        .iter()
        .filter(|line| line["action"] == "audit.uncommitted")
        .map(|line| {
            let end = |name: &str| line["detail"][name].as_u64().expect("a number");
            (end("from_seq"), end("to_seq"))
        })
        .collect();
    let is_done = |line: &Value| {
        let own = line["action"].as_str().expect("an action").starts_with("audit.");
        !own && !undone.iter().any(|(from, to)| (*from..=*to).contains(&seq(line)))
    };
    all.into_iter().filter(is_done).collect()
}
