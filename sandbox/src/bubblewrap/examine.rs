//! Whether code can be held here, found out by running some: what is missing is told by its name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Bubblewrap;
use crate::examine::{Examination, told};
use crate::{Captured, Ended, SandboxError};

/// Longest time of one of the examination's runs.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many processes the examination may have, and how many it then wants.
const PROCESSES: u32 = 8;

/// The program's place, so that nobody's `PATH` is asked later.
pub(super) fn program(name: &Path) -> Result<PathBuf, SandboxError> {
    let missing = || SandboxError::Missing(format!("there is no {}; install bubblewrap", name.display()));
    if name.components().count() > 1 {
        return if name.is_file() { Ok(name.to_owned()) } else { Err(missing()) };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
        .ok_or_else(missing)
}

/// Runs a program that succeeds, one that asks for what is forbidden, and one that wants too much.
pub(super) async fn examine(backend: &Bubblewrap, state_dir: &Path) -> Result<(), SandboxError> {
    let examination = Examination::begin(backend, state_dir)?;
    let examined = examine_in(backend, &examination).await;
    examination.end(examined)
}

async fn examine_in(backend: &Bubblewrap, examination: &Examination<'_>) -> Result<(), SandboxError> {
    let run = async |name: &str, script: &str| {
        examination.run((name, &["/bin/sh", "-c", script]), (PATIENCE, PROCESSES)).await
    };
    let plain = run("plain", "echo walls > file && cat file").await?;
    if plain.ended != Ended::Exited || plain.exit_code != 0 || plain.stdout.bytes() != b"walls\n" {
        return Err(SandboxError::Launch { step: "the examination", detail: told(&plain) });
    }
    let filtered = run("filter", "touch file && chmod 0700 file && ! chmod 4700 file 2>/dev/null").await?;
    if filtered.exit_code != 0 {
        return Err(SandboxError::Seccomp("a forbidden call was not refused".to_owned()));
    }
    if backend.degraded().is_none() {
        let script = "i=0; while [ $i -lt 30 ]; do sleep 20 & i=$((i+1)); done 2>/dev/null; kill 0";
        let limited = run("limit", script).await?;
        if !limited.processes_limit_hit {
            return Err(SandboxError::Cgroups("a limit of processes was set and did not hold".to_owned()));
        }
    }
    Ok(())
}

/// Why process 1 never came to speak. What is on standard error is bubblewrap's own then, since nothing else was there.
pub(super) fn never_began(stderr: &Captured) -> SandboxError {
    let said = String::from_utf8_lossy(&stderr.bytes()).trim().to_owned();
    let lower = said.to_lowercase();
    let about = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if about(&["seccomp"]) {
        SandboxError::Seccomp(said)
    } else if about(&["namespace", "uid map", "gid map", "userns", "clone: operation not permitted"]) {
        SandboxError::Namespaces(format!("{said}; {}", hint()))
    } else if about(&["execvp"]) {
        SandboxError::Helper(said)
    } else {
        SandboxError::Launch { step: "bubblewrap", detail: said }
    }
}

/// What to do about namespaces that can't be made.
fn hint() -> &'static str {
    let set = |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    if set("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids it: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for bwrap"
    } else if set("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl -w kernel.unprivileged_userns_clone=1"
    } else if set("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl -w user.max_user_namespaces=10000"
    } else {
        "allow user namespaces; in a container they need seccomp and AppArmor profiles that do"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x38_each_thing_that_is_missing_has_its_own_reason() {
        let reason =
            |said: &str| never_began(&Captured { head: said.as_bytes().to_vec(), ..Captured::default() }).reason();
        for (said, wanted) in [
            ("bwrap: No permissions to create new namespace, likely because ...", "namespaces_off"),
            ("bwrap: Creating new namespace failed: Operation not permitted", "namespaces_off"),
            ("bwrap: setting up uid map: Permission denied", "namespaces_off"),
            ("bwrap: prctl(PR_SET_SECCOMP): Invalid argument", "seccomp_off"),
            ("bwrap: execvp /proc/self/fd/9: Permission denied", "helper_failed"),
            ("bwrap: Can't bind mount /oldroot/usr on /newroot/usr", "launch_failed"),
        ] {
            assert_eq!(reason(said), wanted, "{said}");
        }
    }

    #[test]
    fn x38_a_program_that_is_not_there_is_missing() {
        assert_eq!(program(Path::new("/none/bwrap")).unwrap_err().reason(), "backend_missing");
        assert_eq!(program(Path::new("no-such-bwrap")).unwrap_err().reason(), "backend_missing");
        assert!(program(Path::new("sh")).unwrap().is_absolute());
    }
}
