//! Deciding on a call and putting the decision on record: what comes back may be sent.

use std::sync::Arc;

use ledger::seal::group_of;
use ledger::{Actor, AppendError, Guard, Record, RecordError, Recorded, Ruling};
use mcp::{Method, Request};
use policy::{Facts, Target};
use register::{Active, Pep};
use serde_json::value::RawValue;
use vocab::{AgentId, Digest, InstanceId, RecordRef, ToolName, UpstreamName};

use super::approval::{self, Held};
use super::routed::{self, Routed};
use super::{Call, Denied, Subject, Who, actor, who};
use crate::limits::{InFlight, Stop};
use crate::looks::{Looks, Seen};
use crate::plane::{Life, Plane, Served, Snapshot};
use crate::record::{
    Asked, Decided, DecisionBody, DecisionSeal, Intent, LeftOut, OTHER_METHOD, Over, Permit, seal,
};

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
pub(super) async fn target<'a>(
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

pub(super) async fn rule(
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
        passing: subject.request.params_text().unwrap_or("{}"),
        request: Some(&subject.request),
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
    /// All that passes with it, to be looked into; for a request of the protocol its parameters.
    pub(crate) passing: &'a str,
    /// The request, if it is one of the protocol.
    pub(crate) request: Option<&'a Request>,
    /// The request's id, as its protocol writes it.
    pub(crate) id: &'a str,
    pub(crate) trace: Option<&'a str>,
    /// Who is to be told, if it is somebody who acts on it elsewhere.
    pub(crate) asker: Option<(&'a Arc<Pep>, Over)>,
}

impl Question<'_> {
    /// All that would be done, as text: what an approval is for. Only held calls need it.
    pub(super) fn exact(&self) -> String {
        match self.request {
            Some(request) => approval::exact(request.params_text(), self.asker.is_none()),
            None => self.args.get().to_owned(),
        }
    }
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
    let sent_here = question.request.filter(|_| question.asker.is_none());
    let seen = Seen::request(plane, question.passing, sent_here).await;
    // Again where the caller was narrowed between decision and record, or where the tools were read of
    // the upstream that policy sends it to.
    for last in [false, false, true] {
        let Some(who) = Who::now(plane, question.instance, &question.served.name) else {
            return Err(narrowed(plane, question));
        };
        match decide_once(plane, question, (&who, &seen), &made).await {
            Ok(cleared) => return Ok(cleared),
            Err(Undecided::Denied(denied)) => return Err(denied),
            Err(Undecided::Changed) if last => break,
            Err(Undecided::Changed) => {}
        }
    }
    Err(narrowed(plane, question))
}

/// The answer to somebody of whom nobody can say any more who they are, or who was narrowed twice in
/// a moment: there is nothing to be put on record as decided, so it is counted.
fn narrowed(plane: &Plane, question: &Question<'_>) -> Denied {
    let instance = Some(question.instance);
    plane.refusals.note("narrowed", "call", instance);
    Denied::unrecorded(NARROWED)
}

pub(super) const NARROWED: &str = "This agent instance may not act any more. Stop, and tell the person you \
                        work for.";
pub(crate) const UNRECORDED: &str = "The call was not made: it could not be put on record, and \
                                     nothing is done here that is not on record. Try again later.";

enum Undecided {
    /// The guard said no: the caller was narrowed after the decision. Or what it rests on changed.
    Changed,
    Denied(Denied),
}

