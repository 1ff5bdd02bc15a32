//! Imports of prices over the API.

use serde_json::{Value, json};

use crate::admin::tests::scene::Scene;

const IMPORT: &str = "/v1/rates/import";

fn card(input: &str) -> Value {
    json!({"models": {"m": {"input": input, "output": "2", "flex": {"input": "0.5", "output": "1"},
        "tiers": [{"context_over": 1000, "input": "3", "output": "4"}]}}})
}

#[tokio::test]
async fn a_dry_run_shows_the_difference_field_by_field_and_changes_nothing() {
    let scene = Scene::new().await;
    let first = scene.post(IMPORT, &json!({"format": "openclawmu", "prices": card("1")})).await;
    assert_eq!((first.status.as_u16(), &first.json()["rate_card"]["version"]), (201, &json!(1)), "{}", first.text);
    let mut other = card("1.5");
    other["models"]["m"]["flex"]["input"] = "0.6".into();
    other["models"]["m"]["tiers"][0]["output"] = "5".into();
    other["models"]["new"] = json!({"input_second": "0.0001"});
    let body = json!({"prices": other, "dry_run": true, "effective_from": "2026-12-01T00:00:00Z"});
    let dry = scene.post(IMPORT, &body).await;
    assert_eq!(dry.status, 200, "{}", dry.text);
    let dry = dry.json();
    assert_eq!(
        dry["changed"]["m"],
        json!({
            "input": {"old": "1.000000000", "new": "1.500000000"},
            "flex.input": {"old": "0.500000000", "new": "0.600000000"},
            "tiers[over 1000].output": {"old": "4.000000000", "new": "5.000000000"},
        })
    );
    assert_eq!((&dry["added"]["new"]["input_second"], &dry["rate_card"]), (&json!("0.000100000"), &Value::Null));
    assert_eq!(scene.get("/v1/rates").await.json()["models"]["m"]["input"], "1.000000000");
    assert_eq!(scene.get("/v1/rates").await.json()["models"]["m"]["source"], "import");

    let scheduled = scene.post(IMPORT, &json!({"prices": other, "effective_from": "2026-12-01T00:00:00Z"})).await;
    assert_eq!(scheduled.json()["rate_card"]["effective_from"], "2026-12-01T00:00:00.000Z");
    assert_eq!(scene.get("/v1/rates").await.json()["models"]["m"]["input"], "1.000000000");
    let history = scene.get("/v1/rates/history").await.json();
    assert_eq!((&history["data"][1]["source"], &history["data"][2]), (&json!("import"), &Value::Null));
}

#[tokio::test]
async fn a_bad_list_is_refused_and_says_what_to_do() {
    let scene = Scene::new().await;
    for (body, field) in [
        (json!({}), "prices"),
        (json!({"prices": {}}), "prices"),
        (json!({"prices": {"models": {}}}), "prices"),
        (json!({"prices": {"models": {"m": {"input": 1.5}}}}), "prices"),
        (json!({"prices": {"models": {"m": {"output": "1"}}}}), "models.m"),
        (json!({"prices": card("1"), "format": "csv"}), "format"),
        (json!({"prices": card("1"), "effective_from": "soon"}), "effective_from"),
        (json!({"prices": card("1"), "dry": true}), "dry"),
    ] {
        let refused = scene.post(IMPORT, &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.text.contains(field), "{body}: {}", refused.text);
    }
    assert_eq!(scene.get("/v1/rates/history").await.json()["data"], json!([]));
}

#[tokio::test]
async fn a_list_of_several_megabytes_is_taken_here_and_nowhere_else() {
    let scene = Scene::new().await;
    let long = "x".repeat(100);
    let models: serde_json::Map<String, Value> = (0..15_000)
        .map(|n| (format!("{long}-{n}"), json!({"litellm_provider": "x", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6})))
        .collect();
    let body = json!({"prices": models, "dry_run": true});
    assert!(body.to_string().len() > 2 << 20);
    let taken = scene.post(IMPORT, &body).await;
    assert_eq!((taken.status.as_u16(), taken.json()["added"].as_object().unwrap().len()), (200, 15_000));
    let huge = json!({"prices": {"models": {}}, "only": [" ".repeat(16 << 20)]});
    let refused = scene.post(IMPORT, &huge).await;
    assert!(refused.status == 413 && refused.text.contains("16777216"), "{}", refused.text);
    let elsewhere = scene.post("/v1/tenants", &json!({"id": "x", "name": " ".repeat(2 << 20)})).await;
    assert!(elsewhere.status == 413 && elsewhere.text.contains("1048576"), "{}", elsewhere.text);
}
