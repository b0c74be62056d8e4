//! Content-addressed bytes: `<first two digits>/<64 hex digits>` in a folder.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ledger::{BlobError, Blobs};
use vocab::digest::Digest;

use crate::disk::{self, Disk, Faults, lock};

/// Blobs in a folder. Reading needs no lock, and makes no folder.
#[derive(Debug)]
pub struct FileBlobs {
    folder: PathBuf,
    disk: Disk,
    /// One at a time: two writers of one blob would share the file beside it.
    writing: Mutex<()>,
}

impl FileBlobs {
    /// The blobs in `folder`, `blobs/` of a data folder.
    pub fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            disk: Disk::default(),
            writing: Mutex::default(),
        }
    }

    /// Makes its storage fail at will.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.disk = Disk::new(faults);
        self
    }

    /// The digests that there are blobs of, in order, sound or not.
    pub fn list(&self) -> std::io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for folder in disk::names(&self.folder)? {
            for name in disk::names(&self.folder.join(&folder))? {
                // Anything else is the rest of an interrupted write, or not the store's.
                let digest = name.parse::<Digest>().ok();
                found.extend(digest.filter(|_| name.starts_with(&folder)));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn path(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        let name = digest.to_string();
        let folder = self.folder.join(name.get(..2).unwrap_or_default());
        let path = folder.join(name);
        (folder, path)
    }
}

impl Blobs for FileBlobs {
    fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        let (folder, path) = self.path(&digest);
        let _writing = lock(&self.writing);
        // Written again also if it is there: a crash may have left it there without its name being
        // durable, and what is there may be damaged.
        let put = || {
            self.disk.create_dir(&folder)?;
            self.disk.put_durably(&path, bytes)
        };
        put().map_err(|error| BlobError::Unwritable {
            cause: error.to_string(),
        })?;
        Ok(digest)
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        let (_, path) = self.path(digest);
        let bytes = disk::read(&path).map_err(|error| BlobError::Unreadable {
            digest: *digest,
            cause: error.to_string(),
        })?;
        match bytes {
            Some(bytes) if Digest::of(&bytes) != *digest => {
                Err(BlobError::Damaged { digest: *digest })
            }
            bytes => Ok(bytes),
        }
    }
}

#[cfg(test)]
mod tests;
