//! The members of a JSON object, found in one pass without parsing their values.
//!
//! The pass knows strings, nesting and literals, so that where a member begins and ends is what any JSON parser finds; what
//! stands inside a nested value is not judged. Never recurses; nesting is bounded.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::json::Specials;

/// The deepest nesting that is accepted; what other parsers of this field accept.
const MAX_DEPTH: u32 = 127;

/// Why a text is not a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    /// Not an object, or torn.
    #[error("is not a JSON object (near byte {0})")]
    Malformed(usize),
    /// Nested too deeply.
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// The longest spelling of a key that [`Nested`] knows: quotes, and six bytes for each letter.
const MAX_SPELLING: usize = 2 + 6 * 4;

/// What was seen inside the members' values on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Nested {
    /// Whether some string is `type`, or has escapes and may be: without it, no nested object has such a key.
    pub(crate) may_have_types: bool,
}

/// Calls `visit` with each member's key, unescaped, and the place of its value.
pub(crate) fn members<'a>(
    json: &'a str,
    mut visit: impl FnMut(Cow<'a, str>, Range<usize>),
) -> Result<Nested, ScanError> {
    let mut scanner = Scanner { json, bytes: json.as_bytes(), at: 0, nested: Nested::default() };
    scanner.space();
    scanner.expect(b'{')?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.key()?;
            scanner.space();
            scanner.expect(b':')?;
            scanner.space();
            let value = scanner.value()?;
            visit(key, value);
            scanner.space();
            match scanner.next()? {
                b',' => scanner.space(),
                b'}' => break,
                _ => return Err(scanner.malformed()),
            }
        }
    }
    scanner.space();
    if scanner.at == scanner.bytes.len() { Ok(scanner.nested) } else { Err(scanner.malformed()) }
}

/// The first key that an object has twice: two readers could each take the other value.
pub(crate) fn repeated(json: &str) -> Result<Option<String>, ScanError> {
    let (mut seen, mut twice) = (HashSet::new(), None);
    members(json, |key, _| {
        if twice.is_none() && !seen.insert(key.clone()) {
            twice = Some(key.into_owned());
        }
    })?;
    Ok(twice)
}

struct Scanner<'a> {
    json: &'a str,
    bytes: &'a [u8],
    at: usize,
    nested: Nested,
}

impl<'a> Scanner<'a> {
    fn malformed(&self) -> ScanError {
        ScanError::Malformed(self.at)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, ScanError> {
        let byte = self.peek().ok_or_else(|| self.malformed())?;
        self.at += 1;
        Ok(byte)
    }

    fn expect(&mut self, expected: u8) -> Result<(), ScanError> {
        if self.next()? == expected { Ok(()) } else { Err(self.malformed()) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn text(&self, range: Range<usize>) -> Result<&'a str, ScanError> {
        self.json.get(range).ok_or_else(|| self.malformed())
    }

    /// A string that starts here: its range with the quotes, and whether it has escapes.
    fn string(&mut self) -> Result<(Range<usize>, bool), ScanError> {
        let start = self.at;
        self.expect(b'"')?;
        let (inner, mut escaped) = (self.at, None);
        for at in Specials::of(self.rest()).map(|at| inner + at) {
            match self.bytes.get(at) {
                _ if escaped == Some(at) => {}
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok((start..self.at, escaped.is_some()));
                }
                Some(b'\\') => escaped = Some(at + 1),
                _ => {}
            }
        }
        Err(ScanError::Malformed(self.bytes.len()))
    }

    fn key(&mut self) -> Result<Cow<'a, str>, ScanError> {
        let (range, has_escape) = self.string()?;
        if has_escape {
            let raw = self.text(range.clone())?;
            let key: String = serde_json::from_str(raw).map_err(|_| ScanError::Malformed(range.start))?;
            return Ok(Cow::Owned(key));
        }
        Ok(Cow::Borrowed(self.text(range.start + 1..range.end - 1)?))
    }

    fn value(&mut self) -> Result<Range<usize>, ScanError> {
        match self.peek() {
            Some(b'"') => self.string().map(|(range, _)| range),
            Some(b'{' | b'[') => self.container(),
            Some(_) => self.scalar(),
            None => Err(self.malformed()),
        }
    }

