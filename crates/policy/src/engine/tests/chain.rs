//! What was handed on along a chain, and what policies may say of it.

use vocab::Authority;

use super::*;
use crate::{LinkFacts, Replay, replay, replay_without_arguments};

const ALL: &str = "permit (principal, action, resource);";

fn handed_on(details: &Value) -> Arc<Authority> {
    serde_json::from_value(details.clone()).unwrap()
}

fn tool(identifier: &str, arguments: &Value) -> Value {
    json!([{"type": "mcp_tool", "locations": ["files"], "identifier": identifier,
        "arguments": arguments}])
}

fn link(authority: Option<&[&str]>, details: Option<&Value>) -> LinkFacts {
    LinkFacts {
        authority: authority.map(|lines| lines.iter().map(ToString::to_string).collect()),
        handed_on: details.map(handed_on),
    }
}

fn called(call: &str, args: &Value, own: Option<&Value>, above: &[LinkFacts]) -> Facts {
    let mut facts = facts(call, args);
    facts.instance.handed_on = own.map(handed_on);
    facts.instance.above = above.to_vec();
    facts
}

fn check(facts: &Facts, expected: (Option<Stage>, &str)) {
    let verdict = World::new(ALL).engine.decide(facts).verdict();
    assert_eq!(verdict.stage, expected.0, "{verdict:?}");
    assert!(verdict.reason.contains(expected.1), "{verdict:?}");
}

#[test]
fn each_link_of_the_chain_must_permit() {
    let below = |prefix: &str| tool("read", &json!({"path": {"prefix": prefix}}));
    let read = |path: &str| json!({"path": path});
    let (all, a, b) = (tool("*", &json!({})), below("/a/"), below("/a/b/"));
    let yes = (None, "Permitted");
    let no = (
        Some(Stage::Authority),
        "These arguments of `files/read` are not",
    );
    let never = (Some(Stage::Authority), "`files/list_dir` is not part of");
    let call = "files/read";
    check(&called(call, &read("/x"), None, &[]), yes);
    check(&called(call, &read("/a/x"), Some(&a), &[]), yes);
    check(&called(call, &read("/x"), Some(&a), &[]), no);
    // Whatever the last link says, what those above it may not do stays so.
    check(
        &called(call, &read("/a/x"), Some(&all), &[link(None, Some(&b))]),
        no,
    );
    check(
        &called(
            call,
            &read("/a/x"),
            None,
            &[link(None, Some(&b)), link(None, None)],
        ),
        no,
    );
    check(
        &called(call, &read("/a/b/x"), Some(&a), &[link(None, Some(&b))]),
        yes,
    );
    check(&called("files/list_dir", &json!({}), Some(&a), &[]), never);
    check(
        &called("files/list_dir", &json!({}), None, &[link(None, Some(&a))]),
        never,
    );
    // And so does what their agents may never do.
    let listed = (Some(Stage::Authority), "beyond what this agent may ever do");
    check(
        &called(
            call,
            &read("/a/x"),
            None,
            &[link(Some(&["files/list_*"]), None)],
        ),
        listed,
    );
    check(
        &called(
            call,
            &read("/a/x"),
            None,
            &[link(Some(&["files/r*"]), None)],
        ),
        yes,
    );
}

#[test]
fn what_is_handed_on_is_tools() {
    let mut facts = called("files/read", &json!({}), Some(&tool("*", &json!({}))), &[]);
    facts.target = Called::Method {
        method: "resources/read".to_owned(),
        name_or_uri: Some("file:///a".to_owned()),
    };
    check(
        &facts,
        (
            Some(Stage::Authority),
            "`files:resources/read` is not part of",
        ),
    );
    facts.instance.handed_on = None;
    check(&facts, (None, "Permitted"));
}

/// A path that leads elsewhere is refused before anybody asks what it begins with.
#[test]
fn a_path_that_climbs_out_is_not_what_was_handed_on() {
    let own = tool("read", &json!({"path": {"prefix": "/a/"}}));
    for path in ["/a/../etc", "/a/%2e%2e/etc", "/a/..\\etc"] {
        let facts = called("files/read", &json!({"path": path}), Some(&own), &[]);
        check(&facts, (Some(Stage::Canonical), "not a canonical path"));
    }
    // Of another argument, its name does not say that it is a path.
    let own = tool("write-file", &json!({"text": {"prefix": "/a/"}}));
    let args = json!({"path": "/x", "text": "/a/../etc"});
    let facts = called("files/write-file", &args, Some(&own), &[]);
    check(&facts, (Some(Stage::Authority), "These arguments"));
}

