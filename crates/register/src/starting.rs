//! Decisions on starting instances: by a key of their agent, for a person or a workload, and below
//! another instance.

use std::sync::Arc;
use std::time::Duration;

use vocab::id::{AgentId, Handle, InstanceId, PurposePath, UpstreamName};
use vocab::limits::{ONCE_LIFETIME_SECONDS, ONCE_PER_INSTANCE_MAX};
use vocab::rng::Rng;
use vocab::time::Time;

use crate::command::{Delegation, Subject};
use crate::decide::{NoPlan, Plan, Sealing, agent};
use crate::entry::{
    AssertedAgents, Binding, Event, InstanceEnded, InstanceStarted, People, TokenRefreshed, Via,
};
use crate::handing_on::{handed_on, own_key};
use crate::lifecycle::{Acceptance, AgentLife, EndReason, InstanceLife};
use crate::refusal::Refusal;
use crate::standing::Why;
use crate::standing::{Active, sponsor_narrowed};
use crate::state::{Agent, Continues, Instance, Origin, State};
use crate::text::KeyId;

/// Whether the agent's instance may go on with this key and purpose. If somebody ended it, it may
/// not; that its time is over is nobody's doing, and another takes its place.
pub(crate) fn goes_on(
    state: &State,
    now: Time,
    agent: &AgentId,
    id: InstanceId,
    binding: Binding,
    purpose: &PurposePath,
) -> Result<(), Refusal> {
    let Some(instance) = state.instance(&id).filter(|it| it.agent == *agent) else {
        return Err(Refusal::UnknownInstance { given: id });
    };
    if !binding.proven() || instance.binding != binding || instance.purpose != *purpose {
        return Err(Refusal::OtherInstance { instance: id });
    }
    match instance.life {
        InstanceLife::Ended {
            since,
            reason: reason @ (EndReason::Revoked | EndReason::Closed | EndReason::Reused),
        } => Err(Refusal::InstanceEnded {
            instance: id,
            since,
            reason,
        }),
        InstanceLife::Ended {
            reason: EndReason::Idle | EndReason::Lifetime,
            ..
        }
        | InstanceLife::Running => match state.narrowed_by(instance, now) {
            // Somebody's doing, as if each of them had been ended.
            Some(why @ (Why::SessionsRevoked | Why::AgentTransferred)) => {
                Err(Refusal::StandsNoMore { instance: id, why })
            }
            _ => Ok(()),
        },
    }
}

/// An instance that no key of its agent started: none takes its place once it is over.
pub(crate) fn child<'a>(state: &'a State, id: &InstanceId) -> Option<&'a Arc<Instance>> {
    state.instance(id).filter(|it| it.key().is_none())
}

/// An instance below another goes on, for as long as all above it stand.
pub(crate) fn child_goes_on(
    state: &State,
    now: Time,
    kid: &KeyId,
    child: &Arc<Instance>,
    upstream: &UpstreamName,
) -> Result<Plan, Refusal> {
    // Those of people go on by refresh tokens, and a credential for one call does not.
    if child.parent.is_none() || child.is_once() {
        return Err(Refusal::OtherInstance {
            instance: child.id.clone(),
        });
    }
    runs(state, &child.agent, now)?.holds(kid, now)?;
    if let Some(why) = state.narrowed_by(child, now) {
        return Err(Refusal::StandsNoMore {
            instance: child.id.clone(),
            why,
        });
    }
    reachable(state, upstream)?;
    if child
        .bound()
        .is_some_and(|authority| !authority.reaches(upstream))
    {
        return Err(Refusal::NothingHandedOn {
            upstream: upstream.clone(),
        });
    }
    Ok(Plan::Continue(Arc::clone(child)))
}

/// A key of the agent starts an instance, or continues one.
pub(crate) fn by_key(
    state: &State,
    rng: &dyn Rng,
    now: Time,
    agent_id: &AgentId,
    kid: KeyId,
    purpose: PurposePath,
    binding: Binding,
    name: UpstreamName,
) -> Result<Plan, NoPlan> {
    let agent = runs(state, agent_id, now)?;
    // Here, in the order of writing, and not only where the request was authenticated: a key that
    // is replaced meanwhile starts nothing.
    agent.holds(&kid, now)?;
    registered(agent, &purpose, binding)?;
    reachable(state, &name)?;
    let origin = Origin::AgentKey(kid.clone());
    let events = match continued(state, now, agent, &origin, binding, &purpose) {
        Going::On(instance) => return Ok(Plan::Continue(instance)),
        Going::Over(ended) => ended,
    };
    not_delegated(state, agent, binding, now)?;
    room(state, agent, now)?;
    let start = Start {
        sponsor: agent.sponsor.clone(),
        parent: None,
        key: Some(kid),
        via: None,
        max_calls: None,
        lifetime: lifetime(state, agent, now),
    };
    let body = start.body(rng, agent, purpose, binding, name)?;
    Ok(begun(body, events))
}

