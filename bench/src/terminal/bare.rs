//! The same shell on a pseudoterminal of this process, by bubblewrap alone: what an echo takes without a gateway.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::client::{ANSWERED, ASKED, contains};

/// No session of its own, as in the gateway's: `setsid` has made one, with this terminal.
const BARE: &str = "--ctty bwrap --unshare-all --die-with-parent --cap-drop ALL --clearenv --setenv PATH /usr/bin --setenv TERM xterm-256color \
    --ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 --proc /proc --dev /dev --tmpfs /tmp bash -l";

/// A shell, killed with this.
#[derive(Debug)]
pub(super) struct Bare {
    terminal: File,
    child: Child,
}

impl Bare {
    pub(super) fn start() -> Result<Self> {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("openpt")?;
        grantpt(&terminal)?;
        unlockpt(&terminal)?;
        let name = ptsname(&terminal, Vec::new())?;
        let other = File::from(open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?);
        let mut command = Command::new("setsid");
        command.args(BARE.split_whitespace()).stdin(Stdio::from(other.try_clone()?));
        command.stdout(Stdio::from(other.try_clone()?)).stderr(Stdio::from(other));
        let child = command.spawn().context("starting setsid and bwrap")?;
        Ok(Self { terminal: File::from(terminal), child })
    }

    pub(super) fn keys(&mut self, keys: &[u8]) -> Result<()> {
        self.terminal.write_all(keys).context("typing")
    }

    /// Reads on until this was shown.
    pub(super) fn until(&mut self, wanted: &[u8]) -> Result<()> {
        let (mut shown, mut scratch) = (Vec::new(), [0; 4096]);
        while !contains(&shown, wanted) {
            let count = self.terminal.read(&mut scratch).context("the bare shell is gone")?;
            ensure!(count > 0, "the bare shell ended");
            shown.extend_from_slice(scratch.get(..count).unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn command_answers(&mut self) -> Result<()> {
        self.keys(ASKED)?;
        self.until(ANSWERED)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // An error says that it is gone already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
