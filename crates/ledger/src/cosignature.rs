//! Cosignatures, by C2SP tlog-cosignature: a witness's word that it has seen a checkpoint, that
//! it is consistent with all it saw before, and when. Ed25519 only (`cosignature/v1`, `0x04`).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey};
use vocab::rng::{self, Rng};
use vocab::secret::Secret;
use vocab::time::Time;
use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::note::{
    Algorithm, GenerateError, KeyError, KeyText, Note, NoteError, Signature, Verifier, check_name,
    private_text,
};

/// A private key that cosigns checkpoints. Text form: that of a [`note::Signer`](crate::note::Signer)
/// with the type byte of cosignatures.
pub struct Cosigner {
    key: SigningKey,
    verifier: Verifier,
}

impl Cosigner {
    /// A fresh key.
    pub fn generate(name: &str, rng: &dyn Rng) -> Result<Self, GenerateError> {
        let seed = Zeroizing::new(rng::bytes(rng)?);
        Ok(Self::from_seed(name, &seed)?)
    }

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

    /// The text form, to be kept secret.
    pub fn to_text(&self) -> Secret<String> {
        private_text(&self.verifier, &self.key)
    }

    /// Cosigns a checkpoint. Whoever calls this has checked it against all it saw before.
    pub fn cosign(&self, checkpoint: &Checkpoint, at: Time) -> Signature {
        self.cosign_text(&checkpoint.to_string(), at)
    }

    /// Like [`Cosigner::cosign`], of a checkpoint as it stands, with the extension lines of its log.
    pub(crate) fn cosign_text(&self, text: &str, at: Time) -> Signature {
        let seconds = at.as_secs();
        let message = message(text, seconds);
        let signature = self.key.sign(message.as_bytes()).to_bytes();
        Signature {
            name: self.verifier.name().to_owned(),
            id: self.verifier.id(),
            bytes: [seconds.to_be_bytes().as_slice(), &signature].concat(),
        }
    }
}

impl FromStr for Cosigner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = KeyText::parse_private(text, Algorithm::CosignatureV1)?;
        let cosigner = Self::from_seed(text.name, &text.key)?;
        text.check_hash(cosigner.verifier.id())?;
        Ok(cosigner)
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
