//! Does each policy fit the tools there are?
//!
//! A policy is judged tool by tool. Where it does not fit (it reads an argument that the tool does
//! not have, or compares it with something of another type) it cannot be evaluated, and then
//!
//! * a **permit** is off for that tool;
//! * a **forbid** denies everything in its scope on that tool: it must not vanish because a server
//!   changed its tool list.
//!
//! Everywhere else the policy stays in force. A name that no tool has is an error for people to
//! mend, and treated the same: a forbid `in Action::"files"` that asks `context.args has pth` denies
//! its whole scope. Only a forbid over *every* upstream is allowed to ask for arguments that no tool
//! happens to have (that is what `has` is for in a rule for all); it gets a warning.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Effect, PolicySet, Schema, ValidationMode, ValidationWarning, Validator};
use serde_json::{Map, Value, json};
use vocab::{UpstreamName, suggest};

use crate::diagnostic::{Diagnostic, Severity};
use crate::set::{CONTEXT, Policy, ResourceScope, id_of, listed, type_of};
use crate::target::{FREE, METHODS, Target, Targets};

/// Most pairs of policy and tool that are judged one by one; what is beyond counts as not fitting.
const PAIRS_MAX: usize = 20_000;

/// For each policy, where it does not fit.
#[derive(Debug, Default)]
pub(crate) struct Fit {
    pub(crate) broken: HashMap<usize, Broken>,
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Policies that name what an upstream may or may not have, by the upstream's name.
    pub(crate) unchecked: BTreeMap<UpstreamName, Vec<String>>,
}

#[derive(Debug)]
pub(crate) enum Broken {
    Everywhere,
    On(HashSet<usize>),
}

impl Broken {
    pub(crate) fn is_on(&self, target: usize) -> bool {
        match self {
            Self::Everywhere => true,
            Self::On(targets) => targets.contains(&target),
        }
    }
}

/// What the checks look at.
pub(crate) struct Tools<'a> {
    pub(crate) targets: &'a [Target],
    pub(crate) upstreams: &'a BTreeMap<String, Targets>,
}

/// The Cedar schema of `targets`, with `mentioned` actions declared so that they can be compared.
pub(crate) fn schema<'a>(
    targets: impl Iterator<Item = &'a Target>,
    mentioned: impl Iterator<Item = String>,
) -> Result<Schema, String> {
    let mut actions = Map::new();
    for id in mentioned {
        actions.insert(id, json!({}));
    }
    for target in targets {
        actions.insert(target.upstream.to_string(), json!({}));
        actions.insert(target.action.clone(), target.to_schema());
    }
    let text = json!({"type": "String"});
    let texts = json!({"type": "Set", "element": text});
    let agent = json!({"type": "Entity", "name": "Agent"});
    let record = |attributes: Value| json!({"type": "Record", "attributes": attributes});
    let schema = json!({"": {
        "entityTypes": {
            "Instance": {"memberOfTypes": ["Agent", "Purpose"], "shape": record(json!({
                "agent": agent,
                "sponsor": {"type": "Entity", "name": "Sponsor"},
                "purpose": text,
                "depth": {"type": "Long"},
                "ancestors": {"type": "Set", "element": agent},
                "root_purpose": text,
                "environment": text,
            }))},
            "Agent": {},
            "Purpose": {"memberOfTypes": ["Purpose"]},
            "Sponsor": {"shape": record(json!({"groups": texts}))},
            "Tool": {"memberOfTypes": ["Upstream"]},
            "Upstream": {},
        },
        "actions": actions,
    }});
    Schema::from_json_value(schema).map_err(|error| error.to_string())
}

/// The ids of the actions that `policy` names.
pub(crate) fn mentioned(policy: &Policy) -> impl Iterator<Item = String> {
    let actions = policy.literals.iter();
    actions
        .filter(|uid| type_of(uid.type_name()) == "Action")
        .map(id_of)
}

