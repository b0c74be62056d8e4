//! What inspection saw, what is asked to be masked, and what was read before.

use vocab::finding::{Class, Confidence};

use super::*;
use crate::{Direction, Found, Masks, Replay, replay};

fn found(class: Class, rule: &str) -> Found {
    Found {
        class,
        rule: rule.to_owned(),
        confidence: Confidence::High,
        count: 1,
    }
}

fn secret() -> Found {
    found(Class::Secret, "aws-access-key-id")
}

fn card() -> Found {
    found(Class::Personal, "card")
}

fn reading(findings: &[Found]) -> Facts {
    let mut facts = facts("files/read", &json!({"path": "/a"}));
    facts.findings = findings.to_vec();
    facts
}

/// Policies, facts, and what is answered: effect, policies, masks.
fn check_masked(policies: &str, facts: &Facts, expected: (Effect, &[&str], &str)) {
    let world = World::new(policies);
    let verdict = world.engine.decide(facts).verdict();
    let masks = Vec::from(verdict.masks.clone()).join(", ");
    let ids: Vec<&str> = verdict.policies.iter().map(String::as_str).collect();
    let (effect, policies_expected, masks_expected) = expected;
    assert_eq!(
        (verdict.effect, ids.as_slice(), masks.as_str()),
        (effect, policies_expected, masks_expected),
        "{policies}\n{facts:?}\n{verdict:?}\n{:?}",
        world.engine.diagnostics()
    );
    assert_eq!(replay(facts, &world.engine, &verdict), Replay::Same);
}

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

fn all_but(forbid: &str) -> String {
    format!("{ALL}@id(\"no\") {forbid}")
}

#[test]
fn policies_see_what_was_found() {
    let check = |condition: &str, findings: &[Found], effect| {
        let policies = all_but(&format!(
            "forbid (principal, action, resource) when {{ {condition} }};"
        ));
        let ids: &[&str] = if effect == Effect::Allow {
            &["all"]
        } else {
            &["no"]
        };
        check_masked(&policies, &reading(findings), (effect, ids, ""));
    };
    let contains = |text: &str| format!("context.findings.contains(\"{text}\")");
    for text in [
        "secret",
        "secret/aws-access-key-id",
        "secret:high",
        "secret:low",
    ] {
        check(&contains(text), &[secret()], Effect::Deny);
        check(&contains(text), &[card()], Effect::Allow);
        check(&contains(text), &[], Effect::Allow);
    }
    check("!context.findings.isEmpty()", &[card()], Effect::Deny);
    let response = "context.direction == \"response\"";
    check(response, &[card()], Effect::Allow);
    let mut back = reading(&[card()]);
    back.direction = Direction::Response;
    let policies = all_but(&format!(
        "forbid (principal, action, resource) when {{ {response} }};"
    ));
    check_masked(&policies, &back, (Effect::Deny, &["no"], ""));
}

#[test]
fn a_permit_says_what_is_masked() {
    let masking = r#"
        @id("a") @mask("secret") permit (principal, action, resource);
        @id("b") @mask("personal/card, stable") permit (principal, action, resource);
        @id("c") @mask("injection") permit (principal, action, resource) when { context.proven == false };"#;
    // The obligation is there whether something was found or not: more may come back.
    let masks = "secret, personal/card, stable";
    let expected = (Effect::Allow, &["a", "b"][..], masks);
    check_masked(masking, &reading(&[]), expected);
    check_masked(masking, &reading(&[secret()]), expected);
}

#[test]
fn a_forbid_that_asks_for_a_mask_gives_way_to_it_and_to_nothing_else() {
    let masking = r#"@mask("secret, personal") forbid (principal, action, resource)
        when { context.findings.containsAny(["secret", "personal"]) };"#;
    let check = |forbids: &str, findings: &[Found], expected| {
        check_masked(&all_but(forbids), &reading(findings), expected);
    };
    let masks = "secret, personal";
    check(masking, &[], (Effect::Allow, &["all"], ""));
    check(masking, &[card()], (Effect::Allow, &["all"], masks));
    let both = [secret(), card()];
    check(masking, &both, (Effect::Allow, &["all"], masks));
    // What is masked is less than what is forbidden.
    let less = r#"@mask("personal") forbid (principal, action, resource)
        when { context.findings.containsAny(["secret", "personal"]) };"#;
    check(less, &both, (Effect::Deny, &["no"], ""));
    check(less, &[card()], (Effect::Allow, &["all"], "personal"));
    // Another forbid stands all the same.
    let other = format!(
        "{masking} @id(\"other\") forbid (principal, action, resource) when {{ context.args.path == \"/a\" }};"
    );
    check(&other, &both, (Effect::Deny, &["no", "other"], ""));
    // Nothing permits it.
    let alone = format!("@id(\"no\") {masking}");
    check_masked(&alone, &reading(&both), (Effect::Deny, &["no"], ""));
}

