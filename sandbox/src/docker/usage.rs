//! What a run used, as process 1 read it from inside when the command had ended. A run that was killed says nothing.

use std::time::Duration;

/// What was said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Option<Duration>,
    pub(super) memory_peak_bytes: Option<u64>,
    pub(super) refused_processes: u64,
    pub(super) oom_kills: u64,
}

impl Usage {
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
                "oom_kills" => usage.oom_kills = number,
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
        assert_eq!((usage.memory_peak_bytes, usage.refused_processes, usage.oom_kills), (Some(4096), 3, 0));
        assert_eq!(Usage::parse(b""), Usage::default());
    }
}
