use proptest::prelude::*;

use super::constraint::Seen;
use super::*;

fn authority(text: &str) -> Authority {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// An authority over one tool, of which `arguments` is asked.
fn asking(arguments: &str) -> Authority {
    authority(&format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read","arguments":{arguments}}}]"#
    ))
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn permits(authority: &Authority, args: &str) -> bool {
    let (upstream, tool) = ("files".parse().unwrap(), "read".parse().unwrap());
    let args = raw(args);
    authority
        .permits(&upstream, &tool, &CallArguments::new(&args))
        .is_some()
}

fn check(arguments: &str, args: &str, expected: bool) {
    assert_eq!(
        permits(&asking(arguments), args),
        expected,
        "{arguments} on {args}"
    );
}

#[test]
fn an_authority_permits_calls_of_its_tools() {
    let it = authority(
        r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_*"},
            {"type":"mcp_tool","locations":["files","mail"],"identifier":"send"}]"#,
    );
    let check = |upstream: &str, tool: &str, expected: Option<usize>| {
        let (upstream, tool) = (upstream.parse().unwrap(), tool.parse().unwrap());
        assert_eq!(
            it.permits(&upstream, &tool, &CallArguments::new(&raw("{}"))),
            expected
        );
        assert_eq!(it.covers(&upstream, &tool), expected.is_some());
    };
    check("files", "read_all", Some(0));
    check("files", "send", Some(1));
    check("mail", "send", Some(1));
    check("mail", "read_all", None);
    check("other", "send", None);
    assert!(!it.reaches(&"other".parse().unwrap()));
}

