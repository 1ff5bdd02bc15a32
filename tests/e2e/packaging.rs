//! What is in `conf/` beside configurations: each file is what its program wants, and speaks of what the gateway has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::gateway::binary;
use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Gateway, Scene, Setup, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use yaml_rust2::{Yaml, YamlLoader};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a repository").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn yaml(path: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read(path)).unwrap_or_else(|err| panic!("{path}: {err}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

fn list(value: &Yaml) -> &[Yaml] {
    value.as_vec().unwrap_or_else(|| panic!("a list: {value:?}"))
}

fn text(value: &Yaml) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value:?}"))
}

/// The names of series in a `/metrics` answer, from the kinds that it states.
fn series(metrics: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a kind");
        let ends: &[&str] = match kind {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        names.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    names
}

/// The gateway's own names in a query.
fn named(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '"');
    let own = |word: &&str| word.starts_with("openclawmu_") || word.starts_with("process_");
    words.filter(own).map(str::to_owned).collect()
}

fn queries_of(value: &Value, found: &mut Vec<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if let (Some(query), true) = (value.as_str(), name == "expr" || name == "query") {
            found.push(query.to_owned());
        }
        queries_of(value, found);
    }
    value.as_array().into_iter().flatten().for_each(|value| queries_of(value, found));
}

/// Every name in alerts and dashboard is one that Prometheus gets from a gateway that has served
#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let scene = Scene::new().await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    let metrics = scene.admin().send(Method::GET, "/metrics").await.text();
    let there = series(&metrics);
    let alerts = yaml("conf/prometheus/alerts.yml");
    let mut queries = Vec::new();
    for group in list(&alerts["groups"]) {
        for rule in list(&group["rules"]) {
            queries.push(text(&rule["expr"]).to_owned());
            assert!(text(&rule["alert"]).starts_with("OpenClawMU"));
            assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"])), "{rule:?}");
            for annotation in ["summary", "action"] {
                assert!(!text(&rule["annotations"][annotation]).is_empty(), "{annotation} in {rule:?}");
            }
        }
    }
    assert!(queries.len() > 10);
    let dashboard: Value = serde_json::from_str(&read("conf/grafana/openclawmu.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<i64> = panels.iter().filter_map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    queries_of(&dashboard, &mut queries);
    let asked: BTreeSet<String> = queries.iter().flat_map(|query| named(query)).collect();
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<&String> = asked.iter().filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "no such metric: {missing:?}, of {there:?}");
    let scrape = yaml("conf/prometheus/prometheus.yml");
    assert_eq!(text(&list(&scrape["rule_files"])[0]), "alerts.yml");
    let job = &list(&scrape["scrape_configs"])[0];
    assert_eq!((text(&job["job_name"]), text(&job["metrics_path"])), ("openclawmu", "/metrics"));
    let jobs: Vec<&String> =
        queries.iter().filter(|query| query.contains("job=\"") && !query.contains("job=\"openclawmu\"")).collect();
    assert!(jobs.is_empty(), "{jobs:?}");
    assert_eq!(text(&list(&list(&job["static_configs"])[0]["targets"])[0]), "127.0.0.1:8081");
}

/// The label values that queries compare with are ones that the gateway says
#[tokio::test(flavor = "multi_thread")]
async fn alerts_compare_with_label_values_that_there_are() {
    let upstream = Upstream::start().await;
    let gone = openclawmu_tests::gateway::free_address();
    let setup = Setup::with(&upstream).upstream("gone", gone, &[], &["connect_timeout_ms = 500"]);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    scene.upstream.always(Behaviour::words(1));
    assert_eq!(scene.client.chat(&chat("gone/alpha", "hello", 5)).await.status, 502);
    let metrics = scene.admin().send(Method::GET, "/metrics").await.text();
    assert!(
        metrics.contains("openclawmu_upstream_requests_total{upstream=\"gone\",outcome=\"Failed\"} 1"),
        "{metrics}"
    );
    assert!(read("conf/prometheus/alerts.yml").contains("openclawmu_upstream_requests_total{outcome=\"Failed\"}"));
}

