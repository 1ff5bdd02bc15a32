//! Responses that only this connection knows, because they are not to be stored: the newest, as many as fit.

use std::collections::VecDeque;

use serde_json::Value;

/// The most responses that are remembered.
const MOST: usize = 32;

/// What is remembered.
#[derive(Debug)]
pub(super) struct Memory {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    id: String,
    stream: Option<String>,
    /// The whole conversation up to and with it.
    items: Vec<Value>,
    bytes: usize,
}

impl Memory {
    /// A memory of at most `limit` bytes, of which the newest response alone may need more.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit }
    }

    /// The conversation up to and with a response.
    pub(super) fn items(&self, id: &str) -> Option<&[Value]> {
        self.entries.iter().find(|entry| entry.id == id).map(|entry| entry.items.as_slice())
    }

    /// Remembers a response of a stream. What is oldest goes where there is no room.
    pub(super) fn keep(&mut self, id: String, stream: Option<String>, items: Vec<Value>) {
        let bytes = items.iter().map(|item| item.to_string().len()).sum();
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries.push_back(Entry { id, stream, items, bytes });
        while self.entries.len() > MOST || (self.bytes > self.limit && self.entries.len() > 1) {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
    }

    /// A continuation of a response has failed: it is forgotten, unless it is another stream's.
    pub(super) fn evict(&mut self, id: &str, stream: Option<&str>) {
        let own = |entry: &Entry| entry.id == id && entry.stream.as_deref() == stream;
        let Some(place) = self.entries.iter().position(own) else { return };
        if let Some(entry) = self.entries.remove(place) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_are_remembered_and_no_more_than_fit() {
        let mut memory = Memory::new(20);
        for id in ["a", "b", "c"] {
            memory.keep(id.to_owned(), None, vec![json!("12345678")]);
        }
        assert_eq!(memory.items("a"), None);
        assert_eq!((memory.items("b"), memory.bytes), (Some([json!("12345678")].as_slice()), 20));
        memory.keep("large".to_owned(), None, vec![json!("x".repeat(100))]);
        assert!(memory.items("c").is_none() && memory.items("large").is_some());
        for count in 0..100 {
            memory.keep(count.to_string(), None, Vec::new());
        }
        assert_eq!((memory.entries.len(), memory.bytes), (MOST, 0));
    }

    #[test]
    fn a_failed_continuation_evicts_its_own_streams_response() {
        let mut memory = Memory::new(100);
        memory.keep("a".to_owned(), Some("one".to_owned()), vec![json!(1)]);
        memory.evict("a", None);
        memory.evict("b", Some("one"));
        assert!(memory.items("a").is_some());
        memory.evict("a", Some("one"));
        assert_eq!((memory.items("a"), memory.bytes), (None, 0));
    }
}
