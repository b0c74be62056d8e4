//! Running every decision again: the facts as they were sealed, on the policies, tools and options
//! that the decision rested on; and the second ones, on what was found in what came back.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::rc::Rc;

use gateway::record::{Basis, DecisionBody, DecisionSeal, Done, Inspected, OutcomeBody};
use ledger::{Blobs, Entry, Keyring, Kind, LogReader, Opened, ReadError, seal};
use mcp::Method;
use policy::{
    Decision, Direction, Engine, Facts, Masks, PolicySet, Replay, Stage, Target, ToolList,
    UpstreamInput, UpstreamOptions, Verdict,
};
use serde::Serialize;
use store::{FileBlobs, FileKeyring, WrappingKey};
use vocab::{Digest, Handle, LogName, UpstreamName};

use super::{LedgerError, open};
use crate::{keys, output};

/// Most differences that are told one by one; all are counted.
const DIFFERENCES_TOLD_MAX: usize = 100;
/// Most engines, and most policy sets, kept at once. Decisions come in order, so few are in use.
const KEPT_MAX: usize = 64;
/// Entries between two signs of progress.
const TELL_EVERY: u64 = 1_000;

/// What running all decisions again came to.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Decided the same.
    pub same: u64,
    /// Second decisions, on what came back, that were decided the same. One that was not counts
    /// among the different and the missing ones; what its first one counts as, it is not counted as
    /// again.
    pub responses: u64,
    /// Decided otherwise, or not to be decided from what is here.
    pub different: u64,
    /// Not run: what they were decided on was erased, on record.
    pub erased: u64,
    /// Not run: their facts are here, and nothing that opens them was given.
    pub sealed: u64,
    /// Not run: denials that rest on arguments of which only length and digest were kept.
    pub bounded: u64,
    /// Not run: they, their facts, or what they rest on are gone, and no record says that anything
    /// was erased. An entry that is gone counts, since it may have been a decision.
    pub missing: u64,
    /// The first of the different and of the missing ones.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

impl Replayed {
    /// Whether nothing was found that should not be.
    pub const fn is_good(&self) -> bool {
        self.different == 0 && self.missing == 0
    }

    fn wrong(&mut self, index: u64, wrong: Wrong) {
        let what = match wrong {
            Wrong::Different(what) => {
                self.different += 1;
                what
            }
            Wrong::Missing(what) => {
                self.missing += 1;
                what
            }
        };
        if self.differences.len() < DIFFERENCES_TOLD_MAX {
            self.differences.push(Difference { index, what });
        }
    }
}

/// A decision that did not come out the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its index in `calls`.
    pub index: u64,
    /// What differs, in words.
    pub what: String,
}

/// Runs every decision of a data folder again. Without the key that wraps the facts' keys, all
/// that was not erased counts as sealed.
pub fn replay(data: &Path, facts_key: Option<&Path>) -> Result<Replayed, LedgerError> {
    replay_telling(data, facts_key, &mut |_, _| {})
}

/// [`replay`], telling how many entries are done, of how many.
pub(super) fn replay_telling(
    data: &Path,
    facts_key: Option<&Path>,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, LedgerError> {
    let calls = open(data, LogName::Calls)?;
    let control = open(data, LogName::Control)?;
    // Without a keyring: that needs no names.
    let register = register::fold_prefix(&control, None, control.size())?;
    let wrapping = facts_key.map(keys::read_seed).transpose()?;
    let wrapping = wrapping.map(|seed| WrappingKey::from_bytes(*seed.expose()));
    let keyring = FileKeyring::open(&data.join("keyring"), wrapping).map_err(|error| {
        LedgerError::Keyring {
            path: facts_key.unwrap_or(data).display().to_string(),
            cause: error.to_string(),
        }
    })?;
    let opener = Opener {
        keyring: &keyring,
        erased: register.erased(),
    };
    let blobs = FileBlobs::open(&data.join("blobs"));
    let mut bases = Bases {
        blobs: &blobs,
        sets: HashMap::new(),
        engines: HashMap::new(),
    };
    let mut replayed = Replayed::default();
    let size = calls.size();
    for index in 0..size {
        if index % TELL_EVERY == 0 {
            tell(index, size);
        }
        let bytes = match calls.entry(index) {
            Ok(bytes) => bytes,
            Err(gone @ ReadError::Absent { .. }) => {
                replayed.wrong(index, Wrong::Missing(gone.to_string()));
                continue;
            }
            Err(damaged @ ReadError::Damaged { .. }) => {
                replayed.wrong(index, Wrong::Different(damaged.to_string()));
                continue;
            }
            Err(cause @ ReadError::Unreadable { .. }) => {
                let log = LogName::Calls;
                return Err(LedgerError::Read { log, cause });
            }
        };
        match again(&bytes, index, &calls, &opener, &mut bases) {
            Ok(Again::Other) => {}
            Ok(Again::Same) => replayed.same += 1,
            Ok(Again::SameResponse) => replayed.responses += 1,
            Ok(Again::Erased) => replayed.erased += 1,
            Ok(Again::Sealed) => replayed.sealed += 1,
            Ok(Again::Bounded) => replayed.bounded += 1,
            Err(wrong) => replayed.wrong(index, wrong),
        }
    }
    Ok(replayed)
}

/// What came of one entry with which nothing is wrong.
enum Again {
    /// It is no decision.
    Other,
    Same,
    /// It is the outcome of a call, and what came back was decided on the same.
    SameResponse,
    Erased,
    Sealed,
    Bounded,
}

/// Why a decision cannot be said to be the same, in words.
enum Wrong {
    Different(String),
    Missing(String),
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self::Different(what)
    }
}

