//! What a session is made of: one JSON object a line, each one message of a turn. A process may end at any byte of it: what is
//! no whole line is passed over, and what a turn lacks is never told to a model as if it were whole.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Whoever speaks to the agent.
    User,
    /// The model.
    Assistant,
    /// What a tool gave.
    Tool,
}

/// One message. Fields may be added, none renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, RFC 3339.
    pub at: String,
    /// The turn that it is of: the id of the request that asked for it.
    pub turn: String,
    /// The request that made it; of a model's, the one whose row is on the ledger.
    pub request_id: String,
    /// Who said it.
    pub role: Role,
    /// A text, or parts as OpenAI's chats have them.
    #[serde(default)]
    pub content: Value,
    /// What the model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Value>,
    /// The call that a tool answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who brought it, where that was no client of the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Line {
    /// The message as OpenAI's chats have it.
    #[must_use]
    pub fn message(&self) -> Value {
        let mut message = Map::new();
        message.insert("role".to_owned(), serde_json::to_value(self.role).unwrap_or_default());
        message.insert("content".to_owned(), self.content.clone());
        if let Some(calls) = &self.tool_calls {
            message.insert("tool_calls".to_owned(), calls.clone());
        }
        if let Some(id) = &self.tool_call_id {
            message.insert("tool_call_id".to_owned(), id.as_str().into());
        }
        Value::Object(message)
    }

    /// The ids that it calls by; none where it calls nothing.
    fn called(&self) -> Vec<&str> {
        let calls = self.tool_calls.as_ref().and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        calls.iter().map(|call| call.get("id").and_then(Value::as_str).unwrap_or_default()).collect()
    }
}

/// What was read of a session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// Its messages.
    pub lines: Vec<Line>,
    /// Lines that are no messages: what a process left that died while it wrote.
    pub unreadable: usize,
}

impl Lines {
    /// Reads a session's bytes, whatever they are.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut read = Self::default();
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => read.lines.push(line),
                Err(_) => read.unreadable += 1,
            }
        }
        read
    }
}

/// The messages of the last turns that came to an end: at most so many turns, of at most so many bytes, each whole or not at all.
#[must_use]
pub fn history(lines: &[Line], (turns, bytes): (usize, usize)) -> Vec<Value> {
    let mut order: Vec<Vec<&Line>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for line in lines {
        let place = *places.entry(&line.turn).or_insert_with(|| {
            order.push(Vec::new());
            order.len() - 1
        });
        if let Some(turn) = order.get_mut(place) {
            turn.push(line);
        }
    }
    let (mut chosen, mut left) = (Vec::new(), bytes);
    for turn in order.iter().rev().filter(|turn| is_whole(turn)).take(turns) {
        let messages: Vec<Value> = turn.iter().map(|line| line.message()).collect();
        let size = messages.iter().map(|message| message.to_string().len()).sum();
        let Some(rest) = left.checked_sub(size) else { break };
        left = rest;
        chosen.push(messages);
    }
    chosen.into_iter().rev().flatten().collect()
}

