use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn parse(text: impl Into<Vec<u8>>) -> Result<Json, JsonError> {
    Json::parse(Bytes::from(text.into()))
}

fn check(input: impl Into<Vec<u8>>, at: usize, fault: JsonFault) {
    let input = input.into();
    let shown = String::from_utf8_lossy(&input).into_owned();
    assert_eq!(
        parse(input).unwrap_err(),
        JsonError { at, fault },
        "{shown}"
    );
}

#[test]
fn takes_the_grammar() {
    for text in [
        "null",
        " true\n",
        "false",
        "0",
        "-0",
        "-0.5e+10",
        "1E9",
        "123456789012345678901234567890",
        r#""""#,
        r#""\"\\\/\b\f\n\r\t\u0000\ud83d\ude00""#,
        "[]",
        "[ ]",
        "[1,[2],{}]",
        "{}",
        "{ }",
        r#"{"a":1,"b":{"a":2}}"#,
        r#"{"":0}"#,
        "\"\u{7f}é😀\"",
    ] {
        let json = parse(text).unwrap();
        assert_eq!(json.root().text(), text.trim());
    }
}

#[test]
fn says_what_is_wrong_and_where() {
    let value = JsonFault::Unexpected {
        expected: "a value",
    };
    let word = JsonFault::Unexpected {
        expected: "`true`, `false` or `null`",
    };
    let name = JsonFault::Unexpected {
        expected: "a member name",
    };
    check("", 0, JsonFault::End);
    check("  ", 2, JsonFault::End);
    check("\u{feff}{}", 0, value);
    check("{}x", 2, JsonFault::Trailing);
    check("{} {}", 3, JsonFault::Trailing);
    check("nul", 3, JsonFault::End);
    check("nulx", 3, word);
    check("True", 0, value);
    check("NaN", 0, value);
    check("'a'", 0, value);
    check("01", 1, JsonFault::Number);
    check("-", 1, JsonFault::Number);
    check("1.", 2, JsonFault::Number);
    check("1e", 2, JsonFault::Number);
    check("+1", 0, value);
    check("[1,]", 3, value);
    check(
        "[1 2]",
        3,
        JsonFault::Unexpected {
            expected: "`,` or `]`",
        },
    );
    check("[1", 2, JsonFault::End);
    check(r#"{"a":1,}"#, 7, name);
    check("{a:1}", 1, name);
    check(r#"{"a" 1}"#, 5, JsonFault::Unexpected { expected: "`:`" });
    check(
        r#"{"a":1 "b":2}"#,
        7,
        JsonFault::Unexpected {
            expected: "`,` or `}`",
        },
    );
    check("/* */1", 0, value);
    check("\"a\nb\"", 2, JsonFault::Control);
    check(r#""\x""#, 2, JsonFault::Escape);
    check(r#""\u12g4""#, 5, JsonFault::Escape);
    check(r#""\ud800""#, 1, JsonFault::Surrogate);
    check(r#""\ud800\n""#, 1, JsonFault::Surrogate);
    check(r#""\ud800\ud800""#, 1, JsonFault::Surrogate);
    check(r#""a\udc00""#, 2, JsonFault::Surrogate);
    check(r#""abc"#, 4, JsonFault::End);
    check(b"\"\xff\"".to_vec(), 1, JsonFault::Utf8);
    check(b"\"\xed\xa0\x80\"".to_vec(), 1, JsonFault::Utf8);
}

#[test]
fn refuses_duplicate_names_at_any_depth_and_after_unescaping() {
    check(r#"{"a":1,"a":2}"#, 7, JsonFault::Duplicate);
    check(r#"{"a":1,"\u0061":2}"#, 7, JsonFault::Duplicate);
    check(r#"{"\u0061":1,"a":2}"#, 12, JsonFault::Duplicate);
    check(
        r#"[[{"x":{"é":{},"y":{"deep":1},"\u00e9":0}}]]"#,
        31,
        JsonFault::Duplicate,
    );
    parse(r#"{"a":{"a":{"a":1}},"A":2}"#).unwrap();
}

#[test]
fn many_members_cost_linear_time_and_duplicates_are_still_seen() {
    let object = |count: usize, extra: &str| {
        let mut text = String::from("{");
        for index in 0..count {
            write!(text, "\"k{index}\":0,").unwrap();
        }
        write!(text, "{extra}}}").unwrap();
        text
    };
    for count in [15, 16, 17, 18, 100, 150_000] {
        parse(object(count, "\"last\":1")).unwrap();
        for old in [0, count / 2, count - 1] {
            for name in [format!("k{old}"), format!("\\u006b{old}")] {
                let text = object(count, &format!("\"{name}\":1"));
                let at = text.len() - name.len() - 5;
                check(text, at, JsonFault::Duplicate);
            }
        }
    }
}

#[test]
fn limits_hold_exactly() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let max = limits::JSON_DEPTH_MAX;
    parse(nested(max)).unwrap();
    check(nested(max + 1), max, JsonFault::Depth { max });
    check("[".repeat(1 << 20), max, JsonFault::Depth { max });
    let zeros = |count: usize| format!("[0{}]", ",0".repeat(count - 1));
    let max = limits::JSON_NODES_MAX;
    parse(zeros(max - 1)).unwrap();
    check(zeros(max), 2 * max - 1, JsonFault::Nodes { max });
}

#[test]
fn members_are_found_with_their_spans() {
    let text = r#" {"a" : {"\u0062":[10, {"c":"x\ny"}]}, "z":true} "#;
    let json = parse(text).unwrap();
    let list = json.root().path(&["a", "b"]).unwrap();
    assert_eq!(list.text(), r#"[10, {"c":"x\ny"}]"#);
    assert_eq!(list.elements().count(), 2);
    let first = list.elements().next().unwrap();
    assert_eq!(first.as_i64(), Some(10));
    let text_of_c = list.elements().nth(1).unwrap().get("c").unwrap();
    assert_eq!(text_of_c.as_str().unwrap(), "x\ny");
    assert_eq!(json.root().get("z").unwrap().as_bool(), Some(true));
    assert_eq!(json.root().get("y").map(Value::kind), None);
    let spans: Vec<_> = json
        .root()
        .members()
        .map(|m| text.get(m.span()).unwrap())
        .collect();
    assert_eq!(
        spans,
        [r#""a" : {"\u0062":[10, {"c":"x\ny"}]}"#, r#""z":true"#]
    );
    assert_eq!(json.value(list.id()).text(), list.text());
}

#[test]
fn raw_is_always_one_value() {
    assert_eq!(Raw::string("a\"\n").as_str(), r#""a\"\n""#);
    assert_eq!(Raw::integer(-7).as_str(), "-7");
    assert!("1,\"x\":2".parse::<Raw<'_>>().is_err());
    assert_eq!(
        "{\"a\": 1}".parse::<Raw<'_>>().unwrap().as_str(),
        "{\"a\": 1}"
    );
}

/// JSON-like text: mostly tokens, so that valid documents are common.
fn texts() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just(" "),
        Just("\n"),
        Just("null"),
        Just("true"),
        Just("1"),
        Just("-0.5e3"),
        Just("0"),
        Just("\"a\""),
        Just("\"b\""),
        Just("\"\\u0061\""),
        Just("\"\\ud83d\\ude00\""),
        Just("\"\\ud800\""),
        Just("\"é\""),
        Just("\""),
        Just("\\"),
        Just("\"a\":"),
        Just("\"c\":[1,2]"),
        Just("{}"),
    ];
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

fn values() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::hash_map(any::<String>(), inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The document again, through our accessors.
fn rebuild(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        Kind::Array => value.elements().map(rebuild).collect::<Vec<_>>().into(),
        Kind::Object => serde_json::Value::Object(
            value
                .members()
                .map(|m| (m.name().into_owned(), rebuild(m.value)))
                .collect(),
        ),
        Kind::String => value.as_str().unwrap().into_owned().into(),
        Kind::Null | Kind::Bool | Kind::Number => serde_json::from_str(value.text()).unwrap(),
    }
}

fn agrees(bytes: &[u8]) {
    let ours = parse(bytes.to_vec());
    let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
    match (&ours, &theirs) {
        (Ok(json), Ok(value)) => assert_eq!(&rebuild(json.root()), value),
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{error}"),
        (Err(error), Ok(_)) => assert_eq!(error.fault, JsonFault::Duplicate),
    }
}

proptest! {
    #[test]
    fn agrees_with_serde_json_on_token_soup(text in texts()) {
        agrees(text.as_bytes());
    }

    #[test]
    fn agrees_with_serde_json_on_documents(value in values(), pretty: bool) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        agrees(text.unwrap().as_bytes());
    }

    #[test]
    fn agrees_with_serde_json_on_damaged_documents(
        value in values(),
        at: prop::sample::Index,
        byte: u8,
    ) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        agrees(&bytes);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        agrees(&bytes);
    }
}
