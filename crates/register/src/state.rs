//! The state that the control log adds up to, and the one function that changes it.
//!
//! [`State::apply`] checks first and changes last, so an entry that cannot have happened leaves
//! the state as it was. It asks no clock and no policy: what was refused was never written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::{Actor, Mention};
use vocab::digest::Digest;
use vocab::id::{
    AdminId, AgentId, Handle, InstanceId, PurposePath, SponsorId, ToolName, UpstreamName,
};
use vocab::time::Time;

use crate::allow::Allow;
use crate::entry::{
    AgentAdded, Binding, CallLimits, Event, InstanceStarted, Key, NodeStarted, TestResults,
};
use crate::jwk::{PublicJwk, Thumbprint};
use crate::lifecycle::{
    AgentEvent, AgentLife, InstanceEvent, InstanceLife, InvalidTransition, KeyEvent, KeyLife,
    SponsorEvent, SponsorLife,
};
use crate::refusal::Refusal;
use crate::text::{AdminKey, KeyId, Label, Person, Word};

/// Who a sponsor is, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// This person.
    Named(Person),
    /// The key that sealed it is destroyed.
    Erased,
    /// The key is there but locked, or the sealed bytes are not with the entries. Only a reader
    /// without the node's keys sees this; a node does not start with it.
    Sealed,
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

/// A person who answers for agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sponsor {
    /// The random handle that entries and tokens name.
    pub handle: Handle,
    /// The handle of the key that seals who they are.
    pub key: Handle,
    /// Who they are.
    pub identity: Identity,
    /// Where they are in their life.
    pub life: SponsorLife,
    /// When they were added.
    pub added_at: Time,
    /// The index of the entry that added them.
    pub record: u64,
}

