use super::*;
use crate::tests::{inspector, written};

const KEY: &str = "ghp_7Kq2mWx9RtYb4LsVn1CzGh6PdJf3Ae8UoTiQ";

fn hash(value: &[u8]) -> [u8; 32] {
    let mut hash = [7_u8; 32];
    for (at, byte) in value.iter().enumerate() {
        hash[at % 32] = hash[at % 32].wrapping_mul(31).wrapping_add(*byte);
        hash[(at + 1) % 32] ^= hash[at % 32];
    }
    hash
}

fn masked(json: &str, mask: Mask<'_>) -> Masked {
    let findings = inspector().inspect_json(json.as_bytes());
    mask.json(json.as_bytes(), &findings)
}

fn check(json: &str, expected: &str) {
    let masked = masked(json, Mask::plain());
    assert_eq!(String::from_utf8(masked.bytes).unwrap(), expected);
    assert_eq!(masked.left, Vec::<usize>::new(), "{json}");
}

#[test]
fn a_secret_becomes_its_rule_and_all_else_stays() {
    check(
        &format!("{{ \"a\" : [ 1.0 , \"use {KEY} now\" ] , \"b\\u0062\":\"\\/\" }}"),
        "{ \"a\" : [ 1.0 , \"use [masked:github-token] now\" ] , \"b\\u0062\":\"\\/\" }",
    );
    check(r#"{"a":"nothing"}"#, r#"{"a":"nothing"}"#);
}

#[test]
fn the_form_stays_where_it_tells_nothing() {
    check(
        r#"{"a":"4111 1111 1111 1111."}"#,
        r#"{"a":"**** **** **** 1111."}"#,
    );
    check(
        r#"{"a":"maya.k@mail.example.org"}"#,
        r#"{"a":"****.*@****.*******.org"}"#,
    );
    check(
        r#"["DE89 3704 0044 0532 0130 00"]"#,
        r#"["DE** **** **** **** **30 00"]"#,
    );
    check(r#"["12345678-Z"]"#, r#"["********-*"]"#);
    check(
        r#"["call +44 20 7946 0958"]"#,
        r#"["call +** ** **** **58"]"#,
    );
}

#[test]
fn a_number_stays_a_number() {
    check(
        r#"{"card":4111111111111111}"#,
        r#"{"card":9999999999991111}"#,
    );
    check(
        r#"{"cpf":52998224725,"n":0}"#,
        r#"{"cpf":99999999999,"n":0}"#,
    );
}

#[test]
fn a_name_stays_the_only_one_of_its_kind() {
    check(
        r#"{"a@example.org":1,"b@example.org":2}"#,
        r#"{"[masked:email-address#0]":1,"[masked:email-address#1]":2}"#,
    );
}

#[test]
fn escapes_go_with_what_they_are_part_of() {
    let escaped: String = written(KEY, |byte| format!("\\u{byte:04x}"));
    check(
        &format!(r#"["x\n{escaped}\n"]"#),
        r#"["x\n[masked:github-token]\n"]"#,
    );
    check(
        r#"["4111\u00201111 1111 1111"]"#,
        r#"["**** **** **** 1111"]"#,
    );
}

#[test]
fn what_is_hidden_is_taken_out() {
    check("[\"a\u{200b}\u{200b}b\u{202e}c\"]", r#"["abc"]"#);
    check(
        "{\"data\":\"H4sIAAAAAAAAA0vOzy0oSi0uTk0BAGlrbHUKAAAA\",\"mimeType\":\"application/gzip\"}",
        r#"{"data":"","mimeType":"application/gzip"}"#,
    );
}

#[test]
fn one_mask_is_over_all_that_overlaps() {
    // A token within an address with a password: the address's password holds the token.
    let json = format!(r#"["https://me:{KEY}@github.com/a"]"#);
    let masked = masked(&json, Mask::plain());
    let text = String::from_utf8(masked.bytes).unwrap();
    assert!(
        !text.contains("7Kq2") && text.matches("[masked:").count() == 1,
        "{text}"
    );
    assert!(text.contains("github.com/a"), "{text}");
}

/// Both halves go, and the names between them stay.
#[test]
fn a_secret_in_two_blocks_is_masked_in_both() {
    let (first, second) = KEY.split_at(20);
    let json = format!(
        r#"{{"content":[{{"type":"text","text":"a {first}"}},{{"type":"text","text":"{second} b"}}]}}"#
    );
    check(
        &json,
        r#"{"content":[{"type":"text","text":"a [masked:github-token]"},{"type":"text","text":"[masked:github-token] b"}]}"#,
    );
}

#[test]
fn equal_values_have_equal_masks_under_one_key() {
    let other = KEY.replace("7Kq2", "8Kq2");
    let json = format!(r#"["{KEY}","{other}","{KEY}","4111 1111 1111 1111",4111111111111111]"#);
    let stable = masked(&json, Mask::stable(&hash));
    let values: Vec<serde_json::Value> = serde_json::from_slice(&stable.bytes).unwrap();
    assert_eq!(values[0], values[2]);
    assert_ne!(values[0], values[1]);
    let card = values[3].as_str().unwrap();
    assert!(card.ends_with(" 1111") && card.len() == 19, "{card}");
    assert!(
        card.bytes()
            .take(14)
            .all(|byte| byte == b' ' || LETTERS.contains(&byte)),
        "{card}"
    );
    let number = values[4].as_u64().unwrap();
    assert_eq!(number % 10_000, 1111);
    assert_ne!(number, 4_111_111_111_111_111);
    let keyed = |value: &[u8]| hash(&[b"other", value].concat());
    let otherwise = masked(&json, Mask::stable(&keyed));
    assert_ne!(otherwise.bytes, stable.bytes);
}

#[test]
fn a_mask_that_has_no_place_is_said() {
    let far = crate::Uninspectable::Size.finding(90..99);
    let structure = crate::Uninspectable::Size.finding(0..1);
    let masked = Mask::plain().json(br#"{"a":"b"}"#, [&far, &structure]);
    assert_eq!(masked.left, [0, 1]);
    assert_eq!(masked.bytes, br#"{"a":"b"}"#);
    assert_eq!(Mask::plain().text(b"abc", [&far]).left, [0]);
}

#[test]
fn text_is_masked_as_it_stands() {
    let text = format!("at \"{KEY}\" and\u{200b}on");
    let findings = inspector().inspect_text(text.as_bytes());
    let masked = Mask::plain().text(text.as_bytes(), &findings);
    assert_eq!(masked.bytes, b"at \"[masked:github-token]\" andon");
    let rules: Vec<&str> = masked.masks.iter().map(|it| &*it.rule).collect();
    assert_eq!(rules, ["github-token", "hidden-zero-width"]);
}

/// A span from elsewhere, cutting escapes and characters, still leaves a document.
#[test]
fn any_span_leaves_a_document() {
    let json = r#"{"a\u0041":"\ud83d\ude00é\\\"x","n":-12.5e3}"#;
    for start in 0..json.len() {
        for end in start..=json.len() {
            let finding = crate::Uninspectable::Size.finding(start..end);
            let masked = Mask::plain().json(json.as_bytes(), [&finding]);
            let read = serde_json::from_slice::<serde_json::Value>(&masked.bytes);
            assert!(
                read.is_ok(),
                "{start}..{end}: {}",
                String::from_utf8_lossy(&masked.bytes)
            );
        }
    }
}

#[test]
fn many_spans_at_once_leave_a_document() {
    let json = r#"{"a\u0041":"\ud83d\ude00é\\\"x\n\\u\\\\","n":[-12.5e3,"\u0000"]}"#;
    for step in 2..9 {
        let spans = (0..json.len()).step_by(step);
        let findings: Vec<Finding> = spans
            .map(|at| crate::Uninspectable::Size.finding(at..at + 1))
            .collect();
        for chosen in [
            findings.iter().collect::<Vec<_>>(),
            findings.iter().rev().collect(),
        ] {
            let masked = Mask::plain().json(json.as_bytes(), chosen);
            let read = serde_json::from_slice::<serde_json::Value>(&masked.bytes);
            assert!(
                read.is_ok(),
                "every {step}: {}",
                String::from_utf8_lossy(&masked.bytes)
            );
        }
    }
}
