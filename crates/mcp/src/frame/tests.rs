use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Frame, FrameError> {
    Frame::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn request(text: &str) -> Request {
    match parse(text).unwrap() {
        Frame::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

fn response(text: &str) -> Response {
    match parse(text).unwrap() {
        Frame::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn raw(text: &str) -> Raw<'static> {
    text.parse().unwrap()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn messages_are_told_apart() {
    let call = request(
        r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{
            "name":"wri\u0074e","arguments": {"n": 1.50, "é":"\u00e9"} ,"requestState":"s",
            "inputResponses":{"k":{}},"futureField":[1e400],
            "_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    );
    assert_eq!(call.id_text(), "9007199254740993");
    assert_eq!(call.method(), &Method::ToolsCall);
    assert_eq!(call.name().unwrap(), "write");
    assert_eq!(call.subject().unwrap(), "write");
    assert_eq!(call.arguments_text(), Some(r#"{"n": 1.50, "é":"\u00e9"}"#));
    assert_eq!(call.request_state(), Some("\"s\""));
    assert_eq!(call.input_responses(), Some(r#"{"k":{}}"#));
    assert_eq!(call.progress_token_text(), Some("\"p\""));
    assert_eq!(call.protocol_version().unwrap(), "2026-07-28");
    assert!(call.uri().is_none());

    let bare = request(r#"{"id":"a","jsonrpc":"2.0","method":"x/y"}"#);
    assert_eq!(bare.id_text(), "\"a\"");
    assert!(bare.params().is_none() && bare.meta().is_none());

    assert!(matches!(
        parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        Ok(Frame::Notification(n)) if n.method() == &Method::Initialized
    ));

    let ok = response(r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}"#);
    assert!(ok.is_tool_error() && !ok.is_error());
    assert_eq!(ok.result_type().unwrap(), "complete");
    let error = response(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}"#);
    assert_eq!((error.is_error(), error.error_code()), (true, Some(-32700)));
    assert_eq!(error.id_text(), None);
    assert!(error.result_type().is_none());
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    use FrameError as E;
    let folded = |place, known| E::Folded { place, known };
    for (text, expected) in [
        ("[]", E::Batch),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, E::Batch),
        ("1", E::NotAnObject),
        (r#"{"id":1,"method":"ping"}"#, E::Version),
        (r#"{"jsonrpc":2.0,"id":1,"method":"ping"}"#, E::Version),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1.0,"method":"ping"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1e2,"method":"ping"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, E::Method),
        (r#"{"jsonrpc":"2.0","id":1,"params":{}}"#, E::Method),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#,
            E::Params,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":null}"#,
            E::Params,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":1}}"#,
            E::Meta,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"progressToken":1.5}}}"#,
            E::ProgressToken,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}"#,
            folded("the message", "method"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","PARAMS":{}}"#,
            folded("the message", "params"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","paramſ":{}}"#,
            folded("the message", "params"),
        ),
        (
            r#"{"jsonrpc":"2.0","method":"a","params":{"InputRequests":{}}}"#,
            folded("`params`", "inputRequests"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"\u004eame":"x"}}"#,
            folded("`params`", "name"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"argumentſ":{}}}"#,
            folded("`params`", "arguments"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_META":{}}}"#,
            folded("`params`", "_meta"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"progresstoKen":1}}}"#,
            folded("`_meta`", "progressToken"),
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#,
            E::Ambiguous,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}"#,
            E::Ambiguous,
        ),
        (r#"{"jsonrpc":"2.0","id":1}"#, E::Empty),
        (r#"{"jsonrpc":"2.0","id":1,"result":[]}"#, E::Result),
        (r#"{"jsonrpc":"2.0","result":{}}"#, E::Id),
        (r#"{"jsonrpc":"2.0","id":null,"result":{}}"#, E::Id),
        (
            r#"{"jsonrpc":"2.0","id":1,"result":{"Tools":[]}}"#,
            folded("`result`", "tools"),
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":[]}}"#, E::Meta),
        (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, E::Error),
        (
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":1.5,"message":""}}"#,
            E::Error,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, E::Error),
    ] {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
    assert!(matches!(
        parse(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"name":"x","name":"y"}}"#),
        Err(E::Json(_))
    ));
    // What nobody knows passes, even with names that differ only in case among themselves.
    request(r#"{"jsonrpc":"2.0","id":1,"method":"a","x":1,"params":{"vendor":1,"Vendor":2}}"#);
}

#[test]
fn words_beside_params_are_refused_by_name() {
    let check = |text: &str, expected: Option<&str>| {
        let read = Frame::from_client(Bytes::copy_from_slice(text.as_bytes()));
        let expected = expected.map(|member| FrameError::Member {
            member: member.to_owned(),
        });
        assert_eq!(read.err(), expected, "{text}");
    };
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"vendor":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x"}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"x":1}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"","x":1}}"#,
    ] {
        check(text, None);
        let worse = text.replacen('{', r#"{"note":"words","#, 1);
        check(&worse, Some("note"));
        let worse = text.replacen('{', r#"{"dev.tipstaff/x":1,"#, 1);
        check(&worse, Some("dev.tipstaff/x"));
    }
    let long = "é".repeat(65);
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","{long}":1}}"#);
    check(&text, Some(&"é".repeat(64)));
}

fn check(input: &str, edits: &[Edit<'_>], expected: &str) {
    let spliced = match parse(input).unwrap() {
        Frame::Request(request) => request.splice(edits),
        Frame::Notification(notification) => notification.splice(edits),
        Frame::Response(_) => panic!("{input}"),
    };
    assert_eq!(text(&spliced), expected);
    parse(expected).unwrap();
}

#[test]
fn requests_are_edited_in_place() {
    use Edit as E;
    let call = r#"{ "jsonrpc":"2.0", "id" : "a", "method":"x", "params" : {"name":"n", "arguments": {"a" :1},  "_meta": { "progressToken":7 , "dev.tipstaff/x":1, "keep" : [2] }, "z":0 } }"#;
    check(
        call,
        &[
            E::Id(raw("12")),
            E::Meta("progressToken", Some(raw("\"t\""))),
            E::StripOwn,
        ],
        r#"{ "jsonrpc":"2.0", "id" : 12, "method":"x", "params" : {"name":"n", "arguments": {"a" :1},  "_meta": { "progressToken":"t", "keep" : [2] }, "z":0 } }"#,
    );
    check(
        call,
        &[
            E::Meta("progressToken", None),
            E::StripOwn,
            E::Meta("keep", None),
        ],
        r#"{ "jsonrpc":"2.0", "id" : "a", "method":"x", "params" : {"name":"n", "arguments": {"a" :1},  "_meta": {  }, "z":0 } }"#,
    );
    check(
        call,
        &[
            E::Meta("progressToken", None),
            E::Meta("new", Some(raw("{}"))),
        ],
        r#"{ "jsonrpc":"2.0", "id" : "a", "method":"x", "params" : {"name":"n", "arguments": {"a" :1},  "_meta": { "dev.tipstaff/x":1, "keep" : [2],"new":{} }, "z":0 } }"#,
    );
    check(
        call,
        &[
            E::DropMeta,
            E::Param(Param::RequestState, Some(raw("\"s\""))),
        ],
        r#"{ "jsonrpc":"2.0", "id" : "a", "method":"x", "params" : {"name":"n", "arguments": {"a" :1}, "z":0,"requestState":"s" } }"#,
    );
    check(
        call,
        &[E::DropMeta, E::Meta("only", Some(raw("1")))],
        r#"{ "jsonrpc":"2.0", "id" : "a", "method":"x", "params" : {"name":"n", "arguments": {"a" :1},  "_meta": {"only":1}, "z":0 } }"#,
    );
    // Ours may be set although it is stripped from what came in.
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"Dev.Tip\u017ftaff/decision":1,"dev.tipstaff/d":2}}}"#,
        &[E::StripOwn, E::Meta("dev.tipstaff/d", Some(raw("3")))],
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"dev.tipstaff/d":3}}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#,
        &[
            E::Meta("a\"b", Some(raw("1"))),
            E::Param(Param::Cursor, Some(raw("\"c\""))),
        ],
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"cursor":"c","_meta":{"a\"b":1}}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{}}"#,
        &[
            E::Meta("a", Some(raw("1"))),
            E::Meta("gone", None),
            E::Param(Param::Cursor, None),
        ],
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a":1}}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":3,"progress":1}}"#,
        &[
            E::Id(raw("9")),
            E::Param(Param::ProgressToken, Some(raw("\"c\""))),
        ],
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"c","progress":1}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","traceparent":"t","io.modelcontextprotocol/clientCapabilities":{}}}}"#,
        &[E::StripModern],
        r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"traceparent":"t"}}}"#,
    );
}

fn check_reply(input: &str, edits: &[ReplyEdit<'_>], expected: &str) {
    assert_eq!(text(&response(input).splice(edits)), expected);
    parse(expected).unwrap();
}

#[test]
fn replies_are_edited_in_place() {
    use ReplyEdit as E;
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[ ]}}"#,
        &[
            E::Id(raw("\"a\"")),
            E::Meta("dev.tipstaff/decision", Some(raw("{}"))),
            E::Default("resultType", raw("\"complete\"")),
        ],
        r#"{"jsonrpc":"2.0","id":"a","result":{"content":[ ],"resultType":"complete","_meta":{"dev.tipstaff/decision":{}}}}"#,
    );
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","ttlMs":5,"cacheScope":"public"}}"#,
        &[
            E::Default("resultType", raw("\"complete\"")),
            E::Set("ttlMs", Some(raw("0"))),
            E::Set("cacheScope", None),
        ],
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","ttlMs":0}}"#,
    );
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"m","data":{"dev.tipstaff/x":1,"_meta":{"DEV.tipstaff/x":1}}}}"#,
        &[
            E::ErrorCode(-32602),
            E::StripOwn,
            E::Meta("x", Some(raw("1"))),
        ],
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m","data":{"_meta":{}}}}"#,
    );
    let listing = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a" } , {"name":"b"},{"name": "c"} ],"nextCursor":"n"}}"#;
    for (keep, expected) in [
        (
            &[true, true, true][..],
            r#"[ {"name":"a" } , {"name":"b"},{"name": "c"} ]"#,
        ),
        (&[true, false, true], r#"[ {"name":"a" },{"name": "c"} ]"#),
        (&[false, true, true], r#"[ {"name":"b"},{"name": "c"} ]"#),
        (&[false, false, true], r#"[ {"name": "c"} ]"#),
        (&[true, false], r#"[ {"name":"a" } ]"#),
        (&[], "[  ]"),
    ] {
        let expected = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{expected},"nextCursor":"n"}}}}"#
        );
        check_reply(listing, &[E::Keep(List::Tools, keep)], &expected);
        check_reply(
            listing,
            &[E::Keep(List::Tools, keep), E::Keep(List::Prompts, &[])],
            &expected,
        );
    }
}

