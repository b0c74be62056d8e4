//! `tipstaff connect`: MCP on stdio for a client, carried to the gateway.
//!
//! Each start has a DPoP key of its own, in memory only, and so is an instance of its own, which
//! ends with its client. An instance that somebody else ended does not go on as another: whatever
//! waits is told so, and the bridge ends. Every
//! message goes to the gateway as it stands. The bridge adds what HTTP needs and stdio has not:
//! the proof of who asks, the headers of either era, and in the legacy era a session.
//!
//! | module | is |
//! |---|---|
//! | `gateway` | requests that prove who sends them; tokens renewed |
//! | `lines` | messages on stdin and stdout |
//! | `legacy` | sessions: opened, opened again, listened to, closed |
//! | `request` | one request, from the client's line to its answer |
//! | `standing` | told at once when the instance may act no more |

mod gateway;
mod legacy;
mod lines;
mod request;
mod standing;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use mcp::headers::{self, ParamHeaders};
use mcp::{Era, Frame, Method, Notification, ProtocolVersion, Raw, Request, error};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vocab::limits::BODY_BYTES_MAX;
use vocab::rng::RngError;
use vocab::{Clock, Rng, ToolName};

use crate::token::{AskError, Asker};
use gateway::{ENDED, Gateway};
use legacy::Session;
use lines::Line;

/// How long requests in flight get when the client closes its side.
const END_GRACE: Duration = Duration::from_secs(30);
/// How long a session gets to be closed, and the last lines to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a client without an instance gets to ask something, so that it can be told why.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the gateway gets to take a notification.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(30);
/// Messages that may wait on their way in or out.
const WAITING_MAX: usize = 64;

/// Why the bridge could not begin, or ended otherwise than by its client.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No token.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
    /// Somebody ended the instance.
    #[error("{ENDED}")]
    Ended,
    /// No client for HTTP.
    #[error("{0}")]
    Http(String),
    /// stdin or signals.
    #[error("standard input cannot be read: {0}")]
    Input(#[from] io::Error),
}

/// Carries messages between the client on stdio and the gateway until either ends.
pub async fn run(
    asker: Asker,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
) -> Result<(), ConnectError> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signalled.cancel();
    });
    bridge(
        asker,
        clock,
        rng,
        tokio::io::stdin(),
        tokio::io::stdout(),
        stop,
    )
    .await
}

/// The bridge itself, on any pair of streams.
async fn bridge<R, W>(
    asker: Asker,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    input: R,
    output: W,
    stop: CancellationToken,
) -> Result<(), ConnectError>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let gateway = Gateway::new(asker, clock, rng)?;
    let mut input = BufReader::new(input);
    let (out, lines) = mpsc::channel(WAITING_MAX);
    let writer = tokio::spawn(lines::write(output, lines, stop.clone()));
    // Before anything else, so that a wrong key is told at once and not with the first call.
    let instance = match gateway.begin().await {
        Ok(instance) => instance,
        Err(error) => {
            let told = tell_first(&mut input, &out, &error);
            let _late = tokio::time::timeout(TELL_TIMEOUT, stop.run_until_cancelled(told)).await;
            drop(out);
            let _late = tokio::time::timeout(CLOSE_TIMEOUT, writer).await;
            return Err(error);
        }
    };
    tracing::info!(instance.id = %instance, "Instance {instance} speaks for this client");
    let (notices, waiting) = mpsc::channel(WAITING_MAX);
    let bridge = Arc::new(Bridge {
        gateway,
        out,
        session: Mutex::default(),
        reopening: tokio::sync::Mutex::default(),
        flights: Mutex::default(),
        tools: Mutex::default(),
        told_ended: CancellationToken::new(),
        tasks: TaskTracker::new(),
        stop,
    });
    let notifier = tokio::spawn(Arc::clone(&bridge).notify_all(waiting));
    let (hearing, stop) = (Arc::clone(&bridge), bridge.stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(hearing.hear_of_cuts()).await });
    let ended = bridge.gateway.ended.clone();
    let read = ended
        .run_until_cancelled(bridge.read(&mut input, &notices))
        .await
        .unwrap_or(Ok(()));
    drop(notices);
    if ended.is_cancelled() {
        // Unless a request that waited was answered with it.
        let told = tell_first(&mut input, &bridge.out, &ConnectError::Ended);
        let told = bridge.told_ended.run_until_cancelled(told);
        let told = bridge.stop.run_until_cancelled(told);
        let _late = tokio::time::timeout(TELL_TIMEOUT, told).await;
    }
    bridge.end().await;
    let _late = tokio::time::timeout(CLOSE_TIMEOUT, notifier).await;
    bridge.close_session().await;
    let _late = tokio::time::timeout(CLOSE_TIMEOUT, bridge.gateway.finish()).await;
    // The last sender goes with the bridge; then the writer writes what waits, and ends.
    drop(bridge);
    let _late = tokio::time::timeout(CLOSE_TIMEOUT, writer).await;
    if ended.is_cancelled() {
        return Err(ConnectError::Ended);
    }
    Ok(read?)
}

