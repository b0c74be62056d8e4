//! The tools of an upstream, from its own `tools/list`, and the check of a call's arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};
use vocab::{Digest, ToolName, UpstreamName, limits, suggest};

use crate::json::Strict;
use crate::types::Record;

/// Most nodes in one tool's schema.
const SCHEMA_NODES_MAX: usize = 20_000;
/// Most steps back that one `pattern` may take on one value.
const BACKTRACK_MAX: usize = 100_000;
/// Most schemas looked at to find the names that are declared for one object.
const DECLARATIONS_MAX: usize = 500;
/// Most arguments named in one refusal.
const NAMED_MAX: usize = 20;

/// The tools that an upstream listed.
#[derive(Debug, Clone)]
pub struct ToolList {
    upstream: UpstreamName,
    digest: Digest,
    tools: BTreeMap<ToolName, Arc<Tool>>,
    skipped: Vec<String>,
}

/// Why a text is not a tool list.
#[derive(Debug, thiserror::Error)]
pub enum ToolListError {
    /// Too long.
    #[error("the tool list is {length} bytes long; at most {max} are taken", max = limits::TOOL_LIST_BYTES_MAX)]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Too many tools.
    #[error("there are {count} tools; at most {max} are taken", max = limits::TOOLS_MAX)]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not JSON, or a key twice.
    #[error("the tool list is not strict JSON")]
    Json(#[source] serde_json::Error),
    /// Not an array.
    #[error("the tool list is not an array")]
    NotArray,
}

/// The member of a tool in a list of pins that says what became of it. Tools without it are accepted
/// as they stand there.
const PIN: &str = "dev.tipstaff/pin";

/// Why a tool that its upstream lists cannot be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldTool {
    /// Nobody has accepted it yet.
    New,
    /// Its definition is not the one that was accepted.
    Changed,
    /// Somebody refused its definition.
    Refused,
}

impl HeldTool {
    /// The word for it in a list of pins.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Refused => "refused",
        }
    }

    /// What the agent is told.
    pub(crate) fn told(self, tool: &ToolName, upstream: &UpstreamName) -> String {
        let why = match self {
            Self::New => "is new, and nobody has accepted it yet",
            Self::Changed => "is quarantined: its definition is not the one that was accepted",
            Self::Refused => "is quarantined: its definition was refused",
        };
        format!(
            "The tool `{tool}` of `{upstream}` {why}. Do without it, or tell the person you work \
             for: `tipstaff upstream diff {upstream}/{tool}` shows what there is to accept."
        )
    }
}

/// One tool.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: ToolName,
    /// Why it cannot be called, although there is nothing wrong with its schema.
    pub(crate) held: Option<HeldTool>,
    /// What policy sees of its arguments.
    pub(crate) record: Record,
    /// Why it cannot be called at all.
    pub(crate) fault: Option<String>,
    declared: BTreeSet<String>,
    open: bool,
    schema: Value,
    validator: Option<Validator>,
}

/// Why a call's arguments are refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Without anything that came from the caller.
    pub(crate) cause: String,
    /// What the agent is told.
    pub(crate) reason: String,
}

impl ToolList {
    /// Reads a JSON array of tools, as `tools/list` answers it (all pages together).
    ///
    /// A tool whose name cannot be used is left out; one whose schema cannot be is kept, and calls
    /// of it are refused.
    pub fn parse(upstream: &UpstreamName, text: &[u8]) -> Result<Self, ToolListError> {
        if text.len() > limits::TOOL_LIST_BYTES_MAX {
            return Err(ToolListError::TooLong { length: text.len() });
        }
        let Strict(list) = serde_json::from_slice(text).map_err(ToolListError::Json)?;
        let Value::Array(list) = list else {
            return Err(ToolListError::NotArray);
        };
        if list.len() > limits::TOOLS_MAX {
            return Err(ToolListError::TooMany { count: list.len() });
        }
        Ok(Self::of(upstream, text, &list))
    }

    /// Reads a list of pins: what of an upstream's tools was accepted, and what is held.
    pub fn pinned(upstream: &UpstreamName, text: &[u8]) -> Result<Self, ToolListError> {
        if text.len() > limits::PINS_BYTES_MAX {
            return Err(ToolListError::TooLong { length: text.len() });
        }
        let Strict(list) = serde_json::from_slice(text).map_err(ToolListError::Json)?;
        let Value::Array(list) = list else {
            return Err(ToolListError::NotArray);
        };
        Ok(Self::of(upstream, text, &list))
    }