/// Judges `policies`.
pub(crate) fn check(policies: &[Arc<Policy>], tools: &Tools<'_>, schema: &Schema) -> Fit {
    let mut fit = Fit::default();
    let mut said: HashSet<usize> = HashSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let before = fit.diagnostics.len();
        check_names(policy, tools, &mut fit.diagnostics);
        let context = check_context(policy, &mut fit.diagnostics);
        if check_arguments(policy, tools, &mut fit.diagnostics) || context {
            fit.broken.insert(index, Broken::Everywhere);
        }
        check_route(policy, tools, &mut fit.diagnostics);
        note_unchecked(policy, tools, &mut fit);
        let meets = |target: &Target| target.is_under(policy);
        if fit.diagnostics.len() == before
            && !unlisted(policy, tools)
            && !tools.targets.iter().any(meets)
        {
            let message = "this policy's action and resource never meet, so it never applies";
            let warning = Diagnostic::warning(&policy.place(), message);
            fit.diagnostics.push(warning.of_policy(&policy.id));
        }
        if fit.diagnostics.len() > before {
            said.insert(index);
        }
    }
    let by_id: HashMap<&str, usize> = policies
        .iter()
        .enumerate()
        .map(|(index, policy)| (policy.id.as_str(), index))
        .collect();
    let all = policies.iter().map(|policy| policy.cedar.clone());
    let Ok(set) = PolicySet::from_policies(all) else {
        // Ids are unique, so this cannot be; if it is, nothing is in force.
        fit.broken = (0..policies.len())
            .map(|index| (index, Broken::Everywhere))
            .collect();
        return fit;
    };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let mut errors: BTreeMap<usize, Vec<Diagnostic>> = BTreeMap::new();
    for error in result.validation_errors() {
        let id: &str = error.policy_id().as_ref();
        if let Some((index, policy)) = by_id.get(id).and_then(|at| Some((*at, policies.get(*at)?)))
        {
            errors
                .entry(index)
                .or_default()
                .push(policy.cedar_says(error));
        }
    }
    let mut pairs = PAIRS_MAX;
    for (index, mut diagnostics) in errors {
        let Some(policy) = policies.get(index) else {
            continue;
        };
        if !matches!(fit.broken.get(&index), Some(Broken::Everywhere)) {
            let broken = narrow(policy, tools, &mut pairs);
            let what = consequence(policy, tools, &broken);
            diagnostics = one_a_place(diagnostics);
            for diagnostic in &mut diagnostics {
                diagnostic.message = format!("{}; {what}", diagnostic.message);
            }
            fit.broken.insert(index, Broken::On(broken));
            fit.diagnostics.append(&mut diagnostics);
        }
    }
    for warning in result.validation_warnings() {
        let id: &str = warning.policy_id().as_ref();
        let Some((index, policy)) = by_id.get(id).and_then(|at| Some((*at, policies.get(*at)?)))
        else {
            continue;
        };
        let can_never = matches!(
            warning,
            ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_)
        );
        if can_never && (said.contains(&index) || unlisted(policy, tools)) {
            continue;
        }
        let mut diagnostic = policy.cedar_says(warning);
        diagnostic.severity = Severity::Warning;
        if can_never {
            "this policy can never apply".clone_into(&mut diagnostic.message);
        }
        fit.diagnostics.push(diagnostic);
    }
    fit.diagnostics.sort_by(|left, right| {
        (&left.file, left.line, left.column).cmp(&(&right.file, right.line, right.column))
    });
    fit
}

/// Cedar says the same thing again for every action in scope: one of them is enough.
fn one_a_place(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let place = |diagnostic: &Diagnostic| (diagnostic.line, diagnostic.column);
    diagnostics
        .sort_by(|left, right| (place(left), &left.message).cmp(&(place(right), &right.message)));
    let mut out: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        match out.last_mut() {
            Some(last) if place(last) == place(&diagnostic) => {
                if let Some((what, _)) = last.message.split_once(" in context for Action::") {
                    last.message = format!("{what} is not everywhere in this policy's scope");
                    let help = "ask `has` first, or name the tools that have it";
                    last.help = Some(help.to_owned());
                }
            }
            _ => out.push(diagnostic),
        }
    }
    out
}

