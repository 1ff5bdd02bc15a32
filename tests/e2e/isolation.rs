//! One tenant's token opens nothing of another's, and learns nothing of it.

use std::sync::Arc;

use http::Method;
use openclawmu_tests::client::{Client, chat};
use openclawmu_tests::dice::Dice;
use openclawmu_tests::{Behaviour, Gate, Reply, Scene, Setup, Upstream, times, upload};
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// I-01, for the routes that exist
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_token_sees_and_spends_only_its_own() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({ "usd_per_day": "7" })).await;
    let rival = scene.client.with_token(&other.token);
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("flat", "canary-of-acme", 10)).await.ok();
    scene.rows_once(1).await;
    let quota = rival.get("/v1/quota").await.ok();
    let budget = openclawmu_tests::admin::budget_of(&quota, "usd_per_day");
    assert_eq!((budget.cap, budget.posted), (Some(7_000_000_000), 0), "{quota}");
    let usage = rival.get("/v1/usage").await.ok();
    assert_eq!(usage["rows"], json!([]), "{usage}");
    for query in ["tenant=acme", "tenant_id=acme", "token=*", "group_by=token", "group_by=model,token"] {
        let reply = rival.get(&format!("/v1/usage?{query}")).await;
        assert!(matches!(reply.status, 200 | 400), "{query}: {}", reply.text());
        assert!(
            !reply.text().contains("flat")
                && !reply.text().contains("acme")
                && !reply.text().contains(&scene.tenant.token_id),
            "{query}: {}",
            reply.text()
        );
    }
    for (name, value) in [
        ("x-openclawmu-tenant", "acme"),
        ("x-tenant-id", "acme"),
        ("openai-organization", "acme"),
        ("cookie", "tenant=acme"),
    ] {
        let reply = rival.build(Method::GET, "/v1/quota").header(name, value).send().await.expect("an answer");
        assert_eq!(
            openclawmu_tests::Reply::of(reply).await.ok()["usd_per_day"]["cap"],
            quota["usd_per_day"]["cap"],
            "{name}"
        );
    }
    for path in [
        "/v1/tenants/acme",
        "/v1/tenants/acme/quota",
        "/v1/tenants/rival",
        "/v1/tenants/acme/usage",
        "/v1/tenants/acme/tokens",
    ] {
        let reply = rival.get(path).await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        assert!(!reply.text().contains("acme") || path.contains("acme"), "{path}");
    }
    rival.chat(&chat("flat", "hello", 10)).await.ok();
    assert_eq!(scene.settled().await.posted, 100_000, "a rival's request is not on acme's bill");
}

/// I-01 on the admin side: ids of one tenant under another's path
#[tokio::test(flavor = "multi_thread")]
async fn a_token_id_under_another_tenants_path_is_404_and_stays() {
    let scene = Scene::new().await;
    let other = scene.admin().tenant("rival", json!({})).await;
    let foreign = format!("/v1/tenants/acme/tokens/{}", other.token_id);
    assert_eq!(scene.admin().send(Method::DELETE, &foreign).await.status, 404);
    assert_eq!(scene.admin().post(&format!("{foreign}/rotate"), &json!({})).await.status, 404);
    scene.client.with_token(&other.token).get("/v1/quota").await.ok();
    let listed = scene.admin().get("/v1/tenants/acme/tokens").await.to_string();
    assert!(listed.contains(&scene.tenant.token_id) && !listed.contains(&other.token_id), "{listed}");
    for nobody in ["nobody", "ACME", "acme%20", "acme%2f..%2frival", "%61cme%00"] {
        let reply = scene.admin().send(Method::GET, &format!("/v1/tenants/{nobody}")).await;
        assert!(matches!(reply.status, 400 | 404), "{nobody}: {} {}", reply.status, reply.text());
    }
}

