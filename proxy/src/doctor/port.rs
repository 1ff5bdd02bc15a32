//! The listeners' addresses: free, or held by the gateway that runs on this data directory.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Finding;
use crate::config::Config;
use crate::listen;

/// Looks at them.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let listeners = [("edge.listen", config.edge.listen), ("admin.listen", config.admin.listen)];
    listeners.into_iter().map(|(key, address)| one(key, address, &config.data_dir)).collect()
}

fn one(key: &str, address: SocketAddr, data: &Path) -> Finding {
    let refused = match listen::bind(key, address, Duration::ZERO) {
        Ok(_) => return Finding::ok(key, format!("{address} is free")),
        Err(refused) => refused,
    };
    match owner(address.port()) {
        Some(owner) if owner.has_open(&data.join("lock")) => {
            Finding::ok(key, format!("{address} is held by this data directory's gateway, process {}", owner.pid))
        }
        Some(owner) => {
            let hint = format!("stop process {} ({}), or choose another address", owner.pid, owner.name());
            Finding::fail(key, refused, hint)
        }
        None => Finding::fail(key, refused, "`ss -ltnp` as root shows who listens there"),
    }
}

/// A process.
struct Process {
    pid: u32,
    root: PathBuf,
}

impl Process {
    /// What its descriptors lead to.
    fn open(&self) -> impl Iterator<Item = PathBuf> {
        let fds = std::fs::read_dir(self.root.join("fd")).into_iter().flatten().flatten();
        fds.filter_map(|fd| std::fs::read_link(fd.path()).ok())
    }

    fn has_open(&self, path: &Path) -> bool {
        let Ok(path) = std::path::absolute(path) else { return false };
        self.open().any(|open| open == path)
    }

    fn name(&self) -> String {
        std::fs::read_to_string(self.root.join("comm")).unwrap_or_default().trim().to_owned()
    }
}

/// Who listens on this port, where the system says it.
fn owner(port: u16) -> Option<Process> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let sockets: HashSet<PathBuf> = tables.iter().flat_map(|table| listening(table, port)).collect();
    let processes = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some(Process { pid, root: entry.path() })
    });
    let mut holders = processes.filter(|process| process.open().any(|open| sockets.contains(&open)));
    holders.next()
}

/// The sockets that listen on a port, as descriptors show them (proc(5), `/proc/net/tcp`: 0A is LISTEN).
fn listening(table: &str, port: u16) -> Vec<PathBuf> {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        let inode = fields.nth(5)?;
        let (_, found) = local.rsplit_once(':')?;
        let here = u16::from_str_radix(found, 16).ok()? == port && state == "0A";
        here.then(|| PathBuf::from(format!("socket:[{inode}]")))
    };
    table.lines().skip(1).filter_map(socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_is_found_by_the_socket() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n   \
                     1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0\n";
        assert_eq!(listening(table, 8080), [PathBuf::from("socket:[4711]")]);
        assert!(listening(table, 8081).is_empty());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = owner(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(found.pid, std::process::id());
    }
}
