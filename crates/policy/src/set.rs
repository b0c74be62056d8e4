//! A set of policy files: parsed, named, and taken apart as far as is possible without tools.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use cedar_policy::{
    ActionConstraint, Effect, EntityTypeName, EntityUid, PolicyId, PrincipalConstraint,
    ResourceConstraint,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vocab::{Digest, UpstreamName, suggest};

use crate::approval::{Approvers, ApproversError};
use crate::diagnostic::{Diagnostic, Place, Source};
use crate::findings::{Direction, MaskError, Masks, Which};
use crate::tools::quoted;

/// Most policies in one set.
const POLICIES_MAX: usize = 100_000;

/// One file of policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Its name, as people are to see it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Policies that parse. Whether they fit the tools is the [`Engine`](crate::Engine)'s to say.
#[derive(Debug, Clone)]
pub struct PolicySet {
    blob: Vec<u8>,
    digest: Digest,
    policies: Vec<Arc<Policy>>,
}

/// Why a blob is not a policy set.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Not the blob that [`PolicySet::to_blob`] writes.
    #[error("this is not a policy set")]
    Json(#[source] serde_json::Error),
    /// Written by a version that this one does not know.
    #[error("a policy set of version {v} is not known here")]
    Version {
        /// Its version.
        v: u32,
    },
    /// It does not parse, though it must have when it was written.
    #[error("the policies do not parse: {}", .0.first().map_or("", |first| first.message.as_str()))]
    Policies(Vec<Diagnostic>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Blob {
    v: u32,
    files: Vec<PolicyFile>,
}

/// One policy.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) id: String,
    pub(crate) cedar: cedar_policy::Policy,
    pub(crate) effect: Effect,
    pub(crate) reason: Option<String>,
    pub(crate) warn: Option<String>,
    /// Who may give the approval that it asks for.
    pub(crate) approval: Option<Approvers>,
    /// What it asks to have masked.
    pub(crate) mask: Option<Masks>,
    /// Where it sends what it permits.
    pub(crate) route: Option<UpstreamName>,
    pub(crate) scope: Scope,
    /// Every entity it names.
    pub(crate) literals: Vec<EntityUid>,
    pub(crate) groups: GroupsRead,
    pub(crate) reads: Reads,
    file: Arc<Source>,
    offset: usize,
    conditions: OnceLock<Vec<Condition>>,
    unscoped: OnceLock<cedar_policy::Policy>,
}

/// One of the conditions that must all hold. Its text is Cedar's: `a > b` is `!(a <= b)`.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) text: String,
    pub(crate) alone: cedar_policy::PolicySet,
}

