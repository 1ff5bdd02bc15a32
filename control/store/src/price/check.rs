//! Refuses prices that can't be charged, or that would make something free by leaving it out.

use crate::money::NanoUsd;
use crate::price::{ModelPrice, Prices, Tier};

impl ModelPrice {
    /// Refuses prices that can't be charged.
    ///
    /// # Errors
    /// What is wrong with which field.
    pub fn check(&self) -> Result<(), String> {
        if self.per_request.is_some_and(|fee| fee < NanoUsd::ZERO) {
            return Err("`per_request` must not be negative".to_owned());
        }
        let images = !self.images.is_empty();
        if !images && self.per_request.is_none() && self.base.named().iter().all(|(_, price)| price.is_none()) {
            return Err("prices nothing: give `input` and `output`, or what else the model is billed by".to_owned());
        }
        check_prices(&self.base, "")?;
        self.check_images()?;
        check_tiers(&self.base, &self.tiers, "")?;
        for (name, prices) in [("batch", &self.batch), ("flex", &self.flex), ("priority", &self.priority)] {
            let Some(prices) = prices else { continue };
            let place = format!("{name}.");
            check_prices(&prices.base, &place)?;
            check_complete(&self.base, &prices.base, &place)?;
            check_tiers(&prices.base, &prices.tiers, &place)?;
        }
        Ok(())
    }

    /// Each image needs a price, or tokens that have one.
    fn check_images(&self) -> Result<(), String> {
        let by_token = self.base.output.or(self.base.output_image_tokens).is_some();
        for (at, tariff) in self.images.iter().enumerate() {
            match (tariff.price, tariff.tokens) {
                (Some(price), _) if price < NanoUsd::ZERO => {
                    return Err(format!("`images[{at}].price` must not be negative"));
                }
                (None, None) => return Err(format!("`images[{at}]` states neither `price` nor `tokens`")),
                (None, Some(_)) if !by_token => {
                    return Err(format!(
                        "`images[{at}].tokens` counts what has no price: give `output` or `output_image_tokens`"
                    ));
                }
                (Some(_), _) | (None, Some(_)) => {}
            }
        }
        Ok(())
    }
}

fn check_prices(prices: &Prices, place: &str) -> Result<(), String> {
    if let Some((name, _)) = prices.named().iter().find(|(_, price)| price.is_some_and(|price| price < NanoUsd::ZERO)) {
        return Err(format!("`{place}{name}` must not be negative"));
    }
    if prices.input.is_none() && prices.prices_tokens() {
        return Err(format!(
            "`{place}input` is missing: where tokens have a price, those of the prompt need one too (\"0\" if they are free)"
        ));
    }
    Ok(())
}

fn check_tiers(base: &Prices, tiers: &[Tier], place: &str) -> Result<(), String> {
    for (at, tier) in tiers.iter().enumerate() {
        let place = format!("{place}tiers[{at}].");
        check_prices(&tier.prices, &place)?;
        check_complete(base, &tier.prices, &place)?;
        if tiers.iter().skip(at + 1).any(|other| other.context_over == tier.context_over) {
            return Err(format!("`{place}context_over` is {} twice", tier.context_over));
        }
    }
    Ok(())
}

/// Prices that stand in for `base` must say what each thing costs that `base` prices.
fn check_complete(base: &Prices, prices: &Prices, place: &str) -> Result<(), String> {
    let missing = base.own().zip(prices.own()).find(|((_, base), (_, own))| base.is_some() && own.is_none());
    missing.map_or(Ok(()), |((name, _), _)| {
        Err(format!("`{place}{name}` is missing: without it, what `{name}` prices would be free there"))
    })
}
