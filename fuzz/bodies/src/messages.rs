//! What clients and upstreams send: JSON, JSON-RPC messages, HTTP headers, server-sent events.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use gateway::Hosts;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use mcp::headers::{self as rules, ParamHeaders};
use mcp::json::Kind;
use mcp::sse::{Event, SseError, SseParser};
use mcp::{
    Edit, Era, Frame, Json, Method, Opening, ProtocolVersion, Raw, ReplyEdit, Request, Response,
    Value, meta, translate as eras,
};

use crate::two_parts;

/// What we take, any reader takes, and reads the same strings and the same text in it.
pub fn json(data: &[u8]) -> bool {
    let Ok(json) = Json::parse(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(data);
    assert!(theirs.is_ok(), "taken by us alone");
    walk(json.root());
    // As a tool's definition it has one text, which is its own.
    let text = mcp::definition(json.root());
    let again = Json::parse(Bytes::from(text.clone()));
    assert!(again.is_ok_and(|again| mcp::definition(again.root()) == text));
    true
}

/// A proxy's question is read within its bytes, and once.
pub fn check(data: &[u8]) -> bool {
    gateway::reads_check(data)
}

/// An access request is a question and the denial that it is about, or none.
pub fn access_request(data: &[u8]) -> bool {
    let taken = gateway::reads_submission(data);
    assert!(!taken || Json::parse(Bytes::copy_from_slice(data)).is_ok());
    taken
}

fn walk(value: Value<'_>) {
    let alone = Json::parse(Bytes::copy_from_slice(value.text().as_bytes()));
    assert!(alone.is_ok_and(|alone| alone.root().kind() == value.kind()));
    match value.kind() {
        Kind::String => {
            let theirs = serde_json::from_str::<String>(value.text()).ok();
            assert_eq!(value.as_str().as_deref(), theirs.as_deref());
        }
        Kind::Object => {
            for member in value.members() {
                let found = value.get(&member.name()).map(Value::span);
                assert_eq!(found, Some(member.value.span()));
                walk_few(member.value);
            }
        }
        Kind::Array => value.elements().for_each(walk_few),
        Kind::Null | Kind::Bool | Kind::Number => {}
    }
}

/// Reading every value again costs the square of the depth; long documents are looked at from above.
fn walk_few(value: Value<'_>) {
    if value.text().len() < 4_096 {
        walk(value);
    }
}

/// An edit changes what it says and no other byte, and what is edited is a message still.
pub fn frame(data: &[u8]) -> bool {
    let Ok(frame) = Frame::parse(Bytes::copy_from_slice(data)) else {
        return false;
    };
    match &frame {
        Frame::Request(request) => request_edits(request),
        Frame::Notification(notification) => {
            assert_eq!(notification.splice(&[]), *notification.bytes());
            let bare = notification.splice(&[Edit::StripOwn, Edit::DropMeta]);
            assert!(!names_us(&bare));
            assert!(matches!(Frame::parse(bare), Ok(Frame::Notification(_))));
        }
        Frame::Response(response) => {
            assert_eq!(response.splice(&[]), *response.bytes());
            let (id, mark) = (Raw::string("ours"), Raw::integer(-7));
            let stripped = response.splice(&[ReplyEdit::StripOwn]);
            assert!(!names_us(&stripped));
            assert!(matches!(Frame::parse(stripped), Ok(Frame::Response(_))));
            let _either = response.input_requests();
            let edited = response.splice(&[
                ReplyEdit::Id(id.borrowed()),
                ReplyEdit::Meta(meta::DECISION, Some(mark.borrowed())),
                ReplyEdit::Default("resultType", Raw::string("complete")),
            ]);
            let Ok(Frame::Response(again)) = Frame::parse(edited) else {
                return wrong("an edited response is none");
            };
            assert_eq!(again.is_error(), response.is_error());
            if !response.is_error() {
                let said = again.member("_meta").and_then(|it| it.get(meta::DECISION));
                assert_eq!(said.map(Value::text), Some("-7"));
                assert_eq!(again.id_text(), Some("\"ours\""));
                for member in response.result().into_iter().flat_map(Value::members) {
                    let name = member.name();
                    if name != "_meta" {
                        let kept = again.member(&name).map(Value::text);
                        assert_eq!(kept, Some(member.value.text()));
                    }
                }
            }
        }
    }
    true
}

/// What is said of what a client can do is in known words, whatever it said.
fn capabilities(request: &Request) {
    let known = mcp::capabilities::known(request.params());
    let Ok(again) = Json::parse(known.to_string().into()) else {
        wrong("known capabilities are no document");
        return;
    };
    assert!(mcp::capabilities::is_known(again.root()));
    assert_eq!(mcp::capabilities::known(Some(again.root())), known);
}

fn request_edits(request: &Request) {
    capabilities(request);
    assert_eq!(request.splice(&[]), *request.bytes());
    let same = request.splice(&[Edit::Id(request.id())]);
    assert_eq!(same, *request.bytes());
    let (id, token) = (Raw::integer(41), Raw::string("t\u{2028}\"\\"));
    let edited = request.splice(&[
        Edit::StripOwn,
        Edit::StripModern,
        Edit::Id(id.borrowed()),
        Edit::Meta(meta::PROGRESS_TOKEN, Some(token.borrowed())),
    ]);
    assert!(!names_us(&edited));
    let Ok(Frame::Request(again)) = Frame::parse(edited) else {
        wrong("an edited request is none");
        return;
    };
    assert_eq!(again.id_text(), "41");
    assert_eq!(again.method(), request.method());
    assert_eq!(again.progress_token_text(), Some(token.as_str()));
    assert_eq!(again.arguments_text(), request.arguments_text());
    assert_eq!(again.subject(), request.subject());
    assert_eq!(again.protocol_version(), None);
    for member in request.params().into_iter().flat_map(Value::members) {
        let name = member.name();
        let may_name_us = could_name_us(&name) || could_name_us(member.value.text());
        if name != "_meta" && !may_name_us {
            let kept = again.param(&name).map(Value::text);
            assert_eq!(kept, Some(member.value.text()));
        }
    }
    let back = again.splice(&[Edit::Id(request.id())]);
    assert!(Frame::parse(back).is_ok());
}

/// Members whose content is not the protocol's.
const DATA: &[&str] = &[
    "arguments",
    "input",
    "structuredContent",
    "inputSchema",
    "outputSchema",
    "requestedSchema",
];

/// Whether a member of a message, at any depth but in data, has a name of ours.
fn names_us(message: &Bytes) -> bool {
    Json::parse(message.clone()).is_ok_and(|json| holds_our_name(json.root()))
}

fn holds_our_name(value: Value<'_>) -> bool {
    value.elements().any(holds_our_name)
        || value.members().any(|member| {
            let name = member.name();
            name.to_lowercase().starts_with(meta::OWN_PREFIX)
                || !DATA.contains(&&*name) && holds_our_name(member.value)
        })
}

/// Whether a name of ours may stand in a text, in whatever letters.
fn could_name_us(text: &str) -> bool {
    text.contains('\\') || text.to_uppercase().contains("TIPSTAFF")
}

/// Where an assertion has nothing to compare.
fn wrong(why: &str) -> bool {
    assert!(why.is_empty(), "{why}");
    false
}

/// Lines of headers up to an empty one, and what is behind it.
fn header_lines(data: &[u8]) -> (HeaderMap, &[u8]) {
    let mut map = HeaderMap::new();
    let mut rest = data;
    loop {
        let (line, behind) = two_parts(rest);
        rest = behind;
        if line.is_empty() {
            return (map, rest);
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name),
            HeaderValue::from_bytes(value.trim_ascii()),
        ) {
            map.append(name, value);
        }
    }
}

