//! One model of `LiteLLM`'s public price map (MIT): USD for each token, image, second or request, as JSON numbers.

use std::collections::BTreeMap;

use openclawmu_store::{ModelPrice, NanoUsd, Prices, ServiceTier};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::rate_import::amount::{self, Unit};
use crate::rate_import::field::{self, Field, Meaning, Slot};
use crate::rate_import::sets::{Level, Sets};

/// The map's description of itself, among the models.
pub(super) const SAMPLE: &str = "sample_spec";

/// The kinds of models that a request to the gateway can be priced for.
const MODES: [&str; 10] = [
    "chat",
    "completion",
    "responses",
    "embedding",
    "moderation",
    "image_generation",
    "image_edit",
    "audio_transcription",
    "audio_speech",
    "realtime",
];
/// Of those, the ones that are billed by tokens of both sides.
const BY_TOKENS: [&str; 3] = ["chat", "completion", "responses"];

/// A model's price, and what is to be said of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) price: ModelPrice,
    /// Fields whose price was rounded up: the field, what the map states, what is held.
    pub(super) rounded: Vec<(String, String, NanoUsd)>,
    /// Fields that were left out, each with the reason why that is no loss.
    pub(super) remarks: Vec<(String, &'static str)>,
}

type Fields = BTreeMap<String, Box<RawValue>>;

/// A kind of token without a price of its own: its field, its level, and the price that it must be equal to.
struct Alike {
    field: String,
    level: Level,
    slot: Slot,
    price: NanoUsd,
    /// Why another price is not refused.
    near: Option<&'static str>,
}

#[derive(Default)]
struct Gathered {
    sets: Sets,
    per_request: Option<NanoUsd>,
    alike: Vec<Alike>,
    rounded: Vec<(String, String, NanoUsd)>,
    remarks: Vec<(String, &'static str)>,
}

/// Reads a model.
///
/// # Errors
/// Why it can't be imported.
pub(super) fn entry(name: &str, raw: &str) -> Result<Entry, String> {
    let fields: Fields = serde_json::from_str(raw).map_err(|_| "is not an object".to_owned())?;
    let mode = text(&fields, "mode").unwrap_or_default();
    if !MODES.contains(&mode.as_str()) {
        let mode = if mode.is_empty() { "unknown" } else { &mode };
        return Err(format!("models of the kind `{mode}` are not served"));
    }
    if text(&fields, "litellm_provider").as_deref() == Some("perplexity") || name.contains("search") {
        let searches = fields.contains_key("search_context_cost_per_query");
        if searches {
            return Err("searches the web in every request, which is charged by the query".to_owned());
        }
    }
    let mut gathered = Gathered::default();
    for (field, raw) in fields.iter().filter(|(field, _)| field::is_money(field)) {
        if field == "tiered_pricing" {
            gathered.ranges(raw.get())?;
        } else {
            gathered.field(field, None, raw.get())?;
        }
    }
    gathered.settle(&mode)?;
    let Gathered { sets, per_request, rounded, remarks, .. } = gathered;
    require_sides(&sets.base(), per_request, &mode)?;
    let mut price = sets.into_price();
    price.per_request = per_request;
    price.context_tokens = limit(&fields, "max_input_tokens");
    price.max_output_tokens = limit(&fields, "max_output_tokens").or_else(|| limit(&fields, "max_tokens"));
    price.check()?;
    Ok(Entry { price, rounded, remarks })
}

impl Gathered {
    /// Takes in one field; `within` is the bound of the range that it stands in, if it stands in one.
    fn field(&mut self, name: &str, within: Option<u64>, raw: &str) -> Result<(), String> {
        let Field { thing, over, service } = field::parse(name);
        let meaning = field::meaning(thing);
        if let Meaning::Option(reason) = meaning {
            self.remarks.push((thing.to_owned(), reason));
            return Ok(());
        }
        if raw == "null" {
            return Ok(());
        }
        let unit = if let Meaning::Price(_, unit) = meaning { unit } else { unit_of(thing) };
        let amount = amount::read(raw, unit);
        if matches!(meaning, Meaning::Unknown) {
            let free = amount.is_ok_and(|amount| amount.price == NanoUsd::ZERO);
            return if free { Ok(()) } else { Err(format!("`{name}` charges for something that is not metered")) };
        }
        let amount = amount.map_err(|why| format!("`{name}` {why}"))?;
        let Some(service) = service else {
            let tier = name.rsplit('_').next().unwrap_or_default();
            self.remarks.push((format!("*_{tier}"), "the price of a service tier that is refused"));
            return Ok(());
        };
        let level = (service, over.or(within));
        match meaning {
            Meaning::Price(slot, _) => self.sets.state(level, slot, amount.price),
            Meaning::Request => self.per_request = Some(self.per_request.unwrap_or_default().max(amount.price)),
            Meaning::Like(slot) => {
                self.alike.push(Alike { field: name.to_owned(), level, slot, price: amount.price, near: None });
            }
            Meaning::Near(slot, why) => {
                self.alike.push(Alike { field: thing.to_owned(), level, slot, price: amount.price, near: Some(why) });
            }
            Meaning::Option(_) | Meaning::Unknown => {}
        }
        if amount.rounded && matches!(meaning, Meaning::Price(..) | Meaning::Request) {
            self.rounded.push((name.to_owned(), raw.to_owned(), amount.price));
        }
        Ok(())
    }

