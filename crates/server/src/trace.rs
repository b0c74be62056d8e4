//! `tipstaff trace`: who, for whom, why, what was decided by which policy, and what came of it,
//! read from the logs themselves.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gateway::record::{
    Came, DecisionBody, Effect, Inspected, LeftOut, OutcomeBody, SealedRef, Sent,
};
use ledger::{Actor, Entry, Keyring, Kind, LogReader, Opened, ReadError, hash, seal};
use policy::Found;
use register::entry::{Event, Sponsorship};
use register::{AgentView, Binding, BreakGlassView, Control, InstanceView, SponsorView};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use vocab::{
    AgentId, Digest, InstanceId, LogName, PurposePath, RecordRef, Time, ToolName, UpstreamName,
};

use crate::approvers::ApprovalView;
use crate::output::count;

mod approval;
mod chain;

pub use chain::Hop;

/// Decisions shown of one instance.
const DECISIONS_MAX: usize = 50;
/// Entries looked at for the outcome of one decision, or for the decisions of one instance.
const SCANNED_MAX: u64 = 1_000_000;

/// What a trace is read from. Reading blocks.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The register.
    pub control: &'a Control,
    /// The control log.
    pub control_log: &'a dyn LogReader,
    /// The log of calls.
    pub calls_log: &'a dyn LogReader,
    /// What opens the facts.
    pub keyring: &'a dyn Keyring,
    /// Now.
    pub now: Time,
    /// Where people answer.
    pub url: &'a str,
}

/// Why there is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// Neither an instance's id nor a record.
    #[error("`{0}` is neither an instance (`i-…`) nor a record (`calls/17`, `control/3`)")]
    Form(String),
    /// No such instance.
    #[error("there is no instance `{0}`; `tipstaff instance list` shows those there are")]
    NoInstance(InstanceId),
    /// Past the end.
    #[error("there is no record {log}/{index}; that log has {}", count(*size, "entry", "entries"))]
    NoRecord {
        /// The log.
        log: LogName,
        /// What was asked for.
        index: u64,
        /// How many there are.
        size: u64,
    },
    /// A log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An entry that cannot be understood.
    #[error("{log}/{index} cannot be understood: {cause}")]
    Entry {
        /// The log.
        log: LogName,
        /// The entry.
        index: u64,
        /// What is wrong with it.
        cause: String,
    },
}

/// What is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An instance.
    Instance(InstanceId),
    /// A record.
    Record(LogName, u64),
}

impl std::str::FromStr for Target {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Self, TraceError> {
        let record = text
            .split_once('/')
            .and_then(|(log, index)| Some(Self::Record(log.parse().ok()?, index.parse().ok()?)));
        let instance = || text.parse().ok().map(Self::Instance);
        record
            .or_else(instance)
            .ok_or_else(|| TraceError::Form(text.to_owned()))
    }
}

/// An instance: who it is, and what it did.
#[derive(Debug, Serialize)]
pub struct InstanceTrace {
    /// The instance.
    pub instance: InstanceView,
    /// How its tokens are bound to it.
    pub binding: Binding,
    /// Its agent.
    pub agent: Option<AgentView>,
    /// Its sponsor.
    pub sponsor: Option<SponsorView>,
    /// Who registered the agent, and how the sponsorship is known.
    pub registered: Option<Registered>,
    /// Every hop between the sponsor and the instance, its own the last.
    pub chain: Vec<Hop>,
    /// The last decisions about it, newest last.
    pub decisions: Vec<DecisionTrace>,
    /// Whether there are earlier ones that are not shown.
    pub earlier: bool,
}

/// Who registered an agent.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// The administrator.
    pub by: Actor,
    /// How the sponsorship is known.
    pub sponsorship: Sponsorship,
    /// The entry.
    pub record: String,
}

/// One entry.
#[derive(Debug, Serialize)]
pub struct RecordTrace {
    /// Where it is.
    pub record: RecordRef,
    /// What it says happened.
    pub kind: Kind,
    /// When.
    pub time: Time,
    /// The node that wrote it.
    pub node: String,
    /// Which start of that node.
    pub epoch: u64,
    /// Who did it.
    pub actor: Actor,
    /// The trace id; empty if there was none.
    pub trace: String,
    /// The body, as it stands.
    pub body: Box<RawValue>,
    /// The decision that it is, or that it is the outcome of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionTrace>,
    /// Who answers for the instance of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sponsor: Option<SponsorView>,
}

