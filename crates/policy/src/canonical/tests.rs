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
    check("file..name", "file..name", true);
    check("100%25.txt", "100%.txt", false);
    check("My%20Report.pdf", "My Report.pdf", false);
    check(
        "r\u{e9}sum\u{e9}/日本（株）.txt",
        "r\u{e9}sum\u{e9}/日本（株）.txt",
        true,
    );
    check(
        "Screenshot 9.41\u{202f}AM.png",
        "Screenshot 9.41\u{202f}AM.png",
        true,
    );
    check("½ cup; sugar.md", "½ cup; sugar.md", true);
    check("console/nullable/comet", "console/nullable/comet", true);
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
        "https://example.com/a/b?q=%2F",
        "https://example.com/a/b?q=%2F",
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

/// A trick: it has no canonical form, or another one than it is written in, or is in doubt.
#[track_caller]
fn refused(kind: Kind, given: &str, why: &str) {
    let found = match canonical(kind, given) {
        Err(why)
        | Ok(Canonical {
            doubt: Some(why), ..
        }) => why,
        Ok(canonical) if !canonical.is_form_of(given) => "",
        Ok(canonical) => panic!("{given:?} passes as {canonical:?}"),
    };
    assert!(
        found.contains(why) && found.is_empty() == why.is_empty(),
        "{given:?}: {found:?}, not {why:?}"
    );
}

#[test]
fn tricks_with_paths() {
    for (given, why) in [
        ("/public/%c0%ae%c0%ae/private", "not UTF-8"),
        ("/public/%e0%80%ae%e0%80%ae/private", "not UTF-8"),
        ("/public/%ff/x", "not UTF-8"),
        ("/public/..;/private", "nothing but dots"),
        ("/public/.;x=1/private", "nothing but dots"),
        ("/public/;/private", "nothing but dots"),
        ("/public. /x", "ends with a space"),
        ("/public /x", "ends with a space"),
        (" /etc/passwd", "nothing but dots"),
        ("/etc/passwd ", "begins or ends with a space"),
        ("/etc/passwd%20", "ends with a space"),
        ("/public/.. /private", "nothing but dots"),
        ("/public/.../private", "nothing but dots"),
        ("/public/. ./private", "nothing but dots"),
        ("/public/secret.txt.", "ends with a dot"),
        ("/public/secret.txt. ", "ends with a space"),
        ("/public/\u{ff0e}\u{ff0e}/private", "nothing but dots"),
        ("/public/\u{2025}/private", "nothing but dots"),
        ("/public/\u{2024}\u{2024}/private", "nothing but dots"),
        ("/public/\u{fe52}./private", "nothing but dots"),
        ("/public/\u{2026}/private", "nothing but dots"),
        ("/public/\u{ff0e}env", "becomes a dot"),
        ("/public/a.txt\u{ff0e}", "becomes a dot"),
        ("/public/..\u{ff0f}private", "becomes a slash"),
        ("/public/..\u{ff3c}private", "becomes a slash"),
        ("/public/..\u{fe68}private", "becomes a slash"),
        ("/public/..\u{2215}private", "looks like a slash"),
        ("/public/..\u{2044}private", "looks like a slash"),
        ("/public/..\u{2216}private", "looks like a slash"),
        ("/public/..\u{29f8}private", "looks like a slash"),
        ("/public/%ef%bc%8e%ef%bc%8e/private", "nothing but dots"),
        ("/public/%ef%bc%852e%ef%bc%852e/private", "nothing but dots"),
        (
            "/public/%\u{ff12}\u{ff45}%\u{ff12}e/private",
            "nothing but dots",
        ),
        ("/public/..%\u{ff12}fprivate", "becomes a slash"),
        ("/public/\u{ff05}00", "become an escape"),
        ("/public/..\u{200b}/private", "invisible"),
        ("/public/.\u{2060}./private", "invisible"),
        ("/public/\u{202e}txt.exe", "invisible"),
        ("/public/\u{feff}x", "invisible"),
        ("/public/a\u{ad}b", "invisible"),
        ("/public/a%e2%80%8bb", "invisible"),
        ("/public/a\u{85}b", "control"),
        ("/public/a\u{7f}b", "control"),
        ("/public/a:stream", "colon"),
        ("/public/a::$DATA", "colon"),
        ("C:/Users/x", "colon"),
        ("C:x", "colon"),
        ("/c:/x", "colon"),
        ("file:/etc/passwd", "colon"),
        ("/public/a%3astream", "colon"),
        ("\\\\?\\C:\\x", "colon"),
        ("\\\\?\\GLOBALROOT\\x", ""),
        ("\\\\server\\share", ""),
        ("/public/nul", "device"),
        ("/public/CON", "device"),
        ("/public/com1.txt", "device"),
        ("/public/Lpt9 .log", "device"),
        ("/public/COM\u{b9}", "device"),
        ("aux.c/x", "device"),
        ("/public/CONIN$", "device"),
        ("/public/%252e%252e/private", ""),
        ("/public/%25252e%25252e/private", ""),
        ("/public/%2520x", "begins or ends with a space"),
        ("~", "home folder"),
        ("~/x", "home folder"),
        ("~root/x", "home folder"),
        ("%7Eroot/x", "home folder"),
        ("/public//x", ""),
        ("//x", ""),
        ("/public/x//", ""),
    ] {
        refused(Kind::Path, given, why);
    }
}

