//! `/v1/workspace/files`: a tenant's own files, which hostile code may have made.

use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::raw::Connection;
use openclawmu_tests::wait::until;
use openclawmu_tests::{Client, Reply, Scene, Setup, Upstream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};

async fn put(client: &Client, path: &str, content: &[u8]) -> Reply {
    let request = client.build(Method::PUT, &format!("/v1/workspace/files/{path}")).body(content.to_vec());
    Reply::of(request.send().await.expect("an answer")).await
}

async fn ask(client: &Client, method: Method, path: &str) -> Reply {
    let request = client.build(method, &format!("/v1/workspace/files/{path}"));
    Reply::of(request.send().await.expect("an answer")).await
}

async fn get(client: &Client, path: &str) -> Reply {
    ask(client, Method::GET, path).await
}

async fn shell(client: &Client, script: &str) -> Value {
    client.post("/v1/sandbox/exec", &json!({ "command": ["sh", "-c", script] })).await.ok()
}

async fn names(client: &Client, query: &str) -> Vec<String> {
    let listed = client.get(&format!("/v1/workspace/files{query}")).await.ok();
    let entries = listed["data"].as_array().expect("a list").clone();
    entries.iter().map(|entry| entry["path"].as_str().unwrap_or("-").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_read_listed_moved_and_removed() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let written = put(client, "docs/a%20b.txt", b"0123456789").await;
    assert_eq!((written.status, written.json()), (201, json!({ "path": "docs/a%20b.txt", "size_bytes": 10 })));
    assert_eq!(put(client, "docs/a%20b.txt", b"0123456789").await.status, 200, "written anew");
    let read = get(client, "docs/a%20b.txt").await;
    assert_eq!((read.status, read.text().as_str()), (200, "0123456789"));
    assert_eq!(read.header("content-disposition"), Some("attachment"));
    for (range, status, text) in [("bytes=2-4", 206, "234"), ("bytes=-3", 206, "789"), ("bytes=8-", 206, "89")] {
        let request = client.build(Method::GET, "/v1/workspace/files/docs/a%20b.txt").header("range", range);
        let part = Reply::of(request.send().await.expect("an answer")).await;
        assert_eq!((part.status, part.text().as_str()), (status, text), "{range}");
    }
    let request = client.build(Method::GET, "/v1/workspace/files/docs/a%20b.txt").header("range", "bytes=10-");
    assert_eq!(Reply::of(request.send().await.expect("an answer")).await.status, 416);
    assert_eq!(names(client, "").await, ["docs"]);
    assert_eq!(names(client, "?prefix=docs/").await, ["docs/a%20b.txt"]);
    let moved = client.post("/v1/workspace/files/docs/a%20b.txt", &json!({ "move_to": "new/c.txt" })).await;
    assert_eq!(moved.ok(), json!({ "path": "new/c.txt" }));
    assert_eq!(get(client, "docs/a%20b.txt").await.status, 404);
    assert_eq!(shell(client, "cat new/c.txt; echo more >> new/c.txt").await["stdout"], "0123456789");
    assert_eq!(get(client, "new/c.txt").await.text(), "0123456789more\n");
    assert_eq!(ask(client, Method::DELETE, "new").await.status, 409, "a directory with something in it");
    assert_eq!(ask(client, Method::DELETE, "new/c.txt").await.status, 204);
    assert_eq!(ask(client, Method::DELETE, "new?recursive=true").await.status, 204);
    assert_eq!(names(client, "").await, ["docs"]);
}

/// P-01, X-18, X-20, X-21: whatever code left in a workspace opens nothing but its own files.
#[tokio::test(flavor = "multi_thread")]
async fn what_code_left_there_opens_nothing_else() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let script = "ln -s /etc/passwd passwd; ln -s /proc/self/environ environ; ln -s / root; ln -s ../../.. up; mkfifo pipe; \
        mkdir dir; echo mine > dir/file; ln dir/file hard; echo plain > plain; : > './-rf'; : > \"$(printf 'a\\nb')\"; \
        : > \"$(printf '\\377')\"";
    assert_eq!(shell(client, script).await["exit_code"], 0);
    for path in ["passwd", "environ", "root/etc/passwd", "up/openclawmu.db", "pipe", "hard", "dir", "none"] {
        let reply = get(client, path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        reply.refused(404, "invalid_request_error", "file_not_found");
    }
    for path in ["..%2f..%2fopenclawmu.db", "%2e%2e%2fx", "a%00b", "dir//file", "%zz"] {
        let reply = get(client, path).await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
    }
    assert_eq!(put(client, "passwd", b"x").await.status, 404, "nothing is written through a link");
    assert_eq!(put(client, "root/tmp/x", b"x").await.status, 404);
    assert_eq!(get(client, "plain").await.text(), "plain\n");
    let listed = client.get("/v1/workspace/files?limit=1000").await.ok();
    assert_eq!(listed["data"].as_array().expect("a list").len(), 11, "all of it is seen: {listed}");
    for path in ["passwd", "pipe", "root", "up", "hard", "-rf"] {
        assert_eq!(ask(client, Method::DELETE, path).await.status, 204, "{path} can be removed");
    }
    assert!(std::fs::read_to_string("/etc/passwd").expect("the host's").contains("root"), "the host's is there");
}

/// a listing goes on where it stopped, names that no path may hold included.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_pages_through_everything() {
    let scene = Scene::new().await;
    let script = "i=0; while [ $i -lt 250 ]; do : > f$i; i=$((i+1)); done; : > \"$(printf '\\377\\001')\"";
    assert_eq!(shell(&scene.client, script).await["exit_code"], 0);
    let (mut after, mut seen) = (String::new(), 0);
    loop {
        let page = scene.client.get(&format!("/v1/workspace/files?limit=100{after}")).await.ok();
        seen += page["data"].as_array().expect("a list").len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 251);
}

