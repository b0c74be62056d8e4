//! PATCH (RFC 7644 §3.5.2), in every shape that directories send it in.
//!
//! Operations are read in any case; without a path the members of the value are paths, also dotted
//! ones and such with a URN. What is not in the table is ignored here too. All operations take
//! effect, or none.

use std::collections::HashSet;

use serde_json::{Map, Value};
use vocab::limits::{SCIM_MEMBERS_MAX, SCIM_OPERATIONS_MAX, SCIM_VALUES_MAX};

use super::error::ScimError;
use super::filter::{Filter, PatchPath, Target};
use super::people;
use super::resource::{self, Attributes, coerce, coerce_one, is_primary};
use super::schema::{Attribute, Mutability, ResourceType};
use crate::json::{self, member};

/// The URN of a PATCH body.
pub const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Adds to what is there.
    Add,
    /// Puts something in its place.
    Replace,
    /// Takes it away.
    Remove,
}

/// One operation.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// What it does.
    pub verb: Verb,
    /// To what; none: to the resource.
    pub path: Option<PatchPath>,
    /// With what.
    pub value: Option<Value>,
}

/// Reads the body of a PATCH.
pub fn read(body: &[u8]) -> Result<Vec<Operation>, ScimError> {
    let syntax = |text: &str| ScimError::Syntax(text.to_owned());
    let body = json::object(body)?;
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# The body of each request MUST contain the "schemas" attribute with
    //# the URI value of "urn:ietf:params:scim:api:messages:2.0:PatchOp".
    let schemas = member(&body, "schemas").and_then(Value::as_array);
    let mut schemas = schemas.into_iter().flatten().filter_map(Value::as_str);
    if !schemas.any(|urn| urn.eq_ignore_ascii_case(PATCH_OP)) {
        return Err(syntax("`schemas` does not name the PATCH message"));
    }
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# The body of an HTTP PATCH request MUST contain the attribute "Operations", whose value is an
    //# array of one or more PATCH operations.
    let operations = member(&body, "Operations").and_then(Value::as_array);
    let operations = operations.ok_or_else(|| syntax("`Operations` is not a list"))?;
    if operations.is_empty() {
        return Err(syntax("`Operations` is empty"));
    }
    if operations.len() > SCIM_OPERATIONS_MAX {
        let text = format!("more than {SCIM_OPERATIONS_MAX} operations at once");
        return Err(ScimError::TooMany(text));
    }
    operations.iter().map(operation).collect()
}

fn operation(value: &Value) -> Result<Operation, ScimError> {
    let syntax = |text: &str| ScimError::Syntax(text.to_owned());
    let members = value.as_object();
    let members = members.ok_or_else(|| syntax("an operation is not an object"))?;
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# Each PATCH operation object MUST have exactly one "op" member, whose value indicates the
    //# operation to perform and MAY be one of "add", "remove", or "replace".
    let verb = member(members, "op").and_then(Value::as_str).unwrap_or("");
    let verb = [
        ("add", Verb::Add),
        ("replace", Verb::Replace),
        ("remove", Verb::Remove),
    ]
    .into_iter()
    // Entra capitalises them.
    .find(|(word, _)| verb.eq_ignore_ascii_case(word))
    .ok_or_else(|| syntax("`op` is not `add`, `replace` or `remove`"))?
    .1;
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# The "path" attribute is OPTIONAL for "add" and "replace" and is REQUIRED for "remove"
    //# operations.
    let path = match member(members, "path") {
        None | Some(Value::Null) => None,
        Some(Value::String(path)) if path.is_empty() => None,
        Some(Value::String(path)) => {
            let read = PatchPath::parse(path).map_err(|cause| ScimError::Path {
                path: path.chars().take(200).collect(),
                cause,
            })?;
            Some(read)
        }
        Some(_) => return Err(syntax("`path` is not a text")),
    };
    let value = member(members, "value").cloned();
    match (verb, &path, &value) {
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If "path" is unspecified, the operation fails with HTTP status code
        //# 400 and a "scimType" error code of "noTarget".
        (Verb::Remove, None, _) => Err(ScimError::NoTarget("`remove` needs a `path`".to_owned())),
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
        //# The operation MUST contain a "value" member whose content specifies the value to be
        //# added.
        (Verb::Add | Verb::Replace, _, None) => Err(syntax("the operation has no `value`")),
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
        //# In this case, the "value" attribute SHALL contain a list of one or more attributes that
        //# are to be replaced.
        (Verb::Add | Verb::Replace, None, Some(value)) if !value.is_object() => {
            Err(syntax("without a `path` the `value` is an object"))
        }
        _ => Ok(Operation { verb, path, value }),
    }
}

