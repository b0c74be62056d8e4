use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

use super::*;

/// A server that does what the tests ask of it.
struct Server {
    is_modern: bool,
    /// Whether a forgotten session is answered as the TypeScript examples do.
    is_sloppy: bool,
    sessions: AtomicUsize,
    /// The session that is known, if any.
    known: Mutex<Option<String>>,
    /// Told when a question of the server's is refused.
    refused: Notify,
    seen: mpsc::UnboundedSender<Seen>,
}

/// A request as it arrived, or the end of an answer that nobody read to its end.
#[derive(Debug)]
struct Seen {
    verb: String,
    method: String,
    headers: Vec<(String, String)>,
    body: Value,
}

struct Fixture {
    upstream: Upstream,
    server: Arc<Server>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

async fn start(is_modern: bool, is_sloppy: bool) -> Fixture {
    let (to, seen) = mpsc::unbounded_channel();
    let server = Arc::new(Server {
        is_modern,
        is_sloppy,
        sessions: AtomicUsize::new(0),
        known: Mutex::default(),
        refused: Notify::new(),
        seen: to,
    });
    let app = Router::new()
        .fallback(serve)
        .with_state(Arc::clone(&server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Fixture {
        upstream: Upstream::new(at(&url)),
        server,
        seen,
    }
}

fn at(url: &str) -> UpstreamConfig {
    config(Transport::Http {
        url: url.parse().unwrap(),
    })
}

impl Fixture {
    /// Waits for a request with that method (or verb).
    async fn sees(&mut self, wanted: &str) -> Seen {
        loop {
            let seen = self.seen.recv().await.unwrap();
            if seen.method == wanted || seen.verb == wanted {
                return seen;
            }
        }
    }

    async fn link(&self) -> Arc<Link> {
        self.upstream.link("i-1", Opening::Handshake).await.unwrap()
    }
}

impl Seen {
    fn header(&self, wanted: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(name, _)| name == wanted);
        let value = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none());
        value
    }
}

fn json_answer(status: u16, body: impl Into<String>) -> Response {
    Response::builder()
        .status(status)
        .header("content-type", "application/json; charset=utf-8")
        .body(Body::from(body.into()))
        .unwrap()
}

fn events(parts: Vec<String>) -> Response {
    let stream = stream::iter(parts.into_iter().map(Ok::<_, std::io::Error>));
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(stream))
        .unwrap()
}

/// Says on its end that it was dropped.
struct Told(mpsc::UnboundedSender<Seen>);

impl Drop for Told {
    fn drop(&mut self) {
        let (verb, method) = ("DROPPED".to_owned(), String::new());
        let _ended = self.0.send(Seen {
            verb,
            method,
            headers: Vec::new(),
            body: Value::Null,
        });
    }
}

