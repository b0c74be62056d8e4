//! Requests to the gateway, each with a token and a proof of the key that the token is bound to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use register::Why;
use tokens::DpopKey;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use vocab::limits::RESPONSE_BYTES_MAX;
use vocab::rng::RngError;
use vocab::{Clock, InstanceId, Rng, Secret, Time};

use super::ConnectError;
use crate::outbound;
use crate::token::{AskError, Asker};

const DPOP: HeaderName = HeaderName::from_static("dpop");
/// A token with less time left than this is replaced before it is used.
const RENEW_BEFORE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is said of an instance that was ended, and so of its bridge.
pub(super) const ENDED: &str = "this instance was ended by an administrator, so nothing is sent \
                                for it any more; starting the client again starts another, if \
                                that is allowed";

/// Why the gateway did not answer a request. `Display` is for the client's user.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It gives no token.
    #[error("{0}")]
    Token(AskError),
    /// It does not take the token, nor a fresh one.
    #[error(
        "the gateway does not let this agent in: {0}; whoever administers it can say why with \
         `tipstaff agent show` and `tipstaff instance list`"
    )]
    NotLetIn(String),
    /// The instance was ended.
    #[error("{ENDED}")]
    Ended,
    /// It cannot be reached.
    #[error(
        "the gateway at {url} cannot be reached ({what}), so nothing was sent; see whether it is up"
    )]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What the system said.
        what: String,
    },
    /// It hung up.
    #[error("the gateway at {url} {what}; whether the request was carried out is not known")]
    BrokenOff {
        /// Where it is.
        url: String,
        /// What happened.
        what: String,
    },
    /// It answered something that is not an answer.
    #[error("the gateway answered {status}: {text}")]
    Status {
        /// The status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
}

