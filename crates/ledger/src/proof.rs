//! Proofs that an entry is in a tree, and that one tree is the beginning of another.
//!
//! Making them follows RFC 6962 §2.1.1 and §2.1.2 over hash tiles; checking them follows
//! RFC 9162 §2.1.3.2 and §2.1.4.2, so that the one does not share the other's mistakes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use vocab::digest::Digest;

use crate::hash;
use crate::log::{LogReader, ReadError};
use crate::tile::{self, HASH_BYTES, HEIGHT, Level, Tile, WIDTH};

/// Most hashes in a proof about a tree of less than 2^64 leaves.
pub const PATH_HASHES_MAX: usize = 64;

/// Why no proof could be made.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProveError {
    /// There is no such entry in the tree.
    #[error("there is no entry {index} in a tree of {size}")]
    Index {
        /// The entry.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The tree that should come first is the larger one.
    #[error("a tree of {from} is not the beginning of a tree of {to}")]
    Sizes {
        /// The size of the tree that should come first.
        from: u64,
        /// The size of the other.
        to: u64,
    },
    /// A tile could not be read.
    #[error("a tile could not be read")]
    Read(#[from] ReadError),
    /// A tile does not have the bytes of its width.
    #[error("`{tile}` has {length} bytes")]
    TileLength {
        /// The tile.
        tile: Tile,
        /// Its length.
        length: usize,
    },
}

/// The proof that entry `index` is in the tree over the first `size` entries: the hashes beside
/// its way to the root, lowest first.
pub fn inclusion(reader: &dyn LogReader, index: u64, size: u64) -> Result<Vec<Digest>, ProveError> {
    if index >= size {
        return Err(ProveError::Index { index, size });
    }
    let mut tree = Tree::new(reader, size);
    let (mut low, mut high) = (0, size);
    let mut path = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            path.push(tree.root_of(middle, high)?);
            high = middle;
        } else {
            path.push(tree.root_of(low, middle)?);
            low = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree over the first `from` entries is the beginning of the tree over the
/// first `to`. Empty if they are the same or the first is empty.
pub fn consistency(reader: &dyn LogReader, from: u64, to: u64) -> Result<Vec<Digest>, ProveError> {
    if from > to {
        return Err(ProveError::Sizes { from, to });
    }
    if from == 0 || from == to {
        return Ok(Vec::new());
    }
    let mut tree = Tree::new(reader, to);
    let (mut low, mut high) = (0, to);
    let mut path = Vec::new();
    // Down to the subtree that ends where the old tree does.
    while high != from {
        let middle = low + split(high - low);
        if from <= middle {
            path.push(tree.root_of(middle, high)?);
            high = middle;
        } else {
            path.push(tree.root_of(low, middle)?);
            low = middle;
        }
    }
    // If that is the whole old tree, the verifier has its root.
    if low > 0 {
        path.push(tree.root_of(low, high)?);
    }
    path.reverse();
    Ok(path)
}

/// The root of the tree over the first `size` entries, from its tiles. What vouches for it is a
/// checkpoint that it is compared with.
pub fn root(reader: &dyn LogReader, size: u64) -> Result<Digest, ProveError> {
    Tree::new(reader, size).root_of(0, size)
}

/// The largest power of two below `n`, which is at least 2.
const fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// A tree in tiles, each read once.
struct Tree<'a> {
    reader: &'a dyn LogReader,
    size: u64,
    tiles: BTreeMap<(u8, u64), Vec<u8>>,
}

impl<'a> Tree<'a> {
    const fn new(reader: &'a dyn LogReader, size: u64) -> Self {
        Self {
            reader,
            size,
            tiles: BTreeMap::new(),
        }
    }

    /// The root over the entries `low..high`, where `low` is a multiple of a power of two that is
    /// at least `high - low`.
    fn root_of(&mut self, low: u64, high: u64) -> Result<Digest, ProveError> {
        // The perfect subtrees from the right, each as large as the bits of the length say.
        let (mut end, mut root) = (high, None);
        while end > low {
            let height = (end - low).trailing_zeros();
            end -= 1 << height;
            let left = self.node(height, end >> height)?;
            root = Some(match root {
                Some(right) => hash::node(&left, &right),
                None => left,
            });
        }
        Ok(root.unwrap_or_else(hash::empty))
    }

    /// The node at `height` above the leaves with this index in its row.
    fn node(&mut self, height: u32, index: u64) -> Result<Digest, ProveError> {
        let level = u8::try_from(height / HEIGHT).unwrap_or(tile::LEVEL_MAX);
        let first = index << (height % HEIGHT);
        let n = first / u64::from(WIDTH);
        let count = self.size >> (u32::from(level) * HEIGHT);
        let width = (count - n * u64::from(WIDTH)).min(u64::from(WIDTH));
        let tile = Tile {
            level: Level::Hashes(level),
            n,
            width: u16::try_from(width).unwrap_or(WIDTH),
        };
        let bytes = match self.tiles.entry((level, n)) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let bytes = self.reader.hash_tile(level, n, tile.width)?;
                if bytes.len() != usize::from(tile.width) * HASH_BYTES {
                    return Err(ProveError::TileLength {
                        tile,
                        length: bytes.len(),
                    });
                }
                slot.insert(bytes)
            }
        };
        let at = usize::try_from(first % u64::from(WIDTH)).unwrap_or(0) * HASH_BYTES;
        bytes
            .get(at..at + (HASH_BYTES << (height % HEIGHT)))
            .and_then(tile::subtree_root)
            .ok_or(ProveError::TileLength {
                tile,
                length: bytes.len(),
            })
    }
}

