use super::*;
use crate::frame::Frame;

fn raw(text: &str) -> Raw<'static> {
    text.parse().unwrap()
}

#[test]
fn each_error_has_its_status_and_code() {
    use ProtocolError as E;
    let header = || {
        E::Header(HeaderError {
            header: "Mcp-Name".to_owned(),
            fault: crate::headers::HeaderFault::Missing,
        })
    };
    let parse = |text: &'static str| E::Frame(Frame::parse(Bytes::from(text)).unwrap_err());
    // status and code for modern, then legacy
    for (error, modern, legacy) in [
        (parse("{"), (400, -32700), (400, -32700)),
        (parse("[]"), (400, -32600), (400, -32600)),
        (E::BodyTooLong { max: 1 }, (413, -32600), (413, -32600)),
        (E::UnexpectedResponse, (400, -32600), (400, -32600)),
        (header(), (400, -32020), (400, -32020)),
        (E::MissingMeta { key: "k" }, (400, -32602), (400, -32602)),
        (E::no_version("x"), (400, -32022), (400, -32022)),
        (
            E::MissingCapability {
                required: json!({}),
            },
            (400, -32021),
            (400, -32021),
        ),
        (E::no_method(&Method::Ping), (404, -32601), (200, -32601)),
        (
            E::InvalidParams {
                message: "m".to_owned(),
            },
            (200, -32602),
            (200, -32602),
        ),
        (E::NotAcceptable, (406, -32600), (406, -32600)),
        (E::UnsupportedMediaType, (415, -32600), (415, -32600)),
        (E::UnsupportedEncoding, (415, -32600), (415, -32600)),
        (E::UnknownSession, (404, -32600), (404, -32600)),
        (E::MissingSession, (400, -32600), (400, -32600)),
        (
            E::Unavailable { message: "m" },
            (200, -32603),
            (200, -32603),
        ),
        (E::Internal, (200, -32603), (200, -32603)),
    ] {
        for (era, expected) in [(Era::Modern, modern), (Era::Legacy, legacy)] {
            let reply = error.reply(era);
            assert_eq!(
                (reply.status.as_u16(), reply.code),
                expected,
                "{error:?} {era:?}"
            );
            let body = reply.body(Some(&raw("1")));
            assert!(matches!(Frame::parse(body), Ok(Frame::Response(r)) if r.is_error()));
            Frame::parse(reply.body(None)).unwrap();
        }
    }
}

fn check(body: &Bytes, expected: &str) {
    assert_eq!(std::str::from_utf8(body).unwrap(), expected);
    Frame::parse(body.clone()).unwrap();
}

#[test]
fn answers_look_like_this() {
    let verdict = Verdict {
        effect: Effect::Deny,
        reason: Some("not \"that\"".to_owned()),
        policies: Some(vec!["p1".to_owned()]),
        record: Some(RecordRef {
            log: vocab::LogName::Calls,
            index: 7,
            leaf_hash: vocab::Digest::of(b""),
        }),
        warnings: Vec::new(),
        approval: None,
    };
    let record = r#"{"log":"calls","index":7,"leaf_hash":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
    let shown = format!(
        r#"{{"effect":"deny","reason":"not \"that\"","policies":["p1"],"record":{record}}}"#
    );
    check(
        &denied_tool_call(&raw("\"a\""), Era::Modern, "no\n", &verdict),
        &format!(
            r#"{{"jsonrpc":"2.0","id":"a","result":{{"resultType":"complete","content":[{{"type":"text","text":"no\n"}}],"isError":true,"_meta":{{"dev.tipstaff/decision":{shown}}}}}}}"#
        ),
    );
    check(
        &denied_tool_call(&raw("1"), Era::Legacy, "no", &verdict),
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"no"}}],"isError":true,"_meta":{{"dev.tipstaff/decision":{shown}}}}}}}"#
        ),
    );
    check(
        &denied(&raw("1"), Era::Modern, "no", &verdict),
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":7403,"message":"no","data":{shown}}}}}"#
        ),
    );
    let waits = Verdict {
        effect: Effect::Hold,
        policies: None,
        approval: Some(Box::new(Approval {
            id: "ap-x".parse().unwrap(),
            url: "https://n.example/approve/ap-x".to_owned(),
            until: Time::EPOCH,
        })),
        ..verdict
    };
    let approval = r#"{"id":"ap-x","url":"https://n.example/approve/ap-x","until":"1970-01-01T00:00:00.000000Z"}"#;
    let shown = format!(
        r#"{{"effect":"hold","reason":"not \"that\"","record":{record},"approval":{approval}}}"#
    );
    let (key, url) = ("dev.tipstaff/approval", "https://n.example/approve/ap-x");
    check(
        &ask_url(&raw("1"), (key, url, "go"), &waits),
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"input_required","inputRequests":{{"dev.tipstaff/approval":{{"method":"elicitation/create","params":{{"mode":"url","message":"go","url":"https://n.example/approve/ap-x"}}}}}},"_meta":{{"dev.tipstaff/decision":{shown}}}}}}}"#
        ),
    );
    let bare = Verdict {
        effect: Effect::Allow,
        reason: None,
        policies: None,
        record: None,
        warnings: Vec::new(),
        approval: None,
    };
    assert_eq!(bare.raw().as_str(), r#"{"effect":"allow"}"#);
    check(
        &success(&raw("1"), &raw("{}")),
        r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
    );
    check(
        &failure(None, Era::Modern, -32700, "m", None),
        r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"m"}}"#,
    );
    check(
        &failure(None, Era::Legacy, -32700, "m", None),
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"m"}}"#,
    );
    check(
        &ProtocolError::no_version("2099-01-01")
            .reply(Era::Modern)
            .body(Some(&raw("1"))),
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"protocol version `2099-01-01` is not supported here","data":{"supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"],"requested":"2099-01-01"}}}"#,
    );
}

#[test]
fn a_peer_is_not_answered_at_the_length_it_asks() {
    let long = "é".repeat(100_000);
    assert!(ProtocolError::no_version(&long).to_string().len() < 400);
    assert!(
        ProtocolError::no_method(&Method::from(&*long))
            .to_string()
            .len()
            < 400
    );
}
