//! Standing: whether an instance may act at this moment, and if not, why.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use vocab::id::{InstanceId, UpstreamName};
use vocab::time::Time;

use crate::break_glass::BreakGlass;
use crate::entry::AssertedAgents;
use crate::lifecycle::{Acceptance, AgentLife, InstanceLife, SponsorLife};
use crate::state::{Agent, Identity, Instance, Sponsor, State};

/// Why an instance may not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// No such instance.
    Unknown,
    /// It was ended.
    InstanceEnded,
    /// Its lifetime is over, or it was idle too long.
    InstanceExpired,
    /// Its agent is retired.
    AgentRetired,
    /// Its agent is suspended.
    AgentSuspended,
    /// Its agent got another sponsor after it was started.
    AgentTransferred,
    /// Its agent's sponsor did not accept the agent yet, and the node runs none that is not accepted.
    AgentNotAccepted,
    /// Its agent's sponsor has to accept the agent again.
    AcceptanceLapsed,
    /// What ran for its sponsor when it was started was ended.
    SessionsRevoked,
    /// Its sponsor is suspended.
    SponsorSuspended,
    /// Who its sponsor is cannot be said any more.
    SponsorErased,
    /// Its sponsor is in a group whose name cannot be said any more, so that policies cannot see it.
    GroupErased,
    /// What was handed on to it cannot be said any more, so it is nothing.
    AuthorityErased,
    /// An instance above it, which delegated to it, may not act.
    AncestorNarrowed,
    /// The upstream was stopped.
    UpstreamStopped,
    /// Everything was stopped.
    AllStopped,
    /// The register does not know its own state; nothing may act.
    RegisterFailed,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::Unknown,
        Self::InstanceEnded,
        Self::InstanceExpired,
        Self::AgentRetired,
        Self::AgentSuspended,
        Self::AgentTransferred,
        Self::AgentNotAccepted,
        Self::AcceptanceLapsed,
        Self::SessionsRevoked,
        Self::SponsorSuspended,
        Self::SponsorErased,
        Self::GroupErased,
        Self::AuthorityErased,
        Self::AncestorNarrowed,
        Self::UpstreamStopped,
        Self::AllStopped,
        Self::RegisterFailed,
    ];

    /// Those after which an instance does not act again, whatever is lifted.
    pub const ENDS: [Self; 3] = [
        Self::InstanceEnded,
        Self::SessionsRevoked,
        Self::AgentTransferred,
    ];

    /// The reason as a word, as in `--json` and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InstanceEnded => "instance-ended",
            Self::InstanceExpired => "instance-expired",
            Self::AgentRetired => "agent-retired",
            Self::AgentSuspended => "agent-suspended",
            Self::AgentTransferred => "agent-transferred",
            Self::AgentNotAccepted => "agent-not-accepted",
            Self::AcceptanceLapsed => "acceptance-lapsed",
            Self::SessionsRevoked => "sessions-revoked",
            Self::SponsorSuspended => "sponsor-suspended",
            Self::SponsorErased => "sponsor-erased",
            Self::GroupErased => "group-erased",
            Self::AuthorityErased => "authority-erased",
            Self::AncestorNarrowed => "ancestor-narrowed",
            Self::UpstreamStopped => "upstream-stopped",
            Self::AllStopped => "all-stopped",
            Self::RegisterFailed => "register-failed",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "there is no such instance",
            Self::InstanceEnded => "the instance was ended",
            Self::InstanceExpired => "the instance has expired",
            Self::AgentRetired => "the agent is retired",
            Self::AgentSuspended => "the agent is suspended",
            Self::AgentTransferred => {
                "the agent has another sponsor since the instance was started"
            }
            Self::AgentNotAccepted => "the agent's sponsor has not accepted it yet",
            Self::AcceptanceLapsed => "the agent's sponsor has to accept it again",
            Self::SessionsRevoked => "what ran for its sponsor until then was ended",
            Self::SponsorSuspended => "the agent's sponsor is suspended",
            Self::SponsorErased => "the agent's sponsor is erased",
            Self::GroupErased => "its sponsor is in a group whose name is erased",
            Self::AuthorityErased => "what was handed on to it is erased",
            Self::AncestorNarrowed => "an instance that delegated to it may not act",
            Self::UpstreamStopped => "an administrator stopped all calls to this upstream",
            Self::AllStopped => "an administrator stopped everything",
            Self::RegisterFailed => "the register does not know its own state",
        })
    }
}

/// Whether an instance may act.
#[derive(Clone, Debug)]
pub enum Standing {
    /// It may not.
    Narrowed(Why),
    /// It may.
    Active(Active),
}

impl Standing {
    /// The yes, or why not.
    pub fn active(self) -> Result<Active, Why> {
        match self {
            Self::Narrowed(why) => Err(why),
            Self::Active(active) => Ok(active),
        }
    }
}

/// Why what was decided on somebody holds no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// They may not act any more.
    Narrowed(Why),
    /// Their sponsor's groups, or something else that policy sees, changed: it is to be decided
    /// again.
    Changed,
}

