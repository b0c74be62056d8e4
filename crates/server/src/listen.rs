//! The HTTP listener: connections are few and slow ones short-lived, and when there is no place
//! left, whoever asked nothing for longest makes room. So a stranger who opens sockets and says
//! nothing cannot stop the node.
//!
//! Who says that somebody has left is heard beside the threads that calls run on, so that the word
//! does not wait until those of a busy node have all had their turn.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a connection may take to send a request's headers, idle time before included.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long no connection is taken after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most connections at once, where the system allows so many files.
const CONNECTIONS_MAX: u64 = 16_384;
/// Fewest.
const CONNECTIONS_MIN: u64 = 16;
/// Connections beyond the most, for those alone that begin with what a directory says.
const RESERVED: usize = 32;

/// What follows the method in requests that say who has left.
const SIGNALS: [&[u8]; 2] = [b" /scim/", b" /ssf/"];
/// Enough of a request to know such a one by.
const HEAD_BYTES: usize = 16;

/// Serves HTTP/1.1 until stopped, and then lets each connection end its request.
pub(crate) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let ended = stop.clone();
    let connection = move |stream, place| connection(stream, place, app.clone(), ended.clone());
    take(
        listener,
        stop,
        Places::new(connections_max(), 0),
        connection,
    )
    .await;
}

/// Like [`serve`], on a thread of its own: connections that begin with what a directory says stay
/// on it, all else is answered by `calls`.
pub(crate) async fn serve_apart(
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
    calls: Handle,
) {
    let ended = stop.clone();
    let connection = move |stream, place| {
        let answers = Apart {
            app: app.clone(),
            calls: calls.clone(),
            stop: ended.clone(),
        };
        answers.connection(stream, place)
    };
    let places = Places::new(connections_max(), RESERVED);
    take(listener, stop, places, connection).await;
}

/// What answers the connections of a listener that has a thread of its own.
#[derive(Debug, Clone)]
struct Apart {
    app: Router,
    calls: Handle,
    stop: CancellationToken,
}

impl Apart {
    async fn connection(self, stream: TcpStream, place: Place) {
        let mut head = [0; HEAD_BYTES];
        let read = tokio::select! {
            read = timeout(HEADERS_TIMEOUT, stream.peek(&mut head)) => read,
            () = place.made_room() => return,
            () = self.stop.cancelled() => return,
        };
        let Ok(Ok(length)) = read else { return };
        if is_signal(head.get(..length).unwrap_or_default()) {
            let Self { app, calls, stop } = self;
            let app = Router::new().fallback(move |request: hyper::Request<Body>| {
                answered(request, app.clone(), calls.clone())
            });
            return Box::pin(connection(stream, place, app, stop)).await;
        }
        if place.is_reserved {
            return;
        }
        // It goes on with the threads that calls run on; this waits, as a stop waits for all.
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let Self { app, calls, stop } = self;
        let moved = calls.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => connection(stream, place, app, stop).await,
                Err(error) => tracing::warn!(error = %error, "A connection could not be taken"),
            }
        });
        let _ended = moved.await;
    }
}

/// Whether a request that begins like this says who has left. One that comes in smaller pieces is
/// answered like all others.
fn is_signal(head: &[u8]) -> bool {
    let method = head.iter().take_while(|it| it.is_ascii_uppercase()).count();
    let rest = head.get(method..).unwrap_or_default();
    SIGNALS.iter().any(|signal| rest.starts_with(signal))
}

