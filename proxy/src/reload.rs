//! Reading the configuration again. Upstreams and aliases change; listeners, limits and keys need a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use openclawmu_control::audit::Reopen;
use openclawmu_control::reload::{self, Prepared};
use openclawmu_store::Actor;
use serde_json::Value;

use crate::catalog::Catalog;
use crate::config::{self, Overrides, RawConfig};
use crate::context::Shared;
use crate::notify::{self, Note};
use crate::{successor, upstream};

/// Where a configuration comes from, and its raw form.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The file that the command line names; else the usual one is read, where there is one by then.
    pub(crate) file: Option<PathBuf>,
    /// What the command line sets over it.
    pub(crate) overrides: Overrides,
    /// What they said at the start.
    pub(crate) raw: RawConfig,
}

/// What a reload reads, and what is in force.
#[derive(Clone)]
pub(crate) struct Reload {
    file: Option<PathBuf>,
    overrides: Overrides,
    shared: Arc<Shared>,
    /// The audit log's file, which may have been renamed.
    audit: Reopen,
    /// The raw form of what is in force.
    in_force: Arc<Mutex<RawConfig>>,
}

impl Reload {
    pub(crate) fn new(source: Source, shared: Arc<Shared>, audit: Reopen) -> Self {
        let Source { file, overrides, raw } = source;
        Self { file, overrides, shared, audit, in_force: Arc::new(Mutex::new(raw)) }
    }

    /// The configuration in force. Secrets are references in the raw form, so it can be shown as it is.
    pub(crate) fn shown(&self) -> Value {
        serde_json::to_value(&*self.in_force.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default()
    }

    /// Reads and checks everything; changes nothing yet.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn prepare(&self) -> Result<Prepared, String> {
        let file = config::find(self.file.as_deref());
        let raw = config::load(file.as_deref(), &self.overrides).map_err(|err| err.to_string())?;
        let config = config::check(raw.clone()).map_err(|err| err.to_string())?;
        let catalog = Catalog::new(upstream::all(&config.upstreams)?, &config.aliases);
        let read = serde_json::to_value(&raw).map_err(|err| err.to_string())?;
        let (changed, needs_restart) = reload::difference(&self.shown(), &read, &["upstream", "model"], &["outbound"]);
        let reload = self.clone();
        let apply = move || {
            let mut in_force = reload.in_force.lock().unwrap_or_else(PoisonError::into_inner);
            reload.shared.catalog.store(Arc::new(catalog));
            (in_force.upstreams, in_force.models, in_force.outbound) = (raw.upstreams, raw.models, raw.outbound);
        };
        Ok(Prepared { changed, needs_restart, apply: Box::new(apply) })
    }

    /// What SIGUSR2 does: starts a successor with the same configuration; false where there is none, and this process goes on.
    pub(crate) async fn succeeded(&self) -> bool {
        let upgrade = self.shared.store.dir().join("upgrade.sock");
        match successor::start(self.file.as_deref(), &upgrade).await {
            Ok(()) => true,
            Err(err) => {
                tracing::error!(err, "no successor: this process goes on");
                false
            }
        }
    }

    /// What SIGHUP does: opens the access log and the audit log again, then the same as `POST /v1/config/reload`.
    pub(crate) async fn by_signal(&self) {
        notify::tell(Note::Reloading);
        if let Some(observer) = &self.shared.observer {
            observer.reopen();
        }
        self.audit.ask();
        let store = &self.shared.store;
        let done = match self.prepare() {
            Ok(prepared) => reload::reload(store, &Actor::system(), prepared).await.map(|reloaded| {
                tracing::info!(?reloaded, "reloaded: upstreams and aliases are as configured now");
            }),
            Err(err) => {
                tracing::error!(err, "not reloaded: the configuration is wrong, the old one goes on");
                reload::refused(store, &Actor::system()).await
            }
        };
        if let Err(err) = done {
            tracing::error!(%err, "the reload can't be put on record, so nothing was changed");
        }
        notify::tell(Note::Ready);
    }
}
