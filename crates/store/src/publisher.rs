//! Tiles, checkpoints, and the end of segments: a log's second thread.
//!
//! The order of a publication, and what a crash after each step leaves:
//!
//! 1. Full tiles and bundles, then partial ones: not flushed, each renamed into place. *The old
//!    checkpoint, which needs none of them; recovery makes them again from the segments.*
//! 2. The checkpoint, flushed, renamed, its folder flushed. *The old or the new one. All that it
//!    speaks of is durable: the writer put it in the tail after its flush.*
//! 3. Partial tiles that are full by now are removed. *Some are left; a later start or fill
//!    removes them or they lie there unread.*
//! 4. When a whole segment is in full tiles: these are flushed, then it is removed. *Either the
//!    segment or durable tiles, or both.*

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledger::tile::{self, Edge, Level, Tile};
use ledger::{AppendError, Checkpoint, CheckpointError, ReadError};
use tokio::sync::oneshot;
use tracing::warn;
use vocab::digest::Digest;
use vocab::time::Clock;

use crate::disk::{Disk, lock};
use crate::files::{self, BUNDLE, Folder, Prefer, Reader, Tail};
use crate::health::Meter;
use crate::segment::{self, Frame};
use crate::signers::{Signers, Signing};
use crate::spare::Spares;

/// What the publisher is asked to do.
pub(crate) enum Task {
    /// There are entries that no checkpoint covers.
    Appended,
    /// Publish now, and say when it is done.
    Publish(oneshot::Sender<Result<(), AppendError>>),
    /// Make a blank for the writer's next segment.
    Spare,
    /// Publish a last time and end.
    Stop,
}

/// Why a publication was not done. What was done of it stays done; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("the storage failed: {0}")]
    Io(#[from] io::Error),
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(#[from] CheckpointError),
    #[error("entry {0} is in no segment")]
    Lost(u64),
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) disk: Disk,
    pub(crate) folder: Folder,
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signing: Signing,
    /// Who signed the checkpoint in place.
    pub(crate) signed_by: Arc<Signers>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) segment_bytes: u64,
    /// The edge of the tree over every entry taken from the tail.
    pub(crate) edge: Edge,
    /// Full hash tiles not written yet.
    pub(crate) full: VecDeque<(Tile, Vec<u8>)>,
    /// How many full bundles are written.
    pub(crate) bundles: u64,
    /// The size that the checkpoint in place speaks of.
    pub(crate) published: u64,
    /// Full tiles written and not flushed yet, lower ones first.
    pub(crate) unsettled: Vec<(Made, PathBuf)>,
    /// Partial tiles of tiles that are full now.
    pub(crate) stale: Vec<PathBuf>,
    /// Set when flushing a full tile failed. The system may have dropped its bytes and will not
    /// say so twice, so the unsettled ones are made again before their segments are given up.
    pub(crate) spoiled: bool,
}

/// What a file is, so that it can be made again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Made {
    /// A full tile or bundle.
    Tile(Tile),
    /// What was sealed with the entries of this bundle.
    Sealed(u64),
}

