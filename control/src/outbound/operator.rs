//! URLs that the operator names. Their text may hold a credential, so no error repeats it.

use std::fmt;

use reqwest::Url;

/// A URL with a host, by `http` or `https`. Its `Debug` shows the host alone.
#[derive(Clone)]
pub struct OutboundUrl(Url);

impl fmt::Debug for OutboundUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutboundUrl").field(&self.0.host_str()).finish()
    }
}

impl OutboundUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// The sentence to show when it is none, or none of that kind.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|err| format!("is not a URL: {err}"))?;
        let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
        if fits && url.username().is_empty() && url.password().is_none() {
            Ok(Self(url))
        } else {
            Err("must be http://HOST… or https://HOST…, without a user".to_owned())
        }
    }

    /// The host and the port that it is called at.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        (self.0.host_str().unwrap_or_default(), self.0.port_or_known_default().unwrap_or_default())
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// The URL of `path` beneath this one.
    pub(super) fn beneath(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_url_is_refused_and_not_repeated() {
        for text in ["", "hooks.example.com/secret", "ftp://h/secret", "http://user:secret@h/", "http://"] {
            let refused = OutboundUrl::parse(text);
            assert!(refused.as_ref().is_err_and(|err| !err.contains("secret")), "{text}: {refused:?}");
        }
        let url = OutboundUrl::parse("https://h:8443/a/?key=secret").unwrap();
        assert!(!format!("{url:?}").contains("secret"));
        assert_eq!(OutboundUrl::parse("http://h/").unwrap().beneath(&["v1", "x"]).as_str(), "http://h/v1/x");
        assert_eq!(OutboundUrl::parse("http://h/base").unwrap().beneath(&["v1"]).as_str(), "http://h/base/v1");
    }
}
