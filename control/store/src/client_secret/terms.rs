//! What may be asked of a client secret, and what it then allows.

use super::{DEFAULT_TTL_SECONDS, NewClientSecret};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{SecretKey, TokenId};
use crate::model;
use crate::money::NanoUsd;
use crate::quota::Quota;

/// The shortest and the longest life, in seconds.
const TTL_SECONDS: std::ops::RangeInclusive<u32> = 10..=24 * 60 * 60;
/// The longest origin, in bytes.
const MAX_ORIGIN_BYTES: usize = 255;
/// The longest user, in bytes: what a row's label holds.
const MAX_USER_BYTES: usize = 256;

/// What a client secret allows, beside what its maker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretTerms {
    /// Its id.
    pub id: TokenId,
    /// From when on it is refused.
    pub expires_at: UnixMs,
    /// The only origin that its page may have.
    pub origin: Option<String>,
    /// Whom it is for.
    pub user: Option<String>,
    /// What it may use at most.
    pub cap: Option<SecretCap>,
    pub(super) models: Option<Vec<String>>,
}

impl SecretTerms {
    /// Whether its own list lets `model` pass.
    pub(crate) fn allows_model(&self, model: &str) -> bool {
        model::allows(self.models.as_deref(), model)
    }
}

/// What a client secret may use in its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretCap {
    /// Which one's use is counted.
    pub key: SecretKey,
    /// The most that it may cost.
    pub max_cost: Option<NanoUsd>,
    /// The most requests that it may make.
    pub max_requests: Option<u64>,
    /// When it ends.
    pub expires_at: UnixMs,
}

impl NewClientSecret {
    /// Its life in milliseconds.
    pub(super) fn ttl_ms(&self) -> i64 {
        i64::from(self.ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS)) * 1000
    }

    /// Refuses what no secret can be.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |field: &str, message: String| Err(StoreError::invalid(field, message));
        if self.ttl_seconds.is_some_and(|ttl| !TTL_SECONDS.contains(&ttl)) {
            let (least, most) = (TTL_SECONDS.start(), TTL_SECONDS.end());
            return refused("ttl_seconds", format!("must be {least} to {most}, which is 24 hours"));
        }
        model::check_patterns("models", self.models.as_deref())?;
        if self.models.as_ref().is_some_and(Vec::is_empty) {
            return refused("models", "must name at least one; leave it out for all".to_owned());
        }
        if self.max_cost_usd.is_some_and(|usd| usd <= NanoUsd::ZERO) {
            return refused("max_cost_usd", "must be more than nothing".to_owned());
        }
        if self.max_requests.is_some_and(|count| count == 0 || count > Quota::MAX_COUNT) {
            return refused("max_requests", "must be 1 to 2^53".to_owned());
        }
        if self.origin.as_deref().is_some_and(|origin| !is_origin(origin)) {
            let message = "must be an origin as browsers send it, such as https://app.example.com: a scheme, a host in lower \
                           case, a port unless it is the scheme's own, and nothing behind it";
            return refused("origin", message.to_owned());
        }
        if self.user.as_deref().is_some_and(|user| !is_user(user)) {
            let message = format!("must be 1 to {MAX_USER_BYTES} bytes without control characters or spaces around it");
            return refused("user", message);
        }
        Ok(())
    }
}

/// Whether a row's label keeps it as it is.
fn is_user(user: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&user.len()) && user.trim() == user && !user.chars().any(char::is_control)
}

/// Whether it is a serialized tuple origin (WHATWG HTML, "serialization of an origin"), which is what the header holds.
#[must_use]
pub fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let scheme_is_one = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte));
    let of_host = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.to_string() == host));
    let host_is_one = is_v6 || (!host.is_empty() && host.bytes().all(of_host));
    let own_port = match scheme {
        "http" => Some("80"),
        "https" => Some("443"),
        _ => None,
    };
    let port_is_one = port.is_none_or(|port| {
        port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port) && Some(port) != own_port
    });
    origin.len() <= MAX_ORIGIN_BYTES && scheme_is_one && host_is_one && port_is_one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in [
            "https://app.example.com",
            "http://localhost:5173",
            "http://127.0.0.1:8000",
            "http://[::1]:8000",
            "https://[2001:db8::1]",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "null",
            "*",
            "https://",
            "app.example.com",
            "https://app.example.com/",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:0",
            "https://app.example.com:08",
            "https://app.example.com:",
            "https://user@app.example.com",
            "https://*.example.com",
            "https://app.example.com https://other",
            "https://app.example.com\r\nx: y",
            "http://[::0001]",
            "http://é.example",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn a_user_is_one_that_a_row_keeps_whole() {
        assert!(is_user("ann") && is_user("a b") && is_user(&"x".repeat(256)));
        for bad in ["", " ann", "ann ", "a\nb", &"x".repeat(257)] {
            assert!(!is_user(bad), "{bad:?}");
        }
    }
}
