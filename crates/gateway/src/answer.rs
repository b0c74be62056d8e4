//! What goes back to a client: one message, or a stream of them that ends with one.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

/// Messages that may wait for a slow client before its exchange waits too.
const WAITING_MAX: usize = 16;
/// A stream that may stay quiet for good says at least this often that it is there: a client that is
/// gone without a word is noticed by that.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// One message on its way to a client.
#[derive(Debug)]
pub(crate) struct Event {
    /// The message; empty for an event that only carries an id or a retry time.
    pub(crate) json: Bytes,
    /// The event's id, where the upstream gave one.
    pub(crate) id: Option<String>,
    /// The retry time in milliseconds, where the upstream gave one.
    pub(crate) retry: Option<u64>,
}

impl Event {
    /// A message without id or retry time.
    pub(crate) const fn of(json: Bytes) -> Self {
        Self {
            json,
            id: None,
            retry: None,
        }
    }
}

/// The last thing that goes back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Nothing for a stream that ends without its response, and for a bare status.
    pub(crate) event: Option<Event>,
}

impl Answer {
    /// A message with status 200.
    pub(crate) fn ok(json: Bytes) -> Self {
        Self::with(StatusCode::OK, json)
    }

    /// A message with a status of its own.
    pub(crate) fn with(status: StatusCode, json: Bytes) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            event: Some(Event::of(json)),
        }
    }

    /// Nothing but a status.
    pub(crate) fn bare(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            event: None,
        }
    }
}

/// Where the messages of one request go.
#[derive(Debug)]
pub(crate) struct Out {
    sender: mpsc::Sender<Part>,
}

#[derive(Debug)]
enum Part {
    Event(Event),
    Last(Answer),
}

/// The client is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientGone;

impl Out {
    /// Sends a message that is not the last. Waits for a slow client.
    pub(crate) async fn event(&self, event: Event) -> Result<(), ClientGone> {
        self.sender
            .send(Part::Event(event))
            .await
            .map_err(|_| ClientGone)
    }

    /// Sends the last.
    pub(crate) async fn last(self, answer: Answer) -> Result<(), ClientGone> {
        self.sender
            .send(Part::Last(answer))
            .await
            .map_err(|_| ClientGone)
    }

    /// Resolves when the client is gone.
    pub(crate) async fn gone(&self) {
        self.sender.closed().await;
    }

    /// A way to the same client that holds nobody up.
    pub(crate) fn side(&self) -> Side {
        Side {
            sender: self.sender.clone(),
        }
    }
}

/// A second way to the client of a request under way.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    sender: mpsc::Sender<Part>,
}

impl Side {
    /// Sends a message, unless the client is gone or slow.
    pub(crate) fn event(&self, event: Event) -> Result<(), ClientGone> {
        self.sender
            .try_send(Part::Event(event))
            .map_err(|_| ClientGone)
    }

    /// Whether the request is over.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Where the response comes from.
#[derive(Debug)]
pub(crate) struct In {
    receiver: mpsc::Receiver<Part>,
}

/// The two ends of one request's way back.
pub(crate) fn channel() -> (Out, In) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Out { sender }, In { receiver })
}

impl In {
    /// A stream of events, begun before there is any.
    pub(crate) fn into_stream(self) -> Response {
        self.into_stream_within(QUIET_MAX)
    }

    fn into_stream_within(self, quiet: Duration) -> Response {
        let parts = stream::unfold(Some(self.receiver), move |receiver| async move {
            let mut receiver = receiver?;
            let Ok(part) = tokio::time::timeout(quiet, receiver.recv()).await else {
                let there = Bytes::from_static(mcp::sse::KEEP_ALIVE);
                return Some((Ok(there), Some(receiver)));
            };
            match part? {
                Part::Event(event) => Some((written(&event), Some(receiver))),
                Part::Last(_) => None,
            }
        });
        events(Body::from_stream(parts))
    }

    /// The response: one message if the first is the last, else a stream of events.
    pub(crate) async fn into_response(mut self) -> Response {
        match self.receiver.recv().await {
            None => bare(StatusCode::INTERNAL_SERVER_ERROR),
            Some(Part::Last(answer)) => whole(answer),
            Some(Part::Event(first)) => streamed(first, self.receiver),
        }
    }
}

fn bare(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(crate) fn whole(answer: Answer) -> Response {
    let json = answer.event.map(|event| event.json).unwrap_or_default();
    let mut response = bare(answer.status);
    if !json.is_empty() {
        *response.body_mut() = Body::from(json);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response.headers_mut().extend(answer.headers);
    response
}

/// A stream that begins with `first`; its status is 200 whatever the last message says.
fn streamed(first: Event, receiver: mpsc::Receiver<Part>) -> Response {
    let parts = stream::unfold((Some(first), Some(receiver)), |(first, receiver)| async {
        if let Some(first) = first {
            return Some((written(&first), (None, receiver)));
        }
        let mut receiver = receiver?;
        match receiver.recv().await? {
            Part::Event(event) => Some((written(&event), (None, Some(receiver)))),
            Part::Last(answer) => answer.event.map(|event| (written(&event), (None, None))),
        }
    });
    events(Body::from_stream(parts))
}

/// The head of an event stream.
fn events(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a body's stream is one of results"
)]
fn written(event: &Event) -> Result<Bytes, Infallible> {
    Ok(mcp::sse::Event {
        name: None,
        data: (!event.json.is_empty() || event.id.is_some()).then(|| event.json.clone()),
        id: event.id.clone(),
        retry_ms: event.retry,
    }
    .to_bytes())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_quiet_stream_says_that_it_is_there() {
        let (out, back) = channel();
        let mut body = back
            .into_stream_within(Duration::from_millis(1))
            .into_body();
        for _ in 0..2 {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), mcp::sse::KEEP_ALIVE);
        }
        let said = Event::of(Bytes::from_static(b"{}"));
        out.event(said).await.unwrap();
        drop(out);
        let rest = body.collect().await.unwrap().to_bytes();
        let rest = std::str::from_utf8(&rest).unwrap();
        assert_eq!(rest.trim_start_matches(":\n\n"), "data: {}\n\n");
    }

    #[tokio::test]
    async fn a_stream_whose_client_is_gone_is_noticed() {
        let (out, back) = channel();
        drop(back.into_stream());
        out.gone().await;
    }
}
