//! Verifying both logs: each by itself, what they say of each other, what others know of them,
//! and the blobs that they name.

mod blobs;
mod known;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use gateway::record::{BarrierBody, Basis, DecisionBody, Effect, OutcomeBody};
use ledger::keys::follow;
use ledger::note::Verifier;
use ledger::verify::{Expected, Fault, Known, Report};
use ledger::{Entry, Kind, LogKeys, LogReader};
use serde::Serialize;
use store::OfflineLog;
use vocab::{Digest, LogName, Time};

pub use self::blobs::BlobCheck;
use self::known::Kept;
pub use self::snapshot::SnapshotCheck;
use super::trust::{self, vkey};
use super::{LedgerError, open};
use crate::output;

/// Most faults that are told one by one; all are counted.
const FAULTS_TOLD_MAX: usize = 100;

/// What both logs came to.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The control log.
    pub control: LogCheck,
    /// The log of calls.
    pub calls: LogCheck,
    /// What they name by digest.
    pub blobs: BlobCheck,
    /// The register's snapshot, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotCheck>,
    /// Whether nothing was wrong.
    pub verified: bool,
}

/// What one log came to.
#[derive(Debug, Default, Serialize)]
pub struct LogCheck {
    /// What is in it; none if it could not be opened.
    #[serde(flatten)]
    pub report: Option<Report>,
    /// Of the log of calls: permits and what came of them.
    #[serde(flatten)]
    pub permits: Option<Permits>,
    /// What is wrong, in short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is wrong, one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// Permits and what came of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Permits {
    /// Calls permitted.
    pub permits: u64,
    /// Those without an outcome: in flight, or cut off by the end of the process.
    pub open: u64,
}

/// Verifies both logs of a data folder, and its blobs, against public keys from `vkeys`, or its
/// own, and against the checkpoints that are known from `anchors` (folders, or checkpoints
/// themselves) and from witnesses.
pub fn verify(data: &Path, vkeys: Option<&Path>, anchors: &[PathBuf]) -> Checked {
    // What is known is read before the logs, and the log of calls between two looks at the control
    // log: on a running node each may only be further on than what is said of it.
    let keys = LogName::ALL.map(|log| (log, vkey(data, vkeys, log)));
    let origins: Vec<_> = keys
        .iter()
        .filter_map(|(log, key)| Some((*log, key.as_ref().ok()?.name())))
        .collect();
    let kept = known::kept(data, anchors, &origins);
    let said_size = open(data, LogName::Control).map_or(0, |log| log.size());
    let calls = open(data, LogName::Calls);
    let control = open(data, LogName::Control);
    let control_size = control.as_ref().ok().map(LogReader::size);
    let said = control
        .as_ref()
        .map(|log| known::said(log, said_size))
        .unwrap_or_default();
    // The control log was looked at last: its word on keys may only be further on.
    let [(_, control_key), (_, calls_key)] = keys;
    let (control_keys, calls_keys, handed_over) = followed(&control, control_key, calls_key);
    let mut walk = Calls::new(control_size, said.blobs);
    let calls = check(
        LogName::Calls,
        calls,
        calls_keys,
        (&kept, said.calls),
        |log| {
            walk.walk(log);
            let (faults, wrong) = (std::mem::take(&mut walk.faults), walk.wrong);
            (Some(walk.count()), faults, wrong)
        },
    );
    let newest = control_keys.as_ref().ok();
    let verifier = newest.and_then(|keys| keys.signing().last().cloned());
    let mut kept_state = None;
    let control = check(
        LogName::Control,
        control,
        control_keys,
        (&kept, [walk.control, handed_over].concat()),
        |log| {
            let (folded, snapshot) = snapshot::fold(data, verifier.as_ref(), log);
            kept_state = snapshot;
            let faults = folded.err().map(|error| told(&error));
            (None, faults.into_iter().collect(), 0)
        },
    );
    let blobs = blobs::check(data, &walk.blobs);
    let differs = kept_state.as_ref().is_some_and(|it| it.error.is_some());
    let sound = control.error.is_none() && calls.error.is_none() && blobs.error.is_none();
    let verified = sound && !differs;
    Checked {
        control,
        calls,
        blobs,
        snapshot: kept_state,
        verified,
    }
}

/// The keys of both logs, from those that are trusted, and the checkpoints by which the control
/// log's were handed over.
fn followed(
    control: &Result<OfflineLog, LedgerError>,
    control_key: Result<Verifier, LedgerError>,
    calls_key: Result<Verifier, LedgerError>,
) -> (
    Result<LogKeys, LedgerError>,
    Result<LogKeys, LedgerError>,
    Vec<Known>,
) {
    let Ok(reader) = control else {
        // What is wrong with the control log is told of it; of calls only the given key is known.
        return (
            control_key.map(LogKeys::from),
            calls_key.map(LogKeys::from),
            Vec::new(),
        );
    };
    let known = control_key.as_ref().ok();
    let calls = calls_key.and_then(|key| trust::of_calls(reader, known, &key));
    match control_key.and_then(|key| Ok(follow(reader, &key, None)?)) {
        Ok(way) => (Ok(way.control), calls, way.handed_over),
        Err(error) => (Err(error), calls, Vec::new()),
    }
}

