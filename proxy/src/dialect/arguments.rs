//! The arguments of a call: an object's JSON in some dialects, its text in others. Numbers stay as the model wrote them.

use serde_json::value::RawValue;

/// The text of an object as JSON; nothing at all stands for the empty object. `None` when it is no object.
pub(crate) fn object(text: &str) -> Option<&RawValue> {
    let text = text.trim();
    let text = if text.is_empty() { "{}" } else { text };
    text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// JSON without the white space between its tokens; numbers stay as they are.
pub(crate) fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for letter in json.chars() {
        if in_string {
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
        } else if matches!(letter, ' ' | '\n' | '\r' | '\t') {
            continue;
        } else {
            in_string = letter == '"';
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_and_everything_else_stays() {
        let json = "{\n  \"a b\" : [ 1.10 , \"x \\\" y\\\\\" , 12345678901234567890123 ]\t}";
        assert_eq!(compact(json), r#"{"a b":[1.10,"x \" y\\",12345678901234567890123]}"#);
    }

    #[test]
    fn only_an_object_is_one() {
        assert_eq!(object(" ").unwrap().get(), "{}");
        assert_eq!(object("{\"a\":1.50}").unwrap().get(), "{\"a\":1.50}");
        assert!(object("[1]").is_none() && object("{").is_none() && object("{}{}").is_none());
    }
}
