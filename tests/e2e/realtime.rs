//! `/v1/realtime`: a conversation over a WebSocket, passed through, each response reserved before it is asked for and settled
//! when it has ended.

use openclawmu_tests::ledger::Row;
use openclawmu_tests::money::{self, usd};
use openclawmu_tests::raw::{self, Connection};
use openclawmu_tests::setup::PROVIDER_KEY;
use openclawmu_tests::socket::{Ended, Socket};
use openclawmu_tests::tls::TlsFront;
use openclawmu_tests::upstream::realtime::{Realtime, Spoken};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Gate, Gateway, Scene, Setup, Upstream, sdk};
use rustix::process::Signal;
use serde_json::{Value, json};

const PATH: &str = "/v1/realtime?model=voice";
/// 1,000 tokens of audio in, 100 of audio out: the largest response of the test's model.
const RESERVED: i128 = 38_400_000;
/// 10 tokens of text in, 3 out.
const COST: i128 = 88_000;

struct Cast {
    scene: Scene,
    provider: Realtime,
}

fn card() -> Value {
    let mut card = money::card();
    card["models"]["voice"] = json!({
        "input": "4.00", "cache_read": "0.40", "output": "16.00", "input_audio": "32.00", "output_audio": "64.00",
        "context_tokens": 1_000, "max_output_tokens": 100
    });
    card["models"]["boundless"] = json!({"input": "4.00", "output": "16.00"});
    card
}

impl Cast {
    async fn new() -> Self {
        Self::with("1000", &[]).await
    }

    async fn with(usd_per_day: &str, edge: &[&str]) -> Self {
        let (upstream, provider) = (Upstream::start().await, Realtime::start().await);
        let others: Vec<&str> = money::models().into_iter().filter(|model| *model != "voice").collect();
        let mut setup = Setup::bare().upstream("scripted", upstream.address(), &others, &[]).upstream(
            "voices",
            provider.address(),
            &["voice", "boundless", "free"],
            &[],
        );
        setup.rates = Some(card());
        for key in edge {
            setup = setup.edge_key(key);
        }
        Self { scene: Scene::of(upstream, setup, json!({ "usd_per_day": usd_per_day })).await, provider }
    }

    async fn open(&self) -> Socket {
        let mut socket = Socket::open(self.scene.gateway.edge(), PATH, &self.scene.tenant.token).await;
        assert_eq!(socket.next().await.expect("an event")["type"], "session.created");
        socket
    }

    /// The rows of responses, once there are `count`; those of tickets that were not needed cost nothing.
    async fn spoken(&self, count: usize) -> Vec<Row> {
        let rows = until(&format!("{count} rows of responses"), || async {
            let rows: Vec<Row> = self.scene.rows().into_iter().filter(|row| row.outcome != "void").collect();
            (rows.len() >= count).then_some(rows)
        })
        .await;
        assert_eq!(rows.len(), count, "{rows:#?}");
        rows
    }

    async fn hung_up(&self) {
        until_true("the end of the provider's connection", || self.provider.last(|line| line.ended)).await;
    }
}

fn item(text: &str) -> Value {
    json!({
        "type": "conversation.item.create",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    })
}

fn create() -> Value {
    json!({"type": "response.create", "event_id": "mine"})
}

fn texts(events: &[Value]) -> String {
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    deltas.map(|event| event["delta"].as_str().expect("text")).collect()
}