impl Sponsor {
    /// Their id, unless it is erased or sealed.
    pub const fn id(&self) -> Option<&SponsorId> {
        match &self.identity {
            Identity::Named(person) => Some(&person.id),
            Identity::Erased | Identity::Sealed => None,
        }
    }
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
    fn new(key: &Key, since: Time) -> Self {
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
    /// The key that starts its instances.
    pub key: AgentKey,
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

impl Agent {
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
        if kid != self.key.kid {
            return Err(Refusal::KeyNotCurrent { agent, kid });
        }
        match self.key.valid_at(now) {
            Ok(()) => Ok(()),
            Err(KeyFault::NotYet) => Err(Refusal::KeyNotYet {
                agent,
                kid,
                not_before: self.key.not_before.unwrap_or(now),
            }),
            Err(KeyFault::Expired) => Err(Refusal::KeyExpired {
                agent,
                kid,
                expired_at: self.key.expires_at,
            }),
        }
    }

    fn add(body: AgentAdded, at: Time, record: u64) -> Self {
        Self {
            id: body.agent,
            sponsor: body.sponsor,
            life: AgentLife::Active { since: at },
            purposes: body.purposes,
            allow: body.allow,
            max_instances: body.max_instances,
            allow_bearer: body.allow_bearer,
            max_lifetime: Duration::from_secs(body.max_lifetime_s),
            idle: Duration::from_secs(body.idle_s),
            limits: body.limits,
            key: AgentKey::new(&body.key, at),
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
    /// Who answers for it.
    pub sponsor: Handle,
    /// Why it acts.
    pub purpose: PurposePath,
    /// How its tokens are bound.
    pub binding: Binding,
    /// The upstream that its first token was for.
    pub upstream: UpstreamName,
    /// The agent's key that started it.
    pub key: KeyId,
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

impl Instance {
    fn start(body: InstanceStarted, at: Time, record: u64) -> Self {
        Self {
            id: body.instance,
            agent: body.agent,
            sponsor: body.sponsor,
            purpose: body.purpose,
            binding: body.binding,
            upstream: body.upstream,
            key: body.key,
            life: InstanceLife::Running,
            started_at: at,
            expires_at: at.plus(Duration::from_secs(body.max_lifetime_s)),
            idle: Duration::from_secs(body.idle_s),
            record,
            last_used: Arc::default(),
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

    fn continues_as(&self) -> Option<Continues> {
        match self.binding {
            Binding::Dpop { jkt } => Some((self.agent.clone(), jkt, self.purpose.clone())),
            Binding::Bearer => None,
        }
    }
}

/// What an instance is continued by: the same agent proves the same key for the same purpose.
type Continues = (AgentId, Thumbprint, PurposePath);

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

/// An upstream that was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: UpstreamName,
    /// The digest of its configuration.
    pub config: Digest,
    /// Until when what policy denies passes and is recorded as such.
    pub observe_until: Option<Time>,
    /// Its tool list, if one was read.
    pub tools: Option<Tools>,
    /// The index of the entry that configured it.
    pub record: u64,
}

impl Upstream {
    /// Whether it only observes at `now`.
    pub fn observing(&self, now: Time) -> bool {
        self.observe_until.is_some_and(|until| now < until)
    }
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

/// A key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// Its id.
    pub kid: KeyId,
    /// The public key.
    pub jwk: PublicJwk,
    /// Since when it is known.
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
    fn mention(&mut self, record: u64, calls: Option<Mention>) {
        self.calls = calls.map(|calls| (record, calls)).or(self.calls.take());
    }
}

/// Why an entry cannot have happened where it stands.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Impossible {
    /// A lifecycle has no such edge.
    #[error(transparent)]
    Transition(#[from] InvalidTransition),
    /// It names something that no entry before it made.
    #[error("it names {what} `{id}`, which no entry before it made")]
    Unknown {
        /// What sort of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// It makes something that is there already.
    #[error("it makes {what} `{id}` a second time")]
    Twice {
        /// What sort of thing.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// An instance that its agent could not have.
    #[error("it starts instance `{id}` with {what} that its agent does not have")]
    Foreign {
        /// The instance.
        id: InstanceId,
        /// What does not fit.
        what: &'static str,
    },
    /// Delegation, which this version does not know.
    #[error("it starts instance `{id}` below another; this version knows no delegation")]
    Delegated {
        /// The instance.
        id: InstanceId,
    },
    /// A policy set whose own cases failed.
    #[error("it activates a policy set although {failed} of its cases failed")]
    FailedTests {
        /// How many.
        failed: u32,
    },
    /// Its time is before that of the entry before it.
    #[error("its time is before that of the entry before it")]
    TimeWentBack,
}

/// What the control log adds up to after its first [`State::size`] entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct State {
    size: u64,
    last_time: Option<Time>,
    generation: u64,
    admins: BTreeMap<AdminId, Admin>,
    sponsors: HashMap<Handle, Arc<Sponsor>>,
    /// Ids in lower case, so that no two differ only in case.
    sponsor_ids: BTreeMap<String, Handle>,
    agents: BTreeMap<AgentId, Arc<Agent>>,
    instances: HashMap<InstanceId, Arc<Instance>>,
    /// Running instances by agent and end of life, so that the live ones are counted without
    /// looking at those that ended.
    running: HashMap<AgentId, BTreeSet<(Time, InstanceId)>>,
    /// INVARIANT: at most one running instance for each.
    continues: HashMap<Continues, InstanceId>,
    upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    policy: Option<Arc<ActivePolicy>>,
    token_keys: Vec<TokenKey>,
    erased: BTreeSet<Handle>,
    node: NodeState,
}

impl State {
    /// How many entries were folded: the control log's size that a decision names.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The time of the last entry.
    pub fn last_time(&self) -> Time {
        self.last_time.unwrap_or(Time::EPOCH)
    }

    /// Counts the entries that narrowed anything. While it stands still, whoever was active is
    /// active, but for the clock.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The sponsor behind a handle.
    pub fn sponsor(&self, handle: &Handle) -> Option<&Arc<Sponsor>> {
        self.sponsors.get(handle)
    }

    /// The sponsor of an id, upper and lower case being the same.
    pub fn sponsor_by_id(&self, id: &SponsorId) -> Option<&Arc<Sponsor>> {
        self.sponsors.get(self.sponsor_ids.get(&lower(id))?)
    }

    /// The sponsor whose name a key seals.
    pub(crate) fn sponsor_of_key(&self, key: &Handle) -> Option<&Arc<Sponsor>> {
        self.sponsors.values().find(|sponsor| sponsor.key == *key)
    }

    /// Every sponsor, erased ones too, in the order they were added.
    pub fn sponsors(&self) -> Vec<&Arc<Sponsor>> {
        let mut all: Vec<_> = self.sponsors.values().collect();
        all.sort_by_key(|sponsor| sponsor.record);
        all
    }

    /// An agent, retired ones too.
    pub fn agent(&self, id: &AgentId) -> Option<&Arc<Agent>> {
        self.agents.get(id)
    }

    /// Every agent, by id.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.values()
    }

    /// The agents of a sponsor, by id.
    pub fn agents_of(&self, sponsor: &Handle) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents
            .values()
            .filter(move |agent| agent.sponsor == *sponsor)
    }

    /// An instance, ended ones too.
    pub fn instance(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.instances.get(id)
    }

    /// Every instance, in the order they started.
    pub fn instances(&self) -> Vec<&Arc<Instance>> {
        let mut all: Vec<_> = self.instances.values().collect();
        all.sort_by_key(|instance| instance.record);
        all
    }

    /// The running instances of an agent whose lifetime is not over; some may be idle.
    pub(crate) fn running(
        &self,
        agent: &AgentId,
        now: Time,
    ) -> impl Iterator<Item = &Arc<Instance>> {
        self.running
            .get(agent)
            .into_iter()
            .flatten()
            .rev()
            .take_while(move |(expires_at, _)| now < *expires_at)
            .filter_map(|(_, id)| self.instances.get(id))
    }

    /// How many instances of an agent count against its maximum: running, and neither outlived
    /// nor idle. Those that a suspension narrows count, since they come back with it. After a
    /// restart there can be more than the maximum for as long as an instance may be idle, because
    /// the log does not say which were idle before.
    pub fn live_instances(&self, agent: &AgentId, now: Time) -> u32 {
        let live = self
            .running(agent, now)
            .filter(|instance| !instance.idled(now))
            .count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    /// The running instance that the same agent, key and purpose would continue, if its time is
    /// not over.
    pub(crate) fn occupant(
        &self,
        agent: &AgentId,
        jkt: Thumbprint,
        purpose: &PurposePath,
    ) -> Option<&Arc<Instance>> {
        self.instances
            .get(self.continues.get(&(agent.clone(), jkt, purpose.clone()))?)
    }

    /// A named administrator.
    pub fn admin(&self, id: &AdminId) -> Option<&Admin> {
        self.admins.get(id)
    }

    /// Every named administrator, by name.
    pub fn admins(&self) -> impl Iterator<Item = &Admin> {
        self.admins.values()
    }

    /// Whether who acts may still give commands: a named administrator with the credential that
    /// they have now.
    pub(crate) fn commands(&self, actor: &Actor) -> bool {
        !AdminKey::is_credential(&actor.credential)
            || self
                .admins()
                .any(|admin| admin.key.credential() == actor.credential)
    }

    /// An upstream that was configured.
    pub fn upstream(&self, name: &UpstreamName) -> Option<&Arc<Upstream>> {
        self.upstreams.get(name)
    }

    /// Every upstream, by name.
    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// The policy set in force, if one was ever activated.
    pub const fn policy(&self) -> Option<&Arc<ActivePolicy>> {
        self.policy.as_ref()
    }

    /// The keys that sign tokens, oldest first.
    pub fn token_keys(&self) -> &[TokenKey] {
        &self.token_keys
    }

    /// The handles of destroyed keys.
    pub const fn erased(&self) -> &BTreeSet<Handle> {
        &self.erased
    }

    /// The node's own life.
    pub const fn node(&self) -> &NodeState {
        &self.node
    }

    /// Takes the next entry into account. `identity` is who a `sponsor-added` entry's sponsor is,
    /// as far as it can be read. On an error the state is as it was.
    pub(crate) fn apply(
        &mut self,
        time: Time,
        event: Event,
        identity: Identity,
    ) -> Result<(), Impossible> {
        if self.last_time.is_some_and(|last| time < last) {
            return Err(Impossible::TimeWentBack);
        }
        let narrows = narrows(&event);
        self.apply_event(time, event, identity)?;
        self.size += 1;
        self.last_time = Some(time);
        if narrows {
            self.generation += 1;
        }
        Ok(())
    }

    fn apply_event(
        &mut self,
        time: Time,
        event: Event,
        identity: Identity,
    ) -> Result<(), Impossible> {
        let record = self.size;
        match event {
            Event::NodeStarted(body) => {
                self.node.mention(record, body.calls.clone());
                self.node.started = Some((body, time));
                self.node.stopped_at = None;
                self.node.degraded.clear();
            }
            Event::NodeStopped(body) => {
                self.node.mention(record, body.calls);
                self.node.stopped_at = Some(time);
            }
            Event::NodeDegraded(body) => {
                if body.cause.as_str() == WELL {
                    self.node.degraded.remove(&body.subsystem);
                } else {
                    self.node.degraded.insert(body.subsystem, body.cause);
                }
            }
            Event::AdminAdded(body) => {
                if body.key.admin() != &body.admin {
                    return Err(unknown("the key of administrator", &body.key.admin()));
                }
                if self.admins.contains_key(&body.admin) {
                    return Err(twice("administrator", &body.admin));
                }
                let admin = Admin {
                    id: body.admin.clone(),
                    key: body.key,
                    added_at: time,
                    record,
                };
                self.admins.insert(body.admin, admin);
            }
            Event::AdminRemoved(body) => {
                if self.admins.remove(&body.admin).is_none() {
                    return Err(unknown("administrator", &body.admin));
                }
            }
            Event::SponsorAdded(body) => {
                if self.sponsors.contains_key(&body.sponsor) {
                    return Err(twice("sponsor", &body.sponsor));
                }
                if let Identity::Named(person) = &identity {
                    let id = lower(&person.id);
                    if self.sponsor_ids.contains_key(&id) {
                        return Err(twice("the id of sponsor", &body.sponsor));
                    }
                    self.sponsor_ids.insert(id, body.sponsor.clone());
                }
                let sponsor = Sponsor {
                    handle: body.sponsor.clone(),
                    key: body.key,
                    identity,
                    life: SponsorLife::Active { since: time },
                    added_at: time,
                    record,
                };
                self.sponsors.insert(body.sponsor, Arc::new(sponsor));
            }
            Event::SponsorSuspended(body) => {
                self.move_sponsor(&body.sponsor, SponsorEvent::Suspend, time)?;
            }
            Event::SponsorResumed(body) => {
                self.move_sponsor(&body.sponsor, SponsorEvent::Resume, time)?;
            }
            Event::AgentAdded(body) => {
                if self.agents.contains_key(&body.agent) {
                    return Err(twice("agent", &body.agent));
                }
                self.known_sponsor(&body.sponsor)?
                    .life
                    .after(SponsorEvent::AddAgent, time)?;
                self.agents
                    .insert(body.agent.clone(), Arc::new(Agent::add(body, time, record)));
            }
            Event::AgentSuspended(body) => {
                self.move_agent(&body.agent, AgentEvent::Suspend, time)?;
            }
            Event::AgentResumed(body) => {
                self.move_agent(&body.agent, AgentEvent::Resume, time)?;
            }
            Event::AgentRetired(body) => {
                self.move_agent(&body.agent, AgentEvent::Retire, time)?;
            }
            Event::AgentKeyRotated(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::RotateKey, time)?;
                let had = |key: &AgentKey| key.kid == body.key.kid;
                if had(&agent.key) || agent.past_keys.iter().any(had) {
                    return Err(twice("key", &body.key.kid));
                }
                agent.key.life = agent.key.life.after(KeyEvent::Replace, time)?;
                let past = std::mem::replace(&mut agent.key, AgentKey::new(&body.key, time));
                agent.past_keys.push(past);
                self.agents.insert(body.agent, Arc::new(agent));
            }
            Event::InstanceStarted(body) => self.start_instance(body, time)?,
            Event::InstanceEnded(body) => {
                let mut instance = Instance::clone(
                    self.instances
                        .get(&body.instance)
                        .ok_or_else(|| unknown("instance", &body.instance))?,
                );
                instance.life = instance.life.after(InstanceEvent::End(body.reason), time)?;
                if let Some(running) = self.running.get_mut(&instance.agent) {
                    running.remove(&(instance.expires_at, instance.id.clone()));
                }
                if let Some(continues) = instance.continues_as() {
                    self.continues.remove(&continues);
                }
                self.instances.insert(body.instance, Arc::new(instance));
            }
            Event::UpstreamConfigured(body) => {
                let tools = self
                    .upstreams
                    .get(&body.upstream)
                    .and_then(|upstream| upstream.tools.clone());
                let upstream = Upstream {
                    name: body.upstream.clone(),
                    config: body.config,
                    observe_until: body.observe_until,
                    tools,
                    record,
                };
                self.upstreams.insert(body.upstream, Arc::new(upstream));
            }
            Event::ToolsListed(body) => {
                let upstream = self
                    .upstreams
                    .get_mut(&body.upstream)
                    .ok_or_else(|| unknown("upstream", &body.upstream))?;
                Arc::make_mut(upstream).tools = Some(Tools {
                    blob: body.blob,
                    count: body.count,
                    listed_at: time,
                    record,
                });
            }
            Event::PolicyActivated(body) => {
                if body.tests.failed > 0 {
                    return Err(Impossible::FailedTests {
                        failed: body.tests.failed,
                    });
                }
                self.policy = Some(Arc::new(ActivePolicy {
                    set: body.set,
                    author: body.author,
                    tests: body.tests,
                    since: time,
                    record,
                }));
            }
            Event::TokenKeyAdded(body) => {
                if self.token_keys.iter().any(|key| key.kid == body.kid) {
                    return Err(twice("token key", &body.kid));
                }
                self.token_keys.push(TokenKey {
                    kid: body.kid,
                    jwk: body.jwk,
                    since: time,
                });
            }
            Event::Erased(body) => {
                if self.erased.contains(&body.key) {
                    return Err(twice("the erasure of key", &body.key));
                }
                if let Some(handle) = &body.sponsor {
                    let mut sponsor = Sponsor::clone(self.known_sponsor(handle)?);
                    if sponsor.key != body.key {
                        return Err(unknown("key", &body.key));
                    }
                    sponsor.life = sponsor.life.after(SponsorEvent::Erase, time)?;
                    if let Identity::Named(person) = &sponsor.identity {
                        self.sponsor_ids.remove(&lower(&person.id));
                    }
                    sponsor.identity = Identity::Erased;
                    self.sponsors.insert(handle.clone(), Arc::new(sponsor));
                } else if let Some(sponsor) = self.sponsor_of_key(&body.key) {
                    return Err(unknown("key", &sponsor.key));
                }
                self.erased.insert(body.key);
            }
        }
        Ok(())
    }

    fn start_instance(&mut self, body: InstanceStarted, time: Time) -> Result<(), Impossible> {
        if self.instances.contains_key(&body.instance) {
            return Err(twice("instance", &body.instance));
        }
        if body.parent.is_some() {
            return Err(Impossible::Delegated { id: body.instance });
        }
        let agent = self.known_agent(&body.agent)?;
        agent.life.after(AgentEvent::StartInstance, time)?;
        agent.key.life.after(KeyEvent::StartInstance, time)?;
        self.known_sponsor(&agent.sponsor)?
            .life
            .after(SponsorEvent::StartInstance, time)?;
        let foreign = |what| {
            Err(Impossible::Foreign {
                id: body.instance.clone(),
                what,
            })
        };
        if body.sponsor != agent.sponsor {
            return foreign("a sponsor");
        }
        if body.key != agent.key.kid {
            return foreign("a key");
        }
        if !agent.acts_for(&body.purpose) {
            return foreign("a purpose");
        }
        if !body.binding.proven() && !agent.allow_bearer {
            return foreign("a binding");
        }
        if !self.upstreams.contains_key(&body.upstream) {
            return Err(unknown("upstream", &body.upstream));
        }
        let instance = Instance::start(body, time, self.size);
        if let Some(continues) = instance.continues_as() {
            if self.continues.contains_key(&continues) {
                return Err(twice("the instance of key", &continues.1));
            }
            self.continues.insert(continues, instance.id.clone());
        }
        self.running
            .entry(instance.agent.clone())
            .or_default()
            .insert((instance.expires_at, instance.id.clone()));
        self.instances
            .insert(instance.id.clone(), Arc::new(instance));
        Ok(())
    }

    fn known_sponsor(&self, handle: &Handle) -> Result<&Arc<Sponsor>, Impossible> {
        self.sponsors
            .get(handle)
            .ok_or_else(|| unknown("sponsor", handle))
    }

    fn known_agent(&self, id: &AgentId) -> Result<&Arc<Agent>, Impossible> {
        self.agents.get(id).ok_or_else(|| unknown("agent", id))
    }

    fn move_sponsor(
        &mut self,
        handle: &Handle,
        event: SponsorEvent,
        at: Time,
    ) -> Result<(), Impossible> {
        let mut sponsor = Sponsor::clone(self.known_sponsor(handle)?);
        sponsor.life = sponsor.life.after(event, at)?;
        self.sponsors.insert(handle.clone(), Arc::new(sponsor));
        Ok(())
    }

    fn move_agent(&mut self, id: &AgentId, event: AgentEvent, at: Time) -> Result<(), Impossible> {
        let mut agent = Agent::clone(self.known_agent(id)?);
        agent.life = agent.life.after(event, at)?;
        self.agents.insert(id.clone(), Arc::new(agent));
        Ok(())
    }
}

/// The cause in a `node-degraded` entry that says the part is well again.
pub const WELL: &str = "none";

/// Whether somebody who was active may not be after this event.
const fn narrows(event: &Event) -> bool {
    match event {
        Event::SponsorSuspended(_)
        | Event::AgentSuspended(_)
        | Event::AgentRetired(_)
        | Event::InstanceEnded(_)
        | Event::Erased(_) => true,
        Event::NodeStarted(_)
        | Event::NodeStopped(_)
        | Event::NodeDegraded(_)
        | Event::AdminAdded(_)
        | Event::AdminRemoved(_)
        | Event::SponsorAdded(_)
        | Event::SponsorResumed(_)
        | Event::AgentAdded(_)
        | Event::AgentResumed(_)
        | Event::AgentKeyRotated(_)
        | Event::InstanceStarted(_)
        | Event::UpstreamConfigured(_)
        | Event::ToolsListed(_)
        | Event::PolicyActivated(_)
        | Event::TokenKeyAdded(_) => false,
    }
}

fn lower(id: &SponsorId) -> String {
    id.as_str().to_ascii_lowercase()
}

fn unknown(what: &'static str, id: &dyn std::fmt::Display) -> Impossible {
    Impossible::Unknown {
        what,
        id: id.to_string(),
    }
}

fn twice(what: &'static str, id: &dyn std::fmt::Display) -> Impossible {
    Impossible::Twice {
        what,
        id: id.to_string(),
    }
}
