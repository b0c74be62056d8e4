//! Inspection on the way of a call: what an agent asks for before it is decided on, and what comes
//! back before the agent sees any of it.
//!
//! What was found is a fact. Of a request it is among those that the decision is made on. Of what
//! comes back it is decided on a second time, by the same policies on the same facts but for what was
//! found, and that decision can only narrow: pass, mask, or withhold. [`Looks`] is all of one
//! exchange: it goes with the permit, so every way that an answer can take leads through it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use inspect::{Finding, Findings, Inspector, Mask, Stream, Uninspectable};
use ledger::Recorded;
use ledger::seal::group_of;
use mcp::frame::meta;
use mcp::{Frame, Method, Request};
use policy::{Decision, Direction, Facts, Found, Masks};
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use vocab::finding::{Class, Confidence};
use vocab::{Digest, InstanceId, UpstreamName};

use crate::call::{Call, Who};
use crate::plane::{Plane, Snapshot};
use crate::record::{Done, Inspected, MaskedBy, Permit};

/// Beyond this length looking takes place where it holds nobody up.
const INLINE_BYTES_MAX: usize = 64 * 1024;
/// Rules that are told of one exchange; that there were more is told, too.
const RULES_TOLD_MAX: usize = 200;

/// Why something is withheld that masks are for, and that was not looked into as a whole.
const UNSEEN: &str = "Something in it may have to be masked, and it is too long, too deep or too \
                      full to be looked into as a whole.";

/// How often, by rule.
type ByRule = BTreeMap<Arc<str>, u64>;

/// What was found, by rule.
#[derive(Debug, Clone, Default)]
struct Tally(BTreeMap<(Class, Arc<str>, Confidence), u64>);

impl Tally {
    fn add<'a>(&mut self, findings: impl IntoIterator<Item = &'a Finding>) {
        for finding in findings {
            let key = |of: &Finding| (of.class(), Arc::from(of.rule()), of.confidence());
            let is_told = self.0.contains_key(&key(finding)) || self.0.len() < RULES_TOLD_MAX;
            let key = if is_told {
                key(finding)
            } else {
                key(&Uninspectable::Budget.finding(0..0))
            };
            *self.0.entry(key).or_default() += 1;
        }
    }

    fn found(&self) -> Vec<Found> {
        let of = |((class, rule, confidence), count): (&(_, Arc<str>, _), &u64)| Found {
            class: *class,
            rule: rule.to_string(),
            confidence: *confidence,
            count: *count,
        };
        self.0.iter().map(of).collect()
    }
}

/// What was found in a request, where it stands, and what policy sees of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) findings: Findings,
    pub(crate) found: Vec<Found>,
}

impl Seen {
    /// Looks into what passes with a request: its parameters, or the arguments that it is asked about.
    /// `request` is the one that is sent here, if it is one.
    pub(crate) async fn request(plane: &Plane, text: &str, request: Option<&Request>) -> Self {
        let inspector = plane.inspector();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let mut findings = if bytes.len() <= INLINE_BYTES_MAX {
            inspector.inspect_json(&bytes)
        } else {
            let looking = move || inspector.inspect_json(&bytes);
            match tokio::task::spawn_blocking(looking).await {
                Ok(findings) => findings,
                Err(_panicked) => unseen(text.len()),
            }
        };
        if let Some(request) = request
            && !findings.is_empty()
        {
            // The upstream does not get these: it gets ours.
            let start = request.params().map_or(0, |params| params.span().start);
            let replaced = meta::REPLACED.iter();
            let replaced = replaced.filter_map(|name| Some(request.meta()?.get(name)?.span()));
            let from = |at: usize| at.saturating_sub(start);
            let spans: Vec<_> = replaced.map(|it| from(it.start)..from(it.end)).collect();
            findings = outside(findings, &spans);
        }
        let mut tally = Tally::default();
        tally.add(&findings);
        let found = tally.found();
        plane.metrics.found(Direction::Request, &found);
        Self { findings, found }
    }
}

