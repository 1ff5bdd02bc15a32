//! `openclawmu doctor`: each thing that can be wrong is named, with a hint, and decides the exit code.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Method;
use openclawmu_tests::bucket::SECRET_KEY;
use openclawmu_tests::gateway::{binary, free_address};
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::{Behaviour, Bucket, BucketFault, Gateway, Setup, Upstream};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// Runs doctor on a directory's config and data; the exit code and every finding.
fn doctor(dir: &Path, vary: impl FnOnce(&mut Command)) -> (bool, Vec<Value>) {
    doctor_on(dir, "data", vary)
}

/// The same with another data directory.
fn doctor_on(dir: &Path, data: &str, vary: impl FnOnce(&mut Command)) -> (bool, Vec<Value>) {
    let mut command = Command::new(binary());
    for key in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENCLAWMU_ADMIN_KEY"] {
        command.env_remove(key);
    }
    command.envs(Setup::bare().env).current_dir(dir).stdin(Stdio::null());
    command.args(["doctor", "--json", "--config", "openclawmu.toml", "--data", data]);
    vary(&mut command);
    let output = command.output().expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let findings: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|err| panic!("{err}: {said} {output:?}"));
    for finding in findings.iter().filter(|finding| finding["state"] != "ok") {
        assert!(finding["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "a hint in {finding}");
    }
    (output.status.success(), findings)
}

/// The state of one check, and what was seen.
fn state<'f>(findings: &'f [Value], check: &str) -> (&'f str, &'f str) {
    let found = findings.iter().find(|finding| finding["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check} in {findings:#?}"));
    (found["state"].as_str().expect("a state"), found["message"].as_str().expect("a message"))
}

fn listeners(setup: Setup) -> Setup {
    let mut setup = setup.edge_key(&format!("listen = \"{}\"", free_address()));
    setup.admin.push(format!("listen = \"{}\"", free_address()));
    setup
}

fn dir_of(setup: Setup) -> TempDir {
    let dir = TempDir::new().expect("a temp dir");
    let _config = listeners(setup).write(dir.path());
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_is_well_and_its_ports_are_its_own() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream);
    let gateway = Gateway::start(setup).await;
    let calls = upstream.calls();
    let with = |command: &mut Command| {
        command.env("OPENCLAWMU_TEST_PROVIDER_KEY", PROVIDER_KEY);
    };
    // The same configuration, with the addresses that the gateway got on its command line.
    let text = std::fs::read_to_string(gateway.config()).expect("the config");
    let edge = format!("[edge]\nlisten = \"{}\"\n", gateway.edge());
    let admin = format!("[admin]\nlisten = \"{}\"\n", gateway.admin_address());
    let text = text.replace("[edge]\n", &edge).replace("[admin]\n", &admin);
    std::fs::write(gateway.config(), text).expect("the config");
    let (good, findings) = doctor(gateway.dir(), with);
    assert!(good, "{findings:#?}");
    for check in ["config", "data.dir", "data.mode", "database", "database.schema", "database.wal", "admin.key"] {
        assert_eq!(state(&findings, check).0, "ok", "{findings:#?}");
    }
    for check in ["edge.listen", "admin.listen"] {
        let (state, seen) = state(&findings, check);
        assert!(state == "ok" && seen.contains(&gateway.pid().to_string()), "{check}: {seen}");
    }
    for check in ["disk", "clock", "fds", "sandbox.bubblewrap", "sandbox.cgroups", "upstream.scripted", "upstream.echo"]
    {
        assert_ne!(state(&findings, check).0, "fail", "{findings:#?}");
    }
    let text = serde_json::to_string(&findings).expect("JSON");
    assert!(!text.contains(PROVIDER_KEY) && !text.contains(gateway.key()), "no secret is shown");
    assert_eq!(upstream.calls(), calls + 1);
    let asked = upstream.last();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/models"), "what it asks for is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstreams_are_tried_with_their_key_at_once_and_each_is_named() {
    let upstream = Upstream::start().await;
    let refusing = Upstream::start().await;
    refusing.always(Behaviour::status(401));
    let setup = Setup::with(&upstream)
        .upstream("refusing", refusing.address(), &[], &[])
        .upstream("gone", free_address(), &[], &[])
        .line("[[upstream]]\nname = \"nowhere\"\nkind = \"openai\"\nbase_url = \"http://nowhere.invalid/v1\"");
    let dir = dir_of(setup);
    let (good, findings) = doctor(dir.path(), |_| {});
    assert!(!good, "a finding that fails is an exit code of 1");
    assert_eq!(state(&findings, "upstream.scripted").0, "ok", "{findings:#?}");
    let (seen, why) = state(&findings, "upstream.refusing");
    assert!(seen == "fail" && why.contains("key"), "{why}");
    assert_eq!(state(&findings, "upstream.gone").0, "fail");
    let (seen, why) = state(&findings, "upstream.nowhere");
    assert!(seen == "fail" && why.contains("nowhere.invalid"), "{why}");
    let asked = refusing.last();
    assert_eq!(
        (asked.method.as_str(), asked.header("authorization")),
        ("GET", Some(format!("Bearer {PROVIDER_KEY}").as_str()))
    );
}

