use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::proof::{inclusion, verify_inclusion};
use ledger::{Actor, AppendError, Checkpoint, Draft, Header, Kind, Log, Receipt};
use serde_json::json;
use vocab::id::LogName;

use crate::disk::Fault;
use crate::testing::{
    Bench, append, check_receipts, draft, fill, flip, publish, sealed, segments, signer, text, wait,
};
use crate::{DataDir, FilesLog, LogOptions, OfflineLog, OpenError};

#[test]
fn what_is_appended_can_be_read_proved_and_verified() {
    let bench = Bench::new();
    let log = bench.open();
    let receipts = fill(&log, 0, 300);
    assert_eq!(log.reader().size(), 300);
    for receipt in &receipts {
        assert_eq!(text(log.reader(), receipt.index), receipt.index.to_string());
    }
    publish(&log).unwrap();
    let note = log.reader().checkpoint().unwrap().unwrap();
    let checkpoint = Checkpoint::open(&note, signer().verifier()).unwrap();
    assert_eq!(checkpoint.size, 300);
    for index in [0, 255, 256, 299] {
        let proof = inclusion(log.reader(), index, 300).unwrap();
        let leaf = receipts[usize::try_from(index).unwrap()].leaf_hash;
        verify_inclusion(&leaf, index, 300, &proof, &checkpoint.root).unwrap();
    }
    assert_eq!(bench.check().signed, 300);
    drop(log);
    assert_eq!(bench.check().signed, 300);
}

/// Opens, appends and closes again and again, up to each of these sizes.
fn check_growth(sizes: &[u64], segment_bytes: u64) {
    let mut bench = Bench::new();
    bench.segment_bytes = segment_bytes;
    let mut receipts = Vec::new();
    for size in sizes {
        let log = bench.open();
        let from = receipts.len() as u64;
        assert_eq!(log.recovery().size, from);
        assert_eq!(log.recovery().signed, from);
        assert_eq!(segments(&bench).len(), 1, "at {from}");
        check_receipts(log.reader(), &receipts);
        receipts.extend(fill(&log, from, *size));
        check_receipts(log.reader(), &receipts);
        log.close().unwrap();
        let report = bench.check();
        assert_eq!((report.signed, report.tail), (*size, 0));
    }
    let log = OfflineLog::open(bench.dir(), LogName::Calls).unwrap();
    check_receipts(&log, &receipts);
}

#[test]
fn a_log_grows_over_tiles_segments_and_starts() {
    check_growth(&[0, 1, 255, 256, 257, 511, 512, 900, 1024, 3000], 1 << 20);
    check_growth(&[1, 2, 200, 256, 256, 300, 512, 1500, 2048], 4096);
    check_growth(&[65_536 + 300, 65_536 + 301], 1 << 18);
}

#[test]
fn sealed_parts_are_found_before_and_after_they_move_to_their_file() {
    let bench = Bench::new();
    let log = bench.open();
    for index in 0..600_u64 {
        let draft = match index % 3 {
            0 => sealed("s", &index.to_le_bytes()),
            1 => sealed("e", b""),
            _ => draft("n"),
        };
        wait(log.append(vec![draft])).unwrap();
        if index % 100 == 0 {
            publish(&log).unwrap();
        }
    }
    let check = |reader: &dyn ledger::LogReader| {
        for index in 0..600_u64 {
            let expected = match index % 3 {
                0 => Some(index.to_le_bytes().to_vec()),
                1 => Some(Vec::new()),
                _ => None,
            };
            assert_eq!(reader.sealed(index).unwrap(), expected, "entry {index}");
        }
    };
    check(log.reader());
    log.close().unwrap();
    check(&OfflineLog::open(bench.dir(), LogName::Calls).unwrap());
    check(bench.open().reader());
}