/// Runs the decision of an entry again.
fn again(
    bytes: &[u8],
    index: u64,
    calls: &dyn LogReader,
    opener: &Opener<'_>,
    bases: &mut Bases<'_>,
) -> Result<Again, Wrong> {
    let entry = Entry::parse(bytes).map_err(|error| error.to_string())?;
    match entry.kind {
        Kind::Decision => {}
        Kind::Outcome => return response_again(&entry, calls, opener, bases),
        _ => return Ok(Again::Other),
    }
    let body: DecisionBody = serde_json::from_str(entry.body.get())
        .map_err(|error| format!("the body is not of a decision's shape: {error}"))?;
    let seal = match opener.open(&body, index, calls)? {
        Unsealed::Plain(seal) => seal,
        Unsealed::Erased => return Ok(Again::Erased),
        Unsealed::Sealed => return Ok(Again::Sealed),
        Unsealed::Missing => {
            return Err(Wrong::Missing("its sealed facts are missing".to_owned()));
        }
    };
    if !is_of(&seal.facts, &body) {
        let what = "the sealed facts are of another call than the entry";
        return Err(Wrong::Different(what.to_owned()));
    }
    let recorded = recorded(&body, seal.reason)?;
    let engine = bases.engine(&body.basis, &body.upstream)?;
    let replayed = match seal.left_out {
        None => policy::replay(&seal.facts, &engine, &recorded),
        Some(_) => policy::replay_without_arguments(&seal.facts, &engine, &recorded),
    };
    match replayed {
        Replay::Same => Ok(Again::Same),
        Replay::Bounded => Ok(Again::Bounded),
        Replay::Different(now) => {
            let what = difference(&recorded, &now, &body.basis.versions);
            Err(Wrong::Different(what))
        }
    }
}

/// Decides on what came back again: on the facts of the permit, with what was found in it.
fn response_again(
    entry: &Entry<'_>,
    calls: &dyn LogReader,
    opener: &Opener<'_>,
    bases: &mut Bases<'_>,
) -> Result<Again, Wrong> {
    let outcome: OutcomeBody = serde_json::from_str(entry.body.get())
        .map_err(|error| format!("the body is not of an outcome's shape: {error}"))?;
    let Some(response) = outcome.response.filter(|it| !it.found.is_empty()) else {
        return Ok(Again::Other);
    };
    let index = outcome.decision;
    let Ok(bytes) = calls.entry(index) else {
        // That it is gone or damaged is told of itself.
        return Ok(Again::Other);
    };
    let decision = Entry::parse(&bytes).map_err(|error| error.to_string())?;
    let body: DecisionBody = serde_json::from_str(decision.body.get())
        .map_err(|_| format!("calls/{index}, which it names, is no decision"))?;
    if !Method::from(body.method.as_str()).is_for_servers() {
        // What a client answered goes upstream, and is decided on by the labels of that moment.
        return Ok(Again::Other);
    }
    let Unsealed::Plain(seal) = opener.open(&body, index, calls)? else {
        return Ok(Again::Other);
    };
    let engine = bases.engine(&body.basis, &body.upstream)?;
    let facts = Facts {
        findings: response.found.clone(),
        direction: Direction::Response,
        ..seal.facts
    };
    match response_difference(&engine.decide(&facts), &body, &response) {
        None => Ok(Again::SameResponse),
        Some(what) => Err(Wrong::Different(what)),
    }
}

