//! What the engine is asked to make: a pure function of the job. It holds the same walls as bubblewrap's arguments.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};

use crate::egress::ENVIRONMENT;
use crate::{Job, Limits, SandboxError};

/// On every container that this made, with the name of the gateway's data directory: what a sweep looks at.
pub(super) const INSTANCE: &str = "openclawmu.instance";
/// And with the process that waits for it: what a sweep leaves alone as long as that lives.
pub(super) const OWNER: &str = "openclawmu.owner";
/// The run's name.
const RUN: &str = "openclawmu.run";

/// Inside.
const WORKSPACE: &str = "/workspace";
pub(super) const INIT: &str = "/run/init";
const STATUS: &str = "/run/status.sock";
const EGRESS: &str = "/run/egress.sock";

/// Files that tell of the whole machine: what the engine hides by itself, and what else bubblewrap hides.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel",
];
/// Files that change the whole machine.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What every container of this gateway has in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) image: String,
    /// The engine's own if absent.
    pub(super) runtime: Option<String>,
    /// Whose containers these are.
    pub(super) instance: String,
    /// Which process of it waits for them.
    pub(super) owner: String,
    /// The seccomp policy, as the engine reads it.
    pub(super) seccomp: String,
    /// The first process, as a file of the host.
    pub(super) init: PathBuf,
}

/// The container of one job. `workspace` and `status` are paths of the host's.
pub(super) fn container(
    job: &Job,
    common: &Common,
    workspace: &Path,
    status: &Path,
) -> Result<ContainerCreateBody, SandboxError> {
    let user = job.workspace.owner().get();
    let has_input = job.has_input();
    let mut first = vec![INIT.to_owned(), "--status-path".to_owned(), STATUS.to_owned()];
    let mut mounts =
        vec![bind(&common.init, INIT, true)?, bind(status, STATUS, true)?, bind(workspace, WORKSPACE, false)?];
    if let Some(egress) = &job.egress {
        first.extend(["--egress".to_owned(), EGRESS.to_owned()]);
        mounts.push(bind(egress, EGRESS, true)?);
    }
    first.push("--".to_owned());
    let directory =
        job.cwd.as_ref().map_or_else(|| PathBuf::from(WORKSPACE), |cwd| Path::new(WORKSPACE).join(cwd.as_os_str()));
    Ok(ContainerCreateBody {
        image: Some(common.image.clone()),
        hostname: Some("sandbox".to_owned()),
        user: Some(format!("{user}:{user}")),
        entrypoint: Some(first),
        cmd: Some(job.command.iter().map(|word| text(word)).collect::<Result<_, _>>()?),
        env: Some(environment(job)?),
        working_dir: Some(text(directory.as_os_str())?),
        attach_stdin: Some(has_input),
        open_stdin: Some(has_input),
        stdin_once: Some(has_input),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        labels: Some(HashMap::from([
            (INSTANCE.to_owned(), common.instance.clone()),
            (OWNER.to_owned(), common.owner.clone()),
            (RUN.to_owned(), job.id.to_string()),
        ])),
        host_config: Some(host(&job.limits, common, mounts)),
        ..ContainerCreateBody::default()
    })
}

fn host(limits: &Limits, common: &Common, mounts: Vec<Mount>) -> HostConfig {
    let owned = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    let memory = integer(limits.memory_bytes);
    HostConfig {
        runtime: common.runtime.clone(),
        network_mode: Some("none".to_owned()),
        memory: Some(memory),
        // Memory and swap together: no swap.
        memory_swap: Some(memory),
        pids_limit: Some(i64::from(limits.processes)),
        nano_cpus: Some(i64::from(limits.cpu_millis) * 1_000_000),
        readonly_rootfs: Some(true),
        cap_drop: owned(&["ALL"]),
        security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", common.seccomp)]),
        privileged: Some(false),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        // The engine would write all output to the host's disk as well.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        masked_paths: owned(&MASKED),
        readonly_paths: owned(&READ_ONLY),
        shm_size: Some(16 << 20),
        tmpfs: Some(HashMap::from([
            ("/tmp".to_owned(), "rw,exec,nosuid,nodev,mode=1777,size=67108864".to_owned()),
            ("/run".to_owned(), "rw,exec,nosuid,nodev,mode=0755,size=1048576".to_owned()),
        ])),
        ulimits: Some(ulimits(limits)),
        mounts: Some(mounts),
        auto_remove: Some(false),
        init: Some(false),
        ..HostConfig::default()
    }
}

fn ulimits(limits: &Limits) -> Vec<ResourcesUlimits> {
    let one =
        |name: &str, most: i64| ResourcesUlimits { name: Some(name.to_owned()), soft: Some(most), hard: Some(most) };
    vec![
        one("core", 0),
        one("nofile", 1024),
        one("fsize", integer(limits.file_bytes)),
        one("memlock", 64 << 10),
        one("cpu", integer(limits.wall.as_secs() + 5)),
    ]
}

