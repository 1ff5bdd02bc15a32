//! `POST /v1/sandbox/exec`: what a run is given and answers, what it costs a quota, and who may not have one. What holds the code
//! in is tried by the attacks of the sandbox crate. They need bubblewrap, and root, dockerd, containerd, runc and busybox for the engine.

#[path = "../../sandbox/tests/engine/mod.rs"]
mod engine;

use std::time::Duration;

use openclawmu_tests::wait::until_true;
use openclawmu_tests::{Behaviour, Client, Reply, Scene, Setup, Upstream, sdk};
use serde_json::{Value, json};

async fn exec(client: &Client, body: Value) -> Reply {
    client.post("/v1/sandbox/exec", &body).await
}

fn shell(script: &str) -> Value {
    json!({ "command": ["sh", "-c", script] })
}

async fn scene_with(lines: &str, quota: Value) -> Scene {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line(lines);
    Scene::of(upstream, setup, quota).await
}

/// How many processes have this text in their command lines.
fn processes_with(text: &str) -> usize {
    let lines = std::fs::read_dir("/proc").expect("a /proc").flatten().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        std::fs::read(entry.path().join("cmdline")).ok()
    });
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

/// X-39, M-01: the contract's fields, the proof, and the row.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_answers_in_the_contracts_words_and_is_a_row_of_whole_seconds() {
    let scene = Scene::with_quota(json!({ "sandbox_seconds_per_day": 600 })).await;
    let told = exec(&scene.client, shell("echo out; echo err >&2; exit 7")).await.ok();
    assert_eq!((&told["exit_code"], &told["signal"], &told["outcome"]), (&json!(7), &Value::Null, &json!("exited")));
    assert_eq!((&told["stdout"], &told["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!(
        (&told["stdout_bytes"], &told["stderr_bytes"], &told["truncated"]),
        (&json!(4), &json!(4), &json!(false))
    );
    assert_eq!((&told["backend"], &told["artifacts"]), (&json!("bubblewrap"), &json!({})));
    assert_eq!(told["isolation"]["seccomp"], 2, "{told}");
    assert!(told["isolation"]["uid_map"].as_str().is_some_and(|map| map.starts_with("1000 ")), "{told}");
    assert!(
        told["id"].is_string() && told["duration_ms"].is_u64() && told["isolation"]["limits"].is_object(),
        "{told}"
    );
    let quota = scene.client.get("/v1/quota").await.ok();
    let seconds = quota["sandbox_seconds_per_day"]["posted"].as_u64().expect("a count");
    assert!(seconds >= 1 && quota["sandbox_seconds_per_day"]["pending"] == 0, "{quota}");
    assert_eq!(quota["sandbox_seconds_per_day"]["remaining"], 600 - seconds);
    let rows = scene.rows_once(1).await;
    assert_eq!(rows[0].cost, 0);
    let usage = scene.client.get("/v1/usage").await.ok();
    assert_eq!(usage["total"]["sandbox_seconds"], seconds, "{usage}");
    assert_eq!(usage["rows"][0]["model"], "sandbox", "{usage}");
    assert_eq!(usage["total"]["input_tokens"], 0, "{usage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_files_and_artifacts_go_in_and_come_out() {
    let scene = Scene::new().await;
    for (language, code) in
        [("python", "print(6 * 7)"), ("javascript", "console.log(6 * 7)"), ("bash", "echo $((6 * 7))")]
    {
        let told = exec(&scene.client, json!({ "code": code, "language": language })).await.ok();
        assert_eq!((&told["stdout"], &told["exit_code"]), (&json!("42\n"), &json!(0)), "{language}: {told}");
    }
    let body = json!({
        "command": ["sh", "-c", "cat in/a.txt - > out.txt; printf '\\377\\000' > out.bin; printf '\\377'; echo $GIVEN"],
        "files": { "in/a.txt": "from a file\n", "in/b.bin": { "base64": "AP8=" } },
        "stdin": "from stdin\n",
        "env": { "GIVEN": "yes" },
        "artifacts": ["out.*", "none/**"],
    });
    let told = exec(&scene.client, body).await.ok();
    let wanted = json!({ "out.txt": "from a file\nfrom stdin\n", "out.bin": { "base64": "/wA=" } });
    assert_eq!(told["artifacts"], wanted, "{told}");
    assert_eq!(told["stdout_base64"], "/3llcwo=", "{told}");
    // What a run leaves is there for the next one, and for nobody else.
    assert_eq!(exec(&scene.client, shell("cat out.txt | head -1")).await.ok()["stdout"], "from a file\n");
    let other = scene.admin().tenant("rival", json!({})).await;
    let seen = exec(&scene.client.with_token(&other.token), shell("ls -A")).await.ok();
    assert_eq!(seen["stdout"], "", "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_as_events_while_the_command_runs() {
    let scene = Scene::new().await;
    let request = scene.client.build(reqwest::Method::POST, "/v1/sandbox/exec").header("accept", "text/event-stream");
    let reply =
        Reply::of(request.json(&shell("echo one; echo two >&2; exit 3")).send().await.expect("an answer")).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let text = reply.text();
    let events: Vec<(&str, Value)> = text
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .map(|event| {
            let (name, data) = event.split_once("\ndata: ").expect("a name and data");
            (name.trim_start_matches("event: "), serde_json::from_str(data).expect("JSON"))
        })
        .collect();
    let (last, before) = events.split_last().expect("events");
    assert!(before.contains(&("stdout", json!({ "text": "one\n" }))), "{text}");
    assert!(before.contains(&("stderr", json!({ "text": "two\n" }))), "{text}");
    assert_eq!((last.0, &last.1["exit_code"], &last.1["stdout"]), ("result", &json!(3), &json!("one\n")), "{text}");
}

/// X-05, X-10: how it ends is told, and is no error.
#[tokio::test(flavor = "multi_thread")]
async fn time_is_limited_and_wishes_are_narrowed() {
    let scene = Scene::new().await;
    let mut body = shell("sleep 60");
    body["timeout_seconds"] = json!(1);
    let told = exec(&scene.client, body).await.ok();
    assert_eq!((&told["outcome"], &told["exit_code"]), (&json!("timeout"), &json!(137)), "{told}");
    assert_eq!(exec(&scene.client, shell("kill -9 $$")).await.ok()["signal"], 9);
    for (body, field) in [
        (json!({ "command": ["true"], "timeout_seconds": 100_000 }), "timeout_seconds"),
        (json!({ "command": ["true"], "limits": { "memory_mb": 1_000_000 } }), "limits.memory_mb"),
        (json!({ "command": ["true"], "files": { "../out": "x" } }), "files"),
        (json!({ "command": ["true"], "privileged": true }), "privileged"),
    ] {
        let refused = exec(&scene.client, body).await;
        refused.refused(400, "invalid_request_error", "invalid_value");
        assert!(
            refused.json()["error"]["param"].as_str().is_some_and(|param| param.contains(field)),
            "{}",
            refused.text()
        );
    }
    let network = json!({ "command": ["true"], "network": { "allow": ["example.com:443"] } });
    exec(&scene.client, network).await.refused(403, "permission_error", "network_not_allowed");
}

/// Q-01: seconds are reserved before anything runs, and given back.
#[tokio::test(flavor = "multi_thread")]
async fn over_its_seconds_nothing_runs() {
    let scene = Scene::with_quota(json!({ "sandbox_seconds_per_day": 9 })).await;
    let within = |seconds: u64, script: &str| json!({ "command": ["sh", "-c", script], "timeout_seconds": seconds });
    let refused = exec(&scene.client, within(10, "echo > ran")).await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    assert!(refused.header("retry-after").is_some() && refused.header("x-should-retry") == Some("false"));
    assert_eq!(exec(&scene.client, within(9, "true")).await.status, 200, "all that there is");
    let mut with_files = within(9, "echo > ran");
    with_files["files"] = json!({ "placed": "x" });
    exec(&scene.client, with_files).await.refused(429, "insufficient_quota", "insufficient_quota");
    let listed = exec(&scene.client, within(1, "ls")).await.ok();
    assert_eq!(listed["stdout"], "", "what was not used was given back, and what was refused left nothing");
    assert_eq!(exec(&scene.client, within(1, "sleep 60")).await.ok()["outcome"], "timeout");
    assert_eq!(
        exec(&scene.client, within(6, "true")).await.status,
        200,
        "a run is billed no second that it had not reserved"
    );
    scene.rows_once(4).await;
}

/// X-16: the workspace is held to the tenant's storage, softly while a run writes, and no run begins in a full one.
#[tokio::test(flavor = "multi_thread")]
async fn over_its_storage_a_run_is_killed_and_the_next_is_507() {
    let upstream = Upstream::start().await;
    // A file system that holds it by itself kills nobody.
    let setup = Setup::with(&upstream).line("[sandbox]\ndisk = \"sampler\"");
    let scene = Scene::of(upstream, setup, json!({ "storage_bytes": 8 << 20 })).await;
    let told = exec(&scene.client, shell("echo small > small")).await.ok();
    assert_eq!(told["outcome"], "exited", "{told}");
    assert_eq!(told["isolation"]["limits"]["disk"], "sampled (soft)", "what holds it is told: {told}");
    let large = json!({ "command": ["true"], "files": { "a": "x".repeat(5 << 20), "b": "x".repeat(4 << 20) } });
    exec(&scene.client, large).await.refused(507, "invalid_request_error", "storage_quota_exceeded");
    assert_eq!(exec(&scene.client, shell("ls")).await.ok()["stdout"], "small\n", "none of it was placed");
    let fill = "i=0; while :; do head -c 4000000 /dev/zero > f$i; i=$((i+1)); done";
    assert_eq!(exec(&scene.client, shell(fill)).await.ok()["outcome"], "disk_limit");
    exec(&scene.client, shell("true")).await.refused(507, "invalid_request_error", "storage_quota_exceeded");
    let neighbour = scene.admin().tenant("neighbour", json!({})).await;
    let told = exec(&scene.client.with_token(&neighbour.token), shell("echo x > file && cat file")).await.ok();
    assert_eq!(told["stdout"], "x\n");
}

/// A-05: a token without the scope, and a client secret, run nothing.
#[tokio::test(flavor = "multi_thread")]
async fn running_code_needs_its_scope() {
    let scene = Scene::new().await;
    let (_, token) = scene.admin().mint(&scene.tenant.id, &json!({ "scopes": ["inference", "workspace"] })).await;
    exec(&scene.client.with_token(&token), shell("true")).await.refused(403, "permission_error", "scope_missing");
    assert_eq!(exec(&scene.client, shell("true")).await.status, 200);
}

/// X-38: where nothing isolates, nothing runs, and the reason has a name.
#[tokio::test(flavor = "multi_thread")]
async fn without_isolation_every_run_is_503_with_the_reason() {
    for (lines, code) in [
        ("[sandbox]\nbwrap = \"/nowhere/bwrap\"", "backend_missing"),
        ("[sandbox]\nbackend = \"off\"", "backend_missing"),
        ("[sandbox]\nbwrap = \"/bin/false\"", "launch_failed"),
    ] {
        let scene = scene_with(lines, json!({})).await;
        exec(&scene.client, shell("echo > ran")).await.refused(503, "server_error", code);
        assert_eq!(scene.client.get("/v1/workspace/files").await.ok()["data"], json!([]), "{lines}");
        assert_eq!(scene.rows().len(), 0, "{lines}");
    }
}

/// X-08: whoever leaves, or dies, takes the run along.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_its_client_and_with_its_gateway() {
    let mut scene = Scene::new().await;
    for leaves in [true, false] {
        let mark = format!("leaving-{leaves}-{}", std::process::id());
        let client = scene.client.clone();
        let body = shell(&format!("sleep 300; echo {mark}"));
        let call =
            tokio::spawn(async move { client.try_post("/v1/sandbox/exec", &body).await.map(|reply| reply.status) });
        until_true("the run", || processes_with(&mark) >= 3).await;
        if leaves {
            call.abort();
        } else {
            scene.gateway.kill_9();
        }
        until_true("all of it to be gone", || processes_with(&mark) == 0).await;
    }
    scene.restarted().await;
    assert_eq!(exec(&scene.client, shell("echo again")).await.ok()["stdout"], "again\n");
}

/// However many runs a tenant asks for, it waits behind its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_waits_behind_its_own_runs_and_holds_nobody_else_up() {
    let lines = "[sandbox]\nconcurrent_runs = 2\nconcurrent_runs_per_tenant = 1\nqueue_seconds = 0";
    let scene = scene_with(lines, json!({})).await;
    let mark = format!("waiting-{}", std::process::id());
    let (client, body) = (scene.client.clone(), shell(&format!("sleep 300; echo {mark}")));
    let first = tokio::spawn(async move { client.try_post("/v1/sandbox/exec", &body).await.map(|reply| reply.status) });
    until_true("the first run", || processes_with(&mark) >= 3).await;
    exec(&scene.client, shell("true")).await.refused(429, "requests", "rate_limit_exceeded");
    let neighbour = scene.admin().tenant("neighbour", json!({})).await;
    let told = exec(&scene.client.with_token(&neighbour.token), shell("echo free")).await.ok();
    assert_eq!(told["stdout"], "free\n");
    first.abort();
    until_true("the first run's end", || processes_with(&mark) == 0).await;
    let begun = std::time::Instant::now();
    while exec(&scene.client, shell("true")).await.status != 200 {
        assert!(begun.elapsed() < Duration::from_secs(60), "its turn never came back");
    }
}

/// U-01: the operator's run is a run as any other, on the tenant's own account, and ends as the command did.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_runs_something_where_a_tenants_code_runs() {
    let scene = Scene::with_quota(json!({ "sandbox_seconds_per_day": 600 })).await;
    assert_eq!(exec(&scene.client, shell("echo of acme > mine")).await.ok()["exit_code"], 0);
    let script = "cat mine; echo $GIVEN >&2; exit 7";
    let run =
        ["sandbox", "exec", "--tenant", "acme", "--env", "GIVEN=yes", "--timeout", "20", "--", "sh", "-c", script];
    let said = scene.gateway.cli(&run).await;
    assert_eq!(said.status.code(), Some(7), "{said:?}");
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("of acme\n", "yes\n"));
    let told =
        scene.gateway.cli(&["sandbox", "exec", "--json", "--tenant", "acme", "--", "python3", "-c", "print(1)"]).await;
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    let told: Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!((&told["stdout"], &told["isolation"]["seccomp"]), (&json!("1\n"), &json!(2)), "{told}");
    let late = ["sandbox", "exec", "--tenant", "acme", "--timeout", "1", "--", "sleep", "60"];
    let late = scene.gateway.cli(&late).await;
    assert!(late.status.code() == Some(137) && late.stderr.contains("timeout"), "{late:?}");
    // A refusal is no end of a run.
    for (tenant, code) in [("nobody", "no such tenant"), ("acme", "not granted")] {
        let refused = ["sandbox", "exec", "--tenant", tenant, "--allow", "example.com:443", "--", "true"];
        let refused = scene.gateway.cli(&refused).await;
        assert!(refused.status.code() == Some(1) && refused.stderr.contains(code), "{refused:?}");
    }
    scene.rows_once(4).await;
    let quota = scene.client.get("/v1/quota").await.ok();
    assert!(quota["sandbox_seconds_per_day"]["posted"].as_u64().is_some_and(|seconds| seconds >= 4), "{quota}");
    let lines = openclawmu_tests::audit::done(&scene.gateway.data().join("audit"));
    let runs: Vec<&Value> = lines.iter().filter(|line| line["action"] == "sandbox.exec").collect();
    assert_eq!(runs.len(), 3, "{lines:#?}");
    assert_eq!((&runs[0]["tenant"], &runs[0]["actor"]["kind"]), (&json!("acme"), &json!("local")));
    assert_eq!(runs[1]["target"], told["id"]);
}

