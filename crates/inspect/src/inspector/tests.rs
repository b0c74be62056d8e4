use super::*;

#[test]
fn entropy_is_in_bits_a_byte() {
    let check = |bytes: &[u8], expected: f64| {
        assert!((entropy(bytes) - expected).abs() < 1e-9, "{bytes:?}");
    };
    check(b"", 0.0);
    check(b"aaaa", 0.0);
    check(b"abab", 1.0);
    check(b"abcd", 2.0);
    let all: Vec<u8> = (0..=255).collect();
    check(&all, 8.0);
}

#[test]
fn a_text_is_not_cut_within_an_escape() {
    let check = |json: &str, at: usize, expected: usize| {
        assert_eq!(
            after_escape(json.as_bytes(), at),
            expected,
            "{json} at {at}"
        );
    };
    check("abcdefghijklmnopqrst", 5, 5);
    check(r"ab\u0041cdefghijklmnop", 4, 14);
    check(r"ab\u0041", 5, 8);
    check(r"ab\n\u0041xyz", 3, 4);
    check("", 0, 0);
    check("abc", 9, 9);
}

#[test]
fn a_word_nearby_counts_and_one_far_away_does_not() {
    let words = vec!["bsn".to_owned()];
    let check = |text: &str, expected: bool| {
        let at = text.find("123").unwrap();
        assert_eq!(
            has_context(text.as_bytes(), &(at..at + 3), &words),
            expected,
            "{text}"
        );
    };
    check("BSN: 123", true);
    check("123 (bsn)", true);
    check(&format!("bsn{}123", " ".repeat(61)), true);
    check(&format!("bsn{}123", " ".repeat(62)), false);
    check(&format!("123{}bsn", " ".repeat(22)), false);
}

/// A rule whose every match is short and which looks far ahead is held to so many matches.
#[test]
fn matches_of_one_rule_are_bounded() {
    let text =
        "[[rule]]\nid = 'x'\nclass = 'secret'\nconfidence = 'low'\nwhy = 'w'\nregex = 'x[^y]*y|x'";
    let inspector = Inspector::new(Rules::parse(text).unwrap()).unwrap();
    let findings = inspector.inspect_text(&vec![b'x'; 100_000]);
    let matches = findings.iter().filter(|it| it.rule() == "x").count();
    assert_eq!(matches, limits::INSPECT_MATCHES_MAX);
    assert!(
        findings
            .iter()
            .any(|it| it.rule() == Uninspectable::Budget.rule())
    );
}

#[test]
fn what_is_decoded_is_bounded() {
    // Each layer of a run is three quarters of the one before; runs that say nothing new cost no more.
    let document = b"x".repeat(1_000);
    let inspector = Inspector::built_in().unwrap();
    let mut scan = Scan::new(&inspector.0, &document);
    scan.budget = 10;
    let view = View::same(&document);
    let layer = Layer {
        view: &view,
        below: None,
    };
    let how = How {
        depth: 0,
        via: Encodings::default(),
        folded: false,
        binary: false,
    };
    let above = View::whole(&[b'a'; 11], 0..5);
    scan.above(&layer, how, &above, 0..5);
    let findings = scan.finish();
    let finding = findings.iter().next().unwrap();
    assert_eq!(
        (finding.rule(), finding.span().clone()),
        ("uninspectable-budget", 0..5)
    );
}
