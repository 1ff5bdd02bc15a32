//! One tenant's backup and restore, in a directory.

use std::fs;
use std::path::{Path, PathBuf};

use http::Method;
use openclawmu_tests::bucket::files;
use openclawmu_tests::client::chat;
use openclawmu_tests::{Gateway, Scene, Setup, ledger};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Files of a tenant, as its sandbox would have made them.
fn write_files(gateway: &Gateway, tenant: &str) -> PathBuf {
    let dir = gateway.data().join("tenants").join(tenant);
    fs::create_dir_all(dir.join("workspace/deep/er")).expect("a directory");
    fs::create_dir_all(dir.join("agents/main")).expect("a directory");
    fs::write(dir.join("agents/main/MEMORY.md"), "remember the canary").expect("a file");
    fs::write(dir.join("workspace/deep/er/data.bin"), vec![7; 100_000]).expect("a file");
    fs::write(dir.join("workspace/odd\nname"), "odd").expect("a file");
    dir
}

/// Every file below a directory, with what is in it.
fn content(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let of = |path: PathBuf| {
        let name = path.strip_prefix(dir).expect("below").to_owned();
        (name, fs::read(path).expect("a file"))
    };
    files(dir).into_iter().map(of).collect()
}

async fn usage(gateway: &Gateway, period: &str) -> String {
    let path = format!("/v1/reports/usage?period={period}&format=csv&tenant=acme");
    let reply = gateway.admin().send(Method::GET, &path).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

async fn backed_up(gateway: &Gateway, to: &Path) -> Value {
    let to = to.to_str().expect("UTF-8");
    gateway.cli(&["tenants", "backup", "acme", "--to", to, "--json"]).await.json()["backup"].clone()
}

/// B-06: a tenant's backup goes into an empty gateway: the same usage, the same files, and nobody else. It opens without the
/// gateway, and no key and no secret is in it.
#[tokio::test(flavor = "multi_thread")]
async fn b_06_a_tenants_backup_makes_it_whole_in_an_empty_gateway_and_holds_nobody_else_and_no_secret() {
    let (scene, place) = (Scene::new().await, TempDir::new().expect("a temp dir"));
    scene.admin().tenant("other", json!({})).await;
    let dir = write_files(&scene.gateway, "acme");
    write_files(&scene.gateway, "other");
    for n in 0..5 {
        let mut body = chat("odd", "hello", 10);
        body["user"] = json!(format!("user-{}", n % 2));
        scene.client.chat(&body).await.ok();
    }
    scene.rows_once(5).await;
    let made = backed_up(&scene.gateway, place.path()).await;
    assert_eq!((made["id"].as_str(), made["ledger_rows"].as_u64()), (Some("000001"), Some(5)), "{made}");

    let readme = fs::read_to_string(place.path().join("tenants/acme/README.txt")).expect("a file for people");
    assert!(readme.contains("zstd -dc"), "{readme}");
    assert!(!place.path().join("tenants/other").exists() && !place.path().join("gateway").exists());
    let (mut text, mut archives) = (Vec::new(), 0);
    for path in files(place.path()) {
        let bytes = fs::read(&path).expect("a file");
        let name = path.to_string_lossy().into_owned();
        archives += usize::from(name.ends_with(".tar.zst"));
        text.extend(if name.ends_with(".zst") { zstd::decode_all(bytes.as_slice()).expect("zstd") } else { bytes });
    }
    assert!(archives > 0);
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("remember the canary") && text.contains("\"tenant_id\":\"acme\""));
    let secret = scene.tenant.token.rsplit('_').next().expect("a secret");
    let key_files = ["pepper.key", "master.key", "admin.key"].map(|name| scene.gateway.data().join(name));
    let keys =
        key_files.map(|path| fs::read_to_string(path).expect("a key").split_whitespace().last().map(str::to_owned));
    for hidden in keys.into_iter().flatten().chain([secret[12..55].to_owned()]) {
        assert!(!text.contains(&hidden), "a secret is in the backup");
    }

    let empty = Gateway::start(Setup::bare()).await;
    let from = place.path().join("tenants/acme");
    let restored = empty.cli(&["tenants", "restore", "--from", from.to_str().expect("UTF-8"), "--json"]).await.json();
    let day = scene.client.get("/v1/usage").await.ok()["rows"][0]["day"].as_str().expect("a day").to_owned();
    assert_eq!(usage(&empty, &day[..7]).await, usage(&scene.gateway, &day[..7]).await);
    assert_eq!(content(&empty.data().join("tenants/acme")), content(&dir));
    assert_eq!(empty.admin().get("/v1/tenants").await["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(restored["report"]["tokens_not_usable"], json!([scene.tenant.token_id]), "another pepper");
    assert_eq!(empty.client(&scene.tenant.token).get("/v1/usage").await.status, 401);
    let fresh = restored["token"]["value"].as_str().expect("a fresh token");
    assert_eq!(empty.client(fresh).get("/v1/usage").await.status, 200);
    assert_eq!(empty.admin().budget("acme", "usd_per_day").await, scene.settled().await);
}

/// B-02: one byte changed in any object refuses the restore, and the tenant is as it was; unchanged, it restores.
#[tokio::test(flavor = "multi_thread")]
async fn b_02_a_byte_changed_in_any_object_refuses_the_restore_and_nothing_is_touched() {
    let (scene, place) = (Scene::new().await, TempDir::new().expect("a temp dir"));
    let dir = write_files(&scene.gateway, "acme");
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(1).await;
    let made = backed_up(&scene.gateway, place.path()).await;
    fs::write(dir.join("workspace/since"), "newer").expect("a file");
    let before = content(&dir);
    let order = json!({"from": made["url"], "force": true});
    let objects: Vec<PathBuf> =
        files(place.path()).into_iter().filter(|path| path.to_string_lossy().contains("/objects/")).collect();
    assert!(objects.len() >= 4, "{objects:?}");
    for object in &objects {
        let good = fs::read(object).expect("an object");
        let mut bad = good.clone();
        *bad.last_mut().expect("a byte") ^= 1;
        fs::write(object, bad).expect("a change");
        let refused = scene.admin().post("/v1/restore", &order).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (422, &json!("backup_damaged")), "{object:?}");
        fs::remove_file(object).expect("a change");
        let refused = scene.admin().post("/v1/restore", &order).await;
        assert_eq!(refused.status, 422, "{object:?}");
        fs::write(object, good).expect("a change");
        assert_eq!(content(&dir), before, "{object:?}");
    }
    // The manifest too, which nothing else vouches for: each line of it in turn.
    let manifest = place.path().join("tenants/acme/backups/000001/manifest.json");
    let good = fs::read(&manifest).expect("a manifest");
    let ends = good.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    for at in ends.map(|end| end.saturating_sub(3)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&manifest, bad).expect("a change");
        let refused = scene.admin().post("/v1/restore", &order).await;
        assert!(matches!(refused.status, 404 | 409 | 422), "byte {at}: {} {}", refused.status, refused.text());
        assert_eq!(content(&dir), before, "byte {at}");
    }
    fs::write(&manifest, good).expect("a change");
    let restored = scene.admin().post("/v1/restore", &order).await;
    assert_eq!(restored.status, 201, "{}", restored.text());
    assert!(!dir.join("workspace/since").exists());
    assert_eq!(content(&dir).len(), before.len() - 1);
    let left: Vec<_> = fs::read_dir(scene.gateway.data().join("tenants")).expect("a directory").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// B-09: an old backup brings back no revoked token and no spent money in silence; `--as` makes a copy with fresh tokens.
#[tokio::test(flavor = "multi_thread")]
async fn b_09_what_was_revoked_and_spent_since_stays_so_and_is_told() {
    let (scene, place) = (Scene::new().await, TempDir::new().expect("a temp dir"));
    let dir = write_files(&scene.gateway, "acme");
    let made = backed_up(&scene.gateway, place.path()).await;
    let url = made["url"].as_str().expect("a URL");
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    let (newer, newer_value) = scene.admin().mint("acme", &json!({})).await;
    scene.admin().revoke("acme", &scene.tenant.token_id).await;
    scene.rows_once(1).await;
    let spent = scene.settled().await;
    let refused = scene.gateway.cli(&["tenants", "restore", "--from", url]).await;
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    let report = scene.gateway.cli(&["tenants", "restore", "--from", url, "--force", "--json"]).await.json();
    assert_eq!(report["report"]["tokens_still_revoked"], json!([scene.tenant.token_id]), "{report}");
    assert_eq!(report["report"]["tokens_made_since"], json!([newer]));
    assert_eq!(report["report"]["usage_since"]["rows"], 1);
    assert_eq!(scene.settled().await, spent);
    assert_eq!(scene.client.get("/v1/usage").await.status, 401);
    assert_eq!(scene.gateway.client(&newer_value).get("/v1/usage").await.status, 200);
    let said = scene.gateway.cli(&["tenants", "restore", "--from", url, "--force"]).await;
    assert!(said.ok().contains("it stays spent") && said.ok().contains(&scene.tenant.token_id), "{said:?}");

    let copy = scene.gateway.cli(&["tenants", "restore", "--from", url, "--as", "twin", "--json"]).await.json();
    let value = copy["token"]["value"].as_str().expect("a fresh token");
    assert!(value.starts_with("tk_twin_"), "a token of its own");
    assert_eq!(scene.gateway.client(value).chat(&chat("odd", "hello", 10)).await.status, 200);
    assert_eq!(content(&scene.gateway.data().join("tenants/twin")), content(&dir));
    assert_eq!(scene.rows().len(), 1, "the original's usage is its own");
    let copied = || ledger::rows(&scene.gateway.data(), "twin").len() == 1;
    openclawmu_tests::wait::until_true("the copy's own usage", copied).await;
    let again = scene.gateway.cli(&["tenants", "restore", "--from", url, "--as", "twin", "--force"]).await;
    assert!(again.stderr.contains("taken"), "{again:?}");
}

/// B-05: sealed provider keys don't open elsewhere, and the restore says so instead of losing them.
#[tokio::test(flavor = "multi_thread")]
async fn b_05_provider_keys_of_another_master_key_refuse_the_restore_clearly() {
    let (scene, place) = (Scene::new().await, TempDir::new().expect("a temp dir"));
    let put = scene
        .admin()
        .send_json(Method::PUT, "/v1/tenants/acme/provider_keys/scripted", &json!({"api_key": "sk-own"}))
        .await;
    assert_eq!(put.status, 200, "{}", put.text());
    let made = backed_up(&scene.gateway, place.path()).await;
    let order = json!({"from": made["url"]});
    let elsewhere = Gateway::start(Setup::bare()).await;
    let refused = elsewhere.admin().post("/v1/restore", &order).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &json!("backup_key")));
    assert!(refused.text().contains("master.key"), "{}", refused.text());
    assert_eq!(elsewhere.admin().get("/v1/tenants").await["data"], json!([]));
    let here = scene.admin().post("/v1/restore", &json!({"from": made["url"], "as": "twin"})).await;
    assert_eq!((here.status, &here.json()["report"]["provider_keys"]), (201, &json!(["scripted"])));
}

