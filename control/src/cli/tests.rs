//! The commands as a person types them, against a real admin API.

use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::admin::tests::scene::{HERE, KEY, Scene};
use crate::admin::tests::served::Served;
use crate::cli::client::Client;
use crate::cli::command::execute;
use crate::cli::{AdminCommand, Connection, TenantCommand, TokenCommand};

/// A binary that has these commands beside its own.
#[derive(Debug, Parser)]
#[command(name = "openclawmu")]
struct Binary {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    #[command(flatten)]
    Admin(AdminCommand),
    Serve {
        #[arg(long)]
        edge: Option<String>,
    },
}

fn parse(line: &str) -> Result<(AdminCommand, Connection), clap::Error> {
    let binary = Binary::try_parse_from(std::iter::once("openclawmu").chain(line.split_whitespace()))?;
    match binary.command {
        Command::Admin(command) => Ok((command, binary.connection)),
        Command::Serve { .. } => panic!("not an admin command: {line:?}"),
    }
}

async fn said(client: &Client, line: &str) -> String {
    let (command, connection) = parse(line).unwrap();
    execute(&command, client, connection.json).await.unwrap_or_else(|err| panic!("{line:?}: {err}"))
}

async fn said_json(client: &Client, line: &str) -> Value {
    serde_json::from_str(&said(client, &format!("{line} --json")).await).unwrap()
}

async fn refused(client: &Client, line: &str) -> String {
    let (command, connection) = parse(line).unwrap();
    execute(&command, client, connection.json).await.unwrap_err().to_string()
}

fn client_of(sock: &Path) -> Client {
    // Another test of this process may have been quicker.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::of_socket(sock).unwrap()
}

#[test]
fn the_commands_parse_as_the_contract_writes_them() {
    let (command, _) =
        parse("tenants create acme --name Acme --quota.usd-per-day 50 --quota.tokens-per-day 5_000_000").unwrap();
    let AdminCommand::Tenants(TenantCommand::Create { id, flags }) = command else { panic!() };
    assert_eq!(id.unwrap().as_str(), "acme");
    assert_eq!(
        Value::from(flags.to_new()),
        json!({"name": "Acme", "quota": {"usd_per_day": "50", "tokens_per_day": 5_000_000}})
    );
    let (command, _) =
        parse("tenants update acme --quota.usd-per-day none --models none --metadata a=1 --metadata b").unwrap();
    let AdminCommand::Tenants(TenantCommand::Update { flags, .. }) = command else { panic!() };
    assert_eq!(
        Value::from(flags.to_patch()),
        json!({"quota": {"usd_per_day": null}, "models": null, "metadata": {"a": "1", "b": null}})
    );
    assert_eq!(Value::from(flags.to_new()), json!({"quota": {}, "metadata": {"a": "1"}}));
    let (command, connection) = parse("--json tenants token rotate acme --grace 24h --data /x").unwrap();
    let AdminCommand::Tenants(TenantCommand::Token(TokenCommand::Rotate { token: None, grace: Some(86_400), .. })) =
        command
    else {
        panic!("{command:?}")
    };
    assert!(connection.json && connection.data_dir() == Path::new("/x"));
}

#[test]
fn every_command_of_the_contract_is_there() {
    for line in [
        "tenants list",
        "tenants info acme --json",
        "tenants delete acme --confirm",
        "tenants token list acme",
        "tenants token create acme --scopes inference,usage --expires-in 90d --allowed-ips 10.0.0.0/8",
        "tenants token rotate acme 0123456789AB",
        "tenants token revoke acme 0123456789AB",
        "tenants client-secret acme",
        "tenants client-secret acme --ttl 10m --model gpt-4o --model claude-* --max-cost-usd 0.50 --max-requests 20 --origin https://app.example.com --user ann --json",
        "billing report acme --period 2026-11 --csv",
        "billing report acme --period 2026-11 --json",
        "billing summary",
        "billing report --period 2026-11 --focus",
        "billing report acme --csv --markup --group-by day,user,tag",
        "billing rollup --tenant acme --from 2026-11-01 --to 2026-12-01 --format json",
        "billing rollup --tenant acme --format csv",
        "billing requests acme --model gpt-4o --status 200 --limit 10 --csv",
        "billing credit acme 5.00 --reason broken",
        "billing resolve",
        "billing resolve --tenant acme --list",
        "billing resolve --all --release --reason refunded",
        "billing resolve evt_0000010000000001 --post --reason invoiced",
        "billing reconcile --tenant acme --json",
        "billing push stripe --dry-run --tenant acme --json",
        "billing push stripe --include-today --uncertain resend",
        "alerts test",
        "alerts list --json",
        "rates list",
        "rates import conf/rates.json",
        "rates import map.json --dry-run --effective-from 2026-12-01 --replace-overrides --only gpt-5*,claude-opus-5 --json",
        "rates put conf/rates.json",
        "rates history --json",
        "rates show gpt-4o --at 2026-11-01T00:00:00Z",
        "rates show gpt-4o --url http://127.0.0.1:8081",
    ] {
        assert!(parse(line).is_ok(), "{line:?}");
    }
}

