//! `/v1/terminal/ui` in a real Chromium, and `openclawmu terminal` in a real terminal. They need bubblewrap, as root, Chromium and vim:
//! the sandbox shows the host's own `/usr`.

use std::path::Path;

use openclawmu_tests::terminal::Terminal;
use openclawmu_tests::{Scene, sdk};
use reqwest::Method;
use serde_json::json;

/// T-03, T-05, T-07 in a browser
#[tokio::test(flavor = "multi_thread")]
async fn a_page_types_resizes_edits_reloads_comes_back_and_is_watched_until_its_token_is_revoked() {
    let scene = Scene::new().await;
    let (id, token) = scene.admin().mint("acme", &json!({ "scopes": ["terminal"] })).await;
    let screenshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    let given = json!({
        "page": format!("http://{}/v1/terminal/ui", scene.gateway.edge()), "token": token, "tokenId": id, "tenant": "acme",
        "admin": format!("http://{}", scene.gateway.admin_address()), "key": scene.gateway.key(),
        "chromium": sdk::chromium(), "screenshots": screenshots,
    });
    let result = sdk::run_browser("terminal.mjs", &[&given.to_string()]).await;
    let policy = result["headers"]["policy"].as_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe-eval"),
        "{policy}"
    );
    assert_eq!((&result["headers"]["nosniff"], &result["headers"]["store"]), (&json!("nosniff"), &json!("no-store")));
    assert_eq!(
        (&result["violations"], &result["errors"]),
        (&json!([]), &json!([])),
        "the page needs no more than its policy: {result}"
    );
    assert_eq!(result["token_kept"], false, "{result}");
    assert_eq!(result["colours"][1], "rgb(1, 200, 3)", "{result}");
    assert_ne!(result["colours"][0], "rgb(255, 255, 255)", "{result}");
    assert_eq!((&result["title_after"], &result["title_report"]), (&result["title"], &json!(true)), "{result}");
    let side = |which: usize, at: usize| result["sizes"][which][at].as_u64().unwrap();
    assert!(side(1, 0) < side(0, 0) && side(1, 1) < side(0, 1), "{result}");
    assert_eq!(
        (&result["vim"], &result["reloaded"], &result["played"]),
        (&json!(true), &json!(true), &json!(true)),
        "{result}"
    );
    assert_eq!(result["returned"], true, "{result}");
    assert!(result["banner"].as_str().unwrap().contains("watch"), "{result}");
    assert_eq!((&result["observer_typed"], &result["observer_end"]), (&json!(false), &json!(false)), "{result}");
    assert_eq!((&result["revoked"], &result["forgotten"]), (&json!(200), &json!(0)), "{result}");
    assert_eq!(result["told"], "The right to this session was revoked.", "{result}");
    scene.settled().await;
}

/// A script of a person at a terminal of their own: what is typed once that was shown, and how it ended.
async fn at_a_terminal(scene: &Scene, arguments: &[&str], talk: &[(&str, &str)]) -> serde_json::Value {
    let mut all = vec!["terminal", "--data"];
    let data = scene.gateway.data();
    all.push(data.to_str().unwrap());
    all.extend_from_slice(arguments);
    let given = json!({ "program": openclawmu_tests::gateway::binary(), "arguments": all, "talk": talk });
    sdk::run_python("terminal.py", &[&given.to_string()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_attaches_from_a_real_terminal_and_leaves_it_as_it_was() {
    let scene = Scene::new().await;
    let talk = [
        ("term_", ""),
        ("$ ", "stty size; echo $((6*7))x\r"),
        // It is in front of the terminal once it has said so.
        ("42x", "sh -c 'echo s$((1+1))y; exec sleep 1000'\r"),
        ("s2y", "\u{3}"),
        ("^C", "exit 7\r"),
    ];
    let told = at_a_terminal(&scene, &["acme", "--reason", "a look"], &talk).await;
    assert_eq!((&told["code"], &told["same"]), (&json!(7), &json!(true)), "{told}");
    assert!(told["shown"].as_str().unwrap().contains("31 97"), "the size is that of the terminal here: {told}");

    // A watcher sees, types nothing, and leaves by the escape; the terminal goes on.
    let mut driver = Terminal::open(scene.gateway.edge(), &scene.client).await;
    driver.keys("echo seen$((6*7))x\r").await;
    driver.until_shown("seen42x").await;
    let session = driver.session().to_owned();
    let talk = [("seen42x", "echo typed\r"), ("", "~.")];
    let told = at_a_terminal(&scene, &["acme", "--session", &session], &talk).await;
    assert_eq!((&told["code"], &told["same"]), (&json!(0), &json!(true)), "{told}");
    driver.keys("echo $((6*7))y\r").await;
    driver.until_shown("42y").await;
    assert!(!driver.text().contains("typed"), "{}", driver.text());

    let listed = scene.gateway.cli(&["terminals", "list", "--tenant", "acme", "--json"]).await.json();
    assert_eq!(listed["data"][0]["id"], session, "{listed}");
    let ended = scene.gateway.cli(&["terminals", "end", &session]).await;
    assert!(ended.ok().contains("has ended"), "{}", ended.ok());
    driver.closed().await;
    assert_eq!(driver.error.as_ref().unwrap()["code"], "ended");
    let recordings = scene.gateway.cli(&["terminals", "recordings", "acme", "--json"]).await.json();
    assert_eq!(recordings["data"].as_array().map(Vec::len), Some(2), "{recordings}");
    let fetched = scene.gateway.cli(&["terminals", "fetch", "acme", &session]).await;
    assert!(fetched.ok().contains("seen42x"), "{}", fetched.ok());
    let nobody = scene.admin().send(Method::DELETE, &format!("/v1/terminals/{session}")).await;
    assert_eq!(nobody.status, 404);

    // Nothing is attached to where there is no terminal here.
    let refused = scene.gateway.cli(&["terminal", "acme"]).await;
    assert!(refused.stderr.contains("must be a terminal") && !refused.status.success(), "{}", refused.stderr);
    let ticket = scene.gateway.cli(&["terminal", "acme", "--json"]).await.json();
    assert!(ticket["ticket"].is_string() && ticket["url"].is_string(), "{ticket}");
    scene.settled().await;
}
