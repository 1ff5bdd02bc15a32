//! What holds for usage reports.

use serde_json::json;

use super::*;
use crate::clock::UnixMs;
use crate::id::{LabelKey, RequestId, ReservationId, TenantKey, TokenKey};
use crate::label::Label;
use crate::ledger::row::{self, LedgerRow, Outcome, Reservation, Settlement};
use crate::ledger::slot::tests::{reservation, settlement};
use crate::money::Markup;
use crate::scene::{Scene, operator, tenant_id};
use crate::tenant::{NewTenant, TenantPatch};
use crate::token::NewToken;
use crate::usage::Usage;
use crate::window::{Month, Windows, Zone};

/// One attempt, as far as reports care.
#[derive(Clone, Copy)]
struct Attempt {
    request: u128,
    attempt: u16,
    tenant: i64,
    model: u32,
    at: i64,
    day: i32,
    cost_nanos: i64,
    estimated: bool,
    label: LabelKey,
    markup: u32,
    outcome: Outcome,
}

const DAY: i32 = 20_000;
const NOON: Attempt = Attempt {
    request: 1,
    attempt: 0,
    tenant: 1,
    model: 1,
    at: DAY as i64 * DAY_MS + DAY_MS / 2,
    day: DAY,
    cost_nanos: 54_399_000,
    estimated: false,
    label: LabelKey(0),
    markup: 0,
    outcome: Outcome::Complete,
};
const DAY_MS: i64 = 86_400_000;

impl Attempt {
    /// Its row, whose token buckets are 1, 2, 4, 8 ... so that a sum tells which buckets are in it.
    fn row(self, id: i64) -> LedgerRow {
        let mut counts = [0; Usage::COUNTS];
        for (place, count) in counts.iter_mut().take(9).enumerate() {
            *count = 1 << place;
        }
        let usage = if self.outcome == Outcome::Complete { Usage::from_counts(counts) } else { Usage::default() };
        LedgerRow {
            reservation: Reservation {
                id: ReservationId(id),
                request_id: RequestId(self.request),
                attempt: self.attempt,
                tenant: TenantKey(self.tenant),
                token: TokenKey(if self.model == 0 { 0 } else { self.tenant }),
                model: self.model,
                upstream: if self.model == 0 { 0 } else { 3 },
                rate_card: 1,
                admitted_at: UnixMs(self.at),
                day: self.day,
                month: Windows::month_of_day(self.day),
                label: self.label,
                markup: Markup::from_ppm(self.markup),
                secret: None,
                ..reservation(id)
            },
            settlement: Settlement { usage, estimated: self.estimated, ..settlement(self.outcome) },
            cost: NanoUsd(self.cost_nanos),
            held: NanoUsd::ZERO,
            held_tokens: 0,
        }
    }
}

/// Writes rows as the writer does.
fn write(scene: &Scene, attempts: &[Attempt]) {
    let attempts = attempts.to_vec();
    let insert = move |tx: &rusqlite::Transaction<'_>| {
        for name in ["gpt-4o", "=cmd()", "openai"] {
            tx.execute("INSERT INTO names (name) VALUES (?1) ON CONFLICT DO NOTHING", [name])?;
        }
        let taken: i64 = tx.query_row("SELECT coalesce(max(id), 0) FROM ledger", [], |row| row.get(0))?;
        let rows: Vec<LedgerRow> = (taken + 1..).zip(attempts).map(|(id, attempt)| attempt.row(id)).collect();
        row::insert(tx, rows.iter())
    };
    scene.store.inner.writer().run_blocking(insert).unwrap();
}

fn label(scene: &Scene, user: &str, tags: &[&str]) -> LabelKey {
    let mut label = Label::default();
    label.set_user(user);
    tags.iter().for_each(|tag| label.add_tag(tag));
    scene.store.label_key(TenantKey(1), &label)
}

fn days(from: i32, to: i32) -> UsageRange {
    UsageRange::Days { from, to }
}

