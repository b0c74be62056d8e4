//! The side that clients see: `/mcp/{upstream}`, in both eras of MCP.
//!
//! The order is the defence: the names a request calls us by, then who asks (headers only), then
//! the body, read once and strictly, then what it asks for.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response as HttpResponse;
use axum::routing::any;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, Method as Verb, Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use mcp::error::ProtocolError;
use mcp::frame::{ReplyEdit, meta};
use mcp::headers::{self, Opening as Opens};
use mcp::{Era, Frame, Json, Method, Notification, ProtocolVersion, Raw, Request, Response};
use register::Why;
use tokens::Caller;
use vocab::UpstreamName;
use vocab::limits::{BODY_BYTES_MAX, BODY_SECONDS_MAX};

use crate::answer::{self, Answer, Event, Out};
use crate::call::{self, Call};
use crate::cors::Crossing;
use crate::ending::{Ended, Ending};
use crate::looks::{Overheard, Passed};
use crate::pass;
use crate::plane::{Plane, Served};
use crate::route::{Route, heed};
use crate::session::Session;
use crate::upstream::{Link, MessageKind, Opening, Transport, chain};

/// Asks, on a `GET`, for the stream of the caller's own standing.
pub const STANDING: HeaderName = HeaderName::from_static("tipstaff-standing");
/// What clients use.
const METHODS: &str = "POST, GET, DELETE";

/// The routes of the gateway.
pub fn router(plane: Arc<Plane>) -> Router {
    Router::new()
        .route("/mcp/{upstream}", any(entry))
        .with_state(Arc::clone(&plane))
        .merge(crate::access::router(plane))
}

/// A request that is turned away before there is anything to decide.
#[derive(Debug)]
struct Turned {
    status: StatusCode,
    body: Bytes,
    headers: HeaderMap,
}

impl Turned {
    fn protocol(error: &ProtocolError, era: Era, id: Option<&Raw<'_>>) -> Self {
        let reply = error.reply(era);
        Self {
            status: reply.status,
            body: reply.body(id),
            headers: HeaderMap::new(),
        }
    }

    fn text(status: StatusCode, text: &str) -> Self {
        let code = mcp::error::code::INVALID_REQUEST;
        let body = mcp::error::failure(None, Era::Legacy, code, text, None);
        Self {
            status,
            body,
            headers: HeaderMap::new(),
        }
    }

    fn respond(self) -> HttpResponse {
        let mut response = HttpResponse::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.headers_mut().extend(self.headers);
        response
    }
}

async fn entry(
    State(plane): State<Arc<Plane>>,
    Path(name): Path<String>,
    request: HttpRequest<Body>,
) -> HttpResponse {
    let crossing = match Crossing::of(&plane.hosts, request.uri(), request.headers()) {
        Ok(crossing) => crossing,
        Err(error) => {
            plane.refusals.note("host-or-origin", "mcp", None);
            return Turned::text(StatusCode::FORBIDDEN, &error.to_string()).respond();
        }
    };
    if let Some(answer) = crossing.preflight(request.method(), request.headers(), METHODS) {
        return answer;
    }
    let mut response = match serve(&plane, &name, request).await {
        Ok(response) => response,
        Err(turned) => turned.respond(),
    };
    crossing.mark(response.headers_mut());
    response
}

async fn serve(
    plane: &Arc<Plane>,
    name: &str,
    request: HttpRequest<Body>,
) -> Result<HttpResponse, Turned> {
    let (parts, body) = request.into_parts();
    let served = name
        .parse::<UpstreamName>()
        .ok()
        .and_then(|name| plane.upstreams.get(&name))
        .filter(|served| !served.is_elsewhere());
    let Some(served) = served else {
        plane.refusals.note("no-such-upstream", "mcp", None);
        return Err(Turned::text(StatusCode::NOT_FOUND, "there is nothing here"));
    };
    let caller = match plane
        .issuer
        .verify(&parts.headers, parts.method.as_str(), &served.resource)
    {
        Ok(caller) => caller,
        Err(challenge) => {
            plane.refusals.note(challenge.cause().as_str(), "mcp", None);
            return Err(challenged(&challenge));
        }
    };
    let from = From {
        plane,
        caller: Arc::new(caller),
        served,
        headers: &parts.headers,
    };
    match parts.method {
        Verb::POST => from.post(body).await,
        Verb::GET => Box::pin(from.get()).await,
        Verb::DELETE => Box::pin(from.delete()).await,
        _ => Err(not_allowed()),
    }
}

