//! What a witness remembers: the last checkpoint that it cosigned of each log, one file a log.
//!
//! ```text
//! lock           held by the process that writes
//! origins        the origins of all logs that were ever cosigned, one a line
//! seen/<hex>     the checkpoint cosigned last; the name is the SHA-256 of the origin
//! forks/<hex>-…  checkpoints that contradict one that was cosigned: evidence, kept for people
//! ```
//!
//! A file of a log is written before its origin is listed, and nothing is answered before both: a
//! file that is missing although its origin is listed was taken away, and then nobody knows any
//! more what must not be signed again. The whole folder put back from a copy cannot be told from
//! one that was never used since; that is for whoever runs the witness not to do.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use vocab::digest::Digest;

use crate::disk::{self, Disk, Faults, lock};
use crate::{DataDir, OpenError};

/// Most contradictions of one log that are kept.
const FORKS_MAX: usize = 16;

/// Why what a witness remembers cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    /// The folder is in use, or cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file cannot be read.
    #[error("cannot read `{path}`: {cause}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A log was cosigned, and what was cosigned is gone.
    #[error("`{path}` is missing, and `{origin}` was cosigned before", path = .path.display())]
    Missing {
        /// The log.
        origin: String,
        /// The file.
        path: PathBuf,
    },
    /// The list of logs is gone.
    #[error(
        "`{path}` is missing, and there is a key, or a checkpoint that was cosigned with it",
        path = .path.display()
    )]
    NoList {
        /// The list.
        path: PathBuf,
    },
}

/// A witness's folder, locked.
#[derive(Debug)]
pub struct SeenFolder {
    dir: DataDir,
    disk: Disk,
    /// The origins that are listed. Held while the list is written.
    origins: Mutex<BTreeSet<String>>,
}

impl SeenFolder {
    /// Makes the folder if need be, and takes its lock. Whoever `has_begun` had a list of logs from
    /// the first time on; without it they do not begin anew.
    pub fn open(path: &Path, has_begun: bool, faults: Faults) -> Result<Self, SeenError> {
        let dir = DataDir::open(path)?;
        let disk = Disk::new(faults);
        let failed = |source| OpenError::io("make a folder in", path, source);
        disk.create_dir(&path.join("seen")).map_err(failed)?;
        let list = path.join("origins");
        let text = read(&list)?;
        let folder = Self {
            dir,
            disk,
            origins: Mutex::default(),
        };
        match text {
            Some(text) => *lock(&folder.origins) = text.lines().map(str::to_owned).collect(),
            // Before anything is cosigned, so that its absence always means something.
            None if !has_begun && folder.is_empty()? => {
                folder.disk.put_durably(&list, b"").map_err(failed)?;
            }
            None => return Err(SeenError::NoList { path: list }),
        }
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Whether nothing was ever cosigned.
    pub fn is_empty(&self) -> Result<bool, SeenError> {
        let path = self.path().join("seen");
        let names = disk::names(&path).map_err(|cause| SeenError::Read {
            path: path.clone(),
            cause,
        })?;
        // What an interrupted first write left behind was never answered.
        Ok(names.iter().all(|name| name.parse::<Digest>().is_err()))
    }

    /// The logs that were cosigned.
    pub fn origins(&self) -> Vec<String> {
        lock(&self.origins).iter().cloned().collect()
    }

    /// What was cosigned last of a log; none if nothing ever was.
    pub fn last(&self, origin: &str) -> Result<Option<String>, SeenError> {
        let path = self.file(origin);
        match read(&path)? {
            None if lock(&self.origins).contains(origin) => Err(SeenError::Missing {
                origin: origin.to_owned(),
                path,
            }),
            read => Ok(read),
        }
    }

    /// Keeps what was cosigned. Durable when it returns; where it fails, the old or the new may be
    /// found later, and neither was answered for. One writer a log at a time.
    pub fn put(&self, origin: &str, note: &str) -> io::Result<()> {
        self.disk.put_durably(&self.file(origin), note.as_bytes())?;
        let mut origins = lock(&self.origins);
        if origins.contains(origin) {
            return Ok(());
        }
        // A crash here leaves a log that is not listed, whose file is read all the same.
        let mut text = String::new();
        for listed in origins.iter().map(String::as_str).chain([origin]) {
            let _infallible = writeln!(text, "{listed}");
        }
        self.disk
            .put_durably(&self.path().join("origins"), text.as_bytes())?;
        origins.insert(origin.to_owned());
        Ok(())
    }

    /// Keeps a checkpoint that contradicts what was cosigned, unless enough are kept.
    pub fn put_fork(&self, origin: &str, note: &str) -> io::Result<()> {
        let folder = self.path().join("forks");
        let log = Digest::of(origin.as_bytes()).to_string();
        let name = format!("{log}-{}", Digest::of(note.as_bytes()));
        let kept = disk::names(&folder)?;
        let of_log = kept.iter().filter(|name| name.starts_with(&log));
        if kept.contains(&name) || of_log.count() >= FORKS_MAX {
            return Ok(());
        }
        self.disk.create_dir(&folder)?;
        self.disk.put_durably(&folder.join(name), note.as_bytes())
    }

    fn file(&self, origin: &str) -> PathBuf {
        let name = Digest::of(origin.as_bytes()).to_string();
        self.path().join("seen").join(name)
    }
}

fn read(path: &Path) -> Result<Option<String>, SeenError> {
    let text = disk::read(path).and_then(|bytes| {
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    });
    text.map_err(|cause| SeenError::Read {
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests;
