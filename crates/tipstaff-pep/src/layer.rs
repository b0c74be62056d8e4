//! The layer, and the service that it makes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use serde_json::json;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Pep, Question, Refused};

type Asks = dyn Fn(&Parts) -> Option<Question> + Send + Sync;

/// Puts a [`Guard`] before a service.
#[derive(Clone)]
pub struct PepLayer {
    pep: Pep,
    asks: Arc<Asks>,
}

impl PepLayer {
    /// `asks` says what a request asks for. What it has no question for is refused.
    pub fn new(
        pep: Pep,
        asks: impl Fn(&Parts) -> Option<Question> + Send + Sync + 'static,
    ) -> Self {
        Self {
            pep,
            asks: Arc::new(asks),
        }
    }
}

impl fmt::Debug for PepLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PepLayer")
            .field("pep", &self.pep)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for PepLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service that gets only what was permitted.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    layer: PepLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: From<String>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was said to be ready; its clone need not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let PepLayer { pep, asks } = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let asked = match asks(&parts) {
                Some(question) => pep.ask(&parts, &question).await,
                None => Err(Refused::NoQuestion),
            };
            match asked {
                Ok(permitted) => {
                    parts.extensions.insert(permitted);
                    inner.call(Request::from_parts(parts, body)).await
                }
                //= https://openid.net/specs/authorization-api-1_0.html#section-5.5
                //# The access request is denied and MUST NOT be permitted to go forward.
                Err(refused) => Ok(respond(&refused)),
            }
        })
    }
}

/// What whoever sent a refused request gets. Why there was no answer is not theirs to know.
fn respond<R: From<String>>(refused: &Refused) -> Response<R> {
    let status = refused.status();
    let record = match refused {
        Refused::Denied { record, .. } => record.as_deref(),
        _ => None,
    };
    let body = json!({"error": refused.to_string(), "record": record});
    let mut response = Response::new(R::from(body.to_string()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    if status == StatusCode::UNAUTHORIZED {
        for scheme in ["Bearer", "DPoP"] {
            response
                .headers_mut()
                .append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
    response
}
