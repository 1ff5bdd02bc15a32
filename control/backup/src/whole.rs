//! A gateway out of a set, into an empty data directory, while nothing runs on it.
//!
//! Everything is made beside the directory and takes its place at the end, so that there is a gateway or none. The segments
//! since the set bring its ledger up to date; what was revoked or deleted since is revoked and deleted again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use openclawmu_sandbox::{RelPath, Root};
use openclawmu_store::{Actor, ActorKind, Offline, Replayed, UnixMs, pepper_fingerprints};
use rustix::process::geteuid;
use serde::Serialize;

use crate::digest;
use crate::error::{BackupError, Result};
use crate::fetch::{Fetcher, database, files};
use crate::layout::{AUDIT_SEGMENTS, LEDGER_SEGMENTS, Scope};
use crate::progress::Progress;
use crate::restore::Source;
use crate::segment::{parse_audit, parse_ledger, row_of};
use crate::upload::{Spool, blocking};

/// What may lie in the directory that is restored into: the keys that a backup never holds.
const KEYS: [&str; 4] = ["pepper.key", "master.key", "admin.key", "audit.key"];
/// Ledger rows that are added in one transaction.
const ROWS_AT_ONCE: usize = 5_000;
/// No segment is larger, in bytes.
const MAX_SEGMENT_BYTES: u64 = 256 << 20;
/// Nor what is in it.
const MAX_PLAIN_SEGMENT_BYTES: u64 = 1 << 30;
/// Segments from before a set that are looked at too: clocks and uploads are not exact.
const MARGIN_MS: i64 = 600_000;

/// A gateway that was restored.
#[derive(Clone, Debug, Serialize)]
pub struct WholeRestore {
    /// The set.
    pub backup: String,
    /// When its snapshot was taken.
    pub created_at: String,
    /// When the newest segment was made: what happened after it is lost.
    pub newest_at: String,
    /// The same in milliseconds since 1970.
    #[serde(skip)]
    pub newest: UnixMs,
    /// Tenants in it.
    pub tenants: usize,
    /// Rows of its ledger.
    pub ledger_rows: u64,
    /// What the segments added.
    pub replayed: Replayed,
}

/// Where a gateway is made, and what no backup holds.
pub struct Rebuild<'a> {
    /// Where: a directory that is missing or holds nothing but keys.
    pub data: &'a Path,
    /// Where `pepper.key`, `master.key` and `audit.key` are.
    pub keys: &'a Path,
    /// Where the audit log is to lie, if not in `data`. One that has survived there is left as it is.
    pub audit: Option<&'a Path>,
    /// Tells the ids of the master keys in a directory.
    pub master: &'a (dyn Fn(&Path) -> Result<Vec<String>, String> + Sync),
    /// Says whether what the audit log is signed with is there, for the gateway in a directory.
    pub signed: &'a (dyn Fn(&Path) -> Result<(), String> + Sync),
    /// The time, for what is put on record.
    pub now: UnixMs,
    /// How far it is.
    pub progress: Progress,
}

/// Makes a gateway of a set of the whole gateway.
///
/// # Errors
/// [`BackupError`]; then everything is as it was.
pub async fn restore_whole(source: &Source, wanted: &Rebuild<'_>) -> Result<WholeRestore> {
    let (data, keys, progress) = (wanted.data, wanted.keys, &wanted.progress);
    let fresh = Fresh::beside(data, keys)?;
    progress.phase("looking at the backup", 0);
    let (set, number) = Fetcher::open(
        &source.place,
        &Scope::Gateway,
        source.number.as_deref(),
        source.passphrase.as_ref(),
        progress.clone(),
    )
    .await?;
    key_fit(&set, wanted, &fresh.path)?;
    let spool = Spool::new(&fresh.path)?;
    progress.phase("fetching", set.manifest.bytes());
    database(&set, &spool, fresh.path.join("openclawmu.db")).await?;
    archives(&set, &fresh.path, &spool).await?;
    tenants(&set, &fresh.path, &spool).await?;
    progress.phase("replaying what came after", 0);
    let (replayed, newest) = replay(&set, &fresh.path, (wanted.now, &number)).await?;
    drop(spool);
    fresh.take_place(data, wanted.audit)?;
    Ok(WholeRestore {
        backup: number,
        created_at: set.manifest.created_at.clone(),
        newest_at: newest.rfc3339(),
        newest,
        tenants: set.manifest.tenants.len(),
        ledger_rows: set.manifest.store.ledger_rows + replayed.ledger_rows,
        replayed,
    })
}

