//! Checkpoints out of reach of whoever could replace the data folder: in a folder, at an HTTP
//! endpoint, at a witness.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::cosignature::{self, Cosigner};
use ledger::note::{Note, Verifier};
use ledger::tlog_proof::TlogProof;
use ledger::{Checkpoint, proof};
use server::commands::ledger::{LedgerError, exported, prove, verify};
use server::node::StartError;
use server::quorum::Quorum;
use testkit::{Plane, until};
use vocab::{Clock as _, Digest, LogName};

use crate::common::copy;

fn anchored_at(anchor: &str) -> String {
    format!("ledger = {{ anchor = \"{anchor}\" }}")
}

async fn serve(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn verifier(plane: &Plane, log: LogName) -> Verifier {
    let vkey = fs::read_to_string(plane.data().join(format!("{log}.vkey"))).unwrap();
    vkey.trim().parse().unwrap()
}

#[tokio::test]
async fn a_folder_that_was_rolled_back_is_not_served() {
    let mut plane = Plane::with(|setup| setup.top = anchored_at("kept")).await;
    plane.stop().await.unwrap();
    let before = plane.folder().join("before");
    copy(&plane.data(), &before);
    plane.boot().await.unwrap();
    plane.agent("triage").await;
    plane.stop().await.unwrap();
    let kept = fs::read_to_string(plane.folder().join("kept/control.checkpoint")).unwrap();
    let kept = Checkpoint::open(&kept, &verifier(&plane, LogName::Control)).unwrap();
    assert!(kept.size > 0);
    plane.boot().await.unwrap();
    plane.stop().await.unwrap();
    fs::remove_dir_all(plane.data()).unwrap();
    copy(&before, &plane.data());
    let refused = plane.boot().await;
    let told = match refused {
        Err(StartError::Anchor(told)) => told,
        other => panic!("{other:?}"),
    };
    assert!(told.contains("rolled back"), "{told}");
}

#[tokio::test]
async fn an_endpoint_gets_checkpoints() {
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let app = Router::new()
        .route(
            "/anchor",
            post(
                async |State(got): State<Arc<Mutex<Vec<String>>>>, body: String| {
                    got.lock().unwrap().push(body);
                },
            ),
        )
        .with_state(Arc::clone(&got));
    let url = serve(app).await;
    let plane = Plane::with(|setup| setup.top = anchored_at(&format!("{url}/anchor"))).await;
    until("both logs are anchored", async || {
        let got = got.lock().unwrap();
        LogName::ALL.iter().all(|log| {
            let verifier = verifier(&plane, *log);
            got.iter()
                .any(|note| Checkpoint::open(note, &verifier).is_ok_and(|it| it.size > 0))
        })
    })
    .await;
    plane.end().await;
}

/// A witness of the control log that has seen one entry before.
struct Witness {
    cosigner: Cosigner,
    log: Verifier,
    seen: Mutex<Vec<Checkpoint>>,
    conflicts: Mutex<usize>,
    clock: vocab::time::SystemClock,
}

/// What `add-checkpoint` is sent.
struct Asked {
    old: u64,
    path: Vec<Digest>,
    checkpoint: String,
}

fn asked(body: &str) -> Asked {
    let (head, checkpoint) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old = lines.next().unwrap().strip_prefix("old ").unwrap();
    let hash = |line| Digest::from_bytes(STANDARD.decode(line).unwrap().try_into().unwrap());
    Asked {
        old: old.parse().unwrap(),
        path: lines.map(hash).collect(),
        checkpoint: checkpoint.to_owned(),
    }
}

async fn add_checkpoint(
    State(witness): State<Arc<Mutex<Option<Witness>>>>,
    body: String,
) -> (StatusCode, String) {
    let witness = witness.lock().unwrap();
    let Some(witness) = witness.as_ref() else {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    };
    let asked = asked(&body);
    let Ok(new) = Checkpoint::open(&asked.checkpoint, &witness.log) else {
        return (StatusCode::NOT_FOUND, String::new());
    };
    let mut seen = witness.seen.lock().unwrap();
    let last = seen.last().unwrap();
    if asked.old != last.size {
        *witness.conflicts.lock().unwrap() += 1;
        return (StatusCode::CONFLICT, format!("{}\n", last.size));
    }
    let (old, now) = ((last.size, &last.root), (new.size, &new.root));
    proof::verify_consistency(old, now, &asked.path).unwrap();
    let signature = witness.cosigner.cosign(&new, witness.clock.now());
    seen.push(new);
    (StatusCode::OK, format!("{signature}\n"))
}

type Slot = Arc<Mutex<Option<Witness>>>;

/// A witness that is not there yet, and how it is configured.
async fn absent_witness(cosigner: &Cosigner) -> (Slot, String) {
    let slot = Slot::default();
    let app = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .with_state(Arc::clone(&slot));
    let url = serve(app).await;
    (slot, format!("witness:{url} {}", cosigner.verifier()))
}

/// From now on the witness is there.
fn appear(slot: &Slot, cosigner: Cosigner, plane: &Plane) {
    let log = verifier(plane, LogName::Control);
    let first = plane.ledger().control.first().unwrap().text.clone();
    *slot.lock().unwrap() = Some(Witness {
        cosigner,
        seen: Mutex::new(vec![Checkpoint {
            origin: log.name().to_owned(),
            size: 1,
            root: ledger::hash::leaf(first.as_bytes()),
        }]),
        log,
        conflicts: Mutex::default(),
        clock: vocab::time::SystemClock::new(),
    });
}

/// Waits for a cosignature of the control log.
async fn cosigned_by(plane: &Plane, key: &Verifier) -> Note {
    let path = plane.data().join("control.cosigned");
    let read = || Note::parse(&fs::read_to_string(&path).ok()?).ok();
    let told = format!("the control log is cosigned by {key}");
    until(&told, async || {
        read().is_some_and(|note| cosignature::verify(&note, key).is_ok())
    })
    .await;
    read().unwrap()
}

#[tokio::test]
async fn a_witness_cosigns_what_continues_what_it_saw() {
    let cosigner = Cosigner::from_seed("witness.example/w", &[7; 32]).unwrap();
    let key = cosigner.verifier().clone();
    let (slot, anchor) = absent_witness(&cosigner).await;
    let plane = Plane::with(|setup| setup.top = anchored_at(&anchor)).await;
    appear(&slot, cosigner, &plane);
    let note = cosigned_by(&plane, &key).await;
    let log = verifier(&plane, LogName::Control);
    assert!(Checkpoint::of_note(&note, &log).unwrap().size > 1);
    let conflicts = *slot
        .lock()
        .unwrap()
        .as_ref()
        .unwrap()
        .conflicts
        .lock()
        .unwrap();
    assert_eq!(conflicts, 1, "asked once from nothing, and then from there");
    // It does not know the other log, and that is all that is wrong with it.
    assert!(!plane.data().join("calls.cosigned").exists());
    plane.end().await;
}

#[tokio::test]
async fn every_witness_is_kept_on_the_checkpoint_that_it_cosigned() {
    let cosigner = |nth: u8| Cosigner::from_seed(&format!("w{nth}.example"), &[nth; 32]).unwrap();
    let (first, second) = (cosigner(1), cosigner(2));
    let keys = [first.verifier().clone(), second.verifier().clone()];
    let (first_slot, first_anchor) = absent_witness(&first).await;
    let (second_slot, second_anchor) = absent_witness(&second).await;
    let top = format!("ledger = {{ anchor = [\"{first_anchor}\", \"{second_anchor}\"] }}");
    let mut plane = Plane::with(|setup| setup.top = top).await;
    // One comes later than the other, to a log that has not grown; then both see it grow.
    appear(&first_slot, first, &plane);
    cosigned_by(&plane, &keys[0]).await;
    appear(&second_slot, second, &plane);
    let note = cosigned_by(&plane, &keys[1]).await;
    cosignature::verify(&note, &keys[0]).unwrap();
    plane.agent("triage").await;
    let log = verifier(&plane, LogName::Control);
    let before = Checkpoint::of_note(&note, &log).unwrap().size;
    until("both cosigned what is new", async || {
        let text = fs::read_to_string(plane.data().join("control.cosigned")).unwrap();
        let note = Note::parse(&text).unwrap();
        let both = keys
            .iter()
            .all(|key| cosignature::verify(&note, key).is_ok());
        both && Checkpoint::of_note(&note, &log).unwrap().size > before
    })
    .await;
    // What was cosigned is held against the log.
    plane.stop().await.unwrap();
    let verified = |plane: &Plane| verify(&plane.data(), None, &[]).verified;
    assert!(verified(&plane));
    let left = plane.data().join("control.01020304.cosigned");
    fs::write(&left, "nonsense").unwrap();
    assert!(!verified(&plane));
    plane.end().await;
}

#[tokio::test]
async fn nothing_is_handed_out_that_a_quorum_has_not_cosigned() {
    let cosigner = |nth: u8| Cosigner::from_seed(&format!("w{nth}.example"), &[nth; 32]).unwrap();
    let (first, second) = (cosigner(1), cosigner(2));
    let keys = [first.verifier().clone(), second.verifier().clone()];
    let (first_slot, first_anchor) = absent_witness(&first).await;
    let (second_slot, second_anchor) = absent_witness(&second).await;
    let top =
        format!("ledger = {{ anchor = [\"{first_anchor}\", \"{second_anchor}\"], quorum = 2 }}");
    let mut plane = Plane::with(|setup| setup.top = top).await;
    let data = plane.data();
    let quorum = Quorum::new(2, keys.to_vec()).unwrap();
    let proven = |index| prove(&data, None, LogName::Control, index, quorum.as_ref());
    let exported = || exported(&data, None, LogName::Control, quorum.as_ref());
    let refused = |missing: &[&str]| {
        for refused in [proven(0).map(drop), exported().map(drop)] {
            let told = match refused {
                Err(LedgerError::Quorum(short)) => short.to_string(),
                other => panic!("{other:?}"),
            };
            for name in missing {
                assert!(told.contains(&format!("{name}` is missing")), "{told}");
            }
            assert_eq!(told.matches("missing").count(), missing.len(), "{told}");
        }
    };
    let names = keys.each_ref().map(Verifier::key_name);
    refused(&[&names[0], &names[1]]);
    appear(&first_slot, first, &plane);
    cosigned_by(&plane, &keys[0]).await;
    refused(&[&names[1]]);
    appear(&second_slot, second, &plane);
    until("both cosigned", async || proven(0).is_ok()).await;
    let proof: TlogProof = proven(0).unwrap().proof.parse().unwrap();
    let log = verifier(&plane, LogName::Control);
    let entry = plane.ledger().control.first().unwrap().text.clone();
    let checkpoint = proof.verify(entry.as_bytes(), &log.clone().into()).unwrap();
    let note = Note::parse(&proof.checkpoint).unwrap();
    for key in &keys {
        cosignature::verify(&note, key).unwrap();
    }
    let part = exported().unwrap();
    assert!(part.size >= checkpoint.size);
    // What comes after is left out until they agree on it, too.
    *second_slot.lock().unwrap() = None;
    plane.agent("triage").await;
    let size = plane.ledger().control.len() as u64;
    let part = exported().unwrap();
    assert!(part.size < size && part.left > 0, "{part:?} of {size}");
    assert!(matches!(proven(size - 1), Err(LedgerError::Quorum(_))));
    // Cosignatures of another history are none.
    plane.stop().await.unwrap();
    let agreed = data.join("control.quorum.cosigned");
    let kept = fs::read_to_string(&agreed).unwrap();
    let elsewhere = kept.replacen(log.name(), "it.example/control/other", 1);
    for file in fs::read_dir(&data).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|it| it == "cosigned") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(&agreed, elsewhere).unwrap();
    refused(&[&names[0], &names[1]]);
    fs::write(&agreed, kept).unwrap();
    proven(0).unwrap();
}