/// A decision and what came of it.
#[derive(Debug, Serialize)]
pub struct DecisionTrace {
    /// Where it is.
    pub record: RecordRef,
    /// When it was made.
    pub time: Time,
    /// Who asked.
    pub instance: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// Its sponsor's id; the handle if that is erased.
    pub sponsor: String,
    /// Every hop between the sponsor and the instance, its own the last.
    pub chain: Vec<Hop>,
    /// Why it acted.
    pub purpose: PurposePath,
    /// Whether it proved possession of its key.
    pub proven: bool,
    /// The upstream.
    pub upstream: UpstreamName,
    /// Where policy sent it in place of that; of a denial, where it would have gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routed_to: Option<UpstreamName>,
    /// The MCP method; `other` where nothing lists it and the facts are not open.
    pub method: String,
    /// The tool, for a tool call; null where its upstream does not list it and the facts are not open.
    pub tool: Option<ToolName>,
    /// Whether nothing lists the tool or method, so that the entry does not say what it was called.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unlisted: bool,
    /// `allow` or `deny`.
    pub effect: Effect,
    /// Whether a denial passed because the upstream is observed.
    pub observed: bool,
    /// The break-glasses without which its instance could not act.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub break_glass: Vec<BreakGlassView>,
    /// The approval that it used up; of a held call, the one that it waits for, until the register
    /// forgets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalView>,
    /// Where a denial was made.
    pub stage: Option<String>,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The policy set that they are of; null where none was in force.
    pub policy_set: Option<Digest>,
    /// What the agent was told; null where the facts are not open.
    pub reason: Option<String>,
    /// The arguments as they were decided; null where the facts are not open, or did not keep them.
    pub arguments: Option<Box<RawValue>>,
    /// What is known of arguments that were not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Whether the facts can be read.
    pub facts: FactsState,
    /// What inspection saw in what was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// The labels of what its delegation had read before, where the facts are open.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// What came of it; null for a denial, and for a call in flight.
    pub outcome: Option<OutcomeTrace>,
}

/// Whether sealed facts can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FactsState {
    /// They can.
    Open,
    /// Their key was destroyed.
    Erased,
    /// The key that opens them is not here.
    Sealed,
    /// They are not what the entry says.
    Damaged,
}

/// What came of a permitted call.
#[derive(Debug, Serialize)]
pub struct OutcomeTrace {
    /// Where it is.
    pub record: RecordRef,
    /// When.
    pub time: Time,
    /// What came of it.
    pub result: Came,
    /// Why nothing was sent, or the result is not known.
    pub cause: Option<String>,
    /// Whether the upstream's answer was an error.
    pub is_error: Option<bool>,
    /// What was masked in what was sent; absent where it went as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<Sent>,
    /// What inspection saw in what came back, if anything, and what was done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<Inspected>,
    /// The classes of what was found and delivered, which its delegation has read since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// What of a decision's sealed part is shown.
#[derive(Deserialize)]
struct Sealed {
    reason: String,
    facts: SealedFacts,
    #[serde(default)]
    left_out: Option<LeftOut>,
}

#[derive(Deserialize)]
struct SealedFacts {
    target: policy::Target,
    args: Box<RawValue>,
    #[serde(default)]
    labels: BTreeSet<String>,
}

impl Sources<'_> {
    fn log(&self, log: LogName) -> &dyn LogReader {
        match log {
            LogName::Control => self.control_log,
            LogName::Calls => self.calls_log,
        }
    }

    /// Reads the trace of an instance.
    pub fn instance(&self, id: &InstanceId) -> Result<InstanceTrace, TraceError> {
        let seen = self.control.view(|state| {
            let instance = state.instance(id)?;
            let agent = state.agent(&instance.agent);
            Some((
                state.instance_view(instance, self.now),
                instance.binding,
                agent.map(|agent| (state.agent_view(agent, self.now), agent.record)),
                state
                    .sponsor(&instance.sponsor)
                    .map(|sponsor| state.sponsor_view(sponsor)),
            ))
        });
        let (instance, binding, agent, sponsor) =
            seen.ok_or_else(|| TraceError::NoInstance(id.clone()))?;
        let registered = match &agent {
            None => None,
            Some((_, record)) => self.registered(*record)?,
        };
        let (decisions, earlier) = self.decisions(id, instance.started_at)?;
        Ok(InstanceTrace {
            instance,
            binding,
            agent: agent.map(|(agent, _)| agent),
            sponsor,
            registered,
            chain: chain::hops(self.control, &chain::chain_of(self.control, id), &[]),
            decisions,
            earlier,
        })
    }

