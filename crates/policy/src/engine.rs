//! The engine: policies and tools together, ready to decide.

mod beyond;
mod free;
mod routed;
mod said;
mod shown;

pub use said::Said;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use cedar_policy::{
    Authorizer, Effect as CedarEffect, Entities, Entity, EntityUid, Request, Response,
    RestrictedExpression, Schema,
};
use vocab::{AgentId, Digest, InstanceId, PurposePath, ToolName, UpstreamName};

use crate::approval::{Approvers, Needs};
use crate::canonical::CANONICAL_VERSION;
use crate::check::{self, Broken, Tools};
use crate::decision::{Decision, Denial, DenialSummary, Hold, Nearest, Permit, Stage};
use crate::diagnostic::{Diagnostic, Place};
use crate::facts::{Approved, Facts, InstanceFacts};
use crate::findings::{self, Found, Masks};
use crate::set::{Policy, PolicySet, PrincipalScope, id_of, listed, type_of};
use crate::target::{FREE, METHODS, Names, Target, Targets, UpstreamOptions, uid};
use crate::tools::{Refusal, ToolList, quoted};

pub(crate) use beyond::beyond;
use beyond::beyond_arguments;
pub use free::Free;
use shown::{Seen, arguments, check_arguments, context};

/// The version of the rules that turn tools into a Cedar schema and arguments into its values.
pub const SCHEMA_VERSION: u32 = 1;

/// What decides, for records: a decision is run again by what it was made by.
pub fn versions() -> String {
    format!("cedar-4.14.1 schema-{SCHEMA_VERSION} canonical-{CANONICAL_VERSION}")
}

/// Most slices, callers and tool visibilities kept; each is emptied when it is full.
const KEPT_MAX: usize = 8_192;
/// Most permits named as coming near.
const NEAREST_MAX: usize = 3;

/// An upstream, as the engine is to know it.
#[derive(Debug)]
pub struct UpstreamInput<'a> {
    /// Its name.
    pub name: UpstreamName,
    /// Its tools; `None` if they were never listed.
    pub tools: Option<&'a ToolList>,
    /// How its arguments are treated.
    pub options: UpstreamOptions,
}

/// Policies and tools together. It never changes: a new set or a new tool list makes a new engine.
#[derive(Debug)]
pub struct Engine {
    /// `None`: there is no valid policy set, and everything is denied.
    schema: Option<Schema>,
    digest: Digest,
    names: Names,
    policies: Vec<Arc<Policy>>,
    broken: HashMap<usize, Broken>,
    targets: Vec<Target>,
    pub(crate) upstreams: BTreeMap<String, Targets>,
    options: BTreeMap<String, UpstreamOptions>,
    diagnostics: Vec<Diagnostic>,
    unchecked: BTreeMap<UpstreamName, Vec<String>>,
    /// Instances that some policy's scope names.
    named: HashSet<String>,
    says_sponsors: HashSet<String>,
    says_groups: HashSet<String>,
    authorizer: Authorizer,
    slices: Kept<SliceKey, Arc<Slice>>,
    callers: Kept<(InstanceId, usize), Arc<(InstanceFacts, Entities)>>,
    pub(crate) shown: Kept<(InstanceFacts, usize), bool>,
}

/// A bounded memory of what was worked out. Losing it costs time only.
#[derive(Debug)]
pub(crate) struct Kept<K, V>(RwLock<HashMap<K, V>>);

impl<K: std::hash::Hash + Eq, V: Clone> Kept<K, V> {
    fn new() -> Self {
        Self(RwLock::new(HashMap::new()))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.0.read().ok()?.get(key).cloned()
    }

