//! Crashes of a real process: killed while it appends, and out of room on a real file system.
//!
//! The process is this test binary, started again to run one of the tests that end in `child`,
//! which do nothing when they are not told where to work.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use ledger::{AppendError, Log, LogReader, Receipt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use vocab::digest::Digest;
use vocab::id::LogName;
use vocab::rng::{self, SystemRng};
use vocab::time::SystemClock;

use crate::disk::Faults;
use crate::testing::{append, check_log, check_receipts, open, publish, text};
use crate::{FilesLog, OfflineLog};

const FOLDER: &str = "TIPSTAFF_CRASH_FOLDER";
const ROUND: &str = "TIPSTAFF_CRASH_ROUND";
const WRITERS: u64 = 4;
const ROUNDS: u64 = 24;

fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

fn open_here(dir: &Path, publish_every: Option<Duration>) -> FilesLog {
    let clock = Arc::new(SystemClock::new());
    open(dir, clock, Faults::default(), publish_every, 16 * 1024).unwrap()
}

/// Starts the test `name` of this binary in a process of its own, through a shell that says
/// `first`.
fn start(first: &str, name: &str, dir: &Path, round: u64) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("{first} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(FOLDER, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Appends from several threads until it is killed, and says what was acknowledged.
#[test]
fn appending_child() {
    let Some(dir) = folder() else {
        return;
    };
    let round = std::env::var_os(ROUND).unwrap().into_string().unwrap();
    let log = open_here(&dir, Some(Duration::from_millis(2)));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (log, round) = (&log, &round);
            scope.spawn(move || {
                for n in 0.. {
                    let receipt = append(log, &format!("{round}/{writer}/{n}")).unwrap();
                    let line = format!("ack {} {}\n", receipt.index, receipt.leaf_hash);
                    // Ends the process too, if whoever started it is gone.
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    if n % 16 == 0 && writer == 0 {
                        publish(log).unwrap();
                    }
                }
            });
        }
    });
}

/// Kills the child after this many lines, and returns what it had said by then.
fn kill_after(lines: u64, mut child: Child) -> Vec<(u64, Digest)> {
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acks = Vec::new();
    let mut read = |output: &mut BufReader<ChildStdout>| {
        let mut line = String::new();
        let length = output.read_line(&mut line).unwrap();
        // The harness may have begun the line.
        if let Some((_, ack)) = line.split_once("ack ").filter(|_| line.ends_with('\n')) {
            let mut words = ack.split_whitespace();
            let index = words.next().unwrap().parse().unwrap();
            acks.push((index, words.next().unwrap().parse().unwrap()));
        }
        length > 0
    };
    for _ in 0..lines {
        if !read(&mut output) {
            break;
        }
    }
    child.kill().unwrap();
    while read(&mut output) {}
    child.wait().unwrap();
    acks
}

#[test]
fn a_kill_at_any_moment_loses_nothing_acknowledged_and_invents_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<u64, Digest> = BTreeMap::new();
    for round in 0..ROUNDS {
        let [a, b] = rng::bytes::<2>(&SystemRng).unwrap();
        // Some at the start, when the child recovers; most in the middle of things.
        let lines = if round % 4 == 0 {
            u64::from(a) % 5
        } else {
            u64::from(a) * 2 + u64::from(b) % 7
        };
        let child = start("", "crash::appending_child", temp.path(), round);
        for (index, leaf_hash) in kill_after(lines, child) {
            assert_eq!(
                acked.insert(index, leaf_hash),
                None,
                "entry {index} given twice"
            );
        }
        // What the kill left, before anyone mends it.
        if let Ok(log) = OfflineLog::open(temp.path(), LogName::Calls) {
            check_acked(&log, &acked);
            check_log(temp.path());
        } else {
            assert!(acked.is_empty());
        }
        // And after.
        let log = open_here(temp.path(), None);
        check_acked(log.reader(), &acked);
        check_order(log.reader());
        log.close().unwrap();
        let report = check_log(temp.path());
        assert_eq!((report.signed, report.tail), (log.reader().size(), 0));
    }
    assert!(
        acked.len() > 100,
        "{} entries were acknowledged",
        acked.len()
    );
}

fn check_acked(log: &dyn LogReader, acked: &BTreeMap<u64, Digest>) {
    let receipts: Vec<Receipt> = acked
        .iter()
        .map(|(index, leaf_hash)| Receipt {
            log: LogName::Calls,
            index: *index,
            leaf_hash: *leaf_hash,
            time: vocab::Time::EPOCH,
        })
        .collect();
    check_receipts(log, &receipts);
}

/// Every entry is one that a writer appended: each writer's are there from its first on, in order,
/// once, and rounds do not mix.
fn check_order(log: &dyn LogReader) {
    let mut next: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut last_round = 0;
    for index in 0..log.size() {
        let text = text(log, index);
        let numbers: Vec<u64> = text.split('/').map(|part| part.parse().unwrap()).collect();
        let [round, writer, n] = numbers[..] else {
            panic!("{text}");
        };
        assert!(round >= last_round && writer < WRITERS, "{text} at {index}");
        last_round = round;
        let next = next.entry((round, writer)).or_default();
        assert_eq!(n, *next, "{text} at {index}");
        *next += 1;
    }
}

/// Appends until files may not grow further, and then goes on when they may again.
#[test]
fn full_child() {
    let Some(dir) = folder() else {
        return;
    };
    let log = open_here(&dir, None);
    let before = getrlimit(Resource::Fsize);
    setrlimit(
        Resource::Fsize,
        Rlimit {
            current: Some(8 * 1024),
            ..before
        },
    )
    .unwrap();
    let mut receipts = Vec::new();
    let refusal = loop {
        match append(&log, &receipts.len().to_string()) {
            Ok(receipt) => receipts.push(receipt),
            Err(refusal) => break refusal,
        }
        assert!(receipts.len() < 100, "nothing was refused");
    };
    assert!(!receipts.is_empty());
    assert!(
        matches!(refusal, AppendError::Unwritable { .. }),
        "{refusal}"
    );
    for _ in 0..10 {
        append(&log, "refused").unwrap_err();
    }
    assert!(!log.health().writable);
    check_receipts(log.reader(), &receipts);
    setrlimit(Resource::Fsize, before).unwrap();
    receipts.push(append(&log, "after").unwrap());
    log.close().unwrap();
    drop(log);
    let report = check_log(&dir);
    assert_eq!((report.signed, report.tail), (receipts.len() as u64, 0));
    check_receipts(&OfflineLog::open(&dir, LogName::Calls).unwrap(), &receipts);
    std::io::stdout().write_all(b"room again\n").unwrap();
}

#[test]
fn a_file_system_without_room_refuses_and_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    // A limit on the length of files stands in for a full disk: no file system can be mounted
    // here. The signal that comes with it is ignored, so that the write fails as on a full disk.
    let child = start("trap '' XFSZ;", "crash::full_child", temp.path(), 0);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("room again"),
        "{said}"
    );
}
