//! Backups of the running gateway: on demand, on schedule, and what happened since the last one, every few seconds.
//!
//! A place that does not answer is tried again, counted and told; nothing else of the gateway waits for it. One backup or
//! restore is made at a time.
//!
//! - `count`: what is counted; `schedule`: what runs by itself

mod count;
mod schedule;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openclawmu_backup::{
    BackupError, BucketOptions, Listed, Made, Maker, Origin, Passphrase, Place, Prepare, Prepared, Progress, Retention,
    Scope, Shown, Source, Verified,
};
use openclawmu_store::{Actor, SealedKey, Store, TenantId};
use serde_json::json;

use crate::backup::count::Counts;
use crate::key::MasterKey;

/// Where backups go, and when.
#[derive(Clone, Debug)]
pub struct BackupConfig {
    /// Where they go by themselves, and where they go when nobody says; `None`: only where a call says.
    pub to: Option<Place>,
    /// How buckets are reached.
    pub bucket: BucketOptions,
    /// What is sealed with it.
    pub passphrase: Option<Passphrase>,
    /// How often the whole gateway is backed up; `None`: only when asked.
    pub every: Option<Duration>,
    /// The folder of the audit log; `None`: the one in the data directory.
    pub audit: Option<PathBuf>,
    /// What is kept.
    pub retention: Retention,
    /// How often what happened since is shipped; `None`: never.
    pub segments_every: Option<Duration>,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self {
            to: None,
            bucket: BucketOptions::default(),
            passphrase: None,
            every: None,
            audit: None,
            retention: Retention { keep: 7, orphans_after_ms: 86_400_000 },
            segments_every: None,
        }
    }
}

/// The backups of one gateway.
pub struct Backups {
    origin: Origin,
    master: Arc<MasterKey>,
    config: BackupConfig,
    has_webhook: bool,
    busy: tokio::sync::Mutex<()>,
    progress: Mutex<Option<Progress>>,
    counts: Counts,
}

impl fmt::Debug for Backups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backups").finish_non_exhaustive()
    }
}

/// What a restore is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct RestoreOrder {
    pub(crate) from: String,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) copy_as: Option<TenantId>,
    pub(crate) force: bool,
}

