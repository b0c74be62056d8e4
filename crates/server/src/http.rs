//! The node's own routes: OAuth metadata and tokens, the logs' public side, health and metrics.
//!
//! | route | who |
//! |---|---|
//! | `/.well-known/oauth-authorization-server` | anyone |
//! | `/.well-known/oauth-protected-resource/mcp/{upstream}` | anyone |
//! | `/oauth/jwks` | anyone |
//! | `/oauth/token`, `/oauth/revoke`, `/oauth/introspect` | agents, workloads and people's clients |
//! | [`crate::people`]'s | people, in their browsers |
//! | `/ledger/{log}/checkpoint`, `…/vkey`, `…/tile/{L}/{N}` | anyone |
//! | `/ledger/{log}/tile/entries/{N}` | auditors, by their token |
//! | `/scim/v2/…` | the directory, by its token |
//! | `/ssf/{name}` | who sends security events, by what was agreed on |
//! | `/healthz`, `/readyz`, `/metrics` | anyone who can reach the listener |
//!
//! Every route looks first at the names that a request calls the node by. The documents, the token
//! and revocation endpoints and registration are also for pages of other origins, where those are listed.

mod directory;
mod disk;
mod health;
mod metrics;
mod tiles;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use bytes::Bytes;
use gateway::{Crossing, HostError};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde_json::json;
use tokens::{OwnTokenRequest, TokenError, TokenRequest};
use tokio::sync::Semaphore;
use vocab::UpstreamName;

use crate::node::Shared;
use crate::people;

pub use disk::watch_disk;
pub use health::{Part, Readiness};
pub use metrics::{FAMILIES, Family};
pub use tiles::auditor_token;

/// Longest body of a token request that is read off the wire, in bytes. Beyond
/// [`FORM_BYTES_MAX`](vocab::limits::FORM_BYTES_MAX) it is refused in the words of OAuth.
const TOKEN_BODY_BYTES_MAX: usize = 128 * 1024;
/// How long the body of a token request may take.
const TOKEN_BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Reads of the logs that run at once; others wait for their turn.
const READS_MAX: usize = 8;

/// What the handlers share.
#[derive(Debug)]
struct Routes {
    shared: Arc<Shared>,
    reads: Semaphore,
}

impl Routes {
    /// Runs what blocks on a file, where it holds up nobody else.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Option<T> {
        let _place = self.reads.acquire().await.ok()?;
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || read(&shared))
            .await
            .ok()
    }
}

type Routed = State<Arc<Routes>>;

/// The node's own routes.
pub fn router(shared: Arc<Shared>) -> Router {
    let reads = Semaphore::new(READS_MAX);
    let people = people::router(Arc::clone(&shared));
    let routes = Arc::new(Routes { shared, reads });
    let open = |methods: &'static str| {
        middleware::from_fn_with_state((Arc::clone(&routes), methods), guard_open)
    };
    let documents = Router::new()
        //= https://www.rfc-editor.org/rfc/rfc8414#section-3
        //# Authorization servers supporting metadata MUST make a JSON document containing
        //# metadata as specified in Section 2 available at a path
        //= https://www.rfc-editor.org/rfc/rfc8414#section-3.1
        //# An authorization server metadata document MUST be queried using an HTTP "GET"
        //# request at the previously specified path.
        .route(
            "/.well-known/oauth-authorization-server",
            get(authorization_server),
        )
        //= https://www.rfc-editor.org/rfc/rfc9728#section-3
        //# Protected resources supporting metadata MUST make a JSON document containing
        //# metadata as specified in Section 2 available at a URL
        //= https://www.rfc-editor.org/rfc/rfc9728#section-3.1
        //# A protected resource metadata document MUST be queried using an HTTP GET request at
        //# the previously specified URL.
        .route(
            "/.well-known/oauth-protected-resource/mcp/{upstream}",
            get(protected_resource),
        )
        .route("/oauth/jwks", get(jwks))
        .with_state(Arc::clone(&routes))
        .layer(open("GET"));
    let endpoints = Router::new()
        .route("/oauth/token", post(token))
        .route("/oauth/revoke", post(revoke))
        .with_state(Arc::clone(&routes))
        .merge(people::registration(Arc::clone(&routes.shared)))
        .layer(open("POST"));
    Router::new()
        .route("/oauth/introspect", post(introspect))
        .route("/scim/v2/{*path}", any(directory::scim))
        .route("/ssf/{name}", post(directory::ssf))
        .route("/ledger/{*path}", get(tiles::serve))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .fallback(nothing)
        .with_state(Arc::clone(&routes))
        .merge(people)
        .layer(middleware::from_fn_with_state(routes, guard))
        .merge(documents)
        .merge(endpoints)
}

/// Refuses requests that call the node by another name, before anything else is looked at.
async fn guard(State(routes): Routed, request: Request, next: Next) -> Response {
    let hosts = routes.shared.plane.hosts();
    let response = match hosts.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => stranger(&routes, &error),
    };
    nosniff(response)
}