/// What is said where looking failed: that nothing was seen of it.
fn unseen(length: usize) -> Findings {
    let mut findings = Findings::default();
    findings.extend([Uninspectable::Budget.finding(0..length)]);
    findings
}

fn outside(findings: Findings, spans: &[Range<usize>]) -> Findings {
    let is_in = |finding: &Finding| {
        let found = finding.span();
        let mut spans = spans.iter();
        spans.any(|span| span.start <= found.start && found.end <= span.end)
    };
    let mut rest = Findings::default();
    rest.extend(findings.into_iter().filter(|it| !is_in(it)));
    rest
}

/// What is looked into of one exchange, and what came of it.
#[derive(Debug)]
pub(crate) struct Looks {
    snapshot: Arc<Snapshot>,
    /// What was found in the request.
    asked: Findings,
    /// Whose labels what comes back is.
    root: InstanceId,
    /// What the permit asks to have masked.
    masks: Masks,
    /// Where policy sent it: what comes back from there is decided by what holds there.
    routed: Option<UpstreamName>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the decision was made on.
    facts: Facts,
    stream: Stream,
    back: Tally,
    /// What of it was delivered.
    read: BTreeSet<Class>,
    policies: BTreeSet<String>,
    warnings: BTreeSet<String>,
    masked: ByRule,
    sent: Option<(ByRule, Digest)>,
    withheld: Option<String>,
    /// Whether something that came beside it was withheld. That says nothing of its answer.
    withheld_beside: bool,
    /// Its outcome is going on record: what comes now would not be in it.
    is_over: bool,
}

/// A message that may go on, or not.
#[derive(Debug)]
pub(crate) enum Passed {
    /// As it came, or with masks in it.
    Message(Bytes),
    /// It is withheld, and why.
    Withheld(String),
}

/// What is put on record of what came back.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) response: Option<Inspected>,
    /// What was masked in the request, and the digest of what was sent.
    pub(crate) sent: Option<(Vec<MaskedBy>, Digest)>,
    /// The classes of what was found and delivered.
    pub(crate) labels: Vec<String>,
}

/// Why a request cannot be sent as the permit asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// A mask could not be put on something that was found.
    #[error(
        "Something in this call has to be masked, and stands where no mask can be put. Leave it \
         out; nothing was sent."
    )]
    NoPlace,
    /// Something is to be masked, and not all of the call was looked into.
    #[error(
        "Something in this call may have to be masked, and it is too long, too deep or too full to \
         be looked into as a whole. Make it smaller; nothing was sent."
    )]
    Unseen,
    /// What it became is not permitted.
    #[error(
        "Something in this call has to be masked, and what it is then is not permitted: {0} Leave \
         it out; nothing was sent."
    )]
    NotPermitted(String),
    /// No key for masks that are the same for the same value.
    #[error("Something in this call could not be masked; nothing was sent. Try again later.")]
    Key,
}

/// A permitted request with masks in it. Only [`edited`] makes one.
#[derive(Debug)]
pub(crate) struct Edited(Request);

impl Edited {
    pub(crate) const fn request(&self) -> &Request {
        &self.0
    }
}

impl Looks {
    pub(crate) fn new(
        facts: Facts,
        snapshot: Arc<Snapshot>,
        (asked, root): (Findings, InstanceId),
        permit: &policy::Permit,
        routed: Option<&UpstreamName>,
    ) -> Self {
        let state = State {
            facts,
            stream: Stream::new(),
            back: Tally::default(),
            read: BTreeSet::new(),
            policies: BTreeSet::new(),
            warnings: permit.warnings().iter().cloned().collect(),
            masked: BTreeMap::new(),
            sent: None,
            withheld: None,
            withheld_beside: false,
            is_over: false,
        };
        Self {
            snapshot,
            asked,
            root,
            masks: permit.masks().clone(),
            routed: routed.cloned(),
            state: Mutex::new(state),
        }
    }

    /// What the client is to be warned of.
    pub(crate) async fn warnings(&self) -> Vec<String> {
        self.state.lock().await.warnings.iter().cloned().collect()
    }

