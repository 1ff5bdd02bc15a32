//! Who gets in, and what everybody else is told.

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ORIGIN};
use http::{Method, Request};
use openclawmu_store::{Actor, Clock, TenantId};
use secrecy::SecretString;
use serde_json::json;

use crate::admin::tests::scene::{KEY, SENDER, Scene, TERMINAL, request};
use crate::admin::{Access, Endpoint, endpoints};

/// Every route with its ids filled in.
fn targets(scene: &Scene) -> Vec<(Endpoint, String)> {
    let webhook = scene.store.test_webhook(&Actor::system()).wait().unwrap().id;
    let (acme, own) = ("acme".parse().unwrap(), SecretString::from("own-key"));
    let own = scene.state.master.seal_provider_key(&acme, "openai", &own).unwrap();
    scene.store.put_provider_key(&Actor::system(), &acme, own).wait().unwrap();
    let fill = |path: &str| filled(scene, &path.replace("{webhook}", &webhook));
    endpoints().into_iter().map(|endpoint| (endpoint.clone(), fill(&endpoint.path))).collect()
}

/// A path of the list with ids in it; that of no webhook.
pub(super) fn filled(scene: &Scene, path: &str) -> String {
    if path.contains("{recording}") {
        let folder = scene.dir.path().join("tenants/acme/recordings");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("some.cast"), "{\"version\":2}\n").unwrap();
    }
    let path = if path.contains("{binding}") {
        path.replace("{binding}", &scene.channel().0).replace("{sender}", SENDER)
    } else {
        path.to_owned()
    };
    let path = path.replace("{terminal}", TERMINAL).replace("{recording}", "some");
    let path = path.replace("{id}", "acme").replace("{token}", &scene.token_id()).replace("{upstream}", "openai");
    path.replace("{event}", "evt_0000000000000000").replace("{webhook}", "none").replace("{file}", "index.html")
}

