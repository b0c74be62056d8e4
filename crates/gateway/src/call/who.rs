//! The caller with every instance above it: for policy, for the limits, for the record.

use std::sync::Arc;

use policy::{Facts, InstanceFacts, LinkFacts, Target};
use register::{Active, Agent, Instance, Link, Sponsor, State, Why};
use vocab::authority::CallArguments;
use vocab::{Handle, InstanceId, UpstreamName};

use crate::limits::Counter;
use crate::plane::Plane;

/// The caller as the register knows it at one moment, narrowed or not.
#[derive(Debug)]
pub(crate) struct Who {
    pub(super) instance: Arc<Instance>,
    pub(super) agent: Arc<Agent>,
    /// Those that delegated, the first first.
    above: Vec<Link>,
    sponsor: Arc<Sponsor>,
    /// The names of the sponsor's groups.
    groups: Vec<String>,
    pub(super) control_size: u64,
    pub(super) standing: Result<Active, Why>,
}

impl Who {
    pub(crate) fn now(plane: &Plane, id: &InstanceId, upstream: &UpstreamName) -> Option<Self> {
        let now = plane.clock.now();
        let failed = plane.control.failure().map(|_| Why::RegisterFailed);
        // One look: what policy sees of somebody and whether they stand are of the same moment.
        plane.control.view(|state| {
            let standing = match failed {
                Some(why) => Err(why),
                None => state.standing_at(id, upstream, now).active(),
            };
            let instance = Arc::clone(state.instance(id)?);
            let above = match &standing {
                Ok(active) => active.above().to_vec(),
                Err(_) => links(state, &instance)?,
            };
            let groups = state.groups_of(&instance.sponsor);
            let mut groups: Vec<String> = groups
                .filter_map(|group| group.name().map(str::to_owned))
                .collect();
            groups.sort_unstable();
            Some(Self {
                agent: Arc::clone(state.agent(&instance.agent)?),
                sponsor: Arc::clone(state.sponsor(&instance.sponsor)?),
                above,
                groups,
                instance,
                control_size: match &standing {
                    Ok(active) => active.size(),
                    Err(_) => state.size(),
                },
                standing,
            })
        })
    }

    fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        let above = self.above.iter().map(|link| &link.instance);
        above.chain([&self.instance])
    }

    /// Every instance between the sponsor and the caller, the caller last.
    pub(super) fn chain(&self) -> Vec<InstanceId> {
        self.instances().map(|it| it.id.clone()).collect()
    }

    /// The break-glasses without which it could not act.
    pub(super) fn under(&self) -> Vec<Handle> {
        let active = self.standing.as_ref().ok();
        let under = active.into_iter().flat_map(Active::under);
        under.map(|it| it.id.clone()).collect()
    }

    /// What a call of this caller is counted against.
    pub(super) fn counted(&self) -> Vec<(Counter, u64)> {
        let own = self.agent.limits.calls_per_instance;
        let own = own.map(|most| (Counter::Own(self.instance.id.clone()), most));
        let handed_on = self
            .instances()
            .filter_map(|it| Some((Counter::Tree(it.id.clone()), it.max_calls?)));
        own.into_iter().chain(handed_on).collect()
    }

    /// Of each instance of the chain, the number of the detail that permits a call; none where
    /// nothing less than everything was handed on. Nothing at all if that is so for all of them.
    pub(super) fn details(&self, facts: &Facts) -> Vec<Option<u64>> {
        let Target::Tool { name } = &facts.target else {
            return Vec::new();
        };
        let args = CallArguments::new(&facts.args);
        let detail = |it: &Arc<Instance>| {
            let authority = it.authority.as_ref()?;
            let detail = authority.permits(&facts.upstream, name, &args)?;
            u64::try_from(detail).ok()
        };
        if self.instances().all(|it| it.authority.is_none()) {
            return Vec::new();
        }
        self.instances().map(detail).collect()
    }

    /// The caller, as policy sees it.
    pub(crate) fn facts(&self, proven: bool) -> InstanceFacts {
        let Self {
            instance,
            agent,
            above,
            sponsor,
            groups,
            ..
        } = self;
        InstanceFacts {
            id: instance.id.clone(),
            agent: agent.id.clone(),
            sponsor: sponsor.id().cloned(),
            sponsor_groups: groups.clone(),
            purpose: instance.purpose.clone(),
            depth: u32::from(instance.depth),
            ancestors: above.iter().map(|link| link.agent.id.clone()).collect(),
            proven,
            environment: agent.environment.as_str().to_owned(),
            authority: lines(agent),
            handed_on: instance.authority.clone(),
            above: above
                .iter()
                .map(|link| LinkFacts {
                    authority: lines(&link.agent),
                    handed_on: link.instance.authority.clone(),
                })
                .collect(),
            root_purpose: above.first().map(|link| link.instance.purpose.clone()),
        }
    }
}

/// Those above an instance that does not stand, the first first: its denial names them, too.
fn links(state: &State, instance: &Instance) -> Option<Vec<Link>> {
    let above = state.ancestors(instance).map(|it| {
        Some(Link {
            agent: Arc::clone(state.agent(&it.agent)?),
            instance: Arc::clone(it),
        })
    });
    let mut above = above.collect::<Option<Vec<_>>>()?;
    above.reverse();
    Some(above)
}

/// An agent's allow list, as records have it.
pub(super) fn lines(agent: &Agent) -> Option<Vec<String>> {
    let lines = agent.allow.as_ref()?;
    Some(lines.iter().map(ToString::to_string).collect())
}
