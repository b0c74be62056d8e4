//! One JSON-RPC message: checked once, kept as the bytes it came in.
//!
//! The envelope, `params` and `params._meta` are read by us, by the upstream and by whatever stands
//! between; a member that another reader might take for one we know (`Method`, `_META`, `paramſ`)
//! is refused, so that what was decided is what is done. Everything else passes as it is.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::error::code;
use crate::json::{Json, JsonError, Kind, Member, NodeId, Raw, Value};
use crate::method::{List, Method};

mod definition;
mod splice;

pub use definition::definition;
pub use splice::{Edit, Param, ReplyEdit};

/// `_meta` names of the protocol.
pub mod meta {
    /// The revision that a modern request is written in.
    pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
    /// What the client of a modern request can do.
    pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
    /// Who the client says it is.
    pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
    /// Which log messages a modern request asks for.
    pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
    /// Who the server says it is.
    pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
    /// Which `subscriptions/listen` a message belongs to.
    pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
    /// What progress notifications of a request are marked with.
    pub const PROGRESS_TOKEN: &str = "progressToken";
    /// The trace that a message belongs to, as W3C's header of that name says it.
    pub const TRACE_PARENT: &str = "traceparent";
    /// What stands in `_meta` of a client's request and never goes to an upstream as it came: the
    /// token, the name and the trace that it gets are ours, and what others hang on a trace, which
    /// may be anything, it does not get.
    pub const REPLACED: &[&str] = &[
        PROGRESS_TOKEN,
        CLIENT_INFO,
        TRACE_PARENT,
        "tracestate",
        "baggage",
    ];
    /// How every name of ours begins; nobody else may say them to us.
    pub const OWN_PREFIX: &str = "dev.tipstaff/";
    /// What we decided about a call.
    pub const DECISION: &str = "dev.tipstaff/decision";
}

const ENVELOPE: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];
const PARAMS: &[&str] = &[
    "_meta",
    "name",
    "arguments",
    "uri",
    "cursor",
    "requestState",
    "inputResponses",
    "inputRequests",
    "ref",
    "argument",
    "context",
    "level",
    "task",
    "taskId",
    "notifications",
    "requestId",
    "reason",
    "progressToken",
    "protocolVersion",
    "capabilities",
    "clientInfo",
];
const META: &[&str] = &[
    meta::PROGRESS_TOKEN,
    meta::PROTOCOL_VERSION,
    meta::CLIENT_CAPABILITIES,
    meta::CLIENT_INFO,
    meta::LOG_LEVEL,
    meta::SERVER_INFO,
    meta::SUBSCRIPTION_ID,
    "io.modelcontextprotocol/related-task",
    meta::TRACE_PARENT,
    "tracestate",
    "baggage",
];
const RESULT: &[&str] = &[
    "_meta",
    "resultType",
    "ttlMs",
    "cacheScope",
    "nextCursor",
    "content",
    "structuredContent",
    "isError",
    "contents",
    "messages",
    "tools",
    "prompts",
    "resources",
    "resourceTemplates",
    "inputRequests",
    "requestState",
    "taskId",
    "capabilities",
    "protocolVersion",
    "supportedVersions",
    "serverInfo",
];
const ERROR: &[&str] = &["code", "message", "data"];

/// Longest part of an unknown member's name that is repeated to its sender, in characters.
const NAME_TOLD_MAX: usize = 64;

