//! A tunnel carries TLS to the host that it was asked for, and nothing else.

use std::sync::atomic::Ordering;

use openclawmu_sandbox::egress::{Decision, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::{ALLOWED, NEIGHBOUR, Scene};

/// the neighbour is served by the same address and has a certificate there; only the name is wrong.
#[tokio::test]
async fn a_hello_that_names_another_host_is_closed_before_the_host_hears_of_it() {
    let scene = Scene::new().await;
    let refused = scene.tls(ALLOWED, NEIGHBOUR).await;
    assert!(refused.is_err());
    assert_eq!(scene.told.denials(), [Reason::OtherName]);
    assert_eq!((scene.spoken_to(), scene.host.connections.load(Ordering::SeqCst)), (0, 1));
    assert!(scene.tls(ALLOWED, ALLOWED).await.is_ok(), "the same client with the name that it asked for");
    assert_eq!(scene.spoken_to(), 1);
}

#[tokio::test]
async fn a_hello_without_a_name_is_closed() {
    let scene = Scene::new().await;
    assert!(scene.tls(ALLOWED, "127.0.0.1").await.is_err());
    assert_eq!((scene.told.denials(), scene.spoken_to()), (vec![Reason::OtherName], 0));
}

#[tokio::test]
async fn what_is_not_tls_is_closed() {
    let scene = Scene::new().await;
    for sent in [
        &b"GET / HTTP/1.1\r\nHost: neighbour.test\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        &[22, 3, 1, 0, 5, 2, 0, 0, 1, 0],
        b"\0",
    ] {
        let mut client = scene.tunnel(ALLOWED).await;
        client.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        let _reset = client.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{answer:?}");
        assert_eq!(scene.told.denials().pop(), Some(Reason::NotTls), "{sent:?}");
    }
    assert_eq!(scene.spoken_to(), 0);
}

/// Every allow, with what it came to.
#[tokio::test]
async fn an_allowed_tunnel_is_told_when_it_opens_and_when_it_ends() {
    let scene = Scene::new().await;
    assert!(scene.works(ALLOWED).await);
    scene.told.until(|decision| matches!(decision, Decision::Closed { .. })).await;
    let all = scene.told.all();
    let address = "127.0.0.1".parse().unwrap();
    assert_eq!(all[0], (ALLOWED.to_owned(), scene.port, Decision::Allowed { address }));
    let Decision::Closed { sent_bytes, received_bytes, cut: None } = all[1].2 else { panic!("{all:?}") };
    assert!(sent_bytes > 200 && received_bytes > 500, "{all:?}");
    assert_eq!(all.len(), 2);
}
