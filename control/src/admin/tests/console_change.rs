//! What people do at the console: through the API's handlers, on record once each, with what is wrong said at its field.

use std::sync::Arc;

use http::Method;
use openclawmu_store::{Actor, Clock, NanoUsd, TenantId};
use secrecy::SecretString;

use crate::admin::console::route::{Route, routes};
use crate::admin::router;
use crate::admin::tests::console::{Browser, HERE, change, form, hidden};
use crate::admin::tests::scene::{KEY, Scene, TERMINAL};
use crate::backup::{BackupConfig, Backups};

/// What a browser may run where it should show text.
const HOSTILE: [&str; 4] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</textarea><iframe src=//evil.example>",
];

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// A change: where it goes, what is typed, and what the log calls it.
type Example = (String, Vec<(&'static str, String)>, &'static str);

/// The example of a route, in a scene that was prepared for it. A new route that changes something gets one here.
async fn example(scene: &Scene, route: &Route) -> Option<Example> {
    let token = scene.token_id();
    let text = |fields: &[(&'static str, &str)]| {
        fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect::<Vec<_>>()
    };
    let of = |rest: &str| format!("/console/tenants/acme{rest}");
    let rest = route.path.strip_prefix("/console/tenants/{id}").unwrap_or(&route.path);
    Some(match rest {
        "/console/login" => (rest.to_owned(), text(&[("key", KEY)]), "console.login"),
        "/console/logout" => (rest.to_owned(), text(&[]), "console.logout"),
        "/console/new-tenant" => (rest.to_owned(), text(&[("id", "made")]), "tenant.create"),
        "/console/config/reload" => (rest.to_owned(), text(&[]), "config.reload"),
        "/console/audit/verify" => return None,
        "/console/upkeep/backups" => (rest.to_owned(), text(&[]), "backup.create"),
        "/console/upkeep/alerts/test" => (rest.to_owned(), text(&[]), "alerts.test"),
        "/console/upkeep/archives" => {
            scene.bill("m", 1).await;
            scene.clock.set(Clock::now(scene.clock.as_ref()).plus_ms(60 * 24 * 3_600_000));
            (rest.to_owned(), text(&[("month", "2026-11")]), "ledger.archive")
        }
        "/tokens" => (of(rest), text(&[("name", "second"), ("scopes", "usage")]), "token.create"),
        "/tokens/{token}/rotate" => {
            (of(&format!("/tokens/{token}/rotate")), text(&[("grace_seconds", "60")]), "token.rotate")
        }
        "/tokens/{token}/revoke" => (of(&format!("/tokens/{token}/revoke")), text(&[]), "token.revoke"),
        "/money" => {
            assert!(scene.bill("m", 1).await > NanoUsd::ZERO);
            (of(rest), text(&[("amount_usd", "0.001"), ("reason", "why")]), "credit.create")
        }
        "/held/{event}/resolve" => {
            let held = scene.get("/v1/held").await.json()["data"][0]["id"].as_str().unwrap().to_owned();
            let fields = text(&[("action", "release"), ("reason", "why")]);
            (of(&format!("/held/{held}/resolve")), fields, "hold.resolve")
        }
        "/keys" => (of(rest), text(&[("upstream", "openai"), ("api_key", "sk-provider-secret")]), "provider_key.put"),
        "/keys/{upstream}/remove" => {
            let own = scene.state.master.seal_provider_key(&acme(), "openai", &SecretString::from("own")).unwrap();
            scene.store.put_provider_key(&Actor::system(), &acme(), own).await.unwrap();
            (of("/keys/openai/remove"), text(&[]), "provider_key.delete")
        }
        "/client_secrets" => (of(rest), text(&[("ttl_seconds", "60")]), "client_secret.create"),
        "/terminals" => (of(rest), text(&[("reason", "why"), ("role", "observer")]), "terminal.ticket"),
        "/terminals/{terminal}/end" => (of(&format!("/terminals/{TERMINAL}/end")), text(&[]), "terminal.end"),
        "/backups" => (of(rest), text(&[]), "backup.create"),
        "/settings" => {
            (of(rest), text(&[("name", "New"), ("timezone", "UTC"), ("models_mode", "all")]), "tenant.update")
        }
        "/suspend" => (of(rest), text(&[]), "tenant.update"),
        "/activate" => {
            let suspend = serde_json::from_value(serde_json::json!({"status": "suspended"})).unwrap();
            scene.store.update_tenant(&Actor::system(), &acme(), suspend).await.unwrap();
            (of(rest), text(&[]), "tenant.update")
        }
        "/delete" => (of(rest), text(&[("confirm", "acme")]), "tenant.delete"),
        other => panic!("{other} has no example of what it changes: give it one here"),
    })
}

/// U-01
#[tokio::test]
async fn every_change_leaves_exactly_one_line_that_says_by_which_key_and_from_where() {
    let mut tried = 0;
    for route in routes().into_iter().filter(|route| route.method == Method::POST) {
        let scene = Scene::new().await;
        let scene = if route.path.contains("{event}") { scene.with_a_hold().await } else { scene }.audited();
        let Some((path, fields, action)) = example(&scene, &route).await else { continue };
        let browser = Browser::of(&scene).await;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let before = scene.head();
        let answer = match path.as_str() {
            "/console/login" => scene.send(change(&path, HERE, form(&fields))).await,
            _ => browser.post(&path, &fields).await,
        };
        assert_eq!(answer.status, 303, "{path}: {}", answer.text);
        let lines = scene.lines_after(before);
        assert_eq!(lines.len(), 1, "{path}: {lines:#?}");
        let event = &lines[0].event;
        assert_eq!(event.action, action, "{path}");
        assert_eq!(event.request_id.as_deref(), answer.header("x-request-id"), "{path}");
        assert_eq!((event.actor.kind.as_str(), event.actor.id.as_str()), ("operator", "admin.keys[0]"), "{path}");
        assert_eq!((event.ip.as_deref(), event.outcome.name()), (Some("192.0.2.1"), "ok"), "{path}");
        for secret in ["sk-provider-secret", KEY, scene.token.as_str(), browser.csrf.as_str(), browser.cookie.as_str()]
        {
            assert!(!scene.text().contains(secret.trim_start_matches("openclawmu-console=")), "{path}");
        }
        scene.look().await;
        assert_eq!(scene.head(), before + 1, "what was done is not told as refused, too");
        tried += 1;
    }
    assert!(tried >= 18, "{tried}");
}

/// U-08
#[tokio::test]
async fn what_is_refused_is_on_record_too() {
    let scene = Scene::new().await.audited();
    let browser = Browser::of(&scene).await;
    let before = scene.head();
    assert_eq!(scene.send(change("/console/login", HERE, form(&[("key", "wrong")]))).await.status, 401);
    assert_eq!(browser.post("/console/tenants/acme/delete", &[("confirm", "another")]).await.status, 400);
    assert_eq!(scene.send(change("/console/tenants/acme/suspend", HERE, String::new())).await.status, 401);
    scene.look().await;
    let lines = scene.lines_after(before);
    let told: Vec<_> = lines.iter().map(|line| (line.event.action.as_str(), line.event.tenant.as_deref())).collect();
    assert!(told.contains(&("admin.refused", Some("acme"))), "{told:?}");
    assert_eq!(told.iter().filter(|(action, _)| *action == "admin.denied").count(), 2, "{told:?}");
}

/// U-02: nobody gets in, and nothing is done, that can't be put on record; out, one always gets
#[tokio::test]
async fn a_login_that_cant_be_put_on_record_is_none_and_a_logout_ends_the_session_all_the_same() {
    let scene = Scene::new().await.audited();
    let browser = Browser::of(&scene).await;
    let (folder, away) = (scene.dir.path().join("audit"), scene.dir.path().join("away"));
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let login = scene.send(change("/console/login", HERE, form(&[("key", KEY)]))).await;
    assert_eq!((login.status.as_u16(), login.header("set-cookie")), (503, None), "{}", login.text);
    let suspend = browser.post("/console/tenants/acme/suspend", &[]).await;
    assert!(suspend.status == 503 && suspend.text.contains("audit log"), "{}", suspend.text);
    assert!(browser.page("/console/tenants/acme").await.contains("active"), "it can still be looked at");
    assert_eq!(browser.post("/console/logout", &[]).await.status, 503);
    assert_eq!(browser.get("/console").await.status, 303, "and the session is over");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    scene.look().await;
    assert_eq!(Browser::of(&scene).await.post("/console/tenants/acme/suspend", &[]).await.status, 303);
}

/// W-05
#[tokio::test]
async fn a_secret_is_on_the_next_page_alone_and_a_form_that_is_sent_twice_makes_one() {
    let scene = Scene::new().await;
    let (browser, other) = (Browser::of(&scene).await, Browser::of(&scene).await);
    let path = "/console/tenants/acme/tokens";
    let once = hidden(&browser.page(path).await, "once");
    let fields = [("name", "second"), ("scopes", "usage"), ("scopes", "inference")];
    let made = browser.post_marked(path, &fields, &once).await;
    assert_eq!((made.status.as_u16(), made.header("location")), (303, Some(path)), "{}", made.text);
    assert_eq!(browser.post_marked(path, &fields, &once).await.status, 303, "an impatient second click");
    assert!(!other.page(path).await.contains("tk_acme_"));
    let shown = browser.page(path).await;
    assert_eq!(shown.matches("tk_acme_").count(), 1, "{shown}");
    assert!(!browser.page(path).await.contains("tk_acme_"));
    let tokens = scene.store.tokens(&acme(), None, 10).unwrap();
    assert_eq!(tokens.iter().filter(|token| token.name == "second").count(), 1);
    let scopes: Vec<&str> = tokens.last().unwrap().scopes.iter().map(|scope| scope.name()).collect();
    assert_eq!(scopes, ["inference", "usage"], "what was ticked");
    let again = browser.post_marked(path, &fields, &once).await;
    assert_eq!(again.status, 303);
    let said = browser.page(path).await;
    assert!(said.contains("sent twice") && !said.contains("tk_acme_"), "nor by sending it again: {said}");
}

#[tokio::test]
async fn money_that_is_given_back_by_an_impatient_click_is_given_once() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    scene.bill("m", 1).await;
    let path = "/console/tenants/acme/money";
    let once = hidden(&browser.page(path).await, "once");
    for _ in 0..3 {
        let answer = browser.post_marked(path, &[("amount_usd", "0.001"), ("reason", "sorry")], &once).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
    }
    let credits = scene.get("/v1/tenants/acme/requests?outcome=credit").await.json();
    assert_eq!(credits["data"].as_array().unwrap().len(), 1, "{credits}");
    let unmarked = browser.post_marked(path, &[("amount_usd", "0.001"), ("reason", "sorry")], "").await;
    assert_eq!(unmarked.status, 400, "a form without its mark could happen twice");
    assert!(browser.page(path).await.contains("-0.001000000"));
}

#[tokio::test]
async fn what_is_wrong_is_said_at_its_field_and_what_was_typed_stays() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    let settings = "/console/tenants/acme/settings";
    let base = [("name", "Acme & Sons"), ("timezone", "Europe/Berlin"), ("models_mode", "all")];
    for (path, field, value) in [
        (settings, "quota.usd_per_day", "a lot"),
        (settings, "quota.usd_per_day", "-1"),
        (settings, "quota.tokens_per_day", "1.5"),
        (settings, "timezone", "Mars/Olympus"),
        (settings, "markup_percent", "-3"),
        (settings, "aliases", "[1]"),
        (settings, "metadata", "{"),
        ("/console/new-tenant", "id", "Not An Id"),
        ("/console/tenants/acme/tokens", "expires_at", "tomorrow"),
        ("/console/tenants/acme/tokens", "allowed_ips", "here"),
        ("/console/tenants/acme/money", "amount_usd", "0"),
        ("/console/tenants/acme/keys", "api_key", "with space"),
        ("/console/tenants/acme/client_secrets", "ttl_seconds", "1"),
        ("/console/tenants/acme/terminals", "reason", ""),
        ("/console/tenants/acme/delete", "confirm", "acmee"),
        ("/console/upkeep/archives", "month", "last"),
    ] {
        let mut fields = if path == settings { base.to_vec() } else { vec![("scopes", "usage"), ("reason", "why")] };
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        if path.ends_with("/keys") {
            fields.push(("upstream", "openai"));
        }
        let answer = browser.post(path, &fields).await;
        assert_eq!(answer.status, 400, "{field}={value}: {}", answer.text);
        let at = answer.text.find(&format!("name=\"{field}\"")).unwrap_or_else(|| panic!("{field} in {}", answer.text));
        let rest = &answer.text[at..at + 300.min(answer.text.len() - at)];
        let element = rest.split('>').next().unwrap();
        assert!(element.contains("aria-invalid=\"true\""), "{field}={value}: {element}");
        assert!(answer.text.contains("role=\"alert\""), "{field}");
        if field == "api_key" {
            assert!(!answer.text.contains(value), "a key is never filled in again");
        } else if path == settings {
            assert!(answer.text.contains("Acme &amp; Sons"), "what was right stays as it was typed");
        }
    }
    assert_eq!(scene.store.tenant(&acme()).unwrap().name, "Acme", "and nothing was changed");
}

