//! What the state is made of: administrators, sponsors, groups, agents, instances, upstreams, as
//! the entries about them have left them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::{Kind, Mention};
use vocab::Authority;
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PepName, PurposePath, SponsorId, ToolName, UpstreamName,
};
use vocab::limits::CLOCK_LEEWAY_SECONDS;
use vocab::time::Time;

use crate::allow::Allow;
use crate::approval::ApprovalRequest;
use crate::entry::{
    AgentAdded, Binding, CallLimits, DelegationLimits, InstanceStarted, Key, NodeStarted, Owners,
    People, RISK_LEVEL_CHANGE, Risk, SealedAuthority, SignIn, Signal, SponsorResumed, TestResults,
    Via,
};
use crate::jwk::{PublicJwk, Thumbprint};
use crate::lifecycle::{
    Acceptance, AgentLife, InstanceLife, KeyLife, SponsorEvent, SponsorLife, Switch,
};
use crate::refusal::Refusal;
use crate::text::{AdminKey, GroupProfile, KeyId, Label, Person, Reason, Word};

/// Something sealed beside an entry, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// This.
    Named(T),
    /// The key that sealed it is destroyed.
    Erased,
    /// The key is there but locked, or the sealed bytes are not with the entries. Only a reader
    /// without the node's keys sees this; a node does not start with it.
    Sealed,
}

impl<T> Known<T> {
    /// It, unless it is erased or sealed.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Named(it) => Some(it),
            Self::Erased | Self::Sealed => None,
        }
    }

    /// Why it cannot be read, as a word; none: it can.
    pub const fn unknown(&self) -> Option<&'static str> {
        match self {
            Self::Named(_) => None,
            Self::Erased => Some("erased"),
            Self::Sealed => Some("sealed"),
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Known<U> {
        match self {
            Self::Named(it) => Known::Named(change(it)),
            Self::Erased => Known::Erased,
            Self::Sealed => Known::Sealed,
        }
    }
}

/// Who a sponsor is, as far as it can be read.
pub type Identity = Known<Person>;

/// What was sealed beside an entry.
#[derive(Debug)]
pub(crate) enum Unsealed {
    /// The entry has nothing sealed.
    Nothing,
    /// Who a sponsor is.
    Person(Identity),
    /// What was handed on to an instance.
    Authority(Known<Authority>),
    /// What a group is called.
    Group(Known<GroupProfile>),
    /// Why a glass was broken.
    Reason(Known<Reason>),
    /// What people are asked to approve.
    Approval(Known<ApprovalRequest>),
}

/// Where something lies sealed, and the digest that commits to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beside {
    /// The index of the entry.
    pub(crate) record: u64,
    pub(crate) commit: Digest,
}

/// A group of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The random handle that entries name.
    pub handle: Handle,
    /// The handle of the key that seals its name.
    pub key: Handle,
    /// What it is called.
    pub profile: Known<GroupProfile>,
    pub(crate) beside: Beside,
    /// The sponsors who are in it.
    pub members: BTreeSet<Handle>,
    /// When it was added.
    pub added_at: Time,
    /// The index of the entry that added it.
    pub record: u64,
    /// The index of the last entry about it.
    pub changed: u64,
    /// When that was.
    pub changed_at: Time,
}

impl Group {
    /// Its name, unless it is erased or sealed.
    pub fn name(&self) -> Option<&str> {
        match &self.profile {
            Known::Named(profile) => Some(profile.display_name.as_str()),
            Known::Erased | Known::Sealed => None,
        }
    }
}

/// A named administrator: whoever holds the private half of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Their name.
    pub id: AdminId,
    /// The public half of their credential.
    pub key: AdminKey,
    /// When it was added.
    pub added_at: Time,
    /// The index of the entry that added it.
    pub record: u64,
}

