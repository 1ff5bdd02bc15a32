//! The service tier of the `OpenAI` dialect: what a request asks for, and what an answer says it was served at.

use openclawmu_store::ServiceTier;

use crate::refusal::Refusal;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AskedTier {
    /// Nothing, or `auto`: as the provider's project is set, which may be the dearest.
    #[default]
    Auto,
    /// This one.
    Named(ServiceTier),
}

/// Reads a request's `service_tier`.
pub(super) fn asked(raw: Option<&str>) -> Result<AskedTier, Refusal> {
    let name: Option<String> = match raw {
        None => None,
        Some(raw) => {
            serde_json::from_str(raw).map_err(|_| Refusal::bad("service_tier", "`service_tier` must be a string."))?
        }
    };
    match name.as_deref() {
        None | Some("auto") => Ok(AskedTier::Auto),
        Some(name) => served(name).map(AskedTier::Named).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            Refusal::bad(
                "service_tier",
                format!(
                    "The service tier `{name}` has no price; use `default`, `flex` or `priority`, or leave it out."
                ),
            )
        }),
    }
}

/// The tier that an answer names; `None` for a name that is not known.
pub(super) fn served(name: &str) -> Option<ServiceTier> {
    match name {
        "default" => Some(ServiceTier::Standard),
        "flex" => Some(ServiceTier::Flex),
        "priority" => Some(ServiceTier::Priority),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_auto_and_what_is_not_known_is_refused() {
        for (raw, tier) in [
            (None, AskedTier::Auto),
            (Some("null"), AskedTier::Auto),
            (Some("\"auto\""), AskedTier::Auto),
            (Some("\"default\""), AskedTier::Named(ServiceTier::Standard)),
            (Some("\"flex\""), AskedTier::Named(ServiceTier::Flex)),
            (Some("\"pri\\u006frity\""), AskedTier::Named(ServiceTier::Priority)),
        ] {
            assert_eq!(asked(raw).unwrap(), tier, "{raw:?}");
        }
        for raw in ["\"scale\"", "\"batch\"", "\"standard\"", "\"Flex\"", "\"\"", "1", "[]"] {
            assert_eq!(asked(Some(raw)).unwrap_err().told().param.as_deref(), Some("service_tier"), "{raw}");
        }
    }
}
