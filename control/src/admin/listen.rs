//! The two listeners of the admin API: TCP, where a key is needed, and `admin.sock`, which only its owner can open.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::admin::connection;
use crate::admin::route::router;
use crate::admin::state::AdminState;

/// How long calls in progress may take to end after the shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the admin API on both listeners until `shutdown`, then lets calls in progress end, for at most five seconds.
///
/// # Errors
/// When the socket's file can't be made, in words for the operator.
pub async fn serve(
    tcp: TcpListener,
    sock_path: &Path,
    state: AdminState,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let (socket, listener) = Socket::bind(sock_path)?;
    let limits = state.limits;
    let app = router(state);
    let (stop, stopped) = watch::channel(());
    let over_tcp = connection::serve(tcp, app.clone(), limits, stopped.clone());
    let over_socket = connection::serve(listener, app, limits, stopped);
    let mut both = std::pin::pin!(async { tokio::join!(over_tcp, over_socket) });
    tokio::select! {
        _ = &mut both => {}
        () = shutdown => {
            drop(stop);
            // Who comes now finds no gateway, instead of one that will not answer.
            socket.remove();
            if tokio::time::timeout(DRAIN, both).await.is_err() {
                tracing::warn!("admin calls in progress did not end in time and are cut");
            }
        }
    }
    socket.remove();
    Ok(())
}

/// The file of a listening socket, which may meanwhile have been replaced by another process's.
struct Socket {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Socket {
    /// Listens at `path` with mode 0600, in the place of whatever socket is there. The socket is bound in a directory that
    /// nobody else can enter and moved to its place with its permissions set, so that there is no moment at which others
    /// can open it, and none at which there is no socket.
    fn bind(path: &Path) -> Result<(Self, UnixListener)> {
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(explained(
                    path,
                    Error::new(ErrorKind::AlreadyExists, "there is something else at this path; move it away"),
                ));
            }
            Ok(_) | Err(_) => {}
        }
        let nursery = Nursery::make(path).map_err(|err| explained(path, err))?;
        let born = nursery.0.join("s");
        let listener = UnixListener::bind(&born).map_err(|err| explained(path, err))?;
        let file = fs::set_permissions(&born, Permissions::from_mode(0o600))
            .and_then(|()| fs::symlink_metadata(&born))
            .map_err(|err| explained(path, err))?;
        fs::rename(&born, path).map_err(|err| explained(path, err))?;
        Ok((Self { path: path.to_owned(), device_and_inode: (file.dev(), file.ino()) }, listener))
    }

    /// Removes the file, unless it is another's by now.
    fn remove(&self) {
        let own =
            fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.device_and_inode);
        if own && let Err(err) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %err, "can't remove the admin socket");
        }
    }
}

/// A directory for its owner alone, which ends with this value. Its name is short, since a socket's path must be.
struct Nursery(PathBuf);

impl Nursery {
    fn make(path: &Path) -> Result<Self> {
        let dir = path.with_file_name(format!(".s{:x}", std::process::id()));
        // Left by a process of the same number that was killed in this very moment.
        drop(fs::remove_dir_all(&dir));
        DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        if let Err(err) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %err, "can't remove a temporary directory");
        }
    }
}

fn explained(path: &Path, err: Error) -> Error {
    // A socket's path has at most 107 bytes on Linux, 103 on macOS.
    let long = path.as_os_str().len() > 100;
    let hint = if long {
        "; the path is too long for a socket: choose a shorter data directory with `--data DIR`"
    } else {
        ""
    };
    Error::new(err.kind(), format!("can't listen at {}: {err}{hint}", path.display()))
}