/// Which calls a policy's scope covers. INVARIANT: exactly those that Cedar says it covers, for
/// policies are chosen by it and then evaluated without their scope; replay chooses the same way, so
/// it would not show a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) principal: PrincipalScope,
    /// Action ids; `None` is any.
    pub(crate) actions: Option<Vec<String>>,
    pub(crate) resource: ResourceScope,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PrincipalScope {
    Any,
    Agent(String),
    Purpose(String),
    Instance(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ResourceScope {
    Any,
    /// Every tool, or those of one upstream.
    Tools(Option<String>),
    /// What is not a tool call: of every upstream, or of one.
    Methods(Option<String>),
    Tool(String),
    /// Everything of one upstream.
    Upstream(String),
}

impl PolicySet {
    /// Parses `files`, or says everything that is wrong with them.
    pub fn parse(mut files: Vec<PolicyFile>) -> Result<Self, Vec<Diagnostic>> {
        files.sort_by(|left, right| left.name.cmp(&right.name));
        let blob = Blob { v: 1, files };
        let bytes = serde_json::to_vec(&blob)
            .map_err(|error| vec![Diagnostic::error(&Place::NOWHERE, error.to_string())])?;
        let mut problems = Vec::new();
        let mut policies: Vec<Arc<Policy>> = Vec::new();
        let mut last_name = None;
        for file in blob.files {
            let file = Arc::new(Source::new(file.name, file.text));
            if last_name.as_ref() == Some(&file.name) {
                let place = file.place(0);
                problems.push(Diagnostic::error(&place, "two files have this name"));
            }
            last_name = Some(file.name.clone());
            read_file(&file, &mut policies, &mut problems);
        }
        let mut by_id: HashMap<&str, &Policy> = HashMap::new();
        for policy in &policies {
            if let Some(first) = by_id.insert(&policy.id, policy) {
                let place = first.place();
                let message = format!(
                    "two policies have the id `{}`; the other is at {}:{}",
                    policy.id, place.file, place.line
                );
                problems.push(Diagnostic::error(&policy.place(), message).of_policy(&policy.id));
            }
        }
        if policies.len() > POLICIES_MAX {
            let message = format!(
                "there are {} policies; at most {POLICIES_MAX} are taken",
                policies.len()
            );
            problems.push(Diagnostic::error(&Place::NOWHERE, message));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            digest: Digest::of(&bytes),
            blob: bytes,
            policies,
        })
    }

    /// The digest of [`PolicySet::to_blob`].
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The set as bytes to keep: the files, as they were, sorted by name.
    pub fn to_blob(&self) -> &[u8] {
        &self.blob
    }

    /// Reads what [`PolicySet::to_blob`] gave.
    pub fn from_blob(blob: &[u8]) -> Result<Self, BlobError> {
        let read: Blob = serde_json::from_slice(blob).map_err(BlobError::Json)?;
        if read.v != 1 {
            return Err(BlobError::Version { v: read.v });
        }
        Self::parse(read.files).map_err(BlobError::Policies)
    }

    /// How many policies there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there is none, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// The ids, in the order of the files.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| policy.id.as_str())
    }

    pub(crate) fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }
}

fn read_file(file: &Arc<Source>, policies: &mut Vec<Arc<Policy>>, problems: &mut Vec<Diagnostic>) {
    let set: cedar_policy::PolicySet = match file.text.parse() {
        Ok(set) => set,
        Err(errors) => {
            for error in errors.iter() {
                problems.push(of_cedar(file, 0, error));
            }
            return;
        }
    };
    for template in set.templates() {
        let offset = template.as_ref().loc().map_or(0, miette_offset);
        let place = file.place(offset);
        problems.push(
            Diagnostic::error(&place, "this is a template (`?principal` or `?resource`)")
                .help("write the policy out; templates are not supported"),
        );
    }
    let mut found: Vec<(usize, &cedar_policy::Policy)> = set
        .policies()
        .map(|policy| (policy.as_ref().loc().map_or(0, miette_offset), policy))
        .collect();
    found.sort_by_key(|(offset, _)| *offset);
    for (offset, cedar) in found {
        match read_policy(file, offset, cedar) {
            Ok(policy) => policies.push(Arc::new(policy)),
            Err(mut wrong) => problems.append(&mut wrong),
        }
    }
}

fn miette_offset(location: impl Into<miette::SourceSpan>) -> usize {
    location.into().offset()
}

/// What Cedar says, at the place it says it about.
pub(crate) fn of_cedar(
    file: &Source,
    otherwise: usize,
    error: &(impl miette::Diagnostic + ?Sized),
) -> Diagnostic {
    let label = error.labels().and_then(|mut labels| labels.next());
    let offset = label
        .as_ref()
        .map_or(otherwise, miette::LabeledSpan::offset);
    let place = file.place(offset);
    let mut message = error.to_string();
    if let Some(text) = label.as_ref().and_then(|label| label.label()) {
        message = format!("{message} ({text})");
    }
    let diagnostic = Diagnostic::error(&place, message);
    match error.help() {
        Some(help) => diagnostic.help(help.to_string()),
        None => diagnostic,
    }
}