#[tokio::test]
async fn settings_are_saved_as_they_are_typed_and_nothing_else_is_widened() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    let path = "/console/tenants/acme/settings";
    let fields = [
        ("name", "Acme GmbH"),
        ("timezone", "Europe/Berlin"),
        ("markup_percent", "17.5"),
        ("quota.usd_per_day", "12.50"),
        ("quota.tokens_per_day", "5_000_000"),
        ("quota.on_tight_budget", "clamp"),
        ("models_mode", "listed"),
        ("models", "gpt-*\nalpha"),
        ("aliases", "{\"fast\": \"alpha\"}"),
        ("metadata", "{\"crm\": 7}"),
    ];
    assert_eq!(browser.post(path, &fields).await.status, 303);
    let tenant = scene.get("/v1/tenants/acme").await.json();
    assert_eq!(
        tenant["quota"],
        serde_json::json!({"usd_per_day": "12.5", "tokens_per_day": 5_000_000, "on_tight_budget": "clamp"})
    );
    assert_eq!(
        (&tenant["models"], &tenant["aliases"]),
        (&serde_json::json!(["gpt-*", "alpha"]), &serde_json::json!({"fast": "alpha"}))
    );
    assert_eq!(
        (&tenant["metadata"], &tenant["markup_percent"]),
        (&serde_json::json!({"crm": 7}), &serde_json::json!("17.5"))
    );
    let page = browser.page(path).await;
    assert!(page.contains("value=\"12.5\"") && page.contains("gpt-*\nalpha"), "{page}");

    // What is emptied is taken away; a list that is emptied allows nothing, and not everything.
    let fields =
        [("name", "Acme GmbH"), ("timezone", "UTC"), ("models_mode", "listed"), ("quota.on_tight_budget", "reject")];
    assert_eq!(browser.post(path, &fields).await.status, 303);
    let tenant = scene.get("/v1/tenants/acme").await.json();
    assert_eq!(tenant["quota"], serde_json::json!({"on_tight_budget": "reject"}));
    assert_eq!((&tenant["models"], &tenant["metadata"]), (&serde_json::json!([]), &serde_json::json!({})));
    assert!(tenant["aliases"].is_null(), "{tenant}");
}

