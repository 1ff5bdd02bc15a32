//! One run's share of the host.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openclawmu_sandbox::egress::{Caps, Decision, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use crate::scene::{ALLOWED, Scene};

///
#[tokio::test]
async fn ten_thousand_connections_are_all_there_are() {
    let scene = Scene::new().await;
    for _ in 0..9_998 {
        scene.connect().await;
    }
    assert!(scene.works(ALLOWED).await, "the last but one");
    scene.connect().await;
    assert_eq!(
        scene.told.until(|decision| *decision == Decision::Denied(Reason::Connections)).await,
        Decision::Denied(Reason::Connections)
    );
    let mut late = UnixStream::connect(scene.egress.socket()).await;
    if let Ok(late) = &mut late {
        // It was in the queue already when that closed.
        assert!(!late.read(&mut [0]).await.is_ok_and(|count| count > 0));
        assert!(UnixStream::connect(scene.egress.socket()).await.is_err());
    }
}

/// more than may be at once wait, and are served in their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_at_once_are_capped_and_the_rest_wait() {
    let scene = std::sync::Arc::new(Scene::with(Caps { connections_at_once: 3, ..Caps::default() }).await);
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let scene = std::sync::Arc::clone(&scene);
        clients.spawn(async move { scene.works(ALLOWED).await });
    }
    assert!(clients.join_all().await.into_iter().all(|worked| worked));
    // The host may hear of an end a little later than the next beginning.
    assert!(scene.host.most_open.load(Ordering::SeqCst) <= 6, "{}", scene.host.most_open.load(Ordering::SeqCst));
    assert_eq!(scene.spoken_to(), 40);
}

#[tokio::test]
async fn a_run_that_has_sent_all_it_may_is_cut_and_gets_no_other_tunnel() {
    let scene = Scene::with(Caps { bytes: 100_000, ..Caps::default() }).await;
    assert!(scene.works(ALLOWED).await);
    let mut tls = scene.tls(ALLOWED, ALLOWED).await.unwrap();
    let chunk = [7; 10_000];
    let mut sent = 0;
    while sent < 1_000_000 && tls.write_all(&chunk).await.is_ok() && tls.flush().await.is_ok() {
        sent += chunk.len();
        if tls.read_exact(&mut [0; 10_000]).await.is_err() {
            break;
        }
    }
    assert!(sent < 100_000, "{sent}");
    scene.told.until(|decision| matches!(decision, Decision::Closed { cut: Some(Reason::Bytes), .. })).await;
    assert_eq!(scene.status_of(&format!("{ALLOWED}:{}", scene.port)).await, "HTTP/1.1 403 Forbidden");
    assert_eq!(scene.told.denials(), [Reason::Bytes]);
}

#[tokio::test]
async fn silence_ends_a_request_a_hello_and_a_tunnel() {
    let short = Duration::from_millis(50);
    let scene = Scene::with(Caps { first_bytes: short, ..Caps::default() }).await;
    let answer = scene.ask(b"CONNECT allowed.te").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let mut tunnel = scene.tunnel(ALLOWED).await;
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
    assert_eq!((scene.told.denials(), scene.spoken_to()), (vec![Reason::Idle, Reason::Idle], 0));

    let scene = Scene::with(Caps { idle: short, ..Caps::default() }).await;
    let mut tls = scene.tls(ALLOWED, ALLOWED).await.unwrap();
    assert!(!tls.read(&mut [0]).await.is_ok_and(|count| count > 0));
    scene.told.until(|decision| matches!(decision, Decision::Closed { cut: Some(Reason::Idle), .. })).await;
}
