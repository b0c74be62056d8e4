//! A log, a blob store and a keyring in memory, with switches that make them fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use ledger::log::{BlobError, Blobs, Keyring, KeyringError, Log, LogReader, Opened, ReadError};
use ledger::{AppendError, Draft, GroupKey, Header, Receipt, write_entry};
use vocab::digest::Digest;
use vocab::id::{Handle, LogName};
use vocab::rng::{Rng, RngError};
use vocab::time::{Clock, Time};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// Random bytes that are the same in every run.
#[derive(Debug, Default)]
pub(crate) struct Seeded(AtomicU64);

impl Rng for Seeded {
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError> {
        for chunk in out.chunks_mut(32) {
            let count = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&Digest::of(&count.to_be_bytes()).as_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub(crate) struct Still(AtomicU64);

impl Still {
    pub(crate) fn at(time: Time) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(time.as_micros())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap();
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn back(&self, by: Duration) {
        let by = u64::try_from(by.as_micros()).unwrap();
        self.0.fetch_sub(by, Ordering::Relaxed);
    }
}

impl Clock for Still {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

fn place(index: u64) -> usize {
    usize::try_from(index).unwrap()
}

type Written = (Vec<u8>, Option<Vec<u8>>);

/// A control log in memory. Entries are bytes, written and parsed as on disk.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    pub(crate) entries: Mutex<Vec<Written>>,
    pub(crate) published: AtomicU64,
    /// Nothing is written as long as this is on.
    pub(crate) hold: AtomicBool,
    pub(crate) refuse_append: AtomicBool,
    pub(crate) refuse_publish: AtomicBool,
    /// Gives back other bytes than were acknowledged.
    pub(crate) lie: AtomicBool,
    clock: Arc<Still>,
    header: Header,
}

impl MemoryLog {
    pub(crate) fn new(clock: Arc<Still>) -> Arc<Self> {
        Arc::new(Self {
            entries: Mutex::default(),
            published: AtomicU64::new(0),
            hold: AtomicBool::new(false),
            refuse_append: AtomicBool::new(false),
            refuse_publish: AtomicBool::new(false),
            lie: AtomicBool::new(false),
            clock,
            header: Header {
                trust_domain: "acme.example".parse().unwrap(),
                node: "n-1".to_owned(),
                epoch: 1,
                key: "tipstaff.local/control/x+00000000".to_owned(),
            },
        })
    }

    /// Adds bytes that no writer of ours would.
    pub(crate) fn forge(&self, bytes: Vec<u8>) {
        lock(&self.entries).push((bytes, None));
    }

    pub(crate) fn len(&self) -> u64 {
        lock(&self.entries).len() as u64
    }

    pub(crate) fn text(&self) -> String {
        let entries = lock(&self.entries);
        let texts: Vec<&str> = entries
            .iter()
            .map(|(bytes, _)| std::str::from_utf8(bytes).unwrap())
            .collect();
        texts.join("\n")
    }

    fn write(&self, drafts: &[Draft]) -> Result<Vec<Receipt>, AppendError> {
        if self.refuse_append.load(Ordering::Relaxed) {
            return Err(AppendError::Unwritable {
                cause: "switched off".to_owned(),
            });
        }
        let time = self.clock.now();
        let mut entries = lock(&self.entries);
        let mut receipts = Vec::new();
        for draft in drafts {
            let bytes = write_entry(&self.header, time, draft)?;
            receipts.push(Receipt {
                log: LogName::Control,
                index: entries.len() as u64,
                leaf_hash: ledger::hash::leaf(&bytes),
                time,
            });
            entries.push((bytes, draft.sealed.clone()));
        }
        Ok(receipts)
    }
}

impl Log for MemoryLog {
    fn name(&self) -> LogName {
        LogName::Control
    }

    fn origin(&self) -> &'static str {
        "tipstaff.local/control/x"
    }

    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Receipt>, AppendError>> {
        async move {
            while self.hold.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            let receipts = self.write(&drafts);
            // So that a caller who goes away does so between the append and the fold.
            tokio::task::yield_now().await;
            receipts
        }
        .boxed()
    }

    fn publish(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        async move {
            if self.refuse_publish.load(Ordering::Relaxed) {
                return Err(AppendError::Unwritable {
                    cause: "switched off".to_owned(),
                });
            }
            self.published.store(self.len(), Ordering::Relaxed);
            Ok(())
        }
        .boxed()
    }

    fn reader(&self) -> &dyn LogReader {
        self
    }
}

impl LogReader for MemoryLog {
    fn size(&self) -> u64 {
        self.len()
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        let entries = lock(&self.entries);
        let lie = self.lie.load(Ordering::Relaxed);
        let at = if lie { 0 } else { place(index) };
        match entries.get(at) {
            Some((bytes, _)) => Ok(bytes.clone()),
            None => Err(ReadError::Absent {
                what: format!("control/{index}"),
            }),
        }
    }

    fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let entries = lock(&self.entries);
        Ok(entries[place(index)].1.clone())
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        Ok(None)
    }

    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError> {
        assert_eq!(level, 0, "these logs are short");
        let hashes = (n * 256..).take(usize::from(width));
        let hashes = hashes.map(|index| Ok(ledger::hash::leaf(&self.entry(index)?)));
        let hashes: Vec<Digest> = hashes.collect::<Result<_, ReadError>>()?;
        Ok(hashes.iter().flat_map(|it| *it.as_bytes()).collect())
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryBlobs(Mutex<HashMap<Digest, Vec<u8>>>);

impl Blobs for MemoryBlobs {
    fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = Digest::of(bytes);
        lock(&self.0).insert(digest, bytes.to_vec());
        Ok(digest)
    }

    fn get(&self, digest: &Digest) -> Result<Option<Vec<u8>>, BlobError> {
        Ok(lock(&self.0).get(digest).cloned())
    }
}

#[derive(Debug, Default)]
pub(crate) struct MemoryKeyring {
    keys: Mutex<HashMap<Handle, (String, Arc<GroupKey>)>>,
    pub(crate) locked: AtomicBool,
    pub(crate) refuse: AtomicBool,
    /// Keys that were erased.
    gone: Mutex<HashMap<Handle, (String, Arc<GroupKey>)>>,
    rng: Seeded,
}

impl MemoryKeyring {
    /// A key that was erased is there again, as from a backup.
    pub(crate) fn restore(&self, handle: &Handle) {
        let key = lock(&self.gone).remove(handle).unwrap();
        lock(&self.keys).insert(handle.clone(), key);
    }

    fn refused(&self) -> Result<(), KeyringError> {
        if self.refuse.load(Ordering::Relaxed) {
            return Err(KeyringError::Unwritable {
                cause: "switched off".to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.keys).len()
    }
}

impl Keyring for MemoryKeyring {
    fn group_key(&self, group: &str) -> Result<(Handle, Arc<GroupKey>), KeyringError> {
        self.refused()?;
        let mut keys = lock(&self.keys);
        if let Some((handle, (_, key))) = keys.iter().find(|(_, (name, _))| name == group) {
            return Ok((handle.clone(), Arc::clone(key)));
        }
        let random = |error: RngError| KeyringError::Random { cause: error.0 };
        let handle = Handle::random("k", &self.rng).map_err(random)?;
        let key = Arc::new(GroupKey::random(&self.rng).map_err(random)?);
        keys.insert(handle.clone(), (group.to_owned(), Arc::clone(&key)));
        Ok((handle, key))
    }

    fn open(&self, handle: &Handle) -> Result<Opened, KeyringError> {
        Ok(match lock(&self.keys).get(handle) {
            None => Opened::Erased,
            Some(_) if self.locked.load(Ordering::Relaxed) => Opened::Locked,
            Some((_, key)) => Opened::Key(Arc::clone(key)),
        })
    }

    fn erase(&self, handle: &Handle) -> Result<bool, KeyringError> {
        self.refused()?;
        let Some(key) = lock(&self.keys).remove(handle) else {
            return Ok(false);
        };
        lock(&self.gone).insert(handle.clone(), key);
        Ok(true)
    }
}