fn read_policy(
    file: &Arc<Source>,
    offset: usize,
    cedar: &cedar_policy::Policy,
) -> Result<Policy, Vec<Diagnostic>> {
    let place = file.place(offset);
    let given_id = cedar.annotation("id").filter(|id| !id.is_empty());
    let id = given_id.map_or_else(
        || format!("{}:{}", file.name, place.line),
        ToOwned::to_owned,
    );
    let mut problems = Vec::new();
    let mut wrong = |message: String, help: Option<String>| {
        let mut diagnostic = Diagnostic::error(&place, message).of_policy(&id);
        diagnostic.help = help;
        problems.push(diagnostic);
    };
    check_annotations(cedar, &mut wrong);
    let scope = read_scope(cedar, &mut wrong);
    let mut reads = Reads::default();
    let mut groups = GroupsRead::default();
    match cedar.to_json() {
        Ok(json) => {
            reads.walk_conditions(&json);
            groups = GroupsRead::of(&json);
        }
        Err(error) => wrong(error.to_string(), None),
    }
    let approval = read_approval(cedar, reads.approval, &mut wrong);
    let mask = read_mask(cedar, reads.findings, &mut wrong);
    let route = read_route(cedar, &mut wrong);
    for text in &reads.findings_said {
        if let Err(error) = text.parse::<Which>() {
            wrong(
                format!("`context.findings` never has {text:?}: {error}"),
                Some("write `secret`, `secret/RULE` or `secret:medium`".to_owned()),
            );
        }
    }
    for text in &reads.directions_said {
        let all = [Direction::Request, Direction::Response].map(Direction::as_str);
        if !all.contains(&text.as_str()) {
            let help = suggest::nearest(text, all).map(|near| format!("did you mean `{near}`?"));
            wrong(
                format!("`context.direction` is `request` or `response`, never {text:?}"),
                help,
            );
        }
    }
    match scope {
        Some(scope) if problems.is_empty() => Ok(Policy {
            cedar: cedar.new_id(PolicyId::new(&id)),
            effect: cedar.effect(),
            reason: cedar.annotation("reason").map(ToOwned::to_owned),
            warn: cedar.annotation("warn").map(ToOwned::to_owned),
            approval,
            mask,
            route,
            scope,
            literals: cedar.entity_literals(),
            groups,
            reads,
            file: Arc::clone(file),
            offset,
            conditions: OnceLock::new(),
            unscoped: OnceLock::new(),
            id,
        }),
        _ => Err(problems),
    }
}

fn check_annotations(cedar: &cedar_policy::Policy, wrong: &mut impl FnMut(String, Option<String>)) {
    const KNOWN: [&str; 7] = ["id", "reason", "warn", "note", "approval", "mask", "route"];
    for (name, value) in cedar.annotations() {
        if !KNOWN.contains(&name) {
            let nearest = suggest::nearest(name, KNOWN);
            let help = match nearest {
                Some(near) => format!("did you mean `@{near}`?"),
                None => "known are `@id`, `@reason`, `@warn`, `@mask`, `@approval`, `@route` and \
                         `@note`"
                    .to_owned(),
            };
            wrong(format!("there is no annotation `@{name}`"), Some(help));
        } else if value.trim().is_empty() {
            wrong(format!("`@{name}` is empty"), None);
        } else if name == "id" && (value.len() > 128 || value.chars().any(char::is_control)) {
            wrong("an id is at most 128 bytes of text".to_owned(), None);
        }
    }
    if cedar.effect() == Effect::Forbid && cedar.annotation("warn").is_some() {
        let help = "put it on the permit, or use `@reason` here".to_owned();
        wrong("`@warn` on a forbid does nothing".to_owned(), Some(help));
    }
}

/// Who is named by `@approval`. It is there exactly if a condition asks for an approval: one that
/// nobody asks for would hold nothing, and one that nobody could give would hold for ever.
fn read_approval(
    cedar: &cedar_policy::Policy,
    is_read: bool,
    wrong: &mut impl FnMut(String, Option<String>),
) -> Option<Approvers> {
    match (cedar.annotation("approval"), is_read) {
        (None, false) => None,
        (None, true) => {
            let help = "say who approves: `@approval(\"maya, group:NAME\")` or `@approval(\"2 of \
                        group:NAME\")`";
            wrong(
                "it asks for `context.approval`, and nobody is named who could give it".to_owned(),
                Some(help.to_owned()),
            );
            None
        }
        (Some(_), false) => {
            let help = "write `when { context has approval }` on a permit, or `unless { context \
                        has approval }` on a forbid";
            wrong(
                "`@approval` holds nothing: no condition asks for `context.approval`".to_owned(),
                Some(help.to_owned()),
            );
            None
        }
        (Some(text), true) => text
            .parse()
            .map_err(|error: ApproversError| wrong(format!("`@approval`: {error}"), None))
            .ok(),
    }
}

