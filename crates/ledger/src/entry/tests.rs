use serde_json::json;

use super::*;

const GOOD: &str = r#"{"v":1,"kind":"decision","trust_domain":"acme.example","node":"n-1","epoch":3,"time":"2026-11-21T09:51:02.000123Z","key":"example.com/log+1f2e3d4c","actor":{"type":"instance","id":"i-1","credential":"t-1","verified":true},"trace":"","retention":"","body":{"a":1}}"#;

fn header() -> Header {
    Header {
        trust_domain: "acme.example".parse().unwrap(),
        node: "n-1".to_owned(),
        epoch: 3,
        key: "example.com/log+1f2e3d4c".to_owned(),
    }
}

fn draft(body: &serde_json::Value) -> Draft {
    let actor = Actor {
        kind: ActorKind::Instance,
        id: "i-1".to_owned(),
        credential: "t-1".to_owned(),
        verified: true,
    };
    Draft::new(Kind::Decision, actor, body).unwrap()
}

fn time() -> Time {
    "2026-11-21T09:51:02.000123Z".parse().unwrap()
}

#[test]
fn the_bytes_of_an_entry_are_these() {
    let bytes = write_entry(&header(), time(), &draft(&json!({"a": 1}))).unwrap();
    assert_eq!(str::from_utf8(&bytes).unwrap(), GOOD);
}

#[test]
fn what_is_written_is_read() {
    let entry = Entry::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(entry.kind, Kind::Decision);
    assert_eq!(entry.trust_domain.as_str(), "acme.example");
    assert_eq!((entry.node.as_ref(), entry.epoch), ("n-1", 3));
    assert_eq!(entry.time, time());
    assert_eq!(entry.key, "example.com/log+1f2e3d4c");
    assert_eq!(entry.actor.kind, ActorKind::Instance);
    assert_eq!(entry.body.get(), r#"{"a":1}"#);
}

fn bad(from: &str, to: &str, expected: &EntryError) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from} is not there");
    match (Entry::parse(text.as_bytes()).unwrap_err(), expected) {
        (EntryError::Syntax(found), EntryError::Syntax(part)) => {
            assert!(found.contains(part.as_str()), "{found}: {text}");
        }
        (found, expected) => assert_eq!(&found, expected, "{text}"),
    }
}

#[test]
fn anything_else_is_refused() {
    let syntax = |part: &str| EntryError::Syntax(part.to_owned());
    bad(r#""v":1"#, r#""v":2"#, &EntryError::Version { found: 2 });
    bad(r#""v":1"#, r#""v":1.0"#, &syntax("invalid type"));
    bad(r#""v":1,"#, r#""v":1,"v":1,"#, &syntax("duplicate field"));
    bad(r#""v":1,"#, r#""v":1,"w":1,"#, &syntax("unknown field"));
    bad(r#""trace":"","#, "", &syntax("missing field"));
    bad(r#""trace":"""#, r#""trace":null"#, &syntax("invalid type"));
    bad("{\"v\"", " {\"v\"", &syntax("not one JSON object"));
    bad("{\"v\"", "{\"V\"", &syntax("unknown field"));
    bad("1}}", "1}} ", &syntax("not one JSON object"));
    bad("1}}", "1}}{}", &syntax("trailing characters"));
    bad(r#"{"a":1}"#, "[1]", &EntryError::Body);
    bad(r#"{"a":1}"#, "null", &EntryError::Body);
    bad(
        r#""verified":true"#,
        r#""verified":1"#,
        &syntax("invalid type"),
    );
    bad(
        r#""verified":true"#,
        r#""verified":true,"x":1"#,
        &syntax("unknown field"),
    );
    bad(
        r#""type":"instance""#,
        r#""type":"robot""#,
        &syntax("unknown variant"),
    );
    bad("acme.example", "Acme example", &syntax("trust domain"));
    bad(r#""epoch":3"#, r#""epoch":-3"#, &syntax("invalid value"));
    let time = EntryError::Member { member: "time" };
    bad("02.000123Z", "02.000Z", &time);
    bad("02.000123Z", "02.000123+", &time);
    bad("T09:51:02.000123Z", "", &time);
    let found = "decisions".to_owned();
    bad("decision", "decisions", &EntryError::Kind { found });
}

#[test]
fn an_entry_has_a_limit() {
    let with = |length: usize| draft(&json!({"a": "x".repeat(length)}));
    let room = ENTRY_BYTES_MAX - write_entry(&header(), time(), &with(0)).unwrap().len();
    let bytes = write_entry(&header(), time(), &with(room)).unwrap();
    assert_eq!(bytes.len(), ENTRY_BYTES_MAX);
    assert!(Entry::parse(&bytes).is_ok());
    assert_eq!(
        write_entry(&header(), time(), &with(room + 1)),
        Err(EntryError::TooLarge {
            what: "entry",
            length: ENTRY_BYTES_MAX + 1,
            max: ENTRY_BYTES_MAX
        })
    );
    let mut longer = bytes;
    longer.insert(1, b' ');
    assert!(matches!(
        Entry::parse(&longer),
        Err(EntryError::TooLarge { .. })
    ));
    let mut sealed = draft(&json!({}));
    sealed.sealed = Some(vec![0; SEALED_BYTES_MAX + 1]);
    assert!(matches!(
        write_entry(&header(), time(), &sealed),
        Err(EntryError::TooLarge {
            what: "sealed part",
            ..
        })
    ));
    assert_eq!(
        write_entry(&header(), time(), &draft(&json!([1]))),
        Err(EntryError::Body)
    );
}

#[test]
fn every_kind_reads_what_it_shows() {
    for kind in Kind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
        assert!(
            kind.as_str()
                .chars()
                .all(|c| c.is_ascii_lowercase() || c == '-')
        );
    }
    let calls: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| kind.log() == LogName::Calls)
        .map(|kind| kind.as_str())
        .collect();
    assert_eq!(
        calls,
        ["decision", "outcome", "listing", "refused", "barrier"]
    );
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>) {
        assert!(Entry::parse(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_is_refused_or_read(at: proptest::sample::Index, byte: u8) {
        let mut bytes = GOOD.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _read = Entry::parse(&bytes).is_ok();
    }
}
