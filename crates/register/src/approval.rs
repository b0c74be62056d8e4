//! Approvals: people's word for one exact call, used once.
//!
//! A call that policy holds is asked about; the people whom policy names grant or refuse it, each
//! signed in as themselves; the same call then uses what they granted up before it is permitted.
//! Each step is an entry before it works. Whom policy names is bound to handles by the entry that
//! asks, as they are meant by the set that decided ([decision 0012]), so everything that makes a
//! grant count can be checked again from entries alone, whatever was erased meanwhile.
//!
//! [decision 0012]: ../../../docs/decisions/0012-names-in-policies.md

use std::time::Duration;

use ledger::{Actor, ActorKind};
use policy::{Approver, Needs};
use serde::{Deserialize, Serialize};
use vocab::digest::Digest;
use vocab::id::{AgentId, Handle, InstanceId, PepName, ToolName, UpstreamName};
use vocab::rng::{self, Rng};
use vocab::time::Time;

use crate::command::Subject;
use crate::decide::{NoPlan, Plan, Sealing};
use crate::entry::{Event, SignIn};
use crate::lifecycle::InvalidTransition;
use crate::nouns::{Beside, SignedIn};
use crate::refusal::Refusal;
use crate::state::{Known, State};

/// Longest text that an approver is shown, in bytes. Nobody reads more than that, and each that
/// waits is in memory.
pub const SHOWN_BYTES_MAX: usize = 32 * 1024;
/// Most people and groups that one approval may name: the entry that asks names each.
pub const NAMED_MAX: usize = 256;
/// Most approvals that the register knows at once; past it, those that were over first are
/// forgotten first.
pub const APPROVALS_KEPT_MAX: usize = 1_024;
/// How long the register knows an approval after its time, in seconds.
pub const APPROVAL_KEPT_SECONDS: u64 = 7 * 24 * 60 * 60;

const WHAT_DOMAIN: &[u8] = b"tipstaff/v1/approval";
const CALL_DOMAIN: &[u8] = b"tipstaff/v1/approval-call";

/// What an approval is for, to the byte.
#[derive(Clone, Copy, Debug)]
pub struct Exactly<'a> {
    /// The policy enforcement point that makes the call, and how it asks; none if this node does.
    pub door: Option<(&'a PepName, &'a str)>,
    /// Who calls.
    pub instance: &'a InstanceId,
    /// Every instance above it, the first first.
    pub above: &'a [InstanceId],
    /// Whom it calls.
    pub upstream: &'a UpstreamName,
    /// What it calls there, with all that says what it is.
    pub target: &'a policy::Target,
    /// The exact text of the arguments.
    pub args: &'a str,
    /// The policy set that decides.
    pub policy_set: &'a Digest,
    /// Where policy sends it in place of `upstream`, and the tools there.
    pub routed: Option<(&'a UpstreamName, Option<&'a Digest>)>,
}

impl Exactly<'_> {
    /// One digest over all of it. It can be guessed from what it is over, so it is not written down.
    pub fn digest(&self) -> Digest {
        let (what, name) = match self.target {
            policy::Target::Tool { name } => ("tool", Some(name.as_str())),
            policy::Target::Method {
                method,
                name_or_uri,
            } => (method.as_str(), name_or_uri.as_deref()),
        };
        let named = [u8::from(name.is_some())];
        let (by, over) = self.door.map_or(("", ""), |(by, over)| (by.as_str(), over));
        let mut parts: Vec<&[u8]> = vec![
            by.as_bytes(),
            over.as_bytes(),
            self.instance.as_str().as_bytes(),
            self.upstream.as_str().as_bytes(),
            what.as_bytes(),
            &named,
            name.unwrap_or_default().as_bytes(),
            self.args.as_bytes(),
            self.policy_set.as_bytes(),
        ];
        parts.extend(self.above.iter().map(|it| it.as_str().as_bytes()));
        if let Some((to, tools)) = &self.routed {
            // No instance has an empty id, so none above can pass for this.
            parts.extend([&b""[..], to.as_str().as_bytes()]);
            parts.extend(tools.map(|it| &it.as_bytes()[..]));
        }
        // Each part after its length, so that none can pass for the end of another.
        let lengths: Vec<[u8; 8]> = parts
            .iter()
            .map(|part| (part.len() as u64).to_be_bytes())
            .collect();
        let framed = lengths.iter().zip(&parts);
        let framed = framed.flat_map(|(length, part)| [length.as_slice(), part]);
        let all: Vec<&[u8]> = [WHAT_DOMAIN].into_iter().chain(framed).collect();
        Digest::of_parts(&all)
    }
}

