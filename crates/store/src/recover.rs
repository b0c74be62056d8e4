//! Opening a log: what is there, whether it is what was signed, and a clean start.
//!
//! The order, and what a crash after each step leaves:
//!
//! 1. Read the checkpoint, and the tree's edge before the first segment. A folder without either
//!    gets the checkpoint of the empty log. *That checkpoint.*
//! 2. Scan the segments; append every entry to the edge; where the tree has the checkpoint's size
//!    it must have its root, and it must come to have that size. *Nothing was changed.*
//! 3. Write every full tile and bundle again and flush them. *Tiles that were there already.*
//! 4. Copy the frames that are not all in full tiles into a new segment, durably. *The old
//!    segments and perhaps the new one, which has the same entries from its first index on.* This
//!    is what makes an entry durable that was written and not acknowledged, and it leaves behind
//!    whatever else is in the old segments: cut commits, failed ones, and pages that a failed
//!    flush left in memory only.
//! 5. Remove the old segments, oldest first. *Some of them; the new one takes over from each.*
//! 6. Write partial tiles, and the checkpoint if the log is longer than it. *See `publisher`.*

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ledger::note::{Note, Verifier};
use ledger::tile::{Edge, EdgeError};
use ledger::{Checkpoint, CheckpointError, Entry, LogReader, ReadError, hash};
use vocab::digest::Digest;
use vocab::time::Time;

use crate::OpenError;
use crate::disk::lock;
use crate::files::{self, BUNDLE, Folder, Prefer, Reader, Tail};
use crate::publisher::{PublishError, Publisher};
use crate::segment::{self, Blank, Frame, PREFIX_BYTES, Segment};

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many entries the log has.
    pub size: u64,
    /// How many the checkpoint spoke of.
    pub signed: u64,
    /// The last entry, if there is one.
    pub last: Option<LastEntry>,
    /// Commits that were cut short and never acknowledged: the segment, and the byte.
    pub cut: Vec<(String, u64)>,
}

/// What of the last entry matters to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEntry {
    /// Its time.
    pub time: Time,
    /// The epoch that wrote it.
    pub epoch: u64,
}

/// Frames of the segments in a folder, in order.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) next: u64,
    pub(crate) cut: Vec<(String, u64)>,
}

/// Reads every segment of a log and shows each entry that counts, from index `base` on.
pub(crate) fn scan(
    segments: Vec<Arc<Segment>>,
    base: u64,
    mut visit: impl FnMut(&[u8]),
) -> Result<Scanned, OpenError> {
    let mut scanned = Scanned {
        next: base,
        ..Scanned::default()
    };
    for (nth, segment) in segments.iter().enumerate() {
        // INVARIANT: a segment takes over, from its first index on, from every segment with a lower
        // number. One that is taken over from its own first index has nothing that counts.
        let later = segments.iter().skip(nth + 1).map(|segment| segment.first);
        let limit = later.min().unwrap_or(u64::MAX);
        if limit <= segment.first {
            continue;
        }
        if segment.first != scanned.next {
            return Err(OpenError::Gap {
                path: segment.path.clone(),
                first: segment.first,
                expected: scanned.next,
            });
        }
        let scan = segment
            .scan(limit, &mut visit)
            .map_err(|error| OpenError::segment(&segment.path, error))?;
        scanned.next = scan.next;
        scanned.frames.extend(scan.frames);
        if let Some(at) = scan.cut {
            scanned.cut.push((segment.path.display().to_string(), at));
        }
    }
    scanned.segments = segments;
    Ok(scanned)
}

/// Opens the segments of a log's folder, in order.
pub(crate) fn segments(
    folder: &Folder,
    owner: Option<Digest>,
) -> Result<Vec<Arc<Segment>>, OpenError> {
    let paths = segment::list(&folder.segments())
        .map_err(|source| OpenError::io("list", &folder.segments(), source))?;
    paths
        .iter()
        .map(|(_, path)| match Segment::open(path, owner) {
            Ok(segment) => Ok(Arc::new(segment)),
            Err(error) => Err(OpenError::segment(path, error)),
        })
        .collect()
}

/// Compares the tree with what was signed, as it grows past that size.
struct Signed<'a> {
    checkpoint: &'a Checkpoint,
    holds: bool,
}

impl Signed<'_> {
    fn compare(&mut self, edge: &Edge) {
        if edge.size() == self.checkpoint.size {
            self.holds = edge.root() == self.checkpoint.root;
        }
    }
}

impl Publisher {
    /// Brings a log's folder into order; see the module. The publisher is that of an empty tree.
    pub(crate) fn recover(&mut self) -> Result<(Recovery, Arc<Segment>, u64), OpenError> {
        let owner = Digest::of(self.signed_by.origin().as_bytes());
        let path = self.folder.path().to_owned();
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::io(what, &path, source)
        };
        let segments_path = self.folder.segments();
        self.disk
            .create_dir(&segments_path)
            .map_err(io("create", &segments_path))?;
        let segments = segments(&self.folder, Some(owner))?;
        let reader = Reader::new(self.folder.clone(), self.tail.clone(), Prefer::Segments);

