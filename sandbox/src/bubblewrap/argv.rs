//! What bubblewrap is told: a pure function of the job and of the numbers of the descriptors that go with it.
//!
//! Must never hold a secret or a path of the host's tenants: arguments can be read by whoever shares the machine. Must never
//! name a mount destination below a directory that a tenant can write to (CVE-2026-87766): the workspace is bound last, and
//! nothing is bound into it.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::path::PathBuf;

use super::mounts::Place;
use crate::egress::ENVIRONMENT;
use crate::{Job, Stdio};

/// The user inside.
pub(super) const INNER_UID: u32 = 1000;
/// Where the tenant's files are inside.
pub(super) const WORKSPACE: &str = "/workspace";
/// Where the egress socket is inside.
pub(super) const EGRESS: &str = "/run/egress.sock";
/// Files of `/proc` that tell of the whole machine.
pub(super) const HIDDEN: [&str; 4] = ["/proc/keys", "/proc/key-users", "/proc/kallsyms", "/proc/timer_list"];
/// What `/dev/shm`, `/tmp` and `/run` may hold, in bytes; what they do hold counts as the run's memory.
const SHM_BYTES: &str = "16777216";
const TMP_BYTES: &str = "67108864";
const RUN_BYTES: &str = "1048576";

/// The descriptors that bubblewrap inherits, by number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptors {
    /// The directory that becomes `/etc`. This and the next are absent where they are mounted at the place already.
    pub(super) etc: Option<RawFd>,
    pub(super) workspace: Option<RawFd>,
    pub(super) seccomp: [RawFd; 2],
    pub(super) egress: Option<RawFd>,
    pub(super) helper: RawFd,
    pub(super) status: RawFd,
}

/// What the machine has, as it was when the backend started.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// The directory that becomes `/usr`.
    pub(super) usr: PathBuf,
    /// Which of `bin`, `sbin`, `lib`, `lib32`, `lib64`, `libx32` it has.
    pub(super) usr_links: Vec<String>,
    /// Which of [`HIDDEN`] its kernel has.
    pub(super) hidden: Vec<&'static str>,
    /// Where the new process has `/etc`, the workspace and the egress socket, if it mounts them itself.
    pub(super) place: Option<Place>,
}

/// All options; they go through a descriptor, and what follows them is [`command`].
pub(super) fn options(job: &Job, fds: &Descriptors, host: &Host) -> Vec<OsString> {
    let mut args = Arguments(Vec::new());
    namespaces(&mut args, job);
    environment(&mut args, job);
    system(&mut args, fds, host);
    if job.egress.is_some() {
        bind(&mut args, "--bind", fds.egress, host.place.as_ref().map(Place::egress), EGRESS);
    }
    bind(&mut args, "--bind", fds.workspace, host.place.as_ref().map(Place::workspace), WORKSPACE);
    args.add(["--chdir"]).0.push(match &job.cwd {
        Some(below) => PathBuf::from(WORKSPACE).join(below.as_os_str()).into_os_string(),
        None => WORKSPACE.into(),
    });
    for path in &host.hidden {
        args.add(["--ro-bind", "/dev/null", path]);
    }
    args.add(["--remount-ro", "/dev", "--remount-ro", "/run", "--remount-ro", "/"]);
    for fd in fds.seccomp {
        args.add(["--add-seccomp-fd"]).number(fd);
    }
    args.0
}

/// Process 1 and, through it, the command.
pub(super) fn command(job: &Job, fds: &Descriptors) -> Vec<OsString> {
    let mut args = Arguments(vec![format!("/proc/self/fd/{}", fds.helper).into()]);
    args.add(["--status-fd"]).number(fds.status);
    if job.egress.is_some() {
        args.add(["--egress", EGRESS]);
    }
    args.add(["--"]).0.extend(job.command.iter().cloned());
    args.0
}

/// By its descriptor, or from where it has been mounted.
fn bind(args: &mut Arguments, how: &str, fd: Option<RawFd>, mounted: Option<PathBuf>, to: &str) {
    match (fd, mounted) {
        (Some(fd), _) => {
            args.add([format!("{how}-fd").as_str()]).number(fd).add([to]);
        }
        (None, Some(path)) => {
            args.add([how]).0.push(path.into_os_string());
            args.add([to]);
        }
        (None, None) => {}
    }
}