#[test]
fn what_cannot_be_masked_is_not_permitted() {
    let permit = r#"@id("all") @mask("secret") permit (principal, action, resource);"#;
    let forbid = all_but(
        r#"@mask("secret") forbid (principal, action, resource)
        when { context.findings.contains("secret") };"#,
    );
    for (policies, by) in [(permit, "all"), (&forbid, "no")] {
        let mut facts = reading(&[secret()]);
        facts.elsewhere = true;
        check_masked(policies, &facts, (Effect::Deny, &[by], ""));
        facts.findings = vec![card()];
        assert_eq!(
            World::new(policies).engine.decide(&facts).effect(),
            Effect::Allow
        );
    }
}

/// Whoever acts on the answer masks nothing, and nobody looked where the secret may be.
#[test]
fn who_sends_more_than_is_looked_into_gets_no_unmasked_yes_elsewhere() {
    let permit = r#"@id("all") @mask("secret") permit (principal, action, resource);"#;
    let plain = r#"@id("all") permit (principal, action, resource);"#;
    for rule in ["budget", "size", "depth"] {
        let rule = format!("uninspectable-{rule}");
        let mut facts = reading(&[found(Class::Uninspectable, &rule)]);
        check_masked(permit, &facts, (Effect::Allow, &["all"], "secret"));
        facts.elsewhere = true;
        check_masked(permit, &facts, (Effect::Deny, &["all"], ""));
        check_masked(plain, &facts, (Effect::Allow, &["all"], ""));
    }
}

#[test]
fn a_mask_and_an_approval_are_asked_for_together() {
    let policies = all_but(
        r#"@mask("secret") forbid (principal, action, resource)
            when { context.findings.contains("secret") };
        @id("ask") @approval("li") forbid (principal, action, resource)
            unless { context has approval };"#,
    );
    let world = World::new(&policies);
    let mut facts = reading(&[secret()]);
    let Decision::Hold(hold) = world.engine.decide(&facts) else {
        panic!("not held");
    };
    assert_eq!(hold.policies(), ["ask"]);
    facts.approval = Some(Approved {
        record: 7,
        by: vec![crate::ApprovedBy {
            id: Some("li".parse().unwrap()),
            groups: Vec::new(),
            is_sponsor: false,
        }],
    });
    check_masked(&policies, &facts, (Effect::Allow, &["all"], "secret"));
    // An approval is none of what is forbidden without one.
    facts.findings.push(card());
    let more = format!(
        "{policies} @id(\"card\") forbid (principal, action, resource) \
         when {{ context.findings.contains(\"personal\") }};"
    );
    let denied = World::new(&more).engine.decide(&facts).verdict();
    assert_eq!(denied.policies, ["ask", "card", "no"]);
}

#[test]
fn what_was_read_can_stop_what_is_sent() {
    let policies = all_but(
        r#"forbid (principal, action in Action::"web", resource)
            when { context.labels.contains("customer-data") };"#,
    );
    let mut facts = facts("web/fetch", &json!({"url": "https://example.com/"}));
    check_masked(&policies, &facts, (Effect::Allow, &["all"], ""));
    facts.labels.insert("customer-data".to_owned());
    check_masked(&policies, &facts, (Effect::Deny, &["no"], ""));
}

#[test]
fn facts_without_findings_are_written_as_they_always_were() {
    let facts = reading(&[]);
    let json = serde_json::to_value(&facts).unwrap();
    for name in ["findings", "direction", "elsewhere", "labels"] {
        assert!(json.get(name).is_none(), "{name}");
    }
    let again: Facts = serde_json::from_value(json).unwrap();
    assert!(again.findings.is_empty() && again.direction == Direction::Request);
    let mut facts = reading(&[card()]);
    facts.direction = Direction::Response;
    facts.labels.insert("customer-data".to_owned());
    let json = serde_json::to_value(&facts).unwrap();
    let again: Facts = serde_json::from_value(json).unwrap();
    assert_eq!(
        (again.findings, again.direction, again.labels),
        (facts.findings, facts.direction, facts.labels)
    );
}

