//! Which intents have no outcome yet, so that a start after a crash knows how far back to look.
//!
//! Each decision entry carries `open_from`: the lowest index at which a permit could then have
//! been without an outcome. A start reads the last decision and looks from there to the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The intents in flight, by a lower bound of their index.
#[derive(Debug, Default)]
pub(crate) struct OpenIntents {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, u64>,
}

impl OpenIntents {
    /// Opens an intent. `size` reads how many entries the log holds: the intent's index will be
    /// that or more. It is read under the lock, so that bounds never go back.
    pub(crate) fn begin(self: &Arc<Self>, size: impl FnOnce() -> u64) -> Ticket {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let size = size();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, size);
        let open_from = state
            .open
            .first_key_value()
            .map_or(size, |(_, bound)| *bound);
        drop(state);
        Ticket {
            intents: Arc::clone(self),
            number,
            open_from,
            permitted: false,
        }
    }

    /// An index before which none is open, when the log holds `size` entries.
    pub(crate) fn lowest(&self, size: u64) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.open.first_key_value();
        open.map_or(size, |(_, bound)| (*bound).min(size))
    }

    /// How many are in flight.
    pub(crate) fn len(&self) -> usize {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .len()
    }
}

/// One intent in flight.
///
/// Once it is a recorded permit only [`Ticket::close`] ends it: a task that dies on the way leaves
/// it open, so that the next start finds the permit and closes it as unknown.
#[derive(Debug)]
pub(crate) struct Ticket {
    intents: Arc<OpenIntents>,
    number: u64,
    open_from: u64,
    permitted: bool,
}

impl Ticket {
    /// The lowest index at which an intent may be open now.
    pub(crate) const fn open_from(&self) -> u64 {
        self.open_from
    }

    /// A permit is on record: its outcome has to follow.
    pub(crate) fn permitted(mut self) -> Self {
        self.permitted = true;
        self
    }

    /// The outcome is on record.
    pub(crate) fn close(mut self) {
        self.permitted = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.permitted {
            return;
        }
        let mut state = self
            .intents
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_open_intent_is_known() {
        let intents = Arc::new(OpenIntents::default());
        let first = intents.begin(|| 10);
        let second = intents.begin(|| 12);
        assert_eq!((first.open_from(), second.open_from()), (10, 10));
        drop(first);
        assert_eq!(intents.begin(|| 20).open_from(), 12);
        second.close();
        assert_eq!(intents.len(), 0);
        assert_eq!(intents.begin(|| 30).open_from(), 30);
        drop(intents.begin(|| 31).permitted());
        assert_eq!(
            intents.begin(|| 40).open_from(),
            31,
            "a permit without an outcome stays open"
        );
    }
}
