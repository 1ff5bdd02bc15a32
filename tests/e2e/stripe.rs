//! Usage to Stripe: what its meters have heard is what the ledger billed, to the nano, whatever goes wrong in between.

use std::collections::BTreeSet;

use openclawmu_tests::cli::CliOutput;
use openclawmu_tests::client::chat;
use openclawmu_tests::clock::FakeClock;
use openclawmu_tests::dice::Dice;
use openclawmu_tests::ledger;
use openclawmu_tests::stripe::{STRIPE_KEY, Stripe, Trouble};
use openclawmu_tests::wait::{until, until_true};
use openclawmu_tests::{Behaviour, Client, Gate, Gateway, Setup, Upstream, times};
use serde_json::{Value, json};
use tempfile::TempDir;

const DAY: i64 = 86_400;
/// 2026-11-18T12:00:00Z.
const NOON: i64 = 1_795_003_200;
const METERS: &str = "[[stripe.meter]]\nevent_name = \"ai_cost\"\nvalue = \"billed_nano_usd\"\n[[stripe.meter]]\nevent_name = \"ai_output\"\nvalue = \"output_tokens\"\n";

/// A gateway that pushes to a scripted Stripe, under a clock that the test turns.
struct World {
    gateway: Gateway,
    _upstream: Upstream,
    stripe: Stripe,
    clock: FakeClock,
    _dir: TempDir,
}

impl World {
    async fn new(keys: &str) -> Self {
        let dir = TempDir::new().expect("a temp dir");
        let clock = FakeClock::new(dir.path());
        let (upstream, stripe) = (Upstream::start().await, Stripe::start().await);
        upstream.always(Behaviour::words(10));
        let mut setup = Setup::with(&upstream).clock(&clock).line(&format!(
            "[stripe]\nbase_url = \"{}\"\napi_key = \"env:STRIPE_API_KEY\"\n{keys}\n{METERS}",
            stripe.base_url()
        ));
        setup.env.push(("STRIPE_API_KEY".into(), STRIPE_KEY.into()));
        // Before the start: the first prices are in effect from then on.
        turn(&clock, &stripe, NOON);
        Self { gateway: Gateway::start(setup).await, _upstream: upstream, stripe, clock, _dir: dir }
    }

    fn set(&self, at: i64) {
        turn(&self.clock, &self.stripe, at);
    }

    /// A tenant, its customer at Stripe if it has one, and a client of it.
    async fn tenant(&self, id: &str, customer: Option<&str>) -> Client {
        let metadata = customer.map_or_else(|| json!({}), |customer| json!({ "stripe_customer_id": customer }));
        let body = json!({ "id": id, "metadata": metadata, "markup_percent": "17.5" });
        let tenant = self.gateway.admin().tenant_of(body).await;
        self.gateway.client(&tenant.token)
    }

    async fn push(&self, flags: &[&str]) -> CliOutput {
        let mut arguments = vec!["billing", "push", "stripe"];
        arguments.extend(flags);
        self.gateway.cli(&arguments).await
    }

    async fn push_json(&self, flags: &[&str]) -> (bool, Value) {
        let flags: Vec<&str> = flags.iter().copied().chain(["--json"]).collect();
        let said = self.push(&flags).await;
        let report =
            serde_json::from_str(&said.stdout).unwrap_or_else(|err| panic!("{err}: {} {}", said.stdout, said.stderr));
        (said.status.success(), report)
    }

    /// What the ledger billed a tenant: cost and markup, and output tokens, once `rows` requests have their row.
    async fn billed(&self, tenant: &str, rows: i64) -> (i128, i128) {
        let read = || {
            let sql = "SELECT count(*), coalesce(sum(cost_nanos + markup_nanos), 0), coalesce(sum(output_tokens), 0)
                       FROM ledger WHERE tenant = (SELECT row_id FROM tenants WHERE id = ?1)";
            ledger::open(&self.gateway.data())
                .query_row(sql, [tenant], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
                })
                .expect("the ledger")
        };
        let (_, money, tokens) =
            until("the rows", || async { Some(read()).filter(|(count, ..)| *count >= rows) }).await;
        (money.into(), tokens.into())
    }

    fn heard(&self, customer: &str) -> (i128, i128) {
        (self.stripe.sum(customer, "ai_cost"), self.stripe.sum(customer, "ai_output"))
    }
}

