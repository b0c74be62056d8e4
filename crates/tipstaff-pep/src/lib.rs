//! A policy enforcement point for Rust services: a [`tower`](https://docs.rs/tower) layer that asks
//! Tipstaff over `AuthZEN` about each request, and lets through what
//! was permitted and nothing else.
//!
//! ```
//! use http::request::Parts;
//! use tipstaff_pep::{Pep, PepLayer, Question};
//!
//! # fn main() -> Result<(), tipstaff_pep::SetupError> {
//! // What `tipstaff pep add records-server --for records` printed, and where clients reach us.
//! let pep = Pep::new("http://127.0.0.1:7420", "tsp_…", "https://records.acme.example")?;
//! let layer = PepLayer::new(pep, |request: &Parts| {
//!     let id = request.uri.path().strip_prefix("/records/")?;
//!     let action = match request.method.as_str() {
//!         "GET" => "records/read",
//!         "PUT" => "records/write",
//!         _ => return None,
//!     };
//!     Some(Question::new(action, "record", id))
//! });
//! // let app = axum::Router::new().route("/records/{id}", get(read).put(write)).layer(layer);
//! # let _ = layer;
//! # Ok(())
//! # }
//! ```
//!
//! It fails closed. A request that the service has no question for is refused with 403; one without
//! an access token, or with one that does not hold, with 401; and one about which there was no answer
//! with 503: the node is away or late, its answer has another status than 200, is too long, cannot
//! be read, or has no `decision` that is a boolean, once. A permit is in the request's extensions
//! as [`Permitted`], with the number of its record.
//!
//! The layer looks at the head of a request, not at its body. Where the decision is about the body, the
//! service reads it first and calls [`Pep::ask`] itself.
//!
//! The service must be reached through nothing else, and what it does with a permit is its own: the
//! record says what it was told.

mod layer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub use layer::{Guard, PepLayer};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// How long an answer may take, unless [`Pep::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a [`Pep`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The node's URL is not `http://HOST` or `https://HOST`.
    #[error("`{0}` is not where a node answers; write it like `https://tipstaff.acme.example`")]
    Url(String),
    /// The token cannot be sent.
    #[error("the token is not one that `tipstaff pep add` printed")]
    Token,
    /// There is nothing to trust a node's certificate by.
    #[error("the system's certificates cannot be read: {0}")]
    Certificates(String),
}

/// What one request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    action: String,
    action_properties: Map<String, Value>,
    kind: String,
    id: String,
    properties: Map<String, Value>,
    context: Map<String, Value>,
}

impl Question {
    /// `action` is `SERVICE/ACTION` as the node's configuration declares it, about a resource of the
    /// service's own: its type and its id.
    pub fn new(action: impl Into<String>, kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            action_properties: Map::new(),
            kind: kind.into(),
            id: id.into(),
            properties: Map::new(),
            context: Map::new(),
        }
    }

    /// A tool of an MCP server with the arguments of its call.
    pub fn tool(name: impl Into<String>, args: Map<String, Value>) -> Self {
        let name = name.into();
        let mut question = Self::new(name.clone(), "tool", name);
        question
            .context
            .insert("args".to_owned(), Value::Object(args));
        question
    }

    /// Says something of the action: `context.args.action.NAME` in policies.
    #[must_use]
    pub fn action_property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.action_properties.insert(name.into(), value.into());
        self
    }

    /// Says something of the resource: `context.args.resource.properties.NAME` in policies.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Says something of the rest of the world: `context.args.context.NAME` in policies.
    #[must_use]
    pub fn context(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.context.insert(name.into(), value.into());
        self
    }
}

/// A yes, on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// Its record, such as `calls/17`; none if the node did not say.
    pub record: Option<String>,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Policy says no.
    #[error("{reason}")]
    Denied {
        /// The reason that policy chose to give; fit for whoever sent the request.
        reason: String,
        /// The record, such as `calls/17`.
        record: Option<String>,
    },
    /// The request has no access token that can be asked about.
    #[error("the request has no access token")]
    NoToken,
    /// Its access token does not hold.
    #[error("{message}")]
    BadToken {
        /// What is wrong with it.
        message: String,
    },
    /// The service has no question for such a request.
    #[error("nothing is permitted here")]
    NoQuestion,
    /// There was no answer, or none that can be relied on.
    #[error("whether it is permitted could not be asked")]
    NoAnswer {
        /// Why, for the service's own log.
        cause: String,
    },
}

