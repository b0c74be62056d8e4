//! The walk of one call: attributed, decided, recorded, sent, recorded, answered. Read this file
//! with `decide`, `send` and `settle` below it, and you have read the product.
//!
//! A [`Caller`] comes from `tokens`: who asks was proven before the body was read. What may be
//! sent upstream is decided by [`decide`], which gives a `Recorded<Permit>` or an answer that says
//! no; [`send`] takes nothing else. Every way out of [`send`] goes through [`settle`], which puts
//! the outcome on record before the client sees anything of it.

mod approval;
mod asked;
mod decide;
mod routed;
mod send;
mod settle;
mod shown;
mod who;

pub(crate) use self::asked::{abandon, ask_client, client_answered};
pub(crate) use self::decide::{Question, UNRECORDED, ruled};
pub(crate) use self::settle::late_answer;
pub(crate) use self::who::Who;

use std::pin::pin;
use std::sync::{Arc, OnceLock};

use ledger::{Actor, ActorKind, Recorded};
use mcp::error::Verdict;
use mcp::{Era, Method, Request};
use policy::Target;
use serde_json::value::RawValue;
use tokens::Caller;
use tokio::time::timeout;
use vocab::{RecordRef, UpstreamName};

use self::decide::{decide, rule, target};
use self::send::send;
use self::settle::settle;
use crate::answer::{Answer, Out};
use crate::limits::InFlight;
use crate::looks::Looks;
use crate::plane::{Plane, Served};
use crate::record::{Came, Permit};
use crate::session::Session;

/// One request that needs a permit.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Arc<Caller>,
    pub(crate) served: Arc<Served>,
    /// The upstream that was asked, if policy sends the call to another.
    pub(crate) asked: Option<Arc<Served>>,
    pub(crate) request: Arc<Request>,
    pub(crate) era: Era,
    pub(crate) trace: Option<String>,
    /// Whether the trace is sampled.
    pub(crate) sampled: bool,
    pub(crate) session: Option<Arc<Session>>,
    /// The id that the upstream knows the request by, once it is sent.
    pub(crate) sent_as: OnceLock<i64>,
    /// What is looked into of it, once it is permitted.
    pub(crate) looks: OnceLock<Arc<Looks>>,
}

impl Call {
    /// The upstream that the client asked, and knows of.
    fn addressed(&self) -> &UpstreamName {
        &self.asked.as_ref().unwrap_or(&self.served).name
    }

    /// The call as it is made where policy sends it. Nothing of the session goes along: that is a
    /// conversation with the upstream that was asked.
    fn sent_to(&self, served: &Arc<Served>) -> Arc<Self> {
        Arc::new(Self {
            caller: Arc::clone(&self.caller),
            served: Arc::clone(served),
            asked: Some(Arc::clone(&self.served)),
            request: Arc::clone(&self.request),
            era: self.era,
            trace: self.trace.clone(),
            sampled: self.sampled,
            session: None,
            sent_as: OnceLock::new(),
            looks: OnceLock::new(),
        })
    }

    /// Who it is from, and its trace.
    fn origin(&self) -> (&Caller, Option<&str>) {
        (&self.caller, self.trace.as_deref())
    }
}

/// Takes one call through the whole walk.
pub(crate) async fn walk(plane: &Arc<Plane>, call: &Arc<Call>, out: Out) {
    let subject = subject(&call.request);
    let decided = match target(plane, call, &subject).await {
        Ok(target) => {
            let mut ruling = pin!(rule(plane, call, &subject, target));
            match timeout(plane.settings.record_timeout, ruling.as_mut()).await {
                Ok(decided) => decided,
                Err(_elapsed) => return Box::pin(too_late(plane, call, ruling, out)).await,
            }
        }
        Err(denied) => Err(denied),
    };
    let answer = match decided {
        Ok((cleared, flight)) => match cleared.value().routed().map(|to| call.sent_to(to)) {
            None => send(plane, call, cleared, flight, &out).await,
            Some(there) => Box::pin(send(plane, &there, cleared, flight, &out)).await,
        },
        Err(denied) => Some(denied.answer(plane, call)),
    };
    if let Some(answer) = answer {
        // A client that is gone by now misses its answer; the outcome is on record.
        let _gone = out.last(answer).await;
    }
}