/// The sections of a unit file, with their keys in order (systemd.syntax(7)).
fn unit(text: &str) -> Vec<(String, String, String)> {
    let (mut section, mut keys) = (String::new(), Vec::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("a key and a value: {line}"));
        keys.push((section.clone(), key.to_owned(), value.to_owned()));
    }
    keys
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_its_commands_are_the_programs() {
    let path = "conf/systemd/openclawmu.service";
    let keys = unit(&read(path));
    let value = |section: &str, key: &str| {
        let found = keys.iter().find(|(in_section, name, _)| in_section == section && name == key);
        found.map(|(_, _, value)| value.as_str()).unwrap_or_else(|| panic!("{key} in [{section}]"))
    };
    assert_eq!((value("Service", "Type"), value("Service", "NotifyAccess")), ("notify", "all"));
    assert_eq!(value("Service", "ExecReload"), "/bin/kill -HUP $MAINPID");
    for (key, hardened) in [("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("CapabilityBoundingSet", "")] {
        assert_eq!(value("Service", key), hardened, "{key}");
    }
    assert_ne!(value("Service", "User"), "root");
    // With its paths made this machine's, so that systemd finds what it looks for.
    let dir = TempDir::new().expect("a temp dir");
    let config = Setup::bare().write(dir.path());
    let here = |text: &str| {
        let text = text.replace("/usr/local/bin/openclawmu", &binary().display().to_string());
        text.replace("/etc/openclawmu/openclawmu.toml", &config.display().to_string())
    };
    let copy = dir.path().join("openclawmu.service");
    std::fs::write(&copy, here(&read(path))).expect("a unit");
    let verified =
        Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("systemd-analyze (.ci/install)");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("openclawmu.service:"), "{said}");
    let pre = here(value("Service", "ExecStartPre"));
    let mut words = pre.split(' ');
    let checked = Command::new(words.next().expect("a program")).args(words).envs(Setup::bare().env).output();
    let checked = checked.expect("the binary runs");
    assert!(checked.status.success(), "{checked:?}");
    let start = here(value("Service", "ExecStart"));
    let mut words = start.split(' ');
    let program = words.next().expect("a program");
    let understood = Command::new(program).args(words).arg("--help").output().expect("the binary runs");
    assert!(understood.status.success(), "{understood:?}");
}

/// What logrotate does with the access log of a gateway that runs
#[tokio::test(flavor = "multi_thread")]
async fn logrotate_moves_the_access_log_and_no_line_is_lost() {
    let upstream = Upstream::start().await;
    let dir = TempDir::new().expect("a temp dir");
    let log = dir.path().join("access.jsonl");
    let setup = Setup::with(&upstream).line(&format!("[log]\naccess = {log:?}"));
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let lines = || {
        let files = std::fs::read_dir(dir.path()).expect("the logs").flatten().map(|entry| entry.path());
        let logs =
            files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("access")));
        logs.map(|path| std::fs::read_to_string(path).unwrap_or_default().matches("/v1/chat/completions").count())
            .sum::<usize>()
    };
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    until_true("the first line", || lines() == 1).await;
    let shipped = read("conf/logrotate/openclawmu");
    let command = "systemctl kill --kill-whom=main --signal=HUP openclawmu.service";
    assert!(shipped.contains(command) && shipped.contains("/var/log/openclawmu/*.jsonl"));
    let rules = shipped
        .replace("/var/log/openclawmu/", &format!("{}/", dir.path().display()))
        .replace(command, &format!("kill -HUP {}", scene.gateway.pid()));
    let config = dir.path().join("rules");
    std::fs::write(&config, rules).expect("rules");
    let state = dir.path().join("state");
    let rotated = Command::new("logrotate").arg("--force").arg("--state").arg(&state).arg(&config).output();
    let rotated = rotated.expect("logrotate (.ci/install)");
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    until_true("the log is begun anew", || log.exists()).await;
    scene.client.chat(&chat("alpha", "hello", 5)).await.ok();
    until_true("the second line", || lines() == 2).await;
    assert!(std::fs::read_to_string(&log).expect("the new log").contains("/v1/chat/completions"));
}