/// What `@mask` asks for. On a forbid it says what the forbid is about: so it has to look at findings.
fn read_mask(
    cedar: &cedar_policy::Policy,
    are_read: bool,
    wrong: &mut impl FnMut(String, Option<String>),
) -> Option<Masks> {
    let text = cedar.annotation("mask")?;
    if cedar.effect() == Effect::Forbid && !are_read {
        let help = "write `when { context.findings.contains(\"secret\") }`: once those are masked, the \
                    forbid no longer applies";
        wrong(
            "`@mask` on a forbid does nothing: no condition looks at `context.findings`".to_owned(),
            Some(help.to_owned()),
        );
        return None;
    }
    text.parse()
        .map_err(|error: MaskError| wrong(format!("`@mask`: {error}"), None))
        .ok()
}

/// Where `@route` sends what the permit is about.
fn read_route(
    cedar: &cedar_policy::Policy,
    wrong: &mut impl FnMut(String, Option<String>),
) -> Option<UpstreamName> {
    let text = cedar.annotation("route")?;
    if cedar.effect() == Effect::Forbid {
        let help = "put it on a permit: what it permits then goes there".to_owned();
        wrong("`@route` on a forbid does nothing".to_owned(), Some(help));
        return None;
    }
    text.trim()
        .parse()
        .map_err(|_| {
            let help = "write the name of one upstream: `@route(\"sandbox\")`".to_owned();
            wrong(
                format!("`@route`: `{text}` is no name of an upstream"),
                Some(help),
            );
        })
        .ok()
}

/// What is wrong with a scope, and what to write instead.
type ScopeError = (String, &'static str);

const PRINCIPAL: &str = "a principal is an `Instance`, in its `Agent` and its `Purpose`s: write \
    `principal in Agent::\"NAME\"`";
const ACTION: &str = "it is the group of an upstream's actions: write `action in`";
const ACTIONS: &str = "an action is `Action::\"UPSTREAM/TOOL\"` or `Action::\"UPSTREAM:METHOD\"`";
const RESOURCE: &str = "a resource is a `Tool::\"UPSTREAM/TOOL\"`, in its `Upstream::\"UPSTREAM\"`";

fn read_scope(
    cedar: &cedar_policy::Policy,
    wrong: &mut impl FnMut(String, Option<String>),
) -> Option<Scope> {
    let mut say = |(message, help): ScopeError| wrong(message, Some(help.to_owned()));
    let principal = read_principal(cedar.principal_constraint()).map_err(&mut say);
    let actions = read_actions(cedar.action_constraint()).map_err(&mut say);
    let resource = read_resource(cedar.resource_constraint()).map_err(&mut say);
    Some(Scope {
        principal: principal.ok()?,
        actions: actions.ok()?,
        resource: resource.ok()?,
    })
}

fn read_principal(constraint: PrincipalConstraint) -> Result<PrincipalScope, ScopeError> {
    match constraint {
        PrincipalConstraint::Any => Ok(PrincipalScope::Any),
        PrincipalConstraint::Is(ty) if type_of(&ty) == "Instance" => Ok(PrincipalScope::Any),
        PrincipalConstraint::Is(ty) => Err((format!("no principal is a `{ty}`"), PRINCIPAL)),
        PrincipalConstraint::IsIn(ty, _) if type_of(&ty) != "Instance" => {
            Err((format!("no principal is a `{ty}`"), PRINCIPAL))
        }
        PrincipalConstraint::Eq(uid) if type_of(uid.type_name()) == "Instance" => {
            Ok(PrincipalScope::Instance(id_of(&uid)))
        }
        PrincipalConstraint::Eq(uid) => Err((format!("no principal is `{uid}` itself"), PRINCIPAL)),
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            match type_of(uid.type_name()) {
                "Agent" => Ok(PrincipalScope::Agent(id_of(&uid))),
                "Purpose" => Ok(PrincipalScope::Purpose(id_of(&uid))),
                "Instance" => Ok(PrincipalScope::Instance(id_of(&uid))),
                _ => Err((format!("no principal is in `{uid}`"), PRINCIPAL)),
            }
        }
    }
}