    /// The policies that decided on what came back.
    pub(crate) async fn policies(&self) -> Vec<String> {
        self.state.lock().await.policies.iter().cloned().collect()
    }

    /// What goes on record beside the outcome. Nothing passes after it.
    pub(crate) async fn account(&self) -> Account {
        let mut state = self.state.lock().await;
        state.is_over = true;
        let found = state.back.found();
        let is_withheld = state.withheld.is_some() || state.withheld_beside;
        let done = match (is_withheld, state.masked.is_empty()) {
            (true, _) => Done::Withheld,
            (false, false) => Done::Masked,
            (false, true) => Done::Passed,
        };
        Account {
            response: (!found.is_empty() || is_withheld).then(|| Inspected {
                found,
                done,
                policies: state.policies.iter().cloned().collect(),
                masked: told(&state.masked),
            }),
            sent: state
                .sent
                .as_ref()
                .map(|(masked, digest)| (told(masked), *digest)),
            labels: state.read.iter().map(ToString::to_string).collect(),
        }
    }
}

fn told(masked: &ByRule) -> Vec<MaskedBy> {
    let by = |(rule, count): (&Arc<str>, &u64)| MaskedBy {
        rule: rule.to_string(),
        count: *count,
    };
    masked.iter().map(by).collect()
}

/// The request as the permit asks for it to be sent; none where it goes as it came.
///
/// Policy decided on the arguments as they came. With masks in them they are others, so they are
/// decided on again: only what is permitted either way is sent.
pub(crate) async fn edited(
    plane: &Plane,
    cleared: &Recorded<Permit>,
) -> Result<Option<Edited>, EditError> {
    let looks = cleared.value().looks();
    let chosen = chosen(&looks.asked, &looks.masks)?;
    if chosen.is_empty() {
        return Ok(None);
    }
    let request = cleared.value().request();
    let span = request.params().map(mcp::Value::span);
    let bytes = request.bytes();
    let params = span.as_ref().and_then(|span| bytes.get(span.clone()));
    let (Some(span), Some(params)) = (span, params) else {
        return Err(EditError::NoPlace);
    };
    let mut state = looks.state.lock().await;
    let (masked, by) = mask(
        plane,
        &state.facts.instance.id,
        &looks.masks,
        params,
        &chosen,
    )?;
    let mut whole = BytesMut::with_capacity(bytes.len());
    whole.extend_from_slice(bytes.get(..span.start).unwrap_or_default());
    whole.extend_from_slice(&masked);
    whole.extend_from_slice(bytes.get(span.end..).unwrap_or_default());
    let Ok(Frame::Request(edited)) = Frame::parse(whole.freeze()) else {
        return Err(EditError::NoPlace);
    };
    // What is asked for stays what was permitted; only what it says is another.
    let target = |of: &Request| {
        let name = of.name().map(std::borrow::Cow::into_owned);
        let is_tool = *of.method() == Method::ToolsCall;
        let subject = of.subject().map(std::borrow::Cow::into_owned);
        (of.method().clone(), name, subject.filter(|_| !is_tool))
    };
    if target(&edited) != target(request) {
        return Err(EditError::NoPlace);
    }
    let args = match edited.method() {
        Method::ToolsCall => edited.arguments_text(),
        _ => edited.params_text(),
    };
    let args = RawValue::from_string(args.unwrap_or("{}").to_owned());
    let mut facts = state.facts.clone();
    facts.args = args.map_err(|_| EditError::NoPlace)?;
    facts
        .findings
        .retain(|it| !looks.masks.cover(it.class, &it.rule, it.confidence));
    let engine = &looks.snapshot.engine;
    let there = looks.routed.as_ref();
    let there = there.map(|to| engine.decide_routed(&facts, to));
    for decision in std::iter::once(engine.decide(&facts)).chain(there) {
        match decision {
            Decision::Permit(permit)
                if permit
                    .route()
                    .is_none_or(|to| looks.routed.as_ref() == Some(to)) => {}
            Decision::Permit(_) => {
                let text = "Policy then sends it to another upstream.".to_owned();
                return Err(EditError::NotPermitted(text));
            }
            Decision::Hold(hold) => return Err(EditError::NotPermitted(hold.reason().to_owned())),
            Decision::Denial(denial) => {
                return Err(EditError::NotPermitted(denial.reason().to_owned()));
            }
        }
    }
    plane.metrics.masked(Direction::Request);
    let digest = Digest::of(edited.params_text().unwrap_or_default().as_bytes());
    state.sent = Some((by, digest));
    Ok(Some(Edited(edited)))
}

