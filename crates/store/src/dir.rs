//! The data folder, held by one process at a time.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use vocab::id::LogName;

use crate::OpenError;
use crate::disk::{Disk, lock};

/// The data folder, locked. The lock is the kernel's: it goes when the process goes, however that
/// happens, and child processes do not inherit it.
#[derive(Clone, Debug)]
pub struct DataDir(Arc<Held>);

#[derive(Debug)]
struct Held {
    path: PathBuf,
    /// Held for its lock.
    _lock: File,
    open: Mutex<BTreeSet<LogName>>,
}

impl DataDir {
    /// Creates the folder if need be, and takes its lock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let disk = Disk::default();
        let failed = |source| OpenError::io("open", path, source);
        disk.create_dir(path).map_err(failed)?;
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(Arc::new(Held {
                path: path.to_owned(),
                _lock: file,
                open: Mutex::default(),
            }))),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Bytes that may still be written on its file system.
    pub fn free_bytes(&self) -> io::Result<u64> {
        crate::free_bytes(self.path())
    }

    /// Takes a log for oneself; a log has one writer.
    pub(crate) fn claim(&self, log: LogName) -> Result<Claim, OpenError> {
        if !lock(&self.0.open).insert(log) {
            return Err(OpenError::Locked {
                path: self.0.path.join(log.as_str()),
            });
        }
        Ok(Claim {
            dir: self.clone(),
            log,
        })
    }
}

/// One log of a locked folder, taken. Keeps the folder locked.
#[derive(Debug)]
pub(crate) struct Claim {
    dir: DataDir,
    log: LogName,
}

impl Claim {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.0.path.join(self.log.as_str())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.dir.0.open).remove(&self.log);
    }
}