async fn decide_once<R>(
    plane: &Arc<Plane>,
    question: &Question<'_>,
    (who, seen): (&Who, &Seen),
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
    let tool = match target {
        Target::Tool { name } => Some(name),
        Target::Method { .. } => None,
    };
    let snapshot = &who.snapshot;
    // Of an upstream that was never listed nothing is known, and nothing permitted.
    let unread = tool.is_some() && !served.is_listed() && snapshot.tools.contains_key(&served.name);
    let mut facts = Facts {
        v: policy::FACTS_VERSION,
        instance: who.facts(question.proven),
        upstream: served.name.clone(),
        target: target.clone(),
        args: question.args.to_owned(),
        now: plane.clock.now(),
        standing: who.standing.as_ref().err().map(ToString::to_string),
        limit,
        unread,
        observe: served.observing(plane.clock.now()),
        approval: None,
        findings: seen.found.clone(),
        direction: policy::Direction::Request,
        elsewhere: question.asker.is_some(),
        labels: plane.flow.of(who.root()),
        no_route: None,
    };
    let mut decision = snapshot.engine.decide(&facts);
    let mut routed = None;
    if let Some(to) = decision.route() {
        let looked = Box::pin(routed::look(plane, who, &mut facts, to)).await;
        routed = looked.map_err(|routed::Changed| Undecided::Changed)?;
        if facts.no_route.is_some() {
            decision = snapshot.engine.decide(&facts);
        }
    }
    let routed = routed.as_ref();
    let decided_on = approval::decided(plane, question, who, (facts, decision), routed).await;
    let (mut facts, mut decision, held) = decided_on.map_err(Undecided::Denied)?;
    let denied = match &decision {
        policy::Decision::Permit(_) => None,
        // Who waits for people repeats nothing that was refused.
        policy::Decision::Hold(_) if held.as_ref().is_some_and(Held::asks) => None,
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
    if is_warned(&decision) {
        plane.metrics.warned();
    }
    if said.effect == policy::Effect::Allow && !who.under().is_empty() {
        plane.metrics.under_glass();
        tracing::warn!(
            agent.id = %agent.id, upstream.name = %served.name,
            "Break-glass let {} {} although nobody answers for it", agent.id,
            target.action(&served.name)
        );
    }
    let sent_to = routed.filter(|_| decision.effect() == policy::Effect::Allow);
    let sent_to = sent_to.filter(|_| decision.route().is_some());
    let to = sent_to.map_or(served, |it| &it.served);
    if sent_to.is_some() {
        plane.metrics.routed();
    }
    let decided = decided(
        plane,
        question,
        (who, seen),
        facts,
        decision,
        (&said, routed),
    )
    .map_err(|cause| {
        tracing::error!(error = %cause, "A decision could not be sealed, so nothing was sent");
        Undecided::Denied(Denied::unrecorded(UNRECORDED))
    })?;
    let recorded = match ledger::record(&*plane.calls, made(decided)).await {
        Ok(recorded) => recorded,
        Err(RecordError::Append(AppendError::Narrowed)) => return Err(Undecided::Changed),
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
            // Before anything is sent: who knows what comes back of it, and whether it is recorded.
            plane.pick_up(who.root(), &to.labels.of(tool));
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
            let denied = Denied {
                effect: told(said.effect),
                reason: match unavailable(snapshot, served) {
                    Some(why) => format!("{} {why}", said.reason),
                    None => said.reason,
                },
                policies: said.policies,
                record: Some(record),
                approval: None,
            };
            Err(Undecided::Denied(match held {
                // The breaker may have made a denial of it.
                Some(held) if said.effect == policy::Effect::Hold => {
                    held.ask(plane, question, denied).await
                }
                _ => denied,
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
        policy::Stage::UnknownTool | policy::Stage::ToolsNotRead => upstream.to_string(),
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
        approval: None,
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

#[derive(Debug, thiserror::Error)]
pub(super) enum IntentError {
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
    (who, seen): (&Who, &Seen),
    mut facts: Facts,
    decision: policy::Decision,
    (said, routed): (&policy::Verdict, Option<&Routed>),
) -> Result<Decided, IntentError> {
    let (instance, agent, snapshot) = (&who.instance, &who.agent, &who.snapshot);
    let group = group_of(&instance.sponsor, &agent.id, facts.now);
    let (handle, key) = plane.group_key(&group)?;
    let (method, tool, unlisted) = named(snapshot, question);
    let (details, left_out) = match &decision {
        policy::Decision::Permit(_) => (who.details(&facts), None),
        policy::Decision::Hold(_) | policy::Decision::Denial(_) => {
            (Vec::new(), leave_out(plane, &agent.id, &mut facts))
        }
    };
    let (found, masks) = (facts.findings.clone(), said.masks.clone());
    let approval = facts.approval.as_ref().map(|it| it.record);
    let basis = snapshot.basis(
        question.served,
        routed.map(|it| &*it.served),
        who.control_size,
    );
    // What it rests on stays what was looked at; where it goes is where the decision says.
    let routed = routed.filter(|it| said.routed_to.as_ref() == Some(&it.served.name));
    let served = routed.map_or(question.served, |it| &it.served);
    let sealed = DecisionSeal {
        facts,
        reason: said.reason.clone(),
        left_out,
    };
    let plain = serde_json::to_vec(&sealed)?;
    let looks = match &decision {
        policy::Decision::Permit(permit) => {
            let asked = (seen.findings.clone(), who.root().clone());
            let routed = routed.map(|it| &it.served.name);
            let looks = Looks::new(sealed.facts, Arc::clone(snapshot), asked, permit, routed);
            Some(Arc::new(looks))
        }
        policy::Decision::Hold(_) | policy::Decision::Denial(_) => None,
    };
    let warned = is_warned(&decision);
    let labels = match (&decision, question.target) {
        (policy::Decision::Permit(_), Target::Tool { name }) => served.labels.of(Some(name)),
        (policy::Decision::Permit(_), Target::Method { .. }) => served.labels.of(None),
        (policy::Decision::Hold(_) | policy::Decision::Denial(_), _) => Vec::new(),
    };
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
        routed_to: said.routed_to.clone(),
        effect: said.effect.into(),
        stage: said.stage.map(|stage| stage.as_str().to_owned()),
        observed: said.observed,
        policies: said.policies.clone(),
        basis,
        facts: reference,
        software: agent.software.as_str().to_owned(),
        model: agent.model.as_str().to_owned(),
        environment: agent.environment.as_str().to_owned(),
        open_from: ticket.open_from(),
        break_glass: who.under(),
        approval,
        asked: question.asker.map(|(pep, over)| Asked {
            by: pep.name.clone(),
            over,
        }),
        found,
        masks,
        warned,
        labels,
    };
    let asker = question.asker.map(|(pep, _)| Arc::clone(pep));
    let control = Arc::clone(&plane.control);
    let active = who.standing.as_ref().ok().cloned();
    let token_key = question.token_key.cloned();
    let upstream = question.served.name.clone();
    let there = routed.map(|it| (it.active.clone(), it.served.name.clone()));
    let routed = routed.map(|it| Arc::clone(&it.served));
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
            let (upstream, there) = (upstream.clone(), there.clone());
            Box::new(move |now| {
                let still = |active: Option<&Active>, upstream: &UpstreamName| {
                    active.is_some_and(|active| control.still(active, upstream, now).is_ok())
                };
                still(active.as_ref(), &upstream)
                    && there.is_none_or(|(active, upstream)| still(active.as_ref(), &upstream))
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
        looks,
        routed,
    })
}

fn is_warned(decision: &policy::Decision) -> bool {
    match decision {
        policy::Decision::Permit(permit) => !permit.warnings().is_empty(),
        policy::Decision::Hold(_) | policy::Decision::Denial(_) => false,
    }
}

/// The method and the tool as an entry may name them, and whether it may not: what nothing lists
/// somebody may have made up, and anything can be in such a name.
pub(super) fn named<'a>(
    snapshot: &Snapshot,
    question: &Question<'a>,
) -> (&'a str, Option<ToolName>, bool) {
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