#[test]
fn an_append_is_all_or_nothing_and_contiguous() {
    let bench = Bench::new();
    let log = bench.open();
    let refused = Draft {
        guard: Some(Box::new(|_| false)),
        ..draft("b")
    };
    assert_eq!(
        wait(log.append(vec![draft("a"), refused])),
        Err(AppendError::Narrowed)
    );
    let panicking = Draft {
        guard: Some(Box::new(|_| panic!("a guard that fails"))),
        ..draft("c")
    };
    assert_eq!(
        wait(log.append(vec![panicking])),
        Err(AppendError::Narrowed)
    );
    let ran = Arc::new(AtomicBool::new(false));
    let set = ran.clone();
    let guarded = Draft {
        guard: Some(Box::new(move |_| {
            set.store(true, Ordering::SeqCst);
            true
        })),
        ..draft("d")
    };
    let receipts = wait(log.append(vec![guarded, draft("e")])).unwrap();
    let indices: Vec<u64> = receipts.iter().map(|receipt| receipt.index).collect();
    assert_eq!(indices, [0, 1]);
    assert!(ran.load(Ordering::SeqCst));
    assert_eq!(wait(log.append(Vec::new())), Ok(Vec::new()));

    let control = Draft::new(Kind::Erased, Actor::node("n-1"), &json!({})).unwrap();
    assert_eq!(
        wait(log.append(vec![control])),
        Err(AppendError::WrongLog {
            kind: Kind::Erased,
            log: LogName::Calls
        })
    );
    let long = "x".repeat(70_000);
    let result = append(&log, &long);
    assert!(matches!(
        result,
        Err(AppendError::TooLarge { what: "entry", .. })
    ));
    let huge = || sealed("h", &vec![1; 12 * 1024 * 1024]);
    let result = wait(log.append(vec![huge(), huge(), huge()]));
    assert!(matches!(
        result,
        Err(AppendError::TooLarge { what: "append", .. })
    ));
    let receipts = wait(log.append(vec![huge(), huge()])).unwrap();
    assert_eq!(receipts.len(), 2);
    log.close().unwrap();
    assert_eq!(append(&log, "late"), Err(AppendError::Closed));
    assert_eq!(publish(&log), Err(AppendError::Closed));
    assert_eq!(log.close(), Ok(()));
    assert_eq!(bench.check().signed, 4);
}

#[test]
fn time_does_not_go_back() {
    let bench = Bench::new();
    let log = bench.open();
    let first = append(&log, "a").unwrap();
    bench.clock.set(first.time.as_micros() - 4_000_000);
    let second = append(&log, "b").unwrap();
    assert_eq!(second.time, first.time);
    bench.clock.set(first.time.as_micros() - 5_000_001);
    let behind = Duration::from_micros(5_000_001);
    assert_eq!(append(&log, "c"), Err(AppendError::Clock { behind }));
    // A restart remembers.
    log.close().unwrap();
    drop(log);
    let log = bench.open();
    assert_eq!(log.recovery().last.as_ref().unwrap().time, first.time);
    bench.clock.set(first.time.as_micros() - 6_000_000);
    assert!(matches!(append(&log, "d"), Err(AppendError::Clock { .. })));
    bench.clock.set(first.time.as_micros() + 1);
    assert!(append(&log, "e").unwrap().time > first.time);
}

