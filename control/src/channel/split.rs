//! Long answers in parts that a messenger takes. Nothing is lost at a seam but the white space it is made at.

/// The parts of `text`, each of at most `units` UTF-16 units, which is how Telegram and others count. A seam is at a line's end,
/// or between words, where there is one in the last half of a part.
pub(super) fn parts(text: &str, units: usize) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let end = fitting(rest, units.max(2));
        let (head, tail) = rest.split_at(end);
        if tail.is_empty() {
            parts.push(head);
            break;
        }
        let late = |at: &usize| *at > head.len() / 2;
        let seam = head.rfind('\n').filter(late).or_else(|| head.rfind(char::is_whitespace).filter(late));
        let (part, next) = rest.split_at(seam.unwrap_or(end));
        parts.push(part.trim_end());
        rest = next.trim_start();
    }
    parts
}

/// Where the longest beginning of at most `units` ends; at least one character.
fn fitting(text: &str, units: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.len_utf16();
        if used > units {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_seam_is_where_a_reader_would_put_it() {
        assert_eq!(parts("", 10), Vec::<&str>::new());
        assert_eq!(parts("  short ", 10), ["short"]);
        assert_eq!(parts("one two three", 9), ["one two", "three"]);
        assert_eq!(
            parts("one two three\nfour five", 19),
            ["one two three", "four five"],
            "a line's end before a word's"
        );
        assert_eq!(parts("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(parts("😀😀😀", 4), ["😀😀", "😀"], "an emoji is two units");
    }

    proptest! {
        #[test]
        fn no_part_is_too_long_and_no_word_is_lost(text in "(\\PC|[ \n]){0,400}", units in 2_usize..50) {
            let parts = parts(&text, units);
            for part in &parts {
                prop_assert!(!part.is_empty() && part.encode_utf16().count() <= units);
            }
            let letters = |text: &str| text.chars().filter(|letter| !letter.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&parts.concat()), letters(&text));
        }
    }
}
