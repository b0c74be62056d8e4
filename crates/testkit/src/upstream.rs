//! An MCP server in process that does what a test tells it to, of either era, and that keeps every
//! byte it was sent. Its own counts are the proof of what reached it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use crate::until;

/// The eras that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// Revisions with sessions.
    Legacy,
    /// 2026-07-28.
    Modern,
    /// Whatever the client speaks.
    Both,
}

/// What a server does when a tool is called. In a text that is sent as it stands `"id":7` is the id of
/// the request, whatever that is: the gateway chooses it.
#[derive(Debug, Clone)]
pub enum Script {
    /// Says the arguments back. What every tool does that has no other script.
    Echo,
    /// Answers with this result, byte for byte.
    Result(String),
    /// Answers with this JSON-RPC error.
    Error(i64, &'static str),
    /// As many notifications of progress over a stream, then a result.
    Progress(u32),
    /// Says the arguments back once the gate is open.
    Gate,
    /// Nothing, for ever: the answer does not begin.
    Hang,
    /// One progress notification over a stream, then nothing, for ever.
    HangStream,
    /// One progress notification over a stream, then the connection breaks.
    Die,
    /// A stream that ends without its response.
    EndEarly,
    /// This HTTP status and body.
    Http(u16, &'static str),
    /// This body as `application/json`.
    Body(String),
    /// This text as an event stream.
    Events(&'static str),
    /// A result with this many bytes of text, in one piece.
    Giant(usize),
    /// Progress notifications without end.
    Flood,
    /// Asks the client this (method and parameters), and gives what it answers as the result.
    Ask(&'static str, &'static str),
}

/// A request that reached a server.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The HTTP method.
    pub verb: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The JSON-RPC method; empty if it has none.
    pub method: String,
}

impl Seen {
    /// The text of a member of its parameters, as it was written.
    pub fn param(&self, name: &str) -> Option<String> {
        let message: HashMap<String, &RawValue> = serde_json::from_slice(&self.body).ok()?;
        let params: HashMap<String, &RawValue> =
            serde_json::from_str(message["params"].get()).ok()?;
        Some(params.get(name)?.get().to_owned())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A server. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Upstream {
    inner: Arc<Inner>,
    url: String,
}

#[derive(Debug)]
struct Inner {
    speaks: Mutex<Speaks>,
    tools: Mutex<Vec<Value>>,
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Seen>>,
    sessions: Mutex<HashSet<String>>,
    next_session: AtomicU64,
    answers: Mutex<HashMap<String, Value>>,
    /// Where its list of resources goes on.
    cursor: Mutex<Option<String>>,
    /// Answers that are not finished.
    under_way: AtomicUsize,
    /// Streams that clients opened for what belongs to no request.
    streams: AtomicUsize,
    pushed: broadcast::Sender<Value>,
    gate: watch::Sender<bool>,
    /// Whether it answers nothing at all.
    silent: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Inner {
    fn new(speaks: Speaks) -> Self {
        Self {
            speaks: Mutex::new(speaks),
            tools: Mutex::new(default_tools()),
            scripts: Mutex::default(),
            seen: Mutex::default(),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            answers: Mutex::default(),
            cursor: Mutex::default(),
            under_way: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            pushed: broadcast::channel(64).0,
            gate: watch::channel(false).0,
            silent: watch::channel(false).0,
            task: Mutex::default(),
        }
    }
}

impl Inner {
    fn cursor(&self) -> Option<String> {
        self.cursor.lock().unwrap().clone()
    }

    fn tools(&self) -> Vec<Value> {
        self.tools.lock().unwrap().clone()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap().take() {
            task.abort();
        }
    }
}

/// A count that goes down again by itself.
struct Counted(Arc<Inner>, fn(&Inner) -> &AtomicUsize);

impl Counted {
    fn new(inner: &Arc<Inner>, which: fn(&Inner) -> &AtomicUsize) -> Self {
        which(inner).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(inner), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

/// The tools that a server has unless it is told otherwise.
pub fn default_tools() -> Vec<Value> {
    let tool = |name: &str, schema: Value| json!({"name": name, "description": format!("The tool {name}."), "inputSchema": schema});
    let path = json!({"type": "object", "properties": {"path": {"type": "string"}},
                      "required": ["path"]});
    vec![
        tool("read_text_file", path.clone()),
        tool("delete-file", path),
        tool(
            "fetch",
            json!({"type": "object", "properties": {"url": {"type": "string", "format": "uri"}},
                   "required": ["url"]}),
        ),
        tool(
            "refund",
            json!({"type": "object", "properties": {
                "order": {"type": "string"}, "amount": {"type": "integer"},
                "note": {"type": "string"}}, "required": ["order", "amount"]}),
        ),
        tool(
            "anything",
            json!({"type": "object", "additionalProperties": true}),
        ),
        tool("secret_tool", json!({"type": "object"})),
    ]
}

impl Upstream {
    /// Starts a server.
    pub async fn start(speaks: Speaks) -> Self {
        let inner = Arc::new(Inner::new(speaks));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        // The server itself must not keep what it serves from being dropped.
        let weak = Arc::downgrade(&inner);
        let app = Router::new().fallback(move |request: axum::extract::Request| {
            let inner = weak.upgrade();
            async move {
                match inner {
                    Some(inner) => serve(State(inner), request).await,
                    None => status(StatusCode::SERVICE_UNAVAILABLE, ""),
                }
            }
        });
        let task = tokio::spawn(async move {
            let _ended = axum::serve(listener, app).await;
        });
        *inner.task.lock().unwrap() = Some(task);
        Self { inner, url }
    }

    /// A place where nobody listens.
    pub fn nobody() -> Self {
        // Bound and let go: the system does not give the port to somebody else at once.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        Self {
            inner: Arc::new(Inner::new(Speaks::Both)),
            url,
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it does when a tool is called.
    pub fn script(&self, tool: &str, script: Script) {
        self.inner
            .scripts
            .lock()
            .unwrap()
            .insert(tool.to_owned(), script);
    }

    /// The tools that it lists from now on.
    pub fn set_tools(&self, tools: Vec<Value>) {
        *self.inner.tools.lock().unwrap() = tools;
    }

    /// Where its list of resources goes on, from now on.
    pub fn set_cursor(&self, cursor: &str) {
        *self.inner.cursor.lock().unwrap() = Some(cursor.to_owned());
    }

    /// The tools that it lists.
    pub fn tools(&self) -> Vec<Value> {
        self.inner.tools()
    }

    /// Whether it accepts requests and leaves them waiting.
    pub fn set_silent(&self, silent: bool) {
        self.inner.silent.send_replace(silent);
    }

    /// Opens or closes the gate.
    pub fn set_gate(&self, open: bool) {
        self.inner.gate.send_replace(open);
    }

    /// Forgets every session.
    pub fn forget_sessions(&self) {
        self.inner.sessions.lock().unwrap().clear();
    }

    /// Sends a message over every open stream that belongs to no request.
    pub fn push(&self, message: Value) {
        let _nobody = self.inner.pushed.send(message);
    }

    /// Everything that reached it.
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// The requests of a method that reached it.
    pub fn seen_of(&self, method: &str) -> Vec<Seen> {
        self.seen()
            .into_iter()
            .filter(|seen| seen.method == method)
            .collect()
    }

    /// How many tool calls reached it.
    pub fn calls(&self) -> usize {
        self.seen_of("tools/call").len()
    }

    /// How many calls of each tool reached it.
    pub fn calls_by_tool(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for seen in self.seen_of("tools/call") {
            let name = seen.json()["params"]["name"]
                .as_str()
                .unwrap_or("?")
                .to_owned();
            *calls.entry(name).or_insert(0) += 1;
        }
        calls
    }

    /// The last tool call that reached it.
    pub fn last_call(&self) -> Seen {
        self.seen_of("tools/call").pop().expect("a call")
    }

    /// How many answers it has begun, or is thinking about, and not ended.
    pub fn under_way(&self) -> usize {
        self.inner.under_way.load(Ordering::SeqCst)
    }

    /// How many streams are open for what belongs to no request.
    pub fn streams(&self) -> usize {
        self.inner.streams.load(Ordering::SeqCst)
    }

    /// Waits until so many answers are under way.
    pub async fn until_under_way(&self, count: usize) {
        until(&format!("{count} answers are under way"), async || {
            self.under_way() == count
        })
        .await;
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let method = message["method"].as_str().unwrap_or_default().to_owned();
    inner.seen.lock().unwrap().push(Seen {
        verb: parts.method.clone(),
        headers: parts.headers.clone(),
        body,
        method: method.clone(),
    });
    if *inner.silent.borrow() {
        let _counted = Counted::new(&inner, |inner| &inner.under_way);
        let mut silent = inner.silent.subscribe();
        silent.wait_for(|silent| !silent).await.unwrap();
    }
    let speaks = *inner.speaks.lock().unwrap();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let session = header("mcp-session-id").map(str::to_owned);
    match parts.method {
        Method::GET if speaks != Speaks::Modern => return listening(&inner),
        Method::DELETE if speaks != Speaks::Modern => {
            inner
                .sessions
                .lock()
                .unwrap()
                .remove(&session.unwrap_or_default());
            return status(StatusCode::NO_CONTENT, "");
        }
        Method::POST => {}
        _ => return status(StatusCode::METHOD_NOT_ALLOWED, ""),
    }
    let says = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
    let is_modern = says.is_string();
    let id = &message["id"];
    match (speaks, is_modern) {
        (Speaks::Modern, false) if !id.is_null() => {
            let data = json!({"supported": ["2026-07-28"], "requested": ""});
            let error = json!({"code": -32022, "message": "unsupported version", "data": data});
            return refused(StatusCode::BAD_REQUEST, id, &error);
        }
        (Speaks::Legacy, true) => {
            let error = json!({"code": -32000, "message": "Bad Request: no valid session ID"});
            return refused(StatusCode::BAD_REQUEST, id, &error);
        }
        _ => {}
    }
    if !is_modern && method == "initialize" {
        let number = inner.next_session.fetch_add(1, Ordering::SeqCst);
        let session = format!("upstream-session-{number}");
        inner.sessions.lock().unwrap().insert(session.clone());
        let mut response = result(id, &initialized(&message));
        response
            .headers_mut()
            .insert("mcp-session-id", session.parse().unwrap());
        return response;
    }
    if !is_modern && !session.is_some_and(|it| inner.sessions.lock().unwrap().contains(&it)) {
        let error = json!({"code": -32001, "message": "Session not found"});
        return refused(StatusCode::NOT_FOUND, id, &error);
    }
    if method.is_empty() {
        let id = message["id"].to_string();
        inner.answers.lock().unwrap().insert(id, message);
        return status(StatusCode::ACCEPTED, "");
    }
    if id.is_null() {
        return status(StatusCode::ACCEPTED, "");
    }
    if method == "tools/call" {
        let tool = message["params"]["name"].as_str().unwrap_or_default();
        let script = inner.scripts.lock().unwrap().get(tool).cloned();
        return called(inner, script.unwrap_or(Script::Echo), message, is_modern).await;
    }
    if method == "subscriptions/listen" {
        let ack = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"_meta": {"io.modelcontextprotocol/subscriptionId": id}}});
        let counted = Counted::new(&inner, |inner| &inner.streams);
        return events(&[ack], After::Hang(counted));
    }
    match answered(&inner, &method, &message["params"]) {
        Ok(value) => result(id, &complete(value, is_modern, &method)),
        Err((code, text)) => {
            let error = json!({"code": code, "message": text});
            let legacy = StatusCode::OK;
            refused(
                if is_modern {
                    StatusCode::NOT_FOUND
                } else {
                    legacy
                },
                id,
                &error,
            )
        }
    }
}

fn initialized(message: &Value) -> Value {
    let asked = message["params"]["protocolVersion"]
        .as_str()
        .unwrap_or_default();
    let known = ["2025-11-25", "2025-06-18", "2025-03-26"];
    let version = if known.contains(&asked) {
        asked
    } else {
        known[0]
    };
    json!({"protocolVersion": version, "capabilities": capabilities(),
           "serverInfo": {"name": "scripted", "version": "1"}, "instructions": "Ask nicely."})
}

fn capabilities() -> Value {
    json!({"tools": {"listChanged": true}, "resources": {"subscribe": true}, "prompts": {},
           "completions": {}, "logging": {}})
}

fn answered(inner: &Inner, method: &str, params: &Value) -> Result<Value, (i64, &'static str)> {
    Ok(match method {
        "server/discover" => json!({
            "supportedVersions": ["2026-07-28"], "capabilities": capabilities(),
            "instructions": "Ask nicely.",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "1"}},
        }),
        "ping"
        | "logging/setLevel"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "tasks/get"
        | "tasks/result"
        | "tasks/cancel"
        | "tasks/update" => json!({}),
        "tools/list" => json!({"tools": inner.tools()}),
        "resources/list" => {
            let mut page = json!({"resources": [
                {"uri": "file:///public/a.txt", "name": "a"}, {"uri": "file:///secret/b.txt", "name": "b"},
            ]});
            if let Some(cursor) = inner.cursor() {
                page["nextCursor"] = cursor.into();
            }
            page
        }
        "resources/templates/list" => {
            json!({"resourceTemplates": [{"uriTemplate": "file:///public/{name}", "name": "public"}]})
        }
        "resources/read" => {
            let uri = params["uri"].as_str().unwrap_or_default();
            json!({"contents": [{"uri": uri, "text": "the text", "mimeType": "text/plain"}]})
        }
        "prompts/list" => json!({"prompts": [{"name": "greet"}, {"name": "scold"}]}),
        "prompts/get" => json!({"messages": [
            {"role": "user", "content": {"type": "text", "text": "Hello."}}]}),
        "completion/complete" => json!({"completion": {"values": ["one", "two"]}}),
        "tasks/list" => json!({"tasks": []}),
        _ => return Err((-32601, "no such method")),
    })
}

/// What a result must have beside in the modern era.
fn complete(mut value: Value, is_modern: bool, method: &str) -> Value {
    if is_modern {
        value["resultType"] = "complete".into();
        if method.ends_with("/list") || matches!(method, "server/discover" | "resources/read") {
            value["ttlMs"] = 60_000.into();
            value["cacheScope"] = "public".into();
        }
    }
    value
}

async fn called(inner: Arc<Inner>, script: Script, message: Value, is_modern: bool) -> Response {
    let counted = Counted::new(&inner, |inner| &inner.under_way);
    let id = message["id"].clone();
    let text = |text: &str| {
        complete(
            json!({"content": [{"type": "text", "text": text}]}),
            is_modern,
            "tools/call",
        )
    };
    // To a client that asked for no progress it is a word of the server's.
    let progress = |step: u32| match &message["params"]["_meta"]["progressToken"] {
        Value::Null => json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {
            "level": "info", "data": step}}),
        token => json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
            "progressToken": token, "progress": step}}),
    };
    let response = |value: Value| json!({"jsonrpc": "2.0", "id": id, "result": value});
    let about_it = |text: &str| text.replace("\"id\":7", &format!("\"id\":{id}"));
    match script {
        Script::Gate => {
            let _counted = counted;
            let mut gate = inner.gate.subscribe();
            gate.wait_for(|open| *open).await.unwrap();
            result(&id, &text(&message["params"]["arguments"].to_string()))
        }
        Script::Echo => result(&id, &text(&message["params"]["arguments"].to_string())),
        Script::Result(result) => whole(format!(
            r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#
        )),
        Script::Error(code, said) => {
            refused(StatusCode::OK, &id, &json!({"code": code, "message": said}))
        }
        Script::Progress(steps) => {
            let mut messages: Vec<_> = (1..=steps).map(progress).collect();
            messages.push(response(text("done")));
            events(&messages, After::End)
        }
        Script::Hang => {
            let _counted = counted;
            std::future::pending().await
        }
        Script::HangStream => events(&[progress(1)], After::Hang(counted)),
        Script::Die => events(&[progress(1)], After::Break),
        Script::EndEarly => events(&[progress(1)], After::End),
        Script::Http(code, body) => status(StatusCode::from_u16(code).unwrap(), about_it(body)),
        Script::Body(body) => whole(about_it(&body)),
        Script::Events(body) => {
            let mut response = Response::new(Body::from(about_it(body)));
            response
                .headers_mut()
                .insert("content-type", "text/event-stream".parse().unwrap());
            response
        }
        Script::Giant(bytes) => {
            let text = "x".repeat(bytes);
            let kind = if is_modern {
                r#""resultType":"complete","#
            } else {
                ""
            };
            whole(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{{kind}"content":[{{"type":"text","text":"{text}"}}]}}}}"#
            ))
        }
        Script::Flood => events(&[progress(1)], After::Repeat(counted)),
        Script::Ask(method, params) => {
            let asked = format!("ask-{}", inner.next_session.fetch_add(1, Ordering::SeqCst));
            let params: Value = serde_json::from_str(params).unwrap();
            let ask = json!({"jsonrpc": "2.0", "id": asked, "method": method, "params": params});
            let key = json!(asked).to_string();
            let rest = async move {
                let _counted = counted;
                let taken = || inner.answers.lock().unwrap().remove(&key);
                loop {
                    if let Some(answer) = taken() {
                        return answer;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
            };
            let id = id.clone();
            let rest = async move {
                let answer = rest.await;
                let said = json!({"content": [{"type": "text", "text": answer.to_string()}]});
                json!({"jsonrpc": "2.0", "id": id, "result": said})
            };
            events(&[ask], After::Then(Box::pin(rest)))
        }
    }
}

