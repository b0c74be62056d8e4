//! What a node wrote, read back from its files alone, and what must hold of it whatever happened.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use gateway::record::{Basis, Came, DecisionBody, DecisionSeal, Effect, OutcomeBody};
use ledger::keys::follow;
use ledger::note::Verifier;
use ledger::verify::Expected;
use ledger::{Actor, Blobs as _, Entry, Keyring as _, Kind, LogReader, Opened};
use policy::{Engine, PolicySet, Replay, ToolList, UpstreamInput};
use register::{State, Why};
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{FileBlobs, FileKeyring, OfflineLog, WrappingKey};
use vocab::{LogName, Time};

/// An entry, read back.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it is in its log.
    pub index: u64,
    /// What it is.
    pub kind: Kind,
    /// When it was written.
    pub time: Time,
    /// By which start of the node.
    pub epoch: u64,
    /// Who did it.
    pub actor: Actor,
    /// What it says.
    pub body: Value,
    /// The whole of it, as it was written.
    pub text: String,
}

impl Line {
    /// What it says, in its type.
    pub fn read<T: DeserializeOwned>(&self) -> T {
        serde_json::from_value(self.body.clone()).expect("a body of its kind")
    }
}

/// Both logs, as of one moment.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// What changed.
    pub control: Vec<Line>,
    /// What was called.
    pub calls: Vec<Line>,
}

impl Ledger {
    pub(crate) fn read(data: &Path) -> Self {
        let read = |name| lines(&OfflineLog::open(data, name).expect("a log"));
        Self {
            calls: read(LogName::Calls),
            control: read(LogName::Control),
        }
    }

    /// The entries of a kind.
    pub fn of(&self, kind: Kind) -> Vec<&Line> {
        let log = match kind.log() {
            LogName::Control => &self.control,
            LogName::Calls => &self.calls,
        };
        log.iter().filter(|line| line.kind == kind).collect()
    }

    /// The last entry of a kind.
    pub fn last(&self, kind: Kind) -> &Line {
        self.of(kind)
            .pop()
            .unwrap_or_else(|| panic!("no entry of kind {kind}"))
    }

    /// The decision at an index.
    pub fn decision(&self, index: u64) -> DecisionBody {
        let line = &self.calls[usize::try_from(index).unwrap()];
        assert_eq!(line.kind, Kind::Decision);
        line.read()
    }

    /// The one outcome of a decision, if it has one.
    pub fn outcome(&self, decision: u64) -> Option<OutcomeBody> {
        let outcomes = self
            .of(Kind::Outcome)
            .into_iter()
            .map(Line::read::<OutcomeBody>);
        let mut of_it: Vec<_> = outcomes.filter(|it| it.decision == decision).collect();
        assert!(of_it.len() <= 1, "a decision with two outcomes");
        of_it.pop()
    }

    /// How many requests were refused for a cause, as counted on record.
    pub fn refused(&self, cause: &str) -> u64 {
        let all = self.of(Kind::Refused).into_iter();
        all.filter(|line| line.body["cause"] == cause)
            .map(|line| line.body["count"].as_u64().unwrap())
            .sum()
    }
}

pub(crate) fn lines(log: &dyn LogReader) -> Vec<Line> {
    (0..log.size()).map(|index| line(log, index)).collect()
}

fn line(log: &dyn LogReader, index: u64) -> Line {
    let bytes = log.entry(index).expect("an entry");
    let entry = Entry::parse(&bytes).expect("an entry of its form");
    Line {
        index,
        kind: entry.kind,
        time: entry.time,
        epoch: entry.epoch,
        actor: entry.actor.clone(),
        body: serde_json::from_str(entry.body.get()).unwrap(),
        text: String::from_utf8(bytes.clone()).unwrap(),
    }
}

/// What was found in the files of a node that has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Decisions that came out the same.
    pub replayed: usize,
    /// Decisions whose facts were erased.
    pub erased: usize,
    /// Denials whose arguments were not kept, and that rest on them.
    pub bounded: usize,
    /// Permits.
    pub permits: usize,
}