    pub(crate) fn keep(&self, key: K, value: V) {
        if let Ok(mut kept) = self.0.write() {
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(key, value);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SliceKey {
    target: usize,
    agent: AgentId,
    purpose: PurposePath,
    /// Only if a policy's scope names it.
    instance: Option<InstanceId>,
}

/// The policies whose scope covers a caller and a target, without that scope. All others cannot
/// apply, so leaving them out changes no answer.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) set: cedar_policy::PolicySet,
    pub(crate) policies: BTreeMap<String, Arc<Policy>>,
    /// Forbids that cover it and cannot be evaluated.
    pub(crate) broken: Vec<Arc<Policy>>,
    pub(crate) permits: usize,
    /// Whether some policy looks at the time.
    reads_now: bool,
    /// Whether some policy asks for an approval.
    reads_approval: bool,
    /// Whether some policy sends calls elsewhere.
    has_routes: bool,
    /// Permits for this target and other callers.
    elsewhere: Vec<Nearest>,
}

/// A call that got as far as policy: everything that Cedar is asked with.
pub(crate) struct Asked {
    pub(crate) slice: Arc<Slice>,
    pub(crate) request: Request,
    pub(crate) caller: Arc<(InstanceFacts, Entities)>,
    routed: bool,
}

/// How much of a call is shown to Cedar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// What the policies read.
    Read,
    /// All of it, for people to see.
    All,
}

/// What a call is decided as, beside what it is.
#[derive(Debug, Default)]
pub(crate) struct As {
    /// As if people had approved it.
    pub(crate) approved: bool,
    /// As if this were not in it.
    pub(crate) masked: Masks,
    /// As if its tool were accepted as policies are judged by it.
    pub(crate) accepted: bool,
    /// As routed here: it needs no permit here, and heeds every forbid.
    pub(crate) routed: bool,
}

/// How far a call gets.
pub(crate) enum Reached {
    Policy(Box<Asked>),
    Refused(Denial),
}

impl Engine {
    /// Puts a policy set and tools together. This never fails: what does not fit is judged tool by
    /// tool (see [`Engine::diagnostics`]), and what cannot be judged denies.
    pub fn build(set: &PolicySet, upstreams: &[UpstreamInput<'_>]) -> Self {
        let names = Names::new();
        let mut targets = Vec::new();
        let mut index: BTreeMap<String, Targets> = BTreeMap::new();
        let mut options = BTreeMap::new();
        let mut inputs = vec![format!("{} {}", versions(), set.digest())];
        for input in upstreams {
            let methods =
                METHODS.map(|method| (method.name, Target::method(&names, &input.name, method)));
            let mut here = Targets {
                free: targets.len(),
                ..Targets::default()
            };
            targets.push(Target::method(&names, &input.name, FREE));
            for (name, target) in methods {
                here.methods.insert(name, targets.len());
                targets.push(target);
            }
            if let Some(list) = input.tools {
                let mut tools = HashMap::new();
                for tool in list.tools() {
                    let target = Target::tool(&names, &input.name, tool, &input.options);
                    // A server's tool must not be able to spoil the schema of the others.
                    if check::schema(std::iter::once(&target), std::iter::empty()).is_ok() {
                        tools.insert(tool.name.to_string(), targets.len());
                        targets.push(target);
                    }
                }
                here.tools = Some(tools);
            }
            let list = input.tools.map(|list| list.digest().to_string());
            let how = serde_json::to_string(&input.options).unwrap_or_default();
            inputs.push(format!("{} {} {how}", input.name, list.unwrap_or_default()));
            index.insert(input.name.to_string(), here);
            options.insert(input.name.to_string(), input.options.clone());
        }
        inputs.sort_unstable();
        let policies = set.policies().to_vec();
        let mentioned: BTreeSet<String> = policies
            .iter()
            .flat_map(|policy| check::mentioned(policy))
            .collect();
        let tools = Tools {
            targets: &targets,
            upstreams: &index,
        };
        let (schema, fit) = match check::schema(targets.iter(), mentioned.into_iter()) {
            Ok(schema) => {
                let fit = check::check(&policies, &tools, &schema);
                (Some(schema), fit)
            }
            Err(error) => {
                let message = format!("the tools make no schema, so everything is denied: {error}");
                let fit = check::Fit {
                    diagnostics: vec![Diagnostic::error(&Place::NOWHERE, message)],
                    ..check::Fit::default()
                };
                (None, fit)
            }
        };
        let named = policies
            .iter()
            .filter_map(|policy| match &policy.scope.principal {
                PrincipalScope::Instance(id) => Some(id.clone()),
                PrincipalScope::Any | PrincipalScope::Agent(_) | PrincipalScope::Purpose(_) => None,
            })
            .collect();
        let says_sponsors = policies
            .iter()
            .flat_map(|policy| &policy.literals)
            .filter(|uid| type_of(uid.type_name()) == "Sponsor")
            .map(id_of)
            .collect();
        let said = policies.iter().flat_map(|policy| &policy.groups.perhaps);
        let says_groups = said.cloned().collect();
        Self {
            digest: Digest::of(inputs.join("\n").as_bytes()),
            broken: fit.broken,
            diagnostics: fit.diagnostics,
            unchecked: fit.unchecked,
            schema,
            names,
            policies,
            targets,
            upstreams: index,
            options,
            named,
            says_sponsors,
            says_groups,
            authorizer: Authorizer::new(),
            slices: Kept::new(),
            callers: Kept::new(),
            shown: Kept::new(),
        }
    }

    /// An engine without a valid policy set: it denies everything.
    pub fn none() -> Self {
        Self {
            schema: None,
            digest: Digest::of(b"none"),
            names: Names::new(),
            policies: Vec::new(),
            broken: HashMap::new(),
            targets: Vec::new(),
            upstreams: BTreeMap::new(),
            options: BTreeMap::new(),
            diagnostics: Vec::new(),
            unchecked: BTreeMap::new(),
            named: HashSet::new(),
            says_sponsors: HashSet::new(),
            says_groups: HashSet::new(),
            authorizer: Authorizer::new(),
            slices: Kept::new(),
            callers: Kept::new(),
            shown: Kept::new(),
        }
    }

    /// A digest over all that decides: the set, the tool lists, the options and [`versions`].
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// What is wrong with the policies, given these tools.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// The upstreams whose tools are not known, and the policies that could therefore not be
    /// checked. An upstream that no policy asks for is not among them.
    pub const fn unchecked(&self) -> &BTreeMap<UpstreamName, Vec<String>> {
        &self.unchecked
    }

    /// Decides one call. Where a name may be read in more than one way, what any reading denies is
    /// denied, and of the rest what any holds is held.
    pub fn decide(&self, facts: &Facts) -> Decision {
        self.decide_as(facts, &As::default())
    }

    /// Decides one call by what the policies say of it, also if its tool is held at this moment.
    pub(crate) fn decide_as_accepted(&self, facts: &Facts) -> Decision {
        let accepted = As {
            accepted: true,
            ..As::default()
        };
        self.decide_as(facts, &accepted)
    }

    fn decide_as(&self, facts: &Facts, as_if: &As) -> Decision {
        let instance = &facts.instance;
        if instance.perhaps_sponsor.is_empty() && instance.perhaps_groups.is_empty() {
            return self.decide_as_read(facts, as_if);
        }
        let Some(readings) = instance.readings() else {
            let text = "Too many names of this agent's sponsor, or of their groups, changed since \
                        the policies came into force. They have to be put in force again.";
            return Decision::Denial(denied_plainly(Stage::PolicyUnavailable, text));
        };
        let (mut permitted, mut held, mut observed) = (None::<Permit>, None::<Hold>, None);
        let mut routes = BTreeSet::new();
        for instance in readings {
            let facts = Facts {
                instance,
                ..facts.clone()
            };
            let decision = self.decide_as_read(&facts, as_if);
            if !matches!(decision, Decision::Denial(_)) {
                routes.insert(decision.route().cloned());
            }
            match decision {
                Decision::Permit(permit) if permit.observed.is_none() => {
                    permitted = Some(match permitted {
                        Some(before) => before.masking(&permit.masks),
                        None => permit,
                    });
                }
                Decision::Hold(hold) => {
                    held = Some(match held {
                        Some(before) => before.and(hold),
                        None => hold,
                    });
                }
                // What is not let pass may come yet.
                let_pass @ Decision::Permit(_) => {
                    observed.get_or_insert(let_pass);
                }
                denied @ Decision::Denial(_) => return denied,
            }
        }
        if routes.len() > 1 {
            let text = "Where policy sends this call depends on names of this agent's sponsor, or of \
                        their groups, that changed since the policies came into force. They have to \
                        be put in force again.";
            return Decision::Denial(denied_plainly(Stage::PolicyUnavailable, text));
        }
        let held = held.map(Decision::Hold);
        let permitted = permitted.map(Decision::Permit);
        observed.or(held).or(permitted).unwrap_or_else(|| {
            let text = "The names of this agent's sponsor cannot be read.";
            Decision::Denial(denied_plainly(Stage::PolicyUnavailable, text))
        })
    }

    /// Whether some policy says a sponsor's id.
    pub fn says_sponsor(&self, id: &str) -> bool {
        self.says_sponsors.contains(id)
    }

    /// Whether some policy says what could be a group's name.
    pub fn says_group(&self, name: &str) -> bool {
        self.says_groups.contains(name)
    }

    fn decide_as_read(&self, facts: &Facts, as_if: &As) -> Decision {
        let asked = match self.reach(facts, Shown::Read, as_if) {
            Reached::Refused(denial) => return Decision::Denial(denial),
            Reached::Policy(asked) => asked,
        };
        let decision = match self.ask(&asked) {
            Decision::Denial(denial) if denial.stage == Stage::Policy => {
                self.if_masked(facts, &asked.slice, denial, as_if)
            }
            decision => decision,
        };
        let decision = maskable(facts, decision);
        if as_if.routed {
            return decision;
        }
        let decision = if facts.observe {
            observed(decision)
        } else {
            decision
        };
        self.sent_on(facts, decision, as_if)
    }

    /// What becomes of a call that is denied as it is: permitted, exactly if it would be without what
    /// the forbids in its way ask to have masked; else what an approval makes of it.
    fn if_masked(&self, facts: &Facts, slice: &Slice, denial: Denial, as_if: &As) -> Decision {
        let masks = slice.masks(&denial.policies);
        let can_mask = !facts.elsewhere && facts.findings.iter().any(|it| masks.hides(it));
        if !can_mask {
            return if slice.reads_approval {
                let approved = As {
                    approved: true,
                    masked: Masks::default(),
                    ..*as_if
                };
                self.if_approved(facts, denial, &approved)
            } else {
                Decision::Denial(denial)
            };
        }
        let masked = As {
            approved: false,
            masked: masks.clone(),
            ..*as_if
        };
        let Reached::Policy(asked) = self.reach(facts, Shown::Read, &masked) else {
            return Decision::Denial(denial);
        };
        match self.ask(&asked) {
            Decision::Permit(permit) => Decision::Permit(permit.masking(&masks)),
            Decision::Denial(rest) if rest.stage == Stage::Policy && slice.reads_approval => {
                let approved = As {
                    approved: true,
                    ..masked
                };
                match self.if_approved(facts, rest, &approved) {
                    Decision::Denial(_) => Decision::Denial(denial),
                    decision => decision,
                }
            }
            Decision::Hold(_) | Decision::Denial(_) => Decision::Denial(denial),
        }
    }

    /// What becomes of a call that is denied as it is: held, exactly if an approval would permit it,
    /// and permitted if the people who approved it are enough.
    fn if_approved(&self, facts: &Facts, denial: Denial, as_if: &As) -> Decision {
        let Reached::Policy(asked) = self.reach(facts, Shown::Read, as_if) else {
            return Decision::Denial(denial);
        };
        let Decision::Permit(permit) = self.ask(&asked) else {
            return Decision::Denial(denial);
        };
        let (needs, asking) = needs(&asked.slice, &denial, &permit);
        let is_met = |approved: &Approved| needs.are_met(&approved.by);
        if facts.approval.as_ref().is_some_and(is_met) {
            return Decision::Permit(permit.masking(&as_if.masked));
        }
        let said = asking.iter().filter_map(|id| asked.slice.policies.get(id));
        let reason = reasons(said);
        Decision::Hold(Hold {
            reason: reason.unwrap_or_else(|| "People have to approve this call first.".to_owned()),
            policies: asking,
            needs,
            routes: permit.routes,
        })
    }

    /// Takes a call through everything that is decided whatever its arguments are: to the index of
    /// its target, or to a denial. A tool that is held is denied unless it is taken as `accepted`.
    pub(crate) fn before_arguments(&self, facts: &Facts, accepted: bool) -> Result<usize, Denial> {
        let plain = |stage, text: &str| Err(denied_plainly(stage, text));
        if let Some(why) = &facts.standing {
            return plain(Stage::Standing, why);
        }
        beyond(&facts.instance, &facts.upstream, &facts.target)
            .map_or(Ok(()), |refusal| Err(denied(Stage::Authority, refusal)))?;
        if let Some(why) = &facts.limit {
            return plain(Stage::Limit, why);
        }
        if self.schema.is_none() {
            let text = "There is no valid policy set, so nothing is permitted.";
            return plain(Stage::PolicyUnavailable, text);
        }
        if facts.unread {
            let upstream = facts.upstream.as_str();
            let text = format!(
                "The tools of `{upstream}` could not be read since this node started, so nobody \
                 knows whether they are those that were accepted. Try again later. Whoever runs \
                 this node can mend that: `tipstaff doctor` says why."
            );
            return plain(Stage::ToolsNotRead, &text);
        }
        self.find(facts, accepted)
            .map_err(|(stage, refusal)| denied(stage, refusal))
    }

    /// Takes a call through everything that comes before policy.
    pub(crate) fn reach(&self, facts: &Facts, shown: Shown, as_if: &As) -> Reached {
        let index = match self.before_arguments(facts, as_if.accepted) {
            Ok(index) => index,
            Err(denial) => return Reached::Refused(denial),
        };
        self.reach_from(index, facts, shown, as_if)
    }

    fn reach_from(&self, index: usize, facts: &Facts, shown: Shown, as_if: &As) -> Reached {
        let refused = |stage, refusal| Reached::Refused(denied(stage, refusal));
        let plain = |stage, text: String| Reached::Refused(denied_plainly(stage, &text));
        let Some(target) = self.targets.get(index) else {
            return plain(Stage::Error, "The target is not there.".to_owned());
        };
        let options = self.options.get(facts.upstream.as_str());
        let (args, options) = match (arguments(facts, target), options) {
            (Ok(args), Some(options)) => (args, options),
            (Err(refusal), _) => return refused(Stage::Schema, refusal),
            (_, None) => return plain(Stage::Error, "The upstream is not there.".to_owned()),
        };
        let args = match check_arguments(target, args, options) {
            Ok(args) => args,
            Err(refusal) => return refused(Stage::Schema, refusal),
        };
        let canonical = match target.fold(&args, options.allow_noncanonical) {
            Ok(canonical) => canonical,
            Err(refusal) => return refused(Stage::Canonical, refusal),
        };
        if let Some(refusal) = beyond_arguments(facts) {
            return refused(Stage::Authority, refusal);
        }
        let slice = self.slice(index, target, &facts.instance);
        let expressed = target.express(&args);
        if let Some(path) = expressed.untyped.iter().find(|path| slice.reads(path)) {
            let name = quoted(&path.join("."));
            return refused(
                Stage::Schema,
                Refusal {
                    cause: "an argument that policy asks for cannot be shown to policy".to_owned(),
                    reason: format!(
                        "Argument {name} cannot be shown to policy, which asks for it. Leave it out, \
                         or write it as the tool declares it: an integer of at most 64 bits, a number \
                         with at most four digits after the point."
                    ),
                },
            );
        }
        if !slice.broken.is_empty() {
            return Reached::Refused(unavailable(&slice));
        }
        // Making a datetime costs Cedar as much as the rest of a decision.
        let now = (slice.reads_now || shown == Shown::All).then_some(facts.now);
        let left = facts.findings.iter();
        let left = left.filter(|found| !as_if.masked.hides(found));
        let seen = Seen {
            proven: facts.instance.proven,
            now,
            approved: as_if.approved,
            findings: findings::texts(left),
            direction: facts.direction,
            labels: &facts.labels,
        };
        let (Some(context), Some(caller)) = (
            context(expressed.pairs, canonical, &expressed.untyped, &seen),
            self.caller(index, target, &facts.instance),
        ) else {
            return plain(
                Stage::Error,
                "The facts of this call cannot be shown to policy.".to_owned(),
            );
        };
        let request = Request::new(
            uid(&self.names.instance, facts.instance.id.as_str()),
            target.action_uid.clone(),
            target.resource_uid.clone(),
            context,
            None,
        );
        match request {
            Ok(request) => Reached::Policy(Box::new(Asked {
                slice,
                request,
                caller,
                routed: as_if.routed,
            })),
            Err(_) => plain(
                Stage::Error,
                "The facts of this call cannot be shown to policy.".to_owned(),
            ),
        }
    }

    /// Where `tool` is, if it can be called at all.
    pub(crate) fn target_of(
        &self,
        upstream: &UpstreamName,
        tool: &ToolName,
    ) -> Option<(usize, &Target)> {
        let index = *self
            .upstreams
            .get(upstream.as_str())?
            .tools
            .as_ref()?
            .get(tool.as_str())?;
        let target = self.targets.get(index)?;
        target.held().is_none().then_some((index, target))
    }

    pub(crate) fn method_target(
        &self,
        upstream: &UpstreamName,
        method: &str,
    ) -> Option<(usize, &Target)> {
        let index = *self.upstreams.get(upstream.as_str())?.methods.get(method)?;
        Some((index, self.targets.get(index)?))
    }

    pub(crate) fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index)
    }

