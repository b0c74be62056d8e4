use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response as HttpResponse;
use axum::routing::{any, post};
use futures_util::stream;
use http::StatusCode;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokens::{AgentKey, PrivateKey};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use vocab::Time;
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use super::*;

/// What the gateway was sent.
#[derive(Debug, Clone)]
struct Seen {
    verb: String,
    headers: http::HeaderMap,
    body: Value,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
}

type Script = dyn Fn(&Seen) -> HttpResponse + Send + Sync;

/// A gateway that answers by a script and keeps what it was sent.
struct Fake {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    tokens: Mutex<VecDeque<(StatusCode, Value)>>,
    tokens_given: Mutex<usize>,
    revoked: Mutex<Vec<String>>,
}

async fn mcp(State(fake): State<Arc<Fake>>, request: HttpRequest) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen {
        verb: parts.method.to_string(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    if seen.headers.contains_key(::gateway::STANDING) {
        return status(405);
    }
    fake.seen.lock().unwrap().push(seen.clone());
    (fake.script)(&seen)
}

async fn token(State(fake): State<Arc<Fake>>) -> HttpResponse {
    let count = {
        let mut given = fake.tokens_given.lock().unwrap();
        *given += 1;
        *given
    };
    let scripted = fake.tokens.lock().unwrap().pop_front();
    let (status, body) = scripted.unwrap_or_else(|| {
        let body = json!({
            "access_token": format!("token-{count}"), "token_type": "DPoP", "expires_in": 300,
            "instance": "i-aaaaaaaaaaaaaaaaaaaaaaaaaa", "purpose": "triage",
        });
        (StatusCode::OK, body)
    });
    response(status, &body)
}

async fn revoke(State(fake): State<Arc<Fake>>, body: String) -> HttpResponse {
    let token = body.split('&').find_map(|it| it.strip_prefix("token="));
    fake.revoked.lock().unwrap().push(token.unwrap().to_owned());
    status(200)
}

fn response(status: StatusCode, body: &Value) -> HttpResponse {
    HttpResponse::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn result(seen: &Seen, result: impl Into<Value>) -> HttpResponse {
    response(
        StatusCode::OK,
        &json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": result.into()}),
    )
}

fn status(status: u16) -> HttpResponse {
    HttpResponse::builder()
        .status(status)
        .body(Body::empty())
        .unwrap()
}

fn events(text: &str) -> HttpResponse {
    let text = text.to_owned();
    HttpResponse::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from(text))
        .unwrap()
}

/// A stream that says something and then stays open; `gone` hears of its end.
fn endless(text: &str, gone: oneshot::Sender<()>) -> HttpResponse {
    struct Guard(Option<oneshot::Sender<()>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            if let Some(gone) = self.0.take() {
                let _unheard = gone.send(());
            }
        }
    }
    let first = Bytes::from(text.to_owned());
    let guard = Guard(Some(gone));
    let chunks = stream::unfold((Some(first), guard), |(first, guard)| async move {
        match first {
            Some(first) => Some((Ok::<_, Infallible>(first), (None, guard))),
            None => std::future::pending().await,
        }
    });
    HttpResponse::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(chunks))
        .unwrap()
}

/// A client, a bridge and a gateway.
struct Rig {
    fake: Arc<Fake>,
    input: Option<DuplexStream>,
    output: BufReader<DuplexStream>,
    bridge: tokio::task::JoinHandle<Result<(), ConnectError>>,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn new(script: impl Fn(&Seen) -> HttpResponse + Send + Sync + 'static) -> Self {
        Self::with_tokens(Vec::new(), script).await
    }

