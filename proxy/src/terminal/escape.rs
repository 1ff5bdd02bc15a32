//! How one leaves a terminal from the keyboard, as `ssh` has it: `~.` after a new line; `~~` there is one `~`.

/// What was typed so far.
#[derive(Debug, Default)]
pub(super) struct Escape {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// After a new line, or at the very beginning.
    #[default]
    LineStart,
    /// After `~` there; it has not been handed on.
    Tilde,
    Within,
}

/// What becomes of what was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// It goes on.
    Keys(Vec<u8>),
    /// Whoever types leaves.
    Leave,
}

impl Escape {
    /// Takes what was typed; nothing at all is the keyboard's end.
    pub(super) fn typed(&mut self, keys: &[u8]) -> Typed {
        if keys.is_empty() {
            return Typed::Leave;
        }
        let mut on = Vec::with_capacity(keys.len().saturating_add(1));
        for key in keys {
            self.state = match (self.state, key) {
                (State::LineStart, b'~') => State::Tilde,
                (State::Tilde, b'.') => return Typed::Leave,
                (State::Tilde, b'~') => {
                    on.push(b'~');
                    State::Within
                }
                (state, key) => {
                    if state == State::Tilde {
                        on.push(b'~');
                    }
                    on.push(*key);
                    if matches!(key, b'\r' | b'\n') { State::LineStart } else { State::Within }
                }
            };
        }
        Typed::Keys(on)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&str]) -> Option<String> {
        let (mut escape, mut on) = (Escape::default(), Vec::new());
        for piece in pieces {
            match escape.typed(piece.as_bytes()) {
                Typed::Keys(keys) => on.extend(keys),
                Typed::Leave => return None,
            }
        }
        Some(String::from_utf8(on).unwrap())
    }

    #[test]
    fn only_after_a_new_line_it_leaves() {
        for leaves in [&["~."][..], &["~", "."], &["ls\r~."], &["ls\r", "~", "."], &["a\n~."], &[""]] {
            assert_eq!(all(leaves), None, "{leaves:?}");
        }
        for (typed, on) in [
            (&["a~."][..], "a~."),
            (&["~~."], "~."),
            (&["cd ~\r"], "cd ~\r"),
            (&["~x"], "~x"),
            (&["~", "\r", "x"], "~\rx"),
            (&["~/bin\r"], "~/bin\r"),
        ] {
            assert_eq!(all(typed).as_deref(), Some(on), "{typed:?}");
        }
    }
}