/// One hop: an instance and the agent that it is one of.
#[derive(Clone, Debug)]
pub struct Link {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its agent.
    pub agent: Arc<Agent>,
}

/// An instance that may act, with all that stands above it, as of one moment. Only the register
/// makes one; [`Control::still`](crate::Control::still) says whether it holds yet.
#[derive(Clone, Debug)]
pub struct Active {
    own: Link,
    /// The first is the one that nobody delegated to.
    above: Arc<[Link]>,
    sponsor: Arc<Sponsor>,
    /// What stands in for who does not answer for a hop; empty where somebody does for each.
    under: Vec<Arc<BreakGlass>>,
    size: u64,
    generation: u64,
    as_of: Time,
}

impl Active {
    /// The instance.
    pub const fn instance(&self) -> &Arc<Instance> {
        &self.own.instance
    }

    /// Its agent.
    pub const fn agent(&self) -> &Arc<Agent> {
        &self.own.agent
    }

    /// Every hop between the sponsor and the instance: the first is the one that nobody delegated
    /// to, the last is its own.
    pub fn chain(&self) -> impl DoubleEndedIterator<Item = &Link> {
        self.above.iter().chain([&self.own])
    }

    /// The hops above its own.
    pub fn above(&self) -> &[Link] {
        &self.above
    }

    /// For whom it acts.
    pub const fn sponsor(&self) -> &Arc<Sponsor> {
        &self.sponsor
    }

    /// The break-glasses without which it could not act. Whoever it acts for did not say so: those
    /// did who broke them.
    pub fn under(&self) -> &[Arc<BreakGlass>] {
        &self.under
    }

    /// When time alone ends it: its lifetime, or that of a break-glass that it needs.
    pub fn until(&self) -> Time {
        let own = self.own.instance.expires_at;
        let under = self.under.iter().map(|it| it.until());
        under.fold(own, Time::min)
    }

    /// Whether both need the same break-glasses.
    pub(crate) fn is_under_same(&self, other: &Self) -> bool {
        let ids = self.under.iter().map(|glass| &glass.id);
        ids.eq(other.under.iter().map(|glass| &glass.id))
    }

    /// The control log's size when this was seen: what a decision names.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The register's [generation](State::generation) when this was seen.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether time alone has ended it. A clock that went back does not bring it back.
    pub(crate) fn expired(&self, now: Time) -> Option<Why> {
        let now = now.max(self.as_of);
        if let Some(why) = expired(&self.own.instance, now) {
            return Some(why);
        }
        if let Some(over) = self.under.iter().find(|it| it.open_until(now).is_none()) {
            return Some(over.why());
        }
        let above = self
            .above
            .iter()
            .any(|it| expired(&it.instance, now).is_some());
        above.then_some(Why::AncestorNarrowed)
    }
}

fn expired(instance: &Instance, now: Time) -> Option<Why> {
    (instance.outlived(now) || instance.idled(now)).then_some(Why::InstanceExpired)
}

/// What narrows an instance, the nearest and most final first; those above it are not looked at.
/// `sponsors` are the agent's and its own, and `aside` says for each whether break-glass sets aside
/// that they do not stand behind it.
pub(crate) fn narrowed(
    instance: &Instance,
    agent: &Agent,
    sponsors: [&Sponsor; 2],
    aside: [bool; 2],
    asserted: AssertedAgents,
    now: Time,
) -> Option<Why> {
    match instance.life {
        InstanceLife::Ended { .. } => return Some(Why::InstanceEnded),
        InstanceLife::Running => {}
    }
    let [agents, own] = sponsors;
    let [agents_aside, own_aside] = aside;
    expired(instance, now)
        .or_else(|| left_behind(instance, agent, own))
        .or_else(|| instance.bound_unknown().map(|_| Why::AuthorityErased))
        .or_else(|| agent_narrowed(agent, agents, asserted).filter(|_| !agents_aside))
        .or_else(|| sponsor_narrowed(own).filter(|_| !own_aside))
}

/// What narrows an instance for good although it was not ended itself: it was started before.
fn left_behind(instance: &Instance, agent: &Agent, own: &Sponsor) -> Option<Why> {
    if agent.outlived_sponsor(instance.record) {
        return Some(Why::AgentTransferred);
    }
    let over = own
        .sessions_revoked
        .is_some_and(|since| instance.record < since);
    over.then_some(Why::SessionsRevoked)
}

/// What narrows an agent and all its instances.
pub(crate) const fn agent_narrowed(
    agent: &Agent,
    sponsor: &Sponsor,
    asserted: AssertedAgents,
) -> Option<Why> {
    match agent.life {
        AgentLife::Retired { .. } => return Some(Why::AgentRetired),
        AgentLife::Suspended { .. } => return Some(Why::AgentSuspended),
        AgentLife::Active { .. } => {}
    }
    if let Some(why) = sponsor_narrowed(sponsor) {
        return Some(why);
    }
    match (agent.acceptance, asserted) {
        (Acceptance::Accepted { .. }, _) | (Acceptance::Asserted { .. }, AssertedAgents::Run) => {
            None
        }
        (Acceptance::Asserted { .. }, AssertedAgents::Refuse) => Some(Why::AgentNotAccepted),
        (Acceptance::Lapsed { .. }, _) => Some(Why::AcceptanceLapsed),
    }
}

