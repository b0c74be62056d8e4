//! Names in cases that nobody has. What such a case expects may come true whatever the policies
//! say: a call of a tool that is not there is always denied.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value};
use vocab::finding::Class;
use vocab::{AgentId, PurposePath, suggest};

use super::Case;
use crate::approval::{Approver, Approvers};
use crate::decision::{Effect, Stage};
use crate::diagnostic::Diagnostic;
use crate::engine::Engine;
use crate::facts::Target;
use crate::findings::{ANY_RULE, Masks, Which};
use crate::set::{Policy, id_of, type_of};
use crate::target::{Callable, METHODS};

/// Who is registered, and what else policies may name, as far as that is known.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The agents and the purposes they may have.
    pub agents: BTreeMap<AgentId, Vec<PurposePath>>,
    /// What the sponsors are called; none if nobody here can read it.
    pub sponsors: Option<BTreeSet<String>>,
    /// What the groups are called; none if nobody here can read it.
    pub groups: Option<BTreeSet<String>>,
    /// What inspection finds, each as `CLASS/RULE`; none if nobody said.
    pub findings: Option<BTreeSet<String>>,
    /// The labels of upstreams and their tools; none if nobody said.
    pub labels: Option<BTreeSet<String>>,
}

/// Warns of each agent and purpose in a policy that nobody has, where somebody has one of nearly
/// that name: a forbid with such a slip holds for nobody. And of each sponsor and group that nobody
/// knows, each rule that nothing is found by, and each label that nothing has.
pub fn slips(engine: &Engine, known: &Known) -> Vec<Diagnostic> {
    let agents: Vec<&str> = known.agents.keys().map(AgentId::as_str).collect();
    let registered = known.agents.values().flatten();
    let registered: Vec<&str> = registered.map(PurposePath::as_str).collect();
    // A policy may speak of all that is below a common one.
    let purposes: Vec<&str> = registered.iter().flat_map(|path| paths(path)).collect();
    let mut slips = Vec::new();
    for policy in engine.policies() {
        let mut seen = HashSet::new();
        for uid in policy.literals.iter().filter(|uid| seen.insert(*uid)) {
            let id = id_of(uid);
            let (what, names) = match type_of(uid.type_name()) {
                "Agent" => ("agent", &agents),
                "Purpose" if registered.iter().any(|above| is_at_or_below(&id, above)) => continue,
                "Purpose" => ("purpose", &purposes),
                _ => continue,
            };
            if names.contains(&id.as_str()) {
                continue;
            }
            let Some(near) = suggest::nearest(&id, names.iter().copied()) else {
                continue;
            };
            let message = format!("no {what} `{id}` is registered");
            let warning = Diagnostic::warning(&policy.place_of(&id), message);
            slips.push(warning.of_policy(&policy.id).suggest(Some(near)));
        }
        strangers(policy, known, &mut slips);
        never_seen(policy, known, &mut slips);
    }
    slips.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    slips
}

/// Warns of sponsors and groups that nobody knows, and of groups that may be anything.
fn strangers(policy: &Policy, known: &Known, out: &mut Vec<Diagnostic>) {
    let sponsors = policy.literals.iter();
    let sponsors = sponsors.filter(|uid| type_of(uid.type_name()) == "Sponsor");
    // The empty one is whoever is erased.
    let mut sponsors: BTreeSet<String> = sponsors.map(id_of).filter(|id| !id.is_empty()).collect();
    let mut groups: BTreeSet<String> = policy.groups.named.iter().cloned().collect();
    for approver in policy.approval.iter().flat_map(Approvers::named) {
        match approver {
            Approver::Sponsor => {}
            Approver::Person(id) => _ = sponsors.insert(id.to_string()),
            Approver::Group(name) => _ = groups.insert(name.clone()),
        }
    }
    let said = [
        ("sponsor", &sponsors, &known.sponsors),
        ("group", &groups, &known.groups),
    ];
    for (what, names, known) in said {
        let Some(known) = known else {
            continue;
        };
        for name in names.iter().filter(|name| !known.contains(*name)) {
            let message = format!(
                "no {what} `{name}` is known; whoever is added first by that name will be meant"
            );
            let warning = Diagnostic::warning(&policy.place_of(name), message);
            let near = suggest::nearest(name, known.iter().map(String::as_str));
            out.push(warning.of_policy(&policy.id).suggest(near));
        }
    }
    if policy.groups.unwritten {
        let message = "this compares groups with what is not written in the policy, so whenever a \
                       group is renamed it says something else";
        let warning = Diagnostic::warning(&policy.place_of("groups"), message);
        let help = "write the names of the groups into the policy";
        out.push(warning.of_policy(&policy.id).help(help));
    }
}