/// Turns everybody's clock to `at` (UNIX seconds).
fn turn(clock: &FakeClock, stripe: &Stripe, at: i64) {
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let shift = at - i64::try_from(real).expect("small");
    clock.shift(shift);
    stripe.shift(shift);
}

async fn spend(client: &Client, requests: usize) {
    for _ in 0..requests {
        assert_eq!(client.chat(&chat("odd", "hi there", 10)).await.status, 200);
    }
}

/// ledger.md: a push to Stripe never bills twice; M-12
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_what_was_billed_and_a_second_push_tells_only_what_is_new() {
    let world = World::new("").await;
    let (acme, other) = (world.tenant("acme", Some("cus_acme")).await, world.tenant("other", None).await);
    spend(&acme, 3).await;
    spend(&other, 1).await;
    world.billed("other", 1).await;
    let first = world.billed("acme", 3).await;
    assert!(first.0 > 0 && first.1 == 30);
    let (complete, planned) = world.push_json(&["--dry-run", "--include-today"]).await;
    assert!(complete && planned["planned"]["count"] == 2 && world.stripe.calls() == 0, "{planned}");
    let (complete, report) = world.push_json(&[]).await;
    assert!(complete && report["sent"] == 0, "the day is not over: {report}");
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(complete, "{report}");
    assert_eq!((&report["sent"], &report["pending"]), (&json!(2), &json!(0)));
    assert_eq!(report["skipped"], json!({ "count": 1, "items": ["other"] }));
    assert_eq!(world.heard("cus_acme"), first);
    let taken = world.stripe.taken();
    assert_eq!(taken[0].identifier, "acme:2026-11-18:ai_cost:1");
    assert!((NOON..NOON + 600).contains(&taken[0].timestamp), "within the day and not ahead: {taken:?}");
    spend(&acme, 2).await;
    let second = world.billed("acme", 5).await;
    world.set(NOON + DAY);
    assert!(world.push(&[]).await.ok().contains("2 events sent"));
    assert_eq!(world.heard("cus_acme"), second);
    let last = world.stripe.taken().pop().expect("an event");
    assert!(last.identifier.ends_with(":2") && last.timestamp < NOON + DAY / 2, "a delta at its day's end: {last:?}");
    assert!(world.push(&[]).await.ok().contains("0 events sent"));
    assert_eq!((world.stripe.taken().len(), world.stripe.duplicates(), world.stripe.crowded()), (4, 0, 0));
    let log = world.gateway.stderr() + &ledger::dump(&world.gateway.data(), &[]);
    assert!(!log.contains(STRIPE_KEY), "the key is in no log and no table");
}

/// 429, errors, and connections that end before and after Stripe took the event
#[tokio::test(flavor = "multi_thread")]
async fn random_trouble_changes_nothing_of_what_stripe_hears() {
    let seed = 7;
    let world = World::new("").await;
    let mut owed = Vec::new();
    let tenants: Vec<String> = (0..times(8, 30)).map(|number| format!("t{number}")).collect();
    for tenant in &tenants {
        let client = world.tenant(tenant, Some(&format!("cus_{tenant}"))).await;
        spend(&client, 1 + owed.len() % 3).await;
        owed.push(world.billed(tenant, i64::try_from(1 + owed.len() % 3).expect("small")).await);
    }
    world.stripe.random_trouble(Some((Dice::new(seed), 3)));
    for push in 0..50 {
        let (complete, report) = world.push_json(&["--include-today"]).await;
        if complete {
            break;
        }
        assert!(push < 49, "seed {seed}: {report}");
    }
    for (tenant, owed) in tenants.iter().zip(owed) {
        assert_eq!(world.heard(&format!("cus_{tenant}")), owed, "{tenant}, seed {seed}");
    }
    let identifiers: BTreeSet<String> = world.stripe.taken().into_iter().map(|event| event.identifier).collect();
    assert_eq!((identifiers.len(), world.stripe.crowded()), (tenants.len() * 2, 0), "seed {seed}");
}

