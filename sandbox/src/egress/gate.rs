//! [`Egress`]: the socket of one run, and how many clients it serves.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::event::{Decision, Event, Observer, Reason};
use super::relay::Budget;
use super::resolve::Resolve;
use super::rule::Policy;
use super::tunnel;
use crate::{HostUid, RunId};

/// The socket's name in the run's directory.
const SOCKET: &str = "egress.sock";

/// What bounds one run's use of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Of a request's head.
    pub head_bytes: usize,
    /// Connections at once; more wait where they are.
    pub connections_at_once: usize,
    /// Connections in all: then nothing listens any more.
    pub connections_in_all: u64,
    /// What may be sent and received in all.
    pub bytes: u64,
    /// How long a tunnel may be silent.
    pub idle: Duration,
    /// How long a request, and then a hello, may take.
    pub first_bytes: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            head_bytes: 8 * 1024,
            connections_at_once: 128,
            connections_in_all: 10_000,
            bytes: 10 << 30,
            idle: Duration::from_secs(120),
            first_bytes: Duration::from_secs(10),
        }
    }
}

/// What one run may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Which hosts it may reach.
    pub policy: Policy,
    /// How much of them.
    pub caps: Caps,
}

/// What is outside.
#[derive(Clone)]
pub struct Seams {
    /// Finds addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Is told of every decision.
    pub observer: Arc<dyn Observer>,
}

/// The proxy of one run. Its socket is there, and serves, as long as this is.
#[derive(Debug)]
pub struct Egress {
    dir: PathBuf,
    socket: PathBuf,
    /// Aborted when dropped, and all that it serves with it.
    _serving: JoinSet<()>,
}

/// What the clients of one run share.
pub(super) struct Run {
    pub(super) policy: Policy,
    pub(super) caps: Caps,
    pub(super) seams: Seams,
    pub(super) budget: Budget,
}

impl Run {
    pub(super) fn tell(&self, host: &str, port: u16, decision: Decision) {
        self.seams.observer.observe(&Event { host, port, decision });
    }
}

impl Egress {
    /// Makes the directory `run` (0700) in `parent`, and the socket (0600) in it, both `owner`'s where this process may give them
    /// away, and serves there. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The name is taken, or the system refuses; nothing is left then.
    pub fn open(parent: &Path, run: &RunId, owner: HostUid, grant: Grant, seams: Seams) -> io::Result<Self> {
        let dir = parent.join(run.as_str());
        DirBuilder::new().mode(0o700).create(&dir)?;
        // From here on a failure removes it.
        let mut egress = Self { socket: dir.join(SOCKET), dir, _serving: JoinSet::new() };
        let listener = UnixListener::bind(&egress.socket)?;
        fs::set_permissions(&egress.socket, Permissions::from_mode(0o600))?;
        if rustix::process::geteuid().is_root() {
            for path in [&egress.socket, &egress.dir] {
                chown(path, Some(owner.get()), Some(owner.get()))?;
            }
        }
        let Grant { policy, caps } = grant;
        let run = Arc::new(Run { policy, budget: Budget::new(caps.bytes), caps, seams });
        egress._serving.spawn(serve(run, listener));
        Ok(egress)
    }

    /// The socket, for [`Job::egress`](crate::Job::egress).
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        for gone in [fs::remove_file(&self.socket), fs::remove_dir(&self.dir)] {
            if let Err(error) =
                gone.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            {
                tracing::warn!(%error, "the socket of a run's egress is left behind; the next start removes it");
            }
        }
    }
}

/// Accepts a client only when one more may be served: the rest wait in the kernel's queue, at no cost of ours.
async fn serve(run: Arc<Run>, listener: UnixListener) {
    let places = Arc::new(Semaphore::new(run.caps.connections_at_once));
    let mut clients = JoinSet::new();
    for _ in 0..run.caps.connections_in_all {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        while clients.try_join_next().is_some() {}
        let client = accept(&listener).await;
        let run = Arc::clone(&run);
        clients.spawn(async move {
            Box::pin(tunnel::serve(&run, client)).await;
            drop(place);
        });
    }
    run.tell("", 0, Decision::Denied(Reason::Connections));
    drop(listener);
    while clients.join_next().await.is_some() {}
}

/// The next client. Where the system has no descriptor left it is tried again.
async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((client, _)) => return client,
            Err(error) => {
                tracing::warn!(%error, "no connection of a run's egress could be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
