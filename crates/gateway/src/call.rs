//! The walk of one call: attributed, decided, recorded, sent, recorded, answered. Read this file
//! and you have read the product.
//!
//! A [`Caller`] comes from `tokens`: who asks was proven before the body was read. What may be
//! sent upstream is decided by [`decide`], which gives a `Recorded<Permit>` or an answer that says
//! no; [`send`] takes nothing else. Every way out of [`send`] goes through [`settle`], which puts
//! the outcome on record before the client sees anything of it.

mod asked;
mod who;

pub(crate) use self::asked::{abandon, ask_client, client_answered};
pub(crate) use self::who::Who;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use ledger::seal::group_of;
use ledger::{Actor, ActorKind, AppendError, Guard, Record, RecordError, Recorded, Ruling};
use mcp::error::Verdict;
use mcp::frame::{Param, ReplyEdit, meta};
use mcp::{Era, Frame, Method, Raw, Request, Response};
use policy::{Facts, Target};
use register::{Instance, Pep, Why};
use serde_json::value::RawValue;
use tokens::Caller;
use tokio::time::timeout;
use vocab::{AgentId, Digest, InstanceId, RecordRef, ToolName, UpstreamName};

use self::asked::{asked_in, questions, withhold};
use crate::answer::{Answer, Event, Out};
use crate::ending::{Ended, Ending};
use crate::limits::{InFlight, Stop};
use crate::plane::{Life, Plane, Served, Snapshot};
use crate::record::{
    Asked, Came, Decided, DecisionBody, DecisionSeal, Intent, LeftOut, OTHER_METHOD, Outcome,
    OutcomeBody, Over, Permit, SealedRef, seal,
};
use crate::route::Route;
use crate::session::Session;
use crate::upstream::{Cause, Exchange, ExchangeError, Message, MessageKind, SendError, chain};

/// One request that needs a permit.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Arc<Caller>,
    pub(crate) served: Arc<Served>,
    pub(crate) request: Arc<Request>,
    pub(crate) era: Era,
    pub(crate) trace: Option<String>,
    pub(crate) session: Option<Arc<Session>>,
    /// Headers of the client's request that mirror its body (modern era).
    pub(crate) mirrored: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl Call {
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
        Ok((cleared, flight)) => send(plane, call, cleared, flight, &out).await,
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
}

impl Denied {
    /// A refusal that could not be put on record.
    pub(crate) fn unrecorded(reason: &str) -> Self {
        Self {
            effect: mcp::error::Effect::Deny,
            reason: reason.to_owned(),
            policies: Vec::new(),
            record: None,
        }
    }

    pub(crate) fn verdict(&self, plane: &Plane) -> Verdict {
        verdict(
            plane,
            self.effect,
            &self.reason,
            &self.policies,
            self.record.clone(),
        )
    }

    fn answer(&self, plane: &Plane, call: &Call) -> Answer {
        let id = call.request.id();
        let verdict = self.verdict(plane);
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
    }
}

/// Decides and records. What comes back may be sent; every other way out is a denial.
pub(crate) async fn decide(
    plane: &Arc<Plane>,
    call: &Call,
    subject: &Subject,
) -> Result<(Recorded<Permit>, InFlight), Denied> {
    let target = target(plane, call, subject).await?;
    rule(plane, call, subject, target).await
}

/// What there is to decide on, once the upstream's tools are known.
async fn target<'a>(
    plane: &Arc<Plane>,
    call: &Call,
    subject: &'a Subject,
) -> Result<&'a Target, Denied> {
    if let Err(why) = plane.life.check() {
        return Err(Denied::unrecorded(why));
    }
    let Some(target) = &subject.target else {
        plane
            .refusals
            .note("bad-tool-name", "call", Some(call.caller.instance()));
        return Err(Denied::unrecorded(
            "The tool's name is not one that a tool can have. Use a name from tools/list.",
        ));
    };
    plane.ensure_tools(&call.served).await;
    Ok(target)
}

