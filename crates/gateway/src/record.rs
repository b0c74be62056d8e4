//! What the gateway puts on record in `calls`: the shapes of its entries' bodies, and the values
//! that prove that they are durable.
//!
//! An [`Intent`] is a decision with everything that its entry says. Recorded, it becomes either a
//! `Recorded<Permit>`, the only thing that [`crate::call`] can send with, or a
//! `Recorded<Refusal>`, which goes back to the agent. An [`Inquiry`] is one that somebody else asked
//! for and acts on: recorded, it can be told, and never sent.

use std::sync::Arc;

use ledger::seal::{self, GroupKey, Sealed};
use ledger::{Actor, ActorKind, Draft, EntryError, Guard, Kind, Mention, Record, Ruling};
use mcp::Request;
use policy::{Found, Masks};
use serde::{Deserialize, Serialize};
use vocab::{
    AgentId, Digest, Handle, InstanceId, PepName, PurposePath, Rng, ToolName, UpstreamName,
};

use crate::looks::Looks;
use crate::open::Ticket;
use crate::plane::Served;

/// The body of a `decision` entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionBody {
    /// The instance that asked.
    pub instance: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// Who answers for it.
    pub sponsor: Handle,
    /// Why it acts.
    pub purpose: PurposePath,
    /// Every instance between the sponsor and the caller, the caller last.
    pub chain: Vec<InstanceId>,
    /// Of each of these, the number of the detail, from 0, of what was handed on to it that permits
    /// the call; null where that was everything. Empty in a denial, and where it was so for all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub details: Vec<Option<u64>>,
    /// Whether the caller proved possession of its key.
    pub proven: bool,
    /// The token's id.
    pub token: String,
    /// The upstream.
    pub upstream: UpstreamName,
    /// The MCP method; `other` for one that no revision of the protocol has.
    pub method: String,
    /// The tool, for `tools/call`; absent if the upstream listed none of that name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<ToolName>,
    /// Whether the upstream listed no such tool, or no revision of the protocol has such a method.
    /// Whoever asked may have made the name up, so it is in the sealed facts alone; old entries have
    /// it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unlisted: bool,
    /// SHA-256 of the JSON-RPC id's text.
    pub request: Digest,
    /// The most the caller's agent may ever do; none when the policies alone decide.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub authority: Option<Vec<String>>,
    /// Where policy sends it, if not to the upstream that was asked; of a denial, where it would have
    /// gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed_to: Option<UpstreamName>,
    /// `allow`, `hold` or `deny`.
    pub effect: Effect,
    /// Where a denial was made; `approval` where the call is held.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stage: Option<String>,
    /// A policy denial that passed because the upstream is observed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub observed: bool,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// What the decision rests on.
    pub basis: Basis,
    /// The facts that policy saw, sealed beside the entry.
    pub facts: SealedRef,
    /// What the agent says it is; empty where unknown.
    pub software: String,
    /// Digest of the model's manifest; empty where unknown.
    pub model: String,
    /// The agent's environment; empty where unknown.
    pub environment: String,
    /// The lowest index at which a permit may then have been without an outcome.
    pub open_from: u64,
    /// The break-glasses without which the caller could not act: nobody stood behind it but who
    /// broke them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub break_glass: Vec<Handle>,
    /// The index in `control` of the entry that asked for the approval that this call used up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approval: Option<u64>,
    /// Who asked for it, if it was told to a policy enforcement point, which acts on it itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked: Option<Asked>,
    /// What inspection saw in what is asked for: by which rule and how often, and never the value.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub found: Vec<Found>,
    /// What policy asks to have masked in what passes.
    #[serde(skip_serializing_if = "Masks::is_empty", default)]
    pub masks: Masks,
    /// Whether policy warns of it; the words are in the policies.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub warned: bool,
    /// The labels that this permit picks up.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub labels: Vec<String>,
}

impl DecisionBody {
    /// Whether it is a permit of which an outcome has to follow. What somebody else acts on has none.
    pub const fn awaits_outcome(&self) -> bool {
        matches!(self.effect, Effect::Allow) && self.asked.is_none()
    }
}

/// What entries call a method that no revision of the protocol has.
pub const OTHER_METHOD: &str = "other";

