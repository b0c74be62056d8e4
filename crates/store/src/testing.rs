//! What the tests of this crate share: a data folder, a clock, drafts, and a check of everything
//! from nothing.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ledger::note::Signer;
use ledger::verify::{Expected, Report, verify};
use ledger::{Actor, AppendError, Draft, Entry, Header, Kind, Log, LogReader, Receipt, hash};
use serde_json::json;
use tempfile::TempDir;
use vocab::id::LogName;
use vocab::time::{Clock, Time};

use crate::{DataDir, Faults, FilesLog, LogOptions, OfflineLog, OpenError};

pub(crate) const SEGMENT_BYTES: u64 = 32 * 1024;

/// A clock that goes on by a microsecond whenever it is read.
#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    /// A clock that is ahead of every other.
    pub(crate) fn later() -> Self {
        Self(AtomicU64::new(1_895_000_000_000_000))
    }

    pub(crate) fn set(&self, micros: u64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::from_micros(self.0.fetch_add(1, Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A data folder, and what its logs are opened with.
pub(crate) struct Bench {
    temp: TempDir,
    pub(crate) faults: Faults,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) publish_every: Option<Duration>,
    pub(crate) segment_bytes: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            temp: tempfile::tempdir().unwrap(),
            faults: Faults::default(),
            clock: Arc::new(TestClock(AtomicU64::new(1_795_000_000_000_000))),
            publish_every: None,
            segment_bytes: SEGMENT_BYTES,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.temp.path()
    }

    pub(crate) fn path(&self, in_log: &str) -> PathBuf {
        self.dir().join("calls").join(in_log)
    }

    pub(crate) fn try_open(&self) -> Result<FilesLog, OpenError> {
        open(
            self.dir(),
            self.clock.clone(),
            self.faults.clone(),
            self.publish_every,
            self.segment_bytes,
        )
    }

    pub(crate) fn open(&self) -> FilesLog {
        self.try_open().unwrap()
    }

    pub(crate) fn check(&self) -> Report {
        check_log(self.dir())
    }
}

pub(crate) fn signer() -> Signer {
    Signer::from_seed("acme.example/calls", &[7; 32]).unwrap()
}

fn header(signer: &Signer) -> Header {
    Header {
        trust_domain: "acme.example".parse().unwrap(),
        node: "n-1".to_owned(),
        epoch: 1,
        key: signer.verifier().key_name(),
    }
}

pub(crate) fn open(
    dir: &Path,
    clock: Arc<dyn Clock>,
    faults: Faults,
    publish_every: Option<Duration>,
    segment_bytes: u64,
) -> Result<FilesLog, OpenError> {
    let signer = signer();
    let header = header(&signer);
    let options = LogOptions {
        name: LogName::Calls,
        signers: signer.into(),
        header,
        clock,
        faults,
        publish_every,
    };
    FilesLog::open_with(&DataDir::open(dir)?, options, segment_bytes)
}

/// Reads a log from nothing and verifies all of it.
pub(crate) fn check_log(dir: &Path) -> Report {
    let log = OfflineLog::open(dir, LogName::Calls).unwrap();
    let keys = signer().verifier().clone().into();
    let expected = Expected {
        log: LogName::Calls,
        keys: &keys,
        known: &[],
    };
    match verify(&log, expected) {
        Ok(report) => report,
        Err(unsound) => panic!("{unsound}: {:?}", unsound.faults),
    }
}

/// A draft whose body says `text`.
pub(crate) fn draft(text: &str) -> Draft {
    Draft::new(Kind::Decision, Actor::node("n-1"), &json!({ "text": text })).unwrap()
}

/// A draft with something sealed.
pub(crate) fn sealed(text: &str, sealed: &[u8]) -> Draft {
    Draft {
        sealed: Some(sealed.to_vec()),
        ..draft(text)
    }
}

/// What [`draft`] was given, read back.
pub(crate) fn text(reader: &dyn LogReader, index: u64) -> String {
    let bytes = reader.entry(index).unwrap();
    let entry = Entry::parse(&bytes).unwrap();
    let body: serde_json::Value = serde_json::from_str(entry.body.get()).unwrap();
    body["text"].as_str().unwrap().to_owned()
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn append(log: &FilesLog, text: &str) -> Result<Receipt, AppendError> {
    let mut receipts = wait(log.append(vec![draft(text)]))?;
    Ok(receipts.pop().unwrap())
}

pub(crate) fn publish(log: &FilesLog) -> Result<(), AppendError> {
    wait(log.publish())
}

/// Appends entries `from..to`, each saying its index.
pub(crate) fn fill(log: &FilesLog, from: u64, to: u64) -> Vec<Receipt> {
    let indices: Vec<u64> = (from..to).collect();
    let mut receipts = Vec::new();
    for chunk in indices.chunks(100) {
        let drafts = chunk
            .iter()
            .map(|index| draft(&index.to_string()))
            .collect();
        receipts.extend(wait(log.append(drafts)).unwrap());
    }
    receipts
}

/// What was acknowledged is there, at its place and unchanged.
pub(crate) fn check_receipts(reader: &dyn LogReader, receipts: &[Receipt]) {
    for receipt in receipts {
        let entry = reader.entry(receipt.index).unwrap();
        assert_eq!(
            hash::leaf(&entry),
            receipt.leaf_hash,
            "entry {}",
            receipt.index
        );
    }
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

/// The paths of a log's segments.
pub(crate) fn segments(bench: &Bench) -> Vec<PathBuf> {
    let found = crate::segment::list(&bench.path("segments")).unwrap();
    found.into_iter().map(|(_, path)| path).collect()
}
