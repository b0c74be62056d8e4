//! The keys that sign tokens, from announcement to their end.

use super::*;
use crate::command::CommandError;
use crate::fold_prefix;
use crate::signing::{TokenKey, TokenKeyCommand as Do};
use crate::text::KeyId;

fn kid(nth: u8) -> KeyId {
    format!("t{nth}").parse().unwrap()
}

fn announce(nth: u8) -> Command {
    Command::TokenKey(Do::Announce {
        kid: kid(nth),
        jwk: jwk(),
    })
}

fn activate(nth: u8) -> Command {
    Command::TokenKey(Do::Activate { kid: kid(nth) })
}

fn retire(nth: u8) -> Command {
    Command::TokenKey(Do::Retire { kid: kid(nth) })
}

fn revoke(nth: u8) -> Command {
    Command::TokenKey(Do::Revoke { kid: kid(nth) })
}

fn add(nth: u8) -> Command {
    Command::AddTokenKey {
        kid: kid(nth),
        jwk: jwk(),
    }
}

fn lives(node: &Node) -> Vec<&'static str> {
    node.control.view(|state| {
        state
            .token_keys()
            .iter()
            .map(|key| key.life.as_str())
            .collect()
    })
}

/// Which keys are believed, and which are published.
fn seen(node: &Node) -> (Vec<u8>, Vec<u8>) {
    let now = node.now();
    node.control.view(|state| {
        let which = |good: fn(&TokenKey, Time) -> bool| {
            let keys = state.token_keys().iter().enumerate();
            let keys = keys.filter(|(_, key)| good(key, now));
            keys.map(|(nth, _)| u8::try_from(nth + 1).unwrap())
                .collect()
        };
        (which(TokenKey::verifies), which(TokenKey::is_published))
    })
}

async fn refused(node: &Node, command: Command) {
    let size = node.control.view(crate::State::size);
    assert!(
        matches!(node.execute(command).await, Err(CommandError::Refused(_))),
        "refused"
    );
    assert_eq!(node.control.view(crate::State::size), size);
}

async fn unchanged(node: &Node, command: Command) {
    let done = node.execute(command).await.unwrap();
    assert!(matches!(done, Done::Unchanged { .. }), "{done:?}");
}

#[tokio::test]
async fn a_key_is_published_before_it_signs_and_for_as_long_as_its_tokens_live() {
    let node = Node::empty();
    node.ok(add(1)).await;
    unchanged(&node, add(1)).await;
    assert_eq!(seen(&node), (vec![1], vec![1]));
    node.ok(announce(2)).await;
    unchanged(&node, announce(2)).await;
    // What is announced has signed nothing yet.
    assert_eq!(seen(&node), (vec![1], vec![1, 2]));
    refused(&node, announce(3)).await;
    node.ok(activate(2)).await;
    unchanged(&node, activate(2)).await;
    assert_eq!(lives(&node), ["past", "current"]);
    assert_eq!(seen(&node), (vec![1, 2], vec![1, 2]));
    node.clock.advance(Duration::from_secs(299));
    assert_eq!(seen(&node).0, [1, 2]);
    refused(&node, retire(1)).await;
    node.clock.advance(Duration::from_secs(1));
    assert_eq!(seen(&node), (vec![2], vec![2]));
    node.ok(retire(1)).await;
    unchanged(&node, retire(1)).await;
    assert_eq!(lives(&node), ["retired", "current"]);
    // None comes back.
    for command in [add(1), activate(1), revoke(1)] {
        refused(&node, command).await;
    }
    refused(&node, retire(2)).await;
    let node = node.restarted().unwrap();
    assert_eq!(lives(&node), ["retired", "current"]);
}

#[tokio::test]
async fn a_compromised_key_is_believed_no_more_from_its_entry_on() {
    let node = Node::ready().await;
    node.ok(add(1)).await;
    // Nothing could sign in its place.
    refused(&node, revoke(1)).await;
    node.ok(announce(2)).await;
    let before = node.control.generation();
    node.ok(revoke(1)).await;
    assert_eq!(lives(&node), ["compromised", "current"]);
    assert_eq!(seen(&node), (vec![2], vec![2]));
    // It is a cut: whoever was active is asked about again.
    assert!(node.control.generation() > before);
    assert_eq!(revoke(1).cut(), Some("token-key-revoked"));
    assert_eq!(activate(1).cut(), None);
    unchanged(&node, revoke(1)).await;
    // A past one, and one that never signed.
    node.ok(announce(3)).await;
    node.ok(activate(3)).await;
    node.ok(revoke(2)).await;
    node.ok(announce(4)).await;
    node.ok(revoke(4)).await;
    assert_eq!(
        lives(&node),
        ["compromised", "compromised", "current", "compromised"]
    );
    for command in [activate(4), add(1), retire(2), announce(1), revoke(9)] {
        refused(&node, command).await;
    }
}

/// A log of a release that knew no announcements folds as it was meant.
#[tokio::test]
async fn keys_that_were_only_ever_added_replaced_each_other() {
    let node = Node::empty();
    for nth in 1..=3 {
        node.ok(add(nth)).await;
        node.clock.advance(Duration::from_secs(200));
    }
    assert_eq!(lives(&node), ["past", "past", "current"]);
    assert_eq!(seen(&node).0, [2, 3]);
    refused(&node, add(1)).await;
    // An announced one that is added signs at once.
    node.ok(announce(4)).await;
    node.ok(add(4)).await;
    assert_eq!(lives(&node), ["past", "past", "past", "current"]);
    let again = fold_prefix(&*node.log, None, 5).unwrap();
    node.control
        .view(|state| assert_eq!(state.token_keys(), again.token_keys()));
}
