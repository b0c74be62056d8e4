//! What ends an approval that nobody ended: its upstream is another, or who called is gone.

use super::*;
use crate::entry::UpstreamConfigured;

fn configured(table: &[u8], options: &[u8]) -> Command {
    Command::ConfigureUpstream {
        name: files(),
        config: Digest::of(options),
        table: Digest::of(table),
        observe_until: None,
    }
}

#[tokio::test]
async fn an_upstream_that_is_pointed_elsewhere_takes_no_approval_along() {
    let to = async |node: &Node, table: &[u8], options: &[u8]| {
        node.ok(configured(table, options)).await;
    };
    // As the node under test has it.
    let (table, options) = (b"a table".as_slice(), b"files".as_slice());
    let same = async |node: &Node, _: &InstanceId| {
        let before = node.log.len();
        assert!(matches!(
            node.execute(configured(table, options)).await,
            Ok(Done::Unchanged { .. })
        ));
        assert_eq!(node.log.len(), before);
    };
    check_ended(same, None).await;
    let changed = Some(ApprovalOver::Changed);
    let elsewhere = async |node: &Node, _: &InstanceId| to(node, b"elsewhere", options).await;
    check_ended(elsewhere, changed).await;
    let judged = async |node: &Node, _: &InstanceId| to(node, table, b"other options").await;
    check_ended(judged, changed).await;
    // There and back is no way around it.
    let and_back = async |node: &Node, _: &InstanceId| {
        to(node, b"elsewhere", options).await;
        to(node, table, options).await;
    };
    check_ended(and_back, changed).await;
    let another = async |node: &Node, _: &InstanceId| {
        node.ok(configure("mail")).await;
    };
    check_ended(another, None).await;
}

#[tokio::test]
async fn entries_from_before_the_whole_configuration_was_named_end_nothing() {
    let (node, instance) = Node::held().await;
    let id = node.approval_asked(&instance, "a", &[&["noor"]]).await;
    node.grants(&id, "noor").await.unwrap();
    let event = Event::UpstreamConfigured(UpstreamConfigured {
        upstream: files(),
        config: Digest::of(b"other options"),
        observe_until: None,
        table: None,
    });
    let life = folded(&node, &event, admin(), |state| {
        state.unwrap().approval(&id).unwrap().life
    });
    assert!(matches!(life, ApprovalLife::Granted { .. }), "{life:?}");
}

/// A node whose instance has no more than so many minutes left.
async fn with_minutes_left(left: u64) -> (Node, InstanceId) {
    let (node, instance) = Node::held().await;
    for step in [minutes(20); 23].into_iter().chain([minutes(20 - left)]) {
        node.clock.advance(step);
        node.control.touch(&instance, node.now());
    }
    (node, instance)
}

#[tokio::test]
async fn nobody_is_asked_about_a_call_for_longer_than_its_caller_lives() {
    let (node, instance) = with_minutes_left(10).await;
    let expires_at = node
        .control
        .view(|state| state.instance(&instance).unwrap().expires_at);
    let ids = [
        node.approval_asked(&instance, "a", &[&["noor"]]).await,
        node.approval_asked(&instance, "b", &[&["noor"]]).await,
    ];
    assert_eq!(node.approval(&ids[0]).until(), expires_at);
    node.clock.advance(minutes(9));
    node.grants(&ids[0], "noor").await.unwrap();
    assert_eq!(node.approval(&ids[0]).until(), expires_at, "not an hour");
    node.clock.advance(minutes(1));
    assert_eq!(node.uses(&ids[0], "a").await, is_over(&ids[0], "expired"));
    assert_eq!(
        node.grants(&ids[1], "noor").await,
        is_over(&ids[1], "expired")
    );
    node.folds_the_same();
}

#[tokio::test]
async fn what_a_forgotten_instance_asked_is_over_and_nobodys() {
    let (node, instance) = with_minutes_left(10).await;
    let id = node.approval_asked(&instance, "a", &[&["sponsor"]]).await;
    let asked = node.approval(&id);
    let may = |approval: &Approval, person: &str| {
        let person = handle_of(&node, person).unwrap();
        node.control.view(|state| {
            (
                state.may_approve(&person, approval),
                state.is_own_call(&person, approval),
            )
        })
    };
    assert_eq!(may(&asked, "maja"), (Ok(()), true));
    assert_eq!(may(&asked, "zoe"), (Err(NotApprover::NotAsked), false));
    let week = 7 * 24 * 60;
    node.clock.advance(minutes(10 + week));
    node.ok(configure("mail")).await;
    let gone = |state: &crate::State| state.instance(&instance).is_none();
    assert!(node.control.view(gone));
    assert_eq!(node.ended(&id), Some(ApprovalOver::Expired));
    // Even as it was when it waited it is for nobody: not for whoever is active, nor for those whom
    // the policies name.
    for person in ["maja", "zoe", "noor"] {
        let found = may(&asked, person);
        assert_eq!(found, (Err(NotApprover::NotAsked), false), "{person}");
    }
    node.folds_the_same();
}