    fn of(upstream: &UpstreamName, text: &[u8], list: &[Value]) -> Self {
        let mut tools: BTreeMap<ToolName, Arc<Tool>> = BTreeMap::new();
        let mut skipped = Vec::new();
        for tool in list {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            match name.parse::<ToolName>() {
                Err(error) => skipped.push(error.to_string()),
                Ok(name) if tools.contains_key(&name) => {
                    let twice = Tool::faulty(&name, "its upstream lists it twice");
                    tools.insert(name, Arc::new(twice));
                }
                Ok(name) => {
                    let tool = match tool.get(PIN) {
                        None => Tool::new(&name, tool.get("inputSchema")),
                        Some(pin) => match Tool::pinned(&name, pin) {
                            Some(tool) => tool,
                            None => continue,
                        },
                    };
                    tools.insert(name, Arc::new(tool));
                }
            }
        }
        Self {
            upstream: upstream.clone(),
            digest: Digest::of(text),
            tools,
            skipped,
        }
    }

    /// Why a tool that is there cannot be called, if nobody accepted its definition.
    pub fn held(&self, name: &ToolName) -> Option<HeldTool> {
        self.tools.get(name).and_then(|tool| tool.held)
    }

    /// Whose tools they are.
    pub const fn upstream(&self) -> &UpstreamName {
        &self.upstream
    }

    /// The digest of the text it was read from.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &ToolName) -> bool {
        self.tools.contains_key(name)
    }

    /// The tools' names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &ToolName> {
        self.tools.keys()
    }

    /// How many tools there are.
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// What is wrong with it: tools left out, and tools that cannot be called.
    pub fn problems(&self) -> Vec<String> {
        let faults = self.tools.values().filter_map(|tool| {
            let fault = tool.fault.as_ref()?;
            Some(format!("`{}` cannot be called: {fault}", tool.name))
        });
        let skipped = self.skipped.iter();
        let skipped = skipped.map(|why| format!("a tool is left out: {why}"));
        skipped.chain(faults).collect()
    }

    pub(crate) fn tools(&self) -> impl Iterator<Item = &Arc<Tool>> {
        self.tools.values()
    }
}

impl Tool {
    fn faulty(name: &ToolName, fault: impl Into<String>) -> Self {
        Self {
            name: name.clone(),
            held: None,
            record: Record::default(),
            fault: Some(fault.into()),
            declared: BTreeSet::new(),
            open: false,
            schema: Value::Null,
            validator: None,
        }
    }

    /// A tool that is not simply accepted; none if its upstream does not list it at present. Policies
    /// are judged by the definition that was accepted, as long as there is one.
    fn pinned(name: &ToolName, pin: &Value) -> Option<Self> {
        let held = match pin.get("state").and_then(Value::as_str) {
            Some("gone") => return None,
            Some("accepted") => None,
            Some("changed") => Some(HeldTool::Changed),
            Some("refused") => Some(HeldTool::Refused),
            _ => Some(HeldTool::New),
        };
        let definition = pin.get("accepted").or_else(|| pin.get("seen"));
        let schema = definition.and_then(|it| it.get("inputSchema"));
        Some(Self {
            held,
            ..Self::new(name, schema)
        })
    }