        let mut unsigned = false;
        let checkpoint = match reader.checkpoint()? {
            Some(note) => {
                // A change of keys that a crash cut short: what signs now has yet to.
                if !self.signed_by.signed(&note) {
                    unsigned = true;
                }
                open_checkpoint(&note, &self.signed_by.verifiers(), &path)?
            }
            None if segments.is_empty() && !self.folder.path().join("tile").exists() => {
                self.write_checkpoint()
                    .map_err(|error| published(&path, error))?;
                Checkpoint {
                    origin: self.signed_by.origin().to_owned(),
                    size: 0,
                    root: hash::empty(),
                }
            }
            None => return Err(OpenError::Unsigned { path }),
        };
        let base = segments
            .iter()
            .map(|segment| segment.first)
            .min()
            .unwrap_or(0);
        let truncated = |size, missing| OpenError::Truncated {
            path: path.clone(),
            size,
            signed: checkpoint.size,
            missing,
        };
        let load = |size| match Edge::load(size, |tile| reader.read_settled_tile(tile)) {
            Ok(edge) => Ok(edge),
            Err(EdgeError::Read(ReadError::Absent { what })) => Err(truncated(size, Some(what))),
            Err(EdgeError::Read(error)) => Err(OpenError::Read(error)),
            Err(EdgeError::Length { .. }) => Err(truncated(size, None)),
        };
        let mut signed = Signed {
            checkpoint: &checkpoint,
            holds: false,
        };
        if checkpoint.size < base {
            signed.compare(&load(checkpoint.size)?);
        }
        self.edge = load(base)?;
        // The segments before the first were removed when these bundles, and the hash tiles over
        // them, were durable. They are not written again: until its flush, what took the place of a
        // durable file would be no longer durable.
        self.bundles = base.div_ceil(BUNDLE);
        let settled = self.bundles * BUNDLE;
        self.published = checkpoint.size;
        signed.compare(&self.edge);
        let mut last = Vec::new();
        let scanned = scan(segments, base, |entry| {
            self.append(hash::leaf(entry));
            signed.compare(&self.edge);
            last.clear();
            last.extend_from_slice(entry);
        })?;
        let size = scanned.next;
        if size < checkpoint.size || size < settled {
            return Err(truncated(size, None));
        }
        if !signed.holds {
            return Err(OpenError::Diverged {
                path,
                signed: checkpoint.size,
            });
        }
        if last.is_empty() && size > 0 {
            last = reader.entry(size - 1)?;
        }
        let last = last_entry(&last, size)?;

        self.full.retain(|(tile, _)| files::end(*tile) > settled);
        lock(&self.tail).frames = scanned.frames.iter().cloned().collect();
        self.write_full().map_err(|error| published(&path, error))?;
        self.settle().map_err(io("flush the tiles of", &path))?;

        let (segment, at) = self
            .renew(&scanned, owner)
            .map_err(io("renew", &segments_path))?;
        for old in &scanned.segments {
            self.disk
                .remove(&old.path)
                .map_err(io("remove", &old.path))?;
            self.disk
                .sync_dir(&segments_path)
                .map_err(io("flush", &segments_path))?;
        }
        self.spares.clear().map_err(io("clear", &segments_path))?;

        if size == checkpoint.size {
            self.write_partial()
                .map_err(|error| published(&path, error))?;
        }
        self.publish().map_err(|error| published(&path, error))?;
        if unsigned && size == checkpoint.size {
            self.write_checkpoint()
                .map_err(|error| published(&path, error))?;
        }
        let recovery = Recovery {
            size,
            signed: checkpoint.size,
            last,
            cut: scanned.cut,
        };
        Ok((recovery, segment, at))
    }

    /// Copies what is not all in full bundles into a new segment, and makes it the tail.
    fn renew(&self, scanned: &Scanned, owner: Digest) -> io::Result<(Arc<Segment>, u64)> {
        let in_bundles = scanned.next / BUNDLE * BUNDLE;
        let kept: Vec<&Frame> = scanned
            .frames
            .iter()
            .filter(|frame| frame.end() > in_bundles)
            .collect();
        let first = kept.first().map_or(scanned.next, |frame| frame.first);
        let mut bytes = PREFIX_BYTES + self.segment_bytes;
        for frame in &kept {
            bytes += frame.extent()?;
        }
        let path = self.folder.segments().join("next");
        let blank = Blank::make(&self.disk, path, bytes)?;
        let number = scanned.segments.last().map_or(1, |last| last.number + 1);
        let frames = kept.iter().map(|frame| Ok((frame.first, frame.items()?)));
        let folder = self.folder.segments();
        let (segment, frames, at) =
            Segment::begin(&self.disk, &folder, blank, owner, number, first, frames)?;
        *lock(&self.tail) = Tail {
            segments: VecDeque::from([segment.clone()]),
            frames: frames.into(),
            size: scanned.next,
            leaves: Vec::new(),
        };
        Ok((segment, at))
    }
}

fn open_checkpoint(
    note: &str,
    verifiers: &[Verifier],
    path: &Path,
) -> Result<Checkpoint, OpenError> {
    let note = Note::parse(note).map_err(CheckpointError::from);
    let opened = note.and_then(|note| Checkpoint::of_note_by(&note, verifiers));
    opened.map_err(|source| OpenError::Checkpoint {
        path: path.to_owned(),
        source,
    })
}

fn published(path: &Path, error: PublishError) -> OpenError {
    match error {
        PublishError::Io(source) => OpenError::io("write the tiles of", path, source),
        PublishError::Sign(source) => OpenError::Checkpoint {
            path: path.to_owned(),
            source,
        },
        PublishError::Read(source) => OpenError::Read(source),
        PublishError::Lost(index) => OpenError::Read(ReadError::Absent {
            what: format!("entry {index}"),
        }),
    }
}

pub(crate) fn last_entry(bytes: &[u8], size: u64) -> Result<Option<LastEntry>, OpenError> {
    let Some(index) = size.checked_sub(1) else {
        return Ok(None);
    };
    let entry = Entry::parse(bytes).map_err(|source| OpenError::Entry { index, source })?;
    Ok(Some(LastEntry {
        time: entry.time,
        epoch: entry.epoch,
    }))
}
