//! Tenants out of one real store and into another.

use std::collections::BTreeSet;

use rusqlite::params;
use serde_json::json;

use super::table::{CARRIED, LEFT};
use super::*;
use crate::error::StoreError;
use crate::ledger::NewCredit;
use crate::ledger::row::Outcome;
use crate::money::NanoUsd;
use crate::provider_key::SealedKey;
use crate::quota::Quota;
use crate::scene::{HERE, Scene, operator, tenant_id};
use crate::tenant::TenantPatch;

fn credit(scene: &Scene, tenant: &str, nanos: i64) {
    let new = NewCredit { amount_usd: NanoUsd(nanos), reason: "why".to_owned() };
    scene.store.credit(&operator(), &tenant_id(tenant), new).wait().unwrap();
}

/// Everything that a backup of a tenant holds, as text and back.
fn taken(scene: &Scene, id: &str) -> (TenantRows, Vec<RowObject>) {
    let snapshot = scene.store.snapshot().unwrap();
    let id = tenant_id(id);
    let mut rows = TenantRows::default();
    for line in snapshot.tenant_rows(&id).unwrap().lines() {
        rows.add_line(line.to_string().as_bytes()).unwrap();
    }
    let mut ledger = Vec::new();
    for month in snapshot.ledger_months(&id).unwrap() {
        let keep = &mut |row| {
            ledger.push(row);
            Ok(())
        };
        snapshot.ledger(&id, month, keep).unwrap();
    }
    (rows, ledger)
}

fn plan(rows: &TenantRows, id: &str) -> RestorePlan {
    let rows = rows.clone();
    RestorePlan { id: tenant_id(id), copy: false, force: false, rows, tokens_work: true, from: "test".to_owned() }
}

fn restored(scene: &Scene, plan: RestorePlan, ledger: &[RowObject]) -> crate::error::Result<Restored> {
    let mut restore = scene.store.begin_restore(&operator(), plan)?;
    if restore.wants_ledger() {
        restore.ledger(ledger.to_vec())?;
    }
    restore.finish("x".to_owned(), || Ok(())).wait()
}

fn total(scene: &Scene, tenant: &str) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT coalesce(sum(cost_nanos), 0) FROM ledger WHERE tenant = t.row_id),
        (SELECT coalesce(sum(posted_nanos), 0) FROM windows WHERE tenant = t.row_id AND kind = 'day'),
        (SELECT coalesce(sum(cost_nanos), 0) FROM usage_days WHERE tenant = t.row_id) FROM tenants t WHERE id = ?1";
    scene.sql().query_row(sql, [tenant], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
}

/// A table that a tenant has rows in is carried, or says why not.
#[test]
fn every_table_with_a_tenant_is_carried_or_left_for_a_reason() {
    let scene = Scene::new();
    let conn = scene.sql();
    let sql =
        "SELECT s.name FROM sqlite_schema s, pragma_table_info(s.name) c WHERE s.type = 'table' AND c.name = 'tenant'";
    let mut statement = conn.prepare(sql).unwrap();
    let found: BTreeSet<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let named = CARRIED.iter().map(|(name, _)| *name).chain(LEFT.iter().map(|(name, _)| *name));
    assert_eq!(found, named.map(str::to_owned).collect(), "say in backup/table.rs what becomes of a new table");
}

/// B-06: a tenant comes to an empty gateway with its policy, its tokens and its usage, and nobody else does.
#[test]
fn b_06_a_tenant_comes_whole_to_an_empty_gateway_and_alone() {
    let (from, to) = (Scene::new(), Scene::new());
    let (_, token, _) = from.tenant("acme");
    from.tenant("other");
    let quota = Quota { usd_per_day: Some(NanoUsd(5_000_000_000)), ..Quota::default() };
    let patch: TenantPatch = serde_json::from_value(json!({"quota": quota, "metadata": {"a": "b"}})).unwrap();
    from.store.update_tenant(&operator(), &tenant_id("acme"), patch).wait().unwrap();
    credit(&from, "acme", 700);
    credit(&from, "acme", 700);
    credit(&from, "other", 9);
    let (rows, ledger) = taken(&from, "acme");
    let done = restored(&to, plan(&rows, "acme"), &ledger).unwrap();
    assert_eq!(done.tenant.quota, quota);
    assert_eq!(done.tenant.metadata, from.store.tenant(&tenant_id("acme")).unwrap().metadata);
    assert_eq!(done.report.ledger_rows_added, 2, "two alike are two");
    assert!(done.token.is_none(), "its own works");
    assert_eq!(to.store.tokens(&tenant_id("acme"), None, 10).unwrap()[0].id, token.id);
    assert_eq!(total(&to, "acme"), (-1_400, -1_400, -1_400));
    assert!(matches!(to.store.tenant(&tenant_id("other")), Err(StoreError::NotFound(_))));
    let again = RestorePlan { force: true, ..plan(&rows, "acme") };
    assert_eq!(restored(&to, again, &ledger).unwrap().report.ledger_rows_added, 0, "nothing is billed twice");
    assert_eq!(total(&to, "acme"), (-1_400, -1_400, -1_400));
}

