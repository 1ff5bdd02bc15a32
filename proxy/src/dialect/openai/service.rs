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
    named(name.as_deref())
}

/// The tier of this name.
///
/// # Errors
/// 400 for one that has no price.
pub(crate) fn named(name: Option<&str>) -> Result<AskedTier, Refusal> {
    match name {
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
pub(crate) fn served(name: &str) -> Option<ServiceTier> {
    match name {
        "default" => Some(ServiceTier::Standard),
        "flex" => Some(ServiceTier::Flex),
        "priority" => Some(ServiceTier::Priority),
        _ => None,
    }
}

/// The name of a tier in this dialect; `None` for one that it has not.
pub(crate) fn name(tier: ServiceTier) -> Option<&'static str> {
    match tier {
        ServiceTier::Standard => Some("default"),
        ServiceTier::Flex => Some("flex"),
        ServiceTier::Priority => Some("priority"),
        ServiceTier::Batch => None,
    }
}

/// The tier that a whole answer or an event of a stream names, of chat or of responses.
pub(crate) fn told(data: &[u8]) -> Option<ServiceTier> {
    #[derive(serde::Deserialize)]
    struct Told<'a> {
        #[serde(borrow, default)]
        service_tier: Option<std::borrow::Cow<'a, str>>,
        #[serde(borrow, default)]
        response: Option<Box<Told<'a>>>,
    }
    memchr::memmem::find(data, b"\"service_tier\"")?;
    let told: Told<'_> = serde_json::from_slice(data).ok()?;
    let inner = told.response.and_then(|response| response.service_tier);
    told.service_tier.or(inner).and_then(|name| served(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_its_tier_wherever_it_stands() {
        for (data, tier) in [
            (r#"{"id":"x","service_tier":"flex","choices":[]}"#, Some(ServiceTier::Flex)),
            (r#"{"type":"response.completed","response":{"service_tier":"priority"}}"#, Some(ServiceTier::Priority)),
            (r#"{"service_tier":null,"response":{}}"#, None),
            (r#"{"choices":[{"delta":{"content":"\"service_tier\":\"flex\""}}]}"#, None),
            (r#"{"service_tier":"scale"}"#, None),
            ("[DONE]", None),
        ] {
            assert_eq!(told(data.as_bytes()), tier, "{data}");
        }
        for tier in [ServiceTier::Standard, ServiceTier::Flex, ServiceTier::Priority] {
            assert_eq!(name(tier).and_then(served), Some(tier));
        }
    }

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