/// Why bytes are not a message that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not a JSON document.
    #[error("not JSON that is accepted here")]
    Json(#[from] JsonError),
    /// Several messages in an array.
    #[error("a batch; send one message at a time")]
    Batch,
    /// Neither an object nor a batch.
    #[error("not an object")]
    NotAnObject,
    /// `jsonrpc` is not `"2.0"`.
    #[error("`jsonrpc` is not \"2.0\"")]
    Version,
    /// `id` is neither a string nor an integer.
    #[error("`id` is neither a string nor an integer")]
    Id,
    /// A request's method without an `id`: not a notification, whatever its sender calls it.
    #[error("a request needs an `id`")]
    RequestWithoutId,
    /// A notification's method with an `id`.
    #[error("a notification has no `id`")]
    NotificationWithId,
    /// `method` is not a string.
    #[error("`method` is not a string")]
    Method,
    /// `params` is not an object.
    #[error("`params` is not an object")]
    Params,
    /// `_meta` is not an object.
    #[error("`_meta` is not an object")]
    Meta,
    /// `progressToken` is neither a string nor an integer.
    #[error("`progressToken` is neither a string nor an integer")]
    ProgressToken,
    /// A member whose name differs from a known one only in letter case.
    #[error("a member of {place} is spelled almost like `{known}`")]
    Folded {
        /// Where it stands.
        place: &'static str,
        /// What it could be taken for.
        known: &'static str,
    },
    /// A client's message has a member beside those of JSON-RPC.
    #[error("a message has no member `{member}`: what there is to say stands in `params`")]
    Member {
        /// Its name, or the beginning of it.
        member: String,
    },
    /// Parts of a request and of a response, or a result and an error.
    #[error("at once more than one of a request, a result and an error")]
    Ambiguous,
    /// Neither `method` nor `result` nor `error`.
    #[error("neither a request nor a response")]
    Empty,
    /// `result` is not an object.
    #[error("`result` is not an object")]
    Result,
    /// `error` is not an object with an integer `code` and a string `message`.
    #[error("`error` is not an error object")]
    Error,
}

/// One message.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Expects an answer.
    Request(Request),
    /// Expects none.
    Notification(Notification),
    /// Is one.
    Response(Response),
}

impl Frame {
    /// Reads one message.
    pub fn parse(bytes: Bytes) -> Result<Self, FrameError> {
        let json = Json::parse(bytes)?;
        let root = json.root();
        match root.kind() {
            Kind::Object => {}
            Kind::Array => return Err(FrameError::Batch),
            _ => return Err(FrameError::NotAnObject),
        }
        let [version, id, method, params, result, error] =
            known_members(root, "the message", ENVELOPE)?;
        if version.and_then(Value::as_str).as_deref() != Some("2.0") {
            return Err(FrameError::Version);
        }
        if let Some(method) = method {
            if result.is_some() || error.is_some() {
                return Err(FrameError::Ambiguous);
            }
            let name = method.as_str().ok_or(FrameError::Method)?;
            let (method, place) = (Method::from(&*name), Place::of(params)?);
            let id = id.map(check_id).transpose()?;
            // What is a request is decided by its method, or a request could pass for a notification,
            // which needs no permit.
            match (method.is_notification(), id.is_some()) {
                (true, true) => return Err(FrameError::NotificationWithId),
                (false, false) => return Err(FrameError::RequestWithoutId),
                (true, false) | (false, true) => {}
            }
            return Ok(match id {
                Some(id) => Self::Request(Request(
                    Call {
                        json,
                        method,
                        place,
                    },
                    id,
                )),
                None => Self::Notification(Notification(Call {
                    json,
                    method,
                    place,
                })),
            });
        }
        if params.is_some() {
            return Err(FrameError::Method);
        }
        let (outcome, is_error) = match (result, error) {
            (Some(_), Some(_)) => return Err(FrameError::Ambiguous),
            (None, None) => return Err(FrameError::Empty),
            (Some(result), None) => {
                if !result.is_object() {
                    return Err(FrameError::Result);
                }
                let [meta, ..] = known_members::<{ RESULT.len() }>(result, "`result`", RESULT)?;
                if meta.is_some_and(|meta| !meta.is_object()) {
                    return Err(FrameError::Meta);
                }
                (result, false)
            }
            (None, Some(error)) => {
                let [code, message, _] = known_members(error, "`error`", ERROR)?;
                if !code.is_some_and(Value::is_integer)
                    || !message.is_some_and(|message| message.kind() == Kind::String)
                {
                    return Err(FrameError::Error);
                }
                (error, true)
            }
        };
        let id = match id {
            // Only an error can be about something whose id could not be read.
            None if is_error => None,
            Some(id) if is_error && id.kind() == Kind::Null => None,
            None => return Err(FrameError::Id),
            Some(id) => Some(check_id(id)?),
        };
        let outcome = outcome.id();
        Ok(Self::Response(Response {
            json,
            id,
            outcome,
            is_error,
        }))
    }