/// A policy enforcement point: a service or gateway that asks what it may let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pep {
    /// What it is called.
    pub name: PepName,
    /// SHA-256 of the token that it shows.
    pub token: Digest,
    /// What it may ask about, sorted.
    pub serves: Vec<UpstreamName>,
    /// Whether its word is taken for which instance asks.
    pub trusted: bool,
    /// When it was added.
    pub added_at: Time,
    /// The index of the entry that added it.
    pub record: u64,
}

/// A person who answers for agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sponsor {
    /// The random handle that entries and tokens name.
    pub handle: Handle,
    /// The handle of the key that seals who they are.
    pub key: Handle,
    /// Who they are.
    pub identity: Identity,
    pub(crate) beside: Beside,
    /// Where they are in their life.
    pub life: SponsorLife,
    /// What suspended them, each for itself: a signal, or an administrator. They go on when all of it
    /// is lifted; an administrator lifts all at once.
    pub holds: Vec<Option<Signal>>,
    /// Whether a directory speaks for them.
    pub provisioned: bool,
    /// How risky their account is held to be, if anybody said.
    pub risk: Option<Risk>,
    /// The index of the entry since which what ran for them before is over.
    pub sessions_revoked: Option<u64>,
    /// What last signed them out everywhere: they were suspended, or their sessions revoked.
    pub signed_out: Option<SignedOut>,
    /// The latest event of each class that is on record, by when it happened.
    pub heard: BTreeMap<String, Latest>,
    /// Who is to be offered their agents when nobody answers for these any more, in that order.
    pub deputies: Vec<Handle>,
    /// When they were added.
    pub added_at: Time,
    /// The index of the entry that added them.
    pub record: u64,
    /// The index of the last entry about them.
    pub changed: u64,
    /// When that was.
    pub changed_at: Time,
}

/// What signed a person out everywhere. It stays when a suspension is lifted: whoever had their
/// browser then does not have it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedOut {
    /// The index of the entry.
    pub record: u64,
    /// When that was.
    pub at: Time,
}

/// When a person signed in, in whose name something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedIn {
    /// In a browser here: how many entries there were when they began to.
    Here(u64),
    /// At their provider: when that vouched for them, by its own clock.
    There(Time),
}

/// The latest event of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latest {
    /// When it happened.
    pub at: Time,
    /// Which of two of the same moment counts: the higher.
    pub rank: u8,
    /// The index of the entry that has it.
    pub record: u64,
}

impl Sponsor {
    /// Whether they were signed out since they signed in. What cannot be shown to be later is not:
    /// a provider's clock may be ahead of this node's by as much as is borne with.
    pub fn is_signed_out(&self, since: SignedIn) -> bool {
        self.signed_out.is_some_and(|out| match since {
            SignedIn::Here(entries) => out.record >= entries,
            SignedIn::There(at) => at <= out.at.plus(Duration::from_secs(CLOCK_LEEWAY_SECONDS)),
        })
    }

    /// Whether an event is later than what is on record of its class, so that something follows of
    /// it. What has no time of its own always is.
    pub fn is_news(&self, signal: &Signal, rank: u8) -> bool {
        let latest = self.heard.get(signal.class());
        latest.is_none_or(|latest| {
            signal
                .happened_at
                .is_none_or(|at| (at, rank) > (latest.at, latest.rank))
        })
    }

    /// Notes what stopped them; heard again, and later, it takes the place of the first, so that
    /// what lifts that does not lift this.
    pub(crate) fn hold(&mut self, signal: Option<Signal>, out: SignedOut) {
        self.signed_out = Some(out);
        self.hear_in(signal.as_ref(), out.record);
        self.holds
            .retain(|by| !same_cause(by.as_ref(), signal.as_ref()));
        self.holds.push(signal);
    }

    /// Ends what runs for them and what they began.
    pub(crate) fn sign_out(&mut self, signal: &Signal, out: SignedOut) {
        self.sessions_revoked = Some(out.record);
        self.signed_out = Some(out);
        self.hear_in(Some(signal), out.record);
    }

