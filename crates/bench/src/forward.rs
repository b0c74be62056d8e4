//! The gateway without the gateway: the same server and client libraries, passing the same bytes,
//! with no token, no policy and no record. What governance costs is measured against this.

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use vocab::limits::BODY_BYTES_MAX;

use crate::child;

/// What even a plain proxy of MCP looks at.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Clone)]
struct Forward {
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: Uri,
}

/// Forwards to `upstream` until its parent goes.
pub(crate) async fn run(upstream: Uri) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let app = Router::new()
        .fallback(forward)
        .with_state(Forward { client, upstream });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    child::ready(&listener.local_addr()?.to_string())?;
    axum::serve(listener, app)
        .with_graceful_shutdown(child::parent_gone())
        .await?;
    Ok(())
}

async fn forward(State(forward): State<Forward>, request: Request<Body>) -> Response {
    passed(&forward, request).await.unwrap_or_else(|status| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        response
    })
}

async fn passed(forward: &Forward, request: Request<Body>) -> Result<Response, StatusCode> {
    let (mut parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|_| StatusCode::BAD_REQUEST)?.to_bytes();
    let envelope: Envelope<'_> =
        serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    if envelope.method.is_none() && envelope.params.is_none() {
        return Err(StatusCode::BAD_REQUEST);
    }
    parts.uri = forward.upstream.clone();
    parts.headers.remove(http::header::HOST);
    let request = Request::from_parts(parts, Full::new(body));
    let response = forward
        .client
        .request(request)
        .await
        .map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(response.map(Body::new))
}