/// Reads everything again from nothing and checks all that must hold of it: both logs verify
/// wholly, every permit has its one outcome, no permit stands where its caller did not, and every
/// decision comes out the same.
pub(crate) fn verify(data: &Path, keys: &Path) -> Verified {
    let [control, calls] = [LogName::Control, LogName::Calls].map(|name| {
        let vkey = std::fs::read_to_string(data.join(format!("{name}.vkey"))).unwrap();
        vkey.trim().parse::<Verifier>().unwrap()
    });
    let reader = OfflineLog::open(data, LogName::Control).unwrap();
    let way = follow(&reader, &control, Some(&calls)).unwrap();
    let [control, calls] = [LogName::Control, LogName::Calls].map(|name| {
        let log = OfflineLog::open(data, name).unwrap();
        let expected = Expected {
            log: name,
            keys: way.of(name).unwrap(),
            known: &[],
        };
        let report = ledger::verify(&log, expected)
            .unwrap_or_else(|unsound| panic!("`{name}`: {:#?}", unsound.faults));
        assert_eq!(
            report.tail, 0,
            "`{name}`: entries that no checkpoint covers after a stop"
        );
        log
    });
    let ledger = Ledger {
        control: lines(&control),
        calls: lines(&calls),
    };
    let seed = server::keys::read_seed(&server::keys::facts_key(keys)).unwrap();
    let wrapping = Some(WrappingKey::from_bytes(*seed.expose()));
    let keyring = FileKeyring::open(&data.join("keyring"), wrapping).unwrap();
    let vkey = std::fs::read_to_string(data.join("control.vkey")).unwrap();
    snapshot(data, &control, &vkey.trim().parse().unwrap(), &keyring);
    paired(&ledger);
    standing(&control, &keyring, &ledger);
    replayed(
        &calls,
        &FileBlobs::open(&data.join("blobs")),
        &keyring,
        &ledger,
    )
}

