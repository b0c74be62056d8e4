//! What needs no permit: negotiation, listings, ping. Answers are filtered to what the caller
//! could be permitted, put on record, and then given.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use inspect::Findings;
use mcp::frame::ReplyEdit;
use mcp::method::List;
use mcp::{Era, Frame, Json, Method, ProtocolVersion, Raw};
use policy::InstanceFacts;
use tokio::time::timeout;
use vocab::{Digest, ToolName};

use crate::answer::{Answer, Event, Out};
use crate::call::{self, Call};
use crate::ending::{Ended, Ending};
use crate::looks::{self, Heard, Looks, Overheard, Passed};
use crate::pins::PinState;
use crate::plane::{Life, Plane};
use crate::record::{Inspected, Listing, ListingBody, OTHER_METHOD};
use crate::route::{Back, Route, RouteError, about_cursor, heed, refresh, says_nothing};
use crate::upstream::{ExchangeError, MessageKind};

/// Carries one request that needs no permit.
pub(crate) async fn pass(plane: &Arc<Plane>, call: &Arc<Call>, out: Out) {
    let answer = carried(plane, call, &out).await;
    let _gone = out.last(answer).await;
}

async fn carried(plane: &Arc<Plane>, call: &Arc<Call>, out: &Out) -> Answer {
    if let Err(why) = plane.life.check() {
        return trouble(call, why);
    }
    let name = &call.served.name;
    if call.request.method().list() == Some(List::Tools) {
        plane.ensure_tools(&call.served).await;
    }
    let route = match Route::find(plane, call).await {
        Ok(route) => route,
        Err(error) => {
            tracing::warn!(upstream.name = %name, error = %error, "Upstream {name} could not be reached");
            return trouble(call, &format!("Upstream `{name}` cannot be reached."));
        }
    };
    if *call.request.method() == Method::Discover
        && let Some(result) = route.legacy_result()
    {
        return discovered(plane, call, result).await;
    }
    over(plane, call, &route, out).await
}

/// Answers `server/discover` in place of an upstream of the era before.
async fn discovered(plane: &Arc<Plane>, call: &Call, result: &Bytes) -> Answer {
    let findings = Overheard::default().see(plane, result).await;
    let method = call.request.method().as_str();
    let heard = looks::free(plane, call, method, result, &findings);
    let result = match on_record(plane, call, (0, 0), heard).await {
        Passed::Message(json) => json,
        Passed::Withheld(why) => return trouble(call, &why),
    };
    let Ok(result) = Json::parse(result) else {
        return trouble(
            call,
            "The upstream's own answer to `initialize` is not valid.",
        );
    };
    let result = mcp::translate::discover_result(result.root());
    Answer::ok(mcp::error::success(&call.request.id(), &result))
}

/// Puts an answer on record with what was found in it, and picks up the labels that it brings. What
/// is not on record does not pass.
async fn on_record(plane: &Plane, call: &Call, counts: (usize, usize), heard: Heard) -> Passed {
    let method = call.request.method().as_str();
    let (passed, inspected) = (heard.passed, heard.inspected);
    let labels = heard.read.iter().map(ToString::to_string).collect();
    if !noted(plane, call, (method, counts), inspected, labels).await {
        return Passed::Withheld(UNRECORDED.to_owned());
    }
    match passed {
        Passed::Message(json) => Passed::Message(json),
        Passed::Withheld(why) => Passed::Withheld(format!("The answer is withheld: {why}")),
    }
}

/// What may go on of a handshake that was made before.
pub(crate) async fn handshake(plane: &Plane, call: &Call, result: &Bytes) -> Result<Bytes, String> {
    let findings = Overheard::default().see(plane, result).await;
    let method = call.request.method().as_str();
    let heard = looks::free(plane, call, method, result, &findings);
    if heard.inspected.is_none() {
        return Ok(result.clone());
    }
    match on_record(plane, call, (0, 0), heard).await {
        Passed::Message(json) => Ok(json),
        Passed::Withheld(why) => Err(why),
    }
}

