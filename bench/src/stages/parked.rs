//! Whether a thread of another process waits for input. What is sent only then is read by itself, however fast or slow either
//! side runs: the number of instructions that it takes does not depend on chance.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// The system calls that a runtime waits in, as `/proc/<pid>/task/<tid>/syscall` names them: `epoll_wait` and its variants.
#[cfg(target_arch = "x86_64")]
const WAITS: [&str; 3] = ["232", "281", "441"];
#[cfg(not(target_arch = "x86_64"))]
const WAITS: [&str; 2] = ["22", "441"];
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_micros(100);

/// A thread that waits for input when it has nothing to do.
#[derive(Debug)]
pub(crate) struct Thread {
    syscall: PathBuf,
}

impl Thread {
    /// The first of the process's threads that has this name.
    pub(crate) fn named(process: u32, name: &str) -> Result<Self> {
        let tasks = PathBuf::from(format!("/proc/{process}/task"));
        let mut threads: Vec<u32> = fs::read_dir(&tasks)
            .with_context(|| format!("reading {}", tasks.display()))?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|thread: &u32| is_named(&tasks.join(thread.to_string()), name))
            .collect();
        threads.sort_unstable();
        let first = threads.first().with_context(|| format!("process {process} has no thread {name}"))?;
        Ok(Self { syscall: tasks.join(first.to_string()).join("syscall") })
    }

    /// Waits until it waits.
    pub(crate) fn wait(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let now =
                fs::read_to_string(&self.syscall).with_context(|| format!("reading {}", self.syscall.display()))?;
            if is_wait(&now) {
                return Ok(());
            }
            ensure!(started.elapsed() < LIMIT, "a thread was busy for {LIMIT:?}: it is in {}", now.trim());
            thread::sleep(POLL);
        }
    }
}

fn is_named(task: &Path, name: &str) -> bool {
    fs::read_to_string(task.join("comm")).is_ok_and(|found| found.trim_end() == name)
}

fn is_wait(syscall: &str) -> bool {
    syscall.split_ascii_whitespace().next().is_some_and(|number| WAITS.contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_runs_or_waits_for_something_else_does_not_wait_for_input() {
        assert!(is_wait(&format!("{} 0x3 0x7f 0x400\n", WAITS[0])));
        assert!(!is_wait("running\n") && !is_wait("202 0x7f 0x80\n") && !is_wait("-1 0x7f 0x7f\n") && !is_wait(""));
    }

    #[test]
    fn a_thread_is_found_by_its_name_and_one_that_is_not_there_is_told() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (up, is_up) = std::sync::mpsc::channel();
        let named = thread::Builder::new().name("bench-parked".to_owned());
        let running = named.spawn(move || {
            up.send(()).unwrap();
            wait.recv().unwrap_err();
        });
        is_up.recv().unwrap();
        let process = std::process::id();
        assert!(Thread::named(process, "bench-parked").is_ok());
        let fault = Thread::named(process, "bench-absent").unwrap_err();
        assert!(format!("{fault}").contains("bench-absent"), "{fault}");
        drop(go);
        running.unwrap().join().unwrap();
    }
}
