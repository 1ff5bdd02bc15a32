//! `[channels]`: messengers, by which people reach tenants' agents.

use openclawmu_control::channel::ChannelConfig;
use openclawmu_control::outbound::{HostList, OutboundUrl, TenantReach};
use serde::{Deserialize, Serialize};

use super::load::{ConfigError, value};
use super::outbound::Allowed;
use super::raw::RawEdge;
use crate::serve::reachable;

/// `[channels]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawChannels {
    /// Where providers and people reach the edge; absent: where it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Slack's Web API.
    pub slack_url: String,
    /// Meta's Graph API, with its version.
    pub whatsapp_url: String,
    /// Telegram's Bot API.
    pub telegram_url: String,
    /// Hosts, each with or without a port, that tenants' webhooks may go to although they are not on the public internet.
    pub internal_hosts: Vec<String>,
}

impl Default for RawChannels {
    fn default() -> Self {
        Self {
            public_url: None,
            slack_url: "https://slack.com/api".to_owned(),
            whatsapp_url: "https://graph.facebook.com/v23.0".to_owned(),
            telegram_url: "https://api.telegram.org".to_owned(),
            internal_hosts: Vec::new(),
        }
    }
}

/// Proves every value usable.
///
/// # Errors
/// The key of the first that is not.
pub(super) fn check(raw: RawChannels, allowed: &Allowed, edge: &RawEdge) -> Result<ChannelConfig, ConfigError> {
    let default = RawChannels::default();
    let provider = |key: &str, url: &str, default: &str| {
        let parsed = OutboundUrl::parse(url).map_err(|message| value(key, message))?;
        match allowed.check(key, parsed.address()) {
            Ok(()) => Ok(Some(parsed)),
            // Nobody asked for it.
            Err(_) if url == default => Ok(None),
            Err(err) => Err(err),
        }
    };
    let internal = HostList::parse(&raw.internal_hosts).map_err(|message| value("channels.internal_hosts", message))?;
    let scheme = if edge.tls.is_some() { "https" } else { "http" };
    Ok(ChannelConfig {
        public_url: match raw.public_url {
            Some(url) => public_url(&url)?,
            None => format!("{scheme}://{}", reachable(edge.listen)),
        },
        slack_url: provider("channels.slack_url", &raw.slack_url, &default.slack_url)?,
        whatsapp_url: provider("channels.whatsapp_url", &raw.whatsapp_url, &default.whatsapp_url)?,
        telegram_url: provider("channels.telegram_url", &raw.telegram_url, &default.telegram_url)?,
        reach: TenantReach::new(allowed.list(), internal),
    })
}

fn public_url(url: &str) -> Result<String, ConfigError> {
    let url = url.trim_end_matches('/');
    let authority = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    let is_plain = authority.parse::<http::uri::Authority>().is_ok_and(|at| !at.as_str().contains('@'));
    if is_plain {
        return Ok(url.to_owned());
    }
    Err(value("channels.public_url", "must be such as https://gateway.example.com, without a path"))
}

#[cfg(test)]
mod tests {
    use super::super::outbound::RawOutbound;
    use super::*;

    fn allowed(hosts: Option<&[&str]>) -> Allowed {
        let allowed_hosts = hosts.map(|hosts| hosts.iter().map(|&host| host.to_owned()).collect());
        Allowed::of(&RawOutbound { allowed_hosts }).unwrap()
    }

    fn checked(raw: RawChannels, hosts: Option<&[&str]>) -> Result<ChannelConfig, ConfigError> {
        check(raw, &allowed(hosts), &RawEdge::default())
    }

    #[test]
    fn a_link_leads_to_the_public_url_or_to_where_the_edge_listens() {
        assert_eq!(checked(RawChannels::default(), None).unwrap().public_url, "http://127.0.0.1:8080");
        let at = |url: &str| checked(RawChannels { public_url: Some(url.to_owned()), ..RawChannels::default() }, None);
        assert_eq!(at("https://gw.example.com/").unwrap().public_url, "https://gw.example.com");
        for wrong in ["gw.example.com", "ftp://gw", "https://", "https://gw/path", "https://me@gw", "https://gw?x"] {
            assert!(at(wrong).unwrap_err().to_string().contains("channels.public_url"), "{wrong}");
        }
    }

    #[test]
    fn a_provider_that_may_not_be_called_is_none_and_one_that_was_named_refuses_to_start() {
        let none = checked(RawChannels::default(), Some(&["slack.com"])).unwrap();
        assert!(none.slack_url.is_some() && none.whatsapp_url.is_none() && none.telegram_url.is_none());
        let named = RawChannels { telegram_url: "http://bots.internal".to_owned(), ..RawChannels::default() };
        assert!(checked(named.clone(), Some(&[])).unwrap_err().to_string().contains("channels.telegram_url"));
        assert!(checked(named, Some(&["bots.internal"])).unwrap().telegram_url.is_some());
        let bad = RawChannels { internal_hosts: vec!["http://x".to_owned()], ..RawChannels::default() };
        assert!(checked(bad, None).unwrap_err().to_string().contains("channels.internal_hosts"));
    }
}