#[test]
fn tricks_with_urls() {
    for (given, why) in [
        ("https://a.example/%zz", "begins no escape"),
        ("https://a.example/x%", "begins no escape"),
        ("https://a.example/x?q=%2", "begins no escape"),
        ("demo://a.example/%zz", "begins no escape"),
        ("/x/%zz", "begins no escape"),
        ("https://a.example/public/..;/private", "nothing but dots"),
        (
            "https://a.example/public/..;x=1/private",
            "nothing but dots",
        ),
        ("https://a.example/public/..%3b/private", "nothing but dots"),
        ("https://a.example/public/..%20/private", "nothing but dots"),
        ("/public/..;/private", "nothing but dots"),
        ("demo://a/public/..;/private", "nothing but dots"),
        ("https://a.example/%c0%ae%c0%ae/private", "not UTF-8"),
        ("https://a.example/caf%E9", "not UTF-8"),
        (
            "https://a.example/%EF%BC%8E%EF%BC%8E/private",
            "nothing but dots",
        ),
        (
            "https://a.example/\u{ff0e}\u{ff0e}/private",
            "nothing but dots",
        ),
        ("https://a.example/..%E2%88%95private", "looks like a slash"),
        ("https://a.example/..%EF%BC%8Fprivate", "becomes a slash"),
        ("https://a.example/a%E2%80%8Bb", "invisible"),
        ("https://a.example/a\u{202e}b", "invisible"),
        ("https://a.example/%252e%252e/private", ""),
        ("https://a.example/a%2520b", ""),
        ("https://good.example@evil.example/", ""),
        ("https://user:word@evil.example/", ""),
        ("https://@evil.example/", ""),
        ("https://good.example\\@evil.example/", ""),
        ("https:\\\\evil.example/", ""),
        ("https://a.example/public\\..\\private", ""),
        ("https://a.example/public/..%5cprivate", ""),
        ("http://0177.0.0.1/", ""),
        ("http://0x7f000001/", ""),
        ("http://0X7F.1/", ""),
        ("http://2130706433/", ""),
        ("http://127.1/", ""),
        ("http://127.0.0.1./", ""),
        ("http://\u{2460}\u{2461}\u{2466}.0.0.1/", "not in ASCII"),
        ("http://[::ffff:127.0.0.1]/", ""),
        ("http://[::ffff:7f00:1]/", ""),
        ("http://[0:0:0:0:0:ffff:127.0.0.1]/", ""),
        ("http://[fe80::1%25eth0]/", "not an IPv6 address"),
        ("https://a.example./", ""),
        ("https://A.example/", ""),
        ("HTTPS://a.example/", ""),
        ("https://a.example:443/", ""),
        ("http://a.example:80/x", ""),
        ("https://a.example:/", ""),
        ("https://xn--pple-43d.example/", "internationalised"),
        ("https://XN--pple-43d.example/", "internationalised"),
        ("https://аpple.example/", "not in ASCII"),
        ("https://a\u{3002}example/", "not in ASCII"),
        ("https://a.example/x#.json", ""),
        ("https://a.example#@evil.example/", ""),
        ("/x#y", ""),
        ("https://a.example/\tx", "control"),
        ("https://a.exam\nple/x", "control"),
        ("java\tscript:x", "control"),
        ("https://a.example/%09x", "control"),
        (" https://a.example/", "white space"),
        ("https:///a.example/", ""),
        ("https://", "no host"),
        ("https:///", "no host"),
        ("https://:80/", "no host"),
        ("https://?x", "no host"),
        ("file:///C:/x", "colon"),
        ("file:///public/nul", "device"),
        ("file:///public/secret.txt.", "ends with a dot"),
        ("file:///public/a%3Astream", "colon"),
        ("file:///~root/x", "home folder"),
    ] {
        refused(Kind::Url, given, why);
    }
}

#[test]
fn letters_in_a_url_are_escapes_to_policy() {
    let check = |given, expected, passes| check(Kind::Url, given, expected, passes);
    check(
        "https://a.example/é?q=é",
        "https://a.example/%C3%A9?q=%C3%A9",
        true,
    );
    check("https://a.example/%C3%A9", "https://a.example/%C3%A9", true);
    check(
        "https://a.example/%c3%a9",
        "https://a.example/%C3%A9",
        false,
    );
    check("https://a.example/é/../x", "https://a.example/x", false);
    check(
        "https://a.example/wiki/Inc.",
        "https://a.example/wiki/Inc.",
        true,
    );
    check(
        "https://a.example/a%20b;v=1/c+d",
        "https://a.example/a%20b;v=1/c+d",
        true,
    );
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
        "[;:~ \t\u{ff0e}\u{ff0f}\u{ff05}\u{ff12}\u{ff45}\u{2024}-\u{2026}\u{2215}\u{200b}]{1,2}",
        "%[a-fA-F0-9]{2}",
        Just("%ef%bc%8e".to_owned()),
        Just("%c0%ae".to_owned()),
    ];
    proptest::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

/// Percent-decoding as a careless server does it.
fn naively_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        if let (b'%', [high, low, after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            out.push(high << 4 | low);
            bytes = after;
        } else {
            out.push(*first);
        }
    }
    String::from_utf8_lossy(&out).into_owned()
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
    fn what_passes_climbs_for_no_reader(given in hostile(), url in any::<bool>()) {
        let kind = if url { Kind::Url } else { Kind::Path };
        let passes = canonical(kind, &given)
            .ok()
            .filter(|it| it.doubt.is_none() && it.is_form_of(&given) && !is_data_url(&it.text));
        if passes.is_some() {
            let mut read = if url { split_tail(&given).0.to_owned() } else { given.clone() };
            for _ in 0..3 {
                for segment in read.split(['/', '\\', ';']) {
                    prop_assert!(segment != "..", "{given:?} reads {read:?}");
                }
                read = naively_decoded(&read).nfkc().collect();
            }
            for segment in read.split(['/', '\\', ';']) {
                prop_assert!(segment != "..", "{given:?} reads {read:?}");
            }
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
