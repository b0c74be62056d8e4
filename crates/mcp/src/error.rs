//! What a peer is told: one error per way to go wrong, mapped to HTTP status and JSON-RPC code per
//! era, and the bodies of answers that we make ourselves.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Value as Tree, json};
use vocab::{Handle, RecordRef, Time};

use crate::frame::{FrameError, meta};
use crate::headers::HeaderError;
use crate::json::Raw;
use crate::method::{Era, Method, ProtocolVersion};

/// JSON-RPC codes.
pub mod code {
    /// Not JSON.
    pub const PARSE: i64 = -32700;
    /// Not a message that is accepted.
    pub const INVALID_REQUEST: i64 = -32600;
    /// No such method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// Wrong parameters; in modern revisions also an unknown tool, prompt or resource.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Our fault or the upstream's.
    pub const INTERNAL: i64 = -32603;
    /// Headers and body say different things (modern).
    pub const HEADER_MISMATCH: i64 = -32020;
    /// The client did not declare a capability that is needed (modern).
    pub const MISSING_CAPABILITY: i64 = -32021;
    /// A revision that is not served (modern).
    pub const UNSUPPORTED_VERSION: i64 = -32022;
    /// A resource that is not there (legacy).
    pub const RESOURCE_NOT_FOUND: i64 = -32002;
    /// The client must open a URL first (legacy).
    pub const URL_ELICITATION: i64 = -32042;
    /// Policy said no. Outside the range that JSON-RPC reserves.
    pub const DENIED: i64 = 7403;
}

/// One way in which a message cannot be served. None says anything about policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The body is not one acceptable message.
    #[error("{}", chain(.0))]
    Frame(#[from] FrameError),
    /// The body is longer than is read.
    #[error("the body is longer than {max} bytes")]
    BodyTooLong {
        /// The most that is read, in bytes.
        max: usize,
    },
    /// A response from a client that was not asked anything.
    #[error("a response to nothing that was asked")]
    UnexpectedResponse,
    /// Headers contradict the body or are missing.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A modern request without something it must carry.
    #[error("`params._meta` has no valid `{key}`")]
    MissingMeta {
        /// The name of the member.
        key: &'static str,
    },
    /// A revision that is not served.
    #[error("protocol version `{requested}` is not supported here")]
    UnsupportedVersion {
        /// What was asked for.
        requested: String,
    },
    /// A capability that was not declared.
    #[error("the client has not declared a capability that this request needs")]
    MissingCapability {
        /// The capabilities object that would do.
        required: Tree,
    },
    /// No such method in this revision, or not in this direction.
    #[error("no method `{method}` here")]
    MethodNotFound {
        /// The method asked for.
        method: String,
    },
    /// Parameters of the wrong shape.
    #[error("{message}")]
    InvalidParams {
        /// What is wrong, for whoever sent it.
        message: String,
    },
    /// The client does not take what we answer with.
    #[error("`Accept` must list both application/json and text/event-stream")]
    NotAcceptable,
    /// The body is not declared as JSON.
    #[error("`Content-Type` must be application/json, and its `charset`, if any, utf-8")]
    UnsupportedMediaType,
    /// The body is compressed or otherwise encoded.
    #[error("`Content-Encoding` is not taken: send the body as it is, without that header")]
    UnsupportedEncoding,
    /// An unknown or ended session (legacy): the client starts a new one.
    #[error("no such session")]
    UnknownSession,
    /// A request in a session without saying which (legacy).
    #[error("`Mcp-Session-Id` is missing")]
    MissingSession,
    /// Something behind us does not answer.
    #[error("{message}")]
    Unavailable {
        /// What is said about it.
        message: &'static str,
    },
    /// Our own fault.
    #[error("internal error")]
    Internal,
}

fn chain(error: &FrameError) -> String {
    match error {
        FrameError::Json(cause) => format!("{error}: {cause}"),
        _ => error.to_string(),
    }
}

/// An error as it goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorReply {
    /// The era of the request.
    pub era: Era,
    /// The HTTP status.
    pub status: StatusCode,
    /// The JSON-RPC code.
    pub code: i64,
    /// For whoever sent the request.
    pub message: String,
    /// What the code carries.
    pub data: Option<Tree>,
}

impl ErrorReply {
    /// The JSON-RPC response.
    pub fn body(&self, id: Option<&Raw<'_>>) -> Bytes {
        let data = self.data.clone().map(Raw::from);
        failure(id, self.era, self.code, &self.message, data.as_ref())
    }
}