/// A Dockerfile's instructions, their lines joined (docs.docker.com/reference/dockerfile).
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = joined.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(' ').expect("an instruction and its words"))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_image_is_built_in_two_stages_and_runs_as_nobody_special() {
    const KNOWN: [&str; 12] = [
        "FROM",
        "RUN",
        "WORKDIR",
        "COPY",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
        "ENV",
    ];
    let all = instructions(&read("conf/docker/Dockerfile"));
    for (word, rest) in &all {
        assert!(KNOWN.contains(&word.as_str()), "{word} {rest}");
        if matches!(word.as_str(), "ENTRYPOINT" | "CMD" | "VOLUME") {
            serde_json::from_str::<Vec<String>>(rest).unwrap_or_else(|err| panic!("{word} {rest}: {err}"));
        }
    }
    let stages: Vec<&str> = all.iter().filter(|(word, _)| word == "FROM").map(|(_, rest)| rest.as_str()).collect();
    assert_eq!(stages.len(), 2, "{stages:?}");
    let built_with: Vec<&str> = stages[0].split(' ').collect();
    assert_eq!(built_with[1..], ["AS", "build"]);
    // The toolchain is the workspace's.
    let wanted = read("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_owned));
    assert!(
        built_with[0].starts_with(&format!("rust:{}", wanted.expect("a version").trim_matches('"'))),
        "{built_with:?}"
    );
    let last = all.iter().rposition(|(word, _)| word == "FROM").expect("a stage");
    let (mut copied, mut user) = (Vec::new(), None);
    for (word, rest) in &all[last..] {
        match word.as_str() {
            "COPY" => copied.push(rest.as_str()),
            "USER" => user = Some(rest.as_str()),
            _ => {}
        }
    }
    let user = user.expect("a user");
    assert!(!user.starts_with("root") && !user.starts_with('0'), "{user}");
    assert!(copied.contains(&"--from=build /src/target/release/openclawmu /usr/local/bin/openclawmu"), "{copied:?}");
    for source in copied.iter().filter(|words| !words.starts_with("--from")).filter_map(|words| words.split(' ').next())
    {
        assert!(repository().join(source).exists(), "{source}");
    }
}

/// No key and no token of a gateway that ran in the checkout is sent to whoever builds the image, nor what was built here
#[test]
fn the_images_build_is_sent_no_key() {
    let ignored = read("conf/docker/Dockerfile.dockerignore");
    let ignored: BTreeSet<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    let left = read(".gitignore");
    let left = left.lines().filter_map(|line| line.strip_prefix('/'));
    for name in left.chain([".git", "openclawmu.toml"]) {
        let covered = ignored.contains(name)
            || ignored.contains(format!("**/{name}").as_str())
            || name.rsplit_once('.').is_some_and(|(_, end)| ignored.contains(format!("*.{end}").as_str()));
        assert!(covered, "{name}");
    }
    let needed = ["Cargo.toml", "Cargo.lock", "conf", "conf/docker/openclawmu.toml", "conf/rates.json"];
    assert!(needed.iter().all(|name| !ignored.contains(name)), "{ignored:?}");
}

/// The image's configuration and the compose file's environment make a gateway that starts
#[tokio::test(flavor = "multi_thread")]
async fn the_composed_service_has_what_its_configuration_wants() {
    let file = "conf/docker/openclawmu.toml";
    let key = "0123456789abcdefghijklmnopqrstuvwxyz";
    let check = |key: Option<&str>| {
        let mut command = Command::new(binary());
        command.env_remove("OPENCLAWMU_ADMIN_KEY").args(["config", "check", "--config"]).arg(repository().join(file));
        command.envs(key.map(|key| ("OPENCLAWMU_ADMIN_KEY", key)));
        command.output().expect("the binary runs").status.success()
    };
    assert!(check(Some(key)), "{file} is a configuration");
    assert!(!check(None), "without a key of its own nothing is open to other machines");
    let compose = yaml("conf/docker/compose.yaml");
    let service = &compose["services"]["openclawmu"];
    let folder = repository().join("conf/docker").join(text(&service["build"]["context"]));
    assert!(folder.join(text(&service["build"]["dockerfile"])).exists());
    let environment = service["environment"].as_hash().expect("an environment");
    assert!(environment.contains_key(&Yaml::String("OPENCLAWMU_ADMIN_KEY".into())));
    let ports: Vec<&str> = list(&service["ports"]).iter().map(text).collect();
    assert_eq!(ports, ["8080:8080", "127.0.0.1:8081:8081"], "the admin listener is this machine's alone");
    let volume = text(&list(&service["volumes"])[0]).split_once(':').expect("a volume and a place");
    assert!(!compose["volumes"][volume.0].is_badvalue(), "{volume:?} is declared");
    assert!(read(file).contains(&format!("dir = {:?}", volume.1)), "the data directory is in the volume");
    assert_eq!(service["read_only"].as_bool(), Some(true));
    // A real start on that configuration, with this test's addresses and directory in the place of the image's.
    let mut setup = Setup::bare().env(vec![("OPENCLAWMU_ADMIN_KEY".to_owned(), key.to_owned())]);
    setup.admin.push("keys = [\"env:OPENCLAWMU_ADMIN_KEY\"]".to_owned());
    let gateway = Gateway::start(setup.line("[log]\nformat = \"json\"\naccess = \"stdout\"")).await;
    let told = || {
        gateway.stdout().lines().any(|line| line.contains("\"/readyz\"") && serde_json::from_str::<Value>(line).is_ok())
    };
    until_true("the access log is on standard output", told).await;
}
