//! The keys that sign the logs, from announcement to their end.

use ledger::note::Signer;
use ledger::{Checkpoint, LogKey, LogKeyActivated, LogKeyAnnounced, LogKeyRetired};
use vocab::digest::Digest;
use vocab::id::LogName;

use super::*;
use crate::command::CommandError;
use crate::fold_prefix;
use crate::log_keys::LogKeyCommand;

const ORIGIN: &str = "acme.example/control/x";

fn signer(seed: u8) -> Signer {
    Signer::from_seed(ORIGIN, &[seed; 32]).unwrap()
}

pub(super) fn key(seed: u8) -> LogKey {
    signer(seed).verifier().clone().try_into().unwrap()
}

fn log_key(command: LogKeyCommand) -> Command {
    Command::LogKey(Box::new(command))
}

pub(super) fn announce(log: LogName, by: u8, new: u8) -> Command {
    log_key(LogKeyCommand::Announce(LogKeyAnnounced {
        log,
        by: key(by),
        key: key(new),
    }))
}

/// With a checkpoint over `size` entries, if one is to come with it.
pub(super) fn activate(log: LogName, new: u8, sealed: Option<(u8, u64)>) -> Command {
    let sealed = sealed.map(|(by, size)| {
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            root: Digest::of(b"a root"),
        };
        checkpoint.sign(&signer(by)).unwrap()
    });
    log_key(LogKeyCommand::Activate(LogKeyActivated {
        log,
        key: key(new),
        checkpoint: sealed,
    }))
}

pub(super) fn retire(log: LogName, old: u8, compromised: bool) -> Command {
    log_key(LogKeyCommand::Retire(LogKeyRetired {
        log,
        key: key(old),
        compromised,
    }))
}

fn lives(node: &Node, log: LogName) -> Vec<&'static str> {
    node.control.view(|state| {
        let keys = state.log_keys().iter().filter(|it| it.log == log);
        keys.map(|it| it.life.as_str()).collect()
    })
}

async fn refused(node: &Node, command: Command, why: &str) {
    let before = node.log.len();
    match node.execute(command).await {
        Err(CommandError::Refused(refusal)) => {
            let told = refusal.to_string();
            assert!(told.contains(why), "{told}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(node.log.len(), before);
}

#[tokio::test]
async fn a_key_is_announced_signs_and_is_retired() {
    let node = Node::ready().await;
    let log = LogName::Control;
    node.ok(announce(log, 1, 2)).await;
    assert_eq!(lives(&node, log), ["current", "announced"]);
    assert!(lives(&node, LogName::Calls).is_empty());
    let done = node.ok(announce(log, 1, 2)).await;
    assert!(matches!(done, Done::Unchanged { .. }), "{done:?}");
    refused(&node, announce(log, 1, 3), "not the one that is announced").await;
    let size = node.control.view(crate::State::size);
    node.ok(activate(log, 2, Some((1, size)))).await;
    assert_eq!(lives(&node, log), ["past", "current"]);
    let done = node.ok(activate(log, 2, None)).await;
    assert!(matches!(done, Done::Unchanged { .. }), "{done:?}");
    refused(&node, retire(log, 2, false), "cannot retire").await;
    refused(&node, announce(log, 1, 3), "by a key that does not sign").await;
    refused(&node, announce(log, 2, 1), "cannot announce").await;
    node.ok(retire(log, 1, false)).await;
    let done = node.ok(retire(log, 1, false)).await;
    assert!(matches!(done, Done::Unchanged { .. }), "{done:?}");
    refused(&node, retire(log, 1, true), "cannot revoke").await;
    assert_eq!(lives(&node, log), ["retired", "current"]);
    // Announced, and never to sign.
    node.ok(announce(log, 2, 3)).await;
    node.ok(retire(log, 3, false)).await;
    refused(
        &node,
        activate(log, 3, Some((2, size + 9))),
        "cannot activate",
    )
    .await;
    // The other log's keys are its own.
    node.ok(announce(LogName::Calls, 1, 2)).await;
    node.ok(activate(LogName::Calls, 2, None)).await;
    node.ok(retire(LogName::Calls, 1, true)).await;
    assert_eq!(lives(&node, LogName::Calls), ["compromised", "current"]);
    let again = fold_prefix(&*node.log, None, node.log.len()).unwrap();
    node.control
        .view(|state| assert_eq!(state.log_keys(), again.log_keys()));
}

#[tokio::test]
async fn a_key_signs_only_after_the_one_before_it_covered_its_announcement() {
    let node = Node::ready().await;
    let log = LogName::Control;
    refused(&node, activate(log, 2, None), "has no key").await;
    node.ok(announce(log, 1, 2)).await;
    let size = node.control.view(crate::State::size);
    refused(&node, activate(log, 2, None), "there is none").await;
    refused(&node, activate(log, 2, Some((2, size))), "no signature by").await;
    let short = activate(log, 2, Some((1, size - 1)));
    refused(&node, short, "does not cover").await;
    node.ok(announce(LogName::Calls, 1, 2)).await;
    let foreign = activate(LogName::Calls, 2, Some((1, size)));
    refused(&node, foreign, "proves nothing").await;
}

#[tokio::test]
async fn keys_of_one_log_have_one_name() {
    let node = Node::ready().await;
    let other = Signer::from_seed("acme.example/calls/x", &[2; 32]).unwrap();
    let body = LogKeyAnnounced {
        log: LogName::Control,
        by: key(1),
        key: other.verifier().clone().try_into().unwrap(),
    };
    let command = log_key(LogKeyCommand::Announce(body));
    refused(&node, command, "of another log").await;
    let command = announce(LogName::Control, 1, 1);
    refused(&node, command, "which is current").await;
}

#[tokio::test]
async fn what_the_wrapping_key_is_known_by() {
    let node = Node::ready().await;
    assert_eq!(node.control.view(crate::State::wrapping_key), None);
    let key = Digest::of(b"a key");
    node.ok(Command::ChangeWrappingKey { key }).await;
    let again = node.ok(Command::ChangeWrappingKey { key }).await;
    assert!(matches!(again, Done::Unchanged { .. }), "{again:?}");
    assert_eq!(node.control.view(crate::State::wrapping_key), Some(key));
}
