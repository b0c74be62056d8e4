//! Break-glass, as the node shows it; and the entry that says that its time is over.

use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use register::{BreakGlassView, Command, GlassCommand, GlassOver};
use tokio_util::sync::CancellationToken;
use vocab::Handle;

use crate::node::Shared;

/// How often those are looked for whose time is over. They let nobody act by then: this cuts what is
/// in flight, and has it certified.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those that are open, in the order they were asked for.
pub fn open(shared: &Shared) -> Vec<BreakGlassView> {
    let now = shared.clock.now();
    shared.plane.control().view(|state| {
        let open = state
            .break_glasses()
            .filter(|glass| glass.open_until(now).is_some());
        open.map(|glass| state.break_glass_view(glass, now))
            .collect()
    })
}

/// Puts on record of each break-glass whose time is over that it is.
pub async fn expire(shared: &Arc<Shared>) {
    let now = shared.clock.now();
    let expired: Vec<Handle> = shared.plane.control().view(|state| {
        let expired = state
            .break_glasses()
            .filter(|glass| glass.life.expired(now));
        expired.map(|glass| glass.id.clone()).collect()
    });
    for id in expired {
        let command = Command::BreakGlass(GlassCommand::End {
            id: id.clone(),
            cause: GlassOver::Expired,
        });
        let actor = Actor::node(&shared.config.node);
        match shared.plane.control().execute(actor, command).await {
            Ok(_) => tracing::warn!("The time of break-glass {id} is over"),
            Err(error) => {
                tracing::error!(error = %error, "That the time of break-glass {id} is over could not be put on record; it lets nobody act all the same");
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