/// Every outcome is of a permit before it, every permit has one.
fn paired(ledger: &Ledger) {
    let mut open = BTreeSet::new();
    for line in &ledger.calls {
        match line.kind {
            Kind::Decision => {
                let body: DecisionBody = line.read();
                assert_eq!(body.chain.last(), Some(&body.instance));
                assert_eq!(line.actor.id, body.instance.as_str());
                let earliest = open.first().copied().unwrap_or(line.index);
                assert!(body.open_from <= earliest, "a start would miss {earliest}");
                if body.awaits_outcome() {
                    open.insert(line.index);
                }
            }
            Kind::Outcome => {
                let body: OutcomeBody = line.read();
                assert!(
                    open.remove(&body.decision),
                    "an outcome of what was not permitted: {}",
                    line.text
                );
                assert_eq!(
                    body.said.is_some(),
                    body.result == Came::Completed,
                    "{}",
                    line.text
                );
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "permits without an outcome: {open:?}");
}

/// A permit's caller stood at every control entry that the permit rests on, and at every one that
/// a barrier before it names.
fn standing(control: &OfflineLog, keyring: &FileKeyring, ledger: &Ledger) {
    let mut folds: HashMap<u64, State> = HashMap::new();
    let mut barrier = 0;
    for line in &ledger.calls {
        match line.kind {
            Kind::Barrier => barrier = barrier.max(line.body["control_size"].as_u64().unwrap()),
            Kind::Decision if line.body["effect"] == "allow" => {
                let body: DecisionBody = line.read();
                let size = body.basis.control_size.max(barrier);
                let state = folds.entry(size).or_insert_with(|| {
                    register::fold_prefix(control, Some(keyring), size).unwrap()
                });
                let stands = state.standing(&body.instance, line.time).active();
                let instance = state.instance(&body.instance).expect("who asked is known");
                let above = body.chain.iter().rev().skip(1);
                assert!(
                    above.eq(state.ancestors(instance).map(|it| &it.id)),
                    "another chain than the register has: {}",
                    line.text
                );
                // Who was erased since cannot be said to have stood, though they did.
                let erased = |why: &Why| {
                    let erased = [Why::SponsorErased, Why::GroupErased, Why::AuthorityErased];
                    erased.contains(why)
                };
                let erased_since = match &stands {
                    Err(Why::AncestorNarrowed) => state.ancestors(instance).any(|it| {
                        let above = state.standing(&it.id, line.time).active();
                        above.is_err_and(|why| erased(&why))
                    }),
                    Err(why) => erased(why),
                    Ok(_) => false,
                } && ledger.of(Kind::Erased).iter().any(|it| it.index >= size);
                let holds = stands.is_ok() || erased_since;
                assert!(holds, "a permit after a cut: {stands:?} {}", line.text);
            }
            _ => {}
        }
    }
}

/// A snapshot that a start would take is what the log adds up to.
fn snapshot(data: &Path, control: &OfflineLog, verifier: &Verifier, keyring: &FileKeyring) {
    let Ok(bytes) = std::fs::read(server::node::snapshot::path(data)) else {
        return;
    };
    if let Ok(state) = register::snapshot::read(&bytes, verifier, control, Some(keyring)) {
        let folded = register::fold_prefix(control, Some(keyring), state.size()).unwrap();
        assert!(
            state == folded,
            "the snapshot is not what the log adds up to"
        );
    }
}

/// Every decision is made again from the files.
fn replayed(
    calls: &OfflineLog,
    blobs: &FileBlobs,
    keyring: &FileKeyring,
    ledger: &Ledger,
) -> Verified {
    let mut engines: HashMap<(Basis, String), Arc<Engine>> = HashMap::new();
    let mut found = Verified {
        replayed: 0,
        erased: 0,
        bounded: 0,
        permits: 0,
    };
    for line in ledger.of(Kind::Decision) {
        let body: DecisionBody = line.read();
        found.permits += usize::from(body.effect == Effect::Allow);
        let key = match keyring.open(&body.facts.key).unwrap() {
            Opened::Key(key) => key,
            Opened::Erased => {
                found.erased += 1;
                continue;
            }
            Opened::Locked => panic!("the keyring is locked"),
        };
        let sealed = calls.sealed(line.index).unwrap().expect("sealed facts");
        let plain = ledger::seal::open(&key, &sealed, &body.facts.commit).unwrap();
        assert_eq!(plain.len() as u64, body.facts.bytes);
        let seal: DecisionSeal = serde_json::from_slice(&plain).unwrap();
        let engine = engines
            .entry((
                Basis {
                    control_size: 0,
                    ..body.basis.clone()
                },
                body.upstream.to_string(),
            ))
            .or_insert_with(|| Arc::new(engine(blobs, &body)));
        let recorded = policy::Verdict {
            effect: body.effect.into(),
            stage: body
                .stage
                .clone()
                .map(|it| serde_json::from_value(it.into()).unwrap()),
            policies: body.policies.clone(),
            reason: seal.reason,
            observed: body.observed,
            masks: body.masks.clone(),
            routed_to: body.routed_to.clone(),
        };
        let again = match &seal.left_out {
            None => policy::replay(&seal.facts, engine, &recorded),
            Some(_) => policy::replay_without_arguments(&seal.facts, engine, &recorded),
        };
        match again {
            Replay::Same => found.replayed += 1,
            Replay::Bounded => found.bounded += 1,
            Replay::Different(now) => panic!("now {now:?}: {}", line.text),
        }
    }
    found
}

fn engine(blobs: &FileBlobs, body: &DecisionBody) -> Engine {
    assert_eq!(body.basis.versions, policy::versions());
    let get = |digest| blobs.get(digest).unwrap().expect("a blob");
    let Some(set) = &body.basis.policy_set else {
        return Engine::none();
    };
    let set = PolicySet::from_blob(&get(set)).unwrap();
    let basis = &body.basis;
    let own = (&body.upstream, &basis.tools, &basis.options);
    let routed = basis.routed.as_ref();
    let routed = routed.map(|it| (&it.upstream, &it.tools, &it.options));
    let parts = std::iter::once(own).chain(routed);
    let parts = parts.map(|(name, tools, options)| {
        let tools = tools.as_ref();
        let tools = tools.map(|tools| ToolList::pinned(name, &get(tools)).unwrap());
        (name, tools, serde_json::from_slice(&get(options)).unwrap())
    });
    let parts: Vec<(_, _, policy::UpstreamOptions)> = parts.collect();
    let inputs = parts.iter().map(|(name, tools, options)| UpstreamInput {
        name: (*name).clone(),
        tools: tools.as_ref(),
        options: options.clone(),
    });
    let inputs: Vec<_> = inputs.collect();
    Engine::build(&set, &inputs)
}
