//! What a client asks for with `POST /v1/batches`. It is written anew for the provider, so nothing goes on that is not known here.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::refusal::Refusal;
use crate::routes::AiRoute;

/// A batch to be made.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBatch {
    /// The tenant's file.
    pub(super) input_file_id: String,
    /// Which API its lines ask.
    pub(super) endpoint: String,
    /// How long it may take: `24h`.
    pub(super) completion_window: String,
    /// The client's own notes.
    #[serde(default)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// When what it puts out goes.
    #[serde(default)]
    output_expires_after: Option<Expiry>,
}

#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Expiry {
    anchor: String,
    seconds: u64,
}

impl NewBatch {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 in the parser's words.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(body).map_err(|err| Refusal::Bad {
            status: 400,
            param: None,
            code: Some("invalid_json"),
            message: format!("A batch is {{input_file_id, endpoint, completion_window, metadata}}: {err}."),
        })
    }

    /// The route that its lines would take one by one.
    ///
    /// # Errors
    /// 400 where lines of it can't be bounded and priced.
    pub(super) fn route(&self) -> Result<AiRoute, Refusal> {
        match self.endpoint.strip_prefix("/v1").unwrap_or(&self.endpoint) {
            "/chat/completions" => Ok(AiRoute::ChatCompletions),
            "/completions" => Ok(AiRoute::Completions),
            "/embeddings" => Ok(AiRoute::Embeddings),
            _ => Err(Refusal::bad(
                "endpoint",
                "`endpoint` must be /v1/chat/completions, /v1/completions or /v1/embeddings: what else a batch can ask for has no known upper bound.",
            )),
        }
    }

    /// The body that the provider gets, over the file that it is to run.
    pub(super) fn sent(&self, file: &str) -> Vec<u8> {
        let mut sent = json!({
            "input_file_id": file,
            "endpoint": self.endpoint,
            "completion_window": self.completion_window,
        });
        if let Some(sent) = sent.as_object_mut() {
            if let Some(metadata) = &self.metadata {
                sent.insert("metadata".to_owned(), Value::Object(metadata.clone()));
            }
            if let Some(expiry) = &self.output_expires_after {
                sent.insert("output_expires_after".to_owned(), json!(expiry));
            }
        }
        sent.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_and_what_is_goes_on() {
        let body = json!({"input_file_id": "a", "endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"k": "v"}});
        let new = NewBatch::read(body.to_string().as_bytes()).unwrap();
        assert_eq!(new.route(), Ok(AiRoute::ChatCompletions));
        let sent: Value = serde_json::from_slice(&new.sent("b")).unwrap();
        assert_eq!((&sent["input_file_id"], &sent["metadata"]["k"]), (&json!("b"), &json!("v")));
        for (name, value) in [("service_tier", json!("priority")), ("metadata", json!("x")), ("endpoint", json!(1))] {
            let mut bad = body.clone();
            bad[name] = value;
            assert!(NewBatch::read(bad.to_string().as_bytes()).is_err(), "{name}");
        }
        for endpoint in ["/v1/responses", "/v1/images/generations", "chat/completions", "/v1/v1/embeddings", ""] {
            let new = NewBatch { endpoint: endpoint.to_owned(), ..new.clone() };
            assert!(new.route().is_err(), "{endpoint}");
        }
    }
}
