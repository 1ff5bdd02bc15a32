//! A JSON object of a request, taken apart member by member, so that what nobody asked for is known to be left over.
//!
//! Every refusal names the field by its whole path (`messages[2].content[0].image_url`). A member that is null is absent.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use super::json::{self, Json, Members};
use crate::refusal::Refusal;

/// An object and where it stands.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    path: String,
    members: Members<'a>,
}

impl<'a> Object<'a> {
    /// A whole body.
    pub(crate) fn parse(body: &'a str) -> Result<Self, Refusal> {
        match Json::parse(body) {
            Ok(Json::Object(members)) => Ok(Self { path: String::new(), members }),
            Ok(_) => Err(not_json("it is not an object")),
            Err(err) => Err(not_json(&err.to_string())),
        }
    }

    /// A value that must be an object; `path` is its name.
    pub(crate) fn of(value: Json<'a>, path: String) -> Result<Self, Refusal> {
        let Json::Object(members) = value else { return Err(must_be(path, "an object")) };
        Ok(Self { path, members })
    }

    /// The whole name of a member.
    pub(crate) fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A refusal that names a member.
    pub(crate) fn refuse(&self, key: &str, message: impl Into<String>) -> Refusal {
        Refusal::bad(self.name(key), message)
    }

    /// A member as it is.
    pub(crate) fn value(&mut self, key: &str) -> Option<Json<'a>> {
        let mut found = None;
        // The last one counts, as it does for other parsers.
        self.members.retain_mut(|(name, value)| {
            let other = name != key;
            if !other {
                found = Some(std::mem::replace(value, Json::Null));
            }
            other
        });
        found.filter(|value| !value.is_null())
    }

    /// A string.
    pub(crate) fn string(&mut self, key: &str) -> Result<Option<String>, Refusal> {
        Ok(self.text(key)?.map(Cow::into_owned))
    }

    /// A string as it stands in the body, where it holds no escape.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(must_be(self.name(key), "a string")),
        }
    }

    /// A string that must be there.
    pub(crate) fn need_string(&mut self, key: &str) -> Result<String, Refusal> {
        self.string(key)?.ok_or_else(|| self.missing(key))
    }

    /// A string that must be there, as it stands in the body where it holds no escape.
    pub(crate) fn need_text(&mut self, key: &str) -> Result<Cow<'a, str>, Refusal> {
        self.text(key)?.ok_or_else(|| self.missing(key))
    }

    /// One of some words.
    pub(crate) fn word(&mut self, key: &str, words: &[&str]) -> Result<Option<String>, Refusal> {
        let word = self.string(key)?;
        match word {
            Some(word) if !words.contains(&word.as_str()) => {
                Err(must_be(self.name(key), &format!("one of {}", words.join(", "))))
            }
            word => Ok(word),
        }
    }

    /// A boolean.
    pub(crate) fn boolean(&mut self, key: &str) -> Result<Option<bool>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(must_be(self.name(key), "a boolean")),
        }
    }

    /// A number, as written.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<Number>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Json::Number(text)) => Ok(json::number(&text)),
            Some(_) => Err(must_be(self.name(key), "a number")),
        }
    }

    /// A whole number within bounds.
    pub(crate) fn whole(&mut self, key: &str, least: u32, most: u32) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match &value {
            Json::Number(text) => text.parse::<u32>().ok(),
            Json::Null | Json::Bool(_) | Json::Text(_) | Json::List(_) | Json::Object(_) | Json::Known(_) => None,
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(must_be(self.name(key), &format!("a whole number from {least} to {most}"))),
        }
    }

    /// An object.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Self>, Refusal> {
        let path = self.name(key);
        self.value(key).map(|value| Self::of(value, path)).transpose()
    }

    /// An object that must be there.
    pub(crate) fn need_object(&mut self, key: &str) -> Result<Self, Refusal> {
        self.object(key)?.ok_or_else(|| self.missing(key))
    }

    /// An object whose members are nobody's business here, such as a schema.
    pub(crate) fn map(&mut self, key: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(Json::Object(members)) => Ok(Some(json::map(members))),
            Some(_) => Err(must_be(self.name(key), "an object")),
        }
    }

    /// An object as JSON of its own; its numbers stay as they are written.
    pub(crate) fn object_text(&mut self, key: &str) -> Result<Option<String>, Refusal> {
        match self.value(key) {
            None => Ok(None),
            Some(object @ Json::Object(_)) => Ok(Some(object.to_string())),
            Some(_) => Err(must_be(self.name(key), "an object")),
        }
    }

    /// A list, each element with its name.
    pub(crate) fn list(&mut self, key: &str) -> Result<Option<Vec<(String, Json<'a>)>>, Refusal> {
        let path = self.name(key);
        self.value(key).map(|value| list(value, &path)).transpose()
    }

    /// A list of objects.
    pub(crate) fn objects(&mut self, key: &str) -> Result<Option<Vec<Self>>, Refusal> {
        let list = self.list(key)?;
        list.map(|list| list.into_iter().map(|(path, value)| Self::of(value, path)).collect()).transpose()
    }

    /// A string, or a list of strings.
    pub(crate) fn strings(&mut self, key: &str) -> Result<Vec<String>, Refusal> {
        let list = match self.value(key) {
            None => return Ok(Vec::new()),
            Some(Json::Text(text)) => return Ok(vec![text.into_owned()]),
            Some(Json::List(list)) => list,
            Some(_) => return Err(must_be(self.name(key), "a string or a list of strings")),
        };
        let text = |value| match value {
            Json::Text(text) => Ok(text.into_owned()),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::List(_) | Json::Object(_) | Json::Known(_) => {
                Err(must_be(self.name(key), "a string or a list of strings"))
            }
        };
        list.into_iter().map(text).collect()
    }

    /// Drops members whose meaning is a hint that nothing depends on.
    pub(crate) fn ignore(&mut self, hints: &[&str]) {
        self.members.retain(|(name, _)| !hints.contains(&name.as_ref()));
    }

    /// Refuses members by name, each with its reason, unless they ask for nothing (null, false, empty).
    pub(crate) fn forbid(&mut self, reasons: &[(&str, &str)]) -> Result<(), Refusal> {
        for (key, reason) in reasons {
            if let Some(value) = self.value(key)
                && !asks_nothing(&value)
            {
                return Err(self.refuse(key, *reason));
            }
        }
        Ok(())
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        match self.members.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, _)) => {
                let name = self.name(key);
                let message = format!(
                    "`{name}` is not known here, or the provider of this model can't be told it; leave it out."
                );
                Err(Refusal::Bad { status: 400, param: Some(name.into()), code: Some("unknown_parameter"), message })
            }
        }
    }

    /// A refusal of an object that lacks a member.
    pub(crate) fn missing(&self, key: &str) -> Refusal {
        let name = self.name(key);
        let message = format!("`{name}` is missing.");
        Refusal::Bad { status: 400, param: Some(name.into()), code: Some("missing_required_parameter"), message }
    }
}

