//! Cuts: what was stopped, and which instances that ruled out.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::Kind;
use serde::Serialize;
use vocab::id::{AgentId, Handle, InstanceId};
use vocab::time::Time;

use super::{Agent, Cut, CutOf, Instance, State};
use crate::entry::Signal;
use crate::lifecycle::{Acceptance, AgentLife, InstanceLife, SponsorLife, Switch};

/// Whether a cut holds yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    /// Nothing that it is about may act.
    InForce,
    /// Somebody lifted it.
    Lifted,
    /// It ended what ran then, for good; something else may be started.
    Ended,
}

impl State {
    /// Whether anybody may act.
    pub const fn everything(&self) -> &Switch {
        &self.everything
    }

    /// Every cut, in order.
    pub fn cuts(&self) -> impl DoubleEndedIterator<Item = &Cut> {
        self.cuts.values()
    }

    /// The entries of cuts that are not certified yet.
    pub fn uncertified(&self) -> impl Iterator<Item = u64> {
        self.open_cuts.iter().copied()
    }

    /// The cut that the entry at `record` made.
    pub fn cut(&self, record: u64) -> Option<&Cut> {
        self.cuts.get(&record)
    }

    /// Whether a cut holds yet: what it is about does not act, and has not acted since.
    pub fn validity(&self, cut: &Cut) -> Validity {
        let since = match &cut.of {
            CutOf::Sessions(_) => return Validity::Ended,
            CutOf::Agent(_) if cut.kind == Kind::AgentTransferred => return Validity::Ended,
            CutOf::Sponsor(sponsor) => {
                let life = self.sponsor(sponsor).map(|it| it.life);
                life.and_then(|life| match life {
                    SponsorLife::Active { .. } => None,
                    SponsorLife::Suspended { since } => Some(since),
                    SponsorLife::Erased { .. } => Some(cut.at),
                })
            }
            CutOf::Agent(agent) => {
                let agent = self.agent(agent);
                agent.and_then(|agent| match (agent.life, agent.acceptance) {
                    (AgentLife::Retired { .. }, _) => Some(cut.at),
                    (_, Acceptance::Lapsed { since }) if cut.kind == Kind::AgentLapsed => {
                        Some(since)
                    }
                    (AgentLife::Suspended { since }, _) if cut.kind != Kind::AgentLapsed => {
                        Some(since)
                    }
                    (AgentLife::Active { .. } | AgentLife::Suspended { .. }, _) => None,
                })
            }
            CutOf::Upstream(name) => {
                let upstream = self.upstream(name);
                upstream.and_then(|it| it.switch.off_since())
            }
            CutOf::All => self.everything.off_since(),
        };
        if since.is_some_and(|since| since <= cut.at) {
            Validity::InForce
        } else {
            Validity::Lifted
        }
    }

    /// The running instances that a cut ruled out: those that were started before it, and acted for
    /// the sponsor or under them, or had the agent, or somebody of these above them.
    pub fn covered(&self, cut: &Cut) -> Vec<Arc<Instance>> {
        let mut found = BTreeMap::new();
        let mut next: Vec<&InstanceId> = match &cut.of {
            CutOf::Sponsor(sponsor) => {
                let agents = self.agents_of(sponsor).map(|agent| &agent.id);
                let theirs = agents.flat_map(|id| self.running_of(id));
                theirs.chain(self.acting_for(sponsor)).collect()
            }
            CutOf::Sessions(sponsor) => self.acting_for(sponsor).collect(),
            CutOf::Agent(agent) => self.running_of(agent).collect(),
            CutOf::Upstream(_) => Vec::new(),
            CutOf::All => self
                .agents
                .keys()
                .flat_map(|id| self.running_of(id))
                .collect(),
        };
        let revoked = self.sessions_revoked_before(cut.record);
        while let Some(id) = next.pop() {
            if let Some(instance) = self.instances.get(id)
                && instance.record < cut.record
                && !found.contains_key(id)
            {
                let mut ancestors = self.ancestors(instance);
                if self.was_over(instance, cut, &revoked)
                    || ancestors.any(|it| self.was_over(it, cut, &revoked))
                {
                    continue;
                }
                found.insert(id, Arc::clone(instance));
                let children = self.children.get(id).into_iter().flatten();
                next.extend(children.map(|(_, child)| child));
            }
        }
        found.into_values().collect()
    }

