//! Log probabilities: Google's `logprobsResult` and the form's, which is the `OpenAI` shape.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

/// Google's shape.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Result {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_candidates: Vec<Top>,
    chosen_candidates: Vec<Token>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Top {
    candidates: Vec<Token>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Token {
    token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probability: Option<Number>,
}

impl Token {
    fn openai(self) -> Map<String, Value> {
        let mut out = Map::new();
        // Proto leaves a zero out.
        let logprob = self.log_probability.unwrap_or_else(|| Number::from(0));
        let bytes: Vec<u8> = self.token.bytes().collect();
        out.insert("token".to_owned(), self.token.into());
        out.insert("logprob".to_owned(), Value::Number(logprob));
        out.insert("bytes".to_owned(), bytes.into());
        out
    }

    fn of(openai: &Value) -> Option<Self> {
        let token = openai.get("token")?.as_str()?.to_owned();
        let Some(Value::Number(logprob)) = openai.get("logprob") else { return None };
        Some(Self { token, log_probability: Some(logprob.clone()) })
    }
}

impl Result {
    /// The form's shape; `None` when there is nothing in it.
    pub(super) fn openai(self) -> Option<Value> {
        let mut tops = self.top_candidates.into_iter();
        let entry = |token: Token| {
            let top = tops.next().map(|top| top.candidates).unwrap_or_default();
            let mut out = token.openai();
            let top: Vec<Value> = top.into_iter().map(|token| Value::Object(token.openai())).collect();
            out.insert("top_logprobs".to_owned(), top.into());
            Value::Object(out)
        };
        let content: Vec<Value> = self.chosen_candidates.into_iter().map(entry).collect();
        (!content.is_empty()).then(|| serde_json::json!({ "content": content }))
    }

    /// Google's shape of the form's; what is not of that form is left out.
    pub(super) fn of(openai: &Value) -> Self {
        let list = |value: &Value, name: &str| value.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut result = Self::default();
        for entry in list(openai, "content") {
            let Some(chosen) = Token::of(&entry) else { continue };
            let candidates: Vec<Token> = list(&entry, "top_logprobs").iter().filter_map(Token::of).collect();
            result.chosen_candidates.push(chosen);
            result.top_candidates.push(Top { candidates });
        }
        if result.top_candidates.iter().all(|top| top.candidates.is_empty()) {
            result.top_candidates.clear();
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_say_the_same() {
        let googles = r#"{"topCandidates":[{"candidates":[{"token":"Hi","logProbability":-0.25},{"token":"Yo","logProbability":-1.5}]},{"candidates":[]}],"chosenCandidates":[{"token":"Hi","logProbability":-0.25},{"token":"é","logProbability":-7}]}"#;
        let form = serde_json::from_str::<Result>(googles).unwrap().openai().unwrap();
        let expected = serde_json::json!({"content": [
            {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [
                {"token": "Hi", "logprob": -0.25, "bytes": [72, 105]}, {"token": "Yo", "logprob": -1.5, "bytes": [89, 111]}]},
            {"token": "é", "logprob": -7, "bytes": [195, 169], "top_logprobs": []}]});
        assert_eq!(form, expected);
        assert_eq!(serde_json::to_string(&Result::of(&form)).unwrap(), googles);
    }
}
