//! As much of gRPC as one unary call needs: a message behind five bytes on HTTP/2, and trailers.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vocab::limits::{BODY_BYTES_MAX, BODY_SECONDS_MAX};

use crate::elsewhere::Asker;
use crate::plane::Plane;
use crate::record::Over;

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Headers and the rest of a request beside its body, in bytes.
const BESIDE_BODY_MAX: usize = 256 * 1024;
/// Requests that one connection may have open.
const STREAMS_MAX: u32 = 256;
/// How long a connection may say nothing until it is asked whether it is there, and then.
const ALIVE: Duration = Duration::from_secs(30);

/// What went wrong before there was a message, in gRPC's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    Unimplemented = 12,
}

/// Serves one connection of a proxy's. What `asks` gives is kept for as long as a request is under
/// way; if it gives nothing, the connection's place is another's.
pub async fn connection<A: Send + Unpin + 'static>(
    plane: Arc<Plane>,
    stream: TcpStream,
    stop: CancellationToken,
    asks: impl Fn() -> Option<A>,
) {
    let _as_it_is = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let plane = Arc::clone(&plane);
        let asking = asks().ok_or(MadeRoom);
        async move {
            let asking = asking?;
            let answer = serve(&plane, request).await;
            Ok::<_, MadeRoom>(answer.map(|answer| Asked {
                answer,
                _asking: asking,
            }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "A proxy's connection broke");
    }
}

async fn serve(plane: &Arc<Plane>, request: Request<Incoming>) -> Response<Answer> {
    match message(request).await {
        Ok((headers, message)) => {
            let asker = Asker::known(plane, &headers, Over::ExtAuthz);
            let answer = super::check(plane, asker.as_ref(), &message);
            respond(Answer::whole(&Box::pin(answer).await), None)
        }
        Err(code) => {
            plane.refusals.note("bad-check", "ext-authz", None);
            respond(Answer(None, None), Some(code))
        }
    }
}

fn respond(answer: Answer, failed: Option<Code>) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    if let Some(code) = failed {
        headers.insert(STATUS, HeaderValue::from(code as u16));
    }
    response
}

/// The one message of a call, and what came with it.
async fn message(request: Request<Incoming>) -> Result<(HeaderMap, Bytes), Code> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST || parts.uri.path() != CHECK {
        return Err(Code::Unimplemented);
    }
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
    if !kind.starts_with(GRPC) {
        return Err(Code::InvalidArgument);
    }
    let read = Limited::new(body, BODY_BYTES_MAX + BESIDE_BODY_MAX).collect();
    match timeout(Duration::from_secs(BODY_SECONDS_MAX), read).await {
        Ok(Ok(body)) => Ok((parts.headers, unframed(body.to_bytes())?)),
        Ok(Err(_)) => Err(Code::ResourceExhausted),
        Err(_elapsed) => Err(Code::InvalidArgument),
    }
}

/// The message behind its five bytes: whether it is compressed, and its length.
fn unframed(mut bytes: Bytes) -> Result<Bytes, Code> {
    let head = bytes.split_to(bytes.len().min(5));
    let [flag, length @ ..] =
        <[u8; 5]>::try_from(head.as_ref()).map_err(|_| Code::InvalidArgument)?;
    // Not asked for, so not taken.
    if flag != 0 {
        return Err(Code::Unimplemented);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).ok();
    if length != Some(bytes.len()) {
        return Err(Code::InvalidArgument);
    }
    Ok(bytes)
}

/// A request came when its connection's place was another's already.
#[derive(Debug, thiserror::Error)]
#[error("the connection made room for another")]
struct MadeRoom;

/// An answer; while it is being sent its connection is not silent.
struct Asked<A> {
    answer: Answer,
    _asking: A,
}

impl<A: Unpin> Body for Asked<A> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.answer).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }
}

/// A message and the trailers that say that it is all.
#[derive(Debug)]
struct Answer(Option<Bytes>, Option<HeaderMap>);

impl Answer {
    fn whole(message: &[u8]) -> Self {
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.put_slice(message);
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, HeaderValue::from_static("0"));
        Self(Some(framed.freeze()), Some(trailers))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.0.take() {
            Some(message) => Some(Frame::data(message)),
            None => self.1.take().map(Frame::trailers),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none() && self.1.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_whole_message_uncompressed() {
        let check = |bytes: &'static [u8], expected: Result<&[u8], Code>| {
            let found = unframed(Bytes::from_static(bytes));
            assert_eq!(found.as_deref(), expected.as_deref(), "{bytes:?}");
        };
        check(b"\0\0\0\0\x02ab", Ok(b"ab"));
        check(b"\0\0\0\0\0", Ok(b""));
        check(b"", Err(Code::InvalidArgument));
        check(b"\0\0\0\0", Err(Code::InvalidArgument));
        check(b"\0\0\0\0\x02a", Err(Code::InvalidArgument));
        check(b"\0\0\0\0\x01ab", Err(Code::InvalidArgument));
        check(b"\0\xff\xff\xff\xffab", Err(Code::InvalidArgument));
        check(b"\x01\0\0\0\x02ab", Err(Code::Unimplemented));
    }
}
