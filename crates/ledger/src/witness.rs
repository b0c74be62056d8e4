//! What a log says to a witness and hears back, by C2SP tlog-witness: the body of
//! `add-checkpoint` and its answers. Sending it is the caller's part. What the witness makes of it
//! is [`submission`]'s.

pub mod submission;

use std::fmt::Write as _;

use vocab::time::Time;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosignature;
use crate::hash;
use crate::log::LogReader;
use crate::note::{Note, NoteError, Signature, Verifier, parse_signatures};
use crate::proof::{self, ProveError};

/// Why no request could be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RequestError {
    /// The checkpoint is not one of the log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The witness has seen more than the checkpoint covers, or a tile could not be read.
    #[error(transparent)]
    Prove(#[from] ProveError),
}

/// The body of `add-checkpoint`: the size that the witness saw last, the proof from there, and
/// the checkpoint as it stands.
pub fn request(
    reader: &dyn LogReader,
    verifier: &Verifier,
    old_size: u64,
    checkpoint: &str,
) -> Result<String, RequestError> {
    let size = Checkpoint::open(checkpoint, verifier)?.size;
    let mut body = format!("old {old_size}\n");
    for hash in proof::consistency(reader, old_size, size)? {
        body.push_str(&hash::to_line(&hash));
        body.push('\n');
    }
    let _infallible = write!(body, "\n{checkpoint}");
    Ok(body)
}

/// Reads the answer to a request that was taken: the witness's cosignature on `checkpoint`, which
/// must hold, and its time. Cosignatures by keys that nobody asked about are left out.
pub fn answer(
    checkpoint: &Note,
    witness: &Verifier,
    body: &str,
) -> Result<(Signature, Time), NoteError> {
    let signatures = parse_signatures(body)?;
    let mut found = None;
    for signature in signatures {
        if signature.name() != witness.name() || signature.id() != witness.id() {
            continue;
        }
        // Judged alone: whatever the checkpoint carries already does not speak for this one.
        let time = cosignature::verify(&checkpoint.with_only(signature.clone()), witness)?;
        if found.as_ref().is_none_or(|(_, latest)| time > *latest) {
            found = Some((signature, time));
        }
    }
    found.ok_or(NoteError::Unsigned {
        key: witness.key_name(),
    })
}

/// Reads the body of a conflict (409): the size that the witness saw last.
pub fn conflict(body: &str) -> Option<u64> {
    hash::decimal(body.strip_suffix('\n')?)
}

#[cfg(test)]
mod tests;
