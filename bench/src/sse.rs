//! Cuts a server-sent event stream into events. Knows the blank line that ends an event and nothing of what
//! an event says. Never holds more than the event that is still open.

use anyhow::Result;

use crate::wire::find;

const EVENT_END: &[u8] = b"\n\n";

/// Gathers the bytes of a body until an event is whole.
#[derive(Debug, Default)]
pub(crate) struct Events {
    open: Vec<u8>,
}

impl Events {
    /// Takes the next bytes; `on_event` gets each whole event with the blank line that ends it.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut on_event: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.open.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(rest) = self.open.get(taken..) {
            let Some(end) = find(rest, EVENT_END) else {
                break;
            };
            let (event, _) = rest.split_at(end + EVENT_END.len());
            on_event(event)?;
            taken += event.len();
        }
        self.open.drain(..taken);
        Ok(())
    }

    /// Whether the stream ended between two events.
    pub(crate) fn is_between(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_split_at_every_byte_gives_the_same_events() {
        let wire = b"data: {\"a\":1}\n\ndata: two\n\ndata: [DONE]\n\n";
        for cut in 0..=wire.len() {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in [&wire[..cut], &wire[cut..]] {
                events
                    .feed(piece, |event| {
                        seen.push(event.to_vec());
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(seen.len(), 3, "cut at {cut}");
            assert_eq!(seen.concat(), wire, "cut at {cut}");
            assert!(events.is_between());
        }
    }

    #[test]
    fn an_event_without_its_blank_line_is_not_given() {
        let mut events = Events::default();
        events.feed(b"data: cut\n", |_| panic!("given")).unwrap();
        assert!(!events.is_between());
    }
}