#[test]
fn many_writers_share_flushes_and_none_is_lost() {
    let bench = Bench::new();
    let log = bench.open();
    let receipts: Vec<Receipt> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let log = &log;
                scope.spawn(move || {
                    let each = |n| append(log, &format!("{writer}/{n}")).unwrap();
                    (0..50).map(each).collect::<Vec<_>>()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let mut indices: Vec<u64> = receipts.iter().map(|receipt| receipt.index).collect();
    indices.sort_unstable();
    assert_eq!(indices, (0..800).collect::<Vec<_>>());
    check_receipts(log.reader(), &receipts);
    let health = log.health();
    assert!(health.running && health.writable && health.publishing);
    assert_eq!(
        (health.entries, health.published, health.waiting),
        (800, 0, 0)
    );
    assert!(health.commits <= 800 && health.bytes > 0 && health.last_entry.is_some());
    log.close().unwrap();
    assert_eq!(log.health().published, 800);
    assert!(!log.health().running);
    assert_eq!(bench.check().signed, 800);
}

#[test]
fn a_log_publishes_by_itself_when_told_to() {
    let mut bench = Bench::new();
    bench.publish_every = Some(Duration::from_millis(1));
    let log = bench.open();
    append(&log, "a").unwrap();
    while log.health().published < 1 {
        std::thread::yield_now();
    }
    assert_eq!(bench.check().signed, 1);
}

#[test]
fn epochs_do_not_go_back() {
    let bench = Bench::new();
    let open = |epoch| {
        let options = LogOptions {
            name: LogName::Calls,
            signers: signer().into(),
            header: Header {
                trust_domain: "acme.example".parse().unwrap(),
                node: "n-1".to_owned(),
                epoch,
                key: "set by the log".to_owned(),
            },
            clock: bench.clock.clone(),
            faults: bench.faults.clone(),
            publish_every: None,
        };
        FilesLog::open(&DataDir::open(bench.dir()).unwrap(), options)
    };
    append(&open(7).unwrap(), "a").unwrap();
    let last = OfflineLog::open(bench.dir(), LogName::Calls)
        .unwrap()
        .last()
        .unwrap();
    assert_eq!(last.unwrap().epoch, 7);
    assert!(matches!(
        open(6),
        Err(OpenError::Epoch { given: 6, last: 7 })
    ));
    append(&open(7).unwrap(), "b").unwrap();
    append(&open(8).unwrap(), "c").unwrap();
    assert_eq!(bench.check().epoch, 8);
}

#[test]
fn a_log_may_be_dropped_within_a_runtime() {
    let bench = Bench::new();
    wait(async {
        let log = bench.open();
        log.append(vec![draft("a")]).await.unwrap();
        drop(log);
    });
    assert_eq!(bench.check().signed, 1);
}

#[test]
fn a_folder_has_one_user_and_a_log_one_writer() {
    let bench = Bench::new();
    let log = bench.open();
    assert!(matches!(bench.try_open(), Err(OpenError::Locked { .. })));
    log.close().unwrap();
    let again = bench.open();
    assert!(matches!(bench.try_open(), Err(OpenError::Locked { .. })));
    drop(again);
}

// Faults.

/// What a log must still do when one operation of its storage fails: everything acknowledged is
/// there, in order, and the log can be written again.
fn check_fault(fault: Fault, step: u64) {
    let mut bench = Bench::new();
    bench.segment_bytes = 4096;
    let log = bench.open();
    let mut receipts = fill(&log, 0, 250);
    publish(&log).unwrap();

    bench.faults.set_at(step, fault);
    for index in 250..262 {
        if let Ok(receipt) = append(&log, &index.to_string()) {
            receipts.push(receipt);
        }
        if index % 4 == 0 {
            let _may_fail = publish(&log);
        }
    }
    let tried = bench.faults.steps();
    bench.faults.set(Fault::None);
    receipts.push(append(&log, "after").unwrap());
    publish(&log).unwrap();
    assert!(log.health().writable && log.health().publishing);
    // Segments that could not be given up then are given up now.
    let in_tiles = log.reader().size() / 256 * 256;
    let old = crate::disk::lock(&log.tail)
        .segments
        .iter()
        .filter(|segment| segment.first <= in_tiles)
        .count();
    assert!(old <= 1, "{old} segments: {fault:?} at {step}");

    // INVARIANT: what was refused before a commit that succeeded is gone for good.
    let size = receipts.len() as u64;
    assert_eq!(log.reader().size(), size, "{fault:?} at {step} of {tried}");
    assert!(receipts.iter().map(|receipt| receipt.index).eq(0..size));
    let report = bench.check();
    assert_eq!(
        (report.signed, report.tail),
        (size, 0),
        "{fault:?} at {step}"
    );
    drop(log);

    let log = bench.open();
    assert_eq!(log.recovery().size, size, "{fault:?} at {step}");
    check_receipts(log.reader(), &receipts);
    receipts.extend(fill(&log, size, size + 10));
    log.close().unwrap();
    assert_eq!(bench.check().signed, size + 10);
    let offline = OfflineLog::open(bench.dir(), LogName::Calls).unwrap();
    check_receipts(&offline, &receipts);
}

/// How many operations the middle of [`check_fault`] takes.
fn steps() -> u64 {
    let mut bench = Bench::new();
    bench.segment_bytes = 4096;
    let log = bench.open();
    fill(&log, 0, 250);
    publish(&log).unwrap();
    let before = bench.faults.steps();
    for index in 250..262 {
        append(&log, &index.to_string()).unwrap();
        if index % 4 == 0 {
            publish(&log).unwrap();
        }
    }
    bench.faults.steps() - before
}

#[test]
fn every_write_may_fail_in_every_way() {
    let steps = steps();
    assert!(steps > 60, "{steps}");
    for fault in Fault::FAILURES {
        for step in 0..steps {
            check_fault(fault, step);
        }
    }
}

/// A log whose storage fails from some operation on for ever, as seen by whoever starts next.
fn check_death(fault: Fault, step: u64) {
    let mut bench = Bench::new();
    bench.segment_bytes = 4096;
    let log = bench.open();
    let mut receipts = fill(&log, 0, 250);
    publish(&log).unwrap();
    bench.faults.set_from(step, fault);
    let mut refused = 0;
    for index in 250..262 {
        match append(&log, &index.to_string()) {
            Ok(receipt) => receipts.push(receipt),
            Err(error) => {
                assert!(matches!(error, AppendError::Unwritable { .. }), "{error}");
                refused += 1;
            }
        }
        if index % 4 == 0 {
            let _may_fail = publish(&log);
        }
    }
    if refused > 0 {
        assert!(!log.health().writable && log.health().last_failure.is_some());
    }
    let _may_fail = log.close();
    drop(log);
    bench.faults.set(Fault::None);
    let size = receipts.len() as u64;
    check_receipts(
        &OfflineLog::open(bench.dir(), LogName::Calls).unwrap(),
        &receipts,
    );
    let log = bench.open();
    let found = log.recovery().size;
    assert!(
        (size..=size + refused).contains(&found),
        "{fault:?} from {step}"
    );
    check_receipts(log.reader(), &receipts);
    drop(log);
    assert_eq!(bench.check().signed, found);
}

#[test]
fn a_storage_that_dies_loses_nothing_acknowledged() {
    for fault in Fault::FAILURES {
        for step in (0..steps()).step_by(3) {
            check_death(fault, step);
        }
    }
}

/// Recovery itself is interrupted at some operation, and then made again.
fn check_interrupted_start(fault: Fault) {
    for step in 0.. {
        let mut bench = Bench::new();
        bench.segment_bytes = 4096;
        let log = bench.open();
        let receipts = fill(&log, 0, 530);
        publish(&log).unwrap();
        let more = fill(&log, 530, 600);
        // No last publication, no tidying: as killed.
        bench.faults.set(Fault::Io);
        let _fails = log.close();
        drop(log);
        let before = bench.faults.steps();
        bench.faults.set_from(step, fault);
        let interrupted = bench.try_open();
        let took = bench.faults.steps() - before;
        drop(interrupted);
        bench.faults.set(Fault::None);
        let log = bench.open();
        assert_eq!(log.recovery().size, 600, "{fault:?} from {step}");
        check_receipts(log.reader(), &receipts);
        check_receipts(log.reader(), &more);
        drop(log);
        assert_eq!(bench.check().signed, 600);
        if took <= step {
            return;
        }
    }
}

#[test]
fn a_start_may_be_interrupted_anywhere() {
    for fault in [
        Fault::Io,
        Fault::Sync,
        Fault::Full,
        Fault::PersistedButFailed,
    ] {
        check_interrupted_start(fault);
    }
}

#[test]
fn a_slow_disk_is_only_slow() {
    let bench = Bench::new();
    let log = bench.open();
    bench.faults.set(Fault::Slow(Duration::from_millis(2)));
    let receipts = fill(&log, 0, 20);
    publish(&log).unwrap();
    check_receipts(log.reader(), &receipts);
    assert_eq!(bench.check().signed, 20);
}

// Rolling back and tampering.

#[test]
fn a_log_that_was_cut_is_refused() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 300);
    log.close().unwrap();
    drop(log);
    for path in segments(&bench) {
        fs::remove_file(path).unwrap();
    }
    let error = bench.try_open().unwrap_err();
    assert!(
        matches!(error, OpenError::Truncated { signed: 300, .. }),
        "{error}"
    );
}

