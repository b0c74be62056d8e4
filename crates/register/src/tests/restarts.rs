//! What a start makes of the files it finds.

use std::sync::atomic::Ordering;

use ledger::{Draft, Header, Kind, write_entry};

use super::*;
use crate::state::Impossible;
use crate::{FoldCause, entry};

#[tokio::test]
async fn instances_survive_and_idle_times_count_from_the_start() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.clock.advance(minutes(60));
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    let node = node.restarted().unwrap();
    assert_eq!(node.narrowed(&id), None);
    assert_eq!(node.start("triage", 0).await, id);
    node.clock.advance(minutes(30));
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    node.clock.advance(minutes(8 * 60));
    let node = node.restarted().unwrap();
    assert_eq!(
        node.narrowed(&id),
        Some(Why::InstanceExpired),
        "the lifetime is in the log"
    );
}

#[tokio::test]
async fn an_erasure_that_was_cut_off_is_finished() {
    let node = Node::ready().await;
    node.ok(suspend_sponsor("maja")).await;
    let handle = node
        .control
        .view(|state| state.sponsors()[0].handle.clone());
    node.keyring.refuse.store(true, Ordering::Relaxed);
    assert!(node.execute(Command::Erase { handle }).await.is_err());
    node.keyring.refuse.store(false, Ordering::Relaxed);
    let node = node.restarted().unwrap();
    assert_eq!(node.keyring.len(), 0);
}

#[tokio::test]
async fn a_sponsor_whose_key_is_gone_without_a_word_has_no_agents_that_act() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let key = node.control.view(|state| state.sponsors()[0].key.clone());
    ledger::Keyring::erase(&*node.keyring, &key).unwrap();
    let node = node.restarted().unwrap();
    assert_eq!(node.narrowed(&id), Some(Why::SponsorErased));
}

/// Opens a ready node's files again after they were tampered with.
async fn check(tamper: impl FnOnce(&Node), expected: impl FnOnce(&FoldCause) -> bool) {
    let node = Node::ready().await;
    tamper(&node);
    let Err(error) = node.restarted() else {
        panic!("it should not start");
    };
    assert!(expected(&error.cause), "{error:?}");
}

#[tokio::test]
async fn a_locked_keyring_does_not_start() {
    check(
        |node| node.keyring.locked.store(true, Ordering::Relaxed),
        |cause| *cause == FoldCause::Locked,
    )
    .await;
}

#[tokio::test]
async fn sealed_bytes_that_are_gone_or_changed_do_not_start() {
    check(
        |node| node.log.entries.lock().unwrap()[0].1 = None,
        |cause| *cause == FoldCause::Locked,
    )
    .await;
    check(
        |node| {
            if let Some(sealed) = &mut node.log.entries.lock().unwrap()[0].1 {
                sealed[40] ^= 1;
            }
        },
        |cause| matches!(cause, FoldCause::Sealed(_)),
    )
    .await;
}

/// An entry as a writer would make it that does not ask `decide`.
pub(super) fn forged(node: &Node, kind: Kind, body: &serde_json::Value) -> Vec<u8> {
    let header = Header {
        trust_domain: "acme.example".parse().unwrap(),
        node: "n-1".to_owned(),
        epoch: 1,
        key: "tipstaff.local/control/x+00000000".to_owned(),
    };
    write_entry(
        &header,
        node.now(),
        &Draft::new(kind, admin(), body).unwrap(),
    )
    .unwrap()
}

#[tokio::test]
async fn entries_that_cannot_have_happened_do_not_start() {
    let body = |kind, body: serde_json::Value| {
        move |node: &Node| {
            node.log.forge(forged(node, kind, &body));
        }
    };
    let impossible = |cause: &FoldCause| matches!(cause, FoldCause::Impossible(_));
    check(
        body(Kind::AgentResumed, json!({"agent": "triage"})),
        |cause| matches!(cause, FoldCause::Impossible(Impossible::Transition(_))),
    )
    .await;
    check(
        body(Kind::AgentSuspended, json!({"agent": "nobody"})),
        impossible,
    )
    .await;
    check(
        body(
            Kind::PolicyActivated,
            json!({"set": "00".repeat(32), "author": "uid:1", "tests": {"passed": 1, "failed": 1}}),
        ),
        impossible,
    )
    .await;
    // Another agent's sponsor, key and purpose, and a parent.
    for (member, value) in [
        ("sponsor", json!("s-other")),
        ("key", json!("k9")),
        ("purpose", json!("other")),
        ("binding", json!("bearer")),
        ("upstream", json!("nowhere")),
        ("parent", json!(format!("i-{}", "a".repeat(26)))),
    ] {
        check(
            |node| {
                let sponsor = node
                    .control
                    .view(|state| state.sponsors()[0].handle.clone());
                let mut body = json!({
                    "instance": format!("i-{}", "b".repeat(26)), "agent": "triage",
                    "sponsor": sponsor, "parent": null, "purpose": "triage",
                    "binding": {"dpop": {"jkt": jkt(0)}}, "upstream": "files", "key": "k1",
                    "max_lifetime_s": 60, "idle_s": 60,
                });
                body[member] = value;
                node.log.forge(forged(node, Kind::InstanceStarted, &body));
            },
            impossible,
        )
        .await;
    }
    // A key destroyed behind its sponsor's back.
    check(
        |node| {
            let key = node.control.view(|state| state.sponsors()[0].key.clone());
            let body = json!({"key": key, "sponsor": null});
            node.log.forge(forged(node, Kind::Erased, &body));
        },
        impossible,
    )
    .await;
    check(
        |node| {
            node.clock.back(minutes(1));
            node.log.forge(forged(node, Kind::NodeStopped, &json!({})));
        },
        |cause| *cause == FoldCause::Impossible(Impossible::TimeWentBack),
    )
    .await;
}

#[tokio::test]
async fn entries_of_another_shape_or_log_do_not_start() {
    check(
        |node| {
            node.log.forge(forged(
                node,
                Kind::AgentSuspended,
                &json!({"agent": "triage", "why": "x"}),
            ));
        },
        |cause| matches!(cause, FoldCause::Body(entry::BodyError::Shape { .. })),
    )
    .await;
    check(
        |node| node.log.forge(forged(node, Kind::Decision, &json!({}))),
        |cause| matches!(cause, FoldCause::Body(entry::BodyError::Kind { .. })),
    )
    .await;
    check(
        |node| {
            let bytes = forged(node, Kind::NodeStopped, &json!({}));
            let text = String::from_utf8(bytes).unwrap();
            node.log
                .forge(text.replace("node-stopped", "node-paused").into_bytes());
        },
        |cause| matches!(cause, FoldCause::Entry(ledger::EntryError::Kind { .. })),
    )
    .await;
}
