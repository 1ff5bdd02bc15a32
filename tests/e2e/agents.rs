//! Tenants' own agents: `openclaw/<agent>` in the place of a model, what they keep, and that each of their steps is admitted, billed and
//! held to the quota like any other call.

use http::Method;
use openclawmu_tests::client::chat;
use openclawmu_tests::money::{cost, usd};
use openclawmu_tests::wait::until;
use openclawmu_tests::{Behaviour, Client, Fault, Gate, Reply, Scene, Setup, Upstream, ledger, sdk};
use serde_json::{Value, json};

/// A message to an agent in a session.
fn say(agent: &str, session: &str, text: &str) -> Value {
    let mut body = chat(&format!("openclaw/{agent}"), text, 20);
    body["metadata"] = json!({ "session": session });
    body
}

/// An answer that calls the agent's first tool with these arguments.
fn calls(arguments: &Value) -> Behaviour {
    Behaviour { calls_tool: true, texts: Some(vec![arguments.to_string()]), ..Behaviour::default() }
}

/// An answer of these words.
fn says(text: &str) -> Behaviour {
    Behaviour { texts: Some(vec![text.to_owned()]), ..Behaviour::default() }
}

async fn make(client: &Client, body: &Value) -> Value {
    let reply = client.post("/v1/agents", body).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

async fn send(client: &Client, method: Method, path: &str, body: &str) -> Reply {
    let request = client.build(method, path).body(body.to_owned());
    Reply::of(request.send().await.expect("an answer")).await
}

fn text(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("a text in {answer}"))
}

