//! How one request reaches its upstream, and how what comes back is made the client's again.
//!
//! Client and upstream each speak one era. Within an era everything passes as it is; a stdio child
//! serves several requests on one channel, so there the envelope's ids are ours and are put back.
//! Across eras `mcp::translate` carries listing, tools, resources and prompts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::StatusCode;
use inspect::Findings;
use ledger::Recorded;
use mcp::frame::{Edit, Param, ReplyEdit, meta};
use mcp::{Era, Frame, Method, Notification, ProtocolVersion, Raw, Request, Response};
use tokens::Caller;

use crate::answer::{ClientGone, Event, Out, Side};
use crate::call::{self, Call};
use crate::looks::{self, Edited, Overheard, Passed};
use crate::outgoing::{Envelope, Outgoing, Passing};
use crate::plane::{Plane, Served, Tools};
use crate::record::Permit;
use crate::session::Session;
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
    client_id: Raw<'static>,
    /// The id and progress token that the upstream sees, where they are ours.
    ours: Option<String>,
    progress: Option<Raw<'static>>,
}

impl Back {
    /// Nothing was changed on the way out.
    pub(crate) const fn as_sent(id: Raw<'static>) -> Self {
        Self {
            client_id: id,
            ours: None,
            progress: None,
        }
    }
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

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
                    // Stateless: one link serves all.
                    Era::Modern => upstream.link("*", Opening::PassThrough).await?,
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
        let (envelope, back) = self.envelope(request, &call.mirrored, edited.is_some())?;
        Ok((Outgoing::permitted(cleared, edited, envelope), back))
    }

    /// The request to send for a method that needs no permit; none for one that does.
    pub(crate) fn free(&self, call: &Call) -> Result<Option<(Outgoing, Back)>, RouteError> {
        let (envelope, back) = self.envelope(&call.request, &call.mirrored, false)?;
        let outgoing = Outgoing::free(&call.request, envelope);
        Ok(outgoing.map(|outgoing| (outgoing, back)))
    }

    /// What of a request's envelope the upstream sees otherwise.
    fn envelope<'a>(
        &self,
        request: &'a Request,
        mirrored: &[(http::HeaderName, http::HeaderValue)],
        is_edited: bool,
    ) -> Result<(Envelope<'a>, Back), RouteError> {
        let ours = self
            .stdio
            .then(|| NEXT_ID.fetch_add(1, Ordering::Relaxed).to_string());
        let token = request.meta().and_then(|it| it.get(meta::PROGRESS_TOKEN));
        let progress = token.map(|it| it.raw().into_owned());
        let mut edits = vec![Edit::StripOwn];
        let our_id = ours
            .as_ref()
            .and_then(|id| id.parse().ok())
            .map(Raw::integer);
        if let Some(id) = &our_id {
            edits.push(Edit::Id(id.clone()));
            if progress.is_some() {
                edits.push(Edit::Meta(meta::PROGRESS_TOKEN, Some(id.clone())));
            }
        }
        if self.down != self.up {
            edits.extend(mcp::translate::request(request, self.down, self.version)?);
        }
        let headers = if self.stdio {
            Vec::new()
        } else {
            self.headers(request, mirrored, is_edited)?
        };
        let sent_progress = match (&ours, &progress) {
            (Some(id), Some(_)) => Some(id.clone()),
            (_, progress) => progress.as_ref().map(|it| it.as_str().to_owned()),
        };
        let id = ours.clone().unwrap_or_else(|| request.id_text().to_owned());
        let back = Back {
            client_id: request.id().into_owned(),
            ours,
            progress,
        };
        Ok((
            Envelope {
                edits,
                id,
                progress_token: sent_progress,
                headers,
            },
            back,
        ))
    }

    /// Headers that mirror the body, for HTTP upstreams.
    fn headers(
        &self,
        request: &Request,
        mirrored: &[(http::HeaderName, http::HeaderValue)],
        is_edited: bool,
    ) -> Result<Vec<(http::HeaderName, http::HeaderValue)>, RouteError> {
        if self.down == self.up && !(is_edited && self.up == Era::Modern) {
            return Ok(mirrored.to_vec());
        }
        match self.up {
            // What was masked in the body would else stand in the headers that mirror it.
            Era::Modern => {
                let tool = (*request.method() == Method::ToolsCall)
                    .then(|| request.name()?.parse().ok())
                    .flatten();
                let annotations = self.tools.as_ref().zip(tool);
                let annotations = annotations.and_then(|(tools, name)| tools.param_headers(&name));
                let made = mcp::headers::of_request(self.version, request, annotations)?;
                Ok(made
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect())
            }
            Era::Legacy => Ok(Vec::new()),
        }
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
        if back.ours.is_some() {
            all.push(ReplyEdit::Id(back.client_id.borrowed()));
        }
        if self.down != self.up {
            all.extend(mcp::translate::reply(response, self.down, method)?);
        }
        all.extend(edits.iter().cloned());
        Ok(response.splice(&all))
    }

    /// What goes back to the client for a notification; none if it is not carried.
    pub(crate) fn notification(&self, json: &Bytes, back: &Back) -> Option<Bytes> {
        let notification = heard(json)?;
        let token = back.progress.as_ref();
        let mut edits = vec![Edit::StripOwn];
        if let (Method::Progress, Some(_), Some(token)) = (notification.method(), &back.ours, token)
        {
            edits.push(Edit::Param(call::PROGRESS, Some(token.borrowed())));
        }
        if let Some(ours) = &back.ours
            && notification.meta_text(meta::SUBSCRIPTION_ID) == Some(ours.as_str())
        {
            edits.push(Edit::Meta(
                meta::SUBSCRIPTION_ID,
                Some(back.client_id.borrowed()),
            ));
        }
        if self.down != self.up {
            match notification.method() {
                Method::Progress => {}
                _ => return None,
            }
        }
        Some(notification.splice(&edits))
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
    pub(crate) fn keep(&self, call: &Call, cleared: Recorded<Permit>) {
        if let Some(session) = &self.session {
            let mut loose = session.loose.lock().unwrap_or_else(PoisonError::into_inner);
            loose.insert(call.request.id_text().to_owned(), cleared);
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

    /// The notification to pass on, if it is carried. No permit and no record is asked for it, so
    /// it says no more than that something changed, or something of a request that is under way:
    /// it is not a way to send words past the ledger.
    pub(crate) fn notice(
        &self,
        notification: &Notification,
        session: &Arc<Session>,
    ) -> Option<Passing> {
        if self.down != self.up {
            return None;
        }
        let mut edits = vec![Edit::StripOwn];
        match (notification.method(), &self.hub) {
            // On a link that serves several sessions the handshake was made once.
            (Method::Initialized, _) if !session.opened_link => return None,
            // The upstream knows the request by our id, and the client may take back only its own.
            (Method::Cancelled, Some(hub)) => {
                let id = notification.param("requestId")?;
                let ours = hub.sent_as(session, id.text())?.parse().ok()?;
                let ours = Raw::integer(ours);
                edits.push(Edit::Param(Param::RequestId, Some(ours)));
            }
            (Method::Cancelled, None) => {
                let id = notification.param("requestId")?;
                if !session.waits_for(id.text()) {
                    return None;
                }
            }
            // What others on the link are doing is nothing to this client.
            _ if self.is_shared => return None,
            (Method::Progress, _) => {
                let token = notification.param("progressToken")?;
                if !session.reports(token.text()) {
                    return None;
                }
            }
            (method, _) => return Passing::bare(method),
        }
        Passing::notice(notification, &edits)
    }

    /// Registers a stream that the client opened for what belongs to no request.
    pub(crate) fn attach_stream(&self, call: &Arc<Call>, out: &Out) -> Option<Attached> {
        let hub = self.hub.as_ref()?;
        Some(hub.attach(Sink {
            number: 0,
            call: Arc::clone(call),
            back: Back::as_sent(Raw::NULL),
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
                .find(|sink| sink.back.ours.as_deref() == Some(subscription))
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

    /// The id under which the upstream knows a request of that session that is under way.
    fn sent_as(&self, session: &Arc<Session>, id: &str) -> Option<String> {
        let sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let its_own = |sink: &&Sink| {
            let of = sink.call.session.as_ref();
            of.is_some_and(|of| Arc::ptr_eq(of, session)) && sink.call.request.id_text() == id
        };
        sinks.iter().find(its_own)?.back.ours.clone()
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
                let findings = overheard.see(&plane, &message.json).await;
                notify(&plane, &served, &link, &hub, (&message, &findings));
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

fn notify(
    plane: &Arc<Plane>,
    served: &Arc<Served>,
    link: &Arc<Link>,
    hub: &Arc<Hub>,
    (message, findings): (&Message, &Findings),
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
        None if changed && subscription.is_none() => hub.all(),
        None => return,
    };
    let up = link.negotiated().map_or(Era::Modern, |it| it.version.era());
    for sink in hearers {
        if sink.call.era != up {
            continue;
        }
        let seen = looks::free(plane, &sink.call, "", &message.json, findings);
        let Passed::Message(json) = seen.0 else {
            continue;
        };
        let Some(notification) = heard(&json) else {
            continue;
        };
        let mut edits = vec![Edit::StripOwn];
        if subscription.is_some() {
            let id = sink.back.client_id.borrowed();
            edits.push(Edit::Meta(meta::SUBSCRIPTION_ID, Some(id)));
        }
        let json = notification.splice(&edits);
        let _gone: Result<(), ClientGone> = sink.side.event(Event::of(json));
    }
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