/// B-09: what was revoked and spent since stays so, and is told.
#[test]
fn b_09_an_old_backup_revives_no_token_and_no_budget_and_says_so() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    credit(&scene, "acme", 100);
    let (rows, ledger) = taken(&scene, "acme");
    credit(&scene, "acme", 30);
    let (newer, new_plain) =
        scene.store.create_token(&operator(), &tenant.id, crate::NewToken::default()).wait().unwrap();
    scene.store.revoke_token(&operator(), &tenant.id, &token.id).wait().unwrap();
    let in_the_way = restored(&scene, plan(&rows, "acme"), &ledger);
    assert!(matches!(&in_the_way, Err(StoreError::Conflict(why)) if why.contains("--force")), "{in_the_way:?}");
    let done = restored(&scene, RestorePlan { force: true, ..plan(&rows, "acme") }, &ledger).unwrap();
    assert_eq!(done.report.tokens_still_revoked, [token.id]);
    assert_eq!(done.report.tokens_made_since, [newer.id]);
    assert_eq!(done.report.usage_since, UsageSince { rows: 1, cost_usd: NanoUsd(-30) });
    assert_eq!(total(&scene, "acme"), (-130, -130, -130));
    assert!(scene.store.authenticate(plain.expose(), HERE).is_err());
    assert!(scene.store.authenticate(new_plain.expose(), HERE).is_ok());
    assert_eq!(scene.audit().last().unwrap().0, "tenant.restore");
}

/// B-09: a tenant that was deleted comes back only when asked by force, and with a token that nobody has had.
#[test]
fn b_09_a_deleted_tenant_comes_back_by_force_alone_and_with_a_fresh_token() {
    let scene = Scene::new();
    let (tenant, token, plain) = scene.tenant("acme");
    let (rows, ledger) = taken(&scene, "acme");
    scene.store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
    let refused = restored(&scene, plan(&rows, "acme"), &ledger);
    assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("deleted")), "{refused:?}");
    let done = restored(&scene, RestorePlan { force: true, ..plan(&rows, "acme") }, &ledger).unwrap();
    assert_eq!(done.report.tokens_still_revoked, [token.id]);
    assert!(scene.store.authenticate(plain.expose(), HERE).is_err());
    assert!(scene.store.authenticate(done.token.unwrap().1.expose(), HERE).is_ok());
}

/// A copy is a tenant of its own: other tokens, no usage; the one that it is of stays as it is.
#[test]
fn a_copy_has_the_policy_and_fresh_tokens_and_no_usage() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    let key = SealedKey { id: "k".to_owned(), upstream: "openai".to_owned(), sealed: vec![1] };
    scene.store.put_provider_key(&operator(), &tenant.id, key).wait().unwrap();
    credit(&scene, "acme", 100);
    let (mut rows, ledger) = taken(&scene, "acme");
    let turned = rows.turn_provider_keys(|upstream, id, sealed| {
        assert_eq!((upstream, id, sealed), ("openai", "k", [1].as_slice()));
        Ok(("k2".to_owned(), vec![2]))
    });
    turned.unwrap();
    let copy = RestorePlan { copy: true, ..plan(&rows, "copy") };
    let done = restored(&scene, copy.clone(), &ledger).unwrap();
    assert_eq!(done.tenant.id, tenant_id("copy"));
    assert!(done.token.is_some());
    assert_eq!((total(&scene, "copy"), total(&scene, "acme").0), ((0, 0, 0), -100));
    assert_eq!(scene.store.provider_keys(&tenant_id("copy")).unwrap()[0].id, "k2");
    assert!(matches!(restored(&scene, copy, &ledger), Err(StoreError::Conflict(_))), "its id is taken now");
}

/// A restore that can't be finished leaves the tenant as it was; one that broke off can be made again.
#[test]
fn what_a_refused_swap_undoes_is_everything() {
    let (from, to) = (Scene::new(), Scene::new());
    from.tenant("acme");
    credit(&from, "acme", 5);
    let (rows, ledger) = taken(&from, "acme");
    let mut restore = to.store.begin_restore(&operator(), plan(&rows, "acme")).unwrap();
    restore.ledger(ledger.clone()).unwrap();
    let refused = restore.finish("x".to_owned(), || Err(StoreError::Unavailable("the disk".to_owned()))).wait();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(matches!(to.store.tenant(&tenant_id("acme")), Err(StoreError::NotFound(_))));
    let done = restored(&to, plan(&rows, "acme"), &ledger).unwrap();
    assert_eq!(done.report.ledger_rows_added, 0);
    assert_eq!(total(&to, "acme"), (-5, -5, -5));
}

