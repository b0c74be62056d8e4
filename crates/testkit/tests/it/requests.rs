//! Requests that are not HTTP, or that another server would read otherwise.

use testkit::{Legacy, Modern, Plane};

use crate::common::ANY;
use crate::hostile::{check, counted};

#[tokio::test]
async fn requests_that_are_not_http() {
    let plane = Plane::start().await;
    for (bytes, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 403"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.0 403"),
        ("nonsense\r\n\r\n", "HTTP/1.1 400"),
        (
            "GET / HTTP/1.1\r\nHost: localhost:7420\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "POST /mcp/files HTTP/1.1\r\nHost: localhost:7420\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "GET /\u{1} HTTP/1.1\r\nHost: localhost:7420\r\n\r\n",
            "HTTP/1.1 400",
        ),
    ] {
        let head = plane.raw(bytes.as_bytes()).await;
        assert!(head.starts_with(expected), "{bytes:?}: {head}");
    }
    plane.end().await;
}

#[tokio::test]
async fn requests_that_others_read_otherwise() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let token = agent.token("files").await;
    let legacy = token.legacy().await;
    let utf16: Vec<_> = Modern::text("tools/list", "")
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let asks = || {
        [
            token.modern().ask_call("anything", ANY),
            legacy.ask(Legacy::text("tools/list", "")),
        ]
    };
    let json = "application/json; charset=utf-16";
    for ask in asks() {
        let said = ask.header("content-type", json);
        let answer = check(&plane, "utf-16", said, 415, "bad-message").await;
        assert!(answer.text().contains("utf-8"), "{}", answer.text());
    }
    for ask in asks() {
        let meant = ask.header("content-type", json).body(utf16.clone());
        check(&plane, "really utf-16", meant, 415, "bad-message").await;
    }
    for ask in asks() {
        let ask = ask.header("content-encoding", "gzip");
        let answer = check(&plane, "compressed", ask, 415, "bad-message").await;
        let text = answer.text();
        assert!(text.contains("`Content-Encoding` is not taken"), "{text}");
    }
    // The target's host stands above `Host` for a proxy or server that reads both.
    let reached = plane.files().seen().len();
    for path in ["/mcp/files", "/oauth/token", "/healthz"] {
        let target = format!("http://evil.example{path}");
        let body = Modern::text("tools/list", "");
        let length = format!("Content-Length: {}\r\n", body.len());
        let ask = token.modern().ask("tools/list", None, "").path(&target);
        let head = ask.send_raw(&length, body.as_bytes()).await;
        assert!(head.starts_with("HTTP/1.1 403"), "{path}: {head}");
    }
    assert_eq!(plane.files().seen().len(), reached);
    counted(&plane).await;
    plane.end().await;
}
