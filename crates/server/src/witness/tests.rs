use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Barrier, Mutex};

use http::Request;
use http_body_util::Full;
use ledger::note::{Note, Signer};
use ledger::{Checkpoint, cosignature, hash};
use store::Fault;
use tempfile::TempDir;
use vocab::Time;
use vocab::rng::SystemRng;

use super::*;
use crate::outbound;

/// A log of another's: its leaves, and RFC 6962 §2.1 to the letter.
struct Log {
    signer: Signer,
    leaves: Vec<Digest>,
}

fn split(n: usize) -> usize {
    1 << (n - 1).ilog2()
}

fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => hash::empty(),
        [leaf] => *leaf,
        leaves => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            hash::node(&root(left), &root(right))
        }
    }
}

fn subproof(m: usize, leaves: &[Digest], whole: bool) -> Vec<Digest> {
    if m == leaves.len() {
        return if whole {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, beside) = if m <= k {
        (subproof(m, left, whole), root(right))
    } else {
        (subproof(m - k, right, false), root(left))
    };
    path.push(beside);
    path
}

impl Log {
    fn new(origin: &str) -> Self {
        Self {
            signer: Signer::from_seed(origin, &[7; 32]).unwrap(),
            leaves: (0..40_u8).map(|n| hash::leaf(&[n])).collect(),
        }
    }

    /// Another history from the leaf at `at` on, under the same key.
    fn fork(&self, at: usize, n: u8) -> Self {
        let mut fork = Self::new(self.signer.name());
        fork.leaves[at] = hash::leaf(&[n, n]);
        fork
    }

    fn submit(&self, old: usize, size: usize) -> String {
        let checkpoint = Checkpoint {
            origin: self.signer.name().to_owned(),
            size: size as u64,
            root: root(&self.leaves[..size]),
        };
        let mut body = format!("old {old}\n");
        if (1..size).contains(&old) {
            for hash in subproof(old, &self.leaves[..size], true) {
                body.push_str(&base64_of(&hash));
                body.push('\n');
            }
        }
        format!("{body}\n{}", checkpoint.sign(&self.signer).unwrap())
    }
}

fn base64_of(hash: &Digest) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(hash.as_bytes())
}

#[derive(Debug)]
struct Clocked(Mutex<Time>);

impl Clock for Clocked {
    fn now(&self) -> Time {
        *self.0.lock().unwrap()
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

const ORIGIN: &str = "example.com/log";
const NOON: Time = Time::from_secs(1_700_000_000);

/// A witness's folder and what is outside it.
struct Place {
    root: TempDir,
    clock: Arc<Clocked>,
    faults: Faults,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            root: tempfile::tempdir().unwrap(),
            clock: Arc::new(Clocked(Mutex::new(NOON))),
            faults: Faults::default(),
        };
        let logs = [ORIGIN, "example.com/other"].map(|it| Log::new(it).signer);
        let lines = logs.map(|signer| format!("{}\n", signer.verifier()));
        place.follow(&format!("# two logs\n\n{}", lines.concat()));
        place
    }

    fn follow(&self, text: &str) {
        fs::write(self.root.path().join("logs"), text).unwrap();
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("witness")
    }

    fn named(&self, name: Option<&str>) -> Result<Witness, WitnessError> {
        let setup = Setup {
            folder: self.folder(),
            name: name.map(str::to_owned),
            logs: vec![self.root.path().join("logs")],
            clock: Arc::clone(&self.clock) as _,
            faults: self.faults.clone(),
        };
        Witness::open(setup, &SystemRng)
    }

    fn open(&self) -> Witness {
        self.named(Some("witness.example/w1")).unwrap()
    }

    fn seen_file(&self, origin: &str) -> PathBuf {
        let name = Digest::of(origin.as_bytes()).to_string();
        self.folder().join("seen").join(name)
    }
}

fn cosigned(witness: &Witness, body: &str) -> bool {
    match witness.add(body.as_bytes()) {
        Answer::Cosigned(line) => {
            let (_, note) = body.split_once("\n\n").unwrap();
            let note = Note::parse(note).unwrap();
            ledger::witness::answer(&note, witness.verifier(), &line).unwrap();
            true
        }
        Answer::Refused(_) | Answer::Failed(_) => false,
    }
}

