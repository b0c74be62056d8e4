//! Group keys, wrapped: a file `<handle>` each.
//!
//! A file is `01 ‖ nonce (24) ‖ XChaCha20-Poly1305(group key (32) ‖ group name, padded with zeros
//! to 224 bytes or the next multiple)`, with the format byte and the handle authenticated beside
//! it. The group's name is about a person, so it stands nowhere else, and its length does not show.
//!
//! The wrapping key lies outside the data folder and its backups. So a copy of the folder opens
//! nothing, and a key that was erased here cannot be had from an old backup without the wrapping
//! key of its time. Unlinking a file does not scrub a disk: whoever must answer for that changes
//! the wrapping key too.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use ledger::{GroupKey, Keyring, KeyringError, Opened};
use rustix::fs::Access;
use vocab::digest::Digest;
use vocab::id::Handle;
use vocab::rng::{self, SystemRng};
use vocab::secret::Secret;
use zeroize::Zeroizing;

use crate::disk::{self, Disk, Faults, lock};

/// What the handles of keys begin with.
const PREFIX: &str = "k";
const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const NAME_BYTES_STEP: usize = 224;
const DOMAIN: &[u8] = b"tipstaff/v1/keyring";
const KNOWN_BY: &[u8] = b"tipstaff/v1/wrapping-key";

/// The key that wraps group keys: 32 random bytes, kept outside the data folder.
#[derive(Clone)]
pub struct WrappingKey(Arc<Secret<[u8; KEY_BYTES]>>);

/// Why a wrapping key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WrappingKeyError {
    /// The storage failed.
    #[error("the wrapping key `{path}` cannot be read or made", path = .path.display())]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the storage said.
        source: io::Error,
    },
    /// The file is not one.
    #[error("the wrapping key `{path}` is {length} bytes long, not 32", path = .path.display())]
    Length {
        /// Its path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
}

impl WrappingKey {
    /// A key that was kept.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Arc::new(Secret::new(bytes)))
    }

    /// What the key is known by where it may not be known: nothing of it can be told from that.
    pub fn known_by(&self) -> Digest {
        Digest::of(&Zeroizing::new(
            [KNOWN_BY, self.0.expose().as_slice()].concat(),
        ))
    }

    /// Reads the key at `path`; none if there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>, WrappingKeyError> {
        let bytes = disk::read(path).map_err(|source| WrappingKeyError::Io {
            path: path.to_owned(),
            source,
        })?;
        let Some(bytes) = bytes.map(Zeroizing::new) else {
            return Ok(None);
        };
        match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(key) => Ok(Some(Self::from_bytes(key))),
            Err(_) => Err(WrappingKeyError::Length {
                path: path.to_owned(),
                length: bytes.len(),
            }),
        }
    }

    /// Makes a fresh key at `path`, durably, readable by its owner only. One that is there is read
    /// instead: what it wrapped must stay open.
    pub fn read_or_make(path: &Path) -> Result<Self, WrappingKeyError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        let make = || {
            let key = Zeroizing::new(rng::bytes(&SystemRng).map_err(io::Error::other)?);
            let disk = Disk::default();
            disk.create_dir(path.parent().unwrap_or(Path::new(".")))?;
            disk.put_durably(path, key.as_slice())?;
            Ok(Self::from_bytes(*key))
        };
        make().map_err(|source| WrappingKeyError::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.expose().into())
    }

    fn wrap(&self, handle: &Handle, key: &GroupKey, group: &str) -> Result<Vec<u8>, KeyringError> {
        let random = |cause: String| KeyringError::Random { cause };
        let nonce: [u8; NONCE_BYTES] =
            rng::bytes(&SystemRng).map_err(|error| random(error.to_string()))?;
        let mut plain = Zeroizing::new(Vec::with_capacity(KEY_BYTES + NAME_BYTES_STEP));
        plain.extend_from_slice(key.expose());
        plain.extend_from_slice(group.as_bytes());
        plain.resize(KEY_BYTES + group.len().next_multiple_of(NAME_BYTES_STEP), 0);
        let message = Payload {
            msg: &plain,
            aad: &associated(handle),
        };
        let wrapped = self
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), message)
            .map_err(|error| random(error.to_string()))?;
        Ok([[FORMAT].as_slice(), &nonce, &wrapped].concat())
    }

    fn unwrap(&self, handle: &Handle, file: &[u8]) -> Option<(GroupKey, String)> {
        let (nonce, wrapped) = file
            .strip_prefix(&[FORMAT])?
            .split_at_checked(NONCE_BYTES)?;
        let message = Payload {
            msg: wrapped,
            aad: &associated(handle),
        };
        let plain = self
            .cipher()
            .decrypt(XNonce::from_slice(nonce), message)
            .ok()?;
        let plain = Zeroizing::new(plain);
        let (key, group) = plain.split_first_chunk::<KEY_BYTES>()?;
        let group = std::str::from_utf8(group).ok()?.trim_end_matches('\0');
        Some((GroupKey::from_bytes(*key), group.to_owned()))
    }
}