    /// Puts on record when an event happened; `record` is the entry that has it.
    pub(crate) fn hear(&mut self, signal: &Signal, rank: u8, record: u64) {
        if let Some(at) = signal.happened_at
            && self.is_news(signal, rank)
        {
            let latest = Latest { at, rank, record };
            self.heard.insert(signal.class().to_owned(), latest);
        }
    }

    /// The same, of what follows of an event. Of a risk that is not the last of it: the risk is,
    /// and has it.
    pub(crate) fn hear_in(&mut self, signal: Option<&Signal>, record: u64) {
        if let Some(signal) = signal.filter(|it| it.event.as_str() != RISK_LEVEL_CHANGE) {
            self.hear(signal, signal.rank(), record);
        }
    }

    /// What still stops them when something is lifted, and what that is in their life. Who else
    /// stopped them still does; and what is heard of somebody whom nothing stopped is only on
    /// record.
    pub(crate) fn lifted(&self, by: &SponsorResumed) -> (SponsorEvent, Vec<Option<Signal>>) {
        let holds = self.holds.iter().filter(|hold| !by.lifts(hold.as_ref()));
        let holds: Vec<_> = holds.cloned().collect();
        let lifted = self.holds.len() > holds.len() || by.lifts.is_none();
        let event = if holds.is_empty() && lifted {
            SponsorEvent::Resume
        } else {
            SponsorEvent::Change
        };
        (event, holds)
    }

    /// Who they are, unless it is erased or sealed.
    pub const fn person(&self) -> Option<&Person> {
        match &self.identity {
            Identity::Named(person) => Some(person),
            Identity::Erased | Identity::Sealed => None,
        }
    }

    /// What stops them that no administrator said: a directory, a provider.
    pub fn holds_of_others(&self) -> impl Iterator<Item = &Signal> {
        let others = |hold: &&Signal| !matches!(hold.source.as_str(), "cli" | "api");
        self.holds.iter().flatten().filter(others)
    }

    /// Whether an administrator stopped them, whoever else did.
    pub fn held_by_admin(&self) -> bool {
        self.holds_of_others().count() < self.holds.len()
    }

    /// Their id, unless it is erased or sealed.
    pub fn id(&self) -> Option<&SponsorId> {
        self.person().map(|person| &person.id)
    }
}

/// Whether two holds are of the same cause, so that what lifts one lifts the other.
pub(crate) fn same_cause(one: Option<&Signal>, other: Option<&Signal>) -> bool {
    let cause = |by: &Signal| (by.source.clone(), by.event.clone());
    one.map(cause) == other.map(cause)
}

/// A key that starts, or once started, an agent's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentKey {
    /// Its id.
    pub kid: KeyId,
    /// The public key.
    pub jwk: PublicJwk,
    /// Not before this.
    pub not_before: Option<Time>,
    /// Not from this on.
    pub expires_at: Time,
    /// Where it is in its life.
    pub life: KeyLife,
}

/// Why a key does not start instances now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// Its time has not come.
    NotYet,
    /// Its time is over.
    Expired,
}

impl AgentKey {
    pub(crate) fn new(key: &Key, since: Time) -> Self {
        Self {
            kid: key.kid.clone(),
            jwk: key.jwk.clone(),
            not_before: key.not_before,
            expires_at: key.expires_at,
            life: KeyLife::Current { since },
        }
    }

    /// Whether `now` lies in the key's time.
    pub fn valid_at(&self, now: Time) -> Result<(), KeyFault> {
        if self.not_before.is_some_and(|start| now < start) {
            Err(KeyFault::NotYet)
        } else if now >= self.expires_at {
            Err(KeyFault::Expired)
        } else {
            Ok(())
        }
    }
}

