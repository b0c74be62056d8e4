//! When a signed statement (a proof, an assertion) was made, and whether that is recent enough.

use vocab::Time;
use vocab::limits::CLOCK_LEEWAY_SECONDS;

/// Why the time of a statement is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Too long ago.
    #[error("it was made {seconds} s ago; at most {max} s are accepted")]
    Old {
        /// Its age.
        seconds: u64,
        /// The most accepted.
        max: u64,
    },
    /// In the future.
    #[error("it is dated {seconds} s ahead of this node's clock; set the clock")]
    Future {
        /// How far.
        seconds: u64,
    },
    /// Made in or before the second in which this node started. What was used up then is not
    /// known any more.
    #[error("it was made before this node started; make a new one")]
    BeforeStart,
}

/// Now, and when the node started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Time,
    pub(crate) boot: Time,
}

impl Moment {
    /// Whether something made at `iat` can be accepted for the first time.
    pub(crate) fn check(self, iat: u64, age_seconds_max: u64) -> Result<(), Stale> {
        let now = self.now.as_secs();
        if iat > now + CLOCK_LEEWAY_SECONDS {
            return Err(Stale::Future { seconds: iat - now });
        }
        let age = now.saturating_sub(iat);
        if age > age_seconds_max {
            return Err(Stale::Old {
                seconds: age,
                max: age_seconds_max,
            });
        }
        if iat <= self.boot.as_secs() {
            return Err(Stale::BeforeStart);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_recent_is_fresh() {
        let check = |iat: u64, expected: Result<(), Stale>| {
            let moment = Moment {
                now: Time::from_secs(1_000),
                boot: Time::from_micros(960_900_000),
            };
            assert_eq!(moment.check(iat, 60), expected, "{iat}");
        };
        check(1_000, Ok(()));
        check(1_005, Ok(()));
        check(1_006, Err(Stale::Future { seconds: 6 }));
        check(961, Ok(()));
        check(960, Err(Stale::BeforeStart));
        check(940, Err(Stale::BeforeStart));
        check(
            939,
            Err(Stale::Old {
                seconds: 61,
                max: 60,
            }),
        );
        check(
            0,
            Err(Stale::Old {
                seconds: 1_000,
                max: 60,
            }),
        );
    }
}