impl Backups {
    /// Of the gateway with this store and this master key.
    #[must_use]
    pub fn new(store: Store, master: Arc<MasterKey>, config: BackupConfig) -> Self {
        let data = std::path::absolute(store.dir()).unwrap_or_else(|_| store.dir().to_owned());
        let audit = config.audit.clone().unwrap_or_else(|| data.join("audit"));
        Self {
            origin: Origin { store, audit, data, master: Vec::new() },
            master,
            config,
            has_webhook: false,
            busy: tokio::sync::Mutex::new(()),
            progress: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// The same with a webhook that hears of failures.
    #[must_use]
    pub fn with_webhook(self) -> Self {
        Self { has_webhook: true, ..self }
    }

    /// The place of `url`, else the configured one.
    pub(crate) fn place(&self, field: &'static str, url: Option<&str>) -> Result<Place, BackupError> {
        match (url, &self.config.to) {
            (Some(url), _) => Place::parse(field, url, &self.config.bucket),
            (None, Some(place)) => Ok(place.clone()),
            (None, None) => Err(BackupError::Invalid {
                field,
                message: format!(
                    "no place is named, and none is configured: give one with `--{field}`, s3://BUCKET/PREFIX or a directory, or set `[backup] to`"
                ),
            }),
        }
    }

    /// The gateway with the master keys that it has now.
    fn origin(&self) -> Result<Origin, BackupError> {
        let master = self.master.kids().map_err(|err| BackupError::Key(err.to_string()))?;
        Ok(Origin { master, ..self.origin.clone() })
    }

    fn maker(&self, place: Place) -> Result<Maker, BackupError> {
        Ok(Maker { origin: self.origin()?, place, passphrase: self.config.passphrase.clone() })
    }

    /// Makes a backup of the whole gateway or one tenant, and puts it on record. Of the configured place, old sets go.
    pub(crate) async fn make(&self, actor: &Actor, scope: &Scope, to: Option<&str>) -> Result<Made, BackupError> {
        let place = self.place("to", to)?;
        let _alone = self.busy.lock().await;
        let made = self.maker(place.clone())?.make(scope, &self.begin()).await;
        self.end();
        let tenant = tenant_of(scope);
        match &made {
            Ok(made) => {
                self.counts.succeeded(scope, self.origin.store.clock().now());
                let detail = json!({"backup": made.listed.id, "bytes": made.listed.bytes, "sent_bytes": made.sent_bytes, "skipped": made.skipped});
                self.origin.store.note_backup(actor, tenant, &made.listed.url, detail).await?;
                if to.is_none() {
                    self.retain(&place, scope).await;
                }
            }
            Err(err) => {
                self.counts.failed();
                tracing::error!(%err, scope = %scope, "a backup failed");
                // A store that takes no note is a trouble of its own, told by its own means.
                let noted =
                    self.origin.store.note_backup_failure(actor, tenant, &err.to_string(), self.has_webhook).await;
                if let Err(err) = noted {
                    tracing::error!(%err, "a failed backup can't be put on record");
                }
            }
        }
        made
    }

    /// Old sets and orphans go. What can't go now goes after the next backup.
    async fn retain(&self, place: &Place, scope: &Scope) {
        match self.config.retention.apply(place, scope, self.origin.store.clock().now()).await {
            Ok(gone) if gone.sets.is_empty() && gone.objects == 0 => {}
            Ok(gone) => {
                tracing::info!(scope = %scope, sets = gone.sets.join(","), objects = gone.objects, "old backups are gone")
            }
            Err(err) => tracing::warn!(%err, "old backups can't be removed now"),
        }
    }

    /// The sets of `scope`, newest first.
    pub(crate) async fn list(&self, scope: &Scope, from: Option<&str>) -> Result<Vec<Listed>, BackupError> {
        Maker::list(&self.place("from", from)?, scope).await
    }

    /// Reads a set from end to end.
    pub(crate) async fn verify(&self, from: Option<&str>) -> Result<Verified, BackupError> {
        let source = self.source(from, None)?;
        let _alone = self.busy.lock().await;
        let verified = openclawmu_backup::verify(&source, &self.origin.data, self.begin()).await;
        self.end();
        verified
    }

    /// Gets a restore ready. While the answer lives, no other is made.
    pub(crate) async fn prepare(
        &self,
        actor: &Actor,
        order: &RestoreOrder,
    ) -> Result<(Prepared, tokio::sync::MutexGuard<'_, ()>), BackupError> {
        let source = self.source(Some(&order.from), order.tenant.as_ref())?;
        let tenant = match (&source.scope, &order.tenant) {
            (Scope::Tenant(own), asked) if asked.as_ref().is_none_or(|asked| asked == own) => own.clone(),
            (Scope::Gateway, Some(asked)) => asked.clone(),
            (Scope::Tenant(_), _) => return Err(invalid("tenant", "is not the one that `from` names")),
            (Scope::Gateway, None) => {
                return Err(invalid("tenant", "a backup of the whole gateway has several: say which with `--tenant`"));
            }
        };
        let alone = self.busy.lock().await;
        let to = order.copy_as.clone().unwrap_or_else(|| tenant.clone());
        let own = tenant.clone();
        let turn = |upstream: &str, id: &str, sealed: &[u8]| {
            let key = SealedKey { id: id.to_owned(), upstream: upstream.to_owned(), sealed: sealed.to_vec() };
            self.master.reseal_provider_key(&own, &to, &key).map(|key| (key.id, key.sealed))
        };
        let origin = self.origin()?;
        let prepare = Prepare {
            origin: &origin,
            actor,
            tenant,
            copy_as: order.copy_as.clone(),
            force: order.force,
            turn_key: &turn,
            progress: self.begin(),
        };
        let prepared = prepare.from(&source).await;
        self.end();
        Ok((prepared?, alone))
    }

    /// The set that a URL names: `PLACE`, `PLACE/tenants/ID` or `PLACE/tenants/ID/backups/NUMBER`, or the same of the gateway.
    fn source(&self, from: Option<&str>, tenant: Option<&TenantId>) -> Result<Source, BackupError> {
        let configured = self.config.to.as_ref().map(Place::name);
        let (place, scope, number) = match from {
            // What is configured is a place, whatever it is called.
            Some(from) if configured != Some(from) => Source::split(from)?,
            _ => (self.place("from", None)?.name().to_owned(), None, None),
        };
        let scope = scope.or_else(|| tenant.cloned().map(Scope::Tenant)).unwrap_or(Scope::Gateway);
        let place = Place::parse("from", &place, &self.config.bucket)?;
        Ok(Source { place, scope, number, passphrase: self.config.passphrase.clone() })
    }

    /// How far the backup or restore is that is being made now.
    pub(crate) fn shown(&self) -> Option<Shown> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Progress::shown)
    }

    fn begin(&self) -> Progress {
        let progress = Progress::default();
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress.clone());
        progress
    }

    fn end(&self) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is counted, in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        let every = self.config.every.filter(|_| self.config.to.is_some());
        self.counts.render(self.origin.store.ledger_unshipped().ok(), every)
    }
}

fn tenant_of(scope: &Scope) -> Option<&TenantId> {
    match scope {
        Scope::Gateway => None,
        Scope::Tenant(id) => Some(id),
    }
}

fn invalid(field: &'static str, message: &str) -> BackupError {
    BackupError::Invalid { field, message: message.to_owned() }
}
