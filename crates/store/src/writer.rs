//! The one writer of a log: sequencing and group commit.
//!
//! It takes what waits, gives each entry its index and its time, writes all of it as one frame,
//! flushes once and then acknowledges. There is no window: while one flush runs, the next batch
//! gathers by itself.
//!
//! A commit that fails leaves bytes of which nobody knows whether they are durable. Nothing is
//! written behind or over them: the next commit goes into a new segment that starts at the same
//! index, and recovery believes the later segment. So when a commit has failed, its entries are
//! gone for good once another has succeeded; before that, a start may find them and keep them, as
//! entries that were written and never acknowledged.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex};

use ledger::{AppendError, Draft, Header, Receipt, hash, write_entry};
use tokio::sync::oneshot;
use tracing::{error, info};
use vocab::digest::Digest;
use vocab::id::LogName;
use vocab::limits::COMMIT_ENTRIES_MAX;
use vocab::time::{Clock, Time};

use crate::disk::{Disk, lock};
use crate::files::{Folder, Tail};
use crate::health::{CLOCK_BEHIND_MAX, Meter};
use crate::publisher::Task;
use crate::segment::{self, Blank, Item, PREFIX_BYTES, Segment};
use crate::signers::Signing;
use crate::spare::Spares;

/// Bytes of drafts that one commit takes, unless one append alone has more.
const COMMIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Length of a segment when there is no room for one of the usual length.
const SMALL_SEGMENT_BYTES: u64 = 64 * 1024;

/// What the writer is asked to do.
pub(crate) enum Message {
    /// Append all of these, or none.
    Append(Request),
    /// End, when what was asked before is done.
    Stop,
}

/// Where a caller hears what became of its drafts.
pub(crate) type Ack = oneshot::Sender<Result<Vec<Receipt>, AppendError>>;

/// Drafts of one caller.
pub(crate) struct Request {
    pub(crate) drafts: Vec<Draft>,
    /// How many bytes of the queue's allowance they take.
    pub(crate) bytes: usize,
    pub(crate) ack: Ack,
}

#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) disk: Disk,
    pub(crate) folder: Folder,
    pub(crate) log: LogName,
    pub(crate) owner: Digest,
    pub(crate) header: Header,
    pub(crate) signing: Signing,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) tasks: Sender<Task>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) segment_bytes: u64,
    /// The segment in use and where its next frame goes; none after a commit failed.
    pub(crate) current: Option<(Arc<Segment>, u64)>,
    /// The highest segment number tried.
    pub(crate) number: u64,
    /// The index of the next entry.
    pub(crate) next: u64,
    /// The time of the last entry.
    pub(crate) last: Time,
    /// Whether a spare was asked for since the segment in use began.
    pub(crate) spare_asked: bool,
}

/// The requests of one commit, as entries.
#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    leaves: Vec<Digest>,
    acks: Vec<(Ack, Vec<Receipt>)>,
}