fn check(
    name: LogName,
    log: Result<OfflineLog, LedgerError>,
    keys: Result<LogKeys, LedgerError>,
    (kept, mut known): (&[Kept], Vec<Known>),
    more: impl FnOnce(&OfflineLog) -> (Option<Permits>, Vec<String>, u64),
) -> LogCheck {
    let (log, keys) = match (log, keys) {
        (Ok(log), Ok(keys)) => (log, keys),
        (Err(error), _) | (_, Err(error)) => {
            return LogCheck {
                error: Some(told(&error)),
                ..LogCheck::default()
            };
        }
    };
    let mut faults = Vec::new();
    for kept in kept.iter().filter(|kept| kept.log == name) {
        match kept.open(&keys) {
            Ok(it) => known.push(it),
            Err(fault) => faults.push(fault),
        }
    }
    let expected = Expected {
        log: name,
        keys: &keys,
        known: &known,
    };
    let (report, unsound, count) = match ledger::verify(&log, expected) {
        Ok(report) => (report, Vec::new(), 0),
        Err(unsound) => (unsound.report, unsound.faults, unsound.count),
    };
    // With another log's key nothing else that is found means anything.
    if let [fault @ Fault::OtherKey { .. }] = unsound.as_slice() {
        return LogCheck {
            error: Some(fault.to_string()),
            ..LogCheck::default()
        };
    }
    faults.extend(unsound.iter().map(Fault::to_string));
    let untold = count.saturating_sub(length(&unsound));
    match log.missing() {
        Ok(missing) => faults.extend(missing.iter().map(|tile| {
            format!(
                "`{tile}` is missing or empty; the next start of the node makes it again if its \
                 entries are still in a segment"
            )
        })),
        Err(error) => faults.push(error.to_string()),
    }
    let (permits, more, count) = more(&log);
    let untold = untold + count.saturating_sub(length(&more));
    faults.extend(more);
    let wrong = untold + length(&faults);
    faults.truncate(FAULTS_TOLD_MAX);
    LogCheck {
        report: Some(report),
        permits,
        error: unsound_by(wrong),
        faults,
    }
}

fn length<T>(all: &[T]) -> u64 {
    u64::try_from(all.len()).unwrap_or(u64::MAX)
}

fn unsound_by(wrong: u64) -> Option<String> {
    match wrong {
        0 => None,
        1 => Some("it is not sound: 1 fault".to_owned()),
        n => Some(format!("it is not sound: {n} faults")),
    }
}

/// An error and what is behind it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            let _infallible = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What became of the entry at an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Other,
    Open,
    Closed,
}

/// What must hold between the entries of the log of calls, and between it and the control log.
struct Calls {
    control_size: Option<u64>,
    entries: Vec<At>,
    permits: u64,
    /// What barriers say of the control log.
    control: Vec<Known>,
    /// The blobs that either log names, and the first entry that does.
    blobs: BTreeMap<Digest, String>,
    faults: Vec<String>,
    wrong: u64,
}

impl Calls {
    const fn new(control_size: Option<u64>, blobs: BTreeMap<Digest, String>) -> Self {
        Self {
            control_size,
            entries: Vec::new(),
            permits: 0,
            control: Vec::new(),
            blobs,
            faults: Vec::new(),
            wrong: 0,
        }
    }

    fn walk(&mut self, log: &dyn LogReader) {
        for index in 0..log.size() {
            // What cannot be read or is no entry is told by who verifies the log by itself.
            let Ok(bytes) = log.entry(index) else { return };
            let state = match Entry::parse(&bytes) {
                Ok(entry) => self.entry(index, &entry),
                Err(_) => At::Other,
            };
            self.entries.push(state);
        }
    }

    fn count(&self) -> Permits {
        let open = self
            .entries
            .iter()
            .filter(|state| **state == At::Open)
            .count();
        Permits {
            permits: self.permits,
            open: u64::try_from(open).unwrap_or(u64::MAX),
        }
    }