async fn serve(Shared(server): Shared<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| {
        (
            name.to_string(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    });
    let method = body["method"].as_str().unwrap_or_default().to_owned();
    let seen = Seen {
        verb: parts.method.to_string(),
        method: method.clone(),
        headers: headers.collect(),
        body: body.clone(),
    };
    let session = seen.header("mcp-session-id").map(str::to_owned);
    let verb = seen.verb.clone();
    server.seen.send(seen).unwrap();
    if !server.is_modern && method != "initialize" && verb != "DELETE" {
        let known = server.known.lock().unwrap().clone();
        if session.is_none() || session != known {
            let text = "Bad Request: No valid session ID provided";
            let error = json!({"code": -32000, "message": text});
            let error = json!({"jsonrpc": "2.0", "id": null, "error": error}).to_string();
            return json_answer(if server.is_sloppy { 400 } else { 404 }, error);
        }
    }
    match (verb.as_str(), method.as_str()) {
        ("GET", _) => {
            let events_told = vec![
                "id: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}\n\n".into(),
                "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"roots/list\"}\n\n".into(),
                "data: {\"jsonrpc\":\"2.0\",\"id\":\"old\",\"result\":{}}\n\n".into(),
            ];
            events(events_told)
        }
        (_, "initialize") => {
            let number = server.sessions.fetch_add(1, Ordering::SeqCst);
            let session = format!("s-{number}");
            *server.known.lock().unwrap() = Some(session.clone());
            let result = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
            let answer = json!({"jsonrpc": "2.0", "id": body["id"], "result": result});
            let mut answer = events(vec![format!("event: message\ndata: {answer}\n\n")]);
            answer
                .headers_mut()
                .insert("mcp-session-id", session.parse().unwrap());
            answer
        }
        (_, "server/discover") => {
            let result = json!({"supportedVersions": ["2026-07-28"], "capabilities": {}});
            json_answer(
                200,
                json!({"jsonrpc": "2.0", "id": body["id"], "result": result}).to_string(),
            )
        }
        (_, "tools/list") => {
            if !server.is_modern {
                server.refused.notified().await;
            }
            let result = json!({"tools": [{"name": "a"}]});
            json_answer(
                200,
                json!({"jsonrpc": "2.0", "id": body["id"], "result": result}).to_string(),
            )
        }
        (_, "tools/call") => called(&server, &body).await,
        ("POST", "") => {
            assert_eq!((&body["id"], body["error"].is_object()), (&json!(1), true));
            server.refused.notify_one();
            Response::builder().status(202).body(Body::empty()).unwrap()
        }
        _ => Response::builder().status(202).body(Body::empty()).unwrap(),
    }
}

async fn called(server: &Server, body: &Value) -> Response {
    let id = &body["id"];
    let answer = json!({"jsonrpc": "2.0", "id": id, "result": {"said": "so"}}).to_string();
    let progress = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}});
    match body["params"]["name"].as_str().unwrap() {
        "plain" => json_answer(200, answer),
        "events" => events(vec![
            ": hello\n\nid: 1\nretry: 250\ndata:\n\nevent: other\ndata: x\n\n".into(),
            format!("id: 2\ndata: {progress}\n\nda"),
            format!("ta: {answer}\n\n"),
        ]),
        "wrong-id" => json_answer(200, r#"{"jsonrpc":"2.0","id":"other","result":{}}"#),
        "page" => Response::new(Body::from("<html>")),
        "accepted" => Response::builder().status(202).body(Body::empty()).unwrap(),
        "garbage" => events(vec!["data: {\n\n".into()]),
        "short" => events(vec![format!("id: 1\ndata: {progress}\n\n")]),
        "elsewhere" => Response::builder()
            .status(307)
            .header("location", "http://127.0.0.1:1/")
            .body(Body::empty())
            .unwrap(),
        "refused" => json_answer(
            400,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32020}}"#,
        ),
        "failed" => json_answer(500, "x".repeat(100_000)),
        "giant" => {
            let chunk = "x".repeat(1 << 20);
            let stream = stream::iter((0..40).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
            Response::builder()
                .header("content-type", "application/json")
                .body(Body::from_stream(stream))
                .unwrap()
        }
        "broken" => {
            let begins = stream::iter([Ok("data: {".to_owned())]);
            let parts = begins.chain(stream::once(async {
                // What has begun is sent when there is nothing more at once.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("dies"))
            }));
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(parts))
                .unwrap()
        }
        "silent" => {
            let _told = Told(server.seen.clone());
            std::future::pending().await
        }
        "endless" => {
            let told = Told(server.seen.clone());
            let first = stream::iter([Ok::<_, std::io::Error>(format!("data: {progress}\n\n"))]);
            let rest = stream::once(async move {
                let _told = told;
                std::future::pending().await
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(Body::from_stream(first.chain(rest)))
                .unwrap()
        }
        name => panic!("no tool {name}"),
    }
}

