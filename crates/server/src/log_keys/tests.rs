use std::time::Duration;

use ledger::keys::follow;
use ledger::verify::{Expected, Fault};
use ledger::{Header, LogKeys, LogReader as _};
use store::{
    DataDir, Fault as DiskFault, Faults, FileBlobs, FileKeyring, LogOptions, OfflineLog,
    WrappingKey,
};
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use ledger::note::Note;

use super::*;

const DAY: Duration = Duration::from_hours(24);
const CONFIG: LogKeysConfig = LogKeysConfig {
    rotation: None,
    overlap: DAY,
};
const LOG: LogName = LogName::Control;

/// A data folder and a keys folder.
struct Place {
    dir: tempfile::TempDir,
    /// The first keys of the two logs.
    first: [Verifier; 2],
}

/// What of a node changes keys of logs.
struct Running {
    data: PathBuf,
    keys: PathBuf,
    control: Arc<Control>,
    logs: [Arc<FilesLog>; 2],
    rotation: LogRotation,
    faults: Faults,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        keys::make_folder(&keys).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        let first = LogName::ALL.map(|log| {
            let name = format!("acme.example/{log}/x");
            let signer = Signer::generate(&name, &SystemRng).unwrap();
            keys::write_secret(&keys::log_key(&keys, log), signer.to_text().expose()).unwrap();
            let vkey = dir.path().join(format!("data/{log}.vkey"));
            fs::write(vkey, format!("{}\n", signer.verifier())).unwrap();
            signer.verifier().clone()
        });
        Self { dir, first }
    }

    /// As the disk has it at this moment, whatever is in memory.
    fn crashed(&self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        Self {
            dir,
            first: self.first.clone(),
        }
    }

    #[expect(
        clippy::unwrap_in_result,
        reason = "what is handed on is what a test asks for"
    )]
    fn start(&self) -> Result<Running, LogKeyError> {
        let (data, keys) = (self.dir.path().join("data"), self.dir.path().join("keys"));
        let folder = DataDir::open(&data).unwrap();
        let faults = Faults::default();
        let open = |name: LogName| -> Result<Arc<FilesLog>, LogKeyError> {
            let signers = signers(&keys, name)?;
            let options = LogOptions {
                name,
                header: Header {
                    trust_domain: "acme.example".parse().unwrap(),
                    node: "n-1".to_owned(),
                    epoch: 1,
                    key: signers.key_name().to_owned(),
                },
                signers,
                clock: Arc::new(SystemClock::new()),
                faults: faults.clone(),
                publish_every: None,
            };
            Ok(Arc::new(FilesLog::open(&folder, options).unwrap()))
        };
        let logs = [open(LogName::Control)?, open(LogName::Calls)?];
        let wrapping = Some(WrappingKey::from_bytes([7; 32]));
        let control = Control::open(
            Arc::clone(&logs[0]) as Arc<dyn ledger::Log>,
            Arc::new(FileBlobs::open(&data.join("blobs"))),
            Arc::new(FileKeyring::open(&data.join("keyring"), wrapping).unwrap()),
            Arc::new(SystemClock::new()),
            Arc::new(SystemRng),
            register::Settings::default(),
        )
        .unwrap();
        control.view(|state| check(&keys, state))?;
        Ok(Running {
            data,
            keys,
            control,
            logs,
            rotation: LogRotation::new(CONFIG, "n-1"),
            faults,
        })
    }

    /// As a start of a node does, then as whoever knows the first keys finds it.
    async fn starts(&self) -> Vec<&'static str> {
        let running = self.start().unwrap();
        running.rotation.settle(&running.logs()).await.unwrap();
        running.stop(&self.first).await
    }
}

