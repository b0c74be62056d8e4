use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::tree::tests::{leaves, naive_root};

const fn hash_tile(level: u8, n: u64, width: u16) -> Tile {
    Tile {
        level: Level::Hashes(level),
        n,
        width,
    }
}

#[test]
fn a_tile_reads_what_it_shows() {
    let entries = |n, width| Tile {
        level: Level::Entries,
        n,
        width,
    };
    for (tile, path) in [
        (hash_tile(0, 0, 256), "tile/0/000"),
        (hash_tile(1, 1_234_067, 256), "tile/1/x001/x234/067"),
        (hash_tile(2, 273, 112), "tile/2/273.p/112"),
        (hash_tile(0, 1000, 1), "tile/0/x001/000.p/1"),
        (entries(0, 255), "tile/entries/000.p/255"),
        (
            entries(u64::MAX, 256),
            "tile/entries/x018/x446/x744/x073/x709/x551/615",
        ),
    ] {
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
}

#[test]
fn a_tile_has_one_path() {
    for bad in [
        "",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/00/000",
        "tile/8/000",
        "tile/-1/000",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/+01",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1/2",
        "/tile/0/000",
        "tile/0/../000",
        "tile/entries/x018/x446/x744/x073/x709/x551/616",
        "tile/entries/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(bad.parse::<Tile>(), Err(TilePathError), "{bad}");
    }
}

/// The example of the specification.
#[test]
fn a_tree_of_70000_has_these_tiles() {
    let tiles: Vec<_> = hash_tiles(0, 70_000).collect();
    let count = |level: u8, full: bool| {
        tiles
            .iter()
            .filter(|tile| tile.level == Level::Hashes(level) && tile.is_full() == full)
            .count()
    };
    assert_eq!(
        (count(0, true), count(1, true), count(2, true)),
        (273, 1, 0)
    );
    assert!(tiles.contains(&hash_tile(0, 273, 112)));
    assert!(tiles.contains(&hash_tile(1, 1, 17)));
    assert!(tiles.contains(&hash_tile(2, 0, 1)));
    assert_eq!(tiles.len(), 273 + 1 + 3);
    assert_eq!(bundles(0, 70_000).count(), 274);
    let small: Vec<_> = hash_tiles(0, 256).collect();
    assert_eq!(small, [hash_tile(0, 0, 256), hash_tile(1, 0, 1)]);
    assert_eq!(hash_tiles(9, 9).count(), 0);
    assert_eq!(bundles(256, 256).count(), 0);
    assert_eq!(hash_tiles(u64::MAX - 1, u64::MAX).count(), 1);
}

/// The tiles of a tree, made by an edge that grows.
pub(crate) fn tiles_of(leaves: &[Digest]) -> BTreeMap<Tile, Vec<u8>> {
    let mut edge = Edge::new();
    let mut tiles = BTreeMap::new();
    for leaf in leaves {
        edge.append(*leaf, |tile, bytes| {
            tiles.insert(tile, bytes.to_vec());
        });
    }
    for (tile, bytes) in edge.partial_tiles() {
        tiles.insert(tile, bytes.to_vec());
    }
    tiles
}

/// A tile, or as much of a wider one.
pub(crate) fn take(tiles: &BTreeMap<Tile, Vec<u8>>, tile: Tile) -> Option<Vec<u8>> {
    let (_, bytes) = tiles.range(tile..=tile.full()).next()?;
    let length = usize::from(tile.width) * HASH_BYTES;
    Some(bytes[..length.min(bytes.len())].to_vec())
}

#[test]
fn the_edge_makes_the_tiles_of_the_definition() {
    let leaves = leaves(66_000);
    let mut edge = Edge::new();
    let mut tiles = BTreeMap::new();
    let mut last = 0;
    for (index, leaf) in leaves.iter().enumerate() {
        edge.append(*leaf, |tile, bytes| {
            tiles.insert(tile, bytes.to_vec());
        });
        let size = index as u64 + 1;
        if ![1, 255, 256, 257, 511, 65_535, 65_536, 65_537, 66_000].contains(&size) {
            continue;
        }
        for (tile, bytes) in edge.partial_tiles() {
            tiles.insert(tile, bytes.to_vec());
        }
        for tile in hash_tiles(last, size) {
            let bytes = &tiles[&tile];
            assert_eq!(bytes.len(), usize::from(tile.width) * HASH_BYTES, "{tile}");
            let Level::Hashes(level) = tile.level else {
                panic!("{tile}");
            };
            let each = 256_usize.pow(u32::from(level));
            let first = usize::try_from(tile.n).unwrap() * 256 * each;
            for (i, hash) in hashes(bytes).unwrap().iter().enumerate() {
                let from = first + i * each;
                assert_eq!(*hash, naive_root(&leaves[from..from + each]), "{tile} {i}");
            }
        }
        last = size;
    }
}

#[test]
fn an_edge_loads_from_its_tiles() {
    let leaves = leaves(600);
    let tiles = tiles_of(&leaves);
    let mut edge = Edge::new();
    for (size, leaf) in (0_u64..).zip(&leaves) {
        let loaded = Edge::load(size, |tile| {
            Ok::<_, Infallible>(take(&tiles, tile).unwrap())
        })
        .unwrap();
        assert_eq!(loaded.frontier, edge.frontier, "{size}");
        assert!(loaded.partial_tiles().eq(edge.partial_tiles()), "{size}");
        edge.append(*leaf, |_, _| {});
    }
    assert_eq!(
        Edge::load(3, |_| Ok::<_, Infallible>(vec![0; 95])).unwrap_err(),
        EdgeError::Length {
            tile: hash_tile(0, 0, 3),
            length: 95
        }
    );
    assert_eq!(Edge::load(3, |_| Err(())).unwrap_err(), EdgeError::Read(()));
}

#[test]
fn bundles_read_what_was_put() {
    let mut bundle = Vec::new();
    let long = vec![7; 65_535];
    assert!(push_entry(&mut bundle, b""));
    assert!(push_entry(&mut bundle, b"abc"));
    assert!(push_entry(&mut bundle, &long));
    assert!(!push_entry(&mut bundle, &vec![7; 65_536]));
    assert_eq!(entries(&bundle).unwrap(), [b"", &b"abc"[..], &long]);
    assert_eq!(entries(&bundle[..bundle.len() - 1]), None);
    assert_eq!(entries(&[0]), None);
    assert_eq!(entries(&[]), Some(Vec::new()));
}

proptest! {
    #[test]
    fn paths_never_panic(path in "tile/(entries|[0-9])/[x0-9/.p]{0,20}") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }
}