/// Whether the keys that a backup never holds are those of this one.
fn key_fit(set: &Fetcher, wanted: &Rebuild<'_>, fresh: &Path) -> Result<()> {
    let keys = wanted.keys;
    let pepper = keys.join("pepper.key");
    // The store would say to put it back from a backup.
    if !pepper.try_exists().map_err(BackupError::file(&pepper))? {
        return Err(BackupError::Key(format!(
            "{} is missing, and the backup's tokens are hashed with it: nothing was changed; hint: a backup never holds it: put the old gateway's pepper.key there, or name its directory with --keys",
            pepper.display()
        )));
    }
    let ours = pepper_fingerprints(keys)?;
    let theirs = &set.manifest.keys;
    if let Some(missing) = theirs.pepper.iter().find(|print| !ours.contains(print)) {
        return Err(BackupError::Key(format!(
            "the backup's tokens were hashed with pepper {missing}, which {} does not hold: nothing was changed; hint: put the old gateway's pepper.key there",
            pepper.display()
        )));
    }
    let ours = (wanted.master)(keys).map_err(BackupError::Key)?;
    if let Some(missing) = theirs.master.iter().find(|kid| !ours.contains(kid)) {
        return Err(BackupError::Key(format!(
            "the backup's provider keys are sealed with master key {missing}, which {} does not hold: nothing was changed; hint: put the old gateway's master.key there",
            keys.join("master.key").display()
        )));
    }
    match &set.manifest.audit_head {
        Some(_) => (wanted.signed)(fresh).map_err(BackupError::Key),
        None => Ok(()),
    }
}

/// A directory beside the one that it will be; gone unless it has become it.
struct Fresh {
    path: PathBuf,
}

impl Fresh {
    fn beside(data: &Path, keys: &Path) -> Result<Self> {
        let entries = match fs::read_dir(data) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            entries => {
                entries.and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(BackupError::file(data))?
            }
        };
        let other = entries.iter().map(fs::DirEntry::file_name).find(|name| KEYS.iter().all(|key| name != key));
        if let Some(other) = other {
            let message =
                format!("{} is not empty: it holds {}; name a new directory", data.display(), other.display());
            return Err(BackupError::Invalid { field: "data", message });
        }
        let mut name = data.file_name().unwrap_or_default().to_owned();
        name.push(".restoring");
        let path = data.with_file_name(name);
        // What an earlier try has left is of no use.
        match fs::remove_dir_all(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(BackupError::File { path, source: err });
            }
            Ok(()) | Err(_) => {}
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(BackupError::file(&path))?;
        let fresh = Self { path };
        for (from, key) in [data, keys].iter().flat_map(|from| KEYS.iter().map(move |key| (from, key))) {
            let (from, to) = (from.join(key), fresh.path.join(key));
            match fs::copy(&from, &to) {
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
                copied => drop(copied.map_err(BackupError::file(from))?),
            }
        }
        Ok(fresh)
    }

    fn take_place(self, data: &Path, audit: Option<&Path>) -> Result<()> {
        if let Some(folder) = audit {
            self.place_log(folder)?;
        }
        for key in KEYS {
            match fs::remove_file(data.join(key)) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(BackupError::File { path: data.join(key), source: err });
                }
                Ok(()) | Err(_) => {}
            }
        }
        let _spool_is_empty = fs::remove_dir(self.path.join("spool"));
        // An empty directory is replaced, one that has been filled meanwhile is not.
        fs::rename(&self.path, data).map_err(BackupError::file(data))
    }

    /// The audit log into its own folder, unless one has survived there: that one holds at least as much.
    fn place_log(&self, folder: &Path) -> Result<()> {
        let from = self.path.join("audit");
        let log = from.join("audit.jsonl");
        if !log.try_exists().map_err(BackupError::file(&log))? {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(BackupError::file(folder))?;
        let entries: Vec<_> = fs::read_dir(folder)
            .and_then(Iterator::collect::<std::io::Result<_>>)
            .map_err(BackupError::file(folder))?;
        let is_log = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains(".jsonl");
        if !entries.iter().any(is_log) {
            // Perhaps another disk: under another name until all of it is there.
            let (half, to) = (folder.join("restoring"), folder.join("audit.jsonl"));
            let copied = fs::copy(&log, &half).and_then(|_| fs::File::open(&half)).and_then(|file| file.sync_all());
            copied.and_then(|()| fs::rename(&half, &to)).map_err(BackupError::file(&to))?;
        }
        fs::remove_dir_all(&from).map_err(BackupError::file(&from))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Gone already where it has taken its place.
        let _ = fs::remove_dir_all(&self.path);
    }
}