/// Answers the client's first request with why there is no instance: a client that only sees its
/// server go away cannot tell its user.
async fn tell_first<R: AsyncRead + Unpin>(
    input: &mut BufReader<R>,
    out: &mpsc::Sender<Bytes>,
    why: &ConnectError,
) {
    while let Ok(Line::Message(bytes)) = lines::next(input, BODY_BYTES_MAX).await {
        if let Ok(Frame::Request(request)) = Frame::parse(bytes) {
            let text = format!("Tipstaff: {why}.");
            let (id, code) = (request.id(), error::code::INTERNAL);
            let told = error::failure(Some(&id), era(&request), code, &text, None);
            let _client_gone = out.send(told).await;
            return;
        }
    }
}

/// What all of a bridge's tasks share.
struct Bridge {
    gateway: Gateway,
    /// Messages for the client.
    out: mpsc::Sender<Bytes>,
    session: Mutex<Option<Arc<Session>>>,
    /// One opens a lost session again, the others wait for it.
    reopening: tokio::sync::Mutex<()>,
    /// Requests without an answer yet, by the text of their id.
    flights: Mutex<HashMap<String, Flight>>,
    /// What of a tool's arguments headers mirror, as far as a listing passed by.
    tools: Mutex<HashMap<ToolName, ParamHeaders>>,
    /// Cancelled when a request was answered with that the instance is ended.
    told_ended: CancellationToken,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A request without an answer yet.
struct Flight {
    era: Era,
    cancel: CancellationToken,
    /// It may go on for ever.
    is_endless: bool,
}

/// The era of a request, by how it opens.
fn era(request: &Request) -> Era {
    if request.protocol_version().is_some() {
        Era::Modern
    } else {
        Era::Legacy
    }
}

impl Bridge {
    /// Takes the client's messages, in their order, until it closes its side.
    async fn read<R: AsyncRead + Unpin>(
        self: &Arc<Self>,
        input: &mut BufReader<R>,
        notices: &mpsc::Sender<Frame>,
    ) -> io::Result<()> {
        while let Some(line) = self
            .stop
            .run_until_cancelled(lines::next(input, BODY_BYTES_MAX))
            .await
        {
            match line? {
                Line::End => return Ok(()),
                Line::TooLong => {
                    let text = format!("a message of more than {BODY_BYTES_MAX} bytes");
                    self.tell_error(None, error::code::INVALID_REQUEST, &text)
                        .await;
                }
                Line::Message(bytes) => match Frame::parse(bytes.clone()) {
                    Err(error) => self.refuse(&bytes, &error).await,
                    Ok(frame) => {
                        let taken = self.take(frame, notices);
                        let _stopped = self.stop.run_until_cancelled(taken).await;
                    }
                },
            }
        }
        Ok(())
    }

    async fn take(self: &Arc<Self>, frame: Frame, notices: &mpsc::Sender<Frame>) {
        match frame {
            Frame::Request(request) => match (era(&request), request.method()) {
                // In its turn: what follows belongs to the session that it opens.
                (Era::Legacy, Method::Initialize) => self.initialize(&request).await,
                (Era::Legacy, Method::Ping) if self.session().is_none() => {
                    let empty = Raw::of(&serde_json::json!({})).unwrap_or(Raw::NULL);
                    self.tell(error::success(&request.id(), &empty)).await;
                }
                (era, _) => self.start(request, era),
            },
            Frame::Notification(notification) => {
                if *notification.method() == Method::Cancelled && self.cancel(&notification) {
                    return;
                }
                if *notification.method() == Method::Initialized {
                    self.initialized(&notification).await;
                } else {
                    let _ended = notices.send(Frame::Notification(notification)).await;
                }
            }
            response @ Frame::Response(_) => {
                let _ended = notices.send(response).await;
            }
        }
    }

