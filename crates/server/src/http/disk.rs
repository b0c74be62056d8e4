//! Watermarks: the disk is looked at long before the ledger has to refuse.
//!
//! A full disk is the store's to say; here calls are stopped before it is full, so that what is in
//! flight finds room for its outcome, and administration for a suspension.

use std::sync::Arc;
use std::time::Duration;

use ledger::Actor;
use register::{Command, CommandError, state::WELL};
use tokio_util::sync::CancellationToken;
use vocab::LogName;

use crate::node::Shared;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;

/// How much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    /// Under the warning watermark.
    Low,
    /// Under the refusing watermark.
    Short,
}

impl Room {
    const fn of(free: u64, warn: u64, refuse: u64) -> Self {
        if free < refuse {
            Self::Short
        } else if free < warn {
            Self::Low
        } else {
            Self::Enough
        }
    }

    /// The cause in the control log.
    const fn word(self) -> &'static str {
        match self {
            Self::Enough => WELL,
            Self::Low => "low",
            Self::Short => "short",
        }
    }
}

/// Watches the disk until stopped: warns, refuses calls, takes them again, and keeps trying a log
/// that failed, so that a node that nobody calls gets well too.
pub async fn watch_disk(shared: Arc<Shared>, stop: CancellationToken) {
    let mut seen = Room::Enough;
    // What is on record may be from before this start.
    let mut recorded = None;
    loop {
        let data = shared.config.data.clone();
        let free = tokio::task::spawn_blocking(move || store::free_bytes(&data)).await;
        match free {
            Ok(Ok(free)) => {
                let settings = &shared.config.ledger;
                let room = Room::of(free, settings.warn_free_bytes, settings.refuse_free_bytes);
                if room != seen {
                    tell(room, free);
                    seen = room;
                }
                match room {
                    Room::Short => shared.plane.life().pause(),
                    Room::Enough | Room::Low => shared.plane.life().resume(),
                }
                if recorded != Some(room) && say(&shared, "disk", room.word()).await.is_ok() {
                    recorded = Some(room);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "The free space of the data folder cannot be read");
            }
            Err(_) => tracing::warn!("The free space of the data folder cannot be read"),
        }
        for log in LogName::ALL {
            mend(&shared, log).await;
        }
        // One that cannot be written stays so, as `/readyz` says.
        let keyring = Arc::clone(&shared.keyring);
        let _still = tokio::task::spawn_blocking(move || keyring.mend()).await;
        if stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_none()
        {
            return;
        }
    }
}

fn tell(room: Room, free: u64) {
    let free = free / MIB;
    match room {
        Room::Enough => tracing::info!("The data folder has room again: {free} MiB are free"),
        Room::Low => tracing::warn!("The data folder is running full: {free} MiB are free"),
        Room::Short => tracing::error!(
            "The data folder is nearly full, {free} MiB are free; calls are refused until there is room"
        ),
    }
}

/// Puts the state of a part on record, if it is not there already.
async fn say(shared: &Shared, part: &str, cause: &str) -> Result<(), CommandError> {
    let (Ok(subsystem), Ok(cause)) = (part.parse(), cause.parse()) else {
        return Ok(());
    };
    let actor = Actor::node(&shared.config.node);
    let command = Command::NodeDegraded { subsystem, cause };
    shared
        .plane
        .control()
        .execute(actor, command)
        .await
        .map(|_| ())
}

/// Tries a log that failed: if it can be written again, that it failed is its first entry.
async fn mend(shared: &Shared, log: LogName) {
    if shared.log(log).health().writable {
        return;
    }
    let part = match log {
        LogName::Control => "control-log",
        LogName::Calls => "calls-log",
    };
    if say(shared, part, "unwritable").await.is_err() {
        return;
    }
    if log == LogName::Calls && shared.plane.narrowed("node-degraded").await.is_err() {
        return;
    }
    if say(shared, part, WELL).await.is_ok() {
        tracing::info!(log = %log, "The log {log} can be written again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watermarks() {
        let check = |free, expected| assert_eq!(Room::of(free, 100, 10), expected, "{free}");
        check(100, Room::Enough);
        check(99, Room::Low);
        check(10, Room::Low);
        check(9, Room::Short);
        check(0, Room::Short);
    }
}