/// What a PATCH makes of whether somebody is active, as far as it can be read, whatever else it
/// says and however wrong that is.
pub fn said_active(body: &[u8]) -> Option<bool> {
    let body = json::object(body).ok()?;
    let operations = member(&body, "Operations").and_then(Value::as_array)?;
    let mut said = operations.iter().filter_map(|operation| {
        let operation = operation.as_object()?;
        let verb = member(operation, "op").and_then(Value::as_str)?;
        if !["add", "replace"]
            .iter()
            .any(|it| verb.eq_ignore_ascii_case(it))
        {
            return None;
        }
        let value = member(operation, "value")?;
        match member(operation, "path") {
            Some(Value::String(path)) if !path.is_empty() => people::active_in(path, value),
            _ => people::said_active_of(value.as_object()?),
        }
    });
    said.next_back()
}

/// Does all operations, or says why not; then the attributes are to be thrown away.
pub fn apply(
    of: &'static ResourceType,
    attributes: &mut Attributes,
    operations: &[Operation],
) -> Result<(), ScimError> {
    for operation in operations {
        let value = operation.value.as_ref();
        match &operation.path {
            Some(path) => {
                if let Some(target) = path.attr.resolve(of) {
                    let filter = path.filter.as_ref();
                    one(of, attributes, operation.verb, target, filter, value, true)?;
                }
            }
            None => {
                for (name, value) in value.and_then(Value::as_object).into_iter().flatten() {
                    if let Some(target) = resource::target(of, name) {
                        let verb = operation.verb;
                        one(of, attributes, verb, target, None, Some(value), false)?;
                    }
                }
            }
        }
        attributes.tidy();
    }
    for attribute in of.schema.attributes {
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If an attribute is removed or becomes unassigned and is defined as a
        //# required attribute or a read-only attribute, the server SHALL
        //# return an HTTP response status code and a JSON detail error
        //# response as defined in Section 3.12, with a "scimType" error code
        //# of "mutability".
        if attribute.required && !attributes.core.contains_key(attribute.name) {
            return Err(ScimError::Mutability(attribute.name.to_owned()));
        }
    }
    Ok(())
}

/// `named`: the client named the target itself. Okta sends whole resources without a path, with
/// what is not its to change among the rest.
fn one(
    of: &'static ResourceType,
    attributes: &mut Attributes,
    verb: Verb,
    target: Target,
    filter: Option<&Filter>,
    value: Option<&Value>,
    named: bool,
) -> Result<(), ScimError> {
    let Some(attribute) = target.attribute else {
        return extension(of, attributes, verb, target, value, named);
    };
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# Each operation against an attribute MUST be compatible with the attribute's mutability and
    //# schema as defined in Sections 2.2 and 2.3 of [RFC7643].
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# An operation that is not compatible with an attribute's mutability or schema SHALL return
    //# the appropriate HTTP response status code and a JSON detail error response as defined in
    //# Section 3.12.
    let read_only = |it: &Attribute| it.mutability == Mutability::ReadOnly;
    if read_only(attribute) || target.sub.is_some_and(read_only) {
        if named {
            return Err(ScimError::Mutability(attribute.name.to_owned()));
        }
        return Ok(());
    }
    let place = attributes.within(target.extension);
    match (filter, target.sub) {
        (None, None) => whole(place, verb, attribute, value),
        (None, Some(sub)) if !attribute.multi => part(place, verb, attribute, sub, value),
        (filter, sub) => values(place, verb, attribute, filter, sub, value),
    }
}

fn extension(
    of: &'static ResourceType,
    attributes: &mut Attributes,
    verb: Verb,
    target: Target,
    value: Option<&Value>,
    named: bool,
) -> Result<(), ScimError> {
    let urn = target.extension.unwrap_or(of.schema.id);
    if verb == Verb::Remove {
        attributes.extensions.remove(urn);
        return Ok(());
    }
    for (name, value) in value.and_then(Value::as_object).into_iter().flatten() {
        if let Some(target) = resource::target(of, &format!("{urn}:{name}")) {
            one(of, attributes, verb, target, None, Some(value), named)?;
        }
    }
    Ok(())
}