/// What binds a wrapped key to its file's name, so that files cannot be swapped.
fn associated(handle: &Handle) -> Vec<u8> {
    [DOMAIN, &[FORMAT], handle.as_str().as_bytes()].concat()
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappingKey([redacted])")
    }
}

/// A keyring in a folder. Reading needs no lock, and makes no folder.
#[derive(Debug)]
pub struct FileKeyring {
    folder: PathBuf,
    disk: Disk,
    wrapping: Mutex<Option<WrappingKey>>,
    keys: Mutex<Keys>,
    /// Held while a key is made: a group has one key. Those who have theirs do not wait for it.
    making: Mutex<()>,
    /// Whether the last change was made; true before the first.
    writable: AtomicBool,
}

#[derive(Default)]
struct Keys {
    by_group: HashMap<String, Handle>,
    by_handle: HashMap<Handle, (String, Arc<GroupKey>)>,
}

impl Keys {
    fn of_group(&self, group: &str) -> Option<(Handle, Arc<GroupKey>)> {
        let handle = self.by_group.get(group)?;
        let (_, key) = self.by_handle.get(handle)?;
        Some((handle.clone(), Arc::clone(key)))
    }

    fn insert(&mut self, handle: &Handle, group: String, key: Arc<GroupKey>) {
        self.by_group.insert(group.clone(), handle.clone());
        self.by_handle.insert(handle.clone(), (group, key));
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.by_handle.len())
    }
}

impl FileKeyring {
    /// Opens the keyring in `folder`, `keyring/` of a data folder, and every key in it. Without a wrapping key it
    /// can only tell which keys there are, and erase them.
    pub fn open(folder: &Path, wrapping: Option<WrappingKey>) -> Result<Self, KeyringError> {
        let wrapping: Vec<_> = wrapping.into_iter().collect();
        Self::open_by(folder, &wrapping)
    }

    /// Opens a keyring whose keys are being wrapped anew: by the one key or the other.
    /// [`FileKeyring::rewrap`] goes on with that.
    pub fn open_changing(
        folder: &Path,
        present: WrappingKey,
        next: WrappingKey,
    ) -> Result<Self, KeyringError> {
        Self::open_by(folder, &[present, next])
    }

    /// The first of the keys wraps what is made; any of them opens.
    fn open_by(folder: &Path, wrapping: &[WrappingKey]) -> Result<Self, KeyringError> {
        let mut keys = Keys::default();
        if !wrapping.is_empty() {
            for handle in handles(folder)? {
                let Some((key, group)) = unwrapped(folder, &handle, wrapping)? else {
                    return Err(KeyringError::Damaged { handle });
                };
                keys.insert(&handle, group, Arc::new(key));
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            disk: Disk::default(),
            wrapping: Mutex::new(wrapping.first().cloned()),
            keys: Mutex::new(keys),
            making: Mutex::default(),
            writable: AtomicBool::new(true),
        })
    }

    /// Wraps every key anew, each durably before the next, and what is made from now on. After an
    /// error some are wrapped by the one key and some by the other: whoever asks keeps both, and
    /// asks again. What was erased stays so, also if that happens at the same time.
    ///
    /// Gives how many keys there are.
    pub fn rewrap(&self, next: &WrappingKey) -> Result<u64, KeyringError> {
        // No key is made meanwhile. Those who have theirs do not wait for it.
        let _making = lock(&self.making);
        let present = lock(&self.wrapping).clone().ok_or(KeyringError::Locked)?;
        let both = [next.clone(), present];
        let mut count = 0;
        for handle in handles(&self.folder)? {
            // INVARIANT: whoever erases holds this lock, too, so the file is not put back.
            let keys = lock(&self.keys);
            let Some((key, group)) = unwrapped(&self.folder, &handle, &both)? else {
                if self.path(&handle).exists() {
                    return Err(KeyringError::Damaged { handle });
                }
                continue;
            };
            let file = next.wrap(&handle, &key, &group)?;
            self.change(|| self.disk.put_durably(&self.path(&handle), &file))?;
            drop(keys);
            count += 1;
        }
        *lock(&self.wrapping) = Some(next.clone());
        Ok(count)
    }

    /// Whether a key could be made, as far as can be said without making one.
    pub fn is_writable(&self) -> bool {
        // A first key makes the folder, too.
        let folder = match self.folder.try_exists() {
            Ok(false) => self.folder.parent().unwrap_or(Path::new(".")),
            Ok(true) | Err(_) => &self.folder,
        };
        self.writable.load(Ordering::Relaxed)
            && folder.is_dir()
            && rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }

    /// Tries again what failed: to keep a file.
    pub fn mend(&self) -> Result<(), KeyringError> {
        if self.writable.load(Ordering::Relaxed) {
            return Ok(());
        }
        let trial = self.folder.join("trial");
        self.change(|| {
            self.disk.create_dir(&self.folder)?;
            self.disk.put_durably(&trial, &[])?;
            self.disk.remove(&trial)
        })
    }

    /// Makes a change, and remembers whether it was made.
    fn change(&self, make: impl FnOnce() -> io::Result<()>) -> Result<(), KeyringError> {
        let made = make();
        self.writable.store(made.is_ok(), Ordering::Relaxed);
        made.map_err(|error| KeyringError::Unwritable {
            cause: error.to_string(),
        })
    }

    /// Makes its storage fail at will.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.disk = Disk::new(faults);
        self
    }

    fn path(&self, handle: &Handle) -> PathBuf {
        self.folder.join(handle.as_str())
    }
}

impl Keyring for FileKeyring {
    fn group_key(&self, group: &str) -> Result<(Handle, Arc<GroupKey>), KeyringError> {
        if lock(&self.wrapping).is_none() {
            return Err(KeyringError::Locked);
        }
        let known = lock(&self.keys).of_group(group);
        if let Some(known) = known {
            return Ok(known);
        }
        let _making = lock(&self.making);
        let known = lock(&self.keys).of_group(group);
        if let Some(known) = known {
            return Ok(known);
        }
        let random = |error: rng::RngError| KeyringError::Random {
            cause: error.to_string(),
        };
        let handle = Handle::random(PREFIX, &SystemRng).map_err(random)?;
        let key = Arc::new(GroupKey::random(&SystemRng).map_err(random)?);
        let wrapping = lock(&self.wrapping).clone().ok_or(KeyringError::Locked)?;
        let file = wrapping.wrap(&handle, &key, group)?;
        // After a failure the file may be there, under a handle that nothing names; a later start
        // may then find two keys of one group, and either will do.
        self.change(|| {
            self.disk.create_dir(&self.folder)?;
            self.disk.put_durably(&self.path(&handle), &file)
        })?;
        lock(&self.keys).insert(&handle, group.to_owned(), Arc::clone(&key));
        Ok((handle, key))
    }

    fn open(&self, handle: &Handle) -> Result<Opened, KeyringError> {
        if lock(&self.wrapping).is_some() {
            let keys = lock(&self.keys);
            let key = keys.by_handle.get(handle).map(|(_, key)| Arc::clone(key));
            return Ok(key.map_or(Opened::Erased, Opened::Key));
        }
        match self.path(handle).try_exists() {
            Ok(true) => Ok(Opened::Locked),
            Ok(false) => Ok(Opened::Erased),
            Err(error) => Err(unreadable(&error)),
        }
    }

    fn erase(&self, handle: &Handle) -> Result<bool, KeyringError> {
        let mut keys = lock(&self.keys);
        let path = self.path(handle);
        let there = path.try_exists().map_err(|error| unreadable(&error))?;
        self.change(|| {
            if there {
                self.disk.remove(&path)?;
            }
            // Also if it is gone already: an erasure that failed here is asked for again.
            if self.folder.is_dir() {
                self.disk.sync_dir(&self.folder)?;
            }
            Ok(())
        })?;
        let known = keys.by_handle.remove(handle);
        if let Some((group, _)) = &known
            && keys.by_group.get(group) == Some(handle)
        {
            keys.by_group.remove(group);
        }
        Ok(there || known.is_some())
    }
}

/// The keys that are in a folder. Anything else there is the rest of an interrupted write, or not
/// the keyring's.
fn handles(folder: &Path) -> Result<Vec<Handle>, KeyringError> {
    let names = disk::names(folder).map_err(|error| unreadable(&error))?;
    let ours = |name: &String| {
        let prefix = name.split_once('-').map(|(prefix, _)| prefix);
        prefix == Some(PREFIX)
    };
    let handles = names.iter().filter(|name| ours(name));
    Ok(handles.filter_map(|name| name.parse().ok()).collect())
}

/// What is in a key's file, by whichever of these keys opens it.
fn unwrapped(
    folder: &Path,
    handle: &Handle,
    wrapping: &[WrappingKey],
) -> Result<Option<(GroupKey, String)>, KeyringError> {
    let file = disk::read(&folder.join(handle.as_str())).map_err(|error| unreadable(&error))?;
    let file = file.unwrap_or_default();
    Ok(wrapping.iter().find_map(|key| key.unwrap(handle, &file)))
}

fn unreadable(error: &io::Error) -> KeyringError {
    KeyringError::Unreadable {
        cause: error.to_string(),
    }
}

#[cfg(test)]
mod tests;
