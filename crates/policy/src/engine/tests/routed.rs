//! Calls that policy sends to another upstream than was asked.

use super::*;
use crate::approval::ApprovedBy;
use crate::{Direction, Replay, Verdict, replay, replay_without_arguments};

/// `files`, and `sandbox` with a `read` that takes no `head`, a held tool and an unlisted upstream.
fn engine(policies: &str) -> Engine {
    let set = PolicySet::parse(vec![PolicyFile {
        name: "p.cedar".to_owned(),
        text: policies.to_owned(),
    }])
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    let object = |properties: Value| json!({"type": "object", "properties": properties});
    let files = json!([
        {"name": "read", "inputSchema":
            object(json!({"path": {"type": "string"}, "head": {"type": "integer"}}))},
        {"name": "write", "inputSchema": object(json!({}))},
        {"name": "list", "inputSchema": object(json!({}))},
    ]);
    let read = json!({"name": "read", "inputSchema": object(json!({"path": {"type": "string"}}))});
    let held = json!({"name": "write", "dev.tipstaff/pin": {"state": "changed", "seen": read,
        "accepted": {"name": "write", "inputSchema": object(json!({}))}, "doubts": []}});
    let sandbox = json!([read, held]);
    let list = |upstream: &str, tools: &Value| {
        ToolList::pinned(&upstream.parse().unwrap(), tools.to_string().as_bytes()).unwrap()
    };
    let (files, sandbox) = (list("files", &files), list("sandbox", &sandbox));
    let input = |name: &str, tools| UpstreamInput {
        name: name.parse().unwrap(),
        tools,
        options: UpstreamOptions::default(),
    };
    Engine::build(
        &set,
        &[
            input("files", Some(&files)),
            input("sandbox", Some(&sandbox)),
            input("down", None),
        ],
    )
}

const ROUTE: &str = r#"@id("try") @route("sandbox")
permit (principal, action in Action::"files", resource);
"#;

fn read() -> Facts {
    facts("files/read", &json!({"path": "/a"}))
}

/// What is decided, replayed.
fn decided(policies: &str, facts: &Facts) -> Verdict {
    let engine = engine(policies);
    let verdict = engine.decide(facts).verdict();
    assert_eq!(replay(facts, &engine, &verdict), Replay::Same);
    verdict
}

fn to(verdict: &Verdict) -> Option<&str> {
    verdict.routed_to.as_ref().map(UpstreamName::as_str)
}

#[test]
fn a_permit_sends_what_it_permits_elsewhere() {
    let verdict = decided(ROUTE, &read());
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Allow, Some("sandbox"))
    );
    assert_eq!(verdict.policies, ["try"]);
    // Of several permits one is enough, so that a broad one does not undo it.
    let broad = format!("{ROUTE} @id(\"broad\") permit (principal, action, resource);");
    let verdict = decided(&broad, &read());
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Allow, Some("sandbox"))
    );
    assert_eq!(verdict.policies, ["broad", "try"]);
    let elsewhere = decided(&broad, &facts("sandbox/read", &json!({"path": "/a"})));
    assert_eq!((elsewhere.effect, to(&elsewhere)), (Effect::Allow, None));
}

#[test]
fn nothing_is_routed_twice_or_to_where_it_is() {
    let back = r#"@id("back") @route("files") permit (principal, action in Action::"sandbox", resource);
        @id("again") @route("down") permit (principal, action in Action::"sandbox", resource);"#;
    let verdict = decided(&format!("{ROUTE}{back}"), &read());
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Allow, Some("sandbox"))
    );
    let here = r#"@route("files") permit (principal, action, resource);"#;
    let verdict = decided(here, &read());
    assert_eq!((verdict.effect, to(&verdict)), (Effect::Allow, None));
}

#[test]
fn a_route_is_no_way_past_a_forbid_where_it_leads() {
    for (more, stage, policies, words) in [
        (
            r#"@id("closed") @reason("Nobody writes there.") forbid (principal, action in Action::"sandbox", resource);"#,
            "policy",
            &["closed"][..],
            "`sandbox`, where it is denied: Nobody writes there.",
        ),
        (
            r#"@id("closed") forbid (principal, action, resource in Upstream::"sandbox");"#,
            "policy",
            &["closed"],
            "closed",
        ),
        // What cannot be evaluated there denies.
        (
            r#"@id("sum") forbid (principal, action, resource in Upstream::"sandbox")
               when { principal.depth + 9223372036854775807 > 1 };"#,
            "error",
            &["sum"],
            "could not be evaluated",
        ),
    ] {
        let verdict = decided(&format!("{ROUTE}{more}"), &read());
        let at = verdict.stage.map(Stage::as_str);
        assert_eq!((verdict.effect, at), (Effect::Deny, Some(stage)), "{more}");
        assert_eq!(
            (verdict.policies.as_slice(), to(&verdict)),
            (policies_of(policies).as_slice(), Some("sandbox"))
        );
        assert!(verdict.reason.contains(words), "{}", verdict.reason);
    }
}

