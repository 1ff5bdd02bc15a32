//! Who may call: no credential, no answer, and nothing learned from the refusal.

use openclawmu_tests::client::chat;
use openclawmu_tests::dice::Dice;
use openclawmu_tests::raw::{self, Connection, Message};
use openclawmu_tests::token::Parts;
use openclawmu_tests::{Scene, ledger, times};
use serde_json::json;

const AI_ROUTES: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];
const OWN_ROUTES: [&str; 4] = ["/v1/models", "/v1/models/alpha", "/v1/usage", "/v1/quota"];

async fn exchange(scene: &Scene, bytes: &[u8]) -> Message {
    let mut connection = Connection::open(scene.gateway.edge()).await;
    assert!(connection.send(bytes).await, "the request is taken");
    connection.answer().await.expect("an answer")
}

fn assert_openai_401(answer: &Message, what: &str) {
    assert_eq!(answer.status(), 401, "{what}: {}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "invalid_request_error", "{what}");
    assert_eq!(error["code"], "invalid_api_key", "{what}");
    assert!(error.get("param").is_some(), "{what}: the shape has param");
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: a message");
    assert!(answer.header("x-request-id").is_some(), "{what}: x-request-id");
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_exactly_one_good_credential_is_401_before_the_upstream_is_called() {
    let scene = Scene::new().await;
    let body = chat("alpha", "hello", 8).to_string();
    let good = format!("Bearer {}", scene.tenant.token);
    let basic = format!("Basic {}", scene.tenant.token);
    let two_words = format!("Bearer {} extra", scene.tenant.token);
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("missing", vec![]),
        ("empty", vec![("authorization", "")]),
        ("scheme alone", vec![("authorization", "Bearer")]),
        ("scheme and space", vec![("authorization", "Bearer ")]),
        ("basic", vec![("authorization", &basic)]),
        ("no scheme", vec![("authorization", &scene.tenant.token)]),
        ("two words", vec![("authorization", &two_words)]),
        ("junk", vec![("authorization", "Bearer sk-123")]),
        ("two good headers", vec![("authorization", &good), ("authorization", &good)]),
        ("good and bad", vec![("authorization", &good), ("authorization", "Bearer nobody")]),
        ("empty x-api-key", vec![("x-api-key", "")]),
        ("bad api-key", vec![("api-key", "tk_acme_1")]),
        ("in the query only", vec![]),
    ];
    for (what, headers) in &cases {
        for route in AI_ROUTES {
            let target = if *what == "in the query only" {
                format!("{route}?api_key={}", scene.tenant.token)
            } else {
                route.to_owned()
            };
            let mut all = vec![("content-type", "application/json")];
            all.extend(headers);
            let answer = exchange(&scene, &raw::request("POST", &target, &all, body.as_bytes())).await;
            assert_openai_401(&answer, &format!("{what} on {route}"));
        }
        for route in OWN_ROUTES {
            let answer = exchange(&scene, &raw::request("GET", route, headers, b"")).await;
            assert_openai_401(&answer, &format!("{what} on {route}"));
        }
    }
    assert_eq!(scene.upstream.calls(), 0, "nothing reached the upstream");
    for name in ["authorization", "x-api-key", "api-key"] {
        let value = if name == "authorization" { &good } else { &scene.tenant.token };
        let answer = exchange(&scene, &raw::request("POST", AI_ROUTES[0], &[(name, value)], body.as_bytes())).await;
        assert_eq!(answer.status(), 200, "the good twin by {name}: {}", answer.text());
    }
    assert_eq!(scene.upstream.calls(), 3);
}

/// What of an answer may not tell one failure from another: all but the date and the request's own id.
fn telltale(answer: &Message) -> (String, Vec<(String, String)>, Vec<u8>) {
    let own = answer.header("x-request-id").expect("x-request-id").to_owned();
    let headers = answer.headers.iter().filter(|(name, _)| name != "date" && name != "x-request-id").cloned().collect();
    let body = answer.text();
    assert!(!body.contains(&own), "the body of a 401 is the same each time");
    (answer.start.clone(), headers, answer.body.clone())
}

/// A-02 (bodies and headers; the time of both is a bench's matter)
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_unknown_id_are_answered_alike_to_the_byte() {
    let scene = Scene::new().await;
    let real = Parts::of(&scene.tenant.token);
    assert_eq!(real.sealed(), scene.tenant.token, "the checksum is CRC-32 over all before it, in base62");
    let ask = |token: String| raw::request("GET", "/v1/quota", &[("authorization", &format!("Bearer {token}"))], b"");
    let wrong_secret = exchange(&scene, &ask(real.with_other_secret().sealed())).await;
    let unknown_id = exchange(&scene, &ask(real.with_other_id().sealed())).await;
    assert_eq!(wrong_secret.status(), 401);
    assert_eq!(telltale(&wrong_secret), telltale(&unknown_id));
    let other_tenant = Parts { prefix: "tk_nobody_".into(), ..real.clone() };
    let unknown_tenant = exchange(&scene, &ask(other_tenant.sealed())).await;
    assert_eq!(telltale(&wrong_secret), telltale(&unknown_tenant));
    assert_eq!(exchange(&scene, &ask(real.sealed())).await.status(), 200);
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_checksum_is_401_without_a_read_of_the_store() {
    let scene = Scene::new().await;
    let reads = || async { scene.admin().metric("openclawmu_store_token_reads_total", &[]).await };
    let mut parts = Parts::of(&scene.tenant.token);
    assert_eq!(scene.client.get("/v1/quota").await.status, 200);
    let before = reads().await;
    parts.secret = parts.with_other_secret().secret;
    let forged = format!("{}{}{}{}", parts.prefix, parts.id, parts.secret, parts.crc);
    for _ in 0..50 {
        scene.client.with_token(&forged).get("/v1/quota").await.refused(
            401,
            "invalid_request_error",
            "invalid_api_key",
        );
    }
    assert_eq!(reads().await, before, "junk never touches the store");
    assert_eq!(scene.client.get("/v1/quota").await.status, 200);
    assert!(reads().await > before, "a real token is looked up: the counter counts");
}

const NASTY: [&str; 24] = [
    "' OR '1'='1",
    "'; DROP TABLE tenants;--",
    "\" OR \"\"=\"",
    "1; ATTACH DATABASE 'x' AS y",
    "') UNION SELECT * FROM tokens--",
    "%",
    "_",
    "%' ESCAPE '",
    "../../etc/passwd",
    "..%2f..%2f",
    "%00",
    "\\x00",
    "${jndi:ldap://x}",
    "{{7*7}}",
    "$(id)",
    "`id`",
    "<script>alert(1)</script>",
    "=cmd()",
    "\u{202e}\u{0000}",
    "\u{ff07} OR 1=1",
    "tk_acme_' OR 1=1",
    "admin'/*",
    "\r\nx-openclawmu-tenant: other",
    "9999999999999999999999",
];

fn mixed(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..=dice.below(3) {
        text.push_str(NASTY[dice.below(NASTY.len())]);
    }
    text
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// 2,000 strings
#[tokio::test(flavor = "multi_thread")]
async fn injection_strings_as_token_id_or_model_change_nothing_and_never_break() {
    let scene = Scene::new().await;
    let before = ledger::dump(&scene.gateway.data(), &[]);
    let mut dice = Dice::new(4);
    let good = format!("Bearer {}", scene.tenant.token);
    let mut connection = Connection::open(scene.gateway.edge()).await;
    for round in 0..times(2_000, 2_000) {
        let text = mixed(&mut dice);
        let (bytes, allowed): (Vec<u8>, &[u16]) = match round % 4 {
            0 => {
                let token = text.replace(['\r', '\n', '\0'], "?");
                (raw::request("GET", "/v1/quota", &[("authorization", &format!("Bearer {token}"))], b""), &[400, 401])
            }
            1 => {
                let token = format!("tk_acme_{}", text.replace(['\r', '\n', '\0'], "?"));
                (raw::request("GET", "/v1/quota", &[("x-api-key", &token)], b""), &[400, 401])
            }
            2 => {
                let target = format!("/v1/models/{}", percent_encoded(&text));
                (raw::request("GET", &target, &[("authorization", &good)], b""), &[400, 403, 404])
            }
            _ => {
                let body = chat(&text, "hello", 1).to_string();
                (
                    raw::request("POST", "/v1/chat/completions", &[("authorization", &good)], body.as_bytes()),
                    &[400, 403, 404],
                )
            }
        };
        if !connection.send(&bytes).await {
            connection = Connection::open(scene.gateway.edge()).await;
            assert!(connection.send(&bytes).await, "a new connection takes it");
        }
        let answer = match connection.answer().await {
            Some(answer) => answer,
            None => {
                connection = Connection::open(scene.gateway.edge()).await;
                assert!(connection.send(&bytes).await, "a new connection takes it");
                connection.answer().await.expect("an answer on a new connection")
            }
        };
        assert!(
            allowed.contains(&answer.status()),
            "{text:?} in place {}: {} {}",
            round % 4,
            answer.start,
            answer.text()
        );
    }
    assert_eq!(ledger::dump(&scene.gateway.data(), &[]), before, "the database is as it was");
    assert_eq!(scene.upstream.calls(), 0);
    let twin = scene
        .client
        .chat(&json!({ "model": "alpha", "messages": [{ "role": "user", "content": NASTY[1] }], "max_tokens": 4 }))
        .await;
    assert_eq!(twin.status, 200, "the same text as content is fine");
}

/// N-01: every route of the edge, by the program's own list, is closed without a good credential; the twin: with one it is not
#[tokio::test(flavor = "multi_thread")]
async fn no_route_of_the_edge_opens_without_a_credential() {
    let scene = Scene::new().await;
    let routes = scene.gateway.cli(&["routes", "--json"]).await.json();
    let ask = async |route: &serde_json::Value, bare: bool, key: &str| {
        let text = |name: &str| route[name].as_str().unwrap_or_else(|| panic!("{name} of {route}"));
        let parts: Vec<&str> =
            text("path").split('/').map(|part| if part == "*" { "x:generateContent" } else { part }).collect();
        let path = parts.join("/");
        let path = if bare { path.replacen("/v1/", "/", 1) } else { path };
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let headers = if key.is_empty() { &headers[1..] } else { &headers[..] };
        let body: &[u8] = if text("method") == "POST" { b"{}" } else { b"" };
        (exchange(&scene, &raw::request(text("method"), &path, headers, body)).await.status(), path)
    };
    let mut closed = 0;
    for route in routes.as_array().expect("a list") {
        for bare in [false, true] {
            let (with, path) = ask(route, bare, &scene.tenant.token).await;
            assert_ne!(with, 401, "{path} with a token");
            if route["access"] == "open" {
                assert_eq!(ask(route, bare, "").await.0, with, "{path} is the same for everybody");
                let open = ["/terminal/ui", "/channels/", "/pair/"].iter().any(|part| path.contains(part));
                assert!(["/healthz", "/readyz"].contains(&path.as_str()) || open, "{path}");
                continue;
            }
            for key in ["", "nobody", scene.gateway.key(), "tk_acme_000000000000"] {
                let (without, path) = ask(route, bare, key).await;
                assert_eq!(without, 401, "{} {path} with {key:?}", route["method"]);
                closed += 1;
            }
        }
    }
    assert!(closed > 100, "{closed}");
    assert_eq!((scene.upstream.calls(), scene.rows().len()), (0, 0));
}
