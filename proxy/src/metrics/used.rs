//! What was used and what it cost, by model, and by tenant where the operator wants that. The names come from requests, so
//! their number has a cap: what is past it is counted together, under `other`.

use std::collections::HashMap;
use std::fmt::Error;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use openclawmu_store::{NanoUsd, TenantId, TenantKey, Usage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::catalog::Target;

/// Models at upstreams that have counts of their own.
const MODELS: usize = 500;
/// The name of the rest.
const OTHER: &str = "other";
/// The kinds of tokens, in the order of [`kinds`].
const KINDS: [&str; 5] = ["input", "cache_read", "cache_write", "output", "reasoning"];

/// One name's counts.
#[derive(Debug, Default)]
struct Counts {
    settled: AtomicU64,
    cost_nano_usd: AtomicU64,
    tokens: [AtomicU64; KINDS.len()],
}

impl Counts {
    fn add(&self, usage: &Usage, cost: NanoUsd) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        self.cost_nano_usd.fetch_add(u64::try_from(cost.0).unwrap_or(0), Ordering::Relaxed);
        for (count, tokens) in self.tokens.iter().zip(kinds(usage)) {
            if tokens > 0 {
                count.fetch_add(tokens, Ordering::Relaxed);
            }
        }
    }
}

fn kinds(usage: &Usage) -> [u64; KINDS.len()] {
    let sum = |counts: [u32; 2]| counts.iter().map(|&count| u64::from(count)).sum();
    [
        sum([usage.input, usage.input_audio]),
        usage.cache_read.into(),
        sum([usage.cache_write, usage.cache_write_1h]),
        sum([usage.output, usage.output_audio]),
        usage.reasoning.into(),
    ]
}

/// Counts by a key, at most `cap` of them.
#[derive(Debug)]
struct Capped<K, N> {
    cap: usize,
    named: RwLock<HashMap<K, (N, Arc<Counts>)>>,
    other: Counts,
}

impl<K: Eq + Hash, N: Clone> Capped<K, N> {
    fn new(cap: usize) -> Self {
        Self { cap, named: RwLock::default(), other: Counts::default() }
    }

    fn add(&self, key: K, name: impl FnOnce() -> N, (usage, cost): (&Usage, NanoUsd)) {
        if let Some((_, counts)) = self.named.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return counts.add(usage, cost);
        }
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= self.cap && !named.contains_key(&key) {
            drop(named);
            return self.other.add(usage, cost);
        }
        named.entry(key).or_insert_with(|| (name(), Arc::default())).1.add(usage, cost);
    }

    /// Every name with its counts.
    fn listed(&self) -> Vec<(N, Arc<Counts>)> {
        self.named.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What was used.
#[derive(Debug)]
pub(crate) struct Used {
    models: Capped<(u32, u32), (Arc<str>, String)>,
    tenants: Option<Capped<TenantKey, TenantId>>,
}

impl Used {
    /// Nothing yet. At most `tenants` tenants get counts of their own; with 0 there is no such metric.
    pub(super) fn new(tenants: usize) -> Self {
        Self { models: Capped::new(MODELS), tenants: (tenants > 0).then(|| Capped::new(tenants)) }
    }

    /// Counts a bill. `keys` are the store's for upstream and model.
    pub(super) fn bill(
        &self,
        (keys, target): ((u32, u32), &Target),
        tenant: (TenantKey, &TenantId),
        bill: (&Usage, NanoUsd),
    ) {
        self.models.add(keys, || (Arc::clone(&target.upstream.name), target.model.clone()), bill);
        if let Some(tenants) = &self.tenants {
            tenants.add(tenant.0, || tenant.1.clone(), bill);
        }
    }
}

/// One family of a collector: every label set with its value.
fn family<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    values: impl Iterator<Item = (Vec<(&'static str, &'l str)>, u64)>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// All families of one kind of name.
fn families<'l>(
    encoder: &mut DescriptorEncoder<'_>,
    names: &[[&str; 2]; 3],
    series: &[(Vec<(&'static str, &'l str)>, &'l Counts)],
) -> Result<(), Error> {
    let [settled, cost, tokens] = names.map(|[name, help]| (name, help));
    let of = |count: fn(&Counts) -> &AtomicU64| {
        series.iter().map(move |(labels, counts)| (labels.clone(), count(counts).load(Ordering::Relaxed)))
    };
    family(encoder, settled, of(|counts| &counts.settled))?;
    family(encoder, cost, of(|counts| &counts.cost_nano_usd))?;
    let by_kind = series.iter().flat_map(|(labels, counts)| {
        KINDS.iter().zip(&counts.tokens).map(|(kind, count)| {
            let labels = labels.iter().copied().chain([("kind", *kind)]).collect();
            (labels, count.load(Ordering::Relaxed))
        })
    });
    family(encoder, tokens, by_kind)
}

const BY_MODEL: [[&str; 2]; 3] = [
    ["model_requests", "Settled attempts by model"],
    ["model_cost_nano_usd", "Cost by model, in nano-dollars"],
    ["model_tokens", "Tokens by model"],
];
const BY_TENANT: [[&str; 2]; 3] = [
    ["tenant_requests", "Settled attempts by tenant"],
    ["tenant_cost_nano_usd", "Cost by tenant, in nano-dollars"],
    ["tenant_tokens", "Tokens by tenant"],
];

impl Collector for Used {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let models = self.models.listed();
        let named = models
            .iter()
            .map(|((upstream, model), counts)| (vec![("upstream", &**upstream), ("model", model.as_str())], &**counts));
        let other = (vec![("upstream", OTHER), ("model", OTHER)], &self.models.other);
        families(&mut encoder, &BY_MODEL, &named.chain([other]).collect::<Vec<_>>())?;
        let Some(tenants) = &self.tenants else { return Ok(()) };
        let listed = tenants.listed();
        let named = listed.iter().map(|(tenant, counts)| (vec![("tenant", tenant.as_str())], &**counts));
        let other = (vec![("tenant", OTHER)], &tenants.other);
        families(&mut encoder, &BY_TENANT, &named.chain([other]).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_cap_names_are_counted_together() {
        let capped: Capped<u32, String> = Capped::new(2);
        let usage = Usage { input: 3, output: 4, reasoning: 5, cache_write_1h: 6, ..Usage::default() };
        for key in [1, 2, 3, 4, 1] {
            capped.add(key, || key.to_string(), (&usage, NanoUsd(10)));
        }
        let mut listed: Vec<_> =
            capped.listed().into_iter().map(|(name, counts)| (name, counts.settled.load(Ordering::Relaxed))).collect();
        listed.sort();
        assert_eq!(listed, [("1".to_owned(), 2), ("2".to_owned(), 1)]);
        assert_eq!(capped.other.settled.load(Ordering::Relaxed), 2);
        assert_eq!(capped.other.cost_nano_usd.load(Ordering::Relaxed), 20);
        let tokens = [0, 1, 2, 3, 4].map(|kind| capped.other.tokens[kind].load(Ordering::Relaxed));
        assert_eq!(tokens, [6, 0, 12, 8, 10]);
    }
}
