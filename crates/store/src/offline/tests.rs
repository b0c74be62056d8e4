use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::verify::{Expected, verify};
use ledger::{Log, ReadError};

use super::*;
use crate::testing::{Bench, append, check_log, check_receipts, fill, publish, signer};

#[test]
fn a_running_nodes_folder_can_be_read_at_any_time() {
    let mut bench = Bench::new();
    bench.publish_every = Some(Duration::from_millis(1));
    bench.segment_bytes = 8192;
    let log = bench.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let receipts = fill(&log, 0, 3000);
            done.store(true, Ordering::SeqCst);
            receipts
        });
        let mut last = 0;
        while !done.load(Ordering::SeqCst) {
            let report = check_log(bench.dir());
            assert!(report.signed >= last);
            last = report.signed;
        }
        check_receipts(log.reader(), &writing.join().unwrap());
    });
    log.close().unwrap();
    assert_eq!(check_log(bench.dir()).signed, 3000);
}

#[test]
fn what_is_newer_than_the_checkpoint_is_read_too() {
    let bench = Bench::new();
    let log = bench.open();
    fill(&log, 0, 10);
    publish(&log).unwrap();
    let receipt = append(&log, "newer").unwrap();
    let report = bench.check();
    assert_eq!((report.signed, report.tail), (10, 1));
    check_receipts(
        &OfflineLog::open(bench.dir(), LogName::Calls).unwrap(),
        &[receipt],
    );
}

#[test]
fn a_copy_without_segments_is_a_tlog_tiles_folder() {
    let bench = Bench::new();
    let log = bench.open();
    let receipts = fill(&log, 0, 600);
    log.close().unwrap();
    drop(log);
    fs::remove_dir_all(bench.path("segments")).unwrap();
    let copy = OfflineLog::open(bench.dir(), LogName::Calls).unwrap();
    check_receipts(&copy, &receipts);
    let report = bench.check();
    assert_eq!((report.signed, report.tail), (600, 0));
    assert!(matches!(copy.entry(600), Err(ReadError::Absent { .. })));
}

#[test]
fn a_tile_that_a_power_cut_emptied_is_read_from_below() {
    let mut bench = Bench::new();
    bench.segment_bytes = 1 << 20;
    let log = bench.open();
    fill(&log, 0, 300);
    publish(&log).unwrap();
    for tile in [
        "tile/entries/000",
        "tile/entries/001.p/44",
        "tile/0/000",
        "tile/1/000.p/1",
    ] {
        fs::write(bench.path(tile), "").unwrap();
        bench.check();
    }
    fs::write(bench.path("tile/entries/000"), "\0\u{7}short").unwrap();
    let log = OfflineLog::open(bench.dir(), LogName::Calls).unwrap();
    assert!(matches!(log.entry(0), Err(ReadError::Damaged { .. })));
}

#[test]
fn what_is_not_there_is_absent_and_what_is_missing_shows() {
    let bench = Bench::new();
    assert!(matches!(
        OfflineLog::open(bench.dir(), LogName::Control),
        Err(OpenError::Absent { .. })
    ));
    let log = bench.open();
    fill(&log, 0, 300);
    publish(&log).unwrap();
    let reader = log.reader();
    for (level, n, width) in [
        (0, 1, 45),
        (0, 0, 0),
        (0, 0, 257),
        (1, 0, 2),
        (8, 0, 1),
        (0, 9, 1),
    ] {
        let tile = reader.hash_tile(level, n, width);
        assert!(
            matches!(tile, Err(ReadError::Absent { .. })),
            "{level} {n} {width}"
        );
    }
    assert_eq!(reader.hash_tile(0, 1, 44).unwrap().len(), 44 * 32);
    assert_eq!(reader.hash_tile(0, 0, 100).unwrap().len(), 100 * 32);
    drop(log);
    fs::remove_file(bench.path("checkpoint")).unwrap();
    let offline = OfflineLog::open(bench.dir(), LogName::Calls).unwrap();
    assert_eq!(offline.checkpoint(), Ok(None));
    let keys = signer().verifier().clone().into();
    let expected = Expected {
        log: LogName::Calls,
        keys: &keys,
        known: &[],
    };
    verify(&offline, expected).unwrap_err();
}
