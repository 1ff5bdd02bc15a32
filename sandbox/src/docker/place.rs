//! One run's directory on the host: the socket that process 1 reports to. It is the run's user's alone, and gone with the run.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::HostUid;

/// Where process 1 of one run reports to.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    socket: PathBuf,
    listener: Option<UnixListener>,
}

impl Place {
    /// Makes it in `parent`. It has a number for its name, since the container sees where its mounts are from.
    pub(super) fn make(parent: &Path, number: u64, owner: HostUid) -> io::Result<Self> {
        let dir = parent.join(number.to_string());
        DirBuilder::new().mode(0o700).create(&dir)?;
        let mut place = Self { socket: dir.join("status.sock"), dir, listener: None };
        place.listener = Some(UnixListener::bind(&place.socket)?);
        fs::set_permissions(&place.socket, Permissions::from_mode(0o600))?;
        if rustix::process::geteuid().is_root() {
            chown(&place.socket, Some(owner.get()), Some(owner.get()))?;
        }
        Ok(place)
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The first who connects: process 1, since nothing else runs before it has. Nobody else can connect after that.
    pub(super) async fn reporter(&mut self) -> io::Result<UnixStream> {
        let Some(listener) = self.listener.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let (reporter, _) = listener.accept().await?;
        Ok(reporter)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(%error, "the directory of a run is left behind; the next start removes it");
        }
    }
}
