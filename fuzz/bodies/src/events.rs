//! What entries say, of either log.

use gateway::record::{BarrierBody, DecisionBody, ListingBody, OutcomeBody, RefusedBody};
use ledger::{Entry, Kind};
use register::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that was read in the shape of its kind is written in it, and says the same.
pub fn event(data: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(data) else {
        return false;
    };
    let body = entry.body.get();
    match entry.kind {
        Kind::Decision => again::<DecisionBody>(body),
        Kind::Outcome => again::<OutcomeBody>(body),
        Kind::Listing => again::<ListingBody>(body),
        Kind::Refused => again::<RefusedBody>(body),
        Kind::Barrier => again::<BarrierBody>(body),
        _ => {
            let Ok(event) = Event::read(&entry) else {
                return false;
            };
            assert_eq!(event.kind(), entry.kind);
            let draft = event.draft(entry.actor.clone());
            assert!(draft.is_ok_and(|draft| {
                let written = Entry {
                    body: &draft.body,
                    ..entry
                };
                Event::read(&written).is_ok_and(|again| again == event)
            }));
            true
        }
    }
}

fn again<T: Serialize + DeserializeOwned>(body: &str) -> bool {
    let Ok(read) = serde_json::from_str::<T>(body) else {
        return false;
    };
    let text = |it: &T| serde_json::to_string(it).ok();
    let written = text(&read);
    let again = written.as_deref().map(serde_json::from_str::<T>);
    assert!(again.is_some_and(|again| again.is_ok_and(|again| text(&again) == written)));
    true
}
