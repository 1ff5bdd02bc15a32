//! Backups on record: who made one, and that one failed.

use serde_json::{Value, json};

use crate::audit::{self, Actor, Entry};
use crate::change::Change;
use crate::id::TenantId;
use crate::store::Store;
use crate::webhook::{self, NewWebhook};

impl Store {
    /// Puts a backup on record that was made: of one tenant, or of all.
    pub fn note_backup(&self, actor: &Actor, tenant: Option<&TenantId>, url: &str, detail: Value) -> Change<()> {
        let (actor, tenant, url) = (actor.clone(), tenant.cloned(), url.to_owned());
        Change::new(self, move |tx, now| {
            let entry = Entry { action: "backup.create", tenant: tenant.as_ref(), target: Some(&url), detail };
            audit::record(tx, now, &actor, &entry)
        })
    }

    /// Puts a backup on record that failed, and tells `webhook` where there is one.
    pub fn note_backup_failure(
        &self,
        actor: &Actor,
        tenant: Option<&TenantId>,
        why: &str,
        webhook: bool,
    ) -> Change<()> {
        let (actor, tenant, why) = (actor.clone(), tenant.cloned(), why.to_owned());
        Change::new(self, move |tx, now| {
            let detail = json!({"tenant": tenant, "error": why});
            let payload = json!({"type": "backup.failed", "timestamp": now.rfc3339(), "data": detail});
            let entry = Entry { action: "backup.failed", tenant: tenant.as_ref(), target: None, detail };
            audit::record(tx, now, &actor, &entry)?;
            if webhook {
                let new = NewWebhook { event: "backup.failed", tenant: tenant.as_ref(), payload: &payload };
                webhook::insert(tx, now, &new)?;
            }
            Ok(())
        })
    }
}
