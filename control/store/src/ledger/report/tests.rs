//! What holds for usage reports.

use rusqlite::params;
use serde_json::json;

use super::*;
use crate::scene::{Scene, operator, tenant_id};
use crate::tenant::{NewTenant, TenantPatch};
use crate::token::NewToken;

/// One attempt, as far as reports care.
#[derive(Clone, Copy)]
struct Attempt {
    request: &'static str,
    tenant: i64,
    model: i64,
    at: i64,
    day: i64,
    cost_nanos: i64,
    estimated: bool,
}

const NOON: Attempt =
    Attempt { request: "req_1", tenant: 1, model: 1, at: 1_000, day: 20_000, cost_nanos: 54_399_000, estimated: false };

/// Writes rows whose token buckets are 1, 2, 4, 8 ... so that a sum tells which buckets are in it.
fn write(scene: &Scene, attempts: &[Attempt]) {
    let attempts = attempts.to_vec();
    let insert = move |tx: &rusqlite::Transaction<'_>| {
        for name in ["gpt-4o", "=cmd()", "openai"] {
            tx.execute("INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
        }
        for a in attempts {
            tx.execute(
                "INSERT INTO ledger (tenant, token, model, upstream, rate_card, request_id, attempt, outcome, http_status, estimated, stream,
                    admitted_at_ms, day, month, first_byte_ms, duration_ms, reserved_nanos, cost_nanos, held_nanos, reserved_tokens, held_tokens,
                    input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens,
                    input_audio_tokens, output_audio_tokens, tool_calls, label, service_tier, markup_ppm, markup_nanos,
                    input_images, output_images, input_characters, output_characters, input_ms, output_ms)
                 VALUES (?1, ?1, ?2, 3, 1, ?3, 0, 'complete', 200, ?4, 0, ?5, ?6, 0, 0, 0, 0, ?7, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 0, 'standard', 0, 0, 0, 0, 0, 0, 0, 0)",
                params![a.tenant, a.model, a.request, a.estimated, a.at, a.day, a.cost_nanos],
            )?;
        }
        Ok(())
    };
    scene.store.inner.writer().run_blocking(insert).unwrap();
}

fn query(tenant: Option<&str>, keys: &str) -> UsageQuery {
    let group_by = keys.split(',').filter(|key| !key.is_empty()).map(|key| key.parse().unwrap()).collect();
    UsageQuery { tenant: tenant.map(tenant_id), from: UnixMs(0), to: UnixMs(10_000), group_by }
}

fn csv(scene: &Scene, query: &UsageQuery) -> Vec<Vec<String>> {
    let mut text = Vec::new();
    scene.store.usage_csv(query, &mut text).unwrap();
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_slice());
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn a_row_has_the_contracts_shape() {
    let scene = Scene::new();
    let (_, token, _) = scene.tenant("acme");
    write(&scene, &[NOON]);
    let sums = json!({"requests": 1, "input_tokens": 65, "cache_read_tokens": 2, "cache_write_tokens": 12, "output_tokens": 144,
        "reasoning_tokens": 32, "tool_calls": 256, "sandbox_seconds": 0, "cost_usd": "0.054399000"});
    let report = scene.store.usage(&query(Some("acme"), "day,model,token")).unwrap();
    let mut row = sums.clone();
    row["day"] = json!("2024-10-04");
    row["model"] = json!("gpt-4o");
    row["token"] = json!(token.id);
    assert_eq!(serde_json::to_value(&report).unwrap(), json!({"rows": [row], "total": sums}));
    let report = scene.store.usage(&query(Some("acme"), "")).unwrap();
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        json!({"rows": [sums], "total": sums}),
        "absent keys are left out"
    );
}

#[test]
fn rows_are_summed_by_what_they_are_grouped_by() {
    let scene = Scene::new();
    scene.tenant("acme");
    scene.tenant("other");
    let fallback = Attempt { model: 2, cost_nanos: 1, ..NOON };
    write(
        &scene,
        &[
            NOON,
            fallback,
            Attempt { request: "req_2", day: 20_001, cost_nanos: 7, ..NOON },
            Attempt { tenant: 2, cost_nanos: 1_000, ..NOON },
        ],
    );
    let costs = |tenant, keys| -> Vec<(Option<String>, Option<String>, u64, i64)> {
        let rows = scene.store.usage(&query(tenant, keys)).unwrap().rows;
        rows.into_iter().map(|row| (row.day, row.model, row.sums.requests, row.sums.cost_usd.0)).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        costs(Some("acme"), "day"),
        [(text("2024-10-04"), None, 1, 54_399_001), (text("2024-10-05"), None, 1, 7)]
    );
    assert_eq!(costs(Some("acme"), "model"), [(None, text("=cmd()"), 1, 1), (None, text("gpt-4o"), 2, 54_399_007)]);
    assert_eq!(costs(None, ""), [(None, None, 2, 54_400_008)]);
    let total = scene.store.usage(&query(Some("acme"), "model")).unwrap().total;
    assert_eq!((total.requests, total.cost_usd), (2, NanoUsd(54_399_008)), "a request with a fallback is one request");
}

