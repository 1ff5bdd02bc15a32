//! One line: made from an event, and read again. What is signed is the text, so that reading it needs no rules about JSON.

use openclawmu_store::AuditEvent;
use serde::{Deserialize, Serialize};

use crate::key::AuditKey;

/// The `prev` of the first line.
pub(super) const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What comes between the signed part and the `mac`.
const MARK: &[u8] = b",\"mac\":\"";
/// Digits of a `mac`.
const MAC_DIGITS: usize = 64;

/// The signed part. The order of its fields is that of the line.
#[derive(Serialize)]
struct Signed<'a> {
    seq: u64,
    #[serde(flatten)]
    event: &'a AuditEvent,
    prev: &'a str,
}

/// A line's text, with its line feed, and its `mac`.
pub(super) fn made(
    key: &AuditKey,
    seq: u64,
    prev: &str,
    event: &AuditEvent,
) -> Result<(String, String), serde_json::Error> {
    let mut text = serde_json::to_string(&Signed { seq, event, prev })?;
    let mac = key.mac(prev, text.as_bytes());
    text.pop();
    text.push_str(&format!(",\"mac\":\"{mac}\"}}\n"));
    Ok((text, mac))
}

/// What the chain needs of a line.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) seq: u64,
    pub(super) prev: String,
    pub(super) mac: String,
    pub(super) action: String,
    /// Whether the line is as it was written.
    #[serde(skip)]
    pub(super) is_whole: bool,
}

/// Reads a line without its line feed; `None` when it is none.
pub(super) fn read(key: &AuditKey, text: &[u8]) -> Option<Seen> {
    let mut seen: Seen = serde_json::from_slice(text).ok()?;
    let (rest, end) = text.split_at_checked(text.len().checked_sub(MARK.len() + MAC_DIGITS + 2)?)?;
    let mac = end.strip_prefix(MARK).and_then(|mac| mac.strip_suffix(b"\"}"));
    let signed = [rest, b"}"].concat();
    seen.is_whole = mac == Some(seen.mac.as_bytes()) && key.is_mac(&seen.mac, &seen.prev, &signed);
    Some(seen)
}
