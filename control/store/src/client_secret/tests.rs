//! What a client secret opens, and everything that must not open anything.

use proptest::prelude::*;

use super::*;
use crate::id::LabelKey;
use crate::label::Label;
use crate::scene::{HERE, Scene, operator, tenant_id};
use crate::tenant::TenantPatch;
use crate::token::{AuthError, NewToken, PlainToken, Rejection};

const SECOND: i64 = 1_000;

fn new(json: &str) -> NewClientSecret {
    serde_json::from_str(json).unwrap()
}

fn made(scene: &Scene, tenant: &str, json: &str) -> ClientSecret {
    scene.store.create_client_secret(&operator(), &tenant_id(tenant), new(json)).wait().unwrap()
}

fn made_by(scene: &Scene, token: &PlainToken, json: &str) -> Result<ClientSecret> {
    let policy = scene.store.authenticate(token.expose(), HERE).unwrap();
    scene.store.create_client_secret_of(&operator(), &policy, new(json)).wait()
}

fn let_in(scene: &Scene, secret: &ClientSecret) -> Arc<Policy> {
    scene.store.authenticate(secret.expose(), HERE).unwrap()
}

fn reason(scene: &Scene, presented: &str) -> Rejection {
    match scene.store.authenticate(presented, HERE) {
        Err(AuthError::Rejected { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_is_its_tenants_and_calls_models_and_nothing_else() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    let of_operator = let_in(&scene, &made(&scene, "acme", "{}"));
    let of_token = let_in(&scene, &made_by(&scene, &plain, r#"{"user":"ann","origin":"https://a.example"}"#).unwrap());
    for policy in [&of_operator, &of_token] {
        assert_eq!((&policy.tenant, policy.scopes.as_slice()), (&tenant.id, &[Scope::Inference][..]));
        assert!(policy.secret.is_some() && policy.cap().is_none());
    }
    assert_eq!(of_token.token, token.id, "rows name the token that made it");
    let own = scene.store.authenticate(plain.expose(), HERE).unwrap();
    assert_eq!((of_token.token_key, own.secret.as_ref()), (own.token_key, None));
    assert_eq!(of_operator.token, of_operator.secret.as_ref().unwrap().id);
    assert_eq!(of_token.secret.as_ref().unwrap().origin.as_deref(), Some("https://a.example"));
    let label = Label::default();
    assert_ne!(scene.store.label_key(own.tenant_key, &of_token.labelled(&label)), LabelKey::default());
    assert_eq!(scene.store.label_key(own.tenant_key, &own.labelled(&label)), LabelKey::default());
}

#[test]
fn a_user_that_is_bound_stands_over_what_the_client_says() {
    let scene = Scene::new();
    scene.tenant("acme");
    let policy = let_in(&scene, &made(&scene, "acme", r#"{"user":"ann"}"#));
    let (mut said, mut bound) = (Label::default(), Label::default());
    said.set_user("bob");
    said.add_tag("blue");
    bound.set_user("ann");
    bound.add_tag("blue");
    assert_eq!(*policy.labelled(&said), bound);
}

/// A-03, A-04: forged at every place
#[test]
fn a_03_a_secret_with_any_byte_changed_is_nobodys_and_the_store_is_not_asked() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.tenant("acmf");
    let secret =
        made(&scene, "acme", r#"{"max_requests":1,"models":["gpt-*"],"origin":"https://a.example","user":"ann"}"#);
    let_in(&scene, &secret);
    let (before, text) = (scene.store.token_reads(), secret.expose().as_bytes());
    for at in 3..text.len() {
        for other in [text[at] ^ 1, b'A', b'-', b'_', b'='] {
            let mut bytes = text.to_vec();
            bytes[at] = other;
            if bytes != text {
                assert_eq!(reason(&scene, std::str::from_utf8(&bytes).unwrap()), Rejection::Malformed, "{at}");
            }
        }
    }
    let text = secret.expose();
    let moved = text.replacen("ek_acme_", "ek_acmf_", 1);
    let (short, long, spaced) = (&text[..text.len() - 1], format!("{text}A"), format!("{text} "));
    for bad in ["ek_", "ek_acme_", "ek_acme_AAAA", &moved, short, &long, &spaced, &format!("{text}=")] {
        assert_eq!(reason(&scene, bad), Rejection::Malformed, "{bad}");
    }
    assert_eq!(scene.store.token_reads(), before);
    let_in(&scene, &secret);
}

#[test]
fn another_gateways_secret_and_one_of_a_lost_pepper_are_nobodys() {
    let (scene, other) = (Scene::new(), Scene::new());
    scene.tenant("acme");
    other.tenant("acme");
    assert_eq!(reason(&other, made(&scene, "acme", "{}").expose()), Rejection::Malformed);
}

#[test]
fn a_secret_of_a_token_of_another_tenant_is_refused_even_where_it_is_signed() {
    let scene = Scene::new();
    let (_, token, _) = scene.tenant("acme");
    scene.tenant("other");
    let secret = made(&scene, "acme", "{}");
    let claims = Claims {
        id: secret.id.clone(),
        parent: Some(token.id),
        expires_at_ms: secret.expires_at.0,
        models: None,
        counted: None,
        max_cost_nanos: None,
        max_requests: None,
        origin: None,
        user: None,
    };
    let pepper = scene.store.inner.auth.pepper();
    let forged = sealed::seal(&pepper, &tenant_id("other"), &claims).unwrap();
    assert_eq!(reason(&scene, &forged), Rejection::OtherTenant);
    assert!(scene.store.authenticate(&sealed::seal(&pepper, &tenant_id("acme"), &claims).unwrap(), HERE).is_ok());
}

/// A-13
#[test]
fn a_13_a_secret_ends_by_the_clock() {
    let scene = Scene::new();
    scene.tenant("acme");
    let secret = made(&scene, "acme", r#"{"ttl_seconds":10}"#);
    assert_eq!((secret.expires_at, secret.ttl_seconds), (scene.now().plus_ms(10 * SECOND), 10));
    scene.move_ms(10 * SECOND - 1);
    let_in(&scene, &secret);
    scene.move_ms(1);
    assert_eq!(reason(&scene, secret.expose()), Rejection::Expired);
    let usual = made(&scene, "acme", "{}");
    assert_eq!(usual.ttl_seconds, 600);
}

/// A-05, A-08: whatever ends its token ends it
#[test]
fn a_05_a_secret_dies_with_its_token_however_that_ends() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let mint = |json: &str| {
        let new: NewToken = serde_json::from_str(json).unwrap();
        scene.store.create_token(&operator(), &tenant.id, new).wait().unwrap()
    };
    let (revoked, plain) = mint("{}");
    let secret = made_by(&scene, &plain, "{}").unwrap();
    let_in(&scene, &secret);
    scene.store.revoke_token(&operator(), &tenant.id, &revoked.id).wait().unwrap();
    assert_eq!(reason(&scene, secret.expose()), Rejection::Revoked);

    let (rotated, plain) = mint("{}");
    let secret = made_by(&scene, &plain, r#"{"ttl_seconds":3600}"#).unwrap();
    let (_, next) = scene.store.rotate_token(&operator(), &tenant.id, &rotated.id, Some(60)).wait().unwrap();
    let_in(&scene, &secret);
    scene.move_ms(60 * SECOND);
    assert_eq!(reason(&scene, secret.expose()), Rejection::Expired);
    let_in(&scene, &made_by(&scene, &next, "{}").unwrap());

    let ends = scene.now().plus_ms(30 * SECOND);
    let (_, plain) = mint(&format!(r#"{{"expires_at":"{}"}}"#, ends.rfc3339()));
    assert_eq!(made_by(&scene, &plain, "{}").unwrap().expires_at, ends, "and no later");
}

#[test]
fn a_secret_dies_with_its_tenant_and_rests_while_that_is_suspended() {
    let scene = Scene::new();
    let (tenant, _, plain) = scene.tenant("acme");
    let secrets = [made(&scene, "acme", "{}"), made_by(&scene, &plain, "{}").unwrap()];
    let status = |status: &str| {
        let patch: TenantPatch = serde_json::from_str(&format!(r#"{{"status":"{status}"}}"#)).unwrap();
        scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
    };
    status("suspended");
    for secret in &secrets {
        let refused = scene.store.authenticate(secret.expose(), HERE).unwrap_err();
        assert!(matches!(refused, AuthError::TenantSuspended { .. }), "{refused:?}");
    }
    status("active");
    secrets.iter().for_each(|secret| drop(let_in(&scene, secret)));
    scene.store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
    for secret in &secrets {
        assert_eq!(reason(&scene, secret.expose()), Rejection::Revoked);
    }
}

/// A-09
#[test]
fn a_09_a_secret_is_never_good_for_more_than_what_made_it() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let patch: TenantPatch =
        serde_json::from_str(r#"{"models":["gpt-*","claude-3"],"aliases":{"fast":"gpt-4o"}}"#).unwrap();
    scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
    let mint = |json: &str| {
        let new: NewToken = serde_json::from_str(json).unwrap();
        scene.store.create_token(&operator(), &tenant.id, new).wait().unwrap()
    };
    let (_, narrow) = mint(r#"{"models":["gpt-4*"],"allowed_ips":["127.0.0.1"]}"#);
    for wider in ["*", "gpt-*", "claude-3", "o1"] {
        let refused = made_by(&scene, &narrow, &format!(r#"{{"models":["{wider}"]}}"#)).unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { ref field, .. } if field == "models"), "{wider}: {refused}");
    }
    for fits in ["gpt-4o", "gpt-4o*", "gpt-4*", "fast"] {
        made_by(&scene, &narrow, &format!(r#"{{"models":["{fits}"]}}"#)).unwrap();
    }
    let all = let_in(&scene, &made_by(&scene, &narrow, "{}").unwrap());
    assert!(all.allows_model("gpt-4o") && !all.allows_model("gpt-3.5") && !all.allows_model("claude-3"));
    let one = let_in(&scene, &made_by(&scene, &narrow, r#"{"models":["gpt-4o"]}"#).unwrap());
    assert!(one.allows_model("gpt-4o") && !one.allows_model("gpt-4"));
    assert!(one.allows_ip("203.0.113.9".parse().unwrap()), "its bearer is not where its maker is");

    for weak in [r#"{"scopes":["inference"]}"#, r#"{"scopes":["client_secrets","usage"]}"#] {
        let refused = made_by(&scene, &mint(weak).1, "{}").unwrap_err();
        assert!(matches!(refused, StoreError::Conflict(_)), "{weak}: {refused}");
    }
    made_by(&scene, &mint(r#"{"scopes":["client_secrets","inference"]}"#).1, "{}").unwrap();
}

#[test]
fn what_narrows_the_tenant_later_narrows_its_secrets() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let secret = made(&scene, "acme", "{}");
    assert!(let_in(&scene, &secret).allows_model("o1"));
    let patch: TenantPatch = serde_json::from_str(r#"{"models":["gpt-*"]}"#).unwrap();
    scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
    assert!(!let_in(&scene, &secret).allows_model("o1"));
}

#[test]
fn what_a_secret_must_not_be_is_refused_by_name() {
    let scene = Scene::new();
    scene.tenant("acme");
    for (body, at_fault) in [
        (r#"{"ttl_seconds":9}"#, "ttl_seconds"),
        (r#"{"ttl_seconds":86401}"#, "ttl_seconds"),
        (r#"{"models":[]}"#, "models"),
        (r#"{"models":["*x"]}"#, "models"),
        (r#"{"max_cost_usd":"0"}"#, "max_cost_usd"),
        (r#"{"max_cost_usd":"-1"}"#, "max_cost_usd"),
        (r#"{"max_requests":0}"#, "max_requests"),
        (r#"{"max_requests":9007199254740993}"#, "max_requests"),
        (r#"{"origin":"https://a.example/"}"#, "origin"),
        (r#"{"user":" ann"}"#, "user"),
    ] {
        match scene.store.create_client_secret(&operator(), &tenant_id("acme"), new(body)).wait() {
            Err(StoreError::Invalid { field, .. }) => assert_eq!(field, at_fault),
            other => panic!("{body}: {other:?}"),
        }
    }
    let many: Vec<String> = (0..100).map(|n| format!("a-model-with-a-rather-long-name-{n}")).collect();
    let long = NewClientSecret { models: Some(many), ..NewClientSecret::default() };
    let refused = scene.store.create_client_secret(&operator(), &tenant_id("acme"), long).wait().unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { ref field, .. } if field == "models"), "{refused}");
    for unknown in [r#"{"scopes":["usage"]}"#, r#"{"tenant":"other"}"#, r#"{"expires_at":"2030-01-01"}"#] {
        assert!(serde_json::from_str::<NewClientSecret>(unknown).is_err(), "{unknown}");
    }
    let nobody = scene.store.create_client_secret(&operator(), &tenant_id("nobody"), NewClientSecret::default()).wait();
    assert!(matches!(nobody, Err(StoreError::NotFound("tenant"))));
}

/// U-01, A-10
#[test]
fn a_minting_is_one_audit_row_without_the_secret_which_no_file_holds() {
    let scene = Scene::new();
    let (_, token, plain) = scene.tenant("acme");
    let before = scene.audit().len();
    let secret = made_by(&scene, &plain, r#"{"max_cost_usd":"0.50","origin":"https://a.example"}"#).unwrap();
    let rows = scene.audit().split_off(before);
    let [(action, tenant, target, detail)] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(
        (action.as_str(), tenant.as_deref(), target.as_deref()),
        ("client_secret.create", Some("acme"), Some(secret.id.as_str()))
    );
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap();
    assert_eq!((&detail["token"], &detail["max_cost_usd"]), (&json!(token.id), &json!("0.500000000")));
    let tail = &secret.expose().as_bytes()[secret.expose().len() - 40..];
    for entry in std::fs::read_dir(scene.dir.path()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(tail.len()).any(|window| window == tail), "{:?}", entry.path());
        }
    }
    assert!(!format!("{secret:?}").contains(secret.expose()));
}

#[test]
fn to_mint_looks_nobody_up_anew() {
    let scene = Scene::new();
    let (.., plain) = scene.tenant("acme");
    let generation = || scene.store.inner.writer().generation();
    scene.store.authenticate(plain.expose(), HERE).unwrap();
    let before = generation();
    let secret = made(&scene, "acme", r#"{"max_requests":5}"#);
    assert_eq!(generation(), before);
    assert!(Arc::ptr_eq(&let_in(&scene, &secret), &let_in(&scene, &secret)));
}

#[test]
fn an_origin_is_known_from_minting_on_and_after_a_restart_and_not_past_its_secrets() {
    let mut scene = Scene::new();
    scene.tenant("acme");
    assert!(!scene.store.is_client_origin("https://a.example"));
    made(&scene, "acme", r#"{"origin":"https://a.example","ttl_seconds":60}"#);
    assert!(scene.store.is_client_origin("https://a.example"));
    scene = scene.restarted().unwrap();
    assert!(scene.store.is_client_origin("https://a.example") && !scene.store.is_client_origin("https://b.example"));
    scene.move_ms(60 * SECOND);
    assert!(!scene.store.is_client_origin("https://a.example"));
}

#[test]
fn a_secret_works_after_a_restart_and_one_whose_count_was_forgotten_does_not() {
    let mut scene = Scene::new();
    scene.tenant("acme");
    let secrets = [made(&scene, "acme", "{}"), made(&scene, "acme", r#"{"max_requests":5}"#)];
    scene = scene.restarted().unwrap();
    secrets.iter().for_each(|secret| drop(let_in(&scene, secret)));
    scene.move_ms(REMEMBERED_MS + 600 * SECOND);
    made(&scene, "acme", r#"{"max_requests":5}"#);
    scene.move_ms(-(REMEMBERED_MS + 600 * SECOND));
    scene = scene.restarted().unwrap();
    let_in(&scene, &secrets[0]);
    assert_eq!(reason(&scene, secrets[1].expose()), Rejection::UnknownToken);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_is_opened_and_nothing_else_is(
        id in "[0-9A-Za-z]{12}", parent in proptest::option::of("[0-9A-Za-z]{12}"), models in proptest::option::of(proptest::collection::vec("\\PC{1,20}", 1..5)),
        ends in any::<i64>(), cost in proptest::option::of(any::<i64>()), user in proptest::option::of("\\PC{1,40}"), flip in any::<prop::sample::Index>(), junk in "\\PC*",
    ) {
        let scene = pepper();
        let claims = Claims {
            id: id.parse().unwrap(), parent: parent.map(|id| id.parse().unwrap()), expires_at_ms: ends, models, counted: cost,
            max_cost_nanos: cost, max_requests: None, origin: None, user,
        };
        let text = sealed::seal(&scene, &tenant_id("acme"), &claims).unwrap();
        let opened = sealed::open(&scene, &text).unwrap();
        prop_assert_eq!((opened.tenant, opened.claims()), ("acme", Some(claims)));
        let mut bytes = text.as_bytes().to_vec();
        let at = flip.index(bytes.len());
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        prop_assert!(sealed::open(&scene, std::str::from_utf8(&bytes).unwrap()).is_none());
        let dressed = format!("ek_acme_{junk}");
        prop_assert!(sealed::open(&scene, &junk).is_none() && sealed::open(&scene, &dressed).is_none());
    }
}

fn pepper() -> Pepper {
    let dir = tempfile::tempdir().unwrap();
    Pepper::open(&dir.path().join("pepper.key"), false).unwrap()
}
