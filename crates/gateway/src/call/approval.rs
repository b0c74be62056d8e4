//! What becomes of a call that policy holds: it uses an approval up that people gave for exactly
//! this call, waits for one that they were asked for, or has them asked.
//!
//! An approval is used up, durably, before the permit is drafted. A crash in between loses it, and
//! people are asked again; none makes two calls of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ledger::Actor;
use mcp::error::Effect;
use mcp::frame::meta;
use mcp::{Era, Json, Method};
use policy::{Approved, ApprovedBy, Approver, Approvers, Decision, Facts, Hold, Needs};
use register::{
    Approval, ApprovalCommand, ApprovalLife, ApprovalOver, Command, CommandError, Done, Exactly,
    NewApproval,
};
use serde_json::value::RawValue;
use vocab::{Digest, RecordRef};

use super::decide::{Question, UNRECORDED, named};
use super::routed::Routed;
use super::{Call, Denied, Who, shown};
use crate::plane::Plane;

/// The key under which we ask a client to have a URL opened. What comes back under it is ours.
pub(super) const KEY: &str = "dev.tipstaff/approval";

/// A held call, and what there is about it.
#[derive(Debug)]
pub(super) struct Held {
    /// What an approval of it is for.
    what: Digest,
    needs: Needs,
    /// What people would be asked, or why they are not.
    asking: Result<Box<NewApproval>, String>,
}

/// What becomes of a call that was decided on. What is held and was approved is permitted, and has used its approval up;
/// what people were asked about and have not approved is answered, without another record.
pub(super) async fn decided(
    plane: &Plane,
    question: &Question<'_>,
    who: &Who,
    (facts, decision): (Facts, Decision),
    routed: Option<&Routed>,
) -> Result<(Facts, Decision, Option<Held>), Denied> {
    let engine = &who.snapshot.engine;
    let Decision::Hold(hold) = &decision else {
        return Ok((facts, decision, None));
    };
    let (Some(set), Some(since)) = (who.snapshot.set, who.snapshot.since) else {
        return Ok((facts, decision, None));
    };
    let door = question.asker.map(|(pep, over)| (&pep.name, over.as_str()));
    let what = Exactly {
        door,
        instance: question.instance,
        above: &who.above(),
        upstream: &facts.upstream,
        target: question.target,
        args: &question.exact(),
        policy_set: &set,
        routed: routed.map(|it| {
            let tools = who.snapshot.tools.get(&it.served.name);
            (&it.served.name, tools.map(|(digest, _)| digest))
        }),
    };
    let what = what.digest();
    let known = plane.control.view(|state| {
        let known = state.approval_for(question.instance, &what, facts.now);
        known.cloned()
    });
    if let Some(known) = known {
        if !matches!(known.life, ApprovalLife::Granted { .. }) {
            return Err(waits(plane, question, hold, &known));
        }
        let approved = Facts {
            approval: Some(approved(plane, since, hold, &known)),
            ..facts.clone()
        };
        match engine.decide(&approved) {
            permit @ Decision::Permit(_) => {
                use_up(plane, question, &known, what).await?;
                return Ok((approved, permit, None));
            }
            // Those who granted it are not enough any more: others are asked.
            Decision::Hold(_) | Decision::Denial(_) => end(plane, &known).await,
        }
    }
    let held = Held {
        what,
        needs: hold.needs().clone(),
        asking: asking(plane, question, who, (&facts, hold), (what, since)),
    };
    Ok((facts, decision, Some(held)))
}

/// What people are to be asked, or why they are not.
fn asking(
    plane: &Plane,
    question: &Question<'_>,
    who: &Who,
    (facts, hold): (&Facts, &Hold),
    (what, policy): (Digest, u64),
) -> Result<Box<NewApproval>, String> {
    let settings = plane.settings.approvals;
    let agent = &who.agent.id;
    // As the register will see it: a hold that nobody is asked about counts as a denial.
    plane
        .control
        .view(|state| {
            state.may_ask(settings, question.instance, agent, facts.now)?;
            state.who_may(hold.needs(), policy, &who.instance)
        })
        .map_err(|why| format!("Nobody is asked: {why}."))?;
    let (method, tool, _) = named(&who.snapshot, question);
    Ok(Box::new(NewApproval {
        instance: question.instance.clone(),
        upstream: facts.upstream.clone(),
        method: method.to_owned(),
        tool,
        what,
        policy,
        held: 0,
        needs: hold.needs().clone(),
        shown: shown::text(question, who, facts, hold, settings.lasts)?,
    }))
}

