//! What one log says of the other, so that whoever holds a checkpoint of either can tell whether
//! the other was set back or replaced.
//!
//! A mention is taken from a checkpoint, and a checkpoint speaks only of what is durable. So after
//! a crash a log is never shorter than what the other one says of it.

use serde::{Deserialize, Serialize};
use vocab::digest::Digest;

use crate::checkpoint::Checkpoint;
use crate::log::{Log, LogReader, ReadError};
use crate::note::Note;
use crate::proof::{self, ProveError};

/// A log's size and root, as an entry of the other log names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mention {
    /// The origin of the log that is named.
    pub log: String,
    /// How many entries it had, at least.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Digest,
}

/// Why a log is not the one that was mentioned.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MentionError {
    /// It is another log.
    #[error("that was `{mentioned}`, and this is `{found}`")]
    Origin {
        /// The origin that was mentioned.
        mentioned: String,
        /// The log's origin.
        found: String,
    },
    /// It is shorter.
    #[error("it had {mentioned} entries then, and has {found} now")]
    Shorter {
        /// The size that was mentioned.
        mentioned: u64,
        /// The log's size.
        found: u64,
    },
    /// It begins otherwise.
    #[error("its first {size} entries are not those that it had then")]
    Differs {
        /// The size that was mentioned.
        size: u64,
    },
    /// Its root then could not be computed.
    #[error("its root over {size} entries cannot be had: {cause}")]
    Unknown {
        /// The size that was mentioned.
        size: u64,
        /// Why.
        cause: ProveError,
    },
}

impl Mention {
    /// What a log's latest checkpoint says of it; none if there is none yet.
    pub fn of(reader: &dyn LogReader) -> Result<Option<Self>, ReadError> {
        let Some(text) = reader.checkpoint()? else {
            return Ok(None);
        };
        let damaged = |cause: String| ReadError::Damaged {
            what: "the checkpoint".to_owned(),
            cause,
        };
        let note = Note::parse(&text).map_err(|error| damaged(error.to_string()))?;
        let checkpoint: Checkpoint = note
            .text()
            .parse()
            .map_err(|error: crate::CheckpointError| damaged(error.to_string()))?;
        Ok(Some(Self {
            log: checkpoint.origin,
            size: checkpoint.size,
            root: checkpoint.root,
        }))
    }

    /// Checks that a log is a continuation of what was mentioned.
    pub fn check(&self, log: &dyn Log) -> Result<(), MentionError> {
        if self.log != log.origin() {
            return Err(MentionError::Origin {
                mentioned: self.log.clone(),
                found: log.origin().to_owned(),
            });
        }
        let reader = log.reader();
        if self.size > reader.size() {
            return Err(MentionError::Shorter {
                mentioned: self.size,
                found: reader.size(),
            });
        }
        match proof::root(reader, self.size) {
            Ok(root) if root == self.root => Ok(()),
            Ok(_) => Err(MentionError::Differs { size: self.size }),
            Err(cause) => Err(MentionError::Unknown {
                size: self.size,
                cause,
            }),
        }
    }
}

impl From<Mention> for Checkpoint {
    fn from(mention: Mention) -> Self {
        Self {
            origin: mention.log,
            size: mention.size,
            root: mention.root,
        }
    }
}
