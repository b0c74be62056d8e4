//! A blank made ahead, so that the writer does not wait for zeros when it begins a segment.

use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{self, Disk, lock};
use crate::segment::Blank;

const PREFIX: &str = "spare";

/// Where the publisher puts a blank for the writer to take.
#[derive(Debug)]
pub(crate) struct Spares {
    disk: Disk,
    /// The folder of segments.
    folder: PathBuf,
    bytes: u64,
    blank: Mutex<Option<Blank>>,
    made: AtomicU64,
}

impl Spares {
    pub(crate) fn new(disk: Disk, folder: PathBuf, bytes: u64) -> Self {
        Self {
            disk,
            folder,
            bytes,
            blank: Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    /// Makes a blank, unless there is one.
    pub(crate) fn make(&self) -> io::Result<()> {
        if lock(&self.blank).is_some() {
            return Ok(());
        }
        // A name of its own: one that was taken has its name until the writer gives it another, and
        // to make it again would be to empty the writer's segment.
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join(format!("{PREFIX}-{nth}"));
        let blank = Blank::make(&self.disk, path, self.bytes)?;
        *lock(&self.blank) = Some(blank);
        Ok(())
    }

    /// Takes the blank, if there is one with so much room.
    pub(crate) fn take(&self, room: u64) -> Option<Blank> {
        lock(&self.blank).take_if(|blank| blank.bytes() >= room)
    }

    /// Removes what an earlier process left.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for name in disk::names(&self.folder)? {
            if name.starts_with(PREFIX) {
                self.disk.remove(&self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