/// D-07, D-03: what refuses to start is seen before it does
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_cannot_serve_fails() {
    let mut gateway = Gateway::start(listeners(Setup::bare())).await;
    assert!(gateway.terminate().await.success());
    let data = gateway.data();
    let look = || doctor(gateway.dir(), |_| {});
    assert!(look().0, "{:#?}", look().1);
    let own = std::fs::metadata(data.join("master.key")).expect("a key").permissions();
    std::fs::set_permissions(data.join("master.key"), PermissionsExt::from_mode(0o644)).expect("chmod");
    let (good, findings) = look();
    assert!(!good && state(&findings, "key.master.key").0 == "fail", "{findings:#?}");
    std::fs::set_permissions(data.join("master.key"), own).expect("chmod");
    let conn = Connection::open(data.join("openclawmu.db")).expect("the database");
    conn.pragma_update(None, "user_version", 9_999).expect("a newer schema");
    drop(conn);
    let (good, findings) = look();
    assert!(!good && state(&findings, "database.schema").0 == "fail", "{findings:#?}");
    std::fs::write(data.join("openclawmu.db"), "no database").expect("written");
    let (good, findings) = look();
    assert!(!good && state(&findings, "database").0 == "fail", "{findings:#?}");
    let (good, findings) = doctor_on(gateway.dir(), "openclawmu.toml", |_| {});
    assert!(!good && state(&findings, "data.dir").0 == "fail", "{findings:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_somebody_else_fails_and_a_bad_config_says_where() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let dir = TempDir::new().expect("a temp dir");
    let _config = Setup::bare().edge_key(&format!("listen = \"{address}\"")).write(dir.path());
    let (good, findings) = doctor(dir.path(), |_| {});
    let (seen, why) = state(&findings, "edge.listen");
    assert!(!good && seen == "fail" && why.contains(&address.to_string()), "{why}");
    std::fs::write(dir.path().join("openclawmu.toml"), "[edge]\nlissten = 1").expect("written");
    let (good, findings) = doctor(dir.path(), |_| {});
    assert!(!good && state(&findings, "config").1.contains("lissten"), "{findings:#?}");
}

/// X-38's twin on the operator's side: what isolates tenants' code is looked at, and an old bubblewrap is told
#[tokio::test(flavor = "multi_thread")]
async fn bubblewrap_is_looked_at_with_its_version() {
    let dir = dir_of(Setup::bare());
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    // A tenant's user has to reach the program.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("chmod");
    let bwrap = bin.join("bwrap");
    let look = || {
        let (_, findings) = doctor(dir.path(), |command| {
            command.env("PATH", &bin);
        });
        findings
    };
    assert_eq!(state(&look(), "sandbox.bubblewrap").0, "warn", "there is none");
    for (version, expected) in [("0.8.0", "warn"), ("0.11.9", "warn"), ("0.12.0", "ok"), ("1.0", "ok")] {
        let program = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && echo bubblewrap {version} && exit\nexec /usr/bin/bwrap \"$@\"\n"
        );
        std::fs::write(&bwrap, program).expect("a program");
        std::fs::set_permissions(&bwrap, PermissionsExt::from_mode(0o755)).expect("chmod");
        let findings = look();
        assert_eq!(state(&findings, "sandbox.bubblewrap").0, expected, "{findings:#?}");
        assert_eq!(state(&findings, "sandbox.isolation").0, "ok", "{findings:#?}");
    }
    std::fs::write(&bwrap, "#!/bin/sh\n[ \"$1\" = --version ] && echo bubblewrap 0.12.0 && exit\nexit 1\n")
        .expect("a program");
    assert_eq!(state(&look(), "sandbox.isolation").0, "warn", "this one runs nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_limit_of_open_files_is_told() {
    let dir = dir_of(Setup::bare().edge_key("max_connections = 100"));
    let limited = |limit: u64| {
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(binary());
        command.envs(Setup::bare().env).current_dir(dir.path()).stdin(Stdio::null());
        command.args(["doctor", "--json", "--config", "openclawmu.toml", "--data", "data"]);
        let output = command.output().expect("a shell");
        serde_json::from_slice::<Vec<Value>>(&output.stdout).expect("findings")
    };
    assert_eq!(state(&limited(4_096), "fds").0, "ok");
    assert_eq!(state(&limited(1_100), "fds").0, "warn");
    assert_eq!(state(&limited(512), "fds").0, "fail");
}

/// The state of the place of the backups, and the finding as a whole.
fn place(dir: &Path, env: Vec<(String, String)>) -> (bool, Value) {
    let (good, findings) = doctor(dir, |command| {
        command.envs(env);
    });
    let found = findings.iter().find(|finding| finding["check"] == "backup.to").cloned();
    (good, found.unwrap_or_else(|| panic!("no backup.to in {findings:#?}")))
}

/// B-07's twin before anything is lost: the bucket is written, listed, read and emptied again, and whatever it refuses is told
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_tried_with_a_file_of_its_own_and_what_it_refuses_is_told() {
    let bucket = Bucket::start().await;
    let dir = dir_of(Setup::bare().line(&bucket.table(&[])));
    let (good, found) = place(dir.path(), Bucket::env());
    assert!(good && found["state"] == "ok", "{found}");
    assert!(bucket.keys("").is_empty(), "nothing is left: {:?}", bucket.keys(""));
    let seen: Vec<Method> = bucket.seen().into_iter().map(|(method, ..)| method).collect();
    for method in [Method::PUT, Method::GET] {
        assert!(seen.contains(&method), "{method} in {seen:?}");
    }
    let removal = seen.last_chunk::<2>().expect("a removal, and a look after it").clone();
    assert!([Method::DELETE, Method::POST].contains(&removal[0]), "{seen:?}");

    let mut wrong = Bucket::env();
    wrong[1].1 = "another secret key of some length".to_owned();
    let (good, found) = place(dir.path(), wrong);
    assert!(!good && found["state"] == "fail", "{found}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.contains("access key")), "{found}");

    for method in [Method::PUT, Method::GET, removal[0].clone()] {
        bucket.fault(method.clone(), "", BucketFault::Status(403), 1);
        let (good, found) = place(dir.path(), Bucket::env());
        assert!(!good && found["state"] == "fail", "{method} is refused: {found}");
        assert!(!found.to_string().contains(SECRET_KEY));
        bucket.heal();
    }
    drop(bucket);
    let (good, found) = place(dir.path(), Bucket::env());
    assert!(!good && found["state"] == "fail", "{found}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.contains("backup.endpoint")), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_for_backups_is_tried_and_none_is_no_failure() {
    let (good, found) = place(dir_of(Setup::bare()).path(), Vec::new());
    assert!(good && found["state"] == "ok", "{found}");
    let to = TempDir::new().expect("a temp dir");
    let dir = dir_of(Setup::bare().line(&format!("[backup]\nto = {:?}", to.path().join("backups"))));
    let (good, found) = place(dir.path(), Vec::new());
    assert!(good && found["state"] == "ok", "{found}");
    std::fs::remove_dir(to.path().join("backups")).expect("it is empty");
    std::fs::write(to.path().join("backups"), "a file").expect("written");
    let (good, found) = place(dir.path(), Vec::new());
    assert!(!good && found["state"] == "fail", "{found}");
}

/// A certificate that can't be used is found before it keeps the gateway down; what a mistake looks like: `edge.tls` in the start
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cant_be_used_is_found_and_a_good_one_is_well() {
    let dir = TempDir::new().expect("a temp dir");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).expect("a certificate");
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let _config = listeners(Setup::bare().edge_tls(&cert, &key)).write(dir.path());
    let (good, findings) = doctor(dir.path(), |_| {});
    assert!(good && state(&findings, "edge.tls").0 == "ok", "{findings:#?}");
    std::fs::write(&cert, "no certificate").expect("written");
    let (good, findings) = doctor(dir.path(), |_| {});
    let (seen, why) = state(&findings, "config");
    assert!(!good && seen == "fail" && why.contains("edge.tls.cert") && why.contains("cert.pem"), "{why}");
}
