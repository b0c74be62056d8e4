use proptest::prelude::*;

use super::*;

/// The form policy sees, and whether the value may pass as written.
fn check(kind: Kind, given: &str, expected: &str, passes: bool) {
    match canonical(kind, given) {
        Ok(canonical) => {
            assert_eq!(canonical.text, expected, "{given}");
            let found = canonical.is_form_of(given) && canonical.doubt.is_none();
            assert_eq!(found, passes, "{given}");
        }
        Err(why) => {
            assert_eq!(format!("! {why}"), expected, "{given}");
            assert!(!passes);
        }
    }
}

#[test]
fn paths() {
    let check = |given, expected, passes| check(Kind::Path, given, expected, passes);
    check("/public/a.txt", "/public/a.txt", true);
    check("notes/a b (1).txt", "notes/a b (1).txt", true);
    check("/tmp/", "/tmp", true);
    check("/", "/", true);
    check("//", "/", false);
    check("/tmp//", "/tmp", false);
    check(".", ".", true);
    check("", "", true);
    check("ünï/100%.txt", "ünï/100%.txt", true);
    check("~/x", "~/x", true);
    check("/public/../private", "/private", false);
    check("/public/./x", "/public/x", false);
    check("/public//x", "/public/x", false);
    check("./x", "x", false);
    check("a/..", ".", false);
    check("/../../etc", "/etc", false);
    check("../etc", "! it climbs out of where it starts (`..`)", false);
    check("/public/%2e%2E/private", "/private", false);
    check("/public%2f..%2Fprivate", "/private", false);
    check("/public/%252e%252e/private", "/private", false);
    check("/public/%25252e./private", "/private", false);
    check("/public/%%32e%%32e/private", "/private", false);
    check("/public/%25%32e./private", "/private", false);
    check("/public/..%5cprivate", "/private", false);
    check("\\public\\x", "/public/x", false);
    check("C:\\Users\\x", "C:/Users/x", false);
    check("/a%00b", "! it holds an escaped control character", false);
    check("/a%2500b", "! it holds an escaped control character", false);
    check("/a\0b", "! it holds a control character", false);
    check("/a\nb", "! it holds a control character", false);
    check("https://Example.com/x", "https://example.com/x", false);
    check("https://example.com/x", "https://example.com/x", true);
}

#[test]
fn urls() {
    let check = |given, expected, passes| check(Kind::Url, given, expected, passes);
    check(
        "https://example.com/a/b?q=%2F#f",
        "https://example.com/a/b?q=%2F#f",
        true,
    );
    check("https://example.com", "https://example.com/", true);
    check("https://example.com/a/", "https://example.com/a/", true);
    check("HTTPS://example.com/", "https://example.com/", false);
    check("https://EXAMPLE.com/", "https://example.com/", false);
    check("https://example.com:443/", "https://example.com/", false);
    check(
        "https://example.com:8443/",
        "https://example.com:8443/",
        true,
    );
    check(
        "https://example.com:08443/",
        "https://example.com:8443/",
        false,
    );
    check("https://example.com./", "https://example.com/", false);
    check(
        "https://good.example@evil.example/",
        "https://evil.example/",
        false,
    );
    check("https://example.com/a/../b", "https://example.com/b", false);
    check(
        "https://example.com/%2e%2e/b",
        "https://example.com/b",
        false,
    );
    check(
        "https://example.com/a%2fb",
        "https://example.com/a/b",
        false,
    );
    check("https://example.com\\b", "https://example.com/b", false);
    check("https:example.com/b", "https://example.com/b", false);
    check("https:///example.com/b", "https://example.com/b", false);
    check(
        "https://example.com/%c3%a9",
        "https://example.com/%C3%A9",
        false,
    );
    check(
        "https://example.com/%C3%A9",
        "https://example.com/%C3%A9",
        true,
    );
    check("http://127.1/", "http://127.0.0.1/", false);
    check("http://2130706433/", "http://127.0.0.1/", false);
    check("http://0x7f.0.0.1/", "http://127.0.0.1/", false);
    check("http://0177.0.0.1/", "http://127.0.0.1/", false);
    check("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/x", true);
    check(
        "http://256.0.0.1/",
        "! its host is a number but not an IPv4 address",
        false,
    );
    check("http://[::1]:8080/x", "http://[::1]:8080/x", true);
    check("http://[0:0::1]/x", "http://[::1]/x", false);
    check(
        "http://xn--80ak6aa92e.example/",
        "http://xn--80ak6aa92e.example/",
        false,
    );
    check("http://аpple.example/", "! its host is not in ASCII", false);
    check(
        "http://ex%61mple.com/",
        "! its host is not a host name",
        false,
    );
    check("http:///", "! it has no host", false);
    check("https://example.com/a b", "! it holds white space", false);
    check("file:///etc/passwd", "file:///etc/passwd", true);
    check("file://localhost/etc", "file:///etc", false);
    check("file:/etc/../x", "file:///x", false);
    check(
        "demo://resource/static/a.md",
        "demo://resource/static/a.md",
        true,
    );
    check("memo://Insights", "memo://Insights", true);
    check("demo://a/../b", "demo://a/b", false);
    check("demo://a/x/%2E%2e/b", "demo://a/b", false);
    check("postgres://user:word@db/x", "postgres://db/x", false);
    check("urn:isbn:123", "urn:isbn:123", true);
    check("mailto:a@b.example", "mailto:a@b.example", true);
    check(
        "data:text/plain;base64,AA//BB==",
        "data:text/plain;base64,AA//BB==",
        true,
    );
    check("/api/x?y", "/api/x?y", true);
    check("/api/../x", "/x", false);
    check("//evil.example/x", "! it has a host but no scheme", false);
    check("\\\\evil.example/x", "! it has a host but no scheme", false);
    check("example.com/x", "example.com/x", true);
}

