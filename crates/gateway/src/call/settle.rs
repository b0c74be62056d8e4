//! How a permitted call ends: its outcome goes on record before its client sees anything of it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use ledger::Recorded;
use ledger::seal::group_of;
use mcp::frame::{ReplyEdit, meta};
use mcp::{Frame, Method};
use register::Instance;
use tokens::Caller;
use vocab::{Digest, RecordRef};

use super::asked::{asked_in, questions, withhold};
use super::decide::IntentError;
use super::send::Failure;
use super::{Call, actor, verdict};
use crate::answer::Answer;
use crate::looks::{self, Passed};
use crate::plane::Plane;
use crate::record::{Came, Outcome, OutcomeBody, Permit, SealedRef, Sent, seal};
use crate::route::Route;
use crate::session::Loose;
use crate::upstream::{Message, MessageKind};

/// Settles a call without an answer of the upstream's.
pub(super) async fn fail(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    failure: Failure,
) -> Answer {
    let record = RecordRef::from(cleared.receipt());
    let said = cleared.value().policy().verdict();
    let origin = call.origin();
    let (came, cause) = (failure.came, Some(failure.cause));
    let settled = Box::pin(settle(plane, origin, cleared, came, cause, None)).await;
    if settled.is_err() {
        return withheld(call);
    }
    let verdict = verdict(
        plane,
        mcp::error::Effect::Allow,
        &said.reason,
        &said.policies,
        Some(record),
    );
    let id = call.request.id();
    Answer::ok(match call.request.method() {
        Method::ToolsCall => mcp::error::denied_tool_call(&id, call.era, &failure.told, &verdict),
        _ => mcp::error::failure(
            Some(&id),
            call.era,
            mcp::error::code::INTERNAL,
            &failure.told,
            Some(&verdict.raw()),
        ),
    })
}

/// Settles a call that the upstream answered, and makes what the client gets of it.
pub(super) async fn answer(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    route: &Route,
    back: &crate::route::Back,
    message: &Message,
) -> Answer {
    let record = RecordRef::from(cleared.receipt());
    let said = cleared.value().policy().verdict();
    let passed = match looks::back(plane, &cleared, &message.json).await {
        Passed::Message(json) => json,
        Passed::Withheld(why) => {
            return unshown(plane, call, cleared, message, &why).await;
        }
    };
    let mut decision = verdict(
        plane,
        mcp::error::Effect::Allow,
        &said.reason,
        &said.policies,
        Some(record),
    );
    decision.warnings = cleared.value().looks().warnings().await;
    let response = match Frame::parse(passed) {
        Ok(Frame::Response(response)) => response,
        Ok(Frame::Request(_) | Frame::Notification(_)) | Err(_) => {
            let name = call.addressed();
            let failure = Failure::unknown(
                "malformed-answer",
                format!("Upstream `{name}` answered with something that is not an MCP message."),
            );
            return fail(plane, call, cleared, failure).await;
        }
    };
    let asked = match questions(call, &response) {
        Ok(questions) if questions.is_empty() => Ok(Vec::new()),
        Ok(questions) => Box::pin(asked_in(plane, call, questions)).await,
        Err(failure) => Err(failure),
    };
    let asked = match asked {
        Ok(asked) => asked,
        Err(failure) => return fail(plane, call, cleared, failure).await,
    };
    let is_error = response.is_error() || response.is_tool_error();
    let decided = decision.raw();
    let method = cleared.value().request().method();
    let mut edits = vec![ReplyEdit::StripOwn];
    // The others answer with an empty result, which clients may insist on.
    if matches!(
        method,
        Method::ToolsCall | Method::ResourcesRead | Method::PromptsGet | Method::Complete
    ) {
        edits.push(ReplyEdit::Meta(meta::DECISION, Some(decided.borrowed())));
    }
    let delivered = match route.response(&response, back, &edits, method) {
        Ok(delivered) => delivered,
        Err(error) => {
            Box::pin(withhold(plane, call, asked)).await;
            let failure = Failure::unknown("not-carried", error.to_string());
            return fail(plane, call, cleared, failure).await;
        }
    };
    let seen = Seen {
        said: &message.json,
        delivered: &delivered,
        is_error,
    };
    for cleared in std::iter::once(cleared).chain(asked) {
        let came = Came::Completed;
        let settled = settle(plane, call.origin(), cleared, came, None, Some(seen)).await;
        if settled.is_err() {
            return withheld(call);
        }
    }
    Answer {
        status: route.status(message),
        headers: http::HeaderMap::new(),
        event: Some(route.event(plane, message, delivered)),
    }
}

/// Settles a call whose answer the client does not get, for what was found in it.
async fn unshown(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    message: &Message,
    why: &str,
) -> Answer {
    let record = RecordRef::from(cleared.receipt());
    let policies = cleared.value().looks().policies().await;
    let allowed = mcp::error::Effect::Allow;
    let verdict = verdict(plane, allowed, why, &policies, Some(record));
    let told = format!("The call was made, and its answer is withheld: {why}");
    let id = call.request.id();
    let delivered = match call.request.method() {
        Method::ToolsCall => mcp::error::denied_tool_call(&id, call.era, &told, &verdict),
        _ => mcp::error::denied(&id, call.era, &told, &verdict),
    };
    let seen = Seen {
        said: &message.json,
        delivered: &delivered,
        is_error: true,
    };
    let came = Came::Completed;
    let settled = settle(plane, call.origin(), cleared, came, None, Some(seen)).await;
    if settled.is_err() {
        return withheld(call);
    }
    Answer::ok(delivered)
}

