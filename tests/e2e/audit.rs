//! The audit log: every change in it once, none without it, and nobody can touch it unseen.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::disk::{Shim, SmallDisk};
use openclawmu_tests::wait::{SOON, until, until_true};
use openclawmu_tests::{Admin, Gateway, Reply, Scene, Setup, Upstream, audit, ledger, raw, times};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinHandle;

fn folder(scene: &Scene) -> PathBuf {
    scene.gateway.data().join("audit")
}

async fn with_line(line: &str) -> Scene {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line(line);
    Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await
}

async fn rename(admin: &Admin, name: &str) -> Reply {
    admin.send_json(Method::PATCH, "/v1/tenants/acme", &json!({ "name": name })).await
}

async fn name(scene: &Scene) -> Value {
    scene.admin().get("/v1/tenants/acme").await["name"].clone()
}

/// Says what is wrong, by the running gateway or by the files alone.
async fn verdict(gateway: &Gateway) -> Value {
    let said = gateway.cli(&["audit", "verify", "--json"]).await;
    let verdict: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("a verdict: {said:?}"));
    assert_eq!(said.status.success(), verdict["ok"] == true, "the exit code says it too: {said:?}");
    verdict
}

async fn is_sound(gateway: &Gateway) {
    let verdict = verdict(gateway).await;
    assert!(verdict["ok"] == true && verdict["anchor_seq"] == verdict["last_seq"], "{verdict}");
}

/// U-01, for who and from where; each route is in the tests of the admin API
#[tokio::test(flavor = "multi_thread")]
async fn a_line_says_who_changed_what_from_where() {
    let scene = Scene::new().await;
    let reply = rename(&scene.admin(), "By network").await;
    let updated = scene.gateway.cli(&["tenants", "update", "acme", "--name", "By socket"]).await;
    assert!(updated.status.success(), "{updated:?}");
    scene.gateway.signal(Signal::HUP);
    until_true("the reload is on record", || {
        audit::lines(&folder(&scene)).iter().any(|line| line["action"] == "config.reload")
    })
    .await;
    let lines = audit::lines(&folder(&scene));
    let of = |action: &str| lines.iter().filter(|line| line["action"] == action).cloned().collect::<Vec<Value>>();
    let [network, socket] = of("tenant.update").try_into().expect("two changes");
    assert_eq!(network["actor"], json!({ "kind": "operator", "id": "admin.key" }));
    assert_eq!(network["ip"], "127.0.0.1");
    assert_eq!(network["request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(
        (&network["action"], &network["tenant"], &network["outcome"]),
        (&json!("tenant.update"), &json!("acme"), &json!("ok"))
    );
    assert_eq!((&socket["actor"]["kind"], &socket["ip"]), (&json!("local"), &Value::Null));
    assert!(socket["actor"]["id"].as_str().expect("an id").starts_with("uid "), "{socket}");
    assert_eq!(of("config.reload")[0]["actor"]["kind"], "system");
    assert_eq!(of("rates.import").len(), 1, "the first rate card too: {lines:#?}");
    assert_eq!(lines.iter().map(audit::seq).collect::<Vec<_>>(), (1..=lines.len() as u64).collect::<Vec<_>>());

    let tail = scene.gateway.cli(&["audit", "tail", "--json", "--tenant", "acme", "--action", "tenant.update"]).await;
    let told: Vec<Value> = tail.ok().lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(told, [network, socket], "the API gives the lines as they stand in the file");
    let table = scene.gateway.cli(&["audit", "tail", "-n", "1"]).await;
    assert!(table.ok().contains("config.reload") && !table.ok().contains("tenant.create"), "{table:?}");
    is_sound(&scene.gateway).await;
}

/// The CLI's `tail -f` shows a change as soon as it is made
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_new_lines_of_its_tenant_alone() {
    let scene = Scene::new().await;
    scene.admin().tenant("other", json!({})).await;
    let mut command = tokio::process::Command::new(openclawmu_tests::gateway::binary());
    command.args(["audit", "tail", "-f", "-n", "1", "--json", "--tenant", "acme", "--data"]).arg(scene.gateway.data());
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = async || -> Value {
        let line = tokio::time::timeout(SOON, lines.next_line()).await.expect("a line in time").expect("text");
        serde_json::from_str(&line.expect("a line")).expect("JSON")
    };
    assert_eq!(next().await["action"], "tenant.create");
    scene.admin().patch("other", &json!({ "name": "not shown" })).await;
    scene.admin().patch("acme", &json!({ "name": "shown" })).await;
    let line = next().await;
    assert_eq!((&line["action"], &line["tenant"]), (&json!("tenant.update"), &json!("acme")), "{line}");
    child.kill().await.expect("it runs");
}

/// What must hold while the log takes nothing.
async fn refused_but_serving(scene: &Scene, done: &str) {
    let refused = rename(&scene.admin(), "never").await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("audit_unavailable")));
    assert!(refused.json()["error"]["hint"].is_string() && refused.header("retry-after").is_some());
    assert_eq!(name(scene).await, done, "what can't be put on record is not done");
    scene.client.chat(&chat("flat", "hi", 10)).await.ok();
    for address in [scene.gateway.edge(), scene.gateway.admin_address()] {
        assert_eq!(raw::blocking_get(address, "/readyz", "").map(|found| found.0), Some(200));
    }
    let admin = scene.admin();
    assert_eq!(admin.metric("openclawmu_audit_healthy", &[]).await, 0);
    assert!(admin.metric("openclawmu_audit_failures_total", &[]).await > 0);
}