enum Http {
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

/// A token in use.
#[derive(Debug)]
struct Held {
    token: Secret<String>,
    instance: InstanceId,
    renew_at: Time,
}

/// The way to one upstream through the gateway, for one instance.
pub(super) struct Gateway {
    asker: Asker,
    dpop: DpopKey,
    http: Http,
    held: Mutex<Option<Arc<Held>>>,
    /// Cancelled when the instance was ended by somebody else.
    pub(super) ended: CancellationToken,
    /// Told when a request was let in.
    pub(super) let_in: Notify,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Gateway {
    /// A way with a key of its own, and no token yet.
    pub(super) fn new(
        asker: Asker,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, ConnectError> {
        let builder = Client::builder(TokioExecutor::new());
        let http = if asker.resource().uri().starts_with("https:") {
            Http::Tls(builder.build(outbound::connector().map_err(ConnectError::Http)?))
        } else {
            let mut connector = HttpConnector::new();
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
            Http::Plain(builder.build(connector))
        };
        Ok(Self {
            dpop: DpopKey::generate(&*rng)?,
            asker,
            http,
            held: Mutex::default(),
            ended: CancellationToken::new(),
            let_in: Notify::new(),
            clock,
            rng,
        })
    }

    /// Gets the first token, which starts the instance.
    pub(super) async fn begin(&self) -> Result<InstanceId, ConnectError> {
        match self.token(None).await {
            Ok(held) => Ok(held.instance.clone()),
            Err(Trouble::Token(error)) => Err(error.into()),
            Err(other) => Err(ConnectError::Http(other.to_string())),
        }
    }

    /// A token that may be used; another one than `refused`.
    async fn token(&self, refused: Option<&Arc<Held>>) -> Result<Arc<Held>, Trouble> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if let Some(it) = &*held
            && now < it.renew_at
            && refused.is_none_or(|refused| !Arc::ptr_eq(refused, it))
        {
            return Ok(Arc::clone(it));
        }
        let before = held.as_ref().map(|it| &it.instance);
        let asked = self
            .asker
            .ask(Some(&self.dpop), before, &*self.clock, &*self.rng);
        let granted = asked.await.map_err(|error| match error {
            AskError::Refused { code, .. } if before.is_some() && code == "invalid_grant" => {
                self.ended.cancel();
                Trouble::Ended
            }
            error => Trouble::Token(error),
        })?;
        let lasts = Duration::from_secs(granted.expires_in);
        let fresh = Arc::new(Held {
            token: granted.token,
            instance: granted.instance,
            // One that is short is used at least half of its time.
            renew_at: now.plus(lasts.saturating_sub(RENEW_BEFORE).max(lasts / 2)),
        });
        if let Some(before) = held.replace(Arc::clone(&fresh))
            && before.instance != fresh.instance
        {
            let (old, new) = (&before.instance, &fresh.instance);
            tracing::warn!(instance.id = %new, "Instance {old} is over by time; {new} goes on");
        }
        Ok(fresh)
    }

    /// Ends the instance, whose client is gone.
    pub(super) async fn finish(&self) {
        let held = self.held.lock().await.take();
        if let Some(held) = held
            && !self.ended.is_cancelled()
            && let Err(error) = self
                .asker
                .revoke(&held.token, &*self.clock, &*self.rng)
                .await
        {
            let instance = &held.instance;
            tracing::warn!(instance.id = %instance, "Instance {instance} could not be ended, and ends by itself when it is idle: {error}");
        }
    }

    /// Sends a message.
    pub(super) async fn post(
        &self,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Trouble> {
        self.send(Method::POST, body, headers).await
    }

    /// Sends a request that has no body.
    pub(super) async fn bare(
        &self,
        method: Method,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Trouble> {
        self.send(method, Bytes::new(), headers).await
    }

    /// Sends a request. One that was refused for its token was not looked at, and goes out once
    /// more with a fresh one.
    async fn send(
        &self,
        method: Method,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Trouble> {
        if self.ended.is_cancelled() {
            return Err(Trouble::Ended);
        }
        let held = self.token(None).await?;
        let answer = self.once(&method, &body, &headers, &held).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            self.let_in.notify_one();
            return Ok(answer);
        }
        let why = challenge(answer.headers());
        if Why::ENDS.iter().any(|it| why.contains(&it.to_string())) {
            self.ended.cancel();
            return Err(Trouble::Ended);
        }
        tracing::debug!("The token was refused: {why}");
        let held = self.token(Some(&held)).await?;
        let answer = self.once(&method, &body, &headers, &held).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            self.let_in.notify_one();
            return Ok(answer);
        }
        Err(Trouble::NotLetIn(challenge(answer.headers())))
    }

    async fn once(
        &self,
        method: &Method,
        body: &Bytes,
        headers: &HeaderMap,
        held: &Held,
    ) -> Result<Response<Incoming>, Trouble> {
        let uri = self.asker.resource().uri();
        let token = held.token.expose();
        let now = self.clock.now();
        let proof = self
            .dpop
            .proof(method.as_str(), uri, Some(token), now, &*self.rng)?;
        let unreachable = |what: String| Trouble::Unreachable {
            url: self.asker.issuer().to_string(),
            what,
        };
        let mut authorization = HeaderValue::try_from(format!("DPoP {token}"))
            .map_err(|_| unreachable("its token cannot go into a header".to_owned()))?;
        authorization.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, authorization)
            .header(DPOP, proof)
            .body(Full::new(body.clone()))
            .map_err(|error| unreachable(error.to_string()))?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.clone());
        }
        let sent = match &self.http {
            Http::Plain(client) => client.request(request).await,
            Http::Tls(client) => client.request(request).await,
        };
        sent.map_err(|error| {
            if error.is_connect() {
                unreachable(innermost(&error))
            } else {
                self.broken_off(&format!("hung up: {}", innermost(&error)))
            }
        })
    }

    /// Reads an answer's whole body.
    pub(super) async fn whole(&self, answer: Response<Incoming>) -> Result<Bytes, Trouble> {
        let body = Limited::new(answer.into_body(), RESPONSE_BYTES_MAX)
            .collect()
            .await;
        body.map(http_body_util::Collected::to_bytes)
            .map_err(|error| self.cut_off(&error.to_string()))
    }

    /// An answer that did not come to its end.
    pub(super) fn cut_off(&self, what: &str) -> Trouble {
        self.broken_off(&format!("broke off its answer ({what})"))
    }

    fn broken_off(&self, what: &str) -> Trouble {
        Trouble::BrokenOff {
            url: self.asker.issuer().to_string(),
            what: what.to_owned(),
        }
    }

    /// How long ago something was, by a clock that only goes forward.
    pub(super) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }
}

/// What a challenge says about the credentials that it refuses.
fn challenge(headers: &HeaderMap) -> String {
    let description = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|value| {
            value
                .split_once("error_description=\"")?
                .1
                .split('"')
                .next()
        });
    description.unwrap_or("it does not say why").to_owned()
}

/// The innermost cause, which is the one that says something (`connection refused`).
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
