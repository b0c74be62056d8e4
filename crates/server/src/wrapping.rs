//! The key that wraps the erasable keys, and its change.
//!
//! 1. The next key is made, `facts.next.key`: nothing is wrapped by it, and the next start begins
//!    to.
//! 2. Every key of the keyring is wrapped anew, one durably after the other: some are wrapped by
//!    the one and some by the other, and a start opens them with both and goes on.
//! 3. It is on record: the same, and nothing is left to wrap.
//! 4. The next key is moved into the place of the old one, which is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::{Actor, KeyringError};
use register::{Command, CommandError, Control, Done};
use serde::Serialize;
use store::{FileKeyring, WrappingKey};
use vocab::{RecordRef, Rng};

use crate::keys::{self, KeyError};
use crate::node::Shared;

/// Why the wrapping key was not changed. The old one is good for as long as it is there.
#[derive(Debug, thiserror::Error)]
pub enum WrappingError {
    /// A key file cannot be made, read or moved.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The register did not take it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A key could not be wrapped anew.
    #[error("the keyring is not wrapped anew yet; ask again, or start the node again: {0}")]
    Keyring(#[from] KeyringError),
}

/// The wrapping key as people see it.
#[derive(Debug, Serialize)]
pub struct WrappingKeyView {
    /// What it is known by.
    pub id: String,
    /// `keyring`.
    pub of: &'static str,
    /// What it wraps with.
    pub algorithm: &'static str,
    /// `current`, or `announced` of one that a change did not come to its end with.
    pub status: &'static str,
}

/// Where the key lies that is to wrap next, while a change is under way.
fn next_path(folder: &Path) -> PathBuf {
    folder.join("facts.next.key")
}

fn read(path: &Path) -> Result<WrappingKey, KeyError> {
    Ok(WrappingKey::from_bytes(*keys::read_seed(path)?.expose()))
}

fn view(key: &WrappingKey, status: &'static str) -> WrappingKeyView {
    let digest = key.known_by().to_string();
    WrappingKeyView {
        id: format!("keyring+{}", digest.get(..8).unwrap_or_default()),
        of: "keyring",
        algorithm: "XChaCha20-Poly1305",
        status,
    }
}

/// The keys that there are, as far as they can be read.
pub fn views(folder: &Path) -> Vec<WrappingKeyView> {
    let next = read(&next_path(folder)).map(|key| view(&key, "announced"));
    let present = read(&keys::facts_key(folder)).map(|key| view(&key, "current"));
    next.into_iter().chain(present).collect()
}

/// Opens the keyring in `data`, also in the middle of a change.
pub fn open(data: &Path, folder: &Path) -> Result<FileKeyring, WrappingError> {
    let present = read(&keys::facts_key(folder))?;
    let ring = data.join("keyring");
    let next = next_path(folder);
    if !next.exists() {
        return Ok(FileKeyring::open(&ring, Some(present))?);
    }
    Ok(FileKeyring::open_changing(&ring, present, read(&next)?)?)
}

/// Whether a change is under way.
pub fn is_changing(folder: &Path) -> bool {
    next_path(folder).exists()
}

/// What the change came to.
#[derive(Debug)]
pub struct Rewrapped {
    /// The new key.
    pub view: WrappingKeyView,
    /// What says so.
    pub records: Vec<RecordRef>,
}

/// Has another key wrap the keyring, or finishes a change that was begun. Blocks on the disk.
pub async fn rotate(
    folder: &Path,
    keyring: &Arc<FileKeyring>,
    control: &Arc<Control>,
    (actor, rng): (Actor, &dyn Rng),
) -> Result<Rewrapped, WrappingError> {
    let (path, present) = (next_path(folder), keys::facts_key(folder));
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |cause| KeyError::Write { path, cause }
    };
    let sync = || fs::File::open(folder).and_then(|folder| folder.sync_all());
    let next = read(&path).or_else(|_| {
        keys::seed_or_new(&path, rng)?;
        read(&path)
    })?;
    sync().map_err(failed(&path))?;
    let (ring, key) = (Arc::clone(keyring), next.clone());
    let rewrapped = tokio::task::spawn_blocking(move || ring.rewrap(&key)).await;
    let count = rewrapped.unwrap_or_else(|_| {
        let cause = "it was interrupted".to_owned();
        Err(KeyringError::Unwritable { cause })
    })?;
    let change = Command::ChangeWrappingKey {
        key: next.known_by(),
    };
    let records = match control.execute(actor, change).await? {
        Done::Changed { records, .. } => records,
        Done::Started { .. } | Done::Continued { .. } | Done::Unchanged { .. } => Vec::new(),
    };
    fs::rename(&path, &present).map_err(failed(&present))?;
    sync().map_err(failed(&present))?;
    tracing::info!("{count} keys of the keyring are wrapped by another key from now on");
    Ok(Rewrapped {
        view: view(&next, "current"),
        records,
    })
}

/// Changes the wrapping key of a running node.
pub async fn rotate_running(shared: &Shared, actor: Actor) -> Result<Rewrapped, WrappingError> {
    let _alone = shared.rewrapping.lock().await;
    let control = shared.plane.control();
    let by = (actor, &*shared.rng);
    rotate(&shared.config.keys, &shared.keyring, control, by).await
}