/// Whether no living instance of the agent below another proves this key. Whoever has the agent's key
/// may start instances without bounds, with another DPoP key as well: this keeps nobody from it, but
/// from doing it by mistake where the one below was meant to go on.
fn not_delegated(state: &State, agent: &Agent, binding: Binding, now: Time) -> Result<(), Refusal> {
    let below = state.running(&agent.id, now).find(|it| {
        binding.proven() && it.binding == binding && it.parent.is_some() && !it.is_once()
    });
    let below = below.filter(|it| state.narrowed_by(it, now).is_none());
    below.map_or(Ok(()), |below| {
        Err(Refusal::DelegatedKey {
            instance: below.id.clone(),
        })
    })
}

enum Going {
    /// The instance goes on.
    On(Arc<Instance>),
    /// None does, and this says so of the one whose place is taken.
    Over(Vec<Event>),
}

/// What becomes of the instance that the same agent, origin, key and purpose have, if they have
/// one.
fn continued(
    state: &State,
    now: Time,
    agent: &Agent,
    origin: &Origin,
    binding: Binding,
    purpose: &PurposePath,
) -> Going {
    let continues = Continues::of(&agent.id, origin, binding, purpose);
    let Some(instance) = continues.and_then(|continues| state.occupant(&continues)) else {
        return Going::Over(Vec::new());
    };
    let reason = if instance.outlived(now) {
        EndReason::Lifetime
    } else if instance.idled(now) {
        EndReason::Idle
    } else if state.narrowed_by(instance, now).is_some() {
        // Its sponsor changed, or what ran for them was ended; the agent itself may act.
        EndReason::Revoked
    } else {
        return Going::On(Arc::clone(instance));
    };
    // Its time is over and its key starts another: say that it ended, so that no reader, also
    // after a restart, takes it for running.
    Going::Over(vec![Event::InstanceEnded(InstanceEnded {
        instance: instance.id.clone(),
        reason,
    })])
}

/// A person who signed in starts an instance; a workload starts one, or continues its own.
pub(crate) fn for_someone(
    state: &State,
    rng: &dyn Rng,
    now: Time,
    agent_id: AgentId,
    person: Option<Handle>,
    via: Via,
    purpose: PurposePath,
    binding: Binding,
    name: UpstreamName,
) -> Result<Plan, NoPlan> {
    let agent = runs(state, &agent_id, now)?;
    let sponsor = match (&via, person) {
        (Via::Person { .. } | Via::IdentityAssertion { .. }, Some(person)) => {
            may_start(state, agent, &person)?;
            person
        }
        (Via::Workload { .. }, None) => agent.sponsor.clone(),
        // Whoever asks for this has mixed up who came.
        (Via::Person { .. } | Via::IdentityAssertion { .. }, None)
        | (Via::Workload { .. } | Via::Exchange | Via::Once, _) => {
            return Err(Refusal::NotForThisPerson { agent: agent_id }.into());
        }
    };
    if let Via::IdentityAssertion { key, .. } = &via {
        agent.holds(key, now)?;
    }
    registered(agent, &purpose, binding)?;
    reachable(state, &name)?;
    let origin = Origin::Via(via.clone());
    let events = match continued(state, now, agent, &origin, binding, &purpose) {
        Going::On(instance) => return Ok(Plan::Continue(instance)),
        Going::Over(ended) => ended,
    };
    room(state, agent, now)?;
    let start = Start {
        sponsor,
        parent: None,
        key: None,
        via: Some(via),
        max_calls: None,
        lifetime: lifetime(state, agent, now),
    };
    let body = start.body(rng, agent, purpose, binding, name)?;
    Ok(begun(body, events))
}

