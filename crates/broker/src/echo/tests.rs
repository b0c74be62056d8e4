use proptest::prelude::*;

use super::*;

const SECRET: &str = "ghp_9aXk27QmZrT4LwPc81vN";

fn masked(secret: &str, json: &str) -> String {
    let echo = Echo::of([secret]);
    let masked = echo.mask_json(json.as_bytes());
    masked.map_or_else(|| json.to_owned(), |it| String::from_utf8(it).unwrap())
}

#[track_caller]
fn check(secret: &str, json: &str, expected: &str) {
    assert_eq!(masked(secret, json), expected);
}

#[test]
fn a_value_is_masked_wherever_it_stands() {
    check(
        SECRET,
        r#"{"a":"ghp_9aXk27QmZrT4LwPc81vN"}"#,
        r#"{"a":"[masked:credential]"}"#,
    );
    check(
        SECRET,
        r#"{"a":["x","Bearer ghp_9aXk27QmZrT4LwPc81vN, twice ghp_9aXk27QmZrT4LwPc81vN."]}"#,
        r#"{"a":["x","Bearer [masked:credential], twice [masked:credential]."]}"#,
    );
    check(
        SECRET,
        r#"{"ghp_9aXk27QmZrT4LwPc81vN":1}"#,
        r#"{"[masked:credential]":1}"#,
    );
    check(
        "73519042",
        r#"{"pin":73519042,"b":[1,73519042]}"#,
        r#"{"pin":null,"b":[1,null]}"#,
    );
    check(
        SECRET,
        r#"{"a":"nothing of it","n":1.5e3,"t":true}"#,
        r#"{"a":"nothing of it","n":1.5e3,"t":true}"#,
    );
}