fn query(tenant: Option<&str>, keys: &str) -> UsageQuery {
    let group_by = keys.split(',').filter(|key| !key.is_empty()).map(|key| key.parse().unwrap()).collect();
    UsageQuery { tenant: tenant.map(tenant_id), range: days(DAY - 10, DAY + 10), group_by }
}

fn csv(scene: &Scene, query: &UsageQuery) -> Vec<Vec<String>> {
    let mut text = Vec::new();
    scene.store.usage_csv(query, CsvColumns::Cost, &mut text).unwrap();
    records(&text)
}

fn records(text: &[u8]) -> Vec<Vec<String>> {
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text);
    reader.records().map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

#[test]
fn a_row_has_the_contracts_shape() {
    let scene = Scene::new();
    let (_, token, _) = scene.tenant("acme");
    write(&scene, &[NOON]);
    let sums = json!({"requests": 1, "input_tokens": 65, "cache_read_tokens": 2, "cache_write_tokens": 12, "output_tokens": 144,
        "reasoning_tokens": 32, "tool_calls": 256, "sandbox_seconds": 0, "storage_byte_days": 0, "cost_usd": "0.054399000", "markup_usd": "0.000000000", "billed_usd": "0.054399000"});
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
    let fallback = Attempt { attempt: 1, model: 2, cost_nanos: 1, ..NOON };
    write(
        &scene,
        &[
            NOON,
            fallback,
            Attempt { request: 2, day: DAY + 1, cost_nanos: 7, ..NOON },
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
    assert_eq!(costs(None, ""), [(None, None, 3, 54_400_008)]);
    let total = scene.store.usage(&query(Some("acme"), "model")).unwrap().total;
    assert_eq!((total.requests, total.cost_usd), (2, NanoUsd(54_399_008)), "a request with a fallback is one request");
}

#[test]
fn the_period_has_its_start_and_not_its_end() {
    let scene = Scene::new();
    scene.tenant("acme");
    let on = |day, cost_nanos| Attempt { day, at: i64::from(day) * DAY_MS, cost_nanos, ..NOON };
    write(&scene, &[on(9, 1), on(10, 10), on(20, 100)]);
    let cost = |range| scene.store.usage(&UsageQuery { range, ..query(Some("acme"), "") }).unwrap().total.cost_usd.0;
    assert_eq!([days(10, 20), days(9, 21), days(0, 9), days(21, 20)].map(cost), [10, 111, 0, 0]);
    let ms = |day: i64, ms| UnixMs(day * DAY_MS + ms);
    let between = |from, to| UsageRange::Instants { from, to };
    assert_eq!(
        [between(ms(10, 0), ms(20, 0)), between(ms(9, 0), ms(20, 1)), between(ms(9, 1), ms(10, 0))].map(cost),
        [10, 111, 0]
    );
    assert_eq!([UsageRange::Month(Month(0)), UsageRange::Month(Month(1))].map(cost), [111, 0]);
    let empty = scene.store.usage(&UsageQuery { range: days(0, 0), ..query(Some("acme"), "day") }).unwrap();
    assert_eq!(empty, UsageReport::default());
}

#[test]
fn whole_days_are_sums_and_any_other_range_is_rows() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    let midnight = zone.instant("2026-11-22").unwrap();
    let next = zone.instant("2026-11-23").unwrap();
    let UsageRange::Days { from, to } = UsageRange::between(midnight, next, &zone) else { panic!() };
    assert_eq!((day_name(from), to - from), ("2026-11-22".to_owned(), 1));
    let later = midnight.plus_ms(1);
    assert_eq!(UsageRange::between(later, next, &zone), UsageRange::Instants { from: later, to: next });
    assert!(matches!(UsageRange::between(midnight, next, &Zone::utc()), UsageRange::Instants { .. }));
}

#[test]
fn without_an_end_a_span_is_the_month_as_the_budget_counts_it() {
    let scene = Scene::new();
    scene.tenant("acme");
    let span = |from, to| scene.store.usage_span(&tenant_id("acme"), from, to);
    let shown = |from, to| span(from, to).map(|span| (span.from.rfc3339(), span.to.rfc3339())).unwrap();
    let text = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(shown(None, None), text("2026-11-01T00:00:00.000Z", "2026-11-23T00:00:00.000Z"));
    let ahead = Windows::at(scene.now().plus_ms(DAY_MS), &Zone::utc()).day;
    write(&scene, &[Attempt { day: ahead, ..NOON }]);
    assert_eq!(shown(Some("2026-11-20"), None), text("2026-11-20T00:00:00.000Z", "2026-11-24T00:00:00.000Z"));
    for (from, to) in [(Some("soon"), None), (None, Some("2026-02-30")), (Some("2026-11-02"), Some("2026-11-01"))] {
        assert!(matches!(span(from, to), Err(StoreError::Invalid { .. })), "{from:?} {to:?}");
    }
    assert!(matches!(scene.store.usage_span(&tenant_id("nobody"), None, None), Err(StoreError::NotFound("tenant"))));
}

#[test]
fn the_detail_of_an_archived_month_is_refused_and_its_days_are_not() {
    let scene = Scene::new();
    scene.tenant("acme");
    write(&scene, &[NOON]);
    let month = Windows::month_of_day(DAY);
    let archive = move |tx: &rusqlite::Transaction<'_>| {
        tx.execute("INSERT INTO archives VALUES (?1, 1, 100, 'f', 's', 1, 54399000, 0)", [month])?;
        tx.execute("DELETE FROM ledger WHERE month = ?1", [month])?;
        Ok(())
    };
    scene.store.inner.writer().run_blocking(archive).unwrap();
    let of = |range| scene.store.usage(&UsageQuery { range, ..query(Some("acme"), "") });
    assert_eq!(of(days(DAY, DAY + 1)).unwrap().total.cost_usd, NanoUsd(54_399_000));
    assert_eq!(of(UsageRange::Month(Month(month))).unwrap().total.requests, 1);
    let err = of(UsageRange::Instants { from: UnixMs(NOON.at), to: UnixMs(NOON.at + 1) }).unwrap_err();
    assert_eq!(err.to_string(), "from: reaches into 2024-10, whose detail is archived; give whole days");
    let later = NOON.at + 40 * DAY_MS;
    assert!(of(UsageRange::Instants { from: UnixMs(later), to: UnixMs(later + 1) }).is_ok());
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
        scene.store.usage_csv(&query(Some("nobody"), ""), CsvColumns::Cost, &mut Vec::new()),
        Err(StoreError::NotFound("tenant"))
    ));
    assert!("users".parse::<UsageKey>().is_err());
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
            Attempt { request: 2, estimated: true, ..NOON },
            Attempt { tenant: 2, cost_nanos: 1, ..NOON },
            Attempt { day: DAY + 1, ..NOON },
        ],
    );
    let records = csv(&scene, &query(None, ""));
    let columns = "period_start,period_end,tenant,tenant_name,model,upstream,token,requests,input_tokens,cache_read_tokens,cache_write_tokens,\
        output_tokens,reasoning_tokens,tool_calls,sandbox_seconds,storage_byte_days,rate_card,estimated_rows,cost_usd";
    assert_eq!(records[0].join(","), columns);
    let first =
        format!("2024-09-24,2024-10-14,acme,acme,gpt-4o,openai,{},3,195,6,36,432,96,768,0,0,1,1,0.163197000", token.id);
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