/// Uses an approval up. When this is done that is durable.
async fn use_up(
    plane: &Plane,
    question: &Question<'_>,
    approval: &Approval,
    what: Digest,
) -> Result<(), Denied> {
    let id = approval.id.clone();
    let used = Command::Approval(ApprovalCommand::Use { id, what });
    match plane.control.execute(question.actor.clone(), used).await {
        Ok(Done::Changed { .. }) => {
            plane.metrics.approval_used();
            Ok(())
        }
        // Somebody was faster: another call like it, or whoever ended it.
        Ok(_) | Err(CommandError::Refused(_)) => {
            let instance = Some(question.instance);
            plane.refusals.note("approval-gone", "call", instance);
            Err(Denied::unrecorded(
                "The approval of this call was used, or ended, a moment ago. Send the call again if \
                 it is to be made once more: people are then asked again.",
            ))
        }
        Err(error) => {
            tracing::error!(error = %error, "An approval could not be used, so nothing was sent");
            Err(Denied::unrecorded(UNRECORDED))
        }
    }
}

async fn end(plane: &Plane, approval: &Approval) {
    let (id, cause) = (approval.id.clone(), ApprovalOver::Changed);
    let over = Command::Approval(ApprovalCommand::Over { id, cause });
    let node = Actor::node(&plane.settings.node);
    if let Err(error) = plane.control.execute(node, over).await {
        tracing::warn!(error = %error, "An approval that is not enough could not be ended");
    }
}

/// The answer to a call that people were asked about. It is on record already; whoever asks again
/// and again is counted.
fn waits(plane: &Plane, question: &Question<'_>, hold: &Hold, approval: &Approval) -> Denied {
    plane.metrics.decided(false, Some(policy::Stage::Approval));
    let instance = question.instance;
    plane.refusals.note("repeated-hold", "call", Some(instance));
    // It is in use, as a call that takes long is.
    plane.control.touch(instance, plane.clock.now());
    let told = told(plane, approval);
    let denied = Denied {
        effect: Effect::Hold,
        reason: says(hold.reason(), (hold.needs(), question.method), &told),
        policies: hold.policies().to_vec(),
        record: held(plane, approval),
        approval: Some(Box::new(told)),
    };
    if !matches!(approval.life, ApprovalLife::Refused { .. }) {
        return denied;
    }
    Denied {
        effect: Effect::Deny,
        reason: format!(
            "Somebody who may approve this call refused it. Do not send it again, and tell the \
             person you work for. Nobody is asked again before {}.",
            approval.until()
        ),
        approval: None,
        ..denied
    }
}

impl Held {
    /// Whether people will be asked.
    pub(super) const fn asks(&self) -> bool {
        self.asking.is_ok()
    }

    /// Has people asked, now that the hold is on record; adds that to what the caller is told.
    pub(super) async fn ask(
        self,
        plane: &Plane,
        question: &Question<'_>,
        mut denied: Denied,
    ) -> Denied {
        let (reason, record) = (denied.reason.clone(), denied.record.clone());
        let also = |why: String| format!("{reason} {why}");
        let mut new = match self.asking {
            Ok(new) => new,
            Err(why) => {
                denied.reason = also(why);
                return denied;
            }
        };
        new.held = record.map_or(0, |record| record.index);
        let request = Command::Approval(ApprovalCommand::Request(new));
        let done = plane.control.execute(question.actor.clone(), request).await;
        let known = plane.control.view(|state| {
            let known = state.approval_for(question.instance, &self.what, plane.clock.now());
            known.cloned()
        });
        match (done, known) {
            (Ok(_), Some(approval)) => {
                plane.metrics.approval_asked();
                let told = told(plane, &approval);
                denied.reason = says(&reason, (&self.needs, question.method), &told);
                denied.approval = Some(Box::new(told));
            }
            (Err(CommandError::Refused(why)), _) => {
                denied.reason = also(format!("Nobody is asked: {why}."));
            }
            (Err(error), _) => {
                tracing::error!(error = %error, "People could not be asked to approve a call");
                denied.reason = also("Nobody could be asked; try again later.".to_owned());
            }
            // It was ended as soon as it was asked for.
            (Ok(_), None) => {}
        }
        denied
    }
}

