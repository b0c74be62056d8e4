//! What an upstream asks the client, as a request of its own or in an answer: each question is
//! decided on like a call.

use std::sync::Arc;

use bytes::Bytes;
use ledger::{Actor, Recorded};
use mcp::frame::meta;
use mcp::{Edit, Era, Frame, Method, Raw, Request, Response};
use tokens::Caller;
use vocab::limits::INPUT_REQUESTS_MAX;

use super::send::Failure;
use super::settle::{Seen, settle};
use super::{Call, decide, subject};
use crate::answer::Event;
use crate::looks::{self, Edited, Passed};
use crate::outgoing::{Passing, next_id};
use crate::plane::Plane;
use crate::record::{Came, Outcome, OutcomeBody, Permit, Sent};
use crate::route::Route;
use crate::session::{Asked as AskedOfClient, Theirs};
use crate::upstream::{Cause, Link, Message, SendError};

/// A request of the server's, as its client is to know it: by an id and a progress token of ours.
/// Nobody decides on the server's own, which may be any text.
pub(super) struct Asking {
    request: Arc<Request>,
    theirs: Theirs,
}

impl Asking {
    fn read(json: Bytes) -> Option<Self> {
        let Ok(Frame::Request(request)) = Frame::parse(json) else {
            return None;
        };
        let token = request
            .meta()
            .and_then(|it| it.get(meta::PROGRESS_TOKEN))
            .map(|token| token.raw().into_owned());
        let theirs = Theirs {
            id: request.id().into_owned(),
            progress: token,
        };
        let ours = Raw::integer(next_id());
        let mut edits = vec![Edit::Id(ours.borrowed())];
        if theirs.progress.is_some() {
            edits.push(Edit::Meta(meta::PROGRESS_TOKEN, Some(ours.borrowed())));
        }
        let json = request.splice(&edits);
        Self::of(json, theirs)
    }

    fn of(json: Bytes, theirs: Theirs) -> Option<Self> {
        match Frame::parse(json) {
            Ok(Frame::Request(request)) => Some(Self {
                request: Arc::new(request),
                theirs,
            }),
            Ok(Frame::Notification(_) | Frame::Response(_)) | Err(_) => None,
        }
    }

    async fn refuse(theirs: &Theirs, link: &Link, text: &str, verdict: Option<Raw<'_>>) {
        let code = mcp::error::code::DENIED;
        let refusal = Passing::refusal(&theirs.id, code, text, verdict.as_ref());
        if let Err(error) = link.pass(refusal).await {
            tracing::debug!(error = %error, "An upstream did not take the answer to its request");
        }
    }
}

/// A request of the server to the client while a call of the client's is under way: it is looked into
/// as part of what comes back for that call, and then decided on as what it is.
pub(super) async fn ask_within<F, E>(
    plane: &Arc<Plane>,
    call: &Call,
    route: &Route,
    of: &Recorded<Permit>,
    message: Message,
    sink: F,
) where
    F: AsyncFnOnce(Event) -> Result<(), E>,
{
    let Some(Asking { request, theirs }) = Asking::read(message.json.clone()) else {
        return;
    };
    let told = match looks::back(plane, of, request.bytes()).await {
        Passed::Message(json) => match Asking::of(json, theirs.clone()) {
            Some(asking) => return ask(plane, call, route, (asking, message), sink).await,
            None => "what it asks could not be masked".to_owned(),
        },
        Passed::Withheld(why) => why,
    };
    Asking::refuse(&theirs, &route.link, &told, None).await;
}

/// Decides on a request of the server to the client, and passes it on if it is permitted.
pub(crate) async fn ask_client<F, E>(
    plane: &Arc<Plane>,
    call: &Call,
    route: &Route,
    message: Message,
    sink: F,
) where
    F: AsyncFnOnce(Event) -> Result<(), E>,
{
    if let Some(asking) = Asking::read(message.json.clone()) {
        ask(plane, call, route, (asking, message), sink).await;
    }
}

