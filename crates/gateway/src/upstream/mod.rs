//! The clients that talk to MCP servers: children on stdio, and streamable HTTP, of both eras.
//!
//! An [`Upstream`] is one configured server. A [`Link`] is one conversation with it, for one owner
//! (an instance, or a legacy session): a child process, or an HTTP session. An [`Exchange`] is one
//! request on a link and all that belongs to it: progress, requests of the server, the response.
//!
//! What is sent is an [`Outgoing`] or a [`Passing`], which only `outgoing` makes. Of what comes back
//! this module reads only what says where it goes (its id, its method, its progress token).
//!
//! What holds here:
//!
//! * Each upstream has connections, children, retries and deadlines of its own; nothing that one
//!   of them does makes another wait or fail.
//! * A caller always learns whether the upstream *may* have acted: [`SendError::NotSent`] is only
//!   said where it cannot have.
//! * What an upstream is reached with is leased from its account for each request, and for each child,
//!   right before it is sent or started; without it nothing is. What comes back of it is masked here,
//!   before anybody else sees the message.
//! * No header of the agent's own HTTP request goes on: those that are sent are written here, from
//!   what was decided on. So its token stays here.
//! * When a link is closed or dropped, everything on it ends.

mod backoff;
mod era;
mod frame;
mod http;
pub mod keep;
mod pool;
pub mod sandbox;
mod stdio;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::http::{HeaderValue, StatusCode, Uri};
use broker::{Account, Fingerprint};
use bytes::Bytes;
use mcp::ProtocolVersion;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vocab::UpstreamName;

pub use crate::outgoing::{Outgoing, Passing};
pub use era::{AskError, ListError, Probed};
#[doc(hidden)]
pub use frame::routed;
pub use keep::Keeper;
pub use pool::{Opening, Upstream};
pub use sandbox::SandboxMode;

/// Most children of one upstream that run at once.
pub const CHILDREN_MAX: usize = 256;
/// An exchange may last this many times the call timeout, however much progress it reports.
pub const CALL_TIMEOUTS_MAX: u32 = 10;
/// Longest message that belongs to no exchange, in bytes; longer ones are dropped.
pub const UNSOLICITED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Messages that belong to no exchange and wait to be taken; older ones are dropped.
pub const UNSOLICITED_QUEUE_MAX: usize = 64;

/// One configured server.
#[derive(Debug)]
pub struct UpstreamConfig {
    /// Its name.
    pub name: UpstreamName,
    /// How it is reached.
    pub transport: Transport,
    /// What it is reached with.
    pub account: Arc<Account>,
    /// Whether all owners share one link (and so one child).
    pub shared: bool,
    /// Longest wait for the next message of an exchange, and for sending one.
    pub call_timeout: Duration,
    /// Longest wait for a handshake, starting the child included.
    pub start_timeout: Duration,
    /// The node's data folder: a confined child cannot reach into it.
    pub data_dir: PathBuf,
    /// The node's keys: likewise.
    pub keys_dir: PathBuf,
    /// What else a confined child cannot reach into, as far as it is there: keys of agents,
    /// and files that secrets lie in.
    pub secrets: Vec<PathBuf>,
    /// What a confined child may read and not change: configuration and policies.
    pub read_only: Vec<PathBuf>,
    /// Whether children are confined.
    pub sandbox: SandboxMode,
    /// What sees to it that nothing of a child is left behind, and confines it. Without one a
    /// child is not confined, and what leaves its process group is not ended with it.
    pub keeper: Option<Keeper>,
}

impl UpstreamConfig {
    /// The default of `call_timeout`.
    pub const CALL_TIMEOUT: Duration = Duration::from_mins(1);
    /// The default of `start_timeout`.
    pub const START_TIMEOUT: Duration = Duration::from_secs(30);
}

/// How a server is reached.
#[derive(Debug)]
pub enum Transport {
    /// A child process that speaks on its stdin and stdout.
    Stdio {
        /// Program and arguments.
        command: Vec<String>,
        /// Its working folder; ours if none.
        cwd: Option<PathBuf>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: Uri,
    },
    /// Not by this node: a service that does what it lets through itself, and asks here first.
    Elsewhere {
        /// The file that declares what can be done there, in the form of `tools/list`.
        actions: PathBuf,
    },
    /// Not at all: it cannot be used as it is configured.
    Unusable {
        /// What is wrong.
        why: String,
    },
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// The answer to the exchange's request.
    Response,
    /// A request of the server (legacy era only).
    Request,
    /// A notification.
    Notification,
    /// Nothing but an event's id or retry time, which a legacy server sends so that its client
    /// can come back. `json` is empty.
    Empty,
}

