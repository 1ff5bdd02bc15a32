//! Whom and what a request is for, for the operator's reports: `user`, `metadata` and the header `x-openclawmu-tags`.
//!
//! A label decides over nothing: what can't be read as one is left out, and the body goes on as it came.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use openclawmu_store::Label;
use serde_json::{Map, Value};

use crate::dialect::ask::Fields;
use crate::refusal::Refusal;

/// A list of tags, divided by commas. It is for the gateway alone and goes no further.
const TAGS: &str = "x-openclawmu-tags";
/// The same, as it is looked up.
static TAGS_HEADER: HeaderName = HeaderName::from_static(TAGS);

/// Reads a request's label.
///
/// # Errors
/// 400 when the header is no text.
pub(crate) fn label(headers: &HeaderMap, body: &Bytes, fields: &Fields) -> Result<Label, Refusal> {
    let mut label = Label::default();
    if let Some(user) = fields.user(body) {
        label.set_user(&user);
    }
    tags(headers, &mut label)?;
    if let Some(metadata) = fields.metadata().and_then(|range| body.get(range)) {
        add(&mut label, &serde_json::from_slice(metadata).unwrap_or_default());
    }
    Ok(label)
}

/// Reads the header's tags.
///
/// # Errors
/// 400 when it is no text.
pub(crate) fn tags(headers: &HeaderMap, label: &mut Label) -> Result<(), Refusal> {
    for value in headers.get_all(&TAGS_HEADER) {
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| Refusal::bad(TAGS, "`x-openclawmu-tags` must be UTF-8 text: tags, divided by commas."))?;
        text.split(',').for_each(|tag| label.add_tag(tag));
    }
    Ok(())
}

/// `user_id` says for whom, where the request doesn't; `tags` is a list of tags; any other text becomes the tag `key=text`.
pub(crate) fn add(label: &mut Label, metadata: &Map<String, Value>) {
    for (key, value) in metadata {
        match (key.as_str(), value) {
            ("user_id", Value::String(user)) => {
                if !label.has_user() {
                    label.set_user(user);
                }
            }
            ("tags", Value::Array(tags)) => tags.iter().filter_map(Value::as_str).for_each(|tag| label.add_tag(tag)),
            (_, Value::String(text)) => label.add_tag(&format!("{key}={text}")),
            (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::ask;
    use crate::routes::AiRoute;

    fn read(body: &str, tags: &[&[u8]]) -> Result<Label, Refusal> {
        let mut headers = HeaderMap::new();
        for tag in tags {
            headers.append(TAGS, http::HeaderValue::from_bytes(tag).unwrap());
        }
        let ask = ask::read(AiRoute::ChatCompletions, ("", None), body).unwrap();
        label(&headers, &Bytes::copy_from_slice(body.as_bytes()), &ask.fields)
    }

    fn said(user: &str, tags: &[&str]) -> Label {
        let mut label = Label::default();
        label.set_user(user);
        tags.iter().for_each(|tag| label.add_tag(tag));
        label
    }

    #[test]
    fn user_metadata_and_header_are_one_label() {
        let body = r#"{"model":"m","messages":[],"user":"ann","metadata":{"user_id":"other","team":"blue","tags":["x","y",1],"n":5}}"#;
        assert_eq!(read(body, &[b"a, b", b"c"]), Ok(said("ann", &["a", "b", "c", "team=blue", "x", "y"])));
        let body = r#"{"model":"m","messages":[],"metadata":{"user_id":"ann"}}"#;
        assert_eq!(read(body, &[]), Ok(said("ann", &[])));
    }

    #[test]
    fn what_is_no_label_is_left_out() {
        for body in [
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":[],"user":5,"metadata":"x"}"#,
            r#"{"model":"m","messages":[],"user":null,"metadata":[1]}"#,
            r#"{"model":"m","messages":[],"metadata":{"a":{"b":"c"}}}"#,
        ] {
            assert_eq!(read(body, &[]), Ok(Label::default()), "{body}");
        }
    }

    #[test]
    fn a_header_that_is_no_text_is_400() {
        let body = r#"{"model":"m","messages":[]}"#;
        assert_eq!(read(body, &[b"\xff\xfe"]).unwrap_err().told().param.as_deref(), Some(TAGS));
    }
}