/// A-01, N-01: nothing is switched and nobody asked before the caller is known
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_needed_before_anything_is_switched() {
    let cast = Cast::new().await;
    let (edge, token) = (cast.scene.gateway.edge(), cast.scene.tenant.token.clone());
    let (_, reports) = cast.scene.admin().mint("acme", &json!({ "scopes": ["usage"] })).await;
    let (_, narrow) = cast.scene.admin().mint("acme", &json!({ "models": ["alpha"] })).await;
    let bearer = |token: &str| format!("Bearer {token}");
    let protocol = format!("realtime, openai-insecure-api-key.{token}x");
    for (path, name, value, status) in [
        (PATH, "authorization", bearer("nobody"), 401),
        (PATH, "authorization", bearer(&reports), 403),
        (PATH, "authorization", bearer(&narrow), 403),
        (PATH, "sec-websocket-protocol", protocol, 401),
        (PATH, "x-nothing", String::new(), 401),
        ("/v1/realtime?model=nobody", "authorization", bearer(&token), 404),
        ("/v1/realtime", "authorization", bearer(&token), 400),
        ("/v1/realtime?model=voice&call_id=rtc_1", "authorization", bearer(&token), 400),
        ("/v1/realtime?model=alpha", "authorization", bearer(&token), 400),
        ("/v1/realtime?model=boundless", "authorization", bearer(&token), 400),
        ("/v1/realtime?model=free", "authorization", bearer(&token), 403),
    ] {
        let refused = Socket::try_open(edge, path, &[(name, &value)]).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{path} with {name}: switched"));
        assert_eq!(refused.status, status, "{path} with {name}: {refused:?}");
        assert!(refused.body["error"]["message"].is_string(), "{refused:?}");
    }
    assert_eq!(cast.provider.calls(), 0);
    let budget = cast.scene.settled().await;
    assert_eq!((budget.posted, budget.pending), (0, 0));
}

/// E-04: whatever else asks for an upgrade here is refused, and what follows it is no request
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_upgrade_is_refused_and_nothing_behind_it_is_read() {
    let cast = Cast::new().await;
    let bearer = format!("Bearer {}", cast.scene.tenant.token);
    let good = [
        ("authorization", bearer.as_str()),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (name, value, status) in [
        ("upgrade", "h2c", 426),
        ("sec-websocket-version", "12", 426),
        ("sec-websocket-key", "short", 400),
        ("connection", "close", 400),
    ] {
        let headers = good.map(|(known, is)| if known == name { (known, value) } else { (known, is) });
        let mut request = raw::request("GET", PATH, &headers, b"");
        request.extend(raw::request("GET", "/v1/models", &[("authorization", bearer.as_str())], b""));
        let mut connection = Connection::open(cast.scene.gateway.edge()).await;
        connection.send(&request).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status(), status, "{name}: {value}: {}", answer.text());
        assert!(connection.answer().await.is_none(), "{name}: the second request was answered");
    }
    let plain = raw::request("GET", PATH, &good[..1], b"");
    let mut connection = Connection::open(cast.scene.gateway.edge()).await;
    connection.send(&plain).await;
    let answer = connection.answer().await.expect("an answer");
    assert_eq!((answer.status(), answer.header("sec-websocket-version")), (426, Some("13")));
    assert_eq!(cast.provider.calls(), 0);
}

