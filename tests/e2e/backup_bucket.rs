//! Backups in a bucket that does not always do what it is asked.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use openclawmu_tests::bucket::SECRET_KEY;
use openclawmu_tests::client::chat;
use openclawmu_tests::receiver::Receiver;
use openclawmu_tests::{Bucket, BucketFault, Gateway, Scene, Setup, Upstream};
use serde_json::{Value, json};
use tokio::sync::Barrier;

/// Quick to give up, so that a test is.
const QUICK: [&str; 4] = ["every = \"off\"", "ship_seconds = 0", "timeout_seconds = 2", "retries = 2"];

async fn scene(bucket: &Bucket, keys: &[&str], more: &[String]) -> Scene {
    let upstream = Upstream::start().await;
    let all: Vec<&str> = QUICK.into_iter().chain(keys.iter().copied()).collect();
    let mut setup = Setup::with(&upstream).env(Bucket::env()).line(&bucket.table(&all));
    for line in more {
        setup = setup.line(line);
    }
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let dir = scene.gateway.data().join("tenants/acme/workspace");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("file"), "the canary of acme's workspace").expect("a file");
    scene
}

async fn sets(scene: &Scene, path: &str) -> Vec<Value> {
    scene.admin().get(path).await["data"].as_array().expect("a list").clone()
}

/// A backup and a restore over S3 with signatures that are verified, sealed with a passphrase: nothing in the bucket can be
/// read, nothing is sent twice, and the service is asked to encrypt as configured.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_backup_goes_to_a_bucket_and_comes_back_and_what_did_not_change_is_not_sent_again() {
    let bucket = Bucket::start().await;
    let phrase = ("TEST_PHRASE".to_owned(), "correct horse battery staple".to_owned());
    let upstream = Upstream::start().await;
    let keys = [QUICK.as_slice(), &["sse = \"AES256\"", "passphrase = \"env:TEST_PHRASE\""]].concat();
    let setup = Setup::with(&upstream).env(Bucket::env()).env(vec![phrase]).line(&bucket.table(&keys));
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let dir = scene.gateway.data().join("tenants/acme/workspace");
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("file"), "the canary of acme's workspace").expect("a file");
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(1).await;
    let first = scene.gateway.cli(&["tenants", "backup", "acme", "--json"]).await.json()["backup"].clone();
    assert_eq!(first["encrypted"], true, "{first}");
    let again = scene.gateway.cli(&["tenants", "backup", "acme", "--json"]).await.json()["backup"].clone();
    assert_eq!((again["sent_objects"].as_u64(), again["bytes"].clone()), (Some(0), first["bytes"].clone()), "{again}");
    for key in bucket.keys("") {
        let bytes = std::fs::read(bucket.root().join(&key)).expect("an object");
        let unpacked = zstd::decode_all(bytes.as_slice()).unwrap_or_default();
        for text in [bytes, unpacked] {
            assert!(!String::from_utf8_lossy(&text).contains("the canary"), "{key} can be read");
        }
    }
    let puts = bucket.seen().into_iter().filter(|(method, path, _)| *method == Method::PUT && path.contains("objects"));
    assert!(puts.clone().count() > 0 && puts.into_iter().all(|(_, _, sse)| sse.as_deref() == Some("AES256")));
    std::fs::write(dir.join("file"), "overwritten").expect("a file");
    let url = first["url"].as_str().expect("a URL");
    let restored = scene.gateway.cli(&["tenants", "restore", "--from", url, "--force", "--json"]).await.json();
    assert_eq!(restored["report"]["usage_since"]["rows"], 0, "{restored}");
    assert_eq!(std::fs::read_to_string(dir.join("file")).expect("a file"), "the canary of acme's workspace");
    let said = scene.gateway.cli(&["backups", "verify", "--from", url]).await;
    assert!(said.ok().contains("is whole"), "{said:?}");
    assert!(!scene.gateway.stderr().contains(SECRET_KEY));
}

/// B-07: a service that is overloaded for a moment is asked again; one that refuses, hangs or cuts fails the backup with what to
/// do, a metric and a webhook, and requests go on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn b_07_a_failing_bucket_is_retried_then_told_and_no_request_notices() {
    let (bucket, receiver) = (Bucket::start().await, Receiver::start().await);
    let alerts = format!("[alerts]\nwebhook_url = {:?}\nwebhook_secret = \"env:TEST_HOOK\"\n", receiver.url());
    let upstream = Upstream::start().await;
    let hook = vec![("TEST_HOOK".to_owned(), "a webhook secret of enough bytes".to_owned())];
    let setup = Setup::with(&upstream).env(Bucket::env()).env(hook).line(&bucket.table(&QUICK)).line(&alerts);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    for passing in [BucketFault::Status(503), BucketFault::Status(500), BucketFault::Cut] {
        bucket.fault(Method::PUT, "objects", passing, 1);
        let made = scene.admin().post("/v1/tenants/acme/backups", &json!({})).await;
        assert_eq!(made.status, 201, "{}", made.text());
        scene.client.chat(&chat("odd", "hello", 10)).await.ok();
        bucket.heal();
    }
    let lasting = [
        BucketFault::Status(503),
        BucketFault::Status(403),
        BucketFault::Status(412),
        BucketFault::Cut,
        BucketFault::Slow(Duration::from_secs(5)),
    ];
    for fault in lasting.clone() {
        bucket.fault(Method::PUT, "", fault.clone(), 1_000);
        let (failed, answered) =
            tokio::join!(async { scene.admin().post("/v1/tenants/acme/backups", &json!({})).await }, async {
                scene.client.chat(&chat("odd", "hello", 10)).await
            });
        assert_eq!(answered.status, 200);
        let failed = (failed.status, failed.json()["error"].clone());
        assert!(matches!(failed.0, 502 | 409), "{failed:?}");
        assert!(failed.1["hint"].is_string() || failed.0 == 409, "{failed:?}");
        bucket.heal();
    }
    let count = u64::try_from(lasting.len()).expect("few");
    assert_eq!(scene.admin().metric("openclawmu_backups_total", &["failed"]).await, count);
    assert_eq!(scene.admin().metric("openclawmu_backups_total", &["succeeded"]).await, 3);
    openclawmu_tests::wait::until_true("a webhook for each failure", || {
        receiver.received().iter().filter(|message| message.text().contains("backup.failed")).count() == lasting.len()
    })
    .await;
    assert_eq!(sets(&scene, "/v1/tenants/acme/backups").await.len(), 3);
}