/// W-03
#[tokio::test]
async fn what_tenants_and_operators_name_things_is_text_on_every_page() {
    let scene = Scene::new().await.audited();
    let browser = Browser::of(&scene).await;
    for (place, hostile) in HOSTILE.into_iter().enumerate() {
        let id = format!("t{place}");
        let metadata = serde_json::json!({ hostile: hostile }).to_string();
        let made = browser.post("/console/new-tenant", &[("id", &id), ("name", hostile), ("models", hostile)]).await;
        assert_eq!(made.status, 303, "{}", made.text);
        let settings = [
            ("name", hostile),
            ("timezone", "UTC"),
            ("models_mode", "listed"),
            ("models", hostile),
            ("metadata", metadata.as_str()),
        ];
        assert_eq!(browser.post(&format!("/console/tenants/{id}/settings"), &settings).await.status, 303);
        let token = [("name", hostile), ("scopes", "usage")];
        assert_eq!(browser.post(&format!("/console/tenants/{id}/tokens"), &token).await.status, 303);
        for rest in ["", "/tokens", "/settings", "/usage", "/requests", "/money", "/keys"] {
            let page = browser.page(&format!("/console/tenants/{id}{rest}")).await;
            assert!(!page.contains(hostile), "{rest}: {page}");
        }
    }
    scene.bill(HOSTILE[0], 2).await;
    let named = [("name", HOSTILE[0]), ("timezone", "UTC"), ("models_mode", "all")];
    assert_eq!(browser.post("/console/tenants/acme/settings", &named).await.status, 303);
    for path in [
        "/console/tenants",
        "/console/audit",
        "/console/reports",
        "/console/tenants/acme/usage",
        "/console/tenants/acme/requests",
    ] {
        let page = browser.page(path).await;
        assert!(HOSTILE.iter().all(|hostile| !page.contains(hostile)), "{path}: {page}");
        assert!(page.contains("&lt;script&gt;"), "{path} shows it as text");
    }
    let query = form(&[("search", HOSTILE[1]), ("tenant", HOSTILE[0])]);
    assert!(
        !browser.page(&format!("/console/tenants?{}", &query[..query.find('&').unwrap()])).await.contains(HOSTILE[1])
    );
    assert!(
        !browser
            .page(&format!("/console/audit?tenant={}", &query[query.find("tenant=").unwrap() + 7..]))
            .await
            .contains(HOSTILE[0])
    );
}

