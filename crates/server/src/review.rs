//! Which agents are needed yet: who answers for them, when they were last used and what of their
//! authority was, and what changed since their sponsors accepted them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use gateway::record::{DecisionBody, Effect};
use ledger::{Actor, Entry, Kind, Log as _, LogReader, ReadError};
use register::{Agent, Allow, Command, Instance, Relation, Signal, Sponsor, State, Status};
use serde::Serialize;
use vocab::authority::Detail;
use vocab::{AgentId, InstanceId, Time, ToolName, UpstreamName};

use crate::config::Agents;
use crate::node::Shared;

/// How many entries of the log of calls are read at once, the newest first.
const ENTRIES_MAX: u64 = 200_000;
/// Instances of an agent of which it is told what they did not use of what was handed on to them.
const INSTANCES_TOLD_MAX: usize = 20;

/// One agent, as whoever reviews it sees it.
#[derive(Debug, Serialize)]
pub struct Review {
    /// The agent.
    pub id: AgentId,
    /// Its sponsor's id; the handle if that is erased.
    pub sponsor: String,
    /// The agent's status.
    pub status: Status,
    /// `asserted`, `accepted` or `lapsed`.
    pub acceptance: &'static str,
    /// Whether its sponsor is not active: nobody answers for it.
    pub orphaned: bool,
    /// Who is offered it, if it is orphaned, the first first. Nothing is applied: an administrator
    /// transfers it, and they accept it; or they take it over themselves, at `/accept`.
    pub offered: Vec<Offer>,
    /// Whether it was not used for as long as `[agents] dormant_days` says.
    pub dormant: bool,
    /// When it was last permitted a call, as far as was looked; null: not since `looked_since`.
    pub last_used_at: Option<Time>,
    /// What it may do and did not since `looked_since`: lines of its allow list.
    pub unused: Vec<Allow>,
    /// What was handed on to instances of it that are not over, and neither they nor those below them
    /// used since `looked_since`: of the first instances.
    pub unused_handed_on: Vec<HandedOn>,
    /// Entries about its sponsor since they accepted it.
    pub sponsor_changed: bool,
    /// When somebody last said that it is needed.
    pub reviewed_at: Time,
    /// When somebody has to again.
    pub due_at: Time,
    /// Whether that is over.
    pub overdue: bool,
}

/// A part of what was handed on to an instance.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HandedOn {
    /// The instance.
    pub instance: InstanceId,
    /// Details of its authority, as they were asked for.
    pub details: Vec<Detail>,
}

/// Somebody who could answer for an agent.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Their id.
    pub to: String,
    /// What they are to the one who did: `deputy` or `manager`.
    pub relation: &'static str,
    /// Whether they may take it over themselves: not if an administrator stopped its sponsor.
    pub takes_over: bool,
    /// What transfers it to them.
    pub command: String,
}

fn offers(state: &State, agent: &Agent) -> Vec<Offer> {
    let offer = |(to, relation): (&Sponsor, Relation)| {
        let takes_over = state.takes_over(agent, &to.handle).is_ok();
        let to = to.id()?;
        Some(Offer {
            to: to.to_string(),
            relation: relation.as_str(),
            takes_over,
            command: format!("tipstaff agent transfer {} --to {to}", agent.id),
        })
    };
    state.offered(agent).into_iter().filter_map(offer).collect()
}

/// Every agent that is not retired, by sponsor.
#[derive(Debug, Serialize)]
pub struct Reviews {
    /// Since when calls were looked at; null: since the first.
    pub looked_since: Option<Time>,
    /// The agents.
    pub agents: Vec<Review>,
}

/// What agents did, as a part of the log of calls says: what was read once is not read again.
#[derive(Debug, Default)]
pub struct Used {
    /// The entries that were read: from this one on, up to the second.
    read: (u64, u64),
    /// When the first of them was written, if there are others before it.
    since: Option<Time>,
    last: BTreeMap<AgentId, Time>,
    tools: BTreeSet<(AgentId, UpstreamName, ToolName)>,
    methods: BTreeSet<(AgentId, UpstreamName, String)>,
    /// Of what was handed on to instances that are not over, what they or those below them used.
    details: BTreeSet<(InstanceId, u64)>,
}

