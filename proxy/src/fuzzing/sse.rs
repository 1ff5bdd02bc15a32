//! Server-sent events.

use super::cut;
use crate::sse::{self, Splitter};

/// The events of a stream and what is left at its end.
pub(super) fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let (mut splitter, mut events) = (Splitter::default(), Vec::new());
    for piece in pieces {
        if splitter.is_event(piece) {
            let mut alone = Splitter::default();
            alone.push(piece).expect("an event that came in one piece is not too long");
            assert_eq!(alone.next().as_deref(), Some(piece), "what passes as it stands is what would be cut out");
        }
        if splitter.push(piece).is_err() {
            return events;
        }
        while let Some(event) = splitter.next() {
            assert!(ends_with_blank_line(&event), "an event goes on with its blank line");
            events.push(event.to_vec());
        }
    }
    events.extend(splitter.rest().map(|rest| rest.to_vec()));
    events
}

fn ends_with_blank_line(event: &[u8]) -> bool {
    [&b"\n\n"[..], b"\r\r", b"\n\r", b"\r\n\n", b"\r\n\r\n", b"\n\r\n", b"\r\r\n"]
        .iter()
        .any(|end| event.ends_with(end))
}

/// What a client understands of them.
fn said(events: &[Vec<u8>]) -> Vec<(Option<String>, Vec<u8>)> {
    let one = |event: &Vec<u8>| {
        let data = sse::data(event)?.into_owned();
        // A comment before it makes no difference, and takes the short way away.
        let commented = [b":\n", event.as_slice()].concat();
        assert_eq!(
            sse::data(&commented).as_deref(),
            Some(data.as_slice()),
            "the short way reads what the long one does"
        );
        Some((sse::name(event).map(std::borrow::Cow::into_owned), data))
    };
    events.iter().filter_map(one).collect()
}

/// Wherever a stream is cut, it says the same, and nothing of it is lost.
pub(super) fn target(data: &[u8]) {
    let whole = events([data]);
    assert_eq!(whole.concat(), data, "every byte goes on");
    let said_whole = said(&whole);
    let smallest = if data.len() < 1 << 9 { 1 } else { 1 << 6 };
    for events in [events(cut::pieces(data)), events(data.chunks(smallest))] {
        assert_eq!(events.concat(), data, "every byte goes on");
        assert_eq!(said(&events), said_whole, "a client understands the same");
    }
}
