//! Client secrets: short-lived, signed, bound to a page, counted, and dead with what made them.

use http::Method;
use openclawmu_tests::client::{Client, chat};
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::money::usd;
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Gate, Reply, Scene, Setup, Upstream, ledger};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The page that secrets are bound to here.
const PAGE: &str = "https://app.example";
/// Another one.
const EVIL: &str = "https://app.example.evil";
/// What one answer of `flat` with ten tokens costs.
const TEN_TOKENS: i128 = 100_000;

/// A secret that the operator makes.
async fn minted(scene: &Scene, body: &Value) -> Value {
    let reply = scene.admin().post("/v1/tenants/acme/client_secrets", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

/// A secret that the holder of a token makes.
async fn minted_by(client: &Client, body: &Value) -> Value {
    let reply = client.post("/v1/client_secrets", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

fn value(made: &Value) -> &str {
    made["value"].as_str().expect("a value")
}

/// A client with a secret of this body, made by the operator.
async fn with_secret(scene: &Scene, body: Value) -> Client {
    scene.client.with_token(value(&minted(scene, &body).await))
}

/// A chat without a bearer, with these headers.
async fn chat_with(client: &Client, headers: &[(&str, &str)]) -> Reply {
    send(client, Method::POST, "/v1/chat/completions", headers, &chat("alpha", "hello", 4)).await
}

async fn send(client: &Client, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut request = client.build(method, path);
    if !body.is_null() {
        request = request.json(body);
    }
    let mut request = request.build().expect("a request");
    request.headers_mut().remove("authorization");
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().expect("a name");
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    let http = openclawmu_tests::client::http_client(false);
    Reply::of(http.execute(request).await.expect("an answer")).await
}

fn assert_origin_refused(reply: &Reply, what: &str) {
    assert_eq!(reply.status, 403, "{what}: {}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "origin_not_allowed", "{what}");
    assert_eq!(reply.header("access-control-allow-origin"), None, "{what}");
}

/// contract.md, "Credentials": as a bearer in every header that takes a token
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_calls_models_like_a_token_and_opens_nothing_else() {
    let scene = Scene::new().await;
    let made = minted(&scene, &json!({})).await;
    assert!(value(&made).starts_with("ek_acme_"), "{made}");
    let client = scene.client.with_token(value(&made));
    let own = scene.client.chat(&chat("alpha", "hello", 4)).await;
    assert!(own.header("x-openclawmu-budget-remaining-usd").is_some());
    let reply = client.chat(&chat("alpha", "hello", 4)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("x-openclawmu-budget-remaining-usd"), None, "what the tenant has left is not its user's");
    assert!(client.stream(&chat("alpha", "hello", 4)).await.rest().await.iter().any(|event| event.done()));
    for name in ["x-api-key", "api-key", "x-goog-api-key"] {
        assert_eq!(chat_with(&client, &[(name, value(&made))]).await.status, 200, "{name}");
    }
    assert_eq!(client.get("/v1/models").await.status, 200);
    for path in ["/v1/usage", "/v1/quota", "/v1/responses/resp_x"] {
        let reply = client.get(path).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (403, &json!("not_for_client_secrets")), "{path}");
    }
    assert_eq!(client.post("/v1/client_secrets", &json!({})).await.status, 403, "nor does it make another");
    let admin = scene.admin().with_key(value(&made)).send(Method::GET, "/v1/tenants").await;
    assert_eq!(admin.status, 403, "{}", admin.text());
    let narrow = with_secret(&scene, json!({ "models": ["alp*"] })).await;
    assert_eq!(narrow.chat(&chat("alpha", "hello", 4)).await.status, 200);
    narrow.chat(&chat("beta", "hello", 4)).await.refused(403, "permission_error", "model_not_allowed");
    let listed = narrow.get("/v1/models").await.ok();
    assert!(listed["data"].as_array().expect("a list").iter().all(|model| model["id"] == "alpha"), "{listed}");
}

/// W-01
#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_ready_to_be_set_and_goes_across_sites_only_where_an_origin_is_bound() {
    let scene = Scene::new().await;
    for (body, same_site) in [(json!({}), "Strict"), (json!({ "origin": PAGE, "ttl_seconds": 60 }), "None")] {
        let made = minted(&scene, &body).await;
        let cookie = made["cookie"].as_str().expect("a cookie");
        let mut parts = cookie.split("; ");
        assert_eq!(parts.next(), Some(format!("__Host-openclawmu={}", value(&made)).as_str()));
        let parts: Vec<&str> = parts.collect();
        for flag in ["Path=/", "Secure", "HttpOnly", &format!("SameSite={same_site}")] {
            assert!(parts.contains(&flag), "{flag} in {cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
}

/// The product's backend needs no admin key, and its users' rows are its token's
#[tokio::test(flavor = "multi_thread")]
async fn a_token_makes_secrets_at_the_edge_whose_rows_name_it_and_the_bound_user() {
    let scene = Scene::new().await;
    let made = minted_by(&scene.client, &json!({ "user": "ann", "ttl_seconds": 60 })).await;
    let mut body = chat("alpha", "hello", 4);
    body["user"] = json!("bob");
    assert_eq!(scene.client.with_token(value(&made)).chat(&body).await.status, 200);
    scene.rows_once(1).await;
    let listed = scene.admin().get("/v1/tenants/acme/requests").await;
    let row = &listed["data"][0];
    assert_eq!((&row["token"], &row["user"]), (&json!(scene.tenant.token_id), &json!("ann")), "{listed}");
    assert_eq!(ledger::users(&scene.gateway.data())[0].1, "ann");

    for (body, field) in [
        (json!({ "scopes": ["usage"] }), "scopes"),
        (json!({ "ttl_seconds": 5 }), "ttl_seconds"),
        (json!({ "origin": "https://app.example/" }), "origin"),
        (json!({ "max_cost_usd": 0.5 }), "max_cost_usd"),
    ] {
        let reply = scene.client.post("/v1/client_secrets", &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert!(
            reply.json()["error"]["param"].as_str().is_some_and(|param| param == field || param == "."),
            "{}",
            reply.text()
        );
        assert!(reply.text().contains(field), "{body}: {}", reply.text());
    }
    let (_, narrow) = scene.admin().mint("acme", &json!({ "models": ["alpha"] })).await;
    let wider = scene.client.with_token(&narrow).post("/v1/client_secrets", &json!({ "models": ["beta"] })).await;
    assert_eq!((wider.status, &wider.json()["error"]["param"]), (400, &json!("models")), "{}", wider.text());
    let (_, weak) = scene.admin().mint("acme", &json!({ "scopes": ["inference"] })).await;
    let refused = scene.client.with_token(&weak).post("/v1/client_secrets", &json!({})).await;
    refused.refused(403, "permission_error", "scope_missing");
}

/// N-08 at the edge and for the operator
#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_gives_the_same_secret_and_another_body_is_422() {
    let scene = Scene::new().await;
    let (_, second) = scene.admin().mint("acme", &json!({})).await;
    let edge = |client: Client, body: Value| async move {
        let request = client.build(Method::POST, "/v1/client_secrets").header("idempotency-key", "k1").json(&body);
        Reply::of(request.send().await.expect("an answer")).await
    };
    let first = edge(scene.client.clone(), json!({ "user": "ann" })).await;
    let again = edge(scene.client.clone(), json!({ "user": "ann" })).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(value(&first.json()), value(&again.json()));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(edge(scene.client.clone(), json!({ "user": "bob" })).await.status, 422);
    let other = edge(scene.client.with_token(&second), json!({ "user": "ann" })).await;
    assert_ne!(value(&first.json()), value(&other.json()), "another token's key is another key");
    let admin = || async {
        let request = scene.admin().build(Method::POST, "/v1/tenants/acme/client_secrets");
        Reply::of(request.header("idempotency-key", "k1").json(&json!({})).send().await.expect("an answer")).await
    };
    let (one, two) = (admin().await, admin().await);
    assert_eq!((one.status, value(&one.json())), (201, value(&two.json())));
}

/// forged at any place it is like a token that never was, to the byte
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_with_a_byte_changed_is_401_like_any_wrong_token_and_reads_nothing() {
    let scene = Scene::new().await;
    scene.admin().tenant("acmf", json!({})).await;
    let made = minted(&scene, &json!({ "models": ["alpha"], "max_requests": 1 })).await;
    let unknown = scene.client.with_token("tk_nobody_x").get("/v1/models").await;
    let reads = || async { scene.admin().metric("openclawmu_store_token_reads_total", &[]).await };
    assert_eq!(scene.client.with_token(value(&made)).get("/v1/models").await.status, 200);
    let (before, text) = (reads().await, value(&made).as_bytes());
    for at in (0..text.len()).step_by(3).chain(text.len() - 3..text.len()) {
        let mut bytes = text.to_vec();
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        let forged = String::from_utf8(bytes).expect("ASCII");
        let reply = scene.client.with_token(&forged).get("/v1/models").await;
        assert_eq!((reply.status, &reply.body), (401, &unknown.body), "at {at}");
    }
    let moved = value(&made).replacen("ek_acme_", "ek_acmf_", 1);
    let reply = scene.client.with_token(&moved).get("/v1/models").await;
    assert_eq!((reply.status, &reply.body), (401, &unknown.body), "of another tenant");
    assert_eq!(reads().await, before, "junk never touches the store");
    assert_eq!(scene.client.with_token(value(&made)).get("/v1/models").await.status, 200);
    assert!(reads().await > before, "a real one is looked up");
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_ends_by_the_clock() {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let scene = Scene::of(upstream, setup, json!({})).await;
    let client = with_secret(&scene, json!({ "ttl_seconds": 3600 })).await;
    clock.shift(3_500);
    assert_eq!(client.get("/v1/models").await.status, 200);
    clock.shift(3_602);
    client.get("/v1/models").await.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(scene.client.get("/v1/models").await.status, 200, "the token lives on");
}

/// on the next request, whatever ends what made it
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_dies_with_its_token_and_its_tenant() {
    let scene = Scene::new().await;
    let of = |token: &str| scene.client.with_token(token);
    let dead = |reply: Reply| reply.refused(401, "invalid_request_error", "invalid_api_key");
    let (revoked, token) = scene.admin().mint("acme", &json!({})).await;
    let client = of(value(&minted_by(&of(&token), &json!({})).await));
    assert_eq!(client.get("/v1/models").await.status, 200);
    scene.admin().revoke("acme", &revoked).await;
    dead(client.get("/v1/models").await);

    let (rotated, token) = scene.admin().mint("acme", &json!({})).await;
    let client = of(value(&minted_by(&of(&token), &json!({})).await));
    assert_eq!(client.get("/v1/models").await.status, 200);
    let reply = scene.admin().post(&format!("/v1/tenants/acme/tokens/{rotated}/rotate"), &json!({})).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    dead(client.get("/v1/models").await);

    let both = [with_secret(&scene, json!({})).await, of(value(&minted_by(&scene.client, &json!({})).await))];
    scene.admin().patch("acme", &json!({ "status": "suspended" })).await;
    for client in &both {
        client.get("/v1/models").await.refused(403, "permission_error", "tenant_suspended");
    }
    scene.admin().patch("acme", &json!({ "status": "active" })).await;
    for client in &both {
        assert_eq!(client.get("/v1/models").await.status, 200);
    }
    assert_eq!(scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await.status, 200);
    for client in &both {
        dead(client.get("/v1/models").await);
    }
}

/// Q-01 for `max_requests`
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once_make_no_more_requests_than_the_secret_may() {
    let scene = Scene::new().await;
    let client = with_secret(&scene, json!({ "max_requests": 7 })).await;
    let good = spray(&client, 100).await;
    assert_eq!((good, scene.upstream.calls()), (7, 7));
    let refused = client.chat(&chat("flat", "hello", 10)).await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    assert_eq!(scene.client.chat(&chat("flat", "hello", 10)).await.status, 200, "the tenant's token goes on");
}

async fn spray(client: &Client, count: usize) -> usize {
    let calls: Vec<_> = (0..count)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.chat(&chat("flat", "hello", 10)).await })
        })
        .collect();
    let mut good = 0;
    for call in calls {
        let reply = call.await.expect("a call");
        if reply.status == 200 {
            good += 1;
        } else {
            reply.refused(429, "insufficient_quota", "insufficient_quota");
        }
    }
    good
}

/// for `max_cost_usd`: spent together with the tenant's budget, through `kill -9` too
#[tokio::test(flavor = "multi_thread")]
async fn what_a_secret_may_cost_is_never_exceeded_by_concurrency_or_a_kill() {
    let mut scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 50) })).await;
    scene.gateway.leave_unsettled();
    scene.upstream.always(Behaviour::words(10));
    let made = minted(&scene, &json!({ "max_cost_usd": usd(TEN_TOKENS * 10), "ttl_seconds": 3600 })).await;
    let client = scene.client.with_token(value(&made));
    let first = client.chat(&chat("flat", "hello", 10)).await;
    assert_eq!(
        first.header("x-openclawmu-budget-remaining-usd"),
        Some(usd(TEN_TOKENS * 9).as_str()),
        "its own, not the tenant's"
    );
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(10, 5, &gate));
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut stream = client.stream(&chat("flat", "hello", 10)).await;
        stream.texts(5).await;
        open.push(stream);
    }
    scene.gateway.kill_9();
    drop(open);
    scene.restarted().await;
    scene.upstream.always(Behaviour::words(10));
    let client = scene.gateway.client(value(&made));
    let good = spray(&client, 40).await;
    assert_eq!(good, 6, "one was settled, three are billed or held");
    let calls = scene.upstream.calls();
    client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    assert_eq!(scene.upstream.calls(), calls, "nothing is sent");
    scene.gateway.kill_9();
    scene.restarted().await;
    let client = scene.gateway.client(value(&made));
    client.chat(&chat("flat", "hello", 10)).await.refused(429, "insufficient_quota", "insufficient_quota");
    let budget = scene.settled().await;
    assert_eq!(budget.posted + budget.held, TEN_TOKENS * 10, "the tenant paid for it all, once: {budget:?}");
    assert_eq!(scene.client.chat(&chat("flat", "hello", 10)).await.status, 200);
}