/// N-03: made, read, changed, removed; each mistake names its field
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_made_changed_and_removed_and_what_is_wrong_is_named() {
    let scene = Scene::new().await;
    let client = &scene.client;
    let made =
        make(client, &json!({ "name": "helper", "model": "alpha", "instructions": "Be kind.", "tools": ["sandbox"] }))
            .await;
    assert_eq!(
        (&made["name"], &made["tools"], &made["builtin"]),
        (&json!("helper"), &json!(["sandbox"]), &json!(false))
    );
    let listed = client.get("/v1/agents").await.ok();
    let names: Vec<&Value> = listed["data"].as_array().expect("a list").iter().map(|agent| &agent["name"]).collect();
    assert_eq!(names, [&json!("default"), &json!("helper")], "{listed}");
    assert_eq!(listed["data"][0]["builtin"], true, "{listed}");
    let changed = send(client, Method::PATCH, "/v1/agents/helper", r#"{"model":null,"max_steps":3}"#).await.ok();
    assert_eq!((&changed["model"], &changed["instructions"]), (&Value::Null, &json!("Be kind.")), "{changed}");
    assert_eq!(client.get("/v1/agents/helper").await.ok(), changed);
    let on_disk = scene.gateway.data().join("tenants/acme/agents/helper/AGENTS.md");
    assert_eq!(std::fs::read_to_string(&on_disk).expect("the contract's place"), "Be kind.");
    for (body, field) in [
        (json!({}), "name"),
        (json!({ "name": "Helper" }), "name"),
        (json!({ "name": "a", "owner": "b" }), "owner"),
        (json!({ "name": "a", "tools": ["shell"] }), "tools[0]"),
        (json!({ "name": "a", "max_steps": 0 }), "max_steps"),
        (json!({ "name": "a", "model": "openclaw/helper" }), "model"),
    ] {
        let refused = client.post("/v1/agents", &body).await;
        refused.refused(400, "invalid_request_error", "invalid_value");
        assert_eq!(refused.json()["error"]["param"], field, "{body}: {}", refused.text());
    }
    assert_eq!(client.post("/v1/agents", &json!({ "name": "helper" })).await.status, 409);
    assert_eq!(send(client, Method::PATCH, "/v1/agents/helper", r#"{"name":"other"}"#).await.status, 400);
    assert_eq!(send(client, Method::DELETE, "/v1/agents/helper", "").await.ok()["deleted"], true);
    assert!(!on_disk.exists());
    assert_eq!(client.get("/v1/agents/helper").await.status, 404);
    client.chat(&chat("openclaw/helper", "hello", 5)).await.refused(404, "invalid_request_error", "model_not_found");
    // The scopes that a token has are all that its agents have.
    let (_, narrow) = scene.admin().mint("acme", &json!({ "scopes": ["inference"] })).await;
    let narrow = client.with_token(&narrow);
    narrow.chat(&chat("openclaw/default", "hello", 5)).await.refused(403, "permission_error", "scope_missing");
    narrow.get("/v1/agents").await.refused(403, "permission_error", "scope_missing");
    let (_, talks) = scene.admin().mint("acme", &json!({ "scopes": ["inference", "agents"] })).await;
    let talks = client.with_token(&talks);
    make(client, &json!({ "name": "runner", "tools": ["sandbox"] })).await;
    talks.chat(&chat("openclaw/runner", "hello", 5)).await.refused(403, "permission_error", "scope_missing");
    talks.chat(&chat("openclaw/default", "hello", 5)).await.ok();
    assert_eq!(scene.upstream.calls(), 1, "what was refused reached nobody");
    // What a tenant keeps is no page's, and an agent speaks one dialect.
    let secret = client.post("/v1/client_secrets", &json!({})).await.json();
    let page = client.with_token(secret["value"].as_str().expect("a secret"));
    page.chat(&chat("openclaw/default", "hello", 5)).await.refused(403, "permission_error", "not_for_client_secrets");
    let asked =
        json!({ "model": "openclaw/default", "max_tokens": 5, "messages": [{ "role": "user", "content": "hello" }] });
    let refused = client.post("/v1/messages", &asked).await;
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    for (path, body) in [
        ("/v1/responses", json!({ "model": "openclaw/default", "input": "hello" })),
        ("/v1/completions", json!({ "model": "openclaw/default", "prompt": "hello" })),
        ("/v1/embeddings", json!({ "model": "openclaw/default", "input": "hello" })),
    ] {
        let refused = client.post(path, &body).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("model")), "{path}");
    }
    assert_eq!(scene.upstream.calls(), 1);
}

/// K1, M-01: the official client, unmodified; what its agent's steps cost is what the provider bills
#[tokio::test(flavor = "multi_thread")]
async fn the_official_client_talks_to_an_agent_whole_and_streaming() {
    let scene = Scene::new().await;
    make(&scene.client, &json!({ "name": "helper", "model": "alpha", "instructions": "Be kind." })).await;
    scene.upstream.always(says("It is done."));
    scene.upstream.next(calls(&json!({})));
    scene.upstream.next(says("Whole."));
    scene.upstream.next(calls(&json!({})));
    let url = format!("http://{}/v1", scene.gateway.edge());
    let said = sdk::run_python("agent_of_tenant.py", &[&url, &scene.tenant.token, "openclaw/helper"]).await;
    assert_eq!(said["whole"]["text"], "Whole.", "{said}");
    assert_eq!(said["stream"]["text"], "It is done.", "{said}");
    assert_eq!(said["stream"]["finish"], "stop", "{said}");
    let bills = scene.upstream.bills();
    assert_eq!(bills.len(), 4, "{bills:?}");
    for (half, answer) in bills.chunks(2).zip(["whole", "stream"]) {
        let tokens: u64 = half.iter().map(|bill| bill.prompt + bill.completion).sum();
        assert_eq!(said[answer]["tokens"], tokens, "the sum over its steps: {said}");
    }
    scene.rows_once(4).await;
    assert_eq!(scene.balanced().await.posted, bills.iter().map(cost).sum::<i128>());
    assert_eq!(said["headers"], json!(["alpha", true, true]), "{said}");
    let first = scene.upstream.exchanges()[0].json();
    assert_eq!(first["messages"][0]["role"], "system", "{first}");
    assert!(first["messages"][0]["content"].as_str().is_some_and(|text| text.starts_with("Be kind.")), "{first}");
    let again = scene.upstream.exchanges()[1].json();
    let roles: Vec<&Value> = again["messages"].as_array().expect("a list").iter().map(|one| &one["role"]).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool"], "{again}");
    assert!(ledger::labels(&scene.gateway.data(), "acme").iter().all(|(_, tags)| tags.contains("agent=helper")));
}

/// A session goes on over a restart, and one that was killed within a turn is readable and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_persists_and_survives_a_kill_within_a_turn() {
    let mut scene = Scene::new().await;
    scene.gateway.leave_unsettled();
    scene.upstream.always(says("Noted."));
    scene.client.chat(&say("default", "s 1", "My name is Ann.")).await.ok();
    scene.gateway.terminate().await;
    scene.restarted().await;
    scene.client.chat(&say("default", "s 1", "Who am I?")).await.ok();
    let told = scene.upstream.last().json().to_string();
    assert!(told.contains("My name is Ann.") && told.contains("Noted."), "{told}");
    let listed = scene.client.get("/v1/sessions").await.ok();
    assert_eq!(
        (&listed["data"][0]["id"], listed["data"].as_array().map(Vec::len)),
        (&json!("s 1"), Some(1)),
        "{listed}"
    );
    let page = scene.client.get("/v1/sessions/s%201?limit=3").await.ok();
    assert_eq!((page["messages"].as_array().map(Vec::len), &page["next"]), (Some(3), &json!(3)), "{page}");
    let rest = scene.client.get("/v1/sessions/s%201?after=3").await.ok();
    assert_eq!((&rest["messages"][0]["content"], &rest["has_more"]), (&json!("Noted."), &json!(false)), "{rest}");
    // Killed while the model speaks.
    let gate = Gate::new();
    scene.upstream.next(Behaviour::gated(5, 2, &gate));
    let calls = scene.upstream.calls();
    let (client, body) = (scene.client.clone(), say("default", "s 1", "Are you there?"));
    let asked = tokio::spawn(async move { client.try_post("/v1/chat/completions", &body).await });
    until("the model is asked", || async { (scene.upstream.calls() > calls).then_some(()) }).await;
    scene.gateway.kill_9();
    assert!(asked.await.expect("a task").is_err());
    scene.restarted().await;
    let kept = scene.client.get("/v1/sessions/s%201").await.ok();
    assert_eq!((kept["messages"].as_array().map(Vec::len), &kept["unreadable_lines"]), (Some(5), &json!(0)), "{kept}");
    scene.client.chat(&say("default", "s 1", "And now?")).await.ok();
    let told = scene.upstream.last().json();
    let texts = told["messages"].to_string();
    assert!(
        texts.contains("Who am I?") && !texts.contains("Are you there?"),
        "a turn without an end is not told: {texts}"
    );
    assert_eq!(send(&scene.client, Method::DELETE, "/v1/sessions/s%201", "").await.ok()["deleted"], true);
    assert_eq!(scene.client.get("/v1/sessions/s%201").await.status, 404);
    gate.open();
}

