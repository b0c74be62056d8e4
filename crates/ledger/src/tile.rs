//! Tiles, by C2SP tlog-tiles: a tree kept as files of 256 hashes, and its entries in bundles.

use std::fmt;
use std::str::FromStr;

use vocab::digest::Digest;

use crate::hash;
use crate::tree::Frontier;

/// Hashes in a full hash tile, and entries in a full bundle.
pub const WIDTH: u16 = 256;
/// Levels of the tree that one tile level spans.
pub const HEIGHT: u32 = 8;
/// The highest tile level that a tree of less than 2^64 leaves has.
pub const LEVEL_MAX: u8 = 7;
/// Bytes of a hash.
pub const HASH_BYTES: usize = 32;

/// A file of a log: a hash tile, or a bundle of entries. Its text form is its C2SP path,
/// `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Where it stands.
    pub level: Level,
    /// Its number within the level.
    pub n: u64,
    /// How many hashes or entries it has: 1 to 255 if partial, 256 if full.
    pub width: u16,
}

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Entries.
    Entries,
    /// Hashes of height `8 * level`: at 0 those of the leaves.
    Hashes(u8),
}

impl Tile {
    /// The full bundle that an entry is in, or will be.
    pub const fn of_entry(index: u64) -> Self {
        Self {
            level: Level::Entries,
            n: index / WIDTH as u64,
            width: WIDTH,
        }
    }

    /// Whether it has all it can have, and so never changes again.
    pub const fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The path of the full tile of which this is the beginning.
    #[must_use]
    pub const fn full(self) -> Self {
        Self {
            width: WIDTH,
            ..self
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            Level::Entries => f.write_str("tile/entries/")?,
            Level::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let (mut groups, mut n) = (vec![self.n % 1000], self.n / 1000);
        while n > 0 {
            groups.push(n % 1000);
            n /= 1000;
        }
        while let Some(group) = groups.pop() {
            if groups.is_empty() {
                write!(f, "{group:03}")?;
            } else {
                write!(f, "x{group:03}/")?;
            }
        }
        if self.width < WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

/// A text that is not the path of a tile.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a tile's path: `tile/<level or entries>/<x000/…/000>[.p/<width>]`")]
pub struct TilePathError;

impl FromStr for Tile {
    type Err = TilePathError;

    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let rest = path.strip_prefix("tile/").ok_or(TilePathError)?;
        let (level, rest) = rest.split_once('/').ok_or(TilePathError)?;
        let level = match level {
            "entries" => Level::Entries,
            level => match hash::decimal(level).and_then(|level| u8::try_from(level).ok()) {
                Some(level) if level <= LEVEL_MAX => Level::Hashes(level),
                _ => return Err(TilePathError),
            },
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, hash::decimal(width).ok_or(TilePathError)?),
            None => (rest, u64::from(WIDTH)),
        };
        let mut n = 0_u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let value: u64 = match digits.len() {
                3 if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    digits.parse().map_err(|_| TilePathError)?
                }
                _ => return Err(TilePathError),
            };
            n = n
                .checked_mul(1000)
                .and_then(|n| n.checked_add(value))
                .ok_or(TilePathError)?;
        }
        let tile = Self {
            level,
            n,
            width: u16::try_from(width).map_err(|_| TilePathError)?,
        };
        // A tile has one path: this also refuses misplaced `x`, groups of zeros in front, a width
        // of none and a partial width of 256.
        if tile.width == 0 || tile.to_string() != path {
            return Err(TilePathError);
        }
        Ok(tile)
    }
}

/// The tiles of one level that change when that level grows from `from` to `to` elements: full
/// ones, and the partial one at the end if there is one.
fn grown(level: Level, from: u64, to: u64) -> impl Iterator<Item = Tile> {
    let width = u64::from(WIDTH);
    let numbers = if to > from {
        from / width..to.div_ceil(width)
    } else {
        0..0
    };
    numbers.map(move |n| Tile {
        level,
        n,
        width: u16::try_from((to - n * width).min(width)).unwrap_or(WIDTH),
    })
}

/// The hash tiles to write when a tree grows from `from` to `to` leaves.
pub fn hash_tiles(from: u64, to: u64) -> impl Iterator<Item = Tile> {
    (0..=LEVEL_MAX).flat_map(move |level| {
        let shift = u32::from(level) * HEIGHT;
        grown(Level::Hashes(level), from >> shift, to >> shift)
    })
}

/// The entry bundles to write when a tree grows from `from` to `to` leaves.
pub fn bundles(from: u64, to: u64) -> impl Iterator<Item = Tile> {
    grown(Level::Entries, from, to)
}

/// Hashes from a tile's bytes; none if a piece is left over.
pub fn hashes(bytes: &[u8]) -> Option<Vec<Digest>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    rest.is_empty()
        .then(|| hashes.iter().copied().map(Digest::from_bytes).collect())
}

/// Adds an entry to a bundle's bytes: a big-endian `u16` length, then the entry. False, and
/// nothing added, if it is too long.
#[must_use]
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> bool {
    let Ok(length) = u16::try_from(entry.len()) else {
        return false;
    };
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    true
}

