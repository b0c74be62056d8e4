//! What was used once must not be used again.
//!
//! The memory is short: an entry is kept for as long as the thing it stands for would still be
//! accepted, and the node accepts nothing made before it started. So nothing needs to be on disk.
//! What is dated ahead of the node's clock would outlive that rule: a node that stops waits until
//! the [`ReplayCache::latest`] has come, and one that was killed is followed by one that refuses
//! all that it could have taken.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use vocab::Time;

/// Seconds of expiry times that share one set. A set is dropped whole when the last of them is
/// over, so an entry stays at most this much longer than it must.
const SPAN_SECONDS: u64 = 8;

/// The outcome of claiming a single use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is yours: nobody used it before.
    First,
    /// It was used.
    Again,
    /// The memory is full of things that are still valid, so nobody can say.
    Full,
}

/// Remembers what was used until it expires.
///
/// Entries are 64-bit fingerprints under a random key of this process (`SipHash`). Two different
/// things with one fingerprint would at worst refuse an honest request, with probability
/// 2⁻⁴⁴ per request at a million entries; nothing used can be taken for unused.
#[derive(Debug)]
pub(crate) struct ReplayCache {
    hasher: RandomState,
    max: usize,
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    /// Fingerprints by expiry second / [`SPAN_SECONDS`].
    spans: BTreeMap<u64, HashSet<u64>>,
    count: usize,
    /// Spans before this one were dropped: what would stand in them can no longer be judged.
    first: u64,
    /// When the youngest thing that was used was made, in seconds, by its own account.
    latest: u64,
}

impl ReplayCache {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            max,
            sets: Mutex::default(),
        }
    }

    /// When the youngest thing that was used was made, by its own account.
    pub(crate) fn latest(&self) -> Time {
        let sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        Time::from_secs(sets.latest)
    }

    /// Claims the single use of `what`, by when it was made and the last second in which anybody
    /// accepts it.
    pub(crate) fn claim(
        &self,
        what: &(&str, &str, &str),
        life: RangeInclusive<u64>,
        now: Time,
    ) -> Claim {
        let fingerprint = self.hasher.hash_one(what);
        // A panic cannot leave the sets half changed: each change is one call.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        sets.first = sets.first.max(now.as_secs() / SPAN_SECONDS);
        let first = sets.first;
        while let Some(oldest) = sets.spans.first_entry().filter(|e| *e.key() < first) {
            let gone = oldest.remove().len();
            sets.count -= gone;
        }
        let span = life.end() / SPAN_SECONDS;
        // Only when the clock went back: it may have been used, and been forgotten since.
        if span < first {
            return Claim::Again;
        }
        if sets.spans.values().any(|span| span.contains(&fingerprint)) {
            return Claim::Again;
        }
        if sets.count >= self.max {
            return Claim::Full;
        }
        sets.spans.entry(span).or_default().insert(fingerprint);
        sets.count += 1;
        sets.latest = sets.latest.max(*life.start());
        Claim::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cache: &ReplayCache, what: &str, until: u64, now: u64, expected: Claim) {
        let claim = cache.claim(
            &("proof", "key", what),
            until - 60..=until,
            Time::from_secs(now),
        );
        assert_eq!(claim, expected, "{what} until {until} at {now}");
    }

    #[test]
    fn a_use_is_remembered_until_it_expires() {
        let cache = ReplayCache::new(10);
        check(&cache, "a", 1_060, 1_000, Claim::First);
        check(&cache, "a", 1_060, 1_000, Claim::Again);
        check(&cache, "a", 1_061, 1_001, Claim::Again);
        check(&cache, "a", 1_060, 1_060, Claim::Again);
        check(&cache, "b", 1_060, 1_060, Claim::First);
        check(&cache, "a", 1_200, 1_060 + SPAN_SECONDS, Claim::First);
        let other = cache.claim(
            &("proof", "other key", "a"),
            1_140..=1_200,
            Time::from_secs(1_100),
        );
        assert_eq!(other, Claim::First);
        assert_eq!(cache.latest(), Time::from_secs(1_140));
    }

    #[test]
    fn a_full_memory_refuses_and_forgets_nothing() {
        let cache = ReplayCache::new(3);
        for what in ["a", "b", "c"] {
            check(&cache, what, 1_060, 1_000, Claim::First);
        }
        check(&cache, "d", 1_060, 1_000, Claim::Full);
        check(&cache, "a", 1_060, 1_000, Claim::Again);
        check(&cache, "d", 1_200, 1_060 + SPAN_SECONDS, Claim::First);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_allow_a_second_use() {
        let cache = ReplayCache::new(3);
        check(&cache, "a", 1_060, 1_000, Claim::First);
        check(&cache, "a", 1_060, 500, Claim::Again);
        check(&cache, "b", 2_060, 2_000, Claim::First);
        check(&cache, "a", 1_060, 1_000, Claim::Again);
        check(&cache, "c", 1_060, 1_000, Claim::Again);
    }
}