/// What differs between what was done about what came back and what is decided about it now, if
/// anything does. More may have been taken away than policy said, where a mask had no place.
fn response_difference(
    now: &Decision,
    body: &DecisionBody,
    response: &Inspected,
) -> Option<String> {
    let verdict = now.verdict();
    let mut masks = Masks::default();
    let done = match now {
        Decision::Permit(permit) => {
            masks = permit.masks().clone().and(&body.masks);
            let covers = |it: &policy::Found| masks.cover(it.class, &it.rule, it.confidence);
            if response.found.iter().any(covers) {
                Done::Masked
            } else {
                Done::Passed
            }
        }
        Decision::Hold(_) | Decision::Denial(_) => Done::Withheld,
    };
    let is_narrower = response.done == Done::Withheld && masks != Masks::default();
    let mut policies = response.policies.clone();
    policies.sort_unstable();
    let mut by = verdict.policies;
    by.sort_unstable();
    by.dedup();
    if (response.done == done || is_narrower) && policies == by {
        return None;
    }
    let (was, done) = (told(response.done), told(done));
    let (was_by, by) = (policies.join(", "), by.join(", "));
    let mut text =
        format!("what came back was {was} by {was_by} as recorded, and is {done} by {by} now");
    if body.basis.versions != policy::versions() {
        let _infallible = write!(text, "; it was decided by {}", body.basis.versions);
    }
    Some(text)
}

const fn told(done: Done) -> &'static str {
    match done {
        Done::Passed => "passed on",
        Done::Masked => "masked",
        Done::Withheld => "withheld",
    }
}

/// Whether the facts are those of the call that the entry names.
fn is_of(facts: &Facts, body: &DecisionBody) -> bool {
    let tool = match &facts.target {
        Target::Tool { name } => Some(name),
        Target::Method { .. } => None,
    };
    // What nothing lists is not named in the entry.
    let named = tool == body.tool.as_ref() || (body.unlisted && body.tool.is_none());
    facts.upstream == body.upstream
        && named
        && facts.instance.id == body.instance
        && facts.instance.agent == body.agent
        && facts.instance.purpose == body.purpose
        && facts.instance.proven == body.proven
        && facts.instance.authority == body.authority
        && facts.findings == body.found
}

/// What was decided, as policy words it.
fn recorded(body: &DecisionBody, reason: String) -> Result<Verdict, String> {
    let stage = match &body.stage {
        None => None,
        Some(word) => {
            let known = Stage::ALL.into_iter().find(|stage| stage.as_str() == word);
            Some(known.ok_or_else(|| format!("the stage `{word}` is not known"))?)
        }
    };
    Ok(Verdict {
        effect: body.effect.into(),
        stage,
        policies: body.policies.clone(),
        reason,
        observed: body.observed,
        masks: body.masks.clone(),
        routed_to: body.routed_to.clone(),
    })
}

fn difference(recorded: &Verdict, now: &Verdict, versions: &str) -> String {
    let mut text = format!("recorded {}, now {}", worded(recorded), worded(now));
    if versions != policy::versions() {
        let _infallible = write!(text, "; it was decided by {versions}");
    }
    text
}

fn worded(verdict: &Verdict) -> String {
    let mut text = verdict.effect.as_str().to_owned();
    if verdict.observed {
        text.push_str(" (only observed)");
    }
    if let Some(stage) = verdict.stage {
        let _infallible = write!(text, " at {stage}");
    }
    if let Some(to) = &verdict.routed_to {
        let _infallible = write!(text, " routed to {to}");
    }
    if !verdict.policies.is_empty() {
        let _infallible = write!(text, " by {}", verdict.policies.join(", "));
    }
    text
}

/// What opens facts.
struct Opener<'a> {
    keyring: &'a FileKeyring,
    /// Keys whose erasure is on record. Only that makes a missing key an erased one.
    erased: &'a BTreeSet<Handle>,
}

enum Unsealed {
    Plain(Box<DecisionSeal>),
    Erased,
    Sealed,
    Missing,
}

impl Opener<'_> {
    fn open(
        &self,
        body: &DecisionBody,
        index: u64,
        calls: &dyn LogReader,
    ) -> Result<Unsealed, String> {
        // Also where the key is still in an old copy: what was erased is not opened.
        if self.erased.contains(&body.facts.key) {
            return Ok(Unsealed::Erased);
        }
        let sealed = calls.sealed(index).map_err(|error| error.to_string())?;
        let Some(sealed) = sealed else {
            return Ok(Unsealed::Missing);
        };
        let opened = self.keyring.open(&body.facts.key);
        let key = match opened.map_err(|error| error.to_string())? {
            Opened::Key(key) => key,
            // Whoever runs this may have been given some of the keys only.
            Opened::Erased | Opened::Locked => return Ok(Unsealed::Sealed),
        };
        let plain = seal::open(&key, &sealed, &body.facts.commit)
            .map_err(|error| format!("the facts cannot be opened: {error}"))?;
        let seal = serde_json::from_slice(&plain)
            // The parser's own words could repeat what is sealed.
            .map_err(|_| "the facts are not of a form that is known here".to_owned())?;
        Ok(Unsealed::Plain(Box::new(seal)))
    }
}

