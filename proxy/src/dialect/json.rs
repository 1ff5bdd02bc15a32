//! JSON as requests and answers are taken apart and written: members in their order, texts borrowed where they can be.
//!
//! An object is a list of members and no map: one of a request has a handful, and each is asked for once or twice. A member
//! that is there twice counts as it does elsewhere: the last one.

mod read;
mod special;

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use serde_json::{Map, Number, Value};

pub(crate) use read::NotJson;
pub(crate) use special::Specials;

/// The members of an object, in their order.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written: one with more digits than a computer's keeps them all.
    Number(Cow<'a, str>),
    /// A text.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Json<'a>>),
    /// An object.
    Object(Members<'a>),
    /// What the form holds and is written as it is; never read.
    Known(&'a Value),
}

impl<'a> Json<'a> {
    /// Reads a text; [`read`] says how.
    ///
    /// # Errors
    /// Where it is no JSON.
    pub(crate) fn parse(text: &'a str) -> Result<Self, NotJson> {
        read::value(text)
    }
}

impl Json<'_> {
    /// Whether it is `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null | Self::Known(Value::Null))
    }

    /// As bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size());
        self.write(&mut out);
        out
    }

    /// About how many bytes it is.
    fn size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 5,
            Self::Number(number) => number.len(),
            // A line's end each 16 letters.
            Self::Text(text) => text.len() + text.len() / 16 + 3,
            Self::List(list) => list.iter().map(Self::size).sum::<usize>() + 2,
            Self::Object(members) => members.iter().map(|(key, value)| key.len() + 4 + value.size()).sum::<usize>() + 2,
            Self::Known(_) => 128,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Number(number) => out.extend_from_slice(number.as_bytes()),
            Self::Text(text) => escape(text, out),
            Self::List(values) => write_list(values, Self::write, out),
            Self::Object(members) => {
                write_object(members.iter().map(|(key, value)| (key.as_ref(), value)), Self::write, out)
            }
            Self::Known(value) => write(value, out),
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
    }
}

/// A value of the form as bytes.
pub(crate) fn to_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(value, &mut out);
    out
}

/// A value of the form, behind what is there.
pub(crate) fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => escape(text, out),
        Value::Array(values) => write_list(values, write, out),
        Value::Object(members) => write_object(members.iter().map(|(key, value)| (key.as_str(), value)), write, out),
    }
}

fn write_list<T>(values: impl IntoIterator<Item = T>, write: impl Fn(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(value, out);
    }
    out.push(b']');
}

fn write_object<'k, T>(
    members: impl IntoIterator<Item = (&'k str, T)>,
    write: impl Fn(T, &mut Vec<u8>),
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    for (at, (key, value)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        escape(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

/// A text in quotes (RFC 8259, section 7).
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.push(b'"');
    let mut from = 0;
    for at in Specials::of(bytes) {
        out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
        bytes.get(at).into_iter().for_each(|byte| escape_byte(*byte, out));
        from = at + 1;
    }
    out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    out.push(b'"');
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0x08 => out.extend_from_slice(b"\\b"),
        0x0c => out.extend_from_slice(b"\\f"),
        0..b' ' => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
        _ => out.push(byte),
    }
}

impl<'a> From<&'a str> for Json<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl<'a> From<&'a String> for Json<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Json<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Json<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Json<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Json<'_> {
    fn from(number: u32) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<u64> for Json<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<i64> for Json<'_> {
    fn from(number: i64) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl From<&Number> for Json<'_> {
    fn from(number: &Number) -> Self {
        Self::Number(number.to_string().into())
    }
}

impl<'a> From<Vec<Json<'a>>> for Json<'a> {
    fn from(list: Vec<Json<'a>>) -> Self {
        Self::List(list)
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        Self::Known(value)
    }
}

impl<'a, T: Into<Json<'a>>> From<Option<T>> for Json<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<Value> for Json<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => (&number).into(),
            Value::String(text) => Self::Text(Cow::Owned(text)),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Value::Object(members) => {
                Self::Object(members.into_iter().map(|(key, value)| (Cow::Owned(key), Self::from(value))).collect())
            }
        }
    }
}

impl From<Json<'_>> for Value {
    fn from(json: Json<'_>) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(text) => number(&text).map_or(Self::Null, Self::Number),
            Json::Text(text) => Self::String(text.into_owned()),
            Json::List(list) => Self::Array(list.into_iter().map(Self::from).collect()),
            Json::Object(members) => Self::Object(map(members)),
            Json::Known(value) => value.clone(),
        }
    }
}

/// The number of a text that was read as one; `None` where a computer has none for it.
pub(crate) fn number(text: &str) -> Option<Number> {
    serde_json::from_str(text).ok()
}

/// A member of an object.
pub(crate) fn member<'a>(key: &'static str, value: impl Into<Json<'a>>) -> (Cow<'a, str>, Json<'a>) {
    (Cow::Borrowed(key), value.into())
}

/// Members as a map.
pub(crate) fn map(members: Members<'_>) -> Map<String, Value> {
    members.into_iter().map(|(key, value)| (key.into_owned(), value.into())).collect()
}

/// An object of literal keys: `object!{"type": "text", "text": text}`.
macro_rules! object {
    ($($key:literal: $value:expr),* $(,)?) => {
        $crate::dialect::json::Json::Object(vec![
            $((std::borrow::Cow::Borrowed($key), $crate::dialect::json::Json::from($value))),*
        ])
    };
}
pub(crate) use object;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[ -~]{0,40}[\"\\\\\n\u{0}-\u{20}\u{7f}é]{0,3}[ -~]{0,40}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_and_written_is_what_serde_json_reads_and_writes(value in any_json()) {
            let text = value.to_string();
            prop_assert_eq!(String::from_utf8(to_bytes(&value)).unwrap(), text.as_str());
            prop_assert_eq!(Json::Known(&value).to_bytes(), text.as_bytes());
            prop_assert_eq!(&Value::from(Json::from(value.clone())), &value);
            let (ours, theirs) = (Json::parse(&text).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
            prop_assert_eq!(String::from_utf8(ours.to_bytes()).unwrap(), theirs.to_string());
            prop_assert_eq!(Value::from(ours), theirs);
        }
    }

    #[test]
    fn every_letter_is_escaped_as_serde_json_does_wherever_it_stands() {
        for letter in (0..=0x80).filter_map(char::from_u32) {
            for before in [0, 1, 31, 32, 33, 64] {
                let text = format!("{}{letter}{}", "a".repeat(before), "b".repeat(40));
                let mut out = Vec::new();
                escape(&text, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
            }
        }
    }

    #[test]
    fn literal_objects_keep_their_order_and_borrow() {
        let (schema, none) = (json!({"b": 1, "a": [true, null]}), None::<&str>);
        let object = object! {"z": "1", "a": none, "n": 7_u32, "list": vec![Json::from(&schema)]};
        assert_eq!(object.to_bytes(), br#"{"z":"1","a":null,"n":7,"list":[{"b":1,"a":[true,null]}]}"#);
        assert_eq!(Json::parse(r#""a b""#), Ok(Json::Text(Cow::Borrowed("a b"))));
    }
}
