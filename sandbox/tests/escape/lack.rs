//! What happens where something is missing, or dies. Each of these runs this test program once more, in a
//! place that lacks something, or to be killed there.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use openclawmu_sandbox::{Bubblewrap, BubblewrapSetup};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::place::{Place, block_on, processes_with, setup, until};

/// The reason that this program is to be given, where it was started by one of these tests.
const REASON: &str = "OPENCLAWMU_TEST_REASON";
/// The mark that it is to run under until it is killed.
const MARK: &str = "OPENCLAWMU_TEST_MARK";

/// X-38, and the way in for what follows.
#[test]
fn bubblewrap_starts_or_names_what_is_missing() {
    let started = |setup: &BubblewrapSetup| block_on(Bubblewrap::start(setup)).map(|_| "").map_err(|err| err.reason());
    match std::env::var(REASON) {
        Ok(reason) => {
            let lax = BubblewrapSetup { require_cgroups: false, ..setup() };
            assert_eq!(started(&lax), Err(reason.as_str()));
        }
        Err(_) => {
            assert_eq!(started(&setup()), Ok(""));
            let absent = BubblewrapSetup { program: "/nowhere/bwrap".into(), ..setup() };
            assert_eq!(started(&absent), Err("backend_missing"));
        }
    }
}

///
#[test]
fn without_user_namespaces_the_reason_is_named() {
    again("namespaces_off", &["--unshare-user", "--uid", "1000", "--gid", "1000", "--disable-userns"], None);
}

///
#[test]
fn without_seccomp_the_reason_is_named() {
    let filter = no_filters();
    let number = filter.as_raw_fd().to_string();
    let options = ["--unshare-user", "--uid", "1000", "--gid", "1000", "--seccomp", &number];
    again("seccomp_off", &options, Some(filter));
}

/// Runs the first test in a place that bubblewrap makes.
fn again(reason: &str, options: &[&str], kept: Option<OwnedFd>) {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("bwrap");
    command.args(["--dev-bind", "/", "/"]).args(options).arg("--").arg(program);
    command.args(["--exact", "lack::bubblewrap_starts_or_names_what_is_missing"]).env(REASON, reason);
    if let Some(kept) = kept {
        #[expect(unsafe_code, reason = "nothing else hands a descriptor to a child")]
        // SAFETY: one system call on a descriptor that the closure owns.
        unsafe {
            command.pre_exec(move || Ok(rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty())?));
        }
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// A filter under which no filter can be set.
fn no_filters() -> OwnedFd {
    const PR_SET_SECCOMP: u64 = 22;
    let arch = if cfg!(target_arch = "x86_64") { TargetArch::x86_64 } else { TargetArch::aarch64 };
    let asked = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, PR_SET_SECCOMP).unwrap();
    let rules = [(libc::SYS_prctl, vec![SeccompRule::new(vec![asked]).unwrap()]), (libc::SYS_seccomp, Vec::new())];
    let refusal = SeccompAction::Errno(22);
    let filter = SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, refusal, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    for step in &program {
        file.write_all(&step.code.to_ne_bytes()).unwrap();
        file.write_all(&[step.jt, step.jf]).unwrap();
        file.write_all(&step.k.to_ne_bytes()).unwrap();
    }
    std::io::Seek::rewind(&mut file).unwrap();
    file.into()
}

/// The way in for the next one: runs under a mark until it is killed.
#[test]
fn a_run_goes_on_while_its_gateway_lives() {
    crate::place::on_bubblewrap(async |place: Place| {
        let Ok(mark) = std::env::var(MARK) else {
            assert_eq!(place.run(&["true"]).await.exit_code, 0);
            return;
        };
        place.put(&mark, &std::fs::read(place.path("attack")).unwrap());
        let program = format!("./{mark}");
        place.limited(&[&program, "deaf", "5"], |limits| limits.wall = std::time::Duration::from_secs(600)).await;
    });
}

///
#[test]
fn killing_the_gateway_kills_the_run_and_the_next_start_sweeps() {
    let mark = format!("killed-{}", std::process::id());
    let mut gateway = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lack::a_run_goes_on_while_its_gateway_lives", "--nocapture"])
        .env(MARK, &mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let first = BufReader::new(gateway.stdout.take().unwrap()).lines().next();
    assert!(first.is_some(), "it began");
    // Bubblewrap, process 1, the command and its five children.
    until("that it runs", || processes_with(&mark) >= 8);
    let group = format!(".{}.", gateway.id());
    assert!(has_group(&group), "it has a group");
    gateway.kill().unwrap();
    gateway.wait().unwrap();
    until("that all of it is gone", || processes_with(&mark) == 0);
    block_on(Bubblewrap::start(&setup())).unwrap();
    assert!(!has_group(&group), "its group is gone");
}

/// Whether there is a control group of ours with this in its name.
fn has_group(part: &str) -> bool {
    let mut pending = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("openclawmu.") && name.contains(part) {
                    return true;
                }
                pending.push(entry.path());
            }
        }
    }
    false
}
