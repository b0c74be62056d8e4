//! Reading a log's folder without its lock: of a running node, of one that was killed, or of a
//! copy.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ledger::note::Note;
use ledger::tile::{self, Tile};
use ledger::{Checkpoint, LogReader, ReadError};
use vocab::digest::Digest;
use vocab::id::LogName;

use crate::OpenError;
use crate::files::{Folder, Prefer, Reader, Tail};
use crate::recover::{self, LastEntry};

/// How often a folder is read again because its segments changed underneath.
const ATTEMPTS: u32 = 16;

/// A log as its folder has it at the moment of opening. Nothing is written, and no signature is
/// checked: that is for who verifies it.
///
/// What a checkpoint covers is read from tiles, as everyone else sees it; what is newer, from the
/// segments. A copy without segments can be read too, up to its checkpoint.
///
/// Tiles at the edge of a log are not flushed when they are published, because a start makes them
/// again from the segments. After a power cut some may be damaged until the node was started once.
#[derive(Debug)]
pub struct OfflineLog {
    reader: Reader,
    checkpoint: Option<String>,
    size: u64,
}

impl OfflineLog {
    /// Reads the log `name` of the data folder `dir`.
    pub fn open(dir: &Path, name: LogName) -> Result<Self, OpenError> {
        let folder = Folder::new(dir.join(name.as_str()));
        if !folder.path().is_dir() {
            return Err(OpenError::Absent {
                path: folder.path().to_owned(),
            });
        }
        let mut attempt = 1;
        loop {
            match Self::read(&folder) {
                // A node may remove a segment, which is in tiles then, or write a frame just now.
                Err(OpenError::Io { .. } | OpenError::Gap { .. } | OpenError::Damaged { .. })
                    if attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn read(folder: &Folder) -> Result<Self, OpenError> {
        let tail = Arc::new(Mutex::new(Tail::default()));
        // The checkpoint first: what it covers was in tiles or segments before it was there.
        let note = Reader::new(folder.clone(), tail, Prefer::Segments).checkpoint()?;
        let claimed = claimed(note.as_deref());
        let owner = claimed
            .as_ref()
            .map(|checkpoint| Digest::of(checkpoint.origin.as_bytes()));
        let signed = claimed.map_or(0, |checkpoint| checkpoint.size);
        let segments = recover::segments(folder, owner)?;
        let base = segments.iter().map(|segment| segment.first).min();
        let scanned = recover::scan(segments, base.unwrap_or(signed), |_| {})?;
        let size = scanned.next;
        let tail = Tail {
            segments: VecDeque::new(),
            frames: scanned.frames.into(),
            size,
            leaves: Vec::new(),
        };
        Ok(Self {
            reader: Reader::new(
                folder.clone(),
                Arc::new(Mutex::new(tail)),
                Prefer::TilesBelow(signed),
            ),
            checkpoint: note,
            size,
        })
    }
}

/// What a checkpoint says, whoever signed it.
fn claimed(note: Option<&str>) -> Option<Checkpoint> {
    let note = Note::parse(note?).ok()?;
    note.text().parse().ok()
}

impl OfflineLog {
    /// The files that whoever reads the log by its tiles needs, up to its checkpoint, and that are
    /// not there. What can be computed from other files is read as if they were.
    pub fn missing(&self) -> Result<Vec<Tile>, ReadError> {
        let signed = claimed(self.checkpoint.as_deref()).map_or(0, |checkpoint| checkpoint.size);
        let mut missing = Vec::new();
        for tile in tile::hash_tiles(0, signed).chain(tile::bundles(0, signed)) {
            let there = self.reader.has_file(tile);
            let there = there.map_err(|error| ReadError::Unreadable {
                what: tile.to_string(),
                cause: error.to_string(),
            })?;
            if !there {
                missing.push(tile);
            }
        }
        Ok(missing)
    }

    /// The time and epoch of the last entry; none if the log is empty. The next start is a later
    /// epoch than both logs' last.
    pub fn last(&self) -> Result<Option<LastEntry>, OpenError> {
        match self.size.checked_sub(1) {
            Some(index) => recover::last_entry(&self.reader.entry(index)?, self.size),
            None => Ok(None),
        }
    }
}

impl LogReader for OfflineLog {
    fn size(&self) -> u64 {
        self.size
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        self.reader.entry(index)
    }

    fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.reader.sealed(index)
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        Ok(self.checkpoint.clone())
    }

    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError> {
        self.reader.hash_tile(level, n, width)
    }
}

#[cfg(test)]
mod tests;
