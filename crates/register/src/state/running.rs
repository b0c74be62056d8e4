//! Which instances run: by their agent, below another, continued, and how many count.

use std::collections::BTreeSet;
use std::sync::Arc;

use vocab::id::{AgentId, InstanceId};
use vocab::time::Time;

use super::{Continues, Instance, State};

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
}