    fn new(name: &ToolName, schema: Option<&Value>) -> Self {
        let empty = Value::Object(Map::new());
        let schema = schema.unwrap_or(&empty);
        if !schema.is_object() {
            return Self::faulty(name, "its `inputSchema` is not an object");
        }
        if nodes(schema) > SCHEMA_NODES_MAX {
            return Self::faulty(name, "its `inputSchema` is too large");
        }
        let options = jsonschema::options()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_MAX));
        let validator = match options.build(schema) {
            Ok(validator) => validator,
            Err(error) => {
                let fault = format!("its `inputSchema` is not usable: {}", error.masked());
                return Self::faulty(name, fault);
            }
        };
        let says = speaking(schema, [schema]);
        Self {
            name: name.clone(),
            held: None,
            record: Record::of_schema(schema),
            fault: None,
            declared: declared(&says).cloned().collect(),
            open: says.iter().any(|schema| is_open(schema)),
            schema: schema.clone(),
            validator: Some(validator),
        }
    }

    /// Checks a call's arguments against what the tool declares.
    pub(crate) fn check(&self, args: &Value, allow_undeclared: bool) -> Result<(), Refusal> {
        let tool = &self.name;
        let Some(validator) = &self.validator else {
            let fault = self.fault.as_deref().unwrap_or("its schema is not usable");
            let reason = format!("The tool `{tool}` cannot be called: {fault}.");
            return Err(Refusal {
                cause: "the tool's own schema is not usable".to_owned(),
                reason,
            });
        };
        let object = args.as_object();
        if let Some(refusal) = object.and_then(|args| self.undeclared_in(args, allow_undeclared)) {
            return Err(refusal);
        }
        if let Err(error) = validator.validate(args) {
            return Err(self.invalid(&error));
        }
        let mut path = Vec::new();
        if !allow_undeclared && self.strays(&[&self.schema], args, &mut path) {
            path.reverse();
            return Err(self.undeclared(&path.join(".")));
        }
        Ok(())
    }

    /// Whether `value`, of which `schemas` speak, holds in an object below itself a member that
    /// those do not declare: an upstream that reads names in any case would take it for another.
    /// Its path, last name first. An object whose members no schema names is free.
    fn strays(&self, schemas: &[&Value], value: &Value, path: &mut Vec<String>) -> bool {
        let nested = |value: &&Value| value.is_object() || value.is_array();
        match value {
            Value::Object(members) => {
                let says = speaking(&self.schema, schemas.iter().copied());
                for (name, value) in members {
                    if !nested(&value) {
                        continue;
                    }
                    let of_it: Vec<&Value> = says
                        .iter()
                        .filter_map(|schema| schema.get("properties")?.get(name))
                        .collect();
                    let stray = value.as_object().and_then(|it| self.stray(&of_it, it));
                    if let Some(stray) = stray {
                        path.push(stray.clone());
                    } else if !self.strays(&of_it, value, path) {
                        continue;
                    }
                    path.push(name.clone());
                    return true;
                }
                false
            }
            Value::Array(values) => {
                let says = speaking(&self.schema, schemas.iter().copied());
                let of_all = says.iter().filter_map(|schema| schema.get("items"));
                let of_some = says
                    .iter()
                    .filter_map(|schema| schema.get("prefixItems")?.as_array());
                let of_it: Vec<&Value> = of_all.chain(of_some.flatten()).collect();
                values.iter().filter(nested).any(|value| {
                    let stray = value.as_object().and_then(|it| self.stray(&of_it, it));
                    match stray {
                        Some(stray) => {
                            path.push(stray.clone());
                            true
                        }
                        None => self.strays(&of_it, value, path),
                    }
                })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    /// The first member of an object that `schemas` do not declare.
    fn stray<'a>(&self, schemas: &[&Value], members: &'a Map<String, Value>) -> Option<&'a String> {
        let says = speaking(&self.schema, schemas.iter().copied());
        let names_none = |schema: &Value| {
            let speaks = ["properties", "allOf", "anyOf", "oneOf", "$ref"];
            !speaks.iter().any(|word| schema.get(word).is_some())
        };
        let is_free = says.iter().any(|schema| {
            let any = schema
                .as_object()
                .map_or(*schema == &Value::Bool(true), Map::is_empty);
            let objects = schema.get("type").is_some_and(takes_objects);
            is_open(schema) || any || (objects && names_none(schema))
        });
        if is_free || declared(&says).next().is_none() {
            return None;
        }
        members
            .keys()
            .find(|name| !declared(&says).any(|declared| declared == *name))
    }

    /// The refusal of the first of `args` that the tool does not declare.
    pub(crate) fn undeclared_in(
        &self,
        args: &Map<String, Value>,
        allowed: bool,
    ) -> Option<Refusal> {
        if self.open || allowed {
            return None;
        }
        let name = args.keys().find(|name| !self.declared.contains(*name))?;
        Some(self.undeclared(name))
    }

    fn undeclared(&self, name: &str) -> Refusal {
        let nearest = suggest::nearest(name, self.declared.iter().map(String::as_str));
        let hint = match nearest {
            Some(near) => format!("Did you mean `{near}`{}? ", self.typed(near)),
            None => String::new(),
        };
        Refusal {
            cause: "an argument that the tool does not declare".to_owned(),
            reason: format!(
                "`{}` takes no argument {}. {hint}{}",
                self.name,
                quoted(name),
                self.takes()
            ),
        }
    }

    /// ` (string)`, or nothing where the schema does not say.
    fn typed(&self, argument: &str) -> String {
        match self.described(argument) {
            Some(ty) => format!(" ({ty})"),
            None => String::new(),
        }
    }

    fn described(&self, argument: &str) -> Option<String> {
        let properties = self.schema.get("properties")?;
        describe(&self.schema, properties.get(argument)?)
    }

    /// A sentence that lists the arguments.
    fn takes(&self) -> String {
        if self.declared.is_empty() {
            return "It takes no arguments.".to_owned();
        }
        let required: Vec<&str> = self
            .schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let named: Vec<String> = self
            .declared
            .iter()
            .take(NAMED_MAX)
            .map(|name| {
                let ty = self.described(name);
                let must = required.contains(&name.as_str()).then_some("required");
                let notes: Vec<&str> = ty.as_deref().into_iter().chain(must).collect();
                if notes.is_empty() {
                    format!("`{name}`")
                } else {
                    format!("`{name}` ({})", notes.join(", "))
                }
            })
            .collect();
        let more = match self.declared.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("It takes {}{more}.", named.join(", "))
    }

    fn invalid(&self, error: &ValidationError<'_>) -> Refusal {
        let path = error.instance_path().as_str();
        let name = dotted(path);
        // The path names members, which may be the caller's own words where a schema is open.
        let known = name.as_deref().is_some_and(|name| {
            let first = name.split(['.', '[']).next().unwrap_or_default();
            self.declared.contains(first) && !name.contains('.')
        });
        let subject = match &name {
            Some(name) => format!("argument {}", quoted(name)),
            None => "the arguments".to_owned(),
        };
        let (verb, what) = match error.kind() {
            ValidationErrorKind::Type { kind } => {
                let expected = match kind {
                    TypeKind::Single(ty) => ty.to_string(),
                    TypeKind::Multiple(types) => {
                        let types: Vec<String> = types.iter().map(|ty| ty.to_string()).collect();
                        types.join(" or ")
                    }
                };
                let is = json_type(error.instance());
                (
                    "must be",
                    format!("of type {expected}, and is of type {is}"),
                )
            }
            ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                match &name {
                    None => {
                        let ty = self.typed(property);
                        let text = format!("argument `{property}`{ty} is missing");
                        return self.refusal(&text, &text);
                    }
                    Some(_) => ("lacks", format!("its member `{property}`")),
                }
            }
            ValidationErrorKind::Enum { options } => (
                "must be",
                options_text(options).unwrap_or_else(|| "one of its options".into()),
            ),
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                if let (None, Some(first)) = (&name, unexpected.first()) {
                    return self.undeclared(first);
                }
                (
                    "holds",
                    "a member that the tool does not declare".to_owned(),
                )
            }
            ValidationErrorKind::AnyOf { .. }
            | ValidationErrorKind::OneOfNotValid { .. }
            | ValidationErrorKind::OneOfMultipleValid { .. } => (
                "must be",
                match name.as_deref().and_then(|name| self.described(name)) {
                    Some(ty) => ty,
                    None => "of one of the forms that the tool declares".to_owned(),
                },
            ),
            _ => ("is not valid:", error.masked().to_string()),
        };
        let public = if known { &subject } else { "an argument" };
        self.refusal(
            &format!("{public} {verb} {what}"),
            &format!("{subject} {verb} {what}"),
        )
    }

    fn refusal(&self, cause: &str, reason: &str) -> Refusal {
        Refusal {
            cause: cause.to_owned(),
            reason: format!(
                "`{}` cannot be called so: {reason}. {}",
                self.name,
                self.takes()
            ),
        }
    }
}