    /// Starts carrying a request; others follow before its answer is there.
    fn start(self: &Arc<Self>, request: Request, era: Era) {
        let cancel = self.stop.child_token();
        let id = request.id_text().to_owned();
        let is_endless = *request.method() == Method::Listen;
        let flight = Flight {
            era,
            cancel: cancel.clone(),
            is_endless,
        };
        self.flights().insert(id.clone(), flight);
        let bridge = Arc::clone(self);
        self.tasks.spawn(async move {
            // Dropping it closes its stream, which is how the modern era cancels.
            let _cancelled = cancel
                .run_until_cancelled(bridge.carry(&request, era))
                .await;
            bridge.flights().remove(&id);
        });
    }

    /// Cancels a modern request by closing its stream. False if it is for the gateway to do.
    fn cancel(&self, notification: &Notification) -> bool {
        let Some(id) = notification.param("requestId") else {
            return false;
        };
        match self.flights().get(id.text()) {
            Some(flight) if flight.era == Era::Modern => {
                flight.cancel.cancel();
                true
            }
            Some(_) | None => false,
        }
    }

    /// Sends notifications and the client's answers, in their order.
    async fn notify_all(self: Arc<Self>, mut waiting: mpsc::Receiver<Frame>) {
        while let Some(frame) = waiting.recv().await {
            let session = self.session();
            let mut headers = match &session {
                Some(session) => session.headers(),
                None => headers::standard(ProtocolVersion::LATEST),
            };
            if let (None, Frame::Notification(it)) = (&session, &frame)
                && let Ok(method) = HeaderValue::from_str(it.method().as_str())
            {
                headers.insert(headers::METHOD, method);
            }
            let sent = self.gateway.post(frame.bytes().clone(), headers);
            match tokio::time::timeout(NOTICE_TIMEOUT, sent).await {
                Ok(Ok(answer)) if answer.status().is_success() => {}
                Ok(Ok(answer)) => {
                    tracing::warn!(
                        "The gateway did not take a notification: {}",
                        answer.status()
                    );
                }
                Ok(Err(trouble)) => tracing::warn!("A notification was not sent: {trouble}"),
                Err(_) => tracing::warn!("The gateway did not take a notification in time"),
            }
        }
    }

    /// Says that a line is not a message, with its id if that much can be read.
    async fn refuse(&self, line: &[u8], error: &mcp::FrameError) {
        #[derive(serde::Deserialize)]
        struct Named {
            id: serde_json::Value,
        }
        let named = serde_json::from_slice::<Named>(line).ok();
        let id = named
            .filter(|it| it.id.is_string() || it.id.is_i64())
            .map(|it| Raw::from(it.id));
        let reply = mcp::ProtocolError::Frame(error.clone()).reply(Era::Legacy);
        self.tell(reply.body(id.as_ref())).await;
    }

    async fn tell_error(&self, id: Option<&Raw<'_>>, code: i64, text: &str) {
        self.tell(error::failure(id, Era::Legacy, code, text, None))
            .await;
    }

    /// Hands the client a message.
    async fn tell(&self, message: Bytes) {
        let _client_gone = self.out.send(message).await;
    }

    /// Lets what is in flight come to its end, if it may have one.
    async fn end(&self) {
        for flight in self.flights().values().filter(|flight| flight.is_endless) {
            flight.cancel.cancel();
        }
        self.tasks.close();
        let ended = tokio::time::timeout(END_GRACE, self.tasks.wait());
        if !matches!(self.stop.run_until_cancelled(ended).await, Some(Ok(()))) {
            self.stop.cancel();
            let _late = tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
        }
        self.stop.cancel();
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_session(&self, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        let mut place = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, session)
    }

    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<String, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