/// An upstream that answers with an HTTP error has answered, if its body is a JSON-RPC error.
pub(super) async fn http_error(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    route: &Route,
    back: &crate::route::Back,
    status: StatusCode,
    body: &Bytes,
) -> Answer {
    if let Ok(Frame::Response(response)) = Frame::parse(body.clone())
        && response.is_error()
    {
        let message = Message {
            json: body.clone(),
            event_id: None,
            retry: None,
            kind: MessageKind::Response,
            http_status: Some(status),
        };
        return Box::pin(answer(plane, call, cleared, route, back, &message)).await;
    }
    let name = call.addressed();
    let failure = Failure::unknown(
        "http-error",
        format!(
            "Upstream `{name}` answered with HTTP status {}.",
            status.as_u16()
        ),
    );
    fail(plane, call, cleared, failure).await
}

/// What the upstream said, and what of it goes to the client.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) said: &'a [u8],
    pub(super) delivered: &'a [u8],
    pub(super) is_error: bool,
}

/// The outcome could not be put on record, so nobody hears of it.
pub(super) struct Unsettled;

/// Puts the outcome of a permitted call on record. If that fails the node stops serving: an effect
/// without a record of its outcome must be the last.
pub(super) async fn settle(
    plane: &Arc<Plane>,
    (caller, trace): (&Caller, Option<&str>),
    cleared: Recorded<Permit>,
    came: Came,
    cause: Option<&str>,
    seen: Option<Seen<'_>>,
) -> Result<(), Unsettled> {
    let decision = cleared.receipt().index;
    let routed_to = cleared.value().routed().map(|to| to.name.clone());
    // A call that took long was use, too.
    plane.control.touch(caller.instance(), plane.clock.now());
    let instance = plane
        .control
        .view(|state| state.instance(caller.instance()).cloned());
    let account = cleared.value().looks().account().await;
    let mut sent = account.sent.map(|(masked, digest)| {
        (
            Sent {
                masked,
                digest: None,
            },
            digest,
        )
    });
    let (mut salt, mut sealed, mut said, mut delivered) = (None, None, None, None);
    if (seen.is_some() || sent.is_some())
        && let Some(instance) = &instance
        && let Ok((reference, bytes, fresh)) = salted(plane, instance)
    {
        said = seen.map(|seen| Digest::of_parts(&[&fresh, seen.said]));
        delivered = seen.map(|seen| Digest::of_parts(&[&fresh, seen.delivered]));
        if let Some((sent, digest)) = &mut sent {
            sent.digest = Some(Digest::of_parts(&[&fresh, digest.as_bytes()]));
        }
        (salt, sealed) = (Some(reference), Some(bytes));
    }
    let outcome = Outcome {
        body: OutcomeBody {
            decision,
            result: came,
            cause: cause.map(str::to_owned),
            is_error: seen.map(|seen| seen.is_error),
            said,
            delivered,
            routed_to,
            sent: sent.map(|(sent, _)| sent),
            response: account.response,
            labels: account.labels,
            salt,
        },
        actor: actor(caller),
        trace: trace.map(str::to_owned),
        sealed,
    };
    plane.metrics.came(came);
    let recorded = ledger::record(&*plane.calls, outcome).await;
    match recorded {
        Ok(_) => {
            // Closed only now: a crash before this line leaves an intent that is looked for.
            cleared.into_value().into_ticket().close();
            plane.settled.notify_waiters();
            Ok(())
        }
        Err(cause) => {
            plane.life.fail(&cause);
            Err(Unsettled)
        }
    }
}

/// A fresh salt for the digests of an outcome, sealed under the caller's group key.
fn salted(
    plane: &Plane,
    instance: &Instance,
) -> Result<(SealedRef, Vec<u8>, [u8; 32]), IntentError> {
    let group = group_of(&instance.sponsor, &instance.agent, plane.clock.now());
    let (handle, key) = plane.group_key(&group)?;
    let fresh = vocab::rng::bytes::<32>(&*plane.rng).map_err(ledger::seal::SealError::from)?;
    let (reference, sealed) = seal((&handle, &key), &*plane.rng, &fresh)?;
    Ok((reference, sealed, fresh))
}

fn withheld(call: &Call) -> Answer {
    let id = call.request.id();
    let text = "The call was made, but its outcome could not be put on record, so its result is \
                withheld and this node has stopped serving. Do not repeat the call; tell the \
                person you work for.";
    let body = mcp::error::failure(Some(&id), call.era, mcp::error::code::INTERNAL, text, None);
    Answer::with(StatusCode::SERVICE_UNAVAILABLE, body)
}

/// The rest of a call whose stream had ended: the response came on another.
pub(crate) async fn late_answer(
    plane: &Arc<Plane>,
    call: &Call,
    late: Loose,
    route: &Route,
    message: &Message,
) -> Answer {
    let Loose { permit, back } = late;
    answer(plane, call, permit, route, &back, message).await
}
