//! A server over streamable HTTP.
//!
//! One pool of connections per upstream. Redirects are not followed: an answer that sends us
//! elsewhere is an error, since whoever configured the upstream did not name that place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE};
use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method as Verb, Request, Response, StatusCode, Uri,
};
use broker::{Account, Echo, Lessee};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use mcp::ProtocolVersion;
use mcp::sse::{Event, SseError, SseParser};
use tokio::time::timeout;
use tracing::debug;
use vocab::limits::RESPONSE_BYTES_MAX;

use crate::outgoing::OutgoingParts;

use super::frame::Frame;
use super::{
    Cause, ExchangeError, Message, MessageKind, Method, OpenError, Outgoing, Passing, SendError,
    State, chain,
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
/// Both, as the transport demands.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than the five seconds after which common servers (uvicorn, Node) hang up: a request on
/// a connection that the server is just closing is lost, and nobody knows whether it was heard.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const IDLE_CONNECTIONS_MAX: usize = 64;
const ERROR_BODY_BYTES_MAX: usize = 64 * 1024;
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to one upstream.
#[derive(Clone)]
pub(super) enum HttpClient {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl HttpClient {
    /// For an endpoint. The system's roots are trusted.
    pub(super) fn new(url: &Uri) -> Result<Self, OpenError> {
        let unusable = |what: &str| OpenError::Unusable {
            what: what.to_owned(),
        };
        let authority = url
            .authority()
            .ok_or_else(|| unusable("the URL names no host"))?;
        if authority.as_str().contains('@') {
            return Err(unusable(
                "the URL holds a user name; credentials do not belong there",
            ));
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        match url.scheme_str() {
            Some("http") => Ok(Self::Plain(builder.build(connector))),
            Some("https") => {
                connector.enforce_http(false);
                let connector = HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(|error| unusable(&error.to_string()))?
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Ok(Self::Tls(builder.build(connector)))
            }
            Some(_) | None => Err(unusable("the URL is neither http nor https")),
        }
    }

    async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, legacy::Error> {
        match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
    }
}

/// A conversation: in the legacy era a session, in the modern one nothing but a place to send to.
pub(super) struct Conversation {
    shared: Arc<Shared>,
}

struct Shared {
    client: HttpClient,
    url: Uri,
    account: Arc<Account>,
    /// To whom credentials are leased; none: to the gateway itself, or to all alike.
    lessee: Option<Arc<Lessee>>,
    state: Arc<State>,
    session: Mutex<Option<HeaderValue>>,
    is_lost: AtomicBool,
}

impl Conversation {
    pub(super) fn new(
        client: HttpClient,
        url: Uri,
        (account, lessee): (Arc<Account>, Option<Arc<Lessee>>),
        state: Arc<State>,
    ) -> Self {
        let session = Mutex::default();
        let is_lost = AtomicBool::new(false);
        Self {
            shared: Arc::new(Shared {
                client,
                url,
                account,
                lessee,
                state,
                session,
                is_lost,
            }),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.shared.is_lost.load(Ordering::Acquire)
    }

    pub(super) fn session_id(&self) -> Option<HeaderValue> {
        self.shared.session().clone()
    }

    pub(super) async fn request(
        &self,
        outgoing: Outgoing,
        method: Method,
        after: Duration,
    ) -> Result<Exchange, SendError> {
        let shared = Arc::clone(&self.shared);
        let OutgoingParts {
            body,
            id,
            headers,
            method: _,
            progress_token: _,
        } = outgoing.into_parts();
        // From here on its drop cancels, also while the answer has not begun: a server that answers
        // in one piece begins when it is done.
        let mut exchange = Exchange {
            shared: Arc::clone(&shared),
            id: Some(id),
            status: StatusCode::OK,
            reading: Reading::Awaited,
            is_cancellable: method != Method::Initialize,
        };
        let response = match shared.post(body, headers, after).await {
            Ok(response) => response,
            Err(error) => {
                exchange.is_cancellable &= matches!(error, SendError::Unknown(_));
                return Err(error);
            }
        };
        exchange.status = response.status();
        if method == Method::Initialize && exchange.status.is_success() {
            *shared.session() = response.headers().get(SESSION).cloned();
        }
        let is_events = is_type(response.headers(), "text/event-stream");
        let is_json = is_type(response.headers(), "application/json");
        let incoming = response.into_body();
        exchange.reading = if !exchange.status.is_success() {
            Reading::Refusal {
                incoming,
                body: BytesMut::new(),
            }
        } else if is_events {
            Reading::events(incoming)
        } else if is_json {
            Reading::Whole {
                incoming,
                body: BytesMut::new(),
            }
        } else {
            Reading::Nothing
        };
        exchange.check_session().await?;
        Ok(exchange)
    }

    pub(super) async fn pass(&self, passing: Passing) -> Result<(), SendError> {
        let after = self.shared.state.call_timeout;
        let body = passing.into_bytes();
        let response = self.shared.post(body, HeaderMap::new(), after).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if status == StatusCode::NOT_FOUND && self.shared.session().is_some() {
            return Err(self.shared.lost());
        }
        let cause = Cause::Status { status };
        Err(if status.is_server_error() {
            SendError::Unknown(cause)
        } else {
            SendError::NotSent(cause)
        })
    }

    pub(super) async fn open_stream(
        &self,
        last_event_id: Option<String>,
    ) -> Result<Exchange, SendError> {
        let shared = Arc::clone(&self.shared);
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, EVENTS);
        if let Some(id) = last_event_id {
            let id =
                HeaderValue::try_from(id).map_err(|_| SendError::NotSent(Cause::Unsupported))?;
            headers.insert(LAST_EVENT, id);
        }
        let after = shared.state.call_timeout;
        let response = shared.send(Verb::GET, Bytes::new(), headers, after).await?;
        let status = response.status();
        let is_stream = is_type(response.headers(), "text/event-stream");
        let incoming = response.into_body();
        let reading = if status.is_success() && is_stream {
            Reading::events(incoming)
        } else if status.is_success() {
            Reading::Nothing
        } else {
            Reading::Refusal {
                incoming,
                body: BytesMut::new(),
            }
        };
        let mut exchange = Exchange {
            shared,
            id: None,
            status,
            reading,
            is_cancellable: false,
        };
        exchange.check_session().await?;
        Ok(exchange)
    }

    /// Ends the session on the server, in the background.
    pub(super) fn delete_session(&self) {
        let Some(session) = self.shared.session().take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let mut headers = HeaderMap::new();
        headers.insert(SESSION, session);
        let deleting = async move {
            // A server may refuse (405), or be gone: then it forgets the session by itself.
            let sending = shared.send(Verb::DELETE, Bytes::new(), headers, CLEAN_UP_TIMEOUT);
            if let Err(error) = sending.await {
                debug!("A session could not be deleted: {}", chain(&error));
            }
        };
        self.shared.state.tasks.spawn_on(deleting, &runtime);
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Option<HeaderValue>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has forgotten the session. It cannot have acted on the request.
    fn lost(&self) -> SendError {
        self.is_lost.store(true, Ordering::Release);
        self.session().take();
        SendError::NotSent(Cause::SessionGone)
    }

    async fn post(
        &self,
        body: Bytes,
        mut headers: HeaderMap,
        after: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        headers.insert(ACCEPT, ACCEPTED);
        headers.insert(CONTENT_TYPE, JSON);
        self.send(Verb::POST, body, headers, after).await
    }

    /// Sends, and waits for the answer to begin.
    async fn send(
        &self,
        verb: Verb,
        body: Bytes,
        headers: HeaderMap,
        after: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = verb;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        let session = self.session().clone();
        if let Some(session) = session {
            headers.entry(SESSION).or_insert(session);
        }
        // The header came with 2025-06-18; older servers do not mind it.
        if let Some(negotiated) = self.state.negotiated.get()
            && negotiated.version >= ProtocolVersion::V2025_06_18
        {
            let version = HeaderValue::from_static(negotiated.version.as_str());
            headers.entry(VERSION).or_insert(version);
        }
        // Last, so that nothing takes its place.
        let credential = self.account.lease(None, self.lessee.as_ref()).await;
        let credential = credential.map_err(|error| {
            SendError::NotSent(Cause::NoCredential {
                what: chain(&error),
            })
        })?;
        for (name, value) in credential.headers() {
            headers.insert(name, value.clone());
        }
        match timeout(after, self.client.request(request)).await {
            Err(_) => Err(SendError::Unknown(Cause::Timeout { after })),
            Ok(Ok(response)) => {
                // It is not sent again by itself: what was recorded was one request, and that
                // nothing was done with it is the upstream's word alone.
                if response.status() == StatusCode::UNAUTHORIZED {
                    credential.refused();
                }
                Ok(response)
            }
            Ok(Err(error)) if error.is_connect() => Err(SendError::NotSent(Cause::NoConnection {
                what: chain(&error),
            })),
            Ok(Err(error)) => Err(SendError::Unknown(Cause::Broken {
                what: chain(&error),
            })),
        }
    }
}

fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case(wanted)
}

/// An answer that is being read.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    /// None for a stream that answers no request.
    id: Option<String>,
    status: StatusCode,
    reading: Reading,
    is_cancellable: bool,
}

enum Reading {
    /// It has not begun.
    Awaited,
    Whole {
        incoming: Incoming,
        body: BytesMut,
    },
    Events {
        incoming: Incoming,
        parser: SseParser,
        events: VecDeque<Event>,
    },
    Refusal {
        incoming: Incoming,
        body: BytesMut,
    },
    Refused {
        body: Bytes,
    },
    /// A success that says nothing.
    Nothing,
    Done,
}

impl Reading {
    fn events(incoming: Incoming) -> Self {
        let parser = SseParser::new(RESPONSE_BYTES_MAX);
        Self::Events {
            incoming,
            parser,
            events: VecDeque::new(),
        }
    }
}

impl Exchange {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.reading, Reading::Done)
    }

    /// The next message; none at the end of a stream that answers no request.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, ExchangeError> {
        let echo = self.shared.account.echo(self.shared.lessee.as_ref());
        // What the gateway was leased itself, and others were, may come back here, too.
        let lessee = self.shared.lessee.as_ref();
        let others = lessee.map(|_| self.shared.account.echo(None));
        let masked = |bytes: Bytes| {
            let bytes = echo.mask_json(&bytes).map_or(bytes, Bytes::from);
            let others = others.as_ref().and_then(|it| it.mask_json(&bytes));
            others.map_or(bytes, Bytes::from)
        };
        let result = match self.step().await {
            Ok(Some(message)) => Ok(Some(Message {
                json: masked(message.json),
                event_id: message.event_id.map(|id| {
                    let id = masked_text(&echo, id);
                    match &others {
                        Some(others) => masked_text(others, id),
                        None => id,
                    }
                }),
                ..message
            })),
            Err(ExchangeError::Http { status, body }) => Err(ExchangeError::Http {
                status,
                body: masked(body),
            }),
            other => other,
        };
        if !matches!(result, Ok(Some(_))) {
            self.reading = Reading::Done;
        }
        result
    }

    async fn step(&mut self) -> Result<Option<Message>, ExchangeError> {
        match &mut self.reading {
            Reading::Done => Ok(None),
            Reading::Awaited | Reading::Nothing => Err(ExchangeError::Malformed {
                what: "neither JSON nor an event stream",
            }),
            Reading::Refused { body } => Err(ExchangeError::Http {
                status: self.status,
                body: std::mem::take(body),
            }),
            Reading::Refusal { incoming, body } => {
                collect(incoming, body, ERROR_BODY_BYTES_MAX).await?;
                let body = body.split().freeze();
                Err(ExchangeError::Http {
                    status: self.status,
                    body,
                })
            }
            Reading::Whole { incoming, body } => {
                let limit = RESPONSE_BYTES_MAX;
                if collect(incoming, body, limit).await? {
                    return Err(ExchangeError::TooLong { limit });
                }
                let body = body.split().freeze();
                let frame = Frame::read(&body).filter(|it| it.kind == MessageKind::Response);
                // An error may have lost the id, where the server could not read it.
                match frame {
                    Some(frame) if frame.id.is_none() || frame.id == self.id => {
                        self.reading = Reading::Done;
                        let mut message = frame.message(body);
                        message.http_status = Some(self.status);
                        Ok(Some(message))
                    }
                    Some(_) => Err(ExchangeError::Malformed {
                        what: "the id of another request",
                    }),
                    None => Err(ExchangeError::Malformed {
                        what: "not a JSON-RPC response",
                    }),
                }
            }
            Reading::Events {
                incoming,
                parser,
                events,
            } => loop {
                if let Some(event) = events.pop_front() {
                    let Some(message) = read_event(event, self.id.as_deref(), self.status)? else {
                        continue;
                    };
                    if message.kind == MessageKind::Response && self.id.is_some() {
                        self.finish();
                    }
                    return Ok(Some(message));
                }
                match incoming.frame().await {
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            let mut read = Vec::new();
                            let result = parser.push(data, &mut read);
                            events.extend(read);
                            result.map_err(|SseError::TooLong { max: limit }| {
                                ExchangeError::TooLong { limit }
                            })?;
                        }
                    }
                    Some(Err(error)) => return Err(broken(&error)),
                    None if self.id.is_some() => return Err(ExchangeError::Ended),
                    None => return Ok(None),
                }
            },
        }
    }

    /// Its response is there. The rest of the stream, by the book nothing, is read in the
    /// background so that the connection can be used again.
    fn finish(&mut self) {
        let reading = std::mem::replace(&mut self.reading, Reading::Done);
        let Reading::Events { mut incoming, .. } = reading else {
            return;
        };
        if incoming.is_end_stream() {
            return;
        }
        self.shared.state.tasks.spawn(async move {
            let ending = async { while let Some(Ok(_)) = incoming.frame().await {} };
            // One that does not end is closed.
            let _late = timeout(Duration::from_secs(1), ending).await;
        });
    }

    /// Whether the server refused because it no longer knows the session. By the book that is
    /// 404, but many servers, the examples of the TypeScript SDK among them, answer 400.
    async fn check_session(&mut self) -> Result<(), SendError> {
        let has_status = matches!(self.status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST);
        if !has_status || self.shared.session().is_none() {
            return Ok(());
        }
        let Reading::Refusal { incoming, body } = &mut self.reading else {
            return Ok(());
        };
        let reading = collect(incoming, body, ERROR_BODY_BYTES_MAX);
        // Should the body break off, the status is what there is.
        let _partial = timeout(self.shared.state.call_timeout, reading).await;
        let body = body.split().freeze();
        if self.status == StatusCode::NOT_FOUND || names_session(&body) {
            self.reading = Reading::Done;
            return Err(self.shared.lost());
        }
        self.reading = Reading::Refused { body };
        Ok(())
    }
}

