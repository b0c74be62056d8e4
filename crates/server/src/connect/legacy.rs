//! Sessions of the legacy era: opened by the client's `initialize`, and opened again by the bridge
//! if the gateway has lost them, so that a client notices neither a restart nor an idle hour.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Response, StatusCode};
use hyper::body::Incoming;
use mcp::headers::{self, SESSION_ID};
use mcp::{Frame, Notification, ProtocolVersion, Request};
use tokio_util::sync::CancellationToken;

use super::gateway::Trouble;
use super::{Bridge, CLOSE_TIMEOUT};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long to wait before listening again, at first and at most.
pub(super) const AGAIN_MIN: Duration = Duration::from_secs(1);
pub(super) const AGAIN_MAX: Duration = Duration::from_mins(1);
/// A stream that lasted this long was in order.
pub(super) const LASTED: Duration = Duration::from_secs(10);

/// One session with the gateway.
pub(super) struct Session {
    id: Option<HeaderValue>,
    version: ProtocolVersion,
    /// The client's `initialize`, which opens it again.
    opening: Request,
    /// The client's `notifications/initialized`.
    initialized: OnceLock<Bytes>,
    closed: CancellationToken,
}

impl Session {
    /// The headers of a message in this session.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = headers::standard(self.version);
        if let Some(id) = &self.id {
            headers.insert(SESSION_ID, id.clone());
        }
        headers
    }
}

impl Bridge {
    /// The client's `initialize`.
    pub(super) async fn initialize(self: &Arc<Self>, request: &Request) {
        match self.open(request).await {
            Ok((session, answer)) => {
                if let Some(before) = self.set_session(session.map(Arc::new)) {
                    before.closed.cancel();
                    self.delete(&before).await;
                }
                self.tell(answer).await;
            }
            Err(trouble) => self.tell_trouble(request, &trouble).await,
        }
    }

    /// Opens a session. None if the server refused, which the answer then says.
    async fn open(&self, request: &Request) -> Result<(Option<Session>, Bytes), Trouble> {
        let headers = headers::standard(ProtocolVersion::V2025_03_26);
        let answer = self.gateway.post(request.bytes().clone(), headers).await?;
        let id = answer.headers().get(SESSION_ID).cloned();
        let answer = self.answer(request, answer).await?;
        let version = match Frame::parse(answer.clone()) {
            Ok(Frame::Response(response)) => response
                .result()
                .and_then(|result| result.get("protocolVersion")?.as_str()?.parse().ok()),
            Ok(_) | Err(_) => None,
        };
        let session = version.map(|version| Session {
            id,
            version,
            opening: request.clone(),
            initialized: OnceLock::new(),
            closed: self.stop.child_token(),
        });
        Ok((session, answer))
    }

    /// The client's `notifications/initialized`: the session is open, and can be listened to.
    pub(super) async fn initialized(self: &Arc<Self>, notification: &Notification) {
        let Some(session) = self.session() else {
            return;
        };
        let _again = session.initialized.set(notification.bytes().clone());
        self.confirm(&session).await;
    }

    async fn confirm(self: &Arc<Self>, session: &Arc<Session>) {
        let Some(body) = session.initialized.get() else {
            return;
        };
        match self.gateway.post(body.clone(), session.headers()).await {
            Ok(answer) if answer.status().is_success() => {
                let (bridge, session) = (Arc::clone(self), Arc::clone(session));
                // Not among the tasks that are waited for: it has no end of its own.
                tokio::spawn(async move {
                    let closed = session.closed.clone();
                    let _closed = closed.run_until_cancelled(bridge.listen(&session)).await;
                });
            }
            Ok(answer) => {
                tracing::warn!(
                    "The gateway did not confirm the session: {}",
                    answer.status()
                );
            }
            Err(trouble) => tracing::warn!("The session could not be confirmed: {trouble}"),
        }
    }

    /// Opens a session again that the gateway does not know any more, unless another request has
    /// done so meanwhile.
    pub(super) async fn reopen(self: &Arc<Self>, lost: &Arc<Session>) -> Result<(), Trouble> {
        let _one = self.reopening.lock().await;
        match self.session() {
            Some(current) if Arc::ptr_eq(&current, lost) => {}
            Some(_) | None => return Ok(()),
        }
        lost.closed.cancel();
        let (session, answer) = self.open(&lost.opening).await?;
        let Some(session) = session.filter(|session| session.version == lost.version) else {
            return Err(Trouble::Status {
                status: StatusCode::NOT_FOUND,
                text: format!(
                    "the session is gone and could not be opened again as it was: {}",
                    String::from_utf8_lossy(&answer)
                ),
            });
        };
        tracing::info!("The gateway did not know the session any more; it is open again");
        if let Some(initialized) = lost.initialized.get() {
            let _first = session.initialized.set(initialized.clone());
        }
        let session = Arc::new(session);
        self.set_session(Some(Arc::clone(&session)));
        self.confirm(&session).await;
        Ok(())
    }

    /// Takes what belongs to no request of the client's, for as long as the session lasts.
    async fn listen(self: &Arc<Self>, session: &Arc<Session>) {
        let mut last: Option<String> = None;
        let mut wait = AGAIN_MIN;
        loop {
            let began = self.gateway.elapsed();
            match self.resume(session, last.as_deref()).await {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    let mut retry = None;
                    let ended = self
                        .events(answer, &mut last, &mut retry, &mut |_| false)
                        .await;
                    if let Err(trouble) = ended {
                        tracing::debug!("The session's own stream broke off: {trouble}");
                    }
                    if let Some(retry) = retry {
                        wait = retry;
                    } else if self.gateway.elapsed().saturating_sub(began) > LASTED {
                        wait = AGAIN_MIN;
                    }
                }
                // Not offered, or not any more; a request will open the session again.
                Ok(answer) if answer.status().is_client_error() => return,
                Err(Trouble::Ended) => return,
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    /// Opens the session's own stream, or goes on with a stream that broke off after `last`.
    pub(super) async fn resume(
        &self,
        session: &Session,
        last: Option<&str>,
    ) -> Result<Response<Incoming>, Trouble> {
        let mut headers = session.headers();
        headers.remove(CONTENT_TYPE);
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(last) = last.and_then(|last| HeaderValue::from_str(last).ok()) {
            headers.insert(LAST_EVENT_ID, last);
        }
        self.gateway.bare(Verb::GET, headers).await
    }

    /// Closes the session, if there is one.
    pub(super) async fn close_session(&self) {
        if let Some(session) = self.set_session(None) {
            session.closed.cancel();
            self.delete(&session).await;
        }
    }

    async fn delete(&self, session: &Session) {
        if session.id.is_none() {
            return;
        }
        let mut headers = session.headers();
        headers.remove(CONTENT_TYPE);
        let deleted = self.gateway.bare(Verb::DELETE, headers);
        match tokio::time::timeout(CLOSE_TIMEOUT, deleted).await {
            Ok(Ok(_)) => {}
            Ok(Err(trouble)) => tracing::debug!("The session was not closed: {trouble}"),
            Err(_) => tracing::debug!("The session was not closed in time"),
        }
    }
}
