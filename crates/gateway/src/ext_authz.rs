//! gRPC `ext_authz` (`envoy.service.auth.v3.Authorization/Check`): Envoy, agentgateway and others ask
//! about each HTTP request to an MCP server that they stand in front of.
//!
//! One unary call on HTTP/2, without a framework: [`grpc`] frames it, [`proto`] reads it, and here
//! it is looked at like a request to `/mcp/{upstream}`: who sends it, then its whole body, then
//! whether its headers say what its body says. Every way out but one is a denial, and a clean one:
//! a proxy that lets pass what it got no answer to does not let pass what was denied.

pub(crate) mod grpc;
pub(crate) mod proto;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mcp::error::{Effect, ProtocolError};
use mcp::headers::{self, Opening};
use mcp::{Era, Frame, Method, Notification, ProtocolVersion, Raw, Request};

use self::proto::Check;
use crate::call;
use crate::elsewhere::{self, Asker, Matter, Who};
use crate::face;
use crate::plane::{Plane, Served};

/// The name under which a proxy's configuration says what a request is for.
const SERVICE: &str = "service";
/// Envoy says with it whether the body that it sends is the whole one.
const PARTIAL: &str = "x-envoy-auth-partial-body";
/// What the server behind the proxy does not get to see.
const OURS: [&str; 2] = ["authorization", "dpop"];

/// The answer to a proxy.
#[derive(Debug)]
enum Ruling {
    Through,
    Denied(Denied),
}

/// A refused request, and what its sender gets.
#[derive(Debug)]
struct Denied {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

impl Denied {
    fn json(status: StatusCode, body: Bytes) -> Self {
        Self {
            status,
            headers: vec![(CONTENT_TYPE.as_str(), "application/json".to_owned())],
            body,
        }
    }

    fn plain(status: StatusCode, text: &str) -> Self {
        let code = mcp::error::code::INVALID_REQUEST;
        Self::json(
            status,
            mcp::error::failure(None, Era::Legacy, code, text, None),
        )
    }

    fn protocol(error: &ProtocolError, era: Era, id: Option<&Raw<'_>>) -> Self {
        let reply = error.reply(era);
        Self::json(reply.status, reply.body(id))
    }
}

/// Answers one `CheckRequest` with a `CheckResponse`.
async fn check(plane: &Arc<Plane>, asker: Option<&Asker>, message: &[u8]) -> Bytes {
    let ruling = match (asker, Check::parse(message)) {
        (Some(asker), Ok(check)) => rule(plane, asker, &check).await,
        (None, _) => {
            plane.refusals.note("unknown-asker", "ext-authz", None);
            Err(Denied::plain(
                StatusCode::FORBIDDEN,
                "the proxy that asks has not shown the token of a policy enforcement point",
            ))
        }
        (Some(_), Err(error)) => {
            plane.refusals.note("bad-check", "ext-authz", None);
            tracing::warn!(error = %error, "A proxy asked with something that is no CheckRequest");
            Err(Denied::plain(
                StatusCode::FORBIDDEN,
                "the request could not be checked",
            ))
        }
    };
    match ruling.unwrap_or_else(Ruling::Denied) {
        Ruling::Through => proto::allowed(&OURS),
        Ruling::Denied(denied) => {
            let headers: Vec<(&str, &str)> = denied
                .headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            proto::denied(denied.status.as_u16(), &headers, &denied.body)
        }
    }
}

async fn rule(plane: &Arc<Plane>, asker: &Asker, check: &Check<'_>) -> Result<Ruling, Denied> {
    let served = match check.extension(SERVICE) {
        Some(named) => named.parse().ok(),
        None => asker.only().cloned(),
    };
    let served = served.and_then(|name| asker.served(plane, &name));
    let served = served.ok_or_else(|| {
        plane.refusals.note("not-for-asker", "ext-authz", None);
        Denied::plain(
            StatusCode::FORBIDDEN,
            "the proxy that asks does not stand in front of what it names, or names nothing",
        )
    })?;
    let bad = |status, text: &str| {
        plane.refusals.note("bad-check", "ext-authz", None);
        Denied::plain(status, text)
    };
    let headers =
        headers_of(check).ok_or_else(|| bad(StatusCode::BAD_REQUEST, "a header is not one"))?;
    // The decision is about this one endpoint, with nothing beside it that nobody looked at.
    if check.path != path_of(served.endpoint()) {
        let text = "this is not the path of the service; see `url` in its configuration";
        return Err(bad(StatusCode::NOT_FOUND, text));
    }
    if [check.query, check.fragment]
        .iter()
        .flatten()
        .any(|it| !it.is_empty())
    {
        let text = "there is a query or a fragment beside the path";
        return Err(bad(StatusCode::BAD_REQUEST, text));
    }
    let method = check.method.unwrap_or_default();
    let who = Who::proven(plane, served, &headers, method, served.endpoint());
    let who = who.map_err(|challenge| {
        plane.refusals.note(challenge.word(), "ext-authz", None);
        let mut denied = Denied::plain(challenge.status(), &challenge.description());
        let challenges = challenge.www_authenticate().into_iter();
        denied
            .headers
            .extend(challenges.map(|it| (WWW_AUTHENTICATE.as_str(), it)));
        denied
    })?;
    let asked = Sent {
        plane,
        asker,
        served,
        who: &who,
        headers: &headers,
        id: check.id.unwrap_or_default(),
    };
    match method {
        "POST" => asked.post(check).await,
        // A stream that the client opens, or the end of its session: there is nothing in it.
        "GET" | "DELETE" if check.body.is_none() && !is_otherwise_long(check, 0) => {
            Ok(Ruling::Through)
        }
        _ => Err(bad(
            StatusCode::METHOD_NOT_ALLOWED,
            "use POST, GET or DELETE",
        )),
    }
}

/// Whether the proxy says of the body that it has another length. Zero is what it says that does not
/// say it, and less is what it says that does not know.
fn is_otherwise_long(check: &Check<'_>, length: usize) -> bool {
    let said = check.size.filter(|size| *size > 0);
    said.is_some_and(|size| usize::try_from(size).ok() != Some(length))
}

/// The path of a URL; none if that cannot be said.
fn path_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    Some(rest.find('/').map_or("/", |at| rest.split_at(at).1))
}

