//! `conf/airgapped.toml`: only the hosts that it lists are contacted.

use std::path::Path;
use std::process::Stdio;

use openclawmu_tests::gateway::binary;
use serde_json::{Value, json};
use tempfile::TempDir;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

/// Runs a gateway in a network in which every address is recorded; what it did there.
async fn recorded(config: &Path, model: &str) -> Value {
    let directory = TempDir::new().expect("a temp dir");
    let script = repository().join("tests/network/airgapped.py");
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "python3"]).arg(script).arg(binary()).arg(config);
    command.arg(directory.path()).arg(model).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(120), command.output())
        .await
        .expect("the script ends")
        .expect("unshare runs: install util-linux, iproute2 and python3, and allow user namespaces");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    serde_json::from_str(out.trim()).unwrap_or_else(|error| panic!("{error}: {out}\n{err}"))
}

const OWN: [(&str, u16); 3] = [("127.0.0.1", 53), ("127.0.0.1", 8080), ("127.0.0.1", 8081)];

/// dialects.md: only listed upstream hosts are ever contacted, nothing is fetched at start, keys in the environment add nothing
#[tokio::test(flavor = "multi_thread")]
async fn the_airgapped_profile_contacts_its_own_server_and_nothing_else() {
    let seen = recorded(&repository().join("conf/airgapped.toml"), "gpt-4o-mini").await;
    assert_eq!((&seen["status"], &seen["code"]), (&json!(200), &json!(0)), "{seen}");
    assert_eq!(seen["answer"]["choices"][0]["message"]["content"], "from inside");
    assert_eq!(seen["names"], json!(["llm.internal"]));
    let called: Vec<&Value> = seen["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|call| !OWN.iter().any(|(host, port)| **call == json!([host, port])))
        .collect();
    assert_eq!(called, [&json!(["127.0.0.9", 8000])], "{seen}");
}

/// The recorder records: without the list a key in the environment is an upstream, and its name is looked up
#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_a_key_in_the_environment_is_an_upstream() {
    let directory = TempDir::new().expect("a temp dir");
    let config = directory.path().join("openclawmu.toml");
    std::fs::write(&config, "").expect("a writable temp dir");
    let seen = recorded(&config, "gpt-4o-mini").await;
    assert_eq!(seen["answer"]["error"]["code"], "upstream_unreachable", "{seen}");
    assert!(seen["names"].as_array().expect("a list").contains(&json!("api.openai.com")), "{seen}");
}

/// Whatever else is configured refuses to start, and says where
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_listed_refuses_to_start() {
    let outbound = "[outbound]\nallowed_hosts = [\"llm.internal:8000\"]\n";
    for (line, key) in [
        (
            "[[upstream]]\nname = \"openai\"\nkind = \"openai\"\nbase_url = \"https://api.openai.com/v1\"\n",
            "upstream.openai.base_url",
        ),
        (
            "[[upstream]]\nname = \"near\"\nkind = \"openai\"\nbase_url = \"http://llm.internal:8001/v1\"\n",
            "upstream.near.base_url",
        ),
        ("[[upstream]]\nname = \"claude\"\nkind = \"anthropic\"\n", "upstream.claude.base_url"),
        (
            "[alerts]\nwebhook_url = \"https://hooks.example.com/x\"\nwebhook_secret = \"env:SECRET\"\n",
            "alerts.webhook_url",
        ),
    ] {
        let directory = TempDir::new().expect("a temp dir");
        let config = directory.path().join("openclawmu.toml");
        std::fs::write(&config, format!("{outbound}{line}")).expect("a writable temp dir");
        let mut command = tokio::process::Command::new(binary());
        command.args(["config", "check", "--config"]).arg(&config).env("SECRET", "s".repeat(32));
        let output = command.output().await.expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{line}");
        assert!(said.contains(key) && said.contains("outbound.allowed_hosts"), "{said}");
    }
}
