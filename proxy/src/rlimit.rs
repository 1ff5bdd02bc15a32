//! What the system allows this process: as many open files as it may have, since each connection is one; no core dump,
//! which would hold the keys of every upstream (check A-10); and no huge pages, of which each thread's first allocation would
//! take one whole.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
#[cfg(target_os = "linux")]
use rustix::thread::disable_transparent_huge_pages;

/// Files that are open whatever the load: the database, logs, listeners, idle connections to upstreams.
const STANDING: u64 = 1_200;

/// Takes what the system gives. What it refuses is logged; the gateway serves with less.
pub(crate) fn prepare() {
    let files = getrlimit(Resource::Nofile);
    if let Err(err) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }) {
        tracing::warn!(%err, "the limit of open files can't be raised to what the system allows");
    }
    #[cfg(target_os = "linux")]
    if let Err(err) = disable_transparent_huge_pages(true) {
        tracing::debug!(%err, "huge pages can't be turned off; the gateway takes more memory");
    }
    if let Err(err) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum })
    {
        tracing::warn!(%err, "core dumps can't be turned off: one would hold the upstreams' keys");
    }
}

/// Files that so many connections of clients can take: each may be served by one of its own to an upstream.
pub(crate) fn wanted(max_connections: usize) -> u64 {
    u64::try_from(max_connections).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(STANDING)
}

/// Whether so many connections fit into the files that this process may open; else what to do about it.
pub(crate) fn fits(max_connections: usize) -> Result<(), String> {
    let wanted = wanted(max_connections);
    match getrlimit(Resource::Nofile).maximum {
        Some(most) if most < wanted => Err(format!(
            "this process may open {most} files, and edge.max_connections = {max_connections} can take {wanted}: raise it (`ulimit -n`, LimitNOFILE=), or lower edge.max_connections"
        )),
        Some(_) | None => Ok(()),
    }
}
