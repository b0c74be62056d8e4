//! Sending what was permitted: from the permit on record to the upstream's answer.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use ledger::Recorded;
use register::Why;
use vocab::UpstreamName;

use super::Call;
use super::asked::ask_within;
use super::decide::NARROWED;
use super::settle::{answer, fail, http_error};
use crate::answer::{Answer, Out};
use crate::ending::{Ended, Ending};
use crate::limits::InFlight;
use crate::looks::{self, Passed};
use crate::plane::Plane;
use crate::record::{Came, Permit};
use crate::route::{Route, heed};
use crate::upstream::{Cause, Exchange, ExchangeError, MessageKind, SendError, chain};

/// Why a permitted call did not bring an answer, in a fixed word for the record and a sentence for
/// the client.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) came: Came,
    pub(super) cause: &'static str,
    pub(super) told: String,
}

impl Failure {
    pub(super) fn not_sent(cause: &'static str, told: String) -> Self {
        Self {
            came: Came::NotSent,
            cause,
            told,
        }
    }

    pub(super) fn unknown(cause: &'static str, told: String) -> Self {
        Self {
            came: Came::Unknown,
            cause,
            told,
        }
    }
}

impl Failure {
    pub(super) fn ended(came: Came, ended: Ended) -> Self {
        let narrowed = |why: Why| format!("{NARROWED} Why: {why}.");
        let (cause, told) = match ended {
            Ended::Cut(why) => ("cut", narrowed(why)),
            Ended::Expired => ("instance-expired", narrowed(Why::InstanceExpired)),
            Ended::Stopped => ("node-stopped", "This node is stopping.".to_owned()),
            Ended::Cancelled => ("cancelled", "Cancelled.".to_owned()),
        };
        let what = match (came, ended) {
            (Came::NotSent, Ended::Stopped) => "Nothing was sent. Try again later.",
            (Came::NotSent, _) => "Nothing was sent.",
            (Came::Unknown | Came::Completed, Ended::Stopped) => {
                "Whether the upstream acted is not known; look before you try again."
            }
            (Came::Unknown | Came::Completed, _) => "Whether the upstream acted is not known.",
        };
        let told = format!("{told} {what}");
        Self { came, cause, told }
    }
}

