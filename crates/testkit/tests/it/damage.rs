//! Files of the data folder, changed or gone: `ledger verify` finds each and names it, and a node
//! does not take it for true.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger::{Checkpoint, Kind, proof};
use server::commands::ledger::{Checked, replay, verify};
use server::keys;
use store::OfflineLog;
use testkit::Plane;
use vocab::{Digest, LogName};

use crate::common::{ANY, copy};

/// The files of a node that made more entries than fit in one tile, and stopped.
async fn left() -> Plane {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    for _ in 0..150 {
        client.call("anything", ANY).await;
    }
    plane.stop().await.unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(checked.verified, "{}", checked.text(true));
    assert!(checked.calls.report.unwrap().signed > 300);
    plane
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn faults(checked: &Checked) -> Vec<String> {
    let all = [&checked.control.faults, &checked.calls.faults];
    let all = all.into_iter().chain([&checked.blobs.faults]);
    all.flatten().cloned().collect()
}

/// Does something to a file, sees that it is found and named, and undoes it.
fn check(plane: &Plane, file: &str, change: impl FnOnce(&Path), told: &[&str]) {
    let path = plane.data().join(file);
    let kept = fs::read(&path).unwrap();
    change(&path);
    let checked = verify(&plane.data(), None, &[]);
    assert!(!checked.verified, "{file}");
    let faults = faults(&checked);
    let found = |part: &&str| faults.iter().any(|fault| fault.contains(*part));
    assert!(told.iter().all(found), "{file}: {faults:#?}");
    assert!(checked.text(true).contains("from a backup"));
    fs::write(&path, kept).unwrap();
}

/// The path of the one file in a folder of partial tiles.
fn partial(plane: &Plane, folder: &str) -> String {
    let size = OfflineLog::open(&plane.data(), LogName::Calls).unwrap();
    let size = ledger::LogReader::size(&size);
    format!("{folder}.p/{}", size % 256)
}

#[tokio::test]
async fn tiles_that_were_changed_or_removed_are_named() {
    let plane = left().await;
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let hashes = "calls/tile/0/000".to_owned();
    let entries = "calls/tile/entries/000".to_owned();
    for file in [
        hashes.clone(),
        entries.clone(),
        partial(&plane, "calls/tile/0/001"),
        partial(&plane, "calls/tile/entries/001"),
        "calls/tile/1/000.p/1".to_owned(),
    ] {
        let name = file.strip_prefix("calls/").unwrap();
        check(&plane, &file, remove, &[&format!("`{name}` is missing")]);
        let emptied = |path: &Path| fs::write(path, "").unwrap();
        check(&plane, &file, emptied, &[&format!("`{name}` is missing")]);
    }
    // A bit within an entry, which may break its form or not, and one of its length.
    check(
        &plane,
        &hashes,
        |path| flip(path, 70),
        &["entry 2 is not", "`tile/0/000`"],
    );
    check(
        &plane,
        &entries,
        |path| flip(path, 2_000),
        &["`tile/entries/000`"],
    );
    check(
        &plane,
        &entries,
        |path| flip(path, 0),
        &["tile/entries/000", "damaged"],
    );
    check(
        &plane,
        "calls/tile/1/000.p/1",
        |path| flip(path, 5),
        &["`tile/1/000.p/1`"],
    );
    assert!(verify(&plane.data(), None, &[]).verified);
}

fn blobs(plane: &Plane) -> Vec<PathBuf> {
    let folders = fs::read_dir(plane.data().join("blobs")).unwrap();
    folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|file| file.unwrap().path())
        .collect()
}

#[tokio::test]
async fn blobs_that_were_changed_or_removed_are_named() {
    let plane = left().await;
    let all = blobs(&plane);
    assert!(all.len() >= 3, "options, tools, policies");
    for path in all {
        let file = path.strip_prefix(plane.data()).unwrap();
        let file = file.to_str().unwrap();
        let missing = format!("`{file}` is missing; `");
        check(
            &plane,
            file,
            |path| fs::remove_file(path).unwrap(),
            &[&missing],
        );
        check(
            &plane,
            file,
            |path| flip(path, 9),
            &[&format!("`{file}`"), "is damaged"],
        );
    }
    // One that nobody names is checked by its name, too.
    let digest = Digest::of(b"one").to_string();
    let folder = plane.data().join("blobs").join(digest.split_at(2).0);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(&digest), b"two").unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(
        faults(&checked)[0].contains(&digest),
        "{}",
        checked.text(true)
    );
}

