//! Time, as an argument: microseconds since the Unix epoch, shown in RFC 3339.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment: microseconds since 1970-01-01T00:00:00Z.
///
/// Text form: `2026-11-21T09:51:02.000123Z`, always UTC, always six decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the epoch (a JWT's `NumericDate`).
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This moment and `by` more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// This moment less `by`, not before the epoch.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// How long after `earlier` this is; zero if it is not after.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The UTC day, `2026-11-21`.
    pub fn day(self) -> String {
        let (year, month, day) = civil(self.as_secs() / 86_400);
        format!("{year:04}-{month:02}-{day:02}")
    }
}

/// Days since the epoch to year, month, day, by the era-based method for the proleptic Gregorian
/// calendar: eras of 400 years, years that begin in March.
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

const fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y / 400;
    let yoe = y % 400;
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    (era * 146_097 + doe).saturating_sub(719_468)
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        let (year, month, day) = civil(secs / 86_400);
        let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
        let micros = self.0 % 1_000_000;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is not a time in the form that [`Time`] shows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a time is written `2026-11-21T09:51:02.000123Z` or `2026-11-21`")]
pub struct TimeError;

impl FromStr for Time {
    type Err = TimeError;

    /// Reads what [`Time`] shows, with zero to six decimals, or a bare UTC day.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        fn number(text: Option<&str>) -> Result<u64, TimeError> {
            let text = text.ok_or(TimeError)?;
            if text.is_empty() || text.len() > 6 || !text.bytes().all(|b| b.is_ascii_digit()) {
                return Err(TimeError);
            }
            text.parse().map_err(|_| TimeError)
        }
        let (date, clock) = match text.split_once('T') {
            Some((date, clock)) => (date, clock.strip_suffix('Z').ok_or(TimeError)?),
            None => (text, "00:00:00"),
        };
        let mut parts = date.split('-');
        let (year, month, day) = (
            number(parts.next())?,
            number(parts.next())?,
            number(parts.next())?,
        );
        if parts.next().is_some()
            || !(1970..=9999).contains(&year)
            || !(1..=12).contains(&month)
            || !(1..=31).contains(&day)
        {
            return Err(TimeError);
        }
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let mut parts = clock.split(':');
        let (hour, minute, second) = (
            number(parts.next())?,
            number(parts.next())?,
            number(parts.next())?,
        );
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
            return Err(TimeError);
        }
        let digits = u32::try_from(fraction.len()).map_err(|_| TimeError)?;
        let micros =
            number(Some(fraction))? * 10_u64.pow(6_u32.checked_sub(digits).ok_or(TimeError)?);
        let days = days_of(year, month, day);
        if civil(days) != (year, month, day) {
            return Err(TimeError);
        }
        Ok(Self(
            (days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000 + micros,
        ))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall clock. It may jump; who needs order asks a log.
    fn now(&self) -> Time;
    /// A clock that only goes forward, from an arbitrary start.
    fn elapsed(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: std::time::Instant,
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clocks"
)]
impl SystemClock {
    /// A clock whose [`Clock::elapsed`] starts now.
    pub fn new() -> Self {
        Self {
            start: std::time::Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the clocks"
)]
impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Time::EPOCH.plus(since)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, micros: u64) {
        let time = Time::from_micros(micros);
        assert_eq!(time.to_string(), text);
        assert_eq!(text.parse(), Ok(time));
    }

    #[test]
    fn times_read_what_they_show() {
        check("1970-01-01T00:00:00.000000Z", 0);
        check("2000-02-29T12:34:56.000001Z", 951_827_696_000_001);
        check("2026-11-21T09:51:02.123456Z", 1_795_254_662_123_456);
        check("2100-03-01T00:00:00.000000Z", 4_107_542_400_000_000);
    }

    #[test]
    fn short_forms_and_bad_forms() {
        assert_eq!("2026-11-21".parse(), Ok(Time::from_secs(1_795_219_200)));
        assert_eq!(
            "2026-11-21T00:00:00.5Z".parse(),
            Ok(Time::from_micros(1_795_219_200_500_000))
        );
        for bad in [
            "",
            "2026-02-30",
            "2026-13-01",
            "1969-12-31",
            "2026-11-21T25:00:00Z",
            "x",
        ] {
            assert_eq!(bad.parse::<Time>(), Err(TimeError), "{bad}");
        }
    }
}
