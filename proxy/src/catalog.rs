//! Which model names lead where: aliases, names that an upstream serves, and `<upstream>/<model>`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use openclawmu_store::{PinnedPrice, RateTable};

use crate::config::{AliasConfig, TargetConfig};
use crate::upstream::provider::Provider;
use crate::upstream::{Backend, Upstream};

/// A model at an upstream.
#[derive(Clone)]
pub(crate) struct Target {
    /// Where.
    pub(crate) upstream: Arc<Upstream>,
    /// Its name there.
    pub(crate) model: String,
}

impl Target {
    /// Whether it is the same model at the same upstream.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream) && self.model == other.model
    }

    /// The price of this model: of `<upstream>/<model>` where the rate card lists it so, else of the model.
    pub(crate) fn price(&self, rates: &RateTable) -> Option<PinnedPrice> {
        rates.price_at(&self.upstream.name, &self.model)
    }
}

/// All names.
pub(crate) struct Catalog {
    upstreams: Vec<Arc<Upstream>>,
    aliases: HashMap<String, Alias>,
}

struct Alias {
    targets: Vec<(Target, u32)>,
    fallbacks: Vec<Target>,
}

/// A name that tenants can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The name.
    pub(crate) id: String,
    /// The upstream that serves it, or `openclawmu` for an alias.
    pub(crate) owned_by: String,
}

impl Catalog {
    pub(crate) fn new(upstreams: Vec<Arc<Upstream>>, aliases: &[AliasConfig]) -> Self {
        let target = |config: &TargetConfig| {
            upstreams
                .get(config.upstream)
                .map(|upstream| Target { upstream: Arc::clone(upstream), model: config.model.clone() })
        };
        let alias = |config: &AliasConfig| Alias {
            targets: config.targets.iter().filter_map(|one| target(one).map(|target| (target, one.weight))).collect(),
            fallbacks: config.fallbacks.iter().filter_map(target).collect(),
        };
        let aliases = aliases.iter().map(|config| (config.name.clone(), alias(config))).collect();
        Self { upstreams, aliases }
    }

    /// All upstreams.
    pub(crate) fn all(&self) -> &[Arc<Upstream>] {
        &self.upstreams
    }

    /// The upstreams' names.
    pub(crate) fn upstreams(&self) -> Vec<String> {
        self.upstreams.iter().map(|upstream| upstream.name.to_string()).collect()
    }

    /// Whether a tenant can have a key of its own there: one that is signed with, or none at all, can't be replaced by it.
    pub(crate) fn takes_own_key(&self, name: &str) -> bool {
        let backend = self.upstream(name).map(|upstream| &upstream.backend);
        backend.is_some_and(|backend| match backend {
            Backend::Http(provider, _) => !matches!(provider, Provider::Bedrock),
            Backend::Echo => false,
        })
    }

    /// The upstream at which tenants' files and batches are kept.
    pub(crate) fn files(&self) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| upstream.files)
    }

    /// The upstream of this name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.upstreams.iter().find(|upstream| *upstream.name == *name)
    }

    /// The targets to try for `name`, in order; none when nothing serves it. `dice` decides among weighted targets: of two that
    /// it draws the one with less in flight is the first. Targets that should be left alone at `now` come last, so that they
    /// are asked only when nobody else is left.
    pub(crate) fn plan(&self, name: &str, dice: u64, now: Instant) -> Vec<Target> {
        if let Some(alias) = self.aliases.get(name) {
            return alias.plan(dice, now);
        }
        self.direct(name).into_iter().collect()
    }

    fn direct(&self, name: &str) -> Option<Target> {
        let serves_exactly = |upstream: &&Arc<Upstream>| upstream.models.iter().any(|model| model == name);
        let target =
            |upstream: &Arc<Upstream>, model: &str| Target { upstream: Arc::clone(upstream), model: model.to_owned() };
        if let Some(upstream) = self.upstreams.iter().find(serves_exactly) {
            return Some(target(upstream, name));
        }
        if let Some((prefix, model)) = name.split_once('/')
            && let Some(upstream) = self.upstreams.iter().find(|upstream| *upstream.name == *prefix)
            && !model.is_empty()
        {
            return Some(target(upstream, model));
        }
        let longest =
            |upstream: &Arc<Upstream>| upstream.models.iter().filter_map(|pattern| matched(pattern, name)).max();
        let best = self.upstreams.iter().filter_map(|upstream| longest(upstream).map(|length| (length, upstream)));
        // Of equally long patterns the first configured wins.
        best.rev().max_by_key(|(length, _)| *length).map(|(_, upstream)| target(upstream, name))
    }

    /// Every name that leads to a priced model: aliases, and the priced names that an upstream serves.
    pub(crate) fn list(&self, rates: &RateTable) -> Vec<Listed> {
        let mut listed = BTreeMap::new();
        for (name, alias) in &self.aliases {
            if alias.targets.iter().any(|(target, _)| target.price(rates).is_some()) {
                listed.insert(name.clone(), "openclawmu".to_owned());
            }
        }
        let priced = rates.models().map(|(name, _)| name).filter(|name| !name.ends_with('*'));
        let served = self
            .upstreams
            .iter()
            .flat_map(|upstream| upstream.models.iter().map(String::as_str))
            .filter(|name| !name.ends_with('*'));
        for name in priced.chain(served) {
            if let Some(target) = self.direct(name).filter(|target| target.price(rates).is_some()) {
                listed.entry(name.to_owned()).or_insert_with(|| target.upstream.name.to_string());
            }
        }
        listed.into_iter().map(|(id, owned_by)| Listed { id, owned_by }).collect()
    }
}

impl Alias {
    fn plan(&self, dice: u64, now: Instant) -> Vec<Target> {
        let drawn = [dice, dice.rotate_right(32)].map(|dice| self.drawn(dice));
        let [first, second] = drawn;
        let chosen = match (first, second) {
            (Some(first), Some(second)) if second.upstream.health.load() < first.upstream.health.load() => Some(second),
            (first, second) => first.or(second),
        };
        // The other targets stand in before the fallbacks do, where the chosen one rests or fails.
        let others = self.targets.iter().filter(|(_, weight)| *weight > 0).map(|(target, _)| target);
        let others = others.filter(|target| !chosen.is_some_and(|chosen| chosen.is(target)));
        let all: Vec<Target> = chosen.into_iter().chain(others).chain(&self.fallbacks).cloned().collect();
        let (resting, awake): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|target| target.upstream.health.rests(&target.model, now));
        awake.into_iter().chain(resting).collect()
    }

    /// The target that the dice fall on, by weight.
    fn drawn(&self, dice: u64) -> Option<&Target> {
        let total: u64 = self.targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut left = dice.checked_rem(total)?;
        for (target, weight) in &self.targets {
            if left < u64::from(*weight) {
                return Some(target);
            }
            left -= u64::from(*weight);
        }
        None
    }
}

/// The length of the pattern's fixed part, when it matches by its `*`.
fn matched(pattern: &str, name: &str) -> Option<usize> {
    pattern.strip_suffix('*').filter(|prefix| name.starts_with(prefix)).map(str::len)
}
