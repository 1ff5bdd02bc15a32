//! Writing answers: heads, bodies, refusals. The only code that decides which headers a client gets.

use std::fmt::{Debug, Display, Write as _};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use openclawmu_store::{NanoUsd, RateStanding, RequestId, Standing, UnixMs};
use pingora::http::ResponseHeader;

use crate::admit::Cap;
use crate::client::Client;
use crate::dialect::Dialect;
use crate::head;
use crate::refusal::Told;

/// The most of an unread body that is read so that the connection can go on.
const DRAIN_BYTES: usize = 64 << 10;
/// Longest wait for the rest of a body that nobody will read.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// The most of it that is thrown away behind a refusal, before a connection is closed that can't go on.
const LINGER_BYTES: usize = 64 << 20;
/// Longest time for that.
const LINGER_PATIENCE: Duration = Duration::from_secs(5);

/// What the values of a usual head take, in bytes.
const VALUE_BYTES: usize = 256;

/// Headers that a usual head has, whatever else is in it.
const HEADERS: usize = 16;

/// The header that names a request, in each dialect; and its name in Anthropic's besides.
const REQUEST_ID: [HeaderName; 2] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];
/// The header that says which model answers.
const MODEL: HeaderName = HeaderName::from_static("x-openclawmu-model");
/// The header that says what an answer cost.
const COST: HeaderName = HeaderName::from_static("x-openclawmu-cost-usd");
/// The header that says what is left of the budget.
pub(crate) const BUDGET_REMAINING: HeaderName = HeaderName::from_static("x-openclawmu-budget-remaining-usd");

/// Limit, what remains and the reset of requests and of tokens, as `OpenAI` names them.
const OPENAI_RATES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];
/// The same as Anthropic names them.
const ANTHROPIC_RATES: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
];

/// An answer's head, before it is written.
#[derive(Debug)]
pub(crate) struct Head {
    status: StatusCode,
    headers: HeaderMap,
    dialect: Dialect,
    /// Room for values, which are cut off it.
    values: BytesMut,
}

impl Head {
    /// A head with what every answer carries.
    pub(crate) fn new(status: u16, request_id: RequestId) -> pingora::Result<Self> {
        let status = StatusCode::from_u16(status).map_err(|err| {
            pingora::Error::because(pingora::ErrorType::InvalidHTTPHeader, "a status that is none", err)
        })?;
        let (headers, values) = (HeaderMap::with_capacity(HEADERS), BytesMut::with_capacity(VALUE_BYTES));
        let mut head = Self { status, headers, dialect: Dialect::default(), values };
        let [name, _] = REQUEST_ID;
        head.set(name, request_id);
        Ok(head)
    }

    /// A head with what every answer to a client of this dialect carries.
    pub(crate) fn of(status: u16, request_id: RequestId, dialect: Dialect) -> pingora::Result<Self> {
        let mut head = Self::new(status, request_id)?;
        head.dialect = dialect;
        if dialect == Dialect::Anthropic {
            let [_, name] = REQUEST_ID;
            head.set(name, request_id);
        }
        Ok(head)
    }

    /// Sets a header; a value that is no header value is left out.
    pub(crate) fn set(&mut self, name: impl TryInto<HeaderName, Error: Debug>, value: impl Display) {
        let written = write!(self.values, "{value}");
        let text = self.values.split().freeze();
        if let (Ok(()), Ok(value)) = (written, HeaderValue::from_maybe_shared(text)) {
            self.put(name, value);
        }
    }

    fn put(&mut self, name: impl TryInto<HeaderName, Error: Debug>, value: HeaderValue) {
        match name.try_into() {
            Ok(name) => drop(self.headers.insert(name, value)),
            Err(err) => tracing::error!(?err, "a header could not be set"),
        }
    }

    /// As it is written.
    fn done(self) -> Box<ResponseHeader> {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.status;
        parts.headers = self.headers;
        Box::new(parts.into())
    }

