//! What the tests of channels have in common.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use openclawmu_store::UnixMs;

use crate::channel::adapter::Incoming;
use crate::channel::credential::Credentials;
use crate::outbound::{Answer, Limits, OperatorCalls, OutboundUrl};

/// Half past nine of 23 November 2026.
pub(super) const NOW: UnixMs = UnixMs(1_795_426_200_000);

pub(super) fn limits() -> Limits {
    Limits { timeout: std::time::Duration::from_secs(5), max_answer_bytes: 1 << 16 }
}

pub(super) fn calls() -> OperatorCalls {
    drop(rustls::crypto::ring::default_provider().install_default());
    OperatorCalls::new(limits()).unwrap()
}

/// A provider that nobody answers for.
pub(super) fn nowhere() -> Option<OutboundUrl> {
    Some(OutboundUrl::parse("http://127.0.0.1:1").unwrap())
}

pub(super) fn post(headers: &[(&str, &str)], body: &[u8]) -> Incoming {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Incoming { method: Method::POST, query: String::new(), headers: all, body: body.to_vec() }
}

pub(super) fn get(query: &str) -> Incoming {
    Incoming { method: Method::GET, query: query.to_owned(), headers: HeaderMap::new(), body: Vec::new() }
}

pub(super) fn credentials(pairs: &[(&str, &str)]) -> Credentials {
    let mut credentials = Credentials::default();
    pairs.iter().for_each(|(name, value)| credentials.set(name, value));
    credentials
}

pub(super) fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
    let mut all = HeaderMap::new();
    headers.iter().for_each(|(name, value)| drop(all.insert(*name, HeaderValue::from_static(value))));
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, headers: all, body: body.as_bytes().to_vec(), whole: true }
}