/// The targets in `policy`'s scope on which it cannot be evaluated.
fn narrow(policy: &Policy, tools: &Tools<'_>, pairs: &mut usize) -> HashSet<usize> {
    let mut broken = HashSet::new();
    for (index, target) in tools.targets.iter().enumerate() {
        if !target.is_under(policy) {
            continue;
        }
        let left = pairs.checked_sub(1);
        *pairs = left.unwrap_or(0);
        if left.is_none() || !fits(policy, target) {
            broken.insert(index);
        }
    }
    broken
}

fn fits(policy: &Policy, target: &Target) -> bool {
    let schema = schema(std::iter::once(target), mentioned(policy));
    let set = PolicySet::from_policies([policy.cedar.clone()]);
    match (schema, set) {
        (Ok(schema), Ok(set)) => Validator::new(schema)
            .validate(&set, ValidationMode::Strict)
            .validation_passed(),
        _ => false,
    }
}

/// What comes of a policy that does not fit.
fn consequence(policy: &Policy, tools: &Tools<'_>, broken: &HashSet<usize>) -> String {
    let mut names: Vec<&str> = broken
        .iter()
        .filter_map(|index| tools.targets.get(*index))
        .map(|target| target.action.as_str())
        .collect();
    names.sort_unstable();
    match (policy.effect, names.is_empty()) {
        (_, true) => "it stays in force, for it is evaluated nowhere".to_owned(),
        (Effect::Permit, false) => {
            format!("this permit is off for {}", listed(names.into_iter(), 3))
        }
        (Effect::Forbid, false) => {
            format!(
                "until it is mended, its whole scope is denied on {}",
                listed(names.into_iter(), 3)
            )
        }
    }
}

/// Whether `policy` is about an upstream whose tools are not known.
fn unlisted(policy: &Policy, tools: &Tools<'_>) -> bool {
    mentions_upstreams(policy).iter().any(|name| {
        tools
            .upstreams
            .get(name)
            .is_none_or(|targets| targets.tools.is_none())
    }) || tools
        .upstreams
        .values()
        .all(|targets| targets.tools.is_none())
}

fn mentions_upstreams(policy: &Policy) -> BTreeSet<String> {
    policy
        .literals
        .iter()
        .filter(|uid| matches!(type_of(uid.type_name()), "Action" | "Tool" | "Upstream"))
        .map(|uid| upstream_of(&id_of(uid)).to_owned())
        .collect()
}

/// `files` of `files`, `files/read` and `files:resources/read`.
fn upstream_of(id: &str) -> &str {
    id.split(['/', ':']).next().unwrap_or_default()
}

/// Says that `policy` cannot be judged, where it names tools or arguments of an upstream that was
/// never listed.
fn note_unchecked(policy: &Policy, tools: &Tools<'_>, fit: &mut Fit) {
    let named: Vec<String> = policy.literals.iter().map(id_of).collect();
    let reads = !policy.reads.args.is_empty() || !policy.reads.canonical.is_empty();
    for name in mentions_upstreams(policy) {
        let known = tools.upstreams.get(&name);
        let (Some(Targets { tools: None, .. }), Ok(upstream)) = (known, name.parse()) else {
            continue;
        };
        let is_tool = |id: &&String| id.strip_prefix(&name).is_some_and(|id| id.starts_with('/'));
        let actions = policy.scope.actions.as_ref();
        let all = actions.is_none_or(|actions| actions.contains(&name));
        let Some(word) = named
            .iter()
            .find(is_tool)
            .or((reads && all).then_some(&name))
        else {
            continue;
        };
        let message = format!("the tools of `{name}` are not known, so this is not checked");
        let warning = Diagnostic::warning(&policy.place_of(word), message);
        fit.diagnostics.push(warning.of_policy(&policy.id));
        let unchecked = fit.unchecked.entry(upstream).or_default();
        unchecked.push(policy.id.clone());
    }
}

