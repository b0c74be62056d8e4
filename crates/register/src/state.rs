//! The state that the control log adds up to, and the one function that changes it.
//!
//! [`State::apply`] checks first and changes last, so an entry that cannot have happened leaves
//! the state as it was. It asks no clock and no policy: what was refused was never written.

mod approvals;
mod break_glass;
mod cuts;
mod forget;
mod handed_on;
pub(crate) mod kept;
mod keys;
pub(crate) mod names;
pub(crate) mod offers;
mod running;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use ledger::Actor;
use vocab::digest::Digest;
use vocab::id::{AdminId, AgentId, Handle, InstanceId, PepName, SponsorId, UpstreamName};
use vocab::time::Time;

pub use self::cuts::Validity;
pub use self::names::{PolicyName, Renamed};
pub use self::offers::Relation;
use crate::approval::NotApprover;
use crate::entry::{AssertedAgents, Event};
use crate::lifecycle::{
    AcceptanceEvent, AgentEvent, InstanceEvent, InvalidTransition, KeyEvent, SigningEvent,
    SigningLife, SponsorEvent, SponsorLife, Switch, SwitchEvent,
};
use crate::log_keys::SigningKeys;
pub use crate::nouns::{
    Accepted, ActivePolicy, Admin, Agent, AgentKey, Cut, CutOf, DirectoryToken, Group, HandedOn,
    Identity, Instance, KeyFault, Known, LastUsed, Latest, NodeState, Origin, PastSponsor, Pep,
    Pins, SignedIn, SignedOut, Sponsor, Tools, Upstream,
};
pub(crate) use crate::nouns::{Beside, Continues, Unsealed, same_cause};
use crate::signing::{self, TokenKey};
use crate::text::{AdminKey, GroupProfile, PersonText};

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
    /// A change of an agent that leaves out what it changes from.
    #[error("it changes agent `{agent}` from {what} that the agent does not have")]
    OtherAgent {
        /// The agent.
        agent: AgentId,
        /// What does not fit.
        what: &'static str,
    },
    /// A policy set whose own cases failed.
    #[error("it activates a policy set although {failed} of its cases failed")]
    FailedTests {
        /// How many.
        failed: u32,
    },
    /// A break-glass that two different administrators did not break.
    #[error("it has break-glass `{id}` opened by {what}")]
    NotSecond {
        /// The break-glass.
        id: Handle,
        /// By whom.
        what: &'static str,
    },
    /// An approval by somebody whose word does not count.
    #[error("it has approval `{id}` answered by somebody whose word does not count: {why}")]
    NotApprover {
        /// The approval.
        id: Handle,
        /// Why it does not.
        why: NotApprover,
    },
    /// It says that a person did something in whose name somebody else acted.
    #[error("it says that sponsor `{by}` did it, and is not theirs")]
    NotThemselves {
        /// The person.
        by: Handle,
    },
    /// An approval that is used although those who granted it are not enough.
    #[error("it uses approval `{id}`, which was not granted by enough people")]
    NotGranted {
        /// The approval.
        id: Handle,
    },
    /// It says that an administrator did something who did not write it.
    #[error("it says that administrator `{admin}` did it, and is not theirs")]
    NotTheirs {
        /// The administrator.
        admin: AdminId,
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
    peps: BTreeMap<PepName, Arc<Pep>>,
    sponsors: HashMap<Handle, Arc<Sponsor>>,
    /// Ids in lower case, so that no two differ only in case.
    sponsor_ids: BTreeMap<String, Handle>,
    /// INVARIANT: no two sponsors have the same.
    external_ids: HashMap<PersonText, Handle>,
    groups: BTreeMap<Handle, Arc<Group>>,
    /// The groups of each sponsor who is in any.
    memberships: HashMap<Handle, BTreeSet<Handle>>,
    agents: BTreeMap<AgentId, Arc<Agent>>,
    /// Agents that people may sign in to start.
    for_people: BTreeSet<AgentId>,
    /// The agents of each sponsor.
    sponsored: HashMap<Handle, BTreeSet<AgentId>>,
    instances: HashMap<InstanceId, Arc<Instance>>,
    /// Running instances by agent and end of life, so that the live ones are counted without
    /// looking at those that ended.
    running: HashMap<AgentId, BTreeSet<(Time, InstanceId)>>,
    /// The running instances directly below each, by end of life.
    children: HashMap<InstanceId, BTreeSet<(Time, InstanceId)>>,
    /// INVARIANT: each names a running instance. For each, at most one runs; but of a workload's,
    /// logs from when every token of a workload started an instance can have more, and the last
    /// one is the one.
    continues: HashMap<Continues, InstanceId>,
    /// Every instance, by when it is forgotten.
    kept_until: BTreeSet<(Time, InstanceId)>,
    upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    /// Whether anybody may act.
    everything: Switch,
    /// Every cut, by the index of its entry.
    cuts: BTreeMap<u64, Cut>,
    /// Those that are not certified yet.
    open_cuts: BTreeSet<u64>,
    /// Running instances by the sponsor that they act for.
    acting: HashMap<Handle, BTreeSet<InstanceId>>,
    policy: Option<Arc<ActivePolicy>>,
    sponsor_pasts: names::Pasts,
    group_pasts: names::Pasts,
    /// The index of the last entry that erased what a sponsor or group is called.
    name_lost: Option<u64>,
    /// The size when names were found that cannot be read, though no entry says that they are gone.
    /// Not of the log, so no snapshot has it: each start finds it anew.
    names_unread: Option<u64>,
    token_keys: Vec<TokenKey>,
    directory_tokens: Vec<DirectoryToken>,
    break_glasses: break_glass::BreakGlasses,
    approvals: approvals::Approvals,
    log_keys: SigningKeys,
    wrapping_key: Option<Digest>,
    vault: u64,
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

    /// Counts the entries that narrowed anything, or changed what policy sees of somebody. While it
    /// stands still, whoever was active is active, but for the clock.
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

    /// The sponsor whom the directory calls so.
    pub fn sponsor_by_external_id(&self, id: &PersonText) -> Option<&Arc<Sponsor>> {
        self.sponsors.get(self.external_ids.get(id)?)
    }

    /// A group of the directory.
    pub fn group(&self, handle: &Handle) -> Option<&Arc<Group>> {
        self.groups.get(handle)
    }

    /// Every group, by handle.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// The groups that a sponsor is in.
    pub fn groups_of(&self, sponsor: &Handle) -> impl Iterator<Item = &Arc<Group>> {
        self.memberships
            .get(sponsor)
            .into_iter()
            .flatten()
            .filter_map(|handle| self.groups.get(handle))
    }

    /// Whether a sponsor is in a group.
    pub fn is_member(&self, group: &Handle, sponsor: &Handle) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| group.members.contains(sponsor))
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
        self.sponsored
            .get(sponsor)
            .into_iter()
            .flatten()
            .filter_map(|id| self.agents.get(id))
    }

    /// The agents that some people may sign in to start, by id.
    pub(crate) fn agents_for_people(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.for_people.iter().filter_map(|id| self.agents.get(id))
    }

    /// Whether agents run whose sponsors did not accept them.
    pub fn asserted_agents(&self) -> AssertedAgents {
        self.node
            .started
            .as_ref()
            .and_then(|(started, _)| started.asserted)
            .unwrap_or_default()
    }

    /// The instances above one, the nearest first.
    pub fn ancestors<'a>(
        &'a self,
        instance: &'a Instance,
    ) -> impl Iterator<Item = &'a Arc<Instance>> {
        let above = |instance: &'a Instance| {
            let parent = instance.parent.as_ref()?;
            self.instances.get(parent)
        };
        std::iter::successors(above(instance), move |next| above(next))
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

    /// A named administrator.
    pub fn admin(&self, id: &AdminId) -> Option<&Admin> {
        self.admins.get(id)
    }

    /// Every named administrator, by name.
    pub fn admins(&self) -> impl Iterator<Item = &Admin> {
        self.admins.values()
    }

    /// A policy enforcement point.
    pub fn pep(&self, name: &PepName) -> Option<&Arc<Pep>> {
        self.peps.get(name)
    }

    /// Every policy enforcement point, by name.
    pub fn peps(&self) -> impl Iterator<Item = &Arc<Pep>> {
        self.peps.values()
    }

    /// Whose token has this digest. There are few of them.
    pub fn pep_of_token(&self, token: &Digest) -> Option<&Arc<Pep>> {
        self.peps.values().find(|pep| pep.token == *token)
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

    /// The credentials of the directory's, oldest first.
    pub fn directory_tokens(&self) -> impl Iterator<Item = &DirectoryToken> {
        self.directory_tokens.iter()
    }

    /// The handles of destroyed keys.
    pub const fn erased(&self) -> &BTreeSet<Handle> {
        &self.erased
    }

    /// The node's own life.
    pub const fn node(&self) -> &NodeState {
        &self.node
    }

    /// Takes the next entry into account. `unsealed` is what was sealed beside it, as far as it can
    /// be read. On an error the state is as it was.
    pub(crate) fn apply(
        &mut self,
        time: Time,
        event: Event,
        unsealed: Unsealed,
    ) -> Result<(), Impossible> {
        if self.last_time.is_some_and(|last| time < last) {
            return Err(Impossible::TimeWentBack);
        }
        let narrows = narrows(&event);
        self.apply_event(time, event, unsealed)?;
        self.forget(time);
        self.forget_approvals(time);
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
        unsealed: Unsealed,
    ) -> Result<(), Impossible> {
        let (record, kind) = (self.size, event.kind());
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
                self.disown_glass(&body.admin, time);
            }
            Event::PepAdded(body) => {
                if self.peps.contains_key(&body.pep) {
                    return Err(twice("policy enforcement point", &body.pep));
                }
                if self.pep_of_token(&body.token).is_some() {
                    return Err(twice("the token of policy enforcement point", &body.pep));
                }
                let pep = Pep {
                    name: body.pep.clone(),
                    token: body.token,
                    serves: body.serves,
                    trusted: body.trusted,
                    added_at: time,
                    record,
                };
                self.peps.insert(body.pep, Arc::new(pep));
            }
            Event::PepRemoved(body) => {
                if self.peps.remove(&body.pep).is_none() {
                    return Err(unknown("policy enforcement point", &body.pep));
                }
            }
            Event::SponsorAdded(body) => {
                if self.sponsors.contains_key(&body.sponsor) {
                    return Err(twice("sponsor", &body.sponsor));
                }
                let identity = person(unsealed);
                self.name_sponsor(&body.sponsor, None, &identity)?;
                let commit = body.commit;
                let sponsor = Sponsor {
                    handle: body.sponsor.clone(),
                    key: body.key,
                    identity,
                    beside: Beside { record, commit },
                    life: SponsorLife::Active { since: time },
                    holds: Vec::new(),
                    provisioned: body.signal.is_some(),
                    risk: None,
                    sessions_revoked: None,
                    signed_out: None,
                    heard: BTreeMap::new(),
                    deputies: Vec::new(),
                    added_at: time,
                    record,
                    changed: record,
                    changed_at: time,
                };
                self.sponsors.insert(body.sponsor, Arc::new(sponsor));
            }
            Event::SponsorSuspended(body) => {
                let signal = body.signal.clone();
                self.change_sponsor(&body.sponsor, SponsorEvent::Suspend, time, |sponsor| {
                    sponsor.hold(body.signal, SignedOut { record, at: time });
                })?;
                self.note_cut(kind, CutOf::Sponsor(body.sponsor), time, signal);
            }
            Event::SponsorResumed(body) => {
                let (event, holds) = self.known_sponsor(&body.sponsor)?.lifted(&body);
                self.change_sponsor(&body.sponsor, event, time, |sponsor| {
                    sponsor.holds = holds;
                    sponsor.hear_in(body.signal.as_ref(), record);
                })?;
            }
            Event::SponsorChanged(body) => {
                let sponsor = Arc::clone(self.known_sponsor(&body.sponsor)?);
                sponsor.life.after(SponsorEvent::Change, time)?;
                let identity = person(unsealed);
                self.name_sponsor(&body.sponsor, Some(&sponsor.identity), &identity)?;
                self.keep_sponsor_name(&sponsor);
                self.change_sponsor(&body.sponsor, SponsorEvent::Change, time, |sponsor| {
                    let commit = body.commit;
                    sponsor.identity = identity;
                    sponsor.beside = Beside { record, commit };
                    sponsor.provisioned = true;
                })?;
            }
            Event::SponsorRisk(body) => {
                self.change_sponsor(&body.sponsor, SponsorEvent::Change, time, |sponsor| {
                    sponsor.risk = Some(body.risk);
                    sponsor.hear(&body.signal, body.risk.rank(), record);
                })?;
            }
            Event::SponsorDeputies(body) => {
                for deputy in &body.deputies {
                    self.known_sponsor(deputy)?;
                }
                let sponsor = self.known_sponsor(&body.sponsor)?;
                sponsor.life.after(SponsorEvent::Change, time)?;
                let mut sponsor = Sponsor::clone(sponsor);
                // Nothing that an acceptance rests on changes, so it is no change of theirs.
                sponsor.deputies = body.deputies;
                self.sponsors.insert(body.sponsor, Arc::new(sponsor));
            }
            Event::SessionsRevoked(body) => {
                self.change_sponsor(&body.sponsor, SponsorEvent::Change, time, |sponsor| {
                    sponsor.sign_out(&body.signal, SignedOut { record, at: time });
                })?;
                self.note_cut(kind, CutOf::Sessions(body.sponsor), time, Some(body.signal));
            }
            Event::GroupAdded(body) => {
                if self.groups.contains_key(&body.group) {
                    return Err(twice("group", &body.group));
                }
                let group = Group {
                    handle: body.group.clone(),
                    key: body.key,
                    profile: group(unsealed),
                    beside: Beside {
                        record,
                        commit: body.commit,
                    },
                    members: BTreeSet::new(),
                    added_at: time,
                    record,
                    changed: record,
                    changed_at: time,
                };
                self.groups.insert(body.group, Arc::new(group));
            }
            Event::GroupChanged(body) => {
                let profile = group(unsealed);
                let found = self.known_group(&body.group)?;
                let before = found.clone();
                let commit = body.commit;
                found.profile = profile;
                found.beside = Beside { record, commit };
                found.changed = record;
                found.changed_at = time;
                self.keep_group_name(&before);
                self.seen_otherwise(&before.members, time);
            }
            Event::GroupMembers(body) => {
                for member in &body.added {
                    self.known_sponsor(member)?;
                }
                let found = self.known_group(&body.group)?;
                let foreign = body.removed.iter().find(|it| !found.members.contains(*it));
                if let Some(foreign) = foreign {
                    return Err(unknown("member", foreign));
                }
                if let Some(there) = body.added.iter().find(|it| found.members.contains(*it)) {
                    return Err(twice("member", there));
                }
                found.changed = record;
                found.changed_at = time;
                for member in &body.removed {
                    found.members.remove(member);
                }
                found.members.extend(body.added.iter().cloned());
                self.seen_otherwise(body.added.iter().chain(&body.removed), time);
                for member in &body.removed {
                    leaves(&mut self.memberships, member, &body.group);
                }
                for member in body.added {
                    let theirs = self.memberships.entry(member).or_default();
                    theirs.insert(body.group.clone());
                }
            }
            Event::GroupRemoved(body) => {
                let Some(group) = self.groups.remove(&body.group) else {
                    return Err(unknown("group", &body.group));
                };
                self.keep_group_name(&group);
                self.seen_otherwise(&group.members, time);
                for member in &group.members {
                    leaves(&mut self.memberships, member, &body.group);
                }
            }
            Event::AgentAdded(body) => {
                if self.agents.contains_key(&body.agent) {
                    return Err(twice("agent", &body.agent));
                }
                self.known_sponsor(&body.sponsor)?
                    .life
                    .after(SponsorEvent::AddAgent, time)?;
                for owner in body.owners.handles() {
                    self.known_sponsor(owner)?;
                }
                self.sponsored
                    .entry(body.sponsor.clone())
                    .or_default()
                    .insert(body.agent.clone());
                if body.people.is_some() {
                    self.for_people.insert(body.agent.clone());
                }
                self.agents
                    .insert(body.agent.clone(), Arc::new(Agent::add(body, time, record)));
            }
            Event::AgentSuspended(body) => {
                self.move_agent(&body.agent, AgentEvent::Suspend, time)?;
                self.note_cut(kind, CutOf::Agent(body.agent), time, body.signal);
            }
            Event::AgentResumed(body) => {
                self.move_agent(&body.agent, AgentEvent::Resume, time)?;
            }
            Event::AgentRetired(body) => {
                self.move_agent(&body.agent, AgentEvent::Retire, time)?;
                self.note_cut(kind, CutOf::Agent(body.agent), time, None);
            }
            Event::AgentKeyRotated(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::RotateKey, time)?;
                let had = |key: &AgentKey| key.kid == body.key.kid;
                if agent.key.iter().chain(&agent.past_keys).any(had) {
                    return Err(twice("key", &body.key.kid));
                }
                if let Some(mut past) = agent.key.replace(AgentKey::new(&body.key, time)) {
                    past.life = past.life.after(KeyEvent::Replace, time)?;
                    agent.past_keys.push(past);
                }
                self.agents.insert(body.agent, Arc::new(agent));
            }
            Event::AgentAccepted(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::Change, time)?;
                if body.sponsor != agent.sponsor {
                    return Err(other_agent(body.agent, "a sponsor"));
                }
                self.known_sponsor(&body.sponsor)?
                    .life
                    .after(SponsorEvent::AddAgent, time)?;
                agent.acceptance = agent.acceptance.after(AcceptanceEvent::Accept, time)?;
                agent.accepted = Some(Accepted {
                    terms: body.terms,
                    sign_in: body.sign_in,
                    record,
                });
                agent.reviewed_at = time;
                self.agents.insert(body.agent, Arc::new(agent));
            }
            Event::AgentLapsed(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::Change, time)?;
                agent.acceptance = agent.acceptance.after(AcceptanceEvent::Lapse, time)?;
                agent.asked_in = record;
                if let Some(sponsor) = self.sponsors.get_mut(&agent.sponsor) {
                    Arc::make_mut(sponsor).hear_in(Some(&body.signal), record);
                }
                self.agents.insert(body.agent.clone(), Arc::new(agent));
                self.note_cut(kind, CutOf::Agent(body.agent), time, Some(body.signal));
            }
            Event::AgentTransferred(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::Change, time)?;
                if body.from != agent.sponsor || body.from == body.to {
                    return Err(other_agent(body.agent, "a sponsor"));
                }
                self.known_sponsor(&body.to)?
                    .life
                    .after(SponsorEvent::AddAgent, time)?;
                agent.acceptance = agent.acceptance.after(AcceptanceEvent::Transfer, time)?;
                agent.asked_in = record;
                agent.accepted = None;
                agent.past_sponsors.push(PastSponsor {
                    sponsor: body.from.clone(),
                    until: time,
                    record,
                });
                agent.sponsor = body.to.clone();
                agent.reviewed_at = time;
                leaves(&mut self.sponsored, &body.from, &body.agent);
                self.sponsored
                    .entry(body.to)
                    .or_default()
                    .insert(body.agent.clone());
                self.agents.insert(body.agent.clone(), Arc::new(agent));
                self.note_cut(kind, CutOf::Agent(body.agent), time, None);
            }
            Event::AgentOwned(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::Change, time)?;
                for owner in body.owners.handles() {
                    self.known_sponsor(owner)?;
                }
                agent.owners = body.owners;
                self.agents.insert(body.agent, Arc::new(agent));
            }
            Event::AgentReviewed(body) => {
                let mut agent = Agent::clone(self.known_agent(&body.agent)?);
                agent.life = agent.life.after(AgentEvent::Change, time)?;
                agent.reviewed_at = time;
                self.agents.insert(body.agent, Arc::new(agent));
            }
            Event::InstanceStarted(body) => self.start_instance(body, time, unsealed)?,
            // Its time was long over, and it is forgotten: there is nothing left to end.
            Event::InstanceEnded(body)
                if body.reason.by_time() && !self.instances.contains_key(&body.instance) => {}
            Event::InstanceEnded(body) => {
                let mut instance = Instance::clone(
                    self.instances
                        .get(&body.instance)
                        .ok_or_else(|| unknown("instance", &body.instance))?,
                );
                instance.life = instance.life.after(InstanceEvent::End(body.reason), time)?;
                let runs = (instance.expires_at, instance.id.clone());
                leaves(&mut self.running, &instance.agent, &runs);
                if let Some(parent) = &instance.parent {
                    leaves(&mut self.children, parent, &runs);
                }
                leaves(&mut self.acting, &instance.sponsor, &instance.id);
                if let Some(continues) = instance.continues_as()
                    && self.continues.get(&continues) == Some(&instance.id)
                {
                    self.continues.remove(&continues);
                }
                self.end_approvals_of(&body.instance, time);
                self.instances.insert(body.instance, Arc::new(instance));
            }
            Event::TokenRefreshed(body) => {
                let instance = self
                    .instances
                    .get_mut(&body.instance)
                    .ok_or_else(|| unknown("instance", &body.instance))?;
                instance.life.after(InstanceEvent::Refresh, time)?;
                if body.serial != instance.refresh_serial + 1 {
                    return Err(twice("refresh token", &body.serial));
                }
                Arc::make_mut(instance).refresh_serial = body.serial;
            }
            Event::UpstreamConfigured(body) => self.configure(body, time),
            Event::UpstreamStopped(body) => {
                self.turn(&body.upstream, SwitchEvent::Stop, time)?;
                let signal = Some(body.signal);
                self.note_cut(kind, CutOf::Upstream(body.upstream), time, signal);
            }
            Event::UpstreamResumed(body) => {
                self.turn(&body.upstream, SwitchEvent::Resume, time)?;
            }
            Event::AllStopped(body) => {
                self.everything = self.everything.after(SwitchEvent::Stop, time)?;
                self.note_cut(kind, CutOf::All, time, Some(body.signal));
            }
            Event::AllResumed(_) => {
                self.everything = self.everything.after(SwitchEvent::Resume, time)?;
            }
            Event::CutOff(body) => {
                let cut = self
                    .cuts
                    .get_mut(&body.cut)
                    .ok_or_else(|| unknown("cut", &body.cut))?;
                if cut.certificate.is_some() {
                    return Err(twice("the certificate of cut", &body.cut));
                }
                cut.certificate = Some((record, body.certificate));
                self.open_cuts.remove(&body.cut);
            }
            Event::ToolsListed(body) => self.list(&body, time)?,
            Event::ToolsPinned(body) => {
                self.pin(&body.upstream, body.pins, (body.accepted, body.held), time)?;
            }
            Event::ToolJudged(body) => {
                self.pin(&body.upstream, body.pins, (body.accepted, body.held), time)?;
            }
            Event::PolicyActivated(body) => {
                if body.tests.failed > 0 {
                    return Err(Impossible::FailedTests {
                        failed: body.tests.failed,
                    });
                }
                self.settle_names();
                self.outdate_approvals(time);
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
                let life = if body.announced {
                    SigningLife::Announced { since: time }
                } else {
                    signing::replace_current(&mut self.token_keys, time)?;
                    SigningLife::Current { since: time }
                };
                self.token_keys.push(TokenKey {
                    kid: body.kid,
                    jwk: body.jwk,
                    since: time,
                    life,
                });
            }
            Event::DirectoryTokenAdded(body) => {
                if self.directory_tokens.iter().any(|it| it.id == body.token) {
                    return Err(twice("directory token", &body.token));
                }
                self.directory_tokens.push(DirectoryToken {
                    id: body.token,
                    digest: body.digest,
                    since: time,
                });
            }
            Event::DirectoryTokenRemoved(body) => {
                let before = self.directory_tokens.len();
                self.directory_tokens.retain(|it| it.id != body.token);
                if self.directory_tokens.len() == before {
                    return Err(unknown("directory token", &body.token));
                }
            }
            Event::TokenKeyActivated(body) => {
                signing::replace_current(&mut self.token_keys, time)?;
                self.change_token_key(&body.kid, SigningEvent::Activate, time)?;
            }
            Event::TokenKeyRetired(body) => {
                self.change_token_key(&body.kid, SigningEvent::Retire, time)?;
            }
            Event::TokenKeyRevoked(body) => {
                self.change_token_key(&body.kid, SigningEvent::Revoke, time)?;
            }
            Event::BreakGlassRequested(body) => self.request_glass(body, time, unsealed)?,
            Event::BreakGlassOpened(body) => self.open_break_glass(&body, time)?,
            Event::BreakGlassEnded(body) => self.end_break_glass(&body, time)?,
            Event::ApprovalRequested(body) => self.request_approval(body, time, unsealed)?,
            Event::ApprovalGranted(body) => self.grant_approval(body, time)?,
            Event::ApprovalRefused(body) => self.refuse_approval(body, time)?,
            Event::ApprovalUsed(body) => self.use_approval(&body, time)?,
            Event::ApprovalEnded(body) => self.end_approval(&body, time)?,
            Event::LogKeyAnnounced(body) => self.log_keys.announce(body, record, time)?,
            Event::LogKeyActivated(body) => self.log_keys.activate(&body, time)?,
            Event::LogKeyRetired(body) => self.log_keys.retire(&body, time)?,
            Event::WrappingKeyChanged(body) => self.wrapping_key = Some(body.key),
            Event::VaultChanged(body) => self.vault = self.vault.max(body.generation),
            Event::Erased(body) => {
                if self.erased.contains(&body.key) {
                    return Err(twice("the erasure of key", &body.key));
                }
                if let Some(handle) = &body.sponsor {
                    let sponsor = Arc::clone(self.known_sponsor(handle)?);
                    if sponsor.key != body.key {
                        return Err(unknown("key", &body.key));
                    }
                    sponsor.life.after(SponsorEvent::Erase, time)?;
                    self.name_sponsor(handle, Some(&sponsor.identity), &Identity::Erased)?;
                    self.change_sponsor(handle, SponsorEvent::Erase, time, |sponsor| {
                        sponsor.identity = Identity::Erased;
                    })?;
                } else if let Some(sponsor) = self.sponsor_of_key(&body.key) {
                    return Err(unknown("key", &sponsor.key));
                }
                self.lose_names(&body.key);
                for group in self.groups.values_mut().filter(|it| it.key == body.key) {
                    Arc::make_mut(group).profile = Known::Erased;
                }
                self.erase_glass(&body.key);
                self.erase_approvals(&body.key, time);
                self.erase_authority(&body.key);
                self.erased.insert(body.key);
            }
        }
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

    fn known_group(&mut self, handle: &Handle) -> Result<&mut Group, Impossible> {
        self.groups
            .get_mut(handle)
            .map(Arc::make_mut)
            .ok_or_else(|| unknown("group", handle))
    }

    /// Notes that the entry being applied is about these sponsors: policy sees their groups.
    fn seen_otherwise<'a>(&mut self, sponsors: impl IntoIterator<Item = &'a Handle>, at: Time) {
        for handle in sponsors {
            if let Some(sponsor) = self.sponsors.get_mut(handle) {
                let sponsor = Arc::make_mut(sponsor);
                sponsor.changed = self.size;
                sponsor.changed_at = at;
            }
        }
    }

    /// Notes what a sponsor is found by from now on, in place of what they were found by.
    fn name_sponsor(
        &mut self,
        handle: &Handle,
        before: Option<&Identity>,
        now: &Identity,
    ) -> Result<(), Impossible> {
        let ids = |identity: &Identity| match identity {
            Known::Named(person) => (Some(lower(&person.id)), person.external_id.clone()),
            Known::Erased | Known::Sealed => (None, None),
        };
        let (id, external) = ids(now);
        let other = |found: Option<&Handle>| found.is_some_and(|found| found != handle);
        if id
            .as_ref()
            .is_some_and(|id| other(self.sponsor_ids.get(id)))
        {
            return Err(twice("the id of sponsor", handle));
        }
        let taken = external.as_ref();
        if taken.is_some_and(|id| other(self.external_ids.get(id))) {
            return Err(twice("the directory's id of sponsor", handle));
        }
        if let Some((id, external)) = before.map(ids) {
            id.map(|id| self.sponsor_ids.remove(&id));
            external.map(|id| self.external_ids.remove(&id));
        }
        if let Some(id) = id {
            self.sponsor_ids.insert(id, handle.clone());
        }
        if let Some(id) = external {
            self.external_ids.insert(id, handle.clone());
        }
        Ok(())
    }

    fn change_sponsor(
        &mut self,
        handle: &Handle,
        event: SponsorEvent,
        at: Time,
        change: impl FnOnce(&mut Sponsor),
    ) -> Result<(), Impossible> {
        let mut sponsor = Sponsor::clone(self.known_sponsor(handle)?);
        sponsor.life = sponsor.life.after(event, at)?;
        sponsor.changed = self.size;
        sponsor.changed_at = at;
        change(&mut sponsor);
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

/// Takes something out of a set; a set of nothing is none.
fn leaves<K: Hash + Eq, T: Ord>(sets: &mut HashMap<K, BTreeSet<T>>, of: &K, it: &T) {
    if let Some(set) = sets.get_mut(of) {
        set.remove(it);
        if set.is_empty() {
            sets.remove(of);
        }
    }
}

/// The cause in a `node-degraded` entry that says the part is well again.
pub const WELL: &str = "none";

/// Whether somebody who was active may not be after this event, or policy sees them otherwise.
const fn narrows(event: &Event) -> bool {
    match event {
        Event::SponsorSuspended(_)
        | Event::SessionsRevoked(_)
        | Event::SponsorChanged(_)
        | Event::SponsorRisk(_)
        | Event::GroupChanged(_)
        | Event::GroupMembers(_)
        | Event::GroupRemoved(_)
        | Event::AgentSuspended(_)
        | Event::AgentRetired(_)
        | Event::AgentLapsed(_)
        | Event::AgentTransferred(_)
        | Event::InstanceEnded(_)
        | Event::TokenKeyRevoked(_)
        | Event::UpstreamStopped(_)
        | Event::AllStopped(_)
        | Event::NodeStarted(_)
        | Event::AdminRemoved(_)
        | Event::BreakGlassEnded(_)
        | Event::Erased(_) => true,
        Event::NodeStopped(_)
        | Event::NodeDegraded(_)
        | Event::AdminAdded(_)
        | Event::BreakGlassRequested(_)
        | Event::BreakGlassOpened(_)
        | Event::ApprovalRequested(_)
        | Event::ApprovalGranted(_)
        | Event::ApprovalRefused(_)
        | Event::ApprovalUsed(_)
        | Event::ApprovalEnded(_)
        | Event::PepAdded(_)
        | Event::PepRemoved(_)
        | Event::SponsorAdded(_)
        | Event::SponsorResumed(_)
        | Event::SponsorDeputies(_)
        | Event::GroupAdded(_)
        | Event::AgentAdded(_)
        | Event::AgentResumed(_)
        | Event::AgentKeyRotated(_)
        | Event::AgentAccepted(_)
        | Event::AgentOwned(_)
        | Event::AgentReviewed(_)
        | Event::TokenRefreshed(_)
        | Event::InstanceStarted(_)
        | Event::UpstreamConfigured(_)
        | Event::UpstreamResumed(_)
        | Event::AllResumed(_)
        | Event::CutOff(_)
        | Event::ToolsListed(_)
        | Event::ToolsPinned(_)
        | Event::ToolJudged(_)
        | Event::PolicyActivated(_)
        | Event::TokenKeyAdded(_)
        | Event::DirectoryTokenAdded(_)
        | Event::DirectoryTokenRemoved(_)
        | Event::TokenKeyActivated(_)
        | Event::TokenKeyRetired(_)
        | Event::LogKeyAnnounced(_)
        | Event::LogKeyActivated(_)
        | Event::LogKeyRetired(_)
        | Event::WrappingKeyChanged(_)
        | Event::VaultChanged(_) => false,
    }
}

/// Who a sponsor is, as what is sealed beside their entry says.
fn person(unsealed: Unsealed) -> Identity {
    match unsealed {
        Unsealed::Person(identity) => identity,
        Unsealed::Authority(_)
        | Unsealed::Group(_)
        | Unsealed::Reason(_)
        | Unsealed::Approval(_)
        | Unsealed::Nothing => Identity::Sealed,
    }
}

fn group(unsealed: Unsealed) -> Known<GroupProfile> {
    match unsealed {
        Unsealed::Group(profile) => profile,
        Unsealed::Authority(_)
        | Unsealed::Person(_)
        | Unsealed::Reason(_)
        | Unsealed::Approval(_)
        | Unsealed::Nothing => Known::Sealed,
    }
}

const fn other_agent(agent: AgentId, what: &'static str) -> Impossible {
    Impossible::OtherAgent { agent, what }
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
