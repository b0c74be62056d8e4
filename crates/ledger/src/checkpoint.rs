//! Checkpoints, by C2SP tlog-checkpoint: a log's signed word on its size and root.
//!
//! Extension lines are refused: nothing here writes them, and what no monitor can audit should
//! not ride under the log's signature.

use std::fmt;
use std::str::FromStr;

use vocab::digest::Digest;

use crate::hash;
use crate::note::{Note, NoteError, Signer, Verifier};

/// What a log signs. Text form, the text of a signed note: origin, size and root, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// The log's identity; also the name of its key.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Digest,
}

/// Why a text is not a checkpoint of the log.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a note, or not signed by the log.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// It is signed by a key of the log that signs no more, and by none that does.
    #[error("it is signed by `{key}`, which signs nothing since `control/{since}`")]
    Retired {
        /// The key.
        key: String,
        /// The entry of the control log that says so.
        since: u64,
    },
    /// Not three lines.
    #[error("a checkpoint is three lines: origin, size, root")]
    Form,
    /// More than three lines.
    #[error("the checkpoint has extension lines, which are not accepted")]
    Extension,
    /// The origin is that of another log.
    #[error("the checkpoint is of `{found}`, not of `{expected}`")]
    Origin {
        /// The origin that the key has.
        expected: String,
        /// What the checkpoint says.
        found: String,
    },
    /// The size is not a number in decimal without leading zeros.
    #[error("the checkpoint's size is not a number in canonical form")]
    Size,
    /// The root is not the base64 of 32 bytes, or not that of the empty tree when it must be.
    #[error("the checkpoint's root is not a hash in canonical form")]
    Root,
}

impl Checkpoint {
    /// Signs it. Fails only if the origin is not one that [`Signer`] takes as its name.
    pub fn sign(&self, signer: &Signer) -> Result<String, CheckpointError> {
        if self.origin != signer.name() {
            return Err(CheckpointError::Origin {
                expected: signer.name().to_owned(),
                found: self.origin.clone(),
            });
        }
        Ok(Note::sign(&self.to_string(), signer)?.to_string())
    }

    /// Reads a checkpoint that must be signed by the log whose key is `verifier`.
    pub fn open(note: &str, verifier: &Verifier) -> Result<Self, CheckpointError> {
        Self::of_note(&Note::parse(note)?, verifier)
    }

    /// Like [`Checkpoint::open`], of a note that has been read.
    pub fn of_note(note: &Note, verifier: &Verifier) -> Result<Self, CheckpointError> {
        Self::of_note_by(note, std::slice::from_ref(verifier))
    }

    /// Reads a checkpoint that one of these keys must have signed. The keys of a log have one name.
    pub fn of_note_by(note: &Note, verifiers: &[Verifier]) -> Result<Self, CheckpointError> {
        note.verify_any(verifiers)?;
        let checkpoint: Self = note.text().parse()?;
        match verifiers.iter().find(|it| it.name() != checkpoint.origin) {
            Some(other) => Err(CheckpointError::Origin {
                expected: other.name().to_owned(),
                found: checkpoint.origin,
            }),
            None => Ok(checkpoint),
        }
    }
}

impl Checkpoint {
    /// Reads the three lines that every checkpoint begins with, as they stand, and gives what
    /// follows them.
    pub(crate) fn head(text: &str) -> Result<(Self, &str), CheckpointError> {
        let mut lines = text.splitn(4, '\n');
        let (Some(origin), Some(size), Some(root), Some(rest)) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Form);
        };
        if origin.is_empty() {
            return Err(CheckpointError::Form);
        }
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: hash::decimal(size).ok_or(CheckpointError::Size)?,
            root: hash::from_line(root).ok_or(CheckpointError::Root)?,
        };
        Ok((checkpoint, rest))
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = hash::to_line(&self.root);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads a checkpoint's text, which nothing vouches for yet.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let (checkpoint, extensions) = Self::head(text)?;
        if !extensions.is_empty() {
            return Err(CheckpointError::Extension);
        }
        if checkpoint.size == 0 && checkpoint.root != hash::empty() {
            return Err(CheckpointError::Root);
        }
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests;