/// M-01: what it writes to its memory is there for its tenant, in the next prompt, and nowhere else
#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_remembers_is_seen_and_can_be_changed() {
    let scene = Scene::new().await;
    let client = &scene.client;
    scene.upstream.always(says("Done."));
    // The first tool of `memory` lists; the model names the one that it calls.
    make(client, &json!({ "name": "noter", "model": "alpha", "tools": ["memory"] })).await;
    let put = send(client, Method::PUT, "/v1/memory/MEMORY.md?agent=noter", "Ann likes tea.").await;
    assert_eq!((put.status, put.json()["size_bytes"].as_u64()), (201, Some(14)), "{}", put.text());
    assert_eq!(send(client, Method::PUT, "/v1/memory/memory/a%20b.md?agent=noter", "more").await.status, 201);
    scene.upstream.next(calls(&json!({})));
    client.chat(&chat("openclaw/noter", "What do you know?", 20)).await.ok();
    let told = scene.upstream.last().json()["messages"].clone();
    assert!(told[0]["content"].as_str().is_some_and(|text| text.ends_with("Ann likes tea.")), "{told}");
    assert!(told[3]["content"].as_str().is_some_and(|gave| gave.contains("memory/a%20b.md")), "{told}");
    let listed = client.get("/v1/memory?agent=noter").await.ok();
    let paths: Vec<&Value> = listed["data"].as_array().expect("a list").iter().map(|file| &file["path"]).collect();
    assert_eq!(paths, [&json!("MEMORY.md"), &json!("memory/a%20b.md")], "{listed}");
    assert_eq!(client.get("/v1/memory").await.ok()["data"], json!([]), "another agent's is another's");
    assert_eq!(client.get("/v1/memory/memory/a%20b.md?agent=noter").await.text(), "more");
    assert_eq!(send(client, Method::DELETE, "/v1/memory/memory/a%20b.md?agent=noter", "").await.status, 204);
    assert_eq!(client.get("/v1/memory/memory/a%20b.md?agent=noter").await.status, 404);
    // What it writes itself.
    let writes = |path: &str| Behaviour {
        tool: Some("memory_write"),
        ..calls(&json!({ "path": path, "content": "Green, in the morning." }))
    };
    scene.upstream.next(writes("memory/tea.md"));
    let answer = client.chat(&chat("openclaw/noter", "Note that.", 20)).await.ok();
    assert_eq!((text(&answer), &answer["openclawmu"]["tools"]), ("Done.", &json!(["memory_write"])), "{answer}");
    assert_eq!(client.get("/v1/memory/memory/tea.md?agent=noter").await.text(), "Green, in the morning.");
    // P-01: another agent's place is no place of its memory.
    for path in ["../default/MEMORY.md", "AGENTS.md", "/etc/passwd", "memory/../../default/MEMORY.md"] {
        scene.upstream.next(writes(path));
        client.chat(&chat("openclaw/noter", "Note that there.", 20)).await.ok();
        let told = scene.upstream.last().json()["messages"][3]["content"].to_string();
        assert!(told.contains("error"), "{path}: {told}");
    }
    assert_eq!(client.get("/v1/memory").await.ok()["data"], json!([]));
    assert_eq!(client.get("/v1/agents/noter").await.ok()["instructions"], "");
    for path in ["AGENTS.md", "agent.json", "sessions/x.md", "memory/x.txt", "..%2fdefault%2fMEMORY.md"] {
        let reply = send(client, Method::PUT, &format!("/v1/memory/{path}?agent=noter"), "x").await;
        assert_eq!(reply.status, 400, "{path}: {}", reply.text());
    }
    let long = send(client, Method::PUT, "/v1/memory/MEMORY.md?agent=noter", &"x".repeat(70_000)).await;
    assert_eq!(long.status, 400, "{}", long.text());
}

