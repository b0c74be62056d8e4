//! Says so when the directory changes who has a name that the policies in force say.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gateway::{FaultyName, NameFault};
use register::State;
use tokio_util::sync::CancellationToken;

use crate::node::Shared;

/// How often the register is looked at, if it changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until the node stops.
pub(crate) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let (mut seen, mut told) = (None, BTreeSet::new());
    loop {
        let size = shared.plane.control().view(State::size);
        if seen != Some(size) {
            seen = Some(size);
            told = tell(&shared.plane.faulty_names(), &told);
        }
        let wait = tokio::time::sleep(LOOK_EVERY);
        if stop.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

/// Tells what was not told before. Names of people do not belong in the log of the program.
fn tell(faulty: &[FaultyName], told: &BTreeSet<FaultyName>) -> BTreeSet<FaultyName> {
    let faulty: BTreeSet<FaultyName> = faulty.iter().cloned().collect();
    for it in faulty.difference(told) {
        let (what, policies) = (it.what, it.policies.join(", "));
        let handle = it.handle.as_ref().map_or("?", |handle| handle.as_str());
        match it.fault {
            // `policy apply` said so.
            NameFault::Unknown => {}
            NameFault::Renamed => tracing::warn!(
                handle = %handle,
                "The {what} {handle}, whom policies name ({policies}), was renamed or removed; they \
                 mean it as before. `tipstaff doctor` has the names"
            ),
            NameFault::Taken => tracing::warn!(
                handle = %handle,
                "The {what} {handle} got a name that policies say ({policies}) and meant another by \
                 when they were put in force: no permit is theirs by it, every forbid is. `tipstaff \
                 doctor` has the names; `tipstaff policy apply` settles whom they mean"
            ),
        }
    }
    faulty
}
