//! Thinking and effort, both ways.
//!
//! A model either takes a budget in tokens (up to 4.5), or decides itself and takes an effort (from 4.7 on), or either (4.6).

use serde_json::{Value, json};

use crate::dialect::form::{Effort, Reasoning};
use crate::dialect::object::Object;
use crate::refusal::Refusal;

/// The least budget that there is.
const LEAST_BUDGET: u32 = 1_024;

/// The words of `output_config.effort`.
const EFFORTS: [(&str, Effort); 5] = [
    ("low", Effort::Low),
    ("medium", Effort::Medium),
    ("high", Effort::High),
    ("xhigh", Effort::Higher),
    ("max", Effort::Max),
];

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// A budget.
    Budget,
    /// Either.
    Both,
    /// An effort.
    Effort,
}

/// Names of the models that know no adaptive thinking; every later one does.
const BUDGET_MODELS: [&str; 11] = [
    "claude-2",
    "claude-3",
    "claude-instant",
    "claude-4-",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-5",
    "claude-opus-4-2",
    "claude-sonnet-4-0",
    "claude-sonnet-4-5",
    "claude-sonnet-4-2",
];

impl Takes {
    fn of(model: &str) -> Self {
        let known = |name: &&str| model.contains(*name);
        if BUDGET_MODELS.iter().chain(&["claude-haiku-4", "claude-opus-4@", "claude-sonnet-4@"]).any(known) {
            Self::Budget
        } else if ["claude-opus-4-6", "claude-sonnet-4-6"].iter().any(known) {
            Self::Both
        } else {
            Self::Effort
        }
    }
}

/// The effort in `output_config`.
pub(super) fn effort(config: &mut Object<'_>) -> Result<Option<Effort>, Refusal> {
    let words = EFFORTS.map(|(word, _)| word);
    let word = config.word("effort", &words)?;
    Ok(word.and_then(|word| EFFORTS.iter().find(|(known, _)| *known == word).map(|(_, effort)| *effort)))
}

/// A client's `thinking`, with the effort that it stated.
pub(super) fn parse(thinking: Option<Object<'_>>, effort: Option<Effort>) -> Result<Option<Reasoning>, Refusal> {
    let Some(mut thinking) = thinking else {
        return Ok(effort.map(|effort| Reasoning { effort: Some(effort), ..Reasoning::default() }));
    };
    let kind = thinking.need_string("type")?;
    let reasoning = match kind.as_str() {
        "disabled" => Reasoning { effort: Some(Effort::None), ..Reasoning::default() },
        "enabled" => {
            let budget = thinking.whole("budget_tokens", LEAST_BUDGET, u32::MAX >> 1)?;
            let budget_tokens = Some(budget.ok_or_else(|| thinking.missing("budget_tokens"))?);
            Reasoning { effort, budget_tokens, shown: shown(&mut thinking)? }
        }
        "adaptive" => Reasoning { effort, budget_tokens: None, shown: shown(&mut thinking)? },
        _ => {
            let message = format!(
                "Thinking of the type `{kind}` can't be told to the provider of this model; use `enabled`, `adaptive` or `disabled`."
            );
            return Err(thinking.refuse("type", message));
        }
    };
    thinking.finish()?;
    Ok(Some(reasoning))
}

fn shown(thinking: &mut Object<'_>) -> Result<Option<bool>, Refusal> {
    Ok(thinking.word("display", &["summarized", "omitted"])?.map(|display| display == "summarized"))
}

/// What the provider is told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// `thinking`
    pub(super) thinking: Option<Value>,
    /// `output_config.effort`
    pub(super) effort: Option<&'static str>,
}

