//! What may be sent to an upstream.
//!
//! A link takes an [`Outgoing`] for what asks something of the upstream, and a [`Passing`] for what
//! does not. Both are made here and nowhere else, from messages that were parsed: a request of the
//! client's from the permit that is on record for it, or as one of the closed list that needs none;
//! anything else only as a client's notification or as the answer to a request of the upstream's.
//! So there is no way to send bytes, and no way to send a request that was not decided on.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use ledger::Recorded;
use mcp::frame::ReplyEdit;
use mcp::{Edit, Era, Free, Method, Notification, Raw, Request, Response};
use serde_json::{Map, Value, json};

use crate::looks::Edited;
use crate::record::Permit;

/// A request to send.
#[derive(Debug)]
pub struct Outgoing {
    parts: OutgoingParts,
}

/// What a request to send consists of.
#[derive(Debug)]
pub(crate) struct OutgoingParts {
    /// The JSON-RPC request, its id included.
    pub(crate) body: Bytes,
    pub(crate) method: Method,
    /// The id as it is written in the body, quotes included. It must be the only one of its kind
    /// on the link; ids that begin with `"tipstaff:` are the gateway's own.
    pub(crate) id: String,
    /// The progress token as it is written in the body.
    pub(crate) progress_token: Option<String>,
    /// Headers for HTTP. Only `Mcp-*` (but the session's) and trace context are sent.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// How the upstream is to see a request: what of its envelope is ours.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) edits: Vec<Edit<'a>>,
    pub(crate) id: String,
    pub(crate) progress_token: Option<String>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Numbers our own requests: several may be under way on a shared link.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Outgoing {
    /// The request that this permit is about, or what the permit's masks make of it.
    pub(crate) fn permitted(
        cleared: &Recorded<Permit>,
        edited: Option<&Edited>,
        envelope: Envelope<'_>,
    ) -> Self {
        let request = edited.map_or_else(|| cleared.value().request(), Edited::request);
        Self::of(request, envelope)
    }

    /// A request of the client's that needs no permit; none for one that does.
    pub(crate) fn free(request: &Request, envelope: Envelope<'_>) -> Option<Self> {
        request.method().free()?;
        Some(Self::of(request, envelope))
    }

    /// A request of our own.
    pub(crate) fn own(
        free: Free,
        params: &Map<String, Value>,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("tipstaff:{number}");
        let body = json!({"jsonrpc": "2.0", "id": id, "method": free.as_str(), "params": params});
        Self {
            parts: OutgoingParts {
                body: body.to_string().into(),
                method: Method::from(free.as_str()),
                id: format!("\"{id}\""),
                progress_token: None,
                headers,
            },
        }
    }

    fn of(request: &Request, envelope: Envelope<'_>) -> Self {
        Self {
            parts: OutgoingParts {
                body: request.splice(&envelope.edits),
                method: request.method().clone(),
                id: envelope.id,
                progress_token: envelope.progress_token,
                headers: envelope.headers,
            },
        }
    }

    /// Its method.
    pub(crate) const fn method(&self) -> &Method {
        &self.parts.method
    }

    /// For whoever writes it.
    pub(crate) fn into_parts(self) -> OutgoingParts {
        self.parts
    }

    /// A request that nobody permitted, for tests of links.
    #[cfg(test)]
    pub(crate) fn assertion(text: impl Into<Bytes>) -> Self {
        let Ok(mcp::Frame::Request(request)) = mcp::Frame::parse(text.into()) else {
            panic!("not a request");
        };
        let envelope = Envelope {
            edits: Vec::new(),
            id: request.id_text().to_owned(),
            progress_token: request.progress_token_text().map(str::to_owned),
            headers: Vec::new(),
        };
        Self::of(&request, envelope)
    }

    #[cfg(test)]
    pub(crate) fn with_headers(mut self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.parts.headers = headers;
        self
    }
}

/// A message that asks nothing of the upstream.
#[derive(Debug, Clone)]
pub struct Passing(Bytes);

impl Passing {
    /// A notification of the client's; none for one that clients do not send.
    pub(crate) fn notice(notification: &Notification, edits: &[Edit<'_>]) -> Option<Self> {
        let method = notification.method();
        method
            .is_client_notice()
            .then(|| Self(notification.splice(edits)))
    }

    /// That notification without anything else in it; none for one that clients do not send, or
    /// that says nothing so.
    pub(crate) fn bare(method: &Method) -> Option<Self> {
        let says_enough = matches!(method, Method::Initialized | Method::RootsChanged);
        says_enough.then(|| Self(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#).into()))
    }

    /// What the client answered to a request of the upstream's that it was permitted to hear; none
    /// for the answer to another.
    pub(crate) fn answer(asked: &Recorded<Permit>, response: &Response) -> Option<Self> {
        let answered = response.id_text() == Some(asked.value().request().id_text());
        answered.then(|| Self(response.splice(&[ReplyEdit::StripOwn])))
    }

    /// That a request of the upstream's is not passed on.
    pub(crate) fn refusal(
        asked: &Request,
        code: i64,
        text: &str,
        verdict: Option<&Raw<'_>>,
    ) -> Self {
        let id = asked.id();
        Self(mcp::error::failure(
            Some(&id),
            Era::Legacy,
            code,
            text,
            verdict,
        ))
    }

    /// The answer to the upstream's `ping`, or to whatever else wants an empty result.
    pub(crate) fn pong(asked: &Request) -> Self {
        let empty = Raw::of(&json!({})).unwrap_or(Raw::NULL);
        Self(mcp::error::success(&asked.id(), &empty))
    }

    /// Our own last word of a handshake.
    pub(crate) fn initialized() -> Self {
        let text = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        Self(Bytes::from_static(text))
    }

    /// That a request we sent is no longer waited for; its id as it was written.
    pub(crate) fn cancelled(id: &str) -> Self {
        let method = Method::Cancelled;
        Self(
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"requestId":{id}}}}}"#)
                .into(),
        )
    }

    /// Its text.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// For whoever writes it.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The answer to a request that was not put on record, for tests of links.
    #[cfg(test)]
    pub(crate) fn assertion(text: &'static str) -> Self {
        let Ok(mcp::Frame::Response(response)) = mcp::Frame::parse(text.into()) else {
            panic!("not a response");
        };
        Self(response.splice(&[]))
    }
}