async fn rule(
    plane: &Arc<Plane>,
    call: &Call,
    subject: &Subject,
    target: &Target,
) -> Result<(Recorded<Permit>, InFlight), Denied> {
    let question = Question {
        instance: call.caller.instance(),
        proven: call.caller.proven(),
        token: call.caller.token_id(),
        token_key: Some(call.caller.token_key()),
        actor: actor(&call.caller),
        served: &call.served,
        method: subject.request.method().as_str(),
        target,
        args: &subject.args,
        id: subject.request.id_text(),
        trace: call.trace.as_deref(),
        asker: None,
    };
    ruled(plane, &question, |decided| Intent {
        request: Arc::clone(&subject.request),
        decided,
    })
    .await
}

/// What is to be decided: who asks for what.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) instance: &'a InstanceId,
    /// Whether it proved possession of its key.
    pub(crate) proven: bool,
    /// The id of its token; empty if somebody asks who showed none.
    pub(crate) token: &'a str,
    /// The node's key that signed it; none if there is no token.
    pub(crate) token_key: Option<&'a Arc<str>>,
    pub(crate) actor: Actor,
    pub(crate) served: &'a Arc<Served>,
    pub(crate) method: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) args: &'a RawValue,
    /// The request's id, as its protocol writes it.
    pub(crate) id: &'a str,
    pub(crate) trace: Option<&'a str>,
    /// Who is to be told, if it is somebody who acts on it elsewhere.
    pub(crate) asker: Option<(&'a Arc<Pep>, Over)>,
}

/// Decides and records, as what `made` makes of the decision.
pub(crate) async fn ruled<R>(
    plane: &Arc<Plane>,
    question: &Question<'_>,
    made: impl Fn(Decided) -> R,
) -> Result<(Recorded<R::Permit>, InFlight), Denied>
where
    R: Record + Ruling,
{
    // Twice at most: the second time because the caller was narrowed between decision and record.
    for last in [false, true] {
        let Some(who) = Who::now(plane, question.instance, &question.served.name) else {
            return Err(Denied::unrecorded(NARROWED));
        };
        match decide_once(plane, question, &who, &made).await {
            Ok(cleared) => return Ok(cleared),
            Err(Undecided::Denied(denied)) => return Err(denied),
            Err(Undecided::Narrowed) if last => break,
            Err(Undecided::Narrowed) => {}
        }
    }
    Err(Denied::unrecorded(NARROWED))
}

const NARROWED: &str = "This agent instance may not act any more. Stop, and tell the person you \
                        work for.";
pub(crate) const UNRECORDED: &str = "The call was not made: it could not be put on record, and \
                                     nothing is done here that is not on record. Try again later.";

enum Undecided {
    /// The guard said no: the caller was narrowed after the decision.
    Narrowed,
    Denied(Denied),
}

