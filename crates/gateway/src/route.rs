//! How one request reaches its upstream, and how what comes back is made the client's again.
//!
//! Client and upstream each speak one era. Within an era what was decided on passes as it is; across
//! eras `mcp::translate` carries listing, tools, resources and prompts. The envelope is ours: ids,
//! progress tokens, headers, the trace and the client's name. Nobody decides on these, so an agent
//! could say anything in them; what is the client's own is put back into what returns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ledger::Recorded;
use mcp::frame::{Edit, Param, ReplyEdit, meta};
use mcp::{Era, Frame, Free, Method, Notification, ProtocolVersion, Raw, Request, Response};
use serde_json::Map;
use tokens::Caller;

use crate::answer::{ClientGone, Event, Out, Side};
use crate::call::{self, Call};
use crate::looks::{self, Edited, Looks, Overheard, Passed};
use crate::outgoing::{Envelope, Outgoing, Passing, next_id, own_info};
use crate::pass;
use crate::plane::{Plane, Served, Tools};
use crate::record::Permit;
use crate::session::{Loose, Session};
use crate::upstream::{
    Cause, Link, Message, MessageKind, OpenError, Opening, SendError, Transport,
};

/// Why no way to the upstream was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    /// No link.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has no counterpart in the upstream's era.
    #[error(transparent)]
    NotCarried(#[from] mcp::translate::NotCarried),
    /// Its headers cannot be made.
    #[error(transparent)]
    Headers(#[from] mcp::headers::HeaderError),
    /// A cursor that this client was not given.
    #[error(
        "this cursor was not given to you, or before this node started: list again without one"
    )]
    Cursor,
    /// It needs a permit.
    #[error("this method needs a permit")]
    NotFree,
}

/// A way to the upstream.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) link: Arc<Link>,
    down: Era,
    up: Era,
    /// What the upstream's side of the conversation speaks.
    version: ProtocolVersion,
    stdio: bool,
    hub: Option<Arc<Hub>>,
    session: Option<Arc<Session>>,
    /// Whether the link serves other instances too.
    is_shared: bool,
    /// The upstream's tools, where we have to write the headers that mirror their arguments.
    tools: Option<Arc<Tools>>,
}

/// What has to be put back into messages that return.
#[derive(Debug, Clone)]
pub(crate) struct Back {
    pub(crate) client_id: Raw<'static>,
    /// The id, and progress token, that the upstream sees.
    ours: i64,
    progress: Option<Raw<'static>>,
}

impl Back {
    /// For a stream of what belongs to no request.
    const fn of_none() -> Self {
        Self {
            client_id: Raw::NULL,
            ours: 0,
            progress: None,
        }
    }

    /// Whether that is what the upstream knows the request by.
    fn is(&self, text: &str) -> bool {
        self.ours != 0 && text.parse() == Ok(self.ours)
    }
}

const TRACE_PARENT: HeaderName = HeaderName::from_static(meta::TRACE_PARENT);

impl Route {
    /// The way for a call.
    pub(crate) async fn find(plane: &Arc<Plane>, call: &Call) -> Result<Self, RouteError> {
        Self::between(
            plane,
            &call.caller,
            &call.served,
            call.era,
            call.session.as_ref(),
        )
        .await
    }

