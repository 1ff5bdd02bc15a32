//! `openclawmu backups restore`: a gateway out of a backup, in an empty data directory, while none runs on it.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use openclawmu_backup::{BackupError, Place, Progress, Rebuild, Scope, Source, WholeRestore, restore_whole};
use openclawmu_control::cli::{WholeRestoreFlags, bar, show};
use openclawmu_control::{AuditKey, MasterKey};
use openclawmu_store::{Clock, SystemClock};

use crate::config::{AuditConfig, Config};

/// Pause between two looks at how far it is.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

/// Restores and says what came back.
pub(crate) async fn run(flags: &WholeRestoreFlags, config: &Config, json: bool) -> anyhow::Result<()> {
    let source = source(flags.from.as_deref(), config)?;
    let keys = flags.keys.as_deref().unwrap_or(&config.data_dir);
    let audit = (&config.audit, config.audit.dir.as_deref());
    let done = restore(&source, (&config.data_dir, keys), audit, json).await?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&done)?)?;
        return Ok(());
    }
    let replayed = &done.replayed;
    writeln!(out, "backup {} of {} is in {}", done.backup, done.created_at, config.data_dir.display())?;
    writeln!(out, "tenants        {}", done.tenants)?;
    writeln!(out, "ledger rows    {}, {} of them from after the backup", done.ledger_rows, replayed.ledger_rows)?;
    writeln!(out, "up to date at  {}", done.newest_at)?;
    for (what, names) in [
        ("revoked again", &replayed.tokens_revoked),
        ("deleted again", &replayed.tenants_deleted),
        ("suspended: made after the backup, their policies are lost", &replayed.tenants_unknown),
    ] {
        if !names.is_empty() {
            writeln!(out, "{what}: {}", names.join(", "))?;
        }
    }
    if replayed.changes_lost > 0 {
        writeln!(
            out,
            "{} other changes were made after the backup; `openclawmu audit tail` lists them",
            replayed.changes_lost
        )?;
    }
    writeln!(out, "start it with: openclawmu serve --data {}", config.data_dir.display())?;
    Ok(())
}

/// The set that `from` names, or the newest of the configured place.
pub(crate) fn source(from: Option<&str>, config: &Config) -> anyhow::Result<Source> {
    let configured = config.backup.to.as_ref().map(|place| place.name().to_owned());
    let from = match from {
        Some(from) if !from.contains("://") => Some(std::path::absolute(from)?.to_string_lossy().into_owned()),
        Some(from) => Some(from.to_owned()),
        None => configured.clone(),
    };
    let from = from.context("--from names no backup, and backup.to is not configured")?;
    // What is configured is a place, whatever it is called.
    let is_place = configured.is_some_and(|place| place == from);
    let (place, scope, number) = if is_place { (from.clone(), None, None) } else { Source::split(&from)? };
    if matches!(scope, Some(Scope::Tenant(_))) {
        anyhow::bail!(
            "{from} is a backup of one tenant; hint: `openclawmu tenants restore --from {from}` puts it into a running gateway"
        );
    }
    let place = Place::parse("--from", &place, &config.backup.bucket)?;
    Ok(Source { place, scope: Scope::Gateway, number, passphrase: config.backup.passphrase.clone() })
}

/// The restore itself into `data`, by the keys in `keys`, with a bar where somebody watches. The audit log lies in `folder`, where
/// it does not lie in `data`.
pub(crate) async fn restore(
    source: &Source,
    (data, keys): (&Path, &Path),
    (audit, folder): (&AuditConfig, Option<&Path>),
    quiet: bool,
) -> anyhow::Result<WholeRestore> {
    let data = std::path::absolute(data)?;
    let progress = Progress::default();
    let master = |dir: &Path| {
        MasterKey::load(dir).and_then(|keys| keys.kids()).map_err(|err| {
            format!("{err}; hint: a backup never holds it: put the old gateway's master.key there, or name its directory with --keys")
        })
    };
    let signed = |dir: &Path| {
        AuditKey::load(dir, audit.key.as_ref()).map(drop).map_err(|err| {
            let place = keys.join("audit.key");
            format!(
                "{err}; hint: a backup never holds it: put the old gateway's audit.key at {}, or name its directory with --keys, or the key with audit.key in the configuration",
                place.display()
            )
        })
    };
    let wanted = Rebuild {
        data: &data,
        keys,
        audit: folder,
        master: &master,
        signed: &signed,
        now: SystemClock.now(),
        progress: progress.clone(),
    };
    let restore = restore_whole(source, &wanted);
    if quiet || !std::io::stderr().is_terminal() {
        return restore.await.map_err(hinted);
    }
    let bar = bar();
    let watch = async {
        loop {
            let now = progress.shown();
            show(&bar, now.phase.to_owned(), (now.done_bytes, now.total_bytes));
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let done: Result<WholeRestore, BackupError> = tokio::select! {
        done = restore => done,
        never = watch => never,
    };
    bar.finish_and_clear();
    done.map_err(hinted)
}

fn hinted(err: BackupError) -> anyhow::Error {
    anyhow::Error::new(err)
}
