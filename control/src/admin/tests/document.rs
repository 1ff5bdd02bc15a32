//! The OpenAPI document says what the API does: each route, and of each what it reads and answers.

use std::collections::BTreeSet;

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use serde_json::{Value, json};

use crate::admin::document::document;
use crate::admin::tests::access::filled;
use crate::admin::tests::scene::{KEY, Scene, request};
use crate::admin::{Access, endpoints};

const METHODS: [Method; 5] = [Method::GET, Method::PUT, Method::POST, Method::PATCH, Method::DELETE];

/// Method, path and operation of everything in the document.
fn operations() -> Vec<(Method, String, Value)> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        item.iter()
            .map(|(method, operation)| (method.to_ascii_uppercase().parse().unwrap(), path.clone(), operation.clone()))
    });
    all.collect()
}

/// What a `$ref` of the document leads to; the value itself where it is none.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => {
            document.pointer(path.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{path} leads nowhere"))
        }
        None => value,
    }
}

fn every_ref(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| every_ref(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| every_ref(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn every_route_is_in_the_document_and_everything_in_it_is_a_route() {
    let listed: BTreeSet<(String, String)> =
        endpoints().into_iter().map(|endpoint| (endpoint.path, endpoint.method.to_string())).collect();
    let documented: BTreeSet<(String, String)> =
        operations().into_iter().map(|(method, path, _)| (path, method.to_string())).collect();
    assert_eq!(listed, documented);
    let scene = Scene::new().await;
    let paths: BTreeSet<&String> = documented.iter().map(|(path, _)| path).collect();
    for path in paths {
        for method in METHODS {
            let answer = scene.call(method.clone(), &filled(&scene, path), Some(&json!({"no such field": 1}))).await;
            let is_route = answer.status != 405;
            assert_eq!(is_route, documented.contains(&(path.clone(), method.to_string())), "{method} {path}");
            if path.starts_with("/v1") && scene.get("/v1/tenants/acme").await.status != 200 {
                panic!("{method} {path} removed the tenant");
            }
        }
    }
}

#[test]
fn every_operation_says_what_it_is_what_it_takes_and_what_it_answers() {
    let document = document();
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations() {
        let what = format!("{method} {path}");
        assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{what}: one tag");
        assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{what}: a summary");
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{what}: {id} is another's");
        let parameters: Vec<&Value> =
            operation["parameters"].as_array().into_iter().flatten().map(|one| resolved(&document, one)).collect();
        for parameter in &parameters {
            assert!(parameter["description"].is_string() && parameter["schema"].is_object(), "{what}: {parameter}");
        }
        let of = |place: &str| -> BTreeSet<String> {
            let those = parameters.iter().filter(|parameter| parameter["in"] == place);
            those.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
        };
        let in_path: BTreeSet<String> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(str::to_owned).collect();
        assert_eq!(of("path"), in_path, "{what}");
        assert_eq!(of("header").contains("Idempotency-Key"), method == Method::POST, "{what}");
        let responses = operation["responses"].as_object().unwrap();
        let open = endpoints().iter().any(|one| one.path == path && one.method == method && one.access == Access::Open);
        let has_body = operation.get("requestBody").is_some();
        for (status, needed) in [
            ("400", !of("query").is_empty() || has_body || method == Method::POST),
            ("401", !open),
            ("403", !open),
            ("404", !in_path.is_empty()),
            ("413", has_body),
            ("415", has_body),
            ("422", method == Method::POST),
            ("429", !open),
            ("500", !open),
        ] {
            assert!(!needed || responses.contains_key(status), "{what} answers {status}");
        }
        assert!(responses.keys().any(|status| status.starts_with('2') || status == "303"), "{what}: a good answer");
        assert_eq!(operation["security"] == json!([{"admin_key": []}]), !open, "{what}");
        assert_eq!(has_body, matches!(method, Method::POST | Method::PUT | Method::PATCH), "{what}");
        for (status, response) in responses {
            let response = resolved(&document, response);
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {status}");
            if status.as_str() >= "400" {
                let schema = &response["content"]["application/json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Error", "{what}: {status}");
            }
        }
    }
    let mut refs = BTreeSet::new();
    every_ref(&document, &mut refs);
    for path in &refs {
        assert!(document.pointer(path.strip_prefix('#').unwrap()).is_some(), "{path} leads nowhere");
    }
    for (name, _) in document["components"]["schemas"].as_object().unwrap() {
        assert!(refs.contains(&format!("#/components/schemas/{name}")), "{name} is used nowhere");
    }
}

#[test]
fn a_schema_of_parts_is_one_object_that_knows_all_their_fields() {
    let document = document();
    let price = &document["components"]["schemas"]["ModelPrice"];
    assert!(price["allOf"].is_null() && price["additionalProperties"] == false, "{price}");
    for field in ["input", "cache_read", "per_request", "tiers"] {
        assert!(price["properties"][field].is_object(), "{field}: {price}");
    }
    let priced = &document["components"]["schemas"]["PricedModel"];
    assert!(priced["additionalProperties"].is_null(), "what an answer has may grow: {priced}");
    assert!(priced["properties"]["input"].is_object() && priced["properties"]["rate_card"].is_object(), "{priced}");
    let row = &document["components"]["schemas"]["RequestRow"];
    assert!(row["properties"]["input_tokens"].is_object() && row["properties"]["outcome"].is_object(), "{row}");
}

fn with(method: Method, path: &str, header: Option<(&str, &str)>) -> Request<Body> {
    let request = request(method, path).header(AUTHORIZATION, format!("Bearer {KEY}"));
    let request = request.header(CONTENT_TYPE, "application/json");
    let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(Body::from("{}")).unwrap()
}

/// N-08
#[tokio::test]
async fn every_post_of_the_list_reads_the_idempotency_key() {
    let scene = Scene::new().await;
    for endpoint in endpoints().into_iter().filter(|endpoint| endpoint.method == Method::POST) {
        let path = filled(&scene, &endpoint.path);
        let answer = scene.send(with(Method::POST, &path, Some(("idempotency-key", "two words")))).await;
        answer.refused(400);
        assert_eq!(answer.json()["error"]["field"], "Idempotency-Key", "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn every_parameter_of_the_document_is_known_to_its_route() {
    let scene = Scene::new().await;
    let document = document();
    let mut known = 0;
    for (method, path, operation) in operations() {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let names = parameters.iter().map(|one| resolved(&document, one)).filter(|one| one["in"] == "query");
        for name in names.map(|one| one["name"].as_str().unwrap()) {
            let path = format!("{}?{name}=~", filled(&scene, &path));
            let answer = scene.send(with(method.clone(), &path, None)).await;
            assert!(!answer.text.contains("unknown field"), "{method} {path}: {}", answer.text);
            let unknown = path.replace(&format!("?{name}="), &format!("?{name}x="));
            let unknown = scene.send(with(method.clone(), &unknown, None)).await;
            assert!(unknown.text.contains("unknown field"), "{method} {path}: {}", unknown.text);
            known += 1;
        }
    }
    assert!(known > 30, "{known}");
}

/// W-04
#[tokio::test]
async fn the_pages_come_from_this_program_alone_and_may_load_nothing_else() {
    let scene = Scene::new().await;
    let get = |path: &str| scene.send(request(Method::GET, path).body(Body::empty()).unwrap());
    let way = get("/docs").await;
    assert_eq!((way.status.as_u16(), way.header("location")), (303, Some("/docs/index.html")));
    let page = get("/docs/index.html").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
    assert!(
        !page.text.contains("<script>") && !page.text.contains("<style>"),
        "no policy is needed for what stands in it"
    );
    let mut loaded = 0;
    for part in page.text.split(['"', '\'']).filter(|part| part.ends_with(".js") || part.ends_with(".css")) {
        let file = get(&format!("/docs/{}", part.trim_start_matches("./"))).await;
        assert_eq!(file.status, 200, "{part}");
        assert_eq!(file.header("content-security-policy"), Some(policy));
        loaded += 1;
    }
    assert!(loaded >= 4, "{}", page.text);
    let start = get("/docs/swagger-initializer.js").await;
    assert!(start.text.contains("../openapi.json") && !start.text.contains("petstore"), "{}", start.text);
    assert!(start.text.contains(r#""validatorUrl": "none""#), "no other site is told: {}", start.text);
    for path in ["/docs/nothing.js", "/docs/..%2f..%2fetc%2fpasswd", "/docs/%ff"] {
        assert_eq!(get(path).await.refused(404), "not_found", "{path}");
    }
    assert_eq!(get("/docs/").await.header("location"), Some("/docs/index.html"));
    assert_eq!(get("/docs/a/b").await.status, 404);
    let data = get("/healthz").await;
    assert_eq!(data.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
}

#[tokio::test]
async fn the_document_is_served_as_it_is_dumped() {
    let scene = Scene::new().await;
    let served = scene.send(request(Method::GET, "/openapi.json").body(Body::empty()).unwrap()).await;
    assert_eq!((served.status.as_u16(), served.header("content-type")), (200, Some("application/json")));
    assert_eq!(served.text.as_bytes(), crate::admin::openapi());
    assert_eq!(served.json()["openapi"], "3.1.0");
}