    /// Reads one message of a client's. Beside `params` and what a client answers it has nothing to
    /// say: nobody would decide on that, and it would go to the upstream all the same.
    pub fn from_client(bytes: Bytes) -> Result<Self, FrameError> {
        let frame = Self::parse(bytes)?;
        for member in frame.json().root().members() {
            let name = member.name();
            if is_stranger(&name) {
                let member = name.chars().take(NAME_TOLD_MAX).collect();
                return Err(FrameError::Member { member });
            }
        }
        Ok(frame)
    }

    const fn json(&self) -> &Json {
        match self {
            Self::Request(request) => &request.0.json,
            Self::Notification(notification) => &notification.0.json,
            Self::Response(response) => &response.json,
        }
    }

    /// The bytes it was read from.
    pub const fn bytes(&self) -> &Bytes {
        self.json().bytes()
    }
}

fn check_id(id: Value<'_>) -> Result<NodeId, FrameError> {
    if id.kind() == Kind::String || id.is_integer() {
        Ok(id.id())
    } else {
        Err(FrameError::Id)
    }
}

/// The members of these names, in this order; an error for one that is spelled almost like them.
fn known_members<'a, const N: usize>(
    object: Value<'a>,
    place: &'static str,
    known: &'static [&'static str],
) -> Result<[Option<Value<'a>>; N], FrameError> {
    let mut found = [None; N];
    for member in object.members() {
        let name = member.name();
        if let Some(index) = known.iter().position(|known| *known == name) {
            if let Some(slot) = found.get_mut(index) {
                *slot = Some(member.value);
            }
        } else if let Some(folded) = ascii_form(&name)
            && let Some(known) = known
                .iter()
                .find(|known| folded.eq_ignore_ascii_case(known))
        {
            return Err(FrameError::Folded { place, known });
        }
    }
    Ok(found)
}

/// What a reader that ignores letter case, as Go's does, could take `name` for, as far as that is
/// ASCII; some letters of other scripts fold into it.
fn ascii_form(name: &str) -> Option<Cow<'_, str>> {
    if name.is_ascii() {
        return Some(Cow::Borrowed(name));
    }
    // Upper case first: the lower case of `ſ` is itself, its upper case is `S`.
    name.chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .map(|c| c.is_ascii().then_some(c))
        .collect::<Option<String>>()
        .map(Cow::Owned)
}

fn input_request(member: Member<'_>) -> Result<Request, FrameError> {
    const ASKED: &[&str] = &["method", "params"];
    let [method, params] = known_members(member.value, "an input request", ASKED)?;
    question(
        &Raw::string(&member.name()),
        method.ok_or(FrameError::Method)?.text(),
        params.map_or("{}", Value::text),
    )
}

fn question(id: &Raw<'_>, method: &str, params: &str) -> Result<Request, FrameError> {
    let id = id.as_str();
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#);
    match Frame::parse(text.into())? {
        Frame::Request(request) => Ok(request),
        Frame::Notification(_) | Frame::Response(_) => Err(FrameError::Method),
    }
}

fn folds_to(name: &str, known: &str) -> bool {
    ascii_form(name).is_some_and(|name| name.eq_ignore_ascii_case(known))
}

/// Whether JSON-RPC has no such member of a message.
fn is_stranger(name: &str) -> bool {
    !ENVELOPE.contains(&name)
}

/// Whether a `_meta` name is ours, or could be taken for it.
fn is_own(name: &str) -> bool {
    // No letter folds into more ASCII than it has bytes.
    if name.len() < meta::OWN_PREFIX.len() {
        return false;
    }
    name.char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take(meta::OWN_PREFIX.len())
        .last()
        .and_then(|end| name.get(..end))
        .is_some_and(|start| folds_to(start, meta::OWN_PREFIX))
}