/// Refuses a call whose record is not there in time. If it comes to be all the same, its outcome
/// says that nothing was sent.
async fn too_late(
    plane: &Arc<Plane>,
    call: &Call,
    ruling: impl Future<Output = Result<(Recorded<Permit>, InFlight), Denied>>,
    out: Out,
) {
    tracing::error!("A decision waited too long for its record, so nothing was sent");
    let denied = Denied::unrecorded(UNRECORDED);
    let _gone = out.last(denied.answer(plane, call)).await;
    if let Ok((late, _flight)) = ruling.await {
        // If it fails the node stops.
        let _settled = settle(
            plane,
            call.origin(),
            late,
            Came::NotSent,
            Some("record-timeout"),
            None,
        )
        .await;
    }
}

/// What policy decides on.
#[derive(Debug)]
pub(crate) struct Subject {
    request: Arc<Request>,
    target: Option<Target>,
    args: Box<RawValue>,
}

impl Subject {
    /// What is asked for and with what; none if there is no such thing.
    pub(crate) fn parts(&self) -> Option<(&Target, &RawValue)> {
        Some((self.target.as_ref()?, &self.args))
    }
}

pub(crate) fn subject(request: &Arc<Request>) -> Subject {
    let (target, args) = match request.method() {
        Method::ToolsCall => {
            let name = request.name().and_then(|name| name.parse().ok());
            (
                name.map(|name| Target::Tool { name }),
                request.arguments_text().unwrap_or("{}"),
            )
        }
        other => {
            let name_or_uri = request.subject().map(std::borrow::Cow::into_owned);
            let target = Target::Method {
                method: other.as_str().to_owned(),
                name_or_uri,
            };
            (Some(target), request.params_text().unwrap_or("{}"))
        }
    };
    Subject {
        request: Arc::clone(request),
        target,
        args: raw(args),
    }
}

/// Text that a strict parse took once already.
fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A call that is not made, and what its caller is told.
#[derive(Debug)]
pub(crate) struct Denied {
    effect: mcp::error::Effect,
    reason: String,
    policies: Vec<String>,
    record: Option<RecordRef>,
    /// What was asked of people, if it waits for them.
    approval: Option<Box<mcp::error::Approval>>,
}

impl Denied {
    /// A refusal that could not be put on record.
    pub(crate) fn unrecorded(reason: &str) -> Self {
        Self {
            effect: mcp::error::Effect::Deny,
            reason: reason.to_owned(),
            policies: Vec::new(),
            record: None,
            approval: None,
        }
    }

    pub(crate) fn verdict(&self, plane: &Plane) -> Verdict {
        let record = self.record.clone();
        Verdict {
            approval: self.approval.clone(),
            ..verdict(plane, self.effect, &self.reason, &self.policies, record)
        }
    }

    fn answer(&self, plane: &Plane, call: &Call) -> Answer {
        let id = call.request.id();
        let verdict = self.verdict(plane);
        if let Some(approval) = self
            .approval
            .as_ref()
            .filter(|_| approval::opens_urls(call))
        {
            let text = "People have to approve this call first.";
            let url = (approval::KEY, approval.url.as_str(), text);
            return Answer::ok(mcp::error::ask_url(&id, url, &verdict));
        }
        Answer::ok(match call.request.method() {
            Method::ToolsCall => {
                mcp::error::denied_tool_call(&id, call.era, &self.reason, &verdict)
            }
            _ => mcp::error::denied(&id, call.era, &self.reason, &verdict),
        })
    }
}

pub(crate) fn verdict(
    plane: &Plane,
    effect: mcp::error::Effect,
    reason: &str,
    policies: &[String],
    record: Option<RecordRef>,
) -> Verdict {
    Verdict {
        effect,
        reason: Some(reason.to_owned()),
        policies: plane.settings.show_policies.then(|| policies.to_vec()),
        record,
        warnings: Vec::new(),
        approval: None,
    }
}

/// The caller, as entries name it.
pub(crate) fn actor(caller: &Caller) -> Actor {
    Actor {
        kind: ActorKind::Instance,
        id: caller.instance().to_string(),
        credential: if caller.proven() { "dpop" } else { "bearer" }.to_owned(),
        verified: true,
    }
}
