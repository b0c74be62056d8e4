//! Who is offered the agents of a sponsor who does not answer for them any more. Nothing is theirs by
//! that: somebody gives an agent to them, or they take it over themselves.

use std::sync::Arc;

use vocab::id::Handle;

use super::State;
use crate::nouns::{Agent, Sponsor};
use crate::refusal::Refusal;

/// What somebody is to the sponsor who did answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Nominated by an administrator, or by the sponsor themselves.
    Deputy,
    /// The directory says so.
    Manager,
}

impl Relation {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deputy => "deputy",
            Self::Manager => "manager",
        }
    }
}

impl State {
    /// Whom an agent is offered to, the first first: if its sponsor does not act, their deputies who
    /// do, and then whom the directory calls their manager.
    pub fn offered(&self, agent: &Agent) -> Vec<(&Sponsor, Relation)> {
        let sponsor = self.sponsor(&agent.sponsor);
        sponsor.map_or_else(Vec::new, |sponsor| self.offered_of(sponsor))
    }

    /// The agents that are offered to somebody, by id. Only sponsors who do not act are asked for
    /// theirs: there are few of them, and many agents.
    pub fn offered_to(&self, person: &Handle) -> Vec<&Arc<Agent>> {
        let sponsors = self.sponsors.values().filter(|sponsor| {
            let offered = self.offered_of(sponsor);
            offered.iter().any(|(to, _)| to.handle == *person)
        });
        let mut agents: Vec<_> = sponsors
            .flat_map(|sponsor| self.agents_of(&sponsor.handle))
            .collect();
        agents.sort_unstable_by_key(|agent| &agent.id);
        agents
    }

    /// Whom the agents of a sponsor are offered to.
    fn offered_of(&self, sponsor: &Sponsor) -> Vec<(&Sponsor, Relation)> {
        if self.sponsor_acts(&sponsor.handle) {
            return Vec::new();
        }
        let deputies = sponsor.deputies.iter();
        let deputies =
            deputies.filter_map(|it| Some((self.sponsor(it)?.as_ref(), Relation::Deputy)));
        let manager = self.manager(sponsor).map(|it| (it, Relation::Manager));
        let mut offered: Vec<(&Sponsor, Relation)> = Vec::new();
        for (to, relation) in deputies.chain(manager) {
            let known = offered.iter().any(|(known, _)| known.handle == to.handle);
            if !known && to.handle != sponsor.handle && self.sponsor_acts(&to.handle) {
                offered.push((to, relation));
            }
        }
        offered
    }

    /// What somebody is to the sponsor of an agent that they may take over themselves. Whom an
    /// administrator stopped, they stopped with their agents: neither a deputy nor the manager, whom
    /// the directory names, lifts that.
    pub fn takes_over(&self, agent: &Agent, person: &Handle) -> Result<Relation, Refusal> {
        let mut offered = self.offered(agent).into_iter();
        let Some((_, relation)) = offered.find(|(to, _)| to.handle == *person) else {
            let agent = agent.id.clone();
            return Err(Refusal::NotOffered { agent });
        };
        if self
            .sponsor(&agent.sponsor)
            .is_some_and(|it| it.held_by_admin())
        {
            let agent = agent.id.clone();
            return Err(Refusal::StoppedByAdmin { agent });
        }
        Ok(relation)
    }

    /// Whom the directory calls the manager of somebody, by its own id or ours.
    fn manager(&self, sponsor: &Sponsor) -> Option<&Sponsor> {
        let said = sponsor.person()?.manager.as_ref()?;
        let by_handle = said.as_str().parse::<Handle>().ok();
        let by_handle = by_handle.and_then(|handle| self.sponsor(&handle));
        by_handle
            .or_else(|| self.sponsor_by_external_id(said))
            .map(AsRef::as_ref)
    }
}