/// Q-05 for a secret: the tenant's own budget is as hard for it
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_spends_no_more_than_its_tenant_may() {
    let scene = Scene::with_quota(json!({ "usd_per_day": usd(TEN_TOKENS * 2) })).await;
    let client = with_secret(&scene, json!({ "max_cost_usd": "1", "max_requests": 50 })).await;
    scene.upstream.always(Behaviour::words(10));
    assert_eq!(spray(&client, 10).await, 2);
    assert_eq!(scene.settled().await.posted, TEN_TOKENS * 2);
}

/// W-02
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_secret_works_from_its_page_alone_as_bearer_and_as_cookie() {
    let scene = Scene::new().await;
    let made = minted(&scene, &json!({ "origin": PAGE })).await;
    let (bearer, cookie) = (format!("Bearer {}", value(&made)), format!("__Host-openclawmu={}", value(&made)));
    for credential in [("authorization", bearer.as_str()), ("cookie", cookie.as_str())] {
        let good = chat_with(&scene.client, &[credential, ("origin", PAGE)]).await;
        assert_eq!(good.status, 200, "{credential:?}: {}", good.text());
        assert_eq!(good.header("access-control-allow-origin"), Some(PAGE));
        assert_eq!(good.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(good.header("vary"), Some("origin"));
        let exposed = good.header("access-control-expose-headers").expect("what the page may read");
        for name in ["x-request-id", "x-ratelimit-remaining-tokens", "x-openclawmu-cost-usd", "retry-after"] {
            assert!(exposed.contains(name), "{name}: {exposed}");
        }
        for origin in [EVIL, "null", "http://app.example", "https://app.example:8443", "https://APP.example"] {
            let reply = chat_with(&scene.client, &[credential, ("origin", origin)]).await;
            assert_origin_refused(&reply, &format!("{credential:?} from {origin}"));
        }
        assert_origin_refused(&chat_with(&scene.client, &[credential]).await, "no origin");
        let two = chat_with(&scene.client, &[credential, ("origin", PAGE), ("origin", EVIL)]).await;
        assert_origin_refused(&two, "two origins");
        let listed =
            send(&scene.client, Method::GET, "/v1/models", &[credential, ("origin", EVIL)], &Value::Null).await;
        assert_origin_refused(&listed, "a GET");
    }
    let refused = chat_with(&scene.client, &[("authorization", &bearer), ("cookie", &cookie), ("origin", PAGE)]).await;
    refused.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(refused.header("access-control-allow-origin"), Some(PAGE), "its page may read why");
    let token = format!("__Host-openclawmu={}", scene.tenant.token);
    let refused = chat_with(&scene.client, &[("cookie", &token), ("origin", PAGE)]).await;
    refused.refused(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(scene.upstream.calls(), 2, "only what its own page asked was sent");
}

/// W-02
#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_bound_to_no_origin_comes_from_the_gateways_own_site_alone() {
    let scene = Scene::new().await;
    let made = minted(&scene, &json!({})).await;
    let cookie = format!("theme=dark; __Host-openclawmu={}", value(&made));
    let cookie = ("cookie", cookie.as_str());
    let host = scene.gateway.edge().to_string();
    let own = format!("http://{host}");
    for from in [&[("sec-fetch-site", "same-origin")][..], &[("sec-fetch-site", "none")], &[("origin", own.as_str())]] {
        let reply = chat_with(&scene.client, &[&[cookie], from].concat()).await;
        assert_eq!(reply.status, 200, "{from:?}: {}", reply.text());
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    for from in [
        &[][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", PAGE)],
        &[("origin", PAGE)],
        &[("origin", "null")],
    ] {
        assert_origin_refused(&chat_with(&scene.client, &[&[cookie], from].concat()).await, &format!("{from:?}"));
    }
    let bearer = format!("Bearer {}", value(&made));
    let reply = chat_with(&scene.client, &[("authorization", &bearer), ("origin", PAGE)]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None), "an app's, on no page");
    assert_eq!(scene.upstream.calls(), 4);
}

async fn preflight(scene: &Scene, path: &str, headers: &[(&str, &str)]) -> Reply {
    send(&scene.client, Method::OPTIONS, path, headers, &Value::Null).await
}

/// W-02: a browser's question carries no credential
#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_for_origins_that_a_live_secret_or_the_operator_names() {
    let upstream = Upstream::start().await;
    let listed = "https://listed.example";
    let setup = Setup::with(&upstream).edge_key(&format!("cors_origins = [{listed:?}]"));
    let mut scene = Scene::of(upstream, setup, json!({})).await;
    let asked = "authorization,content-type,x-stainless-lang,x-evil";
    let ask = |origin: &'static str| {
        [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", asked)]
    };
    let path = "/v1/chat/completions";
    assert_origin_refused(&preflight(&scene, path, &ask(PAGE)).await, "nobody has a secret yet");
    minted(&scene, &json!({ "origin": PAGE, "ttl_seconds": 3600 })).await;
    for restarted in [false, true] {
        if restarted {
            assert!(scene.gateway.terminate().await.success());
            scene.restarted().await;
        }
        for origin in [PAGE, listed] {
            let reply = preflight(&scene, path, &ask(origin)).await;
            assert_eq!(reply.status, 204, "{}", reply.text());
            assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
            assert_eq!(reply.header("access-control-allow-methods"), Some("POST"));
            let headers = reply.header("access-control-allow-headers");
            assert_eq!(headers, Some("authorization, content-type, x-stainless-lang"));
            assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
            assert!(reply.header("vary").is_some_and(|vary| vary.contains("origin")));
        }
        assert_origin_refused(&preflight(&scene, path, &ask(EVIL)).await, "another page");
    }
    assert_eq!(preflight(&scene, "/v1/nowhere", &ask(PAGE)).await.status, 404);
    assert_eq!(preflight(&scene, "/v1/quota", &ask(PAGE)).await.status, 405);
    assert_eq!(preflight(&scene, path, &[]).await.status, 405, "OPTIONS alone asks for nothing");
    let bearer = format!("Bearer {}", scene.tenant.token);
    let reply = chat_with(&scene.client, &[("authorization", &bearer), ("origin", listed)]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(listed)));
    let reply = chat_with(&scene.client, &[("authorization", &bearer), ("origin", PAGE)]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None), "a token has no page");
    let gone = chat_with(&scene.client, &[("authorization", "Bearer ek_acme_x"), ("origin", PAGE)]).await;
    assert_eq!((gone.status, gone.header("access-control-allow-origin")), (401, Some(PAGE)), "a page may read why");
    let gone = chat_with(&scene.client, &[("authorization", "Bearer ek_acme_x"), ("origin", EVIL)]).await;
    assert_eq!((gone.status, gone.header("access-control-allow-origin")), (401, None));
}

