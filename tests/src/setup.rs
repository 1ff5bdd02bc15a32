//! What a gateway under test is started with: its config file, rate card, environment and arguments. Builds text, starts nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::clock::FakeClock;
use crate::money;
use crate::upstream::Upstream;

/// The provider key of every scripted upstream: distinctive, so that a leak can be searched for.
pub const PROVIDER_KEY: &str = "sk-provider-canary-5c1e7d0b9a4f4f0e8d7c6b5a";

/// The environment variable that carries it.
pub const PROVIDER_KEY_ENV: &str = "OPENCLAWMU_TEST_PROVIDER_KEY";

/// A gateway's set-up. The default: one scripted upstream for every model of the test's rate card.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Lines of the config after the generated part.
    pub extra: Vec<String>,
    /// Keys of the `[edge]` table beside `threads`.
    pub edge: Vec<String>,
    /// Keys of the `[admin]` table.
    pub admin: Vec<String>,
    /// Environment variables of the process.
    pub env: Vec<(String, String)>,
    /// The first rate card; `None` leaves the shipped one.
    pub rates: Option<Value>,
    /// A clock that the test turns.
    pub clock: Option<FakeClock>,
    /// The size of a file system for the data directory alone, such as `4m`.
    pub disk: Option<String>,
    /// The edge speaks TLS.
    pub tls: bool,
}

impl Setup {
    /// No upstream but the built-in ones.
    #[must_use]
    pub fn bare() -> Self {
        Self {
            extra: Vec::new(),
            edge: Vec::new(),
            admin: Vec::new(),
            env: vec![(PROVIDER_KEY_ENV.into(), PROVIDER_KEY.into())],
            rates: Some(money::card()),
            clock: None,
            disk: None,
            tls: false,
        }
    }

    /// The scripted upstream for every model of the card, with patient timeouts.
    #[must_use]
    pub fn with(upstream: &Upstream) -> Self {
        Self::bare().upstream("scripted", upstream.address(), &money::models(), &[])
    }

    /// The same with these keys in the upstream's table, such as `idle_timeout_ms = 300`.
    #[must_use]
    pub fn with_keys(upstream: &Upstream, keys: &[&str]) -> Self {
        Self::bare().upstream("scripted", upstream.address(), &money::models(), keys)
    }

    /// Adds an upstream of kind `openai`.
    #[must_use]
    pub fn upstream(mut self, name: &str, address: SocketAddr, models: &[&str], keys: &[&str]) -> Self {
        self.extra.push(format!(
            "[[upstream]]\nname = {name:?}\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\napi_key = \"env:{PROVIDER_KEY_ENV}\"\nmodels = {models:?}\n{}\n",
            keys.join("\n")
        ));
        self
    }

    /// Adds lines to the config.
    #[must_use]
    pub fn line(mut self, text: &str) -> Self {
        self.extra.push(text.to_owned());
        self
    }

    /// Adds a key to the `[edge]` table.
    #[must_use]
    pub fn edge_key(mut self, text: &str) -> Self {
        self.edge.push(text.to_owned());
        self
    }

    /// Lets the edge speak TLS with this certificate and key.
    #[must_use]
    pub fn edge_tls(mut self, cert: &Path, key: &Path) -> Self {
        self.tls = true;
        self.edge_key(&format!("tls = {{ cert = {cert:?}, key = {key:?} }}"))
    }

    /// Runs the process under this clock.
    #[must_use]
    pub fn clock(mut self, clock: &FakeClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Gives the data directory a file system of its own, of this size.
    #[must_use]
    pub fn disk(mut self, size: &str) -> Self {
        self.disk = Some(size.to_owned());
        self
    }

    /// Runs the process with these environment variables, too.
    #[must_use]
    pub fn env(mut self, env: Vec<(String, String)>) -> Self {
        self.env.extend(env);
        self
    }

    /// Writes config and rates into `dir`; the config's path.
    #[must_use]
    pub fn write(&self, dir: &Path) -> PathBuf {
        let mut text =
            format!("[edge]\nthreads = 1\n{}\n\n[admin]\n{}\n\n", self.edge.join("\n"), self.admin.join("\n"));
        if let Some(rates) = &self.rates {
            let file = dir.join("rates.json");
            std::fs::write(&file, rates.to_string()).expect("a writable temp dir");
            text.push_str(&format!("[rates]\nfile = {file:?}\n\n"));
        }
        text.push_str(&self.extra.join("\n"));
        let path = dir.join("openclawmu.toml");
        std::fs::write(&path, text).expect("a writable temp dir");
        path
    }
}
