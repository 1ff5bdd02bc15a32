//! `openclawmu backups restore`: a gateway out of a backup, in an empty data directory, while none runs on it.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;
use openclawmu_backup::{BackupError, Place, Progress, Scope, Source, WholeRestore, restore_whole};
use openclawmu_control::MasterKey;
use openclawmu_control::cli::{WholeRestoreFlags, bar, show};
use openclawmu_store::{Clock, SystemClock};

use crate::config::Config;

/// Pause between two looks at how far it is.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(250);

/// Restores and says what came back.
pub(crate) async fn run(flags: &WholeRestoreFlags, config: &Config, json: bool) -> anyhow::Result<()> {
    let source = source(flags.from.as_deref(), config)?;
    let keys = flags.keys.as_deref().unwrap_or(&config.data_dir);
    let done = restore(&source, &config.data_dir, keys, json).await?;
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
        None => configured,
    };
    let from = from.context("--from names no backup, and backup.to is not configured")?;
    let (place, scope, number) = Source::split(&from)?;
    if matches!(scope, Some(Scope::Tenant(_))) {
        anyhow::bail!(
            "{from} is a backup of one tenant; hint: `openclawmu tenants restore --from {from}` puts it into a running gateway"
        );
    }
    let place = Place::parse("--from", &place, &config.backup.bucket)?;
    Ok(Source { place, scope: Scope::Gateway, number, passphrase: config.backup.passphrase.clone() })
}

/// The restore itself, with a bar where somebody watches.
pub(crate) async fn restore(source: &Source, data: &Path, keys: &Path, quiet: bool) -> anyhow::Result<WholeRestore> {
    let data = std::path::absolute(data)?;
    let progress = Progress::default();
    let master = |dir: &Path| {
        MasterKey::load(dir).and_then(|keys| keys.kids()).map_err(|err| {
            format!("{err}; hint: a backup never holds it: put the old gateway's master.key there, or name its directory with --keys")
        })
    };
    let restore = restore_whole(source, &data, keys, &master, (SystemClock.now(), progress.clone()));
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
