//! Hostile names in the place of every id that a path or a body carries: refused, and nothing outside is opened.

use std::path::Path;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::{Scene, ledger};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::{Value, json};

/// Files outside the data directory that nobody has any business with, and whether anybody opened one.
struct Outside {
    watch: rustix::fd::OwnedFd,
}

impl Outside {
    /// In `canary`, beside the data directory.
    fn new(dir: &Path) -> Self {
        let canary = dir.join("canary");
        std::fs::create_dir(&canary).expect("a directory");
        for name in ["secret", "secret.json", "secret.jsonl", "config.toml"] {
            std::fs::write(canary.join(name), "{\"secret\":\"canary\"}").expect("a file");
        }
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify");
        inotify::add_watch(&watch, &canary, WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::CREATE)
            .expect("a watch");
        Self { watch }
    }

    /// Whether a file was opened, or the directory itself, since the last look.
    fn touched(&self) -> bool {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        let mut any = false;
        while events.next().is_ok() {
            any = true;
        }
        any
    }
}

/// What is put in the place of a name, as it stands in a request's target.
fn corpus(dir: &Path) -> Vec<String> {
    let canary = dir.join("canary/secret").to_str().expect("UTF-8").to_owned();
    let encoded = canary.replace('/', "%2f");
    let mut names: Vec<String> = (1..=6).map(|up| format!("{}canary/secret", "../".repeat(up))).collect();
    names.extend((1..=6).map(|up| format!("{}canary%2fsecret", "%2e%2e%2f".repeat(up))));
    names.extend(
        [
            "..",
            "%2e%2e",
            ".%2e/.%2e/canary/secret",
            "%2e%2e/%2e%2e/%2e%2e/canary/secret",
            "%252e%252e%252f%252e%252e%252fcanary%252fsecret",
            "..%5c..%5ccanary%5csecret",
            "..\\..\\canary\\secret",
            "%00",
            "acme%00",
            "acme%0a",
            "%c0%ae%c0%ae%2f%c0%ae%c0%ae%2fcanary%2fsecret",
            "%e0%80%ae%e0%80%ae/canary/secret",
            "//canary/secret",
            "%2fproc%2fself%2fenviron",
            "/proc/self/environ",
            "CON",
            "acme.",
            "acme%2e",
            "acme%20",
            "%ef%bd%81cme",
            "%d0%b0cme",
            "acme%ff",
        ]
        .map(str::to_owned),
    );
    names.extend([canary, encoded, "a".repeat(300), "../".repeat(1_000), "a/".repeat(1_000), "%2e%2e%2f".repeat(600)]);
    names
}

/// One request as it stands, on a connection of its own; the status, or `None` where the connection was closed instead.
async fn status(address: std::net::SocketAddr, method: &str, target: &str, key: &str) -> Option<u16> {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("connection", "close")];
    let body: &[u8] = if matches!(method, "GET" | "DELETE") { b"" } else { b"{}" };
    let mut connection = Connection::open(address).await;
    connection.send(&raw::request(method, target, &headers, body)).await;
    connection.answer().await.map(|answer| answer.status())
}

/// P-01, P-07, by every path of the edge that has a name in it
#[tokio::test(flavor = "multi_thread")]
async fn p_01_a_hostile_name_in_a_path_of_the_edge_is_refused_and_opens_nothing() {
    let scene = Scene::new().await;
    let (edge, token) = (scene.gateway.edge(), scene.tenant.token.clone());
    let kept = scene.client.post("/v1/responses", &json!({ "model": "alpha", "input": "hello" })).await.ok();
    let outside = Outside::new(scene.gateway.dir());
    let calls = scene.upstream.calls();
    for name in corpus(scene.gateway.dir()) {
        for (method, path) in [
            ("GET", format!("/v1/models/{name}")),
            ("GET", format!("/v1/responses/{name}")),
            ("DELETE", format!("/v1/responses/{name}")),
            ("GET", format!("/v1/responses/{name}/input_items")),
            ("POST", format!("/v1/responses/{name}/cancel")),
            ("GET", format!("/v1/files/{name}")),
            ("GET", format!("/v1/files/{name}/content")),
            ("DELETE", format!("/v1/files/{name}")),
            ("GET", format!("/v1/batches/{name}")),
            ("POST", format!("/v1/batches/{name}/cancel")),
            ("GET", format!("/v1/agents/{name}")),
            ("PATCH", format!("/v1/agents/{name}")),
            ("DELETE", format!("/v1/agents/{name}")),
            ("GET", format!("/v1/sessions/{name}")),
            ("DELETE", format!("/v1/sessions/{name}")),
            ("GET", format!("/v1/sessions?agent={name}")),
            ("GET", format!("/v1/memory/{name}")),
            ("GET", format!("/v1/memory/memory/{name}.md")),
            ("PUT", format!("/v1/memory/{name}")),
            ("DELETE", format!("/v1/memory/memory/{name}.md")),
            ("PUT", format!("/v1/memory/MEMORY.md?agent={name}")),
            ("POST", format!("/v1beta/models/{name}:generateContent")),
        ] {
            let seen = status(edge, method, &path, &token).await;
            let refused = matches!(seen, Some(400 | 404 | 405));
            assert!(refused, "{method} {} -> {seen:?}", &path[..path.len().min(200)]);
        }
    }
    assert!(!outside.touched(), "a file outside was opened");
    assert_eq!(scene.upstream.calls(), calls, "nobody was asked");
    // The twins: a good name is answered, and the watch sees who opens a file.
    let id = kept["id"].as_str().expect("an id");
    assert_eq!(status(edge, "GET", &format!("/v1/responses/{id}"), &token).await, Some(200));
    assert_eq!(status(edge, "GET", "/v1/models/alpha", &token).await, Some(200));
    std::fs::read(scene.gateway.dir().join("canary/secret")).expect("a file");
    assert!(outside.touched(), "the watch works");
}

