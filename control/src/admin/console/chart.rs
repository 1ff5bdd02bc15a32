//! Pictures of numbers: bars, in SVG that is made here, in whole numbers. What a picture shows stands in a table or in words beside it.

use std::collections::BTreeMap;

use maud::{Markup, html};

/// The size of the chart, in its own units.
const WIDTH: i64 = 960;
const HEIGHT: i64 = 220;
/// How many models have a colour of their own; the others share one.
const OWN_COLOURS: usize = 5;
/// The most days that are drawn.
const MOST_DAYS: usize = 366;

/// The units of a quota's bar.
const BAR: i64 = 1_000;

/// What is used of a cap: posted, pending, held, in this order. Without a cap there is nothing to draw.
pub(super) fn quota(name: &str, cap: Option<i64>, parts: [i64; 3]) -> Markup {
    let Some(cap) = cap else { return html! {} };
    let mut from = 0;
    let drawn = parts.map(|part| {
        let width = share(part, cap.max(1), BAR).min(BAR.saturating_sub(from));
        let at = from;
        from = from.saturating_add(width);
        (at, width)
    });
    html! {
        svg.quota viewBox={"0 0 " (BAR) " 10"} preserveAspectRatio="none" role="img" aria-label={"What is used of " (name)} {
            rect.room x="0" y="0" width=(BAR) height="10" {}
            @for ((at, width), class) in drawn.into_iter().zip(["posted", "pending", "held"]) {
                rect class=(class) x=(at) y="0" width=(width) height="10" {}
            }
        }
    }
}

/// `part` of `whole`, in units of which the whole has `units`.
fn share(part: i64, whole: i64, units: i64) -> i64 {
    let product = i128::from(part.max(0)).saturating_mul(i128::from(units));
    i64::try_from(product / i128::from(whole.max(1))).unwrap_or(units)
}

/// One amount of a stacked chart: its day, its model, how much in nano-dollars.
pub(super) struct Amount<'a> {
    pub(super) day: &'a str,
    pub(super) model: &'a str,
    pub(super) nanos: i64,
}

/// Costs by day, stacked by model. `shown` is how an amount is written.
pub(super) fn days(amounts: &[Amount<'_>], shown: impl Fn(i64) -> String) -> Markup {
    let models = dearest(amounts);
    let mut by_day: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for amount in amounts.iter().filter(|amount| amount.nanos > 0) {
        let place = models.iter().position(|model| *model == amount.model).unwrap_or(OWN_COLOURS);
        let stack = by_day.entry(amount.day).or_insert_with(|| vec![0; OWN_COLOURS.saturating_add(1)]);
        if let Some(sum) = stack.get_mut(place) {
            *sum = sum.saturating_add(amount.nanos);
        }
    }
    let most = by_day.values().map(|stack| sum(stack)).max().unwrap_or(0);
    if most == 0 || by_day.len() > MOST_DAYS {
        return html! {};
    }
    let count = i64::try_from(by_day.len()).unwrap_or(1).max(1);
    let step = (WIDTH / count).clamp(2, 64);
    let others = by_day.values().any(|stack| stack.get(OWN_COLOURS).is_some_and(|sum| *sum > 0));
    html! {
        figure.chart {
            figcaption { "Cost by day" span.quiet { " · highest " (shown(most)) } }
            svg viewBox={"0 0 " (WIDTH) " " (HEIGHT.saturating_add(22))} role="img" aria-label="Cost by day; the table below has the numbers" {
                line.axis x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                @for (at, (day, stack)) in (0_i64..).zip(&by_day) {
                    (bar((at.saturating_mul(step), step), (day, stack), most, &shown))
                    @if at == 0 || at.saturating_add(1) == count && count > 2 {
                        text x=(at.saturating_mul(step)) y=(HEIGHT.saturating_add(16)) { (day.get(5..).unwrap_or(day)) }
                    }
                }
            }
            ul.legend {
                @for (place, model) in models.iter().enumerate() { li { span class={"c" (place)} {} (model) } }
                @if others { li { span class={"c" (OWN_COLOURS)} {} "others" } }
            }
        }
    }
}

/// A day: what each model cost on top of another.
fn bar((x, step): (i64, i64), (day, stack): (&str, &[i64]), most: i64, shown: &impl Fn(i64) -> String) -> Markup {
    let mut top = HEIGHT;
    let drawn: Vec<_> = stack
        .iter()
        .enumerate()
        .filter(|(_, sum)| **sum > 0)
        .map(|(place, sum)| {
            let height = share(*sum, most, HEIGHT.saturating_sub(8)).max(1);
            top = top.saturating_sub(height);
            (place, top, height)
        })
        .collect();
    html! {
        g {
            title { (day) ": " (shown(sum(stack))) }
            @for (place, top, height) in drawn {
                rect class={"c" (place)} x=(x) y=(top) width=(step.saturating_sub(1 + step / 8)) height=(height) {}
            }
        }
    }
}

fn sum(stack: &[i64]) -> i64 {
    stack.iter().fold(0, |sum, part| sum.saturating_add(*part))
}

/// The models that cost the most, dearest first: as many as have colours.
fn dearest<'a>(amounts: &[Amount<'a>]) -> Vec<&'a str> {
    let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
    for amount in amounts.iter().filter(|amount| amount.nanos > 0) {
        let known = sums.entry(amount.model).or_default();
        *known = known.saturating_add(amount.nanos);
    }
    let mut models: Vec<_> = sums.into_iter().collect();
    models.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    models.into_iter().take(OWN_COLOURS).map(|(model, _)| model).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_longer_than_its_cap_and_shows_each_part() {
        let half = quota("x", Some(100), [50, 25, 5]).into_string();
        assert!(half.contains(r#"class="posted" x="0" y="0" width="500""#), "{half}");
        assert!(half.contains(r#"class="pending" x="500" y="0" width="250""#), "{half}");
        assert!(half.contains(r#"class="held" x="750" y="0" width="50""#), "{half}");
        let over = quota("x", Some(1), [i64::MAX, i64::MAX, -5]).into_string();
        assert!(over.contains(r#"class="posted" x="0" y="0" width="1000""#), "{over}");
        assert!(over.contains(r#"class="pending" x="1000" y="0" width="0""#), "{over}");
        assert_eq!(quota("x", None, [1, 2, 3]).into_string(), "");
    }

    #[test]
    fn days_are_stacked_by_the_dearest_models_and_the_rest_is_one() {
        let model = |n: usize| ["<a>", "b", "c", "d", "e", "f", "g"][n];
        let amounts: Vec<Amount<'_>> = (0..7)
            .map(|n| Amount { day: "2026-11-22", model: model(n), nanos: 100 - i64::try_from(n).unwrap() })
            .collect();
        let drawn = days(&amounts, |nanos| nanos.to_string()).into_string();
        assert_eq!(drawn.matches("<rect").count(), 6, "{drawn}");
        assert!(drawn.contains("&lt;a&gt;") && !drawn.contains("<a>") && drawn.contains("others"), "{drawn}");
        assert!(drawn.contains("2026-11-22: 679"), "{drawn}");
        assert_eq!(days(&[], |_| String::new()).into_string(), "");
    }
}
