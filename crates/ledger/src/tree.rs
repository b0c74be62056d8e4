//! The right edge of a growing tree: enough to append, and to tell the root.

use vocab::digest::Digest;

use crate::hash;

/// The roots of the perfect subtrees that a tree of `size` leaves falls into, largest first: one
/// for each bit that is set in `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Digest>,
}

impl Frontier {
    /// The empty tree.
    pub const fn new() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// A tree of `size` leaves whose subtrees have these roots, largest first; none if their
    /// number is not that of `size`.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (usize::try_from(size.count_ones()) == Ok(peaks.len())).then_some(Self { size, peaks })
    }

    /// How many leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf and shows every node that it completes, leaf first: its height above the
    /// leaves, and its hash. The index of a node at `height` is `leaf_index >> height`.
    pub fn append_with(&mut self, leaf: Digest, mut completed: impl FnMut(u32, &Digest)) {
        let mut hash = leaf;
        completed(0, &hash);
        // Each trailing one of the old size is a perfect subtree that this leaf makes a pair with.
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = hash::node(&left, &hash);
                completed(height, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Digest) {
        self.append_with(leaf, |_, _| {});
    }

    /// The root of the tree.
    pub fn root(&self) -> Digest {
        self.peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| hash::node(&left, &right))
            .unwrap_or_else(hash::empty)
    }
}

#[cfg(test)]
pub(crate) mod tests;
