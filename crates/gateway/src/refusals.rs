//! Requests that never became a decision: no or bad credentials, bodies that are not messages.
//! They are counted and put on record in bunches, so that strangers cannot fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ledger::{Log, RecordError};
use vocab::InstanceId;

use crate::record::{RefusedBody, RefusedCount};

/// Kinds of refusals counted apart; what comes beyond is counted together.
const KINDS_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    cause: &'static str,
    at: &'static str,
    instance: Option<InstanceId>,
}

/// The counters.
#[derive(Debug, Default)]
pub struct Refusals {
    pending: Mutex<HashMap<Key, u64>>,
    totals: Mutex<HashMap<(&'static str, &'static str), u64>>,
}

impl Refusals {
    /// Counts one refusal: `cause` and `at` are fixed words.
    pub fn note(&self, cause: &'static str, at: &'static str, instance: Option<&InstanceId>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Key {
            cause,
            at,
            instance: instance.cloned(),
        };
        if pending.len() >= KINDS_MAX && !pending.contains_key(&key) {
            key = Key {
                cause: "other",
                at: "other",
                instance: None,
            };
        }
        *pending.entry(key).or_default() += 1;
        drop(pending);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        *totals.entry((cause, at)).or_default() += 1;
    }

    /// Puts what was counted since the last time on record. What is not taken is counted again.
    pub(crate) async fn flush(&self, calls: &dyn Log) -> Result<(), RecordError> {
        let taken: Vec<_> = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.drain().collect()
        };
        let mut failed = None;
        for (key, count) in taken {
            let body = RefusedBody {
                cause: key.cause.to_owned(),
                at: key.at.to_owned(),
                count,
                instance: key.instance.clone(),
            };
            let recorded = match &failed {
                None => ledger::record(calls, RefusedCount { body })
                    .await
                    .map(|_| ()),
                Some(_) => Err(RecordError::Receipts { found: 0 }),
            };
            if let Err(error) = recorded {
                let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
                *pending.entry(key).or_default() += count;
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// All refusals since the start, by cause and place.
    pub fn totals(&self) -> Vec<(&'static str, &'static str, u64)> {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = totals
            .iter()
            .map(|((cause, at), count)| (*cause, *at, *count))
            .collect();
        all.sort_unstable();
        all
    }
}
