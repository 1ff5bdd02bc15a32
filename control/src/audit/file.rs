//! The log as the store writes to it: in the order of its numbers, over rotations, crashes and full disks.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openclawmu_store::{
    Actor, AuditActor, AuditEvent, AuditHead, AuditLine, AuditLog, AuditOutcome, Clock, SystemClock, UnixMs,
};
use serde_json::{Value, json};

use crate::audit::current::{Current, Finding};
use crate::audit::error::AuditError;
use crate::audit::folder::{self, CURRENT};
use crate::audit::{line, tail};
use crate::key::AuditKey;

/// When a new file is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Once it has this many bytes.
    pub bytes: u64,
    /// On a new day in UTC.
    pub daily: bool,
}

/// What the log is made of.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The folder; made (0700) where it does not exist.
    pub folder: PathBuf,
    /// What signs its lines.
    pub key: AuditKey,
    /// When a new file is begun.
    pub rotation: Rotation,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
}

impl AuditOptions {
    /// The log in `folder`, by the machine's clock, in one file.
    #[must_use]
    pub fn new(folder: PathBuf, key: AuditKey) -> Self {
        Self { folder, key, rotation: Rotation { bytes: u64::MAX, daily: false }, clock: Arc::new(SystemClock) }
    }
}

/// Lets the file be opened anew, after it was renamed.
#[derive(Clone, Debug, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// With the next line.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The audit log.
#[derive(Debug)]
pub struct AuditFile {
    /// The folder is this process's as long as it is open.
    _lock: File,
    options: AuditOptions,
    reopen: Reopen,
    current: Option<Current>,
    /// The newest line.
    head: Option<AuditHead>,
    /// What the next append tells first.
    findings: Vec<Finding>,
    trouble: Option<Trouble>,
}

/// Since when nothing can be written.
#[derive(Debug)]
struct Trouble {
    since: UnixMs,
    reason: String,
    refused: usize,
}

impl AuditFile {
    /// Opens the log. `known` is the newest line that the database knows of.
    ///
    /// # Errors
    /// [`AuditError`]: the gateway must not start.
    pub fn open(options: AuditOptions, known: Option<&AuditHead>) -> Result<Self, AuditError> {
        let folder = options.folder.clone();
        folder::make(&folder).map_err(AuditError::file(&folder))?;
        let lock = folder::take(&folder).map_err(AuditError::file(&folder))?;
        let lock = lock.ok_or_else(|| AuditError::Locked(folder.clone()))?;
        let head = newest(&folder, &options.key, known)?;
        let current = Current::open(&folder).map_err(AuditError::file(&folder.join(CURRENT)))?;
        let (reopen, findings) = (Reopen::default(), Vec::new());
        Ok(Self { _lock: lock, options, reopen, current: Some(current), head, findings, trouble: None })
    }

    /// A handle by which the file is opened anew.
    #[must_use]
    pub fn reopen(&self) -> Reopen {
        self.reopen.clone()
    }

    fn try_append(&mut self, committed: Option<&AuditHead>, events: &[AuditEvent]) -> io::Result<Vec<AuditLine>> {
        let now = self.options.clock.now();
        let mut current = self.ready(now)?;
        let done = self.append_to(&mut current, (committed, now), events);
        // Kept also when it failed, since it knows where its last line ends.
        self.current = Some(current);
        done
    }

    /// The file, in its place, ending with its last line, and not yet full.
    fn ready(&mut self, now: UnixMs) -> io::Result<Current> {
        let folder = &self.options.folder;
        let asked = self.reopen.0.swap(false, Ordering::AcqRel);
        let mut current = match self.current.take() {
            Some(mut current) => {
                if let Err(err) = current.heal(folder, now, &mut self.findings) {
                    self.current = Some(current);
                    return Err(err);
                }
                if asked || !current.is_in_place(folder)? { Current::open(folder)? } else { current }
            }
            None => Current::open(folder)?,
        };
        current.heal(folder, now, &mut self.findings)?;
        let Some((first, day)) = &current.first else { return Ok(current) };
        let rotation = self.options.rotation;
        if current.len() < rotation.bytes && !(rotation.daily && folder::day(&now.rfc3339()) > *day) {
            return Ok(current);
        }
        let path = folder.join(folder::rotated(day, *first));
        if path.exists() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{} is in the way", path.display())));
        }
        std::fs::rename(folder.join(CURRENT), path)?;
        Current::open(folder)
    }

    fn append_to(
        &mut self,
        current: &mut Current,
        (committed, now): (Option<&AuditHead>, UnixMs),
        events: &[AuditEvent],
    ) -> io::Result<Vec<AuditLine>> {
        let (mut head, gap) = joined(self.head.as_ref(), committed);
        let resumed = self.trouble.as_ref().map(Trouble::told);
        let own = self.findings.iter().cloned().chain(gap).chain(resumed);
        let all: Vec<AuditEvent> = own.map(|finding| event_of(now, finding)).chain(events.iter().cloned()).collect();
        let (mut text, mut lines) = (String::new(), Vec::with_capacity(all.len()));
        for event in all {
            let seq = head.seq.saturating_add(1);
            let (line, mac) = line::made(&self.options.key, seq, &head.mac, &event)?;
            text.push_str(&line);
            let prev = std::mem::replace(&mut head, AuditHead { seq, mac: mac.clone() }).mac;
            lines.push(AuditLine { seq, event, prev, mac });
        }
        current.append(text.as_bytes())?;
        if let (None, Some(line)) = (&current.first, lines.first()) {
            current.first = Some((line.seq, folder::day(&line.event.at.rfc3339())));
        }
        if !lines.is_empty() {
            self.head = Some(head);
        }
        Ok(lines)
    }
}

