//! What the handlers work with. Cheap to clone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openclawmu_store::Store;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::admin::attempts::Attempts;
use crate::admin::connection::Limits;
use crate::admin::console::Sessions;
use crate::admin::stream::PATIENCE;
use crate::audit::{AuditOptions, Denials};
use crate::backup::{BackupConfig, Backups};
use crate::key::{AdminKeys, MasterKey};
use crate::reload::Reread;
use crate::run::Runner;
use crate::stripe::StripePush;
use crate::terminal::Terminals;

/// Reports that may be summed at once: each reads much of the ledger.
const REPORTS: usize = 2;

/// What the admin API asks of the process that it runs in.
#[derive(Clone)]
pub struct Hooks {
    /// The metrics in Prometheus' text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether the gateway can serve; else why not, in words for the operator.
    pub readiness: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// The names of the configured upstreams.
    pub upstreams: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Whether the upstream of this name takes a tenant's own key.
    pub takes_own_key: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// The configuration in use, without its secrets.
    pub config: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Reads the configuration again.
    pub reread: Reread,
    /// Runs what the operator asks for in a tenant's sandbox.
    pub runner: Runner,
    /// Terminals in tenants' sandboxes.
    pub terminals: Terminals,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// The admin API's state.
#[derive(Clone, Debug)]
pub struct AdminState {
    pub(super) store: Store,
    pub(super) keys: Arc<AdminKeys>,
    pub(super) master: Arc<MasterKey>,
    pub(super) hooks: Hooks,
    pub(super) attempts: Arc<Attempts>,
    /// Who has logged in to the console.
    pub(super) sessions: Arc<Sessions>,
    pub(super) reports: Arc<Semaphore>,
    /// How long a client may leave a part of a report waiting.
    pub(super) patience: Duration,
    /// What a client may take.
    pub(super) limits: Limits,
    /// Whether somebody delivers webhooks.
    pub(super) has_webhook: bool,
    /// The way to Stripe, where there is one.
    pub(super) stripe: Option<Arc<StripePush>>,
    /// Refused calls, on their way to the audit log.
    pub(super) denials: Arc<Denials>,
    /// What the audit log is made of, where there is one.
    pub(super) audit: Option<Arc<AuditOptions>>,
    /// Makes backups and puts tenants back.
    pub(super) backups: Arc<Backups>,
    /// Where people reach the edge, for links that lead there.
    pub(super) public_url: Arc<str>,
}

impl AdminState {
    /// The state of a gateway that has its store and its keys.
    #[must_use]
    pub fn new(store: Store, keys: AdminKeys, master: Arc<MasterKey>, hooks: Hooks) -> Self {
        let backups = Arc::new(Backups::new(store.clone(), Arc::clone(&master), BackupConfig::default()));
        Self {
            store,
            keys: Arc::new(keys),
            master,
            hooks,
            attempts: Arc::new(Attempts::default()),
            sessions: Arc::new(Sessions::default()),
            reports: Arc::new(Semaphore::new(REPORTS)),
            patience: PATIENCE,
            limits: Limits::default(),
            has_webhook: false,
            stripe: None,
            denials: Arc::new(Denials::default()),
            audit: None,
            backups,
            public_url: Arc::from("http://127.0.0.1:8080"),
        }
    }

    /// The same with an edge that people reach elsewhere: a URL without a path.
    #[must_use]
    pub fn with_public_url(self, url: &str) -> Self {
        Self { public_url: Arc::from(url), ..self }
    }

    /// The same with an audit log that can be verified.
    #[must_use]
    pub fn with_audit(self, audit: AuditOptions) -> Self {
        Self { audit: Some(Arc::new(audit)), ..self }
    }

    /// Calls that were refused and are to be told in the audit log.
    #[must_use]
    pub fn denials(&self) -> Arc<Denials> {
        Arc::clone(&self.denials)
    }

    /// The same with a webhook that is delivered to.
    #[must_use]
    pub fn with_webhook(self) -> Self {
        Self { has_webhook: true, ..self }
    }

    /// The same with backups as they are configured.
    #[must_use]
    pub fn with_backups(self, backups: Arc<Backups>) -> Self {
        Self { backups, ..self }
    }

    /// The same with a way to Stripe.
    #[must_use]
    pub fn with_stripe(self, stripe: Arc<StripePush>) -> Self {
        Self { stripe: Some(stripe), ..self }
    }
}
