//! Request smuggling: what two parsers could read in two ways is refused and the connection closed, so that requests
//! accepted and requests sent upstream are the same, one to one.

use std::time::Duration;

use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::{Behaviour, Scene};

/// The hidden request of each case asks for this, which must never be seen upstream.
const HIDDEN: &str = "hidden-request-marker";

fn hidden(bearer: &str) -> String {
    let body = chat("alpha", HIDDEN, 5).to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Heads (without the first line, host and credential) and bodies that are ambiguous. `H` in a body is the hidden request.
const AMBIGUOUS: [(&str, &str, &str); 38] = [
    ("CL and TE", "content-length: 5\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nH"),
    ("TE and CL", "transfer-encoding: chunked\r\ncontent-length: 5\r\n", "0\r\n\r\nH"),
    ("CL 0 and TE", "content-length: 0\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nH"),
    ("TE.TE: two codings", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\nH"),
    ("TE.TE: two chunked", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\nH"),
    ("TE list, chunked first", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\nH"),
    ("TE list, chunked twice", "transfer-encoding: chunked, chunked\r\n", "0\r\n\r\nH"),
    ("TE unknown", "transfer-encoding: xchunked\r\n", "0\r\n\r\nH"),
    ("TE unknown with CL", "transfer-encoding: xchunked\r\ncontent-length: 5\r\n", "0\r\n\r\nH"),
    ("TE gzip", "transfer-encoding: gzip\r\n", "0\r\n\r\nH"),
    ("TE quoted", "transfer-encoding: \"chunked\"\r\n", "0\r\n\r\nH"),
    ("TE with a vertical tab", "transfer-encoding: \x0bchunked\r\n", "0\r\n\r\nH"),
    ("TE with a space before the colon", "transfer-encoding : chunked\r\n", "0\r\n\r\nH"),
    ("TE with a tab before the colon", "transfer-encoding\t: chunked\r\n", "0\r\n\r\nH"),
    ("TE folded", "transfer-encoding:\r\n chunked\r\n", "0\r\n\r\nH"),
    ("TE with NUL", "transfer-encoding: chunked\0\r\n", "0\r\n\r\nH"),
    (
        "TE with an underscore twin",
        "transfer_encoding: chunked\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "0\r\n\r\nH",
    ),
    ("two CLs that differ", "content-length: 0\r\ncontent-length: 5\r\n", "H"),
    ("two CLs that agree", "content-length: 2\r\ncontent-length: 2\r\n", "{}H"),
    ("CL list", "content-length: 2, 2\r\n", "{}H"),
    ("CL list that differs", "content-length: 0, 2\r\n", "{}H"),
    ("CL with a plus", "content-length: +2\r\n", "{}H"),
    ("CL negative", "content-length: -1\r\n", "{}H"),
    ("CL hex", "content-length: 0x2\r\n", "{}H"),
    ("CL with a letter", "content-length: 2a\r\n", "{}H"),
    ("CL empty", "content-length: \r\n", "{}H"),
    ("CL with inner space", "content-length: 1 2\r\n", "{}H"),
    ("CL beyond 64 bits", "content-length: 18446744073709551618\r\n", "{}H"),
    ("CL with a space before the colon", "content-length : 2\r\n", "{}H"),
    ("CL folded", "content-length:\r\n 2\r\n", "{}H"),
    ("obs-fold in another header", "x-a: b\r\n c\r\ncontent-length: 2\r\n", "{}H"),
    ("bare LF after a header", "x-a: b\ncontent-length: 2\r\n", "{}H"),
    ("bare CR in a header", "x-a: b\rcontent-length: 0\r\ncontent-length: 2\r\n", "{}H"),
    ("NUL in a header", "x-a: \0\r\ncontent-length: 2\r\n", "{}H"),
    ("a header line without a colon", "nonsense\r\ncontent-length: 2\r\n", "{}H"),
    ("an empty header name", ": value\r\ncontent-length: 2\r\n", "{}H"),
    ("chunk size beyond 64 bits", "transfer-encoding: chunked\r\n", "10000000000000002\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size with a sign", "transfer-encoding: chunked\r\n", "+2\r\n{}\r\n0\r\n\r\nH"),
];

/// The same for what frames a chunked body. `E` is 100,000 bytes of a chunk extension.
const CHUNKS: [(&str, &str); 16] = [
    ("chunk size negative", "-2\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size with a prefix of hex", "0x2\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size after a space", " 2\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size absent", "\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size that is no number", "two\r\n{}\r\n0\r\n\r\nH"),
    ("chunk size that ends in a bare LF", "2\n{}\r\n0\r\n\r\nH"),
    ("chunk size that ends in a bare CR", "2\r{}\r\n0\r\n\r\nH"),
    ("chunk longer than its size", "2\r\n{}{}\r\n0\r\n\r\nH"),
    ("chunk without an end", "2\r\n{}0\r\n\r\nH"),
    ("chunk that ends in a bare LF", "2\r\n{}\n0\r\n\r\nH"),
    ("chunk that ends in two bytes that are no line's end", "2\r\n{}XX0\r\n\r\nH"),
    ("chunk extension with a bare LF", "2;a=b\nc\r\n{}\r\n0\r\n\r\nH"),
    ("chunk extension with a bare CR", "2;a\rb\r\n{}\r\n0\r\n\r\nH"),
    ("chunk extension without end", "2;E\r\n{}\r\n0\r\n\r\nH"),
    ("last chunk that ends in bare LFs", "2\r\n{}\r\n0\n\nH"),
    ("a second size in a chunk's first line", "2 0\r\n{}\r\n0\r\n\r\nH"),
];

/// Heads and bodies that are unusual, and that servers may take or refuse, as long as each request that is answered is sent
/// upstream once. `B` in a body is a chat in one chunk.
const UNUSUAL: [(&str, &str, &str); 10] = [
    ("a trailer", "transfer-encoding: chunked\r\n", "B0\r\nx-checksum: 1\r\n\r\nH"),
    ("a trailer that frames", "transfer-encoding: chunked\r\n", "B0\r\ncontent-length: 700\r\n\r\nH"),
    ("a trailer that codes", "transfer-encoding: chunked\r\n", "B0\r\ntransfer-encoding: chunked\r\n\r\nH"),
    ("a trailer that authorizes", "transfer-encoding: chunked\r\n", "B0\r\nauthorization: Bearer x\r\n\r\nH"),
    ("a trailer that names a host", "transfer-encoding: chunked\r\n", "B0\r\nhost: other\r\n\r\nH"),
    ("a folded trailer", "transfer-encoding: chunked\r\n", "B0\r\nx-a: b\r\n c\r\n\r\nH"),
    ("a trailer that ends in a bare LF", "transfer-encoding: chunked\r\n", "B0\r\nx-a: b\n\r\nH"),
    ("a last chunk of many zeros", "transfer-encoding: chunked\r\n", "B0000000000\r\n\r\nH"),
    ("a quoted chunk extension", "transfer-encoding: chunked\r\n", "B0;a=\"\\r\"\r\n\r\nH"),
    ("TE in the header TE", "te: chunked\r\ntransfer-encoding: chunked\r\n", "B0\r\n\r\nH"),
];

/// Sends bytes that must not be taken for more than one request; what is wrong with the answer, if anything.
async fn wrong_answer(scene: &Scene, what: &str, bytes: &[u8]) -> Option<String> {
    let calls = scene.upstream.calls();
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(bytes).await;
    let (answers, closed) = connection.rest_within(Duration::from_secs(5)).await;
    let answers = String::from_utf8_lossy(&answers).into_owned();
    // An answer's head may follow the body before it without a line's end.
    let numbered = |text: &&str| text.bytes().rev().take(3).all(|byte| byte.is_ascii_digit());
    let statuses: Vec<&str> =
        answers.match_indices("HTTP/1.").filter_map(|(at, _)| answers.get(at..at + 12)).filter(numbered).collect();
    let refused = |line: &&str| [" 400", " 405", " 501", " 505"].iter().any(|code| line.ends_with(code));
    let run = scene.upstream.calls() - calls;
    let good = statuses.len() <= 1 && statuses.iter().all(refused) && closed && run == 0;
    (!good).then(|| format!("{what}: {statuses:?}, closed: {closed}, {run} run upstream"))
}

/// E-01, E-02
#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_400_and_the_connection_closes() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let mut wrong = Vec::new();
    for (what, head, body) in AMBIGUOUS {
        let body = body.replace('H', &hidden(&bearer));
        let bytes =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\n{head}\r\n{body}");
        wrong.extend(wrong_answer(&scene, what, bytes.as_bytes()).await);
    }
    let extension = "e".repeat(100_000);
    for (what, body) in CHUNKS {
        let body = body.replace('E', &extension).replace('H', &hidden(&bearer));
        let bytes = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        );
        wrong.extend(wrong_answer(&scene, what, bytes.as_bytes()).await);
    }
    assert_eq!(scene.upstream.calls(), 0, "a hidden request was run: {wrong:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// E-01: what may be taken in one way or the other is counted the same on both sides
#[tokio::test(flavor = "multi_thread")]
async fn unusual_framing_is_refused_or_each_request_of_it_is_sent_once() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let chat = chat("alpha", "first", 5).to_string();
    let chunk = format!("{:x}\r\n{chat}\r\n", chat.len());
    for (what, head, body) in UNUSUAL {
        let calls = scene.upstream.calls();
        let body = body.replacen('B', &chunk, 1).replacen('H', &hidden(&bearer), 1);
        let bytes =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\n{head}\r\n{body}");
        let mut connection = Connection::open(scene.gateway.edge()).await;
        connection
            .send(&[bytes.as_bytes(), b"GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"].concat())
            .await;
        let (mut answered, mut good) = (Vec::new(), 0);
        while let Some(answer) = connection.answer().await {
            answered.push(answer.status());
            good += usize::from(answer.text().contains("chat.completion"));
        }
        assert_eq!(scene.upstream.calls() - calls, good, "{what}: {answered:?}");
        assert!(answered.len() <= 3, "{what}: {answered:?}");
    }
    let calls = scene.upstream.calls();
    let (settled, rows) = (scene.balanced().await, scene.rows());
    assert!(settled.pending == 0 && rows.len() == calls, "{} rows of {calls} requests", rows.len());
}

/// E-02, E-04, E-12: other first lines, other hosts, other protocols
#[tokio::test(flavor = "multi_thread")]
async fn odd_request_lines_are_refused() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let line = |first: &str, hosts: &str| {
        format!("{first}\r\n{hosts}authorization: {bearer}\r\ncontent-length: 2\r\n\r\n{{}}{}", hidden(&bearer))
    };
    let cases = [
        (
            "HTTP/1.0 with TE",
            format!(
                "POST /v1/chat/completions HTTP/1.0\r\nhost: h\r\nauthorization: {bearer}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{}",
                hidden(&bearer)
            ),
        ),
        (
            "bare LF everywhere",
            format!(
                "POST /v1/chat/completions HTTP/1.1\nhost: h\nauthorization: {bearer}\ncontent-length: 2\n\n{{}}{}",
                hidden(&bearer)
            ),
        ),
        (
            "no version",
            format!("POST /v1/chat/completions\r\nhost: h\r\nauthorization: {bearer}\r\n\r\n{}", hidden(&bearer)),
        ),
        (
            "version 1.2",
            format!(
                "POST /v1/chat/completions HTTP/1.2\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: 2\r\n\r\n{{}}{}",
                hidden(&bearer)
            ),
        ),
        (
            "two spaces",
            format!(
                "POST  /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: 2\r\n\r\n{{}}{}",
                hidden(&bearer)
            ),
        ),
        ("absolute form", line("POST http://h/v1/chat/completions HTTP/1.1", "host: h\r\n")),
        ("absolute form of another host", line("POST http://other/v1/chat/completions HTTP/1.1", "host: h\r\n")),
        ("authority form", line("POST h:80 HTTP/1.1", "host: h\r\n")),
        ("CONNECT", line("CONNECT h:80 HTTP/1.1", "host: h\r\n")),
        ("asterisk form", line("OPTIONS * HTTP/1.1", "host: h\r\n")),
        ("a fragment", line("POST /v1/chat/completions#f HTTP/1.1", "host: h\r\n")),
        ("two hosts", line("POST /v1/chat/completions HTTP/1.1", "host: h\r\nhost: h\r\n")),
        ("two hosts in one", line("POST /v1/chat/completions HTTP/1.1", "host: h, other\r\n")),
        ("no host", line("POST /v1/chat/completions HTTP/1.1", "")),
        ("an empty host", line("POST /v1/chat/completions HTTP/1.1", "host: \r\n")),
        ("a host with a user", line("POST /v1/chat/completions HTTP/1.1", "host: h@other\r\n")),
        ("a host with a path", line("POST /v1/chat/completions HTTP/1.1", "host: h/v1\r\n")),
        ("two hosts of HTTP/1.0", line("POST /v1/chat/completions HTTP/1.0", "host: h\r\nhost: other\r\n")),
        ("a tab in the first line", line("POST\t/v1/chat/completions HTTP/1.1", "host: h\r\n")),
        ("NUL in the first line", line("POST /v1/chat/completions\0 HTTP/1.1", "host: h\r\n")),
        ("a space before the method", line(" POST /v1/chat/completions HTTP/1.1", "host: h\r\n")),
        ("a version in small letters", line("POST /v1/chat/completions http/1.1", "host: h\r\n")),
        ("a version with two digits", line("POST /v1/chat/completions HTTP/1.10", "host: h\r\n")),
        ("version 2.0", line("POST /v1/chat/completions HTTP/2.0", "host: h\r\n")),
        (
            "an upgrade to HTTP/2",
            line(
                "POST /v1/chat/completions HTTP/1.1",
                "host: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
            ),
        ),
        (
            "an upgrade to a WebSocket",
            line(
                "POST /v1/chat/completions HTTP/1.1",
                "host: h\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ),
        ),
        (
            "space in the target",
            format!(
                "POST /v1/chat /completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: 2\r\n\r\n{{}}{}",
                hidden(&bearer)
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, bytes) in cases {
        wrong.extend(wrong_answer(&scene, what, bytes.as_bytes()).await);
    }
    assert_eq!(scene.upstream.calls(), 0, "{wrong:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// E-01, the positive twin: what is unambiguous is accepted, each once, in order
#[tokio::test(flavor = "multi_thread")]
async fn accepted_requests_and_upstream_requests_are_one_to_one() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(1));
    let bearer = format!("Bearer {}", scene.tenant.token);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\n");
    let mut bytes = Vec::new();
    for at in 0..20 {
        let body = chat("alpha", &format!("number-{at}"), 5).to_string();
        match at % 4 {
            0 => bytes.extend(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()),
            1 => bytes.extend(
                format!("{head}Transfer-Encoding: Chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes(),
            ),
            2 => bytes.extend(
                format!("{head}transfer-encoding: chunked\r\n\r\n{:X};name=value\r\n{body}\r\n0\r\n\r\n", body.len())
                    .into_bytes(),
            ),
            _ => {
                let (first, second) = body.split_at(11);
                bytes.extend(
                    format!(
                        "{head}transfer-encoding: chunked\r\n\r\nb\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                        second.len()
                    )
                    .into_bytes(),
                );
            }
        }
    }
    let mut connection = Connection::open(scene.gateway.edge()).await;
    connection.send(&bytes).await;
    for at in 0..20 {
        let answer = connection.answer().await.unwrap_or_else(|| panic!("answer {at}"));
        assert_eq!(answer.status(), 200, "{at}: {}", answer.text());
    }
    let seen: Vec<String> = scene
        .upstream
        .exchanges()
        .iter()
        .map(|exchange| exchange.json()["messages"][0]["content"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(seen, (0..20).map(|at| format!("number-{at}")).collect::<Vec<_>>());
}

/// E-03: an early refusal with the body unread, then a pipelined request
#[tokio::test(flavor = "multi_thread")]
async fn the_unread_body_of_a_refused_request_is_never_run_as_the_next_one() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let smuggled = hidden(&bearer);
    let good = raw::request("GET", "/healthz", &[], b"");
    let refused = [
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer nobody\r\ncontent-length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        format!(
            "POST /v1/nowhere HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer nobody\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
        format!("GET /healthz HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{smuggled}", smuggled.len()),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\ncontent-length: 40000000\r\n\r\n{smuggled}"
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: {bearer}\r\nx-filler: {}\r\ncontent-length: {}\r\n\r\n{smuggled}",
            "f".repeat(40_000),
            smuggled.len()
        ),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer nobody\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
    ];
    for request in refused {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        let mut bytes = request.clone().into_bytes();
        bytes.extend_from_slice(&good);
        connection.send(&bytes).await;
        let first = connection.answer().await.expect("an answer");
        let expected =
            if request.starts_with("GET /healthz") { &[200_u16, 400][..] } else { &[400, 401, 404, 413, 415, 431] };
        assert!(expected.contains(&first.status()), "{}", first.text());
        if let Some(second) = connection.answer().await {
            assert_eq!(second.status(), 200);
            assert!(!second.text().contains("chat.completion"), "the body was run as a request");
        }
    }
    assert_eq!(scene.upstream.calls(), 0);
}

/// E-03: a body that spends the budget, refused, then a pipelined request that is a request of its own
#[tokio::test(flavor = "multi_thread")]
async fn a_request_behind_a_429_is_the_next_one_and_refused_in_its_turn() {
    let scene = Scene::with_quota(serde_json::json!({ "usd_per_day": "0.000000001" })).await;
    let bearer = format!("Bearer {}", scene.tenant.token);
    let mut connection = Connection::open(scene.gateway.edge()).await;
    let good = raw::request("GET", "/v1/quota", &[("authorization", bearer.as_str())], b"");
    connection.send(&[hidden(&bearer).as_bytes(), hidden(&bearer).as_bytes(), &good].concat()).await;
    for expected in [429, 429, 200] {
        let answer = connection.answer().await.expect("an answer each");
        assert_eq!(answer.status(), expected, "{}", answer.text());
    }
    assert_eq!(scene.upstream.calls(), 0);
}

/// E-01: the corpus is as large as the check asks
#[test]
fn the_corpus_has_sixty_cases() {
    assert!(AMBIGUOUS.len() + CHUNKS.len() + UNUSUAL.len() >= 60);
}
