//! Lists by pages.

use serde_json::json;

use crate::admin::tests::scene::Scene;

async fn all(scene: &Scene, path: &str, limit: u32) -> Vec<String> {
    let (mut ids, mut after) = (Vec::new(), String::new());
    loop {
        let page = scene.get(&format!("{path}?limit={limit}{after}")).await.json();
        let rows = page["data"].as_array().unwrap();
        assert!(rows.len() <= usize::try_from(limit).unwrap());
        ids.extend(
            rows.iter().map(|row| {
                row.get("id").map_or_else(|| row["version"].to_string(), |id| id.as_str().unwrap().to_owned())
            }),
        );
        assert_eq!(page["has_more"].as_bool().unwrap(), page["next"].is_string());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn pages_have_no_gap_and_no_overlap() {
    let scene = Scene::new().await;
    let mut expected = vec!["acme".to_owned()];
    for number in 0..7 {
        assert_eq!(scene.post("/v1/tenants", &json!({"id": format!("page-{number}")})).await.status, 201);
        assert_eq!(scene.post("/v1/tenants/acme/tokens", &json!({})).await.status, 201);
        let card = json!({"models": {"m": {"input": "1"}}});
        assert_eq!(scene.call(http::Method::PUT, "/v1/rates", Some(&card)).await.status, 200);
        expected.push(format!("page-{number}"));
    }
    for limit in [1, 3, 4, 8, 100] {
        assert_eq!(all(&scene, "/v1/tenants", limit).await, expected, "{limit}");
        assert_eq!(all(&scene, "/v1/tenants/acme/tokens", limit).await.len(), 8, "{limit}");
        assert_eq!(all(&scene, "/v1/rates/history", limit).await, ["1", "2", "3", "4", "5", "6", "7"], "{limit}");
    }
}

#[tokio::test]
async fn a_limit_is_1_to_1000() {
    let scene = Scene::new().await;
    for bad in ["0", "-1", "1001", "x", "", "1e2", "4294967297"] {
        scene.get(&format!("/v1/tenants?limit={bad}")).await.refused(400);
    }
    scene.get("/v1/tenants?after=NOT%20AN%20ID").await.refused(400);
    assert_eq!(scene.get("/v1/tenants?limit=1000").await.status, 200);
}
