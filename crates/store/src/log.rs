//! A log kept in files.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ledger::note::Verifier;
use ledger::tile::Edge;
use ledger::{AppendError, Draft, Header, Log, LogReader, Receipt};
use tokio::sync::oneshot;
use tracing::warn;
use vocab::digest::Digest;
use vocab::id::LogName;
use vocab::limits::APPEND_QUEUE_MAX;
use vocab::time::{Clock, Time};

use crate::dir::{Claim, DataDir};
use crate::disk::{Disk, Faults, lock};
use crate::files::{Folder, Prefer, Reader, Tail};
use crate::health::{Health, Meter};
use crate::publisher::{Publisher, Task};
use crate::recover::Recovery;
use crate::signers::{Signers, Signing};
use crate::spare::Spares;
use crate::writer::{Message, Request, Writer};
use crate::{OpenError, segment};

/// Bytes of drafts that may wait for a commit.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of drafts in one append.
const APPEND_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Length of a segment: the control log grows slowly.
const CONTROL_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Length of a segment: a busy node fills one in a second or so.
const CALLS_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// How a log is opened.
#[derive(Debug)]
pub struct LogOptions {
    /// Which of the two.
    pub name: LogName,
    /// The log's key; its name is the log's origin.
    pub signers: Signers,
    /// What the writer adds to every entry. Its `key` is set to the log's; its epoch may not be
    /// lower than the last entry's ([`OpenError::Epoch`]).
    pub header: Header,
    /// Where entries get their time.
    pub clock: Arc<dyn Clock>,
    /// A switch that makes the storage fail.
    pub faults: Faults,
    /// How long a durable entry waits for a checkpoint that covers it; none: until asked.
    pub publish_every: Option<Duration>,
}

/// A log in a data folder, with a writer thread and a publisher thread.
///
/// Dropping it closes it.
pub struct FilesLog {
    name: LogName,
    origin: String,
    reader: Reader,
    recovery: Recovery,
    signing: Signing,
    tail: Arc<Mutex<Tail>>,
    meter: Arc<Meter>,
    queue: SyncSender<Message>,
    tasks: Sender<Task>,
    threads: Mutex<Option<Threads>>,
}

/// The running threads, and the claim on the folder that they need.
struct Threads {
    writer: JoinHandle<()>,
    publisher: JoinHandle<()>,
    _claim: Claim,
}

impl FilesLog {
    /// Opens the log `options.name` of a data folder: makes it if it is new, and else recovers it
    /// and holds it against its last checkpoint. See [`OpenError`] for what is fatal.
    pub fn open(dir: &DataDir, options: LogOptions) -> Result<Self, OpenError> {
        let segment_bytes = match options.name {
            LogName::Control => CONTROL_SEGMENT_BYTES,
            LogName::Calls => CALLS_SEGMENT_BYTES,
        };
        Self::open_with(dir, options, segment_bytes)
    }

    pub(crate) fn open_with(
        dir: &DataDir,
        options: LogOptions,
        segment_bytes: u64,
    ) -> Result<Self, OpenError> {
        let LogOptions {
            name,
            signers,
            mut header,
            clock,
            faults,
            publish_every,
        } = options;
        let claim = dir.claim(name)?;
        let disk = Disk::new(faults);
        let folder = Folder::new(claim.path());
        let tail = Arc::new(Mutex::new(Tail::default()));
        let meter = Arc::new(Meter::default());
        let origin = signers.origin().to_owned();
        signers.key_name().clone_into(&mut header.key);
        let signing = Signing::new(signers);
        let spares = Arc::new(Spares::new(disk.clone(), folder.segments(), segment_bytes));
        disk.create_dir(folder.path())
            .map_err(|source| OpenError::io("create", folder.path(), source))?;
        let mut publisher = Publisher {
            disk: disk.clone(),
            folder: folder.clone(),
            tail: Arc::clone(&tail),
            meter: Arc::clone(&meter),
            clock: Arc::clone(&clock),
            signed_by: signing.get(),
            signing: signing.clone(),
            spares: Arc::clone(&spares),
            segment_bytes,
            edge: Edge::new(),
            full: std::collections::VecDeque::new(),
            bundles: 0,
            published: 0,
            unsettled: Vec::new(),
            stale: Vec::new(),
            spoiled: false,
        };
        let (recovery, segment, at) = publisher.recover()?;
        for (path, at) in &recovery.cut {
            warn!(log = %name, segment = %path, byte = at, "A commit was cut short; it was not acknowledged");
        }
        let last_epoch = recovery.last.as_ref().map_or(0, |last| last.epoch);
        if header.epoch < last_epoch {
            return Err(OpenError::Epoch {
                given: header.epoch,
                last: last_epoch,
            });
        }
        let last = recovery.last.as_ref().map(|last| last.time);
        meter.opened(last);
        let (tasks, task_queue) = channel();
        let (queue, messages) = sync_channel(APPEND_QUEUE_MAX);
        let writer = Writer {
            disk,
            folder: folder.clone(),
            log: name,
            owner: Digest::of(origin.as_bytes()),
            header,
            signing: signing.clone(),
            clock,
            tail: Arc::clone(&tail),
            meter: Arc::clone(&meter),
            tasks: tasks.clone(),
            spares,
            segment_bytes,
            number: segment.number,
            current: Some((segment, at)),
            next: recovery.size,
            last: last.unwrap_or(Time::EPOCH),
            spare_asked: false,
        };
        let failed = |source| OpenError::io("start the threads of", folder.path(), source);
        let publisher = spawn(name, "publisher", task_queue, move |tasks| {
            publisher.run(tasks, publish_every);
        })
        .map_err(failed)?;
        let writer =
            spawn(name, "writer", messages, move |queue| writer.run(queue)).map_err(failed)?;
        Ok(Self {
            name,
            origin,
            reader: Reader::new(folder, Arc::clone(&tail), Prefer::Segments),
            recovery,
            signing,
            tail,
            meter,
            queue,
            tasks,
            threads: Mutex::new(Some(Threads {
                writer,
                publisher,
                _claim: claim,
            })),
        })
    }

