use proptest::prelude::*;

use super::*;
use crate::memory::Memory;
use crate::tree::tests::{leaves, naive_root, split as naive_split};

/// RFC 6962 §2.1.1 as it is written.
fn naive_inclusion(index: usize, leaves: &[Digest]) -> Vec<Digest> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, beside) = if index < k {
        (naive_inclusion(index, left), naive_root(right))
    } else {
        (naive_inclusion(index - k, right), naive_root(left))
    };
    path.push(beside);
    path
}

/// RFC 6962 §2.1.2 as it is written.
fn naive_consistency(from: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
    if from == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![naive_root(leaves)]
        };
    }
    let k = naive_split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, beside) = if from <= k {
        (naive_consistency(from, left, whole), naive_root(right))
    } else {
        (naive_consistency(from - k, right, false), naive_root(left))
    };
    path.push(beside);
    path
}

/// The tiles of a tree over `n` different leaves; entries do not matter here.
fn log(n: u64) -> (Memory, Vec<Digest>) {
    let leaves = leaves(n);
    let log = Memory {
        tiles: tile::tests::tiles_of(&leaves),
        ..Memory::default()
    };
    (log, leaves)
}

#[test]
fn inclusion_for_every_size_and_entry() {
    let (log, leaves) = log(300);
    for size in 1..=300_u64 {
        let part = &leaves[..usize::try_from(size).unwrap()];
        let root = naive_root(part);
        // Every entry of the small trees and, of the large ones, those about the edges.
        for index in (0..size).filter(|i| size < 70 || i % 37 == 0 || size - i < 3) {
            let at = usize::try_from(index).unwrap();
            let path = inclusion(&log, index, size).unwrap();
            assert_eq!(path, naive_inclusion(at, part), "{index} in {size}");
            assert_eq!(
                verify_inclusion(&part[at], index, size, &path, &root),
                Ok(())
            );
        }
        assert_eq!(
            inclusion(&log, size, size),
            Err(ProveError::Index { index: size, size })
        );
    }
}

#[test]
fn root_for_every_size() {
    let (log, leaves) = log(300);
    for size in 0..=300_usize {
        let expected = naive_root(&leaves[..size]);
        assert_eq!(root(&log, size as u64), Ok(expected), "{size}");
    }
}

#[test]
fn consistency_for_every_pair_of_sizes() {
    let (log, leaves) = log(300);
    let roots: Vec<_> = (0..=300).map(|n| naive_root(&leaves[..n])).collect();
    for to in 0..=300_u64 {
        for from in (0..=to).filter(|from| to < 70 || from % 29 == 0 || to - from < 3) {
            let path = consistency(&log, from, to).unwrap();
            let (f, t) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            if from > 0 {
                assert_eq!(
                    path,
                    naive_consistency(f, &leaves[..t], true),
                    "{from} {to}"
                );
            }
            let (old, new) = ((from, &roots[f]), (to, &roots[t]));
            assert_eq!(verify_consistency(old, new, &path), Ok(()), "{from} {to}");
        }
        assert_eq!(
            consistency(&log, to + 1, to),
            Err(ProveError::Sizes { from: to + 1, to })
        );
    }
}

#[test]
fn proofs_cross_tile_levels() {
    let (log, leaves) = log(66_000);
    let roots: BTreeMap<u64, Digest> = [1, 256, 257, 65_535, 65_536, 65_537, 66_000]
        .into_iter()
        .map(|size| (size, naive_root(&leaves[..usize::try_from(size).unwrap()])))
        .collect();
    for size in [65_535, 65_536, 65_537, 66_000] {
        for index in [0, 255, 256, 65_279, 65_534] {
            let path = inclusion(&log, index, size).unwrap();
            let leaf = &leaves[usize::try_from(index).unwrap()];
            let held = verify_inclusion(leaf, index, size, &path, &roots[&size]);
            assert_eq!(held, Ok(()), "{index} {size}");
        }
        for from in [1, 256, 257, 65_535] {
            let path = consistency(&log, from, size).unwrap();
            let held = verify_consistency((from, &roots[&from]), (size, &roots[&size]), &path);
            assert_eq!(held, Ok(()), "{from} {size}");
        }
    }
}

#[test]
fn a_tile_of_the_wrong_length_makes_no_proof() {
    let (mut log, _) = log(10);
    let tile: Tile = "tile/0/000.p/10".parse().unwrap();
    log.tiles.get_mut(&tile).unwrap().pop();
    let length = 319;
    assert_eq!(
        inclusion(&log, 3, 10),
        Err(ProveError::TileLength { tile, length })
    );
    log.tiles.clear();
    assert!(matches!(consistency(&log, 3, 10), Err(ProveError::Read(_))));
}