async fn decide_once<R>(
    plane: &Arc<Plane>,
    question: &Question<'_>,
    who: &Who,
    made: impl Fn(Decided) -> R,
) -> Result<(Recorded<R::Permit>, InFlight), Undecided>
where
    R: Record + Ruling,
{
    let (instance, agent) = (&who.instance, &who.agent);
    let (served, target) = (question.served, question.target);
    let elapsed = plane.clock.elapsed();
    let flight = plane.limiter.depart(&instance.id);
    let spending = plane.limiter.spend(&instance.id, who.counted());
    let limit = match (&flight, &spending) {
        (Err(limit), _) | (_, Err(limit)) => Some(limit.clone()),
        (Ok(_), Ok(_)) => plane
            .limiter
            .admit(&agent.id, agent.limits.calls_per_minute, elapsed),
    };
    let snapshot = &who.snapshot;
    let mut facts = Facts {
        v: policy::FACTS_VERSION,
        instance: who.facts(question.proven),
        upstream: served.name.clone(),
        target: target.clone(),
        args: question.args.to_owned(),
        now: plane.clock.now(),
        standing: who.standing.as_ref().err().map(ToString::to_string),
        limit,
        observe: served.observing(plane.clock.now()),
        approval: None,
    };
    let mut decision = snapshot.engine.decide(&facts);
    let denied = match &decision {
        policy::Decision::Permit(_) => None,
        policy::Decision::Hold(hold) => {
            let why = (policy::Stage::Approval, hold.policies());
            Some(kind_of(why, target, &served.name))
        }
        policy::Decision::Denial(denial) => {
            let why = (denial.stage(), denial.policies());
            Some(kind_of(why, target, &served.name))
        }
    };
    let stop = denied.and_then(|what| plane.limiter.denied(&instance.id, what, elapsed));
    if let Some(stop) = &stop
        && facts.limit.is_none()
    {
        facts.limit = Some(stop.text.clone());
        decision = snapshot.engine.decide(&facts);
    }
    let is_one_too_many = stop.is_some();
    if let Some(Stop {
        text,
        record: Some(record),
    }) = stop
    {
        let denied = repeated(plane, question, &decision, (text, record));
        return Err(Undecided::Denied(denied));
    }
    let said = decision.verdict();
    if said.observed {
        tracing::warn!(
            agent.id = %agent.id, upstream.name = %served.name,
            "Observe mode let pass what policy denies: {} by {}", target.action(&served.name),
            agent.id
        );
    }
    plane
        .metrics
        .decided(said.effect == policy::Effect::Allow, said.stage);
    if said.effect == policy::Effect::Allow && !who.under().is_empty() {
        plane.metrics.under_glass();
        tracing::warn!(
            agent.id = %agent.id, upstream.name = %served.name,
            "Break-glass let {} {} although nobody answers for it", agent.id,
            target.action(&served.name)
        );
    }
    let decided =
        decided(plane, question, who, snapshot, facts, decision, &said).map_err(|cause| {
            tracing::error!(error = %cause, "A decision could not be sealed, so nothing was sent");
            Undecided::Denied(Denied::unrecorded(UNRECORDED))
        })?;
    let recorded = match ledger::record(&*plane.calls, made(decided)).await {
        Ok(recorded) => recorded,
        Err(RecordError::Append(AppendError::Narrowed)) => return Err(Undecided::Narrowed),
        Err(cause) => {
            Life::noted(&cause);
            return Err(Undecided::Denied(Denied::unrecorded(UNRECORDED)));
        }
    };
    match (
        recorded.permitted(),
        flight.and_then(|flight| Ok((flight, spending?))),
    ) {
        (Ok(cleared), Ok((flight, spending))) => {
            spending.spent();
            plane.control.touch(&instance.id, plane.clock.now());
            Ok((cleared, flight))
        }
        (Ok(cleared), Err(full)) => {
            // A full house is a limit in the facts, so this is a denial; if it ever were not, the
            // call would still not be made.
            drop(cleared);
            Err(Undecided::Denied(Denied::unrecorded(&full)))
        }
        (Err(refused), _) => {
            let record = RecordRef::from(refused.receipt());
            if let (Some(what), true) = (denied, is_one_too_many) {
                plane.limiter.stopped(&instance.id, what, &record);
            }
            Err(Undecided::Denied(Denied {
                effect: told(said.effect),
                reason: match unavailable(snapshot, served) {
                    Some(why) => format!("{} {why}", said.reason),
                    None => said.reason,
                },
                policies: said.policies,
                record: Some(record),
            }))
        }
    }
}

const fn told(effect: policy::Effect) -> mcp::error::Effect {
    match effect {
        policy::Effect::Allow => mcp::error::Effect::Allow,
        policy::Effect::Hold => mcp::error::Effect::Hold,
        policy::Effect::Deny => mcp::error::Effect::Deny,
    }
}

/// What makes two denials of an instance the same: the action, and why it was denied. Tools that
/// the upstream does not have are all one, or an instance could go on with another name each time.
fn kind_of(
    (stage, policies): (policy::Stage, &[String]),
    target: &Target,
    upstream: &UpstreamName,
) -> Digest {
    let action = match stage {
        policy::Stage::UnknownTool => upstream.to_string(),
        _ => target.action(upstream),
    };
    let policies = policies.join(",");
    let what = [&action, stage.as_str(), &policies];
    Digest::of(what.join("\n").as_bytes())
}

