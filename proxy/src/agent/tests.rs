//! Turns from within, on a whole gateway without listeners, its model the built-in echo.

use std::sync::Arc;

use openclawmu_control::MasterKey;
use openclawmu_control::agent::{Turn, TurnEnd};
use openclawmu_store::{
    Actor, NewTenant, NewToken, RequestQuery, RequestRow, Store, StoreOptions, SystemClock, TenantId,
};
use tempfile::TempDir;

use crate::config::{self, Overrides};
use crate::gateway::Gateway;
use crate::serve::shared;

struct Scene {
    gateway: Gateway,
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let overrides = Overrides { data: Some(dir.path().to_owned()), ..Overrides::default() };
        let config = config::check(config::load(None, &overrides).unwrap()).unwrap();
        let options = StoreOptions {
            dir: dir.path().to_owned(),
            clock: Arc::new(SystemClock),
            takeover: std::time::Duration::ZERO,
            durability: config.durability,
        };
        let store = Store::open(&options).unwrap();
        store.import_first_rates(&Actor::system(), config.first_rates.clone()).wait().unwrap();
        let master = Arc::new(MasterKey::load_or_create(dir.path()).unwrap());
        Self { gateway: Gateway { shared: Arc::new(shared(&config, store, &master).unwrap()) }, dir }
    }

    fn store(&self) -> &Store {
        &self.gateway.shared.store
    }

    fn tenant(&self, id: &str, json: &str) -> TenantId {
        let new: NewTenant = serde_json::from_str(json).unwrap();
        let id: TenantId = id.parse().unwrap();
        let new = NewTenant { id: Some(id.clone()), models: Some(vec!["echo".to_owned()]), ..new };
        self.store().create_tenant(&Actor::system(), new, NewToken::default()).wait().unwrap();
        id
    }

    async fn say(&self, tenant: &TenantId, session: &str, text: &str) -> TurnEnd {
        let turn = Turn {
            tenant: tenant.clone(),
            agent: "default".to_owned(),
            session: session.to_owned(),
            by: "channel:cb_4f2a".to_owned(),
            text: text.to_owned(),
        };
        self.gateway.agents().turn(turn).await
    }

    async fn rows(&self, tenant: &TenantId) -> Vec<RequestRow> {
        self.store().flush().await.unwrap();
        let mut rows = Vec::new();
        let each = &mut |row| {
            rows.push(row);
            Ok(())
        };
        self.store().requests(&RequestQuery::of(tenant.clone()), each).unwrap();
        rows
    }

    fn session(&self, tenant: &TenantId, name: &str) -> String {
        let path = self.dir.path().join(format!("tenants/{tenant}/agents/default/sessions/{name}.jsonl"));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// A channel can be paired and used at once; its turn is a row like any other, and the books agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_without_a_client_is_admitted_billed_labelled_and_kept() {
    let scene = Scene::new();
    let acme = scene.tenant("acme", r#"{"quota":{"usd_per_day":"5"}}"#);
    assert_eq!(scene.say(&acme, "slack:T1:U1", "hello").await.as_deref(), Ok("hello"));
    assert_eq!(scene.say(&acme, "slack:T1:U1", "again").await.as_deref(), Ok("again"));
    let rows = scene.rows(&acme).await;
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in &rows {
        assert_eq!((row.token.as_str(), row.model.as_str()), ("", "echo"), "{row:?}");
        assert!(
            ["agent=default", "channel:cb_4f2a"].iter().all(|tag| row.tags.iter().any(|one| one == tag)),
            "{row:?}"
        );
        assert!(row.cost_usd.0 > 0, "{row:?}");
    }
    let reconciled = scene.store().reconcile(None).unwrap();
    assert!(reconciled.differences.is_empty(), "{reconciled:?}");
    let kept = scene.session(&acme, "slack:T1:U1");
    assert_eq!(kept.lines().count(), 4, "{kept}");
    assert!(kept.contains(r#""by":"channel:cb_4f2a""#) && kept.contains(r#""content":"again""#), "{kept}");
    // The second turn was told the first.
    assert!(rows[0].cost_usd > rows[1].cost_usd, "{rows:?}");
}

/// Q-01, I-01, I-06: the same quota, the same ends
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_refused_like_any_request_of_its_tenant() {
    let scene = Scene::new();
    let poor = scene.tenant("poor", r#"{"quota":{"usd_per_day":"0.000000001"}}"#);
    let refused = scene.say(&poor, "s", "hello").await.unwrap_err();
    assert!(refused.message.contains("quota") && refused.retry_after.is_some(), "{refused:?}");
    assert!(scene.rows(&poor).await.is_empty());
    let kept = scene.session(&poor, "s");
    assert!(kept.contains("hello") && kept.lines().count() == 1, "what was said is kept, and nothing else: {kept}");
    let rich = scene.tenant("rich", "{}");
    assert_eq!(scene.say(&rich, "s", "hello").await.as_deref(), Ok("hello"));
    for (agent, session) in [("nobody", "s"), ("../rich", "s"), ("default", ""), ("default", "a\nb")] {
        let turn = Turn {
            tenant: rich.clone(),
            agent: agent.to_owned(),
            session: session.to_owned(),
            by: "channel:x".to_owned(),
            text: "hello".to_owned(),
        };
        let refused = scene.gateway.agents().turn(turn).await.unwrap_err();
        assert_eq!(refused.retry_after, None, "{agent} {session}: {refused:?}");
    }
    scene.store().delete_tenant(&Actor::system(), &rich).wait().unwrap();
    assert!(scene.say(&rich, "s", "hello").await.is_err());
    assert_eq!(scene.rows(&rich).await.len(), 1);
}

/// C-03: what was begun is settled, whoever leaves
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_asker_leaves_goes_on_to_its_end() {
    let scene = Scene::new();
    let acme = scene.tenant("acme", "{}");
    let turn = |text: &str| Turn {
        tenant: acme.clone(),
        agent: "default".to_owned(),
        session: "s".to_owned(),
        by: "channel:x".to_owned(),
        text: text.to_owned(),
    };
    let mut left = scene.gateway.agents().turn(turn("one"));
    // Begun, and no longer waited for.
    let begun = std::future::poll_fn(|context| std::task::Poll::Ready(left.as_mut().poll(context).is_pending())).await;
    assert!(begun);
    drop(left);
    // Turns of one session follow each other: this one comes after it, or the other way round.
    assert_eq!(scene.gateway.agents().turn(turn("two")).await.as_deref(), Ok("two"));
    let active = &scene.gateway.shared.active;
    while active.load(std::sync::atomic::Ordering::Acquire) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.rows(&acme).await.len(), 2);
    assert!(scene.store().reconcile(None).unwrap().differences.is_empty());
}