fn environment(job: &Job) -> Result<Vec<String>, SandboxError> {
    let mut all: Vec<(String, String)> = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", WORKSPACE),
        ("LANG", "C.UTF-8"),
        ("TERM", "dumb"),
    ]
    .into_iter()
    .chain(ENVIRONMENT.into_iter().filter(|_| job.egress.is_some()))
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in &job.env {
        let (name, value) = (text(name)?, text(value)?);
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
    }
    Ok(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn bind(source: &Path, target: &str, read_only: bool) -> Result<Mount, SandboxError> {
    Ok(Mount {
        typ: Some(MountType::BIND),
        source: Some(text(source.as_os_str())?),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    })
}

/// The engine speaks JSON.
fn text(word: &OsStr) -> Result<String, SandboxError> {
    word.to_str().map(str::to_owned).ok_or(SandboxError::Job("an argument, a variable or a path is not UTF-8"))
}

/// The engine counts with a sign.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use proptest::prelude::*;

    use super::*;
    use crate::{HostUid, RelPath, Root, RunId, Stdio, Workspace};

    fn common() -> Common {
        Common {
            image: "image".into(),
            runtime: Some("runsc".into()),
            instance: "here".into(),
            owner: "this".into(),
            seccomp: "{}".into(),
            init: "/state/init".into(),
        }
    }

    fn job(command: Vec<OsString>, env: Vec<(OsString, OsString)>, egress: bool) -> Job {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        Job {
            id: RunId::parse("run").unwrap(),
            command,
            env,
            cwd: Some(RelPath::parse(b"a/b").unwrap()),
            stdio: Stdio::Piped(Vec::new()),
            limits: Limits::default(),
            workspace: Workspace { root, owner: HostUid::new(200_000).unwrap(), held: None },
            egress: egress.then(|| PathBuf::from("/state/run/egress.sock")),
        }
    }

    fn made(job: &Job) -> ContainerCreateBody {
        container(job, &common(), Path::new("/data/t1/workspace"), Path::new("/state/run/status.sock")).unwrap()
    }

    #[test]
    fn every_wall_is_asked_for() {
        let body = made(&job(vec!["true".into()], Vec::new(), false));
        let host = body.host_config.unwrap();
        assert_eq!(body.user.unwrap(), "200000:200000");
        assert_eq!(body.working_dir.unwrap(), "/workspace/a/b");
        assert_eq!(host.network_mode.unwrap(), "none");
        assert_eq!((host.memory, host.memory_swap), (Some(512 << 20), Some(512 << 20)));
        assert_eq!((host.pids_limit, host.nano_cpus), (Some(128), Some(1_000_000_000)));
        assert_eq!((host.readonly_rootfs, host.privileged), (Some(true), Some(false)));
        assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
        assert_eq!(host.cap_add, None);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges", "seccomp={}"]);
        assert_eq!((host.ipc_mode.unwrap().as_str(), host.runtime.unwrap().as_str()), ("private", "runsc"));
        assert_eq!((host.pid_mode, host.userns_mode, host.devices), (None, None, None));
        assert_eq!(host.log_config.unwrap().typ.unwrap(), "none");
    }

    proptest! {
        /// X-25 for the engine: what a tenant writes moves no mount and no wall.
        #[test]
        fn a_job_changes_neither_mounts_nor_walls(
            command in proptest::collection::vec("\\PC{0,20}", 1..4),
            env in proptest::collection::vec(("[A-Za-z_]{1,8}", "\\PC{0,20}"), 0..4),
            egress: bool,
        ) {
            let command: Vec<OsString> = command.into_iter().map(OsString::from).collect();
            let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let theirs = made(&job(command.clone(), env, egress));
            let plain = made(&job(vec!["true".into()], Vec::new(), egress));
            prop_assert_eq!(theirs.cmd.unwrap(), command.iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>());
            prop_assert_eq!(theirs.entrypoint, plain.entrypoint);
            prop_assert_eq!(&theirs.host_config, &plain.host_config);
            let mounts = plain.host_config.unwrap().mounts.unwrap();
            prop_assert_eq!(mounts.iter().filter(|mount| mount.read_only == Some(false)).count(), 1);
            prop_assert!(mounts.iter().all(|mount| !mount.target.as_ref().unwrap().starts_with("/workspace/")));
            prop_assert!(mounts.iter().all(|mount| !mount.source.as_ref().unwrap().contains("docker.sock")));
        }
    }

    #[test]
    fn a_variable_of_the_jobs_replaces_ours_and_the_proxy_is_named_where_there_is_one() {
        let env = vec![("HOME".into(), "/tmp".into()), ("A".into(), "b=c".into())];
        let with = made(&job(vec!["true".into()], env, true)).env.unwrap();
        assert!(with.contains(&"HOME=/tmp".to_owned()) && with.contains(&"A=b=c".to_owned()), "{with:?}");
        assert!(with.contains(&"HTTPS_PROXY=http://127.0.0.1:3128".to_owned()), "{with:?}");
        assert_eq!(with.iter().filter(|one| one.starts_with("HOME=")).count(), 1);
        let without = made(&job(vec!["true".into()], Vec::new(), false)).env.unwrap();
        assert!(!without.iter().any(|one| one.to_lowercase().contains("proxy")), "{without:?}");
    }
}