/// M-01, M-11: two responses are two rows, with the provider's own counts
#[tokio::test(flavor = "multi_thread")]
async fn each_response_is_a_row_at_the_providers_count() {
    let cast = Cast::new().await;
    let audio = json!({
        "total_tokens": 253, "input_tokens": 132, "output_tokens": 121,
        "input_token_details": {
            "text_tokens": 119, "audio_tokens": 13, "cached_tokens": 64, "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0}
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 91}
    });
    cast.provider.next(Spoken::default());
    cast.provider.next(Spoken::using(audio));
    let mut socket = cast.open().await;
    socket.send(&item("hello")).await;
    socket.event("conversation.item.done").await;
    socket.send(&create()).await;
    let events = socket.until("response.done").await;
    assert_eq!(texts(&events), "one two three ");
    assert_eq!(events.last().expect("the end")["response"]["usage"]["input_tokens"], 10);
    assert_eq!(cast.spoken(1).await[0].cost, COST, "settled before the client has its answer");
    socket.send(&create()).await;
    socket.event("response.done").await;
    let rows = cast.spoken(2).await;
    // 55 text, 64 cached, 13 audio in; 30 text, 91 audio out.
    let second = 55 * 4_000 + 64 * 400 + 13 * 32_000 + 30 * 16_000 + 91 * 64_000;
    assert_eq!(rows.iter().map(|row| row.cost).collect::<Vec<_>>(), [COST, second]);
    assert!(
        rows.iter().all(|row| !row.estimated && row.reserved == RESERVED && row.outcome == "complete"),
        "{rows:#?}"
    );
    assert_ne!(rows[0].request_id, rows[1].request_id);
    assert_eq!(cast.scene.budget().await.pending, RESERVED, "the next response is reserved");
    cast.provider.last(|line| {
        assert_eq!(line.target, "/v1/realtime?model=voice");
        assert_eq!(line.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        assert_eq!(line.begun, 2);
    });
    socket.close().await;
    cast.hung_up().await;
    assert_eq!(cast.scene.balanced().await.posted, COST + second);
}

/// S-03: over TLS as in the clear, to the name that the certificate vouches for and to no other
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_behind_tls_is_talked_to_over_tls() {
    for vouched in [true, false] {
        let provider = Realtime::start().await;
        let front = TlsFront::tunnel(provider.address()).await;
        let table = format!(
            "[[upstream]]\nname = \"secure\"\nkind = \"openai\"\nbase_url = \"{}\"\nmodels = [\"voice\"]\n",
            front.base_url()
        );
        let mut setup = Setup::bare().line(&table);
        setup.rates = Some(card());
        if vouched {
            setup.env.push(("SSL_CERT_FILE".to_owned(), front.ca_file().display().to_string()));
        }
        let gateway = Gateway::start(setup).await;
        let tenant = gateway.admin().tenant("acme", json!({ "usd_per_day": "5" })).await;
        let bearer = format!("Bearer {}", tenant.token);
        let opened = Socket::try_open(gateway.edge(), PATH, &[("authorization", &bearer)]).await;
        if !vouched {
            let refused = opened.err().expect("refused");
            assert_eq!((refused.status, &refused.body["error"]["code"]), (502, &json!("upstream_unreachable")));
            until_true("the front's connection", || provider.calls() == 1).await;
            assert!(provider.last(|line| line.target.is_empty()), "nothing was asked");
            continue;
        }
        let mut socket = opened.expect("switched");
        socket.event("session.created").await;
        socket.send(&create()).await;
        assert_eq!(texts(&socket.until("response.done").await), "one two three ");
        socket.close().await;
        assert_eq!(gateway.admin().settled("acme").await.posted, COST);
    }
}

/// A browser can set no header: its key is a subprotocol, which never comes back and goes no further
#[tokio::test(flavor = "multi_thread")]
async fn a_browsers_key_among_the_subprotocols_is_a_credential() {
    let cast = Cast::new().await;
    let token = &cast.scene.tenant.token;
    let protocols = format!("realtime, openai-insecure-api-key.{token}, openai-beta.realtime-v1");
    let headers = [("sec-websocket-protocol", protocols.as_str()), ("origin", "https://shop.example")];
    let mut socket = Socket::try_open(cast.scene.gateway.edge(), PATH, &headers).await.expect("switched");
    assert_eq!(socket.protocol.as_deref(), Some("realtime"));
    socket.event("session.created").await;
    cast.provider.last(|line| {
        assert_eq!(line.header("openai-beta"), Some("realtime=v1"));
        assert!(line.header("origin").is_none() && line.header("sec-websocket-protocol").is_none());
        assert!(!format!("{:?}", line.headers).contains(token.as_str()));
    });
    socket.close().await;
}

/// Q-01, Q-05: the next response is refused at its boundary, and never a cent past it
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_ends_the_conversation_before_a_response_that_it_does_not_cover() {
    for (spare, responses) in [(0, 1), (COST - 1, 1), (COST, 2), (3 * COST, 4)] {
        let cap = RESERVED + spare;
        let cast = Cast::with(&usd(cap), &[]).await;
        let mut socket = cast.open().await;
        for _ in 1..responses {
            socket.send(&create()).await;
            socket.event("response.done").await;
        }
        socket.send(&create()).await;
        // More is wanted at once, turns that would answer themselves included: none of it may be begun.
        for audio in ["QkJCQg==", "AAAA"].repeat(3) {
            socket.send(&json!({"type": "input_audio_buffer.append", "audio": audio})).await;
        }
        socket.event("response.done").await;
        let (events, ended) = socket.rest().await;
        let error = events.last().expect("an error");
        assert_eq!((&error["type"], &error["error"]["code"]), (&json!("error"), &json!("insufficient_quota")));
        assert_eq!(error["error"]["type"], "insufficient_quota");
        assert_eq!(ended, Ended::Closed(1008));
        cast.hung_up().await;
        assert_eq!(cast.provider.last(|line| line.begun), responses);
        let budget = cast.scene.settled().await;
        assert_eq!(budget.posted, i128::try_from(responses).expect("small") * COST);
        assert!(budget.posted <= cap);
        let refused = Socket::try_open(
            cast.scene.gateway.edge(),
            PATH,
            &[("authorization", &format!("Bearer {}", cast.scene.tenant.token))],
        )
        .await
        .err()
        .expect("refused");
        assert_eq!((refused.status, &refused.body["error"]["code"]), (429, &json!("insufficient_quota")));
        assert_eq!(cast.provider.calls(), 1, "nobody is asked on a spent budget");
    }
}

/// Two conversations at once share one budget
#[tokio::test(flavor = "multi_thread")]
async fn conversations_at_once_never_hold_more_than_the_budget() {
    let cast = Cast::with(&usd(2 * RESERVED + 10), &[]).await;
    let (first, second) = (cast.open().await, cast.open().await);
    let bearer = format!("Bearer {}", cast.scene.tenant.token);
    let third = Socket::try_open(cast.scene.gateway.edge(), PATH, &[("authorization", &bearer)]).await;
    assert_eq!(third.err().expect("refused").status, 429);
    assert_eq!(cast.provider.calls(), 2);
    first.close().await;
    second.close().await;
    assert_eq!(cast.scene.settled().await.posted, 0, "nothing was begun, nothing is billed");
}

/// The provider answers no turn by itself: the gateway asks, on a ticket
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_that_has_ended_is_answered_once_on_a_ticket() {
    let cast = Cast::new().await;
    let mut socket = cast.open().await;
    let append = |audio: &str| json!({"type": "input_audio_buffer.append", "audio": audio});
    socket.send(&append("QkJCQg==")).await;
    socket.send(&append("AAAA")).await;
    socket.event("response.done").await;
    cast.provider.last(|line| {
        let update = &line.events[0];
        assert_eq!(update["type"], "session.update");
        assert_eq!(update["session"]["audio"]["input"]["turn_detection"]["create_response"], false);
        assert_eq!(update["session"]["max_output_tokens"], 100);
        assert_eq!((line.begun, line.of("response.create").len()), (1, 1));
    });
    // A client that wants no answers gets none.
    let turns = json!({"type": "server_vad", "create_response": false});
    let update = |turns: &Value| {
        let session = json!({"type": "realtime", "audio": {"input": {"turn_detection": turns}}});
        json!({"type": "session.update", "session": session})
    };
    let answers = |event: &Value| event["session"]["audio"]["input"]["turn_detection"]["create_response"].clone();
    socket.send(&update(&json!({"type": "server_vad"}))).await;
    assert_eq!(answers(&socket.event("session.updated").await), true, "a client sees what it wanted");
    socket.send(&update(&turns)).await;
    assert_eq!(answers(&socket.event("session.updated").await), false);
    socket.send(&append("QkJCQg==")).await;
    socket.send(&append("AAAA")).await;
    socket.event("input_audio_buffer.committed").await;
    socket.send(&item("still here")).await;
    socket.event("conversation.item.done").await;
    assert_eq!(cast.provider.last(|line| line.begun), 1);
    socket.close().await;
    assert_eq!(cast.scene.settled().await.posted, COST);
}

/// One response at a time: another one is neither forwarded nor billed
#[tokio::test(flavor = "multi_thread")]
async fn a_response_beside_another_is_refused_and_the_conversation_goes_on() {
    let cast = Cast::new().await;
    let gate = Gate::new();
    cast.provider.next(Spoken { gate: Some((1, gate.clone())), ..Spoken::default() });
    let mut socket = cast.open().await;
    socket.send(&create()).await;
    socket.event("response.output_text.delta").await;
    socket.send(&json!({"type": "response.create", "event_id": "beside", "response": {"conversation": "none"}})).await;
    let error = socket.event("error").await;
    assert_eq!(error["error"]["code"], "conversation_already_has_active_response");
    assert_eq!(error["error"]["event_id"], "beside");
    assert_eq!(cast.provider.last(|line| line.of("response.create").len()), 1);
    gate.open();
    socket.event("response.done").await;
    // What the provider itself refuses leaves the way free for the next.
    socket.send(&json!({"type": "response.create", "response": {"instructions": "be-refused"}})).await;
    assert_eq!(socket.event("error").await["error"]["param"], "response.instructions");
    socket.send(&create()).await;
    socket.event("response.done").await;
    cast.spoken(2).await;
    socket.close().await;
}

/// What can't be bounded is refused by name; what is too much is capped
#[tokio::test(flavor = "multi_thread")]
async fn a_session_stays_within_what_is_reserved() {
    let cast = Cast::new().await;
    let mut socket = cast.open().await;
    for (session, param) in [
        (
            json!({"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://mcp.example"}]}),
            "session.tools",
        ),
        (json!({"audio": {"input": {"transcription": {"model": "whisper-1"}}}}), "session.audio.input.transcription"),
        (json!({"input_audio_transcription": {"model": "whisper-1"}}), "session.input_audio_transcription"),
        (json!({"model": "alpha"}), "session.model"),
        (json!({"prompt": {"id": "pmpt_1"}}), "session.prompt"),
    ] {
        socket.send(&json!({"type": "session.update", "event_id": "mine", "session": session})).await;
        let error = socket.next().await.expect("an event");
        assert_eq!((&error["error"]["param"], &error["error"]["event_id"]), (&json!(param), &json!("mine")), "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
    }
    for unknown in
        [json!({"type": "transcription_session.update"}), json!({"type": "response.create", "response": 7}), json!(7)]
    {
        socket.send(&unknown).await;
        assert_eq!(socket.next().await.expect("an event")["type"], "error");
    }
    socket.send_text(r#"{"type":"input_audio_buffer.commit","type":"response.create"}"#).await;
    assert_eq!(socket.next().await.expect("an event")["error"]["param"], "type");
    let tools = json!([{"type": "function", "name": "look", "parameters": {}}]);
    let session = json!({"type": "realtime", "max_output_tokens": "inf", "tools": tools, "later": {"unknown": 1}});
    socket.send(&json!({"type": "session.update", "session": session})).await;
    socket.event("session.updated").await;
    socket.send(&json!({"type": "response.create", "response": {"max_output_tokens": 5_000}})).await;
    socket.event("response.done").await;
    cast.provider.last(|line| {
        assert_eq!(line.events.len(), 3, "the set-up, the update, the response: {:#?}", line.events);
        let update = &line.events[1]["session"];
        assert_eq!((&update["max_output_tokens"], &update["later"]), (&json!(100), &json!({"unknown": 1})));
        assert_eq!(line.events[2]["response"]["max_output_tokens"], 100);
    });
    socket.close().await;
}

/// A provider that does not keep to what bounds the session is not talked to
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_be_bounded_is_never_opened() {
    let cast = Cast::new().await;
    cast.provider.defy();
    let bearer = format!("Bearer {}", cast.scene.tenant.token);
    let refused = Socket::try_open(cast.scene.gateway.edge(), PATH, &[("authorization", &bearer)]).await.err();
    assert_eq!(refused.expect("refused").status, 502);
    assert_eq!(cast.scene.settled().await.posted, 0);
}

/// S8-05, M-02: the client leaves
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cuts_the_provider_and_is_billed_for_what_it_heard() {
    let cast = Cast::new().await;
    cast.provider.next(Spoken { gate: Some((2, Gate::new())), ..Spoken::default() });
    let mut socket = cast.open().await;
    socket.send(&item("hello")).await;
    socket.send(&create()).await;
    socket.event("response.output_text.delta").await;
    socket.event("response.output_text.delta").await;
    drop(socket);
    cast.hung_up().await;
    let row = cast.spoken(1).await.remove(0);
    assert!(row.estimated && row.outcome == "partial" && row.input > 0 && row.output >= 2, "{row:?}");
    assert!(row.cost > 0 && row.cost < RESERVED, "{row:?}");
}

/// S8-06, M-03: the provider breaks off
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_provider_ends_in_an_error_and_a_bill_for_what_came() {
    let cast = Cast::new().await;
    cast.provider.next(Spoken { breaks_after: Some(1), ..Spoken::default() });
    let mut socket = cast.open().await;
    socket.send(&create()).await;
    let (events, ended) = socket.rest().await;
    let error = events.last().expect("an error");
    assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("upstream_error")), "{error}");
    assert_eq!(ended, Ended::Closed(1011));
    assert!(!events.iter().any(|event| event["type"] == "response.done"));
    let row = cast.spoken(1).await.remove(0);
    assert!(row.estimated && row.outcome == "partial" && row.cost > 0, "{row:?}");
}

