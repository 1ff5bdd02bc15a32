//! Which month a report is about.

use openclawmu_store::{Month, UnixMs, Windows, Zone};

use crate::admin::refusal::Refusal;

/// A calendar month. Each tenant has its own, by its zone; the instants are those of UTC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) month: Month,
    pub(super) from: UnixMs,
    pub(super) to: UnixMs,
}

/// Reads `YYYY-MM`.
pub(super) fn month(text: &str) -> Result<Period, Refusal> {
    let refused = || Refusal::invalid("period", "period must be a month such as 2026-11");
    let month: Month = text.parse().map_err(|_| refused())?;
    let from = Zone::utc().instant(&format!("{month}-01")).ok_or_else(refused)?;
    Ok(Period { month, from, to: Windows::at(from, &Zone::utc()).month_ends_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_month_begins_and_ends_in_utc() {
        let december = Period { month: Month(683), from: at("2026-12-01T00:00:00Z"), to: at("2027-01-01T00:00:00Z") };
        assert_eq!(month("2026-12").unwrap(), december);
        for bad in ["", "2026", "2026-13", "2026-1", "2026-11-01", "11-2026", "2026-00", "-026-11"] {
            assert!(month(bad).is_err(), "{bad}");
        }
    }
}
