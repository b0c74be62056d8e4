use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::json::Json;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn frame(text: &str) -> Frame {
    Frame::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn request(text: &str) -> Request {
    match frame(text) {
        Frame::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

const VERSION: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");

fn modern(method: &str, params: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}"_meta":{{
            "io.modelcontextprotocol/protocolVersion":"2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    )
}

fn check(pairs: &[(&str, &str)], body: &str, expected: Result<Opening, (&str, HeaderFault)>) {
    let expected = expected.map_err(|(header, fault)| {
        ProtocolError::Header(HeaderError {
            header: header.to_owned(),
            fault,
        })
    });
    assert_eq!(
        Opening::of(&headers(pairs), &frame(body)),
        expected,
        "{pairs:?} {body}"
    );
}

#[test]
fn modern_headers_say_what_the_body_says() {
    use HeaderFault as F;
    let call = modern("tools/call", r#""name":"wri\u0074e","#);
    let ok = Ok(Opening::Modern(ProtocolVersion::V2026_07_28));
    let method = ("Mcp-Method", "tools/call");
    let name = ("Mcp-Name", "write");
    check(&[VERSION, method, name], &call, ok);
    check(
        &[
            VERSION,
            ("mcp-method", "tools/call"),
            ("MCP-NAME", "=?base64?d3JpdGU=?="),
        ],
        &call,
        ok,
    );
    check(
        &[method, name],
        &call,
        Err(("MCP-Protocol-Version", F::Missing)),
    );
    check(
        &[("MCP-Protocol-Version", "2025-11-25"), method, name],
        &call,
        Err(("MCP-Protocol-Version", F::Mismatch)),
    );
    check(
        &[VERSION, VERSION, method, name],
        &call,
        Err(("MCP-Protocol-Version", F::Repeated)),
    );
    check(&[VERSION, name], &call, Err(("Mcp-Method", F::Missing)));
    check(
        &[VERSION, ("Mcp-Method", "Tools/Call"), name],
        &call,
        Err(("Mcp-Method", F::Mismatch)),
    );
    check(
        &[VERSION, method, method, name],
        &call,
        Err(("Mcp-Method", F::Repeated)),
    );
    check(&[VERSION, method], &call, Err(("Mcp-Name", F::Missing)));
    check(
        &[VERSION, method, ("Mcp-Name", "Write")],
        &call,
        Err(("Mcp-Name", F::Mismatch)),
    );
    check(
        &[VERSION, method, name, ("Mcp-Name", "x")],
        &call,
        Err(("Mcp-Name", F::Repeated)),
    );
    check(
        &[VERSION, method, ("Mcp-Name", "writé")],
        &call,
        Err(("Mcp-Name", F::Characters)),
    );
    for broken in ["=?base64?d3JpdGU?=", "=?base64?!?=", "=?base64?/w==?="] {
        check(
            &[VERSION, method, ("Mcp-Name", broken)],
            &call,
            Err(("Mcp-Name", F::Encoding)),
        );
    }
    check(
        &[VERSION, method, ("Mcp-Name", "=?BASE64?d3JpdGU=?=")],
        &call,
        Err(("Mcp-Name", F::Mismatch)),
    );
    // No name in the body: the header must not invent one.
    let nameless = modern("tools/call", "");
    check(&[VERSION, method], &nameless, ok);
    check(
        &[VERSION, method, name],
        &nameless,
        Err(("Mcp-Name", F::Mismatch)),
    );
    // Methods that are about nothing in particular do not look at it.
    check(
        &[VERSION, ("Mcp-Method", "tools/list")],
        &modern("tools/list", ""),
        ok,
    );
    check(
        &[
            VERSION,
            ("Mcp-Method", "resources/read"),
            ("Mcp-Name", "file:///a"),
        ],
        &modern("resources/read", r#""uri":"file:///a","#),
        ok,
    );
}

#[test]
fn the_era_is_told_by_how_a_message_opens() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let init = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let reply = r#"{"jsonrpc":"2.0","id":1,"result":{}}"#;
    let legacy = ("MCP-Protocol-Version", "2025-06-18");
    let v = ProtocolVersion::V2025_06_18;
    check(&[], ping, Ok(Opening::Legacy(None)));
    check(&[legacy], ping, Ok(Opening::Legacy(Some(v))));
    check(&[legacy], note, Ok(Opening::Legacy(Some(v))));
    check(&[legacy], reply, Ok(Opening::Legacy(Some(v))));
    check(&[], init, Ok(Opening::Initialize));
    check(&[legacy], init, Ok(Opening::Initialize));
    check(
        &[VERSION],
        note,
        Ok(Opening::Modern(ProtocolVersion::V2026_07_28)),
    );

    let error = |pairs: &[(&str, &str)], body: &str| {
        Opening::of(&headers(pairs), &frame(body)).unwrap_err()
    };
    let unsupported = |requested: &str| ProtocolError::UnsupportedVersion {
        requested: requested.to_owned(),
    };
    let missing = |key| ProtocolError::MissingMeta { key };
    assert_eq!(
        error(&[("MCP-Protocol-Version", "1900-01-01")], ping),
        unsupported("1900-01-01")
    );
    assert_eq!(error(&[VERSION], ping), missing(meta::PROTOCOL_VERSION));
    assert_eq!(error(&[VERSION], init), missing(meta::PROTOCOL_VERSION));
    assert_eq!(error(&[VERSION], reply), ProtocolError::UnexpectedResponse);
    for (version, expected) in [
        (r#""2099-01-01""#, unsupported("2099-01-01")),
        (r#""2025-06-18""#, unsupported("2025-06-18")),
        ("7", missing(meta::PROTOCOL_VERSION)),
    ] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{
                "io.modelcontextprotocol/protocolVersion":{version}}}}}}}"#
        );
        let header = ("MCP-Protocol-Version", version.trim_matches('"'));
        assert_eq!(
            error(&[header, ("Mcp-Method", "tools/list")], &body),
            expected
        );
    }
    for capabilities in ["", r#","io.modelcontextprotocol/clientCapabilities":[]"#] {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{
                "io.modelcontextprotocol/protocolVersion":"2026-07-28"{capabilities}}}}}}}"#
        );
        assert_eq!(
            error(&[VERSION, ("Mcp-Method", "tools/list")], &body),
            missing(meta::CLIENT_CAPABILITIES)
        );
    }
}