/// M-05: what the provider answers instead of a WebSocket
#[tokio::test(flavor = "multi_thread")]
async fn a_providers_refusal_is_told_before_anything_is_switched() {
    for (status, told) in [(429, 429), (401, 502), (500, 502), (404, 404)] {
        let cast = Cast::new().await;
        cast.provider.refuse(status);
        let bearer = format!("Bearer {}", cast.scene.tenant.token);
        let refused = Socket::try_open(cast.scene.gateway.edge(), PATH, &[("authorization", &bearer)]).await.err();
        let refused = refused.expect("refused");
        assert_eq!(refused.status, told, "{refused:?}");
        assert!(refused.body["error"]["message"].is_string(), "{refused:?}");
        let budget = cast.scene.settled().await;
        assert_eq!((budget.posted, budget.pending), (0, 0));
    }
}

/// A-07: a revoked token says nothing more
#[tokio::test(flavor = "multi_thread")]
async fn revoking_the_token_closes_the_conversation() {
    let cast = Cast::new().await;
    let (id, token) = cast.scene.admin().mint("acme", &json!({})).await;
    let mut socket = Socket::open(cast.scene.gateway.edge(), PATH, &token).await;
    let mut other = cast.open().await;
    socket.event("session.created").await;
    cast.scene.admin().revoke("acme", &id).await;
    let (events, ended) = socket.rest().await;
    assert_eq!(events.last().expect("an error")["error"]["code"], "invalid_api_key");
    assert_eq!(ended, Ended::Closed(1008));
    other.send(&create()).await;
    other.event("response.done").await;
    other.close().await;
    assert_eq!(cast.scene.settled().await.posted, COST);
}