/// Complains about what `context` never has. True if the policy can then not be trusted.
fn check_context(policy: &Policy, out: &mut Vec<Diagnostic>) -> bool {
    let what = match policy.effect {
        Effect::Permit => "this permit is off",
        Effect::Forbid => "until it is mended, its whole scope is denied",
    };
    for name in &policy.reads.unknown {
        let message = format!("there is no `context.{name}`; {what}");
        let diagnostic = policy.error(&policy.place_of(name), message);
        out.push(match suggest::nearest(name, CONTEXT) {
            Some(near) => diagnostic.help(format!("did you mean `context.{near}`?")),
            None => diagnostic.help(format!(
                "`context` has {}",
                listed(CONTEXT.into_iter(), CONTEXT.len())
            )),
        });
    }
    !policy.reads.unknown.is_empty()
}

/// A route to nowhere denies what it is about; the upstream may be added later.
fn check_route(policy: &Policy, tools: &Tools<'_>, out: &mut Vec<Diagnostic>) {
    let Some(to) = &policy.route else {
        return;
    };
    if tools.upstreams.contains_key(to.as_str()) {
        return;
    }
    let message = format!(
        "`@route` names `{to}`, and there is no such upstream: what this policy sends there is denied"
    );
    let known = tools.upstreams.keys().map(String::as_str);
    let warning = Diagnostic::warning(&policy.place_of(to.as_str()), message);
    let warning = warning.of_policy(&policy.id);
    out.push(suggest_one(warning, to.as_str(), known.collect()));
}

/// Complains about upstreams, tools and methods that do not exist.
fn check_names(policy: &Policy, tools: &Tools<'_>, out: &mut Vec<Diagnostic>) {
    let mut seen = HashSet::new();
    for uid in &policy.literals {
        let ty = type_of(uid.type_name());
        if !matches!(ty, "Action" | "Tool" | "Upstream") || !seen.insert(uid) {
            continue;
        }
        let id = id_of(uid);
        let place = policy.place_of(&id);
        let name = upstream_of(&id);
        let Some(targets) = tools.upstreams.get(name) else {
            let known = tools.upstreams.keys().map(String::as_str);
            let message = format!("there is no upstream `{name}`");
            out.push(suggest_one(
                policy.error(&place, message),
                name,
                known.collect(),
            ));
            continue;
        };
        let rest = id.strip_prefix(name).unwrap_or_default();
        match (ty, rest.chars().next()) {
            ("Action" | "Upstream", None) => {}
            ("Action" | "Tool", Some('/')) => {
                let tool = rest.trim_start_matches('/');
                match &targets.tools {
                    // [`note_unchecked`] says so.
                    None => {}
                    Some(known) if known.contains_key(tool) => {}
                    Some(known) => {
                        let mut known: Vec<&str> = known.keys().map(String::as_str).collect();
                        known.sort_unstable();
                        let message = format!("`{name}` has no tool `{tool}`");
                        out.push(suggest_one(policy.error(&place, message), tool, known));
                    }
                }
            }
            ("Action", Some(':')) => {
                let method = rest.trim_start_matches(':');
                if !targets.methods.contains_key(method) && method != FREE.name {
                    let nearest = suggest::nearest(method, METHODS.map(|method| method.name));
                    let message = format!("no method `{method}` is decided by policy");
                    out.push(policy.error(&place, message).suggest(nearest));
                }
            }
            _ => {
                let message = format!("`{uid}` names nothing");
                let help = "write `UPSTREAM/TOOL`; of an upstream's other methods, the resource is `Upstream::\"UPSTREAM\"`";
                out.push(policy.error(&place, message).help(help));
            }
        }
    }
}