fn read_actions(constraint: ActionConstraint) -> Result<Option<Vec<String>>, ScopeError> {
    let foreign = |uid: &EntityUid| type_of(uid.type_name()) != "Action";
    let named = match &constraint {
        ActionConstraint::Any => &[][..],
        ActionConstraint::Eq(uid) => std::slice::from_ref(uid),
        ActionConstraint::In(uids) => uids,
    };
    if let Some(uid) = named.iter().find(|uid| foreign(uid)) {
        return Err((format!("no call is the action `{uid}`"), ACTIONS));
    }
    match constraint {
        ActionConstraint::Any => Ok(None),
        ActionConstraint::Eq(uid) if id_of(&uid).contains(['/', ':']) => {
            Ok(Some(vec![id_of(&uid)]))
        }
        ActionConstraint::Eq(uid) => Err((format!("no call is the action `{uid}` itself"), ACTION)),
        ActionConstraint::In(uids) => Ok(Some(uids.iter().map(id_of).collect())),
    }
}

fn read_resource(constraint: ResourceConstraint) -> Result<ResourceScope, ScopeError> {
    match constraint {
        ResourceConstraint::Any => Ok(ResourceScope::Any),
        ResourceConstraint::Is(ty) => match type_of(&ty) {
            "Tool" => Ok(ResourceScope::Tools(None)),
            "Upstream" => Ok(ResourceScope::Methods(None)),
            _ => Err((format!("no resource is a `{ty}`"), RESOURCE)),
        },
        ResourceConstraint::Eq(uid) => match type_of(uid.type_name()) {
            "Tool" => Ok(ResourceScope::Tool(id_of(&uid))),
            "Upstream" => Ok(ResourceScope::Methods(Some(id_of(&uid)))),
            _ => Err((format!("no resource is `{uid}`"), RESOURCE)),
        },
        ResourceConstraint::In(uid) => match type_of(uid.type_name()) {
            "Tool" => Ok(ResourceScope::Tool(id_of(&uid))),
            "Upstream" => Ok(ResourceScope::Upstream(id_of(&uid))),
            _ => Err((format!("no resource is in `{uid}`"), RESOURCE)),
        },
        ResourceConstraint::IsIn(ty, uid) => match (type_of(&ty), type_of(uid.type_name())) {
            ("Tool", "Tool") => Ok(ResourceScope::Tool(id_of(&uid))),
            ("Tool", "Upstream") => Ok(ResourceScope::Tools(Some(id_of(&uid)))),
            ("Upstream", "Upstream") => Ok(ResourceScope::Methods(Some(id_of(&uid)))),
            _ => Err((format!("no resource is a `{ty}` in `{uid}`"), RESOURCE)),
        },
    }
}

/// Its name. What is in a namespace is none of ours, whatever it is called there.
pub(crate) fn type_of(ty: &EntityTypeName) -> &str {
    match ty.namespace_components().next() {
        None => ty.basename(),
        Some(_) => "",
    }
}

pub(crate) fn id_of(uid: &EntityUid) -> String {
    uid.id().unescaped().to_owned()
}

/// The attributes of `context`.
pub(crate) const CONTEXT: [&str; 9] = [
    "approval",
    "args",
    "canonical",
    "direction",
    "findings",
    "labels",
    "now",
    "proven",
    "untyped",
];

