//! The local vault: one file, sealed whole.
//!
//! The file is `01 ‖ nonce (24) ‖ XChaCha20-Poly1305(JSON, padded with spaces to a multiple of
//! 4 KiB)`, with a domain and the format byte authenticated beside it. Names and values are sealed
//! together, so that neither shows, no value can be put under another's name, and none can be taken
//! out or put back alone. The key lies outside the data folder and its backups.
//!
//! What was asked for is held open in memory for as long as the file and its key are the ones that it
//! was read from, which is looked at each time: nothing is given that could be stale. Whoever writes
//! holds the data folder's lock, or is the node that does.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use store::{DerivedFile, Faults};
use vocab::rng;
use vocab::{Handle, Rng, Secret, SecretName, Time};
use zeroize::{Zeroize, Zeroizing};

use crate::source::{SECRET_BYTES_MAX, without_end};

/// Most secrets that a vault holds.
pub const SECRETS_MAX: usize = 256;
/// Most bytes of secrets that a vault holds.
const VALUES_BYTES_MAX: usize = 1024 * 1024;
/// Largest vault file that is read, in bytes: JSON makes six of a byte at worst.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const PADDED_TO: usize = 4096;
const DOMAIN: &[u8] = b"tipstaff/v1/vault\x01";

/// Why the vault does not do what it is asked. Nothing was lost: what was there is there.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is no secret of that name.
    #[error("the vault has no secret `{name}`; `tipstaff secret set {name}` puts one in")]
    Absent {
        /// Its name.
        name: SecretName,
    },
    /// The vault cannot be read.
    #[error("cannot read the vault `{path}`: {cause}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The vault, or its key, cannot be written.
    #[error("cannot write `{path}`: {cause}; what was there before is kept", path = .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// There is a vault and no key to it.
    #[error(
        "the vault's key `{path}` is not there or cannot be read ({cause}); bring it back from where \
         keys are kept: without it the vault cannot be opened by anybody", path = .path.display()
    )]
    NoKey {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The key file holds something else.
    #[error("`{path}` does not hold 32 bytes in base 64", path = .path.display())]
    BadKey {
        /// The key file.
        path: PathBuf,
    },
    /// It does not open.
    #[error(
        "the vault `{path}` does not open with its key: the key is another vault's, or the file was \
         changed; bring both back from one time", path = .path.display()
    )]
    Sealed {
        /// The file.
        path: PathBuf,
    },
    /// It opens, and holds something that this release does not know.
    #[error("the vault `{path}` was written by another release", path = .path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] rng::RngError),
    /// A value that cannot be a secret.
    #[error("a secret is text of 1 to {SECRET_BYTES_MAX} bytes without a zero byte")]
    Value,
    /// It is an old one, or gone.
    #[error(
        "the vault was set back: it was changed {generation} times, and {recorded} are on record; \
         secrets that were replaced since may be in use again. Bring back the newest one, or \
         `tipstaff secret accept` what there is and set again what was changed since; until then it \
         is not changed"
    )]
    SetBack {
        /// How often it was changed.
        generation: u64,
        /// How often it was changed according to the record.
        recorded: u64,
    },
    /// There is nothing to accept.
    #[error("the vault was not set back: it is as new as the record")]
    NotSetBack,
    /// As much as may be is there.
    #[error("the vault holds {SECRETS_MAX} secrets and {VALUES_BYTES_MAX} bytes of them at most")]
    Full,
}

/// A vault in a file, and the file of its key. Neither need be there.
#[derive(Debug)]
pub struct Vault {
    file: DerivedFile,
    key: PathBuf,
    faults: Faults,
    /// One change at a time.
    changing: Mutex<()>,
    held: Mutex<Held>,
}

/// What tells whether a file is still the same: each write of ours makes another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// Secrets that were asked for, and the vault and key that they were read from.
#[derive(Default)]
struct Held {
    of: Option<[Stamp; 2]>,
    secrets: BTreeMap<SecretName, Zeroizing<String>>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How often a vault was changed according to the record, and with what a change is made.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The generation that is on record. An older vault is not changed: a few changes later nobody
    /// could tell that it was one.
    pub recorded: u64,
    /// The time.
    pub now: Time,
    /// Randomness.
    pub rng: &'a dyn Rng,
}

/// A change that was made: what a record may say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What stands for the secret's name.
    pub handle: Handle,
    /// How often the vault was changed, this change included.
    pub generation: u64,
    /// Whether the secret was there before.
    pub was_there: bool,
}

