//! The chain of a call: from the sponsor's acceptance through each hop to who called.

use std::sync::Arc;

use register::{Agent, Control, Origin, SignIn, Via};
use serde::Serialize;
use vocab::authority::Detail;
use vocab::{AgentId, Authority, InstanceId, PurposePath, Time};

/// One hop: an instance, what was handed on to it, and what of that a call used.
#[derive(Debug, Serialize)]
pub struct Hop {
    /// The instance.
    pub instance: InstanceId,
    /// Its agent.
    pub agent: AgentId,
    /// The agent's sponsor, as it is now. The instance acts for who started it.
    pub sponsor: String,
    /// Whether the agent's sponsor accepted it: `asserted`, `accepted` or `lapsed`, as it is now.
    pub acceptance: &'static str,
    /// Since when that is so.
    pub acceptance_since: Time,
    /// The entry that says so, or that registered the agent.
    pub acceptance_record: String,
    /// How the sponsor signed in to accept it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<SignIn>,
    /// Why it acts.
    pub purpose: PurposePath,
    /// What started it, if it was no key of its agent.
    pub via: Option<Via>,
    /// When it started.
    pub started_at: Time,
    /// The entry that says so.
    pub record: String,
    /// What was handed on to it; null: all that its agent, and whoever delegated to it, may do.
    pub handed_on: Option<Arc<Authority>>,
    /// Why that cannot be said any more, so that it is nothing: `erased` or `sealed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handed_on_unknown: Option<&'static str>,
    /// Calls that it and all below it may make.
    pub max_calls: Option<u64>,
    /// The detail of what was handed on that permits the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Detail>,
}

/// The hops of these instances, the first first. `details` are the numbers of those details that
/// permit a call, as its record has them.
pub(super) fn hops(control: &Control, chain: &[InstanceId], details: &[Option<u64>]) -> Vec<Hop> {
    control.view(|state| {
        let hop = |(at, id): (usize, &InstanceId)| {
            let instance = state.instance(id)?;
            let agent = state.agent(&instance.agent)?;
            let used = details.get(at).copied().flatten().and_then(|number| {
                let number = usize::try_from(number).ok()?;
                instance.bound()?.details().get(number).cloned()
            });
            Some(Hop {
                instance: id.clone(),
                agent: agent.id.clone(),
                sponsor: state.sponsor_name(&agent.sponsor),
                acceptance: agent.acceptance.as_str(),
                acceptance_since: agent.acceptance.since(),
                acceptance_record: format!("control/{}", said_in(agent)),
                sign_in: agent.accepted.as_ref().map(|it| it.sign_in),
                purpose: instance.purpose.clone(),
                via: match &instance.origin {
                    Origin::AgentKey(_) => None,
                    Origin::Via(via) => Some(via.clone()),
                },
                started_at: instance.started_at,
                record: format!("control/{}", instance.record),
                handed_on: instance.bound(),
                handed_on_unknown: instance.bound_unknown(),
                max_calls: instance.max_calls,
                used,
            })
        };
        chain.iter().enumerate().filter_map(hop).collect()
    })
}

/// The entry that says who its sponsor is, and how that is known.
fn said_in(agent: &Agent) -> u64 {
    let transferred = agent.past_sponsors.last().map(|past| past.record);
    let accepted = agent.accepted.as_ref().map(|accepted| accepted.record);
    accepted.or(transferred).unwrap_or(agent.record)
}

/// Every instance from the first of a chain to this one.
pub(super) fn chain_of(control: &Control, id: &InstanceId) -> Vec<InstanceId> {
    control.view(|state| {
        let Some(instance) = state.instance(id) else {
            return Vec::new();
        };
        let above = state.ancestors(instance).map(|it| it.id.clone());
        let mut chain: Vec<_> = std::iter::once(id.clone()).chain(above).collect();
        chain.reverse();
        chain
    })
}
