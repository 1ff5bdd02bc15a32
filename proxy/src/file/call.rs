//! A call about what is at a provider: where it goes, and what comes back.

use bytes::Bytes;
use http::{HeaderValue, Method};

use crate::forward::{Failure, Rejected, refusal_body};
use crate::own_key::KeyHeaders;
use crate::upstream::http::{Fault, Outgoing};
use crate::upstream::provider::Provider;
use crate::upstream::{Answer, NotWhole};
use crate::upstream::{Backend, Upstream};

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// What follows the base of the provider's API, such as `/files`.
    pub(crate) path: String,
    /// What the body is.
    pub(crate) content_type: HeaderValue,
    /// The body.
    pub(crate) body: Bytes,
}

impl Call {
    /// A call without a body.
    pub(crate) fn bare(method: Method, path: String) -> Self {
        Self { method, path, content_type: HeaderValue::from_static("application/json"), body: Bytes::new() }
    }
}

/// Sends a call; the head of its answer has come and is no refusal.
///
/// # Errors
/// What failed.
pub(crate) async fn send(
    (upstream, own_key): (&Upstream, Option<&KeyHeaders>),
    call: &Call,
    headers: &[(&'static str, HeaderValue)],
) -> Result<Answer, Failure> {
    let Backend::Http(provider, http) = &upstream.backend else {
        return Err(Failure::Fault(Fault::Connect("the built-in upstream keeps nothing".to_owned())));
    };
    let path = object_path(provider, &call.path);
    let outgoing = Outgoing {
        method: &call.method,
        content_type: &call.content_type,
        path: &path,
        body: call.body.clone(),
        accept: "application/json",
        headers: headers.to_vec(),
        own_key: own_key.map(|key| &**key),
        once: call.method == Method::POST,
    };
    let mut answer = http.send(&outgoing).await.map_err(Failure::Fault)?;
    let status = answer.status();
    if (200..300).contains(&status) {
        return Ok(answer);
    }
    let content_type = answer.header("content-type").unwrap_or("application/json").to_owned();
    let retry_after = answer.header("retry-after").map(str::to_owned);
    let body = refusal_body(&mut answer).await;
    if body.is_some() {
        answer.release().await;
    }
    Err(Failure::Refused(Rejected { status, content_type, retry_after, body: body.unwrap_or_default() }))
}

/// The path of a provider's files and batches.
fn object_path(provider: &Provider, path: &str) -> String {
    match provider {
        Provider::Azure { api_version } => {
            let sign = if path.contains('?') { '&' } else { '?' };
            format!("/openai{path}{sign}api-version={api_version}")
        }
        Provider::Openai { .. } | Provider::Anthropic { .. } | Provider::Gemini { .. } | Provider::Bedrock => {
            path.to_owned()
        }
    }
}

/// The whole body of an answer.
///
/// # Errors
/// When it is longer than `limit`, or breaks off.
pub(crate) async fn whole(answer: &mut Answer, limit: usize) -> Result<Bytes, Fault> {
    answer.whole(limit).await.map_err(|err| match err {
        NotWhole::TooLong => Fault::Broken(format!("the answer is longer than {limit} bytes")),
        NotWhole::Fault(fault) => fault,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_is_asked_at_its_own_path_with_its_version() {
        let azure = Provider::Azure { api_version: "2024-10-21".to_owned() };
        assert_eq!(object_path(&azure, "/files"), "/openai/files?api-version=2024-10-21");
        assert_eq!(object_path(&azure, "/batches?limit=1"), "/openai/batches?limit=1&api-version=2024-10-21");
        assert_eq!(object_path(&Provider::Openai { responses: true }, "/files"), "/files");
    }
}
