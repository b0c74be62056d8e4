//! Why a log cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use ledger::{CheckpointError, EntryError, ReadError};

use crate::segment::SegmentError;

/// Why a data folder or a log in it cannot be opened. All are fatal: a node that met one does not
/// know what its log says, and must not serve.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it.
    #[error("`{path}` is in use", path = .path.display())]
    Locked {
        /// What is in use.
        path: PathBuf,
    },
    /// There is no such log.
    #[error("there is no log at `{path}`", path = .path.display())]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// The storage failed.
    #[error("cannot {what} `{path}`", path = .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the storage said.
        source: io::Error,
    },
    /// A segment is damaged where a crash cannot have damaged it.
    #[error("segment `{path}` is damaged at byte {at}: {cause}", path = .path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        cause: String,
    },
    /// Entries are missing before a segment.
    #[error(
        "segment `{path}` begins at entry {first}, but the entries before it end at {expected}",
        path = .path.display()
    )]
    Gap {
        /// The segment.
        path: PathBuf,
        /// Its first index.
        first: u64,
        /// Where the entries before it end.
        expected: u64,
    },
    /// There are entries and no checkpoint; every log has one from its first moment.
    #[error("the log `{path}` has entries and no checkpoint", path = .path.display())]
    Unsigned {
        /// The log's folder.
        path: PathBuf,
    },
    /// The checkpoint is not one that the log's key signed.
    #[error("the checkpoint of `{path}` is not the log's", path = .path.display())]
    Checkpoint {
        /// The log's folder.
        path: PathBuf,
        /// What is wrong with it.
        source: CheckpointError,
    },
    /// The log is shorter than what was signed, or than what its own tiles and segments need.
    #[error(
        "the log `{path}` was cut: it has {size} entries, its checkpoint {signed}{missing}",
        path = .path.display(),
        missing = .missing.as_ref().map_or_else(String::new, |what| format!("; {what} is missing"))
    )]
    Truncated {
        /// The log's folder.
        path: PathBuf,
        /// How many entries can be read.
        size: u64,
        /// How many were signed.
        signed: u64,
        /// What is missing, where that is known.
        missing: Option<String>,
    },
    /// The log's first entries are not those that were signed.
    #[error(
        "the log `{path}` was changed: its first {signed} entries are not those it signed",
        path = .path.display()
    )]
    Diverged {
        /// The log's folder.
        path: PathBuf,
        /// How many were signed.
        signed: u64,
    },
    /// The last entry is not one.
    #[error("entry {index} is not an entry")]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong with it.
        source: EntryError,
    },
    /// The log was written in a later epoch than the one it is opened for.
    #[error("the log's last entry is of epoch {last}, but it is opened for epoch {given}")]
    Epoch {
        /// The epoch it is opened for.
        given: u64,
        /// The epoch of its last entry.
        last: u64,
    },
    /// Something in the log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl OpenError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn segment(path: &Path, error: SegmentError) -> Self {
        match error {
            SegmentError::Read(source) => Self::io("read", path, source),
            SegmentError::Damaged { at, cause } => Self::Damaged {
                path: path.to_owned(),
                at,
                cause: cause.to_owned(),
            },
        }
    }
}
