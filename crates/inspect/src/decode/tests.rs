use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::tests::written;

/// What is found in a text, each as text, or why not.
fn check(text: &str, expected: &[&str]) {
    let mut found = Vec::new();
    runs(text.as_bytes(), &mut |run, decoded| {
        assert!(run.end <= text.len());
        found.push(match decoded {
            Decoded::Text { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
            Decoded::Opaque(reason) => reason.rule().to_owned(),
        });
    });
    assert_eq!(found, expected, "{text}");
}

const SENTENCE: &str = "a sentence that somebody wrote";

#[test]
fn text_is_read_in_both_alphabets_with_and_without_padding() {
    check(&STANDARD.encode(SENTENCE), &[SENTENCE]);
    check(&URL_SAFE_NO_PAD.encode(SENTENCE), &[SENTENCE]);
    check(
        &STANDARD.encode(format!("{SENTENCE}s")),
        &[&format!("{SENTENCE}s")],
    );
    let other = "привет мир и всё такое";
    check(&STANDARD.encode(other), &[other]);
    let hex: String = written(SENTENCE, |byte| format!("{byte:02X}"));
    check(&hex, &[SENTENCE]);
}

#[test]
fn something_in_front_moves_nothing_out_of_sight() {
    for front in ["x", "xy", "xyz", "files/", "a/b-"] {
        let mut found = Vec::new();
        let text = format!("{front}{}", STANDARD.encode(SENTENCE));
        runs(text.as_bytes(), &mut |_, decoded| {
            if let Decoded::Text { bytes, .. } = decoded {
                found.push(String::from_utf8_lossy(&bytes).into_owned());
            }
        });
        assert!(
            found.iter().any(|it| it.contains("that somebody wrote")),
            "{text}: {found:?}"
        );
    }
}

#[test]
fn broken_lines_are_one_run() {
    let long = SENTENCE.repeat(8);
    let lines: Vec<String> = STANDARD
        .encode(&long)
        .as_bytes()
        .chunks(76)
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect();
    check(&lines.join("\n"), &[&long]);
    check(&lines.join("\r\n"), &[&long]);
}

#[test]
fn wide_characters_are_read() {
    let little: Vec<u8> = SENTENCE.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = SENTENCE.encode_utf16().flat_map(u16::to_be_bytes).collect();
    check(&STANDARD.encode(little), &[SENTENCE]);
    check(&STANDARD.encode(big), &[SENTENCE]);
}

#[test]
fn digests_and_identifiers_are_nothing() {
    for text in [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        "123e4567-e89b-12d3-a456-426614174000",
        "some_long_identifier_of_a_function",
        "usr/local/share/doc/packages/something",
        "short",
    ] {
        check(text, &[]);
    }
}

#[test]
fn binary_is_said() {
    let noise: Vec<u8> = (0..2_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80)
        .collect();
    check(&STANDARD.encode(&noise), &["uninspectable-blob"]);
    check(&STANDARD.encode(&noise[..100]), &[]);
    let member = |name: &str| format!(r#"{{"{name}" : "{}"}}"#, STANDARD.encode(&noise[..100]));
    check(&member("blob"), &["uninspectable-blob"]);
    check(&member("data"), &[]);
    let typed = format!(
        r#"{},"mimeType":"a/b"}}"#,
        member("data").trim_end_matches('}')
    );
    check(&typed, &["uninspectable-blob"]);
    check(&member("digest"), &[]);
    check(&format!(r#"{{"blob":"{}"}}"#, "0f".repeat(32)), &[]);
    let with = |magic: &[u8]| STANDARD.encode([magic, &noise[..64]].concat());
    check(&with(b"\x1f\x8b\x08\x00"), &["uninspectable-compressed"]);
    check(&with(b"PK\x03\x04"), &["uninspectable-compressed"]);
    check(&with(b"\x28\xb5\x2f\xfd"), &["uninspectable-compressed"]);
    check(&with(b"\x78\x9c"), &["uninspectable-compressed"]);
    check(&with(b"\x89PNG\r\n\x1a\n"), &["uninspectable-blob"]);
}

#[test]
fn escapes_of_every_kind_are_undone() {
    let check = |text: &str, expected: Option<&str>| {
        let view = escapes(text.as_bytes());
        let text = view
            .as_ref()
            .map(|view| std::str::from_utf8(view.bytes()).unwrap());
        assert_eq!(text, expected);
    };
    check("plain 100% & more \\ of it", None);
    check("a b%63d e", Some("bcd\n"));
    check(r"x \u0041\u{42}\x43 y", Some("ABC\n"));
    check("&#65;&#x42;;", Some("AB;\n"));
    check(r"a%2Fb c\/d", Some("a/b\nc/d\n"));
    check("%zz &#; &#xFFFFFFFFF; \\u12 \\u{} \\u{110000}", None);
    check("%41%", Some("A%\n"));
}

#[test]
fn an_escaped_word_leads_back_to_its_bytes() {
    let text = "see b%63d there";
    let view = escapes(text.as_bytes()).unwrap();
    assert_eq!(view.below(0..3), 4..9);
    assert_eq!(view.below(1..2), 5..8);
}