    fn scalar(&mut self) -> Result<Range<usize>, ScanError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let text = self.text(start..self.at)?;
        // The whole of a number, true, false or null; nothing else.
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| ScanError::Malformed(start))?;
        Ok(start..self.at)
    }

    /// An object or array; the kinds of open brackets are the bits of `kinds`.
    fn container(&mut self) -> Result<Range<usize>, ScanError> {
        let start = self.at;
        let mut kinds: u128 = 0;
        let mut depth: u32 = 0;
        loop {
            match self.peek().ok_or_else(|| self.malformed())? {
                b'"' => {
                    let (string, has_escape) = self.string()?;
                    let raw = self.bytes.get(string).unwrap_or_default();
                    self.nested.may_have_types |= raw == b"\"type\"" || (has_escape && raw.len() <= MAX_SPELLING);
                    continue;
                }
                open @ (b'{' | b'[') => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(ScanError::TooDeep);
                    }
                    kinds = (kinds << 1) | u128::from(open == b'{');
                }
                close @ (b'}' | b']') => {
                    if (kinds & 1 == 1) != (close == b'}') {
                        return Err(self.malformed());
                    }
                    kinds >>= 1;
                    depth -= 1;
                }
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(start..self.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn scan(json: &str) -> Result<Vec<(String, Value)>, ScanError> {
        let mut found = Vec::new();
        members(json, |key, range| {
            found.push((key.into_owned(), serde_json::from_str(&json[range]).unwrap_or(Value::Null)))
        })?;
        Ok(found)
    }

    #[test]
    fn members_are_found_whatever_stands_inside_them() {
        let json = " { \"a\" : 1.5e3 ,\"b\":\"x\\\"}{\", \"c\":[{\"a\":\"]\"},[ ]],\"\\u0064\":null , \"e\":{}} \n";
        let found = scan(json).unwrap();
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "b", "c", "d", "e"]);
        assert_eq!(found[1].1, "x\"}{");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for bad in [
            "",
            " ",
            "[]",
            "1",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,",
            "{\"a\":1,}",
            "{,}",
            "{\"a\":tru}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":1}x",
            "{\"a\":1}{}",
            "{a:1}",
            "{\"a\":[}",
            "{\"a\":[{]}}",
            "{\"a\":\"\\",
            "{'a':1}",
            "{\"a\" 1}",
            "{\"a\":NaN}",
            "{\"\\x\":1}",
        ] {
            assert!(scan(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_nested_type_is_seen_however_it_is_spelled() {
        for (json, wanted) in [
            (r#"{"a":[{"type":1}]}"#, true),
            (r#"{"a":{"b":{"typ\u0065":1}}}"#, true),
            (r#"{"a":{"\u0074\u0079\u0070\u0065":1}}"#, true),
            (r#"{"a":{"b":"a type of \"prose\" with escapes\n"},"type":1}"#, false),
            (r#"{"a":[{"Type":1,"types":2}]}"#, false),
            (r#"{"a":"type"}"#, false),
        ] {
            assert_eq!(members(json, |_, _| ()).unwrap().may_have_types, wanted, "{json}");
        }
    }

    #[test]
    fn e_11_depth_is_bounded_without_recursion() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(scan(&deep), Err(ScanError::TooDeep));
        let fine = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
        assert!(scan(&fine).is_ok());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(".*", inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_object_is_read_as_serde_json_reads_it(map in proptest::collection::hash_map(".*", any_json(), 0..8), pretty: bool) {
            let value = Value::Object(map.into_iter().collect());
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let found = scan(&text).unwrap();
            let theirs: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Value::Object(found.into_iter().collect()), theirs);
        }

        #[test]
        fn any_text_neither_panics_nor_passes_where_serde_json_sees_other_members(text in "[{}\\[\\]\",:a1\\\\ tn.-]{0,40}") {
            if let (Ok(found), Ok(value)) = (scan(&text), serde_json::from_str::<serde_json::Map<String, Value>>(&text)) {
                let mut theirs: Vec<String> = value.keys().cloned().collect();
                let mut ours: Vec<String> = found.into_iter().map(|(key, _)| key).collect();
                theirs.sort();
                ours.sort();
                ours.dedup();
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn what_serde_json_accepts_as_an_object_is_accepted(text in "\\{(\"[ab]\":(1|\"x\"|\\[\\]|\\{\\}),?){0,4}\\}") {
            if serde_json::from_str::<serde_json::Map<String, Value>>(&text).is_ok() {
                prop_assert!(scan(&text).is_ok());
            }
        }
    }
}