/// What entries name a call by: with a salt that lies sealed, so that it says nothing.
fn salted(salt: &Digest, what: &Digest) -> Digest {
    Digest::of_parts(&[CALL_DOMAIN, salt.as_bytes(), what.as_bytes()])
}

/// Somebody who may approve, by handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MayApprove {
    /// Who answers for the caller: the only way for them to.
    Sponsor,
    /// A person.
    Person {
        /// Their handle.
        sponsor: Handle,
    },
    /// Whoever is in a group.
    Group {
        /// The group.
        group: Handle,
    },
}

/// So many different people of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// How many.
    pub people: u32,
    /// Of whom.
    pub of: Vec<MayApprove>,
}

/// A call is held, and people were asked to approve it. Sealed beside it: [`ApprovalRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequested {
    /// What the approval is called.
    pub id: Handle,
    /// Who called.
    pub instance: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// Whom it called.
    pub upstream: UpstreamName,
    /// The MCP method.
    pub method: String,
    /// The tool, for `tools/call`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tool: Option<ToolName>,
    /// The digest of the call: who makes it, instance, chain, target, arguments and policy set, with
    /// a salt that is sealed.
    pub call: Digest,
    /// The policy set that held it.
    pub policy_set: Digest,
    /// The index in the log of calls of the decision that held it.
    pub held: u64,
    /// Who may approve: each of these, in any one of its ways.
    pub needs: Vec<Vec<Way>>,
    /// How long they may take, and how long a granted one may then be used, in seconds.
    pub lasts_s: u64,
    /// The handle of the key that seals what is asked.
    pub key: Handle,
    /// The digest that commits to what is sealed.
    pub commit: Digest,
}

/// What is asked, sealed beside `approval-requested`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// Who has to approve, as the policies name them.
    pub needs: Needs,
    /// The exact text that an approver is shown.
    pub shown: String,
    /// The salt of the call's digest.
    pub salt: Digest,
}

/// Somebody approved, signed in as themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalGranted {
    /// The approval.
    pub id: Handle,
    /// Who: the sponsor as whom the entry's actor signed in. Nobody does it on another's behalf.
    pub by: Handle,
    /// How they signed in.
    pub sign_in: SignIn,
}

/// Somebody who may approve refused, signed in as themselves. The call stays refused for as long as
/// it could have been approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRefused {
    /// The approval.
    pub id: Handle,
    /// Who: the sponsor as whom the entry's actor signed in.
    pub by: Handle,
    /// How they signed in.
    pub sign_in: SignIn,
}

/// An approval was used up, by the call that it is for and before that is permitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalUsed {
    /// The approval.
    pub id: Handle,
    /// The digest of the call, as in the entry that asked.
    pub call: Digest,
}

/// An approval is over and was not used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalEnded {
    /// The approval.
    pub id: Handle,
    /// Why.
    pub cause: ApprovalOver,
}

/// Why an approval is over that was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApprovalOver {
    /// Nobody answered in time, or nobody used it in time.
    Expired,
    /// Something in the caller's chain was cut, or somebody who granted it, or its upstream; or
    /// what is asked was erased.
    Cut,
    /// The policies changed, or the tools or the configuration of the upstream did, or those who
    /// granted it are not enough any more.
    Changed,
}

impl ApprovalOver {
    /// The word, as in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Cut => "cut",
            Self::Changed => "changed",
        }
    }
}

