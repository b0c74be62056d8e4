//! A log's folder: where things stand in it, and reading them.
//!
//! ```text
//! checkpoint                        the latest checkpoint, a signed note
//! tile/<L>/<N>[.p/<W>]              hash tiles      } C2SP tlog-tiles
//! tile/entries/<N>[.p/<W>]          entry bundles   }
//! sealed/<N>                        what was sealed with the entries of a full bundle
//! segments/<number>.seg             entries of the last while, see `segment`
//! ```
//!
//! Segments come first and tiles are made of them, so where both have an entry a live log believes
//! the segment. A tile that a crash lost is computed from what lies below it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ledger::tile::{self, HASH_BYTES, Level, Tile, WIDTH};
use ledger::tree::Frontier;
use ledger::{LogReader, ReadError, hash};
use vocab::digest::Digest;
use vocab::limits::SEALED_BYTES_MAX;

use crate::disk::{self, lock};
use crate::segment::{Frame, Segment};

/// [`WIDTH`] as a count of entries.
pub(crate) const BUNDLE: u64 = WIDTH as u64;

const SEALED_TABLE_BYTES: usize = 4 * WIDTH as usize;
const NOT_SEALED: u32 = u32::MAX;

/// The folder of one log.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.0.join("checkpoint")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.0.join("segments")
    }

    pub(crate) fn tile(&self, tile: Tile) -> PathBuf {
        self.0.join(tile.to_string())
    }

    /// The folder that the partial forms of a full tile lie in.
    pub(crate) fn partials(&self, tile: Tile) -> PathBuf {
        let mut path = self.tile(tile.full()).into_os_string();
        path.push(".p");
        path.into()
    }

    pub(crate) fn sealed(&self, n: u64) -> PathBuf {
        let path = bundle(n).to_string();
        let number = path.strip_prefix("tile/entries/").unwrap_or(&path);
        self.0.join("sealed").join(number)
    }
}

/// The full bundle with number `n`.
pub(crate) const fn bundle(n: u64) -> Tile {
    Tile {
        level: Level::Entries,
        n,
        width: WIDTH,
    }
}

/// The index after the last entry that a full tile is over.
pub(crate) const fn end(tile: Tile) -> u64 {
    let height = match tile.level {
        Level::Entries => tile::HEIGHT,
        Level::Hashes(level) => (level as u32 + 1) * tile::HEIGHT,
    };
    match 1_u64.checked_shl(height) {
        Some(entries) => (tile.n + 1).saturating_mul(entries),
        None => u64::MAX,
    }
}

/// The start of a file of sealed parts: the length of each, so that one is read without the rest.
pub(crate) fn sealed_table(lengths: &[Option<usize>]) -> Vec<u8> {
    let mut table = Vec::with_capacity(SEALED_TABLE_BYTES);
    for length in lengths {
        let length = length.and_then(|length| u32::try_from(length).ok());
        table.extend_from_slice(&length.unwrap_or(NOT_SEALED).to_le_bytes());
    }
    table
}

fn read_sealed(path: &Path, nth: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        // None of the bundle's entries had anything sealed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut table = [0; SEALED_TABLE_BYTES];
    file.read_exact_at(&mut table, 0)?;
    let lengths = table
        .as_chunks()
        .0
        .iter()
        .map(|row| u32::from_le_bytes(*row));
    let mut at = SEALED_TABLE_BYTES as u64;
    for (row, length) in lengths.enumerate() {
        if row == nth {
            if length == NOT_SEALED {
                return Ok(None);
            }
            if length as usize > SEALED_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, at)?;
            return Ok(Some(bytes));
        }
        at += if length == NOT_SEALED {
            0
        } else {
            u64::from(length)
        };
    }
    Ok(None)
}

/// The durable entries that may not be in tiles yet.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Segments in use, oldest first; the last is the writer's.
    pub(crate) segments: VecDeque<Arc<Segment>>,
    /// Their frames, in order and without a gap.
    pub(crate) frames: VecDeque<Frame>,
    /// How many entries the log has.
    pub(crate) size: u64,
    /// Leaf hashes of the last of them, for the publisher to take.
    pub(crate) leaves: Vec<Digest>,
}

impl Tail {
    /// The frame that holds an entry.
    pub(crate) fn frame(&self, index: u64) -> Option<&Frame> {
        let after = self.frames.partition_point(|frame| frame.first <= index);
        self.frames
            .get(after.checked_sub(1)?)
            .filter(|frame| index < frame.end())
    }
}

/// Which to believe where segments and tiles both have an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// Segments: for the node, which wrote them and makes the tiles from them.
    Segments,
    /// Tiles, below this size: for a verifier, who judges what others are shown.
    TilesBelow(u64),
}