/// Never twice over kills: Stripe's answers under idempotency keys are forgotten between, so only identifiers protect
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_a_push_the_next_one_goes_on_and_tells_nothing_twice() {
    let mut world = World::new("").await;
    let tenants: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    for tenant in &tenants {
        let client = world.tenant(tenant, Some(&format!("cus_{tenant}"))).await;
        spend(&client, 1).await;
        world.billed(tenant, 1).await;
    }
    for _ in 0..times(5, 20) {
        let (before, calls) = (Gate::new(), world.stripe.calls());
        // One call is held after Stripe took it: the kill comes between the taking and the note of it.
        world.stripe.trouble(&[Trouble::Hold(before.clone())]);
        let admin = world.gateway.admin();
        let pushing = tokio::spawn(async move {
            let body = json!({ "include_today": true });
            admin.build(http::Method::POST, "/v1/billing/push/stripe").json(&body).send().await.map(|_| ())
        });
        // The held one is surely in; how many others are is left to chance, and there may be none.
        until_true("a call", || world.stripe.calls() > calls || pushing.is_finished()).await;
        world.gateway.kill_9();
        before.open();
        drop(pushing.await);
        world.stripe.trouble(&[]);
        world.stripe.forget_keys();
        world.gateway.restart().await;
    }
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(complete, "{report}");
    for tenant in &tenants {
        assert_eq!(world.heard(&format!("cus_{tenant}")), world.billed(tenant, 1).await, "{tenant}");
    }
    assert_eq!(world.stripe.taken().len(), 24);
    assert!(world.stripe.duplicates() > 0, "some had arrived unseen");
}

/// A night's push comes by itself, and one that was missed is made up for at the start
#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_push_tells_the_day_that_is_over_and_a_missed_one_is_made_up_for() {
    let mut world = World::new("nightly_at = \"02:00\"").await;
    let acme = world.tenant("acme", Some("cus_acme")).await;
    spend(&acme, 2).await;
    let first = world.billed("acme", 2).await;
    world.set(NOON + DAY / 2 + 3_600);
    spend(&acme, 1).await;
    world.billed("acme", 3).await;
    assert_eq!(world.stripe.calls(), 0, "it is not yet two o'clock");
    world.set(NOON + DAY / 2 + 7_200);
    until_true("the night's events", || world.stripe.taken().len() == 2).await;
    assert_eq!(world.heard("cus_acme"), first, "the new day is not over");
    assert!(
        world.stripe.taken().iter().all(|event| event.timestamp == NOON + DAY / 2 - 1),
        "in the day that it tells of"
    );
    assert!(world.gateway.terminate().await.success());
    world.set(NOON + 2 * DAY);
    world.gateway.restart().await;
    until_true("the missed night's events", || world.stripe.taken().len() == 4).await;
    assert_eq!(world.heard("cus_acme"), world.billed("acme", 3).await);
}

/// Stripe's words reach the operator, with exit code 1; what was refused goes again
#[tokio::test(flavor = "multi_thread")]
async fn what_stripe_refuses_is_listed_and_sent_again_and_the_others_arrive() {
    let world = World::new("").await;
    for tenant in ["acme", "bad"] {
        let client = world.tenant(tenant, Some(&format!("cus_{tenant}"))).await;
        spend(&client, 1).await;
        world.billed(tenant, 1).await;
    }
    let nobody = world.push(&["--tenant", "nobody"]).await;
    assert!(!nobody.status.success() && nobody.stderr.contains("no such tenant"), "{}", nobody.stderr);
    world.stripe.refuse("cus_bad", true);
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(!complete && report["failed"]["count"] == 2, "{report}");
    let reason = report["failed"]["items"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("No such customer"), "{reason}");
    assert_eq!(world.heard("cus_acme"), world.billed("acme", 1).await);
    let said = world.push(&["--include-today"]).await;
    assert!(!said.status.success() && said.stdout.contains("No such customer"), "{}", said.stdout);
    world.stripe.refuse("cus_bad", false);
    let (complete, report) = world.push_json(&[]).await;
    assert!(complete && report["sent"] == 2, "{report}");
    assert_eq!(world.heard("cus_bad"), world.billed("bad", 1).await);
}

/// 429 with retry-after is waited for; a wrong key ends the push
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_waited_for_and_a_wrong_key_ends_the_push() {
    let world = World::new("").await;
    let acme = world.tenant("acme", Some("cus_acme")).await;
    spend(&acme, 1).await;
    let owed = world.billed("acme", 1).await;
    world.stripe.trouble(&[Trouble::TooMany(Some(1)), Trouble::TooMany(None), Trouble::TooMany(Some(3_600))]);
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(
        !complete && report["stopped"].as_str().is_some_and(|why| why.contains("429")),
        "an hour is too long: {report}"
    );
    assert_eq!((world.stripe.calls(), &report["pending"]), (3, &json!(2)));
    world.stripe.trouble(&[Trouble::Error(401)]);
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(!complete && report["stopped"].as_str().is_some_and(|why| why.contains("stripe.api_key")), "{report}");
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(complete && report["sent"] == 2, "{report}");
    assert_eq!(world.heard("cus_acme"), owed);
}

