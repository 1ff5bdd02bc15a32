//! Golden files: what a dialect makes of a wire-faithful input, kept beside it.
//!
//! With `OPENCLAWMU_BLESS=1` the files are written anew; otherwise a difference fails and shows both.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// `proxy/src/dialect/<name>`
fn place(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect").join(name)
}

/// The text of a fixture.
pub(crate) fn input(name: &str) -> String {
    let path = place(name);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{} can't be read: {err}", path.display()))
}

/// The fixtures of a folder whose names end so, in order.
pub(crate) fn list(folder: &str, suffix: &str) -> Vec<String> {
    let path = place(folder);
    let entries = fs::read_dir(&path).unwrap_or_else(|err| panic!("{} can't be read: {err}", path.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(suffix))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "{} holds no *{suffix}", path.display());
    names
}

/// Compares a text with its golden file.
pub(crate) fn check(name: &str, actual: &str) {
    let path = place(name);
    if std::env::var_os("OPENCLAWMU_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, actual).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == actual {
        return;
    }
    let line = expected.lines().zip(actual.lines()).take_while(|(old, new)| old == new).count();
    let around = |text: &str| text.lines().skip(line.saturating_sub(3)).take(12).collect::<Vec<_>>().join("\n");
    panic!(
        "{name} differs from line {} on (OPENCLAWMU_BLESS=1 writes it anew)\n--- kept\n{}\n--- now\n{}\n",
        line + 1,
        around(&expected),
        around(actual)
    );
}

/// Compares JSON, indented, with its golden file.
pub(crate) fn check_json(name: &str, actual: &[u8]) {
    let value: Value = serde_json::from_slice(actual).unwrap();
    check(name, &format!("{}\n", serde_json::to_string_pretty(&value).unwrap()));
}

/// Compares anything by its debug form with its golden file.
pub(crate) fn check_debug(name: &str, actual: &impl std::fmt::Debug) {
    check(name, &format!("{actual:#?}\n"));
}