fn listening(inner: &Arc<Inner>) -> Response {
    let counted = Counted::new(inner, |inner| &inner.streams);
    let pushed = inner.pushed.subscribe();
    let parts = stream::unfold((pushed, counted), |(mut pushed, counted)| async move {
        let message = pushed.recv().await.ok()?;
        Some((Ok::<_, Infallible>(event(&message)), (pushed, counted)))
    });
    let mut response = Response::new(Body::from_stream(parts));
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response
}

/// What comes after the first events of a stream.
enum After {
    End,
    Break,
    Hang(Counted),
    Repeat(Counted),
    Then(std::pin::Pin<Box<dyn Future<Output = Value> + Send>>),
}

fn event(message: &Value) -> Bytes {
    format!("data: {message}\n\n").into()
}

fn events(messages: &[Value], after: After) -> Response {
    enum Step {
        Event(Bytes),
        After(After),
    }
    let first = messages.first().map(event).unwrap_or_default();
    let steps: Vec<_> = messages.iter().map(event).map(Step::Event).collect();
    let mut steps = steps.into_iter().chain([Step::After(after)]);
    let parts = stream::unfold(None, move |repeating: Option<Counted>| {
        let step = steps.next();
        let first = first.clone();
        async move {
            match (step, repeating) {
                (_, Some(counted)) => Some((Ok(first), Some(counted))),
                (Some(Step::Event(event)), None) => Some((Ok(event), None)),
                (Some(Step::After(After::Break)), None) => {
                    Some((Err(std::io::Error::other("broken off")), None))
                }
                (Some(Step::After(After::Hang(_counted))), None) => std::future::pending().await,
                (Some(Step::After(After::Repeat(counted))), None) => {
                    Some((Ok(first), Some(counted)))
                }
                (Some(Step::After(After::Then(rest))), None) => {
                    Some((Ok(event(&rest.await)), None))
                }
                (Some(Step::After(After::End)) | None, None) => None,
            }
        }
    });
    let mut response = Response::new(Body::from_stream(parts));
    response
        .headers_mut()
        .insert("content-type", "text/event-stream".parse().unwrap());
    response
}

fn whole(body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert("content-type", "application/json".parse().unwrap());
    response
}

fn result(id: &Value, result: &Value) -> Response {
    whole(json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
}

fn refused(code: StatusCode, id: &Value, error: &Value) -> Response {
    let mut response = whole(json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string());
    *response.status_mut() = code;
    response
}

fn status(code: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response
}