/// Whatever was found: what is masked is permitted exactly if it would be without what is masked.
#[test]
fn a_mask_never_permits_what_is_forbidden_of_the_rest() {
    let all = [
        secret(),
        card(),
        found(Class::Personal, "iban"),
        found(Class::Injection, "ignore-previous"),
    ];
    let texts = ["secret", "personal/card", "personal", "injection"];
    for (mask, no) in texts.iter().flat_map(|it| texts.map(|no| (it, no))) {
        let policies = all_but(&format!(
            "@mask(\"{mask}\") forbid (principal, action, resource) \
             when {{ context.findings.contains(\"{no}\") }};"
        ));
        let world = World::new(&policies);
        let masks: Masks = mask.parse().unwrap();
        for which in 0..1_u32 << all.len() {
            let findings = all.iter().enumerate();
            let findings: Vec<Found> = findings
                .filter(|(at, _)| which & 1 << at != 0)
                .map(|(_, found)| found.clone())
                .collect();
            let verdict = world.engine.decide(&reading(&findings)).verdict();
            let covered = |it: &Found| masks.cover(it.class, &it.rule, it.confidence);
            let rest: Vec<Found> = findings.into_iter().filter(|it| !covered(it)).collect();
            let of_rest = world.engine.decide(&reading(&rest)).verdict();
            assert_eq!(verdict.effect, of_rest.effect, "{mask} {no} {which:b}");
            assert!(of_rest.masks.is_empty());
        }
    }
}

#[test]
fn what_needs_no_permit_passes_unless_a_forbid_looks_at_what_was_found() {
    let check = |policies: &str, findings: &[Found], expected: Result<&str, &[&str]>| {
        let world = World::new(policies);
        assert_eq!(world.engine.diagnostics(), []);
        let mut facts = reading(findings);
        // The allow list is about what may be asked for.
        facts.instance.authority = Some(Vec::new());
        facts.target = Called::Method {
            method: "tools/list".to_owned(),
            name_or_uri: None,
        };
        let passed = world.engine.pass(&facts);
        let passed = passed.map(|free| Vec::from(free.masks).join(", "));
        let expected = expected.map(ToOwned::to_owned);
        let denied = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            passed.map_err(|denial| denial.policies),
            expected.map_err(denied),
            "{policies}"
        );
    };
    let no = r#"@id("no") forbid (principal, action, resource)
        when { context.findings.contains("injection") };"#;
    let injected = [found(Class::Injection, "ignore-previous")];
    check("", &injected, Ok(""));
    check(ALL, &injected, Ok(""));
    check(no, &injected, Err(&["no"]));
    check(no, &[card()], Ok(""));
    check(
        &format!("@mask(\"injection\") {no}"),
        &injected,
        Ok("injection"),
    );
    let named = r#"@id("no") forbid (principal, action == Action::"files:free", resource)
        when { context.args has name && context.args.name == "tools/list"
            && !context.findings.isEmpty() };"#;
    check(named, &injected, Err(&["no"]));
    check(
        &named.replace("tools/list", "prompts/list"),
        &injected,
        Ok(""),
    );
    // What is asked for is another matter.
    let other = r#"@id("no") @approval("li") forbid (principal, action, resource)
        unless { context has approval };"#;
    check(other, &injected, Ok(""));
    let stopped = {
        let mut facts = reading(&injected);
        facts.standing = Some("suspended".to_owned());
        World::new(ALL).engine.pass(&facts)
    };
    assert_eq!(stopped.unwrap_err().stage, Stage::Standing);
    assert!(Engine::none().pass(&reading(&injected)).is_err());
}

#[test]
fn nobody_asks_for_what_needs_no_permit_by_its_name() {
    let mut facts = reading(&[]);
    facts.target = Called::Method {
        method: "free".to_owned(),
        name_or_uri: None,
    };
    let denied = World::new(ALL).engine.decide(&facts).verdict();
    assert_eq!(denied.stage, Some(Stage::UnknownTool));
}
