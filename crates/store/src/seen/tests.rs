use std::fs;

use super::*;
use crate::Fault;

const LOG: &str = "example.com/log";

fn open(path: &Path) -> Result<SeenFolder, SeenError> {
    SeenFolder::open(path, false, Faults::default())
}

#[test]
fn what_was_put_last_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let seen = open(folder.path()).unwrap();
    assert!(seen.is_empty().unwrap());
    assert_eq!(seen.last(LOG).unwrap(), None);
    seen.put(LOG, "one").unwrap();
    seen.put("example.com/other", "other").unwrap();
    seen.put(LOG, "two").unwrap();
    assert!(matches!(
        open(folder.path()),
        Err(SeenError::Open(OpenError::Locked { .. }))
    ));
    drop(seen);
    let seen = open(folder.path()).unwrap();
    assert!(!seen.is_empty().unwrap());
    assert_eq!(seen.origins(), [LOG, "example.com/other"]);
    assert_eq!(seen.last(LOG).unwrap().as_deref(), Some("two"));
    assert_eq!(seen.last("example.com/third").unwrap(), None);
}

#[test]
fn what_was_taken_away_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let seen = open(folder.path()).unwrap();
    seen.put(LOG, "one").unwrap();
    let file = seen.file(LOG);
    drop(seen);
    let kept = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let seen = open(folder.path()).unwrap();
    assert!(matches!(seen.last(LOG), Err(SeenError::Missing { .. })));
    drop(seen);
    fs::write(&file, kept).unwrap();
    fs::remove_file(folder.path().join("origins")).unwrap();
    assert!(matches!(open(folder.path()), Err(SeenError::NoList { .. })));
}

/// Whatever fails, and however: what was acknowledged, or something put after it, is found.
#[test]
fn a_write_that_fails_takes_nothing_back() {
    for fault in Fault::FAILURES {
        for step in 0..8 {
            let folder = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let seen = SeenFolder::open(folder.path(), false, faults.clone()).unwrap();
            seen.put("example.com/other", "other").unwrap();
            faults.set_at(step, fault);
            let first = seen.put(LOG, "one");
            faults.set(Fault::None);
            let second = if first.is_ok() {
                faults.set_at(step, fault);
                seen.put(LOG, "two")
            } else {
                Ok(())
            };
            drop(seen);
            let seen = open(folder.path()).unwrap();
            assert_eq!(
                seen.last("example.com/other").unwrap().as_deref(),
                Some("other")
            );
            let found = seen.last(LOG).unwrap();
            let told = format!("{fault:?} at {step}: {found:?}");
            match (first.is_ok(), second.is_ok()) {
                (true, true) => assert_eq!(found.as_deref(), Some("two"), "{told}"),
                (true, false) => assert!(matches!(found.as_deref(), Some("one" | "two")), "{told}"),
                (false, _) => assert!(matches!(found.as_deref(), None | Some("one")), "{told}"),
            }
        }
    }
}

#[test]
fn a_first_write_that_was_cut_short_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let seen = SeenFolder::open(folder.path(), false, faults.clone()).unwrap();
    // The file is there, and its log is not listed.
    faults.set_from(5, Fault::Io);
    assert!(seen.put(LOG, "one").is_err());
    assert!(seen.file(LOG).exists());
    drop(seen);
    let seen = open(folder.path()).unwrap();
    assert_eq!(seen.last(LOG).unwrap().as_deref(), Some("one"));
}

#[test]
fn contradictions_are_kept_up_to_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let seen = open(folder.path()).unwrap();
    for nth in 0..FORKS_MAX + 4 {
        seen.put_fork(LOG, &format!("fork {nth}")).unwrap();
        seen.put_fork(LOG, &format!("fork {nth}")).unwrap();
    }
    seen.put_fork("example.com/other", "fork").unwrap();
    let kept = disk::names(&folder.path().join("forks")).unwrap();
    assert_eq!(kept.len(), FORKS_MAX + 1);
}