/// Reads a log's folder, and the tail of its segments.
#[derive(Debug)]
pub(crate) struct Reader {
    folder: Folder,
    tail: Arc<Mutex<Tail>>,
    prefer: Prefer,
    /// The run of entries read last, for whoever reads them one after the other.
    run: Mutex<Run>,
}

#[derive(Debug, Default)]
struct Run {
    first: u64,
    entries: Vec<Vec<u8>>,
}

impl Run {
    fn get(&self, index: u64) -> Option<&Vec<u8>> {
        let nth = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.entries.get(nth)
    }
}

impl Reader {
    pub(crate) fn new(folder: Folder, tail: Arc<Mutex<Tail>>, prefer: Prefer) -> Self {
        Self {
            folder,
            tail,
            prefer,
            run: Mutex::default(),
        }
    }

    fn run_of(&self, index: u64) -> Result<Run, ReadError> {
        let tiles_first = match self.prefer {
            Prefer::Segments => false,
            Prefer::TilesBelow(size) => index < size,
        };
        let found = if tiles_first {
            match self.run_in_tiles(index)? {
                None => self.run_in_tail(index)?,
                found => found,
            }
        } else {
            match self.run_in_tail(index)? {
                None => self.run_in_tiles(index)?,
                found => found,
            }
        };
        found.ok_or_else(|| absent(entry_name(index)))
    }

    fn run_in_tail(&self, index: u64) -> Result<Option<Run>, ReadError> {
        let Some(frame) = lock(&self.tail).frame(index).cloned() else {
            return Ok(None);
        };
        let entries = frame
            .entries()
            .map_err(|error| unreadable(entry_name(index), &error))?;
        Ok(Some(Run {
            first: frame.first,
            entries,
        }))
    }

