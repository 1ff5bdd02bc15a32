//! The admin API on both of its listeners, in this process.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::admin::serve;
use crate::admin::tests::scene::Scene;

pub(crate) struct Served {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) sock: PathBuf,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Served {
    pub(crate) async fn start(scene: &Scene) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, sock) = (tcp.local_addr().unwrap(), scene.dir.path().join("admin.sock"));
        let before = inode(&sock);
        let (stop, stopped) = oneshot::channel::<()>();
        let (path, state) = (sock.clone(), scene.state.clone());
        let task = spawn(async move { serve(tcp, &path, state, async move { drop(stopped.await) }).await });
        until("the socket is there", || inode(&sock).is_some_and(|now| Some(now) != before)).await;
        Self { address, sock, stop: Some(stop), task }
    }

    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "each test awaits what it spawned")]
fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::spawn(future)
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|file| file.ino())
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