/// The steps by which a report is made.
fn plan(scene: &Scene, query: &UsageQuery) -> Vec<String> {
    let conn = scene.sql();
    let source = Source::of(&conn, query.tenant.as_ref(), query.range).unwrap();
    let by = query.group_by.iter().map(|key| Dimension::from(*key)).collect();
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", group::query(&source, &by))).unwrap();
    let steps = statement.query_map(source.params().as_slice(), |row| row.get(3)).unwrap();
    steps.map(std::result::Result::unwrap).collect()
}

#[test]
fn reports_find_their_rows_by_index() {
    let scene = Scene::new();
    scene.tenant("acme");
    write(&scene, &[NOON]);
    for (of, step) in [
        (query(Some("acme"), "day,model"), "SEARCH u USING PRIMARY KEY (month=? AND tenant=? AND day>? AND day<?)"),
        (query(Some("acme"), "user,tag"), "SEARCH u USING PRIMARY KEY (month=? AND tenant=? AND day>? AND day<?)"),
        (query(None, "model"), "SEARCH u USING PRIMARY KEY (month=?)"),
    ] {
        let plan = plan(&scene, &of);
        assert!(plan.iter().any(|found| found == step), "{plan:?}");
    }
    for tenant in [Some("acme"), None] {
        let range = UsageRange::Instants { from: UnixMs(0), to: UnixMs(1) };
        let plan = plan(&scene, &UsageQuery { range, ..query(tenant, "day") });
        let step = "SEARCH b USING PRIMARY KEY (tenant=? AND admitted_at_ms>? AND admitted_at_ms<?)";
        assert!(plan.iter().any(|found| found == step), "{plan:?}");
    }
}

