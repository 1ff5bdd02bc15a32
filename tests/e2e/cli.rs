//! The command line against a running gateway, over `admin.sock`.

use openclawmu_tests::client::chat;
use openclawmu_tests::{Gateway, Scene, Setup};
use serde_json::{Value, json};

fn token_of(made: &Value) -> (String, String) {
    let token = made.get("token").unwrap_or(made);
    (token["id"].as_str().expect("an id").to_owned(), token["value"].as_str().expect("a value").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_life_on_the_command_line() {
    let scene = Scene::new().await;
    let cli = |arguments: &'static [&'static str]| scene.gateway.cli(arguments);
    let made = cli(&[
        "tenants",
        "create",
        "shop",
        "--name",
        "The Shop",
        "--quota.usd-per-day",
        "50",
        "--quota.tokens-per-day",
        "5_000_000",
        "--json",
    ])
    .await
    .json();
    assert_eq!(made["tenant"]["id"], "shop");
    assert_eq!(made["tenant"]["name"], "The Shop");
    assert_eq!(made["tenant"]["quota"]["tokens_per_day"], 5_000_000);
    let (_, token) = token_of(&made);
    scene.client.with_token(&token).chat(&chat("alpha", "hello", 5)).await.ok();

    let listed = cli(&["tenants", "list", "--json"]).await.json().to_string();
    assert!(listed.contains("\"shop\"") && listed.contains("\"acme\""), "{listed}");
    let plain = cli(&["tenants", "list"]).await;
    assert!(plain.ok().contains("shop"), "{plain:?}");
    let info = cli(&["tenants", "info", "shop", "--json"]).await.json().to_string();
    assert!(info.contains("The Shop") && !info.contains(&token), "{info}");
    let updated = cli(&["tenants", "update", "shop", "--quota.usd-per-day", "80", "--json"]).await.json().to_string();
    assert!(updated.contains("80"), "{updated}");
    assert_eq!(scene.admin().budget("shop", "usd_per_day").await.cap, Some(80_000_000_000));
    assert_eq!(
        scene.admin().get("/v1/tenants/shop").await.to_string().matches("5000000").count(),
        1,
        "an update of one quota leaves the others"
    );

    let refused = cli(&["tenants", "delete", "shop"]).await;
    assert!(!refused.status.success(), "a deletion wants its confirmation");
    let deleted = cli(&["tenants", "delete", "shop", "--confirm"]).await;
    assert!(deleted.status.success(), "{deleted:?}");
    scene.client.with_token(&token).get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tokens_life_on_the_command_line() {
    let scene = Scene::new().await;
    let made = scene.gateway.cli(&["tenants", "token", "create", "acme", "--json"]).await.json();
    let (id, token) = token_of(&made);
    scene.client.with_token(&token).get("/v1/quota").await.ok();
    let listed = scene.gateway.cli(&["tenants", "token", "list", "acme", "--json"]).await.json().to_string();
    assert!(listed.contains(&id) && listed.contains(&scene.tenant.token_id) && !listed.contains(&token), "{listed}");
    let rotated =
        scene.gateway.cli(&["tenants", "token", "rotate", "acme", &id, "--grace", "24h", "--json"]).await.json();
    let (next, fresh) = token_of(&rotated);
    scene.client.with_token(&token).get("/v1/quota").await.ok();
    scene.client.with_token(&fresh).get("/v1/quota").await.ok();
    let revoked = scene.gateway.cli(&["tenants", "token", "revoke", "acme", &next]).await;
    assert!(revoked.status.success(), "{revoked:?}");
    scene.client.with_token(&fresh).get("/v1/quota").await.refused(401, "invalid_request_error", "invalid_api_key");
    scene.client.get("/v1/quota").await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn billing_and_rates_on_the_command_line() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    let row = scene.rows_once(1).await.pop().expect("a row");
    let usage = scene.client.get("/v1/usage").await.ok();
    let day = usage["rows"][0]["day"].as_str().expect("a day").to_owned();
    let period = &day[..7];
    let report = scene.gateway.cli(&["billing", "report", "acme", "--period", period, "--csv"]).await;
    let csv = report.ok();
    let columns = "period_start,period_end,tenant,tenant_name,model,upstream,token,requests,input_tokens,cache_read_tokens,cache_write_tokens,\
                   output_tokens,reasoning_tokens,tool_calls,sandbox_seconds,storage_byte_days,rate_card,estimated_rows,cost_usd";
    assert_eq!(csv.lines().next(), Some(columns));
    assert!(
        csv.contains("acme") && csv.contains("alpha") && csv.contains(&openclawmu_tests::money::usd(row.cost)),
        "{csv}"
    );
    let priced = scene.gateway.cli(&["rates", "show", "alpha", "--json"]).await.json().to_string();
    assert!(priced.contains("2.5"), "{priced}");
    let file = scene.gateway.dir().join("more-rates.json");
    let card =
        json!({ "effective_from": "2026-01-01T00:00:00Z", "models": { "gamma": { "input": "1", "output": "2" } } });
    std::fs::write(&file, card.to_string()).expect("a file");
    let imported = scene.gateway.cli(&["rates", "import", file.to_str().expect("UTF-8")]).await;
    assert!(imported.status.success(), "{imported:?}");
    let priced = scene.gateway.cli(&["rates", "show", "gamma", "--json"]).await;
    assert!(priced.status.success(), "{priced:?}");
    let nobody = scene.gateway.cli(&["rates", "show", "nobody-knows-this-model"]).await;
    assert!(!nobody.status.success(), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_is_checked_and_shown_without_its_secrets() {
    let scene = Scene::new().await;
    let config = scene.gateway.config().to_str().expect("UTF-8").to_owned();
    let checked = scene.gateway.cli(&["config", "check", "--config", &config]).await;
    assert!(checked.status.success(), "{checked:?}");
    let shown = scene.gateway.cli(&["config", "show", "--config", &config]).await;
    assert!(
        shown.ok().contains("scripted") && !shown.stdout.contains(openclawmu_tests::setup::PROVIDER_KEY),
        "{shown:?}"
    );
    let bad = scene.gateway.dir().join("bad.toml");
    std::fs::write(&bad, "[edge]\nlistens = 1\n").expect("a file");
    let refused = scene.gateway.cli(&["config", "check", "--config", bad.to_str().expect("UTF-8")]).await;
    assert!(!refused.status.success() && refused.stderr.contains("listens"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_is_content_with_a_good_gateway() {
    let gateway = Gateway::start(Setup::bare()).await;
    let report = gateway.cli(&["doctor"]).await;
    assert!(report.status.success(), "{report:?}");
    assert!(!report.stdout.is_empty());
    let json = gateway.cli(&["doctor", "--json"]).await.json();
    assert!(json.is_object() || json.is_array(), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_gateway_the_cli_says_so_and_fails() {
    let mut gateway = Gateway::start(Setup::bare()).await;
    assert!(gateway.terminate().await.success());
    let said = gateway.cli(&["tenants", "list"]).await;
    assert!(!said.status.success());
    assert!(said.stderr.contains("serve") || said.stderr.contains("running"), "{said:?}");
    let bad = gateway.cli(&["tenants", "create", "Not A Valid Id!"]).await;
    assert!(!bad.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cli_shows_the_servers_refusal_as_one_message() {
    let scene = Scene::new().await;
    for arguments in [
        &["tenants", "create", "acme"][..],
        &["tenants", "info", "nobody"],
        &["tenants", "token", "revoke", "acme", "000000000000"],
        &["tenants", "create", "shop", "--quota.usd-per-day", "much"],
    ] {
        let refused = scene.gateway.cli(arguments).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(!refused.stderr.trim().is_empty() && !refused.stderr.contains("panicked"), "{refused:?}");
    }
}

/// Whatever prints much ends well when its reader has seen enough, as `| head` has
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_is_no_error() {
    let scene = Scene::new().await;
    let data = scene.gateway.data();
    for arguments in
        ["completions bash", "completions zsh", "man", "man tenants create", "openapi", "routes", "rates list"]
    {
        let script = format!("\"$0\" {arguments} --data \"$1\" | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}");
        let mut command = tokio::process::Command::new("bash");
        command.arg("-c").arg(script).arg(openclawmu_tests::gateway::binary()).arg(&data);
        let output = command.current_dir(scene.gateway.dir()).output().await.expect("bash");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments}: {} {said}", output.status);
    }
}

/// Where a place is needed and none is configured, the words are those of the command line
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_place_for_backups_is_told_with_its_flag() {
    let scene = Scene::new().await;
    for (arguments, flag) in [
        (&["tenants", "backup", "acme"][..], "--to"),
        (&["tenants", "backups", "acme"], "--from"),
        (&["backups", "create"], "--to"),
        (&["backups", "list"], "--from"),
        (&["backups", "verify"], "--from"),
        (&["drill"], "--from"),
    ] {
        let refused = scene.gateway.cli(arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.contains(flag) && refused.stderr.contains("backup"), "{refused:?}");
    }
}

/// Whoever asks for JSON gets its errors in JSON, too: the API's own, and the program's
#[tokio::test(flavor = "multi_thread")]
async fn errors_are_json_where_json_is_asked_for() {
    let scene = Scene::new().await;
    let error = async |arguments: &[&str], code: i32| {
        let done = scene.gateway.cli(arguments).await;
        assert_eq!((done.status.code(), done.stdout.as_str()), (Some(code), ""), "{done:?}");
        serde_json::from_str::<Value>(&done.stderr).expect("JSON")["error"].clone()
    };
    let gone = error(&["tenants", "info", "nobody", "--json"], 1).await;
    assert_eq!(
        (gone["code"].as_str(), gone["message"].as_str()),
        (Some("not_found"), Some("no such tenant")),
        "{gone}"
    );
    let taken = error(&["--json", "tenants", "create", "acme"], 1).await;
    assert!(taken["code"].is_string() && taken["message"].as_str().expect("words").contains("acme"), "{taken}");
    let nowhere = error(&["tenants", "list", "--json", "--url", "http://127.0.0.1:1"], 1).await;
    assert!(nowhere["message"].as_str().expect("words").contains("OPENCLAWMU_ADMIN_KEY"), "{nowhere}");
    let unread = error(&["config", "check", "--json", "--config", "/nowhere.toml"], 1).await;
    assert!(unread["message"].as_str().expect("words").contains("/nowhere.toml"), "{unread}");
    let usage = error(&["tenants", "frob", "--json"], 2).await;
    assert!(usage["code"] == "usage" && usage["message"].as_str().expect("words").contains("frob"), "{usage}");
    // For people it is text, as ever.
    let text = scene.gateway.cli(&["tenants", "info", "nobody"]).await;
    assert_eq!(text.stderr, "error: no such tenant\n");
}
