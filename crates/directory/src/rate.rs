//! How many requests a minute: a bucket that fills by itself.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vocab::Clock;

/// A bucket of requests.
pub struct Rate {
    clock: Arc<dyn Clock>,
    per_minute: u32,
    left: Mutex<Left>,
}

struct Left {
    requests: f64,
    as_of: Duration,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate")
            .field("per_minute", &self.per_minute)
            .finish_non_exhaustive()
    }
}

impl Rate {
    /// A full one.
    pub fn new(clock: Arc<dyn Clock>, per_minute: u32) -> Self {
        let left = Left {
            requests: f64::from(per_minute),
            as_of: clock.elapsed(),
        };
        Self {
            clock,
            per_minute,
            left: Mutex::new(left),
        }
    }

    /// Takes one out, if there is one.
    pub fn take(&self) -> bool {
        let now = self.clock.elapsed();
        let most = f64::from(self.per_minute);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_sub(left.as_of).as_secs_f64();
        left.as_of = now;
        left.requests = (left.requests + passed * most / 60.0).min(most);
        if left.requests < 1.0 {
            return false;
        }
        left.requests -= 1.0;
        true
    }
}