/// X-01, M-01: what it runs, it runs in the sandbox, on the tenant's files, as a row of the tenant's seconds
#[tokio::test(flavor = "multi_thread")]
async fn code_of_an_agent_runs_in_the_sandbox_and_is_metered() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "1000", "sandbox_seconds_per_day": 60 })).await;
    let client = &scene.client;
    make(client, &json!({ "name": "coder", "model": "alpha", "tools": ["sandbox"] })).await;
    scene.upstream.always(says("Forty-two."));
    let code = json!({ "language": "python", "code": "print(6 * 7); open('left.txt', 'w').write('by the agent')" });
    scene.upstream.next(calls(&code));
    let answer = client.chat(&chat("openclaw/coder", "What is six times seven?", 200)).await.ok();
    assert_eq!(text(&answer), "Forty-two.", "{answer}");
    assert_eq!(answer["openclawmu"]["tools"], json!(["run_code"]), "{answer}");
    let told = scene.upstream.last().json()["messages"].clone();
    let gave: Value = serde_json::from_str(told[2]["content"].as_str().expect("what the tool gave")).expect("JSON");
    assert_eq!((&gave["exit_code"], &gave["stdout"]), (&json!(0), &json!("42\n")), "{told}");
    assert_eq!(client.get("/v1/workspace/files/left.txt").await.text(), "by the agent");
    scene.rows_once(3).await;
    let quota = client.get("/v1/quota").await.ok();
    let used = quota["sandbox_seconds_per_day"]["posted"].as_u64().expect("a count");
    assert!(used >= 1, "{quota}");
    // What is left does not cover another run: the turn ends with what the caller of a run would be told.
    scene.upstream.next(calls(&code));
    let refused = client.chat(&chat("openclaw/coder", "And again?", 200)).await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
}

