//! The operator's console in a real Chromium and from outside: what one does there, and what nobody else can.

use std::path::Path;

use http::Method;
use openclawmu_tests::client::{Reply, chat, http_client};
use openclawmu_tests::{Scene, audit, sdk};
use serde_json::{Value, json};

/// What a browser would run where it should show text. `hacked` is what the test looks for.
const HOSTILE: [&str; 5] = [
    "<script>window.hacked=1</script>",
    "\"><img src=x onerror=window.hacked=2>",
    "'><svg/onload=window.hacked=3>",
    "</textarea></title><iframe srcdoc='<script>parent.hacked=4</script>'>",
    "javascript:window.hacked=5//",
];

/// A person at the console without a browser: a cookie, and the mark of its forms.
struct Person<'a> {
    scene: &'a Scene,
    cookie: String,
    csrf: String,
}

/// A form as a browser sends it.
fn encoded(form: &[(&str, &str)]) -> String {
    let part = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    form.iter().map(|(name, value)| format!("{}={}", part(name), part(value))).collect::<Vec<_>>().join("&")
}

async fn send(scene: &Scene, method: Method, path: &str, cookie: &str, form: &[(&str, &str)]) -> Reply {
    let here = format!("http://{}", scene.gateway.admin_address());
    let request = http_client(false).request(method.clone(), format!("{here}{path}")).header("cookie", cookie);
    let request = if method == Method::GET {
        request
    } else {
        request.header("origin", &here).header("content-type", "application/x-www-form-urlencoded").body(encoded(form))
    };
    Reply::of(request.send().await.expect("an answer")).await
}