/// Whether something in a permitted request has to be masked, or may have to be.
pub(crate) fn is_to_be_masked(cleared: &Recorded<Permit>) -> bool {
    let looks = cleared.value().looks();
    !matches!(chosen(&looks.asked, &looks.masks), Ok(chosen) if chosen.is_empty())
}

/// What may go on of a message that came back.
pub(crate) async fn back(plane: &Plane, cleared: &Recorded<Permit>, json: &Bytes) -> Passed {
    looked(plane, cleared.value().looks(), json, Direction::Response).await
}

/// What may go on of a message that came back beside the answers of calls: nobody knows which of them
/// it is about, so it is looked into as part of each. None if no call is under way.
pub(crate) async fn beside(
    plane: &Plane,
    under_way: &[Arc<Looks>],
    json: &Bytes,
) -> Option<Passed> {
    let mut passed = None;
    for looks in under_way {
        let mut state = looks.state.lock().await;
        if state.is_over {
            continue;
        }
        let json = match passed {
            Some(Passed::Message(json)) => json,
            Some(Passed::Withheld(_)) => return passed,
            None => json.clone(),
        };
        let before = state.withheld.clone();
        let next = look(plane, looks, &mut state, (&json, Direction::Response)).await;
        if matches!(next, Passed::Withheld(_)) {
            state.withheld_beside = true;
            state.withheld = before;
        }
        drop(state);
        passed = Some(next);
    }
    passed
}

/// What may go upstream of the client's answer to a question. It is decided on whatever is in it:
/// the client may have read since what may not go there.
pub(crate) async fn answered(plane: &Plane, cleared: &Recorded<Permit>, json: &Bytes) -> Passed {
    looked(plane, cleared.value().looks(), json, Direction::Request).await
}

async fn looked(plane: &Plane, looks: &Looks, json: &Bytes, direction: Direction) -> Passed {
    let mut state = looks.state.lock().await;
    look(plane, looks, &mut state, (json, direction)).await
}

async fn look(
    plane: &Plane,
    looks: &Looks,
    state: &mut State,
    (json, direction): (&Bytes, Direction),
) -> Passed {
    if let Some(why) = &state.withheld {
        return Passed::Withheld(why.clone());
    }
    if state.is_over {
        return Passed::Withheld("The call that it belongs to is over.".to_owned());
    }
    let findings = see(&mut state.stream, plane.inspector(), json).await;
    if findings.is_empty() && direction == Direction::Response {
        return Passed::Message(json.clone());
    }
    let mut fresh = Tally::default();
    fresh.add(&findings);
    plane.metrics.found(direction, &fresh.found());
    state.back.add(&findings);
    state.facts.direction = direction;
    if direction == Direction::Request {
        state.facts.labels = plane.flow.of(&looks.root);
    }
    let found = state.back.found();
    let asked = std::mem::replace(&mut state.facts.findings, found);
    let engine = &looks.snapshot.engine;
    let decision = match &looks.routed {
        None => engine.decide(&state.facts),
        Some(to) => engine.decide_routed(&state.facts, to),
    };
    state.facts.findings = asked;
    state.facts.direction = Direction::Request;
    let verdict = decision.verdict();
    state.policies = verdict.policies.iter().cloned().collect();
    let permit = match decision {
        Decision::Permit(permit) => permit,
        Decision::Hold(_) | Decision::Denial(_) => {
            return withheld(plane, state, verdict.reason);
        }
    };
    state.warnings.extend(permit.warnings().iter().cloned());
    let masks = permit.masks().clone().and(&looks.masks);
    let Ok(chosen) = chosen(&findings, &masks) else {
        return withheld(plane, state, UNSEEN.to_owned());
    };
    let is_left = |it: &&Finding| !masks.cover(it.class(), it.rule(), it.confidence());
    let left = findings.iter().filter(is_left).map(Finding::class);
    let left: BTreeSet<Class> = left.collect();
    if chosen.is_empty() {
        state.reads(plane, &looks.root, left);
        return Passed::Message(json.clone());
    }
    let masked = mask(plane, &state.facts.instance.id, &masks, json, &chosen);
    let Ok((masked, by)) = masked else {
        let text = "Something in it has to be masked, and could not be.";
        return withheld(plane, state, text.to_owned());
    };
    for (rule, count) in by {
        *state.masked.entry(rule).or_default() += count;
    }
    plane.metrics.masked(direction);
    state.reads(plane, &looks.root, left);
    Passed::Message(masked.into())
}