#[test]
fn a_log_without_its_tiles_is_refused() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 600);
    log.close().unwrap();
    drop(log);
    drop(bench.open());
    // Hash tiles can be made again from the entries ...
    for tile in ["tile/0", "tile/1"] {
        fs::remove_dir_all(bench.path(tile)).unwrap();
    }
    bench.check();
    drop(bench.open());
    // ... but entries cannot.
    fs::remove_file(bench.path("tile/entries/001")).unwrap();
    assert!(std::panic::catch_unwind(|| bench.check()).is_err());
    fs::remove_dir_all(bench.path("tile")).unwrap();
    let error = bench.try_open().unwrap_err();
    assert!(
        matches!(
            &error,
            OpenError::Truncated {
                missing: Some(_),
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_log_set_back_to_an_older_state_is_refused() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 10);
    log.close().unwrap();
    drop(log);
    let kept = fs::read(&segments(&bench)[0]).unwrap();
    let name = segments(&bench)[0].clone();
    let log = bench.open();
    fill(&log, 10, 20);
    log.close().unwrap();
    drop(log);
    // The segments of then, under the checkpoint of now.
    for path in segments(&bench) {
        fs::remove_file(path).unwrap();
    }
    fs::write(name, kept).unwrap();
    let error = bench.try_open().unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Truncated {
                size: 10,
                signed: 20,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn another_history_is_refused() {
    let histories: Vec<Bench> = ["a", "b"]
        .iter()
        .map(|text| {
            let bench = Bench::new();
            let log = bench.open();
            append(&log, text).unwrap();
            log.close().unwrap();
            bench
        })
        .collect();
    let (ours, other) = (&histories[0], &histories[1]);
    for path in segments(ours) {
        fs::remove_file(path).unwrap();
    }
    let path = segments(other)[0].clone();
    fs::copy(&path, ours.path("segments").join(path.file_name().unwrap())).unwrap();
    let error = ours.try_open().unwrap_err();
    assert!(
        matches!(error, OpenError::Diverged { signed: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_log_without_its_checkpoint_is_refused() {
    let bench = Bench::new();
    drop(bench.open());
    fs::write(bench.path("checkpoint"), "no note").unwrap();
    assert!(matches!(
        bench.try_open(),
        Err(OpenError::Checkpoint { .. })
    ));
    fs::remove_file(bench.path("checkpoint")).unwrap();
    assert!(matches!(bench.try_open(), Err(OpenError::Unsigned { .. })));
}

#[test]
fn a_changed_entry_shows_where_it_matters() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 600);
    log.close().unwrap();
    drop(log);
    // In a bundle that only tiles have: the next verification tells, and so does whoever reads it.
    flip(&bench.path("tile/entries/000"), 1000);
    let log = bench.open();
    let read: Vec<_> = (0..600).map(|index| log.reader().entry(index)).collect();
    let told = read[0].clone().unwrap_err().to_string();
    assert!(
        told.contains("tile/entries/000") && told.contains("ledger verify"),
        "{told}"
    );
    assert!(read[..256].iter().all(Result::is_err) && read[256..].iter().all(Result::is_ok));
    drop(log);
    let unsound = std::panic::catch_unwind(|| bench.check()).unwrap_err();
    let told = unsound.downcast_ref::<String>().unwrap();
    assert!(told.contains("Root") || told.contains("Syntax"), "{told}");
    flip(&bench.path("tile/entries/000"), 1000);
    bench.check();
    // In a partial bundle, which a segment still has: verification tells, a start mends.
    flip(&bench.path("tile/entries/002.p/88"), 1000);
    assert!(std::panic::catch_unwind(|| bench.check()).is_err());
    drop(bench.open());
    bench.check();
    // In the segment: no start.
    let segment = segments(&bench)[0].clone();
    flip(&segment, 5000);
    let error = bench.try_open().unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_changed_hash_tile_is_found_at_the_start_or_by_verification() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 600);
    log.close().unwrap();
    drop(log);
    // At the edge, which a start makes again from what is below.
    flip(&bench.path("tile/1/000.p/2"), 3);
    assert!(std::panic::catch_unwind(|| bench.check()).is_err());
    drop(bench.open());
    bench.check();
    // Where the entries are in tiles only.
    flip(&bench.path("tile/0/001"), 3);
    assert!(std::panic::catch_unwind(|| bench.check()).is_err());
    let error = bench.try_open().unwrap_err();
    assert!(matches!(error, OpenError::Diverged { .. }), "{error}");
}
