use super::*;
use crate::{Findings, Inspector};

fn imported(text: &str) -> Imported {
    Rules::import(text).unwrap()
}

fn find(rules: &str, text: &str) -> Findings {
    let inspector = Inspector::new(imported(rules).rules).unwrap();
    inspector.inspect_text(text.as_bytes())
}

fn check(rules: &str, text: &str, expected: &[&str]) {
    let found = find(rules, text);
    let found: Vec<&str> = found
        .iter()
        .map(|it| text.get(it.span().clone()).unwrap())
        .collect();
    assert_eq!(found, expected, "{text}");
}

const ACME: &str = r"
title = 'ours'
[[rules]]
id = 'acme-key'
description = 'A key of Acme'
regex = '''(?i)[\w.-]{0,50}?(?:acme)(?:[ \t\w.-]{0,20})[\s'`]{0,3}(?:=|:)[\s'`]{0,3}([a-z0-9]{16})(?:[\s;]|$)'''
entropy = 3
keywords = ['acme']
tags = ['key']
[[rules.allowlists]]
stopwords = ['sample']
";

#[test]
fn takes_keywords_entropy_groups_and_stop_words() {
    check(
        ACME,
        "my.acme_key = k7qmwx9rtyb4lsvn",
        &["k7qmwx9rtyb4lsvn"],
    );
    check(ACME, "key = k7qmwx9rtyb4lsvn", &[]);
    check(ACME, "acme = aaaaaaaaaaaaaaaa", &[]);
    check(ACME, "acme = sample7qmwx9rtyb", &[]);
    let found = find(ACME, "acme = k7qmwx9rtyb4lsvn");
    let finding = found.iter().next().unwrap();
    assert_eq!(
        (finding.rule(), finding.class()),
        ("acme-key", Class::Secret)
    );
}

/// The lazy beginning is dropped for its cost; it decides nothing.
#[test]
fn the_lazy_beginning_decides_nothing() {
    let whole = compile("x", r"(?i)[\w.-]{0,50}?(?:acme)=([a-z]{4})").unwrap();
    let short = compile(
        "x",
        &shortened(r"(?i)[\w.-]{0,50}?(?:acme)=([a-z]{4})").unwrap(),
    )
    .unwrap();
    for text in [
        "acme=abcd",
        "x.acme=abcd",
        "ACME=abcd acme=efgh",
        "acme",
        " -acme=ab",
    ] {
        let groups = |regex: &regex::bytes::Regex| -> Vec<Vec<u8>> {
            let found = regex.captures_iter(text.as_bytes());
            found
                .map(|it| it.get(1).unwrap().as_bytes().to_vec())
                .collect()
        };
        assert_eq!(groups(&whole), groups(&short), "{text}");
    }
}

#[test]
fn a_group_is_the_secret_if_it_is_named_or_the_first_that_matched() {
    let rule = |group: &str| {
        format!("[[rules]]\nid = 'g'\nregex = '''(?:k1=(\\w+)|k2=(\\w+)):(\\w+)'''\n{group}")
    };
    check(&rule(""), "k1=aaa:b k2=ccc:d", &["aaa", "ccc"]);
    check(&rule("secretGroup = 3"), "k1=aaa:b", &["b"]);
    check("[[rules]]\nid = 'g'\nregex = 'ab+'", "xabbb", &["abbb"]);
    let error = Rules::import(&rule("secretGroup = 4")).unwrap_err();
    assert_eq!(
        error,
        RuleError::Group {
            rule: "g".to_owned(),
            group: 4,
            groups: 3
        }
    );
}

#[test]
fn allow_lists_are_held_against_what_they_say() {
    let rule = |allow: &str| {
        format!("[[rules]]\nid = 'a'\nregex = 'key-(\\w+)'\n[[rules.allowlists]]\n{allow}")
    };
    check(&rule("regexes = ['^ab']"), "key-abc key-cab", &["cab"]);
    check(
        &rule("regexTarget = 'match'\nregexes = ['^key-a']"),
        "key-abc key-cab",
        &["cab"],
    );
    check(
        &rule("regexTarget = 'line'\nregexes = ['test']"),
        "test key-abc\nkey-abc",
        &["abc"],
    );
    let both = "condition = 'AND'\nregexes = ['^ab']\nstopwords = ['cd']";
    check(&rule(both), "key-abcd key-abx key-xcd", &["abx", "xcd"]);
    // What passes has no path, so what is allowed in one is not allowed here.
    check(
        &rule("condition = 'AND'\npaths = ['vendor/']\nregexes = ['ab']"),
        "key-abc",
        &["abc"],
    );
    check(&rule("paths = ['vendor/']"), "key-abc", &["abc"]);
    let common = "[allowlist]\nstopwords = ['no']\n[[rules]]\nid = 'a'\nregex = 'key-(\\w+)'";
    check(common, "key-nope key-yes", &["yes"]);
    let targeted = "[[allowlists]]\ntargetRules = ['b']\nstopwords = ['no']\n[[rules]]\nid = 'a'\nregex = 'key-(\\w+)'";
    check(targeted, "key-nope", &["nope"]);
}

#[test]
fn what_is_no_rule_of_text_is_left_out_and_said() {
    let Imported { rules, left_out } =
        imported("[[rules]]\nid = 'p'\npath = '\\.p12$'\n[[rules]]\nid = 'a'\nregex = 'a'");
    assert_eq!(rules.iter().count(), 1);
    assert_eq!(left_out.len(), 1);
    assert_eq!(left_out[0].rule, "p");
}

#[test]
fn what_is_not_understood_is_refused() {
    let unsupported = |text: &str| {
        let error = Rules::import(text).unwrap_err();
        assert!(
            matches!(error, RuleError::Unsupported { .. }),
            "{text}: {error}"
        );
    };
    unsupported("[extend]\nuseDefault = true");
    unsupported("[allowlist]\ncondition = 'XOR'");
    unsupported("[[rules]]\nid = 'a'\nregex = 'a'\n[rules.allowlist]\nregexTarget = 'file'");
    let error = Rules::import("[[rules]]\nid = 'a'\nregex = '['").unwrap_err();
    assert!(matches!(error, RuleError::Pattern { rule, .. } if rule == "a"));
    assert!(matches!(
        Rules::import("[[rules]]\nid = 'a'\nregexx = 'a'"),
        Err(RuleError::Unreadable { .. })
    ));
}

#[test]
fn a_brace_that_counts_nothing_is_a_brace() {
    for (given, expected) in [
        (r"a{2}b{2,}c{2,5}", r"a{2}b{2,}c{2,5}"),
        (r"\$(?:\d+|{\d+})", r"\$(?:\d+|\{\d+})"),
        (r"{{x}}", r"\{\{x}}"),
        (r"a{,5}", r"a\{,5}"),
        (r"\{a\\{b", r"\{a\\\{b"),
        (r"\p{Greek}\x{41}[{]é{", r"\p{Greek}\x{41}[\{]é\{"),
        (r"\", r"\"),
    ] {
        assert_eq!(with_braces(given), expected, "{given}");
    }
    check(
        "[[rules]]\nid = 'a'\nregex = '''k={(\\w+)}'''",
        "k={abc}",
        &["abc"],
    );
}