impl<'a> Person<'a> {
    async fn at(scene: &'a Scene) -> Self {
        let answer = send(scene, Method::POST, "/console/login", "", &[("key", scene.gateway.key())]).await;
        assert_eq!(answer.status, 303, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let page = send(scene, Method::GET, "/console/config", &cookie, &[]).await.text();
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        Self { scene, cookie, csrf }
    }

    async fn get(&self, path: &str) -> Reply {
        send(self.scene, Method::GET, path, &self.cookie, &[]).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let marks = [("csrf", self.csrf.as_str()), ("once", "0123456789abcdef0123456789abcdef")];
        send(self.scene, Method::POST, path, &self.cookie, &[&marks[..], fields].concat()).await
    }
}

/// Tenants, tokens and lines of the log that are named so.
async fn hostile(scene: &Scene) {
    let admin = scene.admin();
    for (place, text) in HOSTILE.into_iter().enumerate() {
        let tenant =
            json!({ "id": format!("x{place}"), "name": text, "models": [text, "alpha"], "metadata": { text: text } });
        let tenant = admin.tenant_of(tenant).await;
        admin.mint(&tenant.id, &json!({ "name": text, "scopes": ["usage"] })).await;
        let mut body = chat("alpha", "hello", 5);
        body["user"] = json!(text);
        scene.gateway.client(&tenant.token).chat(&body).await.ok();
    }
    let prices: Value =
        HOSTILE.iter().map(|text| ((*text).to_owned(), json!({ "input": "1", "output": "1" }))).collect();
    admin.send_json(Method::PUT, "/v1/rates", &json!({ "models": prices })).await.ok();
}

/// W-01 to W-06, N-01, T-01 in a browser
#[tokio::test(flavor = "multi_thread")]
async fn a_person_runs_tenants_at_the_console_and_no_other_page_does() {
    let scene = Scene::new().await;
    hostile(&scene).await;
    let screenshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    let given = json!({
        "console": format!("http://{}", scene.gateway.admin_address()), "key": scene.gateway.key(), "token": scene.tenant.token,
        "edge": format!("http://{}", scene.gateway.edge()), "hostile": HOSTILE.len(), "chromium": sdk::chromium(),
        "screenshots": screenshots,
    });
    let result = sdk::run_browser("console.mjs", &[&given.to_string()]).await;
    let is = |name: &str, expected: Value| assert_eq!(result[name], expected, "{name}: {result}");
    is("led", json!("/console/login"));
    assert!(result["refused"].as_str().unwrap().contains("credential"), "a tenant's token is none: {result}");
    is("cookie", json!({ "httpOnly": true, "sameSite": "Strict", "path": "/console" }));
    is("script_sees", json!(["", "{}", "{}"]));
    is("shown_once", json!([true, false]));
    is("chats", json!([429, 200, 200, 401]));
    is("wrong", json!(["quota.usd_per_day", "much"]));
    is("cross", json!([403, 403]));
    is("after_cross", json!("active"));
    is("api_by_cookie", json!(401));
    is("hacked", Value::Null);
    is("as_text", json!(HOSTILE.len()));
    is("violations", json!([]));
    is("errors", json!([]));
    is("too_wide", json!([]));
    is("elsewhere", json!([]));
    is("terminal", json!([true, true, true]));
    is("verified", json!(true));
    is("deleted", json!([400, true]));
    is("left", json!([303, "/console/login"]));

    let gone = scene.gateway.data().join("audit");
    let actions: Vec<String> = audit::done(&gone)
        .iter()
        .filter(|line| line["actor"]["kind"] == "operator")
        .map(|line| line["action"].as_str().unwrap().to_owned())
        .collect();
    for action in [
        "console.login",
        "tenant.create",
        "tenant.update",
        "token.revoke",
        "terminal.ticket",
        "tenant.delete",
        "console.logout",
    ] {
        assert!(actions.iter().any(|known| known == action), "{action} in {actions:?}");
    }
    let all =
        [scene.gateway.stderr(), scene.gateway.stdout(), std::fs::read_to_string(gone.join("audit.jsonl")).unwrap()];
    for secret in ["made_secret", "session"] {
        let secret = result[secret].as_str().unwrap();
        assert!(secret.len() > 20 && all.iter().all(|text| !text.contains(secret)), "no log has it");
    }
}

/// N-01, W-06: from outside, without a browser's good manners
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_consoles_alone_and_over_with_the_process() {
    let mut scene = Scene::new().await;
    for (path, key) in [("/console", ""), ("/console/tenants/acme", "Bearer"), ("/console/nothing", "")] {
        let request = http_client(false).get(format!("http://{}{path}", scene.gateway.admin_address()));
        let request = if key.is_empty() { request } else { request.bearer_auth(scene.gateway.key()) };
        let answer = Reply::of(request.send().await.expect("an answer")).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/console/login")), "{path}");
    }
    let person = Person::at(&scene).await;
    assert!(person.get("/console/tenants/acme").await.text().contains("acme"));
    assert_eq!(person.get("/v1/tenants").await.status, 401, "the cookie opens no API");
    let edge = format!("http://{}/console", scene.gateway.edge());
    let at_the_edge = http_client(false).get(edge).header("cookie", &person.cookie).send().await.expect("an answer");
    assert!(matches!(at_the_edge.status().as_u16(), 401 | 404), "tenants' listener has no console");

    let suspended = person.post("/console/tenants/acme/suspend", &[]).await;
    assert_eq!(suspended.status, 303, "{}", suspended.text());
    assert_eq!(scene.client.chat(&chat("alpha", "hi", 5)).await.status, 403, "it is served no more");
    assert_eq!(person.post("/console/tenants/acme/activate", &[]).await.status, 303);
    scene.client.chat(&chat("alpha", "hi", 5)).await.ok();
    let csv = person.get("/console/tenants/acme/requests.csv?format=csv").await;
    assert!(
        csv.header("content-type").unwrap().starts_with("text/csv") && csv.text().contains("alpha"),
        "{}",
        csv.text()
    );
    let period = scene.admin().get("/v1/tenants/acme/quota").await["usd_per_month"]["resets_at"].clone();
    assert!(period.is_string());
    let here = person.get("/console/reports").await.text();
    let link = here
        .split("href=\"/console/reports/download?")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&amp;", "&");
    let report = person.get(&format!("/console/reports/download?{link}")).await;
    let month = link.split("period=").nth(1).unwrap().split('&').next().unwrap();
    let by_api = scene.admin().send(Method::GET, &format!("/v1/reports/usage?period={month}&format=csv")).await;
    assert_eq!(report.text(), by_api.text(), "the same file as the API's, byte for byte");
    assert!(report.header("content-disposition").unwrap().contains(".csv"));

    let cookie = person.cookie.clone();
    scene.gateway.terminate().await;
    scene.restarted().await;
    let after = send(&scene, Method::GET, "/console", &cookie, &[]).await;
    assert_eq!((after.status, after.header("location")), (303, Some("/console/login")), "a restart ends every session");
    assert!(Person::at(&scene).await.get("/console").await.text().contains("Overview"), "and one logs in again");
}