/// P-06: an archive that somebody with access to the place has put there, with the right hash in the manifest, is refused.
#[tokio::test(flavor = "multi_thread")]
async fn p_06_a_hostile_archive_in_the_place_is_refused_and_the_old_directory_untouched() {
    let (scene, place) = (Scene::new().await, TempDir::new().expect("a temp dir"));
    let dir = write_files(&scene.gateway, "acme");
    let made = backed_up(&scene.gateway, place.path()).await;
    let before = content(&dir);
    let bad = TempDir::new().expect("a temp dir");
    std::os::unix::fs::symlink("/etc", bad.path().join("link")).expect("a link");
    let tar = std::process::Command::new("tar").arg("-cC").arg(bad.path()).arg("link").output().expect("tar runs");
    let packed = zstd::encode_all(tar.stdout.as_slice(), 3).expect("zstd");
    let sha256 = openclawmu_tests::bucket::sha256(&packed);
    let manifest = place.path().join("tenants/acme/backups/000001/manifest.json");
    let mut text: Value = serde_json::from_slice(&fs::read(&manifest).expect("a manifest")).expect("JSON");
    let key = format!("tenants/acme/objects/{sha256}.tar.zst");
    fs::write(place.path().join(&key), &packed).expect("an object");
    text["tenants"][0]["files"]["parts"] = json!([{
        "object": {"key": key, "sha256": sha256, "bytes": packed.len(), "plain_bytes": tar.stdout.len()},
        "entries": 1, "file_bytes": 0, "case_twins": 0
    }]);
    // Whoever can write here can say of the first form, which had no digest.
    text["form"] = json!(1);
    text.as_object_mut().expect("an object").remove("digest");
    fs::write(&manifest, text.to_string()).expect("a manifest");
    let refused = scene.admin().post("/v1/restore", &json!({"from": made["url"], "force": true})).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (422, &json!("backup_refused")),
        "{}",
        refused.text()
    );
    assert_eq!(content(&dir), before);
    assert_eq!(scene.client.chat(&chat("odd", "hello", 10)).await.status, 200);
}