/// Who may not is told which argument it is, of what its own token shows it; and nothing of what was
/// handed on to others.
#[test]
fn the_argument_is_named_of_ones_own_details_alone() {
    let own = tool("read", &json!({"path": {"prefix": "/a/"}}));
    let other = json!({"path": "/x"});
    let facts = called("files/read", &other, Some(&own), &[]);
    check(
        &facts,
        (Some(Stage::Authority), "The argument `path` is not as"),
    );
    let facts = called("files/read", &other, None, &[link(None, Some(&own))]);
    check(
        &facts,
        (
            Some(Stage::Authority),
            "handed on to this instance. Ask whoever",
        ),
    );
}

/// Observing lets pass what policy denies, and nothing that was not handed on.
#[test]
fn observing_hands_on_nothing() {
    let own = tool("read", &json!({"path": {"prefix": "/a/"}}));
    let mut facts = called("files/read", &json!({"path": "/x"}), Some(&own), &[]);
    facts.observe = true;
    check(&facts, (Some(Stage::Authority), "These arguments"));
}

#[test]
fn a_listing_shows_what_was_handed_on() {
    let world = World::new(ALL);
    let seen = |facts: &Facts| -> Vec<&str> {
        let visible = |tool: &&str| {
            let (upstream, tool) = ("files".parse().unwrap(), tool.parse().unwrap());
            world.engine.visible(&facts.instance, &upstream, &tool)
        };
        ["read", "list_dir", "write-file"]
            .into_iter()
            .filter(visible)
            .collect()
    };
    let none = json!({});
    assert_eq!(seen(&called("files/read", &none, None, &[])).len(), 3);
    let own = tool("read", &json!({"path": {"prefix": "/a/"}}));
    assert_eq!(
        seen(&called("files/read", &none, Some(&own), &[])),
        ["read"]
    );
    let above = [link(Some(&["files/*e*"]), Some(&tool("*e", &json!({}))))];
    assert_eq!(
        seen(&called("files/read", &none, None, &above)),
        ["write-file"]
    );
    let method = |facts: &Facts| {
        let upstream = "files".parse().unwrap();
        world
            .engine
            .visible_method(&facts.instance, &upstream, "resources/read")
    };
    assert!(method(&called("files/read", &none, None, &[])));
    assert!(!method(&called("files/read", &none, Some(&own), &[])));
}

#[test]
fn policies_speak_of_the_chain() {
    let decide = |condition: &str, root: Option<&str>| {
        let world = World::new(&format!(
            "permit (principal, action, resource) when {{ {condition} }};"
        ));
        let mut facts = facts("files/read", &json!({"path": "/a"}));
        facts.instance.root_purpose = root.map(|root| root.parse().unwrap());
        world.engine.decide(&facts).effect()
    };
    let root = "principal.root_purpose == \"triage\"";
    assert_eq!(decide(root, Some("triage")), Effect::Allow);
    assert_eq!(decide(root, Some("other")), Effect::Deny);
    // Old facts do not say; then it is the caller's.
    assert_eq!(
        decide("principal.root_purpose == \"triage/refunds\"", None),
        Effect::Allow
    );
    assert_eq!(decide("principal.depth < 2", None), Effect::Allow);
    assert_eq!(
        decide("principal.ancestors.contains(Agent::\"front\")", None),
        Effect::Allow
    );
    assert_eq!(
        decide("principal.ancestors.contains(Agent::\"triage\")", None),
        Effect::Deny
    );
}

#[test]
fn decisions_by_what_was_handed_on_are_made_again() {
    let engine = World::new(ALL).engine;
    let own = tool("read", &json!({"path": {"prefix": "/a/"}}));
    let mut facts = called(
        "files/read",
        &json!({"path": "/x"}),
        Some(&own),
        &[link(None, None)],
    );
    let recorded = engine.decide(&facts).verdict();
    let text = serde_json::to_string(&facts).unwrap();
    let again: Facts = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    assert_eq!(replay(&again, &engine, &recorded), Replay::Same);
    // Without its arguments nobody can say.
    facts.args = serde_json::value::RawValue::NULL.to_owned();
    assert_eq!(
        replay_without_arguments(&facts, &engine, &recorded),
        Replay::Bounded
    );
    facts.instance.handed_on = None;
    assert!(matches!(
        replay_without_arguments(&facts, &engine, &recorded),
        Replay::Different(_)
    ));
}
