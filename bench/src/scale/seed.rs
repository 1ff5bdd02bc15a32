//! Tenants, and a month of rows: made by the store itself, on a clock that walks through the month.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use openclawmu_store::{
    Actor, Bound, Clock, Demand, Durability, End, LabelKey, ManualClock, ModelPrice, Month, NanoUsd, NewTenant,
    NewToken, Outcome, Quota, Refused, RequestId, ServiceTier, Store, StoreOptions, SystemClock, TenantPolicy,
    TokenKey, UnixMs, Usage, UsageQuery, UsageRange, Windows, Zone,
};
use serde::Serialize;
use tokio::task::JoinSet;

/// Tokens that are kept.
const TOKENS: u32 = 1_000;
/// Tenants that are made in one commit.
const AT_ONCE: u32 = 500;
/// Pause before what was refused is asked again.
const BEHIND: Duration = Duration::from_millis(5);
const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro"];

/// What filling it took.
#[derive(Debug, Serialize)]
pub(super) struct Seeded {
    pub(super) rows_per_second: f64,
    pub(super) bytes: u64,
    /// Tokens of tenants from all over the store.
    #[serde(skip)]
    pub(super) tokens: Vec<String>,
}

/// A store, and the callers whose tenants are in it.
pub(super) struct Filled {
    pub(super) store: Store,
    pub(super) clock: Arc<ManualClock>,
    pub(super) models: Vec<u32>,
    pub(super) upstream: u32,
    pub(super) price: Arc<ModelPrice>,
}

/// Who calls.
pub(super) struct Caller {
    pub(super) tenant: TenantPolicy,
    pub(super) token: TokenKey,
}

/// The month before the present one, in UTC.
pub(super) fn last_month() -> Result<Month> {
    let present = Windows::at(SystemClock.now(), &Zone::utc()).month;
    Ok(Month(present.checked_sub(1).context("no month before the first")?))
}

/// The first instant of a month and its length in milliseconds.
pub(super) fn span(month: Month) -> (UnixMs, i64) {
    // Twelve hours are what the farthest zone is behind.
    let end = month.over_everywhere_at().plus_ms(-12 * 3_600_000);
    let start = Month(month.0 - 1).over_everywhere_at().plus_ms(-12 * 3_600_000);
    (start, end.0 - start.0)
}

/// The id of the `n`th tenant.
pub(super) fn tenant_id(n: u32) -> String {
    format!("tenant-{n}")
}

