//! Messengers: paired by a link, proved by their providers' signatures, answered by the tenant's own agent, once.

use http::Method;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::messenger::{
    self, Messenger, OTHER_SLACK_TOKEN, SLACK_SECRET, SLACK_TOKEN, TELEGRAM_TOKEN, WEBHOOK_SECRET, WHATSAPP_NUMBER,
    WHATSAPP_SECRET, WHATSAPP_TOKEN,
};
use openclawmu_tests::receiver::as_evidence;
use openclawmu_tests::{Behaviour, Gate, Reply, Scene, Setup, Upstream, ledger, sdk, wait};
use serde_json::{Value, json};

/// A gateway whose providers are a stand-in, and whose tenant's agent asks the scripted upstream.
struct World {
    scene: Scene,
    messenger: Messenger,
}

impl World {
    async fn new() -> Self {
        Self::with(json!({ "usd_per_day": "1000" }), |setup| setup).await
    }

    async fn with(quota: Value, more: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, messenger) = (Upstream::start().await, Messenger::start().await);
        let setup = more(Setup::with(&upstream).line(&messenger.config()));
        let scene = Scene::of(upstream, setup, quota).await;
        let world = Self { scene, messenger };
        world.prepare("acme").await;
        world
    }

    /// The tenant's agent asks `alpha`.
    async fn prepare(&self, tenant: &str) {
        let path = format!("/v1/tenants/{tenant}/config");
        self.scene.admin().send_json(Method::PUT, &path, &json!({ "default_model": "alpha" })).await.ok();
    }

    async fn link(&self, tenant: &str, kind: &str, policy: &str) -> String {
        let arguments = ["channels", "pair", kind, "--tenant", tenant, "--policy", policy, "--json"];
        let made = self.scene.gateway.cli(&arguments).await.json();
        let url = made["url"].as_str().expect("a url").to_owned();
        let path = url.strip_prefix(&format!("http://{}", self.scene.gateway.edge())).expect("at the edge");
        assert!(made["expires_at"].is_string() && path.starts_with("/pair/"), "{made}");
        path.to_owned()
    }

    async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post(path, &[("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())], &form(fields))
            .await
    }

    /// Pairs, and gives the channel's path at the edge.
    async fn pair(&self, tenant: &str, (kind, policy): (&str, &str), fields: &[(&str, &str)]) -> String {
        let link = self.link(tenant, kind, policy).await;
        let paired = self.submit(&link, fields).await;
        assert_eq!(paired.status, 200, "{}", paired.text());
        let channels = self.scene.admin().get(&format!("/v1/tenants/{tenant}/channels")).await;
        let newest = channels["data"].as_array().and_then(|all| all.last().cloned()).expect("a channel");
        let path = format!("/channels/{kind}/{}", newest["id"].as_str().expect("an id"));
        assert!(paired.text().contains(&path), "the page says where to send to: {}", paired.text());
        path
    }

    async fn slack(&self, policy: &str) -> String {
        self.pair("acme", ("slack", policy), &[("bot_token", SLACK_TOKEN), ("signing_secret", SLACK_SECRET)]).await
    }

    async fn post(&self, path: &str, headers: &[(String, String)], body: &str) -> Reply {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.scene.gateway.edge()));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        Reply::of(request.body(body.to_owned()).send().await.expect("an answer")).await
    }

    async fn get(&self, path: &str) -> Reply {
        let url = format!("http://{}{path}", self.scene.gateway.edge());
        Reply::of(reqwest::get(url).await.expect("an answer")).await
    }

    /// Slack tells of an event, now.
    async fn event(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        self.post(path, &messenger::slack_headers(messenger::now(), &body), &body).await
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let coded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    fields.iter().map(|(name, value)| format!("{name}={}", coded(value))).collect::<Vec<_>>().join("&")
}