    async fn with_tokens(
        tokens: Vec<(StatusCode, Value)>,
        script: impl Fn(&Seen) -> HttpResponse + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Arc::new(Fake {
            script: Box::new(script),
            seen: Mutex::default(),
            tokens: Mutex::new(tokens.into()),
            tokens_given: Mutex::default(),
            revoked: Mutex::default(),
        });
        let app = Router::new()
            .route("/mcp/files", any(mcp))
            .route("/oauth/token", post(token))
            .route("/oauth/revoke", post(revoke))
            .with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = tempfile::tempdir().unwrap();
        let key: PathBuf = dir.path().join("triage.key");
        let agent_key = AgentKey {
            agent: "triage".parse().unwrap(),
            issuer: url.parse().unwrap(),
            key: PrivateKey::generate(&SystemRng).unwrap(),
            expires_at: Time::from_secs(4_000_000_000),
        };
        std::fs::write(&key, agent_key.to_file().expose()).unwrap();
        let agent = "triage".parse().unwrap();
        let (purpose, upstream) = ("triage".parse().unwrap(), "files".parse().unwrap());
        let asker = Asker::new(&agent, &key, purpose, upstream, None).unwrap();
        let (input, bridge_input) = tokio::io::duplex(1 << 20);
        let (bridge_output, output) = tokio::io::duplex(1 << 20);
        let (clock, rng) = (Arc::new(SystemClock::new()), Arc::new(SystemRng));
        let stop = CancellationToken::new();
        let bridge = tokio::spawn(bridge(asker, clock, rng, bridge_input, bridge_output, stop));
        Self {
            fake,
            input: Some(input),
            output: BufReader::new(output),
            bridge,
            _dir: dir,
        }
    }

    async fn say(&mut self, message: &Value) {
        let line = format!("{message}\n");
        self.input
            .as_mut()
            .unwrap()
            .write_all(line.as_bytes())
            .await
            .unwrap();
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        let read = tokio::time::timeout(Duration::from_secs(10), read).await;
        read.expect("an answer in time").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    async fn ask(&mut self, id: u64, method: &str, params: Value) -> Value {
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        self.hear().await
    }

    async fn open(&mut self) -> Value {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}});
        let hello = self.ask(1, "initialize", params).await;
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        hello
    }

    /// Closes stdin and waits for the end, with which the instance ends too.
    async fn end(mut self) -> Vec<Seen> {
        drop(self.input.take());
        let fake = Arc::clone(&self.fake);
        self.ended().await.unwrap();
        let given = *fake.tokens_given.lock().unwrap();
        assert_eq!(fake.revoked.lock().unwrap().len(), given.min(1));
        let seen = fake.seen.lock().unwrap();
        seen.clone()
    }

    /// Waits for the bridge to end by itself.
    async fn ended(self) -> Result<(), ConnectError> {
        let ended = tokio::time::timeout(Duration::from_secs(10), self.bridge).await;
        ended.expect("an end in time").unwrap()
    }

    fn tokens_given(&self) -> usize {
        *self.fake.tokens_given.lock().unwrap()
    }
}

/// A legacy server's answers to what every session begins with.
fn hello(seen: &Seen, session: &str) -> HttpResponse {
    if seen.method() == "initialize" {
        let mut hello = result(
            seen,
            json!({"protocolVersion": "2025-11-25", "capabilities": {}}),
        );
        hello
            .headers_mut()
            .insert("mcp-session-id", session.parse().unwrap());
        return hello;
    }
    match seen.verb.as_str() {
        "GET" => status(405),
        "DELETE" => status(200),
        _ => status(202),
    }
}

fn modern_meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    })
}

fn modern(params: Value) -> Value {
    let mut params = params;
    params["_meta"] = modern_meta();
    params
}

#[tokio::test]
async fn a_legacy_session_is_opened_used_and_closed() {
    let mut rig = Rig::new(|seen| match (seen.method(), seen.verb.as_str()) {
        ("tools/list", _) => result(seen, json!({"tools": []})),
        (_, "GET") => endless(
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n",
            oneshot::channel().0,
        ),
        _ => hello(seen, "s-1"),
    })
    .await;
    assert_eq!(rig.open().await["result"]["protocolVersion"], "2025-11-25");
    // On the session's own stream.
    assert_eq!(
        rig.hear().await["method"],
        "notifications/tools/list_changed"
    );
    assert_eq!(
        rig.ask(2, "tools/list", json!({})).await["result"]["tools"],
        json!([])
    );
    let seen = rig.end().await;
    let opening = &seen[0];
    assert_eq!(opening.header("mcp-session-id"), "");
    assert_eq!(opening.header("mcp-protocol-version"), "");
    assert_eq!(opening.header("authorization"), "DPoP token-1");
    assert!(!opening.header("dpop").is_empty());
    assert_eq!(seen[1].method(), "notifications/initialized");
    for later in &seen[1..] {
        assert_eq!(later.header("mcp-session-id"), "s-1", "{later:?}");
        assert_eq!(
            later.header("mcp-protocol-version"),
            "2025-11-25",
            "{later:?}"
        );
    }
    let stream = seen.iter().find(|seen| seen.verb == "GET").unwrap();
    assert_eq!(stream.header("accept"), "text/event-stream");
    assert_eq!(seen.last().unwrap().verb, "DELETE");
}

