//! What can be called: each tool and each method of each upstream, as Cedar names them.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vocab::UpstreamName;

use crate::canonical::{self, Kind};
use crate::set::{Policy, ResourceScope, Scope};
use crate::tools::{HeldTool, Refusal, Tool, quoted};
use crate::types::{Expressed, Field, Record, Type};

/// How an upstream's arguments are treated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamOptions {
    /// Arguments that a tool does not declare are let through; policy sees their names only.
    pub allow_undeclared: bool,
    /// Paths and URLs that are not in canonical form are let through; policy sees the form they
    /// have. A value that has none is refused all the same.
    pub allow_noncanonical: bool,
    /// Arguments that are paths although neither name nor format says so: `ARGUMENT` or
    /// `TOOL/ARGUMENT`; members of an object with dots between.
    pub path_args: Vec<String>,
    /// The same for URLs.
    pub url_args: Vec<String>,
}

/// A method other than `tools/call` that takes the walk, and what policy sees of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) argument: MethodArgument,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MethodArgument {
    /// `context.args.uri`, always there.
    Uri,
    /// `context.args.name`, always there.
    Name,
    /// `context.args.name`, if there is one.
    MaybeName,
}

/// Every method that a policy may name. Others are refused.
pub(crate) const METHODS: [Method; 15] = {
    use MethodArgument::{MaybeName, Name, Uri};
    const fn method(name: &'static str, argument: MethodArgument) -> Method {
        Method { name, argument }
    }
    [
        method("resources/read", Uri),
        method("resources/subscribe", Uri),
        method("resources/unsubscribe", Uri),
        method("prompts/get", Name),
        method("completion/complete", MaybeName),
        method("logging/setLevel", MaybeName),
        method("subscriptions/listen", MaybeName),
        method("tasks/get", MaybeName),
        method("tasks/list", MaybeName),
        method("tasks/result", MaybeName),
        method("tasks/update", MaybeName),
        method("tasks/cancel", MaybeName),
        method("elicitation/create", MaybeName),
        method("sampling/createMessage", MaybeName),
        method("roots/list", MaybeName),
    ]
};

/// What needs no permit and passes unless a forbid is in its way: the handshake, listings, and what an
/// upstream says of its own accord. `context.args.name` is the method. No caller can ask for it.
pub(crate) const FREE: Method = Method {
    name: "free",
    argument: MethodArgument::MaybeName,
};

/// One thing that can be called.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) upstream: UpstreamName,
    /// `UPSTREAM/TOOL` or `UPSTREAM:METHOD`.
    pub(crate) action: String,
    pub(crate) call: Callable,
    pub(crate) record: Record,
    pub(crate) folded: Vec<Folded>,
    pub(crate) action_uid: EntityUid,
    pub(crate) resource_uid: EntityUid,
    /// The action and the resource, in their groups.
    pub(crate) entities: Vec<Entity>,
}

#[derive(Debug)]
pub(crate) enum Callable {
    Tool(Arc<Tool>),
    Method(Method),
}

/// An argument that is shown in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folded {
    /// Its dotted name.
    pub(crate) name: String,
    path: Vec<String>,
    kind: Kind,
    many: bool,
    required: bool,
}

/// The Cedar types, parsed once.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) instance: EntityTypeName,
    pub(crate) agent: EntityTypeName,
    pub(crate) sponsor: EntityTypeName,
    pub(crate) purpose: EntityTypeName,
    tool: EntityTypeName,
    upstream: EntityTypeName,
    action: EntityTypeName,
}

/// The methods that policies decide: every one, other than calling a tool, that asks something of
/// an upstream.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|method| method.name)
}

impl Names {
    #[expect(
        clippy::expect_used,
        reason = "the names are constants that parse; every test runs this"
    )]
    pub(crate) fn new() -> Self {
        let name = |text: &str| text.parse().expect("an entity type's name");
        Self {
            instance: name("Instance"),
            agent: name("Agent"),
            sponsor: name("Sponsor"),
            purpose: name("Purpose"),
            tool: name("Tool"),
            upstream: name("Upstream"),
            action: name("Action"),
        }
    }
}

pub(crate) fn uid(ty: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(ty.clone(), EntityId::new(id))
}

impl Target {
    /// Why it cannot be called, if it is a tool whose definition nobody accepted.
    pub(crate) fn held(&self) -> Option<HeldTool> {
        match &self.call {
            Callable::Tool(tool) => tool.held,
            Callable::Method(_) => None,
        }
    }

