use super::*;
use crate::memory::{Memory, ORIGIN, entry, entry_at, signer};
use crate::note::Signer;

fn expected() -> Expected<'static> {
    static KEYS: std::sync::LazyLock<LogKeys> =
        std::sync::LazyLock::new(|| signer().verifier().clone().into());
    Expected {
        log: LogName::Calls,
        keys: &KEYS,
        known: &[],
    }
}

fn faults(log: &Memory) -> Vec<Fault> {
    match verify(log, expected()) {
        Ok(_) => Vec::new(),
        Err(unsound) => unsound.faults,
    }
}

/// Asserts that a changed log is refused, and for this reason first.
fn bad(log: &Memory, check: fn(&Fault) -> bool) {
    let faults = faults(log);
    assert!(faults.first().is_some_and(check), "{faults:?}");
}

#[test]
fn a_sound_log_is_reported() {
    for size in [0, 1, 255, 256, 257, 600] {
        let log = Memory::of(size);
        let report = verify(&log, expected()).unwrap();
        assert_eq!((report.signed, report.tail), (size, 0));
        assert_eq!(report.root, log.root(size));
        assert_eq!(report.kinds.get("decision").copied().unwrap_or(0), size);
        assert_eq!(report.first, (size > 0).then_some(Time::EPOCH));
        assert_eq!(report.last, size.checked_sub(1).map(Time::from_micros));
    }
}

#[test]
fn what_is_not_signed_yet_is_the_tail() {
    // A node that was stopped hard has no tiles of its tail.
    let mut log = Memory::of(300);
    log.entries.extend((300..600).map(entry));
    let report = verify(&log, expected()).unwrap();
    assert_eq!((report.signed, report.tail), (300, 300));
    assert_eq!(report.root, log.root(300));
    // The tail is read as strictly.
    log.entries[599] = b"{}".to_vec();
    bad(&log, |fault| {
        matches!(fault, Fault::Entry { index: 599, .. })
    });
}

#[test]
fn checkpoints() {
    let mut log = Memory::of(5);
    log.checkpoint = None;
    bad(&log, |fault| *fault == Fault::CheckpointAbsent);
    log.checkpoint = Some(String::new());
    bad(&log, |fault| matches!(fault, Fault::CheckpointInvalid(_)));
    let stranger = Signer::from_seed(ORIGIN, &[8; 32]).unwrap();
    log.checkpoint = Some(log.checkpoint_at(5).sign(&stranger).unwrap());
    let given = signer().verifier().key_name();
    let signed = format!("`{}`", stranger.verifier().key_name());
    assert_eq!(faults(&log), [Fault::OtherKey { given, signed }]);
}

#[test]
fn entries() {
    let change = |index: usize, bytes: Vec<u8>| {
        let mut entries: Vec<_> = (0..300).map(entry).collect();
        entries[index] = bytes;
        Memory::with(entries)
    };
    bad(&change(7, b"{}".to_vec()), |fault| {
        matches!(
            fault,
            Fault::Entry {
                index: 7,
                cause: EntryError::Syntax(_)
            }
        )
    });
    let other = String::from_utf8(entry(7)).unwrap();
    let unknown = other.replace("decision", "decisions").into_bytes();
    bad(&change(7, unknown), |fault| {
        matches!(
            fault,
            Fault::Entry {
                index: 7,
                cause: EntryError::Kind { .. }
            }
        )
    });
    bad(
        &change(7, other.replace(ORIGIN, "example.com/x").into_bytes()),
        |fault| matches!(fault, Fault::Key { index: 7, .. }),
    );
    bad(
        &change(7, other.replace("acme", "acne").into_bytes()),
        |fault| matches!(fault, Fault::TrustDomain { index: 7, .. }),
    );
    let control = entry_at(Kind::AgentAdded, Time::from_micros(7), 1);
    bad(&change(7, control), |fault| {
        matches!(fault, Fault::WrongLog { index: 7, .. })
    });
    let late = entry_at(Kind::Decision, Time::from_micros(200), 1);
    let log = change(7, late);
    bad(&log, |fault| matches!(fault, Fault::Time { index: 8, .. }));
    assert_eq!(faults(&log).len(), 100, "as many as are told");
    let later = entry_at(Kind::Decision, Time::from_micros(7), 2);
    let unsound = verify(&change(7, later), expected()).unwrap_err();
    assert!(matches!(
        unsound.faults[0],
        Fault::Epoch {
            index: 8,
            epoch: 1,
            before: 2
        }
    ));
    assert_eq!(unsound.faults.len(), FAULTS_TOLD_MAX);
    assert_eq!(unsound.count, 292);
}