/// What may be known of a secret by those who may not know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// What stands for its name in records.
    pub id: Handle,
    /// Its name.
    pub name: SecretName,
    /// When it was set.
    pub set_at: Time,
    /// How many bytes it has.
    pub bytes: usize,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Contents {
    /// One more with each change.
    generation: u64,
    secrets: BTreeMap<SecretName, Kept>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    id: Handle,
    value: String,
    set_at: Time,
}

impl Contents {
    fn bytes(&self) -> usize {
        self.secrets.values().map(|it| it.value.len()).sum()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Vault {
    /// The vault of a data folder, with its key in the keys folder.
    pub fn of(data: &Path, keys: &Path) -> Self {
        Self::at(&data.join("vault"), &keys.join("vault.key"))
    }

    fn at(file: &Path, key: &Path) -> Self {
        Self {
            file: DerivedFile::at(file),
            key: key.to_owned(),
            faults: Faults::default(),
            changing: Mutex::default(),
            held: Mutex::default(),
        }
    }

    /// Makes its storage fail at will.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        Self {
            file: self.file.with_faults(faults.clone()),
            faults,
            ..self
        }
    }

    /// A secret, as it is at this moment.
    pub fn get(&self, name: &SecretName) -> Result<Secret<String>, VaultError> {
        // Before it is read: what is put in its place meanwhile has other ones.
        let stamps = self.stamps();
        if let Some(value) = self.held(stamps).secrets.get(name) {
            return Ok(Secret::new(value.to_string()));
        }
        let mut contents = self.read()?.unwrap_or_default();
        let kept = contents.secrets.get_mut(name);
        let kept = kept.ok_or_else(|| VaultError::Absent { name: name.clone() })?;
        let mut held = self.held(stamps);
        if held.of.is_some() {
            let value = Zeroizing::new(kept.value.clone());
            held.secrets.insert(name.clone(), value);
        }
        Ok(Secret::new(std::mem::take(&mut kept.value)))
    }

    /// Whether a secret can be had without reading the vault.
    pub(crate) fn holds(&self, name: &SecretName) -> bool {
        self.held(self.stamps()).secrets.contains_key(name)
    }

    fn stamps(&self) -> Option<[Stamp; 2]> {
        Some([Stamp::of(self.file.path())?, Stamp::of(&self.key)?])
    }

