//! The socket is one run's, and there no longer than that.

use std::os::unix::fs::MetadataExt;

use openclawmu_sandbox::egress::{Egress, Grant};
use openclawmu_sandbox::{HostUid, RunId};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::scene::{ALLOWED, Scene};

///
#[tokio::test]
async fn when_the_run_is_over_its_socket_and_its_open_tunnels_are_gone() {
    let scene = Scene::new().await;
    let mut tls = scene.tls(ALLOWED, ALLOWED).await.unwrap();
    let socket = scene.egress.socket().to_owned();
    assert!(UnixStream::connect(&socket).await.is_ok(), "while it runs");
    let Scene { egress, dir, .. } = scene;
    drop(egress);
    assert!(!tls.read(&mut [0]).await.is_ok_and(|count| count > 0), "the tunnel is cut");
    assert!(UnixStream::connect(&socket).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its directory is gone as well");
}

/// by the host's own rules too.
#[tokio::test]
async fn the_socket_is_its_tenants_alone() {
    let scene = Scene::new().await;
    let socket = std::fs::metadata(scene.egress.socket()).unwrap();
    let dir = std::fs::metadata(scene.egress.socket().parent().unwrap()).unwrap();
    assert_eq!((socket.mode() & 0o7777, dir.mode() & 0o7777), (0o600, 0o700));
    let owner = if rustix::process::geteuid().is_root() { 200_001 } else { rustix::process::geteuid().as_raw() };
    assert_eq!((socket.uid(), dir.uid()), (owner, owner));
}

#[tokio::test]
async fn two_runs_of_one_name_cannot_share_a_socket() {
    let scene = Scene::new().await;
    let seams = openclawmu_sandbox::egress::Seams { resolver: scene.names.clone(), observer: scene.told.clone() };
    let open = |name: &str| {
        let (run, owner) = (RunId::parse(name).unwrap(), HostUid::new(200_002).unwrap());
        Egress::open(scene.dir.path(), &run, owner, Grant::default(), seams.clone())
    };
    assert!(open("run-a").is_err());
    assert!(open("run-b").is_ok());
    assert!(scene.works(ALLOWED).await, "the first is untouched");
}
