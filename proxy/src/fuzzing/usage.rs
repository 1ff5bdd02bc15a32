//! What an answer costs, heard as it passes.

use bytes::Bytes;

use super::{cut, sse as events};
use crate::dialect::Dialect;
use crate::sse;
use crate::way::Way;

/// The dialects whose answers pass as they came.
const SAME: [Dialect; 3] = [Dialect::Openai, Dialect::Anthropic, Dialect::Gemini];
/// What takes the short ways away.
const SPACE: &[u8] = b"  ";

/// Nothing is heard in an answer but what it says: no more text than it has bytes, and with spaces in it, which take the short
/// ways away, the same. What passes is what came.
pub(super) fn target(data: &[u8]) {
    for dialect in SAME {
        if let Some(whole) = Way::same(dialect).whole("application/json", Bytes::copy_from_slice(data)) {
            assert_eq!(whole.body, data, "what passes is what came");
            assert!(whole.text_bytes <= data.len(), "{dialect:?}: no more text than bytes");
        }
        let mut way = Way::same(dialect);
        let mut slow = Way::same(dialect);
        for event in events::events(cut::pieces(data)) {
            let (heard, passed) = way.event(Bytes::copy_from_slice(&event));
            assert_eq!(passed, event, "what passes is what came");
            assert!(heard.text_bytes <= event.len(), "{dialect:?}: no more text than bytes");
            let Some(spaced) = spaced(&event) else {
                // Both have heard the same before the next one.
                slow.event(Bytes::copy_from_slice(&event));
                continue;
            };
            let unread = sse::data(&spaced).map_or(0, |data| data.len());
            let (mut again, _) = slow.event(spaced);
            if again.text_bytes == unread {
                // What can't be read is bounded by its size.
                again.text_bytes -= SPACE.len();
            }
            assert_eq!(again, heard, "{dialect:?}: the short way hears what the long one does");
        }
        ends(dialect, data);
    }
}

/// The event's data with spaces where JSON allows them, which takes the short ways away; `None` where it is no JSON object, which
/// the short ways do not look at closely: of a text that is no UTF-8 they give its length, of the whole event the long one.
fn spaced(event: &[u8]) -> Option<Bytes> {
    let data = sse::data(event)?;
    let object = data.strip_prefix(b"{")?;
    if std::str::from_utf8(&data).is_err() || data.iter().any(u8::is_ascii_control) {
        return None;
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(&data).ok()?;
    let name = sse::name(event).map(|name| format!("event: {name}\n")).unwrap_or_default();
    Some([name.as_bytes(), b"data: {", SPACE, object, b"\n\n"].concat().into())
}

/// A body that ends before anything was finished has no end of its own.
fn ends(dialect: Dialect, data: &[u8]) {
    let mut way = Way::same(dialect);
    let (heard, _) = way.end((!data.is_empty()).then(|| Bytes::copy_from_slice(data)), false);
    assert!(!heard.done || heard.finished || heard.error || !data.is_empty(), "{dialect:?}: nothing is no end");
}
