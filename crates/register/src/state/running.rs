//! Which instances run: how they start, by their agent, below another, continued, and how many
//! count.

use std::collections::BTreeSet;
use std::sync::Arc;

use vocab::id::{AgentId, InstanceId};
use vocab::time::Time;

use super::{Continues, Impossible, Instance, Origin, State, Unsealed, handed_on, twice, unknown};
use crate::entry::{InstanceStarted, Via};
use crate::lifecycle::{AgentEvent, InstanceEvent, KeyEvent, SponsorEvent, SponsorLife};

impl State {
    /// The running instances directly below one whose lifetime is not over; some may be idle.
    pub fn children(&self, id: &InstanceId, now: Time) -> impl Iterator<Item = &Arc<Instance>> {
        self.unexpired(self.children.get(id), now)
    }

    /// Of a set by end of life, those whose lifetime is not over: the others are not looked at.
    fn unexpired<'a>(
        &'a self,
        set: Option<&'a BTreeSet<(Time, InstanceId)>>,
        now: Time,
    ) -> impl Iterator<Item = &'a Arc<Instance>> {
        set.into_iter()
            .flatten()
            .rev()
            .take_while(move |(expires_at, _)| now < *expires_at)
            .filter_map(|(_, id)| self.instances.get(id))
    }

    /// Every running instance whose lifetime is not over.
    pub fn unexpired_instances(&self, now: Time) -> impl Iterator<Item = &Arc<Instance>> {
        let all = self.running.values();
        all.flat_map(move |set| self.unexpired(Some(set), now))
    }

    /// Says of every instance that it was used at `now`.
    pub(crate) fn touch_all(&self, now: Time) {
        for instance in self.instances.values() {
            instance.last_used.touch(now, instance.idle);
        }
    }

    /// The running instances of an agent whose lifetime is not over; some may be idle.
    pub fn running(&self, agent: &AgentId, now: Time) -> impl Iterator<Item = &Arc<Instance>> {
        self.unexpired(self.running.get(agent), now)
    }

    /// How many instances of an agent count against its maximum: running, and neither outlived
    /// nor idle, nor started before their agent's transfer or the end of their sponsor's sessions.
    /// Those that a suspension narrows count, since they come back with it. After a restart there
    /// can be more than the maximum for as long as an instance may be idle, because the log does
    /// not say which were idle before.
    pub fn live_instances(&self, agent: &AgentId, now: Time) -> u32 {
        let live = self
            .running(agent, now)
            .filter(|instance| !instance.idled(now) && !instance.is_once())
            .filter(|instance| !self.is_left_behind(instance))
            .count();
        u32::try_from(live).unwrap_or(u32::MAX)
    }

    /// Whether an agent has fewer than `max` instances that run: then it has fewer that count, and
    /// none is looked at.
    pub(crate) fn runs_fewer(&self, agent: &AgentId, max: u32) -> bool {
        let running = self.running.get(agent).map_or(0, BTreeSet::len);
        u32::try_from(running).is_ok_and(|running| running < max)
    }

    /// The running instance that would be continued, if its time is not over.
    pub(crate) fn occupant(&self, continues: &Continues) -> Option<&Arc<Instance>> {
        self.instances.get(self.continues.get(continues)?)
    }

    /// Takes note of an instance that started.
    pub(super) fn start_instance(
        &mut self,
        mut body: InstanceStarted,
        time: Time,
        unsealed: Unsealed,
    ) -> Result<(), Impossible> {
        if self.instances.contains_key(&body.instance) {
            return Err(twice("instance", &body.instance));
        }
        let agent = self.known_agent(&body.agent)?;
        agent.life.after(AgentEvent::StartInstance, time)?;
        for sponsor in [&agent.sponsor, &body.sponsor] {
            let life = self.known_sponsor(sponsor)?.life;
            let aside = matches!(life, SponsorLife::Suspended { .. })
                && self.glass_of(agent, body.parent.as_ref(), sponsor);
            if !aside {
                life.after(SponsorEvent::StartInstance, time)?;
            }
        }
        let foreign = |what| {
            Err(Impossible::Foreign {
                id: body.instance.clone(),
                what,
            })
        };
        let parent = match &body.parent {
            Some(parent) => Some(
                self.instances
                    .get(parent)
                    .ok_or_else(|| unknown("instance", parent))?,
            ),
            None => None,
        };
        let origin = match (&body.key, &body.via, parent) {
            (Some(kid), None, None) => {
                let Some(key) = agent.key.as_ref().filter(|key| key.kid == *kid) else {
                    return foreign("a key");
                };
                key.life.after(KeyEvent::StartInstance, time)?;
                Origin::AgentKey(kid.clone())
            }
            (None, Some(via), parent) if via.delegates() == parent.is_some() => {
                Origin::Via(via.clone())
            }
            _ => return foreign("an origin"),
        };
        // For whom it acts: for a person who came themselves, for whom the one above acts, or else
        // for the agent's sponsor.
        match (&body.via, parent) {
            (Some(Via::Person { .. } | Via::IdentityAssertion { .. }), _) => {}
            (_, Some(parent)) if body.sponsor != parent.sponsor => return foreign("a sponsor"),
            (_, None) if body.sponsor != agent.sponsor => return foreign("a sponsor"),
            _ => {}
        }
        if let Some(parent) = parent {
            parent.life.after(InstanceEvent::Delegate, time)?;
            if !body.purpose.is_at_or_below(&parent.purpose) {
                return foreign("a purpose");
            }
            if parent.authority.is_some() && body.authority.is_none() && body.handed_on.is_none() {
                return foreign("an authority");
            }
        }
        if body.authority.is_some() && body.handed_on.is_some() {
            return foreign("two authorities");
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
        let authority = handed_on::of(&mut body, unsealed);
        let parent = parent.map(AsRef::as_ref);
        let instance = Instance::start(body, origin, authority, parent, time, self.size);
        if let Some(continues) = instance.continues_as()
            && instance.key().is_some()
            && self.continues.contains_key(&continues)
        {
            return Err(twice("the instance of key", &continues.jkt));
        }
        self.index_instance(&instance, true);
        self.instances
            .insert(instance.id.clone(), Arc::new(instance));
        Ok(())
    }
}
