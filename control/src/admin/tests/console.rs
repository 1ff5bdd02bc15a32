//! Who gets to the console's pages, and what every answer of it carries.

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, SET_COOKIE};
use http::{Method, Request};
use openclawmu_store::{Clock, TenantId};
use serde_json::json;

use crate::admin::console::route::{Route, is_open, routes};
use crate::admin::console::session::{IDLE_MS, MAX_SESSIONS};
use crate::admin::tests::access::filled;
use crate::admin::tests::scene::{Answer, KEY, Scene, request};

/// Where the console is, as a browser names it.
pub(super) const HERE: &str = "http://127.0.0.1:8081";

/// A browser that has logged in.
pub(super) struct Browser<'a> {
    scene: &'a Scene,
    pub(super) cookie: String,
    pub(super) csrf: String,
}

/// A form as a browser sends it.
pub(super) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// A change that a page of `origin` asks for.
pub(super) fn change(path: &str, origin: &str, body: String) -> Request<Body> {
    let request = request(Method::POST, path).header(ORIGIN, origin);
    request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(Body::from(body)).unwrap()
}

fn with_cookie(mut request: Request<Body>, cookie: &str) -> Request<Body> {
    request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
    request
}

/// The value of a form's hidden field.
pub(super) fn hidden(page: &str, name: &str) -> String {
    let from = page.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("{name} in {page}"));
    page[from..].split('"').nth(3).unwrap().to_owned()
}

impl<'a> Browser<'a> {
    pub(super) async fn of(scene: &'a Scene) -> Self {
        let answer = scene.send(change("/console/login", HERE, form(&[("key", KEY)]))).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/console")), "{}", answer.text);
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let mut browser = Self { scene, cookie, csrf: String::new() };
        browser.csrf = hidden(&browser.page("/console/config").await, "csrf");
        browser
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        let asked = request(Method::GET, path).body(Body::empty()).unwrap();
        self.scene.send(with_cookie(asked, &self.cookie)).await
    }

    /// A page that must be there.
    pub(super) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.text
    }

    /// Sends a form of this session with these fields, and the marks that all have.
    pub(super) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let once = format!("{:032x}", rand(path, fields));
        self.post_marked(path, fields, &once).await
    }

    pub(super) async fn post_marked(&self, path: &str, fields: &[(&str, &str)], once: &str) -> Answer {
        let marks = [("csrf", self.csrf.as_str()), ("once", once)];
        let body = form(&[&marks[..], fields].concat());
        self.scene.send(with_cookie(change(path, HERE, body), &self.cookie)).await
    }
}

/// A mark of a form that differs from those of others.
fn rand(path: &str, fields: &[(&str, &str)]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (path, fields).hash(&mut hasher);
    hasher.finish()
}

/// Every route with its ids filled in.
fn targets(scene: &Scene) -> Vec<(Route, String)> {
    routes().into_iter().map(|route| (filled(scene, &route.path), route)).map(|(path, route)| (route, path)).collect()
}

/// N-01
#[tokio::test]
async fn no_page_opens_without_a_session_and_no_bearer_is_one() {
    let scene = Scene::new().await;
    let acme: TenantId = "acme".parse().unwrap();
    let before = (scene.store.tenant(&acme).unwrap(), scene.store.tokens(&acme, None, 10).unwrap());
    for (route, path) in targets(&scene) {
        for (name, value) in [
            ("x-nothing", String::new()),
            ("authorization", format!("Bearer {KEY}")),
            ("authorization", format!("Bearer {}", scene.token)),
            ("cookie", "openclawmu-console=wrong".to_owned()),
            ("cookie", format!("__Host-openclawmu-console={KEY}")),
            ("cookie", format!("__Host-openclawmu={}", scene.token)),
        ] {
            let mut asked = match route.method {
                Method::GET => request(Method::GET, &path).body(Body::empty()).unwrap(),
                _ => change(&path, HERE, form(&[("csrf", ""), ("confirm", "acme")])),
            };
            asked.headers_mut().insert(name, value.parse().unwrap());
            let answer = scene.send(asked).await;
            let (status, to) = (answer.status.as_u16(), answer.header("location"));
            match (is_open(&path), route.method.as_str()) {
                (true, "GET") => assert_eq!(status, 200, "{path}"),
                (true, _) => assert_eq!(status, 401, "{path}: no key, no session"),
                (false, "GET") => {
                    assert_eq!((status, to), (303, Some("/console/login")), "{path} with {name}: {value}")
                }
                (false, _) => assert_eq!(status, 401, "{path} with {name}: {value}"),
            }
            assert!(answer.header("set-cookie").is_none() && !answer.text.contains("Acme"), "{path}");
        }
    }
    assert_eq!((scene.store.tenant(&acme).unwrap(), scene.store.tokens(&acme, None, 10).unwrap()), before);
    let open: Vec<String> = routes().into_iter().map(|route| route.path).filter(|path| is_open(path)).collect();
    let expected =
        ["/console/login", "/console/login", "/console/style.css", "/console/script.js", "/console/icon.svg"];
    assert_eq!(open, expected);
}