async fn heals(scene: &Scene) {
    until("it is noticed that the log can be written again", || async {
        (scene.admin().metric("openclawmu_audit_healthy", &[]).await == 1).then_some(())
    })
    .await;
    assert_eq!(rename(&scene.admin(), "after").await.status, 200);
    assert_eq!(name(scene).await, "after");
    let lines = audit::lines(scene.gateway.dir().join("audit").as_path());
    assert!(lines.iter().any(|line| line["action"] == "audit.resume"), "{lines:#?}");
    assert!(
        !audit::done(&scene.gateway.dir().join("audit"))
            .iter()
            .any(|line| line["detail"].to_string().contains("never"))
    );
    is_sound(&scene.gateway).await;
}

/// U-02: the log's disk is full
#[tokio::test(flavor = "multi_thread")]
async fn with_a_full_disk_no_change_is_made_and_models_are_served() {
    let scene = with_line("[audit]\ndir = \"audit\"").await;
    // Mounted below the running gateway, which finds another folder in the place of its own.
    let log = scene.gateway.dir().join("audit");
    let kept = scene.gateway.dir().join("kept");
    std::fs::rename(&log, &kept).expect("a rename");
    let disk = SmallDisk::mount(&log, "64k");
    for file in audit::files(&kept) {
        std::fs::copy(&file, log.join(file.file_name().expect("a name"))).expect("a copy");
    }
    let mut last = "before".to_owned();
    assert_eq!(rename(&scene.admin(), &last).await.status, 200);
    disk.fill();
    // What is left of the last block is used up first.
    for number in 0..200 {
        let next = format!("round {number}");
        if rename(&scene.admin(), &next).await.status != 200 {
            break;
        }
        last = next;
    }
    refused_but_serving(&scene, &last).await;
    disk.clear();
    heals(&scene).await;
}

/// U-02: the disk fails at the sync; what was written is not relied on
#[tokio::test(flavor = "multi_thread")]
async fn with_a_failing_disk_no_change_is_made_and_models_are_served() {
    let dir = TempDir::new().expect("a temp dir");
    let shim = Shim::build(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[audit]\ndir = \"audit\"").env(shim.env(upstream.address().port()));
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    assert_eq!(rename(&scene.admin(), "before").await.status, 200);
    shim.fail("audit.jsonl");
    refused_but_serving(&scene, "before").await;
    shim.heal();
    heals(&scene).await;
    let lines = audit::lines(&scene.gateway.dir().join("audit"));
    let torn = lines.iter().find(|line| line["action"] == "audit.torn").expect("a note of what was moved aside");
    let aside = scene.gateway.dir().join("audit").join(torn["detail"]["file"].as_str().expect("a file"));
    assert!(std::fs::read_to_string(aside).expect("text").contains("never"));
}

/// What is done to the lines of a file.
type Change<'a> = &'a dyn Fn(&mut Vec<String>);

fn altered(path: &Path, change: Change<'_>) {
    let text = std::fs::read_to_string(path).expect("the log");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("a writable file");
}

