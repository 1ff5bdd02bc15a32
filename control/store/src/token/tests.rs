//! What holds for tokens, from creation to refusal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::scene::{HERE, Scene, operator, tenant_id};
use crate::tenant::TenantPatch;

const SECOND: i64 = 1_000;

fn new(json: &str) -> NewToken {
    serde_json::from_str(json).unwrap()
}

fn reason(scene: &Scene, presented: &str) -> Rejection {
    match scene.store.authenticate(presented, HERE) {
        Err(AuthError::Rejected { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn works(scene: &Scene, plain: &PlainToken) -> bool {
    scene.store.authenticate(plain.expose(), HERE).is_ok()
}

/// A token text of one's own making, with the right CRC.
fn forged(tenant: &str, id: &str, secret: &str) -> String {
    let covered = format!("tk_{tenant}_{id}{secret}");
    let mut crc = crc32fast::hash(covered.as_bytes());
    let mut digits = vec![];
    for _ in 0..6 {
        digits.insert(0, char::from(crate::id::BASE62[usize::try_from(crc % 62).unwrap()]));
        crc /= 62;
    }
    covered + &digits.into_iter().collect::<String>()
}

#[test]
fn a_02_an_unknown_id_and_a_wrong_secret_differ_only_in_the_log() {
    let scene = Scene::new();
    let (_, token, plain) = scene.tenant("acme");
    let secret = "x".repeat(43);
    assert_eq!(reason(&scene, &forged("acme", token.id.as_str(), &secret)), Rejection::WrongSecret);
    assert_eq!(reason(&scene, &forged("acme", "abcdefghijkl", &secret)), Rejection::UnknownToken);
    assert!(works(&scene, &plain), "the positive twin");
}

#[test]
fn a_03_a_bad_crc_never_reaches_the_store() {
    let scene = Scene::new();
    let (_, _, plain) = scene.tenant("acme");
    assert!(works(&scene, &plain));
    assert_eq!(scene.store.token_reads(), 1);
    let mut text = plain.expose().to_owned();
    let last = if text.pop() == Some('0') { '1' } else { '0' };
    text.push(last);
    for junk in [text.as_str(), "", "Bearer x", "sk-abc", "tk_acme_"] {
        assert_eq!(reason(&scene, junk), Rejection::Malformed, "{junk}");
    }
    assert_eq!(scene.store.token_reads(), 1);
}

#[test]
fn a_04_injection_strings_as_token_tenant_model_and_key_leave_the_database_as_it_was() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    let before = scene.dump();
    let pieces = [
        "'",
        "\"",
        ";--",
        "' OR 1=1 --",
        "'; DROP TABLE tokens; --",
        "\0",
        "%",
        "_",
        "../..",
        "{{7*7}}",
        "$(id)",
        "\u{202e}",
        "é",
        "*",
        "\n",
        "x' UNION SELECT",
    ];
    let policy = scene.store.authenticate(plain.expose(), HERE).unwrap();
    let mut tried = 0;
    for first in pieces {
        for second in pieces {
            for template in ["{}", "tk_{}", "tk_acme_{}", "acme{}", "{}acme", "1{}", "{}*", "gpt-{}"] {
                let text = template.replace("{}", &format!("{first}{second}"));
                assert!(scene.store.authenticate(&text, HERE).is_err());
                assert!(
                    text.parse::<crate::id::TenantId>().is_err() && text.parse::<crate::id::TokenId>().is_err(),
                    "{text}"
                );
                assert!(policy.allows_model(&text) && scene.store.rates().price(&text).is_none());
                assert!(scene.store.rate_price_at(&text, scene.now()).unwrap().is_none());
                assert!(scene.store.priced_row(1, &text).unwrap().is_none());
                assert!(scene.store.idempotent_answer(&text, &[0; 32]).unwrap().is_none());
                tried += 1;
            }
        }
    }
    assert!(tried >= 2_000, "{tried}");
    assert_eq!(scene.dump(), before);
    assert_eq!(scene.store.token(&tenant.id, &token.id).unwrap(), token);
}

#[test]
fn a_05_no_request_that_starts_after_a_revocation_succeeds() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    let (revoked, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (early, late, let_in_late) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let started_late = revoked.load(Ordering::SeqCst);
                    if works(&scene, &plain) && started_late {
                        let_in_late.fetch_add(1, Ordering::SeqCst);
                    }
                    (if started_late { &late } else { &early }).fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while early.load(Ordering::SeqCst) < 100 {
            std::thread::yield_now();
        }
        scene.store.revoke_token(&operator(), &tenant.id, &token.id).wait().unwrap();
        revoked.store(true, Ordering::SeqCst);
        while late.load(Ordering::SeqCst) < 500 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(let_in_late.into_inner(), 0, "a revoked token was let in");
    assert_eq!(reason(&scene, plain.expose()), Rejection::Revoked);
}

#[test]
fn a_08_a_rotated_token_works_until_its_grace_ends_and_the_new_one_at_once() {
    let scene = Scene::new();
    let (tenant, token, old) = scene.tenant("acme");
    let (next, new) = scene.store.rotate_token(&operator(), &tenant.id, &token.id, Some(60)).wait().unwrap();
    assert_eq!((next.rotated_from.as_ref(), next.expires_at), (Some(&token.id), None));
    scene.move_ms(60 * SECOND - 1);
    assert!(works(&scene, &old) && works(&scene, &new));
    scene.move_ms(1);
    assert_eq!(reason(&scene, old.expose()), Rejection::Expired);
    assert!(works(&scene, &new));
}

#[test]
fn without_a_grace_the_old_token_is_revoked_whatever_the_clock_says() {
    let scene = Scene::new();
    let (tenant, token, old) = scene.tenant("acme");
    let (_, new) = scene.store.rotate_token(&operator(), &tenant.id, &token.id, None).wait().unwrap();
    scene.move_ms(-SECOND);
    assert_eq!(reason(&scene, old.expose()), Rejection::Revoked);
    assert!(works(&scene, &new));
    let again = scene.store.rotate_token(&operator(), &tenant.id, &token.id, Some(60)).wait();
    assert!(matches!(again, Err(StoreError::Conflict(_))));
}

#[test]
fn a_09_a_successor_may_do_what_the_old_token_may_and_no_more() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let narrow = new(
        r#"{"name":"ci","scopes":["usage","inference","usage"],"models":["gpt-*"],"allowed_ips":["10.0.0.0/8"],"expires_at":"2026-11-22T13:00:00Z"}"#,
    );
    let (old, _) = scene.store.create_token(&operator(), &tenant.id, narrow).wait().unwrap();
    assert_eq!(old.scopes, [Scope::Inference, Scope::Usage]);
    let (next, plain) = scene.store.rotate_token(&operator(), &tenant.id, &old.id, Some(7200)).wait().unwrap();
    assert_eq!(next, Token { id: next.id.clone(), rotated_from: Some(old.id.clone()), ..old.clone() });
    let kept = scene.store.token(&tenant.id, &old.id).unwrap();
    assert_eq!(kept.expires_at, old.expires_at, "a grace never extends an earlier end");
    let inside = "10.9.8.7".parse().unwrap();
    let policy = scene.store.authenticate(plain.expose(), inside).unwrap();
    assert!(policy.allows(Scope::Usage) && !policy.allows(Scope::Sandbox));
    assert!(policy.allows_model("gpt-4o") && !policy.allows_model("claude-3"));
    for wider in
        [r#"{"scopes":["admin"]}"#, r#"{"scope":"usage"}"#, r#"{"expires_at":"soon"}"#, r#"{"tenant":"other"}"#]
    {
        assert!(serde_json::from_str::<NewToken>(wider).is_err(), "{wider}");
    }
}

#[test]
fn a_10_the_database_and_the_pepper_file_hold_no_secret() {
    let scene = Scene::new();
    let (_, _, plain) = scene.tenant("acme");
    assert!(works(&scene, &plain));
    let secret = ParsedToken::parse(plain.expose()).unwrap().secret().as_bytes().to_vec();
    let mut looked_at = 0;
    for entry in std::fs::read_dir(scene.dir.path())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
    {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{:?}", entry.path());
        looked_at += bytes.len();
    }
    assert!(looked_at > 10_000);
}

#[test]
fn a_11_a_missing_pepper_refuses_to_start_and_a_wrong_one_lets_nobody_in() {
    let mut scene = Scene::new();
    let (_, _, plain) = scene.tenant("acme");
    scene = scene.restarted().unwrap();
    assert!(works(&scene, &plain), "the positive twin");

    let path = scene.dir.path().join("pepper.key");
    let right = std::fs::read_to_string(&path).unwrap();
    let kid = right.split_once(' ').unwrap().0.to_owned();
    for (wrong, expected) in [
        (format!("{kid} {}", "0".repeat(64)), Rejection::WrongSecret),
        (format!("k {}", "0".repeat(64)), Rejection::UnknownPepper),
    ] {
        std::fs::write(&path, wrong).unwrap();
        scene = scene.restarted().unwrap();
        let before = scene.dump();
        assert_eq!(reason(&scene, plain.expose()), expected);
        assert_eq!(scene.dump(), before);
    }
    std::fs::remove_file(&path).unwrap();
    let (dir, clock) = (scene.dir.path().to_owned(), Arc::clone(&scene.clock));
    let options = crate::store::StoreOptions {
        dir,
        clock,
        takeover: std::time::Duration::ZERO,
        durability: crate::store::Durability::default(),
    };
    drop(scene.store);
    match crate::store::Store::open(&options) {
        Err(StoreError::KeyFile { reason, .. }) => assert!(reason.contains("put it back from a backup"), "{reason}"),
        other => panic!("{other:?}"),
    }
    std::fs::write(&path, right).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let store = crate::store::Store::open(&options).unwrap();
    assert!(store.authenticate(plain.expose(), HERE).is_ok());
}

#[test]
fn a_13_a_token_ends_by_the_clock_and_a_revoked_one_for_good() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let (token, plain) = scene
        .store
        .create_token(&operator(), &tenant.id, new(r#"{"expires_at":"2026-11-22T12:00:10Z"}"#))
        .wait()
        .unwrap();
    scene.move_ms(9 * SECOND);
    assert!(works(&scene, &plain));
    scene.move_ms(SECOND);
    assert_eq!(reason(&scene, plain.expose()), Rejection::Expired);
    scene.move_ms(-5 * SECOND);
    assert!(works(&scene, &plain));
    scene.store.revoke_token(&operator(), &tenant.id, &token.id).wait().unwrap();
    scene.move_ms(-100 * SECOND);
    assert_eq!(reason(&scene, plain.expose()), Rejection::Revoked);
}

#[test]
fn to_revoke_twice_keeps_the_first_moment_and_another_tenants_token_is_unknown() {
    let scene = Scene::new();
    let (tenant, token, _) = scene.tenant("acme");
    let (other, theirs, plain) = scene.tenant("other");
    let revoke = |id| scene.store.revoke_token(&operator(), &tenant.id, id).wait();
    let first = revoke(&token.id).unwrap();
    scene.move_ms(SECOND);
    assert_eq!(revoke(&token.id).unwrap(), first);
    assert!(matches!(revoke(&theirs.id), Err(StoreError::NotFound("token"))));
    let rotated = scene.store.rotate_token(&operator(), &tenant.id, &theirs.id, None).wait();
    assert!(matches!(rotated, Err(StoreError::NotFound("token"))));
    assert!(matches!(scene.store.token(&tenant.id, &theirs.id), Err(StoreError::NotFound("token"))));
    assert!(works(&scene, &plain) && scene.store.token(&other.id, &theirs.id).is_ok());
}

#[test]
fn the_tenant_in_a_token_must_be_its_own() {
    let scene = Scene::new();
    let (_, _, plain) = scene.tenant("acme");
    scene.tenant("other");
    let parsed = ParsedToken::parse(plain.expose()).unwrap();
    assert_eq!(reason(&scene, &forged("other", parsed.id(), parsed.secret())), Rejection::OtherTenant);
    assert!(scene.store.authenticate(&forged("acme", parsed.id(), parsed.secret()), HERE).is_ok());
}

#[test]
fn a_token_bound_to_addresses_works_from_nowhere_else() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let (token, plain) = scene
        .store
        .create_token(&operator(), &tenant.id, new(r#"{"allowed_ips":["192.0.2.0/24","2001:db8::1"]}"#))
        .wait()
        .unwrap();
    for (ip, allowed) in [
        ("192.0.2.200", true),
        ("::ffff:192.0.2.1", true),
        ("2001:db8::1", true),
        ("192.0.3.1", false),
        ("2001:db8::2", false),
    ] {
        let outcome = scene.store.authenticate(plain.expose(), ip.parse().unwrap());
        assert_eq!(outcome.is_ok(), allowed, "{ip}");
        assert!(allowed || outcome.unwrap_err() == AuthError::IpNotAllowed { token: token.id.clone() });
    }
}

#[test]
fn both_lists_must_let_a_model_pass() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let patch: TenantPatch = serde_json::from_str(r#"{"models":["gpt-*","claude-3"]}"#).unwrap();
    scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
    let (_, plain) =
        scene.store.create_token(&operator(), &tenant.id, new(r#"{"models":["gpt-4o","claude-*"]}"#)).wait().unwrap();
    let policy = scene.store.authenticate(plain.expose(), HERE).unwrap();
    for (model, allowed) in [("gpt-4o", true), ("claude-3", true), ("gpt-4", false), ("claude-4", false), ("o1", false)]
    {
        assert_eq!(policy.allows_model(model), allowed, "{model}");
    }
}

#[test]
fn a_policy_is_parsed_once_for_each_version() {
    let scene = Scene::new();
    let (tenant, _, plain) = scene.tenant("acme");
    let seen = || scene.store.authenticate(plain.expose(), HERE).unwrap();
    assert!(Arc::ptr_eq(&seen(), &seen()));
    let before = seen();
    let patch: TenantPatch = serde_json::from_str(r#"{"name":"new"}"#).unwrap();
    scene.store.update_tenant(&operator(), &tenant.id, patch).wait().unwrap();
    assert!(!Arc::ptr_eq(&before, &seen()));
}

#[test]
fn what_a_token_must_not_be() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    for (body, at_fault) in [
        (r#"{"name":"a\u0007"}"#, "name"),
        (r#"{"scopes":[]}"#, "scopes"),
        (r#"{"models":["*x"]}"#, "models"),
        (r#"{"expires_at":"2026-11-22T12:00:00Z"}"#, "expires_at"),
        (r#"{"allowed_ips":[]}"#, "allowed_ips"),
        (r#"{"allowed_ips":["10.0.0.0/40"]}"#, "allowed_ips"),
    ] {
        match scene.store.create_token(&operator(), &tenant.id, new(body)).wait() {
            Err(StoreError::Invalid { field, .. }) => assert_eq!(field, at_fault),
            other => panic!("{body}: {other:?}"),
        }
    }
    let nobody = scene.store.create_token(&operator(), &tenant_id("nobody"), NewToken::default()).wait();
    assert!(matches!(nobody, Err(StoreError::NotFound("tenant"))));
}

#[test]
fn lists_page_by_age() {
    let scene = Scene::new();
    let (tenant, first, _) = scene.tenant("acme");
    scene.tenant("other");
    let (second, _) = scene.store.create_token(&operator(), &tenant.id, NewToken::default()).wait().unwrap();
    let (third, _) = scene.store.create_token(&operator(), &tenant.id, NewToken::default()).wait().unwrap();
    let page = |after, limit| scene.store.tokens(&tenant.id, after, limit).unwrap();
    assert_eq!(page(None, 2), [first, second.clone()]);
    assert_eq!(page(Some(&second.id), 2), std::slice::from_ref(&third));
    assert_eq!(page(Some(&third.id), 2), []);
    let json = serde_json::to_value(&third).unwrap();
    assert_eq!(
        (&json["expires_at"], &json["created_at"]),
        (&serde_json::Value::Null, &serde_json::json!("2026-11-22T12:00:00.000Z"))
    );
}
