//! Approvals, as the node looks after them: the entries that say that their time is over.

use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use register::{Approval, ApprovalCommand, ApprovalOver, Command};
use tokio_util::sync::CancellationToken;

use crate::node::Shared;

/// How often those are looked for whose time is over. They permit nothing by then.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many wait for people, and how many were granted and wait for their calls.
pub fn waiting(shared: &Shared) -> [(&'static str, usize); 2] {
    let now = shared.clock.now();
    let (pending, granted) = shared.plane.control().view(|state| {
        let holds = || state.approvals().filter(|it| it.holds(now));
        let pending = holds().filter(|it| it.is_pending(now)).count();
        let granted = holds().filter(|it| it.life.as_str() == "granted").count();
        (pending, granted)
    });
    [("pending", pending), ("granted", granted)]
}

/// Puts on record of each approval whose time is over that it is, and says so.
pub async fn expire(shared: &Arc<Shared>) {
    let now = shared.clock.now();
    let expired: Vec<Arc<Approval>> = shared.plane.control().view(|state| {
        let expired = state.approvals().filter(|it| it.life.expired(now));
        expired.cloned().collect()
    });
    for approval in expired {
        let (id, cause) = (approval.id.clone(), ApprovalOver::Expired);
        let command = Command::Approval(ApprovalCommand::Over { id, cause });
        let actor = Actor::node(&shared.config.node);
        match shared.plane.control().execute(actor, command).await {
            Ok(_) => {
                shared.plane.metrics().approval_expired();
                let state = approval.life.as_str();
                tracing::warn!(
                    agent.id = %approval.agent, upstream.name = %approval.upstream,
                    "Approval {} of a call by {} expired while it was {state}", approval.id,
                    approval.agent
                );
            }
            Err(error) => {
                tracing::error!(error = %error, "That the time of approval {} is over could not be put on record; it permits nothing all the same", approval.id);
            }
        }
    }
}

/// Looks for those whose time is over, until stopped.
pub async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let pause = || stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY));
    while pause().await.is_some() {
        expire(&shared).await;
    }
}
