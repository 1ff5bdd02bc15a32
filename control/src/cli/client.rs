//! The way to the admin API: `admin.sock` of a data directory, or a URL with the admin key.
//!
//! The key is read from the environment alone, since a command line is for everybody on the machine to see. It goes to
//! the named URL and nowhere else: no proxy, no redirect.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::cli::command::Connection;

/// The variable that holds the admin key.
const KEY_VARIABLE: &str = "OPENCLAWMU_ADMIN_KEY";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long one may take that is as large as the ledger.
const LONG_TIMEOUT: Duration = Duration::from_secs(6 * 60 * 60);
/// Rows asked for at once when a whole list is wanted; the most that the API gives.
const PAGE: &str = "1000";

/// A client of the admin API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
    /// Where it talks to, for people.
    place: String,
}

/// One call: its path in segments, so that nothing in them can become another path.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<Body>,
}

/// What a call says.
#[derive(Debug)]
pub(crate) enum Body {
    Json(Value),
    /// JSON that goes out letter by letter: a number in it may not survive being read.
    Text(String),
}

impl<'a> Call<'a> {
    pub(crate) fn get(path: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, path, query, body: None }
    }

    pub(crate) fn send(method: Method, path: &'a [&'a str], body: Value) -> Self {
        Self { method, path, query: &[], body: Some(Body::Json(body)) }
    }

    pub(crate) fn send_text(method: Method, path: &'a [&'a str], body: String) -> Self {
        Self { method, path, query: &[], body: Some(Body::Text(body)) }
    }
}

impl Client {
    /// A client of what `connection` names; the key is taken from the environment.
    pub(crate) fn new(connection: &Connection) -> anyhow::Result<Self> {
        let Some(url) = &connection.url else {
            return Self::of_socket(&connection.data_dir().join("admin.sock"));
        };
        let key = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
        let key =
            key.with_context(|| format!("--url needs the admin key in the environment variable {KEY_VARIABLE}"))?;
        Self::of_url(url, SecretString::from(key))
    }

    pub(crate) fn of_socket(path: &Path) -> anyhow::Result<Self> {
        let http = builder().unix_socket(path).build().context("can't make an HTTP client")?;
        // The name is only for the Host header: all connections go to the socket.
        let base = Url::parse("http://localhost/")?;
        Ok(Self { http, base, key: None, place: path.display().to_string() })
    }

    pub(crate) fn of_url(url: &str, key: SecretString) -> anyhow::Result<Self> {
        let base =
            Url::parse(url).with_context(|| format!("--url {url} is not a URL such as http://127.0.0.1:8081"))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            bail!("--url {url} must begin with http:// or https://");
        }
        let http = builder().build().context("can't make an HTTP client")?;
        Ok(Self { http, base, key: Some(key), place: url.to_owned() })
    }

    /// The answer's body as the API sent it.
    pub(crate) async fn text(&self, call: Call<'_>) -> anyhow::Result<String> {
        self.text_within(TIMEOUT, call).await
    }

    /// The same of a call that may take long over a large ledger.
    pub(crate) async fn long_text(&self, call: Call<'_>) -> anyhow::Result<String> {
        self.text_within(LONG_TIMEOUT, call).await
    }

    /// The same of a call that may take as long as `timeout`.
    pub(crate) async fn text_within(&self, timeout: Duration, call: Call<'_>) -> anyhow::Result<String> {
        let response = self.send((timeout, None), call).await?;
        response.text().await.with_context(|| self.broke_off())
    }

    /// Writes the answer's body to `to` as it comes, whatever its size.
    pub(crate) async fn copy(&self, call: Call<'_>, to: &mut dyn Write) -> anyhow::Result<()> {
        let mut response = self.send((LONG_TIMEOUT, None), call).await?;
        while let Some(chunk) = response.chunk().await.with_context(|| self.broke_off())? {
            to.write_all(&chunk)?;
        }
        Ok(to.flush()?)
    }

    /// Gives each event of an answer to `each`, by its name and its data, as it comes; what that gives first is the answer's.
    pub(crate) async fn events<T>(
        &self,
        timeout: Duration,
        call: Call<'_>,
        each: &mut (dyn FnMut(&str, Value) -> anyhow::Result<Option<T>> + Send),
    ) -> anyhow::Result<T> {
        let mut response = self.send((timeout, Some("text/event-stream")), call).await?;
        let mut buffer = Vec::new();
        while let Some(chunk) = response.chunk().await.with_context(|| self.broke_off())? {
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = buffer.drain(..end + 2).collect();
                let event = String::from_utf8_lossy(&event);
                let line = |field: &str| event.lines().find_map(|line| line.strip_prefix(field));
                let (Some(name), Some(data)) = (line("event: "), line("data: ")) else { continue };
                let data = serde_json::from_str(data).with_context(|| self.broke_off())?;
                if let Some(done) = each(name, data)? {
                    return Ok(done);
                }
            }
        }
        bail!(self.broke_off())
    }

    fn broke_off(&self) -> String {
        format!("the answer of {} broke off", self.place)
    }

    /// An answer that is no refusal.
    async fn send(&self, (timeout, accept): (Duration, Option<&str>), call: Call<'_>) -> anyhow::Result<Response> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("the URL can't have a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self.http.request(call.method, url).timeout(timeout);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        request = match call.body {
            None => request,
            Some(Body::Json(body)) => request.json(&body),
            Some(Body::Text(body)) => request.header(CONTENT_TYPE, "application/json").body(body),
        };
        let response = request.send().await.map_err(|err| self.unreachable(err))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.with_context(|| self.broke_off())?;
        Err(refusal(status, &text))
    }

    /// The answer as JSON.
    pub(crate) async fn json(&self, call: Call<'_>) -> anyhow::Result<Value> {
        let text = self.text(call).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} did not answer in JSON: is this the admin API?", self.place))
    }

    /// Every row of a list, page by page.
    pub(crate) async fn list(&self, path: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = vec![("limit", PAGE)];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let mut page = self.json(Call::get(path, &query)).await?;
            if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
                rows.extend(data);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(rows),
            }
        }
    }

    fn unreachable(&self, err: reqwest::Error) -> anyhow::Error {
        let connecting = err.is_connect();
        // The cause is the system's own words; reqwest's sentence around it repeats the URL.
        let mut cause: &dyn std::error::Error = &err;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let place = &self.place;
        if connecting {
            Unreachable(format!(
                "can't reach the gateway at {place}: {cause}\nhint: is the gateway running? start it with `openclawmu serve`, or give --data/--url"
            ))
            .into()
        } else {
            anyhow::anyhow!("{place} did not answer: {cause}")
        }
    }
}

/// Nobody listens where the admin API should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreachable(String);

/// The API refused.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Refused {
    text: String,
    /// Its own words: `code`, `message`, `field`, `hint`.
    pub(crate) error: Value,
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().redirect(Policy::none())
}

/// The API's message and hint, as one error.
fn refusal(status: StatusCode, text: &str) -> anyhow::Error {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let part = |name: &str| answer.pointer(&format!("/error/{name}")).and_then(Value::as_str);
    let Some(message) = part("message") else {
        return anyhow::anyhow!("the gateway answered {status} without saying why: is this the admin API?");
    };
    let field =
        part("field").filter(|field| !message.contains(field)).map(|field| format!("{field}: ")).unwrap_or_default();
    let hint = part("hint").map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    let text = format!("{field}{message}{hint}");
    Refused { text, error: answer.get("error").cloned().unwrap_or_default() }.into()
}
