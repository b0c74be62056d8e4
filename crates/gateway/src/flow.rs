//! What was read: the labels that those who work on one thing have picked up.
//!
//! A permit picks up the labels of its upstream and tool the moment that it is on record, before
//! anything is sent; what is found in what comes back is picked up as its class. Labels are those of a
//! whole delegation, of whoever nobody delegated to and all below them: what one of them read it can
//! tell the others past the gateway. They only grow. All of them are on record, and read from there at
//! a start.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ledger::{Entry, Kind, LogReader, ReadError};
use vocab::finding::Class;
use vocab::limits::CLOCK_LEEWAY_SECONDS;
use vocab::{InstanceId, Time, ToolName};

use crate::record::{DecisionBody, Effect, ListingBody, OutcomeBody};

/// Longest label, in bytes.
const LABEL_BYTES_MAX: usize = 64;
/// Delegations of which labels are kept before those that are over are looked for.
const KEPT_BEFORE_LOOKING: usize = 10_000;
/// What an entry that names labels has in its bytes.
const NAMES_LABELS: &str = "\"labels\":[";

/// The labels of an upstream and its tools, as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    all: BTreeSet<String>,
    tools: HashMap<String, BTreeSet<String>>,
}

/// Why a label is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not a word.
    #[error("`{0}` is no label: small letters, digits and `-`, at most {LABEL_BYTES_MAX}")]
    Word(String),
    /// A class of findings, which is picked up where it is found.
    #[error("`{0}` is a class of findings: it is picked up where it is found")]
    Class(String),
    /// No name of a tool.
    #[error("`{0}` is not the name of a tool")]
    Tool(String),
}

impl Labels {
    /// Labels of everything of an upstream, and of some of its tools.
    pub fn new(
        all: Vec<String>,
        tools: impl IntoIterator<Item = (String, Vec<String>)>,
    ) -> Result<Self, LabelError> {
        let mut by_tool = HashMap::new();
        for (tool, labels) in tools {
            if tool.parse::<ToolName>().is_err() {
                return Err(LabelError::Tool(tool));
            }
            by_tool.insert(tool, read(labels)?);
        }
        Ok(Self {
            all: read(all)?,
            tools: by_tool,
        })
    }