/// Whether an error says, in the words of the SDKs, that a session is not known.
fn names_session(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: Fault,
    }
    #[derive(serde::Deserialize)]
    struct Fault {
        code: i64,
        message: String,
    }
    serde_json::from_slice::<Refusal>(body).is_ok_and(|it| {
        matches!(it.error.code, -32_000 | -32_001)
            && it.error.message.to_ascii_lowercase().contains("session")
    })
}

fn masked_text(echo: &Echo, text: String) -> String {
    let masked = echo.mask_text(text.as_bytes());
    masked.map_or(text, |it| String::from_utf8_lossy(&it).into_owned())
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let is_open = match self.reading {
            Reading::Awaited | Reading::Whole { .. } | Reading::Events { .. } => true,
            Reading::Refusal { .. }
            | Reading::Refused { .. }
            | Reading::Nothing
            | Reading::Done => false,
        };
        // A modern server takes the closed stream for a cancellation; a legacy one must be told.
        let is_legacy = self.shared.state.negotiated.get().is_some();
        let (true, true, true, Some(id)) = (is_open, is_legacy, self.is_cancellable, &self.id)
        else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let body = Passing::cancelled(id).into_bytes();
        let shared = Arc::clone(&self.shared);
        let telling = async move {
            let _unheard = shared.post(body, HeaderMap::new(), CLEAN_UP_TIMEOUT).await;
        };
        self.shared.state.tasks.spawn_on(telling, &runtime);
    }
}