    /// Whether arguments that a tool of `upstream` does not declare pass.
    pub(crate) fn allows_undeclared(&self, upstream: &str) -> bool {
        let options = self.options.get(upstream);
        options.is_some_and(|options| options.allow_undeclared)
    }

    pub(crate) const fn schema(&self) -> Option<&Schema> {
        self.schema.as_ref()
    }

    pub(crate) fn is_named(&self, instance: &InstanceId) -> bool {
        self.named.contains(instance.as_str())
    }

    /// The policies that can apply to `instance` on `target`.
    pub(crate) fn slice(
        &self,
        index: usize,
        target: &Target,
        instance: &InstanceFacts,
    ) -> Arc<Slice> {
        let key = SliceKey {
            target: index,
            agent: instance.agent.clone(),
            purpose: instance.purpose.clone(),
            instance: self.is_named(&instance.id).then(|| instance.id.clone()),
        };
        if let Some(slice) = self.slices.get(&key) {
            return slice;
        }
        let slice = Arc::new(self.cut(index, target, instance));
        self.slices.keep(key, Arc::clone(&slice));
        slice
    }

    fn cut(&self, index: usize, target: &Target, instance: &InstanceFacts) -> Slice {
        let mut slice = Slice {
            set: cedar_policy::PolicySet::new(),
            policies: BTreeMap::new(),
            broken: Vec::new(),
            permits: 0,
            reads_now: false,
            reads_approval: false,
            has_routes: false,
            elsewhere: Vec::new(),
        };
        for (at, policy) in self.policies.iter().enumerate() {
            if !target.is_under(policy) {
                continue;
            }
            let permit = policy.effect == CedarEffect::Permit;
            if !covers(&policy.scope.principal, instance) {
                if permit && slice.elsewhere.len() < NEAREST_MAX {
                    slice.elsewhere.push(Nearest {
                        policy: policy.id.clone(),
                        failed: policy.scope.principal.text(),
                    });
                }
                continue;
            }
            let broken = self
                .broken
                .get(&at)
                .is_some_and(|broken| broken.is_on(index));
            match (broken, permit) {
                (true, true) => {}
                (true, false) => slice.broken.push(Arc::clone(policy)),
                (false, _) => {
                    // The key has all that the scope asks for, and it covers them. Ids are unique
                    // in a set, so this cannot fail; a policy that is not added is counted as
                    // broken, which denies.
                    if slice.set.add(policy.unscoped().clone()).is_err() {
                        slice.broken.push(Arc::clone(policy));
                    }
                    slice.policies.insert(policy.id.clone(), Arc::clone(policy));
                    slice.permits += usize::from(permit);
                    slice.reads_now |= policy.reads.now;
                    slice.reads_approval |= policy.reads.approval;
                    slice.has_routes |= policy.route.is_some();
                }
            }
        }
        slice
    }

