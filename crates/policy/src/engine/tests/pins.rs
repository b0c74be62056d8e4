//! Tools that are held.

use super::*;
use crate::{Replay, replay, replay_without_arguments};

#[test]
fn a_held_tool_is_denied_and_not_seen_and_policies_are_judged_by_what_was_accepted() {
    let accepted = json!({"name": "read", "inputSchema": {"type": "object",
        "properties": {"path": {"type": "string"}}, "required": ["path"]}});
    let listed = json!({"name": "read", "inputSchema": {"type": "object",
        "properties": {"file": {"type": "string"}}, "required": ["file"]}});
    let policies = r#"permit (principal, action == Action::"files/read", resource)
        when { context.args.path == "/a" };"#;
    let pin = |state: &str| {
        json!([{"name": "read", "dev.tipstaff/pin":
        {"state": state, "accepted": accepted, "seen": listed, "doubts": []}}])
    };
    for (state, stage, words) in [
        ("accepted", None, ""),
        (
            "new",
            Some(Stage::Quarantined),
            "nobody has accepted it yet",
        ),
        (
            "changed",
            Some(Stage::Quarantined),
            "not the one that was accepted",
        ),
        ("refused", Some(Stage::Quarantined), "was refused"),
        // What a later version may say is no less held.
        (
            "otherwise",
            Some(Stage::Quarantined),
            "nobody has accepted it yet",
        ),
        ("gone", Some(Stage::UnknownTool), "has no tool"),
    ] {
        let world = World::with_tools(policies, &pin(state));
        let problems = world.engine.diagnostics();
        assert_eq!(problems.is_empty(), state != "gone", "{state} {problems:?}");
        let mut facts = facts("files/read", &json!({"path": "/a"}));
        for observe in [false, true] {
            facts.observe = observe;
            let verdict = world.engine.decide(&facts).verdict();
            assert_eq!(verdict.stage, stage, "{state}: {verdict:?}");
            assert!(verdict.reason.contains(words), "{verdict:?}");
            assert_eq!(verdict.effect == Effect::Deny, stage.is_some());
            assert_eq!(replay(&facts, &world.engine, &verdict), Replay::Same);
            if stage.is_some() {
                let again = replay_without_arguments(&facts, &world.engine, &verdict);
                assert_eq!(again, Replay::Same);
            }
        }
        let (upstream, tool) = ("files".parse().unwrap(), "read".parse().unwrap());
        let is_seen = world.engine.visible(&facts.instance, &upstream, &tool);
        assert_eq!(is_seen, stage.is_none(), "{state}");
    }
}