    pub(crate) fn tool(
        names: &Names,
        upstream: &UpstreamName,
        tool: &Arc<Tool>,
        options: &UpstreamOptions,
    ) -> Self {
        let id = format!("{upstream}/{}", tool.name);
        let folded = folded(&tool.record, tool.name.as_str(), options);
        let resource = uid(&names.tool, &id);
        let call = Callable::Tool(Arc::clone(tool));
        Self::new(
            names,
            upstream,
            id,
            resource,
            call,
            tool.record.clone(),
            folded,
        )
    }

    pub(crate) fn method(names: &Names, upstream: &UpstreamName, method: Method) -> Self {
        let (name, required) = match method.argument {
            MethodArgument::Uri => ("uri", true),
            MethodArgument::Name => ("name", true),
            MethodArgument::MaybeName => ("name", false),
        };
        let field = Field {
            ty: Type::String,
            required,
            format: None,
        };
        let mut record = Record::default();
        record.fields.insert(name.to_owned(), field);
        let folded = folded(&record, "", &UpstreamOptions::default());
        let id = format!("{upstream}:{}", method.name);
        let resource = uid(&names.upstream, upstream.as_str());
        let call = Callable::Method(method);
        Self::new(names, upstream, id, resource, call, record, folded)
    }

    fn new(
        names: &Names,
        upstream: &UpstreamName,
        action: String,
        resource_uid: EntityUid,
        call: Callable,
        record: Record,
        folded: Vec<Folded>,
    ) -> Self {
        let action_uid = uid(&names.action, &action);
        let group = uid(&names.action, upstream.as_str());
        let owner = uid(&names.upstream, upstream.as_str());
        let owners = (owner != resource_uid).then_some(owner);
        Self {
            upstream: upstream.clone(),
            action,
            call,
            record,
            folded,
            entities: vec![
                Entity::new_no_attrs(action_uid.clone(), [group].into()),
                Entity::new_no_attrs(resource_uid.clone(), owners.into_iter().collect()),
            ],
            action_uid,
            resource_uid,
        }
    }

    /// Whether a policy can have something to say about this. What needs no permit is only for those
    /// that look at what was found in it, or ask for masks.
    pub(crate) fn is_under(&self, policy: &Policy) -> bool {
        let is_free = matches!(&self.call, Callable::Method(method) if method.name == FREE.name);
        let heeds = !is_free || policy.reads.findings || policy.mask.is_some();
        heeds && self.is_in(&policy.scope)
    }

    /// Whether the action and resource of `scope` cover this.
    fn is_in(&self, scope: &Scope) -> bool {
        let upstream = self.upstream.as_str();
        let action = scope.actions.as_ref().is_none_or(|actions| {
            actions
                .iter()
                .any(|action| *action == self.action || action == upstream)
        });
        let is_tool = matches!(self.call, Callable::Tool(_));
        let here = |of: &Option<String>| of.as_deref().is_none_or(|of| of == upstream);
        action
            && match &scope.resource {
                ResourceScope::Any => true,
                ResourceScope::Tools(of) => is_tool && here(of),
                ResourceScope::Methods(of) => !is_tool && here(of),
                ResourceScope::Tool(id) => is_tool && *id == self.action,
                ResourceScope::Upstream(of) => of == upstream,
            }
    }

    /// This action in a Cedar schema.
    pub(crate) fn to_schema(&self) -> Value {
        let resource = match self.call {
            Callable::Tool(_) => "Tool",
            Callable::Method(_) => "Upstream",
        };
        let canonical: Map<String, Value> = self
            .folded
            .iter()
            .map(|folded| {
                let text = json!({"type": "String", "required": folded.required});
                let texts = json!({"type": "Set", "element": {"type": "String"}, "required": folded.required});
                (folded.name.clone(), if folded.many { texts } else { text })
            })
            .collect();
        json!({
            "memberOf": [{"id": self.upstream.as_str()}],
            "appliesTo": {
                "principalTypes": ["Instance"],
                "resourceTypes": [resource],
                "context": {"type": "Record", "attributes": {
                    "args": self.record.to_schema(),
                    "canonical": {"type": "Record", "attributes": canonical},
                    "proven": {"type": "Boolean"},
                    "untyped": {"type": "Set", "element": {"type": "String"}},
                    "now": {"type": "Extension", "name": "datetime"},
                    "approval": {"type": "Record", "attributes": {}, "required": false},
                    "findings": {"type": "Set", "element": {"type": "String"}},
                    "direction": {"type": "String"},
                    "labels": {"type": "Set", "element": {"type": "String"}},
                }},
            },
        })
    }

