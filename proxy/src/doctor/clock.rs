//! Whether the time can be right: budgets follow the calendar.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use openclawmu_store::{Clock, SystemClock, UnixMs};

use super::Finding;

/// Any running program is newer than the day on which this one's first rate card was written.
const BUILT: &str = "2026-11-01T00:00:00Z";
/// How far the clock may be behind a file that the gateway has written.
const BEHIND_MS: i64 = 5_000;
/// Longest wait for `timedatectl`.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at it.
pub(super) async fn look(data: &Path) -> Vec<Finding> {
    let now = SystemClock.now();
    let newest = ["openclawmu.db-wal", "openclawmu.db", "audit/audit.jsonl", "pepper.key"]
        .into_iter()
        .filter_map(|name| std::fs::metadata(data.join(name)).and_then(|meta| meta.modified()).ok())
        .max()
        .and_then(since_1970);
    let mut findings = vec![sane(now, newest)];
    findings.extend(synchronized().await);
    findings
}

fn since_1970(time: SystemTime) -> Option<UnixMs> {
    let ms = time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(ms).ok().map(UnixMs)
}

fn sane(now: UnixMs, newest: Option<UnixMs>) -> Finding {
    let hint = "set the clock, and keep it right with NTP: budgets follow the calendar";
    if now < UnixMs::parse_rfc3339(BUILT).unwrap_or_default() {
        return Finding::fail(
            "clock",
            format!("it is {} on this machine, before this program was made", now.rfc3339()),
            hint,
        );
    }
    match newest {
        Some(newest) if newest.0.saturating_sub(now.0) > BEHIND_MS => Finding::fail(
            "clock",
            format!(
                "it is {}, but the data directory was written at {}: the clock went back",
                now.rfc3339(),
                newest.rfc3339()
            ),
            hint,
        ),
        Some(_) | None => Finding::ok("clock", now.rfc3339()),
    }
}

/// Whether the clock is kept right, where the system says it.
async fn synchronized() -> Option<Finding> {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    match String::from_utf8_lossy(&said.stdout).trim() {
        "yes" => Some(Finding::ok("clock.ntp", "synchronized")),
        "no" => Some(Finding::warn("clock.ntp", "the clock is not synchronized", "`timedatectl set-ntp true`")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_clock_that_is_behind_its_own_files_is_wrong() {
        let at = |text: &str| UnixMs::parse_rfc3339(text).unwrap();
        let now = at("2026-12-01T00:00:00Z");
        assert_eq!(sane(now, None).state, State::Ok);
        assert_eq!(sane(now, Some(UnixMs(now.0 + BEHIND_MS))).state, State::Ok);
        assert_eq!(sane(now, Some(UnixMs(now.0 + BEHIND_MS + 1))).state, State::Fail);
        assert_eq!(sane(at("1970-01-01T00:00:00Z"), None).state, State::Fail);
    }
}
