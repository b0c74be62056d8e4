//! Access tokens whose signature was checked already.
//!
//! Only the signature and what stands in the token are remembered. What can change (the time, the
//! standing of the instance, the proof of possession) is looked at on every request.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use vocab::Digest;

use crate::access::Claims;
use crate::dpop::ProofKey;

/// A token that this node signed.
#[derive(Debug)]
pub(crate) struct KnownToken {
    pub(crate) claims: Claims,
    /// The key that signed it; whether that is believed is looked at on every request.
    pub(crate) key: Arc<str>,
    /// The key that the token is bound to, once it was proven.
    pub(crate) proof_key: OnceLock<ProofKey>,
}

/// Known tokens by their SHA-256, at most `max`: two generations, of which the older is dropped
/// when the younger is half of that.
#[derive(Debug)]
pub(crate) struct TokenCache {
    max: usize,
    generations: RwLock<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Arc<KnownToken>>,
    old: HashMap<Digest, Arc<KnownToken>>,
}

impl TokenCache {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            generations: RwLock::default(),
        }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Arc<KnownToken>> {
        let generations = self
            .generations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let found = generations.young.get(digest);
        found.or_else(|| generations.old.get(digest)).cloned()
    }

    pub(crate) fn insert(&self, digest: Digest, token: Arc<KnownToken>) {
        let mut generations = self
            .generations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.max / 2 {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(digest, token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_the_youngest() {
        let cache = TokenCache::new(8);
        let digest = |i: u32| Digest::of(&i.to_be_bytes());
        let known = || {
            Arc::new(KnownToken {
                claims: Claims {
                    audience: String::new(),
                    sponsor: "s-1".parse().unwrap(),
                    agent: "a".parse().unwrap(),
                    instance: format!("i-{}", "a".repeat(26)).parse().unwrap(),
                    delegated_by: Vec::new(),
                    purpose: "p".parse().unwrap(),
                    jkt: None,
                    token_id: "".into(),
                    issued_at: 0,
                    expires_at: 0,
                },
                key: "k".into(),
                proof_key: OnceLock::new(),
            })
        };
        for i in 0..100 {
            cache.insert(digest(i), known());
            assert!(cache.get(&digest(i)).is_some());
        }
        let kept = (0..100)
            .filter(|i| cache.get(&digest(*i)).is_some())
            .count();
        assert!((4..=8).contains(&kept), "{kept}");
    }
}
