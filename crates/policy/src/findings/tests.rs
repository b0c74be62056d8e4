use Class::{Injection, Personal, Secret};
use Confidence::{High, Low, Medium};

use super::*;

fn found(class: Class, rule: &str, confidence: Confidence) -> Found {
    let rule = rule.to_owned();
    Found {
        class,
        rule,
        confidence,
        count: 1,
    }
}

#[test]
fn policies_see_the_class_the_rule_and_how_sure_it_is_at_least() {
    let check = |confidence, expected: &[&str]| {
        let found = found(Personal, "card", confidence);
        let texts = texts(std::iter::once(&found));
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        assert_eq!(texts, expected);
    };
    check(Low, &["personal", "personal/card", "personal:low"]);
    check(
        High,
        &[
            "personal",
            "personal/card",
            "personal:low",
            "personal:medium",
            "personal:high",
        ],
    );
}

#[test]
fn masks_cover_what_they_name() {
    let check = |masks: &str, class, rule, confidence, expected| {
        let masks: Masks = masks.parse().unwrap();
        assert_eq!(masks.cover(class, rule, confidence), expected, "{masks:?}");
    };
    check("secret", Secret, "aws", Low, true);
    check("secret", Personal, "card", High, false);
    check("secret, personal/card", Personal, "card", Low, true);
    check("secret, personal/card", Personal, "iban", High, false);
    check("injection:medium", Injection, "x", Low, false);
    check("injection:medium", Injection, "x", Medium, true);
    check("injection:medium, stable", Injection, "x", High, true);
    check(
        "uninspectable/uninspectable-blob",
        Class::Uninspectable,
        "uninspectable-blob",
        High,
        true,
    );
}

#[test]
fn what_names_no_findings_is_refused() {
    let check = |text: &str, words: &str| {
        let error = text.parse::<Masks>().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    };
    check("", "nothing is named");
    check("stable", "nothing is named");
    check("secret,,personal", "nothing is named");
    check("secrets", "did you mean `secret`?");
    check("secret:sure", "no confidence");
    check("secret/a b", "no rule's id");
    check("secret/", "no rule's id");
    check("uninspectable", "cannot be masked");
    let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("secret/r{n}")).collect();
    check(&many.join(","), "at most 64");
}

#[test]
fn masks_are_written_and_read_again() {
    let text = "secret, personal/card, injection:high, stable";
    let masks: Masks = text.parse().unwrap();
    let json = serde_json::to_string(&masks).unwrap();
    assert_eq!(serde_json::from_str::<Masks>(&json).unwrap(), masks);
    assert!(serde_json::from_str::<Masks>(r#"["secrets"]"#).is_err());
}