/// The life of an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalLife {
    /// People were asked, and not enough of them granted it.
    Pending {
        /// Since when.
        since: Time,
        /// Until when they may.
        until: Time,
    },
    /// Enough of them did.
    Granted {
        /// Since when.
        since: Time,
        /// Until when it may be used.
        until: Time,
    },
    /// One of them refused it.
    Refused {
        /// Since when.
        since: Time,
        /// Until when the call stays refused.
        until: Time,
    },
    /// A call used it up; final.
    Used {
        /// Since when.
        since: Time,
    },
    /// It is over and was not used; final.
    Over {
        /// Since when.
        since: Time,
        /// Why.
        cause: ApprovalOver,
    },
}

/// What can happen to an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalEvent {
    /// Somebody grants it, and others have to yet.
    Join,
    /// Somebody grants it and that is enough: it may be used for so long.
    Grant(Duration),
    /// Somebody refuses it.
    Refuse,
    /// A call uses it up.
    Use,
    /// It ends.
    End(ApprovalOver),
}

impl ApprovalEvent {
    /// The event as a verb.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Grant(_) => "grant",
            Self::Refuse => "refuse",
            Self::Use => "use",
            Self::End(_) => "end",
        }
    }
}

impl ApprovalLife {
    /// The state as an adjective.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Granted { .. } => "granted",
            Self::Refused { .. } => "refused",
            Self::Used { .. } => "used",
            Self::Over { .. } => "over",
        }
    }

    /// The state after `event`.
    pub fn after(self, event: ApprovalEvent, at: Time) -> Result<Self, InvalidTransition> {
        match (self, event) {
            (Self::Pending { .. }, ApprovalEvent::Join) => Ok(self),
            (Self::Pending { .. }, ApprovalEvent::Grant(lasts)) => Ok(Self::Granted {
                since: at,
                until: at.plus(lasts),
            }),
            // Also what was granted, as long as nobody used it.
            (Self::Pending { until, .. } | Self::Granted { until, .. }, ApprovalEvent::Refuse) => {
                Ok(Self::Refused { since: at, until })
            }
            (Self::Granted { .. }, ApprovalEvent::Use) => Ok(Self::Used { since: at }),
            (
                Self::Pending { .. } | Self::Granted { .. } | Self::Refused { .. },
                ApprovalEvent::End(cause),
            ) => Ok(Self::Over { since: at, cause }),
            (
                Self::Pending { .. }
                | Self::Granted { .. }
                | Self::Refused { .. }
                | Self::Used { .. }
                | Self::Over { .. },
                ApprovalEvent::Join
                | ApprovalEvent::Grant(_)
                | ApprovalEvent::Refuse
                | ApprovalEvent::Use
                | ApprovalEvent::End(_),
            ) => Err(InvalidTransition {
                what: "an approval",
                state: self.as_str(),
                event: event.as_str(),
            }),
        }
    }

    /// When it is over by itself, or was.
    pub const fn until(&self) -> Time {
        match self {
            Self::Pending { until, .. }
            | Self::Granted { until, .. }
            | Self::Refused { until, .. } => *until,
            Self::Used { since } | Self::Over { since, .. } => *since,
        }
    }

    /// Whether its time is over at `now`, though no entry says so yet.
    pub fn expired(&self, now: Time) -> bool {
        match self {
            Self::Pending { until, .. } | Self::Granted { until, .. } => now >= *until,
            Self::Refused { .. } | Self::Used { .. } | Self::Over { .. } => false,
        }
    }
}

/// Somebody's word, for it or against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose.
    pub by: Handle,
    /// How they had signed in.
    pub sign_in: SignIn,
    /// When.
    pub at: Time,
    /// The index of the entry that says so.
    pub record: u64,
}

