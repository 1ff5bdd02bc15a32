//! What holds for rate cards.

use super::*;
use crate::money::NanoUsd;
use crate::scene::{Scene, operator};

const HOUR: i64 = 60 * 60 * 1000;

/// Models by name, each with its input price in whole USD per million tokens; 0 withdraws.
fn prices(models: &[(&str, i64)]) -> ModelPrices {
    let price = |usd: i64| (usd != 0).then(|| ModelPrice::flat(NanoUsd(usd * 1_000_000_000), NanoUsd(0)));
    models.iter().map(|(name, usd)| ((*name).to_owned(), price(*usd))).collect()
}

fn card(version: u32, effective_from: i64, models: &[(&str, i64)]) -> RateCard {
    RateCard {
        version,
        effective_from: UnixMs(effective_from),
        created_at: UnixMs(0),
        source: RateSource::Operator,
        models: prices(models),
    }
}

/// USD per million tokens and the version.
fn seen(price: Option<PinnedPrice>) -> Option<(i64, u32)> {
    price.map(|pinned| (pinned.price.base.input.unwrap().0 / 1_000_000_000, pinned.card))
}

#[test]
fn an_exact_name_goes_before_the_longest_pattern() {
    let table = RateTable::new(vec![card(1, 0, &[("gpt-4o", 1), ("gpt-*", 2), ("gpt-4*", 3), ("*", 4)])], UnixMs(0));
    for (model, usd) in
        [("gpt-4o", 1), ("gpt-4o-mini", 3), ("gpt-4", 3), ("gpt-3", 2), ("gpt-", 2), ("gpt", 4), ("é", 4), ("", 4)]
    {
        assert_eq!(seen(table.price(model)), Some((usd, 1)), "{model}");
    }
    let names: Vec<&str> = table.models().map(|(name, _)| name).collect();
    assert_eq!(names, ["*", "gpt-*", "gpt-4*", "gpt-4o"]);
}

#[test]
fn the_newest_version_that_lists_a_name_prices_it() {
    let cards = vec![
        card(1, 0, &[("a", 1), ("b", 1), ("c*", 1)]),
        card(2, 10, &[("a", 2)]),
        card(3, 10, &[("a", 3), ("c*", 3)]),
    ];
    let table = RateTable::new(cards.clone(), UnixMs(10));
    assert_eq!(["a", "b", "c1"].map(|model| seen(table.price(model))), [Some((3, 3)), Some((1, 1)), Some((3, 3))]);
    let table = RateTable::new(cards, UnixMs(9));
    assert_eq!(["a", "b", "c1"].map(|model| seen(table.price(model))), [Some((1, 1)), Some((1, 1)), Some((1, 1))]);
}

#[test]
fn a_scheduled_version_goes_before_one_that_was_added_later_for_now() {
    let cards = vec![card(1, 0, &[("a", 1)]), card(2, 100, &[("a", 2)]), card(3, 50, &[("a", 3)])];
    let at = |now| seen(RateTable::new(cards.clone(), UnixMs(now)).price("a"));
    assert_eq!([0, 49, 50, 99, 100].map(at), [Some((1, 1)), Some((1, 1)), Some((3, 3)), Some((3, 3)), Some((2, 2))]);
}

#[test]
fn a_withdrawn_name_is_not_rescued_by_a_wider_pattern() {
    let table = RateTable::new(
        vec![card(1, 0, &[("gpt-*", 1), ("gpt-4o", 2), ("gpt-5*", 3)]), card(2, 1, &[("gpt-4o", 0), ("gpt-5*", 0)])],
        UnixMs(1),
    );
    assert_eq!(
        ["gpt-4o", "gpt-5-mini", "gpt-4o-mini"].map(|model| seen(table.price(model))),
        [None, None, Some((1, 1))]
    );
    assert_eq!(table.models().map(|(name, _)| name).collect::<Vec<_>>(), ["gpt-*"]);
    let back = RateTable::new(vec![card(1, 0, &[("a", 0)]), card(2, 1, &[("a", 5)])], UnixMs(1));
    assert_eq!(seen(back.price("a")), Some((5, 2)));
}