#[test]
fn users_and_tags_have_rows_and_the_total_counts_each_request_once() {
    let scene = Scene::new();
    scene.tenant("acme");
    let (ann, tagged) = (label(&scene, "ann", &[]), label(&scene, "ann", &["a", "b"]));
    write(
        &scene,
        &[
            Attempt { label: ann, cost_nanos: 1, ..NOON },
            Attempt { request: 2, label: tagged, cost_nanos: 10, ..NOON },
            Attempt { request: 3, cost_nanos: 100, ..NOON },
        ],
    );
    for range in [days(DAY, DAY + 1), UsageRange::Instants { from: UnixMs(NOON.at), to: UnixMs(NOON.at + 1) }] {
        let report = |keys| scene.store.usage(&UsageQuery { range, ..query(Some("acme"), keys) }).unwrap();
        let users = report("user");
        let by_user: Vec<_> = users
            .rows
            .iter()
            .map(|row| (row.user.as_deref().unwrap(), row.sums.requests, row.sums.cost_usd.0))
            .collect();
        assert_eq!(by_user, [("", 1, 100), ("ann", 2, 11)]);
        let tags = report("tag");
        let by_tag: Vec<_> =
            tags.rows.iter().map(|row| (row.tag.as_deref().unwrap(), row.sums.requests, row.sums.cost_usd.0)).collect();
        assert_eq!(by_tag, [("", 2, 101), ("a", 1, 10), ("b", 1, 10)]);
        assert_eq!([users.total, tags.total].map(|total| (total.requests, total.cost_usd.0)), [(3, 111); 2]);
    }
    let lines = csv(&scene, &query(Some("acme"), "user,tag"));
    assert_eq!(lines[0][19..], ["user", "tag"]);
    let cells: Vec<&[String]> = lines[1..].iter().map(|line| &line[18..]).collect();
    assert_eq!(
        cells,
        [["0.000000100", "", ""], ["0.000000001", "ann", ""], ["0.000000010", "ann", "a"], ["0.000000010", "ann", "b"]]
    );
}

#[test]
fn a_request_that_fell_back_is_in_each_row_of_a_model_and_once_in_the_total() {
    let scene = Scene::new();
    scene.tenant("acme");
    write(&scene, &[NOON, Attempt { attempt: 1, model: 2, ..NOON }]);
    let requests = |keys| {
        let report = scene.store.usage(&query(Some("acme"), keys)).unwrap();
        (report.rows.iter().map(|row| row.sums.requests).collect::<Vec<_>>(), report.total.requests)
    };
    assert_eq!([requests("model"), requests("day"), requests("user")], [(vec![1, 1], 1), (vec![1], 1), (vec![1], 1)]);
}

