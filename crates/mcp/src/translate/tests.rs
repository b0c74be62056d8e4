use bytes::Bytes;

use super::*;
use crate::frame::Frame;
use crate::json::Json;

fn frame(text: &str) -> Frame {
    Frame::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn check_request(from: Era, to: ProtocolVersion, input: &str, expected: &str) {
    let Frame::Request(message) = frame(input) else {
        panic!("{input}");
    };
    let edits = request(&message, from, to).unwrap();
    assert_eq!(
        std::str::from_utf8(&message.splice(&edits)).unwrap(),
        expected
    );
}

fn check_reply(to: Era, method: &Method, input: &str, expected: &str) {
    let Frame::Response(response) = frame(input) else {
        panic!("{input}");
    };
    let edits = reply(&response, to, method).unwrap();
    assert_eq!(
        std::str::from_utf8(&response.splice(&edits)).unwrap(),
        expected
    );
}

const MODERN: ProtocolVersion = ProtocolVersion::V2026_07_28;
const LEGACY: ProtocolVersion = ProtocolVersion::V2025_11_25;

#[test]
fn requests_say_what_their_era_demands() {
    let info = own_info();
    let added = format!(
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{info}"#
    );
    check_request(
        Era::Legacy,
        MODERN,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#,
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{{added}}}}}}}"#
        ),
    );
    check_request(
        Era::Legacy,
        MODERN,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1,"io.modelcontextprotocol/logLevel":"debug"},"arguments":{ }}}"#,
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"progressToken":1,{added}}},"arguments":{{ }}}}}}"#
        ),
    );
    check_request(
        Era::Modern,
        LEGACY,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":1,"io.modelcontextprotocol/clientCapabilities":{"sampling":{}}},"arguments":{ }}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1},"arguments":{ }}}"#,
    );
    // Within an era nothing is touched.
    let any = r#"{"jsonrpc":"2.0","id":1,"method":"x/y","params":{}}"#;
    check_request(Era::Legacy, LEGACY, any, any);
    check_request(Era::Modern, MODERN, any, any);
}

/// A method that is carried is a decision: it shows here.
#[test]
fn these_are_carried() {
    let carried: Vec<_> = Method::KNOWN
        .iter()
        .filter(|method| carries(method))
        .map(Method::as_str)
        .collect();
    assert_eq!(
        carried,
        [
            "tools/list",
            "tools/call",
            "resources/list",
            "resources/templates/list",
            "resources/read",
            "prompts/list",
            "prompts/get",
            "completion/complete",
            "notifications/progress",
        ]
    );
    let Frame::Request(listen) =
        frame(r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{}}"#)
    else {
        panic!();
    };
    assert_eq!(
        request(&listen, Era::Modern, LEGACY).unwrap_err(),
        NotCarried::Method {
            method: Method::Listen
        }
    );
}

#[test]
fn replies_say_what_their_era_demands() {
    check_reply(
        Era::Modern,
        &Method::ToolsList,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[],"resultType":"complete","ttlMs":0,"cacheScope":"private"}}"#,
    );
    check_reply(
        Era::Modern,
        &Method::ToolsCall,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"resultType":"input_required"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"resultType":"complete"}}"#,
    );
    check_reply(
        Era::Legacy,
        &Method::ToolsCall,
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","ttlMs":5,"cacheScope":"public","content":[],"structuredContent":[1],"_meta":{"io.modelcontextprotocol/serverInfo":{},"k":1}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"_meta":{"k":1}}}"#,
    );
    let plain = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"structuredContent":{}}}"#;
    check_reply(Era::Legacy, &Method::ToolsCall, plain, plain);
    for (to, from, expected) in [
        (Era::Modern, -32002, -32602),
        (Era::Modern, -32042, -32603),
        (Era::Modern, -32601, -32601),
        (Era::Legacy, -32020, -32603),
        (Era::Legacy, -32021, -32603),
        (Era::Legacy, -32022, -32603),
        (Era::Legacy, -32602, -32602),
        (Era::Legacy, 7, 7),
    ] {
        let error = |code: i64| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"m"}}}}"#)
        };
        check_reply(to, &Method::ResourcesRead, &error(from), &error(expected));
    }
    for kind in ["input_required", "task", "what"] {
        let Frame::Response(response) = frame(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"{kind}"}}}}"#
        )) else {
            panic!();
        };
        assert_eq!(
            reply(&response, Era::Legacy, &Method::ToolsCall).unwrap_err(),
            NotCarried::Incomplete
        );
    }
}

fn json(text: &str) -> Json {
    Json::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

#[test]
fn handshakes_are_answered_in_the_other_era() {
    let discovered = json(
        r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{
            "tools":{"listChanged":true},"resources":{"subscribe":true},"logging":{},
            "completions":{},"extensions":{"io.modelcontextprotocol/tasks":{}}},
            "instructions":"i","ttlMs":1,"cacheScope":"public",
            "_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#,
    );
    let expect = |requested, version: ProtocolVersion| {
        let (negotiated, result) = initialize_result(discovered.root(), requested);
        assert_eq!(negotiated, version);
        assert_eq!(
            result.as_str(),
            format!(
                r#"{{"protocolVersion":"{version}","capabilities":{{"tools":{{}},"resources":{{}},"completions":{{}}}},"serverInfo":{{"name":"s","version":"1"}},"instructions":"i"}}"#
            )
        );
    };
    expect(Some("2025-06-18"), ProtocolVersion::V2025_06_18);
    expect(Some("2025-03-26"), ProtocolVersion::V2025_03_26);
    expect(Some("2024-11-05"), LEGACY);
    expect(Some("2026-07-28"), LEGACY);
    expect(Some("nonsense"), LEGACY);
    expect(None, LEGACY);

    let initialized = json(
        r#"{"protocolVersion":"2025-06-18","capabilities":{"prompts":{"listChanged":true},
            "logging":{},"tasks":{}},"serverInfo":{"name":"s","version":"1"}}"#,
    );
    assert_eq!(
        discover_result(initialized.root()).as_str(),
        r#"{"resultType":"complete","supportedVersions":["2026-07-28","2025-11-25","2025-06-18","2025-03-26"],"capabilities":{"prompts":{}},"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"1"}}}"#
    );
    let nothing = json("{}");
    assert_eq!(
        initialize_result(nothing.root(), None).1.as_str(),
        format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{{}},"serverInfo":{}}}"#,
            own_info()
        )
    );
}