    /// Prices by the size of the prompt, as ranges in tokens: the first is for all that are smaller.
    fn ranges(&mut self, raw: &str) -> Result<(), String> {
        let unreadable = || "`tiered_pricing` is not a list of ranges of prompt tokens".to_owned();
        let list: Vec<Fields> = serde_json::from_str(raw).map_err(|_| unreadable())?;
        for (at, fields) in list.iter().enumerate() {
            let range = fields.get("range").ok_or_else(unreadable)?;
            let [from, _]: [&RawValue; 2] = serde_json::from_str(range.get()).map_err(|_| unreadable())?;
            // A bound is written as `256000.0`: read as a number of tokens, exactly.
            let from = amount::read(from.get(), Unit::Piece).map_err(|_| unreadable())?.price.0;
            let (from, rest) = (from / 1_000_000_000, from % 1_000_000_000);
            if rest != 0 || (at == 0) != (from == 0) {
                return Err(unreadable());
            }
            let within = u64::try_from(from).ok().filter(|from| *from > 0);
            for (field, raw) in fields.iter().filter(|(field, _)| *field != "range") {
                self.field(field, within, raw.get())?;
            }
        }
        Ok(())
    }

    /// What can only be judged once everything is known.
    fn settle(&mut self, mode: &str) -> Result<(), String> {
        if mode == "audio_transcription" {
            // The map states the price of a second on both sides, and means the audio that comes in.
            let both = self.sets.base();
            if let (None, Some(price)) = (both.input_second, both.output_second) {
                self.sets.state((ServiceTier::Standard, None), |prices| &mut prices.input_second, price);
            }
            self.sets.forget(|prices| &mut prices.output_second);
        }
        for Alike { field, level, slot, price, near } in std::mem::take(&mut self.alike) {
            let mut prices = self.sets.merged(level);
            if *slot(&mut prices) == Some(price) {
                continue;
            }
            match near {
                Some(why) => self.remarks.push((field, why)),
                None => return Err(format!("`{field}` is a price of its own for tokens that have none here")),
            }
        }
        self.sets.forget_repeated(|prices| &mut prices.reasoning, |prices| &mut prices.output);
        self.sets.forget_repeated(|prices| &mut prices.output_audio, |prices| &mut prices.output);
        self.sets.forget_repeated(|prices| &mut prices.input_audio, |prices| &mut prices.input);
        Ok(())
    }
}

/// The unit of a thing that has no price of its own here.
fn unit_of(thing: &str) -> Unit {
    if thing.contains("token") || thing.contains("character") { Unit::Token } else { Unit::Piece }
}

/// A model that is billed by tokens needs prices of both sides, and one is free only where both sides say so.
fn require_sides(base: &Prices, per_request: Option<NanoUsd>, mode: &str) -> Result<(), String> {
    if BY_TOKENS.contains(&mode) && (base.input.is_none() || base.output.is_none()) {
        return Err("has no price of its prompt's and its answer's tokens".to_owned());
    }
    let stated: Vec<NanoUsd> = base.named().into_iter().filter_map(|(_, price)| price).chain(per_request).collect();
    if stated.is_empty() {
        return Err("states no price".to_owned());
    }
    let free = stated.iter().all(|price| *price == NanoUsd::ZERO);
    if free && (base.input.is_none() || base.output.is_none()) {
        return Err("is free on one side and says nothing of the other".to_owned());
    }
    Ok(())
}

fn text(fields: &Fields, name: &str) -> Option<String> {
    fields.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
}

/// A limit in tokens; the map writes some of them as words or as zero.
fn limit(fields: &Fields, name: &str) -> Option<u32> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Count(u32),
        Other(serde::de::IgnoredAny),
    }
    match serde_json::from_str(fields.get(name)?.get()).ok()? {
        Form::Count(count) => (count > 0).then_some(count),
        Form::Other(_) => None,
    }
}