#[test]
fn a_markup_stands_beside_the_cost_and_the_stable_columns_know_nothing_of_it() {
    let scene = Scene::new();
    scene.tenant("acme");
    write(
        &scene,
        &[
            Attempt { markup: 175_000, ..NOON },
            Attempt { model: 0, cost_nanos: -1_000_000, outcome: Outcome::Credit, ..NOON },
        ],
    );
    let total = scene.store.usage(&query(Some("acme"), "")).unwrap().total;
    assert_eq!(
        (total.requests, total.cost_usd, total.markup_usd, total.billed_usd),
        (1, NanoUsd(53_399_000), NanoUsd(9_519_825), NanoUsd(62_918_825))
    );
    assert_eq!(csv(&scene, &query(Some("acme"), ""))[0].len(), 19);
    let mut text = Vec::new();
    scene.store.usage_csv(&query(Some("acme"), ""), CsvColumns::CostAndMarkup, &mut text).unwrap();
    let lines = records(&text);
    assert_eq!(lines[0][18..], ["cost_usd", "markup_usd", "billed_usd"]);
    assert_eq!(
        (lines[1][4].as_str(), &lines[1][18..]),
        ("credit", &["-0.001000000".to_owned(), "0.000000000".to_owned(), "-0.001000000".to_owned()][..])
    );
    assert_eq!(lines[2][18..], ["0.054399000", "0.009519825", "0.063918825"]);
}

#[test]
fn m_10_focus_bills_the_same_total_to_the_nano() {
    let scene = Scene::new();
    scene.tenant("acme");
    let tagged = label(&scene, "=ann", &["team=a", "team=b", "\"b\""]);
    write(
        &scene,
        &[
            Attempt { markup: 175_000, label: tagged, ..NOON },
            Attempt { request: 2, model: 2, day: DAY + 1, ..NOON },
            Attempt { model: 0, cost_nanos: -7, outcome: Outcome::Credit, ..NOON },
        ],
    );
    let mut text = Vec::new();
    scene.store.usage_focus(&query(None, ""), &mut text).unwrap();
    let lines = records(&text);
    let column = |name: &str| lines[0].iter().position(|heading| heading == name).unwrap();
    let cell = |line: usize, name: &str| lines[line][column(name)].as_str();
    let names: Vec<&String> = lines[0].iter().filter(|name| !name.starts_with("x_")).collect();
    assert!(names.is_sorted(), "{names:?}");
    let billed: NanoUsd = lines[1..].iter().map(|line| line[column("BilledCost")].parse::<NanoUsd>().unwrap()).sum();
    assert_eq!(billed, scene.store.usage(&query(None, "")).unwrap().total.billed_usd);
    assert_eq!(lines.len(), 4);
    assert_eq!(
        ["ChargeCategory", "ConsumedQuantity", "SkuId", "ChargeFrequency"].map(|name| cell(1, name)),
        ["Credit", "", "", "One-Time"]
    );
    assert_eq!(
        ["ChargeCategory", "ConsumedQuantity", "SkuId", "SubAccountType", "PublisherName"].map(|name| cell(2, name)),
        ["Usage", "255", "openai/gpt-4o", "Token", "openai"]
    );
    assert_eq!(cell(2, "Tags"), r#"{"openclawmu/user":"=ann","\"b\"":true,"team":"a","team=b":true}"#);
    assert_eq!(
        ["ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd"].map(|name| cell(2, name)),
        ["2024-10-04T00:00:00Z", "2024-10-05T00:00:00Z", "2024-10-01T00:00:00Z", "2024-11-01T00:00:00Z"]
    );
    assert_eq!((cell(3, "ResourceName"), cell(3, "ChargeDescription")), ("'=cmd()", "'=cmd() at openai"));
}
