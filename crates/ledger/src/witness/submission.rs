//! The witness's side of C2SP tlog-witness: what a log submits, and whether it may be cosigned.
//!
//! A [`Submission`] is read, then found signed ([`Signed`]), then found to continue what was seen
//! ([`Consistent`]); nothing else can be cosigned. Keeping what was cosigned, durably and before
//! the answer goes out, is the caller's part, and so is that no other submission of the log is
//! judged meanwhile.

use vocab::digest::Digest;
use vocab::time::Time;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature::{self, Cosigner};
use crate::hash;
use crate::note::{Note, NoteError, Verifier};
use crate::proof::{ProofError, verify_consistency};

/// Longest submission that is read, in bytes.
pub const SUBMISSION_BYTES_MAX: usize = 64 * 1024;
/// Most hashes in a submission's proof, by the protocol.
pub const PROOF_LINES_MAX: usize = 63;
/// Largest tree that is cosigned: others read sizes as signed numbers.
const SIZE_MAX: u64 = i64::MAX.cast_unsigned();

/// Why a checkpoint is not cosigned.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// It is longer than what is read.
    #[error("the request is longer than {SUBMISSION_BYTES_MAX} bytes")]
    TooLong,
    /// It is not of the form of a submission.
    #[error(
        "not `old <size>`, at most {PROOF_LINES_MAX} hashes, an empty line and a checkpoint: {0}"
    )]
    Form(&'static str),
    /// What follows the empty line is not a signed note.
    #[error("what follows the empty line is not a signed note: {0}")]
    Note(NoteError),
    /// The note is not a checkpoint.
    #[error("the note is not a checkpoint: {0}")]
    Checkpoint(CheckpointError),
    /// The old size is past the checkpoint's.
    #[error("the old size is {old}, past the checkpoint's {size}")]
    OldSize {
        /// The old size.
        old: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// No log of this origin is followed.
    #[error("no log of this origin is followed here")]
    UnknownLog,
    /// No key that is trusted for the log signed the checkpoint, or one did not sign this.
    #[error("the checkpoint is not signed by the log: {0}")]
    Unsigned(NoteError),
    /// What was cosigned last is of another size than the old one.
    #[error("the checkpoint cosigned last is of {seen} entries")]
    Conflict {
        /// That size.
        seen: u64,
    },
    /// The root of the empty tree is known, and is another one.
    #[error("the root of an empty tree is not that of the checkpoint")]
    EmptyRoot,
    /// The checkpoint has as many entries as the one cosigned last, and others: the log signed two
    /// histories.
    #[error("a checkpoint of {size} entries with another root was cosigned before")]
    Fork {
        /// Their size.
        size: u64,
    },
    /// The proof does not show that the checkpoint continues the one cosigned last.
    #[error("the proof does not show that nothing was taken back: {0}")]
    Proof(ProofError),
}

impl Refused {
    /// The status of the answer, by the protocol.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Form(_) | Self::Note(_) | Self::Checkpoint(_) | Self::OldSize { .. } => 400,
            Self::Unsigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::TooLong => 413,
            Self::EmptyRoot | Self::Fork { .. } | Self::Proof(_) => 422,
        }
    }
}

/// What a witness remembers of a log: the largest tree that it cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// When it was cosigned.
    pub at: Time,
}

impl Seen {
    /// Reads what [`Cosigned::note`] is, when it is found again: by the witness's own key, whole.
    pub fn read(note: &str, witness: &Verifier) -> Result<Self, CheckpointError> {
        let note = Note::parse(note)?;
        let at = cosignature::verify(&note, witness)?;
        let (checkpoint, _) = Checkpoint::head(note.text())?;
        Ok(Self { checkpoint, at })
    }
}

/// The body of `add-checkpoint`, read. Nothing in it is believed.
#[derive(Clone, Debug)]
pub struct Submission {
    old: u64,
    path: Vec<Digest>,
    note: Note,
    checkpoint: Checkpoint,
}

