//! Calendar windows: which day and month an instant belongs to for a tenant, and when they end.
//!
//! A window's id is a pure function of (instant, time zone). Nothing is swept at midnight: a budget notices on its next
//! use that its window is over.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil};

use crate::clock::UnixMs;

/// A time zone in which a tenant's days and months begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Reads an IANA name such as `Europe/Berlin`, or `UTC`. The database is built in.
    ///
    /// # Errors
    /// The sentence to show when the name is unknown.
    pub fn parse(name: &str) -> Result<Self, String> {
        TimeZone::get(name)
            .map(Self)
            .map_err(|_| format!("`{name}` is not an IANA time zone such as Europe/Berlin or UTC"))
    }

    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self(TimeZone::UTC)
    }
}

/// The calendar windows of one instant: days since 1970-01-01 and months since 1970-01, both in the tenant's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Days since 1970-01-01.
    pub day: i32,
    /// Months since 1970-01.
    pub month: i32,
    /// When the month began.
    pub month_started_at: UnixMs,
    /// When the day ends, exclusive.
    pub day_ends_at: UnixMs,
    /// When the month ends, exclusive.
    pub month_ends_at: UnixMs,
}

impl Windows {
    /// The windows that `at` falls into.
    #[must_use]
    pub fn at(at: UnixMs, zone: &Zone) -> Self {
        let instant = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
        let date = zone.0.to_datetime(instant).date();
        let next_month = date.first_of_month().saturating_add(1.month());
        Self {
            day: day_number(date),
            month: i32::from(date.year()) * 12 + i32::from(date.month()) - 1 - 1970 * 12,
            month_started_at: start_of(date.first_of_month(), zone),
            day_ends_at: start_of(date.saturating_add(1.day()), zone),
            month_ends_at: start_of(next_month, zone),
        }
    }

    /// When day window `day` ends in `zone`, whatever zone it was opened in.
    pub(crate) fn end_of_day(day: i32, zone: &Zone) -> UnixMs {
        start_of(civil::date(1970, 1, 1).saturating_add(day.saturating_add(1).days()), zone)
    }

    /// When month window `month` ends in `zone`.
    pub(crate) fn end_of_month(month: i32, zone: &Zone) -> UnixMs {
        start_of(civil::date(1970, 1, 1).saturating_add(month.saturating_add(1).months()), zone)
    }
}

/// The civil date of a day window's id, as `YYYY-MM-DD`.
#[must_use]
pub fn day_name(day: i32) -> String {
    civil::date(1970, 1, 1).saturating_add(day.days()).to_string()
}

fn day_number(date: civil::Date) -> i32 {
    date.since(civil::date(1970, 1, 1)).map_or(0, |span| span.get_days())
}

/// The first instant of a civil day: midnight, or what follows it where the clocks skip midnight.
fn start_of(date: civil::Date, zone: &Zone) -> UnixMs {
    let at = zone.0.to_ambiguous_zoned(date.at(0, 0, 0, 0)).compatible();
    UnixMs(at.map_or(i64::MAX, |at| at.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMs {
        UnixMs::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn days_and_months_follow_the_tenants_zone() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let windows = Windows::at(at("2026-10-31T23:30:00Z"), &berlin);
        assert_eq!(day_name(windows.day), "2026-11-01");
        assert_eq!(windows.month, (2026 - 1970) * 12 + 10);
        let utc = Windows::at(at("2026-10-31T23:30:00Z"), &Zone::utc());
        assert_eq!(day_name(utc.day), "2026-10-31");
        assert_eq!(utc.day_ends_at, at("2026-11-01T00:00:00Z"));
        assert_eq!(utc.month_ends_at, at("2026-11-01T00:00:00Z"));
    }

    #[test]
    fn the_end_of_a_window_is_found_by_its_number() {
        for (name, text) in [
            ("UTC", "2026-11-18T12:00:00Z"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z"),
            ("Asia/Beirut", "2024-03-30T12:00:00Z"),
            ("America/Lima", "1969-12-31T23:00:00Z"),
        ] {
            let zone = Zone::parse(name).unwrap();
            let windows = Windows::at(at(text), &zone);
            assert_eq!(Windows::end_of_day(windows.day, &zone), windows.day_ends_at, "{name}");
            assert_eq!(Windows::end_of_month(windows.month, &zone), windows.month_ends_at, "{name}");
        }
    }

    #[test]
    fn a_day_of_25_hours_is_one_window() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let first = Windows::at(at("2026-10-24T22:00:00Z"), &berlin);
        let last = Windows::at(at("2026-10-25T22:59:59Z"), &berlin);
        assert_eq!(first.day, last.day);
        assert_eq!(first.day_ends_at, at("2026-10-25T23:00:00Z"));
        assert_eq!(Windows::at(first.day_ends_at, &berlin).day, first.day + 1);
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_starts_at_one() {
        let beirut = Zone::parse("Asia/Beirut").unwrap();
        let before = Windows::at(at("2024-03-30T12:00:00Z"), &beirut);
        assert_eq!(before.day_ends_at, at("2024-03-30T22:00:00Z"));
        assert_eq!(Windows::at(before.day_ends_at, &beirut).day, before.day + 1);
    }
}