/// Who was told a decision, to act on it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The policy enforcement point.
    pub by: PepName,
    /// How it asked.
    pub over: Over,
}

/// How a policy enforcement point asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// `AuthZEN`, on `/access/v1`.
    Authzen,
    /// gRPC `ext_authz`.
    ExtAuthz,
}

impl Over {
    /// Every way.
    pub const ALL: [Self; 2] = [Self::Authzen, Self::ExtAuthz];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authzen => "authzen",
            Self::ExtAuthz => "ext-authz",
        }
    }
}

/// `allow`, `hold` or `deny`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Permitted.
    Allow,
    /// Not permitted before people approve it.
    Hold,
    /// Denied.
    Deny,
}

/// What a decision rests on: enough to make it again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Entries of the control log that were folded.
    pub control_size: u64,
    /// The activated policy set's blob; none when there was no valid set.
    pub policy_set: Option<Digest>,
    /// The upstream's tool list's blob; none when it was not known.
    pub tools: Option<Digest>,
    /// The blob of the upstream's options that bear on decisions.
    pub options: Digest,
    /// Versions of the engine, the schema generator and the canonicaliser.
    pub versions: String,
    /// What it rests on of the upstream that policy sends the call to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed: Option<RoutedBasis>,
}

/// What a decision rests on of the upstream that a call is sent to in place of the one asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutedBasis {
    /// That upstream.
    pub upstream: UpstreamName,
    /// Its tool list's blob; none when it was not known.
    pub tools: Option<Digest>,
    /// The blob of its options that bear on decisions.
    pub options: Digest,
}

/// Where something sealed is, and what it was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedRef {
    /// The handle of the group key.
    pub key: Handle,
    /// The salted digest of what is sealed.
    pub commit: Digest,
    /// The length of what is sealed, in bytes.
    pub bytes: u64,
}

/// What is sealed beside a decision.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionSeal {
    /// The facts.
    pub facts: policy::Facts,
    /// What the agent was told.
    pub reason: String,
    /// What is not in the facts, where that is so. A permit's facts are always whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_out: Option<LeftOut>,
}

/// The arguments of a denied call that are not kept, since they are long or the agent's denials
/// have filled their share. The facts then have `null` for them, and name no resource or prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// SHA-256 of the text of the arguments.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Seals `plain` under a group key.
pub(crate) fn seal(
    key: (&Handle, &GroupKey),
    rng: &dyn Rng,
    plain: &[u8],
) -> Result<(SealedRef, Vec<u8>), seal::SealError> {
    let Sealed { commit, bytes } = seal::seal(key.1, rng, plain)?;
    let bytes_len = u64::try_from(plain.len()).unwrap_or(u64::MAX);
    Ok((
        SealedRef {
            key: key.0.clone(),
            commit,
            bytes: bytes_len,
        },
        bytes,
    ))
}

/// A decision, and everything that its entry says.
pub(crate) struct Decided {
    pub(crate) decision: policy::Decision,
    pub(crate) body: DecisionBody,
    pub(crate) actor: Actor,
    pub(crate) trace: Option<String>,
    pub(crate) sealed: Vec<u8>,
    /// Makes the check that the writer runs at the moment of sequencing.
    pub(crate) standing: Box<dyn Fn() -> Guard + Send + Sync>,
    pub(crate) ticket: Ticket,
    /// For a permit: what is looked into, and by what it is decided on.
    pub(crate) looks: Option<Arc<Looks>>,
    /// Where it goes, if not where it was asked for.
    pub(crate) routed: Option<Arc<Served>>,
}

impl Decided {
    fn draft(&self) -> Result<Draft, EntryError> {
        let mut draft = Draft::new(Kind::Decision, self.actor.clone(), &self.body)?;
        draft.trace.clone_from(&self.trace);
        draft.sealed = Some(self.sealed.clone());
        // A denial is recorded whatever became of the instance meanwhile.
        if self.body.effect == Effect::Allow {
            draft.guard = Some((self.standing)());
        }
        Ok(draft)
    }
}

/// A decision on a request that is to be sent, ready to be recorded.
pub(crate) struct Intent {
    /// The request that was decided on.
    pub(crate) request: Arc<Request>,
    pub(crate) decided: Decided,
}

