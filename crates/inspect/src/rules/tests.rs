use super::*;
use crate::Inspector;

fn refused(text: &str) -> RuleError {
    Rules::parse(text).unwrap_err()
}

fn rule(more: &str) -> String {
    format!("[[rule]]\nid = \"x\"\nclass = \"secret\"\nconfidence = \"low\"\nwhy = \"w\"\n{more}")
}

/// Every rule that ships says why, finds its positive cases and not its negative ones, whether they come
/// as text or in JSON.
#[test]
fn every_rule_keeps_its_word() {
    let inspector = Inspector::built_in().unwrap();
    let mut wrong = Vec::new();
    for rule in inspector.rules() {
        assert!(rule.why().len() > 30, "{rule:?} does not say why");
        assert!(
            !rule.positive.is_empty() && !rule.negative.is_empty(),
            "{rule:?} has no cases"
        );
        for (cases, expected) in [(&rule.positive, true), (&rule.negative, false)] {
            for case in cases {
                let case = case.replace('¦', "");
                let json = serde_json::json!({ "content": [{ "type": "text", "text": case }] });
                let found =
                    |findings: crate::Findings| findings.iter().any(|it| it.rule() == rule.id());
                let as_text = found(inspector.inspect_text(case.as_bytes()));
                let as_json = found(inspector.inspect_json(json.to_string().as_bytes()));
                if as_text != expected || as_json != expected {
                    wrong.push(format!(
                        "{rule:?} on {case:?}: text {as_text}, json {as_json}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_rule_that_is_wrong_is_named() {
    let id = rule("regex = 'a'").replace("\"x\"", "\"X Y\"");
    assert_eq!(
        refused(&id),
        RuleError::Id {
            rule: "X Y".to_owned()
        }
    );
    let rule_x = || "x".to_owned();
    assert_eq!(refused(&rule("")), RuleError::Looks { rule: rule_x() });
    let both = rule("regex = 'a'\ndetector = \"card\"");
    assert_eq!(refused(&both), RuleError::Looks { rule: rule_x() });
    let error = refused(&rule("regex = 'a('"));
    assert!(
        matches!(&error, RuleError::Pattern { rule, pattern, .. } if rule == "x" && pattern == "a(")
    );
    let error = refused(&rule("regex = 'a'\nunless = 'b('"));
    assert!(matches!(&error, RuleError::Pattern { pattern, .. } if pattern == "b("));
    // What runs back is no expression here.
    for pattern in [r"(a)\1", "(?=a)b", "(?<!a)b"] {
        let error = refused(&rule(&format!("regex = '''{pattern}'''")));
        assert!(matches!(error, RuleError::Pattern { .. }), "{pattern}");
    }
    let huge = refused(&rule("regex = '((a{1000}){1000}){1000}'"));
    assert!(matches!(huge, RuleError::Pattern { .. }));
    assert_eq!(
        refused(&rule("regex = '(a)'\ngroup = 2")),
        RuleError::Group {
            rule: rule_x(),
            group: 2,
            groups: 1
        }
    );
    for entropy in ["-1.0", "8.5", "nan"] {
        let error = refused(&rule(&format!("regex = 'a'\nentropy = {entropy}")));
        assert_eq!(error, RuleError::Entropy { rule: rule_x() }, "{entropy}");
    }
    assert_eq!(
        refused(&rule("regex = 'a'\nkeywords = [\"\"]")),
        RuleError::Keyword { rule: rule_x() }
    );
    assert_eq!(
        refused(&rule("regex = 'a'\nstop_words = [\"\"]")),
        RuleError::Keyword { rule: rule_x() }
    );
    let twice = format!("{}\n{}", rule("regex = 'a'"), rule("regex = 'b'"));
    assert_eq!(refused(&twice), RuleError::Twice { rule: rule_x() });
    assert!(
        matches!(refused(&rule("regexp = 'a'")), RuleError::Unreadable { why } if why.contains("regexp"))
    );
    let reserved = rule("regex = 'a'").replace("\"x\"", "\"uninspectable-size\"");
    assert!(matches!(refused(&reserved), RuleError::Twice { .. }));
}

#[test]
fn rules_are_limited_in_length_and_number() {
    let comment = |len: usize| format!("#{}", "x".repeat(len - 1));
    let max = limits::INSPECT_RULES_BYTES_MAX;
    assert!(Rules::parse(&comment(max)).is_ok());
    assert_eq!(
        refused(&comment(max + 1)),
        RuleError::TooLong {
            bytes: max + 1,
            max
        }
    );
    let many = |count: usize| {
        let rule = |at| rule("regex = 'a'").replace("\"x\"", &format!("\"x{at}\""));
        (0..count).map(rule).collect::<Vec<_>>().join("\n")
    };
    let max = limits::INSPECT_RULES_MAX;
    assert!(Rules::parse(&many(max)).is_ok());
    assert_eq!(
        refused(&many(max + 1)),
        RuleError::TooMany {
            count: max + 1,
            max
        }
    );
}

#[test]
fn rules_are_left_out_and_taken_in() {
    let mut rules = Rules::built_in().unwrap();
    let before = rules.iter().count();
    rules.leave_out("jwt").unwrap();
    assert_eq!(
        rules.leave_out("jwt"),
        Err(RuleError::Unknown {
            rule: "jwt".to_owned()
        })
    );
    assert_eq!(rules.iter().count(), before - 1);
    let again = Rules::parse(&rule("regex = 'a'").replace("\"x\"", "\"iban\"")).unwrap();
    assert_eq!(
        rules.add(again),
        Err(RuleError::Twice {
            rule: "iban".to_owned()
        })
    );
    let inspector = Inspector::new(rules).unwrap();
    assert!(inspector.rules().all(|rule| rule.id() != "jwt"));
}