/// What may go on of a notification that comes beside the answers of calls. Where calls are under way
/// it is looked into as part of each of them, and on record with them; where none is, what is found in
/// it, and what its upstream's labels say of it, is on record before it passes.
pub(crate) async fn noticed(
    plane: &Plane,
    call: &Call,
    overheard: &mut Overheard,
    (json, under_way): (&Bytes, &[Arc<Looks>]),
) -> Passed {
    if let Some(passed) = looks::beside(plane, under_way, json).await {
        return passed;
    }
    let findings = overheard.see(plane, json).await;
    overhears(plane, call, overheard, (json, &findings)).await
}

/// What may go on of a notification that belongs to no call, for what was found in it.
pub(crate) async fn overhears(
    plane: &Plane,
    call: &Call,
    overheard: &mut Overheard,
    (json, findings): (&Bytes, &Findings),
) -> Passed {
    let Ok(Frame::Notification(notification)) = Frame::parse(json.clone()) else {
        return Passed::Withheld("It is no notification.".to_owned());
    };
    let method = notification.method();
    let heard = looks::free(plane, call, "", json, findings);
    let mut labels: Vec<String> = heard.read.iter().map(ToString::to_string).collect();
    // That a list changed, and how far something is, is no data of the upstream's.
    if !says_nothing(&notification) && matches!(heard.passed, Passed::Message(_)) {
        labels.extend(call.served.labels.of(None));
    }
    let to = call.caller.instance();
    let is_new = heard
        .inspected
        .as_ref()
        .is_some_and(|it| overheard.is_new(to, it));
    if !is_new && labels.is_empty() {
        return heard.passed;
    }
    let method = match method {
        Method::Other(_) => OTHER_METHOD,
        known => known.as_str(),
    };
    let inspected = heard.inspected.filter(|_| is_new);
    if noted(plane, call, (method, (0, 0)), inspected, labels).await {
        heard.passed
    } else {
        Passed::Withheld(UNRECORDED.to_owned())
    }
}

/// Puts on record what passes without a permit, unless it brings nothing that is not on record; picks
/// up its labels. Whether that is done.
async fn noted(
    plane: &Plane,
    call: &Call,
    (method, counts): (&str, (usize, usize)),
    inspected: Option<Inspected>,
    labels: Vec<String>,
) -> bool {
    let mut record = listing(call, (method, counts), inspected);
    let root = if labels.is_empty() {
        None
    } else {
        let Some(who) = call::Who::now(plane, call.caller.instance(), &call.served.name) else {
            return false;
        };
        Some(who.root().clone())
    };
    let is_notice = method != call.request.method().as_str();
    if let Some(root) = &root {
        let held = plane.flow.of(root);
        let is_held = labels.iter().all(|label| held.contains(label));
        if is_notice && is_held && record.body.response.is_none() {
            return true;
        }
        record.body.labels.clone_from(&labels);
        record.body.root = Some(root.clone());
    }
    if !is_recorded(plane, record).await {
        return false;
    }
    if let Some(root) = &root {
        plane.pick_up(root, &labels);
    }
    true
}

const UNRECORDED: &str = "The answer could not be put on record, so it is not given.";

/// Whether an answer is on record in time.
async fn is_recorded(plane: &Plane, record: Listing) -> bool {
    let recording = ledger::record(&*plane.calls, record);
    match timeout(plane.settings.record_timeout, recording).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => {
            Life::noted(&error);
            false
        }
        Err(_elapsed) => {
            tracing::error!("An answer waited too long for its record, so it was not given");
            false
        }
    }
}