impl ProtocolError {
    /// What the peer is told.
    pub fn reply(&self, era: Era) -> ErrorReply {
        use StatusCode as S;
        // An error in the body of a 200 is how legacy servers answer a request that they
        // understood; a modern one gives it a status.
        let in_band = |modern| match era {
            Era::Modern => modern,
            Era::Legacy => S::OK,
        };
        let (status, code, data) = match self {
            Self::Frame(FrameError::Json(_)) => (S::BAD_REQUEST, code::PARSE, None),
            Self::Frame(_) | Self::UnexpectedResponse | Self::MissingSession => {
                (S::BAD_REQUEST, code::INVALID_REQUEST, None)
            }
            Self::BodyTooLong { .. } => (S::PAYLOAD_TOO_LARGE, code::INVALID_REQUEST, None),
            Self::Header(_) => (S::BAD_REQUEST, code::HEADER_MISMATCH, None),
            Self::MissingMeta { .. } => (S::BAD_REQUEST, code::INVALID_PARAMS, None),
            Self::UnsupportedVersion { requested } => {
                let supported = ProtocolVersion::SERVED.map(ProtocolVersion::as_str);
                let data = json!({"supported": supported, "requested": requested});
                (S::BAD_REQUEST, code::UNSUPPORTED_VERSION, Some(data))
            }
            Self::MissingCapability { required } => {
                let data = json!({"requiredCapabilities": required});
                (S::BAD_REQUEST, code::MISSING_CAPABILITY, Some(data))
            }
            Self::MethodNotFound { .. } => (in_band(S::NOT_FOUND), code::METHOD_NOT_FOUND, None),
            Self::InvalidParams { .. } => (in_band(S::OK), code::INVALID_PARAMS, None),
            Self::NotAcceptable => (S::NOT_ACCEPTABLE, code::INVALID_REQUEST, None),
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => {
                (S::UNSUPPORTED_MEDIA_TYPE, code::INVALID_REQUEST, None)
            }
            Self::UnknownSession => (S::NOT_FOUND, code::INVALID_REQUEST, None),
            Self::Unavailable { .. } | Self::Internal => (S::OK, code::INTERNAL, None),
        };
        ErrorReply {
            era,
            status,
            code,
            message: self.to_string(),
            data,
        }
    }

    /// For a method that this peer may not send, or that its revision does not have.
    pub fn no_method(method: &Method) -> Self {
        Self::MethodNotFound {
            method: shown(method.as_str()),
        }
    }

    /// For a revision that is not served.
    pub fn no_version(requested: &str) -> Self {
        Self::UnsupportedVersion {
            requested: shown(requested),
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It may happen.
    Allow,
    /// It does not happen before people approve it.
    Hold,
    /// It does not happen.
    Deny,
}

/// What a caller learns about a decision: the reason that policy chose to give, and where it is on
/// record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was decided.
    pub effect: Effect,
    /// Why, in words that the caller may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The policies that made it, unless the node keeps them to itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Vec<String>>,
    /// Its entry; a refusal because nothing can be recorded has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordRef>,
    /// What the caller is to mind, in the words of policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was asked of people, if it waits for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
}

/// An approval that a call waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// What it is called.
    pub id: Handle,
    /// Where people answer.
    pub url: String,
    /// Until when they may, or it may be used.
    pub until: Time,
}

impl Verdict {
    /// As it stands in `_meta` under [`meta::DECISION`] and in an error's data.
    #[expect(
        clippy::expect_used,
        reason = "an object of strings and integers always serialises"
    )]
    pub fn raw(&self) -> Raw<'static> {
        Raw::of(self).expect("a verdict serialises")
    }
}

/// A response with a result.
pub fn success(id: &Raw<'_>, result: &Raw<'_>) -> Bytes {
    let (id, result) = (id.as_str(), result.as_str());
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()
}

/// A response with an error. Where the id could not be read, a legacy one says null and a modern
/// one says nothing.
pub fn failure(
    id: Option<&Raw<'_>>,
    era: Era,
    code: i64,
    message: &str,
    data: Option<&Raw<'_>>,
) -> Bytes {
    let id = match (id, era) {
        (Some(id), _) => format!(r#""id":{},"#, id.as_str()),
        (None, Era::Legacy) => r#""id":null,"#.to_owned(),
        (None, Era::Modern) => String::new(),
    };
    let message = Raw::string(message);
    let message = message.as_str();
    let data = data.map_or_else(String::new, |data| format!(r#","data":{}"#, data.as_str()));
    format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":{message}{data}}}}}"#).into()
}

/// The answer to a tool call that is refused: a result that the model reads, not an error that ends
/// its session.
pub fn denied_tool_call(id: &Raw<'_>, era: Era, text: &str, verdict: &Verdict) -> Bytes {
    let text = Raw::string(text);
    let kind = match era {
        Era::Modern => r#""resultType":"complete","#,
        Era::Legacy => "",
    };
    let result = format!(
        r#"{{{kind}"content":[{{"type":"text","text":{}}}],"isError":true,"_meta":{{"{}":{}}}}}"#,
        text.as_str(),
        meta::DECISION,
        verdict.raw().as_str()
    );
    let id = id.as_str();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()
}

/// The answer to a request of 2026-07-28 that waits for people, for a client that can have a URL
/// opened: it asks for that, under `key`, and is asked again.
pub fn ask_url(id: &Raw<'_>, (key, url, text): (&str, &str, &str), verdict: &Verdict) -> Bytes {
    let [key, url, text] = [key, url, text].map(Raw::string);
    let asked = format!(
        r#"{{{}:{{"method":"elicitation/create","params":{{"mode":"url","message":{},"url":{}}}}}}}"#,
        key.as_str(),
        text.as_str(),
        url.as_str()
    );
    let result = format!(
        r#"{{"resultType":"input_required","inputRequests":{asked},"_meta":{{"{}":{}}}}}"#,
        meta::DECISION,
        verdict.raw().as_str()
    );
    let id = id.as_str();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#).into()
}

/// The answer to any other request that is refused; it goes out with HTTP 200.
pub fn denied(id: &Raw<'_>, era: Era, text: &str, verdict: &Verdict) -> Bytes {
    failure(Some(id), era, code::DENIED, text, Some(&verdict.raw()))
}

/// A text of a peer's, short enough to be said back to it.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    if text.chars().nth(CHARS_MAX).is_none() {
        return text.to_owned();
    }
    text.chars().take(CHARS_MAX).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