/// Those who granted it, as the policies see them.
fn approved(plane: &Plane, since: u64, hold: &Hold, approval: &Approval) -> Approved {
    // They are read as the names that ask for them mean them.
    let named = || hold.needs().ways().flat_map(Approvers::named);
    let says_person = |name: &str| {
        let is = |it: &Approver| matches!(it, Approver::Person(id) if id.as_str() == name);
        named().any(is)
    };
    let says_group =
        |name: &str| named().any(|it| matches!(it, Approver::Group(group) if group == name));
    let by = plane.control.view(|state| {
        let people = approval.granted.iter();
        let people = people.filter_map(|grant| state.sponsor(&grant.by));
        let one = |person: &Arc<register::Sponsor>| {
            let read = state.sponsor_in_policy(person, since, says_person);
            let groups = state.groups_of(&person.handle).filter_map(|group| {
                let read = state.group_in_policy(group, since, says_group);
                read.means.map(str::to_owned)
            });
            ApprovedBy {
                id: read.means.and_then(|name| name.parse().ok()),
                groups: groups.collect(),
                is_sponsor: state.is_own_call(&person.handle, approval),
            }
        };
        people.map(one).collect()
    });
    Approved {
        record: approval.asked,
        by,
    }
}

/// The decision that held a call, if it can be read.
fn held(plane: &Plane, approval: &Approval) -> Option<RecordRef> {
    let bytes = plane.calls.reader().entry(approval.held).ok()?;
    Some(RecordRef {
        log: vocab::LogName::Calls,
        index: approval.held,
        leaf_hash: ledger::hash::leaf(&bytes),
    })
}

fn told(plane: &Plane, approval: &Approval) -> mcp::error::Approval {
    let public = plane.issuer.public_url().as_str();
    mcp::error::Approval {
        id: approval.id.clone(),
        url: format!("{public}/approve/{}", approval.id),
        until: approval.until(),
    }
}

/// What is told of a call that waits, or of an upstream's question that does.
fn says(reason: &str, hold: (&Needs, &str), told: &mcp::error::Approval) -> String {
    let (needs, method) = hold;
    let mcp::error::Approval { url, until, .. } = told;
    let then = if Method::from(method).is_for_servers() {
        "Once they approved, send exactly the same call again: it is then made, once."
    } else {
        // The call that it belongs to is under way, and may be done when it is answered.
        "What waits is a question of the upstream's: once they approved, it can be asked once, \
         exactly as it was. Do not send a call again for that: it may have been made already."
    };
    format!(
        "{reason} People were asked: {needs}. They answer at {url} until {until}. Tell the person \
         you work for. {then}"
    )
}

/// All that a request would have an upstream do, as text: its parameters as they stand, but for what
/// is about the message alone. What is our own is left out too where this node sends the request,
/// since it takes that off; a policy enforcement point sends it as it is.
pub(super) fn exact(params: Option<&str>, is_sent_here: bool) -> String {
    let Some(params) = params else {
        return String::new();
    };
    let Ok(mut members) = serde_json::from_str::<Members>(params) else {
        return params.to_owned();
    };
    without(&mut members, "_meta", |name, value| {
        is_of_the_message(name, value, is_sent_here)
    });
    without(&mut members, RESPONSES, |name, _| {
        is_sent_here && name == KEY
    });
    serde_json::to_string(&members).unwrap_or_else(|_| params.to_owned())
}

type Members = BTreeMap<String, Box<RawValue>>;

