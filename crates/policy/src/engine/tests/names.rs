//! Names that can be read in more than one way: what any reading denies is denied.

use std::collections::BTreeMap;

use serde_json::json;

use crate::facts::InstanceFacts;
use crate::replay::{Replay, replay};
use crate::testing::{World, facts};
use crate::{Effect, Facts, Said, Stage};

/// A call by a sponsor who may be one of `perhaps`, and whose groups may be some of `groups`, and
/// what is answered.
fn check(
    policies: &str,
    sponsor: (Option<&str>, &[&str]),
    groups: (&[&str], &[&str]),
    expected: &str,
) {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let call = facts("files/list_dir", &json!({}));
    let call = Facts {
        instance: InstanceFacts {
            sponsor: sponsor.0.map(|id| id.parse().unwrap()),
            perhaps_sponsor: sponsor.1.iter().map(|id| id.parse().unwrap()).collect(),
            sponsor_groups: owned(groups.0),
            perhaps_groups: owned(groups.1),
            ..call.instance
        },
        ..call
    };
    let engine = World::new(policies).engine;
    let verdict = engine.decide(&call).verdict();
    let stage = verdict.stage.map_or("allow", Stage::as_str);
    assert_eq!(stage, expected, "{policies} {groups:?} {verdict:?}");
    assert_eq!(verdict.effect == Effect::Allow, stage == "allow");
    // As it was sealed, it is decided the same.
    let sealed = serde_json::to_string(&call).unwrap();
    let call: Facts = serde_json::from_str(&sealed).unwrap();
    assert_eq!(replay(&call, &engine, &verdict), Replay::Same);
}

const MAYA: (Option<&str>, &[&str]) = (Some("maya"), &[]);

#[test]
fn a_group_that_is_only_perhaps_meant_gets_no_permit_and_every_forbid() {
    let permit = "permit (principal, action, resource) \
                  when { principal.sponsor.groups.contains(\"oncall\") };";
    check(permit, MAYA, (&["oncall"], &[]), "allow");
    check(permit, MAYA, (&[], &["oncall"]), "policy");
    check(permit, MAYA, (&["oncall"], &["oncall"]), "allow");
    let forbid = "permit (principal, action, resource);\n forbid (principal, action, resource) \
                  when { principal.sponsor.groups.contains(\"contractors\") };";
    check(forbid, MAYA, (&[], &[]), "allow");
    check(forbid, MAYA, (&["contractors"], &[]), "policy");
    check(forbid, MAYA, (&[], &["contractors"]), "policy");
    // What says otherwise of those who are not in a group is read both ways as well.
    let unless = "permit (principal, action, resource) \
                  unless { principal.sponsor.groups.contains(\"contractors\") };";
    check(unless, MAYA, (&[], &["contractors"]), "policy");
    let staff = "permit (principal, action, resource);\n forbid (principal, action, resource) \
                 unless { principal.sponsor.groups.contains(\"staff\") };";
    check(staff, MAYA, (&["staff"], &[]), "allow");
    check(staff, MAYA, (&[], &["staff"]), "policy");
}

#[test]
fn every_reading_of_several_names_is_tried() {
    // Neither none nor all of them is denied.
    let one_alone = "permit (principal, action, resource);\n forbid (principal, action, resource) \
                     when { principal.sponsor.groups.contains(\"a\") && \
                            !principal.sponsor.groups.contains(\"b\") };";
    check(one_alone, MAYA, (&[], &[]), "allow");
    check(one_alone, MAYA, (&["a", "b"], &[]), "allow");
    check(one_alone, MAYA, (&[], &["a", "b"]), "policy");
    let all = "permit (principal, action, resource);";
    check(all, MAYA, (&[], &["a", "b", "c"]), "allow");
    check(all, (None, &["x"]), (&[], &["a", "b"]), "allow");
    check(all, (None, &["x", "y", "z"]), (&[], &["a"]), "allow");
    let seven = ["1", "2", "3", "4", "5", "6", "7"];
    check(all, (None, &seven), (&[], &[]), "allow");
    // Each reading costs a whole decision.
    let too_many = |sponsors: &[&str], groups: &[&str]| {
        check(all, (None, sponsors), (&[], groups), "policy-unavailable");
    };
    too_many(&[], &["a", "b", "c", "d"]);
    too_many(&["x"], &["a", "b", "c"]);
    too_many(&["x", "y"], &["a", "b"]);
    too_many(&["1", "2", "3", "4", "5", "6", "7", "8"], &[]);
    let hundred: Vec<String> = (0..100).map(|nth| nth.to_string()).collect();
    let hundred: Vec<&str> = hundred.iter().map(String::as_str).collect();
    too_many(&[], &hundred);
}

