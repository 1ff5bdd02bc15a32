//! Control groups of version 1: a tree for each controller, a directory in each for a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PERIOD_MICROSECONDS, Usage, kill_listed, number, number_of, quota_microseconds, write};
use crate::{Limits, RunId};

/// The directory that runs are made in, in the tree of each controller. Trees may be mounted together: then two are one.
#[derive(Debug)]
pub(crate) struct Trees {
    pub(super) memory: PathBuf,
    pub(super) pids: PathBuf,
    pub(super) cpu: Option<PathBuf>,
    pub(super) cpuacct: Option<PathBuf>,
    pub(super) freezer: Option<PathBuf>,
}

/// One run's directories.
#[derive(Debug)]
pub(super) struct Group {
    memory: PathBuf,
    pids: PathBuf,
    cpuacct: Option<PathBuf>,
    freezer: Option<PathBuf>,
    /// Each directory once.
    all: Vec<PathBuf>,
}

impl Trees {
    pub(super) fn has_cpu(&self) -> bool {
        self.cpu.is_some()
    }

    pub(super) fn make(&self, id: &RunId, limits: &Limits) -> io::Result<Group> {
        let of = |base: &PathBuf| base.join(id.as_str());
        let (memory, pids, cpu) = (of(&self.memory), of(&self.pids), self.cpu.as_ref().map(of));
        let (cpuacct, freezer) = (self.cpuacct.as_ref().map(of), self.freezer.as_ref().map(of));
        let mut all = vec![memory.clone(), pids.clone()];
        all.extend([&cpu, &cpuacct, &freezer].into_iter().flatten().cloned());
        all.sort_unstable();
        all.dedup();
        let made = make_all(&all).and_then(|()| limit(&memory, &pids, cpu.as_deref(), limits));
        if made.is_err() {
            for dir in &all {
                // What was not made can't be removed; the first failure is what is told.
                let _ = fs::remove_dir(dir);
            }
        }
        made.map(|()| Group { memory, pids, cpuacct, freezer, all })
    }
}

fn make_all(dirs: &[PathBuf]) -> io::Result<()> {
    dirs.iter().try_for_each(|dir| {
        fs::create_dir(dir).map_err(|err| io::Error::new(err.kind(), format!("{}: {err}", dir.display())))
    })
}

fn limit(memory: &Path, pids: &Path, cpu: Option<&Path>, limits: &Limits) -> io::Result<()> {
    let bytes = limits.memory_bytes.to_string();
    write(memory, "memory.limit_in_bytes", &bytes)?;
    // Absent where the kernel does not count swap.
    if memory.join("memory.memsw.limit_in_bytes").exists() {
        write(memory, "memory.memsw.limit_in_bytes", &bytes)?;
    }
    write(pids, "pids.max", &limits.processes.to_string())?;
    if let Some(cpu) = cpu {
        write(cpu, "cpu.cfs_period_us", &PERIOD_MICROSECONDS.to_string())?;
        write(cpu, "cpu.cfs_quota_us", &quota_microseconds(limits.cpu_millis).to_string())?;
    }
    Ok(())
}

impl Group {
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.all
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            memory_peak_bytes: number(&self.memory, "memory.max_usage_in_bytes"),
            cpu: self.cpuacct.as_ref().and_then(|dir| number(dir, "cpuacct.usage")).map(Duration::from_nanos),
            oom_kills: number_of(&self.memory, "memory.oom_control", "oom_kill").unwrap_or(0),
            refused_processes: number_of(&self.pids, "pids.events", "max").unwrap_or(0),
        }
    }

    /// Frozen first, so that nothing is born between the list and the signals. Where nobody is left nobody can be born.
    pub(super) fn kill(&self) {
        if fs::read(self.pids.join("cgroup.procs")).is_ok_and(|listed| listed.is_empty()) {
            return;
        }
        let freeze = |state: &str| {
            if let Some(dir) = &self.freezer {
                // It has gone if it can't be written; then the list is empty, too.
                let _ = write(dir, "freezer.state", state);
            }
        };
        freeze("FROZEN");
        kill_listed(&self.pids);
        freeze("THAWED");
    }
}