/// The entries of a bundle; none if its bytes do not end where an entry ends.
pub fn entries(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::with_capacity(usize::from(WIDTH));
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bundle = rest;
    }
    bundle.is_empty().then_some(entries)
}

/// The right edge of a tree in tiles: its frontier, and the partial tile of each level.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    frontier: Frontier,
    /// The bytes of the partial hash tile of each level, lowest first.
    partial: Vec<Vec<u8>>,
}

/// Why the edge of a tree could not be read back from its tiles.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EdgeError<E> {
    /// A tile could not be read.
    #[error(transparent)]
    Read(E),
    /// A tile does not have the bytes of its width.
    #[error("`{tile}` has {length} bytes")]
    Length {
        /// The tile.
        tile: Tile,
        /// Its length.
        length: usize,
    },
}

impl Edge {
    /// The edge of the empty tree.
    pub const fn new() -> Self {
        Self {
            frontier: Frontier::new(),
            partial: Vec::new(),
        }
    }

    /// Reads the edge of a tree of `size` leaves back from its partial tiles. Whether they are the
    /// right ones shows when [`Edge::root`] is compared with a checkpoint's.
    pub fn load<E>(
        size: u64,
        mut read: impl FnMut(Tile) -> Result<Vec<u8>, E>,
    ) -> Result<Self, EdgeError<E>> {
        let mut partial = Vec::new();
        for level in 0..=LEVEL_MAX {
            let count = size >> (u32::from(level) * HEIGHT);
            if count == 0 {
                break;
            }
            let width = u16::try_from(count % u64::from(WIDTH)).unwrap_or(0);
            if width == 0 {
                partial.push(Vec::new());
                continue;
            }
            let tile = Tile {
                level: Level::Hashes(level),
                n: count / u64::from(WIDTH),
                width,
            };
            let bytes = read(tile).map_err(EdgeError::Read)?;
            if bytes.len() != usize::from(width) * HASH_BYTES {
                return Err(EdgeError::Length {
                    tile,
                    length: bytes.len(),
                });
            }
            partial.push(bytes);
        }
        // Within a partial tile, each set bit of its width is one perfect subtree.
        let mut peaks = Vec::new();
        for bytes in partial.iter().rev() {
            let mut rest = bytes.as_slice();
            for bit in (0..HEIGHT).rev() {
                let length = HASH_BYTES << bit;
                if bytes.len() & length != 0
                    && let Some((subtree, after)) = rest.split_at_checked(length)
                {
                    peaks.extend(subtree_root(subtree));
                    rest = after;
                }
            }
        }
        // INVARIANT: the widths, level by level, are the bytes of `size`, so there are as many
        // peaks as `size` has set bits.
        let frontier = Frontier::from_peaks(size, peaks).unwrap_or_default();
        Ok(Self { frontier, partial })
    }

    /// How many leaves.
    pub const fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// Appends a leaf; `full` takes each tile that it fills, and the tile's bytes.
    pub fn append(&mut self, leaf: Digest, mut full: impl FnMut(Tile, &[u8])) {
        let index = self.frontier.size();
        let partial = &mut self.partial;
        self.frontier.append_with(leaf, |height, hash| {
            if !height.is_multiple_of(HEIGHT) {
                return;
            }
            let level = height / HEIGHT;
            let at = level as usize;
            if partial.len() <= at {
                partial.resize_with(at + 1, Vec::new);
            }
            let Some(bytes) = partial.get_mut(at) else {
                return;
            };
            bytes.extend_from_slice(hash.as_bytes());
            if bytes.len() == usize::from(WIDTH) * HASH_BYTES {
                let tile = Tile {
                    level: Level::Hashes(u8::try_from(level).unwrap_or(LEVEL_MAX)),
                    n: index.checked_shr(height + HEIGHT).unwrap_or(0),
                    width: WIDTH,
                };
                full(tile, bytes);
                bytes.clear();
            }
        });
    }

    /// The partial tiles of the tree as it stands, and their bytes.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (Tile, &[u8])> {
        (0_u8..)
            .zip(&self.partial)
            .filter(|(_, bytes)| !bytes.is_empty())
            .map(|(level, bytes)| {
                let tile = Tile {
                    level: Level::Hashes(level),
                    n: self
                        .size()
                        .checked_shr((u32::from(level) + 1) * HEIGHT)
                        .unwrap_or(0),
                    width: u16::try_from(bytes.len() / HASH_BYTES).unwrap_or(WIDTH),
                };
                (tile, bytes.as_slice())
            })
    }
}

/// The root over a power of two of hashes; none if there are none.
pub(crate) fn subtree_root(bytes: &[u8]) -> Option<Digest> {
    let mut row = hashes(bytes)?;
    while row.len() > 1 {
        row = row
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[left, right]| hash::node(left, right))
            .collect();
    }
    row.pop()
}

#[cfg(test)]
pub(crate) mod tests;
