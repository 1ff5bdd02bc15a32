//! Converse is one API for the models of many makers, and what it has no field for goes to the model in the maker's own words.
//! Which maker's a model is stands in its name: `anthropic.claude-...`, `us.anthropic.claude-...`, or at the end of an ARN.

/// Makers whose words are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// Claude, by its version: 3.7 is (3, 7).
    Anthropic(u32, u32),
    /// Nova.
    Amazon,
    /// gpt-oss.
    Openai,
    /// Anybody else.
    Other,
}

impl Maker {
    /// The maker of a model.
    pub(super) fn of(model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or_default();
        let is = |maker: &str| name.split('.').any(|part| part == maker);
        if is("anthropic") || name.contains("claude") {
            let (major, minor) = claude(name);
            Self::Anthropic(major, minor)
        } else if is("amazon") && name.contains("nova") {
            Self::Amazon
        } else if is("openai") {
            Self::Openai
        } else {
            Self::Other
        }
    }
}

/// The version in Claude's name: its first numbers of at most two digits. A name without one is that of the newest.
fn claude(name: &str) -> (u32, u32) {
    let rest = name.split_once("claude").map_or(name, |(_, rest)| rest);
    let words = rest.split(['-', '.', ':']).filter(|word| !word.is_empty());
    let mut numbers = words
        .skip_while(|word| !word.bytes().all(|byte| byte.is_ascii_digit()))
        .map_while(|word| word.parse::<u32>().ok().filter(|_| word.len() <= 2));
    match numbers.next() {
        Some(major) => (major, numbers.next().unwrap_or(0)),
        None => (u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maker_and_the_version_are_read_from_the_name() {
        for (model, maker) in [
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Maker::Anthropic(3, 7)),
            ("us.anthropic.claude-sonnet-4-20250514-v1:0", Maker::Anthropic(4, 0)),
            ("anthropic.claude-opus-4-6-v1", Maker::Anthropic(4, 6)),
            ("global.anthropic.claude-haiku-4-5-20251001-v1:0", Maker::Anthropic(4, 5)),
            ("anthropic.claude-v2:1", Maker::Anthropic(1, 0)),
            ("arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-5-v1:0", Maker::Anthropic(5, 0)),
            ("amazon.nova-pro-v1:0", Maker::Amazon),
            ("us.amazon.nova-2-lite-v1:0", Maker::Amazon),
            ("openai.gpt-oss-120b-1:0", Maker::Openai),
            ("meta.llama3-70b-instruct-v1:0", Maker::Other),
        ] {
            assert_eq!(Maker::of(model), maker, "{model}");
        }
    }
}
