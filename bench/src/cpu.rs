//! CPU time and memory of a process tree, as the kernel counts them. Reads /proc and nothing else.
//!
//! The figure is the sum of `task/*/schedstat`, in nanoseconds: `utime` and `stime` count clock ticks of
//! 10 ms, too coarse for a run at 100 requests a second. A thread that ends takes its schedstat with it, so
//! where one ended in between, the ticks (which survive it) are used and the answer says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// CPU time of one process tree at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Nanoseconds on a CPU, by process and thread.
    threads: BTreeMap<(u32, u32), u64>,
    /// `utime + stime` of the tree and of its children that have ended, as nanoseconds.
    ticks_ns: u64,
}

/// CPU time between two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Nanoseconds on a CPU.
    pub(crate) ns: u64,
    /// False where a thread ended in between and clock ticks had to do.
    pub(crate) exact: bool,
}

impl Snapshot {
    /// Of `root` and all that descend from it, now.
    pub(crate) fn take(root: u32) -> Result<Self> {
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        let mut snapshot = Self::default();
        for process in tree(root)? {
            snapshot.ticks_ns += process.ticks * tick_ns;
            let tasks = format!("/proc/{}/task", process.pid);
            for tid in numbered_entries(Path::new(&tasks)) {
                // A thread may end between the listing and the reading; `since` notices.
                if let Ok(text) = fs::read_to_string(format!("{tasks}/{tid}/schedstat")) {
                    snapshot.threads.insert((process.pid, tid), on_cpu_ns(&text)?);
                }
            }
        }
        Ok(snapshot)
    }

    /// The first snapshot at which the tree has gone quiet: work that a request left behind (a batch of rows
    /// to commit) is then counted too. After `deadline` it takes the tree as it is. A step is longer than the gateway's rows
    /// gather twice, after which it commits what it has put off.
    pub(crate) fn when_quiet(root: u32, deadline: Duration) -> Result<Self> {
        const STEP: Duration = Duration::from_millis(120);
        const QUIET_NS: u64 = 700_000;
        let started = Instant::now();
        let mut last = Self::take(root)?;
        loop {
            thread::sleep(STEP);
            let now = Self::take(root)?;
            if now.since(&last).ns < QUIET_NS || started.elapsed() > deadline {
                return Ok(now);
            }
            last = now;
        }
    }

    /// What was spent from `earlier` to this snapshot.
    pub(crate) fn since(&self, earlier: &Self) -> Spent {
        let exact = earlier.threads.keys().all(|thread| self.threads.contains_key(thread));
        let total = |snapshot: &Self| snapshot.threads.values().sum::<u64>();
        let ns = if exact {
            total(self).saturating_sub(total(earlier))
        } else {
            self.ticks_ns.saturating_sub(earlier.ticks_ns)
        };
        Spent { ns, exact }
    }
}

/// CPU time that the tree spends on `work` and on what it leaves behind, in nanoseconds, with what comes of the work.
pub(crate) fn spent_on<T>(root: u32, work: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
    const LIMIT: Duration = Duration::from_secs(5);
    let before = Snapshot::when_quiet(root, LIMIT)?;
    let done = work()?;
    Ok((Snapshot::when_quiet(root, LIMIT)?.since(&before).ns, done))
}

/// Resident memory of the tree, in bytes.
pub(crate) fn resident_bytes(root: u32) -> Result<u64> {
    memory(root, "VmRSS:")
}

/// The most resident memory that the tree's processes have had, in bytes.
pub(crate) fn peak_bytes(root: u32) -> Result<u64> {
    memory(root, "VmHWM:")
}

/// Resident memory of this process alone, in bytes.
pub(crate) fn own_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    field_bytes(&status, "VmRSS:").context("no VmRSS: in /proc/<pid>/status")
}

fn memory(root: u32, field: &str) -> Result<u64> {
    tree(root)?.iter().try_fold(0, |sum, process| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
        Ok(sum + field_bytes(&status, field).with_context(|| format!("no {field} in /proc/<pid>/status"))?)
    })
}

/// One process, from its `stat` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    /// Clock ticks in user and kernel mode, with those of its children that have ended.
    ticks: u64,
}

fn tree(root: u32) -> Result<Vec<Process>> {
    let mut all: Vec<Process> = numbered_entries(Path::new("/proc"))
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).ok())
        .filter_map(|line| parse_stat(&line))
        .collect();
    let mut members = vec![root];
    let mut found = Vec::new();
    while let Some(pid) = members.pop() {
        members.extend(all.iter().filter(|process| process.parent == pid).map(|process| process.pid));
        found.extend(all.extract_if(.., |process| process.pid == pid));
    }
    ensure!(!found.is_empty(), "process {root} is gone");
    Ok(found)
}

fn numbered_entries(directory: &Path) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The first number of a `schedstat` line: nanoseconds spent on a CPU (proc_pid_schedstat).
fn on_cpu_ns(schedstat: &str) -> Result<u64> {
    let first = schedstat.split_ascii_whitespace().next().context("an empty schedstat")?;
    first.parse().context("a schedstat that does not start with a number")
}

/// `pid (comm) state ppid ... utime stime cutime cstime ...`; `comm` may hold spaces and parentheses.
fn parse_stat(line: &str) -> Option<Process> {
    let (pid, _) = line.split_once(' ')?;
    let (_, after_comm) = line.rsplit_once(')')?;
    let fields: Vec<&str> = after_comm.split_ascii_whitespace().collect();
    let times = fields.get(11..15)?;
    let ticks = times.iter().map(|field| field.parse::<u64>()).sum::<Result<u64, _>>().ok()?;
    Some(Process { pid: pid.parse().ok()?, parent: fields.get(1)?.parse().ok()?, ticks })
}

fn field_bytes(status: &str, field: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(threads: &[((u32, u32), u64)], ticks_ns: u64) -> Snapshot {
        Snapshot { threads: threads.iter().copied().collect(), ticks_ns }
    }

    #[test]
    fn schedstat_gives_its_first_number() {
        assert_eq!(on_cpu_ns("128590 2000342 2\n").unwrap(), 128_590);
        assert!(on_cpu_ns("").is_err());
        assert!(on_cpu_ns("a b c").is_err());
    }

    #[test]
    fn a_stat_line_with_parentheses_and_spaces_in_the_name_is_read() {
        let line = "77 (a) b (c) S 42 77 77 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 9 0 1 2 3";
        assert_eq!(parse_stat(line), Some(Process { pid: 77, parent: 42, ticks: 124 }));
        assert_eq!(parse_stat("77 (cut) S 42"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(field_bytes("Name:\tx\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2_097_152));
        assert_eq!(field_bytes("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn new_threads_count_and_a_thread_that_ended_falls_back_to_ticks() {
        let before = snapshot(&[((1, 1), 100), ((1, 2), 50)], 1_000);
        let grown = snapshot(&[((1, 1), 150), ((1, 2), 50), ((1, 3), 7)], 2_000);
        assert_eq!(grown.since(&before), Spent { ns: 57, exact: true });
        let shrunk = snapshot(&[((1, 1), 150)], 3_000);
        assert_eq!(shrunk.since(&before), Spent { ns: 2_000, exact: false });
    }

    #[test]
    fn this_process_is_seen_to_spend_what_it_spends() {
        let before = Snapshot::take(std::process::id()).unwrap();
        let spinning = Instant::now();
        while spinning.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        let spent = Snapshot::take(std::process::id()).unwrap().since(&before);
        assert!(spent.ns > 0, "{spent:?}");
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(Snapshot::take(u32::MAX).is_err());
    }
}