    /// The entities of one caller on one target, kept from call to call.
    fn caller(
        &self,
        index: usize,
        target: &Target,
        instance: &InstanceFacts,
    ) -> Option<Arc<(InstanceFacts, Entities)>> {
        let key = (instance.id.clone(), index);
        if let Some(kept) = self.callers.get(&key)
            && kept.0 == *instance
        {
            return Some(kept);
        }
        let entities = Entities::from_entities(self.entities(target, instance)?, None).ok()?;
        let made = Arc::new((instance.clone(), entities));
        self.callers.keep(key, Arc::clone(&made));
        Some(made)
    }

    pub(crate) fn entities(
        &self,
        target: &Target,
        instance: &InstanceFacts,
    ) -> Option<Vec<Entity>> {
        let names = &self.names;
        let agent = uid(&names.agent, instance.agent.as_str());
        // An erased sponsor has no id and no groups: the empty id is nobody's.
        let sponsor = instance
            .sponsor
            .as_ref()
            .map_or("", |sponsor| sponsor.as_str());
        let sponsor = uid(&names.sponsor, sponsor);
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let ancestors = instance
            .ancestors
            .iter()
            .map(|id| RestrictedExpression::new_entity_uid(uid(&names.agent, id.as_str())));
        let attributes = HashMap::from([
            (
                "agent".to_owned(),
                RestrictedExpression::new_entity_uid(agent.clone()),
            ),
            (
                "sponsor".to_owned(),
                RestrictedExpression::new_entity_uid(sponsor.clone()),
            ),
            ("purpose".to_owned(), text(instance.purpose.as_str())),
            (
                "depth".to_owned(),
                RestrictedExpression::new_long(i64::from(instance.depth)),
            ),
            (
                "ancestors".to_owned(),
                RestrictedExpression::new_set(ancestors),
            ),
            (
                "root_purpose".to_owned(),
                text(
                    instance
                        .root_purpose
                        .as_ref()
                        .unwrap_or(&instance.purpose)
                        .as_str(),
                ),
            ),
            ("environment".to_owned(), text(&instance.environment)),
        ]);
        let purposes: Vec<EntityUid> = at_or_above(&instance.purpose)
            .map(|purpose| uid(&names.purpose, purpose))
            .collect();
        let parents = purposes.iter().cloned().chain([agent.clone()]).collect();
        let id = uid(&names.instance, instance.id.as_str());
        let groups = instance.sponsor_groups.iter().map(|group| text(group));
        let groups = HashMap::from([("groups".to_owned(), RestrictedExpression::new_set(groups))]);
        let mut entities = vec![
            Entity::new(id, attributes, parents).ok()?,
            Entity::new(sponsor, groups, HashSet::new()).ok()?,
            Entity::with_uid(agent),
        ];
        for (purpose, above) in purposes
            .iter()
            .zip(purposes.iter().skip(1).map(Some).chain([None]))
        {
            let above = above.into_iter().cloned().collect();
            entities.push(Entity::new_no_attrs(purpose.clone(), above));
        }
        entities.extend(target.entities.iter().cloned());
        Some(entities)
    }