/// An idle WebSocket does not hold a reservation for ever
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_on_which_nothing_is_said_is_closed() {
    let cast = Cast::with("1000", &["websocket_idle_seconds = 1"]).await;
    let mut socket = cast.open().await;
    socket.send(&item("hello")).await;
    let (events, ended) = socket.rest().await;
    assert_eq!(events.last().expect("an error")["error"]["code"], "websocket_idle");
    assert_eq!(ended, Ended::Closed(1001));
    let budget = cast.scene.settled().await;
    assert_eq!((budget.posted, budget.held), (0, 0));
}

/// E-09: a message is as bounded as a body
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_closes_the_websocket() {
    let cast = Cast::with("1000", &["max_body_bytes = 65536"]).await;
    let mut socket = cast.open().await;
    socket.send(&json!({"type": "input_audio_buffer.append", "audio": "A".repeat(60_000)})).await;
    socket.send(&json!({"type": "input_audio_buffer.append", "audio": "A".repeat(70_000)})).await;
    let (events, ended) = socket.rest().await;
    assert_eq!(events.last().expect("an error")["error"]["code"], "request_too_large");
    assert_eq!(ended, Ended::Closed(1009));
}

/// Q-08: a dying process bills what was heard and holds the rest
#[tokio::test(flavor = "multi_thread")]
async fn a_response_in_flight_survives_the_death_of_the_process() {
    let mut cast = Cast::new().await;
    cast.provider.next(Spoken { gate: Some((2, Gate::new())), ..Spoken::default() });
    let mut socket = cast.open().await;
    socket.send(&item("hello")).await;
    socket.send(&create()).await;
    socket.event("response.output_text.delta").await;
    cast.scene.gateway.kill_9();
    cast.hung_up().await;
    cast.scene.restarted().await;
    let row = cast.scene.rows_once(1).await.remove(0);
    assert_eq!((row.outcome.as_str(), row.cost + row.held), ("recovered", RESERVED), "{row:?}");
    assert!(row.cost > 0, "{row:?}");
}