    /// Sets the rate limits under the names of the client's dialect, and the budget that is left.
    pub(crate) fn set_standing(&mut self, standing: &Standing) {
        let rates = [standing.requests, standing.tokens];
        let anthropic = self.dialect == Dialect::Anthropic;
        let names = if anthropic { ANTHROPIC_RATES } else { OPENAI_RATES };
        for (rate, [limit, remaining, reset]) in rates.into_iter().zip(names) {
            let Some(rate) = rate else { continue };
            self.put(limit, HeaderValue::from(rate.limit));
            self.put(remaining, HeaderValue::from(rate.remaining));
            if anthropic {
                self.set(reset, full_at(&rate, standing.at).rfc3339());
            } else {
                self.set(reset, GoDuration(&rate));
            }
        }
        if let Some(left) = standing.usd_left {
            self.set(BUDGET_REMAINING, left);
        }
    }

    /// Sets which model answers, and the cap that a tight budget set for it.
    pub(crate) fn set_attempt(&mut self, model: &str, cap: Option<Cap>) {
        self.set(MODEL, model);
        if let Some(cap) = cap.filter(|cap| cap.clamped) {
            self.set("x-openclawmu-output-clamped", cap.tokens);
        }
    }

    /// Sets what an attempt cost.
    pub(crate) fn set_cost(&mut self, cost: NanoUsd) {
        self.set(COST, cost);
    }

    /// Writes the head of an answer whose body follows in pieces.
    pub(crate) async fn begin(self, client: &mut Client<'_>) -> pingora::Result<()> {
        client.begin(self.done()).await
    }

    /// Sets several headers.
    pub(crate) fn extend(&mut self, headers: Vec<(HeaderName, HeaderValue)>) {
        for (name, value) in headers {
            self.headers.insert(name, value);
        }
    }

    /// Writes an answer that has no body.
    pub(crate) async fn send_nothing(self, client: &mut Client<'_>) -> pingora::Result<()> {
        client.bodiless(self.done()).await
    }

    /// Writes a whole answer.
    pub(crate) async fn send(
        mut self,
        client: &mut Client<'_>,
        content_type: &str,
        body: Bytes,
    ) -> pingora::Result<()> {
        self.set(header::CONTENT_TYPE, content_type);
        client.whole(self.done(), body).await
    }
}

/// Answers with JSON that is written already.
pub(crate) async fn whole(client: &mut Client<'_>, request_id: RequestId, body: Vec<u8>) -> pingora::Result<()> {
    Head::of(200, request_id, Dialect::Anthropic)?.send(client, "application/json", body.into()).await
}

/// Answers with JSON.
pub(crate) async fn json(
    client: &mut Client<'_>,
    request_id: RequestId,
    value: &impl serde::Serialize,
) -> pingora::Result<()> {
    let body = serde_json::to_vec(value).map_err(|err| {
        pingora::Error::because(pingora::ErrorType::InternalError, "an answer can't be written as JSON", err)
    })?;
    Head::new(200, request_id)?.send(client, "application/json", body.into()).await
}

/// Answers with a refusal. What the client is still sending is read up to a bound, else the connection is closed, so that the
/// rest of this body is never taken for the next request.
pub(crate) async fn refuse(
    client: &mut Client<'_>,
    (request_id, dialect): (RequestId, Dialect),
    told: &Told,
    standing: &Standing,
) -> pingora::Result<()> {
    let ends = told.closes || !drained(client).await;
    if ends {
        client.close();
    }
    let mut head = Head::of(told.status, request_id, dialect)?;
    head.set_standing(standing);
    if let Some(ms) = told.retry_after_ms {
        head.set("retry-after", ms.div_ceil(1000));
        head.set("retry-after-ms", ms);
    }
    if let Some(should) = told.should_retry {
        head.set("x-should-retry", should);
    }
    if let (405, Some(allow)) = (told.status, told.param.as_deref()) {
        head.set("allow", allow);
    }
    if told.status == 426 {
        head.set("upgrade", "websocket");
        head.set("sec-websocket-version", 13);
    }
    let body = dialect.refusal_body(told, request_id);
    head.send(client, "application/json", body.into()).await?;
    if ends && (!told.closes || told.status == 413) {
        linger(client).await;
    }
    Ok(())
}

