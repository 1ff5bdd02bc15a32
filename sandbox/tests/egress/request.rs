//! What is asked for is one plain `CONNECT`.

use openclawmu_sandbox::egress::Reason;

use crate::scene::{ALLOWED, NEIGHBOUR, Scene};

/// the second request is the one that nobody checks.
#[tokio::test]
async fn a_smuggled_connect_is_400_and_reaches_nobody() {
    let scene = Scene::new().await;
    let to = |host: &str| format!("CONNECT {host}:{} HTTP/1.1\r\n", scene.port);
    let (good, evil) = (to(ALLOWED), to(NEIGHBOUR));
    for request in [
        format!("{good}\r\n{evil}\r\n"),
        format!("{good}Content-Length: {}\r\n\r\n{evil}\r\n", evil.len() + 2),
        format!("{good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}\r\n"),
        format!("{good}Host: {NEIGHBOUR}\r\n\r\n"),
        format!("{good}X: y\n{evil}\r\n\r\n"),
        format!("{good}\r\n\r\n"),
        "\r\n\r\n".to_owned(),
    ] {
        let answer = scene.ask(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{request:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
    }
    assert!(scene.told.denials().iter().all(|reason| *reason == Reason::BadRequest));
    assert_eq!(scene.spoken_to(), 0);
    assert!(scene.works(ALLOWED).await, "the same request alone");
}

#[tokio::test]
async fn plain_http_is_405_and_says_what_to_do() {
    let scene = Scene::new().await;
    let answer = scene.ask(format!("GET http://{ALLOWED}/ HTTP/1.1\r\nHost: {ALLOWED}\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains("\r\nAllow: CONNECT\r\n"), "{answer}");
    assert!(answer.contains("https://"), "{answer}");
    assert_eq!(scene.told.denials(), [Reason::NotConnect]);
}

#[tokio::test]
async fn a_head_above_its_cap_is_400() {
    let scene = Scene::new().await;
    let with = |bytes| format!("CONNECT {ALLOWED}:{} HTTP/1.1\r\nX: {}\r\n\r\n", scene.port, "x".repeat(bytes));
    let answer = scene.ask(with(9000).as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(scene.told.denials(), [Reason::BadRequest]);
    let mut client = scene.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut client, with(7000).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
}
