//! A client's JSON, member by member. Google's own parser takes `camelCase` and `snake_case`, and so does this one; a member
//! that is there twice, in one spelling or in both, is refused, and so is one that nobody asked for.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::dialect::scan;
use crate::refusal::Refusal;

/// Members that say nothing that another provider would have to obey, wherever they stand: what they ask for is a note, a
/// label or a preference that Google's own clients don't rely on.
const HINTS: [&str; 9] = [
    "partMetadata",                     // the client's own notes beside a part
    "displayName",                      // only read by tools that run at Google
    "mediaResolution",                  // how finely media is looked at
    "behavior",                         // only read in live sessions
    "response",                         // what a function returns, described for the model
    "responseJsonSchema",               // the same; a request's own is taken before this is asked
    "propertyOrdering",                 // the order of members in an answer's JSON
    "includeServerSideToolInvocations", // there are no such tools here
    "store",                            // whether Google may log the request
];

/// An object, of which members are taken one after the other.
#[derive(Debug)]
pub(super) struct Members<'a> {
    path: String,
    list: Vec<(Cow<'a, str>, &'a str)>,
}

/// One member's value, not yet read.
#[derive(Debug)]
pub(super) struct Field<'a> {
    /// Such as `contents[0].parts[1].text`.
    pub(super) path: String,
    /// Its JSON.
    pub(super) raw: &'a str,
}

/// Whether `key` is `name` in camel case, as given, or in snake case.
pub(super) fn is_spelled(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut key = key.chars();
    for letter in name.chars() {
        let same = if letter.is_ascii_uppercase() {
            key.next() == Some('_') && key.next() == Some(letter.to_ascii_lowercase())
        } else {
            key.next() == Some(letter)
        };
        if !same {
            return false;
        }
    }
    key.next().is_none()
}

impl<'a> Members<'a> {
    /// Reads an object; `path` says where it stands.
    pub(super) fn read(raw: &'a str, path: String) -> Result<Self, Refusal> {
        let mut members = Vec::new();
        let scanned = scan::members(raw, |key, range| members.push((key, raw.get(range).unwrap_or_default())));
        scanned.map_err(|err| {
            if path.is_empty() {
                return unreadable(&err.to_string());
            }
            Refusal::bad(path.clone(), format!("`{path}` {err}."))
        })?;
        Ok(Self { path, list: members })
    }

    /// Takes a member by its camel case name; null is as good as absent.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<Field<'a>>, Refusal> {
        let mut found = None;
        while let Some(at) = self.list.iter().position(|(key, _)| is_spelled(key, name)) {
            let (_, raw) = self.list.remove(at);
            let field = Field { path: self.path_of(name), raw };
            if found.replace(field).is_some() {
                let path = self.path_of(name);
                return Err(Refusal::bad(path.clone(), format!("`{path}` is given twice.")));
            }
        }
        Ok(found.filter(|field| field.raw != "null"))
    }

    /// Refuses a member that can't be translated.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str) -> Result<(), Refusal> {
        match self.take(name)? {
            Some(field) => Err(field.refuse(why)),
            None => Ok(()),
        }
    }

    /// Refuses what has not been taken, but for hints.
    pub(super) fn end(self) -> Result<(), Refusal> {
        let unknown = self.list.iter().find(|(key, _)| !HINTS.iter().any(|hint| is_spelled(key, hint)));
        match unknown {
            None => Ok(()),
            Some((key, _)) => {
                let path = self.path_of(key);
                Err(Refusal::bad(path.clone(), format!("`{path}` is not a known field.")))
            }
        }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

fn unreadable(err: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: it {err}."),
    }
}

impl<'a> Field<'a> {
    /// A refusal of this field.
    pub(super) fn refuse(&self, why: &str) -> Refusal {
        Refusal::bad(self.path.clone(), format!("`{}` {why}.", self.path))
    }

    fn read<T: serde::Deserialize<'a>>(&self, what: &str) -> Result<T, Refusal> {
        serde_json::from_str(self.raw).map_err(|_| self.refuse(&format!("must be {what}")))
    }

    /// Text.
    pub(super) fn string(&self) -> Result<String, Refusal> {
        self.read("a string")
    }

    /// True or false.
    pub(super) fn boolean(&self) -> Result<bool, Refusal> {
        self.read("a boolean")
    }

    /// A number, as it was written.
    pub(super) fn number(&self) -> Result<Number, Refusal> {
        self.read("a number")
    }

    /// A whole number within bounds. One with a fraction or an exponent is not whole, whatever its value.
    pub(super) fn count(&self, from: u32, to: u32) -> Result<u32, Refusal> {
        let digits = self.raw.bytes().all(|byte| byte.is_ascii_digit());
        let number = self.raw.parse::<u32>().ok().filter(|number| digits && (from..=to).contains(number));
        number.ok_or_else(|| self.refuse(&format!("must be a whole number from {from} to {to}")))
    }

    /// An object.
    pub(super) fn object(&self) -> Result<Members<'a>, Refusal> {
        Members::read(self.raw, self.path.clone())
    }

    /// The JSON of an object that is passed on as it is.
    pub(super) fn raw_object(&self) -> Result<&'a str, Refusal> {
        let fine = self.raw.starts_with('{') && serde_json::from_str::<IgnoredAny>(self.raw).is_ok();
        if fine { Ok(self.raw) } else { Err(self.refuse("must be an object")) }
    }

    /// Any JSON.
    pub(super) fn value(&self) -> Result<Value, Refusal> {
        self.read("JSON")
    }

    /// A list.
    pub(super) fn list(&self) -> Result<Vec<Self>, Refusal> {
        let items: Vec<&'a RawValue> = self.read("a list")?;
        let field = |(at, item): (usize, &&'a RawValue)| Self { path: format!("{}[{at}]", self.path), raw: item.get() };
        Ok(items.iter().enumerate().map(field).collect())
    }

    /// A list of texts.
    pub(super) fn strings(&self) -> Result<Vec<String>, Refusal> {
        self.list()?.iter().map(Self::string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_field() {
        assert!(is_spelled("maxOutputTokens", "maxOutputTokens") && is_spelled("max_output_tokens", "maxOutputTokens"));
        for other in
            ["maxOutput_tokens", "max_outputTokens", "MaxOutputTokens", "max_output_token", "max_output_tokens_"]
        {
            assert!(!is_spelled(other, "maxOutputTokens"), "{other}");
        }
        let mut object = Members::read(r#"{"topK":1,"top_k":2}"#, "generationConfig".to_owned()).unwrap();
        let told = object.take("topK").unwrap_err().told();
        assert_eq!((told.status, told.param.as_deref()), (400, Some("generationConfig.topK")));
    }

    #[test]
    fn what_nobody_asked_for_is_named() {
        let object = Members::read(r#"{"partMetadata":{},"foo":1}"#, "contents[0]".to_owned()).unwrap();
        assert_eq!(object.end().unwrap_err().told().param.as_deref(), Some("contents[0].foo"));
    }

    #[test]
    fn q_04_counts_are_whole_and_bounded() {
        for bad in ["0", "-1", "1.0", "1e3", "\"5\"", "true", "4294967296", "[1]", "+1", "101"] {
            let field = Field { path: "n".to_owned(), raw: bad };
            assert!(field.count(1, 100).is_err(), "{bad}");
        }
        assert_eq!(Field { path: "n".to_owned(), raw: "100" }.count(1, 100).unwrap(), 100);
    }
}