/// An instance starts another below it.
pub(crate) fn below(
    state: &State,
    rng: &dyn Rng,
    now: Time,
    asked: Delegation,
) -> Result<Plan, NoPlan> {
    let parent = state.standing(&asked.parent, now).active();
    let parent = parent.map_err(|why| Refusal::ParentNarrowed {
        instance: asked.parent.clone(),
        why,
    })?;
    let agent = runs(state, &asked.agent, now)?;
    registered(agent, &asked.purpose, asked.binding)?;
    if !asked.purpose.is_at_or_below(&parent.instance().purpose) {
        return Err(Refusal::PurposeWider {
            purpose: asked.purpose,
            parent: parent.instance().purpose.clone(),
        }
        .into());
    }
    if let (Some(given), Some(max)) = (asked.max_calls, parent.instance().max_calls)
        && given > max
    {
        return Err(Refusal::MoreCalls { given, max }.into());
    }
    reachable(state, &asked.upstream)?;
    // Without a key of its own a child is told from its parent by nothing but its token.
    let same_agent = agent.id == parent.agent().id;
    match &asked.kid {
        Some(kid) => agent.holds(kid, now)?,
        None if same_agent => {}
        None => {
            return Err(Refusal::OtherInstance {
                instance: asked.parent,
            }
            .into());
        }
    }
    if !asked.binding.proven() && !same_agent {
        return Err(Refusal::BearerNotAllowed { agent: asked.agent }.into());
    }
    let (via, lifetime) = if asked.once {
        if !same_agent || asked.binding != parent.instance().binding {
            return Err(Refusal::OtherInstance {
                instance: asked.parent,
            }
            .into());
        }
        (Via::Once, Duration::from_secs(ONCE_LIFETIME_SECONDS))
    } else {
        deep_enough(&parent)?;
        room(state, agent, now)?;
        (Via::Exchange, lifetime(state, agent, now))
    };
    own_key(&parent, &asked)?;
    let (authority, max_calls) = handed_on(&parent, agent, &asked)?;
    not_too_many(state, &parent, asked.once, now)?;
    let left = parent.instance().expires_at.since(now);
    let lifetime = asked.lifetime.unwrap_or(lifetime).min(lifetime).min(left);
    let start = Start {
        sponsor: parent.instance().sponsor.clone(),
        parent: Some(asked.parent),
        key: None,
        via: Some(via),
        max_calls,
        lifetime: lifetime.max(Duration::from_secs(1)),
    };
    let body = start.body(rng, agent, asked.purpose, asked.binding, asked.upstream)?;
    Ok(match authority {
        None => begun(body, Vec::new()),
        Some(authority) => {
            let subject = Subject::Instance(body.instance.clone());
            let sealing = Sealing::InstanceStarted(Box::new(body), authority);
            Plan::Seal(subject, Box::new(sealing), Vec::new())
        }
    })
}

/// An instance's refresh token is used.
pub(crate) fn refresh(
    state: &State,
    now: Time,
    id: InstanceId,
    serial: u64,
) -> Result<Plan, Refusal> {
    let stands = state.standing(&id, now).active();
    let active = stands.map_err(|why| Refusal::ParentNarrowed {
        instance: id.clone(),
        why,
    })?;
    if active.instance().refresh_serial != serial {
        return Err(Refusal::RefreshReused { instance: id });
    }
    Ok(Plan::Write(
        Subject::Instance(id.clone()),
        vec![Event::TokenRefreshed(TokenRefreshed {
            instance: id,
            serial: serial + 1,
        })],
    ))
}

impl State {
    /// Whether a sponsor is there and active.
    pub fn sponsor_acts(&self, handle: &Handle) -> bool {
        let sponsor = self.sponsor(handle);
        sponsor.is_some_and(|sponsor| sponsor_narrowed(sponsor).is_none())
    }

    /// The agents that a person may start instances of now, by id.
    pub fn startable(&self, person: &Handle, now: Time) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents_for_people().filter(move |agent| {
            runs(self, &agent.id, now).is_ok() && may_start(self, agent, person).is_ok()
        })
    }
}

struct Start {
    sponsor: Handle,
    parent: Option<InstanceId>,
    key: Option<KeyId>,
    via: Option<Via>,
    max_calls: Option<u64>,
    lifetime: Duration,
}

impl Start {
    /// The entry, but for what is handed on: that is sealed when it is written.
    fn body(
        self,
        rng: &dyn Rng,
        agent: &Agent,
        purpose: PurposePath,
        binding: Binding,
        upstream: UpstreamName,
    ) -> Result<InstanceStarted, NoPlan> {
        Ok(InstanceStarted {
            instance: InstanceId::random(rng)?,
            agent: agent.id.clone(),
            sponsor: self.sponsor,
            parent: self.parent,
            purpose,
            binding,
            upstream,
            key: self.key,
            via: self.via,
            authority: None,
            handed_on: None,
            max_calls: self.max_calls,
            max_lifetime_s: self.lifetime.as_secs(),
            idle_s: agent.idle.min(self.lifetime).as_secs(),
        })
    }
}

/// An instance begins to which nothing less than everything was handed on, after what else is said.
fn begun(body: InstanceStarted, mut events: Vec<Event>) -> Plan {
    let subject = Subject::Instance(body.instance.clone());
    events.push(Event::InstanceStarted(body));
    Plan::Write(subject, events)
}

fn reachable(state: &State, name: &UpstreamName) -> Result<(), Refusal> {
    if crate::decide::upstream(state, name)?.switch.is_on() {
        return Ok(());
    }
    Err(Refusal::UpstreamStopped {
        upstream: name.clone(),
    })
}

/// How much longer than break-glass lives what starts under it: so that it runs yet when that ends,
/// and the certificate of the end names it.
const AFTER_GLASS: Duration = Duration::from_mins(1);