/// Opens the store in `dir`, its clock at `at`.
pub(super) fn open(dir: &Path, at: UnixMs) -> Result<Filled> {
    let clock = Arc::new(ManualClock::new(at));
    let theirs: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let options =
        StoreOptions { dir: dir.to_owned(), clock: theirs, takeover: Duration::ZERO, durability: Durability::Process };
    let store = Store::open(&options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (models, upstream) = runtime.block_on(async {
        let mut models = Vec::new();
        for model in MODELS {
            models.push(store.name_key(model).await?);
        }
        anyhow::Ok((models, store.name_key("bench").await?))
    })?;
    let price = Arc::new(ModelPrice::flat(NanoUsd(2_500_000_000), NanoUsd(10_000_000_000)));
    Ok(Filled { store, clock, models, upstream, price })
}

impl Filled {
    /// Admits one request, and settles it.
    pub(super) fn one(&self, caller: &Caller, n: u64) -> Result<(), Refused> {
        let model = usize::try_from(n).unwrap_or(0) % self.models.len();
        let usage = Usage { input: 400 + u32::try_from(n % 100).unwrap_or(0), output: 90, ..Usage::default() };
        let ticket = self.store.admit(&Demand {
            request_id: RequestId(n.into()),
            attempt: 0,
            stream: false,
            tenant: caller.tenant.key,
            token: caller.token,
            quota: &caller.tenant.quota,
            zone: &caller.tenant.zone,
            model: self.models.get(model).copied().unwrap_or_default(),
            upstream: self.upstream,
            price: &self.price,
            rate_card: 1,
            bound: Bound { input_tokens: 2_000, output_tokens: 500, ..Bound::default() },
            prompt_estimate: 400,
            service_tier: ServiceTier::Standard,
            label: LabelKey::default(),
            markup: caller.tenant.markup,
            cap: None,
        })?;
        ticket.settle(End {
            outcome: Outcome::Complete,
            http_status: 200,
            estimated: false,
            usage,
            service_tier: ServiceTier::Standard,
            first_byte_ms: 1,
        });
        Ok(())
    }

    /// Waits until all rows are on the disk.
    pub(super) fn flush(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        Ok(runtime.block_on(self.store.flush())?)
    }
}

/// Makes a store with `tenants` tenants and `rows` rows in `dir`.
pub(super) fn seed(dir: &Path, month: Month, tenants: u32, rows: u64) -> Result<Seeded> {
    let (start, length) = span(month);
    let filled = open(dir, start)?;
    let (callers, tokens) = make_tenants(&filled, tenants)?;
    let began = Instant::now();
    let mut told = 0;
    for n in 0..rows {
        // A step that is prime to most counts visits all tenants, in no order.
        let at = usize::try_from(n.wrapping_mul(7_919) % u64::from(tenants))?;
        let caller = callers.get(at).context("a tenant")?;
        let passed = i128::from(length) * i128::from(n) / i128::from(rows);
        filled.clock.set(start.plus_ms(i64::try_from(passed)?));
        while let Err(refused) = filled.one(caller, n) {
            match refused {
                // The writer is behind, and catches up. Not a flush, which somebody waits for: that would end each pause in which the
                // log is copied to its end, as no load of the gateway's does. One that fails is told by the flush.
                Refused::Unavailable(_) if filled.store.healthy() => std::thread::sleep(BEHIND),
                Refused::Unavailable(_) => filled.flush()?,
                Refused::Budget { .. }
                | Refused::Rate { .. }
                | Refused::ClientSecret { .. }
                | Refused::Concurrency { .. } => {
                    return Err(anyhow!("a row was refused: {refused}"));
                }
            }
        }
        let percent = n * 100 / rows;
        if rows >= 100_000 && percent >= told + 5 {
            told = percent;
            eprint!("\rfilling: {percent} %");
        }
    }
    filled.flush()?;
    let took = began.elapsed();
    let query = UsageQuery { tenant: None, range: UsageRange::Month(month), group_by: BTreeSet::new() };
    let kept = filled.store.usage(&query)?.total.requests;
    ensure!(kept == rows, "the ledger has {kept} of {rows} rows");
    drop(filled);
    if rows >= 100_000 {
        eprintln!("\rfilling: done in {:.0} s", took.as_secs_f64());
    }
    let bytes = std::fs::metadata(dir.join("openclawmu.db"))?.len();
    let count = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    Ok(Seeded { rows_per_second: count / took.as_secs_f64(), bytes, tokens })
}

/// Makes tenants, each with every calendar cap, set high; returns who may call, and some of their tokens.
fn make_tenants(filled: &Filled, tenants: u32) -> Result<(Vec<Caller>, Vec<String>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let usd = |dollars: i64| Some(NanoUsd(dollars * 1_000_000_000));
    let quota = Quota {
        usd_per_day: usd(100_000),
        usd_per_month: usd(1_000_000),
        tokens_per_day: Some(1 << 40),
        ..Quota::default()
    };
    let (mut callers, mut tokens) = (Vec::new(), Vec::new());
    let apart = usize::try_from(tenants.div_ceil(TOKENS))?;
    for first in (0..tenants).step_by(usize::try_from(AT_ONCE)?) {
        let changes = (first..tenants.min(first + AT_ONCE)).map(|n| {
            let new = NewTenant { id: tenant_id(n).parse().ok(), quota: Some(quota), ..NewTenant::default() };
            filled.store.create_tenant(&Actor::system(), new, NewToken::default()).into_future()
        });
        let tasks: Vec<_> = changes.collect();
        let made = runtime.block_on(async {
            let mut running: JoinSet<_> = tasks.into_iter().collect();
            let mut made = Vec::new();
            while let Some(task) = running.join_next().await {
                made.push(task??);
            }
            anyhow::Ok(made)
        })?;
        for (_, _, plain) in made {
            let policy = filled.store.authenticate(plain.expose(), std::net::Ipv4Addr::LOCALHOST.into());
            let policy = policy.map_err(|err| anyhow!("a token is refused: {err}"))?;
            let tenant = TenantPolicy {
                key: policy.tenant_key,
                quota: policy.quota,
                zone: policy.zone.clone(),
                markup: policy.markup,
            };
            if callers.len() % apart == 0 {
                tokens.push(plain.expose().to_owned());
            }
            callers.push(Caller { tenant, token: policy.token_key });
        }
    }
    Ok((callers, tokens))
}
