//! Bodies of entries, as they are written for ever.

use std::collections::BTreeSet;

use ledger::{Entry, Kind};
use vocab::id::LogName;

use crate::entry::Event;

/// One entry of every kind in every shape that a release wrote. Lines are added, never changed.
const ENTRIES: &str = include_str!("../../tests/entries.jsonl");

#[test]
fn every_shape_that_was_ever_written_is_read_and_written_the_same() {
    let mut seen = BTreeSet::new();
    for line in ENTRIES.lines() {
        let entry = Entry::parse(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let event = Event::read(&entry).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(event.kind(), entry.kind);
        let draft = event.draft(entry.actor.clone()).unwrap();
        assert_eq!(draft.body.get(), entry.body.get());
        seen.insert(entry.kind);
    }
    let all: BTreeSet<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.log() == LogName::Control)
        .collect();
    assert_eq!(seen, all, "every kind has a vector");
}

#[test]
fn a_body_with_a_member_more_or_less_is_refused() {
    for line in ENTRIES.lines() {
        let at = line.find(r#""body":{"#).unwrap() + r#""body":{"#.len();
        let (head, tail) = line.split_at(at);
        let comma = if tail.starts_with('}') { "" } else { "," };
        let more = format!(r#"{head}"surprise":1{comma}{tail}"#);
        let entry = Entry::parse(more.as_bytes()).unwrap();
        assert!(Event::read(&entry).is_err(), "{more}");
        if let Some((_, rest)) = tail.split_once(',') {
            let less = format!("{head}{rest}");
            if let Ok(entry) = Entry::parse(less.as_bytes()) {
                assert!(Event::read(&entry).is_err(), "{less}");
            }
        }
    }
}