/// B-03: an upload that is killed at any object leaves no backup; the next run makes one, and what was left goes.
#[tokio::test(flavor = "multi_thread")]
async fn b_03_an_upload_that_is_killed_leaves_no_backup_and_its_orphans_are_collected() {
    let bucket = Bucket::start().await;
    let mut scene = scene(&bucket, &["orphans_after_hours = 0"], &[]).await;
    scene.client.chat(&chat("odd", "hello", 10)).await.ok();
    scene.rows_once(1).await;
    for after in [".tar.zst", "manifest.json"] {
        bucket.fault(Method::PUT, after, BucketFault::Slow(Duration::from_secs(60)), 1_000);
        let (admin, path) = (scene.admin(), "/v1/tenants/acme/backups");
        let cut = tokio::spawn(async move { admin.build(Method::POST, path).json(&json!({})).send().await.is_err() });
        openclawmu_tests::wait::until_true("the upload", || {
            bucket.seen().iter().any(|(method, path, _)| *method == Method::PUT && path.contains(after))
        })
        .await;
        scene.gateway.kill_9();
        assert!(cut.await.expect("a task"));
        bucket.heal();
        scene.restarted().await;
        assert_eq!(sets(&scene, path).await.len(), 0, "{after}: no manifest, no backup");
        // What the dead one had sent is not what the next one sends.
        let dir = scene.gateway.data().join("tenants/acme/workspace");
        std::fs::write(dir.join("file"), format!("changed after {after}")).expect("a file");
    }
    let orphans = bucket.keys("/objects/");
    assert!(!orphans.is_empty());
    let made = scene.admin().post("/v1/tenants/acme/backups", &json!({})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(sets(&scene, "/v1/tenants/acme/backups").await.len(), 1);
    let left = bucket.keys("/objects/");
    let named = made.json()["backup"]["url"].as_str().expect("a URL").to_owned();
    let verified = scene.admin().post("/v1/backups/verify", &json!({"from": named})).await;
    assert_eq!(verified.json()["verified"]["objects"].as_u64(), u64::try_from(left.len()).ok(), "{left:?} {orphans:?}");
    assert!(orphans.iter().any(|orphan| !left.contains(orphan)), "the dead uploads' files are gone");
}

/// B-08: of two gateways that write to one place at the same moment, one wins and the other is told.
#[tokio::test(flavor = "multi_thread")]
async fn b_08_of_two_writers_one_wins_and_the_other_is_told() {
    let bucket = Bucket::start().await;
    let (one, two) = (scene(&bucket, &[], &[]).await, scene(&bucket, &[], &[]).await);
    let together = BucketFault::Together(Arc::new(Barrier::new(2)));
    bucket.fault(Method::PUT, "manifest.json", together, 2);
    let make = |gateway: &Gateway| {
        let admin = gateway.admin();
        async move { admin.post("/v1/tenants/acme/backups", &json!({})).await }
    };
    let (first, second) = tokio::join!(make(&one.gateway), make(&two.gateway));
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", first.text(), second.text());
    let loser = if first.status == 409 { &first } else { &second };
    assert_eq!(loser.json()["error"]["code"], "backup_raced");
    let sets = sets(&one, "/v1/tenants/acme/backups").await;
    assert_eq!(sets.len(), 1);
    assert_eq!(make(&two.gateway).await.status, 201, "the next run works");
}

/// B-10: only older whole backups go, the newest stay, and what no backup needs goes with them.
#[tokio::test(flavor = "multi_thread")]
async fn b_10_retention_removes_older_whole_backups_alone() {
    let bucket = Bucket::start().await;
    let scene = scene(&bucket, &["keep = 2", "orphans_after_hours = 0"], &[]).await;
    let dir = scene.gateway.data().join("tenants/acme/workspace");
    for round in 1..=4 {
        std::fs::write(dir.join("file"), format!("round {round}")).expect("a file");
        let made = scene.admin().post("/v1/tenants/acme/backups", &json!({})).await;
        assert_eq!(made.json()["backup"]["id"], format!("{round:06}"), "{}", made.text());
    }
    let ids = |sets: Vec<Value>| sets.iter().map(|set| set["id"].as_str().unwrap_or("").to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(sets(&scene, "/v1/tenants/acme/backups").await), ["000004", "000003"]);
    for id in ["000003", "000004"] {
        let url = format!("s3://backups/prod/tenants/acme/backups/{id}");
        let verified = scene.admin().post("/v1/backups/verify", &json!({"from": url})).await;
        assert_eq!(verified.status, 200, "{}", verified.text());
    }
    let archives = bucket.keys(".tar.zst").len();
    assert!(archives <= 4, "the older files are gone: {:?}", bucket.keys(".tar.zst"));
}
