//! What the system says of this process. `None` where it does not say it.

use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CPU time so far.
pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

/// Resident memory.
pub(super) fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Open file descriptors; the one that they are counted with is among them.
pub(crate) fn open_fds() -> Option<u64> {
    u64::try_from(std::fs::read_dir("/dev/fd").ok()?.count()).ok()
}

/// The most file descriptors that may be open; `None` where there is no limit.
pub(crate) fn max_fds() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether this process, or the whole system, can open nothing more.
pub(crate) fn is_exhausted() -> bool {
    let opened = std::fs::File::open("/dev/null");
    opened.is_err_and(|err| matches!(Errno::from_io_error(&err), Some(Errno::MFILE | Errno::NFILE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_there() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1200 kB\n"), Some(1_228_800));
        assert_eq!(resident("Name:\tx\n"), None);
        assert!(open_fds().unwrap() > 2);
        assert!(cpu() > Duration::ZERO);
        assert!(!is_exhausted());
    }
}