    fn fault(&mut self, fault: String) {
        self.wrong += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(fault);
        }
    }

    fn entry(&mut self, index: u64, entry: &Entry<'_>) -> At {
        match entry.kind {
            Kind::Decision => match body::<DecisionBody>(entry) {
                Ok(decision) => {
                    self.rests_on(index, decision.basis.control_size);
                    self.names(index, &decision.basis);
                    if decision.effect == Effect::Allow {
                        self.permits += 1;
                    }
                    if decision.awaits_outcome() {
                        return At::Open;
                    }
                }
                Err(cause) => self.shape(index, entry.kind, &cause),
            },
            Kind::Outcome => match body::<OutcomeBody>(entry) {
                Ok(outcome) => self.outcome(index, outcome.decision),
                Err(cause) => self.shape(index, entry.kind, &cause),
            },
            Kind::Barrier => match body::<BarrierBody>(entry) {
                Ok(barrier) => {
                    self.rests_on(index, barrier.control_size);
                    self.control.extend(
                        barrier
                            .control
                            .map(|it| known::by(LogName::Calls, index, it)),
                    );
                }
                Err(cause) => self.shape(index, entry.kind, &cause),
            },
            // Of the other kinds nothing follows here.
            _ => {}
        }
        At::Other
    }

    fn shape(&mut self, index: u64, kind: Kind, cause: &str) {
        self.fault(format!(
            "entry {index}: the body of a `{kind}` is not of its shape: {cause}"
        ));
    }

    fn outcome(&mut self, index: u64, decision: u64) {
        let at = usize::try_from(decision)
            .ok()
            .and_then(|at| self.entries.get_mut(at));
        match at {
            Some(state @ At::Open) => *state = At::Closed,
            Some(At::Closed) => {
                self.fault(format!(
                    "entry {index} is a second outcome of the permit {decision}"
                ));
            }
            Some(At::Other) | None => self.fault(format!(
                "entry {index} is an outcome of {decision}, which is no permit before it"
            )),
        }
    }

    fn names(&mut self, index: u64, basis: &Basis) {
        let named = [Some(basis.options), basis.policy_set, basis.tools];
        let routed = basis.routed.iter();
        let routed = routed.flat_map(|it| [Some(it.options), it.tools]);
        for digest in named.into_iter().chain(routed).flatten() {
            let first = self.blobs.entry(digest);
            first.or_insert_with(|| known::entry(LogName::Calls, index));
        }
    }

    fn rests_on(&mut self, index: u64, size: u64) {
        if let Some(control) = self.control_size
            && size > control
        {
            self.fault(format!(
                "entry {index} rests on {size} entries of the control log, which has {control}"
            ));
        }
    }
}

fn body<'a, T: serde::Deserialize<'a>>(entry: &Entry<'a>) -> Result<T, String> {
    serde_json::from_str(entry.body.get()).map_err(|error| error.to_string())
}

impl Checked {
    /// The result for people. `own_keys`: the public keys are those of the data folder itself.
    pub fn text(&self, own_keys: bool) -> String {
        let mut text = String::new();
        for (name, log) in [
            (LogName::Control, &self.control),
            (LogName::Calls, &self.calls),
        ] {
            log.tell(name, &mut text);
        }
        self.blobs.tell(&mut text);
        if let Some(snapshot) = &self.snapshot {
            snapshot.tell(&mut text);
        }
        text.push_str(if self.verified {
            "Verified: both logs are what was signed.\n"
        } else {
            "NOT VERIFIED. Keep a copy of the data folder as it is; then put back the files that \
             are named, or the\nwhole folder, from a backup that verifies.\n"
        });
        if own_keys {
            text.push_str(
                "The public keys are the data folder's own. Whoever could replace the logs could \
                 replace them,\ntoo: `--vkeys DIR` verifies against keys from a place you trust.\n",
            );
        }
        text
    }
}

impl LogCheck {
    fn tell(&self, name: LogName, text: &mut String) {
        let verdict = self.error.as_deref().unwrap_or("sound");
        let _infallible = writeln!(text, "{name}: {}", output::clean(verdict));
        let mut lines = output::Lines::default();
        if let Some(report) = &self.report {
            let tail = match report.tail {
                0 => String::new(),
                n => format!(", and {n} after them that no checkpoint covers yet"),
            };
            let signed = output::count(report.signed, "entry", "entries");
            lines.line("  signed", format!("{signed}{tail}"));
            lines.line("  root", report.root.to_string());
            lines.line("  origin", report.origin.clone());
            if let (Some(first), Some(last)) = (report.first, report.last) {
                let second = |time: Time| output::time(&serde_json::json!(time));
                lines.line("  from", format!("{} to {}", second(first), second(last)));
            }
            let kinds = report
                .kinds
                .iter()
                .map(|(kind, count)| format!("{kind} {count}"));
            lines.line("  kinds", kinds.collect::<Vec<_>>().join(", "));
        }
        if let Some(Permits { permits, open }) = self.permits {
            lines.line(
                "  permits",
                format!("{permits}, of which {open} without an outcome"),
            );
        }
        for fault in &self.faults {
            lines.line("  WRONG", fault.clone());
        }
        text.push_str(&lines.text());
    }
}