#[test]
fn constraints_say_what_they_ask() {
    check(r#"{"a":{"equals":"x"}}"#, r#"{"a":"x"}"#, true);
    check(r#"{"a":{"equals":"x"}}"#, r#"{"a":"\u0078","b":1}"#, true);
    check(r#"{"a":{"equals":"x"}}"#, r#"{"a":"X"}"#, false);
    check(r#"{"a":{"equals":1}}"#, r#"{"a":"1"}"#, false);
    check(r#"{"a":{"equals":true}}"#, r#"{"a":true}"#, true);
    check(r#"{"a":{"equals":true}}"#, r#"{"a":1}"#, false);
    check(r#"{"a":{"one_of":["x",2]}}"#, r#"{"a":2.0}"#, true);
    check(r#"{"a":{"one_of":["x",2]}}"#, r#"{"a":"2"}"#, false);
    check(r#"{"a":{"prefix":"/data/"}}"#, r#"{"a":"/data/x"}"#, true);
    check(r#"{"a":{"prefix":"/data/"}}"#, r#"{"a":"/data"}"#, false);
    check(r#"{"a":{"glob":"*.txt"}}"#, r#"{"a":"/x/y.txt"}"#, true);
    check(r#"{"a":{"glob":"*.txt"}}"#, r#"{"a":"/x/y.txt.sh"}"#, false);
    check(r#"{"a":{"min":1,"max":5}}"#, r#"{"a":5}"#, true);
    check(r#"{"a":{"min":1,"max":5}}"#, r#"{"a":0.999}"#, false);
    check(r#"{"a":{"max":5}}"#, r#"{"a":"5"}"#, false);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":"éé"}"#, true);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":"abc"}"#, false);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":[1,{}]}"#, true);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":[1,2,3]}"#, false);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":{}}"#, false);
    check(r#"{"a":{"max_length":2}}"#, r#"{"a":7}"#, false);
    check(r#"{"a":{"absent":true}}"#, "{}", true);
    check(r#"{"a":{"absent":true}}"#, r#"{"a":null}"#, false);
    check(r#"{"a":{"equals":"x"}}"#, r#"{"a":null}"#, false);
    check(r#"{"a":{"equals":"x"}}"#, r#"{"a":["x"]}"#, false);
}

/// Two integers that are one in floating point are two.
#[test]
fn numbers_beyond_floating_point_are_told_apart() {
    check(
        r#"{"a":{"max":9007199254740992}}"#,
        r#"{"a":9007199254740993}"#,
        false,
    );
    check(
        r#"{"a":{"equals":18446744073709551616}}"#,
        r#"{"a":18446744073709551617}"#,
        false,
    );
    check(
        r#"{"a":{"equals":18446744073709551616}}"#,
        r#"{"a":1.8446744073709551616e19}"#,
        true,
    );
    check(r#"{"a":{"equals":1}}"#, r#"{"a":1.0}"#, true);
    check(r#"{"a":{"max":5}}"#, r#"{"a":-1e99999}"#, false);
    check(r#"{"a":{"min":0}}"#, r#"{"a":-0.0}"#, true);
}

#[test]
fn a_constraint_on_what_is_not_there_denies() {
    for constraint in [
        r#"{"equals":"x"}"#,
        r#"{"one_of":["x"]}"#,
        r#"{"prefix":""}"#,
        r#"{"glob":"*"}"#,
        r#"{"min":0}"#,
        r#"{"max":0}"#,
        r#"{"max_length":9}"#,
    ] {
        check(&format!(r#"{{"a":{constraint}}}"#), "{}", false);
        check(&format!(r#"{{"a.b":{constraint}}}"#), r#"{"a":{}}"#, false);
    }
}

#[test]
fn paths_lead_into_objects_only() {
    check(r#"{"a.b":{"equals":1}}"#, r#"{"a":{"b":1}}"#, true);
    check(r#"{"a.b":{"equals":1}}"#, r#"{"a.b":1}"#, false);
    // A member whose name has the dot could be meant: which one, the server decides.
    check(r#"{"a.b":{"absent":true}}"#, r#"{"a.b":1}"#, false);
    check(r#"{"a.b":{"absent":true}}"#, r#"{"A.B":1}"#, false);
    check(r#"{"a.b":{"equals":1}}"#, r#"{"a":{"b":1},"a.b":2}"#, false);
    check(r#"{"a.b.c":{"equals":1}}"#, r#"{"a":{"b":{"c":1}}}"#, true);
    check(r#"{"a.b.c":{"absent":true}}"#, r#"{"a.b":{"c":1}}"#, false);
    check(r#"{"a.b.c":{"absent":true}}"#, r#"{"a":{"b.c":1}}"#, false);
    check(r#"{"a.b.c":{"absent":true}}"#, r#"{"a.b.c":1}"#, false);
    check(r#"{"a.b.c":{"absent":true}}"#, r#"{"b.c":1,"a.c":1}"#, true);
    check(r#"{"b":{"equals":1}}"#, r#"{"a.b":2,"b":1}"#, true);
    check(r#"{"a.b":{"equals":1}}"#, r#"{"a":[{"b":1}]}"#, false);
    check(r#"{"a.b":{"absent":true}}"#, r#"{"a":{}}"#, true);
    check(r#"{"a.b":{"absent":true}}"#, "{}", true);
    // A server may look into each element.
    check(r#"{"a.b":{"absent":true}}"#, r#"{"a":[{"b":1}]}"#, false);
    check(r#"{"a.b":{"absent":true}}"#, r#"{"a":"b"}"#, false);
}

/// What one reader takes the first of and another the last, or takes for the same name.
#[test]
fn arguments_with_two_meanings_deny() {
    check(r#"{"a":{"equals":1}}"#, r#"{"a":1,"a":2}"#, false);
    check(r#"{"a":{"equals":1}}"#, r#"{"a":1,"\u0061":1}"#, false);
    check(r#"{"a":{"equals":1}}"#, r#"{"a":1,"A":2}"#, false);
    check(r#"{"k":{"equals":1}}"#, "{\"k\":1,\"\u{212a}\":2}", false);
    check(r#"{"s":{"absent":true}}"#, "{\"\u{17f}\":2}", false);
    check(r#"{"a":{"equals":1}}"#, "[]", false);
    check(r#"{"a":{"equals":1}}"#, "null", false);
}

/// Texts that a server may resolve to something that begins otherwise.
#[test]
fn prefixes_and_globs_hold_for_plain_texts_only() {
    for path in [
        "/data/../etc/passwd",
        "/data/..",
        "/data/./x",
        "/data/..;/x",
        "/data/.. /x",
        "/data/..\\\\etc",
        "/data/%2e%2e/etc",
        "/data/%2E%2E%2Fetc",
        "/data/%252e%252e/etc",
        "/data/x%5c..",
        "/data/x%00",
        "/data/\\u0000",
        "/data/\u{ff0e}\u{ff0e}/etc",
        "/data/\u{2025}/etc",
        "/data/..\u{2215}etc",
        "/data/\u{ff3c}x",
    ] {
        let args = format!(r#"{{"a":"{path}"}}"#);
        check(r#"{"a":{"prefix":"/data/"}}"#, &args, false);
        check(r#"{"a":{"glob":"/data/*"}}"#, &args, false);
        check(r#"{"a":{"max_length":99}}"#, &args, true);
    }
    for path in [
        "/data/x..y",
        "/data/...",
        "/data/100%",
        "/data/a%20b",
        "/data//x",
        "/data/é",
    ] {
        check(
            r#"{"a":{"prefix":"/data/"}}"#,
            &format!(r#"{{"a":"{path}"}}"#),
            true,
        );
    }
}

/// What nobody sees is in no text that a form leaves open: tags that a model reads, marks that turn
/// the order of what is shown, fillers that make two names look the same.
#[test]
fn invisible_characters_are_within_no_prefix_or_glob_that_does_not_have_them() {
    for hidden in [
        '\u{200b}',
        '\u{200d}',
        '\u{2060}',
        '\u{feff}',
        '\u{00ad}',
        '\u{202e}',
        '\u{2066}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{fe0f}',
        '\u{3164}',
        '\u{1d173}',
        '\u{0600}',
    ] {
        for text in [
            format!("/data/x{hidden}"),
            format!("{hidden}/data/x"),
            format!("/da{hidden}ta/x"),
        ] {
            let args = format!(r#"{{"a":"{text}"}}"#);
            for form in [
                r#"{"a":{"prefix":"/data/"}}"#,
                r#"{"a":{"prefix":""}}"#,
                r#"{"a":{"glob":"/data/*"}}"#,
                r#"{"a":{"glob":"*"}}"#,
            ] {
                check(form, &args, false);
            }
            // Who names the very text, or asks for none of its characters, has it.
            check(&format!(r#"{{"a":{{"equals":"{text}"}}}}"#), &args, true);
            check(&format!(r#"{{"a":{{"prefix":"{text}"}}}}"#), &args, true);
            check(&format!(r#"{{"a":{{"glob":"{text}*"}}}}"#), &args, true);
            check(r#"{"a":{"max_length":99}}"#, &args, true);
        }
        // As often as the form has it, and no more often.
        let twice = format!(r#"{{"a":"x{hidden}{hidden}"}}"#);
        check(
            &format!(r#"{{"a":{{"prefix":"x{hidden}"}}}}"#),
            &twice,
            false,
        );
        check(
            &format!(r#"{{"a":{{"glob":"x{hidden}*"}}}}"#),
            &twice,
            false,
        );
        let a = Err("arguments.a");
        let own = format!(r#"{{"a":{{"prefix":"x{hidden}"}}}}"#);
        within(&own, r#"{"a":{"prefix":"x"}}"#, a);
        within(&own, r#"{"a":{"glob":"x*"}}"#, a);
        within(&own, &own, Ok(()));
    }
    // Lines and tabs are seen.
    check(
        r#"{"a":{"prefix":"Dear "}}"#,
        r#"{"a":"Dear all,\n\tgood morning"}"#,
        true,
    );
}

/// However much is asked about however long arguments, each part of them is read once.
#[test]
fn arguments_are_read_once() {
    let long = "x".repeat(1 << 20);
    let args = raw(&format!(r#"{{"o":{{"a":"{long}","b":[1,2]}},"n":1}}"#));
    let seen = CallArguments::new(&args);
    let path = |text: &str| text.parse::<ArgumentPath>().unwrap();
    for name in ["o.a", "o.b", "n", "o.c", "n.a"] {
        assert!(
            std::rc::Rc::ptr_eq(&seen.at(&path(name)), &seen.at(&path(name))),
            "{name}"
        );
    }
    // And a pattern is not matched against what is long.
    check(
        r#"{"a":{"prefix":"x"}}"#,
        &format!(r#"{{"a":"{}"}}"#, "x".repeat(8192)),
        true,
    );
    check(
        r#"{"a":{"prefix":"x"}}"#,
        &format!(r#"{{"a":"{}"}}"#, "x".repeat(8193)),
        false,
    );
    check(
        r#"{"a":{"glob":"*x"}}"#,
        &format!(r#"{{"a":"{}"}}"#, "x".repeat(8193)),
        false,
    );
}

#[test]
fn a_digest_is_of_the_exact_text() {
    let args = r#"{"path": "/a",  "n":1}"#;
    let digest = Digest::of(args.as_bytes());
    let it = authority(&format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read","arguments_sha256":"{digest}"}}]"#
    ));
    assert!(permits(&it, args));
    assert!(!permits(&it, r#"{"path":"/a","n":1}"#));
    assert!(!permits(&it, "{}"));
}

#[test]
fn an_authority_of_nothing_is_read_back_permits_nothing_and_is_not_asked_for() {
    let nothing = Authority::default();
    let text = serde_json::to_string(&nothing).unwrap();
    assert_eq!(serde_json::from_str::<Authority>(&text).unwrap(), nothing);
    assert!(!permits(&nothing, "{}"));
    assert!(!nothing.covers(&"files".parse().unwrap(), &"read".parse().unwrap()));
    assert!(!nothing.reaches(&"files".parse().unwrap()));
    let asked = Authority::parse(&text, |name| name.parse().ok());
    assert_eq!(asked, Err(AuthorityError::Count));
}

#[test]
fn other_texts_are_no_authority() {
    let bad = |text: &str| assert!(serde_json::from_str::<Authority>(text).is_err(), "{text}");
    let detail = |rest: &str| {
        bad(&format!(
            r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read"{rest}}}]"#
        ));
    };
    bad("{}");
    bad("null");
    bad(r#"[{"type":"mcp_tool","identifier":"read"}]"#);
    bad(r#"[{"type":"mcp_tool","locations":[],"identifier":"read"}]"#);
    bad(r#"[{"type":"mcp_tool","locations":["Files"],"identifier":"read"}]"#);
    bad(r#"[{"type":"mcp_tool","locations":["files"],"identifier":""}]"#);
    bad(r#"[{"type":"mcp_tool","locations":["files"]}]"#);
    bad(r#"[{"type":"payment","locations":["files"],"identifier":"read"}]"#);
    bad(r#"[{"locations":["files"],"identifier":"read"}]"#);
    detail(r#","actions":["call"]"#);
    detail(r#","arguments":null"#);
    detail(r#","arguments_sha256":null"#);
    detail(r#","arguments_sha256":"ab""#);
    detail(r#","identifier":"write""#);
    detail(r#","arguments":{"a":{}}"#);
    detail(r#","arguments":{"a":{"equals":null}}"#);
    detail(r#","arguments":{"a":{"equals":[1]}}"#);
    detail(r#","arguments":{"a":{"equals":1e999999999}}"#);
    detail(r#","arguments":{"a":{"equals":1,"max":null}}"#);
    detail(r#","arguments":{"a":{"equals":1,"like":"x"}}"#);
    detail(r#","arguments":{"a":{"one_of":[]}}"#);
    detail(r#","arguments":{"a":{"min":"1"}}"#);
    detail(r#","arguments":{"a":{"max_length":-1}}"#);
    detail(r#","arguments":{"a":{"absent":false}}"#);
    detail(r#","arguments":{"a":{"absent":true,"equals":1}}"#);
    detail(r#","arguments":{"a":{"equals":1},"a":{"equals":2}}"#);
    detail(r#","arguments":{"":{"equals":1}}"#);
    detail(r#","arguments":{"a..b":{"equals":1}}"#);
    let digest = Digest::of(b"{}");
    bad(&format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"r*","arguments_sha256":"{digest}"}}]"#
    ));
    bad(&format!(
        r#"[{{"type":"mcp_tool","locations":["files","mail"],"identifier":"read","arguments_sha256":"{digest}"}}]"#
    ));
}

#[test]
fn authorities_have_limits() {
    let reads = |text: &str| serde_json::from_str::<Authority>(text).is_ok();
    let many = |count: usize| {
        let one = r#"{"type":"mcp_tool","locations":["files"],"identifier":"read"}"#;
        format!("[{}]", vec![one; count].join(","))
    };
    assert!(reads(&many(AUTHORITY_DETAILS_MAX)));
    assert!(!reads(&many(AUTHORITY_DETAILS_MAX + 1)));
    let locations = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!(r#""u{at}""#)).collect();
        let names = names.join(",");
        format!(r#"[{{"type":"mcp_tool","locations":[{names}],"identifier":"read"}}]"#)
    };
    assert!(reads(&locations(DETAIL_LOCATIONS_MAX)));
    assert!(!reads(&locations(DETAIL_LOCATIONS_MAX + 1)));
    let with = |arguments: String| {
        format!(
            r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read","arguments":{{{arguments}}}}}]"#
        )
    };
    let arguments = |count: usize| {
        let them: Vec<String> = (0..count)
            .map(|at| format!(r#""a{at}":{{"max":1}}"#))
            .collect();
        with(them.join(","))
    };
    assert!(reads(&arguments(DETAIL_ARGUMENTS_MAX)));
    assert!(!reads(&arguments(DETAIL_ARGUMENTS_MAX + 1)));
    let values = |count: usize| {
        let them: Vec<String> = (0..count).map(|at| at.to_string()).collect();
        with(format!(r#""a":{{"one_of":[{}]}}"#, them.join(",")))
    };
    assert!(reads(&values(crate::limits::CONSTRAINT_VALUES_MAX)));
    assert!(!reads(&values(crate::limits::CONSTRAINT_VALUES_MAX + 1)));
    for member in ["equals", "prefix", "glob"] {
        let text = |length: usize| with(format!(r#""a":{{"{member}":"{}"}}"#, "x".repeat(length)));
        assert!(reads(&text(crate::limits::CONSTRAINT_TEXT_BYTES_MAX)));
        assert!(!reads(&text(crate::limits::CONSTRAINT_TEXT_BYTES_MAX + 1)));
    }
    let depth = |count: usize| with(format!(r#""{}":{{"max":1}}"#, vec!["a"; count].join(".")));
    assert!(reads(&depth(crate::limits::ARGUMENT_PATH_DEPTH_MAX)));
    assert!(!reads(&depth(crate::limits::ARGUMENT_PATH_DEPTH_MAX + 1)));
    let path = |length: usize| with(format!(r#""{}":{{"max":1}}"#, "a".repeat(length)));
    assert!(reads(&path(crate::limits::ARGUMENT_PATH_BYTES_MAX)));
    assert!(!reads(&path(crate::limits::ARGUMENT_PATH_BYTES_MAX + 1)));
    let long = |length: usize| {
        let text = many(1);
        format!("{text}{}", " ".repeat(length - text.len()))
    };
    let parse = |text: &str| Authority::parse(text, |name| name.parse().ok());
    assert!(parse(&long(AUTHORITY_BYTES_MAX)).is_ok());
    assert_eq!(
        parse(&long(AUTHORITY_BYTES_MAX + 1)),
        Err(AuthorityError::Long(AUTHORITY_BYTES_MAX + 1))
    );
}

/// Numbers are written out, and entries have an end.
#[test]
fn an_authority_is_short_as_it_is_written_too() {
    let details = |count: usize| {
        let one =
            |at: usize| format!(r#""b{at}":{{"one_of":[1e20,2e20,3e20,4e20,5e20,6e20,7e20]}}"#);
        let arguments = (0..32).map(one).collect::<Vec<_>>().join(",");
        let one = format!(
            r#"{{"type":"mcp_tool","locations":["files"],"identifier":"read","arguments":{{{arguments}}}}}"#
        );
        format!("[{}]", vec![one; count].join(","))
    };
    let parse = |text: &str| Authority::parse(text, |name| name.parse().ok());
    assert!(parse(&details(1)).is_ok());
    assert!(details(6).len() < AUTHORITY_BYTES_MAX);
    assert!(matches!(parse(&details(6)), Err(AuthorityError::Long(_))));
}

#[test]
fn there_is_one_way_to_write_an_authority() {
    let it = authority(
        r#" [{"identifier":"read","arguments":{"b":{"one_of":["y","x","y",1.0]},"a":{"max":1e2}},
             "locations":["mail","files","mail"],"type":"mcp_tool"}]"#,
    );
    let text = r#"[{"type":"mcp_tool","locations":["files","mail"],"identifier":"read","arguments":{"a":{"max":100},"b":{"one_of":[1,"x","y"]}}}]"#;
    assert_eq!(serde_json::to_string(&it).unwrap(), text);
    assert_eq!(authority(text), it);
    let uris = it.to_json(|name| format!("http://node/mcp/{name}"));
    let read = Authority::parse(uris.get(), |uri| {
        uri.strip_prefix("http://node/mcp/")?.parse().ok()
    });
    assert_eq!(read, Ok(it));
    assert_eq!(
        Authority::parse(uris.get(), |_| None),
        Err(AuthorityError::Location)
    );
}

fn within(inner: &str, outer: &str, expected: Result<(), &str>) {
    let found = asking(inner).is_within(&asking(outer), "the outer one");
    let part = |not: NotWithin| {
        not.part
            .strip_prefix("authorization_details[0].")
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        found.map_err(part),
        expected.map_err(ToOwned::to_owned),
        "{inner} within {outer}"
    );
}

#[test]
fn an_authority_shrinks() {
    let a = Err("arguments.a");
    within("{}", "{}", Ok(()));
    within(r#"{"a":{"equals":"x"}}"#, "{}", Ok(()));
    within("{}", r#"{"a":{"equals":"x"}}"#, a);
    within(r#"{"b":{"equals":"x"}}"#, r#"{"a":{"equals":"x"}}"#, a);
    within(r#"{"a":{"equals":"x"}}"#, r#"{"a":{"equals":"x"}}"#, Ok(()));
    within(
        r#"{"a":{"equals":1.0}}"#,
        r#"{"a":{"one_of":[1,2]}}"#,
        Ok(()),
    );
    within(r#"{"a":{"one_of":[1,3]}}"#, r#"{"a":{"one_of":[1,2]}}"#, a);
    within(
        r#"{"a":{"one_of":[1,3],"max":2}}"#,
        r#"{"a":{"one_of":[1,2]}}"#,
        Ok(()),
    );
    within(
        r#"{"a":{"equals":"/data/x"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        Ok(()),
    );
    within(
        r#"{"a":{"equals":"/data/../x"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        a,
    );
    within(
        r#"{"a":{"prefix":"/data/x"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        Ok(()),
    );
    within(
        r#"{"a":{"prefix":"/dat"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        a,
    );
    within(
        r#"{"a":{"glob":"/data/*.txt"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        Ok(()),
    );
    within(
        r#"{"a":{"glob":"/dat*"}}"#,
        r#"{"a":{"prefix":"/data/"}}"#,
        a,
    );
    within(
        r#"{"a":{"prefix":"/data/x"}}"#,
        r#"{"a":{"glob":"/data/*"}}"#,
        Ok(()),
    );
    within(
        r#"{"a":{"prefix":"/data/x"}}"#,
        r#"{"a":{"glob":"/data/*.txt"}}"#,
        a,
    );
    within(
        r#"{"a":{"prefix":"a*c"}}"#,
        r#"{"a":{"glob":"a*c*"}}"#,
        Ok(()),
    );
    within(r#"{"a":{"glob":"a*c"}}"#, r#"{"a":{"prefix":"a*c"}}"#, a);
    within(r#"{"a":{"min":2}}"#, r#"{"a":{"min":1}}"#, Ok(()));
    within(r#"{"a":{"min":1}}"#, r#"{"a":{"min":2}}"#, a);
    within(r#"{"a":{"min":1}}"#, r#"{"a":{"max":2}}"#, a);
    within(r#"{"a":{"min":1,"max":2}}"#, r#"{"a":{"max":2}}"#, Ok(()));
    within(
        r#"{"a":{"max_length":3}}"#,
        r#"{"a":{"max_length":4}}"#,
        Ok(()),
    );
    within(r#"{"a":{"prefix":"a"}}"#, r#"{"a":{"max_length":4}}"#, a);
    within(
        r#"{"a":{"absent":true}}"#,
        r#"{"a":{"absent":true}}"#,
        Ok(()),
    );
    within(r#"{"a":{"absent":true}}"#, r#"{"a":{"prefix":""}}"#, a);
    within(r#"{"a":{"equals":"x"}}"#, r#"{"a":{"absent":true}}"#, a);
    within("{}", r#"{"a":{"absent":true}}"#, a);
}

#[test]
fn what_is_beyond_is_named() {
    let tool = |locations: &str, identifier: &str, rest: &str| {
        authority(&format!(
            r#"[{{"type":"mcp_tool","locations":[{locations}],"identifier":"{identifier}"{rest}}}]"#
        ))
    };
    let check = |inner: &Authority, outer: &Authority, part: &str| {
        let found = inner
            .is_within(outer, "the parent's authority")
            .unwrap_err();
        assert_eq!(found.part, format!("authorization_details[0].{part}"));
    };
    let outer = tool(r#""files""#, "read_*", "");
    check(
        &tool(r#""files","mail""#, "read_x", ""),
        &outer,
        "locations",
    );
    check(&tool(r#""files""#, "*", ""), &outer, "identifier");
    check(
        &tool(r#""files""#, "read_*", ""),
        &Authority::default(),
        "locations",
    );
    let one = |args: &[u8]| format!(r#","arguments_sha256":"{}""#, Digest::of(args));
    let once = tool(r#""files""#, "read_x", &one(b"{}"));
    assert!(once.is_within(&outer, "x").is_ok());
    assert!(once.is_within(&once, "x").is_ok());
    check(&tool(r#""files""#, "read_x", ""), &once, "arguments_sha256");
    check(
        &tool(r#""files""#, "read_x", &one(b"")),
        &once,
        "arguments_sha256",
    );
    // Of arguments that are known by digest only, nothing can be shown.
    let asked = tool(r#""files""#, "read_*", r#","arguments":{"a":{"max":1}}"#);
    check(&once, &asked, "arguments.a");
    // The one that comes nearest is named, in the words of the one asked for.
    let both = Authority::of(
        [&outer, &asked]
            .into_iter()
            .flat_map(|it| it.details().to_vec()),
    );
    check(&tool(r#""mail""#, "read_x", ""), &both, "locations");
    let text = tool(r#""mail""#, "x", "").is_within(&outer, "the parent's authority");
    assert_eq!(
        text.unwrap_err().to_string(),
        "`authorization_details[0].locations` cannot be shown to be within the parent's authority: \
         what is handed on is that or less, and as narrow in each argument"
    );
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("true".to_owned()),
        "[0-3]".prop_map(|it| it),
        prop_oneof![
            Just("1.0"),
            Just("10e-1"),
            Just("1.5"),
            Just("-1"),
            Just("18446744073709551617")
        ]
        .prop_map(str::to_owned),
        "[ab*/.\u{200b}]{0,4}".prop_map(|it| format!(r#""{it}""#)),
    ]
}

fn constraint() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        scalar().prop_map(|it| format!(r#""equals":{it}"#)),
        prop::collection::vec(scalar(), 1..3)
            .prop_map(|it| format!(r#""one_of":[{}]"#, it.join(","))),
        "[ab*/.\u{200b}]{0,3}".prop_map(|it| format!(r#""prefix":"{it}""#)),
        "[ab*/.\u{200b}]{0,4}".prop_map(|it| format!(r#""glob":"{it}""#)),
        "[0-3]".prop_map(|it| format!(r#""min":{it}"#)),
        "[0-3]".prop_map(|it| format!(r#""max":{it}"#)),
        "[0-3]".prop_map(|it| format!(r#""max_length":{it}"#)),
    ];
    prop_oneof![
        1 => Just(r#"{"absent":true}"#.to_owned()),
        8 => prop::collection::vec(member, 1..3).prop_map(|members| {
            let mut seen: BTreeMap<String, String> = BTreeMap::new();
            for member in members {
                let (name, _) = member.split_once(':').unwrap();
                seen.insert(name.to_owned(), member.clone());
            }
            format!("{{{}}}", seen.into_values().collect::<Vec<_>>().join(","))
        }),
    ]
}

fn detail() -> impl Strategy<Value = String> {
    let arguments = prop::collection::btree_map("a|b|o\\.a", constraint(), 0..3);
    let locations = prop::collection::vec("u|v", 1..3);
    (locations, "[xy*]{1,3}", arguments).prop_map(|(locations, identifier, arguments)| {
        let arguments: Vec<String> = arguments
            .into_iter()
            .map(|(path, constraint)| format!(r#""{path}":{constraint}"#))
            .collect();
        format!(
            r#"{{"type":"mcp_tool","locations":{locations:?},"identifier":"{identifier}","arguments":{{{}}}}}"#,
            arguments.join(",")
        )
    })
}

fn authorities() -> impl Strategy<Value = Authority> {
    prop::collection::vec(detail(), 1..3)
        .prop_map(|details| authority(&format!("[{}]", details.join(","))))
}

/// Arguments that the constraints above are about.
fn arguments() -> impl Strategy<Value = String> {
    let value = || {
        prop_oneof![
            4 => scalar(),
            1 => prop_oneof![Just("null"), Just("[]"), Just("[1,2]"), Just("{}")].prop_map(str::to_owned),
        ]
    };
    let member = |name: &'static str| {
        prop::option::weighted(0.7, value())
            .prop_map(move |it| it.map(|it| format!(r#""{name}":{it}"#)))
    };
    let inner = prop::option::weighted(0.7, member("a"))
        .prop_map(|it| it.map(|it| format!(r#""o":{{{}}}"#, it.unwrap_or_default())));
    (member("a"), member("b"), inner).prop_map(|(a, b, o)| {
        let members: Vec<String> = [a, b, o].into_iter().flatten().collect();
        format!("{{{}}}", members.join(","))
    })
}

/// An authority made from another by leaving out or adding, so that many are within.
fn narrowed() -> impl Strategy<Value = (Authority, Authority)> {
    (
        authorities(),
        prop::collection::btree_map("a|b|o\\.a", constraint(), 0..2),
        any::<bool>(),
    )
        .prop_map(|(outer, more, exact)| {
            let mut inner = outer.clone();
            for detail in &mut inner.0 {
                for (path, constraint) in &more {
                    detail
                        .arguments
                        .entry(path.parse().unwrap())
                        .or_insert_with(|| serde_json::from_str(constraint).unwrap());
                }
                if exact {
                    let name = detail.identifier.as_str().replace('*', "x");
                    detail.identifier = name.parse().unwrap();
                }
            }
            (inner, outer)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Sound: what is within permits nothing that the outer one does not.
    #[test]
    fn what_is_within_permits_no_more(
        (inner, outer) in prop_oneof![(authorities(), authorities()), narrowed()],
        upstream in "u|v", tool in "[xyz]{1,3}", args in arguments(),
    ) {
        let (upstream, tool, args) = (upstream.parse().unwrap(), tool.parse().unwrap(), raw(&args));
        let args = CallArguments::new(&args);
        if inner.is_within(&outer, "").is_ok() && inner.permits(&upstream, &tool, &args).is_some() {
            prop_assert!(outer.permits(&upstream, &tool, &args).is_some());
        }
    }

    /// The same for one argument, where chance finds more.
    #[test]
    fn a_constraint_within_holds_for_no_more(inner in constraint(), outer in constraint(), value in scalar()) {
        let (inner, outer): (Constraint, Constraint) =
            (serde_json::from_str(&inner).unwrap(), serde_json::from_str(&outer).unwrap());
        let raw = raw(&value);
        for found in [Seen::of(&raw), Seen::Missing, Seen::Unclear] {
            if inner.is_within(&outer) && inner.holds(&found) {
                prop_assert!(outer.holds(&found), "{inner:?} {outer:?} {found:?}");
            }
        }
    }

    #[test]
    fn each_is_within_itself_and_what_it_adds_to((inner, outer) in narrowed()) {
        prop_assert!(outer.is_within(&outer, "").is_ok());
        prop_assert!(inner.is_within(&outer, "").is_ok());
    }

    #[test]
    fn what_is_written_is_read(it in authorities()) {
        let text = serde_json::to_string(&it).unwrap();
        prop_assert_eq!(&authority(&text), &it);
        prop_assert_eq!(serde_json::to_string(&authority(&text)).unwrap(), text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        let _read = Authority::parse(&text, |name| name.parse().ok());
    }
}
