//! A file that is made from the logs and can be made again: whole or not at all, and no harm if it
//! is not there.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk, Faults};

/// One such file of a data folder. It has one writer; reading needs no lock.
#[derive(Debug)]
pub struct DerivedFile {
    path: PathBuf,
    disk: Disk,
}

impl DerivedFile {
    /// The file at `path`, which need not be there. Nothing is read or written yet.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            disk: Disk::default(),
        }
    }

    /// Makes its storage fail at will.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.disk = Disk::new(faults);
        self
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes; none if it is not there.
    pub fn read(&self) -> io::Result<Option<Vec<u8>>> {
        disk::read(&self.path)
    }

    /// Puts `bytes` in its place, durably. On an error what was there before is there, unless it
    /// is only the last flush that failed; what was begun is removed, since a full disk needs it.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let written = self.disk.put_durably(&self.path, bytes);
        if written.is_err() {
            let _left = self.disk.remove(&disk::beside(&self.path));
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    /// What is there after a write in which every step from `step` on failed so.
    fn after(step: u64, fault: Fault) -> (bool, Vec<u8>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::default();
        let file = DerivedFile::at(&folder.path().join("it")).with_faults(faults.clone());
        assert_eq!(file.read().unwrap(), None);
        file.write(b"before").unwrap();
        faults.set_from(step, fault);
        let failed = file.write(b"after").is_err();
        let there = file.read().unwrap().unwrap();
        let files = disk::names(folder.path()).unwrap().len();
        (failed, there, files)
    }

    #[test]
    fn a_write_that_fails_leaves_one_whole_file() {
        for fault in Fault::FAILURES {
            for step in 0..6 {
                let (failed, there, _) = after(step, fault);
                let whole = there == b"before" || there == b"after";
                assert!(whole, "{fault:?} from {step}: {there:?}");
                assert!(failed || there == b"after", "{fault:?} from {step}");
            }
        }
    }

    #[test]
    fn what_a_killed_writer_left_beside_it_is_not_read_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it");
        let file = DerivedFile::at(&path);
        std::fs::write(disk::beside(&path), b"half of what was to be th").unwrap();
        assert_eq!(file.read().unwrap(), None);
        file.write(b"whole").unwrap();
        assert_eq!(file.read().unwrap().unwrap(), b"whole");
        assert_eq!(disk::names(folder.path()).unwrap(), ["it"]);
    }

    #[test]
    fn a_full_disk_keeps_nothing_that_was_begun() {
        for step in 0..2 {
            let (failed, there, files) = after(step, Fault::Full);
            assert!(failed && there == b"before");
            assert_eq!(files, 1, "{step}");
        }
    }
}
