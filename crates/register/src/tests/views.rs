//! What `--json` shows: `tests/views.json`.

use super::*;
use crate::view::Status;

#[tokio::test]
async fn views_have_the_shapes_that_scripts_rely_on() {
    let node = Node::ready().await;
    node.ok(add_sponsor("noor")).await;
    node.ok(add_agent("held", "noor")).await;
    for (agent, key) in [("triage", 0), ("triage", 1), ("held", 0)] {
        node.start(agent, key).await;
    }
    node.ok(suspend_sponsor("noor")).await;
    let first = node.control.view(|state| state.instances()[0].id.clone());
    node.ok(end(&first, EndReason::Revoked)).await;
    let now = node.now();
    let found = node.control.view(|state| {
        serde_json::to_string_pretty(&json!({
            "sponsors": state.sponsor_views(),
            "agents": state.agent_views(now),
            "instances": state.instance_views(now),
        }))
        .unwrap()
            + "\n"
    });
    let golden = include_str!("../../tests/views.json");
    assert!(found == golden, "tests/views.json should be:\n{found}");
}

/// The shown status of an instance after a command.
async fn check(command: impl FnOnce(&InstanceId) -> Command, expected: Status) {
    let node = Node::ready().await;
    let id = node.start("triage", 0).await;
    node.ok(command(&id)).await;
    let now = node.now();
    let found = node.control.view(|state| {
        state
            .instance_view(state.instance(&id).unwrap(), now)
            .status
    });
    assert_eq!(found, expected);
}

#[tokio::test]
async fn the_shown_status_folds_in_what_stands_above() {
    check(|_| configure("other"), Status::Active).await;
    check(|_| suspend_agent("triage"), Status::Suspended).await;
    check(|_| suspend_sponsor("maja"), Status::Suspended).await;
    check(|_| retire_agent("triage"), Status::Retired).await;
    check(|id| end(id, EndReason::Revoked), Status::Revoked).await;
    check(|id| end(id, EndReason::Closed), Status::Ended).await;
    check(|id| end(id, EndReason::Idle), Status::Expired).await;
}

#[tokio::test]
async fn an_agent_shows_since_when_its_status_holds() {
    let node = Node::ready().await;
    node.clock.advance(minutes(5));
    node.ok(suspend_sponsor("maja")).await;
    let view = || {
        let now = node.now();
        let views = node
            .control
            .view(|state| (state.agent_views(now), state.sponsor_views()));
        (views.0[0].since, views.1[0].since)
    };
    let (agent, sponsor) = view();
    assert_eq!(agent, sponsor);
    node.clock.advance(minutes(5));
    node.ok(suspend_agent("triage")).await;
    let (agent, sponsor) = view();
    assert!(agent > sponsor);
}