/// A message from an upstream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its text, as it came.
    pub json: Bytes,
    /// The event's id, over SSE.
    pub event_id: Option<String>,
    /// The event's retry time in milliseconds, over SSE.
    pub retry: Option<u64>,
    /// What it is.
    pub kind: MessageKind,
    /// The status that it came with, over HTTP.
    pub http_status: Option<StatusCode>,
}

/// Why something could not be sent, or what ended it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Cause {
    /// The link was closed on this side.
    #[error("the link is closed")]
    Closed,
    /// The child is gone.
    #[error("the upstream's process ended: {how}")]
    ChildGone {
        /// `exit status 1`, for example.
        how: String,
    },
    /// The child wrote a line that is longer than is read.
    #[error("the child wrote a line of more than {limit} bytes")]
    LineTooLong {
        /// The limit.
        limit: usize,
    },
    /// A request with this id is under way.
    #[error("id is in use on this link")]
    DuplicateId,
    /// The upstream has forgotten the session; a new link starts another.
    #[error("the upstream no longer knows the session")]
    SessionGone,
    /// No connection could be made.
    #[error("no connection: {what}")]
    NoConnection {
        /// The reason.
        what: String,
    },
    /// It took too long.
    #[error("not within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The upstream refused a notification.
    #[error("the upstream answered with status {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// The connection, or the pipe, broke.
    #[error("broken: {what}")]
    Broken {
        /// How.
        what: String,
    },
    /// The transport has no such thing.
    #[error("not over this transport")]
    Unsupported,
    /// What the upstream is reached with cannot be had.
    #[error("no credential: {what}")]
    NoCredential {
        /// Which, and why.
        what: String,
    },
}

/// Why a message may not have arrived.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The upstream has not acted on it: it was not sent, or was refused for its session.
    #[error("not sent")]
    NotSent(#[source] Cause),
    /// The upstream may have received it.
    #[error("sent, perhaps; result unknown")]
    Unknown(#[source] Cause),
}

/// Why an exchange ended without its response. The request *was* sent.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExchangeError {
    /// The upstream answered with an HTTP error.
    #[error("the upstream answered with status {status}")]
    Http {
        /// The status.
        status: StatusCode,
        /// The body, a JSON-RPC error by the book; the first 64 KiB of it.
        body: Bytes,
    },
    /// A message is longer than is read.
    #[error("the answer has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The answer is not what the protocol asks for.
    #[error("malformed answer: {what}")]
    Malformed {
        /// In what way.
        what: &'static str,
    },
    /// No message came in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// The stream ended without the response. A legacy client may ask for the rest with
    /// [`Link::open_stream`], if events had ids.
    #[error("the stream ended without the response")]
    Ended,
    /// The link is gone, for this reason.
    #[error(transparent)]
    Gone(Cause),
}

/// Why no link could be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error("unusable configuration: {what}")]
    Unusable {
        /// What is wrong with it.
        what: String,
    },
    /// The child did not start.
    #[error("could not start `{program}`: {what}")]
    Spawn {
        /// The program.
        program: String,
        /// The reason.
        what: String,
    },
    /// Confinement is required and cannot be had.
    #[error("children must be confined, and {what}")]
    Unconfined {
        /// Why not.
        what: String,
    },
    /// What the child is to be started with cannot be had.
    #[error("no credential: {what}")]
    NoCredential {
        /// Which, and why.
        what: String,
    },
    /// It failed before and is not tried again yet.
    #[error("failed {failures} times in a row ({why}); tried again in {retry_in:?}")]
    BackingOff {
        /// Why, the last time.
        why: String,
        /// How often.
        failures: u32,
        /// When.
        retry_in: Duration,
    },
    /// As many children as may be are running.
    #[error("{limit} children are running, the most allowed")]
    TooManyChildren {
        /// The limit.
        limit: usize,
    },
    /// The handshake failed.
    #[error("handshake failed")]
    Handshake(#[source] AskError),
    /// The child ended before the handshake was over.
    #[error("the upstream's process ended: {how}")]
    ChildGone {
        /// `exit status 1`, for example.
        how: String,
    },
    /// Another opening for the same owner took too long.
    #[error("still opening after {after:?}")]
    Busy {
        /// How long was waited.
        after: Duration,
    },
    /// The owner, or the upstream, was closed meanwhile.
    #[error("closed meanwhile")]
    Closed,
}

impl OpenError {
    /// A handshake that failed, or was cut short by the child's end.
    fn handshake(error: AskError) -> Self {
        let (AskError::Send {
            source: SendError::NotSent(cause) | SendError::Unknown(cause),
            ..
        }
        | AskError::Exchange {
            source: ExchangeError::Gone(cause),
            ..
        }) = &error
        else {
            return Self::Handshake(error);
        };
        match cause {
            Cause::ChildGone { how } => Self::ChildGone { how: how.clone() },
            _ => Self::Handshake(error),
        }
    }
}

