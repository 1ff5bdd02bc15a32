//! What a meter counts, and a tenant's sums by day.

use std::ops::Range;
use std::sync::LazyLock;

use rusqlite::{Connection, params};

use crate::error::Result;
use crate::id::TenantKey;
use crate::ledger::rollup::USAGE_COLUMNS;
use crate::usage::Usage;

/// Nano-dollars in a micro-dollar.
const NANOS_PER_MICRO: i128 = 1_000;
/// The end of the names of those of [`USAGE_COLUMNS`] that count tokens.
const TOKENS: &str = "_tokens";

/// A meter at Stripe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its event name there.
    pub event_name: String,
    /// What it counts.
    pub measure: Measure,
}

/// What a meter counts, in whole units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Cost and markup.
    Billed {
        nanos: bool,
    },
    Cost {
        nanos: bool,
    },
    Requests,
    /// All tokens together.
    Tokens,
    /// One of [`USAGE_COLUMNS`].
    Usage(usize),
}

impl Measure {
    /// Reads a name such as `billed_micro_usd` or `output_tokens`; `None` when there is no such measure.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|measure| measure.name() == name)
    }

    /// Every measure.
    pub fn all() -> impl Iterator<Item = Self> {
        let money = [true, false].into_iter().flat_map(|nanos| [Kind::Billed { nanos }, Kind::Cost { nanos }]);
        let counts = [Kind::Requests, Kind::Tokens].into_iter();
        money.chain(counts).chain((0..Usage::COUNTS).map(Kind::Usage)).map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Billed { nanos: true } => "billed_nano_usd",
            Kind::Billed { nanos: false } => "billed_micro_usd",
            Kind::Cost { nanos: true } => "cost_nano_usd",
            Kind::Cost { nanos: false } => "cost_micro_usd",
            Kind::Requests => "requests",
            Kind::Tokens => "tokens",
            Kind::Usage(at) => USAGE_COLUMNS.get(at).copied().unwrap_or_default(),
        }
    }

    /// How many of what [`Measure::of`] gives make one unit.
    pub(super) fn unit(self) -> i128 {
        match self.0 {
            Kind::Billed { nanos: false } | Kind::Cost { nanos: false } => NANOS_PER_MICRO,
            Kind::Billed { nanos: true }
            | Kind::Cost { nanos: true }
            | Kind::Requests
            | Kind::Tokens
            | Kind::Usage(_) => 1,
        }
    }

    /// Of a day's sums, what it counts.
    pub(super) fn of(self, sums: &DaySums) -> i128 {
        match self.0 {
            Kind::Billed { .. } => i128::from(sums.cost) + i128::from(sums.markup),
            Kind::Cost { .. } => sums.cost.into(),
            Kind::Requests => sums.requests.into(),
            Kind::Tokens => {
                let named = USAGE_COLUMNS.iter().zip(&sums.usage);
                named.filter(|(name, _)| name.ends_with(TOKENS)).map(|(_, sum)| i128::from(*sum)).sum()
            }
            Kind::Usage(at) => sums.usage.get(at).copied().unwrap_or_default().into(),
        }
    }
}

/// A tenant's sums of one day.
#[derive(Clone, Debug, Default)]
pub(super) struct DaySums {
    pub(super) requests: i64,
    pub(super) cost: i64,
    pub(super) markup: i64,
    pub(super) usage: [i64; Usage::COUNTS],
}

/// The sums are keyed by month first, so each month is looked up by itself.
static DAYS: LazyLock<String> = LazyLock::new(|| {
    let sums: Vec<String> = USAGE_COLUMNS.iter().map(|column| format!("sum(u.{column})")).collect();
    format!(
        "WITH RECURSIVE months (month) AS (SELECT ?2 UNION ALL SELECT month + 1 FROM months WHERE month < ?3)
         SELECT u.day, sum(u.requests), sum(u.cost_nanos), sum(u.markup_nanos), {}
         FROM months CROSS JOIN usage_days u ON u.month = months.month AND u.tenant = ?1
         WHERE u.day >= ?4 AND u.day < ?5 GROUP BY u.day ORDER BY u.day",
        sums.join(", ")
    )
});

/// The sums of a tenant's `days` that have any, in order.
pub(super) fn days(
    conn: &Connection,
    tenant: TenantKey,
    (first, last): (i32, i32),
    days: &Range<i32>,
) -> Result<Vec<(i32, DaySums)>> {
    let mut statement = conn.prepare_cached(&DAYS)?;
    let mut rows = statement.query(params![tenant.0, first, last, days.start, days.end])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut sums = DaySums { requests: row.get(1)?, cost: row.get(2)?, markup: row.get(3)?, ..DaySums::default() };
        for (at, sum) in sums.usage.iter_mut().enumerate() {
            *sum = row.get(at + 4)?;
        }
        found.push((row.get(0)?, sums));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_is_found_by_its_name_and_no_name_is_two_measures() {
        let names: Vec<_> = Measure::all().map(Measure::name).collect();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
        for measure in Measure::all() {
            assert_eq!(Measure::parse(measure.name()), Some(measure));
        }
        assert_eq!(Measure::parse("billed"), None);
    }

    #[test]
    fn all_tokens_are_those_that_a_token_quota_counts() {
        let usage = std::array::from_fn(|at| i64::try_from(at).unwrap() + 1);
        let counted = Usage::from_counts(usage.map(|count| u32::try_from(count).unwrap())).total_tokens();
        let sums = DaySums { usage, ..DaySums::default() };
        assert_eq!(Measure(Kind::Tokens).of(&sums), i128::from(counted));
    }
}