/// An approval, from the request to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// What it is called.
    pub id: Handle,
    /// Who called.
    pub instance: InstanceId,
    /// Every instance above it, the nearest first.
    pub above: Vec<InstanceId>,
    /// Its agent.
    pub agent: AgentId,
    /// Whom it called.
    pub upstream: UpstreamName,
    /// The MCP method.
    pub method: String,
    /// The tool, for `tools/call`.
    pub tool: Option<ToolName>,
    /// The salted digest of the call.
    pub call: Digest,
    /// The policy set that held it.
    pub policy_set: Digest,
    /// The index of the entry that put that set into force.
    pub policy: u64,
    /// The index in the log of calls of the decision that held it.
    pub held: u64,
    /// Who may approve, by handle.
    pub needs: Vec<Vec<Way>>,
    /// How long they may take, and how long a granted one may be used.
    pub lasts: Duration,
    /// When people were asked.
    pub asked_at: Time,
    /// The index of the entry that asked.
    pub asked: u64,
    /// Who granted it, in order.
    pub granted: Vec<Grant>,
    /// Who refused it.
    pub refused: Option<Grant>,
    /// The index of the entry that used it up.
    pub used: Option<u64>,
    /// What is asked.
    pub request: Known<ApprovalRequest>,
    /// The handle of the key that seals what is asked.
    pub key: Handle,
    pub(crate) beside: Beside,
    /// Where it is in its life.
    pub life: ApprovalLife,
}

impl Approval {
    /// When it is over by itself, or was.
    pub const fn until(&self) -> Time {
        self.life.until()
    }

    /// Whether people may answer it at `now`.
    pub fn is_pending(&self, now: Time) -> bool {
        matches!(self.life, ApprovalLife::Pending { .. }) && !self.life.expired(now)
    }

    /// Whether it says something of its call at `now`: it waits, was granted or refused.
    pub fn holds(&self, now: Time) -> bool {
        match self.life {
            ApprovalLife::Pending { until, .. }
            | ApprovalLife::Granted { until, .. }
            | ApprovalLife::Refused { until, .. } => now < until,
            ApprovalLife::Used { .. } | ApprovalLife::Over { .. } => false,
        }
    }

    /// Whether it is for exactly this. What cannot be read any more is for nothing.
    pub fn is_for(&self, what: &Digest) -> bool {
        let request = self.request.known();
        request.is_some_and(|request| salted(&request.salt, what) == self.call)
    }
}

/// Why somebody's word does not count for an approval.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotApprover {
    /// Nobody of that handle, suspended, or erased.
    #[error("whoever approves has to be a sponsor who is active")]
    NotActive,
    /// The caller acts for them, or they answer for an agent of its chain.
    #[error("nobody approves what is done in their own name, unless a policy says `sponsor`")]
    OwnCall,
    /// The policies name others.
    #[error("the policies ask others to approve this")]
    NotAsked,
    /// They did already.
    #[error("they granted it already; it takes somebody else now")]
    Already,
    /// It is granted, refused, used or over.
    #[error("nobody is asked any more")]
    NotPending,
}

/// Why an approval was not asked for, given or used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ApprovalRefusal {
    /// No such approval.
    #[error("there is no approval `{id}`; `tipstaff approval list` shows those there are")]
    Unknown {
        /// What was given.
        id: Handle,
    },
    /// An administrator's credential, or somebody else's name.
    #[error(
        "an approval is given by a person signed in as themselves, and `{actor}` is not: an \
         administrator's credential is nobody's approval"
    )]
    NotThemselves {
        /// Who asked.
        actor: String,
    },
    /// Their word does not count.
    #[error("{why}")]
    NotApprover {
        /// Why.
        why: NotApprover,
    },
    /// It was used, refused, or is over.
    #[error("approval `{id}` is {state}; ask for the call again")]
    Over {
        /// The approval.
        id: Handle,
        /// Where it is in its life.
        state: &'static str,
    },
    /// Not enough people granted it, or they do not count any more.
    #[error("approval `{id}` was not granted by enough people")]
    NotGranted {
        /// The approval.
        id: Handle,
    },
    /// Another call, or the same after something in it changed.
    #[error("approval `{id}` is for another call")]
    OtherCall {
        /// The approval.
        id: Handle,
    },
    /// Another policy set is in force than the one that held the call.
    #[error("the policies changed since the call was held; send it again")]
    PolicyChanged,
    /// The caller may not act.
    #[error("the caller may not act: {why}")]
    Narrowed {
        /// Why.
        why: crate::standing::Why,
    },
    /// Too many wait already.
    #[error("{waiting} approvals wait for people already, and {of} may have at most {max}")]
    TooMany {
        /// Whose: `this instance`, `this agent` or `this node`.
        of: &'static str,
        /// How many wait.
        waiting: usize,
        /// The most.
        max: usize,
    },
    /// Nobody is left who could approve.
    #[error("nobody who is active may approve this call, by the policies that hold it")]
    NobodyMay,
    /// More names than an entry takes.
    #[error("the policies name more than {NAMED_MAX} people and groups who may approve")]
    TooManyNames,
    /// More text than anybody reads.
    #[error("an approver would be shown {bytes} bytes, and at most {SHOWN_BYTES_MAX} are shown")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

