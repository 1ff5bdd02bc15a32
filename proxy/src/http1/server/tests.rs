//! Connections with real bytes on them, one side written by hand.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::write::COPIED_BYTES;
use super::{AHEAD_BYTES, DRAIN_BYTES, Http1};
use crate::answer::Head;
use crate::pieces::Pieces;

/// A connection, and its client's side of it, which has sent `said`.
async fn connection(said: &str) -> (Http1<DuplexStream>, DuplexStream) {
    let (ours, mut theirs) = duplex(1 << 20);
    theirs.write_all(said.as_bytes()).await.unwrap();
    (Http1::new(ours, [127, 0, 0, 1].into(), BytesMut::new()), theirs)
}

async fn next(http: &mut Http1<DuplexStream>) -> bool {
    http.next(|| ()).await
}

async fn body(http: &mut Http1<DuplexStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = http.piece().await? {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn head(status: StatusCode) -> Head {
    let mut head = Head::bare(status);
    head.set("x-a", "b");
    head
}

/// What the client has read once the connection has ended, without the date.
async fn read(http: Http1<DuplexStream>, mut theirs: DuplexStream) -> String {
    http.end().await;
    let mut text = String::new();
    theirs.read_to_string(&mut text).await.unwrap();
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: "));
    lines.collect()
}

#[tokio::test]
async fn e_01_requests_behind_one_another_are_served_in_their_order() {
    let said = "POST /a HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc\
                POST /b HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
                GET /c HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\nGET /d HTTP/1.1\r\nhost: h\r\n\r\n";
    let (mut http, theirs) = connection(said).await;
    for (path, expected, follows) in [("/a", "abc", true), ("/b", "de", true), ("/c", "", false)] {
        assert!(next(&mut http).await);
        assert_eq!(http.head().uri.path(), path);
        assert_eq!(body(&mut http).await.unwrap(), expected.as_bytes());
        http.whole(head(StatusCode::OK), Some(Bytes::from_static(b"ok"))).await.unwrap();
        assert_eq!(http.bytes(), (expected.len(), 2));
        assert_eq!(http.follows().await, follows, "{path}");
    }
    let one = "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 2\r\n";
    assert_eq!(read(http, theirs).await, format!("{one}\r\nok{one}\r\nok{one}connection: close\r\n\r\nok"));
}

#[tokio::test]
async fn a_body_whose_length_is_stated_comes_in_one_piece_within_its_limit() {
    let text = "b".repeat(300_000);
    let said = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{text}GET", text.len());
    for (limit, fits) in [(300_000, true), (299_999, false)] {
        let (mut http, _theirs) = connection(&said).await;
        assert!(next(&mut http).await);
        let mut pieces = Pieces::within(limit);
        let ended = loop {
            match http.gather(&mut pieces).await.unwrap() {
                Ok(true) => assert!(http.come() <= text.len()),
                Ok(false) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!(ended, fits);
        if fits {
            assert_eq!(pieces.join(), text);
            assert!(http.is_body_done());
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_or_pauses_is_an_error() {
    for framing in ["content-length: 3\r\n\r\nab", "transfer-encoding: chunked\r\n\r\n3\r\nab"] {
        let (mut http, theirs) = connection(&format!("POST / HTTP/1.1\r\nhost: h\r\n{framing}")).await;
        assert!(next(&mut http).await);
        http.set_read_timeout(Some(Duration::from_millis(20)));
        assert_eq!(body(&mut http).await.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        drop(theirs);
        assert_eq!(body(&mut http).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(!http.follows().await);
    }
}

#[tokio::test]
async fn pieces_are_chunks_or_end_with_the_connection() {
    let large = "l".repeat(COPIED_BYTES + 1);
    for (version, framing, expected) in [
        ("1.1", "transfer-encoding: chunked\r\n", format!("3\r\nabc\r\n4001\r\n{large}\r\n1\r\nd\r\n0\r\n\r\n")),
        ("1.0", "connection: close\r\n", format!("abc{large}d")),
    ] {
        let (mut http, theirs) = connection(&format!("GET / HTTP/{version}\r\nhost: h\r\n\r\n")).await;
        assert!(next(&mut http).await);
        http.begin(head(StatusCode::OK)).await.unwrap();
        for (piece, is_last) in [("abc", false), ("", false), (large.as_str(), false), ("d", true)] {
            http.write(Bytes::copy_from_slice(piece.as_bytes()), is_last).await.unwrap();
        }
        assert!(http.write(Bytes::from_static(b"more"), false).await.is_err(), "it is whole");
        assert_eq!(http.follows().await, version == "1.1");
        assert_eq!(read(http, theirs).await, format!("HTTP/1.1 200 OK\r\nx-a: b\r\n{framing}\r\n{expected}"));
    }
}

#[tokio::test]
async fn what_has_no_body_gets_none() {
    let (mut http, theirs) = connection(&"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n".repeat(2)).await;
    assert!(next(&mut http).await);
    http.whole(head(StatusCode::OK), Some(Bytes::from_static(b"abc"))).await.unwrap();
    assert!(http.follows().await && next(&mut http).await);
    http.whole(head(StatusCode::NO_CONTENT), None).await.unwrap();
    assert!(http.follows().await);
    let expected = "HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 3\r\n\r\nHTTP/1.1 204 No Content\r\nx-a: b\r\n\r\n";
    assert_eq!(read(http, theirs).await, expected);
}

#[tokio::test]
async fn e_03_what_a_handler_leaves_unread_is_never_the_next_request() {
    let unread = |length: usize, more: &str| {
        let body = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n".repeat(length / 34 + 1);
        format!("POST / HTTP/1.1\r\nhost: h\r\n{more}content-length: {length}\r\n\r\n{}", &body[..length])
    };
    let good = "GET /good HTTP/1.1\r\nhost: h\r\n\r\n";
    for (request, follows) in [
        (unread(1_000, ""), true),
        (unread(DRAIN_BYTES + 200_000, ""), false),
        (unread(1_000, "expect: 100-continue\r\n"), false),
    ] {
        let (mut http, _theirs) = connection(&format!("{request}{good}")).await;
        assert!(next(&mut http).await);
        http.whole(head(StatusCode::FORBIDDEN), Some(Bytes::new())).await.unwrap();
        assert_eq!(http.follows().await, follows);
        if follows {
            assert!(next(&mut http).await);
            assert_eq!(http.head().uri.path(), "/good");
        }
    }
}

#[tokio::test]
async fn e_13_a_client_that_waits_to_be_told_is_told_once() {
    let said = "POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let (mut http, mut theirs) = connection(said).await;
    assert!(next(&mut http).await);
    http.go_on().await.unwrap();
    theirs.write_all(b"ab").await.unwrap();
    assert_eq!(body(&mut http).await.unwrap(), b"ab");
    http.whole(head(StatusCode::OK), Some(Bytes::new())).await.unwrap();
    assert!(http.follows().await);
    let expected = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(read(http, theirs).await, expected);
}

#[tokio::test]
async fn e_02_a_head_that_is_none_ends_its_connection() {
    for said in
        ["GET / HTTP/1.1\nhost: h\n\n", "GET / HTTP/1.1\r\nhost: h\r\na\r\n\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"]
    {
        let (mut http, theirs) = connection(said).await;
        assert!(next(&mut http).await);
        assert_eq!(http.take_fault().map(|fault| fault.told().status), Some(400));
        http.whole(head(StatusCode::BAD_REQUEST), Some(Bytes::new())).await.unwrap();
        assert!(!http.follows().await);
        assert!(read(http, theirs).await.ends_with("connection: close\r\n\r\n"));
    }
}

#[tokio::test]
async fn who_leaves_is_seen_and_what_was_sent_ahead_is_kept() {
    let (mut http, mut theirs) = connection("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(next(&mut http).await);
    theirs.write_all(b"GET /b HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), http.gone()).await.is_err(), "still there");
    http.whole(head(StatusCode::OK), Some(Bytes::new())).await.unwrap();
    assert!(http.follows().await && next(&mut http).await);
    assert_eq!(http.head().uri.path(), "/b");
    theirs.write_all(&vec![b'x'; AHEAD_BYTES * 2]).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), http.gone()).await.is_err());
    assert!(http.buffer.len() < AHEAD_BYTES + super::super::READ_BYTES, "no more is read ahead than a bound");
    let (mut http, theirs) = connection("GET /a HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(next(&mut http).await);
    drop(theirs);
    http.gone().await;
}

#[tokio::test]
async fn a_switched_connection_carries_whatever_comes() {
    let (mut http, theirs) = connection("GET / HTTP/1.1\r\nhost: h\r\n\r\n\0raw\r\n").await;
    assert!(next(&mut http).await);
    http.begin(head(StatusCode::SWITCHING_PROTOCOLS)).await.unwrap();
    assert_eq!(http.piece().await.unwrap().unwrap(), "\0raw\r\n");
    http.write(Bytes::from_static(b"\x01back"), false).await.unwrap();
    http.write(Bytes::new(), true).await.unwrap();
    assert!(!http.follows().await);
    assert_eq!(read(http, theirs).await, "HTTP/1.1 101 Switching Protocols\r\nx-a: b\r\n\r\n\x01back");
}
