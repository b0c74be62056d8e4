//! What must be on record before it may have an effect.

use crate::entry::{Draft, EntryError};
use crate::log::{AppendError, Log, Receipt};

/// Something that can be put on record.
pub trait Record {
    /// The entry that says it.
    fn draft(&self) -> Result<Draft, EntryError>;
}

/// A record that rules on something: it permits or it denies.
pub trait Ruling {
    /// What a yes gives.
    type Permit;
    /// What a no gives.
    type Denial;

    /// The yes or the no.
    fn ruling(self) -> Result<Self::Permit, Self::Denial>;
}

/// A value whose entry is durable, with the receipt that proves it.
///
/// Only [`record()`] makes one. It cannot be cloned, so it is used up by what it allows.
#[derive(Debug)]
pub struct Recorded<T> {
    value: T,
    receipt: Receipt,
}

impl<T> Recorded<T> {
    /// What was recorded.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// Where.
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Gives up the proof and keeps the value.
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T: Ruling> Recorded<T> {
    /// The permit or the denial that was recorded. A denial stops here.
    pub fn permitted(self) -> Result<Recorded<T::Permit>, Recorded<T::Denial>> {
        let receipt = self.receipt;
        match self.value.ruling() {
            Ok(value) => Ok(Recorded { value, receipt }),
            Err(value) => Err(Recorded { value, receipt }),
        }
    }
}

/// Why something is not on record.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RecordError {
    /// It could not be put in words.
    #[error("the record could not be drafted")]
    Draft(#[source] EntryError),
    /// The log did not take it.
    #[error("the log did not take the record")]
    Append(#[source] AppendError),
    /// The log answered one draft with another number of receipts.
    #[error("the log gave {found} receipts for one record")]
    Receipts {
        /// How many.
        found: usize,
    },
}

/// Puts `value` on record. When this returns a value, the entry is durable.
pub async fn record<T: Record>(log: &dyn Log, value: T) -> Result<Recorded<T>, RecordError> {
    let draft = value.draft().map_err(RecordError::Draft)?;
    let receipts = log.append(vec![draft]).await.map_err(RecordError::Append)?;
    match <[Receipt; 1]>::try_from(receipts) {
        Ok([receipt]) => Ok(Recorded { value, receipt }),
        Err(receipts) => Err(RecordError::Receipts {
            found: receipts.len(),
        }),
    }
}

#[cfg(test)]
mod tests;