/// U-03
#[tokio::test(flavor = "multi_thread")]
async fn whoever_touches_a_line_is_found_out_with_and_without_a_gateway() {
    let mut scene = Scene::new().await;
    for number in 0..6 {
        rename(&scene.admin(), &format!("n{number}")).await;
    }
    let path = folder(&scene).join("audit.jsonl");
    let whole = std::fs::read(&path).expect("the log");
    let cases: [(&str, Change<'_>, u64); 4] = [
        ("edited", &|lines| lines[3] = lines[3].replacen("tenant.update", "tenant.delete", 1), 4),
        ("deleted", &|lines| drop(lines.remove(2)), 3),
        ("reordered", &|lines| lines.swap(4, 5), 5),
        ("truncated", &|lines| lines.truncate(lines.len() - 2), 7),
    ];
    for live in [true, false] {
        is_sound(&scene.gateway).await;
        for (kind, change, seq) in cases {
            altered(&path, change);
            let found = verdict(&scene.gateway).await;
            assert_eq!((&found["problem"]["kind"], &found["problem"]["seq"]), (&json!(kind), &json!(seq)), "{found}");
            let said = scene.gateway.cli(&["audit", "verify"]).await;
            assert!(said.stdout.contains(&format!("line {seq}: {kind}")) && !said.status.success(), "{said:?}");
            std::fs::write(&path, &whole).expect("a writable file");
        }
        if live {
            assert!(scene.gateway.terminate().await.success());
        }
    }
    // Without the right key nobody starts to go on with the log.
    let key = scene.gateway.data().join("audit.key");
    let right = std::fs::read(&key).expect("the key");
    std::fs::write(&key, "another key of more than 32 characters").expect("a writable file");
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(refusal.stderr.contains("audit key"), "{refusal:?}");
    std::fs::remove_file(&key).expect("a file");
    let refusal = Gateway::refusal(scene.gateway.command()).await;
    assert!(refusal.stderr.contains("audit.key is missing"), "{refusal:?}");
    std::fs::write(&key, right).expect("a writable file");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("its mode");
    scene.restarted().await;
    is_sound(&scene.gateway).await;
}

/// Operators who change things until they're told to stop or the gateway is gone; the request ids of what was acknowledged.
fn changing(
    admin: &Admin,
    workers: usize,
    stop: &Arc<AtomicBool>,
    count: &Arc<AtomicUsize>,
) -> Vec<JoinHandle<Vec<String>>> {
    let one = |worker: usize| {
        let (admin, stop, count) = (admin.clone(), Arc::clone(stop), Arc::clone(count));
        tokio::spawn(async move {
            let mut done = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let body = json!({ "name": format!("w{worker}-{}", done.len()) });
                let sent = admin.build(Method::PATCH, "/v1/tenants/acme").json(&body).send().await;
                match sent {
                    Ok(reply) if reply.status() == 200 => {
                        done.push(reply.headers()["x-request-id"].to_str().expect("an id").to_owned());
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(reply) => assert_eq!(reply.status(), 503),
                    Err(_) => break,
                }
            }
            done
        })
    };
    (0..workers).map(one).collect()
}

/// Every acknowledged change has exactly one line that stands, and every line that stands is a change.
fn each_once(scene: &Scene, acknowledged: &[String]) {
    let done = audit::done(&folder(scene));
    for id in acknowledged {
        let own = done.iter().filter(|line| line["request_id"] == id.as_str()).count();
        assert_eq!(own, 1, "{id}");
    }
    let database = ledger::open(&scene.gateway.data());
    let mut rows =
        database.prepare("SELECT line FROM audit_outbox WHERE action NOT LIKE 'audit.%' ORDER BY line").expect("rows");
    let rows = rows.query_map([], |row| row.get::<_, i64>(0)).expect("rows").map(|row| row.expect("a line"));
    let rows: Vec<u64> = rows.map(|line| u64::try_from(line).expect("a number")).collect();
    assert_eq!(done.iter().map(audit::seq).collect::<Vec<_>>(), rows, "the database knows the same lines");
}

/// U-04: 40 kills in a soak run, else 4
#[tokio::test(flavor = "multi_thread")]
async fn killed_between_line_and_commit_each_change_has_its_line_once() {
    let mut scene = Scene::new().await;
    let mut acknowledged = Vec::new();
    for round in 0..times(4, 40) {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let workers = changing(&scene.admin(), 4, &stop, &count);
        until_true("changes", || count.load(Ordering::SeqCst) >= 10 + 3 * round).await;
        scene.gateway.kill_9();
        for worker in workers {
            acknowledged.extend(worker.await.expect("a worker"));
        }
        let killed = verdict(&scene.gateway).await;
        assert_eq!(killed["ok"], true, "the files alone are sound: {killed}");
        scene.restarted().await;
        assert_eq!(rename(&scene.admin(), &format!("round {round}")).await.status, 200);
        is_sound(&scene.gateway).await;
        each_once(&scene, &acknowledged);
    }
}

/// U-05
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_is_moved_aside_and_the_chain_goes_on() {
    let mut scene = Scene::new().await;
    rename(&scene.admin(), "before").await;
    scene.gateway.kill_9();
    let path = folder(&scene).join("audit.jsonl");
    let torn = &b"{\"seq\":4,\"at\":\"2026-11-26T14:22:02.000Z\",\"act"[..];
    let whole = std::fs::read(&path).expect("the log");
    std::fs::write(&path, [&whole, torn].concat()).expect("a writable file");
    scene.restarted().await;
    assert_eq!(rename(&scene.admin(), "after").await.status, 200);
    let lines = audit::lines(&folder(&scene));
    let note = lines.iter().find(|line| line["action"] == "audit.torn").expect("a note");
    let aside = folder(&scene).join(note["detail"]["file"].as_str().expect("a file"));
    assert!(aside.file_name().expect("a name").to_string_lossy().starts_with("audit.jsonl.torn-"));
    assert_eq!(std::fs::read(aside).expect("what was torn"), torn);
    is_sound(&scene.gateway).await;
}

/// U-07
#[tokio::test(flavor = "multi_thread")]
async fn rotated_by_size_and_renamed_by_others_no_line_is_lost() {
    let scene = with_line("[audit]\nmax_file_bytes = 4096").await;
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let workers = changing(&scene.admin(), 3, &stop, &count);
    for number in 1..=3 {
        let goal = count.load(Ordering::SeqCst) + 5;
        until_true("changes", || count.load(Ordering::SeqCst) >= goal).await;
        // What logrotate does without `copytruncate`.
        let (from, to) = (folder(&scene).join("audit.jsonl"), folder(&scene).join(format!("audit.jsonl.{number}")));
        // Between a rotation and the next line there is no such file.
        until_true("a file to rename", || std::fs::rename(&from, &to).is_ok()).await;
        scene.gateway.signal(Signal::HUP);
    }
    let goal = count.load(Ordering::SeqCst) + 30;
    until_true("changes", || count.load(Ordering::SeqCst) >= goal).await;
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for worker in workers {
        acknowledged.extend(worker.await.expect("a worker"));
    }
    let files = audit::files(&folder(&scene));
    assert!(files.len() >= 5, "{files:?}");
    assert!(files.iter().any(|path| path.to_string_lossy().contains("/audit-2")), "{files:?}");
    is_sound(&scene.gateway).await;
    each_once(&scene, &acknowledged);
    let middle = files.iter().find(|path| path.ends_with("audit.jsonl.2")).expect("a file");
    std::fs::remove_file(middle).expect("a file");
    assert_eq!(verdict(&scene.gateway).await["problem"]["kind"], "deleted");
}

/// U-08
#[tokio::test(flavor = "multi_thread")]
async fn denied_attempts_are_in_the_log_and_a_flood_of_them_does_not_fill_it() {
    let scene = Scene::new().await;
    let denied = |reason: &'static str| {
        let lines = audit::lines(&folder(&scene));
        lines.into_iter().filter(|line| line["detail"]["reason"] == reason).collect::<Vec<_>>()
    };
    let stranger = scene.admin().with_key("ak_wrong-wrong-wrong-wrong-wrong-wrong-wrong");
    let first = stranger.send(Method::GET, "/v1/tenants").await;
    assert_eq!(first.status, 401);
    until_true("the first attempt", || !denied("admin_key_needed").is_empty()).await;
    let line = denied("admin_key_needed").remove(0);
    assert_eq!(
        (&line["outcome"], &line["ip"], &line["actor"]["kind"]),
        (&json!("denied"), &json!("127.0.0.1"), &json!("unknown"))
    );
    assert_eq!(line["request_id"].as_str(), first.header("x-request-id"));
    // Before the flood: it shuts out the whole address.
    assert_eq!(rename(&scene.admin(), "\u{7}").await.status, 400);
    for _ in 0..300 {
        assert!(matches!(stranger.send(Method::GET, "/v1/tenants").await.status, 401 | 429));
    }
    scene.admin().with_key(&scene.tenant.token).send(Method::GET, "/v1/tenants").await;
    for reason in ["too_many_wrong_keys", "invalid_value"] {
        until_true(reason, || !denied(reason).is_empty()).await;
    }
    let lines = audit::lines(&folder(&scene));
    assert!(lines.len() < 20, "{} lines of 300 attempts", lines.len());
    let text = lines.iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("wrong-wrong") && !text.contains(&scene.tenant.token));
    is_sound(&scene.gateway).await;
}