#[test]
fn another_tenant_of_the_same_id_is_never_replaced() {
    let (from, to) = (Scene::new(), Scene::new());
    from.tenant("acme");
    to.move_ms(1);
    to.tenant("acme");
    let (rows, ledger) = taken(&from, "acme");
    let refused = restored(&to, RestorePlan { force: true, ..plan(&rows, "acme") }, &ledger);
    assert!(matches!(&refused, Err(StoreError::Conflict(why)) if why.contains("another tenant")), "{refused:?}");
}

/// B-05: hashes of another pepper verify nothing: the tokens are dead, and a fresh one is made.
#[test]
fn b_05_tokens_of_another_pepper_do_not_work_and_are_told() {
    let (from, to) = (Scene::new(), Scene::new());
    let (_, token, plain) = from.tenant("acme");
    let (rows, ledger) = taken(&from, "acme");
    let done = restored(&to, RestorePlan { tokens_work: false, ..plan(&rows, "acme") }, &ledger).unwrap();
    assert_eq!(done.report.tokens_not_usable, [token.id]);
    assert!(to.store.authenticate(plain.expose(), HERE).is_err());
    assert!(to.store.authenticate(done.token.unwrap().1.expose(), HERE).is_ok());
}

/// B-01: the copy is sound and adds up while others write.
#[test]
fn b_01_a_copy_is_sound_and_its_budgets_are_its_ledger() {
    let scene = Scene::new();
    scene.tenant("acme");
    let copies: Vec<_> = (0..3)
        .map(|number| {
            credit(&scene, "acme", 7);
            let path = scene.dir.path().join(format!("copy-{number}.db"));
            scene.store.copy_database(&path).unwrap().facts().unwrap()
        })
        .collect();
    let rows: Vec<u64> = copies.iter().map(|facts| facts.ledger_rows).collect();
    assert_eq!(rows, [1, 2, 3]);
    assert_eq!(copies[2].ledger_cost_usd, NanoUsd(-21));
}

#[tokio::test]
async fn a_row_is_fed_until_it_is_shipped_and_only_while_somebody_ships() {
    let scene = Scene::new();
    scene.tenant("acme");
    let give = || async {
        let new = NewCredit { amount_usd: NanoUsd(1), reason: "why".to_owned() };
        scene.store.credit(&operator(), &tenant_id("acme"), new).await.unwrap();
    };
    give().await;
    assert_eq!(scene.store.ledger_unshipped().unwrap(), 0);
    scene.store.feed_ledger(true).await.unwrap();
    give().await;
    give().await;
    let fed = scene.store.fed_ledger(10).unwrap();
    assert_eq!((fed.len(), fed[0]["outcome"].as_str()), (2, Some(Outcome::Credit.name())));
    give().await;
    scene.store.ledger_shipped(&fed).await.unwrap();
    assert_eq!(scene.store.fed_ledger(10).unwrap().len(), 1);
}

/// The segments after a snapshot bring its ledger up to date, once, and revoke what was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_adds_what_the_snapshot_lacks_and_revokes_again() {
    let scene = Scene::new();
    let (_, token, _) = scene.tenant("acme");
    scene.store.feed_ledger(true).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    credit(&scene, "acme", 1);
    scene.store.copy_database(&dir.path().join("openclawmu.db")).unwrap();
    credit(&scene, "acme", 2);
    scene.tenant("late");
    credit(&scene, "late", 3);
    let fed = scene.store.fed_ledger(10).unwrap();
    let mut done = Replayed::default();
    let mut offline = Offline::open(dir.path()).unwrap();
    offline.ledger(&fed, &mut done).unwrap();
    offline.ledger(&fed, &mut done).unwrap();
    let line = json!({"action": "token.revoke", "tenant": "acme", "target": token.id, "outcome": "ok"});
    offline.audit(scene.now(), line.as_object().unwrap(), &mut done).unwrap();
    offline.close().unwrap();
    assert_eq!((done.ledger_rows, done.tenants_unknown, done.tokens_revoked.len()), (2, vec!["late".to_owned()], 1));
    let conn = crate::sqlite::open::read_only(&dir.path().join("openclawmu.db")).unwrap();
    let sum = |sql: &str| conn.query_row(sql, params![], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(sum("SELECT sum(cost_nanos) FROM ledger"), -6);
    assert_eq!(sum("SELECT sum(cost_nanos) FROM usage_days"), -6);
    assert_eq!(sum("SELECT count(*) FROM tokens WHERE revoked_at_ms IS NOT NULL"), 1);
}
