//! Checkpoints put out of reach: a folder on another mount, where whoever rolls the data folder
//! back does not roll them back with it.
//!
//! This module only keeps the texts. Comparing the last anchored checkpoint with the log, and
//! proving the one consistent with the other, is for the caller.

use std::io;
use std::path::{Path, PathBuf};

use vocab::id::LogName;

use crate::disk::{self, Disk};

/// A folder that checkpoints are put into, one file `<log>.checkpoint` a log.
#[derive(Clone, Debug)]
pub struct PathAnchor {
    folder: PathBuf,
    disk: Disk,
}

impl PathAnchor {
    /// An anchor in `folder`, which is made when the first checkpoint is put there.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            disk: Disk::default(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Puts a checkpoint, as the log's signed note, in place of the last. Durable when it returns;
    /// a crash leaves the old or the new one whole.
    pub fn push(&self, log: LogName, checkpoint: &str) -> io::Result<()> {
        self.disk.create_dir(&self.folder)?;
        self.disk
            .put_durably(&self.path(log), checkpoint.as_bytes())
    }

    /// The checkpoint that was put there last; none if none was.
    pub fn last(&self, log: LogName) -> io::Result<Option<String>> {
        let bytes = disk::read(&self.path(log))?;
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn path(&self, log: LogName) -> PathBuf {
        self.folder.join(format!("{log}.checkpoint"))
    }
}

#[cfg(test)]
mod tests;