    fn ask(&self, asked: &Asked) -> Decision {
        let slice = &asked.slice;
        let response = self
            .authorizer
            .is_authorized(&asked.request, &slice.set, &asked.caller.1);
        let mut policies: Vec<String> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        policies.sort_unstable();
        // Cedar skips a policy that it cannot evaluate. A forbid that is skipped permits, so any
        // error denies.
        let mut failed: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    error.policy_id().to_string()
                }
            })
            .collect();
        if !failed.is_empty() {
            failed.sort_unstable();
            let text = format!(
                "{} could not be evaluated on this call, so it is refused.",
                policies_of("Policy", "Policies", &failed)
            );
            return Decision::Denial(Denial {
                stage: Stage::Error,
                cause: text.clone(),
                reason: text,
                policies: failed,
                nearest: Vec::new(),
                route: None,
            });
        }
        let said = policies.iter().filter_map(|id| slice.policies.get(id));
        if response.decision() == cedar_policy::Decision::Allow {
            let warnings: BTreeSet<&String> = said
                .clone()
                .filter_map(|policy| policy.warn.as_ref())
                .collect();
            return Decision::Permit(Permit {
                reason: match reasons(said) {
                    Some(reasons) => reasons,
                    None => format!(
                        "Permitted by {}.",
                        listed(policies.iter().map(String::as_str), NEAREST_MAX)
                    ),
                },
                warnings: warnings.into_iter().cloned().collect(),
                masks: slice.masks(&policies),
                routes: slice.routes(&policies),
                policies,
                observed: None,
            });
        }
        if asked.routed && policies.is_empty() {
            return Decision::Permit(routed::unforbidden());
        }
        let (reason, nearest) = if policies.is_empty() {
            self.default_denial(asked)
        } else {
            let reason = reasons(said).unwrap_or_else(|| {
                format!(
                    "Denied by {}.",
                    policies_of("policy", "policies", &policies)
                )
            });
            (reason, Vec::new())
        };
        Decision::Denial(Denial {
            stage: Stage::Policy,
            cause: reason.clone(),
            reason,
            policies,
            nearest,
            route: None,
        })
    }

    /// What is said when nothing permits: the permits that would have, but for a condition.
    fn default_denial(&self, asked: &Asked) -> (String, Vec<Nearest>) {
        const NOTHING: &str = "No policy permits this call.";
        let permits = asked.slice.policies.values();
        let permits = permits
            .filter(|policy| policy.effect == CedarEffect::Permit)
            .take(NEAREST_MAX);
        let nearest: Vec<Nearest> = permits
            .clone()
            .map(|policy| Nearest {
                policy: policy.id.clone(),
                failed: self
                    .failed(policy, asked)
                    .map_or_else(String::new, ToOwned::to_owned),
            })
            .collect();
        if nearest.is_empty() {
            return (NOTHING.to_owned(), asked.slice.elsewhere.clone());
        }
        let near = listed(nearest.iter().map(|near| near.policy.as_str()), NEAREST_MAX);
        let mut text = format!("{NOTHING} It came near to {near}, whose conditions do not hold.");
        for policy in permits {
            if let Some(reason) = &policy.reason {
                text.push_str(&[" ", &quoted(&policy.id), ": ", reason].concat());
            }
        }
        (text, nearest)
    }

    /// The first condition of `policy` that does not hold.
    pub(crate) fn failed<'p>(&self, policy: &'p Policy, asked: &Asked) -> Option<&'p str> {
        let mut conditions = policy.conditions().iter();
        conditions
            .find(|condition| {
                let response = self.authorizer.is_authorized(
                    &asked.request,
                    &condition.alone,
                    &asked.caller.1,
                );
                response.decision() == cedar_policy::Decision::Deny
            })
            .map(|condition| condition.text.as_str())
    }

    pub(crate) fn evaluate(&self, asked: &Asked, set: &cedar_policy::PolicySet) -> Response {
        self.authorizer
            .is_authorized(&asked.request, set, &asked.caller.1)
    }

    pub(crate) fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }
}

