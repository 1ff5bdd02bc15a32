//! A successor: the binary that is installed now, started by the process that runs, so that it lives where that one does (in the
//! same unit of a service manager). It must be able to serve before anything is handed over to it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

/// What the system puts behind the path of a binary that was replaced.
const REPLACED: &[u8] = b" (deleted)";
/// How long a successor may take until it waits for the sockets.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts a successor, and returns when it waits for the sockets at `upgrade`. It then owns itself.
///
/// # Errors
/// Why there is none. Nothing has changed then.
pub(crate) async fn start(config: Option<&Path>, upgrade: &Path) -> Result<(), String> {
    let binary = installed().map_err(|err| format!("the installed binary is not known: {err}"))?;
    check(&binary, config).await?;
    let before = inode(upgrade);
    let mut command = Command::new(&binary);
    command.args(arguments(std::env::args_os().skip(1))).stdin(Stdio::null()).kill_on_drop(false);
    let mut child = command.spawn().map_err(|err| format!("{}: {err}", binary.display()))?;
    let waiting = tokio::time::timeout(PATIENCE, waits(&mut child, before, upgrade)).await;
    match waiting {
        Ok(waiting) => waiting,
        Err(_) => {
            let ended = child.kill().await;
            Err(format!("it did not ask for the sockets within {} s: {ended:?}", PATIENCE.as_secs()))
        }
    }
}

/// The path that this program was started from, whatever is there now.
fn installed() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?.into_os_string().into_vec();
    let path = path.strip_suffix(REPLACED).unwrap_or(&path);
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// Asks it whether it can use the configuration.
async fn check(binary: &Path, config: Option<&Path>) -> Result<(), String> {
    let mut command = Command::new(binary);
    command.args(["config", "check"]).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let checked = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = checked.map_err(|_| "`config check` did not end".to_owned())?.map_err(|err| err.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// This program's own arguments, and that it is a successor.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let upgrade = OsString::from("--upgrade");
    own.filter(|argument| *argument != upgrade).chain([upgrade.clone()]).collect()
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

async fn waits(child: &mut Child, before: Option<u64>, upgrade: &Path) -> Result<(), String> {
    loop {
        let now = inode(upgrade);
        if now.is_some() && now != before {
            return Ok(());
        }
        if let Some(status) = child.try_wait().map_err(|err| err.to_string())? {
            return Err(format!("it ended at once: {status}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_gets_the_same_arguments_once() {
        let given = ["serve", "--data", "d"].map(OsString::from);
        let first = arguments(given.into_iter());
        assert_eq!(first, ["serve", "--data", "d", "--upgrade"]);
        assert_eq!(arguments(first.clone().into_iter()), first, "a successor's successor too");
        assert!(installed().unwrap().exists());
    }
}
