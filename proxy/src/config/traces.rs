//! `[traces]`: where spans are sent, and of which requests.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::outbound::Allowed;

/// `[traces]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTraces {
    /// A collector that takes OTLP over HTTP; absent: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// One request in so many is traced.
    pub sample_one_in: u64,
    /// Networks whose callers' `traceparent` is believed.
    pub trusted_peers: Vec<String>,
}

impl Default for RawTraces {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_one_in: 1, trusted_peers: Vec::new() }
    }
}

/// What is traced, and where it goes.
#[derive(Clone, Debug)]
pub struct TracesConfig {
    /// The collector.
    pub endpoint: String,
    /// One request in so many, at least one.
    pub sample_one_in: u64,
    /// Whose `traceparent` is believed.
    pub trusted_peers: Vec<IpNet>,
}

/// Proves every value usable.
///
/// # Errors
/// The key of the first that is not.
pub(super) fn check(raw: RawTraces, allowed: &Allowed) -> Result<Option<TracesConfig>, ConfigError> {
    if raw.sample_one_in == 0 {
        return Err(value("traces.sample_one_in", "must be at least 1, which traces every request"));
    }
    let network = |text: &String| {
        let host = || text.parse().ok().map(|ip: std::net::IpAddr| IpNet::from(ip));
        text.parse().ok().or_else(host).ok_or_else(|| {
            let message = format!("`{text}` is no network; write it as \"10.0.0.0/8\" or \"10.0.0.7\"");
            value("traces.trusted_peers", message)
        })
    };
    let trusted_peers = raw.trusted_peers.iter().map(network).collect::<Result<_, _>>()?;
    let Some(endpoint) = raw.otlp_endpoint else { return Ok(None) };
    let key = "traces.otlp_endpoint";
    let url: http::Uri = endpoint.parse().map_err(|err| value(key, format!("`{endpoint}` is no URL: {err}")))?;
    let (scheme, host) = (url.scheme_str(), url.host().unwrap_or_default());
    let port = match scheme {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(value(key, "must begin with http:// or https://, such as \"http://127.0.0.1:4318\"")),
    };
    allowed.check(key, (host, url.port_u16().unwrap_or(port)))?;
    Ok(Some(TracesConfig { endpoint, sample_one_in: raw.sample_one_in, trusted_peers }))
}