impl Used {
    /// Reads what is new, and more of what is old, back to the first entry in the end. Who is running
    /// is asked after it is settled up to where is read: who starts later decided nothing before
    /// that, and what they did is read the next time.
    fn read(
        &mut self,
        calls: &dyn LogReader,
        running: impl FnOnce() -> HashSet<InstanceId>,
    ) -> Result<(), ReadError> {
        let size = calls.size();
        let running = &running();
        if self.read.1 == 0 {
            self.read = (size, size);
        }
        self.details.retain(|(id, _)| running.contains(id));
        for index in self.read.1..size {
            self.note(calls, index, running)?;
            self.read.1 = index + 1;
        }
        let first = self.read.0.saturating_sub(ENTRIES_MAX);
        for index in (first..self.read.0).rev() {
            let at = self.note(calls, index, running)?;
            self.read.0 = index;
            self.since = (index > 0).then_some(at);
        }
        Ok(())
    }

    fn note(
        &mut self,
        calls: &dyn LogReader,
        index: u64,
        running: &HashSet<InstanceId>,
    ) -> Result<Time, ReadError> {
        let bytes = calls.entry(index)?;
        let damaged = |cause: String| ReadError::Damaged {
            what: format!("entry {index}"),
            cause,
        };
        let entry = Entry::parse(&bytes).map_err(|error| damaged(error.to_string()))?;
        if entry.kind != Kind::Decision {
            return Ok(entry.time);
        }
        let body: DecisionBody =
            serde_json::from_str(entry.body.get()).map_err(|error| damaged(error.to_string()))?;
        if body.effect != Effect::Allow {
            return Ok(entry.time);
        }
        let last = self.last.entry(body.agent.clone()).or_insert(entry.time);
        *last = entry.time.max(*last);
        let details = body.chain.into_iter().zip(body.details);
        let details = details.filter_map(|(id, nth)| Some((id, nth?)));
        self.details
            .extend(details.filter(|(id, _)| running.contains(id)));
        // Where policy sent it, it was within the allow list as well.
        for upstream in [Some(body.upstream), body.routed_to].into_iter().flatten() {
            let agent = body.agent.clone();
            match &body.tool {
                Some(tool) => {
                    self.tools.insert((agent, upstream, tool.clone()));
                }
                None => {
                    self.methods.insert((agent, upstream, body.method.clone()));
                }
            }
        }
        Ok(entry.time)
    }

    fn used(&self, agent: &AgentId, line: &Allow) -> bool {
        let tool = |(by, upstream, tool): &(AgentId, UpstreamName, ToolName)| {
            by == agent && line.tool(upstream, tool)
        };
        let method = |(by, upstream, method): &(AgentId, UpstreamName, String)| {
            by == agent && line.method(upstream, method)
        };
        self.tools.iter().any(tool) || self.methods.iter().any(method)
    }
}

/// What an instance may do as it was handed on to it, and neither it nor any below it did.
fn unused_of(instance: &Instance, used: &Used) -> Option<HandedOn> {
    let authority = instance.authority.as_ref()?.authority.known()?;
    let details = (0_u64..).zip(authority.details());
    let unused = details.filter(|(nth, _)| !used.details.contains(&(instance.id.clone(), *nth)));
    let details: Vec<Detail> = unused.map(|(_, detail)| detail.clone()).collect();
    (!details.is_empty()).then(|| HandedOn {
        instance: instance.id.clone(),
        details,
    })
}

