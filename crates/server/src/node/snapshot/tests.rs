use std::fs;

use ledger::{Actor, Header, Log};
use register::{Command, Settings};
use store::{DataDir, Fault, FileBlobs, FileKeyring, LogOptions, WrappingKey};
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use super::*;

/// A register on files, without the rest of a node.
struct Register {
    folder: tempfile::TempDir,
    faults: Faults,
    signer: Signer,
}

/// It runs.
struct Running {
    log: Arc<FilesLog>,
    control: Arc<Control>,
    snapshots: Arc<Snapshots>,
}

impl Register {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::generate("it.example/control", &SystemRng).unwrap();
        let path = keys::log_key(folder.path(), LogName::Control);
        fs::write(&path, signer.to_text().expose()).unwrap();
        Self {
            folder,
            faults: Faults::default(),
            signer,
        }
    }

    fn file(&self) -> PathBuf {
        path(self.folder.path())
    }

    fn start(&self) -> Running {
        let data = self.folder.path();
        let options = LogOptions {
            name: LogName::Control,
            signers: self
                .signer
                .to_text()
                .expose()
                .parse::<Signer>()
                .unwrap()
                .into(),
            header: Header {
                trust_domain: "it.example".parse().unwrap(),
                node: "n-1".to_owned(),
                epoch: 1,
                key: String::new(),
            },
            clock: Arc::new(SystemClock::new()),
            faults: self.faults.clone(),
            publish_every: None,
        };
        let log = FilesLog::open(&DataDir::open(data).unwrap(), options).unwrap();
        let log = Arc::new(log);
        let wrapping = WrappingKey::from_bytes([1; 32]);
        let keyring = FileKeyring::open(&data.join("keyring"), Some(wrapping)).unwrap();
        let snapshots = Snapshots::new(data, data, self.faults.clone());
        let begin = snapshots.begin(self.signer.verifier(), log.reader(), &keyring);
        let control = Control::resume(
            begin,
            Arc::clone(&log) as Arc<dyn Log>,
            Arc::new(FileBlobs::open(&data.join("blobs"))),
            Arc::new(keyring),
            Arc::new(SystemClock::new()),
            Arc::new(SystemRng),
            Settings::default(),
        );
        Running {
            log,
            control: control.unwrap(),
            snapshots: Arc::new(snapshots),
        }
    }
}

impl Running {
    async fn add(&self, id: &str) {
        let sponsor = Command::AddSponsor {
            id: id.parse().unwrap(),
            name: "Maya".parse().unwrap(),
            email: "maya@example.com".parse().unwrap(),
        };
        let actor = Actor::node("n-1");
        self.control.execute(actor, sponsor).await.unwrap();
    }

    async fn keep(&self) -> bool {
        self.snapshots.write(&self.control, &self.log).await
    }

    fn check(&self, sponsors: &[&str]) {
        let found = self.control.view(|state| {
            let all = state.sponsors().into_iter();
            all.map(|it| it.id().unwrap().to_string())
                .collect::<Vec<_>>()
        });
        assert_eq!(found, sponsors);
    }
}

#[tokio::test]
async fn a_start_goes_on_from_the_snapshot() {
    let register = Register::new();
    let running = register.start();
    assert!(matches!(running.snapshots.told().start, Start::Whole));
    running.add("maya").await;
    assert!(running.keep().await);
    assert_eq!(running.snapshots.told().size, 1);
    running.add("noor").await;
    drop(running);
    let running = register.start();
    let told = running.snapshots.told();
    assert!(matches!(told.start, Start::From(1)), "{told:?}");
    running.check(&["maya", "noor"]);
}

#[tokio::test]
async fn a_disk_that_fails_under_a_snapshot_stops_nothing_and_is_told() {
    for fault in Fault::FAILURES {
        let register = Register::new();
        let running = register.start();
        running.add("maya").await;
        assert!(running.keep().await);
        let before = fs::read(register.file()).unwrap();
        running.add("noor").await;
        register.faults.set(fault);
        assert!(!running.keep().await, "{fault:?}");
        assert!(running.snapshots.told().failure.is_some());
        register.faults.set(Fault::None);
        // The node goes on, and the next one tells that all is well.
        running.add("tove").await;
        if fault != Fault::PersistedButFailed {
            assert!(before == fs::read(register.file()).unwrap(), "{fault:?}");
        }
        drop(running);
        let running = register.start();
        running.check(&["maya", "noor", "tove"]);
        assert!(running.keep().await);
        assert!(running.snapshots.told().failure.is_none());
    }
}

/// Starts with another file in the place of the snapshot.
async fn check_other(change: impl FnOnce(&Path, &[u8]), expected: &str) {
    let register = Register::new();
    let running = register.start();
    running.add("maya").await;
    assert!(running.keep().await);
    drop(running);
    let file = register.file();
    change(&file, &fs::read(&file).unwrap());
    let running = register.start();
    running.check(&["maya"]);
    match running.snapshots.told().start {
        Start::NotTaken(why) => assert!(why.contains(expected), "{why}"),
        other => panic!("{other:?}"),
    }
    // And it is replaced.
    assert!(running.keep().await);
    drop(running);
    assert!(matches!(
        register.start().snapshots.told().start,
        Start::From(1)
    ));
}

#[tokio::test]
async fn a_file_that_is_no_snapshot_of_this_log_is_not_taken_and_does_not_stop_the_start() {
    check_other(|file, _| fs::write(file, "").unwrap(), "form").await;
    check_other(|file, _| fs::write(file, [0; 64]).unwrap(), "note").await;
    let flipped = |file: &Path, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(file, bytes).unwrap();
    };
    check_other(flipped, "body").await;
}

#[tokio::test]
async fn what_cannot_be_read_or_replaced_is_told_and_no_more() {
    let register = Register::new();
    fs::create_dir(register.file()).unwrap();
    let running = register.start();
    let told = running.snapshots.told();
    assert!(matches!(told.start, Start::NotTaken(_)), "{told:?}");
    running.add("maya").await;
    assert!(!running.keep().await);
    assert!(running.snapshots.told().failure.is_some());
    running.check(&["maya"]);
}

#[test]
fn how_often_they_are_written_grows_with_what_they_cost() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::new(folder.path(), folder.path(), Faults::default());
    let due = |kept, size, least, part| {
        snapshots.tell(|told| told.size = kept);
        snapshots.is_due(size, least, part)
    };
    for (kept, size, running, stopping) in [
        (0, 0, false, false),
        (0, 1, false, true),
        (0, 9_999, false, true),
        (0, 10_000, true, true),
        (1_000_000, 1_010_000, false, true),
        (1_000_000, 1_009_999, false, false),
        (1_000_000, 1_249_999, false, true),
        (1_000_000, 1_250_000, true, true),
    ] {
        assert_eq!(
            due(kept, size, EVERY_MIN, EVERY_PART),
            running,
            "{kept} {size}"
        );
        assert_eq!(due(kept, size, 1, STOP_PART), stopping, "{kept} {size}");
    }
}
