//! What a run used: as process 1 read it from inside when the command had ended, or, of a run that is about to be killed, as
//! this host's control groups tell. An engine on another kernel has groups that can't be seen from here: then nobody counted.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Where this host has its control groups.
const GROUPS: &str = "/sys/fs/cgroup";

/// What was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Option<Duration>,
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) refused_processes: u64,
    /// Absent where nobody counted.
    pub(super) oom_kills: Option<u64>,
}

/// The control groups of a process of this host's: `4:memory:/docker/...` a line in the first version, `0::/docker/...` in the second.
#[derive(Debug)]
pub(super) struct Groups(String);

impl Groups {
    /// Those that a process is in now; they can be asked until they are removed, also when it has gone.
    pub(super) fn of_process(pid: i64) -> Self {
        Self(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
    }

    /// How many processes were killed for their memory; none where nobody counts, or the groups are gone.
    pub(super) fn oom_kills(&self) -> Option<u64> {
        let second = || self.entry("memory", "memory.events", "oom_kill");
        self.entry("memory", "memory.oom_control", "oom_kill").or_else(second)
    }

    fn read(&self, controller: &str, file: &str) -> Option<String> {
        let first = self.0.lines().find_map(|line| {
            let (_, line) = line.split_once(':')?;
            let (controllers, path) = line.split_once(':')?;
            controllers.split(',').any(|one| one == controller).then_some((controllers, path))
        });
        let dir = match first {
            Some((controllers, path)) => format!("{controllers}{path}"),
            None => self.0.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned(),
        };
        fs::read_to_string(Path::new(GROUPS).join(dir).join(file)).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.read(controller, file)?.trim().parse().ok()
    }

    fn entry(&self, controller: &str, file: &str, key: &str) -> Option<u64> {
        let text = self.read(controller, file)?;
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }
}

impl Usage {
    /// Reads it from the control groups of a process of this host's.
    pub(super) fn of(groups: &Groups) -> Self {
        let micros = || groups.entry("cpu", "cpu.stat", "usage_usec").map(Duration::from_micros);
        let peak = || groups.number("memory", "memory.peak");
        Self {
            cpu: groups.number("cpuacct", "cpuacct.usage").map(Duration::from_nanos).or_else(micros),
            memory_peak_bytes: groups.number("memory", "memory.max_usage_in_bytes").or_else(peak),
            refused_processes: groups.entry("pids", "pids.events", "max").unwrap_or(0),
            oom_kills: groups.oom_kills(),
        }
    }

    /// Reads it out of the lines of the report.
    pub(super) fn parse(said: &[u8]) -> Self {
        let mut usage = Self::default();
        for line in String::from_utf8_lossy(said).lines() {
            let Some((word, Ok(number))) = line.split_once(' ').map(|(word, rest)| (word, rest.parse())) else {
                continue;
            };
            match word {
                "cpu_us" => usage.cpu = Some(Duration::from_micros(number)),
                "memory_peak" => usage.memory_peak_bytes = Some(number),
                "refused_processes" => usage.refused_processes = number,
                "oom_kills" => usage.oom_kills = Some(number),
                _ => {}
            }
        }
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_not_known() {
        let usage = Usage::parse(
            b"seccomp 2\nstarted\ncpu_us 1500\nmemory_peak 4096\nrefused_processes 3\noom_kills x\nexited 0\n",
        );
        assert_eq!(usage.cpu, Some(Duration::from_micros(1500)));
        assert_eq!((usage.memory_peak_bytes, usage.refused_processes, usage.oom_kills), (Some(4096), 3, None));
        assert_eq!(Usage::parse(b""), Usage::default());
    }
}