/// S8-07: SIGTERM closes conversations that pause, and lets a response end
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_a_response_end_and_then_closes() {
    let mut cast = Cast::new().await;
    let gate = Gate::new();
    cast.provider.next(Spoken { gate: Some((1, gate.clone())), ..Spoken::default() });
    let mut socket = cast.open().await;
    socket.send(&create()).await;
    socket.event("response.output_text.delta").await;
    cast.scene.gateway.signal(Signal::TERM);
    gate.open();
    socket.event("response.done").await;
    let (_, ended) = socket.rest().await;
    assert_eq!(ended, Ended::Closed(1001));
    assert!(cast.scene.gateway.ended().await.success());
    let row = cast.scene.rows().into_iter().find(|row| row.outcome != "void").expect("a row");
    assert_eq!((row.cost, row.held, row.estimated), (COST, 0, false));
}

/// K1: the official client, with nothing but the base URL and the key changed
#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_talks() {
    let cast = Cast::new().await;
    cast.provider.next(Spoken { calls: Some("look".to_owned()), ..Spoken::default() });
    let url = format!("http://{}/v1", cast.scene.gateway.edge());
    let spent = cast.scene.admin().tenant("spent", json!({ "usd_per_day": "0.000001" })).await;
    let result = sdk::run_python("realtime.py", &[&url, &cast.scene.tenant.token, &spent.token]).await;
    assert_eq!(
        result,
        json!({
            "model": "voice", "texts": ["one two three ", "one two three "], "usage": [[10, 3], [10, 3]], "calls": ["look"],
            "error": "session.tools", "refused": 429
        })
    );
    assert_eq!(cast.scene.settled().await.posted, 2 * COST);
}

