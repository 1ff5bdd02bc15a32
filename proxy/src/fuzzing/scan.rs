//! The members of a JSON object, with `serde_json` as the judge.

use super::json::Members;
use crate::dialect::scan::{ScanError, members};

/// What `serde_json` takes for an object is one here, with the same members at the same places; what only we take for one has
/// its fault inside a value.
pub(super) fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut found = Vec::new();
    let ours = members(text, |key, range| found.push((key.into_owned(), text.get(range).unwrap_or("(no place)"))));
    let Ok(Members(theirs)) = serde_json::from_str::<Members>(text) else { return };
    match ours {
        Ok(_) => {}
        // `serde_json` does not count levels where it keeps a value as it is written.
        Err(ScanError::TooDeep) => return,
        Err(err @ ScanError::Malformed(_)) => panic!("an object that serde_json reads {err}"),
    }
    let theirs: Vec<(String, &str)> = theirs.iter().map(|(key, value)| (key.clone(), value.get())).collect();
    assert_eq!(found, theirs, "the members that serde_json finds");
}