/// P-01: another tenant's file is not there, by any name.
#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_files_are_not_there() {
    let scene = Scene::new().await;
    let rival = scene.admin().tenant("rival", json!({})).await;
    let rival = scene.client.with_token(&rival.token);
    assert_eq!(put(&scene.client, "secret", b"of acme").await.status, 201);
    for path in ["secret", "..%2Facme%2Fworkspace%2Fsecret", "../acme/workspace/secret"] {
        let reply = get(&rival, path).await;
        assert!(matches!(reply.status, 400 | 404) && !reply.text().contains("of acme"), "{path}: {}", reply.text());
    }
    assert_eq!(get(&scene.client, "secret").await.text(), "of acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_its_storage_nothing_is_written() {
    // Bodies so small that a client that is refused has sent all of its own: it sees the answer, never a reset.
    let scene = Scene::with_quota(json!({ "storage_bytes": 40 << 10 })).await;
    assert_eq!(put(&scene.client, "small", &[b'x'; 1000]).await.status, 201);
    let refused = put(&scene.client, "large", &vec![b'x'; 50 << 10]).await;
    refused.refused(507, "invalid_request_error", "storage_quota_exceeded");
    assert_eq!(put(&scene.client, "half", &vec![b'x'; 28 << 10]).await.status, 201);
    put(&scene.client, "other", &vec![b'x'; 28 << 10]).await.refused(
        507,
        "invalid_request_error",
        "storage_quota_exceeded",
    );
    assert_eq!(names(&scene.client, "").await, ["half", "small"]);
}

/// what is written at the same time is within the quota together.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_side_by_side_do_not_pass_the_storage_together() {
    let scene = Scene::with_quota(json!({ "storage_bytes": 40 << 10 })).await;
    let (pieces, inbox) = channel::<Result<Vec<u8>, std::io::Error>>(1);
    let next = |mut inbox: Receiver<_>| async { inbox.recv().await.map(|piece| (piece, inbox)) };
    let body = reqwest::Body::wrap_stream(futures_util::stream::unfold(inbox, next));
    let slow = scene.client.build(Method::PUT, "/v1/workspace/files/slow").body(body);
    let slow = tokio::spawn(async move { Reply::of(slow.send().await.expect("an answer")).await });
    pieces.send(Ok(vec![b'x'; 4 << 10])).await.expect("it is sent");
    let begun = || async { (!names(&scene.client, "").await.is_empty()).then_some(()) };
    until("it has begun to be written", begun).await;
    assert_eq!(put(&scene.client, "quick", &vec![b'x'; 28 << 10]).await.status, 201);
    pieces.send(Ok(vec![b'x'; 12 << 10])).await.expect("it is sent");
    drop(pieces);
    slow.await.expect("no panic").refused(507, "invalid_request_error", "storage_quota_exceeded");
    assert_eq!(names(&scene.client, "").await, ["quick"], "nothing of it stays");
}