/// The examples of the specification.
#[test]
fn values_are_encoded_as_specified() {
    for (text, encoded) in [
        ("us-west1", "us-west1"),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("a\tb c", "a\tb c"),
        ("", ""),
    ] {
        assert_eq!(encode(text).to_str().unwrap(), encoded);
        assert_eq!(decode(&NAME, encoded).unwrap(), text);
    }
}

#[test]
fn annotations_are_valid_or_the_tool_is_not() {
    use AnnotationError as E;
    let ok = r#"{"type":"object","properties":{
        "region":{"type":"string","x-mcp-header":"Region"},
        "x-mcp-header":{"type":"string","default":{"x-mcp-header":""}},
        "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
        "plain":{"type":"number"}}}"#;
    let annotations = ok.parse::<ParamHeaders>().unwrap();
    let shown = format!("{annotations:?}");
    assert!(
        shown.contains("mcp-param-region") && shown.contains("mcp-param-n"),
        "{shown}"
    );
    assert_eq!(shown.matches("mcp-param-").count(), 2, "{shown}");
    let property = |schema: &str| format!(r#"{{"properties":{{"a":{schema}}}}}"#);
    for (schema, expected) in [
        (property(r#"{"type":"string","x-mcp-header":""}"#), E::Name),
        (property(r#"{"type":"string","x-mcp-header":7}"#), E::Name),
        (
            property(r#"{"type":"string","x-mcp-header":"a b"}"#),
            E::Name,
        ),
        (
            property(r#"{"type":"string","x-mcp-header":"a\r\nb"}"#),
            E::Name,
        ),
        (property(r#"{"type":"string","x-mcp-header":"é"}"#), E::Name),
        (property(r#"{"type":"number","x-mcp-header":"A"}"#), E::Type),
        (property(r#"{"type":"object","x-mcp-header":"A"}"#), E::Type),
        (property(r#"{"x-mcp-header":"A"}"#), E::Type),
        (
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},
                "b":{"type":"string","x-mcp-header":"a"}}}"#
                .to_owned(),
            E::Repeated,
        ),
        (
            r#"{"type":"string","x-mcp-header":"A"}"#.to_owned(),
            E::Place,
        ),
        (
            property(r#"{"items":{"type":"string","x-mcp-header":"A"}}"#),
            E::Place,
        ),
        (
            property(r#"{"oneOf":[{"type":"string","x-mcp-header":"A"}]}"#),
            E::Place,
        ),
        (
            property(r#"{"not":{"properties":{"b":{"type":"string","x-mcp-header":"A"}}}}"#),
            E::Place,
        ),
        (
            r#"{"$defs":{"a":{"type":"string","x-mcp-header":"A"}}}"#.to_owned(),
            E::Place,
        ),
        (
            r#"{"allOf":[{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}]}"#.to_owned(),
            E::Place,
        ),
    ] {
        assert_eq!(schema.parse::<ParamHeaders>(), Err(expected), "{schema}");
    }
}

fn annotations() -> ParamHeaders {
    r#"{"properties":{
        "s":{"type":"string","x-mcp-header":"Text"},
        "o":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
        "b":{"type":"boolean","x-mcp-header":"B"}}}"#
        .parse()
        .unwrap()
}

fn arguments(text: &str) -> Json {
    Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

#[test]
fn arguments_are_mirrored_exactly() {
    use HeaderFault as F;
    let annotations = annotations();
    let run = |pairs: &[(&str, &str)], text: &str| {
        let result = annotations.check(&headers(pairs), Some(arguments(text).root()));
        result.map_err(|error| (error.header, error.fault))
    };
    let bad = |header: &str, fault| Err((header.to_owned(), fault));
    assert_eq!(run(&[], "{}"), Ok(()));
    assert_eq!(run(&[], r#"{"s":null,"o":{"n":null},"other":1}"#), Ok(()));
    assert_eq!(run(&[("Mcp-Param-Other", "x")], "{}"), Ok(()));
    assert_eq!(
        run(&[("mcp-param-text", "é")], "{}"),
        bad("Mcp-Param-Text", F::Characters)
    );
    assert_eq!(
        run(&[("mcp-param-text", "a")], "{}"),
        bad("Mcp-Param-Text", F::Mismatch)
    );
    assert_eq!(run(&[], r#"{"s":"a"}"#), bad("Mcp-Param-Text", F::Missing));
    assert_eq!(
        run(&[("mcp-param-text", "b")], r#"{"s":"a"}"#),
        bad("Mcp-Param-Text", F::Mismatch)
    );
    assert_eq!(
        run(&[("mcp-param-text", "=?base64?w6k=?=")], r#"{"s":"é"}"#),
        Ok(())
    );
    for (header, body, expected) in [
        ("42", "42", true),
        ("42.0", "42", true),
        ("42", "42.000", true),
        ("4.2e1", "42", true),
        ("-0", "0", true),
        ("100", "1e2", true),
        ("1e99999999999999", "1", false),
        ("43", "42", false),
        ("", "42", false),
        ("0x2a", "42", false),
        ("42", "\"42\"", true),
        ("42.0", "\"42\"", false),
        ("true", "true", true),
        ("True", "true", false),
        ("[]", "[]", false),
    ] {
        let result = run(
            &[("mcp-param-n", header)],
            &format!(r#"{{"o":{{"n":{body}}}}}"#),
        );
        assert_eq!(result.is_ok(), expected, "{header} {body}");
    }
}

#[test]
fn an_upstream_gets_headers_from_the_body() {
    let call = request(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"né",
            "arguments":{"s":" x","o":{"n":4.20e1},"b":true,"z":1}}}"#,
    );
    let show = |headers: &HeaderMap| {
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    };
    let made = of_request(ProtocolVersion::V2026_07_28, &call, Some(&annotations())).unwrap();
    assert_eq!(
        show(&made),
        [
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            "mcp-method: tools/call",
            "mcp-name: =?base64?bsOp?=",
            "mcp-param-b: true",
            "mcp-param-n: 42",
            "mcp-param-text: =?base64?IHg=?=",
            "mcp-protocol-version: 2026-07-28",
        ]
    );
    let legacy = of_request(ProtocolVersion::V2025_06_18, &call, Some(&annotations())).unwrap();
    assert_eq!(
        show(&legacy),
        [
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            "mcp-protocol-version: 2025-06-18",
        ]
    );
    assert!(
        standard(ProtocolVersion::V2025_03_26)
            .get(PROTOCOL_VERSION)
            .is_none()
    );
    for unsafe_value in ["9007199254740992", "0.5", "1e99", "[1]", "{}"] {
        let call = request(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"n",
                "arguments":{{"o":{{"n":{unsafe_value}}}}}}}}}"#
        ));
        let made = of_request(ProtocolVersion::V2026_07_28, &call, Some(&annotations()));
        assert_eq!(
            made.unwrap_err().fault,
            HeaderFault::Value,
            "{unsafe_value}"
        );
    }
}

#[test]
fn a_post_is_json_and_takes_both_answers() {
    let json = ("content-type", "application/json; charset=utf-8");
    let run = |pairs: &[(&str, &str)]| check_post(&headers(pairs));
    assert_eq!(
        run(&[json, ("accept", "application/json, text/event-stream")]),
        Ok(())
    );
    assert_eq!(
        run(&[
            json,
            ("accept", "text/event-stream;q=0.5"),
            ("accept", "Application/*")
        ]),
        Ok(())
    );
    assert_eq!(run(&[json, ("accept", "*/*")]), Ok(()));
    for accept in [
        "application/json",
        "text/event-stream",
        "",
        "application/json, text/event-stream;q=0",
    ] {
        assert_eq!(
            run(&[json, ("accept", accept)]),
            Err(ProtocolError::NotAcceptable),
            "{accept}"
        );
    }
    for content in [
        "text/plain",
        "application/jsonp",
        "",
        "application/json; charset=utf-16",
        "application/json;x=y;Charset=\"latin1\"",
    ] {
        assert_eq!(
            run(&[("content-type", content), ("accept", "*/*")]),
            Err(ProtocolError::UnsupportedMediaType),
            "{content}"
        );
    }
    for content in ["application/json", "Application/JSON;Charset=\"UTF-8\""] {
        let content = ("content-type", content);
        assert_eq!(run(&[content, ("accept", "*/*")]), Ok(()));
        assert_eq!(
            run(&[content, ("accept", "*/*"), ("content-encoding", "gzip")]),
            Err(ProtocolError::UnsupportedEncoding)
        );
    }
    assert_eq!(
        run(&[json, json, ("accept", "*/*")]),
        Err(ProtocolError::UnsupportedMediaType)
    );
}

proptest! {
    #[test]
    fn encoded_values_are_decoded(text: String) {
        let value = encode(&text);
        let shown = value.to_str().unwrap();
        prop_assert_eq!(decode(&NAME, shown).unwrap(), text);
    }

    #[test]
    fn what_we_write_passes_our_own_check(
        s in any::<Option<String>>(),
        n in prop::option::of(-(1_i64 << 53) + 1..1 << 53),
        b in any::<Option<bool>>(),
    ) {
        let text = serde_json::json!({"s": s, "o": {"n": n}, "b": b}).to_string();
        let json = arguments(&text);
        let mut made = HeaderMap::new();
        annotations().write(Some(json.root()), &mut made).unwrap();
        prop_assert_eq!(annotations().check(&made, Some(json.root())), Ok(()));
        let expected = [s.is_some(), n.is_some(), b.is_some()];
        prop_assert_eq!(made.len(), expected.into_iter().filter(|some| *some).count());
    }

    #[test]
    fn any_schema_is_answered(text in "[{}\\[\\]:,\"a-z -]{0,40}") {
        drop(text.parse::<ParamHeaders>());
    }
}