/// Q-01: a loop is stopped exactly, and never a cent past; before a stream begins it is a refusal, behind that an error event
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_stops_a_loop_at_the_step_that_it_does_not_cover() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "1000" })).await;
    let client = &scene.client;
    make(client, &json!({ "name": "looper", "model": "flat", "tools": ["memory"], "max_steps": 32 })).await;
    // It calls for ever; `flat` costs 10,000 nano-dollars a token of the answer alone, and each answer has one.
    scene.upstream.always(calls(&json!({})));
    let cap = 10_000 * 7 + 10_000 * 4;
    scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": usd(cap) } })).await;
    let mut body = chat("openclaw/looper", "Go on.", 5);
    let refused = client.chat(&body).await;
    refused.refused(429, "insufficient_quota", "insufficient_quota");
    let billed: i128 = scene.upstream.bills().iter().map(cost).sum();
    let spent = scene.balanced().await;
    assert_eq!((spent.posted, spent.posted <= cap), (billed, true), "{spent:?}");
    let steps = scene.upstream.calls();
    assert!(steps > 2, "it did go on: {steps}");
    // A step more would have passed the cap.
    let each = billed / i128::try_from(steps).expect("small");
    assert!(spent.posted + 5 * 10_000 > cap && each > 0, "{spent:?} {steps}");
    // The same once a stream has begun.
    scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": usd(cap + each) } })).await;
    body["stream"] = json!(true);
    let mut stream = client.stream(&body).await;
    let events = stream.rest().await;
    let last = events.last().expect("an event").json();
    assert_eq!(last["error"]["code"], "insufficient_quota", "{last}");
    assert!(!events.iter().any(openclawmu_tests::sse::Event::done), "what broke off has no [DONE]");
    assert!(events.iter().any(|event| event.data.contains("\"tool\"")), "its steps are noted");
    assert!(scene.balanced().await.posted <= cap + each);
}

/// The bound on steps: the last one calls nothing, and says that it would have gone on.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_has_its_steps_and_no_more() {
    let scene = Scene::new().await;
    make(&scene.client, &json!({ "name": "looper", "model": "alpha", "tools": ["memory"], "max_steps": 3 })).await;
    scene.upstream.always(calls(&json!({})));
    let answer = scene.client.chat(&say("looper", "s", "Go on.")).await.ok();
    assert_eq!((scene.upstream.calls(), &answer["choices"][0]["finish_reason"]), (3, &json!("length")), "{answer}");
    assert_eq!(scene.upstream.last().json()["tool_choice"], "none");
    assert_eq!(answer["openclawmu"]["steps"], 3, "{answer}");
    // The session goes on from there.
    scene.upstream.always(says("Yes."));
    assert_eq!(text(&scene.client.chat(&say("looper", "s", "Still there?")).await.ok()), "Yes.");
}

/// M-02: whoever leaves ends the turn: its upstream is cut, and no further step is taken
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_turn() {
    let scene = Scene::new().await;
    make(&scene.client, &json!({ "name": "looper", "model": "alpha", "tools": ["memory"] })).await;
    let gate = Gate::new();
    scene.upstream.next(calls(&json!({})));
    scene.upstream.always(Behaviour::gated(50, 3, &gate));
    let mut stream = scene.client.stream(&chat("openclaw/looper", "Go on.", 200)).await;
    assert_eq!(stream.texts(3).await.len(), 3);
    drop(stream);
    let rows = scene.rows_once(2).await;
    assert!(rows.iter().any(|row| row.outcome == "partial"), "{rows:#?}");
    assert_eq!(scene.settled().await.pending, 0);
    assert_eq!(scene.upstream.calls(), 2);
    gate.open();
}

/// S8-06, M-03: a model that breaks off is no answer, before a stream begins or within one; what it cost is billed once
#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_breaks_off_is_no_answer() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour::fault(Fault::CutAfter(2)));
    let body = say("default", "s", "Go on.");
    let refused = scene.client.chat(&body).await;
    assert_eq!((refused.status, refused.openai_error().0.as_str()), (502, "upstream_error"), "{}", refused.text());
    let events = scene.client.stream(&body).await.rest().await;
    let last = events.last().expect("an event").json();
    assert_eq!(last["error"]["type"], "upstream_error", "{last}");
    assert!(!events.iter().any(openclawmu_tests::sse::Event::done));
    scene.upstream.always(Behaviour::status(503));
    assert!(matches!(scene.client.chat(&body).await.status, 502 | 503));
    scene.rows_once(3).await;
    assert_eq!(scene.settled().await.pending, 0);
    // The session goes on without what came to nothing.
    scene.upstream.always(says("Here."));
    assert_eq!(text(&scene.client.chat(&body).await.ok()), "Here.");
    assert_eq!(scene.upstream.last().json()["messages"].as_array().expect("a list").len(), 2);
}

