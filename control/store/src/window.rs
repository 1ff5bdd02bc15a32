//! Calendar windows: which day and month an instant belongs to for a tenant, and when they end.
//!
//! A window's id is a pure function of (instant, time zone). Nothing is swept at midnight: a budget notices on its next
//! use that its window is over.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil};

use crate::clock::UnixMs;

/// Days from 1970 to past the end of the calendar, which is the year 9999.
const MOST_DAYS: i32 = 4_000_000;

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

    /// Reads an instant (RFC 3339), or a date for its first moment here.
    #[must_use]
    pub fn instant(&self, text: &str) -> Option<UnixMs> {
        match text.parse::<civil::Date>().ok().filter(|_| text.len() == 10) {
            Some(date) => Some(start_of(date, self)).filter(|at| at.0 != i64::MAX),
            None => UnixMs::parse_rfc3339(text).ok(),
        }
    }

    /// The number of the day whose first moment `at` is; `None` for any other moment.
    pub(crate) fn day_that_starts_at(&self, at: UnixMs) -> Option<i32> {
        let day = Windows::at(at, self).day;
        (Windows::end_of_day(day.saturating_sub(1), self) == at).then_some(day)
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
            month: month_number(date),
            month_started_at: start_of(date.first_of_month(), zone),
            day_ends_at: start_of(date.saturating_add(1.day()), zone),
            month_ends_at: start_of(next_month, zone),
        }
    }

    /// The month window that the days of a calendar are in: that of day `day`.
    pub(crate) fn month_of_day(day: i32) -> i32 {
        let known = day.clamp(-MOST_DAYS, MOST_DAYS);
        month_number(civil::date(1970, 1, 1).saturating_add(known.days()))
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

/// A calendar month, in months since 1970-01; prints and parses as `YYYY-MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, utoipa::ToSchema)]
#[schema(value_type = String, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
pub struct Month(pub i32);

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", 1970 + self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

impl std::str::FromStr for Month {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let first = Some(text).filter(|text| text.len() == 7).and_then(|text| format!("{text}-01").parse().ok());
        let first: civil::Date = first.ok_or_else(|| format!("`{text}` is not a month such as 2026-11"))?;
        Ok(Self(month_number(first)))
    }
}

impl serde::Serialize for Month {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Month {
    /// When the month is over in every zone of the world: twelve hours after it is over in UTC.
    #[must_use]
    pub fn over_everywhere_at(self) -> UnixMs {
        Windows::end_of_month(self.0, &Zone::utc()).plus_ms(12 * 3_600_000)
    }
}

/// The day window's id of a date as `YYYY-MM-DD`; `None` when it is none.
#[must_use]
pub fn day_of(name: &str) -> Option<i32> {
    let plain = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    name.parse().ok().filter(|_| plain).map(day_number)
}

/// The civil date of a day window's id, as `YYYY-MM-DD`.
#[must_use]
pub fn day_name(day: i32) -> String {
    civil::date(1970, 1, 1).saturating_add(day.days()).to_string()
}

fn month_number(date: civil::Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month()) - 1 - 1970 * 12
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
    fn a_month_is_told_by_year_and_number() {
        for (text, number) in [("1970-01", 0), ("2026-11", 682), ("1969-12", -1)] {
            let month: Month = text.parse().unwrap();
            assert_eq!((month.0, month.to_string().as_str()), (number, text));
        }
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-11", "2026-11-01", "2026/11", "-026-11"] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
        let november: Month = "2026-11".parse().unwrap();
        assert_eq!(november.over_everywhere_at(), at("2026-12-01T12:00:00Z"));
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
    fn a_date_is_its_first_moment_and_only_that_begins_the_day() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let midnight = at("2026-06-30T22:00:00Z");
        assert_eq!(berlin.instant("2026-07-01"), Some(midnight));
        assert_eq!(berlin.instant("2026-07-01T00:00:00Z"), Some(at("2026-07-01T00:00:00Z")));
        for bad in ["", "yesterday", "2026-02-30", "2026-07-01T00:00:00", "20260701"] {
            assert_eq!(berlin.instant(bad), None, "{bad}");
        }
        let day = Windows::at(midnight, &berlin).day;
        assert_eq!((day_name(day).as_str(), berlin.day_that_starts_at(midnight)), ("2026-07-01", Some(day)));
        assert_eq!(berlin.day_that_starts_at(midnight.plus_ms(1)), None);
        assert_eq!(Windows::month_of_day(day), Windows::at(midnight, &berlin).month);
        let beirut = Zone::parse("Asia/Beirut").unwrap();
        let skipped = beirut.instant("2024-03-31").unwrap();
        assert_eq!(beirut.day_that_starts_at(skipped), Some(Windows::at(skipped, &beirut).day));
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