fn review(state: &State, agent: &Agent, used: &Used, settings: Agents, now: Time) -> Review {
    let view = state.agent_view(agent, now);
    let sponsor = state.sponsor(&agent.sponsor);
    let orphaned = sponsor.is_none_or(|it| state.sponsor_view(it).status != Status::Active);
    let last_used_at = used.last.get(&agent.id).copied();
    let due_at = agent.reviewed_at.plus(settings.review_every);
    // It could have been used before what was read.
    let unused_since = match (last_used_at, used.since) {
        (Some(last), _) => last,
        (None, Some(since)) => since.max(agent.added_at),
        (None, None) => agent.added_at,
    };
    Review {
        id: agent.id.clone(),
        sponsor: view.sponsor,
        status: view.status,
        acceptance: view.acceptance,
        orphaned,
        offered: offers(state, agent),
        dormant: now.since(unused_since) >= settings.dormant_after,
        last_used_at,
        unused: agent
            .allow
            .iter()
            .flatten()
            .filter(|line| !used.used(&agent.id, line))
            .cloned()
            .collect(),
        unused_handed_on: state
            .running(&agent.id, now)
            .filter_map(|instance| unused_of(instance, used))
            .take(INSTANCES_TOLD_MAX)
            .collect(),
        sponsor_changed: agent
            .accepted
            .as_ref()
            .is_some_and(|it| sponsor.is_some_and(|sponsor| sponsor.changed > it.record)),
        reviewed_at: agent.reviewed_at,
        due_at,
        overdue: now >= due_at,
    }
}

/// Looks at every agent. Reads much of the log of calls, so not where calls are answered.
pub fn reviews(shared: &Shared) -> Result<Reviews, ReadError> {
    let (settings, now) = (shared.config.agents, shared.clock.now());
    let running = || {
        shared.plane.control().view(|state| {
            let running = state.unexpired_instances(now);
            let narrowed = running.filter(|it| it.authority.is_some());
            narrowed.map(|it| it.id.clone()).collect()
        })
    };
    let mut used = shared.used.lock().unwrap_or_else(PoisonError::into_inner);
    used.read(shared.calls_log.reader(), running)?;
    let mut agents: Vec<Review> = shared.plane.control().view(|state| {
        let agents = state.agents().filter(|it| match it.life {
            register::lifecycle::AgentLife::Retired { .. } => false,
            register::lifecycle::AgentLife::Active { .. }
            | register::lifecycle::AgentLife::Suspended { .. } => true,
        });
        agents
            .map(|agent| review(state, agent, &used, settings, now))
            .collect()
    });
    agents.sort_by(|one, other| (&one.sponsor, &one.id).cmp(&(&other.sponsor, &other.id)));
    Ok(Reviews {
        looked_since: used.since,
        agents,
    })
}

/// Suspends the agents whose review is overdue, if the configuration says so. Each is a cut of its
/// own, with a certificate.
pub async fn suspend_overdue(shared: &Arc<Shared>) {
    let settings = shared.config.agents;
    if !settings.suspend_overdue {
        return;
    }
    let now = shared.clock.now();
    let overdue: Vec<AgentId> = shared.plane.control().view(|state| {
        let active = state.agents().filter(|it| match it.life {
            register::lifecycle::AgentLife::Active { .. } => true,
            register::lifecycle::AgentLife::Suspended { .. }
            | register::lifecycle::AgentLife::Retired { .. } => false,
        });
        let overdue = active.filter(|it| now.since(it.reviewed_at) >= settings.review_every);
        overdue.map(|it| it.id.clone()).collect()
    });
    for id in overdue {
        let (Ok(source), Ok(event)) = ("node".parse(), "review-overdue".parse()) else {
            return;
        };
        let signal = Some(Signal {
            source,
            event,
            received_at: now,
            happened_at: None,
            id: None,
        });
        let command = Command::SuspendAgent {
            id: id.clone(),
            signal,
        };
        let actor = Actor::node(&shared.config.node);
        match shared.plane.control().execute(actor, command).await {
            Ok(_) => {
                tracing::warn!(agent.id = %id, "Agent {id} is suspended: its review is overdue");
            }
            Err(error) => {
                tracing::error!(agent.id = %id, error = %error, "Agent {id}, whose review is overdue, could not be suspended");
            }
        }
    }
}

/// How often overdue reviews are looked for.
pub const LOOK_EVERY: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
