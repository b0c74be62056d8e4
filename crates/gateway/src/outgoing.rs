//! What may be sent to an upstream.
//!
//! A link takes an [`Outgoing`] for what asks something of the upstream, and a [`Passing`] for what
//! does not. Both are made here and nowhere else. A request of the client's passes as it stands only
//! from the permit that is on record for it; one of the closed list that needs none is made anew, of
//! what is known alone, and so is a client's notification, which consists of ids and numbers. Beside
//! these the upstream hears the client's answer to a request of its own. So there is no way to send
//! bytes, no way to send a request that was not decided on, and no way to send words beside one.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use ledger::Recorded;
use mcp::frame::{ReplyEdit, meta};
use mcp::{
    Edit, Era, Free, Method, Notification, ProtocolVersion, Raw, Request, Response, headers,
};
use serde_json::{Map, Number, Value, json};

use crate::looks::Edited;
use crate::record::Permit;
use crate::session::Asked;

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
    /// The id as it is written in the body: see [`next_id`].
    pub(crate) id: String,
    /// The progress token as it is written in the body.
    pub(crate) progress_token: Option<String>,
    /// Headers for HTTP.
    pub(crate) headers: HeaderMap,
}

/// How the upstream is to see a request: what of its envelope is ours.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    pub(crate) edits: Vec<Edit<'a>>,
    /// Its id, and its progress token where there is one.
    pub(crate) id: i64,
    pub(crate) has_progress: bool,
    pub(crate) headers: HeaderMap,
}

/// The next number that the other side is to know a request by. It is no other's in this process, and
/// nothing can be said by it.
pub(crate) fn next_id() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Who we are to upstreams, whoever asks.
pub(crate) fn own_info() -> Raw<'static> {
    static OWN: LazyLock<Raw<'static>> = LazyLock::new(|| mcp::translate::own_info().into());
    OWN.borrowed()
}

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

    /// A request that needs no permit. A modern upstream is told the version that is spoken with it,
    /// and what its client can do.
    pub(crate) fn free(
        id: i64,
        free: Free,
        mut params: Map<String, Value>,
        modern: Option<(ProtocolVersion, Value)>,
    ) -> Self {
        let mut given = HeaderMap::new();
        if let Some((version, capabilities)) = modern {
            let said = json!({
                meta::PROTOCOL_VERSION: version.as_str(),
                meta::CLIENT_CAPABILITIES: capabilities,
                meta::CLIENT_INFO: mcp::translate::own_info(),
            });
            params.insert("_meta".into(), said);
            let version = HeaderValue::from_static(version.as_str());
            given.insert(headers::PROTOCOL_VERSION, version);
            given.insert(headers::METHOD, HeaderValue::from_static(free.as_str()));
        }
        let body = json!({"jsonrpc": "2.0", "id": id, "method": free.as_str(), "params": params});
        Self {
            parts: OutgoingParts {
                body: body.to_string().into(),
                method: Method::from(free.as_str()),
                id: id.to_string(),
                progress_token: None,
                headers: given,
            },
        }
    }

    fn of(request: &Request, envelope: Envelope<'_>) -> Self {
        let id = envelope.id.to_string();
        Self {
            parts: OutgoingParts {
                body: request.splice(&envelope.edits),
                method: request.method().clone(),
                progress_token: envelope.has_progress.then(|| id.clone()),
                id,
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
        Self {
            parts: OutgoingParts {
                body: request.bytes().clone(),
                method: request.method().clone(),
                id: request.id_text().to_owned(),
                progress_token: request.progress_token_text().map(str::to_owned),
                headers: HeaderMap::new(),
            },
        }
    }
}

/// A message that asks nothing of the upstream.
#[derive(Debug, Clone)]
pub struct Passing(Bytes);

impl Passing {
    /// A notification of the client's that says all it can say by its name; none for any other.
    pub(crate) fn bare(method: &Method) -> Option<Self> {
        let says_enough = matches!(method, Method::Initialized | Method::RootsChanged);
        says_enough.then(|| Self(format!(r#"{{"jsonrpc":"2.0","method":"{method}"}}"#).into()))
    }

    /// How far the client got with what the upstream asked it, in numbers; by the upstream's token.
    pub(crate) fn progress(token: &Raw<'_>, notification: &Notification) -> Option<Self> {
        let number = |name| {
            let text = notification.param(name)?.text();
            let whole = text.parse::<i64>().ok().map(Number::from);
            whole.or_else(|| Number::from_f64(text.parse().ok()?))
        };
        let done = number("progress")?;
        let total = number("total").map(|total| format!(r#","total":{total}"#));
        let (method, token) = (Method::Progress, token.as_str());
        let total = total.unwrap_or_default();
        Some(Self(
            format!(
                r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"progressToken":{token},"progress":{done}{total}}}}}"#
            )
            .into(),
        ))
    }

    /// What the client answered to a request of the upstream's that it was permitted to hear; none
    /// for the answer to another.
    pub(crate) fn answer(asked: &Asked, response: &Response) -> Option<Self> {
        let request = asked.permit.value().request();
        let answered = response.id_text() == Some(request.id_text());
        let edits = [
            ReplyEdit::StripOwn,
            ReplyEdit::Id(asked.theirs.id.borrowed()),
        ];
        answered.then(|| Self(response.splice(&edits)))
    }

    /// That a request of the upstream's is not passed on; its id as the upstream wrote it.
    pub(crate) fn refusal(id: &Raw<'_>, code: i64, text: &str, verdict: Option<&Raw<'_>>) -> Self {
        Self(mcp::error::failure(
            Some(id),
            Era::Legacy,
            code,
            text,
            verdict,
        ))
    }

    /// The answer to the upstream's `ping`, or to whatever else wants an empty result.
    pub(crate) fn pong(id: &Raw<'_>) -> Self {
        let empty = Raw::of(&json!({})).unwrap_or(Raw::NULL);
        Self(mcp::error::success(id, &empty))
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
