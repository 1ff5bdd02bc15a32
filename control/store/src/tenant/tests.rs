//! What holds for tenants.

use serde_json::json;

use super::*;
use crate::scene::{HERE, Scene, operator, tenant_id};
use crate::token::{AuthError, Rejection};

fn patch(json: &str) -> TenantPatch {
    serde_json::from_str(json).unwrap()
}

fn new(json: &str) -> NewTenant {
    serde_json::from_str(json).unwrap()
}

fn invalid_field<T: Send + 'static>(change: Change<T>) -> String {
    match change.wait() {
        Err(StoreError::Invalid { field, .. }) => field,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[tokio::test]
async fn a_tenant_is_echoed_as_the_contract_shows_it() {
    let scene = Scene::new();
    let body = r#"{"id":"acme","name":"Acme","quota":{"usd_per_day":"50","tokens_per_day":5000000},"models":["gpt-*"],"metadata":{"plan":"gold"}}"#;
    let (tenant, token, plain) = scene.store.create_tenant(&operator(), new(body), NewToken::default()).await.unwrap();
    assert_eq!(
        serde_json::to_value(&tenant).unwrap(),
        json!({"id": "acme", "name": "Acme", "quota": {"usd_per_day": "50", "tokens_per_day": 5_000_000, "on_tight_budget": "reject"},
            "models": ["gpt-*"], "status": "active", "timezone": "UTC", "markup_percent": "0", "metadata": {"plan": "gold"},
            "created_at": "2026-11-22T12:00:00.000Z", "updated_at": "2026-11-22T12:00:00.000Z"})
    );
    assert_eq!(scene.store.tenant(&tenant.id).unwrap(), tenant);
    let policy = scene.store.authenticate(plain.expose(), HERE).unwrap();
    assert_eq!((&policy.tenant, &policy.token, &policy.quota), (&tenant.id, &token.id, &tenant.quota));
    let known = scene.store.tenant_policy(&tenant.id).unwrap();
    assert_eq!((known.key, known.quota), (policy.tenant_key, tenant.quota));
}

#[test]
fn an_id_is_made_when_none_is_given_and_an_unknown_field_is_refused() {
    let scene = Scene::new();
    let (tenant, ..) =
        scene.store.create_tenant(&operator(), NewTenant::default(), NewToken::default()).wait().unwrap();
    assert_eq!(tenant.id.as_str().len(), 12);
    assert_eq!(tenant.name, tenant.id.as_str());
    for bad in [r#"{"nmae":"x"}"#, r#"{"id":"A"}"#, r#"{"quota":{"usd_per_dya":"1"}}"#, r#"{"status":"suspended"}"#] {
        assert!(serde_json::from_str::<NewTenant>(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_id_is_never_given_twice_and_a_refused_creation_leaves_nothing() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.store.delete_tenant(&operator(), &tenant_id("acme")).wait().unwrap();
    let before = scene.dump();
    let again = scene.store.create_tenant(&operator(), new(r#"{"id":"acme"}"#), NewToken::default()).wait();
    assert!(matches!(again, Err(StoreError::Conflict(_))));
    let half = scene.store.create_tenant(
        &operator(),
        new(r#"{"id":"half"}"#),
        NewToken { scopes: Some(vec![]), ..NewToken::default() },
    );
    assert_eq!(invalid_field(half), "scopes");
    assert_eq!(scene.dump(), before);
}

#[test]
fn what_a_tenant_must_not_be() {
    let scene = Scene::new();
    let create = |body: serde_json::Value| {
        invalid_field(scene.store.create_tenant(
            &operator(),
            serde_json::from_value(body).unwrap(),
            NewToken::default(),
        ))
    };
    assert_eq!(create(json!({"name": "x".repeat(201)})), "name");
    assert_eq!(create(json!({"name": "a\nb"})), "name");
    assert_eq!(create(json!({"models": vec!["m"; 101]})), "models");
    assert_eq!(create(json!({"models": ["a*b"]})), "models");
    assert_eq!(create(json!({"timezone": "Mars/Olympus"})), "timezone");
    assert_eq!(create(json!({"metadata": {"x": "y".repeat(16 << 10)}})), "metadata");
    assert_eq!(create(json!({"quota": {"usd_per_day": "-1"}})), "quota.usd_per_day");
    assert_eq!(scene.audit(), vec![]);
}

#[test]
fn lists_page_by_id_without_the_deleted() {
    let scene = Scene::new();
    for id in ["c", "a", "d", "b"] {
        scene.tenant(id);
    }
    scene.store.delete_tenant(&operator(), &tenant_id("b")).wait().unwrap();
    let ids = |after: Option<&str>, limit| -> Vec<String> {
        let after = after.map(tenant_id);
        scene.store.tenants(after.as_ref(), limit).unwrap().into_iter().map(|tenant| tenant.id.to_string()).collect()
    };
    assert_eq!(ids(None, 2), ["a", "c"]);
    assert_eq!(ids(Some("c"), 2), ["d"]);
    assert_eq!(ids(Some("b"), 9), ["c", "d"]);
}

#[test]
fn a_patch_changes_what_it_names_and_null_removes() {
    let scene = Scene::new();
    let body = r#"{"id":"acme","quota":{"usd_per_day":"50","tokens_per_day":9,"on_tight_budget":"clamp"},"models":["m"],"metadata":{"a":1,"b":2}}"#;
    let (tenant, ..) = scene.store.create_tenant(&operator(), new(body), NewToken::default()).wait().unwrap();
    scene.move_ms(1000);
    let update = |json: &str| scene.store.update_tenant(&operator(), &tenant.id, patch(json)).wait().unwrap();

    let after = update(
        r#"{"quota":{"usd_per_day":"80","tokens_per_day":null,"on_tight_budget":null},"models":null,"metadata":{"a":null,"c":3}}"#,
    );
    let quota: Quota = serde_json::from_str(r#"{"usd_per_day":"80"}"#).unwrap();
    assert_eq!((&after.quota, &after.models), (&quota, &None));
    assert_eq!(json!(after.metadata), json!({"b": 2, "c": 3}));
    assert_eq!((after.created_at, after.updated_at), (tenant.created_at, scene.now()));
    assert_eq!(scene.store.tenant(&tenant.id).unwrap(), after);

    let rows = scene.audit().len();
    assert_eq!(update("{}"), after);
    assert_eq!(update(r#"{"quota":{"usd_per_day":"80.0"}}"#), after);
    assert_eq!(scene.audit().len(), rows, "what changes nothing is not on record");
}

#[test]
fn a_patch_with_an_unknown_or_wrong_limit_is_refused() {
    let scene = Scene::new();
    scene.tenant("acme");
    let before = scene.dump();
    for bad in [
        r#"{"usd_per_dya":null}"#,
        r#"{"usd_per_day":0.5}"#,
        r#"{"tokens_per_day":-1}"#,
        r#"{"on_tight_budget":"spend"}"#,
    ] {
        let body = format!(r#"{{"quota":{bad}}}"#);
        assert_eq!(
            invalid_field(scene.store.update_tenant(&operator(), &tenant_id("acme"), patch(&body))),
            "quota",
            "{bad}"
        );
    }
    assert!(serde_json::from_str::<TenantPatch>(r#"{"id":"other"}"#).is_err());
    assert!(serde_json::from_str::<TenantPatch>(r#"{"status":"deleted"}"#).is_err());
    assert_eq!(scene.dump(), before);
}

#[test]
fn a_change_of_quota_zone_or_models_acts_on_the_next_request() {
    let scene = Scene::new();
    let (tenant, _, plain) = scene.tenant("acme");
    let seen = || scene.store.authenticate(plain.expose(), HERE).unwrap();
    assert!(seen().allows_model("gpt-4o") && seen().quota == Quota::default());
    let change = patch(r#"{"quota":{"requests_per_minute":7},"models":["claude-*"],"timezone":"Asia/Tokyo"}"#);
    scene.store.update_tenant(&operator(), &tenant.id, change).wait().unwrap();
    assert_eq!(seen().quota.requests_per_minute, Some(7));
    assert!(!seen().allows_model("gpt-4o") && seen().allows_model("claude-3"));
    let tokyo = crate::window::Windows::at(scene.now(), &seen().zone);
    assert_eq!(tokyo.day_ends_at, UnixMs::parse_rfc3339("2026-11-22T15:00:00Z").unwrap());
}

#[test]
fn a_suspended_tenant_is_kept_out_until_it_is_active_again() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    let set = |status: &str| {
        scene
            .store
            .update_tenant(&operator(), &tenant.id, patch(&format!(r#"{{"status":"{status}"}}"#)))
            .wait()
            .unwrap()
    };
    set("suspended");
    assert_eq!(
        scene.store.authenticate(plain.expose(), HERE).unwrap_err(),
        AuthError::TenantSuspended { token: token.id }
    );
    set("active");
    assert!(scene.store.authenticate(plain.expose(), HERE).is_ok());
}

#[test]
fn a_deleted_tenant_is_gone_from_everywhere_but_the_record() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    scene.store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
    let refused = scene.store.authenticate(plain.expose(), HERE).unwrap_err();
    assert_eq!(refused, AuthError::Rejected { reason: Rejection::Revoked, token: Some(token.id.clone()) });
    let store = &scene.store;
    let gone = [
        store.tenant(&tenant.id).map(drop),
        store.tenant_policy(&tenant.id).map(drop),
        store.tokens(&tenant.id, None, 9).map(drop),
        store.token(&tenant.id, &token.id).map(drop),
        store.update_tenant(&operator(), &tenant.id, patch(r#"{"status":"active"}"#)).wait().map(drop),
        store.create_token(&operator(), &tenant.id, NewToken::default()).wait().map(drop),
        store.rotate_token(&operator(), &tenant.id, &token.id, None).wait().map(drop),
        store.revoke_token(&operator(), &tenant.id, &token.id).wait().map(drop),
        store.delete_tenant(&operator(), &tenant.id).wait(),
    ];
    assert!(gone.iter().all(|result| matches!(result, Err(StoreError::NotFound("tenant")))), "{gone:?}");
    let kept: i64 = scene
        .sql()
        .query_row("SELECT count(*) FROM tenants JOIN tokens ON tenant = tenants.row_id", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn every_change_is_on_record_once_and_without_a_secret() {
    let scene = Scene::new();
    let (tenant, first, plain) = scene.tenant("acme");
    let store = &scene.store;
    store
        .update_tenant(&operator(), &tenant.id, patch(r#"{"name":"Acme","metadata":{"note":"hush"}}"#))
        .wait()
        .unwrap();
    let (second, plain_2) = store.create_token(&operator(), &tenant.id, NewToken::default()).wait().unwrap();
    let (third, plain_3) = store.rotate_token(&operator(), &tenant.id, &first.id, Some(60)).wait().unwrap();
    store.revoke_token(&operator(), &tenant.id, &second.id).wait().unwrap();
    store.revoke_token(&operator(), &tenant.id, &second.id).wait().unwrap();
    store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
    let rows = scene.audit();
    let told: Vec<(&str, Option<&str>)> =
        rows.iter().map(|(action, _, target, _)| (action.as_str(), target.as_deref())).collect();
    let expected = [
        ("tenant.create", None),
        ("tenant.update", None),
        ("token.create", Some(second.id.as_str())),
        ("token.rotate", Some(third.id.as_str())),
        ("token.revoke", Some(second.id.as_str())),
        ("tenant.delete", None),
    ];
    assert_eq!(told, expected);
    assert!(rows.iter().all(|(_, tenant, ..)| tenant.as_deref() == Some("acme")));
    let all = format!("{rows:?}");
    assert!(all.contains("Acme") && !all.contains("hush"));
    for plain in [plain, plain_2, plain_3] {
        let secret = &plain.expose()["tk_acme_".len() + 12..];
        assert!(!all.contains(secret));
    }
}

/// N-07
#[test]
fn tenants_are_found_by_what_their_ids_and_names_hold_and_counted() {
    let scene = Scene::new();
    for (id, name) in [("acme", "Acme"), ("one", "100% Öl_Werke"), ("two", "The ACME of the south"), ("gone", "acme")]
    {
        let new = NewTenant { id: Some(id.parse().unwrap()), name: Some(name.to_owned()), ..NewTenant::default() };
        scene.store.create_tenant(&operator(), new, NewToken::default()).wait().unwrap();
    }
    scene.store.delete_tenant(&operator(), &"gone".parse().unwrap()).wait().unwrap();
    scene.store.update_tenant(&operator(), &"two".parse().unwrap(), patch(r#"{"status":"suspended"}"#)).wait().unwrap();
    let found = |text: &str, after: Option<&str>| {
        let after = after.map(|id| id.parse().unwrap());
        let found = scene.store.tenants_like(text, after.as_ref(), 10).unwrap();
        found.iter().map(|tenant| tenant.id.to_string()).collect::<Vec<_>>().join(" ")
    };
    for (text, ids) in
        [("", "acme one two"), ("AcMe", "acme two"), ("%", "one"), ("_", "one"), ("Öl", "one"), ("*", ""), ("'", "")]
    {
        assert_eq!(found(text, None), ids, "{text}");
    }
    assert_eq!(found("acme", Some("acme")), "two", "a page goes on after the one before");
    let long = "x".repeat(10 << 20);
    assert!(matches!(scene.store.tenants_like(&long, None, 10), Err(StoreError::Invalid { .. })));
    let counts = scene.store.tenant_counts().unwrap();
    assert_eq!((counts.active, counts.suspended), (2, 1));
}
