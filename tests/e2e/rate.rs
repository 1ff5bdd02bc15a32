//! Prices in use: service tiers, imports, overrides, the fallback, images.

use openclawmu_tests::client::chat;
use openclawmu_tests::{Behaviour, Gate, Scene, Setup, Upstream};
use serde_json::{Value, json};

/// Puts the prices of one model.
async fn put(scene: &Scene, model: &str, price: Value) {
    let card = json!({ "models": { model: price } });
    let put = scene.admin().send_json(http::Method::PUT, "/v1/rates", &card).await;
    assert_eq!(put.status, 200, "{}", put.text());
}

/// `flat` at 10 USD per million tokens of answer, 5 for flex, 20 for priority.
async fn tiered() -> Scene {
    let scene = Scene::new().await;
    let price = json!({ "input": "0", "output": "10", "max_output_tokens": 4096,
        "flex": { "input": "0", "output": "5" }, "priority": { "input": "0", "output": "20" } });
    put(&scene, "flat", price).await;
    scene
}

fn asking(tier: &str, message: &str, stream: bool) -> Value {
    let mut body = chat("flat", message, 100);
    body["service_tier"] = json!(tier);
    body["stream"] = json!(stream);
    body
}

/// M-11
#[tokio::test(flavor = "multi_thread")]
async fn flex_and_priority_are_billed_at_the_tier_that_the_answer_names() {
    let scene = tiered().await;
    let cases = [
        ("flex", Some("flex"), "flex", 50_000),
        ("flex", Some("default"), "standard", 100_000),
        ("priority", Some("priority"), "priority", 200_000),
        ("priority", Some("default"), "standard", 100_000),
        ("default", Some("default"), "standard", 100_000),
        // Where the answer is silent, the dearer of the asked and the ordinary tier counts.
        ("flex", None, "standard", 100_000),
        ("priority", None, "priority", 200_000),
    ];
    let mut rows = 0;
    for (asked, said, billed, cost) in cases {
        scene.upstream.always(Behaviour { service_tier: said, ..Behaviour::words(10) });
        for stream in [false, true] {
            let body = asking(asked, "hi", stream);
            if stream {
                scene.client.stream(&body).await.rest().await;
            } else {
                scene.client.chat(&body).await.ok();
            }
            assert_eq!(scene.upstream.last().json()["service_tier"], asked, "what was asked for is passed on");
            rows += 1;
            let row = scene.rows_once(rows).await.pop().expect("a row");
            assert_eq!((row.service_tier.as_str(), row.cost), (billed, cost), "{asked} {said:?} stream={stream}");
            assert!(row.cost <= row.reserved && !row.estimated);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_covers_the_asked_tier_and_the_ordinary_one() {
    let scene = tiered().await;
    for (asked, pending) in [("priority", 2_000_000), ("flex", 1_000_000), ("default", 1_000_000)] {
        let gate = Gate::new();
        scene.upstream.when(asked, Behaviour::gated(10, 2, &gate));
        let mut stream = scene.client.stream(&asking(asked, asked, true)).await;
        stream.texts(2).await;
        assert_eq!(scene.budget().await.pending, pending, "{asked}");
        gate.open();
        stream.rest().await;
        scene.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_without_a_price_is_400_before_the_upstream_is_called() {
    let scene = Scene::new().await;
    for tier in ["flex", "priority", "scale", "batch"] {
        let refused = scene.client.chat(&asking(tier, "hi", false)).await;
        assert_eq!((refused.status, &refused.json()["error"]["param"]), (400, &json!("service_tier")), "{tier}");
    }
    assert_eq!(scene.upstream.calls(), 0);
    scene.client.chat(&asking("default", "hi", false)).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_cannot_pass_a_budget_by_a_dearer_tier() {
    let scene = tiered().await;
    for body in [chat("flat", "hi", 100), asking("auto", "hi", false)] {
        scene.client.chat(&body).await.ok();
        assert_eq!(scene.upstream.last().json()["service_tier"], "default", "a budget in dollars: the tier is named");
    }
    let free = scene.admin().tenant("free", json!({})).await;
    scene.client.with_token(&free.token).chat(&chat("flat", "hi", 100)).await.ok();
    assert!(scene.upstream.last().json().get("service_tier").is_none(), "no budget: the body stays as it is");
    scene.client.chat(&chat("alpha", "hi", 100)).await.ok();
    assert!(scene.upstream.last().json().get("service_tier").is_none(), "no dearer tier: the body stays as it is");
}

/// The same where the answer is written anew: a response toward a provider's chat
#[tokio::test(flavor = "multi_thread")]
async fn a_responses_tier_is_passed_on_told_and_billed() {
    let scene = tiered().await;
    for (asked, said, billed, cost) in [
        ("flex", "flex", "flex", 50_000),
        ("flex", "default", "standard", 100_000),
        ("default", "default", "standard", 100_000),
    ] {
        scene.upstream.always(Behaviour { service_tier: Some(said), ..Behaviour::words(10) });
        for stream in [false, true] {
            let rows = scene.rows().len();
            let body = json!({
                "model": "flat", "input": "hi", "max_output_tokens": 10, "service_tier": asked, "stream": stream
            });
            let reply = scene.client.post("/v1/responses", &body).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            let response = if stream {
                let events = openclawmu_tests::sse::all(&reply.body);
                let end = events.iter().rfind(|event| event.name.as_deref() == Some("response.completed"));
                end.expect("an end").json()["response"].clone()
            } else {
                reply.json()
            };
            assert_eq!(response["service_tier"], said, "{response}");
            assert_eq!(scene.upstream.last().json()["service_tier"], asked);
            let row = scene.rows_once(rows + 1).await.pop().expect("a row");
            assert_eq!((row.service_tier.as_str(), row.cost), (billed, cost), "{asked} {said} stream={stream}");
        }
    }
}

/// Q-13
#[tokio::test(flavor = "multi_thread")]
async fn the_fallback_rate_prices_what_nothing_else_does() {
    let upstream = Upstream::start().await;
    let setup = Setup::bare().upstream("scripted", upstream.address(), &["*"], &[]);
    let scene = Scene::of(upstream, setup, json!({ "usd_per_day": "5" })).await;
    scene.client.chat(&chat("brand-new", "hi", 100)).await.refused(403, "permission_error", "model_not_priced");
    assert_eq!(scene.upstream.calls(), 0);
    put(&scene, "*", json!({ "input": "0", "output": "100" })).await;
    scene.upstream.always(Behaviour::words(10));
    scene.client.chat(&chat("brand-new", "hi", 100)).await.ok();
    scene.client.chat(&chat("flat", "hi", 100)).await.ok();
    let costs: Vec<i128> = scene.rows_once(2).await.iter().map(|row| row.cost).collect();
    assert_eq!(costs, [1_000_000, 100_000], "a model with a price of its own keeps it");
}

/// M-07, M-11
#[tokio::test(flavor = "multi_thread")]
async fn prices_of_the_public_map_are_shown_imported_and_billed_and_leave_past_reports_alone() {
    let scene = Scene::new().await;
    scene.upstream.always(Behaviour { prompt_tokens: Some(100), ..Behaviour::words(10) });
    scene.client.chat(&chat("alpha", "hi", 100)).await.ok();
    scene.settled().await;
    let report = async || {
        let report = scene.admin().get("/v1/tenants/acme/usage").await;
        (report["rows"].to_string(), report["total"].to_string())
    };
    let (before, rows) = (report().await, scene.rows_once(1).await);
    let file = scene.gateway.dir().join("map.json");
    let map = r#"{"sample_spec":{"mode":"one of"},
        "alpha":{"litellm_provider":"x","mode":"chat","input_cost_per_token":1.5e-07,"output_cost_per_token":6e-07,
            "input_cost_per_token_priority":3e-07,"output_cost_per_token_priority":1.2e-06,"max_input_tokens":128000,"max_output_tokens":4096},
        "drawing":{"litellm_provider":"x","mode":"chat","input_cost_per_token":1e-06,"output_cost_per_token":1e-06,"input_cost_per_hologram":1}}"#;
    std::fs::write(&file, map).expect("a file");
    let path = file.to_str().expect("UTF-8");
    let dry = scene.gateway.cli(&["rates", "import", path, "--dry-run", "--json"]).await.json();
    let (old, new) = (&dry["changed"]["alpha"]["input"]["old"], &dry["changed"]["alpha"]["input"]["new"]);
    assert_eq!((old, new), (&json!("2.500000000"), &json!("0.150000000")));
    assert!(dry["skipped"]["drawing"].as_str().expect("a reason").contains("input_cost_per_hologram"));
    let told = scene.gateway.cli(&["rates", "import", path]).await;
    assert!(told.ok().contains("version 2 with 1 models"), "{told:?}");
    assert_eq!((report().await, scene.rows()), (before, rows), "what was billed stays as it was");
    scene.client.chat(&chat("alpha", "hi", 100)).await.ok();
    assert_eq!(scene.rows_once(2).await[1].cost, 100 * 150 + 10 * 600);
    let history = scene.gateway.cli(&["rates", "history"]).await;
    assert_eq!(history.ok().matches("import").count(), 2, "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_prompt_are_reserved_and_billed_by_the_piece() {
    let scene = Scene::new().await;
    let price =
        json!({ "input": "0", "output": "10", "input_image": "0.001", "image_tokens": 100, "max_output_tokens": 4096 });
    put(&scene, "flat", price).await;
    scene.upstream.always(Behaviour::words(10));
    let image = json!({ "type": "image_url", "image_url": { "url": "https://example.com/x.png" } });
    let mut body = chat("flat", "hi", 100);
    body["messages"] = json!([{ "role": "user", "content": [{ "type": "text", "text": "hi" }, image, image] }]);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        if stream {
            scene.client.stream(&body).await.rest().await;
        } else {
            scene.client.chat(&body).await.ok();
        }
    }
    for row in scene.rows_once(2).await {
        assert_eq!((row.input_images, row.cost, row.reserved), (2, 2_100_000, 3_000_000));
    }
}
