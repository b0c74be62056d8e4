//! What is stopped at this moment, by whom, and what lets it go on.

use std::fmt::Display;

use ledger::{Actor, Entry, Log as _, LogReader};
use register::lifecycle::{Acceptance, AgentLife, SponsorLife};
use register::{AssertedAgents, Cut, CutOf, State, Validity};
use vocab::Time;

use super::Finding;
use crate::node::Shared;
use crate::output::count;

/// Names of sponsors or agents in one line.
const NAMED_MAX: usize = 10;

/// Everything, upstreams, sponsors and agents that may not act.
pub(super) fn findings(shared: &Shared) -> Vec<Finding> {
    let (switched, mut found) = shared.plane.control().view(|state| {
        let switched = state.cuts().filter(|cut| {
            matches!(cut.of, CutOf::All | CutOf::Upstream(_))
                && state.validity(cut) == Validity::InForce
        });
        let switched: Vec<Cut> = switched.cloned().collect();
        let others = sponsors(state).into_iter().chain(agents(state));
        (switched, others.collect::<Vec<_>>())
    });
    let log = shared.control_log.reader();
    let stops = switched.iter().map(|cut| {
        let by = actor(&*log, cut.record);
        stop(cut, &by.map_or_else(|| "?".to_owned(), |it| named(&it)))
    });
    found.splice(0..0, stops);
    if found.is_empty() {
        found.push(Finding::ok(
            "stops",
            "nothing is stopped: no upstream, sponsor or agent",
        ));
    }
    found
}

fn stop(cut: &Cut, by: &str) -> Finding {
    let (at, record) = (cut.at, cut.record);
    let (what, undo) = match &cut.of {
        CutOf::Upstream(name) => (
            format!("upstream `{name}`"),
            format!("tipstaff kill --upstream {name} --undo"),
        ),
        CutOf::All | CutOf::Sponsor(_) | CutOf::Sessions(_) | CutOf::Agent(_) => {
            ("everything".to_owned(), "tipstaff kill --undo".to_owned())
        }
    };
    Finding::fail(
        "stops",
        format!("{what} is STOPPED since {at}, by {by} (control/{record}): every call is denied"),
        format!("when it is to go on: `{undo}`"),
    )
}

/// Who wrote an entry of the control log.
pub(crate) fn actor(log: &dyn LogReader, record: u64) -> Option<Actor> {
    let bytes = log.entry(record).ok()?;
    Some(Entry::parse(&bytes).ok()?.actor)
}

/// Somebody, for people.
pub(crate) fn named(actor: &Actor) -> String {
    if actor.id.is_empty() {
        actor.credential.clone()
    } else {
        actor.id.clone()
    }
}

fn sponsors(state: &State) -> Option<Finding> {
    let mut found = Vec::new();
    for sponsor in state.sponsors() {
        if let SponsorLife::Suspended { since } = sponsor.life {
            found.push((state.sponsor_name(&sponsor.handle), since));
        }
    }
    let told = list(&found)?;
    Some(Finding::warn(
        "stops",
        format!(
            "{} suspended, with all that they sponsor: {told}",
            count(found.len(), "sponsor is", "sponsors are")
        ),
        "`tipstaff sponsor show ID` says who stopped them, and since when",
    ))
}

fn agents(state: &State) -> Vec<Finding> {
    let (mut suspended, mut lapsed, mut asserted) = (Vec::new(), Vec::new(), Vec::new());
    for agent in state.agents() {
        match (agent.life, agent.acceptance) {
            (AgentLife::Suspended { since }, _) => suspended.push((&agent.id, since)),
            (AgentLife::Active { .. }, Acceptance::Lapsed { since }) => {
                lapsed.push((&agent.id, since));
            }
            (AgentLife::Active { .. }, Acceptance::Asserted { since }) => {
                if state.asserted_agents() == AssertedAgents::Refuse {
                    asserted.push((&agent.id, since));
                }
            }
            (AgentLife::Retired { .. }, _)
            | (AgentLife::Active { .. }, Acceptance::Accepted { .. }) => {}
        }
    }
    let accept = "their sponsors accept them, signed in as themselves, at `/accept`";
    let all = [
        (
            suspended,
            "suspended",
            "`tipstaff agent resume ID` lifts it",
        ),
        (
            lapsed,
            "to be accepted again and may not act until then",
            accept,
        ),
        (
            asserted,
            "not accepted by their sponsor and may not act until then",
            accept,
        ),
    ];
    let found = all.iter().filter_map(|(agents, how, advice)| {
        let told = list(agents)?;
        let agents = count(agents.len(), "agent is", "agents are");
        Some(Finding::warn(
            "stops",
            format!("{agents} {how}: {told}"),
            *advice,
        ))
    });
    found.collect()
}

fn list<N: Display>(found: &[(N, Time)]) -> Option<String> {
    let named = found.iter().take(NAMED_MAX);
    let mut named: Vec<String> = named
        .map(|(name, since)| format!("`{name}` since {since}"))
        .collect();
    match found.len().saturating_sub(NAMED_MAX) {
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    (!named.is_empty()).then(|| named.join(", "))
}
