//! The cookie that stands for a session.
//!
//! Over https it is `__Host-openclawmu-console` and `Secure`: no other host, no path and no plain connection can set or see it
//! (RFC 6265bis, section 4.1.3.2). Over plain http, which is for the gateway's own machine, it has a name of its own and no `Secure`:
//! Chromium would take a secure one from a loopback address, not every browser does, and nothing on the way could read it there.
//! Which of the two the browser is at, the `Origin` of its login says: no page and no other client can make a browser lie there.
//!
//! Cookies know no ports: what else runs at the same host sees the plain one on `/console` alone, and can't use it from a page of
//! its own, whose `Origin` is another.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::admin::console::session::MOST_MS;

const SECURE: &str = "__Host-openclawmu-console";
const PLAIN: &str = "openclawmu-console";
/// Cookies of these names that are looked at: a browser sends one.
const MOST: usize = 4;

/// How the browser got here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    /// That of an origin.
    pub(super) fn of_origin(origin: &str) -> Self {
        if origin.starts_with("https://") { Self::Https } else { Self::Http }
    }
}

/// A `Set-Cookie` for a session that has begun.
pub(super) fn set(id: &str, scheme: Scheme) -> Option<HeaderValue> {
    header(id, scheme, MOST_MS / 1000)
}

/// Those that take the cookie of either name away.
pub(super) fn cleared() -> Vec<HeaderValue> {
    [Scheme::Https, Scheme::Http].into_iter().filter_map(|scheme| header("", scheme, 0)).collect()
}

fn header(value: &str, scheme: Scheme, max_age_seconds: i64) -> Option<HeaderValue> {
    let (name, rest) = match scheme {
        Scheme::Https => (SECURE, "Path=/; Secure"),
        Scheme::Http => (PLAIN, "Path=/console"),
    };
    let text = format!("{name}={value}; {rest}; HttpOnly; SameSite=Strict; Max-Age={max_age_seconds}");
    HeaderValue::from_str(&text).ok()
}

/// The ids that a request presents.
pub(super) fn presented(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, value)| [SECURE, PLAIN].contains(name) && !value.is_empty()).map(|(_, value)| value).take(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W-01
    #[test]
    fn a_cookie_is_out_of_scripts_and_other_sites_reach_and_over_https_out_of_other_hosts() {
        let of = |scheme| set("id", scheme).unwrap().to_str().unwrap().to_owned();
        let rest = "HttpOnly; SameSite=Strict; Max-Age=43200";
        assert_eq!(of(Scheme::Https), format!("__Host-openclawmu-console=id; Path=/; Secure; {rest}"));
        assert_eq!(of(Scheme::Http), format!("openclawmu-console=id; Path=/console; {rest}"));
        assert_eq!(Scheme::of_origin("https://gateway.example"), Scheme::Https);
        assert_eq!(Scheme::of_origin("http://127.0.0.1:8081"), Scheme::Http);
        assert!(cleared().iter().all(|value| value.to_str().unwrap().ends_with("Max-Age=0")));
    }

    #[test]
    fn what_is_presented_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=b; openclawmu-console=one; openclawmu-console2=x"));
        headers.append(COOKIE, HeaderValue::from_static("__Host-openclawmu-console=two;openclawmu-console="));
        assert_eq!(presented(&headers).collect::<Vec<_>>(), ["one", "two"]);
    }
}