/// The answer on the thread of signals. What a directory only reads is worked on elsewhere, and what
/// is not its at all is the last that is answered on that connection.
async fn answered(request: hyper::Request<Body>, app: Router, calls: Handle) -> Response {
    let path = request.uri().path().as_bytes();
    let mine = |signal: &&[u8]| path.starts_with(signal.get(1..).unwrap_or(signal));
    let is_directory = SIGNALS.iter().any(mine);
    if is_directory && !is_read(request.method(), request.uri()) {
        let Ok(answer) = app.oneshot(request).await;
        return answer;
    }
    let mut answer = match calls.spawn(app.oneshot(request)).await {
        Ok(Ok(answer)) => answer,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    if !is_directory {
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}

/// Whether a request of a directory changes nothing, however much it asks for.
pub(crate) fn is_read(method: &Method, uri: &Uri) -> bool {
    matches!(*method, Method::GET | Method::HEAD) || uri.path().ends_with("/.search")
}

/// Like [`serve`], for what speaks otherwise. A connection says of its place when it asks something.
pub(crate) async fn serve_as<F>(
    listener: TcpListener,
    stop: CancellationToken,
    connection: impl Fn(TcpStream, Place) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    take(
        listener,
        stop,
        Places::new(connections_max(), 0),
        connection,
    )
    .await;
}

/// Takes connections until stopped, and then waits until each has ended.
async fn take<F>(
    listener: TcpListener,
    stop: CancellationToken,
    places: Places,
    connection: impl Fn(TcpStream, Place) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(places);
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let place = tokio::select! {
                    () = stop.cancelled() => break,
                    place = places.enter() => place,
                };
                tasks.spawn(connection(stream, place));
            }
            Err(error) => {
                tracing::warn!(error = %error, "A connection could not be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

async fn connection(stream: TcpStream, place: Place, app: Router, stop: CancellationToken) {
    // Answers are small and somebody waits for each.
    let _as_it_is = stream.set_nodelay(true);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let asking = place.asks().ok_or(MadeRoom);
        let app = app.clone();
        async move {
            let asking = asking?;
            let Ok(answer) = app.oneshot(request).await;
            Ok::<_, MadeRoom>(answer.map(|body| Answer {
                body,
                _asking: asking,
            }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.made_room() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "A connection broke");
    }
}

/// A request came when its connection's place was another's already.
#[derive(Debug, thiserror::Error)]
#[error("the connection made room for another")]
struct MadeRoom;

/// The places of one listener.
#[derive(Debug)]
struct Places {
    most: usize,
    /// So many more, for those who are known by what they say first.
    reserved: usize,
    held: Mutex<Held>,
    /// Told when a connection ends or falls silent.
    free: Notify,
}

#[derive(Debug, Default)]
struct Held {
    taken: usize,
    next: u64,
    /// Who could make room: those who never asked anything first, then by how long they are silent.
    silent: BTreeMap<Silent, CancellationToken>,
}

/// Whether it asked anything yet, and since when it is silent.
type Silent = (bool, u64);

impl Places {
    fn new(most: usize, reserved: usize) -> Self {
        Self {
            most,
            reserved,
            held: Mutex::default(),
            free: Notify::new(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, as soon as there is one.
    async fn enter(self: &Arc<Self>) -> Place {
        loop {
            let freed = self.free.notified();
            if let Some(place) = self.try_enter() {
                return place;
            }
            freed.await;
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Place> {
        let mut held = self.held();
        if held.taken >= self.most
            && let Some((_, silent)) = held.silent.pop_first()
        {
            silent.cancel();
            held.taken -= 1;
        }
        if held.taken >= self.most + self.reserved {
            return None;
        }
        let is_reserved = held.taken >= self.most;
        held.taken += 1;
        let end = CancellationToken::new();
        let silent = held.falls_silent(false, end.clone());
        drop(held);
        Some(Place {
            places: Arc::clone(self),
            state: Arc::new(Mutex::new(State {
                silent: Some(silent),
                asked: 0,
            })),
            end,
            is_reserved,
        })
    }
}

impl Held {
    fn falls_silent(&mut self, has_asked: bool, end: CancellationToken) -> Silent {
        let silent = (has_asked, self.next);
        self.next += 1;
        self.silent.insert(silent, end);
        silent
    }
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    state: Arc<Mutex<State>>,
    end: CancellationToken,
    /// Whether it is one of those beyond the most.
    is_reserved: bool,
}

#[derive(Debug)]
struct State {
    /// Where it stands among the silent; none while it asks.
    silent: Option<Silent>,
    /// Requests under way: of HTTP/2 there may be several.
    asked: usize,
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// Keeps the place until what is returned is dropped; none if it is another's by now.
    pub(crate) fn asks(&self) -> Option<Asking> {
        let mut held = self.places.held();
        if self.end.is_cancelled() {
            return None;
        }
        self.leave(&mut held);
        locked(&self.state).asked += 1;
        drop(held);
        Some(Asking {
            places: Arc::clone(&self.places),
            state: Arc::clone(&self.state),
            end: self.end.clone(),
        })
    }

    /// It is not silent, or not any more.
    fn leave(&self, held: &mut Held) {
        let silent = locked(&self.state).silent.take();
        if let Some(silent) = silent {
            held.silent.remove(&silent);
        }
    }

    pub(crate) async fn made_room(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        // Whoever made room was counted out when they did.
        if self.end.is_cancelled() {
            return;
        }
        // An answer that is not sent to its end frees nothing later.
        self.end.cancel();
        self.leave(&mut held);
        held.taken -= 1;
        drop(held);
        self.places.free.notify_one();
    }
}

/// A request that is under way, until the last byte of its answer.
#[derive(Debug)]
pub(crate) struct Asking {
    places: Arc<Places>,
    state: Arc<Mutex<State>>,
    end: CancellationToken,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if self.end.is_cancelled() {
            return;
        }
        let mut state = locked(&self.state);
        state.asked -= 1;
        if state.asked > 0 {
            return;
        }
        state.silent = Some(held.falls_silent(true, self.end.clone()));
        drop(state);
        drop(held);
        self.places.free.notify_one();
    }
}

/// An answer; while it is being sent its connection is not silent.
struct Answer {
    body: Body,
    _asking: Asking,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Half of the files that the process may open are for logs, upstreams and administration.
fn connections_max() -> usize {
    let most = (files_max() / 2).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    usize::try_from(most).unwrap_or(64)
}

/// How many files the process may open, after asking for as many as it may ask for.
#[cfg(unix)]
fn files_max() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let asked = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let raised = setrlimit(Resource::Nofile, asked).is_ok();
    let current = if raised { limit.maximum } else { limit.current };
    current.unwrap_or(CONNECTIONS_MAX * 2)
}

#[cfg(not(unix))]
fn files_max() -> u64 {
    CONNECTIONS_MAX
}

#[cfg(test)]
mod tests;
