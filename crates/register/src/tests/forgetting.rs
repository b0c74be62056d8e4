//! Instances whose time is long over are forgotten, and nothing else is.

use super::*;
use crate::fold_prefix;

const DAY: u64 = 24 * 60;

fn known(node: &Node, id: &InstanceId) -> bool {
    node.control.view(|state| state.instance(id).is_some())
}

/// Something is written, so that time goes on for the register.
async fn write(node: &Node) {
    node.ok(configure(&format!("u{}", node.log.len()))).await;
}

fn once(parent: &InstanceId) -> Command {
    let digest = vocab::Digest::of(b"{}");
    let authority = json!([{
        "type": "mcp_tool", "locations": ["files"], "identifier": "read",
        "arguments_sha256": digest,
    }]);
    Command::Delegate(Box::new(Delegation {
        parent: parent.clone(),
        agent: "triage".parse().unwrap(),
        kid: None,
        once: true,
        purpose: "triage".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(0) },
        upstream: files(),
        authority: Some(Arc::new(
            serde_json::from_str(&authority.to_string()).unwrap(),
        )),
        max_calls: Some(1),
        lifetime: None,
    }))
}

async fn started(node: &Node, command: Command) -> InstanceId {
    match node.ok(command).await {
        Done::Started { instance, .. } => instance.id.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_instance_is_known_for_a_week_after_its_time() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    let ended = node.start("triage", 1).await;
    node.ok(end(&ended, EndReason::Closed)).await;
    // It lives for eight hours.
    node.clock.advance(minutes(8 * 60 + 7 * DAY - 1));
    write(&node).await;
    assert!(known(&node, &id) && known(&node, &ended));
    assert_eq!(node.narrowed(&id), Some(Why::InstanceExpired));
    node.clock.advance(minutes(1));
    assert!(known(&node, &id), "by entries only, as in every fold");
    write(&node).await;
    assert!(!known(&node, &id) && !known(&node, &ended));
    assert_eq!(node.narrowed(&id), Some(Why::Unknown));
    // Its key starts another, and nothing is said of the one that is forgotten.
    let before = node.log.len();
    assert_ne!(node.start("triage", 0).await, id);
    assert_eq!(node.log.len(), before + 1);
    let again = fold_prefix(&*node.log, Some(&*node.keyring), node.log.len()).unwrap();
    node.control.view(|state| assert_eq!(*state, again));
}

#[tokio::test]
async fn a_credential_for_one_call_is_forgotten_within_hours_and_leaves_room() {
    let node = Node::ready().await;
    let parent = node.start("triage", 0).await;
    let mut all = Vec::new();
    for _ in 0..200 {
        node.clock.advance(minutes(1));
        node.control.touch(&parent, node.now());
        all.push(started(&node, once(&parent)).await);
    }
    node.control.view(|state| {
        assert!(state.instances().len() < 64 + 3);
        assert_eq!(state.children(&parent, node.now()).count(), 1);
    });
    assert!(!known(&node, &all[0]) && known(&node, all.last().unwrap()));
    assert_eq!(node.narrowed(&parent), None);
}

#[tokio::test]
async fn nothing_is_forgotten_that_a_certificate_has_to_name() {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.ok(suspend_agent("triage")).await;
    node.clock.advance(minutes(30 * DAY));
    write(&node).await;
    let node = node.restarted().unwrap();
    let (cut, covered) = node.control.view(|state| {
        let cut = state.cuts().next().unwrap();
        (cut.record, state.covered(cut))
    });
    assert_eq!(covered.len(), 1);
    assert_eq!(covered[0].id, id);
    node.ok(certified(&node, cut)).await;
    assert!(!known(&node, &id));
}

/// A log from when nothing was forgotten says of an instance that its time was over, when its key
/// came back after weeks.
#[tokio::test]
async fn a_late_word_on_a_forgotten_instance_is_read() {
    let check = async |reason, is_read: bool| {
        let node = Node::ready().await;
        let id = node.start("triage", 0).await;
        node.clock.advance(minutes(30 * DAY));
        write(&node).await;
        assert!(!known(&node, &id));
        let event = crate::Event::InstanceEnded(crate::entry::InstanceEnded {
            instance: id,
            reason,
        });
        let draft = event.draft(admin()).unwrap();
        ledger::Log::append(&*node.log, vec![draft]).await.unwrap();
        assert_eq!(node.restarted().is_ok(), is_read, "{reason:?}");
    };
    for reason in EndReason::ALL {
        check(reason, reason.by_time()).await;
    }
}