/// What a model's provider is told of how to think.
pub(super) fn write(reasoning: &Reasoning, model: &str, max_output: Option<u32>) -> Result<Told, Refusal> {
    if reasoning.budget_tokens == Some(0) || reasoning.effort == Some(Effort::None) {
        return Ok(Told { thinking: Some(json!({"type": "disabled"})), effort: None });
    }
    let takes = Takes::of(model);
    let mut told = match (reasoning.budget_tokens, takes) {
        (Some(budget), Takes::Budget | Takes::Both) => {
            let effort = reasoning.effort.filter(|_| takes == Takes::Both).map(word);
            Told { thinking: Some(enabled(stated(budget, max_output)?)), effort }
        }
        (None, Takes::Budget) => {
            let wanted = reasoning.effort.unwrap_or(Effort::Medium).budget_tokens();
            let room = max_output.map_or(wanted, |cap| wanted.min(cap.saturating_sub(1)));
            // Effort is a wish: where the cap leaves no room for thinking, the answer goes before.
            Told { thinking: (room >= LEAST_BUDGET).then(|| enabled(room)), effort: None }
        }
        (budget, Takes::Both | Takes::Effort) => {
            let effort = reasoning.effort.or(budget.map(Effort::of_budget));
            Told { thinking: Some(json!({"type": "adaptive"})), effort: effort.map(word) }
        }
    };
    // The models that take a budget alone always show what they think.
    if let (Some(shown), Some(Value::Object(thinking))) = (reasoning.shown, &mut told.thinking)
        && takes != Takes::Budget
    {
        let display = if shown { "summarized" } else { "omitted" };
        thinking.insert("display".to_owned(), display.into());
    }
    Ok(told)
}

fn enabled(budget: u32) -> Value {
    json!({"type": "enabled", "budget_tokens": budget})
}

/// A budget that the client stated, when the provider takes it.
fn stated(budget: u32, max_output: Option<u32>) -> Result<u32, Refusal> {
    if budget < LEAST_BUDGET || max_output.is_some_and(|cap| budget >= cap) {
        let message = format!(
            "A thinking budget of {budget} tokens can't be told to the provider of this model: it must be at least {LEAST_BUDGET} and below the cap on the answer's tokens."
        );
        return Err(Refusal::bad("thinking.budget_tokens", message));
    }
    Ok(budget)
}

fn word(effort: Effort) -> &'static str {
    EFFORTS.iter().find(|(_, known)| *known == effort).map_or("low", |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(reasoning: &Reasoning, model: &str, max_output: u32) -> (String, Option<&'static str>) {
        let told = write(reasoning, model, Some(max_output)).unwrap();
        (told.thinking.map(|thinking| thinking.to_string()).unwrap_or_default(), told.effort)
    }

    #[test]
    fn a_model_is_told_to_think_in_the_way_that_it_takes() {
        let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
        let budget = |tokens| Reasoning { budget_tokens: Some(tokens), ..Reasoning::default() };
        let adaptive = r#"{"type":"adaptive"}"#.to_owned();
        let enabled = |tokens: u32| format!(r#"{{"type":"enabled","budget_tokens":{tokens}}}"#);
        assert_eq!(told(&effort(Effort::High), "claude-sonnet-5", 4096), (adaptive.clone(), Some("high")));
        assert_eq!(told(&effort(Effort::Higher), "claude-opus-4-8", 4096), (adaptive.clone(), Some("xhigh")));
        assert_eq!(told(&effort(Effort::Minimal), "claude-opus-4-6", 4096), (adaptive.clone(), Some("low")));
        assert_eq!(told(&effort(Effort::High), "claude-sonnet-4-5-20250929", 64_000), (enabled(4096), None));
        assert_eq!(told(&effort(Effort::High), "claude-sonnet-4-20250514", 2000), (enabled(1999), None));
        assert_eq!(told(&effort(Effort::High), "claude-haiku-4-5", 500), (String::new(), None));
        assert_eq!(told(&budget(5000), "claude-opus-4-6", 8000), (enabled(5000), None));
        assert_eq!(told(&budget(5000), "claude-fable-5", 8000), (adaptive, Some("high")));
        assert_eq!(told(&effort(Effort::None), "claude-sonnet-5", 8000).0, r#"{"type":"disabled"}"#);
        assert_eq!(told(&budget(0), "claude-sonnet-5", 8000).0, r#"{"type":"disabled"}"#);
        assert!(write(&budget(8000), "claude-opus-4-5", Some(8000)).is_err());
        assert!(write(&budget(1000), "claude-opus-4-5", None).is_err());
    }
}
