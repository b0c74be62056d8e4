//! HTTP as a client speaks it, over TCP and over the administration socket, with every byte of it
//! in the test's hands.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp::sse::SseParser;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{MockClock, SeededRng, within};

/// Longest event that a test takes.
const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The way to a node, which stays when the node is started again elsewhere.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) clock: Arc<MockClock>,
    pub(crate) rng: Arc<SeededRng>,
    pub(crate) public_url: String,
    address: Mutex<Option<SocketAddr>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Wire {
    pub(crate) fn new(clock: Arc<MockClock>, rng: Arc<SeededRng>, public_url: &str) -> Arc<Self> {
        Arc::new(Self {
            clock,
            rng,
            public_url: public_url.to_owned(),
            address: Mutex::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    pub(crate) fn set_address(&self, address: SocketAddr) {
        *self.address.lock().unwrap() = Some(address);
    }

    pub(crate) fn clear_address(&self) {
        *self.address.lock().unwrap() = None;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.lock().unwrap().expect("the node was started")
    }
}

/// A request that is being put together.
#[derive(Debug, Clone)]
pub struct Ask {
    wire: Arc<Wire>,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Ask {
    pub(crate) fn new(wire: &Arc<Wire>, method: &str, path: &str) -> Self {
        Self {
            wire: Arc::clone(wire),
            method: method.parse().unwrap(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    /// Sets a header, in place of any of that name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.insert(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_ref()).unwrap(),
        );
        self
    }

    /// Adds a header beside those of that name.
    #[must_use]
    pub fn also(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_ref()).unwrap(),
        );
        self
    }

    /// Takes a header away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Sends it elsewhere on the node.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// The body, and the headers that every MCP client sends with it.
    #[must_use]
    pub fn json(self, body: impl Into<Bytes>) -> Self {
        self.header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(body)
    }

    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn request(self) -> (Arc<Wire>, Request<Full<Bytes>>) {
        let uri = format!("http://{}{}", self.wire.address(), self.path);
        let mut request = Request::new(Full::new(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = self.headers;
        (self.wire, request)
    }

    /// Sends it and reads the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {}", self.method, self.path);
        within(&what, async { self.open().await.rest().await }).await
    }

    /// Sends it and reads the whole answer; none if the node is away or goes.
    pub async fn try_send(self) -> Option<Answer> {
        let there = self.wire.address.lock().unwrap().is_some();
        let opened = if there {
            self.try_open().await.ok()
        } else {
            None
        };
        within("an answer", opened?.try_rest()).await
    }

    /// Sends it and reads the head of the answer.
    pub async fn open(self) -> Stream {
        self.try_open().await.expect("an answer")
    }

    async fn try_open(self) -> Result<Stream, hyper_util::client::legacy::Error> {
        let what = format!("the answer to {} {}", self.method, self.path);
        let (wire, request) = self.request();
        let response = within(&what, wire.client.request(request)).await;
        let (parts, body) = response?.into_parts();
        Ok(Stream {
            status: parts.status,
            headers: parts.headers,
            body,
            parser: SseParser::new(EVENT_BYTES_MAX),
            events: VecDeque::new(),
        })
    }

    /// The request as it goes over the wire, without its body.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self.headers.contains_key("host") {
            write!(head, "Host: {}\r\n", self.wire.address()).unwrap();
        }
        for (name, value) in &self.headers {
            write!(head, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
        }
        head
    }

    /// Sends the head, `more` of a head, and `body`, whatever they are, and reads what comes back
    /// before anything else is sent.
    pub async fn send_raw(&self, more: &str, body: &[u8]) -> String {
        let head = format!("{}{more}\r\n", self.head());
        let bytes = [head.as_bytes(), body].concat();
        within("an answer to raw bytes", raw(self.wire.address(), &bytes)).await
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The messages in the body, whether it is one or a stream of them.
    pub fn messages(&self) -> Vec<Bytes> {
        if !is_events(&self.headers) {
            return if self.body.is_empty() {
                Vec::new()
            } else {
                vec![self.body.clone()]
            };
        }
        let mut events = Vec::new();
        SseParser::new(EVENT_BYTES_MAX)
            .push(&self.body, &mut events)
            .unwrap();
        events
            .into_iter()
            .filter_map(|event| event.data)
            .filter(|it| !it.is_empty())
            .collect()
    }
}

fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("text/event-stream"))
}

/// An answer that is being read. Dropping it closes its connection.
#[derive(Debug)]
pub struct Stream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    parser: SseParser,
    events: VecDeque<Bytes>,
}

impl Stream {
    /// The next message; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Value> {
        within("the next event", async {
            loop {
                if let Some(data) = self.events.pop_front() {
                    return Some(serde_json::from_slice(&data).unwrap());
                }
                // A stream that breaks off is at its end too.
                let frame = self.body.frame().await?.ok()?;
                if let Some(data) = frame.data_ref() {
                    let mut events = Vec::new();
                    self.parser.push(data, &mut events).unwrap();
                    let data = events.into_iter().filter_map(|event| event.data);
                    self.events.extend(data.filter(|data| !data.is_empty()));
                }
            }
        })
        .await
    }

    async fn rest(self) -> Answer {
        self.try_rest().await.expect("a whole body")
    }

    async fn try_rest(self) -> Option<Answer> {
        let body = self.body.collect().await.ok()?.to_bytes();
        Some(Answer {
            status: self.status,
            headers: self.headers,
            body,
        })
    }
}

/// Writes bytes to a connection of their own, and reads the head of what comes back.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("a connection");
    stream.write_all(bytes).await.expect("it is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// One request over the administration socket.
pub(crate) async fn over_socket(socket: &Path, request: Request<Full<Bytes>>) -> Answer {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .expect("the socket");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("a handshake");
    let connection = tokio::spawn(connection);
    let asked = async {
        let (parts, body) = sender
            .send_request(request)
            .await
            .expect("an answer")
            .into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    };
    let answer = within("an answer over the socket", asked).await;
    connection.abort();
    answer
}