/// The positive twin: the same list with a session reaches its handlers.
#[tokio::test]
async fn every_page_is_there_for_a_session_and_loads_nothing_from_elsewhere() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    for (route, path) in targets(&scene).into_iter().filter(|(route, _)| route.method == Method::GET) {
        let path = if path.ends_with("download") { format!("{path}?period=2026-11&format=csv") } else { path };
        let page = browser.page(&path).await;
        if !page.starts_with("<!DOCTYPE html>") {
            continue;
        }
        assert_eq!(page.matches("<h1>").count(), 1, "{path}");
        for elsewhere in ["//", "style=", "onclick", "<style", "javascript:"] {
            let without = page.replace("http://www.w3.org", "").replace("https://app.example.com", "");
            assert!(!without.contains(elsewhere), "{elsewhere} in {path}: {page}");
        }
        assert!(route.path == "/console/login" || page.contains("Log out"), "{path}");
    }
    for (path, status) in [
        ("/console/nothing", 404),
        ("/console/tenants/nobody", 404),
        ("/console/tenants/..%2facme", 404),
        ("/console/", 303),
    ] {
        assert_eq!(browser.get(path).await.status, status, "{path}");
    }
}

/// P-01
#[tokio::test]
async fn a_hostile_name_in_a_path_is_no_page() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    std::fs::write(scene.dir.path().join("tenants.cast"), "outside").unwrap();
    let mut tried = 0;
    for route in routes().into_iter().filter(|route| route.path.contains('{')) {
        for hostile in
            ["..%2f..%2ftenants", "%2e%2e", "..%5c..%5ctenants", "some%00", "%2fetc%2fpasswd", "%252e%252e", "x%0d%0ay"]
        {
            let last = route.path.rfind('{').unwrap();
            let end = route.path[last..].find('}').unwrap() + last + 1;
            let path = format!("{}{hostile}{}", filled(&scene, &route.path[..last]), &route.path[end..]);
            let answer = match route.method {
                Method::GET => browser.get(&path).await,
                _ => {
                    browser
                        .post(&path, &[("reason", "why"), ("action", "release"), ("api_key", "k"), ("scopes", "usage")])
                        .await
                }
            };
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{} {path}: {}", route.method, answer.status);
            assert!(!answer.text.contains("outside"), "{path}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried}");
    let twin = filled(&scene, "/console/tenants/{id}/recordings/{recording}");
    assert_eq!(browser.get(&twin).await.status, 200, "{twin}");
}

/// W-02
#[tokio::test]
async fn a_page_of_another_origin_or_without_the_sessions_mark_changes_nothing() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    let acme: TenantId = "acme".parse().unwrap();
    let before = (scene.store.tenant(&acme).unwrap(), scene.store.tokens(&acme, None, 10).unwrap());
    let fields = [
        ("csrf", browser.csrf.as_str()),
        ("once", "0123456789abcdef"),
        ("confirm", "acme"),
        ("name", "taken over"),
        ("key", KEY),
        ("scopes", "inference"),
    ];
    for (route, path) in targets(&scene).into_iter().filter(|(route, _)| route.method == Method::POST) {
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8080",
            "http://127.0.0.1:8081.evil.example",
            "http://localhost:8081",
        ] {
            let answer = scene.send(with_cookie(change(&path, origin, form(&fields)), &browser.cookie)).await;
            assert_eq!(answer.status, 403, "{} {path} from {origin}", route.method);
            assert!(answer.header("set-cookie").is_none(), "{path}");
        }
        let mut other_site = change(&path, HERE, form(&fields));
        other_site.headers_mut().insert("sec-fetch-site", "same-site".parse().unwrap());
        assert_eq!(scene.send(with_cookie(other_site, &browser.cookie)).await.status, 403, "{path}");
        let mut silent = change(&path, HERE, form(&fields));
        silent.headers_mut().remove(ORIGIN);
        assert_eq!(scene.send(with_cookie(silent, &browser.cookie)).await.status, 403, "{path}: says not from where");
        if is_open(&path) {
            continue;
        }
        for mark in ["", "wrong"] {
            let fields = [("csrf", mark), ("once", "0123456789abcdef"), ("confirm", "acme"), ("name", "taken over")];
            let answer = scene.send(with_cookie(change(&path, HERE, form(&fields)), &browser.cookie)).await;
            assert_eq!(answer.status, 403, "{path} marked {mark:?}");
        }
        let other = Browser::of(&scene).await;
        let fields = [("csrf", other.csrf.as_str()), ("confirm", "acme"), ("name", "taken over")];
        let answer = scene.send(with_cookie(change(&path, HERE, form(&fields)), &browser.cookie)).await;
        assert_eq!(answer.status, 403, "{path} with the mark of another session");
    }
    assert_eq!((scene.store.tenant(&acme).unwrap(), scene.store.tokens(&acme, None, 10).unwrap()), before);
    assert_eq!(browser.get("/console").await.status, 200, "and nobody was logged out");
}