/// A permit, before and after it is on record. Nothing but an [`Intent`] makes one.
#[derive(Debug)]
pub(crate) struct Permit {
    policy: policy::Permit,
    request: Arc<Request>,
    ticket: Ticket,
    looks: Arc<Looks>,
    routed: Option<Arc<Served>>,
}

impl Permit {
    /// The upstream that policy sends it to, if not to the one that was asked.
    pub(crate) const fn routed(&self) -> Option<&Arc<Served>> {
        self.routed.as_ref()
    }

    /// What is looked into of it.
    pub(crate) const fn looks(&self) -> &Arc<Looks> {
        &self.looks
    }

    /// What policy said.
    pub(crate) const fn policy(&self) -> &policy::Permit {
        &self.policy
    }

    /// The request that was permitted, and no other.
    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// The place among open intents, to be held until the outcome is on record.
    pub(crate) fn into_ticket(self) -> Ticket {
        self.ticket
    }
}

/// A denial, or a hold. What it says went into the entry and into what the caller is told.
#[derive(Debug)]
pub(crate) struct Refusal;

impl Record for Intent {
    fn draft(&self) -> Result<Draft, EntryError> {
        self.decided.draft()
    }
}

impl Ruling for Intent {
    type Permit = Permit;
    type Denial = Refusal;

    fn ruling(self) -> Result<Permit, Refusal> {
        match (self.decided.decision, self.decided.looks) {
            (policy::Decision::Permit(policy), Some(looks)) => Ok(Permit {
                policy,
                request: self.request,
                ticket: self.decided.ticket.permitted(),
                looks,
                routed: self.decided.routed,
            }),
            (policy::Decision::Permit(_), None)
            | (policy::Decision::Hold(_) | policy::Decision::Denial(_), _) => Err(Refusal),
        }
    }
}

/// A decision that somebody else asked for, ready to be recorded.
pub(crate) struct Inquiry(pub(crate) Decided);

/// A recorded yes to somebody who acts on it elsewhere. There is no request in it to send.
#[derive(Debug)]
pub(crate) struct Granted(policy::Permit);

impl Granted {
    /// What policy said.
    pub(crate) const fn policy(&self) -> &policy::Permit {
        &self.0
    }
}

impl Record for Inquiry {
    fn draft(&self) -> Result<Draft, EntryError> {
        self.0.draft()
    }
}

impl Ruling for Inquiry {
    type Permit = Granted;
    type Denial = Refusal;

    fn ruling(self) -> Result<Granted, Refusal> {
        match self.0.decision {
            policy::Decision::Permit(policy) => Ok(Granted(policy)),
            policy::Decision::Hold(_) | policy::Decision::Denial(_) => Err(Refusal),
        }
    }
}

/// What came of a permitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Came {
    /// Nothing was sent.
    NotSent,
    /// It was sent, or may have been, and its result is not known.
    Unknown,
    /// The upstream answered.
    Completed,
}

/// The body of an `outcome` entry.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeBody {
    /// The index of the decision.
    pub decision: u64,
    /// What came of it.
    pub result: Came,
    /// Why nothing was sent or the result is not known; a fixed text, never the upstream's words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Whether the answer was an error.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_error: Option<bool>,
    /// Salted digest of what the upstream said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub said: Option<Digest>,
    /// Salted digest of what was delivered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivered: Option<Digest>,
    /// Where it went, if not to the upstream that was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routed_to: Option<UpstreamName>,
    /// What was masked in what was sent; absent where it went as it came.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent: Option<Sent>,
    /// What inspection saw in what came back, if anything, and what was done about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response: Option<Inspected>,
    /// The classes of what was found in what was delivered, which are picked up as labels.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub labels: Vec<String>,
    /// The salt of these digests, sealed beside the entry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub salt: Option<SealedRef>,
}

/// What was sent in place of what was asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// What was masked in it.
    pub masked: Vec<MaskedBy>,
    /// Salted digest of the digest of the parameters that were sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
}

/// How often something that a rule found was masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedBy {
    /// The rule.
    pub rule: String,
    /// How often.
    pub count: u64,
}

