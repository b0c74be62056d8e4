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

impl Fault {
    /// Every way in which it fails, for tests of what happens then.
    pub const FAILURES: [Self; 5] = [
        Self::Full,
        Self::ReadOnly,
        Self::Io,
        Self::Sync,
        Self::PersistedButFailed,
    ];
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
    #[cfg(test)]
    record: Option<crate::power::Record>,
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

    /// From now on a [`Disk`] that is made with this switch records what it changes.
    #[cfg(test)]
    pub(crate) fn set_record(&self, record: crate::power::Record) {
        lock(&self.0).record = Some(record);
    }

    #[cfg(test)]
    fn record(&self) -> Option<crate::power::Record> {
        lock(&self.0).record.clone()
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

/// A change to the file system.
#[derive(Clone, Copy)]
pub(crate) enum Change<'a> {
    Create(&'a Path),
    Write(&'a File, u64, &'a [u8]),
    Sync(&'a File),
    SyncDir(&'a Path),
    Rename(&'a Path, &'a Path),
    Remove(&'a Path),
    RemoveDir(&'a Path),
    CreateDir(&'a Path),
}

impl Change<'_> {
    const fn needs_space(self) -> bool {
        matches!(self, Self::Create(_) | Self::Write(..) | Self::CreateDir(_))
    }

    const fn is_flush(self) -> bool {
        matches!(self, Self::Sync(_) | Self::SyncDir(_))
    }

    fn make(self) -> io::Result<()> {
        match self {
            Self::Create(path) => {
                let mut how = OpenOptions::new();
                how.write(true).create(true).truncate(true).mode(0o600);
                how.open(path).map(drop)
            }
            Self::Write(file, at, bytes) => file.write_all_at(bytes, at),
            Self::Sync(file) => file.sync_data(),
            Self::SyncDir(path) => File::open(path)?.sync_all(),
            Self::Rename(from, to) => fs::rename(from, to),
            Self::Remove(path) => unless(io::ErrorKind::NotFound, fs::remove_file(path)),
            Self::RemoveDir(path) => unless(io::ErrorKind::NotFound, fs::remove_dir_all(path)),
            Self::CreateDir(path) => unless(
                io::ErrorKind::AlreadyExists,
                DirBuilder::new().mode(0o700).create(path),
            ),
        }
    }
}

/// The data folder's only way to the file system's writing side.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    faults: Faults,
    /// What was changed, for tests that replay it up to a power cut.
    #[cfg(test)]
    pub(crate) record: Option<crate::power::Record>,
}

impl Disk {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            #[cfg(test)]
            record: faults.record(),
            faults,
        }
    }

    fn make(&self, change: Change<'_>) -> io::Result<()> {
        let make = || {
            #[cfg(test)]
            return crate::power::recorded(self.record.as_ref(), change, || change.make());
            #[cfg(not(test))]
            change.make()
        };
        match self.faults.next() {
            Fault::Full if change.needs_space() => Err(Errno::NOSPC.into()),
            Fault::ReadOnly if !change.is_flush() => Err(Errno::ROFS.into()),
            Fault::Io => Err(Errno::IO.into()),
            Fault::Sync if change.is_flush() => Err(Errno::IO.into()),
            Fault::PersistedButFailed => {
                make()?;
                Err(Errno::IO.into())
            }
            Fault::Slow(by) if change.is_flush() => {
                slow(by);
                make()
            }
            Fault::None | Fault::Full | Fault::ReadOnly | Fault::Sync | Fault::Slow(_) => make(),
        }
    }

    /// Creates a file, emptied if it was there.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        self.make(Change::Create(path))?;
        OpenOptions::new().read(true).write(true).open(path)
    }

    pub(crate) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.make(Change::Write(file, offset, bytes))
    }

    /// Makes a file's data durable, and of its metadata what is needed to read it back.
    pub(crate) fn sync(&self, file: &File) -> io::Result<()> {
        self.make(Change::Sync(file))
    }

    /// Makes durable which names a folder holds.
    pub(crate) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.make(Change::SyncDir(path))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.make(Change::Rename(from, to))
    }

    /// Removes a file; it is no error if it is not there.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        self.make(Change::Remove(path))
    }

    /// Removes a folder and what is in it; it is no error if it is not there.
    pub(crate) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.make(Change::RemoveDir(path))
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
        self.make(Change::CreateDir(path))?;
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

pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Takes one kind of error for a success.
fn unless(kind: io::ErrorKind, result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| {
        if error.kind() == kind {
            Ok(())
        } else {
            Err(error)
        }
    })
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
