//! Verifying a whole log: every entry read, every hash made again, every tile compared, and the
//! root held against what was signed.
//!
//! A check that cannot be made is a fault, not a check that is left out.

use std::collections::BTreeMap;

use serde::Serialize;
use vocab::digest::Digest;
use vocab::id::{LogName, TrustDomain};
use vocab::time::Time;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::entry::{Entry, EntryError, Kind};
use crate::hash;
use crate::keys::LogKeys;
use crate::log::{LogReader, ReadError};
use crate::note::{Note, NoteError};
use crate::tile::{Edge, HASH_BYTES, Level, Tile, WIDTH};

/// Most faults that are told one by one; all are counted.
pub const FAULTS_TOLD_MAX: usize = 100;

/// What a log must turn out to be.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Which of the two logs.
    pub log: LogName,
    /// Its keys.
    pub keys: &'a LogKeys,
    /// What was said of it before or elsewhere, in any order: it must be a continuation of each.
    pub known: &'a [Known],
}

/// A checkpoint that was seen before or elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where: a file, or an entry of the other log.
    pub by: String,
    /// The checkpoint. Whoever knows it has checked its signature, if it has one.
    pub checkpoint: Checkpoint,
}

/// What was found in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which of the two logs.
    pub log: LogName,
    /// Its origin.
    pub origin: String,
    /// The size of its checkpoint.
    pub signed: u64,
    /// The root of the tree over the signed entries, as made again from them.
    pub root: Digest,
    /// Entries after the signed ones: durable, and read here, but nothing signed vouches for them
    /// yet.
    pub tail: u64,
    /// When the first entry was sequenced.
    pub first: Option<Time>,
    /// When the last entry was.
    pub last: Option<Time>,
    /// The epoch of the last entry.
    pub epoch: u64,
    /// How many entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
}

/// A log that is not what it must be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the log is not sound: {count} faults")]
pub struct Unsound {
    /// What could be found in spite of them.
    pub report: Report,
    /// How many faults.
    pub count: u64,
    /// The first of them, at least one.
    pub faults: Vec<Fault>,
}

/// One way in which a log is not what it must be.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Fault {
    /// The checkpoint could not be read.
    #[error("the checkpoint could not be read: {0}")]
    CheckpointUnreadable(ReadError),
    /// There is no checkpoint, so nothing vouches for anything.
    #[error("there is no checkpoint")]
    CheckpointAbsent,
    /// The checkpoint is not one of this log.
    #[error("the checkpoint is not valid: {0}")]
    CheckpointInvalid(CheckpointError),
    /// The key that was given is not the one that signs this log, so nothing could be checked.
    #[error("the key given is `{given}`, but this log is signed by {signed}; give it its own key")]
    OtherKey {
        /// The key that was given.
        given: String,
        /// The keys that signed the checkpoint.
        signed: String,
    },
    /// There are fewer entries than were signed.
    #[error("the log has {size} entries, but {signed} were signed")]
    Truncated {
        /// How many there are.
        size: u64,
        /// How many were signed.
        signed: u64,
    },
    /// An entry could not be read; it and what follows it could not be checked.
    #[error("entry {index}, in `{}`, could not be read: {cause}", Tile::of_entry(*index))]
    EntryUnreadable {
        /// The entry.
        index: u64,
        /// Why.
        cause: ReadError,
    },
    /// The bytes are not an entry.
    #[error("entry {index}, in `{}`: {cause}", Tile::of_entry(*index))]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        cause: EntryError,
    },
    /// An entry of a kind that belongs to the other log.
    #[error("entry {index} is of kind `{kind}`, which does not belong here")]
    WrongLog {
        /// The entry.
        index: u64,
        /// Its kind.
        kind: Kind,
    },
    /// An entry that names another key than this log's.
    #[error("entry {index} was written for the key `{found}`")]
    Key {
        /// The entry.
        index: u64,
        /// The key it names.
        found: String,
    },
    /// An entry of another trust domain than the first one's.
    #[error("entry {index} is of the trust domain `{found}`")]
    TrustDomain {
        /// The entry.
        index: u64,
        /// The trust domain it names.
        found: TrustDomain,
    },
    /// An entry is earlier than the one before it.
    #[error("entry {index} is of {time}, but the one before it of {before}")]
    Time {
        /// The entry.
        index: u64,
        /// Its time.
        time: Time,
        /// The time of the one before.
        before: Time,
    },
    /// An entry is of an earlier epoch than the one before it.
    #[error("entry {index} is of epoch {epoch}, but the one before it of {before}")]
    Epoch {
        /// The entry.
        index: u64,
        /// Its epoch.
        epoch: u64,
        /// The epoch of the one before.
        before: u64,
    },
    /// A hash tile could not be read.
    #[error("`{tile}` could not be read: {cause}")]
    TileUnreadable {
        /// The tile.
        tile: Tile,
        /// Why.
        cause: ReadError,
    },
    /// A hash tile is not that of the entries.
    #[error("{}", differs(*tile, *at))]
    Tile {
        /// The tile.
        tile: Tile,
        /// The first hash in it that differs, or its length in hashes if it is too short.
        at: usize,
    },
    /// The root over the entries is not the one that was signed.
    #[error("the root over {size} entries is {found}, but {signed} was signed")]
    Root {
        /// How many entries.
        size: u64,
        /// The root over them.
        found: Digest,
        /// What was signed.
        signed: Digest,
    },
    /// A known checkpoint is of another log.
    #[error("{by} knows it as `{found}`")]
    KnownOrigin {
        /// Who knows it.
        by: String,
        /// The origin that it names.
        found: String,
    },
    /// A known checkpoint covers more than there is: the log was set back.
    #[error("{by} knows of {known} entries, but there are {size}: the log was set back")]
    SetBack {
        /// Who knows it.
        by: String,
        /// How many entries the known checkpoint covers.
        known: u64,
        /// How many there are.
        size: u64,
    },
    /// The root over the entries is not that of a known checkpoint: history was rewritten.
    #[error("the root over {size} entries is {found}, but {by} knows it as {known}")]
    Rewritten {
        /// Who knows it.
        by: String,
        /// How many entries.
        size: u64,
        /// The root over them.
        found: Digest,
        /// The root in the known checkpoint.
        known: Digest,
    },
}

