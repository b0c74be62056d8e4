//! What administrators and a webhook are shown of approvals that wait for people.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use register::approval::ApprovalRequested;
use register::{Approval, ApprovalLife, ApprovalOver, Grant, SignIn, State};
use serde::Serialize;
use vocab::{AgentId, Digest, Handle, InstanceId, Time, ToolName, UpstreamName};

use crate::node::Shared;
use crate::webhook::{Event, Source};

/// For how long after it a start tells again how an approval ended.
const END_TOLD: Duration = Duration::from_hours(1);
/// Characters of a text that are named one by one.
const NAMED_MAX: usize = 32;

/// What is said of a text that has characters beyond ASCII: each of them, since some look like
/// others.
pub(crate) fn look_alikes(text: &str) -> Option<String> {
    let beyond: BTreeSet<char> = text.chars().filter(|it| !it.is_ascii()).collect();
    let named = beyond.iter().take(NAMED_MAX);
    let mut named: Vec<String> = named
        .map(|it| format!("{it} is U+{:04X}", u32::from(*it)))
        .collect();
    match beyond.len().saturating_sub(NAMED_MAX) {
        0 => {}
        more => named.push(format!("and {more} more")),
    }
    (!named.is_empty()).then(|| {
        format!(
            "Not all of this text is plain ASCII, and what looks alike may not be the same: {}.",
            named.join(", ")
        )
    })
}

/// An approval.
#[derive(Debug, Serialize)]
pub struct ApprovalView {
    /// What it is called.
    pub id: Handle,
    /// `pending`, `granted`, `refused`, `used` or `over`.
    pub state: &'static str,
    /// The agent that asked.
    pub agent: AgentId,
    /// Its instance.
    pub instance: InstanceId,
    /// What it asked.
    pub upstream: UpstreamName,
    /// The MCP method.
    pub method: String,
    /// The tool, for `tools/call`.
    pub tool: Option<ToolName>,
    /// Who may approve, as the policies say it; null if that is erased, sealed or forgotten.
    pub needs: Option<String>,
    /// When people were asked.
    pub asked_at: Time,
    /// Until when they may answer, or it may be used; since when it is over.
    pub until: Time,
    /// Where they answer.
    pub url: String,
    /// Who granted it.
    pub granted: Vec<GrantView>,
    /// Who refused it.
    pub refused: Option<GrantView>,
    /// The entry that used it up.
    pub used: Option<String>,
    /// Why it is over, if nobody used it.
    pub over: Option<ApprovalOver>,
    /// The entry that asked.
    pub record: String,
    /// The decision that held the call.
    pub held: String,
}

/// Somebody's word.
#[derive(Debug, Serialize)]
pub struct GrantView {
    /// Their id; the handle if that is erased.
    pub by: String,
    /// How they had signed in.
    pub sign_in: &'static str,
    /// When.
    pub at: Time,
    /// The entry that says so.
    pub record: String,
}

/// An approval, with what its approvers are shown.
#[derive(Debug, Serialize)]
pub struct ShownView {
    /// All else of it.
    #[serde(flatten)]
    pub approval: ApprovalView,
    /// The exact text; null if it is erased or sealed.
    pub shown: Option<String>,
    /// The digest of that text, as the page has it.
    pub shown_digest: Option<Digest>,
}

fn grant(state: &State, grant: &Grant) -> GrantView {
    let by = state.sponsor_name(&grant.by);
    GrantView::of(by, grant.sign_in, grant.at, grant.record)
}

impl GrantView {
    pub(crate) fn of(by: String, sign_in: SignIn, at: Time, record: u64) -> Self {
        Self {
            by,
            sign_in: sign_in.as_str(),
            at,
            record: format!("control/{record}"),
        }
    }
}

impl ApprovalView {
    /// As the entry has it that asks for it. What is sealed beside it is not read.
    pub(crate) fn requested(url: &str, it: ApprovalRequested, record: u64, at: Time) -> Self {
        Self {
            state: "pending",
            agent: it.agent,
            instance: it.instance,
            upstream: it.upstream,
            method: it.method,
            tool: it.tool,
            needs: None,
            asked_at: at,
            until: at.plus(Duration::from_secs(it.lasts_s)),
            url: page(url, &it.id),
            granted: Vec::new(),
            refused: None,
            used: None,
            over: None,
            record: format!("control/{record}"),
            held: format!("calls/{}", it.held),
            id: it.id,
        }
    }
}

