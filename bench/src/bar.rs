//! A promise in numbers, and the figure that is held against it.

use serde::Serialize;

/// Which way a figure may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sense {
    /// Not above the limit.
    AtMost,
    /// Not below it.
    AtLeast,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Bar {
    /// Of what, with its unit.
    pub(crate) figure: &'static str,
    /// Which side of the limit is good.
    pub(crate) sense: Sense,
    /// The limit.
    pub(crate) limit: f64,
    /// What was measured.
    pub(crate) value: f64,
}

impl Bar {
    /// A figure that may be `limit` at most.
    pub(crate) fn at_most(figure: &'static str, limit: f64, value: f64) -> Self {
        Self { figure, sense: Sense::AtMost, limit, value }
    }

    /// A figure that must be `limit` at least.
    pub(crate) fn at_least(figure: &'static str, limit: f64, value: f64) -> Self {
        Self { figure, sense: Sense::AtLeast, limit, value }
    }

    /// Whether it is met.
    pub(crate) fn is_met(&self) -> bool {
        match self.sense {
            Sense::AtMost => self.value <= self.limit,
            Sense::AtLeast => self.value >= self.limit,
        }
    }

    /// One line of a report.
    pub(crate) fn text(&self, of: &str) -> String {
        let sign = match self.sense {
            Sense::AtMost => "<=",
            Sense::AtLeast => ">=",
        };
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        let Self { figure, limit, value, .. } = self;
        format!("bar {of:<22} {figure:<34} {sign} {limit:<8.2} {value:>9.3}   {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_on_the_limit_meets_it_from_either_side_and_one_beyond_it_does_not() {
        assert!(Bar::at_most("x", 1.8, 1.8).is_met() && Bar::at_least("x", 1.8, 1.8).is_met());
        assert!(!Bar::at_most("x", 1.8, 1.81).is_met() && !Bar::at_least("x", 1.8, 1.79).is_met());
        assert!(!Bar::at_most("x", 1.8, f64::NAN).is_met() && !Bar::at_least("x", 1.8, f64::NAN).is_met());
    }
}
