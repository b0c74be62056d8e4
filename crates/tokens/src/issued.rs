//! Which tokens this process issued lately, by instance, for those who have to say what a cut
//! covered. Nothing is decided by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use vocab::limits::ACCESS_TOKEN_SECONDS;
use vocab::{InstanceId, Time};

type Tokens = HashMap<InstanceId, Vec<(Arc<str>, u64)>>;

/// Token ids and when they expire. Two generations, of which the older is dropped when the younger
/// is as old as a token lives.
#[derive(Debug, Default)]
pub(crate) struct Issued(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    since: u64,
    young: Tokens,
    old: Tokens,
}

impl Issued {
    /// Notes a token; times are seconds since 1970.
    pub(crate) fn note(&self, instance: &InstanceId, id: &Arc<str>, now: u64, expires_at: u64) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(noted.since) > ACCESS_TOKEN_SECONDS {
            noted.old = std::mem::take(&mut noted.young);
            noted.since = now;
        }
        let tokens = noted.young.entry(instance.clone()).or_default();
        tokens.push((Arc::clone(id), expires_at));
    }

    /// The tokens of an instance that had not expired at `at`.
    pub(crate) fn of(&self, instance: &InstanceId, at: Time) -> Vec<(Arc<str>, Time)> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [&noted.old, &noted.young]
            .into_iter()
            .filter_map(|generation| generation.get(instance))
            .flatten()
            .map(|(id, expires_at)| (Arc::clone(id), Time::from_secs(*expires_at)))
            .filter(|(_, expires_at)| at < *expires_at)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_expires_and_not_for_ever() {
        let (issued, id) = (Issued::default(), Arc::<str>::from("t"));
        let instance: InstanceId = "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        let known = |at| issued.of(&instance, Time::from_secs(at)).len();
        let note = |now| issued.note(&instance, &id, now, now + ACCESS_TOKEN_SECONDS);
        note(1_000);
        note(1_299);
        assert_eq!((known(1_299), known(1_300), known(1_599)), (2, 1, 0));
        // Every token is kept for at least as long as it lives.
        note(1_301);
        assert_eq!(known(1_301), 2);
        for now in (1_302..10_000).step_by(50) {
            note(now);
        }
        let noted = issued.0.lock().unwrap();
        let kept = noted.young.values().chain(noted.old.values()).map(Vec::len);
        assert!(kept.sum::<usize>() < 20);
    }
}
