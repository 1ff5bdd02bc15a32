//! `[sandbox.network]`: which hosts tenants' code may reach, by the operator's word alone. A run asks for some of them, or for none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use openclawmu_sandbox::egress::{Policy, Rule};
use openclawmu_store::TenantId;
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};

/// `[sandbox.network]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNetwork {
    /// What every tenant's runs may reach: hosts with their ports.
    pub allow: Vec<String>,
    /// Of these, what may have addresses that are not public.
    pub internal: Vec<String>,
    /// Addresses of hosts, instead of what the system's resolver says.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// What one tenant's runs may reach besides.
    pub tenants: BTreeMap<String, Vec<String>>,
}

/// What runs may reach.
#[derive(Clone, Debug, Default)]
pub struct NetworkConfig {
    every: Vec<Rule>,
    internal: Vec<Rule>,
    tenants: BTreeMap<TenantId, Vec<Rule>>,
    /// Addresses of hosts by their names in small letters.
    pub hosts: Arc<BTreeMap<String, Vec<IpAddr>>>,
}

impl NetworkConfig {
    /// What a tenant's runs may reach.
    #[must_use]
    pub fn policy(&self, tenant: &TenantId) -> Policy {
        let own = self.tenants.get(tenant).into_iter().flatten();
        Policy::new(self.every.iter().chain(own).cloned().collect(), self.internal.clone())
    }
}

/// Proves every value usable.
pub(super) fn check(raw: RawNetwork) -> Result<NetworkConfig, ConfigError> {
    let rules = |key: &str, list: &[String]| -> Result<Vec<Rule>, ConfigError> {
        list.iter().map(|text| Rule::parse(text).map_err(|err| value(key, err))).collect()
    };
    let mut tenants = BTreeMap::new();
    for (id, list) in &raw.tenants {
        let key = format!("sandbox.network.tenants.{id}");
        let tenant = id.parse::<TenantId>().map_err(|_| value(&key, "is not named by a tenant's id"))?;
        tenants.insert(tenant, rules(&key, list)?);
    }
    let mut hosts = BTreeMap::new();
    for (name, addresses) in raw.hosts {
        let key = format!("sandbox.network.hosts.{name}");
        // What is no host's name is none that a run could ask for.
        Rule::parse(&format!("{name}:443")).map_err(|err| value(&key, err))?;
        if addresses.is_empty() {
            return Err(value(key, "must have an address"));
        }
        hosts.insert(name.trim_end_matches('.').to_ascii_lowercase(), addresses);
    }
    Ok(NetworkConfig {
        every: rules("sandbox.network.allow", &raw.allow)?,
        internal: rules("sandbox.network.internal", &raw.internal)?,
        tenants,
        hosts: Arc::new(hosts),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_may_reach_what_all_may_and_what_is_its_own() {
        let raw = RawNetwork {
            allow: vec!["pypi.org:443".to_owned()],
            tenants: BTreeMap::from([("acme".to_owned(), vec!["*.acme.test:8443".to_owned()])]),
            ..RawNetwork::default()
        };
        let config = check(raw).unwrap();
        let may = |tenant: &str, rule: &str| {
            config.policy(&tenant.parse().unwrap()).narrow(vec![Rule::parse(rule).unwrap()]).is_ok()
        };
        assert!(may("acme", "pypi.org:443") && may("acme", "a.acme.test:8443") && may("other", "pypi.org:443"));
        assert!(!may("other", "a.acme.test:8443") && !may("acme", "npmjs.org:443"));
    }

    #[test]
    fn what_is_no_host_is_told_by_its_key() {
        let one = |text: &str| vec![text.to_owned()];
        for (raw, key) in [
            (RawNetwork { allow: one("10.0.0.1:443"), ..RawNetwork::default() }, "sandbox.network.allow"),
            (RawNetwork { internal: one("*"), ..RawNetwork::default() }, "sandbox.network.internal"),
            (
                RawNetwork { tenants: BTreeMap::from([("A".to_owned(), Vec::new())]), ..RawNetwork::default() },
                "sandbox.network.tenants.A",
            ),
            (
                RawNetwork { hosts: BTreeMap::from([("a.test".to_owned(), Vec::new())]), ..RawNetwork::default() },
                "sandbox.network.hosts.a.test",
            ),
        ] {
            assert!(check(raw).unwrap_err().to_string().contains(key), "{key}");
        }
    }
}