#[test]
fn the_period_has_its_start_and_not_its_end() {
    let scene = Scene::new();
    scene.tenant("acme");
    write(
        &scene,
        &[
            Attempt { at: 9, cost_nanos: 1, ..NOON },
            Attempt { at: 10, cost_nanos: 10, ..NOON },
            Attempt { at: 20, cost_nanos: 100, ..NOON },
        ],
    );
    let cost = |from, to| {
        scene
            .store
            .usage(&UsageQuery { from: UnixMs(from), to: UnixMs(to), ..query(Some("acme"), "") })
            .unwrap()
            .total
            .cost_usd
            .0
    };
    assert_eq!([cost(10, 20), cost(9, 21), cost(0, 9), cost(21, 20)], [10, 111, 0, 0]);
    let empty = scene.store.usage(&UsageQuery { to: UnixMs(0), ..query(Some("acme"), "day") }).unwrap();
    assert_eq!(empty, UsageReport::default());
}

#[test]
fn a_deleted_tenants_usage_is_still_there_and_a_stranger_is_unknown() {
    let scene = Scene::new();
    let (tenant, ..) = scene.tenant("acme");
    write(&scene, &[NOON]);
    scene.store.delete_tenant(&operator(), &tenant.id).wait().unwrap();
    assert_eq!(scene.store.usage(&query(Some("acme"), "")).unwrap().total.cost_usd, NanoUsd(54_399_000));
    assert!(matches!(scene.store.usage(&query(Some("nobody"), "")), Err(StoreError::NotFound("tenant"))));
    assert!(matches!(
        scene.store.usage_csv(&query(Some("nobody"), ""), &mut Vec::new()),
        Err(StoreError::NotFound("tenant"))
    ));
    assert!("user".parse::<UsageKey>().is_err());
}

#[test]
fn m_10_the_csv_has_the_stable_columns_and_the_same_total() {
    let scene = Scene::new();
    let (_, token, _) = scene.tenant("acme");
    scene.tenant("other");
    write(
        &scene,
        &[
            NOON,
            Attempt { request: "req_2", estimated: true, ..NOON },
            Attempt { tenant: 2, cost_nanos: 1, ..NOON },
            Attempt { day: 20_001, ..NOON },
        ],
    );
    let records = csv(&scene, &query(None, ""));
    let columns = "period_start,period_end,tenant,tenant_name,model,upstream,token,requests,input_tokens,cache_read_tokens,cache_write_tokens,\
        output_tokens,reasoning_tokens,tool_calls,sandbox_seconds,storage_byte_days,rate_card,estimated_rows,cost_usd";
    assert_eq!(records[0].join(","), columns);
    let first = format!(
        "1970-01-01T00:00:00.000Z,1970-01-01T00:00:10.000Z,acme,acme,gpt-4o,openai,{},2,195,6,36,432,96,768,0,0,1,1,0.163197000",
        token.id
    );
    assert_eq!(records[1].join(","), first);
    assert_eq!(records.len(), 3);
    let csv_total: NanoUsd = records[1..].iter().map(|record| record[18].parse::<NanoUsd>().unwrap()).sum();
    let sql_total: i64 = scene.sql().query_row("SELECT sum(cost_nanos) FROM ledger", [], |row| row.get(0)).unwrap();
    assert_eq!(csv_total, scene.store.usage(&query(None, "day")).unwrap().total.cost_usd);
    assert_eq!(csv_total, NanoUsd(sql_total));
    let by_day = csv(&scene, &query(Some("acme"), "day"));
    let periods: Vec<&[String]> = by_day[1..].iter().map(|record| &record[..2]).collect();
    assert_eq!(periods, [["2024-10-04", "2024-10-05"], ["2024-10-05", "2024-10-06"]]);
}

#[test]
fn m_10_no_cell_runs_as_a_formula_or_breaks_out_of_its_column() {
    let scene = Scene::new();
    let new = NewTenant {
        id: Some(tenant_id("acme")),
        name: Some("=HYPERLINK(\"http://x\",\"a\")".to_owned()),
        ..NewTenant::default()
    };
    scene.store.create_tenant(&operator(), new, NewToken::default()).wait().unwrap();
    write(&scene, &[Attempt { model: 2, cost_nanos: -1_500_000_000, ..NOON }]);
    let record = &csv(&scene, &query(Some("acme"), ""))[1];
    assert_eq!((record[3].as_str(), record[4].as_str()), ("'=HYPERLINK(\"http://x\",\"a\")", "'=cmd()"));
    assert_eq!(record[18], "-1.500000000", "a number stays a number");
    for name in ["+1", "-1", "@SUM(1)", " =1", "＝1", "＠1", "plain, with \"quotes\""] {
        let patch: TenantPatch = serde_json::from_value(json!({"name": name})).unwrap();
        scene.store.update_tenant(&operator(), &tenant_id("acme"), patch).wait().unwrap();
        let cell = csv(&scene, &query(Some("acme"), ""))[1][3].clone();
        assert_eq!(cell, if name.starts_with("plain") { name.to_owned() } else { format!("'{name}") });
    }
}

#[test]
fn reports_find_their_rows_by_index() {
    let scene = Scene::new();
    let sql = format!("EXPLAIN QUERY PLAN SELECT {SUMS} {ROWS}");
    let conn = scene.sql();
    let mut statement = conn.prepare(&sql).unwrap();
    let params = named_params! {":tenant": None::<String>, ":from": 0, ":to": 1};
    let plan: Vec<String> =
        statement.query_map(params, |row| row.get(3)).unwrap().map(std::result::Result::unwrap).collect();
    assert!(
        plan.iter().any(|step| step.contains("ledger_of_tenant (tenant=? AND admitted_at_ms>? AND admitted_at_ms<?)")),
        "{plan:?}"
    );
}