/// Warns of rules that nothing is found by and of labels that nothing has: a forbid that waits for
/// one holds for nobody.
fn never_seen(policy: &Policy, known: &Known, out: &mut Vec<Diagnostic>) {
    let said = policy.reads.findings_said.iter();
    let said = said.filter_map(|text| text.parse::<Which>().ok());
    let masked = policy.mask.iter().flat_map(Masks::named).cloned();
    let rules = said.chain(masked).filter(Which::is_rule);
    let rules: BTreeSet<String> = rules.map(|it| it.to_string()).collect();
    let labels = policy.reads.labels_said.iter();
    let found = rules.iter().filter_map(|it| no_rule(known, it));
    let read = labels.filter_map(|it| no_label(known, it));
    for Unseen { name, text, near } in found.chain(read) {
        let warning = Diagnostic::warning(&policy.place_of(name), text);
        out.push(warning.of_policy(&policy.id).suggest(near));
    }
}

/// Something that policies never see.
struct Unseen<'a> {
    name: &'a str,
    text: String,
    near: Option<&'a str>,
}

/// What to say of a rule, as `CLASS/RULE`, that nothing is found by.
fn no_rule<'a>(known: &'a Known, name: &'a str) -> Option<Unseen<'a>> {
    let rules = known.findings.as_ref().filter(|it| !it.contains(name))?;
    Some(Unseen {
        name,
        text: format!("no rule finds `{name}`"),
        near: suggest::nearest(name, rules.iter().map(String::as_str)),
    })
}

/// What to say of a label that nothing has.
fn no_label<'a>(known: &'a Known, name: &'a str) -> Option<Unseen<'a>> {
    let labels = known.labels.as_ref().filter(|it| !it.contains(name))?;
    // Classes of findings are labels, too.
    name.parse::<Class>().err()?;
    let classes = Class::ALL.map(Class::as_str);
    Some(Unseen {
        name,
        text: format!("no upstream and no tool has the label `{name}`"),
        near: suggest::nearest(name, labels.iter().map(String::as_str).chain(classes)),
    })
}

/// `a`, `a/b` and `a/b/c` of `a/b/c`.
fn paths(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.match_indices('/').map(|(at, _)| at);
    ends.chain([path.len()])
        .filter_map(move |end| path.get(..end))
}

fn is_at_or_below(purpose: &str, above: &str) -> bool {
    let rest = purpose.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is wrong with the names of a case.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It shows nothing.
    Void(String),
    /// It may be meant so.
    Odd(String),
}

/// What is wrong with the names of `case`. One that states the stage at which it is denied for such
/// a name means it.
pub(super) fn fault(engine: &Engine, known: &Known, case: &Case) -> Option<Fault> {
    let called = called(engine, case);
    let called = called
        .and_then(|()| seen(known, case))
        .err()
        .map(Fault::Void);
    // Who is allowed, is allowed; who is denied may only not be who was meant.
    let denied = case.expect.effect == Effect::Deny;
    called.or_else(|| denied.then(|| who(engine, known, case)).flatten())
}

/// What a case says was seen has to be something that can be.
fn seen(known: &Known, case: &Case) -> Result<(), String> {
    let rules = case.facts.findings.iter();
    let rules = rules.filter(|it| it.rule != ANY_RULE);
    let rules: Vec<String> = rules
        .map(|it| format!("{}/{}", it.class, it.rule))
        .collect();
    let found = rules.iter().find_map(|it| no_rule(known, it));
    let mut labels = case.facts.labels.iter();
    match found.or_else(|| labels.find_map(|it| no_label(known, it))) {
        None => Ok(()),
        Some(Unseen { text, near, .. }) => Err(match near {
            Some(near) => format!("{text}; did you mean `{near}`?"),
            None => text,
        }),
    }
}