    /// What was found when the log was opened.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Has other keys of this log sign from now on, the last checkpoint first. On an error they
    /// sign what comes next, and the checkpoint in place is as it was.
    pub async fn sign_with(&self, signers: Signers) -> Result<(), AppendError> {
        if signers.origin() != self.origin {
            return Err(AppendError::Unwritable {
                cause: format!("`{}` is a key of another log", signers.key_name()),
            });
        }
        self.signing.set(signers);
        self.publish().await
    }

    /// The public keys by which checkpoints are signed now, the log's own first.
    pub fn verifiers(&self) -> Vec<Verifier> {
        self.signing.get().verifiers()
    }

    /// How the log is doing.
    pub fn health(&self) -> Health {
        let running = lock(&self.threads).as_ref().is_some_and(|threads| {
            !threads.writer.is_finished() && !threads.publisher.is_finished()
        });
        self.meter.health(self.reader.size(), running)
    }

    /// Commits what waits, publishes a last checkpoint and ends the threads; appends are refused
    /// from then on. Blocks. The folder is free again when it returns; closing twice is no error.
    pub fn close(&self) -> Result<(), AppendError> {
        let Some(threads) = lock(&self.threads).take() else {
            return Ok(());
        };
        // Either thread may have ended by a panic; the other is ended all the same.
        let _ended = self.queue.send(Message::Stop);
        let writer = threads.writer.join();
        let (ack, mut published) = oneshot::channel();
        let _ended = self.tasks.send(Task::Publish(ack));
        let _ended = self.tasks.send(Task::Stop);
        let publisher = threads.publisher.join();
        if writer.is_err() || publisher.is_err() {
            return Err(AppendError::Unwritable {
                cause: "a thread of the log panicked".to_owned(),
            });
        }
        // The thread has ended, so it has answered.
        published.try_recv().unwrap_or(Err(AppendError::Closed))
    }

    fn enqueue(
        &self,
        drafts: Vec<Draft>,
    ) -> Result<oneshot::Receiver<Result<Vec<Receipt>, AppendError>>, AppendError> {
        let mut bytes = 0;
        for draft in &drafts {
            if draft.kind.log() != self.name {
                return Err(AppendError::WrongLog {
                    kind: draft.kind,
                    log: self.name,
                });
            }
            bytes += draft.body.get().len() + draft.sealed.as_ref().map_or(0, Vec::len);
            bytes += segment::extent(&[]);
        }
        if bytes > APPEND_BYTES_MAX {
            return Err(AppendError::TooLarge {
                what: "append",
                length: bytes,
                max: APPEND_BYTES_MAX,
            });
        }
        let meter = &self.meter;
        let waiting_bytes = meter.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        meter.waiting.fetch_add(1, Ordering::Relaxed);
        let (ack, receipts) = oneshot::channel();
        let request = Request { drafts, bytes, ack };
        let sent = if waiting_bytes > QUEUE_BYTES_MAX {
            Err(AppendError::Busy)
        } else {
            self.queue
                .try_send(Message::Append(request))
                .map_err(|error| match error {
                    TrySendError::Full(_) => AppendError::Busy,
                    TrySendError::Disconnected(_) => AppendError::Closed,
                })
        };
        match sent {
            Ok(()) => Ok(receipts),
            Err(refusal) => {
                meter.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                meter.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(refusal)
            }
        }
    }
}

fn spawn<T: Send + 'static>(
    log: LogName,
    role: &str,
    queue: Receiver<T>,
    run: impl FnOnce(&Receiver<T>) + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(format!("{log}-{role}"))
        .spawn(move || run(&queue))
}

impl Log for FilesLog {
    fn name(&self) -> LogName {
        self.name
    }

    fn origin(&self) -> &str {
        &self.origin
    }

    fn append(&self, drafts: Vec<Draft>) -> BoxFuture<'_, Result<Vec<Receipt>, AppendError>> {
        Box::pin(async move {
            if drafts.is_empty() {
                return Ok(Vec::new());
            }
            // A writer that is gone has dropped what was in its queue, unwritten.
            self.enqueue(drafts)?
                .await
                .unwrap_or(Err(AppendError::Closed))
        })
    }

    fn publish(&self) -> BoxFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            let (ack, published) = oneshot::channel();
            self.tasks
                .send(Task::Publish(ack))
                .map_err(|_| AppendError::Closed)?;
            published.await.unwrap_or(Err(AppendError::Closed))
        })
    }

    fn reader(&self) -> &dyn LogReader {
        &self.reader
    }
}

impl Drop for FilesLog {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            warn!(log = %self.name, error = %error, "A log was not closed cleanly");
        }
    }
}

impl fmt::Debug for FilesLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = lock(&self.tail);
        f.debug_struct("FilesLog")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("size", &tail.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