/// A hash at the lowest level that does not fit says that it was changed, or its entry.
fn differs(tile: Tile, at: usize) -> String {
    match tile.level {
        Level::Hashes(0) => {
            let first = tile.n * u64::from(WIDTH);
            let index = u64::try_from(at).map_or(first, |at| first + at);
            format!(
                "entry {index} is not what was hashed: `{}` or `{tile}` was changed",
                Tile::of_entry(index)
            )
        }
        Level::Hashes(_) | Level::Entries => {
            format!("`{tile}` is not that of the entries (hash {at} of it)")
        }
    }
}

/// Verifies a log from its first entry to its last.
pub fn verify(reader: &dyn LogReader, expected: Expected<'_>) -> Result<Report, Box<Unsound>> {
    let mut faults = Faults::default();
    let signed = match reader.checkpoint() {
        Ok(Some(note)) => match expected.keys.open(&note) {
            Ok(checkpoint) => Some(checkpoint),
            Err(CheckpointError::Note(NoteError::Unsigned { key })) => {
                faults.add(Fault::OtherKey {
                    given: key,
                    signed: signers(&note),
                });
                return Err(faults.of(Report::nothing(expected)));
            }
            Err(cause) => {
                faults.add(Fault::CheckpointInvalid(cause));
                None
            }
        },
        Ok(None) => {
            faults.add(Fault::CheckpointAbsent);
            None
        }
        Err(cause) => {
            faults.add(Fault::CheckpointUnreadable(cause));
            None
        }
    };
    let signed_size = signed.as_ref().map_or(0, |checkpoint| checkpoint.size);
    let size = reader.size();
    if size < signed_size {
        faults.add(Fault::Truncated {
            size,
            signed: signed_size,
        });
    }
    let mut roots = Roots::new(signed.as_ref(), size, expected, &mut faults);
    let mut walk = Walk::new(expected);
    let mut tree = Edge::new();
    let mut report_root = hash::empty();
    roots.compare(&tree, &mut faults);
    for index in 0..size {
        let bytes = match reader.entry(index) {
            Ok(bytes) => bytes,
            Err(cause) => {
                faults.add(Fault::EntryUnreadable { index, cause });
                break;
            }
        };
        walk.entry(index, &bytes, &mut faults);
        tree.append(hash::leaf(&bytes), |tile, bytes| {
            if index < signed_size {
                compare_tile(reader, tile, bytes, &mut faults);
            }
        });
        roots.compare(&tree, &mut faults);
        if index + 1 == signed_size {
            report_root = tree.root();
            for (tile, bytes) in tree.partial_tiles() {
                compare_tile(reader, tile, bytes, &mut faults);
            }
        }
    }
    // INVARIANT: every root that was asked for has been compared, or there is a fault that says
    // why the entries do not reach so far.
    if !roots.waiting.is_empty() && faults.count == 0 {
        faults.add(Fault::Truncated {
            size: tree.size(),
            signed: signed_size,
        });
    }
    let report = Report {
        log: expected.log,
        origin: expected.keys.origin().to_owned(),
        signed: signed_size,
        root: report_root,
        tail: tree.size().saturating_sub(signed_size),
        first: walk.first,
        last: walk.last.as_ref().map(|(time, _)| *time),
        epoch: walk.last.map_or(0, |(_, epoch)| epoch),
        kinds: walk.kinds,
    };
    if faults.count == 0 {
        Ok(report)
    } else {
        Err(faults.of(report))
    }
}

/// Who, it says, signed a note.
fn signers(note: &str) -> String {
    let note = Note::parse(note);
    let names: Vec<String> = note
        .iter()
        .flat_map(Note::signatures)
        .map(|it| format!("`{}+{}`", it.name(), it.id()))
        .collect();
    names.join(" and ")
}

