//! The ledger: what an entry is, what a log promises, and how both are proved.
//!
//! A log is an append-only list of [`Entry`] bytes, written once and hashed as they stand into an
//! RFC 6962 Merkle tree, kept as C2SP tlog-tiles and signed as C2SP checkpoints. This crate has
//! the formats, the proofs and the traits ([`Log`], [`LogReader`], [`Blobs`], [`Keyring`]); the
//! `store` crate keeps the bytes.
//!
//! It does no IO and knows no HTTP; it takes time and randomness as arguments.
//!
//! [`record()`] is the one way to make a [`Recorded`] value: proof that an entry is durable.

pub mod checkpoint;
pub mod cosignature;
pub mod entry;
pub mod hash;
pub mod keys;
pub mod log;
pub mod mention;
pub mod note;
pub mod proof;
pub mod record;
pub mod seal;
pub mod tile;
pub mod tlog_proof;
pub mod tree;
pub mod verify;
pub mod witness;

#[cfg(test)]
mod memory;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use entry::{Actor, ActorKind, Draft, Entry, EntryError, Guard, Header, Kind, write_entry};
pub use keys::{LogKey, LogKeyActivated, LogKeyAnnounced, LogKeyRetired, LogKeys};
pub use log::{
    AppendError, BlobError, Blobs, Keyring, KeyringError, Log, LogReader, Opened, ReadError,
    Receipt, first_since,
};
pub use mention::{Mention, MentionError};
pub use record::{Record, RecordError, Recorded, Ruling, record};
pub use seal::{GroupKey, Sealed};
pub use verify::{Fault, Known, Report, Unsound, verify};
