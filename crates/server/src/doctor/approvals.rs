//! Whether those who may approve calls can, and are told.

use super::Finding;
use crate::node::Shared;
use crate::output::count;

/// Policies that hold calls nobody can approve, and a webhook that takes nothing.
pub(super) fn findings(shared: &Shared) -> Vec<Finding> {
    let login = &shared.config.login;
    let nobody = login.provider.is_none() && !login.local;
    let holding = shared.plane.holding_policies();
    let mut found = Vec::new();
    if nobody && let Some(first) = holding.first() {
        let policies = match holding.len() {
            1 => format!("`{first}` holds"),
            all => format!("{all} policies, `{first}` among them, hold"),
        };
        found.push(Finding::fail(
            "approvals",
            format!(
                "{policies} calls until people approve them, and nobody can sign in to do that: what \
                 is held stays refused"
            ),
            "name the company's OpenID provider in `[login]`; docs/sign-in.md says how",
        ));
    }
    found.extend(shared.webhook.as_ref().map(|it| {
        let (health, place) = (it.health(), it.place());
        let taken = health.taken_at.map_or_else(
            || "it took none since the start".to_owned(),
            |at| format!("it took the last at {at}"),
        );
        match health.failure {
            None => Finding::ok("webhook", format!("{place} is told of approvals; {taken}")),
            Some(why) => Finding::warn(
                "webhook",
                format!(
                    "{place} is NOT told of approvals: {why}; {} for it, and {taken}",
                    count(health.waiting as u64, "message waits", "messages wait")
                ),
                "see to the receiver, and to `webhook` in [approvals]; what waits is sent again and \
                 again until it is taken or over",
            ),
        }
    }));
    found
}