/// A registered kind of agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Who answers for it.
    pub sponsor: Handle,
    /// What is known of that.
    pub acceptance: Acceptance,
    /// The index of the entry that last asked its sponsor to answer for it: it was added, transferred,
    /// or its acceptance lapsed.
    pub asked_in: u64,
    /// What the last acceptance was to.
    pub accepted: Option<Accepted>,
    /// Who answered for it before, the first first.
    pub past_sponsors: Vec<PastSponsor>,
    /// Who owns it beside its sponsor.
    pub owners: Owners,
    /// When somebody last said that it is needed: registered, accepted, transferred or reviewed it.
    pub reviewed_at: Time,
    /// Where it is in its life.
    pub life: AgentLife,
    /// What it may act for: each of these, or narrower.
    pub purposes: Vec<PurposePath>,
    /// The most it may ever do; none: the policies alone decide.
    pub allow: Option<Vec<Allow>>,
    /// Live instances at once.
    pub max_instances: u32,
    /// Whether its instances may use tokens without proof of possession.
    pub allow_bearer: bool,
    /// How long an instance lives at most.
    pub max_lifetime: Duration,
    /// How long an instance may be idle.
    pub idle: Duration,
    /// How much it may call.
    pub limits: CallLimits,
    /// How far its instances may delegate.
    pub delegation: DelegationLimits,
    /// Who may sign in to start instances of it.
    pub people: Option<People>,
    /// The key that starts its instances; none if only people or workloads start them.
    pub key: Option<AgentKey>,
    /// The keys it had before, oldest first.
    pub past_keys: Vec<AgentKey>,
    /// Its software and version; empty where unknown.
    pub software: Label,
    /// Its model's digest or name; empty where unknown.
    pub model: Label,
    /// Where it runs; empty where unknown.
    pub environment: Label,
    /// When it was added.
    pub added_at: Time,
    /// The index of the entry that added it.
    pub record: u64,
}

/// What a sponsor accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Exactly what they were shown, a blob.
    pub terms: Digest,
    /// How they signed in.
    pub sign_in: SignIn,
    /// The index of the entry that says so.
    pub record: u64,
}

/// A sponsor that an agent had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastSponsor {
    /// Who.
    pub sponsor: Handle,
    /// Until when.
    pub until: Time,
    /// The index of the entry that gave it another. What was started before it is over.
    pub record: u64,
}

impl Agent {
    /// Whether an instance that the entry at `record` started was started under an earlier sponsor.
    pub fn outlived_sponsor(&self, record: u64) -> bool {
        self.past_sponsors
            .last()
            .is_some_and(|past| record < past.record)
    }

    /// Whether its allow list, if it has one, allows calling a tool.
    pub fn may_call(&self, upstream: &UpstreamName, tool: &ToolName) -> bool {
        self.allow
            .as_ref()
            .is_none_or(|lines| lines.iter().any(|line| line.tool(upstream, tool)))
    }

    /// Whether its allow list, if it has one, allows a method.
    pub fn may_request(&self, upstream: &UpstreamName, method: &str) -> bool {
        self.allow
            .as_ref()
            .is_none_or(|lines| lines.iter().any(|line| line.method(upstream, method)))
    }

    /// Whether it is registered for a purpose, or one that this is narrower than.
    pub fn acts_for(&self, purpose: &PurposePath) -> bool {
        self.purposes
            .iter()
            .any(|registered| purpose.is_at_or_below(registered))
    }

    /// Whether a key is the one that speaks for it now.
    pub fn holds(&self, kid: &KeyId, now: Time) -> Result<(), Refusal> {
        let (agent, kid) = (self.id.clone(), kid.clone());
        let Some(key) = self.key.as_ref().filter(|key| key.kid == kid) else {
            return Err(Refusal::KeyNotCurrent { agent, kid });
        };
        match key.valid_at(now) {
            Ok(()) => Ok(()),
            Err(KeyFault::NotYet) => Err(Refusal::KeyNotYet {
                agent,
                kid,
                not_before: key.not_before.unwrap_or(now),
            }),
            Err(KeyFault::Expired) => Err(Refusal::KeyExpired {
                agent,
                kid,
                expired_at: key.expires_at,
            }),
        }
    }