    fn run_in_tiles(&self, index: u64) -> Result<Option<Run>, ReadError> {
        let full = bundle(index / BUNDLE);
        let mut candidates = vec![full];
        let partials = disk::names(&self.folder.partials(full));
        let mut widths: Vec<u16> = partials
            .map_err(|error| unreadable(full.to_string(), &error))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|width| *width < WIDTH && u64::from(*width) > index % BUNDLE)
            .collect();
        widths.sort_unstable_by(|left, right| right.cmp(left));
        candidates.extend(widths.into_iter().map(|width| Tile { width, ..full }));
        for tile in candidates {
            let bytes = disk::read(&self.folder.tile(tile))
                .map_err(|error| unreadable(tile.to_string(), &error))?
                .unwrap_or_default();
            // A crash can leave a tile without its bytes; its entries are still in a segment.
            if bytes.is_empty() {
                continue;
            }
            let entries = tile::entries(&bytes)
                .filter(|entries| entries.len() == usize::from(tile.width))
                .ok_or_else(|| ReadError::Damaged {
                    what: tile.to_string(),
                    cause: format!("its bytes are not those of {} entries", tile.width),
                })?;
            // A verifier makes every hash again; a node must not take for true what was changed
            // since it was hashed.
            if self.prefer == Prefer::Segments && tile.is_full() {
                self.check_bundle(tile, &entries)?;
            }
            return Ok(Some(Run {
                first: tile.n * BUNDLE,
                entries: entries.into_iter().map(<[u8]>::to_vec).collect(),
            }));
        }
        Ok(None)
    }

    /// Holds a bundle against the hashes of its entries, if these are in their tile already.
    fn check_bundle(&self, bundle: Tile, entries: &[&[u8]]) -> Result<(), ReadError> {
        let hashed = Tile {
            level: Level::Hashes(0),
            ..bundle
        };
        let hashes = self.stored_tile(hashed)?;
        let hashes = hashes.as_deref().and_then(tile::hashes).unwrap_or_default();
        let mut pairs = (bundle.n * BUNDLE..).zip(entries.iter().zip(hashes));
        match pairs.find(|(_, (entry, leaf))| hash::leaf(entry) != *leaf) {
            None => Ok(()),
            Some((index, _)) => Err(ReadError::Damaged {
                what: format!("entry {index}, in `{bundle}`,"),
                cause: format!(
                    "its hash is not the one in `{hashed}`; `tipstaff ledger verify` says which of \
                     the two was changed"
                ),
            }),
        }
    }

    /// Whether a file that readers of tiles need is there: a tile, or the full one it became.
    pub(crate) fn has_file(&self, tile: Tile) -> io::Result<bool> {
        // The full one twice: it may take the place of the partial one just now.
        for path in [tile, tile.full(), tile, tile.full()] {
            match std::fs::metadata(self.folder.tile(path)) {
                Ok(found) if found.len() > 0 => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Computes a hash tile from what lies below it, whatever its file says.
    pub(crate) fn remake(&self, tile: Tile) -> Result<Vec<u8>, ReadError> {
        match tile.level {
            Level::Hashes(level) => self.compute_tile(level, tile),
            Level::Entries => Err(absent(tile.to_string())),
        }
    }

    /// A hash tile from its file; none if it is not there or a crash left it without its bytes.
    fn stored_tile(&self, tile: Tile) -> Result<Option<Vec<u8>>, ReadError> {
        let bytes = disk::read(&self.folder.tile(tile))
            .map_err(|error| unreadable(tile.to_string(), &error))?;
        match bytes {
            None => Ok(None),
            Some(bytes) if bytes.is_empty() => Ok(None),
            Some(bytes) if bytes.len() == usize::from(tile.width) * HASH_BYTES => Ok(Some(bytes)),
            Some(bytes) => Err(ReadError::Damaged {
                what: tile.to_string(),
                cause: format!("it has {} bytes", bytes.len()),
            }),
        }
    }

    /// Reads a hash tile, or computes it from what lies below it.
    pub(crate) fn read_tile(&self, wanted: Tile) -> Result<Vec<u8>, ReadError> {
        let Level::Hashes(level) = wanted.level else {
            return Err(absent(wanted.to_string()));
        };
        if let Some(mut bytes) = self.stored_tile(wanted.full())? {
            bytes.truncate(usize::from(wanted.width) * HASH_BYTES);
            return Ok(bytes);
        }
        if !wanted.is_full()
            && let Some(bytes) = self.stored_tile(wanted)?
        {
            return Ok(bytes);
        }
        self.compute_tile(level, wanted)
    }

    /// Reads a hash tile for recovery, which cannot rely on tiles that may not have been flushed:
    /// those at the edge. All below the first segment were.
    pub(crate) fn read_settled_tile(&self, wanted: Tile) -> Result<Vec<u8>, ReadError> {
        match wanted.level {
            Level::Entries | Level::Hashes(0) => self.read_tile(wanted),
            Level::Hashes(level) => self.compute_tile(level, wanted),
        }
    }

    fn compute_tile(&self, level: u8, wanted: Tile) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::with_capacity(usize::from(wanted.width) * HASH_BYTES);
        for nth in 0..u64::from(wanted.width) {
            let below = wanted.n * BUNDLE + nth;
            let hash = match level.checked_sub(1) {
                None => hash::leaf(&self.entry(below)?),
                Some(level) => {
                    let tile = Tile {
                        level: Level::Hashes(level),
                        n: below,
                        width: WIDTH,
                    };
                    let mut tree = Frontier::new();
                    let hashes = tile::hashes(&self.read_tile(tile)?);
                    hashes
                        .unwrap_or_default()
                        .into_iter()
                        .for_each(|hash| tree.append(hash));
                    tree.root()
                }
            };
            bytes.extend_from_slice(hash.as_bytes());
        }
        Ok(bytes)
    }
}

impl LogReader for Reader {
    fn size(&self) -> u64 {
        lock(&self.tail).size
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        if let Some(entry) = lock(&self.run).get(index) {
            return Ok(entry.clone());
        }
        let run = self.run_of(index)?;
        let entry = run.get(index).cloned();
        *lock(&self.run) = run;
        entry.ok_or_else(|| absent(entry_name(index)))
    }

    fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let frame = lock(&self.tail).frame(index).cloned();
        let nth = usize::try_from(index % BUNDLE).unwrap_or_default();
        let sealed = match frame {
            Some(frame) => frame.sealed(index),
            None => read_sealed(&self.folder.sealed(index / BUNDLE), nth),
        };
        sealed.map_err(|error| unreadable(format!("the sealed part of entry {index}"), &error))
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        let what = || "the checkpoint".to_owned();
        let bytes =
            disk::read(&self.folder.checkpoint()).map_err(|error| unreadable(what(), &error))?;
        bytes
            .map(String::from_utf8)
            .transpose()
            .map_err(|error| ReadError::Damaged {
                what: what(),
                cause: error.to_string(),
            })
    }

    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError> {
        let tile = Tile {
            level: Level::Hashes(level),
            n,
            width,
        };
        // How many hashes the level has; a wish past them would be computed to no end.
        let shift = u32::from(level) * tile::HEIGHT;
        let there = self.size().checked_shr(shift).unwrap_or(0);
        let end = n
            .checked_mul(BUNDLE)
            .and_then(|start| start.checked_add(u64::from(width)));
        if !(1..=WIDTH).contains(&width) || end.is_none_or(|end| end > there) {
            return Err(absent(format!("tile/{level}/{n} with {width} hashes")));
        }
        self.read_tile(tile)
    }
}

fn entry_name(index: u64) -> String {
    format!("entry {index}")
}

const fn absent(what: String) -> ReadError {
    ReadError::Absent { what }
}

fn unreadable(what: String, error: &io::Error) -> ReadError {
    ReadError::Unreadable {
        what,
        cause: error.to_string(),
    }
}