pub(crate) fn view(state: &State, url: &str, approval: &Approval, now: Time) -> ApprovalView {
    let expired = approval.life.expired(now);
    ApprovalView {
        id: approval.id.clone(),
        state: if expired {
            "over"
        } else {
            approval.life.as_str()
        },
        agent: approval.agent.clone(),
        instance: approval.instance.clone(),
        upstream: approval.upstream.clone(),
        method: approval.method.clone(),
        tool: approval.tool.clone(),
        needs: approval.request.known().map(|it| it.needs.to_string()),
        asked_at: approval.asked_at,
        until: approval.until(),
        url: page(url, &approval.id),
        granted: approval.granted.iter().map(|it| grant(state, it)).collect(),
        refused: approval.refused.as_ref().map(|it| grant(state, it)),
        used: approval.used.map(|index| format!("control/{index}")),
        over: match approval.life {
            ApprovalLife::Over { cause, .. } => Some(cause),
            ApprovalLife::Pending { .. }
            | ApprovalLife::Granted { .. }
            | ApprovalLife::Refused { .. }
            | ApprovalLife::Used { .. } => expired.then_some(ApprovalOver::Expired),
        },
        record: format!("control/{}", approval.asked),
        held: format!("calls/{}", approval.held),
    }
}

fn page(url: &str, id: &Handle) -> String {
    format!("{url}/approve/{id}")
}

/// Every approval that is not forgotten, in the order they were asked for.
pub(crate) fn all(shared: &Shared) -> Vec<ApprovalView> {
    let now = shared.clock.now();
    shared.plane.control().view(|state| {
        let all = state.approvals();
        all.map(|it| view(state, &shared.url, it, now)).collect()
    })
}

/// One of them.
pub(crate) fn shown(shared: &Shared, id: &Handle) -> Option<ShownView> {
    let now = shared.clock.now();
    shared.plane.control().view(|state| {
        let approval = state.approval(id)?;
        let shown = approval.request.known().map(|it| it.shown.clone());
        Some(ShownView {
            approval: view(state, &shared.url, approval, now),
            shown_digest: shown.as_ref().map(|it| Digest::of(it.as_bytes())),
            shown,
        })
    })
}

/// What a webhook tells: never the arguments, nor the text that is shown.
#[derive(Debug, Serialize)]
struct Message<'a> {
    r#type: String,
    timestamp: Time,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
struct Data<'a> {
    approval: &'a Handle,
    agent: &'a AgentId,
    instance: &'a InstanceId,
    upstream: &'a UpstreamName,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a ToolName>,
    /// As the policies say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    approvers: Option<String>,
    asked_at: Time,
    until: Time,
    url: String,
}

/// What is told of an approval at `now`, and since when that is so; none if nobody needs to hear it.
fn event(approval: &Approval, now: Time) -> Option<(Event, Time)> {
    let ended = |event, since: Time| (now < since.plus(END_TOLD)).then_some((event, since));
    match approval.life {
        life if life.expired(now) => ended(Event::Expired, life.until()),
        ApprovalLife::Pending { since, .. } => Some((Event::Requested, since)),
        ApprovalLife::Granted { since, .. } => Some((Event::Granted, since)),
        ApprovalLife::Refused { since, .. } => ended(Event::Refused, since),
        // That it was granted, if it was used before anybody heard.
        ApprovalLife::Used { since } => ended(Event::Granted, since),
        ApprovalLife::Over { since, cause } => match cause {
            ApprovalOver::Expired => ended(Event::Expired, since),
            ApprovalOver::Cut | ApprovalOver::Changed => ended(Event::Withdrawn, since),
        },
    }
}

/// What the register says, for the webhook.
pub(crate) struct News(pub(crate) Arc<Shared>);

impl Source for News {
    fn news(&self) -> Vec<(Handle, Event)> {
        let now = self.0.clock.now();
        self.0.plane.control().view(|state| {
            let all = state.approvals();
            all.filter_map(|it| Some((it.id.clone(), event(it, now)?.0)))
                .collect()
        })
    }

    fn message(&self, about: &Handle) -> Option<(Event, Vec<u8>)> {
        let now = self.0.clock.now();
        self.0.plane.control().view(|state| {
            let approval = state.approval(about)?;
            let (event, timestamp) = event(approval, now)?;
            let message = Message {
                r#type: event.type_of(),
                timestamp,
                data: Data {
                    approval: &approval.id,
                    agent: &approval.agent,
                    instance: &approval.instance,
                    upstream: &approval.upstream,
                    method: &approval.method,
                    tool: approval.tool.as_ref(),
                    approvers: approval.request.known().map(|it| it.needs.to_string()),
                    asked_at: approval.asked_at,
                    until: approval.until(),
                    url: page(&self.0.url, &approval.id),
                },
            };
            Some((event, serde_json::to_vec(&message).ok()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_look_like_something_else_is_named() {
        assert_eq!(look_alikes("plain\n\ttext"), None);
        let told = look_alikes("p\u{430}y\u{430} \u{3b1}\u{e0062}").unwrap();
        assert!(
            told.ends_with(": \u{3b1} is U+03B1, \u{430} is U+0430, \u{e0062} is U+E0062."),
            "{told}"
        );
        let many: String = ('\u{4e00}'..='\u{4e30}').collect();
        let told = look_alikes(&many).unwrap();
        assert!(told.ends_with(", and 17 more."), "{told}");
    }
}