/// How long approvals last, and how many may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalSettings {
    /// How long people may take, and how long a granted one may be used.
    pub lasts: Duration,
    /// How many of one instance may wait.
    pub per_instance: usize,
    /// How many of one agent's instances.
    pub per_agent: usize,
    /// How many in all.
    pub in_all: usize,
}

impl ApprovalSettings {
    /// The most that may wait in all. Over ones take the rest of [`APPROVALS_KEPT_MAX`].
    pub const IN_ALL_MAX: usize = APPROVALS_KEPT_MAX / 2;
}

impl Default for ApprovalSettings {
    /// An hour: whoever is asked is in a meeting, not on holiday. Eight of an instance: more than
    /// that nobody reads with care. Of an agent so many that it does not take all.
    fn default() -> Self {
        Self {
            lasts: Duration::from_hours(1),
            per_instance: 8,
            per_agent: 64,
            in_all: Self::IN_ALL_MAX,
        }
    }
}

/// What people are to be asked.
#[derive(Clone, Debug)]
pub struct NewApproval {
    /// Who called.
    pub instance: InstanceId,
    /// Whom it called.
    pub upstream: UpstreamName,
    /// The MCP method.
    pub method: String,
    /// The tool, for `tools/call`.
    pub tool: Option<ToolName>,
    /// [`Exactly::digest`] of the call.
    pub what: Digest,
    /// The index of the entry that put the set into force that held it.
    pub policy: u64,
    /// The index in the log of calls of the decision that held it.
    pub held: u64,
    /// Who has to approve.
    pub needs: Needs,
    /// What they are shown.
    pub shown: String,
}

/// What can be asked of approvals.
#[derive(Clone, Debug)]
pub enum ApprovalCommand {
    /// Asks people to approve a call. For a call that they were asked about already it changes
    /// nothing.
    Request(Box<NewApproval>),
    /// Grants it, in the name of who asks.
    Grant {
        /// The approval.
        id: Handle,
        /// Who: the actor.
        by: Handle,
        /// How they signed in.
        sign_in: SignIn,
        /// When they signed in: if they were signed out since, nothing is granted.
        signed_in: Option<SignedIn>,
    },
    /// Refuses it, in the name of who asks.
    Refuse {
        /// The approval.
        id: Handle,
        /// Who: the actor.
        by: Handle,
        /// How they signed in.
        sign_in: SignIn,
        /// When they signed in: if they were signed out since, nothing is refused.
        signed_in: Option<SignedIn>,
    },
    /// Uses it up.
    Use {
        /// The approval.
        id: Handle,
        /// [`Exactly::digest`] of the call that uses it.
        what: Digest,
    },
    /// Ends it.
    Over {
        /// The approval.
        id: Handle,
        /// Why.
        cause: ApprovalOver,
    },
}

/// What `actor` asks comes to at `now`.
pub(crate) fn decide(
    state: &State,
    settings: ApprovalSettings,
    rng: &dyn Rng,
    now: Time,
    actor: &Actor,
    command: ApprovalCommand,
) -> Result<Plan, NoPlan> {
    match command {
        ApprovalCommand::Request(new) => request(state, settings, rng, now, *new),
        ApprovalCommand::Grant {
            id,
            by,
            sign_in,
            signed_in,
        } => {
            in_person(state, actor, &by, sign_in, signed_in)?;
            Ok(grant(state, now, id, by, sign_in)?)
        }
        ApprovalCommand::Refuse {
            id,
            by,
            sign_in,
            signed_in,
        } => {
            in_person(state, actor, &by, sign_in, signed_in)?;
            Ok(refuse(state, now, id, by, sign_in)?)
        }
        ApprovalCommand::Use { id, what } => Ok(take(state, now, id, &what)?),
        ApprovalCommand::Over { id, cause } => Ok(end(state, now, id, cause)?),
    }
}