    /// The canonical forms of `args`, for policy.
    pub(crate) fn fold(
        &self,
        args: &Map<String, Value>,
        allow_noncanonical: bool,
    ) -> Result<Vec<(String, RestrictedExpression)>, Refusal> {
        let mut out = Vec::with_capacity(self.folded.len());
        for folded in &self.folded {
            let Some(value) = find(args, &folded.path) else {
                continue;
            };
            let one = |value: &Value| match value {
                Value::String(given) => folded.fold(given, allow_noncanonical).map(Some),
                _ => Ok(None),
            };
            let expression = match value {
                Value::Array(values) if folded.many => {
                    let mut texts = Vec::with_capacity(values.len());
                    for value in values {
                        texts.extend(one(value)?.map(RestrictedExpression::new_string));
                    }
                    Some(RestrictedExpression::new_set(texts))
                }
                value => one(value)?.map(RestrictedExpression::new_string),
            };
            out.extend(expression.map(|expression| (folded.name.clone(), expression)));
        }
        Ok(out)
    }

    /// `args` as Cedar sees them.
    pub(crate) fn express(&self, args: &Map<String, Value>) -> Expressed {
        self.record.express(args)
    }
}

impl Folded {
    /// The canonical form of `given`, or why it may not pass.
    fn fold(&self, given: &str, allow_noncanonical: bool) -> Result<String, Refusal> {
        let what = match self.kind {
            Kind::Path => "path",
            Kind::Url => "URL",
        };
        let name = quoted(&self.name);
        let refuse = |why: &str, instead: String| Refusal {
            cause: format!("argument {name} is not a canonical {what}: {why}"),
            reason: format!("Argument {name} is not a canonical {what}: {why}.{instead}"),
        };
        let canonical = match canonical::canonical(self.kind, given) {
            Ok(canonical) => canonical,
            Err(why) => return Err(refuse(why, String::new())),
        };
        if allow_noncanonical {
            return Ok(canonical.text);
        }
        if let Some(why) = canonical.doubt {
            return Err(refuse(why, String::new()));
        }
        if !canonical.is_form_of(given) {
            let instead = format!(" Write it as {}.", json!(canonical.text));
            return Err(refuse("it can be written in a simpler way", instead));
        }
        Ok(canonical.text)
    }
}

fn find<'a>(args: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let mut value = args.get(first)?;
    for name in rest {
        value = value.get(name)?;
    }
    Some(value)
}

/// The arguments that are paths or URLs: by configuration, by format, by name.
fn folded(record: &Record, tool: &str, options: &UpstreamOptions) -> Vec<Folded> {
    let configured = |list: &[String], name: &str| {
        list.iter().any(|entry| {
            entry == name
                || entry
                    .strip_prefix(tool)
                    .and_then(|rest| rest.strip_prefix('/'))
                    == Some(name)
        })
    };
    // A tool that takes both is a copy or a move.
    let moves = ["source", "destination"].map(|name| record.fields.contains_key(name)) == [true; 2];
    let mut out = Vec::new();
    for leaf in record.leaves() {
        let many = match &leaf.field.ty {
            Type::String => false,
            Type::Set(of) if **of == Type::String => true,
            _ => continue,
        };
        let name = leaf.path.join(".");
        let kind = if configured(&options.path_args, &name) {
            Some(Kind::Path)
        } else if configured(&options.url_args, &name) {
            Some(Kind::Url)
        } else if moves && matches!(name.as_str(), "source" | "destination") {
            Some(Kind::Path)
        } else {
            canonical::kind_of(&name, leaf.field.format.as_deref())
        };
        out.extend(kind.map(|kind| Folded {
            name,
            path: leaf.path,
            kind,
            many,
            required: leaf.required,
        }));
    }
    out
}

/// The targets of one upstream by name.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// `None` while its tools are not known.
    pub(crate) tools: Option<HashMap<String, usize>>,
    pub(crate) methods: HashMap<&'static str, usize>,
    /// [`FREE`].
    pub(crate) free: usize,
}
