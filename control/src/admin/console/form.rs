//! What somebody typed into a form, as the JSON that the admin API takes. Its fields have the API's names, so that a refusal names
//! the field at fault.

use std::fmt;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use openclawmu_store::Actor;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::admin::call::{Call, parse};
use crate::admin::idempotency::OnceKey;
use crate::admin::refusal::Refusal;
use crate::admin::state::AdminState;

/// The hidden field that tells a form of this session from any other site's.
pub(super) const CSRF: &str = "csrf";
/// The hidden field that makes a form that is sent twice happen once.
pub(super) const ONCE: &str = "once";

/// What was sent. Its `Debug` shows nothing of it: there may be a key in it.
#[derive(Clone, Default)]
pub(super) struct Form(Arc<Vec<(String, String)>>);

/// What a field becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A number, where it is one: else the string, which the API then refuses by its name.
    Count,
    /// Strings, separated by commas or line ends.
    List,
    /// JSON as it was typed.
    Json,
}

/// A field of the API, by its path with dots, and what it becomes.
pub(super) type Spec = (&'static str, Kind);

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").finish_non_exhaustive()
    }
}

impl FromRequestParts<AdminState> for Form {
    type Rejection = Refusal;

    /// The guard has put it there.
    async fn from_request_parts(parts: &mut Parts, _: &AdminState) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Refusal::internal(&"a form came past the guard"))
    }
}

impl Form {
    pub(super) fn read(body: &[u8]) -> Self {
        Self(Arc::new(url::form_urlencoded::parse(body).into_owned().collect()))
    }

    /// What a field holds, without the space around it; empty where it was not sent.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, text)| text.trim())
    }

    /// Everything that fields of one name hold, such as boxes that are ticked.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, text)| text.trim()).collect()
    }

    /// The fields that hold something.
    pub(super) fn body(&self, specs: &[Spec]) -> Result<Map<String, Value>, Refusal> {
        let mut body = Map::new();
        for (path, kind) in specs {
            if !self.text(path).is_empty() {
                put(&mut body, path, self.value(path, *kind)?);
            }
        }
        Ok(body)
    }

    /// All fields; null for those that hold nothing, which takes away what is there.
    pub(super) fn patch(&self, specs: &[Spec]) -> Result<Map<String, Value>, Refusal> {
        let mut body = Map::new();
        for (path, kind) in specs {
            let value = if self.text(path).is_empty() { Value::Null } else { self.value(path, *kind)? };
            put(&mut body, path, value);
        }
        Ok(body)
    }

    /// The entries of a list.
    pub(super) fn list(&self, name: &str) -> Vec<&str> {
        self.text(name).split([',', '\n']).map(str::trim).filter(|entry| !entry.is_empty()).collect()
    }

    fn value(&self, path: &str, kind: Kind) -> Result<Value, Refusal> {
        let text = self.text(path);
        Ok(match kind {
            Kind::Text => json!(text),
            Kind::Count => text.replace('_', "").parse::<u64>().map_or_else(|_| json!(text), |count| json!(count)),
            Kind::List => json!(self.list(path)),
            Kind::Json => serde_json::from_str(text)
                .map_err(|err| Refusal::invalid(path, format!("{path} must be JSON: {err}")))?,
        })
    }

    /// The call that a handler of the API takes, checked as a body of JSON is.
    pub(super) fn call<T: DeserializeOwned>(
        &self,
        actor: &Actor,
        body: Map<String, Value>,
    ) -> Result<Call<T>, Refusal> {
        let bytes = Value::Object(body).to_string();
        Ok(Call { actor: actor.clone(), body: parse(bytes.as_bytes())?, once: None })
    }

    /// The same for a call that makes something: a form that is sent twice makes it once. `route` is where it is sent to.
    pub(super) fn create<T: DeserializeOwned>(
        &self,
        actor: &Actor,
        (route, body): (&str, Map<String, Value>),
    ) -> Result<Call<T>, Refusal> {
        let mark = self.text(ONCE);
        let made_here = (16..=64).contains(&mark.len()) && mark.bytes().all(|byte| byte.is_ascii_graphic());
        if !made_here {
            return Err(Refusal::invalid(
                ONCE,
                "the form lacks the mark that makes it happen once; load the page again",
            ));
        }
        let said = Value::Object(body.clone()).to_string();
        let once = OnceKey::of_console(mark, &[route.as_bytes(), b"\n", said.as_bytes()]);
        Ok(Call { once: Some(once), ..self.call(actor, body)? })
    }
}

/// Puts a value at a path such as `quota.usd_per_day`.
fn put(body: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            body.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = body.entry(first).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [Spec; 5] = [
        ("name", Kind::Text),
        ("quota.usd_per_day", Kind::Text),
        ("quota.tokens_per_day", Kind::Count),
        ("models", Kind::List),
        ("metadata", Kind::Json),
    ];

    #[test]
    fn a_form_is_the_json_that_the_api_takes() {
        let form = Form::read(
            b"name=+Acme+&quota.usd_per_day=12.50&quota.tokens_per_day=5_000&models=gpt-*%0A+alpha,&metadata=%7B%22a%22%3A1%7D",
        );
        let body = json!({"name": "Acme", "quota": {"usd_per_day": "12.50", "tokens_per_day": 5000}, "models": ["gpt-*", "alpha"], "metadata": {"a": 1}});
        assert_eq!(Value::Object(form.body(&SPECS).unwrap()), body);
        assert_eq!(Value::Object(form.patch(&SPECS).unwrap()), body);
    }

    #[test]
    fn what_is_empty_is_left_out_or_taken_away() {
        let form = Form::read(b"name=Acme&quota.usd_per_day=+&models=");
        assert_eq!(Value::Object(form.body(&SPECS).unwrap()), json!({"name": "Acme"}));
        let patch = json!({"name": "Acme", "quota": {"usd_per_day": null, "tokens_per_day": null}, "models": null, "metadata": null});
        assert_eq!(Value::Object(form.patch(&SPECS).unwrap()), patch);
        assert!(Form::read(b"metadata=%7B").body(&SPECS).is_err());
    }

    #[test]
    fn a_form_shows_nothing_of_itself_in_a_log() {
        assert!(!format!("{:?}", Form::read(b"key=the-admin-key")).contains("the-admin-key"));
    }
}