#[tokio::test]
async fn a_new_version_counts_at_once_and_a_scheduled_one_at_its_moment() {
    let scene = Scene::new();
    let store = &scene.store;
    assert_eq!(seen(store.rates().price("a")), None);
    let first = store.put_rates(&operator(), Some(scene.now().plus_ms(-HOUR)), prices(&[("a", 1)])).await.unwrap();
    assert_eq!((first.version, first.effective_from), (1, scene.now()), "the past takes effect now");
    assert_eq!(seen(store.rates().price("a")), Some((1, 1)));
    let due = scene.now().plus_ms(HOUR);
    store.put_rates(&operator(), Some(due), prices(&[("a", 2)])).await.unwrap();
    assert_eq!(seen(store.rates().price("a")), Some((1, 1)));
    assert_eq!(seen(store.rate_price_at("a", due).unwrap()), Some((2, 2)));
    scene.move_ms(HOUR - 1);
    assert_eq!(seen(store.rates().price("a")), Some((1, 1)));
    scene.move_ms(1);
    assert_eq!(seen(store.rates().price("a")), Some((2, 2)));
    assert_eq!(seen(store.rate_price_at("a", due.plus_ms(-1)).unwrap()), Some((1, 1)));
    assert_eq!(
        scene.audit().iter().map(|row| (row.0.as_str(), row.2.as_deref())).collect::<Vec<_>>(),
        [("rates.put", Some("1")), ("rates.put", Some("2"))]
    );
}

#[test]
fn one_table_serves_until_somebody_may_have_added_a_version() {
    let scene = Scene::new();
    scene.store.put_rates(&operator(), None, prices(&[("a", 1)])).wait().unwrap();
    let table = scene.store.rates();
    scene.move_ms(999);
    assert!(Arc::ptr_eq(&table, &scene.store.rates()));
    // Another process of a split set-up writes by SQLite's own locking.
    let other = crate::sqlite::open::writable(&scene.dir.path().join("openclawmu.db")).unwrap();
    let models = serde_json::to_string(&prices(&[("a", 9)])).unwrap();
    let sql = "INSERT INTO rate_cards (effective_from_ms, created_at_ms, models) VALUES (?1, ?1, ?2)";
    other.execute(sql, params![scene.now().0, models]).unwrap();
    assert_eq!(seen(scene.store.rates().price("a")), Some((1, 1)));
    scene.move_ms(1);
    assert_eq!(seen(scene.store.rates().price("a")), Some((9, 2)));
}

#[test]
fn a_row_keeps_the_price_that_it_was_admitted_with() {
    let scene = Scene::new();
    let put = |models: &[(&str, i64)]| scene.store.put_rates(&operator(), None, prices(models)).wait().unwrap().version;
    let first = put(&[("gpt-*", 1), ("gpt-4*", 2), ("gpt-4o", 3)]);
    let second = put(&[("gpt-4o", 0), ("gpt-4*", 5)]);
    let usd = |card, model: &str| {
        scene.store.priced_row(card, model).unwrap().map(|price| price.base.input.unwrap().0 / 1_000_000_000)
    };
    assert_eq!([usd(first, "gpt-4o"), usd(first, "gpt-4-x"), usd(first, "gpt-3")], [Some(3), Some(2), Some(1)]);
    assert_eq!(
        [usd(second, "gpt-4o"), usd(second, "gpt-4-x"), usd(second, "gpt-3"), usd(99, "gpt-4o")],
        [None, Some(5), None, None]
    );
}

#[test]
fn the_first_rates_are_imported_once() {
    let scene = Scene::new();
    let import = |usd| scene.store.import_first_rates(&Actor::system(), prices(&[("a", usd)])).wait().unwrap();
    assert_eq!(import(1).map(|card| card.version), Some(1));
    assert_eq!(import(2), None);
    assert_eq!(seen(scene.store.rates().price("a")), Some((1, 1)));
    let scene = scene.restarted().unwrap();
    assert_eq!(seen(scene.store.rates().price("a")), Some((1, 1)));
}