/// A-07: a revoked token ends the turn at once, its upstream cut; another token's goes on
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_turn() {
    let scene = Scene::new().await;
    let (id, token) = scene.admin().mint("acme", &json!({ "name": "doomed" })).await;
    let gate = Gate::new();
    scene.upstream.always(Behaviour::gated(6, 3, &gate));
    let doomed = scene.client.with_token(&token);
    let mut stream = doomed.stream(&chat("openclaw/default", "Go on.", 20)).await;
    let mut other = scene.client.stream(&chat("openclaw/default", "Go on.", 20)).await;
    assert_eq!((stream.texts(3).await.len(), other.texts(3).await.len()), (3, 3));
    scene.admin().revoke("acme", &id).await;
    let last = stream.rest().await.last().expect("an event").json();
    assert_eq!(last["error"]["code"], "invalid_api_key", "{last}");
    gate.open();
    assert!(other.rest().await.iter().any(openclawmu_tests::sse::Event::done));
    scene.rows_once(2).await;
}

/// P-08: what agents keep is bounded for each tenant, whose neighbours notice nothing
#[tokio::test(flavor = "multi_thread")]
async fn what_agents_keep_is_bounded_for_each_tenant() {
    let upstream = Upstream::start().await;
    let setup = Setup::with(&upstream).line("[agents]\nmax_mb_per_tenant = 1");
    let scene = Scene::of(upstream, setup, json!({})).await;
    let rival = scene.admin().tenant("rival", json!({})).await;
    let note = "x".repeat(60 << 10);
    let mut refused = None;
    for count in 0..40 {
        let reply = send(&scene.client, Method::PUT, &format!("/v1/memory/memory/{count}.md"), &note).await;
        if reply.status != 201 {
            refused = Some(reply);
            break;
        }
    }
    refused.expect("a bound").refused(507, "invalid_request_error", "agent_storage_exceeded");
    let full = scene.client.chat(&say("default", "s", "Hello.")).await;
    full.refused(507, "invalid_request_error", "agent_storage_exceeded");
    assert_eq!(scene.upstream.calls(), 0, "what can't be kept is not paid for");
    scene.client.chat(&chat("openclaw/default", "Hello.", 5)).await.ok();
    scene.client.with_token(&rival.token).chat(&say("default", "s", "Hello.")).await.ok();
    assert_eq!(send(&scene.client, Method::DELETE, "/v1/memory/memory/0.md", "").await.status, 204);
    scene.client.chat(&say("default", "s", "Hello.")).await.ok();
}

/// B-06, I-06: what agents keep is in a tenant's backup, and gone with the tenant
#[tokio::test(flavor = "multi_thread")]
async fn agents_are_in_a_tenants_backup_and_gone_with_the_tenant() {
    let scene = Scene::new().await;
    scene.upstream.always(says("Noted."));
    make(&scene.client, &json!({ "name": "helper", "model": "alpha", "instructions": "Be kind." })).await;
    scene.client.chat(&say("helper", "s", "My name is Ann.")).await.ok();
    send(&scene.client, Method::PUT, "/v1/memory/MEMORY.md?agent=helper", "Ann likes tea.").await;
    let to = scene.gateway.dir().join("copies");
    std::fs::create_dir(&to).expect("a directory");
    let to = to.to_str().expect("UTF-8");
    let made = scene.gateway.cli(&["tenants", "backup", "acme", "--to", to, "--json"]).await.json();
    assert_eq!(made["backup"]["id"], "000001", "{made}");
    let from = format!("{to}/tenants/acme");
    let restored = scene.gateway.cli(&["tenants", "restore", "--from", &from, "--as", "copy", "--json"]).await;
    assert!(restored.ok().contains("copy"));
    let copy = scene.gateway.data().join("tenants/copy/agents/helper");
    for (file, what) in
        [("AGENTS.md", "Be kind."), ("MEMORY.md", "Ann likes tea."), ("sessions/s.jsonl", "My name is Ann.")]
    {
        let kept = std::fs::read_to_string(copy.join(file)).expect("what was backed up");
        assert!(kept.contains(what), "{file}: {kept}");
    }
    let deleted = scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert!(matches!(deleted.status, 200 | 204), "{}", deleted.text());
    assert!(!scene.gateway.data().join("tenants/acme").exists());
}