/// N-07
#[tokio::test]
async fn a_search_is_bounded_and_no_sign_in_it_stands_for_others() {
    let scene = Scene::new().await;
    let browser = Browser::of(&scene).await;
    for (id, name) in [("one", "100% Öl_Werke"), ("two", "Second")] {
        let made = browser.post("/console/new-tenant", &[("id", id), ("name", name)]).await;
        assert_eq!(made.status, 303, "{}", made.text);
    }
    for (search, found) in [
        ("", "acme one two"),
        ("ACM", "acme"),
        ("%", "one"),
        ("_", "one"),
        ("öl", ""),
        ("Öl_", "one"),
        ("econ", "two"),
        ("*", ""),
    ] {
        let answer = scene.get(&format!("/v1/tenants?{}", form(&[("search", search)]))).await.json();
        let ids: Vec<&str> = answer["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids.join(" "), found, "{search}");
        let page = browser.page(&format!("/console/tenants?{}", form(&[("search", search)]))).await;
        for id in ["acme", "one", "two"] {
            let link = format!("href=\"/console/tenants/{id}\"");
            assert_eq!(page.contains(&link), found.contains(id), "{search}: {id}");
        }
    }
    let long = "%".repeat(10_000);
    assert_eq!(scene.get(&format!("/v1/tenants?search={long}")).await.refused(400), "invalid_value");
    assert_eq!(browser.get(&format!("/console/tenants?search={long}")).await.status, 400);
}

#[tokio::test]
async fn where_no_place_for_backups_is_configured_the_page_says_how_to_name_one() {
    let mut scene = Scene::new().await;
    let nowhere = Backups::new(scene.store.clone(), Arc::clone(&scene.state.master), BackupConfig::default());
    scene.state = scene.state.clone().with_backups(Arc::new(nowhere));
    scene.app = router(scene.state.clone());
    let browser = Browser::of(&scene).await;
    for path in ["/console/upkeep", "/console/tenants/acme/backups"] {
        let page = browser.page(path).await;
        assert!(
            page.contains("[backup] to") && !page.contains("Back up now") && !page.contains("role=\"alert\""),
            "{page}"
        );
    }
    let with_one = Scene::new().await;
    assert!(Browser::of(&with_one).await.page("/console/upkeep").await.contains("Back up now"));
}
