//! What the system lets this process have.

use super::Finding;
use crate::config::EdgeConfig;
use crate::metrics::process;
use crate::rlimit;

/// With fewer no gateway is of use.
const LEAST: u64 = 1_024;

/// Looks at the limit of open files.
pub(super) fn look(edge: &EdgeConfig) -> Finding {
    judge(process::max_fds(), edge.max_connections)
}

fn judge(limit: Option<u64>, connections: usize) -> Finding {
    let Some(limit) = limit else { return Finding::ok("fds", "open files have no limit") };
    let wanted = rlimit::wanted(connections);
    let seen = format!("{limit} files may be open; edge.max_connections of {connections} can take {wanted}");
    let hint = format!("`ulimit -n {wanted}`, LimitNOFILE={wanted} (conf/systemd), or a lower edge.max_connections");
    if limit < LEAST {
        Finding::fail("fds", seen, hint)
    } else if limit < wanted {
        Finding::warn("fds", seen, hint)
    } else {
        Finding::ok("fds", seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_limit_is_judged_by_the_connections_that_are_allowed() {
        let state = |limit, connections| judge(limit, connections).state;
        assert_eq!(state(None, 20_000), State::Ok);
        assert_eq!(state(Some(65_536), 20_000), State::Ok);
        assert_eq!(state(Some(4_096), 20_000), State::Warn);
        assert_eq!(state(Some(4_096), 1_000), State::Ok);
        assert_eq!(state(Some(256), 10), State::Fail);
    }
}