async fn archives(set: &Fetcher, data: &Path, spool: &Spool) -> Result<()> {
    for archive in &set.manifest.archives {
        let plain = archive.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if !plain || archive.name.starts_with('.') {
            return Err(BackupError::Damaged(format!("no archive is called `{}`", archive.name)));
        }
        let (path, folder) = (set.fetch(&archive.object, spool).await?, data.join("archive"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(BackupError::file(&folder))?;
        fs::rename(&path, folder.join(&archive.name)).map_err(BackupError::file(&path))?;
    }
    Ok(())
}

async fn tenants(set: &Fetcher, data: &Path, spool: &Spool) -> Result<()> {
    let all = Root::create(&data.join("tenants"))?;
    for tenant in set.manifest.tenants.iter().filter(|tenant| !tenant.files.parts.is_empty()) {
        let name = RelPath::parse(tenant.id.as_str().as_bytes())?;
        all.create_dir_all(&name)?;
        files(set, spool, &tenant.files, all.descend(&name)?).await?;
    }
    Ok(())
}

/// Adds what the segments hold beyond the set; when the newest of them was made.
async fn replay(set: &Fetcher, data: &Path, (now, backup): (UnixMs, &str)) -> Result<(Replayed, UnixMs)> {
    let created = set.manifest.created();
    let since = created.0.saturating_sub(MARGIN_MS);
    let (mut newest, mut rows, mut changes) = (created, Vec::new(), Vec::new());
    for item in set.place.list(LEDGER_SEGMENTS).await? {
        let Some((at, hash)) = parse_ledger(&item.key).filter(|(at, _)| at.0 >= since) else { continue };
        newest = newest.max(at);
        segment(set, &item.key, hash, &mut |line| {
            rows.push(row_of(&line)?);
            Ok(())
        })
        .await?;
    }
    let mut log = Vec::new();
    for item in set.place.list(AUDIT_SEGMENTS).await? {
        let Some((_, at, hash)) = parse_audit(&item.key) else { continue };
        newest = newest.max(at);
        let after = set.manifest.audit_head.as_ref().map_or(0, |head| head.seq);
        segment(set, &item.key, hash, &mut |line| {
            let row = row_of(&line)?;
            let Some(seq) = row.get("seq").and_then(serde_json::Value::as_i64) else { return Ok(()) };
            if seq > after {
                changes.push(row);
            }
            log.push((seq, line));
            Ok(())
        })
        .await?;
    }
    let (data, backup) = (data.to_owned(), backup.to_owned());
    let replayed = blocking(move || {
        audit_log(&data, log)?;
        let mut replayed = Replayed::default();
        let mut offline = Offline::open(&data)?;
        // Those that end a hold come after the rows that they end.
        rows.sort_by_key(|row| row.contains_key("resolves"));
        for rows in rows.chunks(ROWS_AT_ONCE) {
            offline.ledger(rows, &mut replayed)?;
        }
        for change in &changes {
            offline.audit(now, change, &mut replayed)?;
        }
        let actor = Actor { kind: ActorKind::Local, id: format!("uid {}", geteuid().as_raw()), ..Actor::system() };
        offline.restored(now, (&actor, &backup), &replayed)?;
        offline.close()?;
        Ok(replayed)
    })
    .await?;
    Ok((replayed, newest))
}

/// The audit log as far as it was shipped, byte for byte in the order of its numbers.
fn audit_log(data: &Path, mut log: Vec<(i64, Vec<u8>)>) -> Result<()> {
    if log.is_empty() {
        return Ok(());
    }
    log.sort_by_key(|(seq, _)| *seq);
    log.dedup_by_key(|(seq, _)| *seq);
    let folder = data.join("audit");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(BackupError::file(&folder))?;
    let path = folder.join("audit.jsonl");
    let mut file = crate::upload::create(&path)?;
    for (_, line) in log {
        file.write_all(&line).and_then(|()| file.write_all(b"\n")).map_err(BackupError::file(&path))?;
    }
    file.sync_all().map_err(BackupError::file(&path))
}

/// Gives each line of a segment to `each`.
async fn segment(
    set: &Fetcher,
    key: &str,
    hash: &str,
    each: &mut (dyn FnMut(Vec<u8>) -> Result<()> + Send),
) -> Result<()> {
    let missing = || BackupError::Damaged(format!("{key} is missing"));
    let bytes = set.place.get(key, MAX_SEGMENT_BYTES).await?.ok_or_else(missing)?;
    if digest::of(&bytes) != hash {
        return Err(BackupError::Damaged(format!("{key} is not what was written there")));
    }
    set.progress.moved(bytes.len() as u64);
    let broken = |err: std::io::Error| BackupError::Damaged(format!("{key}: {err}"));
    let bytes = match &set.key {
        None => bytes,
        Some(opening) => {
            let mut plain = Vec::new();
            opening.open(bytes.as_slice(), &mut plain).map_err(broken)?;
            plain
        }
    };
    let plain = zstd::Decoder::new(bytes.as_slice()).map_err(broken)?;
    for line in BufReader::new(plain.take(MAX_PLAIN_SEGMENT_BYTES)).split(b'\n') {
        each(line.map_err(broken)?)?;
    }
    Ok(())
}