#[tokio::test]
async fn a_lost_session_is_opened_again_unseen() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let mut rig = Rig::new(move |seen| match (seen.method(), seen.header("mcp-session-id")) {
        ("initialize", _) => {
            let first = first.swap(false, std::sync::atomic::Ordering::SeqCst);
            hello(seen, if first { "s-1" } else { "s-2" })
        }
        ("tools/list", "s-1") => response(
            StatusCode::NOT_FOUND,
            &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "gone"}}),
        ),
        ("tools/list", _) => result(seen, json!({"tools": []})),
        _ => hello(seen, ""),
    })
    .await;
    rig.open().await;
    let answer = rig.ask(7, "tools/list", json!({})).await;
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": []}})
    );
    let seen = rig.end().await;
    let posted: Vec<(&str, &str)> = seen
        .iter()
        .filter(|seen| seen.verb == "POST")
        .map(|seen| (seen.method(), seen.header("mcp-session-id")))
        .collect();
    assert_eq!(
        posted,
        [
            ("initialize", ""),
            ("notifications/initialized", "s-1"),
            ("tools/list", "s-1"),
            ("initialize", ""),
            ("notifications/initialized", "s-2"),
            ("tools/list", "s-2"),
        ]
    );
}

#[tokio::test]
async fn modern_requests_get_their_headers() {
    let mut rig = Rig::new(|seen| match seen.method() {
        "tools/list" => result(
            seen,
            json!({"resultType": "complete", "tools": [{"name": "query", "inputSchema": {
                "type": "object",
                "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}
            }}]}),
        ),
        _ => result(seen, json!({"resultType": "complete"})),
    })
    .await;
    rig.ask(1, "server/discover", modern(json!({}))).await;
    rig.ask(2, "tools/list", modern(json!({}))).await;
    let call = json!({"name": "query", "arguments": {"region": "eu"}});
    rig.ask(3, "tools/call", modern(call)).await;
    let seen = rig.end().await;
    let call = &seen[2];
    assert_eq!(call.header("mcp-protocol-version"), "2026-07-28");
    assert_eq!(call.header("mcp-method"), "tools/call");
    assert_eq!(call.header("mcp-name"), "query");
    assert_eq!(call.header("mcp-param-region"), "eu");
    // There is no session to be closed.
    assert!(
        seen.iter()
            .all(|seen| seen.verb == "POST" && seen.header("mcp-session-id").is_empty())
    );
}

#[tokio::test]
async fn a_tool_that_was_never_listed_gets_its_headers_too() {
    let mut rig = Rig::new(
        |seen| match (seen.method(), seen.header("mcp-param-region")) {
            ("tools/list", _) => result(
                seen,
                json!({"resultType": "complete", "tools": [{"name": "query", "inputSchema": {
                    "type": "object",
                    "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}
                }}]}),
            ),
            (_, "") => response(
                StatusCode::BAD_REQUEST,
                &json!({"jsonrpc": "2.0", "id": seen.body["id"],
                    "error": {"code": -32020, "message": "`Mcp-Param-Region` is missing"}}),
            ),
            _ => result(seen, json!({"resultType": "complete", "content": []})),
        },
    )
    .await;
    let call = json!({"name": "query", "arguments": {"region": "eu"}});
    let answer = rig.ask(1, "tools/call", modern(call)).await;
    assert_eq!(answer["result"]["resultType"], "complete");
    rig.end().await;
}

