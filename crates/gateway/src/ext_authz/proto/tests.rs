use super::*;

fn field(number: u64, value: &[u8]) -> Vec<u8> {
    Message::default().bytes(number, value).0.to_vec()
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    [field(1, name.as_bytes()), field(2, value.as_bytes())].concat()
}

/// A `CheckRequest` around an `HttpRequest`.
fn request(http: &[u8], more: &[u8]) -> Vec<u8> {
    let attributes = [field(4, &field(2, http)), more.to_vec()].concat();
    field(1, &attributes)
}

#[test]
fn what_matters_is_read_and_the_rest_passed_over() {
    let http = [
        field(1, b"id-1"),
        field(2, b"POST"),
        field(3, &pair("authorization", "Bearer x")),
        field(3, &pair(":authority", "a")),
        field(4, b"/mcp?x"),
        field(5, b"host"),
        field(7, b"y"),
        Message::default().number(9, u64::MAX).0.to_vec(),
        field(11, b"{}"),
        field(200, b"later"),
    ]
    .concat();
    let more = [
        field(1, b"\x0a\x00"),
        field(10, &pair("service", "notes")),
        vec![0x7d, 1, 2, 3, 4],
        vec![0x79, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let bytes = request(&http, &more);
    let check = Check::parse(&bytes).unwrap();
    assert_eq!(
        check,
        Check {
            id: Some("id-1"),
            method: Some("POST"),
            path: Some("/mcp?x"),
            query: Some("y"),
            fragment: None,
            size: Some(-1),
            headers: vec![("authorization", b"Bearer x"), (":authority", b"a")],
            body: Some(b"{}"),
            extensions: vec![("service", "notes")],
        }
    );
    assert_eq!(check.extension("service"), Some("notes"));
    assert_eq!(Check::parse(b""), Ok(Check::default()));
}

#[test]
fn headers_come_in_one_form_or_the_other() {
    let raw = |value: &str| {
        let header = [field(1, b"dpop"), field(3, value.as_bytes())].concat();
        field(13, &field(1, &header))
    };
    let bytes = request(&raw("x"), b"");
    assert_eq!(
        Check::parse(&bytes).unwrap().headers,
        vec![("dpop", &b"x"[..])]
    );
    let both = [raw("x"), field(3, &pair("dpop", "y"))].concat();
    assert_eq!(Check::parse(&request(&both, b"")), Err(ProtoError::Twice));
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    use ProtoError::{End, Field, Twice, Type, Utf8, Varint};
    let twice = |field: Vec<u8>| [field.clone(), field].concat();
    for (bytes, expected) in [
        (twice(request(b"", b"")), Twice),
        (field(1, &twice(field(4, b""))), Twice),
        (field(1, &field(4, &twice(field(2, b"")))), Twice),
        (request(&twice(field(2, b"GET")), b""), Twice),
        (request(&twice(field(3, &pair("a", "b"))), b""), Twice),
        (
            request(&[field(11, b"a"), field(12, b"b")].concat(), b""),
            Twice,
        ),
        (request(b"", &twice(field(10, &pair("a", "b")))), Twice),
        (request(&field(3, &twice(field(1, b"a"))), b""), Twice),
        (request(&field(2, b"\xff"), b""), Utf8),
        (request(&Message::default().number(2, 1).0, b""), Type),
        (vec![0x0b], Type),
        (vec![0x0c], Type),
        (vec![0x00], Field),
        (vec![0x80], End),
        (vec![0x0a, 5, 1], End),
        (
            vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            End,
        ),
        (vec![0xff; 11], Varint),
        (
            vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            Varint,
        ),
    ] {
        assert_eq!(Check::parse(&bytes), Err(expected), "{bytes:?}");
    }
    let many: Vec<u8> = (0..=HEADERS_MAX)
        .flat_map(|at| field(3, &pair(&format!("h{at}"), "")))
        .collect();
    assert_eq!(Check::parse(&request(&many, b"")), Err(ProtoError::TooMany));
}

#[test]
fn answers_are_written_like_this() {
    assert_eq!(allowed(&["dpop"]).as_ref(), b"\x0a\x00\x1a\x06\x2a\x04dpop");
    let denied = denied(200, &[("a", "b")], b"{}");
    assert_eq!(
        denied.as_ref(),
        b"\x0a\x02\x08\x07\x12\x13\x0a\x03\x08\xc8\x01\x12\x08\x0a\x06\x0a\x01a\x12\x01b\x1a\x02{}"
    );
}
