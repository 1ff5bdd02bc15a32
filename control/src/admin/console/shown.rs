//! Values as people read them: exactly as the API gives them, only laid out. All text is escaped by the templates.

use std::borrow::Cow;

use maud::{Markup, html};
use serde_json::Value;

/// What stands at a path of an answer, as text. What is null or absent is empty.
pub(super) fn text<'a>(value: &'a Value, path: &str) -> Cow<'a, str> {
    match value.pointer(path) {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Array(entries)) => {
            let entries = entries.iter().map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned));
            Cow::Owned(entries.collect::<Vec<_>>().join(", "))
        }
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => Cow::Owned(other.to_string()),
    }
}

/// The rows of a list.
pub(super) fn rows<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An instant of the API, in UTC. What is none is shown as it is.
pub(super) fn time(at: &str) -> Markup {
    let read = at.split_once('T').and_then(|(date, rest)| Some((date, rest.get(..8)?)));
    html! {
        @match read {
            Some((date, clock)) => time datetime=(at) title=(at) { (date) " " (clock) },
            None => (at),
        }
    }
}

/// A whole number, its digits in groups.
pub(super) fn count(number: &str) -> String {
    let digits = number.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return number.to_owned();
    }
    let groups: Vec<&str> = digits.rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join("\u{202f}")
}

/// A path below `/console/tenants` of a tenant.
pub(super) fn tenant_path(id: &str, rest: &str) -> String {
    format!("/console/tenants/{}{rest}", segment(id))
}

/// One segment of a path.
pub(super) fn segment(text: &str) -> String {
    // A space is `+` in a form and `%20` in a path.
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// The same page with other fields in its query; those that are empty are left out.
pub(super) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The way to the next page of a list, where there is one; `kept` is what it was asked for with.
pub(super) fn next(path: &str, kept: &[(&str, &str)], answer: &Value) -> Markup {
    let after = text(answer, "/next");
    let mut pairs = kept.to_vec();
    pairs.push(("after", &after));
    html! {
        @if !after.is_empty() { p.pages { a.button rel="next" href=(with_query(path, &pairs)) { "Next page" } } }
    }
}

/// Something that has a few states, as a mark.
pub(super) fn state(name: &str) -> Markup {
    let class = match name {
        "active" | "ok" | "complete" | "ready" => "good",
        "suspended" | "partial" | "held" | "recovered" | "resting" => "warn",
        "revoked" | "expired" | "denied" | "failed" | "abandoned" | "not ready" => "bad",
        _ => "",
    };
    html! { span class={"mark " (class)} { (name) } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_shown_as_the_api_gives_them() {
        let value = json!({"usd": "0.054399000", "n": 5_000_000, "list": ["a", "b"], "none": null});
        assert_eq!(text(&value, "/usd"), "0.054399000");
        assert_eq!((text(&value, "/list").as_ref(), text(&value, "/none").as_ref()), ("a, b", ""));
        assert_eq!(count(&text(&value, "/n")), "5\u{202f}000\u{202f}000");
        assert_eq!((count("12"), count("-3")), ("12".to_owned(), "-3".to_owned()));
        assert!(time("2026-11-22T12:00:00.000Z").into_string().ends_with(">2026-11-22 12:00:00</time>"));
        assert_eq!(time("<b>T").into_string(), "&lt;b&gt;T");
    }

    #[test]
    fn what_is_in_a_path_or_a_query_stays_there() {
        assert_eq!(segment("a/b?c#d e"), "a%2Fb%3Fc%23d%20e");
        assert_eq!(with_query("/console/audit", &[("tenant", "a&b"), ("action", "")]), "/console/audit?tenant=a%26b");
        let more = next("/x", &[("q", "\"><b>")], &json!({"next": "n"})).into_string();
        assert!(more.contains("?q=%22%3E%3Cb%3E&amp;after=n") && next("/x", &[], &json!({})).into_string().is_empty());
    }
}