/// A name for a sentence: backticks, nothing invisible, not long.
pub(crate) fn quoted(name: &str) -> String {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    let more = if name.chars().nth(64).is_some() {
        "…"
    } else {
        ""
    };
    format!("`{shown}{more}`")
}

/// `/edits/0/path` as `edits[0].path`.
fn dotted(pointer: &str) -> Option<String> {
    let mut out = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if !out.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) {
            out.push('[');
            out.push_str(&part);
            out.push(']');
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&part);
        }
    }
    (!out.is_empty()).then_some(out)
}

const fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `one of "a", "b"`, if that is short.
fn options_text(options: &Value) -> Option<String> {
    let options = options
        .as_array()
        .filter(|options| options.len() <= NAMED_MAX)?;
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    let text = format!("one of {}", options.join(", "));
    (text.len() <= 400).then_some(text)
}

/// What a property's schema asks for, in a few words.
fn describe(root: &Value, property: &Value) -> Option<String> {
    let property = refers_to(root, property).unwrap_or(property);
    if let Some(options) = property.get("enum") {
        return options_text(options);
    }
    match property.get("type") {
        Some(Value::String(ty)) if ty == "array" => {
            let items = property.get("items");
            let items = items.map(|items| refers_to(root, items).unwrap_or(items));
            Some(
                match items
                    .and_then(|items| items.get("type"))
                    .and_then(Value::as_str)
                {
                    Some(items) => format!("array of {items}"),
                    None => "array".to_owned(),
                },
            )
        }
        Some(Value::String(ty)) => Some(ty.clone()),
        Some(Value::Array(types)) => {
            let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
            Some(types.join(" or "))
        }
        _ => {
            let branches = property.get("anyOf").or_else(|| property.get("oneOf"))?;
            let branches: Option<Vec<String>> = branches
                .as_array()?
                .iter()
                .take(NAMED_MAX)
                .map(|branch| {
                    branch
                        .get("type")
                        .and_then(Value::as_str)
                        .map(ToOwned::to_owned)
                })
                .collect();
            Some(branches?.join(" or "))
        }
    }
}