/// An attribute as a whole.
fn whole(
    place: &mut Map<String, Value>,
    verb: Verb,
    attribute: &'static Attribute,
    value: Option<&Value>,
) -> Result<(), ScimError> {
    let value = value.unwrap_or(&Value::Null);
    let given = coerce(attribute, value)?;
    let name = attribute.name;
    match (verb, given) {
        // Entra takes members away by naming them in the value; without one all go.
        (Verb::Remove, Some(Value::Array(gone))) if attribute.multi => {
            if let Some(Value::Array(have)) = place.get_mut(name) {
                let gone: HashSet<String> = gone.iter().map(key).collect();
                have.retain(|value| !gone.contains(&key(value)));
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If the target location is a single-value attribute, the attribute and its associated
        //# value is removed, and the attribute SHALL be considered unassigned.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If the target location is a multi-valued attribute and no filter is specified, the
        //# attribute and all values are removed, and the attribute SHALL be considered unassigned.
        (Verb::Remove, _) | (Verb::Replace, None) => {
            place.remove(name);
        }
        (Verb::Add, None) => {}
        (Verb::Add, Some(Value::Array(new))) => {
            let have = place
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(have) = have {
                add(attribute, have, new)?;
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
        //# If the target location specifies a complex attribute, a set of
        //# sub-attributes SHALL be specified in the "value" parameter, which
        //# replaces any existing values or adds where an attribute did not
        //# previously exist.
        (Verb::Add | Verb::Replace, Some(Value::Object(parts))) => {
            let have = place
                .entry(name)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(have) = have {
                have.extend(parts);
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
        //# If the target location path specifies an attribute that does not exist, the service
        //# provider SHALL treat the operation as an "add".
        (Verb::Add | Verb::Replace, Some(value)) => {
            place.insert(name.to_owned(), value);
        }
    }
    Ok(())
}

/// What makes two values of an attribute the same.
fn key(value: &Value) -> String {
    value.get("value").unwrap_or(value).to_string()
}

/// Adds values to those that there are. One that is there already stays as it is, or takes on what
/// is said of it.
fn add(attribute: &Attribute, have: &mut Vec<Value>, new: Vec<Value>) -> Result<(), ScimError> {
    let mut known: HashSet<String> = have.iter().map(key).collect();
    let mut primary = None;
    for value in new {
        if is_primary(&value) {
            primary = Some(key(&value));
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
        //# Unless other operations change the resource, this operation SHALL NOT change the modify
        //# timestamp of the resource.
        if known.insert(key(&value)) {
            have.push(value);
        } else if let Value::Object(parts) = value {
            // Rare: a member is nothing but its id.
            let same = key(&Value::Object(parts.clone()));
            if parts.len() > 1
                && let Some(Value::Object(there)) = have.iter_mut().find(|it| key(it) == same)
            {
                there.extend(parts);
            }
        }
    }
    bounded(attribute, have)?;
    if let Some(primary) = primary {
        only_primary(have, |value| key(value) == primary);
    }
    Ok(())
}

fn bounded(attribute: &Attribute, have: &[Value]) -> Result<(), ScimError> {
    let max = if attribute.name == "members" {
        SCIM_MEMBERS_MAX
    } else {
        SCIM_VALUES_MAX
    };
    if have.len() > max {
        return Err(ScimError::Value {
            attribute: attribute.name.to_owned(),
            why: format!("would have more than {max} values"),
        });
    }
    Ok(())
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
//# a PATCH operation that sets a value's "primary" sub-attribute to
//# "true" SHALL cause the server to automatically set "primary" to
//# "false" for any other values in the array.
fn only_primary(values: &mut [Value], is_it: impl Fn(&Value) -> bool) {
    for value in values {
        if is_primary(value)
            && !is_it(value)
            && let Value::Object(parts) = value
        {
            parts.insert("primary".to_owned(), false.into());
        }
    }
}

/// A part of a complex attribute that has one value.
fn part(
    place: &mut Map<String, Value>,
    verb: Verb,
    attribute: &'static Attribute,
    sub: &'static Attribute,
    value: Option<&Value>,
) -> Result<(), ScimError> {
    let given = match verb {
        Verb::Remove => None,
        Verb::Add | Verb::Replace => coerce(sub, value.unwrap_or(&Value::Null))?,
    };
    let have = place
        .entry(attribute.name)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(parts) = have {
        set(parts, sub, given);
    }
    Ok(())
}

fn set(parts: &mut Map<String, Value>, sub: &Attribute, value: Option<Value>) {
    match value {
        Some(value) => drop(parts.insert(sub.name.to_owned(), value)),
        None => drop(parts.remove(sub.name)),
    }
}

/// Those values of an attribute that match, or a part of them.
fn values(
    place: &mut Map<String, Value>,
    verb: Verb,
    attribute: &'static Attribute,
    filter: Option<&Filter>,
    sub: Option<&'static Attribute>,
    value: Option<&Value>,
) -> Result<(), ScimError> {
    let mut have = match place.remove(attribute.name) {
        Some(Value::Array(have)) => have,
        // A manager, by a filter as if there could be several.
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let matched: Vec<bool> = have
        .iter()
        .map(|it| filter.is_none_or(|filter| filter.matches_value(attribute, it)))
        .collect();
    let value = value.unwrap_or(&Value::Null);
    if let Some(sub) = sub.filter(|sub| sub.mutability == Mutability::Immutable) {
        let new = match verb {
            Verb::Remove => None,
            Verb::Add | Verb::Replace => coerce(sub, value)?,
        };
        //= https://www.rfc-editor.org/rfc/rfc7643#section-7
        //# The attribute SHALL NOT be updated.
        let mut these = have.iter().zip(&matched).filter(|(_, matched)| **matched);
        if these.any(|(value, _)| value.get(sub.name) != new.as_ref()) {
            return Err(ScimError::Mutability(format!(
                "{}.{}",
                attribute.name, sub.name
            )));
        }
    }
    if verb == Verb::Remove {
        // No match is what a removal that is repeated finds: it is as was asked.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If no other values remain after removal of the selected values, the multi-valued
        //# attribute SHALL be considered unassigned.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# Sub-attributes whose values have been removed SHALL be considered unassigned.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.2
        //# If the complex multi-valued attribute has no remaining records, the attribute SHALL be
        //# considered unassigned.
        let mut each = matched.iter();
        match sub {
            None => have.retain(|_| !each.next().copied().unwrap_or_default()),
            Some(sub) => {
                for value in &mut have {
                    if let (Some(true), Value::Object(parts)) = (each.next(), value) {
                        parts.remove(sub.name);
                    }
                }
                have.retain(|value| value.as_object().is_none_or(|it| !it.is_empty()));
            }
        }
    } else {
        let parts = given(attribute, sub, value)?;
        let mut touched = None;
        for (at, (value, _)) in have
            .iter_mut()
            .zip(&matched)
            .enumerate()
            .filter(|it| *it.1.1)
        {
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
            //# If the target location is a multi-valued attribute and a value selection
            //# ("valuePath") filter is specified that matches one or more values of the
            //# multi-valued attribute, then all matching record values SHALL be replaced.
            touched = Some(at);
            match (value, &parts) {
                (Value::Object(there), Some(Value::Object(parts))) => {
                    there.extend(parts.clone());
                }
                (Value::Object(there), None) => {
                    if let Some(sub) = sub {
                        there.remove(sub.name);
                    }
                }
                (value, Some(new)) => *value = new.clone(),
                (_, None) => {}
            }
        }
        if touched.is_none() {
            touched = make(attribute, &mut have, filter, parts)?;
        }
        if let Some(at) = touched
            && have.get(at).is_some_and(is_primary)
        {
            let is_it = have.get(at).cloned();
            only_primary(&mut have, |value| Some(value) == is_it.as_ref());
        }
        bounded(attribute, &have)?;
    }
    let have = if attribute.multi {
        (!have.is_empty()).then_some(Value::Array(have))
    } else {
        have.pop()
    };
    if let Some(have) = have {
        place.insert(attribute.name.to_owned(), have);
    }
    Ok(())
}

/// What is to be put into a value: the parts of it.
fn given(
    attribute: &'static Attribute,
    sub: Option<&'static Attribute>,
    value: &Value,
) -> Result<Option<Value>, ScimError> {
    let Some(sub) = sub else {
        let one = match value {
            Value::Array(values) if values.len() == 1 => values.first().unwrap_or(value),
            other => other,
        };
        return coerce_one(attribute, one);
    };
    let given = coerce(sub, value)?;
    Ok(given.map(|value| Value::Object(Map::from_iter([(sub.name.to_owned(), value)]))))
}

/// Nothing matched: a value is made of what the filter asks for, if it says just that. Of `add`
/// that is what Entra relies on (`emails[type eq "work"].value` of somebody who has none). Of
/// `replace` RFC 7644 §3.5.2.3 wants `noTarget`; but Entra sends it where it once had an address
/// and we have none, and with it `active: false`: the leaver must not be missed for that.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.3
//= type=exception
//= reason=Entra sends this of what it once had here, with what must not be missed
//# If the target location is a multi-valued attribute for which a value selection filter
//# ("valuePath") has been supplied and no record match was made, the service provider SHALL indicate
//# failure by returning HTTP status code 400 and a "scimType" error code of "noTarget".
fn make(
    attribute: &'static Attribute,
    have: &mut Vec<Value>,
    filter: Option<&Filter>,
    parts: Option<Value>,
) -> Result<Option<usize>, ScimError> {
    let Some(Value::Object(parts)) = parts else {
        return Ok(None);
    };
    let none = || ScimError::NoTarget(format!("no value of `{}` matches", attribute.name));
    let mut new = Map::new();
    if let Some(filter) = filter {
        for (name, value) in filter.asks_for().ok_or_else(none)? {
            let sub = Attribute::find(attribute.sub, name).ok_or_else(none)?;
            if let Some(value) = coerce_one(sub, value)? {
                new.insert(sub.name.to_owned(), value);
            }
        }
    }
    new.extend(parts);
    have.push(Value::Object(new));
    Ok(Some(have.len() - 1))
}

#[cfg(test)]
mod tests;