impl Slice {
    /// What these policies ask to have masked.
    fn masks(&self, ids: &[String]) -> Masks {
        let policies = ids.iter().filter_map(|id| self.policies.get(id));
        let masks = policies.filter_map(|policy| policy.mask.as_ref());
        masks.fold(Masks::default(), Masks::and)
    }

    /// Where these policies send a call.
    fn routes(&self, ids: &[String]) -> BTreeSet<UpstreamName> {
        if !self.has_routes {
            return BTreeSet::new();
        }
        let policies = ids.iter().filter_map(|id| self.policies.get(id));
        policies.filter_map(|policy| policy.route.clone()).collect()
    }

    /// Whether the argument at `path` matters to some policy.
    fn reads(&self, path: &[String]) -> bool {
        self.policies
            .values()
            .any(|policy| policy.reads.concerns(path))
    }
}

fn covers(scope: &PrincipalScope, instance: &InstanceFacts) -> bool {
    match scope {
        PrincipalScope::Any => true,
        PrincipalScope::Agent(id) => id == instance.agent.as_str(),
        PrincipalScope::Instance(id) => id == instance.id.as_str(),
        PrincipalScope::Purpose(id) => at_or_above(&instance.purpose).any(|purpose| purpose == id),
    }
}

/// `a/b/c`, `a/b` and `a`.
fn at_or_above(purpose: &PurposePath) -> impl Iterator<Item = &str> {
    let text = purpose.as_str();
    let ends = text.match_indices('/').map(|(at, _)| at).rev();
    [text.len()]
        .into_iter()
        .chain(ends)
        .filter_map(move |end| text.get(..end))
}