/// What narrows everything that a person sponsors.
pub(crate) const fn sponsor_narrowed(sponsor: &Sponsor) -> Option<Why> {
    match (&sponsor.life, &sponsor.identity) {
        (SponsorLife::Active { .. }, Identity::Named(_)) => None,
        (SponsorLife::Suspended { .. }, _) => Some(Why::SponsorSuspended),
        // No call without a named person: also when the key went without an entry saying so.
        (SponsorLife::Erased { .. }, _)
        | (SponsorLife::Active { .. }, Identity::Erased | Identity::Sealed) => {
            Some(Why::SponsorErased)
        }
    }
}

impl State {
    /// What narrows an instance at `now`, not looking at those above it.
    fn link(
        &self,
        instance: &Arc<Instance>,
        now: Time,
        under: &mut Vec<Arc<BreakGlass>>,
    ) -> Result<(Link, &Arc<Sponsor>), Why> {
        let agent = self.agent(&instance.agent).ok_or(Why::Unknown)?;
        let agents = self.sponsor(&agent.sponsor).ok_or(Why::Unknown)?;
        let own = self.sponsor(&instance.sponsor).ok_or(Why::Unknown)?;
        let asserted = self.asserted_agents();
        let glass = match own.life {
            SponsorLife::Suspended { .. } => self.sponsor_under_glass(instance, now),
            SponsorLife::Active { .. } | SponsorLife::Erased { .. } => None,
        };
        let glasses = [self.agent_under_glass(agent, now), glass];
        let aside = glasses.map(|glass| glass.is_some());
        if let Some(why) = narrowed(instance, agent, [agents, own], aside, asserted, now) {
            return Err(why);
        }
        for glass in glasses.into_iter().flatten() {
            if !under.contains(glass) {
                under.push(Arc::clone(glass));
            }
        }
        let (instance, agent) = (Arc::clone(instance), Arc::clone(agent));
        Ok((Link { instance, agent }, own))
    }

    /// Whether an instance may act at `now`, or at the last entry's time if that is later: it, and
    /// every one above it.
    pub fn standing(&self, id: &InstanceId, now: Time) -> Standing {
        match self.stands(id, now.max(self.last_time())) {
            Ok(active) => Standing::Active(active),
            Err(why) => Standing::Narrowed(why),
        }
    }

    fn stands(&self, id: &InstanceId, now: Time) -> Result<Active, Why> {
        let instance = self.instance(id).ok_or(Why::Unknown)?;
        let (mut above, mut under) = (Vec::new(), Vec::new());
        let (own, sponsor) = self.link(instance, now, &mut under)?;
        // After what is its own: one that is over is over, whatever else is stopped.
        if !self.everything().is_on() {
            return Err(Why::AllStopped);
        }
        // A `forbid` by that name would silently not hold.
        if self
            .groups_of(&sponsor.handle)
            .any(|it| it.name().is_none())
        {
            return Err(Why::GroupErased);
        }
        for ancestor in self.ancestors(instance) {
            let (link, _) = self
                .link(ancestor, now, &mut under)
                .map_err(|_| Why::AncestorNarrowed)?;
            above.push(link);
        }
        // A parent that the register does not have is no reason to take a child for a root.
        if above.len() != usize::from(instance.depth) {
            return Err(Why::Unknown);
        }
        above.reverse();
        Ok(Active {
            own,
            above: above.into(),
            sponsor: Arc::clone(sponsor),
            under,
            size: self.size(),
            generation: self.generation(),
            as_of: now,
        })
    }

    /// Whether an instance may act at `now`, and an upstream be called at all.
    pub fn standing_at(&self, id: &InstanceId, upstream: &UpstreamName, now: Time) -> Standing {
        match self.upstream(upstream) {
            Some(found) if found.switch.is_on() => self.standing(id, now),
            Some(_) => match self.standing(id, now) {
                Standing::Active(_) => Standing::Narrowed(Why::UpstreamStopped),
                narrowed @ Standing::Narrowed(_) => narrowed,
            },
            None => Standing::Narrowed(Why::Unknown),
        }
    }

    /// Whether an instance was started before its agent's transfer, or before what ran for its
    /// sponsor was ended: no resume brings it back.
    pub(crate) fn is_left_behind(&self, instance: &Instance) -> bool {
        let agent = self.agent(&instance.agent);
        let own = self.sponsor(&instance.sponsor);
        agent
            .zip(own)
            .is_some_and(|(agent, own)| left_behind(instance, agent, own).is_some())
    }

    /// What narrows an instance at `now`, if anything.
    pub(crate) fn narrowed_by(&self, instance: &Instance, now: Time) -> Option<Why> {
        self.standing(&instance.id, now).active().err()
    }
}