    /// The way for a caller's request of that era.
    pub(crate) async fn between(
        plane: &Arc<Plane>,
        caller: &Caller,
        served: &Arc<Served>,
        era: Era,
        session: Option<&Arc<Session>>,
    ) -> Result<Self, RouteError> {
        let upstream = &served.upstream;
        let stdio = matches!(upstream.config().transport, Transport::Stdio { .. });
        let owner = caller.instance().as_str();
        served.note_owner(caller.instance());
        let own = session.and_then(|session| session.link.clone());
        let link = match own {
            Some(link) => link,
            None if stdio => upstream.link(owner, Opening::Handshake).await?,
            None => {
                match upstream.probe().await?.era() {
                    // Stateless: one link serves all, unless each is reached for as itself.
                    Era::Modern => {
                        let is_personal = upstream.config().account.is_personal();
                        let owner = if is_personal { owner } else { "*" };
                        upstream.link(owner, Opening::PassThrough).await?
                    }
                    Era::Legacy => upstream.link(owner, Opening::Handshake).await?,
                }
            }
        };
        let version = link
            .negotiated()
            .map_or(ProtocolVersion::LATEST, |it| it.version);
        let hub = stdio.then(|| served.hubs.of(plane, served, &link));
        let up = version.era();
        let writes_headers = !stdio && (era != up || up == Era::Modern);
        let tools = writes_headers.then(|| plane.known_tools(&served.name));
        Ok(Self {
            down: era,
            up,
            version,
            link,
            stdio,
            hub,
            session: session.cloned(),
            is_shared: upstream.config().shared,
            tools: tools.flatten().map(|(_, tools)| tools),
        })
    }

    /// The request to send for what was permitted. There is no other way to make one for a method
    /// that needs a permit.
    pub(crate) fn permitted(
        &self,
        cleared: &Recorded<Permit>,
        edited: Option<&Edited>,
        call: &Call,
    ) -> Result<(Outgoing, Back), RouteError> {
        debug_assert!(cleared.receipt().log == vocab::LogName::Calls);
        let request = edited.map_or_else(|| cleared.value().request(), Edited::request);
        let (envelope, back) = self.envelope(request, call)?;
        Ok((Outgoing::permitted(cleared, edited, envelope), back))
    }

    /// The request to send for a method that needs no permit: ours, since what is in the client's
    /// was not decided on.
    pub(crate) fn free(&self, plane: &Plane, call: &Call) -> Result<(Outgoing, Back), RouteError> {
        let request = &call.request;
        let free = request.method().free().ok_or(RouteError::NotFree)?;
        if self.down != self.up {
            mcp::translate::request(request, self.down, self.version)?;
        }
        let mut params = Map::new();
        if free == Free::Initialize {
            let asked = request
                .param("protocolVersion")
                .and_then(mcp::Value::as_str);
            let version = mcp::translate::negotiate(asked.as_deref());
            let can = mcp::capabilities::known(request.param("capabilities"));
            params.insert("protocolVersion".into(), version.as_str().into());
            params.insert("capabilities".into(), can);
            params.insert("clientInfo".into(), mcp::translate::own_info());
        }
        if let (Some(_), Some(cursor)) = (request.method().list(), request.param("cursor")) {
            let given = cursor.as_str().ok_or(RouteError::Cursor)?;
            let about = about_cursor(call);
            let theirs = plane.handed.open(&about, &given);
            params.insert("cursor".into(), theirs.ok_or(RouteError::Cursor)?.into());
        }
        let modern = (self.up == Era::Modern).then(|| {
            let said = request.meta().filter(|_| self.down == Era::Modern);
            let can = said.and_then(|said| said.get(meta::CLIENT_CAPABILITIES));
            // Across eras none: so that nobody asks for what could not be carried back.
            (self.version, mcp::capabilities::known(can))
        });
        let ours = sent_as(call);
        let back = Back {
            client_id: request.id().into_owned(),
            ours,
            progress: None,
        };
        Ok((Outgoing::free(ours, free, params, modern), back))
    }

