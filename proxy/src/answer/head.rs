//! An answer's head. It is gathered as HTTP/1.1 writes it, since that is what nearly every client reads: over HTTP/2 it is read back.

use std::fmt::Display;
use std::io::Write as _;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, StatusCode};
use openclawmu_store::{AMOUNT_BYTES, NanoUsd, RateStanding, RequestId, Standing, UnixMs};
use pingora::http::ResponseHeader;

use crate::admit::Cap;
use crate::client::Client;
use crate::dialect::Dialect;

/// What a usual head takes, in bytes.
const USUAL_BYTES: usize = 768;

/// The header that says what is left of the budget.
pub(crate) const BUDGET_REMAINING: HeaderName = HeaderName::from_static("x-openclawmu-budget-remaining-usd");

/// Limit, what remains and the reset of requests and of tokens, as `OpenAI` names them.
const OPENAI_RATES: [[&str; 3]; 2] = [
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
];
/// The same as Anthropic names them.
const ANTHROPIC_RATES: [[&str; 3]; 2] = [
    [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
];

/// An answer's head, before it is written.
#[derive(Debug)]
pub(crate) struct Head {
    status: StatusCode,
    dialect: Dialect,
    /// Its first line and its headers so far, each with its end.
    text: Vec<u8>,
    /// Where its headers begin.
    headers_at: usize,
    /// What is left of the budget, until [`Head::seal`].
    left: Option<NanoUsd>,
}

impl Head {
    /// A head with what every answer carries.
    pub(crate) fn new(status: u16, request_id: RequestId) -> pingora::Result<Self> {
        let status = StatusCode::from_u16(status).map_err(|err| {
            pingora::Error::because(pingora::ErrorType::InvalidHTTPHeader, "a status that is none", err)
        })?;
        let mut head = Self::bare(status);
        head.set_bytes("x-request-id", &request_id.text());
        Ok(head)
    }

    /// A head that says nothing yet.
    pub(crate) fn bare(status: StatusCode) -> Self {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        if status == StatusCode::OK {
            text.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
                text.extend_from_slice(part.as_bytes());
            }
        }
        let headers_at = text.len();
        Self { status, dialect: Dialect::default(), text, headers_at, left: None }
    }

    /// A head with what every answer to a client of this dialect carries.
    pub(crate) fn of(status: u16, request_id: RequestId, dialect: Dialect) -> pingora::Result<Self> {
        let mut head = Self::new(status, request_id)?;
        head.dialect = dialect;
        if dialect == Dialect::Anthropic {
            head.set_bytes("request-id", &request_id.text());
        }
        Ok(head)
    }

    /// Sets a header that is not set yet; a value that is no header value is left out.
    pub(crate) fn set(&mut self, name: impl AsRef<str>, value: impl Display) {
        self.put(name.as_ref(), |text| drop(write!(text, "{value}")));
    }

    /// The same of a value that is text already.
    pub(crate) fn set_text(&mut self, name: &str, value: &str) {
        self.set_bytes(name, value.as_bytes());
    }

    fn set_bytes(&mut self, name: &str, value: &[u8]) {
        self.put(name, |text| text.extend_from_slice(value));
    }

    fn set_number(&mut self, name: &str, value: u64) {
        self.set_text(name, itoa::Buffer::new().format(value));
    }

    fn set_amount(&mut self, name: &str, value: NanoUsd) {
        self.set_text(name, value.text(&mut [0; AMOUNT_BYTES]));
    }

    fn put(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b": ");
        let value_at = self.text.len();
        write(&mut self.text);
        let is_value = |byte: &u8| (*byte >= b' ' && *byte != 0x7f) || *byte == b'\t';
        if self.text.get(value_at..).is_some_and(|value| value.iter().all(is_value)) {
            self.text.extend_from_slice(b"\r\n");
        } else {
            self.text.truncate(before);
            tracing::error!(name, "a header could not be set: its value holds what none may hold");
        }
    }

    /// Sets the rate limits under the names of the client's dialect, and the budget that is left.
    pub(crate) fn set_standing(&mut self, standing: &Standing) {
        let rates = [standing.requests, standing.tokens];
        let anthropic = self.dialect == Dialect::Anthropic;
        let names = if anthropic { &ANTHROPIC_RATES } else { &OPENAI_RATES };
        for (rate, [limit, remaining, reset]) in rates.into_iter().zip(names) {
            let Some(rate) = rate else { continue };
            self.set_number(limit, rate.limit);
            self.set_number(remaining, rate.remaining);
            if anthropic {
                self.set(reset, full_at(&rate, standing.at).rfc3339());
            } else {
                self.set(reset, GoDuration(&rate));
            }
        }
        self.left = standing.usd_left;
    }

    /// Keeps to itself what is left of the budget.
    pub(crate) fn hide_budget(&mut self) {
        self.left = None;
        let (first, headers) = self.text.split_at(self.headers_at.min(self.text.len()));
        let is_other = |line: &&[u8]| !line.starts_with(BUDGET_REMAINING.as_str().as_bytes());
        let others = headers.split_inclusive(|byte| *byte == b'\n').filter(is_other);
        self.text = std::iter::once(first).chain(others).flatten().copied().collect();
    }

    /// Sets which model answers, and the cap that a tight budget set for it.
    pub(crate) fn set_attempt(&mut self, model: &str, cap: Option<Cap>) {
        self.set_text("x-openclawmu-model", model);
        if let Some(cap) = cap.filter(|cap| cap.clamped) {
            self.set("x-openclawmu-output-clamped", cap.tokens);
        }
    }

    /// Sets what an attempt cost.
    pub(crate) fn set_cost(&mut self, cost: NanoUsd) {
        self.set_amount("x-openclawmu-cost-usd", cost);
    }

    /// Sets several headers.
    pub(crate) fn extend(&mut self, headers: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<[u8]>)>) {
        for (name, value) in headers {
            self.set_bytes(name.as_ref(), value.as_ref());
        }
    }

    /// Says the last of what it says. To be called once, before it is read or written.
    pub(crate) fn seal(&mut self) {
        if let Some(left) = self.left.take() {
            self.set_amount(BUDGET_REMAINING.as_str(), left);
        }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Its headers, name and value.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let lines = self.text.get(self.headers_at..).unwrap_or_default().split(|byte| *byte == b'\n');
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
            Some((std::str::from_utf8(name).ok()?, value.get(2..)?))
        })
    }

    /// The value of a header.
    pub(crate) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name.as_str())).map(|(_, value)| value)
    }

    /// As HTTP/1.1 writes it: the first line and the headers, each with its end.
    pub(crate) fn into_text(self) -> Vec<u8> {
        self.text
    }

    /// As HTTP/2 has it.
    ///
    /// # Errors
    /// When a header is none.
    pub(crate) fn to_http2(&self) -> pingora::Result<Box<ResponseHeader>> {
        let mut head = ResponseHeader::build_no_case(self.status, None)?;
        for (name, value) in self.headers() {
            head.append_header(name.to_owned(), value)?;
        }
        Ok(Box::new(head))
    }

    /// Writes the head of an answer whose body follows in pieces.
    pub(crate) async fn begin(self, client: &mut Client<'_>) -> pingora::Result<()> {
        client.begin(self).await
    }

    /// Writes an answer that has no body.
    pub(crate) async fn send_nothing(self, client: &mut Client<'_>) -> pingora::Result<()> {
        client.bodiless(self).await
    }

    /// Writes a whole answer.
    pub(crate) async fn send(
        mut self,
        client: &mut Client<'_>,
        content_type: &str,
        body: Bytes,
    ) -> pingora::Result<()> {
        self.set_text(CONTENT_TYPE.as_str(), content_type);
        client.whole(self, body).await
    }
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
    fn a_head_says_what_it_was_told_and_nothing_that_would_be_two_lines() {
        let mut head = Head::of(429, RequestId(7), Dialect::Anthropic).unwrap();
        head.set("x-a", "b: c");
        head.set_text("x-evil", "b\r\nset-cookie: c");
        head.set("x-nul", '\0');
        let rate = RateStanding { limit: 60, remaining: 59, reset_ms: 1000 };
        head.set_standing(&Standing { requests: Some(rate), usd_left: Some(NanoUsd(5)), ..Standing::default() });
        head.seal();
        head.seal();
        let names: Vec<&str> = head.headers().map(|(name, _)| name).collect();
        let expected = [
            "x-request-id",
            "request-id",
            "x-a",
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
            "x-openclawmu-budget-remaining-usd",
        ];
        assert_eq!(names, expected);
        assert_eq!(head.get(&BUDGET_REMAINING), Some(b"0.000000005".as_slice()));
        let http2 = head.to_http2().unwrap();
        assert_eq!((http2.status.as_u16(), http2.headers.len()), (429, expected.len()));
        assert_eq!(http2.headers["x-a"], "b: c");
        let text = String::from_utf8(head.into_text()).unwrap();
        assert!(text.starts_with("HTTP/1.1 429 Too Many Requests\r\nx-request-id: req_"), "{text}");
        assert!(text.ends_with("\r\n") && !text.contains("evil") && !text.contains("cookie"), "{text}");
    }

    #[test]
    fn what_is_left_of_the_budget_can_be_kept_back_until_the_end() {
        let mut head = Head::new(200, RequestId(7)).unwrap();
        head.set_standing(&Standing { usd_left: Some(NanoUsd(5)), ..Standing::default() });
        head.extend([(BUDGET_REMAINING, "0.1")]);
        head.set("x-a", "b");
        head.hide_budget();
        head.seal();
        assert_eq!(head.headers().map(|(name, _)| name).collect::<Vec<_>>(), ["x-request-id", "x-a"]);
    }

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