impl Writer {
    pub(crate) fn run(mut self, queue: &Receiver<Message>) {
        while let Ok(Message::Append(first)) = queue.recv() {
            let mut stop = false;
            let (mut count, mut bytes) = (first.drafts.len(), first.bytes);
            let mut requests = vec![first];
            while count < COMMIT_ENTRIES_MAX && bytes < COMMIT_BYTES_MAX {
                match queue.try_recv() {
                    Ok(Message::Append(request)) => {
                        count += request.drafts.len();
                        bytes += request.bytes;
                        requests.push(request);
                    }
                    Ok(Message::Stop) => {
                        stop = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            self.meter
                .waiting
                .fetch_sub(requests.len(), Ordering::Relaxed);
            self.meter.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.commit(requests);
            if stop {
                return;
            }
        }
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let signers = self.signing.get();
        if self.header.key != signers.key_name() {
            signers.key_name().clone_into(&mut self.header.key);
        }
        let mut batch = Batch::default();
        let mut last = self.last;
        for Request { drafts, ack, .. } in requests {
            let mark = batch.items.len();
            match self.sequence(drafts, &mut batch, &mut last) {
                Ok(receipts) => batch.acks.push((ack, receipts)),
                Err(refusal) => {
                    batch.items.truncate(mark);
                    batch.leaves.truncate(mark);
                    answer(ack, Err(refusal));
                }
            }
        }
        if batch.items.is_empty() {
            return;
        }
        match self.write(&batch) {
            Ok(bytes) => {
                self.next += batch.items.len() as u64;
                self.last = last;
                lock(&self.tail).leaves.append(&mut batch.leaves);
                if self.meter.committed(last, bytes) {
                    info!(log = %self.log, "The log can be written again");
                }
                for (ack, receipts) in batch.acks {
                    answer(ack, Ok(receipts));
                }
                if !self.meter.appended.swap(true, Ordering::AcqRel) {
                    // The publisher ends after the writer.
                    let _ended = self.tasks.send(Task::Appended);
                }
            }
            Err(failure) => {
                let cause = failure.to_string();
                if self.meter.commit_failed(self.clock.now(), &cause) {
                    error!(log = %self.log, error = %cause, "The log cannot be written");
                }
                for (ack, _) in batch.acks {
                    let cause = cause.clone();
                    answer(ack, Err(AppendError::Unwritable { cause }));
                }
            }
        }
    }

    /// Makes entries of one caller's drafts.
    fn sequence(
        &self,
        drafts: Vec<Draft>,
        batch: &mut Batch,
        last: &mut Time,
    ) -> Result<Vec<Receipt>, AppendError> {
        let now = self.clock.now();
        let behind = last.since(now);
        if behind > CLOCK_BEHIND_MAX {
            return Err(AppendError::Clock { behind });
        }
        let time = now.max(*last);
        let mut receipts = Vec::with_capacity(drafts.len());
        for mut draft in drafts {
            // A guard that panics has not said yes.
            let guard = draft.guard.take();
            let holds = guard.is_none_or(|guard| {
                catch_unwind(AssertUnwindSafe(|| guard(time))).unwrap_or(false)
            });
            if !holds {
                return Err(AppendError::Narrowed);
            }
            let entry = write_entry(&self.header, time, &draft)?;
            let leaf_hash = hash::leaf(&entry);
            receipts.push(Receipt {
                log: self.log,
                index: self.next + batch.items.len() as u64,
                leaf_hash,
                time,
            });
            batch.leaves.push(leaf_hash);
            batch.items.push(Item {
                entry,
                sealed: draft.sealed,
            });
        }
        *last = time;
        Ok(receipts)
    }

    /// Makes a batch durable and puts it in the tail; says how many bytes it has.
    fn write(&mut self, batch: &Batch) -> io::Result<u64> {
        let extent = segment::extent(&batch.items) as u64;
        let (segment, at) = match self.current.take() {
            Some((segment, at)) if at + extent <= segment.bytes => (segment, at),
            full => self.begin(extent, full.is_none())?,
        };
        let bytes = segment.encode(self.next, &batch.items)?;
        // From here to the end of the flush nobody knows what is durable, so until then there is
        // no segment to go on with: whoever leaves early leaves this one behind.
        let frame = segment.write(&self.disk, at, self.next, batch.items.len(), &bytes)?;
        segment.sync(&self.disk)?;
        let at = at + bytes.len() as u64;
        if at > segment.bytes / 2 && !self.spare_asked {
            self.spare_asked = true;
            let _ended = self.tasks.send(Task::Spare);
        }
        self.current = Some((segment, at));
        let mut tail = lock(&self.tail);
        tail.size = frame.end();
        tail.frames.push_back(frame);
        Ok(bytes.len() as u64)
    }

    /// Begins a segment with room for `extent` bytes. `broken`: the one before was left behind.
    fn begin(&mut self, extent: u64, broken: bool) -> io::Result<(Arc<Segment>, u64)> {
        let room = PREFIX_BYTES + extent;
        let spare = self.spares.take(room);
        let small = room.max(SMALL_SEGMENT_BYTES);
        let make = |bytes| {
            let path = self.folder.segments().join("next");
            Blank::make(&self.disk, path, bytes)
        };
        let blank = match spare {
            Some(blank) => blank,
            // A storage that failed is tried with little, and so is one that is nearly full.
            None if broken => make(small)?,
            None => make(room.max(self.segment_bytes)).or_else(|_| make(small))?,
        };
        // A number is used once, also if it is not known whether a segment by it came to be.
        self.number += 1;
        let (segment, _, at) = Segment::begin(
            &self.disk,
            &self.folder.segments(),
            blank,
            self.owner,
            self.number,
            self.next,
            [],
        )?;
        self.spare_asked = false;
        lock(&self.tail).segments.push_back(segment.clone());
        Ok((segment, at))
    }
}

fn answer<T>(ack: oneshot::Sender<T>, answer: T) {
    // Who asked may have gone away; the entry stands all the same.
    let _gone = ack.send(answer);
}
