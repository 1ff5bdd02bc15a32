//! Order statistics of small samples. Integer ranks, so that the same samples always give the same answer.
//! Never averages: one disturbed run on a shared machine must not move a figure.

/// The middle and the two ends of a sample.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    /// The middle value; the mean of the two middle ones where the count is even.
    pub(crate) median: f64,
    /// The smallest value.
    pub(crate) min: f64,
    /// The largest value.
    pub(crate) max: f64,
}

impl Spread {
    /// Of the given values, in any order; none of an empty sample.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// The nearest-rank percentile of an ascending sample; `per_mille` is 500 for p50, 990 for p99.
pub(crate) fn percentile(ascending: &[u64], per_mille: usize) -> Option<u64> {
    let rank = ascending.len().saturating_mul(per_mille).div_ceil(1000);
    ascending.get(rank.saturating_sub(1)).copied()
}

/// Microseconds in milliseconds, to be printed.
pub(crate) fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_odd_count_is_the_middle_value() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
    }

    #[test]
    fn median_of_an_even_count_is_between_the_two_middle_values() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn an_empty_sample_has_no_spread_and_no_percentile() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(percentile(&[], 500), None);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 500), Some(50));
        assert_eq!(percentile(&hundred, 990), Some(99));
        assert_eq!(percentile(&hundred, 1000), Some(100));
        assert_eq!(percentile(&[7], 500), Some(7));
        assert_eq!(percentile(&[7], 0), Some(7));
        assert_eq!(percentile(&[1, 2, 3], 500), Some(2));
    }
}