/// U-01: what a run writes is there while it runs, on the stream that it was written to, and the end is the command's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_operators_run_is_read_along_while_it_runs() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};
    let scene = Scene::new().await;
    let script = "echo one; printf '\\377\\n'; while [ ! -e go ]; do sleep 0.05; done; echo two >&2; exit 3";
    let mut command = tokio::process::Command::new(openclawmu_tests::gateway::binary());
    command.arg("--data").arg(scene.gateway.data());
    command.args(["sandbox", "exec", "--tenant", "acme", "--", "sh", "-c", script]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).kill_on_drop(true);
    let mut running = command.spawn().expect("it starts");
    let mut out = tokio::io::BufReader::new(running.stdout.take().expect("a pipe"));
    let mut lines = Vec::new();
    while lines.len() < 6 {
        out.read_until(b'\n', &mut lines).await.expect("what it wrote");
    }
    assert_eq!(lines, b"one\n\xff\n");
    // Only now does it end, so that what was read was read before.
    let go = scene.client.build(reqwest::Method::PUT, "/v1/workspace/files/go").body("");
    assert_eq!(go.send().await.expect("an answer").status(), 201);
    let mut said = String::new();
    running.stderr.take().expect("a pipe").read_to_string(&mut said).await.expect("text");
    assert_eq!((said.as_str(), running.wait().await.expect("its end").code()), ("two\n", Some(3)));
    // Who stops reading along ends the run.
    let endless = json!({ "command": ["sh", "-c", "echo begun; sleep 600"] });
    let path = "/v1/tenants/acme/sandbox/exec";
    let request = scene.admin().build(reqwest::Method::POST, path).header("accept", "text/event-stream");
    let mut reply = request.json(&endless).send().await.expect("an answer");
    assert_eq!(reply.status(), 200);
    let mut seen = String::new();
    while !seen.contains("begun") {
        seen.push_str(&String::from_utf8_lossy(&reply.chunk().await.expect("it goes on").expect("more")));
    }
    assert!(seen.starts_with("event: run\ndata: {\"id\":\"run_"), "{seen}");
    drop(reply);
    let rows = scene.rows_once(2).await;
    assert!(rows.iter().any(|row| row.outcome == "partial"), "{rows:#?}");
}

