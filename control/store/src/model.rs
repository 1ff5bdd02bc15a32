//! Names that people choose, and patterns over models' names: what is allowed in them, and what a pattern matches.

use std::collections::BTreeMap;

use crate::error::{Result, StoreError};

/// The longest name of a tenant, token or model, in characters.
const MAX_NAME_CHARS: usize = 200;
/// The most patterns in one list.
const MAX_PATTERNS: usize = 100;

/// Refuses a name that is too long or holds control characters.
pub(crate) fn check_name(field: &str, name: &str) -> Result<()> {
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(StoreError::invalid(field, format!("must be at most {MAX_NAME_CHARS} characters")));
    }
    if name.chars().any(char::is_control) {
        return Err(StoreError::invalid(field, "must not hold control characters"));
    }
    Ok(())
}

/// Refuses what is neither a model's name nor a beginning followed by `*`.
pub(crate) fn check_pattern(field: &str, pattern: &str) -> Result<()> {
    check_name(field, pattern)?;
    let stem = pattern.strip_suffix('*').unwrap_or(pattern);
    if pattern.is_empty() || stem.contains('*') {
        return Err(StoreError::invalid(
            field,
            format!("`{pattern}` must be a model's name, or its beginning followed by `*`"),
        ));
    }
    Ok(())
}

/// Checks an allow-list; `None` allows all.
pub(crate) fn check_patterns(field: &str, patterns: Option<&[String]>) -> Result<()> {
    let patterns = patterns.unwrap_or_default();
    if patterns.len() > MAX_PATTERNS {
        return Err(StoreError::invalid(field, format!("must have at most {MAX_PATTERNS} entries")));
    }
    patterns.iter().try_for_each(|pattern| check_pattern(field, pattern))
}

/// Checks a tenant's aliases: names on both sides, and none that stands for another alias.
pub(crate) fn check_aliases(field: &str, aliases: &BTreeMap<String, String>) -> Result<()> {
    if aliases.len() > MAX_PATTERNS {
        return Err(StoreError::invalid(field, format!("must have at most {MAX_PATTERNS} entries")));
    }
    for (name, model) in aliases {
        for text in [name, model] {
            check_name(field, text)?;
            if text.is_empty() || text.contains('*') {
                return Err(StoreError::invalid(field, format!("`{text}` must be a model's name")));
            }
        }
        if aliases.contains_key(model) {
            return Err(StoreError::invalid(field, format!("`{name}` stands for `{model}`, which is an alias itself")));
        }
    }
    Ok(())
}

/// Whether an allow-list lets `model` pass; `None` lets all pass, an empty list nothing.
pub(crate) fn allows(patterns: Option<&[String]>, model: &str) -> bool {
    patterns.is_none_or(|patterns| patterns.iter().any(|pattern| matches(pattern, model)))
}

fn matches(pattern: &str, model: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == model, |stem| model.starts_with(stem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_exact_names_and_beginnings() {
        let list = ["gpt-4o".to_owned(), "claude-*".to_owned()];
        for (model, allowed) in [
            ("gpt-4o", true),
            ("gpt-4o-mini", false),
            ("claude-", true),
            ("claude-3", true),
            ("xclaude-3", false),
            ("", false),
        ] {
            assert_eq!(allows(Some(&list), model), allowed, "{model}");
        }
        assert!(allows(None, "anything"));
        assert!(!allows(Some(&[]), "anything"));
    }

    #[test]
    fn a_star_stands_only_at_the_end() {
        assert!(check_pattern("models", "*").is_ok());
        assert!(check_pattern("models", "gpt-*").is_ok());
        for bad in ["", "**", "*-mini", "a*b", "a\nb", "x".repeat(201).as_str()] {
            assert!(check_pattern("models", bad).is_err(), "{bad}");
        }
        assert!(check_patterns("models", Some(&vec!["a".to_owned(); 101])).is_err());
    }
}