    /// The agents that a cut ruled out, with and without instances: the sponsor's, or the one.
    pub fn covered_agents(&self, cut: &Cut) -> Vec<AgentId> {
        let kept = |agent: &&Arc<Agent>| !matches!(agent.life, AgentLife::Retired { .. });
        match &cut.of {
            CutOf::Sponsor(sponsor) => {
                let agents = self.agents_of(sponsor).filter(kept);
                agents.map(|agent| agent.id.clone()).collect()
            }
            CutOf::Agent(agent) => vec![agent.clone()],
            CutOf::Sessions(_) | CutOf::Upstream(_) | CutOf::All => Vec::new(),
        }
    }

    /// Whether an instance was over already when a cut was written.
    fn was_over(&self, instance: &Instance, cut: &Cut, revoked: &BTreeMap<&Handle, u64>) -> bool {
        instance.outlived(cut.at)
            || instance.life != InstanceLife::Running
            || revoked
                .get(&instance.sponsor)
                .is_some_and(|since| instance.record < *since)
            || self.transferred_between(instance, cut.record)
    }

    /// Of each sponsor whose sessions were revoked before an entry, the last that did so.
    fn sessions_revoked_before(&self, record: u64) -> BTreeMap<&Handle, u64> {
        let cuts = self.cuts.range(..record);
        let sessions = cuts.filter_map(|(at, cut)| match &cut.of {
            CutOf::Sessions(sponsor) => Some((sponsor, *at)),
            CutOf::Sponsor(_) | CutOf::Agent(_) | CutOf::Upstream(_) | CutOf::All => None,
        });
        sessions.collect()
    }

    /// Whether an instance's agent got another sponsor before the entry at `record`.
    fn transferred_between(&self, instance: &Instance, record: u64) -> bool {
        self.agents.get(&instance.agent).is_some_and(|agent| {
            let past = agent.past_sponsors.iter().map(|past| past.record);
            past.into_iter()
                .any(|it| instance.record < it && it < record)
        })
    }

    fn running_of(&self, agent: &AgentId) -> impl Iterator<Item = &InstanceId> {
        let running = self.running.get(agent).into_iter().flatten();
        running.map(|(_, id)| id)
    }

    fn acting_for(&self, sponsor: &Handle) -> impl Iterator<Item = &InstanceId> {
        self.acting.get(sponsor).into_iter().flatten()
    }

    /// Instances of others' agents that act for a sponsor and are not over.
    pub(crate) fn acting_of_others(&self, sponsor: &Handle) -> u64 {
        let now = self.last_time();
        let acting = self.acting_for(sponsor);
        let acting = acting.filter_map(|id| self.instances.get(id));
        let others = acting.filter(|instance| {
            let agent = self.agent(&instance.agent);
            instance.lives(now) && agent.is_some_and(|agent| agent.sponsor != *sponsor)
        });
        others.count() as u64
    }

    pub(super) fn note_cut(&mut self, kind: Kind, of: CutOf, at: Time, signal: Option<Signal>) {
        self.cut_approvals(&of, at);
        // The end of one leaves alone what was asked for to follow it.
        if kind != Kind::BreakGlassEnded {
            self.cut_glass(&of, at);
        }
        let record = self.size;
        let cut = Cut {
            of,
            kind,
            record,
            at,
            signal,
            certificate: None,
        };
        self.cuts.insert(record, cut);
        self.open_cuts.insert(record);
    }
}
