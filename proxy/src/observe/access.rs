//! The access log: one JSON line a request, in a file or on standard output.
//!
//! It holds names, counts and times. It never holds a secret, a prompt or an answer.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use openclawmu_store::Usage;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::notes::{Billed, Finished};
use super::observer::Sink;

/// The most that is shown of a name that a client has chosen.
const NAME_CHARS: usize = 200;
/// Bytes that gather before they are written in between.
const BATCH_BYTES: usize = 256 << 10;

/// Where the lines go.
enum Place {
    Stdout,
    File(PathBuf, File),
}

/// The log.
pub(crate) struct AccessLog {
    place: Place,
    lines: Vec<u8>,
    count: u64,
    /// Lines that could not be written.
    lost: Counter,
    failing: bool,
}

/// A line, in the order of its members.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    request_id: String,
    tenant: Option<&'a str>,
    token: Option<String>,
    ip: Option<IpAddr>,
    method: &'a str,
    route: &'a str,
    status: u16,
    outcome: &'static str,
    error: Option<&'static str>,
    dialect: &'static str,
    model: Option<String>,
    upstream: Option<&'a str>,
    upstream_model: Option<&'a str>,
    attempts: u16,
    stream: bool,
    bytes_in: usize,
    bytes_out: usize,
    duration_ms: u128,
    #[serde(flatten)]
    bill: Option<Bill>,
}

/// What was used and billed, under the names of the usage report.
#[derive(Serialize)]
struct Bill {
    first_byte_ms: u32,
    input_tokens: u64,
    cache_read_tokens: u32,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u32,
    tool_calls: u32,
    estimated: bool,
    cost_usd: String,
}

impl Bill {
    fn of(billed: &Billed) -> Self {
        let Usage { input, cache_read, cache_write, cache_write_1h, output, reasoning, .. } = billed.usage;
        let Usage { input_audio, output_audio, tool_calls, .. } = billed.usage;
        Self {
            first_byte_ms: billed.first_byte_ms,
            input_tokens: u64::from(input) + u64::from(input_audio),
            cache_read_tokens: cache_read,
            cache_write_tokens: u64::from(cache_write) + u64::from(cache_write_1h),
            output_tokens: u64::from(output) + u64::from(output_audio),
            reasoning_tokens: reasoning,
            tool_calls,
            estimated: billed.estimated,
            cost_usd: billed.cost.to_string(),
        }
    }
}

impl AccessLog {
    /// Opens the log: `stdout`, or the path of a file that is appended to. `lost` counts lines that can't be written.
    ///
    /// # Errors
    /// The system's words.
    pub(crate) fn open(place: &Path, lost: Counter) -> std::io::Result<Self> {
        let place =
            if place.as_os_str() == "stdout" { Place::Stdout } else { Place::File(place.to_owned(), append(place)?) };
        Ok(Self { place, lines: Vec::new(), count: 0, lost, failing: false })
    }

    fn write(&mut self) -> std::io::Result<()> {
        // One write for whole lines: the processes of a hand-over append to the same file.
        match &mut self.place {
            Place::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(&self.lines).and_then(|()| out.flush())
            }
            Place::File(_, file) => file.write_all(&self.lines),
        }
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Sink for AccessLog {
    fn take(&mut self, finished: &Finished) {
        let notes = &finished.notes;
        let line = Line {
            at: finished.at.rfc3339(),
            request_id: finished.request_id.to_string(),
            tenant: notes.caller.as_ref().map(|policy| policy.tenant.as_str()),
            token: notes
                .caller
                .as_ref()
                .filter(|policy| !policy.is_tenant_itself())
                .map(|policy| policy.token.to_string()),
            ip: finished.peer,
            method: finished.method.as_str(),
            route: finished.route,
            status: finished.status,
            outcome: finished.fate().name(),
            error: notes.error,
            dialect: finished.dialect.name(),
            model: notes.asked.as_ref().map(|name| name.chars().take(NAME_CHARS).collect()),
            upstream: notes.target.as_ref().map(|(upstream, _)| &**upstream),
            upstream_model: notes.target.as_ref().map(|(_, model)| model.as_str()),
            attempts: notes.attempts,
            stream: notes.stream,
            bytes_in: finished.bytes_in,
            bytes_out: finished.bytes_out,
            duration_ms: finished.took.as_millis(),
            bill: notes.billed.as_ref().map(Bill::of),
        };
        let before = self.lines.len();
        if let Err(err) = serde_json::to_writer(&mut self.lines, &line) {
            tracing::error!(%err, "a line of the access log can't be written as JSON");
            self.lines.truncate(before);
            self.lost.inc();
            return;
        }
        self.lines.push(b'\n');
        self.count += 1;
        if self.lines.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = self.write();
        if let Err(err) = &written {
            self.lost.inc_by(self.count);
            if !self.failing {
                tracing::error!(%err, "the access log can't be written; lines are lost until it can");
            }
        } else if self.failing {
            tracing::info!("the access log is written again");
        }
        self.failing = written.is_err();
        self.lines.clear();
        self.count = 0;
    }

    fn reopen(&mut self) {
        let Place::File(path, file) = &mut self.place else { return };
        match append(path) {
            Ok(anew) => *file = anew,
            Err(err) => {
                tracing::error!(path = %path.display(), %err, "the access log can't be opened again; the old file goes on");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Fate;
    use crate::observe::observer::tests::finished;
    use serde_json::{Value, json};

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_holds_what_is_known_and_a_name_cannot_break_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.jsonl");
        let mut log = AccessLog::open(&path, Counter::default()).unwrap();
        let mut one = finished(7);
        one.notes.asked = Some("a\"b\n{\u{1}".repeat(100));
        one.notes.ended(Fate::Refused, Some("model_not_found"));
        one.status = 404;
        log.take(&one);
        log.take(&finished(8));
        log.flush();
        let lines = lines(&path);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["request_id"], one.request_id.to_string());
        assert_eq!(lines[0]["model"].as_str().unwrap().chars().count(), NAME_CHARS);
        assert_eq!((&lines[0]["outcome"], &lines[0]["error"]), (&json!("refused"), &json!("model_not_found")));
        assert_eq!(lines[1]["outcome"], "complete");
        assert_eq!(
            (&lines[1]["bytes_in"], &lines[1]["bytes_out"], &lines[1]["duration_ms"]),
            (&json!(1), &json!(2), &json!(3))
        );
    }

    #[test]
    fn a_moved_file_is_opened_anew_and_no_line_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("access.jsonl"), dir.path().join("access.jsonl.1"));
        let lost = Counter::default();
        let mut log = AccessLog::open(&path, lost.clone()).unwrap();
        for id in 0..2 {
            log.take(&finished(id));
            log.flush();
        }
        std::fs::rename(&path, &moved).unwrap();
        log.take(&finished(2));
        log.flush();
        log.reopen();
        log.take(&finished(3));
        log.flush();
        assert_eq!((lines(&moved).len(), lines(&path).len(), lost.get()), (3, 1, 0));
    }

    #[test]
    fn what_a_full_disk_refuses_is_counted() {
        let lost = Counter::default();
        let mut log = AccessLog::open(Path::new("/dev/full"), lost.clone()).unwrap();
        (0..3).for_each(|id| log.take(&finished(id)));
        log.flush();
        assert_eq!(lost.get(), 3);
    }
}