/// Whether a member of `_meta` is about the message and its sender, and differs from one sending to
/// the next. Where this node sends it, that is what the upstream does not get, and what says nothing
/// but words of the protocol; all else may be what an upstream acts on.
fn is_of_the_message(name: &str, value: &RawValue, is_sent_here: bool) -> bool {
    match name {
        meta::PROTOCOL_VERSION => true,
        meta::CLIENT_CAPABILITIES => {
            let said = Json::parse(Bytes::copy_from_slice(value.get().as_bytes()));
            !is_sent_here || said.is_ok_and(|said| mcp::capabilities::is_known(said.root()))
        }
        meta::LOG_LEVEL => {
            let level = value.get().trim_matches('"');
            !is_sent_here || LEVELS.contains(&level)
        }
        "baggage" => is_sent_here,
        _ if name.starts_with(meta::OWN_PREFIX) => is_sent_here,
        _ => meta::REPLACED.contains(&name),
    }
}

/// What a log level can be.
const LEVELS: &[&str] = &[
    "debug",
    "info",
    "notice",
    "warning",
    "error",
    "critical",
    "alert",
    "emergency",
];

/// Takes members out of the object `name`, and the object out if none is left.
fn without(members: &mut Members, name: &str, goes: impl Fn(&str, &RawValue) -> bool) {
    let object = members.get(name).map(|object| object.get());
    let Some(Ok(mut kept)) = object.map(serde_json::from_str::<Members>) else {
        return;
    };
    kept.retain(|name, value| !goes(name, value));
    if kept.is_empty() {
        members.remove(name);
    } else if let Ok(kept) = serde_json::value::to_raw_value(&kept) {
        members.insert(name.to_owned(), kept);
    }
}

const RESPONSES: &str = "inputResponses";

/// Whether a client said that it can have a person open a URL, and does not come back from that yet:
/// it would go back and forth for as long as people take.
pub(super) fn opens_urls(call: &Call) -> bool {
    let asks = matches!(
        call.request.method(),
        Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead
    );
    let declared = call.request.meta();
    let declared = declared.and_then(|it| it.get(meta::CLIENT_CAPABILITIES));
    let opens = declared.and_then(|it| it.path(&["elicitation", "url"]));
    let responses = call.request.param(RESPONSES);
    let came_back = responses.is_some_and(|responses| responses.get(KEY).is_some());
    call.era == Era::Modern && asks && opens.is_some() && !came_back
}

#[cfg(test)]
mod tests {
    use super::exact;

    #[test]
    fn what_is_about_the_message_alone_is_left_out_and_nothing_else() {
        let of = |params: &str| exact(Some(params), true);
        let plain = r#"{"arguments":{"a": 1},"name":"x"}"#;
        assert_eq!(of(plain), plain);
        for meta in [
            r#""progressToken":7"#,
            r#""traceparent":"t","tracestate":"s","baggage":"user=root""#,
            r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#,
            r#""io.modelcontextprotocol/clientInfo":{},"io.modelcontextprotocol/logLevel":"debug""#,
            r#""io.modelcontextprotocol/clientCapabilities":{},"dev.tipstaff/x":1"#,
        ] {
            let params = format!(r#"{{"arguments":{{"a": 1}},"name":"x","_meta":{{{meta}}}}}"#);
            assert_eq!(of(&params), plain, "{meta}");
        }
        for meta in [
            r#""com.example/dry-run":false"#,
            r#""io.modelcontextprotocol/clientCapabilities":{"experimental":{"user":"root"}}"#,
            r#""io.modelcontextprotocol/logLevel":"user=root""#,
            r#""io.modelcontextprotocol/related-task":{"taskId":"t"}"#,
            r#""dev.tipstaf":1"#,
        ] {
            let params = format!(
                r#"{{"arguments":{{"a": 1}},"name":"x","_meta":{{"progressToken":7,{meta}}}}}"#
            );
            let kept = format!(r#"{{"_meta":{{{meta}}},"arguments":{{"a": 1}},"name":"x"}}"#);
            assert_eq!(of(&params), kept);
        }
    }

    #[test]
    fn what_is_our_own_counts_where_nobody_takes_it_off() {
        for params in [
            r#"{"_meta":{"dev.tipstaff/x":1},"name":"x"}"#,
            r#"{"inputResponses":{"dev.tipstaff/approval":{}},"name":"x"}"#,
        ] {
            assert_eq!(exact(Some(params), true), r#"{"name":"x"}"#);
            assert_eq!(exact(Some(params), false), params);
        }
    }
}