#[tokio::test]
async fn events_become_lines() {
    let mut rig = Rig::new(|seen| match seen.method() {
        "tools/call" => events(
            ": hello\n\nid: 1\ndata:\n\n\
             data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{}}\n\n\
             data: {\"jsonrpc\":\"2.0\",\ndata: \"id\":5,\"result\":{\"content\":[]}}\n\n",
        ),
        _ => hello(seen, "s-1"),
    })
    .await;
    rig.open().await;
    let first = rig.ask(5, "tools/call", json!({"name": "x"})).await;
    assert_eq!(first["method"], "notifications/progress");
    assert_eq!(rig.hear().await["result"]["content"], json!([]));
    rig.end().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_again() {
    let mut rig = Rig::new(|seen| match (seen.method(), seen.header("last-event-id")) {
        ("tools/call", _) => events("id: e-1\nretry: 1\ndata:\n\n"),
        (_, "e-1") => events("data: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n"),
        _ => hello(seen, "s-1"),
    })
    .await;
    rig.open().await;
    assert_eq!(
        rig.ask(5, "tools/call", json!({"name": "x"})).await["id"],
        5
    );
    rig.end().await;
}

#[tokio::test]
async fn cancelling_a_modern_request_closes_its_stream() {
    let (gone, closed) = oneshot::channel();
    let gone = Mutex::new(Some(gone));
    let mut rig = Rig::new(move |_| {
        let gone = gone.lock().unwrap().take().unwrap();
        endless(
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n",
            gone,
        )
    })
    .await;
    rig.ask(4, "tools/call", modern(json!({"name": "slow"})))
        .await;
    rig.say(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                    "params": {"requestId": 4}}),
    )
    .await;
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .unwrap()
        .unwrap();
    let seen = rig.end().await;
    assert_eq!(seen.len(), 1, "the notification itself goes nowhere");
}

#[tokio::test]
async fn cancelling_a_legacy_request_is_the_gateways() {
    let mut rig = Rig::new(|seen| hello(seen, "s-1")).await;
    rig.open().await;
    rig.say(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                    "params": {"requestId": 4}}),
    )
    .await;
    let seen = rig.end().await;
    assert!(
        seen.iter()
            .any(|seen| seen.method() == "notifications/cancelled")
    );
}

