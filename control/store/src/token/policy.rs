//! What a token may do: parsed once for each version of its row and its tenant's, then shared.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::client_secret::{SecretCap, SecretTerms};
use crate::clock::UnixMs;
use crate::error::{Result, StoreError};
use crate::id::{TenantId, TenantKey, TokenId, TokenKey};
use crate::label::Label;
use crate::model;
use crate::money::Markup;
use crate::overlay::Overlay;
use crate::provider_key::SealedKey;
use crate::quota::Quota;
use crate::token::Scope;
use crate::window::Zone;

/// What an authenticated caller is and may do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its tenant.
    pub tenant: TenantId,
    /// Its tenant's key in the store.
    pub tenant_key: TenantKey,
    /// Counts the changes of the tenant: another number may mean another quota or zone.
    pub tenant_version: i64,
    /// The token, for logs.
    pub token: TokenId,
    /// The token's key in the store.
    pub token_key: TokenKey,
    /// The tenant's limits.
    pub quota: Quota,
    /// Where the tenant's days and months begin.
    pub zone: Zone,
    /// What the operator adds to the tenant's costs.
    pub markup: Markup,
    /// The operator's names for models for this tenant alone.
    pub aliases: BTreeMap<String, String>,
    /// What the tenant prefers.
    pub overlay: Overlay,
    /// The tenant's own keys at providers, sealed.
    pub provider_keys: Vec<SealedKey>,
    /// What the token is for.
    pub scopes: Vec<Scope>,
    /// When the token ends.
    pub expires_at: Option<UnixMs>,
    pub(crate) tenant_models: Option<Vec<String>>,
    pub(crate) token_models: Option<Vec<String>>,
    pub(crate) allowed_ips: Option<Vec<IpNet>>,
    /// Set where a client secret was presented: its terms, beside what its maker may do.
    pub secret: Option<Arc<SecretTerms>>,
}

impl Policy {
    /// Whether the token has `scope`.
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// The name that `name` is the tenant's own one for; `name` itself where it is none. What it leads to is allowed only where
    /// that name is: an overlay widens nothing.
    #[must_use]
    pub fn named<'a>(&'a self, name: &'a str) -> &'a str {
        let own = self.overlay.aliases.get(name).filter(|_| !self.aliases.contains_key(name));
        own.map_or(name, String::as_str)
    }

    /// Whether both the tenant's list and the token's let `model` pass, and a client secret's.
    #[must_use]
    pub fn allows_model(&self, model: &str) -> bool {
        let lists = [&self.tenant_models, &self.token_models];
        lists.iter().all(|list| model::allows(list.as_deref(), model))
            && self.secret.as_ref().is_none_or(|secret| secret.allows_model(model))
    }

    /// Whether nobody presented anything: the tenant itself asks, and [`Policy::token`] names nothing.
    #[must_use]
    pub fn is_tenant_itself(&self) -> bool {
        self.token_key == TokenKey::NONE && self.secret.is_none()
    }

    /// What a client secret may use at most; `None` for a token, and a secret without caps.
    #[must_use]
    pub fn cap(&self) -> Option<SecretCap> {
        self.secret.as_ref().and_then(|secret| secret.cap)
    }

    /// A request's label: whom a client secret is for stands over what its bearer says.
    #[must_use]
    pub fn labelled<'a>(&self, label: &'a Label) -> Cow<'a, Label> {
        let Some(user) = self.secret.as_ref().and_then(|secret| secret.user.as_deref()) else {
            return Cow::Borrowed(label);
        };
        let mut label = label.clone();
        label.set_user(user);
        Cow::Owned(label)
    }

    /// Whether the token may be used from `ip`. An IPv4 address inside IPv6 counts as itself.
    #[must_use]
    pub fn allows_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.allowed_ips.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(&ip)))
    }
}

/// Reads a list of addresses and CIDR networks.
pub(super) fn parse_ips(list: Option<&[String]>) -> Result<Option<Vec<IpNet>>> {
    list.map(|list| list.iter().map(|text| parse_ip(text)).collect()).transpose()
}

fn parse_ip(text: &str) -> Result<IpNet> {
    let single = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
    let net = text.parse::<IpNet>().ok().or_else(single);
    net.ok_or_else(|| {
        StoreError::invalid(
            "allowed_ips",
            format!("`{text}` is neither an IP address nor a network such as 10.0.0.0/8"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &[&str], ip: &str) -> bool {
        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
        let nets = parse_ips(Some(&list)).unwrap().unwrap();
        let ip = ip.parse::<IpAddr>().unwrap().to_canonical();
        nets.iter().any(|net| net.contains(&ip))
    }

    #[test]
    fn networks_match_exactly() {
        assert!(allows(&["10.1.2.0/23"], "10.1.3.255"));
        assert!(!allows(&["10.1.2.0/23"], "10.1.4.0"));
        assert!(allows(&["192.0.2.7"], "192.0.2.7") && !allows(&["192.0.2.7"], "192.0.2.8"));
        assert!(allows(&["192.0.2.7"], "::ffff:192.0.2.7"));
        assert!(allows(&["2001:db8::/32"], "2001:db8:ffff::1") && !allows(&["2001:db8::/32"], "2001:db9::1"));
        assert!(allows(&["0.0.0.0/0"], "203.0.113.9") && !allows(&["0.0.0.0/0"], "2001:db8::1"));
        assert!(!allows(&[], "127.0.0.1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in ["", "10.0.0.0/33", "10.0.0", "example.org", "10.0.0.0/8 ", "::/129", "1.2.3.4:80"] {
            assert!(parse_ips(Some(&[bad.to_owned()])).is_err(), "{bad}");
        }
    }
}