impl Submission {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, Refused> {
        if body.len() > SUBMISSION_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        let body = std::str::from_utf8(body).map_err(|_| Refused::Form("not UTF-8"))?;
        let (head, note) = body
            .split_once("\n\n")
            .ok_or(Refused::Form("no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(size).ok_or(Refused::Form("no old size"))?;
        let mut path = Vec::new();
        for line in lines {
            if path.len() == PROOF_LINES_MAX {
                return Err(Refused::Form("too many hashes"));
            }
            path.push(hash::from_line(line).ok_or(Refused::Form("a line that is no hash"))?);
        }
        let note = Note::parse(note).map_err(Refused::Note)?;
        let (checkpoint, extensions) =
            Checkpoint::head(note.text()).map_err(Refused::Checkpoint)?;
        if checkpoint.size > SIZE_MAX {
            return Err(Refused::Checkpoint(CheckpointError::Size));
        }
        // Extension lines are the log's to write; an empty one is none.
        if extensions.starts_with('\n') || extensions.contains("\n\n") {
            return Err(Refused::Checkpoint(CheckpointError::Form));
        }
        Ok(Self {
            old,
            path,
            note,
            checkpoint,
        })
    }

    /// The log that it says it is of.
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }

    /// Holds it against the keys that are trusted for its origin; signatures by others are dropped.
    pub fn signed(self, keys: &[Verifier]) -> Result<Signed, Refused> {
        if keys.is_empty() {
            return Err(Refused::UnknownLog);
        }
        self.note.verify_any(keys).map_err(Refused::Unsigned)?;
        if self.old > self.checkpoint.size {
            return Err(Refused::OldSize {
                old: self.old,
                size: self.checkpoint.size,
            });
        }
        Ok(Signed(Self {
            note: self.note.with_only_by(keys),
            ..self
        }))
    }
}

fn size(text: &str) -> Option<u64> {
    hash::decimal(text).filter(|size| *size <= SIZE_MAX)
}

/// A checkpoint that its log signed.
#[derive(Clone, Debug)]
pub struct Signed(Submission);

impl Signed {
    /// The log.
    pub fn origin(&self) -> &str {
        self.0.origin()
    }

    /// The checkpoint as its log signed it: proof of misbehaviour, if it turns out to be a fork.
    pub const fn note(&self) -> &Note {
        &self.0.note
    }

    /// Holds it against what was cosigned of this log before, if anything was.
    pub fn continuing(self, seen: Option<&Seen>) -> Result<Consistent, Refused> {
        let Self(submission) = self;
        let new = &submission.checkpoint;
        let (seen_size, seen_root) = seen.map_or((0, hash::empty()), |seen| {
            (seen.checkpoint.size, seen.checkpoint.root)
        });
        if submission.old != seen_size {
            return Err(Refused::Conflict { seen: seen_size });
        }
        if new.size == 0 && new.root != hash::empty() {
            return Err(Refused::EmptyRoot);
        }
        if new.size == seen_size && new.root != seen_root {
            return Err(Refused::Fork { size: seen_size });
        }
        let (old, new) = ((seen_size, &seen_root), (new.size, &new.root));
        verify_consistency(old, new, &submission.path).map_err(Refused::Proof)?;
        Ok(Consistent(submission))
    }
}

/// A checkpoint that continues all that was seen of its log.
#[derive(Debug)]
pub struct Consistent(Submission);

impl Consistent {
    /// Cosigns it, at a time that is not before that of the last cosignature.
    pub fn cosign(self, witness: &Cosigner, at: Time) -> Cosigned {
        let Submission {
            mut note,
            checkpoint,
            ..
        } = self.0;
        let cosignature = witness.cosign_text(note.text(), at);
        let answer = format!("{cosignature}\n");
        note.push(cosignature);
        let at = Time::from_secs(at.as_secs());
        Cosigned {
            note: note.to_string(),
            answer,
            seen: Seen { checkpoint, at },
        }
    }
}

/// A cosigned checkpoint. It must be kept before the answer goes out.
#[derive(Clone, Debug)]
pub struct Cosigned {
    /// What is kept, and shown to monitors: the checkpoint with the log's signatures and ours.
    pub note: String,
    /// What the log is answered.
    pub answer: String,
    /// What is remembered.
    pub seen: Seen,
}

#[cfg(test)]
mod tests;
