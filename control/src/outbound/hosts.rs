//! Lists of hosts, as the operator writes them: a name or an address, with or without a port.

/// A list of hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    host: String,
    /// `None`: every port.
    port: Option<u16>,
}

impl HostList {
    /// Reads a list.
    ///
    /// # Errors
    /// The sentence to show about the first entry that is no host.
    pub fn parse<T: AsRef<str>>(list: &[T]) -> Result<Self, String> {
        let entry = |text: &T| {
            let text = text.as_ref();
            Entry::parse(text)
                .ok_or_else(|| format!("`{text}` is no host; write it as \"llm.internal\" or \"llm.internal:8000\""))
        };
        Ok(Self(list.iter().map(entry).collect::<Result<_, _>>()?))
    }

    /// Whether a host is in it at this port.
    #[must_use]
    pub fn contains(&self, host: &str, port: u16) -> bool {
        let host = plain(host);
        self.0.iter().any(|entry| entry.host == host && entry.port.is_none_or(|allowed| allowed == port))
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
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_listed_whole_and_at_its_port() {
        let list = HostList::parse(&["llm.internal", "Hooks.Internal.:8443", "[::1]:8000", "10.0.0.7"]).unwrap();
        for (host, port) in
            [("llm.internal", 80), ("LLM.internal.", 8000), ("hooks.internal", 8443), ("[::1]", 8000), ("10.0.0.7", 1)]
        {
            assert!(list.contains(host, port), "{host}:{port}");
        }
        for (host, port) in [("hooks.internal", 443), ("api.openai.com", 443), ("[::1]", 80), ("a.llm.internal", 80)] {
            assert!(!list.contains(host, port), "{host}:{port}");
        }
        assert!(!HostList::default().contains("llm.internal", 80), "an empty list lists nothing");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", "https://llm.internal", "llm.internal/v1", "a b", "user@llm.internal", "llm.internal:", ":80"]
        {
            assert!(HostList::parse(&[text]).is_err(), "{text}");
        }
    }
}
