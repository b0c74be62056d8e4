//! Who is offered the agents of a sponsor who does not answer for them any more. Nothing is theirs by
//! that: somebody gives an agent to them, or they take it over themselves.

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
        let Some(sponsor) = self.sponsor(&agent.sponsor) else {
            return Vec::new();
        };
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
