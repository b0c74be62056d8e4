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
        // What the policies say of it, for their own cases.
        facts.observe = false;
        let said = world.engine.decide_as_accepted(&facts).verdict();
        let gone = (state == "gone").then_some(Stage::UnknownTool);
        assert_eq!(said.stage, gone, "{state}");
        let other = facts_of_other(&facts);
        let said = world.engine.decide_as_accepted(&other).verdict();
        assert_eq!(said.stage, gone.or(Some(Stage::Policy)), "{state}");
        let (upstream, tool) = ("files".parse().unwrap(), "read".parse().unwrap());
        let is_seen = world.engine.visible(&facts.instance, &upstream, &tool);
        assert_eq!(is_seen, stage.is_none(), "{state}");
    }
}

/// The same with arguments that no policy permits.
fn facts_of_other(facts: &Facts) -> Facts {
    Facts {
        args: serde_json::value::to_raw_value(&json!({"path": "/b"})).unwrap(),
        ..facts.clone()
    }
}

#[test]
fn a_tool_that_was_not_read_since_the_start_is_denied_whatever_policies_say() {
    let tools = json!([{"name": "read", "inputSchema": {"type": "object",
        "properties": {"path": {"type": "string"}}}}]);
    let world = World::with_tools("permit (principal, action, resource);", &tools);
    let mut facts = facts("files/read", &json!({"path": "/a"}));
    facts.unread = true;
    for observe in [false, true] {
        facts.observe = observe;
        let verdict = world.engine.decide(&facts).verdict();
        assert_eq!(verdict.stage, Some(Stage::ToolsNotRead), "{verdict:?}");
        assert_eq!(verdict.effect, Effect::Deny);
        assert!(verdict.reason.contains("could not be read since"));
        assert_eq!(replay(&facts, &world.engine, &verdict), Replay::Same);
        let again = replay_without_arguments(&facts, &world.engine, &verdict);
        assert_eq!(again, Replay::Same);
    }
    // Who may not act at all is told that.
    facts.standing = Some("the agent is suspended".to_owned());
    let verdict = world.engine.decide(&facts).verdict();
    assert_eq!(verdict.stage, Some(Stage::Standing));
    facts.standing = None;
    facts.unread = false;
    assert_eq!(world.engine.decide(&facts).verdict().effect, Effect::Allow);
}
