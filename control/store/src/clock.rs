//! Time as a parameter, so that windows and expiry can be tested at any instant.
//!
//! Nothing in the workspace may read the wall clock but [`SystemClock`].

use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

/// Milliseconds since the Unix epoch, UTC.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = DateTime, example = "2026-11-01T00:00:00.000Z")]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The instant `ms` milliseconds later; saturates at the ends of time.
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// As RFC 3339 in UTC with milliseconds, the form of every API answer.
    #[must_use]
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| self.0.to_string(), |at| format!("{at:.3}"))
    }

    /// Reads an RFC 3339 instant.
    ///
    /// # Errors
    /// The parser's own words when `text` is not an instant with an offset.
    pub fn parse_rfc3339(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>().map(|at| Self(at.as_millisecond())).map_err(|err| err.to_string())
    }
}

/// The form of an instant in the API, for serde's `with`.
pub(crate) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UnixMs;

    pub(crate) fn serialize<S: Serializer>(at: &UnixMs, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.rfc3339())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixMs, D::Error> {
        let text = String::deserialize(deserializer)?;
        UnixMs::parse_rfc3339(&text)
            .map_err(|_| serde::de::Error::custom(format!("`{text}` is not an instant such as 2026-11-01T00:00:00Z")))
    }
}

/// The same where the instant may be absent or null.
pub(crate) mod rfc3339_option {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UnixMs;

    #[expect(clippy::ref_option, reason = "serde's serialize_with passes a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(at: &Option<UnixMs>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::rfc3339::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UnixMs>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let parse = |text: String| {
            UnixMs::parse_rfc3339(&text).map_err(|_| {
                serde::de::Error::custom(format!("`{text}` is not an instant such as 2026-11-01T00:00:00Z"))
            })
        };
        text.map(parse).transpose()
    }
}

/// A source of wall-clock time.
pub trait Clock: Send + Sync + Debug {
    /// Now. May go backwards: callers that need order keep their own floor.
    fn now(&self) -> UnixMs;

    /// Milliseconds since some fixed moment; never goes backwards. For rates and durations.
    fn monotonic_ms(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
    fn now(&self) -> UnixMs {
        UnixMs(jiff::Timestamp::now().as_millisecond())
    }

    fn monotonic_ms(&self) -> i64 {
        static START: OnceLock<Instant> = OnceLock::new();
        i64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// A clock that stands still until it is told otherwise; for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64, AtomicI64);

impl ManualClock {
    /// A clock standing at `at`.
    #[must_use]
    pub fn new(at: UnixMs) -> Self {
        Self(AtomicI64::new(at.0), AtomicI64::new(at.0))
    }

    /// Moves the clock, in either direction.
    pub fn set(&self, at: UnixMs) {
        self.0.store(at.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> i64 {
        self.1.fetch_max(self.0.load(Ordering::SeqCst), Ordering::SeqCst).max(self.0.load(Ordering::SeqCst))
    }
}
