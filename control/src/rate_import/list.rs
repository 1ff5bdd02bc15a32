//! A price list of either format: the gateway's own, as `conf/rates.json`, or `LiteLLM`'s public price map.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use openclawmu_store::{ModelPrices, NanoUsd, NewRateCard, UnixMs};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::rate_import::litellm;

/// How a price list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PriceListFormat)]
pub(crate) enum Format {
    /// `LiteLLM`'s `model_prices_and_context_window.json`.
    Litellm,
    /// As `conf/rates.json`.
    Openclawmu,
}

/// Text that is no price list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// Neither format's shape.
    #[error("prices are neither a rate card with `models` nor LiteLLM's price map")]
    Unknown,
    /// Not as its format demands.
    #[error("{0}")]
    Malformed(String),
}

/// A price that the list states finer than it can be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Rounded {
    pub(crate) model: String,
    pub(crate) field: String,
    /// What the list says, for one.
    pub(crate) stated: String,
    /// What is held: rounded up to the next nano-dollar.
    pub(crate) price: NanoUsd,
}

/// Fields that were left out of prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Remark {
    pub(crate) field: String,
    pub(crate) models: usize,
    pub(crate) reason: &'static str,
}

/// What a price list says.
#[derive(Clone, Debug)]
pub(crate) struct PriceList {
    pub(crate) format: Format,
    /// When the list itself wants to take effect.
    pub(crate) effective_from: Option<UnixMs>,
    pub(crate) models: ModelPrices,
    /// Models that can't be imported, each with the reason.
    pub(crate) skipped: BTreeMap<String, String>,
    pub(crate) rounded: Vec<Rounded>,
    pub(crate) remarks: Vec<Remark>,
}

/// Reads a price list; without `format` its shape tells. `only` keeps the models that it matches: names, or beginnings
/// followed by `*`; none keeps all.
///
/// # Errors
/// [`ListError`].
pub(crate) fn read(raw: &RawValue, format: Option<Format>, only: &[String]) -> Result<PriceList, ListError> {
    let format = format.map_or_else(|| shape(raw.get()), Ok)?;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|pattern| matches(pattern, name));
    match format {
        Format::Litellm => litellm_map(raw.get(), wanted),
        Format::Openclawmu => {
            let card: NewRateCard =
                serde_json::from_str(raw.get()).map_err(|err| ListError::Malformed(format!("prices: {err}")))?;
            let models = card.models.into_iter().filter(|(name, _)| wanted(name)).collect();
            let (skipped, rounded, remarks) = (BTreeMap::new(), Vec::new(), Vec::new());
            Ok(PriceList { format, effective_from: card.effective_from, models, skipped, rounded, remarks })
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |beginning| name.starts_with(beginning))
}

fn shape(raw: &str) -> Result<Format, ListError> {
    let Entries(entries) = serde_json::from_str(raw).map_err(|_| ListError::Unknown)?;
    if entries.iter().any(|(name, _)| name == "models") {
        return Ok(Format::Openclawmu);
    }
    let known = |(_, raw): &(String, Box<RawValue>)| raw.get().contains("\"litellm_provider\"");
    if entries.iter().any(known) { Ok(Format::Litellm) } else { Err(ListError::Unknown) }
}

fn litellm_map(raw: &str, wanted: impl Fn(&str) -> bool) -> Result<PriceList, ListError> {
    let Entries(entries) = serde_json::from_str(raw)
        .map_err(|err| ListError::Malformed(format!("prices are not a JSON object of models: {err}")))?;
    let mut list = PriceList {
        format: Format::Litellm,
        effective_from: None,
        models: ModelPrices::new(),
        skipped: BTreeMap::new(),
        rounded: Vec::new(),
        remarks: Vec::new(),
    };
    let mut remarks: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
    for (name, raw) in entries.into_iter().filter(|(name, _)| name != litellm::SAMPLE && wanted(name)) {
        let entry =
            if name.contains('*') || name.is_empty() || name.chars().count() > 200 || name.contains(char::is_control) {
                Err("its name can't be a model's".to_owned())
            } else if list.models.remove(&name).is_some() || list.skipped.contains_key(&name) {
                Err("is listed twice".to_owned())
            } else {
                litellm::entry(&name, raw.get())
            };
        match entry {
            Ok(entry) => {
                let rounded = entry.rounded.into_iter();
                list.rounded.extend(rounded.map(|(field, stated, price)| Rounded {
                    model: name.clone(),
                    field,
                    stated,
                    price,
                }));
                for remark in entry.remarks.into_iter().collect::<BTreeSet<_>>() {
                    *remarks.entry(remark).or_default() += 1;
                }
                list.models.insert(name, Some(entry.price));
            }
            Err(reason) => drop(list.skipped.insert(name, reason)),
        }
    }
    list.remarks = remarks.into_iter().map(|((field, reason), models)| Remark { field, models, reason }).collect();
    Ok(list)
}

/// The members of an object in their order, repeated ones too.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
