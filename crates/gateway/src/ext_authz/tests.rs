use super::*;

#[test]
fn notifications_without_words_are_let_through() {
    let check =
        |text: &'static str, bare: bool| match Frame::parse(Bytes::from_static(text.as_bytes())) {
            Ok(Frame::Notification(notification)) => {
                assert_eq!(is_bare(&notification), bare, "{text}");
            }
            _ => panic!("{text}"),
        };
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        true,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{"_meta":{}}}"#,
        false,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        true,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"x"}}"#,
        false,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{}}"#,
        false,
    );
    check(
        r#"{"jsonrpc":"2.0","method":"notifications/message"}"#,
        false,
    );
}

#[test]
fn the_path_of_an_endpoint_is_what_a_request_must_name() {
    for (url, path) in [
        ("https://a.example/mcp", Some("/mcp")),
        ("https://a.example/x/mcp", Some("/x/mcp")),
        ("https://a.example", Some("/")),
        ("a.example/mcp", None),
    ] {
        assert_eq!(path_of(url), path, "{url}");
    }
}
