use std::fs;

use super::*;
use crate::disk::Fault;

fn wrapping() -> WrappingKey {
    WrappingKey::from_bytes([3; 32])
}

fn key_of(opened: &Opened) -> [u8; 32] {
    match opened {
        Opened::Key(key) => *key.expose(),
        Opened::Erased | Opened::Locked => panic!("{opened:?}"),
    }
}

#[test]
fn a_group_has_one_key_and_it_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    // What is not a key's does not matter.
    fs::write(temp.path().join("lock"), "").unwrap();
    fs::write(temp.path().join("k-abc.tmp"), "").unwrap();
    let (handle, key) = keyring.group_key("s-1/triage/2026-11-21").unwrap();
    let (other, other_key) = keyring.group_key("s-2/triage/2026-11-21").unwrap();
    assert_ne!((&handle, key.expose()), (&other, other_key.expose()));
    assert_eq!(
        keyring.group_key("s-1/triage/2026-11-21").unwrap().0,
        handle
    );

    let again = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    assert_eq!(key_of(&again.open(&handle).unwrap()), *key.expose());
    let (same, same_key) = again.group_key("s-1/triage/2026-11-21").unwrap();
    assert_eq!((same, same_key.expose()), (handle, key.expose()));
}

#[test]
fn a_file_shows_neither_key_nor_group() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let mut lengths = Vec::new();
    for group in ["s", "maya/triage/2026-11-21", &"x".repeat(224)] {
        let (handle, key) = keyring.group_key(group).unwrap();
        let file = fs::read(keyring.path(&handle)).unwrap();
        let holds = |part: &[u8]| file.windows(part.len()).any(|window| window == part);
        assert!(!holds(key.expose()));
        assert!(group.len() < 4 || !holds(group.as_bytes()));
        lengths.push(file.len());
    }
    assert_eq!(lengths, [1 + 24 + 32 + 224 + 16; 3]);
}

#[test]
fn without_the_wrapping_key_it_is_locked() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let (handle, _) = keyring.group_key("a").unwrap();
    let locked = FileKeyring::open(temp.path(), None).unwrap();
    assert!(matches!(locked.open(&handle), Ok(Opened::Locked)));
    assert!(matches!(locked.group_key("a"), Err(KeyringError::Locked)));
    assert_eq!(locked.erase(&handle), Ok(true));
    assert!(matches!(locked.open(&handle), Ok(Opened::Erased)));
}

#[test]
fn what_is_erased_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let (handle, key) = keyring.group_key("a").unwrap();
    assert_eq!(keyring.erase(&handle), Ok(true));
    assert_eq!(keyring.erase(&handle), Ok(false));
    assert!(matches!(keyring.open(&handle), Ok(Opened::Erased)));
    let again = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    assert!(matches!(again.open(&handle), Ok(Opened::Erased)));
    // The group goes on under another handle and key.
    let (new, new_key) = keyring.group_key("a").unwrap();
    assert_ne!((new, new_key.expose()), (handle, key.expose()));
}

#[test]
fn a_changed_or_swapped_file_is_damage() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let (a, _) = keyring.group_key("a").unwrap();
    let (b, _) = keyring.group_key("b").unwrap();
    let check = |expected: &Handle| match FileKeyring::open(temp.path(), Some(wrapping())) {
        Err(KeyringError::Damaged { handle }) => assert_eq!(handle, *expected),
        other => panic!("{other:?}"),
    };
    let kept = fs::read(keyring.path(&a)).unwrap();
    let mut changed = kept.clone();
    changed[40] ^= 1;
    fs::write(keyring.path(&a), changed).unwrap();
    check(&a);
    fs::write(keyring.path(&a), b"").unwrap();
    check(&a);
    fs::copy(keyring.path(&b), keyring.path(&a)).unwrap();
    check(&a);
    fs::write(keyring.path(&a), kept).unwrap();
    let other = WrappingKey::from_bytes([4; 32]);
    let opened = FileKeyring::open(temp.path(), Some(other));
    assert!(matches!(opened, Err(KeyringError::Damaged { .. })));
}

#[test]
fn every_write_of_a_key_may_fail() {
    for fault in Fault::FAILURES {
        for step in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
            let keyring = keyring.with_faults(faults.clone());
            faults.set_at(step, fault);
            let result = keyring.group_key("a");
            let erased = result.as_ref().map(|(handle, _)| keyring.erase(handle));
            let took = faults.steps();
            faults.set(Fault::None);
            // A key that was given is one that a start finds, unless it was erased.
            let again = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
            if let (Ok((handle, _)), Ok(erased)) = (&result, erased) {
                let found = again.open(handle).unwrap();
                assert!(
                    erased.is_err() || matches!(found, Opened::Erased),
                    "{fault:?} {step}"
                );
                // An erasure that failed is done by asking again.
                let _was_there = keyring.erase(handle).unwrap();
                assert!(matches!(keyring.open(handle), Ok(Opened::Erased)));
            }
            keyring.group_key("a").unwrap();
            if took <= step {
                break;
            }
        }
    }
}

#[test]
fn a_wrapping_key_is_made_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("keys/wrapping.key");
    assert!(WrappingKey::read(&path).unwrap().is_none());
    let made = WrappingKey::read_or_make(&path).unwrap();
    let read = WrappingKey::read_or_make(&path).unwrap();
    assert_eq!(made.0.expose(), read.0.expose());
    assert_eq!(format!("{made:?}"), "WrappingKey([redacted])");
    fs::write(&path, [0; 31]).unwrap();
    assert!(matches!(
        WrappingKey::read_or_make(&path),
        Err(WrappingKeyError::Length { length: 31, .. })
    ));
}