/// A denial like the one that tripped the breaker. That one is on record in full; those after it
/// are counted, so that an agent that goes on and on does not fill the disk.
fn repeated(
    plane: &Plane,
    question: &Question<'_>,
    decision: &policy::Decision,
    (stop, record): (String, RecordRef),
) -> Denied {
    let said = decision.verdict();
    plane.metrics.decided(false, said.stage);
    let instance = Some(question.instance);
    plane.refusals.note("repeated-denial", "call", instance);
    Denied {
        effect: mcp::error::Effect::Deny,
        reason: match said.stage {
            // Which may be another limit than the breaker's.
            Some(policy::Stage::Limit) => said.reason,
            _ => stop,
        },
        policies: said.policies,
        record: Some(record),
    }
}

/// What callers are told of an upstream whose tools were never listed, so that nothing is permitted
/// there. Why is for those who run the node: it may name their files and variables.
fn unavailable(snapshot: &Snapshot, served: &Served) -> Option<String> {
    if snapshot.tools.contains_key(&served.name) {
        return None;
    }
    served.upstream.trouble()?;
    Some(
        "It is not available. Whoever runs this node can mend that: `tipstaff doctor` says why."
            .to_owned(),
    )
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

#[derive(Debug, thiserror::Error)]
enum IntentError {
    #[error("no group key: {0}")]
    Key(#[from] ledger::KeyringError),
    #[error("not sealed: {0}")]
    Seal(#[from] ledger::seal::SealError),
    #[error("facts cannot be written: {0}")]
    Facts(#[from] serde_json::Error),
}

fn decided(
    plane: &Arc<Plane>,
    question: &Question<'_>,
    who: &Who,
    snapshot: &Snapshot,
    mut facts: Facts,
    decision: policy::Decision,
    said: &policy::Verdict,
) -> Result<Decided, IntentError> {
    let (instance, agent) = (&who.instance, &who.agent);
    let group = group_of(&instance.sponsor, &agent.id, facts.now);
    let (handle, key) = plane.group_key(&group)?;
    let (method, tool, unlisted) = named(snapshot, question);
    let (details, left_out) = match &decision {
        policy::Decision::Permit(_) => (who.details(&facts), None),
        policy::Decision::Hold(_) | policy::Decision::Denial(_) => {
            (Vec::new(), leave_out(plane, &agent.id, &mut facts))
        }
    };
    let plain = serde_json::to_vec(&DecisionSeal {
        facts,
        reason: said.reason.clone(),
        left_out,
    })?;
    let (reference, sealed) = seal((&handle, &key), &*plane.rng, &plain)?;
    let ticket = plane.open.begin(|| plane.calls.reader().size());
    let body = DecisionBody {
        instance: instance.id.clone(),
        agent: agent.id.clone(),
        sponsor: instance.sponsor.clone(),
        purpose: instance.purpose.clone(),
        chain: who.chain(),
        details,
        proven: question.proven,
        token: question.token.to_owned(),
        upstream: question.served.name.clone(),
        method: method.to_owned(),
        tool,
        unlisted,
        request: Digest::of(question.id.as_bytes()),
        authority: who::lines(agent),
        effect: said.effect.into(),
        stage: said.stage.map(|stage| stage.as_str().to_owned()),
        observed: said.observed,
        policies: said.policies.clone(),
        basis: snapshot.basis(question.served, who.control_size),
        facts: reference,
        software: agent.software.as_str().to_owned(),
        model: agent.model.as_str().to_owned(),
        environment: agent.environment.as_str().to_owned(),
        open_from: ticket.open_from(),
        break_glass: who.under(),
        asked: question.asker.map(|(pep, over)| Asked {
            by: pep.name.clone(),
            over,
        }),
    };
    let asker = question.asker.map(|(pep, _)| Arc::clone(pep));
    let control = Arc::clone(&plane.control);
    let active = who.standing.as_ref().ok().cloned();
    let token_key = question.token_key.cloned();
    let upstream = question.served.name.clone();
    Ok(Decided {
        decision,
        body,
        actor: question.actor.clone(),
        trace: question.trace.map(str::to_owned),
        sealed,
        standing: Box::new(move || -> Guard {
            let (control, active, token_key, asker) = (
                Arc::clone(&control),
                active.clone(),
                token_key.clone(),
                asker.clone(),
            );
            let upstream = upstream.clone();
            Box::new(move |now| {
                active.is_some_and(|active| control.still(&active, &upstream, now).is_ok())
                    // A key that leaked could have signed the token of somebody else.
                    && token_key.is_none_or(|key| {
                        control.view(|state| state.token_key_verifies(&key, now))
                    })
                    && asker.is_none_or(|pep| {
                        control.view(|state| state.pep(&pep.name).is_some_and(|it| *it == pep))
                    })
            })
        }),
        ticket,
    })
}

/// The method and the tool as an entry may name them, and whether it may not: what nothing lists
/// somebody may have made up, and anything can be in such a name.
fn named<'a>(snapshot: &Snapshot, question: &Question<'a>) -> (&'a str, Option<ToolName>, bool) {
    match question.target {
        Target::Tool { name } => {
            let known = snapshot.tools.get(&question.served.name);
            let has = known.is_some_and(|(_, tools)| tools.list().has(name));
            (question.method, has.then(|| name.clone()), !has)
        }
        Target::Method { .. } => match Method::from(question.method) {
            Method::Other(_) => (OTHER_METHOD, None, true),
            _ => (question.method, None, false),
        },
    }
}

/// Takes the arguments of a denied call out of its facts, if they are not to be kept.
fn leave_out(plane: &Plane, agent: &AgentId, facts: &mut Facts) -> Option<LeftOut> {
    let text = facts.args.get();
    if plane
        .limiter
        .keeps(agent, text.len(), plane.clock.elapsed())
    {
        return None;
    }
    let left_out = LeftOut {
        digest: Digest::of(text.as_bytes()),
        bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
    };
    facts.args = RawValue::NULL.to_owned();
    if let Target::Method { name_or_uri, .. } = &mut facts.target {
        // It is one of the arguments.
        *name_or_uri = None;
    }
    Some(left_out)
}

/// Why a permitted call did not bring an answer, in a fixed word for the record and a sentence for
/// the client.
#[derive(Debug, Clone)]
struct Failure {
    came: Came,
    cause: &'static str,
    told: String,
}

impl Failure {
    fn not_sent(cause: &'static str, told: String) -> Self {
        Self {
            came: Came::NotSent,
            cause,
            told,
        }
    }

    fn unknown(cause: &'static str, told: String) -> Self {
        Self {
            came: Came::Unknown,
            cause,
            told,
        }
    }
}

impl Failure {
    fn ended(came: Came, ended: Ended) -> Self {
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
async fn send(
    plane: &Arc<Plane>,
    call: &Arc<Call>,
    cleared: Recorded<Permit>,
    flight: InFlight,
    out: &Out,
) -> Option<Answer> {
    let _flight = flight;
    let name = &call.served.name;
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
            tracing::warn!(upstream.name = %name, error = why, "Upstream {name} could not be reached");
            // Why is for those who run the node: it may name their files and variables.
            let told = format!(
                "Upstream `{name}` cannot be reached; nothing was sent to it. Why is in the node's \
                 log, and `tipstaff doctor` says what to do."
            );
            let failure = Failure::not_sent("unreachable", told);
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    let (outgoing, back) = match route.permitted(&cleared, call) {
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
    let sent = ending.or(pin!(route.link.request(outgoing))).await;
    let mut exchange = match sent {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(error)) => return Some(unsent(plane, call, cleared, &route, &error).await),
        Err(ended) => {
            let failure = Failure::ended(Came::Unknown, ended);
            return Some(fail(plane, call, cleared, failure).await);
        }
    };
    let _hub = route.attach(call, &back, out);
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
                    let event = Event {
                        json: Bytes::new(),
                        id: message.event_id,
                        retry: message.retry,
                    };
                    // A client that does not read must not keep the call alive.
                    if let Err(ended) = ending.or(out.event(event)).await {
                        break Failure::ended(Came::Unknown, ended);
                    }
                }
                MessageKind::Notification => {
                    resumable |= message.event_id.is_some();
                    if let Some(json) = route.notification(&message.json, &back) {
                        let event = Event {
                            json,
                            id: message.event_id,
                            retry: message.retry,
                        };
                        if let Err(ended) = ending.or(out.event(event)).await {
                            break Failure::ended(Came::Unknown, ended);
                        }
                    }
                }
                MessageKind::Request => {
                    resumable |= message.event_id.is_some();
                    let sink = |event| out.event(event);
                    Box::pin(ask_client(plane, call, &route, message, sink)).await;
                }
            },
            Some(Err(ExchangeError::Ended)) | None if resumable && route.keeps() => {
                route.keep(call, cleared);
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
    let name = &call.served.name;
    tracing::warn!(upstream.name = %name, error = chain(error), "A call to upstream {name} was not sent");
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

/// Settles a call without an answer of the upstream's.
async fn fail(
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
async fn answer(
    plane: &Arc<Plane>,
    call: &Call,
    cleared: Recorded<Permit>,
    route: &Route,
    back: &crate::route::Back,
    message: &Message,
) -> Answer {
    let record = RecordRef::from(cleared.receipt());
    let said = cleared.value().policy().verdict();
    let decision = verdict(
        plane,
        mcp::error::Effect::Allow,
        &said.reason,
        &said.policies,
        Some(record),
    );
    let response = match Frame::parse(message.json.clone()) {
        Ok(Frame::Response(response)) => response,
        Ok(Frame::Request(_) | Frame::Notification(_)) | Err(_) => {
            let name = &call.served.name;
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
        event: Some(Event {
            json: delivered,
            id: message.event_id.clone(),
            retry: message.retry,
        }),
    }
}

/// An upstream that answers with an HTTP error has answered, if its body is a JSON-RPC error.
async fn http_error(
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
    let name = &call.served.name;
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
struct Seen<'a> {
    said: &'a [u8],
    delivered: &'a [u8],
    is_error: bool,
}

/// The outcome could not be put on record, so nobody hears of it.
struct Unsettled;

/// Puts the outcome of a permitted call on record. If that fails the node stops serving: an effect
/// without a record of its outcome must be the last.
async fn settle(
    plane: &Arc<Plane>,
    (caller, trace): (&Caller, Option<&str>),
    cleared: Recorded<Permit>,
    came: Came,
    cause: Option<&str>,
    seen: Option<Seen<'_>>,
) -> Result<(), Unsettled> {
    let decision = cleared.receipt().index;
    // A call that took long was use, too.
    plane.control.touch(caller.instance(), plane.clock.now());
    let instance = plane
        .control
        .view(|state| state.instance(caller.instance()).cloned());
    let (mut salt, mut sealed, mut said, mut delivered) = (None, None, None, None);
    if let (Some(seen), Some(instance)) = (&seen, &instance)
        && let Ok((reference, bytes, fresh)) = salted(plane, instance)
    {
        said = Some(Digest::of_parts(&[&fresh, seen.said]));
        delivered = Some(Digest::of_parts(&[&fresh, seen.delivered]));
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
    cleared: Recorded<Permit>,
    route: &Route,
    message: &Message,
    response: &Response,
) -> Answer {
    let id = response.id().map_or(Raw::NULL, Raw::into_owned);
    let back = crate::route::Back::as_sent(id);
    answer(plane, call, cleared, route, &back, message).await
}

/// The parameter that a progress notification carries its token in.
pub(crate) const PROGRESS: Param = Param::ProgressToken;