/// The input: lines of headers, an empty line, a line with a tool's schema, the body.
///
/// What we write to an upstream for a request, we would take ourselves.
pub fn headers(data: &[u8]) -> bool {
    let (map, rest) = header_lines(data);
    let _either = rules::check_post(&map);
    let (schema, body) = two_parts(rest);
    let Ok(frame) = Frame::parse(Bytes::copy_from_slice(body)) else {
        return false;
    };
    let opening = Opening::of(&map, &frame);
    let annotations = std::str::from_utf8(schema)
        .ok()
        .and_then(|schema| schema.parse::<ParamHeaders>().ok());
    let (Ok(Opening::Modern(version)), Frame::Request(request)) = (&opening, &frame) else {
        return opening.is_ok();
    };
    if let Some(annotations) = &annotations {
        let _either = annotations.check(&map, request.arguments());
    }
    if let Ok(ours) = rules::of_request(*version, request, annotations.as_ref()) {
        assert_eq!(rules::check_post(&ours), Ok(()));
        assert_eq!(Opening::of(&ours, &frame), opening);
        if let Some(annotations) = annotations {
            assert_eq!(annotations.check(&ours, request.arguments()), Ok(()));
        }
    }
    true
}

/// The input: a target, then lines of headers. Who is let in called us by one of our names, once.
pub fn hosts(data: &[u8]) -> bool {
    let (target, rest) = two_parts(data);
    let Ok(target) = Uri::try_from(target) else {
        return false;
    };
    let (map, _) = header_lines(rest);
    let listener = SocketAddr::from(([127, 0, 0, 1], 7420));
    let ours = Hosts::new(listener, "https://agents.example", &[], &[], false);
    if ours.check(&target, &map).is_err() {
        return false;
    }
    let names = [
        "localhost:7420",
        "127.0.0.1:7420",
        "[::1]:7420",
        "agents.example",
    ];
    let is_ours = |name: &str| names.contains(&&*name.to_ascii_lowercase());
    let hosts: Vec<_> = map.get_all(HOST).iter().collect();
    assert!(matches!(hosts[..], [host] if host.to_str().is_ok_and(is_ours)));
    assert!(target.authority().is_none_or(|it| is_ours(it.as_str())));
    for origin in map.get_all(ORIGIN) {
        let name = origin.to_str().ok().and_then(|it| it.split_once("://"));
        assert!(name.is_some_and(|(_, name)| is_ours(name)));
    }
    true
}

