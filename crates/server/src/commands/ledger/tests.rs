use super::*;

#[test]
fn entries_are_named_by_log_and_index() {
    let check = |text: &str, expected: Option<(LogName, u64)>| {
        assert_eq!(entry_named(text).ok(), expected, "{text}");
    };
    check("17", Some((LogName::Calls, 17)));
    check("calls/0", Some((LogName::Calls, 0)));
    check("control/3", Some((LogName::Control, 3)));
    for text in [
        "",
        "/",
        "calls/",
        "/1",
        "+1",
        "calls/+1",
        "-1",
        "1/2",
        "i-abc",
        "calls/1/2",
        "0x1",
        "18446744073709551616",
    ] {
        check(text, None);
    }
}

#[test]
fn what_was_made_again_is_told() {
    let mut replayed = Replayed {
        same: 3,
        sealed: 1,
        ..Replayed::default()
    };
    let plain = "4 decisions: 3 the same, 0 different, 0 erased, 1 sealed, 0 bounded, 0 missing\n";
    assert_eq!(replayed.text(false), plain);
    assert!(replayed.text(true).starts_with(plain));
    assert!(replayed.text(true).contains("--facts-key"));
    replayed.different = 2;
    replayed.differences = vec![Difference {
        index: 7,
        what: "recorded allow by a, now deny\u{1b}".to_owned(),
    }];
    assert_eq!(
        replayed.text(false),
        "calls/7: recorded allow by a, now deny\u{fffd}\n… and 1 more\n\
         6 decisions: 3 the same, 2 different, 0 erased, 1 sealed, 0 bounded, 0 missing\n"
    );
    assert_eq!(
        serde_json::json!(replayed),
        serde_json::json!({"same": 3, "responses": 0, "different": 2, "erased": 0, "sealed": 1, "bounded": 0, "missing": 0})
    );
}