#[test]
fn an_element_is_put_in_place_of_another() {
    let listing = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a"}, {"name":"b","dev.tipstaff/x":{"y":1}},{"name":"c"}]}}"#;
    let instead = [None, Some(r#"{"name":"b","z":1}"#.into()), None];
    check_reply(
        listing,
        &[
            ReplyEdit::StripOwn,
            ReplyEdit::Keep(List::Tools, &[false, true, true]),
            ReplyEdit::Instead(List::Tools, &instead),
        ],
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"b","z":1},{"name":"c"}]}}"#,
    );
}

#[test]
fn a_list_that_cannot_be_filtered_is_emptied() {
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":{"0":{"name":"a"}}}}"#,
        &[ReplyEdit::Keep(List::Tools, &[true]), ReplyEdit::StripOwn],
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#,
    );
}

#[test]
fn nobody_else_says_what_we_decided() {
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"dev.tipstaff/decision":{},"a":1},"content":[{"type":"text","text":"t","_meta":{"dev.tipstaff/decision":1}},{"type":"resource","resource":{"_Meta":{"b":1,"dev.tipstaff/x":[]}}}],"structuredContent":{"_meta":{"dev.tipstaff/x":1}}}}"#,
        &[
            ReplyEdit::StripOwn,
            ReplyEdit::Meta("dev.tipstaff/decision", Some(raw("{\"effect\":\"allow\"}"))),
        ],
        r#"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"dev.tipstaff/decision":{"effect":"allow"},"a":1},"content":[{"type":"text","text":"t","_meta":{}},{"type":"resource","resource":{"_Meta":{"b":1}}}],"structuredContent":{"_meta":{"dev.tipstaff/x":1}}}}"#,
    );
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":7403,"message":"m","data":{"effect":"deny"}}}"#,
        &[ReplyEdit::StripOwn],
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"m","data":{"effect":"deny"}}}"#,
    );
    // Not in the envelope, not beside `_meta`, and not in what a schema does not excuse.
    check_reply(
        r#"{"dev.tipstaff/a":1,"jsonrpc":"2.0","id":1,"result":{"dev.tipstaff/b":1,"content":[{"DEV.TIPSTAFF/c":1,"x":0}],"_meta":{"y":{"dev.tipstaff/d":1}}},"x":{"dev.tipstaff/e":1}}"#,
        &[ReplyEdit::StripOwn],
        r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"x":0}],"_meta":{"y":{}}}}"#,
    );
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","dev.tipstaff/a":1,"data":[{"dev.tipstaff/b":1}]},"dev.tipstaff/c":2}"#,
        &[ReplyEdit::StripOwn],
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m","data":[{}]}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","dev.tipstaff/a":1,"id":1,"method":"tools/call","params":{"dev.tipstaff/b":1,"name":"n","arguments":{"dev.tipstaff/c":1,"_meta":{"dev.tipstaff/d":1}},"_meta":{"x":[{"dev.tipstaff/e":1}],"dev.tipstaff/f":1},"inputResponses":{"k":{"_meta":{"dev.tipstaff/g":1}}}}}"#,
        &[Edit::StripOwn],
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","arguments":{"dev.tipstaff/c":1,"_meta":{"dev.tipstaff/d":1}},"_meta":{"x":[{}]},"inputResponses":{"k":{"_meta":{}}}}}"#,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"dev.tipstaff/a":1}},"dev.tipstaff/b":1}"#,
        &[Edit::StripOwn],
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{}}}"#,
    );
    // Stripping inside what is removed anyway.
    check_reply(
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"_meta":{"dev.tipstaff/x":1}},{"_meta":{"dev.tipstaff/x":1}}]}}"#,
        &[
            ReplyEdit::StripOwn,
            ReplyEdit::Keep(List::Tools, &[false, true]),
        ],
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"_meta":{}}]}}"#,
    );
}