impl Refused {
    /// The status for whoever sent the request.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Denied { .. } | Self::NoQuestion => StatusCode::FORBIDDEN,
            Self::NoToken | Self::BadToken { .. } => StatusCode::UNAUTHORIZED,
            Self::NoAnswer { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

fn no_answer(cause: impl fmt::Display) -> Refused {
    Refused::NoAnswer {
        cause: cause.to_string(),
    }
}

/// What a node answers. A member twice is an error, and so is a `decision` of another type.
#[derive(Deserialize)]
struct Answer {
    decision: bool,
    #[serde(default)]
    context: Option<Context>,
}

#[derive(Deserialize, Default)]
struct Context {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    record: Option<Record>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Record {
    log: String,
    index: u64,
}

#[derive(Deserialize)]
struct Failure {
    status: u16,
    message: String,
}

/// Asks a node. It is cheap to clone, and its clones share connections.
#[derive(Clone)]
pub struct Pep(Arc<Inner>);

struct Inner {
    endpoint: Uri,
    authorization: HeaderValue,
    /// Where clients reach the service, without a slash at its end.
    base: String,
    timeout: Duration,
    client: Way,
}

/// The way to the node.
#[derive(Clone)]
enum Way {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl fmt::Debug for Pep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pep")
            .field("endpoint", &self.0.endpoint)
            .field("base", &self.0.base)
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}

impl Pep {
    /// `node` is the URL of the node, `token` what `tipstaff pep add` printed, and `base` the URL that
    /// this service is known by: its path is put behind it to say what a DPoP proof must be for, as
    /// in `url` of the node's `[service.NAME]`.
    pub fn new(node: &str, token: &str, base: &str) -> Result<Self, SetupError> {
        let url = || SetupError::Url(node.to_owned());
        let endpoint = format!("{}/access/v1/evaluation", node.trim_end_matches('/'));
        let endpoint: Uri = endpoint.parse().map_err(|_| url())?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let builder = Client::builder(TokioExecutor::new());
        let client = match endpoint.scheme_str() {
            // A node in plain needs no certificates, so it works where the system has none.
            Some("http") => Way::Plain(builder.build(http)),
            Some("https") => {
                let tls = HttpsConnectorBuilder::new()
                    .with_native_roots()
                    .map_err(|error| SetupError::Certificates(error.to_string()))?;
                let connector = tls.https_only().enable_http1().wrap_connector(http);
                Way::Tls(builder.build(connector))
            }
            _ => return Err(url()),
        };
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| SetupError::Token)?;
        authorization.set_sensitive(true);
        if token.trim().is_empty() {
            return Err(SetupError::Token);
        }
        Ok(Self(Arc::new(Inner {
            endpoint,
            authorization,
            base: base.trim_end_matches('/').to_owned(),
            timeout: TIMEOUT,
            client,
        })))
    }

    /// How long an answer may take, from the connection to its last byte.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        let Inner {
            endpoint,
            authorization,
            base,
            client,
            ..
        } = &*self.0;
        Self(Arc::new(Inner {
            endpoint: endpoint.clone(),
            authorization: authorization.clone(),
            base: base.clone(),
            timeout,
            client: client.clone(),
        }))
    }

    /// Asks about a request. There is one way to get a [`Permitted`].
    pub async fn ask(&self, request: &Parts, question: &Question) -> Result<Permitted, Refused> {
        let subject = self.subject(request)?;
        let mut action = json!({"name": question.action});
        let mut resource = json!({"type": question.kind, "id": question.id});
        for (entity, properties) in [
            (&mut action, &question.action_properties),
            (&mut resource, &question.properties),
        ] {
            if let (Some(entity), false) = (entity.as_object_mut(), properties.is_empty()) {
                entity.insert("properties".to_owned(), Value::Object(properties.clone()));
            }
        }
        let asked = json!({
            "subject": subject,
            "action": action,
            "resource": resource,
            "context": question.context,
        });
        let answer = tokio::time::timeout(self.0.timeout, self.answer(asked.to_string()));
        let Answer { decision, context } = answer
            .await
            .map_err(|_| no_answer(format!("none within {:?}", self.0.timeout)))??;
        let Context {
            reason,
            record,
            error,
        } = context.unwrap_or_default();
        let record = record.map(|it| format!("{}/{}", it.log, it.index));
        match (decision, error) {
            (true, None) => Ok(Permitted { record }),
            (true, Some(_)) => Err(no_answer("it says yes and that it failed")),
            (
                false,
                Some(Failure {
                    status: 401,
                    message,
                }),
            ) => Err(Refused::BadToken { message }),
            (false, Some(Failure { message, .. })) => Err(Refused::Denied {
                reason: message,
                record,
            }),
            (false, None) => Err(Refused::Denied {
                reason: reason.unwrap_or_else(|| "This is not permitted.".to_owned()),
                record,
            }),
        }
    }

    /// Whoever sent the request, by its token and, if that is bound to a key, its proof.
    fn subject(&self, request: &Parts) -> Result<Value, Refused> {
        let one = |name: &str| {
            let mut values = request.headers.get_all(name).iter();
            let value = values.next().and_then(|value| value.to_str().ok());
            value.filter(|_| values.next().is_none())
        };
        let value = one("authorization").ok_or(Refused::NoToken)?;
        let (scheme, token) = value.split_once(' ').ok_or(Refused::NoToken)?;
        let subject = json!({"type": "access_token", "id": token.trim()});
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Ok(subject),
            "dpop" => {
                let proof = one("dpop").ok_or(Refused::NoToken)?;
                let htu = format!("{}{}", self.0.base, request.uri.path());
                Ok(json!({
                    "type": "access_token",
                    "id": token.trim(),
                    "properties": {"dpop": {
                        "proof": proof, "htm": request.method.as_str(), "htu": htu,
                    }},
                }))
            }
            _ => Err(Refused::NoToken),
        }
    }

    async fn answer(&self, asked: String) -> Result<Answer, Refused> {
        let mut request = Request::new(Full::new(Bytes::from(asked)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.0.endpoint.clone();
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.0.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // No redirect is followed: it would carry tokens to wherever it points.
        let sent = match &self.0.client {
            Way::Plain(client) => client.request(request).await,
            Way::Tls(client) => client.request(request).await,
        };
        let answer = sent.map_err(no_answer)?;
        if answer.status() != StatusCode::OK {
            return Err(no_answer(format!("status {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
        let body = body.await.map_err(no_answer)?.to_bytes();
        serde_json::from_slice(&body).map_err(no_answer)
    }
}
