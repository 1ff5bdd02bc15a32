//! The benchmark's own promise, kept from outside: whatever way a run ends, none of its processes and nothing
//! of its directory is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(30);

/// Polls until `condition` gives something.
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that work in or were told of `directory`, by their arguments or their open log.
fn processes_of(directory: &Path) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let output = fs::read_link(entry.path().join("fd/1")).unwrap_or_default();
        if output.starts_with(directory) {
            found.insert(pid);
        }
    }
    found
}

/// A run that has started its upstream and both floors and is busy with the first scenario.
fn busy_run(directory: &Path) -> Child {
    let run = Command::new(env!("CARGO_BIN_EXE_openclawmu-bench"))
        .args(["run", "--aa", "--pairs", "1000", "--only", "open_100", "--data-parent"])
        .arg(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("three processes", || (processes_of(directory).len() == 3).then_some(()));
    run
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_run_that_is_interrupted_fails_and_leaves_no_process_and_no_file() {
    for sent in [Signal::INT, Signal::TERM] {
        let directory = tempfile::tempdir().unwrap();
        let mut run = busy_run(directory.path());
        signal(&run, sent);
        let status = wait_for("the run to end", || run.try_wait().unwrap());
        assert_eq!(status.code(), Some(1), "{status}");
        assert_eq!(processes_of(directory.path()), BTreeSet::new());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_run_that_is_killed_leaves_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = busy_run(directory.path());
    signal(&run, Signal::KILL);
    run.wait().unwrap();
    wait_for("its processes to end", || processes_of(directory.path()).is_empty().then_some(()));
}

#[test]
fn a_quick_run_of_the_floor_against_itself_answers_everything_and_tells_it_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_openclawmu-bench"))
        .args(["run", "--aa", "--quick", "--only", "closed_1k", "--only", "streams", "--json"])
        .arg(&json)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let units = |line: usize| report["lines"][line]["pairs"][0]["subject"]["units"].as_u64();
    assert_eq!((units(0), units(1)), (Some(4_000), Some(100 * 200)));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("closed_1k") && text.contains("idle RSS"), "{text}");
    assert!(!text.contains("bar "), "a floor has no bar to meet: {text}");
}

#[test]
fn a_gateway_that_cannot_be_started_is_named_with_what_it_printed() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_openclawmu-bench"))
        .args(["run", "--quick", "--gateway", "/bin/false", "--data-parent"])
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("gateway: ended with exit status: 1"), "{said}");
    assert_eq!(processes_of(directory.path()), BTreeSet::new());
}