/// How long an instance of an agent that starts now lives at most: what starts under break-glass is
/// over soon after it, also if somebody answers for the agent by then.
fn lifetime(state: &State, agent: &Agent, now: Time) -> Duration {
    match state.agent_under_glass(agent, now) {
        Some(glass) => {
            let left = glass.until().plus(AFTER_GLASS).since(now);
            agent.max_lifetime.min(left)
        }
        None => agent.max_lifetime,
    }
}

/// The agent, if it may start instances at `now`.
fn runs<'a>(state: &'a State, id: &AgentId, now: Time) -> Result<&'a Agent, Refusal> {
    if !state.everything().is_on() {
        return Err(Refusal::AllStopped);
    }
    let agent = agent(state, id)?;
    match agent.life {
        AgentLife::Active { .. } => {}
        AgentLife::Suspended { since } => {
            return Err(Refusal::AgentSuspended {
                agent: id.clone(),
                since,
            });
        }
        AgentLife::Retired { since } => {
            return Err(Refusal::AgentRetired {
                agent: id.clone(),
                since,
            });
        }
    }
    if state.agent_under_glass(agent, now).is_some() {
        return Ok(agent);
    }
    sponsored(state, agent)?;
    match (agent.acceptance, state.asserted_agents()) {
        (Acceptance::Accepted { .. }, _) | (Acceptance::Asserted { .. }, AssertedAgents::Run) => {
            Ok(agent)
        }
        (Acceptance::Asserted { .. }, AssertedAgents::Refuse) | (Acceptance::Lapsed { .. }, _) => {
            Err(Refusal::AgentNotAccepted { agent: id.clone() })
        }
    }
}

/// Whether the agent's sponsor stands behind it now.
pub(crate) fn sponsored(state: &State, agent: &Agent) -> Result<(), Refusal> {
    match state
        .sponsor(&agent.sponsor)
        .map(|found| sponsor_narrowed(found))
    {
        Some(None) => Ok(()),
        Some(Some(_)) | None => Err(Refusal::AgentWithoutSponsor {
            agent: agent.id.clone(),
        }),
    }
}

fn registered(agent: &Agent, purpose: &PurposePath, binding: Binding) -> Result<(), Refusal> {
    if !agent.acts_for(purpose) {
        return Err(Refusal::PurposeNotRegistered {
            agent: agent.id.clone(),
            purpose: purpose.clone(),
            registered: agent.purposes.clone(),
        });
    }
    if !binding.proven() && !agent.allow_bearer {
        return Err(Refusal::BearerNotAllowed {
            agent: agent.id.clone(),
        });
    }
    Ok(())
}

fn room(state: &State, agent: &Agent, now: Time) -> Result<(), Refusal> {
    if state.runs_fewer(&agent.id, agent.max_instances) {
        return Ok(());
    }
    let live = state.live_instances(&agent.id, now);
    if live >= agent.max_instances {
        return Err(Refusal::InstancesReached {
            agent: agent.id.clone(),
            live,
            max: agent.max_instances,
        });
    }
    Ok(())
}

fn may_start(state: &State, agent: &Agent, person: &Handle) -> Result<(), Refusal> {
    let sponsor = state.sponsor(person).ok_or(Refusal::PersonNotActive)?;
    if sponsor_narrowed(sponsor).is_some() {
        return Err(Refusal::PersonNotActive);
    }
    let may = match &agent.people {
        None => false,
        Some(People::Sponsor) => agent.sponsor == *person,
        Some(People::Everyone) => true,
        Some(People::Group { group }) => state.is_member(group, person),
    };
    if may {
        Ok(())
    } else {
        Err(Refusal::NotForThisPerson {
            agent: agent.id.clone(),
        })
    }
}

/// Whether every agent on the way lets its instances have one more hop below them.
fn deep_enough(parent: &Active) -> Result<(), Refusal> {
    let mut depth = 0_u8;
    for link in parent.chain().rev() {
        depth = depth.saturating_add(1);
        let max = link.agent.delegation.max_depth;
        if depth > max {
            return Err(Refusal::TooDeep {
                agent: link.agent.id.clone(),
                depth,
                max,
            });
        }
    }
    Ok(())
}

fn not_too_many(state: &State, parent: &Active, once: bool, now: Time) -> Result<(), Refusal> {
    let instance = parent.instance();
    let live = state
        .children(&instance.id, now)
        .filter(|child| child.is_once() == once && child.lives(now))
        .count();
    let live = u32::try_from(live).unwrap_or(u32::MAX);
    let max = if once {
        ONCE_PER_INSTANCE_MAX
    } else {
        parent.agent().delegation.max_children
    };
    if live >= max {
        return Err(Refusal::TooManyChildren {
            instance: instance.id.clone(),
            live,
            max,
        });
    }
    Ok(())
}
