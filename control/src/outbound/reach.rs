//! Which URLs a tenant may name. The text decides first; what a name resolves to is `resolve`'s to judge, at each call.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;
use url::Host;

use crate::outbound::{HostList, is_public};

/// Names that mean this machine or its own network everywhere (RFC 6761, 6762, 8375, 9476 and ICANN's `internal`).
const LOCAL_ENDS: [&str; 7] = ["localhost", "local", "internal", "localdomain", "home.arpa", "onion", "alt"];

/// What tenants may call.
#[derive(Clone, Debug, Default)]
pub struct TenantReach {
    /// Where there is a list, nothing else.
    allowed: Option<HostList>,
    /// What the operator opens although it is not on the public internet.
    internal: HostList,
}

/// A URL that a tenant named and may call. Its `Debug` shows the host alone.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantUrl {
    url: Url,
    internal: bool,
}

impl fmt::Debug for TenantUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantUrl").field(&self.url.host_str()).finish()
    }
}

impl TenantUrl {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the operator opened its host, whose addresses are then not judged.
    pub(super) fn is_internal(&self) -> bool {
        self.internal
    }
}

impl TenantReach {
    /// The public internet within `allowed`, where that is a list, and what the operator opens with `internal`.
    #[must_use]
    pub fn new(allowed: Option<HostList>, internal: HostList) -> Self {
        Self { allowed, internal }
    }

    /// Reads a URL that a tenant names.
    ///
    /// # Errors
    /// The sentence to show: what it must be instead. It never repeats the URL.
    pub fn parse(&self, text: &str) -> Result<TenantUrl, String> {
        let url = Url::parse(text).map_err(|err| format!("is not a URL: {err}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must be a URL without a user; send credentials in a header".to_owned());
        }
        let (Some(host), Some(name), Some(port)) = (url.host(), url.host_str(), url.port_or_known_default()) else {
            return Err("must be https://HOST…".to_owned());
        };
        let internal = self.internal.contains(name, port);
        match url.scheme() {
            "https" => {}
            "http" if internal => {}
            _ => return Err("must be https://HOST…".to_owned()),
        }
        if self.allowed.as_ref().is_some_and(|list| !list.contains(name, port)) {
            return Err("names a host that outbound.allowed_hosts does not list".to_owned());
        }
        if !internal && !is_public_host(&host) {
            return Err("must name a host on the public internet; the operator can open others".to_owned());
        }
        Ok(TenantUrl { internal, url })
    }
}

/// Whether a host may be public: an address that is, or a name that does not say that it isn't.
fn is_public_host(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(address) => is_public(IpAddr::V4(*address)),
        Host::Ipv6(address) => is_public(IpAddr::V6(*address)),
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let ends = |end: &str| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            name.contains('.') && !name.ends_with('.') && !LOCAL_ENDS.into_iter().any(ends)
        }
    }
}