    /// Every one of them.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        let of_tools = self.tools.values().flatten();
        self.all.iter().chain(of_tools).map(String::as_str)
    }

    /// What a call picks up.
    pub(crate) fn of(&self, tool: Option<&ToolName>) -> Vec<String> {
        let own = tool.and_then(|tool| self.tools.get(tool.as_str()));
        let all = self.all.iter().chain(own.into_iter().flatten());
        all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

fn read(labels: Vec<String>) -> Result<BTreeSet<String>, LabelError> {
    let checked = labels.into_iter().map(|label| {
        let is_word = (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
        if !is_word {
            Err(LabelError::Word(label))
        } else if label.parse::<Class>().is_ok() {
            Err(LabelError::Class(label))
        } else {
            Ok(label)
        }
    });
    checked.collect()
}

/// The labels of every delegation, by the instance that nobody delegated to.
#[derive(Debug, Default)]
pub(crate) struct Flow(Mutex<HashMap<InstanceId, BTreeSet<String>>>);

impl Flow {
    pub(crate) const fn new(read: HashMap<InstanceId, BTreeSet<String>>) -> Self {
        Self(Mutex::new(read))
    }

    /// What those of a delegation have read.
    pub(crate) fn of(&self, root: &InstanceId) -> BTreeSet<String> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(root).cloned().unwrap_or_default()
    }

    /// Notes what was read. `goes_on` says of an instance whether it may still act.
    pub(crate) fn pick_up(
        &self,
        root: &InstanceId,
        labels: &[String],
        goes_on: impl Fn(&InstanceId) -> bool,
    ) {
        if labels.is_empty() {
            return;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= KEPT_BEFORE_LOOKING && !held.contains_key(root) {
            held.retain(|root, _| goes_on(root));
        }
        held.entry(root.clone())
            .or_default()
            .extend(labels.iter().cloned());
    }
}

/// What is on record of labels since then.
pub(crate) fn on_record(
    calls: &dyn LogReader,
    since: Time,
) -> Result<HashMap<InstanceId, BTreeSet<String>>, ReadError> {
    let mut held: HashMap<InstanceId, BTreeSet<String>> = HashMap::new();
    // The times of two logs may differ by as much as a clock may go back.
    let since = since.minus(Duration::from_secs(CLOCK_LEEWAY_SECONDS));
    for index in ledger::first_since(calls, since)?..calls.size() {
        let bytes = calls.entry(index)?;
        // Most entries name none, and are not taken apart.
        if !std::str::from_utf8(&bytes).is_ok_and(|text| text.contains(NAMES_LABELS)) {
            continue;
        }
        let picked_up = match entry(index, &bytes)? {
            (Kind::Decision, body) => {
                let body: DecisionBody = parsed(index, &body)?;
                let is_permit = body.effect == Effect::Allow;
                is_permit.then_some((body.chain, body.labels))
            }
            (Kind::Outcome, body) => {
                let body: OutcomeBody = parsed(index, &body)?;
                let (_, decision) = entry(body.decision, &calls.entry(body.decision)?)?;
                let decision: DecisionBody = parsed(body.decision, &decision)?;
                Some((decision.chain, body.labels))
            }
            (Kind::Listing, body) => {
                let body: ListingBody = parsed(index, &body)?;
                Some((body.root.into_iter().collect(), body.labels))
            }
            _ => None,
        };
        if let Some((chain, labels)) = picked_up
            && let Some(root) = chain.into_iter().next()
        {
            held.entry(root).or_default().extend(labels);
        }
    }
    Ok(held)
}

fn damaged(index: u64, cause: &dyn std::fmt::Display) -> ReadError {
    ReadError::Damaged {
        what: format!("entry {index}"),
        cause: cause.to_string(),
    }
}

fn entry(index: u64, bytes: &[u8]) -> Result<(Kind, String), ReadError> {
    let entry = Entry::parse(bytes).map_err(|error| damaged(index, &error))?;
    Ok((entry.kind, entry.body.get().to_owned()))
}

fn parsed<T: serde::de::DeserializeOwned>(index: u64, body: &str) -> Result<T, ReadError> {
    serde_json::from_str(body).map_err(|error| damaged(index, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_word_that_names_no_class() {
        let check = |label: &str, expected: Result<(), LabelError>| {
            let labels = Labels::new(vec![label.to_owned()], []);
            assert_eq!(labels.map(|_| ()), expected);
        };
        check("customer-data", Ok(()));
        check("", Err(LabelError::Word(String::new())));
        check("Customer", Err(LabelError::Word("Customer".to_owned())));
        check("personal", Err(LabelError::Class("personal".to_owned())));
        let longest = "a".repeat(LABEL_BYTES_MAX);
        check(&longest, Ok(()));
        let longer = format!("{longest}a");
        check(&longer, Err(LabelError::Word(longer.clone())));
    }

    #[test]
    fn a_tool_has_its_own_labels_and_those_of_its_upstream() {
        let tools = [("read".to_owned(), vec!["b".to_owned(), "a".to_owned()])];
        let labels = Labels::new(vec!["a".to_owned()], tools).unwrap();
        assert_eq!(labels.of(Some(&"read".parse().unwrap())), ["a", "b"]);
        assert_eq!(labels.of(Some(&"write".parse().unwrap())), ["a"]);
        assert_eq!(labels.of(None), ["a"]);
        let wrong = Labels::new(Vec::new(), [("a b\u{7}".to_owned(), Vec::new())]);
        assert_eq!(wrong, Err(LabelError::Tool("a b\u{7}".to_owned())));
    }

    #[test]
    fn labels_only_grow_and_go_with_their_delegation() {
        let flow = Flow::default();
        let id = |n: usize| -> InstanceId {
            let letter =
                |at: u32| char::from(b'a' + u8::try_from(n / 26_usize.pow(at) % 26).unwrap());
            let id: String = (0..26)
                .map(|at| if at < 4 { letter(at) } else { 'a' })
                .collect();
            format!("i-{id}").parse().unwrap()
        };
        let label = |it: &str| vec![it.to_owned()];
        flow.pick_up(&id(0), &label("a"), |_| true);
        flow.pick_up(&id(0), &label("b"), |_| true);
        flow.pick_up(&id(1), &[], |_| true);
        let held: Vec<String> = flow.of(&id(0)).into_iter().collect();
        assert_eq!(held, ["a", "b"]);
        assert!(flow.of(&id(1)).is_empty());
        for n in 1..=KEPT_BEFORE_LOOKING {
            flow.pick_up(&id(n), &label("c"), |it| *it == id(0));
        }
        assert_eq!(flow.of(&id(0)).len(), 2);
        assert!(flow.of(&id(1)).is_empty());
    }
}
