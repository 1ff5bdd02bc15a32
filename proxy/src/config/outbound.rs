//! `[outbound]`: which hosts this process may call. Without a list it calls those that the configuration and the environment name.

use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};

/// `[outbound]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOutbound {
    /// Hosts, each with or without a port; absent: no list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_hosts: Option<Vec<String>>,
}

/// The hosts that may be called.
#[derive(Clone, Debug)]
pub(super) struct Allowed(Option<Vec<Entry>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: String,
    /// `None`: every port.
    port: Option<u16>,
}

impl Allowed {
    /// Reads the list.
    ///
    /// # Errors
    /// The first entry that is no host.
    pub(super) fn of(raw: RawOutbound) -> Result<Self, ConfigError> {
        let entry = |text: String| {
            let entry = Entry::parse(&text);
            entry.ok_or_else(|| {
                let message = format!("`{text}` is no host; write it as \"llm.internal\" or \"llm.internal:8000\"");
                value("outbound.allowed_hosts", message)
            })
        };
        Ok(Self(raw.allowed_hosts.map(|list| list.into_iter().map(entry).collect()).transpose()?))
    }

    /// Whether there is a list. Then nothing is called that only the environment names.
    pub(super) fn is_list(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a host that is not in the list. `key` says where it is named.
    ///
    /// # Errors
    /// What to add to the list.
    pub(super) fn check(&self, key: &str, (host, port): (&str, u16)) -> Result<(), ConfigError> {
        let Some(list) = &self.0 else { return Ok(()) };
        let host = plain(host);
        if list.iter().any(|entry| entry.host == host && entry.port.is_none_or(|allowed| allowed == port)) {
            return Ok(());
        }
        let message = format!("calls {host}:{port}, which outbound.allowed_hosts does not list");
        Err(value(key, message))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let authority: http::uri::Authority = text.parse().ok()?;
        if authority.as_str().contains('@') || authority.host().is_empty() || text.ends_with(':') {
            return None;
        }
        Some(Self { host: plain(authority.host()), port: authority.port_u16() })
    }
}

/// A host as it is compared: names in small letters without the dot of the root.
fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str]) -> Result<Allowed, ConfigError> {
        let list = hosts.iter().map(|&host| host.to_owned()).collect();
        Allowed::of(RawOutbound { allowed_hosts: Some(list) })
    }

    #[test]
    fn only_what_is_listed_may_be_called() {
        let list = allowed(&["llm.internal", "Hooks.Internal.:8443", "[::1]:8000", "10.0.0.7"]).unwrap();
        for (host, port) in
            [("llm.internal", 80), ("LLM.internal.", 8000), ("hooks.internal", 8443), ("[::1]", 8000), ("10.0.0.7", 1)]
        {
            assert!(list.check("key", (host, port)).is_ok(), "{host}:{port}");
        }
        for (host, port) in [("hooks.internal", 443), ("api.openai.com", 443), ("[::1]", 80), ("a.llm.internal", 80)] {
            let refused = list.check("upstream.x.base_url", (host, port)).unwrap_err().to_string();
            assert!(
                refused.contains("upstream.x.base_url") && refused.contains(host.trim_end_matches('.')),
                "{refused}"
            );
        }
        assert!(allowed(&[]).unwrap().check("key", ("llm.internal", 80)).is_err(), "an empty list lists nothing");
        assert!(Allowed::of(RawOutbound::default()).unwrap().check("key", ("anything", 1)).is_ok());
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "https://llm.internal", "llm.internal/v1", "a b", "user@llm.internal", "llm.internal:", ":80"]
        {
            assert!(allowed(&[text]).is_err(), "{text}");
        }
    }
}