/// A denial that no policy made.
fn denied(stage: Stage, refusal: Refusal) -> Denial {
    Denial {
        stage,
        cause: refusal.cause,
        reason: refusal.reason,
        policies: Vec::new(),
        nearest: Vec::new(),
        route: None,
    }
}

/// One whose cause anybody may know.
fn denied_plainly(stage: Stage, text: &str) -> Denial {
    let (cause, reason) = (text.to_owned(), text.to_owned());
    denied(stage, Refusal { cause, reason })
}

/// What has to be approved, and the policies that ask for it, where `denial` is what comes without
/// an approval and `permit` with one: each forbid that stood in the way, and one of the permits, if
/// all of them ask.
fn needs(slice: &Slice, denial: &Denial, permit: &Permit) -> (Needs, Vec<String>) {
    let ask = |id: &String| slice.policies.get(id)?.approval.clone();
    let forbids = denial.policies.iter().filter_map(ask);
    let mut all: Vec<BTreeSet<Approvers>> = forbids.map(|it| BTreeSet::from([it])).collect();
    let permits: Vec<Option<Approvers>> = permit.policies.iter().map(ask).collect();
    // Where a call was routed to, there may be none.
    let do_all_ask = !permits.is_empty() && permits.iter().all(Option::is_some);
    if do_all_ask {
        all.push(permits.into_iter().flatten().collect());
    }
    let permits = permit.policies.iter().filter(|_| do_all_ask);
    let mut asking: Vec<String> = denial.policies.iter().chain(permits).cloned().collect();
    asking.sort_unstable();
    asking.dedup();
    (Needs::new(all), asking)
}

