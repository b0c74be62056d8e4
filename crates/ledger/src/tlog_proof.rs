//! Proof files, by C2SP tlog-proof: an entry's index, its inclusion proof and a signed
//! checkpoint, in one text that is checked with nothing but the log's public key.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use vocab::digest::Digest;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::hash;
use crate::keys::LogKeys;
use crate::log::{LogReader, ReadError};
use crate::note::NOTE_BYTES_MAX;
use crate::proof::{self, PATH_HASHES_MAX, ProofError, ProveError};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof file that is read, in bytes: a checkpoint, an entry in base64, and the rest.
const PROOF_BYTES_MAX: usize = 2 * NOTE_BYTES_MAX;

/// A proof file, as it was read or made. Nothing in it is believed before [`TlogProof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Data that the format lets ride along. Ours is the entry itself, which the proof then
    /// vouches for; anything else here nobody vouches for.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// The inclusion proof, lowest hash first.
    pub path: Vec<Digest>,
    /// The checkpoint, a signed note, as it stands.
    pub checkpoint: String,
}

/// Why no proof file could be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MakeError {
    /// The log has no checkpoint yet.
    #[error("the log has no checkpoint yet")]
    NoCheckpoint,
    /// Its checkpoint is not one.
    #[error("the log's checkpoint is not valid")]
    Checkpoint(#[from] CheckpointError),
    /// The log could not be read.
    #[error("the log could not be read")]
    Read(#[from] ReadError),
    /// The entry is not (or not yet) under the checkpoint, or a tile could not be read.
    #[error(transparent)]
    Prove(#[from] ProveError),
}

/// Why a proof file does not prove what it should.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TlogProofError {
    /// Too long to be read.
    #[error("the proof is {length} bytes long; at most {PROOF_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The first line is not `c2sp.org/tlog-proof@v1`.
    #[error("not a proof: the first line is not `{FIRST_LINE}`")]
    FirstLine,
    /// The extra data are not base64.
    #[error("the proof's extra data are not base64")]
    Extra,
    /// No index, or not one in canonical form.
    #[error("the proof's index is not a number in canonical form")]
    Index,
    /// A line of the path is not a hash, or there are too many.
    #[error("the proof's path is not at most {PATH_HASHES_MAX} hashes")]
    Path,
    /// There is no empty line before the checkpoint.
    #[error("the proof has no checkpoint")]
    NoCheckpoint,
    /// The checkpoint is not one, or not signed by the log.
    #[error("the proof's checkpoint is not valid: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the checkpoint's root.
    #[error("the entry is not where the proof says: {0}")]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// Proves an entry against the log's latest checkpoint; the entry rides along.
    pub fn of(reader: &dyn LogReader, index: u64, keys: &LogKeys) -> Result<Self, MakeError> {
        let checkpoint = reader.checkpoint()?.ok_or(MakeError::NoCheckpoint)?;
        Self::under(reader, index, keys, checkpoint)
    }

    /// Proves an entry against a checkpoint of the log, such as one with cosignatures.
    pub fn under(
        reader: &dyn LogReader,
        index: u64,
        keys: &LogKeys,
        checkpoint: String,
    ) -> Result<Self, MakeError> {
        let size = keys.open(&checkpoint)?.size;
        Ok(Self {
            path: proof::inclusion(reader, index, size)?,
            extra: Some(reader.entry(index)?),
            index,
            checkpoint,
        })
    }

    /// Checks that `entry` is in the log whose keys these are, at the index that the proof says.
    /// Gives the checkpoint that vouches for it.
    pub fn verify(&self, entry: &[u8], keys: &LogKeys) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = keys.open(&self.checkpoint)?;
        proof::verify_inclusion(
            &hash::leaf(entry),
            self.index,
            checkpoint.size,
            &self.path,
            &checkpoint.root,
        )?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", hash::to_line(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for TlogProof {
    type Err = TlogProofError;

    fn from_str(text: &str) -> Result<Self, TlogProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(TlogProofError::TooLong { length: text.len() });
        }
        let (first, mut rest) = text.split_once('\n').ok_or(TlogProofError::FirstLine)?;
        if first != FIRST_LINE {
            return Err(TlogProofError::FirstLine);
        }
        let mut extra = None;
        if let Some(after) = rest.strip_prefix("extra ") {
            let (data, after) = after.split_once('\n').ok_or(TlogProofError::Extra)?;
            extra = Some(STANDARD.decode(data).map_err(|_| TlogProofError::Extra)?);
            rest = after;
        }
        let (index, mut rest) = rest
            .strip_prefix("index ")
            .and_then(|rest| rest.split_once('\n'))
            .ok_or(TlogProofError::Index)?;
        let index = hash::decimal(index).ok_or(TlogProofError::Index)?;
        let mut path = Vec::new();
        let checkpoint = loop {
            let (line, after) = rest.split_once('\n').ok_or(TlogProofError::NoCheckpoint)?;
            rest = after;
            if line.is_empty() {
                break rest.to_owned();
            }
            if path.len() == PATH_HASHES_MAX {
                return Err(TlogProofError::Path);
            }
            path.push(hash::from_line(line).ok_or(TlogProofError::Path)?);
        };
        Ok(Self {
            extra,
            index,
            path,
            checkpoint,
        })
    }
}

#[cfg(test)]
mod tests;
