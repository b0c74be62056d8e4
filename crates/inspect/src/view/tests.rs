use super::*;

/// The text of a view, and where each of its bytes comes from.
fn check(view: &View<'_>, text: &str, spans: &[(&str, Range<usize>)]) {
    assert_eq!(std::str::from_utf8(view.bytes()).unwrap(), text);
    for (part, span) in spans {
        let at = text.find(part).unwrap();
        assert_eq!(&view.below(at..at + part.len()), span, "{part}");
    }
}

#[test]
fn escapes_are_undone_and_found_again() {
    check(&unescaped(b"plain"), "plain", &[("lai", 1..4)]);
    check(
        &unescaped(br#"a\"b\\c\/d\nE"#),
        "a\"b\\c/d\nE",
        &[
            ("a", 0..1),
            ("\"", 1..3),
            ("b", 3..4),
            ("\\", 4..6),
            ("c/d", 6..10),
            ("E", 12..13),
            ("b\\c", 3..7),
        ],
    );
    let pair = br"x\ud83d\ude00y\u0041\u00e9z";
    check(
        &unescaped(pair),
        "x😀yAéz",
        &[
            ("x", 0..1),
            ("😀", 1..13),
            ("yA", 13..20),
            ("é", 20..26),
            ("z", 26..27),
        ],
    );
    // A part of what an escape stands for is all of it.
    let view = unescaped(br"\ud83d\ude00");
    assert_eq!(view.below(1..2), 0..12);
}

#[test]
fn broken_escapes_are_kept_as_they_are_and_stay_within_the_text() {
    for text in [
        r"\",
        r"a\",
        r"\u",
        r"\u12",
        r"\ud800",
        r"\ud800\n",
        r"\udc00\ud800",
        "\\é",
    ] {
        let view = unescaped(text.as_bytes());
        let span = view.below(0..view.bytes().len());
        assert_eq!(span, 0..text.len(), "{text}");
    }
}

#[test]
fn layers_lead_down_to_the_document() {
    let document = br"say \u0068\u0065llo";
    let text = unescaped(document);
    let below = Layer {
        view: &text,
        below: None,
    };
    let mut builder = Builder::default();
    builder.copy(text.bytes(), 4..6);
    builder.gap();
    builder.replace(b"LLO", 6..9);
    let view = builder.finish();
    let layer = Layer {
        view: &view,
        below: Some(&below),
    };
    assert_eq!(view.bytes(), b"he\nLLO");
    let raw = |span| {
        let (lowest, base) = layer.lowest(span);
        lowest.below(base)
    };
    assert_eq!(raw(0..1), 4..10);
    assert_eq!(raw(1..2), 10..16);
    assert_eq!(raw(4..5), 16..19);
    assert_eq!(raw(0..6), 4..19);
}