/// Where the parts of a request are.
#[derive(Debug, Clone, Copy)]
struct Place {
    params: Option<NodeId>,
    meta: Option<NodeId>,
}

impl Place {
    fn of(params: Option<Value<'_>>) -> Result<Self, FrameError> {
        let Some(params) = params else {
            return Ok(Self {
                params: None,
                meta: None,
            });
        };
        if !params.is_object() {
            return Err(FrameError::Params);
        }
        let [meta, ..] = known_members::<{ PARAMS.len() }>(params, "`params`", PARAMS)?;
        if let Some(meta) = meta {
            if !meta.is_object() {
                return Err(FrameError::Meta);
            }
            let [token, ..] = known_members::<{ META.len() }>(meta, "`_meta`", META)?;
            if let Some(token) = token {
                check_id(token).map_err(|_| FrameError::ProgressToken)?;
            }
        }
        Ok(Self {
            params: Some(params.id()),
            meta: meta.map(Value::id),
        })
    }
}

/// What requests and notifications share.
#[derive(Clone)]
struct Call {
    json: Json,
    method: Method,
    place: Place,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.method, self.json.bytes().len())
    }
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request(Call, NodeId);

/// A notification.
#[derive(Debug, Clone)]
pub struct Notification(Call);

macro_rules! call_accessors {
    ($($name:ident),*) => {
        $(impl $name {
            /// The method.
            pub const fn method(&self) -> &Method {
                &self.0.method
            }

            /// The bytes it was read from.
            pub const fn bytes(&self) -> &Bytes {
                self.0.json.bytes()
            }

            /// `params`.
            pub fn params(&self) -> Option<Value<'_>> {
                self.0.place.params.map(|id| self.0.json.value(id))
            }

            /// `params`, exactly as it stands in the message.
            pub fn params_text(&self) -> Option<&str> {
                self.params().map(Value::text)
            }

            /// A member of `params`.
            pub fn param(&self, name: &str) -> Option<Value<'_>> {
                self.params()?.get(name)
            }

            /// `params._meta`.
            pub fn meta(&self) -> Option<Value<'_>> {
                self.0.place.meta.map(|id| self.0.json.value(id))
            }

            /// A member of `params._meta`, exactly as it stands in the message.
            pub fn meta_text(&self, name: &str) -> Option<&str> {
                Some(self.meta()?.get(name)?.text())
            }

            /// `params._meta.progressToken`, exactly as it stands in the message.
            pub fn progress_token_text(&self) -> Option<&str> {
                self.meta_text(meta::PROGRESS_TOKEN)
            }

            /// The revision that `params._meta` names, if it names one as a string.
            pub fn protocol_version(&self) -> Option<Cow<'_, str>> {
                self.meta()?.get(meta::PROTOCOL_VERSION)?.as_str()
            }

            /// The message with these edits and every other byte as it was. Where two edits are
            /// about the same member, the later holds.
            pub fn splice(&self, edits: &[Edit<'_>]) -> Bytes {
                self.0.splice(edits)
            }
        })*
    };
}

call_accessors!(Request, Notification);

impl Request {
    /// `id`.
    pub fn id(&self) -> Raw<'_> {
        self.0.json.value(self.1).raw()
    }

    /// `id`, exactly as it stands in the message.
    pub fn id_text(&self) -> &str {
        self.0.json.value(self.1).text()
    }

    /// What `params.name` says, if it is a string.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.param("name")?.as_str()
    }

    /// What `params.uri` says, if it is a string.
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        self.param("uri")?.as_str()
    }

    /// What the method's naming parameter says (`Mcp-Name` repeats it), if it is a string.
    pub fn subject(&self) -> Option<Cow<'_, str>> {
        self.param(self.method().rule().name_param?)?.as_str()
    }

    /// `params.arguments`.
    pub fn arguments(&self) -> Option<Value<'_>> {
        self.param("arguments")
    }

    /// `params.arguments`, exactly as it stands in the message.
    pub fn arguments_text(&self) -> Option<&str> {
        self.arguments().map(Value::text)
    }

    /// `params.requestState`, exactly as it stands in the message.
    pub fn request_state(&self) -> Option<&str> {
        self.param("requestState").map(Value::text)
    }

    /// `params.inputResponses`, exactly as it stands in the message.
    pub fn input_responses(&self) -> Option<&str> {
        self.param("inputResponses").map(Value::text)
    }
}