/// A direct message to the bot of workspace `team`.
fn direct(team: &str, id: &str, text: &str) -> Value {
    json!({ "type": "event_callback", "team_id": team, "api_app_id": "A1", "event_id": id, "event_time": 1,
        "authorizations": [{ "team_id": team, "user_id": "UBOT", "is_bot": true }],
        "event": { "type": "message", "channel_type": "im", "channel": "D1", "user": "U1", "text": text, "ts": "17.000100" } })
}

/// C-01, C-03, C-04, W-04: from the command line to the answer in a thread
#[tokio::test(flavor = "multi_thread")]
async fn slack_is_paired_by_a_link_and_a_message_is_answered_once_in_its_thread() {
    let world = World::new().await;
    let link = world.link("acme", "slack", "open").await;
    let page = world.get(&link).await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    assert!(page.text().contains("name=\"signing_secret\"") && !page.text().contains("<script"), "{}", page.text());
    let wrong =
        world.submit(&link, &[("bot_token", &SLACK_TOKEN.replace('x', "y")), ("signing_secret", SLACK_SECRET)]).await;
    assert!(wrong.status == 422 && wrong.text().contains("invalid_auth"), "{}", wrong.text());
    let empty = world.submit(&link, &[("bot_token", SLACK_TOKEN), ("signing_secret", "")]).await;
    assert!(empty.status == 422 && empty.text().contains("Tries left: 3"), "C-02: {}", empty.text());
    let fields = [("bot_token", SLACK_TOKEN), ("signing_secret", SLACK_SECRET)];
    let paired = world.submit(&link, &fields).await;
    assert_eq!(paired.status, 200, "{}", paired.text());
    assert!(!paired.text().contains("canary"), "no secret comes back");
    assert_eq!((world.get(&link).await.status, world.submit(&link, &fields).await.status), (404, 404), "C-04: once");
    let listed = world.scene.gateway.cli(&["channels", "list", "--tenant", "acme"]).await;
    assert!(
        listed.ok().contains("slack") && listed.ok().contains("Acme") && !listed.ok().contains("canary"),
        "{listed:?}"
    );
    let channels = world.scene.admin().get("/v1/tenants/acme/channels").await;
    let path = format!("/channels/slack/{}", channels["data"][0]["id"].as_str().expect("an id"));

    let challenge =
        world.event(&path, &json!({ "type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV" })).await;
    assert_eq!((challenge.status, challenge.text().as_str()), (200, "3eZbrw1aBm2rZgRNFdxV"));
    let (event, now) = (direct("T1", "Ev1", "hello").to_string(), messenger::now());
    let good = messenger::slack_headers(now, &event);
    let stale = messenger::slack_headers(now - 301, &event);
    let changed = event.replace("hello", "hallo");
    for (headers, body) in [(&stale, &event), (&good, &changed), (&Vec::new(), &event), (&good[1..].to_vec(), &event)] {
        world.post(&path, headers, body).await.refused(401, "invalid_request_error", "invalid_signature");
    }
    for _ in 0..3 {
        assert_eq!(world.post(&path, &good, &event).await.status, 200);
    }
    assert_eq!(world.event(&path, &direct("T1", "Ev2", "more")).await.status, 200);
    let sent = world.messenger.sent_once(2).await;
    for message in &sent {
        let body = message.json();
        assert_eq!((&body["channel"], &body["thread_ts"]), (&json!("D1"), &json!("17.000100")), "{body}");
        assert!(body["text"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(message.header("authorization"), Some(format!("Bearer {SLACK_TOKEN}").as_str()));
    }
    assert_eq!(world.scene.rows_once(2).await.len(), 2, "C-03: one turn a message, each on the bill");
    assert_eq!(world.scene.upstream.calls(), 2);
    world.nothing_leaked();
}

impl World {
    /// no secret in a file of the data directory but sealed, and none in a log.
    fn nothing_leaked(&self) {
        for name in ["openclawmu.db", "openclawmu.db-wal", "audit/audit.jsonl"] {
            let bytes = std::fs::read(self.scene.gateway.data().join(name)).unwrap_or_default();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "{name} holds a secret");
        }
        let log = self.scene.gateway.stderr() + &self.scene.gateway.stdout();
        assert!(!log.contains("canary") && !log.contains("/pair/"), "{log}");
    }
}

/// C-05: what is signed for one tenant's workspace reaches no other tenant, by no path
#[tokio::test(flavor = "multi_thread")]
async fn c_05_a_message_of_one_workspace_never_reaches_another_tenant() {
    let world = World::new().await;
    world.scene.admin().tenant("rival", json!({ "usd_per_day": "1000" })).await;
    world.prepare("rival").await;
    let fields = [("bot_token", OTHER_SLACK_TOKEN), ("signing_secret", SLACK_SECRET)];
    let (acme, rival) = (world.slack("open").await, world.pair("rival", ("slack", "open"), &fields).await);
    // Both apps sign with one secret, as a thief of it would.
    world.event(&rival, &direct("T1", "Ev1", "of acme")).await.refused(403, "permission_error", "foreign_account");
    world.event(&acme, &direct("T2", "Ev2", "of rival")).await.refused(403, "permission_error", "foreign_account");
    for nobody in
        [acme.replace("slack", "telegram"), format!("{acme}0"), "/channels/teams/x".to_owned(), format!("{acme}/x")]
    {
        assert_eq!(world.event(&nobody, &direct("T1", "Ev3", "x")).await.status, 404, "{nobody}");
    }
    let admin = world.scene.admin();
    let id = acme.rsplit('/').next().expect("an id");
    for foreign in [format!("/v1/tenants/rival/channels/{id}"), format!("/v1/tenants/rival/channels/{id}/senders")] {
        assert_eq!(admin.send(Method::GET, &foreign).await.status, 404);
    }
    assert_eq!(admin.send(Method::DELETE, &format!("/v1/tenants/rival/channels/{id}")).await.status, 404);
    let link = world.link("rival", "slack", "open").await;
    let stolen = world.submit(&link, &[("bot_token", SLACK_TOKEN), ("signing_secret", SLACK_SECRET)]).await;
    assert!(stolen.status == 422 && stolen.text().contains("paired already"), "{}", stolen.text());
    assert_eq!(world.event(&acme, &direct("T1", "Ev4", "of acme")).await.status, 200, "the twin");
    assert_eq!(world.event(&rival, &direct("T2", "Ev5", "of rival")).await.status, 200);
    let sent = world.messenger.sent_once(2).await;
    let by =
        |token: &str| sent.iter().filter(|one| one.header("authorization") == Some(&format!("Bearer {token}"))).count();
    assert_eq!((by(SLACK_TOKEN), by(OTHER_SLACK_TOKEN)), (1, 1));
    world.scene.rows_once(1).await;
    let theirs = ledger::rows(&world.scene.gateway.data(), "rival");
    assert_eq!(theirs.len(), 1, "each pays its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_a_code_and_answered_once_the_operator_has_approved_it() {
    let world = World::new().await;
    let path = world.slack("pairing").await;
    let id = path.rsplit('/').next().expect("an id");
    world.event(&path, &direct("T1", "Ev1", "let me in")).await;
    let told = world.messenger.sent_once(1).await[0].json()["text"].as_str().expect("text").to_owned();
    let senders = world.scene.admin().get(&format!("/v1/tenants/acme/channels/{id}/senders")).await;
    let code = senders["pending"][0]["code"].as_str().expect("a code").to_owned();
    assert!(told.contains(&code), "{told}");
    assert_eq!(world.scene.upstream.calls(), 0, "no turn");
    let wrong = world.scene.gateway.cli(&["channels", "approve", id, "AAAAAAAA", "--tenant", "acme"]).await;
    assert!(!wrong.status.success(), "{wrong:?}");
    let approved = world.scene.gateway.cli(&["channels", "approve", id, &code, "--tenant", "acme"]).await;
    assert!(approved.ok().contains("U1 may speak"), "{approved:?}");
    world.messenger.sent_once(2).await;
    world.event(&path, &direct("T1", "Ev2", "hello")).await;
    world.messenger.sent_once(3).await;
    world.scene.rows_once(1).await;
    assert!(world.scene.gateway.cli(&["channels", "block", id, "U1", "--tenant", "acme"]).await.ok().contains("not"));
    world.event(&path, &direct("T1", "Ev3", "and now?")).await;
    assert!(world.messenger.sent_once(4).await[3].json()["text"].as_str().is_some_and(|text| text.contains("code")));
    assert_eq!(world.scene.upstream.calls(), 1);
}

/// C-03: whatever dies, what was taken is answered
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_waits_when_the_gateway_dies_is_answered_after_its_restart() {
    let dir = tempfile::TempDir::new().expect("a temp dir");
    let clock = FakeClock::new(dir.path());
    let turned = clock.clone();
    let mut world = World::with(json!({ "usd_per_day": "1000" }), |setup| setup.clock(&turned)).await;
    let path = world.slack("open").await;
    let gate = Gate::new();
    world.scene.upstream.when("first", Behaviour::gated(3, 1, &gate));
    assert_eq!(world.event(&path, &direct("T1", "Ev1", "first")).await.status, 200);
    wait::until_true("its turn", || world.scene.upstream.calls() == 1).await;
    assert_eq!(world.event(&path, &direct("T1", "Ev2", "second")).await.status, 200);
    world.scene.gateway.kill_9();
    gate.open();
    // Whoever took it is gone for longer than it may be.
    clock.shift(20);
    world.scene.restarted().await;
    assert_eq!(world.messenger.sent_once(2).await.len(), 2, "both, each once");
    let again = direct("T1", "Ev1", "first").to_string();
    let headers = messenger::slack_headers(messenger::now() + 20, &again);
    assert_eq!(world.post(&path, &headers, &again).await.status, 200);
    assert_eq!(world.event(&path, &direct("T1", "Ev3", "third")).await.status, 200);
    world.messenger.sent_once(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_budget_a_sender_is_told_so_once_and_nothing_reaches_the_upstream() {
    let world = World::with(json!({ "usd_per_day": "0.000000001" }), |setup| setup).await;
    let path = world.slack("open").await;
    world.event(&path, &direct("T1", "Ev1", "hello")).await;
    let told = world.messenger.sent_once(1).await[0].json()["text"].as_str().expect("text").to_owned();
    assert!(!told.is_empty() && !told.contains("alpha") && !told.contains("scripted"), "{told}");
    world.scene.admin().patch("acme", &json!({ "quota": { "usd_per_day": "1000" } })).await;
    world.event(&path, &direct("T1", "Ev2", "again")).await;
    world.messenger.sent_once(2).await;
    assert_eq!(world.scene.upstream.calls(), 1, "the twin");
}

/// B-06, I-06: credentials go with the tenant: sealed into its backup, and away with it
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_comes_back_with_its_tenants_backup_and_goes_with_its_tenant() {
    let world = World::new().await;
    let path = world.slack("open").await;
    let id = path.rsplit('/').next().expect("an id").to_owned();
    world.event(&path, &direct("T1", "Ev1", "hello")).await;
    world.messenger.sent_once(1).await;
    let place = tempfile::TempDir::new().expect("a temp dir");
    let to = place.path().to_str().expect("UTF-8");
    let made = world.scene.gateway.cli(&["tenants", "backup", "acme", "--to", to, "--json"]).await.json();
    let url = made["backup"]["url"].as_str().expect("a url").to_owned();
    let _told = world.scene.gateway.cli(&["channels", "remove", &id, "--tenant", "acme"]).await.ok();
    assert_eq!(world.event(&path, &direct("T1", "Ev2", "removed")).await.status, 404);
    let _told = world.scene.gateway.cli(&["tenants", "restore", "--from", &url, "--force"]).await.ok();
    assert_eq!(world.event(&path, &direct("T1", "Ev3", "back")).await.status, 200);
    world.messenger.sent_once(2).await;
    let _told = world.scene.gateway.cli(&["tenants", "restore", "--from", &url, "--as", "twin"]).await.ok();
    let twin = world.scene.admin().get("/v1/tenants/twin/channels").await;
    assert_eq!(twin["data"], json!([]), "an account is one tenant's: a copy does not get it");
    let _told = world.scene.gateway.cli(&["keys", "rotate", "master"]).await.ok();
    world.event(&path, &direct("T1", "Ev4", "still there")).await;
    world.messenger.sent_once(3).await;
    world.nothing_leaked();
    let gone = world.scene.admin().send(Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert!(matches!(gone.status, 200 | 204), "{}", gone.text());
    let dump = ledger::dump(&world.scene.gateway.data(), &[]);
    let left: Vec<&str> = dump.lines().filter(|line| line.starts_with("channel")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatsapp_answers_the_challenge_takes_a_batch_and_replies_to_each_message_once() {
    let world = World::new().await;
    let fields =
        [("phone_number_id", WHATSAPP_NUMBER), ("access_token", WHATSAPP_TOKEN), ("app_secret", WHATSAPP_SECRET)];
    let link = world.link("acme", "whatsapp", "open").await;
    let paired = world.submit(&link, &fields).await.text();
    let token = paired.split(": ").last().and_then(|rest| rest.split('<').next()).unwrap_or_default().to_owned();
    let token = paired.split("save”: ").nth(1).and_then(|rest| rest.split('<').next()).unwrap_or(&token).to_owned();
    let path = paired.split("/channels/whatsapp/").nth(1).and_then(|rest| rest.split('<').next()).expect("a path");
    let path = format!("/channels/whatsapp/{path}");
    let asked = |token: &str| format!("{path}?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token={token}");
    let challenge = world.get(&asked(&token)).await;
    assert_eq!((challenge.status, challenge.text().as_str()), (200, "1158201444"), "{paired}");
    assert_eq!(world.get(&asked("wrong")).await.status, 401);
    let change = |number: &str, id: &str| {
        json!({ "field": "messages", "value": { "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "15550783881", "phone_number_id": number },
            "contacts": [{ "profile": { "name": "Sheena" }, "wa_id": "16505551234" }],
            "messages": [{ "from": "16505551234", "id": id, "timestamp": "1", "type": "text", "text": { "body": "hello" } }] } })
    };
    let batch = |changes: Value| {
        json!({ "object": "whatsapp_business_account", "entry": [{ "id": "1", "changes": changes }] }).to_string()
    };
    let mixed = batch(json!([
        change(WHATSAPP_NUMBER, "wamid.1"),
        change("999", "wamid.2"),
        change(WHATSAPP_NUMBER, "wamid.3")
    ]));
    for _ in 0..2 {
        assert_eq!(world.post(&path, &messenger::whatsapp_headers(&mixed), &mixed).await.status, 200);
    }
    let foreign = batch(json!([change("999", "wamid.4")]));
    assert_eq!(world.post(&path, &messenger::whatsapp_headers(&foreign), &foreign).await.status, 403);
    assert_eq!(world.post(&path, &messenger::whatsapp_headers(&foreign), &mixed).await.status, 401);
    let sent = world.messenger.sent_once(2).await;
    let of: Vec<Value> = sent.iter().map(|one| one.json()["context"]["message_id"].clone()).collect();
    assert_eq!(of, [json!("wamid.1"), json!("wamid.3")]);
    assert_eq!((&sent[0].json()["to"], &sent[0].json()["type"]), (&json!("16505551234"), &json!("text")));
}

#[tokio::test(flavor = "multi_thread")]
async fn telegram_is_told_where_to_send_and_a_long_answer_goes_out_in_parts() {
    let world = World::new().await;
    let path = world.pair("acme", ("telegram", "open"), &[("bot_token", TELEGRAM_TOKEN)]).await;
    let hook = world.messenger.calls("/setWebhook")[0].json();
    assert!(hook["url"].as_str().is_some_and(|url| url.ends_with(&path)), "{hook}");
    let secret = hook["secret_token"].as_str().expect("a secret").to_owned();
    let update = |id: i64, text: &str| {
        json!({ "update_id": id, "message": { "message_id": 5, "date": 1, "text": text,
            "from": { "id": 1111, "is_bot": false, "first_name": "Test" }, "chat": { "id": 1111, "type": "private" } } })
        .to_string()
    };
    let proof = |secret: &str| vec![("x-telegram-bot-api-secret-token".to_owned(), secret.to_owned())];
    assert_eq!(world.post(&path, &proof("wrong"), &update(1, "hello")).await.status, 401);
    world.scene.upstream.when("long", Behaviour::words(1_500));
    for _ in 0..2 {
        assert_eq!(world.post(&path, &proof(&secret), &update(2, "a long one")).await.status, 200);
    }
    wait::until_true("all parts", || {
        let sent = world.messenger.sent();
        sent.len() >= 2 && sent.iter().all(|one| one.target().ends_with("/sendMessage"))
    })
    .await;
    for message in world.messenger.sent() {
        let body = message.json();
        assert!(body["text"].as_str().is_some_and(|text| text.chars().count() <= 4096), "{body}");
        assert_eq!(body["chat_id"], json!(1111));
    }
    assert_eq!(world.scene.upstream.calls(), 1, "C-03");
}

/// S-01, S-04 and the specification's own library
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_answered_signed_and_an_inside_url_is_refused() {
    let world = World::new().await;
    let link = world.link("acme", "webhook", "open").await;
    for inside in [
        "https://127.0.0.1/x",
        "http://169.254.169.254/",
        "https://localhost:1/",
        "https://[::1]/",
        "https://10.0.0.1/",
    ] {
        if world.get(&link).await.status == 404 {
            break;
        }
        let refused = world.submit(&link, &[("url", inside), ("secret", WEBHOOK_SECRET)]).await;
        assert!(matches!(refused.status, 422 | 404), "{inside}: {}", refused.text());
    }
    assert_eq!(world.get(&link).await.status, 404, "C-04: five tries");
    let url = format!("http://{}/replies", world.messenger.address());
    let path = world.pair("acme", ("webhook", "open"), &[("url", &url), ("secret", WEBHOOK_SECRET)]).await;
    let body = json!({ "type": "message", "data": { "from": "user-7", "text": "hello" } }).to_string();
    let good = messenger::webhook_headers(("msg_1", messenger::now()), &body);
    for _ in 0..2 {
        assert_eq!(world.post(&path, &good, &body).await.status, 200);
    }
    let stale = messenger::webhook_headers(("msg_2", messenger::now() - 301), &body);
    assert_eq!(world.post(&path, &stale, &body).await.status, 401);
    let sent = world.messenger.sent_once(1).await;
    let reply = sent[0].json();
    assert_eq!(
        (&reply["type"], &reply["data"]["to"], &reply["data"]["in_reply_to"]),
        (&json!("message.reply"), &json!("user-7"), &json!("msg_1"))
    );
    let file = world.scene.gateway.dir().join("evidence.json");
    std::fs::write(&file, as_evidence(&sent).to_string()).expect("a writable temp dir");
    let result = sdk::run_python("webhook_verify.py", &[WEBHOOK_SECRET, file.to_str().expect("UTF-8")]).await;
    assert_eq!(result["verified"].as_array().map(Vec::len), Some(1), "{result}");
    assert_eq!(world.scene.upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_there_is_refused_by_its_name() {
    let world = World::new().await;
    let refused = world.scene.gateway.cli(&["channels", "pair", "teams", "--tenant", "acme"]).await;
    assert!(
        !refused.status.success() && refused.stderr.contains("teams") && refused.stderr.contains("slack"),
        "{refused:?}"
    );
    let refused = world.scene.admin().post("/v1/tenants/acme/pairings", &json!({ "channel": "" })).await;
    assert_eq!((refused.status, &refused.json()["error"]["field"]), (400, &json!("channel")));
}