fn called(engine: &Engine, case: &Case) -> Result<(), String> {
    let facts = &case.facts;
    let upstream = facts.upstream.as_str();
    let means = |stage: Stage| case.expect.stage.as_deref() == Some(stage.as_str());
    let Some(targets) = engine.upstreams.get(upstream) else {
        if means(Stage::PolicyUnavailable) {
            return Ok(());
        }
        let known: Vec<&str> = engine.upstreams.keys().map(String::as_str).collect();
        return Err(no("there is no upstream", upstream, &known));
    };
    let index = match &facts.target {
        Target::Tool { name } => {
            let Some(tools) = &targets.tools else {
                if means(Stage::PolicyUnavailable) {
                    return Ok(());
                }
                return Err(format!(
                    "the tools of `{upstream}` are not known, so this case shows nothing"
                ));
            };
            match tools.get(name.as_str()) {
                Some(index) => *index,
                None if means(Stage::UnknownTool) => return Ok(()),
                None => {
                    let mut known: Vec<&str> = tools.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    return Err(no(
                        &format!("`{upstream}` has no tool"),
                        name.as_str(),
                        &known,
                    ));
                }
            }
        }
        Target::Method { method, .. } => match targets.methods.get(method.as_str()) {
            Some(index) => *index,
            None if means(Stage::UnknownTool) => return Ok(()),
            None => {
                let known = METHODS.map(|method| method.name);
                return Err(no("policy decides no method", method, &known));
            }
        },
    };
    let args: Map<String, Value> = serde_json::from_str(facts.args.get()).unwrap_or_default();
    let Some(target) = engine.target(index).filter(|_| !means(Stage::Schema)) else {
        return Ok(());
    };
    match &target.call {
        Callable::Tool(tool) => {
            let allowed = engine.allows_undeclared(upstream);
            let undeclared = tool.undeclared_in(&args, allowed);
            undeclared.map_or(Ok(()), |refusal| Err(refusal.reason))
        }
        Callable::Method(method) => {
            let fields = &target.record.fields;
            let missing = fields
                .iter()
                .find(|(name, field)| field.required && !args.contains_key(*name));
            match missing {
                Some((name, _)) => Err(format!("`{}` needs a `{name}` in `args`", method.name)),
                None => Ok(()),
            }
        }
    }
}

fn who(engine: &Engine, known: &Known, case: &Case) -> Option<Fault> {
    let instance = &case.facts.instance;
    let named = |ty: &str| -> Vec<String> {
        let literals = engine.policies().iter().flat_map(|policy| &policy.literals);
        literals
            .filter(|uid| type_of(uid.type_name()) == ty)
            .map(id_of)
            .collect()
    };
    let in_policies = named("Agent");
    let registered = known.agents.keys().map(AgentId::as_str);
    let agents: Vec<&str> = registered
        .chain(in_policies.iter().map(String::as_str))
        .collect();
    let agent = instance.agent.as_str();
    if !agents.is_empty() && !agents.contains(&agent) {
        return Some(stranger("agent", agent, &agents));
    }
    let purpose = instance.purpose.as_str();
    // The purpose of a case that gives none.
    if purpose == agent {
        return None;
    }
    let in_policies = named("Purpose");
    let registered = match known.agents.get(&instance.agent) {
        Some(purposes) => purposes.iter().collect::<Vec<_>>(),
        None => known.agents.values().flatten().collect(),
    };
    let purposes: Vec<&str> = registered
        .into_iter()
        .map(PurposePath::as_str)
        .chain(in_policies.iter().map(String::as_str))
        .collect();
    if purposes.is_empty() || purposes.iter().any(|above| is_at_or_below(purpose, above)) {
        return None;
    }
    Some(stranger("purpose", purpose, &purposes))
}

/// Somebody whom nobody knows: a slip of the pen if there is one of nearly that name, and else
/// perhaps a stranger on purpose.
fn stranger(what: &str, given: &str, known: &[&str]) -> Fault {
    let text = format!("the {what} `{given}` is neither registered nor named by a policy");
    match suggest::nearest(given, known.iter().copied()) {
        Some(near) => Fault::Void(format!("{text}; did you mean `{near}`?")),
        None => Fault::Odd(text),
    }
}

fn no(what: &str, given: &str, known: &[&str]) -> String {
    match suggest::nearest(given, known.iter().copied()) {
        Some(near) => format!("{what} `{given}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("{what} `{given}`"),
        None => {
            let known = crate::set::listed(known.iter().copied(), 12);
            format!("{what} `{given}`; there are {known}")
        }
    }
}