/// Whether a turn ends with words of the model's, and each call in it is answered right behind it.
fn is_whole(turn: &[&Line]) -> bool {
    let mut owed: Vec<&str> = Vec::new();
    for line in turn {
        match (line.role, line.tool_call_id.as_deref()) {
            (Role::Tool, Some(id)) => {
                let before = owed.len();
                owed.retain(|other| *other != id);
                if owed.len() + 1 != before {
                    return false;
                }
            }
            (Role::Tool, None) => return false,
            (Role::User | Role::Assistant, _) if !owed.is_empty() => return false,
            (Role::User, _) => {}
            (Role::Assistant, _) => owed = line.called(),
        }
    }
    let speaks = |last: &&&Line| last.role == Role::Assistant && last.tool_calls.is_none() && last.content != "";
    let said = turn.last().filter(speaks).is_some();
    said && turn.first().is_some_and(|first| first.role == Role::User)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(in crate::agent) fn line(turn: &str, role: Role, content: &str) -> Line {
        Line {
            at: "2026-11-27T00:00:00.000Z".to_owned(),
            turn: turn.to_owned(),
            request_id: turn.to_owned(),
            role,
            content: content.into(),
            tool_calls: None,
            tool_call_id: None,
            by: None,
        }
    }

    fn calls(turn: &str, ids: &[&str]) -> Line {
        let calls: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
        Line { tool_calls: Some(calls.into()), ..line(turn, Role::Assistant, "") }
    }

    fn gave(turn: &str, id: &str) -> Line {
        Line { tool_call_id: Some(id.to_owned()), ..line(turn, Role::Tool, "done") }
    }

    /// A turn with two calls.
    fn whole(turn: &str) -> Vec<Line> {
        vec![
            line(turn, Role::User, "do"),
            calls(turn, &["a", "b"]),
            gave(turn, "b"),
            gave(turn, "a"),
            line(turn, Role::Assistant, "done"),
        ]
    }

    fn bytes(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(|line| (serde_json::to_string(line).unwrap() + "\n").into_bytes()).collect()
    }

    const ALL: (usize, usize) = (1_000, usize::MAX);

    #[test]
    fn only_turns_that_came_to_an_end_are_told_again_and_the_last_ones_first() {
        let mut lines = whole("one");
        lines.push(line("two", Role::User, "refused"));
        lines.extend(whole("three"));
        assert_eq!(history(&lines, ALL).len(), 10);
        assert_eq!(history(&lines, (1, usize::MAX)).len(), 5);
        let size: usize = whole("three").iter().map(|line| line.message().to_string().len()).sum();
        assert_eq!(history(&lines, (9, size)).len(), 5);
        assert_eq!(history(&lines, (9, size - 1)).len(), 0);
        assert_eq!(history(&lines, (0, size)).len(), 0);
        assert_eq!(
            history(&whole("one"), ALL)[1],
            json!({"role": "assistant", "content": "", "tool_calls": [{"id": "a"}, {"id": "b"}]})
        );
    }

    #[test]
    fn a_turn_that_lacks_a_line_is_not_told_again() {
        for lost in 0..5 {
            let mut lines = whole("one");
            lines.remove(lost);
            // Without the call's own line its results are of no call.
            assert_eq!(history(&lines, ALL), Vec::<Value>::new(), "without line {lost}");
        }
        assert_eq!(history(&whole("one"), ALL).len(), 5);
        let mut silent = whole("one");
        silent[4].content = "".into();
        assert_eq!(history(&silent, ALL), Vec::<Value>::new(), "nothing was said in the end");
    }

    proptest! {
        /// Cut at any byte, a session is a prefix of its lines, and no call in what is told again lacks its answer.
        #[test]
        fn whatever_is_cut_off_the_rest_is_read(turns in 1_usize..4, at in any::<prop::sample::Index>(), noise in proptest::collection::vec(any::<u8>(), 0..40)) {
            let lines: Vec<Line> = (0..turns).flat_map(|turn| whole(&turn.to_string())).collect();
            let written = bytes(&lines);
            let cut = at.index(written.len() + 1);
            let read = Lines::read(&written[..cut]);
            prop_assert_eq!(&read.lines[..], &lines[..read.lines.len()]);
            prop_assert!(read.unreadable <= 1);
            prop_assert_eq!(history(&read.lines, ALL).len(), read.lines.len() / 5 * 5);
            // What follows a torn line, on a line of its own, is read as well.
            let mut torn = written[..cut].to_vec();
            torn.extend(noise.iter().filter(|byte| **byte != b'\n'));
            torn.push(b'\n');
            torn.extend(bytes(&whole("last")));
            let after = Lines::read(&torn);
            prop_assert_eq!(&after.lines[after.lines.len() - 5..], &whole("last")[..]);
            prop_assert_eq!(history(&after.lines, (1, usize::MAX)).len(), 5);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let read = Lines::read(&bytes);
            prop_assert!(history(&read.lines, ALL).len() <= read.lines.len());
        }
    }
}
