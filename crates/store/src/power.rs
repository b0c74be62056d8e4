//! Power cuts, by replay. Every change to the file system is recorded; then, for a moment in the
//! record, folders are made that a power cut at that moment may leave, and a log is opened there.
//!
//! The model is the weakest that the code may rely on: a file has the bytes of its last flush and
//! any of the sectors written since; a folder has the names of its last flush and any first part
//! of the changes since, whatever other folders have.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ledger::{Log, Receipt};

use crate::disk::{Change, lock};
use crate::segment::SECTOR;
use crate::testing::{Bench, TestClock, append, check_log, check_receipts, fill, open, publish};
use crate::{Faults, OfflineLog};
use vocab::id::LogName;

/// A file, by the moment it was created.
type Id = usize;

#[derive(Clone, Debug)]
enum Event {
    Create(PathBuf, Id),
    Write(Id, u64, Vec<u8>),
    Sync(Id),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    CreateDir(PathBuf),
    /// The log said that these are durable.
    Acknowledged(Vec<Receipt>),
    /// The log said that it published a checkpoint of this size.
    Published(u64),
}

#[derive(Default)]
struct Events {
    events: Vec<Event>,
    /// Which file an inode is now.
    inodes: BTreeMap<u64, Id>,
}

/// What was changed, in order.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Events>>);

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} events)", lock(&self.0).events.len())
    }
}

/// Makes a change, and records it if it was made. One at a time, so that the order is right.
pub(crate) fn recorded(
    record: Option<&Record>,
    change: Change<'_>,
    make: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let Some(record) = record else {
        return make();
    };
    let mut events = lock(&record.0);
    make()?;
    let id = |events: &Events, file: &fs::File| -> io::Result<Id> {
        Ok(events.inodes[&file.metadata()?.ino()])
    };
    let event = match change {
        Change::Create(path) => {
            let id = events.events.len();
            events.inodes.insert(fs::metadata(path)?.ino(), id);
            Event::Create(path.to_owned(), id)
        }
        Change::Write(file, at, bytes) => Event::Write(id(&events, file)?, at, bytes.to_vec()),
        Change::Sync(file) => Event::Sync(id(&events, file)?),
        Change::SyncDir(path) => Event::SyncDir(path.to_owned()),
        Change::Rename(from, to) => Event::Rename(from.to_owned(), to.to_owned()),
        Change::Remove(path) | Change::RemoveDir(path) => Event::Remove(path.to_owned()),
        Change::CreateDir(path) => Event::CreateDir(path.to_owned()),
    };
    events.events.push(event);
    Ok(())
}

impl Record {
    fn note(&self, event: Event) {
        lock(&self.0).events.push(event);
    }
}

/// A seeded source of choices.
struct Choices(u64);

impl Choices {
    fn next(&mut self, below: usize) -> usize {
        // Knuth's MMIX generator: any will do.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below.max(1)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Name {
    File(Id),
    Folder,
}

type Names = BTreeMap<PathBuf, Name>;

/// A file's bytes as of its last flush, and what was written since.
type File = (Vec<u8>, Vec<(u64, Vec<u8>)>);

/// What a power cut after some events may leave.
#[derive(Default)]
struct Cut {
    files: BTreeMap<Id, File>,
    /// Names as of the last flush of their folder, and changes since.
    names: BTreeMap<PathBuf, (Names, Vec<Event>)>,
    acknowledged: Vec<Receipt>,
    published: u64,
    /// The size in the last checkpoint that anybody could read, flushed or not: the other log may
    /// name it.
    readable: u64,
}

fn apply_write(bytes: &mut Vec<u8>, at: u64, written: &[u8]) {
    let at = usize::try_from(at).unwrap();
    let end = at + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(written);
}

fn apply_name(names: &mut Names, event: &Event) {
    match event {
        Event::Create(path, id) => {
            names.insert(path.clone(), Name::File(*id));
        }
        Event::CreateDir(path) => {
            names.insert(path.clone(), Name::Folder);
        }
        Event::Rename(from, to) => {
            if let Some(name) = names.remove(from) {
                names.insert(to.clone(), name);
            }
        }
        Event::Remove(path) => {
            names.remove(path);
        }
        _ => {}
    }
}

impl Cut {
    fn after(events: &[Event]) -> Self {
        let mut cut = Self::default();
        for event in events {
            match event {
                Event::Write(id, at, bytes) => {
                    cut.files
                        .entry(*id)
                        .or_default()
                        .1
                        .push((*at, bytes.clone()));
                }
                Event::Sync(id) => {
                    let (bytes, writes) = cut.files.entry(*id).or_default();
                    for (at, written) in writes.drain(..) {
                        apply_write(bytes, at, &written);
                    }
                }
                Event::Create(path, _)
                | Event::CreateDir(path)
                | Event::Rename(path, _)
                | Event::Remove(path) => {
                    if let Event::Rename(from, to) = event
                        && to.ends_with("checkpoint")
                    {
                        cut.readable = cut.size_in(from);
                    }
                    let folder = path.parent().unwrap().to_owned();
                    cut.names.entry(folder).or_default().1.push(event.clone());
                }
                Event::SyncDir(path) => {
                    let (names, changes) = cut.names.entry(path.clone()).or_default();
                    for change in changes.drain(..) {
                        apply_name(names, &change);
                    }
                }
                Event::Acknowledged(receipts) => cut.acknowledged.extend(receipts.iter().cloned()),
                Event::Published(size) => cut.published = *size,
            }
        }
        cut
    }