/// The entry for what passes without a permit.
fn listing(
    call: &Call,
    (method, (listed, shown)): (&str, (usize, usize)),
    response: Option<Inspected>,
) -> Listing {
    Listing {
        body: ListingBody {
            instance: call.caller.instance().clone(),
            upstream: call.served.name.clone(),
            method: method.to_owned(),
            listed: u64::try_from(listed).unwrap_or(u64::MAX),
            shown: u64::try_from(shown).unwrap_or(u64::MAX),
            response,
            labels: Vec::new(),
            root: None,
        },
        actor: call::actor(&call.caller),
        trace: call.trace.clone(),
    }
}

/// Carries it over a route that is known.
pub(crate) async fn over(plane: &Arc<Plane>, call: &Arc<Call>, route: &Route, out: &Out) -> Answer {
    let name = &call.served.name;
    let (outgoing, back) = match route.free(plane, call) {
        Ok(outgoing) => outgoing,
        Err(error) => {
            let code = match &error {
                RouteError::Cursor => mcp::error::code::INVALID_PARAMS,
                _ => mcp::error::code::INTERNAL,
            };
            let (id, text) = (call.request.id(), error.to_string());
            return Answer::ok(mcp::error::failure(Some(&id), call.era, code, &text, None));
        }
    };
    let _hub = route.attach(call, &back, out);
    let mut ending = Ending::watch(plane, call, out);
    let asked = match ending.check() {
        Ok(()) => ending.or(route.link.request(outgoing)).await,
        Err(ended) => Err(ended),
    };
    let mut exchange = match asked {
        Ok(Ok(exchange)) => exchange,
        Err(ended) => return ended_early(call, ended),
        Ok(Err(error)) => {
            route.failed(plane, &error);
            tracing::warn!(upstream.name = %name, error = %error, "A request to upstream {name} was not sent");
            return trouble(call, &format!("Upstream `{name}` cannot be reached."));
        }
    };
    let mut overheard = Overheard::default();
    loop {
        let message = match ending.or(exchange.next()).await {
            Ok(message) => message,
            Err(ended) => return ended_early(call, ended),
        };
        match message {
            Some(Ok(message)) => match message.kind {
                MessageKind::Response => {
                    let answer = Readable {
                        status: route.status(&message),
                        event: route.event(plane, &message, message.json.clone()),
                    };
                    return answered(plane, call, route, &back, &mut overheard, answer).await;
                }
                MessageKind::Empty => {
                    let event = route.event(plane, &message, Bytes::new());
                    let _gone = out.event(event).await;
                }
                MessageKind::Notification => {
                    heed(plane, &call.served, &message.json);
                    let passed = noticed(plane, call, &mut overheard, (&message.json, &[])).await;
                    let json = match passed {
                        Passed::Message(json) => route.notification(&json, Some(&back)),
                        Passed::Withheld(_) => message.event_id.is_some().then(Bytes::new),
                    };
                    if let Some(json) = json {
                        let event = route.event(plane, &message, json);
                        let _gone = out.event(event).await;
                    }
                }
                MessageKind::Request => {
                    call::ask_client(plane, call, route, message, |event| out.event(event)).await;
                }
            },
            Some(Err(ExchangeError::Http { status, body })) => {
                if matches!(Frame::parse(body.clone()), Ok(Frame::Response(_))) {
                    let answer = Readable {
                        status,
                        event: Event::of(body),
                    };
                    return answered(plane, call, route, &back, &mut overheard, answer).await;
                }
                let status = status.as_u16();
                return trouble(
                    call,
                    &format!("Upstream `{name}` answered with status {status}."),
                );
            }
            Some(Err(error)) => {
                tracing::warn!(upstream.name = %name, error = %error, "Upstream {name} did not answer");
                return trouble(call, &format!("Upstream `{name}` did not answer."));
            }
            None => return trouble(call, &format!("Upstream `{name}` did not answer.")),
        }
    }
}

fn ended_early(call: &Call, ended: Ended) -> Answer {
    match ended {
        Ended::Cut(why) => trouble(
            call,
            &format!("This agent instance may not act any more: {why}."),
        ),
        Ended::Expired => trouble(call, "This agent instance may not act any more."),
        Ended::Stopped => trouble(call, "This node is stopping. Try again later."),
        Ended::Cancelled => Answer::bare(StatusCode::OK),
    }
}

