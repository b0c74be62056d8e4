//! The register's snapshot: taken at a start if it holds, written when much has come since the
//! last one and when the node stops. Nothing depends on it but how long a start takes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::note::{Signer, Verifier};
use ledger::{Keyring, Log as _, LogReader};
use register::{Control, NotTaken, State};
use store::{DerivedFile, Faults, FilesLog};
use tokio_util::sync::CancellationToken;
use vocab::LogName;

use super::Shared;
use crate::{keys, output};

/// Entries that at least must have come before another snapshot is written while the node runs.
const EVERY_MIN: u64 = 10_000;
/// And this part of those that the last one stands for, so that all of them together cost no more
/// than a few times what the last one does.
const EVERY_PART: u64 = 4;
/// Of which part at a stop, when nobody is kept waiting by it.
const STOP_PART: u64 = 100;
/// How often it is looked whether one is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long after one could not be written another is tried.
const RETRY_AFTER: Duration = Duration::from_mins(10);

/// Where the snapshot of a data folder lies.
pub fn path(data: &Path) -> PathBuf {
    data.join("register.snapshot")
}

/// The snapshot's file, and what became of it.
#[derive(Debug)]
pub struct Snapshots {
    file: DerivedFile,
    /// Where the log's key lies.
    key: PathBuf,
    told: Mutex<Told>,
    /// One at a time.
    writing: tokio::sync::Mutex<()>,
}

/// What there is to tell.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What the start began with.
    pub start: Start,
    /// How many entries the file stands for.
    pub size: u64,
    /// Why the last one was not written.
    pub failure: Option<String>,
}

/// What a start began with.
#[derive(Debug, Clone, Default)]
pub enum Start {
    /// Nothing: all was folded.
    #[default]
    Whole,
    /// A snapshot of the first so many entries.
    From(u64),
    /// Nothing, since the snapshot was not to be taken.
    NotTaken(String),
    /// Nothing, since another version of the program had written the snapshot.
    OtherVersion,
}

impl Snapshots {
    pub(super) fn new(data: &Path, keys: &Path, faults: Faults) -> Self {
        Self {
            file: DerivedFile::at(&path(data)).with_faults(faults),
            key: keys::log_key(keys, LogName::Control),
            told: Mutex::default(),
            writing: tokio::sync::Mutex::default(),
        }
    }

    /// How it is doing.
    pub fn told(&self) -> Told {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The state that a start goes on from: the snapshot's, or that of the empty log.
    pub(super) fn begin(
        &self,
        verifier: &Verifier,
        log: &dyn LogReader,
        keyring: &dyn Keyring,
    ) -> State {
        let found = match self.file.read() {
            Ok(None) => return State::default(),
            Ok(Some(bytes)) => register::snapshot::read(&bytes, verifier, log, Some(keyring))
                .map_err(|why| match why {
                    NotTaken::Version => Start::OtherVersion,
                    why => Start::NotTaken(why.to_string()),
                }),
            Err(error) => Err(Start::NotTaken(error.to_string())),
        };
        match found {
            Ok(state) => {
                let size = state.size();
                tracing::info!(
                    "The register is that of its snapshot, {}, and of what came after",
                    output::count(size, "entry", "entries")
                );
                self.tell(|told| (told.start, told.size) = (Start::From(size), size));
                state
            }
            Err(why) => {
                if let Start::NotTaken(why) = &why {
                    tracing::warn!(
                        "The snapshot of the register is not taken, and the whole control log is \
                         folded: {why}"
                    );
                } else {
                    tracing::info!(
                        "Another version wrote the snapshot of the register; the whole control log \
                         is folded"
                    );
                }
                self.tell(|told| told.start = why);
                State::default()
            }
        }
    }

    /// Whether so much has come since the last one that another is due.
    fn is_due(&self, size: u64, least: u64, part: u64) -> bool {
        let kept = self.told().size;
        size.saturating_sub(kept) >= least.max(kept / part)
    }

    /// Writes one. What fails is told, and nothing else comes of it.
    async fn write(self: &Arc<Self>, control: &Control, log: &Arc<FilesLog>) -> bool {
        let _writing = self.writing.lock().await;
        let written = self.try_write(control, log).await;
        if let Err(error) = &written {
            tracing::warn!(
                error,
                "No snapshot of the register could be written; until one can, a start folds more of the control log"
            );
        }
        let is_written = written.is_ok();
        self.tell(|told| match written {
            Ok(size) => (told.size, told.failure) = (size, None),
            Err(error) => told.failure = Some(error),
        });
        is_written
    }

    async fn try_write(
        self: &Arc<Self>,
        control: &Control,
        log: &Arc<FilesLog>,
    ) -> Result<u64, String> {
        let snapshot = control.snapshot().await;
        let snapshot = snapshot.map_err(|error| error.to_string())?;
        let size = snapshot.size();
        let (own, log) = (Arc::clone(self), Arc::clone(log));
        let written = tokio::task::spawn_blocking(move || {
            // Read anew, since the key may be another than at the start.
            let text = keys::read_secret(&own.key).map_err(|error| error.to_string())?;
            let signer: Signer = text
                .expose()
                .parse()
                .map_err(|_| format!("`{}` is not a key", own.key.display()))?;
            let bytes = snapshot
                .write(log.reader(), &signer)
                .map_err(|error| error.to_string())?;
            own.file.write(&bytes).map_err(|error| error.to_string())
        });
        written.await.map_err(|error| error.to_string())??;
        Ok(size)
    }
}

/// Writes a snapshot whenever one is due.
pub(super) async fn watch(shared: Arc<Shared>, stop: CancellationToken) {
    let mut wait = LOOK_EVERY;
    while stop
        .run_until_cancelled(tokio::time::sleep(wait))
        .await
        .is_some()
    {
        wait = LOOK_EVERY;
        if !due(&shared, EVERY_MIN, EVERY_PART) {
            continue;
        }
        // Not cut off by a stop: half a snapshot is none.
        if !write(&shared).await {
            wait = RETRY_AFTER;
        }
    }
}

/// Writes the snapshot that the next start begins with.
pub(super) async fn at_stop(shared: &Shared) {
    if due(shared, 1, STOP_PART) {
        write(shared).await;
    }
}

fn due(shared: &Shared, least: u64, part: u64) -> bool {
    let size = shared.plane.control().view(State::size);
    shared.snapshots.is_due(size, least, part)
}

async fn write(shared: &Shared) -> bool {
    let (control, log) = (shared.plane.control(), &shared.control_log);
    shared.snapshots.write(control, log).await
}

#[cfg(test)]
mod tests;
