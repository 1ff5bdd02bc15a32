//! JSON read in one pass (RFC 8259), as `serde_json` reads it: the same texts are JSON and have the same value.
//!
//! A text is searched for its end first, and then copied once where it holds an escape, not at all where it does not. Nesting
//! is bounded, and with it the stack.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use serde_json::Number;

use super::{Json, Members, has_control};

/// The deepest nesting that is read; what other parsers of this field accept.
const MAX_DEPTH: u32 = 127;
/// Members that are made room for before the first one is there.
const MEMBERS: usize = 8;
/// Escapes of a text whose places are remembered from the search for its end; later ones are searched for again.
const KNOWN_ESCAPES: usize = 16 << 10;

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
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, escapes: Vec::new() };
    let value = reader.value(MAX_DEPTH)?;
    reader.space();
    if reader.at == reader.bytes.len() { Ok(value) } else { Err(NotJson::Unexpected(reader.at)) }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Where the escapes of the text stand that is being read.
    escapes: Vec<usize>,
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
        let number: Number = serde_json::from_str(digits).map_err(|_| NotJson::Unexpected(start))?;
        Ok(Json::Number(number))
    }

    /// A text whose quote was taken.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        let start = self.at;
        self.escapes.clear();
        let raw = loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let found = self.at + memchr2(b'"', b'\\', rest).ok_or(NotJson::Torn)?;
            if self.bytes.get(found) == Some(&b'"') {
                self.at = found + 1;
                break self.text.get(start..found).ok_or(NotJson::Unexpected(start))?;
            }
            if self.escapes.len() < KNOWN_ESCAPES {
                self.escapes.push(found - start);
            }
            // What is escaped may be a quote.
            self.at = found + 2;
        };
        if has_control(raw.as_bytes()) {
            return Err(NotJson::Unexpected(start));
        }
        if self.escapes.is_empty() {
            return Ok(Cow::Borrowed(raw));
        }
        unescape(raw, &self.escapes).map(Cow::Owned).ok_or(NotJson::Unexpected(start))
    }
}

/// A text without its escapes, of which the first are `known`; `None` where one of them is none (section 7).
fn unescape(raw: &str, known: &[usize]) -> Option<String> {
    let (mut text, mut at, mut known) = (String::with_capacity(raw.len()), 0, known.iter().copied());
    let later = |at: usize| memchr(b'\\', raw.as_bytes().get(at..)?).map(|found| at + found);
    // A letter that two escapes stand for has gone past the second one.
    while let Some(escape) = known.find(|escape| *escape >= at).or_else(|| later(at)) {
        text.push_str(raw.get(at..escape)?);
        let (kind, rest) = raw.get(escape + 1..)?.split_at_checked(1)?;
        let (letter, rest) = match kind {
            "\"" => ('"', rest),
            "\\" => ('\\', rest),
            "/" => ('/', rest),
            "b" => ('\u{8}', rest),
            "f" => ('\u{c}', rest),
            "n" => ('\n', rest),
            "r" => ('\r', rest),
            "t" => ('\t', rest),
            "u" => unicode(rest)?,
            _ => return None,
        };
        text.push(letter);
        at = raw.len() - rest.len();
    }
    text.push_str(raw.get(at..)?);
    Some(text)
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
    fn a_text_may_hold_more_escapes_than_are_remembered() {
        agrees(&format!("\"{}é\"", "\\\\\\ud83d\\ude00\\n".repeat(KNOWN_ESCAPES / 3)));
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
