//! Every write to the data folder goes through here, and every one of them can be made to fail.
//!
//! Files are private to the node's user. What must appear whole is written beside its place and
//! renamed into it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

/// A way for the storage to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    #[default]
    None,
    /// No space: what needs more fails before anything is written.
    Full,
    /// Mounted read-only: every change fails before anything is changed.
    ReadOnly,
    /// An I/O error: every change and every flush fails before anything is done.
    Io,
    /// Writes reach the file, flushing them fails.
    Sync,
    /// Everything is done, durably, and then reported as failed.
    PersistedButFailed,
    /// Every flush takes this much longer.
    Slow(Duration),
}

/// A switch that makes the storage fail. Clones are the same switch.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    fault: Fault,
    from: u64,
    until: u64,
    step: u64,
}

impl Faults {
    /// From now on the storage fails so ([`Fault::None`]: works again).
    pub fn set(&self, fault: Fault) {
        self.set_from(0, fault);
    }

    /// The storage works for `steps` more operations and then fails so.
    pub fn set_from(&self, steps: u64, fault: Fault) {
        let mut plan = lock(&self.0);
        plan.fault = fault;
        plan.from = plan.step.saturating_add(steps);
        plan.until = u64::MAX;
    }

    /// One operation fails so: the one after `steps` more.
    pub fn set_at(&self, steps: u64, fault: Fault) {
        let mut plan = lock(&self.0);
        plan.fault = fault;
        plan.from = plan.step.saturating_add(steps);
        plan.until = plan.from.saturating_add(1);
    }

    /// How many operations there have been.
    pub fn steps(&self) -> u64 {
        lock(&self.0).step
    }

    fn next(&self) -> Fault {
        let mut plan = lock(&self.0);
        let step = plan.step;
        plan.step += 1;
        if (plan.from..plan.until).contains(&step) {
            plan.fault
        } else {
            Fault::None
        }
    }
}

/// Locks, also after a panic elsewhere: what is behind our locks is changed in one step each.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an operation asks of the storage; a fault may touch some and not others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Space,
    Change,
    Flush,
}

/// The data folder's only way to the file system's writing side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Faults);

impl Disk {
    pub(crate) const fn new(faults: Faults) -> Self {
        Self(faults)
    }

    fn run<T>(&self, asks: Asks, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match (self.0.next(), asks) {
            (Fault::Full, Asks::Space) => Err(Errno::NOSPC.into()),
            (Fault::ReadOnly, Asks::Space | Asks::Change) => Err(Errno::ROFS.into()),
            (Fault::Io, _) | (Fault::Sync, Asks::Flush) => Err(Errno::IO.into()),
            (Fault::PersistedButFailed, _) => {
                act()?;
                Err(Errno::IO.into())
            }
            (Fault::Slow(by), Asks::Flush) => {
                slow(by);
                act()
            }
            (
                Fault::None | Fault::Full | Fault::ReadOnly | Fault::Sync | Fault::Slow(_),
                Asks::Space | Asks::Change | Asks::Flush,
            ) => act(),
        }
    }

    /// Creates a file, emptied if it was there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.run(Asks::Space, || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path)
        })
    }

    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.run(Asks::Space, || file.write_all_at(bytes, offset))
    }

    /// Makes a file's data durable, and of its metadata what is needed to read it back.
    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        self.run(Asks::Flush, || file.sync_data())
    }

    /// Makes durable which names a folder holds.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Asks::Flush, || File::open(path)?.sync_all())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Asks::Change, || fs::rename(from, to))
    }

    /// Removes a file; it is no error if it is not there.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.run(Asks::Change, || absent_is_fine(fs::remove_file(path)))
    }

    /// Removes a folder and what is in it; it is no error if it is not there.
    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Asks::Change, || absent_is_fine(fs::remove_dir_all(path)))
    }

    /// Creates a folder and those above it, durably, if it is not there.
    pub(crate) fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        self.run(Asks::Space, || {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                result => result,
            }
        })?;
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    /// Puts a file in its place, whole or not at all. Not durable: for what can be made again.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = beside(path);
        let file = self.create(&beside)?;
        self.write_at(&file, bytes, 0)?;
        self.rename(&beside, path)
    }

    /// Puts a file in its place, whole or not at all, durably.
    pub(crate) fn put_durably(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = beside(path);
        let file = self.create(&beside)?;
        self.write_at(&file, bytes, 0)?;
        self.sync(&file)?;
        // A crash here leaves the old file, and one beside it that the next `put` empties.
        self.rename(&beside, path)?;
        // A crash here leaves the old or the new file, each whole.
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test asked for a slow disk; only threads that flush, which wait anyway, come here"
)]
fn slow(by: Duration) {
    std::thread::sleep(by);
}

/// Reads a whole file; none if it is not there.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a folder, sorted; none if it is not there.
pub(crate) fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Bytes that the node's user may still write on the file system that holds `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
