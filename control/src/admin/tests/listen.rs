//! The two listeners.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use crate::admin::connection::Limits;
use crate::admin::serve;
use crate::admin::tests::scene::Scene;
use crate::admin::tests::served::{Served, until};

const ASK: &[u8] = b"GET /v1/tenants HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn over_socket(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_needs_no_key_and_is_its_owners_alone() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let file = std::fs::symlink_metadata(&served.sock).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(over_socket(&served.sock).await.starts_with("HTTP/1.1 200"));
    let mut tcp = TcpStream::connect(served.address).await.unwrap();
    tcp.write_all(ASK).await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    let left: Vec<_> = std::fs::read_dir(scene.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".s"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let sock = served.sock.clone();
    served.stop().await;
    assert!(!sock.exists(), "it is removed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_is_replaced_and_a_successors_is_left_alone() {
    let scene = Scene::new().await;
    drop(std::os::unix::net::UnixListener::bind(scene.dir.path().join("admin.sock")).unwrap());
    let first = Served::start(&scene).await;
    assert!(over_socket(&first.sock).await.starts_with("HTTP/1.1 200"), "a dead process's socket is no obstacle");
    let second = Served::start(&scene).await;
    first.stop().await;
    assert!(
        over_socket(&second.sock).await.starts_with("HTTP/1.1 200"),
        "the first took its own away, not the second's"
    );
    second.stop().await;
}

#[tokio::test]
async fn what_is_no_socket_is_not_replaced() {
    let scene = Scene::new().await;
    let path = scene.dir.path().join("admin.sock");
    std::fs::write(&path, "precious").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let err = serve(tcp, &path, scene.state.clone(), std::future::pending()).await.unwrap_err();
    assert!(err.to_string().contains("move it away"), "{err}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_in_progress_is_answered_after_the_shutdown() {
    let scene = Scene::new().await;
    let mut served = Served::start(&scene).await;
    let mut stream = UnixStream::connect(&served.sock).await.unwrap();
    let body = r#"{"id":"late"}"#;
    let head = format!(
        "POST /v1/tenants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0_u8; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100"), "the call is in its handler");
    drop(served.stop.take());
    let sock = served.sock.clone();
    until("the socket is gone", || !sock.exists()).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    served.stop().await;
}

/// What the other side says until it closes.
async fn said(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is reset has closed as well.
    drop(stream.read_to_end(&mut text).await);
    String::from_utf8(text).unwrap()
}

/// E-07 on the admin listener: a head that never ends, a body that never ends, a client that idles
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nothing_is_cut_and_who_sends_is_served() {
    let mut scene = Scene::new().await;
    let (head, body) = (Duration::from_millis(300), Duration::from_millis(300));
    scene.state.limits = Limits { head, body, ..Limits::default() };
    let served = Served::start(&scene).await;
    let mut dribbling = TcpStream::connect(served.address).await.unwrap();
    let mut silent = TcpStream::connect(served.address).await.unwrap();
    let mut unfinished = TcpStream::connect(served.address).await.unwrap();
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let key = crate::admin::tests::scene::KEY;
    let cut_body = format!(
        "POST /v1/tenants HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    unfinished.write_all(cut_body.as_bytes()).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    dribbling.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    while dribbling.write_all(b"x-filler: y\r\n").await.is_ok() {
        pause.tick().await;
    }
    assert_eq!(said(&mut silent).await, "", "no answer to no question");
    let told = said(&mut unfinished).await;
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
    let told = said(&mut idle).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(over_socket(&served.sock).await.starts_with("HTTP/1.1 200"));
    served.stop().await;
}

/// E-07: a client that takes nothing of a long answer
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_is_cut() {
    let mut scene = Scene::new().await;
    scene.state.limits = Limits { pause: Duration::from_millis(300), ..Limits::default() };
    let served = Served::start(&scene).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    // Whoever pipelines without reading fills both sockets' buffers; then a write waits.
    while stream.write_all(ask).await.is_ok() {}
    assert!(over_socket(&served.sock).await.starts_with("HTTP/1.1 200"));
    served.stop().await;
}

/// pingora.md's connection caps, on the admin listener: a full one refuses, and the command line still gets in
#[tokio::test(flavor = "multi_thread")]
async fn a_full_listener_refuses_and_the_socket_has_room_of_its_own() {
    let mut scene = Scene::new().await;
    scene.state.limits.connections = 4;
    let served = Served::start(&scene).await;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut head = [0_u8; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        open.push(stream);
    }
    let mut fifth = TcpStream::connect(served.address).await.unwrap();
    drop(fifth.write_all(ASK).await);
    assert_eq!(said(&mut fifth).await, "");
    assert!(over_socket(&served.sock).await.starts_with("HTTP/1.1 200"));
    drop(open);
    let mut told = String::new();
    while told.is_empty() {
        let mut again = TcpStream::connect(served.address).await.unwrap();
        drop(again.write_all(ASK).await);
        told = said(&mut again).await;
    }
    assert!(told.starts_with("HTTP/1.1 401"), "there is room again: {told}");
    served.stop().await;
}
