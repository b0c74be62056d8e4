//! The directory's routes. They take no other credential than the directory's own, and none of
//! theirs is taken anywhere else.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use directory::scim::Turned;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use register::Word;
use vocab::limits::{SCIM_BODY_BYTES_MAX, SET_BYTES_MAX};

use super::{Routed, no_store, with_type};

/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// SCIM (RFC 7644), by the directory's token.
pub(super) async fn scim(State(routes): Routed, request: Request) -> Response {
    let shared = &routes.shared;
    let (parts, body) = request.into_parts();
    // Before the body is read: a stranger costs a digest and nothing else.
    let admitted = match shared.scim.admit(&parts.headers) {
        Ok(admitted) => admitted,
        Err((turned, response)) => {
            let refusals = shared.plane.refusals();
            match turned {
                Turned::Unknown => refusals.note("bad-directory-token", "scim", None),
                Turned::TooMany => refusals.note("directory-rate", "scim", None),
            }
            return no_store(response.map(Body::from));
        }
    };
    let body = match read(body, SCIM_BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(status) => {
            let error = directory::scim::error::body(
                status,
                None,
                "the body is too long, too slow or cut short",
            );
            let kind = directory::scim::service::SCIM_JSON;
            return no_store(with_type(status, kind, error.to_string()));
        }
    };
    // Carried out to its end even if the directory goes away.
    let scim = Arc::clone(&shared.scim);
    let request = Request::from_parts(parts, body);
    let is_read = crate::listen::is_read(request.method(), request.uri());
    let answer = async move { scim.answer(admitted, request).await };
    let answered = if is_read {
        tokio::spawn(answer)
    } else {
        // Somebody may have left: where commands run, it does not wait in line behind calls.
        shared.plane.control().spawn(answer)
    };
    match answered.await {
        Ok(response) => no_store(response.map(Body::from)),
        Err(_) => super::text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

/// A pushed security event (RFC 8935), by what was agreed on with the transmitter.
pub(super) async fn ssf(
    State(routes): Routed,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let shared = &routes.shared;
    let name = name.parse::<Word>().ok();
    let Some(receiver) = name.and_then(|name| shared.signals.get(&name)) else {
        return super::nothing().await;
    };
    let (parts, body) = request.into_parts();
    if let Err(refused) = receiver.admit(&parts.headers) {
        shared.plane.refusals().note("bad-transmitter", "ssf", None);
        return no_store(refused.map(Body::from));
    }
    let body = match read(body, SET_BYTES_MAX).await {
        Ok(body) => body,
        Err(status) => return super::text(status, ""),
    };
    // Carried out to its end even if the transmitter goes away.
    let receiver = Arc::clone(receiver);
    let pushed = tokio::spawn(async move { receiver.push(&parts.headers, &body).await });
    match pushed.await {
        Ok(response) => no_store(response.map(Body::from)),
        Err(_) => super::text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, StatusCode> {
    let read = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}