/// An answer of an upstream's.
struct Readable {
    status: StatusCode,
    event: Event,
}

/// Filters, inspects, records and shapes an answer. What is inspected is what the caller could get,
/// and nothing is put in its place afterwards.
async fn answered(
    plane: &Arc<Plane>,
    call: &Arc<Call>,
    route: &Route,
    back: &Back,
    overheard: &mut Overheard,
    answer: Readable,
) -> Answer {
    let Readable {
        status,
        event: Event { json, id, retry },
    } = answer;
    let method = call.request.method();
    let name = &call.served.name;
    let foreign = || {
        trouble(
            call,
            &format!("Upstream `{name}` answered with something that is not MCP."),
        )
    };
    let Ok(Frame::Response(said)) = Frame::parse(json) else {
        return foreign();
    };
    let (mut listed, mut shown) = (0, 0);
    let json = match method.list().filter(|_| !said.is_error()) {
        None => said.splice(&[]),
        Some(list) => {
            let Some(who) = call::Who::now(plane, call.caller.instance(), name) else {
                return trouble(call, "This agent instance may not act any more.");
            };
            let facts = who.facts(call.caller.proven());
            let (keep, instead) = visible(plane, call, &facts, list, &said);
            listed = keep.len();
            shown = keep.iter().filter(|keep| **keep).count();
            said.splice(&[
                ReplyEdit::Keep(list, &keep),
                ReplyEdit::Instead(list, &instead),
            ])
        }
    };
    let findings = overheard.see(plane, &json).await;
    let heard = looks::free(plane, call, method.as_str(), &json, &findings);
    let json = match on_record(plane, call, (listed, shown), heard).await {
        Passed::Message(json) => json,
        Passed::Withheld(why) => return trouble(call, &why),
    };
    let Ok(Frame::Response(response)) = Frame::parse(json) else {
        return foreign();
    };
    let response = &response;
    if response
        .input_requests()
        .map_or(true, |asked| !asked.is_empty())
    {
        // No revision has that here, and nobody would decide on it.
        return trouble(
            call,
            &format!("Upstream `{name}` asks for input where it may not."),
        );
    }
    let mut edits = vec![ReplyEdit::StripOwn];
    if *method == Method::Discover {
        // The versions that a client may speak are those that the gateway speaks.
        let served = ProtocolVersion::SERVED.map(ProtocolVersion::as_str);
        edits.push(ReplyEdit::Set("supportedVersions", Raw::of(&served).ok()));
    }
    if method.list().is_some()
        && let Some(next) = response.member("nextCursor")
    {
        let about = about_cursor(call);
        let seal = |next: &str| plane.handed.seal(&*plane.rng, &about, next);
        let sealed = next.as_str().and_then(|next| seal(&next));
        let sealed = sealed.map(|sealed| Raw::string(&sealed));
        edits.push(ReplyEdit::Set("nextCursor", sealed));
    }
    if method.list().is_some() && !response.is_error() && call.era == Era::Modern {
        // What is shown depends on the caller and on the policy of this moment.
        edits.push(ReplyEdit::Set("ttlMs", Some(Raw::integer(0))));
        edits.push(ReplyEdit::Set("cacheScope", Some(Raw::string("private"))));
    }
    let json = match route.response(response, back, &edits, method) {
        Ok(json) => json,
        Err(error) => return trouble(call, &error.to_string()),
    };
    Answer {
        status,
        headers: http::HeaderMap::new(),
        event: Some(Event { json, id, retry }),
    }
}

