//! The caller with every instance above it: for policy, for the limits, for the record.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::{Direction, Facts, Found, InstanceFacts, LinkFacts, Target};
use register::{Active, Agent, Instance, Link, Sponsor, State, Why};
use serde_json::value::RawValue;
use vocab::authority::CallArguments;
use vocab::{Handle, InstanceId, SponsorId, Time, UpstreamName};

use super::Call;
use crate::limits::Counter;
use crate::plane::{Plane, Snapshot};

/// The caller as the register knows it at one moment, narrowed or not.
#[derive(Debug)]
pub(crate) struct Who {
    pub(super) instance: Arc<Instance>,
    pub(super) agent: Arc<Agent>,
    /// Those that delegated, the first first.
    above: Vec<Link>,
    /// What decides.
    pub(crate) snapshot: Arc<Snapshot>,
    names: Names,
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
            // Taken here, it is of the set that the register has in force or of the one before: of
            // those it knows whom they mean by a name.
            let snapshot = plane.active.load_full();
            Some(Self {
                agent: Arc::clone(state.agent(&instance.agent)?),
                names: Names::read(state, state.sponsor(&instance.sponsor)?, &snapshot),
                above,
                snapshot,
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

    /// Those that delegated, the first first.
    pub(super) fn links(&self) -> &[Link] {
        &self.above
    }

    /// Their ids.
    pub(super) fn above(&self) -> Vec<InstanceId> {
        self.above
            .iter()
            .map(|link| link.instance.id.clone())
            .collect()
    }

    /// Every instance between the sponsor and the caller, the caller last.
    pub(super) fn chain(&self) -> Vec<InstanceId> {
        self.instances().map(|it| it.id.clone()).collect()
    }

    /// The instance that nobody delegated to.
    pub(crate) fn root(&self) -> &InstanceId {
        let first = self.above.first();
        first.map_or(&self.instance.id, |link| &link.instance.id)
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
            let authority = it.bound()?;
            let detail = authority.permits(&facts.upstream, name, &args)?;
            u64::try_from(detail).ok()
        };
        if self.instances().all(|it| it.authority.is_none()) {
            return Vec::new();
        }
        self.instances().map(detail).collect()
    }

    /// What policy sees of something that passes to this caller without a permit.
    pub(crate) fn passing(
        &self,
        call: &Call,
        method: String,
        (findings, labels): (Vec<Found>, BTreeSet<String>),
        now: Time,
    ) -> Facts {
        Facts {
            v: policy::FACTS_VERSION,
            instance: self.facts(call.caller.proven()),
            upstream: call.served.name.clone(),
            target: Target::Method {
                method,
                name_or_uri: None,
            },
            args: RawValue::NULL.to_owned(),
            now,
            standing: self.standing.as_ref().err().map(ToString::to_string),
            limit: None,
            unread: false,
            observe: call.served.observing(now),
            approval: None,
            findings,
            direction: Direction::Response,
            elsewhere: false,
            labels,
            no_route: None,
        }
    }

    /// The caller, as policy sees it.
    pub(crate) fn facts(&self, proven: bool) -> InstanceFacts {
        let Self {
            instance,
            agent,
            above,
            names,
            ..
        } = self;
        InstanceFacts {
            id: instance.id.clone(),
            agent: agent.id.clone(),
            sponsor: names.sponsor.clone(),
            sponsor_groups: names.groups.clone(),
            purpose: instance.purpose.clone(),
            depth: u32::from(instance.depth),
            ancestors: above.iter().map(|link| link.agent.id.clone()).collect(),
            proven,
            environment: agent.environment.as_str().to_owned(),
            authority: lines(agent),
            handed_on: instance.bound(),
            above: above
                .iter()
                .map(|link| LinkFacts {
                    authority: lines(&link.agent),
                    handed_on: link.instance.bound(),
                })
                .collect(),
            root_purpose: above.first().map(|link| link.instance.purpose.clone()),
            perhaps_sponsor: names.perhaps_sponsor.clone(),
            perhaps_groups: names.perhaps_groups.clone(),
        }
    }
}

/// What the policies in force call a sponsor and their groups.
#[derive(Debug)]
struct Names {
    sponsor: Option<SponsorId>,
    groups: Vec<String>,
    perhaps_sponsor: Vec<SponsorId>,
    perhaps_groups: Vec<String>,
}

impl Names {
    fn read(state: &State, sponsor: &Sponsor, snapshot: &Snapshot) -> Self {
        // Without a set nothing is said, and so nobody is meant otherwise than they are called.
        let since = snapshot.since.unwrap_or(u64::MAX);
        let engine = &snapshot.engine;
        let read = state.sponsor_in_policy(sponsor, since, |name| engine.says_sponsor(name));
        let id = |name: &str| name.parse::<SponsorId>().ok();
        let (mut groups, mut perhaps_groups) = (Vec::new(), Vec::new());
        for group in state.groups_of(&sponsor.handle) {
            let read = state.group_in_policy(group, since, |name| engine.says_group(name));
            groups.extend(read.means.map(str::to_owned));
            perhaps_groups.extend(read.perhaps.into_iter().map(str::to_owned));
        }
        groups.sort_unstable();
        perhaps_groups.retain(|name| !groups.contains(name));
        perhaps_groups.sort_unstable();
        perhaps_groups.dedup();
        Self {
            sponsor: read.means.and_then(id),
            groups,
            perhaps_sponsor: read.perhaps.into_iter().filter_map(id).collect(),
            perhaps_groups,
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
