//! `[outbound]`: which hosts this process may call. Without a list it calls those that the configuration and the environment name.

use openclawmu_control::outbound::HostList;
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
pub(super) struct Allowed(Option<HostList>);

impl Allowed {
    /// Reads the list.
    ///
    /// # Errors
    /// The first entry that is no host.
    pub(super) fn of(raw: &RawOutbound) -> Result<Self, ConfigError> {
        let list = raw.allowed_hosts.as_deref().map(HostList::parse).transpose();
        list.map(Self).map_err(|message| value("outbound.allowed_hosts", message))
    }

    /// The list itself, for what tenants name.
    pub(super) fn list(&self) -> Option<HostList> {
        self.0.clone()
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
        if self.0.as_ref().is_none_or(|list| list.contains(host, port)) {
            return Ok(());
        }
        let host = host.to_ascii_lowercase();
        Err(value(key, format!("calls {host}:{port}, which outbound.allowed_hosts does not list")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(hosts: &[&str]) -> Result<Allowed, ConfigError> {
        let list = hosts.iter().map(|&host| host.to_owned()).collect();
        Allowed::of(&RawOutbound { allowed_hosts: Some(list) })
    }

    #[test]
    fn only_what_is_listed_may_be_called() {
        let list = allowed(&["llm.internal"]).unwrap();
        assert!(list.is_list() && list.check("key", ("LLM.internal.", 80)).is_ok());
        let refused = list.check("upstream.x.base_url", ("api.openai.com", 443)).unwrap_err().to_string();
        assert!(refused.contains("upstream.x.base_url") && refused.contains("api.openai.com:443"), "{refused}");
        assert!(allowed(&[]).unwrap().check("key", ("llm.internal", 80)).is_err(), "an empty list lists nothing");
        assert!(Allowed::of(&RawOutbound::default()).unwrap().check("key", ("anything", 1)).is_ok());
        assert!(allowed(&["https://llm.internal"]).is_err());
    }
}