    pub(crate) fn add(body: AgentAdded, at: Time, record: u64) -> Self {
        Self {
            id: body.agent,
            sponsor: body.sponsor,
            acceptance: Acceptance::Asserted { since: at },
            asked_in: record,
            accepted: None,
            past_sponsors: Vec::new(),
            owners: body.owners,
            reviewed_at: at,
            life: AgentLife::Active { since: at },
            purposes: body.purposes,
            allow: body.allow,
            max_instances: body.max_instances,
            allow_bearer: body.allow_bearer,
            max_lifetime: Duration::from_secs(body.max_lifetime_s),
            idle: Duration::from_secs(body.idle_s),
            limits: body.limits,
            delegation: body.delegation,
            people: body.people,
            key: body.key.as_ref().map(|key| AgentKey::new(key, at)),
            past_keys: Vec::new(),
            software: body.software,
            model: body.model,
            environment: body.environment,
            added_at: at,
            record,
        }
    }
}

/// When an instance was last used, as this process saw it. Not part of the fold: the log does not
/// say it, so it is unknown until somebody who knows says so, and while it is unknown nothing is
/// taken to be idle.
#[derive(Debug, Default)]
pub struct LastUsed(AtomicU64);

impl LastUsed {
    /// The moment, if it is known.
    pub fn get(&self) -> Option<Time> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Time::from_micros(micros)),
        }
    }

    /// Moves the moment forward to `now`, unless more than `idle` lies between: what expired for
    /// idleness is not brought back by a late use.
    pub(crate) fn touch(&self, now: Time, idle: Duration) {
        let _: Result<u64, u64> =
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                    let last = Time::from_micros(last);
                    let expired = last != Time::EPOCH && now.since(last) >= idle;
                    (now > last && !expired).then_some(now.as_micros())
                });
    }
}

/// Two folds of one log are the same whatever was used in between.
impl PartialEq for LastUsed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUsed {}

/// One running agent, or one that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// The agent that it is an instance of.
    pub agent: AgentId,
    /// For whom it acts: the agent's sponsor, or the person who started it or the one above it.
    pub sponsor: Handle,
    /// The instance that delegated to it.
    pub parent: Option<InstanceId>,
    /// How many instances stand above it.
    pub depth: u8,
    /// Why it acts.
    pub purpose: PurposePath,
    /// How its tokens are bound.
    pub binding: Binding,
    /// The upstream that its first token was for.
    pub upstream: UpstreamName,
    /// What started it.
    pub origin: Origin,
    /// What was handed on to it; none: all that its agent, and whoever delegated to it, may do.
    pub authority: Option<Arc<HandedOn>>,
    /// Calls that it and all below it may make in its life.
    pub max_calls: Option<u64>,
    /// The number of the refresh token that can be used.
    pub refresh_serial: u64,
    /// Where it is in its life.
    pub life: InstanceLife,
    /// When it started.
    pub started_at: Time,
    /// When its lifetime is over.
    pub expires_at: Time,
    /// How long it may be idle.
    pub idle: Duration,
    /// The index of the entry that started it.
    pub record: u64,
    /// When it was last used.
    pub last_used: Arc<LastUsed>,
}

/// What was handed on to an instance, where that was less than everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOn {
    /// It, as far as it can be read.
    pub authority: Known<Arc<Authority>>,
    /// The key that seals it, and the digest that commits to it; none: the entry has it in clear.
    pub(crate) sealed: Option<SealedAuthority>,
}

impl HandedOn {
    /// The most that it lets anybody do. What nobody can read lets nobody do anything.
    pub fn bound(&self) -> Arc<Authority> {
        self.authority.known().map(Arc::clone).unwrap_or_default()
    }