/// U-09
#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_when_the_clock_is_set_back() {
    let dir = TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).clock(&clock);
    let mut scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    for (number, days) in [2, -400, 3, 0].into_iter().enumerate() {
        clock.shift(days * 86_400);
        assert_eq!(rename(&scene.admin(), &format!("n{number}")).await.status, 200);
        if number == 1 {
            assert!(scene.gateway.terminate().await.success());
            scene.restarted().await;
        }
    }
    let lines = audit::lines(&folder(&scene));
    assert_eq!(lines.iter().map(audit::seq).collect::<Vec<_>>(), (1..=lines.len() as u64).collect::<Vec<_>>());
    let times: Vec<&str> = lines.iter().map(|line| line["at"].as_str().expect("a time")).collect();
    assert!(!times.is_sorted(), "the clock was really set back: {times:?}");
    is_sound(&scene.gateway).await;
}

/// U-04, at a hand-over: one process at a time writes the log
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_continues_the_chain() {
    let mut scene = Scene::new().await;
    rename(&scene.admin(), "by the old").await;
    let log = |name: &str| {
        std::fs::File::options().create(true).append(true).open(scene.gateway.dir().join(name)).expect("a log")
    };
    let new = scene
        .gateway
        .command()
        .arg("--upgrade")
        .stdin(Stdio::null())
        .stdout(log("stdout.log"))
        .stderr(log("stderr.log"))
        .spawn()
        .expect("the new binary");
    scene.gateway.signal(Signal::QUIT);
    assert!(scene.gateway.ended().await.success());
    scene.gateway.adopt(new);
    until("the new process takes changes", || async {
        let admin = scene.admin();
        let sent = admin.build(Method::PATCH, "/v1/tenants/acme").json(&json!({ "name": "by the new" })).send().await;
        sent.ok().filter(|reply| reply.status() == 200)
    })
    .await;
    is_sound(&scene.gateway).await;
    each_once(&scene, &[]);
}

