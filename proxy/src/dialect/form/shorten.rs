//! A conversation made to fit a model's context by leaving out its beginning, for clients that ask for that.

use super::{Part, Request, Role, Source, Turn};

/// Tokens around the text of a turn.
const TURN_TOKENS: usize = 8;
/// What an image is taken to be, in tokens.
const IMAGE_TOKENS: usize = 1_600;

/// Leaves out the oldest turns until the prompt fits `room` tokens, by `count`'s word for texts; the system prompt and the
/// last turn stay. What is left begins with what a user said: no result without its call, no answer without its question.
pub(crate) fn shorten(request: &mut Request, room: u32, count: impl Fn(&str) -> usize) {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let tools: usize = request.tools.iter().map(|tool| count(&tool.parameters.to_string()) + TURN_TOKENS).sum();
    let system: usize = request.system.iter().map(|said| part(said, &count)).sum();
    let sizes: Vec<usize> = request.turns.iter().map(|turn| size(turn, &count)).collect();
    let mut whole = sizes.iter().sum::<usize>() + tools + system;
    let mut first = 0;
    for (index, size) in sizes.iter().enumerate() {
        if whole <= room {
            break;
        }
        whole = whole.saturating_sub(*size);
        first = index + 1;
    }
    let last = request.turns.len().saturating_sub(1);
    let begins = |turn: &Turn| turn.role == Role::User && !turn.parts.iter().any(is_result);
    // Nothing was left out, nothing has to be.
    if first > 0 {
        let start = (first..=last).find(|index| request.turns.get(*index).is_some_and(begins)).unwrap_or(last);
        request.turns.drain(..start);
    }
}

fn is_result(part: &Part) -> bool {
    matches!(part, Part::ToolResult { .. })
}

fn size(turn: &Turn, count: &impl Fn(&str) -> usize) -> usize {
    turn.parts.iter().map(|said| part(said, count)).sum::<usize>() + TURN_TOKENS
}

fn part(part: &Part, count: &impl Fn(&str) -> usize) -> usize {
    match part {
        Part::Text { text, .. } | Part::Thinking { text, .. } | Part::Refusal { text } => count(text),
        Part::ToolCall { name, arguments, .. } => count(name) + count(arguments),
        Part::ToolResult { content, .. } => content.iter().map(|said| self::part(said, count)).sum(),
        Part::Image { .. } => IMAGE_TOKENS,
        Part::Document { source, .. } => match source {
            Source::Text(text) => count(text),
            Source::Data { data, .. } => data.len() / 4,
            Source::Url(_) | Source::File(_) => IMAGE_TOKENS,
        },
        Part::Audio { data, .. } | Part::RedactedThinking { data } => data.len() / 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, text: &str) -> Turn {
        Turn { role, parts: vec![Part::text(text.to_owned())] }
    }

    fn result() -> Turn {
        let part = Part::ToolResult {
            id: "c".into(),
            content: vec![Part::text("x".repeat(50))],
            is_error: false,
            cache: None,
        };
        Turn { role: Role::User, parts: vec![part] }
    }

    fn texts(room: u32) -> Vec<String> {
        let turns = vec![
            said(Role::User, &"a".repeat(100)),
            said(Role::Assistant, &"b".repeat(100)),
            result(),
            said(Role::User, &"c".repeat(100)),
            said(Role::Assistant, &"d".repeat(100)),
            said(Role::User, "e"),
        ];
        let mut request = Request { system: vec![Part::text("s".repeat(10))], turns, ..Request::default() };
        shorten(&mut request, room, str::len);
        let first = |turn: &Turn| match turn.parts.first() {
            Some(Part::Text { text, .. }) => text.chars().take(1).collect(),
            _ => "result".to_owned(),
        };
        request.turns.iter().map(first).collect()
    }

    #[test]
    fn the_oldest_turns_go_and_what_is_left_begins_with_a_question() {
        assert_eq!(texts(10_000), ["a", "b", "result", "c", "d", "e"]);
        // Without `a` it would fit; then an answer and a result would stand without what they belong to.
        assert_eq!(texts(440), ["c", "d", "e"]);
        assert_eq!(texts(300), ["c", "d", "e"]);
        assert_eq!(texts(200), ["e"]);
        assert_eq!(texts(1), ["e"], "the last turn stays, whatever it is");
    }
}