/// Whoever sends more than fits is told so, also where all of it is sent before an answer is read, and far more than sockets hold.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_far_over_the_storage_is_read_on_and_its_sender_sees_the_507() {
    const MEGABYTES: usize = 24;
    let scene = Scene::with_quota(json!({ "storage_bytes": 40 << 10 })).await;
    let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    for (framing, piece, end) in [
        (format!("content-length: {}", MEGABYTES << 20), vec![b'x'; 1 << 20], ""),
        ("transfer-encoding: chunked".to_owned(), chunk, "0\r\n\r\n"),
    ] {
        let mut connection = Connection::open(scene.gateway.edge()).await;
        let head = format!(
            "PUT /v1/workspace/files/large HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {}\r\n{framing}\r\n\r\n",
            scene.client.token()
        );
        assert!(connection.send(head.as_bytes()).await);
        for sent in 0..MEGABYTES {
            assert!(connection.send(&piece).await, "{framing}: reset after {sent} MiB");
        }
        assert!(connection.send(end.as_bytes()).await, "{framing}: reset at the end");
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(
            (answer.status(), answer.header("connection")),
            (507, Some("close")),
            "{framing}: {}",
            answer.text()
        );
        assert!(connection.closes().await, "{framing}: what is left of the body is no request");
    }
    assert!(names(&scene.client, "").await.is_empty());
}

/// M-10: what files take of the disk is on the bill, the same in every report, by the hours that they were there.
#[tokio::test(flavor = "multi_thread")]
async fn a_megabyte_for_six_hours_is_a_quarter_of_a_megabyte_day_in_every_report() {
    const NOON: i64 = 1_795_348_800;
    let dir = tempfile::tempdir().expect("a directory");
    let clock = FakeClock::new(dir.path());
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let noon = NOON - i64::try_from(real).expect("small");
    clock.shift(noon);
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = Scene::of(upstream, setup, json!({ "storage_bytes": 1 << 30 })).await;
    assert_eq!(put(&scene.client, "file", &vec![b'x'; 1 << 20]).await.status, 201);
    let looked = || async {
        let found: Result<i64, _> = openclawmu_tests::ledger::open(&scene.gateway.data()).query_row(
            "SELECT bytes FROM storage_looks",
            [],
            |row| row.get(0),
        );
        found.ok().filter(|bytes| *bytes >= 1 << 20)
    };
    until("the upload's own look at the files", looked).await;
    clock.shift(noon + 6 * 3_600);
    let usage = || async {
        let usage = scene.client.get("/v1/usage").await.ok();
        (usage["total"]["storage_byte_days"].as_u64()? > 0).then_some(usage)
    };
    let usage = until("the look of the next hour", usage).await;
    let total = usage["total"]["storage_byte_days"].as_u64().expect("a number");
    // Some blocks of the file system's own, and the seconds that this test takes.
    assert!((256 << 10..300 << 10).contains(&total), "{usage}");
    let row = usage["rows"].as_array().expect("rows").iter().find(|row| row["model"] == "storage");
    assert_eq!(row.expect("a row of its own")["storage_byte_days"], total, "{usage}");
    let report = scene.gateway.cli(&["billing", "report", "acme", "--period", "2026-11", "--csv"]).await;
    let report = report.ok();
    let line = report.lines().find(|line| line.contains(",storage,")).expect("a line of its own").to_owned();
    assert_eq!(line.split(',').nth(15), Some(total.to_string().as_str()), "{report}");
    let json = scene.admin().get("/v1/reports/usage?period=2026-11&format=json").await;
    assert_eq!(json["total"]["storage_byte_days"], total, "{json}");
}
