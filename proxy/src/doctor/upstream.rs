//! Whether every upstream is reached and takes its key: its name, its address, TLS, and a call that costs nothing.

use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use super::Finding;
use crate::config::UpstreamConfig;
use crate::upstream::http::{Fault, HttpUpstream, Outgoing, Pools};
use crate::upstream::provider::Provider;

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections that are kept.
const POOL_SIZE: usize = 1;

/// Looks at all of them at once.
pub(super) async fn look(upstreams: &[UpstreamConfig]) -> Vec<Finding> {
    let mut looks = JoinSet::new();
    for (place, config) in upstreams.iter().enumerate() {
        let config = config.clone();
        looks.spawn(async move { (place, one(&config).await) });
    }
    let mut found = looks.join_all().await;
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, finding)| finding).collect()
}

async fn one(config: &UpstreamConfig) -> Finding {
    let check = format!("upstream.{}", config.name);
    let Some(provider) = Provider::of(&config.kind) else { return Finding::ok(check, "built in") };
    if let Err((seen, hint)) = connect(config).await {
        return Finding::fail(check, seen, hint);
    }
    let Some(path) = provider.models_path() else {
        return Finding::ok(check, "is reached; its key is not tried: nothing there is free to ask");
    };
    let patient = UpstreamConfig { connect_timeout: PATIENCE, first_byte_timeout: PATIENCE, ..config.clone() };
    let http = match HttpUpstream::new(&patient, &provider, Pools::new(POOL_SIZE)) {
        Ok(http) => http,
        Err(err) => return Finding::fail(check, err, "correct it in the configuration"),
    };
    let content_type = HeaderValue::from_static("application/json");
    let outgoing = Outgoing {
        method: &Method::GET,
        content_type: &content_type,
        path: &path,
        body: bytes::Bytes::new(),
        accept: "application/json",
        headers: Vec::new(),
        own_key: None,
        once: false,
    };
    // Answers of any length are cut here: only the status is of interest.
    match tokio::time::timeout(PATIENCE.saturating_mul(2), http.send(&outgoing)).await {
        Ok(Ok(answer)) => judge(check, answer.status()),
        Ok(Err(Fault::Connect(err))) => {
            Finding::fail(check, err, "check TLS: the certificate, and whether it is TLS at all")
        }
        Ok(Err(fault)) => Finding::fail(check, fault.to_string(), "check base_url, and the server's own log"),
        Err(_) => Finding::fail(check, "does not answer in time", "check the firewall and any proxy in between"),
    }
}

/// The first two steps, each with a hint of its own.
async fn connect(config: &UpstreamConfig) -> Result<(), (String, &'static str)> {
    let url = config.base_url.as_ref().ok_or(("has no base_url".to_owned(), "add it"))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("https") { 443 } else { 80 });
    let found = tokio::time::timeout(PATIENCE, lookup_host((host, port))).await;
    let dns = "check base_url, and the machine's DNS";
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(err)) => return Err((format!("{host} can't be looked up: {err}"), dns)),
        Err(_) => return Err((format!("{host} is not looked up within {} s", PATIENCE.as_secs()), dns)),
    };
    let firewall = "check base_url, whether the server runs, and the firewall";
    match tokio::time::timeout(PATIENCE, TcpStream::connect(&*addresses)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(err)) => Err((format!("{host}:{port}: {err}"), firewall)),
        Err(_) => Err((format!("{host}:{port} does not answer within {} s", PATIENCE.as_secs()), firewall)),
    }
}

fn judge(check: String, status: u16) -> Finding {
    match status {
        200..300 => Finding::ok(check, "answers, and takes the key"),
        401 | 403 => {
            let hint = "give the right key in api_key; a tenant's own key is set by `tenants provider-key set`";
            Finding::fail(check, format!("answers {status}: it does not take the key"), hint)
        }
        404 | 405 | 501 => {
            Finding::ok(check, format!("answers ({status}); its key is not tried: it has no list of models"))
        }
        429 => Finding::warn(check, "answers 429: it is asked too much", "look at your limits there"),
        other => Finding::warn(check, format!("answers {other}"), "look at the provider's status, and at base_url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn an_answer_is_judged_by_its_status() {
        let state = |status| judge("upstream.x".to_owned(), status).state;
        for (status, expected) in [
            (200, State::Ok),
            (404, State::Ok),
            (401, State::Fail),
            (403, State::Fail),
            (429, State::Warn),
            (503, State::Warn),
        ] {
            assert_eq!(state(status), expected, "{status}");
        }
    }
}