/// Two gateways with one folder would each go on from lines that the other does not know: the second does not start
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_gateway_until_it_ends() {
    let folder = TempDir::new().expect("a temp dir");
    let line = format!("[audit]\ndir = {:?}\nkey = \"env:TEST_AUDIT_KEY\"", folder.path());
    let key = vec![("TEST_AUDIT_KEY".to_owned(), "0123456789abcdef".repeat(4))];
    let setup = || Setup::bare().line(&line).env(key.clone());
    let mut first = Gateway::start(setup()).await;
    let mut second = Gateway::start(Setup::bare()).await;
    assert!(second.terminate().await.success());
    let table = std::fs::read_to_string(second.config()).expect("the config");
    std::fs::write(second.config(), format!("{table}\n{line}\n")).expect("written");
    let mut command = second.command();
    command.envs(key.clone());
    let refusal = Gateway::refusal(command).await;
    let path = folder.path().to_str().expect("UTF-8");
    assert!(!refusal.status.success() && refusal.stderr.contains("audit.dir"), "{refusal:?}");
    assert!(refusal.stderr.contains(path) && !refusal.stderr.contains("panicked"), "{refusal:?}");
    first.admin().tenant("acme", json!({})).await;
    is_sound(&first).await;
    assert!(first.terminate().await.success());
    first.restart().await;
    is_sound(&first).await;
}