#[test]
fn a_log_that_lost_something() {
    let whole = Memory::of(300);
    let mut log = whole.clone();
    log.entries.truncate(299);
    let (size, signed) = (299, 300);
    bad(&log, |fault| matches!(fault, Fault::Truncated { .. }));
    assert_eq!(faults(&log), [Fault::Truncated { size, signed }]);

    let mut log = whole.clone();
    log.entries.remove(100);
    assert!(!faults(&log).is_empty());
    let mut log = whole.clone();
    log.entries.swap(100, 101);
    bad(&log, |fault| {
        matches!(fault, Fault::Time { index: 101, .. })
    });
    let mut log = whole;
    log.tiles.remove(&"tile/0/001.p/44".parse().unwrap());
    bad(&log, |fault| matches!(fault, Fault::TileUnreadable { .. }));
}

/// Reads as `Memory` does, but for one entry.
#[derive(Debug)]
struct Broken(Memory);

impl LogReader for Broken {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        if index == 5 {
            return Err(ReadError::Unreadable {
                what: "entry 5".to_owned(),
                cause: "no such luck".to_owned(),
            });
        }
        self.0.entry(index)
    }

    fn sealed(&self, index: u64) -> Result<Option<Vec<u8>>, ReadError> {
        self.0.sealed(index)
    }

    fn checkpoint(&self) -> Result<Option<String>, ReadError> {
        self.0.checkpoint()
    }

    fn hash_tile(&self, level: u8, n: u64, width: u16) -> Result<Vec<u8>, ReadError> {
        self.0.hash_tile(level, n, width)
    }
}

#[test]
fn what_cannot_be_checked_is_a_fault() {
    let unsound = verify(&Broken(Memory::of(9)), expected()).unwrap_err();
    assert_eq!(unsound.count, 1);
    assert!(matches!(
        unsound.faults[0],
        Fault::EntryUnreadable { index: 5, .. }
    ));
}

#[test]
fn known_checkpoints() {
    let mut log = Memory::of(300);
    log.checkpoint = Some(log.sign(280));
    let known = |checkpoint| Known {
        by: "a friend".to_owned(),
        checkpoint,
    };
    let with = |known: &[Known]| {
        let expected = Expected {
            known,
            ..expected()
        };
        verify(&log, expected).map_err(|unsound| unsound.faults)
    };
    let honest: Vec<_> = [300, 0, 7, 256, 280]
        .map(|size| known(log.checkpoint_at(size)))
        .into();
    assert!(with(&honest).is_ok());

    let mut forked = log.checkpoint_at(7);
    forked.root = log.root(8);
    assert!(matches!(
        with(&[known(forked.clone())]).unwrap_err()[..],
        [Fault::Rewritten { size: 7, .. }]
    ));
    forked.origin = "example.com/other".to_owned();
    assert!(matches!(
        with(&[known(forked)]).unwrap_err()[..],
        [Fault::KnownOrigin { .. }]
    ));
    let mut longer = log.checkpoint_at(300);
    longer.size = 301;
    let faults = with(&[known(longer)]).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "a friend knows of 301 entries, but there are 300: the log was set back"
    );
    assert_eq!(faults.len(), 1);
}

/// Every single bit of the log's bytes matters.
#[test]
fn any_changed_bit_is_refused() {
    let log = Memory::of(3);
    for index in 0..3 {
        for bit in 0..log.entries[index].len() * 8 {
            let mut log = log.clone();
            log.entries[index][bit / 8] ^= 1_u8 << (bit % 8);
            let faults = faults(&log);
            let root = |fault: &Fault| matches!(fault, Fault::Root { size: 3, .. });
            let tile = |fault: &Fault| matches!(fault, Fault::Tile { at, .. } if *at == index);
            assert!(faults.iter().any(root), "{index} {bit}");
            assert!(faults.iter().any(tile), "{index} {bit}");
        }
    }
    let tile: Tile = "tile/0/000.p/3".parse().unwrap();
    for bit in 0..log.tiles[&tile].len() * 8 {
        let mut log = log.clone();
        log.tiles.get_mut(&tile).unwrap()[bit / 8] ^= 1_u8 << (bit % 8);
        assert_eq!(
            faults(&log),
            [Fault::Tile {
                tile,
                at: bit / 256
            }]
        );
    }
}
