//! The keys that sign a log's checkpoints: one, and two while it changes.

use std::fmt;
use std::sync::{Arc, Mutex};

use ledger::note::{Note, Signer, Verifier};
use ledger::{Checkpoint, CheckpointError};

use crate::disk::lock;

/// The key of a log, and the one before it for as long as that signs beside it.
///
/// Whoever follows the log by either key then finds it signed.
pub struct Signers {
    own: Signer,
    beside: Option<Signer>,
    /// As entries name the key.
    name: String,
}

/// The two keys are of different logs.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{own}` and `{beside}` are keys of different logs")]
pub struct OtherLog {
    own: String,
    beside: String,
}

impl From<Signer> for Signers {
    fn from(own: Signer) -> Self {
        Self {
            name: own.verifier().key_name(),
            own,
            beside: None,
        }
    }
}

impl Signers {
    /// A key, and the one before it.
    pub fn new(own: Signer, beside: Signer) -> Result<Self, OtherLog> {
        if own.name() != beside.name() {
            return Err(OtherLog {
                own: own.verifier().key_name(),
                beside: beside.verifier().key_name(),
            });
        }
        Ok(Self {
            beside: Some(beside),
            ..Self::from(own)
        })
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.own.name()
    }

    /// The key that entries name.
    pub fn key_name(&self) -> &str {
        &self.name
    }

    /// The public keys, the log's own first.
    pub fn verifiers(&self) -> Vec<Verifier> {
        let both = std::iter::once(&self.own).chain(&self.beside);
        both.map(|signer| signer.verifier().clone()).collect()
    }

    pub(crate) fn sign(&self, checkpoint: &Checkpoint) -> Result<String, CheckpointError> {
        let note = checkpoint.sign(&self.own)?;
        let Some(beside) = &self.beside else {
            return Ok(note);
        };
        let mut note = Note::parse(&note)?;
        let signature = beside.sign(note.text());
        note.push(signature);
        Ok(note.to_string())
    }

    /// Whether a checkpoint has the signatures that it would get now.
    pub(crate) fn signed(&self, note: &str) -> bool {
        let verifiers = self.verifiers();
        Note::parse(note).is_ok_and(|note| verifiers.iter().all(|key| note.verify(key).is_ok()))
    }
}

impl fmt::Debug for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entry(&self.own)
            .entries(&self.beside)
            .finish()
    }
}

/// What signs at this moment, as both threads of a log and whoever changes it see it.
#[derive(Clone, Debug)]
pub(crate) struct Signing(Arc<Mutex<Arc<Signers>>>);

impl Signing {
    pub(crate) fn new(signers: Signers) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(signers))))
    }

    pub(crate) fn get(&self) -> Arc<Signers> {
        Arc::clone(&lock(&self.0))
    }

    pub(crate) fn set(&self, signers: Signers) {
        *lock(&self.0) = Arc::new(signers);
    }
}

#[cfg(test)]
mod tests;