    /// What of a request's envelope the upstream sees otherwise.
    fn envelope<'a>(
        &self,
        request: &'a Request,
        call: &Call,
    ) -> Result<(Envelope<'a>, Back), RouteError> {
        let ours = sent_as(call);
        let trace = traceparent(call, ours);
        let mut edits = vec![Edit::StripOwn, Edit::Id(Raw::integer(ours))];
        let mut progress = None;
        for name in meta::REPLACED {
            let Some(said) = request.meta().and_then(|meta| meta.get(name)) else {
                continue;
            };
            let instead = match *name {
                meta::PROGRESS_TOKEN => {
                    progress = Some(said.raw().into_owned());
                    Some(Raw::integer(ours))
                }
                // What it is across eras, the translation says.
                meta::CLIENT_INFO if self.down != self.up => continue,
                meta::CLIENT_INFO => Some(own_info()),
                meta::TRACE_PARENT => trace.as_deref().map(Raw::string),
                _ => None,
            };
            edits.push(Edit::Meta(name, instead));
        }
        if self.down != self.up {
            edits.extend(mcp::translate::request(request, self.down, self.version)?);
        }
        let headers = if self.stdio {
            HeaderMap::new()
        } else {
            self.headers(request, trace)?
        };
        let has_progress = progress.is_some();
        let back = Back {
            client_id: request.id().into_owned(),
            ours,
            progress,
        };
        let envelope = Envelope {
            edits,
            id: ours,
            has_progress,
            headers,
        };
        Ok((envelope, back))
    }

    /// Headers for HTTP upstreams. Those that mirror the body are made from it, whatever the client
    /// wrote: what is not in the body was not decided on.
    fn headers(&self, request: &Request, trace: Option<String>) -> Result<HeaderMap, RouteError> {
        let mut headers = match self.up {
            Era::Modern => {
                let tool = (*request.method() == Method::ToolsCall)
                    .then(|| request.name()?.parse().ok())
                    .flatten();
                let annotations = self.tools.as_ref().zip(tool);
                let annotations = annotations.and_then(|(tools, name)| tools.param_headers(&name));
                mcp::headers::of_request(self.version, request, annotations)?
            }
            Era::Legacy => HeaderMap::new(),
        };
        if let Some(trace) = trace.and_then(|trace| HeaderValue::try_from(trace).ok()) {
            headers.insert(TRACE_PARENT, trace);
        }
        Ok(headers)
    }

    /// What goes back to the client for a response.
    pub(crate) fn response(
        &self,
        response: &Response,
        back: &Back,
        edits: &[ReplyEdit<'_>],
        method: &Method,
    ) -> Result<Bytes, mcp::translate::NotCarried> {
        let mut all = Vec::with_capacity(edits.len() + 4);
        all.push(ReplyEdit::Id(back.client_id.borrowed()));
        if *method == Method::Listen {
            let of = response
                .member("_meta")
                .and_then(|it| it.get(meta::SUBSCRIPTION_ID));
            if of.is_some_and(|of| back.is(of.text())) {
                let id = Some(back.client_id.borrowed());
                all.push(ReplyEdit::Meta(meta::SUBSCRIPTION_ID, id));
            }
        }
        if self.down != self.up {
            all.extend(mcp::translate::reply(response, self.down, method)?);
        }
        all.extend(edits.iter().cloned());
        Ok(response.splice(&all))
    }

    /// What goes back to the client for a notification; none if it is not carried. On a stream of
    /// what belongs to no request it may be about one that was answered there.
    pub(crate) fn notification(&self, json: &Bytes, back: Option<&Back>) -> Option<Bytes> {
        let notification = heard(json)?;
        if self.down != self.up && *notification.method() != Method::Progress {
            return None;
        }
        for_client(&notification, back, self.session.as_deref())
    }

    /// An event for the client. What the upstream calls it is sealed, for those who may come back for
    /// what follows it; to nobody else is it of use.
    pub(crate) fn event(&self, plane: &Plane, message: &Message, json: Bytes) -> Event {
        let resumed = self.session.as_ref().filter(|_| self.keeps());
        let id = message.event_id.as_deref().zip(resumed);
        Event {
            json,
            id: id.and_then(|(id, session)| {
                plane.handed.seal(&*plane.rng, &about_event(session), id)
            }),
            retry: message.retry.filter(|_| resumed.is_some()),
        }
    }

    /// The upstream's own id of an event that the client was given; none if it was not.
    pub(crate) fn event_id(&self, plane: &Plane, given: &str) -> Option<String> {
        let session = self.session.as_ref().filter(|_| self.keeps())?;
        plane.handed.open(&about_event(session), given)
    }

    /// The status that goes with a response.
    pub(crate) fn status(&self, message: &Message) -> StatusCode {
        match message.http_status {
            Some(status) if self.down == self.up => status,
            _ => StatusCode::OK,
        }
    }

    /// Registers the call for what its child says outside of any exchange.
    pub(crate) fn attach(&self, call: &Arc<Call>, back: &Back, out: &Out) -> Option<Attached> {
        let hub = self.hub.as_ref()?;
        Some(hub.attach(Sink {
            number: 0,
            call: Arc::clone(call),
            back: back.clone(),
            side: out.side(),
            standing: false,
        }))
    }

    /// Whether a call whose stream ended may still be answered on another.
    pub(crate) fn keeps(&self) -> bool {
        self.down == Era::Legacy && self.up == Era::Legacy && self.session.is_some() && !self.stdio
    }

    /// Keeps such a call.
    pub(crate) fn keep(&self, back: Back, permit: Recorded<Permit>) {
        if let Some(session) = &self.session {
            let mut loose = session.loose.lock().unwrap_or_else(PoisonError::into_inner);
            loose.insert(back.ours, Loose { permit, back });
        }
    }

    /// Notes that something could not be sent: a session that the upstream forgot is over.
    pub(crate) fn failed(&self, plane: &Plane, error: &SendError) {
        if let SendError::NotSent(Cause::SessionGone) = error
            && let Some(session) = &self.session
        {
            plane.sessions.remove(&session.id);
            session.close();
        }
    }

    /// A conversation that a legacy client is about to open.
    pub(crate) const fn legacy(link: Arc<Link>, stdio: bool) -> Self {
        Self {
            link,
            down: Era::Legacy,
            up: Era::Legacy,
            version: ProtocolVersion::LATEST_LEGACY,
            stdio,
            hub: None,
            session: None,
            is_shared: false,
            tools: None,
        }
    }

    /// What the upstream answered to `initialize`, for a client that does not know that method.
    pub(crate) fn legacy_result(&self) -> Option<&Bytes> {
        (self.down == Era::Modern)
            .then(|| self.link.negotiated().map(|it| &it.result))
            .flatten()
    }

    /// Whether the upstream is a child on stdio.
    pub(crate) const fn is_stdio(&self) -> bool {
        self.stdio
    }

    /// The notification to pass on, if it is carried. No permit and no record is asked for it, so it
    /// is made anew, of ids and numbers: it is no way to send words past the ledger.
    pub(crate) fn notice(
        &self,
        notification: &Notification,
        session: &Arc<Session>,
    ) -> Option<Passing> {
        if self.down != self.up {
            return None;
        }
        match notification.method() {
            // On a link that serves several sessions the handshake was made once.
            Method::Initialized if !session.opened_link => None,
            // The client may take back only its own.
            Method::Cancelled => {
                let id = notification.param("requestId")?;
                let ours = session.sent_as(id.text())?;
                Some(Passing::cancelled(&ours.to_string()))
            }
            // What others on the link are doing is nothing to this client.
            _ if self.is_shared => None,
            Method::Progress => {
                let token = notification.param("progressToken")?;
                let theirs = session.reports(token.text())?;
                Passing::progress(&theirs, notification)
            }
            method => Passing::bare(method),
        }
    }

    /// Registers a stream that the client opened for what belongs to no request.
    pub(crate) fn attach_stream(&self, call: &Arc<Call>, out: &Out) -> Option<Attached> {
        let hub = self.hub.as_ref()?;
        Some(hub.attach(Sink {
            number: 0,
            call: Arc::clone(call),
            back: Back::of_none(),
            side: out.side(),
            standing: true,
        }))
    }
}