    /// Whether a key seals it.
    pub(crate) fn is_under(&self, key: &Handle) -> bool {
        let sealed = self.sealed.as_ref();
        sealed.is_some_and(|sealed| sealed.key == *key)
    }
}

/// What started an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A key of its agent.
    AgentKey(KeyId),
    /// Something else.
    Via(Via),
}

impl Instance {
    pub(crate) fn start(
        body: InstanceStarted,
        origin: Origin,
        authority: Option<HandedOn>,
        parent: Option<&Self>,
        at: Time,
        record: u64,
    ) -> Self {
        let until = at.plus(Duration::from_secs(body.max_lifetime_s));
        Self {
            id: body.instance,
            agent: body.agent,
            sponsor: body.sponsor,
            parent: body.parent,
            depth: parent.map_or(0, |parent| parent.depth.saturating_add(1)),
            purpose: body.purpose,
            binding: body.binding,
            upstream: body.upstream,
            origin,
            authority: authority.map(Arc::new),
            max_calls: body.max_calls,
            refresh_serial: 0,
            life: InstanceLife::Running,
            started_at: at,
            // Nobody outlives what they are a part of.
            expires_at: parent.map_or(until, |parent| until.min(parent.expires_at)),
            idle: Duration::from_secs(body.idle_s),
            record,
            last_used: Arc::default(),
        }
    }

    /// What was handed on to it, as the most that it and all below it may do; none: everything.
    pub fn bound(&self) -> Option<Arc<Authority>> {
        self.authority.as_ref().map(|it| it.bound())
    }

    /// Why nobody can say any more what was handed on to it: `erased` or `sealed`.
    pub fn bound_unknown(&self) -> Option<&'static str> {
        self.authority.as_ref()?.authority.unknown()
    }

    /// Whether it is a credential for one call.
    pub const fn is_once(&self) -> bool {
        matches!(self.origin, Origin::Via(Via::Once))
    }

    /// Whether it counts against what may live at once.
    pub fn lives(&self, now: Time) -> bool {
        match self.life {
            InstanceLife::Running => !self.outlived(now) && !self.idled(now),
            InstanceLife::Ended { .. } => false,
        }
    }

    /// Whether its lifetime is over at `now`.
    pub fn outlived(&self, now: Time) -> bool {
        now >= self.expires_at
    }

    /// Whether it was idle too long at `now`, as far as this process knows.
    pub fn idled(&self, now: Time) -> bool {
        self.last_used
            .get()
            .is_some_and(|last| now.since(last) >= self.idle)
    }

    /// The agent's key that started it, if one did.
    pub const fn key(&self) -> Option<&KeyId> {
        match &self.origin {
            Origin::AgentKey(kid) => Some(kid),
            Origin::Via(_) => None,
        }
    }

    /// What it is continued by, if it is by anything.
    pub(crate) fn continues_as(&self) -> Option<Continues> {
        Continues::of(&self.agent, &self.origin, self.binding, &self.purpose)
    }
}

/// What an instance is continued by: the same agent, by a key of its own or as the same workload,
/// proves the same key for the same purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Continues {
    agent: AgentId,
    /// The issuer's name and the digest of the subject; none: a key of the agent.
    workload: Option<(Word, Digest)>,
    pub(crate) jkt: Thumbprint,
    purpose: PurposePath,
}

impl Continues {
    /// People's instances go on by refresh tokens, and those below another by their own tokens.
    pub(crate) fn of(
        agent: &AgentId,
        origin: &Origin,
        binding: Binding,
        purpose: &PurposePath,
    ) -> Option<Self> {
        let Binding::Dpop { jkt } = binding else {
            return None;
        };
        let workload = match origin {
            Origin::AgentKey(_) => None,
            Origin::Via(Via::Workload { issuer, subject }) => Some((issuer.clone(), *subject)),
            Origin::Via(
                Via::Person { .. } | Via::IdentityAssertion { .. } | Via::Exchange | Via::Once,
            ) => return None,
        };
        Some(Self {
            agent: agent.clone(),
            workload,
            jkt,
            purpose: purpose.clone(),
        })
    }
}

