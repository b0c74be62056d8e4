//! Calls that policy sends to another upstream than was asked.
//!
//! The permit with `@route` is what lets a call go there, so it needs no other: but all else that
//! decides about a call of that upstream decides about this one, and every forbid there holds.

use std::collections::BTreeSet;

use vocab::UpstreamName;

use super::{As, Engine, denied_plainly};
use crate::decision::{Decision, Denial, Permit, Stage};
use crate::facts::{Facts, Target as Called};
use crate::findings::{Direction, Masks};

/// Methods, besides calling a tool, that are answered by whoever they are sent to. The others are
/// about the connection itself, or are put to the client.
const ROUTED: [&str; 8] = [
    "resources/read",
    "prompts/get",
    "completion/complete",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tasks/update",
    "tasks/cancel",
];

impl Engine {
    /// Decides about a call as what it is where policy routes it to. It needs no permit there.
    pub fn decide_routed(&self, facts: &Facts, to: &UpstreamName) -> Decision {
        let routed = As {
            routed: true,
            ..As::default()
        };
        self.decide_as(&there(facts, to), &routed)
    }

    /// What becomes of a call that policy sends elsewhere.
    pub(super) fn sent_on(&self, facts: &Facts, mut decision: Decision, as_if: &As) -> Decision {
        let (routes, policies) = match &mut decision {
            Decision::Permit(permit) => (&mut permit.routes, &permit.policies),
            Decision::Hold(hold) => (&mut hold.routes, &hold.policies),
            Decision::Denial(_) => return decision,
        };
        let Some(to) = routes.first() else {
            return decision;
        };
        let why = if routes.len() > 1 {
            let all: Vec<_> = routes.iter().map(|to| format!("`{to}`")).collect();
            format!(
                "Policies send this call to different upstreams: {}. It can go to one only.",
                all.join(", ")
            )
        } else if *to == facts.upstream {
            // It is there already.
            routes.clear();
            return decision;
        } else if !is_routed(&facts.target) {
            let what = facts.target.action(&facts.upstream);
            format!("Policy sends this to `{to}`, and `{what}` is nothing that can go elsewhere.")
        } else if facts.elsewhere {
            format!(
                "Policy sends this call to `{to}`, and whoever asks makes it where it was asked \
                 for. Make the call through the gateway."
            )
        } else if facts.direction == Direction::Response {
            format!("Policy sends calls like this one to `{to}`, and it was made elsewhere.")
        } else {
            let to = to.clone();
            return self.sent_to(facts, decision, &to, as_if);
        };
        let policies = policies.clone();
        let mut denial = denied_plainly(Stage::Policy, &why);
        denial.policies = policies;
        Decision::Denial(denial)
    }

    fn sent_to(
        &self,
        facts: &Facts,
        decision: Decision,
        to: &UpstreamName,
        as_if: &As,
    ) -> Decision {
        let routed = As {
            routed: true,
            accepted: as_if.accepted,
            ..As::default()
        };
        let there = if self.upstreams.contains_key(to.as_str()) {
            self.decide_as_read(&there(facts, to), &routed)
        } else {
            let text = "There is no such upstream here.";
            Decision::Denial(denied_plainly(Stage::PolicyUnavailable, text))
        };
        match (decision, there) {
            (_, Decision::Denial(denial)) => Decision::Denial(Denial {
                cause: format!("denied where policy sends it: {}", denial.cause),
                reason: format!(
                    "Policy sends this call to `{to}`, where it is denied: {}",
                    denial.reason
                ),
                route: Some(to.clone()),
                ..denial
            }),
            (Decision::Permit(permit), Decision::Permit(there)) => {
                Decision::Permit(permit.and(there))
            }
            (Decision::Permit(permit), Decision::Hold(mut hold)) => {
                hold.routes = permit.routes;
                Decision::Hold(hold)
            }
            (Decision::Hold(hold), Decision::Hold(mut there)) => {
                there.routes.clear();
                Decision::Hold(hold.and(there))
            }
            (held, Decision::Permit(_)) => held,
            (denied, Decision::Hold(_)) => denied,
        }
    }
}

fn there(facts: &Facts, to: &UpstreamName) -> Facts {
    Facts {
        upstream: to.clone(),
        standing: facts.no_route.clone(),
        // Whoever is let pass to one upstream is not to another.
        observe: false,
        ..facts.clone()
    }
}

fn is_routed(target: &Called) -> bool {
    match target {
        Called::Tool { .. } => true,
        Called::Method { method, .. } => ROUTED.contains(&method.as_str()),
    }
}

/// What comes of a call where it was routed to and no policy says anything.
pub(super) fn unforbidden() -> Permit {
    Permit {
        policies: Vec::new(),
        reason: String::new(),
        warnings: Vec::new(),
        masks: Masks::default(),
        routes: BTreeSet::new(),
        observed: None,
    }
}