/// The same where pages of other origins may be clients.
async fn guard_open(
    State((routes, methods)): State<(Arc<Routes>, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let hosts = routes.shared.plane.hosts();
    let crossing = match Crossing::of(hosts, request.uri(), request.headers()) {
        Ok(crossing) => crossing,
        Err(error) => return nosniff(stranger(&routes, &error)),
    };
    if let Some(answer) = crossing.preflight(request.method(), request.headers(), methods) {
        return nosniff(answer);
    }
    let mut response = next.run(request).await;
    crossing.mark(response.headers_mut());
    nosniff(response)
}

fn stranger(routes: &Routes, error: &HostError) -> Response {
    routes
        .shared
        .plane
        .refusals()
        .note("host-or-origin", "http", None);
    text(StatusCode::FORBIDDEN, format!("{error}\n"))
}

fn nosniff(mut response: Response) -> Response {
    let nosniff = HeaderValue::from_static("nosniff");
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

async fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

async fn authorization_server(State(routes): Routed) -> Response {
    //= https://www.rfc-editor.org/rfc/rfc8414#section-3.2
    //# A successful response MUST use the 200 OK HTTP status code and return a JSON object using
    //# the "application/json" content type
    as_json(StatusCode::OK, &routes.shared.plane.issuer().metadata_as())
}

async fn protected_resource(State(routes): Routed, Path(upstream): Path<String>) -> Response {
    let upstream = upstream.parse::<UpstreamName>().ok();
    let issuer = routes.shared.plane.issuer();
    match upstream.and_then(|upstream| issuer.metadata_resource(&upstream)) {
        //= https://www.rfc-editor.org/rfc/rfc9728#section-3.2
        //# A successful response MUST use the 200 OK HTTP status code and return a JSON object
        //# using the application/json content type
        Some(metadata) => as_json(StatusCode::OK, &metadata),
        None => nothing().await,
    }
}

async fn jwks(State(routes): Routed) -> Response {
    as_json(StatusCode::OK, &routes.shared.plane.issuer().jwks())
}

async fn token(State(routes): Routed, request: Request) -> Response {
    let (headers, body) = match form(&routes.shared, request).await {
        Ok(form) => form,
        Err(refused) => return *refused,
    };
    let issued = async {
        let request = TokenRequest::parse(&headers, &body)?;
        routes.shared.plane.issuer().token(&request).await
    };
    match issued.await {
        Ok(response) => no_store(as_json(StatusCode::OK, &response)),
        Err(error) => refused(&routes.shared, &error),
    }
}

/// Ends the instance of a token (RFC 7009).
async fn revoke(State(routes): Routed, request: Request) -> Response {
    let (headers, body) = match form(&routes.shared, request).await {
        Ok(form) => form,
        Err(refused) => return *refused,
    };
    // Carried out to its end even if whoever asked goes away.
    let shared = Arc::clone(&routes.shared);
    let revoked = tokio::spawn(async move {
        let plane = &shared.plane;
        let request = OwnTokenRequest::parse(&headers, &body)?;
        let Some((actor, command)) = plane.issuer().revocation(&request).await? else {
            return Ok(());
        };
        plane.control().execute(actor, command).await?;
        Ok(())
    });
    match revoked.await {
        Ok(Ok(())) => no_store(text(StatusCode::OK, "")),
        Ok(Err(error)) => refused(&routes.shared, &error),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

/// Says whether a token is good (RFC 7662).
async fn introspect(State(routes): Routed, request: Request) -> Response {
    let (headers, body) = match form(&routes.shared, request).await {
        Ok(form) => form,
        Err(refused) => return *refused,
    };
    let request = OwnTokenRequest::parse(&headers, &body).map_err(TokenError::from);
    let told = request.and_then(|request| routes.shared.plane.issuer().introspection(&request));
    match told {
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# Since a protected resource MAY cache the response of the introspection endpoint,
        //# designers of an OAuth 2.0 system using this protocol MUST consider the performance and
        //# security trade-offs inherent in caching security information such as this.
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the response contains the "exp" parameter (expiration), the response MUST NOT be
        //# cached beyond the time indicated therein.
        Ok(told) => no_store(as_json(StatusCode::OK, &told)),
        Err(error) => refused(&routes.shared, &error),
    }
}

/// A request of an agent's, its body read; or the answer that it gets.
async fn form(shared: &Shared, request: Request) -> Result<(HeaderMap, Bytes), Box<Response>> {
    let plain = |word, status, code: &str, description: &str| {
        shared.plane.refusals().note(word, "token", None);
        let body = json!({"error": code, "error_description": description});
        Err(Box::new(no_store(as_json(status, &body))))
    };
    if let Err(why) = shared.plane.life().check() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return plain("not-serving", status, "temporarily_unavailable", why);
    }
    let (parts, body) = request.into_parts();
    match read_body(body).await {
        Ok(body) => Ok((parts.headers, body)),
        Err(status) => {
            let text = "the body is too long, too slow or cut short";
            plain("bad-token-request", status, "invalid_request", text)
        }
    }
}

fn refused(shared: &Shared, error: &TokenError) -> Response {
    if error.status().is_server_error() {
        tracing::error!(error = %error, "A request of an agent could not be answered");
    } else {
        // What is wrong with it may be in its own words, and whoever sent it is told.
        tracing::debug!(cause = error.word(), "A request of an agent was refused");
    }
    shared.plane.refusals().note(error.word(), "token", None);
    no_store(as_json(error.status(), &error.body()))
}

async fn read_body(body: Body) -> Result<Bytes, StatusCode> {
    let read = Limited::new(body, TOKEN_BODY_BYTES_MAX).collect();
    match tokio::time::timeout(TOKEN_BODY_TIMEOUT, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

pub(crate) fn as_json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(status, "application/json", body),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response {
    with_type(status, "text/plain; charset=utf-8", body)
}

fn with_type(status: StatusCode, media_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn cached(mut response: Response, how: &'static str) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(how));
    response
}

pub(crate) fn no_store(response: Response) -> Response {
    cached(response, "no-store")
}
