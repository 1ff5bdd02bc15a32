//! Secrets are shown once and written nowhere in the clear; without the pepper nothing starts.

use std::path::{Path, PathBuf};

use openclawmu_tests::client::chat;
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::token::Parts;
use openclawmu_tests::{Gateway, Scene, ledger};
use serde_json::json;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

fn holding(dir: &Path, needle: &str) -> Vec<PathBuf> {
    let needle = needle.as_bytes();
    files(dir)
        .into_iter()
        .filter(|path| {
            std::fs::read(path).expect("a readable file").windows(needle.len()).any(|window| window == needle)
        })
        .collect()
}

/// A-10, for what this part writes: database, journal, in-flight table, logs
#[tokio::test(flavor = "multi_thread")]
async fn no_file_and_no_log_holds_a_token_secret_or_a_provider_key() {
    let mut scene = Scene::new().await;
    let (id, minted) = scene.admin().mint(&scene.tenant.id, &json!({ "name": "second" })).await;
    assert_eq!(scene.client.chat(&chat("alpha", "a prompt nobody may keep", 4)).await.status, 200);
    assert_eq!(scene.client.with_token(&minted).chat(&chat("alpha", "hello", 4)).await.status, 200);
    let forged = Parts::of(&minted).with_other_secret();
    assert_eq!(scene.client.with_token(&forged.sealed()).get("/v1/quota").await.status, 401);
    let shown_key = scene.upstream.last().header("authorization").map(str::to_owned);
    assert_eq!(
        shown_key.as_deref(),
        Some(format!("Bearer {PROVIDER_KEY}").as_str()),
        "the upstream gets its own key, not the tenant's"
    );
    let config = scene.admin().get("/v1/config").await.to_string();
    assert!(!config.contains(PROVIDER_KEY) && !config.contains(scene.gateway.key()), "the config is shown redacted");
    let needles = [
        Parts::of(&scene.tenant.token).secret,
        Parts::of(&minted).secret,
        forged.secret.clone(),
        PROVIDER_KEY.to_owned(),
        "a prompt nobody may keep".to_owned(),
    ];
    for live in [true, false] {
        for needle in &needles {
            assert_eq!(holding(scene.gateway.dir(), needle), Vec::<PathBuf>::new(), "gateway running: {live}");
        }
        if live {
            assert!(scene.gateway.terminate().await.success());
        }
    }
    assert!(!holding(scene.gateway.dir(), &id).is_empty(), "the search finds what is there: the token's public id");
}

/// A-10, core: a process that dies by a signal leaves none of its memory behind, whatever the shell allows
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_killed_by_a_fault_leaves_no_core() {
    let mut scene = Scene::new().await;
    scene.gateway.leave_unsettled();
    scene.gateway.kill_9();
    let serve = scene.gateway.command();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(serve.get_program()).args(serve.get_args());
    shell.current_dir(scene.gateway.dir()).envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let child = shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().expect("it runs");
    let pid = child.id();
    scene.gateway.adopt(child);
    openclawmu_tests::wait::until("it to serve", || async {
        openclawmu_tests::raw::blocking_get(scene.gateway.edge(), "/readyz", "").filter(|(status, _)| *status == 200)
    })
    .await;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a live process");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4], "0", "{core}");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let words: Vec<&str> = files.split_whitespace().collect();
    assert_eq!(words[3], words[4], "as many files as the system allows: {files}");
    assert_eq!(scene.client.chat(&chat("alpha", "hello", 4)).await.status, 200);
    scene.gateway.signal(rustix::process::Signal::ABORT);
    assert!(!scene.gateway.ended().await.success());
    for needle in [PROVIDER_KEY, &Parts::of(&scene.tenant.token).secret] {
        assert_eq!(holding(scene.gateway.dir(), needle), Vec::<PathBuf>::new());
    }
}

/// A-11, missing
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pepper_beside_existing_tokens_refuses_to_start() {
    let mut scene = Scene::new().await;
    assert!(scene.gateway.terminate().await.success());
    let pepper = scene.gateway.data().join("pepper.key");
    let kept = std::fs::read(&pepper).expect("the pepper");
    std::fs::remove_file(&pepper).expect("it goes");
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(!refusal.status.success(), "{refusal:?}");
    assert!(refusal.stderr.contains("pepper.key"), "the message names the file: {}", refusal.stderr);
    assert!(!pepper.exists(), "and makes no new one in its place");
    std::fs::write(&pepper, kept).expect("it comes back");
    set_private(&pepper);
    scene.restarted().await;
    assert_eq!(scene.client.get("/v1/quota").await.status, 200);
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// A-11, wrong: all 401 and nothing written, or no start at all
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pepper_lets_nobody_in_and_writes_nothing() {
    let mut scene = Scene::new().await;
    assert!(scene.gateway.terminate().await.success());
    let pepper = scene.gateway.data().join("pepper.key");
    let kept = std::fs::read(&pepper).expect("the pepper");
    let other: Vec<u8> = kept
        .iter()
        .map(|byte| match byte {
            b'0'..=b'8' => byte + 1,
            b'9' => b'0',
            b'a'..=b'e' => byte + 1,
            b'f' => b'a',
            byte if byte.is_ascii_whitespace() => *byte,
            byte => byte ^ 1,
        })
        .collect();
    std::fs::write(&pepper, other).expect("another pepper");
    scene.restarted().await;
    let tokens = |data: &Path| {
        ledger::dump(data, &[])
            .lines()
            .filter(|line| line.starts_with("tokens|") || line.starts_with("ledger|"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let before = tokens(&scene.gateway.data());
    for _ in 0..3 {
        scene.client.chat(&chat("alpha", "hello", 4)).await.refused(401, "invalid_request_error", "invalid_api_key");
    }
    assert_eq!(tokens(&scene.gateway.data()), before);
    assert_eq!(scene.upstream.calls(), 0);
    assert!(scene.gateway.terminate().await.success());
    std::fs::write(&pepper, kept).expect("the right one");
    scene.restarted().await;
    assert_eq!(scene.client.get("/v1/quota").await.status, 200);
}

/// contract.md, "On disk"
#[tokio::test(flavor = "multi_thread")]
async fn key_files_and_the_admin_socket_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new().await;
    for name in ["admin.key", "audit.key", "audit/audit.jsonl", "pepper.key", "admin.sock"] {
        let mode = std::fs::metadata(scene.gateway.data().join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let dir = std::fs::metadata(scene.gateway.data()).expect("the data directory");
    assert_eq!(dir.permissions().mode() & 0o077, 0, "the data directory is nobody else's to enter");
}