#[test]
fn a_card_reads_back_as_it_was_written_and_pages_by_version() {
    let scene = Scene::new();
    let shipped: NewRateCard = serde_json::from_str(include_str!("../../../../conf/rates.json")).unwrap();
    let mut models = shipped.models;
    assert!(models.len() > 10);
    models.insert("gone".to_owned(), None);
    let first = scene.store.put_rates(&operator(), None, models).wait().unwrap();
    let second = scene.store.put_rates(&operator(), None, prices(&[("a", 1)])).wait().unwrap();
    assert_eq!(scene.store.rate_cards(None, 1).unwrap(), std::slice::from_ref(&first));
    assert_eq!(scene.store.rate_cards(Some(1), 9).unwrap(), [second]);
    let json = serde_json::to_value(&first).unwrap();
    assert_eq!(
        (&json["effective_from"], &json["models"]["gone"]),
        (&json!("2026-11-22T12:00:00.000Z"), &serde_json::Value::Null)
    );
    assert_eq!(serde_json::from_value::<RateCard>(json).unwrap(), first);
}

#[test]
fn bad_cards_are_refused_and_leave_nothing() {
    let scene = Scene::new();
    let many: Vec<String> = (0..=MAX_MODELS).map(|n| n.to_string()).collect();
    let many: Vec<(&str, i64)> = many.iter().map(|name| (name.as_str(), 1)).collect();
    for (models, at_fault) in [
        (prices(&many), "models"),
        (prices(&[]), "models"),
        (prices(&[("a*b", 1)]), "models"),
        (prices(&[("", 1)]), "models"),
        (prices(&[("x".repeat(201).as_str(), 1)]), "models"),
        (prices(&[("neg", -1)]), "models.neg"),
    ] {
        match scene.store.put_rates(&operator(), None, models).wait() {
            Err(StoreError::Invalid { field, .. }) => assert_eq!(field, at_fault),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(scene.store.rate_cards(None, 9).unwrap(), []);
    assert!(serde_json::from_str::<NewRateCard>(r#"{"models":{"a":{"input":"1","inptu":"2"}}}"#).is_err());
}

#[test]
fn the_price_at_an_upstream_wins_over_the_models_own() {
    let scene = Scene::new();
    let models = serde_json::from_str(
        r#"{"gpt-4o":{"input":"2"},"internal/gpt-4o":{"input":"0"},"internal/llama-*":{"input":"1"},"*":{"input":"9"}}"#,
    );
    scene.store.put_rates(&operator(), None, models.unwrap()).wait().unwrap();
    let rates = scene.store.rates();
    let input = |upstream, model| rates.price_at(upstream, model).unwrap().price.base.input.unwrap().to_short_string();
    assert_eq!(input("openai", "gpt-4o"), "2");
    assert_eq!(input("internal", "gpt-4o"), "0");
    assert_eq!(input("internal", "llama-3"), "1");
    assert_eq!(input("openai", "llama-3"), "9");
    assert_eq!(input("int", "ernal/gpt-4o"), "9");
}

#[test]
fn a_name_withdrawn_at_one_upstream_has_no_price_there() {
    let table = RateTable::new(vec![card(1, 0, &[("gpt-4o", 1), ("azure/gpt-4o", 0)])], UnixMs(0));
    assert_eq!(seen(table.price_at("azure", "gpt-4o")), None);
    assert_eq!(seen(table.price_at("openai", "gpt-4o")), Some((1, 1)));
}

fn import(models: &[(&str, i64)], overrides: Overrides) -> RateImport {
    RateImport { effective_from: None, models: prices(models), overrides }
}

#[test]
fn an_import_leaves_an_operators_own_prices_and_withdrawals_as_they_are() {
    let scene = Scene::new();
    let store = &scene.store;
    store.import_first_rates(&Actor::system(), prices(&[("a", 1), ("b", 1), ("c", 1)])).wait().unwrap();
    store.put_rates(&operator(), None, prices(&[("b", 7), ("gone", 0), ("x-*", 7), ("*", 9)])).wait().unwrap();
    let wanted = [("a", 2), ("b", 2), ("c", 1), ("d", 2), ("gone", 2), ("x-1", 2), ("up/b", 2), ("up/d", 2)];
    let dry = store.rate_difference(&import(&wanted, Overrides::Keep)).unwrap();
    assert_eq!(store.rate_cards(None, 9).unwrap().len(), 2, "a dry run changes nothing");
    let (done, card) = store.import_rates(&operator(), import(&wanted, Overrides::Keep)).wait().unwrap();
    assert_eq!(done, dry);
    let names = |map: &BTreeMap<String, ModelPrice>| map.keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&done.added), done.unchanged), (vec!["d".to_owned(), "up/d".to_owned()], 1));
    assert_eq!(done.changed.keys().collect::<Vec<_>>(), ["a"]);
    let kept: Vec<(&str, &str)> = done.kept.iter().map(|(name, by)| (name.as_str(), by.as_str())).collect();
    assert_eq!(kept, [("b", "b"), ("gone", "gone"), ("up/b", "b"), ("x-1", "x-*")]);
    let card = card.unwrap();
    assert_eq!((card.version, card.source, card.models.len()), (3, RateSource::Import, 3));
    let rates = store.rates();
    assert_eq!(["a", "b", "x-1", "d"].map(|name| seen(rates.price(name)).unwrap().0), [2, 7, 7, 2]);
    assert_eq!((seen(rates.price("gone")), rates.price("b").unwrap().source), (None, RateSource::Operator));

    let (_, again) = store.import_rates(&operator(), import(&wanted, Overrides::Keep)).wait().unwrap();
    assert_eq!(again, None, "what changes nothing adds no version");
    let (replaced, _) = store.import_rates(&operator(), import(&wanted, Overrides::Replace)).wait().unwrap();
    assert!(replaced.kept.is_empty());
    assert_eq!(["b", "gone", "x-1"].map(|name| seen(store.rates().price(name)).unwrap().0), [2, 2, 2]);
    assert_eq!(
        scene.audit().iter().map(|row| row.0.clone()).collect::<Vec<_>>(),
        ["rates.import", "rates.put", "rates.import", "rates.import"]
    );
}

#[test]
fn an_import_never_withdraws_by_absence_and_keeps_what_price_lists_do_not_state() {
    let scene = Scene::new();
    let known =
        r#"{"gpt-4o":{"input":"2","tokenizer":"o200k_base","image_tokens":1105},"b":{"input":"1"},"c":{"input":"1"}}"#;
    scene.store.import_first_rates(&Actor::system(), serde_json::from_str(known).unwrap()).wait().unwrap();
    let mut models = prices(&[("c", 0)]);
    models.insert("gpt-4o".to_owned(), serde_json::from_str(r#"{"input":"3"}"#).unwrap());
    models.insert("azure/gpt-4o".to_owned(), serde_json::from_str(r#"{"input":"4"}"#).unwrap());
    let import = RateImport { effective_from: None, models, overrides: Overrides::Keep };
    let (done, _) = scene.store.import_rates(&operator(), import).wait().unwrap();
    assert_eq!((done.withdrawn.as_slice(), done.unchanged), (&["c".to_owned()][..], 0));
    let rates = scene.store.rates();
    for name in ["gpt-4o", "azure/gpt-4o"] {
        let price = rates.price(name).unwrap().price;
        assert_eq!((price.tokenizer, price.image_tokens), (Some(crate::Tokenizer::O200kBase), Some(1105)), "{name}");
    }
    assert_eq!((seen(rates.price("b")).unwrap().0, seen(rates.price("c"))), (1, None));
}