async fn ask<F, E>(
    plane: &Arc<Plane>,
    call: &Call,
    route: &Route,
    (Asking { request, theirs }, message): (Asking, Message),
    sink: F,
) where
    F: AsyncFnOnce(Event) -> Result<(), E>,
{
    let id = request.id_text().to_owned();
    let refuse = async |text: &str, verdict: Option<Raw<'_>>| {
        Asking::refuse(&theirs, &route.link, text, verdict).await;
    };
    if *request.method() == Method::Ping {
        let _sent = route.link.pass(Passing::pong(&theirs.id)).await;
        return;
    }
    let Some(session) = &call.session else {
        refuse("the client cannot be asked", None).await;
        return;
    };
    let (permit, flight) = match decide(plane, call, &subject(&request)).await {
        Ok(cleared) => cleared,
        Err(denied) => {
            refuse(&denied.reason, Some(denied.verdict(plane).raw())).await;
            return;
        }
    };
    drop(flight);
    let edited = match looks::edited(plane, &permit).await {
        Ok(edited) => edited,
        Err(error) => {
            let (came, cause) = (Came::NotSent, Some("not-masked"));
            let _settled = settle(plane, call.origin(), permit, came, cause, None).await;
            return refuse(&error.to_string(), None).await;
        }
    };
    let request_said = edited.as_ref().map_or(&*request, Edited::request);
    let json = request_said.splice(&[Edit::StripOwn]);
    // It goes to the client, whatever it came in: policy on what comes back is about it, too.
    let json = match looks::back(plane, &permit, &json).await {
        Passed::Message(json) => json,
        Passed::Withheld(why) => {
            let (came, cause) = (Came::NotSent, Some("withheld"));
            let _settled = settle(plane, call.origin(), permit, came, cause, None).await;
            return refuse(&why, None).await;
        }
    };
    let asked = AskedOfClient {
        permit,
        link: Arc::clone(&route.link),
        theirs: theirs.clone(),
    };
    session
        .asked
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(id.clone(), asked);
    if sink(route.event(plane, &message, json)).await.is_err()
        && let Some(asked) = session.take_asked(&id)
    {
        let _settled = settle(
            plane,
            call.origin(),
            asked.permit,
            Came::NotSent,
            Some("client-gone"),
            None,
        )
        .await;
        refuse("the client is gone", None).await;
    }
}

/// Decides on what an answer asks the client, as on requests of a server. It is delivered with all
/// of it or not at all: without a question the client could not go on.
pub(super) async fn asked_in(
    plane: &Arc<Plane>,
    call: &Call,
    questions: Vec<Request>,
) -> Result<Vec<Recorded<Permit>>, Failure> {
    let mut asked = Vec::new();
    for request in questions {
        let method = request.method().clone();
        match decide(plane, call, &subject(&Arc::new(request))).await {
            // It is within an answer that says other things, too: no mask is put there.
            Ok((permit, _flight)) if looks::is_to_be_masked(&permit) => {
                asked.push(permit);
                withhold(plane, call, asked).await;
                let told = format!(
                    "Upstream `{}` asks for input (`{method}`) before it goes on, and something in \
                     that has to be masked. Its answer is withheld.",
                    call.addressed()
                );
                return Err(Failure::unknown("input-denied", told));
            }
            Ok((permit, _flight)) => asked.push(permit),
            Err(denied) => {
                withhold(plane, call, asked).await;
                let what = match denied.effect {
                    mcp::error::Effect::Hold => "waits for people",
                    mcp::error::Effect::Deny | mcp::error::Effect::Allow => "is denied",
                };
                let told = format!(
                    "Upstream `{}` asks for input (`{method}`) before it goes on, and that {what}: \
                     {} Its answer is withheld.",
                    call.addressed(),
                    denied.reason
                );
                return Err(Failure::unknown("input-denied", told));
            }
        }
    }
    Ok(asked)
}

