use super::*;

fn check(json: &str, expected: &[(Kind, &str)]) {
    let found = all(json.as_bytes()).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|token| (token.kind, json.get(token.span.clone()).unwrap()))
        .collect();
    assert_eq!(found, expected, "{json}");
}

#[test]
fn finds_names_strings_and_numbers() {
    use Kind::{Name, Number, String};
    check("null", &[]);
    check(r#""a\"b""#, &[(String, r#"a\"b"#)]);
    check("-1.5e+3", &[(Number, "-1.5e+3")]);
    check(
        r#"{"a":"b","c":[1,"d",{"e":null}],"f":{"g":"h"}}"#,
        &[
            (Name, "a"),
            (String, "b"),
            (Name, "c"),
            (Number, "1"),
            (String, "d"),
            (Name, "e"),
            (Name, "f"),
            (Name, "g"),
            (String, "h"),
        ],
    );
}

#[test]
fn the_same_names_are_the_same_path() {
    let json = br#"{"a":[{"b":"1"},{"b":"2"}],"c":{"b":"3"},"d":"4"}"#;
    let tokens = all(json).unwrap();
    let path = |value: &[u8]| {
        let token = tokens.iter().find(|it| &json[it.span.clone()] == value);
        token.unwrap().path
    };
    assert_eq!(path(b"1"), path(b"2"));
    assert_ne!(path(b"1"), path(b"3"));
    assert_ne!(path(b"3"), path(b"4"));
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "", " ", "{", "]", "{]", "[}", "\"", "\"\\", "\"\\\"", "abc", "1,2", "a\"b\"", "{\"a\"",
        "\u{e9}",
    ] {
        assert!(all(text.as_bytes()).is_err(), "{text}");
    }
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(all(nested(limits::JSON_DEPTH_MAX).as_bytes()).is_ok());
    assert!(all(nested(limits::JSON_DEPTH_MAX + 1).as_bytes()).is_err());
}
