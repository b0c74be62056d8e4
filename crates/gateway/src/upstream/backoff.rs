//! How long to leave an upstream alone that failed.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(200);
/// The longest wait. A link that held for as long is taken to be well.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// It failed after it had held for `held`.
    pub(super) fn failed(&mut self, now: Instant, held: Duration) {
        if held >= LONGEST {
            self.failures = 0;
        }
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait);
    }

    /// How often it failed, and how long to wait; `None` if it may be tried.
    pub(super) fn wait(&self, now: Instant) -> Option<(u32, Duration)> {
        let left = self.until?.checked_duration_since(now)?;
        (!left.is_zero()).then_some((self.failures, left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait(now), None);
        let mut waits = Vec::new();
        for _ in 0..40 {
            backoff.failed(now, Duration::ZERO);
            waits.push(backoff.wait(now).unwrap().1.as_millis());
        }
        assert_eq!(
            waits[..9],
            [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]
        );
        assert!(waits[9..].iter().all(|wait| *wait == 30_000));
        assert_eq!(backoff.wait(now + LONGEST), None, "then it may be tried");
        backoff.failed(now, LONGEST);
        assert_eq!(backoff.wait(now).unwrap(), (1, FIRST), "it had been well");
    }
}