fn with_key(endpoint: &Endpoint, path: &str, key: Option<&str>) -> Request<Body> {
    let request = request(endpoint.method.clone(), path).header(CONTENT_TYPE, "application/json");
    let request = match key {
        Some(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
        None => request,
    };
    request.body(Body::from(if endpoint.method == Method::GET { "" } else { "{}" })).unwrap()
}

/// N-01
#[tokio::test]
async fn no_route_opens_without_an_admin_key_but_those_that_say_nothing_of_tenants() {
    let scene = Scene::new().await;
    let acme: TenantId = "acme".parse().unwrap();
    let (tenant, token) = (scene.store.tenant(&acme).unwrap(), scene.store.tokens(&acme, None, 10).unwrap());
    for (place, (endpoint, path)) in targets(&scene).into_iter().enumerate() {
        // An address of its own for each route, so that none is refused for the guesses at another.
        let ip = format!("198.51.100.{place}");
        for key in [
            None,
            Some(""),
            Some("wrong-wrong-wrong-wrong-wrong-wrong"),
            Some(&KEY[..KEY.len() - 1]),
            Some(&scene.token),
        ] {
            let answer = scene.send_from(&ip, with_key(&endpoint, &path, key)).await;
            match endpoint.access {
                Access::Open => assert!(answer.status.as_u16() < 400, "{} {path} with {key:?}", endpoint.method),
                Access::Admin if key == Some(&scene.token) => drop(answer.refused(403)),
                Access::Admin => {
                    assert_eq!(answer.refused(401), "admin_key_needed", "{} {path} with {key:?}", endpoint.method)
                }
            }
        }
    }
    assert_eq!(scene.store.tenant(&acme).unwrap(), tenant);
    assert_eq!(scene.store.tokens(&acme, None, 10).unwrap(), token);
    let open = endpoints().into_iter().filter(|endpoint| endpoint.access == Access::Open);
    let open: Vec<String> = open.map(|endpoint| endpoint.path).collect();
    assert_eq!(open, ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{file}"]);
}

/// The positive twin: the same list with the key reaches its handlers.
#[tokio::test]
async fn every_route_is_there_for_the_admin_key() {
    let scene = Scene::new().await;
    for (endpoint, path) in targets(&scene) {
        let answer = scene.send(with_key(&endpoint, &path, Some(KEY))).await;
        assert!(
            !matches!(answer.status.as_u16(), 401 | 403 | 404 | 405 | 500..),
            "{} {path}: {} {}",
            endpoint.method,
            answer.status,
            answer.text
        );
    }
}

#[tokio::test]
async fn what_is_no_route_is_401_without_and_404_with_the_key() {
    let scene = Scene::new().await;
    for path in
        ["/", "/v1", "/v1/nothing", "/v1/tenants/", "/v1/tenants/acme/tokens/x/y", "/healthz/", "//healthz", "/HEALTHZ"]
    {
        let without = scene.send(request(Method::GET, path).body(Body::empty()).unwrap()).await;
        assert_eq!(without.refused(401), "admin_key_needed", "{path}");
        assert_eq!(scene.get(path).await.refused(404), "not_found", "{path}");
    }
    for (method, path) in [
        (Method::DELETE, "/v1/tenants"),
        (Method::POST, "/v1/rates"),
        (Method::POST, "/healthz"),
        (Method::PUT, "/v1/tenants/acme"),
    ] {
        let answer = scene.call(method, path, Some(&json!({}))).await;
        assert_eq!(answer.refused(405), "method_not_allowed", "{path}");
        assert!(answer.header("allow").is_some_and(|allowed| allowed.contains("GET")), "{answer:?}");
    }
}

#[tokio::test]
async fn one_bearer_credential_counts_and_nothing_else() {
    let scene = Scene::new().await;
    let ask = |headers: &[(&str, &str)]| {
        let built = headers
            .iter()
            .fold(request(Method::GET, "/v1/tenants"), |request, (name, value)| request.header(*name, *value));
        scene.send(built.body(Body::empty()).unwrap())
    };
    let good = format!("Bearer {KEY}");
    assert_eq!(ask(&[("authorization", &good)]).await.status, 200);
    assert_eq!(ask(&[("authorization", &good.replace("Bearer", "bearer"))]).await.status, 200, "schemes have no case");
    for bad in [
        &[("authorization", KEY)][..],
        &[("authorization", "Basic dXNlcjpwYXNz")],
        &[("authorization", &good), ("authorization", &good)],
        &[("authorization", "Bearer x"), ("authorization", &good)],
        &[("x-api-key", KEY)],
        &[("cookie", &format!("key={KEY}"))],
    ] {
        assert_eq!(ask(bad).await.status, 401, "{bad:?}");
    }
    let mut nobody = request(Method::GET, "/v1/tenants").body(Body::empty()).unwrap();
    nobody.extensions_mut().clear();
    let answer = tower::ServiceExt::oneshot(scene.app.clone(), nobody).await.unwrap();
    assert_eq!(answer.status(), 401, "a connection of which nothing is known needs a key");
}

/// N-09
#[tokio::test]
async fn guessing_is_stopped_after_twenty_wrong_keys_a_minute_from_one_address() {
    let scene = Scene::new().await;
    let attempt = |ip: &'static str, key: &str| {
        let request = request(Method::GET, "/v1/tenants").header(AUTHORIZATION, format!("Bearer {key}"));
        scene.send_from(ip, request.body(Body::empty()).unwrap())
    };
    for guess in 0..20 {
        assert_eq!(attempt("203.0.113.9", &format!("guess-{guess}")).await.status, 401);
    }
    let stopped = attempt("203.0.113.9", "guess-20").await;
    assert_eq!(stopped.refused(429), "too_many_wrong_keys");
    assert_eq!(stopped.header("retry-after"), Some("60"));
    assert_eq!(attempt("203.0.113.9", KEY).await.status, 429, "whether the next key is right is not told");
    assert_eq!(attempt("203.0.113.10", KEY).await.status, 200, "another address is not concerned");
    scene.clock.set(scene.clock.now().plus_ms(60_000));
    assert_eq!(attempt("203.0.113.9", KEY).await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let scene = Scene::new().await;
    let attempt = |method: Method, origin: &'static str| {
        let request =
            request(method, "/v1/tenants/acme").header(AUTHORIZATION, format!("Bearer {KEY}")).header(ORIGIN, origin);
        scene.send(
            request.header(CONTENT_TYPE, "application/json").body(Body::from(r#"{"name":"taken over"}"#)).unwrap(),
        )
    };
    for origin in [
        "http://evil.example",
        "null",
        "",
        "http://127.0.0.1:8081.evil.example",
        "http://127.0.0.1:8082",
        "http://localhost:8081",
    ] {
        assert_eq!(attempt(Method::PATCH, origin).await.refused(403), "foreign_origin", "{origin}");
    }
    assert_eq!(attempt(Method::GET, "http://evil.example").await.status, 200, "reading is the browser's to refuse");
    assert_eq!(scene.get("/v1/tenants/acme").await.json()["name"], "Acme");
    assert_eq!(attempt(Method::PATCH, "http://127.0.0.1:8081").await.status, 200);
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own_and_stays_out_of_caches() {
    let scene = Scene::new().await;
    let mut ids = std::collections::BTreeSet::new();
    for path in ["/healthz", "/v1/tenants", "/v1/tenants/nobody", "/v1/nothing", "/metrics"] {
        for key in [KEY, "wrong"] {
            let request = request(Method::GET, path)
                .header(AUTHORIZATION, format!("Bearer {key}"))
                .header("x-request-id", "mine");
            let answer = scene.send(request.body(Body::empty()).unwrap()).await;
            let id = answer.header("x-request-id").unwrap().to_owned();
            assert!(id.starts_with("req_") && id.len() == 36, "{id}");
            assert!(ids.insert(id), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

#[tokio::test]
async fn readiness_and_metrics_come_from_the_process() {
    let scene = Scene::new().await;
    let mut state = scene.state.clone();
    state.hooks.readiness = std::sync::Arc::new(|| Err("no upstream is configured".to_owned()));
    let ready = tower::ServiceExt::oneshot(
        crate::admin::router(state),
        request(Method::GET, "/readyz").body(Body::empty()).unwrap(),
    )
    .await
    .unwrap();
    assert_eq!(ready.status(), 503);
    assert_eq!(scene.get("/metrics").await.text, "openclawmu_up 1\n");
    assert_eq!(scene.get("/v1/config").await.json()["edge"]["listen"], "127.0.0.1:8080");
}