#[test]
fn what_observe_mode_does_not_let_pass_is_denied_by_any_reading() {
    // Denied as it is, and what is wrong by the other reading is no denial by policy.
    let policies = "permit (principal, action, resource) \
                    when { principal.sponsor.groups.contains(\"a\") };\n\
                    forbid (principal, action, resource) \
                    when { principal.sponsor.groups.contains(\"a\") && \
                           principal.depth + 9223372036854775807 > 1 };";
    let engine = World::new(policies).engine;
    let ask = |groups: &[&str], perhaps: &[&str]| {
        let mut call = facts("files/list_dir", &json!({}));
        call.observe = true;
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        call.instance.sponsor_groups = owned(groups);
        call.instance.perhaps_groups = owned(perhaps);
        let verdict = engine.decide(&call).verdict();
        (verdict.effect, verdict.stage, verdict.observed)
    };
    let passed = (Effect::Allow, Some(Stage::Policy), true);
    assert_eq!(ask(&[], &[]), passed);
    assert_eq!(ask(&[], &["b"]), passed);
    let denied = (Effect::Deny, Some(Stage::Error), false);
    assert_eq!(ask(&["a"], &[]), denied);
    assert_eq!(ask(&[], &["a"]), denied);
    assert_eq!(ask(&[], &["a", "b"]), denied);
}

#[test]
fn a_sponsor_who_is_only_perhaps_meant_gets_no_permit_and_every_forbid() {
    let permit = "permit (principal, action, resource) \
                  when { principal.sponsor == Sponsor::\"maya\" };";
    check(permit, MAYA, (&[], &[]), "allow");
    check(permit, (None, &["maya"]), (&[], &[]), "policy");
    check(permit, (Some("maya"), &["noor"]), (&[], &[]), "policy");
    let forbid = "permit (principal, action, resource);\n forbid (principal, action, resource) \
                  when { principal.sponsor == Sponsor::\"noor\" };";
    check(forbid, MAYA, (&[], &[]), "allow");
    check(forbid, (None, &["noor"]), (&[], &[]), "policy");
    check(forbid, (Some("maya"), &["noor"]), (&[], &[]), "policy");
}

#[test]
fn what_could_be_a_groups_name_is_found_wherever_it_is() {
    let engine = World::new(
        r#"
@id("plain") permit (principal, action, resource)
when { principal.sponsor.groups.containsAny(["a", "b"]) || ["c"].containsAll(principal.sponsor.groups) };
@id("aside") permit (principal, action, resource)
when { (if principal.depth > 0 then principal.sponsor.groups else ["d"]).contains("e") };
@id("else") permit (principal, action == Action::"files/read", resource)
when { context.args.path == "f" && principal.sponsor in [Sponsor::"maya", Sponsor::"noor"] };
"#,
    )
    .engine;
    for name in ["a", "b", "c", "d", "e"] {
        assert!(engine.says_group(name), "{name}");
    }
    assert!(!engine.says_group("f"));
    assert!(engine.says_sponsor("maya") && engine.says_sponsor("noor"));
    assert!(!engine.says_sponsor("triage"));
    let certain: Vec<_> = engine
        .groups_said()
        .into_iter()
        .filter(|(_, said)| said.for_certain)
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(certain, ["a", "b", "c"]);
}

#[test]
fn those_who_may_approve_are_named_too() {
    let engine = World::new(
        r#"
@id("held") @approval("maya, group:finance, sponsor")
permit (principal, action, resource) when { context has approval };
@id("else") permit (principal, action, resource) when { principal.depth > 9 };
"#,
    )
    .engine;
    let named = |said: BTreeMap<&str, Said<'_>>| {
        let said = said.into_iter();
        let said = said.map(|(name, it)| (name.to_owned(), it.policies.contains("held")));
        said.collect::<Vec<_>>()
    };
    assert_eq!(named(engine.sponsors_said()), [("maya".to_owned(), true)]);
    assert_eq!(named(engine.groups_said()), [("finance".to_owned(), true)]);
    assert_eq!(engine.holding().collect::<Vec<_>>(), ["held"]);
    // No fact has to say them: what approves is settled when people are asked.
    assert!(!engine.says_sponsor("maya") && !engine.says_group("finance"));
}