#[test]
fn every_limit_of_the_quota_has_its_flag() {
    let limits = [
        ("usd-per-day", "1"),
        ("usd-per-month", "1"),
        ("tokens-per-day", "1"),
        ("requests-per-minute", "1"),
        ("tokens-per-minute", "1"),
        ("concurrent-requests", "1"),
        ("sandbox-seconds-per-day", "1"),
        ("storage-bytes", "1"),
        ("on-tight-budget", "clamp"),
    ];
    let flags: Vec<String> = limits.iter().map(|(name, value)| format!("--quota.{name}={value}")).collect();
    let line = format!("tenants create {}", flags.join(" "));
    let AdminCommand::Tenants(TenantCommand::Create { flags, .. }) = parse(&line).unwrap().0 else { panic!() };
    let quota: openclawmu_store::Quota = serde_json::from_value(flags.to_new()["quota"].clone()).unwrap();
    let back = serde_json::to_value(quota).unwrap();
    assert_eq!(back.as_object().unwrap().len(), limits.len(), "{back}");
}

#[test]
fn a_mistake_is_a_usage_error() {
    for line in [
        "tenants create Not_Valid!",
        "tenants create x --quota.usd-per-day much",
        "tenants create x --quota.tokens-per-day 1.5",
        "tenants delete acme",
        "tenants token revoke acme short",
        "tenants token rotate acme --grace soon",
        "billing report acme --period November",
        "billing report acme --csv --json",
        "billing report acme --markup",
        "billing credit acme 0 --reason x",
        "billing credit acme -5 --reason x",
        "billing credit acme 5",
        "billing resolve --all --release",
        "billing resolve --all --release --post --reason x",
        "billing resolve evt_1 --release --reason x",
        "billing rollup --from 2026-11-01",
        "billing push stripe --uncertain maybe",
        "billing push stripe --uncertain sent --dry-run",
        "rates show x --at now",
        "rates import",
        "rates import x --effective-from soon",
    ] {
        let err = parse(line).unwrap_err();
        assert!(!matches!(err.kind(), ErrorKind::DisplayHelp), "{line:?}");
        assert_eq!(err.exit_code(), 2, "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_life_over_the_socket() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let made =
        said(&client, "tenants create shop --name Shop --quota.usd-per-day 50 --quota.tokens-per-day 5_000_000").await;
    let token = made.split_whitespace().find(|word| word.starts_with("tk_shop_")).expect("a token").to_owned();
    assert!(made.contains("Shop") && made.contains("5,000,000") && made.contains("shown this once"), "{made}");
    assert!(scene.store.authenticate(&token, HERE).is_ok());
    assert_eq!(said_json(&client, "tenants list").await["data"].as_array().unwrap().len(), 2);
    let listed = said(&client, "tenants list").await;
    assert!(listed.starts_with("TENANT") && listed.contains("shop    Shop"), "{listed}");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_a_deletion_over_the_socket() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let made = said_json(&client, "tenants create shop --quota.usd-per-day 50 --quota.tokens-per-day 5_000_000").await;
    let token = made["token"]["value"].as_str().unwrap().to_owned();
    let updated =
        said_json(&client, "tenants update shop --quota.usd-per-day none --quota.requests-per-minute 60").await;
    assert_eq!(
        updated["quota"],
        json!({"tokens_per_day": 5_000_000, "requests_per_minute": 60, "on_tight_budget": "reject"})
    );
    let info = said(&client, "tenants info shop").await;
    assert!(
        info.contains("usd_per_month") && info.contains("2026-12-01T00:00:00.000Z") && !info.contains(&token),
        "{info}"
    );
    assert!(refused(&client, "tenants update shop").await.contains("nothing to change"));
    assert!(refused(&client, "tenants create shop").await.contains("taken"));
    assert!(refused(&client, "tenants info nobody").await.contains("no such tenant"));
    assert!(said(&client, "tenants delete shop --confirm").await.contains("shop is deleted"));
    assert!(scene.store.authenticate(&token, HERE).is_err());
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_without_a_token_needs_exactly_one_live_token() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let rotated = said_json(&client, "tenants token rotate acme").await;
    assert_eq!(rotated["rotated_from"], scene.token_id());
    assert!(scene.store.authenticate(&scene.token, HERE).is_err(), "without a grace the old one is out");
    let made = said_json(&client, "tenants token create acme --name second --scopes usage").await;
    assert_eq!((&made["name"], &made["scopes"]), (&json!("second"), &json!(["usage"])));
    let several = refused(&client, "tenants token rotate acme").await;
    let (one, two) = (rotated["id"].as_str().unwrap(), made["id"].as_str().unwrap());
    assert!(several.contains(one) && several.contains(two), "{several}");
    assert!(said(&client, &format!("tenants token revoke acme {two}")).await.contains("revoked"));
    assert!(said(&client, "tenants token rotate acme --grace 24h").await.contains("tk_acme_"));
    let listed = said(&client, "tenants token list acme").await;
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(!listed.contains("tk_"), "{listed}");
    assert!(said(&client, &format!("tenants token revoke acme {one}")).await.contains("revoked"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn billing_and_rates_over_the_socket() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let file = scene.dir.path().join("rates.json");
    std::fs::write(
        &file,
        json!({"effective_from": "2026-01-01T00:00:00Z", "models": {"m": {"input": "2", "output": "4.125"}}})
            .to_string(),
    )
    .unwrap();
    assert!(said(&client, &format!("rates put {}", file.display())).await.starts_with("version 1 with 1 models"));
    assert_eq!(
        said(&client, "rates list").await,
        "MODEL  INPUT  OUTPUT  CACHE READ  CACHE WRITE  VERSION  SOURCE    ALSO PRICED\nm       2.00   4.125           -            -        1  operator\n"
    );
    assert!(said(&client, "rates show m").await.contains("4.125"));
    assert!(refused(&client, "rates show nobody").await.contains("hint: no rate card"));
    let cost = scene.bill("m", 1).await.to_string();
    let csv = said(&client, "billing report acme --period 2026-11 --csv").await;
    assert!(csv.starts_with("period_start,") && csv.trim_end().ends_with(&cost), "{csv}");
    let report = said(&client, "billing report acme --period 2026-11").await;
    assert!(report.contains("1,000") && report.ends_with(&format!("2026-11: {cost} USD in 1 requests\n")), "{report}");
    let summary = said(&client, "billing summary --period 2026-11").await;
    assert!(summary.contains("acme    Acme") && summary.contains(&cost), "{summary}");
    assert_eq!(said_json(&client, "billing report --period 2026-11").await["total"]["cost_usd"], cost);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_price_map_is_shown_as_a_difference_and_then_imported() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let own = scene.dir.path().join("own.json");
    std::fs::write(&own, r#"{"models":{"gpt-5":{"input":"9","output":"9"}}}"#).unwrap();
    said(&client, &format!("rates put {}", own.display())).await;
    let map = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/prices/litellm.json");
    let dry = said(&client, &format!("rates import {map} --dry-run")).await;
    for part in
        ["gpt-4o ", "gpt-5  gpt-5", "KEPT", "SKIPPED", "0.0002833333333333333", "a dry run: nothing was changed"]
    {
        assert!(dry.contains(part), "{part}: {dry}");
    }
    assert!(refused(&client, "rates show gpt-4o").await.contains("no rate card"));
    let done = said(&client, &format!("rates import {map}")).await;
    assert!(done.contains("\nversion 2 with ") && done.contains("0 changed"), "{done}");
    let again = said(&client, &format!("rates import {map}")).await;
    assert!(again.ends_with("nothing to change: no version was added\n"), "{again}");
    assert_eq!(said_json(&client, "rates show gpt-5").await["price"]["input"], "9.000000000");
    let shown = said(&client, "rates show gpt-4o").await;
    for part in ["source               import", "priority input       4.25", "batch cache_read     1.25"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let changed = said(&client, &format!("rates import {map} --replace-overrides --only gpt-5")).await;
    assert!(changed.contains("gpt-5    input                9.00     1.25"), "{changed}");
    let history = said(&client, "rates history").await;
    let sources: Vec<&str> = history.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(sources, ["operator", "import", "import"]);
    let nothing = refused(&client, &format!("rates import {map} --only nobody")).await;
    assert!(nothing.contains("hint: `only` holds names"), "{nothing}");
    std::fs::write(&own, "not json").unwrap();
    assert!(refused(&client, &format!("rates import {}", own.display())).await.contains("is not JSON"));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_needs_the_key_and_a_missing_gateway_is_said_plainly() {
    let scene = Scene::new().await;
    let served = Served::start(&scene).await;
    drop(client_of(&served.sock));
    let url = format!("http://{}", served.address);
    let good = Client::of_url(&url, SecretString::from(KEY)).unwrap();
    assert_eq!(said_json(&good, "tenants info acme").await["name"], "Acme");
    let bad = Client::of_url(&format!("{url}/"), SecretString::from("wrong")).unwrap();
    let said = refused(&bad, "tenants list").await;
    assert!(said.contains("no valid admin key") && said.contains("hint:"), "{said}");
    let sock = served.sock.clone();
    served.stop().await;
    let gone = refused(&client_of(&sock), "tenants list").await;
    assert!(gone.contains("admin.sock") && gone.contains("openclawmu serve") && gone.contains("--data"), "{gone}");
    for wrong in ["127.0.0.1:8081", "ftp://x", "", "unix:/x"] {
        assert!(Client::of_url(wrong, SecretString::from(KEY)).is_err(), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_holds_and_the_books_over_the_socket() {
    let scene = Scene::new().await.with_a_hold().await;
    scene.bill("m", 1).await;
    let served = Served::start(&scene).await;
    let client = client_of(&served.sock);
    let held = said(&client, "billing resolve").await;
    let event = held.split_whitespace().find(|word| word.starts_with("evt_")).expect("an event").to_owned();
    assert!(held.contains("0.002000000") && held.contains("acme"), "{held}");
    assert_eq!(said_json(&client, "billing resolve --list --tenant acme").await["data"][0]["id"], event);
    assert!(refused(&client, "billing resolve --release --reason x").await.contains("--all"));
    let unknown = "billing resolve evt_0000000000000001 --release --reason x";
    assert!(refused(&client, unknown).await.contains("nothing is held for evt_0000000000000001"));
    assert_eq!(
        said(&client, &format!("billing resolve {event} --post --reason invoiced")).await,
        format!("{event}: 0.002000000 USD released, 0.002000000 USD posted\n")
    );
    assert_eq!(said(&client, "billing resolve").await, "nothing is held\n");
    let given = said(&client, "billing credit acme 0.001 --reason sorry").await;
    assert!(given.starts_with("0.001000000 USD were given back to acme on 2026-11-22 as evt_"), "{given}");

    let rollup = said(&client, "billing rollup --tenant acme").await;
    assert!(rollup.contains("2026-11-22") && rollup.contains("0.007000000 USD in 2 requests"), "{rollup}");
    let json = said(&client, "billing rollup --tenant acme --from 2026-11-22 --to 2026-11-23 --format json").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["rows"][0]["day"], &json["rows"][0]["cost_usd"]), (&json!("2026-11-22"), &json!("0.007000000")));
    let csv = said(&client, "billing rollup --tenant acme --format csv").await;
    assert!(csv.lines().nth(1).unwrap().starts_with("2026-11-22,2026-11-23,acme,"), "{csv}");
    assert!(said(&client, "billing report acme --period 2026-11 --focus").await.starts_with("BilledCost,"));
    let log = said(&client, "billing requests acme --outcome credit").await;
    assert!(log.contains("credit") && log.contains("-0.001000000"), "{log}");
    assert_eq!(said(&client, "billing requests acme --csv").await.lines().count(), 6);
    assert!(said(&client, "billing reconcile").await.contains("the books agree\n"));
    assert_eq!(said_json(&client, "billing reconcile").await["difference_count"], 0);
    served.stop().await;
}