/// What `initialize` led to, on a link of the legacy era.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// The version the server chose.
    pub version: ProtocolVersion,
    /// Its result, as it came.
    pub result: Bytes,
}

/// What a link and its exchanges share.
#[derive(Debug)]
struct State {
    closed: CancellationToken,
    negotiated: OnceLock<Negotiated>,
    tasks: TaskTracker,
    call_timeout: Duration,
    opened: Instant,
}

/// One conversation with an upstream. Dropping it ends it.
pub struct Link {
    state: Arc<State>,
    wire: Wire,
    /// The environment that its child was started with.
    environment: Option<Fingerprint>,
}

enum Wire {
    Stdio(stdio::Pipe),
    Http(http::Conversation),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = match &self.wire {
            Wire::Stdio(_) => "stdio",
            Wire::Http(_) => "http",
        };
        f.debug_struct("Link")
            .field("wire", &wire)
            .finish_non_exhaustive()
    }
}

impl Link {
    /// Sends a request. Returns once it is written (stdio) or its answer begins (HTTP).
    pub async fn request(&self, outgoing: Outgoing) -> Result<Exchange, SendError> {
        self.request_within(outgoing, self.state.call_timeout).await
    }

    async fn request_within(
        &self,
        outgoing: Outgoing,
        after: Duration,
    ) -> Result<Exchange, SendError> {
        if self.state.closed.is_cancelled() {
            return Err(SendError::NotSent(Cause::Closed));
        }
        let method = Method::of(outgoing.method());
        let wire = match &self.wire {
            Wire::Stdio(pipe) => WireExchange::Stdio(pipe.request(outgoing, method, after).await?),
            Wire::Http(http) => {
                WireExchange::Http(Box::new(http.request(outgoing, method, after).await?))
            }
        };
        let patience = match method {
            Method::Listen => None,
            Method::Initialize | Method::Other => Some(Patience::new(after)),
        };
        Ok(Exchange {
            wire,
            state: Arc::clone(&self.state),
            method,
            patience,
            done: false,
        })
    }

    /// Sends what asks nothing: a notification, or the response to a request of the server.
    pub async fn pass(&self, passing: Passing) -> Result<(), SendError> {
        if self.state.closed.is_cancelled() {
            return Err(SendError::NotSent(Cause::Closed));
        }
        match &self.wire {
            Wire::Stdio(pipe) => pipe.pass(passing, self.state.call_timeout).await,
            Wire::Http(http) => http.pass(passing).await,
        }
    }

    /// Answers a request of the server that nobody can be asked; anything else is left alone.
    pub async fn refuse(&self, message: Message) {
        if message.kind != MessageKind::Request {
            return;
        }
        if let Ok(mcp::Frame::Request(request)) = mcp::Frame::parse(message.json) {
            let text = "no client can be asked now";
            let code = mcp::error::code::INTERNAL;
            // A server that is gone waits no more.
            let _gone = self
                .pass(Passing::refusal(&request.id(), code, text, None))
                .await;
        }
    }

    /// What belongs to no exchange, over stdio: everything but responses and progress. Over HTTP
    /// nothing ever comes here; ask with [`Link::open_stream`].
    pub fn unsolicited(&self) -> broadcast::Receiver<Message> {
        match &self.wire {
            Wire::Stdio(pipe) => pipe.unsolicited(),
            Wire::Http(_) => broadcast::channel(1).1,
        }
    }

    /// Opens the stream of what belongs to no exchange, or the rest of one after an event (HTTP,
    /// legacy era). It has no response and no deadline.
    pub async fn open_stream(&self, last_event_id: Option<String>) -> Result<Exchange, SendError> {
        match &self.wire {
            Wire::Stdio(_) => Err(SendError::NotSent(Cause::Unsupported)),
            Wire::Http(http) => Ok(Exchange {
                wire: WireExchange::Http(Box::new(http.open_stream(last_event_id).await?)),
                state: Arc::clone(&self.state),
                method: Method::Other,
                patience: None,
                done: false,
            }),
        }
    }