/// P-01, by every id that a body of the edge carries
#[tokio::test(flavor = "multi_thread")]
async fn p_01_a_hostile_id_in_a_body_is_refused_and_opens_nothing() {
    let scene = Scene::new().await;
    let outside = Outside::new(scene.gateway.dir());
    for name in corpus(scene.gateway.dir()) {
        for (path, body) in [
            ("/v1/responses", json!({ "model": "alpha", "input": "x", "previous_response_id": name })),
            (
                "/v1/batches",
                json!({ "input_file_id": name, "endpoint": "/v1/chat/completions", "completion_window": "24h" }),
            ),
        ] {
            let reply = scene.client.post(path, &body).await;
            assert!([400, 404].contains(&reply.status), "{path} with {name:?}: {} {}", reply.status, reply.text());
        }
        let made = scene.admin().post("/v1/tenants", &json!({ "id": name })).await;
        assert_eq!(made.status, 400, "{name:?}: {}", made.text());
    }
    assert!(!outside.touched(), "a file outside was opened");
    assert_eq!(scene.upstream.calls(), 0);
    assert_eq!(ledger::count(&scene.gateway.data(), "tenants"), 1);
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
}

/// Every path of the admin API with each of its names in turn replaced.
fn replaced(path: &str, name: &str) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_name = |part: &str| part.starts_with('{');
    let places = parts.iter().enumerate().filter(|(_, part)| is_name(part)).map(|(at, _)| at);
    let target = |hostile: usize| {
        let filled = parts.iter().enumerate().map(|(at, part)| match *part {
            _ if at == hostile => name,
            "{id}" => "acme",
            part if is_name(part) => "x1",
            part => part,
        });
        filled.collect::<Vec<_>>().join("/")
    };
    places.map(target).collect()
}

/// P-01, P-07, by every path of the admin API that has a name in it, as its own document lists them
#[tokio::test(flavor = "multi_thread")]
async fn p_01_a_hostile_name_in_a_path_of_the_admin_api_is_refused_and_opens_nothing() {
    let scene = Scene::new().await;
    let (address, key) = (scene.gateway.admin_address(), scene.gateway.key().to_owned());
    let document = scene.admin().get("/openapi.json").await;
    let outside = Outside::new(scene.gateway.dir());
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().expect("paths").iter().filter(|(path, _)| path.contains('{')) {
        for name in corpus(scene.gateway.dir()) {
            for target in replaced(path, &name) {
                for method in item.as_object().expect("operations").keys().map(|method| method.to_uppercase()) {
                    if Method::from_bytes(method.as_bytes()).is_ok() && method != "PARAMETERS" {
                        let seen = status(address, &method, &target, &key).await;
                        let refused = matches!(seen, Some(400 | 404 | 405));
                        assert!(refused, "{method} {} -> {seen:?}", &target[..target.len().min(200)]);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
    for (body, field) in [("as", "as"), ("tenant", "tenant")] {
        for name in corpus(scene.gateway.dir()) {
            let mut order = json!({ "from": scene.gateway.dir().join("backups") });
            order[body] = Value::from(name.clone());
            let reply = scene.admin().post("/v1/restore", &order).await;
            assert!([400, 404].contains(&reply.status), "{field} {name:?}: {} {}", reply.status, reply.text());
        }
    }
    assert!(!outside.touched(), "a file outside was opened");
    let tenants = scene.gateway.data().join("tenants");
    let there: Vec<_> =
        std::fs::read_dir(&tenants).expect("tenants").map(|entry| entry.expect("one").file_name()).collect();
    assert!(there.iter().all(|name| name == "acme"), "{there:?}");
    assert_eq!(ledger::count(&scene.gateway.data(), "tenants"), 1);
    assert_eq!(status(address, "GET", "/v1/tenants/acme", &key).await, Some(200), "its twin");
    std::fs::read(scene.gateway.dir().join("canary/secret")).expect("a file");
    assert!(outside.touched(), "the watch works");
}