/// Sends what was permitted, passes on what comes back, and settles the outcome. None: the stream
/// ends without its response, which the client may come back for.
pub(super) async fn send(
    plane: &Arc<Plane>,
    call: &Arc<Call>,
    cleared: Recorded<Permit>,
    flight: InFlight,
    out: &Out,
) -> Option<Answer> {
    let _flight = flight;
    let name = call.addressed();
    let _first = call.looks.set(Arc::clone(cleared.value().looks()));
    let mut ending = Ending::watch(plane, call, out);
    let found = match ending.check() {
        Ok(()) => ending.or(Route::find(plane, call)).await,
        Err(ended) => Err(ended),
    };
    let route = match found {
        Ok(Ok(route)) => route,
        Err(ended) => {
            let failure = Failure::ended(Came::NotSent, ended);
            return Some(fail(plane, call, cleared, failure).await);
        }
        Ok(Err(error)) => {
            let why = chain(&error);
            let at = &call.served.name;
            tracing::warn!(upstream.name = %at, error = why, "Upstream {at} could not be reached");
            // Why is for those who run the node: it may name their files and variables.
            let told = format!(
                "Upstream `{name}` cannot be reached; nothing was sent to it. Why is in the node's \
                 log, and `tipstaff doctor` says what to do."
            );
            let failure = Failure::not_sent("unreachable", told);
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    let edited = match looks::edited(plane, &cleared).await {
        Ok(edited) => edited,
        Err(error) => {
            let failure = Failure::not_sent("not-masked", error.to_string());
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    let (outgoing, back) = match route.permitted(&cleared, edited.as_ref(), call) {
        Ok(outgoing) => outgoing,
        Err(error) => {
            let failure = Failure::not_sent("not-carried", error.to_string());
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    // Standing is looked at when deciding, when recording, and here, last thing before sending.
    if let Err(ended) = ending.check() {
        let failure = Failure::ended(Came::NotSent, ended);
        return Some(fail(plane, call, cleared, failure).await);
    }
    // Before it is sent: a child may speak before it answers, and its words meet this permit.
    let _hub = route.attach(call, &back, out);
    let sent = ending.or(pin!(route.link.request(outgoing))).await;
    let mut exchange = match sent {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(error)) => return Some(unsent(plane, call, cleared, &route, &error).await),
        Err(ended) => {
            let failure = Failure::ended(Came::Unknown, ended);
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    let mut resumable = false;
    let failure = loop {
        let next = ending.or(pin!(exchange.next())).await;
        let message = match next {
            Ok(message) => message,
            Err(ended) => break Failure::ended(Came::Unknown, ended),
        };
        match message {
            Some(Ok(message)) => match message.kind {
                MessageKind::Response => {
                    return Some(answer(plane, call, cleared, &route, &back, &message).await);
                }
                MessageKind::Empty => {
                    resumable |= message.event_id.is_some();
                    let event = route.event(plane, &message, Bytes::new());
                    // A client that does not read must not keep the call alive.
                    if let Err(ended) = ending.or(out.event(event)).await {
                        break Failure::ended(Came::Unknown, ended);
                    }
                }
                MessageKind::Notification => {
                    resumable |= message.event_id.is_some();
                    heed(plane, &call.served, &message.json);
                    let passed = match looks::back(plane, &cleared, &message.json).await {
                        Passed::Message(json) => route.notification(&json, Some(&back)),
                        // The client may still come back for what follows it.
                        Passed::Withheld(_) => message.event_id.is_some().then(Bytes::new),
                    };
                    if let Some(json) = passed {
                        let event = route.event(plane, &message, json);
                        if let Err(ended) = ending.or(out.event(event)).await {
                            break Failure::ended(Came::Unknown, ended);
                        }
                    }
                }
                MessageKind::Request => {
                    resumable |= message.event_id.is_some();
                    let sink = |event| out.event(event);
                    let asking = ask_within(plane, call, &route, &cleared, message, sink);
                    Box::pin(asking).await;
                }
            },
            Some(Err(ExchangeError::Ended)) | None if resumable && route.keeps() => {
                route.keep(back, cleared);
                return Some(Answer::bare(StatusCode::OK));
            }
            None => break lost(name, &ExchangeError::Ended),
            Some(Err(ExchangeError::Http { status, body })) => {
                return Some(http_error(plane, call, cleared, &route, &back, status, &body).await);
            }
            Some(Err(error)) => break lost(name, &error),
        }
    };
    stop(exchange);
    Some(fail(plane, call, cleared, failure).await)
}

/// Dropping an exchange before its response cancels it upstream.
fn stop(exchange: Exchange) {
    drop(exchange);
}

fn lost(name: &UpstreamName, error: &ExchangeError) -> Failure {
    tracing::warn!(upstream.name = %name, error = chain(error), "Upstream {name} did not answer a call");
    match error {
        ExchangeError::Timeout { after } => Failure::unknown(
            "timeout",
            format!(
                "Upstream `{name}` did not answer within {} s. Whether it acted is not known; \
                 look before you try again.",
                after.as_secs()
            ),
        ),
        ExchangeError::TooLong { limit } => Failure::unknown(
            "answer-too-long",
            format!("Upstream `{name}` answered with more than {limit} bytes, which is not read."),
        ),
        ExchangeError::Malformed { .. } => Failure::unknown(
            "malformed-answer",
            format!("Upstream `{name}` answered with something that is not an MCP message."),
        ),
        ExchangeError::Ended | ExchangeError::Gone(_) | ExchangeError::Http { .. } => {
            Failure::unknown(
                "broken",
                format!(
                    "The connection to upstream `{name}` broke before it answered. Whether it \
                     acted is not known; look before you try again."
                ),
            )
        }
    }
}

async fn unsent(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    route: &Route,
    error: &SendError,
) -> Answer {
    let (name, at) = (call.addressed(), &call.served.name);
    tracing::warn!(upstream.name = %at, error = chain(error), "A call to upstream {at} was not sent");
    route.failed(plane, error);
    let failure = match error {
        SendError::NotSent(_) => Failure::not_sent(
            "not-sent",
            format!("Upstream `{name}` cannot be reached; nothing was sent to it."),
        ),
        // Over HTTP, sending lasts until the answer begins.
        SendError::Unknown(Cause::Timeout { after }) => {
            lost(name, &ExchangeError::Timeout { after: *after })
        }
        SendError::Unknown(_) => Failure::unknown(
            "broken",
            format!(
                "The connection to upstream `{name}` broke while the call was sent. Whether it \
                 acted is not known; look before you try again."
            ),
        ),
    };
    fail(plane, call, cleared, failure).await
}
