//! What a log, its reader, a blob store and a keyring promise. `store` keeps these promises.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use vocab::digest::Digest;
use vocab::id::{Handle, LogName, RecordRef};
use vocab::time::Time;

use crate::entry::{Draft, Entry, EntryError, Kind};
use crate::seal::GroupKey;

/// An append-only log with one writer.
pub trait Log: Send + Sync + fmt::Debug {
    /// Which of the two logs.
    fn name(&self) -> LogName;

    /// The log's origin: the first line of its checkpoints and the name of its key.
    fn origin(&self) -> &str;

    /// Appends `drafts` at contiguous indices, all or none. When it resolves to receipts, one for
    /// each draft in order, they are durable.
    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Receipt>, AppendError>>;

    /// Signs and makes durable a checkpoint over everything acknowledged so far.
    fn publish(&self) -> BoxFuture<'_, Result<(), AppendError>>;

    /// The reading side.
    fn reader(&self) -> &dyn LogReader;
}

/// The reading side of a log. Reads may block.
pub trait LogReader: Send + Sync + fmt::Debug {
    /// How many entries are durable.
    fn size(&self) -> u64;

    /// The bytes of an entry.
    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError>;

    /// The sealed bytes that came with an entry, if any did.
    fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError>;

    /// The latest checkpoint, a signed note; none before the first.
    fn checkpoint(&self) -> Result<Option<String>, ReadError>;

    /// `width` hashes of 32 bytes: the first of hash tile `n` at tile level `level`.
    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError>;
}

/// The index of the first entry that is not before `time`: within a log times never go back.
pub fn first_since(log: &dyn LogReader, time: Time) -> Result<u64, ReadError> {
    let (mut low, mut high) = (0, log.size());
    while low < high {
        let middle = low + (high - low) / 2;
        let bytes = log.entry(middle)?;
        let entry = Entry::parse(&bytes).map_err(|error| ReadError::Damaged {
            what: format!("entry {middle}"),
            cause: error.to_string(),
        })?;
        if entry.time < time {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Content-addressed bytes.
pub trait Blobs: Send + Sync + fmt::Debug {
    /// Keeps `bytes`; durable when it returns.
    fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError>;

    /// The bytes of `digest`, checked against it; none if they are not kept.
    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError>;
}

/// The small erasable store of group keys.
pub trait Keyring: Send + Sync + fmt::Debug {
    /// The key of a group (a person, an agent, a day) and its random handle; made, and durable,
    /// if the group has none.
    fn group_key(&self, group: &str) -> Result<(Handle, Arc<GroupKey>), KeyringError>;

    /// The key behind a handle.
    fn open(&self, handle: &Handle) -> Result<Opened, KeyringError>;

    /// Destroys a key; false if there was none. What it sealed is then gone.
    fn erase(&self, handle: &Handle) -> Result<bool, KeyringError>;
}

/// What stands behind a key's handle.
#[derive(Clone, Debug)]
pub enum Opened {
    /// The key.
    Key(Arc<GroupKey>),
    /// The key was destroyed.
    Erased,
    /// The key is there but the key that wraps it is not.
    Locked,
}

/// Proof of place: the entry is durable at `index`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub log: LogName,
    /// The entry's index, from zero.
    pub index: u64,
    /// The RFC 6962 leaf hash of its bytes.
    pub leaf_hash: Digest,
    /// The time the writer gave it.
    pub time: Time,
}

impl Receipt {
    /// The record that this is a receipt for.
    pub fn record_ref(&self) -> RecordRef {
        RecordRef {
            log: self.log,
            index: self.index,
            leaf_hash: self.leaf_hash,
        }
    }
}

impl From<&Receipt> for RecordRef {
    fn from(receipt: &Receipt) -> Self {
        receipt.record_ref()
    }
}

/// Why an append or a publish was not done. Whatever the variant, nothing is acknowledged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AppendError {
    /// A guard said no: what the draft relies on was narrowed before it was sequenced.
    #[error("what the entry relies on was narrowed before it was recorded")]
    Narrowed,
    /// A draft is longer than an entry may be.
    #[error("the {what} is {length} bytes long; at most {max} are allowed")]
    TooLarge {
        /// `entry` or `sealed part`.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The most allowed.
        max: usize,
    },
    /// A draft cannot be an entry of this log.
    #[error("the draft cannot be written: {0}")]
    Malformed(EntryError),
    /// A draft of a kind that belongs to the other log.
    #[error("an entry of kind `{kind}` does not belong to the log `{log}`")]
    WrongLog {
        /// The draft's kind.
        kind: Kind,
        /// The log it was given to.
        log: LogName,
    },
    /// Too many appends are waiting.
    #[error("too many appends are waiting")]
    Busy,
    /// The clock is behind the last entry by more than is tolerated.
    #[error("the clock is {behind:?} behind the last entry")]
    Clock {
        /// By how much.
        behind: Duration,
    },
    /// The storage refused, or it is not known whether it wrote.
    #[error("the log cannot be written: {cause}")]
    Unwritable {
        /// What the storage said.
        cause: String,
    },
    /// The writer has stopped.
    #[error("the log is closed")]
    Closed,
}

impl From<EntryError> for AppendError {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::TooLarge { what, length, max } => Self::TooLarge { what, length, max },
            EntryError::Syntax(_)
            | EntryError::Version { .. }
            | EntryError::Kind { .. }
            | EntryError::Member { .. }
            | EntryError::Body => Self::Malformed(error),
        }
    }
}

/// Why something in a log could not be read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// It is not there: past the end, or never written.
    #[error("{what} is not there")]
    Absent {
        /// What was asked for.
        what: String,
    },
    /// It is there but is not what it should be.
    #[error("{what} is damaged: {cause}")]
    Damaged {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The storage failed.
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// What the storage said.
        cause: String,
    },
}

/// Why a blob could not be kept or read.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlobError {
    /// The storage refused, or it is not known whether it wrote.
    #[error("the blob cannot be written: {cause}")]
    Unwritable {
        /// What the storage said.
        cause: String,
    },
    /// The storage failed.
    #[error("blob {digest} cannot be read: {cause}")]
    Unreadable {
        /// The blob.
        digest: Digest,
        /// What the storage said.
        cause: String,
    },
    /// The bytes kept are not those that the digest names.
    #[error("blob {digest} is damaged")]
    Damaged {
        /// The blob.
        digest: Digest,
    },
}

/// Why a key could not be made, read or destroyed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyringError {
    /// The wrapping key is absent, so no key can be made.
    #[error("the keyring is locked: its wrapping key is absent")]
    Locked,
    /// The storage refused, or it is not known whether it wrote.
    #[error("the keyring cannot be written: {cause}")]
    Unwritable {
        /// What the storage said.
        cause: String,
    },
    /// The storage failed.
    #[error("the keyring cannot be read: {cause}")]
    Unreadable {
        /// What the storage said.
        cause: String,
    },
    /// A key is kept but cannot be unwrapped: damaged, or wrapped by another key.
    #[error("key `{handle}` is damaged or wrapped by another key")]
    Damaged {
        /// The key.
        handle: Handle,
    },
    /// The random source failed.
    #[error("no key can be made: {cause}")]
    Random {
        /// What it said.
        cause: String,
    },
}
