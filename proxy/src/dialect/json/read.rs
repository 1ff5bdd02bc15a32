//! JSON read in one pass (RFC 8259), as `serde_json` reads it: the same texts are JSON and have the same value.
//!
//! A text that holds no escape is borrowed. Nesting is bounded, and with it the stack.

use std::borrow::Cow;

use super::special::Specials;
use super::{Json, Members};

/// The deepest nesting that is read; what other parsers of this field accept.
const MAX_DEPTH: u32 = 127;
/// Members that are made room for before the first one is there.
const MEMBERS: usize = 8;

/// Why a text is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotJson {
    /// Something else was expected here.
    #[error("what stands at byte {0} is not expected there")]
    Unexpected(usize),
    /// It ends too early.
    #[error("it ends too early")]
    Torn,
    /// Nested too deeply.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

type Result<T> = std::result::Result<T, NotJson>;

/// The one value of a text.
pub(super) fn value(text: &str) -> Result<Json<'_>> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, unescaped: String::new() };
    let value = reader.value(MAX_DEPTH)?;
    reader.space();
    if reader.at == reader.bytes.len() { Ok(value) } else { Err(NotJson::Unexpected(reader.at)) }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// What has been read of a text with escapes: one buffer for all of them.
    unescaped: String,
}

impl<'a> Reader<'a> {
    /// The next byte that is no white space; it is not taken.
    fn space(&mut self) -> Option<u8> {
        loop {
            match self.bytes.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Some(*other),
            }
        }
    }

    fn next(&mut self) -> Result<u8> {
        let byte = self.space().ok_or(NotJson::Torn)?;
        self.at += 1;
        Ok(byte)
    }

    fn unexpected<T>(&self) -> Result<T> {
        Err(NotJson::Unexpected(self.at.saturating_sub(1)))
    }

    fn value(&mut self, depth: u32) -> Result<Json<'a>> {
        match self.next()? {
            b'"' => self.string().map(Json::Text),
            b'{' => self.object(depth.checked_sub(1).ok_or(NotJson::TooDeep)?),
            b'[' => self.list(depth.checked_sub(1).ok_or(NotJson::TooDeep)?),
            b't' => self.literal("rue", Json::Bool(true)),
            b'f' => self.literal("alse", Json::Bool(false)),
            b'n' => self.literal("ull", Json::Null),
            b'-' | b'0'..=b'9' => self.number(),
            _ => self.unexpected(),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json<'a>> {
        if self.space() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(Vec::new()));
        }
        let mut members = Members::with_capacity(MEMBERS);
        loop {
            if self.next()? != b'"' {
                return self.unexpected();
            }
            let key = self.string()?;
            if self.next()? != b':' {
                return self.unexpected();
            }
            members.push((key, self.value(depth)?));
            match self.next()? {
                b',' => {}
                b'}' => return Ok(Json::Object(members)),
                _ => return self.unexpected(),
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<Json<'a>> {
        let mut list = Vec::new();
        if self.space() == Some(b']') {
            self.at += 1;
            return Ok(Json::List(list));
        }
        loop {
            list.push(self.value(depth)?);
            match self.next()? {
                b',' => {}
                b']' => return Ok(Json::List(list)),
                _ => return self.unexpected(),
            }
        }
    }

    fn literal(&mut self, rest: &str, value: Json<'a>) -> Result<Json<'a>> {
        let found = self.bytes.get(self.at..).unwrap_or_default();
        if !found.starts_with(rest.as_bytes()) {
            return self.unexpected();
        }
        self.at += rest.len();
        Ok(value)
    }

    /// A number whose first byte was taken.
    fn number(&mut self) -> Result<Json<'a>> {
        let start = self.at.saturating_sub(1);
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let digits = self.text.get(start..self.at).unwrap_or_default();
        // As `serde_json` has it, one that is too large for a computer's is none either.
        super::number(digits).ok_or(NotJson::Unexpected(start))?;
        Ok(Json::Number(Cow::Borrowed(digits)))
    }

    /// A text whose quote was taken.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        let (text, start) = (self.text, self.at);
        self.unescaped.clear();
        // What stands behind `from` was not copied yet.
        let (mut from, mut has_escape) = (start, false);
        for at in Specials::of(self.bytes.get(start..).unwrap_or_default()).map(|at| start + at) {
            if at < from {
                continue; // a part of the escape before it
            }
            let plain = text.get(from..at).ok_or(NotJson::Unexpected(from))?;
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    if !has_escape {
                        return Ok(Cow::Borrowed(plain));
                    }
                    self.unescaped.push_str(plain);
                    return Ok(Cow::Owned(self.unescaped.as_str().to_owned()));
                }
                Some(b'\\') => {
                    has_escape = true;
                    self.unescaped.push_str(plain);
                    let (letter, length) = escaped(text, at).ok_or(NotJson::Unexpected(at))?;
                    self.unescaped.push(letter);
                    from = at + length;
                }
                _ => return Err(NotJson::Unexpected(at)),
            }
        }
        Err(NotJson::Torn)
    }
}