/// Reads on into `body`; whether there is more than `limit`. Dropped and called again, it goes on.
async fn collect(
    incoming: &mut Incoming,
    body: &mut BytesMut,
    limit: usize,
) -> Result<bool, ExchangeError> {
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Some(data) = frame.data_ref() {
            let room = limit - body.len();
            body.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
            if data.len() > room {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn broken(error: &hyper::Error) -> ExchangeError {
    ExchangeError::Gone(Cause::Broken { what: chain(error) })
}

/// What an event says; none if it is not for us.
fn read_event(
    event: Event,
    id: Option<&str>,
    status: StatusCode,
) -> Result<Option<Message>, ExchangeError> {
    let Event {
        name,
        data,
        id: event_id,
        retry_ms: retry,
    } = event;
    let data = data.unwrap_or_default();
    if name.is_some_and(|name| name != "message") {
        return Ok(None);
    }
    let mut message = if data.is_empty() {
        let kind = MessageKind::Empty;
        Message {
            json: data,
            event_id: None,
            retry: None,
            kind,
            http_status: None,
        }
    } else {
        let malformed = ExchangeError::Malformed {
            what: "an event that is no message",
        };
        let frame = Frame::read(&data).ok_or(malformed)?;
        let is_other = frame.id.as_deref() != id && frame.id.is_some();
        if frame.kind == MessageKind::Response && id.is_some() && is_other {
            debug!("Ignored the response to another request");
            return Ok(None);
        }
        frame.message(data)
    };
    message.event_id = event_id;
    message.retry = retry;
    message.http_status = Some(status);
    Ok(Some(message))
}
