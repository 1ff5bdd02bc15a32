//! The request log: every row, as it was written, by pages and by filters.

use serde_json::json;

use super::world::{World, end, usage};
use crate::clock::UnixMs;
use crate::error::StoreError;
use crate::id::{RequestId, TenantId};
use crate::label::Label;
use crate::ledger::{Demand, Outcome, RequestCursor, RequestQuery, RequestRow};
use crate::money::Markup;
use crate::quota::Quota;

fn of() -> RequestQuery {
    RequestQuery::of("t1".parse::<TenantId>().unwrap())
}

fn read(world: &World, query: &RequestQuery) -> Vec<RequestRow> {
    let mut rows = Vec::new();
    let each = &mut |row| {
        rows.push(row);
        Ok(())
    };
    world.store.requests(query, each).unwrap();
    rows
}

fn numbers(rows: &[RequestRow]) -> Vec<u128> {
    rows.iter().map(|row| row.request_id.parse::<RequestId>().unwrap().0).collect()
}

/// Seven attempts: request `n` of model `m{n % 2}`, the sixth a second attempt of the fifth, all but the first two in one
/// millisecond.
async fn seven() -> World {
    let world = World::new(Quota::default());
    let mut label = Label::default();
    label.set_user("=ann");
    label.add_tag("b");
    label.add_tag("a");
    let label = world.store.label_key(world.tenant, &label);
    let upstream = world.store.name_key("=openai").await.unwrap();
    for n in 1..=7_u128 {
        let request_id = RequestId(if n == 6 { 5 } else { n });
        let demand = Demand {
            request_id,
            attempt: u16::from(n == 6),
            model: world.store.name_key(&format!("m{}", n % 2)).await.unwrap(),
            upstream,
            label: if n == 3 { label } else { crate::LabelKey::default() },
            markup: Markup::from_ppm(100_000),
            ..world.demand()
        };
        let outcome = if n == 7 { Outcome::Void } else { Outcome::Complete };
        world.store.admit(&demand).unwrap().settle(end(outcome, usage(10, 5)));
        if n <= 2 {
            world.clock.set(crate::Clock::now(world.clock.as_ref()).plus_ms(1));
        }
    }
    world.store.flush().await.unwrap();
    world
}

#[tokio::test]
async fn pages_have_every_row_once_newest_first() {
    let world = seven().await;
    let all = read(&world, &of());
    assert_eq!(numbers(&all), [7, 5, 5, 4, 3, 2, 1]);
    let mut paged: Vec<RequestRow> = Vec::new();
    loop {
        let after = paged.last().map(RequestRow::cursor);
        let page = read(&world, &RequestQuery { after, limit: Some(2), ..of() });
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let cursor = all[3].cursor();
    assert_eq!(cursor.to_string().parse::<RequestCursor>().unwrap(), cursor);
    for bad in ["", "x", &cursor.to_string()[1..], &cursor.to_string().replace('0', "+")] {
        assert!(matches!(bad.parse::<RequestCursor>(), Err(StoreError::Invalid { .. })), "{bad}");
    }
}

#[tokio::test]
async fn each_filter_finds_its_rows() {
    let world = seven().await;
    let text = |text: &str| Some(text.to_owned());
    let at = |ms: i64| Some(UnixMs::parse_rfc3339(super::world::NOON).unwrap().plus_ms(ms));
    for (query, found) in [
        (RequestQuery { model: text("m0"), ..of() }, vec![5, 4, 2]),
        (RequestQuery { model: text("nothing"), ..of() }, vec![]),
        (RequestQuery { upstream: text("=openai"), outcome: Some(Outcome::Void), ..of() }, vec![7]),
        (RequestQuery { user: text("=ann"), ..of() }, vec![3]),
        (RequestQuery { tag: text("a"), ..of() }, vec![3]),
        (RequestQuery { tag: text("c"), ..of() }, vec![]),
        (RequestQuery { status: Some(404), ..of() }, vec![]),
        (RequestQuery { token: text("nobody's"), ..of() }, vec![]),
        (RequestQuery { request_id: Some(RequestId(5)), ..of() }, vec![5, 5]),
        (RequestQuery { to: at(2), ..of() }, vec![2, 1]),
        (RequestQuery { from: at(1), to: at(2), ..of() }, vec![2]),
    ] {
        assert_eq!(numbers(&read(&world, &query)), found, "{query:?}");
    }
}

#[tokio::test]
async fn m_12_a_log_that_is_exported_again_is_the_same_and_names_the_same_events() {
    let world = seven().await;
    let export = |world: &World| {
        let mut text = Vec::new();
        world.store.requests_csv(&of(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let first = export(&world);
    let ids: std::collections::BTreeSet<_> = first.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(ids.len(), 7, "{first}");
    assert!(ids.iter().all(|id| id.starts_with("evt_") && id.len() == 20), "{ids:?}");
    assert!(first.contains(",'=openai,") && first.contains(",'=ann,\"a,b\","), "{first}");
    let world = world.reopen();
    assert_eq!(export(&world), first);
}

#[tokio::test]
async fn a_row_says_what_was_used_and_never_what_was_said() {
    let world = seven().await;
    let row = read(&world, &RequestQuery { tag: Some("b".to_owned()), ..of() }).remove(0);
    let mut shown = serde_json::to_value(&row).unwrap();
    let fields = shown.as_object_mut().unwrap();
    fields.retain(|_, value| *value != json!(0) && *value != json!(""));
    assert_eq!(
        shown,
        json!({"id": row.id, "request_id": RequestId(3), "at": "2026-11-18T12:00:00.002Z", "model": "m1", "upstream": "=openai",
            "user": "=ann", "tags": ["a", "b"], "stream": true, "service_tier": "standard", "outcome": "complete", "http_status": 200,
            "estimated": false, "input_tokens": 10, "output_tokens": 5, "cost_usd": "0.000020000", "markup_usd": "0.000002000",
            "reserved_usd": "0.000200000", "held_usd": "0.000000000", "first_byte_ms": 1, "rate_card": 1})
    );
}

#[tokio::test]
async fn the_log_is_read_by_the_tenants_index_in_its_order() {
    let world = seven().await;
    let conn = rusqlite::Connection::open(world.dir.path().join("openclawmu.db")).unwrap();
    let all = RequestQuery {
        from: Some(UnixMs(0)),
        model: Some("m1".to_owned()),
        after: Some(read(&world, &of())[0].cursor()),
        limit: Some(10),
        ..of()
    };
    for query in [of(), all] {
        let plan = crate::ledger::request::plan(&conn, &query);
        assert!(plan.iter().any(|step| step.starts_with("SEARCH b USING PRIMARY KEY (tenant=?")), "{plan:?}");
        assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE FOR ORDER BY")), "{plan:?}");
    }
}