/// The headers of a request; none if one of them is not a header. The pseudo-headers of HTTP/2 are
/// not among them.
fn headers_of(check: &Check<'_>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &check.headers {
        if name.starts_with(':') {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    Some(headers)
}

/// A request whose sender is known.
struct Sent<'a> {
    plane: &'a Arc<Plane>,
    asker: &'a Asker,
    served: &'a Arc<Served>,
    who: &'a Who,
    headers: &'a HeaderMap,
    id: &'a str,
}

impl Sent<'_> {
    fn turned(&self, error: &ProtocolError, era: Era, id: Option<&Raw<'_>>) -> Denied {
        let instance = Some(self.who.instance());
        self.plane
            .refusals
            .note("bad-message", "ext-authz", instance);
        Denied::protocol(error, era, id)
    }

    fn bad(&self, status: StatusCode, text: &str) -> Denied {
        let instance = Some(self.who.instance());
        self.plane.refusals.note("bad-check", "ext-authz", instance);
        Denied::plain(status, text)
    }

    /// The whole body, if that is what the proxy sent.
    fn body(&self, check: &Check<'_>) -> Result<Bytes, Denied> {
        let partial = self.headers.get_all(PARTIAL);
        if partial.iter().any(|it| it.as_bytes() != b"false") {
            return Err(self.bad(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the proxy sent a part of the body; what was not seen is not permitted",
            ));
        }
        let body = check.body.ok_or_else(|| {
            self.bad(
                StatusCode::FORBIDDEN,
                "the proxy sent no body; it needs `with_request_body`",
            )
        })?;
        let lengths = self.headers.get_all(CONTENT_LENGTH);
        let whole = |it: &HeaderValue| {
            let length = it.to_str().ok().and_then(|it| it.parse::<usize>().ok());
            length == Some(body.len())
        };
        if !lengths.iter().all(whole) {
            let text = "the body is not as long as `Content-Length` says";
            return Err(self.bad(StatusCode::BAD_REQUEST, text));
        }
        if is_otherwise_long(check, body.len()) {
            let text = "the body is not as long as the proxy says";
            return Err(self.bad(StatusCode::BAD_REQUEST, text));
        }
        Ok(Bytes::copy_from_slice(body))
    }

    async fn post(&self, check: &Check<'_>) -> Result<Ruling, Denied> {
        let modern = self
            .headers
            .get(headers::PROTOCOL_VERSION)
            .is_some_and(|it| it.as_bytes() == ProtocolVersion::LATEST.as_str().as_bytes());
        let era = if modern { Era::Modern } else { Era::Legacy };
        headers::check_post(self.headers).map_err(|error| self.turned(&error, era, None))?;
        let body = self.body(check)?;
        let frame = Frame::from_client(body)
            .map_err(|error| self.turned(&ProtocolError::Frame(error), era, None))?;
        let opening = Opening::of(self.headers, &frame);
        let opening = opening.map_err(|error| match &frame {
            Frame::Request(request) => self.turned(&error, era, Some(&request.id())),
            Frame::Notification(_) | Frame::Response(_) => self.turned(&error, era, None),
        })?;
        let era = opening.era();
        // A server of both eras could believe a header that this message's era does not have.
        let mirrors = |name: &HeaderName| {
            *name == headers::METHOD
                || *name == headers::NAME
                || name.as_str().starts_with(headers::PARAM_PREFIX)
        };
        if era == Era::Legacy && self.headers.keys().any(mirrors) {
            let text = "a message of a session has no `Mcp-Method`, `Mcp-Name` or `Mcp-Param-*`";
            return Err(self.bad(StatusCode::BAD_REQUEST, text));
        }
        match frame {
            Frame::Request(request) => self.request(request, era).await,
            Frame::Notification(notification) if is_bare(&notification) => Ok(Ruling::Through),
            Frame::Notification(_) => Err(self.bad(
                StatusCode::FORBIDDEN,
                "a notification that says more than that something is so is not let through",
            )),
            // What the server asked, and whether its client was permitted to hear it, is not known.
            Frame::Response(_) => Err(self.turned(&ProtocolError::UnexpectedResponse, era, None)),
        }
    }

    async fn request(&self, request: Request, era: Era) -> Result<Ruling, Denied> {
        let method = request.method();
        let version = match era {
            Era::Modern => ProtocolVersion::LATEST,
            Era::Legacy => ProtocolVersion::LATEST_LEGACY,
        };
        let known = !matches!(method, Method::Other(_));
        if !known || !method.is_for_servers() || !method.is_in(version) {
            let error = ProtocolError::no_method(method);
            return Err(self.turned(&error, era, Some(&request.id())));
        }
        if method.free().is_some() {
            return Ok(Ruling::Through);
        }
        self.plane.ensure_tools(self.served).await;
        if era == Era::Modern
            && *method == Method::ToolsCall
            && let Some((_, tools)) = self.plane.known_tools(self.served.name())
            && let Some(name) = request.name().and_then(|name| name.parse().ok())
            && let Some(annotations) = tools.param_headers(&name)
        {
            annotations
                .check(self.headers, request.arguments())
                .map_err(|error| {
                    let error = ProtocolError::Header(error);
                    self.turned(&error, era, Some(&request.id()))
                })?;
        }
        let request = Arc::new(request);
        let subject = call::subject(&request);
        let Some((target, args)) = subject.parts() else {
            return Err(self.bad(StatusCode::BAD_REQUEST, "a tool cannot have that name"));
        };
        let trace = self.headers.get("traceparent");
        let trace = trace.and_then(|trace| face::trace_id(trace.to_str().ok()?));
        let matter = Matter {
            served: self.served,
            method: request.method().as_str(),
            target,
            args,
            request: Some(&request),
            id: request.id_text(),
            trace: trace.as_deref(),
        };
        tracing::debug!(request.id = self.id, "A proxy asks about a request");
        let answer = elsewhere::answer(self.plane, self.asker, self.who, &matter);
        let verdict = Box::pin(answer).await;
        if verdict.effect == Effect::Allow {
            return Ok(Ruling::Through);
        }
        let reason = verdict.reason.clone().unwrap_or_default();
        let id = request.id();
        let body = match request.method() {
            Method::ToolsCall => mcp::error::denied_tool_call(&id, era, &reason, &verdict),
            _ => mcp::error::denied(&id, era, &reason, &verdict),
        };
        // As the gateway itself answers: the session goes on, and the model reads why.
        Ok(Ruling::Denied(Denied::json(StatusCode::OK, body)))
    }
}

/// Whether a client's notification says nothing but that something is so, in fields that hold no
/// words: it is not decided, so it must be no way to say any.
fn is_bare(notification: &Notification) -> bool {
    let allowed: &[&str] = match notification.method() {
        Method::Initialized | Method::RootsChanged => &[],
        Method::Cancelled => &["requestId"],
        Method::Progress => &["progressToken", "progress", "total"],
        _ => return false,
    };
    notification.params().is_none_or(|params| {
        params
            .members()
            .all(|member| allowed.contains(&&*member.name()))
    })
}

#[cfg(test)]
mod tests;