/// Of two pushes at once one is refused
#[tokio::test(flavor = "multi_thread")]
async fn two_pushes_at_once_are_one_push_and_a_409() {
    let world = World::new("").await;
    let acme = world.tenant("acme", Some("cus_acme")).await;
    spend(&acme, 1).await;
    let owed = world.billed("acme", 1).await;
    let gate = Gate::new();
    world.stripe.trouble(&[Trouble::Hold(gate.clone())]);
    let (admin, body) = (world.gateway.admin(), json!({ "include_today": true }));
    let (one, asked) = (admin.clone(), body.clone());
    let first = tokio::spawn(async move { one.post("/v1/billing/push/stripe", &asked).await });
    until_true("the first call", || world.stripe.calls() == 1).await;
    let second = admin.post("/v1/billing/push/stripe", &body).await;
    assert_eq!(second.status, 409, "{}", second.text());
    assert_eq!(admin.get("/v1/billing/push/stripe").await["running"], true);
    gate.open();
    let first = first.await.expect("the first push");
    assert_eq!((first.status, &first.json()["complete"]), (201, &json!(true)), "{}", first.text());
    assert_eq!(world.heard("cus_acme"), owed);
    let keyed = || async {
        let request = admin.build(http::Method::POST, "/v1/billing/push/stripe").header("idempotency-key", "tonight");
        openclawmu_tests::Reply::of(request.json(&body).send().await.expect("an answer")).await
    };
    let answered = keyed().await;
    spend(&acme, 1).await;
    world.billed("acme", 2).await;
    let again = keyed().await;
    assert_eq!((again.text(), again.header("idempotent-replayed")), (answered.text(), Some("true")));
    assert_eq!(world.heard("cus_acme"), owed, "the same key pushes nothing new");
}

/// Older than Stripe takes: said, not dropped
#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_35_days_is_listed_and_moved_to_no_other_day() {
    let world = World::new("").await;
    let acme = world.tenant("acme", Some("cus_acme")).await;
    spend(&acme, 1).await;
    let old = world.billed("acme", 1).await;
    world.set(NOON + 40 * DAY);
    spend(&acme, 2).await;
    let all = world.billed("acme", 3).await;
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(!complete && report["expired"]["count"] == 2, "{report}");
    assert_eq!(i128::from(report["expired"]["items"][0]["value"].as_i64().expect("a number")), old.0);
    assert_eq!(world.heard("cus_acme"), (all.0 - old.0, all.1 - old.1));
}

/// An event that may have arrived is not sent again once Stripe has forgotten its identifier, but on the operator's word
#[tokio::test(flavor = "multi_thread")]
async fn an_uncertain_event_waits_for_the_operators_word() {
    let world = World::new("").await;
    let acme = world.tenant("acme", Some("cus_acme")).await;
    spend(&acme, 1).await;
    let owed = world.billed("acme", 1).await;
    world.stripe.trouble(&[const { Trouble::DropBefore }; 6]);
    let (complete, report) = world.push_json(&["--include-today"]).await;
    assert!(!complete && report["stopped"].is_string() && report["pending"] == 2, "{report}");
    world.set(NOON + DAY + 600);
    let (complete, report) = world.push_json(&[]).await;
    assert!(!complete && report["uncertain"]["items"] == json!(["acme:2026-11-18:ai_cost:1"]), "{report}");
    assert_eq!(world.heard("cus_acme"), (0, owed.1), "the other one was never tried and goes");
    let (complete, report) = world.push_json(&["--uncertain", "resend"]).await;
    assert!(complete, "{report}");
    assert_eq!(world.heard("cus_acme"), owed);
}

/// Without an account there is a hint
#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_the_push_says_what_to_set() {
    let gateway = Gateway::start(Setup::bare()).await;
    let said = gateway.cli(&["billing", "push", "stripe"]).await;
    assert!(!said.status.success() && said.stderr.contains("stripe.api_key"), "{}", said.stderr);
}