/// Why a proof does not hold.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProofError {
    /// There is no such entry in the tree.
    #[error("there is no entry {index} in a tree of {size}")]
    Index {
        /// The entry.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The tree that should come first is the larger one.
    #[error("a tree of {from} is not the beginning of a tree of {to}")]
    Sizes {
        /// The size of the tree that should come first.
        from: u64,
        /// The size of the other.
        to: u64,
    },
    /// Hashes are missing.
    #[error("the proof is too short")]
    TooShort,
    /// There are hashes to spare.
    #[error("the proof is too long")]
    TooLong,
    /// It leads to another root than that of the tree, or of the larger tree.
    #[error("the proof leads to another root")]
    Root,
    /// It leads to another root than that of the smaller tree.
    #[error("the proof leads to another old root")]
    OldRoot,
}

/// Checks that the entry with this leaf hash is at `index` in the tree of `size` and `root`.
///
/// RFC 9162 §2.1.3.2.
pub fn verify_inclusion(
    leaf_hash: &Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (mut at, mut last) = (index, size - 1);
    let mut found = *leaf_hash;
    for beside in path {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if at & 1 == 1 || at == last {
            found = hash::node(beside, &found);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            found = hash::node(&found, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort);
    }
    if found != *root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// Checks that the tree of `from` and `from_root` is the beginning of the tree of `to` and
/// `to_root`.
///
/// RFC 9162 §2.1.4.2; for equal trees, and for an empty one, the proof must be empty.
pub fn verify_consistency(
    (from, from_root): (u64, &Digest),
    (to, to_root): (u64, &Digest),
    path: &[Digest],
) -> Result<(), ProofError> {
    if from > to {
        return Err(ProofError::Sizes { from, to });
    }
    if from == 0 && *from_root != hash::empty() {
        return Err(ProofError::OldRoot);
    }
    if from == 0 || from == to {
        return match path {
            [] if from == to && from_root != to_root => Err(ProofError::Root),
            [] => Ok(()),
            _ => Err(ProofError::TooLong),
        };
    }
    let (first, rest) = if from.is_power_of_two() {
        (from_root, path)
    } else {
        path.split_first().ok_or(ProofError::TooShort)?
    };
    let (mut at, mut last) = (from - 1, to - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for beside in rest {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if at & 1 == 1 || at == last {
            old = hash::node(beside, &old);
            new = hash::node(beside, &new);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new = hash::node(&new, beside);
        }
        at >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort);
    }
    if old != *from_root {
        return Err(ProofError::OldRoot);
    }
    if new != *to_root {
        return Err(ProofError::Root);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
