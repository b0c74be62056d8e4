//! What a log says of itself to operators.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use vocab::time::Time;

use crate::disk::lock;

/// How far the clock may be behind the last entry.
pub const CLOCK_BEHIND_MAX: Duration = Duration::from_secs(5);

/// How a log is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether the last commit was written; true before the first.
    pub writable: bool,
    /// Whether the last publication was made; true before the first.
    pub publishing: bool,
    /// Whether the writer and the publisher are running.
    pub running: bool,
    /// How many entries are durable.
    pub entries: u64,
    /// How many entries the checkpoint in place covers.
    pub published: u64,
    /// Bytes of entries and sealed parts made durable since the log was opened.
    pub bytes: u64,
    /// Group commits since the log was opened; each is one flush.
    pub commits: u64,
    /// Appends that wait for a commit.
    pub waiting: usize,
    /// The time of the last entry; none if there is none.
    pub last_entry: Option<Time>,
    /// The last thing that failed, if anything has.
    pub last_failure: Option<Failure>,
}

impl Health {
    /// How far the clock is behind the last entry, if that is too far for another one.
    pub fn clock_behind(&self, now: Time) -> Option<Duration> {
        let behind = self.last_entry?.since(now);
        (behind > CLOCK_BEHIND_MAX).then_some(behind)
    }
}

/// Something that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub time: Time,
    /// What the storage said.
    pub cause: String,
}

/// Where the threads of a log leave what [`Health`] is made of.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Whether the publisher was told of entries since it last looked.
    pub(crate) appended: AtomicBool,
    pub(crate) waiting: AtomicUsize,
    pub(crate) waiting_bytes: AtomicUsize,
    unwritable: AtomicBool,
    unpublished: AtomicBool,
    published: AtomicU64,
    bytes: AtomicU64,
    commits: AtomicU64,
    last_entry: AtomicU64,
    last_failure: Mutex<Option<Failure>>,
}

impl Meter {
    /// The time of the last entry that was there when the log was opened.
    pub(crate) fn opened(&self, last: Option<Time>) {
        let last = last.map_or(0, Time::as_micros);
        self.last_entry.store(last, Ordering::Relaxed);
    }

    /// Says whether the commit before had failed.
    pub(crate) fn committed(&self, time: Time, bytes: u64) -> bool {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_entry.store(time.as_micros(), Ordering::Relaxed);
        self.unwritable.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn published(&self, size: u64) {
        self.published.store(size, Ordering::Relaxed);
        self.unpublished.store(false, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, time: Time, cause: &str) {
        *lock(&self.last_failure) = Some(Failure {
            time,
            cause: cause.to_owned(),
        });
    }

    /// Says whether the commit before had not failed.
    pub(crate) fn commit_failed(&self, time: Time, cause: &str) -> bool {
        self.failed(time, cause);
        !self.unwritable.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn publish_failed(&self, time: Time, cause: &str) {
        self.unpublished.store(true, Ordering::Relaxed);
        self.failed(time, cause);
    }

    pub(crate) fn health(&self, entries: u64, running: bool) -> Health {
        let last = Time::from_micros(self.last_entry.load(Ordering::Relaxed));
        Health {
            writable: !self.unwritable.load(Ordering::Relaxed),
            publishing: !self.unpublished.load(Ordering::Relaxed),
            running,
            entries,
            published: self.published.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            last_entry: (entries > 0).then_some(last),
            last_failure: lock(&self.last_failure).clone(),
        }
    }
}