#[test]
fn escapes_of_json_hide_nothing() {
    let secret = r#"pa"ss\wo/rd<é>"#;
    for json in [
        r#"{"a":"is pa\"ss\\wo/rd<é>!"}"#,
        r#"{"a":"is pa\"ss\\wo\/rd<é>!"}"#,
        r#"{"a":"is p\u0061\"ss\\wo/rd\u003c\u00e9\u003E!"}"#,
    ] {
        check(secret, json, r#"{"a":"is [masked:credential]!"}"#);
    }
    // A document in a string.
    let inner = serde_json::to_string(&serde_json::json!({"key": secret})).unwrap();
    let outer = serde_json::to_string(&serde_json::json!({"text": inner})).unwrap();
    check(
        secret,
        &outer,
        r#"{"text":"{\"key\":\"[masked:credential]\"}"}"#,
    );
}

#[test]
fn base_64_hides_nothing_wherever_the_value_begins() {
    for before in ["", "u", "us", "user:", "some user:"] {
        for after in ["", "!", "@x", "\n"] {
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let whole = format!("{before}{SECRET}{after}");
                let json = format!(r#"{{"a":"Basic {}"}}"#, engine.encode(whole));
                let masked = masked(SECRET, &json);
                assert!(masked.contains(MASK), "{before:?} {after:?}: {masked}");
                // What is left are the characters that it shares with its neighbours.
                assert!(
                    masked.len() < json.len() - SECRET.len() + MASK.len() + 4,
                    "{masked}"
                );
            }
        }
    }
}

#[test]
fn percent_encoding_hides_nothing_however_much_is_encoded() {
    let secret = "k/9+q=Zw:2&x y~Tr";
    let each = |of: &dyn Fn(u8) -> bool, upper: bool| {
        let byte = |byte: u8| match (of(byte), upper) {
            (true, true) => format!("%{byte:02X}"),
            (true, false) => format!("%{byte:02x}"),
            (false, _) => char::from(byte).to_string(),
        };
        secret.bytes().map(byte).collect::<String>()
    };
    for upper in [true, false] {
        for text in [
            each(&|_| true, upper),
            each(&|byte| !byte.is_ascii_alphanumeric(), upper),
            each(&|byte| b"/+=& ".contains(&byte), upper),
        ] {
            let json = format!(r#"{{"url":"https://x.example/?t={text}&z=1"}}"#);
            let expected = r#"{"url":"https://x.example/?t=[masked:credential]&z=1"}"#;
            check(secret, &json, expected);
        }
    }
    // Base 64 in an address.
    let encoded = STANDARD_NO_PAD
        .encode(secret)
        .replace('+', "%2B")
        .replace('/', "%2F");
    let masked = masked(secret, &format!(r#"{{"a":"?t={encoded}"}}"#));
    assert!(masked.contains(MASK), "{masked}");
}

#[test]
fn a_value_in_pieces_is_masked_piece_by_piece() {
    for at in PIECE_BYTES_MIN..=SECRET.len() - PIECE_BYTES_MIN {
        let (one, two) = SECRET.split_at(at);
        check(
            SECRET,
            &format!(r#"{{"a":"so: {one}"}}"#),
            r#"{"a":"so: [masked:credential]"}"#,
        );
        check(
            SECRET,
            &format!(r#"{{"a":"{two}, so"}}"#),
            r#"{"a":"[masked:credential], so"}"#,
        );
    }
    // Three events, the second all of the value's middle.
    let long = "Zk3vQ8wLm2Xp9RtY6bNc1DfG7hJs4KaE";
    check(
        long,
        &format!(r#"{{"a":"{}"}}"#, long.get(3..21).unwrap()),
        r#"{"a":"[masked:credential]"}"#,
    );
    // What merely looks like a part of it, in the middle of something else, is left alone.
    check(
        "https://hooks.example/services/T0/B1/ZkvQwLm",
        r#"{"a":"see https://hooks.example/docs and more"}"#,
        r#"{"a":"see https://hooks.example/docs and more"}"#,
    );
}

#[test]
fn what_is_too_short_is_not_looked_for() {
    assert!(Echo::of(["", "12345"]).is_empty());
    assert!(!Echo::of(["123456"]).is_empty());
    check("123456", r#"["1234567"]"#, r#"["[masked:credential]7"]"#);
}

#[test]
fn what_repeats_itself_is_found() {
    let secret = "a".repeat(64);
    let text = format!("{}b", "a".repeat(10_000));
    let echo = Echo::of([secret.as_str()]);
    let masked = echo.mask_text(text.as_bytes()).unwrap();
    // Wherever in it one may begin.
    assert_eq!(String::from_utf8(masked).unwrap(), format!("{MASK}b"));
}

#[test]
fn parts_of_a_long_value_cost_what_they_are_long() {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'a' + u8::try_from(state >> 28).unwrap())
    };
    let secret: String = (0..32 * 1024).map(|_| next()).collect();
    // All but its first byte, again and again: compared window by window with all around each, this
    // would be thirty billion steps.
    let almost = secret.get(1..).unwrap();
    let text = format!("-{}-", [almost; 16].join("-"));
    let echo = Echo::of([secret.as_str()]);
    assert_eq!(echo.mask_text(text.as_bytes()), None);
    assert!(echo.mask_text(format!("-{secret}-").as_bytes()).is_some());
}

#[test]
fn it_shows_nothing_of_what_it_knows() {
    assert!(!format!("{:?}", Echo::of([SECRET])).contains("ghp_"));
}

proptest! {
    #[test]
    fn what_is_masked_is_still_json_and_has_no_value(
        secret in "[ -~é\n\t]{6,60}",
        before in "[ -~é\n]{0,20}",
        after in "[ -~\u{1F600}]{0,20}",
    ) {
        let value = serde_json::json!({"a": [format!("{before}{secret}{after}"), 1], "b": "c"});
        let json = serde_json::to_vec(&value).unwrap();
        let masked = Echo::of([secret.as_str()]).mask_json(&json).unwrap();
        let masked: serde_json::Value = serde_json::from_slice(&masked).unwrap();
        let text = masked["a"][0].as_str().unwrap();
        prop_assert!(text.contains(MASK));
        let is_there = text.replace(MASK, "\u{0}").contains(&secret);
        prop_assert!(!is_there);
    }

    #[test]
    fn what_nobody_leased_passes_as_it_is(text in "\\PC{0,200}") {
        let echo = Echo::of(["QmZrT4LwPc81vNghp_9aXk27"]);
        prop_assert_eq!(echo.mask_json(text.as_bytes()), None);
    }
}