fn status(witness: &Witness, body: &str) -> u16 {
    match witness.add(body.as_bytes()) {
        Answer::Cosigned(_) => 200,
        Answer::Refused(refused) => refused.status(),
        Answer::Failed(_) => 503,
    }
}

#[test]
fn a_rollback_is_refused_also_after_a_restart() {
    let place = Place::new();
    let log = Log::new(ORIGIN);
    let witness = place.open();
    assert_eq!(status(&witness, &log.submit(0, 8)), 200);
    assert_eq!(status(&witness, &log.submit(8, 12)), 200);
    drop(witness);
    let witness = place.named(None).unwrap();
    for old in [0, 4, 8] {
        assert_eq!(status(&witness, &log.submit(old, 9)), 409, "{old}");
    }
    assert_eq!(status(&witness, &log.submit(12, 12)), 200);
    assert_eq!(status(&witness, &log.submit(12, 40)), 200);
}

#[test]
fn a_fork_is_refused_and_kept_as_evidence() {
    let place = Place::new();
    let log = Log::new(ORIGIN);
    let witness = place.open();
    assert_eq!(status(&witness, &log.submit(0, 8)), 200);
    let fork = log.fork(3, 99);
    assert_eq!(status(&witness, &fork.submit(8, 8)), 422);
    assert_eq!(status(&witness, &fork.submit(8, 20)), 422);
    drop(witness);
    let witness = place.named(None).unwrap();
    assert_eq!(status(&witness, &fork.submit(8, 20)), 422);
    // Two checkpoints of one size, both signed by the log, both verify.
    let forks: Vec<_> = fs::read_dir(place.folder().join("forks"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let [evidence] = forks.as_slice() else {
        panic!("{forks:?}");
    };
    let evidence = Checkpoint::open(evidence, log.signer.verifier()).unwrap();
    let kept = fs::read_to_string(place.seen_file(ORIGIN)).unwrap();
    let kept = Checkpoint::open(&kept, log.signer.verifier()).unwrap();
    assert_eq!(evidence.size, kept.size);
    assert_ne!(evidence.root, kept.root);
    // The honest history goes on.
    assert_eq!(status(&witness, &log.submit(8, 20)), 200);
}

#[test]
fn forks_that_race_get_one_cosignature() {
    for round in 0..20 {
        let place = Place::new();
        let witness = Arc::new(place.open());
        let log = Log::new(ORIGIN);
        assert!(cosigned(&witness, &log.submit(0, 4)));
        let start = Arc::new(Barrier::new(8));
        let racers: Vec<_> = (0..8_u8)
            .map(|n| {
                let (witness, start) = (Arc::clone(&witness), Arc::clone(&start));
                // Different histories after the fourth leaf, of different sizes.
                let body = log.fork(5, n + 100).submit(4, 6 + usize::from(n % 3));
                std::thread::spawn(move || {
                    start.wait();
                    cosigned(&witness, &body)
                })
            })
            .collect();
        let won = racers.into_iter().map(|it| it.join().unwrap());
        let won = won.filter(|won| *won).count();
        assert_eq!(won, 1, "round {round}");
    }
}

/// The race of the protocol's last section: two honest sizes from one old size.
#[test]
fn a_race_of_two_sizes_never_rolls_back() {
    for _ in 0..20 {
        let place = Place::new();
        let witness = Arc::new(place.open());
        let log = Arc::new(Log::new(ORIGIN));
        assert!(cosigned(&witness, &log.submit(0, 4)));
        let racers: Vec<_> = [20, 10]
            .map(|size| {
                let (witness, log) = (Arc::clone(&witness), Arc::clone(&log));
                std::thread::spawn(move || cosigned(&witness, &log.submit(4, size)).then_some(size))
            })
            .into_iter()
            .filter_map(|it| it.join().unwrap())
            .collect();
        let [size] = racers.as_slice() else {
            panic!("{racers:?}")
        };
        let hash = Digest::of(ORIGIN.as_bytes()).to_string();
        let last = witness.last(&hash).unwrap();
        let last = Checkpoint::open(&last, log.signer.verifier()).unwrap();
        assert_eq!(last.size, *size as u64);
    }
}

/// Whatever fails, no cosignature goes out that a witness which starts again does not stand by.
#[test]
fn nothing_is_answered_that_is_not_durable() {
    for fault in Fault::FAILURES {
        for step in 0..8 {
            let place = Place::new();
            let log = Log::new(ORIGIN);
            let fork = log.fork(5, 99);
            let witness = place.open();
            assert!(cosigned(&witness, &log.submit(0, 4)));
            place.faults.set_at(step, fault);
            let answered = cosigned(&witness, &log.submit(4, 8));
            place.faults.set(Fault::None);
            drop(witness);
            let witness = place.named(None).unwrap();
            // What was answered stands; what was not may be either.
            let forked = cosigned(&witness, &fork.submit(4, 8));
            assert!(!(answered && forked), "{fault:?} at {step}");
            if !forked {
                let last = if answered { 8 } else { 4 };
                let goes_on = cosigned(&witness, &log.submit(last, 12))
                    || cosigned(&witness, &log.submit(8, 12));
                assert!(goes_on, "{fault:?} at {step}");
            }
        }
    }
}

#[test]
fn a_memory_that_is_damaged_is_not_served() {
    let place = Place::new();
    let witness = place.open();
    assert!(cosigned(&witness, &Log::new(ORIGIN).submit(0, 4)));
    assert!(cosigned(
        &witness,
        &Log::new("example.com/other").submit(0, 4)
    ));
    drop(witness);
    let file = place.seen_file(ORIGIN);
    let good = fs::read(&file).unwrap();
    let refused = |what: &str| {
        let refused = place.named(None).map(drop);
        assert!(refused.is_err(), "{what}");
    };
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    refused("cut");
    fs::write(&file, b"").unwrap();
    refused("emptied");
    let older = String::from_utf8(good.clone())
        .unwrap()
        .replace("\n4\n", "\n3\n");
    fs::write(&file, older).unwrap();
    refused("changed");
    fs::copy(place.seen_file("example.com/other"), &file).unwrap();
    refused("another log's");
    fs::remove_file(&file).unwrap();
    refused("removed");
    // Also while nobody follows that log.
    let other = Log::new("example.com/other").signer;
    place.follow(&other.verifier().to_string());
    refused("removed, of a log that is not followed now");
    fs::write(&file, &good).unwrap();
    drop(place.named(None).unwrap());
    let key = key_file(&place.folder());
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let gone = place.named(Some("witness.example/w1")).map(drop);
    assert!(matches!(gone, Err(WitnessError::KeyGone(_))), "{gone:?}");
    let other = Cosigner::generate("witness.example/w1", &SystemRng).unwrap();
    fs::write(&key, other.to_text().expose()).unwrap();
    refused("another key");
    fs::write(&key, kept).unwrap();
    drop(place.named(None).unwrap());
    // All of it gone but the key: the key alone begins nothing, however often it is tried.
    fs::remove_dir_all(place.folder().join("seen")).unwrap();
    fs::remove_file(place.folder().join("origins")).unwrap();
    for _ in 0..2 {
        let forgot = place.named(None).map(drop).unwrap_err().to_string();
        assert!(forgot.contains("origins` is missing"), "{forgot}");
        assert!(
            forgot.contains("make another one in a folder of its own"),
            "{forgot}"
        );
    }
}

#[test]
fn a_witness_that_cosigned_nothing_yet_starts_again() {
    let place = Place::new();
    drop(place.open());
    drop(place.open());
}

#[test]
fn a_witness_keeps_its_name() {
    let place = Place::new();
    assert!(matches!(place.named(None), Err(WitnessError::NoName(_))));
    assert!(matches!(
        place.named(Some("two words")),
        Err(WitnessError::Name { .. })
    ));
    let key = place.open().verifier().to_string();
    assert_eq!(place.named(None).unwrap().verifier().to_string(), key);
    assert!(matches!(
        place.named(Some("witness.example/w2")),
        Err(WitnessError::OtherName { .. })
    ));
}

#[test]
fn what_is_followed_is_logs() {
    let place = Place::new();
    let witness_key = place.open().verifier().to_string();
    for bad in ["", "# none\n", "nonsense", witness_key.as_str()] {
        place.follow(bad);
        assert!(
            matches!(place.named(None), Err(WitnessError::Logs { .. })),
            "{bad}"
        );
    }
    // A log that changes its key has two for a while.
    let (old, new) = (
        Log::new(ORIGIN).signer,
        Signer::from_seed(ORIGIN, &[8; 32]).unwrap(),
    );
    place.follow(&format!("{}\n{}\n", old.verifier(), new.verifier()));
    let witness = place.named(None).unwrap();
    let mut log = Log::new(ORIGIN);
    assert!(cosigned(&witness, &log.submit(0, 4)));
    log.signer = new;
    assert!(cosigned(&witness, &log.submit(4, 8)));
}

#[test]
fn a_clock_that_went_back_stops_the_pen() {
    let place = Place::new();
    let log = Log::new(ORIGIN);
    let witness = place.open();
    let at = |time| *place.clock.0.lock().unwrap() = time;
    assert_eq!(status(&witness, &log.submit(0, 1)), 200);
    at(NOON.minus(Duration::from_secs(4)));
    assert_eq!(status(&witness, &log.submit(1, 2)), 200);
    // Never earlier than before.
    let kept = Note::parse(&fs::read_to_string(place.seen_file(ORIGIN)).unwrap()).unwrap();
    assert_eq!(cosignature::verify(&kept, witness.verifier()), Ok(NOON));
    at(NOON.minus(Duration::from_secs(6)));
    assert_eq!(status(&witness, &log.submit(2, 3)), 503);
    at(NOON.plus(Duration::from_mins(1)));
    assert_eq!(status(&witness, &log.submit(2, 3)), 200);
}

async fn ask(url: &str, body: Option<Vec<u8>>) -> (u16, BTreeMap<String, String>, String) {
    let method = if body.is_some() { "POST" } else { "GET" };
    let request = Request::builder().method(method).uri(url);
    let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())));
    let response = outbound::send(request.unwrap(), 1 << 20).await.unwrap();
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    (response.status().as_u16(), headers.collect(), text)
}

