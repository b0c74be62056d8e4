//! The logs from their files alone: verified, proven, exported and run again, beside a running
//! node, after it, and after somebody changed them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway::record::{DecisionBody, OutcomeBody};
use ledger::note::Verifier;
use ledger::tlog_proof::TlogProof;
use ledger::{Actor, ActorKind, Draft, Header, Kind, Log as _, LogReader as _};
use register::{Command, GroupProfile, Signal};
use serde_json::{Value, json};
use server::commands::ledger::{LedgerError, Replayed, export, exported, prove, replay, verify};
use server::config::Config;
use server::keys;
use server::policies::{self, Offline};
use store::{DataDir, Faults, FilesLog, LogOptions, OfflineLog};
use testkit::Plane;
use vocab::LogName;
use vocab::time::SystemClock;

use crate::common::{Client, ERAS, PUBLIC};

/// A node that has allowed and denied calls at several stages: nine decisions, two permits.
async fn busy() -> Plane {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    for era in ERAS {
        let client = Client::new(&agent.token("files").await, era).await;
        for (tool, arguments) in [
            ("read_text_file", PUBLIC),
            ("read_text_file", r#"{"path":"/private/a"}"#),
            ("read_text_file", r#"{"path":"/public/../a"}"#),
            ("refund", r#"{"order":7,"amount":"much"}"#),
            ("no_such_tool", "{}"),
        ] {
            client.call(tool, arguments).await;
        }
    }
    plane
}

const DECISIONS: u64 = 10;
const PERMITS: u64 = 2;

fn facts_key(plane: &Plane) -> PathBuf {
    keys::facts_key(&plane.folder().join("keys"))
}

fn counts(replayed: &Replayed) -> [u64; 5] {
    [
        replayed.same,
        replayed.different,
        replayed.erased,
        replayed.sealed,
        replayed.missing,
    ]
}

#[tokio::test]
async fn a_running_node_and_its_files_say_the_same() {
    let mut plane = busy().await;
    for running in [true, false] {
        if !running {
            plane.stop().await.unwrap();
        }
        let checked = verify(&plane.data(), None, &[]);
        assert!(checked.verified, "{}", checked.text(true));
        let permits = checked.calls.permits.unwrap();
        assert_eq!((permits.permits, permits.open), (PERMITS, 0));
        let json = json!(checked);
        assert_eq!(json["calls"]["kinds"]["decision"], DECISIONS);
        assert_eq!(json["control"].get("error"), None);
        let replayed = replay(&plane.data(), Some(&facts_key(&plane))).unwrap();
        assert_eq!(counts(&replayed), [DECISIONS, 0, 0, 0, 0], "{replayed:?}");
        let sealed = replay(&plane.data(), None).unwrap();
        assert_eq!(counts(&sealed), [0, 0, 0, DECISIONS, 0]);
    }
    plane.end().await;
}

#[tokio::test]
async fn keys_from_elsewhere_are_believed_over_those_beside_the_logs() {
    let mut plane = busy().await;
    plane.stop().await.unwrap();
    let trusted = plane.folder().join("trusted");
    fs::create_dir(&trusted).unwrap();
    assert!(
        !verify(&plane.data(), Some(&trusted), &[]).verified,
        "no keys"
    );
    for log in LogName::ALL {
        let name = format!("{log}.vkey");
        fs::copy(plane.data().join(&name), trusted.join(&name)).unwrap();
    }
    assert!(verify(&plane.data(), Some(&trusted), &[]).verified);
    let (control, calls) = (trusted.join("control.vkey"), trusted.join("calls.vkey"));
    fs::copy(calls, control).unwrap();
    let checked = verify(&plane.data(), Some(&trusted), &[]);
    assert!(!checked.verified && checked.calls.error.is_none());
    assert!(checked.control.error.is_some(), "{}", checked.text(false));
    plane.end().await;
}

#[tokio::test]
async fn every_entry_is_proved_and_exported() {
    let mut plane = busy().await;
    plane.stop().await.unwrap();
    let mut out = Vec::new();
    let parts = LogName::ALL.map(|log| exported(&plane.data(), None, log, None).unwrap());
    export(&plane.data(), &parts, &mut out).unwrap();
    let lines = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ledger = plane.ledger();
    assert_eq!(lines.len(), ledger.control.len() + ledger.calls.len());
    for line in &lines {
        let log: LogName = line["log"].as_str().unwrap().parse().unwrap();
        let index = line["index"].as_u64().unwrap();
        assert_eq!(line["kind"], line["entry"]["kind"]);
        let proven = prove(&plane.data(), None, log, index, None).unwrap();
        assert_eq!(line["leaf_hash"], json!(proven.leaf_hash));
        let vkey = fs::read_to_string(plane.data().join(format!("{log}.vkey"))).unwrap();
        let verifier: Verifier = vkey.trim().parse().unwrap();
        let proof: TlogProof = proven.proof.parse().unwrap();
        let entry = proof.extra.clone().unwrap();
        proof.verify(&entry, &verifier.into()).unwrap();
        let exported = serde_json::from_slice::<Value>(&entry).unwrap();
        assert_eq!(exported, line["entry"]);
    }
    let past = ledger.calls.len() as u64;
    let absent = prove(&plane.data(), None, LogName::Calls, past, None);
    assert!(matches!(absent, Err(LedgerError::Absent { .. })));
    plane.end().await;
}

/// What somebody with the node's keys could write while it is not running.
fn append(plane: &Plane, kind: Kind, body: &Value, sealed: Option<Vec<u8>>, publish: bool) {
    let keys = plane.folder().join("keys");
    let text = keys::read_secret(&keys::log_key(&keys, LogName::Calls)).unwrap();
    let signer: ledger::note::Signer = text.expose().parse().unwrap();
    let dir = DataDir::open(plane.data()).unwrap();
    let header = Header {
        trust_domain: "it.example".parse().unwrap(),
        node: "node-1".to_owned(),
        epoch: 1,
        key: signer.verifier().key_name(),
    };
    let options = LogOptions {
        name: LogName::Calls,
        signers: signer.into(),
        header,
        clock: Arc::new(SystemClock::new()),
        faults: Faults::default(),
        publish_every: None,
    };
    let log = FilesLog::open(&dir, options).unwrap();
    let mut draft = Draft::new(kind, Actor::node("node-1"), body).unwrap();
    draft.sealed = sealed;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let receipts = runtime.block_on(log.append(vec![draft])).unwrap();
    if !publish {
        let index = receipts[0].index;
        let early = prove(&plane.data(), None, LogName::Calls, index, None);
        assert!(
            matches!(early, Err(LedgerError::Unsigned { signed, .. }) if signed == index),
            "{early:?}"
        );
    }
    log.close().unwrap();
}

fn decision(plane: &Plane, effect: &str) -> (u64, Value) {
    let ledger = plane.ledger();
    let mut lines = ledger.of(Kind::Decision).into_iter();
    let line = lines.rfind(|line| line.body["effect"] == effect).unwrap();
    let _shape: DecisionBody = line.read();
    (line.index, line.body.clone())
}

#[test]
fn a_decision_that_the_policies_did_not_make_is_found() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plane = runtime.block_on(async {
        let mut plane = busy().await;
        plane.stop().await.unwrap();
        plane
    });
    let (index, mut forged) = decision(&plane, "deny");
    forged["effect"] = json!("allow");
    forged["stage"].take();
    forged.as_object_mut().unwrap().remove("stage");
    let log = OfflineLog::open(&plane.data(), LogName::Calls).unwrap();
    let sealed = log.sealed(index).unwrap();
    append(&plane, Kind::Decision, &forged, sealed.clone(), false);
    // The facts of one call beside the decision on another.
    let (_, mut other) = decision(&plane, "deny");
    other["tool"] = json!("refund_all");
    append(&plane, Kind::Decision, &other, sealed, true);
    let replayed = replay(&plane.data(), Some(&facts_key(&plane))).unwrap();
    assert_eq!(counts(&replayed), [DECISIONS, 2, 0, 0, 0]);
    let told = replayed.text(false);
    assert!(told.contains("recorded allow, now deny at "), "{told}");
    assert!(told.contains("of another call"), "{told}");
    // Signed it is, and sound: a permit whose call is open.
    let checked = verify(&plane.data(), None, &[]);
    assert!(checked.verified, "{}", checked.text(true));
    assert_eq!(checked.calls.permits.unwrap().open, 1);
}

#[test]
fn outcomes_that_follow_from_nothing_are_found() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let plane = runtime.block_on(async {
        let mut plane = busy().await;
        plane.stop().await.unwrap();
        plane
    });
    let ledger = plane.ledger();
    let outcome = ledger.last(Kind::Outcome);
    let _shape: OutcomeBody = outcome.read();
    append(&plane, Kind::Outcome, &outcome.body, None, true);
    let (denied, mut ahead) = decision(&plane, "deny");
    let mut of_denied = outcome.body.clone();
    of_denied["decision"] = json!(denied);
    append(&plane, Kind::Outcome, &of_denied, None, true);
    ahead["basis"]["control_size"] = json!(1_000_000);
    append(&plane, Kind::Decision, &ahead, None, true);
    let checked = verify(&plane.data(), None, &[]);
    assert!(!checked.verified);
    let told = checked.text(true);
    for part in [
        "a second outcome",
        "no permit before it",
        "rests on 1000000 entries",
        "3 faults",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(checked.control.error, None);
}

#[tokio::test]
async fn what_was_erased_is_counted_and_not_opened() {
    let mut plane = busy().await;
    let handle = plane
        .ledger()
        .last(Kind::Decision)
        .read::<DecisionBody>()
        .facts
        .key;
    let kept = plane.data().join("keyring").join(handle.as_str());
    let copy = fs::read(&kept).unwrap();
    let command = Command::Erase { handle };
    let control = Arc::clone(plane.gateway().control());
    control
        .execute(Actor::node("node-1"), command)
        .await
        .unwrap();
    assert!(!kept.exists());
    plane.stop().await.unwrap();
    let erased = [0, 0, DECISIONS, 0, 0];
    let key = facts_key(&plane);
    assert_eq!(counts(&replay(&plane.data(), Some(&key)).unwrap()), erased);
    assert_eq!(counts(&replay(&plane.data(), None).unwrap()), erased);
    // Nor if the key is brought back from a backup.
    fs::write(&kept, copy).unwrap();
    assert_eq!(counts(&replay(&plane.data(), Some(&key)).unwrap()), erased);
    assert!(verify(&plane.data(), None, &[]).verified);
}

#[tokio::test]
async fn what_is_missing_or_changed_in_a_copy_is_told() {
    let mut plane = busy().await;
    plane.stop().await.unwrap();
    let key = facts_key(&plane);
    let blobs = plane.data().join("blobs");
    let away = plane.folder().join("away");
    fs::rename(&blobs, &away).unwrap();
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert_eq!(counts(&replayed), [0, 0, 0, 0, DECISIONS]);
    assert!(!replayed.is_good());
    assert!(replayed.text(false).contains("is not among the blobs"));
    fs::rename(&away, &blobs).unwrap();
    let keyring = plane.data().join("keyring");
    fs::rename(&keyring, &away).unwrap();
    let replayed = replay(&plane.data(), Some(&key)).unwrap();
    assert_eq!(
        counts(&replayed),
        [0, 0, 0, DECISIONS, 0],
        "not erased: gone without a record of it"
    );
    fs::rename(&away, &keyring).unwrap();
    let other = plane.folder().join("other.key");
    keys::write_new_seed(&other, &vocab::rng::SystemRng).unwrap();
    let wrong = replay(&plane.data(), Some(&other));
    assert!(
        matches!(wrong, Err(LedgerError::Keyring { .. })),
        "{wrong:?}"
    );
    // A copy without segments is read as far as it is signed.
    for log in LogName::ALL {
        fs::remove_dir_all(plane.data().join(log.as_str()).join("segments")).unwrap();
    }
    assert!(verify(&plane.data(), None, &[]).verified);
    change(&entries_of(&plane.data()));
    let checked = verify(&plane.data(), None, &[]);
    assert!(!checked.verified && checked.control.error.is_none());
    fs::remove_dir_all(plane.data().join("calls")).unwrap();
    let checked = verify(&plane.data(), None, &[]);
    assert!(!checked.verified);
    let error = json!(checked)["calls"]["error"].clone();
    assert!(error.as_str().unwrap().contains("no log"), "{error}");
}

/// The bundle of `calls` that the checkpoint covers.
fn entries_of(data: &Path) -> PathBuf {
    let partials = data.join("calls/tile/entries/000.p");
    let size = OfflineLog::open(data, LogName::Calls).unwrap().size();
    partials.join(size.to_string())
}

/// Changes one digit of a time, and nothing of the form.
fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let marker = b"\"time\":\"2";
    let at = bytes
        .windows(marker.len())
        .rposition(|window| window == marker)
        .unwrap();
    let digit = &mut bytes[at + marker.len() + 24];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn policies_are_judged_from_the_files_as_by_the_node() {
    let mut plane = Plane::start().await;
    plane.agent("triage").await;
    // Names lie sealed, so only the node could say that nobody has one.
    let group = Command::AddGroup {
        profile: GroupProfile {
            display_name: "finance".parse().unwrap(),
            external_id: None,
        },
        members: Vec::new(),
        signal: Signal {
            source: "scim".parse().unwrap(),
            event: "added".parse().unwrap(),
            received_at: plane.now(),
            happened_at: None,
            id: None,
        },
    };
    let directory = Actor {
        kind: ActorKind::Service,
        id: "directory".to_owned(),
        credential: "scim".to_owned(),
        verified: true,
    };
    let control = plane.gateway().control();
    control.execute(directory, group).await.unwrap();
    let folder = plane.folder().join("policies");
    let cases = "\
- {who: {agent: triage}, call: files/read_text_file, args: {path: /public/a}, expect: allow}
- {who: {agent: triage}, call: files/read_text_fil, args: {path: /a}, expect: deny}
- {who: {agent: traige}, call: files/read_text_file, args: {path: /a}, expect: deny}
";
    fs::write(folder.join("a.test.yaml"), cases).unwrap();
    fs::write(
        folder.join("more.cedar"),
        "@id(\"more\") permit (principal, action == Action::\"files/no_tool\", resource);",
    )
    .unwrap();
    let checked = plane.admin("POST", "/v1/policy/check", None).await.json();
    let tested = plane.admin("POST", "/v1/policy/test", None).await.json();
    assert_eq!(checked["valid"], false, "{checked}");
    assert_eq!(
        (&tested["passed"], &tested["failed"]),
        (&json!(1), &json!(2))
    );
    let config = Config::read(&plane.folder().join("tipstaff.toml")).unwrap();
    let here = || {
        let ground = Offline::read(&config, &[]).unwrap();
        let checked = policies::check(&ground, &folder).unwrap();
        let tested = policies::test(&ground, &folder).unwrap();
        (json!(checked), json!(tested))
    };
    assert_eq!(here(), (checked.clone(), tested.clone()));
    plane.stop().await.unwrap();
    assert_eq!(here(), (checked, tested));
    // Without anything on record, what is not known is said, not passed over.
    fs::remove_dir_all(plane.data()).unwrap();
    let (checked, tested) = here();
    assert_eq!(checked["valid"], true, "{checked}");
    let unchecked = checked["unchecked"]["files"].as_array().unwrap();
    assert!(unchecked.contains(&json!("no-drafts")), "{checked}");
    assert!(
        !unchecked.contains(&json!("triage-reads-resources")),
        "{checked}"
    );
    assert_eq!(
        (&tested["passed"], &tested["failed"]),
        (&json!(0), &json!(3))
    );
}