/// A response.
#[derive(Clone)]
pub struct Response {
    json: Json,
    id: Option<NodeId>,
    outcome: NodeId,
    is_error: bool,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_error { "Error" } else { "Result" };
        write!(f, "{kind} ({} bytes)", self.json.bytes().len())
    }
}

impl Response {
    /// The bytes it was read from.
    pub const fn bytes(&self) -> &Bytes {
        self.json.bytes()
    }

    /// `id`; an error may have none.
    pub fn id(&self) -> Option<Raw<'_>> {
        self.id.map(|id| self.json.value(id).raw())
    }

    /// `id`, exactly as it stands in the message.
    pub fn id_text(&self) -> Option<&str> {
        self.id.map(|id| self.json.value(id).text())
    }

    /// Whether it is a JSON-RPC error.
    pub const fn is_error(&self) -> bool {
        self.is_error
    }

    /// `result`.
    pub fn result(&self) -> Option<Value<'_>> {
        (!self.is_error).then(|| self.json.value(self.outcome))
    }

    /// `error`.
    pub fn error(&self) -> Option<Value<'_>> {
        self.is_error.then(|| self.json.value(self.outcome))
    }

    /// `error.code`, if it is of a size that a code can have.
    pub fn error_code(&self) -> Option<i64> {
        self.error()?.get("code")?.as_i64()
    }

    /// A member of `result`.
    pub fn member(&self, name: &str) -> Option<Value<'_>> {
        self.result()?.get(name)
    }

    /// `result.resultType`; what has none is complete.
    pub fn result_type(&self) -> Option<Cow<'_, str>> {
        match self.member("resultType") {
            Some(kind) => kind.as_str(),
            None => self.result().map(|_| Cow::Borrowed("complete")),
        }
    }

    /// What it asks the client: `result.inputRequests`, as requests whose ids are the keys, or what
    /// an error of the legacy era wants opened (`error.data.elicitations`), whose ids are places.
    pub fn input_requests(&self) -> Result<Vec<Request>, FrameError> {
        if self.error_code() == Some(code::URL_ELICITATION) {
            let asked = self
                .error()
                .and_then(|it| it.path(&["data", "elicitations"]));
            let asked = asked.into_iter().flat_map(Value::elements);
            let method = Raw::string(Method::Elicit.as_str());
            return (0..)
                .zip(asked)
                .map(|(at, params)| question(&Raw::integer(at), method.as_str(), params.text()))
                .collect();
        }
        let Some(asked) = self.member("inputRequests") else {
            return Ok(Vec::new());
        };
        if !asked.is_object() {
            return Err(FrameError::Result);
        }
        asked.members().map(input_request).collect()
    }

    /// Whether it is a tool's result that says that the tool failed.
    pub fn is_tool_error(&self) -> bool {
        self.member("isError").and_then(Value::as_bool) == Some(true)
    }

    /// The elements of a listing's list, in order.
    pub fn listed(&self, list: List) -> impl Iterator<Item = Value<'_>> {
        self.member(list.member())
            .into_iter()
            .flat_map(Value::elements)
    }

    /// The message with these edits and every other byte as it was. Where two edits are about the
    /// same member, the later holds.
    pub fn splice(&self, edits: &[ReplyEdit<'_>]) -> Bytes {
        splice::response(self, edits)
    }
}

#[cfg(test)]
mod tests;