impl State {
    /// What goes on from here is read, and those of the delegation have its classes as labels.
    fn reads(&mut self, plane: &Plane, root: &InstanceId, classes: BTreeSet<Class>) {
        let labels: Vec<String> = classes.iter().map(ToString::to_string).collect();
        plane.pick_up(root, &labels);
        self.read.extend(classes);
    }
}

fn withheld(plane: &Plane, state: &mut State, why: String) -> Passed {
    plane.metrics.withheld();
    state.withheld = Some(why.clone());
    Passed::Withheld(why)
}

async fn see(stream: &mut Stream, inspector: Inspector, json: &Bytes) -> Findings {
    if json.len() <= INLINE_BYTES_MAX {
        return stream.event(&inspector, json);
    }
    let (mut taken, bytes) = (std::mem::take(stream), json.clone());
    let looking = move || {
        let findings = taken.event(&inspector, &bytes);
        (findings, taken)
    };
    match tokio::task::spawn_blocking(looking).await {
        Ok((findings, taken)) => {
            *stream = taken;
            findings
        }
        Err(_panicked) => unseen(json.len()),
    }
}

/// What is looked into where no permit stands behind it: a listing, a handshake, what an upstream says
/// of its own accord.
#[derive(Debug, Default)]
pub(crate) struct Overheard {
    stream: Stream,
    /// What is on record of it: to whom it went, which rule, and what was done.
    told: BTreeSet<(InstanceId, String, &'static str)>,
}

impl Overheard {
    /// Looks into the next message.
    pub(crate) async fn see(&mut self, plane: &Plane, json: &Bytes) -> Findings {
        see(&mut self.stream, plane.inspector(), json).await
    }

    /// Whether that says anything of this stream that is not on record. An upstream may say the same
    /// again and again, and does not fill the log by it.
    pub(crate) fn is_new(&mut self, to: &InstanceId, inspected: &Inspected) -> bool {
        let done = match inspected.done {
            Done::Passed => "passed",
            Done::Masked => "masked",
            Done::Withheld => "withheld",
        };
        let found = inspected.found.iter();
        let new = found.map(|found| self.told.insert((to.clone(), found.rule.clone(), done)));
        new.fold(false, |any, new| any | new)
    }
}

/// What becomes of a message that no permit stands behind.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) passed: Passed,
    /// What was found in it, if anything.
    pub(crate) inspected: Option<Inspected>,
    /// The classes of what was found and goes on.
    pub(crate) read: BTreeSet<Class>,
}