impl AuditLog for AuditFile {
    fn append(&mut self, committed: Option<&AuditHead>, events: Vec<AuditEvent>) -> Result<Vec<AuditLine>, String> {
        match self.try_append(committed, &events) {
            Ok(lines) => {
                self.findings.clear();
                self.trouble = None;
                Ok(lines)
            }
            Err(err) => {
                let reason = format!("{}: {err}", self.options.folder.join(CURRENT).display());
                let since = self.options.clock.now();
                let trouble = self.trouble.get_or_insert_with(|| Trouble { since, reason: reason.clone(), refused: 0 });
                trouble.refused = trouble.refused.saturating_add(events.len());
                Err(reason)
            }
        }
    }
}

impl Trouble {
    fn told(&self) -> Finding {
        let detail = json!({"since": self.since.rfc3339(), "reason": self.reason, "refused": self.refused});
        ("audit.resume", detail)
    }
}

/// The line that the next one follows, and what is to be told where the files and the database know different ones.
fn joined(written: Option<&AuditHead>, committed: Option<&AuditHead>) -> (AuditHead, Option<Finding>) {
    let start = AuditHead { seq: 0, mac: line::START.to_owned() };
    let (written, committed) = (written.unwrap_or(&start), committed.unwrap_or(&start));
    let range = |after: u64, to: u64| json!({"from_seq": after.saturating_add(1), "to_seq": to});
    if written.seq > committed.seq {
        // Their transactions were not committed: what they tell did not happen.
        (written.clone(), Some(("audit.uncommitted", range(committed.seq, written.seq))))
    } else if written.seq < committed.seq {
        // Going on from what the database knows keeps the hole visible for ever.
        (committed.clone(), Some(("audit.missing", range(written.seq, committed.seq))))
    } else if written.mac != committed.mac {
        (written.clone(), Some(("audit.altered", json!({"seq": written.seq}))))
    } else {
        (written.clone(), None)
    }
}

/// What the log tells of itself. All of it is trouble, save that it works again.
fn event_of(at: UnixMs, (action, detail): (&'static str, Value)) -> AuditEvent {
    let Actor { kind, id, .. } = Actor::system();
    AuditEvent {
        at,
        actor: AuditActor { kind: kind.name().to_owned(), id },
        ip: None,
        request_id: None,
        action: action.to_owned(),
        tenant: None,
        target: None,
        outcome: if action == "audit.resume" { AuditOutcome::Ok } else { AuditOutcome::Failed },
        detail,
    }
}

/// The newest line of all files.
fn newest(folder: &Path, key: &AuditKey, known: Option<&AuditHead>) -> Result<Option<AuditHead>, AuditError> {
    let mut newest: Option<AuditHead> = None;
    for path in folder::files(folder).map_err(AuditError::file(folder))?.0 {
        let last = File::open(&path).and_then(|file| tail::tail(&file, file.metadata()?.len()));
        let Some(text) = last.map_err(AuditError::file(&path))?.line else { continue };
        match line::read(key, &text) {
            Some(seen) if seen.is_whole => {
                if newest.as_ref().is_none_or(|newest| seen.seq > newest.seq) {
                    newest = Some(AuditHead { seq: seen.seq, mac: seen.mac });
                }
            }
            Some(seen) if known.is_some_and(|known| known.mac == seen.mac) => return Err(AuditError::WrongKey(path)),
            Some(_) | None => {
                tracing::error!(path = %path.display(), "the last line is not as it was written: see `openclawmu audit verify`");
            }
        }
    }
    Ok(newest)
}
