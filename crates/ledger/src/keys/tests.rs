use vocab::time::Time;

use super::*;
use crate::entry::{Actor, Draft, Header, write_entry};
use crate::memory::{Memory, ORIGIN};
use crate::note::Signer;
use crate::verify::{self, Expected, Fault};

fn key(seed: u8) -> Signer {
    Signer::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

fn public(seed: u8) -> LogKey {
    key(seed).verifier().clone().try_into().unwrap()
}

/// A control log that changes its keys, entry by entry.
#[derive(Default)]
struct History {
    entries: Vec<Vec<u8>>,
}

impl History {
    fn push(mut self, kind: Kind, by: u8, body: &impl Serialize) -> Self {
        let header = Header {
            trust_domain: "acme.example".parse().unwrap(),
            node: "n-1".to_owned(),
            epoch: 1,
            key: key(by).verifier().key_name(),
        };
        let draft = Draft::new(kind, Actor::node("n-1"), body).unwrap();
        let entry = write_entry(&header, Time::EPOCH, &draft).unwrap();
        self.entries.push(entry);
        self
    }

    fn other(self, by: u8) -> Self {
        self.push(Kind::NodeStopped, by, &serde_json::json!({}))
    }

    fn announced(self, log: LogName, by: u8, new: u8) -> Self {
        let body = LogKeyAnnounced {
            log,
            by: public(by),
            key: public(new),
        };
        self.push(Kind::LogKeyAnnounced, by, &body)
    }

    /// With a checkpoint of the log as it is, by this key, if any.
    fn activated(self, log: LogName, sealed_by: Option<u8>, new: u8) -> Self {
        let sealed_at = self.entries.len() as u64;
        self.activated_at(log, sealed_by.map(|by| (by, sealed_at)), new)
    }

    fn activated_at(self, log: LogName, sealed: Option<(u8, u64)>, new: u8) -> Self {
        let sealed = sealed.map(|(by, size)| self.signed(size, &[by]));
        let body = LogKeyActivated {
            log,
            key: public(new),
            checkpoint: sealed,
        };
        self.push(Kind::LogKeyActivated, new, &body)
    }

    fn retired(self, log: LogName, by: u8, old: u8) -> Self {
        let body = LogKeyRetired {
            log,
            key: public(old),
            compromised: false,
        };
        self.push(Kind::LogKeyRetired, by, &body)
    }

    /// What this one begins with, to go on otherwise.
    fn first(&self, size: usize) -> Self {
        Self {
            entries: self.entries[..size].to_vec(),
        }
    }

    fn signed(&self, size: u64, by: &[u8]) -> String {
        let log = Memory::with(self.entries.clone());
        let text = log.checkpoint_at(size).to_string();
        let mut note = Note::sign(&text, &key(by[0])).unwrap();
        for by in &by[1..] {
            note.push(key(*by).sign(&text));
        }
        note.to_string()
    }

    /// The log, its last checkpoint by these keys.
    fn log(&self, by: &[u8]) -> Memory {
        let mut log = Memory::with(self.entries.clone());
        log.checkpoint = Some(self.signed(log.size(), by));
        log
    }
}

/// 1 hands over to 2, and 2 to 3; 1 is retired, 2 not yet.
fn history() -> History {
    History::default()
        .other(1)
        .announced(LogName::Control, 1, 2)
        .activated(LogName::Control, Some(1), 2)
        .other(2)
        .retired(LogName::Control, 2, 1)
        .announced(LogName::Control, 2, 3)
        .activated(LogName::Control, Some(2), 3)
        .other(3)
}

fn known_to(seed: u8, log: &Memory) -> Result<Followed, FollowError> {
    follow(log, key(seed).verifier(), None)
}

/// What a verifier who trusts one key says of a log.
fn check(seed: u8, log: &Memory, known: &[Known]) -> Result<(), String> {
    let way = known_to(seed, log).map_err(|error| error.to_string())?;
    let known = [known, &way.handed_over].concat();
    let expected = Expected {
        log: LogName::Control,
        keys: &way.control,
        known: &known,
    };
    match verify::verify(log, expected) {
        Ok(_) => Ok(()),
        Err(unsound) => Err(unsound.faults.iter().map(Fault::to_string).collect()),
    }
}

#[test]
fn any_key_of_the_log_leads_to_those_that_sign() {
    for by in [&[3][..], &[3, 2], &[2, 3], &[2]] {
        let log = history().log(by);
        for seed in 1..=3 {
            let good = check(seed, &log, &[]);
            // Who starts at the last key does not know that the one before signs beside it.
            let expected = !(seed == 3 && by == [2]);
            assert_eq!(good.is_ok(), expected, "{seed} {by:?}: {good:?}");
        }
    }
    let way = known_to(1, &history().log(&[3])).unwrap();
    assert_eq!(way.steps.len(), 2);
    let signing: Vec<_> = way.control.signing().iter().map(Verifier::id).collect();
    assert_eq!(signing, [2, 3].map(|seed| key(seed).verifier().id()));
}

#[test]
fn a_key_that_was_announced_nowhere_is_refused() {
    let log = history().log(&[9]);
    for seed in 1..=3 {
        assert!(check(seed, &log, &[]).unwrap_err().contains("is signed by"));
    }
    // One that is trusted, and that the log does not know.
    let error = known_to(9, &history().log(&[3])).unwrap_err();
    assert!(matches!(error, FollowError::Unknown { .. }), "{error}");
    // One that signs by its own word.
    let itself = History::default()
        .other(1)
        .activated(LogName::Control, Some(1), 9)
        .announced(LogName::Control, 1, 9);
    let error = known_to(1, &itself.log(&[9])).unwrap_err();
    assert!(matches!(error, FollowError::Unannounced { .. }), "{error}");
}

#[test]
fn an_announcement_counts_under_the_key_before_it() {
    let begun = || {
        History::default()
            .other(1)
            .announced(LogName::Control, 1, 2)
    };
    let refused = |history: History| {
        let error = known_to(1, &history.log(&[2])).unwrap_err();
        assert!(matches!(error, FollowError::Unproven { .. }), "{error}");
    };
    refused(begun().activated(LogName::Control, None, 2));
    // Sealed by the new one itself, or by a stranger.
    refused(begun().activated(LogName::Control, Some(2), 2));
    refused(begun().activated(LogName::Control, Some(9), 2));
    // Sealed before it was announced.
    refused(begun().activated_at(LogName::Control, Some((1, 1)), 2));
    // Sealed in another history: the announcement is not in it.
    let other = begun().first(1).announced(LogName::Control, 1, 8);
    let foreign = LogKeyActivated {
        log: LogName::Control,
        key: public(2),
        checkpoint: Some(other.signed(2, &[1])),
    };
    refused(begun().push(Kind::LogKeyActivated, 2, &foreign));
}

/// Whoever has an old key signs nothing that continues this history, and hands over to nobody.
#[test]
fn a_retired_key_signs_and_announces_nothing_any_more() {
    let log = history().other(1).log(&[1]);
    for seed in 1..=3 {
        let error = check(seed, &log, &[]).unwrap_err();
        assert!(error.contains("signs nothing since"), "{seed}: {error}");
    }
    let own = history()
        .announced(LogName::Control, 1, 9)
        .activated(LogName::Control, Some(1), 9);
    for seed in 1..=3 {
        let error = known_to(seed, &own.log(&[9])).unwrap_err();
        assert!(matches!(error, FollowError::Predecessor { .. }), "{error}");
    }
}

/// Whoever has an old key can write another history from before it was retired: who knows that key
/// alone believes it, and any checkpoint of the true one contradicts it.
#[test]
fn a_leaked_key_forges_no_history_that_a_kept_checkpoint_contradicts() {
    let truth = history();
    let forged = truth
        .first(1)
        .announced(LogName::Control, 1, 9)
        .activated(LogName::Control, Some(1), 9)
        .other(9);
    let log = forged.log(&[9]);
    assert_eq!(check(1, &log, &[]), Ok(()));
    for seed in 2..=3 {
        assert!(known_to(seed, &log).is_err(), "a newer key is none of it");
    }
    for size in 2..=8 {
        let kept = Known {
            by: "an anchor".to_owned(),
            checkpoint: truth.log(&[3]).checkpoint_at(size),
        };
        let error = check(1, &log, &[kept]).unwrap_err();
        assert!(error.contains("an anchor"), "{size}: {error}");
    }
}

#[test]
fn what_hands_over_is_held_against_the_log() {
    // The note that hands over is of another history, which has the announcement in the same place.
    let (ours, theirs) = (History::default().other(1), History::default().other(2));
    let theirs = theirs.announced(LogName::Control, 1, 2).signed(2, &[1]);
    let body = LogKeyActivated {
        log: LogName::Control,
        key: public(2),
        checkpoint: Some(theirs),
    };
    let ours = ours
        .announced(LogName::Control, 1, 2)
        .push(Kind::LogKeyActivated, 2, &body);
    let error = check(1, &ours.log(&[2]), &[]).unwrap_err();
    assert!(error.contains("does not show"), "{error}");
}

#[test]
fn the_control_log_speaks_for_the_key_of_calls() {
    let control = History::default()
        .announced(LogName::Calls, 4, 5)
        .activated(LogName::Calls, None, 5)
        .retired(LogName::Calls, 1, 4);
    let log = control.log(&[1]);
    let way = follow(&log, key(1).verifier(), Some(key(4).verifier())).unwrap();
    let calls = way.calls.unwrap();
    assert_eq!(calls.signing(), [key(5).verifier().clone()]);
    let [_, offline] = followed(&way.steps, key(1).verifier(), key(4).verifier()).unwrap();
    assert!(offline.signing().contains(key(5).verifier()));
    // Under a control log by somebody else it says nothing.
    let error = follow(
        &control.log(&[9]),
        key(1).verifier(),
        Some(key(4).verifier()),
    )
    .unwrap_err();
    assert!(matches!(error, FollowError::Unproven { .. }), "{error}");
}

#[test]
fn steps_lead_without_the_log() {
    let log = history().log(&[3]);
    let steps = known_to(1, &log).unwrap().steps;
    let calls = key(4).verifier().clone();
    for seed in 1..=3 {
        let [control, _] = followed(&steps, key(seed).verifier(), &calls).unwrap();
        assert!(
            control.open(log.checkpoint.as_ref().unwrap()).is_ok(),
            "{seed}"
        );
    }
    let refused = |steps: &[TlogProof]| followed(steps, key(1).verifier(), &calls).is_err();
    assert!(refused(&steps[1..]), "a step is missing");
    let mut changed = steps.clone();
    changed[0].extra = steps[1].extra.clone();
    assert!(refused(&changed), "the entry is another one");
    let mut changed = steps;
    changed[0].checkpoint = history().signed(3, &[9]);
    assert!(refused(&changed), "the checkpoint is somebody else's");
    assert!(followed(&changed, key(9).verifier(), &calls).is_err());
}

#[test]
fn keys_of_another_origin_or_sort_are_none_of_a_log() {
    let foreign = Signer::from_seed("example.com/other", &[2; 32]).unwrap();
    let body = LogKeyAnnounced {
        log: LogName::Control,
        by: public(1),
        key: foreign.verifier().clone().try_into().unwrap(),
    };
    let log = History::default().push(Kind::LogKeyAnnounced, 1, &body);
    let error = known_to(1, &log.log(&[1])).unwrap_err();
    assert!(matches!(error, FollowError::Origin { .. }), "{error}");
    let witness = crate::cosignature::Cosigner::from_seed(ORIGIN, &[1; 32]).unwrap();
    assert!(LogKey::try_from(witness.verifier().clone()).is_err());
    let text = serde_json::to_string(&witness.verifier().to_string()).unwrap();
    assert!(serde_json::from_str::<LogKey>(&text).is_err());
}