    fn registered(&self, index: u64) -> Result<Option<Registered>, TraceError> {
        let bytes = self.control_log.entry(index)?;
        let entry = parse(LogName::Control, index, &bytes)?;
        let event =
            Event::read(&entry).map_err(|error| misread(LogName::Control, index, &error))?;
        let Event::AgentAdded(added) = event else {
            return Ok(None);
        };
        Ok(Some(Registered {
            by: entry.actor,
            sponsorship: added.sponsorship,
            record: format!("{}/{index}", LogName::Control),
        }))
    }

    /// The last decisions about an instance, newest last, and whether there are earlier ones.
    fn decisions(
        &self,
        id: &InstanceId,
        started: Time,
    ) -> Result<(Vec<DecisionTrace>, bool), TraceError> {
        let size = self.calls_log.size();
        let first = ledger::first_since(self.calls_log, started)?;
        let from = first.max(size.saturating_sub(SCANNED_MAX));
        let mut outcomes: HashMap<u64, u64> = HashMap::new();
        let mut found = Vec::new();
        for index in (from..size).rev() {
            let bytes = self.calls_log.entry(index)?;
            let text = String::from_utf8_lossy(&bytes);
            // Told by the text first: most entries are about others.
            let is_outcome = text.contains("\"kind\":\"outcome\"");
            if !is_outcome && !text.contains(id.as_str()) {
                continue;
            }
            let entry = parse(LogName::Calls, index, &bytes)?;
            match entry.kind {
                Kind::Outcome => {
                    let body: OutcomeBody = body(index, &entry)?;
                    outcomes.insert(body.decision, index);
                }
                Kind::Decision => {
                    let body: DecisionBody = body(index, &entry)?;
                    if body.instance != *id {
                        continue;
                    }
                    if found.len() == DECISIONS_MAX {
                        found.reverse();
                        return Ok((found, true));
                    }
                    let outcome = outcomes.get(&index).copied();
                    let outcome = outcome.map(|at| self.outcome(at)).transpose()?.flatten();
                    found.push(self.decision(index, &bytes, &entry, body, outcome)?);
                }
                _ => {}
            }
        }
        found.reverse();
        Ok((found, from > first))
    }

    /// Reads the trace of a record.
    pub fn record(&self, log: LogName, index: u64) -> Result<RecordTrace, TraceError> {
        let reader = self.log(log);
        let size = reader.size();
        if index >= size {
            return Err(TraceError::NoRecord { log, index, size });
        }
        let bytes = reader.entry(index)?;
        let entry = parse(log, index, &bytes)?;
        let decision = match entry.kind {
            Kind::Decision => Some(index),
            Kind::Outcome => Some(body::<OutcomeBody>(index, &entry)?.decision),
            _ => None,
        };
        let (decision, sponsor) = match decision {
            None => (None, None),
            Some(at) => {
                let bytes = self.calls_log.entry(at)?;
                let entry = parse(LogName::Calls, at, &bytes)?;
                let body: DecisionBody = body(at, &entry)?;
                let sponsor = self.control.view(|state| {
                    state
                        .sponsor(&body.sponsor)
                        .map(|sponsor| state.sponsor_view(sponsor))
                });
                let outcome = self.outcome_of(at, body.effect)?;
                (
                    Some(self.decision(at, &bytes, &entry, body, outcome)?),
                    sponsor,
                )
            }
        };
        Ok(RecordTrace {
            record: RecordRef {
                log,
                index,
                leaf_hash: hash::leaf(&bytes),
            },
            kind: entry.kind,
            time: entry.time,
            node: entry.node.into_owned(),
            epoch: entry.epoch,
            actor: entry.actor,
            trace: entry.trace.into_owned(),
            body: entry.body.to_owned(),
            decision,
            sponsor,
        })
    }