fn space() -> impl Strategy<Value = String> {
    "[ \n\t]{0,2}"
}

/// A request with members in any order, odd spacing and unknown members.
fn requests() -> impl Strategy<Value = (String, String)> {
    let arguments = prop_oneof![
        Just(r#"{"n": 1.0, "big":123456789012345678901234567890}"#),
        Just("{ }"),
        Just(r#"{"\u0061":[1 , {"_meta":{"dev.tipstaff/x":1}}]}"#),
    ];
    let meta = prop::sample::subsequence(
        vec![
            r#""progressToken": 1"#,
            r#""dev.tipstaff/a":{}"#,
            r#""k" : null"#,
            r#""DEV.tipstaff/b":0"#,
        ],
        0..=4,
    )
    .prop_shuffle();
    let extra = prop::sample::subsequence(
        vec![
            r#""name":"n""#,
            r#""requestState":"s""#,
            r#""x":[1,2]"#,
            r#""cursor": "c""#,
        ],
        0..=4,
    );
    (arguments, meta, extra, space(), any::<prop::sample::Index>()).prop_map(
        |(arguments, meta, extra, space, at)| {
            let mut params: Vec<String> = extra.into_iter().map(str::to_owned).collect();
            let glue = format!("{space},{space}");
            params.insert(at.index(params.len() + 1), format!("\"arguments\":{arguments}"));
            params.insert(
                at.index(params.len() + 1),
                format!("\"_meta\":{space}{{{space}{}{space}}}", meta.join(&glue)),
            );
            let text = format!(
                r#"{space}{{"id":1{space},"method":"tools/call",{space}"params":{{{space}{}{space}}},"jsonrpc":"2.0"}}{space}"#,
                params.join(&glue)
            );
            (text, arguments.to_owned())
        },
    )
}

fn edits() -> impl Strategy<Value = Vec<Edit<'static>>> {
    let value = prop::option::of(Just(raw("-5")));
    let name = prop::sample::select(vec!["progressToken", "k", "new", "dev.tipstaff/decision"]);
    let param = prop::sample::select(vec![Param::Cursor, Param::RequestState, Param::RequestId]);
    prop::collection::vec(
        prop_oneof![
            Just(Edit::Id(raw("77"))),
            (name, value.clone()).prop_map(|(name, value)| Edit::Meta(name, value)),
            (param, value).prop_map(|(param, value)| Edit::Param(param, value)),
            Just(Edit::StripOwn),
            Just(Edit::StripModern),
            Just(Edit::DropMeta),
        ],
        0..6,
    )
}

/// What the edits mean, on a tree.
fn edited(text: &str, edits: &[Edit<'_>]) -> serde_json::Value {
    use serde_json::Value as Tree;
    let mut tree: Tree = serde_json::from_str(text).unwrap();
    let value = |raw: &Raw<'_>| serde_json::from_str::<Tree>(raw.as_str()).unwrap();
    let meta = tree["params"]["_meta"].as_object_mut().unwrap();
    meta.retain(|name, _| {
        !edits.iter().any(|edit| match edit {
            Edit::StripOwn => name.to_lowercase().starts_with(meta::OWN_PREFIX),
            Edit::DropMeta => true,
            _ => false,
        })
    });
    for edit in edits {
        match edit {
            Edit::Id(id) => tree["id"] = value(id),
            Edit::Meta(name, Some(raw)) => tree["params"]["_meta"][*name] = value(raw),
            Edit::Meta(name, None) => {
                tree["params"]["_meta"]
                    .as_object_mut()
                    .unwrap()
                    .remove(*name);
            }
            Edit::Param(param, change) => {
                let name = match param {
                    Param::Cursor => "cursor",
                    Param::RequestState => "requestState",
                    Param::ProgressToken => "progressToken",
                    Param::RequestId => "requestId",
                };
                match change {
                    Some(raw) => tree["params"][name] = value(raw),
                    None => {
                        tree["params"].as_object_mut().unwrap().remove(name);
                    }
                }
            }
            Edit::StripOwn | Edit::StripModern | Edit::DropMeta => {}
        }
    }
    if edits.iter().any(|edit| matches!(edit, Edit::DropMeta))
        && tree["params"]["_meta"].as_object().unwrap().is_empty()
    {
        tree["params"].as_object_mut().unwrap().remove("_meta");
    }
    tree
}

proptest! {
    #[test]
    fn without_edits_nothing_changes((input, _) in requests()) {
        let spliced = request(&input).splice(&[]);
        prop_assert_eq!(text(&spliced), input);
    }

    #[test]
    fn edits_do_what_they_say_and_arguments_never_change(
        (input, arguments) in requests(),
        edits in edits(),
    ) {
        let spliced = request(&input).splice(&edits);
        let again = request(text(&spliced));
        prop_assert_eq!(again.arguments_text(), Some(arguments.as_str()));
        let tree: serde_json::Value = serde_json::from_slice(&spliced).unwrap();
        prop_assert_eq!(tree, edited(&input, &edits));
    }

    #[test]
    fn kept_elements_keep_their_bytes(
        items in prop::collection::vec("\\{\"name\": ?\"[a-z]{1,3}\" ?\\}", 0..8),
        keep in prop::collection::vec(any::<bool>(), 0..9),
        space in space(),
    ) {
        let glue = format!("{space},{space}");
        let input = format!(
            r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{space}{}{space}],"x":1}}}}"#,
            items.join(&glue)
        );
        let spliced = response(&input).splice(&[ReplyEdit::Keep(List::Tools, &keep)]);
        let again = response(text(&spliced));
        let left: Vec<_> = again.listed(List::Tools).map(Value::text).collect();
        let expected: Vec<_> = items
            .iter()
            .zip(keep.iter().chain(std::iter::repeat(&false)))
            .filter(|(_, keep)| **keep)
            .map(|(item, _)| item.as_str())
            .collect();
        prop_assert_eq!(left, expected);
        prop_assert_eq!(again.member("x").map(Value::text), Some("1"));
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        drop(Frame::parse(bytes.into()));
    }
}