#[tokio::test]
async fn the_era_is_found() {
    for (is_modern, expected) in [(true, "2026-07-28"), (false, "2025-11-25")] {
        let mut fixture = start(is_modern, true).await;
        let probed = fixture.upstream.probe().await.unwrap();
        assert_eq!(probed.version.as_str(), expected);
        let first = fixture.sees("server/discover").await;
        assert_eq!(first.header("mcp-protocol-version"), Some("2026-07-28"));
        assert_eq!(first.header("mcp-method"), Some("server/discover"));
        assert_eq!(
            first.header("accept"),
            Some("application/json, text/event-stream")
        );
        if !is_modern {
            let told = fixture.sees("notifications/initialized").await;
            assert_eq!(told.header("mcp-session-id"), Some("s-0"));
            assert_eq!(told.header("mcp-protocol-version"), Some("2025-11-25"));
            // The link it was asked on is gone by now.
            assert_eq!(
                fixture.sees("DELETE").await.header("mcp-session-id"),
                Some("s-0")
            );
        }
        // The legacy one does so only when it knows that it cannot have the client's roots.
        let tools = fixture.upstream.list_tools().await.unwrap();
        assert_eq!(tools, br#"[{"name":"a"}]"#);
    }
}

#[tokio::test]
async fn answers_come_whole_or_as_events() {
    for is_modern in [true, false] {
        let fixture = start(is_modern, false).await;
        let link = fixture.link().await;
        assert_eq!(given(&link, "1", "plain", json!({})).await["said"], "so");

        let mut exchange = link.request(call("2", "events", &json!({}))).await.unwrap();
        let mut seen = Vec::new();
        while let Some(message) = exchange.next().await {
            let message = message.unwrap();
            assert_eq!(message.http_status, Some(StatusCode::OK));
            seen.push((message.kind, message.event_id, message.retry));
        }
        let expected = [
            (MessageKind::Empty, Some("1".to_owned()), Some(250)),
            (MessageKind::Notification, Some("2".to_owned()), None),
            (MessageKind::Response, None, None),
        ];
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    async fn check(tool: &str, expected: &str) {
        let fixture = start(true, false).await;
        let link = fixture.link().await;
        let mut exchange = link.request(call("1", tool, &json!({}))).await.unwrap();
        let error = exchange.response().await.unwrap_err();
        assert!(said(&error).contains(expected), "{tool}: {}", said(&error));
        assert!(exchange.next().await.is_none());
        // None of that harms the next call.
        given(&link, "2", "plain", json!({})).await;
    }
    check("wrong-id", "malformed answer: the id of another request").await;
    check("page", "neither JSON nor an event stream").await;
    check("accepted", "neither JSON nor an event stream").await;
    check("garbage", "an event that is no message").await;
    check("short", "ended without the response").await;
    check("elsewhere", "status 307").await;
    check("giant", "more than 33554432 bytes").await;
    check("broken", "broken: error reading a body").await;
}

#[tokio::test]
async fn a_refusal_keeps_its_status_and_body() {
    let fixture = start(true, false).await;
    let link = fixture.link().await;
    for (tool, status, length) in [("refused", 400, 51), ("failed", 500, 64 * 1024)] {
        let mut exchange = link.request(call("1", tool, &json!({}))).await.unwrap();
        let error = exchange.next().await.unwrap().unwrap_err();
        let ExchangeError::Http { status: seen, body } = error else {
            panic!("{error:?}")
        };
        assert_eq!((seen.as_u16(), body.len()), (status, length), "{body:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_costs_its_timeout() {
    for is_modern in [true, false] {
        let mut fixture = start(is_modern, false).await;
        let Transport::Http { url } = &fixture.upstream.config().transport else {
            panic!()
        };
        let config = UpstreamConfig {
            call_timeout: SECOND / 5,
            ..at(&url.to_string())
        };
        fixture.upstream = Upstream::new(config);
        let link = fixture.link().await;
        let error = link
            .request(call("1", "silent", &json!({})))
            .await
            .unwrap_err();
        assert!(
            matches!(error, SendError::Unknown(Cause::Timeout { .. })),
            "{error:?}"
        );

        let mut exchange = link
            .request(call("2", "endless", &json!({})))
            .await
            .unwrap();
        exchange.next().await.unwrap().unwrap();
        let error = exchange.next().await.unwrap().unwrap_err();
        assert!(matches!(error, ExchangeError::Timeout { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_dropped_call_is_cancelled() {
    for is_modern in [true, false] {
        let mut fixture = start(is_modern, false).await;
        let link = fixture.link().await;
        for tool in ["silent", "endless"] {
            let sending = link.request(call(tool, tool, &json!({})));
            if tool == "silent" {
                tokio::select! {
                    answer = sending => panic!("{answer:?}"),
                    _arrived = fixture.sees("tools/call") => {}
                }
            } else {
                let mut exchange = sending.await.unwrap();
                exchange.next().await.unwrap().unwrap();
                drop(exchange);
            }
            if is_modern {
                fixture.sees("DROPPED").await;
            } else {
                let told = fixture.sees("notifications/cancelled").await;
                assert_eq!(told.body["params"]["requestId"], tool);
            }
        }
        given(&link, "after", "plain", json!({})).await;
    }
}

#[tokio::test]
async fn a_lost_session_is_told_and_replaced() {
    for is_sloppy in [true, false] {
        let fixture = start(false, is_sloppy).await;
        let link = fixture.link().await;
        given(&link, "1", "plain", json!({})).await;
        assert_eq!(link.session_id().unwrap(), "s-0");
        *fixture.server.known.lock().unwrap() = None;
        let error = link
            .request(call("2", "plain", &json!({})))
            .await
            .unwrap_err();
        assert!(
            matches!(error, SendError::NotSent(Cause::SessionGone)),
            "{error:?}"
        );
        assert!(!link.is_alive());

        let again = fixture.link().await;
        assert_eq!(again.session_id().unwrap(), "s-1");
        given(&again, "2", "plain", json!({})).await;
        // An ordinary refusal is not taken for a lost session.
        let mut exchange = again
            .request(call("3", "refused", &json!({})))
            .await
            .unwrap();
        let error = exchange.next().await.unwrap().unwrap_err();
        assert!(matches!(error, ExchangeError::Http { .. }), "{error:?}");
        assert!(again.is_alive());
    }
}

#[tokio::test]
async fn the_stream_beside_the_calls_is_read_to_its_end() {
    let mut fixture = start(false, false).await;
    let link = fixture.link().await;
    let mut stream = link.open_stream(Some("6".into())).await.unwrap();
    let mut kinds = Vec::new();
    while let Some(message) = stream.next().await {
        kinds.push(message.unwrap().kind);
    }
    let expected = [
        MessageKind::Notification,
        MessageKind::Request,
        MessageKind::Response,
    ];
    assert_eq!(kinds, expected);
    let seen = fixture.sees("GET").await;
    assert_eq!(seen.header("last-event-id"), Some("6"));
    assert_eq!(seen.header("mcp-session-id"), Some("s-0"));
}

#[tokio::test]
async fn closing_ends_what_is_open_and_deletes_the_session() {
    let mut fixture = start(false, false).await;
    let link = fixture.link().await;
    let mut exchange = link
        .request(call("1", "endless", &json!({})))
        .await
        .unwrap();
    exchange.next().await.unwrap().unwrap();
    fixture.upstream.close_all().await;
    let error = exchange.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, ExchangeError::Gone(Cause::Closed)),
        "{error:?}"
    );
    assert_eq!(
        fixture.sees("DELETE").await.header("mcp-session-id"),
        Some("s-0")
    );
}

#[tokio::test]
async fn a_bad_address_fails_by_itself() {
    async fn check(url: &str, expected: &str) {
        let upstream = Upstream::new(at(url));
        let error = upstream.list_tools().await.unwrap_err();
        assert!(said(&error).contains(expected), "{url}: {}", said(&error));
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    check(&format!("http://{closed}/mcp"), "no connection").await;
    check("ftp://127.0.0.1/mcp", "neither http nor https").await;
    check(
        "http://user:word@127.0.0.1/mcp",
        "credentials do not belong there",
    )
    .await;
    check("/mcp", "names no host").await;
}