    fn decision(
        &self,
        index: u64,
        bytes: &[u8],
        entry: &Entry<'_>,
        body: DecisionBody,
        outcome: Option<OutcomeTrace>,
    ) -> Result<DecisionTrace, TraceError> {
        let approval = match (body.effect, body.approval) {
            (_, Some(asked)) => self.approval_used(asked)?,
            (Effect::Hold, None) => self.approval_of(index),
            (Effect::Allow | Effect::Deny, None) => None,
        };
        let (facts, sealed) = self.sealed(index, &body.facts);
        let (mut method, mut tool) = (body.method, body.tool);
        let mut labels = BTreeSet::new();
        let (reason, arguments, left_out) = match sealed {
            None => (None, None, None),
            Some(sealed) => {
                match sealed.facts.target {
                    policy::Target::Tool { name } if body.unlisted => tool = Some(name),
                    policy::Target::Method { method: asked, .. } if body.unlisted => method = asked,
                    policy::Target::Tool { .. } | policy::Target::Method { .. } => {}
                }
                labels = sealed.facts.labels;
                let kept = sealed.left_out.is_none().then_some(sealed.facts.args);
                (Some(sealed.reason), kept, sealed.left_out)
            }
        };
        Ok(DecisionTrace {
            record: RecordRef {
                log: LogName::Calls,
                index,
                leaf_hash: hash::leaf(bytes),
            },
            time: entry.time,
            sponsor: self.control.view(|state| state.sponsor_name(&body.sponsor)),
            chain: chain::hops(self.control, &body.chain, &body.details),
            instance: body.instance,
            agent: body.agent,
            purpose: body.purpose,
            proven: body.proven,
            upstream: body.upstream,
            routed_to: body.routed_to,
            method,
            tool,
            unlisted: body.unlisted,
            effect: body.effect,
            observed: body.observed,
            break_glass: self.control.view(|state| {
                let known = body
                    .break_glass
                    .iter()
                    .filter_map(|id| state.break_glass(id));
                known
                    .map(|it| state.break_glass_view(it, self.now))
                    .collect()
            }),
            approval,
            stage: body.stage,
            policies: body.policies,
            policy_set: body.basis.policy_set,
            reason,
            arguments,
            left_out,
            facts,
            found: body.found,
            labels,
            outcome,
        })
    }

    /// What the agent was told, if the node can open it.
    fn sealed(&self, index: u64, sealed: &SealedRef) -> (FactsState, Option<Sealed>) {
        let key: Arc<_> = match self.keyring.open(&sealed.key) {
            Ok(Opened::Key(key)) => key,
            Ok(Opened::Erased) => return (FactsState::Erased, None),
            Ok(Opened::Locked) | Err(_) => return (FactsState::Sealed, None),
        };
        let opened = self
            .calls_log
            .sealed(index)
            .ok()
            .flatten()
            .and_then(|bytes| seal::open(&key, &bytes, &sealed.commit).ok())
            .and_then(|plain| serde_json::from_slice::<Sealed>(&plain).ok());
        match opened {
            Some(sealed) => (FactsState::Open, Some(sealed)),
            None => (FactsState::Damaged, None),
        }
    }

    /// The outcome of a decision, if it has one yet.
    fn outcome_of(
        &self,
        decision: u64,
        effect: Effect,
    ) -> Result<Option<OutcomeTrace>, TraceError> {
        if effect != Effect::Allow {
            return Ok(None);
        }
        let size = self.calls_log.size();
        for index in decision + 1..size.min(decision.saturating_add(SCANNED_MAX)) {
            let bytes = self.calls_log.entry(index)?;
            let entry = parse(LogName::Calls, index, &bytes)?;
            if entry.kind == Kind::Outcome
                && body::<OutcomeBody>(index, &entry)?.decision == decision
            {
                return self.outcome(index);
            }
        }
        Ok(None)
    }

    fn outcome(&self, index: u64) -> Result<Option<OutcomeTrace>, TraceError> {
        let bytes = self.calls_log.entry(index)?;
        let entry = parse(LogName::Calls, index, &bytes)?;
        let body: OutcomeBody = body(index, &entry)?;
        Ok(Some(OutcomeTrace {
            record: RecordRef {
                log: LogName::Calls,
                index,
                leaf_hash: hash::leaf(&bytes),
            },
            time: entry.time,
            result: body.result,
            cause: body.cause,
            is_error: body.is_error,
            sent: body.sent,
            response: body.response,
            labels: body.labels,
        }))
    }
}

fn misread(log: LogName, index: u64, cause: &dyn std::fmt::Display) -> TraceError {
    TraceError::Entry {
        log,
        index,
        cause: cause.to_string(),
    }
}

fn parse(log: LogName, index: u64, bytes: &[u8]) -> Result<Entry<'_>, TraceError> {
    Entry::parse(bytes).map_err(|error| misread(log, index, &error))
}

fn body<T: for<'de> Deserialize<'de>>(index: u64, entry: &Entry<'_>) -> Result<T, TraceError> {
    serde_json::from_str(entry.body.get()).map_err(|error| misread(LogName::Calls, index, &error))
}