#[tokio::test]
async fn another_key_is_one_clear_error() {
    let plane = left().await;
    let [control, calls] = LogName::ALL.map(|log| plane.data().join(format!("{log}.vkey")));
    let [own, other] = [&calls, &control].map(|path| fs::read_to_string(path).unwrap());
    fs::write(&calls, &other).unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(!checked.verified);
    assert_eq!(checked.calls.faults, Vec::<String>::new());
    assert!(checked.calls.report.is_none());
    let error = checked.calls.error.clone().unwrap();
    for key in [&own, &other] {
        let name = key.splitn(3, '+').take(2).collect::<Vec<_>>().join("+");
        assert!(error.contains(&name), "{name}: {error}");
    }
    assert!(error.contains("its own key"), "{error}");
    assert_eq!(checked.control.error, None, "{}", checked.text(true));
    fs::write(&calls, own).unwrap();
    fs::write(&control, "nonsense").unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(checked.control.error.unwrap().contains("control.vkey"));
}

/// Signs a checkpoint as the log's owner can.
fn signed(plane: &Plane, log: LogName, size: u64, root: Digest) -> String {
    let text = keys::read_secret(&keys::log_key(&plane.folder().join("keys"), log)).unwrap();
    let signer: ledger::note::Signer = text.expose().parse().unwrap();
    let origin = signer.name().to_owned();
    Checkpoint { origin, size, root }.sign(&signer).unwrap()
}

#[tokio::test]
async fn checkpoints_from_elsewhere_are_held_against_the_logs() {
    let plane = left().await;
    let log = OfflineLog::open(&plane.data(), LogName::Calls).unwrap();
    let size = ledger::LogReader::size(&log);
    let root = proof::root(&log, 100).unwrap();
    let kept = plane.folder().join("calls.checkpoint");
    let cosigned = plane.data().join("calls.cosigned");
    let check = |text: &str, told: Option<&str>| {
        for path in [&kept, &cosigned] {
            fs::write(path, text).unwrap();
            let anchors = (path == &kept).then(|| kept.clone());
            let checked = verify(&plane.data(), None, anchors.as_slice());
            fs::remove_file(path).unwrap();
            assert_eq!(checked.verified, told.is_none(), "{}", checked.text(true));
            let Some(told) = told else { continue };
            let faults = faults(&checked);
            let name = path.to_str().unwrap();
            let found = |fault: &String| fault.contains(told) && fault.contains(name);
            assert!(faults.iter().any(found), "{told}: {faults:#?}");
        }
    };
    check(&signed(&plane, LogName::Calls, 100, root), None);
    check(
        &signed(&plane, LogName::Calls, size + 1, root),
        Some("was set back"),
    );
    check(
        &signed(&plane, LogName::Calls, 101, root),
        Some("the root over 101 entries"),
    );
    check("nonsense", Some("is not a checkpoint of this log"));
    // A folder, as `[ledger] anchor` fills it.
    let folder = plane.folder().join("anchor");
    copy(&plane.data().join("calls"), &folder);
    let anchors = [folder.clone()];
    for log in LogName::ALL {
        let from = plane.data().join(log.as_str()).join("checkpoint");
        fs::copy(from, folder.join(format!("{log}.checkpoint"))).unwrap();
    }
    let checked = verify(&plane.data(), None, &anchors);
    assert!(checked.verified, "{}", checked.text(true));
    fs::remove_file(folder.join("control.checkpoint")).unwrap();
    let checked = verify(&plane.data(), None, &anchors);
    assert!(checked.control.faults[0].contains("control.checkpoint"));
}