    /// What `initialize` led to, if it was sent on this link.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.state.negotiated.get()
    }

    /// The session's id (HTTP, legacy era).
    pub fn session_id(&self) -> Option<HeaderValue> {
        match &self.wire {
            Wire::Stdio(_) => None,
            Wire::Http(http) => http.session_id(),
        }
    }

    /// Whether a request has a chance.
    pub fn is_alive(&self) -> bool {
        !self.state.closed.is_cancelled()
            && match &self.wire {
                Wire::Stdio(pipe) => pipe.is_alive(),
                Wire::Http(http) => http.is_alive(),
            }
    }

    /// Whether its child was started with this environment; true if it has no child.
    fn has_environment(&self, wanted: Option<&Fingerprint>) -> bool {
        self.environment.as_ref() == wanted
    }

    /// Whether it ended because the upstream's child did.
    fn has_crashed(&self) -> bool {
        match &self.wire {
            Wire::Stdio(pipe) => !pipe.is_alive() && !self.state.closed.is_cancelled(),
            Wire::Http(_) => false,
        }
    }

    /// Ends it, and every exchange on it. A child gets its stdin closed, then SIGTERM, then
    /// SIGKILL; an HTTP session is deleted.
    pub fn close(&self) {
        self.state.closed.cancel();
        match &self.wire {
            Wire::Stdio(_) => {}
            Wire::Http(http) => http.delete_session(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

/// What matters here of a request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// Never cancelled, and its result says how the link goes on.
    Initialize,
    /// Lasts as long as its owner wants.
    Listen,
    Other,
}

impl Method {
    const fn of(method: &mcp::Method) -> Self {
        match method {
            mcp::Method::Initialize => Self::Initialize,
            mcp::Method::Listen => Self::Listen,
            _ => Self::Other,
        }
    }
}

/// How long is waited.
#[derive(Debug)]
struct Patience {
    each: Duration,
    next: Instant,
    last: Instant,
}

impl Patience {
    fn new(each: Duration) -> Self {
        let now = Instant::now();
        Self {
            each,
            next: now + each,
            last: now + each * CALL_TIMEOUTS_MAX,
        }
    }

    fn heard(&mut self) {
        self.next = Instant::now() + self.each;
    }
}

/// A request on its way: what comes back until, and with, its response.
///
/// Dropped before the response, it cancels: a child, and a legacy HTTP server, is sent
/// `notifications/cancelled`; an HTTP stream is closed.
pub struct Exchange {
    wire: WireExchange,
    state: Arc<State>,
    method: Method,
    patience: Option<Patience>,
    done: bool,
}

enum WireExchange {
    Stdio(stdio::Exchange),
    Http(Box<http::Exchange>),
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("done", &self.done)
            .finish_non_exhaustive()
    }
}

impl Exchange {
    /// The next message. After the response, and after an error, there is none. May be dropped
    /// and called again without losing anything.
    pub async fn next(&mut self) -> Option<Result<Message, ExchangeError>> {
        if self.done {
            return None;
        }
        let closed = self.state.closed.clone();
        let deadline = self.patience.as_ref().map(|it| it.next.min(it.last));
        let step = async {
            match &mut self.wire {
                WireExchange::Stdio(exchange) => exchange.next().await.map(Some),
                WireExchange::Http(exchange) => exchange.next().await,
            }
        };
        let step = async {
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, step).await.ok(),
                None => Some(step.await),
            }
        };
        let step = tokio::select! {
            // What has arrived is delivered, also by a link that is being closed.
            biased;
            step = step => step,
            () = closed.cancelled() => Some(Err(ExchangeError::Gone(Cause::Closed))),
        };
        let after = self.patience.as_ref().map_or(Duration::ZERO, |it| it.each);
        let step = step.unwrap_or(Err(ExchangeError::Timeout { after }));
        match &step {
            Ok(Some(message)) if message.kind == MessageKind::Response => {
                self.done = self.wire.is_done();
                if self.method == Method::Initialize {
                    self.state.initialized(&message.json);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.done = true,
        }
        if let Some(patience) = &mut self.patience {
            patience.heard();
        }
        step.transpose()
    }

    /// Waits for the response, and passes over all that comes before.
    pub async fn response(&mut self) -> Result<Message, ExchangeError> {
        while let Some(message) = self.next().await {
            let message = message?;
            if message.kind == MessageKind::Response {
                return Ok(message);
            }
        }
        Err(ExchangeError::Ended)
    }
}

impl WireExchange {
    const fn is_done(&self) -> bool {
        match self {
            Self::Stdio(_) => true,
            Self::Http(exchange) => exchange.is_done(),
        }
    }
}

impl State {
    /// Notes what a server answered to `initialize`. An error, or a version that we do not know,
    /// is the caller's to handle: it has the answer.
    fn initialized(&self, response: &[u8]) {
        #[derive(Deserialize)]
        struct Response<'a> {
            #[serde(borrow)]
            result: Option<&'a serde_json::value::RawValue>,
        }
        #[derive(Deserialize)]
        struct Initialized {
            #[serde(rename = "protocolVersion")]
            version: String,
        }
        let result = serde_json::from_slice::<Response<'_>>(response)
            .ok()
            .and_then(|it| it.result);
        let Some(result) = result else { return };
        let version = serde_json::from_str::<Initialized>(result.get()).ok();
        if let Some(version) = version.and_then(|it| it.version.parse().ok()) {
            let result = Bytes::copy_from_slice(result.get().as_bytes());
            // Only the first counts: a second `initialize` on a link is refused by servers.
            self.negotiated
                .get_or_init(|| Negotiated { version, result });
        }
    }
}

/// What an error, and all that caused it, says.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