/// A permit that asks for masks where nothing can be masked is none.
fn maskable(facts: &Facts, decision: Decision) -> Decision {
    // Where not all was looked into, something may stand that has to be masked.
    let has_to = |permit: &Permit, found: &Found| {
        permit.masks.hides(found) || !permit.masks.is_empty() && found.is_unseen()
    };
    match decision {
        Decision::Permit(permit)
            if facts.elsewhere && facts.findings.iter().any(|it| has_to(&permit, it)) =>
        {
            let text = "Something in this call has to be masked on its way, and whoever asks makes \
                        it as it is. Leave it out, or make the call through the gateway.";
            let mut denial = denied_plainly(Stage::Policy, text);
            denial.policies = permit.policies;
            Decision::Denial(denial)
        }
        decision => decision,
    }
}

/// A call of an upstream that is observed: what policy denies or holds passes, and is on record as
/// that.
fn observed(decision: Decision) -> Decision {
    let said = decision.verdict();
    match said.stage {
        Some(stage @ (Stage::Policy | Stage::Approval)) => Decision::Permit(Permit {
            policies: said.policies.clone(),
            reason: format!("Only observed, not enforced: {}", said.reason),
            warnings: Vec::new(),
            masks: Masks::default(),
            routes: BTreeSet::new(),
            observed: Some(DenialSummary {
                stage,
                reason: said.reason,
                policies: said.policies,
            }),
        }),
        _ => decision,
    }
}

fn reasons<'a>(policies: impl Iterator<Item = &'a Arc<Policy>>) -> Option<String> {
    let reasons: BTreeSet<&str> = policies
        .filter_map(|policy| policy.reason.as_deref())
        .collect();
    let reasons: Vec<&str> = reasons.into_iter().collect();
    (!reasons.is_empty()).then(|| reasons.join(" "))
}

/// ``policy `a` ``, or ``policies `a`, `b` ``.
fn policies_of(one: &str, many: &str, ids: &[String]) -> String {
    let word = if ids.len() == 1 { one } else { many };
    let ids = listed(ids.iter().map(String::as_str), NEAREST_MAX);
    format!("{word} {ids}")
}

/// The denial where a forbid cannot be evaluated.
fn unavailable(slice: &Slice) -> Denial {
    let mut policies: Vec<String> = slice
        .broken
        .iter()
        .map(|policy| policy.id.clone())
        .collect();
    policies.sort_unstable();
    let named = policies_of("Policy", "Policies", &policies);
    let text = if policies.len() == 1 {
        format!(
            "{named} does not fit the tools as they are now, so what it is about is denied until it \
             is mended."
        )
    } else {
        format!(
            "{named} do not fit the tools as they are now, so what they are about is denied until \
             they are mended."
        )
    };
    Denial {
        stage: Stage::PolicyUnavailable,
        cause: text.clone(),
        reason: text,
        policies,
        nearest: Vec::new(),
        route: None,
    }
}

#[cfg(test)]
mod tests;
