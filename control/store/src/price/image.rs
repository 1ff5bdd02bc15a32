//! What each image of an answer counts as: by the piece or in tokens, by the size and quality that are asked for.

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;
use crate::price::ModelPrice;

/// What providers call the choice that they leave to themselves.
const AUTO: &str = "auto";

/// One size and quality, and what such an image counts as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageTariff {
    /// The size, as requests name it; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The quality, as requests name it; absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// The most tokens that it is billed as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// USD for one, in the place of `output_image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<NanoUsd>,
}

/// What one image counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageCount {
    /// The most tokens.
    pub tokens: u32,
    /// USD for one, where it has a price of its own.
    pub price: Option<NanoUsd>,
}

impl ModelPrice {
    /// What one image of this size and quality counts as; `None` where the model lists others only, or prices no images.
    ///
    /// What a request leaves to the provider (`auto`) is the dearest that fits. What it does not say is that too where images
    /// are billed by tokens, which the answer states; where they have a price, it is the first that fits.
    #[must_use]
    pub fn image(&self, size: Option<&str>, quality: Option<&str>) -> Option<ImageCount> {
        if self.images.is_empty() {
            return self.base.output_image.map(|price| ImageCount { tokens: 0, price: Some(price) });
        }
        let fits = |listed: Option<&str>, asked: Option<&str>| match (listed, asked) {
            (None, _) | (_, None | Some(AUTO)) => true,
            (Some(listed), Some(asked)) => listed == asked,
        };
        let fitting =
            |tariff: &&ImageTariff| fits(tariff.size.as_deref(), size) && fits(tariff.quality.as_deref(), quality);
        let mut fitting = self.images.iter().filter(fitting);
        let first = fitting.next()?;
        let free = size == Some(AUTO) || quality == Some(AUTO);
        let mut count = ImageCount { tokens: first.tokens.unwrap_or(0), price: first.price };
        for tariff in fitting {
            count.tokens = count.tokens.max(tariff.tokens.unwrap_or(0));
            count.price = if free { count.price.max(tariff.price) } else { count.price };
        }
        Some(count)
    }

    /// The same prices with `each` for an image of the answer, at every level.
    #[must_use]
    pub fn with_image_price(&self, each: NanoUsd) -> Self {
        let mut own = self.clone();
        own.base.output_image = Some(each);
        own.tiers.iter_mut().for_each(|tier| tier.prices.output_image = Some(each));
        for service in [&mut own.batch, &mut own.flex, &mut own.priority].into_iter().flatten() {
            service.base.output_image = Some(each);
            service.tiers.iter_mut().for_each(|tier| tier.prices.output_image = Some(each));
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(json: &str) -> ModelPrice {
        let price: ModelPrice = serde_json::from_str(json).unwrap();
        price.check().unwrap();
        price
    }

    const PAINTER: &str = r#"{"images":[
        {"size":"1024x1024","quality":"standard","price":"0.04"},{"size":"1024x1792","quality":"standard","price":"0.08"},
        {"size":"1024x1024","quality":"hd","price":"0.08"},{"size":"1024x1792","quality":"hd","price":"0.12"}]}"#;

    #[test]
    fn an_image_has_the_price_of_its_size_and_quality() {
        let painter = price(PAINTER);
        let each =
            |size, quality| painter.image(size, quality).and_then(|count| count.price).map(|price| price.to_string());
        assert_eq!(each(Some("1024x1792"), Some("hd")).as_deref(), Some("0.120000000"));
        assert_eq!(
            each(None, None).as_deref(),
            Some("0.040000000"),
            "what the provider takes by default is listed first"
        );
        assert_eq!(each(None, Some("hd")).as_deref(), Some("0.080000000"));
        assert_eq!(each(Some("auto"), Some("standard")).as_deref(), Some("0.080000000"));
        assert_eq!(each(Some("512x512"), None), None, "what is not listed has no price");
        let own = painter.with_image_price(NanoUsd(120_000_000));
        assert_eq!(own.base.output_image, Some(NanoUsd(120_000_000)));
        let flat = price(r#"{"output_image":"0.02"}"#);
        assert_eq!(flat.image(Some("any"), None), Some(ImageCount { tokens: 0, price: Some(NanoUsd(20_000_000)) }));
        assert_eq!(price(r#"{"input":"1","output":"2"}"#).image(None, None), None);
    }

    #[test]
    fn where_tokens_count_whatever_is_left_open_is_the_most() {
        let painter = price(
            r#"{"input":"5","output":"40","images":[{"size":"a","quality":"low","tokens":272},{"size":"a","quality":"high","tokens":4160},
                {"size":"b","quality":"low","tokens":408},{"size":"b","quality":"high","tokens":6240}]}"#,
        );
        let tokens = |size, quality| painter.image(size, quality).map(|count| count.tokens);
        assert_eq!(tokens(None, None), Some(6240));
        assert_eq!(tokens(Some("a"), Some("auto")), Some(4160));
        assert_eq!(tokens(Some("auto"), Some("low")), Some(408));
        assert_eq!(tokens(Some("a"), Some("low")), Some(272));
        assert_eq!(tokens(Some("a"), Some("medium")), None);
    }

    #[test]
    fn an_image_that_would_be_free_by_omission_is_refused() {
        for bad in [
            r#"{"images":[{"size":"a"}]}"#,
            r#"{"images":[{"size":"a","tokens":5}]}"#,
            r#"{"input":"1","images":[{"size":"a","tokens":5}]}"#,
            r#"{"images":[{"size":"a","price":"-1"}]}"#,
            r#"{"images":[{"size":"a","price":"1"},{"size":"b"}]}"#,
        ] {
            let price: ModelPrice = serde_json::from_str(bad).unwrap();
            assert!(price.check().unwrap_err().contains("`images["), "{bad}");
        }
        assert!(serde_json::from_str::<ModelPrice>(r#"{"images":[{"siez":"a","price":"1"}]}"#).is_err());
    }
}