/// Which of a listing's elements the caller could be permitted, and what it gets instead of some: of a
/// tool it gets the definition that was accepted, whatever the upstream says to it.
fn visible(
    plane: &Arc<Plane>,
    call: &Call,
    facts: &InstanceFacts,
    list: List,
    response: &mcp::Response,
) -> (Vec<bool>, Vec<Option<Arc<str>>>) {
    let snapshot = plane.active.load();
    let upstream = &call.served.name;
    if let List::Tools = list {
        let known = snapshot.tools.get(upstream);
        let mut strange = BTreeSet::new();
        // Where policy only observes, what it would deny can be called, and so it is shown.
        let observing = call.served.observing(plane.clock.now());
        let shown = response.listed(list).map(|tool| {
            let name = tool.get("name").and_then(mcp::Value::as_str);
            let Some(name) = name.and_then(|name| name.parse::<ToolName>().ok()) else {
                return (false, None);
            };
            let text = mcp::definition(tool);
            let pin = known.and_then(|(_, tools)| tools.pins().tool(&name));
            let listed = pin.and_then(|pin| pin.listed.as_deref());
            if listed != Some(text.as_str()) {
                strange.insert((name.clone(), Digest::of(text.as_bytes())));
            }
            let Some(pin) = pin.filter(|pin| pin.state() == PinState::Accepted) else {
                return (false, None);
            };
            let instead = pin.accepted.clone().filter(|it| **it != text);
            let keep = observing || snapshot.engine.visible(facts, upstream, &name);
            (keep, instead.filter(|_| keep))
        });
        let shown = shown.collect();
        let now = plane.clock.elapsed();
        if !strange.is_empty() && call.served.strange.is_worth_asking(&strange, now) {
            refresh(plane, &call.served);
        }
        return shown;
    }
    let use_it = match list {
        List::Tools => Method::ToolsCall,
        List::Prompts => Method::PromptsGet,
        List::Resources | List::ResourceTemplates => Method::ResourcesRead,
    };
    let may = snapshot
        .engine
        .visible_method(facts, upstream, use_it.as_str());
    let keep = response.listed(list).map(|_| may).collect();
    (keep, Vec::new())
}

/// Tools that a caller's list had and the known list had not, or had otherwise, and when
/// the upstream was last asked because of them.
#[derive(Debug, Default)]
pub(crate) struct Strange(Mutex<Option<(Digest, Duration)>>);

/// Least time between two times that an upstream is asked because of strange tools.
const STRANGE_EVERY: Duration = Duration::from_mins(1);

impl Strange {
    /// Whether the upstream is to be asked because of these. Not twice in a row for the same ones,
    /// which it does not show to us, and not often, since it may have others each time.
    fn is_worth_asking(&self, tools: &BTreeSet<(ToolName, Digest)>, now: Duration) -> bool {
        let tools = tools.iter().map(|(name, text)| format!("{name} {text}"));
        let digest = Digest::of(tools.collect::<Vec<_>>().join("\n").as_bytes());
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(it, at)| it == digest || now.saturating_sub(at) < STRANGE_EVERY) {
            return false;
        }
        *last = Some((digest, now));
        true
    }
}

/// An answer that says why there is none.
pub(crate) fn trouble(call: &Call, text: &str) -> Answer {
    let id = call.request.id();
    let code = mcp::error::code::INTERNAL;
    Answer::ok(mcp::error::failure(Some(&id), call.era, code, text, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_not_asked_for_ever_about_what_it_does_not_show() {
        let strange = Strange::default();
        let check = |seconds, names: &[&str], expected| {
            let tool = |name: &&str| (name.parse().unwrap(), Digest::of(b"{}"));
            let tools = names.iter().map(tool).collect();
            let now = Duration::from_secs(seconds);
            let asked = strange.is_worth_asking(&tools, now);
            assert_eq!(asked, expected, "{names:?} at {seconds}");
        };
        check(0, &["a"], true);
        check(1, &["a"], false);
        check(59, &["b"], false);
        check(60, &["a"], false);
        check(60, &["a", "b"], true);
        check(61, &["a"], false);
        check(120, &["b", "a"], false);
        check(120, &["a"], true);
    }
}