impl Running {
    fn logs(&self) -> Logs<'_> {
        Logs {
            keys: &self.keys,
            data: &self.data,
            control: &self.control,
            control_log: &self.logs[0],
            calls_log: &self.logs[1],
            rng: &SystemRng,
        }
    }

    async fn rotate(&self, log: LogName) -> Result<Changed, LogKeyError> {
        self.rotation.rotate(&self.logs(), log, actor()).await
    }

    fn lives(&self, log: LogName) -> Vec<&'static str> {
        let known = self.logs().known(log);
        known.iter().map(|it| it.life.as_str()).collect()
    }

    fn present(&self, log: LogName) -> Verifier {
        let signer = keys::read_log_key(&keys::log_key(&self.keys, log)).unwrap();
        signer.verifier().clone()
    }

    /// Goes on, stops, and is verified with the first keys and with the present ones. Says what
    /// became of the control log's keys.
    async fn stop(self, first: &[Verifier; 2]) -> Vec<&'static str> {
        let more = Command::ChangeWrappingKey {
            key: vocab::Digest::of(&vocab::rng::bytes::<8>(&SystemRng).unwrap()),
        };
        self.control.execute(actor(), more).await.unwrap();
        let lives = self.lives(LOG);
        let present = LogName::ALL.map(|log| self.present(log));
        for (log, file) in LogName::ALL.into_iter().zip(&self.logs) {
            let note = Note::parse(&file.reader().checkpoint().unwrap().unwrap()).unwrap();
            note.verify(&self.present(log)).unwrap();
            let both = lives.contains(&"past") && log == LOG;
            assert_eq!(
                note.signatures().len(),
                if both { 2 } else { 1 },
                "{lives:?}"
            );
            let known = self.logs().known(log);
            if !known.is_empty() {
                let vkey = fs::read_to_string(self.data.join(format!("{log}.vkey"))).unwrap();
                assert_eq!(vkey, format!("{}\n", self.present(log)));
            }
        }
        let mut names: Vec<_> = fs::read_dir(&self.keys).unwrap().collect();
        names.retain(|it| {
            it.as_ref()
                .unwrap()
                .path()
                .to_string_lossy()
                .contains("control.")
        });
        let past = usize::from(lives.contains(&"past"));
        assert_eq!(names.len(), 1 + past, "{lives:?} {names:?}");
        self.logs.iter().for_each(|log| log.close().unwrap());
        for keys in [first, &present] {
            verified(&self.data, keys);
        }
        lives
    }
}

fn verified(data: &Path, [control, calls]: &[Verifier; 2]) {
    let reader = OfflineLog::open(data, LogName::Control).unwrap();
    let way = follow(&reader, control, Some(calls)).unwrap();
    for log in LogName::ALL {
        let known: &[_] = if log == LOG { &way.handed_over } else { &[] };
        let expected = Expected {
            log,
            keys: way.of(log).unwrap(),
            known,
        };
        let log = OfflineLog::open(data, log).unwrap();
        let verified = ledger::verify(&log, expected);
        verified.unwrap_or_else(|unsound| panic!("{:?}", unsound.faults));
    }
}