    /// The size in a checkpoint as it is read before any cut.
    fn size_in(&self, path: &Path) -> u64 {
        let (mut names, changes) = self.names[path.parent().unwrap()].clone();
        for change in changes {
            apply_name(&mut names, &change);
        }
        let Some(Name::File(id)) = names.get(path) else {
            panic!("{}", path.display());
        };
        let (mut bytes, writes) = self.files[id].clone();
        for (at, written) in &writes {
            apply_write(&mut bytes, *at, written);
        }
        let text = String::from_utf8(bytes).unwrap();
        text.lines().nth(1).unwrap().parse().unwrap()
    }

    /// Makes a folder that may be left: the least, or by choice something between that and all.
    fn make(&self, from: &Path, to: &Path, choices: &mut Option<Choices>) {
        let (mut names, changes) = self
            .names
            .get(from)
            .map_or_else(Default::default, Clone::clone);
        let count = match choices {
            Some(choices) => choices.next(changes.len() + 1),
            None => 0,
        };
        for change in changes.iter().take(count) {
            apply_name(&mut names, change);
        }
        for (path, name) in names {
            let place = to.join(path.file_name().unwrap());
            match name {
                Name::Folder => {
                    fs::create_dir(&place).unwrap();
                    self.make(&path, &place, choices);
                }
                Name::File(id) => {
                    let (mut bytes, writes) = self
                        .files
                        .get(&id)
                        .map_or_else(Default::default, Clone::clone);
                    if let Some(choices) = choices {
                        for (at, written) in &writes {
                            for (nth, sector) in (0_u64..).zip(written.chunks(SECTOR)) {
                                if choices.next(2) == 1 {
                                    apply_write(&mut bytes, at + nth * SECTOR as u64, sector);
                                }
                            }
                        }
                    }
                    fs::write(place, bytes).unwrap();
                }
            }
        }
    }

    fn check(&self, from: &Path, moment: usize, mut choices: Option<Choices>) {
        let temp = tempfile::tempdir().unwrap();
        self.make(from, temp.path(), &mut choices);
        let clock = Arc::new(TestClock::later());
        let log = open(temp.path(), clock, Faults::default(), None, 4096)
            .unwrap_or_else(|error| panic!("cut after {moment}: {error}"));
        assert!(
            log.recovery().signed >= self.published,
            "cut after {moment}"
        );
        assert!(
            log.recovery().size >= self.readable,
            "cut after {moment}: a checkpoint over {} entries could be read",
            self.readable
        );
        check_receipts(log.reader(), &self.acknowledged);
        append(&log, "after").unwrap();
        log.close().unwrap();
        check_log(temp.path());
        let offline = OfflineLog::open(temp.path(), LogName::Calls).unwrap();
        check_receipts(&offline, &self.acknowledged);
    }
}

/// Work that begins and leaves segments, fills tiles, and starts again in the middle.
fn work(bench: &Bench, record: &Record) {
    let mut size = 0;
    let mut go_on = |log: &crate::FilesLog, to: u64| {
        record.note(Event::Acknowledged(fill(log, size, to)));
        size = to;
    };
    let log = bench.open();
    go_on(&log, 3);
    publish(&log).unwrap();
    record.note(Event::Published(3));
    go_on(&log, 250);
    go_on(&log, 254);
    go_on(&log, 260);
    publish(&log).unwrap();
    record.note(Event::Published(260));
    go_on(&log, 262);
    log.close().unwrap();
    drop(log);
    let log = bench.open();
    go_on(&log, 265);
    // Nothing partial.
    go_on(&log, 512);
    publish(&log).unwrap();
    record.note(Event::Published(512));
    go_on(&log, 521);
    log.close().unwrap();
    drop(log);
    let log = bench.open();
    go_on(&log, 522);
    publish(&log).unwrap();
    record.note(Event::Published(522));
    log.close().unwrap();
}

fn check_power(segment_bytes: u64) {
    let mut bench = Bench::new();
    bench.segment_bytes = segment_bytes;
    let record = Record::default();
    bench.faults.set_record(record.clone());
    work(&bench, &record);
    let events = std::mem::take(&mut lock(&record.0).events);
    assert!(events.len() > 150, "{}", events.len());
    for moment in 0..=events.len() {
        let cut = Cut::after(&events[..moment]);
        // The least that may be left, and something between that and all.
        cut.check(bench.dir(), moment, None);
        cut.check(bench.dir(), moment, Some(Choices(moment as u64)));
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    check_power(4096);
}

#[test]
fn a_power_cut_loses_nothing_when_a_segment_holds_whole_tiles() {
    check_power(160 * 1024);
}