/// W-01: one listener, two credentials, neither of which is the other
#[tokio::test]
async fn the_cookie_opens_the_console_alone() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    for endpoint in
        crate::admin::endpoints().into_iter().filter(|endpoint| endpoint.access == crate::admin::Access::Admin)
    {
        let path = filled(&scene, &endpoint.path);
        let asked =
            request(endpoint.method.clone(), &path).header(ORIGIN, HERE).header(CONTENT_TYPE, "application/json");
        let answer = scene.send(with_cookie(asked.body(Body::from("{}")).unwrap(), &browser.cookie)).await;
        assert_eq!(answer.refused(401), "admin_key_needed", "{} {path}", endpoint.method);
    }
    assert_eq!(browser.get("/console/tenants").await.status, 200);
    assert_eq!(scene.get("/v1/tenants").await.status, 200, "and the bearer still opens the API");
}

#[tokio::test]
async fn a_login_takes_an_admin_key_and_says_no_more_than_that_another_is_none() {
    let scene = Scene::new().await;
    let attempt = |key: &str| scene.send(change("/console/login", HERE, form(&[("key", key)])));
    for (key, status) in [
        ("", 401),
        ("wrong-wrong-wrong-wrong-wrong-wrong", 401),
        (&KEY[..KEY.len() - 1], 401),
        (scene.token.as_str(), 403),
    ] {
        let answer = attempt(key).await;
        assert_eq!(answer.status, status, "{key}");
        assert!(answer.header("set-cookie").is_none() && answer.text.contains("role=\"alert\""), "{}", answer.text);
        assert!(key.is_empty() || !answer.text.contains(key), "what was typed is not shown again");
        assert!(answer.header("www-authenticate").is_none(), "a browser would ask for a password");
    }
    let good = attempt(KEY).await;
    assert_eq!(good.status, 303);
    let cookie = good.headers.get(SET_COOKIE).unwrap().to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly; SameSite=Strict") && cookie.contains("Path=/console") && !cookie.contains("Secure"),
        "{cookie}"
    );
    assert!(!cookie.contains(KEY) && good.headers.get(LOCATION).unwrap() == "/console");
    let mut over_tls = change("/console/login", "https://127.0.0.1:8081", form(&[("key", KEY)]));
    over_tls.headers_mut().insert("sec-fetch-site", "same-origin".parse().unwrap());
    let cookie = scene.send(over_tls).await.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with("__Host-openclawmu-console=") && cookie.contains("Path=/; Secure"), "{cookie}");
}

/// N-09
#[tokio::test]
async fn guesses_at_the_login_and_at_the_api_are_counted_together() {
    let scene = Scene::new().await;
    let at_the_login =
        |key: &str| scene.send_from("203.0.113.9", change("/console/login", HERE, form(&[("key", key)])));
    for guess in 0..10 {
        assert_eq!(at_the_login(&format!("guess-{guess}")).await.status, 401);
        let asked = request(Method::GET, "/v1/tenants").header(AUTHORIZATION, format!("Bearer guess-{guess}"));
        assert_eq!(scene.send_from("203.0.113.9", asked.body(Body::empty()).unwrap()).await.status, 401);
    }
    let stopped = at_the_login(KEY).await;
    assert_eq!(
        (stopped.status.as_u16(), stopped.header("retry-after")),
        (429, Some("60")),
        "right or wrong is not told"
    );
    assert!(stopped.header("set-cookie").is_none());
    let other = scene.send_from("203.0.113.10", change("/console/login", HERE, form(&[("key", KEY)]))).await;
    assert_eq!(other.status, 303, "another address is not concerned");
    scene.clock.set(scene.clock.now().plus_ms(60_000));
    assert_eq!(at_the_login(KEY).await.status, 303);
}