/// The example of `conf/examples/code_interpreter`: the model's code is run, and the model is told what came of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_runs_code_by_the_examples_function() {
    let scene = Scene::new().await;
    let calls = |code: &str| {
        let arguments = json!({ "language": "python", "code": code }).to_string();
        Behaviour { calls_tool: true, texts: Some(vec![arguments]), ..Behaviour::default() }
    };
    let gateway = format!("http://{}", scene.gateway.edge());
    let env = [("OPENCLAWMU_URL", gateway.as_str()), ("OPENCLAWMU_TOKEN", &scene.tenant.token), ("MODEL", "alpha")];
    let example = "code_interpreter/agent.py";
    scene.upstream.next(calls("print(6 * 7)"));
    scene.upstream.next(Behaviour::agent());
    let said = sdk::run_example(example, &["What is six times seven?"], &env).await;
    assert!(said.contains(r#""exit_code": 0"#) && said.contains(r#""stdout": "42\n""#), "{said}");
    scene.upstream.next(calls("1 / 0"));
    scene.upstream.next(Behaviour::agent());
    let said = sdk::run_example(example, &["Divide."], &env).await;
    assert!(said.contains(r#""exit_code": 1"#) && said.contains("ZeroDivisionError"), "{said}");
    scene.rows_once(6).await;
}

/// X-01, X-39: a container holds the run where the operator says so, and a run chooses only among what is configured.
#[tokio::test(flavor = "multi_thread")]
async fn containers_run_what_the_configuration_gives_them() {
    let engine = engine::Engine::start().await;
    let lines = format!(
        "[sandbox]\nbackend = \"docker\"\nother_backends = [\"bubblewrap\"]\n[sandbox.docker]\nsocket = \"{}\"\nimage = \"{}\"\n\
         [sandbox.network]\nallow = [\"allowed.test:443\"]\n",
        engine.socket().display(),
        engine::IMAGE
    );
    let mut scene = scene_with(&lines, json!({})).await;
    let mut body = shell("cat in; cat > out; id -u; exit 3");
    body["files"] = json!({ "in": "given\n" });
    body["stdin"] = json!("kept");
    body["artifacts"] = json!(["out"]);
    let told = exec(&scene.client, body).await.ok();
    assert_eq!((&told["backend"], &told["exit_code"]), (&json!("docker"), &json!(3)), "{told}");
    assert!(told["stdout"].as_str().is_some_and(|text| text.starts_with("given\n2000")), "its own user: {told}");
    assert_eq!((&told["artifacts"]["out"], &told["isolation"]["seccomp"]), (&json!("kept"), &json!(2)), "{told}");
    let mut chosen = shell("cat out");
    chosen["backend"] = json!("bubblewrap");
    let told = exec(&scene.client, chosen).await.ok();
    assert_eq!((&told["backend"], &told["stdout"]), (&json!("bubblewrap"), &json!("kept")), "the same files: {told}");
    let said = scene.gateway.cli(&["sandbox", "exec", "--tenant", "acme", "--json", "--", "cat", "out"]).await;
    let said: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((&said["backend"], &said["stdout"]), (&json!("docker"), &json!("kept")), "from another runtime, too");

    // The way out of a container is the same, and as narrow.
    let ask =
        "printf 'CONNECT other.test:443 HTTP/1.1\\r\\nHost: other.test:443\\r\\n\\r\\n' | nc 127.0.0.1 3128 | head -1";
    let mut asking = shell(ask);
    asking["network"] = json!({ "allow": ["allowed.test:443"] });
    let told = exec(&scene.client, asking).await.ok();
    assert!(told["stdout"].as_str().is_some_and(|text| text.contains("403")), "{told}");
    let folder = scene.gateway.data().join("audit");
    until_true("the line", || {
        let lines = openclawmu_tests::audit::done(&folder);
        lines.iter().any(|line| line["action"] == "sandbox.connect" && line["detail"]["host"] == "other.test")
    })
    .await;

    // X-08
    let mark = format!("contained-{}", std::process::id());
    let (client, body) = (scene.client.clone(), shell(&format!("sleep 300; echo {mark}")));
    let call = tokio::spawn(async move { client.try_post("/v1/sandbox/exec", &body).await.map(|reply| reply.status) });
    until_true("the run", || processes_with(&mark) >= 2).await;
    scene.gateway.kill_9();
    until_true("all of it to be gone", || processes_with(&mark) == 0).await;
    call.abort();
    scene.restarted().await;
    assert_eq!(exec(&scene.client, shell("echo again")).await.ok()["stdout"], "again\n");
}