/// A tenant's model list, and a token's within it
#[tokio::test(flavor = "multi_thread")]
async fn allow_lists_bound_what_is_listed_and_what_is_called() {
    let scene = Scene::new().await;
    let tenant = scene.admin().tenant_of(json!({ "id": "narrow", "models": ["alpha", "b*"] })).await;
    let client = scene.client.with_token(&tenant.token);
    client.chat(&chat("alpha", "hello", 5)).await.ok();
    client.chat(&chat("beta", "hello", 5)).await.ok();
    client.chat(&chat("odd", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
    let listed = client.get("/v1/models").await.ok();
    let mut ids: Vec<&str> =
        listed["data"].as_array().expect("data").iter().map(|model| model["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["alpha", "beta"], "{listed}");
    assert_eq!(client.get("/v1/models/odd").await.status, 404, "what may not be called isn't there");
    assert_eq!(client.get("/v1/models/alpha").await.ok()["id"], "alpha");
    let (_, narrower) = scene.admin().mint("narrow", &json!({ "models": ["beta", "odd"] })).await;
    let narrower = scene.client.with_token(&narrower);
    narrower.chat(&chat("beta", "hello", 5)).await.ok();
    narrower.chat(&chat("odd", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
    narrower.chat(&chat("alpha", "hello", 5)).await.refused(403, "permission_error", "model_not_allowed");
}

/// What a tenant owns that a route can name.
struct Owned {
    /// A response that the gateway keeps.
    response: String,
    /// A file at its provider.
    file: String,
    /// A file of its workspace.
    path: String,
    /// An agent.
    agent: String,
    /// A conversation with its default agent.
    session: String,
    /// A file that this one remembers.
    memory: String,
}

/// A request that names something, and an id of the same form that nobody has.
struct Named {
    path: String,
    body: Value,
    id: String,
    nobodys: &'static str,
}

/// Requests for what `owned` names, by this route; `None` for a route that can name nothing of another tenant's.
///
/// A route that takes an id must have its line here: the test fails for one that it does not know.
fn naming(method: &str, path: &str, owned: &Owned) -> Option<Vec<Named>> {
    let named = |path: String, body: Value, id: &str, nobodys| Named { path, body, id: id.to_owned(), nobodys };
    let (response, file) = (owned.response.as_str(), owned.file.as_str());
    let nobodys = "resp_00000000000000000000000000000000";
    Some(match (method, path) {
        ("GET" | "DELETE", "/v1/responses/*") => vec![
            named(format!("/v1/responses/{response}"), Value::Null, response, nobodys),
            named(format!("/responses/{response}"), Value::Null, response, nobodys),
            named(format!("/v1/responses/{response}/input_items"), Value::Null, response, nobodys),
        ],
        ("POST", "/v1/responses/*") => {
            vec![named(format!("/v1/responses/{response}/cancel"), Value::Null, response, nobodys)]
        }
        ("POST", "/v1/responses") => {
            let body =
                json!({ "model": "alpha", "input": "go on", "previous_response_id": response, "max_output_tokens": 5 });
            vec![named("/v1/responses".to_owned(), body, response, nobodys)]
        }
        ("GET" | "DELETE", "/v1/files/*") => vec![
            named(format!("/v1/files/{file}"), Value::Null, file, "file-unknown"),
            named(format!("/v1/files/{file}/content"), Value::Null, file, "file-unknown"),
        ],
        ("GET" | "DELETE", "/v1/workspace/files/*") => {
            vec![named(format!("/v1/workspace/files/{}", owned.path), Value::Null, &owned.path, "nobodys.txt")]
        }
        ("POST", "/v1/workspace/files/*") => {
            let body = json!({ "move_to": "mine.txt" });
            vec![named(format!("/v1/workspace/files/{}", owned.path), body, &owned.path, "nobodys.txt")]
        }
        ("GET" | "PATCH" | "DELETE", "/v1/agents/*") => {
            vec![named(format!("/v1/agents/{}", owned.agent), json!({ "max_steps": 3 }), &owned.agent, "nobody")]
        }
        ("POST", "/v1/chat/completions") => {
            let body = chat(&format!("openclaw/{}", owned.agent), "hello", 5);
            vec![named("/v1/chat/completions".to_owned(), body, &owned.agent, "nobody")]
        }
        ("GET", "/v1/sessions" | "/v1/memory") => {
            vec![named(format!("{path}?agent={}", owned.agent), Value::Null, &owned.agent, "nobody")]
        }
        ("GET" | "DELETE", "/v1/sessions/*") => {
            vec![named(format!("/v1/sessions/{}", owned.session), Value::Null, &owned.session, "nobodys-talk")]
        }
        ("GET" | "DELETE", "/v1/memory/*") => {
            vec![named(format!("/v1/memory/{}", owned.memory), Value::Null, &owned.memory, "memory/nobodys.md")]
        }
        // Whoever writes by a name writes a file of its own.
        ("PUT", "/v1/workspace/files/*" | "/v1/memory/*") => return None,
        // Files of the program itself. Another's terminal is asked for where terminals are.
        ("GET", "/v1/terminal/ui/*") => return None,
        // No token opens these: the one is proved by its provider's signature, the other by its code. Another's are tried where
        // channels are.
        (_, "/channels/*" | "/pair/*") => return None,
        // Models are the operator's, and named by what follows. Another's batches are tried where batches are: whoever watches one
        // asks the upstream meanwhile.
        (_, "/v1/models/*" | "/v1beta/models/*" | "/v1/batches/*") => return None,
        (method, path) if path.ends_with('*') => panic!("{method} {path} takes an id: say here whose it may be"),
        _ => return None,
    })
}

async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Reply {
    let mut request = client.build(method.parse().expect("a method"), path);
    if !body.is_null() {
        request = request.json(body);
    }
    Reply::of(request.send().await.expect("an answer")).await
}

/// An answer without what differs between any two requests.
fn plain(reply: &Reply, id: &str) -> (u16, String) {
    let request = reply.header("x-request-id").expect("every answer has one");
    (reply.status, reply.text().replace(id, "ID").replace(request, "REQUEST"))
}

/// I-01: by every route of the gateway's own list, what another tenant has is what nobody has
#[tokio::test(flavor = "multi_thread")]
async fn what_another_tenant_owns_is_told_apart_by_no_route_from_what_nobody_has() {
    let scene = Scene::new().await;
    let rival = scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    let rival = scene.client.with_token(&rival.token);
    let body = json!({ "model": "alpha", "input": "the secret of acme", "max_output_tokens": 5 });
    let kept = scene.client.post("/v1/responses", &body).await.ok();
    let owned = Owned {
        response: kept["id"].as_str().expect("an id").to_owned(),
        file: upload::uploaded(&scene.client, "user_data", b"the secret of acme").await,
        path: "of-acme.txt".to_owned(),
        agent: "of-acme".to_owned(),
        session: "talk-of-acme".to_owned(),
        memory: "memory/of-acme.md".to_owned(),
    };
    assert_eq!(scene.client.post("/v1/agents", &json!({ "name": owned.agent })).await.status, 201);
    let mut talk = chat("openclaw/default", "the secret of acme", 5);
    talk["metadata"] = json!({ "session": owned.session });
    scene.client.chat(&talk).await.ok();
    let memory = format!("/v1/memory/{}", owned.memory);
    let written = scene.client.build(Method::PUT, &memory).body("the secret of acme");
    assert_eq!(Reply::of(written.send().await.expect("an answer")).await.status, 201);
    let written = scene.client.build(Method::PUT, "/v1/workspace/files/of-acme.txt").body("the secret of acme");
    assert_eq!(Reply::of(written.send().await.expect("an answer")).await.status, 201);
    let own = format!("/v1/responses/{}", owned.response);
    let before = scene.client.get(&own).await.ok();
    let (calls, rows) = (scene.upstream.calls(), scene.rows_once(3).await.len());
    let routes = scene.gateway.cli(&["routes", "--json"]).await.json();
    let mut tried = 0;
    for route in routes.as_array().expect("a list") {
        let text = |key: &str| route[key].as_str().unwrap_or_else(|| panic!("{key} of {route}"));
        for Named { path, body, id, nobodys } in naming(text("method"), text("path"), &owned).unwrap_or_default() {
            let theirs = ask(&rival, text("method"), &path, &body).await;
            let swapped: Value = serde_json::from_str(&body.to_string().replace(&id, nobodys)).expect("JSON");
            let nobody = ask(&rival, text("method"), &path.replace(&id, nobodys), &swapped).await;
            assert!(matches!(theirs.status, 400 | 404 | 405), "{path}: {} {}", theirs.status, theirs.text());
            assert_eq!(plain(&theirs, &id), plain(&nobody, nobodys), "{} {path}", text("method"));
            assert!(!theirs.text().contains("the secret of acme"), "{}", theirs.text());
            tried += 1;
        }
    }
    assert!(tried >= 8, "{tried} requests for another's");
    assert_eq!(scene.client.get(&own).await.ok(), before, "nothing has changed");
    assert_eq!((scene.upstream.calls(), scene.rows().len()), (calls, rows), "and nothing was billed or sent");
    assert_eq!(scene.client.get(&format!("/v1/files/{}/content", owned.file)).await.text(), "the secret of acme");
    assert_eq!(scene.client.get(&memory).await.text(), "the secret of acme");
    let talk = scene.client.get(&format!("/v1/sessions/{}", owned.session)).await.ok();
    assert_eq!(talk["messages"][0]["content"], "the secret of acme", "{talk}");
    assert_eq!(scene.client.get("/v1/agents/of-acme").await.ok()["max_steps"], 8, "as it was made");
    let own = ask(&scene.client, "DELETE", &own, &Value::Null).await;
    assert_eq!(own.status, 200, "its owner may: {}", own.text());
}

/// A request of a client whose every word names it.
async fn mixed(client: &Client, (tenant, number): (&str, usize), dice: &mut Dice) -> String {
    let canary = format!("canary-{tenant}-{number}");
    let messages = json!([{ "role": "user", "content": canary }]);
    let chat = json!({ "model": "echo", "messages": messages, "max_tokens": 40, "user": canary });
    let reply = match dice.below(9) {
        0 => client.chat(&chat).await,
        1 => {
            let mut stream = client.stream(&chat).await;
            let events = stream.rest().await;
            let said: String =
                events.iter().filter(|event| !event.done()).map(openclawmu_tests::sse::Event::text).collect();
            assert_eq!(said, canary, "a stream says what its own client said");
            return events.iter().map(|event| event.data.clone()).collect();
        }
        2 => client.post("/v1/messages", &json!({ "model": "echo", "messages": messages, "max_tokens": 40 })).await,
        3 => client.post("/v1/responses", &json!({ "model": "echo", "input": canary, "max_output_tokens": 40 })).await,
        4 => {
            let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": canary }] }], "generationConfig": { "maxOutputTokens": 40 } });
            client.post("/v1beta/models/echo:generateContent", &body).await
        }
        5 => client.chat(&json!({ "model": canary, "messages": messages })).await,
        6 => client.post_bytes("/v1/chat/completions", format!("{{\"{canary}\": [").into_bytes()).await,
        7 => client.get(&format!("/v1/responses/resp_{canary}")).await,
        _ => client.get("/v1/usage?group_by=user").await,
    };
    assert!(reply.status < 500, "{}", reply.text());
    let headers: String = reply.headers.values().map(|value| format!("{value:?} ")).collect();
    headers + &reply.text()
}

/// I-02, I-05: canaries of one tenant in no answer to the other and in no log, while both ask at once, over shared connections
#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_one_tenant_is_in_an_answer_to_the_other_or_in_a_log() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::bare();
    setup.rates = None;
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "1000" })).await;
    let rival = scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    let mut workers = JoinSet::new();
    let each = times(250, 1_250);
    for (tenant, other, token) in
        [("acme", "canary-rival", scene.tenant.token.clone()), ("rival", "canary-acme", rival.token)]
    {
        for worker in 0..4 {
            let base = if worker % 2 == 0 { scene.client.clone() } else { scene.client.over_h2c() };
            let client = base.with_token(&token);
            workers.spawn(async move {
                let mut dice = Dice::new(u64::try_from(worker).expect("small") + 77);
                let mut own = 0;
                for at in 0..each {
                    let said = mixed(&client, (tenant, worker * 100_000 + at), &mut dice).await;
                    assert!(!said.contains(other), "{tenant} was told {said}");
                    own += usize::from(said.contains(&format!("canary-{tenant}")));
                }
                own
            });
        }
    }
    let mut own = 0;
    while let Some(worker) = workers.join_next().await {
        own += worker.expect("a worker");
    }
    assert!(own > each, "answers do hold the words of their own tenant: {own}");
    let log = scene.gateway.stderr() + &scene.gateway.stdout();
    assert!(!log.contains("canary-"), "a log holds what clients said: {log}");
}

/// I-03: what one tenant holds is its own share: at its limit it is refused, and the other is served
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_at_its_limit_takes_nothing_from_the_other() {
    let scene = Scene::with_quota(json!({ "usd_per_day": "1000", "concurrent_requests": 64 })).await;
    let rival = scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    let gate = Gate::new();
    scene.upstream.when("hold this", Behaviour::gated(3, 1, &gate));
    let client = Arc::new(scene.client.clone());
    let mut held = JoinSet::new();
    for _ in 0..64 {
        let client = Arc::clone(&client);
        held.spawn(async move { client.stream(&chat("alpha", "hold this", 5)).await.rest().await.len() });
    }
    openclawmu_tests::wait::until_true("sixty-four to be under way", || scene.upstream.calls() >= 64).await;
    let mut refused = JoinSet::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        refused.spawn(async move {
            for _ in 0..25 {
                assert_eq!(client.chat(&chat("alpha", "one more", 5)).await.status, 429);
            }
        });
    }
    let rival = scene.client.with_token(&rival.token);
    for _ in 0..50 {
        rival.chat(&chat("alpha", "and me", 5)).await.ok();
    }
    while let Some(done) = refused.join_next().await {
        done.expect("each one is told so");
    }
    gate.open();
    while let Some(events) = held.join_next().await {
        assert!(events.expect("a stream") > 3, "and what runs goes on to its end");
    }
}
