//! Snapshots: what the first entries of a control log add up to, written down and signed, so that
//! a start need not fold them again.
//!
//! A snapshot is derived, and never believed by itself. It is taken only if the log's own key
//! signed it, for this form, this fold and the very entries that the log begins with; whatever is
//! wrong with it, folding the whole log gives the same state. It has no name of anybody in it, and
//! no word of an agent's: who a sponsor is and what was handed on stay sealed beside the entries, and
//! are opened again with the keyring, or are gone.
//!
//! A file is a signed note, a zero byte, and the body. The note's text is six lines:
//!
//! | line | is |
//! |---|---|
//! | `tipstaff register snapshot v1` | no log's origin: an origin has no spaces, so this is never taken for a checkpoint |
//! | origin | the log |
//! | size | how many entries it stands for |
//! | root | the root of the tree over them, in hex |
//! | body | SHA-256 of the body |
//! | form | SHA-256 of the members that were written, the program's version and [`FOLD`] |

mod form;
mod shapes;

use ledger::note::{Note, NoteError, Signer, Verifier};
use ledger::proof::{self, ProveError};
use ledger::{Keyring, LogReader};
use vocab::digest::Digest;

pub(crate) use self::form::{Form, Input, Malformed, put_length, shape_of, structs};
use crate::fold::FoldCause;
use crate::state::State;
pub use crate::state::kept::Snapshot;

/// Raised whenever the fold makes something else of an entry than it did: what was folded before
/// is then folded again.
pub const FOLD: u32 = 5;

const TITLE: &str = "tipstaff register snapshot v1";
/// Ends the note; no text has it.
const END_OF_NOTE: u8 = 0;

/// Why a snapshot is not taken. All of the log is folded then.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotTaken {
    /// Not a file of this form.
    #[error("it is not of the form of a snapshot")]
    Form,
    /// Not signed by the log.
    #[error("it is not signed by the log: {0}")]
    Signature(#[from] NoteError),
    /// Of another log.
    #[error("it is of `{found}`, which is another log")]
    Origin {
        /// The log that it is of.
        found: String,
    },
    /// Another program wrote it.
    #[error("another version of the program wrote it")]
    Version,
    /// The log has fewer entries.
    #[error("it stands for {size} entries, and the log has {log}")]
    Newer {
        /// The entries it stands for.
        size: u64,
        /// The entries of the log.
        log: u64,
    },
    /// The log does not begin with the entries that it stands for.
    #[error("the log's first {size} entries are not those that it stands for")]
    History {
        /// How many they are.
        size: u64,
    },
    /// The root of the log's tree could not be computed.
    #[error("the log's root could not be computed: {0}")]
    Root(#[from] ProveError),
    /// The body is not the one that was signed.
    #[error("its body is not the one that was signed")]
    Body,
    /// The body is the one that was signed, and no state.
    #[error("its body is signed and cannot be read")]
    Malformed,
    /// What is sealed beside an entry could not be had.
    #[error("what is sealed beside entry {index}: {cause}")]
    Sealed {
        /// The entry.
        index: u64,
        /// Why.
        cause: FoldCause,
    },
}

/// What a snapshot says of itself, signed by the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    origin: String,
    size: u64,
    root: Digest,
    body: Digest,
    form: Digest,
}

impl Statement {
    fn text(&self) -> String {
        let Self {
            origin,
            size,
            root,
            body,
            form,
        } = self;
        format!("{TITLE}\n{origin}\n{size}\n{root}\n{body}\n{form}\n")
    }

    fn open(note: &str, verifier: &Verifier) -> Result<Self, NotTaken> {
        let note = Note::parse(note)?;
        note.verify(verifier)?;
        let mut lines = note.text().split('\n');
        let mut line = || lines.next().ok_or(NotTaken::Form);
        if line()? != TITLE {
            return Err(NotTaken::Form);
        }
        let origin = line()?.to_owned();
        let size = line()?.parse().map_err(|_| NotTaken::Form)?;
        let mut digest = || line()?.parse().map_err(|_| NotTaken::Form);
        let statement = Self {
            origin,
            size,
            root: digest()?,
            body: digest()?,
            form: digest()?,
        };
        // As it would be written, to the letter.
        if statement.text() != note.text() {
            return Err(NotTaken::Form);
        }
        if statement.origin != verifier.name() {
            return Err(NotTaken::Origin {
                found: statement.origin,
            });
        }
        Ok(statement)
    }
}

/// What a snapshot of this program is written as.
fn form() -> Digest {
    let mut shape = format!("{FOLD} {} ", env!("CARGO_PKG_VERSION"));
    State::shape(&mut shape);
    Digest::of(shape.as_bytes())
}

impl Snapshot {
    /// The bytes to be kept, signed by the log's key. `log` has at least the entries that it
    /// stands for.
    pub fn write(&self, log: &dyn LogReader, signer: &Signer) -> Result<Vec<u8>, NotTaken> {
        let body = self.body();
        let statement = Statement {
            origin: signer.name().to_owned(),
            size: self.size(),
            root: root(log, self.size())?,
            body: Digest::of(&body),
            form: form(),
        };
        let mut bytes = Note::sign(&statement.text(), signer)?
            .to_string()
            .into_bytes();
        bytes.push(END_OF_NOTE);
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }
}

fn root(log: &dyn LogReader, size: u64) -> Result<Digest, ProveError> {
    if size == 0 {
        return Ok(ledger::hash::empty());
    }
    proof::root(log, size)
}

/// The state that a snapshot stands for, if it is to be taken at all.
pub fn read(
    bytes: &[u8],
    verifier: &Verifier,
    log: &dyn LogReader,
    keyring: Option<&dyn Keyring>,
) -> Result<State, NotTaken> {
    let mut parts = bytes.splitn(2, |byte| *byte == END_OF_NOTE);
    let (Some(note), Some(body)) = (parts.next(), parts.next()) else {
        return Err(NotTaken::Form);
    };
    let note = std::str::from_utf8(note).map_err(|_| NotTaken::Form)?;
    let statement = Statement::open(note, verifier)?;
    if statement.form != form() {
        return Err(NotTaken::Version);
    }
    let size = statement.size;
    if size > log.size() {
        let log = log.size();
        return Err(NotTaken::Newer { size, log });
    }
    if Digest::of(body) != statement.body {
        return Err(NotTaken::Body);
    }
    if root(log, size)? != statement.root {
        return Err(NotTaken::History { size });
    }
    let state = State::restore(body, log, keyring)?;
    if state.size() != size {
        return Err(NotTaken::Malformed);
    }
    Ok(state)
}