#[test]
fn what_is_not_proved_is_refused() {
    let (log, leaves) = log(13);
    let root = |n: u64| naive_root(&leaves[..usize::try_from(n).unwrap()]);
    let path = inclusion(&log, 5, 13).unwrap();
    let check = |index, size, path: &[Digest], root: &Digest| {
        verify_inclusion(&leaves[5], index, size, path, root)
    };
    let (r13, empty) = (root(13), hash::empty());
    assert_eq!(check(5, 13, &path, &r13), Ok(()));
    let (index, size) = (13, 13);
    assert_eq!(
        check(13, 13, &path, &r13),
        Err(ProofError::Index { index, size })
    );
    assert_eq!(
        check(0, 0, &[], &empty),
        Err(ProofError::Index { index: 0, size: 0 })
    );
    assert_eq!(check(5, 13, &path[..3], &r13), Err(ProofError::TooShort));
    let longer = [path.as_slice(), &[r13]].concat();
    assert_eq!(check(5, 13, &longer, &r13), Err(ProofError::TooLong));
    assert_eq!(check(4, 13, &path, &r13), Err(ProofError::Root));
    assert_eq!(check(5, 13, &path, &root(12)), Err(ProofError::Root));

    let path = consistency(&log, 6, 13).unwrap();
    let (r6, r8) = (root(6), root(8));
    let check = |from, old: &Digest, to, new: &Digest, path: &[Digest]| {
        verify_consistency((from, old), (to, new), path)
    };
    assert_eq!(check(6, &r6, 13, &r13, &path), Ok(()));
    let (from, to) = (13, 6);
    assert_eq!(
        check(13, &r13, 6, &r6, &path),
        Err(ProofError::Sizes { from, to })
    );
    assert_eq!(check(6, &r6, 13, &r13, &[]), Err(ProofError::TooShort));
    assert_eq!(
        check(6, &r6, 13, &r13, &path[..2]),
        Err(ProofError::TooShort)
    );
    let longer = [path.as_slice(), &[r13]].concat();
    assert_eq!(check(6, &r6, 13, &r13, &longer), Err(ProofError::TooLong));
    assert_eq!(check(6, &r8, 13, &r13, &path), Err(ProofError::OldRoot));
    assert_eq!(check(6, &r6, 13, &r8, &path), Err(ProofError::Root));
    // A power of two: the verifier starts from the root that it has.
    assert_eq!(check(8, &r8, 13, &r13, &[]), Err(ProofError::TooShort));
    // Equal and empty trees need no proof, and get none.
    assert_eq!(check(6, &r6, 6, &r6, &[]), Ok(()));
    assert_eq!(check(6, &r6, 6, &r8, &[]), Err(ProofError::Root));
    assert_eq!(check(6, &r6, 6, &r6, &path), Err(ProofError::TooLong));
    assert_eq!(check(0, &empty, 6, &r6, &[]), Ok(()));
    assert_eq!(check(0, &empty, 6, &r6, &path), Err(ProofError::TooLong));
    assert_eq!(check(0, &r6, 6, &r6, &[]), Err(ProofError::OldRoot));
}

/// The hash with one bit changed.
fn changed(hash: &Digest, bit: usize) -> Digest {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    Digest::from_bytes(bytes)
}