/// What inspection saw in what came back. With the facts of the decision it is what policy decided
/// on a second time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspected {
    /// By which rule and how often, and never the value.
    pub found: Vec<Found>,
    /// What was done.
    pub done: Done,
    /// The policies that decided on it.
    pub policies: Vec<String>,
    /// What was masked.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub masked: Vec<MaskedBy>,
}

/// What was done about what came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// It went on as it came.
    Passed,
    /// It went on with masks in it.
    Masked,
    /// It did not go on.
    Withheld,
}

/// An outcome, ready to be recorded.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) body: OutcomeBody,
    pub(crate) actor: Actor,
    pub(crate) trace: Option<String>,
    pub(crate) sealed: Option<Vec<u8>>,
}

impl Record for Outcome {
    fn draft(&self) -> Result<Draft, EntryError> {
        let mut draft = Draft::new(Kind::Outcome, self.actor.clone(), &self.body)?;
        draft.trace.clone_from(&self.trace);
        draft.sealed.clone_from(&self.sealed);
        Ok(draft)
    }
}

/// The body of a `listing` entry: an answer that needed no permit, or a notification that belongs to
/// no call and that something was found in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListingBody {
    /// The instance that asked.
    pub instance: InstanceId,
    /// The upstream.
    pub upstream: UpstreamName,
    /// The MCP method.
    pub method: String,
    /// How many names the upstream listed, on this page.
    pub listed: u64,
    /// How many of them were shown.
    pub shown: u64,
    /// What inspection saw in the answer, if anything, and what was done about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response: Option<Inspected>,
    /// The labels that those of the delegation picked up by it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub labels: Vec<String>,
    /// The instance that nobody delegated to, where there are labels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<InstanceId>,
}

/// A listing, ready to be recorded.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) body: ListingBody,
    pub(crate) actor: Actor,
    pub(crate) trace: Option<String>,
}

impl Record for Listing {
    fn draft(&self) -> Result<Draft, EntryError> {
        let mut draft = Draft::new(Kind::Listing, self.actor.clone(), &self.body)?;
        draft.trace.clone_from(&self.trace);
        Ok(draft)
    }
}

/// The body of a `refused` entry: requests that never became a decision, counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusedBody {
    /// Why, a fixed word.
    pub cause: String,
    /// Where.
    pub at: String,
    /// How many since the last such entry.
    pub count: u64,
    /// The instance, where it was known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instance: Option<InstanceId>,
}

/// Refusals, ready to be recorded.
#[derive(Debug)]
pub(crate) struct RefusedCount {
    pub(crate) body: RefusedBody,
}

impl Record for RefusedCount {
    fn draft(&self) -> Result<Draft, EntryError> {
        let actor = match &self.body.instance {
            Some(instance) => Actor {
                kind: ActorKind::Instance,
                id: instance.to_string(),
                credential: "token".to_owned(),
                verified: true,
            },
            None => Actor {
                kind: ActorKind::Stranger,
                id: String::new(),
                credential: "none".to_owned(),
                verified: false,
            },
        };
        Draft::new(Kind::Refused, actor, &self.body)
    }
}

/// The body of a `barrier` entry: no permit that a narrowing up to `control_size` rules out can
/// stand after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarrierBody {
    /// Entries of the control log that were folded when it was written.
    pub control_size: u64,
    /// What it is for: `start`, `stop`, `pace` (long after the last one, so that no start has to
    /// look back further), or the kind of the control entry that narrowed.
    pub cause: String,
    /// The control log as it was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub control: Option<Mention>,
}

/// A barrier, ready to be recorded.
#[derive(Debug)]
pub(crate) struct Barrier {
    pub(crate) body: BarrierBody,
    pub(crate) actor: Actor,
}

impl Record for Barrier {
    fn draft(&self) -> Result<Draft, EntryError> {
        Draft::new(Kind::Barrier, self.actor.clone(), &self.body)
    }
}

impl From<policy::Effect> for Effect {
    fn from(effect: policy::Effect) -> Self {
        match effect {
            policy::Effect::Allow => Self::Allow,
            policy::Effect::Hold => Self::Hold,
            policy::Effect::Deny => Self::Deny,
        }
    }
}

impl From<Effect> for policy::Effect {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Allow => Self::Allow,
            Effect::Hold => Self::Hold,
            Effect::Deny => Self::Deny,
        }
    }
}