/// An upstream's tool list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The list, a blob.
    pub blob: Digest,
    /// How many tools are in it.
    pub count: u32,
    /// When it was read.
    pub listed_at: Time,
    /// The index of the entry that names it.
    pub record: u64,
}

/// Which definitions of an upstream's tools are accepted, and which are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// What says so, a blob.
    pub blob: Digest,
    /// Tools that are listed as they were accepted.
    pub accepted: u32,
    /// Tools that are listed and cannot be called.
    pub held: u32,
    /// The index of the entry that names it.
    pub record: u64,
}

/// An upstream that was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// The digest of what of its configuration decisions rest on.
    pub config: Digest,
    /// The digest of all of its configuration; none if it was put on record before there was one.
    pub table: Option<Digest>,
    /// Whether it may be called.
    pub switch: Switch,
    /// Until when what policy denies passes and is recorded as such.
    pub observe_until: Option<Time>,
    /// Its tool list, if one was read.
    pub tools: Option<Tools>,
    /// What of it is accepted, once it was listed.
    pub pins: Option<Pins>,
    /// The index of the entry that configured it.
    pub record: u64,
}

impl Upstream {
    /// Whether these are its pins already.
    pub(crate) fn is_pinned_by(&self, pins: Digest) -> bool {
        self.pins.as_ref().is_some_and(|it| it.blob == pins)
    }

    /// The blob of the tools that decisions rest on: the pins, or the list itself where it was read
    /// before there were any.
    pub fn definitions(&self) -> Option<Digest> {
        let pins = self.pins.as_ref().map(|pins| pins.blob);
        pins.or_else(|| self.tools.as_ref().map(|tools| tools.blob))
    }

    /// Whether it only observes at `now`.
    pub fn observing(&self, now: Time) -> bool {
        self.observe_until.is_some_and(|until| now < until)
    }
}

/// What a cut was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutOf {
    /// A sponsor, and all that they answer for or that acts for them.
    Sponsor(Handle),
    /// What ran for a sponsor; they may start anew.
    Sessions(Handle),
    /// An agent.
    Agent(AgentId),
    /// An upstream.
    Upstream(UpstreamName),
    /// Everything.
    All,
}

/// A cut, and the certificate that it was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// What it was about.
    pub of: CutOf,
    /// The kind of the entry that narrowed.
    pub kind: Kind,
    /// The index of that entry.
    pub record: u64,
    /// When it was written.
    pub at: Time,
    /// What said so, if it was no administrator.
    pub signal: Option<Signal>,
    /// The index of the entry that says how it ended, and the certificate's blob.
    pub certificate: Option<(u64, Digest)>,
}

/// The policy set in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActivePolicy {
    /// The set, a blob.
    pub set: Digest,
    /// Who proposed it.
    pub author: AdminId,
    /// What its cases came to.
    pub tests: TestResults,
    /// Since when it is in force.
    pub since: Time,
    /// The index of the entry that activated it.
    pub record: u64,
}

/// A credential of the directory's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryToken {
    /// What it is called.
    pub id: Handle,
    /// The digest of it.
    pub digest: Digest,
    /// Since when it is good.
    pub since: Time,
}

/// The node's own life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// What the last start said, and when.
    pub started: Option<(NodeStarted, Time)>,
    /// When it stopped on request, if it did not start since.
    pub stopped_at: Option<Time>,
    /// What is wrong, by part, since the last start.
    pub degraded: BTreeMap<Word, Word>,
    /// What was last said of the log of calls, and the index of the entry that says it.
    pub calls: Option<(u64, Mention)>,
}

impl NodeState {
    pub(crate) fn mention(&mut self, record: u64, calls: Option<Mention>) {
        self.calls = calls.map(|calls| (record, calls)).or(self.calls.take());
    }
}