/// Complains about arguments that no tool in scope has. True if the policy can then not be trusted.
fn check_arguments(policy: &Policy, tools: &Tools<'_>, out: &mut Vec<Diagnostic>) -> bool {
    let scope: Vec<&Target> = tools
        .targets
        .iter()
        .filter(|target| target.is_under(policy))
        .collect();
    if scope.is_empty() || unlisted(policy, tools) {
        return false;
    }
    let for_all = policy.scope.actions.is_none() && policy.scope.resource == ResourceScope::Any;
    let what = match (for_all, policy.effect) {
        (true, _) => "",
        (false, Effect::Permit) => "; this permit is off",
        (false, Effect::Forbid) => "; until it is mended, its whole scope is denied",
    };
    let mut found = Vec::new();
    for path in policy.reads.args.keys() {
        if !scope.iter().any(|target| target.record.has(path)) {
            found.push(unknown_argument(policy, &scope, path, what));
        }
    }
    for name in &policy.reads.canonical {
        let folds = |target: &&Target| target.folded.iter().any(|folded| folded.name == *name);
        if !scope.iter().any(folds) {
            found.push(unknown_canonical(policy, &scope, name, what));
        }
    }
    let broken = !for_all && !found.is_empty();
    for mut diagnostic in found {
        if for_all {
            diagnostic.severity = Severity::Warning;
        }
        out.push(diagnostic);
    }
    broken
}

fn unknown_argument(policy: &Policy, scope: &[&Target], path: &[String], what: &str) -> Diagnostic {
    let name = path.join(".");
    let place = policy.place_of(path.last().map_or("", String::as_str));
    if let Some(target) = scope.iter().find(|target| target.record.hides(path)) {
        let message = format!(
            "argument `{name}` of `{}` has no type that policy can see{what}",
            target.action
        );
        return policy
            .error(&place, message)
            .help("such arguments are only named, in `context.untyped`");
    }
    let known: BTreeSet<String> = scope
        .iter()
        .flat_map(|target| target.record.leaves())
        .map(|leaf| leaf.path.join("."))
        .collect();
    suggest_argument(
        policy.error(&place, nobody_has(scope, &name, what)),
        &name,
        &known,
    )
}

fn unknown_canonical(policy: &Policy, scope: &[&Target], name: &str, what: &str) -> Diagnostic {
    let place = policy.place_of(name);
    let path: Vec<String> = name.split('.').map(ToOwned::to_owned).collect();
    if scope.iter().any(|target| target.record.has(&path)) {
        let message = format!("argument `{name}` is not taken for a path or URL{what}");
        return policy.error(&place, message).help(
            "name it in the upstream's `path_arguments` or `url_arguments`, or read `context.args`",
        );
    }
    let known: BTreeSet<String> = scope
        .iter()
        .flat_map(|target| &target.folded)
        .map(|folded| folded.name.clone())
        .collect();
    suggest_argument(
        policy.error(&place, nobody_has(scope, name, what)),
        name,
        &known,
    )
}

fn nobody_has(scope: &[&Target], name: &str, what: &str) -> String {
    match scope {
        [target] => format!("`{}` has no argument `{name}`{what}", target.action),
        _ => format!("nothing in this policy's scope has an argument `{name}`{what}"),
    }
}

fn suggest_argument(diagnostic: Diagnostic, name: &str, known: &BTreeSet<String>) -> Diagnostic {
    suggest_one(diagnostic, name, known.iter().map(String::as_str).collect())
}

/// Says which of `known` is nearest to `name`, or which there are.
fn suggest_one(diagnostic: Diagnostic, name: &str, known: Vec<&str>) -> Diagnostic {
    match suggest::nearest(name, known.iter().copied()) {
        Some(near) => diagnostic.suggest(Some(near)),
        None if known.is_empty() => diagnostic,
        None => diagnostic.help(format!("there are {}", listed(known.into_iter(), 12))),
    }
}