/// The arguments that a policy's conditions look at.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    /// Below `context.args`; true if the value is used, false if only `has` asks for it.
    pub(crate) args: BTreeMap<Vec<String>, bool>,
    /// Dotted names below `context.canonical`.
    pub(crate) canonical: BTreeSet<String>,
    /// What is asked of `context` that it never has.
    pub(crate) unknown: BTreeSet<String>,
    /// Whether the time matters: `context.now`, or `context` as a whole.
    pub(crate) now: bool,
    /// Whether it asks for an approval.
    pub(crate) approval: bool,
    /// Whether it looks at what was found.
    pub(crate) findings: bool,
    /// The texts that findings are compared with.
    pub(crate) findings_said: BTreeSet<String>,
    /// The texts that labels are compared with.
    pub(crate) labels_said: BTreeSet<String>,
    /// The texts that the direction is compared with.
    directions_said: BTreeSet<String>,
}

impl Reads {
    /// Whether the argument at `path` matters to the policy.
    pub(crate) fn concerns(&self, path: &[String]) -> bool {
        let by_args = self
            .args
            .iter()
            .any(|(read, used)| read.starts_with(path) || *used && path.starts_with(read));
        let name = path.join(".");
        let below = |read: &String| {
            read.strip_prefix(&name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        by_args || self.canonical.iter().any(below)
    }

    fn walk_conditions(&mut self, policy: &Value) {
        let conditions = policy.get("conditions").and_then(Value::as_array);
        for condition in conditions.into_iter().flatten() {
            if let Some(body) = condition.get("body") {
                self.walk(body);
            }
        }
    }

    /// Notes every path below `context` that `expression` reads, the longest first: what is inside
    /// one is not looked at again. A bare `context.args` is the empty path, which is every argument.
    fn walk(&mut self, expression: &Value) {
        if let Some(path) = path_in_context(expression) {
            let used = expression.get("has").is_none();
            match path
                .split_first()
                .map(|(first, rest)| (first.as_str(), rest))
            {
                None => {
                    self.note(&[], used);
                    self.now = true;
                    self.findings = true;
                }
                Some(("now", _)) => self.now = true,
                Some(("approval", _)) => self.approval = true,
                Some(("findings", _)) => self.findings = true,
                Some(("args", rest)) => self.note(rest, used),
                Some(("canonical", [name, ..])) => {
                    self.canonical.insert(name.clone());
                }
                Some((name, _)) if !CONTEXT.contains(&name) => {
                    self.unknown.insert(name.to_owned());
                }
                Some(_) => {}
            }
            return;
        }
        match expression {
            Value::Array(values) => values.iter().for_each(|value| self.walk(value)),
            Value::Object(members) => {
                for (operator, of) in members {
                    if COMPARES.contains(&operator.as_str()) {
                        self.compared(of);
                    }
                    self.walk(of);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Notes what findings and labels are compared with.
    fn compared(&mut self, of: &Value) {
        let (Some(left), Some(right)) = (of.get("left"), of.get("right")) else {
            return;
        };
        for (one, other) in [(left, right), (right, left)] {
            let path = path_in_context(one).unwrap_or_default();
            match path.first().map(String::as_str) {
                Some("findings") => texts(other, &mut self.findings_said),
                Some("labels") => texts(other, &mut self.labels_said),
                Some("direction") => texts(other, &mut self.directions_said),
                _ => {}
            }
        }
    }

    fn note(&mut self, path: &[String], used: bool) {
        *self.args.entry(path.to_vec()).or_default() |= used;
    }
}

/// What a policy has to do with the names of groups.
#[derive(Debug, Default)]
pub(crate) struct GroupsRead {
    /// The names that the groups of a sponsor are compared with.
    pub(crate) named: BTreeSet<String>,
    /// Every text that could be such a name, however it comes to be compared: a policy that reads
    /// `groups` can pass them on. None where nothing reads them.
    pub(crate) perhaps: BTreeSet<String>,
    /// Whether they are compared with what is not written in the policy.
    pub(crate) unwritten: bool,
}

impl GroupsRead {
    fn of(policy: &Value) -> Self {
        let mut out = Self::default();
        let conditions = policy.get("conditions").unwrap_or(&Value::Null);
        if reads_groups(conditions) {
            texts(conditions, &mut out.perhaps);
            out.walk(conditions);
        }
        out
    }

    fn walk(&mut self, expression: &Value) {
        match expression {
            Value::Array(values) => values.iter().for_each(|value| self.walk(value)),
            Value::Object(members) => {
                for (operator, of) in members {
                    let (left, right) = (of.get("left"), of.get("right"));
                    let other = match (left, right) {
                        (Some(left), Some(right)) if is_groups(left) => Some(right),
                        (Some(left), Some(right)) if is_groups(right) => Some(left),
                        _ => None,
                    };
                    if let Some(other) = other
                        && COMPARES.contains(&operator.as_str())
                    {
                        texts(other, &mut self.named);
                        self.unwritten |= !is_written(other);
                    }
                    self.walk(of);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

const COMPARES: [&str; 5] = ["contains", "containsAll", "containsAny", "==", "!="];

/// Whether anything in an expression is an attribute of that name.
fn reads_groups(expression: &Value) -> bool {
    match expression {
        Value::Array(values) => values.iter().any(reads_groups),
        Value::Object(members) => {
            members.get("attr").and_then(Value::as_str) == Some("groups")
                || members.values().any(reads_groups)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether it is `….sponsor.groups`.
fn is_groups(expression: &Value) -> bool {
    let attribute = |of: &Value, name: &str| {
        let access = of.get(".")?;
        (access.get("attr")?.as_str()? == name).then(|| access.get("left").cloned())?
    };
    attribute(expression, "groups").is_some_and(|of| attribute(&of, "sponsor").is_some())
}

/// A text, or a set of texts.
fn is_written(expression: &Value) -> bool {
    match (expression.get("Value"), expression.get("Set")) {
        (Some(value), _) => value.is_string(),
        (None, Some(Value::Array(all))) => all.iter().all(is_written),
        (None, _) => false,
    }
}

fn texts(expression: &Value, out: &mut BTreeSet<String>) {
    match expression {
        Value::Array(values) => values.iter().for_each(|value| texts(value, out)),
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get("Value") {
                out.insert(text.clone());
            }
            members.values().for_each(|value| texts(value, out));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `["args", "path"]` for `context.args.path` or `context.args has path`.
fn path_in_context(expression: &Value) -> Option<Vec<String>> {
    if expression.get("Var").and_then(Value::as_str) == Some("context") {
        return Some(Vec::new());
    }
    let access = expression.get(".").or_else(|| expression.get("has"))?;
    let mut path = path_in_context(access.get("left")?)?;
    path.push(access.get("attr")?.as_str()?.to_owned());
    Some(path)
}

impl Policy {
    pub(crate) fn place(&self) -> Place<'_> {
        self.file.place(self.offset)
    }

    /// Its own text, annotations included.
    fn text(&self) -> &str {
        let length = self.cedar.as_ref().loc().map_or(0, |loc| loc.span.len());
        let end = self.offset.saturating_add(length);
        self.file.text.get(self.offset..end).unwrap_or_default()
    }

    /// The place of `word` in the policy, or of the policy.
    pub(crate) fn place_of(&self, word: &str) -> Place<'_> {
        let text = self.text();
        let at = text.match_indices(word).map(|(at, _)| at).find(|at| {
            let letter = |c: char| c.is_alphanumeric() || c == '_';
            let before = text.get(..*at).and_then(|text| text.chars().next_back());
            let after = text
                .get(at + word.len()..)
                .and_then(|text| text.chars().next());
            !before.is_some_and(letter) && !after.is_some_and(letter)
        });
        self.file.place(self.offset + at.unwrap_or(0))
    }

    pub(crate) fn error(&self, at: &Place<'_>, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(at, message).of_policy(&self.id)
    }

    pub(crate) fn cedar_says(&self, error: &(impl miette::Diagnostic + ?Sized)) -> Diagnostic {
        let mut diagnostic = of_cedar(&self.file, self.offset, error).of_policy(&self.id);
        // Cedar begins by naming the policy, which the place and `policy` do already.
        let named = [
            format!("for policy `{}`, ", self.id),
            format!("error while evaluating policy `{}`: ", self.id),
        ];
        for prefix in &named {
            for text in [Some(&mut diagnostic.message), diagnostic.help.as_mut()] {
                if let Some(text) = text
                    && let Some(rest) = text.strip_prefix(prefix)
                {
                    *text = rest.to_owned();
                }
            }
        }
        diagnostic
    }

    /// The policy without its scope, for calls that [`Scope`] covers: Cedar puts scope and conditions
    /// together anew, and copies every place in the text, each time it evaluates. Its conditions are
    /// those of the policy, or it is the policy.
    pub(crate) fn unscoped(&self) -> &cedar_policy::Policy {
        self.unscoped.get_or_init(|| {
            let bare = self.cedar.to_json().ok().and_then(|json| {
                let all = json!({"op": "All"});
                let json = json!({"effect": json.get("effect")?, "principal": all, "action": all,
                    "resource": all, "conditions": json.get("conditions")?});
                cedar_policy::Policy::from_json(Some(PolicyId::new(&self.id)), json).ok()
            });
            bare.filter(|bare| same_conditions(bare, &self.cedar))
                .unwrap_or_else(|| self.cedar.clone())
        })
    }

    /// Its conditions one by one, in order: each `when`, taken apart at `&&`, and each `unless`.
    pub(crate) fn conditions(&self) -> &[Condition] {
        self.conditions.get_or_init(|| {
            let Ok(json) = self.cedar.to_json() else {
                return Vec::new();
            };
            let clauses = json.get("conditions").and_then(Value::as_array);
            let mut out = Vec::new();
            for clause in clauses.into_iter().flatten() {
                let (Some(kind), Some(body)) = (clause.get("kind"), clause.get("body")) else {
                    continue;
                };
                match kind.as_str() {
                    Some("when") => conjuncts(body, &mut out),
                    _ => out.push(json!({"!": {"arg": body}})),
                }
            }
            out.iter().filter_map(condition).collect()
        })
    }
}

fn same_conditions(left: &cedar_policy::Policy, right: &cedar_policy::Policy) -> bool {
    let conditions = [left, right].map(|policy| policy.as_ref().non_scope_constraints());
    left.effect() == right.effect()
        && match conditions {
            [None, None] => true,
            [Some(left), Some(right)] => left.eq_shape(right),
            [None, Some(_)] | [Some(_), None] => false,
        }
}

fn conjuncts(body: &Value, out: &mut Vec<Value>) {
    match body.get("&&") {
        Some(both) => {
            for side in ["left", "right"] {
                if let Some(side) = both.get(side) {
                    conjuncts(side, out);
                }
            }
        }
        None => out.push(body.clone()),
    }
}

fn condition(body: &Value) -> Option<Condition> {
    let all = json!({"op": "All"});
    let json = json!({"effect": "permit", "principal": all, "action": all, "resource": all,
        "conditions": [{"kind": "when", "body": body}]});
    let policy = cedar_policy::Policy::from_json(None, json).ok()?;
    let text = policy.to_cedar()?;
    let text = text.split_once("when")?.1.trim();
    let text = text.trim_end_matches(';').trim_end();
    let text = text.strip_prefix('{')?.strip_suffix('}')?.trim();
    Some(Condition {
        text: text.to_owned(),
        alone: cedar_policy::PolicySet::from_policies([policy]).ok()?,
    })
}

impl PrincipalScope {
    /// Its Cedar text.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Any => "principal".to_owned(),
            Self::Agent(id) => format!("principal in Agent::{id:?}"),
            Self::Purpose(id) => format!("principal in Purpose::{id:?}"),
            Self::Instance(id) => format!("principal == Instance::{id:?}"),
        }
    }
}

/// `a`, `b` and 3 more.
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>, max: usize) -> String {
    let count = names.len();
    let mut out = String::new();
    for (index, name) in names.take(max).enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(&quoted(name));
    }
    if count > max {
        out.push_str(" and ");
        out.push_str(&(count - max).to_string());
        out.push_str(" more");
    }
    out
}

#[cfg(test)]
mod tests;