/// What an answer asks the client.
pub(super) fn questions(call: &Call, response: &Response) -> Result<Vec<Request>, Failure> {
    if call.era == Era::Legacy && !response.is_error() {
        // To its clients the member of a result means nothing.
        return Ok(Vec::new());
    }
    let name = call.addressed();
    let malformed = |what: String| {
        let told = format!("Upstream `{name}` asks for input in a way that is not MCP: {what}.");
        Failure::unknown("malformed-answer", told)
    };
    let requests = response
        .input_requests()
        .map_err(|error| malformed(error.to_string()))?;
    if requests.len() > INPUT_REQUESTS_MAX {
        return Err(malformed(format!(
            "more than {INPUT_REQUESTS_MAX} questions in one answer"
        )));
    }
    Ok(requests)
}

/// Settles questions that were permitted and are not put to the client after all.
pub(super) async fn withhold(plane: &Arc<Plane>, call: &Call, asked: Vec<Recorded<Permit>>) {
    for permit in asked {
        // If it fails the node stops, as whoever answers next will see.
        let _settled = settle(
            plane,
            call.origin(),
            permit,
            Came::NotSent,
            Some("withheld"),
            None,
        )
        .await;
    }
}

/// The client's answer to a request of the server.
pub(crate) async fn client_answered(
    plane: &Arc<Plane>,
    caller: &Caller,
    asked: AskedOfClient,
    response: &Response,
) -> Result<(), ()> {
    let passed = match looks::answered(plane, &asked.permit, response.bytes()).await {
        Passed::Message(json) => Frame::parse(json).ok(),
        Passed::Withheld(_) => None,
    };
    let passing = match &passed {
        Some(Frame::Response(response)) => Passing::answer(&asked, response),
        // The server is told so, rather than left waiting.
        Some(Frame::Request(_) | Frame::Notification(_)) | None => {
            let code = mcp::error::code::DENIED;
            let text = "the answer is withheld";
            Some(Passing::refusal(&asked.theirs.id, code, text, None))
        }
    };
    let delivered = passing.as_ref().map(Passing::bytes).cloned();
    let sent = match passing {
        Some(passing) => asked.link.pass(passing).await,
        None => Err(SendError::NotSent(Cause::Unsupported)),
    };
    let came = match &sent {
        Ok(()) => Came::Completed,
        Err(SendError::NotSent(_)) => Came::NotSent,
        Err(SendError::Unknown(_)) => Came::Unknown,
    };
    let seen = delivered.as_ref().map(|delivered| Seen {
        said: response.bytes(),
        delivered,
        is_error: response.is_error(),
    });
    let settled = settle(plane, (caller, None), asked.permit, came, None, seen).await;
    if settled.is_err() || sent.is_err() {
        Err(())
    } else {
        Ok(())
    }
}

/// Settles calls that will never be answered.
pub(crate) async fn abandon(plane: &Arc<Plane>, open: Vec<Recorded<Permit>>, cause: &'static str) {
    for cleared in open {
        let account = cleared.value().looks().account().await;
        let outcome = Outcome {
            body: OutcomeBody {
                decision: cleared.receipt().index,
                result: Came::Unknown,
                cause: Some(cause.to_owned()),
                is_error: None,
                said: None,
                delivered: None,
                routed_to: cleared.value().routed().map(|to| to.name.clone()),
                sent: account.sent.map(|(masked, _)| Sent {
                    masked,
                    digest: None,
                }),
                response: account.response,
                labels: account.labels,
                salt: None,
            },
            actor: Actor::node(&plane.settings.node),
            trace: None,
            sealed: None,
        };
        match ledger::record(&*plane.calls, outcome).await {
            Ok(_) => cleared.into_value().into_ticket().close(),
            Err(cause) => plane.life.fail(&cause),
        }
    }
}
