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

/// Base 64 as mail and PEM wrap it.
fn wrapped(text: &str, columns: usize, line_break: &str) -> String {
    let lines = text
        .as_bytes()
        .chunks(columns)
        .map(|it| std::str::from_utf8(it).unwrap());
    lines.collect::<Vec<_>>().join(line_break)
}

/// Each byte as `of` writes it.
fn each(text: &str, of: impl Fn(u8) -> String) -> String {
    text.bytes().map(of).collect()
}

fn hex(text: &str, upper: bool) -> String {
    each(text, |byte| {
        if upper {
            format!("{byte:02X}")
        } else {
            format!("{byte:02x}")
        }
    })
}

#[test]
fn line_breaks_hide_nothing() {
    let whole = format!(
        "{}{SECRET}{}",
        "before it ".repeat(12),
        " after it".repeat(12)
    );
    let encoded = STANDARD_NO_PAD.encode(&whole);
    for columns in [4, 19, 57, 64, 76] {
        for line_break in ["\n", "\r\n", "\n> ", "\n  | ", "\n# "] {
            let text = wrapped(&encoded, columns, line_break);
            let json = serde_json::to_string(&[&text]).unwrap();
            let nested = serde_json::to_string(&[&json]).unwrap();
            for json in [&json, &nested] {
                let masked = masked(SECRET, json);
                assert_eq!(
                    masked.matches(MASK).count(),
                    1,
                    "{columns} {line_break:?}: {masked}"
                );
            }
            // The log of a shell, a value wrapped by its window.
            let plain = wrapped(SECRET, 9, line_break);
            let json = serde_json::to_string(&[&plain]).unwrap();
            check(SECRET, &json, r#"["[masked:credential]"]"#);
        }
    }
    // What merely has line breaks stays as it is.
    let text = "nothing\n of it,\r\n> here\n";
    let json = serde_json::to_string(&[text]).unwrap();
    assert_eq!(masked(SECRET, &json), json);
}

const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIFq3Zb1Lw0uT7\n\
    xQ2pH9vR4sN8mK1jD6gW5yE3cA0oUi+Xt\n\
    ZkVbPqLs\n-----END PRIVATE KEY-----";

#[test]
fn a_key_of_several_lines_is_found_line_by_line() {
    let hidden = |text: &str| {
        let json = serde_json::to_string(&[text]).unwrap();
        let masked = masked(KEY, &json);
        for line in ["MC4CAQAw", "BCIEIFq3", "xQ2pH9vR", "cA0oUi", "ZkVbPq"] {
            assert!(!masked.contains(line), "{text}: {masked}");
        }
    };
    hidden(KEY);
    hidden(&KEY.replace('\n', "\r\n"));
    hidden(&KEY.replace('\n', ""));
    hidden(&KEY.replace('\n', "\\n"));
    for prefix in ["> ", "    ", "09:14:07 worker-3 INFO ", "key = "] {
        let lines: Vec<_> = KEY.lines().map(|it| format!("{prefix}{it}")).collect();
        hidden(&lines.join("\n"));
    }
    // One line of it alone.
    check(
        KEY,
        r#"{"a":"line 2: xQ2pH9vR4sN8mK1jD6gW5yE3cA0oUi+Xt"}"#,
        r#"{"a":"line 2: [masked:credential]"}"#,
    );
    // The key of a service account is a text in a text.
    let file = serde_json::to_string_pretty(&serde_json::json!({"private_key": KEY})).unwrap();
    let json = serde_json::to_string(&[KEY]).unwrap();
    let masked = masked(&file, &json);
    assert!(
        !masked.contains("MC4CAQAw") && !masked.contains("cA0oUi"),
        "{masked}"
    );
    // The frame of every other key is nobody's secret.
    check(
        KEY,
        r#"{"a":"a file that begins with -----BEGIN PRIVATE KEY-----, as keys do"}"#,
        r#"{"a":"a file that begins with -----BEGIN PRIVATE KEY-----, as keys do"}"#,
    );
}

#[test]
fn hex_hides_nothing() {
    for upper in [true, false] {
        let json = format!(r#"{{"a":"0x{}, so"}}"#, hex(SECRET, upper));
        check(SECRET, &json, r#"{"a":"0x[masked:credential], so"}"#);
    }
}

#[test]
fn encodings_within_encodings_hide_nothing() {
    let secret = r"k/9+q=Zw:2&x y~Tr";
    // JSON in JSON in JSON, as each of them may write it.
    let solidus = secret.replace('/', r"\/");
    let unicode = each(secret, |it| format!(r"\u{it:04X}"));
    for inner in [solidus, unicode] {
        let mut text = format!(r#"{{"key":"{inner}"}}"#);
        for _ in 0..3 {
            text = serde_json::to_string(&[&text]).unwrap();
            let masked = masked(secret, &text);
            assert_eq!(masked.matches(MASK).count(), 1, "{masked}");
            let still: Result<serde_json::Value, _> = serde_json::from_str(&masked);
            assert!(still.is_ok(), "{masked}");
        }
    }
    let percent = each(secret, |it| format!("%25{it:02x}"));
    check(
        secret,
        &format!(r#"["{percent}"]"#),
        r#"["[masked:credential]"]"#,
    );
    // A value that looks encoded is looked for as it is, too.
    for odd in [r"a%41b%2Fc\u0041\n!", r"C:\new\table"] {
        let once = serde_json::to_string(&[odd]).unwrap();
        let twice = serde_json::to_string(&[&once]).unwrap();
        for json in [once, twice] {
            let masked = masked(odd, &json);
            assert_eq!(masked.matches(MASK).count(), 1, "{json}: {masked}");
        }
    }
}

/// One way of writing a text down, by a number.
fn written(text: &str, way: u8) -> String {
    let escaped = |text: &str| {
        let json = serde_json::to_string(text).unwrap();
        json.get(1..json.len() - 1).unwrap().to_owned()
    };
    match way {
        0 => text.to_owned(),
        1 => STANDARD_NO_PAD.encode(text),
        2 => URL_SAFE_NO_PAD.encode(text),
        3 => wrapped(&STANDARD_NO_PAD.encode(format!("user:{text}:")), 76, "\r\n"),
        4 => escaped(&wrapped(
            &STANDARD_NO_PAD.encode(format!("{:60}{text}", "")),
            76,
            "\n",
        )),
        5 => wrapped(&STANDARD_NO_PAD.encode(format!("u:{text}")), 64, "\n> "),
        6 => each(text, |it| format!("%{it:02X}")),
        7 => each(text, |it| format!("%{it:02x}")),
        8 => each(text, |it| format!(r"\u{it:04x}")),
        9 => escaped(text).replace('/', r"\/"),
        10 => escaped(&escaped(text)),
        11 => hex(text, true),
        12 => wrapped(&hex(text, false), 32, "\n"),
        _ => STANDARD_NO_PAD
            .encode(text)
            .replace('+', "%2b")
            .replace('/', "%2F"),
    }
}

proptest! {
    /// However it is written, and wherever a stream of events is cut.
    #[test]
    fn a_value_never_comes_through(
        secret in "[!-~]{16,90}",
        way in 0_u8..14,
        before in "[ -~]{0,30}",
        after in "[ -~]{0,30}",
        cut in any::<prop::sample::Index>(),
    ) {
        let echo = Echo::of([secret.as_str()]);
        let core = written(&secret, way);
        let whole = format!("{before} {core} {after}");
        let mask = |text: &str| {
            let json = serde_json::to_vec(&[text]).unwrap();
            let masked = echo.mask_json(&json).unwrap_or(json);
            let [text]: [String; 1] = serde_json::from_slice(&masked).unwrap();
            text
        };
        let masked = mask(&whole);
        prop_assert!(masked.contains(MASK), "{way} {whole:?}");
        // Nothing is left of it but what base 64 shares with its neighbours, and what stood around.
        let left = masked.len() - before.len() - after.len();
        prop_assert!(left <= MASK.len() + 90, "{way} {masked:?}");
        prop_assert!(!masked.contains(&core), "{way} {masked:?}");
        // Cut within it, in two events.
        let within = before.len() + 1 + cut.index(core.len() + 1);
        let (one, two) = whole.split_at(within);
        let both = mask(one) + &mask(two);
        prop_assert!(!both.contains(&core), "{way} {both:?}");
        prop_assert!(both.contains(MASK), "{way} {both:?}");
    }

    #[test]
    fn any_text_is_masked_without_harm(text in "(\\\\u[0-9aAdD]{4}|%[0-9a-f]{2}|[\\\\%\n\r>a-f\"]){0,60}") {
        let echo = Echo::of(["abcdefab", "a\"b\\c\nd", "%41%42\u{e9}"]);
        let json = serde_json::to_vec(&[&text]).unwrap();
        if let Some(masked) = echo.mask_json(&json) {
            prop_assert!(serde_json::from_slice::<[String; 1]>(&masked).is_ok());
        }
        prop_assert!(echo.mask_json(text.as_bytes()) != Some(Vec::new()) || text.is_empty());
    }
}
