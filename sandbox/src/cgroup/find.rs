//! Which control groups there are, where this process is in them, and what a dead process left there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cgroups, v1, v2};

/// What every directory of ours begins with.
const PREFIX: &str = "openclawmu.";
/// Where a process of version 2 moves to, since one with members of its own hands no controllers down.
const LEAF: &str = "openclawmu-gateway";

/// One tree, as `/proc/self/mountinfo` has it.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The group that is at the mount's top.
    root: String,
    at: PathBuf,
    /// Of version 1; empty for version 2.
    controllers: Vec<String>,
}

pub(super) fn find() -> Cgroups {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (mounts, own) = (mounts(&read("/proc/self/mountinfo")), read("/proc/self/cgroup"));
    let Some(name) = own_name() else {
        return Cgroups::Degraded("/proc says nothing of this process".to_owned());
    };
    let mut reasons = Vec::new();
    match version_2(&mounts, &own, &name) {
        Ok(tree) => return Cgroups::V2(tree),
        Err(reason) => reasons.push(format!("version 2: {reason}")),
    }
    match version_1(&mounts, &own, &name) {
        Ok(trees) => return Cgroups::V1(trees),
        Err(reason) => reasons.push(format!("version 1: {reason}")),
    }
    Cgroups::Degraded(reasons.join("; "))
}

fn version_2(mounts: &[Mount], own: &str, name: &str) -> Result<v2::Tree, String> {
    let mount = mounts.iter().find(|mount| mount.controllers.is_empty()).ok_or("it is not mounted")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).ok_or("this process is in none")?;
    let here = below(mount, path).ok_or("this process's group is not mounted")?;
    // After an upgrade the new process finds itself where the old one went.
    let here = if here.ends_with(LEAF) { here.parent().map(Path::to_owned).unwrap_or(here) } else { here };
    let there = fs::read_to_string(here.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &&&str| there.split_whitespace().any(|one| one == **name);
    let controllers: Vec<&str> = ["cpu", "memory", "pids"].iter().filter(has).copied().collect();
    if !controllers.contains(&"memory") || !controllers.contains(&"pids") {
        return Err("the controllers memory and pids are not handed down".to_owned());
    }
    let told = |err: io::Error| format!("{}: {err}", here.display());
    make_room(&here).map_err(told)?;
    let wanted: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    super::write(&here, "cgroup.subtree_control", &wanted.join(" ")).map_err(|err| err.to_string())?;
    sweep(&here);
    v2::Tree::below(own_directory(&here, name).map_err(told)?, &controllers).map_err(|err| err.to_string())
}

/// Moves this process into a leaf, if the group is its alone. The system's top group needs no such thing.
fn make_room(here: &Path) -> io::Result<()> {
    if !here.join("cgroup.type").exists() {
        return Ok(());
    }
    let members = fs::read_to_string(here.join("cgroup.procs"))?;
    let own = std::process::id().to_string();
    if members.lines().any(|pid| pid != own) {
        return Err(io::Error::other("other processes are in this group; run the gateway in one of its own"));
    }
    if members.is_empty() {
        return Ok(());
    }
    let leaf = here.join(LEAF);
    match fs::create_dir(&leaf) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => return Err(err),
        _ => {}
    }
    super::write(&leaf, "cgroup.procs", &own)
}

fn version_1(mounts: &[Mount], own: &str, name: &str) -> Result<v1::Trees, String> {
    let base = |controller: &str| -> Result<PathBuf, String> {
        let has = |mount: &&Mount| mount.controllers.iter().any(|one| one == controller);
        let mount = mounts.iter().find(has).ok_or(format!("{controller} is not mounted"))?;
        let path = own_path(own, controller).ok_or(format!("this process is in no group of {controller}"))?;
        let here = below(mount, path).ok_or(format!("this process's group of {controller} is not mounted"))?;
        sweep(&here);
        own_directory(&here, name).map_err(|err| format!("{}: {err}", here.display()))
    };
    Ok(v1::Trees {
        memory: base("memory")?,
        pids: base("pids")?,
        cpu: base("cpu").ok(),
        cpuacct: base("cpuacct").ok(),
        freezer: base("freezer").ok(),
    })
}

/// The path of this process in the tree of a controller; a line is `7:cpu,cpuacct:/path`.
fn own_path<'o>(own: &'o str, controller: &str) -> Option<&'o str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    })
}