/// What is kept of a tenant's responses is not for each of its users
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_neither_keeps_responses_nor_continues_those_that_are_kept() {
    let scene = Scene::new().await;
    let client = with_secret(&scene, json!({ "user": "ann" })).await;
    let ask = |input: &str| json!({ "model": "alpha", "input": input, "max_output_tokens": 5 });
    let kept = scene.client.post("/v1/responses", &ask("hello")).await.ok();
    let own = client.post("/v1/responses", &ask("hello")).await.ok();
    assert_eq!((&kept["store"], &own["store"]), (&json!(true), &json!(false)));
    for id in [&kept["id"], &own["id"]] {
        let mut body = ask("more");
        body["previous_response_id"] = id.clone();
        let reply = client.post("/v1/responses", &body).await;
        assert!(matches!(reply.status, 400 | 404), "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "previous_response_not_found", "{}", reply.text());
    }
    let mut body = ask("more");
    body["previous_response_id"] = kept["id"].clone();
    assert_eq!(scene.client.post("/v1/responses", &body).await.status, 200, "the token's own goes on");
}

/// A-07, T-02: over a WebSocket as over HTTP, with the origin that a browser sends
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_takes_a_secret_from_its_page_and_ends_with_the_secrets_token() {
    let scene = Scene::new().await;
    let (id, token) = scene.admin().mint("acme", &json!({})).await;
    let made = minted_by(&scene.client.with_token(&token), &json!({ "origin": PAGE, "max_requests": 2 })).await;
    let (edge, path) = (scene.gateway.edge(), "/v1/responses");
    let protocol = format!("realtime, openai-insecure-api-key.{}", value(&made));
    let cookie = format!("__Host-openclawmu={}", value(&made));
    for credential in [("sec-websocket-protocol", protocol.as_str()), ("cookie", cookie.as_str())] {
        for origin in [&[("origin", EVIL)][..], &[]] {
            let refused = Socket::try_open(edge, path, &[&[credential], origin].concat()).await.err().expect("refused");
            assert_eq!((refused.status, &refused.body["error"]["code"]), (403, &json!("origin_not_allowed")));
        }
        let mut socket = Socket::try_open(edge, path, &[credential, ("origin", PAGE)]).await.expect("its page's");
        let create = json!({ "type": "response.create", "model": "alpha", "input": "hello", "max_output_tokens": 5 });
        socket.send(&create).await;
        socket.event("response.completed").await;
        socket.close().await;
    }
    let mut socket = Socket::try_open(edge, path, &[("cookie", &cookie), ("origin", PAGE)]).await.expect("its page's");
    socket.send(&json!({ "type": "response.create", "model": "alpha", "input": "x", "max_output_tokens": 5 })).await;
    let spent = socket.next().await.expect("an event");
    assert_eq!((&spent["status"], &spent["error"]["code"]), (&json!(429), &json!("insufficient_quota")), "{spent}");
    scene.admin().revoke("acme", &id).await;
    let (events, ended) = socket.rest().await;
    assert_eq!(events.last().expect("an error")["status"], json!(401), "{events:?}");
    assert_eq!(ended, Ended::Closed(1008));
    until_true("both rows", || scene.rows().len() == 2).await;
}

/// contract.md, "CLI"
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_one_and_a_minting_is_on_record_without_it() {
    let scene = Scene::new().await;
    let arguments = [
        "tenants",
        "client-secret",
        "acme",
        "--ttl",
        "10m",
        "--model",
        "alpha",
        "--max-cost-usd",
        "0.5",
        "--origin",
        PAGE,
    ];
    let made = scene.gateway.cli(&[&arguments[..], &["--json"]].concat()).await.json();
    let good = chat_with(&scene.client, &[("x-api-key", value(&made)), ("origin", PAGE)]).await;
    assert_eq!(good.status, 200, "{}", good.text());
    let told = scene.gateway.cli(&arguments).await;
    assert!(told.ok().contains("ek_acme_") && told.ok().contains("SameSite=None"), "{}", told.stdout);
    let audit = ledger::dump(&scene.gateway.data(), &[]);
    let lines: Vec<&str> = audit.lines().filter(|line| line.contains("client_secret.create")).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let tail = &value(&made)[value(&made).len() - 40..];
    assert!(!audit.contains(tail), "nothing of it is stored");
    let failed = scene.gateway.cli(&["tenants", "client-secret", "acme", "--ttl", "5s"]).await;
    assert!(!failed.status.success() && failed.stderr.contains("ttl_seconds"), "{}", failed.stderr);
}