/// Whether a schema's `type` lets a value be an object.
fn takes_objects(ty: &Value) -> bool {
    let is = |ty: &Value| ty == "object";
    is(ty) || ty.as_array().is_some_and(|types| types.iter().any(is))
}

/// The member names that schemas declare.
fn declared<'a>(schemas: &[&'a Value]) -> impl Iterator<Item = &'a String> {
    schemas
        .iter()
        .filter_map(|schema| schema.get("properties")?.as_object())
        .flat_map(Map::keys)
}

/// Whether a schema allows members that it does not name.
fn is_open(schema: &Value) -> bool {
    [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
    ]
    .into_iter()
    .filter_map(|word| schema.get(word))
    .any(|says| says.is_object() || says == &Value::Bool(true))
}

/// The schemas that speak of a value of which `schemas` do, wherever JSON Schema lets them.
fn speaking<'a>(root: &'a Value, schemas: impl IntoIterator<Item = &'a Value>) -> Vec<&'a Value> {
    let mut out = Vec::new();
    for schema in schemas {
        gather(root, schema, &mut out);
    }
    out
}

fn gather<'a>(root: &'a Value, schema: &'a Value, out: &mut Vec<&'a Value>) {
    if out.len() >= DECLARATIONS_MAX || out.iter().any(|known| std::ptr::eq(*known, schema)) {
        return;
    }
    out.push(schema);
    for word in ["allOf", "anyOf", "oneOf"] {
        let branches = schema.get(word).and_then(Value::as_array);
        for branch in branches.into_iter().flatten() {
            gather(root, branch, out);
        }
    }
    for word in ["then", "else"] {
        if let Some(branch) = schema.get(word) {
            gather(root, branch, out);
        }
    }
    let branches = schema.get("dependentSchemas").and_then(Value::as_object);
    for branch in branches.into_iter().flat_map(Map::values) {
        gather(root, branch, out);
    }
    if let Some(target) = refers_to(root, schema) {
        gather(root, target, out);
    }
}

/// What a local `$ref` in `schema` points to.
fn refers_to<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    let reference = schema.get("$ref").and_then(Value::as_str)?;
    root.pointer(reference.strip_prefix('#')?)
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(nodes).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(nodes).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

#[cfg(test)]
mod tests;