proptest! {
    #[test]
    fn any_changed_inclusion_is_refused(
        size in 2_u64..300,
        index: prop::sample::Index,
        hash: prop::sample::Index,
        bit in 0..256_usize,
    ) {
        let (log, leaves) = log(size);
        let (at, root) = (index.index(leaves.len()), naive_root(&leaves));
        let index = at as u64;
        let path = inclusion(&log, index, size).unwrap();
        let check = |leaf, index, size, path: &[Digest], root| {
            verify_inclusion(leaf, index, size, path, root)
        };
        let mut other = path.clone();
        let hash = hash.index(path.len());
        other[hash] = changed(&other[hash], bit);
        prop_assert_eq!(check(&leaves[at], index, size, &other, &root), Err(ProofError::Root));
        let leaf = changed(&leaves[at], bit);
        prop_assert_eq!(check(&leaf, index, size, &path, &root), Err(ProofError::Root));
        let wrong = changed(&root, bit);
        prop_assert_eq!(check(&leaves[at], index, size, &path, &wrong), Err(ProofError::Root));
        for other in (0..size).filter(|other| *other != index) {
            prop_assert!(check(&leaves[at], other, size, &path, &root).is_err());
        }
        let mut other = path.clone();
        other.remove(hash);
        prop_assert!(check(&leaves[at], index, size, &other, &root).is_err());
        other.insert(hash, path[hash]);
        other.insert(hash, path[hash]);
        prop_assert!(check(&leaves[at], index, size, &other, &root).is_err());
    }

    #[test]
    fn any_changed_consistency_is_refused(
        to in 2_u64..300,
        from: prop::sample::Index,
        hash: prop::sample::Index,
        bit in 0..256_usize,
    ) {
        let (log, leaves) = log(to);
        let from = 1 + from.index(leaves.len() - 1);
        let (old, new) = (naive_root(&leaves[..from]), naive_root(&leaves));
        let from = from as u64;
        let path = consistency(&log, from, to).unwrap();
        let check = |old, new, path: &[Digest]| {
            verify_consistency((from, old), (to, new), path)
        };
        let hash = hash.index(path.len());
        let mut other = path.clone();
        other[hash] = changed(&other[hash], bit);
        prop_assert!(check(&old, &new, &other).is_err());
        let (other_old, other_new) = (changed(&old, bit), changed(&new, bit));
        prop_assert!(check(&other_old, &new, &path).is_err());
        prop_assert!(check(&old, &other_new, &path).is_err());
        let mut other = path.clone();
        other.remove(hash);
        prop_assert!(check(&old, &new, &other).is_err());
        other.insert(hash, path[hash]);
        other.insert(hash, path[hash]);
        prop_assert!(check(&old, &new, &other).is_err());
    }

    #[test]
    fn checking_never_panics(
        index: u64,
        sizes: (u64, u64),
        path in prop::collection::vec(any::<[u8; 32]>(), 0..80),
    ) {
        let path: Vec<_> = path.into_iter().map(Digest::from_bytes).collect();
        let root = hash::empty();
        prop_assert!(verify_inclusion(&root, index, sizes.0, &path, &root).is_err());
        let _refused = verify_consistency((sizes.0, &root), (sizes.1, &root), &path).is_err();
    }
}

/// Against an implementation that is not ours, in both directions.
mod differential {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
    use sha2::Sha256;

    use super::*;

    /// The tree of [`leaves`].
    fn theirs(n: u64) -> MemoryBackedTree<Sha256, Vec<u8>> {
        let mut tree = MemoryBackedTree::new();
        for i in 0..n {
            tree.push(i.to_be_bytes().to_vec());
        }
        tree
    }

    fn bytes(path: &[Digest]) -> Vec<u8> {
        path.iter().flat_map(|hash| *hash.as_bytes()).collect()
    }

    fn digest(root: &RootHash<Sha256>) -> Digest {
        Digest::from_bytes((*root.as_bytes()).into())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn proofs_are_theirs(size in 1_u64..700, at: prop::sample::Index, bit in 0..256_usize) {
            let (log, leaves) = log(size);
            let tree = theirs(size);
            let root = tree.root();
            let (index, ours) = (at.index(leaves.len()), digest(&root));
            let at = index as u64;
            let path = inclusion(&log, at, size).unwrap();
            prop_assert_eq!(bytes(&path), tree.prove_inclusion(index).as_bytes().to_vec());
            let value = at.to_be_bytes().to_vec();
            let proof = InclusionProof::try_from_bytes(bytes(&path)).unwrap();
            prop_assert!(root.verify_inclusion(&value, at, &proof).is_ok());
            prop_assert_eq!(verify_inclusion(&leaves[index], at, size, &path, &ours), Ok(()));
            if let Some(first) = path.first() {
                let mut path = path.clone();
                path[0] = changed(first, bit);
                let proof = InclusionProof::try_from_bytes(bytes(&path)).unwrap();
                prop_assert!(root.verify_inclusion(&value, at, &proof).is_err());
                prop_assert!(verify_inclusion(&leaves[index], at, size, &path, &ours).is_err());
            }

            // A tree of `from`, none of it missing: they do not prove the step from nothing.
            let from = at + 1;
            let old = theirs(from).root();
            prop_assert_eq!(digest(&old), naive_root(&leaves[..=index]));
            let path = consistency(&log, from, size).unwrap();
            let (first, last) = (digest(&old), digest(&root));
            prop_assert_eq!(verify_consistency((from, &first), (size, &last), &path), Ok(()));
            if from < size {
                let added = usize::try_from(size - from).unwrap();
                prop_assert_eq!(bytes(&path), tree.prove_consistency(added).as_bytes().to_vec());
                let proof = ConsistencyProof::try_from_bytes(bytes(&path)).unwrap();
                prop_assert!(root.verify_consistency(&old, &proof).is_ok());
            }
        }
    }
}