fn policies_of(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn where_it_leads_has_to_take_the_call() {
    let engine_of = |to: &str| ROUTE.replace("sandbox", to);
    let mut no_list = read();
    no_list.instance.authority = Some(vec!["files/*".to_owned()]);
    let mut cut = read();
    cut.no_route = Some("The upstream `sandbox` is cut off.".to_owned());
    let head = facts("files/read", &json!({"path": "/a", "head": 1}));
    for (policies, facts, stage, words) in [
        (
            engine_of("sandbox"),
            facts("files/list", &json!({})),
            "unknown-tool",
            "no tool `list`",
        ),
        (
            engine_of("sandbox"),
            facts("files/write", &json!({})),
            "quarantined",
            "not the one that was accepted",
        ),
        (engine_of("sandbox"), head, "schema", "head"),
        (engine_of("sandbox"), no_list, "authority", "sandbox"),
        (engine_of("sandbox"), cut, "standing", "is cut off"),
        (
            engine_of("down"),
            read(),
            "policy-unavailable",
            "not known yet",
        ),
        (
            engine_of("nowhere"),
            read(),
            "policy-unavailable",
            "no such upstream",
        ),
    ] {
        let verdict = decided(&policies, &facts);
        let at = verdict.stage.map(Stage::as_str);
        assert_eq!(
            (verdict.effect, at),
            (Effect::Deny, Some(stage)),
            "{}",
            verdict.reason
        );
        assert!(verdict.reason.contains(words), "{}", verdict.reason);
        assert!(
            verdict.reason.starts_with("Policy sends this call to `"),
            "{}",
            verdict.reason
        );
        assert!(to(&verdict).is_some());
        // Where it leads was decided on its arguments.
        let again = replay_without_arguments(&facts, &engine(&policies), &verdict);
        assert_eq!(again, Replay::Bounded);
    }
}

#[test]
fn two_ways_are_none() {
    let two =
        format!("{ROUTE} @id(\"other\") @route(\"down\") permit (principal, action, resource);");
    let verdict = decided(&two, &read());
    assert_eq!(
        (verdict.effect, verdict.stage),
        (Effect::Deny, Some(Stage::Policy))
    );
    assert_eq!(
        (verdict.policies.as_slice(), to(&verdict)),
        (policies_of(&["other", "try"]).as_slice(), None)
    );
    assert!(
        verdict.reason.contains("`down`, `sandbox`"),
        "{}",
        verdict.reason
    );
}

#[test]
fn what_is_not_made_here_or_stays_in_place_is_denied() {
    let mut elsewhere = read();
    elsewhere.elsewhere = true;
    let mut back = read();
    back.direction = Direction::Response;
    let mut asks = read();
    asks.target = crate::Target::Method {
        method: "elicitation/create".to_owned(),
        name_or_uri: None,
    };
    for (facts, words) in [
        (elsewhere, "through the gateway"),
        (back, "it was made elsewhere"),
        (asks, "nothing that can go elsewhere"),
    ] {
        let verdict = decided(ROUTE, &facts);
        assert_eq!(
            (verdict.effect, verdict.stage),
            (Effect::Deny, Some(Stage::Policy))
        );
        assert!(verdict.reason.contains(words), "{}", verdict.reason);
        assert_eq!(verdict.policies, ["try"]);
    }
}

#[test]
fn masks_and_warnings_of_both_sides_hold() {
    let policies = r#"
        @id("try") @route("sandbox") @mask("personal") @warn("Dry run.")
        permit (principal, action in Action::"files", resource);
        @id("there") @mask("injection") @warn("Of the sandbox.")
        permit (principal, action in Action::"sandbox", resource);
        @id("no-secret") @mask("secret")
        forbid (principal, action in Action::"sandbox", resource)
        when { context.findings.contains("secret") };
    "#;
    let mut facts = read();
    let Decision::Permit(permit) = engine(policies).decide(&facts) else {
        panic!("denied");
    };
    assert_eq!(permit.warnings(), ["Dry run.", "Of the sandbox."]);
    assert_eq!(Vec::from(permit.masks().clone()), ["personal", "injection"]);
    facts.findings = serde_json::from_value(
        json!([{"class": "secret", "rule": "r", "confidence": "high", "count": 1}]),
    )
    .unwrap();
    let verdict = decided(policies, &facts);
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Allow, Some("sandbox"))
    );
    assert_eq!(
        Vec::from(verdict.masks),
        ["secret", "personal", "injection"]
    );
    let unmasked = policies.replace("@id(\"no-secret\") @mask(\"secret\")", "@id(\"no-secret\")");
    assert_eq!(decided(&unmasked, &facts).effect, Effect::Deny);
}

