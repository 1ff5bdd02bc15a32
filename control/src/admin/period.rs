//! Which time a report is about. Beginnings are inclusive, ends exclusive.

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use openclawmu_store::UnixMs;

use crate::admin::refusal::Refusal;

/// The calendar month `YYYY-MM` in UTC: the one zone that all tenants' bills can share.
pub(super) fn month(text: &str) -> Result<(UnixMs, UnixMs), Refusal> {
    let refused = || Refusal::invalid("period", "period must be a month such as 2026-11");
    let first: Date = Some(text)
        .filter(|text| text.len() == 7)
        .and_then(|text| format!("{text}-01").parse().ok())
        .ok_or_else(refused)?;
    let next = first.checked_add(1.month()).map_err(|_| refused())?;
    Ok((start_of(first, &TimeZone::UTC).ok_or_else(refused)?, start_of(next, &TimeZone::UTC).ok_or_else(refused)?))
}

/// An instant (RFC 3339), or a date for its first moment in `zone`.
pub(super) fn instant(field: &str, text: &str, zone: &TimeZone) -> Result<UnixMs, Refusal> {
    let date = text.parse::<Date>().ok().filter(|_| text.len() == 10);
    let at = match date {
        Some(date) => start_of(date, zone),
        None => UnixMs::parse_rfc3339(text).ok(),
    };
    at.ok_or_else(|| {
        Refusal::invalid(
            field,
            format!("{field} must be an instant such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01"),
        )
    })
}

/// The first moment of the month that `at` falls into.
pub(super) fn month_start(at: UnixMs, zone: &TimeZone) -> UnixMs {
    let date = jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_zoned(zone.clone()).date().first_of_month());
    date.ok().and_then(|date| start_of(date, zone)).unwrap_or(at)
}

/// Midnight, or what follows it where the clocks skip midnight.
fn start_of(date: Date, zone: &TimeZone) -> Option<UnixMs> {
    let at = zone.to_ambiguous_zoned(date.at(0, 0, 0, 0)).compatible().ok()?;
    Some(UnixMs(at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_month_begins_and_ends_in_utc() {
        assert_eq!(month("2026-12").unwrap(), (at("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
        for bad in ["", "2026", "2026-13", "2026-1", "2026-11-01", "11-2026", "2026-00", "-026-11"] {
            assert!(month(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_date_is_its_first_moment_in_the_tenants_zone() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(instant("from", "2026-07-01", &berlin).unwrap(), at("2026-06-30T22:00:00Z"));
        assert_eq!(instant("from", "2026-07-01T00:00:00Z", &berlin).unwrap(), at("2026-07-01T00:00:00Z"));
        for bad in ["", "yesterday", "2026-02-30", "2026-07-01T00:00:00", "20260701"] {
            assert!(instant("from", bad, &berlin).is_err(), "{bad}");
        }
        assert_eq!(month_start(at("2026-10-31T23:30:00Z"), &berlin), at("2026-10-31T23:00:00Z"));
    }
}