impl Publisher {
    pub(crate) fn run(mut self, tasks: &Receiver<Task>, every: Option<Duration>) {
        let mut due = false;
        loop {
            let task = match every {
                Some(every) if due => tasks.recv_timeout(every),
                Some(_) | None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let (mut asked, mut stop) = (Vec::new(), false);
            match task {
                Ok(Task::Appended) => {
                    due = every.is_some();
                    continue;
                }
                Ok(Task::Spare) => {
                    self.make_spare();
                    continue;
                }
                Ok(Task::Publish(ack)) => asked.push(ack),
                Ok(Task::Stop) | Err(RecvTimeoutError::Disconnected) => stop = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // One publication answers everyone who waits.
            let mut spare = false;
            for task in tasks.try_iter() {
                match task {
                    Task::Publish(ack) => asked.push(ack),
                    Task::Spare => spare = true,
                    Task::Stop => stop = true,
                    Task::Appended => {}
                }
            }
            let result = self.publish();
            due = every.is_some() && result.is_err();
            let result = result.map_err(|error| AppendError::Unwritable {
                cause: error.to_string(),
            });
            for ack in asked {
                // Who asked may have gone away.
                let _gone = ack.send(result.clone());
            }
            if stop {
                return;
            }
            if spare {
                self.make_spare();
            }
        }
    }

    fn make_spare(&self) {
        // The writer makes one itself when it needs it, and then says what is wrong.
        if let Err(error) = self.spares.make() {
            warn!(error = %error, "No spare segment could be made");
        }
    }

    /// Publishes a checkpoint over everything in the tail.
    pub(crate) fn publish(&mut self) -> Result<(), PublishError> {
        self.take();
        let result = self.write();
        match &result {
            Ok(()) => {
                self.meter.published(self.published);
                if let Err(error) = self.tidy() {
                    // Nothing is lost by it: there is more in the folder than need be.
                    warn!(error = %error, "A log's folder could not be tidied");
                    self.meter.failed(self.clock.now(), &error.to_string());
                }
            }
            Err(error) => self
                .meter
                .publish_failed(self.clock.now(), &error.to_string()),
        }
        result
    }

    fn write(&mut self) -> Result<(), PublishError> {
        let same = Arc::ptr_eq(&self.signed_by, &self.signing.get());
        if self.edge.size() == self.published && same {
            return Ok(());
        }
        self.write_full()?;
        self.write_partial()?;
        self.write_checkpoint()
    }

    /// Takes the new leaves from the tail into the tree.
    fn take(&mut self) {
        self.meter.appended.store(false, Ordering::Release);
        let leaves = std::mem::take(&mut lock(&self.tail).leaves);
        for leaf in leaves {
            self.append(leaf);
        }
    }

    /// Appends a leaf to the tree, and keeps the tiles that it fills to be written.
    pub(crate) fn append(&mut self, leaf: Digest) {
        self.edge.append(leaf, |tile, bytes| {
            self.full.push_back((tile, bytes.to_vec()));
        });
    }

    /// Writes every tile and bundle that will not change again.
    pub(crate) fn write_full(&mut self) -> Result<(), PublishError> {
        while let Some((tile, bytes)) = self.full.front() {
            let tile = *tile;
            let path = self.folder.tile(tile);
            self.put(&path, bytes)?;
            self.full.pop_front();
            self.wrote_full(tile, path);
        }
        while self.edge.size() >= (self.bundles + 1) * BUNDLE {
            let tile = files::bundle(self.bundles);
            let path = self.folder.tile(tile);
            let bytes = self.bundle(self.bundles * BUNDLE, (self.bundles + 1) * BUNDLE)?;
            self.put(&path, &bytes)?;
            self.wrote_full(tile, path);
            let sealed = self.put_sealed(self.bundles)?;
            self.unsettled
                .extend(sealed.map(|path| (Made::Sealed(self.bundles), path)));
            self.bundles += 1;
        }
        Ok(())
    }

    fn wrote_full(&mut self, tile: Tile, path: PathBuf) {
        self.unsettled.push((Made::Tile(tile), path));
        let partials = self.folder.partials(tile);
        if partials.is_dir() {
            self.stale.push(partials);
        }
    }

    /// Writes the partial tiles and the partial bundle of the tree as it stands.
    pub(crate) fn write_partial(&self) -> Result<(), PublishError> {
        for (tile, bytes) in self.edge.partial_tiles() {
            self.put(&self.folder.tile(tile), bytes)?;
        }
        let size = self.edge.size();
        for tile in tile::bundles(self.bundles * BUNDLE, size) {
            let bytes = self.bundle(self.bundles * BUNDLE, size)?;
            self.put(&self.folder.tile(tile), &bytes)?;
        }
        Ok(())
    }

    pub(crate) fn write_checkpoint(&mut self) -> Result<(), PublishError> {
        let signers = self.signing.get();
        let checkpoint = Checkpoint {
            origin: signers.origin().to_owned(),
            size: self.edge.size(),
            root: self.edge.root(),
        };
        let note = signers.sign(&checkpoint)?;
        self.disk
            .put_durably(&self.folder.checkpoint(), note.as_bytes())?;
        self.published = checkpoint.size;
        self.signed_by = signers;
        Ok(())
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Some(parent) = path.parent() {
            self.disk.create_dir(parent)?;
        }
        self.disk.put(path, bytes)
    }

    fn frames(&self, from: u64, to: u64) -> Result<Vec<Frame>, PublishError> {
        let tail = lock(&self.tail);
        let mut frames = Vec::new();
        let mut next = from;
        while next < to {
            let frame = tail.frame(next).ok_or(PublishError::Lost(next))?;
            next = frame.end();
            frames.push(frame.clone());
        }
        Ok(frames)
    }

    /// The bytes of a bundle of the entries `from..to`.
    fn bundle(&self, from: u64, to: u64) -> Result<Vec<u8>, PublishError> {
        let mut bytes = Vec::new();
        for frame in self.frames(from, to)? {
            for (index, entry) in (frame.first..).zip(frame.entries()?) {
                if (from..to).contains(&index) && !tile::push_entry(&mut bytes, &entry) {
                    return Err(io::Error::from(io::ErrorKind::InvalidData).into());
                }
            }
        }
        Ok(bytes)
    }

    /// Writes what was sealed with the entries of a full bundle, a piece at a time: together they may
    /// be more than should be in memory.
    fn put_sealed(&self, n: u64) -> Result<Option<PathBuf>, PublishError> {
        let (from, to) = (n * BUNDLE, (n + 1) * BUNDLE);
        let frames = self.frames(from, to)?;
        let mut lengths = Vec::new();
        for frame in &frames {
            let indices = frame.first..;
            let inside = indices.zip(frame.sealed_lengths()?);
            lengths.extend(inside.filter(|(index, _)| (from..to).contains(index)));
        }
        if lengths.iter().all(|(_, length)| length.is_none()) {
            return Ok(None);
        }
        let path = self.folder.sealed(n);
        let mut beside = path.clone().into_os_string();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        if let Some(parent) = path.parent() {
            self.disk.create_dir(parent)?;
        }
        let file = self.disk.create(&beside)?;
        let table: Vec<_> = lengths.iter().map(|(_, length)| *length).collect();
        let table = files::sealed_table(&table);
        self.disk.write_at(&file, &table, 0)?;
        let mut at = table.len() as u64;
        for frame in frames {
            frame.sealed_pieces(&(from..to), |piece| {
                self.disk.write_at(&file, piece, at)?;
                at += piece.len() as u64;
                Ok(())
            })?;
        }
        self.disk.rename(&beside, &path)?;
        Ok(Some(path))
    }

    /// Makes every unsettled file again from the segments.
    fn remake(&mut self) -> Result<(), PublishError> {
        let reader = Reader::new(self.folder.clone(), self.tail.clone(), Prefer::Segments);
        for (made, path) in &self.unsettled {
            let tile = match made {
                Made::Tile(tile) => *tile,
                Made::Sealed(n) => {
                    self.put_sealed(*n)?;
                    continue;
                }
            };
            let bytes = match tile.level {
                Level::Entries => self.bundle(tile.n * BUNDLE, (tile.n + 1) * BUNDLE)?,
                Level::Hashes(_) => reader.remake(tile)?,
            };
            self.put(path, &bytes)?;
        }
        self.spoiled = false;
        Ok(())
    }

    /// Makes every full tile durable.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.flush_full().inspect_err(|_| self.spoiled = true)?;
        self.unsettled.clear();
        Ok(())
    }

    fn flush_full(&self) -> io::Result<()> {
        let mut folders = BTreeSet::new();
        for (_, path) in &self.unsettled {
            self.disk.sync(&File::open(path)?)?;
            folders.extend(path.parent().map(Path::to_owned));
        }
        for folder in folders {
            self.disk.sync_dir(&folder)?;
        }
        Ok(())
    }

    /// Removes what is no longer needed.
    fn tidy(&mut self) -> Result<(), PublishError> {
        while let Some(path) = self.stale.last() {
            self.disk.remove_dir(path)?;
            self.stale.pop();
        }
        let in_tiles = self.bundles * BUNDLE;
        loop {
            let done = {
                let tail = lock(&self.tail);
                let mut segments = tail.segments.iter();
                match (segments.next(), segments.next()) {
                    (Some(first), Some(second)) if second.first <= in_tiles => first.clone(),
                    _ => return Ok(()),
                }
            };
            if self.spoiled {
                self.remake()?;
            }
            self.settle()?;
            {
                let mut tail = lock(&self.tail);
                tail.segments.pop_front();
                while tail
                    .frames
                    .front()
                    .is_some_and(|f| f.segment.number == done.number)
                {
                    tail.frames.pop_front();
                }
            }
            // With it go those before it that never came into use. Removed oldest first, each
            // durably before the next, so that a crash never leaves a gap. One that comes back has
            // nothing that is not in tiles.
            let folder = self.folder.segments();
            for (number, path) in segment::list(&folder)? {
                if number <= done.number {
                    self.disk.remove(&path)?;
                    self.disk.sync_dir(&folder)?;
                }
            }
        }
    }
}