/// Reads on and throws away behind a refusal, up to a bound: who closes with bytes unread has the system reset the connection, and the
/// answer may be lost with it before a client that is still sending has read it (RFC 9112, 9.6). A client that waits to be told to
/// go on sends nothing; over HTTP/2 a stream is reset by itself.
async fn linger(client: &mut Client<'_>) {
    let Client::Http(session) = client else { return };
    let waits = head::expects_continue(&session.req_header().headers) && session.body_bytes_read() == 0;
    if waits || session.is_http2() {
        return;
    }
    let rest = async {
        let mut read = 0;
        while let Ok(Some(piece)) = session.as_downstream_mut().read_request_body().await {
            read += piece.len();
            if read > LINGER_BYTES {
                return;
            }
        }
    };
    // Whoever has more to send, or is slower, is reset in the end.
    let _over = tokio::time::timeout(LINGER_PATIENCE, rest).await;
}

async fn drained(client: &mut Client<'_>) -> bool {
    let session = match client {
        Client::Http(session) => session,
        Client::Pipe(_) => return true,
    };
    if session.is_body_done() || session.is_body_empty() {
        return true;
    }
    if head::expects_continue(&session.req_header().headers) {
        return false;
    }
    let rest = async {
        let mut read = 0;
        while let Ok(Some(piece)) = session.as_downstream_mut().read_request_body().await {
            read += piece.len();
            if read > DRAIN_BYTES {
                return false;
            }
        }
        session.is_body_done()
    };
    tokio::time::timeout(DRAIN_PATIENCE, rest).await.unwrap_or(false)
}

/// When a bucket is full again, which is what Anthropic's headers hold.
fn full_at(rate: &RateStanding, at: UnixMs) -> UnixMs {
    UnixMs(at.0.saturating_add_unsigned(rate.reset_ms))
}

/// A bucket's reset time as Go prints durations, which is what `OpenAI`'s headers hold: `12ms`, `1.5s`, `6m0s`.
struct GoDuration<'a>(&'a RateStanding);

impl Display for GoDuration<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.reset_ms;
        let (hours, minutes, seconds, rest) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
        match ms {
            0 => return f.write_str("0s"),
            1..1000 => return write!(f, "{ms}ms"),
            1000..60_000 => {}
            60_000..3_600_000 => write!(f, "{minutes}m")?,
            3_600_000.. => write!(f, "{hours}h{minutes}m")?,
        }
        if rest == 0 {
            return write!(f, "{seconds}s");
        }
        match rest {
            hundreds if hundreds % 100 == 0 => write!(f, "{seconds}.{}s", hundreds / 100),
            tens if tens % 10 == 0 => write!(f, "{seconds}.{:02}s", tens / 10),
            ones => write!(f, "{seconds}.{ones:03}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (reset_ms, text) in [
            (0, "0s"),
            (12, "12ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (1050, "1.05s"),
            (59_999, "59.999s"),
            (360_000, "6m0s"),
            (3_600_000, "1h0m0s"),
            (3_661_010, "1h1m1.01s"),
        ] {
            let rate = RateStanding { limit: 1, remaining: 0, reset_ms };
            assert_eq!(full_at(&rate, UnixMs(1_000)), UnixMs(1_000 + i64::try_from(reset_ms).unwrap()));
            assert_eq!(GoDuration(&RateStanding { limit: 1, remaining: 0, reset_ms }).to_string(), text);
        }
    }
}
