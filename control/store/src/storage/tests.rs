use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ledger::{CsvColumns, UsageQuery, UsageRange};
use crate::scene::{Scene, operator, tenant_id};
use crate::tenant::TenantPatch;

const HOUR_MS: i64 = 3_600_000;

fn look(scene: &Scene, tenant: &str, bytes: u64) {
    let key = scene.store.tenant_policy(&tenant_id(tenant)).unwrap().key;
    looked(scene, StorageLook { tenant: key, bytes, at: scene.now() });
}

fn looked(scene: &Scene, look: StorageLook) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(scene.store.note_storage(vec![look])).unwrap();
}

fn query(tenant: Option<&str>, keys: &[&str]) -> UsageQuery {
    UsageQuery {
        tenant: tenant.map(tenant_id),
        range: UsageRange::Days { from: 0, to: 100_000 },
        group_by: keys.iter().map(|key| key.parse().unwrap()).collect(),
    }
}

/// Byte-days by day, as a report tells them.
fn days(scene: &Scene, tenant: &str) -> Vec<(String, u64)> {
    let report = scene.store.usage(&query(Some(tenant), &["day"])).unwrap();
    let days: Vec<_> = report.rows.into_iter().map(|row| (row.day.unwrap(), row.sums.storage_byte_days)).collect();
    assert_eq!(
        days.iter().map(|(_, sum)| sum).sum::<u64>(),
        report.total.storage_byte_days,
        "the total is that of the rows"
    );
    days
}

fn day(name: &str, sum: u64) -> (String, u64) {
    (name.to_owned(), sum)
}

#[test]
fn each_byte_counts_for_the_time_that_it_was_seen_by_the_tenants_own_days() {
    let scene = Scene::new();
    scene.tenant("acme");
    look(&scene, "acme", 1_000);
    assert_eq!(days(&scene, "acme"), [], "no time has gone by");
    scene.move_ms(6 * HOUR_MS);
    look(&scene, "acme", 4_000);
    assert_eq!(days(&scene, "acme"), [day("2026-11-22", 250)]);
    scene.move_ms(12 * HOUR_MS);
    look(&scene, "acme", 0);
    assert_eq!(
        days(&scene, "acme"),
        [day("2026-11-22", 1_250), day("2026-11-23", 1_000)],
        "six hours each side of midnight"
    );
    scene.move_ms(24 * HOUR_MS);
    look(&scene, "acme", 0);
    assert_eq!(days(&scene, "acme").len(), 2, "what was removed takes nothing");
    let patch: TenantPatch = serde_json::from_value(json!({"timezone": "Asia/Tokyo"})).unwrap();
    scene.store.update_tenant(&operator(), &tenant_id("acme"), patch).wait().unwrap();
    look(&scene, "acme", 2_400);
    scene.move_ms(10 * HOUR_MS);
    look(&scene, "acme", 2_400);
    let all = days(&scene, "acme");
    assert_eq!(all[2..], [day("2026-11-24", 900), day("2026-11-25", 100)], "from 06:00 UTC, 15:00 there");
}

#[test]
fn a_restart_a_second_process_and_a_clock_that_goes_back_count_no_time_twice() {
    let scene = Scene::new();
    scene.tenant("acme");
    look(&scene, "acme", 2_400);
    scene.move_ms(HOUR_MS);
    look(&scene, "acme", 2_400);
    look(&scene, "acme", 2_400);
    let scene = scene.restarted().unwrap();
    look(&scene, "acme", 2_400);
    assert_eq!(days(&scene, "acme"), [day("2026-11-22", 100)]);
    scene.move_ms(-HOUR_MS);
    look(&scene, "acme", 4_800);
    scene.move_ms(HOUR_MS);
    look(&scene, "acme", 4_800);
    assert_eq!(days(&scene, "acme"), [day("2026-11-22", 100)], "that hour was counted");
    scene.move_ms(HOUR_MS);
    look(&scene, "acme", 4_800);
    assert_eq!(days(&scene, "acme"), [day("2026-11-22", 300)], "time without a gateway counts once, too");
}

#[test]
fn a_deleted_tenant_pays_up_to_its_end_and_no_longer() {
    let scene = Scene::new();
    scene.tenant("acme");
    let key = scene.store.tenant_policy(&tenant_id("acme")).unwrap().key;
    look(&scene, "acme", 2_400);
    scene.move_ms(HOUR_MS);
    scene.store.delete_tenant(&operator(), &tenant_id("acme")).wait().unwrap();
    scene.move_ms(HOUR_MS);
    looked(&scene, StorageLook { tenant: key, bytes: 2_400, at: scene.now() });
    scene.move_ms(HOUR_MS);
    looked(&scene, StorageLook { tenant: key, bytes: 2_400, at: scene.now() });
    assert_eq!(days(&scene, "acme"), [day("2026-11-22", 100)]);
}

#[test]
fn storage_is_a_line_of_its_own_in_every_report_and_costs_nothing() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.tenant("other");
    look(&scene, "acme", 2_400);
    look(&scene, "other", 24);
    scene.move_ms(HOUR_MS);
    look(&scene, "acme", 2_400);
    look(&scene, "other", 24);
    let rows = scene.store.usage(&query(None, &["model"])).unwrap().rows;
    let told: Vec<_> =
        rows.iter().map(|row| (row.model.as_deref().unwrap(), row.sums.storage_byte_days, row.sums.requests)).collect();
    assert_eq!(told, [("storage", 101, 0)]);
    let mut csv = Vec::new();
    scene.store.usage_csv(&query(Some("acme"), &[]), CsvColumns::Cost, &mut csv).unwrap();
    let csv = String::from_utf8(csv).unwrap();
    assert!(csv.contains(",acme,acme,storage,,,0,0,0,0,0,0,0,0,100,0,0,0.000000000\r\n"), "{csv}");
    let mut focus = Vec::new();
    scene.store.usage_focus(&query(None, &[]), &mut focus).unwrap();
    assert_eq!(String::from_utf8(focus).unwrap().lines().count(), 1, "what costs nothing is no charge");
    assert_eq!(scene.store.reconcile(None).unwrap().differences, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// However often it is looked, what is lost to rounding is less than a byte-day a day.
    #[test]
    fn looks_in_between_change_no_sum(bytes in 1_u64..1 << 50, steps in proptest::collection::vec(1_i64..2 * HOUR_MS, 1..8)) {
        let scene = Scene::new();
        scene.tenant("often");
        scene.tenant("once");
        look(&scene, "often", bytes);
        look(&scene, "once", bytes);
        for step in steps {
            scene.move_ms(step);
            look(&scene, "often", bytes);
        }
        look(&scene, "once", bytes);
        prop_assert_eq!(days(&scene, "often"), days(&scene, "once"));
        let kept = scene.sql().query_row("SELECT max(rest_byte_ms) FROM storage_days", [], |row| row.get::<_, i64>(0));
        prop_assert!(kept.unwrap() < 86_400_000);
    }
}