#[test]
fn approvals_of_both_sides_are_asked_for() {
    let policies = r#"
        @id("try") @route("sandbox") @approval("li")
        permit (principal, action in Action::"files", resource) when { context has approval };
        @id("sand") @approval("sam")
        forbid (principal, action in Action::"sandbox", resource) unless { context has approval };
    "#;
    let mut facts = read();
    let verdict = decided(policies, &facts);
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Hold, Some("sandbox"))
    );
    assert_eq!(verdict.policies, ["sand", "try"]);
    let by = |ids: &[&str]| {
        let person = |id: &&str| ApprovedBy {
            id: Some(id.parse().unwrap()),
            groups: Vec::new(),
            is_sponsor: false,
        };
        Some(Approved {
            record: 7,
            by: ids.iter().map(person).collect(),
        })
    };
    for (ids, effect) in [
        (&["li"][..], Effect::Hold),
        (&["sam"], Effect::Hold),
        (&["li", "sam"], Effect::Allow),
    ] {
        facts.approval = by(ids);
        let verdict = decided(policies, &facts);
        assert_eq!(
            (verdict.effect, to(&verdict)),
            (effect, Some("sandbox")),
            "{ids:?}"
        );
    }
    // One is asked for where it leads alone.
    let there = policies.replace("@approval(\"li\")\n", "").replacen(
        "when { context has approval }",
        "",
        1,
    );
    facts.approval = None;
    let verdict = decided(&there, &facts);
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Hold, Some("sandbox"))
    );
    assert_eq!(verdict.policies, ["sand"]);
    facts.approval = by(&["sam"]);
    assert_eq!(decided(&there, &facts).effect, Effect::Allow);
}

#[test]
fn what_is_observed_still_goes_where_policy_sends_it_and_heeds_what_holds_there() {
    let mut facts = read();
    facts.observe = true;
    let verdict = decided(ROUTE, &facts);
    assert_eq!((to(&verdict), verdict.observed), (Some("sandbox"), false));
    let closed = r#"@id("closed") forbid (principal, action in Action::"sandbox", resource);"#;
    let verdict = decided(&format!("{ROUTE}{closed}"), &facts);
    assert_eq!(
        (verdict.effect, to(&verdict)),
        (Effect::Deny, Some("sandbox"))
    );
    // What would be held or denied is let pass to where it was asked for.
    let held = r#"@route("sandbox") @approval("li")
        permit (principal, action, resource) when { context has approval };"#;
    let verdict = decided(held, &facts);
    assert_eq!(
        (verdict.effect, to(&verdict), verdict.observed),
        (Effect::Allow, None, true)
    );
}

#[test]
fn a_route_that_depends_on_a_name_that_changed_is_none() {
    let policies = r#"
        @id("a") @route("sandbox") permit (principal, action in Action::"files", resource)
        when { principal.sponsor.groups.contains("trial") };
        @id("b") permit (principal, action in Action::"files", resource);
    "#;
    let mut facts = read();
    assert_eq!(to(&decided(policies, &facts)), None);
    facts.instance.perhaps_groups = vec!["trial".to_owned()];
    let verdict = decided(policies, &facts);
    assert_eq!(
        (verdict.effect, verdict.stage),
        (Effect::Deny, Some(Stage::PolicyUnavailable))
    );
}

#[test]
fn what_came_back_is_decided_by_what_holds_where_it_came_from() {
    let policies = r#"
        @id("try") @route("sandbox") permit (principal, action in Action::"files", resource)
        when { context.findings.contains("secret") };
        @id("no-cards") forbid (principal, action in Action::"sandbox", resource)
        when { context.findings.contains("personal") && context.direction == "response" };
    "#;
    let engine = engine(policies);
    let mut facts = read();
    facts.direction = Direction::Response;
    let sandbox: UpstreamName = "sandbox".parse().unwrap();
    // Nothing permits it there; nothing has to.
    assert_eq!(
        engine.decide_routed(&facts, &sandbox).effect(),
        Effect::Allow
    );
    facts.findings = serde_json::from_value(
        json!([{"class": "personal", "rule": "r", "confidence": "high", "count": 1}]),
    )
    .unwrap();
    assert_eq!(
        engine.decide_routed(&facts, &sandbox).effect(),
        Effect::Deny
    );
}

#[test]
fn a_route_to_nowhere_is_warned_of() {
    let found = engine(&ROUTE.replace("sandbox", "sandbx"));
    let told: Vec<String> = found
        .diagnostics()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("warning: `@route` names `sandbx`"),
        "{told:?}"
    );
    assert!(told[0].contains("`sandbox`"), "{told:?}");
    assert!(engine(ROUTE).diagnostics().is_empty());
}
