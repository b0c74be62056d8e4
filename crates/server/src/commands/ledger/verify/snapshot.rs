//! The register's snapshot: whether it is what the control log adds up to.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use ledger::LogReader;
use ledger::note::Verifier;
use register::{FoldError, NotTaken, State};
use serde::Serialize;

use crate::node::snapshot;
use crate::output;

/// What the snapshot came to, if there is one.
#[derive(Debug, Serialize)]
pub struct SnapshotCheck {
    /// How many entries it stands for; none if a start would not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why a start would not take it. That harms nothing: it folds the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_taken: Option<String>,
    /// What is wrong: a start would take it, and it is not what the log adds up to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Folds a control log, and holds the snapshot of its data folder against it on the way. Without a
/// keyring: nobody is named in either.
pub(super) fn fold(
    data: &Path,
    verifier: Option<&Verifier>,
    log: &dyn LogReader,
) -> (Result<(), FoldError>, Option<SnapshotCheck>) {
    let kept = verifier.and_then(|verifier| read(data, verifier, log));
    let mut state = State::default();
    let mut folded = Ok(());
    let check = kept.map(|kept| match kept {
        Err(why) => SnapshotCheck {
            size: None,
            not_taken: Some(why),
            error: None,
        },
        Ok(kept) => {
            folded = register::fold_on(&mut state, log, None, kept.size());
            let differs = (folded.is_ok() && state != kept).then(|| {
                "it is signed, and not what the control log adds up to: delete it, and find out \
                 how it came to be; a node that started from it had another register than its log"
                    .to_owned()
            });
            SnapshotCheck {
                size: Some(kept.size()),
                not_taken: None,
                error: differs,
            }
        }
    });
    let folded = folded.and_then(|()| register::fold_on(&mut state, log, None, log.size()));
    (folded, check)
}

fn read(data: &Path, verifier: &Verifier, log: &dyn LogReader) -> Option<Result<State, String>> {
    let bytes = match fs::read(snapshot::path(data)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(Err(error.to_string())),
    };
    let kept = register::snapshot::read(&bytes, verifier, log, None);
    Some(kept.map_err(|why: NotTaken| why.to_string()))
}

impl SnapshotCheck {
    pub(super) fn tell(&self, text: &mut String) {
        let told = match (&self.error, &self.not_taken, self.size) {
            (Some(error), ..) => format!("WRONG: {error}"),
            (None, Some(why), _) => format!("a start folds the whole log instead: {why}"),
            (None, None, size) => format!(
                "the same as the fold of the first {}",
                output::count(size.unwrap_or(0), "entry", "entries")
            ),
        };
        let _infallible = writeln!(text, "snapshot: {}", output::clean(&told));
    }
}
