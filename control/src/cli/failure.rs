//! An error as JSON, for programs that asked for it.

use serde_json::{Map, Value, json};

use crate::cli::client::{Refused, Unreachable};

/// `{"error":{"code","message","field"?,"hint"?}}`: the API's own words where it refused, else what went wrong here.
#[must_use]
pub fn failure(err: &anyhow::Error) -> Value {
    if let Some(refused) = err.downcast_ref::<Refused>() {
        return json!({ "error": refused.error });
    }
    let code = if err.is::<Unreachable>() { "unreachable" } else { "failed" };
    told(code, &format!("{err:#}"))
}

/// The same of words that may end with a hint.
#[must_use]
pub fn told(code: &str, text: &str) -> Value {
    let (message, hint) = ["\nhint: ", "; hint: "]
        .iter()
        .find_map(|mark| text.split_once(mark))
        .map_or((text, None), |(message, hint)| (message, Some(hint)));
    let mut error = Map::from_iter([("code".to_owned(), code.into()), ("message".to_owned(), message.into())]);
    error.extend(hint.map(|hint| ("hint".to_owned(), hint.into())));
    json!({ "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_its_words_and_its_hint() {
        let plain = failure(&anyhow::anyhow!("disk full").context("can't be written"));
        assert_eq!(plain, json!({"error": {"code": "failed", "message": "can't be written: disk full"}}));
        for text in ["no backup\nhint: make one", "no backup; hint: make one"] {
            let hinted = failure(&anyhow::anyhow!("{text}"));
            assert_eq!(hinted, json!({"error": {"code": "failed", "message": "no backup", "hint": "make one"}}));
        }
    }
}