#[tokio::test]
async fn a_node_does_not_start_on_a_checkpoint_of_other_entries() {
    let mut plane = left().await;
    for log in LogName::ALL {
        let path = plane.data().join(log.as_str()).join("checkpoint");
        let own = fs::read_to_string(&path).unwrap();
        let found = OfflineLog::open(&plane.data(), log).unwrap();
        let size = ledger::LogReader::size(&found);
        for (size, root, told) in [
            (size, Digest::of(b"x"), "was changed"),
            (4, Digest::of(b"x"), "was changed"),
            (size + 1, Digest::of(b"x"), "was cut"),
        ] {
            fs::write(&path, signed(&plane, log, size, root)).unwrap();
            let error = plane.boot().await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        fs::write(&path, own).unwrap();
    }
    plane.boot().await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn a_changed_entry_is_not_handed_out() {
    let mut plane = left().await;
    // A start leaves entries that fill a tile in that tile only.
    plane.boot().await.unwrap();
    plane.stop().await.unwrap();
    flip(&plane.data().join("calls/tile/entries/000"), 2_000);
    // What an instance that may go on has read is to be known.
    let error = plane.boot().await.unwrap_err().to_string();
    assert!(error.contains("is damaged"), "{error}");
    plane.clock.advance(Duration::from_hours(48));
    plane.boot().await.unwrap();
    let text = fs::read_to_string(plane.folder().join("keys/auditor.token")).unwrap();
    let token = format!("Bearer {}", text.trim());
    let asked = plane.ask("GET", "/ledger/calls/tile/entries/000");
    let answer = asked.header("authorization", &token).send().await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    let answer = plane.admin("GET", "/v1/trace/calls/100", None).await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("ledger verify"), "{}", answer.text());
    plane.stop().await.unwrap();
}

#[tokio::test]
async fn facts_that_are_gone_without_a_record_are_missing() {
    let mut plane = left().await;
    plane.boot().await.unwrap();
    plane.stop().await.unwrap();
    let key = keys::facts_key(&plane.folder().join("keys"));
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(replayed.is_good() && replayed.same == 150, "{replayed:?}");
    fs::remove_file(plane.data().join("calls/sealed/000")).unwrap();
    for key in [Some(key.as_path()), None] {
        let replayed = replay(&plane.data(), key).unwrap();
        assert!(!replayed.is_good());
        assert!(replayed.missing > 100, "{replayed:?}");
        let [same, sealed] = [replayed.same, replayed.sealed];
        assert_eq!(same + sealed + replayed.missing, 150);
        let told = replayed.text(key.is_none());
        assert!(told.contains("its sealed facts are missing"), "{told}");
    }
    // What was erased on record is not missed.
    let ledger = plane.ledger();
    let handle = ledger.last(Kind::Decision);
    let handle = handle.read::<gateway::record::DecisionBody>().facts.key;
    plane.boot().await.unwrap();
    let control = std::sync::Arc::clone(plane.gateway().control());
    let erase = register::Command::Erase { handle };
    let actor = ledger::Actor::node("node-1");
    control.execute(actor, erase).await.unwrap();
    plane.stop().await.unwrap();
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(replayed.is_good() && replayed.erased == 150, "{replayed:?}");
}

#[tokio::test]
async fn entries_that_are_gone_or_changed_are_told_and_the_others_are_run_again() {
    let mut plane = left().await;
    // A start leaves entries that fill a tile in that tile only.
    plane.boot().await.unwrap();
    plane.stop().await.unwrap();
    let key = keys::facts_key(&plane.folder().join("keys"));
    let decisions = |from: u64| {
        let ledger = plane.ledger();
        let of_it = ledger.of(Kind::Decision).into_iter();
        of_it.filter(|line| line.index >= from).count() as u64
    };
    let (all, after) = (decisions(0), decisions(256));
    assert!(0 < after && after < all);
    let tile = plane.data().join("calls/tile/entries/000");
    let own = fs::read(&tile).unwrap();
    flip(&tile, 2);
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(!replayed.is_good());
    assert_eq!((replayed.different, replayed.missing), (1, 0));
    assert!(replayed.same >= all - 1, "{replayed:?}");
    let told = replayed.text(false);
    assert!(told.starts_with("calls/0: not an entry"), "{told}");
    fs::remove_file(&tile).unwrap();
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(!replayed.is_good());
    assert_eq!((replayed.same, replayed.missing), (after, 256));
    assert!(
        replayed
            .text(false)
            .contains("calls/0: entry 0 is not there")
    );
    fs::write(&tile, own).unwrap();
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert!(replayed.is_good() && replayed.same == all, "{replayed:?}");
}