/// W-06
#[tokio::test]
async fn a_session_is_over_on_the_server_when_it_was_logged_out_of_or_not_used() {
    let scene = Scene::new().await;
    let (leaving, idle, other) = (Browser::of(&scene).await, Browser::of(&scene).await, Browser::of(&scene).await);
    let anew = Browser::of(&scene).await;
    let left = leaving.post("/console/logout", &[]).await;
    assert_eq!((left.status.as_u16(), left.header("location")), (303, Some("/console/login")), "{}", left.text);
    let cleared: Vec<_> = left.headers.get_all(SET_COOKIE).iter().collect();
    assert!(
        cleared.len() == 2 && cleared.iter().all(|value| value.to_str().unwrap().contains("Max-Age=0")),
        "{cleared:?}"
    );
    let again = change("/console/login", HERE, form(&[("key", KEY)]));
    let again = scene.send(with_cookie(again, &anew.cookie)).await;
    assert!(again.status == 303 && !again.header("set-cookie").unwrap().starts_with(&anew.cookie), "{again:?}");
    assert_eq!(anew.get("/console").await.status, 303, "a new login ends the session before");
    assert_eq!(leaving.get("/console").await.status, 303, "the cookie is good for nothing any more");
    assert_eq!(leaving.post("/console/tenants/acme/suspend", &[]).await.status, 401);
    assert_eq!(other.get("/console").await.status, 200, "others go on");
    scene.clock.set(scene.clock.now().plus_ms(IDLE_MS - 1));
    assert_eq!(other.get("/console").await.status, 200);
    scene.clock.set(scene.clock.now().plus_ms(1));
    assert_eq!((idle.get("/console").await.status.as_u16(), other.get("/console").await.status.as_u16()), (303, 200));
}

#[tokio::test]
async fn sessions_are_bounded_and_the_one_in_use_stays() {
    let scene = Scene::new().await;
    let first = Browser::of(&scene).await;
    for _ in 0..MAX_SESSIONS {
        scene.clock.set(scene.clock.now().plus_ms(1));
        assert_eq!(first.get("/console/style.css").await.status, 200);
        assert_eq!(first.get("/console/config").await.status, 200);
        let answer = scene.send(change("/console/login", HERE, form(&[("key", KEY)]))).await;
        assert_eq!(answer.status, 303);
    }
    assert_eq!(first.get("/console").await.status, 200);
}

/// A page of another port of this host has the cookie with it: what it loads is not shown to it, and uses nothing up.
#[tokio::test]
async fn what_another_origin_loads_in_the_back_of_its_page_is_nobodys() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    let made = browser.post("/console/tenants/acme/tokens", &[("name", "second"), ("scopes", "usage")]).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let ask = |site: &'static str, mode: &'static str| {
        let asked = request(Method::GET, "/console/tenants/acme/tokens").header("sec-fetch-site", site);
        scene.send(with_cookie(asked.header("sec-fetch-mode", mode).body(Body::empty()).unwrap(), &browser.cookie))
    };
    for (site, mode) in [("same-site", "no-cors"), ("same-site", "cors"), ("cross-site", "no-cors")] {
        let answer = ask(site, mode).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, Some("/console/login")), "{site} {mode}");
    }
    assert!(ask("same-origin", "navigate").await.text.contains("tk_acme_"), "the secret is still there for its reader");
    for (site, mode) in [("none", "navigate"), ("same-site", "navigate"), ("same-origin", "cors")] {
        assert_eq!(ask(site, mode).await.status, 200, "{site} {mode}");
    }
}

/// W-04
#[tokio::test]
async fn every_answer_keeps_foreign_code_frames_and_caches_out() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    let mut seen = 0;
    for (route, path) in targets(&scene) {
        let answers = match route.method {
            Method::GET => vec![
                browser.get(&path).await,
                scene.send(request(Method::GET, &path).body(Body::empty()).unwrap()).await,
            ],
            _ => vec![scene.send(change(&path, "http://evil.example", String::new())).await],
        };
        for answer in answers {
            let policy = answer.header("content-security-policy").unwrap_or_default();
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "form-action 'self'",
                "base-uri 'none'",
                "frame-ancestors 'none'",
            ] {
                assert!(policy.contains(part), "{part} of {path}: {policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("cache-control", "no-store"),
                ("referrer-policy", "same-origin"),
                ("x-frame-options", "DENY"),
                ("cross-origin-opener-policy", "same-origin"),
            ] {
                assert_eq!(answer.header(name), Some(value), "{name} of {path}");
            }
            assert!(answer.header("access-control-allow-origin").is_none());
            seen += 1;
        }
    }
    assert!(seen > 50);
}

/// The document is for programs; what is for people is not in it.
#[tokio::test]
async fn the_openapi_document_has_no_page_of_the_console() {
    let scene = Scene::new().await;
    let document = scene.get("/openapi.json").await.json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    assert!(!paths.iter().any(|path| path.starts_with("/console")) && paths.contains(&&"/v1/tenants".to_owned()));
    assert_ne!(document["paths"], json!({}));
}