/// Where a group is in the file system; in a container the mount shows a part of the tree alone.
fn below(mount: &Mount, path: &str) -> Option<PathBuf> {
    let rest = if mount.root == "/" { path } else { path.strip_prefix(&mount.root).unwrap_or("/") };
    let here = mount.at.join(rest.trim_start_matches('/'));
    here.is_dir().then_some(here)
}

fn own_directory(here: &Path, name: &str) -> io::Result<PathBuf> {
    let dir = here.join(name);
    match fs::create_dir(&dir) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err),
        _ => Ok(dir),
    }
}

/// `openclawmu.<namespace>.<process>.<its start>`: no other process ever has it.
fn own_name() -> Option<String> {
    let pid = std::process::id();
    Some(format!("{PREFIX}{}.{pid}.{}", pid_namespace()?, started(pid)?))
}

fn pid_namespace() -> Option<String> {
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_str()?.chars().filter(char::is_ascii_digit).collect())
}

/// When a process started, in the kernel's ticks; none if there is no such process.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, also blanks and parentheses.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Removes what dead processes left in a group. One of another namespace can't be judged from here and stays.
fn sweep(here: &Path) {
    let Ok(entries) = fs::read_dir(here) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(is_of_the_dead) {
            remove_all(&entry.path());
        }
    }
}

fn is_of_the_dead(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('.');
    let (namespace, pid, start) = (parts.next(), parts.next(), parts.next());
    let ours = namespace.is_some_and(|namespace| Some(namespace) == pid_namespace().as_deref());
    match (pid.and_then(|pid| pid.parse().ok()), start.and_then(|start| start.parse::<u64>().ok())) {
        (Some(pid), Some(start)) if ours => started(pid) != Some(start),
        _ => false,
    }
}

fn remove_all(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            super::kill_listed(&entry.path());
            remove_all(&entry.path());
        }
    }
    let until = std::time::Instant::now() + super::PATIENCE;
    while let Err(err) = fs::remove_dir(dir) {
        if err.kind() != io::ErrorKind::ResourceBusy || std::time::Instant::now() > until {
            tracing::warn!("a control group of a dead process stays: {}: {err}", dir.display());
            return;
        }
        std::thread::sleep(super::PAUSE);
    }
}

fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

/// One line: `36 31 0:33 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory`.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let (root, at) = (before.next()?, before.next()?);
    let mut after = after.split(' ');
    let kind = after.next()?;
    let options = after.nth(1)?;
    let controllers = match kind {
        "cgroup2" => Vec::new(),
        "cgroup" => options.split(',').map(str::to_owned).collect(),
        _ => return None,
    };
    Some(Mount { root: root.to_owned(), at: PathBuf::from(at), controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_read_from_the_mounts() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n\
                    41 31 0:38 /docker/x /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = mounts(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].controllers, ["rw", "cpu", "cpuacct"]);
        assert_eq!(found[1].root, "/docker/x");
        assert!(found[1].controllers.is_empty());
        assert_eq!(own_path("8:pids:/a\n7:cpu,cpuacct:/b:c\n0::/\n", "cpuacct"), Some("/b:c"));
    }

    #[test]
    fn x37_only_what_a_dead_process_of_this_namespace_left_is_swept() {
        let here = tempfile::tempdir().unwrap();
        let own = own_name().unwrap();
        let dead = format!("{PREFIX}{}.{}.1", pid_namespace().unwrap(), std::process::id());
        let elsewhere = format!("{PREFIX}12.{}.1", std::process::id());
        for name in [&own, &dead, &elsewhere, "user.slice", "openclawmu.x"] {
            fs::create_dir(here.path().join(name)).unwrap();
        }
        fs::create_dir(here.path().join(&dead).join("run-1")).unwrap();
        sweep(here.path());
        let mut left: Vec<String> =
            fs::read_dir(here.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort_unstable();
        let mut wanted = vec![own, elsewhere, "user.slice".to_owned(), "openclawmu.x".to_owned()];
        wanted.sort_unstable();
        assert_eq!(left, wanted);
    }

    #[test]
    fn a_group_with_other_members_is_left_alone() {
        let here = tempfile::tempdir().unwrap();
        fs::write(here.path().join("cgroup.type"), "domain\n").unwrap();
        fs::write(here.path().join("cgroup.procs"), format!("1\n{}\n", std::process::id())).unwrap();
        assert!(make_room(here.path()).is_err());
        fs::write(here.path().join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        make_room(here.path()).unwrap();
        let moved = fs::read_to_string(here.path().join(LEAF).join("cgroup.procs")).unwrap();
        assert_eq!(moved, std::process::id().to_string());
    }
}
