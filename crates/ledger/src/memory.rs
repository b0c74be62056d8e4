//! A log in memory, for the tests of this crate: honest until a test changes one of its parts.

use std::collections::BTreeMap;

use serde_json::json;
use vocab::digest::Digest;
use vocab::time::Time;

use crate::checkpoint::Checkpoint;
use crate::entry::{Actor, Draft, Header, Kind, write_entry};
use crate::hash;
use crate::log::{LogReader, ReadError};
use crate::note::Signer;
use crate::tile::{Level, Tile, WIDTH};
use crate::tree::tests::naive_root;

pub(crate) const ORIGIN: &str = "example.com/calls";

#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) tiles: BTreeMap<Tile, Vec<u8>>,
    pub(crate) checkpoint: Option<String>,
}

pub(crate) fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[7; 32]).unwrap()
}

/// The bytes of an entry of the log `calls`.
pub(crate) fn entry(number: u64) -> Vec<u8> {
    entry_at(Kind::Decision, Time::from_micros(number), 1)
}

pub(crate) fn entry_at(kind: Kind, time: Time, epoch: u64) -> Vec<u8> {
    let header = Header {
        trust_domain: "acme.example".parse().unwrap(),
        node: "n-1".to_owned(),
        epoch,
        key: signer().verifier().key_name(),
    };
    let draft = Draft::new(kind, Actor::node("n-1"), &json!({"t": time})).unwrap();
    write_entry(&header, time, &draft).unwrap()
}

impl Memory {
    /// A log of `size` entries with all its tiles and a checkpoint.
    pub(crate) fn of(size: u64) -> Self {
        Self::with((0..size).map(entry).collect())
    }

    pub(crate) fn with(entries: Vec<Vec<u8>>) -> Self {
        let leaves: Vec<Digest> = entries.iter().map(|entry| hash::leaf(entry)).collect();
        let mut log = Self {
            tiles: crate::tile::tests::tiles_of(&leaves),
            entries,
            checkpoint: None,
        };
        log.checkpoint = Some(log.sign(log.size()));
        log
    }

    /// A checkpoint over the first `size` entries.
    pub(crate) fn sign(&self, size: u64) -> String {
        self.checkpoint_at(size).sign(&signer()).unwrap()
    }

    pub(crate) fn checkpoint_at(&self, size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: self.root(size),
        }
    }

    pub(crate) fn root(&self, size: u64) -> Digest {
        naive_root(&self.leaves()[..usize::try_from(size).unwrap()])
    }

    pub(crate) fn leaves(&self) -> Vec<Digest> {
        self.entries.iter().map(|entry| hash::leaf(entry)).collect()
    }
}

impl LogReader for Memory {
    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get(index))
            .cloned()
            .ok_or(ReadError::Absent {
                what: format!("entry {index}"),
            })
    }

    fn sealed(&self, _: u64) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(None)
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        Ok(self.checkpoint.clone())
    }

    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError> {
        assert!((1..=WIDTH).contains(&width), "{width}");
        let tile = Tile {
            level: Level::Hashes(level),
            n,
            width,
        };
        crate::tile::tests::take(&self.tiles, tile).ok_or(ReadError::Absent {
            what: format!("tile {level}/{n}"),
        })
    }
}