fn unauthorized(description: &str) -> HttpResponse {
    let challenge = format!(r#"DPoP error="invalid_token", error_description="{description}""#);
    HttpResponse::builder()
        .status(401)
        .header("www-authenticate", "Bearer resource_metadata=\"x\"")
        .header("www-authenticate", challenge)
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let mut rig = Rig::new(|seen| match seen.header("authorization") {
        "DPoP token-1" => unauthorized("the access token expired 3 s ago; get a new one"),
        _ => result(seen, json!({"resultType": "complete"})),
    })
    .await;
    let answer = rig.ask(1, "tools/list", modern(json!({}))).await;
    assert_eq!(answer["result"]["resultType"], "complete");
    rig.ask(2, "tools/list", modern(json!({}))).await;
    assert_eq!(rig.tokens_given(), 2);
    rig.end().await;
    let mut rig = Rig::new(|_| unauthorized("the agent is suspended")).await;
    let answer = rig.ask(1, "tools/list", modern(json!({}))).await;
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(
        text.contains("the agent is suspended") && text.contains("tipstaff agent show"),
        "{text}"
    );
    rig.end().await;
}

#[tokio::test]
async fn an_instance_that_was_ended_is_not_brought_back() {
    let refused = json!({"error": "invalid_grant", "error_description": "it was revoked"});
    let short = json!({"access_token": "a", "token_type": "DPoP", "expires_in": 0,
                       "instance": "i-aaaaaaaaaaaaaaaaaaaaaaaaaa", "purpose": "triage"});
    // Its token is refused; or it is over, and there is no other.
    for tokens in [
        vec![],
        vec![
            (StatusCode::OK, short),
            (StatusCode::BAD_REQUEST, refused.clone()),
        ],
    ] {
        let mut rig = Rig::with_tokens(tokens, |_| unauthorized("the instance was ended")).await;
        let fake = Arc::clone(&rig.fake);
        let answer = rig.ask(1, "tools/list", modern(json!({}))).await;
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains("ended by an administrator"), "{text}");
        let ended = rig.ended().await;
        assert!(matches!(ended, Err(ConnectError::Ended)), "{ended:?}");
        assert!(fake.revoked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_client_without_an_instance_is_told_why() {
    let refused = json!({"error": "unauthorized_client", "error_description": "it is suspended"});
    let tokens = vec![(StatusCode::BAD_REQUEST, refused)];
    let mut rig = Rig::with_tokens(tokens, |_| status(500)).await;
    let answer = rig.ask(1, "initialize", json!({})).await;
    assert_eq!(answer["id"], 1);
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains("it is suspended"), "{text}");
    let ended = rig.ended().await;
    assert!(matches!(ended, Err(ConnectError::Ask(_))), "{ended:?}");
}

#[tokio::test]
async fn a_token_is_replaced_before_it_expires() {
    let short = |name: &str| {
        json!({"access_token": name, "token_type": "DPoP", "expires_in": 0,
               "instance": "i-aaaaaaaaaaaaaaaaaaaaaaaaaa", "purpose": "triage"})
    };
    let tokens = ["a", "b", "c", "d", "e"].map(|name| (StatusCode::OK, short(name)));
    let mut rig = Rig::with_tokens(tokens.to_vec(), |seen| {
        result(seen, json!({"resultType": "complete"}))
    })
    .await;
    rig.ask(1, "tools/list", modern(json!({}))).await;
    rig.ask(2, "tools/list", modern(json!({}))).await;
    let seen = rig.end().await;
    let seen = <[Seen; 2]>::try_from(seen).unwrap();
    // The stream of its standing takes one, too.
    let tokens = seen.each_ref().map(|it| it.header("authorization"));
    assert!(!tokens.contains(&"DPoP a"), "{tokens:?}");
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn trouble_is_told_with_the_requests_id() {
    let mut rig = Rig::new(|seen| match seen.body["params"]["name"].as_str() {
        Some("refused") => response(
            StatusCode::FORBIDDEN,
            &json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": "wrong host"}}),
        ),
        Some("html") => {
            let mut answer = status(502);
            *answer.body_mut() = Body::from("<html>");
            answer
        }
        _ => events("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\n"),
    })
    .await;
    let mut check = async |id: u64, name: &str, expected: &str| {
        let answer = rig
            .ask(id, "tools/call", modern(json!({"name": name})))
            .await;
        let answer = if answer["method"].is_string() {
            rig.hear().await
        } else {
            answer
        };
        assert_eq!(answer["id"], id);
        let text = answer["error"]["message"].as_str().unwrap();
        assert!(text.contains(expected), "{text}");
    };
    check(1, "refused", "refuses this client: wrong host").await;
    check(2, "html", "502 Bad Gateway: <html>").await;
    check(3, "cut", "whether the request was carried out is not known").await;
    rig.end().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_here() {
    let mut rig = Rig::new(|seen| result(seen, json!({}))).await;
    let mut check = async |line: &str, id: Value, code: i64| {
        rig.input
            .as_mut()
            .unwrap()
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let answer = rig.hear().await;
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(code)),
            "{line}"
        );
    };
    check("{", Value::Null, -32700).await;
    check("[]", Value::Null, -32600).await;
    check(r#"{"id":3,"method":"x"}"#, json!(3), -32600).await;
    check(
        r#"{"jsonrpc":"2.0","id":"a","method":"x","method":"y"}"#,
        json!("a"),
        -32700,
    )
    .await;
    assert!(rig.end().await.is_empty());
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answers() {
    let closed = CancellationToken::new();
    let seen_closed = closed.clone();
    let mut rig = Rig::new(move |seen| {
        let body = json!({"jsonrpc": "2.0", "id": seen.body["id"], "result": {}}).to_string();
        let late = stream::once(seen_closed.clone().cancelled_owned());
        let late = futures_util::StreamExt::map(late, move |()| Ok::<_, Infallible>(body.clone()));
        HttpResponse::builder()
            .header("content-type", "application/json")
            .body(Body::from_stream(late))
            .unwrap()
    })
    .await;
    for id in 1..4 {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
                          "params": modern(json!({"name": "x"}))});
        rig.say(&call).await;
    }
    drop(rig.input.take());
    closed.cancel();
    let mut ids = Vec::new();
    for _ in 1..4 {
        ids.push(rig.hear().await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    rig.end().await;
}

#[tokio::test]
async fn lines_are_read_one_by_one() {
    let mut input: &[u8] = b"{}\r\n\n  \n0123456789\nab\n\nlast";
    let mut read = Vec::new();
    loop {
        match lines::next(&mut input, 8).await.unwrap() {
            Line::Message(line) => read.push(String::from_utf8(line.to_vec()).unwrap()),
            Line::TooLong => read.push("too long".to_owned()),
            Line::End => break,
        }
    }
    assert_eq!(read, ["{}\r", "too long", "ab", "last"]);
}