/// The elements of a list, each with its name.
pub(crate) fn list<'a>(value: Json<'a>, path: &str) -> Result<Vec<(String, Json<'a>)>, Refusal> {
    let Json::List(list) = value else { return Err(must_be(path.to_owned(), "a list")) };
    Ok(list.into_iter().enumerate().map(|(at, value)| (format!("{path}[{at}]"), value)).collect())
}

/// A refusal of a value of the wrong type.
pub(crate) fn must_be(name: String, what: &str) -> Refusal {
    let message = format!("`{name}` must be {what}.");
    Refusal::Bad { status: 400, param: Some(name.into()), code: Some("invalid_type"), message }
}

fn asks_nothing(value: &Json<'_>) -> bool {
    match value {
        Json::Null | Json::Bool(false) => true,
        Json::List(list) => list.is_empty(),
        Json::Object(members) => members.is_empty(),
        Json::Bool(true) | Json::Number(_) | Json::Text(_) | Json::Known(_) => false,
    }
}

fn not_json(why: &str) -> Refusal {
    Refusal::Bad {
        status: 400,
        param: None,
        code: Some("invalid_json"),
        message: format!("We could not parse the JSON body of your request: {why}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(refusal: &Refusal) -> Option<String> {
        let Refusal::Bad { param, .. } = refusal else { return None };
        param.as_ref().map(ToString::to_string)
    }

    #[test]
    fn every_refusal_names_the_whole_path() {
        let mut body = Object::parse(r#"{"a":[{"b":{"c":1}}],"n":4294967296,"rest":0,"empty":null}"#).unwrap();
        let mut first = body.objects("a").unwrap().unwrap().remove(0);
        let mut inner = first.need_object("b").unwrap();
        assert_eq!(param(&inner.string("c").unwrap_err()).unwrap(), "a[0].b.c");
        assert_eq!(param(&inner.need_string("d").unwrap_err()).unwrap(), "a[0].b.d");
        assert_eq!(param(&body.whole("n", 0, 9).unwrap_err()).unwrap(), "n");
        assert_eq!(param(&body.finish().unwrap_err()).unwrap(), "rest");
    }

    #[test]
    fn deep_and_broken_json_is_refused() {
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for body in [deep.as_str(), "", "[]", "{", "{\"a\":1,}"] {
            assert!(Object::parse(body).is_err());
        }
    }
}