fn challenged(challenge: &tokens::Challenge) -> Turned {
    let mut turned = Turned::text(challenge.status(), &challenge.description());
    for text in challenge.www_authenticate() {
        if let Ok(value) = HeaderValue::from_str(&text) {
            turned.headers.append(WWW_AUTHENTICATE, value);
        }
    }
    turned
}

fn not_allowed() -> Turned {
    let mut turned = Turned::text(StatusCode::METHOD_NOT_ALLOWED, "use POST, GET or DELETE");
    turned
        .headers
        .insert(ALLOW, HeaderValue::from_static(METHODS));
    turned
}

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLong,
    Broken,
}

/// A whole body, if it comes in time.
pub(crate) async fn read(body: Body, within: Duration) -> Result<Bytes, Unread> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(within, read).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLong),
        Ok(Err(_)) | Err(_) => Err(Unread::Broken),
    }
}

/// A request whose sender is known.
struct From<'a> {
    plane: &'a Arc<Plane>,
    caller: Arc<Caller>,
    served: &'a Arc<Served>,
    headers: &'a HeaderMap,
}

impl From<'_> {
    fn turned(&self, error: &ProtocolError, era: Era, id: Option<&Raw<'_>>) -> Turned {
        self.plane
            .refusals
            .note("bad-message", "mcp", Some(self.caller.instance()));
        Turned::protocol(error, era, id)
    }

    async fn post(self, body: Body) -> Result<HttpResponse, Turned> {
        // The version header is all that tells the era of a request that cannot be read.
        let modern = self
            .headers
            .get(headers::PROTOCOL_VERSION)
            .is_some_and(|it| it.as_bytes() == ProtocolVersion::LATEST.as_str().as_bytes());
        let era = if modern { Era::Modern } else { Era::Legacy };
        headers::check_post(self.headers).map_err(|error| self.turned(&error, era, None))?;
        let bytes = match read(body, Duration::from_secs(BODY_SECONDS_MAX)).await {
            Ok(bytes) => bytes,
            Err(Unread::TooLong) => {
                let error = ProtocolError::BodyTooLong {
                    max: BODY_BYTES_MAX,
                };
                return Err(self.turned(&error, era, None));
            }
            Err(Unread::Broken) => {
                return Err(Turned::text(
                    StatusCode::BAD_REQUEST,
                    "the body is too slow or cut short",
                ));
            }
        };
        let frame = Frame::from_client(bytes)
            .map_err(|error| self.turned(&ProtocolError::Frame(error), era, None))?;
        let opens = Opens::of(self.headers, &frame);
        let opens = opens.map_err(|error| match &frame {
            Frame::Request(request) => self.turned(&error, era, Some(&request.id())),
            Frame::Notification(_) | Frame::Response(_) => self.turned(&error, era, None),
        })?;
        match (opens, frame) {
            (Opens::Modern(_), Frame::Request(request)) => self.modern(request).await,
            (Opens::Modern(_), Frame::Notification(_)) => Ok(accepted()),
            (Opens::Modern(_), Frame::Response(_)) => {
                Err(self.turned(&ProtocolError::UnexpectedResponse, Era::Modern, None))
            }
            (Opens::Initialize, Frame::Request(request)) => {
                Box::pin(self.initialize(request)).await
            }
            (Opens::Initialize | Opens::Legacy(_), frame) => self.legacy(frame).await,
        }
    }

    async fn modern(self, request: Request) -> Result<HttpResponse, Turned> {
        let method = request.method();
        let known = !matches!(method, Method::Other(_));
        if !known || !method.is_for_servers() || !method.is_in(ProtocolVersion::LATEST) {
            let error = ProtocolError::no_method(method);
            return Err(self.turned(&error, Era::Modern, Some(&request.id())));
        }
        if let Some((_, tools)) = self.plane.known_tools(&self.served.name)
            && *method == Method::ToolsCall
            && let Some(name) = request.name().and_then(|name| name.parse().ok())
            && let Some(annotations) = tools.param_headers(&name)
        {
            annotations
                .check(self.headers, request.arguments())
                .map_err(|error| {
                    self.turned(
                        &ProtocolError::Header(error),
                        Era::Modern,
                        Some(&request.id()),
                    )
                })?;
        }
        self.run(request, Era::Modern, None).await
    }

    /// The session that the request names.
    fn session(&self) -> Result<Arc<Session>, ProtocolError> {
        let mut named = self.headers.get_all(headers::SESSION_ID).iter();
        let id = named.next().ok_or(ProtocolError::MissingSession)?;
        let id = id.to_str().map_err(|_| ProtocolError::UnknownSession)?;
        let now = self.plane.clock.elapsed();
        let session = self
            .plane
            .sessions
            .get(id, self.caller.instance(), &self.served.name, now);
        match (session, named.next()) {
            (Some(session), None) => Ok(session),
            _ => Err(ProtocolError::UnknownSession),
        }
    }

    async fn legacy(self, frame: Frame) -> Result<HttpResponse, Turned> {
        let id = match &frame {
            Frame::Request(request) => Some(request.id().into_owned()),
            Frame::Notification(_) | Frame::Response(_) => None,
        };
        let session = self
            .session()
            .map_err(|error| self.turned(&error, Era::Legacy, id.as_ref()))?;
        match frame {
            Frame::Request(request) => self.legacy_request(request, session).await,
            Frame::Notification(notification) => {
                Box::pin(self.notified(&notification, &session)).await
            }
            Frame::Response(response) => Box::pin(self.answered(&response, &session)).await,
        }
    }

    async fn legacy_request(
        self,
        request: Request,
        session: Arc<Session>,
    ) -> Result<HttpResponse, Turned> {
        let method = request.method();
        if *method == Method::Ping {
            let empty = Raw::of(&serde_json::json!({})).unwrap_or(Raw::NULL);
            let body = mcp::error::success(&request.id(), &empty);
            return Ok(json(StatusCode::OK, body));
        }
        let known = !matches!(method, Method::Other(_));
        if !known || !method.is_for_servers() || !method.is_in(ProtocolVersion::LATEST_LEGACY) {
            let error = ProtocolError::no_method(method);
            return Err(self.turned(&error, Era::Legacy, Some(&request.id())));
        }
        self.run(request, Era::Legacy, Some(session)).await
    }

    fn call(&self, request: Request, era: Era, session: Option<Arc<Session>>) -> Arc<Call> {
        let parent = request
            .meta()
            .and_then(|it| it.get(meta::TRACE_PARENT)?.as_str().map(Cow::into_owned))
            .or_else(|| {
                Some(
                    self.headers
                        .get(meta::TRACE_PARENT)?
                        .to_str()
                        .ok()?
                        .to_owned(),
                )
            });
        Arc::new(Call {
            asked: None,
            caller: Arc::clone(&self.caller),
            served: Arc::clone(self.served),
            request: Arc::new(request),
            era,
            trace: parent.as_deref().and_then(trace_id),
            sampled: parent.as_deref().is_some_and(is_sampled),
            session,
            sent_as: OnceLock::new(),
            looks: OnceLock::new(),
        })
    }

    /// Runs a request on a task of its own: a client that goes away does not take the record of
    /// the outcome with it.
    async fn run(
        self,
        request: Request,
        era: Era,
        session: Option<Arc<Session>>,
    ) -> Result<HttpResponse, Turned> {
        let call = self.call(request, era, session);
        if let Some(session) = &call.session {
            session.carries(&call);
        }
        let plane = Arc::clone(self.plane);
        let (out, back) = answer::channel();
        self.plane.tasks.spawn(async move {
            match call.request.method().free() {
                Some(_) => Box::pin(pass::pass(&plane, &call, out)).await,
                None => Box::pin(call::walk(&plane, &call, out)).await,
            }
        });
        Ok(back.into_response().await)
    }

    /// `initialize`: opens a session.
    async fn initialize(self, request: Request) -> Result<HttpResponse, Turned> {
        let call = self.call(request, Era::Legacy, None);
        let opened = open_session(self.plane, &call).await;
        let (session, mut answer) = match opened {
            Ok(opened) => opened,
            Err(text) => {
                let answer = pass::trouble(&call, &text);
                return Ok(whole(answer));
            }
        };
        let id = session
            .as_ref()
            .and_then(|session| HeaderValue::from_str(&session.id).ok());
        if let Some(id) = id {
            answer.headers.insert(headers::SESSION_ID, id);
        }
        Ok(whole(answer))
    }

    /// A notification of the client's within a session.
    async fn notified(
        self,
        notification: &Notification,
        session: &Arc<Session>,
    ) -> Result<HttpResponse, Turned> {
        let method = notification.method();
        if !method.is_client_notice() {
            return Ok(accepted());
        }
        let route = Route::between(
            self.plane,
            &self.caller,
            self.served,
            Era::Legacy,
            Some(session),
        );
        let Ok(route) = route.await else {
            return Ok(accepted());
        };
        if let Some(passing) = route.notice(notification, session)
            && let Err(error) = route.link.pass(passing).await
        {
            tracing::debug!(error = %error, "A notification was not sent");
            route.failed(self.plane, &error);
        }
        Ok(accepted())
    }

    /// The client's answer to a request of the server.
    async fn answered(
        self,
        response: &Response,
        session: &Arc<Session>,
    ) -> Result<HttpResponse, Turned> {
        let asked = response.id_text().and_then(|id| session.take_asked(id));
        let Some(asked) = asked else {
            return Err(self.turned(&ProtocolError::UnexpectedResponse, Era::Legacy, None));
        };
        match call::client_answered(self.plane, &self.caller, asked, response).await {
            Ok(()) => Ok(accepted()),
            Err(()) => Err(Turned::text(
                StatusCode::BAD_GATEWAY,
                "the answer was not passed on",
            )),
        }
    }

    /// The stream of what belongs to no request of the client's (legacy era), or of the caller's
    /// own standing.
    async fn get(self) -> Result<HttpResponse, Turned> {
        if !headers::accepts(self.headers, "text", "event-stream") {
            return Err(Turned::text(
                StatusCode::NOT_ACCEPTABLE,
                "`Accept` must list text/event-stream",
            ));
        }
        if self.headers.contains_key(STANDING) {
            return self.standing().ok_or_else(not_allowed);
        }
        if !self.headers.contains_key(headers::SESSION_ID) {
            return Err(not_allowed());
        }
        let session = self
            .session()
            .map_err(|error| self.turned(&error, Era::Legacy, None))?;
        let last = self
            .headers
            .get("last-event-id")
            .and_then(|id| id.to_str().ok());
        let last = last.map(str::to_owned);
        let request = placeholder();
        let Some(request) = request else {
            return Err(not_allowed());
        };
        let call = self.call(request, Era::Legacy, Some(Arc::clone(&session)));
        let route = Route::find(self.plane, &call)
            .await
            .map_err(|_| Turned::text(StatusCode::BAD_GATEWAY, "the upstream cannot be reached"))?;
        let plane = Arc::clone(self.plane);
        let (out, back) = answer::channel();
        if route.is_stdio() {
            let attached = route.attach_stream(&call, &out);
            self.plane.streams.spawn(async move {
                let _attached = attached;
                hold(&plane, &call, &out).await;
            });
            return Ok(back.into_stream());
        }
        let last = match last {
            None => None,
            Some(given) => Some(route.event_id(&plane, &given).ok_or_else(|| {
                let text = "`Last-Event-ID` names no event of this session";
                Turned::text(StatusCode::BAD_REQUEST, text)
            })?),
        };
        let exchange = match route.link.open_stream(last).await {
            Ok(exchange) => exchange,
            Err(error) => {
                route.failed(self.plane, &error);
                return Err(not_allowed());
            }
        };
        self.plane.streams.spawn(async move {
            follow(&plane, &call, &route, exchange, &out).await;
        });
        Ok(back.into_stream())
    }

    /// Says when the caller may act no more, and why: whoever asks for nothing would not hear of it.
    fn standing(self) -> Option<HttpResponse> {
        let call = self.call(placeholder()?, Era::Legacy, None);
        let plane = Arc::clone(self.plane);
        let (out, back) = answer::channel();
        let hearer = self.plane.hearers.add(call.caller.instance());
        self.plane.streams.spawn(async move {
            let narrowed = tokio::select! {
                () = hearer.displaced() => None,
                why = narrowed(&plane, &call, &out) => why,
            };
            if let Some(why) = narrowed {
                let said = serde_json::json!({"standing": why.as_str(), "why": why.to_string()});
                let said = Event::of(Bytes::from(said.to_string()));
                let _client_gone = out.event(said).await;
            }
        });
        Some(back.into_stream())
    }

    /// The end of a session.
    async fn delete(self) -> Result<HttpResponse, Turned> {
        let session = self
            .session()
            .map_err(|error| self.turned(&error, Era::Legacy, None))?;
        self.plane.sessions.remove(&session.id);
        session.close();
        call::abandon(self.plane, session.take_open(), "session-closed").await;
        if matches!(
            self.served.upstream.config().transport,
            Transport::Stdio { .. }
        ) && !self
            .plane
            .sessions
            .has(&session.instance, &session.upstream)
        {
            self.served.upstream.close_owner(session.instance.as_str());
        }
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

/// Opens a session: the client's own `initialize` goes to an upstream of its era; to another, the
/// gateway has spoken already and answers in its place.
async fn open_session(
    plane: &Arc<Plane>,
    call: &Arc<Call>,
) -> Result<(Option<Arc<Session>>, Answer), String> {
    let served = &call.served;
    let name = &served.name;
    plane.life.check().map_err(str::to_owned)?;
    let upstream = &served.upstream;
    let unreachable = |error: &dyn std::error::Error| {
        let why = chain(error);
        tracing::warn!(upstream.name = %name, error = why, "Upstream {name} could not be reached");
        format!(
            "Upstream `{name}` cannot be reached. Why is in the node's log, and `tipstaff doctor` \
             says what to do."
        )
    };
    let stdio = matches!(upstream.config().transport, Transport::Stdio { .. });
    let modern_only = served.has_refused_legacy();
    served.note_owner(call.caller.instance());
    let new_session = |link: (Option<Arc<Link>>, bool)| {
        let now = plane.clock.elapsed();
        plane
            .sessions
            .open(call.caller.instance(), name, link, &*plane.rng, now)
            .map_err(|error| error.to_string())
    };
    let owner = call.caller.instance().as_str();
    if !modern_only && !upstream.config().shared {
        let link = if stdio {
            upstream
                .link(owner, Opening::PassThrough)
                .await
                .map_err(|error| unreachable(&error))?
        } else {
            let opened = upstream.open(Some(call.caller.instance())).await;
            Arc::new(opened.map_err(|error| unreachable(&error))?)
        };
        if let Some(negotiated) = link.negotiated() {
            // A second session of the instance on its one child: the handshake was made.
            let session = new_session((None, false))?;
            let result = pass::handshake(plane, call, &negotiated.result).await?;
            let result = std::str::from_utf8(&result).unwrap_or_default();
            let result = result
                .parse::<Raw<'_>>()
                .map_err(|error| unreachable(&error))?;
            let body = mcp::error::success(&call.request.id(), &result);
            let Ok(Frame::Response(response)) = Frame::parse(body) else {
                return Err(format!(
                    "Upstream `{name}` answered `initialize` with something that is not MCP."
                ));
            };
            let body = response.splice(&[ReplyEdit::StripOwn]);
            return Ok((Some(session), Answer::ok(body)));
        }
        let route = Route::legacy(Arc::clone(&link), stdio);
        let (out, _unheard) = answer::channel();
        let answer = pass::over(plane, call, &route, &out).await;
        if link.negotiated().is_some() {
            let session = new_session(((!stdio).then_some(link), true))?;
            return Ok((Some(session), answer));
        }
        if stdio {
            upstream.close_owner(owner);
        }
        let probed = upstream
            .probe()
            .await
            .map_err(|error| unreachable(&error))?;
        if probed.era() == Era::Legacy {
            // It is of this era and said no; that is for the client to hear.
            return Ok((None, answer));
        }
        served.note_legacy_refused();
    }
    let probed = upstream
        .probe()
        .await
        .map_err(|error| unreachable(&error))?;
    let discovered = pass::handshake(plane, call, &probed.result).await?;
    let discovered = Json::parse(discovered).map_err(|error| unreachable(&error))?;
    let asked = call
        .request
        .param("protocolVersion")
        .and_then(mcp::Value::as_str);
    let (_, result) = mcp::translate::initialize_result(discovered.root(), asked.as_deref());
    let session = new_session((None, false))?;
    let body = mcp::error::success(&call.request.id(), &result);
    Ok((Some(session), Answer::ok(body)))
}

/// Holds a stream open for what a child says outside of any exchange.
async fn hold(plane: &Arc<Plane>, call: &Call, out: &Out) {
    let mut ending = Ending::watch(plane, call, out);
    if ending.check().is_ok() {
        tokio::select! {
            () = out.gone() => {}
            _ended = ending.reached() => {}
        }
    }
}

/// Waits until the caller may act no more. None if the client or the node went before.
async fn narrowed(plane: &Arc<Plane>, call: &Call, out: &Out) -> Option<Why> {
    loop {
        let mut ending = Ending::watch(plane, call, out);
        let ended = match ending.check() {
            Ok(()) => tokio::select! {
                () = out.gone() => return None,
                ended = ending.reached() => ended,
            },
            Err(ended) => ended,
        };
        match ended {
            Ended::Stopped | Ended::Cancelled => return None,
            Ended::Cut(why) => return Some(why),
            // Or it was used since, and has more time.
            Ended::Expired => {
                let (id, now) = (call.caller.instance(), plane.clock.now());
                let standing = plane.control.standing_at(id, &call.served.name, now);
                if let Err(why) = standing.active() {
                    return Some(why);
                }
            }
        }
    }
}

/// Passes on a legacy server's own stream.
async fn follow(
    plane: &Arc<Plane>,
    call: &Arc<Call>,
    route: &Route,
    mut exchange: crate::upstream::Exchange,
    out: &Out,
) {
    let mut overheard = Overheard::default();
    loop {
        let message = tokio::select! {
            () = hold(plane, call, out) => return,
            message = exchange.next() => message,
        };
        let Some(Ok(message)) = message else { return };
        let event = match message.kind {
            MessageKind::Empty => Some(route.event(plane, &message, Bytes::new())),
            MessageKind::Notification => {
                heed(plane, &call.served, &message.json);
                let under_way = call.session.as_ref().map(|it| it.looks());
                let under_way = under_way.unwrap_or_default();
                let passed =
                    pass::noticed(plane, call, &mut overheard, (&message.json, &under_way));
                let json = match passed.await {
                    Passed::Message(json) => route.notification(&json, None),
                    Passed::Withheld(_) => message.event_id.is_some().then(Bytes::new),
                };
                json.map(|json| route.event(plane, &message, json))
            }
            MessageKind::Request => {
                call::ask_client(plane, call, route, message, |event| out.event(event)).await;
                None
            }
            MessageKind::Response => {
                let Ok(Frame::Response(response)) = Frame::parse(message.json.clone()) else {
                    continue;
                };
                let open = response
                    .id_text()
                    .and_then(|id| call.session.as_ref()?.take_loose(id));
                let Some(late) = open else { continue };
                let answer = call::late_answer(plane, call, late, route, &message);
                answer.await.event
            }
        };
        if let Some(event) = event
            && out.event(event).await.is_err()
        {
            return;
        }
    }
}

/// A request that stands for a stream: streams have none of their own.
fn placeholder() -> Option<Request> {
    let text = Bytes::from_static(br#"{"jsonrpc":"2.0","id":0,"method":"ping"}"#);
    match Frame::parse(text) {
        Ok(Frame::Request(request)) => Some(request),
        Ok(Frame::Notification(_) | Frame::Response(_)) | Err(_) => None,
    }
}

/// The trace id of a W3C `traceparent`.
pub(crate) fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let valid = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| id.to_ascii_lowercase())
}

/// Whether a W3C `traceparent` says that its trace is sampled.
fn is_sampled(traceparent: &str) -> bool {
    let flags = traceparent.split('-').nth(3);
    let flags = flags.and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

fn json(status: StatusCode, body: Bytes) -> HttpResponse {
    whole(Answer::with(status, body))
}

fn whole(answer: Answer) -> HttpResponse {
    answer::whole(answer)
}

fn accepted() -> HttpResponse {
    empty(StatusCode::ACCEPTED)
}

fn empty(status: StatusCode) -> HttpResponse {
    answer::whole(Answer::bare(status))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let begun = http_body_util::StreamBody::new(futures_util::stream::pending::<
            Result<http_body::Frame<Bytes>, Infallible>,
        >());
        let never = read(Body::new(begun), Duration::ZERO).await;
        assert_eq!(never, Err(Unread::Broken));
        let there = read(Body::from("{}"), Duration::ZERO).await;
        assert_eq!(there.as_deref(), Ok(&b"{}"[..]));
    }
}