    /// What is held of the vault with these stamps; nothing is held of any other.
    fn held(&self, stamps: Option<[Stamp; 2]>) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.of != stamps || stamps.is_none() {
            *held = Held {
                of: stamps,
                secrets: BTreeMap::new(),
            };
        }
        held
    }

    /// What there is.
    pub fn list(&self) -> Result<Vec<Listed>, VaultError> {
        let contents = self.read()?.unwrap_or_default();
        let listed = contents.secrets.iter().map(|(name, kept)| Listed {
            id: kept.id.clone(),
            name: name.clone(),
            set_at: kept.set_at,
            bytes: kept.value.len(),
        });
        Ok(listed.collect())
    }

    /// Puts a secret in, or another value in its place: the text without the line breaks at its
    /// end.
    pub fn set(
        &self,
        name: &SecretName,
        value: &Secret<String>,
        by: Change<'_>,
    ) -> Result<Changed, VaultError> {
        let text = without_end(value.expose());
        if text.is_empty() || text.len() > SECRET_BYTES_MAX || text.contains('\0') {
            return Err(VaultError::Value);
        }
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contents = self.newest(by.recorded)?;
        let before = contents.secrets.get(name).map(|it| it.id.clone());
        let was_there = before.is_some();
        let handle = before.map_or_else(|| Handle::random("v", by.rng), Ok)?;
        let kept = Kept {
            id: handle.clone(),
            value: text.to_owned(),
            set_at: by.now,
        };
        contents.secrets.insert(name.clone(), kept);
        if contents.secrets.len() > SECRETS_MAX || contents.bytes() > VALUES_BYTES_MAX {
            return Err(VaultError::Full);
        }
        let generation = self.write(contents, by.rng)?;
        Ok(Changed {
            handle,
            generation,
            was_there,
        })
    }

    /// How often it was changed; 0 if there is none. Less than before: it is an old one.
    pub fn generation(&self) -> Result<u64, VaultError> {
        Ok(self.read()?.unwrap_or_default().generation)
    }

    /// Takes a secret out.
    pub fn remove(&self, name: &SecretName, by: Change<'_>) -> Result<Changed, VaultError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contents = self.newest(by.recorded)?;
        let removed = contents.secrets.remove(name);
        let removed = removed.ok_or_else(|| VaultError::Absent { name: name.clone() })?;
        let generation = self.write(contents, by.rng)?;
        Ok(Changed {
            handle: removed.id.clone(),
            generation,
            was_there: true,
        })
    }

    /// Takes a vault that was set back, or is gone, for the one that there is: its generation is
    /// then one more than what is on record. Gives that.
    pub fn accept(&self, recorded: u64, rng: &dyn Rng) -> Result<u64, VaultError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut contents = self.read()?.unwrap_or_default();
        if contents.generation >= recorded {
            return Err(VaultError::NotSetBack);
        }
        contents.generation = recorded;
        self.write(contents, rng)
    }

    /// What it holds, if nobody set it back.
    fn newest(&self, recorded: u64) -> Result<Contents, VaultError> {
        let contents = self.read()?.unwrap_or_default();
        let generation = contents.generation;
        if generation < recorded {
            return Err(VaultError::SetBack {
                generation,
                recorded,
            });
        }
        Ok(contents)
    }

    /// What it holds; none if there is no vault.
    fn read(&self) -> Result<Option<Contents>, VaultError> {
        let path = || self.file.path().to_owned();
        let unreadable = |cause| VaultError::Unreadable {
            path: path(),
            cause,
        };
        match std::fs::metadata(self.file.path()) {
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                return Err(VaultError::Sealed { path: path() });
            }
            Ok(_) | Err(_) => {}
        }
        let Some(sealed) = self.file.read().map_err(unreadable)? else {
            return Ok(None);
        };
        let key = self.key()?;
        let damaged = || VaultError::Sealed { path: path() };
        let (nonce, sealed) = match sealed.split_first() {
            Some((&FORMAT, rest)) => rest.split_at_checked(NONCE_BYTES).ok_or_else(damaged)?,
            Some(_) => return Err(VaultError::Form { path: path() }),
            None => return Err(damaged()),
        };
        let message = Payload {
            msg: sealed,
            aad: DOMAIN,
        };
        let plain = XChaCha20Poly1305::new(key.expose().into())
            .decrypt(XNonce::from_slice(nonce), message)
            .map_err(|_| damaged())?;
        let plain = Zeroizing::new(plain);
        let contents = serde_json::from_slice(&plain);
        contents
            .map(Some)
            .map_err(|_| VaultError::Form { path: path() })
    }

    fn write(&self, mut contents: Contents, rng: &dyn Rng) -> Result<u64, VaultError> {
        contents.generation = contents.generation.saturating_add(1);
        // As much as JSON makes of it at worst, so that it never grows and leaves copies.
        let room = contents.bytes() * 6 + contents.secrets.len() * 192 + 2 * PADDED_TO;
        let mut plain = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *plain, &contents).map_err(|_| VaultError::Form {
            path: self.file.path().to_owned(),
        })?;
        let padded = plain.len().next_multiple_of(PADDED_TO);
        plain.resize(padded, b' ');
        let key = self.key_or_new(rng)?;
        let nonce: [u8; NONCE_BYTES] = rng::bytes(rng)?;
        let message = Payload {
            msg: &plain,
            aad: DOMAIN,
        };
        let sealed = XChaCha20Poly1305::new(key.expose().into())
            .encrypt(XNonce::from_slice(&nonce), message)
            .map_err(|_| VaultError::Value)?;
        let file = [[FORMAT].as_slice(), &nonce, &sealed].concat();
        let unwritable = |cause| VaultError::Unwritable {
            path: self.file.path().to_owned(),
            cause,
        };
        self.file.write(&file).map_err(unwritable)?;
        Ok(contents.generation)
    }

    fn key(&self) -> Result<Secret<[u8; KEY_BYTES]>, VaultError> {
        let text = std::fs::read_to_string(&self.key).map_err(|cause| VaultError::NoKey {
            path: self.key.clone(),
            cause,
        })?;
        let text = Zeroizing::new(text);
        let bytes = BASE64.decode(text.trim_end()).map(Zeroizing::new);
        let bytes = bytes
            .ok()
            .and_then(|it| <[u8; KEY_BYTES]>::try_from(it.as_slice()).ok());
        bytes.map(Secret::new).ok_or_else(|| VaultError::BadKey {
            path: self.key.clone(),
        })
    }

    /// The key, made if there is neither one nor a vault that another once sealed.
    fn key_or_new(&self, rng: &dyn Rng) -> Result<Secret<[u8; KEY_BYTES]>, VaultError> {
        let is_new = !self.key.exists() && !self.file.path().exists();
        if is_new {
            let seed = Secret::new(rng::bytes::<KEY_BYTES>(rng)?);
            let text = Zeroizing::new(format!("{}\n", BASE64.encode(seed.expose())));
            let file = DerivedFile::at(&self.key).with_faults(self.faults.clone());
            let unwritable = |cause| VaultError::Unwritable {
                path: self.key.clone(),
                cause,
            };
            file.write(text.as_bytes()).map_err(unwritable)?;
        }
        self.key()
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests;