/// What may go on of a message that no permit stands behind, for what was found in it. `method` is what
/// it answers, if it is no notification. Whoever passes it on puts that on record first.
pub(crate) fn free(
    plane: &Plane,
    call: &Call,
    method: &str,
    json: &Bytes,
    findings: &Findings,
) -> Heard {
    if findings.is_empty() {
        return Heard {
            passed: Passed::Message(json.clone()),
            inspected: None,
            read: BTreeSet::new(),
        };
    }
    let mut tally = Tally::default();
    tally.add(findings);
    let found = tally.found();
    plane.metrics.found(Direction::Response, &found);
    let heard = |passed, (done, policies, masked), read| Heard {
        passed,
        inspected: Some(Inspected {
            found: found.clone(),
            done,
            policies,
            masked,
        }),
        read,
    };
    let withheld = |policies, why| {
        plane.metrics.withheld();
        let done = (Done::Withheld, policies, Vec::new());
        heard(Passed::Withheld(why), done, BTreeSet::new())
    };
    let said = match Frame::parse(json.clone()) {
        Ok(Frame::Notification(notification)) => notification.method().as_str().to_owned(),
        Ok(Frame::Request(_) | Frame::Response(_)) | Err(_) => method.to_owned(),
    };
    let Some(who) = Who::now(plane, call.caller.instance(), &call.served.name) else {
        let why = "This agent instance may not act any more.".to_owned();
        return withheld(Vec::new(), why);
    };
    let labels = plane.flow.of(who.root());
    let facts = who.passing(call, said, (found.clone(), labels), plane.clock.now());
    let free = match who.snapshot.engine.pass(&facts) {
        Ok(free) => free,
        Err(denial) => {
            return withheld(denial.policies().to_vec(), denial.reason().to_owned());
        }
    };
    let Ok(chosen) = chosen(findings, &free.masks) else {
        return withheld(free.policies, UNSEEN.to_owned());
    };
    let is_left = |it: &&Finding| !free.masks.cover(it.class(), it.rule(), it.confidence());
    let read = findings
        .iter()
        .filter(is_left)
        .map(Finding::class)
        .collect();
    if chosen.is_empty() {
        let done = (Done::Passed, free.policies, Vec::new());
        return heard(Passed::Message(json.clone()), done, read);
    }
    let masked = mask(plane, call.caller.instance(), &free.masks, json, &chosen);
    let Ok((masked, by)) = masked else {
        let why = "Something in it has to be masked, and could not be.".to_owned();
        return withheld(free.policies, why);
    };
    plane.metrics.masked(Direction::Response);
    let done = (Done::Masked, free.policies, told(&by));
    heard(Passed::Message(masked.into()), done, read)
}

/// What is to be masked. Where not all was looked into, nobody knows where else a mask belongs, and
/// the rest must not pass for masked.
fn chosen<'f>(findings: &'f Findings, masks: &Masks) -> Result<Vec<&'f Finding>, EditError> {
    let is_unseen = |it: &Finding| {
        let reasons = [
            Uninspectable::Budget,
            Uninspectable::Size,
            Uninspectable::Depth,
        ];
        reasons.iter().any(|reason| reason.rule() == it.rule())
    };
    if !masks.is_empty() && findings.iter().any(is_unseen) {
        return Err(EditError::Unseen);
    }
    let is_masked = |it: &&Finding| masks.cover(it.class(), it.rule(), it.confidence());
    Ok(findings.iter().filter(is_masked).collect())
}

/// Puts masks on findings, all of them or none.
fn mask(
    plane: &Plane,
    instance: &InstanceId,
    masks: &Masks,
    json: &[u8],
    chosen: &[&Finding],
) -> Result<(Vec<u8>, ByRule), EditError> {
    let chosen = chosen.iter().copied();
    let masked = if masks.are_stable() {
        // A day's key of whoever answers for it: what is erased with it is also what masks compare.
        let found = plane
            .control
            .view(|state| state.instance(instance).cloned());
        let instance = found.ok_or(EditError::Key)?;
        let group = group_of(&instance.sponsor, &instance.agent, instance.started_at);
        let (_, key) = plane.group_key(&group).map_err(|_| EditError::Key)?;
        let keyed = |value: &[u8]| key.mask(&instance.id, value);
        Mask::stable(&keyed).json(json, chosen)
    } else {
        Mask::plain().json(json, chosen)
    };
    if !masked.left.is_empty() {
        return Err(EditError::NoPlace);
    }
    let mut by = BTreeMap::new();
    for placed in masked.masks {
        *by.entry(placed.rule).or_default() += 1;
    }
    Ok((masked.bytes, by))
}