fn request(
    state: &State,
    settings: ApprovalSettings,
    rng: &dyn Rng,
    now: Time,
    new: NewApproval,
) -> Result<Plan, NoPlan> {
    let standing = state.standing_at(&new.instance, &new.upstream, now);
    let active = standing
        .active()
        .map_err(|why| ApprovalRefusal::Narrowed { why })?;
    let policy = state.policy().filter(|it| it.record == new.policy);
    let policy_set = policy
        .map(|it| it.set)
        .ok_or(ApprovalRefusal::PolicyChanged)?;
    if let Some(asked) = state.approval_for(&new.instance, &new.what, now) {
        return Ok(Plan::Unchanged(Subject::Approval(asked.id.clone())));
    }
    let agent = active.instance().agent.clone();
    state.may_ask(settings, &new.instance, &agent, now)?;
    let bytes = new.shown.len();
    if bytes > SHOWN_BYTES_MAX {
        return Err(ApprovalRefusal::TooLong { bytes }.into());
    }
    let needs = state.who_may(&new.needs, new.policy, active.instance())?;
    let id = Handle::random("ap", rng)?;
    let salt = Digest::from_bytes(rng::bytes(rng)?);
    let sponsor = active.instance().sponsor.clone();
    let requested = ApprovalRequested {
        id: id.clone(),
        instance: new.instance,
        agent,
        upstream: new.upstream,
        method: new.method,
        tool: new.tool,
        call: salted(&salt, &new.what),
        policy_set,
        held: new.held,
        needs,
        lasts_s: settings.lasts.as_secs(),
        // Of what is sealed, once it is.
        key: id.clone(),
        commit: salt,
    };
    let request = ApprovalRequest {
        needs: new.needs,
        shown: new.shown,
        salt,
    };
    let sealing = Sealing::Approval(sponsor, Box::new((requested, request)));
    Ok(Plan::Seal(
        Subject::Approval(id),
        Box::new(sealing),
        Vec::new(),
    ))
}

impl From<ApprovalRefusal> for NoPlan {
    fn from(refusal: ApprovalRefusal) -> Self {
        Self::Refused(refusal.into())
    }
}

/// Whom the set that the entry `since` put into force means by the names in `needs`. Whom nobody
/// can tell may not approve.
pub(crate) fn bound(
    state: &State,
    needs: &Needs,
    since: u64,
) -> Result<Vec<Vec<Way>>, ApprovalRefusal> {
    let mut named = 0;
    let mut all = Vec::new();
    for ways in needs.all() {
        let mut bound = Vec::new();
        for approvers in ways {
            named += approvers.named().len();
            if named > NAMED_MAX {
                return Err(ApprovalRefusal::TooManyNames);
            }
            let of = approvers.named().iter().filter_map(|it| match it {
                Approver::Sponsor => Some(MayApprove::Sponsor),
                Approver::Person(id) => {
                    let sponsor = state.sponsor_meant(id.as_str(), since)?;
                    Some(MayApprove::Person { sponsor })
                }
                Approver::Group(name) => {
                    let group = state.group_meant(name, since)?;
                    Some(MayApprove::Group { group })
                }
            });
            bound.push(Way {
                people: u32::try_from(approvers.people()).unwrap_or(u32::MAX),
                of: of.collect(),
            });
        }
        all.push(bound);
    }
    Ok(all)
}

