//! Credits, holds, the request log and the reconciliation over the API.

use axum::body::Body;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use openclawmu_store::{NanoUsd, RequestId};
use serde_json::{Value, json};

use crate::admin::tests::scene::{Answer, KEY, Scene, request};

async fn keyed(scene: &Scene, path: &str, key: &str, body: &Value) -> Answer {
    let request = request(Method::POST, path)
        .header(AUTHORIZATION, format!("Bearer {KEY}"))
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", key);
    scene.send(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn posted(scene: &Scene) -> String {
    let quota = scene.get("/v1/tenants/acme/quota").await.json();
    quota["usd_per_month"]["posted"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_credit_is_given_once_for_each_key_and_stands_in_every_book() {
    let scene = Scene::new().await;
    scene.bill("m", 1).await;
    let body = json!({"amount_usd": "0.001", "reason": "the answer was cut"});
    let first = keyed(&scene, "/v1/tenants/acme/credits", "one", &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let again = keyed(&scene, "/v1/tenants/acme/credits", "one", &body).await;
    assert_eq!((again.status.as_u16(), &again.text), (201, &first.text));
    let credit = &first.json()["credit"];
    assert_eq!(
        (&credit["amount_usd"], &credit["day"], &credit["month"], &credit["reason"]),
        (&json!("0.001000000"), &json!("2026-11-22"), &json!("2026-11"), &json!("the answer was cut"))
    );
    assert_eq!(posted(&scene).await, "0.003000000");
    let report = scene.get("/v1/reports/usage?period=2026-11").await.json();
    assert_eq!((&report["total"]["cost_usd"], &report["total"]["requests"]), (&json!("0.003000000"), &json!(1)));
    assert_eq!((&report["rows"][0]["model"], &report["rows"][0]["requests"]), (&json!("credit"), &json!(0)));
    let log = scene.get("/v1/tenants/acme/requests?outcome=credit").await.json();
    assert_eq!((&log["data"][0]["id"], &log["data"][0]["cost_usd"]), (&credit["id"], &json!("-0.001000000")));
    assert_eq!(scene.get("/v1/reports/reconcile").await.json()["differences"], json!([]));
}

#[tokio::test]
async fn a_credit_that_says_too_little_is_refused_by_its_field() {
    let scene = Scene::new().await;
    for (body, field) in [
        (json!({"reason": "x"}), "amount_usd"),
        (json!({"amount_usd": "1"}), "reason"),
        (json!({"amount_usd": "0", "reason": "x"}), "amount_usd"),
        (json!({"amount_usd": "-1", "reason": "x"}), "amount_usd"),
        (json!({"amount_usd": 1.5, "reason": "x"}), "amount_usd"),
        (json!({"amount_usd": "1", "reason": "\u{7}"}), "reason"),
        (json!({"amount_usd": "1", "reason": "x", "tenant": "y"}), "tenant"),
    ] {
        let refused = scene.post("/v1/tenants/acme/credits", &body).await;
        assert_eq!(refused.refused(400), "invalid_value", "{body}");
        assert_eq!(refused.json()["error"]["field"], field, "{body}");
    }
    let body = json!({"amount_usd": "1", "reason": "x"});
    assert_eq!(scene.post("/v1/tenants/nobody/credits", &body).await.refused(404), "not_found");
    assert_eq!(posted(&scene).await, "0.000000000");
}

#[tokio::test]
async fn a_hold_is_listed_and_ends_once() {
    let scene = Scene::new().await.with_a_hold().await;
    let held = scene.get("/v1/tenants/acme/held").await.json();
    assert_eq!(held["data"], scene.get("/v1/held").await.json()["data"]);
    let hold = &held["data"][0];
    assert_eq!(
        (&hold["tenant"], &hold["model"], &hold["held_usd"]),
        (&json!("acme"), &json!("m"), &json!("0.002000000"))
    );
    let path = format!("/v1/tenants/acme/held/{}/resolve", hold["id"].as_str().unwrap());
    assert_eq!(scene.post(&path, &json!({"reason": "x"})).await.json()["error"]["field"], "action");
    assert_eq!(scene.post(&path, &json!({"action": "keep", "reason": "x"})).await.status, 400);
    let posted = scene.post(&path, &json!({"action": "post", "reason": "on their invoice"})).await;
    assert_eq!(posted.status, 201, "{}", posted.text);
    assert_eq!(posted.json()["resolution"]["posted_usd"], "0.002000000");
    assert_eq!(scene.post(&path, &json!({"action": "release", "reason": "x"})).await.refused(409), "conflict");
    for gone in ["/v1/tenants/acme/held/evt_0000000000000000/resolve", "/v1/tenants/acme/held/nonsense/resolve"] {
        assert_eq!(scene.post(gone, &json!({"action": "post", "reason": "x"})).await.refused(404), "not_found");
    }
    assert_eq!(scene.get("/v1/held").await.json()["data"], json!([]));
    assert_eq!(scene.get("/v1/reports/reconcile").await.json()["difference_count"], 0);
}

#[tokio::test]
async fn the_request_log_comes_by_pages_and_by_filters() {
    let scene = Scene::new().await;
    for number in 1..=5 {
        scene.bill(if number % 2 == 0 { "even" } else { "odd" }, number).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v1/tenants/acme/requests?limit=2".to_owned();
    loop {
        let page = scene.get(&path).await.json();
        seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["request_id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/tenants/acme/requests?limit=2&after={next}");
    }
    let all: Vec<String> = [5, 4, 3, 2, 1].map(|number| RequestId(number).to_string()).into();
    assert_eq!(seen, all);
    for (query, count) in [
        ("model=even", 2),
        ("model=even&status=200&outcome=complete", 2),
        (&*format!("request_id={}", all[0]), 1),
        ("from=2026-11-22&to=2026-11-23", 5),
        ("from=2026-11-23", 0),
        ("user=", 5),
        ("tag=x", 0),
    ] {
        let page = scene.get(&format!("/v1/tenants/acme/requests?{query}")).await.json();
        assert_eq!(page["data"].as_array().unwrap().len(), count, "{query}");
    }
    for (query, field) in [
        ("limit=0", "limit"),
        ("status=x", "status"),
        ("outcome=fine", "outcome"),
        ("request_id=1", "request_id"),
        ("after=x", "after"),
        ("from=soon", "from"),
        ("format=focus", "format"),
    ] {
        let refused = scene.get(&format!("/v1/tenants/acme/requests?{query}")).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["error"]["field"]), (400, &json!(field)), "{query}");
    }
    let csv = scene.get("/v1/tenants/acme/requests?format=csv").await;
    assert_eq!((csv.text.lines().count(), csv.header("content-disposition").is_some()), (6, true));
    assert_eq!(scene.get("/v1/tenants/acme/requests?format=csv").await.text, csv.text);
}

#[tokio::test]
async fn m_07_a_past_months_report_stays_as_it_is_whatever_is_changed_later() {
    let scene = Scene::new().await.with_a_hold().await;
    scene.bill("m", 7).await;
    scene.clock.set(openclawmu_store::UnixMs::parse_rfc3339("2026-12-05T12:00:00Z").unwrap());
    let paths = [
        "/v1/reports/usage?period=2026-11&format=csv",
        "/v1/reports/usage?period=2026-11&format=csv&include=markup&group_by=day,user,tag",
        "/v1/reports/usage?period=2026-11&format=focus",
        "/v1/reports/usage?period=2026-11&format=json",
        "/v1/tenants/acme/usage?from=2026-11-01&to=2026-12-01",
    ];
    let before = all(&scene, &paths).await;
    let rates = json!({"models": {"m": {"input": "200", "output": "400"}}});
    assert_eq!(scene.call(Method::PUT, "/v1/rates", Some(&rates)).await.status, 200);
    let changed = json!({"markup_percent": "25", "timezone": "UTC", "quota": {"usd_per_day": "9"}});
    assert_eq!(scene.call(Method::PATCH, "/v1/tenants/acme", Some(&changed)).await.status, 200);
    let hold = scene.get("/v1/held").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
    let end = json!({"action": "post", "reason": "x"});
    assert_eq!(scene.post(&format!("/v1/tenants/acme/held/{hold}/resolve"), &end).await.status, 201);
    let credit = json!({"amount_usd": "1", "reason": "x"});
    assert_eq!(scene.post("/v1/tenants/acme/credits", &credit).await.status, 201);
    assert_eq!(all(&scene, &paths).await, before);
    let december = scene.get("/v1/reports/usage?period=2026-12").await.json();
    assert_eq!(december["total"]["cost_usd"], "-0.998000000", "what was decided in December is December's");
}

async fn all(scene: &Scene, paths: &[&str]) -> Vec<String> {
    let mut texts = Vec::new();
    for path in paths {
        let answer = scene.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        texts.push(answer.text);
    }
    texts
}

#[tokio::test]
async fn m_10_every_form_of_a_months_report_has_the_budgets_total() {
    let scene = Scene::new().await;
    let markup = json!({"markup_percent": "17.5", "timezone": "Pacific/Auckland", "name": "=1+1"});
    assert_eq!(scene.call(Method::PATCH, "/v1/tenants/acme", Some(&markup)).await.status, 200);
    for number in 1..=3 {
        scene.bill("m", number).await;
        scene.clock.set(openclawmu_store::UnixMs::parse_rfc3339("2026-11-30T10:59:59Z").unwrap());
    }
    // In Auckland it is December one second later, and not in UTC.
    let json = scene.get("/v1/reports/usage?period=2026-11").await.json();
    assert_eq!(json["total"]["cost_usd"], posted(&scene).await);
    assert_eq!(
        (&json["total"]["markup_usd"], &json["total"]["billed_usd"]),
        (&json!("0.002100000"), &json!("0.014100000"))
    );
    let last = |text: &str| -> NanoUsd {
        text.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().parse::<NanoUsd>().unwrap()).sum()
    };
    let csv = scene.get("/v1/reports/usage?period=2026-11&format=csv").await.text;
    assert_eq!(last(&csv).to_string(), "0.012000000");
    assert!(csv.contains(",'=1+1,"), "{csv}");
    let billed = scene.get("/v1/reports/usage?period=2026-11&format=csv&include=markup").await.text;
    assert_eq!(last(&billed).to_string(), "0.014100000");
    let focus = scene.get("/v1/reports/usage?period=2026-11&format=focus").await.text;
    let costs: NanoUsd =
        focus.lines().skip(1).map(|line| line.split(',').next().unwrap().parse::<NanoUsd>().unwrap()).sum();
    assert_eq!(costs.to_string(), "0.014100000");
    assert_eq!(scene.get("/v1/reports/usage?period=2026-11&include=all").await.status, 400);
}