fn actor() -> Actor {
    Actor::node("n-1")
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_key_changes_and_whoever_knows_the_first_goes_on() {
    let place = Place::new();
    let running = place.start().unwrap();
    for log in LogName::ALL {
        let old = running.present(log);
        let changed = running.rotate(log).await.unwrap();
        assert_eq!(changed.records.len(), 2);
        assert_eq!(changed.id, id(log, &running.present(log)));
        assert_ne!(running.present(log), old);
        assert_eq!(running.lives(log), ["past", "current"]);
        // One change at a time.
        let again = running.rotate(log).await;
        assert!(matches!(again, Err(LogKeyError::Overlap(_))), "{again:?}");
        verified(&running.data, &place.first);
    }
    // Not yet, and then.
    let begun = running.logs().known(LOG)[1].life.since();
    let look = async |after| {
        let logs = running.logs();
        running
            .rotation
            .look(&logs, begun.plus(after))
            .await
            .unwrap();
    };
    look(DAY / 2).await;
    assert_eq!(running.lives(LOG), ["past", "current"]);
    look(DAY * 2).await;
    assert_eq!(running.lives(LogName::Calls), ["retired", "current"]);
    assert_eq!(running.stop(&place.first).await, ["retired", "current"]);
    assert_eq!(place.starts().await, ["retired", "current"]);
}

/// Each step of the table in the module's words, and a kill after it.
#[tokio::test]
async fn a_kill_at_any_step_leaves_what_the_next_start_finishes_or_undoes() {
    let place = Place::new();
    let running = place.start().unwrap();
    let (logs, rotation) = (running.logs(), &running.rotation);
    let changed = ["past", "current"];
    assert!(place.crashed().starts().await.is_empty());
    // 1. The next key is made.
    let next = Signer::generate("acme.example/control/x", &SystemRng).unwrap();
    let path = keys::next_log_key(&running.keys, LOG);
    keys::write_secret_whole(&path, next.to_text().expose()).unwrap();
    assert!(place.crashed().starts().await.is_empty());
    // 2. It is announced.
    let present = keys::read_log_key(&keys::log_key(&running.keys, LOG)).unwrap();
    let announce = LogKeyCommand::Announce(LogKeyAnnounced {
        log: LOG,
        by: public(&present).unwrap(),
        key: public(&next).unwrap(),
    });
    execute(&logs, actor(), announce).await.unwrap();
    assert_eq!(place.crashed().starts().await, changed);
    // Its file is lost: it never signs.
    let lost = place.crashed();
    fs::remove_file(keys::next_log_key(&lost.dir.path().join("keys"), LOG)).unwrap();
    assert_eq!(lost.starts().await, ["current", "retired"]);
    // 3. The present key is copied.
    let past = keys::past_log_key(&running.keys, LOG);
    keys::write_secret_whole(&past, present.to_text().expose()).unwrap();
    assert_eq!(place.crashed().starts().await, changed);
    // 4. The next key is in its place.
    fs::rename(&path, keys::log_key(&running.keys, LOG)).unwrap();
    assert_eq!(place.crashed().starts().await, changed);
    // 5. It signs.
    sign_with(&logs, LOG, signers(&running.keys, LOG).unwrap())
        .await
        .unwrap();
    assert_eq!(place.crashed().starts().await, changed);
    // 6. It is on record, and `control.vkey` is not written.
    let checkpoint = running.logs[0].reader().checkpoint().unwrap();
    let activate = LogKeyCommand::Activate(LogKeyActivated {
        log: LOG,
        key: public(&next).unwrap(),
        checkpoint,
    });
    execute(&logs, actor(), activate).await.unwrap();
    assert_eq!(place.crashed().starts().await, changed);
    // The end of the overlap: on record, then alone, then removed.
    let ended = ["retired", "current"];
    let old = public(&present).unwrap();
    rotation
        .retired(&logs, LOG, &old, (actor(), false))
        .await
        .unwrap();
    assert_eq!(place.crashed().starts().await, ended);
    sign_with(
        &logs,
        LOG,
        keys::read_log_key(&keys::log_key(&running.keys, LOG))
            .unwrap()
            .into(),
    )
    .await
    .unwrap();
    assert_eq!(place.crashed().starts().await, ended);
    rotation.settle(&logs).await.unwrap();
    assert_eq!(running.stop(&place.first).await, ended);
}

#[tokio::test]
async fn a_full_disk_leaves_a_change_that_is_finished_later() {
    let place = Place::new();
    let running = place.start().unwrap();
    running.faults.set(DiskFault::Full);
    running.rotate(LOG).await.unwrap_err();
    assert!(running.lives(LOG).is_empty());
    running.faults.set(DiskFault::None);
    let now = running.control.view(State::last_time);
    let logs = running.logs();
    running.rotation.look(&logs, now).await.unwrap();
    assert!(!keys::next_log_key(&running.keys, LOG).exists());
    running.rotate(LOG).await.unwrap();
    assert_eq!(running.stop(&place.first).await, ["past", "current"]);
}

#[tokio::test]
async fn a_leaked_key_signs_nothing_beside_the_one_that_takes_its_place() {
    let place = Place::new();
    let running = place.start().unwrap();
    let (old, name) = (running.present(LOG), id(LOG, &running.present(LOG)));
    let stolen = keys::read_log_key(&keys::log_key(&running.keys, LOG)).unwrap();
    let logs = running.logs();
    let revoked = running
        .rotation
        .revoke(&logs, &name, actor())
        .await
        .unwrap();
    assert_eq!((revoked.id, revoked.records.len()), (name.clone(), 3));
    assert_eq!(running.lives(LOG), ["compromised", "current"]);
    let again = running
        .rotation
        .revoke(&logs, &name, actor())
        .await
        .unwrap();
    assert!(again.records.is_empty());
    let unknown = running
        .rotation
        .revoke(&logs, "control+00000000", actor())
        .await;
    assert!(matches!(unknown, Err(LogKeyError::Unknown(_))));
    let data = running.data.clone();
    assert_eq!(running.stop(&place.first).await, ["compromised", "current"]);
    // Who has it signs the log as it stands, and nobody takes that.
    let reader = OfflineLog::open(&data, LOG).unwrap();
    let own = reader.checkpoint().unwrap().unwrap();
    let text = Note::parse(&own).unwrap().text().to_owned();
    let forged = Note::sign(&text, &stolen).unwrap().to_string();
    fs::write(data.join("control/checkpoint"), &forged).unwrap();
    let reader = OfflineLog::open(&data, LOG).unwrap();
    let way = follow(&reader, &old, None).unwrap();
    let expected = Expected {
        log: LOG,
        keys: &way.control,
        known: &[],
    };
    let unsound = ledger::verify(&reader, expected).unwrap_err();
    let refused = |fault: &Fault| fault.to_string().contains("signs nothing since");
    assert!(unsound.faults.iter().any(refused), "{:?}", unsound.faults);
    // The node does not take it for its own, either.
    let folder = DataDir::open(&data).unwrap();
    let keys: LogKeys = own_keys(&place).into();
    assert!(keys.open(&forged).is_err());
    drop(folder);
}

fn own_keys(place: &Place) -> Verifier {
    let path = keys::log_key(&place.dir.path().join("keys"), LOG);
    keys::read_log_key(&path).unwrap().verifier().clone()
}

#[tokio::test]
async fn an_announced_key_that_leaked_never_signs() {
    let place = Place::new();
    let running = place.start().unwrap();
    let next = Signer::generate("acme.example/control/x", &SystemRng).unwrap();
    let path = keys::next_log_key(&running.keys, LOG);
    keys::write_secret_whole(&path, next.to_text().expose()).unwrap();
    let announce = LogKeyCommand::Announce(LogKeyAnnounced {
        log: LOG,
        by: key(&running.present(LOG).to_string()).unwrap(),
        key: public(&next).unwrap(),
    });
    let logs = running.logs();
    execute(&logs, actor(), announce).await.unwrap();
    let name = id(LOG, next.verifier());
    running
        .rotation
        .revoke(&logs, &name, actor())
        .await
        .unwrap();
    assert!(!path.exists());
    assert_eq!(running.stop(&place.first).await, ["current", "compromised"]);
}

#[tokio::test]
async fn an_old_or_foreign_key_in_the_place_of_the_present_one_is_refused() {
    let place = Place::new();
    let running = place.start().unwrap();
    let own = keys::log_key(&running.keys, LOG);
    let old = fs::read(&own).unwrap();
    running.rotate(LOG).await.unwrap();
    let new = fs::read(&own).unwrap();
    running.stop(&place.first).await;
    fs::write(&own, &old).unwrap();
    let refused = place.start().map(drop).unwrap_err().to_string();
    assert!(refused.contains("a key that is past"), "{refused}");
    fs::write(&own, &new).unwrap();
    let stranger = Signer::generate("acme.example/control/x", &SystemRng).unwrap();
    let past = keys::past_log_key(&place.dir.path().join("keys"), LOG);
    fs::write(&past, stranger.to_text().expose()).unwrap();
    let refused = place.start().map(drop).unwrap_err().to_string();
    assert!(refused.contains("announced nowhere"), "{refused}");
    // The old one is lost: then it signs no more, and nothing else is lost by it.
    fs::remove_file(&past).unwrap();
    assert_eq!(place.starts().await, ["retired", "current"]);
}
