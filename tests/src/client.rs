//! A tenant's client of the edge: plain JSON calls with one token. It retries nothing.

use std::net::SocketAddr;
use std::sync::Once;
use std::time::Duration;

use http::HeaderMap;
use serde_json::{Value, json};

use crate::form::Form;
use crate::sse::Stream;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads an answer to its end; a body that breaks off is kept as far as it came.
    pub async fn of(mut response: reqwest::Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Ok(Some(piece)) = response.chunk().await {
            body.extend_from_slice(&piece);
        }
        Self { status, headers, body }
    }

    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }

    /// `type` and `code` of an OpenAI-shaped error; panics when a field of the shape is missing.
    #[must_use]
    pub fn openai_error(&self) -> (String, String) {
        let body = self.json();
        let error = &body["error"];
        for field in ["message", "type", "param", "code"] {
            assert!(error.get(field).is_some(), "an OpenAI error has {field}: {body}");
        }
        assert!(!error["message"].as_str().unwrap_or_default().is_empty(), "an error says what happened: {body}");
        (error["type"].as_str().unwrap_or_default().to_owned(), error["code"].as_str().unwrap_or_default().to_owned())
    }

    /// Asserts status, `type` and `code` of a refusal in the OpenAI dialect.
    #[track_caller]
    pub fn refused(&self, status: u16, kind: &str, code: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.openai_error(), (kind.to_owned(), code.to_owned()), "{}", self.text());
        assert!(self.header("x-request-id").is_some(), "every answer carries x-request-id");
    }

    /// Asserts a 200 and gives the JSON body.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }
}

/// An HTTP client with the ring provider, no proxy, no redirects.
#[must_use]
pub fn http_client(h2c: bool) -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("the first provider of this process");
    });
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(120));
    let builder = if h2c { builder.http2_prior_knowledge() } else { builder };
    builder.build().expect("a client")
}

/// One token on the edge.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    token: String,
}

impl Client {
    /// A client for this token; HTTP/1.1.
    #[must_use]
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { http: http_client(false), address, token: token.to_owned() }
    }

    /// The same over HTTP/2 in the clear.
    #[must_use]
    pub fn over_h2c(&self) -> Self {
        Self { http: http_client(true), ..self.clone() }
    }

    /// The same connection pool with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A request to be finished by the caller, with the bearer token set.
    pub fn build(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth(&self.token)
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.build(http::Method::GET, path).send().await.expect("an answer")).await
    }

    /// POST of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.try_post(path, body).await.expect("an answer")
    }

    /// POST of JSON that may find the gateway gone, or lose it in the middle of the answer.
    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Reply, reqwest::Error> {
        let response = self.build(http::Method::POST, path).json(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Reply { status, headers, body: response.bytes().await?.to_vec() })
    }

    /// POST of a body as it stands.
    pub async fn post_bytes(&self, path: &str, body: Vec<u8>) -> Reply {
        self.post_typed(path, "application/json", body).await
    }

    /// POST of a form.
    pub async fn post_form(&self, path: &str, form: &Form) -> Reply {
        self.post_typed(path, &Form::content_type(), form.body()).await
    }

    /// POST of a body as it stands, of this type.
    pub async fn post_typed(&self, path: &str, content_type: &str, body: Vec<u8>) -> Reply {
        let request = self.build(http::Method::POST, path).header("content-type", content_type).body(body);
        Reply::of(request.send().await.expect("an answer")).await
    }

    /// A chat completion.
    pub async fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body).await
    }

    /// A streamed chat completion; `stream` is set here.
    pub async fn stream(&self, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = json!(true);
        let request = self.build(http::Method::POST, "/v1/chat/completions").json(&body);
        Stream::of(request.send().await.expect("an answer")).await
    }
}

/// A chat body: one user message, an output cap.
#[must_use]
pub fn chat(model: &str, message: &str, max_tokens: u64) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": message }], "max_tokens": max_tokens })
}