#[test]
fn names_and_formats_tell_the_kind() {
    for (name, format, kind) in [
        ("path", None, Some(Kind::Path)),
        ("target_path", None, Some(Kind::Path)),
        ("targetPath", None, Some(Kind::Path)),
        ("options.filePath", None, Some(Kind::Path)),
        ("working-directory", None, Some(Kind::Path)),
        ("baseURL", None, Some(Kind::Url)),
        ("base_url", None, Some(Kind::Url)),
        ("imageUrls", None, Some(Kind::Url)),
        ("xpath", None, None),
        ("content", None, None),
        ("query", None, None),
        ("target", Some("uri"), Some(Kind::Url)),
        ("target", Some("date"), None),
    ] {
        assert_eq!(kind_of(name, format), kind, "{name}");
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("/".to_owned()),
        Just("\\".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%25".to_owned()),
        Just("%5C".to_owned()),
        Just("%".to_owned()),
        Just("2".to_owned()),
        Just("5".to_owned()),
        Just("e".to_owned()),
        Just("http:".to_owned()),
        Just("file:".to_owned()),
        Just("demo:".to_owned()),
        Just("//".to_owned()),
        Just("@".to_owned()),
        Just(":80".to_owned()),
        Just("[::1]".to_owned()),
        Just("?".to_owned()),
        Just("#".to_owned()),
        Just("A".to_owned()),
        Just("xn--a".to_owned()),
        Just("0x7f".to_owned()),
        "[a-z0-9.]{0,5}",
        "\\PC{0,3}",
    ];
    proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn a_canonical_form_is_its_own(given in hostile(), url in any::<bool>()) {
        let kind = if url { Kind::Url } else { Kind::Path };
        if let Ok(once) = canonical(kind, &given) {
            let twice = canonical(kind, &once.text);
            prop_assert!(
                twice.as_ref().is_ok_and(|twice| twice.text == once.text),
                "{given:?} -> {once:?} -> {twice:?}"
            );
        }
    }

    #[test]
    fn a_canonical_path_never_climbs(given in hostile(), url in any::<bool>()) {
        let kind = if url { Kind::Url } else { Kind::Path };
        if let Ok(canonical) = canonical(kind, &given) && !canonical.text.starts_with("data:") {
            let (path, _) = if canonical.text.contains("://") || url {
                split_tail(&canonical.text)
            } else {
                (canonical.text.as_str(), "")
            };
            for segment in path.split('/') {
                prop_assert!(segment != "..", "{given:?} -> {canonical:?}");
            }
            let lower = path.to_lowercase();
            for trap in ["%2e", "%2f", "%5c"] {
                prop_assert!(!lower.contains(trap), "{given:?} -> {canonical:?}");
            }
            prop_assert!(!path.contains('\\'), "{given:?} -> {canonical:?}");
        }
    }
}
