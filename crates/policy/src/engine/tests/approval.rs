//! Calls that people have to approve.

use super::*;
use crate::approval::ApprovedBy;

const LARGE: &str = r#"
@id("small") permit (principal, action == Action::"files/read", resource)
when { context.args has head && context.args.head < 10 };
@id("large") @approval("li, group:finance") @reason("Large ones need a second pair of eyes.")
permit (principal, action == Action::"files/read", resource)
when { context has approval && context.args has head && context.args.head < 100 };
"#;

fn by(people: &[(&str, &str)]) -> Approved {
    let by = people.iter().map(|(id, group)| ApprovedBy {
        id: Some(id.parse().unwrap()),
        groups: vec![(*group).to_owned()],
        is_sponsor: *id == "maya",
    });
    Approved {
        record: 7,
        by: by.collect(),
    }
}

fn decided(world: &World, head: i64, approval: impl Into<Option<Approved>>) -> Decision {
    let mut facts = facts("files/read", &json!({"path": "/a", "head": head}));
    facts.approval = approval.into();
    world.engine.decide(&facts)
}

#[test]
fn what_an_approval_would_permit_is_held_and_nothing_else() {
    let world = World::new(LARGE);
    assert_eq!(decided(&world, 5, None).effect(), Effect::Allow);
    let Decision::Hold(hold) = decided(&world, 50, None) else {
        panic!("not held");
    };
    assert_eq!(hold.policies(), ["large"]);
    assert_eq!(hold.reason(), "Large ones need a second pair of eyes.");
    assert_eq!(hold.needs().to_string(), "li, group:finance");
    let verdict = hold.verdict();
    assert_eq!(
        (verdict.effect, verdict.stage),
        (Effect::Hold, Some(Stage::Approval))
    );
    let denied = decided(&world, 500, None).verdict();
    assert_eq!(
        (denied.effect, denied.stage),
        (Effect::Deny, Some(Stage::Policy))
    );
}

#[test]
fn who_may_approve_decides_whether_it_is_permitted() {
    let world = World::new(LARGE);
    for (people, effect) in [
        (&[("li", "")][..], Effect::Allow),
        (&[("sam", "finance")], Effect::Allow),
        (&[("sam", "sales")], Effect::Hold),
        (&[("sam", "sales"), ("li", "")], Effect::Allow),
        (&[], Effect::Hold),
        // She is the caller's sponsor.
        (&[("maya", "finance")], Effect::Hold),
    ] {
        assert_eq!(
            decided(&world, 50, by(people)).effect(),
            effect,
            "{people:?}"
        );
    }
    let all = by(&[("li", "finance")]);
    assert_eq!(
        decided(&world, 500, all).effect(),
        Effect::Deny,
        "and no more"
    );
    let Decision::Permit(permit) = decided(&world, 50, by(&[("li", "")])) else {
        panic!("not permitted");
    };
    assert_eq!(permit.policies(), ["large"]);
}

#[test]
fn a_forbid_may_ask_for_an_approval_too() {
    let world = World::new(
        r#"
        @id("all") permit (principal, action, resource);
        @id("two") @approval("2 of group:finance")
        forbid (principal, action == Action::"files/read", resource)
        when { context.args has head && context.args.head > 10 } unless { context has approval };
        "#,
    );
    assert_eq!(decided(&world, 5, None).effect(), Effect::Allow);
    let Decision::Hold(hold) = decided(&world, 50, None) else {
        panic!("not held");
    };
    assert_eq!(
        (hold.policies(), hold.needs().to_string()),
        (&["two".to_owned()][..], "2 of group:finance".to_owned())
    );
    let one = by(&[("li", "finance")]);
    assert_eq!(decided(&world, 50, one).effect(), Effect::Hold);
    let two = by(&[("li", "finance"), ("sam", "finance")]);
    assert_eq!(decided(&world, 50, two).effect(), Effect::Allow);
}

#[test]
fn every_forbid_is_to_be_met_and_one_permit() {
    let world = World::new(
        r#"
        @id("a") @approval("ann") permit (principal, action, resource) when { context has approval };
        @id("b") @approval("bob") permit (principal, action, resource) when { context has approval };
        @id("c") @approval("cid") forbid (principal, action, resource) unless { context has approval };
        @id("d") @approval("dan") forbid (principal, action, resource) unless { context has approval };
        "#,
    );
    let Decision::Hold(hold) = decided(&world, 1, None) else {
        panic!("not held");
    };
    assert_eq!(hold.policies(), ["a", "b", "c", "d"]);
    assert_eq!(hold.needs().to_string(), "ann, or bob; and cid; and dan");
    for (people, effect) in [
        (&["ann", "bob", "cid"][..], Effect::Hold),
        (&["cid", "dan"], Effect::Hold),
        (&["ann", "cid", "dan"], Effect::Allow),
        (&["bob", "cid", "dan"], Effect::Allow),
    ] {
        let people: Vec<_> = people.iter().map(|id| (*id, "")).collect();
        assert_eq!(
            decided(&world, 1, by(&people)).effect(),
            effect,
            "{people:?}"
        );
    }
}