#[tokio::test]
async fn the_protocol_over_http() {
    let place = Place::new();
    let log = Log::new(ORIGIN);
    let witness = Arc::new(place.open());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(Arc::clone(&witness), listener, stop.clone()));
    let add = async |body: String| ask(&format!("{url}/add-checkpoint"), Some(body.into())).await;
    let monitor = format!("{url}/{}/checkpoint", Digest::of(ORIGIN.as_bytes()));
    assert_eq!(ask(&monitor, None).await.0, 404);
    assert_eq!(
        ask(&format!("{url}/{ORIGIN}/checkpoint"), None).await.0,
        404
    );
    let (status, _, answer) = add(log.submit(0, 8)).await;
    assert_eq!(status, 200);
    assert!(
        answer.starts_with("— witness.example/w1 ") && answer.ends_with('\n'),
        "{answer}"
    );
    let (status, headers, answer) = add(log.submit(0, 12)).await;
    assert_eq!((status, answer.as_str()), (409, "8\n"));
    assert_eq!(headers["content-type"], "text/x.tlog.size");
    let (status, _, note) = ask(&monitor, None).await;
    assert_eq!(status, 200);
    let note = Note::parse(&note).unwrap();
    assert_eq!(
        Checkpoint::of_note(&note, log.signer.verifier())
            .unwrap()
            .size,
        8
    );
    cosignature::verify(&note, witness.verifier()).unwrap();
    let (status, _, key) = ask(&format!("{url}/vkey"), None).await;
    assert_eq!((status, key), (200, format!("{}\n", witness.verifier())));
    let unknown = Log::new("example.com/unknown").submit(0, 1);
    assert_eq!(add(unknown).await.0, 404);
    let mut impostor = Log::new(ORIGIN);
    impostor.signer = Signer::from_seed(ORIGIN, &[9; 32]).unwrap();
    assert_eq!(add(impostor.submit(8, 9)).await.0, 403);
    assert_eq!(add("nonsense".to_owned()).await.0, 400);
    assert_eq!(add(log.fork(2, 99).submit(8, 8)).await.0, 422);
    assert_eq!(add("x".repeat(SUBMISSION_BYTES_MAX + 1)).await.0, 413);
    assert_eq!(ask(&format!("{url}/add-checkpoint"), None).await.0, 405);
    place.faults.set(Fault::Full);
    assert_eq!(add(log.submit(8, 9)).await.0, 503);
    place.faults.set(Fault::None);
    assert_eq!(add(log.submit(8, 9)).await.0, 200);
    stop.cancel();
    served.await.unwrap();
}
