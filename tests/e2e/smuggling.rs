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
    let refused = |line: &&str| [" 400", " 501", " 505"].iter().any(|code| line.ends_with(code));
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
    assert_eq!(scene.upstream.calls(), 0, "a hidden request was run: {wrong:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// E-02, other first lines
#[tokio::test(flavor = "multi_thread")]
async fn odd_request_lines_are_refused() {
    let scene = Scene::new().await;
    let bearer = format!("Bearer {}", scene.tenant.token);
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
    ];
    for request in refused {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        let mut bytes = request.clone().into_bytes();
        bytes.extend_from_slice(&good);
        connection.send(&bytes).await;
        let first = connection.answer().await.expect("an answer");
        let expected = if request.starts_with("GET /healthz") { &[200_u16, 400][..] } else { &[400, 401, 404, 415] };
        assert!(expected.contains(&first.status()), "{}", first.text());
        if let Some(second) = connection.answer().await {
            assert_eq!(second.status(), 200);
            assert!(!second.text().contains("chat.completion"), "the body was run as a request");
        }
    }
    assert_eq!(scene.upstream.calls(), 0);
}