/// I-06: the conversation of a tenant that is deleted ends, here and at the provider, and what was said is billed
#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_tenant_ends_its_conversation() {
    let cast = Cast::new().await;
    cast.provider.next(Spoken::default());
    let mut socket = cast.open().await;
    socket.send(&create()).await;
    socket.event("response.done").await;
    let gone = cast.scene.admin().send(http::Method::DELETE, "/v1/tenants/acme?confirm=acme").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(socket.rest().await.1, Ended::Closed(1008));
    cast.hung_up().await;
    assert_eq!(cast.spoken(1).await[0].cost, COST);
}

/// E-11: an event that is nested too deeply is refused; the process lives, and the next conversation is held
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_nested_too_deeply_is_refused() {
    let cast = Cast::new().await;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        for text in [
            format!(r#"{{"type":"session.update","session":{deep}}}"#),
            format!(r#"{{"type":"response.create","response":{{"metadata":{deep}}}}}"#),
            deep.clone(),
        ] {
            let mut socket = cast.open().await;
            socket.send_text(&text).await;
            match socket.next().await {
                Ok(event) => assert_eq!(event["type"], "error", "{event}"),
                Err(Ended::Closed(code)) => assert!([1007, 1008].contains(&code), "{code}"),
                Err(Ended::Broken) => panic!("it ended without a word"),
            }
        }
    }
    let asked = cast.provider.last(|line| line.begun);
    assert_eq!(asked, 0, "the provider was asked for nothing");
    cast.provider.next(Spoken::default());
    let mut socket = cast.open().await;
    socket.send(&create()).await;
    socket.event("response.done").await;
}