/// What an engine is made of: the basis without the size of the log.
type EngineKey = (Basis, UpstreamName);

/// What decisions rested on, read once each.
struct Bases<'a> {
    blobs: &'a dyn Blobs,
    sets: HashMap<Digest, Rc<PolicySet>>,
    engines: HashMap<EngineKey, Rc<Engine>>,
}

impl Bases<'_> {
    /// The engine of a basis. A policy is judged tool by tool, so that of one upstream, with the one
    /// that calls of it are sent to, decides about it like the engine of all.
    fn engine(&mut self, basis: &Basis, upstream: &UpstreamName) -> Result<Rc<Engine>, Wrong> {
        let of_any_size = Basis {
            control_size: 0,
            ..basis.clone()
        };
        let key = (of_any_size, upstream.clone());
        if let Some(engine) = self.engines.get(&key) {
            return Ok(Rc::clone(engine));
        }
        let engine = match basis.policy_set {
            None => Engine::none(),
            Some(digest) => {
                let set = self.set(digest)?;
                let own = (upstream, basis.tools, basis.options);
                let routed = basis.routed.as_ref();
                let routed = routed.map(|it| (&it.upstream, it.tools, it.options));
                let mut parts = Vec::new();
                for (name, tools, options) in std::iter::once(own).chain(routed) {
                    let options = self.blob("the upstream's options", options)?;
                    let options: UpstreamOptions =
                        serde_json::from_slice(&options).map_err(|error| {
                            format!("the upstream's options cannot be read: {error}")
                        })?;
                    let tools = match tools {
                        None => None,
                        Some(digest) => {
                            let list = self.blob("the upstream's tool list", digest)?;
                            let list = ToolList::pinned(name, &list);
                            Some(list.map_err(|error| error.to_string())?)
                        }
                    };
                    parts.push((name, tools, options));
                }
                let inputs = parts.iter().map(|(name, tools, options)| UpstreamInput {
                    name: (*name).clone(),
                    tools: tools.as_ref(),
                    options: options.clone(),
                });
                Engine::build(&set, &inputs.collect::<Vec<_>>())
            }
        };
        if self.engines.len() >= KEPT_MAX {
            self.engines.clear();
        }
        let engine = Rc::new(engine);
        self.engines.insert(key, Rc::clone(&engine));
        Ok(engine)
    }

    fn set(&mut self, digest: Digest) -> Result<Rc<PolicySet>, Wrong> {
        if let Some(set) = self.sets.get(&digest) {
            return Ok(Rc::clone(set));
        }
        let blob = self.blob("the policy set", digest)?;
        let set = PolicySet::from_blob(&blob)
            .map_err(|error| format!("the policy set {digest} cannot be read: {error}"))?;
        if self.sets.len() >= KEPT_MAX {
            self.sets.clear();
        }
        let set = Rc::new(set);
        self.sets.insert(digest, Rc::clone(&set));
        Ok(set)
    }

    fn blob(&self, what: &str, digest: Digest) -> Result<Vec<u8>, Wrong> {
        let blob = self
            .blobs
            .get(&digest)
            .map_err(|error| format!("{what}: {error}"))?;
        let gone = || Wrong::Missing(format!("{what} ({digest}) is not among the blobs"));
        blob.ok_or_else(gone)
    }
}

impl Replayed {
    /// The result for people. `locked`: there was no key to open facts with.
    pub fn text(&self, locked: bool) -> String {
        let Self {
            same,
            responses,
            different,
            erased,
            sealed,
            bounded,
            missing,
            differences,
        } = self;
        let mut text = String::new();
        for Difference { index, what } in differences {
            let _infallible = writeln!(text, "calls/{index}: {}", output::clean(what));
        }
        let told = u64::try_from(differences.len()).unwrap_or(u64::MAX);
        let found = different + missing;
        if found > told {
            let _infallible = writeln!(text, "… and {} more", found - told);
        }
        let all = same + different + erased + sealed + bounded + missing;
        let _infallible = writeln!(
            text,
            "{}: {same} the same, {different} different, {erased} erased, {sealed} \
             sealed, {bounded} bounded, {missing} missing",
            output::count(all, "decision", "decisions")
        );
        if *responses > 0 {
            let _infallible = writeln!(
                text,
                "{} on what came back: the same",
                output::count(*responses, "second decision", "second decisions")
            );
        }
        if *bounded > 0 {
            text.push_str(
                "Bounded are denials that rest on arguments of which only length and digest were kept.\n",
            );
        }
        if *missing > 0 {
            text.push_str(
                "What is missing was removed without a record: put it back from a backup.\n",
            );
        }
        if locked && *sealed > 0 {
            text.push_str(
                "The key that opens the facts is not here; `--facts-key FILE` names it.\n",
            );
        }
        text
    }
}
