//! The files back end: the logs, blobs and keys of a node, in one folder.
//!
//! ```text
//! data/lock                  held by the process that writes
//! data/control/  data/calls/ a log each: C2SP tlog-tiles, segments, sealed parts; see `files`
//! data/blobs/ab/<hex>        content-addressed bytes
//! data/keyring/<handle>      group keys, wrapped by a key that lies elsewhere
//! data/register.snapshot     made from the control log, and again whenever it is not there
//! ```
//!
//! [`FilesLog`] keeps the promise of [`ledger::Log`]: what it acknowledges is durable, and a kill
//! at any instant, a full disk or a failed flush loses nothing acknowledged and invents nothing.
//! [`OfflineLog`] reads the same folder without a lock. [`FileBlobs`] and [`FileKeyring`] keep the
//! promises of [`ledger::Blobs`] and [`ledger::Keyring`]; [`anchor`] puts checkpoints out of reach
//! of whoever rolls the folder back. [`Faults`] makes the storage fail, for drills and tests.
//!
//! This crate is the only one that writes data files. It does not know what an entry means, and it
//! has no connection to anything but files.

pub mod anchor;
mod blobs;
mod derived;
mod dir;
mod disk;
mod error;
mod files;
mod health;
mod keyring;
mod log;
mod offline;
mod publisher;
mod recover;
mod seen;
mod segment;
mod signers;
mod spare;
mod writer;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod power;
#[cfg(test)]
mod testing;

pub use blobs::FileBlobs;
pub use derived::DerivedFile;
pub use dir::DataDir;
pub use disk::{Fault, Faults, free_bytes};
pub use error::OpenError;
pub use health::{CLOCK_BEHIND_MAX, Failure, Health};
pub use keyring::{FileKeyring, WrappingKey, WrappingKeyError};
pub use log::{FilesLog, LogOptions};
pub use offline::OfflineLog;
pub use recover::{LastEntry, Recovery};
pub use seen::{SeenError, SeenFolder};
pub use signers::{OtherLog, Signers};