/// Whether `actor` is the person in whose name they act, signed in and not signed out since.
fn in_person(
    state: &State,
    actor: &Actor,
    by: &Handle,
    sign_in: SignIn,
    since: Option<SignedIn>,
) -> Result<(), Refusal> {
    if !is_themselves(actor, by, sign_in) {
        let actor = actor.id.clone();
        return Err(ApprovalRefusal::NotThemselves { actor }.into());
    }
    crate::decide::still_signed_in(state, by, since)
}

/// Whether an entry's actor is a person who signed in as themselves.
pub(crate) fn is_themselves(actor: &Actor, by: &Handle, sign_in: SignIn) -> bool {
    actor.kind == ActorKind::Person
        && actor.verified
        && actor.id == by.as_str()
        && actor.credential == sign_in.as_str()
}

fn grant(
    state: &State,
    now: Time,
    id: Handle,
    by: Handle,
    sign_in: SignIn,
) -> Result<Plan, ApprovalRefusal> {
    let approval = known(state, &id)?;
    timely(approval, now)?;
    state
        .may_approve(&by, approval)
        .map_err(|why| ApprovalRefusal::NotApprover { why })?;
    Ok(Plan::Write(
        Subject::Approval(id.clone()),
        vec![Event::ApprovalGranted(ApprovalGranted { id, by, sign_in })],
    ))
}

fn refuse(
    state: &State,
    now: Time,
    id: Handle,
    by: Handle,
    sign_in: SignIn,
) -> Result<Plan, ApprovalRefusal> {
    let approval = known(state, &id)?;
    timely(approval, now)?;
    state
        .may_refuse(&by, approval)
        .map_err(|why| ApprovalRefusal::NotApprover { why })?;
    Ok(Plan::Write(
        Subject::Approval(id.clone()),
        vec![Event::ApprovalRefused(ApprovalRefused { id, by, sign_in })],
    ))
}

fn take(state: &State, now: Time, id: Handle, what: &Digest) -> Result<Plan, ApprovalRefusal> {
    let approval = known(state, &id)?;
    timely(approval, now)?;
    if !approval.is_for(what) {
        return Err(ApprovalRefusal::OtherCall { id });
    }
    // What changes the policies ends it, so this is only where that was not seen yet.
    if state.policy().is_none_or(|it| it.record != approval.policy) {
        return Err(ApprovalRefusal::PolicyChanged);
    }
    if !state.is_granted(approval) {
        return Err(ApprovalRefusal::NotGranted { id });
    }
    let call = approval.call;
    Ok(Plan::Write(
        Subject::Approval(id.clone()),
        vec![Event::ApprovalUsed(ApprovalUsed { id, call })],
    ))
}

fn end(state: &State, now: Time, id: Handle, cause: ApprovalOver) -> Result<Plan, ApprovalRefusal> {
    let approval = known(state, &id)?;
    let subject = Subject::Approval(id.clone());
    let early = cause == ApprovalOver::Expired && !approval.life.expired(now);
    match approval.life {
        ApprovalLife::Pending { .. } | ApprovalLife::Granted { .. } if !early => Ok(Plan::Write(
            subject,
            vec![Event::ApprovalEnded(ApprovalEnded { id, cause })],
        )),
        _ => Ok(Plan::Unchanged(subject)),
    }
}

/// Whether it is neither over nor expired. The fold does not ask the time: an entry can be a moment
/// younger than the decision to write it.
fn timely(approval: &Approval, now: Time) -> Result<(), ApprovalRefusal> {
    let state = match approval.life {
        life if life.expired(now) => ApprovalOver::Expired.as_str(),
        ApprovalLife::Pending { .. } | ApprovalLife::Granted { .. } => return Ok(()),
        ApprovalLife::Over { cause, .. } => cause.as_str(),
        ApprovalLife::Refused { .. } | ApprovalLife::Used { .. } => approval.life.as_str(),
    };
    let id = approval.id.clone();
    Err(ApprovalRefusal::Over { id, state })
}

fn known<'a>(state: &'a State, id: &Handle) -> Result<&'a Approval, ApprovalRefusal> {
    let found = state.approval(id).map(AsRef::as_ref);
    found.ok_or_else(|| ApprovalRefusal::Unknown { id: id.clone() })
}
