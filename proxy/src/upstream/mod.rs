//! Where requests go.
//!
//! - `http`: a provider or an internal server, over pooled connections
//! - `answer`: what comes back
//! - `http1`: the same over HTTP/1.1 in the clear, without a copy
//! - `provider`: what each provider wants around a body
//! - `socket`: a WebSocket at a provider
//! - `plain`: idle connections in the clear
//! - `peer`: its addresses, looked up now and then
//! - `health`: what recent answers say of an upstream
//! - `echo`: built in, answers with what it was asked

mod answer;
pub(crate) mod echo;
pub(crate) mod health;
pub(crate) mod http;
mod http1;
mod peer;
mod plain;
pub(crate) mod provider;
pub(crate) mod socket;

use std::sync::Arc;

use openclawmu_store::Store;
use tokio::sync::OnceCell;

use crate::config::UpstreamConfig;
pub(crate) use answer::{Answer, NotWhole};
use health::Health;
use http::{HttpUpstream, Pools};
use provider::{Api, Provider};

/// Idle connections kept for all upstreams together, of each kind.
const POOL_SIZE: usize = 1024;

/// One upstream.
pub(crate) struct Upstream {
    /// Its name, in reports and in `<upstream>/<model>`.
    pub(crate) name: Arc<str>,
    /// The names and patterns that it serves without a prefix.
    pub(crate) models: Vec<String>,
    /// How it is reached.
    pub(crate) backend: Backend,
    /// Whether its provider may serve a request that names no service tier at a dearer one, as `OpenAI`'s projects can be
    /// set to. Google's can't, and its servers refuse fields that they don't know.
    pub(crate) may_choose_tier: bool,
    /// Whether tenants' files and batches are kept there.
    pub(crate) files: bool,
    /// What recent answers say of it.
    pub(crate) health: Health,
    /// Whether it is told which trace a request belongs to.
    pub(crate) traceparent: bool,
    address: Option<(String, u16)>,
    key: OnceCell<u32>,
}

/// How an upstream is reached.
pub(crate) enum Backend {
    /// Over HTTP.
    Http(Provider, Box<HttpUpstream>),
    /// Not at all: it is built in.
    Echo,
}

impl Upstream {
    /// What its provider wants. What is built in speaks like `OpenAI`.
    pub(crate) fn provider(&self) -> &Provider {
        match &self.backend {
            Backend::Http(provider, _) => provider,
            Backend::Echo => &Provider::Openai { responses: false },
        }
    }

    /// Whether it can be asked by an API. What is built in knows those of text alone.
    pub(crate) fn has(&self, api: Api) -> bool {
        match &self.backend {
            Backend::Http(provider, _) => provider.has(api),
            Backend::Echo => matches!(api, Api::Chat | Api::Completions | Api::Embeddings),
        }
    }

    /// Its host and port; `None` for what is built in.
    pub(crate) fn address(&self) -> Option<(&str, u16)> {
        self.address.as_ref().map(|(host, port)| (host.as_str(), *port))
    }

    /// Its key in the store.
    pub(crate) async fn key(&self, store: &Store) -> openclawmu_store::Result<u32> {
        self.key.get_or_try_init(|| store.name_key(&self.name)).await.copied()
    }
}

fn address(url: &::http::Uri) -> Option<(String, u16)> {
    let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
    Some((url.host()?.to_owned(), url.port_u16().unwrap_or(usual)))
}

fn is_google(host: &str) -> bool {
    host == "googleapis.com" || host.ends_with(".googleapis.com")
}

/// All configured upstreams, over one pool.
pub(crate) fn all(configs: &[UpstreamConfig]) -> Result<Vec<Arc<Upstream>>, String> {
    let pools = Pools::new(POOL_SIZE);
    configs
        .iter()
        .map(|config| {
            let backend = match Provider::of(&config.kind) {
                Some(provider) => {
                    let http = Box::new(HttpUpstream::new(config, &provider, pools.clone())?);
                    Backend::Http(provider, http)
                }
                None => Backend::Echo,
            };
            Ok(Arc::new(Upstream {
                name: config.name.as_str().into(),
                models: config.models.clone(),
                backend,
                may_choose_tier: !config.base_url.as_ref().and_then(|url| url.host()).is_some_and(is_google),
                files: config.files,
                health: Health::default(),
                traceparent: config.traceparent,
                address: config.base_url.as_ref().and_then(address),
                key: OnceCell::new(),
            }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::is_google;

    #[test]
    fn googles_servers_are_told_by_their_whole_domain() {
        assert!(is_google("generativelanguage.googleapis.com") && is_google("googleapis.com"));
        assert!(!is_google("api.openai.com") && !is_google("evilgoogleapis.com") && !is_google("googleapis.com.evil"));
    }
}