#[test]
fn no_approval_stands_above_anything_else() {
    let world = World::new(&format!(
        "{LARGE} @id(\"never\") forbid (principal, action, resource) when {{ context.args.path like \"/etc/*\" }};"
    ));
    let mut facts = facts("files/read", &json!({"path": "/etc/a", "head": 50}));
    facts.approval = Some(by(&[("li", "")]));
    let denied = world.engine.decide(&facts).verdict();
    assert_eq!(
        (denied.effect, denied.policies),
        (Effect::Deny, vec!["never".to_owned()])
    );
    facts.args = serde_json::value::to_raw_value(&json!({"path": "/a", "head": 50})).unwrap();
    facts.standing = Some("suspended".to_owned());
    assert_eq!(
        world.engine.decide(&facts).verdict().stage,
        Some(Stage::Standing)
    );
    facts.standing = None;
    facts.limit = Some("too many".to_owned());
    assert_eq!(
        world.engine.decide(&facts).verdict().stage,
        Some(Stage::Limit)
    );
    facts.limit = None;
    facts.instance.authority = Some(vec!["web/*".to_owned()]);
    assert_eq!(
        world.engine.decide(&facts).verdict().stage,
        Some(Stage::Authority)
    );
}

#[test]
fn what_is_only_observed_is_not_held() {
    let world = World::new(LARGE);
    let mut facts = facts("files/read", &json!({"path": "/a", "head": 50}));
    facts.observe = true;
    let Decision::Permit(permit) = world.engine.decide(&facts) else {
        panic!("not permitted");
    };
    assert_eq!(permit.observed().unwrap().stage, Stage::Approval);
    assert!(
        permit
            .reason()
            .starts_with("Only observed, not enforced: Large")
    );
}

#[test]
fn a_tool_that_would_be_held_is_shown() {
    let world = World::new(LARGE);
    let facts = facts("files/read", &json!({}));
    let read = "read".parse().unwrap();
    assert!(
        world
            .engine
            .visible(&facts.instance, &facts.upstream, &read)
    );
}

#[test]
fn an_approval_that_nobody_asks_for_or_nobody_could_give_is_an_error() {
    let all = "permit (principal, action, resource)";
    for (policy, message) in [
        (format!("@approval(\"li\") {all};"), "holds nothing"),
        (
            format!("{all} when {{ context has approval }};"),
            "nobody is named",
        ),
        (
            format!("@approval(\"li,\") {all} when {{ context has approval }};"),
            "`@approval`: nobody is named",
        ),
        (
            format!("@approval(\"\") {all} when {{ context has approval }};"),
            "is empty",
        ),
    ] {
        let file = PolicyFile {
            name: "p.cedar".to_owned(),
            text: policy.clone(),
        };
        let problems = PolicySet::parse(vec![file]).unwrap_err();
        assert!(
            problems.iter().any(|it| it.message.contains(message)),
            "{policy}: {problems:?}"
        );
    }
}

#[test]
fn what_any_reading_of_a_name_asks_for_is_asked_for() {
    let world = World::new(
        r#"
        @id("all") permit (principal, action, resource);
        @id("ops") @approval("ann") forbid (principal, action, resource)
        when { principal.sponsor.groups.contains("ops") } unless { context has approval };
        @id("not-ops") @approval("bob") forbid (principal, action, resource)
        unless { principal.sponsor.groups.contains("ops") || context has approval };
        "#,
    );
    let mut facts = facts("files/read", &json!({"path": "/a"}));
    facts.instance.perhaps_groups = vec!["ops".to_owned()];
    let Decision::Hold(hold) = world.engine.decide(&facts) else {
        panic!("not held");
    };
    assert_eq!(hold.policies(), ["not-ops", "ops"]);
    assert_eq!(hold.needs().to_string(), "ann; and bob");
    for (people, effect) in [
        (&[("ann", "")][..], Effect::Hold),
        (&[("bob", "")], Effect::Hold),
        (&[("ann", ""), ("bob", "")], Effect::Allow),
    ] {
        facts.approval = Some(by(people));
        assert_eq!(world.engine.decide(&facts).effect(), effect, "{people:?}");
    }
}

/// A policy of the property below: its effect, whether its condition holds, and whether it asks.
fn some_policy() -> impl Strategy<Value = (bool, bool, bool)> {
    (any::<bool>(), any::<bool>(), any::<bool>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Held is exactly what would be permitted with an approval and is not without one; and with
    /// everybody's approval that is permitted.
    #[test]
    fn hold_is_exactly_what_an_approval_would_permit(
        policies in proptest::collection::vec(some_policy(), 0..6),
    ) {
        let mut text = String::new();
        for (nth, (is_permit, holds, asks)) in policies.iter().enumerate() {
            let effect = if *is_permit { "permit" } else { "forbid" };
            let holds = if *holds { "<" } else { ">" };
            let (annotation, clause) = match (asks, is_permit) {
                (false, _) => ("", ""),
                (true, true) => ("@approval(\"li\")", " && context has approval"),
                (true, false) => ("@approval(\"li\")", " && !(context has approval)"),
            };
            let policy = format!(
                "@id(\"p{nth}\") {annotation} {effect} (principal, action, resource) \
                 when {{ 1 {holds} 2{clause} }};\n"
            );
            text.push_str(&policy);
        }
        let permitted = |approved: bool| {
            let applies = |it: &&(bool, bool, bool)| it.1 && (!it.2 || it.0 == approved);
            let mut applying = policies.iter().filter(applies);
            let forbidden = applying.clone().any(|it| !it.0);
            applying.any(|it| it.0) && !forbidden
        };
        let expected = match (permitted(false), permitted(true)) {
            (true, _) => Effect::Allow,
            (false, true) => Effect::Hold,
            (false, false) => Effect::Deny,
        };
        let world = World::new(&text);
        prop_assert_eq!(decided(&world, 1, None).effect(), expected, "{}", text);
        let with = decided(&world, 1, by(&[("li", "")])).effect();
        let then = if expected == Effect::Hold { Effect::Allow } else { expected };
        prop_assert_eq!(with, then, "{}", text);
    }
}
