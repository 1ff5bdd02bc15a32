//! The example of `conf/examples/browser` in a real Chromium: what a page can do with a client secret, and what it never sees.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use openclawmu_tests::gateway::free_address;
use openclawmu_tests::wait::until;
use openclawmu_tests::{Behaviour, Scene, ledger, raw, sdk};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

/// The example's backend.
struct Backend(Child);

impl Drop for Backend {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conf/examples/browser/server.py")
}

async fn serve(gateway: &str, token: &str) -> (Backend, u16) {
    let address = free_address();
    let child = Command::new("python3")
        .arg(example())
        .env("OPENCLAWMU_TOKEN", token)
        .env("OPENCLAWMU_URL", gateway)
        .env("DEMO_PASSWORD", PASSWORD)
        .env("MODEL", "alpha")
        .env("PORT", address.port().to_string())
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 runs");
    let backend = Backend(child);
    until("the example's backend", || async {
        raw::blocking_get(address, "/", "").filter(|(status, _)| *status == 200)
    })
    .await;
    (backend, address.port())
}

/// A-10, W-01, W-02, A-05 in a browser
#[tokio::test(flavor = "multi_thread")]
async fn a_page_chats_without_the_token_and_nobody_elses_page_does() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::words(3));
    let (id, token) = scene.admin().mint("acme", &json!({ "scopes": ["inference", "client_secrets"] })).await;
    let gateway = format!("http://localhost:{}", scene.gateway.edge().port());
    let (_backend, port) = serve(&gateway, &token).await;
    let given = json!({
        "page": format!("http://localhost:{port}"), "password": PASSWORD, "gateway": gateway, "token": token, "tokenId": id,
        "tenant": "acme", "admin": format!("http://{}", scene.gateway.admin_address()), "key": scene.gateway.key(),
        "chromium": sdk::chromium(),
    });
    let result = sdk::run_browser("page.mjs", &[&given.to_string()]).await;
    let text = |key: &str| result[key].as_str().unwrap_or_default();
    assert_eq!((text("answer"), text("problem")), ("word0 word1 word2 ", ""), "the page chats, in a stream: {result}");
    assert_eq!(result["watched"], true, "what the page sends is seen: {result}");
    assert_eq!((&result["token_seen"], &result["secret_kept"]), (&json!(false), &json!(false)), "{result}");
    let readable = &result["readable"];
    assert_eq!(readable["status"], 200, "{result}");
    assert!(readable["id"].is_string() && readable["cost"].is_string(), "the page may read these heads: {result}");
    assert_eq!(result["other_origin"], json!({ "refused": "TypeError" }), "{result}");
    assert_eq!(text("client"), "word0 word1 word2 ", "the official client's headers pass: {result}");
    assert_eq!(text("cookie_script"), "", "no script sees the cookie: {result}");
    assert_eq!(result["cookie"]["status"], 200, "the browser keeps and sends it: {result}");
    assert_eq!(result["cookie_left_out"]["status"], 401, "{result}");
    assert_eq!(result["cookie_other_origin"]["status"], Value::Null, "another page's answer is kept from it: {result}");
    assert_eq!((&result["revoked"], &result["dead"]["status"]), (&json!(200), &json!(401)), "{result}");
    assert_eq!(text("told"), "The gateway gives no client secret.", "{result}");
    let users = ledger::users(&scene.gateway.data());
    assert!(users.iter().filter(|(_, user)| user == "ann").count() >= 2, "{users:?}");
    scene.rows_once(4).await;
    assert_eq!(scene.upstream.calls(), 4, "nothing of a refused page was sent");
}
