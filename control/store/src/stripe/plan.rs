//! How much of which day is still to be told. Pure arithmetic.
//!
//! What was told up to any day never passes what was used up to that day: so a part of a unit is carried to the next day, and
//! a credit is taken off whatever comes after it, since a negative value could bring an invoice below zero, which Stripe cuts.

/// A day of one tenant and meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    /// The day window's number.
    pub(super) number: i32,
    /// What was used, in parts of a unit; negative where more was credited.
    pub(super) total: i128,
    /// The units that were written for it.
    pub(super) written: i128,
    /// The number of its last event.
    pub(super) seq: i64,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Units to tell, by day.
    pub(super) events: Vec<(Day, i64)>,
    /// Units that can't be told any more.
    pub(super) expired: Vec<(Day, i64)>,
    /// Units that were told too many, as a negative number.
    pub(super) carried: i64,
}

/// Compares what was used with what was written, over `days` in order. `takes` says whether a day can still be told.
pub(super) fn plan(days: &[Day], unit: i128, takes: impl Fn(i32) -> bool) -> Plan {
    let (mut used, mut written) = (0_i128, 0_i128);
    let mut missing: Vec<i128> = days
        .iter()
        .map(|day| {
            used = used.saturating_add(day.total);
            written = written.saturating_add(day.written);
            used.div_euclid(unit).saturating_sub(written)
        })
        .collect();
    let owed = missing.last().copied().unwrap_or(0);
    // What a later day's credit takes back must not be told now.
    let mut least = i128::MAX;
    for gap in missing.iter_mut().rev() {
        least = least.min(*gap);
        *gap = least;
    }
    let (mut events, mut expired, mut given) = (Vec::new(), Vec::new(), 0_i128);
    for (day, gap) in days.iter().zip(missing) {
        let value = i64::try_from(gap.saturating_sub(given)).unwrap_or(i64::MAX);
        if value <= 0 {
            continue;
        }
        given = given.saturating_add(value.into());
        if takes(day.number) {
            events.push((*day, value));
        } else {
            expired.push((*day, value));
        }
    }
    let carried = i64::try_from(owed.saturating_sub(given).min(0)).unwrap_or(i64::MIN);
    Plan { events, expired, carried }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(totals: &[i128], written: &[i128]) -> Vec<Day> {
        let pairs = totals.iter().zip(written).zip(0..);
        pairs.map(|((total, written), number)| Day { number, total: *total, written: *written, seq: 0 }).collect()
    }

    fn told(plan: &Plan) -> Vec<(i32, i64)> {
        plan.events.iter().map(|(day, value)| (day.number, *value)).collect()
    }

    #[test]
    fn a_day_is_told_by_what_it_grew() {
        let plan = plan(&days(&[10, 5, 7], &[10, 2, 0]), 1, |_| true);
        assert_eq!((told(&plan), plan.carried), (vec![(1, 3), (2, 7)], 0));
    }

    #[test]
    fn parts_of_a_unit_are_carried_to_the_next_day() {
        let plan = plan(&days(&[1_500, 1_500, 999], &[0, 0, 0]), 1_000, |_| true);
        assert_eq!((told(&plan), plan.carried), (vec![(0, 1), (1, 2)], 0));
    }

    #[test]
    fn a_credit_is_taken_off_what_comes_later() {
        let after_credit = plan(&days(&[10, -3], &[10, 0]), 1, |_| true);
        assert_eq!((told(&after_credit), after_credit.carried), (vec![], -3));
        let later = plan(&days(&[10, -3, 5], &[10, 0, 0]), 1, |_| true);
        assert_eq!((told(&later), later.carried), (vec![(2, 2)], 0));
    }

    #[test]
    fn a_credit_that_came_before_the_first_push_leaves_nothing_to_carry() {
        let plan = plan(&days(&[10, -3], &[0, 0]), 1, |_| true);
        assert_eq!((told(&plan), plan.carried), (vec![(0, 7)], 0));
    }

    #[test]
    fn a_day_that_stripe_does_not_take_any_more_is_listed_and_moved_to_no_other() {
        let plan = plan(&days(&[10, 5], &[0, 0]), 1, |day| day > 0);
        assert_eq!(told(&plan), [(1, 5)]);
        assert_eq!(plan.expired.iter().map(|(day, value)| (day.number, *value)).collect::<Vec<_>>(), [(0, 10)]);
    }

    proptest! {
        /// Usage and credits come on any day in any order, pushes in between: in the end Stripe has heard the whole.
        #[test]
        fn whatever_is_posted_and_credited_stripe_hears_the_whole_and_never_more(
            steps in prop::collection::vec((0_usize..6, -500_i128..2_000), 1..40), unit in prop::sample::select(vec![1_i128, 7, 1_000])
        ) {
            let (mut totals, mut written) = ([0_i128; 6], [0_i128; 6]);
            for (day, amount) in steps {
                totals[day] += amount;
                let before: i128 = written.iter().sum();
                let plan = plan(&days(&totals, &written), unit, |_| true);
                for (day, value) in &plan.events {
                    prop_assert!(*value > 0);
                    written[usize::try_from(day.number).unwrap()] += i128::from(*value);
                }
                let (owed, heard) = (totals.iter().sum::<i128>().div_euclid(unit), written.iter().sum::<i128>());
                // Never above the whole, unless it was heard before it was credited; then that is carried.
                prop_assert!(heard <= owed.max(before));
                prop_assert_eq!(i128::from(plan.carried), (owed - heard).min(0));
                if heard < owed {
                    // Only where a day alone is credited below zero may something wait: at the end nothing does.
                    prop_assert!(false, "{heard} of {owed} was told");
                }
            }
        }
    }
}
