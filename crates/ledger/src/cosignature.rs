//! Cosignatures, by C2SP tlog-cosignature: a witness's word that it has seen a checkpoint, that
//! it is consistent with all it saw before, and when. Ed25519 only (`cosignature/v1`, `0x04`).

use std::fmt;

use ed25519_dalek::{Signer as _, SigningKey};
use vocab::time::Time;

use crate::checkpoint::Checkpoint;
use crate::note::{Algorithm, KeyError, Note, NoteError, Signature, Verifier, check_name};

/// A private key that cosigns checkpoints.
pub struct Cosigner {
    key: SigningKey,
    verifier: Verifier,
}

impl Cosigner {
    /// The key that grows from a seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = SigningKey::from_bytes(seed);
        let verifier = Verifier::new(name, Algorithm::CosignatureV1, key.verifying_key());
        Ok(Self { key, verifier })
    }

    /// The public key.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Cosigns a checkpoint. Whoever calls this has checked it against all it saw before.
    pub fn cosign(&self, checkpoint: &Checkpoint, at: Time) -> Signature {
        let seconds = at.as_secs();
        let message = message(&checkpoint.to_string(), seconds);
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        Signature {
            name: self.verifier.name().to_owned(),
            id: self.verifier.id(),
            bytes: [seconds.to_be_bytes().as_slice(), &signature].concat(),
        }
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cosigner({}, [redacted])", self.verifier.key_name())
    }
}

fn message(text: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

/// Checks that a witness cosigned a note: at least once, and each cosignature that says it is
/// this witness's. Gives the latest time at which it did, in whole seconds.
pub fn verify(note: &Note, witness: &Verifier) -> Result<Time, NoteError> {
    let mut latest = None;
    for bytes in note.signatures_by(witness) {
        let seconds = read(bytes, note.text(), witness).ok_or(NoteError::Wrong {
            key: witness.key_name(),
        })?;
        latest = latest.max(Some(seconds));
    }
    latest.map(Time::from_secs).ok_or(NoteError::Unsigned {
        key: witness.key_name(),
    })
}

/// The time of a cosignature that holds.
fn read(bytes: &[u8], text: &str, witness: &Verifier) -> Option<u64> {
    if witness.algorithm() != Algorithm::CosignatureV1 {
        return None;
    }
    let (seconds, signature) = bytes.split_first_chunk::<8>()?;
    let seconds = u64::from_be_bytes(*seconds);
    // C2SP tlog-cosignature: a timestamp must not exceed 2^63 - 1.
    i64::try_from(seconds).ok()?;
    let holds = witness.holds(
        message(text, seconds).as_bytes(),
        signature.try_into().ok()?,
    );
    holds.then_some(seconds)
}

#[cfg(test)]
mod tests;