#[test]
fn what_failed_is_tried_again_until_it_can_be_written() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("keyring");
    let faults = Faults::default();
    let keyring = FileKeyring::open(&folder, Some(wrapping())).unwrap();
    let keyring = keyring.with_faults(faults.clone());
    assert!(keyring.is_writable(), "the first key makes the folder");
    for fault in [Fault::Full, Fault::ReadOnly, Fault::Io, Fault::Sync] {
        faults.set(fault);
        assert!(keyring.is_writable(), "nobody tried");
        keyring.mend().unwrap();
        keyring.group_key("a").unwrap_err();
        assert!(!keyring.is_writable(), "{fault:?}");
        keyring.mend().unwrap_err();
        assert!(!keyring.is_writable(), "{fault:?}");
        faults.set(Fault::None);
        keyring.mend().unwrap();
        assert!(keyring.is_writable(), "{fault:?}");
    }
    assert!(!folder.join("trial").exists());
    // Without anybody trying, it is seen that there is no place for a file.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    assert!(!keyring.is_writable());
    fs::remove_file(&folder).unwrap();
    let (handle, _) = keyring.group_key("a").unwrap();
    faults.set(Fault::Io);
    keyring.erase(&handle).unwrap_err();
    assert!(!keyring.is_writable());
}

fn next() -> WrappingKey {
    WrappingKey::from_bytes([4; 32])
}

fn opens(folder: &Path, wrapping: WrappingKey, keys: &[(Handle, Arc<GroupKey>)]) -> bool {
    let Ok(keyring) = FileKeyring::open(folder, Some(wrapping)) else {
        return false;
    };
    for (handle, key) in keys {
        assert_eq!(key_of(&keyring.open(handle).unwrap()), *key.expose());
    }
    true
}

#[test]
fn wrapped_anew_by_another_key() {
    let temp = tempfile::tempdir().unwrap();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let mut keys = ["a", "b", "c"].map(|group| keyring.group_key(group).unwrap());
    keyring.erase(&keys[2].0).unwrap();
    assert_eq!(keyring.rewrap(&next()), Ok(2));
    // What is made from now on is wrapped by the other key, too.
    keys[2] = keyring.group_key("d").unwrap();
    assert!(
        !opens(temp.path(), wrapping(), &[]),
        "the old key opens nothing"
    );
    assert!(opens(temp.path(), next(), &keys));
    let (same, _) = keyring.group_key("a").unwrap();
    assert_eq!(same, keys[0].0);
    assert_ne!(next().known_by(), wrapping().known_by());
    let locked = FileKeyring::open(temp.path(), None).unwrap();
    assert_eq!(locked.rewrap(&next()), Err(KeyringError::Locked));
}

/// Whatever fails, and after however many steps: nothing is lost, what was erased stays so, and the
/// next attempt comes to the end.
#[test]
fn a_rewrapping_that_fails_or_is_killed_in_the_middle_goes_on_later() {
    for fault in Fault::FAILURES {
        for steps in 0..40 {
            let temp = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
            let keyring = keyring.with_faults(faults.clone());
            let keys = ["a", "b", "c"].map(|group| keyring.group_key(group).unwrap());
            let (gone, _) = keyring.group_key("gone").unwrap();
            keyring.erase(&gone).unwrap();
            faults.set_at(steps, fault);
            let done = keyring.rewrap(&next());
            // As the next start finds it.
            let again = FileKeyring::open_changing(temp.path(), wrapping(), next()).unwrap();
            for (handle, key) in &keys {
                assert_eq!(key_of(&again.open(handle).unwrap()), *key.expose());
            }
            assert!(matches!(again.open(&gone), Ok(Opened::Erased)));
            assert_eq!(again.rewrap(&next()), Ok(3), "{fault:?} {steps}");
            assert!(opens(temp.path(), next(), &keys));
            assert!(!opens(temp.path(), wrapping(), &[]));
            if done.is_ok() {
                break;
            }
            assert!(steps < 39, "it never comes to its end");
            // The same, where the process went on.
            faults.set(Fault::None);
            assert_eq!(keyring.rewrap(&next()), Ok(3), "{fault:?} {steps}");
        }
    }
}

#[test]
fn a_key_that_nobody_knows_of_is_wrapped_anew_too() {
    // Its file came to be although that was reported as failed.
    let temp = tempfile::tempdir().unwrap();
    let faults = Faults::default();
    let keyring = FileKeyring::open(temp.path(), Some(wrapping())).unwrap();
    let keyring = keyring.with_faults(faults.clone());
    faults.set(Fault::PersistedButFailed);
    keyring.group_key("a").unwrap_err();
    faults.set(Fault::None);
    let (handle, _) = keyring.group_key("b").unwrap();
    keyring.rewrap(&next()).unwrap();
    assert!(opens(temp.path(), next(), &[]));
    // One that is damaged is not given up in silence.
    fs::write(keyring.path(&handle), "damaged").unwrap();
    let damaged = keyring.rewrap(&wrapping());
    assert_eq!(damaged, Err(KeyringError::Damaged { handle }));
}
