//! The few requests that the program sends by itself: anchors, webhooks, and the command line to the
//! node. None follows a redirect.

use std::error::Error;

use bytes::Bytes;
use http::response::Parts;
use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;

/// Connects over TLS, trusting what the system trusts, or in plain where the URL says so.
pub fn connector() -> Result<HttpsConnector<HttpConnector>, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    let tls = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("the system's certificates cannot be read: {error}"))?;
    Ok(tls.https_or_http().enable_http1().wrap_connector(http))
}

/// Sends one request and reads its answer, of at most `answer_bytes_max`. A URL in plain needs no
/// certificates, so it works where the system has none.
pub async fn send(
    request: Request<Full<Bytes>>,
    answer_bytes_max: usize,
) -> Result<Response<Bytes>, String> {
    let (parts, body) = begin(request).await?.into_parts();
    let body = Limited::new(body, answer_bytes_max).collect().await;
    let body = body.map_err(|error| format!("the answer could not be read: {error}"))?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Sends one request and reads no more of its answer than status and headers.
pub async fn send_for_status(request: Request<Full<Bytes>>) -> Result<Parts, String> {
    Ok(begin(request).await?.into_parts().0)
}

async fn begin(request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
    let builder = Client::builder(TokioExecutor::new());
    let sent = if request.uri().scheme() == Some(&Scheme::HTTP) {
        builder.build(HttpConnector::new()).request(request).await
    } else {
        builder.build(connector()?).request(request).await
    };
    sent.map_err(|error| told(&error))
}

/// The innermost cause, which is the one that says something (`connection refused`).
fn told(error: &ClientError) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