/// What the escape stands for that begins at `at`, and how long it is in bytes; `None` where it is none.
fn escaped(text: &str, at: usize) -> Option<(char, usize)> {
    let letter = match text.as_bytes().get(at + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (letter, rest) = unicode(text.get(at + 2..)?)?;
            return Some((letter, text.len() - rest.len() - at));
        }
        _ => return None,
    };
    Some((letter, 2))
}

/// A letter by its number, or by two that stand for one; and what follows.
fn unicode(rest: &str) -> Option<(char, &str)> {
    let (first, rest) = hex(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let (second, rest) = hex(rest.strip_prefix("\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + low)?, rest))
}

fn hex(rest: &str) -> Option<(u32, &str)> {
    let (digits, rest) = rest.split_at_checked(4)?;
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    Some((u32::from_str_radix(digits, 16).ok().filter(|_| all)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Reads it both ways: both find the same, or both find no JSON.
    fn agrees(text: &str) {
        let ours = value(text).map(Value::from).ok();
        assert_eq!(ours, serde_json::from_str::<Value>(text).ok(), "{text:?}");
    }

    #[rustfmt::skip]
    const TEXTS: &[&str] = &[
        "", " ", "null", "nul", "nulll", "true", "tru", "false", " [ ] ", "[1,]", "[,1]", "[1 2]", "{}",
        "{ \"a\" : 1 }", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1}x", "{\"a\":1,\"a\":2}", "1", "-",
        "-1", "01", "1.", "1.5e3", "1e999", "-0", "1e", "+1", ".5", "0x1", "18446744073709551616",
        "-9223372036854775809", "NaN", "\"", "\"a", "\"a\\", "\"\\\"", "\"\\\"\"", "\"\\x\"", "\"\\u00e9\"",
        "\"\\u12\"", "\"\\u+123\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\ude00\"", "\"\\ud83d\\u0041\"",
        "\"\\ud83dx\"", "\"a\nb\"", "\"a\tb\"", "\"\u{7f}\"", "\"\\/\\b\\f\\n\\r\\t\"", "\"é\\né\"", "[\"]\"]",
        "\u{feff}{}", "[1]]", "[[", "]",
    ];

    #[test]
    fn what_is_json_and_what_is_none_is_what_serde_json_says() {
        TEXTS.iter().for_each(|text| agrees(text));
    }

    #[test]
    fn e_11_depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        agrees(&nested(127));
        agrees(&nested(128));
        assert_eq!(value(&nested(128)), Err(NotJson::TooDeep));
        assert_eq!(value(&"{\"a\":".repeat(100_000)), Err(NotJson::TooDeep));
    }

    #[test]
    fn a_text_may_be_all_escapes() {
        agrees(&format!("[\"{}é\",\"b\\\\\"]", "\\\\\\ud83d\\ude00\\n".repeat(100)));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_serde_json_judges_it(text in "[{}\\[\\]\",:a1\\\\ tnu0d8efr.+-]{0,40}") {
            agrees(&text);
        }

        #[test]
        fn any_string_is_read_as_serde_json_reads_it(inner in "([a-z\"é\n\t]|\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-fA-F]{4}|\\\\ud8[0-9]{2}\\\\udc[0-9]{2}){0,30}") {
            agrees(&format!("\"{inner}\""));
        }
    }
}
