//! One of the two logs put back alone, from a backup: each names the other, so the node does not
//! start. And nothing but that keeps it from starting.

use std::fs;
use std::sync::Arc;

use ledger::{Actor, Draft, Header, Kind, Log as _, LogReader as _};
use serde_json::json;
use server::commands::ledger::verify;
use server::keys;
use server::node::StartError;
use store::{DataDir, Fault, Faults, FilesLog, LogOptions, OfflineLog};
use testkit::{Plane, SeededRng};
use vocab::LogName;
use vocab::rng::{self, Rng};

use crate::common::{ANY, Client, ERAS, copy};

fn keep(plane: &Plane, as_name: &str) {
    copy(&plane.data(), &plane.folder().join(as_name));
}

fn put_back(plane: &Plane, log: LogName, kept: &str) {
    let here = plane.data().join(log.as_str());
    fs::remove_dir_all(&here).unwrap();
    copy(&plane.folder().join(kept).join(log.as_str()), &here);
}

/// That a start is refused, and why.
async fn refused(plane: &mut Plane, log: LogName, why: &str) {
    let error = plane.boot().await.unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(error, StartError::SetBack { log: found, .. } if found == log),
        "{told}"
    );
    assert!(told.contains(why), "{why}: {told}");
    assert!(told.contains("from one backup"), "{told}");
}

#[tokio::test]
async fn a_log_put_back_alone_is_not_served() {
    let mut plane = Plane::start().await;
    plane.stop().await.unwrap();
    keep(&plane, "first");
    plane.boot().await.unwrap();
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    plane.kill();
    plane.boot().await.unwrap();
    plane.stop().await.unwrap();
    keep(&plane, "second");
    plane.boot().await.unwrap();
    plane.command("/v1/agents/triage/suspend").await;
    plane.stop().await.unwrap();
    keep(&plane, "last");
    for kept in ["first", "second"] {
        for log in LogName::ALL {
            put_back(&plane, log, kept);
            refused(&mut plane, log, "entries").await;
            let checked = verify(&plane.data(), None, &[]);
            let told = checked.text(true);
            assert!(!checked.verified && told.contains("was set back"), "{told}");
            put_back(&plane, log, "last");
            assert!(verify(&plane.data(), None, &[]).verified);
        }
    }
    plane.boot().await.unwrap();
    plane.kill();
    // After a kill the last mention of either is in what the last start wrote.
    keep(&plane, "last");
    for kept in ["first", "second"] {
        for log in LogName::ALL {
            put_back(&plane, log, kept);
            refused(&mut plane, log, "entries").await;
            put_back(&plane, log, "last");
        }
    }
    // Both, from one backup: that is for anchors to see.
    for log in LogName::ALL {
        put_back(&plane, log, "second");
    }
    plane.boot().await.unwrap();
    plane.end().await;
}

#[tokio::test]
async fn a_control_log_from_before_a_cut_is_not_served() {
    let mut plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    assert_eq!(client.call("anything", ANY).await.effect(), "allow");
    // Nothing writes to it but what is asked for here.
    copy(
        &plane.data().join("control"),
        &plane.folder().join("before/control"),
    );
    plane.command("/v1/agents/triage/suspend").await;
    plane.kill();
    put_back(&plane, LogName::Control, "before");
    refused(&mut plane, LogName::Control, "entries then, and has").await;
}

/// Makes `log` longer by entries that its own key signs.
async fn lengthen(plane: &Plane, log: LogName, kind: Kind, body: serde_json::Value, to: u64) {
    let text = keys::read_secret(&keys::log_key(&plane.folder().join("keys"), log)).unwrap();
    let signer: ledger::note::Signer = text.expose().parse().unwrap();
    let header = Header {
        trust_domain: "it.example".parse().unwrap(),
        node: "node-1".to_owned(),
        epoch: 9,
        key: signer.verifier().key_name(),
    };
    let dir = DataDir::open(plane.data()).unwrap();
    let options = LogOptions {
        name: log,
        signers: signer.into(),
        header,
        clock: Arc::clone(&plane.clock) as _,
        faults: Faults::default(),
        publish_every: None,
    };
    let log = FilesLog::open(&dir, options).unwrap();
    while log.reader().size() < to {
        let draft = Draft::new(kind, Actor::node("node-1"), &body).unwrap();
        log.append(vec![draft]).await.unwrap();
    }
    log.publish().await.unwrap();
    log.close().unwrap();
}

fn size(plane: &Plane, log: LogName) -> u64 {
    OfflineLog::open(&plane.data(), log).unwrap().size()
}

#[tokio::test]
async fn a_log_put_back_and_written_on_is_not_served() {
    for (log, kind, body) in [
        (
            LogName::Control,
            Kind::NodeDegraded,
            json!({"subsystem": "disk", "cause": "low"}),
        ),
        (
            LogName::Calls,
            Kind::Refused,
            json!({"cause": "a", "at": "b", "count": 1}),
        ),
    ] {
        let mut plane = Plane::start().await;
        plane.stop().await.unwrap();
        keep(&plane, "first");
        plane.boot().await.unwrap();
        plane.agent("triage").await;
        plane.stop().await.unwrap();
        let to = size(&plane, log) + 3;
        put_back(&plane, log, "first");
        lengthen(&plane, log, kind, body, to).await;
        refused(&mut plane, log, "are not those that it had then").await;
        let checked = verify(&plane.data(), None, &[]);
        let told = checked.text(true);
        assert!(!checked.verified && told.contains("knows it as"), "{told}");
    }
}

#[tokio::test]
async fn no_crash_looks_like_a_log_put_back() {
    let mut plane = Plane::start().await;
    let choices = SeededRng::new(42);
    let agent = plane.agent("triage").await;
    for round in 0..10 {
        let client = Client::new(&agent.token("files").await, ERAS[0]).await;
        let flights: Vec<_> = (0..8).map(|_| client.spawn_call("anything", ANY)).collect();
        let [calls, fault, end] = rng::bytes::<3>(&choices as &dyn Rng).unwrap();
        for _ in 0..calls % 4 {
            client.call("anything", ANY).await;
        }
        plane.command("/v1/agents/triage/suspend").await;
        plane.faults.set(match fault % 4 {
            0 => Fault::Sync,
            1 => Fault::PersistedButFailed,
            _ => Fault::None,
        });
        plane.admin("POST", "/v1/agents/triage/resume", None).await;
        if end % 3 == 0 {
            // It may not be able to say that it stopped.
            let _said = plane.stop().await;
        } else {
            plane.kill();
        }
        plane.faults.set(Fault::None);
        drop(flights);
        let started = plane.boot().await;
        assert!(started.is_ok(), "round {round}: {started:?}");
        plane.command("/v1/agents/triage/resume").await;
    }
    plane.end().await;
}
