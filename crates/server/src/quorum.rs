//! How many witnesses must have cosigned before a log is evidence to anybody else.
//!
//! A checkpoint that only the log's own key signed shows what its administrator says now. With a
//! quorum, what leaves the node (`ledger export`, `ledger proof`, certificates) rests on a
//! checkpoint that so many of the named witnesses cosigned, or does not leave it.

use std::fmt;
use std::path::Path;

use ledger::note::{Note, Verifier};
use ledger::{Checkpoint, LogKeys, LogReader, cosignature, proof};
use store::OfflineLog;
use vocab::LogName;

use crate::anchor::cosigned;

/// Which witnesses are asked, and how many of them must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    needed: usize,
    witnesses: Vec<Verifier>,
}

/// Why there can be no such quorum.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum QuorumError {
    /// More are needed than there are.
    #[error("{needed} witnesses must agree, and {named} are named")]
    TooFew {
        /// How many are needed.
        needed: usize,
        /// How many there are.
        named: usize,
    },
    /// One that is named twice would count twice.
    #[error(
        "`{first}` and `{second}` are one key, and count once: a quorum is of different witnesses"
    )]
    Same {
        /// A name of it.
        first: String,
        /// The other.
        second: String,
    },
}

/// What a quorum agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// As it stands, with the cosignatures.
    pub note: String,
}

/// There is no quorum, or none that covers what is asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Short {
    /// The log.
    pub log: LogName,
    /// How many must agree.
    pub needed: usize,
    /// How many entries so many agreed on.
    pub agreed: u64,
    /// Of each witness, how many entries it cosigned, as far as that is kept.
    pub said: Vec<(String, Option<u64>)>,
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (log, needed) = (self.log, self.needed);
        match self.agreed {
            0 => write!(f, "no checkpoint of `{log}` has {needed} cosignatures yet")?,
            size => write!(
                f,
                "the newest checkpoint of `{log}` with {needed} cosignatures covers {size} entries"
            )?,
        }
        for (nth, (witness, size)) in self.said.iter().enumerate() {
            let before = if nth == 0 { ": " } else { "; " };
            match size {
                Some(size) => write!(f, "{before}`{witness}` has cosigned {size}")?,
                None => write!(f, "{before}`{witness}` is missing")?,
            }
        }
        Ok(())
    }
}

impl Quorum {
    /// So many of these; none of none is no quorum.
    pub fn new(needed: usize, witnesses: Vec<Verifier>) -> Result<Option<Self>, QuorumError> {
        if needed == 0 {
            return Ok(None);
        }
        let mut named: Vec<Verifier> = Vec::new();
        for witness in witnesses {
            match named.iter().find(|it| it.is_same_key(&witness)) {
                Some(it) if *it == witness => {}
                Some(it) => {
                    return Err(QuorumError::Same {
                        first: it.key_name(),
                        second: witness.key_name(),
                    });
                }
                None => named.push(witness),
            }
        }
        if needed > named.len() {
            return Err(QuorumError::TooFew {
                needed,
                named: named.len(),
            });
        }
        let witnesses = named;
        Ok(Some(Self { needed, witnesses }))
    }

    /// How many must agree.
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// Whether enough cosigned this.
    pub(crate) fn is_met(&self, note: &Note) -> bool {
        let by = |witness: &&Verifier| cosignature::verify(note, witness).is_ok();
        self.witnesses.iter().filter(by).count() >= self.needed
    }

    /// The newest checkpoint of a log that enough cosigned, as far as it is kept in `data` and is
    /// of this log. It must cover the first `size` entries.
    pub fn covering(
        &self,
        data: &Path,
        log: LogName,
        keys: &LogKeys,
        size: u64,
    ) -> Result<Agreed, Short> {
        let mut newest: Option<Agreed> = None;
        let names = self.witnesses.iter().map(Verifier::key_name);
        let mut said: Vec<_> = names.map(|name| (name, None)).collect();
        for path in cosigned::files(data, log) {
            // What is kept there and does not verify is for `ledger verify` to tell.
            let Some((checkpoint, note)) = read(&path, keys) else {
                continue;
            };
            for (witness, (_, size)) in self.witnesses.iter().zip(&mut said) {
                if cosignature::verify(&note, witness).is_ok() {
                    *size = (*size).max(Some(checkpoint.size));
                }
            }
            let newer = newest
                .as_ref()
                .is_none_or(|newest| newest.checkpoint.size < checkpoint.size);
            if newer && self.is_met(&note) && is_of(data, log, &checkpoint) {
                newest = Some(Agreed {
                    checkpoint,
                    note: note.to_string(),
                });
            }
        }
        match newest {
            Some(agreed) if agreed.checkpoint.size >= size => Ok(agreed),
            newest => Err(Short {
                log,
                needed: self.needed,
                agreed: newest.map_or(0, |agreed| agreed.checkpoint.size),
                said,
            }),
        }
    }
}

fn read(path: &Path, keys: &LogKeys) -> Option<(Checkpoint, Note)> {
    let note = Note::parse(&std::fs::read_to_string(path).ok()?).ok()?;
    let checkpoint = keys.of_note(&note).ok()?;
    Some((checkpoint, note))
}

/// Whether the log begins so: what witnesses agreed on is worth nothing for another history.
fn is_of(data: &Path, log: LogName, checkpoint: &Checkpoint) -> bool {
    let Ok(reader) = OfflineLog::open(data, log) else {
        return false;
    };
    reader.size() >= checkpoint.size
        && proof::root(&reader, checkpoint.size).is_ok_and(|root| root == checkpoint.root)
}

#[cfg(test)]
mod tests;