/// Who is to hear what a stdio child says outside of any exchange.
#[derive(Debug)]
pub(crate) struct Hub {
    sinks: Mutex<Vec<Sink>>,
    next: AtomicU64,
    shared: bool,
}

#[derive(Debug, Clone)]
struct Sink {
    number: u64,
    call: Arc<Call>,
    back: Back,
    side: Side,
    /// A stream that the client opened for just this.
    standing: bool,
}

/// A place in a hub, until it is dropped.
#[derive(Debug)]
pub(crate) struct Attached {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        let mut sinks = self
            .hub
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| sink.number != self.number);
    }
}

impl Hub {
    fn attach(self: &Arc<Self>, mut sink: Sink) -> Attached {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        sink.number = number;
        self.sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sink);
        Attached {
            hub: Arc::clone(self),
            number,
        }
    }

    /// Who hears a message: the request whose subscription it names; else the client's own
    /// stream; else the request that came last. A shared child's words may be about another
    /// instance's call, so of those only changed lists are passed on.
    fn hearer(&self, subscription: Option<&str>) -> Option<Sink> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|sink| !sink.side.is_over());
        if let Some(subscription) = subscription {
            return sinks
                .iter()
                .find(|sink| {
                    *sink.call.request.method() == Method::Listen && sink.back.is(subscription)
                })
                .cloned();
        }
        if self.shared {
            return None;
        }
        sinks
            .iter()
            .rev()
            .find(|sink| sink.standing)
            .or_else(|| sinks.last())
            .cloned()
    }

    /// What is looked into of the calls that a message may be about: where the child serves one
    /// instance, of each that is under way.
    fn looks(&self, hearer: &Sink) -> Vec<Arc<Looks>> {
        if self.shared {
            return hearer.call.looks.get().cloned().into_iter().collect();
        }
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = sinks.iter().filter_map(|sink| sink.call.looks.get());
        looks.cloned().collect()
    }

    fn all(&self) -> Vec<Sink> {
        self.sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

type Held = (Weak<Link>, Arc<Hub>);

/// The hubs of one upstream, by link.
#[derive(Debug, Default)]
pub(crate) struct Hubs {
    hubs: Mutex<HashMap<usize, Held>>,
}

impl Hubs {
    fn of(&self, plane: &Arc<Plane>, served: &Arc<Served>, link: &Arc<Link>) -> Arc<Hub> {
        let key = Arc::as_ptr(link) as usize;
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.retain(|_, (link, _)| link.strong_count() > 0);
        if let Some((_, hub)) = hubs.get(&key) {
            return Arc::clone(hub);
        }
        let hub = Arc::new(Hub {
            sinks: Mutex::default(),
            next: AtomicU64::new(1),
            shared: served.upstream.config().shared,
        });
        hubs.insert(key, (Arc::downgrade(link), Arc::clone(&hub)));
        let task = listen(
            Arc::clone(plane),
            Arc::clone(served),
            Arc::downgrade(link),
            link.unsolicited(),
            Arc::clone(&hub),
        );
        tokio::spawn(task);
        hub
    }
}

/// Passes on what a child says outside of any exchange, until it is gone.
async fn listen(
    plane: Arc<Plane>,
    served: Arc<Served>,
    link: Weak<Link>,
    mut messages: tokio::sync::broadcast::Receiver<Message>,
    hub: Arc<Hub>,
) {
    use tokio::sync::broadcast::error::RecvError;
    let mut overheard = Overheard::default();
    loop {
        let message = match messages.recv().await {
            Ok(message) => message,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        let Some(link) = link.upgrade() else { return };
        match message.kind {
            MessageKind::Response | MessageKind::Empty => {}
            MessageKind::Request => {
                let plane = Arc::clone(&plane);
                let hearer = hub.hearer(None);
                plane.tasks.clone().spawn(ask(plane, link, hearer, message));
            }
            MessageKind::Notification => {
                notify(&plane, &served, &link, &hub, (&message, &mut overheard)).await;
            }
        }
    }
}

async fn ask(plane: Arc<Plane>, link: Arc<Link>, hearer: Option<Sink>, message: Message) {
    let Some(sink) = hearer else {
        // The server is told so, rather than left waiting.
        return link.refuse(message).await;
    };
    let route = Route {
        link,
        down: sink.call.era,
        up: Era::Legacy,
        version: ProtocolVersion::LATEST_LEGACY,
        stdio: true,
        hub: None,
        session: sink.call.session.clone(),
        is_shared: false,
        tools: None,
    };
    let side = sink.side.clone();
    call::ask_client(&plane, &sink.call, &route, message, async |event| {
        side.event(event)
    })
    .await;
}

async fn notify(
    plane: &Arc<Plane>,
    served: &Arc<Served>,
    link: &Arc<Link>,
    hub: &Arc<Hub>,
    (message, overheard): (&Message, &mut Overheard),
) {
    let Some(notification) = heard(&message.json) else {
        return;
    };
    if *notification.method() == Method::ToolsChanged {
        refresh(plane, served);
    }
    let subscription = notification.meta_text(meta::SUBSCRIPTION_ID);
    let changed = matches!(
        notification.method(),
        Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged
    );
    let hearers = match hub.hearer(subscription) {
        Some(sink) => vec![sink],
        // Whatever else stands in it may be about another instance's call.
        None if changed && subscription.is_none() && says_nothing(&notification) => hub.all(),
        None => return,
    };
    let up = link.negotiated().map_or(Era::Modern, |it| it.version.era());
    let findings = overheard.see(plane, &message.json).await;
    for sink in hearers {
        if sink.call.era != up {
            continue;
        }
        let under_way = hub.looks(&sink);
        let beside = looks::beside(plane, &under_way, &message.json).await;
        let passed = if let Some(passed) = beside {
            passed
        } else {
            let message = (&message.json, &findings);
            pass::overhears(plane, &sink.call, overheard, message).await
        };
        let Passed::Message(json) = passed else {
            continue;
        };
        let Some(notification) = heard(&json) else {
            continue;
        };
        let session = sink.call.session.as_deref();
        let Some(json) = for_client(&notification, Some(&sink.back), session) else {
            continue;
        };
        let _gone: Result<(), ClientGone> = sink.side.event(Event::of(json));
    }
}

/// The number that the upstream is to know a call by.
fn sent_as(call: &Call) -> i64 {
    *call.sent_as.get_or_init(next_id)
}

/// Where in the client's trace the request is made: the trace is on record, and the rest is ours.
fn traceparent(call: &Call, ours: i64) -> Option<String> {
    let (trace, flags) = (call.trace.as_deref()?, u8::from(call.sampled));
    Some(format!("00-{trace}-{ours:016x}-{flags:02x}"))
}

/// Whose cursor it is, and of what.
pub(crate) fn about_cursor(call: &Call) -> String {
    let (instance, upstream) = (call.caller.instance(), &call.served.name);
    format!("cursor\n{instance}\n{upstream}\n{}", call.request.method())
}

/// Whose event it is.
fn about_event(session: &Session) -> String {
    format!("event\n{}", session.id)
}

/// A notification with the client's own names for what it is about; none if that is nothing of the
/// client's.
fn for_client(
    notification: &Notification,
    back: Option<&Back>,
    session: Option<&Session>,
) -> Option<Bytes> {
    let mut edits = vec![Edit::StripOwn];
    let late;
    let mut back = back;
    match notification.method() {
        Method::Progress => {
            let token = notification.param("progressToken")?;
            if back.is_none() {
                late = session?.loose_back(token.text());
                back = late.as_ref();
            }
            let back = back.filter(|back| back.is(token.text()))?;
            let theirs = back.progress.as_ref()?.borrowed();
            edits.push(Edit::Param(Param::ProgressToken, Some(theirs)));
        }
        Method::Cancelled => {
            let id = notification.param("requestId")?;
            let own = back.filter(|back| back.is(id.text()));
            let theirs = match own {
                Some(back) => back.client_id.borrowed(),
                None => session?.asked_as(id.text())?.parse().ok()?,
            };
            edits.push(Edit::Param(Param::RequestId, Some(theirs)));
        }
        _ => {}
    }
    if let (Some(back), Some(of)) = (back, notification.meta_text(meta::SUBSCRIPTION_ID))
        && back.is(of)
    {
        let theirs = back.client_id.borrowed();
        edits.push(Edit::Meta(meta::SUBSCRIPTION_ID, Some(theirs)));
    }
    Some(notification.splice(&edits))
}

/// Whether it is one that only says that something changed, how far something is, or that something is
/// not wanted any more, and has no word beside that.
pub(crate) fn says_nothing(notification: &Notification) -> bool {
    let known: &[&str] = match notification.method() {
        Method::ToolsChanged | Method::PromptsChanged | Method::ResourcesChanged => &[],
        Method::Progress => &["progressToken", "progress", "total"],
        Method::Cancelled => &["requestId"],
        Method::Acknowledged => return true,
        _ => return false,
    };
    let Some(params) = notification.params_text() else {
        return true;
    };
    let Ok(serde_json::Value::Object(params)) = serde_json::from_str(params) else {
        return false;
    };
    params.iter().all(|(name, value)| match value {
        serde_json::Value::Number(_) => known.contains(&name.as_str()),
        // Names that we gave are numbers, in text or not.
        serde_json::Value::String(text) => {
            known.contains(&name.as_str()) && text.parse::<i64>().is_ok()
        }
        serde_json::Value::Object(of) if name == "_meta" => of.iter().all(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            name == meta::SUBSCRIPTION_ID && text.parse::<i64>().is_ok()
        }),
        _ => false,
    })
}

/// A notification of the upstream's that the client may hear. One about a task that asks for input
/// is not: the client asks for the task, and what it then is asked is decided on.
fn heard(json: &Bytes) -> Option<Notification> {
    match Frame::parse(json.clone()) {
        Ok(Frame::Notification(notification)) if notification.param("inputRequests").is_none() => {
            Some(notification)
        }
        Ok(_) | Err(_) => None,
    }
}

/// Heeds what a notification says of the upstream itself: that its tools are others now.
pub(crate) fn heed(plane: &Arc<Plane>, served: &Arc<Served>, json: &Bytes) {
    let said = Frame::parse(json.clone());
    if matches!(said, Ok(Frame::Notification(it)) if *it.method() == Method::ToolsChanged) {
        refresh(plane, served);
    }
}

/// Reads an upstream's tools again, soon.
pub(crate) fn refresh(plane: &Arc<Plane>, served: &Arc<Served>) {
    if !served.queue_listing() {
        return;
    }
    let (plane, served) = (Arc::clone(plane), Arc::clone(served));
    plane.tasks.clone().spawn(async move {
        tokio::time::sleep(served.pace.wait(plane.clock.elapsed())).await;
        if let Err(error) = plane.refresh_tools(&served).await {
            let name = &served.name;
            tracing::warn!(upstream.name = %name, error, "The tools of upstream {name} could not be read again");
        }
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Back, heard, says_nothing};

    fn check(method: &str, params: &str, expected: bool) {
        let json = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}"{params}}}"#);
        let notification = heard(&Bytes::from(json)).unwrap();
        assert_eq!(says_nothing(&notification), expected, "{method} {params}");
    }

    #[test]
    fn a_notification_with_words_beside_what_it_is_for_says_something() {
        let subscription = r#","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}"#;
        let words = r#","params":{"x":"the customer is Maya"}"#;
        for changed in [
            "tools/list_changed",
            "prompts/list_changed",
            "resources/list_changed",
        ] {
            check(changed, "", true);
            check(changed, r#","params":{}"#, true);
            check(changed, subscription, true);
            check(changed, words, false);
            check(changed, r#","params":{"_meta":{"x":"words"}}"#, false);
            check(
                changed,
                r#","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"words"}}"#,
                false,
            );
        }
        let progress = |message: &str| {
            format!(r#","params":{{"progressToken":3,"progress":1.5,"total":4{message}}}"#)
        };
        check("progress", &progress(""), true);
        check("progress", &progress(r#","message":"words""#), false);
        check("cancelled", r#","params":{"requestId":"3"}"#, true);
        check(
            "cancelled",
            r#","params":{"requestId":3,"reason":"words"}"#,
            false,
        );
        check(
            "message",
            r#","params":{"level":"info","data":"words"}"#,
            false,
        );
    }

    #[test]
    fn what_belongs_to_no_request_has_no_id() {
        assert!(!Back::of_none().is("0"));
    }
}
