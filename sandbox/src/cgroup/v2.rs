//! Control groups of version 2: one tree, one directory a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{PERIOD_MICROSECONDS, Usage, kill_listed, number, number_of, quota_microseconds, write};
use crate::{Limits, RunId};

/// The directory that runs are made in; its controllers are on for what is below it.
#[derive(Debug)]
pub(crate) struct Tree {
    base: PathBuf,
    cpu: bool,
}

/// One run's directory.
#[derive(Debug)]
pub(super) struct Group {
    dir: [PathBuf; 1],
}

impl Tree {
    /// The runs will be in `base`, which exists and whose parent hands down `controllers`.
    pub(super) fn below(base: PathBuf, controllers: &[&str]) -> io::Result<Self> {
        let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
        write(&base, "cgroup.subtree_control", &wanted.join(" "))?;
        Ok(Self { base, cpu: controllers.contains(&"cpu") })
    }

    pub(super) fn has_cpu(&self) -> bool {
        self.cpu
    }

    pub(super) fn make(&self, id: &RunId, limits: &Limits) -> io::Result<Group> {
        let dir = self.base.join(id.as_str());
        fs::create_dir(&dir)?;
        let group = Group { dir: [dir] };
        let limited = self.limit(&group.dir[0], limits);
        if limited.is_err() {
            // The limit's own failure is what is told.
            let _ = fs::remove_dir(&group.dir[0]);
        }
        limited.map(|()| group)
    }

    fn limit(&self, dir: &Path, limits: &Limits) -> io::Result<()> {
        write(dir, "memory.max", &limits.memory_bytes.to_string())?;
        // Absent where the kernel has no swap.
        if dir.join("memory.swap.max").exists() {
            write(dir, "memory.swap.max", "0")?;
        }
        write(dir, "memory.oom.group", "1")?;
        write(dir, "pids.max", &limits.processes.to_string())?;
        if self.cpu {
            write(dir, "cpu.max", &format!("{} {PERIOD_MICROSECONDS}", quota_microseconds(limits.cpu_millis)))?;
        }
        Ok(())
    }
}

impl Group {
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dir
    }

    pub(super) fn usage(&self) -> Usage {
        let [dir] = &self.dir;
        Usage {
            memory_peak_bytes: number(dir, "memory.peak"),
            cpu: number_of(dir, "cpu.stat", "usage_usec").map(Duration::from_micros),
            oom_kills: number_of(dir, "memory.events", "oom_kill").unwrap_or(0),
            refused_processes: number_of(dir, "pids.events", "max").unwrap_or(0),
        }
    }

    pub(super) fn kill(&self) {
        let [dir] = &self.dir;
        // Kernels before 5.14 have no such file.
        if write(dir, "cgroup.kill", "1").is_err() {
            let _ = write(dir, "cgroup.freeze", "1");
            kill_listed(dir);
            let _ = write(dir, "cgroup.freeze", "0");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would have made in a new group.
    fn files(dir: &Path) {
        for file in ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.procs"] {
            fs::write(dir.join(file), "").unwrap();
        }
    }

    #[test]
    fn a_run_is_limited_by_every_controller() {
        let base = tempfile::tempdir().unwrap();
        let tree = Tree::below(base.path().to_owned(), &["cpu", "memory", "pids"]).unwrap();
        let said = fs::read_to_string(base.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(said, "+cpu +memory +pids");
        let dir = base.path().join("run");
        fs::create_dir(&dir).unwrap();
        files(&dir);
        let limits = Limits { memory_bytes: 1 << 28, processes: 7, cpu_millis: 250, ..Limits::default() };
        tree.limit(&dir, &limits).unwrap();
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read("memory.max"), "268435456");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(read("cpu.max"), "25000 100000");
    }

    #[test]
    fn what_a_run_used_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("memory.peak", "1048576\n"),
            ("cpu.stat", "usage_usec 2500\nuser_usec 2000\n"),
            ("memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 1\n"),
            ("pids.events", "max 9\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let usage = Group { dir: [dir.path().to_owned()] }.usage();
        let wanted = Usage {
            memory_peak_bytes: Some(1 << 20),
            cpu: Some(Duration::from_micros(2500)),
            oom_kills: 3,
            refused_processes: 9,
        };
        assert_eq!(usage, wanted);
    }
}