/// What is carried to the other era is a message of it, with the same arguments.
pub fn translate(data: &[u8]) -> bool {
    match Frame::parse(Bytes::copy_from_slice(data)) {
        Ok(Frame::Request(request)) => request_in_other_era(&request),
        Ok(Frame::Response(response)) => response_in_other_era(&response),
        Ok(Frame::Notification(_)) | Err(_) => false,
    }
}

fn request_in_other_era(request: &Request) -> bool {
    let mut is_carried = false;
    for (from, to) in [
        (Era::Modern, ProtocolVersion::LATEST_LEGACY),
        (Era::Legacy, ProtocolVersion::LATEST),
    ] {
        let Ok(edits) = eras::request(request, from, to) else {
            continue;
        };
        is_carried = true;
        let Ok(Frame::Request(again)) = Frame::parse(request.splice(&edits)) else {
            return wrong("a carried request is none");
        };
        assert_eq!(again.method(), request.method());
        assert_eq!(again.arguments_text(), request.arguments_text());
        let version = again.protocol_version();
        assert_eq!(version.is_some(), to.era() == Era::Modern);
    }
    is_carried
}

fn response_in_other_era(response: &Response) -> bool {
    for (to, method) in [
        (Era::Modern, Method::ToolsList),
        (Era::Legacy, Method::ToolsCall),
    ] {
        let Ok(edits) = eras::reply(response, to, &method) else {
            continue;
        };
        let Ok(Frame::Response(again)) = Frame::parse(response.splice(&edits)) else {
            return wrong("a carried response is none");
        };
        assert_eq!(again.is_error(), response.is_error());
        let says_kind = again.member("resultType").is_some();
        assert_eq!(says_kind, to == Era::Modern && !response.is_error());
    }
    if let Some(result) = response.result() {
        let (_, hello) = eras::initialize_result(result, None);
        for ours in [hello, eras::discover_result(result)] {
            assert!(ours.as_str().parse::<Raw<'_>>().is_ok());
        }
    }
    true
}

/// An upstream's message goes to whoever waits for the id that a strict reader finds in it.
pub fn upstream(data: &[u8]) -> bool {
    let routed = gateway::upstream::routed(data);
    if let Ok(frame) = Frame::parse(Bytes::copy_from_slice(data)) {
        let id = match &frame {
            Frame::Request(request) => Some(request.id_text()),
            Frame::Response(response) => response.id_text(),
            Frame::Notification(_) => None,
        };
        assert_eq!(routed.as_deref(), Some(id.unwrap_or("null")));
    }
    routed.is_some()
}

/// Longest event that the body asks for.
const EVENT_BYTES_MAX: usize = 1_024;

/// The input: how long the chunks are, then the stream. Chunking changes nothing, and what was read
/// reads the same when it is written.
pub fn sse(data: &[u8]) -> bool {
    let Some((length, stream)) = data.split_first() else {
        return false;
    };
    let whole = read_stream(EVENT_BYTES_MAX, [stream]);
    let chunks = stream.chunks(usize::from(*length).max(1));
    assert_eq!(whole, read_stream(EVENT_BYTES_MAX, chunks));
    let (mut events, end) = whole;
    let mut written = BytesMut::new();
    for event in &mut events {
        event.write(&mut written);
        // A name with a NUL could not be written.
        if event.name.as_ref().is_some_and(|name| name.contains('\0')) {
            event.name = None;
        }
    }
    events.retain(|event| *event != Event::default());
    let (again, _) = read_stream(16 * EVENT_BYTES_MAX, [&*written]);
    assert_eq!(again, events);
    end.is_ok() && !events.is_empty()
}

fn read_stream<'a>(
    bytes_max: usize,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Result<bool, SseError>) {
    let mut parser = SseParser::new(bytes_max);
    let mut events = Vec::new();
    for chunk in chunks {
        if let Err(error) = parser.push(chunk, &mut events) {
            return (events, Err(error));
        }
    }
    (events, Ok(parser.is_mid_event()))
}