impl Report {
    /// Of a log that was not looked into.
    fn nothing(expected: Expected<'_>) -> Self {
        Self {
            log: expected.log,
            origin: expected.keys.origin().to_owned(),
            signed: 0,
            root: hash::empty(),
            tail: 0,
            first: None,
            last: None,
            epoch: 0,
            kinds: BTreeMap::new(),
        }
    }
}

#[derive(Default)]
struct Faults {
    count: u64,
    told: Vec<Fault>,
}

impl Faults {
    fn of(self, report: Report) -> Box<Unsound> {
        Box::new(Unsound {
            report,
            count: self.count,
            faults: self.told,
        })
    }

    fn add(&mut self, fault: Fault) {
        self.count += 1;
        if self.told.len() < FAULTS_TOLD_MAX {
            self.told.push(fault);
        }
    }
}

/// The roots that the tree must have on its way, by size, the next one last.
struct Roots<'a> {
    waiting: Vec<(u64, Digest, Source<'a>)>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Signed,
    Known(&'a str),
}

impl<'a> Roots<'a> {
    fn new(
        signed: Option<&Checkpoint>,
        size: u64,
        expected: Expected<'a>,
        faults: &mut Faults,
    ) -> Self {
        let mut waiting: Vec<_> = signed
            .map(|checkpoint| (checkpoint.size, checkpoint.root, Source::Signed))
            .into_iter()
            .collect();
        for Known { by, checkpoint } in expected.known {
            if checkpoint.origin != expected.keys.origin() {
                faults.add(Fault::KnownOrigin {
                    by: by.clone(),
                    found: checkpoint.origin.clone(),
                });
            } else if checkpoint.size > size {
                faults.add(Fault::SetBack {
                    by: by.clone(),
                    known: checkpoint.size,
                    size,
                });
            } else {
                waiting.push((checkpoint.size, checkpoint.root, Source::Known(by)));
            }
        }
        waiting.sort_by_key(|(size, ..)| std::cmp::Reverse(*size));
        Self { waiting }
    }

    fn compare(&mut self, tree: &Edge, faults: &mut Faults) {
        let size = tree.size();
        while let Some((_, root, source)) = self.waiting.pop_if(|(at, ..)| *at == size) {
            let found = tree.root();
            if found == root {
                continue;
            }
            faults.add(match source {
                Source::Signed => Fault::Root {
                    size,
                    found,
                    signed: root,
                },
                Source::Known(by) => Fault::Rewritten {
                    by: by.to_owned(),
                    size,
                    found,
                    known: root,
                },
            });
        }
    }
}

fn compare_tile(reader: &dyn LogReader, tile: Tile, expected: &[u8], faults: &mut Faults) {
    let Level::Hashes(level) = tile.level else {
        return;
    };
    match reader.hash_tile(level, tile.n, tile.width) {
        Ok(found) if found == expected => {}
        Ok(found) => {
            let at = found
                .chunks(HASH_BYTES)
                .zip(expected.chunks(HASH_BYTES))
                .take_while(|(found, expected)| found == expected)
                .count();
            faults.add(Fault::Tile { tile, at });
        }
        Err(cause) => faults.add(Fault::TileUnreadable { tile, cause }),
    }
}

/// What must hold from entry to entry.
struct Walk<'a> {
    log: LogName,
    keys: &'a LogKeys,
    trust_domain: Option<TrustDomain>,
    first: Option<Time>,
    last: Option<(Time, u64)>,
    kinds: BTreeMap<&'static str, u64>,
}

impl<'a> Walk<'a> {
    fn new(expected: Expected<'a>) -> Self {
        Self {
            log: expected.log,
            keys: expected.keys,
            trust_domain: None,
            first: None,
            last: None,
            kinds: BTreeMap::new(),
        }
    }

    fn entry(&mut self, index: u64, bytes: &[u8], faults: &mut Faults) {
        let entry = match Entry::parse(bytes) {
            Ok(entry) => entry,
            Err(cause) => return faults.add(Fault::Entry { index, cause }),
        };
        *self.kinds.entry(entry.kind.as_str()).or_default() += 1;
        if entry.kind.log() != self.log {
            faults.add(Fault::WrongLog {
                index,
                kind: entry.kind,
            });
        }
        if !self.keys.has_name(&entry.key) {
            faults.add(Fault::Key {
                index,
                found: entry.key.into_owned(),
            });
        }
        let trust_domain = self
            .trust_domain
            .get_or_insert_with(|| entry.trust_domain.clone());
        if entry.trust_domain != *trust_domain {
            faults.add(Fault::TrustDomain {
                index,
                found: entry.trust_domain,
            });
        }
        if let Some((before, epoch)) = self.last {
            if entry.time < before {
                faults.add(Fault::Time {
                    index,
                    time: entry.time,
                    before,
                });
            }
            if entry.epoch < epoch {
                faults.add(Fault::Epoch {
                    index,
                    epoch: entry.epoch,
                    before: epoch,
                });
            }
        }
        self.first.get_or_insert(entry.time);
        // The latest so far, so that one that went back is one fault and hides no other.
        let (time, epoch) = self.last.unwrap_or((entry.time, entry.epoch));
        self.last = Some((time.max(entry.time), epoch.max(entry.epoch)));
    }
}

#[cfg(test)]
mod tests;