fn namespaces(args: &mut Arguments, job: &Job) {
    args.add([
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup",
    ]);
    args.add(["--disable-userns", "--assert-userns-disabled"]);
    let uid = INNER_UID.to_string();
    args.add(["--uid", &uid, "--gid", &uid, "--die-with-parent", "--as-pid-1"]);
    if matches!(job.stdio, Stdio::Piped(_)) {
        args.add(["--new-session"]);
    }
    args.add(["--cap-drop", "ALL", "--hostname", "sandbox"]);
}

fn environment(args: &mut Arguments, job: &Job) {
    args.add(["--clearenv"]);
    for (name, value) in [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", WORKSPACE),
        ("LANG", "C.UTF-8"),
        ("TERM", if matches!(job.stdio, Stdio::Terminal(_)) { "xterm-256color" } else { "dumb" }),
    ] {
        args.add(["--setenv", name, value]);
    }
    if job.egress.is_some() {
        for (name, value) in ENVIRONMENT {
            args.add(["--setenv", name, value]);
        }
    }
    for (name, value) in &job.env {
        args.add(["--setenv"]).0.extend([name.clone(), value.clone()]);
    }
}

fn system(args: &mut Arguments, fds: &Descriptors, host: &Host) {
    args.add(["--ro-bind"]).0.push(host.usr.clone().into_os_string());
    args.add(["/usr"]);
    for name in &host.usr_links {
        args.add(["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
    }
    bind(args, "--ro-bind", fds.etc, host.place.as_ref().map(Place::etc), "/etc");
    args.add(["--proc", "/proc", "--dev", "/dev"]);
    args.add(["--perms", "1777", "--size", SHM_BYTES, "--tmpfs", "/dev/shm"]);
    args.add(["--perms", "1777", "--size", TMP_BYTES, "--tmpfs", "/tmp"]);
    args.add(["--perms", "0755", "--size", RUN_BYTES, "--tmpfs", "/run"]);
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn add<'a>(&mut self, more: impl IntoIterator<Item = &'a str>) -> &mut Self {
        self.0.extend(more.into_iter().map(|one| OsStr::new(one).to_owned()));
        self
    }

    fn number(&mut self, fd: RawFd) -> &mut Self {
        self.0.push(fd.to_string().into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostUid, Limits, RelPath, Root, RunId, Workspace};
    use proptest::prelude::*;
    use std::os::unix::ffi::OsStrExt;

    fn job(command: Vec<OsString>, env: Vec<(OsString, OsString)>, cwd: Option<RelPath>, egress: bool) -> Job {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        Job {
            id: RunId::parse("run").unwrap(),
            command,
            env,
            cwd,
            stdio: Stdio::Piped(Vec::new()),
            limits: Limits::default(),
            workspace: Workspace { root, owner: HostUid::new(200_000).unwrap(), held: None },
            egress: egress.then(|| PathBuf::from("/var/lib/secret-place/egress.sock")),
        }
    }

    fn fds(egress: bool) -> Descriptors {
        Descriptors {
            etc: Some(10),
            workspace: Some(14),
            seccomp: [15, 16],
            egress: egress.then_some(17),
            helper: 18,
            status: 19,
        }
    }

    fn host() -> Host {
        let usr_links = ["bin", "lib", "lib64", "sbin"].map(str::to_owned).to_vec();
        Host { usr: "/usr".into(), usr_links, hidden: HIDDEN.to_vec(), place: None }
    }

    /// How many arguments an option takes.
    fn arity(option: &str) -> usize {
        match option {
            "--ro-bind" | "--ro-bind-fd" | "--bind-fd" | "--symlink" | "--setenv" => 2,
            "--uid" | "--gid" | "--cap-drop" | "--hostname" | "--perms" | "--size" | "--proc" | "--dev" | "--tmpfs"
            | "--chdir" | "--remount-ro" | "--add-seccomp-fd" => 1,
            "--unshare-user"
            | "--unshare-ipc"
            | "--unshare-pid"
            | "--unshare-net"
            | "--unshare-uts"
            | "--unshare-cgroup"
            | "--disable-userns"
            | "--assert-userns-disabled"
            | "--die-with-parent"
            | "--as-pid-1"
            | "--new-session"
            | "--clearenv" => 0,
            other => panic!("an option that this test does not know: {other}"),
        }
    }

    /// The options, each with its arguments, read as bubblewrap reads them.
    fn read(args: &[OsString]) -> Vec<(String, Vec<OsString>)> {
        let mut options = Vec::new();
        let mut at = 0;
        while at < args.len() {
            let option = args[at].to_str().unwrap().to_owned();
            let end = at + 1 + arity(&option);
            options.push((option, args[at + 1..end].to_vec()));
            at = end;
        }
        options
    }

    /// Where an option mounts something.
    fn destination((option, args): &(String, Vec<OsString>)) -> Option<String> {
        let mounts = ["--ro-bind", "--ro-bind-fd", "--bind-fd", "--proc", "--dev", "--tmpfs"];
        mounts.contains(&option.as_str()).then(|| args.last().unwrap().to_str().unwrap().to_owned())
    }

    fn text() -> impl Strategy<Value = OsString> {
        proptest::collection::vec(1_u8..=255, 0..24).prop_map(|bytes| OsStr::from_bytes(&bytes).to_owned())
    }

    proptest! {
        #[test]
        fn x25_no_job_moves_a_mount_below_the_workspace_or_adds_one(
            command in proptest::collection::vec(text(), 1..5),
            env in proptest::collection::vec((text(), text()), 0..4),
            cwd in proptest::option::of("[a-z]{1,8}(/[a-z]{1,8}){0,3}"),
            egress in any::<bool>()
        ) {
            let cwd = cwd.map(|path| RelPath::parse(path.as_bytes()));
            prop_assume!(cwd.as_ref().is_none_or(Result::is_ok));
            let job = job(command, env, cwd.map(Result::unwrap), egress);
            let options = read(&options(&job, &fds(egress), &host()));
            let destinations: Vec<String> = options.iter().filter_map(destination).collect();
            let plain = super::tests::job(vec!["true".into()], Vec::new(), None, egress);
            let wanted: Vec<String> =
                read(&super::options(&plain, &fds(egress), &host())).iter().filter_map(destination).collect();
            prop_assert_eq!(&destinations, &wanted, "the mounts depend on the job");
            let workspace = destinations.iter().position(|path| path == WORKSPACE).unwrap();
            for (at, path) in destinations.iter().enumerate() {
                prop_assert!(at == workspace || !path.starts_with(WORKSPACE), "{}", path);
                for writable in ["/tmp/", "/dev/shm/", "/workspace/"] {
                    prop_assert!(!path.starts_with(writable), "{}", path);
                }
                // After the workspace there is nothing but what hides files of /proc, which no tenant can write to.
                prop_assert!(at <= workspace || path.starts_with("/proc/"), "{}", path);
            }
        }

        #[test]
        fn x29_options_hold_no_path_of_the_host_and_nothing_of_the_command(command in "[!-~]{12,20}") {
            let job = job(vec![command.clone().into()], Vec::new(), None, true);
            let all = options(&job, &fds(true), &host());
            prop_assert!(!all.iter().any(|arg| arg.to_string_lossy().contains("secret-place")));
            prop_assert!(!all.iter().any(|arg| arg.to_str() == Some(&command)));
        }
    }

    #[test]
    fn x33_there_is_no_network_and_no_way_to_share_a_namespace() {
        let all = options(&job(vec!["true".into()], Vec::new(), None, false), &fds(false), &host());
        for wanted in ["--unshare-net", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--disable-userns"] {
            assert!(all.iter().any(|arg| arg == wanted), "{wanted}");
        }
        assert!(
            !all.iter().any(|arg| arg.to_string_lossy().contains("PROXY") || arg.to_string_lossy().contains("egress"))
        );
    }

    #[test]
    fn the_command_follows_process_1_to_the_letter() {
        let job = job(vec!["--help".into(), "--".into(), "-rf".into()], Vec::new(), None, false);
        let args = command(&job, &fds(false));
        assert_eq!(args, ["/proc/self/fd/18", "--status-fd", "19", "--", "--help", "--", "-rf"]);
    }
}
